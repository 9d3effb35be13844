//! What no stamp tells: rows that vanish, edits without a stamp, rows that say they are gone.

use std::sync::{Arc, Mutex};

use relist::ingest::GoneMark;
use relist::keycode::Key;
use relist::store::{Cause, Operation, Outcome, RunKind, RunReport};
use relist::sync::{SyncMode, SyncOptions};
use relist::value::Timestamp;
use relist_sim::{Backend as _, Dataset, Options, Response};
use relist_tests::mirror::{Mirror, listings};
use serde_json::json;

fn stamp(second: i64) -> String {
    format!("2026-02-01T00:{:02}:{:02}Z", second / 60 % 60, second % 60)
}

fn mirror(n: i64) -> Mirror<Dataset> {
    let mirror = Mirror::new(Arc::new(Mutex::new(listings(n, stamp))), Options::default());
    mirror.sync("Property", SyncMode::Auto).unwrap();
    mirror
}

fn row(key: i64, price: i64, second: i64) -> serde_json::Value {
    json!({"ListingKeyNumeric": key, "ListPrice": price, "StandardStatus": "Active",
        "ModificationTimestamp": stamp(second)})
}

#[test]
fn a_reconcile_finds_what_vanished_and_what_came_late() {
    let mirror = mirror(1_000);
    {
        let mut rows = mirror.rows.lock().unwrap();
        for key in [5, 500, 999] {
            assert!(rows.remove("Property", &relist_sim::Key::Int(key)));
        }
        // A row that came with an old stamp, and an edit stamped before the overlap.
        rows.put("Property", &row(2_000, 1, 0)).unwrap();
        rows.put("Property", &row(7, 77, 1)).unwrap();
    }
    let report = mirror.sync("Property", SyncMode::Auto).unwrap();
    assert_eq!(report.deleted, 0);
    let before = mirror.server.request_count();
    let report = mirror.sync("Property", SyncMode::Reconcile).unwrap();
    assert_eq!(report.outcome, Outcome::Complete);
    assert_eq!(
        (report.checked, report.deleted, report.inserted),
        (998, 3, 1)
    );
    // 5 pages of keys, the empty one, one for what differs, one for what is missing.
    assert!(mirror.server.request_count() - before <= 8);
    let snapshot = mirror.store.snapshot().unwrap();
    let changes = snapshot.changes_of("Property", &Key::Int(500)).unwrap();
    let last = changes.last().unwrap();
    assert_eq!(
        (last.operation, last.cause),
        (Operation::Delete, Cause::Reconcile)
    );
    let seven = snapshot.get("Property", &Key::Int(7)).unwrap().unwrap();
    assert_eq!(seven.get("ListPrice").unwrap().to_string(), "77");
    let again = mirror.sync("Property", SyncMode::Reconcile).unwrap();
    assert_eq!((again.records, again.deleted, again.checked), (0, 0, 998));
    mirror.verify();
}

#[test]
fn a_reconcile_of_a_shrunken_feed_is_braked() {
    let mirror = mirror(1_000);
    {
        let mut rows = mirror.rows.lock().unwrap();
        for key in 1..=60 {
            rows.remove("Property", &relist_sim::Key::Int(key));
        }
    }
    let report = mirror.sync("Property", SyncMode::Reconcile).unwrap();
    assert_eq!(report.deleted, 0);
    assert!(matches!(report.outcome, Outcome::Degraded(why) if why.contains("60 of 1000")));
}

#[test]
fn a_deep_run_finds_edits_that_moved_no_stamp() {
    let mirror = mirror(700);
    {
        let mut rows = mirror.rows.lock().unwrap();
        for key in 1..=700 {
            if key % 7 == 0 {
                rows.put("Property", &row(key, 9, key)).unwrap();
            }
        }
        rows.remove("Property", &relist_sim::Key::Int(300));
    }
    let report = mirror.sync("Property", SyncMode::Reconcile).unwrap();
    assert_eq!((report.updated, report.deleted), (0, 1));
    let mut found = 0;
    for slice in 1..=4 {
        let report = mirror
            .sync("Property", SyncMode::Deep { slice, of: 4 })
            .unwrap();
        assert_eq!(report.outcome, Outcome::Complete);
        assert!(report.records <= 180, "{}", report.records);
        found += report.updated;
    }
    assert_eq!(found, 100);
    assert!(
        mirror
            .sync("Property", SyncMode::Deep { slice: 5, of: 4 })
            .is_err()
    );
    mirror.verify();
}

#[test]
fn a_record_that_says_it_is_gone_is_deleted() {
    let mut mirror = mirror(10);
    mirror.policy.gone = Some(GoneMark {
        field: "MlgCanView".into(),
        value: "false".into(),
    });
    let stamped = |key: i64, view: bool| {
        json!({"ListingKeyNumeric": key, "ListPrice": 1, "MlgCanView": view,
            "ModificationTimestamp": "2026-02-01T01:00:00Z"})
    };
    {
        let mut rows = mirror.rows.lock().unwrap();
        rows.put("Property", &stamped(3, false)).unwrap();
        rows.put("Property", &stamped(4, true)).unwrap();
        rows.put("Property", &stamped(99, false)).unwrap();
    }
    let report = mirror.sync("Property", SyncMode::Auto).unwrap();
    assert_eq!((report.flagged, report.deleted, report.updated), (2, 1, 1));
    let total = report.applied() + report.unchanged + report.quarantined + report.flagged;
    assert_eq!(report.records, total);
    let snapshot = mirror.store.snapshot().unwrap();
    assert!(snapshot.get("Property", &Key::Int(3)).unwrap().is_none());
    let tombstones = snapshot.tombstones("Property").unwrap();
    assert_eq!(tombstones.len(), 2);
    assert_eq!(tombstones[0].1.reason, "MlgCanView is false");
    mirror.verify();
}

#[test]
fn a_full_walk_that_goes_on_over_a_live_store_still_finds_what_vanished() {
    let mirror = mirror(1_000);
    let now = || Timestamp(i64::from(mirror.rows.lock().unwrap().now()) * 1_000_000);
    let part = SyncOptions {
        mode: SyncMode::Full,
        max_pages: Some(3),
        confirm: false,
        now: &now,
    };
    let mut api = mirror.api();
    let quiet = &mut |_: &RunReport| {};
    let cut = mirror
        .store
        .sync("Property", &mut api, &mirror.policy, &part, quiet);
    assert!(matches!(cut.unwrap().outcome, Outcome::Degraded(why) if why.contains("stopped")));
    {
        // One behind the walk's place, one before it; no list tells.
        let mut rows = mirror.rows.lock().unwrap();
        for key in [5, 900] {
            assert!(rows.remove("Property", &relist_sim::Key::Int(key)));
        }
    }
    let report = mirror.sync("Property", SyncMode::Full).unwrap();
    assert_eq!(report.outcome, Outcome::Complete);
    assert_eq!((report.deleted, report.checked), (2, 998));
    assert_eq!(mirror.records("Property").len(), 998);
    mirror.verify();
}

#[test]
fn a_first_walk_that_goes_on_looks_for_what_was_stored_before_it() {
    for stored_before in [false, true] {
        let rows = Arc::new(Mutex::new(listings(1_000, stamp)));
        let mirror = Mirror::new(rows, Options::default());
        if stored_before {
            // Records come without a walk: read by a deep run, or from files.
            mirror
                .sync("Property", SyncMode::Deep { slice: 1, of: 1 })
                .unwrap();
            let mut rows = mirror.rows.lock().unwrap();
            assert!(rows.remove("Property", &relist_sim::Key::Int(7)));
        }
        let now = || Timestamp(i64::from(mirror.rows.lock().unwrap().now()) * 1_000_000);
        let part = SyncOptions {
            mode: SyncMode::Auto,
            max_pages: Some(2),
            confirm: false,
            now: &now,
        };
        let mut api = mirror.api();
        let quiet = &mut |_: &RunReport| {};
        mirror
            .store
            .sync("Property", &mut api, &mirror.policy, &part, quiet)
            .unwrap();
        let before = mirror.server.request_lines().len();
        let report = mirror.sync("Property", SyncMode::Auto).unwrap();
        assert_eq!(
            (report.kind, &report.outcome),
            (RunKind::Full, &Outcome::Complete)
        );
        assert_eq!(report.deleted, u64::from(stored_before));
        // An empty store has nothing to look for: its first walk costs no second one over keys.
        let lines = mirror.server.request_lines();
        let keys = lines[before..].iter().filter(|line| {
            line.contains("$select") && !line.contains("$top=1&") && !line.contains(" le ")
        });
        assert_eq!(keys.count() > 0, stored_before, "{lines:#?}");
        let served = mirror.rows.lock().unwrap().keys("Property").len();
        assert_eq!(mirror.records("Property").len(), served);
    }
}

/// A feed that shows for seven days that a record is gone.
fn flagged(n: i64) -> Mirror<Dataset> {
    let mut mirror = Mirror::new(Arc::new(Mutex::new(listings(n, stamp))), Options::default());
    mirror.policy.gone = Some(GoneMark {
        field: "MlgCanView".into(),
        value: "false".into(),
    });
    mirror.policy.gone_visible_days = Some(7);
    mirror.sync("Property", SyncMode::Auto).unwrap();
    mirror
}

fn pass(mirror: &Mirror<Dataset>, seconds: u32) {
    let mut rows = mirror.rows.lock().unwrap();
    let later = rows.now() + seconds;
    rows.set_now(later);
}

#[test]
fn who_was_away_compares_keys_before_it_says_that_it_is_complete() {
    let mirror = flagged(500);
    pass(&mirror, 23 * 3_600);
    let report = mirror.sync("Property", SyncMode::Auto).unwrap();
    assert_eq!((report.kind, report.checked), (RunKind::Incremental, 0));
    // Eight days: two were marked as gone, and the marks are gone, too.
    pass(&mirror, 8 * 86_400);
    {
        let mut rows = mirror.rows.lock().unwrap();
        for key in [3, 400] {
            assert!(rows.remove("Property", &relist_sim::Key::Int(key)));
        }
    }
    let report = mirror.sync("Property", SyncMode::Auto).unwrap();
    assert_eq!(
        (report.kind, &report.outcome),
        (RunKind::Incremental, &Outcome::Complete)
    );
    assert_eq!((report.checked, report.deleted), (498, 2));
    let report = mirror.sync("Property", SyncMode::Auto).unwrap();
    assert_eq!((report.checked, report.deleted), (0, 0));
    mirror.verify();
}

#[test]
fn who_was_away_is_not_complete_until_the_keys_were_compared() {
    let mut mirror = flagged(500);
    pass(&mirror, 8 * 86_400);
    {
        let mut rows = mirror.rows.lock().unwrap();
        for key in 1..=60 {
            assert!(rows.remove("Property", &relist_sim::Key::Int(key)));
        }
    }
    let complete = |mirror: &Mirror<Dataset>| {
        let snapshot = mirror.store.snapshot().unwrap();
        snapshot.checkpoint("Property").unwrap().last_complete
    };
    let before = complete(&mirror);
    // So many are held back each time, until somebody confirms.
    for _ in 0..2 {
        let report = mirror.sync("Property", SyncMode::Auto).unwrap();
        assert!(matches!(report.outcome, Outcome::Degraded(why) if why.contains("60 of 500")));
        assert_eq!((report.deleted, complete(&mirror)), (0, before));
    }
    // A feed that shows its deletions for ever is not looked through.
    mirror.policy.gone_visible_days = None;
    let report = mirror.sync("Property", SyncMode::Auto).unwrap();
    assert_eq!((report.checked, report.outcome), (0, Outcome::Complete));
    assert!(complete(&mirror) > before);
}

/// What the server says instead of the truth, for requests that have a part.
fn lying(part: &'static str, on: &Arc<Mutex<bool>>, body: &'static str) -> Options {
    let on = Arc::clone(on);
    Options {
        alter: Some(Box::new(move |request, response| {
            let line = request.line();
            if *on.lock().unwrap() && line.contains(part) && line.contains(" eq ") {
                return Response::new(200, "application/json", body);
            }
            response
        })),
        ..Options::default()
    }
}

fn with_events(mut rows: Dataset, events: &[(i64, &str)]) -> Dataset {
    let event = |(sequence, key): &(i64, &str)| {
        json!({"EntityEventSequence": sequence, "ResourceName": "Property",
            "ResourceRecordKey": key})
    };
    rows = rows
        .with_resource(
            "EntityEvent",
            "EntityEventSequence",
            events.iter().map(event),
        )
        .unwrap();
    rows
}

fn put_events(mirror: &Mirror<Dataset>, events: &[(i64, &str)]) {
    let mut rows = mirror.rows.lock().unwrap();
    for (sequence, key) in events {
        let event = json!({"EntityEventSequence": sequence, "ResourceName": "Property",
            "ResourceRecordKey": key});
        rows.put("EntityEvent", &event).unwrap();
    }
}

fn event_number(mirror: &Mirror<Dataset>) -> Option<i64> {
    let snapshot = mirror.store.snapshot().unwrap();
    snapshot.checkpoint("Property").unwrap().event_sequence
}

#[test]
fn an_event_and_an_empty_answer_delete_nothing_that_is_there() {
    let on = Arc::new(Mutex::new(false));
    let options = lying("/Property?", &on, "{\"value\":[]}");
    let rows = with_events(listings(50, stamp), &[(10, "1")]);
    let mut mirror = Mirror::new(Arc::new(Mutex::new(rows)), options);
    mirror.policy.events = Some(relist::sync::EventFeed::default());
    mirror.sync("Property", SyncMode::Auto).unwrap();
    put_events(&mirror, &[(11, "4"), (12, "5"), (13, "6")]);
    mirror
        .rows
        .lock()
        .unwrap()
        .remove("Property", &relist_sim::Key::Int(5));
    *on.lock().unwrap() = true;
    let report = mirror.sync("Property", SyncMode::Auto).unwrap();
    // Asked for themselves, two are there: only the third is gone.
    assert_eq!(report.deleted, 1);
    assert!(matches!(report.outcome, Outcome::Degraded(why) if why.contains("2 records")));
    assert_eq!(event_number(&mirror), Some(10));
    assert_eq!(mirror.records("Property").len(), 49);
    *on.lock().unwrap() = false;
    let report = mirror.sync("Property", SyncMode::Auto).unwrap();
    assert_eq!((report.deleted, report.outcome), (0, Outcome::Complete));
    assert_eq!(event_number(&mirror), Some(13));
    mirror.verify();
}

#[test]
fn the_number_of_events_stays_before_the_first_in_doubt() {
    // The server answers for the record of one key with another record.
    let on = Arc::new(Mutex::new(false));
    let other = "{\"value\":[{\"ListingKeyNumeric\":40,\"ListPrice\":1}]}";
    let options = lying("eq 5", &on, other);
    let rows = with_events(listings(50, stamp), &[(10, "1")]);
    let mut mirror = Mirror::new(Arc::new(Mutex::new(rows)), options);
    mirror.policy.events = Some(relist::sync::EventFeed::default());
    mirror.sync("Property", SyncMode::Auto).unwrap();
    {
        let mut rows = mirror.rows.lock().unwrap();
        for key in [4, 5, 6] {
            rows.put("Property", &row(key, 77, key)).unwrap();
        }
    }
    put_events(&mirror, &[(20, "4"), (21, "5"), (22, "6")]);
    *on.lock().unwrap() = true;
    let complete = |mirror: &Mirror<Dataset>| {
        let snapshot = mirror.store.snapshot().unwrap();
        snapshot.checkpoint("Property").unwrap().last_complete
    };
    let before = complete(&mirror);
    pass(&mirror, 60);
    for _ in 0..2 {
        let report = mirror.sync("Property", SyncMode::Auto).unwrap();
        assert!(
            matches!(report.outcome, Outcome::Degraded(_)),
            "{:?}",
            report.outcome
        );
        assert_eq!((report.deleted, event_number(&mirror)), (0, Some(20)));
        assert_eq!(complete(&mirror), before);
    }
    *on.lock().unwrap() = false;
    let report = mirror.sync("Property", SyncMode::Auto).unwrap();
    assert_eq!(report.outcome, Outcome::Complete);
    assert_eq!(event_number(&mirror), Some(22));
    assert!(complete(&mirror) > before);
    let snapshot = mirror.store.snapshot().unwrap();
    for key in [4, 5, 6] {
        let record = snapshot.get("Property", &Key::Int(key)).unwrap().unwrap();
        assert_eq!(record.get("ListPrice").unwrap().to_string(), "77");
    }
}

#[test]
fn events_out_of_order_are_not_believed() {
    let rows = with_events(listings(10, stamp), &[(10, "1")]);
    let options = Options {
        alter: Some(Box::new(|request, response| {
            if !request.line().contains("EntityEventSequence gt") {
                return response;
            }
            let event = |n| {
                format!(
                    "{{\"EntityEventSequence\":{n},\"ResourceName\":\"Property\",\
                     \"ResourceRecordKey\":\"1\"}}"
                )
            };
            let body = format!("{{\"value\":[{},{}]}}", event(14), event(12));
            Response::new(200, "application/json", body)
        })),
        ..Options::default()
    };
    let mut mirror = Mirror::new(Arc::new(Mutex::new(rows)), options);
    mirror.policy.events = Some(relist::sync::EventFeed::default());
    mirror.sync("Property", SyncMode::Auto).unwrap();
    let error = mirror.sync("Property", SyncMode::Auto).unwrap_err();
    assert!(
        error.to_string().contains("event 12 comes after 14"),
        "{error}"
    );
    assert_eq!(event_number(&mirror), Some(10));
}

#[test]
fn events_say_which_records_to_fetch_again() {
    let event = |sequence: i64, resource: &str, key: &str| {
        json!({"EntityEventSequence": sequence, "ResourceName": resource,
            "ResourceRecordKey": key})
    };
    let rows = listings(300, stamp)
        .with_resource(
            "EntityEvent",
            "EntityEventSequence",
            [event(10, "Property", "1")],
        )
        .unwrap();
    let mut mirror = Mirror::new(Arc::new(Mutex::new(rows)), Options::default());
    mirror.policy.events = Some(relist::sync::EventFeed::default());
    mirror.policy.cursor_field = None;
    mirror.sync("Property", SyncMode::Auto).unwrap();
    {
        let mut rows = mirror.rows.lock().unwrap();
        // No stamp moves; gaps in the numbers; an event twice; another resource; one that is gone.
        rows.put("Property", &row(5, 55, 5)).unwrap();
        rows.put("Property", &row(301, 1, 1)).unwrap();
        rows.remove("Property", &relist_sim::Key::Int(9));
        let events = [
            (12, "Property", "5"),
            (15, "Member", "M-1"),
            (16, "Property", "5"),
            (20, "Property", "301"),
            (21, "Property", "9"),
        ];
        for (sequence, resource, key) in events {
            rows.put("EntityEvent", &event(sequence, resource, key))
                .unwrap();
        }
    }
    let report = mirror.sync("Property", SyncMode::Auto).unwrap();
    assert_eq!(
        (report.updated, report.inserted, report.deleted),
        (1, 1, 1),
        "{report:?}"
    );
    assert_eq!(report.outcome, Outcome::Complete);
    let checkpoint = mirror
        .store
        .snapshot()
        .unwrap()
        .checkpoint("Property")
        .unwrap();
    assert_eq!(checkpoint.event_sequence, Some(21));
    let again = mirror.sync("Property", SyncMode::Auto).unwrap();
    assert_eq!((again.records, again.deleted), (0, 0));
    mirror.verify();
}
