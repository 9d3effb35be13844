//! One wave into a store, in a process of its own: its time, its memory and its file are the
//! wave's alone. What it prints, peers print too; benches/peers/README.md says what that is.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use relist::error::Error;
use relist::ingest::{IngestOptions, Input, Progress};
use relist::schema::Schema;
use relist::store::{RunReport, Store};
use relist::value::Timestamp;
use serde::{Deserialize, Serialize};

use super::data::{Data, METADATA, RESOURCE, Step, name};
use crate::app::App;
use crate::args::BenchWave;
use crate::failure::{Exit, Failure};

/// The feed of deletions.
const DELETED: &str = "Deleted";
/// Bytes read from a file at once.
const BUFFER: usize = 1 << 18;

/// What a wave cost and did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Measured {
    /// From opening the store to having closed it.
    pub(super) seconds: f64,
    /// Of the process within that time.
    pub(super) cpu_seconds: f64,
    /// The most memory the process had, in bytes.
    #[serde(default)]
    pub(super) peak_memory: Option<u64>,
    /// The store's files afterwards.
    pub(super) file_bytes: u64,
    /// Durable transactions.
    #[serde(default)]
    pub(super) commits: Option<u64>,
    /// Half of the transactions took less, from the first record of them to being durable.
    #[serde(default)]
    pub(super) commit_p50: Option<f64>,
    /// 99 of 100 transactions took less.
    #[serde(default)]
    pub(super) commit_p99: Option<f64>,
    /// Records read.
    pub(super) records: u64,
    /// Records that were not there.
    pub(super) inserted: u64,
    /// Records that were there, and are the same.
    pub(super) unchanged: u64,
    /// Fields that have another value.
    pub(super) field_changes: u64,
    /// Records that went.
    pub(super) deleted: u64,
    /// Records there afterwards.
    pub(super) live: u64,
    /// What it was measured with, where it is not this program.
    #[serde(default)]
    pub(super) version: Option<String>,
}

pub(super) fn run(app: &mut App<'_>, args: &BenchWave) -> Result<Exit, Failure> {
    let folder = app.path(&args.data);
    let wave = Data::read(&folder).and_then(|data| data.wave(args.wave).cloned());
    let wave = wave.ok_or_else(|| {
        let message = format!("{} has no wave {}", folder.display(), name(args.wave));
        Failure::usage(message, "relist bench data writes it")
    })?;
    let path = app.path(&args.to);
    let mut inputs = Vec::new();
    for step in &wave.steps {
        inputs.push(files(&folder.join(&step.folder))?);
    }
    let (begun, cpu) = (Instant::now(), cpu_time());
    let store = open(&path, &folder)?;
    let mut measured = Measured::default();
    let mut commits = Commits::new(app.environment.peak_memory);
    for (step, (pages, deletions)) in wave.steps.iter().zip(inputs) {
        commits.begin();
        let report = ingest(&store, RESOURCE, step, pages, &mut commits)?;
        measured.add(&report);
        if !deletions.is_empty() {
            commits.begin();
            let report = ingest(&store, DELETED, step, deletions, &mut commits)?;
            measured.deleted += report.deleted;
        }
    }
    let live = store.snapshot()?.count(RESOURCE)?;
    drop(store);
    measured.seconds = begun.elapsed().as_secs_f64();
    measured.cpu_seconds = cpu_time().saturating_sub(cpu).as_secs_f64();
    measured.live = live;
    measured.peak_memory = (app.environment.peak_memory)();
    measured.file_bytes = std::fs::metadata(&path).map_or(0, |m| m.len());
    commits.tell(&mut measured);
    let text = serde_json::to_string(&measured).map_err(std::io::Error::from)?;
    writeln!(app.out, "{text}")?;
    Ok(Exit::Ok)
}

impl Measured {
    fn add(&mut self, report: &RunReport) {
        self.records += report.records;
        self.inserted += report.inserted + report.relisted;
        self.unchanged += report.unchanged;
        self.field_changes += report.field_changes;
    }
}

fn open(path: &Path, folder: &Path) -> Result<Store, Failure> {
    if path.exists() {
        return Ok(Store::open(path)?);
    }
    let metadata = folder.join(METADATA);
    let xml = std::fs::read(&metadata).map_err(|e| Failure::file("cannot read", &metadata, &e))?;
    let store = Store::create(path, Timestamp(0))?;
    let mut txn = store.begin_write(Timestamp(0))?;
    txn.define(&Schema::from_metadata(&xml)?)?;
    txn.commit()?;
    Ok(store)
}

/// The pages of a step in their order, and those of its deletions.
pub(super) fn files(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Failure> {
    let list = |folder: &Path| -> std::io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "json") {
                files.push(path);
            }
        }
        files.sort_unstable();
        Ok(files)
    };
    let failed = |e| Failure::file("cannot read", folder, &e);
    let pages = list(folder).map_err(failed)?;
    let deleted = folder.join("deleted");
    let deletions = if deleted.exists() {
        list(&deleted).map_err(failed)?
    } else {
        Vec::new()
    };
    Ok((pages, deletions))
}

pub(super) fn ingest(
    store: &Store,
    resource: &str,
    step: &Step,
    files: Vec<PathBuf>,
    commits: &mut Commits,
) -> Result<RunReport, Failure> {
    let inputs = files.into_iter().map(|path| {
        let name = path.to_string_lossy().into_owned();
        let file = File::open(&path).map_err(|source| Error::Io {
            context: format!("cannot read {name}"),
            source,
        })?;
        let reader = Box::new(BufReader::with_capacity(BUFFER, file));
        Ok(Input { name, reader })
    });
    let observed = Timestamp(step.observed.saturating_mul(1_000_000));
    let now = move || observed;
    let options = IngestOptions {
        now: &now,
        key_field: None,
    };
    let report = store.ingest(resource, inputs, &options, commits)?;
    if report.quarantined > 0 || report.deletes_ignored > 0 {
        return Err(Failure::failed(
            format!(
                "{} records of {} were put aside, {} deletions passed over",
                report.quarantined, step.folder, report.deletes_ignored
            ),
            "this is a bug in Relist; please report it",
        ));
    }
    Ok(report)
}

/// How long transactions take.
pub(super) struct Commits {
    last: Instant,
    took: Vec<Duration>,
    peak_memory: fn() -> Option<u64>,
}

impl Commits {
    pub(super) fn new(peak_memory: fn() -> Option<u64>) -> Self {
        Commits {
            last: Instant::now(),
            took: Vec::new(),
            peak_memory,
        }
    }

    /// The time until now was no transaction's.
    fn begin(&mut self) {
        self.last = Instant::now();
    }

    fn tell(mut self, measured: &mut Measured) {
        self.took.sort_unstable();
        let at = |hundredths: usize| {
            let place = (self.took.len().saturating_sub(1) * hundredths).div_ceil(100);
            self.took.get(place).map(Duration::as_secs_f64)
        };
        measured.commits = Some(self.took.len() as u64);
        measured.commit_p50 = at(50);
        measured.commit_p99 = at(99);
    }
}

impl Progress for Commits {
    fn advanced(&mut self, _: &RunReport) {
        let now = Instant::now();
        self.took.push(now - self.last);
        self.last = now;
    }

    fn peak_memory(&self) -> Option<u64> {
        (self.peak_memory)()
    }
}

/// The processor time of the process so far.
#[cfg(unix)]
pub(super) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

/// Elsewhere it is not known.
#[cfg(not(unix))]
pub(super) fn cpu_time() -> Duration {
    Duration::ZERO
}
