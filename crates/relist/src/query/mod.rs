//! Queries: a bound query, an access path, rows.
//!
//! `plan` chooses how records are reached: by their keys, in order of key, or by their columns.
//! `filter` decides on columns which records pass, `order` puts them in order, and only those that
//! are asked for are read. Whatever the path, the answer is that of asking the whole predicate of
//! each record: a plan can be slow, never wrong. A query never writes.

mod plan;
mod table;
mod filter;
mod order;
mod batch;
mod frame;
mod aggregate;
mod changes;
mod events;

use std::fmt;
use std::time::Duration;

pub use crate::column::{Item, Numeral, Part, Unit};
pub use aggregate::{Accumulator, AggregateResult, GroupRow, Groups, run_steps};
pub use batch::{Batch, BatchOptions, BatchSummary, Batches, FailedBatch};
pub use changes::{CHANGES, ChangeRow, VisitChange, changes_schema};
use filter::Selection;
pub use frame::{Extent, Frame, FrameColumn};
use plan::Access;
use table::Table;

use crate::error::{Error, Result};
use crate::keycode::Key;
use crate::odata::{BoundQuery, OrderBy, Query};
use crate::record::Record;
use crate::schema::FieldId;
use crate::store::{AsOf, Snapshot};
use crate::value::{Timestamp, Value};

/// What a query needs beside its text.
#[derive(Debug, Clone, Copy)]
pub struct QueryContext {
    /// The moment to answer for; `None` is the snapshot's.
    pub as_of: Option<AsOf>,
    /// What `now()` means.
    pub now: Timestamp,
    /// Tells how long something took, for [`Explain`]; the library has no clock of its own.
    pub clock: Option<fn() -> Duration>,
}

impl QueryContext {
    /// The snapshot's own moment; `now` is what `now()` means.
    pub fn new(now: Timestamp) -> Self {
        QueryContext {
            as_of: None,
            now,
            clock: None,
        }
    }
}

/// The rows of a query, all at once.
#[derive(Debug, Clone)]
pub struct QueryResult {
    /// The rows, in order.
    pub rows: Vec<Record>,
    /// The fields asked for; `None` is all.
    pub select: Option<Vec<FieldId>>,
    /// How many records pass the filter, when the query counts.
    pub count: Option<u64>,
    /// How the answer was found.
    pub explain: Explain,
}

/// What is left of a query whose rows were visited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuerySummary {
    /// How many records pass the filter, when the query counts.
    pub count: Option<u64>,
    /// How the answer was found.
    pub explain: Explain,
}

/// How an answer was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explain {
    /// How records were reached.
    pub access: String,
    /// The condition asked of each; `None` when there is none.
    pub residual: Option<String>,
    /// How the rows were put in order; `None` when they came so.
    pub sort: Option<String>,
    /// Segments of columns there are, and those of them that no row was looked at in.
    pub segments: Option<(u64, u64)>,
    /// Records the condition was asked of.
    pub examined: u64,
    /// Rows returned.
    pub returned: u64,
    /// How long each stage took, where the context has a clock.
    pub stages: Vec<(&'static str, Duration)>,
}

impl fmt::Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "access    {}", self.access)?;
        if let Some(residual) = &self.residual {
            writeln!(f, "filter    {residual}")?;
        }
        if let Some(sort) = &self.sort {
            writeln!(f, "sort      {sort}")?;
        }
        if let Some((all, skipped)) = self.segments {
            writeln!(f, "segments  {all}, {skipped} skipped")?;
        }
        writeln!(f, "examined  {}", self.examined)?;
        write!(f, "returned  {}", self.returned)?;
        for (stage, took) in &self.stages {
            write!(f, "\n{stage:<9} {took:?}")?;
        }
        Ok(())
    }
}

/// Told of each row: the record and the fields asked for. Says whether to go on.
pub type Visit<'v> = dyn FnMut(&Record, Option<&[FieldId]>) -> Result<bool> + 'v;

impl Snapshot {
    /// Answers a query with all its rows in memory.
    ///
    /// # Errors
    /// [`Error::Query`] for a query that does not fit the schema, [`Error::UnknownResource`],
    /// [`Error::Usage`] for a sequence that is not reached yet.
    pub fn query(&self, query: &Query, context: &QueryContext) -> Result<QueryResult> {
        let mut rows = Vec::new();
        let mut select = None;
        let summary = self.query_each(query, context, &mut |record, fields| {
            if rows.is_empty() {
                select = fields.map(<[FieldId]>::to_vec);
            }
            rows.push(record.clone());
            Ok(true)
        })?;
        Ok(QueryResult {
            rows,
            select,
            count: summary.count,
            explain: summary.explain,
        })
    }

    /// Answers a query row by row, in bounded memory unless it must sort without a `$top`.
    ///
    /// Rows come in the order of `$orderby`, ties and all else in ascending order of key.
    ///
    /// # Errors
    /// As [`query`](Snapshot::query), and whatever `visit` returns.
    pub fn query_each(
        &self,
        query: &Query,
        context: &QueryContext,
        visit: &mut Visit<'_>,
    ) -> Result<QuerySummary> {
        let bound = query.bind(self.schema(), context.now)?;
        let at = AsOf::Sequence(match context.as_of {
            Some(at) => self.resolve(at)?,
            None => self.sequence(),
        });
        let resource = self.resource(&query.resource)?;
        let access = Access::choose(&resource, &bound);
        let mut run = Run {
            snapshot: self,
            query,
            bound: &bound,
            at,
            explain: Explain {
                access: access.to_string(),
                residual: query.filter.as_ref().map(|f| f.text.clone()),
                ..Explain::default()
            },
            matched: 0,
            stages: Stages::start(context.clock),
        };
        match (&access, &bound.orderby) {
            (Access::Columns, _) => run.columnar(visit)?,
            (_, Some(orderby)) => run.sorted(&access, orderby, visit)?,
            (_, None) => run.streamed(&access, visit)?,
        }
        run.stages.end("rows");
        run.explain.stages = run.stages.done;
        Ok(QuerySummary {
            count: bound.count.then_some(run.matched),
            explain: run.explain,
        })
    }
}

/// A query under way.
struct Run<'a> {
    snapshot: &'a Snapshot,
    query: &'a Query,
    bound: &'a BoundQuery,
    at: AsOf,
    explain: Explain,
    matched: u64,
    stages: Stages,
}

/// How long the stages of a query took.
#[derive(Debug)]
struct Stages {
    clock: Option<fn() -> Duration>,
    /// When the stage under way began.
    since: Duration,
    done: Vec<(&'static str, Duration)>,
}

impl Stages {
    fn start(clock: Option<fn() -> Duration>) -> Self {
        Stages {
            clock,
            since: clock.map_or(Duration::ZERO, |clock| clock()),
            done: Vec::new(),
        }
    }

    /// Ends the stage under way.
    fn end(&mut self, name: &'static str) {
        if let Some(clock) = self.clock {
            let now = clock();
            self.done.push((name, now.saturating_sub(self.since)));
            self.since = now;
        }
    }
}

/// Records read side by side.
const CHUNK: usize = 256;
/// Matches beyond which the keys of all records are walked in order, and not those of the matches
/// sorted.
const MANY: u64 = 50_000;
/// The most selected fields for which a row is put together from columns.
const NARROW: usize = 24;

/// A row's sort key and its record's key.
type SortRow = (Vec<Value<'static>>, Key);

impl Run<'_> {
    /// Reaches records by the access path and asks the predicate of each.
    fn each_match(
        &mut self,
        access: &Access,
        mut found: impl FnMut(&mut Self, &Key, Record) -> Result<bool>,
    ) -> Result<()> {
        let bound = self.bound;
        let snapshot = self.snapshot;
        let at = self.at;
        let resource = &self.query.resource;
        let mut ask = |run: &mut Self, key: &Key, record: Record| {
            run.explain.examined += 1;
            if bound
                .predicate
                .as_ref()
                .is_some_and(|p| !p.matches(&record))
            {
                return Ok(true);
            }
            run.matched += 1;
            found(run, key, record)
        };
        match access {
            Access::Nothing | Access::Columns => Ok(()),
            Access::Keys(keys) => {
                for key in keys {
                    if let Some(record) = snapshot.get_at(resource, key, at)?
                        && !ask(self, key, record)?
                    {
                        break;
                    }
                }
                Ok(())
            }
            Access::Scan => snapshot.scan(resource, at, |key, record| ask(self, key, record)),
        }
    }

    fn streamed(&mut self, access: &Access, visit: &mut Visit<'_>) -> Result<()> {
        let (skip, top) = (self.bound.skip, self.bound.top.unwrap_or(u64::MAX));
        let (count, select) = (self.bound.count, self.bound.select.as_deref());
        if top == 0 && !count {
            return Ok(());
        }
        let mut stopped = false;
        self.each_match(access, |run, _, record| {
            if run.matched > skip && run.explain.returned < top && !stopped {
                run.explain.returned += 1;
                stopped = !visit(&record, select)?;
            }
            let more = !stopped && run.explain.returned < top;
            Ok(more || count)
        })
    }

    /// Keeps sort keys and record keys only, never more than twice what `$skip` and `$top` need.
    fn sorted(&mut self, access: &Access, orderby: &OrderBy, visit: &mut Visit<'_>) -> Result<()> {
        let (skip, top) = (self.bound.skip, self.bound.top.unwrap_or(u64::MAX));
        let needed = usize::try_from(skip.saturating_add(top)).unwrap_or(usize::MAX);
        let limit = needed.saturating_mul(2).max(1_024);
        let mut rows: Vec<SortRow> = Vec::new();
        // The sort is stable and rows come in order of key: ties end in order of key.
        let sort = |rows: &mut Vec<SortRow>| {
            rows.sort_by(|a, b| orderby.compare(&a.0, &b.0));
            rows.truncate(needed);
        };
        self.each_match(access, |_, key, record| {
            let sort_key = orderby
                .key(&record)
                .into_iter()
                .map(Value::into_owned)
                .collect();
            rows.push((sort_key, key.clone()));
            if rows.len() > limit {
                sort(&mut rows);
            }
            Ok(true)
        })?;
        sort(&mut rows);
        self.explain.sort = Some(match self.bound.top {
            Some(_) => format!("keeps the first {needed}"),
            None => format!("{} rows", rows.len()),
        });
        for (_, key) in rows
            .iter()
            .skip(usize::try_from(skip).unwrap_or(usize::MAX))
        {
            let resource = &self.query.resource;
            let record = self
                .snapshot
                .get_at(resource, key, self.at)?
                .ok_or_else(|| Error::Corrupt {
                    what: format!("{resource} {key} is gone within one snapshot"),
                })?;
            self.explain.returned += 1;
            if !visit(&record, self.bound.select.as_deref())? {
                break;
            }
        }
        Ok(())
    }

    /// Decides on columns, and reads only the rows that are asked for.
    fn columnar(&mut self, visit: &mut Visit<'_>) -> Result<()> {
        let AsOf::Sequence(at) = self.at else {
            return Ok(());
        };
        let table = Table::new(self.snapshot, &self.query.resource, at)?;
        let selection = filter::select(&table, self.bound.predicate.as_ref())?;
        self.stages.end("filter");
        self.matched = selection.count();
        self.explain.examined = selection.examined;
        self.explain.segments = Some((u64::from(table.segments()), selection.skipped));
        if !selection.indexes.is_empty() {
            let names = table.names(&selection.indexes);
            self.explain.access = format!("indexes on {names}; columns of the fields asked about");
        }
        let top = self.bound.top.unwrap_or(u64::MAX);
        let needed = self.bound.skip.saturating_add(top);
        if top == 0 || self.matched <= self.bound.skip {
            return Ok(());
        }
        let most = usize::try_from(needed).unwrap_or(usize::MAX);
        let slots = match &self.bound.orderby {
            Some(orderby) => {
                let (slots, index) = order::sorted(&table, &selection, orderby, most)?;
                self.explain.sort = Some(match (self.bound.top, index) {
                    (Some(_), Some(field)) => {
                        let name = table.names(&[field]);
                        format!("the first {needed} by the index on {name}")
                    }
                    (Some(_), None) => format!("keeps the first {needed}"),
                    (None, _) => format!("{} rows", self.matched),
                });
                slots
            }
            None if self.matched > MANY => return self.walk(&table, &selection, visit),
            None => {
                let slots: Vec<u32> = selection.slots().collect();
                order::in_key_order(&table, &slots)?
            }
        };
        self.stages.end("order");
        let skip = usize::try_from(self.bound.skip).unwrap_or(usize::MAX);
        let most = usize::try_from(top).unwrap_or(usize::MAX);
        let slots = slots.get(skip..).unwrap_or_default();
        self.give(&table, slots.get(..most).unwrap_or(slots), visit)?;
        Ok(())
    }

    /// Gives the matches in order of key, a few at a time, however many they are.
    fn walk(
        &mut self,
        table: &Table<'_>,
        selection: &Selection,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let (mut skip, top) = (self.bound.skip, self.bound.top.unwrap_or(u64::MAX));
        let mut chunk: Vec<u32> = Vec::with_capacity(CHUNK);
        let mut given = 0;
        let mut more = true;
        self.snapshot.each_slot(table.id, |slot| {
            let (segment, row) = crate::column::place(slot);
            let mask = selection.masks.get(segment as usize);
            if !mask.is_some_and(|mask| mask.contains(usize::from(row))) {
                return Ok(true);
            }
            if skip > 0 {
                skip -= 1;
                return Ok(true);
            }
            chunk.push(slot);
            given += 1;
            if chunk.len() == CHUNK || given == top {
                more = self.give(table, &chunk, visit)?;
                chunk.clear();
            }
            Ok(more && given < top)
        })?;
        if more {
            self.give(table, &chunk, visit)?;
        }
        Ok(())
    }

    /// Reads rows and gives them; says whether more are wanted.
    fn give(&mut self, table: &Table<'_>, slots: &[u32], visit: &mut Visit<'_>) -> Result<bool> {
        let select = self.bound.select.as_deref();
        let narrow = match select {
            Some(fields) if fields.len() <= NARROW && table.is_at_hand(fields, slots.len()) => {
                let mut fields = fields.to_vec();
                fields.sort_unstable();
                Some(table.view(&fields)?)
            }
            _ => None,
        };
        for chunk in slots.chunks(CHUNK) {
            for record in table.records_of(narrow.as_ref(), chunk) {
                self.explain.returned += 1;
                if !visit(&record?, select)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
