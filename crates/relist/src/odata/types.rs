//! The static types of expressions.

use super::geo::Shape;
use super::node::Kind;
use crate::schema::{EnumType, FieldType, Resource, Schema};

/// What an expression is known to give.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ty<'s> {
    /// The literal `null`.
    Null,
    Bool,
    Int,
    Decimal,
    Date,
    DateTime,
    TimeOfDay,
    Guid,
    String,
    /// One member of a declared enumeration.
    Lookup(&'s EnumType),
    /// An enumeration literal; its type when the schema declares it.
    Member(Option<&'s EnumType>),
    StringList,
    LookupList(&'s EnumType),
    Point,
    Line,
    Polygon,
    /// A nested record.
    Entity(&'s Resource),
    /// A collection of nested records.
    Entities(&'s Resource),
    /// Nested JSON: anything.
    Json,
}

/// Types that compare with one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Null,
    Bool,
    Number,
    Instant,
    TimeOfDay,
    Guid,
    Text,
    List,
    Any,
    /// Compares with nothing but null.
    Opaque,
}

impl<'s> Ty<'s> {
    /// The type of a field.
    ///
    /// A lookup whose members are not declared is a string: any text may be asked for.
    pub(super) fn of_field(ty: &FieldType, schema: &'s Schema) -> Ty<'s> {
        let members = |name: &str| schema.enum_type(name).filter(|e| !e.members.is_empty());
        match ty {
            FieldType::Bool => Ty::Bool,
            FieldType::Int => Ty::Int,
            FieldType::Decimal => Ty::Decimal,
            FieldType::Date => Ty::Date,
            FieldType::DateTime => Ty::DateTime,
            FieldType::TimeOfDay => Ty::TimeOfDay,
            FieldType::Guid => Ty::Guid,
            FieldType::String => Ty::String,
            FieldType::StringList => Ty::StringList,
            FieldType::Lookup(name) => members(name).map_or(Ty::String, Ty::Lookup),
            FieldType::LookupList(name) => members(name).map_or(Ty::StringList, Ty::LookupList),
            FieldType::GeoPoint => Ty::Point,
            FieldType::Json => Ty::Json,
        }
    }

    pub(super) fn of_shape(shape: &Shape) -> Ty<'s> {
        match shape {
            Shape::Point(_) => Ty::Point,
            Shape::Line(_) => Ty::Line,
            Shape::Polygon(_) => Ty::Polygon,
        }
    }

    pub(super) fn class(self) -> Class {
        match self {
            Ty::Null => Class::Null,
            Ty::Bool => Class::Bool,
            Ty::Int | Ty::Decimal => Class::Number,
            Ty::Date | Ty::DateTime => Class::Instant,
            Ty::TimeOfDay => Class::TimeOfDay,
            Ty::Guid => Class::Guid,
            Ty::String | Ty::Lookup(_) | Ty::Member(_) => Class::Text,
            Ty::StringList | Ty::LookupList(_) => Class::List,
            Ty::Json => Class::Any,
            Ty::Point | Ty::Line | Ty::Polygon | Ty::Entity(_) | Ty::Entities(_) => Class::Opaque,
        }
    }

    /// How a nested value of this type is read from JSON.
    pub(super) fn kind(self) -> Kind {
        match self {
            Ty::Date => Kind::Date,
            Ty::DateTime => Kind::DateTime,
            Ty::TimeOfDay => Kind::TimeOfDay,
            Ty::Guid => Kind::Guid,
            Ty::StringList | Ty::LookupList(_) => Kind::List,
            Ty::Point => Kind::Point,
            _ => Kind::Plain,
        }
    }

    /// The type's name in messages.
    pub(super) fn name(self) -> String {
        let name = match self {
            Ty::Null => "null",
            Ty::Bool => "true or false",
            Ty::Int | Ty::Decimal => "a number",
            Ty::Date => "a date",
            Ty::DateTime => "a timestamp",
            Ty::TimeOfDay => "a time of day",
            Ty::Guid => "a GUID",
            Ty::String => "a string",
            Ty::Lookup(ty) => return format!("a member of {}", ty.short_name()),
            Ty::Member(_) => "a member of an enumeration",
            Ty::StringList => "a list of strings",
            Ty::LookupList(ty) => return format!("a list of {}", ty.short_name()),
            Ty::Point => "a point",
            Ty::Line => "a line",
            Ty::Polygon => "a polygon",
            Ty::Entity(_) => "a record",
            Ty::Entities(_) => "a collection of records",
            Ty::Json => "nested JSON",
        };
        name.to_owned()
    }
}
