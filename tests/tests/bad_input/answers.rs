//! Pages that are whole and right, and answer something else.

use relist::store::Outcome;
use relist::sync::{SyncMode, WalkKind};

use crate::feed::{Mirror, ROWS, entity, stamp};

/// A page of these records, with members of the page before them.
fn page(members: &str, records: &[String]) -> Vec<u8> {
    format!("{{{members}\"value\":[{}]}}", records.join(",")).into_bytes()
}

fn rows(mirror: &Mirror, keys: impl IntoIterator<Item = i64>) -> Vec<String> {
    let keys = keys.into_iter();
    keys.map(|key| entity(key, &mirror.rows[&key])).collect()
}

/// The next sync is refused for that reason, applies nothing and moves nothing; the one after it,
/// told the truth, is complete.
fn refused(mirror: &mut Mirror, mode: SyncMode, reason: &str) {
    let (before, sequence) = (mirror.checkpoint(), mirror.fresh.snapshot().sequence());
    let error = mirror.sync(mode).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
    let after = mirror.checkpoint();
    assert_eq!(after.watermark, before.watermark, "{reason}");
    assert_eq!(after.last_complete, before.last_complete, "{reason}");
    assert_eq!(mirror.fresh.snapshot().sequence(), sequence, "{reason}");
    mirror.heal();
}

const KEYS_ONLY: &str = "have keys only, and whole records were asked for";

#[test]
fn keys_where_records_were_asked_for_are_not_applied() {
    let selected = "\"@odata.context\":\"$metadata#Property(ListingKeyNumeric,\
                    ModificationTimestamp)\",";
    let key = r#"{"@odata.id":"Property(60)","ListingKeyNumeric":60}"#.to_owned();
    let later = stamp(90);
    let stamped = format!("{{\"ListingKeyNumeric\":60,\"ModificationTimestamp\":\"{later}\"}}");
    for body in [
        page("\"@odata.count\":1,", std::slice::from_ref(&key)),
        page(selected, &[key]),
        page(selected, &[stamped]),
    ] {
        // A change that the answer hides.
        let mut mirror = Mirror::live();
        mirror.rows.insert(60, (7, later.clone()));
        mirror.lies(&format!("ge {}", stamp(60)), &body);
        refused(&mut mirror, SyncMode::Auto, KEYS_ONLY);
        // Along links there are no bounds of keys.
        let mut mirror = Mirror::live();
        mirror.policy.walk = WalkKind::NextLink;
        mirror.rows.insert(60, (7, later.clone()));
        mirror.lies(&format!("ge {}", stamp(60)), &body);
        let error = mirror.sync(SyncMode::Auto).unwrap_err().to_string();
        assert!(error.contains(KEYS_ONLY), "{error}");
    }
    // The same is the right answer where keys and stamps were asked for.
    let mut mirror = Mirror::live();
    let (key, at) = (60, stamp(60));
    let keys = format!("{{\"ListingKeyNumeric\":{key},\"ModificationTimestamp\":\"{at}\"}}");
    let body = page(selected, &[keys]);
    mirror.lies("gt 50", &body);
    let report = mirror.sync(SyncMode::Reconcile).unwrap();
    assert_eq!((report.checked, report.deleted), (51, 0));
}

#[test]
fn keys_out_of_their_bounds_or_order_are_not_applied() {
    let reason = "does not lie behind the key asked for, in order of keys";
    for keys in [vec![9, 11, 12], vec![10, 11], vec![11, 13, 12, 14]] {
        let mut mirror = Mirror::live();
        let body = page("", &rows(&mirror, keys));
        mirror.lies("ListingKeyNumeric gt 10", &body);
        refused(&mut mirror, SyncMode::Full, reason);
    }
    // A slice has an end, too.
    let mut mirror = Mirror::live();
    let body = page("", &rows(&mirror, [1, 2, 31]));
    mirror.lies("ListingKeyNumeric le 30", &body);
    let half = SyncMode::Deep { slice: 1, of: 2 };
    refused(&mut mirror, half, "goes beyond the last key asked for");
}

#[test]
fn records_stamped_long_before_the_bound_are_no_answer() {
    let mut mirror = Mirror::live();
    let old = |key| entity(key, &(1, "2026-01-30T23:59:00Z".to_owned()));
    mirror.rows.insert(60, (7, stamp(90)));
    mirror.lies(&format!("ge {}", stamp(60)), &page("", &[old(59)]));
    refused(
        &mut mirror,
        SyncMode::Auto,
        "stamped more than a day before the bound asked for",
    );
    // A little before it is only odd: servers compare in their own ways.
    let mut mirror = Mirror::live();
    let body = page("", &rows(&mirror, [1]));
    mirror.lies(&format!("ge {}", stamp(60)), &body);
    assert_eq!(mirror.sync(SyncMode::Auto).unwrap().unchanged, 2);
}

#[test]
fn a_count_that_is_missing_or_too_low_is_asked_for_again() {
    let counted = format!("\"@odata.count\":{ROWS},");
    for first in ["", "\"@odata.count\":0,"] {
        let mut mirror = Mirror::new();
        // This feed counts.
        let every = page(&counted, &rows(&mirror, 1..=10));
        mirror.lies("Property?$filter=", &every);
        assert_eq!(mirror.sync(SyncMode::Auto).unwrap().expected, Some(60));
        let watermark = mirror.checkpoint().watermark;
        // Record 20 is lost on the way, and the count of the first page is of something else.
        mirror.rows.insert(20, (7, stamp(200)));
        mirror.rows.insert(30, (7, stamp(201)));
        let (one, since) = (
            page(first, &rows(&mirror, [30])),
            format!("ge {}", stamp(60)),
        );
        let again = format!("le {}", stamp(0).replace("2026-02-01", "2026-03-01"));
        let three = page("\"@odata.count\":3,", &rows(&mirror, [20]));
        mirror.lie = Some(Box::new(move |address, _| {
            let to_first = address.ends_with(&since).then(|| one.clone());
            let recount = || address.ends_with(&again).then(|| three.clone());
            to_first.or_else(recount)
        }));
        let report = mirror.sync(SyncMode::Auto).unwrap();
        assert!(
            matches!(&report.outcome, Outcome::Degraded(why) if why.contains("the walk met ")),
            "{first}: {:?}",
            report.outcome
        );
        assert_eq!(mirror.checkpoint().watermark, watermark, "{first}");
        assert_eq!(mirror.heal().updated, 1, "{first}");
    }
}
