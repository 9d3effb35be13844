//! The feed's own count, held against what a walk met.
//!
//! A page that was cut short and is still valid JSON looks like the last one; only the count tells.
//! Where it says that there should have been more, the feed is asked again: how many records are
//! there now that were not stamped since the walk began? Each of them was there all the time, so
//! the walk had to meet it, however many came and went meanwhile.

use super::walk::conditions;
use super::{SyncRun, cut_short, short_walk};
use crate::decode::SplitPage;
use crate::error::{Error, Result};
use crate::ingest::Session;
use crate::keycode::Key;
use crate::source::{PageRequest, PageSource, QueryOptions};
use crate::store::{RunKind, Walk};

/// What the feed's count says of a walk.
#[derive(Debug)]
pub(super) enum Count {
    /// It met all that there was; or the feed does not count.
    Fits,
    /// It met a few records fewer than it had to: in words.
    Short(String),
    /// It met many fewer.
    Cut(Error),
}

impl SyncRun<'_> {
    /// Holds the count against the walk that has just ended.
    pub(super) fn check_count(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
    ) -> Result<Count> {
        let Some(walk) = self.walk_now().cloned() else {
            return Ok(Count::Fits);
        };
        let count = self.compare_count(session, source, &walk);
        if count.is_err() {
            self.restart();
            self.save(session)?;
        }
        count
    }

    /// Holds the count against a walk.
    pub(super) fn compare_count(
        &self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        walk: &Walk,
    ) -> Result<Count> {
        let at_start = self.expected;
        if self.whole && at_start.is_none_or(|count| walk.records >= count) {
            return Ok(Count::Fits);
        }
        // Of a walk that began in an earlier run only the count of now is known. Records stamped
        // later than it began are not in that count; nor are those stamped in the far future.
        let by_stamp = self.policy.cursor_field.is_some();
        let (mut met, mut count) = match self.recount(session, source, walk, None)? {
            Some(count) if by_stamp => (walk.settled, Some(count)),
            other => (walk.records, other.or(at_start)),
        };
        if count.is_none_or(|count| met >= count)
            && let Some((place, settled)) = self.resumed_at.as_ref().filter(|_| by_stamp)
        {
            // Records met by an earlier process and changed since are in what was met, and not in
            // that count: they would hide as many that are missing behind the place.
            count = self.recount(session, source, walk, Some(place))?;
            met = walk.settled.saturating_sub(*settled);
        }
        let Some(count) = count.filter(|count| met < *count) else {
            return Ok(Count::Fits);
        };
        let cut = cut_short(met, count);
        // The numbers that anyone can check are the plain ones, where they tell as much.
        let (met, count) = match at_start {
            Some(at_start) if self.whole && walk.records < at_start => (walk.records, at_start),
            _ => (met, count),
        };
        if cut {
            return Ok(Count::Cut(short_walk(self.resource, met, count)));
        }
        let resource = self.resource;
        Ok(Count::Short(format!(
            "the walk met {met} of the {count} {resource} records the feed counts"
        )))
    }

    /// How many records of the walk there are now that were not stamped after it began; `None`
    /// when the feed does not say. With a key, only those behind it.
    fn recount(
        &self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        walk: &Walk,
        behind: Option<&Key>,
    ) -> Result<Option<u64>> {
        let spec = self
            .key_spec
            .clone()
            .or_else(|| session.key_spec(self.resource));
        let mut clauses = conditions(self.policy, walk.kind, walk.since);
        if let Some(field) = &self.policy.cursor_field {
            // Stamps are the server's: its own time bounds them, not the earlier of two clocks.
            let bound = self.policy.timestamp(walk.bound());
            clauses.push(format!("{field} le {bound}"));
        }
        if let (Some(key), Some(spec)) = (behind, &spec) {
            clauses.push(format!("{} gt {}", spec.field, key.to_literal()));
        }
        let request = PageRequest::Query {
            resource: self.resource.to_owned(),
            options: QueryOptions {
                filter: (!clauses.is_empty()).then(|| clauses.join(" and ")),
                select: spec.as_ref().map(|spec| spec.field.clone()),
                top: Some(1),
                count: true,
                ..QueryOptions::default()
            },
        };
        let fetched = source.fetch(&request)?;
        match SplitPage::split(self.resource, &fetched.origin, fetched.body, spec) {
            Ok(page) => Ok(page.count),
            Err(rejected) => {
                session.put_page_aside(&rejected)?;
                Err(rejected.error.into())
            }
        }
    }
}

/// Whether a walk asks for the count: those that have to meet every record of their query.
pub(super) fn counts(kind: RunKind) -> bool {
    matches!(
        kind,
        RunKind::Full | RunKind::Incremental | RunKind::Reconcile
    )
}
