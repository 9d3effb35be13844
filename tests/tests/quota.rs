//! Quotas: never more than a provider allows, however often the program is stopped, killed and
//! started again; what the server says is obeyed.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use relist::error::SourceErrorKind;
use relist::source::{PageRequest, PageSource, QueryOptions};
use relist_feed::{
    Clock, Limits, Profile, Quota, QuotaError, QuotaRules, RetryPolicy, Token, WebApi,
};
use relist_tests::fault_server::{FaultServer, Reply, VirtualClock};

const MICROS: u64 = 1_000_000;

/// Counts what arrives as a provider would, in the two ways there are: in any stretch of the
/// window's length, and in windows that begin anew at each full second, minute, hour and day.
struct Provider {
    windows: Vec<Counted>,
}

struct Counted {
    length: u64,
    limit: u64,
    bytes: bool,
    sliding: VecDeque<(u64, u64)>,
    in_sliding: u64,
    aligned: (u64, u64),
    most: u64,
}

impl Provider {
    fn new(windows: &[(u64, u64, bool)]) -> Self {
        let counted = |(seconds, limit, bytes): &(u64, u64, bool)| Counted {
            length: seconds * MICROS,
            limit: *limit,
            bytes: *bytes,
            sliding: VecDeque::new(),
            in_sliding: 0,
            aligned: (0, 0),
            most: 0,
        };
        Provider {
            windows: windows.iter().map(counted).collect(),
        }
    }

    fn arrived(&mut self, at: u64, bytes: u64) {
        for window in &mut self.windows {
            let amount = if window.bytes { bytes } else { 1 };
            while let Some((then, spent)) = window.sliding.front().copied() {
                if then + window.length > at {
                    break;
                }
                window.in_sliding -= spent;
                window.sliding.pop_front();
            }
            window.sliding.push_back((at, amount));
            window.in_sliding += amount;
            let place = at / window.length;
            if window.aligned.0 != place {
                window.aligned = (place, 0);
            }
            window.aligned.1 += amount;
            window.most = window.most.max(window.in_sliding);
            let (limit, seconds) = (window.limit, window.length / MICROS);
            assert!(
                window.in_sliding <= limit && window.aligned.1 <= limit,
                "{} in {seconds} s (aligned {}), {limit} are allowed",
                window.in_sliding,
                window.aligned.1
            );
        }
    }
}

fn rules(profile: &str) -> QuotaRules {
    Profile::named(profile).unwrap().quota
}

fn at(micros: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

fn no_headers(_: &str) -> Option<&'static str> {
    None
}

/// A small generator of its own, so that a seed means the same for ever.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Sends so many requests as fast as the quota lets it, and restarts at random: in order, killed
/// at once, killed and back much later. Gives what the provider counted, and the restarts.
fn drive(
    rules: &QuotaRules,
    path: &Path,
    requests: u64,
    seed: u64,
    provider: &mut Provider,
) -> (u64, u64) {
    let mut random = Random(seed);
    // Not at an edge of anything.
    let mut now = 1_700_000_123_456_789;
    let begun = now;
    let mut quota = Quota::open(rules, path, at(now)).unwrap();
    let mut restarts = 0;
    let mut sent = 0;
    while sent < requests {
        match quota.ask(at(now)) {
            Ok(()) => {
                sent += 1;
                let bytes = match random.below(100) {
                    0 => 60 * 1024 * 1024,
                    1..20 => random.below(8_000_000),
                    _ => random.below(400_000),
                };
                provider.arrived(now, bytes);
                let killed = random.below(20_000) == 0;
                if !killed {
                    now += random.below(40_000);
                    quota.answered(at(now), bytes, no_headers);
                }
                let stopped = random.below(3_000) == 0;
                if killed || stopped {
                    restarts += 1;
                    if killed {
                        std::mem::forget(quota);
                    } else {
                        drop(quota);
                    }
                    now += random.below(3) * random.below(2_000) * MICROS / 2;
                    quota = Quota::open(rules, path, at(now)).unwrap();
                }
            }
            Err(QuotaError::Held { wait, .. }) => {
                now += u64::try_from(wait.as_micros()).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    (restarts, (now - begun) / MICROS)
}

#[test]
fn a_million_requests_never_exceed_a_window() {
    // In memory where that can be: a disk that is busy with other tests is not what is tried.
    let shared = Path::new("/dev/shm");
    let dir = tempfile::tempdir_in(shared).or_else(|_| tempfile::tempdir());
    let dir = dir.unwrap();
    let mlsgrid: &[(u64, u64, bool)] = &[
        (1, 2, false),
        (3_600, 7_200, false),
        (3_600, 4_000_000_000, true),
        (86_400, 40_000, false),
    ];
    let bridge: &[(u64, u64, bool)] = &[(60, 334, false), (3_600, 5_000, false)];
    let trestle: &[(u64, u64, bool)] = &[(60, 180, false), (3_600, 7_200, false)];
    let mut total = 0;
    for (name, windows, requests, seed) in [
        ("mlsgrid", mlsgrid, 600_000, 0x5EED_0001),
        ("bridge", bridge, 200_000, 0x5EED_0002),
        ("trestle", trestle, 200_000, 0x5EED_0003),
    ] {
        let path = dir.path().join(format!("{name}.quota"));
        let mut provider = Provider::new(windows);
        let (restarts, seconds) = drive(&rules(name), &path, requests, seed, &mut provider);
        total += requests;
        let most: Vec<String> = provider
            .windows
            .iter()
            .map(|w| format!("{} of {} in {} s", w.most, w.limit, w.length / MICROS))
            .collect();
        println!(
            "{name}: {requests} requests, {restarts} restarts, {} virtual days, seed {seed:#x}; \
             most: {}",
            seconds / 86_400,
            most.join(", ")
        );
        assert!(restarts > 50, "{restarts}");
        // Safe, and not by standing still: the tightest window is used to nine tenths.
        let used = provider.windows.iter().map(|w| w.most * 100 / w.limit);
        assert!(used.max().unwrap() >= 90, "{most:?}");
    }
    println!("{total} requests in all: no window exceeded");
}

#[test]
fn the_check_itself_catches_a_quota_that_forgets() {
    let mut provider = Provider::new(&[(60, 10, false)]);
    let forgetful: QuotaRules = rules("wfrmls");
    let mut quota = Quota::new(&forgetful);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for request in 0..11 {
            quota.ask(at(MICROS * 1_000 + request)).unwrap();
            provider.arrived(MICROS * 1_000 + request, 0);
        }
    }));
    assert!(caught.is_err());
}

#[test]
fn many_restarts_in_a_row_cost_what_was_reserved_and_no_more_than_that() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trestle.quota");
    let rules = rules("trestle");
    let mut now = 1_700_000_000 * MICROS;
    let mut provider = Provider::new(&[(60, 180, false), (3_600, 7_200, false)]);
    // A scheduler that starts a run each minute, and something that kills each of them.
    for _ in 0..600 {
        let mut quota = Quota::open(&rules, &path, at(now)).unwrap();
        quota.ask(at(now)).unwrap_or_else(|e| panic!("{e}"));
        provider.arrived(now, 0);
        std::mem::forget(quota);
        now += 60 * MICROS;
    }
    let quota = Quota::open(&rules, &path, at(now)).unwrap().usage(at(now));
    let hour = quota.iter().find(|u| u.limit == Some(7_200)).unwrap();
    assert!(hour.spent < 1_500, "{hour:?}");
}

/// A clock of the test's own, which the server reads as well.
#[derive(Debug)]
struct SharedClock(Mutex<Duration>);

impl SharedClock {
    fn start() -> Arc<Self> {
        Arc::new(SharedClock(Mutex::default()))
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.0.lock().unwrap().as_micros()).unwrap() + 1_700_000_000 * MICROS
    }
}

impl Clock for SharedClock {
    fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn now(&self) -> SystemTime {
        at(self.micros())
    }

    fn sleep(&self, time: Duration, _: &AtomicBool) {
        *self.0.lock().unwrap() += time;
    }
}

fn limits() -> Limits {
    Limits {
        read: Duration::from_secs(5),
        ..Limits::default()
    }
}

fn token() -> Token {
    Token::from_env_value("RELIST_TOKEN", "s3cret").unwrap()
}

fn query() -> PageRequest {
    PageRequest::Query {
        resource: "Property".to_owned(),
        options: QueryOptions::default(),
    }
}

fn page() -> Reply {
    Reply::json(r#"{"value":[]}"#)
}

/// A profile with this quota, and nothing else of note.
fn profile(quota: &str) -> Profile {
    let text = format!(
        "name = 'x'\nwalk = 'nextlink'\nenum_literals = 'string'\nsync = []\n\
         deletes = {{ by = 'none' }}\nauth = {{ kind = 'bearer' }}\n[quota]\n{quota}"
    );
    Profile::from_toml(&text, "x.toml").unwrap()
}

#[test]
fn the_client_waits_for_the_quota_and_sends_nothing_too_early() {
    let clock = SharedClock::start();
    let provider = Arc::new(Mutex::new(Provider::new(&[(1, 2, false), (60, 30, false)])));
    let (counting, time) = (Arc::clone(&provider), Arc::clone(&clock));
    let server = FaultServer::start(move |_, _| {
        counting.lock().unwrap().arrived(time.micros(), 0);
        page()
    });
    let profile =
        profile("windows = [{ per = 'second', requests = 2 }, { per = 'minute', requests = 30 }]");
    let api = WebApi::new(profile, &server.root(), token(), limits()).unwrap();
    let api = api.with_clock(clock.clone());
    for request in 0..100 {
        // A clone shares the quota.
        api.clone()
            .fetch(&query())
            .unwrap_or_else(|e| panic!("{request}: {e}"));
    }
    assert_eq!(server.connections(), 100);
    let waited = api.stats().snapshot().waited;
    assert!(waited > Duration::from_mins(3), "{waited:?}");
    assert!(waited < Duration::from_mins(5), "{waited:?}");
    assert!(provider.lock().unwrap().windows[1].most == 30);
}

#[test]
fn a_day_that_is_spent_ends_the_run_and_the_next_one_knows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.quota");
    let server = FaultServer::replies(vec![page()]);
    let clock = SharedClock::start();
    let profile = profile("windows = [{ per = 'day', requests = 3 }]");
    let run = || {
        let quota = Quota::open(&profile.quota, &path, clock.now()).unwrap();
        let api = WebApi::new(profile.clone(), &server.root(), token(), limits()).unwrap();
        api.with_clock(clock.clone()).with_quota(quota)
    };
    let mut api = run();
    for _ in 0..3 {
        api.fetch(&query()).unwrap();
    }
    for mut api in [api, run()] {
        let error = api.fetch(&query()).unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Unavailable);
        assert!(
            error.reason.contains("3 requests a day") && error.reason.contains("24 h"),
            "{error}"
        );
    }
    assert_eq!(server.connections(), 3);
    Clock::sleep(&*clock, Duration::from_hours(25), &AtomicBool::new(false));
    run().fetch(&query()).unwrap();
}

#[test]
fn a_suspension_is_not_prolonged_by_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.quota");
    let server = FaultServer::replies(vec![Reply::status(429)]);
    let clock = SharedClock::start();
    let profile = profile("");
    let run = || {
        let quota = Quota::open(&profile.quota, &path, clock.now()).unwrap();
        let api = WebApi::new(profile.clone(), &server.root(), token(), limits()).unwrap();
        let impatient = RetryPolicy {
            quota_wait: Duration::from_mins(1),
            ..RetryPolicy::default()
        };
        api.with_clock(clock.clone())
            .with_retry(impatient)
            .with_quota(quota)
    };
    // Three answers of 429 open the breaker.
    run().fetch(&query()).unwrap_err();
    assert_eq!(server.connections(), 3);
    // A scheduler that starts the program again and again sends nothing more for 15 minutes.
    for _ in 0..10 {
        let error = run().fetch(&query()).unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Unavailable);
        assert!(error.reason.contains("asked to wait"), "{error}");
    }
    assert_eq!(server.connections(), 3);
    Clock::sleep(&*clock, Duration::from_mins(16), &AtomicBool::new(false));
    run().fetch(&query()).unwrap_err();
    assert!(server.connections() > 3);
}

#[test]
fn headers_of_bridge_and_trestle_are_read_and_obeyed() {
    let clock = SharedClock::start();
    let date = || httpdate_of(clock.micros());
    for (name, variable, headers, wait) in [
        (
            "bridge",
            Some(("dataset", "test")),
            vec![
                ("Burst-RateLimit-Limit", "334".to_owned()),
                ("Burst-RateLimit-Remaining", "0".to_owned()),
                (
                    "Burst-RateLimit-Reset",
                    iso_of(clock.micros() + 40 * MICROS),
                ),
            ],
            40,
        ),
        (
            "bridge",
            Some(("dataset", "test")),
            vec![
                ("Application-RateLimit-Limit", "5000".to_owned()),
                ("Application-RateLimit-Remaining", "0".to_owned()),
                (
                    "Application-RateLimit-Reset",
                    (clock.micros() / MICROS + 1_800).to_string(),
                ),
            ],
            1_800,
        ),
        (
            "trestle",
            None,
            vec![
                ("Minute-Quota-Limit", "280.0".to_owned()),
                ("Hour-Quota-Limit", "8400.0".to_owned()),
                ("Hour-Quota-Available", "0".to_owned()),
                (
                    "Hour-Quota-ResetTime",
                    (clock.micros() / 1_000 + 600_000).to_string(),
                ),
            ],
            600,
        ),
    ] {
        let mut limited = page().header("Date", &date());
        for (name, value) in &headers {
            limited = limited.header(name, value);
        }
        let server = FaultServer::replies(vec![limited, page()]);
        let virtual_clock = VirtualClock::at(clock.now());
        let mut profile = Profile::named(name).unwrap();
        if let Some((variable, value)) = variable {
            profile.set(variable, value).unwrap();
        }
        let api = WebApi::new(profile, &server.root(), token(), limits()).unwrap();
        let mut api = api.with_clock(virtual_clock.clone());
        api.fetch(&query()).unwrap();
        assert!(virtual_clock.waits().is_empty(), "{name}");
        api.fetch(&query()).unwrap();
        let waited: Duration = virtual_clock.waits().iter().sum();
        assert_eq!(waited.as_secs(), wait, "{name}: {headers:?}");
    }
}

#[test]
fn headers_that_are_nonsense_change_nothing() {
    for value in ["", "-1", "soon", "1e9", "NaN", "99999999999999999999999999"] {
        let reply = ["Limit", "Remaining", "Reset"]
            .iter()
            .fold(page(), |reply, name| {
                reply.header(&format!("Burst-RateLimit-{name}"), value)
            });
        let server = FaultServer::replies(vec![reply]);
        let mut profile = Profile::named("bridge").unwrap();
        profile.set("dataset", "test").unwrap();
        let clock = SharedClock::start();
        let api = WebApi::new(profile, &server.root(), token(), limits()).unwrap();
        let mut api = api.with_clock(clock.clone());
        for _ in 0..5 {
            api.fetch(&query()).unwrap();
        }
        assert_eq!(clock.elapsed(), Duration::ZERO, "{value:?}");
    }
}

#[test]
fn a_stop_ends_the_wait_for_a_quota() {
    let server = FaultServer::replies(vec![page()]);
    let profile = profile("windows = [{ per = 'minute', requests = 1 }]");
    let stop = Arc::new(AtomicBool::new(false));
    let api = WebApi::new(profile, &server.root(), token(), limits()).unwrap();
    let mut api = api
        .with_clock(VirtualClock::stopping_at(0))
        .with_stop(Arc::clone(&stop));
    api.fetch(&query()).unwrap();
    let error = api.fetch(&query()).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Stopped);
    assert!(stop.load(Ordering::SeqCst));
    assert_eq!(server.connections(), 1);
}

/// A moment as an ISO timestamp.
fn iso_of(micros: u64) -> String {
    let at = relist::value::Timestamp(i64::try_from(micros).unwrap());
    at.to_datetime().format(3, true)
}

/// A moment as an HTTP date.
fn httpdate_of(micros: u64) -> String {
    let seconds = u32::try_from(micros / MICROS).unwrap();
    let stamp = relist_sim::format_timestamp(seconds);
    // 2023-11-14T22:13:20Z was a Tuesday; all moments here are of that day.
    let time = &stamp[11..19];
    assert!(stamp.starts_with("2023-11-14T"), "{stamp}");
    format!("Tue, 14 Nov 2023 {time} GMT")
}
