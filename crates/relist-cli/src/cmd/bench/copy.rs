//! One export in a process of its own: its time and its memory are the export's alone. What it
//! prints, peers print too; benches/peers/README.md says what that is.

use std::time::Instant;

use relist::odata::Query;
use relist::query::QueryContext;
use relist::store::Store;
use relist_export::{Format, LakeOptions, LineEnd, Request, Target, export, update_lake};
use serde::{Deserialize, Serialize};

use super::data::RESOURCE;
use super::wave::cpu_time;
use crate::app::App;
use crate::args::{BenchCopy, Written};
use crate::failure::{Exit, Failure};

/// What an export cost and wrote.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Copied {
    /// From opening the store to the file being there.
    pub(super) seconds: f64,
    /// Of the process within that time.
    pub(super) cpu_seconds: f64,
    /// The most memory the process had, in bytes.
    #[serde(default)]
    pub(super) peak_memory: Option<u64>,
    /// What was written.
    pub(super) file_bytes: u64,
    /// The records there are.
    pub(super) records: u64,
    /// What it was measured with, where it is not this program.
    #[serde(default)]
    pub(super) version: Option<String>,
}

/// What is written, as the command line has it.
pub(super) fn name(what: Written) -> &'static str {
    match what {
        Written::Parquet => "parquet",
        Written::Csv => "csv",
        Written::Ndjson => "ndjson",
        Written::Lake => "lake",
    }
}

pub(super) fn run(app: &mut App<'_>, args: &BenchCopy) -> Result<Exit, Failure> {
    let to = app.path(&args.to);
    let path = app.store_path()?;
    let (begun, cpu) = (Instant::now(), cpu_time());
    let store = Store::open_to_scan(&path)?;
    let snapshot = store.snapshot()?;
    let mut copied = Copied::default();
    if args.format == Written::Lake {
        let options = LakeOptions {
            feed: "bench".to_owned(),
            resources: vec![RESOURCE.to_owned()],
            full: false,
        };
        let report = update_lake(&snapshot, &to, &options, &mut |_| true)?;
        (copied.records, copied.file_bytes) = (report.records, report.written.1);
    } else {
        let context = QueryContext {
            as_of: None,
            now: app.now(),
            clock: None,
        };
        let request = Request {
            query: &Query::new(RESOURCE),
            context: &context,
            format: Format::named(name(args.format)).unwrap_or(Format::Ndjson),
            lines: LineEnd::CrLf,
        };
        let target = Target::of(&to, Some(request.format))?;
        let (summary, manifest) = export(&snapshot, &request, &target, true, &mut |_| true)?;
        (copied.records, copied.file_bytes) = (summary.records, manifest.bytes);
    }
    drop(snapshot);
    drop(store);
    copied.seconds = begun.elapsed().as_secs_f64();
    copied.cpu_seconds = cpu_time().saturating_sub(cpu).as_secs_f64();
    copied.peak_memory = (app.environment.peak_memory)();
    let text = serde_json::to_string(&copied).map_err(std::io::Error::from)?;
    writeln!(app.out, "{text}")?;
    Ok(Exit::Ok)
}
