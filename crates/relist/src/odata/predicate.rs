//! Bound filters and orders: what a scan evaluates and a planner looks at.

use std::cmp::Ordering;

use super::Row;
use super::ast::{CompareOp, Expr, OrderItem};
use super::bind::{Binder, folded};
use super::eval::borrow;
use super::function::Function;
use super::lookup::LookupTest;
use super::node::{Kind, Node};
use super::text::OptionText;
use super::types::{Class, Ty};
use crate::error::QueryError;
use crate::schema::{FieldId, Resource, Schema};
use crate::value::{Timestamp, Value};

/// Resolves a filter against a resource. `text` is what `expr` was parsed from, for errors; `now`
/// is what `now()` means.
pub fn bind_filter(
    expr: &Expr,
    text: &str,
    schema: &Schema,
    resource: &Resource,
    now: Timestamp,
) -> Result<Predicate, QueryError> {
    let option = OptionText {
        name: "$filter",
        text,
    };
    let node = Binder::new(option, schema, resource, now).truth(expr)?;
    Ok(Predicate::of(node))
}

/// Resolves an order against a resource; `text` is what `items` was parsed from.
pub fn bind_orderby(
    items: &[OrderItem],
    text: &str,
    schema: &Schema,
    resource: &Resource,
    now: Timestamp,
) -> Result<OrderBy, QueryError> {
    let option = OptionText {
        name: "$orderby",
        text,
    };
    OrderBy::bind(&mut Binder::new(option, schema, resource, now), items)
}

fn bind_keys<'a>(
    binder: &mut Binder<'a>,
    items: &'a [OrderItem],
) -> Result<Vec<OrderKey>, QueryError> {
    let mut keys = Vec::with_capacity(items.len());
    for item in items {
        let bound = binder.expr(&item.expr)?;
        let orderless = matches!(bound.ty.class(), Class::List | Class::Opaque);
        if orderless && !matches!(bound.ty, Ty::Null) {
            let message = format!("{} is {}, which has no order", item.expr, bound.ty.name());
            return Err(binder.option.error(item.expr.span, message));
        }
        keys.push(OrderKey {
            node: bound.node,
            descending: item.descending,
        });
    }
    Ok(keys)
}

pub(super) fn fields_of<'n>(nodes: impl Iterator<Item = &'n Node>) -> Vec<FieldId> {
    let mut fields = Vec::new();
    for node in nodes {
        node.visit_fields(&mut |id| fields.push(id));
    }
    fields.sort_unstable();
    fields.dedup();
    fields
}

/// A filter bound to a resource: fields resolved, types checked, constants folded.
#[derive(Debug, Clone)]
pub struct Predicate {
    node: Node,
    fields: Vec<FieldId>,
}

impl Predicate {
    pub(super) fn of(node: Node) -> Self {
        let fields = fields_of(std::iter::once(&node));
        Predicate { node, fields }
    }

    /// Both conditions at once.
    pub(super) fn and(self, other: Node) -> Self {
        let mut nodes = match self.node {
            Node::And(nodes) => nodes,
            node => vec![node],
        };
        match other {
            Node::And(more) => nodes.extend(more),
            node => nodes.push(node),
        }
        Predicate::of(folded(Node::And(nodes)))
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// Whether the row passes the filter. A filter that is unknown (null) for a row does not let
    /// it through (OData 4.01 URL Conventions, 5.1.1.1).
    pub fn matches<R: Row + ?Sized>(&self, row: &R) -> bool {
        self.test(row) == Some(true)
    }

    /// The filter's value for the row: true, false or unknown.
    pub fn test<R: Row + ?Sized>(&self, row: &R) -> Option<bool> {
        self.node.test(row, None)
    }

    /// The fields the filter reads, in the order of their ids.
    pub fn fields(&self) -> &[FieldId] {
        &self.fields
    }

    /// The answer that is the same for every row, where the filter reads no field.
    pub fn constant(&self) -> Option<bool> {
        self.node.constant().map(|v| *v == Value::Bool(true))
    }

    /// Whether a row passes when it passes all of the [`conjuncts`](Predicate::conjuncts): every
    /// condition at the top reads one field.
    pub fn is_split(&self) -> bool {
        is_split(&self.node)
    }

    /// The condition without those joined by `and` at the top that read one of these fields and no
    /// other; `None` when nothing else is asked.
    pub(crate) fn without(&self, fields: &[FieldId]) -> Option<Predicate> {
        let nodes = match &self.node {
            Node::And(nodes) => nodes.as_slice(),
            node => std::slice::from_ref(node),
        };
        let asks = |node: &&Node| match fields_of(std::iter::once(*node)).as_slice() {
            [only] => !fields.contains(only),
            _ => true,
        };
        let mut left: Vec<Node> = nodes.iter().filter(asks).cloned().collect();
        match left.len() {
            0 => None,
            1 => left.pop().map(Predicate::of),
            _ => Some(Predicate::of(Node::And(left))),
        }
    }

    /// The conditions joined by `and` at the top that read exactly one field each. A row passes
    /// the filter only if it passes every one of them; [`Predicate::matches`] says the rest.
    pub fn conjuncts(&self) -> Vec<Conjunct<'_>> {
        let mut found = Vec::new();
        collect_conjuncts(&self.node, &mut found);
        found
    }
}

fn is_split(node: &Node) -> bool {
    match node {
        Node::And(nodes) => nodes.iter().all(is_split),
        other => fields_of(std::iter::once(other)).len() == 1,
    }
}

fn collect_conjuncts<'p>(node: &'p Node, found: &mut Vec<Conjunct<'p>>) {
    if let Node::And(nodes) = node {
        for inner in nodes {
            collect_conjuncts(inner, found);
        }
        return;
    }
    if let [field] = fields_of(std::iter::once(node)).as_slice() {
        found.push(Conjunct {
            field: *field,
            test: FieldTest::of(node),
            node,
        });
    }
}

/// A condition on one field, from which a planner chooses an access path.
#[derive(Debug, Clone)]
pub struct Conjunct<'p> {
    /// The field.
    pub field: FieldId,
    /// The condition's form.
    pub test: FieldTest<'p>,
    node: &'p Node,
}

impl Conjunct<'_> {
    pub(super) fn node(&self) -> &Node {
        self.node
    }

    /// Whether a value of the field passes; [`Value::Null`] stands for an absent one. So a
    /// condition of any form can be asked once for each value of a dictionary.
    pub fn accepts(&self, value: &Value<'_>) -> bool {
        struct One<'v>(FieldId, &'v Value<'v>);
        impl Row for One<'_> {
            fn value(&self, field: FieldId) -> Option<Value<'_>> {
                (field == self.0).then(|| borrow(self.1))
            }
        }
        self.node.test(&One(self.field, value), None) == Some(true)
    }
}

/// The form of a [`Conjunct`].
#[derive(Debug, Clone, PartialEq)]
pub enum FieldTest<'p> {
    /// The field compares so with a constant that is not null.
    Compare(CompareOp, &'p Value<'static>),
    /// The field equals one of these constants, which are sorted by [`Value::total_cmp`].
    In(&'p [Value<'static>]),
    /// `Field eq null`.
    IsNull,
    /// `Field ne null`.
    IsNotNull,
    /// The single-valued lookup is one of these members, each given by its certain spellings. A
    /// stored text that is none of them can still pass: ask [`Conjunct::accepts`].
    Lookup(Vec<&'p str>),
    /// The string starts so.
    StartsWith(&'p str),
    /// Some other condition: ask [`Conjunct::accepts`].
    Other,
}

impl<'p> FieldTest<'p> {
    fn of(node: &'p Node) -> Self {
        match node {
            Node::Field(_) => FieldTest::Compare(CompareOp::Eq, &Value::Bool(true)),
            Node::Not(inner) => match inner.as_ref() {
                Node::Field(_) => FieldTest::Compare(CompareOp::Eq, &Value::Bool(false)),
                _ => FieldTest::Other,
            },
            Node::Compare { op, left, right } if left.field().is_some() => {
                match (op, right.constant()) {
                    (CompareOp::Eq, Some(Value::Null)) => FieldTest::IsNull,
                    (CompareOp::Ne, Some(Value::Null)) => FieldTest::IsNotNull,
                    (_, Some(Value::Null) | None) => FieldTest::Other,
                    (op, Some(constant)) => FieldTest::Compare(*op, constant),
                }
            }
            Node::In {
                value,
                set,
                kind: Kind::Plain,
            } if value.field().is_some() => FieldTest::In(set),
            Node::Lookup {
                value,
                test: LookupTest::OneOf(members),
            } if value.field().is_some() => {
                let spellings = members.iter().flat_map(super::lookup::Member::spellings);
                FieldTest::Lookup(spellings.map(String::as_str).collect())
            }
            Node::Call {
                function: Function::StartsWith,
                args,
            } => match args.as_slice() {
                [Node::Field(_), Node::Const(Value::String(start))] => FieldTest::StartsWith(start),
                _ => FieldTest::Other,
            },
            _ => FieldTest::Other,
        }
    }
}

/// An order bound to a resource.
#[derive(Debug, Clone)]
pub struct OrderBy {
    keys: Vec<OrderKey>,
    fields: Vec<FieldId>,
}

#[derive(Debug, Clone)]
struct OrderKey {
    node: Node,
    descending: bool,
}

impl OrderBy {
    pub(super) fn bind<'a>(
        binder: &mut Binder<'a>,
        items: &'a [OrderItem],
    ) -> Result<Self, QueryError> {
        let keys = bind_keys(binder, items)?;
        let fields = fields_of(keys.iter().map(|k| &k.node));
        Ok(OrderBy { keys, fields })
    }

    /// The row's sort key: the value of each expression.
    pub fn key<'r, R: Row + ?Sized>(&'r self, row: &'r R) -> Vec<Value<'r>> {
        self.keys.iter().map(|k| k.node.eval(row, None)).collect()
    }

    /// The order of two sort keys. Null sorts before every value, and after it when descending
    /// (OData 4.01 Protocol, 11.2.6.2).
    pub fn compare(&self, a: &[Value<'_>], b: &[Value<'_>]) -> Ordering {
        for ((key, a), b) in self.keys.iter().zip(a).zip(b) {
            let order = a.total_cmp(b);
            let order = if key.descending {
                order.reverse()
            } else {
                order
            };
            if order.is_ne() {
                return order;
            }
        }
        Ordering::Equal
    }

    /// The fields the order reads, in the order of their ids.
    pub fn fields(&self) -> &[FieldId] {
        &self.fields
    }

    /// The fields to sort by and whether descending, when every key is nothing but a field.
    pub fn plain(&self) -> Option<Vec<(FieldId, bool)>> {
        let keys = self.keys.iter();
        keys.map(|k| Some((k.node.field()?, k.descending)))
            .collect()
    }
}
