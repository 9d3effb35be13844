//! The photo cursor: a change of photos moves a stamp of its own.
//!
//! `PhotosChangeTimestamp` moves, `ModificationTimestamp` does not: an incremental walk never meets
//! such a record. So what is stamped so since the last time is read again, whole, with a watermark
//! of its own under the name `Property/photos`.

use std::ops::Bound;

use super::policy::Policy;
use super::walk::{FeedWalker, WalkSetup};
use super::{SyncRun, begun, lock};
use crate::error::{Error, Result, SourceErrorKind};
use crate::ingest::{Applying, Grouping, Session, Step, pump};
use crate::source::PageSource;
use crate::store::{Cause, Checkpoint, RunKind, SyncState, Walk, WalkPosition};
use crate::value::Timestamp;

/// The name that the photo cursor's checkpoint is stored under.
fn name(resource: &str) -> String {
    format!("{resource}/photos")
}

impl SyncRun<'_> {
    /// Reads the records again whose photos changed. `full` is when a full walk began that has just
    /// ended: it read all of them. False when it was stopped before its end.
    pub(super) fn photos(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        full: Option<Timestamp>,
    ) -> Result<bool> {
        let Some(field) = &self.policy.photo_cursor else {
            return Ok(true);
        };
        let name = name(self.resource);
        let mut mark = session.checkpoint(&name)?;
        if full.is_some() {
            mark.watermark = mark.watermark.max(full);
            (mark.walk, mark.state) = (None, SyncState::Live);
            session.write(|txn, _| txn.set_checkpoint(&name, &mark))?;
            return Ok(true);
        }
        let policy = Policy {
            cursor_field: Some(field.clone()),
            ..self.policy.clone()
        };
        let mut restarted = false;
        loop {
            match self.photo_walk(session, source, &policy, &mut mark) {
                Err(Error::Source(e)) if e.kind == SourceErrorKind::LinkExpired && !restarted => {
                    restarted = true;
                    mark.walk = None;
                }
                Err(Error::Stopped) => {
                    self.note = Some("stopped before its end; the next run goes on".to_owned());
                    return Ok(false);
                }
                other => {
                    other?;
                    break;
                }
            }
        }
        if let Some(walk) = mark.walk.take() {
            let reached = walk.max_seen.map(|seen| seen.min(walk.started));
            mark.watermark = mark.watermark.max(reached);
        }
        mark.state = SyncState::Live;
        mark.last_complete = Some(self.now());
        session.write(|txn, _| txn.set_checkpoint(&name, &mark))?;
        Ok(true)
    }

    /// Walks from where `mark` is to the end.
    fn photo_walk(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        policy: &Policy,
        mark: &mut Checkpoint,
    ) -> Result<()> {
        let overlap = i64::try_from(policy.overlap_seconds)
            .unwrap_or(0)
            .saturating_mul(1_000_000);
        let walk = mark.walk.clone().unwrap_or_else(|| Walk {
            // Without a watermark every record is read, once.
            since: mark
                .watermark
                .map(|w| Timestamp(w.0.saturating_sub(overlap))),
            ..Walk::new(RunKind::Incremental, WalkPosition::Start, self.now())
        });
        mark.walk = Some(walk.clone());
        let setup = WalkSetup {
            resource: self.resource,
            policy,
            key_spec: self.key_spec.clone(),
            max_pages: self.options.max_pages,
            until: Bound::Unbounded,
        };
        let rejected = std::sync::Mutex::new(None);
        let begun = begun();
        let mut walker = FeedWalker::new(setup, &walk, source, &rejected, &begun);
        let result = pump(&mut walker, Grouping::WhenIdle, |batch| {
            let server_time = lock(&begun).0;
            self.apply_photos(session, batch, server_time, policy.cursor(), mark)
        });
        if let Some(page) = lock(&rejected).take() {
            session.put_page_aside(&page)?;
        }
        result
    }

    fn apply_photos(
        &mut self,
        session: &mut Session<'_>,
        batch: Vec<Step>,
        server_time: Option<Timestamp>,
        field: &str,
        mark: &mut Checkpoint,
    ) -> Result<()> {
        let Some(after) = batch.last().map(|step| step.after.clone()) else {
            return Ok(());
        };
        let mut latest = None;
        for step in &batch {
            latest = latest.max(session.latest(self.resource, &step.page, field)?);
        }
        let pages: Vec<_> = batch.into_iter().map(|step| step.page).collect();
        let mut next = mark.clone();
        if let Some(walk) = &mut next.walk {
            if walk.position == WalkPosition::Start {
                walk.started = server_time.unwrap_or(walk.started);
            }
            walk.position = after;
            walk.max_seen = walk.max_seen.max(latest);
            walk.pages += pages.len() as u64;
            walk.records += pages.iter().map(|p| p.entities.len() as u64).sum::<u64>();
        }
        let (policy, name) = (self.policy, name(self.resource));
        session.write(|txn, report| {
            // A record's source time is what its own stamp says, whichever stamp led to it.
            let mut applying = Applying::new(Cause::Sync, policy.cursor(), report);
            applying.gone = policy.gone.as_ref();
            txn.apply_pages(&pages, &mut applying)?;
            txn.set_checkpoint(&name, &next)
        })?;
        *mark = next;
        self.progress.advanced(session.report());
        Ok(())
    }
}
