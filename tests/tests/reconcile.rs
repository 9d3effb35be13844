//! What no stamp tells: rows that vanish, edits without a stamp, rows that say they are gone.

use std::sync::{Arc, Mutex};

use relist::ingest::GoneMark;
use relist::keycode::Key;
use relist::store::{Cause, Operation, Outcome};
use relist::sync::SyncMode;
use relist_sim::{Dataset, Options};
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
