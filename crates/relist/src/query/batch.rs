//! Records in batches: every one of them is handed over, or listed as failed.
//!
//! Batches come in ascending order of key from one snapshot, so the last key of a batch is the
//! place to go on from, in this process or the next.

use std::fmt::Display;

use super::QueryContext;
use super::plan::Access;
use crate::error::{Error, Result};
use crate::keycode::Key;
use crate::odata::{Predicate, Query};
use crate::record::Record;
use crate::schema::FieldId;
use crate::store::{AsOf, Snapshot};

/// How records are handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOptions {
    /// Records a batch, at most.
    pub size: usize,
    /// Begin behind this key: where an earlier pass ended.
    pub after: Option<Key>,
    /// How often a batch that failed is tried again.
    pub retries: u32,
}

impl Default for BatchOptions {
    /// 500 records a batch, from the first, two retries.
    fn default() -> Self {
        BatchOptions {
            size: 500,
            after: None,
            retries: 2,
        }
    }
}

/// Some records, in ascending order of key.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its number in this pass, from 1.
    pub number: u64,
    /// The keys of the records; never empty.
    pub keys: Vec<Key>,
    /// The records, in the order of their keys.
    pub records: Vec<Record>,
    /// The fields asked for; `None` is all.
    pub select: Option<Vec<FieldId>>,
}

impl Batch {
    /// The records as NDJSON: one object a line, with the fields asked for.
    pub fn to_ndjson(&self) -> String {
        let mut out = String::new();
        for record in &self.records {
            record.write_json(self.select.as_deref(), &mut out);
            out.push('\n');
        }
        out
    }

    /// Hands the batch to `work` until it succeeds, at most `retries` times more. `work` is told
    /// which attempt it is, from 1, and may wait before it tries again. What comes back is the
    /// failure, with every key.
    pub fn attempt<E: Display>(
        &self,
        retries: u32,
        mut work: impl FnMut(&Batch, u32) -> std::result::Result<(), E>,
    ) -> Option<FailedBatch> {
        let most = retries.saturating_add(1);
        let mut attempt = 1;
        loop {
            let error = match work(self, attempt) {
                Ok(()) => return None,
                Err(error) => error,
            };
            if attempt >= most {
                return Some(FailedBatch {
                    number: self.number,
                    keys: self.keys.clone(),
                    attempts: attempt,
                    reason: error.to_string(),
                });
            }
            attempt += 1;
        }
    }
}

/// A batch that failed at each attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedBatch {
    /// Its number in the pass.
    pub number: u64,
    /// The keys of its records.
    pub keys: Vec<Key>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub reason: String,
}

/// What came of a pass over the records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchSummary {
    /// Batches handed over, failed ones among them.
    pub batches: u64,
    /// Records handed over.
    pub records: u64,
    /// The last key handed over: where a later pass may begin.
    pub last: Option<Key>,
    /// The batches that failed at each attempt.
    pub failed: Vec<FailedBatch>,
}

/// The batches of a query: see [`Snapshot::batches`].
#[derive(Debug)]
pub struct Batches<'s> {
    snapshot: &'s Snapshot,
    resource: String,
    predicate: Option<Predicate>,
    select: Option<Vec<FieldId>>,
    access: Access,
    at: AsOf,
    size: usize,
    after: Option<Key>,
    number: u64,
    ended: bool,
}

impl Snapshot {
    /// The records of a query in batches, read as they are asked for.
    ///
    /// # Errors
    /// [`Error::Query`] for a query that does not fit the schema, [`Error::UnknownResource`];
    /// [`Error::Usage`] for a batch of nothing, and for `$orderby`, `$top`, `$skip` and `$count`:
    /// only in order of key is there a place to go on from.
    pub fn batches(
        &self,
        query: &Query,
        context: &QueryContext,
        options: &BatchOptions,
    ) -> Result<Batches<'_>> {
        let usage = |text: &str| Err(Error::Usage(text.to_owned()));
        if options.size == 0 {
            return usage("a batch has at least one record");
        }
        if query.orderby.is_some() || query.top.is_some() || query.skip > 0 || query.count {
            return usage("batches come in order of key: $orderby, $top, $skip, $count do not fit");
        }
        let bound = query.bind(self.schema(), context.now)?;
        let resource = self.resource(&query.resource)?;
        Ok(Batches {
            snapshot: self,
            access: bound.predicate.as_ref().map_or(Access::Scan, |predicate| {
                Access::by_predicate(&resource, predicate)
            }),
            resource: query.resource.clone(),
            predicate: bound.predicate,
            select: bound.select,
            at: AsOf::Sequence(match context.as_of {
                Some(at) => self.resolve(at)?,
                None => self.sequence(),
            }),
            size: options.size,
            after: options.after.clone(),
            number: 0,
            ended: false,
        })
    }

    /// Hands every record of a query to `work`, a batch at a time. A batch that fails is tried
    /// again; one that fails each time is listed with its keys, and the next one follows.
    ///
    /// # Errors
    /// As [`batches`](Snapshot::batches), and when the store cannot be read.
    pub fn each_batch<E: Display>(
        &self,
        query: &Query,
        context: &QueryContext,
        options: &BatchOptions,
        work: &mut dyn FnMut(&Batch, u32) -> std::result::Result<(), E>,
    ) -> Result<BatchSummary> {
        let mut summary = BatchSummary::default();
        for batch in self.batches(query, context, options)? {
            let batch = batch?;
            summary.batches += 1;
            summary.records += batch.keys.len() as u64;
            summary
                .failed
                .extend(batch.attempt(options.retries, &mut *work));
            summary.last = batch.keys.last().cloned();
        }
        Ok(summary)
    }
}

impl Batches<'_> {
    fn fill(&mut self) -> Result<Option<Batch>> {
        let mut batch = Batch {
            number: self.number + 1,
            keys: Vec::new(),
            records: Vec::new(),
            select: self.select.clone(),
        };
        let predicate = self.predicate.as_ref();
        let mut take = |key: &Key, record: Record| {
            if predicate.is_none_or(|p| p.matches(&record)) {
                batch.keys.push(key.clone());
                batch.records.push(record);
            }
            Ok(batch.keys.len() < self.size)
        };
        let after = self.after.as_ref();
        match &self.access {
            Access::Nothing => {}
            Access::Keys(keys) => {
                for key in keys.iter().filter(|key| after.is_none_or(|a| *key > a)) {
                    let record = self.snapshot.get_at(&self.resource, key, self.at)?;
                    if let Some(record) = record
                        && !take(key, record)?
                    {
                        break;
                    }
                }
            }
            // A batch is a piece of the whole: only in order of key can the next one go on.
            Access::Scan | Access::Columns => {
                self.snapshot
                    .scan_after(&self.resource, after, self.at, take)?;
            }
        }
        let Some(last) = batch.keys.last() else {
            return Ok(None);
        };
        self.after = Some(last.clone());
        self.number += 1;
        Ok(Some(batch))
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.fill().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}
