//! A session: the transactions of one run, with its report in each of them.

use std::collections::BTreeSet;

use super::SlotSet;
use super::examine::stamps;
use crate::decode::{KeySpec, Rejected, SplitPage};
use crate::error::Result;
use crate::keycode::Key;
use crate::source::Traffic;
use crate::store::{
    Checkpoint, Outcome, QUARANTINE_BYTES, Quarantined, RunKind, RunReport, Store, WriteTxn,
};
use crate::value::Timestamp;

/// What came of comparing keys and stamps.
pub(crate) struct Comparing<'a> {
    /// The slots of the keys that are in the store.
    pub(crate) seen: &'a mut SlotSet,
    /// The keys whose records are not in the store, or have another stamp there.
    pub(crate) differing: BTreeSet<Key>,
    /// Records stamped up to then are counted in `settled`.
    pub(crate) settled_by: Timestamp,
    /// How many records, met for the first time, were stamped up to `settled_by`.
    pub(crate) settled: u64,
}

/// The transactions of one run. Its report is stored with each, so that a run whose process died
/// shows how far it came.
pub(crate) struct Session<'a> {
    store: &'a Store,
    now: &'a dyn Fn() -> Timestamp,
    report: RunReport,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        store: &'a Store,
        resource: &str,
        kind: RunKind,
        now: &'a dyn Fn() -> Timestamp,
    ) -> Self {
        let report = RunReport {
            resource: resource.to_owned(),
            kind,
            started: Some(now()),
            ..RunReport::default()
        };
        Session { store, now, report }
    }

    pub(crate) fn report(&self) -> &RunReport {
        &self.report
    }

    /// Puts a whole page into quarantine, in a transaction of its own.
    pub(crate) fn put_page_aside(&mut self, rejected: &Rejected) -> Result<()> {
        self.write(|txn, report| put_page_aside(txn, rejected, report))
    }

    /// Compares keys and stamps of a page with the store's.
    pub(crate) fn compare(
        &self,
        resource: &str,
        page: &SplitPage,
        cursor_field: Option<&str>,
        to: &mut Comparing<'_>,
    ) -> Result<()> {
        let snapshot = self.store.snapshot()?;
        let definition = snapshot.resource(resource)?;
        for (key, stamp) in stamps(page, &definition, cursor_field) {
            let head = snapshot
                .head_of(resource, key)?
                .filter(|head| !head.deleted);
            let new = match head {
                Some(head) => to.seen.insert(head.slot),
                None => !to.differing.contains(key),
            };
            to.settled += u64::from(new && stamp.is_some_and(|at| at <= to.settled_by));
            let same = head.is_some_and(|head| stamp.is_none() || head.source_time == stamp);
            if !same {
                to.differing.insert(key.clone());
            }
        }
        Ok(())
    }

    /// The latest value of a timestamp field in a page.
    pub(crate) fn latest(
        &self,
        resource: &str,
        page: &SplitPage,
        field: &str,
    ) -> Result<Option<Timestamp>> {
        let definition = self.store.snapshot()?.resource(resource)?;
        let stamps = stamps(page, &definition, Some(field));
        Ok(stamps.into_iter().filter_map(|(_, stamp)| stamp).max())
    }

    /// How far something has come, by what is committed.
    pub(crate) fn checkpoint(&self, name: &str) -> Result<Checkpoint> {
        self.store.snapshot()?.checkpoint(name)
    }

    /// Those of the keys that are of current records.
    pub(crate) fn current(&self, resource: &str, mut keys: Vec<Key>) -> Result<Vec<Key>> {
        keys.sort_unstable();
        keys.dedup();
        let snapshot = self.store.snapshot()?;
        let mut out = Vec::with_capacity(keys.len());
        for key in keys {
            let head = snapshot.head_of(resource, &key)?;
            if head.is_some_and(|head| !head.deleted) {
                out.push(key);
            }
        }
        Ok(out)
    }

    /// The keys of the current records, ascending.
    pub(crate) fn live_keys(&self, resource: &str) -> Result<Vec<Key>> {
        self.store.snapshot()?.live_keys(resource)
    }

    /// Notes how many keys were compared, and how many the feed counts.
    pub(crate) fn note_checked(&mut self, checked: u64, expected: Option<u64>) {
        self.report.checked += checked;
        self.report.expected = self.report.expected.or(expected);
    }

    /// Notes what the run has cost: what its source did, and the memory of its process.
    pub(crate) fn note_cost(&mut self, traffic: Traffic, peak_memory: Option<u64>) {
        self.report.requests = traffic.requests;
        self.report.retries = traffic.retries;
        self.report.received = traffic.bytes;
        self.report.waited_micros = u64::try_from(traffic.waited.as_micros()).unwrap_or(u64::MAX);
        self.report.peak_memory = peak_memory;
    }

    /// How the keys of a resource are found, by what is committed.
    pub(crate) fn key_spec(&self, resource: &str) -> Option<std::sync::Arc<KeySpec>> {
        self.store.snapshot().ok()?.key_spec(resource)
    }

    /// One transaction: `change` and the report, durable together. On an error nothing of it is.
    pub(crate) fn write<R>(
        &mut self,
        change: impl FnOnce(&mut WriteTxn, &mut RunReport) -> Result<R>,
    ) -> Result<R> {
        let mut txn = self.store.begin_write((self.now)())?;
        let mut report = self.report.clone();
        if report.run == 0 {
            report.run = txn.new_run();
        } else {
            txn.set_run(report.run);
        }
        let before = txn.sequence();
        let out = change(&mut txn, &mut report)?;
        if txn.sequence() > before {
            if report.first_sequence == 0 {
                report.first_sequence = before + 1;
            }
            report.last_sequence = txn.sequence();
        }
        txn.put_run(&report)?;
        txn.commit()?;
        self.report = report;
        Ok(out)
    }

    /// Ends the run: stores how it ended, and gives the report or the error.
    pub(crate) fn finish(
        mut self,
        result: Result<()>,
        judge: impl FnOnce(&RunReport) -> Outcome,
    ) -> Result<RunReport> {
        let outcome = match &result {
            Ok(()) => judge(&self.report),
            Err(e) => Outcome::Failed(e.to_string()),
        };
        let finished = (self.now)();
        let stored = self.write(|_, report| {
            report.outcome = outcome;
            report.finished = Some(finished);
            Ok(())
        });
        // The first error is the one to tell; that its report could not be stored follows from it.
        result.and(stored)?;
        Ok(self.report)
    }
}

/// Puts a whole page into quarantine.
pub(crate) fn put_page_aside(
    txn: &mut WriteTxn,
    rejected: &Rejected,
    report: &mut RunReport,
) -> Result<()> {
    report.pages += 1;
    report.records += 1;
    report.quarantined += 1;
    let error = &rejected.error;
    txn.quarantine(&Quarantined {
        resource: error.resource.clone(),
        page: error.page.clone(),
        record: error.record.map(|r| r as u64),
        field: error.field.clone(),
        reason: match error.offset {
            Some(at) => format!("byte {at}: {}", error.reason),
            None => error.reason.clone(),
        },
        run: report.run,
        observed: txn.observed(),
        raw: rejected
            .raw
            .iter()
            .copied()
            .take(QUARANTINE_BYTES)
            .collect(),
        raw_len: rejected.raw.len() as u64,
    })
}
