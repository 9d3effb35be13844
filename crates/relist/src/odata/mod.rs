//! OData's query language: what works upstream works here.
//!
//! The way of a filter: text, [`parse_filter`] to an [`Expr`], [`bind_filter`] against a schema to
//! a [`Predicate`], which is asked of each [`Row`]. A [`Query`] does it for all options of a
//! request. [`Apply`] groups and aggregates. Errors point at the place in the text and say what to
//! write instead.
//!
//! The grammar is that of OData 4.01 URL Conventions as far as the RESO Web API Core needs it:
//! `eq ne gt ge lt le`, `and or not`, `in`, `has`, `add sub mul div divby mod` and `-`, `any` and
//! `all`, functions of strings, dates, numbers and geography, literals of every type. Not here:
//! `cast`, `isof`, durations, geometry, parameter aliases, type casts in paths.

use crate::schema::FieldId;
use crate::value::Value;

mod ast;
mod geo;
mod text;
mod lexer;
mod parse;
mod function;
mod lookup;
mod node;
mod json;
mod eval;
mod types;
mod bind;
mod compare;
mod call;
mod predicate;
mod geobox;
mod apply;
mod query;

pub use apply::{
    Aggregate, AggregateItem, Apply, BoundApply, Column, DatePart, Expression, GroupKey, GroupStep,
    Grouping, KeyForm, Method, Named, Rank, Transformation, TransformationKind, bind_apply,
    parse_aggregate, parse_apply, parse_group_keys,
};
pub use ast::{
    ArithOp, CompareOp, Expr, ExprKind, Lambda, Literal, Name, OrderItem, Path, Quantifier, Select,
    Span,
};
pub use geo::{Geography, Shape};
pub(crate) use geobox::Circle;
pub use geobox::{GeoBox, GeoField};
pub use parse::{MAX_DEPTH, parse_filter, parse_orderby, parse_select};
pub use predicate::{Conjunct, FieldTest, OrderBy, Predicate, bind_filter, bind_orderby};
pub use query::{BoundQuery, Parsed, Query, bind_select, query_options};

/// Whatever fields can be read from by id: a stored record, a decoded entity, a test row.
pub trait Row {
    /// The field's value; `None` when the field is absent.
    fn value(&self, field: FieldId) -> Option<Value<'_>>;
}
