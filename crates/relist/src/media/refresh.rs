//! What media there should be, from what the records say.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::files::MediaFiles;
use super::merge::merged;
use super::read::{item, rows, text, whole};
use super::shelf::MediaStore;
use crate::error::{Error, Result};
use crate::keycode::Key;
use crate::record::Record;
use crate::store::{
    HeldFile, MediaEntry, MediaItem, MediaList, MediaPlace, MediaState, Operation, Snapshot,
    WriteTxn,
};
use crate::value::Timestamp;

/// What becomes of files whose listing, or whose own record, is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDelete {
    /// They are removed.
    #[default]
    Remove,
    /// They are kept.
    Keep,
}

/// The rules of a store's media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaPolicy {
    /// What becomes of files whose listing is gone.
    pub on_delete: OnDelete,
    /// Whether media are asked for listing by listing where the store has neither a Media set nor
    /// expanded media.
    pub ask: bool,
}

impl Default for MediaPolicy {
    fn default() -> Self {
        MediaPolicy {
            on_delete: OnDelete::Remove,
            ask: true,
        }
    }
}

/// What a refresh found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// Records looked at.
    pub records: u64,
    /// Media that took over the file of another key.
    pub taken_over: u64,
    /// Media that are gone.
    pub gone: u64,
    /// Files removed.
    pub removed: u64,
}

/// The resource that media records are of.
const MEDIA: &str = "Media";
/// The resource whose media are asked for record by record.
const PROPERTY: &str = "Property";
/// Records a transaction.
const BATCH: usize = 2_000;

/// Brings what media there should be up to date with the records: with those that changed since
/// the last time, or with all of them the first time.
///
/// What was done is durable; the rest is done the next time.
pub(super) fn refresh(
    store: &dyn MediaStore,
    files: &MediaFiles,
    policy: MediaPolicy,
    now: &dyn Fn() -> Timestamp,
) -> Result<Refreshed> {
    let snapshot = store.view()?;
    let names = speaking(&snapshot);
    let touched = match snapshot.media_sequence()? {
        Some(since) => match touched(&snapshot, &names, since) {
            // The log was cut: everything is looked at again.
            Err(Error::Pruned { .. }) => everything(&snapshot, &names)?,
            other => other?,
        },
        None => everything(&snapshot, &names)?,
    };
    let mut run = Refresh {
        snapshot: &snapshot,
        files,
        policy,
        names,
        has_set: snapshot.count(MEDIA).is_ok_and(|n| n > 0),
        done: Refreshed::default(),
    };
    for batch in touched.chunks(BATCH) {
        store.write(&mut |store| {
            let mut txn = store.begin_write(now())?;
            run.batch(&mut txn, batch)?;
            txn.commit().map(drop)
        })?;
    }
    if snapshot.media_sequence()? != Some(snapshot.sequence()) {
        store.write(&mut |store| {
            let mut txn = store.begin_write(now())?;
            txn.set_media_sequence(snapshot.sequence())?;
            txn.commit().map(drop)
        })?;
    }
    Ok(run.done)
}

/// Has media and records that were given up tried again; tells how many.
pub(super) fn retry(store: &dyn MediaStore, now: &dyn Fn() -> Timestamp) -> Result<u64> {
    let snapshot = store.view()?;
    let (mut entries, mut lists) = (Vec::new(), Vec::new());
    snapshot.media(|entry| {
        entries.extend(Some(entry).filter(|e| e.state == MediaState::Parked));
        Ok(true)
    })?;
    snapshot.media_lists(|list| {
        lists.extend(Some(list).filter(|l| !l.due && l.error.is_some()));
        Ok(true)
    })?;
    drop(snapshot);
    store.write(&mut |store| {
        let mut txn = store.begin_write(now())?;
        for entry in &mut entries {
            (entry.state, entry.strikes) = (MediaState::Wanted, 0);
            txn.put_media(entry)?;
        }
        for list in &mut lists {
            (list.due, list.strikes) = (true, 0);
            txn.put_media_list(list)?;
        }
        txn.commit().map(drop)
    })?;
    Ok((entries.len() + lists.len()) as u64)
}

/// A record whose media may have changed: its resource, its key, its place in the order of work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Touched {
    /// Deletions come last: a photo under a new key takes over the file of the old one.
    deleted: bool,
    /// Its place in `speaking`.
    resource: usize,
    key: Key,
}

/// The resources whose records speak of media.
fn speaking(snapshot: &Snapshot) -> Vec<String> {
    let speaks = |resource: &&crate::schema::Resource| {
        let named = |name| resource.field_id(name).is_some();
        resource.name == MEDIA || resource.name == PROPERTY || named(MEDIA)
    };
    let resources = snapshot.schema().resources.iter().filter(speaks);
    resources.map(|r| r.name.clone()).collect()
}

fn touched(snapshot: &Snapshot, names: &[String], since: u64) -> Result<Vec<Touched>> {
    let mut last = BTreeMap::new();
    for change in snapshot.changes(since)? {
        let change = change?;
        let place = names.iter().position(|name| *name == change.resource);
        if let (Some(key), Some(resource)) = (change.key, place) {
            last.insert((resource, key), change.operation == Operation::Delete);
        }
    }
    let mut out: Vec<Touched> = last
        .into_iter()
        .map(|((resource, key), deleted)| Touched {
            deleted,
            resource,
            key,
        })
        .collect();
    out.sort();
    Ok(out)
}

fn everything(snapshot: &Snapshot, names: &[String]) -> Result<Vec<Touched>> {
    let mut out = Vec::new();
    for (resource, name) in names.iter().enumerate() {
        let of = |deleted| {
            move |key| Touched {
                deleted,
                resource,
                key,
            }
        };
        out.extend(snapshot.live_keys(name)?.into_iter().map(of(false)));
        let dead = snapshot.tombstones(name)?.into_iter();
        out.extend(dead.map(|(key, _)| key).map(of(true)));
    }
    out.sort();
    Ok(out)
}

struct Refresh<'a> {
    snapshot: &'a Snapshot,
    files: &'a MediaFiles,
    policy: MediaPolicy,
    /// The resources whose records speak of media.
    names: Vec<String>,
    /// Whether the store has a Media set.
    has_set: bool,
    done: Refreshed,
}

impl Refresh<'_> {
    fn batch(&mut self, txn: &mut WriteTxn, batch: &[Touched]) -> Result<()> {
        let mut dropped = Dropped::default();
        for touched in batch {
            self.done.records += 1;
            let name = self
                .names
                .get(touched.resource)
                .cloned()
                .unwrap_or_default();
            let (resource, key) = (name.as_str(), &touched.key);
            let record = self.snapshot.get(resource, key)?;
            match (resource, record) {
                (MEDIA, Some(record)) => self.medium(txn, key, &record, &mut dropped)?,
                (MEDIA, None) => self.medium_gone(txn, key, &mut dropped)?,
                (_, Some(record)) => self.listing(txn, (resource, key), &record, &mut dropped)?,
                (_, None) => {
                    txn.remove_media_list(resource, key)?;
                    for entry in txn.media_of(resource, key)? {
                        self.withdraw(txn, entry, &mut dropped)?;
                    }
                }
            }
        }
        self.done.gone += dropped.gone;
        self.done.taken_over += dropped.taken_over;
        self.done.removed += dropped.remove(txn, self.files)?;
        Ok(())
    }

    /// The listing of a medium is gone. What is known of the medium stays: if the listing comes
    /// back, nothing else may speak of it again.
    fn withdraw(
        &self,
        txn: &mut WriteTxn,
        mut entry: MediaEntry,
        dropped: &mut Dropped,
    ) -> Result<()> {
        if matches!(entry.state, MediaState::Retired | MediaState::Withdrawn) {
            return Ok(());
        }
        dropped.gone += 1;
        if self.policy.on_delete == OnDelete::Remove
            && let Some(held) = entry.held.take()
        {
            dropped.file(held);
        }
        (entry.strikes, entry.error) = (0, None);
        entry.state = MediaState::Withdrawn;
        txn.put_media(&entry)
    }

    /// A record of the Media set.
    fn medium(
        &self,
        txn: &mut WriteTxn,
        key: &Key,
        record: &Record,
        dropped: &mut Dropped,
    ) -> Result<()> {
        let Some(row) = object(record) else {
            return Ok(());
        };
        let Some((resource, owner)) = self.owner(&row) else {
            return Ok(());
        };
        let Some(item) = item(&row, &resource, &owner) else {
            return Ok(());
        };
        let place = item.place();
        put_item(txn, item, self.observed(MEDIA, key)?, dropped)?;
        // A listing that was deleted before its media; one not seen yet may still come.
        let known = self.snapshot.resource(&resource).is_ok();
        let head = if known {
            self.snapshot.head_of(&resource, &owner)?
        } else {
            None
        };
        match txn.media_entry(place)? {
            Some(entry) if head.is_some_and(|h| h.deleted) => self.withdraw(txn, entry, dropped),
            _ => Ok(()),
        }
    }

    /// A record of the Media set that was deleted: what it was says whose it was.
    fn medium_gone(&self, txn: &mut WriteTxn, key: &Key, dropped: &mut Dropped) -> Result<()> {
        let Some(last) = self.snapshot.history(MEDIA, key)?.pop() else {
            return Ok(());
        };
        let Some(row) = object(&last.record) else {
            return Ok(());
        };
        let (Some((resource, owner)), Some(name)) = (self.owner(&row), media_name(&row)) else {
            return Ok(());
        };
        let place = MediaPlace::new(&resource, &owner, &name);
        match txn.media_entry(place)? {
            Some(entry) => drop_entry(txn, entry, self.policy, dropped),
            None => Ok(()),
        }
    }

    /// When a record was had from the feed, with the URLs that stand in it.
    fn observed(&self, resource: &str, key: &Key) -> Result<Option<Timestamp>> {
        let Some(head) = self.snapshot.head_of(resource, key)? else {
            return Ok(None);
        };
        match self.snapshot.changes(head.valid_from.saturating_sub(1)) {
            // The log was cut: long ago.
            Err(Error::Pruned { .. }) => Ok(None),
            Err(error) => Err(error),
            Ok(mut changes) => Ok(changes.next().transpose()?.map(|change| change.observed)),
        }
    }

    /// Whose a Media record is.
    fn owner(&self, row: &Map<String, Value>) -> Option<(String, Key)> {
        let named = text(row, "ResourceName").filter(|name| name != MEDIA);
        let known = |name: &String| self.snapshot.resource(name).is_ok();
        let resource = named.filter(known).unwrap_or_else(|| PROPERTY.to_owned());
        let numeric = text(row, "ResourceRecordKeyNumeric");
        let key = text(row, "ResourceRecordKey");
        let by_number = self
            .snapshot
            .resource(&resource)
            .is_ok_and(|r| r.key_field.ends_with("Numeric"));
        let wanted = if by_number {
            numeric.or(key)
        } else {
            key.or(numeric)
        };
        let wanted = wanted.or_else(|| text(row, "ListingKey"))?;
        let key = self.snapshot.parse_key(&resource, &wanted).ok();
        Some((resource, key.unwrap_or(Key::Str(wanted))))
    }

    /// A record that may hold its media, or whose media are asked for.
    fn listing(
        &self,
        txn: &mut WriteTxn,
        (resource, key): (&str, &Key),
        record: &Record,
        dropped: &mut Dropped,
    ) -> Result<()> {
        let Some(row) = object(record) else {
            return Ok(());
        };
        for entry in txn.media_of(resource, key)? {
            if entry.state == MediaState::Withdrawn {
                put_item(txn, entry.item, entry.listed, dropped)?;
            }
        }
        let count = whole(&row, "PhotosCount");
        if let Some(Value::Array(_)) = row.get(MEDIA) {
            let list = row.get(MEDIA).map(Value::to_string).unwrap_or_default();
            let rows = rows(list.as_bytes()).unwrap_or_default();
            let listing = Listing {
                resource,
                key,
                count,
                listed: self.observed(resource, key)?,
            };
            return put_list(txn, &listing, &rows, self.policy, dropped).map(drop);
        }
        if resource != PROPERTY || self.has_set || !self.policy.ask {
            return Ok(());
        }
        if count == Some(0) {
            txn.remove_media_list(resource, key)?;
            let listing = Listing {
                resource,
                key,
                count,
                listed: None,
            };
            return put_list(txn, &listing, &[], self.policy, dropped).map(drop);
        }
        let stamp = text(&row, "PhotosChangeTimestamp").unwrap_or_default();
        let known = txn.media_list(resource, key)?;
        if known.is_some_and(|list| list.stamp == stamp && list.count == count) {
            return Ok(());
        }
        txn.put_media_list(&MediaList {
            resource: resource.to_owned(),
            record_key: key.clone(),
            stamp,
            count,
            due: true,
            strikes: 0,
            error: None,
        })
    }
}

/// A record, and how many media it says that it has.
pub(super) struct Listing<'a> {
    pub(super) resource: &'a str,
    pub(super) key: &'a Key,
    pub(super) count: Option<i64>,
    /// When its media were listed: their URLs may be good for a while only.
    pub(super) listed: Option<Timestamp>,
}

fn object(record: &Record) -> Option<Map<String, Value>> {
    match serde_json::from_str(&record.to_json(None)).ok()? {
        Value::Object(row) => Some(row),
        _ => None,
    }
}

fn media_name(row: &Map<String, Value>) -> Option<String> {
    let names = ["MediaKey", "MediaKeyNumeric", "MediaObjectID"];
    names
        .iter()
        .find_map(|name| text(row, name))
        .or_else(|| text(row, "MediaURL").map(|url| super::read::unsigned(&url)))
}

/// Files whose last use may be gone, and counts.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    files: Vec<HeldFile>,
    pub(super) gone: u64,
    pub(super) taken_over: u64,
}

impl Dropped {
    pub(super) fn file(&mut self, held: HeldFile) {
        self.files.push(held);
    }

    /// Removes the files that nothing uses any more. They go before the transaction is committed:
    /// were it the other way, a crash between would leave files that nothing knows of.
    pub(super) fn remove(self, txn: &WriteTxn, files: &MediaFiles) -> Result<u64> {
        let mut removed = 0;
        for held in self.files {
            if !txn.content_is_used(held.content)? {
                removed += u64::from(files.holds(&held));
                files.remove(&held)?;
            }
        }
        Ok(removed)
    }
}

/// One item, whatever was known of it.
pub(super) fn put_item(
    txn: &mut WriteTxn,
    item: MediaItem,
    listed: Option<Timestamp>,
    dropped: &mut Dropped,
) -> Result<()> {
    let before = txn.media_entry(item.place())?;
    let siblings = match before {
        Some(_) => Vec::new(),
        None => txn.media_of(&item.resource, &item.record_key)?,
    };
    let new = before.is_none();
    let entry = merged(before, item, listed, &siblings);
    dropped.taken_over += u64::from(new && entry.held.is_some());
    txn.put_media(&entry)
}

/// The list of a record's media, as far as it can be believed: one shorter than what the record
/// says of their number removes nothing. Whether it was believed.
pub(super) fn put_list(
    txn: &mut WriteTxn,
    listing: &Listing<'_>,
    rows: &[Map<String, Value>],
    policy: MediaPolicy,
    dropped: &mut Dropped,
) -> Result<bool> {
    let before = txn.media_of(listing.resource, listing.key)?;
    let mut listed = std::collections::HashSet::new();
    for row in rows {
        if let Some(item) = item(row, listing.resource, listing.key) {
            listed.insert(item.place());
            put_item(txn, item, listing.listed, dropped)?;
        }
    }
    let met = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let believed = match listing.count {
        Some(count) => met >= count,
        None => met > 0,
    };
    if believed {
        for entry in before {
            if !listed.contains(&entry.item.place()) {
                drop_entry(txn, entry, policy, dropped)?;
            }
        }
    }
    Ok(believed)
}

/// A medium that is gone.
fn drop_entry(
    txn: &mut WriteTxn,
    entry: MediaEntry,
    policy: MediaPolicy,
    dropped: &mut Dropped,
) -> Result<()> {
    if entry.state == MediaState::Retired {
        return Ok(());
    }
    dropped.gone += 1;
    match (policy.on_delete, &entry.held) {
        (OnDelete::Keep, Some(_)) => txn.put_media(&MediaEntry {
            state: MediaState::Retired,
            ..entry
        }),
        (_, held) => {
            if let Some(held) = held {
                dropped.file(held.clone());
            }
            txn.remove_media(entry.item.place())
        }
    }
}
