//! Pages that cannot be trusted as a whole.

use relist::error::{DecodeError, Error};
use relist::keycode::Key;
use relist::store::{Outcome, SyncState, WalkPosition};
use relist::sync::{SyncMode, WalkKind};

use crate::feed::{Mirror, PAGE, ROWS, instant, stamp};

/// A body, the record and the byte at fault, and the reason.
type Case = (Vec<u8>, Option<usize>, Option<usize>, &'static str);

fn cases() -> Vec<Case> {
    let mut out: Vec<Case> = Vec::new();
    let mut case = |body: &[u8], record, offset, reason| {
        out.push((body.to_vec(), record, offset, reason));
    };
    let cut = br#"{"value":[{"ListingKeyNumeric":1},{"Listing"#;
    case(cut, Some(1), Some(cut.len()), "is truncated");
    let cut = br#"{"value":[{"ListingKeyNumeric":1},"#;
    case(cut, Some(1), Some(cut.len()), "is truncated");
    let cut = br#"{"value":[{"ListingKeyNumeric":1}]"#;
    case(cut, None, Some(cut.len()), "is truncated");
    case(b"", None, Some(0), "is empty");
    case(b" \r\n ", None, Some(0), "is empty");
    let html = b"<!DOCTYPE html><html><body>Sign in</body></html>";
    case(html, None, Some(0), "is HTML or XML, expected JSON");
    let error = br#"{"error":{"code":"429","message":"Slow down"}}"#;
    case(
        error,
        None,
        None,
        "is an error of the server: 429: Slow down",
    );
    let error = br#"{"error":"invalid_token"}"#;
    case(
        error,
        None,
        None,
        "is an error of the server: \"invalid_token\"",
    );
    // A server that fails halfway has said 200 before it knew.
    let error = br#"{"value":[{"ListingKeyNumeric":1}],"error":{"message":"Timeout"}}"#;
    case(error, None, None, "is an error of the server: Timeout");
    case(br#"{"Count":0}"#, None, None, "has no `value`");
    for (value, kind) in [
        ("null", "`value` is null"),
        ("\"x\"", "`value` is a string"),
        ("7", "`value` is a number"),
        ("-7", "`value` is a number"),
        ("1e400", "is not JSON: number out of range"),
        ("true", "`value` is a boolean"),
        ("{}", "`value` is an object"),
    ] {
        case(
            format!("{{\"value\":{value}}}").as_bytes(),
            None,
            None,
            kind,
        );
    }
    let twice = br#"{"value":[{"ListingKeyNumeric":1}],"value":[]}"#;
    case(twice, None, Some(42), "`value` is given twice");
    case(
        b"\xef\xbb\xbf{\"value\":[]}",
        None,
        Some(0),
        "byte order mark",
    );
    case(
        b"{\"value\":[{\"City\":\"\xff\"}]}",
        None,
        Some(19),
        "is not UTF-8",
    );
    case(b"\xff\xfe{\0}\0", None, Some(0), "does not start with `{`");
    case(b"\x1f\x8b\x08\0", None, Some(0), "does not start with `{`");
    case(b"[]", None, Some(0), "is a JSON array");
    case(b"null", None, Some(0), "does not start with `{`");
    case(
        b"{\"value\":[]}{}",
        None,
        Some(13),
        "is not JSON: trailing characters",
    );
    for number in ["NaN", "-Infinity", "01", "+1", ".5", "1.", "0x10", "'1'"] {
        let body = format!("{{\"value\":[{{\"ListPrice\":{number}}}]}}");
        case(body.as_bytes(), Some(0), None, "is not JSON");
    }
    let line = b"{\"value\":[{},{\"City\":\"a\nb\"}]}";
    case(line, Some(1), None, "is not JSON: control character");
    out
}

fn decode_error(error: &Error) -> &DecodeError {
    match error {
        Error::Decode(error) => error,
        other => panic!("{other:?}"),
    }
}

/// The error names page, record and byte; the page is kept whole; the run has failed.
fn check_refused(mirror: &Mirror, error: &Error, case: &Case, address: &str) {
    let (body, record, offset, reason) = case;
    let text = String::from_utf8_lossy(body);
    let error = decode_error(error);
    assert!(error.reason.contains(reason), "{text}: {error}");
    assert_eq!(error.page, format!("https://mls.example/{address}"));
    assert_eq!(error.record, *record, "{text}: {error}");
    if offset.is_some() {
        assert_eq!(error.offset, *offset, "{text}: {error}");
    }
    let kept = mirror.fresh.snapshot().quarantined().unwrap();
    let kept = kept.iter().find(|q| q.page == error.page).unwrap();
    assert_eq!((&kept.raw, kept.raw_len), (body, body.len() as u64));
    assert_eq!(kept.record, record.map(|r| r as u64));
    assert!(kept.reason.ends_with(&error.reason));
    assert_eq!(mirror.last_outcome(), Outcome::Failed(error.to_string()));
    mirror.fresh.verify();
}

#[test]
fn the_first_walk_stops_before_the_page_and_goes_on_there() {
    for case in cases() {
        for bad in [0, 30] {
            let mut mirror = Mirror::new();
            let address = match bad {
                0 => "Property?$filter=".to_owned(),
                n => format!("Property?$filter=ListingKeyNumeric gt {n}"),
            };
            mirror.lies(&address, &case.0);
            let error = mirror.sync(SyncMode::Auto).unwrap_err();
            check_refused(&mirror, &error, &case, &address);
            assert_eq!(mirror.count(), bad);
            let checkpoint = mirror.checkpoint();
            assert_eq!(
                (checkpoint.watermark, checkpoint.last_complete),
                (None, None)
            );
            assert_ne!(checkpoint.state, SyncState::Live);
            let position = checkpoint.walk.map_or(WalkPosition::Start, |w| w.position);
            let expected = match i64::try_from(bad).unwrap() {
                0 => WalkPosition::Start,
                n => WalkPosition::After(Key::Int(n)),
            };
            assert_eq!(position, expected);
            assert_eq!(mirror.heal().inserted, ROWS as u64 - bad);
        }
    }
}

#[test]
fn an_incremental_walk_keeps_the_watermark() {
    for case in cases() {
        let mut mirror = Mirror::live();
        let before = mirror.checkpoint();
        assert_eq!(before.watermark, instant(&stamp(ROWS)));
        for key in 1..=25 {
            mirror.rows.insert(key, (7, stamp(1_000 + key)));
        }
        let since = stamp(ROWS);
        let address = format!(
            "Property?$filter=ModificationTimestamp ge {since} and ListingKeyNumeric gt 10"
        );
        mirror.lies(&address, &case.0);
        let error = mirror.sync(SyncMode::Auto).unwrap_err();
        check_refused(&mirror, &error, &case, &address);
        let after = mirror.checkpoint();
        assert_eq!(after.watermark, before.watermark);
        assert_eq!(after.last_complete, before.last_complete);
        assert_eq!(after.state, SyncState::Live);
        // The page before it is safe, and is not read again.
        let report = mirror.heal();
        assert_eq!(report.updated, 25 - PAGE as u64);
        assert_eq!(mirror.checkpoint().watermark, instant(&stamp(1_025)));
    }
}

#[test]
fn a_bad_list_of_deletions_deletes_nothing_and_is_asked_for_again() {
    for case in cases() {
        let mut mirror = Mirror::live();
        let before = mirror.checkpoint();
        let gone = "2026-03-01T00:00:00Z";
        mirror.deleted.push((7, gone.to_owned()));
        mirror.rows.remove(&7);
        let address = format!("Deleted?$filter=resource eq 'Property' and ts ge {gone}");
        mirror.lies(&address, &case.0);
        let error = mirror.sync(SyncMode::Auto).unwrap_err();
        assert_eq!(decode_error(&error).resource, "Deleted");
        check_refused(&mirror, &error, &case, &address);
        assert_eq!(mirror.count(), ROWS as u64);
        let after = mirror.checkpoint();
        assert_eq!(after.deletes_watermark, before.deletes_watermark);
        assert_eq!(after.last_complete, before.last_complete);
        assert_eq!(mirror.heal().deleted, 1);
    }
}

#[test]
fn a_bad_answer_about_missing_keys_deletes_nothing() {
    for case in cases() {
        let mut mirror = Mirror::live();
        let before = mirror.checkpoint();
        for key in [3, 44] {
            mirror.rows.remove(&key);
        }
        let address = "Property?$filter=ListingKeyNumeric eq 3 or ListingKeyNumeric eq 44";
        mirror.lies(address, &case.0);
        let error = mirror.sync(SyncMode::Full).unwrap_err();
        check_refused(&mirror, &error, &case, address);
        assert_eq!(mirror.count(), ROWS as u64);
        assert_eq!(mirror.checkpoint().last_full, before.last_full);
        mirror.lie = None;
        assert_eq!(mirror.sync(SyncMode::Full).unwrap().deleted, 2);
        mirror.heal();
    }
}

#[test]
fn a_page_cut_anywhere_is_never_taken_for_a_whole_one() {
    let page = br#"{"@odata.count":3,"value":[{"ListingKeyNumeric":1,"City":"\u00e9}]"},
        {"ListingKeyNumeric":2,"ListPrice":1.50,"Rooms":null}],"@odata.nextLink":"Property?n"}"#;
    let mut mirror = Mirror::new();
    mirror.policy.walk = WalkKind::NextLink;
    for end in 0..page.len() {
        mirror.lies("Property?$filter=", &page[..end]);
        let error = mirror.sync(SyncMode::Auto).unwrap_err();
        let error = decode_error(&error);
        let known = ["is empty", "is truncated", "invalid number"];
        assert!(
            known.iter().any(|k| error.reason.contains(k)),
            "{end}: {error}"
        );
        assert_eq!((mirror.count(), mirror.checkpoint().watermark), (0, None));
    }
    assert_eq!(mirror.fresh.snapshot().sequence(), 0);
    mirror.fresh.verify();
}

#[test]
fn a_page_of_no_rows_ends_a_walk_and_deletes_nothing_by_itself() {
    // Of an empty feed.
    let mut mirror = Mirror::new();
    let rows = std::mem::take(&mut mirror.rows);
    let report = mirror.sync(SyncMode::Auto).unwrap();
    assert_eq!((report.outcome, report.records), (Outcome::Complete, 0));
    assert_eq!(mirror.checkpoint().state, SyncState::Live);
    // What comes to it later is found by the next incremental run.
    let late = "2026-03-01T00:00:00Z".to_owned();
    mirror.rows = rows
        .into_iter()
        .map(|(key, (price, _))| (key, (price, late.clone())))
        .collect();
    assert_eq!(mirror.heal().inserted, ROWS as u64);

    // Of a feed that has nothing new.
    let mut mirror = Mirror::live();
    let before = mirror.checkpoint();
    mirror.lies("gt 60", br#"{"@odata.count":0,"value":[]}"#);
    let report = mirror.sync(SyncMode::Auto).unwrap();
    assert_eq!((report.applied(), report.deleted), (0, 0));
    assert_eq!(mirror.checkpoint().watermark, before.watermark);

    // Of a feed that has lost everything: the brake holds.
    mirror.lie = None;
    let rows = std::mem::take(&mut mirror.rows);
    let report = mirror.sync(SyncMode::Full).unwrap();
    assert!(matches!(report.outcome, Outcome::Degraded(_)), "{report:?}");
    assert_eq!((report.deleted, mirror.count()), (0, ROWS as u64));
    assert_eq!(mirror.checkpoint().watermark, before.watermark);
    // So what changed before that walk is not lost to the next incremental run.
    mirror.rows = rows;
    mirror.rows.insert(9, (9, stamp(2_000)));
    assert_eq!(mirror.heal().updated, 1);
}

#[test]
fn a_small_feed_that_says_nothing_is_not_believed_either() {
    let mut mirror = Mirror::new();
    mirror.rows.retain(|key, _| *key <= 40);
    mirror.sync(SyncMode::Auto).unwrap();
    let rows = std::mem::take(&mut mirror.rows);
    let report = mirror.sync(SyncMode::Full).unwrap();
    assert_eq!((report.deleted, mirror.count()), (0, 40), "{report:?}");
    mirror.rows = rows;
    mirror.heal();
}

#[test]
fn a_link_to_itself_ends_the_walk() {
    let link = br#"{"value":[{"ListingKeyNumeric":1,"City":"Orem"}],
        "@odata.nextLink":"Property?$skiptoken=1"}"#;
    let mut mirror = Mirror::new();
    mirror.policy.walk = WalkKind::NextLink;
    let body = link.to_vec();
    mirror.lie = Some(Box::new(move |_, _| Some(body.clone())));
    let error = mirror.sync(SyncMode::Auto).unwrap_err().to_string();
    assert!(
        error.starts_with("https://mls.example/Property?$skiptoken=1: "),
        "{error}"
    );
    assert!(
        error.contains("its nextLink was followed before"),
        "{error}"
    );
    let checkpoint = mirror.checkpoint();
    assert_eq!(
        (checkpoint.watermark, checkpoint.state),
        (None, SyncState::Backfilling)
    );
    // The record that came on the way is safe, and so it is the next time.
    assert_eq!(mirror.count(), 1);
    assert!(mirror.sync(SyncMode::Auto).is_err());
    assert_eq!(mirror.count(), 1);

    // The same in a list of deletions.
    let mut mirror = Mirror::live();
    let before = mirror.checkpoint();
    mirror.lie = Some(Box::new(|address, _| {
        let deletions = address.contains("Deleted");
        deletions.then(|| br#"{"value":[],"@odata.nextLink":"Deleted?$skip=0"}"#.to_vec())
    }));
    let error = mirror.sync(SyncMode::Auto).unwrap_err().to_string();
    assert!(
        error.contains("its nextLink was followed before"),
        "{error}"
    );
    assert_eq!(
        mirror.checkpoint().deletes_watermark,
        before.deletes_watermark
    );
    mirror.heal();
}
