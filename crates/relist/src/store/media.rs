//! The media tables: which files there should be, which there are, and what is still to do.
//!
//! A medium's place is 32 bytes: the hash of its owner (resource and key), then the hash of its
//! MediaKey. So the media of one listing lie together, and no key that a feed invents can be too
//! long or look like another. What is due stands in a table of its own: a run never looks through
//! what is done.
//!
//! These tables came after the first stores: one that lacks them has no media.

use redb::TableError;
use serde::{Deserialize, Serialize};

use super::format::{TableId, corrupt, decode, decode_grown, encode};
use super::guarded::{ReadOnlyTable, ReadableTable};
use super::tables as t;
use super::{Snapshot, WriteTxn, engine};
use crate::error::Result;
use crate::keycode::Key;
use crate::value::Timestamp;

/// What a feed says of one medium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaItem {
    /// The resource it belongs to: `Property`.
    pub resource: String,
    /// The key of the record it belongs to.
    pub record_key: Key,
    /// `MediaKey`, or what stands for it where the feed gives none: its object id, its URL.
    pub media_key: String,
    /// `Order`.
    pub order: Option<i64>,
    /// `MediaURL`. It may hold a signature: show it without its query.
    pub url: String,
    /// `MediaCategory`: `Photo`, `Document`.
    pub category: Option<String>,
    /// `MimeType`, as the feed claims it.
    pub mime_type: Option<String>,
    /// `MediaModificationTimestamp`.
    pub modified: Option<Timestamp>,
}

/// What a file is, told from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediaKind {
    /// image/jpeg.
    Jpeg,
    /// image/png.
    Png,
    /// image/gif.
    Gif,
    /// image/webp.
    Webp,
    /// application/pdf.
    Pdf,
}

/// The file that holds a medium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldFile {
    /// xxh3-128 of its bytes, which is its name.
    pub content: u128,
    /// What it is.
    pub kind: MediaKind,
    /// How long it is.
    pub bytes: u64,
    /// When it was fetched, as observed.
    pub fetched: Timestamp,
    /// The URL it was fetched from.
    pub url: String,
    /// The server's `ETag`.
    pub etag: Option<String>,
    /// `MediaModificationTimestamp` of what was fetched.
    pub modified: Option<Timestamp>,
}

/// Where a medium stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MediaState {
    /// To be fetched.
    Wanted,
    /// Its file is there and current.
    Have,
    /// It failed three times; it is tried again when its URL or its stamp changes.
    Parked,
    /// It is gone from the feed, and its file is kept by policy.
    Retired,
    /// Its listing is gone; it comes back with it.
    Withdrawn,
}

/// One medium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaEntry {
    /// What the feed says.
    pub item: MediaItem,
    /// Where it stands.
    pub state: MediaState,
    /// How often its URL failed.
    pub strikes: u32,
    /// The last error, without the URL's query.
    pub error: Option<String>,
    /// The file; also one that is out of date, until the next is there.
    pub held: Option<HeldFile>,
    // Fields are added at the end only: older entries are read without them.
    /// When the feed gave out the URL, as far as it is known: some are good for a while only.
    pub listed: Option<Timestamp>,
}

/// How far the media of one record are known, where they are asked for record by record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaList {
    /// The resource.
    pub resource: String,
    /// The record.
    pub record_key: Key,
    /// What its photo stamp was (`PhotosChangeTimestamp`), or what stands for it.
    pub stamp: String,
    /// How many the record says there are (`PhotosCount`).
    pub count: Option<i64>,
    /// Whether they are still to be listed.
    pub due: bool,
    /// How often listing them failed.
    pub strikes: u32,
    /// The last error.
    pub error: Option<String>,
}

/// Where a medium's entry is: owner and item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct MediaPlace([u8; 32]);

impl MediaPlace {
    /// The place of a medium.
    pub(crate) fn new(resource: &str, record: &Key, media_key: &str) -> Self {
        let owner = MediaPlace::owner_hash(resource, record);
        let item = xxhash_rust::xxh3::xxh3_128(media_key.as_bytes()).to_be_bytes();
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(owner.into_iter().chain(item)) {
            *to = from;
        }
        MediaPlace(bytes)
    }

    fn owner_hash(resource: &str, record: &Key) -> [u8; 16] {
        let mut name = resource.as_bytes().to_vec();
        name.push(0);
        record.encode(&mut name);
        xxhash_rust::xxh3::xxh3_128(&name).to_be_bytes()
    }

    fn due(self) -> Vec<u8> {
        [b"f".as_slice(), &self.0].concat()
    }

    fn file(self, content: u128) -> Vec<u8> {
        [content.to_be_bytes().as_slice(), &self.0].concat()
    }
}

impl MediaItem {
    pub(crate) fn place(&self) -> MediaPlace {
        MediaPlace::new(&self.resource, &self.record_key, &self.media_key)
    }
}

const META_SEQUENCE: &str = "media";

impl WriteTxn {
    /// The media of one record.
    pub(crate) fn media_of(&self, resource: &str, record: &Key) -> Result<Vec<MediaEntry>> {
        let table = self.txn.open_table(t::MEDIA).map_err(engine)?;
        owned(&table, resource, record)
    }

    pub(crate) fn media_entry(&self, place: MediaPlace) -> Result<Option<MediaEntry>> {
        let table = self.txn.open_table(t::MEDIA).map_err(engine)?;
        let found = table.get(place.0.as_slice()).map_err(engine)?;
        found
            .map(|bytes| decode_grown((TableId::Media, place.0.as_slice()), bytes.value()))
            .transpose()
    }

    /// Stores an entry, and what follows from it: whether it is due, which file holds it.
    pub(crate) fn put_media(&mut self, entry: &MediaEntry) -> Result<()> {
        let place = entry.item.place();
        let before = self.media_entry(place)?;
        if before.as_ref() == Some(entry) {
            return Ok(());
        }
        self.unlink_media(place, before.as_ref())?;
        let value = encode((TableId::Media, place.0.as_slice()), entry)?;
        let mut table = self.txn.open_table(t::MEDIA).map_err(engine)?;
        table
            .insert(place.0.as_slice(), value.as_slice())
            .map_err(engine)?;
        if entry.state == MediaState::Wanted {
            let mut due = self.txn.open_table(t::MEDIA_DUE).map_err(engine)?;
            due.insert(place.due().as_slice(), ()).map_err(engine)?;
        }
        if let Some(held) = &entry.held {
            let mut files = self.txn.open_table(t::MEDIA_FILES).map_err(engine)?;
            let key = place.file(held.content);
            files.insert(key.as_slice(), ()).map_err(engine)?;
        }
        Ok(())
    }

    pub(crate) fn remove_media(&mut self, place: MediaPlace) -> Result<()> {
        let before = self.media_entry(place)?;
        self.unlink_media(place, before.as_ref())?;
        let mut table = self.txn.open_table(t::MEDIA).map_err(engine)?;
        table.remove(place.0.as_slice()).map_err(engine)?;
        Ok(())
    }

    fn unlink_media(&self, place: MediaPlace, before: Option<&MediaEntry>) -> Result<()> {
        let Some(before) = before else {
            return Ok(());
        };
        let mut due = self.txn.open_table(t::MEDIA_DUE).map_err(engine)?;
        due.remove(place.due().as_slice()).map_err(engine)?;
        if let Some(held) = &before.held {
            let mut files = self.txn.open_table(t::MEDIA_FILES).map_err(engine)?;
            let key = place.file(held.content);
            files.remove(key.as_slice()).map_err(engine)?;
        }
        Ok(())
    }

    /// Whether any medium is held by the file of that content.
    pub(crate) fn content_is_used(&self, content: u128) -> Result<bool> {
        let table = self.txn.open_table(t::MEDIA_FILES).map_err(engine)?;
        let start = content.to_be_bytes();
        let first = table.range(start.as_slice()..).map_err(engine)?.next();
        let found = first.transpose().map_err(engine)?;
        Ok(found.is_some_and(|(key, _)| key.value().starts_with(&start)))
    }

    pub(crate) fn media_list(&self, resource: &str, record: &Key) -> Result<Option<MediaList>> {
        let table = self.txn.open_table(t::MEDIA_LISTS).map_err(engine)?;
        let owner = MediaPlace::owner_hash(resource, record);
        let found = table.get(owner.as_slice()).map_err(engine)?;
        found
            .map(|bytes| decode((TableId::MediaLists, owner.as_slice()), bytes.value()))
            .transpose()
    }

    pub(crate) fn put_media_list(&mut self, list: &MediaList) -> Result<()> {
        let owner = MediaPlace::owner_hash(&list.resource, &list.record_key);
        let value = encode((TableId::MediaLists, owner.as_slice()), list)?;
        let mut table = self.txn.open_table(t::MEDIA_LISTS).map_err(engine)?;
        table
            .insert(owner.as_slice(), value.as_slice())
            .map_err(engine)?;
        let mut due = self.txn.open_table(t::MEDIA_DUE).map_err(engine)?;
        let key = [b"l".as_slice(), &owner].concat();
        if list.due {
            due.insert(key.as_slice(), ()).map_err(engine)?;
        } else {
            due.remove(key.as_slice()).map_err(engine)?;
        }
        Ok(())
    }

    pub(crate) fn remove_media_list(&mut self, resource: &str, record: &Key) -> Result<()> {
        let owner = MediaPlace::owner_hash(resource, record);
        let mut table = self.txn.open_table(t::MEDIA_LISTS).map_err(engine)?;
        table.remove(owner.as_slice()).map_err(engine)?;
        let mut due = self.txn.open_table(t::MEDIA_DUE).map_err(engine)?;
        let key = [b"l".as_slice(), &owner].concat();
        due.remove(key.as_slice()).map_err(engine)?;
        Ok(())
    }

    /// Remembers up to which change the media follow the records.
    pub(crate) fn set_media_sequence(&mut self, sequence: u64) -> Result<()> {
        let value = encode((TableId::Meta, META_SEQUENCE), &sequence)?;
        let mut meta = self.txn.open_table(t::META).map_err(engine)?;
        meta.insert(META_SEQUENCE, value.as_slice())
            .map_err(engine)?;
        Ok(())
    }
}

fn owned(
    table: &impl ReadableTable<t::Bytes, t::Bytes>,
    resource: &str,
    record: &Key,
) -> Result<Vec<MediaEntry>> {
    let owner = MediaPlace::owner_hash(resource, record);
    let (start, end) = ([owner, [0; 16]].concat(), [owner, [0xff; 16]].concat());
    let range = table
        .range(start.as_slice()..=end.as_slice())
        .map_err(engine)?;
    range
        .map(|row| {
            let (key, value) = row.map_err(engine)?;
            decode_grown((TableId::Media, key.value()), value.value())
        })
        .collect()
}

impl Snapshot {
    /// Opens a table that an older store may lack.
    fn media_table<V: redb::Value + 'static>(
        &self,
        table: redb::TableDefinition<'static, t::Bytes, V>,
    ) -> Result<Option<ReadOnlyTable<t::Bytes, V>>> {
        match self.txn.open_table(table) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(engine(error)),
        }
    }

    /// Up to which change the media follow the records; `None` when they never did.
    pub fn media_sequence(&self) -> Result<Option<u64>> {
        let meta = self.txn.open_table(t::META).map_err(engine)?;
        let found = meta.get(META_SEQUENCE).map_err(engine)?;
        found
            .map(|bytes| decode((TableId::Meta, META_SEQUENCE), bytes.value()))
            .transpose()
    }

    /// The media of one record, in no order.
    pub fn media_of(&self, resource: &str, record: &Key) -> Result<Vec<MediaEntry>> {
        match self.media_table(t::MEDIA)? {
            Some(table) => owned(&table, resource, record),
            None => Ok(Vec::new()),
        }
    }

    /// Visits all media. The visitor says whether to go on.
    pub fn media(&self, mut visit: impl FnMut(MediaEntry) -> Result<bool>) -> Result<()> {
        let Some(table) = self.media_table(t::MEDIA)? else {
            return Ok(());
        };
        for row in table.range::<&[u8]>(..).map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            if !visit(decode_grown((TableId::Media, key.value()), value.value())?)? {
                break;
            }
        }
        Ok(())
    }

    /// Visits the records whose media are asked for record by record.
    pub fn media_lists(&self, mut visit: impl FnMut(MediaList) -> Result<bool>) -> Result<()> {
        let Some(table) = self.media_table(t::MEDIA_LISTS)? else {
            return Ok(());
        };
        for row in table.range::<&[u8]>(..).map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            if !visit(decode((TableId::MediaLists, key.value()), value.value())?)? {
                break;
            }
        }
        Ok(())
    }

    /// How many records are still to be listed and how many media to be fetched.
    pub fn media_due(&self) -> Result<(u64, u64)> {
        let Some(due) = self.media_table(t::MEDIA_DUE)? else {
            return Ok((0, 0));
        };
        let count = |from: &[u8], to: &[u8]| -> Result<u64> {
            Ok(due.range(from..to).map_err(engine)?.count() as u64)
        };
        Ok((count(b"l", b"m")?, count(b"f", b"g")?))
    }

    /// At most `most` media to be fetched, from those after `after`; with the place of the last.
    pub(crate) fn media_wanted(
        &self,
        after: Option<MediaPlace>,
        most: usize,
    ) -> Result<Vec<MediaEntry>> {
        let (Some(due), Some(media)) =
            (self.media_table(t::MEDIA_DUE)?, self.media_table(t::MEDIA)?)
        else {
            return Ok(Vec::new());
        };
        let start = after.map_or_else(
            || b"f".to_vec(),
            |place| {
                let mut start = place.due();
                start.push(0);
                start
            },
        );
        let mut out = Vec::new();
        for row in due
            .range(start.as_slice()..b"g".as_slice())
            .map_err(engine)?
            .take(most)
        {
            let (key, _) = row.map_err(engine)?;
            let place = key.value().get(1..).unwrap_or_default();
            let found = media.get(place).map_err(engine)?;
            let bytes = found.ok_or_else(|| corrupt(TableId::Media, "an entry is missing"))?;
            out.push(decode_grown((TableId::Media, place), bytes.value())?);
        }
        Ok(out)
    }

    /// At most `most` records to be listed, from those after `after`.
    pub(crate) fn media_unlisted(
        &self,
        after: Option<&MediaList>,
        most: usize,
    ) -> Result<Vec<MediaList>> {
        let (Some(due), Some(lists)) = (
            self.media_table(t::MEDIA_DUE)?,
            self.media_table(t::MEDIA_LISTS)?,
        ) else {
            return Ok(Vec::new());
        };
        let mut start = b"l".to_vec();
        if let Some(last) = after {
            start.extend(MediaPlace::owner_hash(&last.resource, &last.record_key));
            start.push(0);
        }
        let mut out = Vec::new();
        for row in due
            .range(start.as_slice()..b"m".as_slice())
            .map_err(engine)?
            .take(most)
        {
            let (key, _) = row.map_err(engine)?;
            let owner = key.value().get(1..).unwrap_or_default();
            let found = lists.get(owner);
            let bytes = found
                .map_err(engine)?
                .ok_or_else(|| corrupt(TableId::MediaLists, "an entry is missing"))?;
            out.push(decode((TableId::MediaLists, owner), bytes.value())?);
        }
        Ok(out)
    }
}
