//! Columns in the store: kept in the transaction of the records they are made of.
//!
//! A transaction notes which slots change; [`WriteTxn::flush_columns`] rewrites the segments that
//! are touched, once a commit. Readers keep segments decoded, see [`ColumnCache`].

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering as AtomicOrdering};
use std::sync::{Arc, Mutex, PoisonError};

use super::field_changes::FieldEvents;
use super::format::{TableId, corrupt, seal, unseal};
use super::tables as t;
use super::{Snapshot, WriteTxn, engine, pieces};
use crate::column::{
    Dictionary, Edit, FieldDone, FieldJob, Mask, SEGMENT_ROWS, Segment, SegmentJob, Unit, Values,
    edit_all, on_all_cores, place,
};
use crate::error::Result;
use crate::record::codec::put_signed;
use crate::record::{RecordBuf, Tag};
use crate::schema::FieldId;

/// The column of row numbers: where the body of each slot is.
pub(super) const ROW: u16 = u16::MAX;
/// Which slots hold a current record.
pub(super) const LIVE: u16 = u16::MAX - 1;
/// Decoded columns a process keeps, in bytes.
const CACHE_BYTES: usize = 256 << 20;

/// What a transaction does to the slots of its resources.
#[derive(Debug, Default)]
pub(super) struct ColumnEdits {
    resources: BTreeMap<u16, Vec<SlotEdit>>,
    pub(super) events: FieldEvents,
}

/// One slot's new state.
#[derive(Debug)]
struct SlotEdit {
    slot: u32,
    /// The row of its body, and the body; `None` when the record is deleted.
    body: Option<(u64, RecordBuf)>,
    /// The fields that differ from before; `None` for a slot that is new.
    touched: Option<Vec<FieldId>>,
}

impl ColumnEdits {
    /// A slot holds this body now.
    pub(super) fn put(
        &mut self,
        resource: u16,
        (slot, row): (u32, u64),
        body: RecordBuf,
        touched: Option<Vec<FieldId>>,
    ) {
        let body = Some((row, body));
        let edits = self.resources.entry(resource).or_default();
        edits.push(SlotEdit {
            slot,
            body,
            touched,
        });
    }

    /// A slot's record is deleted: its last values stay, for the past.
    pub(super) fn delete(&mut self, resource: u16, slot: u32) {
        let edits = self.resources.entry(resource).or_default();
        edits.push(SlotEdit {
            slot,
            body: None,
            touched: Some(Vec::new()),
        });
    }
}

/// `resource, field, number`: segments, and chunks of dictionaries.
fn column_key(resource: u16, field: u16, number: u32) -> [u8; 8] {
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
fn stamped(stamp: u64, segment: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(segment.len() + 12);
    out.extend_from_slice(&stamp.to_le_bytes());
    out.extend_from_slice(segment);
    seal(TableId::Columns, out)
}

fn stamp_of(value: &[u8]) -> u64 {
    value
        .first_chunk()
        .map_or(0, |stamp| u64::from_le_bytes(*stamp))
}

/// The segment of a stored value.
fn segment_of(value: &[u8]) -> Result<&[u8]> {
    let bytes = unseal(TableId::Columns, value)?;
    bytes
        .get(8..)
        .ok_or_else(|| corrupt(TableId::Columns, "a short segment"))
}

fn unknown_segment() -> crate::error::Error {
    corrupt(TableId::Columns, "a segment of an unknown layout")
}

/// Edits by field, then by segment.
type Edits<'a> = BTreeMap<u16, BTreeMap<u32, Vec<Edit<'a>>>>;

impl WriteTxn {
    /// Rewrites the segments that this transaction touched, and logs its changes by field.
    pub(super) fn flush_columns(&mut self) -> Result<()> {
        let edits = std::mem::take(&mut self.columns);
        for (resource, slots) in &edits.resources {
            self.flush_resource(*resource, slots)?;
        }
        self.flush_events(edits.events)
    }

    fn flush_resource(&self, resource: u16, slots: &[SlotEdit]) -> Result<()> {
        let covered = self.counters.slots.get(usize::from(resource));
        let covered = covered.copied().unwrap_or(0);
        let rows: Vec<Vec<u8>> = slots.iter().map(row_cell).collect();
        let mut edits = by_field(slots);
        let own = edits.entry(ROW).or_default();
        for (slot, cell) in slots.iter().zip(&rows) {
            if slot.body.is_some() {
                let (segment, row) = place(slot.slot);
                own.entry(segment).or_default().push(Edit { row, cell });
            }
        }
        let mut columns = self.txn.open_table(t::COLUMNS).map_err(engine)?;
        let mut cells = self.txn.open_table(t::COLUMN_CELLS).map_err(engine)?;
        let mut jobs = Vec::with_capacity(edits.len());
        for (field, segments) in edits {
            let mut job = FieldJob {
                field,
                dictionary: Dictionary::default(),
                segments: Vec::with_capacity(segments.len()),
            };
            if field != ROW {
                read_dictionary(&cells, resource, field, &mut job.dictionary)?;
            }
            for (segment, edits) in segments {
                let old = pieces::read(&columns, column_key(resource, field, segment))?;
                let old = old.map(|value| segment_of(&value).map(<[u8]>::to_vec));
                job.segments.push(SegmentJob {
                    segment,
                    old: old.transpose()?,
                    rows: rows_of(covered, segment),
                    edits,
                });
            }
            jobs.push(job);
        }
        let stamp = self.counters.sequence;
        for FieldDone {
            field,
            cells: new,
            segments,
        } in edit_all(jobs).ok_or_else(unknown_segment)?
        {
            if let Some((first, chunk)) = new {
                let first = u32::try_from(first).unwrap_or(u32::MAX);
                let value = seal(TableId::ColumnCells, chunk);
                let key = column_key(resource, field, first);
                cells
                    .insert(key.as_slice(), value.as_slice())
                    .map_err(engine)?;
            }
            for (segment, bytes) in segments {
                let key = column_key(resource, field, segment);
                pieces::write(&mut columns, key, &stamped(stamp, &bytes))?;
            }
        }
        drop(columns);
        self.flush_live(resource, slots)
    }

    fn flush_live(&self, resource: u16, slots: &[SlotEdit]) -> Result<()> {
        let mut masks: BTreeMap<u32, Mask> = BTreeMap::new();
        let mut columns = self.txn.open_table(t::COLUMNS).map_err(engine)?;
        for slot in slots {
            let (segment, row) = place(slot.slot);
            let mask = match masks.entry(segment) {
                std::collections::btree_map::Entry::Occupied(held) => held.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => {
                    let old = pieces::read(&columns, column_key(resource, LIVE, segment))?;
                    free.insert(match old {
                        Some(value) => mask_of(&value)?,
                        None => Mask::none(),
                    })
                }
            };
            mask.set(usize::from(row), slot.body.is_some());
        }
        for (segment, mask) in masks {
            let key = column_key(resource, LIVE, segment);
            let value = stamped(self.counters.sequence, &mask.encode());
            pieces::write(&mut columns, key, &value)?;
        }
        Ok(())
    }
}

/// The row number of a slot's body, as a cell.
fn row_cell(slot: &SlotEdit) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some((row, _)) = slot.body {
        out.push(Tag::Int as u8);
        put_signed(&mut out, i128::from(row));
    }
    out
}

/// The slots a segment covers.
fn rows_of(covered: u32, segment: u32) -> usize {
    let before = u64::from(segment) * u64::from(SEGMENT_ROWS);
    let left = u64::from(covered).saturating_sub(before);
    usize::try_from(left.min(u64::from(SEGMENT_ROWS))).unwrap_or(0)
}

fn mask_of(value: &[u8]) -> Result<Mask> {
    Mask::decode(segment_of(value)?).ok_or_else(unknown_segment)
}

/// The cells that change, by field and segment.
fn by_field(slots: &[SlotEdit]) -> Edits<'_> {
    // Fields are dense: one list each is far cheaper than a look-up a cell.
    let mut fields: Vec<Vec<(u32, &[u8])>> = Vec::new();
    let mut put = |field: FieldId, slot: u32, cell| {
        let at = usize::from(field.0);
        if fields.len() <= at {
            fields.resize_with(at + 1, Vec::new);
        }
        if let Some(list) = fields.get_mut(at) {
            list.push((slot, cell));
        }
    };
    for slot in slots {
        let Some((_, body)) = &slot.body else {
            continue;
        };
        let cells = body.as_body().encoded();
        let Some(touched) = &slot.touched else {
            cells.for_each(|(field, cell)| put(field, slot.slot, cell));
            continue;
        };
        let mut cells = cells.peekable();
        for field in touched {
            while cells.next_if(|(id, _)| id < field).is_some() {}
            let cell = cells.next_if(|(id, _)| id == field);
            put(*field, slot.slot, cell.map_or(&[], |(_, cell)| cell));
        }
    }
    let mut out = Edits::new();
    for (field, list) in fields.into_iter().enumerate() {
        let Ok(field) = u16::try_from(field) else {
            continue;
        };
        if list.is_empty() {
            continue;
        }
        let segments = out.entry(field).or_default();
        let mut list = list.into_iter().peekable();
        while let Some((slot, cell)) = list.next() {
            let (segment, row) = place(slot);
            let edits: &mut Vec<Edit<'_>> = segments.entry(segment).or_default();
            edits.push(Edit { row, cell });
            while let Some((slot, cell)) = list.next_if(|(slot, _)| place(*slot).0 == segment) {
                let row = place(slot).1;
                edits.push(Edit { row, cell });
            }
        }
    }
    out
}

fn read_dictionary(
    cells: &impl redb::ReadableTable<t::Bytes, t::Bytes>,
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
        let chunk = chunk.map_err(engine)?.1;
        let bytes = unseal(TableId::ColumnCells, chunk.value())?;
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

/// The most cells of a dictionary that is read to be searched, too.
const INDEXED_CELLS: usize = 4_096;

#[derive(Debug, Default)]
struct Held {
    columns: HashMap<(u16, u16), HeldColumn>,
    live: HashMap<u16, (u64, Arc<Vec<Mask>>)>,
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
        if !fresh.is_empty() {
            let read = on_all_cores(fresh, |(at, value)| -> Result<(usize, Arc<Segment>)> {
                let segment = Segment::decode(segment_of(&value)?).ok_or_else(unknown_segment)?;
                Ok((at, Arc::new(segment)))
            });
            for one in read {
                let (at, segment) = one?;
                if let Some(own) = out.segments.get_mut(at) {
                    *own = Some(segment);
                }
            }
            let cells = self.txn.open_table(t::COLUMN_CELLS).map_err(engine)?;
            let mut dictionary = Dictionary::default();
            read_dictionary(&cells, resource, field, &mut dictionary)?;
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
        let stored = pieces::read(&table, column_key(resource, field.0, number))?;
        let Some(value) = stored else {
            return Ok(None);
        };
        let segment = Segment::decode(segment_of(&value)?).ok_or_else(unknown_segment)?;
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
                Some(value) => mask_of(&value)?,
                None => Mask::none(),
            });
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
