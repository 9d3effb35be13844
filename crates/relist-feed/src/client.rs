//! The client: one RESO Web API, asked politely and judged strictly.
//!
//! A request goes below the service root or it does not go. An answer is a whole page, or an
//! error that says whether trying again can help; there is nothing in between.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::url::Url;
use relist::error::{SourceError, SourceErrorKind};
use relist::source::{Page, PageRequest, PageSource, QueryOptions, Traffic};
use relist::value::Value;

use crate::body::Expect;
use crate::error::ConfigError;
use crate::profile::Profile;
use crate::retry::{self, Breaker, Clock, Decision, Fault, RetryPolicy, Spent, SystemClock};
use crate::stats::Stats;
use crate::token::Token;
use crate::transport::{Answer, Ask, Limits, Network, Transport};
use crate::url::{ServiceRoot, shown};

/// A RESO Web API: a source of pages over HTTPS.
///
/// A clone shares the connections, the counters, the stop flag and the breaker with its original.
/// It blocks; do not use it from an async runtime.
#[derive(Clone)]
pub struct WebApi {
    transport: Transport,
    root: Arc<ServiceRoot>,
    profile: Arc<Profile>,
    token: Token,
    policy: RetryPolicy,
    clock: Arc<dyn Clock>,
    breaker: Arc<Mutex<Breaker>>,
}

/// Shows the service root and the profile's name, and no secret.
impl fmt::Debug for WebApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebApi")
            .field("root", &self.root.service_document(true).as_str())
            .field("profile", &self.profile.name)
            .finish_non_exhaustive()
    }
}

impl WebApi {
    /// A client for the API at `base_url`, its service root. Nothing is sent yet.
    pub fn new(
        profile: Profile,
        base_url: &str,
        token: Token,
        limits: Limits,
    ) -> Result<Self, ConfigError> {
        WebApi::with_network(profile, base_url, token, limits, &Network::default())
    }

    /// [`WebApi::new`] by way of a proxy, or with more certificate authorities.
    pub fn with_network(
        profile: Profile,
        base_url: &str,
        token: Token,
        limits: Limits,
        network: &Network,
    ) -> Result<Self, ConfigError> {
        let root = ServiceRoot::parse(base_url)?;
        // Unset variables are found here, not at the first page.
        profile.filter(None, true)?;
        let agent = profile.user_agent.as_deref();
        let https = root.is_https();
        Ok(WebApi {
            transport: Transport::new(token.clone(), limits, network, https, agent)?,
            root: Arc::new(root),
            profile: Arc::new(profile),
            token,
            policy: RetryPolicy::default(),
            clock: Arc::new(SystemClock::new()),
            breaker: Arc::default(),
        })
    }

    /// Retries by another policy.
    #[must_use]
    pub fn with_retry(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Waits by another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Stops when this flag is set: within a moment of a wait, and between two pieces of a body.
    #[must_use]
    pub fn with_stop(mut self, stop: Arc<AtomicBool>) -> Self {
        self.transport.stop = stop;
        self
    }

    /// The counters, which may be read while it runs.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.transport.stats)
    }

    /// The profile it works by.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Fetches `$metadata`, as it is.
    pub fn metadata(&self) -> Result<Vec<u8>, SourceError> {
        let url = self.root.metadata();
        let ask = Ask {
            expect: Expect::Xml,
            ..Ask::JSON
        };
        Ok(self.get(&self.built("$metadata", url)?, ask)?.body)
    }

    /// The names of the entity sets that the service document lists.
    pub fn service_document(&self) -> Result<Vec<String>, SourceError> {
        let mut url = self.root.service_document(true);
        let mut answer = self.get(&url, Ask::JSON);
        if matches!(&answer, Err(e) if e.kind == SourceErrorKind::NotFound) {
            // OData's service root ends in a slash; some servers route only the other form.
            url = self.root.service_document(false);
            answer = self.get(&url, Ask::JSON).or(answer);
        }
        entity_sets(&answer?.body).map_err(|reason| SourceError {
            kind: SourceErrorKind::Malformed,
            request: self.describe(&url),
            reason,
        })
    }

    /// Fetches one entity by its key.
    pub fn entity(&self, resource: &str, key: &Value<'_>) -> Result<Page, SourceError> {
        let url = self
            .root
            .entity(&self.profile.rules(resource).path, key, None);
        self.page(&self.built(resource, url)?, Ask::JSON)
    }

    /// Fetches what a navigation property of an entity leads to: `Property(123)/Media`.
    ///
    /// The answer is a page; what follows it is fetched by [`PageRequest::Next`].
    pub fn navigation(
        &self,
        resource: &str,
        key: &Value<'_>,
        navigation: &str,
    ) -> Result<Page, SourceError> {
        let path = &self.profile.rules(resource).path;
        let url = self.root.entity(path, key, Some(navigation));
        self.page(&self.built(resource, url)?, Ask::JSON)
    }

    fn query(&self, resource: &str, options: &QueryOptions) -> Result<Page, SourceError> {
        let usage = |reason: String| self.refused(resource, &reason);
        let mut options = options.clone();
        // A first full sync adds its own clause: only the engine knows that it is one.
        options.filter = self
            .profile
            .filter(options.filter.as_deref(), false)
            .map_err(|e| usage(e.to_string()))?;
        let extra = self.profile.query.clone().into_iter();
        let path = self.profile.rules(resource).path;
        let url = self.root.query(&path, &options, extra).map_err(usage)?;
        let ask = Ask {
            page_size: options.page_size,
            ..Ask::JSON
        };
        self.page(&url, ask)
    }

    fn next(&self, resource: &str, link: &str) -> Result<Page, SourceError> {
        let path = self.profile.rules(resource).path;
        let url = self.root.next(&path, link).map_err(|reason| SourceError {
            kind: SourceErrorKind::Malformed,
            request: format!("the continuation link of {resource}"),
            reason: self.token.redact(&reason),
        })?;
        let ask = Ask {
            is_link: true,
            ..Ask::JSON
        };
        self.page(&url, ask)
    }

    fn page(&self, url: &Url, ask: Ask) -> Result<Page, SourceError> {
        let answer = self.get(url, ask)?;
        Ok(Page {
            body: answer.body,
            origin: shown(url, &self.token),
            server_time: answer.server_time,
            next_link: answer.next_link,
        })
    }

    /// Sends until there is a whole answer, or no more hope of one.
    fn get(&self, url: &Url, ask: Ask) -> Result<Answer, SourceError> {
        let fail = |kind, reason: String| SourceError {
            kind,
            request: self.describe(url),
            reason: self.token.redact(&reason),
        };
        let mut spent = Spent::default();
        loop {
            if self.transport.stopped() {
                return Err(fail(SourceErrorKind::Stopped, "stopped".to_owned()));
            }
            if let Some(left) = self.with_breaker(|b| b.holds(self.clock.elapsed())) {
                return Err(fail(SourceErrorKind::Unavailable, held(left)));
            }
            self.transport.stats.request(spent.attempts > 0);
            spent.attempts += 1;
            let fault = match self.transport.attempt(url, ask, self.clock.now()) {
                Ok(answer) => {
                    self.with_breaker(Breaker::answered);
                    return Ok(answer);
                }
                Err(fault) => fault,
            };
            if self.too_often(&fault) {
                let hold = fault.retry_after.unwrap_or(self.policy.breaker_hold);
                let reason = format!("{}; {}", fault.reason, held(hold));
                return Err(fail(fault.kind, reason));
            }
            match self.policy.decide(&fault, spent, fastrand::f64()) {
                Decision::GiveUp(why) if why.is_empty() => {
                    return Err(fail(fault.kind, fault.reason));
                }
                Decision::GiveUp(why) => {
                    return Err(fail(fault.kind, format!("{} ({why})", fault.reason)));
                }
                Decision::Wait(time) => {
                    let before = self.clock.elapsed();
                    self.clock.sleep(time, &self.transport.stop);
                    let slept = self.clock.elapsed().saturating_sub(before);
                    self.transport.stats.waited(slept);
                    spent.waited = spent.waited.saturating_add(time);
                }
            }
        }
    }

    /// Counts an answer of 429, or forgets those counted; true when nothing more may be sent.
    fn too_often(&self, fault: &Fault) -> bool {
        let now = self.clock.elapsed();
        self.with_breaker(|breaker| {
            if fault.throttled {
                breaker.throttled(&self.policy, now, fault.retry_after)
            } else {
                breaker.answered();
                false
            }
        })
    }

    fn with_breaker<T>(&self, f: impl FnOnce(&mut Breaker) -> T) -> T {
        f(&mut self.breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn describe(&self, url: &Url) -> String {
        format!("GET {}", shown(url, &self.token))
    }

    fn refused(&self, resource: &str, reason: &str) -> SourceError {
        SourceError {
            kind: SourceErrorKind::Refused,
            request: format!("a request for {resource}"),
            reason: self.token.redact(reason),
        }
    }

    fn built(&self, resource: &str, url: Result<Url, String>) -> Result<Url, SourceError> {
        url.map_err(|reason| self.refused(resource, &reason))
    }
}

impl PageSource for WebApi {
    fn fetch(&mut self, request: &PageRequest) -> Result<Page, SourceError> {
        match request {
            PageRequest::Query { resource, options } => self.query(resource, options),
            PageRequest::Next { resource, link } => self.next(resource, link),
        }
    }

    fn traffic(&self) -> Traffic {
        let counters = self.transport.stats.snapshot();
        Traffic {
            requests: counters.requests,
            retries: counters.retries,
            bytes: counters.bytes,
            waited: counters.waited,
        }
    }
}

/// The entity sets of a service document: those without a `kind`, or whose kind says so.
fn entity_sets(body: &[u8]) -> Result<Vec<String>, String> {
    #[derive(serde::Deserialize)]
    struct Document {
        value: Vec<Item>,
    }
    #[derive(serde::Deserialize)]
    struct Item {
        name: String,
        kind: Option<String>,
    }
    let document: Document = serde_json::from_slice(body)
        .map_err(|e| format!("not a service document ({e}); is this the service root?"))?;
    let sets = document.value.into_iter();
    Ok(sets
        .filter(|item| item.kind.as_deref().is_none_or(|kind| kind == "EntitySet"))
        .map(|item| item.name)
        .collect())
}

fn held(left: Duration) -> String {
    format!(
        "too many answers of 429 in a row: nothing is sent for {}, so that the provider does not \
         suspend the token",
        retry::human(left)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_documents() {
        let body =
            br#"{"value":[{"name":"Property","url":"x"},{"name":"F","kind":"FunctionImport"},
            {"name":"Member","kind":"EntitySet"}]}"#;
        assert_eq!(entity_sets(body).unwrap(), ["Property", "Member"]);
        assert!(entity_sets(b"{}").unwrap_err().contains("service root"));
    }

    #[test]
    fn a_missing_variable_is_found_before_anything_is_sent() {
        let text = include_str!("../profiles/generic-reso.toml").replace(
            "[auth]",
            "[variables]\nsystem = \"\"\n[filters]\nevery = \"A eq '{system}'\"\n[auth]",
        );
        let profile = Profile::from_toml(&text, "x").unwrap();
        let token = Token::from_env_value("T", "s3cret").unwrap();
        let error = WebApi::new(profile, "https://h/x", token, Limits::default()).unwrap_err();
        assert!(error.to_string().contains("system"), "{error}");
    }

    #[test]
    fn a_bad_proxy_or_certificate_is_named() {
        let build = |network| {
            let profile = Profile::named("generic-reso").unwrap();
            let token = Token::from_env_value("T", "s3cret").unwrap();
            WebApi::with_network(profile, "https://h/x", token, Limits::default(), &network)
        };
        let proxy = Network {
            proxy: Some("::no proxy".to_owned()),
            ..Network::default()
        };
        assert!(
            build(proxy)
                .unwrap_err()
                .to_string()
                .starts_with("the proxy")
        );
        let ca = Network {
            ca_pem: Some(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----".to_vec()),
            ..Network::default()
        };
        assert!(build(ca).unwrap_err().to_string().starts_with("the CA"));
    }
}
