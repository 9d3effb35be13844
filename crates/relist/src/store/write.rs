//! Write transactions: the only way anything changes.

use std::sync::Arc;

use super::bodies::{
    BlockHeader, Dictionaries, Dictionary, Held, Packer, TRAIN_AT, block_range, read_dictionary,
    unpack,
};
use super::changelog::{Cause, Entry, Operation};
use super::columns::ColumnEdits;
use super::field_changes::{FieldEvent, Origin, PRESENCE};
use super::format::{TableId, corrupt, decode, encode, seal};
use super::guarded::{Database, ReadableTable as _, Table, WriteTransaction};
use super::moments::put_instant;
use super::stage::{add_live, past};
use super::tables as t;
use super::{
    Birth, Catalog, Checkpoint, Counters, Head, Position, Quarantined, RunReport, Tombstone, engine,
};
use crate::column::SEGMENT_ROWS;
use crate::error::{Error, Result};
use crate::keycode::Key;
use crate::record::RecordBuf;
use crate::schema::Schema;
use crate::value::Timestamp;

/// One atomic change of the store. Dropped without [`commit`](WriteTxn::commit), it never was.
pub struct WriteTxn {
    pub(super) txn: WriteTransaction,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) counters: Counters,
    observed: Timestamp,
    run: u64,
    /// The edition at the start: a catalog of another one is written at the end.
    edition: u64,
    first_sequence: u64,
    /// What is still to be written to columns.
    pub(super) columns: ColumnEdits,
    dictionaries: Dictionaries,
    /// Dictionaries trained by this transaction: nobody else may see them before the commit.
    trained: Vec<Arc<Dictionary>>,
    /// What became of records, when that is asked for: slot, hash of the bytes, source time.
    pub(crate) touched: Option<Vec<(u32, u128, Option<Timestamp>)>>,
}

/// The bodies of a transaction; usable from any thread. Nothing can be written meanwhile.
pub(crate) struct StoredBodies<'t> {
    txn: &'t WriteTxn,
    table: Table<'t, u64, t::Bytes>,
}

impl StoredBodies<'_> {
    /// The bodies of rows, which should come in ascending order: then a block is read once.
    pub(crate) fn read(&self, rows: &[u64]) -> Result<Vec<RecordBuf>> {
        let mut held: Option<Held<'_>> = None;
        let read = rows.iter().map(|&row| {
            if let Some(block) = held.as_ref().filter(|block| block.holds(row)) {
                return block.body(row);
            }
            let range = self.table.range(block_range(row)).map_err(engine)?;
            let block = Held::find(range, row, |id| self.txn.dictionary(id))?;
            held.insert(block).body(row)
        });
        read.collect()
    }
}

/// What came of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// The record is a tombstone now.
    Deleted,
    /// It was one already.
    AlreadyDeleted,
    /// The key was never seen: the deletion is remembered.
    Unknown,
    /// The record was modified after the deletion: it stays.
    Newer,
}

pub(super) fn initialise(database: &Database, birth: &Birth) -> Result<()> {
    let mut txn = database.begin_write().map_err(engine)?;
    txn.set_quick_repair(true);
    {
        let mut meta = txn.open_table(t::META).map_err(engine)?;
        let birth = encode((TableId::Meta, "birth"), birth)?;
        meta.insert("birth", birth.as_slice()).map_err(engine)?;
        let counters = encode((TableId::Meta, "counters"), &Counters::default())?;
        meta.insert("counters", counters.as_slice())
            .map_err(engine)?;
        let mut catalog = txn.open_table(t::CATALOG).map_err(engine)?;
        let empty = encode((TableId::Catalog, "catalog"), &Catalog::default())?;
        catalog
            .insert("catalog", empty.as_slice())
            .map_err(engine)?;
        txn.open_table(t::VERSIONS).map_err(engine)?;
        txn.open_table(t::DICTIONARIES).map_err(engine)?;
        txn.open_table(t::CHANGELOG).map_err(engine)?;
        txn.open_table(t::RUNS).map_err(engine)?;
        txn.open_table(t::CHECKPOINTS).map_err(engine)?;
        txn.open_table(t::POSITIONS).map_err(engine)?;
        txn.open_table(t::INSTANTS).map_err(engine)?;
        txn.open_table(t::CHANGES_BY_KEY).map_err(engine)?;
        for table in [
            t::HEADS,
            t::HISTORY,
            t::TOMBSTONES,
            t::QUARANTINE,
            t::COLUMNS,
            t::COLUMN_CELLS,
            t::FIELD_CHANGES,
        ] {
            txn.open_table(table).map_err(engine)?;
        }
    }
    txn.commit().map_err(engine)
}

impl WriteTxn {
    pub(super) fn begin(
        database: &Database,
        observed: Timestamp,
        dictionaries: Dictionaries,
    ) -> Result<Self> {
        let mut txn = database.begin_write().map_err(engine)?;
        // Opening after a crash stays fast whatever the size of the file.
        txn.set_quick_repair(true);
        let (counters, catalog) = {
            let meta = txn.open_table(t::META).map_err(engine)?;
            let bytes = meta.get("counters").map_err(engine)?;
            let bytes = bytes.ok_or_else(|| corrupt(TableId::Meta, "no counters"))?;
            let counters: Counters = decode((TableId::Meta, "counters"), bytes.value())?;
            let table = txn.open_table(t::CATALOG).map_err(engine)?;
            let bytes = table.get("catalog").map_err(engine)?;
            let bytes = bytes.ok_or_else(|| corrupt(TableId::Catalog, "no catalog"))?;
            (
                counters,
                decode((TableId::Catalog, "catalog"), bytes.value())?,
            )
        };
        let edition = counters.edition;
        let first_sequence = counters.sequence + 1;
        let catalog = Arc::new(catalog);
        Ok(WriteTxn {
            txn,
            catalog,
            counters,
            observed,
            run: 0,
            edition,
            first_sequence,
            columns: ColumnEdits::default(),
            dictionaries,
            trained: Vec::new(),
            touched: None,
        })
    }

    /// Takes over the schema that a feed's `$metadata` declares. Fields are added and retyped,
    /// never removed: stored records stay readable.
    ///
    /// # Errors
    /// [`Error::Usage`] when a resource that holds records would get another key.
    pub fn define(&mut self, schema: &Schema) -> Result<()> {
        let before = Arc::clone(&self.catalog);
        let slots = self.counters.slots.clone();
        let holds = |id: u16| slots.get(usize::from(id)).is_some_and(|n| *n > 0);
        let events = Arc::make_mut(&mut self.catalog).define(schema, holds)?;
        if self.catalog != before {
            self.counters.edition += 1;
        }
        for (resource, note) in events {
            self.log_schema(resource, Cause::Metadata, note)?;
        }
        Ok(())
    }

    /// Changes the catalog in place; it is written at commit.
    pub(crate) fn catalog_mut(&mut self) -> &mut Catalog {
        if self.counters.edition == self.edition {
            self.counters.edition += 1;
        }
        Arc::make_mut(&mut self.catalog)
    }

    /// Logs a change of the schema.
    pub(crate) fn log_schema(&mut self, resource: u16, cause: Cause, note: String) -> Result<()> {
        self.counters.sequence += 1;
        let entry = Entry {
            note,
            ..self.entry(Operation::Schema, cause, resource)
        };
        let mut changelog = self.txn.open_table(t::CHANGELOG).map_err(engine)?;
        changelog
            .insert(
                self.counters.sequence,
                entry.encode(self.counters.sequence).as_slice(),
            )
            .map_err(engine)?;
        Ok(())
    }

    /// A log entry of this transaction that says nothing yet.
    pub(super) fn entry(&self, operation: Operation, cause: Cause, resource: u16) -> Entry {
        Entry {
            operation,
            cause,
            run: self.run,
            resource,
            slot: 0,
            key: None,
            source_time: None,
            observed: self.observed,
            previous_row: 0,
            row: 0,
            fields: Vec::new(),
            note: String::new(),
        }
    }

    /// The run that changes are logged under.
    pub(super) fn run(&self) -> u64 {
        self.run
    }

    /// Logs changes under a run that has its number.
    pub(crate) fn set_run(&mut self, run: u64) {
        self.run = run;
    }

    /// The time and the run that changes are logged under from now on.
    pub(super) fn set_origin(&mut self, observed: Timestamp, run: u64) {
        (self.observed, self.run) = (observed, run);
    }

    /// The time of this transaction, as the caller gave it.
    pub(crate) fn observed(&self) -> Timestamp {
        self.observed
    }

    /// Gives out the number of a new run, and logs changes under it.
    pub fn new_run(&mut self) -> u64 {
        self.counters.run += 1;
        self.run = self.counters.run;
        self.run
    }

    /// The heads of keys, which should come in ascending order: then it is one pass.
    pub(crate) fn heads<'k>(
        &self,
        resource: u16,
        keys: impl Iterator<Item = &'k Key>,
    ) -> Result<Vec<Option<Head>>> {
        let table = self.txn.open_table(t::HEADS).map_err(engine)?;
        keys.map(|key| {
            let at = t::record_key(resource, key);
            let found = table.get(at.as_slice()).map_err(engine)?;
            found
                .map(|bytes| Head::decode(&at, bytes.value()))
                .transpose()
        })
        .collect()
    }

    /// The bodies of rows, which should come in ascending order: then a block is read once.
    pub(crate) fn bodies(&self, rows: &[u64]) -> Result<Vec<RecordBuf>> {
        self.stored_bodies()?.read(rows)
    }

    /// The bodies that are stored, also by this transaction.
    pub(crate) fn stored_bodies(&self) -> Result<StoredBodies<'_>> {
        let table = self.txn.open_table(t::VERSIONS).map_err(engine)?;
        Ok(StoredBodies { txn: self, table })
    }

    pub(super) fn dictionary(&self, id: u32) -> Result<Option<Arc<Dictionary>>> {
        if id == 0 {
            return Ok(None);
        }
        if let Some(own) = self.trained.iter().find(|own| own.id() == id) {
            return Ok(Some(Arc::clone(own)));
        }
        // A table is open once at a time.
        let held = self.dictionaries.held_or(id, || {
            let table = self.txn.open_table(t::DICTIONARIES).map_err(engine)?;
            read_dictionary(&table, id)
        })?;
        Ok(Some(held))
    }

    /// What compresses the bodies of a resource. `bodies` are about to be stored: with enough of
    /// them, and of those stored before, the resource's dictionary is trained.
    pub(crate) fn packer(&mut self, resource: u16, bodies: &[&[u8]]) -> Result<Packer> {
        let at = usize::from(resource);
        let current = self.counters.dictionaries.get(at).copied().unwrap_or(0);
        if current != 0 {
            return Ok(Packer::new(self.dictionary(current)?));
        }
        let stored = self.counters.slots.get(at).copied().unwrap_or(0);
        if bodies.len().saturating_add(stored as usize) < TRAIN_AT {
            return Ok(Packer::new(None));
        }
        let before = self.last_bodies(resource, TRAIN_AT.saturating_sub(bodies.len()))?;
        let before = before.iter().map(|body| body.0.as_slice());
        let samples: Vec<&[u8]> = before.chain(bodies.iter().copied()).collect();
        self.counters.dictionary += 1;
        let dictionary = Packer::train(self.counters.dictionary, &samples);
        self.add_dictionary(&dictionary)?;
        if self.counters.dictionaries.len() <= at {
            self.counters.dictionaries.resize(at + 1, 0);
        }
        if let Some(current) = self.counters.dictionaries.get_mut(at) {
            *current = dictionary.id();
        }
        Ok(Packer::new(Some(dictionary)))
    }

    /// Stores a dictionary that was just trained.
    pub(super) fn add_dictionary(&mut self, dictionary: &Arc<Dictionary>) -> Result<()> {
        let value = seal(
            (TableId::Dictionaries, u64::from(dictionary.id())),
            dictionary.to_value(),
        );
        let mut table = self.txn.open_table(t::DICTIONARIES).map_err(engine)?;
        table
            .insert(dictionary.id(), value.as_slice())
            .map_err(engine)?;
        self.trained.push(Arc::clone(dictionary));
        Ok(())
    }

    /// What compresses the bodies of a resource by now, to be used by other threads. It is no
    /// matter to them whether this transaction is committed: what they make goes into it.
    pub(crate) fn current_packer(&self, resource: u16) -> Packer {
        let id = self.counters.dictionaries.get(usize::from(resource));
        let dictionary = self.dictionary(id.copied().unwrap_or(0));
        Packer::new(dictionary.unwrap_or_default())
    }

    /// How many records may still be added before one comes into the next segment of columns.
    pub(crate) fn room_in_segment(&self, resource: &str) -> u64 {
        let id = self.catalog.id(resource).map(usize::from);
        let slots = id.and_then(|id| self.counters.slots.get(id));
        u64::from(SEGMENT_ROWS - slots.copied().unwrap_or(0) % SEGMENT_ROWS)
    }

    /// The last bodies stored of a resource, at least that many where there are.
    fn last_bodies(&self, resource: u16, least: usize) -> Result<Vec<RecordBuf>> {
        let table = self.txn.open_table(t::VERSIONS).map_err(engine)?;
        let mut out = Vec::new();
        for block in table.range::<u64>(..).map_err(engine)?.rev() {
            if out.len() >= least {
                break;
            }
            let (first, block) = block.map_err(engine)?;
            let header = BlockHeader::read(first.value(), block.value())?;
            if header.resource != resource {
                continue;
            }
            let dictionary = self.dictionary(header.dictionary)?;
            for row in header.rows() {
                let stored = header.stored(block.value(), row)?;
                out.push(unpack(dictionary.as_deref(), row, stored)?);
            }
        }
        Ok(out)
    }

    /// Deletes a record: a tombstone, with everything it was kept in its history.
    ///
    /// `source_time` is when the feed says it was deleted: a record that was modified later stays
    /// (a deletion may come late). Without one the caller vouches for the deletion.
    pub fn delete(
        &mut self,
        resource: &str,
        key: &Key,
        source_time: Option<Timestamp>,
        cause: Cause,
        reason: &str,
    ) -> Result<DeleteOutcome> {
        let id = self.catalog.require(resource)?;
        let head = self
            .heads(id, std::iter::once(key))?
            .into_iter()
            .flatten()
            .next();
        let mut tombstone = Tombstone {
            sequence: 0,
            source_time,
            observed: self.observed,
            cause,
            reason: reason.to_owned(),
        };
        let Some(head) = head else {
            let known = self.tombstone_exists(id, key)?;
            if !known {
                self.put_tombstone(id, key, &tombstone)?;
            }
            return Ok(if known {
                DeleteOutcome::AlreadyDeleted
            } else {
                DeleteOutcome::Unknown
            });
        };
        if head.deleted {
            return Ok(DeleteOutcome::AlreadyDeleted);
        }
        if source_time.is_some_and(|at| head.source_time.is_some_and(|own| own > at)) {
            return Ok(DeleteOutcome::Newer);
        }
        let entry = Entry {
            slot: head.slot,
            key: Some(key.clone()),
            source_time,
            previous_row: head.row,
            note: reason.to_owned(),
            ..self.entry(Operation::Delete, cause, id)
        };
        tombstone.sequence = self.end_record(id, key, &head, &entry)?;
        self.put_tombstone(id, key, &tombstone)?;
        Ok(DeleteOutcome::Deleted)
    }

    /// Ends a current record, in the log and wherever it is looked up; gives the sequence.
    pub(super) fn end_record(
        &mut self,
        id: u16,
        key: &Key,
        head: &Head,
        entry: &Entry,
    ) -> Result<u64> {
        self.counters.sequence += 1;
        let sequence = self.counters.sequence;
        add_live(&mut self.counters, id, -1);
        let mut changelog = self.txn.open_table(t::CHANGELOG).map_err(engine)?;
        changelog
            .insert(sequence, entry.encode(sequence).as_slice())
            .map_err(engine)?;
        drop(changelog);
        self.insert_sorted(t::HISTORY, vec![past(id, head, sequence)])?;
        if let Some(touched) = &mut self.touched {
            touched.push((head.slot, 0, None));
        }
        let dead = Head {
            deleted: true,
            valid_from: sequence,
            ..*head
        };
        let at = t::record_key(id, key);
        let value = dead.encode(&at);
        self.insert_sorted(t::HEADS, vec![(at, value)])?;
        self.insert_by_key(vec![t::slot_key(id, head.slot, sequence)])?;
        self.columns.delete(id, head.slot);
        let event = FieldEvent {
            sequence,
            slot: head.slot,
            operation: entry.operation,
            value_changed: true,
            source_time: entry.source_time,
            origin: Origin {
                observed: entry.observed,
                cause: entry.cause,
                run: entry.run,
            },
            previous: Vec::new(),
            new: Vec::new(),
        };
        self.columns.events.push(id, PRESENCE, event);
        Ok(sequence)
    }

    fn tombstone_exists(&self, resource: u16, key: &Key) -> Result<bool> {
        let table = self.txn.open_table(t::TOMBSTONES).map_err(engine)?;
        let found = table
            .get(t::record_key(resource, key).as_slice())
            .map_err(engine)?;
        Ok(found.is_some())
    }

    pub(super) fn put_tombstone(
        &self,
        resource: u16,
        key: &Key,
        tombstone: &Tombstone,
    ) -> Result<()> {
        let at = t::record_key(resource, key);
        let value = encode((TableId::Tombstones, at.as_slice()), tombstone)?;
        self.insert_sorted(t::TOMBSTONES, vec![(at, value)])
    }

    /// The keys of live records for which `seen` is false. `seen` is asked by slot.
    pub(crate) fn unseen(&self, resource: u16, seen: impl Fn(u32) -> bool) -> Result<Vec<Key>> {
        let (start, end) = t::resource_range(resource);
        let table = self.txn.open_table(t::HEADS).map_err(engine)?;
        let mut out = Vec::new();
        for row in table
            .range(start.as_slice()..end.as_slice())
            .map_err(engine)?
        {
            let (key, value) = row.map_err(engine)?;
            let head = Head::decode(key.value(), value.value())?;
            if !head.deleted && !seen(head.slot) {
                let key = t::key_of(key.value());
                out.push(key.ok_or_else(|| corrupt(TableId::Heads, "a key"))?);
            }
        }
        Ok(out)
    }

    /// Puts aside what could not be applied; the same bytes are put aside once.
    pub fn quarantine(&mut self, item: &Quarantined) -> Result<()> {
        let hash = xxhash_rust::xxh3::xxh3_128(&item.raw);
        let mut key = item.resource.as_bytes().to_vec();
        key.push(0);
        key.extend_from_slice(&hash.to_be_bytes());
        let mut table = self.txn.open_table(t::QUARANTINE).map_err(engine)?;
        if table.get(key.as_slice()).map_err(engine)?.is_none() {
            let value = encode((TableId::Quarantine, key.as_slice()), item)?;
            table
                .insert(key.as_slice(), value.as_slice())
                .map_err(engine)?;
        }
        Ok(())
    }

    /// Empties the quarantine of a resource, or of all; returns how many entries there were.
    pub fn clear_quarantine(&mut self, resource: Option<&str>) -> Result<u64> {
        let prefix = resource
            .map(|name| [name.as_bytes(), &[0]].concat())
            .unwrap_or_default();
        let mut table = self.txn.open_table(t::QUARANTINE).map_err(engine)?;
        let mut removed = 0;
        table
            .retain(|key, _| {
                let keep = !key.starts_with(&prefix);
                removed += u64::from(!keep);
                keep
            })
            .map_err(engine)?;
        Ok(removed)
    }

    /// Sets how far a resource's replication has come.
    pub fn set_checkpoint(&mut self, resource: &str, checkpoint: &Checkpoint) -> Result<()> {
        let value = encode((TableId::Checkpoints, resource), checkpoint)?;
        let mut table = self.txn.open_table(t::CHECKPOINTS).map_err(engine)?;
        table.insert(resource, value.as_slice()).map_err(engine)?;
        Ok(())
    }

    /// Notes how far the events of a watcher were delivered; see [`crate::watch`].
    pub fn set_position(&mut self, watcher: &str, sequence: u64) -> Result<()> {
        let moved = self.observed;
        let value = encode((TableId::Positions, watcher), &Position { sequence, moved })?;
        let mut table = self.txn.open_table(t::POSITIONS).map_err(engine)?;
        table.insert(watcher, value.as_slice()).map_err(engine)?;
        Ok(())
    }

    /// Stores a run's report under its number.
    pub fn put_run(&mut self, report: &RunReport) -> Result<()> {
        let value = encode((TableId::Runs, report.run), report)?;
        let mut table = self.txn.open_table(t::RUNS).map_err(engine)?;
        table.insert(report.run, value.as_slice()).map_err(engine)?;
        Ok(())
    }

    /// The last sequence given, also by this transaction.
    pub fn sequence(&self) -> u64 {
        self.counters.sequence
    }

    /// Makes everything durable and visible at once; returns the last sequence.
    ///
    /// # Errors
    /// After an error nothing may be assumed: reopen the store and read the checkpoint.
    pub fn commit(mut self) -> Result<u64> {
        if self.counters.sequence >= self.first_sequence {
            // A clock set back must not put a later sequence before an earlier one.
            let observed = self
                .counters
                .observed
                .map_or(self.observed, |t| t.max(self.observed));
            self.counters.observed = Some(observed);
            let mut instants = self.txn.open_table(t::INSTANTS).map_err(engine)?;
            put_instant(&mut instants, observed.0, self.counters.sequence)?;
        }
        self.flush_columns()?;
        if self.counters.edition != self.edition {
            let value = encode((TableId::Catalog, "catalog"), self.catalog.as_ref())?;
            let mut table = self.txn.open_table(t::CATALOG).map_err(engine)?;
            table.insert("catalog", value.as_slice()).map_err(engine)?;
        }
        let counters = encode((TableId::Meta, "counters"), &self.counters)?;
        let mut meta = self.txn.open_table(t::META).map_err(engine)?;
        meta.insert("counters", counters.as_slice())
            .map_err(engine)?;
        drop(meta);
        self.txn.commit().map_err(engine)?;
        for dictionary in self.trained {
            self.dictionaries.put(dictionary);
        }
        Ok(self.counters.sequence)
    }
}

impl std::fmt::Debug for WriteTxn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteTxn")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

pub(super) fn missing_row(row: u64) -> Error {
    corrupt(TableId::Versions, &format!("row {row} is missing"))
}
