//! The client: one RESO Web API, asked politely and judged strictly.
//!
//! A request goes below the service root or it does not go. An answer is a whole page, or an
//! error that says whether trying again can help; there is nothing in between.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ::url::Url;
use relist::error::{SourceError, SourceErrorKind};
use relist::keycode::Key;
use relist::source::{Page, PageRequest, PageSource, QueryOptions, Traffic};
use relist::value::Value;

use crate::authority::Authority;
use crate::body::Expect;
use crate::credentials::Credentials;
use crate::error::ConfigError;
use crate::keylist::{KeyPlace, keys_in};
use crate::profile::{Paging, Profile, ResourceRules, Walk};
use crate::quota::{Quota, QuotaError};
use crate::retry::{self, Breaker, Clock, Decision, Fault, RetryPolicy, Spent, SystemClock};
use crate::stats::Stats;
use crate::transport::{Answer, Ask, Limits, Network, Seen, Transport};
use crate::url::{ServiceRoot, shown};

/// A RESO Web API: a source of pages over HTTPS.
///
/// A clone shares the connections, the counters, the stop flag, the token, the breaker and the
/// quota with its original.
/// It blocks; do not use it from an async runtime.
#[derive(Clone)]
pub struct WebApi {
    transport: Transport,
    root: Arc<ServiceRoot>,
    profile: Arc<Profile>,
    authority: Arc<Authority>,
    policy: RetryPolicy,
    clock: Arc<dyn Clock>,
    /// The calendar time when the clock stood at that: what passes since is measured by the clock,
    /// so that a machine's time that is set does not move a window.
    began: (SystemTime, Duration),
    breaker: Arc<Mutex<Breaker>>,
    quota: Arc<Mutex<Quota>>,
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
    ///
    /// The profile's quota is kept in memory; [`WebApi::with_quota`] gives one that outlives the
    /// process.
    pub fn new(
        profile: Profile,
        base_url: &str,
        credentials: impl Into<Credentials>,
        limits: Limits,
    ) -> Result<Self, ConfigError> {
        WebApi::with_network(profile, base_url, credentials, limits, &Network::default())
    }

    /// [`WebApi::new`] by way of a proxy, or with more certificate authorities.
    pub fn with_network(
        profile: Profile,
        base_url: &str,
        credentials: impl Into<Credentials>,
        limits: Limits,
        network: &Network,
    ) -> Result<Self, ConfigError> {
        let root = ServiceRoot::parse(base_url)?;
        // Unset variables are found here, not at the first page.
        profile.filter(None, true)?;
        let agent = profile.user_agent.as_deref();
        let https = root.is_https();
        let (authority, secrets) = Authority::new(&profile, credentials.into())?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        Ok(WebApi {
            transport: Transport::new(secrets, limits, network, https, agent)?,
            root: Arc::new(root),
            authority: Arc::new(authority),
            policy: RetryPolicy::default(),
            began: (clock.now(), clock.elapsed()),
            clock,
            breaker: Arc::default(),
            quota: Arc::new(Mutex::new(Quota::new(&profile.quota))),
            profile: Arc::new(profile),
        })
    }

    /// Asks this quota before each request: one that was opened from a file knows what earlier
    /// processes spent.
    #[must_use]
    pub fn with_quota(mut self, quota: Quota) -> Self {
        self.quota = Arc::new(Mutex::new(quota));
        self
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
        self.began = (clock.now(), clock.elapsed());
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
        let path = entity_set(&self.profile, resource);
        let url = self.root.entity(&path, key, None);
        self.page(&self.built(resource, url)?, Ask::JSON)
    }

    /// Fetches one entity by its key, with what the provider wants in every query, and with what
    /// a navigation property leads to.
    pub(crate) fn entity_with(
        &self,
        resource: &str,
        key: &Value<'_>,
        expand: Option<&str>,
    ) -> Result<Page, SourceError> {
        let path = entity_set(&self.profile, resource);
        let url = self.root.entity(&path, key, None);
        let mut url = self.built(resource, url)?;
        let expand = expand.map(|name| ("$expand".to_owned(), name.to_owned()));
        let pairs = expand.into_iter().chain(self.profile.query.clone());
        let query = crate::url::pairs(pairs);
        url.set_query(Some(query.as_str()).filter(|query| !query.is_empty()));
        self.page(&url, Ask::JSON)
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
        let path = entity_set(&self.profile, resource);
        let url = self.root.entity(&path, key, Some(navigation));
        self.page(&self.built(resource, url)?, Ask::JSON)
    }

    /// Asks as the profile says: with its clauses, its page size and its paths.
    fn query(&self, resource: &str, options: &QueryOptions) -> Result<Page, SourceError> {
        let rules = self.profile.rules(resource);
        let mut path = rules.path.clone();
        if let Some(keys_path) = &rules.keys_path {
            if asks_for_keys(options, &rules, &self.profile) {
                path.clone_from(keys_path);
            } else if rules.walk == Walk::Keylist && options.page_size.is_some() {
                return self.begin_keylist(&rules, options);
            }
        }
        self.query_at(&rules, &path, options)
    }

    fn query_at(
        &self,
        rules: &ResourceRules,
        path: &str,
        options: &QueryOptions,
    ) -> Result<Page, SourceError> {
        let usage = |reason: String| self.refused(&rules.resource, &reason);
        let mut options = options.clone();
        // A first full sync adds its own clause: only the engine knows that it is one.
        options.filter = self
            .profile
            .filter(options.filter.as_deref(), false)
            .map_err(|e| usage(e.to_string()))?;
        options.count &= rules.count;
        if self.profile.paging == Paging::TopPerPage {
            // Without $top such servers give pages of ten or twenty.
            let size = options.page_size.take().or(rules.page_size);
            options.top = options.top.or(size);
        }
        let extra = self.profile.query.clone().into_iter();
        let url = self.root.query(path, &options, extra).map_err(usage)?;
        let ask = Ask {
            page_size: options.page_size,
            ..Ask::JSON
        };
        self.page(&url, ask)
    }

    fn next(&self, resource: &str, link: &str) -> Result<Page, SourceError> {
        let rules = self.profile.rules(resource);
        if let Some(place) = KeyPlace::parse(link) {
            let place = place.map_err(|reason| self.bad_link(resource, &reason))?;
            return self.go_on_keylist(&rules, &place);
        }
        let keys = rules.keys_path.as_ref();
        let path = keys.filter(|_| rules.walk == Walk::Keylist);
        self.follow(resource, path.unwrap_or(&rules.path), link)
    }

    fn follow(&self, resource: &str, path: &str, link: &str) -> Result<Page, SourceError> {
        let url = self.root.next(path, link);
        let url = url.map_err(|reason| self.bad_link(resource, &reason))?;
        let ask = Ask {
            is_link: true,
            ..Ask::JSON
        };
        self.page(&url, ask)
    }

    /// The first page of a walk over a list of keys.
    fn begin_keylist(
        &self,
        rules: &ResourceRules,
        options: &QueryOptions,
    ) -> Result<Page, SourceError> {
        let place = KeyPlace::start(options);
        let list = QueryOptions {
            select: None,
            expand: None,
            page_size: rules.page_size_keys,
            ..options.clone()
        };
        let path = rules.keys_path.clone().unwrap_or_default();
        let list = self.query_at(rules, &path, &list)?;
        self.records_of(rules, &place, &list)
    }

    /// The page of a walk over a list of keys that lies at a place in that list.
    fn go_on_keylist(&self, rules: &ResourceRules, place: &KeyPlace) -> Result<Page, SourceError> {
        let Some(link) = &place.link else {
            let list = place.first();
            let list = QueryOptions {
                page_size: rules.page_size_keys,
                ..list
            };
            let path = rules.keys_path.clone().unwrap_or_default();
            let list = self.query_at(rules, &path, &list)?;
            return self.records_of(rules, place, &list);
        };
        let path = rules.keys_path.clone().unwrap_or_default();
        let list = self.follow(&rules.resource, &path, link)?;
        self.records_of(rules, place, &list)
    }

    /// Fetches the records of the keys that come next in a page of keys.
    fn records_of(
        &self,
        rules: &ResourceRules,
        place: &KeyPlace,
        list: &Page,
    ) -> Result<Page, SourceError> {
        let malformed = |reason: String| SourceError {
            kind: SourceErrorKind::Malformed,
            request: list.origin.clone(),
            reason: self.transport.secrets.redact(&reason),
        };
        let key_field = rules.key.as_deref().unwrap_or_default();
        let keys = keys_in(&list.body, key_field).map_err(malformed)?;
        let link = keys.next_link.clone().or(list.next_link.clone());
        let (asked, next) = place.step(&keys.literals, rules.keys_per_request, link);
        let next_link = next.map(|next| next.to_link());
        if asked.is_empty() {
            return Ok(Page {
                body: br#"{"value":[]}"#.to_vec(),
                next_link,
                ..list.clone()
            });
        }
        let any: Vec<String> = asked
            .iter()
            .map(|key| format!("{key_field} eq {key}"))
            .collect();
        let options = QueryOptions {
            filter: Some(any.join(" or ")),
            select: place.select.clone(),
            expand: place.expand.clone(),
            ..QueryOptions::default()
        };
        let page = self.query_at(rules, &rules.path, &options)?;
        Ok(Page { next_link, ..page })
    }

    fn bad_link(&self, resource: &str, reason: &str) -> SourceError {
        SourceError {
            kind: SourceErrorKind::Malformed,
            request: format!("the continuation link of {resource}"),
            reason: self.transport.secrets.redact(reason),
        }
    }

    fn page(&self, url: &Url, ask: Ask) -> Result<Page, SourceError> {
        let answer = self.get(url, ask)?;
        Ok(Page {
            body: answer.body,
            origin: shown(url, &self.transport.secrets),
            server_time: answer.server_time,
            next_link: answer.next_link,
        })
    }

    /// Sends until there is a whole answer, or no more hope of one.
    fn get(&self, url: &Url, ask: Ask) -> Result<Answer, SourceError> {
        let fail = |kind, reason: String| SourceError {
            kind,
            request: self.describe(url),
            reason: self.transport.secrets.redact(&reason),
        };
        let mut spent = Spent::default();
        loop {
            if self.transport.stopped() {
                return Err(fail(SourceErrorKind::Stopped, "stopped".to_owned()));
            }
            if let Some(left) = self.with_breaker(|b| b.holds(self.clock.elapsed())) {
                return Err(fail(SourceErrorKind::Unavailable, held(left)));
            }
            let fault = match self.attempt(url, ask, spent.attempts > 0) {
                Ok(answer) => return Ok(answer),
                Err(Ended::Fault(fault)) => fault,
                Err(Ended::Renewed) => continue,
                Err(Ended::Over(kind, reason)) => return Err(fail(kind, reason)),
            };
            spent.attempts += 1;
            if self.too_often(&fault) {
                let hold = fault.retry_after.unwrap_or(self.policy.breaker_hold);
                self.remember_hold(hold);
                let reason = format!("{}; {}", fault.reason, held(hold));
                return Err(fail(fault.kind, reason));
            }
            if let Some(time) = fault.retry_after {
                self.remember_hold(time);
            }
            match self.policy.decide(&fault, spent, fastrand::f64()) {
                Decision::GiveUp(why) if why.is_empty() => {
                    return Err(fail(fault.kind, fault.reason));
                }
                Decision::GiveUp(why) => {
                    return Err(fail(fault.kind, format!("{} ({why})", fault.reason)));
                }
                Decision::Wait(time) => {
                    self.wait(time);
                    spent.waited = spent.waited.saturating_add(time);
                }
            }
        }
    }

    /// Sends once, when there is a token and the quota lets it through.
    fn attempt(&self, url: &Url, ask: Ask, again: bool) -> Result<Answer, Ended> {
        let token = self
            .authority
            .token(&self.transport, self.clock.elapsed())
            .map_err(Ended::Fault)?;
        self.admitted()?;
        self.transport.stats.request(again);
        let mut seen = Seen::default();
        let (transport, now) = (&self.transport, self.clock.now());
        let result = transport.attempt(url, ask, &token, now, &mut seen);
        let header = |name: &str| seen.headers.get(name).and_then(|v| v.to_str().ok());
        self.with_quota_of(|quota, now| quota.answered(now, seen.bytes, header));
        match result {
            Ok(answer) => {
                self.with_breaker(Breaker::answered);
                Ok(answer)
            }
            Err(fault) if fault.unauthenticated && self.authority.refused(&token) => {
                Err(Ended::Renewed)
            }
            Err(fault) => Err(Ended::Fault(fault)),
        }
    }

    /// Waits until the quota lets a request through, if that is not too long.
    fn admitted(&self) -> Result<(), Ended> {
        loop {
            let (wait, why) = match self.with_quota_of(Quota::ask) {
                Ok(()) => return Ok(()),
                Err(QuotaError::Held { wait, why }) => (wait, why),
                Err(error) => return Err(Ended::Over(SourceErrorKind::File, error.to_string())),
            };
            if wait > self.policy.quota_wait {
                let reason = format!("{why}; the next may go in {}", retry::human(wait));
                return Err(Ended::Over(SourceErrorKind::Unavailable, reason));
            }
            self.wait(wait);
            if self.transport.stopped() {
                return Err(Ended::Over(SourceErrorKind::Stopped, "stopped".to_owned()));
            }
        }
    }

    fn wait(&self, time: Duration) {
        let before = self.clock.elapsed();
        self.clock.sleep(time, &self.transport.stop);
        let slept = self.clock.elapsed().saturating_sub(before);
        self.transport.stats.waited(slept);
    }

    /// Lets the quota know that nothing is to be sent for a while, also by the next process.
    fn remember_hold(&self, time: Duration) {
        // The hold is in force; that it could not be written down shows at the next request.
        drop(self.with_quota_of(|quota, now| quota.hold(now, time)));
    }

    fn with_quota_of<T>(&self, f: impl FnOnce(&mut Quota, SystemTime) -> T) -> T {
        let passed = self.clock.elapsed().saturating_sub(self.began.1);
        let now = self.began.0 + passed;
        f(
            &mut self.quota.lock().unwrap_or_else(PoisonError::into_inner),
            now,
        )
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
        format!("GET {}", shown(url, &self.transport.secrets))
    }

    fn refused(&self, resource: &str, reason: &str) -> SourceError {
        SourceError {
            kind: SourceErrorKind::Refused,
            request: format!("a request for {resource}"),
            reason: self.transport.secrets.redact(reason),
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

    fn holds(&mut self, resource: &str, key: &Key) -> Result<Option<bool>, SourceError> {
        let literal = match key {
            Key::Int(key) => Value::Int(*key),
            Key::Str(key) => Value::str(key),
        };
        match self.entity(resource, &literal) {
            Ok(page) => Ok(Some(holds_one(&page.body))),
            Err(e) if e.kind == SourceErrorKind::NotFound => Ok(Some(false)),
            // Not every server has entities by key.
            Err(e) if e.kind == SourceErrorKind::Refused => Ok(None),
            Err(e) => Err(e),
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

/// Whether an answer about one key has a record: some servers answer with a list.
fn holds_one(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct List {
        value: Vec<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<List>(body).map_or(true, |list| !list.value.is_empty())
}

/// How an attempt ended without an answer.
enum Ended {
    /// The server or the network failed it.
    Fault(Fault),
    /// The token was refused, and there will be another.
    Renewed,
    /// It is over, whatever the policy says.
    Over(SourceErrorKind, String),
}

/// The entity set that single entities are asked of: `Property`, where the walk has a path of its
/// own such as `Property/replication`.
fn entity_set(profile: &Profile, resource: &str) -> String {
    let path = profile.rules(resource).path;
    path.split('/').next().unwrap_or(&path).to_owned()
}

/// Whether a query wants keys and stamps and nothing else.
fn asks_for_keys(options: &QueryOptions, rules: &ResourceRules, profile: &Profile) -> bool {
    let cursor = rules
        .cursor_field
        .as_deref()
        .unwrap_or(&profile.cursor.field);
    let known = |field: &str| Some(field) == rules.key.as_deref() || field == cursor;
    let select = options.select.as_deref();
    select.is_some_and(|fields| fields.split(',').all(|field| known(field.trim())))
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
    use crate::token::Token;

    #[test]
    fn service_documents() {
        let body =
            br#"{"value":[{"name":"Property","url":"x"},{"name":"F","kind":"FunctionImport"},
            {"name":"Member","kind":"EntitySet"}]}"#;
        assert_eq!(entity_sets(body).unwrap(), ["Property", "Member"]);
        assert!(entity_sets(b"{}").unwrap_err().contains("service root"));
    }

    #[test]
    fn an_empty_list_is_no_record() {
        assert!(!holds_one(br#"{"@odata.context":"x","value":[]}"#));
        assert!(holds_one(br#"{"value":[{"ListingKey":"1"}]}"#));
        assert!(holds_one(br#"{"ListingKey":"1"}"#));
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
