//! The records as they were last sent, by the hash of their bytes.
//!
//! Held in memory while many records come in, so that one that did not change costs a hash and a
//! look into a table. 31 bytes a record: 62 MB for two million.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Session;
use crate::error::Result;
use crate::store::Store;
use crate::value::Timestamp;

/// Places of the table a record has at least.
const ROOM: usize = 2;

/// The current records of a resource. What is deleted is not in it.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By slot: the hash of the bytes last sent; 0 where there is none.
    hashes: Vec<u128>,
    /// By slot: the source time.
    times: Vec<i64>,
    /// Slots and one, by the low bits of their hashes; 0 where a place is free. A slot whose hash
    /// has become another one stays where it was, too: it is not found there any more.
    table: Vec<u32>,
    held: usize,
}

/// A resource with fewer records than this is looked up record by record.
const WORTH_IT: u64 = 2_000;
/// And so are the first records of a run: one in so many of what there is.
const FIRST: u64 = 20;

/// What is known of a resource while files come in: shared by the thread that splits them and the
/// one that writes.
pub(super) struct Recall<'a> {
    resource: &'a str,
    /// Records there were when the run began.
    live: u64,
    wanted: bool,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    known: Option<Known>,
    /// The last sequence that it knows of.
    sequence: u64,
}

impl<'a> Recall<'a> {
    pub(super) fn new(store: &Store, resource: &'a str, wanted: bool) -> Result<Self> {
        let snapshot = store.snapshot()?;
        let held = snapshot.schema().resource(resource).is_some();
        let live = if held { snapshot.count(resource)? } else { 0 };
        Ok(Recall {
            resource,
            live,
            wanted: wanted && live >= WORTH_IT,
            state: RwLock::default(),
        })
    }

    /// Nothing is known, ever.
    #[cfg(test)]
    pub(super) fn none(resource: &'a str) -> Self {
        Recall {
            resource,
            live: 0,
            wanted: false,
            state: RwLock::default(),
        }
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `with` on what is known now.
    pub(super) fn with<R>(&self, with: impl FnOnce(Option<&Known>) -> R) -> R {
        with(self.state().known.as_ref())
    }

    /// Whether so much has come that it is worth knowing all there is.
    pub(super) fn is_wanted(&self, session: &Session<'_>) -> bool {
        let come = session.pending_report().records;
        self.wanted && come >= self.live / FIRST && self.with(|known| known.is_none())
    }

    /// Reads it, when it is wanted. Nothing may be open.
    pub(super) fn load(&self, session: &Session<'_>) -> Result<()> {
        if !self.is_wanted(session) {
            return Ok(());
        }
        let snapshot = session.snapshot()?;
        let mut known = Known::with_slots(snapshot.slots(self.resource));
        snapshot.each_head(self.resource, |head| {
            known.note(head.slot, head.raw_hash, head.source_time);
        })?;
        *self.state_mut() = State {
            known: Some(known),
            sequence: snapshot.sequence(),
        };
        Ok(())
    }

    /// Forgets all when somebody else has written since. A transaction must be open.
    pub(super) fn check(&self, sequence: u64) {
        let mut state = self.state_mut();
        if state.sequence != sequence {
            state.known = None;
        }
    }

    /// Notes what has become of records.
    pub(super) fn note(&self, touched: &[(u32, u128, Option<Timestamp>)], sequence: u64) {
        let mut state = self.state_mut();
        state.sequence = sequence;
        if let Some(known) = &mut state.known {
            for (slot, hash, time) in touched {
                match hash {
                    0 => known.forget(*slot),
                    _ => known.note(*slot, *hash, *time),
                }
            }
        }
    }
}

const NO_TIME: i64 = i64::MIN;

impl Known {
    /// Room for so many slots.
    pub(crate) fn with_slots(slots: u32) -> Self {
        let slots = slots as usize;
        Known {
            hashes: vec![0; slots],
            times: vec![NO_TIME; slots],
            table: vec![0; (slots * ROOM).next_power_of_two().max(16)],
            held: 0,
        }
    }

    fn place(&self, hash: u128) -> usize {
        let low = u64::try_from(hash & u128::from(u64::MAX)).unwrap_or(0);
        usize::try_from(low).unwrap_or(0) & (self.table.len() - 1)
    }

    /// The slot of the record that was last sent as bytes of that hash.
    pub(crate) fn find(&self, hash: u128) -> Option<u32> {
        let mut at = self.place(hash);
        loop {
            let slot = self.table.get(at)?.checked_sub(1)?;
            if self.is(slot, hash) {
                return Some(slot);
            }
            at = (at + 1) & (self.table.len() - 1);
        }
    }

    /// Whether a slot's record was last sent as bytes of that hash.
    pub(crate) fn is(&self, slot: u32, hash: u128) -> bool {
        hash != 0 && self.hashes.get(slot as usize) == Some(&hash)
    }

    /// The source time of a slot's record.
    pub(crate) fn time(&self, slot: u32) -> Option<Timestamp> {
        let time = self.times.get(slot as usize).copied();
        time.filter(|time| *time != NO_TIME).map(Timestamp)
    }

    /// Notes how a slot's record was sent now.
    pub(crate) fn note(&mut self, slot: u32, hash: u128, time: Option<Timestamp>) {
        let at = slot as usize;
        if self.hashes.len() <= at {
            self.hashes.resize(at + 1, 0);
            self.times.resize(at + 1, NO_TIME);
        }
        if let (Some(own), Some(own_time)) = (self.hashes.get_mut(at), self.times.get_mut(at)) {
            *own = hash;
            *own_time = time.map_or(NO_TIME, |time| time.0);
        }
        if (self.held + 1) * 4 > self.table.len() * 3 {
            self.rebuild();
        } else {
            self.put(slot, hash);
        }
    }

    /// Forgets a slot's record.
    pub(crate) fn forget(&mut self, slot: u32) {
        if let Some(own) = self.hashes.get_mut(slot as usize) {
            *own = 0;
        }
    }

    fn put(&mut self, slot: u32, hash: u128) {
        let mut at = self.place(hash);
        while let Some(place) = self.table.get_mut(at) {
            if *place == 0 {
                *place = slot + 1;
                self.held += 1;
                return;
            }
            at = (at + 1) & (self.table.len() - 1);
        }
    }

    /// Builds the table anew, without what is stale.
    fn rebuild(&mut self) {
        let size = (self.hashes.len() * ROOM).next_power_of_two().max(16);
        self.table.clear();
        self.table.resize(size, 0);
        self.held = 0;
        let hashes = std::mem::take(&mut self.hashes);
        for (slot, hash) in (0_u32..).zip(&hashes) {
            if *hash != 0 {
                self.put(slot, *hash);
            }
        }
        self.hashes = hashes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn it_finds_what_was_noted_last(
            steps in proptest::collection::vec((0_u32..40, 0_u128..60, any::<bool>()), 0..400),
        ) {
            let mut known = Known::with_slots(3);
            let mut model: HashMap<u32, u128> = HashMap::new();
            for (slot, hash, keep) in steps {
                // Two records never have one hash.
                let hash = (hash << 70) + u128::from(slot) + 1;
                if keep {
                    known.note(slot, hash, Some(Timestamp(i64::from(slot))));
                    model.insert(slot, hash);
                } else {
                    known.forget(slot);
                    model.remove(&slot);
                }
                prop_assert_eq!(known.find(hash).is_some(), keep);
            }
            for (slot, hash) in model {
                prop_assert_eq!(known.find(hash), Some(slot));
                prop_assert_eq!(known.time(slot), Some(Timestamp(i64::from(slot))));
            }
        }
    }
}
