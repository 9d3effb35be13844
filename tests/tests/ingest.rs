//! Ingest through the library: what is stored, what is logged, what is put aside.

use Operation::{Delete, Insert, Relist, Update};
use relist::error::Result;
use relist::ingest::{IngestOptions, Input};
use relist::keycode::Key;
use relist::store::{AsOf, Operation, Outcome, RunReport, Store};
use relist::value::{Timestamp, Value};

fn ingest_as(store: &Store, resource: &str, texts: &[&str], at: i64) -> RunReport {
    let inputs = texts.iter().enumerate().map(|(i, text)| {
        let reader = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
        Ok(Input {
            name: format!("file{i}"),
            reader,
        })
    });
    let inputs: Vec<Result<Input>> = inputs.collect();
    let now = move || Timestamp(at);
    let options = IngestOptions {
        now: &now,
        key_field: None,
    };
    store
        .ingest(
            resource,
            inputs.into_iter(),
            &options,
            &mut |_: &RunReport| {},
        )
        .unwrap()
}

fn new_store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path().join("t.redb"), Timestamp(0)).unwrap();
    (folder, store)
}

fn check(store: &Store, report: &RunReport) {
    assert_eq!(
        report.records,
        report.applied() + report.unchanged + report.quarantined
    );
    let verified = store.snapshot().unwrap().verify().unwrap();
    assert!(verified.is_clean(), "{:?}", verified.problems);
}

#[test]
fn a_listing_has_a_history() {
    let (_folder, store) = new_store();
    let key = Key::Str("a".into());
    let page = |price: &str, status: &str| {
        format!(
            r#"{{"value":[{{"ListingKey":"a","ListPrice":{price},"StandardStatus":"{status}",
            "ModificationTimestamp":"2020-01-01T00:00:00Z"}}]}}"#
        )
    };
    let report = ingest_as(&store, "Property", &[&page("500000.0", "Active")], 1);
    assert_eq!((report.inserted, report.records), (1, 1));
    assert_eq!(report.outcome, Outcome::Complete);
    check(&store, &report);
    // The same values in other words are no change.
    let report = ingest_as(&store, "Property", &[&page("5.0e5", "Active")], 2);
    assert_eq!((report.unchanged, report.updated), (1, 0));
    // Two pages in one run are two changes.
    let pages = [page("490000", "Active"), page("490000", "Pending")];
    let report = ingest_as(&store, "Property", &[&pages[0], &pages[1]], 3);
    assert_eq!(
        (report.updated, report.price_changes, report.status_changes),
        (2, 1, 1)
    );
    check(&store, &report);
    let deletion =
        r#"{"value":[{"resource":"Property","primary_key":"a","ts":"2020-02-01T00:00:00Z"}]}"#;
    let report = ingest_as(&store, "Deleted", &[deletion], 4);
    assert_eq!(report.deleted, 1);
    check(&store, &report);
    let report = ingest_as(&store, "Property", &[&page("480000", "Active")], 5);
    assert_eq!(report.relisted, 1);
    check(&store, &report);

    let snapshot = store.snapshot().unwrap();
    let price = |at: i64| {
        let record = snapshot
            .get_at("Property", &key, AsOf::Instant(Timestamp(at)))
            .unwrap();
        record.map(|r| r.get("ListPrice").unwrap().to_string())
    };
    assert_eq!(price(0), None);
    assert_eq!(price(1).as_deref(), Some("500000.0"));
    assert_eq!(price(2).as_deref(), Some("500000.0"));
    assert_eq!(price(3).as_deref(), Some("490000"));
    assert_eq!(price(4), None);
    assert_eq!(price(5).as_deref(), Some("480000"));
    let versions = snapshot.history("Property", &key).unwrap();
    assert_eq!(versions.len(), 4);
    let operations: Vec<Operation> = snapshot
        .changes_of("Property", &key)
        .unwrap()
        .iter()
        .map(|c| c.operation)
        .collect();
    assert_eq!(operations, [Insert, Update, Update, Delete, Relist]);
    let changes: Vec<_> = snapshot.changes(1).unwrap().map(|c| c.unwrap()).collect();
    let cut = &changes[0].fields[0];
    assert_eq!(cut.name, "ListPrice");
    assert_eq!(cut.previous().unwrap().to_json(), "500000.0");
    assert_eq!(cut.new_value().unwrap().value(), Value::Int(490_000));
}

#[test]
fn a_field_withdrawn_by_role_is_one_event() {
    let (_folder, store) = new_store();
    let page = |with: bool| {
        let records = (0..100).map(|i| {
            let extra = if with {
                r#","PrivateRemarks":"gate code""#
            } else {
                ""
            };
            format!(r#"{{"ListingKey":"{i}","ListPrice":{i}{extra}}}"#)
        });
        format!("{{\"value\":[{}]}}", records.collect::<Vec<_>>().join(","))
    };
    ingest_as(&store, "Property", &[&page(true)], 1);
    let report = ingest_as(&store, "Property", &[&page(false)], 2);
    assert_eq!((report.unchanged, report.field_changes), (100, 0));
    let snapshot = store.snapshot().unwrap();
    let events: Vec<_> = snapshot
        .changes(0)
        .unwrap()
        .map(|c| c.unwrap())
        .filter(|c| c.operation == Operation::Schema)
        .collect();
    assert_eq!(events.len(), 1);
    assert!(
        events[0]
            .note
            .contains("PrivateRemarks withdrawn: 100 of 100"),
        "{}",
        events[0].note
    );
    let record = snapshot
        .get("Property", &Key::Str("7".into()))
        .unwrap()
        .unwrap();
    assert_eq!(record.get("PrivateRemarks"), Some(Value::str("gate code")));
    // One listing more without it is no news, and still keeps it.
    let one = r#"{"value":[{"ListingKey":"7","ListPrice":8}]}"#;
    let report = ingest_as(&store, "Property", &[one], 3);
    assert_eq!((report.updated, report.field_changes), (1, 1));
    check(&store, &report);
}

#[test]
fn bad_records_are_put_aside_and_the_good_ones_applied() {
    let (_folder, store) = new_store();
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let page = format!(
        r#"{{"value":[
        {{"ListingKey":"ok","ListPrice":123456789012345678901234567890.5,"Big":9007199254740993}},
        7,
        {{"ListPrice":1}},
        {{"ListingKey":null}},
        {{"ListingKey":""}},
        {{"ListingKey":"deep","Nested":{deep}}},
        {{"ListingKey":"twice","ListPrice":1,"ListPrice":2}},
        {{"ListingKey":"dup","ListPrice":1,"ModificationTimestamp":"2020-01-02T00:00:00Z"}},
        {{"ListingKey":"dup","ListPrice":2,"ModificationTimestamp":"2020-01-01T00:00:00Z"}},
        {{"ListingKey":"dup","ListPrice":1,"ModificationTimestamp":"2020-01-02T00:00:00Z"}},
        {{"ListingKey":"huge","ListPrice":1e400}}
        ]}}"#
    );
    let report = ingest_as(&store, "Property", &[&page], 1);
    assert_eq!(
        (
            report.records,
            report.inserted,
            report.unchanged,
            report.quarantined
        ),
        (11, 3, 1, 7)
    );
    assert!(matches!(report.outcome, Outcome::Degraded(_)));
    check(&store, &report);
    let snapshot = store.snapshot().unwrap();
    let get = |key: &str| {
        snapshot
            .get("Property", &Key::Str(key.into()))
            .unwrap()
            .unwrap()
    };
    let json = get("ok").to_json(None);
    assert!(json.contains("123456789012345678901234567890.5"), "{json}");
    assert!(json.contains("9007199254740993"), "{json}");
    assert!(get("huge").to_json(None).contains("1e400"));
    assert_eq!(get("dup").get("ListPrice"), Some(Value::Int(1)));
    let put_aside = snapshot.quarantined().unwrap();
    let reason = |record: u64| {
        let found = put_aside.iter().find(|q| q.record == Some(record)).unwrap();
        assert_eq!(found.page, "file0");
        format!(
            "{}: {}",
            found.field.as_deref().unwrap_or("-"),
            found.reason
        )
    };
    assert!(reason(1).contains("is a number, expected an object"));
    assert_eq!(reason(2), "ListingKey: the key is missing");
    assert_eq!(reason(3), "ListingKey: the key is null");
    assert_eq!(reason(4), "ListingKey: the key is empty");
    assert!(reason(5).contains("Nested: is nested deeper than 128"));
    assert!(reason(6).contains("ListPrice: is given twice"));
    assert!(reason(8).contains("the page gives key dup twice: record 7 was taken"));
    // The same bytes again change nothing, not even the quarantine.
    let again = ingest_as(&store, "Property", &[&page], 2);
    assert_eq!((again.applied(), again.quarantined), (0, 7));
    assert_eq!(
        store.snapshot().unwrap().quarantined().unwrap().len(),
        put_aside.len()
    );
}

#[test]
fn an_inferred_type_widens_with_an_event() {
    let (_folder, store) = new_store();
    let one = |value: &str| format!(r#"{{"value":[{{"ListingKey":"a","CloseDate":{value}}}]}}"#);
    ingest_as(&store, "Property", &[&one("\"2020-01-01\"")], 1);
    let report = ingest_as(&store, "Property", &[&one("\"TBD\"")], 2);
    assert_eq!(report.field_changes, 1);
    check(&store, &report);
    let snapshot = store.snapshot().unwrap();
    let notes: Vec<String> = snapshot
        .changes(0)
        .unwrap()
        .map(|c| c.unwrap().note)
        .collect();
    assert!(
        notes.contains(&"CloseDate was Date, is String".to_owned()),
        "{notes:?}"
    );
    let old = snapshot.get_at(
        "Property",
        &Key::Str("a".into()),
        AsOf::Instant(Timestamp(1)),
    );
    assert_eq!(
        old.unwrap().unwrap().get("CloseDate"),
        Some(Value::str("2020-01-01"))
    );
}

#[test]
fn a_select_keeps_what_it_did_not_ask_for() {
    let (_folder, store) = new_store();
    let full = r#"{"value":[{"ListingKey":"a","ListPrice":1,"City":"Orem"}]}"#;
    ingest_as(&store, "Property", &[full], 1);
    let part = r#"{"@odata.context":"$metadata#Property(ListingKey,ListPrice)",
        "value":[{"ListingKey":"a","ListPrice":2}]}"#;
    let report = ingest_as(&store, "Property", &[part], 2);
    assert_eq!(report.field_changes, 1);
    let snapshot = store.snapshot().unwrap();
    let record = snapshot
        .get("Property", &Key::Str("a".into()))
        .unwrap()
        .unwrap();
    assert_eq!(record.get("City"), Some(Value::str("Orem")));
    // Without a select and without spelled nulls, one absent field is a cleared field.
    let cleared = r#"{"value":[{"ListingKey":"a","ListPrice":2}]}"#;
    let report = ingest_as(&store, "Property", &[cleared], 3);
    assert_eq!(report.field_changes, 1);
    check(&store, &report);
}

#[test]
fn one_store_has_one_writer_and_many_readers() {
    let (folder, store) = new_store();
    let path = folder.path().join("t.redb");
    assert!(Store::create(&path, Timestamp(0)).is_err());
    assert!(matches!(
        Store::open(&path),
        Err(relist::error::Error::Locked { .. })
    ));
    let reader = Store::open_read_only(&path).unwrap();
    let outliving = Store::open_read_only(&path).unwrap().snapshot().unwrap();
    assert!(outliving.verify().unwrap().is_clean());
    let before = reader.snapshot().unwrap();
    ingest_as(
        &store,
        "Property",
        &[r#"{"value":[{"ListingKey":"a"}]}"#],
        1,
    );
    assert_eq!(before.sequence(), 0);
    assert_eq!(reader.snapshot().unwrap().count("Property").unwrap(), 1);
    std::fs::write(folder.path().join("x.redb"), "not a store").unwrap();
    let stranger = Store::open(folder.path().join("x.redb"));
    assert!(matches!(stranger, Err(relist::error::Error::Format { .. })));
}

#[test]
fn a_type_is_inferred_from_values_and_not_from_nulls() {
    let (_folder, store) = new_store();
    let types = || {
        let resource = store.snapshot().unwrap().resource("Property").unwrap();
        let fields = resource.fields.iter();
        let named: Vec<_> = fields
            .map(|f| format!("{} {}", f.name, f.ty.name()))
            .collect();
        named.join(", ")
    };
    // Null, an empty string and an empty list show no type; the values of one batch show one
    // together, and that is no news.
    let page = r#"{"value":[
        {"ListingKey":"1","A":null,"B":1,"C":"","D":[],"E":null,"F":null},
        {"ListingKey":"2","A":5,"B":null,"C":4,"D":["x"]},
        {"ListingKey":"3","A":6,"B":1.5,"C":5}]}"#;
    let report = ingest_as(&store, "Property", &[page], 1);
    check(&store, &report);
    assert_eq!(store.snapshot().unwrap().sequence(), 3);
    assert_eq!(
        types(),
        "ListingKey String, A Int64, B Decimal, C Int64, D Collection(String), E String, F String"
    );
    // What had no value yet takes the type of its first.
    for (at, record) in (2..).zip([
        r#"{"ListingKey":"1","E":"x","F":3,"G":null}"#,
        r#"{"ListingKey":"1","E":4,"F":3.5,"G":true}"#,
    ]) {
        let report = ingest_as(&store, "Property", &[record], at);
        check(&store, &report);
    }
    assert!(
        types().ends_with(", E String, F Decimal, G Boolean"),
        "{}",
        types()
    );
    let notes: Vec<String> = store
        .snapshot()
        .unwrap()
        .changes(3)
        .unwrap()
        .map(|c| c.unwrap().note)
        .filter(|note| !note.is_empty())
        .collect();
    assert_eq!(
        notes,
        [
            "G added, without a value so far",
            "E was without a value, is String",
            "F was without a value, is Int64",
            "F was Int64, is Decimal",
            "G was without a value, is Boolean",
        ]
    );
}

#[test]
fn a_record_with_too_many_fields_is_at_fault_alone() {
    let (_folder, store) = new_store();
    let many: Vec<String> = (0..10_000).map(|i| format!("\"f{i}\":{i}")).collect();
    let page = format!(
        r#"{{"value":[{{"ListingKey":"a","City":"Orem"}},{{"ListingKey":"b",{}}},
        {{"ListingKey":"c","State":"UT"}}]}}"#,
        many.join(",")
    );
    let report = ingest_as(&store, "Property", &[&page], 1);
    assert_eq!((report.inserted, report.quarantined), (2, 1));
    check(&store, &report);
    let put_aside = store.snapshot().unwrap().quarantined().unwrap();
    assert_eq!(put_aside[0].record, Some(1));
    let reason = &put_aside[0].reason;
    assert!(
        reason.starts_with("has 10000 fields that are new"),
        "{reason}"
    );
}

/// A page of records whose fields come with their key: some have one that no record had before,
/// some a value that is of another type than the ones before.
fn drifting_page(records: impl Iterator<Item = (u32, u32)>) -> String {
    let record = |(key, state): (u32, u32)| {
        let kind = if key % 997 == 3 { "\"many\"" } else { "4" };
        let extra = key / 1_500;
        format!(
            r#"{{"ListingKey":"k{key:06}","ListPrice":{},"Rooms":{kind},"Extra{extra}":"{key}",
            "PublicRemarks":"The house number {key} of the street, with a garden.",
            "ModificationTimestamp":"2024-01-{:02}T00:00:00Z"}}"#,
            1_000 + key % 50 + state,
            state + 1,
        )
    };
    let records: Vec<String> = records.map(record).collect();
    format!("{{\"value\":[{}]}}", records.join(","))
}

/// What was logged and what is there, without what follows from how pages are put together.
fn told(store: &Store) -> (Vec<String>, Vec<String>) {
    let snapshot = store.snapshot().unwrap();
    let changes = snapshot.changes(0).unwrap().map(Result::unwrap);
    let changes = changes.filter(|change| change.operation != Operation::Schema);
    let changes = changes.map(|change| {
        let cell = |cell: Option<relist::record::Cell<'_>>| cell.map(relist::record::Cell::to_json);
        let fields = change.fields.iter();
        let fields = fields.map(|f| (&f.name, cell(f.previous()), cell(f.new_value())));
        let fields: Vec<_> = fields.collect();
        format!("{:?} {:?} {fields:?}", change.operation, change.key)
    });
    let changes = changes.collect();
    let mut records = Vec::new();
    let now = AsOf::Sequence(snapshot.sequence());
    let keep = |_: &Key, record: relist::record::Record| {
        records.push(record.to_json(None));
        Ok(true)
    };
    snapshot.scan("Property", now, keep).unwrap();
    records.sort();
    (changes, records)
}

#[test]
fn many_files_at_once_are_what_they_are_one_by_one() {
    // New records, more than a segment of columns has; some again in the same file, some in a
    // later one; and then most again, a few of them changed.
    let fresh = (0..90_u32).map(|page| {
        let first = page * 100;
        let again = (page % 7 == 2).then_some((first, 1));
        let before = (page % 5 == 4).then(|| (first - 250, 2));
        let new = (first..first + 100).map(|key| (key, 0));
        drifting_page(new.chain(again).chain(before))
    });
    let resent = (0..90_u32).map(|page| {
        let first = page * 100;
        let keys = (first..first + 100).filter(|key| key % 250 != 0);
        drifting_page(keys.map(|key| (key, if key % 37 == 0 { 3 } else { 0 })))
    });
    let pages: Vec<String> = fresh.chain(resent).collect();
    let texts: Vec<&str> = pages.iter().map(String::as_str).collect();
    let (_folder, files) = new_store();
    for part in texts.chunks(90) {
        let report = ingest_as(&files, "Property", part, 1);
        check(&files, &report);
    }
    let (_folder, single) = new_store();
    for part in texts.chunks(11) {
        let mut txn = single.begin_write(Timestamp(1)).unwrap();
        for (at, text) in part.iter().enumerate() {
            let origin = format!("page {at}");
            txn.apply_page("Property", &origin, text.as_bytes())
                .unwrap();
        }
        txn.commit().unwrap();
    }
    let (changes, records) = told(&files);
    let (expected_changes, expected_records) = told(&single);
    assert_eq!(changes.len(), expected_changes.len());
    for (own, expected) in changes.iter().zip(&expected_changes) {
        assert_eq!(own, expected);
    }
    assert_eq!(records, expected_records);
    assert_eq!(records.len(), 9_000);
}
