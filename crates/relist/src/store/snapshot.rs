//! Snapshots: everything as it was at one sequence.

use std::cell::RefCell;
use std::ops::Bound;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable as _};

use super::bodies::{Dictionaries, Dictionary, Held, block_range, read_dictionary};
use super::changelog::{Change, Entry};
use super::format::{TableId, corrupt, decode, decode_grown, unseal};
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
    decode(TableId::Meta, bytes.value())
}

pub(super) fn counters(txn: &ReadTransaction) -> Result<Counters> {
    let meta = txn.open_table(t::META).map_err(engine)?;
    let bytes = meta.get("counters").map_err(engine)?;
    decode(
        TableId::Meta,
        bytes
            .ok_or_else(|| corrupt(TableId::Meta, "no counters"))?
            .value(),
    )
}

pub(super) fn catalog(txn: &ReadTransaction) -> Result<Catalog> {
    let table = txn.open_table(t::CATALOG).map_err(engine)?;
    let bytes = table.get("catalog").map_err(engine)?;
    decode(
        TableId::Catalog,
        bytes
            .ok_or_else(|| corrupt(TableId::Catalog, "none"))?
            .value(),
    )
}

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

    /// The sequence an instant or a sequence stands for.
    ///
    /// # Errors
    /// [`Error::Usage`] for a sequence that was not given yet, [`Error::Pruned`] for a moment whose
    /// history is not held any more.
    pub fn resolve(&self, at: AsOf) -> Result<u64> {
        let sequence = self.sequence_of(at)?;
        if sequence < self.sequence() {
            let edge = self.pruned()?;
            if sequence < edge {
                return Err(Error::Pruned { oldest: edge + 1 });
            }
        }
        Ok(sequence)
    }

    fn sequence_of(&self, at: AsOf) -> Result<u64> {
        match at {
            AsOf::Sequence(sequence) if sequence <= self.sequence() => Ok(sequence),
            AsOf::Sequence(sequence) => Err(Error::Usage(format!(
                "sequence {sequence} is not reached yet: the last one is {}",
                self.sequence()
            ))),
            AsOf::Instant(instant) => {
                let table = self.txn.open_table(t::INSTANTS).map_err(engine)?;
                let last = table.range(..=instant.0).map_err(engine)?.next_back();
                Ok(last
                    .transpose()
                    .map_err(engine)?
                    .map_or(0, |(_, sequence)| sequence.value()))
            }
        }
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
        let found = table
            .get(t::record_key(resource, key).as_slice())
            .map_err(engine)?;
        found.map(|bytes| Head::decode(bytes.value())).transpose()
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
            let head = Head::decode(entry.map_err(engine)?.1.value())?;
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
            if !Head::decode(value.value())?.deleted {
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
            let head = Head::decode(entry.map_err(engine)?.1.value())?;
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
        let mut out = Vec::new();
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
            let (row, from) = past(value.value())?;
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
        for entry in heads.range::<&[u8]>(range).map_err(engine)? {
            let (key, value) = entry.map_err(engine)?;
            let head = Head::decode(value.value())?;
            let Some(row) = reader.row_of(&head)? else {
                continue;
            };
            let key = t::key_of(key.value()).ok_or_else(|| corrupt(TableId::Heads, "a key"))?;
            let record = Record::new(Arc::clone(&definition), reader.body(row)?);
            if !visit(&key, record)? {
                break;
            }
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
        })
    }

    /// The changes of one record, in order.
    pub fn changes_of(&self, resource: &str, key: &Key) -> Result<Vec<Change>> {
        let id = self.catalog().require(resource)?;
        let Some(head) = self.head(id, key)? else {
            return Ok(Vec::new());
        };
        let own = self.txn.open_table(t::CHANGES_BY_KEY).map_err(engine)?;
        let changelog = self.txn.open_table(t::CHANGELOG).map_err(engine)?;
        let (start, end) = (
            t::slot_key(id, head.slot, 0),
            t::slot_key(id, head.slot, u64::MAX),
        );
        let mut out = Vec::new();
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
            out.push(self.change(sequence, Entry::decode(bytes.value())?));
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
                let key =
                    t::key_of(key.value()).ok_or_else(|| corrupt(TableId::Tombstones, "a key"))?;
                Ok((key, decode(TableId::Tombstones, value.value())?))
            })
            .collect()
    }

    /// What was put aside.
    pub fn quarantined(&self) -> Result<Vec<Quarantined>> {
        let table = self.txn.open_table(t::QUARANTINE).map_err(engine)?;
        let range = table.range::<&[u8]>(..).map_err(engine)?;
        range
            .map(|entry| decode(TableId::Quarantine, entry.map_err(engine)?.1.value()))
            .collect()
    }

    /// How far a resource's replication has come; the default when it never began.
    pub fn checkpoint(&self, resource: &str) -> Result<Checkpoint> {
        let table = self.txn.open_table(t::CHECKPOINTS).map_err(engine)?;
        match table.get(resource).map_err(engine)? {
            Some(bytes) => decode(TableId::Checkpoints, bytes.value()),
            None => Ok(Checkpoint::default()),
        }
    }

    /// The reports of the last runs, newest first.
    pub fn runs(&self, most: usize) -> Result<Vec<RunReport>> {
        let table = self.txn.open_table(t::RUNS).map_err(engine)?;
        let range = table.range::<u64>(..).map_err(engine)?;
        range
            .rev()
            .take(most)
            .map(|entry| decode_grown(TableId::Runs, entry.map_err(engine)?.1.value()))
            .collect()
    }

    /// The report of one run.
    pub fn run(&self, run: u64) -> Result<Option<RunReport>> {
        let table = self.txn.open_table(t::RUNS).map_err(engine)?;
        let found = table.get(run).map_err(engine)?;
        found
            .map(|bytes| decode_grown(TableId::Runs, bytes.value()))
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
                let position = decode(TableId::Positions, value.value())?;
                Ok((name.value().to_owned(), position))
            })
            .collect()
    }
}

/// Iterates over [`Change`]s in order of sequence; stops at the first error.
pub struct Changes<'s> {
    snapshot: &'s Snapshot,
    range: redb::Range<'static, u64, t::Bytes>,
}

impl Iterator for Changes<'_> {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.range.next()? {
            Ok((sequence, value)) => Entry::decode(value.value())
                .map(|entry| self.snapshot.change(sequence.value(), entry)),
            Err(e) => Err(engine(e)),
        })
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
    history: redb::ReadOnlyTable<t::Bytes, t::Bytes>,
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
            return Ok(None);
        };
        let (row, from) = past(entry.map_err(engine)?.1.value())?;
        // Between two versions the record was deleted; before the first it was unknown.
        Ok((from <= self.sequence).then_some(row))
    }

    fn body(&self, row: u64) -> Result<RecordBuf> {
        self.bodies.body(row)
    }
}

/// Reads bodies; the block of the last one is held.
pub(super) struct BodyReader<'s> {
    versions: redb::ReadOnlyTable<u64, t::Bytes>,
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
pub(super) fn past(bytes: &[u8]) -> Result<(u64, u64)> {
    let short = || corrupt(TableId::History, "a short entry");
    let (row, rest) = unseal(TableId::History, bytes)?
        .split_first_chunk()
        .ok_or_else(short)?;
    let from = rest.split_first_chunk().ok_or_else(short)?.0;
    Ok((u64::from_le_bytes(*row), u64::from_le_bytes(*from)))
}
