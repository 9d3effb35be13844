//! Two roads of an export, one answer: out of columns, and out of records.

use relist::odata::Query;
use relist::query::QueryContext;
use relist::store::{AsOf, Cause, Snapshot};
use relist::value::Timestamp;
use relist_export::{Format, LineEnd, Request, write, write_columns};
use relist_sim::{Backend as _, Waves};
use relist_tests::fresh::Fresh;

const DAY: i64 = 86_400_000_000;

fn both(snapshot: &Snapshot, query: &Query, context: &QueryContext, format: Format) -> usize {
    let request = Request {
        query,
        context,
        format,
        lines: LineEnd::CrLf,
    };
    let (mut columns, mut records) = (Vec::new(), Vec::new());
    let summary = write_columns(snapshot, &request, &mut columns, &mut |_| true).unwrap();
    let other = write(snapshot, &request, &mut records, &mut |_| true).unwrap();
    assert_eq!(summary.records, other.records);
    if columns != records {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (columns, records) = (text(&columns), text(&records));
        let lines = columns.lines().zip(records.lines());
        let differ = lines.clone().find(|(a, b)| a != b);
        panic!("{format:?}: {differ:?}");
    }
    usize::try_from(summary.records).unwrap()
}

#[test]
fn columns_and_records_give_the_same_bytes() {
    let mut waves = Waves::new(21, 300);
    let fresh = Fresh::new();
    let mut txn = fresh.store.begin_write(Timestamp(0)).unwrap();
    txn.define(waves.market().schema()).unwrap();
    txn.commit().unwrap();
    let first: Vec<Vec<u8>> = waves.pages(200).collect();
    let files: Vec<(&str, &Vec<u8>)> = first.iter().map(|page| ("first", page)).collect();
    fresh.ingest("Property", &files, DAY);
    let mut ends = vec![fresh.snapshot().sequence()];
    for day in 2..6 {
        let of_day = waves.day();
        let pages: Vec<Vec<u8>> = waves.day_pages(&of_day, 200).collect();
        let files: Vec<(&str, &Vec<u8>)> = pages.iter().map(|page| ("day", page)).collect();
        fresh.ingest("Property", &files, day * DAY);
        let mut txn = fresh.store.begin_write(Timestamp(day * DAY)).unwrap();
        for (_, key) in &of_day.net.deleted {
            let key = fresh.snapshot().parse_key("Property", key).unwrap();
            txn.delete("Property", &key, None, Cause::DeletedFeed, "")
                .unwrap();
        }
        txn.commit().unwrap();
        ends.push(fresh.snapshot().sequence());
    }
    let snapshot = fresh.snapshot();
    let all = Query::new("Property");
    let some = all.clone().filter("StandardStatus eq 'Active'").unwrap();
    let few = some
        .clone()
        .select_text("City,ListPrice,Appliances,GeoLocation,PublicRemarks,ModificationTimestamp")
        .unwrap();
    let sorted = few.clone().orderby("ListPrice desc").unwrap().top(40);
    let mut rows = 0;
    for at in ends {
        let context = QueryContext {
            as_of: Some(AsOf::Sequence(at)),
            ..QueryContext::new(Timestamp(0))
        };
        for query in [&all, &some, &few, &sorted] {
            for format in [Format::Csv, Format::Ndjson] {
                rows += both(&snapshot, query, &context, format);
            }
        }
    }
    assert!(rows > 5_000, "{rows}");
}

#[test]
fn what_is_committed_while_an_export_runs_is_not_in_it() {
    let mut waves = Waves::new(22, 600);
    let fresh = Fresh::new();
    let mut txn = fresh.store.begin_write(Timestamp(0)).unwrap();
    txn.define(waves.market().schema()).unwrap();
    txn.commit().unwrap();
    let pages: Vec<Vec<u8>> = waves.pages(200).collect();
    let files: Vec<(&str, &Vec<u8>)> = pages.iter().map(|page| ("first", page)).collect();
    fresh.ingest("Property", &files, DAY);
    let (query, context) = (Query::new("Property"), QueryContext::new(Timestamp(0)));
    let formats = [Format::Parquet, Format::Csv, Format::Ndjson, Format::Arrow];
    for (day, format) in (2..).zip(formats) {
        let request = Request {
            query: &query,
            context: &context,
            format,
            lines: LineEnd::CrLf,
        };
        let snapshot = fresh.snapshot();
        let mut before = Vec::new();
        write_columns(&snapshot, &request, &mut before, &mut |_| true).unwrap();
        let of_day = waves.day();
        let pages: Vec<Vec<u8>> = waves.day_pages(&of_day, 200).collect();
        let files: Vec<(&str, &Vec<u8>)> = pages.iter().map(|page| ("day", page)).collect();
        // The writer would wait here for ever, if an export kept it waiting.
        let mut waiting = true;
        let mut during = Vec::new();
        write_columns(&snapshot, &request, &mut during, &mut |_| {
            if std::mem::take(&mut waiting) {
                fresh.ingest("Property", &files, day * DAY);
            }
            true
        })
        .unwrap();
        assert!(!waiting && fresh.snapshot().sequence() > snapshot.sequence());
        assert!(during == before, "{format:?}");
        let mut after = Vec::new();
        write_columns(&fresh.snapshot(), &request, &mut after, &mut |_| true).unwrap();
        assert!(after != before, "{format:?}");
    }
}
