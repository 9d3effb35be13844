//! Stored values: sealed with a checksum, and small metadata as versioned bincode.
//!
//! redb does not verify its checksums on every read, so each value carries its own: the low half
//! of xxh3-64 over the value, seeded with its table's number and its key, so that a value in
//! another's place is found too. `bincode` is named in this file only,
//! so that it can be replaced in one place.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The format of the file that this build writes.
pub const FORMAT: u32 = 3;
/// The oldest format of a file that this build reads.
pub const FORMAT_OLDEST: u32 = 3;

/// The most bytes one metadata value may claim when it is read.
const METADATA_LIMIT: usize = 64 << 20;
/// The first byte of every metadata value.
const METADATA_FORMAT: u8 = 1;
const SEAL_LEN: usize = 4;

/// A table's number in checksums. Part of the format.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum TableId {
    Meta = 1,
    Catalog,
    Versions,
    Heads,
    History,
    Changelog,
    Tombstones,
    Quarantine,
    Checkpoints,
    Runs,
    Positions,
    Media,
    MediaLists,
    Columns,
    ColumnCells,
    FieldChanges,
    Dictionaries,
    Instants,
}

/// Where a value is: its table and its key. What it is sealed with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    table: TableId,
    seed: u64,
}

impl From<(TableId, &[u8])> for Place {
    fn from((table, key): (TableId, &[u8])) -> Self {
        Place {
            table,
            seed: xxhash_rust::xxh3::xxh3_64_with_seed(key, table as u64),
        }
    }
}

impl From<(TableId, &str)> for Place {
    fn from((table, key): (TableId, &str)) -> Self {
        Place::from((table, key.as_bytes()))
    }
}

impl From<(TableId, u64)> for Place {
    fn from((table, key): (TableId, u64)) -> Self {
        Place::from((table, key.to_be_bytes().as_slice()))
    }
}

fn checksum(place: Place, bytes: &[u8]) -> [u8; SEAL_LEN] {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, place.seed);
    let low = u32::try_from(hash & u64::from(u32::MAX)).unwrap_or(0);
    low.to_le_bytes()
}

/// The checksum of what belongs to one row and to no other.
pub(super) fn row_checksum(table: TableId, row: u64, bytes: &[u8]) -> [u8; SEAL_LEN] {
    let seed = (row << 8) | table as u64;
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed);
    let low = u32::try_from(hash & u64::from(u32::MAX)).unwrap_or(0);
    low.to_le_bytes()
}

/// Appends the checksum.
pub(super) fn seal(place: impl Into<Place>, mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(place.into(), &bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

/// Verifies and strips the checksum.
///
/// # Errors
/// [`Error::Corrupt`], naming the table.
pub(super) fn unseal(place: impl Into<Place>, bytes: &[u8]) -> Result<&[u8]> {
    let place = place.into();
    bytes
        .split_last_chunk::<SEAL_LEN>()
        .filter(|(value, sum)| **sum == checksum(place, value))
        .map(|(value, _)| value)
        .ok_or_else(|| corrupt(place.table, "a checksum does not match"))
}

/// A [`Error::Corrupt`] that names the table.
pub(super) fn corrupt(table: TableId, what: &str) -> Error {
    Error::Corrupt {
        what: format!("table {table:?}: {what}").to_lowercase(),
    }
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<METADATA_LIMIT>()
}

/// Encodes and seals a metadata struct.
pub(super) fn encode<T: Serialize>(place: impl Into<Place>, value: &T) -> Result<Vec<u8>> {
    let place = place.into();
    let mut out = vec![METADATA_FORMAT];
    let body = bincode::serde::encode_to_vec(value, config())
        .map_err(|e| Error::Usage(format!("cannot encode {:?}: {e}", place.table)))?;
    out.extend_from_slice(&body);
    Ok(seal(place, out))
}

/// Verifies and decodes a metadata struct; every byte must be used.
pub(super) fn decode<T: DeserializeOwned>(place: impl Into<Place>, bytes: &[u8]) -> Result<T> {
    let place = place.into();
    let (table, body) = (place.table, metadata(place, bytes)?);
    let (out, used) = bincode::serde::decode_from_slice(body, config())
        .map_err(|e| corrupt(table, &e.to_string()))?;
    if used == body.len() {
        Ok(out)
    } else {
        Err(corrupt(table, "trailing bytes"))
    }
}

/// The most bytes by which a struct may have grown at its end.
const GROWTH: usize = 64;

/// Like [`decode`], for a struct that grew at its end since the value was written.
///
/// The encoding of 0, `None` and an empty list is one zero byte, so the fields that were not
/// written are read as their defaults. A value that was cut is no danger: its checksum is.
pub(super) fn decode_grown<T: DeserializeOwned>(
    place: impl Into<Place>,
    bytes: &[u8],
) -> Result<T> {
    let place = place.into();
    let (table, body) = (place.table, metadata(place, bytes)?);
    let mut grown = body.to_vec();
    grown.resize(body.len() + GROWTH, 0);
    let (out, used) = bincode::serde::decode_from_slice(&grown, config())
        .map_err(|e| corrupt(table, &e.to_string()))?;
    if used >= body.len() {
        Ok(out)
    } else {
        Err(corrupt(table, "trailing bytes"))
    }
}

/// The encoded struct of a value.
fn metadata(place: Place, bytes: &[u8]) -> Result<&[u8]> {
    let table = place.table;
    let (format, body) = unseal(place, bytes)?
        .split_first()
        .ok_or_else(|| corrupt(table, "an empty value"))?;
    if *format == METADATA_FORMAT {
        return Ok(body);
    }
    let text = format!("metadata format {format}, expected {METADATA_FORMAT}");
    Err(corrupt(table, &text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RunReport;

    #[test]
    fn a_flipped_bit_is_found() {
        let sealed = seal((TableId::Versions, 7), b"body".to_vec());
        assert_eq!(unseal((TableId::Versions, 7), &sealed).unwrap(), b"body");
        // In another place it is another value.
        assert!(unseal((TableId::Versions, 8), &sealed).is_err());
        assert!(unseal((TableId::Heads, 7), &sealed).is_err());
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal((TableId::Versions, 7), &bad).is_err());
        }
    }

    /// What `(u64, String)` became.
    type Grown = (u64, String, u64, Option<u64>, Vec<u64>);

    #[test]
    fn a_struct_may_grow_at_its_end() {
        let before = encode((TableId::Runs, 1), &(7_u64, "Property".to_owned())).unwrap();
        let read: Grown = decode_grown((TableId::Runs, 1), &before).unwrap();
        assert_eq!(read, (7, "Property".to_owned(), 0, None, Vec::new()));
        assert!(decode::<Grown>((TableId::Runs, 1), &before).is_err());
        // A struct that shrank does not read what it does not know.
        assert!(decode_grown::<u64>((TableId::Runs, 1), &before).is_err());
    }

    #[test]
    fn metadata_is_read_whole_or_refused() {
        let report = RunReport {
            resource: "Property".into(),
            records: 7,
            ..RunReport::default()
        };
        let bytes = encode((TableId::Runs, 1), &report).unwrap();
        assert_eq!(
            decode::<RunReport>((TableId::Runs, 1), &bytes).unwrap(),
            report
        );
        // A length that claims far more than there is must not allocate it.
        let mut hostile = vec![METADATA_FORMAT, 253];
        hostile.extend_from_slice(&u64::MAX.to_le_bytes());
        let hostile = seal((TableId::Runs, 1), hostile);
        assert!(decode::<RunReport>((TableId::Runs, 1), &hostile).is_err());
        let mut longer = bytes[..bytes.len() - SEAL_LEN].to_vec();
        longer.push(0);
        assert!(
            decode::<RunReport>((TableId::Runs, 1), &seal((TableId::Runs, 1), longer)).is_err()
        );
    }
}
