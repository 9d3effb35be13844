//! `$apply`: groups of records and what is aggregated of them.
//!
//! [`Groups`] takes rows one by one, from wherever they come, and merges with others of its kind;
//! [`run_steps`] does what comes after the grouping. [`Snapshot::apply`] does it all for the
//! records of a snapshot.
//!
//! Every number in a result is exact and in its shortest form: `350000.00` and `350000` are one
//! group, named `350000`. A timestamp is in UTC. So a result does not depend on the order in which
//! records were read.

mod key;
mod exact;
mod accumulator;
mod groups;
mod steps;
mod columnar;

pub use accumulator::Accumulator;
pub use groups::{GroupRow, Groups};
pub use steps::run_steps;

use super::changes::CHANGES;
use super::filter::select;
use super::plan::Access;
use super::table::Table;
use super::{Explain, QueryContext, Stages};
use crate::error::Result;
use crate::odata::{BoundApply, Column, Query};
use crate::record::Record;
use crate::store::{AsOf, Snapshot};
use crate::value::write_json_string;

/// The answer to a query with `$apply`.
#[derive(Debug, Clone)]
pub struct AggregateResult {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, in order: that of their keys unless the query says another.
    pub rows: Vec<GroupRow>,
    /// How many rows there are before `$skip` and `$top`, when the query counts.
    pub count: Option<u64>,
    /// How the answer was found.
    pub explain: Explain,
}

impl AggregateResult {
    /// Does what comes after the grouping, and gives it the form of an answer.
    ///
    /// # Errors
    /// As [`run_steps`].
    pub fn finish(bound: BoundApply, groups: Vec<GroupRow>, mut explain: Explain) -> Result<Self> {
        let (rows, count) = run_steps(groups, &bound.steps)?;
        explain.returned = rows.len() as u64;
        Ok(AggregateResult {
            columns: bound.columns,
            rows,
            count,
            explain,
        })
    }

    /// Appends a row as a JSON object: a member for each column, null where there is no value.
    pub fn write_json(&self, row: &GroupRow, out: &mut String) {
        use std::fmt::Write as _;
        out.push('{');
        for (i, (column, value)) in self.columns.iter().zip(&row.values).enumerate() {
            if i > 0 {
                out.push(',');
            }
            // Writing to a String cannot fail.
            let _ = write_json_string(out, &column.name);
            let _ = write!(out, ":{value}");
        }
        out.push('}');
    }
}

impl Snapshot {
    /// Answers a query with `$apply`, also of the resource [`CHANGES`].
    ///
    /// # Errors
    /// [`Error::Query`](crate::error::Error::Query) for a query that does not fit the schema,
    /// [`Error::UnknownResource`](crate::error::Error::UnknownResource);
    /// [`Error::Usage`](crate::error::Error::Usage) for a query without `$apply`, for a sequence
    /// that is not reached yet, and where a sum has more than 38 digits.
    pub fn apply(&self, query: &Query, context: &QueryContext) -> Result<AggregateResult> {
        if query.resource == CHANGES && self.schema().resource(CHANGES).is_none() {
            return self.apply_changes(query, context);
        }
        let bound = query.bind_apply(self.schema(), context.now)?;
        let at = AsOf::Sequence(match context.as_of {
            Some(at) => self.resolve(at)?,
            None => self.sequence(),
        });
        let resource = self.resource(&query.resource)?;
        let access = bound
            .predicate
            .as_ref()
            .map_or(Access::Columns, |p| Access::by_predicate(&resource, p));
        let mut explain = Explain {
            access: access.to_string(),
            residual: bound
                .predicate
                .is_some()
                .then(|| query.apply.as_ref().map(|a| a.text.clone()))
                .flatten(),
            ..Explain::default()
        };
        if let (Access::Columns, AsOf::Sequence(sequence)) = (&access, at) {
            return self.apply_columns(query, bound, (sequence, context), explain);
        }
        let mut groups = Groups::new(&bound.grouping);
        let mut ask = |record: &Record| -> Result<()> {
            explain.examined += 1;
            if bound.predicate.as_ref().is_none_or(|p| p.matches(record)) {
                groups.add(record)?;
            }
            Ok(())
        };
        match &access {
            Access::Nothing => {}
            Access::Keys(keys) => {
                for key in keys {
                    if let Some(record) = self.get_at(&query.resource, key, at)? {
                        ask(&record)?;
                    }
                }
            }
            // Everything else is answered by columns.
            Access::Scan | Access::Columns => {}
        }
        let rows = groups.finish()?;
        AggregateResult::finish(bound, rows, explain)
    }

    fn apply_columns(
        &self,
        query: &Query,
        bound: BoundApply,
        (at, context): (u64, &QueryContext),
        mut explain: Explain,
    ) -> Result<AggregateResult> {
        let mut stages = Stages::start(context.clock);
        let table = Table::new(self, &query.resource, at)?;
        let selection = select(&table, bound.predicate.as_ref())?;
        stages.end("filter");
        explain.examined = selection.examined.max(selection.count());
        explain.segments = Some((u64::from(table.segments()), selection.skipped));
        let rows = columnar::grouped(&table, &bound.grouping, &selection)?;
        stages.end("group");
        let mut result = AggregateResult::finish(bound, rows, explain)?;
        stages.end("rows");
        result.explain.stages = stages.done;
        Ok(result)
    }
}
