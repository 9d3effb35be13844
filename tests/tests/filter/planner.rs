//! Whatever way the planner takes, the answer is that of asking every record; and of the past,
//! that of a copy kept at the time.

use std::collections::BTreeMap;

use relist::keycode::Key;
use relist::odata::{Query, bind_filter, bind_orderby, parse_filter, parse_orderby};
use relist::query::{AggregateResult, Explain, Groups, QueryContext};
use relist::record::Record;
use relist::store::{AsOf, Cause, Store};
use relist::value::{Timestamp, Value};
use relist_tests::reference::evaluate;
use serde_json::{Value as Json, json};

use super::generate::{Bytes, entity, filter};
use super::sample::{now, property, schema};

/// Orders to be tried; some are of one number, some are not.
const ORDERS: [&str; 8] = [
    "ListPrice",
    "ListPrice desc",
    "ModificationTimestamp desc",
    "CloseDate",
    "BedroomsTotal desc,City",
    "StandardStatus,ListPrice desc",
    "length(City) desc",
    "WaterfrontYN desc,ModificationTimestamp",
];

/// What the store held just after a sequence.
struct Copy {
    sequence: u64,
    records: BTreeMap<Key, Record>,
}

/// Aggregations to be tried.
const APPLIES: [&str; 12] = [
    "groupby((StandardStatus),aggregate($count as N,ListPrice with average as A))",
    "groupby((City,StandardStatus),aggregate(ListPrice with sum as S,ListPrice with median as M))",
    "groupby((year(CloseDate),month(CloseDate)),aggregate($count as N,CloseDate with max as L))",
    "groupby((year(ModificationTimestamp)),aggregate(BedroomsTotal with countdistinct as D))",
    "groupby((hour(ModificationTimestamp)),aggregate(ModificationTimestamp with min as M))",
    "groupby((BedroomsTotal,WaterfrontYN,City),aggregate(ClosePrice with Relist.p25 as P))",
    "aggregate(ListPrice with Relist.p90 as P,City with countdistinct as C,$count as N)",
    "groupby((ListPrice),aggregate($count as N,ClosePrice with min as A,ClosePrice with max as B))",
    "groupby((date(ModificationTimestamp)),aggregate(ListPrice with max as M))",
    "groupby((StreetName),aggregate($count as N))/orderby(N desc)/top(3)",
    "groupby((StandardStatus,City),aggregate(ListPrice mul BedroomsTotal with sum as S))",
    "groupby((PostalCode,SourceGuid,ShowingStartTime),aggregate(Tags with countdistinct as N))",
];

struct Mirror {
    _folder: tempfile::TempDir,
    store: Store,
    copies: Vec<Copy>,
}

fn random(rng: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| rng.u8(..)).collect()
}

/// A store of a few dozen odd records, changed and deleted over some commits.
fn mirror(rng: &mut fastrand::Rng) -> Mirror {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path().join("s.redb"), Timestamp(0)).unwrap();
    let mut txn = store.begin_write(Timestamp(0)).unwrap();
    txn.define(&schema()).unwrap();
    txn.commit().unwrap();
    let mut copies = Vec::new();
    for commit in 1..=6 {
        let mut txn = store.begin_write(Timestamp(commit * 1_000_000)).unwrap();
        let mut page: BTreeMap<String, Json> = BTreeMap::new();
        for _ in 0..rng.usize(1..30) {
            let bytes = random(rng, 120);
            let mut one = entity(&mut Bytes::new(&bytes));
            let key = format!("k{}", rng.u8(..40));
            one["ListingKey"] = json!(key);
            page.insert(key, one);
        }
        let page = json!({"value": page.values().collect::<Vec<_>>()});
        let report = txn.apply_page("Property", "page", page.to_string().as_bytes());
        assert_eq!(report.unwrap().quarantined, 0, "{page}");
        for _ in 0..rng.usize(0..6) {
            let key = Key::Str(format!("k{}", rng.u8(..40)));
            txn.delete("Property", &key, None, Cause::Flag, "").unwrap();
        }
        txn.commit().unwrap();
        let snapshot = store.snapshot().unwrap();
        let at = AsOf::Sequence(snapshot.sequence());
        let mut records = BTreeMap::new();
        snapshot
            .scan("Property", at, |key, record| {
                records.insert(key.clone(), record);
                Ok(true)
            })
            .unwrap();
        let sequence = snapshot.sequence();
        copies.push(Copy { sequence, records });
    }
    let report = store.snapshot().unwrap().verify().unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    Mirror {
        _folder: folder,
        store,
        copies,
    }
}

/// The record as JSON whose values are of their declared types, where they can be.
fn typed(record: &Record) -> Json {
    let mut out = serde_json::Map::new();
    for field in &record.resource().fields {
        if let Some(value) = record.get(&field.name) {
            let json = serde_json::from_str(&value.to_string()).unwrap();
            out.insert(field.name.clone(), json);
        }
    }
    Json::Object(out)
}

/// One query, of one of the copies, answered by the planner and by hand.
fn check(mirror: &Mirror, typed_copies: &[Vec<Json>], rng: &mut fastrand::Rng) {
    let schema = schema();
    let bytes = random(rng, 160);
    let text = filter(&mut Bytes::new(&bytes)).to_string();
    let expr = parse_filter(&text).unwrap();
    let predicate = bind_filter(&expr, &text, &schema, property(&schema), now()).unwrap();
    let at = rng.usize(..mirror.copies.len());
    let copy = &mirror.copies[at];
    let mut expected: Vec<(&Key, &Record)> = Vec::new();
    for ((key, record), json) in copy.records.iter().zip(&typed_copies[at]) {
        let matches = predicate.matches(record);
        let reference = evaluate(&expr, json, &schema, property(&schema), now());
        assert_eq!(matches, reference == Some(true), "{text}\n{json}");
        if matches {
            expected.push((key, record));
        }
    }
    let matched = expected.len() as u64;
    let mut query = Query::new("Property").filter(&text).unwrap().count(true);
    if rng.bool() {
        let order = ORDERS[rng.usize(..ORDERS.len())];
        let items = parse_orderby(order).unwrap();
        let bound = bind_orderby(&items, order, &schema, property(&schema), now()).unwrap();
        let key = |record: &Record| -> Vec<Value<'static>> {
            bound
                .key(record)
                .into_iter()
                .map(Value::into_owned)
                .collect()
        };
        expected.sort_by(|a, b| bound.compare(&key(a.1), &key(b.1)).then(a.0.cmp(b.0)));
        query = query.orderby(order).unwrap();
    }
    let (skip, top) = (rng.usize(..4), rng.usize(..20));
    if rng.bool() {
        query = query.skip(skip as u64).top(top as u64);
        expected = expected.into_iter().skip(skip).take(top).collect();
    }
    let narrow = rng.bool();
    if narrow {
        query = query.select(["StandardStatus", "ListPrice", "ListingKey", "Appliances"]);
    }
    let context = QueryContext {
        as_of: Some(AsOf::Sequence(copy.sequence)),
        now: now(),
        clock: None,
    };
    let result = mirror
        .store
        .snapshot()
        .unwrap()
        .query(&query, &context)
        .unwrap();
    let select = result.select.as_deref();
    let rows: Vec<String> = result.rows.iter().map(|row| row.to_json(select)).collect();
    let expected: Vec<String> = expected
        .iter()
        .map(|(_, row)| row.to_json(select))
        .collect();
    assert_eq!(
        rows, expected,
        "{text} {query:?} at {at}\n{}",
        result.explain
    );
    assert_eq!(result.count, Some(matched), "{text}");
}

#[test]
fn every_plan_gives_what_the_reference_gives() {
    let cases = super::cases();
    let seed = std::env::var("RELIST_FIRST_SEED").map_or(1, |s| s.parse().expect("a number"));
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut left = cases;
    while left > 0 {
        let mirror = mirror(&mut rng);
        let typed: Vec<Vec<Json>> = mirror
            .copies
            .iter()
            .map(|copy| copy.records.values().map(typed).collect())
            .collect();
        for _ in 0..left.min(500) {
            check(&mirror, &typed, &mut rng);
        }
        left -= left.min(500);
    }
}

/// One aggregation of one of the copies, by columns and by adding record for record.
fn check_apply(mirror: &Mirror, rng: &mut fastrand::Rng) {
    let bytes = random(rng, 100);
    let mut apply = APPLIES[rng.usize(..APPLIES.len())].to_owned();
    if rng.bool() {
        apply = format!("filter({})/{apply}", filter(&mut Bytes::new(&bytes)));
    }
    let query = Query::new("Property")
        .apply(&apply)
        .unwrap_or_else(|e| panic!("{apply}: {e:?}"));
    let copy = &mirror.copies[rng.usize(..mirror.copies.len())];
    let bound = query
        .bind_apply(&schema(), now())
        .unwrap_or_else(|e| panic!("{apply}: {e}"));
    let mut groups = Groups::new(&bound.grouping);
    for record in copy.records.values() {
        if bound.predicate.as_ref().is_none_or(|p| p.matches(record)) {
            groups.add(record).unwrap();
        }
    }
    let rows = groups.finish().unwrap();
    let expected = AggregateResult::finish(bound.clone(), rows, Explain::default()).unwrap();
    let context = QueryContext {
        as_of: Some(AsOf::Sequence(copy.sequence)),
        now: now(),
        clock: None,
    };
    let found = mirror
        .store
        .snapshot()
        .unwrap()
        .apply(&query, &context)
        .unwrap();
    let text = |result: &AggregateResult| -> Vec<String> {
        let row = |row| {
            let mut out = String::new();
            result.write_json(row, &mut out);
            out
        };
        result.rows.iter().map(row).collect()
    };
    assert_eq!(text(&found), text(&expected), "{apply}\n{}", found.explain);
}

#[test]
fn every_aggregation_gives_what_adding_record_for_record_gives() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut left = super::cases();
    while left > 0 {
        let mirror = mirror(&mut rng);
        for _ in 0..left.min(400) {
            check_apply(&mirror, &mut rng);
        }
        left -= left.min(400);
    }
}
