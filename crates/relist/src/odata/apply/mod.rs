//! `$apply`: OData Extension for Data Aggregation 4.0, as far as one resource goes.
//!
//! The way is that of a filter: text, [`parse_apply`] to an [`Apply`], [`bind_apply`] against a
//! schema to a [`BoundApply`], which says what to ask of each record ([`Grouping`]) and what to do
//! with the groups afterwards ([`GroupStep`]). Who executes it is not known here.
//!
//! Supported are `filter`, `compute`, `groupby`, `aggregate`, `orderby`, `top`, `skip`,
//! `topcount` and its kin, `identity`. Beyond the standard, `groupby` takes expressions
//! (`year(CloseDate)`, `floor(ListPrice div 100000) as Bucket`), and medians and percentiles are
//! methods of the namespace `Relist`, which may be left out. Of records, only `filter` and
//! `compute` may stand before the first `groupby` or `aggregate`.

mod method;
mod ast;
mod parse;
mod bound;
mod bind;
mod after;

pub use ast::{AggregateItem, Apply, Named, Rank, Transformation, TransformationKind};
pub use bind::bind_apply;
pub(super) use bind::{output_resource, rebind};
pub use bound::{
    Aggregate, BoundApply, Column, DatePart, Expression, GroupKey, GroupStep, Grouping, KeyForm,
};
pub use method::Method;
pub use parse::{parse_aggregate, parse_apply, parse_group_keys};
