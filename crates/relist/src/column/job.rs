//! The work of one commit on columns, a field at a time: fields are independent.

use rayon::prelude::*;

use super::{Dictionary, Edit, Segment, edited};

/// What one field's column becomes.
#[derive(Debug)]
pub(crate) struct FieldJob<'a> {
    pub(crate) field: u16,
    /// The field's dictionary as it is stored.
    pub(crate) dictionary: Dictionary,
    pub(crate) segments: Vec<SegmentJob<'a>>,
}

/// What one segment becomes.
#[derive(Debug)]
pub(crate) struct SegmentJob<'a> {
    pub(crate) segment: u32,
    /// The encoded segment as it is stored.
    pub(crate) old: Option<Vec<u8>>,
    /// The slots it is to cover.
    pub(crate) rows: usize,
    pub(crate) edits: Vec<Edit<'a>>,
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
    let mut dictionary = job.dictionary;
    let known = dictionary.len();
    let mut segments = Vec::with_capacity(job.segments.len());
    for one in job.segments {
        let old = match &one.old {
            Some(bytes) => Some(Segment::decode(bytes)?),
            None => None,
        };
        let segment = edited(old, one.rows, &one.edits, &mut dictionary);
        segments.push((one.segment, segment.encode()));
    }
    let cells = (dictionary.len() > known).then(|| (known, dictionary.chunk(known)));
    Some(FieldDone {
        field: job.field,
        cells,
        segments,
    })
}
