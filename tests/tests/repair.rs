//! Damaged stores made whole again: what is derived is derived anew, and for the rest the keys are
//! named that the feed is to be asked for.

use std::path::{Path, PathBuf};

use redb::{Database, TableDefinition};
use relist::error::Error;
use relist::keycode::Key;
use relist::odata::Query;
use relist::query::QueryContext;
use relist::store::Store;
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

#[test]
fn what_only_the_log_holds_is_not_made_up() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = subject(folder.path());
    spoil(&path, CHANGELOG, 10, 8);
    let damaged = std::fs::read(&path).unwrap();
    let error = Store::repair(&path).unwrap_err();
    assert!(
        matches!(&error, Error::Corrupt { what } if what.contains("changelog")),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap().len(), damaged.len());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
