//! The store: one redb file that holds records, every version, the changelog and the checkpoints.
//!
//! Everything of a batch goes into one transaction: what it changed and how far it came are durable
//! together or not at all. Rows are append-only, so a version is history the moment the next one
//! is written. **Only this module names redb**, and calls it through `guarded` alone.
//!
//! One process writes; any number may read beside it.

mod backup;
mod bodies;
mod catalog;
mod changelog;
mod columns;
mod disk;
mod field_changes;
mod format;
mod guarded;
mod head;
mod holder;
mod home;
mod indexes;
mod media;
mod moments;
mod past;
mod pieces;
mod prune;
mod purge;
mod repair;
mod repair_base;
mod repair_log;
mod report;
mod rewrite;
mod scrub;
mod snapshot;
mod stage;
mod tables;
mod verify;
mod verify_columns;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

pub use backup::{CopyOptions, CopyReport};
pub(crate) use bodies::{Packed, Packer};
pub(crate) use catalog::{Catalog, MAX_FIELDS, share, wider};
pub use changelog::{Cause, Change, FieldChange, Operation};
pub(crate) use columns::Column;
pub use disk::Disk;
#[doc(hidden)]
pub use disk::Folder;
pub(crate) use field_changes::{EventRef, Origin, each_event, ends_early};
pub use guarded::panic_becomes_error;
pub(crate) use head::Head;
pub use indexes::{Index, IndexKind};
pub(crate) use media::MediaPlace;
pub use media::{HeldFile, MediaEntry, MediaItem, MediaKind, MediaList, MediaState};
pub use prune::PruneReport;
pub use purge::{PurgeReport, Scope};
pub use repair::Repaired;
pub use report::{
    Checkpoint, Misfit, Outcome, Position, QUARANTINE_BYTES, Quarantined, RunKind, RunReport,
    SyncState, Tombstone, Walk, WalkPosition,
};
pub(crate) use snapshot::RecordReader;
pub use snapshot::{AsOf, Changes, Snapshot, Version};
pub(crate) use stage::Staged;
pub use verify::VerifyReport;
pub use write::{DeleteOutcome, WriteTxn};

use crate::error::{Error, Result, StorageError};
use crate::value::Timestamp;
use bodies::Dictionaries;
pub use format::{FORMAT, FORMAT_OLDEST};
use guarded::{Database, ReadOnlyDatabase, ReadTransaction};
use home::{Held, Home, ON_DISK, failed, temporary_name};

/// A store, open for reading or for reading and writing.
pub struct Store {
    opened: Mutex<Opened>,
    path: PathBuf,
    /// Where its file is.
    home: Home,
    /// The last catalog read, by the sequence number of its change.
    catalog: Mutex<Option<(u64, SharedCatalog)>>,
    /// Columns as snapshots read them.
    columns: Arc<columns::ColumnCache>,
    /// The dictionaries read so far.
    dictionaries: Dictionaries,
}

/// The file, and which one it is.
#[derive(Clone)]
struct Opened {
    engine: Arc<Engine>,
    file: Option<(u64, u64)>,
}

/// A catalog, and its resources each on its own.
#[derive(Debug, Clone)]
pub(crate) struct SharedCatalog {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) resources: Arc<[Arc<crate::schema::Resource>]>,
}

/// The open file. Snapshots share it: one may outlive its store.
enum Engine {
    /// The note goes before the lock does: no other process has left its own by then.
    Writer {
        note: Option<Arc<holder::Holder>>,
        database: Database,
    },
    Reader(ReadOnlyDatabase),
}

/// What is written at birth: an empty file at a known path is refused, not filled again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Birth {
    format: u32,
    oldest_reader: u32,
    created: Timestamp,
}

/// Numbers that only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// The last sequence given; the first is 1.
    pub(crate) sequence: u64,
    /// The last row given; the first is 1.
    pub(crate) row: u64,
    /// The last run given; the first is 1.
    pub(crate) run: u64,
    /// The catalog's edition: changes with every change of the schema.
    pub(crate) edition: u64,
    /// The latest observed time of any change.
    pub(crate) observed: Option<Timestamp>,
    /// By resource: slots given.
    pub(crate) slots: Vec<u32>,
    /// By resource: records that are current.
    pub(crate) live: Vec<u64>,
    /// By resource: the dictionary its bodies are compressed with, 0 while there is none.
    pub(crate) dictionaries: Vec<u32>,
    /// The last dictionary's number; the first is 1.
    pub(crate) dictionary: u32,
}

impl Store {
    /// Creates a store at `path`, which must not exist.
    ///
    /// It is made under a temporary name, synced and renamed, so that a crash leaves either no
    /// store or a whole one. Only its owner may read it: it holds what a licence covers.
    ///
    /// # Errors
    /// [`Error::Io`] when the file exists or cannot be made, [`Error::Storage`] when the engine
    /// fails.
    pub fn create(path: impl AsRef<Path>, created: Timestamp) -> Result<Store> {
        let path = path.as_ref();
        if path.exists() {
            let there = io::ErrorKind::AlreadyExists.into();
            return Err(failed(path, "cannot create")(there));
        }
        backup::remove_left(path);
        Store::create_at(Home::Files, path, created)
    }

    /// As [`create`](Store::create), in a folder of the caller's own: for tests.
    #[doc(hidden)]
    pub fn create_in(folder: Arc<dyn Folder>, path: &Path, created: Timestamp) -> Result<Store> {
        Store::create_at(Home::Folder(folder), path, created)
    }

    fn create_at(home: Home, path: &Path, created: Timestamp) -> Result<Store> {
        let temporary = temporary_name(path);
        let made = make(&home, &temporary, path, created);
        // Linked to its place or a failure: the temporary name has no use any more.
        let removed = home.remove(&temporary);
        made?;
        match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&temporary, "cannot remove")(e));
            }
            _ => {}
        }
        let synced = home.sync_names(path);
        synced.map_err(failed(path, "cannot sync the folder of"))?;
        Store::open_at(home, path)
    }

    /// Opens a store for reading and writing.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no file, [`Error::Format`] when it is no store or one of another
    /// format, [`Error::Locked`] when another process writes to it, [`Error::Corrupt`] when it is
    /// damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Store> {
        Store::open_at(Home::Files, path.as_ref())
    }

    /// As [`open`](Store::open), in a folder of the caller's own: for tests.
    #[doc(hidden)]
    pub fn open_in(folder: Arc<dyn Folder>, path: &Path) -> Result<Store> {
        Store::open_at(Home::Folder(folder), path)
    }

    fn open_at(home: Home, path: &Path) -> Result<Store> {
        home.check_magic(path)?;
        let opened = open_same(&home, path, || home.writer(path))?;
        Store::start(opened, path, home)
    }

    /// Opens a store for reading, also while another process writes to it.
    ///
    /// # Errors
    /// As [`open`](Store::open), but never [`Error::Locked`] for a writer beside it.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Store> {
        Store::read_at(Home::Files, path.as_ref())
    }

    fn read_at(home: Home, path: &Path) -> Result<Store> {
        home.check_magic(path)?;
        Store::start(open_reader(&home, path)?, path, home)
    }

    /// Creates a store on an empty disk of the caller's own.
    ///
    /// This is not done at once, as [`create`](Store::create) is: after a crash before it came
    /// back, begin with an empty disk again.
    ///
    /// # Errors
    /// [`Error::Usage`] when the disk is not empty, [`Error::Storage`] when it fails.
    pub fn create_on(disk: Arc<dyn Disk>, created: Timestamp) -> Result<Store> {
        let path = Path::new(ON_DISK);
        if disk.len().map_err(failed(path, "cannot look at"))? > 0 {
            return Err(Error::Usage(
                "the disk for a new store holds something".to_owned(),
            ));
        }
        let home = Home::Disk(disk);
        initialise(&home.begin(path)?, created)?;
        Store::open_at(home, path)
    }

    /// Opens a store on a disk of the caller's own, for reading and writing.
    ///
    /// # Errors
    /// As [`open`](Store::open), but that nobody keeps two from using one disk.
    pub fn open_on(disk: Arc<dyn Disk>) -> Result<Store> {
        Store::open_at(Home::Disk(disk), Path::new(ON_DISK))
    }

    fn start(opened: Opened, path: &Path, home: Home) -> Result<Store> {
        let store = Store {
            opened: Mutex::new(opened),
            path: path.to_owned(),
            home,
            catalog: Mutex::new(None),
            columns: Arc::default(),
            dictionaries: Dictionaries::default(),
        };
        let txn = store.begin_read()?;
        let birth = snapshot::birth(&txn)?;
        let (name, format) = (path.display(), birth.format);
        if birth.oldest_reader > FORMAT || format < FORMAT_OLDEST {
            let reason = format!(
                "{name} is of format {format}, this build reads {FORMAT_OLDEST} to {FORMAT}"
            );
            return Err(Error::Format { reason });
        }
        // A later writer keeps what this build does not know of.
        if format > FORMAT && matches!(*store.engine()?, Engine::Writer { .. }) {
            let reason = format!(
                "{name} is of format {format}: this build, of {FORMAT}, may read it and not write"
            );
            return Err(Error::Format { reason });
        }
        Ok(store)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A consistent view of everything committed so far.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let engine = self.engine()?;
        let txn = engine.begin_read()?;
        let counters = snapshot::counters(&txn)?;
        let shared = self.shared_catalog(&txn, counters.edition)?;
        Ok(Snapshot::new(
            txn,
            engine,
            shared,
            counters,
            Arc::clone(&self.columns),
            self.dictionaries.clone(),
        ))
    }

    /// Begins a write transaction. `observed` is the time now, as the caller knows it.
    ///
    /// # Errors
    /// [`Error::Usage`] when the store was opened for reading.
    pub fn begin_write(&self, observed: Timestamp) -> Result<WriteTxn> {
        let engine = self.engine()?;
        let Engine::Writer { database, .. } = engine.as_ref() else {
            return Err(Error::Usage(
                "the store was opened for reading only".to_owned(),
            ));
        };
        WriteTxn::begin(database, observed, self.dictionaries.clone())
    }

    /// Has the engine check every page of the file.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it found damage. [`Error::Usage`] when opened for reading, or while
    /// a snapshot is held.
    pub fn check_integrity(&mut self) -> Result<()> {
        let Some(engine_of_one) = Arc::get_mut(self.engine_mut()) else {
            return Err(Error::Usage(
                "a snapshot of the store is still held".to_owned(),
            ));
        };
        let Engine::Writer { database, .. } = engine_of_one else {
            return Err(Error::Usage(
                "the store was opened for reading only".to_owned(),
            ));
        };
        if database.check_integrity().map_err(engine)? {
            return Ok(());
        }
        Err(Error::Corrupt {
            what: "the engine's page checksums did not match".to_owned(),
        })
    }

    /// Gives the space of what is gone back to the file system; says how many bytes that were.
    ///
    /// The engine lets a file grow by doubling and keeps what becomes free for later: this is for
    /// after a large load, or for a copy that will not grow. It takes time in proportion to the
    /// size, and room for what it moves.
    ///
    /// # Errors
    /// [`Error::Usage`] when opened for reading, or while a snapshot is held.
    pub fn compact(&mut self) -> Result<u64> {
        let before = self.size()?;
        let Some(Engine::Writer { database, .. }) = Arc::get_mut(self.engine_mut()) else {
            return Err(Error::Usage(
                "the store was opened for reading only, or a snapshot of it is held".to_owned(),
            ));
        };
        while database.compact().map_err(engine)? {}
        Ok(before.saturating_sub(self.size()?))
    }

    /// How many bytes the file has.
    fn size(&self) -> Result<u64> {
        let held = self.home.open(&self.path);
        let size = held.and_then(|held| held.len());
        size.map_err(failed(&self.path, "cannot look at"))
    }

    fn begin_read(&self) -> Result<ReadTransaction> {
        self.engine()?.begin_read()
    }

    fn engine_mut(&mut self) -> &mut Arc<Engine> {
        let opened = self.opened.get_mut();
        &mut opened
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .engine
    }

    /// The open file. A purge puts another one in its place: then a reader opens that.
    fn engine(&self) -> Result<Arc<Engine>> {
        let mut opened = self
            .opened
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if matches!(opened.engine.as_ref(), Engine::Reader(_)) {
            let now = self.home.identity(&self.path);
            if now.is_some() && now != opened.file {
                *opened = open_reader(&self.home, &self.path)?;
            }
        }
        Ok(Arc::clone(&opened.engine))
    }

    fn shared_catalog(&self, txn: &ReadTransaction, edition: u64) -> Result<SharedCatalog> {
        let mut cached = self
            .catalog
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((held, shared)) = cached.as_ref()
            && *held == edition
        {
            return Ok(shared.clone());
        }
        let catalog = snapshot::catalog(txn)?;
        let shared = SharedCatalog {
            resources: share(&catalog).into(),
            catalog: Arc::new(catalog),
        };
        *cached = Some((edition, shared.clone()));
        Ok(shared)
    }
}

impl Engine {
    fn begin_read(&self) -> Result<ReadTransaction> {
        match self {
            Engine::Writer { database, .. } => database.begin_read().map_err(engine),
            Engine::Reader(database) => database.begin_read().map_err(engine),
        }
    }
}

fn open_reader(home: &Home, path: &Path) -> Result<Opened> {
    open_same(home, path, || home.reader(path))
}

/// Opens the file at a path, and no other one. A purge or a restore may put another in its place
/// just then: nobody would read what is written to the one before.
fn open_same(home: &Home, path: &Path, open: impl Fn() -> Result<Engine>) -> Result<Opened> {
    loop {
        let file = home.identity(path);
        let engine = open()?;
        if home.identity(path) == file {
            return Ok(Opened {
                engine: Arc::new(engine),
                file,
            });
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Makes an empty store, whole and durable.
fn make_at(home: &Home, path: &Path, created: Timestamp) -> Result<Held> {
    let file = home.create(path).map_err(failed(path, "cannot create"))?;
    let database = home.begin(path)?;
    initialise(&database, created)?;
    database.close().map_err(engine)?;
    file.sync().map_err(failed(path, "cannot sync"))?;
    Ok(file)
}

/// Puts a file in the place of another, which is kept under the name that is returned.
fn exchange(home: &Home, temporary: &Path, path: &Path) -> Result<PathBuf> {
    let mut number = 1;
    let kept = loop {
        let mut kept = path.as_os_str().to_owned();
        kept.push(format!(".damaged-{number}"));
        let kept = PathBuf::from(kept);
        match home.link(path, &kept) {
            Ok(()) => break kept,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(failed(&kept, "cannot keep the damaged file as")(e)),
        }
    };
    let named = home.rename(temporary, path);
    named.map_err(failed(path, "cannot replace"))?;
    let synced = home.sync_names(path);
    synced.map_err(failed(path, "cannot sync the folder of"))?;
    Ok(kept)
}

/// Makes a store under a temporary name, whole and durable, and gives it its own name.
fn make(home: &Home, temporary: &Path, path: &Path, created: Timestamp) -> Result<()> {
    make_at(home, temporary, created)?;
    let named = home.name(temporary, path);
    named.map_err(failed(path, "cannot create"))
}

/// What every store begins with.
fn initialise(database: &Database, created: Timestamp) -> Result<()> {
    let birth = Birth {
        format: FORMAT,
        oldest_reader: FORMAT,
        created,
    };
    write::initialise(database, &birth)
}

/// Maps an engine error to what the caller can do about it.
fn engine(error: impl Into<redb::Error>) -> Error {
    match error.into() {
        redb::Error::Corrupted(what) => Error::Corrupt { what },
        // By itself, so that its kind can be told.
        redb::Error::Io(error) => Error::Storage(StorageError::new(error)),
        redb::Error::DatabaseAlreadyOpen | redb::Error::TransactionInProgress => {
            Error::Locked { pid: None }
        }
        redb::Error::UpgradeRequired(version) => Error::Format {
            reason: format!("the file is of redb format {version}, which this build does not read"),
        },
        other => Error::Storage(StorageError::new(other)),
    }
}
