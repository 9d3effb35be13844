//! Run reports: what a sync or an ingest prints at its end.

use relist::store::{Outcome, RunReport};

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::output::{Datum, Member, left, right};
use crate::style::{duration, thousands};

const MEMBERS: &[Member] = &[
    left("ResourceName", "RESOURCE"),
    left("Kind", "KIND"),
    right("Records", "RECORDS"),
    right("Checked", "CHECKED").if_any(),
    right("New", "NEW"),
    right("Updated", "UPDATED"),
    right("PriceChanges", "PRICE"),
    right("StatusChanges", "STATUS"),
    right("Relisted", "RELISTED").if_any(),
    right("Flagged", "FLAGGED").if_any(),
    right("Deleted", "DELETED"),
    right("Unchanged", "UNCHANGED"),
    right("Quarantined", "QUARANTINED").if_any(),
    right("Seconds", "TIME"),
    right("Requests", "REQUESTS").if_any(),
    left("Outcome", ""),
    left("Reason", ""),
    right("FieldChanges", ""),
    right("Pages", ""),
    right("Bytes", ""),
    right("Run", ""),
    right("FirstSequence", ""),
    right("LastSequence", ""),
];

/// A finished run, or the failure of a resource's run that had no report.
pub(super) struct Done {
    pub(super) report: RunReport,
    /// Requests sent for it, retries included.
    pub(super) requests: u64,
    pub(super) micros: i64,
}

/// Prints the reports, and what needs a look below them.
pub(super) fn print(app: &mut App<'_>, done: &[Done]) -> Result<Exit, Failure> {
    let mut rows = app.rows(MEMBERS)?;
    for run in done {
        rows.row(&row(run))?;
    }
    let cut = rows.finish()?;
    app.note_cut(cut);
    let mut exit = Exit::Ok;
    for run in done {
        exit = exit.worst(note_outcome(app, &run.report));
    }
    Ok(exit)
}

fn row(run: &Done) -> Vec<Datum> {
    let report = &run.report;
    let (outcome, reason) = match &report.outcome {
        Outcome::Running => ("running", None),
        Outcome::Complete => ("complete", None),
        Outcome::Degraded(reason) => ("degraded", Some(reason.as_str())),
        Outcome::Failed(reason) => ("failed", Some(reason.as_str())),
    };
    let millis = run.micros.max(0).cast_unsigned() / 1_000;
    let seconds = format!("{}.{:03}", millis / 1_000, millis % 1_000);
    vec![
        Datum::text(&report.resource),
        Datum::text(report.kind.name()),
        Datum::count(report.records),
        Datum::count(report.checked),
        Datum::count(report.inserted),
        Datum::count(report.updated),
        Datum::count(report.price_changes),
        Datum::count(report.status_changes),
        Datum::count(report.relisted),
        Datum::count(report.flagged),
        Datum::count(report.deleted),
        Datum::count(report.unchanged),
        Datum::count(report.quarantined),
        Datum::lexeme(seconds).shown(duration(run.micros)),
        Datum::count(run.requests),
        Datum::text(outcome),
        Datum::optional(reason),
        Datum::count(report.field_changes),
        Datum::count(report.pages),
        Datum::count(report.bytes),
        Datum::number(report.run),
        Datum::number(report.first_sequence),
        Datum::number(report.last_sequence),
    ]
}

fn note_outcome(app: &mut App<'_>, report: &RunReport) -> Exit {
    for misfit in &report.misfits {
        let (value, they) = match misfit.count {
            1 => ("value", "is not"),
            _ => ("values", "are not"),
        };
        app.warn(&format!(
            "{}: {} {value} of {} {they} {}, kept as sent; first: {}",
            report.resource,
            thousands(misfit.count),
            misfit.field,
            misfit.expected,
            misfit.first
        ));
    }
    match &report.outcome {
        Outcome::Degraded(reason) => {
            app.warn(&format!("{}: {reason}", report.resource));
            Exit::Degraded
        }
        _ => Exit::Ok,
    }
}

/// The failure that a degraded command ends with: every failure has a hint.
pub(super) fn end(exit: Exit, quarantined: u64) -> Result<Exit, Failure> {
    if exit != Exit::Degraded {
        return Ok(exit);
    }
    let hint = if quarantined > 0 {
        "relist quarantine list shows what was put aside and why; all else is applied"
    } else {
        "relist sync goes on where it stopped; if it held deletions back, look at the feed first, \
         then relist sync --full --confirm"
    };
    Err(Failure::new(
        Exit::Degraded,
        "finished, but something needs a look",
        hint,
    ))
}
