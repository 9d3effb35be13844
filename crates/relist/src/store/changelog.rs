//! The changelog: one entry a record change, in the order of their sequence.

use serde::{Deserialize, Serialize};

use super::field_changes::Origin;
use super::format::{TableId, corrupt, seal, unseal};
use crate::diff::FieldDiff;
use crate::error::Result;
use crate::keycode::Key;
use crate::record::Cell;
use crate::record::codec::{Reader, put_bytes, put_signed, put_u64};
use crate::schema::{FieldId, Resource};
use crate::value::Timestamp;

/// What happened to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Operation {
    /// The record was seen for the first time.
    Insert = 1,
    /// At least one field has another value.
    Update = 2,
    /// The record is gone: a tombstone.
    Delete = 3,
    /// A deleted key came back.
    Relist = 4,
    /// The schema changed: a field was added, retyped, withdrawn or came back.
    Schema = 5,
    /// What happened was purged, and its record with it; or records were purged just then.
    Purge = 6,
}

impl Operation {
    /// All there are.
    pub const ALL: [Operation; 6] = [
        Operation::Insert,
        Operation::Update,
        Operation::Delete,
        Operation::Relist,
        Operation::Schema,
        Operation::Purge,
    ];

    /// The word printed for it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Relist => "relist",
            Operation::Schema => "schema",
            Operation::Purge => "purge",
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Operation::ALL.into_iter().find(|op| *op as u8 == byte)
    }
}

/// What made a change known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Cause {
    /// A page of a sync.
    Sync = 1,
    /// A file or standard input.
    Ingest = 2,
    /// The feed's own list of deletions.
    DeletedFeed = 3,
    /// A flag or a status value in the record.
    Flag = 4,
    /// A key that a complete walk did not meet, and that the feed confirmed it does not have.
    Reconcile = 5,
    /// A purge.
    Purge = 6,
    /// The feed's `$metadata`.
    Metadata = 7,
}

impl Cause {
    /// All there are.
    pub const ALL: [Cause; 7] = [
        Cause::Sync,
        Cause::Ingest,
        Cause::DeletedFeed,
        Cause::Flag,
        Cause::Reconcile,
        Cause::Purge,
        Cause::Metadata,
    ];

    /// The word printed for it.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Sync => "sync",
            Cause::Ingest => "ingest",
            Cause::DeletedFeed => "deleted-feed",
            Cause::Flag => "flag",
            Cause::Reconcile => "reconcile",
            Cause::Purge => "purge",
            Cause::Metadata => "metadata",
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Cause::ALL.into_iter().find(|cause| *cause as u8 == byte)
    }
}

/// One entry as it is stored; names are resolved by [`Change`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) operation: Operation,
    pub(crate) cause: Cause,
    pub(crate) run: u64,
    pub(crate) resource: u16,
    pub(crate) slot: u32,
    /// `None` for a schema change.
    pub(crate) key: Option<Key>,
    pub(crate) source_time: Option<Timestamp>,
    pub(crate) observed: Timestamp,
    /// The row before, 0 when there was none.
    pub(crate) previous_row: u64,
    /// The row after, 0 when there is none.
    pub(crate) row: u64,
    pub(crate) fields: Vec<FieldDiff>,
    /// The reason of a deletion, the text of a schema change.
    pub(crate) note: String,
}

impl Entry {
    /// What it shares with the other changes of its transaction.
    pub(super) fn origin(&self) -> Origin {
        Origin {
            observed: self.observed,
            cause: self.cause,
            run: self.run,
        }
    }

    pub(super) fn encode(&self, sequence: u64) -> Vec<u8> {
        let mut out = vec![self.operation as u8, self.cause as u8];
        put_u64(&mut out, self.run);
        put_u64(&mut out, u64::from(self.resource));
        put_u64(&mut out, u64::from(self.slot));
        let mut key = Vec::new();
        if let Some(k) = &self.key {
            k.encode(&mut key);
        }
        put_bytes(&mut out, &key);
        out.push(u8::from(self.source_time.is_some()));
        put_signed(&mut out, i128::from(self.source_time.map_or(0, |t| t.0)));
        put_signed(&mut out, i128::from(self.observed.0));
        put_u64(&mut out, self.previous_row);
        put_u64(&mut out, self.row);
        put_bytes(&mut out, self.note.as_bytes());
        put_u64(&mut out, self.fields.len() as u64);
        for change in &self.fields {
            put_u64(&mut out, u64::from(change.field.0));
            put_bytes(&mut out, change.previous.as_deref().unwrap_or_default());
            put_bytes(&mut out, change.new.as_deref().unwrap_or_default());
        }
        seal((TableId::Changelog, sequence), out)
    }

    pub(super) fn decode(sequence: u64, bytes: &[u8]) -> Result<Self> {
        let bytes = unseal((TableId::Changelog, sequence), bytes)?;
        Entry::parse(bytes).ok_or_else(|| corrupt(TableId::Changelog, "an entry that ends early"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        let operation = Operation::from_byte(r.u8()?)?;
        let cause = Cause::from_byte(r.u8()?)?;
        let run = r.u64()?;
        let resource = u16::try_from(r.u64()?).ok()?;
        let slot = u32::try_from(r.u64()?).ok()?;
        let key = r.bytes()?;
        let key = if key.is_empty() {
            None
        } else {
            Some(Key::decode(key)?)
        };
        let timed = r.u8()? != 0;
        let source_time = Timestamp(r.i64()?);
        let observed = Timestamp(r.i64()?);
        let (previous_row, row) = (r.u64()?, r.u64()?);
        let note = r.str()?.to_owned();
        let mut fields = Vec::new();
        for _ in 0..r.u64()? {
            let field = FieldId(u16::try_from(r.u64()?).ok()?);
            let side = |bytes: &[u8]| (!bytes.is_empty()).then(|| bytes.to_vec());
            let (previous, new) = (side(r.bytes()?), side(r.bytes()?));
            fields.push(FieldDiff {
                field,
                previous,
                new,
            });
        }
        let source_time = timed.then_some(source_time);
        r.is_empty().then_some(Entry {
            operation,
            cause,
            run,
            resource,
            slot,
            key,
            source_time,
            observed,
            previous_row,
            row,
            fields,
            note,
        })
    }
}

/// One change of one record, in RESO's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Ours, monotonic over the whole store, never reused.
    pub sequence: u64,
    /// The resource: `Property`.
    pub resource: String,
    /// The record; `None` for a schema change.
    pub key: Option<Key>,
    /// What happened.
    pub operation: Operation,
    /// What made it known.
    pub cause: Cause,
    /// The run that logged it.
    pub run: u64,
    /// The feed's ModificationTimestamp of the record after the change.
    pub source_time: Option<Timestamp>,
    /// When the store observed it.
    pub observed: Timestamp,
    /// The fields that changed: none for an insert, a deletion, a relisting.
    pub fields: Vec<FieldChange>,
    /// The reason of a deletion, the text of a schema change; mostly empty.
    pub note: String,
}

/// One field's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldChange {
    /// The field's name.
    pub name: String,
    /// Its id in the resource.
    pub field: FieldId,
    previous: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
}

impl FieldChange {
    /// The value before; `None` when the field was absent.
    pub fn previous(&self) -> Option<Cell<'_>> {
        Cell::read(&mut Reader::new(self.previous.as_deref()?))
    }

    /// The value after; `None` when the field is absent.
    pub fn new_value(&self) -> Option<Cell<'_>> {
        Cell::read(&mut Reader::new(self.new.as_deref()?))
    }

    /// Both values as they are stored; empty when absent.
    pub(crate) fn sides(&self) -> (&[u8], &[u8]) {
        (
            self.previous.as_deref().unwrap_or_default(),
            self.new.as_deref().unwrap_or_default(),
        )
    }
}

impl Change {
    pub(super) fn resolve(sequence: u64, entry: Entry, resource: &Resource) -> Self {
        let fields = entry.fields.into_iter().map(|change| FieldChange {
            name: resource
                .field(change.field)
                .map_or_else(|| format!("field {}", change.field.0), |f| f.name.clone()),
            field: change.field,
            previous: change.previous,
            new: change.new,
        });
        Change {
            sequence,
            resource: resource.name.clone(),
            key: entry.key,
            operation: entry.operation,
            cause: entry.cause,
            run: entry.run,
            source_time: entry.source_time,
            observed: entry.observed,
            fields: fields.collect(),
            note: entry.note,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip() {
        let entry = Entry {
            operation: Operation::Update,
            cause: Cause::Sync,
            run: 3,
            resource: 1,
            slot: 70_000,
            key: Some(Key::Str("k".into())),
            source_time: Some(Timestamp(-1)),
            observed: Timestamp(1_700_000_000_000_000),
            previous_row: 9,
            row: 10,
            fields: vec![FieldDiff {
                field: FieldId(7),
                previous: Some(vec![1]),
                new: None,
            }],
            note: "why".into(),
        };
        assert_eq!(Entry::decode(5, &entry.encode(5)).unwrap(), entry);
    }
}
