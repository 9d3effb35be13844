//! Purge, prune, backup: what is removed is gone, what is not stays as it was.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use relist::error::Error;
use relist::keycode::Key;
use relist::odata::Query;
use relist::query::QueryContext;
use relist::store::{AsOf, Cause, CopyOptions, Operation, Quarantined, Scope, Snapshot, Store};
use relist::value::Timestamp;
use relist_sim::Waves;
use relist_tests::fresh::{FILE, Fresh};

const PAGE: usize = 200;
const DAY: i64 = 86_400_000_000;

fn keys(resource: &str, keys: &[Key]) -> Scope {
    Scope::Records(BTreeMap::from([(resource.to_owned(), keys.to_vec())]))
}

/// How often a text stands in a file.
fn hits(path: &Path, text: &str) -> usize {
    let bytes = std::fs::read(path).unwrap();
    let text = text.as_bytes();
    bytes.windows(text.len()).filter(|w| *w == text).count()
}

fn text(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    for change in snapshot.changes(snapshot.pruned().unwrap()).unwrap() {
        let _ = writeln!(out, "{:?}", change.unwrap());
    }
    for resource in &snapshot.schema().resources {
        let now = AsOf::Sequence(snapshot.sequence());
        snapshot
            .scan(&resource.name, now, |key, record| {
                let _ = writeln!(out, "{key} {}", record.to_json(None));
                for version in snapshot.history(&resource.name, key)? {
                    out.push_str(&version.record.to_json(None));
                }
                Ok(true)
            })
            .unwrap();
        let _ = write!(out, "{:?}", snapshot.tombstones(&resource.name));
        let _ = write!(out, "{:?}", snapshot.checkpoint(&resource.name));
    }
    let _ = write!(out, "{:?}", snapshot.quarantined());
    let _ = write!(out, "{:?}", snapshot.runs(1_000));
    out
}

fn listing(key: i64, marks: &str, price: u32) -> String {
    format!(
        r#"{{"ListingKeyNumeric":{key},"ListPrice":{price},"City":"C{marks} Springs",
        "PublicRemarks":"R{marks} has a view of the lake {price}","Appliances":["A{marks} oven",
        "Oven"],"Rooms":[{{"Name":"J{marks} room"}}],"ListAgentEmail":"E{marks}@example.org",
        "ModificationTimestamp":"2026-01-01T00:00:{:02}Z"}}"#,
        price % 60
    )
}

fn page(rows: &[String]) -> String {
    format!(r#"{{"value":[{}]}}"#, rows.join(","))
}

const MARKS: [&str; 6] = ["R", "C", "A", "J", "E", "Note "];

/// A small market, of which listing 7 is to go: three versions of it, then a deletion and a
/// relisting, quarantine, media and records of others that belong to it.
fn market() -> Fresh {
    let fresh = Fresh::new();
    let rows = |version: u32| -> Vec<String> {
        let marks = |key| format!("-{key}-{}-canary", if key == 7 { version } else { 0 });
        (1..=40)
            .map(|key| listing(key, &marks(key), 500_000 + version))
            .collect()
    };
    for version in 1..=3 {
        fresh.ingest(
            "Property",
            &[("page", page(&rows(version)))],
            version.into(),
        );
    }
    let (seven, at) = (Key::Int(7), Timestamp(4));
    let mut txn = fresh.store.begin_write(at).unwrap();
    let note = "Note -7-4-canary";
    txn.delete("Property", &seven, None, Cause::Flag, note)
        .unwrap();
    txn.delete(
        "Property",
        &Key::Int(8),
        None,
        Cause::Flag,
        "Note -8-4-canary",
    )
    .unwrap();
    for (record, field) in [(7, "-7-5-canary"), (9, "-9-5-canary")] {
        let raw = format!(r#"{{"ListingKeyNumeric":{record},"Q":"Q{field}"}}"#).into_bytes();
        txn.quarantine(&Quarantined {
            resource: "Property".to_owned(),
            page: "page".to_owned(),
            record: Some(0),
            field: None,
            reason: "no reason".to_owned(),
            run: 1,
            observed: at,
            raw_len: raw.len() as u64,
            raw,
        })
        .unwrap();
    }
    txn.commit().unwrap();
    let again = listing(7, "-7-6-canary", 600_006);
    fresh.ingest("Property", &[("page", page(&[again]))], 6);
    let media = |key: i64, of: i64| {
        format!(
            r#"{{"MediaKey":"M{key}","ResourceName":"Property","ResourceRecordKeyNumeric":{of},
            "MediaURL":"https://photos.example/{of}-media-canary.jpg"}}"#
        )
    };
    fresh.ingest("Media", &[("page", page(&[media(1, 7), media(2, 9)]))], 7);
    fresh
}

#[test]
fn nothing_is_left_of_a_purged_listing() {
    let mut fresh = market();
    let path = fresh.folder.path().join(FILE);
    let others = fresh.records("Property");
    let before = fresh.snapshot();
    let as_it_was = before
        .get_at("Property", &Key::Int(9), AsOf::Sequence(45))
        .unwrap();
    let as_it_was = as_it_was.unwrap().to_json(None);
    assert!(before.history("Property", &Key::Int(7)).unwrap().len() == 4);
    let said = text(&before);
    for version in [1, 2, 3, 6] {
        assert!(said.contains(&format!("R-7-{version}-canary")));
    }
    let sequence = before.sequence();
    drop(before);
    assert!(hits(&path, "-7-1-canary") > 0 && hits(&path, "7-media-canary") > 0);

    let scope = keys("Property", &[Key::Int(7)]);
    let none = &mut |_: &_| Ok(false);
    let report = fresh.store.purge(&scope, Timestamp(8), none).unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(
        (report.records, report.versions, report.quarantined),
        (2, 5, 1)
    );
    assert_eq!(report.changes, 6, "{report:?}");
    assert!(report.texts >= 20 && report.pieces >= 20, "{report:?}");
    for version in 1..=6 {
        assert_eq!(hits(&path, &format!("-7-{version}-canary")), 0, "{version}");
    }
    assert_eq!(hits(&path, "7-media-canary"), 0);
    let snapshot = fresh.snapshot();
    let said = text(&snapshot);
    assert!(!said.contains("-7-") && !said.contains("7-media"), "{said}");
    // The other records, their history, their quarantine and their media are as they were.
    for mark in MARKS {
        let key = if mark == "Note " { "8-4" } else { "9-0" };
        assert!(said.contains(&format!("{mark}-{key}-canary")), "{mark}");
    }
    assert!(said.contains("9-media-canary"));
    assert_eq!(snapshot.quarantined().unwrap().len(), 1);
    let left: BTreeMap<Key, String> = fresh.records("Property").into_iter().collect();
    let mut expected: BTreeMap<Key, String> = others.into_iter().collect();
    expected.remove(&Key::Int(7)).unwrap();
    assert_eq!(left, expected);
    let now = snapshot
        .get_at("Property", &Key::Int(9), AsOf::Sequence(45))
        .unwrap();
    assert_eq!(now.unwrap().to_json(None), as_it_was);
    assert!(snapshot.get("Property", &Key::Int(7)).unwrap().is_none());
    assert!(
        snapshot
            .history("Property", &Key::Int(7))
            .unwrap()
            .is_empty()
    );
    // The log has no gap: what was purged stands there as an entry that says nothing.
    let log: Vec<_> = snapshot.changes(0).unwrap().map(Result::unwrap).collect();
    assert_eq!(log.len() as u64, snapshot.sequence());
    let purged: Vec<_> = log
        .iter()
        .filter(|c| c.operation == Operation::Purge)
        .collect();
    assert_eq!(purged.len() as u64, report.changes + 2);
    for change in purged {
        assert!(change.key.is_none() && change.fields.is_empty());
        assert_eq!(change.cause, Cause::Purge);
        assert_eq!(change.note.is_empty(), change.sequence <= sequence);
    }
    assert!(!snapshot.purge_is_unfinished().unwrap());
    drop(snapshot);
    fresh.verify();
    // It may come again, as if it had never been there.
    let again = listing(7, "-7-9-canary", 1);
    let report = fresh.ingest("Property", &[("page", page(&[again]))], 9);
    assert_eq!((report.inserted, report.relisted), (1, 0));
    assert_eq!(
        fresh
            .snapshot()
            .history("Property", &Key::Int(7))
            .unwrap()
            .len(),
        1
    );
    fresh.verify();
}

#[test]
fn a_key_that_is_only_known_as_deleted_can_be_purged() {
    let mut fresh = Fresh::new();
    fresh.ingest("Property", &[("page", page(&[listing(1, "x", 1)]))], 1);
    let mut txn = fresh.store.begin_write(Timestamp(2)).unwrap();
    let note = "Never-seen-canary";
    txn.delete(
        "Property",
        &Key::Int(9_999_999),
        None,
        Cause::DeletedFeed,
        note,
    )
    .unwrap();
    txn.commit().unwrap();
    let path = fresh.folder.path().join(FILE);
    assert!(hits(&path, note) > 0);
    let scope = keys("Property", &[Key::Int(9_999_999)]);
    let report = fresh
        .store
        .purge(&scope, Timestamp(3), &mut |_| Ok(false))
        .unwrap();
    assert!(report.is_complete() && report.tombstones == 1, "{report:?}");
    assert_eq!(hits(&path, note), 0);
    // A second time there is nothing to purge, and nothing is logged.
    let sequence = fresh.snapshot().sequence();
    let report = fresh
        .store
        .purge(&scope, Timestamp(4), &mut |_| Ok(false))
        .unwrap();
    assert_eq!((report.sequence, report.records), (0, 0));
    assert_eq!(fresh.snapshot().sequence(), sequence);
    let unknown = keys("Nothing", &[Key::Int(1)]);
    let error = fresh
        .store
        .purge(&unknown, Timestamp(4), &mut |_| Ok(false));
    assert!(
        matches!(error, Err(Error::UnknownResource { .. })),
        "{error:?}"
    );
    fresh.verify();
}

/// A market with a dictionary of bodies, dictionaries of columns and thirty days of changes.
fn large(listings: u32) -> (Fresh, Waves, i64) {
    let mut waves = Waves::new(3, listings);
    let fresh = Fresh::new();
    let first: Vec<Vec<u8>> = waves.pages(PAGE).collect();
    let files: Vec<(&str, &Vec<u8>)> = first.iter().map(|page| ("first", page)).collect();
    fresh.ingest("Property", &files, DAY);
    let mut at = DAY;
    for _ in 0..30 {
        at += DAY;
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
    }
    (fresh, waves, at)
}

fn remarks(record: &str) -> Option<String> {
    let record: serde_json::Value = serde_json::from_str(record).unwrap();
    record["PublicRemarks"].as_str().map(str::to_owned)
}

#[test]
fn a_purge_goes_through_dictionaries_and_columns() {
    let (mut fresh, _, at) = large(1_300);
    let all: Vec<(Key, String)> = fresh.records("Property").into_iter().collect();
    let gone: Vec<Key> = all.iter().step_by(9).map(|(key, _)| key.clone()).collect();
    let scope = keys("Property", &gone);
    let path = fresh.folder.path().join(FILE);
    let then = AsOf::Instant(Timestamp(at - 15 * DAY));
    let groups = "groupby((City),aggregate($count as N,ListPrice with sum as S))";
    let groups = Query::new("Property").apply(groups).unwrap();
    let report = fresh
        .store
        .purge(&scope, Timestamp(at), &mut |_| Ok(false))
        .unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert!(
        report.versions > report.records && report.texts > 100,
        "{report:?}"
    );
    assert_eq!(report.records, gone.len() as u64);
    let mut stays: BTreeMap<Key, String> = all.iter().cloned().collect();
    for key in &gone {
        stays.remove(key);
    }
    assert_eq!(
        fresh
            .records("Property")
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        stays
    );
    let texts: Vec<String> = stays.values().filter_map(|r| remarks(r)).collect();
    let mut looked = 0;
    for (key, record) in &all {
        if let Some(text) = remarks(record).filter(|t| gone.contains(key) && !texts.contains(t)) {
            looked += 1;
            assert_eq!(hits(&path, &text), 0, "{text}");
            if looked == 20 {
                break;
            }
        }
    }
    // Columns and records still say the same, today and two weeks ago.
    let snapshot = fresh.snapshot();
    for as_of in [None, Some(then)] {
        let context = QueryContext {
            as_of,
            ..QueryContext::new(Timestamp(at))
        };
        let by_columns = snapshot.apply(&groups, &context).unwrap();
        let mut n = 0;
        for row in &by_columns.rows {
            let mut json = String::new();
            by_columns.write_json(row, &mut json);
            let row: serde_json::Value = serde_json::from_str(&json).unwrap();
            n += row["N"].as_u64().unwrap();
        }
        let mut records = 0;
        let moment = as_of.unwrap_or(AsOf::Sequence(snapshot.sequence()));
        snapshot
            .scan("Property", moment, |_, _| {
                records += 1;
                Ok(true)
            })
            .unwrap();
        assert_eq!(n, records);
        assert!(records > 0);
    }
    drop(snapshot);
    fresh.verify();
    // All of it.
    let report = fresh
        .store
        .purge(&Scope::All, Timestamp(at), &mut |_| Ok(false))
        .unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(fresh.records("Property").len(), 0);
    fresh.verify();
    assert!(std::fs::metadata(&path).unwrap().len() < 4 << 20);
}

#[test]
fn a_reader_beside_it_goes_on_and_finds_the_new_file() {
    let mut fresh = market();
    let path = fresh.folder.path().join(FILE);
    let link = fresh.folder.path().join("link.redb");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let reader = Store::open_read_only(&link).unwrap();
    let held = reader.snapshot().unwrap();
    let scope = keys("Property", &[Key::Int(7)]);
    let report = fresh
        .store
        .purge(&scope, Timestamp(8), &mut |_| Ok(false))
        .unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    // The reader's view is of before; its next one is of what is there.
    assert!(held.get("Property", &Key::Int(7)).unwrap().is_some());
    assert!(
        reader
            .snapshot()
            .unwrap()
            .get("Property", &Key::Int(7))
            .unwrap()
            .is_none()
    );
    // Nobody else may write, and what is written is read.
    assert!(matches!(Store::open(&path), Err(Error::Locked { .. })));
    let again = listing(7, "-7-9-canary", 1);
    fresh.ingest("Property", &[("page", page(&[again]))], 9);
    assert!(
        reader
            .snapshot()
            .unwrap()
            .get("Property", &Key::Int(7))
            .unwrap()
            .is_some()
    );
    // By way of the link, too.
    let Fresh { store, folder } = fresh;
    drop(store);
    let mut linked = Store::open(&link).unwrap();
    let report = linked
        .purge(&scope, Timestamp(10), &mut |_| Ok(false))
        .unwrap();
    assert!(report.is_complete() && report.records == 1, "{report:?}");
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(hits(&path, "-7-9-canary"), 0);
    let mode = std::fs::metadata(&path).unwrap().permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o600
    );
    drop(folder);
}

#[test]
fn a_pruned_store_answers_from_its_edge_on() {
    let (fresh, mut waves, at) = large(600);
    let middle = Timestamp(at - 15 * DAY);
    let moments: Vec<i64> = (0..=15).map(|days| at - days * DAY).collect();
    let full = Query::new("Property").orderby("ListPrice desc").unwrap();
    let answer = |moment: i64| -> Vec<String> {
        let context = QueryContext {
            as_of: Some(AsOf::Instant(Timestamp(moment))),
            ..QueryContext::new(Timestamp(at))
        };
        let found = fresh.snapshot().query(&full, &context).unwrap();
        found.rows.iter().map(|row| row.to_json(None)).collect()
    };
    let before: Vec<Vec<String>> = moments.iter().map(|m| answer(*m)).collect();
    let records = fresh.records("Property");
    let report = fresh.store.prune(middle, Timestamp(at)).unwrap();
    assert!(report.changes > 600 && report.versions > 100, "{report:?}");
    assert_eq!(fresh.records("Property"), records);
    let after: Vec<Vec<String>> = moments.iter().map(|m| answer(*m)).collect();
    assert_eq!(after, before);
    fresh.verify();
    let snapshot = fresh.snapshot();
    assert_eq!(snapshot.pruned().unwrap(), report.edge);
    for earlier in [
        AsOf::Sequence(report.edge - 1),
        AsOf::Instant(Timestamp(at - 17 * DAY)),
        AsOf::Instant(Timestamp(0)),
    ] {
        let found = snapshot.resolve(earlier);
        assert!(
            matches!(found, Err(Error::Pruned { oldest }) if oldest == report.edge + 1),
            "{earlier:?}: {found:?}"
        );
    }
    assert!(matches!(snapshot.changes(0), Err(Error::Pruned { .. })));
    drop(snapshot);
    // Again there is nothing to do; and life goes on, relistings of the long deleted included.
    assert_eq!(fresh.store.prune(middle, Timestamp(at)).unwrap().changes, 0);
    let key_field = fresh
        .snapshot()
        .resource("Property")
        .unwrap()
        .key_field
        .clone();
    let deleted = fresh.snapshot().tombstones("Property").unwrap();
    let oldest = deleted.iter().min_by_key(|(_, t)| t.sequence).unwrap();
    assert!(oldest.1.sequence <= report.edge);
    let row = format!(r#"{{"{}":{},"City":"Orem"}}"#, key_field, oldest.0);
    let came = fresh.ingest("Property", &[("page", page(&[row]))], at + 1);
    assert_eq!(came.relisted, 1, "{came:?}");
    fresh.verify();
    let of_day = waves.day();
    let pages: Vec<Vec<u8>> = waves.day_pages(&of_day, PAGE).collect();
    let files: Vec<(&str, &Vec<u8>)> = pages.iter().map(|page| ("day", page)).collect();
    fresh.ingest("Property", &files, at + DAY);
    fresh.verify();
    let everything = fresh
        .store
        .prune(Timestamp(at + 9 * DAY), Timestamp(at))
        .unwrap();
    assert_eq!(everything.edge, fresh.snapshot().sequence() - 1);
    fresh.verify();
}

#[test]
fn a_watcher_holds_a_prune_back() {
    let (fresh, _, at) = large(100);
    let mut txn = fresh.store.begin_write(Timestamp(at)).unwrap();
    txn.set_position("slow", 40).unwrap();
    txn.set_position("swift", 160).unwrap();
    txn.commit().unwrap();
    let report = fresh
        .store
        .prune(Timestamp(at + DAY), Timestamp(at))
        .unwrap();
    assert_eq!((report.edge, report.held_by.as_deref()), (40, Some("slow")));
    assert!(fresh.snapshot().changes(40).is_ok());
    fresh.verify();
}

#[test]
fn a_backup_is_the_store_and_comes_back() {
    let (fresh, mut waves, at) = large(1_200);
    let folder = fresh.folder.path();
    let target = folder.join("backup.redb");
    let options = CopyOptions::default();
    // From a reader, while the store is open for writing.
    let reader = Store::open_read_only(folder.join(FILE)).unwrap();
    let report = reader.backup(&target, options).unwrap();
    assert!(
        report.verified.is_clean() && report.entries > 1_000,
        "{report:?}"
    );
    let was = text(&fresh.snapshot());
    let copy = Store::open(&target).unwrap();
    assert_eq!(copy.snapshot().unwrap().sequence(), report.sequence);
    assert_eq!(text(&copy.snapshot().unwrap()), was);
    assert_eq!(copy.snapshot().unwrap().created().unwrap(), Timestamp(0));
    drop(copy);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&target).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // What is there is not replaced unasked, and the store is no place for its own backup.
    let bytes = std::fs::read(&target).unwrap();
    assert!(matches!(
        reader.backup(&target, options),
        Err(Error::Io { .. })
    ));
    let replace = CopyOptions {
        replace: true,
        ..options
    };
    let own = reader.backup(folder.join(FILE), replace);
    assert!(matches!(own, Err(Error::Usage(_))), "{own:?}");
    assert!(std::fs::read(&target).unwrap() == bytes);
    // A later one replaces it.
    let of_day = waves.day();
    let pages: Vec<Vec<u8>> = waves.day_pages(&of_day, PAGE).collect();
    let files: Vec<(&str, &Vec<u8>)> = pages.iter().map(|page| ("day", page)).collect();
    fresh.ingest("Property", &files, at + DAY);
    let later = fresh.store.backup(&target, replace).unwrap();
    assert!(later.sequence > report.sequence);
    // Nothing else is left behind.
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    // The store is open: its process has left its number.
    assert_eq!(
        names,
        [
            "backup.redb".to_owned(),
            FILE.to_owned(),
            format!("{FILE}.writer")
        ]
    );

    let restored = folder.join("restored.redb");
    Store::restore(&target, &restored, options).unwrap();
    let store = Store::open(&restored).unwrap();
    assert_eq!(text(&store.snapshot().unwrap()), text(&fresh.snapshot()));
    assert!(store.snapshot().unwrap().verify().unwrap().is_clean());
    let there = Store::restore(&target, &restored, options);
    assert!(matches!(there, Err(Error::Io { .. })), "{there:?}");
    let busy = Store::restore(&target, &restored, replace);
    assert!(matches!(busy, Err(Error::Locked { .. })), "{busy:?}");
    drop(store);
    Store::restore(&target, &restored, replace).unwrap();
}

#[test]
fn a_damaged_store_replaces_no_backup() {
    let (fresh, _, _) = large(300);
    let folder = fresh.folder.path().to_owned();
    let (target, bad) = (folder.join("backup.redb"), folder.join("bad.redb"));
    fresh.store.backup(&target, CopyOptions::default()).unwrap();
    let good = std::fs::read(&target).unwrap();
    // A value whose checksum does not fit, written by the engine itself.
    std::fs::copy(&target, &bad).unwrap();
    {
        let database = redb::Database::open(&bad).unwrap();
        let txn = database.begin_write().unwrap();
        {
            let heads: redb::TableDefinition<'_, &[u8], &[u8]> =
                redb::TableDefinition::new("heads");
            let mut heads = txn.open_table(heads).unwrap();
            let key = {
                use redb::ReadableTable as _;
                heads.first().unwrap().unwrap().0.value().to_vec()
            };
            heads.insert(key.as_slice(), b"no head".as_slice()).unwrap();
        }
        txn.commit().unwrap();
    }
    let replace = CopyOptions {
        replace: true,
        even_damaged: false,
    };
    let damaged = Store::open_read_only(&bad).unwrap();
    let refused = damaged.backup(&target, replace);
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
    let refused = Store::restore(&bad, &target, replace);
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
    for (name, bytes) in [("none", &b""[..]), ("text", b"no store at all")] {
        std::fs::write(folder.join(name), bytes).unwrap();
        let refused = Store::restore(folder.join(name), &target, replace);
        assert!(matches!(refused, Err(Error::Format { .. })), "{refused:?}");
        let refused = Store::open(folder.join(name));
        assert!(matches!(refused, Err(Error::Format { .. })), "{refused:?}");
    }
    assert!(std::fs::read(&target).unwrap() == good);
    let forced = CopyOptions {
        even_damaged: true,
        ..replace
    };
    let report = damaged.backup(folder.join("kept.redb"), forced).unwrap();
    assert!(!report.verified.is_clean());
}

#[test]
fn an_engine_file_that_is_empty_is_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.redb");
    drop(redb::Database::create(&path).unwrap());
    for opened in [Store::open(&path), Store::open_read_only(&path)] {
        let text = opened.unwrap_err().to_string();
        assert!(text.contains("not a Relist store"), "{text}");
    }
}
