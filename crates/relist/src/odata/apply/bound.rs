//! `$apply` resolved against a schema: what an executor works from.

use super::ast::Rank;
use super::method::Method;
use crate::odata::Row;
use crate::odata::eval::borrow;
use crate::odata::function::Function;
use crate::odata::node::Node;
use crate::odata::predicate::{OrderBy, Predicate, fields_of};
use crate::schema::{FieldId, FieldType};
use crate::value::{Decimal, Value};

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub ty: FieldType,
}

/// `$apply` resolved against a resource.
#[derive(Debug, Clone)]
pub struct BoundApply {
    /// The condition on records: all filters before the grouping. `None` lets all through.
    pub predicate: Option<Predicate>,
    /// What is made of the records that pass.
    pub grouping: Grouping,
    /// What is done with the groups, in this order. A row of groups is a [`Row`] whose field ids
    /// are the places of its columns: first the grouping's keys, then its aggregates.
    pub steps: Vec<GroupStep>,
    /// The columns in the end.
    pub columns: Vec<Column>,
    /// Whether to say how many rows there are, whatever `$top` and `$skip` say.
    pub count: bool,
}

impl BoundApply {
    /// The fields of records that are read, in the order of their ids.
    pub fn fields(&self) -> Vec<FieldId> {
        let grouping = &self.grouping;
        let predicates = self.predicate.iter().chain(&grouping.inner);
        let values = grouping.aggregates.iter().filter_map(|a| a.value.as_ref());
        let expressions = grouping.keys.iter().map(|k| &k.value).chain(values);
        let mut fields: Vec<FieldId> = predicates
            .flat_map(|p| p.fields().iter().copied())
            .collect();
        fields.extend(expressions.flat_map(|e| e.fields().iter().copied()));
        fields.sort_unstable();
        fields.dedup();
        fields
    }
}

/// Groups of rows and what is aggregated of each.
#[derive(Debug, Clone)]
pub struct Grouping {
    /// What makes a group; rows are of one group when all keys are equal, nulls among them.
    pub keys: Vec<GroupKey>,
    /// There are no keys, and one group, also of no rows (`aggregate` without `groupby`).
    pub whole: bool,
    /// A condition within the groups: what does not pass makes a group, too, but is not
    /// aggregated.
    pub inner: Option<Predicate>,
    /// What is aggregated.
    pub aggregates: Vec<Aggregate>,
}

/// A key of a group.
#[derive(Debug, Clone)]
pub struct GroupKey {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub ty: FieldType,
    /// Its value.
    pub value: Expression,
}

/// One aggregate.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// Its name.
    pub name: String,
    /// What its result is.
    pub ty: FieldType,
    /// How it is made; of `$count` there is none.
    pub method: Option<Method>,
    /// What is aggregated; of `$count` there is none.
    pub value: Option<Expression>,
    /// The type of what is aggregated: a value of another kind is left out as null is.
    pub of: FieldType,
}

/// A bound expression over the fields of a row.
#[derive(Debug, Clone)]
pub struct Expression {
    node: Node,
    fields: Vec<FieldId>,
}

/// A part of a date or timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatePart {
    /// `year`.
    Year,
    /// `month`, 1 to 12.
    Month,
    /// `day` of the month, from 1.
    Day,
    /// `hour`, from 0.
    Hour,
    /// `date`: the day of a timestamp.
    Date,
}

/// The form of an [`Expression`], from which an executor chooses its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyForm {
    /// Nothing but a field.
    Field(FieldId),
    /// A part of a field that is a date or a timestamp, in the offset that it was written in.
    Part(DatePart, FieldId),
    /// Something of one field: ask [`Expression::of_value`] once for each different value.
    OneField(FieldId),
    /// Something else: ask [`Expression::value`] of each row.
    Other,
}

impl Expression {
    pub(super) fn of(node: Node) -> Self {
        let fields = fields_of(std::iter::once(&node));
        Expression { node, fields }
    }

    /// The fields it reads, in the order of their ids.
    pub fn fields(&self) -> &[FieldId] {
        &self.fields
    }

    /// The field, when the expression is nothing but one.
    pub fn plain(&self) -> Option<FieldId> {
        self.node.field()
    }

    /// Its form.
    pub fn form(&self) -> KeyForm {
        if let Some(field) = self.plain() {
            return KeyForm::Field(field);
        }
        if let Node::Call { function, args } = &self.node
            && let [Node::Field(field)] = args.as_slice()
        {
            let part = match function {
                Function::Year => Some(DatePart::Year),
                Function::Month => Some(DatePart::Month),
                Function::Day => Some(DatePart::Day),
                Function::Hour => Some(DatePart::Hour),
                Function::Date => Some(DatePart::Date),
                _ => None,
            };
            if let Some(part) = part {
                return KeyForm::Part(part, *field);
            }
        }
        match self.fields.as_slice() {
            [field] => KeyForm::OneField(*field),
            _ => KeyForm::Other,
        }
    }

    /// Its value for a row; null where it has none.
    pub fn value<'r, R: Row + ?Sized>(&'r self, row: &'r R) -> Value<'r> {
        self.node.eval(row, None)
    }

    /// Its value where the one field it reads has this value; [`Value::Null`] stands for an
    /// absent one.
    pub fn of_value(&self, value: &Value<'_>) -> Value<'static> {
        struct One<'v>(Option<FieldId>, &'v Value<'v>);
        impl Row for One<'_> {
            fn value(&self, field: FieldId) -> Option<Value<'_>> {
                (Some(field) == self.0).then(|| borrow(self.1))
            }
        }
        let row = One(self.fields.first().copied(), value);
        self.node.eval(&row, None).into_owned()
    }
}

/// What is done with the groups: each step takes rows and gives rows.
#[derive(Debug, Clone)]
pub enum GroupStep {
    /// Keeps what passes.
    Filter(Predicate),
    /// Adds columns at the end; each may read those before it.
    Compute(Vec<Expression>),
    /// Sorts; what is equal stays in the order it was in.
    OrderBy(OrderBy),
    /// Keeps the first rows.
    Top(u64),
    /// Leaves out the first rows.
    Skip(u64),
    /// Keeps the first rows by rank, in the order of rank.
    Ranked {
        /// Which rows.
        rank: Rank,
        /// How many, how much, or which part of a hundred.
        amount: Decimal,
        /// What is ranked by.
        by: Expression,
    },
    /// Groups the groups.
    Group(Grouping),
    /// Does the steps with the rows of each group by themselves. The groups come in the order of
    /// their keys, the rows keep their columns.
    Each {
        /// What makes a group.
        keys: Vec<Expression>,
        /// What is done with each group.
        then: Vec<GroupStep>,
    },
    /// Notes how many rows there are, for `$count`.
    Count,
    /// Keeps these columns, in this order.
    Select(Vec<usize>),
}
