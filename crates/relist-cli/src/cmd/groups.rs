//! What `relist query` prints where the rows are no records: groups, and changes.

use relist::odata::{
    AggregateItem, Apply, Column, Named, Query, Transformation, TransformationKind,
    parse_aggregate, parse_filter, parse_group_keys,
};
use relist::query::{AggregateResult, CHANGES, ChangeRow, Explain, QueryContext, changes_schema};
use relist::schema::{FieldId, FieldType};
use relist::store::Snapshot;

use crate::app::App;
use crate::args;
use crate::change::{self, MEMBERS};
use crate::failure::Failure;
use crate::output::{Datum, MemberOf, right};

/// The `$apply` that `--group-by` and `--agg` mean, with `--filter` as its beginning.
///
/// Each is read by itself first, so that an error shows what was typed.
pub(super) fn short_apply(args: &args::Query) -> Result<Option<String>, Failure> {
    if args.group_by.is_none() && args.agg.is_empty() {
        return Ok(None);
    }
    let keys: Option<Vec<Named>> = match &args.group_by {
        Some(text) => Some(parse_group_keys("--group-by", text)?),
        None => None,
    };
    let mut items = Vec::with_capacity(args.agg.len());
    for text in &args.agg {
        items.push(parse_aggregate("--agg", text)?);
    }
    if items.is_empty() {
        items.push(AggregateItem {
            value: None,
            name: "Count".into(),
        });
    }
    let mut kinds = Vec::new();
    if let Some(text) = &args.filter {
        kinds.push(TransformationKind::Filter(parse_filter(text)?));
    }
    let aggregate = TransformationKind::Aggregate(items);
    kinds.push(match keys {
        Some(keys) => TransformationKind::GroupBy {
            keys,
            then: Some(chained(vec![aggregate])),
        },
        None => aggregate,
    });
    Ok(Some(chained(kinds).to_string()))
}

fn chained(kinds: Vec<TransformationKind>) -> Apply {
    let steps = kinds.into_iter().map(|kind| Transformation {
        kind,
        span: relist::odata::Span::default(),
    });
    Apply {
        steps: steps.collect(),
    }
}

/// Whether the query is of the changes, and not of a resource that happens to be named so.
pub(super) fn is_of_changes(snapshot: &Snapshot, query: &Query) -> bool {
    query.resource == CHANGES && snapshot.schema().resource(CHANGES).is_none()
}

/// Prints the groups.
pub(super) fn print_groups(app: &mut App<'_>, result: &AggregateResult) -> Result<(), Failure> {
    let members: Vec<MemberOf<'_>> = result.columns.iter().map(member).collect();
    let mut rows = app.rows(&members)?;
    for row in &result.rows {
        let data = row.values.iter().map(|v| Datum::json(&v.to_string()));
        rows.row(&data.collect::<Vec<_>>())?;
    }
    let cut = rows.finish()?;
    app.note_cut(cut);
    if result.rows.is_empty() {
        app.note("no groups");
    }
    Ok(())
}

fn member(column: &Column) -> MemberOf<'_> {
    MemberOf {
        name: &column.name,
        title: &column.name,
        right: matches!(column.ty, FieldType::Int | FieldType::Decimal),
        if_any: false,
    }
}

/// Prints changes, row by row.
pub(super) fn print_changes(
    app: &mut App<'_>,
    snapshot: &Snapshot,
    query: &Query,
    context: &QueryContext,
) -> Result<(Option<u64>, Explain), Failure> {
    let schema = changes_schema(snapshot.schema());
    let selected = query.bind(&schema, context.now)?.select;
    let all: Vec<MemberOf<'_>> = MEMBERS.iter().copied().chain([right("Run", "")]).collect();
    let members: Vec<MemberOf<'_>> = match &selected {
        None => all,
        Some(fields) => {
            let chosen = fields.iter().filter_map(|f| all.get(usize::from(f.0)));
            chosen
                .map(|m| MemberOf {
                    title: m.name,
                    ..*m
                })
                .collect()
        }
    };
    let stop = app.environment.stop.clone();
    let mut rows = app.rows(&members)?;
    let mut failed = None;
    let found = snapshot.query_changes(query, context, &mut |row, _| {
        let written = rows.row(&data(row, selected.as_deref()));
        failed = written.err();
        Ok(failed.is_none() && !stop.load(std::sync::atomic::Ordering::Relaxed))
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let cut = rows.finish()?;
    app.note_cut(cut);
    if found.explain.returned == 0 {
        app.note("no changes");
    }
    Ok((found.count, found.explain))
}

fn data(row: &ChangeRow<'_>, selected: Option<&[FieldId]>) -> Vec<Datum> {
    let mut data = change::of_row(row);
    data.push(Datum::number(row.run));
    match selected {
        None => data,
        Some(fields) => fields
            .iter()
            .map(|f| {
                data.get(usize::from(f.0))
                    .cloned()
                    .unwrap_or_else(Datum::null)
            })
            .collect(),
    }
}
