//! `relist query`: records, by a query in OData's own words.

use relist::odata::{Query, query_options};
use relist::query::{Explain, QueryContext};
use relist::store::Snapshot;
use relist_export::{Format as ExportFormat, LineEnd, Request};

use super::groups;
use crate::app::{self, App};
use crate::args::{self, Format};
use crate::failure::{Exit, Failure};
use crate::output::{Array, Datum, Member, left, right};
use crate::sheet::{Left, Sheet};
use crate::style::thousands;

pub(super) fn run(app: &mut App<'_>, args: &args::Query) -> Result<Exit, Failure> {
    let query = app.located(query_of(args)?)?;
    let context = QueryContext {
        as_of: app.as_of(args.as_of.as_deref())?,
        now: app.now(),
        clock: app.global.verbose.then_some(since_start),
    };
    let store = app.open()?;
    let snapshot = store.snapshot()?;
    app::reached(&snapshot, context.as_of)?;
    if args.explain {
        let explain = explained(&snapshot, &query, &context)?;
        print_explain(app, &explain)?;
        return Ok(Exit::Ok);
    }
    let no_columns = query.apply.is_some() || groups::is_of_changes(&snapshot, &query);
    if app.format() == Format::Arrow && (no_columns || query.count) {
        return Err(Failure::usage(
            "an Arrow stream is of records: not of groups, changes or counts".to_owned(),
            "leave $apply and $count out, or choose -o json, ndjson or csv",
        ));
    }
    let records = query.apply.is_none() && !groups::is_of_changes(&snapshot, &query);
    let counted = query.count && app.format() == Format::Json;
    if counted && !records {
        app.out.write_all(b"{\"value\":")?;
    }
    let (count, explain) = match app.format() {
        _ if query.apply.is_some() => {
            let result = snapshot.apply(&query, &context)?;
            groups::print_groups(app, &result)?;
            (result.count, result.explain)
        }
        _ if groups::is_of_changes(&snapshot, &query) => {
            groups::print_changes(app, &snapshot, &query, &context)?
        }
        Format::Table => print_table(app, &snapshot, &query, &context)?,
        Format::Json => print_json(app, &snapshot, &query, &context)?,
        Format::Ndjson => stream(app, &snapshot, &query, &context, ExportFormat::Ndjson)?,
        Format::Csv => stream(app, &snapshot, &query, &context, ExportFormat::Csv)?,
        Format::Arrow => stream(app, &snapshot, &query, &context, ExportFormat::Arrow)?,
    };
    if let Some(count) = count.filter(|_| counted && !records) {
        writeln!(app.out, ",\"@odata.count\":{count}}}")?;
    }
    if let Some(count) = count.filter(|_| app.format() != Format::Json) {
        // Asked for, so it is told with --quiet, too.
        app.say(&format!("count {}", thousands(count)));
    }
    for line in explain.to_string().lines() {
        app.detail(line);
    }
    Ok(Exit::Ok)
}

fn explained(
    snapshot: &Snapshot,
    query: &Query,
    context: &QueryContext,
) -> Result<Explain, Failure> {
    Ok(if query.apply.is_some() {
        snapshot.apply(query, context)?.explain
    } else if groups::is_of_changes(snapshot, query) {
        let found = snapshot.query_changes(query, context, &mut |_, _| Ok(true))?;
        found.explain
    } else {
        let found = snapshot.query_each(query, context, &mut |_, _| Ok(true))?;
        found.explain
    })
}

/// The query, from options, from arguments by their OData names, and from a URL's query part.
fn query_of(args: &args::Query) -> Result<Query, Failure> {
    let (resource, url) = match args.resource.split_once('?') {
        Some((resource, url)) => (resource, Some(url)),
        None => (args.resource.as_str(), None),
    };
    let mut options = match url {
        Some(url) => query_options(url)?,
        None => Vec::new(),
    };
    for argument in &args.options {
        let Some((name, value)) = argument.split_once('=') else {
            return Err(Failure::usage(
                format!("{argument:?} is not an option with a value"),
                "write '$filter=ListPrice lt 500000', quoted for the shell, or --filter",
            ));
        };
        options.push((name.to_owned(), value.to_owned()));
    }
    let short = groups::short_apply(args)?;
    // Where groups are asked for by short options, the filter is of the records.
    let filter = args.filter.clone().filter(|_| short.is_none());
    let apply = args.apply.clone().or(short);
    let texts = [
        ("$apply", &apply),
        ("$filter", &filter),
        ("$select", &args.select),
        ("$orderby", &args.orderby),
    ];
    for (name, value) in texts {
        options.extend(value.as_ref().map(|v| (name.to_owned(), v.clone())));
    }
    for (name, value) in [("$top", args.top), ("$skip", args.skip)] {
        options.extend(value.map(|v| (name.to_owned(), v.to_string())));
    }
    if args.count {
        options.push(("$count".to_owned(), "true".to_owned()));
    }
    Ok(Query::from_options(resource, &options)?)
}

type Found = (Option<u64>, Explain);

fn print_table(
    app: &mut App<'_>,
    snapshot: &Snapshot,
    query: &Query,
    context: &QueryContext,
) -> Result<Found, Failure> {
    let selected = query.bind(snapshot.schema(), context.now)?.select;
    let mut sheet = Sheet::new(app.table_width(), app.paint(), selected);
    let out = &mut *app.out;
    let mut failed = None;
    let found = snapshot.query_each(query, context, &mut |record, _| match sheet
        .record(record, out)
    {
        Ok(()) => Ok(true),
        Err(error) => {
            failed = Some(error);
            Ok(false)
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let left = sheet.finish(out)?;
    if found.explain.returned == 0 {
        app.note("no records");
    }
    note_left(app, left);
    Ok((found.count, found.explain))
}

fn note_left(app: &mut App<'_>, left: Left) {
    match left.chosen {
        Some((shown, all)) if shown < all => {
            let cut = if left.cut.values > 0 {
                ", long values cut"
            } else {
                ""
            };
            app.note(&format!(
                "{shown} of {all} fields shown{cut}; --select chooses, -o json shows all"
            ));
        }
        _ => app.note_cut(left.cut),
    }
}

fn print_json(
    app: &mut App<'_>,
    snapshot: &Snapshot,
    query: &Query,
    context: &QueryContext,
) -> Result<Found, Failure> {
    let out = &mut *app.out;
    if query.count {
        out.write_all(b"{\"value\":")?;
    }
    let mut array = Array::default();
    let mut failed = None;
    let mut line = String::new();
    let found = snapshot.query_each(query, context, &mut |record, select| {
        line.clear();
        record.write_json(select, &mut line);
        let written = array
            .element(out)
            .and_then(|()| out.write_all(line.as_bytes()));
        failed = written.err();
        Ok(failed.is_none())
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    array.finish(out)?;
    if let Some(count) = found.count {
        write!(out, ",\"@odata.count\":{count}}}")?;
    }
    writeln!(out)?;
    Ok((found.count, found.explain))
}

fn stream(
    app: &mut App<'_>,
    snapshot: &Snapshot,
    query: &Query,
    context: &QueryContext,
    format: ExportFormat,
) -> Result<Found, Failure> {
    let request = Request {
        query,
        context,
        format,
        lines: LineEnd::Lf,
    };
    let summary = relist_export::write(snapshot, &request, app.out, &mut |_| true)?;
    Ok((summary.count, summary.explain))
}

const EXPLAIN: &[Member] = &[
    left("Access", "ACCESS"),
    left("Filter", "FILTER"),
    left("Sort", "SORT"),
    right("Examined", "EXAMINED"),
    right("Returned", "RETURNED"),
];

fn print_explain(app: &mut App<'_>, explain: &Explain) -> Result<(), Failure> {
    if app.is_text() {
        writeln!(app.out, "{explain}")?;
        return Ok(());
    }
    let mut rows = app.rows(EXPLAIN)?;
    rows.row(&[
        Datum::text(&explain.access),
        Datum::optional(explain.residual.as_deref()),
        Datum::optional(explain.sort.as_deref()),
        Datum::count(explain.examined),
        Datum::count(explain.returned),
    ])?;
    rows.finish()?;
    Ok(())
}

/// How long the command has been at work, for `--explain --verbose`.
fn since_start() -> std::time::Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}
