//! Checkpoints, run reports and quarantine: what the store remembers of replication.

use serde::{Deserialize, Serialize};

use crate::keycode::Key;
use crate::value::Timestamp;

/// How far the replication of a resource has come. Stored in the transaction of its data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Where the resource is between nothing and live; never derived from the data.
    pub state: SyncState,
    /// The highest source time fully applied; incremental runs start an overlap before it.
    pub watermark: Option<Timestamp>,
    /// The same for the feed's list of deletions.
    pub deletes_watermark: Option<Timestamp>,
    /// The number of the last event applied, where the feed has events.
    pub event_sequence: Option<i64>,
    /// A walk that is under way, or was interrupted.
    pub walk: Option<Walk>,
    /// When the last complete full walk ended, as observed.
    pub last_full: Option<Timestamp>,
    /// When the last complete run ended, as observed.
    pub last_complete: Option<Timestamp>,
}

/// The state of a resource's replication.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncState {
    /// Never synced.
    #[default]
    New,
    /// A first full walk has begun and not ended.
    Backfilling,
    /// A full walk has ended: incremental runs are possible.
    Live,
}

/// A walk over the pages of a query, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// What is walked.
    pub kind: RunKind,
    /// Where to go on.
    pub position: WalkPosition,
    /// The lower bound of an incremental walk.
    pub since: Option<Timestamp>,
    /// The time when the walk began, by the earlier of two clocks: the watermark never passes it.
    pub started: Timestamp,
    /// The server's own time then, when it told.
    pub server_began: Option<Timestamp>,
    /// The highest source time seen so far.
    pub max_seen: Option<Timestamp>,
    /// Pages applied so far.
    pub pages: u64,
    /// Records met so far.
    pub records: u64,
    /// Of these, how many were stamped before the walk began.
    pub settled: u64,
    /// Whether the store held no record of the resource when the walk began: then it need not
    /// look for records that are gone.
    pub sole: bool,
}

impl Walk {
    /// A walk that begins there, with nothing met so far.
    pub(crate) fn new(kind: RunKind, position: WalkPosition, started: Timestamp) -> Self {
        Walk {
            kind,
            position,
            since: None,
            started,
            server_began: None,
            max_seen: None,
            pages: 0,
            records: 0,
            settled: 0,
            sole: false,
        }
    }

    /// What is stamped later than that came while the walk was under way, by the server's clock.
    pub(crate) fn bound(&self) -> Timestamp {
        self.server_began.unwrap_or(self.started)
    }
}

/// Where a walk goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WalkPosition {
    /// At the start.
    Start,
    /// After the record of that key, by `Key gt K`.
    After(Key),
    /// At a continuation link.
    Link(String),
}

/// What a run does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunKind {
    /// Reads every record of a resource.
    #[default]
    Full,
    /// Reads what changed since the watermark.
    Incremental,
    /// Applies files or standard input.
    Ingest,
    /// Sets the schema from `$metadata`.
    Metadata,
    /// Compares keys and stamps.
    Reconcile,
    /// Reads a slice of the records again.
    Deep,
    /// Fetches given keys.
    Keys,
    /// Fetches the files of media.
    Media,
}

impl RunKind {
    /// The word printed for it.
    pub fn name(self) -> &'static str {
        match self {
            RunKind::Full => "full",
            RunKind::Incremental => "incremental",
            RunKind::Ingest => "ingest",
            RunKind::Metadata => "metadata",
            RunKind::Reconcile => "reconcile",
            RunKind::Deep => "deep",
            RunKind::Keys => "keys",
            RunKind::Media => "media",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is under way, or its process died.
    #[default]
    Running,
    /// Everything was applied.
    Complete,
    /// It ended, but something needs a look: quarantine, the brake, a doubtful count.
    Degraded(String),
    /// It stopped at an error; the checkpoint covers what was applied.
    Failed(String),
}

/// One run and what came of it.
/// `records = applied + unchanged + quarantined + flagged`, always.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReport {
    /// The run's number.
    pub run: u64,
    /// The resource.
    pub resource: String,
    /// What it did.
    pub kind: RunKind,
    /// When it began, as observed.
    pub started: Option<Timestamp>,
    /// When it ended, as observed.
    pub finished: Option<Timestamp>,
    /// How it ended.
    pub outcome: Outcome,
    /// Pages applied.
    pub pages: u64,
    /// Bytes of their bodies, decompressed.
    pub bytes: u64,
    /// Keys compared by a reconcile run.
    pub checked: u64,
    /// Records met.
    pub records: u64,
    /// Records seen for the first time.
    pub inserted: u64,
    /// Records with at least one changed field.
    pub updated: u64,
    /// Deleted records that came back.
    pub relisted: u64,
    /// Records without a change, and repeats of a record within one page.
    pub unchanged: u64,
    /// Records put aside; see [`Quarantined`].
    pub quarantined: u64,
    /// Records that said of themselves that they are gone.
    pub flagged: u64,
    /// Deletions applied.
    pub deleted: u64,
    /// Deletions that named a record changed since, or already gone.
    pub deletes_ignored: u64,
    /// Field changes logged.
    pub field_changes: u64,
    /// Of these, changes of ListPrice.
    pub price_changes: u64,
    /// Of these, changes of StandardStatus.
    pub status_changes: u64,
    /// Values that do not fit their field's declared type, by field; kept as they came.
    pub misfits: Vec<Misfit>,
    /// The first sequence of the run, 0 when it changed nothing.
    pub first_sequence: u64,
    /// The last sequence of the run, 0 when it changed nothing.
    pub last_sequence: u64,
    /// What the feed said it holds (`@odata.count`).
    pub expected: Option<u64>,
    /// HTTP requests made, retries included.
    pub requests: u64,
    /// Of these, retries.
    pub retries: u64,
    // Fields are added at the end only: older reports are read without them.
    /// Bytes of bodies received, decompressed, also of pages that were not applied.
    pub received: u64,
    /// Microseconds spent waiting before retries.
    pub waited_micros: u64,
    /// The most memory its process had used by the end of the run, in bytes, where it is known.
    pub peak_memory: Option<u64>,
}

impl RunReport {
    /// Inserted, updated and relisted records.
    pub fn applied(&self) -> u64 {
        self.inserted + self.updated + self.relisted
    }

    /// How long it took, in microseconds; `None` while it has not ended.
    pub fn micros(&self) -> Option<u64> {
        let (started, finished) = (self.started?, self.finished?);
        Some(finished.0.saturating_sub(started.0).max(0).cast_unsigned())
    }
}

/// Values of one field that do not fit its declared type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misfit {
    /// The field.
    pub field: String,
    /// The declared type.
    pub expected: String,
    /// How many there were.
    pub count: u64,
    /// The page, record and value of the first.
    pub first: String,
}

/// A page or record that could not be applied, kept whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The resource.
    pub resource: String,
    /// Where the page came from.
    pub page: String,
    /// The record's place in the page, from 0; `None` for a whole page.
    pub record: Option<u64>,
    /// The field at fault.
    pub field: Option<String>,
    /// What was wrong.
    pub reason: String,
    /// The run that met it first.
    pub run: u64,
    /// When it was met first.
    pub observed: Timestamp,
    /// The bytes, at most [`QUARANTINE_BYTES`].
    pub raw: Vec<u8>,
    /// How many bytes there were.
    pub raw_len: u64,
}

/// The most bytes kept of a quarantined page or record.
pub const QUARANTINE_BYTES: usize = 1 << 20;

/// How far the events of a watcher were delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Everything up to this sequence was delivered.
    pub sequence: u64,
    /// When that was noted, as observed.
    pub moved: Timestamp,
}

/// When and why a record was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The sequence of the deletion, 0 when the key was never seen.
    pub sequence: u64,
    /// The time the feed gives.
    pub source_time: Option<Timestamp>,
    /// When the store observed it.
    pub observed: Timestamp,
    /// What made it known.
    pub cause: super::Cause,
    /// The reason the feed gives, mostly empty.
    pub reason: String,
}
