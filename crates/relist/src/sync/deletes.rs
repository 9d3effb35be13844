//! Deletions that the feed lists.
//!
//! A list tells what was deleted, not what came back: a record may be there again, with the stamp
//! it had before, while its deletion is still listed. So the feed is asked for each record that is
//! to be deleted, and what it has is applied instead.

use std::collections::HashSet;
use std::sync::Arc;

use super::walk::Links;
use super::{SyncRun, short_walk};
use crate::decode::SplitPage;
use crate::error::{Result, SourceErrorKind};
use crate::ingest::{DeletedFeed, Session, apply_deletes};
use crate::keycode::Key;
use crate::source::{PageRequest, PageSource, QueryOptions};
use crate::value::Timestamp;

impl SyncRun<'_> {
    /// Applies what the feed says was deleted since the last time, less the overlap.
    pub(super) fn deletes(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        feed: &DeletedFeed,
        started: Option<Timestamp>,
    ) -> Result<()> {
        let mut request = self.list_request(feed);
        let spec = Some(Arc::new(feed.key_spec()));
        let mut links = Links::default();
        let (mut latest, mut met, mut expected) = (None, 0, None);
        let mut in_doubt = 0;
        loop {
            let fetched = match (source.fetch(&request), &mut request) {
                // A list that is not counted is believed as it is.
                (Err(e), PageRequest::Query { options, .. })
                    if e.kind == SourceErrorKind::Refused && options.count =>
                {
                    options.count = false;
                    continue;
                }
                (fetched, _) => fetched?,
            };
            let page =
                SplitPage::split(&feed.resource, &fetched.origin, fetched.body, spec.clone());
            let page = match page {
                Ok(page) => page,
                Err(rejected) => {
                    session.put_page_aside(&rejected)?;
                    return Err(rejected.error.into());
                }
            };
            let next = page.next_link.clone().or(fetched.next_link);
            met += page.entities.len() as u64;
            expected = expected.or(page.count);
            if !page.entities.is_empty() {
                let (kept, doubtful) = self.still_there(session, source, feed, &page)?;
                in_doubt += doubtful;
                let only = Some((self.resource, &kept));
                let seen = session.write(|txn, report| {
                    apply_deletes(txn, feed, std::slice::from_ref(&page), only, report)
                })?;
                latest = latest.max(seen);
            }
            let Some(link) = next else { break };
            links.follow(&link, &page.origin)?;
            request = PageRequest::Next {
                resource: feed.resource.clone().into_owned(),
                link,
            };
        }
        if let Some(expected) = expected.filter(|expected| met < *expected) {
            return Err(short_walk(&feed.resource, met, expected));
        }
        if in_doubt > 0 {
            // The list is read again from where it was.
            self.note = Some(format!(
                "the feed did not answer for {in_doubt} records that it lists as deleted: they \
                 were kept"
            ));
            return Ok(());
        }
        let reached = latest.map(|at: Timestamp| started.map_or(at, |s| at.min(s)));
        self.checkpoint.deletes_watermark = self.checkpoint.deletes_watermark.max(reached);
        Ok(())
    }

    /// The request for what was deleted since the last time, less the overlap.
    fn list_request(&self, feed: &DeletedFeed) -> PageRequest {
        let overlap = i64::try_from(self.policy.overlap_seconds).unwrap_or(0) * 1_000_000;
        let from = self.checkpoint.deletes_watermark.unwrap_or(Timestamp(0));
        let since = self
            .policy
            .timestamp(Timestamp(from.0.saturating_sub(overlap)));
        PageRequest::Query {
            resource: feed.resource.clone().into_owned(),
            options: QueryOptions {
                filter: Some(format!(
                    "{} eq '{}' and {} ge {since}",
                    feed.resource_field, self.resource, feed.time_field
                )),
                page_size: self.policy.page_size,
                count: true,
                ..QueryOptions::default()
            },
        }
    }

    /// Of the current records that a page of the list names, those that the feed has, which are
    /// applied as they are now, and those of which it does not say, with their number.
    fn still_there(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        feed: &DeletedFeed,
        page: &SplitPage,
    ) -> Result<(HashSet<Key>, usize)> {
        let (mut kept, mut in_doubt) = (HashSet::new(), 0);
        let Some(spec) = self.spec(session) else {
            return Ok((kept, in_doubt));
        };
        let named = feed.named(page, self.resource, &spec);
        let current = session.current(self.resource, named)?;
        for keys in current.chunks(self.keys_a_request()) {
            let answer = self.answer(session, source, &spec, keys)?;
            kept.extend(answer.keys().cloned());
            for page in &answer.pages {
                self.apply_page(session, page)?;
            }
            in_doubt += answer.doubtful.len();
            kept.extend(answer.doubtful);
        }
        Ok((kept, in_doubt))
    }
}
