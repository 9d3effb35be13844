//! Computing a bound expression for a row.
//!
//! Null follows OData 4.01 URL Conventions 5.1.1.1: `eq` and `ne` treat null as a value, the other
//! comparisons are false for null, `and`, `or` and `not` have three values, and a function or an
//! operation of null is null. Values that do not compare (a string that came where a number was
//! declared) are unequal. Nothing is copied unless a function makes a new string.

use std::cmp::Ordering;

use super::Row;
use super::ast::{ArithOp, CompareOp, Quantifier};
use super::function;
use super::geo::{self, Shape};
use super::json;
use super::node::{Kind, Measure, Node};
use crate::value::{Decimal, GeoPoint, Value};

/// The lambda variables in scope, innermost first.
pub(super) struct Scope<'e> {
    outer: Option<&'e Scope<'e>>,
    value: &'e Value<'e>,
}

/// A row with no fields, on which constants are folded.
pub(super) struct NoRow;

impl Row for NoRow {
    fn value(&self, _: crate::schema::FieldId) -> Option<Value<'_>> {
        None
    }
}

/// The same value, borrowing from it.
pub(super) fn borrow<'a>(value: &'a Value<'_>) -> Value<'a> {
    match value {
        Value::String(text) => Value::str(text),
        Value::Json(text) => Value::Json(text.as_ref().into()),
        Value::StringList(items) => {
            Value::StringList(items.iter().map(|i| i.as_ref().into()).collect())
        }
        Value::Null => Value::Null,
        Value::Bool(v) => Value::Bool(*v),
        Value::Int(v) => Value::Int(*v),
        Value::Decimal(v) => Value::Decimal(*v),
        Value::Date(v) => Value::Date(*v),
        Value::DateTime(v) => Value::DateTime(*v),
        Value::TimeOfDay(v) => Value::TimeOfDay(*v),
        Value::Guid(v) => Value::Guid(*v),
        Value::GeoPoint(v) => Value::GeoPoint(*v),
    }
}

type Env<'e> = Option<&'e Scope<'e>>;

impl Node {
    /// The truth of a boolean expression; `None` is unknown (null).
    pub(super) fn test<R: Row + ?Sized>(&self, row: &R, env: Env<'_>) -> Option<bool> {
        match self {
            Node::And(nodes) => all(nodes.iter().map(|n| n.test(row, env))),
            Node::Or(nodes) => any(nodes.iter().map(|n| n.test(row, env))),
            Node::Not(node) => node.test(row, env).map(|b| !b),
            Node::Compare { op, left, right } => {
                let (left, right) = (left.eval(row, env), right.eval(row, env));
                Some(compare(*op, &left, &right))
            }
            Node::In { value, set, kind } => {
                let value = json::coerce(value.eval(row, env), *kind);
                Some(set.binary_search_by(|c| c.total_cmp(&value)).is_ok())
            }
            Node::Lookup { value, test } => test.test(&value.eval(row, env)),
            Node::Contains { text, finder } => match text.eval(row, env) {
                Value::String(text) => Some(finder.find(text.as_bytes()).is_some()),
                _ => None,
            },
            Node::ElementOf {
                value,
                collection,
                kind,
            } => {
                let value = value.eval(row, env);
                let collection = collection.eval(row, env);
                let equals = |item: Value<'_>| Some(compare(CompareOp::Eq, &item, &value));
                each(&collection, *kind, Quantifier::Any, equals)
            }
            Node::Any {
                collection,
                condition,
            } => {
                let collection = collection.eval(row, env);
                let condition = condition.as_deref();
                each(&collection, Kind::Plain, Quantifier::Any, |item| {
                    condition.map_or(Some(true), |node| holds(node, row, env, &item))
                })
            }
            Node::All {
                collection,
                condition,
            } => {
                let collection = collection.eval(row, env);
                each(&collection, Kind::Plain, Quantifier::All, |item| {
                    holds(condition, row, env, &item)
                })
            }
            _ => match self.eval(row, env) {
                Value::Bool(truth) => Some(truth),
                _ => None,
            },
        }
    }

    /// The value of the expression.
    pub(super) fn eval<'e, R: Row + ?Sized>(&'e self, row: &'e R, env: Env<'e>) -> Value<'e> {
        match self {
            Node::Const(value) => borrow(value),
            Node::Field(id) => row.value(*id).unwrap_or(Value::Null),
            Node::Shape(_) => Value::Null,
            Node::Pair {
                latitude,
                longitude,
            } => pair(row.value(*latitude), row.value(*longitude)).unwrap_or(Value::Null),
            Node::Variable(outwards) => {
                let mut scope = env;
                for _ in 0..*outwards {
                    scope = scope.and_then(|s| s.outer);
                }
                scope.map_or(Value::Null, |s| borrow(s.value))
            }
            Node::Member { of, name, kind } => match of.eval(row, env) {
                Value::Json(std::borrow::Cow::Borrowed(text)) => json::member(text, name, *kind),
                Value::Json(text) => json::member(&text, name, *kind).into_owned(),
                _ => Value::Null,
            },
            Node::Coerce { value, kind } => json::coerce(value.eval(row, env), *kind),
            Node::Neg(node) => negate(&node.eval(row, env)),
            Node::Arith {
                op,
                integers,
                left,
                right,
            } => {
                let (left, right) = (left.eval(row, env), right.eval(row, env));
                arith(*op, *integers, &left, &right).unwrap_or(Value::Null)
            }
            Node::Call { function, args } => {
                let mut args = args.iter().map(|a| a.eval(row, env));
                let mut next = || args.next().unwrap_or(Value::Null);
                function::call(*function, [next(), next(), next()])
            }
            Node::Geo { measure, args } => {
                measure_shapes(*measure, args, row, env).unwrap_or(Value::Null)
            }
            Node::Count(collection) => {
                let mut count = 0_i64;
                each(
                    &collection.eval(row, env),
                    Kind::Plain,
                    Quantifier::All,
                    |_| {
                        count += 1;
                        Some(true)
                    },
                );
                Value::Int(count)
            }
            Node::And(_)
            | Node::Or(_)
            | Node::Not(_)
            | Node::Compare { .. }
            | Node::In { .. }
            | Node::Lookup { .. }
            | Node::Contains { .. }
            | Node::ElementOf { .. }
            | Node::Any { .. }
            | Node::All { .. } => self.test(row, env).map_or(Value::Null, Value::Bool),
        }
    }
}

/// Whether a lambda's condition holds of an element.
fn holds<R: Row + ?Sized>(node: &Node, row: &R, env: Env<'_>, item: &Value<'_>) -> Option<bool> {
    let scope = Scope {
        outer: env,
        value: item,
    };
    node.test(row, Some(&scope))
}

/// False if one is false, else unknown if one is, else true.
fn all(mut truths: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut result = Some(true);
    for truth in truths.by_ref() {
        match truth {
            Some(true) => {}
            Some(false) => return Some(false),
            None => result = None,
        }
    }
    result
}

/// True if one is true, else unknown if one is, else false.
fn any(truths: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    all(truths.map(|t| t.map(|b| !b))).map(|b| !b)
}

/// Asks `question` of the elements of a collection. Null is an empty collection.
fn each(
    collection: &Value<'_>,
    kind: Kind,
    quantifier: Quantifier,
    mut question: impl FnMut(Value<'_>) -> Option<bool>,
) -> Option<bool> {
    let mut ask = |items: &mut dyn Iterator<Item = Value<'_>>| {
        let truths = items.map(&mut question);
        match quantifier {
            Quantifier::Any => any(truths),
            Quantifier::All => all(truths),
        }
    };
    match collection {
        Value::StringList(items) => ask(&mut items.iter().map(|i| Value::str(i))),
        // A list sent as one string, joined by commas.
        Value::String(text) => {
            let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
            ask(&mut parts.map(Value::str))
        }
        Value::Json(text) => {
            let items = json::elements(text);
            ask(&mut items.into_iter().map(|i| json::leaf(i, kind)))
        }
        _ => ask(&mut std::iter::empty()),
    }
}

/// Compares two values as OData does.
fn compare(op: CompareOp, left: &Value<'_>, right: &Value<'_>) -> bool {
    if let (Value::String(a), Value::String(b)) = (left, right) {
        match op {
            CompareOp::Eq => return a == b,
            CompareOp::Ne => return a != b,
            _ => {}
        }
    }
    if left.is_null() || right.is_null() {
        let same = left.is_null() && right.is_null();
        return match op {
            CompareOp::Eq => same,
            CompareOp::Ne => !same,
            _ => false,
        };
    }
    match left.compare(right) {
        None => op == CompareOp::Ne,
        Some(order) => match op {
            CompareOp::Eq => order == Ordering::Equal,
            CompareOp::Ne => order != Ordering::Equal,
            CompareOp::Gt => order == Ordering::Greater,
            CompareOp::Ge => order != Ordering::Less,
            CompareOp::Lt => order == Ordering::Less,
            CompareOp::Le => order != Ordering::Greater,
        },
    }
}

fn negate<'e>(value: &Value<'_>) -> Value<'e> {
    let zero = Decimal::from(0);
    let negated = match value {
        Value::Int(v) => v.checked_neg().map(Value::Int),
        _ => None,
    };
    let wide = || zero.checked_sub(value.as_decimal()?).map(Value::Decimal);
    negated.or_else(wide).unwrap_or(Value::Null)
}

/// The result of an operation; `None` for null operands, division by zero and overflow.
fn arith<'e>(
    op: ArithOp,
    integers: bool,
    left: &Value<'_>,
    right: &Value<'_>,
) -> Option<Value<'e>> {
    if let (Value::Int(a), Value::Int(b)) = (left, right) {
        let whole = match op {
            ArithOp::Add => a.checked_add(*b),
            ArithOp::Sub => a.checked_sub(*b),
            ArithOp::Mul => a.checked_mul(*b),
            ArithOp::Mod => a.checked_rem(*b),
            ArithOp::Div | ArithOp::DivBy => None,
        };
        if let Some(whole) = whole {
            return Some(Value::Int(whole));
        }
    }
    let (a, b) = (left.as_decimal()?, right.as_decimal()?);
    let result = match op {
        ArithOp::Add => a.checked_add(b),
        ArithOp::Sub => a.checked_sub(b),
        ArithOp::Mul => a.checked_mul(b),
        ArithOp::Mod => (b != Decimal::from(0)).then(|| a.checked_rem(b)).flatten(),
        ArithOp::DivBy => a.checked_div(b),
        ArithOp::Div => match (a.to_i64(), b.to_i64()) {
            (Some(a), Some(b)) if integers => return a.checked_div(b).map(Value::Int),
            _ => a.checked_div(b),
        },
    };
    result.map(Value::Decimal)
}

/// The point of a latitude and a longitude; none where one is not a number on the globe.
fn pair<'e>(latitude: Option<Value<'_>>, longitude: Option<Value<'_>>) -> Option<Value<'e>> {
    let point = GeoPoint {
        longitude: longitude?.as_decimal()?.to_f64(),
        latitude: latitude?.as_decimal()?.to_f64(),
    };
    geo::on_globe(point).then_some(Value::GeoPoint(point))
}

fn measure_shapes<'e, R: Row + ?Sized>(
    measure: Measure,
    args: &'e [Node],
    row: &'e R,
    env: Env<'e>,
) -> Option<Value<'e>> {
    let point = |node: &'e Node| -> Option<GeoPoint> {
        match node {
            Node::Shape(Shape::Point(p)) => Some(*p),
            Node::Shape(_) => None,
            _ => match json::coerce(node.eval(row, env), Kind::Point) {
                Value::GeoPoint(p) if geo::on_globe(p) => Some(p),
                _ => None,
            },
        }
    };
    match (measure, args) {
        (Measure::Distance(unit), [a, b]) => to_decimal(geo::distance(point(a)?, point(b)?, unit)),
        (Measure::Length(unit), [Node::Shape(Shape::Line(line))]) => {
            to_decimal(geo::length(line, unit))
        }
        (Measure::Intersects, [a, b]) => {
            let (at, rings) = match (a, b) {
                (Node::Shape(Shape::Polygon(rings)), other)
                | (other, Node::Shape(Shape::Polygon(rings))) => (point(other)?, rings),
                _ => return None,
            };
            Some(Value::Bool(geo::inside(at, rings)))
        }
        _ => None,
    }
}

/// A distance as a decimal, to a millionth of its unit.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a distance on earth in millionths of a metre is below 2^45"
)]
fn to_decimal<'e>(distance: f64) -> Option<Value<'e>> {
    let millionths = (distance * 1e6).round() as i64;
    Decimal::new(i128::from(millionths), 6).map(Value::Decimal)
}
