//! Which fields have sorted access.
//!
//! The store holds the declaration only. The order itself is worked out from the columns and kept
//! in memory: it can neither lag behind nor disagree.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::format::{TableId, decode, encode};
use super::guarded::ReadableTable as _;
use super::tables as t;
use super::{Snapshot, WriteTxn, engine};
use crate::column::Values;
use crate::error::{Error, Result};
use crate::schema::{FieldId, Resource};

/// The declaration's key in the metadata.
const META_INDEXES: &str = "indexes";

/// Fields that people look for records by, of the Data Dictionary.
const DEFAULT: [&str; 18] = [
    "StandardStatus",
    "MlsStatus",
    "PropertyType",
    "PropertySubType",
    "City",
    "PostalCode",
    "CountyOrParish",
    "ListPrice",
    "ClosePrice",
    "CloseDate",
    "ListingContractDate",
    "ModificationTimestamp",
    "ListingId",
    "ListAgentKey",
    "ListAgentKeyNumeric",
    "ListOfficeKey",
    "ListOfficeKeyNumeric",
    "ListAgentMlsId",
];

/// What was declared: by resource, what is to be indexed, or not, beside the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Indexes {
    resources: BTreeMap<String, BTreeMap<String, bool>>,
}

impl Indexes {
    fn holds(&self, resource: &str, field: &str) -> bool {
        let declared = self.resources.get(resource).and_then(|r| r.get(field));
        declared.copied().unwrap_or(DEFAULT.contains(&field))
    }
}

/// A field with sorted access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The field's id in its resource.
    pub field: FieldId,
    /// Its name.
    pub name: String,
    /// Whether it was declared, and not there by default.
    pub declared: bool,
}

/// What an index holds, which follows from the values there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    /// No value.
    Empty,
    /// Numbers, dates, instants: found by equality and by range, and in order.
    Numbers,
    /// Values that repeat: found by equality.
    Codes,
    /// Texts that do not: found by equality.
    Texts,
    /// Some of these, by segment.
    Mixed,
    /// Texts too long to be kept as columns: not found by an index.
    Records,
}

impl IndexKind {
    /// The word printed for it.
    pub fn name(self) -> &'static str {
        match self {
            IndexKind::Empty => "empty",
            IndexKind::Numbers => "numbers",
            IndexKind::Codes => "codes",
            IndexKind::Texts => "texts",
            IndexKind::Mixed => "mixed",
            IndexKind::Records => "records",
        }
    }
}

impl Snapshot {
    /// What the index of a field holds.
    ///
    /// # Errors
    /// [`Error::UnknownResource`]; [`Error::Corrupt`] where the column cannot be read.
    pub fn index_kind(&self, resource: &str, field: FieldId) -> Result<IndexKind> {
        let id = self.catalog().require(resource)?;
        let column = self.column(id, field)?;
        let kinds = column
            .segments
            .iter()
            .flatten()
            .map(|segment| match &segment.values {
                Values::Absent => IndexKind::Empty,
                Values::Numbers(_) => IndexKind::Numbers,
                Values::Codes(_) => IndexKind::Codes,
                Values::Bytes { .. } => IndexKind::Texts,
                Values::Elsewhere => IndexKind::Records,
            });
        Ok(kinds.fold(IndexKind::Empty, |all, one| match (all, one) {
            (IndexKind::Empty, one) => one,
            (all, IndexKind::Empty) => all,
            (all, one) if all == one => all,
            _ => IndexKind::Mixed,
        }))
    }

    /// The indexed fields of a resource, in the order of their ids.
    ///
    /// # Errors
    /// [`Error::UnknownResource`]; [`Error::Corrupt`] where the declaration cannot be read.
    pub fn indexes(&self, resource: &str) -> Result<Vec<Index>> {
        let resource = self.resource(resource)?;
        let declared = self.declared_indexes()?;
        let own = declared.resources.get(&resource.name);
        let fields = (0_u16..).zip(&resource.fields);
        Ok(fields
            .filter(|(_, field)| declared.holds(&resource.name, &field.name))
            .map(|(id, field)| Index {
                field: FieldId(id),
                name: field.name.clone(),
                declared: own.is_some_and(|own| own.contains_key(&field.name)),
            })
            .collect())
    }

    /// Whether a field has sorted access.
    pub(crate) fn is_indexed(&self, resource: &Resource, field: FieldId) -> Result<bool> {
        let declared = self.declared_indexes()?;
        let field = resource.field(field);
        Ok(field.is_some_and(|field| declared.holds(&resource.name, &field.name)))
    }

    /// Copies what was declared into another store.
    pub(super) fn copy_indexes(&self, to: &WriteTxn) -> Result<()> {
        let Ok(declared) = self.declared_indexes() else {
            // Then those there are by default are there again.
            return Ok(());
        };
        let value = encode((TableId::Meta, META_INDEXES), declared)?;
        let mut meta = to.txn.open_table(t::META).map_err(engine)?;
        meta.insert(META_INDEXES, value.as_slice())
            .map_err(engine)?;
        Ok(())
    }

    fn declared_indexes(&self) -> Result<&Indexes> {
        if let Some(read) = self.indexes.get() {
            return Ok(read);
        }
        let meta = self.txn.open_table(t::META).map_err(engine)?;
        let read = match meta.get(META_INDEXES).map_err(engine)? {
            Some(value) => decode((TableId::Meta, META_INDEXES), value.value())?,
            None => Indexes::default(),
        };
        Ok(self.indexes.get_or_init(|| read))
    }
}

impl WriteTxn {
    /// Declares that a field has sorted access, or that it has none; says whether that is new.
    ///
    /// # Errors
    /// [`Error::UnknownResource`]; [`Error::Usage`] where the resource has no such field.
    pub fn set_index(&mut self, resource: &str, field: &str, indexed: bool) -> Result<bool> {
        let id = self.catalog.require(resource)?;
        let known = self.catalog.schema.resources.get(usize::from(id));
        if known.is_none_or(|r| r.field_id(field).is_none()) {
            return Err(Error::Usage(format!("{resource} has no field {field}")));
        }
        let mut meta = self.txn.open_table(t::META).map_err(engine)?;
        let mut declared = match meta.get(META_INDEXES).map_err(engine)? {
            Some(value) => decode((TableId::Meta, META_INDEXES), value.value())?,
            None => Indexes::default(),
        };
        if declared.holds(resource, field) == indexed {
            return Ok(false);
        }
        let own = declared.resources.entry(resource.to_owned()).or_default();
        if DEFAULT.contains(&field) == indexed {
            own.remove(field);
        } else {
            own.insert(field.to_owned(), indexed);
        }
        let value = encode((TableId::Meta, META_INDEXES), &declared)?;
        meta.insert(META_INDEXES, value.as_slice())
            .map_err(engine)?;
        Ok(true)
    }
}
