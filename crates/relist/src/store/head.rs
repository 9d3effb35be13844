//! Heads: one small entry a record, apart from its body.

use super::format::{TableId, corrupt, seal, unseal};
use crate::error::Result;
use crate::value::Timestamp;

/// What is known of a record without reading its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The record's dense number within its resource.
    pub(crate) slot: u32,
    /// The row of its latest body (of its last one, when deleted).
    pub(crate) row: u64,
    /// xxh3-128 of the bytes the feed last sent: equal bytes are an unchanged record.
    pub(crate) raw_hash: u128,
    /// Hash of what those bytes say: see [`crate::diff::canonical_hash`].
    pub(crate) canonical: u128,
    /// The sequence of the latest change.
    pub(crate) valid_from: u64,
    /// The feed's ModificationTimestamp, when it has one.
    pub(crate) source_time: Option<Timestamp>,
    /// How often the key has come back after a deletion.
    pub(crate) epoch: u16,
    /// Whether the record is deleted.
    pub(crate) deleted: bool,
}

const NO_TIME: i64 = i64::MIN;

impl Head {
    /// The stored form, under a key of the table.
    pub(crate) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(68);
        out.extend_from_slice(&self.slot.to_le_bytes());
        out.extend_from_slice(&self.row.to_le_bytes());
        out.extend_from_slice(&self.raw_hash.to_le_bytes());
        out.extend_from_slice(&self.canonical.to_le_bytes());
        out.extend_from_slice(&self.valid_from.to_le_bytes());
        out.extend_from_slice(&self.source_time.map_or(NO_TIME, |t| t.0).to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.push(u8::from(self.deleted));
        seal((TableId::Heads, key), out)
    }

    pub(crate) fn decode(key: &[u8], bytes: &[u8]) -> Result<Self> {
        let bytes = unseal((TableId::Heads, key), bytes)?;
        Head::parse(bytes).ok_or_else(|| corrupt(TableId::Heads, "a short head"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (slot, bytes) = bytes.split_first_chunk()?;
        let (row, bytes) = bytes.split_first_chunk()?;
        let (raw_hash, bytes) = bytes.split_first_chunk()?;
        let (canonical, bytes) = bytes.split_first_chunk()?;
        let (valid_from, bytes) = bytes.split_first_chunk()?;
        let (source_time, bytes) = bytes.split_first_chunk()?;
        let (epoch, bytes) = bytes.split_first_chunk()?;
        let source_time = i64::from_le_bytes(*source_time);
        Some(Head {
            slot: u32::from_le_bytes(*slot),
            row: u64::from_le_bytes(*row),
            raw_hash: u128::from_le_bytes(*raw_hash),
            canonical: u128::from_le_bytes(*canonical),
            valid_from: u64::from_le_bytes(*valid_from),
            source_time: (source_time != NO_TIME).then_some(Timestamp(source_time)),
            epoch: u16::from_le_bytes(*epoch),
            deleted: *bytes.first()? != 0,
        })
    }
}
