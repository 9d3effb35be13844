//! Rules over the changelog, and records in batches: the library's side of watching.

use relist::error::Error;
use relist::keycode::Key;
use relist::odata::Query;
use relist::query::{BatchOptions, QueryContext};
use relist::store::{Position, Store};
use relist::value::Timestamp;
use relist::watch::{Event, Rule};
use relist_tests::fresh::Fresh;

/// A page with one listing.
fn page(key: &str, price: &str, status: &str, city: &str) -> String {
    format!(
        r#"{{"value":[{{"ListingKey":"{key}","ListPrice":{price},"StandardStatus":{status},
        "City":"{city}","ModificationTimestamp":"2026-01-01T00:00:00Z"}}]}}"#
    )
}

const GONE: &str = r#"{"value":[{"resource":"Property","primary_key":"a",
    "ts":"2026-02-01T00:00:00Z"}]}"#;

/// A listing that goes through these states, one sequence each.
fn story(states: &[&str]) -> Fresh {
    let fresh = Fresh::new();
    for (at, state) in states.iter().enumerate() {
        let at = i64::try_from(at).unwrap();
        if *state == "gone" {
            fresh.ingest("Deleted", &[("d", GONE)], at);
            continue;
        }
        let (price, then) = state.split_once(' ').unwrap();
        fresh.ingest("Property", &[("p", page("a", price, then, "Provo"))], at);
    }
    fresh.verify();
    fresh
}

fn rule(text: &str) -> Rule {
    match text.strip_prefix('{') {
        Some(_) => serde_json::from_str(text).unwrap(),
        None => text.parse().unwrap(),
    }
}

fn events_since(fresh: &Fresh, rules: &[Rule], since: u64) -> Vec<Event> {
    let snapshot = fresh.snapshot();
    let events = snapshot.events(rules, since, Timestamp(0)).unwrap();
    events.flat_map(|o| o.unwrap().events).collect()
}

#[test]
fn each_rule_sees_what_it_looks_for() {
    let active = r#"500000 "Active""#;
    let pending = r#"500000 "Pending""#;
    // The states of one listing, the rule, and the sequences of its events.
    let table: &[(&[&str], &str, &[u64])] = &[
        (&[active, pending], "transition:Active->Pending", &[2]),
        (
            &[active, pending],
            "transition:Active->Closed|Pending",
            &[2],
        ),
        (&[active, pending], "transition:Pending->Active", &[]),
        (&[active, pending, active], "transition:->", &[2, 3]),
        // A new listing has come from nowhere: that is an insert.
        (&[active], "transition:->Active", &[]),
        (
            &[active, r#"500000 "ActiveUnderContract""#],
            "transition:Active->Active Under Contract",
            &[2],
        ),
        (&[active, "500000 null"], "transition:Active->Pending", &[]),
        // 5 % of 500,000 is 25,000.
        (&[active, r#"475000 "Active""#], "price-drop:5", &[2]),
        (&[active, r#"475000.01 "Active""#], "price-drop:5", &[]),
        (
            &[active, r#"475000.0 "Active""#],
            "price-drop:5.000001",
            &[],
        ),
        (&[active, r#"525000 "Active""#], "price-drop:0.1", &[]),
        (&[active, r#"null "Active""#], "price-drop:1", &[]),
        (&[r#"0 "Active""#, r#"-5 "Active""#], "price-drop:1", &[]),
        (&[pending, active], "back-on-market", &[2]),
        (&[r#"1 "Coming Soon""#, active], "back-on-market", &[]),
        (&[r#"1 "ComingSoon""#, active], "back-on-market", &[]),
        (&["1 null", active], "back-on-market", &[]),
        (&[pending, "gone", active], "back-on-market", &[3]),
        (&[active, "gone", active], "back-on-market", &[3]),
        (&[active, "gone", pending], "back-on-market", &[]),
        // A relisting is compared with the last version before.
        (
            &[active, "gone", pending],
            "transition:Active->Pending",
            &[3],
        ),
        (
            &[active, "gone", r#"400000 "Active""#],
            "price-drop:20",
            &[3],
        ),
        (&[active, "gone", r#"5e5 "Active""#], "field:ListPrice", &[]),
        (
            &[active, r#"5.0e5 "Active""#, pending],
            "field:ListPrice",
            &[],
        ),
        (
            &[active, r#"4 "Pending""#],
            "field:ListPrice,StandardStatus",
            &[2, 2],
        ),
        (&[active, "gone", active], "insert", &[1]),
        (&[active, "gone", active], "delete", &[2]),
        (&[active, "gone", active], "relist", &[3]),
        (
            &[active, pending],
            r#"{"name":"x","on":"transition","to":"Pending","filter":"ListPrice ge 500000"}"#,
            &[2],
        ),
        // The filter sees the record after the change.
        (
            &[active, r#"400000 "Pending""#],
            r#"{"name":"x","on":"transition","to":"Pending","filter":"ListPrice ge 500000"}"#,
            &[],
        ),
        // And the last version of what is gone.
        (
            &[active, "gone"],
            r#"{"name":"x","on":"operation","operation":"delete","filter":"City eq 'Provo'"}"#,
            &[2],
        ),
    ];
    for (states, text, expected) in table {
        let fresh = story(states);
        let found = events_since(&fresh, &[rule(text)], 0);
        let sequences: Vec<u64> = found.iter().map(|e| e.sequence).collect();
        assert_eq!(sequences, *expected, "{states:?} {text}");
        // From behind an event it does not come again, from before it does.
        if let Some(first) = expected.first() {
            assert_eq!(events_since(&fresh, &[rule(text)], first - 1), found);
            let later: Vec<Event> = found.into_iter().filter(|e| e.sequence > *first).collect();
            assert_eq!(events_since(&fresh, &[rule(text)], *first), later);
        }
    }
}

#[test]
fn an_event_tells_what_happened_as_it_was_written() {
    let fresh = story(&[r#"500000.00 "Active""#, r#"450000.0 "Active""#]);
    let found = events_since(&fresh, &[rule("price-drop:10")], 0);
    assert_eq!(
        found[0].to_json(),
        r#"{"Sequence":2,"Rule":"price-drop:10","ResourceName":"Property","ResourceRecordKey":"a","#
            .to_owned()
            + r#""Operation":"update","FieldName":"ListPrice","PreviousValue":500000.00,"#
            + r#""NewValue":450000.0,"ModificationTimestamp":"2026-01-01T00:00:00Z","#
            + r#""ObservedTimestamp":"1970-01-01T00:00:00.000001Z","Cause":"ingest"}"#
    );
}

#[test]
fn a_rule_that_cannot_be_is_refused() {
    let fresh = story(&[r#"1 "Active""#]);
    let snapshot = fresh.snapshot();
    let refused = |text: &str, since| snapshot.events(&[rule(text)], since, Timestamp(0)).err();
    assert!(matches!(
        refused("insert@Nothing", 0),
        Some(Error::UnknownResource { .. })
    ));
    let filter = r#"{"name":"x","on":"back-on-market","filter":"ListPrize gt 1"}"#;
    assert!(matches!(refused(filter, 0), Some(Error::Query(_))));
    assert!(matches!(refused("insert", 2), Some(Error::Usage(_))));
}

#[test]
fn a_position_is_kept_and_verified() {
    let fresh = story(&[r#"1 "Active""#]);
    assert_eq!(fresh.snapshot().position("a").unwrap(), None);
    let set = |sequence, at| {
        let mut txn = fresh.store.begin_write(Timestamp(at)).unwrap();
        txn.set_position("a", sequence).unwrap();
        txn.commit().unwrap();
    };
    set(1, 5);
    let path = fresh.store.path().to_owned();
    let position = Position {
        sequence: 1,
        moved: Timestamp(5),
    };
    let store = Store::open_read_only(path).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.position("a").unwrap(), Some(position));
    assert_eq!(snapshot.positions().unwrap(), [("a".to_owned(), position)]);
    fresh.verify();
    set(2, 6);
    let report = fresh.snapshot().verify().unwrap();
    assert!(report.problems[0].contains("watcher a"), "{report:?}");
}

fn batched() -> Fresh {
    let fresh = Fresh::new();
    let rows: Vec<String> = (0..1_000)
        .map(|i| format!(r#"{{"ListingKey":"{i:04}","ListPrice":{i}}}"#))
        .collect();
    fresh.ingest("Property", &[("p", rows.join("\n"))], 1);
    fresh
}

const CONTEXT: QueryContext = QueryContext {
    as_of: None,
    now: Timestamp(0),
    clock: None,
};

#[test]
fn batches_hold_every_record_once_and_go_on_where_one_ended() {
    let fresh = batched();
    let snapshot = fresh.snapshot();
    for (filter, count) in [("ListPrice ge 0", 1_000), ("ListPrice mod 3 eq 0", 334)] {
        let query = Query::new("Property").filter(filter).unwrap();
        for size in [1, 7, 333, 1_000, 5_000] {
            let mut options = BatchOptions {
                size,
                ..BatchOptions::default()
            };
            let batches = snapshot.batches(&query, &CONTEXT, &options).unwrap();
            let batches: Vec<Vec<Key>> = batches.map(|b| b.unwrap().keys).collect();
            assert_eq!(
                batches.len(),
                usize::div_ceil(count, size),
                "{filter} {size}"
            );
            let all = batches.concat();
            assert_eq!(all.len(), count);
            assert!(all.is_sorted_by(|a, b| a < b));
            // From behind the first batch: all the others.
            options.after = batches[0].last().cloned();
            let rest = snapshot.batches(&query, &CONTEXT, &options).unwrap();
            let rest: Vec<Vec<Key>> = rest.map(|b| b.unwrap().keys).collect();
            assert_eq!(rest, batches[1..]);
        }
    }
    let keys = Query::new("Property")
        .filter("ListingKey in ('0007','0003','0999','x')")
        .unwrap();
    let options = BatchOptions {
        after: Some(Key::Str("0003".into())),
        ..BatchOptions::default()
    };
    let batch = snapshot.batches(&keys, &CONTEXT, &options).unwrap().next();
    let keys: Vec<String> = batch
        .unwrap()
        .unwrap()
        .keys
        .iter()
        .map(Key::to_string)
        .collect();
    assert_eq!(keys, ["0007", "0999"]);
    let sorted = Query::new("Property").orderby("ListPrice").unwrap();
    assert!(snapshot.batches(&sorted, &CONTEXT, &options).is_err());
}

#[test]
fn a_failed_batch_is_tried_again_then_listed_with_its_keys() {
    let fresh = batched();
    let snapshot = fresh.snapshot();
    let options = BatchOptions {
        size: 100,
        after: None,
        retries: 2,
    };
    let mut handed = Vec::new();
    let query = Query::new("Property");
    let summary = snapshot
        .each_batch(&query, &CONTEXT, &options, &mut |batch, attempt| {
            handed.push((batch.number, attempt));
            match (batch.number, attempt) {
                (3, 1..=2) => Err("not yet"),
                (7, _) => Err("never"),
                _ => Ok(()),
            }
        })
        .unwrap();
    assert_eq!((summary.batches, summary.records), (10, 1_000));
    assert_eq!(summary.last, Some(Key::Str("0999".into())));
    assert_eq!(handed.len(), 10 + 2 + 2);
    assert_eq!(summary.failed.len(), 1);
    let failed = &summary.failed[0];
    assert_eq!((failed.number, failed.attempts), (7, 3));
    assert_eq!(failed.reason, "never");
    assert_eq!(failed.keys.len(), 100);
    assert_eq!(failed.keys[0], Key::Str("0600".into()));
}
