//! Changes by field: the changelog once more, a field at a time.
//!
//! What a question about one field's past needs, and nothing else: all price changes of a month
//! are one range, and the column of any moment is the column of now with the later changes undone.

use std::collections::BTreeMap;

use super::columns::{add_fields, has_field};
use super::format::{TableId, corrupt, seal, unseal};
use super::guarded::{ReadOnlyTable, ReadableTable as _, Table};
use super::tables as t;
use super::{Cause, Operation, Snapshot, WriteTxn, engine};
use crate::error::{Error, Result};
use crate::record::codec::{Reader, put_bytes, put_signed, put_u64};
use crate::value::Timestamp;

/// Whole records that come and go.
pub(super) const PRESENCE: u16 = u16::MAX - 2;
/// Which fields have changes at all.
const CHANGED: u16 = u16::MAX - 4;
/// An entry's chunk is closed when it has so many bytes: redb doubles what is just over 2^n.
const CHUNK_BYTES: usize = 15_900;

/// In an entry's flags: the value changed, not only how it is written.
const VALUE: u64 = 1;
/// A source time follows.
const TIMED: u64 = 2;
/// What happened to the record, above the flags.
const OPERATION_SHIFT: u32 = 2;

/// What the changes of one transaction share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) observed: Timestamp,
    pub(crate) cause: Cause,
    pub(crate) run: u64,
}

/// One field's change, or a record's coming or going.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldEvent {
    pub(crate) sequence: u64,
    pub(crate) slot: u32,
    pub(crate) operation: Operation,
    /// Whether the value is another one: false where only its lexeme is.
    pub(crate) value_changed: bool,
    pub(crate) source_time: Option<Timestamp>,
    pub(crate) origin: Origin,
    /// Encoded cells; empty when absent.
    pub(crate) previous: Vec<u8>,
    pub(crate) new: Vec<u8>,
}

/// The events of one transaction, by resource and field, in the order of their sequences.
#[derive(Debug, Default)]
pub(super) struct FieldEvents {
    fields: BTreeMap<(u16, u16), Vec<FieldEvent>>,
}

impl FieldEvents {
    pub(super) fn push(&mut self, resource: u16, field: u16, event: FieldEvent) {
        self.fields
            .entry((resource, field))
            .or_default()
            .push(event);
    }
}

/// `resource, field, sequence`.
fn event_key(resource: u16, field: u16, sequence: u64) -> [u8; 12] {
    let mut out = [0; 12];
    let parts = resource
        .to_be_bytes()
        .into_iter()
        .chain(field.to_be_bytes());
    out.iter_mut()
        .zip(parts.chain(sequence.to_be_bytes()))
        .for_each(|(to, from)| *to = from);
    out
}

/// Begins a chunk, whose events all have this origin.
fn begin(origin: Origin) -> Vec<u8> {
    let mut out = Vec::new();
    put_signed(&mut out, i128::from(origin.observed.0));
    out.push(origin.cause as u8);
    put_u64(&mut out, origin.run);
    out
}

fn encode(event: &FieldEvent, before: u64, out: &mut Vec<u8>) {
    put_u64(out, event.sequence - before);
    put_u64(out, u64::from(event.slot));
    let mut flags = (event.operation as u64) << OPERATION_SHIFT;
    flags |= if event.value_changed { VALUE } else { 0 };
    flags |= if event.source_time.is_some() {
        TIMED
    } else {
        0
    };
    put_u64(out, flags);
    if let Some(at) = event.source_time {
        put_signed(out, i128::from(event.origin.observed.0) - i128::from(at.0));
    }
    put_bytes(out, &event.previous);
    put_bytes(out, &event.new);
}

/// An event whose cells are still in the chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventRef<'a> {
    pub(crate) sequence: u64,
    pub(crate) slot: u32,
    pub(crate) operation: Operation,
    pub(crate) value_changed: bool,
    pub(crate) source_time: Option<Timestamp>,
    pub(crate) origin: Origin,
    pub(crate) previous: &'a [u8],
    pub(crate) new: &'a [u8],
}

impl EventRef<'_> {
    /// The same, with cells of its own.
    pub(super) fn to_owned(self) -> FieldEvent {
        FieldEvent {
            sequence: self.sequence,
            slot: self.slot,
            operation: self.operation,
            value_changed: self.value_changed,
            source_time: self.source_time,
            origin: self.origin,
            previous: self.previous.to_vec(),
            new: self.new.to_vec(),
        }
    }
}

/// Events of one transaction and field as a chunk; empty of none.
pub(super) fn chunk(events: &[FieldEvent]) -> Vec<u8> {
    let Some(first) = events.first() else {
        return Vec::new();
    };
    let mut out = begin(first.origin);
    let mut last = 0;
    for event in events {
        encode(event, last, &mut out);
        last = event.sequence;
    }
    out
}

/// Calls `visit` with each event of a chunk behind `after`; `None` when the bytes are no chunk.
pub(crate) fn each_event<'a>(
    bytes: &'a [u8],
    after: u64,
    visit: &mut impl FnMut(EventRef<'a>) -> Result<()>,
) -> Option<Result<()>> {
    let mut r = Reader::new(bytes);
    let origin = Origin {
        observed: Timestamp(r.i64()?),
        cause: Cause::from_byte(r.u8()?)?,
        run: r.u64()?,
    };
    let mut sequence = 0;
    while !r.is_empty() {
        sequence += r.u64()?;
        let slot = u32::try_from(r.u64()?).ok()?;
        let flags = r.u64()?;
        let operation = Operation::from_byte(u8::try_from(flags >> OPERATION_SHIFT).ok()?)?;
        let source_time = if flags & TIMED == 0 {
            None
        } else {
            let ago = i64::try_from(r.signed()?).ok()?;
            Some(Timestamp(origin.observed.0.checked_sub(ago)?))
        };
        let (previous, new) = (r.bytes()?, r.bytes()?);
        if sequence <= after {
            continue;
        }
        let event = EventRef {
            sequence,
            slot,
            operation,
            value_changed: flags & VALUE != 0,
            source_time,
            origin,
            previous,
            new,
        };
        if let Err(e) = visit(event) {
            return Some(Err(e));
        }
    }
    Some(Ok(()))
}

/// What a chunk is that [`each_event`] cannot read.
pub(crate) fn ends_early() -> Error {
    corrupt(TableId::FieldChanges, "a chunk that ends early")
}

/// The set of fields that have changes.
fn changed_of(key: &[u8], value: &[u8]) -> Result<Vec<u8>> {
    unseal((TableId::FieldChanges, key), value).map(<[u8]>::to_vec)
}

fn a_chunk_is_missing() -> Error {
    corrupt(TableId::FieldChanges, "a chunk is missing")
}

/// Where the chunks of a field end, by the entry behind them.
fn end_of(key: &[u8], value: &[u8]) -> Result<u64> {
    let bytes = unseal((TableId::FieldChanges, key), value)?;
    let last = bytes.first_chunk().ok_or_else(ends_early)?;
    Ok(u64::from_le_bytes(*last))
}

/// The field of a chunk's key, and its last sequence; `None` when it is no chunk's.
pub(super) fn chunk_key(key: &[u8]) -> Option<(u16, u64)> {
    let field = u16::from_be_bytes(*key.get(2..)?.first_chunk()?);
    let last = u64::from_be_bytes(*key.last_chunk()?);
    (field != CHANGED).then_some((field, last))
}

/// Where the chunk before ended, and the chunk.
pub(super) fn chunk_of<'v>(key: &[u8], value: &'v [u8]) -> Result<(u64, &'v [u8])> {
    let bytes = unseal((TableId::FieldChanges, key), value)?;
    let (before, chunk) = bytes.split_first_chunk().ok_or_else(ends_early)?;
    Ok((u64::from_le_bytes(*before), chunk))
}

/// Stores a chunk, with where the one before it ended; an empty one behind all of them.
pub(super) fn put_chunk(
    table: &mut Table<'_, t::Bytes, t::Bytes>,
    key: &[u8],
    before: u64,
    chunk: &[u8],
) -> Result<()> {
    let value = [before.to_le_bytes().as_slice(), chunk].concat();
    let value = seal((TableId::FieldChanges, key), value);
    table.insert(key, value.as_slice()).map_err(engine)?;
    Ok(())
}

impl WriteTxn {
    pub(super) fn flush_events(&self, events: FieldEvents) -> Result<()> {
        if events.fields.is_empty() {
            return Ok(());
        }
        let mut table = self.txn.open_table(t::FIELD_CHANGES).map_err(engine)?;
        let mut changed: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
        for (resource, field) in events.fields.keys() {
            changed.entry(*resource).or_default().push(*field);
        }
        for (resource, fields) in changed {
            let key = event_key(resource, CHANGED, u64::MAX);
            let held = table.get(key.as_slice()).map_err(engine)?;
            let held = held.map(|v| changed_of(&key, v.value())).transpose()?;
            let (is_new, mut set) = (held.is_none(), held.unwrap_or_default());
            if add_fields(&mut set, &fields) || is_new {
                let value = seal((TableId::FieldChanges, key.as_slice()), set);
                table
                    .insert(key.as_slice(), value.as_slice())
                    .map_err(engine)?;
            }
        }
        for ((resource, field), list) in events.fields {
            let end_key = event_key(resource, field, u64::MAX);
            let mut ended = match table.get(end_key.as_slice()).map_err(engine)? {
                Some(value) => end_of(&end_key, value.value())?,
                None => 0,
            };
            let mut chunk = Vec::new();
            let mut last = 0;
            let mut waiting = list.iter().peekable();
            while let Some(event) = waiting.next() {
                if chunk.is_empty() {
                    chunk = begin(event.origin);
                    last = 0;
                }
                encode(event, last, &mut chunk);
                last = event.sequence;
                let goes_on = waiting.peek().is_some_and(|e| e.origin == event.origin);
                if chunk.len() > CHUNK_BYTES || !goes_on {
                    // Named by its last sequence: a range from any moment begins with the chunk
                    // that holds it.
                    let key = event_key(resource, field, last);
                    put_chunk(&mut table, &key, ended, &std::mem::take(&mut chunk))?;
                    ended = last;
                }
            }
            put_chunk(&mut table, &end_key, ended, &[])?;
        }
        Ok(())
    }
}

impl Snapshot {
    /// Calls `visit` with the events of a field after a sequence, oldest first.
    pub(crate) fn field_events(
        &self,
        resource: u16,
        field: u16,
        after: u64,
        mut visit: impl FnMut(EventRef<'_>) -> Result<()>,
    ) -> Result<()> {
        self.event_chunks(resource, field, after, |bytes| {
            each_event(bytes, after, &mut visit).ok_or_else(ends_early)??;
            Ok(true)
        })
    }

    /// Calls `visit` with the chunks that hold the events of a field after a sequence, oldest
    /// first, for [`each_event`]; until it says no.
    pub(crate) fn event_chunks(
        &self,
        resource: u16,
        field: u16,
        after: u64,
        mut visit: impl FnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        let table = self.txn.open_table(t::FIELD_CHANGES).map_err(engine)?;
        let start = event_key(resource, field, after.saturating_add(1));
        let end = event_key(resource, field, u64::MAX);
        // Each chunk says where the one before it ended, the last entry where they all end.
        let mut before: Option<u64> = None;
        let (mut ended, mut any) = (true, false);
        for entry in table
            .range(start.as_slice()..=end.as_slice())
            .map_err(engine)?
        {
            let (key, value) = entry.map_err(engine)?;
            let bytes = unseal((TableId::FieldChanges, key.value()), value.value())?;
            let (previous, chunk) = bytes.split_first_chunk().ok_or_else(ends_early)?;
            let previous = u64::from_le_bytes(*previous);
            any = true;
            // Where it is the first, none that is asked for may have come before it.
            if before.map_or(previous > after, |before| before != previous) {
                return Err(a_chunk_is_missing());
            }
            ended = chunk.is_empty();
            if ended {
                break;
            }
            before = key
                .value()
                .last_chunk()
                .map(|last| u64::from_be_bytes(*last));
            if !visit(chunk)? {
                return Ok(());
            }
        }
        if !ended || !any && self.has_changes(resource, field, &table)? {
            return Err(a_chunk_is_missing());
        }
        Ok(())
    }

    /// Whether a field has changes, as was noted when it got them.
    fn has_changes(
        &self,
        resource: u16,
        field: u16,
        table: &ReadOnlyTable<t::Bytes, t::Bytes>,
    ) -> Result<bool> {
        let key = event_key(resource, CHANGED, u64::MAX);
        match table.get(key.as_slice()).map_err(engine)? {
            Some(value) => Ok(has_field(&changed_of(&key, value.value())?, field)),
            None => Ok(self.slots(resource) > 0),
        }
    }

    /// Calls `visit` with the comings and goings of records after a sequence, oldest first.
    pub(crate) fn presence_events(
        &self,
        resource: u16,
        after: u64,
        visit: impl FnMut(EventRef<'_>) -> Result<()>,
    ) -> Result<()> {
        self.field_events(resource, PRESENCE, after, visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back() {
        let origin = Origin {
            observed: Timestamp(1_700_000_000_000_000),
            cause: Cause::Sync,
            run: 300,
        };
        let event = |sequence, source_time, previous: &[u8]| FieldEvent {
            sequence,
            slot: 70_000,
            operation: Operation::Update,
            value_changed: sequence % 2 == 0,
            source_time,
            origin,
            previous: previous.to_vec(),
            new: vec![3, 2],
        };
        let events = [
            event(7, None, &[]),
            event(8, Some(Timestamp(1_699_999_999_000_000)), &[0]),
            event(900, Some(Timestamp(1_700_000_000_000_001)), &[9, 1, 65]),
        ];
        let mut chunk = begin(origin);
        let mut before = 0;
        for event in &events {
            encode(event, before, &mut chunk);
            before = event.sequence;
        }
        let mut read = Vec::new();
        each_event(&chunk, 7, &mut |e| {
            read.push(FieldEvent {
                sequence: e.sequence,
                slot: e.slot,
                operation: e.operation,
                value_changed: e.value_changed,
                source_time: e.source_time,
                origin: e.origin,
                previous: e.previous.to_vec(),
                new: e.new.to_vec(),
            });
            Ok(())
        })
        .unwrap()
        .unwrap();
        assert_eq!(read, &events[1..]);
        for cut in 1..chunk.len() {
            let _ = each_event(&chunk[..cut], 0, &mut |_| Ok(()));
        }
    }
}
