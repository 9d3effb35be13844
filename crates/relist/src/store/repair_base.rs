//! Repair of a store whose log does not begin with the first change: what there was by then.
//!
//! The records as they were at the edge are logged as if they had come then, in sequences that
//! were given before it; and that log is pruned as any other is. So whatever a prune leaves, in
//! whichever table, a repair leaves.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::bodies::BlockHeader;
use super::changelog::{Cause, Entry, Operation};
use super::field_changes::Origin;
use super::format::{TableId, corrupt};
use super::moments::{instant_of, put_instant};
use super::prune::PruneReport;
use super::purge::hole;
use super::repair::{BATCH, Repair, flush};
use super::tables as t;
use super::{Head, Packed, Staged, Store, WriteTxn, engine};
use crate::diff::canonical_hash;
use crate::error::Result;
use crate::keycode::Key;
use crate::value::Timestamp;

/// A record as it was at the edge.
struct Base {
    resource: u16,
    key: Key,
    /// Its row then; 0 when nothing tells it: of a deleted record.
    row: u64,
    deleted: bool,
    /// Its head now, when that can be read.
    head: Option<Head>,
    /// Whether the head is the one from then.
    same: bool,
    /// How often it came back since.
    relists: u16,
}

/// The first change of a record that is left in the log.
struct First {
    key: Key,
    operation: Operation,
    previous_row: u64,
    relists: u16,
}

impl Repair<'_> {
    /// Makes what there was at the edge.
    pub(super) fn lay_base(&mut self, new: &Store) -> Result<()> {
        let mut txn = new.begin_write(Timestamp(0))?;
        *txn.catalog_mut() = self.old.catalog().clone();
        txn.commit()?;
        if self.edge == 0 {
            return Ok(());
        }
        let mut base = self.base()?;
        base.sort_by_key(|own| own.row);
        let given = base.len() + base.iter().filter(|own| own.deleted).count();
        if given as u64 > self.edge {
            let what = "more records than changes come before what is left of it";
            return Err(corrupt(TableId::Changelog, what));
        }
        for batch in base.chunks(BATCH) {
            let mut txn = new.begin_write(Timestamp(0))?;
            for own in batch.chunk_by(|a, b| a.resource == b.resource) {
                self.come(&mut txn, own)?;
            }
            txn.commit()?;
        }
        let mut txn = new.begin_write(Timestamp(0))?;
        self.date(&mut txn, &base)?;
        for own in base.iter().filter(|own| own.deleted) {
            end(&mut txn, own)?;
        }
        txn.commit()?;
        self.cut_off(new)
    }

    /// Stages records of one resource as new ones.
    fn come(&mut self, txn: &mut WriteTxn, base: &[Base]) -> Result<()> {
        let mut waiting = Vec::with_capacity(base.len());
        let Some(first) = base.first() else {
            return Ok(());
        };
        let resource = first.resource;
        for own in base {
            let (body, exact) = if own.deleted {
                (hole(), true)
            } else {
                self.body_of(own.row, (resource, own.head), &own.key)?
            };
            let def = self.old.catalog().resource(resource);
            let canonical = def.map_or(0, |r| canonical_hash(body.as_body().cells(), r));
            let held = own.head.filter(|_| own.same);
            let proven = held.is_some_and(|head| head.canonical == canonical);
            if !exact {
                self.repaired.rebuilt += u64::from(proven);
                if !proven {
                    self.unsure.insert(own.row, (resource, own.key.clone()));
                }
            }
            let known = held.filter(|_| exact || proven);
            waiting.push(Staged {
                packed: Packed::default(),
                raw_hash: known.map_or(0, |head| head.raw_hash),
                canonical: held.filter(|_| exact).map_or(canonical, |h| h.canonical),
                key: own.key.clone(),
                head: None,
                body,
                source_time: held.and_then(|head| head.source_time),
                changes: Vec::new(),
                previous: None,
                block: None,
            });
            self.rows.push(own.row);
        }
        let origin = Origin {
            observed: Timestamp(0),
            cause: Cause::Sync,
            run: 0,
        };
        flush(txn, Some((resource, origin)), &mut waiting)
    }

    /// Says since when the records were as they are, as far as that is known.
    fn date(&self, txn: &mut WriteTxn, base: &[Base]) -> Result<()> {
        for own in base {
            let at = t::record_key(own.resource, &own.key);
            let head = txn.heads(own.resource, std::iter::once(&own.key))?.pop();
            let Some(head) = head.flatten() else { continue };
            let since = own.head.filter(|_| own.same && !own.deleted);
            let since = since.map_or(self.edge, |head| head.valid_from.min(self.edge));
            let epoch = own.head.map_or(0, |head| head.epoch);
            let head = Head {
                valid_from: since,
                epoch: epoch.saturating_sub(own.relists),
                ..head
            };
            let mut table = txn.txn.open_table(t::HEADS).map_err(engine)?;
            let value = head.encode(&at);
            table
                .insert(at.as_slice(), value.as_slice())
                .map_err(engine)?;
        }
        Ok(())
    }

    /// Prunes what was only logged to make the records.
    fn cut_off(&self, new: &Store) -> Result<()> {
        let edge = self.edge;
        let mut txn = new.begin_write(self.moment_of(edge)?)?;
        txn.prune((0, edge), &mut PruneReport::default())?;
        {
            let mut instants = txn.txn.open_table(t::INSTANTS).map_err(engine)?;
            instants
                .retain_in::<i64>(.., |_, _| false)
                .map_err(engine)?;
            put_instant(&mut instants, txn.observed().0, edge)?;
        }
        txn.counters.sequence = edge;
        txn.commit()?;
        if edge < self.old.sequence() {
            return Ok(());
        }
        // By its last entry the log tells where it begins.
        let observed = self.old.counters.observed.unwrap_or(Timestamp(0));
        let mut txn = new.begin_write(observed)?;
        let note = "the log could not be read when the store was repaired".to_owned();
        let entry = super::purge::empty_entry(0, 0, observed);
        txn.replay_empty(&Entry { note, ..entry })?;
        txn.commit()?;
        Ok(())
    }

    /// When the change of the edge was observed; else when the one behind it was.
    fn moment_of(&self, edge: u64) -> Result<Timestamp> {
        let instants = self.old.txn.open_table(t::INSTANTS).map_err(engine)?;
        for item in instants.range::<i64>(..).map_err(engine)? {
            let Ok((at, value)) = item else { break };
            let own = instant_of(at.value(), value.value());
            if own.is_ok_and(|(sequence, _)| sequence == edge) {
                return Ok(Timestamp(at.value()));
            }
        }
        let next = self.entry(edge + 1).map(|entry| entry.observed);
        Ok(next.unwrap_or(Timestamp(0)))
    }

    /// The records that there were at the edge.
    fn base(&self) -> Result<Vec<Base>> {
        let mut first = self.first_changes();
        let mut out = Vec::new();
        let mut whole = true;
        let heads = self.old.txn.open_table(t::HEADS).map_err(engine)?;
        for item in heads.range::<&[u8]>(..).map_err(engine)? {
            let Ok((key, value)) = item else {
                whole = false;
                break;
            };
            let resource = key.value().first_chunk().map(|c| u16::from_be_bytes(*c));
            let head = Head::decode(key.value(), value.value());
            let (Some(resource), Ok(head), Some(key)) = (resource, head, t::key_of(key.value()))
            else {
                whole = false;
                continue;
            };
            match first.remove(&(resource, head.slot)) {
                Some(own) => out.extend(changed_since(resource, own, Some(head))),
                None => out.push(Base {
                    resource,
                    key,
                    row: head.row,
                    deleted: head.deleted,
                    head: Some(head),
                    same: true,
                    relists: 0,
                }),
            }
        }
        // Of these the log alone tells the keys.
        let rest = first.into_iter();
        out.extend(rest.filter_map(|((resource, _), own)| changed_since(resource, own, None)));
        if !whole {
            self.add_headless(&mut out)?;
        }
        Ok(out)
    }

    /// By resource and slot, the first change that is left.
    fn first_changes(&self) -> HashMap<(u16, u32), First> {
        let mut out: HashMap<(u16, u32), First> = HashMap::new();
        for sequence in self.edge + 1..=self.old.sequence() {
            let Ok(entry) = self.entry(sequence) else {
                continue;
            };
            let Some(key) = entry.key else { continue };
            let own = out.entry((entry.resource, entry.slot));
            let own = own.or_insert(First {
                key,
                operation: entry.operation,
                previous_row: entry.previous_row,
                relists: 0,
            });
            own.relists += u16::from(entry.operation == Operation::Relist);
        }
        out
    }

    /// Adds records that nothing but their bodies names: their heads cannot be read, and they did
    /// not change since. Of the bodies of one the last counts.
    fn add_headless(&self, base: &mut Vec<Base>) -> Result<()> {
        let mut known: HashSet<(u16, Key)> = HashSet::new();
        known.extend(base.iter().map(|own| (own.resource, own.key.clone())));
        let later = (self.edge + 1..=self.old.sequence()).filter_map(|s| self.entry(s).ok());
        let mut later_rows = HashSet::new();
        for entry in later {
            later_rows.insert(entry.row);
            known.extend(entry.key.map(|key| (entry.resource, key)));
        }
        let mut found: BTreeMap<(u16, Key), u64> = BTreeMap::new();
        let versions = self.old.txn.open_table(t::VERSIONS).map_err(engine)?;
        for item in versions.range::<u64>(..).map_err(engine)? {
            let Ok((first, block)) = item else { break };
            let Ok(header) = BlockHeader::read(first.value(), block.value()) else {
                continue;
            };
            for row in header.rows().filter(|row| !later_rows.contains(row)) {
                let Ok(body) = self.bodies.body(row) else {
                    continue;
                };
                let key = self.key_in(header.resource, &body);
                let key = key.map(|key| (header.resource, key));
                if let Some(key) = key.filter(|key| !known.contains(key)) {
                    found.insert(key, row);
                }
            }
        }
        let tombstones = self.old.txn.open_table(t::TOMBSTONES).map_err(engine)?;
        for ((resource, key), row) in found {
            let at = t::record_key(resource, &key);
            let buried = tombstones.get(at.as_slice());
            base.push(Base {
                resource,
                key,
                row,
                deleted: buried.is_ok_and(|own| own.is_some()),
                head: None,
                same: false,
                relists: 0,
            });
        }
        Ok(())
    }
}

/// What a record was that changed since; `None` when it was not there yet.
fn changed_since(resource: u16, first: First, head: Option<Head>) -> Option<Base> {
    if first.operation == Operation::Insert {
        return None;
    }
    Some(Base {
        resource,
        key: first.key,
        row: first.previous_row,
        deleted: first.operation == Operation::Relist,
        head,
        same: false,
        relists: first.relists,
    })
}

/// Deletes a record that was deleted by the edge.
fn end(txn: &mut WriteTxn, own: &Base) -> Result<()> {
    let head = txn.heads(own.resource, std::iter::once(&own.key))?.pop();
    let Some(head) = head.flatten() else {
        return Ok(());
    };
    let entry = Entry {
        operation: Operation::Delete,
        cause: Cause::Sync,
        slot: head.slot,
        key: Some(own.key.clone()),
        previous_row: head.row,
        ..super::purge::empty_entry(own.resource, 0, Timestamp(0))
    };
    txn.end_record(own.resource, &own.key, &head, &entry)?;
    Ok(())
}
