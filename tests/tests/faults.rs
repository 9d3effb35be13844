//! Every fault, on the first, a middle and the last pages of every kind of run, over real HTTP.
//!
//! Whatever a feed does: what the checkpoint claims is in the store, a run that misses something
//! does not call itself complete, nothing is deleted without evidence, and the next healthy runs
//! end equal to the feed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use relist::error::Result;
use relist::ingest::DeletedFeed;
use relist::keycode::Key;
use relist::schema::Schema;
use relist::source::PageSource;
use relist::store::{Checkpoint, Outcome, RunKind, RunReport, Store, SyncState, WalkPosition};
use relist::sync::{Policy, SyncMode, SyncOptions, WalkKind};
use relist::value::Timestamp;
use relist_feed::{Limits, Profile, RetryPolicy, Token, WebApi};
use relist_sim::{
    Backend as _, Dataset, Direct, Fault, FaultKind, NextLink, Options, Place, Server, Strike,
    format_timestamp,
};
use relist_tests::fault_server::VirtualClock;
use relist_tests::simulation::{Rows, differences, fast_folder, log_problems, served, stored};
use serde_json::json;

/// When the feed was filled: 2026-03-02T00:00:00Z.
const FILLED: u32 = 1_772_409_600;
const PAGE: u64 = 20;
const ROWS: i64 = 120;
/// A key that no record has, deleted long ago.
const UNKNOWN: i64 = 9_999_999;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Backfill,
    Incremental,
    Full,
    Reconcile,
}

impl Mode {
    fn sync(self) -> SyncMode {
        match self {
            Mode::Backfill | Mode::Incremental => SyncMode::Auto,
            Mode::Full => SyncMode::Full,
            Mode::Reconcile => SyncMode::Reconcile,
        }
    }
}

fn row(key: i64, price: i64, stamp: u32) -> serde_json::Value {
    json!({"ListingKeyNumeric": key, "ListPrice": price, "StandardStatus": "Active",
        "City": "Ogden", "ModificationTimestamp": format_timestamp(stamp)})
}

/// A stamp within the day before the feed was filled, in another order than the keys.
fn early(key: i64) -> u32 {
    FILLED - 1 - u32::try_from(key * 7_919 % 86_000).unwrap()
}

fn filled() -> Dataset {
    let rows = (1..=ROWS).map(|n| row(n * 10, n * 1_000, early(n)));
    let deleted = json!({"primary_key": UNKNOWN.to_string(), "resource": "Property",
        "ts": format_timestamp(FILLED - 90_000)});
    let mut data = Dataset::new()
        .with_resource("Property", "ListingKeyNumeric", rows)
        .and_then(|data| data.with_resource("Deleted", "primary_key", [deleted]))
        .unwrap();
    data.set_now(FILLED);
    data
}

/// What happened to the feed since it was mirrored.
fn change(rows: &mut Dataset, mode: Mode) {
    let now = FILLED + 7_200;
    rows.set_now(now);
    let late = mode == Mode::Reconcile;
    for n in 1..=ROWS {
        let key = n * 10;
        let at = FILLED + 3_600 + u32::try_from(n * 37 % 3_000).unwrap();
        match n % 25 {
            0 => {
                rows.remove("Property", &relist_sim::Key::Int(key));
                if n % 50 == 0 || mode == Mode::Incremental {
                    let gone = json!({"primary_key": key.to_string(), "resource": "Property",
                        "ts": format_timestamp(at)});
                    rows.put("Deleted", &gone).unwrap();
                }
            }
            1 => rows
                .put(
                    "Property",
                    &row(key + 5, 1, if late { early(n) } else { at }),
                )
                .unwrap(),
            x if x % 2 == 0 => {
                // A reconcile finds what has another stamp, also an older one.
                let at = if late { early(n) - 100_000 } else { at };
                rows.put("Property", &row(key, n * 1_000 - 7, at)).unwrap();
            }
            _ => {}
        }
    }
}

fn policy(walk: WalkKind) -> Policy {
    Policy {
        walk,
        page_size: Some(PAGE),
        deletes: Some(DeletedFeed::WFRMLS),
        ..Policy::default()
    }
}

fn options(strike: Option<&Arc<Strike>>, rows: &Arc<Mutex<Dataset>>) -> Options {
    Options {
        gzip: false,
        page_limit: PAGE,
        next_link: NextLink::SkipToken,
        alter: strike.map(Strike::alter),
        before_page: strike.map(|strike| strike.before_page(Arc::clone(rows))),
        ..Options::default()
    }
}

fn sync(
    store: &Store,
    source: &mut dyn PageSource,
    rows: &Arc<Mutex<Dataset>>,
    walk: WalkKind,
    mode: SyncMode,
) -> Result<RunReport> {
    let now = || Timestamp(i64::from(rows.lock().unwrap().now()) * 1_000_000);
    let options = SyncOptions {
        mode,
        max_pages: None,
        confirm: false,
        now: &now,
    };
    store.sync(
        "Property",
        source,
        &policy(walk),
        &options,
        &mut |_: &RunReport| {},
    )
}

/// A store and a feed as they are before a run of that kind.
struct Scene {
    mode: Mode,
    walk: WalkKind,
    rows: Dataset,
    folder: tempfile::TempDir,
    /// How many pages a healthy run asks for.
    pages: u64,
}

impl Scene {
    fn new(mode: Mode, walk: WalkKind) -> Self {
        let rows = Arc::new(Mutex::new(filled()));
        let folder = fast_folder();
        let store = Store::create(folder.path().join("base"), Timestamp(0)).unwrap();
        let mut feed = Direct::new(Arc::clone(&rows), options(None, &rows));
        let metadata = feed.get("/reso/odata/$metadata", None).body;
        define(&store, &metadata).unwrap();
        if mode != Mode::Backfill {
            let report = sync(&store, &mut feed, &rows, walk, SyncMode::Auto).unwrap();
            assert_eq!(report.outcome, Outcome::Complete);
            change(&mut rows.lock().unwrap(), mode);
        }
        drop((store, feed));
        let rows = rows.lock().unwrap().clone();
        let mut scene = Scene {
            mode,
            walk,
            rows,
            folder,
            pages: 0,
        };
        let never = Strike::new(Fault::Status503, Place::page(u64::MAX));
        let rows = Arc::new(Mutex::new(scene.rows.clone()));
        let store = scene.store("dry");
        let mut feed = Direct::new(Arc::clone(&rows), options(Some(&never), &rows));
        let report = sync(&store, &mut feed, &rows, walk, mode.sync()).unwrap();
        assert_eq!(report.outcome, Outcome::Complete, "{mode:?} {walk:?}");
        scene.pages = never.pages();
        if mode != Mode::Reconcile {
            let missing = differences(
                &stored(&store.snapshot().unwrap()),
                &served(&rows.lock().unwrap()),
            );
            assert_eq!(missing, "", "{mode:?} {walk:?}");
        }
        scene
    }

    fn store(&self, name: &str) -> Store {
        let path = self.folder.path().join(name);
        std::fs::copy(self.folder.path().join("base"), &path).unwrap();
        Store::open(&path).unwrap()
    }

    /// The first page, a middle one, and the last ones: with rows, empty, of the deletions.
    fn places(&self) -> BTreeSet<u64> {
        let n = self.pages;
        BTreeSet::from([0, n / 2, n.saturating_sub(3), n - 2, n - 1])
    }
}

fn define(store: &Store, metadata: &[u8]) -> Result<()> {
    let schema = Schema::from_metadata(metadata)?;
    let mut txn = store.begin_write(Timestamp(0))?;
    txn.define(&schema)?;
    txn.commit()?;
    Ok(())
}

fn client(server: &Server, fault: Option<Fault>) -> WebApi {
    let token = Token::from_env_value("TOKEN", server.token()).unwrap();
    let profile = Profile::named("wfrmls").unwrap();
    let mut limits = Limits {
        body_bytes: 8 << 20,
        ..Limits::default()
    };
    if fault.is_some_and(Fault::is_slow) {
        limits.read = relist_sim::SLOW / 2;
        limits.total = relist_sim::SLOW;
    }
    let slow = fault.is_some_and(Fault::is_slow);
    let retry = RetryPolicy {
        max_attempts: if slow { 1 } else { 2 },
        base: Duration::from_secs(1),
        ..RetryPolicy::default()
    };
    WebApi::new(profile, &server.base_url(), token, limits)
        .unwrap()
        .with_retry(retry)
        .with_clock(VirtualClock::at(
            SystemTime::UNIX_EPOCH + Duration::from_secs(FILLED.into()),
        ))
}

/// One run with a fault, and the healthy ones after it.
struct Case<'a> {
    scene: &'a Scene,
    fault: Fault,
    page: u64,
}

/// How a faulty run ended.
#[derive(Debug, Default)]
struct Told {
    struck: bool,
    outcome: String,
    problems: Vec<String>,
}

impl Case<'_> {
    fn run(&self, name: &str) -> Told {
        let (scene, fault) = (self.scene, self.fault);
        let rows = Arc::new(Mutex::new(scene.rows.clone()));
        let strike = Strike::new(fault, Place::page(self.page));
        let server = Server::start(Arc::clone(&rows), options(Some(&strike), &rows)).unwrap();
        let store = scene.store(name);
        let before = store.snapshot().unwrap();
        let mut told = Told::default();
        let mut feed = client(&server, Some(fault));
        if fault.kind() == FaultKind::Metadata {
            // What is no metadata must not become a schema; a sync goes on with what is known.
            if let Ok(metadata) = feed.metadata() {
                let defined = define(&store, &metadata);
                told.check(
                    "metadata",
                    defined.is_err() == (fault == Fault::MetadataTruncated),
                );
            } else {
                told.check(
                    "metadata",
                    matches!(
                        fault,
                        Fault::MetadataHtml | Fault::Metadata500 | Fault::MetadataTruncated
                    ),
                );
            }
        }
        let result = sync(&store, &mut feed, &rows, scene.walk, scene.mode.sync());
        told.struck = strike.struck() > 0;
        strike.heal();
        server.up();
        told.outcome = match &result {
            Err(error) => format!("failed: {error}"),
            Ok(report) => match &report.outcome {
                Outcome::Degraded(why) => format!("degraded: {why}"),
                other => format!("{other:?}"),
            },
        };
        self.after_fault(&store, &before, &rows, &mut told);
        drop(before);
        let mut feed = client(&server, None);
        self.heal(&store, &mut feed, &rows, &mut told);
        let _ = std::fs::remove_file(store.path());
        told
    }

    /// Whether the rows of the feed stay what they are, and are told as they are.
    fn steady(&self) -> bool {
        use Fault as F;
        let told_right = matches!(
            self.fault,
            F::TypeDrift
                | F::ClockAhead
                | F::ClockBehind
                | F::NoDate
                | F::TopIsTotal
                | F::CountTooHigh
                | F::CountTooLow
                | F::CountGarbage
        );
        self.fault.kind() != FaultKind::Rows || told_right
    }

    fn after_fault(
        &self,
        store: &Store,
        before: &relist::store::Snapshot,
        rows: &Arc<Mutex<Dataset>>,
        told: &mut Told,
    ) {
        let snapshot = store.snapshot().unwrap();
        let (own, feed) = (stored(&snapshot), served(&rows.lock().unwrap()));
        let report = &snapshot.runs(1).unwrap()[0];
        let complete = report.outcome == Outcome::Complete;
        let sum = report.applied() + report.unchanged + report.quarantined + report.flagged;
        told.check("records are accounted for", report.records == sum);
        told.check("the run ended", !matches!(report.outcome, Outcome::Running));
        let missing = differences(&own, &feed);
        if self.steady() && complete && !missing.is_empty() {
            told.problems.push(format!("complete, but {missing}"));
        }
        if self.fault.kind() == FaultKind::Metadata || !told.struck {
            told.check("an unspoiled run is complete", complete);
        }
        let checkpoint = snapshot.checkpoint("Property").unwrap();
        let earlier = before.checkpoint("Property").unwrap();
        told.check(
            "the watermark goes up",
            checkpoint.watermark >= earlier.watermark,
        );
        let now = i64::from(rows.lock().unwrap().now()) * 1_000_000;
        told.check(
            "the watermark is not ahead",
            checkpoint.watermark <= Some(Timestamp(now)),
        );
        if self.steady() && self.scene.mode != Mode::Reconcile {
            let claimed = claims(&checkpoint, &feed);
            let lost = claimed
                .iter()
                .filter(|key| own.get(key) != feed.get(key))
                .count();
            if lost as u64 > report.quarantined {
                told.problems.push(format!(
                    "{lost} of {} rows that {checkpoint:?} claims are not stored",
                    claimed.len()
                ));
            }
        }
        for (key, tombstone) in snapshot.tombstones("Property").unwrap() {
            let Key::Int(key) = key else { panic!("{key}") };
            let withheld = self.fault == Fault::RowsWithheld && key % 3 == 0;
            if tombstone.sequence > 0 && feed.contains_key(&key) && !withheld {
                told.problems
                    .push(format!("{key} was deleted by {:?}", tombstone.cause));
            }
        }
        told.problems
            .extend(log_problems(&snapshot, before.sequence()));
    }

    /// The healthy runs: after them the store is the feed.
    fn heal(&self, store: &Store, feed: &mut WebApi, rows: &Arc<Mutex<Dataset>>, told: &mut Told) {
        use Fault as F;
        {
            let mut rows = rows.lock().unwrap();
            let later = rows.now() + 60;
            rows.set_now(later);
        }
        let mut modes = vec![SyncMode::Auto, SyncMode::Reconcile];
        if matches!(
            self.fault,
            F::SilentEdits | F::FieldWithheld | F::StampsNull
        ) {
            // No stamp tells.
            modes.push(SyncMode::Deep { slice: 1, of: 1 });
        }
        for mode in modes {
            let result = sync(store, feed, rows, self.scene.walk, mode);
            let healthy = result
                .as_ref()
                .is_ok_and(|r| r.outcome == Outcome::Complete);
            if !healthy {
                told.problems
                    .push(format!("the healthy {mode:?} run: {result:?}"));
            }
        }
        let snapshot = store.snapshot().unwrap();
        let missing = differences(&stored(&snapshot), &served(&rows.lock().unwrap()));
        if !missing.is_empty() {
            told.problems.push(format!("healed, but {missing}"));
        }
        let verified = snapshot.verify().unwrap();
        told.problems.extend(verified.problems);
        // Read again, nothing changes.
        let sequence = snapshot.sequence();
        drop(snapshot);
        let again = sync(store, feed, rows, self.scene.walk, SyncMode::Auto);
        told.check("the next run succeeds", again.is_ok());
        let after = store.snapshot().unwrap().sequence();
        told.check("what was read before changes nothing", after == sequence);
    }
}

impl Told {
    fn check(&mut self, what: &str, holds: bool) {
        if !holds {
            self.problems.push(format!("not so: {what}"));
        }
    }
}

/// The keys of the rows that a checkpoint says are applied.
fn claims(checkpoint: &Checkpoint, feed: &Rows) -> Vec<i64> {
    let stamp = |row: &str| {
        let (_, rest) = row.split_once("ModificationTimestamp=")?;
        let (stamp, _) = rest.split_once(';')?;
        relist::value::DateTime::parse(stamp)?.to_timestamp()
    };
    let live = checkpoint.state == SyncState::Live;
    let below = checkpoint.watermark.filter(|_| live);
    let walk = checkpoint.walk.as_ref();
    let walk = walk.filter(|walk| matches!(walk.kind, RunKind::Full | RunKind::Incremental));
    let claimed = feed.iter().filter(|(key, row)| {
        let stamp = stamp(row);
        let old = below.is_some() && stamp <= below;
        let walked = walk.is_some_and(|walk| match &walk.position {
            WalkPosition::After(Key::Int(at)) => *key <= at && stamp >= walk.since,
            _ => false,
        });
        old || walked
    });
    claimed.map(|(key, _)| *key).collect()
}

/// Runs all cases of a scene on a few threads; returns what was told of each.
fn run_all(scene: &Scene, faults: &[Fault]) -> Vec<(Fault, u64, Told)> {
    let mut cases = Vec::new();
    for fault in faults {
        let once = fault.kind() == FaultKind::Metadata;
        let places = scene
            .places()
            .into_iter()
            .filter(|page| !once || *page == 0);
        cases.extend(places.map(|page| Case {
            scene,
            fault: *fault,
            page,
        }));
    }
    let (next, told) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some((n, case)) = {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    cases.get(n).map(|case| (n, case))
                } {
                    let one = case.run(&format!("case-{n}"));
                    told.lock().unwrap().push((case.fault, case.page, one));
                }
            });
        }
    });
    told.into_inner().unwrap()
}

fn matrix(walk: WalkKind, modes: &[Mode]) {
    let only = std::env::var("RELIST_FAULT").ok();
    let faults: Vec<Fault> = match &only {
        Some(name) => vec![Fault::named(name).expect("a fault of that name")],
        None => Fault::ALL.to_vec(),
    };
    let (mut cases, mut struck, mut bad) = (0, BTreeSet::new(), Vec::new());
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    for &mode in modes {
        let scene = Scene::new(mode, walk);
        for (fault, page, told) in run_all(&scene, &faults) {
            cases += u64::from(told.struck);
            if told.struck {
                struck.insert(fault);
                let (word, _) = told.outcome.split_once(':').unwrap_or((&told.outcome, ""));
                *outcomes.entry(word.to_lowercase()).or_default() += 1;
            }
            if only.is_some() {
                println!(
                    "{walk:?} {mode:?} {} page {page}: {}",
                    fault.name(),
                    told.outcome
                );
            }
            bad.extend(told.problems.into_iter().map(|problem| {
                format!(
                    "{walk:?} {mode:?} {} page {page} of {}: {problem} [{}]",
                    fault.name(),
                    scene.pages,
                    told.outcome
                )
            }));
        }
    }
    println!(
        "{walk:?}: {} faults struck in {cases} cases: {outcomes:?}",
        struck.len()
    );
    let shown: Vec<&String> = bad.iter().take(400).collect();
    assert!(bad.is_empty(), "{} problems:\n{shown:#?}", bad.len());
    assert!(only.is_some() || struck.len() >= 40, "{}", struck.len());
}

#[test]
fn keyset_backfills() {
    matrix(WalkKind::Keyset, &[Mode::Backfill]);
}

#[test]
fn keyset_incrementals() {
    matrix(WalkKind::Keyset, &[Mode::Incremental]);
}

#[test]
fn keyset_fulls_and_reconciles() {
    matrix(WalkKind::Keyset, &[Mode::Full, Mode::Reconcile]);
}

#[test]
fn nextlink_walks() {
    let modes = [
        Mode::Backfill,
        Mode::Incremental,
        Mode::Full,
        Mode::Reconcile,
    ];
    matrix(WalkKind::NextLink, &modes);
}

/// A path in the scene's folder must not be the base itself.
#[test]
fn a_scene_is_a_copy() {
    let scene = Scene::new(Mode::Backfill, WalkKind::Keyset);
    let store = scene.store("copy");
    assert_ne!(store.path(), Path::new("base"));
    assert!(scene.pages > ROWS.unsigned_abs() / PAGE);
}
