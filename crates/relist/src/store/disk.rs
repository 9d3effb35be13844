//! What a store is kept on, when that is no file: a disk of the caller's own.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A place for the bytes of a store: what a file is, seen from below.
///
/// For tests that cut the power, and for whoever keeps stores elsewhere than in files. One store
/// uses it at a time, from any thread. What was written before a [`sync`](Disk::sync) that came
/// back well is there after a crash; of what was written since, any part may be. A failed call may
/// have done its work or not.
pub trait Disk: Debug + Send + Sync {
    /// How many bytes it holds.
    fn len(&self) -> io::Result<u64>;

    /// Whether it holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Fills `out` with the bytes from `offset` on; an error when there are not so many.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Makes it longer, by zeros, or shorter.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Writes bytes from `offset` on; it is as long by then.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes durable all that was written before.
    fn sync(&self) -> io::Result<()>;
}

/// Files by name: what a folder is, seen from below.
///
/// For tests that cut the power while a store is copied, replaced or made.
#[doc(hidden)]
pub trait Folder: Debug + Send + Sync {
    /// Makes a file that must not be there.
    fn create(&self, name: &Path) -> io::Result<Arc<dyn Disk>>;

    /// Finds a file.
    fn open(&self, name: &Path) -> io::Result<Arc<dyn Disk>>;

    /// Gives a file another name, in the place of whatever has that.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file one more name, which nothing must have.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a name away.
    fn remove(&self, name: &Path) -> io::Result<()>;

    /// Makes names durable that were given and taken.
    fn sync(&self) -> io::Result<()>;
}

/// The engine's view of a disk.
#[derive(Debug)]
pub(super) struct Backend(pub(super) Arc<dyn Disk>);

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
