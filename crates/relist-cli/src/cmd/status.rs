//! `relist status`: how complete and how current the store is.

use std::collections::BTreeMap;

use relist::store::{Checkpoint, Outcome, Quarantined, RunReport, Snapshot, Store, SyncState};
use relist::value::Timestamp;

use super::prometheus;
use super::quarantine::newest_first;
use crate::app::App;
use crate::args::{self, Format, quoted_path};
use crate::failure::{Exit, Failure};
use crate::moment;
use crate::output::{Datum, Member, json_string, left, right};
use crate::schedule::state::Files;
use crate::schedule::{State, tell};
use crate::style::{bytes, duration, plural, printable, thousands};

/// A resource whose last complete run is older than a day is stale: feeds move every 15 minutes.
const STALE_AFTER: i64 = 86_400_000_000;
/// Too short a while to count seconds.
const JUST_NOW: i64 = 10_000_000;
/// Runs looked at for those that did not end.
const RUNS: usize = 50;
/// Reasons of quarantine that are shown.
const REASONS: usize = 5;

const MEMBERS: &[Member] = &[
    left("ResourceName", "RESOURCE"),
    right("Records", "RECORDS"),
    right("Tombstones", "DELETED"),
    left("State", "STATE"),
    left("Watermark", "WATERMARK"),
    left("LastComplete", ""),
    left("AgeSeconds", "LAST COMPLETE RUN"),
    left("Stale", ""),
    right("Quarantined", ""),
    left("LastFull", ""),
    left("Key", ""),
    right("Fields", ""),
    left("WalkKind", ""),
    right("WalkPages", ""),
    right("WalkRecords", ""),
];

pub(super) fn run(app: &mut App<'_>, args: &args::Status) -> Result<Exit, Failure> {
    let limit = args.max_age.as_deref();
    let limit = limit.map(|text| moment::span("--max-age", text));
    let limit = limit.transpose()?;
    let store = app.open()?;
    let snapshot = store.snapshot()?;
    let quarantined = newest_first(&snapshot)?;
    let size = std::fs::metadata(store.path()).map_or(0, |m| m.len());
    if args.prometheus {
        let text = prometheus::text(&snapshot, &quarantined, size, app.now())?;
        app.out.write_all(text.as_bytes())?;
    } else {
        print(app, &store, &snapshot, size, &quarantined)?;
    }
    match limit {
        Some(limit) => check_age(&snapshot, limit, app.now(), &schedule(app, &store)),
        None => Ok(Exit::Ok),
    }
}

/// Whether every resource that is synced was complete within that time.
fn check_age(
    snapshot: &Snapshot,
    limit: i64,
    now: Timestamp,
    schedule: &State,
) -> Result<Exit, Failure> {
    let (mut synced, mut stale) = (0, Vec::new());
    for resource in &snapshot.schema().resources {
        let checkpoint = snapshot.checkpoint(&resource.name)?;
        if checkpoint.state == SyncState::New {
            continue;
        }
        synced += 1;
        match checkpoint.last_complete.map(|at| now.0 - at.0) {
            Some(age) if age <= limit => {}
            Some(age) => stale.push(format!("{} {} ago", resource.name, duration(age))),
            None => stale.push(format!("{} never", resource.name)),
        }
    }
    if synced > 0 && stale.is_empty() && schedule.owed_since.is_none() {
        return Ok(Exit::Ok);
    }
    let message = match synced {
        _ if synced > 0 && stale.is_empty() => "a reconcile is owed".to_owned(),
        0 => "nothing was ever synced".to_owned(),
        _ => format!("not up to date, last complete: {}", stale.join(", ")),
    };
    Err(Failure::new(
        Exit::Degraded,
        message,
        "relist sync brings it up to date; relist report shows what runs did",
    ))
}

/// What the scheduler keeps beside the store. It is not the store's: without it there is a status.
fn schedule(app: &mut App<'_>, store: &Store) -> State {
    let files = Files::beside(store.path());
    let kept = files.read().unwrap_or_else(|error| {
        let path = quoted_path(files.path());
        app.warn(&format!("{path} cannot be read ({error})"));
        None
    });
    kept.unwrap_or_default()
}

fn print(
    app: &mut App<'_>,
    store: &Store,
    snapshot: &Snapshot,
    size: u64,
    quarantined: &[Quarantined],
) -> Result<(), Failure> {
    let stopped = unfinished(snapshot)?;
    let path = quoted_path(store.path());
    let schedule = schedule(app, store);
    let facts = facts(app, snapshot, quarantined, schedule)?;
    if app.format() == Format::Json {
        let sequence = snapshot.sequence();
        return print_json(app, (&path, size, sequence), &facts, quarantined, &stopped);
    }
    if app.is_text() {
        writeln!(app.out, "store      {path}  ({})", bytes(size))?;
        writeln!(app.out, "sequence   {}\n", snapshot.sequence())?;
    }
    if facts.rows.is_empty() && app.is_text() {
        writeln!(
            app.out,
            "no records yet: relist sync or relist ingest brings them"
        )?;
    } else {
        let mut rows = app.rows(MEMBERS)?;
        for row in &facts.rows {
            rows.row(row)?;
        }
        let cut = rows.finish()?;
        app.note_cut(cut);
    }
    if app.is_text() {
        print_rest(app, &facts, quarantined, &stopped)?;
    }
    Ok(())
}

/// What is known of the resources.
struct Facts {
    rows: Vec<Vec<Datum>>,
    /// Resources that are declared, and were neither synced nor filled.
    empty: usize,
    /// What is under way or was interrupted, in words.
    walks: Vec<String>,
    schedule: State,
    /// When they were gathered.
    now: Timestamp,
}

fn facts(
    app: &App<'_>,
    snapshot: &Snapshot,
    quarantined: &[Quarantined],
    schedule: State,
) -> Result<Facts, Failure> {
    let mut facts = Facts {
        schedule,
        now: app.now(),
        rows: Vec::new(),
        empty: 0,
        walks: Vec::new(),
    };
    let mut names: Vec<String> = snapshot
        .schema()
        .resources
        .iter()
        .map(|r| r.name.clone())
        .collect();
    // A page that could not be read may be all that is known of a resource.
    for item in quarantined {
        if !names.contains(&item.resource) {
            names.push(item.resource.clone());
        }
    }
    for name in names {
        let checkpoint = snapshot.checkpoint(&name)?;
        let records = snapshot.count(&name).unwrap_or(0);
        let tombstones = snapshot.tombstones(&name).map_or(0, |t| t.len() as u64);
        let held = quarantined.iter().filter(|q| q.resource == name).count() as u64;
        if records + tombstones + held == 0 && checkpoint == Checkpoint::default() {
            facts.empty += 1;
            continue;
        }
        if let Some(walk) = &checkpoint.walk {
            facts.walks.push(format!(
                "{name}: a {} walk stopped after {} pages, {} records; relist sync goes on there",
                walk.kind.name(),
                thousands(walk.pages),
                thousands(walk.records)
            ));
        }
        let counts = (records, tombstones, held);
        let row = row(&name, snapshot, &checkpoint, counts, &facts);
        facts.rows.push(row);
    }
    Ok(facts)
}

fn row(
    name: &str,
    snapshot: &Snapshot,
    checkpoint: &Checkpoint,
    (records, tombstones, held): (u64, u64, u64),
    facts: &Facts,
) -> Vec<Datum> {
    let age = checkpoint
        .last_complete
        .map(|at| (facts.now.0 - at.0).max(0));
    // What vanished while nobody looked is found by the reconcile that is owed, not before.
    let owed = facts.schedule.owed_since.is_some();
    let stale = age.map(|age| owed || age > STALE_AFTER);
    let resource = snapshot.schema().resource(name);
    let walk = checkpoint.walk.as_ref();
    vec![
        Datum::text(name),
        Datum::count(records),
        Datum::count(tombstones),
        Datum::text(state(checkpoint, records)),
        Datum::time(checkpoint.watermark),
        Datum::time(checkpoint.last_complete),
        age.map_or(Datum::null(), |age| {
            Datum::number((age / 1_000_000).cast_unsigned()).shown(ago(age, stale))
        }),
        stale.map_or(Datum::null(), Datum::flag),
        Datum::count(held),
        Datum::time(checkpoint.last_full),
        Datum::optional(resource.map(|r| r.key_field.as_str())),
        resource.map_or(Datum::null(), |r| Datum::count(r.fields.len() as u64)),
        Datum::optional(walk.map(|w| w.kind.name())),
        walk.map_or(Datum::null(), |w| Datum::count(w.pages)),
        walk.map_or(Datum::null(), |w| Datum::count(w.records)),
    ]
}

fn ago(age: i64, stale: Option<bool>) -> String {
    let stale = if stale == Some(true) { " (stale)" } else { "" };
    if age < JUST_NOW {
        return format!("just now{stale}");
    }
    format!("{} ago{stale}", duration(age))
}

fn state(checkpoint: &Checkpoint, records: u64) -> &'static str {
    match checkpoint.state {
        // Its records came from files.
        SyncState::New if records > 0 => "ingested",
        SyncState::New => "new",
        SyncState::Backfilling => "backfilling",
        SyncState::Live => "live",
    }
}

/// Runs that began and did not end: they are under way, or their process died.
fn unfinished(snapshot: &Snapshot) -> Result<Vec<RunReport>, Failure> {
    let runs = snapshot.runs(RUNS)?;
    Ok(runs
        .into_iter()
        .filter(|r| r.outcome == Outcome::Running)
        .collect())
}

fn print_rest(
    app: &mut App<'_>,
    facts: &Facts,
    quarantined: &[Quarantined],
    stopped: &[RunReport],
) -> Result<(), Failure> {
    if facts.empty > 0 {
        let words = plural(facts.empty as u64, "resource is", "resources are");
        writeln!(app.out, "\n{words} declared and empty")?;
    }
    for walk in &facts.walks {
        writeln!(app.out, "\n{walk}")?;
    }
    for run in stopped {
        let begun = run.started.map_or(String::new(), |t| format!(" of {t}"));
        writeln!(
            app.out,
            "\nrun {}{begun} ({} {}) is under way, or was interrupted",
            run.run,
            run.resource,
            run.kind.name()
        )?;
    }
    let jobs = tell::lines(&facts.schedule, facts.now);
    for (turn, line) in jobs.iter().enumerate() {
        let gap = if turn == 0 { "\n" } else { "" };
        writeln!(app.out, "{gap}{}", printable(line))?;
    }
    if quarantined.is_empty() {
        return Ok(());
    }
    let total = plural(quarantined.len() as u64, "entry", "entries");
    writeln!(app.out, "\nquarantine {total}; the newest reasons:")?;
    for (reason, count) in reasons(quarantined).into_iter().take(REASONS) {
        writeln!(app.out, "  {count:>6} x  {}", printable(&reason))?;
    }
    writeln!(app.out, "relist quarantine list shows all")?;
    Ok(())
}

/// Each reason with how often it is there, newest first.
fn reasons(quarantined: &[Quarantined]) -> Vec<(String, u64)> {
    let mut order = Vec::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for item in quarantined {
        let field = item
            .field
            .as_ref()
            .map_or(String::new(), |f| format!(" {f}"));
        let reason = format!("{}{field}: {}", item.resource, item.reason);
        let count = counts.entry(reason.clone()).or_insert(0);
        if *count == 0 {
            order.push(reason);
        }
        *count += 1;
    }
    let counted = |reason: String| {
        let count = counts.get(&reason).copied().unwrap_or(0);
        (reason, count)
    };
    order.into_iter().map(counted).collect()
}

/// One object with everything: for programs that watch a mirror.
fn print_json(
    app: &mut App<'_>,
    (path, size, sequence): (&str, u64, u64),
    facts: &Facts,
    quarantined: &[Quarantined],
    stopped: &[RunReport],
) -> Result<(), Failure> {
    let mut text = Vec::new();
    let paint = app.paint();
    let mut rows = crate::output::Rows::new(MEMBERS, Format::Json, None, paint, &mut text)?;
    for row in &facts.rows {
        rows.row(row)?;
    }
    rows.finish()?;
    let resources = String::from_utf8_lossy(&text).trim_end().to_owned();
    let reasons = reasons(quarantined).into_iter().take(REASONS);
    let reasons = reasons.map(|(reason, count)| {
        format!("{{\"Reason\":{},\"Count\":{count}}}", json_string(&reason))
    });
    let runs = stopped.iter().map(|run| {
        format!(
            "{{\"Run\":{},\"ResourceName\":{}}}",
            run.run,
            json_string(&run.resource)
        )
    });
    writeln!(
        app.out,
        "{{\"Store\":{},\"Bytes\":{size},\"Sequence\":{sequence},\"Quarantined\":{},\
         \"QuarantineReasons\":[{}],\"UnfinishedRuns\":[{}],\"ReconcileOwed\":{},\"Jobs\":{},\
         \"Resources\":{resources}}}",
        json_string(path),
        quarantined.len(),
        reasons.collect::<Vec<_>>().join(","),
        runs.collect::<Vec<_>>().join(","),
        facts.schedule.owed_since.is_some(),
        tell::json(&facts.schedule),
    )?;
    Ok(())
}
