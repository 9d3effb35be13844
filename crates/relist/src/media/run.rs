//! Fetching: what is wanted, host by host, until all is there or left for another time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use serde_json::{Map, Value};

use super::files::MediaFiles;
use super::hosts::{Hosts, Next};
use super::merge::STRIKES;
use super::read::{host, item, rows, shown};
use super::refresh::{Dropped, Listing, MediaPolicy, put_list};
use super::shelf::MediaStore;
use super::sniff::judge;
use crate::error::{Error, Result, SourceError, SourceErrorKind};
use crate::keycode::Key;
use crate::source::Traffic;
use crate::store::{HeldFile, MediaEntry, MediaKind, MediaList, MediaState, Snapshot, WriteTxn};
use crate::value::Timestamp;

/// Fetches a file by its URL: over HTTPS, or from wherever a test has it.
pub trait MediaFetcher: Sync {
    /// What it has cost so far, for run reports. Each number only grows.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    /// Fetches one file, whole. `etag` is of the file held, if the URL is the same.
    ///
    /// # Errors
    /// [`FetchError`], by whose fault it is.
    fn fetch(&self, url: &str, etag: Option<&str>) -> Result<Fetched, FetchError>;
}

/// Asks the feed for the media of one record, in the way that its provider has.
pub trait MediaLister: Sync {
    /// What it has cost so far, for run reports. Each number only grows.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    /// The bodies of all its pages, each with a `value` array of media.
    ///
    /// # Errors
    /// [`SourceError`] when one of them could not be had.
    fn list(&self, resource: &str, key: &Key) -> Result<Vec<Vec<u8>>, SourceError>;
}

/// What a fetch gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The file held is still the same (304).
    Unchanged,
    /// A file, not looked at.
    Body {
        /// Its bytes.
        bytes: Vec<u8>,
        /// Its Content-Type, as claimed.
        content_type: Option<String>,
        /// Its ETag.
        etag: Option<String>,
    },
}

/// Why a file could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct FetchError {
    /// Whose fault it is.
    pub kind: FetchErrorKind,
    /// What happened, without the URL.
    pub reason: String,
}

/// Whose fault it is that a file could not be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchErrorKind {
    /// The URL is used up or gone (403, 404, 410): the feed may have a new one.
    Expired,
    /// The URL's own: what it gives is no file to store, or it may not be asked.
    Url,
    /// The server failed on this URL (5xx): it may be the URL, it may be the server.
    Server,
    /// The host does not answer, or wants to be left alone for so many seconds.
    Host(Option<u64>),
    /// Too many requests (429), with the seconds to wait: the host wants to be left alone, or a
    /// URL that is good for once was used before.
    Throttled(Option<u64>),
    /// The feed, asked for a new URL, did not answer: nothing is known of the file.
    Feed,
    /// The caller wants to stop.
    Stopped,
}

/// How long a URL is good for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UrlLife {
    /// Whether it can be used only once.
    pub single_use: bool,
    /// For how many seconds after it was listed, where it expires.
    pub seconds: Option<u64>,
}

impl UrlLife {
    /// Whether a URL dies, so that an answer of 429 may mean that it has.
    fn ends(self) -> bool {
        self.single_use || self.seconds.is_some()
    }

    /// Whether a URL given out then is dead now, or nearly so: the last tenth of its life may pass
    /// while it is on its way.
    fn is_over(self, listed: Option<Timestamp>, now: Timestamp) -> bool {
        let Some(seconds) = self.seconds else {
            return false;
        };
        let life = i64::try_from(seconds.saturating_mul(900_000)).unwrap_or(i64::MAX);
        listed.is_none_or(|listed| now.0.saturating_sub(listed.0) >= life)
    }
}

impl FetchError {
    /// Stands where a URL is not tried before the feed was asked for another.
    fn asked_first() -> Self {
        FetchError {
            kind: FetchErrorKind::Expired,
            reason: "its URL is used up or too old".to_owned(),
        }
    }
}

/// How files are fetched.
#[derive(Clone, Copy)]
pub struct MediaOptions<'a> {
    /// The rules.
    pub policy: MediaPolicy,
    /// How long the URLs are good for.
    pub urls: UrlLife,
    /// Whether those that were given up are tried again.
    pub retry: bool,
    /// At most so many files.
    pub max: Option<u64>,
    /// How many at a time.
    pub jobs: usize,
    /// Tells the time; the library has no clock of its own.
    pub now: &'a (dyn Fn() -> Timestamp + Sync),
    /// Tells the most memory that the process has used so far, in bytes, where it is known.
    pub peak_memory: fn() -> Option<u64>,
    /// Set when the caller wants to stop.
    pub stop: &'a AtomicBool,
}

impl std::fmt::Debug for MediaOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MediaOptions")
            .field("policy", &self.policy)
            .field("max", &self.max)
            .field("jobs", &self.jobs)
            .finish_non_exhaustive()
    }
}

/// What came of fetching.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MediaReport {
    /// Records whose media the feed was asked for.
    pub listed: u64,
    /// Media that were wanted when the run began to fetch, so far as it came to them.
    pub wanted: u64,
    /// Files fetched and stored.
    pub fetched: u64,
    /// Of these, files that took the place of an older one of their medium.
    pub replaced: u64,
    /// Of these, files that were there already under another medium.
    pub shared: u64,
    /// Files that the server says did not change.
    pub unchanged: u64,
    /// Media whose URL failed.
    pub failed: u64,
    /// Of these, those given up after three strikes.
    pub parked: u64,
    /// Media left for the next run because their host, or the feed asked for a new URL, does not
    /// answer.
    pub left: u64,
    /// Records that could not be listed.
    pub unlisted: u64,
    /// Files removed.
    pub removed: u64,
    /// Bytes fetched.
    pub bytes: u64,
    /// The last errors, newest last: host and reason.
    pub errors: Vec<String>,
    /// Whether it stopped before its end: by the caller, or at `max`.
    pub stopped: bool,
}

/// Errors kept in a report.
const ERRORS: usize = 10;
/// Records listed before their files are fetched: URLs may live for an hour only.
const LIST_BATCH: usize = 200;
/// Media taken up at once.
const FETCH_BATCH: usize = 5_000;
/// Results in one transaction.
const COMMIT_BATCH: usize = 64;
/// A batch ends when no result came for so long: the store is opened for each.
const QUIET: Duration = Duration::from_millis(200);
/// The feed is not asked for new URLs any more after so many failures in a row.
const FEED_FAILURES: u32 = 3;
/// How long a worker waits before it looks again whether to stop.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Fetches the media that are wanted.
///
/// Files are whole and on the disk before the store says that they are there. A process that is
/// killed loses what was under way, and the next run goes on.
pub(super) fn fetch(
    store: &dyn MediaStore,
    files: &MediaFiles,
    fetcher: &dyn MediaFetcher,
    lister: &dyn MediaLister,
    options: &MediaOptions<'_>,
    progress: &mut dyn FnMut(&MediaReport),
) -> Result<MediaReport> {
    let mut run = Run {
        store,
        files,
        fetcher,
        lister,
        options,
        report: MediaReport::default(),
        hosts: Mutex::new(Hosts::default()),
        free: Condvar::new(),
        again: Mutex::default(),
        feed_failures: AtomicU32::new(0),
        halt: AtomicBool::new(false),
    };
    run.all(progress)?;
    run.report.stopped |= options.stop.load(Ordering::Relaxed);
    Ok(run.report)
}

struct Run<'a> {
    store: &'a dyn MediaStore,
    files: &'a MediaFiles,
    fetcher: &'a dyn MediaFetcher,
    lister: &'a dyn MediaLister,
    options: &'a MediaOptions<'a>,
    report: MediaReport,
    hosts: Mutex<Hosts<Task>>,
    free: Condvar,
    /// Records whose media were asked for again, with the answer.
    again: Mutex<Answers>,
    /// How often in a row the feed did not answer.
    feed_failures: AtomicU32,
    /// An error of the store ends all work.
    halt: AtomicBool,
}

/// The media of a record and when they were listed, or why they could not be had.
type Again = Result<(Arc<Vec<Row>>, Timestamp), FetchError>;
type Row = Map<String, Value>;
/// By record; the inner lock is held while the feed is asked.
type Answers = HashMap<(String, Key), Arc<Mutex<Option<Again>>>>;

#[derive(Debug, Clone)]
enum Task {
    List(MediaList),
    Fetch(Box<MediaEntry>),
}

/// What a worker did.
enum Outcome {
    /// With the time at which the feed was asked.
    Listed(MediaList, Timestamp, Result<Vec<Row>, SourceError>),
    Fetched {
        entry: Box<MediaEntry>,
        /// The media of the record, when the feed was asked again for them.
        again: Option<(Arc<Vec<Row>>, Timestamp)>,
        result: Result<Stored, FetchError>,
    },
    Broken(Error),
}

enum Stored {
    Unchanged,
    File(HeldFile, bool),
    /// The feed does not have the medium any more.
    Gone,
}

/// The pseudo-host of the feed itself.
const FEED: &str = "the feed";

impl Run<'_> {
    fn all(&mut self, progress: &mut dyn FnMut(&MediaReport)) -> Result<()> {
        let (mut list_after, mut more_lists) = (None, true);
        let mut fetch_after = None;
        loop {
            if more_lists && fetch_after.is_none() {
                let view = self.store.view()?;
                let lists = view.media_unlisted(list_after.as_ref(), LIST_BATCH)?;
                drop(view);
                more_lists = lists.len() == LIST_BATCH;
                list_after = lists.last().cloned().or(list_after);
                self.work(lists.into_iter().map(Task::List).collect(), progress)?;
            }
            let wanted = self.wanted(&self.store.view()?, fetch_after)?;
            let full = wanted.len() == FETCH_BATCH;
            fetch_after = wanted.last().map(|e| e.item.place()).filter(|_| full);
            self.report.wanted += wanted.len() as u64;
            let tasks = wanted.into_iter().map(|e| Task::Fetch(Box::new(e)));
            self.work(tasks.collect(), progress)?;
            if self.stopped() || self.spent() {
                self.report.stopped = true;
                break;
            }
            if !full && !more_lists {
                break;
            }
        }
        self.report.left += lock(&self.hosts).left() as u64;
        Ok(())
    }

    /// What to fetch next: not more than may be, and nothing twice in a run.
    fn wanted(
        &self,
        snapshot: &Snapshot,
        after: Option<crate::store::MediaPlace>,
    ) -> Result<Vec<MediaEntry>> {
        let room = self.options.max.map_or(u64::MAX, |max| {
            max.saturating_sub(self.report.fetched + self.report.unchanged + self.report.failed)
        });
        let most = usize::try_from(room).unwrap_or(usize::MAX).min(FETCH_BATCH);
        snapshot.media_wanted(after, most)
    }

    fn spent(&self) -> bool {
        let done = self.report.fetched + self.report.unchanged + self.report.failed;
        self.options.max.is_some_and(|max| done >= max)
    }

    fn stopped(&self) -> bool {
        self.options.stop.load(Ordering::Relaxed)
    }

    /// Does these tasks, several at a time; results are stored by this thread alone.
    fn work(&mut self, tasks: Vec<Task>, progress: &mut dyn FnMut(&MediaReport)) -> Result<()> {
        if tasks.is_empty() {
            return Ok(());
        }
        {
            let mut hosts = lock(&self.hosts);
            for task in tasks {
                let name = match &task {
                    Task::List(_) => FEED.to_owned(),
                    Task::Fetch(entry) => host(&entry.item.url),
                };
                hosts.push(&name, task);
            }
        }
        let (sender, results) = mpsc::sync_channel(COMMIT_BATCH);
        let mut report = std::mem::take(&mut self.report);
        let this = &*self;
        let stored = std::thread::scope(|scope| {
            for _ in 0..this.options.jobs.max(1) {
                let sender = sender.clone();
                scope.spawn(move || this.worker(&sender));
            }
            drop(sender);
            let stored = this.store_results(&results, &mut report, progress);
            this.halt.store(stored.is_err(), Ordering::Relaxed);
            // Workers that wait to hand over a result end when nobody takes it.
            drop(results);
            stored
        });
        self.report = report;
        lock(&self.again).clear();
        stored
    }

    fn store_results(
        &self,
        results: &mpsc::Receiver<Outcome>,
        report: &mut MediaReport,
        progress: &mut dyn FnMut(&MediaReport),
    ) -> Result<()> {
        while let Ok(first) = results.recv() {
            let mut batch = vec![first];
            while batch.len() < COMMIT_BATCH
                && let Ok(next) = results.recv_timeout(QUIET)
            {
                batch.push(next);
            }
            let mut batch = Some(batch);
            self.store.write(&mut |store| {
                let mut txn = store.begin_write((self.options.now)())?;
                let mut dropped = Dropped::default();
                for outcome in batch.take().unwrap_or_default() {
                    self.settle(&mut txn, outcome, report, &mut dropped)?;
                }
                report.removed += dropped.remove(&txn, self.files)?;
                txn.commit().map(drop)
            })?;
            progress(report);
        }
        Ok(())
    }

    fn worker(&self, results: &mpsc::SyncSender<Outcome>) {
        while let Some((host, task)) = self.next() {
            let outcome = match task {
                Task::List(list) => self.list(list),
                Task::Fetch(entry) => self.fetch(entry),
            };
            let failed = match &outcome {
                Outcome::Fetched {
                    result: Err(error), ..
                } => match error.kind {
                    FetchErrorKind::Host(wait) | FetchErrorKind::Throttled(wait) => Some(wait),
                    FetchErrorKind::Server => Some(None),
                    _ => None,
                },
                Outcome::Listed(_, _, Err(error)) if error.kind != SourceErrorKind::NotFound => {
                    Some(None)
                }
                _ => None,
            };
            let mut hosts = lock(&self.hosts);
            match failed {
                Some(wait) => {
                    let seconds = wait.map(|s| i64::try_from(s).unwrap_or(i64::MAX));
                    let micros = seconds.map(|s| s.saturating_mul(1_000_000));
                    hosts.failed(&host, (self.options.now)().0, micros);
                }
                None => hosts.answered(&host),
            }
            drop(hosts);
            self.free.notify_all();
            if results.send(outcome).is_err() {
                return;
            }
        }
    }

    /// The next task; `None` when there is none left, or all should stop.
    fn next(&self) -> Option<(String, Task)> {
        let mut hosts = lock(&self.hosts);
        loop {
            if self.stopped() || self.halt.load(Ordering::Relaxed) {
                return None;
            }
            let now = (self.options.now)().0;
            let wait = match hosts.next(now) {
                Next::Task(task) => return Some(task),
                Next::Done => return None,
                Next::Busy => LOOK_AGAIN,
                Next::Wait(at) => {
                    let micros = u64::try_from(at.saturating_sub(now)).unwrap_or(0);
                    Duration::from_micros(micros).min(LOOK_AGAIN)
                }
            };
            let woken = self.free.wait_timeout(hosts, wait);
            hosts = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn list(&self, list: MediaList) -> Outcome {
        let asked = (self.options.now)();
        let result = self.ask(&list.resource, &list.record_key);
        Outcome::Listed(list, asked, result)
    }

    fn ask(&self, resource: &str, key: &Key) -> Result<Vec<Row>, SourceError> {
        let mut out = Vec::new();
        for body in self.lister.list(resource, key)? {
            let found = rows(&body).ok_or_else(|| SourceError {
                kind: SourceErrorKind::Malformed,
                request: format!("{resource}({})/Media", key.to_literal()),
                reason: "the answer is no page of media".to_owned(),
            })?;
            out.extend(found);
        }
        Ok(out)
    }

    fn fetch(&self, mut entry: Box<MediaEntry>) -> Outcome {
        let mut again = None;
        let mut result = Ok(Err(FetchError::asked_first()));
        let first = self.needs_new_url(&entry);
        if !first {
            result = self.fetch_once(&entry);
        }
        let dead = match &result {
            Ok(Err(error)) => self.may_be_dead(error),
            _ => false,
        };
        if first || dead {
            let (answer, asked) = self.ask_again(&entry);
            again = answer.as_ref().ok().filter(|_| asked).cloned();
            result = self.with_answer(&mut entry, answer, first, result);
        }
        match result {
            Err(error) => Outcome::Broken(error),
            Ok(result) => Outcome::Fetched {
                entry,
                again,
                result,
            },
        }
    }

    /// Whether a URL is used up or too old before it is tried.
    fn needs_new_url(&self, entry: &MediaEntry) -> bool {
        let urls = self.options.urls;
        let same = |held: &HeldFile| held.url == entry.item.url;
        // A try that failed has used a URL that is good for once.
        let used =
            entry.strikes > 0 || entry.error.is_some() || entry.held.as_ref().is_some_and(same);
        urls.single_use && used || urls.is_over(entry.listed, (self.options.now)())
    }

    /// Whether an error may mean that the URL is used up or too old.
    fn may_be_dead(&self, error: &FetchError) -> bool {
        match error.kind {
            FetchErrorKind::Expired => true,
            FetchErrorKind::Throttled(_) => self.options.urls.ends(),
            _ => false,
        }
    }

    /// Fetches by the URL that the feed gives now, if it gives another.
    fn with_answer(
        &self,
        entry: &mut MediaEntry,
        answer: Again,
        first: bool,
        before: Result<Result<Stored, FetchError>>,
    ) -> Result<Result<Stored, FetchError>> {
        let (rows, listed) = match answer {
            Ok(answer) => answer,
            // Nothing was tried: the reason is the feed's.
            Err(error) if first => return Ok(Err(error)),
            Err(error) => {
                return before.map(|result| {
                    result.map_err(|own| FetchError {
                        reason: format!("{}; asked for a new URL: {}", own.reason, error.reason),
                        ..own
                    })
                });
            }
        };
        let (resource, key) = (&entry.item.resource, &entry.item.record_key);
        let mut items = rows.iter().filter_map(|row| item(row, resource, key));
        match items.find(|i| i.media_key == entry.item.media_key) {
            Some(own) if first || own.url != entry.item.url => {
                (entry.item, entry.listed) = (own, Some(listed));
                self.fetch_once(entry)
            }
            None if !rows.is_empty() => Ok(Ok(Stored::Gone)),
            None if first => Ok(Err(FetchError {
                kind: FetchErrorKind::Expired,
                reason: "the feed, asked for a new URL, lists no media of its record".to_owned(),
            })),
            _ => before,
        }
    }

    /// Asks for the media of an entry's record again: once, however many of them expired. Also
    /// tells whether it was this call that asked.
    fn ask_again(&self, entry: &MediaEntry) -> (Again, bool) {
        let owner = (entry.item.resource.clone(), entry.item.record_key.clone());
        let cell = Arc::clone(lock(&self.again).entry(owner).or_default());
        let mut cell = lock(&cell);
        let now = (self.options.now)();
        if let Some(answer) = &*cell {
            let over = |listed: &Timestamp| self.options.urls.is_over(Some(*listed), now);
            if !answer.as_ref().is_ok_and(|(_, listed)| over(listed)) {
                return (answer.clone(), false);
            }
        }
        let answer = self.ask_feed(&entry.item.resource, &entry.item.record_key);
        let answer: Again = answer.map(|rows| (Arc::new(rows), now));
        *cell = Some(answer.clone());
        (answer, true)
    }

    fn ask_feed(&self, resource: &str, key: &Key) -> Result<Vec<Row>, FetchError> {
        if self.feed_failures.load(Ordering::Relaxed) >= FEED_FAILURES {
            return Err(FetchError {
                kind: FetchErrorKind::Feed,
                reason: "the feed did not answer when it was asked for new URLs".to_owned(),
            });
        }
        let answer = self.ask(resource, key);
        let kind = match answer.as_ref().map_err(|error| error.kind) {
            Ok(_) | Err(SourceErrorKind::NotFound) => {
                self.feed_failures.store(0, Ordering::Relaxed);
                FetchErrorKind::Expired
            }
            Err(SourceErrorKind::Stopped) => FetchErrorKind::Stopped,
            Err(_) => {
                self.feed_failures.fetch_add(1, Ordering::Relaxed);
                FetchErrorKind::Feed
            }
        };
        answer.map_err(|error| FetchError {
            kind,
            reason: error.to_string(),
        })
    }

    /// The outer error is the disk's, the inner one the URL's.
    fn fetch_once(&self, entry: &MediaEntry) -> Result<Result<Stored, FetchError>> {
        let item = &entry.item;
        let held = entry
            .held
            .as_ref()
            .filter(|held| held.url == item.url && self.files.holds(held));
        let etag = held.and_then(|held| held.etag.as_deref());
        let (bytes, content_type, etag) = match self.fetcher.fetch(&item.url, etag) {
            Err(error) => return Ok(Err(error)),
            Ok(Fetched::Unchanged) => return Ok(Ok(Stored::Unchanged)),
            Ok(Fetched::Body {
                bytes,
                content_type,
                etag,
            }) => (bytes, content_type, etag),
        };
        let kind: MediaKind = match judge(&bytes, content_type.as_deref()) {
            Ok(kind) => kind,
            Err(reason) => {
                return Ok(Err(FetchError {
                    kind: FetchErrorKind::Url,
                    reason,
                }));
            }
        };
        let (content, new) = self.files.store(&bytes, kind)?;
        let held = HeldFile {
            content,
            kind,
            bytes: bytes.len() as u64,
            fetched: (self.options.now)(),
            url: item.url.clone(),
            etag,
            modified: item.modified,
        };
        Ok(Ok(Stored::File(held, new)))
    }

    /// Stores what a worker did.
    fn settle(
        &self,
        txn: &mut WriteTxn,
        outcome: Outcome,
        report: &mut MediaReport,
        dropped: &mut Dropped,
    ) -> Result<()> {
        match outcome {
            Outcome::Broken(error) => Err(error),
            Outcome::Listed(list, asked, result) => {
                self.settle_list(txn, (list, asked), result, report, dropped)
            }
            Outcome::Fetched {
                entry,
                again,
                result,
            } => {
                if let Some((rows, listed)) = again {
                    let listing = Listing {
                        resource: &entry.item.resource,
                        key: &entry.item.record_key,
                        count: None,
                        listed: Some(listed),
                    };
                    put_list(txn, &listing, &rows, self.options.policy, dropped)?;
                }
                settle_fetch(txn, &entry, result, report, dropped)
            }
        }
    }

    fn settle_list(
        &self,
        txn: &mut WriteTxn,
        (mut list, asked): (MediaList, Timestamp),
        result: Result<Vec<Row>, SourceError>,
        report: &mut MediaReport,
        dropped: &mut Dropped,
    ) -> Result<()> {
        let problem = match result {
            Ok(rows) => {
                let listing = Listing {
                    resource: &list.resource,
                    key: &list.record_key,
                    count: list.count,
                    listed: Some(asked),
                };
                let believed = put_list(txn, &listing, &rows, self.options.policy, dropped)?;
                let counted = list.count.unwrap_or(1);
                (!believed).then(|| format!("the feed lists {} of {counted} media", rows.len()))
            }
            Err(error) if error.kind == SourceErrorKind::Stopped => return Ok(()),
            Err(error) if error.kind == SourceErrorKind::NotFound => Some(error.to_string()),
            Err(error) => {
                // The feed's fault: the record is asked for again by the next run.
                report.unlisted += 1;
                note(report, error.to_string());
                return Ok(());
            }
        };
        match problem {
            None => {
                report.listed += 1;
                (list.due, list.strikes, list.error) = (false, 0, None);
            }
            Some(problem) => {
                report.unlisted += 1;
                list.strikes += 1;
                list.due = list.strikes < STRIKES;
                note(
                    report,
                    format!("{} {}: {problem}", list.resource, list.record_key),
                );
                list.error = Some(problem);
            }
        }
        txn.put_media_list(&list)
    }
}

fn settle_fetch(
    txn: &mut WriteTxn,
    entry: &MediaEntry,
    result: Result<Stored, FetchError>,
    report: &mut MediaReport,
    dropped: &mut Dropped,
) -> Result<()> {
    // The record's media may just have been listed anew.
    let Some(mut current) = txn.media_entry(entry.item.place())? else {
        return Ok(());
    };
    match result {
        Ok(Stored::Gone) => return Ok(()),
        Ok(Stored::Unchanged) => {
            report.unchanged += 1;
            if let Some(held) = &mut current.held {
                held.modified = entry.item.modified;
            }
            (current.state, current.strikes, current.error) = (MediaState::Have, 0, None);
        }
        Ok(Stored::File(held, new)) => {
            report.fetched += 1;
            report.shared += u64::from(!new);
            report.bytes += held.bytes;
            if let Some(old) = current.held.replace(held) {
                report.replaced += 1;
                dropped.file(old);
            }
            (current.state, current.strikes, current.error) = (MediaState::Have, 0, None);
        }
        Err(error) if error.kind == FetchErrorKind::Stopped => return Ok(()),
        Err(error) if error.kind == FetchErrorKind::Feed => {
            report.left += 1;
            note(report, error.reason.clone());
            current.error = Some(error.reason);
        }
        Err(error) => {
            report.failed += 1;
            note(
                report,
                format!("{}: {}", shown(&entry.item.url), error.reason),
            );
            if !matches!(
                error.kind,
                FetchErrorKind::Host(_) | FetchErrorKind::Throttled(_)
            ) {
                // That its host is down says nothing of a URL.
                current.strikes += 1;
            }
            if current.strikes >= STRIKES {
                current.state = MediaState::Parked;
                report.parked += 1;
            }
            current.error = Some(error.reason);
        }
    }
    txn.put_media(&current)
}

fn note(report: &mut MediaReport, error: String) {
    if report.errors.len() == ERRORS {
        report.errors.remove(0);
    }
    report.errors.push(error);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
