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
mod indexes;
mod media;
mod moments;
mod past;
mod pieces;
mod prune;
mod purge;
mod repair;
mod report;
mod rewrite;
mod scrub;
mod snapshot;
mod stage;
mod tables;
mod verify;
mod verify_columns;
mod write;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use redb::ConcurrencyMode;
use serde::{Deserialize, Serialize};

pub use backup::{CopyOptions, CopyReport};
pub(crate) use bodies::{Packed, Packer};
pub(crate) use catalog::{Catalog, MAX_FIELDS, share, wider};
pub use changelog::{Cause, Change, FieldChange, Operation};
pub(crate) use columns::Column;
pub use disk::Disk;
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

/// Memory redb may use for pages: it bounds the process, the operating system caches the rest.
const CACHE_BYTES: usize = 128 << 20;
/// And of whoever writes: it needs its memory for what is to be written.
const WRITER_CACHE_BYTES: usize = 32 << 20;
/// And of whoever reads each page once.
const SCAN_CACHE_BYTES: usize = 16 << 20;

/// Stores created by this process: each has a temporary name of its own.
static CREATED: AtomicU64 = AtomicU64::new(0);

/// A store, open for reading or for reading and writing.
pub struct Store {
    opened: Mutex<Opened>,
    path: PathBuf,
    /// What it is on, when that is no file.
    disk: Option<Arc<dyn Disk>>,
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
            return Err(io_error(
                path,
                "cannot create",
                io::ErrorKind::AlreadyExists.into(),
            ));
        }
        backup::remove_left(path);
        let temporary = temporary_name(path);
        let made = make(&temporary, path, created);
        // Linked to its place or a failure: the temporary name has no use any more.
        let removed = std::fs::remove_file(&temporary);
        made?;
        match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(&temporary, "cannot remove", e));
            }
            _ => {}
        }
        sync_parent(path).map_err(|e| io_error(path, "cannot sync the folder of", e))?;
        Store::open(path)
    }

    /// Opens a store for reading and writing.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no file, [`Error::Format`] when it is no store or one of another
    /// format, [`Error::Locked`] when another process writes to it, [`Error::Corrupt`] when it is
    /// damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        check_magic(path)?;
        let opened = open_same(path, || {
            let mut builder = builder();
            let builder = builder.set_cache_size(WRITER_CACHE_BYTES);
            let database = Database::new(|| builder.open(path));
            let database = database.map_err(|error| match engine(error) {
                Error::Locked { .. } => Error::Locked {
                    pid: holder::holder_of(path),
                },
                other => other,
            })?;
            Ok(Engine::Writer {
                note: Some(Arc::new(holder::Holder::leave(path))),
                database,
            })
        })?;
        Store::start(opened, path, None)
    }

    /// Opens a store for reading, also while another process writes to it.
    ///
    /// # Errors
    /// As [`open`](Store::open), but never [`Error::Locked`] for a writer beside it.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        check_magic(path)?;
        Store::start(open_reader(path, CACHE_BYTES)?, path, None)
    }

    /// Opens a store for reading as [`open_read_only`](Store::open_read_only) does, by someone who
    /// reads each page once and has a better use for the memory than to hold them.
    ///
    /// # Errors
    /// As [`open_read_only`](Store::open_read_only).
    pub fn open_to_scan(path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        check_magic(path)?;
        Store::start(open_reader(path, SCAN_CACHE_BYTES)?, path, None)
    }

    /// Creates a store on an empty disk of the caller's own.
    ///
    /// This is not done at once, as [`create`](Store::create) is: after a crash before it came
    /// back, begin with an empty disk again.
    ///
    /// # Errors
    /// [`Error::Usage`] when the disk is not empty, [`Error::Storage`] when it fails.
    pub fn create_on(disk: Arc<dyn Disk>, created: Timestamp) -> Result<Store> {
        let len = disk.len();
        if len.map_err(|e| io_error(Path::new(ON_DISK), "cannot look at", e))? > 0 {
            return Err(Error::Usage(
                "the disk for a new store holds something".to_owned(),
            ));
        }
        initialise(&on_disk(&disk).map_err(engine)?, created)?;
        Store::open_on(disk)
    }

    /// Opens a store on a disk of the caller's own, for reading and writing.
    ///
    /// # Errors
    /// As [`open`](Store::open), but that nobody keeps two from using one disk.
    pub fn open_on(disk: Arc<dyn Disk>) -> Result<Store> {
        let mut magic = [0; 4];
        let read = disk.read(0, &mut magic);
        read.map_err(|e| io_error(Path::new(ON_DISK), "cannot read", e))?;
        is_magic(&magic, Path::new(ON_DISK))?;
        let database = on_disk(&disk).map_err(engine)?;
        let engine = Arc::new(Engine::Writer {
            note: None,
            database,
        });
        Store::start(
            Opened { engine, file: None },
            Path::new(ON_DISK),
            Some(disk),
        )
    }

    fn start(opened: Opened, path: &Path, disk: Option<Arc<dyn Disk>>) -> Result<Store> {
        let store = Store {
            opened: Mutex::new(opened),
            path: path.to_owned(),
            disk,
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
        let size = match &self.disk {
            Some(disk) => disk.len(),
            None => std::fs::metadata(&self.path).map(|file| file.len()),
        };
        size.map_err(|e| io_error(&self.path, "cannot look at", e))
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
            let now = identity(&self.path);
            if now.is_some() && now != opened.file {
                *opened = open_reader(&self.path, CACHE_BYTES)?;
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

fn open_reader(path: &Path, cache: usize) -> Result<Opened> {
    open_same(path, || {
        let open = || {
            let mut builder = builder();
            let builder = builder.set_cache_size(cache);
            ReadOnlyDatabase::new(|| builder.open_read_only(path))
        };
        let database = match open() {
            // The last writer was killed: only an open for writing may put the file in order.
            Err(redb::DatabaseError::RepairAborted) => {
                drop(Database::new(|| builder().open(path)).map_err(engine)?);
                open()
            }
            other => other,
        };
        Ok(Engine::Reader(database.map_err(engine)?))
    })
}

/// Opens the file at a path, and no other one. A purge or a restore may put another in its place
/// just then: nobody would read what is written to the one before.
fn open_same(path: &Path, open: impl Fn() -> Result<Engine>) -> Result<Opened> {
    loop {
        let file = identity(path);
        let engine = open()?;
        if identity(path) == file {
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

/// A name of its own beside a file: another process may be making one at this moment, too.
fn temporary_name(path: &Path) -> PathBuf {
    let number = CREATED.fetch_add(1, Ordering::Relaxed);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".new-{}-{number}", std::process::id()));
    PathBuf::from(temporary)
}

/// Makes an empty store, whole and durable.
fn make_at(path: &Path, created: Timestamp) -> Result<File> {
    let file = create_private(path).map_err(|e| io_error(path, "cannot create", e))?;
    let database = Database::new(|| builder().create(path)).map_err(engine)?;
    initialise(&database, created)?;
    database.close().map_err(engine)?;
    let synced = file.sync_all();
    synced.map_err(|e| io_error(path, "cannot sync", e))?;
    Ok(file)
}

/// Puts a file in the place of another, which is kept under the name that is returned.
fn exchange(temporary: &Path, path: &Path) -> Result<PathBuf> {
    let mut number = 1;
    let kept = loop {
        let mut kept = path.as_os_str().to_owned();
        kept.push(format!(".damaged-{number}"));
        let kept = PathBuf::from(kept);
        match std::fs::hard_link(path, &kept) {
            Ok(()) => break kept,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(io_error(&kept, "cannot keep the damaged file as", e)),
        }
    };
    std::fs::rename(temporary, path).map_err(|e| io_error(path, "cannot replace", e))?;
    sync_parent(path).map_err(|e| io_error(path, "cannot sync the folder of", e))?;
    Ok(kept)
}

/// Makes a store under a temporary name, whole and durable, and gives it its own name.
fn make(temporary: &Path, path: &Path, created: Timestamp) -> Result<()> {
    make_at(temporary, created)?;
    link(temporary, path).map_err(|e| io_error(path, "cannot create", e))
}

/// Gives a file another name, which nothing must have.
fn link(temporary: &Path, path: &Path) -> io::Result<()> {
    // A hard link does not replace: of two processes that create at once, one wins.
    std::fs::hard_link(temporary, path).or_else(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => Err(e),
        // Not every file system has hard links.
        _ => std::fs::rename(temporary, path),
    })
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

/// The name that messages give to a store that is in no file.
const ON_DISK: &str = "(a disk)";

fn on_disk(disk: &Arc<dyn Disk>) -> std::result::Result<Database, redb::DatabaseError> {
    let backend = disk::Backend(Arc::clone(disk));
    Database::new(|| {
        redb::Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
    })
}

fn builder() -> redb::Builder {
    let mut builder = redb::Database::builder();
    builder
        .set_cache_size(CACHE_BYTES)
        .set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
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

fn io_error(path: &Path, doing: &str, source: io::Error) -> Error {
    Error::Io {
        context: format!("{doing} {}", path.display()),
        source,
    }
}

/// The engine's own error for a stranger's file says nothing a user can act on.
fn check_magic(path: &Path) -> Result<()> {
    use io::Read as _;
    let mut magic = [0; 4];
    let mut file = File::open(path).map_err(|e| io_error(path, "cannot open", e))?;
    let read = file
        .read(&mut magic)
        .map_err(|e| io_error(path, "cannot read", e))?;
    is_magic(magic.get(..read).unwrap_or_default(), path)
}

fn is_magic(magic: &[u8], path: &Path) -> Result<()> {
    if magic == b"redb" {
        return Ok(());
    }
    Err(Error::Format {
        reason: format!("{} is not a Relist store", path.display()),
    })
}

/// Which file stands at a path.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Path) -> Option<(u64, u64)> {
    None
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
}

#[cfg(unix)]
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_parent(_: &Path) -> io::Result<()> {
    Ok(())
}
