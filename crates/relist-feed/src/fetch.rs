//! Media files over HTTPS: another client than the API's, that knows no token.
//!
//! It follows no redirect, sends no Referer, decompresses nothing, and connects to no address that
//! is not public: names are resolved here, and the connection goes to an address that was looked
//! at. Only a provider's own media hosts get the User-Agent that its profile gives them.

use std::collections::HashMap;
use std::fmt;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ::url::{Host, Url};
use relist::media::{FetchError, FetchErrorKind, Fetched, MediaFetcher};
use relist::source::Traffic;
use reqwest::blocking::{Client, Response};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{self, HeaderName, HeaderValue};

use crate::error::ConfigError;
use crate::guard::{MediaGuard, matches, refused};
use crate::media::MediaRules;
use crate::quota::{Quota, QuotaError};
use crate::retry;
use crate::stats::Stats;
use crate::token::Token;
use crate::transport::Network;

/// A longer wait for the quota is left to the next run.
const LONGEST_WAIT: Duration = Duration::from_mins(65);
/// How long a stop goes unseen while a quota is waited for.
const GLANCE: Duration = Duration::from_millis(50);

/// How long and how much, at most, for one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaLimits {
    /// Time to connect, TLS included.
    pub connect: Duration,
    /// Time without a byte.
    pub read: Duration,
    /// Time for one file.
    pub total: Duration,
    /// Bytes of one file.
    pub bytes: usize,
}

impl Default for MediaLimits {
    fn default() -> Self {
        MediaLimits {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(30),
            total: Duration::from_mins(5),
            bytes: 50 * 1024 * 1024,
        }
    }
}

/// Fetches media files.
///
/// It blocks; do not use it from an async runtime.
pub struct MediaClient {
    http: Client,
    guard: MediaGuard,
    rules: MediaRules,
    limits: MediaLimits,
    /// The User-Agent for the provider's own hosts.
    agent: Option<HeaderValue>,
    checked: Option<Arc<Checked>>,
    quota: Mutex<Quota>,
    stats: Stats,
    stop: Arc<AtomicBool>,
}

/// Shows no secret.
impl fmt::Debug for MediaClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaClient")
            .field("guard", &self.guard)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The addresses of names that were looked at: the only ones that are connected to.
#[derive(Default)]
struct Checked(Mutex<HashMap<String, Vec<SocketAddr>>>);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = held.get(&name.as_str().to_ascii_lowercase()).cloned();
        let answer = match found {
            Some(addresses) => Ok(Box::new(addresses.into_iter()) as Addrs),
            None => Err("a name that was not looked at".into()),
        };
        Box::pin(std::future::ready(answer))
    }
}

impl MediaClient {
    /// A client for a provider's media. Nothing is sent yet. It stops when `stop` is set.
    ///
    /// By way of a proxy it is the proxy that resolves names: then a list of hosts is the guard.
    ///
    /// # Errors
    /// [`ConfigError`] when the proxy, the CA file or the profile's User-Agent cannot be used.
    pub fn new(
        rules: &MediaRules,
        token: Option<&Token>,
        guard: MediaGuard,
        limits: MediaLimits,
        network: &Network,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, ConfigError> {
        let mut guard = guard;
        if guard.hosts.is_empty() {
            guard.hosts.clone_from(&rules.hosts);
        }
        let checked = network.proxy.is_none().then(Arc::<Checked>::default);
        // Without a token there is nothing to say to a host that wants one.
        let usable = |text: &&String| token.is_some() || !text.contains("{token}");
        let agent = match rules.user_agent.as_ref().filter(usable) {
            Some(text) => {
                let text = match token {
                    Some(token) => text.replace("{token}", token.expose()),
                    None => text.clone(),
                };
                let value = HeaderValue::from_str(&text);
                let mut value = value.map_err(|_| ConfigError::Client {
                    what: "the profile's media.user_agent",
                    reason: "it holds what no header may hold".to_owned(),
                })?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(MediaClient {
            http: match build(limits, network, checked.clone(), true) {
                // Loopback needs no authorities, and must work on a machine that has none.
                Err(_) if guard.allow_loopback => build(limits, network, checked.clone(), false)?,
                other => other?,
            },
            guard,
            rules: rules.clone(),
            limits,
            agent,
            checked,
            quota: Mutex::new(Quota::new(&rules.quota)),
            stats: Stats::default(),
            stop,
        })
    }

    /// Asks this quota before each file: one that was opened from a file knows what earlier
    /// processes spent.
    #[must_use]
    pub fn with_quota(mut self, quota: Quota) -> Self {
        self.quota = Mutex::new(quota);
        self
    }

    /// Waits until the quota lets a file through, if that is not too long.
    fn admitted(&self) -> Result<(), FetchError> {
        loop {
            let asked = self.quota().ask(SystemTime::now());
            let (wait, why) = match asked {
                Ok(()) => return Ok(()),
                Err(QuotaError::Held { wait, why }) => (wait, why),
                Err(error) => return Err(fault(FetchErrorKind::Host(None), error.to_string())),
            };
            if wait > LONGEST_WAIT {
                let reason = format!("{why}; the next may go in {}", retry::human(wait));
                return Err(fault(FetchErrorKind::Host(Some(wait.as_secs())), reason));
            }
            let begun = Instant::now();
            while begun.elapsed() < wait {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(fault(FetchErrorKind::Stopped, "stopped"));
                }
                let left = wait.saturating_sub(begun.elapsed());
                std::thread::sleep(left.min(GLANCE));
            }
            self.stats.waited(begun.elapsed());
        }
    }

    fn quota(&self) -> MutexGuard<'_, Quota> {
        self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves a URL's name and lets only addresses through that may be connected to.
    fn look_up(&self, url: &Url) -> Result<(), FetchError> {
        let (Some(checked), Some(Host::Domain(name))) = (&self.checked, url.host()) else {
            return Ok(());
        };
        let port = url.port_or_known_default().unwrap_or(443);
        let found = (name, port).to_socket_addrs();
        let found: Vec<SocketAddr> = found
            .map_err(|e| fault(FetchErrorKind::Host(None), format!("{name}: {e}")))?
            .collect();
        let all: Vec<SocketAddr> = found
            .iter()
            .copied()
            .filter(|address| self.guard.allows(address.ip()))
            .collect();
        if all.is_empty() {
            let reason = found.first().map_or_else(
                || format!("{name} has no address"),
                |address| refused(address.ip()),
            );
            return Err(fault(FetchErrorKind::Url, reason));
        }
        let mut held = checked.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(name.to_ascii_lowercase(), all);
        Ok(())
    }

    fn send(&self, url: &Url, etag: Option<&str>) -> Result<Response, FetchError> {
        let mut request = self
            .http
            .get(url.clone())
            .header(header::ACCEPT, "image/*, application/pdf");
        let host = url.host_str().unwrap_or_default();
        if let Some(agent) = &self.agent
            && matches(&self.rules.user_agent_hosts, host)
        {
            request = request.header(header::USER_AGENT, agent.clone());
        }
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        request.send().map_err(|error| {
            // reqwest prints the URL, and with it its signature.
            let error = error.without_url();
            let what = if error.is_timeout() {
                "no answer in time".to_owned()
            } else {
                cause(&error)
            };
            fault(FetchErrorKind::Host(None), what)
        })
    }

    fn read(&self, response: &mut Response, deadline: Instant) -> Result<Vec<u8>, FetchError> {
        let most = self.limits.bytes;
        let too_large = || {
            let reason = format!("the file is larger than {most} bytes");
            fault(FetchErrorKind::Url, reason)
        };
        let announced = response.content_length().unwrap_or(0);
        if announced > most as u64 {
            return Err(too_large());
        }
        let mut body = Vec::new();
        let mut piece = vec![0; 64 * 1024];
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(fault(FetchErrorKind::Stopped, "stopped"));
            }
            if Instant::now() >= deadline {
                let reason = "the file was not complete in time";
                return Err(fault(FetchErrorKind::Server, reason));
            }
            let count = match response.read(&mut piece) {
                Ok(0) => return Ok(body),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    let reason = format!("the file ended early, after {} bytes", body.len());
                    return Err(fault(FetchErrorKind::Server, reason));
                }
            };
            if body.len() + count > most {
                return Err(too_large());
            }
            body.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
    }
}

impl MediaFetcher for MediaClient {
    fn fetch(&self, url: &str, etag: Option<&str>) -> Result<Fetched, FetchError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(fault(FetchErrorKind::Stopped, "stopped"));
        }
        let url = self
            .guard
            .url(url)
            .map_err(|reason| fault(FetchErrorKind::Url, reason))?;
        self.look_up(&url)?;
        self.admitted()?;
        self.stats.request(false);
        let deadline = Instant::now() + self.limits.total;
        let fetched = self.fetch_admitted(&url, etag, deadline);
        let bytes = match &fetched {
            Ok(Fetched::Body { bytes, .. }) => bytes.len(),
            _ => 0,
        };
        self.stats.received(bytes);
        self.quota()
            .answered(SystemTime::now(), bytes as u64, |_| None);
        fetched
    }

    fn traffic(&self) -> Traffic {
        let counters = self.stats.snapshot();
        Traffic {
            requests: counters.requests,
            retries: counters.retries,
            bytes: counters.bytes,
            waited: counters.waited,
        }
    }
}

impl MediaClient {
    /// Fetches a file by a URL that may be asked, at a time when it may be.
    fn fetch_admitted(
        &self,
        url: &Url,
        etag: Option<&str>,
        deadline: Instant,
    ) -> Result<Fetched, FetchError> {
        let mut response = self.send(url, etag)?;
        let peer = response.remote_addr().map(|address| address.ip());
        if let (Some(address), true) = (peer, self.checked.is_some()) {
            self.check_peer(address)?;
        }
        let status = response.status().as_u16();
        match status {
            200 => {}
            304 if etag.is_some() => return Ok(Fetched::Unchanged),
            _ => return Err(status_fault(&response, status)),
        }
        let header = |name: HeaderName| {
            let value = response.headers().get(name)?.to_str().ok()?;
            (value.len() <= LONGEST_HEADER).then(|| value.to_owned())
        };
        let (content_type, etag) = (header(header::CONTENT_TYPE), header(header::ETAG));
        Ok(Fetched::Body {
            bytes: self.read(&mut response, deadline)?,
            content_type,
            etag,
        })
    }
}

/// A header that is kept is no longer than this.
const LONGEST_HEADER: usize = 512;

impl MediaClient {
    fn check_peer(&self, address: IpAddr) -> Result<(), FetchError> {
        if self.guard.allows(address) {
            Ok(())
        } else {
            Err(fault(FetchErrorKind::Url, refused(address)))
        }
    }
}

fn status_fault(response: &Response, status: u16) -> FetchError {
    let name = response.status().canonical_reason().unwrap_or_default();
    let mut reason = format!("{status} {name}");
    let kind = match status {
        401 | 403 | 404 | 410 => FetchErrorKind::Expired,
        408 | 429 | 503 => {
            let kind = |wait| match status {
                429 => FetchErrorKind::Throttled(wait),
                _ => FetchErrorKind::Host(wait),
            };
            let value = response.headers().get(header::RETRY_AFTER);
            let value = value.and_then(|v| v.to_str().ok()).unwrap_or_default();
            let wait = retry::retry_after(value, SystemTime::now());
            kind(wait.map(|w| w.as_secs()))
        }
        500..=599 => FetchErrorKind::Server,
        300..=399 => {
            reason.push_str(": a redirect, which is not followed");
            FetchErrorKind::Url
        }
        _ => FetchErrorKind::Url,
    };
    fault(kind, reason)
}

fn fault(kind: FetchErrorKind, reason: impl Into<String>) -> FetchError {
    FetchError {
        kind,
        reason: reason.into(),
    }
}

/// What lies at the bottom of an error.
fn cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    deepest.to_string()
}

fn build(
    limits: MediaLimits,
    network: &Network,
    checked: Option<Arc<Checked>>,
    authorities: bool,
) -> Result<Client, ConfigError> {
    let wrong = |what| {
        move |error: reqwest::Error| ConfigError::Client {
            what,
            reason: cause(&error.without_url()),
        }
    };
    let mut builder = Client::builder()
        .user_agent(concat!("relist/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        // What is stored is what was sent; and a photo that unpacks to a gigabyte is no photo.
        .gzip(false)
        .retry(reqwest::retry::never())
        .connect_timeout(limits.connect)
        .timeout(limits.read);
    if !authorities {
        builder = builder.tls_certs_only([]);
    }
    if let Some(checked) = checked {
        builder = builder.dns_resolver(checked);
    }
    if let Some(proxy) = &network.proxy {
        builder = builder.proxy(reqwest::Proxy::https(proxy).map_err(wrong("the proxy"))?);
    }
    if let (true, Some(pem)) = (authorities, &network.ca_pem) {
        let certificates =
            reqwest::Certificate::from_pem_bundle(pem).map_err(wrong("the CA certificates"))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(wrong("the media client"))
}
