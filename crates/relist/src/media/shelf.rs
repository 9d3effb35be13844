//! How a run gets at its store: held open all the time, or opened for each batch.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::store::{Snapshot, Store};

/// How [`sync_media`](super::sync_media) gets at the store.
pub trait MediaStore: Sync {
    /// A view of what is committed now.
    ///
    /// # Errors
    /// Those of the store.
    fn view(&self) -> Result<Snapshot>;

    /// Hands the store, open for writing, to `work`, once.
    ///
    /// # Errors
    /// Those of the store and of `work`.
    fn write(&self, work: &mut dyn FnMut(&Store) -> Result<()>) -> Result<()>;
}

/// A store that is open for writing already: nobody else writes while the run lasts.
impl MediaStore for Store {
    fn view(&self) -> Result<Snapshot> {
        self.snapshot()
    }

    fn write(&self, work: &mut dyn FnMut(&Store) -> Result<()>) -> Result<()> {
        work(self)
    }
}

/// A store that is opened for writing for as long as one batch takes, so that others can write to
/// it during a run that takes hours.
pub struct InTurns<'a> {
    path: PathBuf,
    wait: &'a (dyn Fn(u32) -> bool + Sync),
}

impl<'a> InTurns<'a> {
    /// The store at `path`. When another process writes to it, `wait` is called with the number of
    /// attempts so far; it waits a moment and says whether to try again.
    pub fn new(path: impl AsRef<Path>, wait: &'a (dyn Fn(u32) -> bool + Sync)) -> Self {
        InTurns {
            path: path.as_ref().to_owned(),
            wait,
        }
    }
}

impl std::fmt::Debug for InTurns<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InTurns")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl MediaStore for InTurns<'_> {
    fn view(&self) -> Result<Snapshot> {
        Store::open_read_only(&self.path)?.snapshot()
    }

    fn write(&self, work: &mut dyn FnMut(&Store) -> Result<()>) -> Result<()> {
        for attempt in 1.. {
            match Store::open(&self.path) {
                Err(Error::Locked { .. }) if (self.wait)(attempt) => {}
                Err(error) => return Err(error),
                Ok(store) => return work(&store),
            }
        }
        Err(Error::Locked { pid: None })
    }
}
