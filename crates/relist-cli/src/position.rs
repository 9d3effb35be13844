//! Positions of watchers: how far their events were delivered, durable without the store's lock.
//!
//! A watcher must work while another process writes to the store, and must not keep a sync from
//! beginning. So a position that moves is written to a small file beside the store, which replaces
//! the one before it at once or not at all; when the watcher ends, it goes into the store, if
//! nobody writes there, and the file goes away. While there is a file, it is the one that counts:
//! it is never older than what the store has.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use relist::error::Error;
use relist::store::{Snapshot, Store};
use relist::value::Timestamp;

use crate::failure::{Exit, Failure};

/// The first word of a position's file, and its edition.
const MAGIC: &str = "relist-position 1";
/// The longest name of a watcher.
const MAX_NAME: usize = 64;

/// The position of one watcher. While it lives, no other process has it.
#[derive(Debug)]
pub(crate) struct Position {
    name: String,
    store: PathBuf,
    folder: PathBuf,
    /// When the store was created: a file of another store is not believed.
    created: Timestamp,
    sequence: Option<u64>,
    /// Whether the store has this sequence, and no file is needed.
    stored: bool,
    /// Locked as long as it is open.
    _lock: File,
}

impl Position {
    /// Takes hold of a watcher's position.
    ///
    /// # Errors
    /// [`Exit::Busy`] when another process has it.
    pub(crate) fn take(name: &str, store: &Store, snapshot: &Snapshot) -> Result<Self, Failure> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
            return Err(Failure::usage(
                format!("{name:?} is no name of a watcher"),
                "a name has 1 to 64 letters, digits, - and _",
            ));
        }
        let mut folder = store.path().as_os_str().to_owned();
        folder.push(".watch");
        let folder = PathBuf::from(folder);
        let wrong = |e: io::Error| Failure::file("cannot keep positions in", &folder, &e);
        fs::create_dir_all(&folder).map_err(wrong)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(format!("{name}.lock")))
            .map_err(wrong)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(
                    Exit::Busy,
                    format!("the watcher {name} is running already"),
                    "--name gives another watcher, with a position of its own",
                ));
            }
            Err(TryLockError::Error(e)) => return Err(wrong(e)),
        }
        let mut position = Position {
            name: name.to_owned(),
            store: store.path().to_owned(),
            created: snapshot.created()?,
            sequence: None,
            stored: false,
            folder,
            _lock: lock,
        };
        position.read(snapshot)?;
        Ok(position)
    }

    fn read(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        let in_store = snapshot.position(&self.name)?.map(|p| p.sequence);
        let path = self.path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                (self.sequence, self.stored) = (in_store, in_store.is_some());
                return Ok(());
            }
            Err(e) => return Err(Failure::file("cannot read the position", &path, &e)),
        };
        let (created, sequence) = parse(&text).ok_or_else(|| {
            Failure::failed(
                format!("{} is not a position", path.display()),
                "remove it, and say by --since where to begin",
            )
        })?;
        if created != self.created {
            return Err(Failure::failed(
                format!("{} is a position in another store", path.display()),
                "the store was made anew: remove that file, and say by --since where to begin",
            ));
        }
        self.sequence = Some(sequence);
        self.stored = in_store == Some(sequence);
        Ok(())
    }

    /// Everything up to here was delivered; `None` for a watcher that is new.
    pub(crate) fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.position", self.name))
    }

    /// Notes that everything up to a sequence was delivered. It is durable when this returns.
    pub(crate) fn set(&mut self, sequence: u64) -> Result<(), Failure> {
        if self.sequence == Some(sequence) {
            return Ok(());
        }
        let path = self.path();
        let text = format!("{MAGIC}\ncreated {}\nsequence {sequence}\n", self.created.0);
        replace(&path, text.as_bytes())
            .map_err(|e| Failure::file("cannot write the position", &path, &e))?;
        (self.sequence, self.stored) = (Some(sequence), false);
        Ok(())
    }

    /// Moves the position into the store, unless another process writes there: then the file
    /// stays, and is as good.
    pub(crate) fn settle(&mut self, now: Timestamp) -> Result<(), Failure> {
        let path = self.path();
        let Some(sequence) = self.sequence else {
            return Ok(());
        };
        if !self.stored {
            let store = match Store::open(&self.store) {
                Ok(store) => store,
                Err(Error::Locked { .. }) => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            let mut txn = store.begin_write(now)?;
            txn.set_position(&self.name, sequence)?;
            txn.commit()?;
            self.stored = true;
        }
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Failure::file("cannot remove", &path, &e))
            }
            _ => Ok(()),
        }
    }
}

fn parse(text: &str) -> Option<(Timestamp, u64)> {
    let rest = text.strip_prefix(MAGIC)?.strip_prefix("\ncreated ")?;
    let (created, rest) = rest.split_once("\nsequence ")?;
    let sequence = rest.strip_suffix('\n')?;
    Some((Timestamp(created.parse().ok()?), sequence.parse().ok()?))
}

/// Replaces a file whole: after a crash it is the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        #[cfg(unix)]
        Some(folder) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(result: Result<Position, Failure>) -> (String, Exit) {
        let mut err = Vec::new();
        let exit = result.unwrap_err().report(&mut err, false);
        (String::from_utf8(err).unwrap(), exit)
    }

    #[test]
    fn a_position_goes_from_its_file_into_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.redb");
        drop(Store::create(&path, Timestamp(7)).unwrap());
        let take = |name: &str| {
            let store = Store::open_read_only(&path).unwrap();
            let snapshot = store.snapshot().unwrap();
            Position::take(name, &store, &snapshot)
        };
        let mut position = take("a").unwrap();
        assert_eq!(position.sequence(), None);
        assert_eq!(failed(take("a")).1, Exit::Busy);
        assert!(take("b").is_ok());
        assert_eq!(failed(take("../a")).1, Exit::Usage);
        position.set(3).unwrap();
        let file = position.path();
        drop(position);
        // As after a kill: the file counts.
        let mut position = take("a").unwrap();
        assert_eq!(position.sequence(), Some(3));
        // While another process writes, the file stays.
        let writer = Store::open(&path).unwrap();
        position.settle(Timestamp(9)).unwrap();
        assert!(file.exists());
        drop(writer);
        position.settle(Timestamp(9)).unwrap();
        assert!(!file.exists());
        drop(position);
        let position = take("a").unwrap();
        assert_eq!((position.sequence(), position.stored), (Some(3), true));
        drop(position);
        // The position of a store that is no more is not believed.
        fs::write(&file, format!("{MAGIC}\ncreated 8\nsequence 3\n")).unwrap();
        assert!(failed(take("a")).0.contains("another store"));
        fs::write(&file, "x").unwrap();
        assert!(failed(take("a")).0.contains("not a position"));
    }
}
