//! Large values in pieces.
//!
//! redb gives a large value pages of its own, 4 KiB times a power of two: a value just over one
//! takes twice its size. Cut at the powers of two, the waste is that of the last small piece.

use super::engine;
use super::guarded::{ReadableTable, Table};
use super::tables as t;
use crate::error::Result;

/// What fits in pages of 128, 64, 32, 16, 8 and 4 KiB with the engine's own bytes.
const SIZES: [usize; 6] = [130_960, 65_424, 32_656, 16_272, 8_080, 3_984];

/// A value's key, and which piece of it.
fn piece_key(key: [u8; 8], piece: u8) -> [u8; 9] {
    let mut out = [piece; 9];
    out.iter_mut().zip(key).for_each(|(to, from)| *to = from);
    out
}

/// Stores a value in the place of the one before.
pub(super) fn write(
    table: &mut Table<'_, t::Bytes, t::Bytes>,
    key: [u8; 8],
    value: &[u8],
) -> Result<()> {
    let mut rest = value;
    let mut number = 0_u8;
    loop {
        let size = SIZES.iter().copied().find(|size| *size <= rest.len());
        // More pieces than a byte counts do not come about: the last one takes what is left.
        let size = size.filter(|_| number < u8::MAX).unwrap_or(rest.len());
        let (piece, left) = rest.split_at(size);
        table
            .insert(piece_key(key, number).as_slice(), piece)
            .map_err(engine)?;
        rest = left;
        if rest.is_empty() {
            break;
        }
        number += 1;
    }
    // The value before may have had more of them.
    while let Some(next) = number.checked_add(1) {
        let old = table.remove(piece_key(key, next).as_slice());
        if old.map_err(engine)?.is_none() {
            break;
        }
        number = next;
    }
    Ok(())
}

/// Reads a value; `None` when there is none.
pub(super) fn read(
    table: &impl ReadableTable<t::Bytes, t::Bytes>,
    key: [u8; 8],
) -> Result<Option<Vec<u8>>> {
    let mut found = None;
    each(table, key, key, |_, value| {
        found = Some(value);
        Ok(())
    })?;
    Ok(found)
}

/// Visits the values from one key to another, both included.
pub(super) fn each(
    table: &impl ReadableTable<t::Bytes, t::Bytes>,
    first: [u8; 8],
    last: [u8; 8],
    mut visit: impl FnMut([u8; 8], Vec<u8>) -> Result<()>,
) -> Result<()> {
    let (start, end) = (piece_key(first, 0), piece_key(last, u8::MAX));
    let range = table
        .range(start.as_slice()..=end.as_slice())
        .map_err(engine)?;
    let mut held: Option<([u8; 8], Vec<u8>)> = None;
    for entry in range {
        let (key, piece) = entry.map_err(engine)?;
        let key = key.value().first_chunk().copied().unwrap_or_default();
        match &mut held {
            Some((own, value)) if *own == key => value.extend_from_slice(piece.value()),
            other => {
                let value = piece.value().to_vec();
                if let Some((key, value)) = other.replace((key, value)) {
                    visit(key, value)?;
                }
            }
        }
    }
    match held {
        Some((key, value)) => visit(key, value),
        None => Ok(()),
    }
}
