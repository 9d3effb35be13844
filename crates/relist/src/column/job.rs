//! The work of one commit on columns, a field at a time: fields are independent.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::{Block, Dictionary, Edit, Segment, edited, place};

/// The slots that the records of a block were given.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) block: Arc<Block>,
    /// By record of the block; [`NO_SLOT`] for one that is not new. Ascending but for those.
    pub(crate) slots: Vec<u32>,
}

/// No slot: no store has so many records.
pub(crate) const NO_SLOT: u32 = u32::MAX;

/// Which records of a block went into a segment.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) segment: u32,
    placed: &'a Placed,
    rows: Range<usize>,
}

impl Run<'_> {
    /// The fields that records of the block have.
    pub(crate) fn fields(&self) -> impl Iterator<Item = u16> {
        self.placed.block.fields()
    }
}

/// The segments that blocks went into, in order.
pub(crate) fn runs(placed: &[Placed]) -> Vec<Run<'_>> {
    let mut out: Vec<Run<'_>> = Vec::with_capacity(placed.len() + 1);
    for one in placed {
        let mut last: Option<Run<'_>> = None;
        for (row, slot) in one.slots.iter().enumerate() {
            if *slot == NO_SLOT {
                continue;
            }
            let segment = place(*slot).0;
            match &mut last {
                Some(run) if run.segment == segment => run.rows.end = row + 1,
                other => out.extend(other.replace(Run {
                    segment,
                    placed: one,
                    rows: row..row + 1,
                })),
            }
        }
        out.extend(last);
    }
    out.sort_by_key(|run| run.segment);
    out
}

/// New cells of one field, by slot, in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    slots: Vec<u32>,
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl Cells {
    /// A slot has this cell now; it is empty where the field is absent.
    pub(crate) fn push(&mut self, slot: u32, cell: &[u8]) {
        self.bytes.extend_from_slice(cell);
        self.slots.push(slot);
        self.ends.push(self.bytes.len());
    }

    /// The slots and their cells.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut start = 0;
        self.slots.iter().zip(&self.ends).map(move |(slot, end)| {
            let cell = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            (*slot, cell)
        })
    }
}

/// What one field's column becomes.
#[derive(Debug)]
pub(crate) struct FieldJob<'a> {
    pub(crate) field: u16,
    /// The field's dictionary as it is stored.
    pub(crate) dictionary: Dictionary,
    pub(crate) segments: Vec<SegmentJob>,
    /// Cells of new records.
    pub(crate) runs: &'a [Run<'a>],
    /// Cells of the field that came after those.
    pub(crate) changed: Option<&'a Cells>,
}

/// What one segment becomes.
#[derive(Debug)]
pub(crate) struct SegmentJob {
    pub(crate) segment: u32,
    /// The encoded segment as it is stored.
    pub(crate) old: Option<Vec<u8>>,
    /// The slots it is to cover.
    pub(crate) rows: usize,
}

/// A field's column, encoded.
#[derive(Debug)]
pub(crate) struct FieldDone {
    pub(crate) field: u16,
    /// The dictionary's new cells, and the place of the first of them.
    pub(crate) cells: Option<(usize, Vec<u8>)>,
    pub(crate) segments: Vec<(u32, Vec<u8>)>,
}

/// Edits the columns of all fields on all cores; `None` when a stored segment is none.
pub(crate) fn edit_all(jobs: Vec<FieldJob<'_>>) -> Option<Vec<FieldDone>> {
    jobs.into_par_iter().map(edit_field).collect()
}

/// Does the same to each on all cores, in order.
pub(crate) fn on_all_cores<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> R + Sync + Send,
) -> Vec<R> {
    items.into_par_iter().map(work).collect()
}

fn edit_field(job: FieldJob<'_>) -> Option<FieldDone> {
    let FieldJob {
        field,
        mut dictionary,
        segments,
        runs,
        changed,
    } = job;
    let known = dictionary.len();
    let mut done = Vec::with_capacity(segments.len());
    let mut edits = Vec::new();
    for one in segments {
        let old = match &one.old {
            Some(bytes) => Some(Segment::decode(bytes)?),
            None => None,
        };
        edits.clear();
        collect(field, one.segment, runs, changed, &mut edits);
        let segment = edited(old, one.rows, &edits, &mut dictionary);
        done.push((one.segment, segment.encode()));
    }
    let cells = (dictionary.len() > known).then(|| (known, dictionary.chunk(known)));
    Some(FieldDone {
        field,
        cells,
        segments: done,
    })
}

/// The edits of one field in one segment.
fn collect<'a>(
    field: u16,
    segment: u32,
    runs: &'a [Run<'a>],
    changed: Option<&'a Cells>,
    out: &mut Vec<Edit<'a>>,
) {
    let from = runs.partition_point(|run| run.segment < segment);
    let own = runs.get(from..).unwrap_or_default().iter();
    for run in own.take_while(|run| run.segment == segment) {
        for (row, cell) in run.placed.block.cells(field, run.rows.clone()) {
            let slot = run.placed.slots.get(row).copied().unwrap_or(NO_SLOT);
            if slot != NO_SLOT {
                let row = place(slot).1;
                out.push(Edit { row, cell });
            }
        }
    }
    for (slot, cell) in changed.into_iter().flat_map(Cells::iter) {
        let (at, row) = place(slot);
        if at == segment {
            out.push(Edit { row, cell });
        }
    }
}
