//! Records fetched again by their keys: a result for each, nothing else touched.

use std::sync::{Arc, Mutex};

use relist::keycode::Key;
use relist::source::PageSource;
use relist::store::{Outcome, RunReport};
use relist::sync::{Policy, Refresh, Related, SyncMode, SyncOptions};
use relist::value::Timestamp;
use relist_sim::{Event, Market, Options, Response, Size};
use relist_tests::mirror::{Mirror, listings};

#[test]
fn keys_are_refreshed_with_what_belongs_to_them() {
    let market = Arc::new(Mutex::new(Market::new(3, Size::listings(60))));
    let options = Options {
        intercept: Some(Box::new(|request| {
            let bad = request
                .options()
                .iter()
                .any(|(_, v)| v.ends_with("eq 424242"));
            bad.then(|| Response::error(400, "not this one"))
        })),
        ..Options::default()
    };
    let mirror = Mirror::new(Arc::clone(&market), options);
    mirror.sync("Property", SyncMode::Auto).unwrap();
    mirror.sync("OpenHouse", SyncMode::Auto).unwrap();
    let keys: Vec<u32> = market.lock().unwrap().keys().take(4).collect();
    {
        let mut market = market.lock().unwrap();
        // No stamp moves; an open house comes; a row is gone without a word.
        assert!(market.play(keys[0], Event::CorrectTax));
        assert!(market.play(keys[1], Event::AnnounceOpenHouse) || keys.len() == 4);
        assert!(market.play(keys[2], Event::Vanish));
    }
    let mut asked: Vec<Key> = keys.iter().map(|k| Key::Int(i64::from(*k))).collect();
    asked.push(Key::Int(424_242));
    let related = [Related {
        resource: "OpenHouse".into(),
        field: "ListingKeyNumeric".into(),
        policy: Policy::default(),
    }];
    let now = || Timestamp(5);
    let sync = SyncOptions {
        mode: SyncMode::Auto,
        max_pages: None,
        confirm: false,
        now: &now,
    };
    let connect = || Box::new(mirror.api()) as Box<dyn PageSource>;
    let policy = Policy::default();
    let wanted = Refresh {
        resource: "Property",
        keys: &asked,
        related: &related,
        policy: &policy,
        in_flight: 3,
    };
    let (report, results) = mirror
        .store
        .refresh(&wanted, &connect, &sync, &mut |_: &RunReport| {})
        .unwrap();
    assert_eq!(results.len(), 5);
    assert!(matches!(&report.outcome, Outcome::Degraded(why) if why.contains("1 of 5 keys")));
    assert_eq!(report.deleted, 1);
    assert!(report.updated >= 1, "{report:?}");
    for result in &results {
        let expected = match &result.key {
            Key::Int(424_242) => None,
            Key::Int(k) if *k == i64::from(keys[2]) => Some(0),
            _ => Some(1),
        };
        assert_eq!(
            result.outcome.as_ref().ok().map(|c| c[0].1),
            expected,
            "{result:?}"
        );
        assert!(result.outcome.as_ref().is_ok_and(|c| c[1].0 == "OpenHouse") || expected.is_none());
    }
    let total = report.applied() + report.unchanged + report.quarantined + report.flagged;
    assert_eq!(report.records, total);
    mirror.verify();
}

/// Refreshes two keys of a feed that says something else about the first.
fn refresh_of(
    lie: impl Fn(&relist_sim::Request) -> Option<Response> + Send + Sync + 'static,
    gone: bool,
) -> (RunReport, Vec<relist::sync::Refreshed>, usize) {
    let rows = listings(10, |_| "2026-02-01T00:00:00Z".to_owned());
    let on = Arc::new(Mutex::new(false));
    let lying = Arc::clone(&on);
    let options = Options {
        intercept: Some(Box::new(move |request| {
            let lies = *lying.lock().unwrap();
            if lies { lie(request) } else { None }
        })),
        ..Options::default()
    };
    let mirror = Mirror::new(Arc::new(Mutex::new(rows)), options);
    mirror.sync("Property", SyncMode::Auto).unwrap();
    if gone {
        mirror
            .rows
            .lock()
            .unwrap()
            .remove("Property", &relist_sim::Key::Int(3));
    }
    *on.lock().unwrap() = true;
    let now = || Timestamp(5);
    let sync = SyncOptions {
        mode: SyncMode::Auto,
        max_pages: None,
        confirm: false,
        now: &now,
    };
    let connect = || Box::new(mirror.api()) as Box<dyn PageSource>;
    let wanted = Refresh {
        resource: "Property",
        keys: &[Key::Int(3), Key::Int(4)],
        related: &[],
        policy: &Policy::default(),
        in_flight: 2,
    };
    let quiet = &mut |_: &RunReport| {};
    let (report, results) = mirror
        .store
        .refresh(&wanted, &connect, &sync, quiet)
        .unwrap();
    mirror.verify();
    (report, results, mirror.records("Property").len())
}

fn about_three(request: &relist_sim::Request) -> bool {
    let line = request.line();
    line.contains("eq 3") || line.contains("(3)")
}

#[test]
fn one_empty_answer_deletes_nothing() {
    let empty = || Response::new(200, "application/json", "{\"value\":[]}");
    // The query finds nothing, the record itself is there.
    let lie = move |request: &relist_sim::Request| request.line().contains("eq 3").then(empty);
    let (report, results, left) = refresh_of(lie, false);
    assert_eq!((report.deleted, left), (0, 10));
    assert!(results[1].outcome.is_ok());
    let error = results[0].outcome.as_ref().unwrap_err().to_string();
    assert!(error.contains("another finds it"), "{error}");
    assert!(matches!(report.outcome, Outcome::Degraded(_)));
    // Neither way finds it: it is gone.
    let (report, results, left) = refresh_of(|_| None, true);
    assert_eq!(
        (report.deleted, left, report.outcome),
        (1, 9, Outcome::Complete)
    );
    assert_eq!(results[0].outcome.as_ref().unwrap()[0].1, 0);
}

#[test]
fn what_a_server_refuses_to_say_is_asked_by_another_query() {
    let refused = |request: &relist_sim::Request| {
        request
            .line()
            .contains("(3)")
            .then(|| Response::error(400, "no keys here"))
    };
    let (report, _, left) = refresh_of(refused, true);
    assert_eq!((report.deleted, left), (1, 9));
    // The other query is the only one that tells the truth.
    let lie = move |request: &relist_sim::Request| {
        let whole = request.line().contains("eq 3") && !request.line().contains("$select");
        if whole {
            return Some(Response::new(200, "application/json", "{\"value\":[]}"));
        }
        refused(request)
    };
    let (report, _, left) = refresh_of(lie, false);
    assert_eq!((report.deleted, left), (0, 10));
}

#[test]
fn a_refusal_or_another_record_is_no_deletion() {
    let other = "{\"value\":[{\"ListingKeyNumeric\":9,\"ListPrice\":1}]}";
    let lies: [fn(&relist_sim::Request) -> Response; 3] = [
        |_| Response::error(403, "not yours"),
        |_| Response::error(401, "who are you"),
        |_| Response::error(503, "later"),
    ];
    for lie in lies {
        let (report, results, left) = refresh_of(
            move |request| about_three(request).then(|| lie(request)),
            true,
        );
        assert_eq!((report.deleted, left), (0, 10));
        assert!(results[0].outcome.is_err());
    }
    let (report, results, left) = refresh_of(
        move |r| about_three(r).then(|| Response::new(200, "application/json", other)),
        true,
    );
    assert_eq!((report.deleted, report.updated, left), (0, 0, 10));
    let error = results[0].outcome.as_ref().unwrap_err().to_string();
    assert!(error.contains("ignores $filter"), "{error}");
}
