//! Profiles of providers: what each says, walks as they prescribe them, tokens by client
//! credentials, and the doctor who tries a server on its profile.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relist::error::{SourceError, SourceErrorKind};
use relist::keycode::Key;
use relist::media::MediaLister as _;
use relist::source::{PageRequest, PageSource, QueryOptions};
use relist::store::{Outcome, Store};
use relist::sync::{Policy, SyncMode, SyncOptions, WalkKind};
use relist::value::Timestamp;
use relist_feed::{
    Auth, Check, Credentials, Deletes, EnumLiterals, Limits, MOST_REQUESTS, MediaVia, Network,
    Paging, Profile, RetryPolicy, Token, TokenError, Verdict, Walk, WebApi, doctor,
};
use relist_sim::{Dataset, Market, NextLink, Options, Response, Server, Size};
use relist_tests::fault_server::{FaultServer, Reply, VirtualClock};
use serde_json::{Value, json};

const ID: &str = "cl1ent-id";
const SECRET: &str = "cl1ent/s3cret+x=";

fn limits() -> Limits {
    Limits {
        read: Duration::from_secs(5),
        ..Limits::default()
    }
}

fn token(text: &str) -> Token {
    Token::from_env_value("RELIST_TOKEN", text).unwrap()
}

fn query(resource: &str, options: QueryOptions) -> PageRequest {
    PageRequest::Query {
        resource: resource.to_owned(),
        options,
    }
}

/// Every shipped profile with its variables set.
fn shipped(name: &str) -> Profile {
    let mut profile = Profile::named(name).unwrap();
    for variable in profile.variables.clone().into_keys() {
        if profile.variables[&variable].is_empty() {
            profile.set(&variable, "test").unwrap();
        }
    }
    profile
}

/// Walk, rows a page, rows a page of keys, cursor, overlap, digits.
type Expected = (WalkKind, Option<u64>, Option<u64>, &'static str, u64, u8);

/// What the field table says of each provider, by the words of this crate.
#[test]
fn the_shipped_profiles_say_what_the_providers_say() {
    let names: Vec<&str> = Profile::names().collect();
    assert_eq!(
        names,
        [
            "wfrmls",
            "mlsgrid",
            "bridge",
            "trestle",
            "spark",
            "crea",
            "generic-reso",
            "entity-event"
        ]
    );
    let policy = |name: &str| shipped(name).policy("Property").unwrap();
    let expected: &[(&str, Expected)] = &[
        (
            "wfrmls",
            (
                WalkKind::Keyset,
                Some(200),
                Some(200),
                "ModificationTimestamp",
                900,
                0,
            ),
        ),
        (
            "mlsgrid",
            (
                WalkKind::NextLink,
                Some(1000),
                Some(1000),
                "ModificationTimestamp",
                900,
                3,
            ),
        ),
        (
            "bridge",
            (
                WalkKind::NextLink,
                Some(2000),
                Some(2000),
                "BridgeModificationTimestamp",
                900,
                3,
            ),
        ),
        (
            "trestle",
            (
                WalkKind::NextLink,
                Some(1000),
                Some(1000),
                "ModificationTimestamp",
                900,
                3,
            ),
        ),
        (
            "spark",
            (
                WalkKind::NextLink,
                Some(1000),
                Some(1000),
                "ModificationTimestamp",
                1200,
                0,
            ),
        ),
        (
            "crea",
            (
                WalkKind::NextLink,
                Some(100),
                Some(100),
                "ModificationTimestamp",
                900,
                2,
            ),
        ),
        (
            "generic-reso",
            (
                WalkKind::NextLink,
                None,
                None,
                "ModificationTimestamp",
                900,
                3,
            ),
        ),
        (
            "entity-event",
            (
                WalkKind::NextLink,
                None,
                None,
                "ModificationTimestamp",
                900,
                3,
            ),
        ),
    ];
    for (name, row) in expected {
        let p: Policy = policy(name);
        let found = (
            p.walk,
            p.page_size,
            p.page_size_keys,
            p.cursor_field.as_deref().unwrap(),
            p.overlap_seconds,
            p.fraction_digits,
        );
        assert_eq!(found, *row, "{name}");
    }
    assert!(policy("wfrmls").deletes.is_some());
    assert_eq!(policy("mlsgrid").gone.unwrap().value, "false");
    assert_eq!(
        policy("mlsgrid").initial_filter.as_deref(),
        Some("MlgCanView eq true")
    );
    for name in ["bridge", "trestle", "spark", "crea", "generic-reso"] {
        assert_eq!(shipped(name).deletes, Deletes::Reconcile {}, "{name}");
    }
    assert!(policy("entity-event").events.is_some());
    assert!(matches!(
        shipped("mlsgrid").deletes,
        Deletes::Flag {
            visible_days: Some(7),
            ..
        }
    ));
    for name in ["mlsgrid", "spark", "bridge"] {
        assert!(!policy(name).orderby, "{name} documents no $orderby");
    }
    let media = |name: &str| shipped(name).media;
    assert!(media("mlsgrid").single_use);
    assert_eq!(media("mlsgrid").url_seconds, Some(3_600));
    assert_eq!(media("bridge").via, MediaVia::Inline);
    assert_eq!(media("trestle").cursor_field, "PhotosChangeTimestamp");
    assert_eq!(media("trestle").quota.windows.len(), 2);
    assert_eq!(shipped("crea").rules("Member").walk, Walk::Keylist);
    for name in ["trestle", "crea"] {
        let auth = shipped(name).auth;
        assert!(
            matches!(auth, Auth::Oauth2ClientCredentials { .. }),
            "{name}"
        );
        let url = shipped(name).token_url().unwrap().unwrap();
        assert!(url.starts_with("https://") && !url.contains('{'), "{url}");
    }
    for (name, literals) in [
        ("wfrmls", EnumLiterals::Qualified),
        ("trestle", EnumLiterals::String),
    ] {
        assert_eq!(shipped(name).enum_literals, literals);
    }
}

#[test]
fn every_shipped_profile_makes_a_client() {
    for name in Profile::names() {
        let profile = shipped(name);
        let root = profile
            .service_root()
            .unwrap()
            .unwrap_or_else(|| "https://example.com/odata".to_owned());
        assert!(root.starts_with("https://"), "{name}: {root}");
        WebApi::new(profile, &root, token("x"), limits()).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    // Without its variables, an error names what is missing before anything is sent.
    let grid = Profile::named("mlsgrid").unwrap();
    let error = WebApi::new(grid, "https://h/v2", token("x"), limits()).unwrap_err();
    assert!(error.to_string().contains("system"), "{error}");
    let bridge = Profile::named("bridge").unwrap();
    let error = bridge.service_root().unwrap_err();
    assert!(error.to_string().contains("dataset"), "{error}");
}

#[test]
fn the_size_of_a_page_is_asked_for_as_each_server_reads_it() {
    let walked = QueryOptions {
        page_size: Some(200),
        count: true,
        ..QueryOptions::default()
    };
    let keys = QueryOptions {
        filter: Some("K eq 1".to_owned()),
        ..QueryOptions::default()
    };
    let server = FaultServer::replies(vec![Reply::json(r#"{"value":[]}"#)]);
    let sent = |name: &str, options: &QueryOptions| {
        let mut api = WebApi::new(shipped(name), &server.root(), token("x"), limits()).unwrap();
        api.fetch(&query("Property", options.clone())).unwrap();
        let received = server.received().pop().unwrap();
        let prefer = received.header("prefer").unwrap_or("-").to_owned();
        (received.target, prefer)
    };
    let prefers = "odata.maxpagesize=200";
    let (target, prefer) = sent("wfrmls", &walked);
    assert!(!target.contains("$top") && prefer == prefers, "{target}");
    let (target, prefer) = sent("trestle", &walked);
    assert!(target.contains("$top=200") && prefer == "-", "{target}");
    // A server whose pages have ten rows by default is told also when single keys are asked for.
    let (target, _) = sent("trestle", &keys);
    assert!(target.contains("$top=1000"), "{target}");
    // The replication endpoint has no count.
    let (target, _) = sent("bridge", &walked);
    assert!(
        target.starts_with("/odata/Property/replication?") && !target.contains("$count"),
        "{target}"
    );
    let (target, _) = sent("mlsgrid", &walked);
    assert!(
        target.contains("OriginatingSystemName%20eq%20%27test%27"),
        "{target}"
    );
    assert_eq!(shipped("bridge").paging, Paging::TopPerPage);
}

/// Who answers `$count` is asked for it, on the walk's own path; who does not is not.
#[test]
fn the_count_is_asked_of_those_who_give_one() {
    let server = FaultServer::replies(vec![Reply::json(r#"{"value":[]}"#)]);
    let walked = QueryOptions {
        page_size: Some(100),
        count: true,
        ..QueryOptions::default()
    };
    for (name, resource, path, counted) in [
        ("wfrmls", "Property", "/odata/Property?", true),
        ("wfrmls", "Member", "/odata/Member?", true),
        // Not among the options that MLS Grid documents.
        ("mlsgrid", "Property", "/odata/Property?", false),
        ("mlsgrid", "Member", "/odata/Member?", false),
        ("mlsgrid", "OpenHouse", "/odata/OpenHouse?", false),
        // Bridge's replication endpoint takes no count; its other sets do.
        ("bridge", "Property", "/odata/Property/replication?", false),
        ("bridge", "Member", "/odata/Member?", true),
        ("trestle", "Property", "/odata/Property?", true),
        ("spark", "Property", "/odata/Property?", true),
        (
            "crea",
            "Property",
            "/odata/Property/PropertyReplication()",
            true,
        ),
        ("generic-reso", "Property", "/odata/Property?", true),
        ("entity-event", "Property", "/odata/Property?", true),
    ] {
        let profile = shipped(name);
        assert_eq!(profile.rules(resource).count, counted, "{name} {resource}");
        let mut profile = profile;
        // Without the credentials of a client: the token is not what this is about.
        profile.auth = Auth::Bearer {};
        let mut api = WebApi::new(profile, &server.root(), token("x"), limits()).unwrap();
        api.fetch(&query(resource, walked.clone())).unwrap();
        let target = server.received().pop().unwrap().target;
        assert!(target.starts_with(path), "{name}: {target}");
        assert_eq!(target.contains("$count=true"), counted, "{name}: {target}");
        assert_eq!(
            target.matches("$count").count(),
            usize::from(counted),
            "{target}"
        );
    }
}

/// One record's media, by each provider's own way.
#[test]
fn the_media_of_one_record_are_asked_for_as_each_provider_has_them() {
    let server = FaultServer::replies(vec![Reply::json(
        r#"{"ListingKey":"K'1","Media":[{"MediaKey":"m","MediaURL":"https://m/1"}],"value":[]}"#,
    )]);
    for (name, target) in [
        ("wfrmls", "/odata/Property(7)/Media"),
        ("mlsgrid", "/odata/Property(7)?$expand=Media"),
        // Single records are not asked of the replication endpoint.
        ("bridge", "/odata/Property(7)"),
        ("trestle", "/odata/Property(7)?$expand=Media"),
        ("spark", "/odata/Property(7)?$expand=Media"),
        ("crea", "/odata/Property(7)"),
        ("generic-reso", "/odata/Property(7)?$expand=Media"),
    ] {
        let mut profile = shipped(name);
        profile.auth = Auth::Bearer {};
        let api = WebApi::new(profile, &server.root(), token("x"), limits()).unwrap();
        let asked = api.list("Property", &Key::Int(7));
        assert_eq!(server.received().pop().unwrap().target, target, "{name}");
        drop(asked);
    }
    let mlsgrid = shipped("mlsgrid").media;
    assert_eq!(mlsgrid.user_agent.as_deref(), Some("{token}"));
    assert_eq!(mlsgrid.user_agent_hosts, ["media.mlsgrid.com"]);
    assert!(mlsgrid.single_use && mlsgrid.url_seconds == Some(3_600));
}

// Tokens by client credentials.

/// A server that gives tokens and takes only the one it gave last.
struct Grantor {
    server: FaultServer,
    state: Arc<Mutex<Granting>>,
}

#[derive(Default)]
struct Granting {
    given: u64,
    /// The API refuses the token at these of its requests, from 0.
    refuse: Vec<usize>,
    api_requests: usize,
    forms: Vec<String>,
}

impl Grantor {
    fn start(life: &'static str, refuse: &[usize]) -> Self {
        let state = Arc::new(Mutex::new(Granting {
            refuse: refuse.to_vec(),
            ..Granting::default()
        }));
        let shared = Arc::clone(&state);
        let server = FaultServer::start(move |_, received| {
            let mut state = shared.lock().unwrap();
            if received.target.ends_with("/token") {
                state.given += 1;
                state.forms.push(format!(
                    "{} {}",
                    received.method,
                    received.header("authorization").unwrap_or("-")
                ));
                let given = state.given;
                return Reply::json(format!(
                    r#"{{"access_token":"t0ken/{given}","token_type":"Bearer"{life}}}"#
                ));
            }
            let at = state.api_requests;
            state.api_requests += 1;
            let expect = format!("Bearer t0ken/{}", state.given);
            let sent = received.header("authorization").unwrap_or_default();
            if state.refuse.contains(&at) || sent != expect {
                return Reply::status(401)
                    .header("Content-Type", "application/json")
                    .body(format!(r#"{{"error":{{"message":"bad {sent}"}}}}"#));
            }
            Reply::json(r#"{"value":[]}"#)
        });
        Grantor { server, state }
    }

    fn profile(&self, more: &str) -> Profile {
        let text = format!(
            "name = 'o'\nwalk = 'nextlink'\nenum_literals = 'string'\nsync = []\n\
             deletes = {{ by = 'none' }}\n[auth]\nkind = 'oauth2_client_credentials'\n\
             token_url = 'http://{}/connect/token'\nscope = 'api'\n{more}",
            self.server.address()
        );
        Profile::from_toml(&text, "o.toml").unwrap()
    }

    fn api(&self, clock: &Arc<VirtualClock>) -> WebApi {
        let credentials = Credentials::client(token(ID), token(SECRET));
        let profile = self.profile("");
        let api = WebApi::new(profile, &self.server.root(), credentials, limits()).unwrap();
        api.with_clock(clock.clone())
    }

    fn given(&self) -> u64 {
        self.state.lock().unwrap().given
    }
}

fn any_page(api: &mut WebApi) -> Result<(), SourceError> {
    api.fetch(&query("Property", QueryOptions::default()))
        .map(|_| ())
}

fn clock() -> Arc<VirtualClock> {
    VirtualClock::at(std::time::SystemTime::UNIX_EPOCH)
}

fn pass(clock: &Arc<VirtualClock>, time: Duration) {
    let never = std::sync::atomic::AtomicBool::new(false);
    relist_feed::Clock::sleep(&**clock, time, &never);
}

#[test]
fn a_token_is_had_once_and_renewed_before_it_expires() {
    let grantor = Grantor::start(r#","expires_in":28800"#, &[]);
    let clock = clock();
    let mut api = grantor.api(&clock);
    assert_eq!(grantor.given(), 0, "nothing is sent before the first page");
    for _ in 0..5 {
        any_page(&mut api).unwrap();
    }
    assert_eq!(grantor.given(), 1);
    pass(&clock, Duration::from_secs(28_800 - 301));
    any_page(&mut api.clone()).unwrap();
    assert_eq!(grantor.given(), 1);
    pass(&clock, Duration::from_secs(2));
    any_page(&mut api).unwrap();
    assert_eq!(grantor.given(), 2, "five minutes before its end");
    any_page(&mut api.clone()).unwrap();
    assert_eq!(grantor.given(), 2, "clones share it");
}

#[test]
fn the_credentials_are_sent_in_the_form_or_as_basic() {
    for (more, authorization) in [
        ("", "POST -"),
        (
            "send = 'basic'",
            "POST Basic Y2wxZW50LWlkOmNsMWVudC9zM2NyZXQreD0=",
        ),
    ] {
        let grantor = Grantor::start("", &[]);
        let credentials = Credentials::client(token(ID), token(SECRET));
        let profile = grantor.profile(more);
        let mut api = WebApi::new(profile, &grantor.server.root(), credentials, limits()).unwrap();
        any_page(&mut api).unwrap();
        assert_eq!(grantor.state.lock().unwrap().forms, [authorization]);
        let received = &grantor.server.received()[0];
        assert_eq!(
            received.header("content-type"),
            Some("application/x-www-form-urlencoded")
        );
    }
}

#[test]
fn a_refused_token_is_replaced_once_at_whatever_page_and_the_page_is_asked_again() {
    for k in 0..6 {
        let grantor = Grantor::start("", &[k]);
        let mut api = grantor.api(&clock());
        for page in 0..6 {
            any_page(&mut api).unwrap_or_else(|e| panic!("refused at {k}, page {page}: {e}"));
        }
        assert_eq!(grantor.given(), 2);
        assert_eq!(grantor.state.lock().unwrap().api_requests, 7);
    }
    for first in 0..3 {
        for second in first + 1..6 {
            let grantor = Grantor::start("", &[first, second]);
            let mut api = grantor.api(&clock());
            let results: Vec<_> = (0..6).map(|_| any_page(&mut api)).collect();
            let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
            assert!(!errors.is_empty(), "{first}, {second}");
            assert_eq!(errors[0].kind, SourceErrorKind::Unauthorized);
            let text = errors[0].to_string();
            assert!(
                !text.contains("t0ken") && text.contains("[token]"),
                "{text}"
            );
            assert!(grantor.given() <= 3, "{}", grantor.given());
        }
    }
}

#[test]
fn a_token_endpoint_that_fails_is_named_and_shows_no_secret() {
    let echo = format!(
        r#"{{"error":"invalid_client","error_description":"client {ID} secret {SECRET}"}}"#
    );
    for (reply, kind, expect, requests) in [
        (
            Reply::status(400)
                .header("Content-Type", "application/json")
                .body(echo.clone()),
            SourceErrorKind::Unauthorized,
            "invalid_client",
            1,
        ),
        (
            Reply::status(401).body("no"),
            SourceErrorKind::Unauthorized,
            "401",
            1,
        ),
        (Reply::status(503), SourceErrorKind::Unavailable, "503", 3),
        (
            Reply::json(r#"{"access_token":""}"#),
            SourceErrorKind::Malformed,
            "token endpoint",
            3,
        ),
        (
            Reply::json("<html>"),
            SourceErrorKind::Malformed,
            "access_token",
            3,
        ),
        (
            Reply::status(302).header("Location", "https://login.example.com/?x=1"),
            SourceErrorKind::Malformed,
            "login.example.com",
            1,
        ),
    ] {
        let server = FaultServer::replies(vec![reply]);
        let text = format!(
            "name = 'o'\nwalk = 'nextlink'\nenum_literals = 'string'\nsync = []\n\
             deletes = {{ by = 'none' }}\n[auth]\nkind = 'oauth2_client_credentials'\n\
             token_url = 'http://{}/token'",
            server.address()
        );
        let profile = Profile::from_toml(&text, "o.toml").unwrap();
        let credentials = Credentials::client(token(ID), token(SECRET));
        let api = WebApi::new(profile, &server.root(), credentials.clone(), limits()).unwrap();
        let three = RetryPolicy {
            max_attempts: 3,
            ..RetryPolicy::default()
        };
        let mut api = api.with_clock(clock()).with_retry(three);
        let error = any_page(&mut api).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        let shown = format!("{error} {error:?} {api:?} {credentials:?}");
        assert!(
            shown.contains("token endpoint") && shown.contains(expect),
            "{shown}"
        );
        assert!(!shown.contains("s3cret"), "{shown}");
        assert_eq!(server.connections(), requests, "{error}");
    }
}

#[test]
fn credentials_of_the_wrong_kind_are_refused_before_anything_is_sent() {
    let credentials = Credentials::client(token(ID), token(SECRET));
    let profile = Profile::named("generic-reso").unwrap();
    let error = WebApi::new(profile, "https://h/x", credentials, limits()).unwrap_err();
    assert!(error.to_string().contains("wants a token"), "{error}");
    // A token that was had elsewhere serves a provider of client credentials as well.
    WebApi::with_network(
        shipped("trestle"),
        "https://h/x",
        token("x"),
        limits(),
        &Network::default(),
    )
    .unwrap();
    assert!(matches!(
        Token::from_env_value("RELIST_CLIENT_SECRET", "two words"),
        Err(TokenError::BadCharacter { .. })
    ));
}

// A list of keys, walked.

fn listings(count: u32) -> Vec<Value> {
    (0..count)
        .map(|n| {
            json!({
                "ListingKey": format!("K{n:06}"),
                "ListPrice": 100_000 + n,
                "ModificationTimestamp":
                    format!("2026-02-01T{:02}:{:02}:00.00Z", n / 60 % 24, n % 60),
            })
        })
        .collect()
}

/// CREA's shape over the simulator: a list of keys, and records that cannot be paged.
fn crea(rows: Vec<Value>) -> (Server, Arc<Mutex<Dataset>>) {
    let keys: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "ListingKey": row["ListingKey"],
                "ModificationTimestamp": row["ModificationTimestamp"],
            })
        })
        .collect();
    let data = Dataset::new()
        .with_resource("Property", "ListingKey", rows)
        .and_then(|d| d.with_resource("Replication", "ListingKey", keys))
        .unwrap();
    let data = Arc::new(Mutex::new(data));
    let server = Server::start(
        Arc::clone(&data),
        Options {
            next_link: NextLink::SkipToken,
            relative_links: true,
            ..Options::default()
        },
    )
    .unwrap();
    (server, data)
}

fn crea_profile(keys: u64) -> Profile {
    // $top counts all pages at the simulator, as OData says: so its pages are asked for by Prefer.
    let text = format!(
        "name = 'c'\nwalk = 'nextlink'\npaging = 'prefer'\npage_size = 100\n\
         page_size_keys = {keys}\nenum_literals = 'string'\nsync = ['Property']\n\
         deletes = {{ by = 'reconcile' }}\nauth = {{ kind = 'bearer' }}\n\
         cursor = {{ fraction_digits = 2 }}\n\
         [resources.Property]\nkey = 'ListingKey'\nwalk = 'keylist'\nkeys_path = 'Replication'"
    );
    Profile::from_toml(&text, "c.toml").unwrap()
}

fn sync(store: &Store, api: &mut WebApi, mode: SyncMode, most: Option<u64>) -> Outcome {
    let now = || Timestamp(1_772_409_600_000_000);
    let options = SyncOptions {
        mode,
        max_pages: most,
        confirm: false,
        now: &now,
    };
    let policy = api.profile().policy("Property").unwrap();
    store
        .sync(
            "Property",
            api,
            &policy,
            &options,
            &mut |_: &relist::store::RunReport| {},
        )
        .unwrap()
        .outcome
}

#[test]
fn a_list_of_keys_is_walked_to_the_end_and_stopped_anywhere() {
    let (server, data) = crea(listings(257));
    let api = || {
        WebApi::new(
            crea_profile(60),
            &server.base_url(),
            token(server.token()),
            limits(),
        )
        .unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let now = Timestamp(1_772_409_600_000_000);
    let store = Store::create(dir.path().join("c.redb"), now).unwrap();
    // Each run stops after four pages of records; the next goes on there, in another client.
    let mut runs = 0;
    loop {
        runs += 1;
        let outcome = sync(&store, &mut api(), SyncMode::Auto, Some(4));
        if outcome == Outcome::Complete {
            break;
        }
        assert!(runs < 20, "{outcome:?}");
    }
    assert!(runs >= 3, "{runs}");
    let live = |store: &Store| store.snapshot().unwrap().count("Property").unwrap();
    assert_eq!(live(&store), 257);
    let lines = server.request_lines();
    assert!(lines.iter().any(|l| l.contains("ListingKey eq 'K000000'")));
    let walked = |l: &&String| l.contains("/Property?") && !l.contains("ListingKey eq");
    assert_eq!(
        lines.iter().filter(walked).count(),
        0,
        "no page of records is walked"
    );

    // One changes, one goes: the list of keys tells both.
    {
        let mut data = data.lock().unwrap();
        let later = "2026-03-01T00:00:00.00Z";
        let mut changed = json!({"ListingKey": "K000007", "ListPrice": 1});
        changed["ModificationTimestamp"] = json!(later);
        data.put("Property", &changed).unwrap();
        let listed = json!({"ListingKey": "K000007", "ModificationTimestamp": later});
        data.put("Replication", &listed).unwrap();
        let gone = relist_sim::Key::Str("K000100".to_owned());
        assert!(data.remove("Property", &gone) && data.remove("Replication", &gone));
    }
    let before = server.request_count();
    assert_eq!(
        sync(&store, &mut api(), SyncMode::Auto, None),
        Outcome::Complete
    );
    assert!(
        server.request_count() - before < 5,
        "an incremental run reads little"
    );
    assert_eq!(live(&store), 257);
    assert_eq!(
        sync(&store, &mut api(), SyncMode::Reconcile, None),
        Outcome::Complete
    );
    assert_eq!(live(&store), 256);
    let report = store.snapshot().unwrap().verify().unwrap();
    assert!(report.is_clean(), "{report:?}");
}

// The doctor.

fn by_name(checks: &[Check]) -> HashMap<&'static str, &Check> {
    checks.iter().map(|check| (check.name, check)).collect()
}

fn verdicts(checks: &[Check]) -> BTreeMap<&'static str, Verdict> {
    checks
        .iter()
        .map(|check| (check.name, check.verdict))
        .collect()
}

fn shown(checks: &[Check]) -> String {
    let line = |c: &Check| {
        format!(
            "{:18} {:?}: found {}; expected {}; {}",
            c.name, c.verdict, c.found, c.expected, c.advice
        )
    };
    checks.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn market(options: Options) -> Server {
    let mut market = Market::new(7, Size::listings(700));
    market.advance_days(2);
    Server::start(Arc::new(Mutex::new(market)), options).unwrap()
}

fn examine(server: &Server, profile: Profile) -> Vec<Check> {
    let api = WebApi::new(profile, &server.base_url(), token(server.token()), limits()).unwrap();
    let api = api.with_clock(clock());
    let checks = doctor(&api, "Property");
    let sent = api.stats().snapshot().requests;
    assert!(sent <= MOST_REQUESTS, "{sent} requests");
    assert!(server.request_count() <= MOST_REQUESTS);
    println!("{}\n", shown(&checks));
    checks
}

#[test]
fn a_server_that_keeps_to_its_profile_is_well() {
    let checks = examine(&market(Options::default()), shipped("wfrmls"));
    for check in &checks {
        assert_eq!(check.verdict, Verdict::Ok, "{check:?}");
        assert!(check.advice.is_empty(), "{check:?}");
    }
    let names = by_name(&checks);
    for name in [
        "service document",
        "$metadata",
        "key",
        "page size",
        "count",
        "nextLink",
        "server time",
        "cursor field",
        "timestamp digits",
        "$orderby",
        "keyset filter",
        "cursor filter",
        "enum literals",
        "deletions",
        "media cursor",
        "media",
    ] {
        assert!(names.contains_key(name), "{name}");
    }
}

/// A check, a rule of the profile made wrong, and what the advice then says.
type Case = (&'static str, fn(&mut Profile), &'static str);

#[test]
fn each_rule_that_does_not_hold_is_named_with_what_to_write() {
    let wrong = |set: fn(&mut Profile)| {
        let mut profile = shipped("wfrmls");
        set(&mut profile);
        profile
    };
    let cases: &[Case] = &[
        ("page size", |p| p.page_size = Some(500), "page_size = 200"),
        (
            "timestamp digits",
            |p| p.cursor.fraction_digits = 3,
            "fraction_digits = 0",
        ),
        (
            "cursor field",
            |p| p.cursor.field = "ModifiedAt".to_owned(),
            "cursor_field",
        ),
        (
            "key",
            |p| p.resources.get_mut("Property").unwrap().key = Some("Id".to_owned()),
            "key = \"ListingKeyNumeric\"",
        ),
        (
            "nextLink",
            |p| {
                p.walk = Walk::Nextlink;
                p.resources.get_mut("Property").unwrap().walk = None;
            },
            "keyset",
        ),
        // The simulator reads $top as the total over all pages: such a walk ends after a page.
        (
            "nextLink",
            |p| {
                p.walk = Walk::Nextlink;
                p.paging = Paging::TopPerPage;
            },
            "$top",
        ),
        (
            "deletions",
            |p| {
                p.deletes = Deletes::Feed {
                    resource: "Removed".to_owned(),
                    resource_field: "resource".to_owned(),
                    key_field: "primary_key".to_owned(),
                    time_field: "ts".to_owned(),
                }
            },
            "reconcile",
        ),
        (
            "media cursor",
            |p| p.media.cursor_field = "PhotosStamp".to_owned(),
            "media.cursor_field",
        ),
        (
            "media",
            |p| p.media.navigation = "Photos".to_owned(),
            "media.via",
        ),
        ("media", |p| p.media.via = MediaVia::Inline, "media.via"),
    ];
    for (name, set, advice) in cases {
        let checks = examine(&market(Options::default()), wrong(*set));
        let found = by_name(&checks);
        let check = found[name];
        assert_eq!(check.verdict, Verdict::Differs, "{name}: {check:?}");
        assert!(check.advice.contains(advice), "{name}: {check:?}");
    }
}

#[test]
fn other_ways_of_media_and_of_links_are_tried_too() {
    for via in [MediaVia::Navigation, MediaVia::Resource] {
        let mut profile = shipped("wfrmls");
        profile.media.via = via;
        let checks = examine(&market(Options::default()), profile);
        assert_eq!(verdicts(&checks)["media"], Verdict::Ok, "{via:?}");
    }
    let mut profile = shipped("wfrmls");
    profile.walk = Walk::Nextlink;
    profile.paging = Paging::Prefer;
    let server = market(Options {
        next_link: NextLink::SkipToken,
        relative_links: true,
        ..Options::default()
    });
    let checks = examine(&server, profile);
    let found = by_name(&checks);
    assert_eq!(found["nextLink"].verdict, Verdict::Ok);
    assert!(
        found["nextLink"].found.contains("relative, by $skiptoken="),
        "{:?}",
        found["nextLink"]
    );
    assert!(found["keyset filter"].found.contains("keyset"));
}

/// A server that answers requests of some kind with an error.
fn refusing(part: &'static str, status: u16) -> Server {
    market(Options {
        intercept: Some(Box::new(move |request| {
            let line = request.line();
            let plain = line.replace("%20", " ").replace("%27", "'");
            plain
                .contains(part)
                .then(|| Response::error(status, "this is not how it is done here"))
        })),
        ..Options::default()
    })
}

#[test]
fn what_a_server_refuses_differs_and_what_it_cannot_do_now_is_not_known() {
    for (part, status, name, verdict) in [
        ("$metadata", 404, "$metadata", Verdict::Differs),
        ("$orderby=Modif", 400, "$orderby", Verdict::Differs),
        ("Numeric gt", 400, "keyset filter", Verdict::Differs),
        ("Timestamp ge", 400, "cursor filter", Verdict::Differs),
        ("$count=true", 400, "count", Verdict::Differs),
        ("$expand=Media", 501, "media", Verdict::Differs),
        ("$expand=Media", 504, "media", Verdict::Failed),
        ("/Deleted", 404, "deletions", Verdict::Differs),
        ("/Deleted", 500, "deletions", Verdict::Failed),
        ("$skip=", 400, "nextLink", Verdict::Failed),
        ("/Property?", 403, "page size", Verdict::Failed),
    ] {
        let server = refusing(part, status);
        let api = WebApi::new(
            shipped("wfrmls"),
            &server.base_url(),
            token(server.token()),
            limits(),
        )
        .unwrap();
        let checks = doctor(&api.with_clock(clock()), "Property");
        let found = by_name(&checks);
        assert_eq!(found[name].verdict, verdict, "{part}\n{}", shown(&checks));
        assert!(!found[name].advice.is_empty(), "{:?}", found[name]);
    }
}

#[test]
fn the_form_of_enumeration_literals_is_found_out() {
    let server = market(Options {
        intercept: Some(Box::new(|request| {
            let plain = request.line().replace("%27", "'").replace("%20", " ");
            let qualified = plain.contains("Status eq") && !plain.contains("eq '");
            qualified.then(|| Response::error(400, "use a string"))
        })),
        ..Options::default()
    });
    let checks = examine(&server, shipped("wfrmls"));
    let found = by_name(&checks);
    let check = found["enum literals"];
    assert_eq!(check.verdict, Verdict::Differs, "{check:?}");
    assert!(
        check.advice.starts_with("enum_literals = \"string\""),
        "{check:?}"
    );
}

#[test]
fn a_server_that_ignores_filters_is_caught() {
    // It answers every query with the first page, whatever was asked.
    let plain = market(Options::default());
    let mut plain_api = WebApi::new(
        shipped("wfrmls"),
        &plain.base_url(),
        token(plain.token()),
        limits(),
    )
    .unwrap();
    let first = QueryOptions {
        page_size: Some(200),
        ..QueryOptions::default()
    };
    let page = plain_api.fetch(&query("Property", first)).unwrap();
    let server = market(Options {
        intercept: Some(Box::new(move |request| {
            let asks = request.line().contains("/Property?");
            asks.then(|| Response::new(200, "application/json", page.body.clone()))
        })),
        ..Options::default()
    });
    let checks = examine(&server, shipped("wfrmls"));
    let verdicts = verdicts(&checks);
    for name in ["keyset filter", "$orderby", "cursor filter"] {
        assert_eq!(verdicts[name], Verdict::Differs, "{name}");
    }
}
