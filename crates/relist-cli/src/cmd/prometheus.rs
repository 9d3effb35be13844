//! `relist status --prometheus`: metrics as Prometheus reads them (text format 0.0.4).

use std::collections::HashMap;
use std::fmt::Write as _;

use relist::store::{Checkpoint, Outcome, Quarantined, RunKind, RunReport, Snapshot, SyncState};
use relist::value::Timestamp;

use crate::failure::Failure;

/// What is known of one resource.
struct Facts {
    name: String,
    records: u64,
    tombstones: u64,
    quarantined: u64,
    checkpoint: Checkpoint,
    last: Option<RunReport>,
}

/// A metric: its name, what it tells, and its value where there is one.
type Metric = (
    &'static str,
    &'static str,
    fn(&Facts, Timestamp) -> Option<String>,
);

const METRICS: &[Metric] = &[
    ("records", "Records that are current", |f, _| {
        Some(f.records.to_string())
    }),
    ("tombstones", "Deleted records", |f, _| {
        Some(f.tombstones.to_string())
    }),
    ("quarantined", "Pages and records put aside", |f, _| {
        Some(f.quarantined.to_string())
    }),
    ("live", "Whether a first full walk has ended", |f, _| {
        let live = f.checkpoint.state == SyncState::Live;
        (f.checkpoint.state != SyncState::New).then(|| u8::from(live).to_string())
    }),
    (
        "last_complete_age_seconds",
        "Time since the last complete run",
        |f, now| Some(seconds(since(f.checkpoint.last_complete?, now))),
    ),
    (
        "watermark_age_seconds",
        "Time since the highest source time fully applied",
        |f, now| Some(seconds(since(f.checkpoint.watermark?, now))),
    ),
    (
        "last_run_success",
        "1 when the last run that ended was complete",
        |f, _| {
            let complete = f.last.as_ref()?.outcome == Outcome::Complete;
            Some(u8::from(complete).to_string())
        },
    ),
    (
        "last_run_duration_seconds",
        "How long the last run took that ended",
        |f, _| Some(seconds(f.last.as_ref()?.micros()?.cast_signed())),
    ),
    (
        "last_run_records",
        "Records of the last run that ended",
        |f, _| Some(f.last.as_ref()?.records.to_string()),
    ),
    (
        "last_run_requests",
        "HTTP requests of the last run that ended",
        |f, _| Some(f.last.as_ref()?.requests.to_string()),
    ),
    ("last_run_retries", "Of these, retries", |f, _| {
        Some(f.last.as_ref()?.retries.to_string())
    }),
    (
        "last_run_peak_memory_bytes",
        "The most memory that the process of the last run had used",
        |f, _| Some(f.last.as_ref()?.peak_memory?.to_string()),
    ),
];

fn since(at: Timestamp, now: Timestamp) -> i64 {
    now.0.saturating_sub(at.0).max(0)
}

fn seconds(micros: i64) -> String {
    let millis = micros / 1_000;
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
}

/// The metrics of a store.
pub(super) fn text(
    snapshot: &Snapshot,
    quarantined: &[Quarantined],
    bytes: u64,
    now: Timestamp,
) -> Result<String, Failure> {
    let facts = facts(snapshot, quarantined)?;
    let mut out = String::new();
    let whole = [
        ("store_bytes", "Size of the store's file", bytes),
        ("sequence", "The last sequence given", snapshot.sequence()),
    ];
    for (name, help, value) in whole {
        head(&mut out, name, help);
        let _ = writeln!(out, "relist_{name} {value}");
    }
    for (name, help, value) in METRICS {
        let values = facts.iter().filter_map(|f| Some((f, value(f, now)?)));
        let values: Vec<(&Facts, String)> = values.collect();
        if values.is_empty() {
            continue;
        }
        head(&mut out, name, help);
        for (facts, value) in values {
            let resource = label(&facts.name);
            let _ = writeln!(out, "relist_{name}{{resource=\"{resource}\"}} {value}");
        }
    }
    let positions = snapshot.positions()?;
    if !positions.is_empty() {
        head(
            &mut out,
            "watch_lag",
            "Changes that a watcher has not delivered",
        );
    }
    for (name, position) in positions {
        let lag = snapshot.sequence().saturating_sub(position.sequence);
        let _ = writeln!(
            out,
            "relist_watch_lag{{watcher=\"{}\"}} {lag}",
            label(&name)
        );
    }
    Ok(out)
}

fn head(out: &mut String, name: &str, help: &str) {
    let _ = writeln!(
        out,
        "# HELP relist_{name} {help}.\n# TYPE relist_{name} gauge"
    );
}

/// A label's value, escaped as the format says.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn facts(snapshot: &Snapshot, quarantined: &[Quarantined]) -> Result<Vec<Facts>, Failure> {
    let mut last: HashMap<String, RunReport> = HashMap::new();
    // Newest first: the first that is met of a resource is its last.
    for run in snapshot.runs(usize::MAX)? {
        // That files could not be fetched says nothing of the records of Media.
        if run.outcome != Outcome::Running && run.kind != RunKind::Media {
            last.entry(run.resource.clone()).or_insert(run);
        }
    }
    let mut out = Vec::new();
    for resource in &snapshot.schema().resources {
        let name = resource.name.clone();
        let facts = Facts {
            records: snapshot.count(&name)?,
            tombstones: snapshot.tombstones(&name)?.len() as u64,
            quarantined: quarantined.iter().filter(|q| q.resource == name).count() as u64,
            checkpoint: snapshot.checkpoint(&name)?,
            last: last.remove(&name),
            name,
        };
        let empty = facts.records + facts.tombstones + facts.quarantined == 0;
        if !empty || facts.last.is_some() || facts.checkpoint != Checkpoint::default() {
            out.push(facts);
        }
    }
    Ok(out)
}
