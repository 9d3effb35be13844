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
#[derive(Debug)]
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
const FIRST: u64 = 50;

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
        let id = snapshot.catalog().require(self.resource)?;
        let mut known = Known::with_slots(snapshot.slots(id));
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
    use crate::decode::{KeySpec, SplitPage};
    use crate::ingest::{Applying, MODIFICATION_TIMESTAMP};
    use crate::store::{Cause, RunReport};
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::Arc;

    /// A listing in one of three states; the later state is stamped later.
    fn record(key: u32, state: u32) -> String {
        format!(
            "{{\"ListingKey\":\"k{key}\",\"ListPrice\":{},\"Rooms\":[{{\"ListingKey\":1}},\
             {{\"ListingKey\":2}}],\"ModificationTimestamp\":\"2024-01-0{}T00:00:00Z\"}}",
            1_000 + state,
            state + 1,
        )
    }

    fn body(records: &[(u32, u32)]) -> Vec<u8> {
        let records = records.iter().map(|(key, state)| record(*key, *state));
        let records: Vec<_> = records.collect();
        format!("{{\"value\":[{}]}}", records.join(",")).into_bytes()
    }

    /// One batch of pages; how many records were recognised, and the report.
    fn apply(
        store: &Store,
        pages: &[Vec<(u32, u32)>],
        known: Option<&mut Known>,
    ) -> (usize, RunReport) {
        let mut txn = store.begin_write(Timestamp(1)).unwrap();
        let spec = Arc::new(KeySpec::new("ListingKey".into(), false));
        let mut report = RunReport::default();
        let find = |hash| known.as_deref().and_then(|known| known.find(hash));
        let split = |page: &Vec<(u32, u32)>| {
            SplitPage::scan("Property", "p", body(page), Some(&spec), Some(&find)).unwrap()
        };
        let mut pages: Vec<SplitPage> = pages.iter().map(split).collect();
        let entities = pages.iter().flat_map(|page| &page.entities);
        let recognised = entities.filter(|entity| entity.known.is_some()).count();
        txn.touched = Some(Vec::new());
        txn.settle_known(&mut pages, known.as_deref()).unwrap();
        let mut to = Applying::new(Cause::Ingest, MODIFICATION_TIMESTAMP, &mut report);
        to.known = known.as_deref();
        txn.apply_pages(&pages, &mut to).unwrap();
        let touched = txn.touched.take().unwrap();
        txn.commit().unwrap();
        if let Some(known) = known {
            for (slot, hash, time) in touched {
                known.note(slot, hash, time);
            }
        }
        (recognised, report)
    }

    /// Every change, without what differs between two stores.
    fn changes(store: &Store) -> Vec<String> {
        let snapshot = store.snapshot().unwrap();
        let changes = snapshot.changes(0).unwrap().map(Result::unwrap);
        changes.map(|change| format!("{change:?}")).collect()
    }

    #[test]
    fn what_is_known_is_recognised_and_nothing_is_lost_by_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = |name: &str| Store::create(folder.path().join(name), Timestamp(0)).unwrap();
        let (plain, quick) = (store("plain"), store("quick"));
        let mut known = Known::with_slots(0);
        let all: Vec<(u32, u32)> = (0..20).map(|key| (key, 0)).collect();
        // The last of the others are what makes it hard: a record twice in a page with other
        // bytes, one that changes and changes back, one that comes again as it was.
        let batches: [&[Vec<(u32, u32)>]; 7] = [
            std::slice::from_ref(&all),
            std::slice::from_ref(&all),
            &[all
                .iter()
                .map(|(key, _)| (*key, u32::from(*key == 7)))
                .collect()],
            &[vec![(1, 0), (2, 0), (3, 0), (2, 2), (4, 0)]],
            &[vec![(5, 0), (6, 1), (8, 0)], vec![(9, 0), (6, 0), (10, 0)]],
            &[
                vec![(9, 0), (6, 0), (10, 0), (6, 0), (11, 0)],
                vec![(5, 0), (6, 1), (8, 0)],
            ],
            &[all.clone(), all.clone()],
        ];
        let mut recognised = Vec::new();
        for pages in batches {
            let (_, expected) = apply(&plain, pages, None);
            let (count, report) = apply(&quick, pages, Some(&mut known));
            recognised.push(count);
            assert_eq!(report, expected, "{pages:?}");
        }
        // The first of a page and its last are always looked at.
        assert_eq!(recognised, [0, 18, 17, 2, 1, 3, 30]);
        assert_eq!(changes(&quick), changes(&plain));
        assert!(quick.snapshot().unwrap().verify().unwrap().is_clean());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn with_it_and_without_it_is_the_same(
            batches in proptest::collection::vec(
                proptest::collection::vec(
                    proptest::collection::vec((0_u32..8, 0_u32..3), 1..9), 1..4), 1..6),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let store = |name: &str| Store::create(folder.path().join(name), Timestamp(0)).unwrap();
            let (plain, quick) = (store("plain"), store("quick"));
            let mut known = Known::with_slots(0);
            for pages in &batches {
                let (_, expected) = apply(&plain, pages, None);
                let (_, report) = apply(&quick, pages, Some(&mut known));
                prop_assert_eq!(report, expected);
            }
            prop_assert_eq!(changes(&quick), changes(&plain));
        }
    }

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
