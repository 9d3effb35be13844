//! Sixty days of a market: each evening a full copy is put by, and in the end every one of those
//! evenings is asked for again.

use std::collections::BTreeMap;

use relist::odata::Query;
use relist::query::QueryContext;
use relist::store::{AsOf, Cause};
use relist::value::Timestamp;
use relist_sim::{Backend as _, Waves};
use relist_tests::fresh::Fresh;

const DAYS: usize = 60;
const LISTINGS: u32 = 150;
const PAGE: usize = 200;

/// An evening: the last sequence, and every record as JSON.
struct Evening {
    sequence: u64,
    observed: Timestamp,
    records: BTreeMap<String, String>,
}

fn evening(fresh: &Fresh, at: i64) -> Evening {
    let records = fresh.records("Property");
    Evening {
        sequence: fresh.snapshot().sequence(),
        observed: Timestamp(at),
        records: records
            .into_iter()
            .map(|(key, json)| (key.to_string(), json))
            .collect(),
    }
}

fn member<'j>(record: &'j serde_json::Value, name: &str) -> &'j serde_json::Value {
    record.get(name).unwrap_or(&serde_json::Value::Null)
}

#[test]
fn every_evening_of_sixty_days_is_what_it_was() {
    let mut waves = Waves::new(11, LISTINGS);
    let fresh = Fresh::new();
    let mut txn = fresh.store.begin_write(Timestamp(0)).unwrap();
    txn.define(waves.market().schema()).unwrap();
    txn.commit().unwrap();
    let first: Vec<Vec<u8>> = waves.pages(PAGE).collect();
    let files: Vec<(&str, &Vec<u8>)> = first.iter().map(|page| ("first", page)).collect();
    fresh.ingest("Property", &files, 1_000_000);
    let mut evenings = vec![evening(&fresh, 1_000_000)];
    for day in 1..=DAYS {
        let at = 1_000_000 + i64::try_from(day).unwrap() * 86_400_000_000;
        let of_day = waves.day();
        let pages: Vec<Vec<u8>> = waves.day_pages(&of_day, PAGE).collect();
        let files: Vec<(&str, &Vec<u8>)> = pages.iter().map(|page| ("day", page)).collect();
        fresh.ingest("Property", &files, at);
        let mut txn = fresh.store.begin_write(Timestamp(at)).unwrap();
        for (_, key) in &of_day.net.deleted {
            let key = fresh.snapshot().parse_key("Property", key).unwrap();
            txn.delete("Property", &key, None, Cause::DeletedFeed, "")
                .unwrap();
        }
        txn.commit().unwrap();
        evenings.push(evening(&fresh, at));
    }
    let snapshot = fresh.snapshot();
    let all = Query::new("Property").orderby("ListPrice desc").unwrap();
    let groups = "groupby((StandardStatus),aggregate($count as N,ListPrice with sum as S))";
    let groups = Query::new("Property").apply(groups).unwrap();
    for (day, evening) in evenings.iter().enumerate() {
        let mut expected: BTreeMap<String, (u64, f64)> = BTreeMap::new();
        for json in evening.records.values() {
            let record: serde_json::Value = serde_json::from_str(json).unwrap();
            let group = expected
                .entry(member(&record, "StandardStatus").to_string())
                .or_default();
            group.0 += 1;
            group.1 += member(&record, "ListPrice").as_f64().unwrap_or(0.0);
        }
        for at in [
            AsOf::Sequence(evening.sequence),
            AsOf::Instant(evening.observed),
        ] {
            let context = QueryContext {
                as_of: Some(at),
                ..QueryContext::new(Timestamp(0))
            };
            let found = snapshot.query(&all, &context).unwrap();
            let found = found.rows.iter().map(|row| {
                let key = row.get(&row.resource().key_field).unwrap().to_string();
                (key.trim_matches('"').to_owned(), row.to_json(None))
            });
            assert_eq!(
                found.collect::<BTreeMap<_, _>>(),
                evening.records,
                "day {day}"
            );
            let result = snapshot.apply(&groups, &context).unwrap();
            let mut rows = BTreeMap::new();
            for row in &result.rows {
                let mut text = String::new();
                result.write_json(row, &mut text);
                let row: serde_json::Value = serde_json::from_str(&text).unwrap();
                let sum = row["S"].as_f64().unwrap_or(0.0);
                rows.insert(
                    row["StandardStatus"].to_string(),
                    (row["N"].as_u64().unwrap(), sum),
                );
            }
            assert_eq!(rows, expected, "day {day}");
        }
    }
    fresh.verify();
}

#[test]
fn a_compacted_store_holds_what_it_held() {
    let mut waves = Waves::new(5, 3_000);
    let mut fresh = Fresh::new();
    let first: Vec<Vec<u8>> = waves.pages(PAGE).collect();
    let files: Vec<(&str, &Vec<u8>)> = first.iter().map(|page| ("first", page)).collect();
    fresh.ingest("Property", &files, 1);
    waves.second();
    let second: Vec<Vec<u8>> = waves.pages(PAGE).collect();
    let files: Vec<(&str, &Vec<u8>)> = second.iter().map(|page| ("second", page)).collect();
    fresh.ingest("Property", &files, 2);
    let before = fresh.records("Property");
    let size = std::fs::metadata(fresh.store.path()).unwrap().len();
    let given = fresh.store.compact().unwrap();
    assert!(given > 0);
    assert_eq!(
        std::fs::metadata(fresh.store.path()).unwrap().len(),
        size - given
    );
    assert_eq!(fresh.records("Property"), before);
    fresh.verify();
}
