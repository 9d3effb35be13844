//! Frames: the records of a query as columns, in order, a chunk of rows at a time.
//!
//! An export reads fields side by side from the segments they are stored in, and never makes
//! records of them. A frame holds the slots in their order; each [`FrameColumn`] reads one field of
//! a range of rows and forgets it again, so that memory does not grow with the resource.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::filter::{self, Selection};
use super::table::Table;
use super::{QueryContext, order};
use crate::column::{Dictionary, Item, Part, SEGMENT_ROWS, Segment, Unit, Values, place};
use crate::error::Result;
use crate::keycode::Key;
use crate::odata::Query;
use crate::schema::{FieldId, Resource};
use crate::store::{RecordReader, Snapshot};

/// Rows a chunk has at most.
const CHUNK: usize = SEGMENT_ROWS as usize;
/// A chunk may end where a segment does, from so many rows on.
const ENOUGH: usize = CHUNK / 2;
/// Segments that a chunk of rows in order of key touches on average, beyond which the slots are not
/// in that order.
const SCATTERED: usize = 6;
/// Segments that a column holds decoded.
const HELD: usize = 2;

/// The records of a query, as columns.
pub struct Frame<'s> {
    table: Table<'s>,
    select: Option<Vec<FieldId>>,
    slots: Vec<u32>,
    chunks: Vec<Range<usize>>,
    /// The slots of each chunk in ascending order, with their places in it; empty where they are
    /// scattered.
    placed: Vec<(u32, u32)>,
    scattered: bool,
    by_key: bool,
    fields: Mutex<HashMap<FieldId, Arc<Known>>>,
}

/// What is read of a field once.
#[derive(Debug)]
struct Known {
    dictionary: Arc<Dictionary>,
    /// By slot: the cell it had, where that is not the one of now.
    past: HashMap<u32, Vec<u8>>,
}

impl std::fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame")
            .field("resource", &self.table.resource.name)
            .field("rows", &self.slots.len())
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    /// The records of a query as columns, in the order of `$orderby`, else in that of their keys.
    ///
    /// # Errors
    /// As [`query`](Snapshot::query).
    pub fn frame(&self, query: &Query, context: &QueryContext) -> Result<Frame<'_>> {
        let bound = query.bind(self.schema(), context.now)?;
        let at = match context.as_of {
            Some(at) => self.resolve(at)?,
            None => self.sequence(),
        };
        let table = Table::new(self, &query.resource, at)?;
        let selection = filter::select(&table, bound.predicate.as_ref())?;
        let skip = usize::try_from(bound.skip).unwrap_or(usize::MAX);
        let top = usize::try_from(bound.top.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let mut slots = match &bound.orderby {
            Some(orderby) => {
                order::sorted(&table, &selection, orderby, skip.saturating_add(top))?.0
            }
            None => in_key_order(&table, &selection)?,
        };
        slots.drain(..skip.min(slots.len()));
        slots.truncate(top);
        let (chunks, scattered) = chunks_of(&slots);
        let mut placed = Vec::new();
        if !scattered {
            placed.reserve(slots.len());
            for chunk in &chunks {
                let start = placed.len();
                let own = slots.get(chunk.clone()).unwrap_or_default();
                placed.extend(own.iter().copied().zip(0..));
                placed.get_mut(start..).unwrap_or_default().sort_unstable();
            }
        }
        Ok(Frame {
            table,
            select: bound.select,
            slots,
            chunks,
            placed,
            scattered,
            by_key: bound.orderby.is_none(),
            fields: Mutex::default(),
        })
    }
}

impl Snapshot {
    /// Records by their keys as columns, in order of key; those that are not there are told apart.
    ///
    /// # Errors
    /// [`Error::UnknownResource`](crate::error::Error::UnknownResource), or when the store cannot
    /// be read.
    pub fn frame_of(&self, resource: &str, keys: &BTreeSet<Key>) -> Result<(Frame<'_>, Vec<Key>)> {
        let table = Table::new(self, resource, self.sequence())?;
        let mut slots = Vec::with_capacity(keys.len());
        let mut gone = Vec::new();
        for key in keys {
            match self.head_of(resource, key)? {
                Some(head) if !head.deleted => slots.push(head.slot),
                _ => gone.push(key.clone()),
            }
        }
        let (chunks, _) = chunks_of(&slots);
        let frame = Frame {
            table,
            select: None,
            slots,
            chunks,
            placed: Vec::new(),
            scattered: true,
            by_key: true,
            fields: Mutex::default(),
        };
        Ok((frame, gone))
    }
}

impl Frame<'_> {
    /// The cells of some fields, ascending, in a range of rows, out of the records themselves: for
    /// few rows that are stored far apart.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn parts(&self, fields: &[FieldId], rows: Range<usize>) -> Result<Vec<Part>> {
        let slots = self.slots.get(rows).unwrap_or_default();
        let dictionary = Arc::new(Dictionary::default());
        let part = || Part::absent(slots.len(), Arc::clone(&dictionary));
        let mut parts: Vec<Part> = fields.iter().map(|_| part()).collect();
        let mut cell = Vec::new();
        for (at, record) in self.table.records_of(None, slots).into_iter().enumerate() {
            let mut places = fields.iter().zip(&mut parts).peekable();
            for (field, found) in record?.cells() {
                while places.next_if(|(own, _)| **own < field).is_some() {}
                if let Some((_, part)) = places.next_if(|(own, _)| **own == field) {
                    cell.clear();
                    found.write(&mut cell);
                    part.put_cell(at, &cell);
                }
            }
        }
        Ok(parts)
    }

    /// The resource.
    pub fn resource(&self) -> &Resource {
        &self.table.resource
    }

    /// The sequence it is a frame of.
    pub fn sequence(&self) -> u64 {
        self.table.at
    }

    /// The fields asked for; `None` is all.
    pub fn select(&self) -> Option<&[FieldId]> {
        self.select.as_deref()
    }

    /// The fields that a record of the resource has, or has ever had, whatever was filtered; all
    /// that the schema names where there was never a record.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn stored_fields(&self) -> Result<Vec<FieldId>> {
        let (snapshot, id) = (self.table.snapshot, self.table.id);
        let mut out = Vec::new();
        let any = snapshot.slots(id) > 0;
        for field in (0..self.table.resource.fields.len()).map_while(|at| u16::try_from(at).ok()) {
            let field = FieldId(field);
            if !any || snapshot.has_column(id, field)? {
                out.push(field);
            }
        }
        Ok(out)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Ranges of rows that are cheap to read at once, at most 8,192 each.
    pub fn chunks(&self) -> &[Range<usize>] {
        &self.chunks
    }

    /// Whether neighbours are stored far apart: then each chunk reads most of a column, and it is
    /// better to read many rows at once, or records.
    pub fn is_scattered(&self) -> bool {
        self.scattered
    }

    /// Whether the rows are in ascending order of their keys, and not in that of `$orderby`.
    pub fn is_by_key(&self) -> bool {
        self.by_key
    }

    /// The places of the rows, for whoever wants to know which of them another frame has too.
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// Reads a field.
    pub fn column(&self, field: FieldId) -> Result<FrameColumn<'_>> {
        Ok(FrameColumn {
            frame: self,
            field,
            known: self.known(field)?,
            held: Vec::new(),
            records: None,
        })
    }

    fn known(&self, field: FieldId) -> Result<Arc<Known>> {
        let held = |frame: &Self| {
            let fields = frame.fields.lock().unwrap_or_else(PoisonError::into_inner);
            fields.get(&field).cloned()
        };
        if let Some(known) = held(self) {
            return Ok(known);
        }
        let (snapshot, id) = (self.table.snapshot, self.table.id);
        let mut past = HashMap::new();
        if self.table.at < snapshot.sequence() {
            // Of several changes of a slot the first says what was there before.
            snapshot.field_events(id, field.0, self.table.at, |event| {
                past.entry(event.slot)
                    .or_insert_with(|| event.previous.to_vec());
                Ok(())
            })?;
        }
        let known = Arc::new(Known {
            dictionary: Arc::new(snapshot.dictionary_of(id, field)?),
            past,
        });
        let mut fields = self.fields.lock().unwrap_or_else(PoisonError::into_inner);
        fields.insert(field, Arc::clone(&known));
        Ok(known)
    }
}

/// What the cells of a segment are, as it says before any of them is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extent {
    /// Integers that count units of `10^-scale`, from the least to the greatest, and nulls.
    Numbers {
        /// What is counted.
        unit: Unit,
        /// The digits behind the point.
        scale: u8,
        /// The least and the greatest of all its slots; `None` where there is no number.
        range: Option<(i64, i64)>,
    },
    /// Codes of the field's dictionary, and nulls.
    Codes,
    /// The field is absent.
    Absent,
    /// Any cells.
    Cells,
}

impl Extent {
    fn of(segment: &Segment) -> Self {
        match &segment.values {
            Values::Absent => Extent::Absent,
            Values::Numbers(numbers) => Extent::Numbers {
                unit: numbers.unit,
                scale: numbers.scale,
                range: numbers.range,
            },
            Values::Codes(_) => Extent::Codes,
            Values::Elsewhere | Values::Bytes { .. } => Extent::Cells,
        }
    }
}

/// One field of a frame; what it reads it holds only for a while.
pub struct FrameColumn<'f> {
    frame: &'f Frame<'f>,
    field: FieldId,
    known: Arc<Known>,
    /// The segments read last.
    held: Vec<(u32, Option<Arc<Segment>>)>,
    records: Option<RecordReader<'f>>,
}

impl std::fmt::Debug for FrameColumn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameColumn")
            .field("field", &self.field)
            .finish_non_exhaustive()
    }
}

impl FrameColumn<'_> {
    /// The field.
    pub fn field(&self) -> FieldId {
        self.field
    }

    /// Its cells in a range of rows.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(&mut self, rows: Range<usize>) -> Result<Part> {
        let mut part = Part::default();
        self.read_into(rows, &mut part)?;
        Ok(part)
    }

    /// As [`read`](Self::read), into the room of a part that is not needed any more: fresh memory
    /// costs more than the work.
    ///
    /// # Errors
    /// When the store cannot be read; the part then holds anything.
    pub fn read_into(&mut self, rows: Range<usize>, part: &mut Part) -> Result<()> {
        let slots = self.frame.slots.get(rows.clone()).unwrap_or_default();
        if let Some(placed) = self.frame.placed.get(rows.clone())
            && self
                .frame
                .chunks
                .binary_search_by_key(&rows.start, |c| c.start)
                .is_ok_and(|at| self.frame.chunks.get(at) == Some(&rows))
        {
            return self.gather(placed, part);
        }
        let mut placed: Vec<(u32, u32)> = slots.iter().copied().zip(0..).collect();
        if !placed.is_sorted() {
            placed.sort_unstable();
        }
        self.gather(&placed, part)
    }

    /// No rows, but the codes that the field has.
    pub fn codes(&self) -> Part {
        Part::absent(0, Arc::clone(&self.known.dictionary))
    }

    /// Visits the cells of all rows in whatever order is cheapest, until `visit` has had enough.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn scan(&mut self, visit: &mut dyn FnMut(&Part, Item<'_>) -> bool) -> Result<()> {
        self.scan_but(&mut |_| false, visit)
    }

    /// As [`scan`](Self::scan), but leaves out the rows of a segment when `known` says that what it
    /// holds tells enough.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn scan_but(
        &mut self,
        known: &mut dyn FnMut(Extent) -> bool,
        visit: &mut dyn FnMut(&Part, Item<'_>) -> bool,
    ) -> Result<()> {
        let sorted;
        let slots: &[u32] = if self.frame.slots.is_sorted() {
            &self.frame.slots
        } else {
            let mut copy = self.frame.slots.clone();
            copy.sort_unstable();
            sorted = copy;
            &sorted
        };
        // What a cell was before is not in its segment.
        let whole = self.known.past.is_empty();
        let (mut placed, mut part) = (Vec::new(), Part::default());
        for run in slots.chunk_by(|a, b| place(*a).0 == place(*b).0) {
            if whole
                && let Some(first) = run.first()
                && let Some(segment) = self.segment(place(*first).0)?
                && known(Extent::of(&segment))
            {
                continue;
            }
            placed.clear();
            placed.extend(run.iter().copied().zip(0..));
            self.gather(&placed, &mut part)?;
            for row in 0..part.len() {
                if !visit(&part, part.item(row)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The cells of slots, ascending, each at its place.
    fn gather(&mut self, placed: &[(u32, u32)], part: &mut Part) -> Result<()> {
        let known = Arc::clone(&self.known);
        part.reset(placed.len(), &known.dictionary);
        for run in placed.chunk_by(|a, b| place(a.0).0 == place(b.0).0) {
            let Some((first, _)) = run.first() else {
                continue;
            };
            let segment = self.segment(place(*first).0)?;
            let Some(segment) = segment.as_deref() else {
                continue;
            };
            if segment.is_elsewhere() {
                for (slot, at) in run {
                    self.take_record(*slot, *at as usize, part)?;
                }
                continue;
            }
            let rows = run
                .iter()
                .map(|(slot, at)| (*at as usize, usize::from(place(*slot).1)));
            part.take(segment, rows);
        }
        if !known.past.is_empty() {
            for (slot, at) in placed {
                if let Some(cell) = known.past.get(slot) {
                    part.put_cell(*at as usize, cell);
                }
            }
        }
        Ok(())
    }

    fn segment(&mut self, number: u32) -> Result<Option<Arc<Segment>>> {
        if let Some((_, segment)) = self.held.iter().find(|(own, _)| *own == number) {
            return Ok(segment.clone());
        }
        let (snapshot, id) = (self.frame.table.snapshot, self.frame.table.id);
        let segment = snapshot.segment_of(id, self.field, number)?.map(Arc::new);
        if self.held.len() >= HELD {
            self.held.remove(0);
        }
        self.held.push((number, segment.clone()));
        Ok(segment)
    }

    fn take_record(&mut self, slot: u32, at: usize, part: &mut Part) -> Result<()> {
        let table = &self.frame.table;
        let reader = match &mut self.records {
            Some(reader) => reader,
            none => none.insert(table.snapshot.records(table.id)?),
        };
        let record = table.record_by(reader, slot)?;
        let mut cell = Vec::new();
        if let Some(found) = record.cell(self.field) {
            found.write(&mut cell);
        }
        part.put_cell(at, &cell);
        Ok(())
    }
}

/// The slots of a selection in ascending order of their keys.
fn in_key_order(table: &Table<'_>, selection: &Selection) -> Result<Vec<u32>> {
    let slots: Vec<u32> = selection.slots().collect();
    if table
        .integer_keys(slots.get(..1).unwrap_or_default())?
        .is_some()
    {
        return order::in_key_order(table, &slots);
    }
    // Keys of text take far more room than slots: the records are kept in their order.
    drop(slots);
    let mut out = Vec::new();
    table.snapshot.each_slot(table.id, |slot| {
        let (segment, row) = place(slot);
        let mask = selection.masks.get(segment as usize);
        if mask.is_some_and(|mask| mask.contains(usize::from(row))) {
            out.push(slot);
        }
        Ok(true)
    })?;
    Ok(out)
}

/// Cuts rows into chunks, where segments end if they can; and whether they are scattered.
fn chunks_of(slots: &[u32]) -> (Vec<Range<usize>>, bool) {
    let mut out = Vec::new();
    let mut start = 0;
    let mut touched = 0;
    let mut before = None;
    for (at, slot) in slots.iter().enumerate() {
        let segment = place(*slot).0;
        let moved = before.is_some_and(|before| before != segment);
        touched += usize::from(moved);
        let len = at - start;
        if len == CHUNK || (moved && len >= ENOUGH) {
            out.push(start..at);
            start = at;
        }
        before = Some(segment);
    }
    if start < slots.len() {
        out.push(start..slots.len());
    }
    // A few moves a chunk are new records between old ones; many are another order. Moves are no
    // more than segments touched, where each is met once.
    let scattered =
        touched > out.len() * SCATTERED && distinct(slots, &out) > SCATTERED * out.len();
    (out, scattered)
}

/// How many segments the chunks touch, those of each counted.
fn distinct(slots: &[u32], chunks: &[Range<usize>]) -> usize {
    let count = |chunk: &Range<usize>| {
        let mut segments: Vec<u32> = slots
            .get(chunk.clone())
            .unwrap_or_default()
            .iter()
            .map(|slot| place(*slot).0)
            .collect();
        segments.sort_unstable();
        segments.dedup();
        segments.len()
    };
    chunks.iter().map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_end_where_segments_do() {
        let slots: Vec<u32> = (0..20_000).filter(|slot| slot % 10 != 0).collect();
        let (chunks, scattered) = chunks_of(&slots);
        assert_eq!(chunks, [0..7_372, 7_372..14_745, 14_745..18_000]);
        assert!(!scattered);
        let mixed: Vec<u32> = (0..100_000).map(|n| n * 7_919 % 100_000).collect();
        let (chunks, scattered) = chunks_of(&mixed);
        assert!(scattered);
        let covered: usize = chunks.iter().map(ExactSizeIterator::len).sum();
        assert_eq!(covered, mixed.len());
        assert_eq!(chunks_of(&[]), (Vec::new(), false));
    }
}
