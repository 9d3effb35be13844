//! `relist report`: what runs did, and what they cost.

use relist::store::{Outcome, RunReport, Snapshot};

use crate::app::App;
use crate::args::{self, Format, ReportOf};
use crate::failure::{Exit, Failure};
use crate::output::{Datum, Member, json_string, left, right};
use crate::style::{bytes, duration, printable, thousands};

const MEMBERS: &[Member] = &[
    right("Run", "RUN"),
    left("ResourceName", "RESOURCE"),
    left("Kind", "KIND"),
    left("Started", "STARTED"),
    right("Seconds", "TIME"),
    right("Records", "RECORDS"),
    right("RecordsPerSecond", "PER S"),
    right("New", "NEW"),
    right("Updated", "UPDATED"),
    right("Deleted", "DELETED"),
    right("Requests", "REQUESTS"),
    right("Retries", "RETRIES"),
    left("Outcome", "OUTCOME"),
    left("Finished", ""),
    left("Reason", ""),
    right("Pages", ""),
    right("Bytes", ""),
    right("ReceivedBytes", ""),
    right("WaitedSeconds", ""),
    right("PeakMemoryBytes", ""),
    right("Relisted", ""),
    right("Unchanged", ""),
    right("Flagged", ""),
    right("Quarantined", ""),
    right("DeletesIgnored", ""),
    right("FieldChanges", ""),
    right("PriceChanges", ""),
    right("StatusChanges", ""),
    right("Checked", ""),
    right("Expected", ""),
    right("FirstSequence", ""),
    right("LastSequence", ""),
    left("Misfits", ""),
];

const SUMMARY: &[Member] = &[
    right("Runs", "RUNS"),
    right("Complete", "COMPLETE"),
    right("Degraded", "DEGRADED"),
    right("Failed", "FAILED"),
    right("Unfinished", "UNFINISHED"),
    right("AverageSeconds", "AVERAGE"),
    right("SlowestSeconds", "SLOWEST"),
    right("SlowestRun", "ITS RUN"),
    right("Records", "RECORDS"),
    right("Requests", "REQUESTS"),
    right("Retries", "RETRIES"),
    right("PeakMemoryBytes", "PEAK MEMORY"),
];

pub(super) fn run(app: &mut App<'_>, args: &args::Report) -> Result<Exit, Failure> {
    let store = app.open()?;
    let snapshot = store.snapshot()?;
    if let Some(ReportOf::Run(number)) = args.what {
        return one(app, &snapshot, number);
    }
    let runs = chosen(&snapshot, args)?;
    if runs.is_empty() {
        app.note("no runs");
    }
    if args.summary {
        let mut rows = app.rows(SUMMARY)?;
        rows.row(&summary(&runs))?;
        let cut = rows.finish()?;
        app.note_cut(cut);
        return Ok(Exit::Ok);
    }
    let mut rows = app.rows(MEMBERS)?;
    for report in &runs {
        rows.row(&row(report))?;
    }
    let cut = rows.finish()?;
    app.note_cut(cut);
    Ok(Exit::Ok)
}

/// The last runs, newest first.
fn chosen(snapshot: &Snapshot, args: &args::Report) -> Result<Vec<RunReport>, Failure> {
    let Some(resource) = &args.resource else {
        return Ok(snapshot.runs(args.last)?);
    };
    let mut runs = snapshot.runs(usize::MAX)?;
    runs.retain(|run| run.resource == *resource);
    if runs.is_empty() {
        // A slip of the pen is told from a resource without runs.
        snapshot.resource(resource)?;
    }
    runs.truncate(args.last);
    Ok(runs)
}

fn one(app: &mut App<'_>, snapshot: &Snapshot, number: u64) -> Result<Exit, Failure> {
    let Some(report) = snapshot.run(number)? else {
        let last = snapshot.runs(1)?.first().map_or(0, |run| run.run);
        return Err(Failure::usage(
            format!("there is no run {number}: the last one is {last}"),
            "relist report lists them",
        ));
    };
    if app.format() != Format::Table {
        let mut rows = app.rows(MEMBERS)?;
        rows.row(&row(&report))?;
        rows.finish()?;
        return Ok(Exit::Ok);
    }
    let (outcome, reason) = outcome(&report);
    for (name, value) in facts(&report) {
        writeln!(app.out, "{name:<16}  {}", printable(&value))?;
    }
    writeln!(app.out, "{:<16}  {outcome}", "outcome")?;
    if let Some(reason) = reason {
        writeln!(app.out, "{:<16}  {}", "reason", printable(reason))?;
    }
    for misfit in &report.misfits {
        let text = format!(
            "{} of {} are not {}; first: {}",
            thousands(misfit.count),
            misfit.field,
            misfit.expected,
            misfit.first
        );
        writeln!(app.out, "{:<16}  {}", "misfits", printable(&text))?;
    }
    Ok(Exit::Ok)
}

/// A run for a person, but for its outcome. What is nothing is left out.
fn facts(report: &RunReport) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("run", report.run.to_string()),
        ("resource", report.resource.clone()),
        ("kind", report.kind.name().to_owned()),
    ];
    let time = |at: Option<relist::value::Timestamp>| at.map(|at| at.to_string());
    facts.extend(time(report.started).map(|t| ("started", t)));
    facts.extend(time(report.finished).map(|t| ("finished", t)));
    if let Some(micros) = report.micros() {
        facts.push(("duration", duration(micros.cast_signed())));
    }
    let counts = [
        ("pages", report.pages),
        ("records", report.records),
        ("records a second", per_second(report).unwrap_or(0)),
        ("new", report.inserted),
        ("updated", report.updated),
        ("relisted", report.relisted),
        ("unchanged", report.unchanged),
        ("deleted", report.deleted),
        ("deletes ignored", report.deletes_ignored),
        ("flagged", report.flagged),
        ("quarantined", report.quarantined),
        ("field changes", report.field_changes),
        ("price changes", report.price_changes),
        ("status changes", report.status_changes),
        ("keys compared", report.checked),
        ("feed counts", report.expected.unwrap_or(0)),
        ("requests", report.requests),
        ("retries", report.retries),
    ];
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    facts.extend(counts.map(|(name, count)| (name, thousands(count))));
    let sizes = [
        ("bytes applied", report.bytes),
        ("bytes received", report.received),
        ("peak memory", report.peak_memory.unwrap_or(0)),
    ];
    let sizes = sizes.into_iter().filter(|(_, size)| *size > 0);
    facts.extend(sizes.map(|(name, size)| (name, bytes(size))));
    if report.waited_micros > 0 {
        facts.push(("waited", duration(report.waited_micros.cast_signed())));
    }
    if report.last_sequence > 0 {
        let range = format!("{} to {}", report.first_sequence, report.last_sequence);
        facts.push(("sequences", range));
    }
    facts
}

fn outcome(report: &RunReport) -> (&'static str, Option<&str>) {
    match &report.outcome {
        Outcome::Running => ("unfinished", None),
        Outcome::Complete => ("complete", None),
        Outcome::Degraded(reason) => ("degraded", Some(reason)),
        Outcome::Failed(reason) => ("failed", Some(reason)),
    }
}

fn per_second(report: &RunReport) -> Option<u64> {
    let micros = report.micros().filter(|micros| *micros > 0)?;
    let scaled = u128::from(report.records) * 1_000_000 / u128::from(micros);
    u64::try_from(scaled).ok()
}

fn seconds(micros: Option<u64>) -> Datum {
    micros.map_or_else(Datum::null, |micros| {
        let millis = micros / 1_000;
        let lexeme = format!("{}.{:03}", millis / 1_000, millis % 1_000);
        Datum::lexeme(lexeme).shown(duration(micros.cast_signed()))
    })
}

fn size(bytes_of: Option<u64>) -> Datum {
    bytes_of.map_or_else(Datum::null, |count| Datum::count(count).shown(bytes(count)))
}

fn row(report: &RunReport) -> Vec<Datum> {
    let (outcome, reason) = outcome(report);
    let optional = |count: Option<u64>| count.map_or_else(Datum::null, Datum::count);
    let misfits = report.misfits.iter().map(|m| {
        format!(
            "{{\"FieldName\":{},\"Expected\":{},\"Count\":{},\"First\":{}}}",
            json_string(&m.field),
            json_string(&m.expected),
            m.count,
            json_string(&m.first)
        )
    });
    vec![
        Datum::number(report.run),
        Datum::text(&report.resource),
        Datum::text(report.kind.name()),
        Datum::time(report.started),
        seconds(report.micros()),
        Datum::count(report.records),
        optional(per_second(report)),
        Datum::count(report.inserted),
        Datum::count(report.updated),
        Datum::count(report.deleted),
        Datum::count(report.requests),
        Datum::count(report.retries),
        Datum::text(outcome),
        Datum::time(report.finished),
        Datum::optional(reason),
        Datum::count(report.pages),
        Datum::count(report.bytes),
        Datum::count(report.received),
        seconds(Some(report.waited_micros)),
        size(report.peak_memory),
        Datum::count(report.relisted),
        Datum::count(report.unchanged),
        Datum::count(report.flagged),
        Datum::count(report.quarantined),
        Datum::count(report.deletes_ignored),
        Datum::count(report.field_changes),
        Datum::count(report.price_changes),
        Datum::count(report.status_changes),
        Datum::count(report.checked),
        optional(report.expected),
        Datum::number(report.first_sequence),
        Datum::number(report.last_sequence),
        Datum::json(&format!("[{}]", misfits.collect::<Vec<_>>().join(","))),
    ]
}

fn summary(runs: &[RunReport]) -> Vec<Datum> {
    let having = |wanted: &str| runs.iter().filter(|r| outcome(r).0 == wanted).count() as u64;
    let sum = |of: fn(&RunReport) -> u64| Datum::count(runs.iter().map(of).sum());
    let timed = || runs.iter().filter_map(|r| Some((r.micros()?, r.run)));
    let slowest = timed().max();
    let total: u64 = timed().map(|(micros, _)| micros).sum();
    let average = total.checked_div(timed().count() as u64);
    vec![
        Datum::count(runs.len() as u64),
        Datum::count(having("complete")),
        Datum::count(having("degraded")),
        Datum::count(having("failed")),
        Datum::count(having("unfinished")),
        seconds(average),
        seconds(slowest.map(|(micros, _)| micros)),
        slowest.map_or_else(Datum::null, |(_, run)| Datum::number(run)),
        sum(|r| r.records),
        sum(|r| r.requests),
        sum(|r| r.retries),
        size(runs.iter().filter_map(|r| r.peak_memory).max()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use relist::value::Timestamp;

    #[test]
    fn every_member_has_its_value() {
        let report = RunReport {
            run: 3,
            started: Some(Timestamp(0)),
            finished: Some(Timestamp(2_000_000)),
            records: 5_000,
            ..RunReport::default()
        };
        assert_eq!(row(&report).len(), MEMBERS.len());
        assert_eq!(summary(&[]).len(), SUMMARY.len());
        assert_eq!(per_second(&report), Some(2_500));
        assert_eq!(per_second(&RunReport::default()), None);
    }
}
