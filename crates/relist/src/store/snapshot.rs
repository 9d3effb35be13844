//! Snapshots: everything as it was at one sequence.

use std::cell::RefCell;
use std::ops::Bound;
use std::sync::Arc;

use super::bodies::{Dictionaries, Dictionary, Held, block_range, read_dictionary};
use super::changelog::{Change, Entry, Operation};
use super::format::{TableId, corrupt, decode, decode_grown, unseal};
use super::guarded::{Range, ReadOnlyTable, ReadTransaction};
use super::tables as t;
use super::{
    Birth, Catalog, Checkpoint, Counters, Engine, Head, Position, Quarantined, RunReport,
    SharedCatalog, Tombstone, engine,
};
use crate::error::{Error, Result};
use crate::keycode::Key;
use crate::record::{Record, RecordBuf};
use crate::schema::{FieldType, Resource, Schema};
use crate::value::Timestamp;

pub(super) fn birth(txn: &ReadTransaction) -> Result<Birth> {
    let no_birth = || Error::Format {
        reason: "the file is a database, but not a Relist store: it has no birth entry".to_owned(),
    };
    let meta = match txn.open_table(t::META) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Err(no_birth()),
        other => other.map_err(engine)?,
    };
    let bytes = meta.get("birth").map_err(engine)?.ok_or_else(no_birth)?;
    decode((TableId::Meta, "birth"), bytes.value())
}

pub(super) fn counters(txn: &ReadTransaction) -> Result<Counters> {
    let meta = txn.open_table(t::META).map_err(engine)?;
    let bytes = meta.get("counters").map_err(engine)?;
    decode(
        (TableId::Meta, "counters"),
        bytes
            .ok_or_else(|| corrupt(TableId::Meta, "no counters"))?
            .value(),
    )
}

pub(super) fn catalog(txn: &ReadTransaction) -> Result<Catalog> {
    let table = txn.open_table(t::CATALOG).map_err(engine)?;
    let bytes = table.get("catalog").map_err(engine)?;
    decode(
        (TableId::Catalog, "catalog"),
        bytes
            .ok_or_else(|| corrupt(TableId::Catalog, "none"))?
            .value(),
    )
}

/// No page of the engine's holds as many heads.
const PAGE_HEADS: usize = 64;

/// A moment of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// Just after that sequence.
    Sequence(u64),
    /// At that time, as observed by the store.
    Instant(Timestamp),
}

/// One version of a record, and when it was current.
#[derive(Debug, Clone)]
pub struct Version {
    /// The sequence that made it.
    pub from: u64,
    /// The sequence that ended it; `None` while it is current.
    pub to: Option<u64>,
    /// What the record was.
    pub record: Record,
}

/// A consistent, unchanging view of a [`Store`](super::Store).
///
/// While it lives, the space of what is replaced is not reused: renew it in long-running readers.
pub struct Snapshot {
    // Before the engine: fields are dropped in this order.
    pub(super) txn: ReadTransaction,
    _engine: Arc<Engine>,
    shared: SharedCatalog,
    pub(super) counters: Counters,
    pub(super) cache: Arc<super::columns::ColumnCache>,
    dictionaries: Dictionaries,
    /// Which fields are indexed, once it was asked.
    pub(super) indexes: std::sync::OnceLock<super::indexes::Indexes>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("sequence", &self.sequence())
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(super) fn new(
        txn: ReadTransaction,
        engine: Arc<Engine>,
        shared: SharedCatalog,
        counters: Counters,
        cache: Arc<super::columns::ColumnCache>,
        dictionaries: Dictionaries,
    ) -> Self {
        Snapshot {
            txn,
            _engine: engine,
            shared,
            counters,
            cache,
            dictionaries,
            indexes: std::sync::OnceLock::new(),
        }
    }

    /// The last sequence in this view.
    pub fn sequence(&self) -> u64 {
        self.counters.sequence
    }

    /// The schema of all resources.
    pub fn schema(&self) -> &Schema {
        &self.shared.catalog.schema
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.shared.catalog
    }

    /// The resource of that name.
    ///
    /// # Errors
    /// [`Error::UnknownResource`], with the names there are.
    pub fn resource(&self, name: &str) -> Result<Arc<Resource>> {
        Ok(self.resource_by_id(self.catalog().require(name)?))
    }

    fn resource_by_id(&self, id: u16) -> Arc<Resource> {
        let found = self.shared.resources.get(usize::from(id)).cloned();
        found.unwrap_or_else(|| {
            // Ids are only ever read from this store's own catalog.
            Arc::new(Resource {
                name: format!("resource {id}"),
                key_field: String::new(),
                declared: false,
                fields: Vec::new(),
                navigation: Vec::new(),
            })
        })
    }

    /// Reads a key as the resource has them: integer or string.
    ///
    /// # Errors
    /// [`Error::Usage`] when the text is no key of that kind.
    pub fn parse_key(&self, resource: &str, text: &str) -> Result<Key> {
        let def = self.resource(resource)?;
        let integer = def
            .field_named(&def.key_field)
            .is_some_and(|f| f.ty == FieldType::Int);
        Key::from_text(text, integer).ok_or_else(|| {
            let kind = if integer {
                "an integer"
            } else {
                "a string of 1 to 1,024 bytes"
            };
            Error::Usage(format!("{resource} keys are {kind}, not {text:?}"))
        })
    }

    /// How many records of a resource are current.
    pub fn count(&self, resource: &str) -> Result<u64> {
        let id = self.catalog().require(resource)?;
        Ok(self
            .counters
            .live
            .get(usize::from(id))
            .copied()
            .unwrap_or(0))
    }

    /// A current record.
    pub fn get(&self, resource: &str, key: &Key) -> Result<Option<Record>> {
        self.get_at(resource, key, AsOf::Sequence(self.sequence()))
    }

    /// A record as it was.
    pub fn get_at(&self, resource: &str, key: &Key, at: AsOf) -> Result<Option<Record>> {
        let id = self.catalog().require(resource)?;
        let sequence = self.resolve(at)?;
        let Some(head) = self.head(id, key)? else {
            return Ok(None);
        };
        let reader = self.reader(id, sequence)?;
        let Some(row) = reader.row_of(&head)? else {
            return Ok(None);
        };
        Ok(Some(Record::new(
            self.resource_by_id(id),
            reader.body(row)?,
        )))
    }

    fn head(&self, resource: u16, key: &Key) -> Result<Option<Head>> {
        let table = self.txn.open_table(t::HEADS).map_err(engine)?;
        let at = t::record_key(resource, key);
        if let Some(bytes) = table.get(at.as_slice()).map_err(engine)? {
            return Head::decode(&at, bytes.value()).map(Some);
        }
        // It is not there; or a damaged key in the same page of the engine's leads past it. Then
        // one of these has a checksum that does not fit its key.
        let before = table.range::<&[u8]>(..at.as_slice()).map_err(engine)?.rev();
        let after = table.range::<&[u8]>(at.as_slice()..).map_err(engine)?;
        for entry in before.take(PAGE_HEADS).chain(after.take(PAGE_HEADS)) {
            let (key, value) = entry.map_err(engine)?;
            Head::decode(key.value(), value.value())?;
        }
        Ok(None)
    }

    /// The head of a key.
    pub(crate) fn head_of(&self, resource: &str, key: &Key) -> Result<Option<Head>> {
        self.head(self.catalog().require(resource)?, key)
    }

    /// Visits the heads of the current records.
    pub(crate) fn each_head(&self, resource: &str, mut visit: impl FnMut(&Head)) -> Result<()> {
        let id = self.catalog().require(resource)?;
        let heads = self.txn.open_table(t::HEADS).map_err(engine)?;
        let (start, end) = t::resource_range(id);
        let range = heads.range(start.as_slice()..end.as_slice());
        for entry in range.map_err(engine)? {
            let (key, value) = entry.map_err(engine)?;
            let head = Head::decode(key.value(), value.value())?;
            if !head.deleted {
                visit(&head);
            }
        }
        Ok(())
    }

    /// The keys of the current records, ascending.
    pub(crate) fn live_keys(&self, resource: &str) -> Result<Vec<Key>> {
        let id = self.catalog().require(resource)?;
        let heads = self.txn.open_table(t::HEADS).map_err(engine)?;
        let (start, end) = t::resource_range(id);
        let mut out = Vec::new();
        for entry in heads
            .range(start.as_slice()..end.as_slice())
            .map_err(engine)?
        {
            let (key, value) = entry.map_err(engine)?;
            if !Head::decode(key.value(), value.value())?.deleted {
                out.push(t::key_of(key.value()).ok_or_else(|| corrupt(TableId::Heads, "a key"))?);
            }
        }
        Ok(out)
    }

    /// Visits the slots of a resource in ascending order of key, deleted ones too.
    pub(crate) fn each_slot(
        &self,
        resource: u16,
        mut visit: impl FnMut(u32) -> Result<bool>,
    ) -> Result<()> {
        let heads = self.txn.open_table(t::HEADS).map_err(engine)?;
        let (start, end) = t::resource_range(resource);
        for entry in heads
            .range(start.as_slice()..end.as_slice())
            .map_err(engine)?
        {
            let (key, value) = entry.map_err(engine)?;
            let head = Head::decode(key.value(), value.value())?;
            if !visit(head.slot)? {
                break;
            }
        }
        Ok(())
    }

    fn reader(&self, resource: u16, sequence: u64) -> Result<VersionReader<'_>> {
        Ok(VersionReader {
            resource,
            // At the latest sequence every head is current, and history is never asked.
            sequence,
            history: self.txn.open_table(t::HISTORY).map_err(engine)?,
            changelog: self.txn.open_table(t::CHANGELOG).map_err(engine)?,
            bodies: self.bodies()?,
        })
    }

    /// Reads records of a resource by their rows.
    pub(crate) fn records(&self, resource: u16) -> Result<RecordReader<'_>> {
        Ok(RecordReader {
            resource: self.resource_by_id(resource),
            bodies: self.bodies()?,
        })
    }

    /// Reads bodies by their rows.
    pub(super) fn bodies(&self) -> Result<BodyReader<'_>> {
        Ok(BodyReader {
            versions: self.txn.open_table(t::VERSIONS).map_err(engine)?,
            snapshot: self,
            held: RefCell::new(None),
        })
    }

    pub(super) fn dictionary(&self, id: u32) -> Result<Option<Arc<Dictionary>>> {
        if id == 0 {
            return Ok(None);
        }
        if let Some(held) = self.dictionaries.held(id) {
            return Ok(Some(held));
        }
        let table = self.txn.open_table(t::DICTIONARIES).map_err(engine)?;
        let dictionary = read_dictionary(&table, id)?;
        self.dictionaries.put(Arc::clone(&dictionary));
        Ok(Some(dictionary))
    }

    /// The versions of a record, oldest first. Empty for a key that was never seen.
    pub fn history(&self, resource: &str, key: &Key) -> Result<Vec<Version>> {
        let id = self.catalog().require(resource)?;
        let Some(head) = self.head(id, key)? else {
            return Ok(Vec::new());
        };
        let reader = self.reader(id, self.sequence())?;
        let definition = self.resource_by_id(id);
        let logged = self.entries_of(id, &head)?;
        let mut out: Vec<Version> = Vec::new();
        let (start, end) = (
            t::slot_key(id, head.slot, 0),
            t::slot_key(id, head.slot, u64::MAX),
        );
        let range = reader
            .history
            .range(start.as_slice()..=end.as_slice())
            .map_err(engine)?;
        for entry in range {
            let (key, value) = entry.map_err(engine)?;
            let (row, from) = past(key.value(), value.value())?;
            let to = t::split_slot_key(key.value()).map(|(.., sequence)| sequence);
            let record = Record::new(Arc::clone(&definition), reader.body(row)?);
            out.push(Version { from, to, record });
        }
        if !head.deleted {
            let record = Record::new(definition, reader.body(head.row)?);
            out.push(Version {
                from: head.valid_from,
                to: None,
                record,
            });
        }
        let made = logged.iter().filter(|(_, entry)| entry.row > 0);
        for (sequence, _) in made {
            if !out.iter().any(|version| version.from == *sequence) {
                return Err(corrupt(TableId::History, "a version is missing"));
            }
        }
        Ok(out)
    }

    /// Visits the records of a resource in ascending order of key, as they were at `at`.
    ///
    /// The visitor says whether to go on.
    pub fn scan(
        &self,
        resource: &str,
        at: AsOf,
        visit: impl FnMut(&Key, Record) -> Result<bool>,
    ) -> Result<()> {
        self.scan_after(resource, None, at, visit)
    }

    /// Like [`scan`](Snapshot::scan), but only the records behind a key.
    pub fn scan_after(
        &self,
        resource: &str,
        after: Option<&Key>,
        at: AsOf,
        mut visit: impl FnMut(&Key, Record) -> Result<bool>,
    ) -> Result<()> {
        let id = self.catalog().require(resource)?;
        let sequence = self.resolve(at)?;
        let reader = self.reader(id, sequence)?;
        let definition = self.resource_by_id(id);
        let heads = self.txn.open_table(t::HEADS).map_err(engine)?;
        let (start, end) = t::resource_range(id);
        let start = match after {
            Some(key) => Bound::Excluded(t::record_key(id, key)),
            None => Bound::Included(start),
        };
        let range = (
            start.as_ref().map(Vec::as_slice),
            Bound::Excluded(end.as_slice()),
        );
        let mut found = 0;
        for entry in heads.range::<&[u8]>(range).map_err(engine)? {
            let (key, value) = entry.map_err(engine)?;
            let head = Head::decode(key.value(), value.value())?;
            let Some(row) = reader.row_of(&head)? else {
                continue;
            };
            let key = t::key_of(key.value()).ok_or_else(|| corrupt(TableId::Heads, "a key"))?;
            let record = Record::new(Arc::clone(&definition), reader.body(row)?);
            found += 1;
            if !visit(&key, record)? {
                return Ok(());
            }
        }
        // A damaged page of the engine's may hide some: then this is no answer.
        if after.is_none() && sequence == self.sequence() && found != self.count(resource)? {
            return Err(corrupt(TableId::Heads, "records are missing"));
        }
        Ok(())
    }

    /// The changes after a sequence, in order.
    ///
    /// # Errors
    /// [`Error::Pruned`] when some of them are not held any more.
    pub fn changes(&self, since: u64) -> Result<Changes<'_>> {
        let table = self.txn.open_table(t::CHANGELOG).map_err(engine)?;
        if let Some((oldest, _)) = table.first().map_err(engine)?
            && oldest.value() > since + 1
        {
            return Err(Error::Pruned {
                oldest: oldest.value(),
            });
        }
        let range = table.range(since.saturating_add(1)..).map_err(engine)?;
        Ok(Changes {
            snapshot: self,
            range,
            next: since.saturating_add(1),
        })
    }

    /// The changes of one record, in order.
    pub fn changes_of(&self, resource: &str, key: &Key) -> Result<Vec<Change>> {
        let id = self.catalog().require(resource)?;
        let Some(head) = self.head(id, key)? else {
            return Ok(Vec::new());
        };
        let entries = self.entries_of(id, &head)?.into_iter();
        Ok(entries.map(|(at, entry)| self.change(at, entry)).collect())
    }

    /// The log's entries of one record, in order.
    fn entries_of(&self, id: u16, head: &Head) -> Result<Vec<(u64, Entry)>> {
        let own = self.txn.open_table(t::CHANGES_BY_KEY).map_err(engine)?;
        let changelog = self.txn.open_table(t::CHANGELOG).map_err(engine)?;
        let (start, end) = (
            t::slot_key(id, head.slot, 0),
            t::slot_key(id, head.slot, u64::MAX),
        );
        let mut out = Vec::new();
        let mut last: Option<(u64, u64)> = None;
        for entry in own
            .range(start.as_slice()..=end.as_slice())
            .map_err(engine)?
        {
            let (own_key, _) = entry.map_err(engine)?;
            let (.., sequence) = t::split_slot_key(own_key.value())
                .ok_or_else(|| corrupt(TableId::Changelog, "a key"))?;
            let found = changelog.get(sequence).map_err(engine)?;
            let bytes = found.ok_or_else(|| {
                corrupt(
                    TableId::Changelog,
                    &format!("sequence {sequence} is missing"),
                )
            })?;
            let entry = Entry::decode(sequence, bytes.value())?;
            // Each follows the one before: none is missing, and none is another record's.
            let follows = last.is_none_or(|(row, _)| row == entry.previous_row);
            if !follows || (entry.resource, entry.slot) != (id, head.slot) {
                return Err(corrupt(
                    TableId::Changelog,
                    "a change of a record is missing",
                ));
            }
            last = Some((entry.row, sequence));
            out.push((sequence, entry));
        }
        let current = if head.deleted { 0 } else { head.row };
        let logged = || changelog.get(head.valid_from).map_err(engine);
        let ends = match last {
            Some(last) => last == (current, head.valid_from),
            None => logged()?.is_none(),
        };
        if !ends {
            return Err(corrupt(
                TableId::Changelog,
                "the last change of a record is missing",
            ));
        }
        Ok(out)
    }

    fn change(&self, sequence: u64, entry: Entry) -> Change {
        let resource = self.resource_by_id(entry.resource);
        Change::resolve(sequence, entry, &resource)
    }

    /// The tombstones of a resource, in ascending order of key; with those of keys that were
    /// deleted before they were ever seen (sequence 0).
    pub fn tombstones(&self, resource: &str) -> Result<Vec<(Key, Tombstone)>> {
        let id = self.catalog().require(resource)?;
        let table = self.txn.open_table(t::TOMBSTONES).map_err(engine)?;
        let (start, end) = t::resource_range(id);
        let range = table
            .range(start.as_slice()..end.as_slice())
            .map_err(engine)?;
        range
            .map(|entry| {
                let (key, value) = entry.map_err(engine)?;
                let own =
                    t::key_of(key.value()).ok_or_else(|| corrupt(TableId::Tombstones, "a key"))?;
                let place = (TableId::Tombstones, key.value());
                Ok((own, decode(place, value.value())?))
            })
            .collect()
    }

    /// What was put aside.
    pub fn quarantined(&self) -> Result<Vec<Quarantined>> {
        let table = self.txn.open_table(t::QUARANTINE).map_err(engine)?;
        let range = table.range::<&[u8]>(..).map_err(engine)?;
        range
            .map(|entry| {
                let (key, value) = entry.map_err(engine)?;
                decode((TableId::Quarantine, key.value()), value.value())
            })
            .collect()
    }

    /// How far a resource's replication has come; the default when it never began.
    pub fn checkpoint(&self, resource: &str) -> Result<Checkpoint> {
        let table = self.txn.open_table(t::CHECKPOINTS).map_err(engine)?;
        if let Some(bytes) = table.get(resource).map_err(engine)? {
            return decode((TableId::Checkpoints, resource), bytes.value());
        }
        // None, or one whose name is damaged.
        for entry in table.range::<&str>(..).map_err(engine)? {
            let (name, value) = entry.map_err(engine)?;
            decode::<Checkpoint>((TableId::Checkpoints, name.value()), value.value())?;
        }
        Ok(Checkpoint::default())
    }

    /// The reports of the last runs, newest first.
    pub fn runs(&self, most: usize) -> Result<Vec<RunReport>> {
        let table = self.txn.open_table(t::RUNS).map_err(engine)?;
        let range = table.range::<u64>(..).map_err(engine)?;
        range
            .rev()
            .take(most)
            .map(|entry| {
                let (run, value) = entry.map_err(engine)?;
                decode_grown((TableId::Runs, run.value()), value.value())
            })
            .collect()
    }

    /// The report of one run.
    pub fn run(&self, run: u64) -> Result<Option<RunReport>> {
        let table = self.txn.open_table(t::RUNS).map_err(engine)?;
        let found = table.get(run).map_err(engine)?;
        found
            .map(|bytes| decode_grown((TableId::Runs, run), bytes.value()))
            .transpose()
    }

    /// When the store was created: by this it is told from another one of the same name.
    pub fn created(&self) -> Result<Timestamp> {
        Ok(birth(&self.txn)?.created)
    }

    /// How far the events of a watcher were delivered; see [`crate::watch`].
    pub fn position(&self, watcher: &str) -> Result<Option<Position>> {
        let positions = self.positions()?;
        let found = positions.into_iter().find(|(name, _)| name == watcher);
        Ok(found.map(|(_, position)| position))
    }

    /// The positions of all watchers, by their names.
    pub fn positions(&self) -> Result<Vec<(String, Position)>> {
        let table = match self.txn.open_table(t::POSITIONS) {
            // A store from before there were watchers.
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            other => other.map_err(engine)?,
        };
        let range = table.range::<&str>(..).map_err(engine)?;
        range
            .map(|entry| {
                let (name, value) = entry.map_err(engine)?;
                let position = decode((TableId::Positions, name.value()), value.value())?;
                Ok((name.value().to_owned(), position))
            })
            .collect()
    }
}

/// Iterates over [`Change`]s in order of sequence; stops at the first error.
pub struct Changes<'s> {
    snapshot: &'s Snapshot,
    range: Range<'static, u64, t::Bytes>,
    /// The sequence that comes next: the log has no gaps.
    next: u64,
}

impl Changes<'_> {
    fn step(&mut self) -> Result<Option<Change>> {
        let Some(entry) = self.range.next() else {
            if self.next <= self.snapshot.sequence() {
                return Err(self.gap());
            }
            return Ok(None);
        };
        let (sequence, value) = entry.map_err(engine)?;
        let sequence = sequence.value();
        if sequence != self.next {
            return Err(self.gap());
        }
        self.next += 1;
        let entry = Entry::decode(sequence, value.value())?;
        Ok(Some(self.snapshot.change(sequence, entry)))
    }

    fn gap(&mut self) -> Error {
        let missing = std::mem::replace(&mut self.next, u64::MAX);
        corrupt(
            TableId::Changelog,
            &format!("sequence {missing} is missing"),
        )
    }
}

impl Iterator for Changes<'_> {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == u64::MAX {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.next = u64::MAX;
        }
        step.transpose()
    }
}

impl std::fmt::Debug for Changes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

/// Reads the versions of one resource's records as they were at one sequence.
struct VersionReader<'s> {
    resource: u16,
    sequence: u64,
    history: ReadOnlyTable<t::Bytes, t::Bytes>,
    changelog: ReadOnlyTable<u64, t::Bytes>,
    bodies: BodyReader<'s>,
}

impl VersionReader<'_> {
    /// The row that was current at the sequence; `None` when the record was not there.
    fn row_of(&self, head: &Head) -> Result<Option<u64>> {
        if head.valid_from <= self.sequence {
            return Ok((!head.deleted).then_some(head.row));
        }
        let after = t::slot_key(self.resource, head.slot, self.sequence.saturating_add(1));
        let end = t::slot_key(self.resource, head.slot, u64::MAX);
        let mut range = self
            .history
            .range(after.as_slice()..=end.as_slice())
            .map_err(engine)?;
        let Some(entry) = range.next() else {
            return self.came(head.valid_from).map(|()| None);
        };
        let (key, value) = entry.map_err(engine)?;
        let (row, from) = past(key.value(), value.value())?;
        if from <= self.sequence {
            return Ok(Some(row));
        }
        // Between two versions the record was deleted; before the first it was unknown.
        self.came(from).map(|()| None)
    }

    /// That a record came with a change, and was not there before: else its version is missing.
    fn came(&self, sequence: u64) -> Result<()> {
        let Some(entry) = self.changelog.get(sequence).map_err(engine)? else {
            return Ok(());
        };
        match Entry::decode(sequence, entry.value())?.operation {
            Operation::Insert | Operation::Relist => Ok(()),
            _ => Err(corrupt(TableId::History, "a version is missing")),
        }
    }

    fn body(&self, row: u64) -> Result<RecordBuf> {
        self.bodies.body(row)
    }
}

/// Reads bodies; the block of the last one is held.
pub(super) struct BodyReader<'s> {
    versions: ReadOnlyTable<u64, t::Bytes>,
    snapshot: &'s Snapshot,
    held: RefCell<Option<Held<'static>>>,
}

/// Reads records by their rows; those of one block one after the other cost least.
pub(crate) struct RecordReader<'s> {
    resource: Arc<Resource>,
    bodies: BodyReader<'s>,
}

impl RecordReader<'_> {
    /// The record of a row.
    pub(crate) fn record(&self, row: u64) -> Result<Record> {
        let body = self.bodies.body(row)?;
        Ok(Record::new(Arc::clone(&self.resource), body))
    }
}

impl BodyReader<'_> {
    pub(super) fn body(&self, row: u64) -> Result<RecordBuf> {
        let mut held = self.held.borrow_mut();
        if let Some(block) = held.as_ref().filter(|block| block.holds(row)) {
            return block.body(row);
        }
        let range = self.versions.range(block_range(row)).map_err(engine)?;
        let block = Held::find(range, row, |id| self.snapshot.dictionary(id))?;
        held.insert(block).body(row)
    }
}

/// Row and first sequence of a past version.
pub(super) fn past(key: &[u8], bytes: &[u8]) -> Result<(u64, u64)> {
    let short = || corrupt(TableId::History, "a short entry");
    let (row, rest) = unseal((TableId::History, key), bytes)?
        .split_first_chunk()
        .ok_or_else(short)?;
    let from = rest.split_first_chunk().ok_or_else(short)?.0;
    Ok((u64::from_le_bytes(*row), u64::from_le_bytes(*from)))
}
