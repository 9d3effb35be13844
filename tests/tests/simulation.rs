//! Everything at once, out of a seed: a feed that changes, faults, crashes, every kind of run.
//!
//! `RELIST_SIMULATIONS` says how many seeds are tried, `RELIST_SEED` tries one and tells its story,
//! `RELIST_FIRST_SEED` is where to begin.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use std::sync::Arc;

use relist::schema::Schema;
use relist::store::{Outcome, RunKind, RunReport, Store};
use relist::sync::{Policy, SyncMode, SyncOptions};
use relist::value::Timestamp;
use relist_sim::{Dataset, Direct, Key, Options};
use relist_tests::simulation::{Rng, World, fast_folder};
use serde_json::json;

/// What came of some seeds.
#[derive(Debug, Default)]
struct Tally {
    syncs: AtomicU64,
    crashes: AtomicU64,
    struck: AtomicU64,
}

/// Runs one seed; the story when it went wrong.
fn run(seed: u64, tally: &Tally) -> Result<World, String> {
    let mut world = World::new(seed);
    world.tells_requests = std::env::var_os("RELIST_SEED").is_some();
    let steps = 4 + Rng(seed).below(12);
    let played = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..steps {
            world.step();
        }
        world.finish();
    }));
    tally.syncs.fetch_add(world.syncs, Ordering::Relaxed);
    tally.crashes.fetch_add(world.crashes, Ordering::Relaxed);
    tally.struck.fetch_add(world.struck, Ordering::Relaxed);
    match played {
        Ok(()) => Ok(world),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let story = world.trace.join("\n  ");
            Err(format!(
                "RELIST_SEED={seed}\n  {story}\n{}",
                text.unwrap_or_default()
            ))
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|e| panic!("{name}={text}: {e}")),
    )
}

#[test]
fn every_seed_ends_equal_to_its_feed() {
    let tally = Tally::default();
    if let Some(seed) = number("RELIST_SEED") {
        match run(seed, &tally) {
            Ok(world) => println!("{}", world.trace.join("\n")),
            Err(story) => panic!("{story}"),
        }
        return;
    }
    let seeds = number("RELIST_SIMULATIONS").unwrap_or(120);
    let first = number("RELIST_FIRST_SEED").unwrap_or(1);
    let (next, failed) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let begun = Instant::now();
    // A seed waits for its own two threads, most of the time.
    let threads = 2 * std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let enough = failed.lock().unwrap().len() >= 5;
                    if seed >= first + seeds || enough {
                        return;
                    }
                    if let Err(story) = run(seed, &tally) {
                        failed.lock().unwrap().push(story);
                    }
                }
            });
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    let failed = failed.into_inner().unwrap();
    let syncs = tally.syncs.load(Ordering::Relaxed);
    println!(
        "seeds {first} to {}: {syncs} syncs, {} struck by a fault, {} ended by a crash, {} \
         diverged; {seconds:.1} s",
        first + seeds - 1,
        tally.struck.load(Ordering::Relaxed),
        tally.crashes.load(Ordering::Relaxed),
        failed.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Seeds that once found something, and what. A change of the simulation makes others of them;
/// the same is held by tests of its own in `sync.rs` and `reconcile.rs`.
const FOUND: [(u64, &str); 10] = [
    (
        88,
        "a row stamped in the future hid one that was lost in the walk's own second",
    ),
    (
        586,
        "a first walk, gone on with, left what was stored before it",
    ),
    (942, "the same, after a failure"),
    (
        100_635,
        "a row without its key was taken for a record that is gone",
    ),
    (
        100_807,
        "by a clock that is behind, the count was of too few",
    ),
    (
        100_863,
        "a page cut short lost a row; not traced, found since stamps are counted",
    ),
    (
        101_169,
        "a deletion was believed when the rows of the answer were numbers; not traced",
    ),
    (
        103_072,
        "a walk gone on with was called short of rows changed meanwhile; not traced",
    ),
    (103_625, "one row less, and one in the future"),
    (
        200_718,
        "rows met by an earlier process, and changed since, hid one that was lost",
    ),
];

#[test]
fn seeds_that_found_something_find_nothing_any_more() {
    let tally = Tally::default();
    for (seed, what) in FOUND {
        if let Err(story) = run(seed, &tally) {
            panic!("{what}:\n{story}");
        }
    }
}

#[test]
fn a_seed_decides_everything() {
    let tally = Tally::default();
    let mut told = (11..15).map(|seed| {
        let story = |()| run(seed, &tally).map(|world| world.trace);
        (story(()), story(()))
    });
    assert!(told.all(|(one, other)| one.is_ok() && one == other));
}

/// A store that knows the schema of a feed, without a network between them.
struct Plain {
    rows: Arc<Mutex<Dataset>>,
    store: Store,
    page: u64,
    _folder: tempfile::TempDir,
}

impl Plain {
    fn new(rows: Dataset, page: u64) -> Self {
        let folder = fast_folder();
        let store = Store::create(folder.path().join("mirror"), Timestamp(0)).unwrap();
        let plain = Plain {
            rows: Arc::new(Mutex::new(rows)),
            store,
            page,
            _folder: folder,
        };
        let metadata = plain.feed().get("/reso/odata/$metadata", None).body;
        let mut txn = plain.store.begin_write(Timestamp(0)).unwrap();
        txn.define(&Schema::from_metadata(&metadata).unwrap())
            .unwrap();
        txn.commit().unwrap();
        plain
    }

    fn feed(&self) -> Direct {
        let options = Options {
            page_limit: self.page,
            ..Options::default()
        };
        Direct::new(Arc::clone(&self.rows), options)
    }

    fn sync(&self, mode: SyncMode) -> relist::error::Result<RunReport> {
        let options = SyncOptions {
            mode,
            max_pages: None,
            confirm: false,
            now: &|| Timestamp(1_772_500_000_000_000),
        };
        let policy = Policy {
            page_size: Some(self.page),
            ..Policy::default()
        };
        let mut feed = self.feed();
        self.store.sync(
            "Property",
            &mut feed,
            &policy,
            &options,
            &mut |_: &RunReport| {},
        )
    }
}

fn on_one_stamp(n: i64, price: i64, stamp: &str) -> impl Iterator<Item = serde_json::Value> {
    (1..=n).map(move |key| {
        json!({"ListingKeyNumeric": key, "ListPrice": price + key, "StandardStatus": "Active",
            "ModificationTimestamp": stamp})
    })
}

#[test]
fn a_hundred_thousand_rows_on_one_stamp_lose_none() {
    let rows = on_one_stamp(100_000, 0, "2026-02-01T00:00:00Z");
    let data = Dataset::new()
        .with_resource("Property", "ListingKeyNumeric", rows)
        .unwrap();
    let plain = Plain::new(data, 1_000);
    let report = plain.sync(SyncMode::Auto).unwrap();
    assert_eq!((report.inserted, report.expected), (100_000, Some(100_000)));
    for row in on_one_stamp(100_000, 7, "2026-03-01T23:59:59Z") {
        plain.rows.lock().unwrap().put("Property", &row).unwrap();
    }
    let report = plain.sync(SyncMode::Auto).unwrap();
    assert_eq!(
        (report.kind, report.updated, report.price_changes),
        (RunKind::Incremental, 100_000, 100_000)
    );
    assert_eq!(report.outcome, Outcome::Complete);
    let report = plain.sync(SyncMode::Auto).unwrap();
    assert_eq!((report.records, report.unchanged), (100_000, 100_000));
    let snapshot = plain.store.snapshot().unwrap();
    assert_eq!(snapshot.count("Property").unwrap(), 100_000);
}

#[test]
fn a_feed_that_is_emptied_or_shrinks_deletes_nothing() {
    for left in [0, 1, 100] {
        let rows = on_one_stamp(1_000, 0, "2026-02-01T00:00:00Z");
        let data = Dataset::new()
            .with_resource("Property", "ListingKeyNumeric", rows)
            .unwrap();
        let plain = Plain::new(data, 100);
        plain.sync(SyncMode::Auto).unwrap();
        for key in left + 1..=1_000 {
            let mut rows = plain.rows.lock().unwrap();
            assert!(rows.remove("Property", &Key::Int(key)));
        }
        for mode in [
            SyncMode::Full,
            SyncMode::Reconcile,
            SyncMode::Deep { slice: 1, of: 1 },
        ] {
            let report = plain.sync(mode).unwrap();
            assert_eq!(report.deleted, 0, "{mode:?}");
            assert!(
                matches!(&report.outcome, Outcome::Degraded(why) if why.contains("of 1000")),
                "{mode:?}: {:?}",
                report.outcome
            );
        }
        let snapshot = plain.store.snapshot().unwrap();
        assert_eq!(snapshot.count("Property").unwrap(), 1_000);
        assert_eq!(snapshot.tombstones("Property").unwrap(), []);
    }
}
