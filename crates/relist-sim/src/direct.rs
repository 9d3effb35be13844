//! The feed without a network: what the server would answer, as a source of pages.
//!
//! Simulations make millions of requests; sockets would be most of their time. Everything but the
//! sockets is the server's own: its pages, links, refusals, hooks and faults. What goes wrong on
//! the wire is an error, as it is from a client that checks lengths.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use relist::error::{SourceError, SourceErrorKind};
use relist::keycode::Key;
use relist::source::{Page, PageRequest, PageSource, QueryOptions};
use relist::value::DateTime;

use crate::backend::Backend;
use crate::http::{Ending, Framing, Request, Response, encode};
use crate::options::{Options, lock};
use crate::service::Service;
use crate::text::{format_timestamp, parse_http_date};

/// A server that is called, not connected to.
pub struct Direct {
    service: Service,
    rows: Arc<Mutex<dyn Backend>>,
    requests: u64,
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Direct")
            .field("base", &self.service.base_url())
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

impl Direct {
    /// Serves the rows. Bodies are never compressed.
    pub fn new<B: Backend + 'static>(rows: Arc<Mutex<B>>, options: Options) -> Self {
        let options = Options {
            gzip: false,
            ..options
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
        let service = Service::new(options, address, lock(&rows).schema());
        Direct {
            service,
            rows,
            requests: 0,
        }
    }

    /// How many requests came so far.
    pub fn request_count(&self) -> u64 {
        self.requests
    }

    /// Answers `GET target`, which begins at the service root: `/reso/odata/Property?$top=1`.
    pub fn get(&mut self, target: &str, page_size: Option<u64>) -> Response {
        let bearer = format!("Bearer {}", self.service.token());
        let mut headers = vec![("authorization".to_owned(), bearer)];
        if let Some(size) = page_size {
            let preference = format!("odata.maxpagesize={size}");
            headers.push(("prefer".to_owned(), preference));
        }
        let request = Request {
            number: self.requests,
            method: "GET".to_owned(),
            target: target.to_owned(),
            headers,
        };
        self.requests += 1;
        self.service.respond(&request, &*self.rows)
    }

    fn root(&self) -> &str {
        let base = self.service.base_url();
        let after = base.split_once("//").map_or(base, |(_, rest)| rest);
        after.find('/').and_then(|at| after.get(at..)).unwrap_or("")
    }

    /// The target of a request, or why it is not sent.
    fn target(&self, request: &PageRequest) -> Result<String, String> {
        match request {
            PageRequest::Query { resource, options } => {
                Ok(format!("{}/{resource}{}", self.root(), query(options)))
            }
            PageRequest::Next { link, .. } => {
                let base = self.service.base_url();
                let below = match link.strip_prefix(base) {
                    Some(rest) => rest.strip_prefix('/'),
                    None => Some(link.as_str()).filter(|link| !link.contains("//")),
                };
                let below = below.filter(|below| !below.is_empty());
                let below = below.ok_or_else(|| format!("{link} does not lie below {base}"))?;
                Ok(format!("{}/{below}", self.root()))
            }
        }
    }
}

fn query(options: &QueryOptions) -> String {
    let pairs = [
        ("$filter", options.filter.clone()),
        ("$orderby", options.orderby.clone()),
        ("$select", options.select.clone()),
        ("$expand", options.expand.clone()),
        ("$top", options.top.map(|top| top.to_string())),
        ("$count", options.count.then(|| "true".to_owned())),
    ];
    let pairs = pairs
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut out = String::new();
    for (name, value) in pairs {
        out.push(if out.is_empty() { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        out.push_str(&encode(&value));
    }
    out
}

impl PageSource for Direct {
    fn fetch(&mut self, request: &PageRequest) -> Result<Page, SourceError> {
        let fail = |kind, target: &str, reason: String| SourceError {
            kind,
            request: format!("GET {target}"),
            reason,
        };
        let target = self
            .target(request)
            .map_err(|reason| fail(SourceErrorKind::Malformed, request.resource(), reason))?;
        let page_size = match request {
            PageRequest::Query { options, .. } => options.page_size,
            PageRequest::Next { .. } => None,
        };
        let response = self.get(&target, page_size);
        if broken(&response) {
            let reason = "the answer did not come whole".to_owned();
            return Err(fail(SourceErrorKind::Unavailable, &target, reason));
        }
        if response.status != 200 {
            let is_link = matches!(request, PageRequest::Next { .. });
            let kind = kind_of(response.status, is_link);
            let reason = format!("status {}", response.status);
            return Err(fail(kind, &target, reason));
        }
        let date = response.headers.iter().find(|(name, _)| name == "Date");
        let server_time =
            date.and_then(|(_, date)| DateTime::parse(&format_timestamp(parse_http_date(date)?)));
        Ok(Page {
            body: response.body,
            origin: target,
            server_time,
            next_link: None,
        })
    }

    fn holds(&mut self, resource: &str, key: &Key) -> Result<Option<bool>, SourceError> {
        let literal = encode(&key.to_literal());
        let target = format!("{}/{resource}({literal})", self.root());
        let response = self.get(&target, None);
        let fail = |kind, reason: &str| SourceError {
            kind,
            request: format!("GET {target}"),
            reason: reason.to_owned(),
        };
        if broken(&response) {
            let reason = "the answer did not come whole";
            return Err(fail(SourceErrorKind::Unavailable, reason));
        }
        match (response.status, kind_of(response.status, false)) {
            (200, _) => match serde_json::from_slice::<serde_json::Value>(&response.body) {
                Ok(entity) if entity.is_object() => Ok(Some(true)),
                _ => Err(fail(SourceErrorKind::Malformed, "not an entity")),
            },
            (_, SourceErrorKind::NotFound) => Ok(Some(false)),
            (_, SourceErrorKind::Refused) => Ok(None),
            (status, kind) => Err(fail(kind, &format!("status {status}"))),
        }
    }
}

/// Whether a client that checks what HTTP lets it check would not get the body.
fn broken(response: &Response) -> bool {
    let packed = |(name, _): &(String, String)| name == "Content-Encoding";
    response.raw.is_some()
        || response.ending != Ending::Keep
        || response.cut_after.is_some()
        || response.delay.is_some()
        || response.pace.is_some()
        || !matches!(response.framing, Framing::Length | Framing::Close)
        || response.headers.iter().any(packed)
}

/// What can be done about a status.
fn kind_of(status: u16, is_link: bool) -> SourceErrorKind {
    match status {
        401 | 403 => SourceErrorKind::Unauthorized,
        400 | 404 | 410 if is_link => SourceErrorKind::LinkExpired,
        404 | 410 => SourceErrorKind::NotFound,
        408 | 429 | 500 | 502..=599 => SourceErrorKind::Unavailable,
        200..=399 => SourceErrorKind::Malformed,
        _ => SourceErrorKind::Refused,
    }
}
