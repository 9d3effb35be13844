//! One seed: a feed, a store that mirrors it, faults and crashes, and what must hold throughout.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use relist::error::{Result, SourceError};
use relist::ingest::DeletedFeed;
use relist::keycode::Key;
use relist::schema::Schema;
use relist::source::{Page, PageRequest, PageSource};
use relist::store::{Operation, Outcome, RunReport, Snapshot, Store};
use relist::sync::{Policy, SyncMode, SyncOptions, WalkKind};
use relist::value::Timestamp;
use relist_sim::{Direct, Fault, FaultKind, NextLink, Options, Place, Strike};

use super::feed::{Feed, Rng};
use super::{differences, fast_folder, log_problems, served, stored};

/// The process dies here.
struct Crash;

/// Makes the walker and the writer take turns, so that the seed alone decides what a transaction
/// holds; and lets the process die between two pages.
struct Turns {
    inner: Direct,
    shared: Arc<Shared>,
    main: ThreadId,
    /// The thread that was given a page to apply, and how many transactions there were then.
    given: Option<(ThreadId, u64)>,
    crash_at: Option<u64>,
    /// Where requests are told.
    told: Option<Arc<Mutex<Vec<String>>>>,
}

#[derive(Default)]
struct Shared {
    /// Transactions so far.
    done: Mutex<u64>,
    told: Condvar,
}

impl Shared {
    fn tell(&self, transactions: u64) {
        *self.done.lock().unwrap() = transactions;
        self.told.notify_all();
    }
}

impl PageSource for Turns {
    fn fetch(&mut self, request: &PageRequest) -> Result<Page, SourceError> {
        if self.crash_at == Some(self.inner.request_count()) {
            self.shared.tell(u64::MAX);
            resume_unwind(Box::new(Crash));
        }
        let me = std::thread::current().id();
        let mut done = self.shared.done.lock().unwrap();
        if let Some((walker, before)) = self.given
            && walker == me
        {
            let limit = Duration::from_secs(20);
            let waiting = |done: &mut u64| *done <= before;
            let told = &self.shared.told;
            let (now, timeout) = told.wait_timeout_while(done, limit, waiting).unwrap();
            assert!(!timeout.timed_out(), "a page was never applied");
            done = now;
        }
        if *done == u64::MAX {
            // The writer is dead already.
            drop(done);
            resume_unwind(Box::new(Crash));
        }
        // What the writer's own thread asks for needs no turns; a walk over keys writes nothing.
        let turn = me != self.main && !keys_only(request);
        self.given = turn.then_some((me, *done));
        drop(done);
        let result = self.inner.fetch(request);
        if let Some(told) = &self.told {
            told.lock().unwrap().push(match &result {
                Ok(page) => format!("    {}: {} bytes", page.origin, page.body.len()),
                Err(error) => format!("    {error}"),
            });
        }
        result
    }

    fn holds(&mut self, resource: &str, key: &Key) -> Result<Option<bool>, SourceError> {
        self.inner.holds(resource, key)
    }
}

fn keys_only(request: &PageRequest) -> bool {
    match request {
        PageRequest::Query { options, .. } => options.select.is_some(),
        PageRequest::Next { link, .. } => link.contains("$select") || link.contains("%24select"),
    }
}

/// How a seed's syncs are done.
struct Manner {
    walk: WalkKind,
    page: u64,
    deletes: bool,
    /// The mirror's clock is ahead of the feed's by so much.
    skew: i64,
}

/// A feed and its mirror.
pub struct World {
    rng: Rng,
    feed: Arc<Mutex<Feed>>,
    manner: Manner,
    store: Option<Store>,
    path: PathBuf,
    _folder: tempfile::TempDir,
    watermark: Option<Timestamp>,
    sequence: u64,
    /// Syncs done.
    pub syncs: u64,
    /// Of these, those that a crash ended.
    pub crashes: u64,
    /// Of these, those that a fault struck.
    pub struck: u64,
    /// What happened, in words.
    pub trace: Vec<String>,
    /// Whether each request is told, too.
    pub tells_requests: bool,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let rows = match rng.below(20) {
            0 => 0,
            1 => 1,
            _ => rng.within(30, 170),
        };
        let feed = Feed::new(rng.number(), rows);
        let keyset = rng.chance(65);
        let manner = Manner {
            walk: if keyset {
                WalkKind::Keyset
            } else {
                WalkKind::NextLink
            },
            page: u64::from(rng.within(4, 60)),
            deletes: rng.chance(70),
            skew: match rng.below(10) {
                0 => 7_200,
                1 => -7_200,
                _ => 0,
            },
        };
        let folder = fast_folder();
        let path = folder.path().join("mirror");
        let store = Store::create(&path, Timestamp(0)).unwrap();
        let world = World {
            trace: vec![format!(
                "{rows} rows, pages of {}, {:?}",
                manner.page, manner.walk
            )],
            rng,
            feed: Arc::new(Mutex::new(feed)),
            manner,
            store: Some(store),
            path,
            _folder: folder,
            watermark: None,
            sequence: 0,
            syncs: 0,
            crashes: 0,
            struck: 0,
            tells_requests: false,
        };
        let metadata = world
            .direct(None, 0)
            .get("/reso/odata/$metadata", None)
            .body;
        let mut txn = world.store().begin_write(Timestamp(0)).unwrap();
        txn.define(&Schema::from_metadata(&metadata).unwrap())
            .unwrap();
        txn.commit().unwrap();
        world
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn direct(&self, strike: Option<&Arc<Strike>>, acts: u64) -> Direct {
        let feed = Arc::clone(&self.feed);
        let rows = Arc::clone(&self.feed.lock().unwrap().rows);
        let changing = strike.map(|strike| strike.before_page(Arc::clone(&rows)));
        let options = Options {
            page_limit: self.manner.page,
            next_link: NextLink::SkipToken,
            alter: strike.map(Strike::alter),
            before_page: Some(Box::new(move |page| {
                if let Some(change) = &changing {
                    change(page);
                }
                for _ in 0..acts {
                    feed.lock().unwrap().act();
                }
            })),
            ..Options::default()
        };
        Direct::new(rows, options)
    }

    /// One step: things happen, a sync is tried, everything is looked at.
    pub fn step(&mut self) {
        let pass = match self.rng.below(4) {
            0 => self.rng.within(0, 3),
            1 => self.rng.within(0, 900),
            _ => self.rng.within(0, 20_000),
        };
        self.feed.lock().unwrap().wait(pass);
        for _ in 0..self.rng.below(25) {
            self.feed.lock().unwrap().act();
        }
        let mode = match self.rng.below(20) {
            0..=11 => SyncMode::Auto,
            12..=13 => SyncMode::Full,
            14..=17 => SyncMode::Reconcile,
            _ => SyncMode::Deep {
                slice: self.rng.within(1, 3),
                of: 3,
            },
        };
        let fault = self.rng.chance(45).then(|| *self.rng.pick(Fault::ALL));
        // Faults of the rows change the feed by themselves; what they do is not in its books.
        let fault = fault.filter(|f| f.kind() != FaultKind::Metadata && !changes_rows(*f));
        // A date that is wrong is held against the mirror's own clock, which must be right then.
        let fault = fault.filter(|f| *f != Fault::ClockAhead || self.manner.skew <= 0);
        let fault = fault.filter(|f| *f != Fault::NoDate || self.manner.skew <= 0);
        let place = self.rng.below(12);
        // An offset walk loses rows that shift: rows stay where they are while one lasts.
        let still = self.manner.walk == WalkKind::NextLink;
        let acts = if self.rng.chance(30) && !still {
            self.rng.below(3)
        } else {
            0
        };
        let max_pages = self.rng.chance(10).then(|| 1 + self.rng.below(6));
        let crash_at = self.rng.chance(12).then(|| self.rng.below(14));
        let crash_after = self.rng.chance(8).then(|| 1 + self.rng.below(6));
        let begin = self.feed.lock().unwrap().now();
        let strike = fault.map(|fault| Strike::new(fault, Place::page(place)));
        let attempt = Attempt {
            mode,
            max_pages,
            confirm: false,
            crash_at,
            crash_after,
            acts,
        };
        self.trace
            .push(format!("at {begin}: {attempt:?}, {fault:?} at {place}"));
        let result = self.sync(&attempt, strike.as_ref());
        let struck = strike.is_some_and(|strike| strike.struck() > 0);
        self.struck += u64::from(struck);
        let fault = fault.filter(|_| struck);
        self.look(&attempt, result.as_ref(), fault, begin);
    }

    /// One sync; `None` when the process died.
    fn sync(&mut self, how: &Attempt, strike: Option<&Arc<Strike>>) -> Option<Result<RunReport>> {
        self.syncs += 1;
        let told = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new(Shared::default());
        let mut source = Turns {
            inner: self.direct(strike, how.acts),
            shared: Arc::clone(&shared),
            main: std::thread::current().id(),
            given: None,
            crash_at: how.crash_at,
            told: self.tells_requests.then(|| Arc::clone(&told)),
        };
        let (feed, skew) = (Arc::clone(&self.feed), self.manner.skew);
        let now = || Timestamp((i64::from(feed.lock().unwrap().now()) + skew) * 1_000_000);
        let options = SyncOptions {
            mode: how.mode,
            max_pages: how.max_pages,
            confirm: how.confirm,
            now: &now,
        };
        let policy = Policy {
            walk: self.manner.walk,
            page_size: Some(self.manner.page),
            deletes: self.manner.deletes.then_some(DeletedFeed::WFRMLS),
            ..Policy::default()
        };
        let mut transactions = 0;
        let mut progress = |_: &RunReport| {
            transactions += 1;
            if how.crash_after == Some(transactions) {
                shared.tell(u64::MAX);
                resume_unwind(Box::new(Crash));
            }
            shared.tell(transactions);
        };
        let store = self.store.as_ref().unwrap();
        let run = || store.sync("Property", &mut source, &policy, &options, &mut progress);
        let ended = catch_unwind(AssertUnwindSafe(run));
        self.trace.append(&mut told.lock().unwrap());
        match ended {
            Ok(result) => Some(result),
            Err(panic) if panic.is::<Crash>() => {
                self.crashes += 1;
                self.store = None;
                self.store = Some(Store::open(&self.path).unwrap());
                None
            }
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Looks at the store after a sync.
    fn look(
        &mut self,
        how: &Attempt,
        result: Option<&Result<RunReport>>,
        fault: Option<Fault>,
        begin: u32,
    ) {
        let snapshot = self.store().snapshot().unwrap();
        let mut problems = snapshot.verify().unwrap().problems;
        problems.extend(log_problems(&snapshot, self.sequence));
        if let Some(report) = snapshot.runs(1).unwrap().first() {
            let sum = report.applied() + report.unchanged + report.quarantined + report.flagged;
            if report.records != sum {
                problems.push(format!("records do not add up: {report:?}"));
            }
            if report.quarantined > 0 {
                // What was put aside is in quarantine; no stamp brings it again.
                self.feed.lock().unwrap().hide_all();
            }
        }
        if let Some(Fault::FieldWithheld | Fault::RowsWithheld | Fault::DeepNesting) = fault {
            self.feed.lock().unwrap().hide_all();
        }
        let checkpoint = snapshot.checkpoint("Property").unwrap();
        let now = self.feed.lock().unwrap().now();
        if checkpoint.watermark < self.watermark {
            problems.push(format!("the watermark went back from {:?}", self.watermark));
        }
        // The Date of a skewed server is all that a client has.
        let ahead = i64::from(now) + 3_600 + self.manner.skew.max(0);
        if checkpoint.watermark > Some(Timestamp(ahead * 1_000_000)) {
            problems.push(format!(
                "the watermark is ahead: {:?}",
                checkpoint.watermark
            ));
        }
        let said = match result {
            None => "crashed".to_owned(),
            Some(Err(error)) => format!("failed: {error}"),
            Some(Ok(report)) => format!("{:?}", report.outcome),
        };
        let walked = matches!(how.mode, SyncMode::Auto | SyncMode::Full);
        if walked && said == "Complete" {
            // What happens while it lasts may be behind it, within the same second.
            let bound = begin - u32::from(how.acts > 0);
            let lost = self.unkept(&snapshot, bound, fault);
            if !lost.is_empty() {
                problems.push(format!(
                    "{:?} with {} acts and {fault:?}, begun at {begin}, loses:",
                    how.mode, how.acts
                ));
            }
            problems.extend(lost);
        }
        problems.extend(self.groundless(&snapshot, fault));
        self.watermark = checkpoint.watermark;
        self.sequence = snapshot.sequence();
        self.trace
            .push(format!("  {said}; watermark {:?}", checkpoint.watermark));
        assert!(problems.is_empty(), "{problems:#?}");
    }

    /// What a complete run should have brought, and did not.
    fn unkept(&self, snapshot: &Snapshot, begin: u32, fault: Option<Fault>) -> Vec<String> {
        let feed = self.feed.lock().unwrap();
        let (own, served) = (stored(snapshot), served(&feed.rows.lock().unwrap()));
        let bound = feed
            .told
            .iter()
            .filter(|(_, told)| told.shows && told.committed <= begin)
            // What is stamped in the far future is read by every run; no count tells of it.
            .filter(|(key, _)| fault.is_none() || !feed.ahead.contains(key));
        let lost = bound.filter(|(key, _)| own.get(key) != served.get(key));
        let mut out: Vec<String> = lost
            .map(|(key, told)| {
                format!(
                    "{key} {told:?}: stored {:?} served {:?}",
                    own.get(key),
                    served.get(key)
                )
            })
            .collect();
        if self.manner.deletes {
            let listed = feed.listed.iter().filter(|(_, at)| **at <= begin);
            let kept = listed.filter(|(key, _)| own.contains_key(key) && !feed.ahead.contains(key));
            out.extend(kept.map(|(key, at)| format!("{key} was listed as deleted at {at}")));
        }
        out
    }

    /// Deletions of what was never away.
    fn groundless(&self, snapshot: &Snapshot, fault: Option<Fault>) -> Vec<String> {
        let feed = self.feed.lock().unwrap();
        let mut out = Vec::new();
        for change in snapshot.changes(self.sequence).unwrap() {
            let change = change.unwrap();
            let (Operation::Delete, Some(Key::Int(key))) = (change.operation, change.key) else {
                continue;
            };
            let withheld = fault == Some(Fault::RowsWithheld) && key % 3 == 0;
            if !feed.ever_away.contains(&key) && !withheld {
                out.push(format!(
                    "{key} was never away, and deleted by {:?}",
                    change.cause
                ));
            }
        }
        out
    }

    /// Healthy runs, after which the mirror is the feed, and stays as it is.
    pub fn finish(&mut self) {
        self.feed.lock().unwrap().wait(60);
        let deep = SyncMode::Deep { slice: 1, of: 1 };
        for mode in [SyncMode::Auto, SyncMode::Reconcile, deep] {
            self.healthy(mode);
        }
        let snapshot = self.store().snapshot().unwrap();
        let rows = Arc::clone(&self.feed.lock().unwrap().rows);
        let missing = differences(&stored(&snapshot), &served(&rows.lock().unwrap()));
        assert_eq!(missing, "", "after the last runs");
        let quiet = snapshot.sequence();
        drop(snapshot);
        for mode in [SyncMode::Auto, SyncMode::Reconcile, SyncMode::Full] {
            self.healthy(mode);
        }
        let snapshot = self.store().snapshot().unwrap();
        let logged: Vec<_> = snapshot
            .changes(quiet)
            .unwrap()
            .map(|c| c.unwrap())
            .collect();
        assert!(logged.is_empty(), "logged again: {logged:?}");
        fold(&snapshot);
    }

    fn healthy(&mut self, mode: SyncMode) {
        let attempt = Attempt {
            mode,
            max_pages: None,
            confirm: true,
            crash_at: None,
            crash_after: None,
            acts: 0,
        };
        let begin = self.feed.lock().unwrap().now();
        self.trace.push(format!("at {begin}: the healthy {mode:?}"));
        let result = self.sync(&attempt, None);
        let outcome = match &result {
            Some(Ok(report)) => report.outcome.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(outcome, Outcome::Complete, "{mode:?}");
        self.look(&attempt, result.as_ref(), None, begin);
    }
}

/// One sync of a step.
#[derive(Debug)]
struct Attempt {
    mode: SyncMode,
    max_pages: Option<u64>,
    confirm: bool,
    /// The process dies before this request.
    crash_at: Option<u64>,
    /// The process dies after this transaction.
    crash_after: Option<u64>,
    /// What happens before each page.
    acts: u64,
}

/// Whether a fault changes the rows themselves.
fn changes_rows(fault: Fault) -> bool {
    use Fault as F;
    matches!(
        fault,
        F::RowsEdited
            | F::RowsInserted
            | F::RowsDeleted
            | F::RowsVanish
            | F::Ties
            | F::LateCommits
            | F::VeryLateCommits
            | F::SilentEdits
            | F::FutureStamps
            | F::StampsNull
            | F::Restamped
    )
}

/// Folds the log from its start: who is there at the end is who is stored.
fn fold(snapshot: &Snapshot) {
    let mut live = std::collections::BTreeSet::new();
    for change in snapshot.changes(0).unwrap() {
        let change = change.unwrap();
        let Some(Key::Int(key)) = change.key else {
            continue;
        };
        let fits = match change.operation {
            Operation::Insert | Operation::Relist => live.insert(key),
            Operation::Update => live.contains(&key),
            Operation::Delete => live.remove(&key),
            Operation::Schema | Operation::Purge => true,
        };
        assert!(fits, "sequence {} of {key}", change.sequence);
    }
    let stored: std::collections::BTreeSet<i64> = stored(snapshot).into_keys().collect();
    assert_eq!(live, stored);
}
