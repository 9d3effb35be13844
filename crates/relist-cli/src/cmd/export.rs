//! `relist export`: records to a file, which appears whole or not at all.

use std::path::Path;

use relist::odata::Query;
use relist::query::QueryContext;
use relist::store::Snapshot;
use relist_export::{
    ChangeShape, ChangesRequest, Format as ExportFormat, LineEnd, Request, Summary, Target,
};

use super::groups;

use crate::app::{self, App};
use crate::args::{self, Export, Format};
use crate::failure::{Exit, Failure};
use crate::moment;
use crate::progress::Bar;
use crate::style::{bytes, plural};

/// How often the bar is moved, in changes.
const STEP: u64 = 1_024;

pub(super) fn run(app: &mut App<'_>, args: &Export) -> Result<Exit, Failure> {
    let mut query = app.located(Query::new(&args.resource))?;
    if let Some(filter) = &args.filter {
        query = query.filter(filter)?;
    }
    if let Some(select) = &args.select {
        query = query.select_text(select)?;
    }
    let to_stream = args.to == Path::new("-");
    let target = if to_stream {
        None
    } else {
        Some(Target::of(&app.path(&args.to), args.format.map(format_of))?)
    };
    let context = QueryContext {
        as_of: app.as_of(args.as_of.as_deref())?,
        now: app.now(),
        clock: None,
    };
    let store = app.open_to_scan()?;
    let snapshot = store.snapshot()?;
    app::reached(&snapshot, context.as_of)?;
    if groups::is_of_changes(&snapshot, &query) {
        return changes(app, args, (&snapshot, &context), target.as_ref());
    }
    if args.since.is_some() || args.shape.is_some() {
        return Err(Failure::usage(
            "--since and --shape are of changes".to_owned(),
            "`relist export changes --since ..`; --as-of is a moment of a resource",
        ));
    }
    let live = snapshot.count(&args.resource)?;
    let total = (args.filter.is_none() && context.as_of.is_none()).then_some(live);
    let bar = Bar::records(app.shows_progress() && !to_stream, total, &args.resource);
    (app.environment.catch_interrupt)(&app.environment.stop);
    let environment = app.environment;
    let mut progress = |records: u64| {
        bar.at(records);
        !environment.stopped()
    };
    let request = Request {
        query: &query,
        context: &context,
        format: target.as_ref().map_or_else(
            || stream_format(args.format, app.global.output),
            |target| target.format,
        ),
        lines: LineEnd::CrLf,
    };
    let Some(target) = &target else {
        relist_export::write_columns(&snapshot, &request, app.out, &mut progress)?;
        return Ok(Exit::Ok);
    };
    let (summary, manifest) =
        relist_export::export(&snapshot, &request, target, args.force, &mut progress)?;
    bar.clear();
    if !args.no_manifest {
        manifest.put(&target.path)?;
    }
    for (column, note) in manifest.notes() {
        app.warn(&format!("{column} is exported as {note}"));
    }
    app.note(&done(&summary, target));
    Ok(Exit::Ok)
}

/// Exports the changelog.
fn changes(
    app: &mut App<'_>,
    args: &Export,
    (snapshot, context): (&Snapshot, &QueryContext),
    target: Option<&Target>,
) -> Result<Exit, Failure> {
    if args.select.is_some() {
        return Err(Failure::usage(
            "the columns of exported changes are chosen by --shape".to_owned(),
            "--shape relist or --shape history",
        ));
    }
    let since = match &args.since {
        Some(text) => moment::since(snapshot, text, app.now())?,
        None => 0,
    };
    (app.environment.catch_interrupt)(&app.environment.stop);
    let environment = app.environment;
    let bar = Bar::records(app.shows_progress() && target.is_some(), None, "changes");
    let mut progress = |rows: u64| {
        if rows.is_multiple_of(STEP) {
            bar.at(rows);
        }
        !environment.stopped()
    };
    let format = target.map_or_else(
        || stream_format(args.format, app.global.output),
        |target| target.format,
    );
    let request = ChangesRequest {
        since,
        filter: args.filter.as_deref(),
        context,
        shape: match args.shape {
            Some(args::Shape::History) => ChangeShape::History,
            Some(args::Shape::Relist) | None => ChangeShape::Relist,
        },
        format,
        lines: LineEnd::CrLf,
    };
    let Some(target) = target else {
        relist_export::write_changes(snapshot, &request, app.out, &mut progress)?;
        return Ok(Exit::Ok);
    };
    let done_so =
        relist_export::export_changes(snapshot, &request, target, args.force, &mut progress)?;
    bar.clear();
    let (summary, manifest) = done_so;
    if !args.no_manifest {
        manifest.put(&target.path)?;
    }
    app.note(&done(&summary, target));
    Ok(Exit::Ok)
}

/// The format on standard output.
fn stream_format(asked: Option<args::ExportFormat>, output: Option<Format>) -> ExportFormat {
    match (asked, output) {
        (Some(format), _) => format_of(format),
        (None, Some(Format::Csv)) => ExportFormat::Csv,
        (None, Some(Format::Json)) => ExportFormat::Json,
        _ => ExportFormat::Ndjson,
    }
}

pub(super) fn format_of(format: args::ExportFormat) -> ExportFormat {
    use args::ExportFormat as F;
    match format {
        F::Parquet => ExportFormat::Parquet,
        F::Csv => ExportFormat::Csv,
        F::Ndjson => ExportFormat::Ndjson,
        F::Json => ExportFormat::Json,
        F::Rcf => ExportFormat::CommonFormat,
        F::Arrow => ExportFormat::Arrow,
    }
}

fn done(summary: &Summary, target: &Target) -> String {
    let size = std::fs::metadata(&target.path).map_or(0, |m| m.len());
    let columns = match summary.columns.len() {
        0 => String::new(),
        n => format!(" of {}", plural(n as u64, "column", "columns")),
    };
    format!(
        "{}: {}{columns}, {}",
        target.path.display(),
        plural(summary.records, "record", "records"),
        bytes(size)
    )
}
