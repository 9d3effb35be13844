//! Columns in the store: kept in the transaction of the records they are made of.
//!
//! A transaction notes which slots change; [`WriteTxn::flush_columns`] rewrites the segments that
//! are touched, once a commit. Readers keep segments decoded, see [`ColumnCache`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering as AtomicOrdering};
use std::sync::{Arc, Mutex, PoisonError};

use super::field_changes::{FieldEvent, FieldEvents, Origin, PRESENCE};
use super::format::{TableId, corrupt, seal, unseal};
use super::guarded::ReadableTable;
use super::tables as t;
use super::{Operation, Snapshot, Staged, WriteTxn, engine, pieces};
use crate::column::{
    Block, BlockBuilder, Cells, Dictionary, FieldDone, FieldJob, Mask, NO_SLOT, Placed, Run,
    SEGMENT_ROWS, Segment, SegmentJob, Unit, Values, edit_all, on_all_cores, place, runs,
};
use crate::error::Result;
use crate::record::Tag;
use crate::record::codec::put_signed;
use crate::schema::FieldId;

/// The column of row numbers: where the body of each slot is.
pub(super) const ROW: u16 = u16::MAX;
/// Which slots hold a current record.
pub(super) const LIVE: u16 = u16::MAX - 1;
/// Which fields have a segment, by segment: one that is not there is missing, or never was.
const FIELDS: u16 = u16::MAX - 3;
/// Fields whose columns are rewritten at once: what is stored of all of them is in memory.
const FIELDS_AT_ONCE: usize = 32;
/// Decoded columns a process keeps, in bytes.
const CACHE_BYTES: usize = 256 << 20;

/// What a transaction does to the slots of its resources.
#[derive(Debug, Default)]
pub(super) struct ColumnEdits {
    resources: BTreeMap<u16, SlotEdits>,
    pub(super) events: FieldEvents,
}

/// What it does to the slots of one.
#[derive(Debug, Default)]
struct SlotEdits {
    /// Records that are new.
    placed: Vec<Placed>,
    /// By field: cells of records that were there before, and the rows of all.
    changed: BTreeMap<u16, Cells>,
    /// Slots, and whether they hold a current record now.
    live: Vec<(u32, bool)>,
}

impl SlotEdits {
    fn put_row(&mut self, slot: u32, row: u64) {
        let mut cell = Vec::with_capacity(12);
        cell.push(Tag::Int as u8);
        put_signed(&mut cell, i128::from(row));
        self.changed.entry(ROW).or_default().push(slot, &cell);
        self.live.push((slot, true));
    }
}

impl ColumnEdits {
    /// A slot that is new holds a record of a block now.
    pub(super) fn insert(
        &mut self,
        resource: u16,
        (slot, row): (u32, u64),
        (block, at): (&Arc<Block>, usize),
    ) {
        let edits = self.resources.entry(resource).or_default();
        edits.put_row(slot, row);
        let last = edits.placed.last_mut();
        // Slots ascend, so that a block that is met again from its beginning is placed again.
        let own = last.filter(|placed| {
            let free = placed.slots.get(at..).unwrap_or_default();
            Arc::ptr_eq(&placed.block, block) && free.iter().all(|slot| *slot == NO_SLOT)
        });
        let placed = if let Some(own) = own {
            own
        } else {
            edits.placed.push(Placed {
                block: Arc::clone(block),
                slots: vec![NO_SLOT; block.rows()],
            });
            let Some(own) = edits.placed.last_mut() else {
                return;
            };
            own
        };
        if let Some(own) = placed.slots.get_mut(at) {
            *own = slot;
        }
    }

    /// A slot holds another body now, which differs in these cells.
    pub(super) fn update<'c>(
        &mut self,
        resource: u16,
        (slot, row): (u32, u64),
        cells: impl Iterator<Item = (u16, &'c [u8])>,
    ) {
        let edits = self.resources.entry(resource).or_default();
        edits.put_row(slot, row);
        for (field, cell) in cells {
            edits.changed.entry(field).or_default().push(slot, cell);
        }
    }

    /// A slot's record is deleted: its last values stay, for the past.
    pub(super) fn delete(&mut self, resource: u16, slot: u32) {
        let edits = self.resources.entry(resource).or_default();
        edits.live.push((slot, false));
    }
}

/// Makes blocks of the records that are new and in none.
pub(super) fn make_blocks(staged: &mut [Staged]) {
    let new = |item: &&mut Staged| item.head.is_none() && item.block.is_none();
    let mut items: Vec<&mut Staged> = staged.iter_mut().filter(new).collect();
    let mut left = items.as_mut_slice();
    while !left.is_empty() {
        let mut builder = BlockBuilder::default();
        for item in &*left {
            let start = item.body.0.as_ptr().addr();
            for (field, cell) in item.body.as_body().encoded() {
                let at = cell.as_ptr().addr().wrapping_sub(start);
                builder.put(field.0, at, cell.len());
            }
            if !builder.end_row() {
                break;
            }
        }
        let (own, others) = left.split_at_mut(builder.rows().max(1));
        let body = |at: usize| own.get(at).map_or(&[][..], |item| item.body.0.as_slice());
        let block = Arc::new(builder.finish(body));
        for (at, item) in own.iter_mut().enumerate() {
            item.block = Some((Arc::clone(&block), at));
        }
        left = others;
    }
}

/// Notes what a staged change does to columns, and its changes by field.
pub(super) fn note_columns(
    columns: &mut ColumnEdits,
    (resource, slot, row): (u16, u32, u64),
    sequence: u64,
    item: &Staged,
    origin: Origin,
) {
    let operation = item.operation();
    let event = |operation, value_changed, previous: &[u8], new: &[u8]| FieldEvent {
        sequence,
        slot,
        operation,
        value_changed,
        source_time: item.source_time,
        origin,
        previous: previous.to_vec(),
        new: new.to_vec(),
    };
    if operation != Operation::Update {
        let event = event(operation, true, &[], &[]);
        columns.events.push(resource, PRESENCE, event);
    }
    let Some(previous) = &item.previous else {
        if let Some((block, at)) = &item.block {
            columns.insert(resource, (slot, row), (block, *at));
        }
        return;
    };
    let touched = previous.as_body().differing(item.body.as_body());
    for (field, old, new) in &touched {
        let changed = item.changes.iter().any(|change| change.field == *field);
        let event = event(operation, changed, old, new);
        columns.events.push(resource, field.0, event);
    }
    let cells = touched.iter().map(|(field, _, new)| (field.0, *new));
    columns.update(resource, (slot, row), cells);
}

/// `resource, field, number`: segments, and chunks of dictionaries.
pub(super) fn column_key(resource: u16, field: u16, number: u32) -> [u8; 8] {
    let mut out = [0; 8];
    let parts = resource
        .to_be_bytes()
        .into_iter()
        .chain(field.to_be_bytes());
    out.iter_mut()
        .zip(parts.chain(number.to_be_bytes()))
        .for_each(|(to, from)| *to = from);
    out
}

/// A segment's stamp: the sequence of the transaction that wrote it, then the segment.
pub(super) fn stamped(key: [u8; 8], stamp: u64, segment: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(segment.len() + 12);
    out.extend_from_slice(&stamp.to_le_bytes());
    out.extend_from_slice(segment);
    seal((TableId::Columns, key.as_slice()), out)
}

fn stamp_of(value: &[u8]) -> u64 {
    value
        .first_chunk()
        .map_or(0, |stamp| u64::from_le_bytes(*stamp))
}

/// The segment of a stored value.
pub(super) fn segment_of(key: [u8; 8], value: &[u8]) -> Result<&[u8]> {
    let bytes = unseal((TableId::Columns, key.as_slice()), value)?;
    bytes
        .get(8..)
        .ok_or_else(|| corrupt(TableId::Columns, "a short segment"))
}

fn unknown_segment() -> crate::error::Error {
    corrupt(TableId::Columns, "a segment of an unknown layout")
}

impl WriteTxn {
    /// Rewrites the segments that this transaction touched, and logs its changes by field.
    pub(super) fn flush_columns(&mut self) -> Result<()> {
        let edits = std::mem::take(&mut self.columns);
        for (resource, slots) in &edits.resources {
            self.flush_resource(*resource, slots)?;
        }
        self.flush_events(edits.events)
    }

    fn flush_resource(&self, resource: u16, slots: &SlotEdits) -> Result<()> {
        let runs = runs(&slots.placed);
        let touched: Vec<_> = touched(&runs, &slots.changed).into_iter().collect();
        for touched in touched.chunks(FIELDS_AT_ONCE) {
            let jobs = self.field_jobs(resource, touched, &runs, &slots.changed)?;
            let done = edit_all(jobs).ok_or_else(unknown_segment)?;
            self.write_fields(resource, done)?;
        }
        self.flush_live(resource, &slots.live)
    }

    /// What is to be done to fields, with what is stored of them.
    fn field_jobs<'a>(
        &self,
        resource: u16,
        touched: &[(u16, BTreeSet<u32>)],
        runs: &'a [Run<'a>],
        changed: &'a BTreeMap<u16, Cells>,
    ) -> Result<Vec<FieldJob<'a>>> {
        let covered = self.counters.slots.get(usize::from(resource));
        let covered = covered.copied().unwrap_or(0);
        let columns = self.txn.open_table(t::COLUMNS).map_err(engine)?;
        let cells = self.txn.open_table(t::COLUMN_CELLS).map_err(engine)?;
        let mut jobs = Vec::with_capacity(touched.len());
        for (field, segments) in touched {
            let mut job = FieldJob {
                field: *field,
                dictionary: Dictionary::default(),
                segments: Vec::with_capacity(segments.len()),
                runs,
                changed: changed.get(field),
            };
            if *field != ROW {
                read_dictionary(&cells, resource, *field, &mut job.dictionary)?;
            }
            for segment in segments {
                let key = column_key(resource, *field, *segment);
                let old = pieces::read(&columns, key)?;
                let old = old.map(|value| segment_of(key, &value).map(<[u8]>::to_vec));
                job.segments.push(SegmentJob {
                    segment: *segment,
                    old: old.transpose()?,
                    rows: rows_of(covered, *segment),
                });
            }
            jobs.push(job);
        }
        Ok(jobs)
    }

    fn write_fields(&self, resource: u16, done: Vec<FieldDone>) -> Result<()> {
        let mut columns = self.txn.open_table(t::COLUMNS).map_err(engine)?;
        let mut cells = self.txn.open_table(t::COLUMN_CELLS).map_err(engine)?;
        let stamp = self.counters.sequence;
        let mut written: BTreeMap<u32, Vec<u16>> = BTreeMap::new();
        for FieldDone {
            field,
            cells: new,
            segments,
        } in done
        {
            if let Some((first, chunk)) = new {
                let first = u32::try_from(first).unwrap_or(u32::MAX);
                let key = column_key(resource, field, first);
                let value = seal((TableId::ColumnCells, key.as_slice()), chunk);
                cells
                    .insert(key.as_slice(), value.as_slice())
                    .map_err(engine)?;
            }
            for (segment, bytes) in segments {
                written.entry(segment).or_default().push(field);
                let key = column_key(resource, field, segment);
                pieces::write(&mut columns, key, &stamped(key, stamp, &bytes))?;
            }
        }
        for (segment, fields) in written {
            let key = column_key(resource, FIELDS, segment);
            let mut held = match pieces::read(&columns, key)? {
                Some(value) => segment_of(key, &value)?.to_vec(),
                None => Vec::new(),
            };
            if add_fields(&mut held, &fields) {
                pieces::write(&mut columns, key, &stamped(key, stamp, &held))?;
            }
        }
        Ok(())
    }

    fn flush_live(&self, resource: u16, slots: &[(u32, bool)]) -> Result<()> {
        let mut masks: BTreeMap<u32, Mask> = BTreeMap::new();
        let mut columns = self.txn.open_table(t::COLUMNS).map_err(engine)?;
        for (slot, live) in slots {
            let (segment, row) = place(*slot);
            let mask = match masks.entry(segment) {
                std::collections::btree_map::Entry::Occupied(held) => held.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => {
                    let key = column_key(resource, LIVE, segment);
                    let old = pieces::read(&columns, key)?;
                    free.insert(match old {
                        Some(value) => mask_of(key, &value)?,
                        None => Mask::none(),
                    })
                }
            };
            mask.set(usize::from(row), *live);
        }
        for (segment, mask) in masks {
            let key = column_key(resource, LIVE, segment);
            let value = stamped(key, self.counters.sequence, &mask.encode());
            pieces::write(&mut columns, key, &value)?;
        }
        Ok(())
    }
}

/// Adds fields to a set, a bit each; whether any of them is new.
pub(super) fn add_fields(set: &mut Vec<u8>, fields: &[u16]) -> bool {
    let mut new = false;
    for field in fields.iter().filter(|field| **field < FIELDS) {
        let (at, bit) = (usize::from(*field) / 8, 1 << (field % 8));
        if set.len() <= at {
            set.resize(at + 1, 0);
        }
        if let Some(byte) = set.get_mut(at) {
            new |= *byte & bit == 0;
            *byte |= bit;
        }
    }
    new
}

pub(super) fn has_field(set: &[u8], field: u16) -> bool {
    let byte = set.get(usize::from(field) / 8).copied().unwrap_or(0);
    field >= FIELDS || byte & (1 << (field % 8)) != 0
}

/// The slots a segment covers.
fn rows_of(covered: u32, segment: u32) -> usize {
    let before = u64::from(segment) * u64::from(SEGMENT_ROWS);
    let left = u64::from(covered).saturating_sub(before);
    usize::try_from(left.min(u64::from(SEGMENT_ROWS))).unwrap_or(0)
}

pub(super) fn mask_of(key: [u8; 8], value: &[u8]) -> Result<Mask> {
    Mask::decode(segment_of(key, value)?).ok_or_else(unknown_segment)
}

/// The segments in which cells change, by field.
fn touched(runs: &[Run<'_>], changed: &BTreeMap<u16, Cells>) -> BTreeMap<u16, BTreeSet<u32>> {
    let mut out: BTreeMap<u16, BTreeSet<u32>> = BTreeMap::new();
    for run in runs {
        for field in run.fields() {
            out.entry(field).or_default().insert(run.segment);
        }
    }
    for (field, cells) in changed {
        let own = out.entry(*field).or_default();
        own.extend(cells.iter().map(|(slot, _)| place(slot).0));
    }
    out
}

pub(super) fn read_dictionary(
    cells: &impl ReadableTable<t::Bytes, t::Bytes>,
    resource: u16,
    field: u16,
    into: &mut Dictionary,
) -> Result<()> {
    let (start, end) = (
        column_key(resource, field, 0),
        column_key(resource, field, u32::MAX),
    );
    for chunk in cells
        .range(start.as_slice()..=end.as_slice())
        .map_err(engine)?
    {
        let (key, chunk) = chunk.map_err(engine)?;
        let bytes = unseal((TableId::ColumnCells, key.value()), chunk.value())?;
        let first = key.value().last_chunk().map(|n| u32::from_be_bytes(*n));
        if first.map(|n| n as usize) != Some(into.len()) {
            return Err(corrupt(TableId::ColumnCells, "a chunk is missing"));
        }
        into.extend(bytes)
            .ok_or_else(|| corrupt(TableId::ColumnCells, "a chunk that ends early"))?;
    }
    Ok(())
}

/// One field of all slots of a resource, as a snapshot has it.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    /// Segments by their number; where there is none, the field is absent.
    pub(crate) segments: Vec<Option<Arc<Segment>>>,
    pub(crate) dictionary: Arc<Dictionary>,
    /// The stamps of the segments.
    stamps: Vec<u64>,
    /// How often sorted access would have been of use, in this process.
    wanted: Arc<AtomicU32>,
}

impl Column {
    /// Whether to use sorted access: from the second time on that it would be of use, because the
    /// first time to work it out costs more than it saves.
    pub(crate) fn is_worth_sorting(&self) -> bool {
        self.wanted.fetch_add(1, AtomicOrdering::Relaxed) > 0
    }

    /// The segment of a number; `None` where the field is absent in all of it.
    pub(crate) fn segment(&self, number: u32) -> Option<&Segment> {
        self.segments.get(number as usize)?.as_deref()
    }

    /// The number of a slot, where its segment has nothing but whole ones.
    pub(crate) fn whole(&self, slot: u32) -> Option<i64> {
        let (segment, row) = place(slot);
        match &self.segment(segment)?.values {
            Values::Numbers(numbers)
                if numbers.scale == 0
                    && numbers.unit == Unit::Number
                    && numbers.form_of.is_empty()
                    && numbers.form(0).has_value() =>
            {
                numbers.values.get(usize::from(row)).copied()
            }
            _ => None,
        }
    }

    /// The integer of a slot, of a column that holds nothing else.
    pub(crate) fn integer(&self, slot: u32) -> Option<i64> {
        let (segment, row) = place(slot);
        match &self.segment(segment)?.values {
            Values::Numbers(numbers) if numbers.form(usize::from(row)).has_value() => {
                numbers.values.get(usize::from(row)).copied()
            }
            _ => None,
        }
    }
}

/// Decoded columns, shared by the snapshots of a store.
#[derive(Debug, Default)]
pub(super) struct ColumnCache {
    held: Mutex<Held>,
}

/// By segment: the fields that have one.
type SegmentFields = Arc<Vec<Vec<u8>>>;

/// How often a column is asked for a few rows before it is read.
const MISSES: u32 = 16;
/// The most slots of a resource whose columns are read for a few rows.
const SMALL_SLOTS: u32 = 500_000;
/// The most cells of a dictionary that is read to be searched, too.
const INDEXED_CELLS: usize = 4_096;

#[derive(Debug, Default)]
struct Held {
    columns: HashMap<(u16, u16), HeldColumn>,
    live: HashMap<u16, (u64, Arc<Vec<Mask>>)>,
    fields: HashMap<u16, (u64, SegmentFields)>,
    /// How often a column that is not held would have been of use for a few rows.
    missed: HashMap<(u16, u16), u32>,
    clock: u64,
}

#[derive(Debug)]
struct HeldColumn {
    /// The sequence of the snapshot it was read for.
    sequence: u64,
    column: Arc<Column>,
    size: usize,
    used: u64,
}

impl ColumnCache {
    fn get(&self, key: (u16, u16)) -> Option<(u64, Arc<Column>)> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.clock += 1;
        let clock = held.clock;
        let found = held.columns.get_mut(&key)?;
        found.used = clock;
        Some((found.sequence, Arc::clone(&found.column)))
    }

    /// Whether a column is held, or is worth reading now.
    fn is_at_hand(&self, key: (u16, u16), small: bool) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.columns.contains_key(&key) {
            return true;
        }
        let missed = held.missed.entry(key).or_default();
        *missed += 1;
        small && *missed > MISSES
    }

    /// Keeps a column, unless a later one is held; forgets what was not used for longest.
    fn put(&self, key: (u16, u16), sequence: u64, column: &Arc<Column>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held
            .columns
            .get(&key)
            .is_some_and(|own| own.sequence > sequence)
        {
            return;
        }
        held.clock += 1;
        let segments = column.segments.iter().flatten();
        let size = segments.map(|s| s.size()).sum::<usize>() + column.dictionary.size();
        let used = held.clock;
        let column = Arc::clone(column);
        held.columns.insert(
            key,
            HeldColumn {
                sequence,
                column,
                size,
                used,
            },
        );
        while held.columns.values().map(|own| own.size).sum::<usize>() > CACHE_BYTES {
            let oldest = held.columns.iter().min_by_key(|(_, own)| own.used);
            let Some(key) = oldest.map(|(key, _)| *key) else {
                break;
            };
            held.columns.remove(&key);
        }
    }
}

impl Snapshot {
    /// How many slots of a resource were given.
    pub(crate) fn slots(&self, resource: u16) -> u32 {
        let slots = self.counters.slots.get(usize::from(resource));
        slots.copied().unwrap_or(0)
    }

    /// The column of a field.
    pub(crate) fn column(&self, resource: u16, field: FieldId) -> Result<Arc<Column>> {
        self.column_by_id(resource, field.0)
    }

    /// Whether a field's column is in memory, or is worth reading for a few rows: it was asked for
    /// often, and the resource is small enough for many of them.
    pub(crate) fn is_at_hand(&self, resource: u16, field: FieldId) -> bool {
        let small = self.slots(resource) <= SMALL_SLOTS;
        self.cache.is_at_hand((resource, field.0), small)
    }

    /// The column of row numbers.
    pub(crate) fn row_column(&self, resource: u16) -> Result<Arc<Column>> {
        self.column_by_id(resource, ROW)
    }

    fn column_by_id(&self, resource: u16, field: u16) -> Result<Arc<Column>> {
        let key = (resource, field);
        let held = self.cache.get(key);
        if let Some((sequence, column)) = &held
            && *sequence == self.sequence()
        {
            return Ok(Arc::clone(column));
        }
        let column =
            Arc::new(self.read_column(resource, field, held.as_ref().map(|(_, c)| &**c))?);
        self.cache.put(key, self.sequence(), &column);
        Ok(column)
    }

    /// Reads a column, taking over from `held` the segments that are still the same.
    fn read_column(&self, resource: u16, field: u16, held: Option<&Column>) -> Result<Column> {
        let mut out = Column {
            segments: Vec::new(),
            dictionary: Arc::default(),
            stamps: Vec::new(),
            wanted: held.map(|h| Arc::clone(&h.wanted)).unwrap_or_default(),
        };
        let table = self.txn.open_table(t::COLUMNS).map_err(engine)?;
        let (start, end) = (
            column_key(resource, field, 0),
            column_key(resource, field, u32::MAX),
        );
        let mut fresh: Vec<(usize, Vec<u8>)> = Vec::new();
        pieces::each(&table, start, end, |key, value| {
            let number = key.last_chunk().map_or(0, |n| u32::from_be_bytes(*n));
            let at = number as usize;
            out.segments.resize(at + 1, None);
            out.stamps.resize(at + 1, 0);
            let stamp = stamp_of(&value);
            if let Some(own) = out.stamps.get_mut(at) {
                *own = stamp;
            }
            let same = held.filter(|h| h.stamps.get(at) == Some(&stamp));
            match same.and_then(|h| h.segments.get(at)) {
                Some(segment) => {
                    if let Some(own) = out.segments.get_mut(at) {
                        own.clone_from(segment);
                    }
                }
                None => fresh.push((at, value)),
            }
            Ok(())
        })?;
        let there = |at: usize| out.stamps.get(at).is_some_and(|stamp| *stamp != 0);
        for (at, fields) in self.segment_fields(resource)?.iter().enumerate() {
            if has_field(fields, field) != there(at) {
                return Err(corrupt(TableId::Columns, "a segment is missing"));
            }
        }
        if !fresh.is_empty() {
            let read = on_all_cores(fresh, |(at, value)| -> Result<(usize, Arc<Segment>)> {
                let number = u32::try_from(at).unwrap_or(u32::MAX);
                let bytes = segment_of(column_key(resource, field, number), &value)?;
                let segment = Segment::decode(bytes).ok_or_else(unknown_segment)?;
                Ok((at, Arc::new(segment)))
            });
            let cells = self.txn.open_table(t::COLUMN_CELLS).map_err(engine)?;
            let mut dictionary = Dictionary::default();
            read_dictionary(&cells, resource, field, &mut dictionary)?;
            for one in read {
                let (at, segment) = one?;
                if segment.codes() > dictionary.codes() {
                    return Err(corrupt(TableId::ColumnCells, "the last chunk is missing"));
                }
                if let Some(own) = out.segments.get_mut(at) {
                    *own = Some(segment);
                }
            }
            if dictionary.len() <= INDEXED_CELLS {
                dictionary.index();
            }
            out.dictionary = Arc::new(dictionary);
        } else if let Some(held) = held {
            out.dictionary = Arc::clone(&held.dictionary);
        }
        Ok(out)
    }

    /// One segment of a field, which is not kept; `None` where the field is absent in all of it.
    pub(crate) fn segment_of(
        &self,
        resource: u16,
        field: FieldId,
        number: u32,
    ) -> Result<Option<Segment>> {
        let table = self.txn.open_table(t::COLUMNS).map_err(engine)?;
        let key = column_key(resource, field.0, number);
        let Some(value) = pieces::read(&table, key)? else {
            return Ok(None);
        };
        let segment = Segment::decode(segment_of(key, &value)?).ok_or_else(unknown_segment)?;
        Ok(Some(segment))
    }

    /// Whether a record ever had a field.
    pub(crate) fn has_column(&self, resource: u16, field: FieldId) -> Result<bool> {
        let table = self.txn.open_table(t::COLUMNS).map_err(engine)?;
        let start = column_key(resource, field.0, 0);
        let end = column_key(resource, field.0, u32::MAX);
        let mut range = table
            .range(start.as_slice()..=end.as_slice())
            .map_err(engine)?;
        range
            .next()
            .transpose()
            .map_err(engine)
            .map(|one| one.is_some())
    }

    /// The cells that a field repeats.
    pub(crate) fn dictionary_of(&self, resource: u16, field: FieldId) -> Result<Dictionary> {
        let cells = self.txn.open_table(t::COLUMN_CELLS).map_err(engine)?;
        let mut dictionary = Dictionary::default();
        read_dictionary(&cells, resource, field.0, &mut dictionary)?;
        Ok(dictionary)
    }

    /// The fields that have a segment, by segment.
    fn segment_fields(&self, resource: u16) -> Result<SegmentFields> {
        let lock = || {
            let held = self.cache.held.lock();
            held.unwrap_or_else(PoisonError::into_inner)
        };
        let held = lock().fields.get(&resource).cloned();
        if let Some((_, fields)) = held.filter(|(sequence, _)| *sequence == self.sequence()) {
            return Ok(fields);
        }
        let table = self.txn.open_table(t::COLUMNS).map_err(engine)?;
        let mut out = Vec::new();
        for segment in 0..self.slots(resource).div_ceil(SEGMENT_ROWS) {
            let key = column_key(resource, FIELDS, segment);
            out.push(match pieces::read(&table, key)? {
                Some(value) => segment_of(key, &value)?.to_vec(),
                None => {
                    return Err(corrupt(
                        TableId::Columns,
                        "which fields there are is missing",
                    ));
                }
            });
        }
        let out = Arc::new(out);
        let own = (self.sequence(), Arc::clone(&out));
        lock().fields.insert(resource, own);
        Ok(out)
    }

    /// Which slots hold a current record, by segment.
    pub(crate) fn live(&self, resource: u16) -> Result<Arc<Vec<Mask>>> {
        let held = |cache: &ColumnCache| {
            let held = cache.held.lock().unwrap_or_else(PoisonError::into_inner);
            let found = held.live.get(&resource).cloned();
            found.filter(|(sequence, _)| *sequence == self.sequence())
        };
        if let Some((_, live)) = held(&self.cache) {
            return Ok(live);
        }
        let table = self.txn.open_table(t::COLUMNS).map_err(engine)?;
        let mut out = Vec::new();
        for segment in 0..self.slots(resource).div_ceil(SEGMENT_ROWS) {
            let key = column_key(resource, LIVE, segment);
            out.push(match pieces::read(&table, key)? {
                Some(value) => mask_of(key, &value)?,
                None => return Err(corrupt(TableId::Columns, "which records live is missing")),
            });
        }
        let live = self.counters.live.get(usize::from(resource)).copied();
        if out.iter().map(Mask::count).sum::<u64>() != live.unwrap_or(0) {
            return Err(corrupt(
                TableId::Columns,
                "not as many records live as there should",
            ));
        }
        let out = Arc::new(out);
        let mut held = self
            .cache
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.live
            .insert(resource, (self.sequence(), Arc::clone(&out)));
        Ok(out)
    }
}
