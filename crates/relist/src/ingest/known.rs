//! The records as they were last sent, by the hash of their bytes.
//!
//! Held in memory while many records come in, so that one that did not change costs a hash and a
//! look into a table. 31 bytes a record: 62 MB for two million.

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
