//! Incremental runs by events: RESO's EntityEvent (RCP-27).
//!
//! The feed numbers what happens; an event says that a record changed, not how. The records of the
//! events after the last number are fetched by key; one that the feed does not have any more is
//! gone for this consumer. The number is stored with what was applied. Before the first full walk
//! the feed's latest number is noted, so that nothing between the two is missed.

use super::policy::EventFeed;
use super::sweep::Evidence;
use super::{SyncRun, walk};
use crate::decode::{KeySpec, SplitPage};
use crate::error::{Error, Result, SourceError, SourceErrorKind};
use crate::ingest::Session;
use crate::keycode::Key;
use crate::source::{PageRequest, PageSource, QueryOptions};

impl SyncRun<'_> {
    /// Notes where the events stand before a first full walk.
    pub(super) fn note_event_sequence(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        feed: &EventFeed,
    ) -> Result<()> {
        if self.checkpoint.event_sequence.is_some() {
            return Ok(());
        }
        let request = PageRequest::Query {
            resource: feed.resource.clone(),
            options: QueryOptions {
                orderby: Some(format!("{} desc", feed.sequence_field)),
                top: Some(1),
                ..QueryOptions::default()
            },
        };
        let page = Self::event_page(session, source, feed, &request)?.0;
        let last = page.entities.first().and_then(|e| match &e.key {
            Ok(Key::Int(sequence)) => Some(*sequence),
            _ => None,
        });
        self.checkpoint.event_sequence = Some(last.unwrap_or(0));
        Ok(())
    }

    /// Applies what happened since the last event.
    pub(super) fn follow_events(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        feed: &EventFeed,
    ) -> Result<()> {
        let spec = self.key_spec.clone().ok_or_else(|| {
            Error::Usage(format!(
                "{}: its key is not known before a sync",
                self.resource
            ))
        })?;
        let mut links = walk::Links::default();
        let mut at = self.checkpoint.event_sequence.unwrap_or(0);
        let mut request = self.events_after(feed, at);
        let (mut in_doubt, mut settled) = (0, true);
        loop {
            let (page, link) = Self::event_page(session, source, feed, &request)?;
            let events = self.read_events(feed, &page, &spec, &mut at)?;
            let keys: Vec<Key> = events.iter().map(|(key, _)| key.clone()).collect();
            let mut doubtful = Vec::new();
            for chunk in keys.chunks(self.keys_a_request()) {
                // An event does not say that its record is gone.
                doubtful.extend(self.ask(session, source, chunk, Evidence::Wanted)?);
            }
            if settled {
                // The records are durable before the number is: an event read twice changes
                // nothing. It stays before the first event whose record is in doubt.
                let first = events.iter().filter(|(key, _)| doubtful.contains(key));
                let before = first.map(|(_, sequence)| sequence - 1).min();
                self.checkpoint.event_sequence = Some(before.unwrap_or(at));
                self.save(session)?;
            }
            settled &= doubtful.is_empty();
            in_doubt += doubtful.len();
            request = match link {
                Some(link) => {
                    links.follow(&link, &page.origin)?;
                    PageRequest::Next {
                        resource: feed.resource.clone(),
                        link,
                    }
                }
                None if page.entities.is_empty() => break,
                None => self.events_after(feed, at),
            };
        }
        if in_doubt > 0 {
            self.note = Some(format!(
                "the feed does not answer for {in_doubt} records that its events name: their \
                 events are read again"
            ));
            return Ok(());
        }
        self.checkpoint.last_complete = Some(self.now());
        self.save(session)
    }

    /// The keys that the events of a page name, each with its first event; `at` moves to the last
    /// event of the page.
    fn read_events(
        &self,
        feed: &EventFeed,
        page: &SplitPage,
        spec: &KeySpec,
        at: &mut i64,
    ) -> Result<Vec<(Key, i64)>> {
        let mut out: Vec<(Key, i64)> = Vec::new();
        for raw in &page.entities {
            let event = read_event(feed, page.text(raw), spec);
            let (sequence, resource, key) =
                event.map_err(|reason| malformed(&page.origin, reason))?;
            if sequence <= *at {
                // What lies between would be passed over for ever.
                let reason = format!(
                    "event {sequence} comes after {at}: expected the events after it in order of \
                     {}; the server ignores $filter or $orderby",
                    feed.sequence_field
                );
                return Err(malformed(&page.origin, reason));
            }
            *at = sequence;
            if resource != self.resource {
                continue;
            }
            let key = key.map_err(|reason| malformed(&page.origin, reason))?;
            if !out.iter().any(|(known, _)| *known == key) {
                out.push((key, sequence));
            }
        }
        Ok(out)
    }

    fn events_after(&self, feed: &EventFeed, after: i64) -> PageRequest {
        PageRequest::Query {
            resource: feed.resource.clone(),
            options: QueryOptions {
                filter: Some(format!("{} gt {after}", feed.sequence_field)),
                orderby: Some(feed.sequence_field.clone()),
                page_size: self.policy.page_size,
                ..QueryOptions::default()
            },
        }
    }

    fn event_page(
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        feed: &EventFeed,
        request: &PageRequest,
    ) -> Result<(SplitPage, Option<String>)> {
        let fetched = source.fetch(request)?;
        let spec = KeySpec::new(feed.sequence_field.clone(), true);
        match SplitPage::split(
            &feed.resource,
            &fetched.origin,
            fetched.body,
            Some(spec.into()),
        ) {
            Ok(page) => {
                let link = page.next_link.clone().or(fetched.next_link);
                Ok((page, link))
            }
            Err(rejected) => {
                session.put_page_aside(&rejected)?;
                Err(rejected.error.into())
            }
        }
    }
}

/// Number, resource and key of an event. Keys of other resources may be of another kind: whether
/// the key can be read matters only for this one.
type Event = (i64, String, Result<Key, String>);

fn read_event(feed: &EventFeed, text: &str, spec: &KeySpec) -> Result<Event, String> {
    let row: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let field = |name: &str| {
        row.get(name)
            .ok_or_else(|| format!("an event has no {name}"))
    };
    let sequence = field(&feed.sequence_field)?;
    let sequence = sequence
        .as_i64()
        .or_else(|| sequence.as_str()?.parse().ok())
        .ok_or_else(|| format!("{} is {sequence}, expected an integer", feed.sequence_field))?;
    let resource = field(&feed.resource_field)?
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let key = spec.read(&field(&feed.key_field)?.to_string());
    Ok((sequence, resource, key))
}

fn malformed(origin: &str, reason: String) -> Error {
    Error::Source(SourceError {
        kind: SourceErrorKind::Malformed,
        request: origin.to_owned(),
        reason,
    })
}
