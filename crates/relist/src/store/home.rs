//! Where the files of a store are: the file system, or a place of the caller's own.
//!
//! Everything that is done to files as such, by their names, is done here: so a test that cuts the
//! power plays the very steps that a backup, a purge or a repair takes with real files.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::ConcurrencyMode;

use super::disk::{Backend, Disk, Folder};
use super::guarded::{Database, ReadOnlyDatabase};
use super::{Engine, engine, holder};
use crate::error::{Error, Result};

/// Memory redb may use for pages: it bounds the process, the operating system caches the rest.
pub(super) const CACHE_BYTES: usize = 128 << 20;
/// And of whoever writes: it needs its memory for what is to be written.
const WRITER_CACHE_BYTES: usize = 32 << 20;
/// And of whoever reads each page once.
pub(super) const SCAN_CACHE_BYTES: usize = 16 << 20;

/// The name that messages give to a store that is in no file.
pub(super) const ON_DISK: &str = "(a disk)";

/// Temporary files of this process: each has a name of its own.
static MADE: AtomicU64 = AtomicU64::new(0);

/// Where the files of a store are.
#[derive(Debug, Clone)]
pub(super) enum Home {
    /// In the file system.
    Files,
    /// On a disk of the caller's own, without a name.
    Disk(Arc<dyn Disk>),
    /// In a folder of the caller's own.
    Folder(Arc<dyn Folder>),
}

/// An open file.
#[derive(Debug)]
pub(super) enum Held {
    File(File),
    Disk(Arc<dyn Disk>),
}

impl Home {
    /// Opens the engine on a file, to write to it.
    pub(super) fn writer(&self, path: &Path) -> Result<Engine> {
        if !matches!(self, Home::Files) {
            let database = self.on_disk(path)?;
            return Ok(Engine::Writer {
                note: None,
                database,
            });
        }
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
    }

    /// Opens the engine on a file, to read it.
    pub(super) fn reader(&self, path: &Path, cache: usize) -> Result<Engine> {
        if !matches!(self, Home::Files) {
            return self.writer(path);
        }
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
    }

    /// Opens the engine on a file that nobody else can find.
    pub(super) fn alone(&self, path: &Path) -> Result<Database> {
        match self {
            Home::Files => Database::new(|| builder().open(path)).map_err(engine),
            _ => self.on_disk(path),
        }
    }

    /// Makes what the engine keeps in a file that is empty.
    pub(super) fn begin(&self, path: &Path) -> Result<Database> {
        match self {
            Home::Files => Database::new(|| builder().create(path)).map_err(engine),
            _ => self.on_disk(path),
        }
    }

    fn on_disk(&self, path: &Path) -> Result<Database> {
        let disk = match self {
            Home::Disk(disk) => Arc::clone(disk),
            Home::Folder(folder) => folder.open(path).map_err(failed(path, "cannot open"))?,
            Home::Files => {
                let here = path.display();
                return Err(Error::Usage(format!("{here} is in the file system")));
            }
        };
        let open = || {
            redb::Database::builder()
                .set_cache_size(CACHE_BYTES)
                .create_with_backend(Backend(disk))
        };
        Database::new(open).map_err(engine)
    }

    /// Makes a file that must not be there; only its owner may read it.
    pub(super) fn create(&self, path: &Path) -> io::Result<Held> {
        match self {
            Home::Files => create_private(path).map(Held::File),
            Home::Disk(_) => Err(io::ErrorKind::Unsupported.into()),
            Home::Folder(folder) => folder.create(path).map(Held::Disk),
        }
    }

    /// Opens a file to read it.
    pub(super) fn open(&self, path: &Path) -> io::Result<Held> {
        match self {
            Home::Files => File::open(path).map(Held::File),
            Home::Disk(disk) => Ok(Held::Disk(Arc::clone(disk))),
            Home::Folder(folder) => folder.open(path).map(Held::Disk),
        }
    }

    /// The path without links, of a file that is there.
    pub(super) fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        if let Home::Files = self {
            return path.canonicalize();
        }
        self.open(path).map(|_| path.to_owned())
    }

    /// Gives a file another name, in the place of whatever has that.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            Home::Files => std::fs::rename(from, to),
            Home::Disk(_) => Err(io::ErrorKind::Unsupported.into()),
            Home::Folder(folder) => folder.rename(from, to),
        }
    }

    /// Gives a file one more name, which nothing must have.
    pub(super) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            Home::Files => std::fs::hard_link(from, to),
            Home::Disk(_) => Err(io::ErrorKind::Unsupported.into()),
            Home::Folder(folder) => folder.link(from, to),
        }
    }

    /// Gives a file its name, which nothing must have; it may keep the other.
    pub(super) fn name(&self, temporary: &Path, path: &Path) -> io::Result<()> {
        // A hard link does not replace: of two processes that create at once, one wins.
        self.link(temporary, path).or_else(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Err(e),
            // Not every file system has hard links.
            _ => self.rename(temporary, path),
        })
    }

    /// Takes a name away.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        match self {
            Home::Files => std::fs::remove_file(path),
            Home::Disk(_) => Err(io::ErrorKind::Unsupported.into()),
            Home::Folder(folder) => folder.remove(path),
        }
    }

    /// Makes the names durable that were given and taken beside a file.
    pub(super) fn sync_names(&self, path: &Path) -> io::Result<()> {
        match self {
            Home::Files => sync_parent(path),
            Home::Disk(_) => Ok(()),
            Home::Folder(folder) => folder.sync(),
        }
    }

    /// Which file stands at a path.
    pub(super) fn identity(&self, path: &Path) -> Option<(u64, u64)> {
        match self {
            Home::Files => identity(path),
            _ => None,
        }
    }

    /// The engine's own error for a stranger's file says nothing a user can act on.
    pub(super) fn check_magic(&self, path: &Path) -> Result<()> {
        let mut magic = Vec::new();
        let held = self.open(path).map_err(failed(path, "cannot open"))?;
        let read = io::Read::read_to_end(&mut io::Read::take(held.reader(), 4), &mut magic);
        read.map_err(failed(path, "cannot read"))?;
        if magic == b"redb" {
            return Ok(());
        }
        Err(Error::Format {
            reason: format!("{} is not a Relist store", path.display()),
        })
    }
}

impl Held {
    /// Makes durable what was written.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self {
            Held::File(file) => file.sync_all(),
            Held::Disk(disk) => disk.sync(),
        }
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Held::File(file) => file.metadata().map(|own| own.len()),
            Held::Disk(disk) => disk.len(),
        }
    }

    /// Who may do what with it.
    pub(super) fn permissions(&self) -> io::Result<Option<std::fs::Permissions>> {
        match self {
            Held::File(file) => file.metadata().map(|own| Some(own.permissions())),
            Held::Disk(_) => Ok(None),
        }
    }

    /// Sets who may do what with it.
    pub(super) fn set_permissions(&self, to: Option<std::fs::Permissions>) -> io::Result<()> {
        match (self, to) {
            (Held::File(file), Some(to)) => file.set_permissions(to),
            _ => Ok(()),
        }
    }

    /// Its bytes, from the first on.
    pub(super) fn reader(&self) -> Box<dyn io::Read + '_> {
        match self {
            Held::File(file) => Box::new(file),
            Held::Disk(disk) => Box::new(Stream { disk, at: 0 }),
        }
    }

    /// Takes bytes, from the first on.
    pub(super) fn writer(&self) -> Box<dyn io::Write + '_> {
        match self {
            Held::File(file) => Box::new(file),
            Held::Disk(disk) => Box::new(Stream { disk, at: 0 }),
        }
    }
}

/// A disk, from one end to the other.
struct Stream<'d> {
    disk: &'d Arc<dyn Disk>,
    at: u64,
}

impl io::Read for Stream<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let rest = self.disk.len()?.saturating_sub(self.at);
        let wanted = usize::try_from(rest).map_or(out.len(), |rest| rest.min(out.len()));
        let out = out.get_mut(..wanted).unwrap_or_default();
        if !out.is_empty() {
            self.disk.read(self.at, out)?;
            self.at += wanted as u64;
        }
        Ok(wanted)
    }
}

impl io::Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.write(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn builder() -> redb::Builder {
    let mut builder = redb::Database::builder();
    builder
        .set_cache_size(CACHE_BYTES)
        .set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

/// A name of its own beside a file: another process may be making one at this moment, too.
pub(super) fn temporary_name(path: &Path) -> PathBuf {
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".new-{}-{number}", std::process::id()));
    PathBuf::from(temporary)
}

/// What could not be done with a file.
pub(super) fn failed(path: &Path, doing: &str) -> impl FnOnce(io::Error) -> Error {
    let context = format!("{doing} {}", path.display());
    move |source| Error::Io { context, source }
}

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
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(not(unix))]
pub(super) fn create_private(path: &Path) -> io::Result<File> {
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
