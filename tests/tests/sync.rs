//! Sync over real HTTP against the simulated feed: nothing lost, nothing logged twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use relist::error::{Error, SourceErrorKind};
use relist::keycode::Key;
use relist::store::{Operation, Outcome, RunKind, SyncState};
use relist::sync::{SyncMode, WalkKind};
use relist_sim::{Access, Backend as _, Dataset, Market, Options, Response, Size, truth};
use relist_tests::mirror::{Mirror, listings};
use serde_json::{Value, json};

fn stamp(second: i64) -> String {
    format!(
        "2026-02-01T{:02}:{:02}:{:02}Z",
        second / 3_600 % 24,
        second / 60 % 60,
        second % 60
    )
}

fn serve(rows: Dataset, options: Options) -> Mirror<Dataset> {
    Mirror::new(Arc::new(Mutex::new(rows)), options)
}

/// What the server holds of its first resource, in key order.
fn served(rows: &Dataset) -> Vec<Value> {
    let mut ids = Vec::new();
    rows.scan(0, &Access::All, &mut |row| {
        ids.push(row);
        true
    });
    let json = |row| {
        let mut out = b"{".to_vec();
        rows.write_row(0, row, None, &mut out);
        out.push(b'}');
        serde_json::from_slice(&out).unwrap()
    };
    ids.into_iter().map(json).collect()
}

#[test]
fn five_thousand_rows_on_one_stamp_lose_none() {
    for walk in [WalkKind::Keyset, WalkKind::NextLink] {
        let mut mirror = serve(listings(5_000, |_| stamp(0)), Options::default());
        mirror.policy.walk = walk;
        let report = mirror.sync("Property", SyncMode::Auto).unwrap();
        assert_eq!(
            (report.inserted, report.quarantined),
            (5_000, 0),
            "{walk:?}"
        );
        assert_eq!(report.outcome, Outcome::Complete);
        // All of them change within one second.
        {
            let mut rows = mirror.rows.lock().unwrap();
            for key in 1..=5_000 {
                let row = json!({"ListingKeyNumeric": key, "ListPrice": key * 1_000 - 1,
                    "StandardStatus": "Active", "ModificationTimestamp": stamp(86_399)});
                rows.put("Property", &row).unwrap();
            }
        }
        let report = mirror.sync("Property", SyncMode::Auto).unwrap();
        assert_eq!(report.kind, RunKind::Incremental);
        assert_eq!(
            (report.updated, report.price_changes),
            (5_000, 5_000),
            "{walk:?}"
        );
        // Read again within the overlap, they change nothing.
        let report = mirror.sync("Property", SyncMode::Auto).unwrap();
        assert_eq!(
            (report.records, report.unchanged),
            (5_000, 5_000),
            "{walk:?}"
        );
        mirror.verify();
    }
}

#[test]
fn the_market_is_mirrored_day_by_day_and_every_change_logged_once() {
    let market = Arc::new(Mutex::new(Market::new(7, Size::listings(600))));
    let mut mirror = Mirror::new(Arc::clone(&market), Options::default());
    mirror.policy.deletes = Some(relist::ingest::DeletedFeed::WFRMLS);
    let resources = ["Property", "Member", "Office", "OpenHouse"];
    for resource in resources {
        mirror.policy.photo_cursor = photo_cursor(resource);
        let report = mirror.sync(resource, SyncMode::Auto).unwrap();
        assert_eq!(
            (report.kind, &report.outcome),
            (RunKind::Full, &Outcome::Complete)
        );
    }
    for day in 0..12 {
        let (place, sequence) = {
            let mut market = market.lock().unwrap();
            let place = market.truth_len();
            market.advance_days(1);
            (place, mirror.store.snapshot().unwrap().sequence())
        };
        for resource in resources {
            mirror.policy.photo_cursor = photo_cursor(resource);
            let report = mirror.sync(resource, SyncMode::Auto).unwrap();
            assert_eq!(report.kind, RunKind::Incremental, "{resource}");
            assert_eq!(report.records, report.applied() + report.unchanged);
        }
        compare_with_truth(&mirror, &market.lock().unwrap(), place, sequence, day);
    }
    mirror.verify();
}

/// A photo change moves no ModificationTimestamp: it is found by its own cursor.
fn photo_cursor(resource: &str) -> Option<String> {
    (resource == "Property").then(|| "PhotosChangeTimestamp".to_owned())
}

/// The log of one day, folded by record and field, is the net of what the market did.
fn compare_with_truth(
    mirror: &Mirror<Market>,
    market: &Market,
    place: usize,
    sequence: u64,
    day: u32,
) {
    let net = truth::net(market.truth_since(place));
    let snapshot = mirror.store.snapshot().unwrap();
    let (mut inserted, mut deleted, mut changed) = (0, 0, BTreeMap::new());
    for change in snapshot.changes(sequence).unwrap() {
        let change = change.unwrap();
        let key = change.key.map(|k| k.to_string()).unwrap_or_default();
        match change.operation {
            Operation::Insert | Operation::Relist => inserted += 1,
            Operation::Delete => deleted += 1,
            Operation::Update => {
                for field in &change.fields {
                    let side = |cell: Option<relist::record::Cell<'_>>| {
                        cell.map_or_else(|| "null".to_owned(), relist::record::Cell::to_json)
                    };
                    let sides = (side(field.previous()), side(field.new_value()));
                    let at = (change.resource.clone(), key.clone(), field.name.clone());
                    assert!(
                        changed.insert(at, sides).is_none(),
                        "logged twice on day {day}"
                    );
                }
            }
            Operation::Schema | Operation::Purge => panic!("{}", change.note),
        }
    }
    let synced = ["Property", "Member", "Office", "OpenHouse"];
    let ours = |name: &&'static str| synced.contains(name);
    let mut expected = BTreeMap::new();
    for ((resource, key), fields) in net.changed.iter().filter(|((r, _), _)| ours(r)) {
        for (field, sides) in fields {
            expected.insert(
                ((*resource).to_owned(), key.clone(), field.clone()),
                sides.clone(),
            );
        }
    }
    assert_eq!(changed, expected, "day {day}");
    assert_eq!(
        inserted,
        net.inserted.keys().filter(|(r, _)| ours(r)).count(),
        "day {day}"
    );
    assert_eq!(
        deleted,
        net.deleted.iter().filter(|(r, _)| ours(r)).count(),
        "day {day}"
    );
}

#[test]
fn a_feed_edited_during_one_walk_is_equal_after_the_next() {
    let rows = Arc::new(Mutex::new(listings(2_000, |key| stamp(key / 10))));
    let (moving, armed) = (Arc::clone(&rows), Arc::new(Mutex::new(true)));
    let on = Arc::clone(&armed);
    let options = Options {
        before_page: Some(Box::new(move |page| {
            if !*on.lock().unwrap() {
                return;
            }
            let at = 1_772_409_600 + u32::try_from(page).unwrap();
            let page = i64::try_from(page).unwrap();
            let mut rows = moving.lock().unwrap();
            rows.set_now(at);
            for key in [page + 1, page * 150 + 3, 1_990 - page].map(|key| key.min(2_000)) {
                let row = json!({"ListingKeyNumeric": key, "ListPrice": 7 + page,
                    "StandardStatus": "Pending",
                    "ModificationTimestamp": relist_sim::format_timestamp(at)});
                rows.put("Property", &row).unwrap();
            }
            rows.remove("Property", &relist_sim::Key::Int(page * 150 + 20));
        })),
        ..Options::default()
    };
    let mirror = Mirror::new(rows, options);
    mirror.sync("Property", SyncMode::Auto).unwrap();
    *armed.lock().unwrap() = false;
    mirror.sync("Property", SyncMode::Auto).unwrap();
    mirror.sync("Property", SyncMode::Full).unwrap();
    assert_eq!(
        mirror.records("Property"),
        served(&mirror.rows.lock().unwrap())
    );
    mirror.verify();
}

#[test]
fn an_empty_or_shrunken_feed_deletes_nothing() {
    let mirror = serve(listings(1_000, stamp), Options::default());
    mirror.sync("Property", SyncMode::Auto).unwrap();
    {
        let mut rows = mirror.rows.lock().unwrap();
        (1..=900).for_each(|key| {
            rows.remove("Property", &relist_sim::Key::Int(key));
        });
    }
    let report = mirror.sync("Property", SyncMode::Full).unwrap();
    assert_eq!(report.deleted, 0);
    let Outcome::Degraded(why) = &report.outcome else {
        panic!("{:?}", report.outcome)
    };
    assert!(
        why.contains("900 of 1000 Property records are missing"),
        "{why}"
    );
    assert_eq!(
        mirror.store.snapshot().unwrap().count("Property").unwrap(),
        1_000
    );
}

#[test]
fn a_doubtful_page_moves_nothing() {
    let whole = "{\"value\":[";
    let bodies: [(&str, &str); 7] = [
        (
            r#"{"value":[{"ListingKeyNumeric":1},{"Listing"#,
            "is truncated",
        ),
        (r#"{"error":{"code":"500","message":"oops"}}"#, "500: oops"),
        (r#"{"Count":0}"#, "has no `value`"),
        (
            r#"{"value":{"ListingKeyNumeric":1}}"#,
            "`value` is an object",
        ),
        ("\u{feff}{\"value\":[]}", "byte order mark"),
        ("[]", "is a JSON array"),
        (whole, "is truncated"),
    ];
    for (body, reason) in bodies {
        for bad_page in [0, 2, 5] {
            let options = Options {
                alter: Some(Box::new(move |request, response| {
                    let page = request
                        .options()
                        .iter()
                        .find_map(|(name, value)| (name == "$filter").then(|| value.clone()));
                    let at = page.and_then(|f| {
                        f.rsplit_once("ListingKeyNumeric gt ")?
                            .1
                            .parse::<i64>()
                            .ok()
                    });
                    if !request.path().ends_with("/Property") || at.unwrap_or(0) != bad_page * 200 {
                        return response;
                    }
                    Response::new(200, "application/json", body)
                })),
                ..Options::default()
            };
            let mirror = serve(listings(1_000, stamp), options);
            let error = mirror.sync("Property", SyncMode::Auto).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains(reason) || text.contains("ends in the middle"),
                "{text}"
            );
            assert!(text.contains("/Property?"), "{text}");
            let snapshot = mirror.store.snapshot().unwrap();
            let checkpoint = snapshot.checkpoint("Property").unwrap();
            assert_eq!(checkpoint.watermark, None);
            assert_ne!(checkpoint.state, SyncState::Live);
            let safe = u64::try_from(bad_page * 200).unwrap();
            assert_eq!(snapshot.count("Property").unwrap(), safe);
            assert_eq!(checkpoint.walk.map_or(0, |w| w.records), safe);
            // What the client itself refuses never becomes a page; what it passes on is kept.
            let kept = u64::from(matches!(error, Error::Decode(_)));
            assert_eq!(snapshot.quarantined().unwrap().len() as u64, kept);
            assert!(matches!(
                snapshot.runs(1).unwrap()[0].outcome,
                Outcome::Failed(_)
            ));
            mirror.verify();
        }
    }
}

#[test]
fn a_short_page_without_a_link_is_not_believed() {
    // Well-formed, 100 of 200 rows, no nextLink: only the count tells.
    let options = Options {
        alter: Some(Box::new(|request, response| {
            let first = !request.line().contains("skip");
            if !request.path().ends_with("/Property") || !first {
                return response;
            }
            let rows = (1..=100).map(|k| format!("{{\"ListingKeyNumeric\":{k},\"City\":\"\"}}"));
            let rows = rows.collect::<Vec<_>>().join(",");
            let body = format!("{{\"@odata.count\":1000,\"value\":[{rows}]}}");
            Response::new(200, "application/json", body)
        })),
        ..Options::default()
    };
    let mut mirror = serve(listings(1_000, stamp), options);
    mirror.policy.walk = WalkKind::NextLink;
    let error = mirror.sync("Property", SyncMode::Auto).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("100 of the 1000 records the feed counts"),
        "{error}"
    );
    let checkpoint = mirror
        .store
        .snapshot()
        .unwrap()
        .checkpoint("Property")
        .unwrap();
    assert_eq!(checkpoint.state, SyncState::Backfilling);
}

#[test]
fn a_link_that_loops_or_an_ignored_filter_ends_the_walk() {
    let looping = Options {
        alter: Some(Box::new(|request, response| {
            if !request.path().ends_with("/Property") {
                return response;
            }
            let body = "{\"value\":[{\"ListingKeyNumeric\":1,\"City\":\"\"}],\
                        \"@odata.nextLink\":\"Property?x=1\"}";
            Response::new(200, "application/json", body)
        })),
        ..Options::default()
    };
    let mut mirror = serve(listings(10, stamp), looping);
    mirror.policy.walk = WalkKind::NextLink;
    let error = mirror.sync("Property", SyncMode::Auto).unwrap_err();
    assert!(error.to_string().contains("was followed before"), "{error}");
    assert!(mirror.server.request_count() < 6);
    mirror.policy.walk = WalkKind::Keyset;
    let mirror = {
        let ignoring = Options {
            alter: Some(Box::new(|request, response| {
                if !request.path().ends_with("/Property") {
                    return response;
                }
                Response::new(
                    200,
                    "application/json",
                    "{\"value\":[{\"ListingKeyNumeric\":1,\"City\":\"\"}]}",
                )
            })),
            ..Options::default()
        };
        serve(listings(10, stamp), ignoring)
    };
    let error = mirror.sync("Property", SyncMode::Auto).unwrap_err();
    assert!(
        error.to_string().contains("the server ignores $filter"),
        "{error}"
    );
}

#[test]
fn a_walk_that_is_cut_goes_on_where_it_was() {
    let failing = Arc::new(Mutex::new(true));
    let fail = Arc::clone(&failing);
    let options = Options {
        intercept: Some(Box::new(move |request| {
            let at_600 = request
                .options()
                .iter()
                .any(|(_, value)| value.ends_with("gt 600"));
            let bad = at_600 && *fail.lock().unwrap();
            bad.then(|| Response::error(503, "down"))
        })),
        ..Options::default()
    };
    let mirror = serve(listings(1_000, stamp), options);
    let error = mirror.sync("Property", SyncMode::Auto).unwrap_err();
    let Error::Source(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
    assert_eq!(
        mirror.store.snapshot().unwrap().count("Property").unwrap(),
        600
    );
    *failing.lock().unwrap() = false;
    let before = mirror.server.request_lines().len();
    let report = mirror.sync("Property", SyncMode::Auto).unwrap();
    assert_eq!(report.inserted, 400);
    // 600 to 800, 800 to 1,000, the empty page, the count, the count of what lay behind the place;
    // then what changed since the walk began.
    let lines = mirror.server.request_lines();
    for (line, place) in lines[before..]
        .iter()
        .zip(["gt 600", "gt 800", "gt 1000", " le 20", "gt 600", " ge 20"])
    {
        assert!(line.contains(place), "{line}");
    }
    assert_eq!(mirror.records("Property").len(), 1_000);
}

#[test]
fn a_walk_that_goes_on_later_ends_up_to_date() {
    let failing = Arc::new(Mutex::new(true));
    let fail = Arc::clone(&failing);
    let options = Options {
        intercept: Some(Box::new(move |request| {
            let at_600 = request
                .options()
                .iter()
                .any(|(_, value)| value.ends_with("gt 600"));
            let bad = at_600 && *fail.lock().unwrap();
            bad.then(|| Response::error(503, "down"))
        })),
        ..Options::default()
    };
    let mirror = serve(listings(1_000, stamp), options);
    mirror.sync("Property", SyncMode::Auto).unwrap_err();
    *failing.lock().unwrap() = false;
    {
        // Six hours later; behind the place where the walk stands.
        let mut rows = mirror.rows.lock().unwrap();
        let later = 1_772_409_600 + 6 * 3_600;
        rows.set_now(later);
        let row = json!({"ListingKeyNumeric": 5, "ListPrice": 1, "StandardStatus": "Closed",
            "ModificationTimestamp": relist_sim::format_timestamp(later - 60)});
        rows.put("Property", &row).unwrap();
    }
    mirror.sync("Property", SyncMode::Auto).unwrap();
    assert_eq!(
        mirror.records("Property"),
        served(&mirror.rows.lock().unwrap())
    );
    mirror.verify();
}

#[test]
fn no_walk_pages_by_skip_and_spaces_are_percent_encoded() {
    let mirror = serve(listings(500, stamp), Options::default());
    mirror.sync("Property", SyncMode::Auto).unwrap();
    mirror.sync("Property", SyncMode::Auto).unwrap();
    for request in mirror.server.requests() {
        assert!(!request.target.contains("skip"), "{}", request.target);
        assert!(!request.target.contains('+') && !request.target.contains(' '));
    }
}

#[test]
fn a_late_deletion_does_not_take_a_relisted_record() {
    let data = listings(3, stamp)
        .with_resource(
            "Deleted",
            "primary_key",
            [
                json!({"primary_key": "2", "resource": "Property", "ts": stamp(1)}),
                json!({"primary_key": "3", "resource": "Property", "ts": stamp(60)}),
                json!({"primary_key": "77", "resource": "Property", "ts": stamp(60)}),
                json!({"primary_key": "1", "resource": "Member", "ts": stamp(60)}),
            ],
        )
        .unwrap();
    let mut mirror = serve(data, Options::default());
    mirror.policy.deletes = Some(relist::ingest::DeletedFeed::WFRMLS);
    mirror.sync("Property", SyncMode::Auto).unwrap();
    // One of them is really gone.
    mirror
        .rows
        .lock()
        .unwrap()
        .remove("Property", &relist_sim::Key::Int(3));
    // The first full walk began after these deletions; ask for all of them.
    let mut txn = mirror
        .store
        .begin_write(relist::value::Timestamp(1))
        .unwrap();
    let mut checkpoint = mirror
        .store
        .snapshot()
        .unwrap()
        .checkpoint("Property")
        .unwrap();
    checkpoint.deletes_watermark = Some(relist::value::Timestamp(0));
    txn.set_checkpoint("Property", &checkpoint).unwrap();
    txn.commit().unwrap();
    let report = mirror.sync("Property", SyncMode::Auto).unwrap();
    assert_eq!((report.deleted, report.deletes_ignored), (1, 2));
    let snapshot = mirror.store.snapshot().unwrap();
    assert!(snapshot.get("Property", &Key::Int(2)).unwrap().is_some());
    assert!(snapshot.get("Property", &Key::Int(3)).unwrap().is_none());
    let tombstones = snapshot.tombstones("Property").unwrap();
    let keys: Vec<&Key> = tombstones.iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [&Key::Int(3), &Key::Int(77)]);
}

#[test]
fn a_listed_deletion_is_not_believed_on_a_doubtful_answer() {
    // What the server says of the record that its list names, which has come back in the second
    // that it went: nothing, with a count; a row without a key; another record.
    let lies = [
        "{\"@odata.count\":1,\"value\":[]}",
        "{\"@odata.count\":1,\"value\":[{\"ListPrice\":7}]}",
        "{\"value\":[{\"ListingKeyNumeric\":3,\"ListPrice\":7}]}",
    ];
    for lie in lies {
        let listed = json!({"primary_key": "2", "resource": "Property", "ts": stamp(2)});
        let data = listings(3, stamp)
            .with_resource("Deleted", "primary_key", [listed])
            .unwrap();
        let on = Arc::new(Mutex::new(true));
        let lying = Arc::clone(&on);
        let options = Options {
            alter: Some(Box::new(move |request, response| {
                if *lying.lock().unwrap() && request.line().contains("ListingKeyNumeric eq 2") {
                    return Response::new(200, "application/json", lie);
                }
                response
            })),
            ..Options::default()
        };
        let mut mirror = serve(data, options);
        mirror.sync("Property", SyncMode::Auto).unwrap();
        mirror.policy.deletes = Some(relist::ingest::DeletedFeed::WFRMLS);
        let checkpoint = |at| {
            let snapshot = mirror.store.snapshot().unwrap();
            let mut checkpoint = snapshot.checkpoint("Property").unwrap();
            checkpoint.deletes_watermark = Some(relist::value::Timestamp(at));
            checkpoint
        };
        let mut txn = mirror
            .store
            .begin_write(relist::value::Timestamp(1))
            .unwrap();
        txn.set_checkpoint("Property", &checkpoint(0)).unwrap();
        txn.commit().unwrap();
        let report = mirror.sync("Property", SyncMode::Auto).unwrap();
        let Outcome::Degraded(why) = &report.outcome else {
            panic!("{lie}: {:?}", report.outcome)
        };
        assert!(why.contains("did not answer for 1 records"), "{why}");
        assert_eq!((report.deleted, report.deletes_ignored), (0, 1));
        let mark = |mirror: &Mirror<Dataset>| {
            let snapshot = mirror.store.snapshot().unwrap();
            snapshot.checkpoint("Property").unwrap().deletes_watermark
        };
        // The list is read from there again.
        assert_eq!(mark(&mirror), Some(relist::value::Timestamp(0)));
        *on.lock().unwrap() = false;
        mirror
            .rows
            .lock()
            .unwrap()
            .remove("Property", &relist_sim::Key::Int(2));
        let report = mirror.sync("Property", SyncMode::Auto).unwrap();
        assert_eq!((report.deleted, report.outcome), (1, Outcome::Complete));
        assert!(mark(&mirror) > Some(relist::value::Timestamp(0)));
        mirror.verify();
    }
}

#[test]
fn a_row_stamped_in_the_future_does_not_hide_one_that_is_lost() {
    let lost = Arc::new(Mutex::new(false));
    let losing = Arc::clone(&lost);
    let options = Options {
        alter: Some(Box::new(move |request, mut response| {
            if !*losing.lock().unwrap() || !request.line().contains("$orderby") {
                return response;
            }
            // One row of the walk does not come.
            let mut page: Value = serde_json::from_slice(&response.body).unwrap();
            let rows = page["value"].as_array_mut().unwrap();
            rows.retain(|row| row["ListingKeyNumeric"] != 5);
            response.body = page.to_string().into_bytes();
            response
        })),
        gzip: false,
        ..Options::default()
    };
    let mirror = serve(listings(10, stamp), options);
    mirror.sync("Property", SyncMode::Auto).unwrap();
    let now = {
        let mut rows = mirror.rows.lock().unwrap();
        let now = rows.now() + 60;
        rows.set_now(now);
        for (key, at) in [(5, now - 1), (6, now + 400_000_000)] {
            let row = json!({"ListingKeyNumeric": key, "ListPrice": 1, "StandardStatus": "Active",
                "ModificationTimestamp": relist_sim::format_timestamp(at)});
            rows.put("Property", &row).unwrap();
        }
        now
    };
    *lost.lock().unwrap() = true;
    let report = mirror.sync("Property", SyncMode::Auto).unwrap();
    assert!(
        matches!(&report.outcome, Outcome::Degraded(why) if why.contains("9 of the 10")),
        "{:?}",
        report.outcome
    );
    let snapshot = mirror.store.snapshot().unwrap();
    let mark = snapshot.checkpoint("Property").unwrap().watermark;
    assert!(mark < Some(relist::value::Timestamp(i64::from(now - 60) * 1_000_000)));
    *lost.lock().unwrap() = false;
    let report = mirror.sync("Property", SyncMode::Auto).unwrap();
    assert_eq!((report.updated, report.outcome), (1, Outcome::Complete));
}
