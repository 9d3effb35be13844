//! Schemas: the resources, fields and lookups of a feed.
//!
//! A schema comes from the feed's `$metadata` ([`Schema::from_metadata`]) or is inferred from the
//! values of its pages. A [`FieldId`] is a field's place in its resource; ids are only ever
//! added, so a stored record stays readable when the schema grows.

mod edmx;

use serde::{Deserialize, Serialize};

/// All that is known of a feed's resources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// The resources, in the order of the service's entity sets.
    pub resources: Vec<Resource>,
    /// The enumeration types that lookups refer to.
    pub enums: Vec<EnumType>,
}

impl Schema {
    /// The resource of that name.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.name == name)
    }

    /// The enumeration type of that name, with or without its namespace.
    pub fn enum_type(&self, name: &str) -> Option<&EnumType> {
        self.enums.iter().find(|e| e.name == name).or_else(|| {
            let short = name.rsplit('.').next()?;
            self.enums.iter().find(|e| e.short_name() == short)
        })
    }
}

/// One resource: an entity set and its entity type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// The entity set's name: `Property`.
    pub name: String,
    /// The field that is the key: `ListingKeyNumeric`.
    pub key_field: String,
    /// Whether `$metadata` declared the resource, or its pages did.
    pub declared: bool,
    /// The fields; a [`FieldId`] is an index into them.
    pub fields: Vec<Field>,
    /// Navigation properties, which `$expand` fills in.
    pub navigation: Vec<Navigation>,
}

impl Resource {
    /// The id of the field of that name.
    pub fn field_id(&self, name: &str) -> Option<FieldId> {
        let at = self.fields.iter().position(|f| f.name == name)?;
        u16::try_from(at).ok().map(FieldId)
    }

    /// The field of that id.
    pub fn field(&self, id: FieldId) -> Option<&Field> {
        self.fields.get(usize::from(id.0))
    }

    /// The field of that name.
    pub fn field_named(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }
}

/// A field's place in its resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FieldId(pub u16);

/// One field of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// The name, case sensitive.
    pub name: String,
    /// What it holds.
    pub ty: FieldType,
    /// Whether `$metadata` declared it, or a page did.
    pub declared: bool,
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FieldType {
    /// `Edm.Boolean`.
    Bool,
    /// `Edm.Byte` to `Edm.Int64`.
    Int,
    /// `Edm.Decimal`, `Edm.Double`, `Edm.Single`.
    Decimal,
    /// `Edm.Date`.
    Date,
    /// `Edm.DateTimeOffset`.
    DateTime,
    /// `Edm.TimeOfDay`.
    TimeOfDay,
    /// `Edm.Guid`.
    Guid,
    /// `Edm.String`.
    String,
    /// A list of strings with no declared lookup.
    StringList,
    /// One member of an enumeration; the type's qualified name.
    Lookup(String),
    /// Any number of members of an enumeration (`IsFlags` or a collection); the type's qualified
    /// name.
    LookupList(String),
    /// `Edm.GeographyPoint`.
    GeoPoint,
    /// Anything nested.
    Json,
}

impl FieldType {
    /// The name of the type for messages: its EDM name, or the lookup's.
    pub fn name(&self) -> &str {
        match self {
            FieldType::Bool => "Boolean",
            FieldType::Int => "Int64",
            FieldType::Decimal => "Decimal",
            FieldType::Date => "Date",
            FieldType::DateTime => "DateTimeOffset",
            FieldType::TimeOfDay => "TimeOfDay",
            FieldType::Guid => "Guid",
            FieldType::String => "String",
            FieldType::StringList => "Collection(String)",
            FieldType::Lookup(name) | FieldType::LookupList(name) => name,
            FieldType::GeoPoint => "GeographyPoint",
            FieldType::Json => "nested JSON",
        }
    }
}

/// A navigation property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Navigation {
    /// The property's name, as in `$expand`.
    pub name: String,
    /// The resource it leads to.
    pub target: String,
    /// Whether it leads to many.
    pub collection: bool,
}

/// An enumeration type: a RESO lookup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnumType {
    /// Qualified name: `Odata.Models.StandardStatus`.
    pub name: String,
    /// Whether a value may hold several members.
    pub is_flags: bool,
    /// The members.
    pub members: Vec<EnumMember>,
}

impl EnumType {
    /// The name without its namespace.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

/// A member of an enumeration type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnumMember {
    /// The member's name, an identifier: `ActiveUnderContract`.
    pub name: String,
    /// Its number (flags go up to 2^62).
    pub value: i64,
    /// The display name, where it differs: `Active Under Contract`.
    pub display: Option<String>,
}
