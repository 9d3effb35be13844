//! Records that are at fault in a page that is not: the page is applied without them.

use relist::keycode::Key;
use relist::odata::Query;
use relist::query::QueryContext;
use relist::store::{Outcome, SyncState};
use relist::sync::SyncMode;
use relist::value::Timestamp;

use crate::feed::{Mirror, ROWS, entity, instant, stamp};

/// A record's text, the field at fault and the reason. With a key of the feed, it stands in the
/// place of that record.
fn cases() -> Vec<(String, Option<&'static str>, &'static str)> {
    let key = Some("ListingKeyNumeric");
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let mut out = Vec::new();
    let mut case = |text: &str, field, reason| out.push((text.to_owned(), field, reason));
    case("7", None, "is a number, expected an object");
    case("null", None, "is null, expected an object");
    case("\"x\"", None, "is a string, expected an object");
    case("true", None, "is a boolean, expected an object");
    case("[{}]", None, "is an array, expected an object");
    case(&deep(200), None, "is an array, expected an object");
    case("{}", key, "the key is missing");
    case(r#"{"City":"Orem"}"#, key, "the key is missing");
    case(r#"{"ListingKeyNumeric":null}"#, key, "the key is null");
    case(r#"{"ListingKeyNumeric":""}"#, key, "the key is empty");
    case(r#"{"ListingKeyNumeric":true}"#, key, "expected an integer");
    case(r#"{"ListingKeyNumeric":[1]}"#, key, "expected an integer");
    case(r#"{"ListingKeyNumeric":{}}"#, key, "expected an integer");
    case(r#"{"ListingKeyNumeric":1.5}"#, key, "expected an integer");
    case(r#"{"ListingKeyNumeric":1e400}"#, key, "expected an integer");
    case(r#"{"ListingKeyNumeric":"12x"}"#, key, "expected an integer");
    let long = r#"{"ListingKeyNumeric":123456789012345678901234567890}"#;
    case(long, key, "expected an integer");
    let twice = r#"{"ListingKeyNumeric":71,"ListingKeyNumeric":72}"#;
    case(twice, key, "is given twice, with two values");
    let twice = r#"{"ListingKeyNumeric":15,"City":"a","City":"b"}"#;
    case(twice, Some("City"), "is given twice, with two values");
    let nested = format!("{{\"ListingKeyNumeric\":15,\"Extra\":{}}}", deep(200));
    case(&nested, Some("Extra"), "is nested deeper than 128");
    let nested = format!("{{\"ListingKeyNumeric\":15,\"City\":{}}}", deep(200));
    case(&nested, Some("City"), "is nested deeper than 128");
    let half = r#"{"ListingKeyNumeric":15,"City":"\ud800"}"#;
    case(half, Some("City"), "is not a JSON string");
    out
}

#[test]
fn the_page_is_applied_and_the_record_kept_for_a_look() {
    for (text, field, reason) in cases() {
        let mut mirror = Mirror::new();
        // It comes fourth on the second page; or fifth, in the place of record 15.
        let (replaces, at) = (
            text.contains(":15,"),
            if text.contains(":15,") { 4 } else { 3 },
        );
        let bad = text.clone();
        mirror.lie = Some(Box::new(move |address, page| {
            if !address.ends_with("ListingKeyNumeric gt 10") {
                return None;
            }
            let own = entity(15, &(15_000, stamp(15)));
            let before = entity(14, &(14_000, stamp(14)));
            let page = if replaces {
                page.replace(&own, &bad)
            } else {
                page.replace(&before, &format!("{bad},{before}"))
            };
            Some(page.into_bytes())
        }));
        let report = mirror.sync(SyncMode::Auto).unwrap();
        let good = ROWS as u64 - u64::from(replaces);
        let Outcome::Degraded(why) = &report.outcome else {
            panic!("{report:?}")
        };
        assert!(
            why.starts_with("1 records ") && why.contains("in quarantine"),
            "{why}"
        );
        assert_eq!((report.inserted, report.quarantined), (good, 1), "{text}");
        assert_eq!(report.records, good + 1);
        let kept = mirror.fresh.snapshot().quarantined().unwrap();
        assert_eq!(kept.len(), 1);
        let page = "https://mls.example/Property?$filter=ListingKeyNumeric gt 10";
        assert_eq!(
            (kept[0].page.as_str(), kept[0].record),
            (page, Some(at)),
            "{text}"
        );
        assert_eq!(kept[0].field.as_deref(), field, "{text}");
        assert!(
            kept[0].reason.contains(reason),
            "{text}: {}",
            kept[0].reason
        );
        assert_eq!(kept[0].raw, text.as_bytes());
        assert_eq!(kept[0].run, report.run);
        // The checkpoint covers the page: what of it was good and what was kept are durable in
        // the transaction that moved it.
        let checkpoint = mirror.checkpoint();
        assert_eq!(checkpoint.state, SyncState::Live);
        assert_eq!(checkpoint.watermark, instant(&stamp(ROWS)));
        mirror.fresh.verify();
        // Sent as it should be, in a full walk, it is there.
        mirror.lie = None;
        let report = mirror.sync(SyncMode::Full).unwrap();
        assert_eq!((report.inserted, report.deleted), (u64::from(replaces), 0));
        mirror.heal();
    }
}

#[test]
fn a_record_that_was_good_before_stays_as_it_was() {
    for (text, field, _) in cases() {
        if !text.contains(":15,") {
            continue;
        }
        let mut mirror = Mirror::live();
        let bad = text.clone();
        mirror.lie = Some(Box::new(move |address, page| {
            let own = entity(15, &(15_000, stamp(15)));
            let walk = !address.contains("Deleted");
            walk.then(|| page.replace(&own, &bad).into_bytes())
        }));
        let before = mirror.fresh.records("Property");
        let report = mirror.sync(SyncMode::Full).unwrap();
        assert_eq!((report.applied(), report.quarantined), (0, 1), "{text}");
        assert_eq!(report.deleted, 0, "{field:?} does not make it vanish");
        assert_eq!(mirror.fresh.records("Property"), before);
        mirror.heal();
    }
}

#[test]
fn nothing_is_swept_while_a_record_without_a_key_may_be_the_missing_one() {
    let mut mirror = Mirror::live();
    let own = entity(15, &(15_000, stamp(15)));
    mirror.lie = Some(Box::new(move |_, page| {
        let keyless = own.replace("\"ListingKeyNumeric\":15,", "");
        Some(page.replace(&own, &keyless).into_bytes())
    }));
    let report = mirror.sync(SyncMode::Full).unwrap();
    assert_eq!((report.deleted, report.quarantined), (0, 1));
    let Outcome::Degraded(why) = report.outcome else {
        panic!("{:?}", report.outcome)
    };
    assert!(
        why.starts_with("1 records without a key are in quarantine: nothing was swept"),
        "{why}"
    );
    assert_eq!(mirror.count(), ROWS as u64);
    mirror.heal();
}

#[test]
fn a_key_that_one_page_gives_twice_is_taken_once_and_the_other_kept() {
    let mut mirror = Mirror::new();
    let own = entity(15, &(15_000, stamp(15)));
    let other = entity(15, &(99_000, stamp(14)));
    let (first, second) = (own.clone(), other.clone());
    mirror.lie = Some(Box::new(move |_, page| {
        Some(
            page.replace(&first, &format!("{second},{first},{first}"))
                .into_bytes(),
        )
    }));
    let report = mirror.sync(SyncMode::Auto).unwrap();
    assert_eq!((report.inserted, report.unchanged), (ROWS as u64, 1));
    assert_eq!(report.quarantined, 1);
    let kept = mirror.fresh.snapshot().quarantined().unwrap();
    // The one with the later stamp is taken, wherever it stands.
    assert_eq!(
        (kept[0].record, kept[0].field.as_deref()),
        (Some(4), Some("ListingKeyNumeric"))
    );
    assert_eq!(
        kept[0].reason,
        "the page gives key 15 twice: record 5 was taken"
    );
    assert_eq!(kept[0].raw, other.as_bytes());
    mirror.heal();
}

/// Texts of numbers that a parser to doubles would change, lose or refuse.
const NUMBERS: [&str; 7] = [
    "123456789012345678901234567890",
    "-123456789012345678901234567890.12",
    "9007199254740993",
    "0.1000000000000000055511151231257827",
    "1e400",
    "-1e-400",
    "99999999999999999999999999999999999999999999999999",
];

#[test]
fn no_number_is_rounded_or_refused() {
    let mut mirror = Mirror::new();
    for (key, number) in (1..).zip(NUMBERS) {
        let text = format!(
            "{{\"ListingKeyNumeric\":{key},\"ListPrice\":{number},\"Rooms\":{number},\
             \"Unknown\":{number},\"City\":{number}}}"
        );
        let report = mirror.fresh.ingest("Property", &[("numbers", text)], key);
        assert_eq!((report.inserted, report.quarantined), (1, 0), "{number}");
        // Too long for Int32, or no integer at all: kept as it came, and told.
        let told = report.misfits.iter().find(|m| m.field == "Rooms");
        let fits = number == "9007199254740993";
        assert_eq!(told.is_none(), fits, "{number}: {:?}", report.misfits);
        if let Some(told) = told {
            assert_eq!((told.count, told.expected.as_str()), (1, "Int64"));
            let first = format!("numbers from record 0 record 0: {number}");
            assert_eq!(
                told.first,
                first.chars().take(told.first.len()).collect::<String>()
            );
        }
    }
    let records = mirror.fresh.records("Property");
    for ((_, json), number) in records.iter().zip(NUMBERS) {
        for field in ["ListPrice", "Rooms", "Unknown", "City"] {
            assert!(
                json.contains(&format!("\"{field}\":{number}")),
                "{field} {number}: {json}"
            );
        }
    }
    let keys = |filter: &str| -> Vec<String> {
        let query = Query::new("Property").filter(filter).unwrap();
        let context = QueryContext {
            as_of: None,
            now: Timestamp(0),
            clock: None,
        };
        let rows = mirror
            .fresh
            .snapshot()
            .query(&query, &context)
            .unwrap()
            .rows;
        rows.iter()
            .map(|r| r.get("ListingKeyNumeric").unwrap().to_string())
            .collect()
    };
    assert_eq!(keys("ListPrice eq 9007199254740993"), ["3"]);
    assert_eq!(keys("ListPrice eq 9007199254740992"), Vec::<String>::new());
    assert_eq!(keys("ListPrice eq 9007199254740993.0"), ["3"]);
    assert_eq!(keys("ListPrice eq 123456789012345678901234567890"), ["1"]);
    assert_eq!(
        keys("ListPrice eq 123456789012345678901234567891"),
        Vec::<String>::new()
    );
    assert_eq!(keys("ListPrice eq 0.1"), Vec::<String>::new());
    assert_eq!(
        keys("ListPrice lt 0 and ListPrice gt -123456789012345678901234567891"),
        ["2"]
    );
    // The same numbers again, and in other words, are no change.
    mirror.rows.clear();
    for (key, number) in [
        (3, "9007199254740993.000"),
        (1, "123456789012345678901234567890.0"),
    ] {
        let text = format!(
            "{{\"ListingKeyNumeric\":{key},\"ListPrice\":{number},\"Rooms\":{number},\
             \"Unknown\":{number},\"City\":{number}}}"
        );
        let report = mirror.fresh.ingest("Property", &[("again", text)], 100);
        let city = report.field_changes;
        assert!(city <= 1, "{number}: {city} changes");
    }
    assert!(
        mirror
            .fresh
            .snapshot()
            .get("Property", &Key::Int(3))
            .unwrap()
            .is_some()
    );
    mirror.fresh.verify();
}
