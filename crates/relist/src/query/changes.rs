//! Changes as a resource: the changelog asked in OData's words.
//!
//! A row is one field's change, as in RESO's HistoryTransactional resource; an insertion, a
//! deletion, a relisting and a change of the schema have a row without a field, too. Values are
//! of the type that the field has, so `NewValue lt PreviousValue mul 0.95` compares prices as
//! numbers, and of a change of a date as nothing.

use std::cmp::Ordering;

use super::aggregate::{AggregateResult, Groups};
use super::events::{self, Places};
use super::{Explain, QueryContext, QuerySummary};
use crate::error::Result;
use crate::keycode::Key;
use crate::odata::{BoundQuery, CompareOp, Conjunct, FieldTest, OrderBy, Predicate, Query, Row};
use crate::record::Cell;
use crate::record::codec::Reader;
use crate::schema::{EnumMember, EnumType, Field, FieldId, FieldType, Resource, Schema};
use crate::store::{AsOf, Cause, Change, FieldChange, Operation, Snapshot};
use crate::value::{Timestamp, Value};

/// The name of the resource of changes in a [`Query`].
pub const CHANGES: &str = "changes";

/// The fields of a change, in the order of their ids.
const FIELDS: [&str; 11] = [
    "Sequence",
    "ResourceName",
    "ResourceRecordKey",
    "Operation",
    "FieldName",
    "PreviousValue",
    "NewValue",
    "ModificationTimestamp",
    "ObservedTimestamp",
    "Cause",
    "Run",
];

const SEQUENCE: FieldId = FieldId(0);
pub(super) const RESOURCE: FieldId = FieldId(1);
pub(super) const KEY: FieldId = FieldId(2);
const OPERATION: FieldId = FieldId(3);
pub(super) const CHANGED_FIELD: FieldId = FieldId(4);
const PREVIOUS: FieldId = FieldId(5);
const NEW: FieldId = FieldId(6);
const STAMP: FieldId = FieldId(7);
const OBSERVED: FieldId = FieldId(8);
const CAUSE: FieldId = FieldId(9);
const RUN: FieldId = FieldId(10);

/// One row of the changes: a change, and the field it is of.
#[derive(Debug, Clone, Copy)]
pub struct ChangeRow<'c> {
    /// The number of the change, ascending over the whole store.
    pub sequence: u64,
    /// The resource: `Property`.
    pub resource: &'c str,
    /// The record. `None` for a change of the schema, and where the query does not ask for it.
    pub key: Option<&'c Key>,
    /// What happened.
    pub operation: Operation,
    /// What made it known.
    pub cause: Cause,
    /// The run that logged it.
    pub run: u64,
    /// The feed's `ModificationTimestamp` of the record after the change.
    pub source_time: Option<Timestamp>,
    /// When the store observed it.
    pub observed: Timestamp,
    /// The field; `None` for what is more than an update.
    pub field: Option<&'c str>,
    /// The reason of a deletion, the text of a schema change; mostly empty.
    pub note: &'c str,
    pub(super) id: Option<FieldId>,
    /// The field's type, where the schema has the field.
    pub(super) ty: Option<&'c FieldType>,
    /// Encoded cells; empty when absent.
    pub(super) previous: &'c [u8],
    pub(super) new: &'c [u8],
}

impl<'c> ChangeRow<'c> {
    /// The value before; `None` when the field was absent, and without a field.
    pub fn previous(&self) -> Option<Cell<'c>> {
        Cell::read(&mut Reader::new(self.previous))
    }

    /// The value after; `None` when the field is absent, and without a field.
    pub fn new_value(&self) -> Option<Cell<'c>> {
        Cell::read(&mut Reader::new(self.new))
    }

    fn of(change: &'c Change, field: Option<&'c FieldChange>, schema: &'c Schema) -> Self {
        let declared = field.and_then(|edit| {
            let resource = schema.resource(&change.resource)?;
            resource.field(edit.field)
        });
        let (previous, new) = field.map_or((&[][..], &[][..]), FieldChange::sides);
        ChangeRow {
            field: field.map(|edit| edit.name.as_str()),
            id: field.map(|edit| edit.field),
            ty: declared.map(|field| &field.ty),
            previous,
            new,
            ..ChangeRow::without_field(change)
        }
    }

    /// The row of a change as a whole.
    fn without_field(change: &'c Change) -> Self {
        ChangeRow {
            sequence: change.sequence,
            resource: &change.resource,
            key: change.key.as_ref(),
            operation: change.operation,
            cause: change.cause,
            run: change.run,
            source_time: change.source_time,
            observed: change.observed,
            field: None,
            note: &change.note,
            id: None,
            ty: None,
            previous: &[],
            new: &[],
        }
    }

    /// The order of rows: by sequence, then by the field's place in the resource.
    fn order(&self) -> (u64, Option<FieldId>) {
        (self.sequence, self.id)
    }

    fn typed(&self, cell: Option<Cell<'c>>) -> Option<Value<'c>> {
        let cell = cell?;
        Some(self.ty.map_or_else(|| cell.value(), |ty| cell.value_as(ty)))
    }
}

impl Row for ChangeRow<'_> {
    fn value(&self, field: FieldId) -> Option<Value<'_>> {
        let number = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        let time = |at: Timestamp| Value::DateTime(at.to_datetime());
        Some(match field {
            SEQUENCE => number(self.sequence),
            RESOURCE => Value::str(self.resource),
            KEY => match self.key? {
                Key::Str(text) => Value::str(text),
                key @ Key::Int(_) => Value::String(key.to_string().into()),
            },
            OPERATION => Value::str(self.operation.name()),
            CHANGED_FIELD => Value::str(self.field?),
            PREVIOUS => self.typed(self.previous())?,
            // What a change of the schema was.
            NEW if self.operation == Operation::Schema => Value::str(self.note),
            NEW => self.typed(self.new_value())?,
            STAMP => time(self.source_time?),
            OBSERVED => time(self.observed),
            CAUSE => Value::str(self.cause.name()),
            RUN => number(self.run),
            _ => return None,
        })
    }
}

/// A row that outlives what it was read from.
#[derive(Debug)]
struct Kept {
    change: Change,
    field: Option<(String, FieldId)>,
    ty: Option<FieldType>,
    previous: Vec<u8>,
    new: Vec<u8>,
}

impl Kept {
    fn of(row: &ChangeRow<'_>) -> Self {
        let change = Change {
            sequence: row.sequence,
            resource: row.resource.to_owned(),
            key: row.key.cloned(),
            operation: row.operation,
            cause: row.cause,
            run: row.run,
            source_time: row.source_time,
            observed: row.observed,
            fields: Vec::new(),
            note: row.note.to_owned(),
        };
        Kept {
            change,
            field: row.field.map(str::to_owned).zip(row.id),
            ty: row.ty.cloned(),
            previous: row.previous.to_vec(),
            new: row.new.to_vec(),
        }
    }

    fn row(&self) -> ChangeRow<'_> {
        ChangeRow {
            field: self.field.as_ref().map(|(name, _)| name.as_str()),
            id: self.field.as_ref().map(|(_, id)| *id),
            ty: self.ty.as_ref(),
            previous: &self.previous,
            new: &self.new,
            ..ChangeRow::without_field(&self.change)
        }
    }
}

/// The schema that queries of changes are bound to: one resource, whose lookups are the resources
/// and fields of the store and the operations and causes there are.
pub fn changes_schema(schema: &Schema) -> Schema {
    let lookup = |name: &str| FieldType::Lookup(format!("Relist.{name}"));
    let ty = |name: &str| match name {
        "Sequence" | "Run" => FieldType::Int,
        "ResourceName" | "Operation" | "FieldName" | "Cause" => lookup(name),
        "PreviousValue" | "NewValue" => FieldType::Json,
        "ModificationTimestamp" | "ObservedTimestamp" => FieldType::DateTime,
        _ => FieldType::String,
    };
    let fields = FIELDS.iter().map(|name| Field {
        name: (*name).to_owned(),
        ty: ty(name),
        declared: true,
    });
    let members = |name: &str, texts: Vec<&str>| {
        let members = texts.into_iter().zip(0..).map(|(text, value)| EnumMember {
            name: text.to_owned(),
            value,
            display: None,
        });
        EnumType {
            name: format!("Relist.{name}"),
            is_flags: false,
            members: members.collect(),
        }
    };
    let resources = schema.resources.iter();
    let mut names: Vec<&str> = resources
        .clone()
        .flat_map(|r| r.fields.iter().map(|f| f.name.as_str()))
        .collect();
    names.sort_unstable();
    names.dedup();
    Schema {
        resources: vec![Resource {
            name: CHANGES.to_owned(),
            key_field: "Sequence".to_owned(),
            declared: true,
            fields: fields.collect(),
            navigation: Vec::new(),
        }],
        enums: vec![
            members("ResourceName", resources.map(|r| r.name.as_str()).collect()),
            members("FieldName", names),
            members("Operation", Operation::ALL.map(Operation::name).to_vec()),
            members("Cause", Cause::ALL.map(Cause::name).to_vec()),
        ],
    }
}

/// How changes are reached. It may be too many, never too few.
enum Access {
    /// None can pass.
    Nothing,
    /// Those of one record.
    Record(String, Key),
    /// Those after the first sequence, up to the second.
    Range(u64, u64),
    /// Those of some fields, by the log of each.
    Fields(Places, (u64, u64)),
}

/// Told of each row: the change and the fields asked for. Says whether to go on.
pub type VisitChange<'v> = dyn FnMut(&ChangeRow<'_>, Option<&[FieldId]>) -> Result<bool> + 'v;

impl Snapshot {
    /// Answers a query of the resource [`CHANGES`], row by row: in the order of `$orderby`, ties
    /// and all else by sequence and then by the order of fields in the resource.
    ///
    /// As of a moment, these are the changes up to it.
    ///
    /// # Errors
    /// [`Error::Query`](crate::error::Error::Query) for a query that does not fit,
    /// [`Error::Pruned`](crate::error::Error::Pruned) where changes that it
    /// asks of are not held any more, and whatever `visit` returns.
    pub fn query_changes(
        &self,
        query: &Query,
        context: &QueryContext,
        visit: &mut VisitChange<'_>,
    ) -> Result<QuerySummary> {
        let schema = changes_schema(self.schema());
        let bound = query.bind(&schema, context.now)?;
        let access = self.reach(bound.predicate.as_ref(), context)?;
        let mut explain = Explain {
            access: access.to_string(),
            residual: query.filter.as_ref().map(|f| f.text.clone()),
            ..Explain::default()
        };
        let mut walk = Walk {
            snapshot: self,
            bound: &bound,
            matched: 0,
            returned: 0,
        };
        explain.examined = match &bound.orderby {
            None => walk.streamed(&access, visit)?,
            Some(orderby) => walk.sorted(&access, orderby, visit)?,
        };
        if bound.orderby.is_some() {
            explain.sort = Some(format!("{} rows", walk.matched));
        }
        explain.returned = walk.returned;
        Ok(QuerySummary {
            count: bound.count.then_some(walk.matched),
            explain,
        })
    }

    /// Answers a query with `$apply` of the resource [`CHANGES`].
    ///
    /// # Errors
    /// As [`query_changes`](Snapshot::query_changes) and [`apply`](Snapshot::apply).
    pub fn apply_changes(&self, query: &Query, context: &QueryContext) -> Result<AggregateResult> {
        let schema = changes_schema(self.schema());
        let bound = query.bind_apply(&schema, context.now)?;
        let access = self.reach(bound.predicate.as_ref(), context)?;
        let mut groups = Groups::new(&bound.grouping);
        let mut explain = Explain {
            access: access.to_string(),
            residual: bound
                .predicate
                .is_some()
                .then(|| "the filters of $apply".to_owned()),
            ..Explain::default()
        };
        let predicate = bound.predicate.as_ref();
        explain.examined = match (&access, predicate) {
            (Access::Fields(places, range), Some(predicate)) => {
                let needs_key = bound.fields().contains(&KEY);
                self.each_event(places, *range, predicate, needs_key, &mut |row| {
                    groups.add(row)?;
                    Ok(true)
                })?
            }
            _ => self.each_row(&access, predicate, &mut |row| {
                groups.add(row)?;
                Ok(true)
            })?,
        };
        let rows = groups.finish()?;
        AggregateResult::finish(bound, rows, explain)
    }

    fn reach(&self, predicate: Option<&Predicate>, context: &QueryContext) -> Result<Access> {
        let last = match context.as_of {
            Some(at) => self.resolve(at)?,
            None => self.sequence(),
        };
        let Some(predicate) = predicate else {
            return Ok(Access::Range(0, last));
        };
        if predicate.constant() == Some(false) {
            return Ok(Access::Nothing);
        }
        let conjuncts = predicate.conjuncts();
        if let Some((resource, key)) = self.one_record(&conjuncts)
            && last == self.sequence()
        {
            return Ok(Access::Record(resource, key));
        }
        let (mut since, mut until) = (0, last);
        for conjunct in &conjuncts {
            let FieldTest::Compare(op, value) = &conjunct.test else {
                continue;
            };
            match (conjunct.field, value) {
                (SEQUENCE, value) => {
                    let Some(at) = value.as_decimal().and_then(|n| n.floor().to_i64()) else {
                        continue;
                    };
                    let at = u64::try_from(at).unwrap_or(0);
                    match op {
                        CompareOp::Gt => since = since.max(at),
                        CompareOp::Ge => since = since.max(at.saturating_sub(1)),
                        CompareOp::Lt | CompareOp::Le => until = until.min(at),
                        CompareOp::Eq => {
                            since = since.max(at.saturating_sub(1));
                            until = until.min(at);
                        }
                        CompareOp::Ne => {}
                    }
                }
                (OBSERVED, Value::DateTime(at))
                    if matches!(op, CompareOp::Gt | CompareOp::Ge | CompareOp::Eq) =>
                {
                    // The list of instants never runs backwards, and so may name a later one than
                    // the change itself does: it bounds from below only.
                    let before = at.seconds.saturating_mul(1_000_000).saturating_sub(1);
                    since = since.max(self.resolve(AsOf::Instant(Timestamp(before)))?);
                }
                _ => {}
            }
        }
        Ok(match events::places(self, &conjuncts) {
            Some(places) => Access::Fields(places, (since, until)),
            None => Access::Range(since, until),
        })
    }

    /// The one record whose changes are asked for, if the conditions name one.
    fn one_record(&self, conjuncts: &[Conjunct<'_>]) -> Option<(String, Key)> {
        let key = conjuncts.iter().find_map(|c| match &c.test {
            FieldTest::Compare(CompareOp::Eq, Value::String(text)) if c.field == KEY => Some(text),
            _ => None,
        })?;
        let resources = self.schema().resources.iter();
        let mut named = resources.filter(|r| {
            let mut about = conjuncts.iter().filter(|c| c.field == RESOURCE).peekable();
            about.peek().is_some() && about.all(|c| c.accepts(&Value::str(&r.name)))
        });
        let only = named.next().filter(|_| named.next().is_none())?;
        Some((only.name.clone(), self.parse_key(&only.name, key).ok()?))
    }

    /// Visits the rows that pass; gives how many were asked.
    fn each_row(
        &self,
        access: &Access,
        predicate: Option<&Predicate>,
        found: &mut dyn FnMut(&ChangeRow<'_>) -> Result<bool>,
    ) -> Result<u64> {
        let mut examined = 0;
        let mut visit = |change: &Change| -> Result<bool> {
            for field in fields_of(change) {
                examined += 1;
                let row = ChangeRow::of(change, field, self.schema());
                if predicate.is_none_or(|p| p.matches(&row)) && !found(&row)? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        match access {
            Access::Nothing => {}
            Access::Record(resource, key) => {
                for change in self.changes_of(resource, key)? {
                    if !visit(&change)? {
                        break;
                    }
                }
            }
            Access::Range(since, until) => {
                for change in self.changes(*since)? {
                    let change = change?;
                    if change.sequence > *until || !visit(&change)? {
                        break;
                    }
                }
            }
            Access::Fields(places, range) => {
                let Some(predicate) = predicate else {
                    return Ok(0);
                };
                return self.each_event(places, *range, predicate, true, found);
            }
        }
        Ok(examined)
    }
}

/// The rows of a change: one without a field for what is more than an update, then one a field.
fn fields_of(change: &Change) -> impl Iterator<Item = Option<&FieldChange>> {
    let whole = (change.operation != Operation::Update).then_some(None);
    whole.into_iter().chain(change.fields.iter().map(Some))
}

/// A query of changes under way.
struct Walk<'a> {
    snapshot: &'a Snapshot,
    bound: &'a BoundQuery,
    matched: u64,
    returned: u64,
}

/// A row to be sorted, and what it is sorted by.
type SortRow = (Vec<Value<'static>>, Kept);

impl Walk<'_> {
    fn streamed(&mut self, access: &Access, visit: &mut VisitChange<'_>) -> Result<u64> {
        let bound = self.bound;
        let (skip, top) = (bound.skip, bound.top.unwrap_or(u64::MAX));
        if top == 0 && !bound.count {
            return Ok(0);
        }
        let mut stopped = false;
        let predicate = bound.predicate.as_ref();
        self.snapshot.each_row(access, predicate, &mut |row| {
            self.matched += 1;
            if self.matched > skip && self.returned < top && !stopped {
                self.returned += 1;
                stopped = !visit(row, bound.select.as_deref())?;
            }
            Ok((!stopped && self.returned < top) || bound.count)
        })
    }

    /// Keeps never more than twice the rows that `$skip` and `$top` need.
    fn sorted(
        &mut self,
        access: &Access,
        orderby: &OrderBy,
        visit: &mut VisitChange<'_>,
    ) -> Result<u64> {
        let bound = self.bound;
        let needed = bound.skip.saturating_add(bound.top.unwrap_or(u64::MAX));
        let needed = usize::try_from(needed).unwrap_or(usize::MAX);
        let limit = needed.saturating_mul(2).max(1_024);
        let mut rows: Vec<SortRow> = Vec::new();
        let sort = |rows: &mut Vec<SortRow>| {
            let by_place = |a: &SortRow, b: &SortRow| a.1.row().order().cmp(&b.1.row().order());
            rows.sort_by(|a, b| match orderby.compare(&a.0, &b.0) {
                Ordering::Equal => by_place(a, b),
                order => order,
            });
            rows.truncate(needed);
        };
        let predicate = bound.predicate.as_ref();
        let examined = self.snapshot.each_row(access, predicate, &mut |row| {
            self.matched += 1;
            let key = orderby.key(row).into_iter().map(Value::into_owned);
            rows.push((key.collect(), Kept::of(row)));
            if rows.len() > limit {
                sort(&mut rows);
            }
            Ok(true)
        })?;
        sort(&mut rows);
        let skip = usize::try_from(bound.skip).unwrap_or(usize::MAX);
        for (_, kept) in rows.iter().skip(skip) {
            self.returned += 1;
            if !visit(&kept.row(), bound.select.as_deref())? {
                break;
            }
        }
        Ok(examined)
    }
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Access::Nothing => f.write_str("none: the filter is false for every change"),
            Access::Record(resource, key) => write!(f, "the changes of {resource} {key}"),
            Access::Fields(places, (since, until)) => {
                let fields = match places.len() {
                    1 => "one field".to_owned(),
                    n => format!("{n} fields"),
                };
                let from = since.saturating_add(1);
                write!(f, "changes of {fields}, of sequence {from} to {until}")
            }
            Access::Range(since, until) => {
                write!(
                    f,
                    "changes of sequence {} to {until}",
                    since.saturating_add(1)
                )
            }
        }
    }
}
