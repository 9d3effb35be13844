//! The bound form of an expression: names resolved, constants folded, types checked.

use memchr::memmem::Finder;

use super::ast::{ArithOp, CompareOp};
use super::function::Function;
use super::geo::{Shape, Unit};
use super::lookup::LookupTest;
use crate::schema::FieldId;
use crate::value::Value;

/// A bound expression.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Const(Value<'static>),
    Shape(Shape),
    Field(FieldId),
    /// The point that a latitude and a longitude make, which are fields of their own.
    Pair {
        latitude: FieldId,
        longitude: FieldId,
    },
    /// A lambda variable: how many lambdas outwards it was bound.
    Variable(usize),
    /// A member of a nested JSON object.
    Member {
        of: Box<Node>,
        name: String,
        kind: Kind,
    },
    /// A value of unknown type, read as the type it is compared with.
    Coerce {
        value: Box<Node>,
        kind: Kind,
    },
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Neg(Box<Node>),
    Compare {
        op: CompareOp,
        left: Box<Node>,
        right: Box<Node>,
    },
    Arith {
        op: ArithOp,
        /// Both operands are declared integers, so `div` is the integer quotient.
        integers: bool,
        left: Box<Node>,
        right: Box<Node>,
    },
    /// The value equals one of the constants, which are sorted.
    In {
        value: Box<Node>,
        set: Vec<Value<'static>>,
        kind: Kind,
    },
    /// The value equals an element of the collection.
    ElementOf {
        value: Box<Node>,
        collection: Box<Node>,
        kind: Kind,
    },
    Lookup {
        value: Box<Node>,
        test: LookupTest,
    },
    /// `contains` of a constant.
    Contains {
        text: Box<Node>,
        finder: Box<Finder<'static>>,
    },
    Call {
        function: Function,
        args: Vec<Node>,
    },
    Geo {
        measure: Measure,
        args: Vec<Node>,
    },
    Any {
        collection: Box<Node>,
        condition: Option<Box<Node>>,
    },
    All {
        collection: Box<Node>,
        condition: Box<Node>,
    },
    Count(Box<Node>),
}

/// What a geography function measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    Distance(Unit),
    Length(Unit),
    Intersects,
}

/// How a value read from nested JSON, where dates are strings, is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As it is.
    Plain,
    Date,
    DateTime,
    TimeOfDay,
    Guid,
    /// An array is a list of strings.
    List,
    Point,
}

impl Node {
    pub(super) fn constant(&self) -> Option<&Value<'static>> {
        match self {
            Node::Const(value) => Some(value),
            _ => None,
        }
    }

    /// The field, when the node is nothing but one.
    pub(super) fn field(&self) -> Option<FieldId> {
        match self {
            Node::Field(id) => Some(*id),
            _ => None,
        }
    }

    /// Calls `visit` with every field the node reads.
    pub(super) fn visit_fields(&self, visit: &mut impl FnMut(FieldId)) {
        match self {
            Node::Field(id) => visit(*id),
            Node::Pair {
                latitude,
                longitude,
            } => {
                visit(*latitude);
                visit(*longitude);
            }
            Node::Const(_) | Node::Shape(_) | Node::Variable(_) => {}
            Node::Member { of: inner, .. }
            | Node::Coerce { value: inner, .. }
            | Node::Not(inner)
            | Node::Neg(inner)
            | Node::In { value: inner, .. }
            | Node::Lookup { value: inner, .. }
            | Node::Contains { text: inner, .. }
            | Node::Count(inner) => inner.visit_fields(visit),
            Node::And(nodes)
            | Node::Or(nodes)
            | Node::Call { args: nodes, .. }
            | Node::Geo { args: nodes, .. } => {
                for node in nodes {
                    node.visit_fields(visit);
                }
            }
            Node::Compare { left, right, .. }
            | Node::Arith { left, right, .. }
            | Node::ElementOf {
                value: left,
                collection: right,
                ..
            } => {
                left.visit_fields(visit);
                right.visit_fields(visit);
            }
            Node::Any {
                collection,
                condition,
                ..
            } => {
                collection.visit_fields(visit);
                if let Some(condition) = condition {
                    condition.visit_fields(visit);
                }
            }
            Node::All {
                collection,
                condition,
                ..
            } => {
                collection.visit_fields(visit);
                condition.visit_fields(visit);
            }
        }
    }
}
