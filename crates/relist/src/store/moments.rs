//! Moments: which sequence was the last at a time. Each says which one came before it, so that one
//! that is missing is noticed.

use super::format::{TableId, corrupt, seal, unseal};
use super::guarded::{ReadableTable as _, Table};
use super::tables as t;
use super::{AsOf, Snapshot, engine};
use crate::error::{Error, Result};

impl Snapshot {
    /// The sequence an instant or a sequence stands for.
    ///
    /// # Errors
    /// [`Error::Usage`] for a sequence that was not given yet, [`Error::Pruned`] for a moment whose
    /// history is not held any more.
    pub fn resolve(&self, at: AsOf) -> Result<u64> {
        let sequence = self.sequence_of(at)?;
        if sequence < self.sequence() {
            let edge = self.pruned()?;
            if sequence < edge {
                return Err(Error::Pruned { oldest: edge + 1 });
            }
        }
        Ok(sequence)
    }

    fn sequence_of(&self, at: AsOf) -> Result<u64> {
        match at {
            AsOf::Sequence(sequence) if sequence <= self.sequence() => Ok(sequence),
            AsOf::Sequence(sequence) => Err(Error::Usage(format!(
                "sequence {sequence} is not reached yet: the last one is {}",
                self.sequence()
            ))),
            AsOf::Instant(instant) => {
                let table = self.txn.open_table(t::INSTANTS).map_err(engine)?;
                let last = table.range(..=instant.0).map_err(engine)?.next_back();
                let found = match last.transpose().map_err(engine)? {
                    Some((at, value)) => instant_of(at.value(), value.value())?.0,
                    None => 0,
                };
                // What follows says what came before it: none in between is missing.
                let after = table.range(instant.0.saturating_add(1)..);
                let next = after.map_err(engine)?.next().transpose().map_err(engine)?;
                let before = match next {
                    Some((at, value)) => instant_of(at.value(), value.value())?.1,
                    None => self.sequence(),
                };
                if found == before {
                    return Ok(found);
                }
                Err(corrupt(TableId::Instants, "a moment is missing"))
            }
        }
    }
}

/// The last sequence of a moment, and that of the moment before.
pub(super) fn instant_of(at: i64, value: &[u8]) -> Result<(u64, u64)> {
    let short = || corrupt(TableId::Instants, "a short entry");
    let place = (TableId::Instants, at.to_be_bytes());
    let (sequence, rest) = unseal((place.0, place.1.as_slice()), value)?
        .split_first_chunk()
        .ok_or_else(short)?;
    let before = rest.first_chunk().ok_or_else(short)?;
    Ok((u64::from_le_bytes(*sequence), u64::from_le_bytes(*before)))
}

/// Removes the moments before a sequence; the log begins behind it.
pub(super) fn begin_instants(table: &mut Table<'_, i64, t::Bytes>, edge: u64) -> Result<()> {
    let mut gone = Vec::new();
    let mut first = None;
    for item in table.range::<i64>(..).map_err(engine)? {
        let (at, value) = item.map_err(engine)?;
        let (sequence, _) = instant_of(at.value(), value.value())?;
        if sequence >= edge {
            first = Some((at.value(), sequence));
            break;
        }
        gone.push(at.value());
    }
    for at in gone {
        table.remove(at).map_err(engine)?;
    }
    match first {
        // None comes before it any more.
        Some((at, sequence)) => put_instant(table, at, sequence),
        None => Ok(()),
    }
}

/// Writes the last sequence of a moment.
pub(super) fn put_instant(
    table: &mut Table<'_, i64, t::Bytes>,
    at: i64,
    sequence: u64,
) -> Result<()> {
    let last = table.range(..at).map_err(engine)?.next_back();
    let before = match last.transpose().map_err(engine)? {
        Some((at, value)) => instant_of(at.value(), value.value())?.0,
        None => 0,
    };
    let mut value = sequence.to_le_bytes().to_vec();
    value.extend_from_slice(&before.to_le_bytes());
    let place = at.to_be_bytes();
    let value = seal((TableId::Instants, place.as_slice()), value);
    table.insert(at, value.as_slice()).map_err(engine)?;
    Ok(())
}
