//! Ingest: pages into the store, one road for feeds and files.
//!
//! Split, look up, decode, diff, stage: see `apply` for the stages and `pipeline` for the
//! threads. **Only this module names crossbeam.**

mod ahead;
mod apply;
mod decoded;
mod deletes;
mod examine;
mod frames;
mod known;
mod pipeline;
mod session;
#[doc(hidden)]
pub mod stages;

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex};

pub(crate) use apply::Applying;
pub use apply::GoneMark;
pub use deletes::DeletedFeed;
pub(crate) use deletes::apply_deletes;
pub(crate) use pipeline::{Grouping, Step, Walker, fan_out, pump};
pub(crate) use session::{Comparing, Session};

use crate::decode::{KeySpec, Rejected, SplitPage};
use crate::error::Result;
use crate::source::Traffic;
use crate::store::{Cause, Outcome, RunKind, RunReport, Store, WriteTxn};
use crate::value::Timestamp;
use ahead::{Ahead, ReadyPage};
use frames::{FileWalker, Reading};
use known::Recall;
use pipeline::{Making, pump_made};

/// The longest page or record, in bytes, decompressed.
pub const MAX_PAGE_BYTES: usize = 64 << 20;
/// The field that holds a record's source time, where nothing else is said
/// (RESO Data Dictionary: every resource has it).
pub const MODIFICATION_TIMESTAMP: &str = "ModificationTimestamp";

/// A file, or anything else that can be read.
pub struct Input {
    /// What it is called in messages.
    pub name: String,
    /// Its bytes, decompressed.
    pub reader: Box<dyn Read + Send>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Told how a run comes along, after each transaction.
pub trait Progress {
    /// So much is durable.
    fn advanced(&mut self, report: &RunReport);

    /// The most memory the process has used so far, in bytes, for the run's report; the library
    /// cannot ask the system itself.
    fn peak_memory(&self) -> Option<u64> {
        None
    }
}

impl<F: FnMut(&RunReport)> Progress for F {
    fn advanced(&mut self, report: &RunReport) {
        self(report);
    }
}

/// How files are ingested.
#[derive(Clone)]
pub struct IngestOptions<'a> {
    /// Tells the time; the library has no clock of its own.
    pub now: &'a dyn Fn() -> Timestamp,
    /// The key field of a resource that no `$metadata` declares and no convention names.
    pub key_field: Option<String>,
}

impl std::fmt::Debug for IngestOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IngestOptions")
            .field("key_field", &self.key_field)
            .finish_non_exhaustive()
    }
}

/// What came of one page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageReport {
    /// Records in the page: applied + unchanged + quarantined.
    pub records: u64,
    /// Records inserted, updated or relisted.
    pub applied: u64,
    /// Records without a change.
    pub unchanged: u64,
    /// Records put aside.
    pub quarantined: u64,
}

impl WriteTxn {
    /// Applies one OData page within this transaction.
    ///
    /// # Errors
    /// [`Error::Decode`](crate::error::Error::Decode) when the page as a whole cannot be trusted:
    /// nothing of it was applied. Records at fault are put into quarantine and are no error.
    pub fn apply_page(&mut self, resource: &str, origin: &str, body: &[u8]) -> Result<PageReport> {
        let spec = self.key_spec(resource);
        let page = SplitPage::split(resource, origin, body.to_vec(), spec).map_err(|r| r.error)?;
        let mut report = RunReport::default();
        let mut applying = Applying::new(Cause::Ingest, MODIFICATION_TIMESTAMP, &mut report);
        self.apply_pages(&[page], &mut applying)?;
        Ok(PageReport {
            records: report.records,
            applied: report.applied(),
            unchanged: report.unchanged,
            quarantined: report.quarantined,
        })
    }

    /// How the keys of a resource are found, when it is known.
    pub(crate) fn key_spec(&self, resource: &str) -> Option<Arc<KeySpec>> {
        let id = self.catalog.id(resource)?;
        self.catalog.resource(id).map(|r| Arc::new(KeySpec::of(r)))
    }
}

impl Store {
    /// Applies files: OData pages, JSON arrays, NDJSON, in any mixture. `Deleted` takes the pages
    /// of a deletions feed and deletes what they name.
    ///
    /// Pages that cannot be read and records at fault are put into quarantine, and the outcome is
    /// [`Outcome::Degraded`]; everything else is applied.
    ///
    /// # Errors
    /// When a file cannot be read or the store cannot be written. What came before is applied.
    pub fn ingest<'a>(
        &self,
        resource: &str,
        inputs: impl Iterator<Item = Result<Input>> + Send + 'a,
        options: &IngestOptions<'a>,
        progress: &mut dyn Progress,
    ) -> Result<RunReport> {
        let rejected = Mutex::new(Vec::new());
        let put = |r: Rejected| lock(&rejected).push(r);
        let mut session = Session::new(self, resource, RunKind::Ingest, options.now);
        let deletes = (resource == DeletedFeed::WFRMLS.resource).then_some(DeletedFeed::WFRMLS);
        let key_spec = match (&deletes, &options.key_field) {
            (Some(feed), _) => Some(Arc::new(feed.key_spec())),
            (None, Some(field)) => self.named_key(resource, field)?,
            (None, None) => self.snapshot()?.key_spec(resource),
        };
        let recall = Recall::new(self, resource, deletes.is_none())?;
        let reading = Reading {
            resource,
            key_spec: Mutex::new(key_spec),
            rejected: &put,
            recall: &recall,
            buffers: frames::Buffers::default(),
        };
        let ahead = Ahead::default();
        let mut walker = FileWalker::new(&reading, Box::new(inputs));
        let mut next = || {
            let piece = walker.next()?;
            Ok(piece.map(|piece| (piece.size(), piece)))
        };
        let making = Making {
            workers: rayon::current_num_threads(),
            next: &mut next,
            work: &|jobs| ahead.work(jobs, &|piece| reading.split(piece)),
        };
        let mut load = Load {
            session: &mut session,
            reading: &reading,
            ahead: &ahead,
            deletes,
            rejected: &rejected,
        };
        let result = pump_made(making, |batch| {
            let mut left = VecDeque::from(batch);
            load.put_aside()?;
            while !left.is_empty() {
                let filled = load.apply(&mut left)?;
                if is_due(load.session, (options.now)(), filled) || recall.is_wanted(load.session) {
                    load.session.commit()?;
                    progress.advanced(load.session.report());
                    recall.load(load.session)?;
                }
            }
            Ok(())
        });
        // An error of the files leaves what came before it; one of the store left nothing open.
        let last = session.commit();
        if last.is_ok() && result.is_ok() {
            progress.advanced(session.report());
        }
        let result = result.and(last);
        session.note_cost(Traffic::default(), progress.peak_memory());
        session.finish(result, |report| match report.quarantined {
            0 => Outcome::Complete,
            1 => Outcome::Degraded("a page or record is in quarantine".to_owned()),
            n => Outcome::Degraded(format!("{n} pages or records are in quarantine")),
        })
    }

    /// A key field given by name; its kind is the one the resource already has, else a string.
    fn named_key(&self, resource: &str, field: &str) -> Result<Option<Arc<KeySpec>>> {
        let known = self.snapshot()?.key_spec(resource);
        match known {
            Some(spec) if spec.field == field => Ok(Some(spec)),
            Some(spec) => Err(crate::error::Error::Usage(format!(
                "{resource} is already stored by its key {}, not {field}",
                spec.field
            ))),
            None => Ok(Some(Arc::new(KeySpec::new(
                field.to_owned(),
                field.ends_with("Numeric"),
            )))),
        }
    }
}

impl crate::store::Snapshot {
    /// How the keys of a resource are found, when it is known.
    pub(crate) fn key_spec(&self, resource: &str) -> Option<Arc<KeySpec>> {
        self.schema()
            .resource(resource)
            .map(|r| Arc::new(KeySpec::of(r)))
    }
}

/// What the writer's thread needs to apply files.
struct Load<'a, 's> {
    session: &'a mut Session<'s>,
    reading: &'a Reading<'a>,
    ahead: &'a Ahead,
    deletes: Option<DeletedFeed>,
    rejected: &'a Mutex<Vec<Rejected>>,
}

impl Load<'_, '_> {
    /// Puts what could not be read into quarantine.
    fn put_aside(&mut self) -> Result<()> {
        let bad = std::mem::take(&mut *lock(self.rejected));
        if bad.is_empty() {
            return Ok(());
        }
        self.session.extend(|txn, report| {
            let mut bad = bad.iter();
            bad.try_for_each(|rejected| session::put_page_aside(txn, rejected, report))
        })
    }

    /// Applies what comes next of the pages left; tells whether that fills a segment of columns.
    fn apply(&mut self, left: &mut VecDeque<Step>) -> Result<bool> {
        let (reading, ahead) = (self.reading, self.ahead);
        let recall = reading.recall;
        let mut filled = false;
        let pages = self.session.extend(|txn, report| {
            if let Some(feed) = &self.deletes {
                let pages = left.drain(..).map(|step| step.page).collect::<Vec<_>>();
                apply_deletes(txn, feed, &pages, None, report)?;
                return Ok(pages);
            }
            let (mut pages, ready);
            (pages, ready, filled) = cut(left, ahead.room(txn, reading.resource));
            recall.check(txn.sequence());
            txn.touched = Some(Vec::new());
            recall.with(|known| {
                let mut applying = Applying::new(Cause::Ingest, MODIFICATION_TIMESTAMP, report);
                (applying.known, applying.ready) = (known, ready);
                txn.settle_known(&mut pages, known)?;
                txn.apply_pages(&pages, &mut applying)?;
                let effort = applying.effort;
                ahead.renew(txn, reading.resource, MODIFICATION_TIMESTAMP, effort);
                Ok::<(), crate::error::Error>(())
            })?;
            recall.note(&txn.touched.take().unwrap_or_default(), txn.sequence());
            Ok(pages)
        })?;
        for page in pages {
            reading.buffers.give_back(page.body.into_bytes());
        }
        Ok(filled)
    }
}

/// A transaction is committed when it changes this many records, or is that old. Changes of known
/// records touch pages and segments all over the store, which each commit writes again.
const COMMIT_RECORDS: u64 = 16_384;
const COMMIT_MICROS: i64 = 4_000_000;
/// Enough for a commit when a segment of columns has just been filled, which then is not written
/// again.
const COMMIT_FILLED: u64 = 4_096;

/// Whether a transaction is to be committed.
fn is_due(session: &Session<'_>, now: Timestamp, filled: bool) -> bool {
    let enough = if filled {
        COMMIT_FILLED
    } else {
        COMMIT_RECORDS
    };
    session.pending().is_some_and(|(changed, since)| {
        changed >= enough || now.0.saturating_sub(since.0) >= COMMIT_MICROS
    })
}

/// Takes pages until their records fill the room there is; tells whether they do.
fn cut(left: &mut VecDeque<Step>, room: u64) -> (Vec<SplitPage>, Vec<ReadyPage>, bool) {
    let (mut pages, mut ready, mut records) = (Vec::new(), Vec::new(), 0);
    while let Some(step) = left.pop_front() {
        let entities = &step.page.entities;
        records += entities.iter().filter(|raw| raw.known.is_none()).count() as u64;
        pages.push(step.page);
        ready.push(step.ready);
        if records >= room {
            return (pages, ready, true);
        }
    }
    (pages, ready, false)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A set of slots.
#[derive(Debug, Default)]
pub(crate) struct SlotSet {
    words: Vec<u64>,
}

impl SlotSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether the slot was not in it.
    pub(crate) fn insert(&mut self, slot: u32) -> bool {
        let at = usize::try_from(slot / 64).unwrap_or(usize::MAX);
        if self.words.len() <= at {
            self.words.resize(at + 1, 0);
        }
        let new = !self.contains(slot);
        if let Some(word) = self.words.get_mut(at) {
            *word |= 1 << (slot % 64);
        }
        new
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        let at = usize::try_from(slot / 64).unwrap_or(usize::MAX);
        self.words
            .get(at)
            .is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }
}
