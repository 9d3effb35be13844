//! `relist each`: every record handed to a command, in batches; none is skipped silently.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use relist::keycode::Key;
use relist::odata::Query;
use relist::query::{Batch, BatchOptions, FailedBatch, QueryContext};
use relist::store::Snapshot;

use crate::app::App;
use crate::args::{self, quoted};
use crate::failure::{Exit, Failure};
use crate::shell;
use crate::style::plural;

/// The wait before a batch is tried again; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Doublings of it, at most.
const DOUBLINGS: u32 = 6;

pub(super) fn run(app: &mut App<'_>, args: &args::Each) -> Result<Exit, Failure> {
    let mut query = Query::new(&args.resource);
    if let Some(filter) = &args.filter {
        query = query.filter(filter)?;
    }
    if let Some(select) = &args.select {
        query = query.select_text(select)?;
    }
    let context = QueryContext {
        as_of: app.as_of(args.as_of.as_deref())?,
        now: app.now(),
        clock: None,
    };
    let store = app.open()?;
    let snapshot = store.snapshot()?;
    let after = args.after.as_deref();
    let after = after.map(|text| snapshot.parse_key(&args.resource, text));
    let options = BatchOptions {
        size: usize::try_from(args.batch).unwrap_or(usize::MAX),
        after: after.transpose()?,
        retries: args.retries,
    };
    (app.environment.catch_interrupt)(&app.environment.stop);
    app.out.flush()?;
    let stop = app.environment.stop.clone();
    let work = Work {
        args,
        directory: app.environment.directory.clone(),
        stop: &stop,
    };
    let pass = pass(&snapshot, (&query, &context, &options), &work)?;
    tell(app, args, &pass)
}

/// What the commands are run with.
struct Work<'a> {
    args: &'a args::Each,
    directory: std::path::PathBuf,
    stop: &'a AtomicBool,
}

/// One batch, done or failed.
struct Finished {
    number: u64,
    last: Option<Key>,
    records: u64,
    failed: Option<FailedBatch>,
}

/// What came of all of them.
#[derive(Default)]
struct Pass {
    batches: u64,
    records: u64,
    failed: Vec<FailedBatch>,
    /// The last key of the batches that succeeded from the first on, without one missing.
    done: Option<Key>,
    /// Whether there was no more to do.
    ended: bool,
}

/// Runs the commands, so many at once.
fn pass(
    snapshot: &Snapshot,
    (query, context, options): (&Query, &QueryContext, &BatchOptions),
    work: &Work<'_>,
) -> Result<Pass, Failure> {
    let jobs = usize::from(work.args.jobs);
    let mut pass = Pass::default();
    let (give, take) = sync_channel::<Batch>(1);
    let (report, reports) = channel();
    let take = Mutex::new(take);
    let batches = snapshot.batches(query, context, options)?;
    let read = std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (take, report) = (&take, report.clone());
            scope.spawn(move || serve(work, take, &report));
        }
        drop(report);
        for batch in batches {
            // An error of the store: what was handed over is finished first.
            let batch = batch?;
            if work.stop.load(Ordering::Relaxed) || give.send(batch).is_err() {
                drop(give);
                return Ok(false);
            }
        }
        drop(give);
        Ok::<bool, relist::error::Error>(true)
    });
    let mut finished: BTreeMap<u64, Finished> = reports.iter().map(|f| (f.number, f)).collect();
    pass.ended = read?;
    let mut unbroken = true;
    for (number, one) in &mut finished {
        unbroken &= one.failed.is_none() && *number == pass.batches + 1;
        if unbroken {
            pass.done = one.last.take();
        }
        pass.batches += 1;
        pass.records += one.records;
        pass.failed.extend(one.failed.take());
    }
    Ok(pass)
}

/// A worker: takes batches until there are no more.
fn serve(work: &Work<'_>, take: &Mutex<Receiver<Batch>>, report: &Sender<Finished>) {
    loop {
        let batch = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = batch else {
            return;
        };
        let variables = [
            ("RELIST_BATCH", batch.number.to_string()),
            ("RELIST_RESOURCE", work.args.resource.clone()),
        ];
        let input = batch.to_ndjson();
        let failed = batch.attempt(work.args.retries, |_, attempt| {
            if attempt > 1 && !work.stop.load(Ordering::Relaxed) {
                std::thread::sleep(FIRST_WAIT * (1 << (attempt - 2).min(DOUBLINGS)));
            }
            let input = input.as_bytes();
            shell::run(&work.args.exec, &work.directory, &variables, input, None)
        });
        let finished = Finished {
            number: batch.number,
            last: batch.keys.last().cloned(),
            records: batch.keys.len() as u64,
            failed,
        };
        if report.send(finished).is_err() {
            return;
        }
    }
}

fn tell(app: &mut App<'_>, args: &args::Each, pass: &Pass) -> Result<Exit, Failure> {
    app.note(&format!(
        "{} in {} handed over",
        plural(pass.records, "record", "records"),
        plural(pass.batches, "batch", "batches")
    ));
    for batch in &pass.failed {
        let (Some(first), Some(last)) = (batch.keys.first(), batch.keys.last()) else {
            continue;
        };
        app.warn(&format!(
            "batch {} failed, tried {}: {}: {} to {} ({})",
            batch.number,
            plural(u64::from(batch.attempts), "time", "times"),
            batch.reason,
            first,
            last,
            plural(batch.keys.len() as u64, "record", "records"),
        ));
    }
    let on = match &pass.done {
        Some(key) => format!("--after {} goes on", quoted(&key.to_string())),
        None => "the same command begins anew".to_owned(),
    };
    if !pass.ended {
        return Err(Failure::stopped().with_hint(on));
    }
    if pass.failed.is_empty() {
        return Ok(Exit::Ok);
    }
    Err(Failure::new(
        Exit::Degraded,
        format!(
            "{} of {} batches of {} failed",
            pass.failed.len(),
            pass.batches,
            args.resource
        ),
        format!("all others are done; {on} with the first that failed"),
    ))
}
