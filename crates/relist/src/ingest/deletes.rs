//! Deletions that a feed lists: `Deleted` of WFRMLS, and feeds of that form.

use std::collections::HashSet;

use serde_json::Value;

use crate::decode::{KeySpec, RawEntity, SplitPage};
use crate::error::Result;
use crate::keycode::Key;
use crate::store::{Cause, DeleteOutcome, QUARANTINE_BYTES, Quarantined, RunReport, WriteTxn};
use crate::value::{DateTime, Timestamp};

/// A resource whose records are deletions of other resources' records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedFeed {
    /// The entity set: `Deleted`.
    pub resource: std::borrow::Cow<'static, str>,
    /// The field that names the resource of the deleted record.
    pub resource_field: std::borrow::Cow<'static, str>,
    /// The field with its key.
    pub key_field: std::borrow::Cow<'static, str>,
    /// The field with the time of the deletion.
    pub time_field: std::borrow::Cow<'static, str>,
}

impl DeletedFeed {
    /// UtahRealEstate.com's: `{"resource", "primary_key", "ts"}`.
    pub const WFRMLS: DeletedFeed = DeletedFeed {
        resource: std::borrow::Cow::Borrowed("Deleted"),
        resource_field: std::borrow::Cow::Borrowed("resource"),
        key_field: std::borrow::Cow::Borrowed("primary_key"),
        time_field: std::borrow::Cow::Borrowed("ts"),
    };

    pub(crate) fn key_spec(&self) -> KeySpec {
        KeySpec::new(self.key_field.clone().into_owned(), false)
    }

    /// The keys of `resource` that a page names, as far as they can be read by `spec`.
    pub(crate) fn named(&self, page: &SplitPage, resource: &str, spec: &KeySpec) -> Vec<Key> {
        let rows = page
            .entities
            .iter()
            .filter_map(|raw| read(self, page, raw).ok());
        let own = rows.filter(|(of, ..)| of == resource);
        own.filter_map(|(_, key, _)| spec.read(&Value::from(key).to_string()).ok())
            .collect()
    }
}

/// Applies pages of a deletions feed; returns the latest time they hold.
///
/// With `only`, deletions of other resources are passed over: their own run applies them; and so
/// are those of the keys given with it, which are there.
pub(crate) fn apply_deletes(
    txn: &mut WriteTxn,
    feed: &DeletedFeed,
    pages: &[SplitPage],
    only: Option<(&str, &HashSet<Key>)>,
    report: &mut RunReport,
) -> Result<Option<Timestamp>> {
    let mut latest = None;
    for page in pages {
        report.pages += 1;
        report.bytes += page.body.len() as u64;
        for (index, raw) in page.entities.iter().enumerate() {
            match read(feed, page, raw) {
                Ok((resource, _, _)) if only.is_some_and(|(own, _)| own != resource) => {}
                Ok((resource, key, at)) => {
                    latest = latest.max(at);
                    let kept = only.map(|(_, kept)| kept);
                    let row = (resource.as_str(), key.as_str(), at);
                    apply_one(txn, (page, index, raw), row, kept, report)?;
                }
                Err((field, reason)) => {
                    report.records += 1;
                    put_aside(txn, (page, index, raw), field, reason, report)?;
                }
            }
        }
    }
    Ok(latest)
}

fn apply_one(
    txn: &mut WriteTxn,
    place: (&SplitPage, usize, &RawEntity),
    (resource, key, at): (&str, &str, Option<Timestamp>),
    kept: Option<&HashSet<Key>>,
    report: &mut RunReport,
) -> Result<()> {
    let Some(spec) = txn.key_spec(resource) else {
        let reason = format!("no resource named {resource:?} in this store");
        return put_aside(txn, place, None, reason, report);
    };
    let key = match spec.read(&Value::from(key).to_string()) {
        Ok(key) => key,
        Err(reason) => return put_aside(txn, place, None, reason, report),
    };
    if kept.is_some_and(|kept| kept.contains(&key)) {
        report.deletes_ignored += 1;
        return Ok(());
    }
    match txn.delete(resource, &key, at, Cause::DeletedFeed, "")? {
        DeleteOutcome::Deleted => report.deleted += 1,
        DeleteOutcome::AlreadyDeleted | DeleteOutcome::Unknown | DeleteOutcome::Newer => {
            report.deletes_ignored += 1;
        }
    }
    Ok(())
}

type Row = (String, String, Option<Timestamp>);

fn read(
    feed: &DeletedFeed,
    page: &SplitPage,
    raw: &RawEntity,
) -> Result<Row, (Option<String>, String)> {
    let key = raw.key.clone()?.to_string();
    let row: Value = serde_json::from_str(page.text(raw)).map_err(|e| (None, e.to_string()))?;
    let text = |field: &str| row.get(field).and_then(Value::as_str).map(str::to_owned);
    let resource = text(&feed.resource_field).ok_or_else(|| {
        (
            Some(feed.resource_field.to_string()),
            "the resource is missing".to_owned(),
        )
    })?;
    let at = match text(&feed.time_field) {
        None => None,
        Some(ts) => Some(
            DateTime::parse(&ts)
                .and_then(DateTime::to_timestamp)
                .ok_or_else(|| {
                    (
                        Some(feed.time_field.to_string()),
                        format!("{ts:?} is no time"),
                    )
                })?,
        ),
    };
    Ok((resource, key, at))
}

fn put_aside(
    txn: &mut WriteTxn,
    (page, index, raw): (&SplitPage, usize, &RawEntity),
    field: Option<String>,
    reason: String,
    report: &mut RunReport,
) -> Result<()> {
    report.quarantined += 1;
    let bytes = page.text(raw).as_bytes();
    txn.quarantine(&Quarantined {
        resource: page.resource.clone(),
        page: page.origin.clone(),
        record: Some(index as u64),
        field,
        reason,
        run: report.run,
        observed: txn.observed(),
        raw: bytes.iter().copied().take(QUARANTINE_BYTES).collect(),
        raw_len: bytes.len() as u64,
    })
}
