//! Refresh: given records fetched again, with what belongs to them, whatever their stamps say.
//!
//! At most so many requests are in flight. Each key has a result of its own: what was found, or
//! the error; one that fails stops no other. A key that the feed, asked for it in two ways, does
//! not have is deleted: one empty answer may be a query gone wrong.

use std::sync::Arc;

use super::sweep::confirmed;
use super::{Policy, SyncOptions};
use crate::decode::{KeySpec, SplitPage};
use crate::error::{Error, Result, SourceError, SourceErrorKind};
use crate::ingest::{Applying, Progress, Session, fan_out};
use crate::keycode::Key;
use crate::source::{PageRequest, PageSource, QueryOptions};
use crate::store::{Cause, DeleteOutcome, Outcome, RunKind, RunReport, Store};

/// The most pages of one related resource for one key.
const MAX_PAGES: usize = 100;

/// A resource whose records belong to those of another: open houses to a listing.
#[derive(Debug, Clone)]
pub struct Related {
    /// The resource: `OpenHouse`.
    pub resource: String,
    /// Its field that holds the other's key: `ListingKeyNumeric`.
    pub field: String,
    /// How it is read.
    pub policy: Policy,
}

/// What to fetch again.
#[derive(Debug, Clone, Copy)]
pub struct Refresh<'a> {
    /// The resource: `Property`.
    pub resource: &'a str,
    /// The keys of its records.
    pub keys: &'a [Key],
    /// What belongs to them.
    pub related: &'a [Related],
    /// How the resource is read.
    pub policy: &'a Policy,
    /// The most requests in flight.
    pub in_flight: usize,
}

/// What came of one key.
#[derive(Debug)]
pub struct Refreshed {
    /// The key asked for.
    pub key: Key,
    /// Records the feed has for it, by resource, the key's own first; or why it failed. None of
    /// its own means that the record is gone.
    pub outcome: Result<Vec<(String, u64)>>,
}

/// Makes a source for each of the workers.
pub type Connect<'c> = dyn Fn() -> Box<dyn PageSource> + Sync + 'c;

impl Store {
    /// Fetches records by key, with all that is related to them.
    ///
    /// # Errors
    /// Only of the store, or when the resource's key is not known; what the feed answers for a key
    /// is in that key's result.
    pub fn refresh(
        &self,
        wanted: &Refresh<'_>,
        connect: &Connect<'_>,
        options: &SyncOptions<'_>,
        progress: &mut dyn Progress,
    ) -> Result<(RunReport, Vec<Refreshed>)> {
        let Refresh {
            resource,
            keys,
            related,
            policy,
            in_flight,
        } = *wanted;
        let snapshot = self.snapshot()?;
        let own = Ask {
            resource: resource.to_owned(),
            field: None,
            spec: snapshot.key_spec(resource).ok_or_else(|| {
                Error::Usage(format!("{resource}: its key is not known before a sync"))
            })?,
            policy: policy.clone(),
        };
        let mut asks = vec![own];
        for one in related {
            if let Some(spec) = snapshot.key_spec(&one.resource) {
                asks.push(Ask {
                    resource: one.resource.clone(),
                    field: Some(one.field.clone()),
                    spec,
                    policy: one.policy.clone(),
                });
            }
        }
        drop(snapshot);
        let mut session = Session::new(self, resource, RunKind::Keys, options.now);
        // The workers' sources count together, so one that sends nothing sees what all of them do.
        let meter = connect();
        let before = meter.traffic();
        let mut results = Vec::with_capacity(keys.len());
        let fetch = |source: &mut Box<dyn PageSource>, key: Key| {
            let pages = asks.iter().map(|ask| ask.pages(source.as_mut(), &key));
            let pages: Pages = pages.collect();
            (key, pages)
        };
        let result = fan_out(keys.to_vec(), in_flight, connect, fetch, |(key, pages)| {
            let outcome = match pages {
                Ok(pages) => apply(&mut session, &asks, &key, &pages).map(Ok)?,
                Err(error) => Err(error),
            };
            results.push(Refreshed { key, outcome });
            progress.advanced(session.report());
            Ok(())
        });
        session.note_cost(meter.traffic().since(before), progress.peak_memory());
        let failed = results.iter().filter(|r| r.outcome.is_err()).count();
        let report = session.finish(result, |report| match (failed, report.quarantined) {
            (0, 0) => Outcome::Complete,
            (0, n) => Outcome::Degraded(format!("{n} records are in quarantine")),
            (n, _) => Outcome::Degraded(format!("{n} of {} keys failed", keys.len())),
        })?;
        results.sort_by(|a, b| a.key.cmp(&b.key));
        Ok((report, results))
    }
}

/// The pages of one key: for each resource asked, in order.
type Pages = Result<Vec<Vec<SplitPage>>>;

/// One query of one key.
struct Ask {
    resource: String,
    /// The field to compare; `None` is the resource's own key.
    field: Option<String>,
    spec: Arc<KeySpec>,
    policy: Policy,
}

impl Ask {
    fn pages(&self, source: &mut dyn PageSource, key: &Key) -> Result<Vec<SplitPage>> {
        let field = self.field.as_deref().unwrap_or(&self.spec.field);
        let mut filter = format!("{field} eq {}", key.to_literal());
        if let Some(clause) = &self.policy.filter {
            filter = format!("{clause} and {filter}");
        }
        let mut request = PageRequest::Query {
            resource: self.resource.clone(),
            options: QueryOptions {
                filter: Some(filter),
                select: self.policy.select.clone(),
                expand: self.policy.expand.clone(),
                ..QueryOptions::default()
            },
        };
        let mut pages = Vec::new();
        loop {
            let fetched = source.fetch(&request)?;
            let spec = Some(Arc::clone(&self.spec));
            let page = SplitPage::split(&self.resource, &fetched.origin, fetched.body, spec)
                .map_err(|rejected| rejected.error)?;
            let link = page.next_link.clone().or(fetched.next_link);
            pages.push(page);
            let Some(link) = link else {
                self.check(source, key, &pages)?;
                return Ok(pages);
            };
            if pages.len() >= MAX_PAGES {
                let reason = format!("one key has more than {MAX_PAGES} pages");
                return Err(self.malformed(reason));
            }
            request = PageRequest::Next {
                resource: self.resource.clone(),
                link,
            };
        }
    }
}

impl Ask {
    /// Whether what was found for the resource's own key can be believed.
    fn check(&self, source: &mut dyn PageSource, key: &Key, pages: &[SplitPage]) -> Result<()> {
        if self.field.is_some() {
            return Ok(());
        }
        let mut entities = pages.iter().flat_map(|page| &page.entities).peekable();
        let nothing = entities.peek().is_none();
        if entities.any(|e| e.key.as_ref().is_ok_and(|other| other != key)) {
            let reason = format!("asked for {key}, it answers with others: it ignores $filter");
            return Err(self.malformed(reason));
        }
        if nothing && !confirmed(source, &self.policy, &self.resource, &self.spec, key)? {
            let reason = format!("a query for {key} finds nothing, another finds it");
            return Err(self.malformed(reason));
        }
        Ok(())
    }

    fn malformed(&self, reason: String) -> Error {
        Error::Source(SourceError {
            kind: SourceErrorKind::Malformed,
            request: self.resource.clone(),
            reason,
        })
    }
}

/// Applies what the feed has for a key, in one transaction.
fn apply(
    session: &mut Session<'_>,
    asks: &[Ask],
    key: &Key,
    pages: &[Vec<SplitPage>],
) -> Result<Vec<(String, u64)>> {
    session.write(|txn, report| {
        let mut counts = Vec::with_capacity(asks.len());
        for (ask, pages) in asks.iter().zip(pages) {
            let found: u64 = pages.iter().map(|p| p.entities.len() as u64).sum();
            counts.push((ask.resource.clone(), found));
            if ask.field.is_none() && found == 0 {
                let outcome = txn.delete(&ask.resource, key, None, Cause::Reconcile, "")?;
                report.deleted += u64::from(outcome == DeleteOutcome::Deleted);
                continue;
            }
            let mut applying = Applying::new(Cause::Sync, ask.policy.cursor(), report);
            applying.gone = ask.policy.gone.as_ref();
            txn.apply_pages(pages, &mut applying)?;
        }
        Ok(counts)
    })
}
