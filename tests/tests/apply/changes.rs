//! Changes as a resource, against a plain reading of the changelog.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use relist::error::Error;
use relist::keycode::Key;
use relist::odata::Query;
use relist::query::{CHANGES, QueryContext};
use relist::store::{AsOf, Operation, Snapshot};
use relist::value::{Decimal, Timestamp};
use relist_tests::fresh::Fresh;
use serde_json::{Value as Json, json};

const DAY: i64 = 86_400_000_000;
const START: i64 = 1_790_000_000_000_000;

/// Twelve days of a small market: prices fall, statuses change, listings go and come back.
fn market() -> Fresh {
    let fresh = Fresh::new();
    let mut random = TestRunner::deterministic();
    let mut dice = |sides: u32| (0..sides).new_tree(&mut random).unwrap().current();
    let mut prices = [400_000_u32; 40];
    for day in 0..12 {
        let at = START + i64::from(day) * DAY;
        let mut page = Vec::new();
        for (listing, price) in prices.iter_mut().enumerate() {
            if dice(3) == 0 {
                *price = *price / 100 * (90 + dice(15));
            }
            let status = ["Active", "Pending", "Closed"][dice(3) as usize];
            let mut record = json!({
                "ListingKeyNumeric": listing, "ListPrice": price, "StandardStatus": status,
                "City": "Provo", "ModificationTimestamp": "2026-09-01T00:00:00Z",
                "CloseDate": if status == "Closed" { json!("2026-09-02") } else { Json::Null },
            });
            if dice(20) == 0 {
                record["Withdrawn"] = json!(true);
            }
            page.push(record);
        }
        fresh.ingest("Property", &[("p", json!({"value": page}).to_string())], at);
        if day % 4 == 3 {
            let gone = json!({"resource": "Property", "primary_key": dice(40).to_string(),
                "ts": "2026-09-01T00:00:00Z"});
            let gone = json!({"value": [gone]});
            fresh.ingest("Deleted", &[("d", gone.to_string())], at + 1);
        }
    }
    fresh
}

fn context() -> QueryContext {
    QueryContext {
        as_of: None,
        now: Timestamp(START + 12 * DAY),
        clock: None,
    }
}

/// A row in words: sequence, key, operation, field, both values, run.
type Line = (u64, String, &'static str, String, String, String, u64);

fn asked(snapshot: &Snapshot, query: &Query, context: &QueryContext) -> Vec<Line> {
    let mut lines = Vec::new();
    let found = snapshot
        .query_changes(query, context, &mut |row, _| {
            let cell = |cell: Option<relist::record::Cell<'_>>| {
                cell.map_or("-".to_owned(), relist::record::Cell::to_json)
            };
            lines.push((
                row.sequence,
                row.key.map_or("-".to_owned(), Key::to_string),
                row.operation.name(),
                row.field.map_or("-".to_owned(), str::to_owned),
                cell(row.previous()),
                cell(row.new_value()),
                row.run,
            ));
            Ok(true)
        })
        .unwrap_or_else(|e| panic!("{query:?}: {e:?}"));
    assert_eq!(found.explain.returned, lines.len() as u64);
    lines
}

fn query(filter: &str) -> Query {
    Query::new(CHANGES)
        .filter(filter)
        .unwrap_or_else(|e| panic!("{filter}: {e:?}"))
}

/// Every row there is, read from the changelog.
fn all(snapshot: &Snapshot) -> Vec<(Line, i64)> {
    let mut lines = Vec::new();
    for change in snapshot.changes(0).unwrap() {
        let change = change.unwrap();
        let line = |field: &str, previous: String, new: String| {
            let key = change.key.as_ref().map_or("-".to_owned(), Key::to_string);
            let operation = change.operation.name();
            let line = (
                change.sequence,
                key,
                operation,
                field.to_owned(),
                previous,
                new,
                change.run,
            );
            (line, change.observed.0)
        };
        if change.operation != Operation::Update {
            lines.push(line("-", "-".to_owned(), "-".to_owned()));
        }
        for field in &change.fields {
            let cell = |cell: Option<relist::record::Cell<'_>>| {
                cell.map_or("-".to_owned(), relist::record::Cell::to_json)
            };
            lines.push(line(
                &field.name,
                cell(field.previous()),
                cell(field.new_value()),
            ));
        }
    }
    lines
}

/// Whether a row and the time it was observed at are asked for.
type Test<'t> = Box<dyn Fn(&Line, i64) -> bool + 't>;

fn price(text: &str) -> Option<Decimal> {
    Decimal::parse(text)
}

#[test]
fn filters_give_what_reading_the_changelog_gives() {
    let fresh = market();
    let snapshot = fresh.store.snapshot().unwrap();
    let every = all(&snapshot);
    assert!(every.len() > 300, "{}", every.len());
    let middle = START + 6 * DAY;
    let instant = Timestamp(middle).to_string();
    let number = |text: &str| price(text);
    let cut = |line: &Line, to: &str| {
        let previous = number(&line.4).and_then(|p| p.checked_mul(number(to)?));
        line.3 == "ListPrice" && previous.is_some_and(|p| number(&line.5).is_some_and(|n| n < p))
    };
    let cases: Vec<(String, Test<'_>)> = vec![
        (
            "FieldName eq 'ListPrice' and NewValue lt PreviousValue".to_owned(),
            Box::new(|l, _| cut(l, "1")),
        ),
        (
            format!(
                "FieldName eq 'ListPrice' and NewValue lt PreviousValue mul 0.95 and \
                 ObservedTimestamp gt {instant}"
            ),
            Box::new(|l, at| cut(l, "0.95") && at > middle),
        ),
        (
            format!("ObservedTimestamp ge {instant} and Operation eq 'update'"),
            Box::new(|l, at| at >= middle && l.2 == "update"),
        ),
        (
            format!("ObservedTimestamp lt {instant} and FieldName eq null"),
            Box::new(|l, at| at < middle && l.3 == "-"),
        ),
        (
            "NewValue eq 'Pending' and PreviousValue in ('Active','Closed')".to_owned(),
            Box::new(|l, _| l.5 == "\"Pending\"" && ["\"Active\"", "\"Closed\""].contains(&&*l.4)),
        ),
        (
            "FieldName in ('CloseDate','StandardStatus') and Sequence ge 50".to_owned(),
            Box::new(|l, _| ["CloseDate", "StandardStatus"].contains(&&*l.3) && l.0 >= 50),
        ),
        (
            "startswith(FieldName,'C') and Cause eq 'ingest' and Run gt 3 and (ResourceRecordKey \
             eq '7' or NewValue ne null)"
                .to_owned(),
            Box::new(|l, _| {
                l.3.starts_with('C') && l.6 > 3 && (l.1 == "7" || !["null", "-"].contains(&&*l.5))
            }),
        ),
        (
            "FieldName ne 'ListPrice' and Operation eq 'relist'".to_owned(),
            Box::new(|l, _| l.3 != "ListPrice" && l.2 == "relist"),
        ),
        (
            "Sequence gt 50 and Sequence le 60.5".to_owned(),
            Box::new(|l, _| l.0 > 50 && l.0 <= 60),
        ),
        ("Sequence eq 51".to_owned(), Box::new(|l, _| l.0 == 51)),
        ("Sequence lt 0".to_owned(), Box::new(|_, _| false)),
        (
            "ResourceName eq 'Property' and ResourceRecordKey eq '7'".to_owned(),
            Box::new(|l, _| l.1 == "7"),
        ),
        (
            "ResourceRecordKey eq '7' or Sequence eq 3".to_owned(),
            Box::new(|l, _| l.1 == "7" || l.0 == 3),
        ),
        (
            "Operation in ('delete','relist')".to_owned(),
            Box::new(|l, _| l.2 == "delete" || l.2 == "relist"),
        ),
        (
            "NewValue eq null and FieldName eq 'CloseDate'".to_owned(),
            Box::new(|l, _| l.3 == "CloseDate" && ["null", "-"].contains(&&*l.5)),
        ),
        (
            "NewValue eq 2026-09-02".to_owned(),
            Box::new(|l, _| l.5 == "\"2026-09-02\""),
        ),
        ("true".to_owned(), Box::new(|_, _| true)),
    ];
    for (text, test) in &cases {
        let expected: Vec<Line> = every
            .iter()
            .filter(|(line, at)| test(line, *at))
            .map(|(line, _)| line.clone())
            .collect();
        assert_eq!(
            asked(&snapshot, &query(text), &context()),
            expected,
            "{text}"
        );
        assert_eq!(expected.is_empty(), text == "Sequence lt 0", "{text}");
        // The same, sorted and cut.
        let sorted = query(text).orderby("NewValue desc,Sequence desc").unwrap();
        let found = asked(&snapshot, &sorted, &context());
        let mut again = found.clone();
        again.sort();
        let mut wanted = expected.clone();
        wanted.sort();
        assert_eq!(again, wanted, "{text}");
        let cut = asked(&snapshot, &sorted.clone().skip(2).top(5), &context());
        assert_eq!(
            cut,
            found.iter().skip(2).take(5).cloned().collect::<Vec<_>>(),
            "{text}"
        );
        let cut = asked(&snapshot, &query(text).skip(1).top(3), &context());
        assert_eq!(
            cut,
            expected.iter().skip(1).take(3).cloned().collect::<Vec<_>>(),
            "{text}"
        );
    }
    // As of a moment: what had happened by then.
    let then = QueryContext {
        as_of: Some(AsOf::Sequence(77)),
        ..context()
    };
    let expected = every.iter().map(|(l, _)| l.clone()).filter(|l| l.0 <= 77);
    assert_eq!(
        asked(&snapshot, &Query::new(CHANGES), &then),
        expected.collect::<Vec<_>>()
    );
    let key = query("ResourceName eq 'Property' and ResourceRecordKey eq '7'");
    let expected = every
        .iter()
        .map(|(l, _)| l.clone())
        .filter(|l| l.0 <= 77 && l.1 == "7");
    assert_eq!(asked(&snapshot, &key, &then), expected.collect::<Vec<_>>());
}

#[test]
fn only_what_may_pass_is_read() {
    let fresh = market();
    let snapshot = fresh.store.snapshot().unwrap();
    let examined = |text: &str| {
        let found = snapshot.query_changes(&query(text), &context(), &mut |_, _| Ok(true));
        found.unwrap().explain
    };
    let all = examined("true").examined;
    let last = Timestamp(START + 11 * DAY).to_string();
    let late = examined(&format!("ObservedTimestamp ge {last}"));
    assert!(
        late.examined > 0 && late.examined < all / 5,
        "{late} of {all}"
    );
    let narrow = examined("Sequence ge 10 and Sequence lt 20");
    assert!(narrow.examined <= 60, "{narrow}");
    let own = examined("ResourceName eq 'Property' and ResourceRecordKey eq '7'");
    assert_eq!(own.access, "the changes of Property 7");
    assert!(own.examined < all / 20, "{own}");
    assert_eq!(examined("false").examined, 0);
    let prices = examined("FieldName eq 'ListPrice' and NewValue lt PreviousValue");
    assert!(
        prices.access.starts_with("changes of one field"),
        "{prices}"
    );
    assert!(prices.examined < all / 3, "{prices}");
}

#[test]
fn changes_are_grouped_too() {
    let fresh = market();
    let snapshot = fresh.store.snapshot().unwrap();
    let every = all(&snapshot);
    let query = Query::new(CHANGES)
        .apply(
            "filter(FieldName eq 'ListPrice' and NewValue lt PreviousValue)/compute(NewValue sub \
             PreviousValue as Step)/groupby((date(ObservedTimestamp) as Day),aggregate($count as \
             Cuts,Step with min as Deepest,ResourceRecordKey with countdistinct as Listings))",
        )
        .unwrap();
    let result = snapshot.apply(&query, &context()).unwrap();
    let mut days: BTreeMap<i64, (i64, Decimal)> = BTreeMap::new();
    for (line, at) in &every {
        let (Some(from), Some(to)) = (price(&line.4), price(&line.5)) else {
            continue;
        };
        if line.3 == "ListPrice" && to < from {
            let step = to.checked_sub(from).unwrap();
            let day = days.entry(at.div_euclid(DAY)).or_insert((0, step));
            *day = (day.0 + 1, day.1.min(step));
        }
    }
    assert!(days.len() > 8);
    let expected: Vec<String> = days
        .iter()
        .map(|(day, (cuts, deepest))| {
            let day = relist::value::Date(i32::try_from(*day).unwrap());
            format!(
                "{{\"Day\":\"{day}\",\"Cuts\":{cuts},\"Deepest\":{deepest},\"Listings\":{cuts}}}"
            )
        })
        .collect();
    let lines = result.rows.iter().map(|row| {
        let mut out = String::new();
        result.write_json(row, &mut out);
        out
    });
    assert_eq!(lines.collect::<Vec<_>>(), expected);
}

#[test]
fn slips_of_the_pen_are_found() {
    let fresh = market();
    let snapshot = fresh.store.snapshot().unwrap();
    for (text, at, message, hint) in [
        (
            "FieldName eq 'ListPrize'",
            13,
            "\"ListPrize\" is not a member of FieldName",
            "did you mean 'ListPrice'?",
        ),
        (
            "Operation eq 'deleted'",
            13,
            "\"deleted\" is not a member of Operation",
            "did you mean 'delete'?",
        ),
        ("ListPrice lt 5", 0, "changes has no field ListPrice", ""),
        (
            "ResourceRecordKey eq 7",
            21,
            "ResourceRecordKey is a string, 7 is a number: they do not compare",
            "write '7'",
        ),
    ] {
        let found = snapshot.query_changes(&query(text), &context(), &mut |_, _| Ok(true));
        let Err(Error::Query(error)) = found else {
            panic!("{text}: {found:?}");
        };
        assert_eq!(
            (error.offset, error.message.as_str()),
            (at, message),
            "{text}"
        );
        assert_eq!(error.hint.as_deref().unwrap_or_default(), hint, "{text}");
    }
}
