//! Walking a query: which request comes next, and when it is the end.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use super::count::counts;
use super::fits::{KeyBounds, too_little};
use super::lock;
use super::policy::{Policy, WalkKind};
use crate::decode::{KeySpec, Rejected, SplitPage};
use crate::error::{Error, Result, SourceError, SourceErrorKind};
use crate::ingest::{Step, Walker};
use crate::keycode::Key;
use crate::source::{Page, PageRequest, PageSource, QueryOptions};
use crate::store::{RunKind, Walk, WalkPosition};
use crate::value::Timestamp;

/// What a walk goes over, and by which rules.
pub(super) struct WalkSetup<'a> {
    pub(super) resource: &'a str,
    pub(super) policy: &'a Policy,
    pub(super) key_spec: Option<Arc<KeySpec>>,
    pub(super) max_pages: Option<u64>,
    /// The last key of a slice.
    pub(super) until: Bound<Key>,
}

/// The server's time of the first page, and its count.
pub(super) type Begun = Mutex<(Option<Timestamp>, Option<u64>)>;

/// Walks one query of a feed.
pub(super) struct FeedWalker<'a> {
    setup: WalkSetup<'a>,
    kind: RunKind,
    since: Option<Timestamp>,
    position: WalkPosition,
    source: &'a mut dyn PageSource,
    rejected: &'a Mutex<Option<Rejected>>,
    begun: &'a Begun,
    links: Links,
    pages: u64,
    ended: bool,
}

impl<'a> FeedWalker<'a> {
    pub(super) fn new(
        setup: WalkSetup<'a>,
        walk: &Walk,
        source: &'a mut dyn PageSource,
        rejected: &'a Mutex<Option<Rejected>>,
        begun: &'a Begun,
    ) -> Self {
        FeedWalker {
            setup,
            kind: walk.kind,
            since: walk.since,
            position: walk.position.clone(),
            source,
            rejected,
            begun,
            links: Links::default(),
            pages: 0,
            ended: false,
        }
    }

    /// The request for the page at the walk's position.
    fn request(&self) -> PageRequest {
        let resource = self.setup.resource.to_owned();
        if let WalkPosition::Link(link) = &self.position {
            return PageRequest::Next {
                resource,
                link: link.clone(),
            };
        }
        let policy = self.setup.policy;
        let mut clauses = conditions(policy, self.kind, self.since);
        if let Bound::Included(key) = &self.setup.until {
            clauses.push(format!("{} le {}", self.key_field(), key.to_literal()));
        }
        if let WalkPosition::After(key) = &self.position {
            clauses.push(format!("{} gt {}", self.key_field(), key.to_literal()));
        }
        let keyset = policy.walk == WalkKind::Keyset || self.kind == RunKind::Deep;
        let by_top = keyset && !policy.prefer_page_size;
        // The first full walk without an order has none to ask for; nextLink keeps its own.
        let orderby = match (keyset, policy.orderby, &policy.cursor_field) {
            (true, ..) => Some(self.key_field().to_owned()).filter(|f| !f.is_empty()),
            (false, true, Some(field)) if self.since.is_some() => Some(field.clone()),
            _ => None,
        };
        PageRequest::Query {
            resource,
            options: QueryOptions {
                filter: (!clauses.is_empty()).then(|| clauses.join(" and ")),
                orderby,
                select: policy.select.clone(),
                expand: policy.expand.clone(),
                top: policy.page_size.filter(|_| by_top),
                count: counts(self.kind) && self.position == WalkPosition::Start,
                page_size: policy.page_size.filter(|_| !by_top),
            },
        }
    }

    fn key_field(&self) -> &str {
        match (&self.setup.key_spec, &self.setup.policy.key_field) {
            (Some(spec), _) => &spec.field,
            (None, Some(field)) => field,
            (None, None) => "",
        }
    }

    /// Where the walk goes on after a page; `None` when the page was the last.
    fn after(&mut self, page: &SplitPage, link: Option<String>) -> Result<Option<WalkPosition>> {
        if let Some(why) = too_little(page, self.setup.policy) {
            return Err(malformed(page, why));
        }
        if self.setup.policy.walk == WalkKind::NextLink && self.kind != RunKind::Deep {
            let Some(link) = link else {
                return Ok(None);
            };
            self.links.follow(&link, &page.origin)?;
            return Ok(Some(WalkPosition::Link(link)));
        }
        if page.entities.is_empty() {
            // Only an empty page proves the end: a short one may have been cut.
            return Ok(None);
        }
        if let Some(why) = self.bounds().misfit(page) {
            return Err(malformed(page, why));
        }
        let mut keys = page.entities.iter().filter_map(|e| e.key.as_ref().ok());
        let first = keys.next();
        let last = keys.next_back().or(first);
        let Some(last) = last else {
            return Err(malformed(
                page,
                "no record of the page has a key: the walk cannot go on",
            ));
        };
        if matches!(&self.position, WalkPosition::After(previous) if last == previous) {
            return Err(malformed(
                page,
                "the page ends at the key it was to begin behind: the server ignores $filter or \
                 $orderby; use a nextLink walk",
            ));
        }
        Ok(Some(WalkPosition::After(last.clone())))
    }

    /// Which keys were asked for.
    fn bounds(&self) -> KeyBounds<'_> {
        KeyBounds {
            after: match &self.position {
                WalkPosition::After(key) => Some(key),
                _ => None,
            },
            until: match &self.setup.until {
                Bound::Included(key) => Some(key),
                _ => None,
            },
        }
    }

    fn split(&mut self, fetched: Page) -> Result<(SplitPage, Option<String>)> {
        let spec = self.setup.key_spec.clone();
        match SplitPage::split(self.setup.resource, &fetched.origin, fetched.body, spec) {
            Ok(page) => {
                if self.setup.key_spec.is_none() && !page.key_spec.field.is_empty() {
                    self.setup.key_spec = Some(Arc::clone(&page.key_spec));
                }
                let link = page.next_link.clone().or(fetched.next_link);
                Ok((page, link))
            }
            Err(rejected) => {
                let error = rejected.error.clone();
                *lock(self.rejected) = Some(*rejected);
                Err(error.into())
            }
        }
    }
}

/// The conditions of a walk's query, without its place.
pub(super) fn conditions(policy: &Policy, kind: RunKind, since: Option<Timestamp>) -> Vec<String> {
    let mut clauses: Vec<String> = policy.filter.iter().cloned().collect();
    if kind != RunKind::Incremental {
        clauses.extend(policy.initial_filter.clone());
    }
    if let (Some(since), Some(field)) = (since, &policy.cursor_field) {
        clauses.push(format!("{field} ge {}", policy.timestamp(since)));
    }
    clauses
}

impl Walker for FeedWalker<'_> {
    fn next(&mut self) -> Result<Option<Step>> {
        if self.ended {
            return Ok(None);
        }
        if self.setup.max_pages.is_some_and(|most| self.pages >= most) {
            return Err(Error::Stopped);
        }
        let request = self.request();
        let fetched = match self.source.fetch(&request) {
            Err(e) if e.kind == SourceErrorKind::Stopped => return Err(Error::Stopped),
            other => other?,
        };
        let server_time = fetched
            .server_time
            .and_then(crate::value::DateTime::to_timestamp);
        let (page, link) = self.split(fetched)?;
        if self.pages == 0 {
            *lock(self.begun) = (server_time, page.count);
        }
        self.pages += 1;
        let after = self.after(&page, link)?;
        self.ended = after.is_none();
        // The last page leaves the place where it is: the walk's end is stored by itself.
        let after = after.unwrap_or_else(|| self.position.clone());
        self.position = after.clone();
        Ok(Some(Step::new(page, after)))
    }
}

/// The continuation links followed so far: a link that comes twice is a loop.
#[derive(Default)]
pub(super) struct Links {
    seen: HashSet<u128>,
}

impl Links {
    /// # Errors
    /// [`Error::Source`] when the link was followed before.
    pub(super) fn follow(&mut self, link: &str, origin: &str) -> Result<()> {
        if self
            .seen
            .insert(xxhash_rust::xxh3::xxh3_128(link.as_bytes()))
        {
            return Ok(());
        }
        Err(Error::Source(SourceError {
            kind: SourceErrorKind::Malformed,
            request: origin.to_owned(),
            reason: format!("its nextLink was followed before, the walk would never end: {link}"),
        }))
    }
}

fn malformed(page: &SplitPage, reason: &str) -> Error {
    Error::Source(SourceError {
        kind: SourceErrorKind::Malformed,
        request: page.origin.clone(),
        reason: reason.to_owned(),
    })
}
