//! The sweep: what a complete full walk did not meet.
//!
//! Absence from a walk is not proof: an offset walk loses rows that shift. So the feed is asked for
//! each missing key, and only what it does not have is deleted; what it has is applied. The brake
//! stops a sweep that would take too much at once.

use super::SyncRun;
use crate::decode::SplitPage;
use crate::error::{Error, Result};
use crate::ingest::{Applying, MODIFICATION_TIMESTAMP, Session};
use crate::keycode::Key;
use crate::source::{PageRequest, PageSource, QueryOptions};
use crate::store::{Cause, DeleteOutcome};

/// Keys asked for in one request: a URL stays well below 2,000 bytes.
const KEYS_A_REQUEST: usize = 20;
/// The brake: so many deletions, or one in so many, are never held back.
const BRAKE_RECORDS: u64 = 50;
const BRAKE_SHARE: u64 = 50;

impl SyncRun<'_> {
    /// Deletes what the feed does not have any more.
    pub(super) fn sweep(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
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
            Ok((txn.unseen(id, |slot| seen.contains(slot))?, live))
        })?;
        let allowed = BRAKE_RECORDS.max(live / BRAKE_SHARE);
        let would_delete = missing.len() as u64;
        if would_delete > allowed && !self.options.confirm {
            let brake = Error::Brake {
                resource: resource.to_owned(),
                would_delete,
                live,
                allowed,
            };
            self.note = Some(brake.to_string());
            return Ok(());
        }
        for keys in missing.chunks(KEYS_A_REQUEST) {
            self.ask(session, source, keys)?;
        }
        Ok(())
    }

    /// Asks the feed for keys; applies what it has and deletes what it does not.
    fn ask(
        &mut self,
        session: &mut Session<'_>,
        source: &mut dyn PageSource,
        keys: &[Key],
    ) -> Result<()> {
        let Some(spec) = self
            .key_spec
            .clone()
            .or_else(|| session.key_spec(self.resource))
        else {
            return Ok(());
        };
        let any = keys
            .iter()
            .map(|key| format!("{} eq {}", spec.field, key.to_literal()));
        let any = any.collect::<Vec<_>>().join(" or ");
        let filter = match &self.policy.filter {
            Some(clause) => format!("{clause} and ({any})"),
            None => any,
        };
        let request = PageRequest::Query {
            resource: self.resource.to_owned(),
            options: QueryOptions {
                filter: Some(filter),
                select: self.policy.select.clone(),
                expand: self.policy.expand.clone(),
                ..QueryOptions::default()
            },
        };
        let fetched = source.fetch(&request)?;
        let page = SplitPage::split(
            self.resource,
            &fetched.origin,
            fetched.body,
            Some(spec.clone()),
        );
        let page = match page {
            Ok(page) => page,
            Err(rejected) => {
                session.put_page_aside(&rejected)?;
                return Err(rejected.error.into());
            }
        };
        let found: Vec<&Key> = page
            .entities
            .iter()
            .filter_map(|e| e.key.as_ref().ok())
            .collect();
        let asked_for =
            |e: &crate::decode::RawEntity| e.key.as_ref().is_ok_and(|k| keys.contains(k));
        if !page.entities.iter().all(asked_for) || page.next_link.is_some() {
            // A server that answers something else has not said that the keys are gone.
            self.note = Some(format!(
                "the feed does not answer for single keys: {} missing records were kept",
                keys.len()
            ));
            return Ok(());
        }
        let gone: Vec<&Key> = keys.iter().filter(|key| !found.contains(key)).collect();
        let cursor_field = self
            .policy
            .cursor_field
            .as_deref()
            .unwrap_or(MODIFICATION_TIMESTAMP);
        let resource = self.resource;
        session.write(|txn, report| {
            for key in &gone {
                if txn.delete(resource, key, None, Cause::Reconcile, "")? == DeleteOutcome::Deleted
                {
                    report.deleted += 1;
                }
            }
            let mut applying = Applying {
                cause: Cause::Sync,
                cursor_field,
                report,
                seen: None,
                max_seen: None,
                keyless: 0,
            };
            txn.apply_pages(std::slice::from_ref(&page), &mut applying)
        })
    }
}
