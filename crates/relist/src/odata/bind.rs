//! Resolving an expression against a schema: names, types, members of enumerations, constants.

use std::cell::Cell;
use std::rc::Rc;

use super::ast::{ArithOp, Expr, ExprKind, Lambda, Literal, Name, Path, Quantifier, Span};
use super::eval::NoRow;
use super::function;
use super::geo::{Geography, Shape};
use super::node::Node;
use super::text::{OptionText, did_you_mean, nearest};
use super::types::{Class, Ty};
use crate::error::QueryError;
use crate::schema::{FieldId, FieldType, Resource, Schema};
use crate::value::{Decimal, Timestamp, Value};

/// The name that stands for a latitude and a longitude that are fields of their own, where the
/// resource has no field of that name.
pub(super) const COORDINATES: &str = "Coordinates";

/// The most fields that are read in place of names given by `compute`, over a whole option: each
/// use of such a name is a copy of its expression.
const MOST_INLINED: usize = 20_000;

/// A bound expression and its type.
#[derive(Debug, Clone)]
pub(super) struct Bound<'s> {
    pub(super) node: Node,
    pub(super) ty: Ty<'s>,
}

impl Bound<'_> {
    pub(super) fn bool(node: Node) -> Self {
        Bound {
            node: folded(node),
            ty: Ty::Bool,
        }
    }
}

/// Names given by `compute`, which stand for expressions over the fields.
#[derive(Debug, Clone, Default)]
pub(super) struct Computed<'a> {
    names: Vec<(&'a str, Rc<Bound<'a>>)>,
    inlined: Rc<Cell<usize>>,
}

impl<'a> Computed<'a> {
    pub(super) fn add(&mut self, name: &'a str, bound: Bound<'a>) {
        self.names.push((name, Rc::new(bound)));
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|(known, _)| *known == name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.names.iter().map(|(name, _)| *name)
    }
}

pub(super) struct Binder<'a> {
    pub(super) option: OptionText<'a>,
    pub(super) schema: &'a Schema,
    pub(super) resource: &'a Resource,
    pub(super) now: Timestamp,
    /// The fields that [`COORDINATES`] stands for: latitude, longitude.
    pub(super) pair: Option<(FieldId, FieldId)>,
    pub(super) computed: Computed<'a>,
    /// The lambda variables in scope, innermost last.
    scopes: Vec<(&'a str, Ty<'a>)>,
}

/// `Latitude` and `Longitude`, when the resource has both and no point.
fn default_pair(resource: &Resource) -> Option<(FieldId, FieldId)> {
    let pointed = resource.fields.iter().any(|f| f.ty == FieldType::GeoPoint);
    let pair = || {
        Some((
            resource.field_id("Latitude")?,
            resource.field_id("Longitude")?,
        ))
    };
    if pointed { None } else { pair() }
}

impl<'a> Binder<'a> {
    pub(super) fn new(
        option: OptionText<'a>,
        schema: &'a Schema,
        resource: &'a Resource,
        now: Timestamp,
    ) -> Self {
        Binder {
            option,
            schema,
            resource,
            now,
            pair: default_pair(resource),
            computed: Computed::default(),
            scopes: Vec::new(),
        }
    }

    pub(super) fn expr(&mut self, expr: &'a Expr) -> Result<Bound<'a>, QueryError> {
        match &expr.kind {
            ExprKind::Literal(literal) => Ok(self.literal(literal)),
            ExprKind::Path(path) => self.path(path),
            ExprKind::Neg(operand) => self.negation(operand),
            ExprKind::Not(operand) => {
                let node = self.negated(operand)?;
                Ok(Bound::bool(Node::Not(Box::new(node))))
            }
            ExprKind::And(operands) => Ok(Bound::bool(Node::And(self.truths(operands)?))),
            ExprKind::Or(operands) => Ok(Bound::bool(Node::Or(self.truths(operands)?))),
            ExprKind::Compare { op, left, right } => self.compare(*op, left, right),
            ExprKind::Arith { op, left, right } => self.arith(*op, left, right),
            ExprKind::Has { left, right } => self.has(left, right),
            ExprKind::In { value, set } => self.member_of(value, set),
            ExprKind::List(_) => {
                let message = "a list stands only to the right of in";
                Err(self.option.error(expr.span, message))
            }
            ExprKind::Call { name, args } => self.call(name, args, expr.span),
            ExprKind::Lambda {
                collection,
                quantifier,
                body,
            } => self.lambda(collection, *quantifier, body.as_ref()),
            ExprKind::Count(path) => {
                let (collection, _) = self.collection(path)?;
                Ok(Bound {
                    node: Node::Count(Box::new(collection.node)),
                    ty: Ty::Int,
                })
            }
        }
    }

    /// An expression that must be true or false.
    pub(super) fn truth(&mut self, expr: &'a Expr) -> Result<Node, QueryError> {
        let bound = self.expr(expr)?;
        match bound.ty {
            Ty::Bool | Ty::Json | Ty::Null => Ok(bound.node),
            ty => {
                let message = format!("{expr} is {}, not true or false", ty.name());
                let hint = format!("compare it with something: {expr} eq ..");
                Err(self.option.hinted(expr.span, message, Some(hint)))
            }
        }
    }

    fn truths(&mut self, operands: &'a [Expr]) -> Result<Vec<Node>, QueryError> {
        operands.iter().map(|o| self.truth(o)).collect()
    }

    /// The operand of `not`, which binds more tightly than comparisons do.
    fn negated(&mut self, operand: &'a Expr) -> Result<Node, QueryError> {
        self.truth(operand).map_err(|mut error| {
            if error
                .hint
                .as_ref()
                .is_some_and(|h| h.starts_with("compare"))
            {
                let hint = format!("not binds tightly: write not ({operand} eq ..)");
                error.hint = Some(hint);
            }
            error
        })
    }

    fn literal(&self, literal: &'a Literal) -> Bound<'a> {
        let (value, ty) = match literal {
            Literal::Null => (Value::Null, Ty::Null),
            Literal::Bool(v) => (Value::Bool(*v), Ty::Bool),
            Literal::Number(v) => number(*v),
            Literal::Date(v) => (Value::Date(*v), Ty::Date),
            Literal::DateTime(v) => (Value::DateTime(*v), Ty::DateTime),
            Literal::TimeOfDay(v) => (Value::TimeOfDay(*v), Ty::TimeOfDay),
            Literal::Guid(v) => (Value::Guid(*v), Ty::Guid),
            Literal::String(text) => (Value::String(text.clone().into()), Ty::String),
            Literal::Enum { ty, members } => {
                let declared = self.schema.enum_type(ty);
                let declared = declared.filter(|e| !e.members.is_empty());
                (Value::String(members.clone().into()), Ty::Member(declared))
            }
            Literal::Geography(Geography { shape, .. }) => {
                let ty = Ty::of_shape(shape);
                let node = match shape {
                    Shape::Point(point) => Node::Const(Value::GeoPoint(*point)),
                    other => Node::Shape(other.clone()),
                };
                return Bound { node, ty };
            }
        };
        Bound {
            node: Node::Const(value),
            ty,
        }
    }

    fn negation(&mut self, operand: &'a Expr) -> Result<Bound<'a>, QueryError> {
        let bound = self.expr(operand)?;
        self.number_operand(operand, &bound, "-")?;
        Ok(Bound {
            node: folded(Node::Neg(Box::new(bound.node))),
            ty: bound.ty,
        })
    }

    fn arith(
        &mut self,
        op: ArithOp,
        left: &'a Expr,
        right: &'a Expr,
    ) -> Result<Bound<'a>, QueryError> {
        let (l, r) = (self.expr(left)?, self.expr(right)?);
        self.number_operand(left, &l, op.name())?;
        self.number_operand(right, &r, op.name())?;
        let divides = matches!(op, ArithOp::Div | ArithOp::DivBy | ArithOp::Mod);
        if divides && r.node.constant().is_some_and(|v| *v == Value::Int(0)) {
            return Err(self.option.error(right.span, "division by zero"));
        }
        let integers = !matches!(l.ty, Ty::Decimal) && !matches!(r.ty, Ty::Decimal);
        let ty = match (l.ty, r.ty) {
            (Ty::Int, Ty::Int) if op != ArithOp::DivBy => Ty::Int,
            _ => Ty::Decimal,
        };
        let node = folded(Node::Arith {
            op,
            integers,
            left: Box::new(l.node),
            right: Box::new(r.node),
        });
        Ok(Bound { node, ty })
    }

    fn number_operand(&self, expr: &Expr, bound: &Bound<'_>, op: &str) -> Result<(), QueryError> {
        match bound.ty.class() {
            Class::Number | Class::Any | Class::Null => Ok(()),
            class => {
                let kind = bound.ty.name();
                let message = format!("{op} takes numbers, and {expr} is {kind}");
                let hint = (class == Class::Instant).then(|| {
                    "durations are not supported: compare with a timestamp instead".to_owned()
                });
                Err(self.option.hinted(expr.span, message, hint))
            }
        }
    }

    pub(super) fn path(&mut self, path: &'a Path) -> Result<Bound<'a>, QueryError> {
        let mut names = path.names.iter();
        let Some(mut first) = names.next() else {
            let message = "a path without names";
            return Err(self.option.error(Span::default(), message));
        };
        let mut variable = self.scopes.iter().rev().position(|(v, _)| *v == first.text);
        if first.text == "$it" {
            let whole = first.span;
            variable = None;
            first = names.next().ok_or_else(|| {
                let hint = "name a field of it: $it/ListPrice".to_owned();
                let message = "$it is the whole record";
                self.option.hinted(whole, message, Some(hint))
            })?;
        }
        let mut bound = match variable {
            Some(outwards) => {
                let scope = self.scopes.iter().rev().nth(outwards);
                Bound {
                    node: Node::Variable(outwards),
                    ty: scope.map_or(Ty::Json, |(_, ty)| *ty),
                }
            }
            None => self.named(first)?,
        };
        let mut before = first;
        for name in names {
            bound = self.member(bound, before, name)?;
            before = name;
        }
        Ok(bound)
    }

    /// A name that `compute` gave, else a field.
    fn named(&self, name: &Name) -> Result<Bound<'a>, QueryError> {
        let mut names = self.computed.names.iter();
        let Some((_, bound)) = names.find(|(known, _)| *known == name.text) else {
            return self.field(name);
        };
        let mut fields = 1;
        bound.node.visit_fields(&mut |_| fields += 1);
        let inlined = self.computed.inlined.get() + fields;
        self.computed.inlined.set(inlined);
        if inlined > MOST_INLINED {
            let message = "computed members are made of too many others";
            let hint = "group by fewer, or compute from fields".to_owned();
            return Err(self.option.hinted(name.span, message, Some(hint)));
        }
        Ok(Bound::clone(bound))
    }

    fn field(&self, name: &Name) -> Result<Bound<'a>, QueryError> {
        let id = self.resource.field_id(&name.text);
        let field = id.and_then(|id| self.resource.field(id));
        let (Some(id), Some(field)) = (id, field) else {
            if let Some((latitude, longitude)) = self.pair.filter(|_| name.text == COORDINATES) {
                return Ok(Bound {
                    node: Node::Pair {
                        latitude,
                        longitude,
                    },
                    ty: Ty::Point,
                });
            }
            return Err(self.unknown_field(name, self.resource));
        };
        let ty = self.navigated(self.resource, &name.text);
        Ok(Bound {
            node: Node::Field(id),
            ty: ty.unwrap_or_else(|| Ty::of_field(&field.ty, self.schema)),
        })
    }

    /// The type of a navigation property whose target the schema knows.
    fn navigated(&self, resource: &'a Resource, name: &str) -> Option<Ty<'a>> {
        let navigation = resource.navigation.iter().find(|n| n.name == name)?;
        let target = self.schema.resource(&navigation.target)?;
        Some(if navigation.collection {
            Ty::Entities(target)
        } else {
            Ty::Entity(target)
        })
    }

    pub(super) fn unknown_field(&self, name: &Name, resource: &Resource) -> QueryError {
        let text = name.text.as_str();
        if resource.navigation.iter().any(|n| n.name == text) {
            let message = format!("{text} leads to other records, which are not kept here");
            let hint = format!("fetch it with the record ($expand={text}), or query {text} itself");
            return self.option.hinted(name.span, message, Some(hint));
        }
        let message = format!("{} has no field {text}", resource.name);
        let is_function = function::Signature::named(&text.to_ascii_lowercase()).is_some();
        let fields = resource.fields.iter().map(|f| f.name.as_str());
        let variables = self.scopes.iter().map(|(v, _)| *v);
        let hint = if is_function {
            Some(format!("a function is called: {text}()"))
        } else if text == COORDINATES {
            Some(self.hint_for_coordinates())
        } else {
            did_you_mean(text, fields.chain(variables).chain(self.computed.names()))
        };
        self.option.hinted(name.span, message, hint)
    }

    /// What to write instead of [`COORDINATES`] where there is no pair of fields.
    fn hint_for_coordinates(&self) -> String {
        let mut fields = self.resource.fields.iter();
        match fields.find(|f| f.ty == FieldType::GeoPoint) {
            Some(point) => format!("write {}", point.name),
            None => format!(
                "{COORDINATES} stands for the fields Latitude and Longitude, or for a pair that \
                 the configuration names"
            ),
        }
    }

    fn member(
        &self,
        of: Bound<'a>,
        parent: &Name,
        name: &'a Name,
    ) -> Result<Bound<'a>, QueryError> {
        let ty = match of.ty {
            Ty::Json => Ty::Json,
            Ty::Entity(resource) => match resource.field_named(&name.text) {
                Some(field) => self
                    .navigated(resource, &name.text)
                    .unwrap_or_else(|| Ty::of_field(&field.ty, self.schema)),
                None => match self.navigated(resource, &name.text) {
                    Some(ty) => ty,
                    None if resource.declared => {
                        return Err(self.unknown_field(name, resource));
                    }
                    None => Ty::Json,
                },
            },
            other => {
                let message = format!("{} is {} and has no members", parent.text, other.name());
                let hint = matches!(other, Ty::Entities(_))
                    .then(|| format!("write {}/any(x:x/{} ..)", parent.text, name.text));
                return Err(self.option.hinted(name.span, message, hint));
            }
        };
        Ok(Bound {
            node: folded(Node::Member {
                of: Box::new(of.node),
                name: name.text.clone(),
                kind: ty.kind(),
            }),
            ty,
        })
    }

    /// A collection and the type of its elements.
    pub(super) fn collection(&mut self, path: &'a Path) -> Result<(Bound<'a>, Ty<'a>), QueryError> {
        let bound = self.path(path)?;
        let element = match bound.ty {
            Ty::StringList => Ty::String,
            Ty::LookupList(ty) => Ty::Lookup(ty),
            Ty::Entities(resource) => Ty::Entity(resource),
            Ty::Json => Ty::Json,
            other => {
                let span = path_span(path);
                let message = format!("{path} is {}, not a collection", other.name());
                let hint = Some(format!("compare it: {path} eq .."));
                return Err(self.option.hinted(span, message, hint));
            }
        };
        Ok((bound, element))
    }

    fn lambda(
        &mut self,
        path: &'a Path,
        quantifier: Quantifier,
        body: Option<&'a Lambda>,
    ) -> Result<Bound<'a>, QueryError> {
        let (collection, element) = self.collection(path)?;
        let collection = Box::new(collection.node);
        let mut condition = None;
        if let Some(body) = body {
            self.scopes.push((&body.variable.text, element));
            let bound = self.truth(&body.condition);
            self.scopes.pop();
            condition = Some(Box::new(bound?));
        }
        let node = match (quantifier, condition) {
            (Quantifier::All, Some(condition)) => Node::All {
                collection,
                condition,
            },
            (_, condition) => Node::Any {
                collection,
                condition,
            },
        };
        Ok(Bound { node, ty: Ty::Bool })
    }

    /// The hint for a name that is nearly one of `known`.
    pub(super) fn near(wrong: &str, known: &[&str]) -> Option<String> {
        nearest(wrong, known.iter().copied()).map(|name| format!("did you mean '{name}'?"))
    }
}

/// The place of a path.
pub(super) fn path_span(path: &Path) -> Span {
    let first = path.names.first().map(|n| n.span).unwrap_or_default();
    path.names.last().map_or(first, |last| first.to(last.span))
}

/// A number: whole when it was written whole and fits.
fn number<'s>(value: Decimal) -> (Value<'static>, Ty<'s>) {
    match value.to_i64() {
        Some(whole) if value.scale() == 0 => (Value::Int(whole), Ty::Int),
        _ => (Value::Decimal(value), Ty::Decimal),
    }
}

/// The node, or its value when it depends on no row.
pub(super) fn folded(node: Node) -> Node {
    let constant = |n: &Node| n.constant().is_some();
    let ready = match &node {
        Node::Compare { left, right, .. } | Node::Arith { left, right, .. } => {
            constant(left) && constant(right)
        }
        Node::Not(inner)
        | Node::Neg(inner)
        | Node::Coerce { value: inner, .. }
        | Node::In { value: inner, .. }
        | Node::Lookup { value: inner, .. }
        | Node::Contains { text: inner, .. }
        | Node::Member { of: inner, .. } => constant(inner),
        Node::And(nodes) | Node::Or(nodes) | Node::Call { args: nodes, .. } => {
            nodes.iter().all(constant)
        }
        Node::Geo { args, .. } => args
            .iter()
            .all(|n| constant(n) || matches!(n, Node::Shape(_))),
        _ => false,
    };
    if ready {
        Node::Const(node.eval(&NoRow, None).into_owned())
    } else {
        node
    }
}
