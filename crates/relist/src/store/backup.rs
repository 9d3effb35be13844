//! Backups: a second file with everything that one snapshot sees, and back again.
//!
//! A backup is a store like any other: it can be asked, verified and purged. It is made under a
//! temporary name, read again and compared, and given its name only then: at the target stands the
//! file that was there before or a whole one, whenever the process is killed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use redb::{Key, TableDefinition, TableError, TableHandle as _, Value};
use xxhash_rust::xxh3::Xxh3;

use super::{Engine, Folder, Opened, Store, VerifyReport, engine};
use crate::error::{Error, Result};

use super::guarded::{Database, ReadOnlyTable, ReadTransaction};
use super::home::{CACHE_BYTES, Held, Home, failed, temporary_name};
use super::tables as t;

/// What is copied goes into a transaction until it is so long.
const COMMIT_BYTES: usize = 128 << 20;

/// How a backup or a restored store is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// Whether a file that is already there is replaced.
    pub replace: bool,
    /// Whether the copy is taken although its parts do not agree: of a damaged store, for want of
    /// anything better.
    pub even_damaged: bool,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyReport {
    /// The last sequence in it.
    pub sequence: u64,
    /// Entries of all tables.
    pub entries: u64,
    /// The length of its file.
    pub bytes: u64,
    /// What its verification found.
    pub verified: VerifyReport,
}

impl Store {
    /// Writes everything committed so far to a new file, from one snapshot: another process may go
    /// on writing. The copy is read again, compared with the snapshot and verified before it gets
    /// its name; only its owner may read it.
    ///
    /// # Errors
    /// [`Error::Io`] when the file exists (and is not to be replaced) or cannot be made,
    /// [`Error::Corrupt`] when the copy's parts do not agree, [`Error::Usage`] when the target is
    /// the store itself. Then the target is as it was.
    pub fn backup(&self, target: impl AsRef<Path>, options: CopyOptions) -> Result<CopyReport> {
        let target = target.as_ref();
        refuse(&self.home, target, &self.path, options)?;
        let from = self.begin_read()?;
        let written = Fresh::beside(&self.home, target)?;
        let copied = copy_all(&from, &written)?;
        let report = written.check(options)?;
        let read = Store::read_at(self.home.clone(), &written.path, CACHE_BYTES)?;
        if digest_all(&read.begin_read()?)? != copied {
            return Err(not_what_was_written());
        }
        drop(read);
        written.give_name(target, options.replace)?;
        Ok(CopyReport {
            entries: copied.entries,
            ..report
        })
    }

    /// Puts a backup in the place of a store. The backup stays as it is.
    ///
    /// # Errors
    /// [`Error::Io`] when there is a store (and it is not to be replaced), [`Error::Locked`] when
    /// another process writes to it, [`Error::Format`] when the file is no store,
    /// [`Error::Corrupt`] when it is damaged. Then nothing is changed.
    pub fn restore(
        backup: impl AsRef<Path>,
        path: impl AsRef<Path>,
        options: CopyOptions,
    ) -> Result<CopyReport> {
        Store::restore_at(&Home::Files, backup.as_ref(), path.as_ref(), options)
    }

    /// As [`restore`](Store::restore), in a folder of the caller's own: for tests.
    #[doc(hidden)]
    pub fn restore_in(
        folder: Arc<dyn Folder>,
        backup: &Path,
        path: &Path,
        options: CopyOptions,
    ) -> Result<CopyReport> {
        Store::restore_at(&Home::Folder(folder), backup, path, options)
    }

    fn restore_at(
        home: &Home,
        backup: &Path,
        path: &Path,
        options: CopyOptions,
    ) -> Result<CopyReport> {
        home.check_magic(backup)?;
        refuse(home, path, backup, options)?;
        let written = Fresh::beside(home, path)?;
        let from = home.open(backup).map_err(failed(backup, "cannot open"))?;
        let copied = io::copy(&mut from.reader(), &mut written.file.writer());
        copied.map_err(failed(path, "cannot write"))?;
        let report = written.check(options)?;
        // Nobody may write to what is about to be replaced. What cannot be opened, nobody writes.
        let _held = match Store::open_at(home.clone(), path) {
            Err(error @ Error::Locked { .. }) => return Err(error),
            other => other.ok(),
        };
        written.give_name(path, options.replace)?;
        Ok(report)
    }
}

impl Store {
    /// Puts a copy in the place of the store: entry by entry, so that nothing comes along that is
    /// in no table. Whoever reads goes on with the file before, and finds the new one next time.
    pub(super) fn replace_by_copy(&mut self) -> Result<()> {
        // What a link points to is replaced, not the link.
        let target = self.home.canonical(&self.path);
        let target = target.map_err(failed(&self.path, "cannot look at"))?;
        let held = self.home.open(&target);
        let mode = held.and_then(|held| held.permissions());
        let mode = mode.map_err(failed(&self.path, "cannot look at"))?;
        let from = self.begin_read()?;
        let written = Fresh::beside(&self.home, &target)?;
        let copied = copy_all(&from, &written)?;
        let file = self.home.identity(&written.path);
        // Open for writing before anybody else can find it.
        let database = self.home.alone(&written.path)?;
        let note = match self.engine()?.as_ref() {
            Engine::Writer { note, .. } => note.clone(),
            Engine::Reader(_) => None,
        };
        let to = Arc::new(Engine::Writer { note, database });
        if digest_all(&to.begin_read()?)? != copied {
            return Err(not_what_was_written());
        }
        drop(from);
        let set = written.file.set_permissions(mode);
        set.map_err(failed(&written.path, "cannot set the mode of"))?;
        let synced = written.file.sync();
        synced.map_err(failed(&written.path, "cannot sync"))?;
        written.give_name(&target, true)?;
        self.opened = Mutex::new(Opened { engine: to, file });
        Ok(())
    }
}

fn not_what_was_written() -> Error {
    Error::Corrupt {
        what: "the copy is not what was written: is the disk failing?".to_owned(),
    }
}

/// Whether the target may be written.
fn refuse(home: &Home, target: &Path, source: &Path, options: CopyOptions) -> Result<()> {
    let Ok(there) = home.canonical(target) else {
        return Ok(());
    };
    if home.canonical(source).is_ok_and(|own| own == there) {
        return Err(Error::Usage(format!(
            "{} is the store itself: name another file",
            target.display()
        )));
    }
    if options.replace {
        return Ok(());
    }
    Err(failed(target, "cannot create")(
        io::ErrorKind::AlreadyExists.into(),
    ))
}

/// A file that has no name of its own yet; removed when it never gets one.
struct Fresh {
    home: Home,
    file: Held,
    path: PathBuf,
    named: bool,
}

impl Fresh {
    fn beside(home: &Home, target: &Path) -> Result<Fresh> {
        if let Home::Files = home {
            remove_left(target);
        }
        let path = temporary_name(target);
        let file = home
            .create(&path)
            .map_err(failed(target, "cannot create"))?;
        Ok(Fresh {
            home: home.clone(),
            file,
            path,
            named: false,
        })
    }

    /// Has the engine check every page, verifies what is stored and makes it durable.
    fn check(&self, options: CopyOptions) -> Result<CopyReport> {
        let mut store = Store::open_at(self.home.clone(), &self.path)?;
        store.check_integrity()?;
        let snapshot = store.snapshot()?;
        let verified = snapshot.verify()?;
        if !verified.is_clean() && !options.even_damaged {
            let first = verified.problems.first().cloned().unwrap_or_default();
            return Err(Error::Corrupt {
                what: format!(
                    "the copy has {} problems, the first: {first}",
                    verified.problem_count
                ),
            });
        }
        let sequence = snapshot.sequence();
        drop(snapshot);
        drop(store);
        let synced = self.file.sync().and_then(|()| self.file.len());
        let bytes = synced.map_err(failed(&self.path, "cannot sync"))?;
        Ok(CopyReport {
            sequence,
            entries: 0,
            bytes,
            verified,
        })
    }

    /// Gives the file its name, durably.
    fn give_name(mut self, target: &Path, replace: bool) -> Result<()> {
        let named = if replace {
            self.home.rename(&self.path, target)
        } else {
            self.home.name(&self.path, target)
        };
        named.map_err(failed(target, "cannot create"))?;
        self.named = replace;
        let synced = self.home.sync_names(target);
        synced.map_err(failed(target, "cannot sync the folder of"))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.named {
            // The error that counts came before; or the file has its name, and this is its other.
            let _ = self.home.remove(&self.path);
        }
    }
}

/// Removes what killed processes left of this file: it holds what a licence covers.
pub(super) fn remove_left(target: &Path) {
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
        return;
    };
    let running = Path::new("/proc");
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let prefix = format!("{}.new-", name.to_string_lossy());
    for entry in entries.flatten() {
        let own = entry.file_name();
        let own = own.to_string_lossy();
        let process = own
            .strip_prefix(&prefix)
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        // Where processes cannot be told, nothing is removed.
        if let Some(pid) = process.filter(|_| running.join("self").exists())
            && !running.join(pid.to_string()).exists()
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// What a set of tables says, in any order of the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Digest {
    entries: u64,
    sum: u128,
}

impl Digest {
    fn add(&mut self, table: &str, key: &[u8], value: &[u8]) {
        let mut hash = Xxh3::new();
        for part in [table.as_bytes(), key, value] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        self.entries += 1;
        self.sum = self.sum.wrapping_add(hash.digest128());
    }
}

/// What is done with each table of a store.
pub(super) trait EachTable {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<()>;
}

/// Every table there is, by its type.
pub(super) fn each_table(work: &mut impl EachTable) -> Result<()> {
    for table in [t::META, t::CATALOG, t::CHECKPOINTS, t::POSITIONS] {
        work.table(table)?;
    }
    for table in [t::VERSIONS, t::CHANGELOG, t::RUNS] {
        work.table(table)?;
    }
    work.table(t::DICTIONARIES)?;
    work.table(t::INSTANTS)?;
    for table in [t::CHANGES_BY_KEY, t::MEDIA_DUE, t::MEDIA_FILES] {
        work.table(table)?;
    }
    for table in [
        t::HEADS,
        t::HISTORY,
        t::TOMBSTONES,
        t::QUARANTINE,
        t::COLUMNS,
        t::COLUMN_CELLS,
        t::FIELD_CHANGES,
        t::MEDIA,
        t::MEDIA_LISTS,
    ] {
        work.table(table)?;
    }
    Ok(())
}

/// A table that an older store may lack.
pub(super) fn table_of<K: Key + 'static, V: Value + 'static>(
    txn: &ReadTransaction,
    definition: TableDefinition<'static, K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>> {
    match txn.open_table(definition) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        other => other.map(Some).map_err(engine),
    }
}

struct Copying<'a> {
    from: &'a ReadTransaction,
    to: &'a Database,
    digest: Digest,
    names: Vec<String>,
}

impl EachTable for Copying<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<()> {
        let Some(table) = table_of(self.from, definition)? else {
            return Ok(());
        };
        self.names.push(definition.name().to_owned());
        let mut rows = table.range::<K::SelfType<'_>>(..).map_err(engine)?;
        let mut more = true;
        while more {
            more = false;
            let mut txn = self.to.begin_write().map_err(engine)?;
            txn.set_quick_repair(true);
            {
                let mut target = txn.open_table(definition).map_err(engine)?;
                let mut bytes = 0;
                for row in rows.by_ref() {
                    let (key, value) = row.map_err(engine)?;
                    let (key, value) = (key.value(), value.value());
                    let (k, v) = (K::as_bytes(&key), V::as_bytes(&value));
                    self.digest.add(definition.name(), k.as_ref(), v.as_ref());
                    bytes += k.as_ref().len() + v.as_ref().len();
                    target.insert(&key, &value).map_err(engine)?;
                    if bytes > COMMIT_BYTES {
                        more = true;
                        break;
                    }
                }
            }
            txn.commit().map_err(engine)?;
        }
        Ok(())
    }
}

/// Copies every table; what they say.
fn copy_all(from: &ReadTransaction, written: &Fresh) -> Result<Digest> {
    let to = written.home.begin(&written.path)?;
    let mut work = Copying {
        from,
        to: &to,
        digest: Digest::default(),
        names: Vec::new(),
    };
    each_table(&mut work)?;
    let Copying { digest, names, .. } = work;
    for name in from.table_names().map_err(engine)? {
        if !names.contains(&name) {
            return Err(Error::Format {
                reason: format!("the table {name} is not known to this build: it cannot copy it"),
            });
        }
    }
    to.close().map_err(engine)?;
    Ok(digest)
}

struct Reading<'a> {
    from: &'a ReadTransaction,
    digest: Digest,
}

impl EachTable for Reading<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<()> {
        let Some(table) = table_of(self.from, definition)? else {
            return Ok(());
        };
        for row in table.range::<K::SelfType<'_>>(..).map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            let (key, value) = (key.value(), value.value());
            let (k, v) = (K::as_bytes(&key), V::as_bytes(&value));
            self.digest.add(definition.name(), k.as_ref(), v.as_ref());
        }
        Ok(())
    }
}

fn digest_all(from: &ReadTransaction) -> Result<Digest> {
    let mut work = Reading {
        from,
        digest: Digest::default(),
    };
    each_table(&mut work)?;
    Ok(work.digest)
}
