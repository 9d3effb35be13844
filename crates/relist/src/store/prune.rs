//! Pruning: history that is older than wanted goes, what is current stays.
//!
//! After a prune the log begins behind its *edge*, a sequence: every moment from there on can be
//! asked for as before, and an earlier one is an error, never a wrong answer. A record that was
//! deleted by then keeps its head and its tombstone, so that a relisting is known as one.

use std::collections::BTreeSet;

use super::changelog::Entry;
use super::format::{TableId, decode, encode};
use super::guarded::ReadableTable as _;
use super::moments::{begin_instants, instant_of};
use super::purge::Gone;
use super::snapshot::past;
use super::tables as t;
use super::{Head, Snapshot, Store, WriteTxn, engine};
use crate::error::Result;
use crate::value::Timestamp;

/// In `meta`: the sequence up to which the log was pruned.
const EDGE: &str = "pruned";

/// What a prune removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Changes up to this sequence are gone: the past can be asked for from here on.
    pub edge: u64,
    /// Entries of the log that were removed.
    pub changes: u64,
    /// Versions that were removed.
    pub versions: u64,
    /// A watcher that has still to deliver what would have been removed: it held the prune back.
    pub held_by: Option<String>,
}

impl Snapshot {
    /// The sequence up to which changes were pruned; 0 when none were.
    pub fn pruned(&self) -> Result<u64> {
        let meta = self.txn.open_table(t::META).map_err(engine)?;
        let found = meta.get(EDGE).map_err(engine)?;
        found.map_or(Ok(0), |bytes| decode((TableId::Meta, EDGE), bytes.value()))
    }
}

impl Store {
    /// Removes the versions that ended, and the changes that were observed, before a time. What a
    /// watcher has not delivered yet stays, and what is newer than it.
    ///
    /// The space is used again; [`Store::compact`] gives it back.
    ///
    /// # Errors
    /// What the engine fails with; then nothing is changed.
    pub fn prune(&self, before: Timestamp, observed: Timestamp) -> Result<PruneReport> {
        let snapshot = self.snapshot()?;
        let old = snapshot.pruned()?;
        let mut report = PruneReport::default();
        let wanted = snapshot.last_before(before)?;
        // The last entry stays: by it the log tells where it begins.
        let mut edge = wanted.min(snapshot.sequence().saturating_sub(1));
        for (name, position) in snapshot.positions()? {
            if position.sequence < edge {
                edge = position.sequence;
                report.held_by = Some(name);
            }
        }
        report.edge = edge.max(old);
        if edge <= old {
            return Ok(report);
        }
        drop(snapshot);
        let mut txn = self.begin_write(observed)?;
        txn.prune((old, edge), &mut report)?;
        txn.commit()?;
        Ok(report)
    }
}

impl Snapshot {
    /// The last sequence observed before a time; 0 when there is none.
    fn last_before(&self, before: Timestamp) -> Result<u64> {
        let instants = self.txn.open_table(t::INSTANTS).map_err(engine)?;
        let last = instants.range(..before.0).map_err(engine)?.next_back();
        let last = last.transpose().map_err(engine)?;
        last.map_or(Ok(0), |(at, value)| {
            Ok(instant_of(at.value(), value.value())?.0)
        })
    }
}

impl WriteTxn {
    pub(super) fn prune(
        &mut self,
        (old, edge): (u64, u64),
        report: &mut PruneReport,
    ) -> Result<()> {
        let ids = 0..self.catalog.schema.resources.len();
        for id in ids.filter_map(|id| u16::try_from(id).ok()) {
            let mut rows = self.prune_history(id, edge)?;
            let mut dead = Gone::default();
            for head in self.dead(id, (old, edge))? {
                rows.insert(head.row);
                dead.slots.insert(head.slot);
            }
            report.versions += rows.len() as u64;
            self.hollow(id, &rows)?;
            // No sequence is given here; edges only grow.
            self.erase_columns(id, &mut dead, u64::MAX - edge)?;
            self.retain_events(id, |sequence, _| sequence > edge, |_| {})?;
        }
        let mut log = self.txn.open_table(t::CHANGELOG).map_err(engine)?;
        let mut by_key = self.txn.open_table(t::CHANGES_BY_KEY).map_err(engine)?;
        for item in log.range(..=edge).map_err(engine)? {
            let (sequence, value) = item.map_err(engine)?;
            let entry = Entry::decode(sequence.value(), value.value())?;
            let own = t::slot_key(entry.resource, entry.slot, sequence.value());
            by_key.remove(own.as_slice()).map_err(engine)?;
            report.changes += 1;
        }
        log.retain_in(..=edge, |_, _| false).map_err(engine)?;
        // The edge itself can still be asked for by its time.
        let mut instants = self.txn.open_table(t::INSTANTS).map_err(engine)?;
        begin_instants(&mut instants, edge)?;
        let mut meta = self.txn.open_table(t::META).map_err(engine)?;
        let value = encode((TableId::Meta, EDGE), &edge)?;
        meta.insert(EDGE, value.as_slice()).map_err(engine)?;
        Ok(())
    }

    /// Removes the past versions that ended by the edge; their rows.
    fn prune_history(&self, id: u16, edge: u64) -> Result<BTreeSet<u64>> {
        let mut history = self.txn.open_table(t::HISTORY).map_err(engine)?;
        let (start, end) = t::resource_range(id);
        let ended = |key: &[u8]| t::split_slot_key(key).is_some_and(|(.., at)| at <= edge);
        let mut rows = BTreeSet::new();
        let range = history.range(start.as_slice()..end.as_slice());
        for item in range.map_err(engine)? {
            let (key, value) = item.map_err(engine)?;
            if ended(key.value()) {
                rows.insert(past(key.value(), value.value())?.0);
            }
        }
        history
            .retain_in(start.as_slice()..end.as_slice(), |key, _| !ended(key))
            .map_err(engine)?;
        Ok(rows)
    }

    /// The heads of records that were deleted between two edges: their history ended there.
    fn dead(&self, id: u16, (old, edge): (u64, u64)) -> Result<Vec<Head>> {
        let heads = self.txn.open_table(t::HEADS).map_err(engine)?;
        let (start, end) = t::resource_range(id);
        let mut out = Vec::new();
        for item in heads
            .range(start.as_slice()..end.as_slice())
            .map_err(engine)?
        {
            let (key, value) = item.map_err(engine)?;
            let head = Head::decode(key.value(), value.value())?;
            if head.deleted && (old + 1..=edge).contains(&head.valid_from) {
                out.push(head);
            }
        }
        Ok(out)
    }
}
