//! Columns: one field of many records side by side, for scans. Pure.
//!
//! A column holds the encoded [`Cell`](crate::record::Cell) of each slot, cut into segments of
//! [`SEGMENT_ROWS`] slots. Nothing is lost: a segment gives back the very cell the record has, so
//! an answer from columns is the answer from records. What differs is the layout, chosen for each
//! segment by what its cells are: numbers, codes into a dictionary, or bytes.
//!
//! rayon is named in `job`: fields are independent.

mod bits;
mod block;
mod dictionary;
mod edit;
mod erase;
mod job;
mod number;
mod pack;
mod part;
mod segment;
mod sorted;

pub(crate) use bits::Mask;
pub(crate) use block::{Block, BlockBuilder};
use dictionary::ABSENT;
pub(crate) use dictionary::Dictionary;
pub(crate) use edit::{Edit, edited, edited_in_place};
pub(crate) use erase::without;
pub(crate) use job::{
    Cells, FieldDone, FieldJob, NO_SLOT, Placed, Run, SegmentJob, edit_all, on_all_cores, runs,
};
pub(crate) use number::Form;
pub use number::Unit;
pub use part::{Item, Numeral, Part};
pub(crate) use segment::{Numbers, Segment, Values, slice_of};
pub(crate) use sorted::{Sorted, Texts};

/// Slots a segment covers. Part of the file format.
pub(crate) const SEGMENT_ROWS: u32 = 8_192;

/// The segment a slot is in, and its place there.
pub(crate) fn place(slot: u32) -> (u32, u16) {
    let row = slot % SEGMENT_ROWS;
    (slot / SEGMENT_ROWS, u16::try_from(row).unwrap_or(u16::MAX))
}
