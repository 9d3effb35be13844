//! The sweep: what a complete full walk did not meet.
//!
//! Absence from a walk is not proof: an offset walk loses rows that shift. So the feed is asked for
//! each missing key, and only what it does not have is deleted; what it has is applied. The brake
//! stops a sweep that would take too much at once.

use std::sync::Arc;

use super::SyncRun;
use super::policy::Policy;
use crate::decode::{KeySpec, SplitPage};
use crate::error::{Error, Result};
use crate::ingest::{Applying, Session};
use crate::keycode::Key;
use crate::source::{PageRequest, PageSource, QueryOptions};
use crate::store::{Cause, DeleteOutcome};

/// Keys asked for in one request: a URL stays well below 2,000 bytes.
pub(super) const KEYS_A_REQUEST: usize = 20;
/// The brake: so many deletions, or one in so many, are never held back.
const BRAKE_RECORDS: u64 = 50;
const BRAKE_SHARE: u64 = 50;

impl SyncRun<'_> {
    /// Deletes what the feed does not have any more, of the keys that the walk went over.
    pub(super) fn sweep(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        within: impl Fn(&Key) -> bool,
    ) -> Result<()> {
        if self.keyless > 0 {
            self.note = Some(format!(
                "{} records without a key are in quarantine: nothing was swept, for they may be \
                 the ones that are missing",
                self.keyless
            ));
            return Ok(());
        }
        let (resource, seen) = (self.resource, &self.seen);
        let (missing, live) = session.write(|txn, _| {
            let Some(id) = txn.catalog.id(resource) else {
                return Ok((Vec::new(), 0));
            };
            let live = txn.counters.live.get(usize::from(id)).copied().unwrap_or(0);
            let mut missing = txn.unseen(id, |slot| seen.contains(slot))?;
            missing.retain(|key| within(key));
            Ok((missing, live))
        })?;
        // Whatever the size: a feed that has nothing left is not believed without a confirmation.
        let allowed = BRAKE_RECORDS
            .max(live / BRAKE_SHARE)
            .min(live.saturating_sub(1));
        let would_delete = missing.len() as u64;
        if would_delete > allowed && !self.options.confirm {
            let brake = Error::Brake {
                resource: resource.to_owned(),
                would_delete,
                live,
                allowed,
            };
            self.note = Some(brake.to_string());
            self.braked = true;
            return Ok(());
        }
        for keys in missing.chunks(self.keys_a_request()) {
            // That the walk did not meet them is the other evidence.
            let doubtful = self.ask(session, source, keys, Evidence::Enough)?;
            self.note_kept(doubtful.len());
        }
        Ok(())
    }

    fn note_kept(&mut self, kept: usize) {
        if kept > 0 {
            self.note = Some(format!(
                "the feed does not answer for single keys: {kept} missing records were kept"
            ));
        }
    }

    /// How many keys are asked for at once: their records fit in one page.
    pub(super) fn keys_a_request(&self) -> usize {
        let page = self.policy.page_size.and_then(|n| usize::try_from(n).ok());
        page.map_or(KEYS_A_REQUEST, |page| page.clamp(1, KEYS_A_REQUEST))
    }

    /// Fetches and applies the records of keys; those that are not there are left as they are.
    pub(super) fn fetch(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        keys: &[Key],
    ) -> Result<()> {
        let Some(spec) = self.key_spec.clone() else {
            return Ok(());
        };
        let answer = self.answer(session, source, &spec, keys)?;
        if !answer.doubtful.is_empty() {
            self.note = Some(format!(
                "the feed did not answer in full for {} records that differ",
                answer.doubtful.len()
            ));
        }
        for page in &answer.pages {
            self.apply_page(session, page)?;
        }
        Ok(())
    }

    /// The request for the records of these keys, and no others.
    fn key_request(&self, field: &str, keys: &[Key]) -> PageRequest {
        let any = keys
            .iter()
            .map(|key| format!("{field} eq {}", key.to_literal()));
        let any = any.collect::<Vec<_>>().join(" or ");
        let filter = match &self.policy.filter {
            Some(clause) => format!("{clause} and ({any})"),
            None => any,
        };
        PageRequest::Query {
            resource: self.resource.to_owned(),
            options: QueryOptions {
                filter: Some(filter),
                select: self.policy.select.clone(),
                expand: self.policy.expand.clone(),
                count: true,
                ..QueryOptions::default()
            },
        }
    }

    /// Asks the feed for keys; applies what it has and deletes what it does not. Gives the keys
    /// that stay in doubt: of these nothing was done.
    pub(super) fn ask(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        keys: &[Key],
        evidence: Evidence,
    ) -> Result<Vec<Key>> {
        let Some(spec) = self.spec(session) else {
            return Ok(Vec::new());
        };
        let mut answer = self.answer(session, source, &spec, keys)?;
        let mut gone = Vec::new();
        for key in keys {
            if answer.found(key) || answer.doubtful.contains(key) {
                continue;
            }
            if evidence == Evidence::Enough
                || confirmed(source, self.policy, self.resource, &spec, key)?
            {
                gone.push(key);
            } else {
                answer.doubtful.push(key.clone());
            }
        }
        for page in &answer.pages {
            self.apply_page(session, page)?;
        }
        if !gone.is_empty() {
            self.delete(session, &gone)?;
        }
        Ok(answer.doubtful)
    }

    /// How the keys of the resource are read, once it is known.
    pub(super) fn spec(&self, session: &Session<'_>) -> Option<Arc<KeySpec>> {
        let known = self.key_spec.clone();
        known.or_else(|| session.key_spec(self.resource))
    }

    /// What the feed says of these keys. An answer that is in doubt is asked for again key by key,
    /// as far as those answers are better: one bad record must not hide the others.
    pub(super) fn answer(
        &self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        spec: &Arc<KeySpec>,
        keys: &[Key],
    ) -> Result<Answer> {
        let mut answer = Answer::default();
        let page = self.page_of(session, source, spec, keys)?;
        if answers(&page, keys) {
            answer.pages.push(page);
            return Ok(answer);
        }
        let mut rest = keys;
        while let (Some((key, after)), true) = (rest.split_first(), keys.len() > 1) {
            let one = std::slice::from_ref(key);
            let page = self.page_of(session, source, spec, one)?;
            if !answers(&page, one) {
                break;
            }
            answer.pages.push(page);
            rest = after;
        }
        answer.doubtful = rest.to_vec();
        Ok(answer)
    }

    /// The page of the records of these keys.
    pub(super) fn page_of(
        &self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        spec: &Arc<KeySpec>,
        keys: &[Key],
    ) -> Result<SplitPage> {
        let fetched = source.fetch(&self.key_request(&spec.field, keys))?;
        let spec = Some(Arc::clone(spec));
        match SplitPage::split(self.resource, &fetched.origin, fetched.body, spec) {
            Ok(page) => Ok(page),
            Err(rejected) => {
                session.put_page_aside(&rejected)?;
                Err(rejected.error.into())
            }
        }
    }

    fn delete(&mut self, session: &mut Session<'_>, gone: &[&Key]) -> Result<()> {
        let resource = self.resource;
        session.write(|txn, report| {
            for key in gone {
                let outcome = txn.delete(resource, key, None, Cause::Reconcile, "")?;
                report.deleted += u64::from(outcome == DeleteOutcome::Deleted);
            }
            Ok(())
        })?;
        self.progress.advanced(session.report());
        Ok(())
    }

    /// Applies a page of single records.
    pub(super) fn apply_page(&mut self, session: &mut Session<'_>, page: &SplitPage) -> Result<()> {
        let (policy, seen) = (self.policy, &mut self.seen);
        session.write(|txn, report| {
            let mut applying = Applying::new(Cause::Sync, policy.cursor(), report);
            applying.gone = policy.gone.as_ref();
            // What was fetched is there: a sweep need not ask for it again.
            applying.seen = Some(seen);
            txn.apply_pages(std::slice::from_ref(page), &mut applying)
        })?;
        self.progress.advanced(session.report());
        Ok(())
    }
}

/// What else speaks for it that a record is gone, besides one answer without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// A complete walk that did not meet it, or the feed's own list.
    Enough,
    /// Nothing: the feed is asked once more, in another way.
    Wanted,
}

/// What a feed says of some keys.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Pages that answer in full for their keys.
    pub(super) pages: Vec<SplitPage>,
    /// Keys without an answer that can be believed.
    pub(super) doubtful: Vec<Key>,
}

impl Answer {
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        let entities = self.pages.iter().flat_map(|page| &page.entities);
        entities.filter_map(|entity| entity.key.as_ref().ok())
    }

    fn found(&self, key: &Key) -> bool {
        self.keys().any(|found| found == key)
    }
}

/// Asks in another way for a record that a query did not find: for the entity itself, or, where the
/// source has no such request, by a query of another form. True when the feed does not have it.
pub(super) fn confirmed(
    source: &mut dyn PageSource,
    policy: &Policy,
    resource: &str,
    spec: &Arc<KeySpec>,
    key: &Key,
) -> Result<bool> {
    if let Some(there) = source.holds(resource, key)? {
        return Ok(!there);
    }
    let own = format!("{} eq {}", spec.field, key.to_literal());
    let request = PageRequest::Query {
        resource: resource.to_owned(),
        options: QueryOptions {
            filter: Some(match &policy.filter {
                Some(clause) => format!("{clause} and {own}"),
                None => own,
            }),
            select: Some(spec.field.clone()),
            count: true,
            ..QueryOptions::default()
        },
    };
    let fetched = source.fetch(&request)?;
    let spec = Some(Arc::clone(spec));
    let page = SplitPage::split(resource, &fetched.origin, fetched.body, spec);
    let page = page.map_err(|rejected| rejected.error)?;
    Ok(page.entities.is_empty() && answers(&page, std::slice::from_ref(key)))
}

/// Whether a page is a whole answer about these keys: nothing else, nothing cut off, and as much as
/// it counts, where it counts.
pub(super) fn answers(page: &SplitPage, keys: &[Key]) -> bool {
    let asked_for = |e: &crate::decode::RawEntity| e.key.as_ref().is_ok_and(|k| keys.contains(k));
    page.entities.iter().all(asked_for)
        && page.next_link.is_none()
        && page
            .count
            .is_none_or(|count| count == page.entities.len() as u64)
}
