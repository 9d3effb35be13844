//! Damaged stores made whole again: what is derived is derived anew, and for the rest the keys are
//! named that the feed is to be asked for.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use redb::{Database, TableDefinition};
use relist::error::Error;
use relist::keycode::Key;
use relist::odata::Query;
use relist::query::QueryContext;
use relist::store::{AsOf, Scope, Store};
use relist::value::Timestamp;
use relist_tests::fresh;
use relist_tests::power;

/// A store with a history in a file, closed; and all that it says.
fn subject(folder: &Path) -> (PathBuf, String) {
    let held = power::Held::played(&power::writes());
    let text = power::told(&held.store().snapshot().unwrap()).unwrap();
    let path = folder.join("relist.redb");
    std::fs::write(&path, held.into_bytes()).unwrap();
    (path, text)
}

type Bytes = &'static [u8];

/// Spoils one byte of the `number`-th value of a table, as a bit that flips does.
fn spoil<K: redb::Key + 'static>(
    path: &Path,
    table: TableDefinition<'static, K, Bytes>,
    number: usize,
    at: usize,
) where
    for<'k> K::SelfType<'k>: ToOwned,
{
    use redb::ReadableTable as _;
    let database = Database::builder().open(path).unwrap();
    let txn = database.begin_write().unwrap();
    {
        let mut table = txn.open_table(table).unwrap();
        let (key, mut value) = {
            let entry = table.iter().unwrap().nth(number).unwrap().unwrap();
            (
                K::as_bytes(&entry.0.value()).as_ref().to_vec(),
                entry.1.value().to_vec(),
            )
        };
        let at = at % value.len();
        value[at] ^= 0x10;
        table.insert(K::from_bytes(&key), value.as_slice()).unwrap();
    }
    txn.commit().unwrap();
}

/// Spoils every value of a table.
fn spoil_all(path: &Path, table: TableDefinition<'static, Bytes, Bytes>) {
    use redb::ReadableTable as _;
    let database = Database::builder().open(path).unwrap();
    let txn = database.begin_write().unwrap();
    {
        let mut table = txn.open_table(table).unwrap();
        let all: Vec<(Vec<u8>, Vec<u8>)> = table
            .iter()
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|(key, value)| (key.value().to_vec(), value.value().to_vec()))
            .collect();
        for (key, mut value) in all {
            value[0] ^= 0x10;
            table.insert(key.as_slice(), value.as_slice()).unwrap();
        }
    }
    txn.commit().unwrap();
}

const HEADS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("heads");
const HISTORY: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("history");
const COLUMNS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("columns");
const FIELD_CHANGES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("field_changes");
const TOMBSTONES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("tombstones");
const CELLS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("column_cells");
const INSTANTS: TableDefinition<'_, i64, Bytes> = TableDefinition::new("instants");
const VERSIONS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("versions");
const CHANGELOG: TableDefinition<'_, u64, Bytes> = TableDefinition::new("changelog");

fn problems(path: &Path) -> Vec<String> {
    let store = Store::open(path).unwrap();
    store.snapshot().unwrap().verify().unwrap().problems
}

type Spoil = fn(&Path);

#[test]
fn whatever_is_derived_is_derived_anew() {
    let spoils: [(&str, Spoil); 7] = [
        ("heads", |path| spoil(path, HEADS, 3, 40)),
        ("history", |path| spoil(path, HISTORY, 5, 3)),
        ("columns", |path| spoil(path, COLUMNS, 4, 20)),
        ("cells", |path| spoil(path, CELLS, 0, 2)),
        ("field changes", |path| spoil(path, FIELD_CHANGES, 6, 14)),
        ("instants", |path| spoil(path, INSTANTS, 0, 1)),
        ("tombstones", |path| spoil(path, TOMBSTONES, 0, 4)),
    ];
    for (name, spoil) in spoils {
        let folder = tempfile::tempdir().unwrap();
        let (path, before) = subject(folder.path());
        spoil(&path);
        let store = Store::open(&path).unwrap();
        let (read, verified) = {
            let snapshot = store.snapshot().unwrap();
            (power::told(&snapshot), snapshot.verify())
        };
        drop(store);
        let found = read.is_err() || verified.map_or(true, |report| !report.is_clean());
        assert!(found, "{name}: nothing is noticed");
        let damaged = std::fs::read(&path).unwrap();
        let repaired = Store::repair(&path).unwrap();
        assert_eq!(repaired.refetch, [], "{name}");
        assert_eq!(std::fs::read(&repaired.kept).unwrap().len(), damaged.len());
        let store = Store::open(&path).unwrap();
        fresh::verified(&store);
        let after = power::told(&store.snapshot().unwrap()).unwrap();
        assert_eq!(after, before, "{name}");
        drop(store);
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 2, "{name}");
    }
}

#[test]
fn a_version_that_cannot_be_read_is_made_of_others_or_its_key_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (path, before) = subject(folder.path());
    let count = {
        use redb::ReadableTableMetadata as _;
        let database = Database::builder().open(&path).unwrap();
        let txn = redb::ReadableDatabase::begin_read(&database).unwrap();
        usize::try_from(txn.open_table(VERSIONS).unwrap().len().unwrap()).unwrap()
    };
    let mut rebuilt = 0;
    for number in 0..count {
        for at in [3, 60, 400] {
            let folder = tempfile::tempdir().unwrap();
            let own = folder.path().join("relist.redb");
            std::fs::copy(&path, &own).unwrap();
            spoil(&own, VERSIONS, number, at);
            assert!(!problems(&own).is_empty(), "block {number}");
            let repaired = Store::repair(&own).unwrap();
            rebuilt += repaired.rebuilt;
            let store = Store::open(&own).unwrap();
            fresh::verified(&store);
            let after = power::told(&store.snapshot().unwrap()).unwrap();
            // Current records come back from columns, whole.
            assert_eq!(
                (repaired.refetch, after),
                (Vec::new(), before.clone()),
                "block {number}"
            );
        }
    }
    assert!(rebuilt > 0);
}

#[test]
fn a_current_version_that_nothing_else_holds_is_asked_for_again() {
    let fresh = fresh::Fresh::new();
    // Remarks so long that they are kept by the records alone.
    let page = |price: i64| {
        let rows = (1..=400).map(|key| {
            let remarks = format!("{key} ").repeat(1_500);
            serde_json::json!({"ListingKey": format!("K{key:03}"), "ListPrice": price + key,
                "PublicRemarks": remarks, "ModificationTimestamp": "2026-01-01T00:00:00Z"})
        });
        serde_json::json!({"value": rows.collect::<Vec<_>>()}).to_string()
    };
    fresh.ingest("Property", &[("first", page(1_000))], 1);
    let before = fresh.records("Property");
    let path = fresh.store.path().to_owned();
    drop(fresh.store);
    spoil(&path, VERSIONS, 0, 2_000);
    // A query that needs the record says so, and so does a read of it.
    let store = Store::open_read_only(&path).unwrap();
    let snapshot = store.snapshot().unwrap();
    let query = Query::new("Property")
        .filter("startswith(PublicRemarks,'1 ')")
        .unwrap();
    let query = query.select(["ListingKey"]);
    let asked = snapshot.query(&query, &QueryContext::new(Timestamp(0)));
    assert!(matches!(asked, Err(Error::Corrupt { .. })), "{asked:?}");
    drop((snapshot, store));
    let repaired = Store::repair(&path).unwrap();
    let lost = ("Property".to_owned(), Key::Str("K001".into()));
    assert_eq!(repaired.refetch, [lost]);
    // The feed, asked again, gives what was lost.
    let store = Store::open(&path).unwrap();
    let files = [("again", page(1_000))];
    let report = fresh::try_ingest(&store, "Property", &files, 2).unwrap();
    assert_eq!((report.updated, report.unchanged), (1, 399));
    fresh::verified(&store);
    let snapshot = store.snapshot().unwrap();
    for (key, json) in before {
        let record = snapshot.get("Property", &key).unwrap().unwrap();
        assert_eq!(record.to_json(None), json);
    }
    let asked = snapshot
        .query(&query, &QueryContext::new(Timestamp(0)))
        .unwrap();
    assert_eq!(asked.rows.len(), 1);
}

/// All that a store says, and which past it can be asked for.
fn said(path: &Path) -> String {
    let store = Store::open(path).unwrap();
    fresh::verified(&store);
    let snapshot = store.snapshot().unwrap();
    let edge = snapshot.pruned().unwrap();
    let mut out = power::told(&snapshot).unwrap();
    for sequence in edge.max(1)..=snapshot.sequence() {
        let scanned = snapshot.scan("Property", AsOf::Sequence(sequence), |key, record| {
            let _ = writeln!(out, "{sequence} {key} {}", record.to_json(None));
            Ok(true)
        });
        scanned.unwrap();
    }
    let _ = writeln!(out, "{edge}");
    out
}

/// Two states of one store that a repair has to leave as they are: pruned at some sequence, and
/// purged of some records; with changes before and after.
fn shortened(folder: &Path, edge: Option<u64>, purged: &[i64]) -> PathBuf {
    let mut held = power::Held::played(&power::writes());
    if let Some(edge) = edge {
        let mut txn = held.store().begin_write(power::NOW).unwrap();
        txn.set_position("watch", edge).unwrap();
        txn.commit().unwrap();
        let later = Timestamp(power::NOW.0 + 1);
        assert_eq!(held.store().prune(later, later).unwrap().edge, edge);
    }
    if !purged.is_empty() {
        let keys = purged.iter().map(|key| Key::Int(*key)).collect();
        let scope = Scope::Records([("Property".to_owned(), keys)].into());
        let store = held.store.as_mut().unwrap();
        let report = store.purge(&scope, power::NOW, &mut |_| Ok(false)).unwrap();
        assert!(report.records > 0 && report.is_complete(), "{report:?}");
    }
    let page = serde_json::json!({"value": [{"ListingKeyNumeric": 7, "ListPrice": 5,
        "ModificationTimestamp": "2026-04-01T00:00:00Z"}, {"ListingKeyNumeric": 99,
        "ListPrice": 6, "ModificationTimestamp": "2026-04-01T00:00:00Z"}]});
    let at = power::NOW.0 + 5;
    let files = [("late", page.to_string())];
    fresh::try_ingest(held.store(), "Property", &files, at).unwrap();
    let path = folder.join("relist.redb");
    std::fs::write(&path, held.into_bytes()).unwrap();
    path
}

#[test]
fn pruned_and_purged_stores_are_made_anew_too() {
    let last = {
        let held = power::Held::played(&power::writes());
        held.store().snapshot().unwrap().sequence()
    };
    let spoils: [(&str, Spoil); 6] = [
        ("nothing", |_| {}),
        ("heads", |path| spoil(path, HEADS, 3, 40)),
        ("columns", |path| spoil(path, COLUMNS, 4, 20)),
        ("cells", |path| spoil(path, CELLS, 0, 2)),
        ("field changes", |path| spoil(path, FIELD_CHANGES, 1, 14)),
        ("instants", |path| spoil(path, INSTANTS, 0, 1)),
    ];
    for edge in [None, Some(5), Some(last / 2), Some(last - 1)] {
        for purged in [&[][..], &[2, 9, 14]] {
            for (name, spoil) in spoils {
                let folder = tempfile::tempdir().unwrap();
                let path = shortened(folder.path(), edge, purged);
                let before = said(&path);
                spoil(&path);
                let repaired = Store::repair(&path).unwrap();
                let what = format!("{name}, pruned {edge:?}, purged {purged:?}");
                assert_eq!(
                    (repaired.refetch, repaired.lost),
                    (vec![], vec![]),
                    "{what}"
                );
                assert_eq!(said(&path), before, "{what}");
                // What comes then finds the records.
                let store = Store::open(&path).unwrap();
                let page = r#"{"value": [{"ListingKeyNumeric": 99, "ListPrice": 7,
                    "ModificationTimestamp": "2026-04-02T00:00:00Z"}]}"#;
                let report = fresh::try_ingest(&store, "Property", &[("more", page)], 1);
                assert_eq!(report.unwrap().updated, 1, "{what}");
                fresh::verified(&store);
            }
        }
    }
}

/// How many entries the log has, and the sequence of the first.
fn log_of(path: &Path) -> (usize, u64) {
    let store = Store::open(path).unwrap();
    let snapshot = store.snapshot().unwrap();
    let edge = snapshot.pruned().unwrap();
    (
        usize::try_from(snapshot.sequence() - edge).unwrap(),
        edge + 1,
    )
}

#[test]
fn a_change_that_the_log_lost_is_told_by_other_tables() {
    for edge in [None, Some(20)] {
        let folder = tempfile::tempdir().unwrap();
        let path = shortened(folder.path(), edge, &[]);
        let before = said(&path);
        let (count, first) = log_of(&path);
        let mut named = 0;
        for number in 0..count {
            let folder = tempfile::tempdir().unwrap();
            let own = folder.path().join("relist.redb");
            std::fs::copy(&path, &own).unwrap();
            spoil(&own, CHANGELOG, number, 8);
            let repaired = Store::repair(&own).unwrap();
            assert_eq!(repaired.refetch, [], "{number}");
            let sequence = first + number as u64;
            if repaired.lost.is_empty() {
                assert_eq!(said(&own), before, "sequence {sequence}");
                continue;
            }
            // A change of the schema, or why a record was deleted that is back.
            named += 1;
            assert_eq!(repaired.lost.len(), 1, "{:?}", repaired.lost);
            assert!(
                repaired.lost[0].ends_with(&format!("sequence {sequence}")),
                "{:?}",
                repaired.lost
            );
            let after = said(&own);
            let pairs = before.lines().zip(after.lines());
            let other: Vec<_> = pairs.filter(|(a, b)| a != b).collect();
            assert_eq!(other.len(), 1, "sequence {sequence}: {other:?}");
        }
        assert!(named > 0 && named * 5 < count, "{named} of {count}");
    }
}

/// What is current, by key.
fn current(path: &Path) -> Vec<String> {
    let store = Store::open(path).unwrap();
    let snapshot = store.snapshot().unwrap();
    let mut out = Vec::new();
    let now = AsOf::Sequence(snapshot.sequence());
    let scanned = snapshot.scan("Property", now, |key, record| {
        out.push(format!("{key} {}", record.to_json(None)));
        Ok(true)
    });
    scanned.unwrap();
    out
}

#[test]
fn where_nothing_tells_what_the_log_lost_history_begins_behind_it() {
    for edge in [None, Some(20)] {
        let folder = tempfile::tempdir().unwrap();
        let path = shortened(folder.path(), edge, &[9]);
        let before = current(&path);
        let (count, first) = log_of(&path);
        // All entries up to some are lost, and all that says what they were.
        for upto in [1, count / 3, count - 3, count] {
            let folder = tempfile::tempdir().unwrap();
            let own = folder.path().join("relist.redb");
            std::fs::copy(&path, &own).unwrap();
            for number in 0..upto {
                spoil(&own, CHANGELOG, number, 8);
            }
            spoil_all(&own, HISTORY);
            spoil_all(&own, FIELD_CHANGES);
            let repaired = Store::repair(&own).unwrap();
            assert_eq!(repaired.refetch, [], "{upto} of {count}");
            assert!(
                !repaired.lost.is_empty(),
                "{upto} of {count} from {first}: {repaired:?}"
            );
            said(&own);
            assert_eq!(current(&own), before, "{upto} of {count}");
            let store = Store::open(&own).unwrap();
            let behind = store.snapshot().unwrap().pruned().unwrap();
            let last = first + upto as u64 - 1;
            assert!(behind <= last, "{behind}, {last}");
            let all = format!("the log from sequence {first} to {behind}, ");
            let named = repaired.lost.iter().any(|lost| lost.contains(&all));
            assert!(named || behind < first, "{:?}", repaired.lost);
        }
    }
}

#[test]
fn heads_that_are_lost_with_the_start_of_the_log_are_found_by_the_bodies() {
    let folder = tempfile::tempdir().unwrap();
    let last = {
        let held = power::Held::played(&power::writes());
        held.store().snapshot().unwrap().sequence()
    };
    let path = shortened(folder.path(), Some(last - 1), &[]);
    let before = current(&path);
    spoil_all(&path, HEADS);
    let repaired = Store::repair(&path).unwrap();
    assert_eq!(repaired.refetch, []);
    fresh::verified(&Store::open(&path).unwrap());
    assert_eq!(current(&path), before);
}
