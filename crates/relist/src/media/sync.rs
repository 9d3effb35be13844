//! A whole run: what there should be, what is to be fetched, and the report that stays.

use super::files::MediaFiles;
use super::refresh::{Refreshed, refresh, retry};
use super::run::{MediaFetcher, MediaLister, MediaOptions, MediaReport, fetch};
use super::shelf::MediaStore;
use crate::error::Result;
use crate::source::Traffic;
use crate::store::{Outcome, RunKind, RunReport, Store};

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MediaDone {
    /// What was fetched.
    pub report: MediaReport,
    /// What the records said.
    pub refreshed: Refreshed,
    /// Media and records that were given up and are tried again.
    pub retried: u64,
    /// The report that the store keeps.
    pub run: RunReport,
}

/// The resource that a run's report names.
const MEDIA: &str = "Media";

/// Brings the files up to date: with the records that changed since the last time, then with what
/// the feed gives.
///
/// The run leaves a report in the store, also one that failed.
///
/// # Errors
/// Those of the store and of the folder. That files could not be fetched is no error: the report
/// counts them, and each entry says why.
pub fn sync_media(
    store: &dyn MediaStore,
    files: &MediaFiles,
    fetcher: &dyn MediaFetcher,
    lister: &dyn MediaLister,
    options: &MediaOptions<'_>,
    progress: &mut dyn FnMut(&MediaReport),
) -> Result<MediaDone> {
    let before = (fetcher.traffic(), lister.traffic());
    let mut run = begin(store, options)?;
    let now: &dyn Fn() -> _ = options.now;
    let mut work = || -> Result<(MediaReport, Refreshed, u64)> {
        let retried = if options.retry { retry(store, now)? } else { 0 };
        let refreshed = refresh(store, files, options.policy, now)?;
        let report = fetch(store, files, fetcher, lister, options, progress)?;
        Ok((report, refreshed, retried))
    };
    let result = work();
    let spent = [
        fetcher.traffic().since(before.0),
        lister.traffic().since(before.1),
    ];
    note_cost(&mut run, spent);
    run.peak_memory = (options.peak_memory)();
    run.finished = Some((options.now)());
    match result {
        Ok((report, refreshed, retried)) => {
            note(&mut run, &report, refreshed);
            put(store, options, &run)?;
            Ok(MediaDone {
                report,
                refreshed,
                retried,
                run,
            })
        }
        Err(error) => {
            run.outcome = Outcome::Failed(error.to_string());
            // The first error is the one to tell; that its report could not be stored follows.
            let _ = put(store, options, &run);
            Err(error)
        }
    }
}

fn begin(store: &dyn MediaStore, options: &MediaOptions<'_>) -> Result<RunReport> {
    let mut run = RunReport {
        resource: MEDIA.to_owned(),
        kind: RunKind::Media,
        started: Some((options.now)()),
        ..RunReport::default()
    };
    store.write(&mut |store: &Store| {
        let mut txn = store.begin_write((options.now)())?;
        run.run = txn.new_run();
        txn.put_run(&run)?;
        txn.commit().map(drop)
    })?;
    Ok(run)
}

fn put(store: &dyn MediaStore, options: &MediaOptions<'_>, run: &RunReport) -> Result<()> {
    store.write(&mut |store: &Store| {
        let mut txn = store.begin_write((options.now)())?;
        txn.put_run(run)?;
        txn.commit().map(drop)
    })
}

fn note_cost(run: &mut RunReport, spent: [Traffic; 2]) {
    for traffic in spent {
        run.requests += traffic.requests;
        run.retries += traffic.retries;
        run.received += traffic.bytes;
        run.waited_micros += u64::try_from(traffic.waited.as_micros()).unwrap_or(u64::MAX);
    }
}

/// A file is to a run of media what a record is to a sync.
fn note(run: &mut RunReport, report: &MediaReport, refreshed: Refreshed) {
    run.pages = report.listed;
    run.records = report.fetched + report.unchanged;
    run.inserted = report.fetched - report.replaced;
    run.updated = report.replaced;
    run.unchanged = report.unchanged;
    run.deleted = refreshed.removed + report.removed;
    run.bytes = report.bytes;
    run.checked = refreshed.records;
    let trouble = report.failed + report.unlisted + report.left;
    run.outcome = if trouble > 0 {
        Outcome::Degraded(format!(
            "{} files could not be fetched, {} were left, {} records were not listed",
            report.failed, report.left, report.unlisted
        ))
    } else {
        Outcome::Complete
    };
}
