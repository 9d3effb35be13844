//! Staging: what changes of records make of the tables.
//!
//! Tables of one transaction may be written from several threads, a table by one of them. So of
//! many changes bodies and the log are written beside heads, history and columns. Few of them are
//! written by one thread, in one order.

use std::sync::Arc;

use super::bodies::{BlockWriter, Packed};
use super::changelog::{Cause, Entry, Operation};
use super::columns::{ColumnEdits, make_blocks, note_columns};
use super::field_changes::Origin;
use super::format::{TableId, seal};
use super::tables as t;
use super::{Counters, Head, WriteTxn, engine};
use crate::column::Block;
use crate::diff::FieldDiff;
use crate::error::{Error, Result};
use crate::keycode::Key;
use crate::record::RecordBuf;
use crate::value::Timestamp;

/// So many changes are worth a second thread.
const MANY: usize = 128;

/// A record change, decided and encoded, that only needs its sequence.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) key: Key,
    pub(crate) head: Option<Head>,
    /// The body, and the same as it is stored.
    pub(crate) body: RecordBuf,
    pub(crate) packed: Packed,
    pub(crate) raw_hash: u128,
    pub(crate) canonical: u128,
    pub(crate) source_time: Option<Timestamp>,
    pub(crate) changes: Vec<FieldDiff>,
    /// The body before, of a record that is current.
    pub(crate) previous: Option<RecordBuf>,
    /// The cells of a record that is new: a block, and which of its records.
    pub(crate) block: Option<(Arc<Block>, usize)>,
}

impl Staged {
    /// What the change is.
    pub(crate) fn operation(&self) -> Operation {
        match self.head {
            None => Operation::Insert,
            Some(head) if head.deleted => Operation::Relist,
            Some(_) => Operation::Update,
        }
    }

    /// The head before, of a record that is current.
    fn live_head(&self) -> Option<&Head> {
        self.head.as_ref().filter(|head| !head.deleted)
    }
}

/// A change with its place in the store.
struct Placed {
    item: Staged,
    sequence: u64,
    row: u64,
    slot: u32,
}

impl Placed {
    /// The head of the record from then on.
    fn head(&self) -> Head {
        let item = &self.item;
        Head {
            slot: self.slot,
            row: self.row,
            raw_hash: item.raw_hash,
            canonical: item.canonical,
            valid_from: self.sequence,
            source_time: item.source_time,
            epoch: item.head.map_or(0, |h| h.epoch + u16::from(h.deleted)),
            deleted: false,
        }
    }
}

impl WriteTxn {
    /// Writes record changes, giving each its sequence, in the order they come.
    pub(crate) fn stage(
        &mut self,
        resource: u16,
        cause: Cause,
        mut staged: Vec<Staged>,
    ) -> Result<()> {
        self.complete(&mut staged)?;
        let placed = self.place(resource, staged)?;
        let mut columns = std::mem::take(&mut self.columns);
        let txn = &*self;
        let told = || {
            txn.stage_bodies(resource, &placed)?;
            txn.stage_log(resource, cause, &placed)
        };
        let mut kept = || {
            txn.stage_heads(resource, &placed)?;
            txn.stage_columns(resource, cause, &placed, &mut columns);
            Ok::<(), Error>(())
        };
        let (told, kept) = if placed.len() < MANY {
            (told(), kept())
        } else {
            rayon::join(told, kept)
        };
        self.columns = columns;
        told.and(kept)
    }

    /// Reads what deleted records were before they come back, and makes blocks of new ones.
    fn complete(&self, staged: &mut [Staged]) -> Result<()> {
        make_blocks(staged);
        let dead = |item: &&mut Staged| item.head.is_some_and(|head| head.deleted);
        let mut items: Vec<&mut Staged> = staged.iter_mut().filter(dead).collect();
        let rows = items.iter().filter_map(|item| item.head);
        let bodies = self.bodies(&rows.map(|head| head.row).collect::<Vec<_>>())?;
        for (item, body) in items.iter_mut().zip(bodies) {
            item.previous = Some(body);
        }
        Ok(())
    }

    /// Gives each change its sequence, its row and its slot.
    fn place(&mut self, resource: u16, staged: Vec<Staged>) -> Result<Vec<Placed>> {
        let mut placed = Vec::with_capacity(staged.len());
        for item in staged {
            self.counters.sequence += 1;
            self.counters.row += 1;
            let slot = match item.head {
                Some(head) => head.slot,
                None => next_slot(&mut self.counters, resource)?,
            };
            if item.operation() != Operation::Update {
                add_live(&mut self.counters, resource, 1);
            }
            if let Some(touched) = &mut self.touched {
                touched.push((slot, item.raw_hash, item.source_time));
            }
            placed.push(Placed {
                item,
                sequence: self.counters.sequence,
                row: self.counters.row,
                slot,
            });
        }
        Ok(placed)
    }

    fn stage_bodies(&self, resource: u16, placed: &[Placed]) -> Result<()> {
        let mut versions = self.txn.open_table(t::VERSIONS).map_err(engine)?;
        let mut block = BlockWriter::new(resource);
        for Placed { item, row, .. } in placed {
            block.push(&mut versions, *row, &item.packed)?;
        }
        block.flush(&mut versions)
    }

    fn stage_log(&self, resource: u16, cause: Cause, placed: &[Placed]) -> Result<()> {
        let mut by_key = Vec::with_capacity(placed.len());
        let mut changelog = self.txn.open_table(t::CHANGELOG).map_err(engine)?;
        for at in placed {
            let item = &at.item;
            let entry = Entry {
                slot: at.slot,
                key: Some(item.key.clone()),
                source_time: item.source_time,
                previous_row: item.live_head().map_or(0, |head| head.row),
                row: at.row,
                fields: item.changes.clone(),
                ..self.entry(item.operation(), cause, resource)
            };
            let value = entry.encode(at.sequence);
            changelog
                .insert(at.sequence, value.as_slice())
                .map_err(engine)?;
            by_key.push(t::slot_key(resource, at.slot, at.sequence));
        }
        drop(changelog);
        self.insert_by_key(by_key)
    }

    fn stage_heads(&self, resource: u16, placed: &[Placed]) -> Result<()> {
        let mut heads = Vec::with_capacity(placed.len());
        let mut history = Vec::new();
        let mut lifted = Vec::new();
        for at in placed {
            let key = t::record_key(resource, &at.item.key);
            if at.item.operation() != Operation::Update {
                lifted.push(key.clone());
            }
            if let Some(head) = at.item.live_head() {
                history.push(past(resource, head, at.sequence));
            }
            let value = at.head().encode(&key);
            heads.push((key, value));
        }
        self.insert_sorted(t::HEADS, heads)?;
        self.insert_sorted(t::HISTORY, history)?;
        self.lift(lifted)
    }

    fn stage_columns(
        &self,
        resource: u16,
        cause: Cause,
        placed: &[Placed],
        columns: &mut ColumnEdits,
    ) {
        let origin = Origin {
            observed: self.observed(),
            cause,
            run: self.run(),
        };
        for at in placed {
            let place = (resource, at.slot, at.row);
            note_columns(columns, place, at.sequence, &at.item, origin);
        }
    }

    /// Ends the tombstones of keys that appear; also of one that was never seen.
    fn lift(&self, mut keys: Vec<Vec<u8>>) -> Result<()> {
        keys.sort_unstable();
        let mut table = self.txn.open_table(t::TOMBSTONES).map_err(engine)?;
        for key in keys {
            table.remove(key.as_slice()).map_err(engine)?;
        }
        Ok(())
    }

    pub(super) fn insert_by_key(&self, mut keys: Vec<[u8; 14]>) -> Result<()> {
        keys.sort_unstable();
        let mut table = self.txn.open_table(t::CHANGES_BY_KEY).map_err(engine)?;
        for key in keys {
            table.insert(key.as_slice(), ()).map_err(engine)?;
        }
        Ok(())
    }

    /// Sorted inserts are far cheaper than random ones.
    pub(super) fn insert_sorted(
        &self,
        table: redb::TableDefinition<'static, t::Bytes, t::Bytes>,
        mut rows: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<()> {
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut table = self.txn.open_table(table).map_err(engine)?;
        for (key, value) in rows {
            table
                .insert(key.as_slice(), value.as_slice())
                .map_err(engine)?;
        }
        Ok(())
    }
}

/// The entry of the history of what a record was until a sequence.
pub(super) fn past(resource: u16, head: &Head, ended: u64) -> (Vec<u8>, Vec<u8>) {
    let mut value = head.row.to_le_bytes().to_vec();
    value.extend_from_slice(&head.valid_from.to_le_bytes());
    let key = t::slot_key(resource, head.slot, ended).to_vec();
    let value = seal((TableId::History, key.as_slice()), value);
    (key, value)
}

fn next_slot(counters: &mut Counters, resource: u16) -> Result<u32> {
    let at = usize::from(resource);
    if counters.slots.len() <= at {
        counters.slots.resize(at + 1, 0);
    }
    let slots = counters.slots.get_mut(at);
    let slot = slots.ok_or_else(|| Error::Usage("too many resources".to_owned()))?;
    *slot = slot
        .checked_add(1)
        .ok_or_else(|| Error::Usage("too many records".to_owned()))?;
    Ok(*slot - 1)
}

pub(super) fn add_live(counters: &mut Counters, resource: u16, by: i64) {
    let at = usize::from(resource);
    if counters.live.len() <= at {
        counters.live.resize(at + 1, 0);
    }
    if let Some(live) = counters.live.get_mut(at) {
        *live = live.saturating_add_signed(by);
    }
}
