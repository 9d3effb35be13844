//! Columns of a past moment: those of now, with what came after undone.
//!
//! The cost is that of the changes undone, not of the records there are.

use std::sync::Arc;

use super::columns::Column;
use super::field_changes::{each_event, ends_early};
use super::{Operation, Snapshot};
use crate::column::{
    Dictionary, Edit, Mask, Segment, edited, edited_in_place, on_all_cores, place,
};
use crate::error::Result;
use crate::schema::FieldId;

/// Chunks of the log by field that are read on all cores at a time.
const CHUNKS: usize = 64;

/// Slots met so far.
#[derive(Default)]
struct Seen {
    words: Vec<u64>,
}

impl Seen {
    /// Whether a slot is met for the first time.
    fn is_first(&mut self, slot: u32) -> bool {
        let (at, bit) = (slot as usize / 64, 1 << (slot % 64));
        if self.words.len() <= at {
            self.words.resize(at + 1, 0);
        }
        let Some(word) = self.words.get_mut(at) else {
            return false;
        };
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

/// In place of a code: the cell is not in the dictionary, but among [`Undone::cells`].
const UNCODED: u16 = u16::MAX;

/// What one segment, or what one chunk speaks of, had in some of its rows.
#[derive(Debug, Default, Clone)]
struct Undone<R> {
    /// Rows or slots, each with the code of its cell.
    rows: Vec<(R, u16)>,
    /// The cells without a code, in the order of their rows: where each ends, and all.
    ends: Vec<u32>,
    cells: Vec<u8>,
}

impl<R: Copy> Undone<R> {
    fn new() -> Self {
        Undone {
            rows: Vec::new(),
            ends: Vec::new(),
            cells: Vec::new(),
        }
    }

    fn push(&mut self, row: R, code: u16, cell: &[u8]) {
        if code == UNCODED {
            self.cells.extend_from_slice(cell);
            let end = u32::try_from(self.cells.len()).unwrap_or(u32::MAX);
            self.ends.push(end);
        }
        self.rows.push((row, code));
    }

    /// Each row with its code and, if it has none, its cell.
    fn each(&self) -> impl Iterator<Item = (R, u16, &[u8])> {
        let (mut start, mut ends) = (0, self.ends.iter());
        self.rows.iter().map(move |(row, code)| {
            if *code != UNCODED {
                return (*row, *code, &[][..]);
            }
            let end = ends.next().map_or(start, |end| *end as usize);
            let cell = self.cells.get(start..end).unwrap_or_default();
            start = end;
            (*row, *code, cell)
        })
    }
}

impl Undone<u16> {
    fn edits<'u>(&'u self, dictionary: &'u Dictionary) -> Vec<Edit<'u>> {
        let edits = self.each().map(|(row, code, cell)| Edit {
            row,
            cell: if code == UNCODED {
                cell
            } else {
                dictionary.cell(code).unwrap_or_default()
            },
        });
        edits.collect()
    }

    /// The segment with these cells; `None` where its layout or the dictionary must change.
    fn in_place(&self, old: &Segment, dictionary: &Dictionary) -> Option<Segment> {
        if self.ends.is_empty()
            && let Some(done) = old.with_codes(&self.rows)
        {
            return Some(done);
        }
        let edits = self.edits(dictionary);
        edited_in_place(old, rows_of(&edits), &edits, dictionary)
    }
}

impl Snapshot {
    /// Which slots held a record just after a sequence.
    pub(crate) fn live_at(&self, resource: u16, live: &[Mask], at: u64) -> Result<Vec<Mask>> {
        let mut seen = Seen::default();
        let mut out = live.to_vec();
        self.presence_events(resource, at, |event| {
            let (segment, row) = place(event.slot);
            // Of several events of a slot the first says what was there before.
            if seen.is_first(event.slot)
                && let Some(mask) = out.get_mut(segment as usize)
            {
                // What was deleted later was there; what came later was not.
                mask.set(usize::from(row), event.operation == Operation::Delete);
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// A column as it was just after a sequence.
    pub(crate) fn column_at(
        &self,
        resource: u16,
        field: FieldId,
        now: Arc<Column>,
        at: u64,
    ) -> Result<Arc<Column>> {
        let undone = self.undone(resource, field, &now.dictionary, at)?;
        if undone.is_empty() {
            return Ok(now);
        }
        let mut column = Column::clone(&now);
        let numbered = undone.iter().enumerate();
        let touched: Vec<(usize, &Undone<u16>)> = numbered
            .filter(|(number, undone)| !undone.rows.is_empty() && *number < now.segments.len())
            .collect();
        let old = |number: usize| now.segments.get(number)?.as_deref();
        let done = on_all_cores(touched.clone(), |(number, undone)| {
            undone.in_place(old(number)?, &now.dictionary)
        });
        for ((number, undone), done) in touched.into_iter().zip(done) {
            let segment = done.unwrap_or_else(|| {
                let edits = undone.edits(&now.dictionary);
                let dictionary = Arc::make_mut(&mut column.dictionary);
                edited(old(number).cloned(), rows_of(&edits), &edits, dictionary)
            });
            if let Some(place) = column.segments.get_mut(number) {
                *place = Some(Arc::new(segment));
            }
        }
        Ok(Arc::new(column))
    }

    /// By segment, what a field was before the first change after a sequence.
    fn undone(
        &self,
        resource: u16,
        field: FieldId,
        dictionary: &Dictionary,
        at: u64,
    ) -> Result<Vec<Undone<u16>>> {
        let mut seen = Seen::default();
        let mut out: Vec<Undone<u16>> = Vec::new();
        let mut take = |chunks: Vec<Vec<u8>>| -> Result<()> {
            for found in on_all_cores(chunks, |bytes| previous_cells(&bytes, dictionary, at)) {
                for (slot, code, cell) in found?.each() {
                    if !seen.is_first(slot) {
                        continue;
                    }
                    let (segment, row) = place(slot);
                    if out.len() <= segment as usize {
                        out.resize(segment as usize + 1, Undone::new());
                    }
                    if let Some(own) = out.get_mut(segment as usize) {
                        own.push(row, code, cell);
                    }
                }
            }
            Ok(())
        };
        let mut waiting: Vec<Vec<u8>> = Vec::new();
        self.event_chunks(resource, field.0, at, |bytes| {
            waiting.push(bytes.to_vec());
            if waiting.len() == CHUNKS {
                take(std::mem::take(&mut waiting))?;
            }
            Ok(true)
        })?;
        take(waiting)?;
        Ok(out)
    }
}

/// The slots of a chunk's events, each with what was there before.
fn previous_cells(bytes: &[u8], dictionary: &Dictionary, after: u64) -> Result<Undone<u32>> {
    let mut out = Undone::new();
    // Changes that follow each other are often alike.
    let mut last: (&[u8], u16) = (&[], dictionary.known(&[]).unwrap_or(UNCODED));
    each_event(bytes, after, &mut |event| {
        if event.previous != last.0 {
            let code = dictionary.known(event.previous);
            last = (event.previous, code.unwrap_or(UNCODED));
        }
        out.push(event.slot, last.1, event.previous);
        Ok(())
    })
    .ok_or_else(ends_early)??;
    Ok(out)
}

/// The rows that a segment must have to take edits.
fn rows_of(edits: &[Edit<'_>]) -> usize {
    let rows = edits.iter().map(|edit| usize::from(edit.row) + 1);
    rows.max().unwrap_or(0)
}
