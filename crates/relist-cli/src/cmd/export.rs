//! `relist export`: records to a file, which appears whole or not at all.

use std::path::Path;

use relist::odata::Query;
use relist::query::QueryContext;
use relist_export::{Format as ExportFormat, LineEnd, Request, Summary, Target};

use crate::app::{self, App};
use crate::args::{Export, Format};
use crate::failure::{Exit, Failure};
use crate::progress::Bar;
use crate::style::{bytes, plural};

/// How often the bar is moved, in records.
const STEP: u64 = 256;

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
        Some(Target::of(&app.path(&args.to))?)
    };
    let context = QueryContext {
        as_of: app.as_of(args.as_of.as_deref())?,
        now: app.now(),
        clock: None,
    };
    let store = app.open()?;
    let snapshot = store.snapshot()?;
    app::reached(&snapshot, context.as_of)?;
    let live = snapshot.count(&args.resource)?;
    let total = (args.filter.is_none() && context.as_of.is_none()).then_some(live);
    let bar = Bar::records(app.shows_progress() && !to_stream, total, &args.resource);
    (app.environment.catch_interrupt)(&app.environment.stop);
    let environment = app.environment;
    let mut progress = |records: u64| {
        if records.is_multiple_of(STEP) {
            bar.at(records);
        }
        !environment.stopped()
    };
    let format = match &target {
        Some(target) => target.format,
        None if app.global.output == Some(Format::Csv) => ExportFormat::Csv,
        None => ExportFormat::Ndjson,
    };
    let request = Request {
        query: &query,
        context: &context,
        format,
        lines: LineEnd::CrLf,
    };
    let summary = match &target {
        Some(target) => {
            relist_export::export(&snapshot, &request, target, args.force, &mut progress)?
        }
        None => relist_export::write(&snapshot, &request, app.out, &mut progress)?,
    };
    bar.clear();
    if let Some(target) = &target {
        app.note(&done(&summary, target));
    }
    Ok(Exit::Ok)
}

fn done(summary: &Summary, target: &Target) -> String {
    let size = std::fs::metadata(&target.path).map_or(0, |m| m.len());
    let columns = match summary.columns {
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
