//! `relist lake`: a folder of Parquet files, kept current by what changed.

use relist_export::{LakeOptions, LakeReport, update_lake};

use crate::app::App;
use crate::args::Lake;
use crate::failure::{Exit, Failure};
use crate::output::{Datum, Member, left, right};
use crate::progress::Bar;
use crate::style::{bytes, plural, thousands};

const MEMBERS: &[Member] = &[
    left("Feed", "FEED"),
    right("Sequence", "SEQ"),
    right("Records", "RECORDS"),
    right("FilesWritten", "FILES"),
    right("BytesWritten", "BYTES"),
    right("FilesRemoved", "REMOVED"),
];

pub(super) fn run(app: &mut App<'_>, args: &Lake) -> Result<Exit, Failure> {
    let feed = match &args.feed {
        Some(feed) => feed.clone(),
        None => own_name(app)?,
    };
    let options = LakeOptions {
        feed,
        resources: args.resources.clone(),
        full: args.full,
    };
    let folder = app.path(&args.folder);
    let store = app.open_to_scan()?;
    let snapshot = store.snapshot()?;
    let bar = Bar::records(app.shows_progress(), None, &options.feed);
    (app.environment.catch_interrupt)(&app.environment.stop);
    let environment = app.environment;
    let mut progress = |rows: u64| {
        bar.at(rows);
        !environment.stopped()
    };
    let report = update_lake(&snapshot, &folder, &options, &mut progress)?;
    bar.clear();
    if app.is_text() {
        let text = sentence(&report, &options.feed);
        writeln!(app.out, "{}: {text}", folder.display())?;
        return Ok(Exit::Ok);
    }
    let mut rows = app.rows(MEMBERS)?;
    rows.row(&[
        Datum::text(&options.feed),
        Datum::number(report.sequence),
        Datum::count(report.records),
        Datum::count(report.written.0),
        Datum::count(report.written.1),
        Datum::count(report.removed),
    ])?;
    rows.finish()?;
    Ok(Exit::Ok)
}

/// What the feed of the store is called, when nobody says.
fn own_name(app: &App<'_>) -> Result<String, Failure> {
    if let Some(provider) = app.config()?.and_then(|config| config.provider) {
        return Ok(provider);
    }
    let path = app.store_path()?;
    Ok(path.file_stem().map_or_else(
        || "relist".to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    ))
}

fn sentence(report: &LakeReport, feed: &str) -> String {
    if report.before == Some(report.sequence) && report.written.0 == 0 {
        return format!("feed={feed} is current, at sequence {}", report.sequence);
    }
    let (files, size) = report.written;
    let whole = match report.whole.len() {
        0 => String::new(),
        _ => format!(", whole: {}", report.whole.join(", ")),
    };
    format!(
        "feed={feed} at sequence {}, {} records; {} written ({}){whole}",
        report.sequence,
        thousands(report.records),
        plural(files, "file", "files"),
        bytes(size)
    )
}
