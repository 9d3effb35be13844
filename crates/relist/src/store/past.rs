//! Columns of a past moment: those of now, with what came after undone.
//!
//! The cost is that of the changes undone, not of the records there are.

use std::sync::Arc;

use super::columns::Column;
use super::field_changes::{each_event, ends_early};
use super::{Operation, Snapshot};
use crate::column::{Dictionary, Edit, Mask, edited, edited_in_place, on_all_cores, place};
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

/// What one segment had in some of its rows: each row, and where its cell ends.
#[derive(Debug, Default, Clone)]
struct Undone {
    rows: Vec<(u16, u32)>,
    cells: Vec<u8>,
}

impl Undone {
    fn edits(&self) -> Vec<Edit<'_>> {
        let mut start = 0;
        let edits = self.rows.iter().map(|(row, end)| {
            let cell = self.cells.get(start..*end as usize).unwrap_or_default();
            start = *end as usize;
            Edit { row: *row, cell }
        });
        edits.collect()
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
        let undone = self.undone(resource, field, at)?;
        if undone.is_empty() {
            return Ok(now);
        }
        let mut column = Column::clone(&now);
        let numbered = undone.into_iter().enumerate();
        let edited_segments: Vec<(usize, Undone)> = numbered
            .filter(|(number, undone)| !undone.rows.is_empty() && *number < column.segments.len())
            .collect();
        let jobs: Vec<(usize, &Undone)> = edited_segments.iter().map(|(n, u)| (*n, u)).collect();
        let dictionary: &Dictionary = &now.dictionary;
        let old = |number: usize| now.segments.get(number)?.as_deref();
        let done = on_all_cores(jobs, |(number, undone)| {
            let edits = undone.edits();
            let rows = rows_of(&edits);
            let segment = old(number)?;
            edited_in_place(segment, rows, &edits, dictionary)
        });
        for ((number, undone), done) in edited_segments.iter().zip(done) {
            let segment = done.unwrap_or_else(|| {
                let edits = undone.edits();
                let dictionary = Arc::make_mut(&mut column.dictionary);
                edited(old(*number).cloned(), rows_of(&edits), &edits, dictionary)
            });
            if let Some(place) = column.segments.get_mut(*number) {
                *place = Some(Arc::new(segment));
            }
        }
        Ok(Arc::new(column))
    }

    /// By segment, what a field was before the first change after a sequence.
    fn undone(&self, resource: u16, field: FieldId, at: u64) -> Result<Vec<Undone>> {
        let mut seen = Seen::default();
        let mut out: Vec<Undone> = Vec::new();
        let mut take = |chunks: Vec<Vec<u8>>| -> Result<()> {
            for found in on_all_cores(chunks, |bytes| previous_cells(&bytes, at)) {
                let (slots, cells) = found?;
                let mut start = 0;
                for (slot, end) in slots {
                    let cell = cells.get(start..end as usize).unwrap_or_default();
                    start = end as usize;
                    if !seen.is_first(slot) {
                        continue;
                    }
                    let (segment, row) = place(slot);
                    if out.len() <= segment as usize {
                        out.resize(segment as usize + 1, Undone::default());
                    }
                    if let Some(own) = out.get_mut(segment as usize) {
                        own.cells.extend_from_slice(cell);
                        let end = u32::try_from(own.cells.len()).unwrap_or(u32::MAX);
                        own.rows.push((row, end));
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

/// The slots of a chunk's events, and the cells that were there before: where each ends, and all.
type Cells = (Vec<(u32, u32)>, Vec<u8>);

fn previous_cells(bytes: &[u8], after: u64) -> Result<Cells> {
    let mut slots = Vec::new();
    let mut cells = Vec::new();
    each_event(bytes, after, &mut |event| {
        cells.extend_from_slice(event.previous);
        slots.push((event.slot, u32::try_from(cells.len()).unwrap_or(u32::MAX)));
        Ok(())
    })
    .ok_or_else(ends_early)??;
    Ok((slots, cells))
}

/// The rows that a segment must have to take edits.
fn rows_of(edits: &[Edit<'_>]) -> usize {
    let rows = edits.iter().map(|edit| usize::from(edit.row) + 1);
    rows.max().unwrap_or(0)
}
