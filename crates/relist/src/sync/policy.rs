//! The rules of one resource's sync, as data.

use crate::ingest::{DeletedFeed, GoneMark, MODIFICATION_TIMESTAMP};
use crate::value::Timestamp;

/// A resource that lists what happened to the records of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFeed {
    /// The entity set: `EntityEvent`.
    pub resource: String,
    /// Its field with the event's number, which only grows: `EntityEventSequence`.
    pub sequence_field: String,
    /// Its field that names the resource: `ResourceName`.
    pub resource_field: String,
    /// Its field with the record's key: `ResourceRecordKey`.
    pub key_field: String,
}

impl Default for EventFeed {
    /// The names that RCP-27 gives.
    fn default() -> Self {
        EventFeed {
            resource: "EntityEvent".to_owned(),
            sequence_field: "EntityEventSequence".to_owned(),
            resource_field: "ResourceName".to_owned(),
            key_field: "ResourceRecordKey".to_owned(),
        }
    }
}

/// How one resource of one provider is synced. A provider's profile gives these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The key field, when `$metadata` does not declare the resource.
    pub key_field: Option<String>,
    /// How a query is walked to its end.
    pub walk: WalkKind,
    /// Records a page; `None` leaves it to the server.
    pub page_size: Option<u64>,
    /// Records a page when only keys and stamps are read; `None` is as many as otherwise.
    pub page_size_keys: Option<u64>,
    /// Whether the page size is asked for by `Prefer: odata.maxpagesize` instead of `$top`.
    pub prefer_page_size: bool,
    /// The timestamp field that incremental runs go by; `None` when each run is full.
    pub cursor_field: Option<String>,
    /// A timestamp that moves when a record's photos change, where those do not move
    /// `cursor_field`: `PhotosChangeTimestamp`.
    pub photo_cursor: Option<String>,
    /// How far before the watermark an incremental run begins.
    pub overlap_seconds: u64,
    /// Digits of fraction that the server's stamps have.
    pub fraction_digits: u8,
    /// The feed of deletions, when there is one.
    pub deletes: Option<DeletedFeed>,
    /// The feed of events that incremental runs go by, instead of a timestamp.
    pub events: Option<EventFeed>,
    /// What a record says when it is gone, where the feed marks it so.
    pub gone: Option<GoneMark>,
    /// For how many days the feed shows records that are gone. Who was away for longer than a day
    /// compares all keys before a run is complete.
    pub gone_visible_days: Option<u32>,
    /// A clause in every `$filter`.
    pub filter: Option<String>,
    /// A clause in the `$filter` of full walks only.
    pub initial_filter: Option<String>,
    /// `$select` of every query.
    pub select: Option<String>,
    /// `$expand` of every query.
    pub expand: Option<String>,
    /// Whether the server takes `$orderby`.
    pub orderby: bool,
}

/// How a query is walked to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalkKind {
    /// `Key gt K` in order of key, until a page is empty. Rows that change, come or go during the
    /// walk cannot make it lose others.
    Keyset,
    /// Along the server's own `nextLink`.
    NextLink,
}

impl Default for Policy {
    /// A RESO server of which nothing is known: keyset walks, a cursor on ModificationTimestamp
    /// with 15 minutes of overlap, no feed of deletions.
    fn default() -> Self {
        Policy {
            key_field: None,
            walk: WalkKind::Keyset,
            page_size: Some(200),
            page_size_keys: None,
            prefer_page_size: false,
            cursor_field: Some(MODIFICATION_TIMESTAMP.to_owned()),
            photo_cursor: None,
            overlap_seconds: 900,
            fraction_digits: 0,
            deletes: None,
            events: None,
            gone: None,
            gone_visible_days: None,
            filter: None,
            initial_filter: None,
            select: None,
            expand: None,
            orderby: true,
        }
    }
}

impl Policy {
    /// The field that holds a record's source time.
    pub(crate) fn cursor(&self) -> &str {
        self.cursor_field
            .as_deref()
            .unwrap_or(MODIFICATION_TIMESTAMP)
    }

    /// A timestamp as a literal of the server's, rounded down to its digits.
    pub(crate) fn timestamp(&self, at: Timestamp) -> String {
        at.to_datetime().format(self.fraction_digits, true)
    }
}

/// What a sync does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// Incremental once the resource is live, full before.
    #[default]
    Auto,
    /// Every record again, then what vanished.
    Full,
    /// Keys and stamps only; what differs is fetched, what vanished is swept.
    Reconcile,
    /// One slice of the keys, whole records: edits that moved no stamp.
    Deep {
        /// Which slice, from 1.
        slice: u32,
        /// How many slices there are.
        of: u32,
    },
}

/// How a sync runs.
#[derive(Clone, Copy)]
pub struct SyncOptions<'a> {
    /// What it does.
    pub mode: SyncMode,
    /// Stop after so many pages; the next run goes on there.
    pub max_pages: Option<u64>,
    /// Delete what vanished even if it is more than the brake allows.
    pub confirm: bool,
    /// Tells the time; the library has no clock of its own.
    pub now: &'a dyn Fn() -> Timestamp,
}

impl std::fmt::Debug for SyncOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncOptions")
            .field("mode", &self.mode)
            .field("max_pages", &self.max_pages)
            .field("confirm", &self.confirm)
            .finish_non_exhaustive()
    }
}
