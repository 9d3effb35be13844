//! OData's query language: what works upstream works here.

use crate::schema::FieldId;
use crate::value::Value;

mod ast;
mod geo;
mod text;
mod lexer;
mod parse;

pub use ast::{
    ArithOp, CompareOp, Expr, ExprKind, Lambda, Literal, Name, OrderItem, Path, Quantifier, Select,
    Span,
};
pub use geo::{Geography, Shape};
pub use parse::{MAX_DEPTH, parse_filter, parse_orderby, parse_select};

/// Whatever fields can be read from by id: a stored record, a decoded entity, a test row.
pub trait Row {
    /// The field's value; `None` when the field is absent.
    fn value(&self, field: FieldId) -> Option<Value<'_>>;
}
