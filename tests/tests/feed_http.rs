//! HTTP as it goes wrong: every fault gives a whole page or a clear error, and the token stays
//! where it belongs.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use relist::error::{SourceError, SourceErrorKind};
use relist::schema::Schema;
use relist::source::{Page, PageRequest, PageSource, QueryOptions};
use relist::value::{DateTime, Value};
use relist_feed::{Limits, Profile, RetryPolicy, Token, WebApi};
use relist_tests::fault_server::{FaultServer, Framing, Reply, VirtualClock, gzip, gzip_bomb};
use relist_tests::odatapy::{Server, filters};

const CANARY: &str = "c4nary/T0ken+x==";
const MIB: usize = 1 << 20;

fn token() -> Token {
    Token::from_env_value("RELIST_TOKEN", CANARY).unwrap()
}

fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(2),
        read: Duration::from_secs(2),
        total: Duration::from_secs(10),
        body_bytes: 64 * MIB,
    }
}

fn once() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 1,
        ..RetryPolicy::default()
    }
}

/// A client with the usual retries.
fn api_at(root: &str, limits: Limits) -> WebApi {
    let profile = Profile::named("generic-reso").unwrap();
    WebApi::new(profile, root, token(), limits).unwrap()
}

/// A client that tries once.
fn api(server: &FaultServer) -> WebApi {
    api_at(&server.root(), limits()).with_retry(once())
}

fn query(filter: Option<&str>) -> PageRequest {
    PageRequest::Query {
        resource: "Property".to_owned(),
        options: QueryOptions {
            filter: filter.map(str::to_owned),
            ..QueryOptions::default()
        },
    }
}

fn next(link: &str) -> PageRequest {
    PageRequest::Next {
        resource: "Property".to_owned(),
        link: link.to_owned(),
    }
}

/// Fetches one page, once, from a server that gives this answer for ever.
fn fetch(reply: Reply) -> Result<Page, SourceError> {
    api(&FaultServer::replies(vec![reply])).fetch(&query(None))
}

fn failure(reply: Reply) -> SourceError {
    fetch(reply).unwrap_err()
}

fn rows(count: usize) -> String {
    let mut page = String::from(r#"{"@odata.context":"$metadata#Property","value":["#);
    for row in 0..count {
        let comma = if row == 0 { "" } else { "," };
        let city = row * 7919;
        write!(
            page,
            r#"{comma}{{"ListingKeyNumeric":{row},"City":"Sørby {city}"}}"#
        )
        .unwrap();
    }
    page.push_str("]}");
    page
}

#[test]
fn a_query_goes_over_the_wire_percent_encoded_with_its_headers() {
    let server = FaultServer::replies(vec![
        Reply::json(rows(2))
            .header("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
            .header("Link", r#"<Property?$skiptoken=2>; rel="next""#),
    ]);
    let mut api = api(&server);
    let options = QueryOptions {
        filter: Some("City eq 'O''Hare+&#%é' and A ge 1".to_owned()),
        orderby: Some("A desc,B".to_owned()),
        select: Some("A,B".to_owned()),
        expand: Some("Media($select=MediaURL;$top=1)".to_owned()),
        top: Some(7),
        count: true,
        page_size: Some(200),
    };
    let resource = "Property".to_owned();
    let page = api
        .fetch(&PageRequest::Query { resource, options })
        .unwrap();
    assert_eq!(page.body, rows(2).into_bytes());
    assert_eq!(page.server_time, DateTime::parse("1994-11-06T08:49:37Z"));
    assert_eq!(page.next_link.as_deref(), Some("Property?$skiptoken=2"));
    assert!(page.origin.starts_with(&server.root()), "{}", page.origin);

    let received = &server.received()[0];
    assert_eq!(received.method, "GET");
    assert_eq!(
        received.target,
        "/odata/Property?$filter=City%20eq%20%27O%27%27Hare%2B%26%23%25%C3%A9%27%20and%20A%20ge%201\
         &$orderby=A%20desc,B&$select=A,B&$expand=Media(%24select%3DMediaURL%3B%24top%3D1)&$top=7\
         &$count=true"
    );
    let bearer = format!("Bearer {CANARY}");
    assert_eq!(received.header("authorization"), Some(bearer.as_str()));
    assert_eq!(received.header("prefer"), Some("odata.maxpagesize=200"));
    assert_eq!(received.header("accept"), Some("application/json"));
    assert_eq!(received.header("accept-encoding"), Some("gzip"));
    assert_eq!(received.header("referer"), None);
    let agent = received.header("user-agent").unwrap();
    assert!(agent.starts_with("relist/"), "{agent}");

    let counters = api.stats().snapshot();
    assert_eq!((counters.requests, counters.retries), (1, 0));
    assert_eq!(counters.bytes, rows(2).len() as u64);
    assert_eq!(counters.last_status, Some(200));
}

#[test]
fn a_profile_adds_its_clauses_and_its_user_agent() {
    let text = "name = 'grid'\nwalk = 'nextlink'\nenum_literals = 'string'\nsync = []\n\
        user_agent = 'grid-agent'\nquery = { Replication = 'true' }\nvariables = { system = '' }\n\
        deletes = { by = 'none' }\nauth = { kind = 'bearer' }\n\
        filters = { every = \"System eq '{system}'\", initial = 'MlgCanView eq true' }\n\
        resources = { Property = { path = 'Property/replication' } }";
    let mut profile = Profile::from_toml(text, "grid.toml").unwrap();
    profile.set("system", "a'b").unwrap();
    let server = FaultServer::replies(vec![Reply::json(rows(0))]);
    let mut api = WebApi::new(profile, &server.root(), token(), limits()).unwrap();
    api.fetch(&query(Some("A eq 1"))).unwrap();
    api.fetch(&query(None)).unwrap();
    api.fetch(&next("replication?$skiptoken=2")).unwrap();
    let received = server.received();
    assert_eq!(
        received[0].target,
        "/odata/Property/replication?$filter=(System%20eq%20%27a%27%27b%27)%20and%20(A%20eq%201)\
         &Replication=true"
    );
    assert_eq!(
        received[1].target,
        "/odata/Property/replication?$filter=System%20eq%20%27a%27%27b%27&Replication=true"
    );
    assert_eq!(
        received[2].target,
        "/odata/Property/replication?$skiptoken=2"
    );
    assert_eq!(received[0].header("user-agent"), Some("grid-agent"));
}

#[test]
fn a_next_link_is_sent_as_the_server_wrote_it() {
    let server = FaultServer::replies(vec![Reply::json(rows(1))]);
    let mut api = api(&server);
    let absolute = format!(
        "{}/Property?%24skiptoken=a%2Fb%3d+c%20d&$top=2",
        server.root()
    );
    for (link, target) in [
        (
            absolute.as_str(),
            "/odata/Property?%24skiptoken=a%2Fb%3d+c%20d&$top=2",
        ),
        (
            "Property?$skiptoken=x%27y",
            "/odata/Property?$skiptoken=x%27y",
        ),
        ("/odata/Property?$skip=200", "/odata/Property?$skip=200"),
        ("?$skip=400", "/odata/Property?$skip=400"),
        (
            "Property?$filter=A gt 'b #4'",
            "/odata/Property?$filter=A%20gt%20%27b%20%234%27",
        ),
    ] {
        api.fetch(&next(link)).unwrap();
        assert_eq!(server.received().last().unwrap().target, target, "{link}");
    }
}

#[test]
fn a_next_link_elsewhere_gets_no_request() {
    let other = FaultServer::replies(vec![Reply::json(rows(1))]);
    let server = FaultServer::replies(vec![Reply::json(rows(1))]);
    let mut api = api(&server);
    let port = server.address().port();
    for link in [
        format!("{}/Property?$skip=2", other.root()),
        format!("//{}/odata/Property", other.address()),
        format!("http://localhost:{port}/odata/Property"),
        format!("https://127.0.0.1:{port}/odata/Property"),
        format!("http://127.0.0.1:{port}@{}/odata/Property", other.address()),
        format!("http://u:p@127.0.0.1:{port}/odata/Property"),
        "/other/Property".to_owned(),
        "../other".to_owned(),
        "Property/%2e%2e/%2E%2E/other".to_owned(),
        String::new(),
    ] {
        let error = api.fetch(&next(&link)).unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Malformed, "{link}: {error}");
    }
    assert_eq!(server.connections() + other.connections(), 0);
    assert_eq!(api.stats().snapshot().requests, 0);
}

#[test]
fn a_redirect_is_not_followed_and_gets_no_token() {
    let other = FaultServer::replies(vec![Reply::json(rows(1))]);
    for status in [301, 302, 303, 307, 308] {
        for (target, host) in [
            (
                format!("{}/Property?access_token={CANARY}", other.root()),
                "127.0.0.1",
            ),
            ("/elsewhere?back=1".to_owned(), "127.0.0.1"),
            (
                "https://login.example.com/?back=1".to_owned(),
                "login.example.com",
            ),
        ] {
            let reply = Reply::status(status).header("Location", &target);
            let server = FaultServer::replies(vec![reply]);
            let mut api = api_at(&server.root(), limits());
            let error = api.fetch(&query(None)).unwrap_err();
            assert_eq!(error.kind, SourceErrorKind::Malformed);
            let text = error.to_string();
            assert!(
                text.contains(&format!("{status} ")) && text.contains(host),
                "{text}"
            );
            assert!(!text.contains(CANARY) && !text.contains("back=1"), "{text}");
            assert_eq!(server.connections(), 1, "it is not tried again either");
        }
    }
    assert_eq!(other.connections(), 0);
}

#[test]
fn a_cut_body_is_never_a_page() {
    let body = rows(9).into_bytes();
    let mut cases = Vec::new();
    for framing in [Framing::Length, Framing::Chunked(100), Framing::Close] {
        let plain = Reply::json(body.clone()).framing(framing);
        for whole in [plain.clone(), plain.gzip()] {
            cases.extend((0..whole.framed_len()).map(|at| whole.clone().cut(at)));
        }
    }
    assert!(cases.len() > 1_500, "{}", cases.len());
    let script = cases.clone();
    let server = FaultServer::start(move |at, _| script[at].clone());
    let mut api = api(&server);
    let mut pages = 0;
    for case in &cases {
        match api.fetch(&query(None)) {
            // The last chunk, which is empty, can be cut when all of the page is there.
            Ok(page) => {
                assert_eq!(page.body, body, "{case:?}");
                pages += 1;
            }
            Err(error) => assert_eq!(error.kind, SourceErrorKind::Malformed, "{error}: {case:?}"),
        }
    }
    println!("{} cuts, {pages} whole pages", cases.len());
    assert_eq!(server.received().len(), cases.len());
    assert!(pages <= 10, "{pages}");
}

#[test]
fn whole_bodies_arrive_in_every_framing() {
    let body = rows(500).into_bytes();
    for framing in [
        Framing::Length,
        Framing::Chunked(1),
        Framing::Chunked(4096),
        Framing::Close,
    ] {
        let reply = Reply::json(body.clone()).framing(framing);
        assert_eq!(fetch(reply.clone()).unwrap().body, body, "{framing:?}");
        assert_eq!(fetch(reply.gzip()).unwrap().body, body, "{framing:?} gzip");
    }
}

#[test]
fn a_reset_is_tried_again_and_then_an_error() {
    let error = failure(Reply::reset());
    assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
    for framing in [Framing::Length, Framing::Chunked(64), Framing::Close] {
        let error = failure(Reply::json(rows(9)).framing(framing).cut(200).then_reset());
        assert_eq!(error.kind, SourceErrorKind::Malformed, "{error}");
    }
    let server = FaultServer::replies(vec![
        Reply::reset(),
        Reply::json(rows(9)).cut(20),
        Reply::json(rows(9)).cut(200).then_reset(),
        Reply::json(rows(9)),
    ]);
    let clock = VirtualClock::at(SystemTime::UNIX_EPOCH);
    let mut api = api_at(&server.root(), limits()).with_clock(clock.clone());
    assert_eq!(api.fetch(&query(None)).unwrap().body, rows(9).into_bytes());
    assert_eq!(clock.waits().len(), 3);
    assert_eq!(api.stats().snapshot().retries, 3);
}

/// `RELIST_BOMB_GIB` sets how large it is (1). Alone in its process, the peak is the bomb's own:
/// `feed_http a_bomb_is --exact --nocapture`.
#[test]
fn a_bomb_is_stopped_at_the_cap() {
    let gib: usize = std::env::var("RELIST_BOMB_GIB").map_or(1, |text| text.parse().unwrap());
    let bomb = gzip_bomb(1024 * gib);
    let mut start = vec![0; 3 * MIB];
    let mut decoder = flate2::read::GzDecoder::new(bomb.as_slice());
    std::io::Read::read_exact(&mut decoder, &mut start).unwrap();
    assert!(start.iter().all(|b| *b == b' '), "the bomb goes off");
    assert!(bomb.len() < 3 * gib * MIB, "{}", bomb.len());

    let reply = Reply::json(bomb).header("Content-Encoding", "gzip");
    let server = FaultServer::replies(vec![reply]);
    let mut api = api_at(&server.root(), limits());
    let error = api.fetch(&query(None)).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Malformed);
    assert!(
        error.reason.contains("larger than 67108864 bytes"),
        "{error}"
    );
    assert_eq!(server.connections(), 1, "a bomb is not fetched again");
    let bytes = api.stats().snapshot().bytes;
    assert!(bytes <= 65 * MIB as u64, "{bytes}");
    if let Some(peak) = peak_mib() {
        println!("peak memory {peak} MiB");
        assert!(peak < 250, "{peak} MiB");
    }
}

/// Peak resident memory of this process, where the system tells it.
fn peak_mib() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

#[test]
fn an_endless_body_is_stopped_at_the_cap() {
    let small = Limits {
        body_bytes: 5 * MIB,
        ..limits()
    };
    let spaces = Reply::json(vec![b' '; 65_536]);
    for framing in [Framing::Chunked(65_536), Framing::Close] {
        let server = FaultServer::replies(vec![spaces.clone().framing(framing).endless()]);
        let error = api_at(&server.root(), small)
            .fetch(&query(None))
            .unwrap_err();
        assert!(error.reason.contains("larger than"), "{error}");
        assert_eq!(server.connections(), 1);
    }
    let announced = Reply::json("{").framing(Framing::Close);
    let announced = announced
        .header("Content-Length", "99999999999")
        .then_stall();
    let started = Instant::now();
    let error = failure(announced);
    assert!(error.reason.contains("larger than"), "{error}");
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "it did not wait for the body"
    );
}

#[test]
fn an_endless_head_is_refused() {
    let huge = Reply::json(rows(1)).header("X-Filler", &"x".repeat(4 * MIB));
    let error = failure(huge);
    assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
    let mut many = Reply::json(rows(1));
    for at in 0..5_000 {
        many = many.header(&format!("X-{at}"), "y");
    }
    let error = failure(many);
    assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
}

#[test]
fn slow_servers_meet_the_limits() {
    let ms = Duration::from_millis;
    let short = Limits {
        read: ms(200),
        total: ms(600),
        ..limits()
    };
    let page = Reply::json(rows(9));
    for (reply, expect) in [
        (Reply::silence(), "no answer within 200 ms"),
        (
            page.clone().cut(100).then_stall(),
            "the body stopped for 200 ms after 100 bytes",
        ),
        (page.clone().pace(1, ms(50)), "not complete within 600 ms"),
        (
            page.clone().framing(Framing::Chunked(1)).pace(6, ms(50)),
            "within 600 ms",
        ),
        // Few bytes of a gzip stream give none of the body.
        (
            page.gzip().pace(1, ms(50)),
            "the body stopped for 200 ms after 0 bytes",
        ),
    ] {
        let server = FaultServer::replies(vec![reply]);
        let mut api = api_at(&server.root(), short).with_retry(once());
        let started = Instant::now();
        let error = api.fetch(&query(None)).unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
        assert!(error.reason.contains(expect), "{error}");
        assert!(
            started.elapsed() < ms(1500),
            "{expect}: {:?}",
            started.elapsed()
        );
    }
}

#[test]
fn a_refused_connection_is_tried_again_and_named() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let clock = VirtualClock::at(SystemTime::UNIX_EPOCH);
    let root = format!("http://127.0.0.1:{port}/odata");
    let mut api = api_at(&root, limits()).with_clock(clock.clone());
    let error = api.fetch(&query(None)).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
    let text = error.to_string();
    assert!(
        text.contains("cannot connect") && text.contains("tried 6 times"),
        "{text}"
    );
    assert_eq!(clock.waits().len(), 5);
    for (wait, longest) in clock.waits().iter().zip([1, 2, 4, 8, 16]) {
        assert!(*wait <= Duration::from_secs(longest), "{:?}", clock.waits());
    }
    let counters = api.stats().snapshot();
    assert_eq!((counters.requests, counters.retries), (6, 5));
    let waited: Duration = clock.waits().iter().sum();
    assert!(counters.waited.abs_diff(waited) < Duration::from_millis(1));
    assert_eq!(counters.last_status, None);
}

#[test]
fn three_failures_then_a_page() {
    let oops = Reply::status(500)
        .header("Content-Type", "text/html")
        .body("<html>oops</html>");
    let server = FaultServer::replies(vec![
        oops.clone(),
        Reply::status(503).header("Retry-After", "40"),
        oops,
        Reply::json(rows(3)),
    ]);
    let clock = VirtualClock::at(SystemTime::UNIX_EPOCH);
    let mut api = api_at(&server.root(), limits()).with_clock(clock.clone());
    assert_eq!(api.fetch(&query(None)).unwrap().body, rows(3).into_bytes());
    assert_eq!(clock.waits().len(), 3);
    assert_eq!(clock.waits()[1], Duration::from_secs(40));
    assert_eq!(api.stats().snapshot().retries, 3);
}

#[test]
fn retry_after_is_honoured_in_each_form() {
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    // The machine's clock may be a day off either way: a server's own `Date` is what its date is
    // read by.
    let day = Duration::from_hours(24);
    for (value, clock_with_date, least, most) in [
        (Some("7"), None, 7, 7),
        (Some("Sun, 06 Nov 1994 08:49:57 GMT"), None, 20, 20),
        (
            Some("Sun, 06 Nov 1994 08:49:57 GMT"),
            Some(wall + day),
            20,
            20,
        ),
        (
            Some("Sun, 06 Nov 1994 08:49:57 GMT"),
            Some(wall - day),
            20,
            20,
        ),
        (
            Some("Sun, 06 Nov 1994 08:00:00 GMT"),
            Some(wall - day),
            0,
            1,
        ),
        (Some("0"), None, 0, 1),
        (Some("soon"), None, 0, 1),
        (Some("-3"), None, 0, 1),
        (None, None, 0, 1),
    ] {
        let mut limited = Reply::status(429);
        if let Some(value) = value {
            limited = limited.header("Retry-After", value);
        }
        if clock_with_date.is_some() {
            limited = limited.header("Date", date);
        }
        let clock = VirtualClock::at(clock_with_date.unwrap_or(wall));
        let server = FaultServer::replies(vec![limited, Reply::json(rows(1))]);
        let mut api = api_at(&server.root(), limits()).with_clock(clock.clone());
        api.fetch(&query(None)).unwrap();
        let waits = clock.waits();
        assert_eq!(waits.len(), 1, "{value:?}");
        let (least, most) = (Duration::from_secs(least), Duration::from_secs(most));
        assert!(
            waits[0] >= least && waits[0] <= most,
            "{value:?} gave {waits:?}"
        );
        assert_eq!(api.stats().snapshot().throttled, 1);
    }
}

#[test]
fn a_wait_beyond_the_budget_ends_it_at_once() {
    for value in [
        "901",
        "86400",
        "99999999999999999999999",
        "Sun, 06 Nov 2050 08:49:37 GMT",
    ] {
        let server = FaultServer::replies(vec![Reply::status(429).header("Retry-After", value)]);
        let clock = VirtualClock::at(SystemTime::UNIX_EPOCH);
        let mut api = api_at(&server.root(), limits()).with_clock(clock.clone());
        let error = api.fetch(&query(None)).unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Unavailable);
        assert!(
            error.reason.contains("set aside for waiting"),
            "{value}: {error}"
        );
        assert_eq!(
            (clock.waits().len(), server.connections()),
            (0, 1),
            "{value}"
        );
    }
    // Under a budget that allows it, no server can ask for more than an hour.
    let limited = Reply::status(429).header("Retry-After", "86400");
    let server = FaultServer::replies(vec![limited, Reply::json(rows(1))]);
    let clock = VirtualClock::at(SystemTime::UNIX_EPOCH);
    let patient = RetryPolicy {
        wait_budget: Duration::from_hours(2),
        ..RetryPolicy::default()
    };
    let api = api_at(&server.root(), limits());
    let mut api = api.with_clock(clock.clone()).with_retry(patient);
    api.fetch(&query(None)).unwrap();
    assert_eq!(clock.waits(), [Duration::from_hours(1)]);
}

#[test]
fn the_breaker_stops_asking_a_server_that_says_429() {
    let server = FaultServer::replies(vec![Reply::status(429)]);
    let clock = VirtualClock::at(SystemTime::UNIX_EPOCH);
    let mut api = api_at(&server.root(), limits()).with_clock(clock.clone());
    let error = api.fetch(&query(None)).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
    assert!(error.reason.contains("429 in a row"), "{error}");
    assert_eq!(server.connections(), 3);
    // A clone shares the breaker; further requests do not leave.
    let error = api.clone().fetch(&query(None)).unwrap_err();
    assert!(error.reason.contains("nothing is sent for"), "{error}");
    assert_eq!(server.connections(), 3);
    // When the hold is over one request goes, and one more 429 closes the door again.
    relist_feed::Clock::sleep(&*clock, Duration::from_secs(901), &AtomicBool::new(false));
    api.fetch(&query(None)).unwrap_err();
    assert_eq!(server.connections(), 4);
    api.fetch(&query(None)).unwrap_err();
    assert_eq!(server.connections(), 4);
}

#[test]
fn refusals_are_told_apart_and_not_repeated() {
    use SourceErrorKind as K;
    let says = |status: u16| {
        Reply::status(status)
            .header("Content-Type", "application/json")
            .body(r#"{"error":{"code":"E7","message":"because"}}"#)
    };
    for (status, of_query, of_link) in [
        (400, K::Refused, K::LinkExpired),
        (401, K::Unauthorized, K::Unauthorized),
        (403, K::Unauthorized, K::Unauthorized),
        (404, K::NotFound, K::LinkExpired),
        (410, K::NotFound, K::LinkExpired),
        (414, K::Refused, K::Refused),
        (501, K::Refused, K::Refused),
    ] {
        let server = FaultServer::replies(vec![says(status)]);
        let mut api = api_at(&server.root(), limits());
        let error = api.fetch(&query(Some("A eq 1"))).unwrap_err();
        assert_eq!(error.kind, of_query, "{status}");
        assert!(error.reason.contains("E7: because"), "{error}");
        assert!(error.reason.contains(&status.to_string()), "{error}");
        assert!(
            error.request.contains("/odata/Property?$filter=A%20eq%201"),
            "{error}"
        );
        assert_eq!(
            api.fetch(&next("?$skip=2")).unwrap_err().kind,
            of_link,
            "{status}"
        );
        assert_eq!(server.connections(), 2, "{status} is not tried again");
    }
    let html = "<!DOCTYPE html><title>Not here</title>";
    let error = failure(
        Reply::status(404)
            .header("Content-Type", "text/html")
            .body(html),
    );
    assert_eq!(error.kind, K::NotFound);
    assert!(
        error.reason.contains("an HTML page, \"Not here\""),
        "{error}"
    );
    // The error's own body is cut short: the status still tells.
    assert_eq!(failure(says(401).cut(5)).kind, K::Unauthorized);
    assert_eq!(failure(says(401).cut(5).then_reset()).kind, K::Unauthorized);
}

#[test]
fn a_200_that_is_no_page_is_tried_again_and_then_malformed() {
    let html = Reply::status(200).header("Content-Type", "text/html");
    for (expect, reply) in [
        ("HTML", html.body("<html>hi</html>")),
        ("HTML", Reply::json("  <!doctype html><html></html>")),
        ("empty body", Reply::json("")),
        ("empty body", Reply::json(" \n").framing(Framing::Close)),
        ("empty body", Reply::json("").gzip()),
        (
            "E1: late",
            Reply::json(r#"{"error":{"code":"E1","message":"late"}}"#),
        ),
        (
            "E1: late",
            Reply::json(r#"{"value":[],"error":{"code":"E1","message":"late"}}"#),
        ),
        ("<Error>", Reply::json("<Error>no</Error>")),
        ("204", Reply::status(204)),
        ("202", Reply::status(202).body("{\"value\":[]}")),
        ("206", Reply::status(206).body("{\"value\":[]}")),
        ("middle of the JSON", Reply::json(r#"{"value":[{"A":1}"#)),
        (
            "early",
            Reply::json("{\"value\":[]}").header("Content-Encoding", "gzip"),
        ),
    ] {
        let server = FaultServer::replies(vec![reply.clone(), reply.clone(), Reply::json(rows(1))]);
        let clock = VirtualClock::at(SystemTime::UNIX_EPOCH);
        let mut api = api_at(&server.root(), limits()).with_clock(clock.clone());
        assert_eq!(
            api.fetch(&query(None)).unwrap().body,
            rows(1).into_bytes(),
            "{expect}"
        );
        assert_eq!(clock.waits().len(), 2, "{expect}");
        let error = failure(reply);
        assert_eq!(error.kind, SourceErrorKind::Malformed, "{error}");
        assert!(error.reason.contains(expect), "{expect}: {error}");
    }
}

#[test]
fn a_stop_is_noticed_in_a_wait_and_in_a_body() {
    let server = FaultServer::replies(vec![Reply::status(500)]);
    let clock = VirtualClock::stopping_at(1);
    let mut api = api_at(&server.root(), limits()).with_clock(clock.clone());
    let error = api.fetch(&query(None)).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Stopped);
    assert_eq!((clock.waits().len(), server.connections()), (2, 2));

    let drip = Reply::json(vec![b' '; 100])
        .framing(Framing::Chunked(1))
        .endless();
    let later = Reply::status(503).header("Retry-After", "600");
    for reply in [drip.pace(6, Duration::from_millis(5)), later] {
        let server = FaultServer::replies(vec![reply]);
        let stop = Arc::new(AtomicBool::new(false));
        let mut api = api_at(&server.root(), limits()).with_stop(Arc::clone(&stop));
        let started = Instant::now();
        let running = std::thread::spawn(move || api.fetch(&query(None)));
        std::thread::sleep(Duration::from_millis(150));
        stop.store(true, Ordering::SeqCst);
        assert_eq!(
            running.join().unwrap().unwrap_err().kind,
            SourceErrorKind::Stopped
        );
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn the_token_is_in_no_error_and_no_debug_output() {
    let escaped = CANARY.replace('/', "\\/");
    let encoded = "c4nary%2FT0ken%2Bx%3D%3D";
    let echo = format!("no entry for {CANARY} or {escaped} or {encoded}");
    let json = format!(r#"{{"error":{{"code":"{escaped}","message":"{escaped} {CANARY}"}}}}"#);
    let title = format!("<html><title>{CANARY}</title>{CANARY}</html>");
    let clean = |text: String| assert!(!text.contains("T0ken"), "{text}");
    for reply in [
        Reply::status(401).body(echo.clone()),
        Reply::status(400).body(json.clone()),
        Reply::status(500)
            .body(title.clone())
            .header("Content-Type", "text/html"),
        Reply::status(403).body("x".repeat(295) + &echo),
        Reply::status(429)
            .body(echo.clone())
            .header("Retry-After", CANARY),
        Reply::status(302).header("Location", &format!("http://x/{CANARY}")),
        Reply::status(302).header("Location", "http://c4nary-T0ken.example/"),
        Reply::status(302).header("Location", CANARY),
        Reply::json(json),
        Reply::json(title),
        Reply::json("{").header("Content-Encoding", CANARY),
        Reply::json(rows(3)).cut(10),
        Reply::reset(),
        Reply::json(rows(3)).header("X-Bad\u{1}", CANARY),
    ] {
        let server = FaultServer::replies(vec![reply]);
        let mut api = api(&server);
        for request in [
            query(Some(&format!("A eq '{CANARY}'"))),
            next(&format!("?access_token={encoded}&$skiptoken={CANARY}")),
        ] {
            let error = api.fetch(&request).unwrap_err();
            clean(format!("{error} {error:?}"));
        }
        clean(format!(
            "{api:?} {:?} {:?} {:?}",
            api.stats(),
            api.profile(),
            token()
        ));
        // The canary did go out, so there was something to leak.
        let bearer = format!("Bearer {CANARY}");
        assert_eq!(
            server.received()[0].header("authorization"),
            Some(bearer.as_str())
        );
    }
    let server = FaultServer::replies(vec![Reply::json(rows(1))]);
    let link = next(&format!("?access_token={encoded}&x=2"));
    let page = api(&server).fetch(&link).unwrap();
    assert!(
        page.origin.ends_with("?access_token=[token]&x=2"),
        "{}",
        page.origin
    );
    for elsewhere in [
        format!("http://h.example/{CANARY}?t={CANARY}"),
        format!("/elsewhere/{CANARY}"),
    ] {
        clean(
            api(&server)
                .fetch(&next(&elsewhere))
                .unwrap_err()
                .to_string(),
        );
    }
}

#[test]
fn https_to_a_server_without_tls_shows_it_nothing() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let root = format!("https://{}/odata", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = vec![0; 65_536];
        let count = stream.read(&mut seen).unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        drop(stream);
        seen.truncate(count);
        seen
    });
    let mut api = api_at(&root, limits()).with_retry(once());
    let error = api.fetch(&query(None)).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
    assert!(error.reason.contains("cannot connect"), "{error}");
    let seen = String::from_utf8_lossy(&server.join().unwrap()).into_owned();
    assert!(!seen.is_empty() && !seen.contains("Bearer") && !seen.contains("T0ken"));
}

#[test]
fn documents_entities_and_navigation() {
    let server = FaultServer::start(|_, request| match request.target.as_str() {
        "/odata" => Reply::json(r#"{"value":[{"name":"Property"},{"name":"Member"}]}"#),
        "/odata/$metadata" => Reply::status(200)
            .header("Content-Type", "application/xml")
            .body("<?xml version='1.0'?><edmx:Edmx/>"),
        "/odata/Property(42)" => Reply::json(r#"{"ListingKeyNumeric":42}"#),
        "/odata/Media('a%2Fb%27%27c')" => Reply::json(r#"{"MediaKey":"a/b'c"}"#),
        "/odata/Property(42)/Media" => Reply::json(r#"{"value":[{"MediaKey":"1"}]}"#),
        _ => Reply::status(404),
    });
    let api = api(&server);
    // This server knows its root without the slash only.
    assert_eq!(api.service_document().unwrap(), ["Property", "Member"]);
    assert!(api.metadata().unwrap().starts_with(b"<?xml"));
    let entity = api.entity("Property", &Value::Int(42)).unwrap();
    assert_eq!(entity.body, br#"{"ListingKeyNumeric":42}"#);
    assert!(api.entity("Media", &Value::str("a/b'c")).is_ok());
    assert!(api.navigation("Property", &Value::Int(42), "Media").is_ok());
    let missing = api.entity("Property", &Value::Int(43)).unwrap_err();
    assert_eq!(missing.kind, SourceErrorKind::NotFound);
    let wrong = api.entity("Property", &Value::Null).unwrap_err();
    assert_eq!(wrong.kind, SourceErrorKind::Refused);
    assert!(api.entity("../x", &Value::Int(1)).is_err());
}

#[test]
fn what_the_decoder_should_see_is_passed_on_as_it_is() {
    for body in [
        "{\"value\":7}",
        "{\"value\":[NaN]}",
        "\u{feff}{\"value\":[]}",
        "{}",
        "[]",
    ] {
        assert_eq!(fetch(Reply::json(body)).unwrap().body, body.as_bytes());
        let zipped = Reply::json(gzip(body.as_bytes())).header("Content-Encoding", "gzip");
        assert_eq!(fetch(zipped).unwrap().body, body.as_bytes());
    }
}

/// Walks a query of keys to its end.
fn walk(api: &mut WebApi, filter: Option<&str>) -> Vec<i64> {
    let mut keys = Vec::new();
    let resource = "Property".to_owned();
    let options = QueryOptions {
        filter: filter.map(str::to_owned),
        select: Some("ListingKeyNumeric".to_owned()),
        ..QueryOptions::default()
    };
    let mut request = Some(PageRequest::Query { resource, options });
    while let Some(at) = request {
        let page = api.fetch(&at).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&page.body).unwrap();
        let rows = body["value"].as_array().unwrap().iter();
        keys.extend(rows.map(|row| row["ListingKeyNumeric"].as_i64().unwrap()));
        request = body["@odata.nextLink"].as_str().map(next);
    }
    keys.sort_unstable();
    keys
}

#[test]
fn a_server_that_is_not_ours_understands_our_requests() {
    let test = "a_server_that_is_not_ours_understands_our_requests";
    let Some(server) = Server::start(test, env!("CARGO_TARGET_TMPDIR"), 450) else {
        return;
    };
    let mut api = api_at(&server.url(), limits());
    let schema = Schema::from_metadata(&api.metadata().unwrap()).unwrap();
    assert_eq!(
        schema.resource("Property").unwrap().key_field,
        "ListingKeyNumeric"
    );
    let sets = api.service_document().unwrap();
    assert!(sets.iter().any(|set| set == "Property"), "{sets:?}");
    let all = walk(&mut api, None);
    assert_eq!(all.len(), 450);
    assert!(
        api.stats().snapshot().requests > 3,
        "it walked over several pages"
    );
    for filter in filters() {
        let theirs = server.keys(Some(&filter.theirs)).unwrap();
        assert_eq!(walk(&mut api, Some(&filter.theirs)), theirs, "{filter:?}");
    }
    let entity = api.entity("Property", &Value::Int(all[7])).unwrap();
    let entity: serde_json::Value = serde_json::from_slice(&entity.body).unwrap();
    assert_eq!(entity["ListingKeyNumeric"].as_i64(), Some(all[7]));
    let missing = api.entity("Property", &Value::Int(-1)).unwrap_err();
    assert_eq!(missing.kind, SourceErrorKind::NotFound, "{missing}");
    let wrong = api.fetch(&query(Some("NoSuchField eq 1"))).unwrap_err();
    assert_eq!(wrong.kind, SourceErrorKind::Refused, "{wrong}");
}
