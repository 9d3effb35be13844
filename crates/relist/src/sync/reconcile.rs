//! Reconciliation: finding what no stamp and no list of deletions tells.
//!
//! A *reconcile* walks keys and stamps only. A key that is not in the store, or has another stamp,
//! is fetched; a record whose key the walk did not meet is swept (see [`super::sweep`]).
//!
//! A *deep* run reads whole records again, a slice of the keys at a time, and compares what they
//! say: it finds edits that moved no stamp.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::count::Count;
use super::walk::{FeedWalker, WalkSetup};
use super::{SyncRun, begun, lock};
use crate::error::{Error, Result};
use crate::ingest::{Comparing, Grouping, Session, SlotSet, pump};
use crate::keycode::Key;
use crate::source::PageSource;
use crate::store::{RunKind, Walk, WalkPosition};

use super::policy::Policy;

impl SyncRun<'_> {
    /// Compares keys and stamps with the feed's, fetches what differs and sweeps what is gone.
    pub(super) fn reconcile(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
    ) -> Result<()> {
        let (walk, differing) = self.compare_keys(session, source)?;
        match self.compare_count(session, source, &walk)? {
            Count::Fits => {}
            Count::Short(note) => self.note = Some(note),
            Count::Cut(error) => return Err(error),
        }
        for keys in differing.chunks(self.keys_a_request()) {
            self.fetch(session, source, keys)?;
        }
        self.sweep(session, source, |_| true)
    }

    /// Walks over all keys and stamps: the walk, and the keys whose records differ.
    fn compare_keys(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
    ) -> Result<(Walk, Vec<Key>)> {
        let Some(key_field) = self.key_spec.as_ref().map(|spec| spec.field.clone()) else {
            let reason = format!("{}: its key is not known before a full sync", self.resource);
            return Err(Error::Usage(reason));
        };
        let mut fields = vec![key_field];
        fields.extend(self.policy.cursor_field.clone());
        let policy = Policy {
            select: Some(fields.join(",")),
            expand: None,
            page_size: self.policy.page_size_keys.or(self.policy.page_size),
            ..self.policy.clone()
        };
        let walk = Walk::new(RunKind::Reconcile, WalkPosition::Start, self.now());
        let mut met = 0;
        let begun = begun();
        let rejected = std::sync::Mutex::new(None);
        let setup = WalkSetup {
            resource: self.resource,
            policy: &policy,
            key_spec: self.key_spec.clone(),
            max_pages: None,
            until: Bound::Unbounded,
        };
        let mut walker = FeedWalker::new(setup, &walk, source, &rejected, &begun);
        let (resource, keyless) = (self.resource, &mut self.keyless);
        let cursor = self.policy.cursor_field.as_deref();
        self.seen = SlotSet::default();
        let mut compared = Comparing {
            seen: &mut self.seen,
            differing: BTreeSet::new(),
            settled_by: walk.started,
            settled: 0,
        };
        let result = pump(&mut walker, Grouping::WhenIdle, |batch| {
            compared.settled_by = lock(&begun).0.unwrap_or(walk.started);
            for step in batch {
                let page = step.page;
                met += page.entities.len() as u64;
                let nameless = page.entities.iter().filter(|e| e.key.is_err()).count() as u64;
                *keyless += nameless;
                compared.settled += nameless;
                session.compare(resource, &page, cursor, &mut compared)?;
            }
            Ok(())
        });
        let (differing, settled) = (compared.differing, compared.settled);
        if let Some(page) = lock(&rejected).take() {
            session.put_page_aside(&page)?;
        }
        result?;
        let (server_time, expected) = *lock(&begun);
        session.note_checked(met, expected);
        (self.whole, self.expected, self.resumed_at) = (true, expected, None);
        let walk = Walk {
            records: met,
            settled,
            server_began: server_time,
            ..walk
        };
        Ok((walk, differing.into_iter().collect()))
    }

    /// Reads one slice of `of` again, whole, and sweeps it.
    pub(super) fn deep(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        (slice, of): (u32, u32),
    ) -> Result<()> {
        if slice == 0 || slice > of {
            return Err(Error::Usage(format!(
                "slice {slice} of {of}: expected 1 to {of}"
            )));
        }
        let keys = session.live_keys(self.resource)?;
        let edge = |n: u32| {
            let at = keys.len() as u64 * u64::from(n) / u64::from(of);
            usize::try_from(at)
                .ok()?
                .checked_sub(1)
                .and_then(|at| keys.get(at))
                .cloned()
        };
        // From behind the slice before to its own last key; the last slice has no end.
        let (after, until) = (edge(slice - 1), edge(slice).filter(|_| slice < of));
        let position = after
            .clone()
            .map_or(WalkPosition::Start, WalkPosition::After);
        let walk = Walk::new(RunKind::Deep, position, self.now());
        self.whole = true;
        self.walk(session, source, &walk, until.clone())?;
        self.sweep(session, source, |key| {
            after.as_ref().is_none_or(|low| key > low)
                && until.as_ref().is_none_or(|high| key <= high)
        })
    }
}
