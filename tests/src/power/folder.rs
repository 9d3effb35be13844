//! A folder in memory that remembers what was done to it, and can fail at any of its operations.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use relist::store::{Disk, Folder};

use crate::simulation::Rng;

/// A file, whatever its names are.
type Number = usize;

/// What was done, as far as it matters to what is held.
#[derive(Debug, Clone)]
pub enum Done {
    /// Bytes written to a file, from an offset on.
    Write(Number, u64, Arc<[u8]>),
    /// A file was made longer or shorter.
    SetLen(Number, u64),
    /// All that was written to a file before is durable.
    Sync(Number),
    /// Names were given to files and taken away, all at once.
    Names(Vec<(PathBuf, Option<Number>)>),
    /// All names that were given and taken before are durable.
    SyncNames,
}

impl Done {
    /// Whether it makes something durable.
    pub fn settles(&self) -> bool {
        matches!(self, Done::Sync(_) | Done::SyncNames)
    }
}

/// The files of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    names: BTreeMap<PathBuf, Number>,
    bytes: BTreeMap<Number, Arc<Vec<u8>>>,
}

impl Files {
    /// One file.
    pub fn one(name: &Path, bytes: Vec<u8>) -> Self {
        Files {
            names: BTreeMap::from([(name.to_owned(), 0)]),
            bytes: BTreeMap::from([(0, Arc::new(bytes))]),
        }
    }

    /// What a file holds, by its name.
    pub fn get(&self, name: &Path) -> Option<&[u8]> {
        let bytes = self.bytes.get(self.names.get(name)?)?;
        Some(bytes.as_slice())
    }

    /// What files there are.
    pub fn names(&self) -> impl Iterator<Item = &Path> {
        self.names.keys().map(PathBuf::as_path)
    }

    /// Spoils the second half of every file.
    pub fn forget_half(&mut self) {
        for bytes in self.bytes.values_mut() {
            let (from, len) = (bytes.len() / 2, bytes.len());
            Arc::make_mut(bytes)[from..len].fill(0);
        }
    }

    fn file(&mut self, number: Number) -> &mut Vec<u8> {
        Arc::make_mut(self.bytes.entry(number).or_default())
    }

    fn apply(&mut self, done: &Done) {
        match done {
            Done::Write(file, offset, data) => put(self.file(*file), *offset, data),
            Done::SetLen(file, len) => {
                self.file(*file).resize(usize::try_from(*len).unwrap(), 0);
            }
            Done::Names(names) => {
                for (name, file) in names {
                    match file {
                        Some(file) => self.names.insert(name.clone(), *file),
                        None => self.names.remove(name),
                    };
                }
            }
            Done::Sync(_) | Done::SyncNames => {}
        }
    }

    /// Leaves out files without a name.
    fn found_again(mut self) -> Self {
        let named: Vec<Number> = self.names.values().copied().collect();
        for file in &named {
            self.bytes.entry(*file).or_default();
        }
        self.bytes.retain(|file, _| named.contains(file));
        self
    }
}

/// How a folder fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// One operation fails, then all is well.
    Once,
    /// From one operation on, all fail.
    ForEver,
    /// From one operation on, there is no space: what was there can be read.
    Full,
}

impl Trouble {
    /// All kinds.
    pub const ALL: [Trouble; 3] = [Trouble::Once, Trouble::ForEver, Trouble::Full];
}

#[derive(Debug, Default)]
struct Inner {
    files: Files,
    next: Number,
    log: Option<Vec<Done>>,
    /// Operations so far, reads too.
    operations: u64,
    trouble: Option<(u64, Trouble)>,
    /// Whether the trouble has struck.
    struck: bool,
}

/// A folder in memory. Clones are the same folder.
#[derive(Debug, Clone, Default)]
pub struct SimFolder(Arc<Mutex<Inner>>);

/// A file of a folder.
#[derive(Debug, Clone)]
struct SimDisk {
    folder: SimFolder,
    number: Number,
}

impl SimFolder {
    /// A folder that holds these files.
    pub fn holding(files: Files) -> Self {
        let folder = SimFolder::default();
        {
            let mut inner = folder.inner();
            inner.next = files.bytes.keys().next_back().map_or(0, |last| last + 1);
            inner.files = files;
        }
        folder
    }

    /// Begins to remember what is done to it.
    pub fn record(&self) {
        self.inner().log = Some(Vec::new());
    }

    /// What was done since.
    pub fn recorded(&self) -> Vec<Done> {
        self.inner().log.clone().unwrap_or_default()
    }

    /// How many of these things were done.
    pub fn recorded_len(&self) -> usize {
        self.inner().log.as_ref().map_or(0, Vec::len)
    }

    /// Lets the operation of a number, counted from now, fail.
    pub fn fail(&self, at: u64, trouble: Trouble) {
        let mut inner = self.inner();
        inner.operations = 0;
        inner.struck = false;
        inner.trouble = Some((at, trouble));
    }

    /// It works again; whether it failed meanwhile.
    pub fn heal(&self) -> bool {
        let mut inner = self.inner();
        inner.trouble = None;
        inner.struck
    }

    /// What it holds.
    pub fn files(&self) -> Files {
        self.inner().files.clone()
    }

    /// This folder, as a store takes it.
    pub fn shared(&self) -> Arc<dyn Folder> {
        Arc::new(self.clone())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Counts an operation; an error when it is to fail. Then the caller does a part of it.
    fn count(&mut self, takes_space: bool) -> io::Result<()> {
        let own = self.operations;
        self.operations += 1;
        let Some((at, trouble)) = self.trouble else {
            return Ok(());
        };
        let fails = match trouble {
            Trouble::Once => own == at,
            Trouble::ForEver => own >= at,
            Trouble::Full => own >= at && takes_space,
        };
        if !fails {
            return Ok(());
        }
        self.struck = true;
        Err(match trouble {
            Trouble::Full => io::ErrorKind::StorageFull.into(),
            _ => io::Error::other("the disk failed"),
        })
    }

    fn does(&mut self, done: Done) {
        self.files.apply(&done);
        if let Some(log) = &mut self.log {
            log.push(done);
        }
    }

    fn found(&self, name: &Path) -> io::Result<Number> {
        let found = self.files.names.get(name).copied();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Folder for SimFolder {
    fn create(&self, name: &Path) -> io::Result<Arc<dyn Disk>> {
        let mut inner = self.inner();
        inner.count(true)?;
        if inner.found(name).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = inner.next;
        inner.next += 1;
        inner.files.file(number);
        inner.does(Done::Names(vec![(name.to_owned(), Some(number))]));
        Ok(self.disk(number))
    }

    fn open(&self, name: &Path) -> io::Result<Arc<dyn Disk>> {
        let mut inner = self.inner();
        inner.count(false)?;
        inner.found(name).map(|number| self.disk(number))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.count(true)?;
        let number = inner.found(from)?;
        let names = vec![(from.to_owned(), None), (to.to_owned(), Some(number))];
        inner.does(Done::Names(names));
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.count(true)?;
        let number = inner.found(from)?;
        if inner.found(to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inner.does(Done::Names(vec![(to.to_owned(), Some(number))]));
        Ok(())
    }

    fn remove(&self, name: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.count(false)?;
        inner.found(name)?;
        inner.does(Done::Names(vec![(name.to_owned(), None)]));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.inner();
        inner.count(false)?;
        inner.does(Done::SyncNames);
        Ok(())
    }
}

impl SimFolder {
    fn disk(&self, number: Number) -> Arc<dyn Disk> {
        Arc::new(SimDisk {
            folder: self.clone(),
            number,
        })
    }
}

/// Writes bytes, beyond the end too.
fn put(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let from = usize::try_from(offset).unwrap();
    let to = from + data.len();
    if bytes.len() < to {
        bytes.resize(to, 0);
    }
    bytes[from..to].copy_from_slice(data);
}

impl Disk for SimDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.folder.inner().files.file(self.number).len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut inner = self.folder.inner();
        inner.count(false)?;
        let from = usize::try_from(offset).unwrap();
        let bytes = inner.files.bytes.get(&self.number);
        let found = bytes.and_then(|bytes| bytes.get(from..from + out.len()));
        let found = found.ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.folder.inner();
        let grows = len > inner.files.file(self.number).len() as u64;
        inner.count(grows)?;
        inner.does(Done::SetLen(self.number, len));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.folder.inner();
        if let Err(error) = inner.count(true) {
            // A write that fails may have come half of the way.
            let half = &data[..data.len() / 2];
            inner.does(Done::Write(self.number, offset, half.into()));
            return Err(error);
        }
        inner.does(Done::Write(self.number, offset, data.into()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.folder.inner();
        inner.count(false)?;
        inner.does(Done::Sync(self.number));
        Ok(())
    }
}

/// The smallest part of a disk that is written whole.
const SECTOR: usize = 512;

/// What is there after the power went.
#[derive(Debug)]
pub struct Durable {
    /// What the last syncs made durable.
    files: Files,
    /// By file: what was done to it since.
    pending: BTreeMap<Number, Vec<Done>>,
    /// What was done to names since.
    names: Vec<Done>,
}

impl Durable {
    /// A folder that held these files for long.
    pub fn new(files: Files) -> Self {
        Durable {
            files,
            pending: BTreeMap::new(),
            names: Vec::new(),
        }
    }

    /// One more thing is done.
    pub fn push(&mut self, done: &Done) {
        let settled = match done {
            Done::Write(file, ..) | Done::SetLen(file, _) => {
                self.pending.entry(*file).or_default().push(done.clone());
                return;
            }
            Done::Names(_) => return self.names.push(done.clone()),
            Done::Sync(file) => self.pending.remove(file).unwrap_or_default(),
            Done::SyncNames => std::mem::take(&mut self.names),
        };
        for done in &settled {
            self.files.apply(done);
        }
    }

    /// Whether anything is not durable.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.names.is_empty()
    }

    /// What is durable, and nothing else.
    pub fn settled(&self) -> Files {
        self.files.clone().found_again()
    }

    /// What is there when the power goes now: of what is not durable, whatever the seed says.
    pub fn cut(&self, rng: &mut Rng) -> Files {
        let mut files = self.files.clone();
        for pending in self.pending.values() {
            cut(&mut files, pending, rng);
        }
        // Names are written whole: a folder has a journal, or is as if it had one.
        let kept = usize::try_from(rng.below(self.names.len() as u64 + 1)).unwrap();
        let any = rng.below(2) == 0;
        for (at, done) in self.names.iter().enumerate() {
            if if any { rng.below(2) == 0 } else { at < kept } {
                files.apply(done);
            }
        }
        files.found_again()
    }
}

/// Does to a file what is kept of what was done to it and is not durable.
fn cut(files: &mut Files, pending: &[Done], rng: &mut Rng) {
    match rng.below(6) {
        // Nothing of it; all of it.
        0 => {}
        1 => pending.iter().for_each(|done| files.apply(done)),
        // Some operations, each whole.
        2 => {
            for done in pending {
                if rng.below(2) == 0 {
                    files.apply(done);
                }
            }
        }
        // Some sectors.
        3 => {
            for done in pending {
                sectors(files, done, rng);
            }
        }
        // The last ones first.
        4 => {
            let kept = rng.below(pending.len() as u64 + 1);
            let from = pending.len() - usize::try_from(kept).unwrap();
            pending[from..].iter().for_each(|done| files.apply(done));
        }
        // All up to one, and that torn at a byte.
        _ => {
            let last = rng.below(pending.len().max(1) as u64);
            let last = usize::try_from(last).unwrap();
            pending.iter().take(last).for_each(|done| files.apply(done));
            if let Some(Done::Write(file, offset, data)) = pending.get(last) {
                let kept = usize::try_from(rng.below(data.len() as u64 + 1)).unwrap();
                put(files.file(*file), *offset, &data[..kept]);
            }
        }
    }
}

/// Of a write, some of the sectors it touches.
fn sectors(files: &mut Files, done: &Done, rng: &mut Rng) {
    let Done::Write(file, offset, data) = done else {
        if rng.below(2) == 0 {
            files.apply(done);
        }
        return;
    };
    let mut at = 0;
    while at < data.len() {
        let place = usize::try_from(*offset).unwrap() + at;
        let end = data.len().min(at + SECTOR - place % SECTOR);
        if rng.below(2) == 0 {
            put(files.file(*file), place as u64, &data[at..end]);
        }
        at = end;
    }
}
