//! One request, sent once: what came back, or what went wrong.
//!
//! Nothing here retries, waits or knows OData.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ::url::Url;
use relist::error::SourceErrorKind;
use relist::value::DateTime;
use reqwest::blocking::{Client, Response};
use reqwest::header::{self, HeaderMap, HeaderName};

use crate::body::{self, Expect};
use crate::error::ConfigError;
use crate::retry::{self, Fault};
use crate::stats::Stats;
use crate::token::{Secrets, Token};
use crate::url::link_next;

/// How long and how much, at most, for one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time to connect, TLS included.
    pub connect: Duration,
    /// Time without a byte: until the answer starts, and between its pieces.
    pub read: Duration,
    /// Time for one answer from its request to its last byte.
    pub total: Duration,
    /// Bytes of a body after decompression.
    pub body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(30),
            total: Duration::from_mins(10),
            body_bytes: 64 * 1024 * 1024,
        }
    }
}

/// The way to the server, where it is not the plain one.
#[derive(Clone, Default)]
pub struct Network {
    /// An HTTP proxy for https requests: `http://proxy.example:3128`.
    ///
    /// The proxy that the environment names (`HTTPS_PROXY`) is used only if it is given here: who
    /// sees which feed is read, and when, is for the user to decide, not for an inherited
    /// variable.
    pub proxy: Option<String>,
    /// PEM certificates of authorities to trust beside the system's.
    pub ca_pem: Option<Vec<u8>>,
}

/// Shows what is set and not how: a proxy's URL may hold its password.
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("proxy", &self.proxy.is_some())
            .field("ca_pem", &self.ca_pem.is_some())
            .finish()
    }
}

/// A whole answer with status 200.
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    pub(crate) server_time: Option<DateTime>,
    pub(crate) next_link: Option<String>,
}

/// What a quota wants to know of a request, however it ended.
#[derive(Default)]
pub(crate) struct Seen {
    /// Bytes of the body, decompressed.
    pub(crate) bytes: u64,
    pub(crate) headers: HeaderMap,
}

/// What one request needs to know besides its URL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) expect: Expect,
    pub(crate) is_link: bool,
    pub(crate) page_size: Option<u64>,
}

impl Ask {
    pub(crate) const JSON: Ask = Ask {
        expect: Expect::Json,
        is_link: false,
        page_size: None,
    };
}

/// What sends requests and reads answers. A clone shares the connections.
#[derive(Clone)]
pub(crate) struct Transport {
    http: Client,
    pub(crate) secrets: Secrets,
    limits: Limits,
    /// Set when the user wants to stop.
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) stats: Arc<Stats>,
}

impl Transport {
    /// `user_agent` of `None` is Relist's own.
    pub(crate) fn new(
        secrets: Secrets,
        limits: Limits,
        network: &Network,
        https_only: bool,
        user_agent: Option<&str>,
    ) -> Result<Self, ConfigError> {
        Ok(Transport {
            http: build_client(limits, network, https_only, user_agent)?,
            secrets,
            limits,
            stop: Arc::default(),
            stats: Arc::default(),
        })
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sends once.
    ///
    /// `now` is the calendar time, for a server that sends `Retry-After` as a date and no `Date`.
    pub(crate) fn attempt(
        &self,
        url: &Url,
        ask: Ask,
        token: &Token,
        now: SystemTime,
        seen: &mut Seen,
    ) -> Result<Answer, Fault> {
        let deadline = Instant::now() + self.limits.total;
        let accept = match ask.expect {
            Expect::Json => "application/json",
            Expect::Xml => "application/xml",
        };
        let mut request = self
            .http
            .get(url.clone())
            .bearer_auth(token.expose())
            .header(header::ACCEPT, accept);
        if let Some(size) = ask.page_size {
            request = request.header("Prefer", format!("odata.maxpagesize={size}"));
        }
        let mut response = request.send().map_err(|e| self.transport_fault(e))?;
        let status = response.status().as_u16();
        self.stats.status(status);
        seen.headers.clone_from(response.headers());
        if status != 200 {
            return Err(self.status_fault(response, ask.is_link, deadline, now));
        }
        let body = self.read_body(&mut response, self.limits.body_bytes, deadline);
        seen.bytes = body.as_ref().map_or(0, |body| body.len() as u64);
        let body = body?;
        let headers = response.headers();
        let content_type = text_of(headers, &header::CONTENT_TYPE);
        body::judge(&body, content_type, ask.expect, &self.secrets)
            .map_err(|reason| Fault::passing(SourceErrorKind::Malformed, reason))?;
        let links = headers.get_all(header::LINK).iter();
        Ok(Answer {
            body,
            server_time: date_of(headers).and_then(to_datetime),
            next_link: link_next(links.filter_map(|v| v.to_str().ok())),
        })
    }

    /// Asks a token endpoint, once: a form, and the body of its answer.
    pub(crate) fn post_form(
        &self,
        url: &Url,
        form: String,
        basic: Option<(&Token, &Token)>,
    ) -> Result<Vec<u8>, Fault> {
        let deadline = Instant::now() + self.limits.total;
        let mut request = self
            .http
            .post(url.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(form);
        if let Some((id, secret)) = basic {
            request = request.basic_auth(id.expose(), Some(secret.expose()));
        }
        self.stats.request(false);
        let mut response = request.send().map_err(|e| self.transport_fault(e))?;
        let status = response.status().as_u16();
        self.stats.status(status);
        if status != 200 {
            let fault = self.status_fault(response, false, deadline, SystemTime::now());
            // A token endpoint says 400 `invalid_client` or `invalid_scope` to what it refuses.
            let refused = matches!(status, 400..=404);
            return Err(Fault {
                kind: if refused {
                    SourceErrorKind::Unauthorized
                } else {
                    fault.kind
                },
                reason: format!("the token endpoint: {}", fault.reason),
                unauthenticated: false,
                ..fault
            });
        }
        self.read_body(&mut response, ERROR_BODY_BYTES, deadline)
    }

    /// Reads a body to its end, counting the bytes after decompression.
    fn read_body(
        &self,
        response: &mut Response,
        limit: usize,
        deadline: Instant,
    ) -> Result<Vec<u8>, Fault> {
        let announced = response.content_length().unwrap_or(0);
        if announced > limit as u64 {
            return Err(too_large(limit));
        }
        let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0));
        let mut piece = vec![0; 64 * 1024];
        loop {
            if self.stopped() {
                return Err(Fault::lasting(SourceErrorKind::Stopped, "stopped"));
            }
            if Instant::now() >= deadline {
                let limit = retry::human(self.limits.total);
                return Err(Fault::passing(
                    SourceErrorKind::Unavailable,
                    format!("the answer was not complete within {limit}"),
                ));
            }
            let count = match response.read(&mut piece) {
                Ok(0) => return Ok(body),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.body_fault(&error, body.len())),
            };
            self.stats.received(count);
            if body.len() + count > limit {
                return Err(too_large(limit));
            }
            body.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
    }

    /// What a status other than 200 means.
    fn status_fault(
        &self,
        mut response: Response,
        is_link: bool,
        deadline: Instant,
        now: SystemTime,
    ) -> Fault {
        let status = response.status();
        let (kind, retry) = retry::of_status(status.as_u16(), is_link);
        let headers = response.headers();
        let now = date_of(headers).unwrap_or(now);
        let retry_after = Some(text_of(headers, &header::RETRY_AFTER))
            .filter(|_| retry)
            .and_then(|value| retry::retry_after(value, now));
        let content_type = text_of(headers, &header::CONTENT_TYPE).to_owned();
        let said = if status.is_redirection() {
            redirect_target(headers, response.url())
        } else {
            // Why it failed is a courtesy: a body that does not come changes nothing.
            self.read_body(&mut response, ERROR_BODY_BYTES, deadline)
                .map_or_else(
                    |fault| fault.reason,
                    |b| body::explain(&b, &content_type, &self.secrets),
                )
        };
        let name = status.canonical_reason().unwrap_or_default();
        let reason = format!("{} {name}: {said}", status.as_u16());
        Fault {
            kind,
            reason,
            retry,
            throttled: status.as_u16() == 429,
            unauthenticated: status.as_u16() == 401,
            retry_after,
        }
    }

    /// What a failure to send, or to get the head of an answer, means.
    fn transport_fault(&self, error: reqwest::Error) -> Fault {
        // reqwest prints the URL, and with it whatever its query holds.
        let error = error.without_url();
        let what = if error.is_timeout() && error.is_connect() {
            format!("no connection within {}", retry::human(self.limits.connect))
        } else if error.is_timeout() {
            format!("no answer within {}", retry::human(self.limits.read))
        } else if error.is_connect() {
            let cause = cause(&error);
            let reason = format!("cannot connect: {cause}");
            if cause.contains("peer certificate") {
                // It will be no better in a minute.
                return Fault::lasting(SourceErrorKind::Unavailable, reason);
            }
            reason
        } else {
            format!("no answer: {}", cause(&error))
        };
        Fault::passing(SourceErrorKind::Unavailable, what)
    }

    /// What a failure within a body means.
    fn body_fault(&self, error: &std::io::Error, so_far: usize) -> Fault {
        let inner = error
            .get_ref()
            .and_then(|e| e.downcast_ref::<reqwest::Error>());
        if inner.is_some_and(reqwest::Error::is_timeout) {
            let limit = retry::human(self.limits.read);
            let reason = format!("the body stopped for {limit} after {so_far} bytes");
            return Fault::passing(SourceErrorKind::Unavailable, reason);
        }
        let cause = inner.map_or_else(|| error.to_string(), |e| cause(e));
        let reason = format!("the body ended early, after {so_far} bytes: {cause}");
        Fault::passing(SourceErrorKind::Malformed, reason)
    }
}

/// How much of an error's body is read to quote from it.
const ERROR_BODY_BYTES: usize = 64 * 1024;

pub(crate) fn build_client(
    limits: Limits,
    network: &Network,
    https_only: bool,
    user_agent: Option<&str>,
) -> Result<Client, ConfigError> {
    let wrong = |what| {
        move |error: reqwest::Error| ConfigError::Client {
            what,
            reason: cause(&error.without_url()),
        }
    };
    let mut builder = Client::builder()
        .user_agent(user_agent.unwrap_or(concat!("relist/", env!("CARGO_PKG_VERSION"))))
        // A redirect takes the token, the User-Agent and the Referer to wherever it says.
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .https_only(https_only)
        .no_proxy()
        .gzip(true)
        // Retries are counted and paced here, not below.
        .retry(reqwest::retry::never())
        .connect_timeout(limits.connect)
        // In the blocking client this bounds each wait for the server, not the whole answer.
        .timeout(limits.read);
    if !https_only {
        // Loopback needs no authorities, and must work on a machine that has none.
        builder = builder.tls_certs_only([]);
    }
    if let Some(proxy) = &network.proxy {
        builder = builder.proxy(reqwest::Proxy::https(proxy).map_err(wrong("the proxy"))?);
    }
    if let (true, Some(pem)) = (https_only, &network.ca_pem) {
        let certificates =
            reqwest::Certificate::from_pem_bundle(pem).map_err(wrong("the CA certificates"))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(wrong("the HTTP client"))
}

fn too_large(limit: usize) -> Fault {
    Fault::lasting(
        SourceErrorKind::Malformed,
        format!("the body is larger than {limit} bytes"),
    )
}

/// Where a redirect points: host only, for its path and query may hold secrets.
fn redirect_target(headers: &HeaderMap, from: &Url) -> String {
    let target = text_of(headers, &header::LOCATION);
    let host = match from.join(target) {
        Ok(url) if !target.is_empty() => url.host_str().unwrap_or("no host").to_owned(),
        _ => "nowhere".to_owned(),
    };
    format!("redirected to {host}, which was not followed and got no token")
}

pub(crate) fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    let value = headers.get(name).and_then(|v| v.to_str().ok());
    value.unwrap_or_default()
}

pub(crate) fn date_of(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(text_of(headers, &header::DATE)).ok()
}

fn to_datetime(time: SystemTime) -> Option<DateTime> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(DateTime {
        seconds: i64::try_from(since.as_secs()).ok()?,
        nanos: 0,
        offset_minutes: 0,
    })
}

/// What lies at the bottom of an error: `Connection refused (os error 111)`. The layers above it
/// only say that a request failed.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    deepest.to_string()
}
