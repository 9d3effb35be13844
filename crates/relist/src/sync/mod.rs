//! Sync: a feed's resource mirrored, completely, then currently.
//!
//! A run is a walk over the pages of one query. A full walk reads every record; an incremental one
//! reads what is stamped at or after the watermark less an overlap, so that equal stamps, late
//! commits and cached stamps lose nothing: what is read again and did not change writes nothing.
//!
//! The walk's place is stored in the transaction of the pages it covers. When the walk ends, the
//! watermark moves to the highest stamp seen, but never past the server's time when the walk
//! *began*: a record that changes behind the walk is stamped later than that, and read next time.
//!
//! A record that a complete full walk did not meet is deleted only when the feed, asked for its
//! key, does not have it, and only if not too many are missing at once.

mod count;
mod deletes;
mod events;
mod photos;
mod plan;
mod policy;
mod reconcile;
mod refresh;
mod sweep;
mod walk;

use std::ops::Bound;
use std::sync::Arc;

use count::Count;
pub use plan::SyncPlan;
pub use policy::{EventFeed, Policy, SyncMode, SyncOptions, WalkKind};
pub use refresh::{Connect, Refresh, Refreshed, Related};
use walk::{FeedWalker, WalkSetup};

use crate::decode::{KeySpec, SplitPage};
use crate::error::{Error, Result, SourceError, SourceErrorKind};
use crate::ingest::{Applying, Grouping, Progress, Session, SlotSet, Step, pump};
use crate::keycode::Key;
use crate::source::PageSource;
use crate::store::{
    Cause, Checkpoint, Outcome, RunKind, RunReport, Store, SyncState, Walk, WalkPosition,
};
use crate::value::Timestamp;

/// How many records may be fewer than the feed counts before a walk is not believed: records are
/// deleted while it lasts.
const COUNT_SLACK: u64 = 5;
/// And one in this many.
const COUNT_SLACK_SHARE: u64 = 200;

impl Store {
    /// Brings a resource up to date with its feed.
    ///
    /// An interrupted walk goes on at the page where it stopped. The report tells what came of it;
    /// it is also stored with the run.
    ///
    /// # Errors
    /// The first error of the source or the store. Everything before it is applied, and the
    /// checkpoint covers exactly that. A page that could not be trusted is in quarantine.
    pub fn sync(
        &self,
        resource: &str,
        source: &mut dyn PageSource,
        policy: &Policy,
        options: &SyncOptions<'_>,
        progress: &mut dyn Progress,
    ) -> Result<RunReport> {
        let snapshot = self.snapshot()?;
        let checkpoint = snapshot.checkpoint(resource)?;
        let key_spec = match (snapshot.key_spec(resource), &policy.key_field) {
            (Some(known), _) => Some(known),
            (None, Some(field)) => Some(Arc::new(KeySpec::new(
                field.clone(),
                field.ends_with("Numeric"),
            ))),
            (None, None) => None,
        };
        let plan = SyncPlan::of(&snapshot, resource, policy, options.mode, (options.now)())?;
        drop(snapshot);
        let walk = plan.walk;
        let session = Session::new(self, resource, walk.kind, options.now);
        let before = source.traffic();
        let mut run = SyncRun {
            resource,
            policy,
            options,
            progress,
            checkpoint,
            key_spec,
            whole: walk.position == WalkPosition::Start,
            seen: SlotSet::default(),
            keyless: 0,
            resumed_at: None,
            expected: None,
            before: None,
            braked: false,
            note: None,
        };
        let mut session = session;
        let result = match (options.mode, plan.events) {
            (SyncMode::Auto, Some(feed)) => run.follow_events(&mut session, source, &feed),
            (SyncMode::Auto | SyncMode::Full, _) => {
                run.checkpoint.walk = Some(walk);
                run.run(&mut session, source)
            }
            (SyncMode::Reconcile, _) => run.reconcile(&mut session, source),
            (SyncMode::Deep { slice, of }, _) => run.deep(&mut session, source, (slice, of)),
        };
        let note = run.note.take();
        session.note_cost(source.traffic().since(before), progress.peak_memory());
        session.finish(result, |report| match (note, report.quarantined) {
            (Some(note), _) => Outcome::Degraded(note),
            (None, 0) => Outcome::Complete,
            (None, n) => Outcome::Degraded(format!("{n} records are in quarantine")),
        })
    }
}

/// One resource's sync under way.
struct SyncRun<'a> {
    resource: &'a str,
    policy: &'a Policy,
    options: &'a SyncOptions<'a>,
    progress: &'a mut dyn Progress,
    checkpoint: Checkpoint,
    key_spec: Option<Arc<KeySpec>>,
    /// Whether this process does the walk from its start, so that `seen` is complete.
    whole: bool,
    seen: SlotSet,
    keyless: u64,
    /// Where this process went on with a walk by key, and how much of it was settled then.
    resumed_at: Option<(Key, u64)>,
    /// What the feed counted when the walk began.
    expected: Option<u64>,
    /// The walk as it was before the last page applied.
    before: Option<Walk>,
    /// Whether the walk missed so many records that it is not believed.
    braked: bool,
    /// Why the run is degraded.
    note: Option<String>,
}

impl SyncRun<'_> {
    fn run(&mut self, session: &mut Session<'_>, source: &mut dyn PageSource) -> Result<()> {
        if self.checkpoint.state == SyncState::New {
            self.checkpoint.state = SyncState::Backfilling;
        }
        if let Some(feed) = self.policy.events.clone() {
            self.note_event_sequence(session, source, &feed)?;
        }
        let resumed = self
            .walk_now()
            .is_some_and(|walk| walk.position != WalkPosition::Start);
        self.resumed_at = self.walk_now().and_then(|walk| match &walk.position {
            WalkPosition::After(key) => Some((key.clone(), walk.settled)),
            _ => None,
        });
        if !self.finish_walk(session, source)? || !resumed {
            return Ok(());
        }
        // The walk began in an earlier run: what changed behind its place since then is stamped
        // later than it began. Without this pass the run would end, and not be up to date.
        let next = plan::begin(&self.checkpoint, self.policy, SyncMode::Auto, self.now());
        if next.kind == RunKind::Incremental {
            self.checkpoint.walk = Some(next);
            (self.whole, self.expected, self.before) = (true, None, None);
            (self.seen, self.resumed_at) = (SlotSet::default(), None);
            self.finish_walk(session, source)?;
        }
        Ok(())
    }

    /// Walks to the end, from wherever the walk stands, and all that belongs to it; `false` when it
    /// was stopped before.
    fn finish_walk(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
    ) -> Result<bool> {
        if !self.walk_to_end(session, source)? {
            return Ok(false);
        }
        let mut count = self.check_count(session, source)?;
        let full = self
            .walk_now()
            .is_some_and(|walk| walk.kind == RunKind::Full);
        let again = match &count {
            Count::Fits => false,
            Count::Short(_) => !full,
            Count::Cut(_) => true,
        };
        if again && !self.whole {
            // What an earlier process met is only a number now: this one looks for itself.
            self.restart();
            if !self.walk_to_end(session, source)? {
                return Ok(false);
            }
            count = self.check_count(session, source)?;
        }
        if let Count::Cut(error) = count {
            self.restart();
            self.save(session)?;
            return Err(error);
        }
        let swept = self.settle_missing(session, source, count, full);
        if let Err(error) = swept {
            if full {
                // Only a walk from its start knows what was not met: the next one begins there.
                self.restart();
                // Should this fail too, the first error is the one to tell.
                let _ = self.save(session);
            }
            return Err(error);
        }
        let started = self.walk_now().map(|walk| walk.started);
        self.end_walk(session)?;
        if let Some(feed) = self.policy.deletes.clone() {
            self.deletes(session, source, &feed, started)?;
        }
        if !self.photos(session, source, started.filter(|_| full))? {
            return Ok(false);
        }
        if self.note.is_none() {
            // What was held back or left open is no complete run.
            let done = Some(self.now());
            self.checkpoint.last_complete = done;
            if full {
                self.checkpoint.last_full = done;
            }
        }
        self.save(session)?;
        Ok(true)
    }

    /// Walks to the end, from wherever the walk stands; `false` when it was stopped before.
    fn walk_to_end(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
    ) -> Result<bool> {
        let mut restarted = false;
        loop {
            let Some(walk) = self.walk_now().cloned() else {
                return Ok(false);
            };
            match self.walk(session, source, &walk, None) {
                // A stale continuation: begin the walk again, once.
                Err(Error::Source(e)) if e.kind == SourceErrorKind::LinkExpired && !restarted => {
                    restarted = true;
                    self.restart();
                }
                Err(Error::Stopped) => {
                    self.note = Some("stopped before its end; the next run goes on".to_owned());
                    return Ok(false);
                }
                Err(error) => {
                    self.step_back(session, &error)?;
                    return Err(error);
                }
                Ok(()) => return Ok(true),
            }
        }
    }

    /// Deletes what a full walk did not meet, as far as the walk can be believed.
    fn settle_missing(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        count: Count,
        full: bool,
    ) -> Result<()> {
        match count {
            // Its own count tells whether the keys are all there now.
            Count::Short(_) if full => self.reconcile(session, source),
            Count::Short(note) => {
                // The watermark stays where it is: the next run reads all of it again.
                if let Some(walk) = &mut self.checkpoint.walk {
                    walk.max_seen = None;
                }
                self.note = Some(note);
                Ok(())
            }
            Count::Cut(error) => Err(error),
            Count::Fits if full && self.whole => self.sweep(session, source, |_| true),
            // Begun by an earlier process, over a store that held records: which of them were met
            // is not known any more; along links not even how much there was behind its place.
            Count::Fits if full && !self.is_sole() => self.reconcile(session, source),
            // Deletions that were shown and are shown no more.
            Count::Fits if self.overdue() => self.reconcile(session, source),
            Count::Fits => Ok(()),
        }
    }

    /// Whether the walk met every record that the store holds.
    fn is_sole(&self) -> bool {
        let by_key = self.policy.walk == WalkKind::Keyset;
        by_key && self.walk_now().is_some_and(|walk| walk.sole)
    }

    /// Whether so long has passed since the last complete run that the feed may have stopped
    /// showing what it deleted.
    fn overdue(&self) -> bool {
        let since = self.walk_now().map(|walk| walk.started);
        plan::overdue(&self.checkpoint, self.policy, since, self.now())
    }

    fn walk_now(&self) -> Option<&Walk> {
        self.checkpoint.walk.as_ref()
    }

    fn restart(&mut self) {
        if let Some(walk) = &mut self.checkpoint.walk {
            walk.position = WalkPosition::Start;
            walk.sole &= walk.records == 0;
            (walk.pages, walk.records, walk.settled) = (0, 0, 0);
        }
        (self.whole, self.resumed_at) = (true, None);
        self.seen = SlotSet::default();
        (self.expected, self.before) = (None, None);
    }

    /// After an answer that cannot be right: a continuation link that leads there came with the
    /// page before, so that page is asked for again. A link kept from an earlier run may have been
    /// wrong from the start: then so is the walk.
    fn step_back(&mut self, session: &mut Session<'_>, error: &Error) -> Result<()> {
        let malformed = matches!(error, Error::Source(e) if e.kind == SourceErrorKind::Malformed);
        let at_link = |walk: &Walk| matches!(walk.position, WalkPosition::Link(_));
        if !malformed || !self.walk_now().is_some_and(at_link) {
            return Ok(());
        }
        match self.before.take() {
            Some(walk) => self.checkpoint.walk = Some(walk),
            None => self.restart(),
        }
        self.save(session)
    }

    fn now(&self) -> Timestamp {
        (self.options.now)()
    }

    /// Walks to the end (or to the key `until`), applying and remembering the place in the same
    /// transactions.
    fn walk(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        walk: &Walk,
        until: Option<Key>,
    ) -> Result<()> {
        let setup = WalkSetup {
            resource: self.resource,
            policy: self.policy,
            key_spec: self.key_spec.clone(),
            max_pages: self.options.max_pages,
            until: until.map_or(Bound::Unbounded, Bound::Included),
        };
        let rejected = std::sync::Mutex::new(None);
        let begun = begun();
        let mut walker = FeedWalker::new(setup, walk, source, &rejected, &begun);
        let result = pump(&mut walker, Grouping::WhenIdle, |batch| {
            let begun = *lock(&begun);
            self.apply(session, batch, walk.kind, begun)
        });
        if let Some(page) = lock(&rejected).take() {
            // The page is kept for a look; the checkpoint stays before it.
            session.put_page_aside(&page)?;
        }
        result
    }

    fn apply(
        &mut self,
        session: &mut Session<'_>,
        batch: Vec<Step>,
        kind: RunKind,
        (server_time, expected): (Option<Timestamp>, Option<u64>),
    ) -> Result<()> {
        let Some(last) = batch.last() else {
            return Ok(());
        };
        let after = last.after.clone();
        let before_last = batch.iter().rev().nth(1).map(|step| step.after.clone());
        self.expected = self.expected.or(expected);
        let pages: Vec<SplitPage> = batch.into_iter().map(|step| step.page).collect();
        let mut checkpoint = self.checkpoint.clone();
        // A deep run has its own place, and leaves that of an interrupted walk alone.
        if let Some(walk) = checkpoint.walk.as_mut().filter(|walk| walk.kind == kind)
            && walk.position == WalkPosition::Start
        {
            // The earlier of two clocks: a record stamped in the future is no reason to go beyond
            // either.
            walk.started = server_time.map_or(walk.started, |at| at.min(walk.started));
            walk.server_began = server_time;
        }
        let bound = checkpoint.walk.as_ref().map(Walk::bound);
        let cursor_field = self.policy.cursor();
        let (resource, seen, policy) = (self.resource, &mut self.seen, self.policy);
        let (keyless, settled) = session.write(|txn, report| {
            report.expected = report.expected.or(expected);
            let mut applying = Applying::new(Cause::Sync, cursor_field, report);
            applying.seen = Some(seen);
            applying.gone = policy.gone.as_ref();
            applying.settled_by = bound.unwrap_or(applying.settled_by);
            txn.apply_pages(&pages, &mut applying)?;
            let (max_seen, keyless) = (applying.max_seen, applying.keyless);
            let settled = applying.settled;
            if let Some(walk) = checkpoint.walk.as_mut().filter(|walk| walk.kind == kind) {
                walk.position = after;
                walk.settled += settled.iter().sum::<u64>();
                walk.max_seen = walk.max_seen.max(max_seen);
                walk.pages += pages.len() as u64;
                walk.records += pages.iter().map(|p| p.entities.len() as u64).sum::<u64>();
            }
            txn.set_checkpoint(resource, &checkpoint)?;
            Ok((keyless, settled))
        })?;
        let mut before = self.checkpoint.walk.take();
        if let (Some(walk), Some(now), Some(position)) =
            (&mut before, &checkpoint.walk, before_last)
        {
            let last = pages.last().map_or(0, |page| page.entities.len() as u64);
            let last_settled = settled.get(pages.len() - 1).copied().unwrap_or(0);
            *walk = Walk {
                position,
                pages: now.pages - 1,
                records: now.records.saturating_sub(last),
                settled: now.settled.saturating_sub(last_settled),
                ..now.clone()
            };
        }
        self.before = before;
        self.checkpoint = checkpoint;
        self.keyless += keyless;
        self.progress.advanced(session.report());
        Ok(())
    }

    /// Moves the watermark: the highest stamp seen, but not past the server's time at the start.
    /// A walk that is not believed moves nothing: what it did not meet may have changed.
    fn end_walk(&mut self, session: &mut Session<'_>) -> Result<()> {
        let Some(walk) = self.checkpoint.walk.take() else {
            return Ok(());
        };
        let mut reached = walk.max_seen.map(|seen| seen.min(walk.started));
        if walk.kind == RunKind::Full && walk.records == 0 {
            // Nothing was there: all that comes is stamped later than the walk began.
            reached = Some(walk.started);
        }
        if !self.braked {
            self.checkpoint.watermark = self.checkpoint.watermark.max(reached);
        }
        self.checkpoint.state = SyncState::Live;
        if walk.kind == RunKind::Full && self.checkpoint.deletes_watermark.is_none() {
            // What was deleted before the walk began is not in it.
            self.checkpoint.deletes_watermark = Some(walk.started);
        }
        self.save(session)
    }

    fn save(&mut self, session: &mut Session<'_>) -> Result<()> {
        let (resource, checkpoint) = (self.resource, self.checkpoint.clone());
        session.write(|txn, _| txn.set_checkpoint(resource, &checkpoint))
    }
}

/// Whether a walk met too few records to be believed.
fn cut_short(met: u64, expected: u64) -> bool {
    expected.saturating_sub(met) > COUNT_SLACK.max(expected / COUNT_SLACK_SHARE)
}

fn short_walk(resource: &str, met: u64, expected: u64) -> Error {
    Error::Source(SourceError {
        kind: SourceErrorKind::Malformed,
        request: resource.to_owned(),
        reason: format!("the walk ended after {met} of the {expected} records the feed counts"),
    })
}

/// What the first page of a walk tells: nothing yet.
fn begun() -> walk::Begun {
    std::sync::Mutex::new((None, None))
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
