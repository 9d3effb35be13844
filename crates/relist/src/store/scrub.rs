//! Scrubbing: what was removed from the tables is removed from the file.
//!
//! The engine leaves bytes behind: in pages that are free, in the room behind the entries of a page
//! that is in use, in the branches of its trees. Compacting moves them along. So the store is
//! copied entry by entry to a new file, which takes its place at once; and that file is searched
//! for what was removed.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

use redb::{Key, TableDefinition, Value};

use super::backup::{EachTable, each_table, table_of};
use super::guarded::ReadTransaction;
use super::home::{Home, failed};
use super::{Store, engine};
use crate::error::Result;

/// Bytes of a needle that are looked up; a needle has at least so many.
const WINDOW: usize = 8;
/// What is kept of a removed value, at every so many bytes.
const PIECE: usize = 24;
const EVERY: usize = 256;
/// The most needles: of more, an even choice is taken.
const MOST: usize = 200_000;
/// Bytes of the file that are read at a time.
const CHUNK: usize = 1 << 20;

/// Byte strings that must not be found any more.
#[derive(Debug, Clone, Default)]
pub(super) struct Needles {
    held: Vec<Vec<u8>>,
    offered: usize,
    /// Only each so-manieth is kept.
    stride: usize,
}

impl Needles {
    /// Adds a string, if it is long and varied enough to mean anything.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let varied = bytes.first_chunk::<WINDOW>().is_some_and(|start| {
            let mut seen = *start;
            seen.sort_unstable();
            seen.chunk_by(|a, b| a == b).count() > 3
        });
        if !varied {
            return;
        }
        self.offered += 1;
        if !self.offered.is_multiple_of(self.stride.max(1)) {
            return;
        }
        self.held.push(bytes.to_vec());
        if self.held.len() > MOST {
            self.stride = self.stride.max(1) * 2;
            let mut keep = false;
            self.held.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// Adds pieces of a stored value.
    pub(super) fn add_pieces(&mut self, value: &[u8]) {
        for start in (0..value.len()).step_by(EVERY) {
            if let Some(piece) = value.get(start..start + PIECE) {
                self.add(piece);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Leaves out those that were found.
    fn without(&mut self, found: &[bool]) {
        let mut found = found.iter();
        self.held.retain(|_| !found.next().is_some_and(|f| *f));
    }

    /// Sorted, each once.
    pub(super) fn settle(&mut self) {
        self.held.sort_unstable();
        self.held.dedup();
    }
}

/// Finds needles in bytes, in one pass.
pub(super) struct Finder<'n> {
    needles: &'n [Vec<u8>],
    /// Which windows a needle may begin with: a filter.
    bits: Vec<u64>,
    by_window: HashMap<u64, Vec<u32>>,
    pub(super) found: Vec<bool>,
}

const FILTER_BITS: u32 = 22;

fn filter_place(window: u64) -> (usize, u64) {
    let hash = window.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - FILTER_BITS);
    let word = usize::try_from(hash / 64).unwrap_or(0);
    (word, 1 << (hash % 64))
}

impl<'n> Finder<'n> {
    pub(super) fn new(needles: &'n Needles) -> Self {
        let mut out = Finder {
            needles: &needles.held,
            bits: vec![0; 1 << (FILTER_BITS - 6)],
            by_window: HashMap::new(),
            found: vec![false; needles.held.len()],
        };
        for (at, needle) in (0_u32..).zip(out.needles) {
            let window = needle
                .first_chunk()
                .map_or(0, |start| u64::from_le_bytes(*start));
            let (word, bit) = filter_place(window);
            if let Some(word) = out.bits.get_mut(word) {
                *word |= bit;
            }
            out.by_window.entry(window).or_default().push(at);
        }
        out
    }

    /// Marks the needles that are in these bytes.
    pub(super) fn look(&mut self, bytes: &[u8]) {
        let Some((start, _)) = bytes.split_first_chunk::<WINDOW>() else {
            return;
        };
        let mut window = u64::from_le_bytes(*start);
        let mut at = 0;
        let mut rest = bytes.get(WINDOW..).unwrap_or_default().iter();
        loop {
            let (word, bit) = filter_place(window);
            if self.bits.get(word).is_some_and(|word| word & bit != 0) {
                self.compare(window, bytes.get(at..).unwrap_or_default());
            }
            let Some(next) = rest.next() else { return };
            window = (window >> 8) | (u64::from(*next) << 56);
            at += 1;
        }
    }

    fn compare(&mut self, window: u64, bytes: &[u8]) {
        for at in self.by_window.get(&window).into_iter().flatten() {
            let at = *at as usize;
            let needle = self.needles.get(at);
            if needle.is_some_and(|needle| bytes.starts_with(needle))
                && let Some(found) = self.found.get_mut(at)
            {
                *found = true;
            }
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.found.iter().filter(|found| **found).count() as u64
    }
}

/// What came of a scrub.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scrubbed {
    /// Pieces of what was removed that were looked for in the file.
    pub(super) looked_for: u64,
    /// How many of them are there still.
    pub(super) found: u64,
}

impl Store {
    /// Puts a copy of the store in its place that never held what is in no table any more, and
    /// looks for `needles` in it. Those that a table still has are left out: they belong to what
    /// stays.
    ///
    /// # Errors
    /// What the file system and the engine fail with; then the store is as it was.
    pub(super) fn scrub(&mut self, mut needles: Needles) -> Result<Scrubbed> {
        needles.settle();
        let mut finder = Finder::new(&needles);
        look_at_tables(&self.begin_read()?, &mut finder)?;
        let found = finder.found;
        needles.without(&found);
        self.replace_by_copy()?;
        let mut finder = Finder::new(&needles);
        look_at_file(&self.home, &self.path, &mut finder)?;
        Ok(Scrubbed {
            looked_for: needles.len() as u64,
            found: finder.count(),
        })
    }
}

struct Looking<'a, 'n> {
    from: &'a ReadTransaction,
    finder: &'a mut Finder<'n>,
}

impl EachTable for Looking<'_, '_> {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<()> {
        let Some(table) = table_of(self.from, definition)? else {
            return Ok(());
        };
        for row in table.range::<K::SelfType<'_>>(..).map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            self.finder.look(K::as_bytes(&key.value()).as_ref());
            self.finder.look(V::as_bytes(&value.value()).as_ref());
        }
        Ok(())
    }
}

/// Looks at every key and value, as they are stored.
pub(super) fn look_at_tables(from: &ReadTransaction, finder: &mut Finder<'_>) -> Result<()> {
    each_table(&mut Looking { from, finder })
}

/// Looks at every byte of the file.
fn look_at_file(home: &Home, path: &Path, finder: &mut Finder<'_>) -> Result<()> {
    let longest = finder.needles.iter().map(Vec::len).max().unwrap_or(0);
    let file = home.open(path).map_err(failed(path, "cannot read"))?;
    let mut file = file.reader();
    let mut held: Vec<u8> = Vec::with_capacity(CHUNK + longest);
    loop {
        let read = file
            .by_ref()
            .take(CHUNK as u64)
            .read_to_end(&mut held)
            .map_err(failed(path, "cannot read"))?;
        finder.look(&held);
        if read == 0 {
            return Ok(());
        }
        // What begins here may end in the next chunk.
        held.drain(..held.len().saturating_sub(longest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found() {
        let mut needles = Needles::default();
        for needle in [
            "a secret text",
            "another one",
            "short",
            "zzzzzzzzzzzz",
            "not there",
        ] {
            needles.add(needle.as_bytes());
        }
        needles.settle();
        // Too short, or too much alike, to mean anything.
        assert_eq!(needles.len(), 3);
        let mut finder = Finder::new(&needles);
        finder.look(b"here is a secret text");
        finder.look(b"another one");
        finder.look(b"not the");
        finder.look(b"re");
        assert_eq!(finder.count(), 2);
        let mut most = Needles::default();
        for n in 0..1_000_000_u64 {
            most.add(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        }
        assert!(
            most.len() <= MOST && most.len() > MOST / 4,
            "{}",
            most.len()
        );
    }
}
