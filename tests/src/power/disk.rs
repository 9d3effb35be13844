//! A disk in memory that remembers what was done to it, and can fail at any of its operations.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use relist::store::Disk;

use crate::simulation::Rng;

/// What was done to a disk, as far as it matters to what it holds.
#[derive(Debug, Clone)]
pub enum Done {
    /// Bytes written from an offset on.
    Write(u64, Arc<[u8]>),
    /// Made longer or shorter.
    SetLen(u64),
    /// All that came before is durable.
    Sync,
}

/// How a disk fails.
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
    bytes: Vec<u8>,
    log: Option<Vec<Done>>,
    /// Operations so far, reads too.
    operations: u64,
    trouble: Option<(u64, Trouble)>,
    /// Whether the trouble has struck.
    struck: bool,
}

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk(Arc<Mutex<Inner>>);

impl SimDisk {
    /// A disk that holds these bytes.
    pub fn holding(bytes: Vec<u8>) -> Self {
        let disk = SimDisk::default();
        disk.inner().bytes = bytes;
        disk
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

    /// How many operations there were since the last [`fail`](SimDisk::fail).
    pub fn operations(&self) -> u64 {
        self.inner().operations
    }

    /// What it holds.
    pub fn bytes(&self) -> Vec<u8> {
        self.inner().bytes.clone()
    }

    /// This disk, as a store takes it.
    pub fn shared(&self) -> Arc<dyn Disk> {
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

    fn note(&mut self, done: impl FnOnce() -> Done) {
        if let Some(log) = &mut self.log {
            log.push(done());
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        put(&mut self.bytes, offset, data);
        self.note(|| Done::Write(offset, data.into()));
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
        Ok(self.inner().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut inner = self.inner();
        inner.count(false)?;
        let from = usize::try_from(offset).unwrap();
        let found = inner.bytes.get(from..from + out.len());
        let found = found.ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.inner();
        let grows = len > inner.bytes.len() as u64;
        inner.count(grows)?;
        inner.bytes.resize(usize::try_from(len).unwrap(), 0);
        inner.note(|| Done::SetLen(len));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.inner();
        if let Err(error) = inner.count(true) {
            // A write that fails may have come half of the way.
            inner.write(offset, &data[..data.len() / 2]);
            return Err(error);
        }
        inner.write(offset, data);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.inner();
        inner.count(false)?;
        inner.note(|| Done::Sync);
        Ok(())
    }
}

/// The smallest part of a disk that is written whole.
const SECTOR: usize = 512;

/// What a disk holds after the power went.
#[derive(Debug)]
pub struct Durable {
    /// What the last sync made durable.
    pub bytes: Vec<u8>,
    pending: Vec<Done>,
}

impl Durable {
    /// A disk that held these bytes for long.
    pub fn new(bytes: Vec<u8>) -> Self {
        Durable {
            bytes,
            pending: Vec::new(),
        }
    }

    /// One more thing is done.
    pub fn push(&mut self, done: &Done) {
        if matches!(done, Done::Sync) {
            for done in std::mem::take(&mut self.pending) {
                apply(&mut self.bytes, &done);
            }
        } else {
            self.pending.push(done.clone());
        }
    }

    /// Whether anything is not durable.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// What is there when the power goes now: of what is not durable, whatever the seed says.
    pub fn cut(&self, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        match rng.below(6) {
            // Nothing of it; all of it.
            0 => {}
            1 => self.pending.iter().for_each(|d| apply(&mut bytes, d)),
            // Some operations, each whole.
            2 => {
                for done in &self.pending {
                    if rng.below(2) == 0 {
                        apply(&mut bytes, done);
                    }
                }
            }
            // Some sectors.
            3 => {
                for done in &self.pending {
                    sectors(&mut bytes, done, rng);
                }
            }
            // The last ones first.
            4 => {
                let kept = rng.below(self.pending.len() as u64 + 1);
                let kept = usize::try_from(kept).unwrap();
                let from = self.pending.len() - kept;
                self.pending[from..]
                    .iter()
                    .for_each(|d| apply(&mut bytes, d));
            }
            // All up to one, and that torn at a byte.
            _ => {
                let last = rng.below(self.pending.len().max(1) as u64);
                let last = usize::try_from(last).unwrap();
                self.pending
                    .iter()
                    .take(last)
                    .for_each(|d| apply(&mut bytes, d));
                if let Some(Done::Write(offset, data)) = self.pending.get(last) {
                    let kept = usize::try_from(rng.below(data.len() as u64 + 1)).unwrap();
                    put(&mut bytes, *offset, &data[..kept]);
                }
            }
        }
        bytes
    }
}

fn apply(bytes: &mut Vec<u8>, done: &Done) {
    match done {
        Done::Write(offset, data) => put(bytes, *offset, data),
        Done::SetLen(len) => bytes.resize(usize::try_from(*len).unwrap(), 0),
        Done::Sync => {}
    }
}

/// Of a write, some of the sectors it touches.
fn sectors(bytes: &mut Vec<u8>, done: &Done, rng: &mut Rng) {
    let Done::Write(offset, data) = done else {
        if rng.below(2) == 0 {
            apply(bytes, done);
        }
        return;
    };
    let mut at = 0;
    while at < data.len() {
        let place = usize::try_from(*offset).unwrap() + at;
        let end = data.len().min(at + SECTOR - place % SECTOR);
        if rng.below(2) == 0 {
            put(bytes, place as u64, &data[at..end]);
        }
        at = end;
    }
}
