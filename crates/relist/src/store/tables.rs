//! The tables and their keys.
//!
//! Keys are our own bytes, in an order that serves the reads; values are sealed (see
//! [`super::format`]). A resource is its place in the catalog, a record its slot: a dense number
//! given once to each key.

use redb::TableDefinition;

use crate::keycode::Key;

pub(super) type Bytes = &'static [u8];

/// Name -> the format number, the birth certificate, the counters.
pub(super) const META: TableDefinition<'_, &str, Bytes> = TableDefinition::new("meta");
/// `"catalog"` -> the schema.
pub(super) const CATALOG: TableDefinition<'_, &str, Bytes> = TableDefinition::new("catalog");
/// First row -> a block of record bodies. Append-only: a row is never rewritten.
pub(super) const VERSIONS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("versions");
/// Number -> a dictionary that bodies are compressed with.
pub(super) const DICTIONARIES: TableDefinition<'_, u32, Bytes> =
    TableDefinition::new("dictionaries");
/// Resource, key -> the record's head: its slot, current row, hashes.
pub(super) const HEADS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("heads");
/// Resource, slot, sequence it ended at -> a past version: its row and the sequence it began at.
pub(super) const HISTORY: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("history");
/// Sequence -> one change: the truth of what happened, in order.
pub(super) const CHANGELOG: TableDefinition<'_, u64, Bytes> = TableDefinition::new("changelog");
/// Resource, slot, sequence -> (): a record's own changes.
pub(super) const CHANGES_BY_KEY: TableDefinition<'_, Bytes, ()> =
    TableDefinition::new("changes_by_key");
/// Resource, field, segment -> the cells of some thousand slots.
pub(super) const COLUMNS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("columns");
/// Resource, field, place -> cells that a column repeats.
pub(super) const COLUMN_CELLS: TableDefinition<'_, Bytes, Bytes> =
    TableDefinition::new("column_cells");
/// Resource, field, last sequence -> changes of one field.
pub(super) const FIELD_CHANGES: TableDefinition<'_, Bytes, Bytes> =
    TableDefinition::new("field_changes");
/// Resource, key -> when and why a record was deleted.
pub(super) const TOMBSTONES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("tombstones");
/// Resource, hash -> what could not be applied, with its raw bytes.
pub(super) const QUARANTINE: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("quarantine");
/// Resource name -> how far its replication has come.
pub(super) const CHECKPOINTS: TableDefinition<'_, &str, Bytes> =
    TableDefinition::new("checkpoints");
/// Run -> its report.
pub(super) const RUNS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("runs");
/// Watcher name -> how far its events were delivered.
pub(super) const POSITIONS: TableDefinition<'_, &str, Bytes> = TableDefinition::new("positions");
/// Observed time in microseconds -> the last sequence of that time, and of the one before.
pub(super) const INSTANTS: TableDefinition<'_, i64, Bytes> = TableDefinition::new("instants");

/// Owner, item -> one medium: what it should be and which file holds it.
pub(super) const MEDIA: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("media");
/// Owner -> how far its media are known, where they have to be asked for record by record.
pub(super) const MEDIA_LISTS: TableDefinition<'_, Bytes, Bytes> =
    TableDefinition::new("media_lists");
/// `l` and an owner, or `f` and an owner, item -> (): what is still to be listed or fetched.
pub(super) const MEDIA_DUE: TableDefinition<'_, Bytes, ()> = TableDefinition::new("media_due");
/// Content, owner, item -> (): which media a file holds.
pub(super) const MEDIA_FILES: TableDefinition<'_, Bytes, ()> = TableDefinition::new("media_files");

/// `resource, key`: heads and tombstones.
pub(super) fn record_key(resource: u16, key: &Key) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    out.extend_from_slice(&resource.to_be_bytes());
    key.encode(&mut out);
    out
}

/// The key of a [`record_key`].
pub(super) fn key_of(bytes: &[u8]) -> Option<Key> {
    Key::decode(bytes.get(2..)?)
}

/// `resource, slot, sequence`: history and changes by key.
pub(super) fn slot_key(resource: u16, slot: u32, sequence: u64) -> [u8; 14] {
    let mut out = [0; 14];
    let parts = resource.to_be_bytes().into_iter().chain(slot.to_be_bytes());
    for (to, from) in out.iter_mut().zip(parts.chain(sequence.to_be_bytes())) {
        *to = from;
    }
    out
}

/// Resource, slot and sequence of a [`slot_key`].
pub(super) fn split_slot_key(bytes: &[u8]) -> Option<(u16, u32, u64)> {
    let resource = u16::from_be_bytes(bytes.get(0..2)?.try_into().ok()?);
    let slot = u32::from_be_bytes(bytes.get(2..6)?.try_into().ok()?);
    let sequence = u64::from_be_bytes(bytes.get(6..14)?.try_into().ok()?);
    Some((resource, slot, sequence))
}

/// Where the keys of a resource begin, and where those of the next one do.
pub(super) fn resource_range(resource: u16) -> (Vec<u8>, Vec<u8>) {
    let start = resource.to_be_bytes().to_vec();
    let end = u32::from(resource) + 1;
    // Past the last resource: longer than any prefix of two 0xff bytes.
    let end = u16::try_from(end).map_or_else(|_| vec![0xff; 3], |r| r.to_be_bytes().to_vec());
    (start, end)
}
