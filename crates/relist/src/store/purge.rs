//! Purging: a record, all it ever was and all that was said of it, as if it had never come.
//!
//! A tombstone keeps a record's history; a purge is for what must not be kept. In one transaction
//! the record's entries are taken out of every table; what holds it among others (blocks of bodies,
//! segments of columns, dictionaries, changes by field) is written anew without it. Its changes
//! keep their sequences, as entries that say nothing. Then the file is scrubbed: see
//! [`super::scrub`].
//!
//! The dictionary that bodies are compressed with was trained on records, and may hold a purged
//! one's text: so the bodies of the resource are compressed again with another one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::bodies::unpack;
use super::changelog::{Cause, Entry, Operation};
use super::format::{TableId, corrupt, decode, decode_grown, encode};
use super::guarded::ReadableTable as _;
use super::scrub::{Finder, Needles, look_at_tables};
use super::snapshot::past;
use super::tables as t;
use super::{
    Checkpoint, Head, HeldFile, Outcome, Quarantined, RunReport, Snapshot, Store, WalkPosition,
    WriteTxn, engine,
};
use crate::column::{Values, place};
use crate::error::Result;
use crate::keycode::Key;
use crate::record::codec::Reader;
use crate::record::{Body, Cell, RecordBuf, Tag};
use crate::schema::FieldId;
use crate::value::Timestamp;

/// In `meta`: a purge was committed, and the file may still hold what it removed.
const UNFINISHED: &str = "purge";
/// Where the text of a report was that may have told a value.
const REMOVED: &str = "(removed by a purge)";

/// What is to be purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Records, each with its resource, and with what belongs to them in the other resources.
    Records(BTreeMap<String, Vec<Key>>),
    /// All records of one resource, and how far its replication has come.
    Resource(String),
    /// Everything but the schema.
    All,
    /// Nothing more: what an interrupted purge left in the file.
    Rest,
}

/// What a purge removed, and what was looked for after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PurgeReport {
    /// The sequence of its entry in the changelog; 0 when there was nothing to purge.
    pub sequence: u64,
    /// Records, current and deleted ones.
    pub records: u64,
    /// Their versions.
    pub versions: u64,
    /// Their changes: entries of the log that say nothing any more.
    pub changes: u64,
    /// Tombstones, also of keys that were never seen.
    pub tombstones: u64,
    /// Entries of the quarantine.
    pub quarantined: u64,
    /// Media entries.
    pub media: u64,
    /// Files of media that no other record holds.
    pub files: u64,
    /// Texts of the purged records that no other record says: looked for in everything that is
    /// stored, decompressed.
    pub texts: u64,
    /// How many of them are there still: 0, or the purge is not complete.
    pub texts_found: u64,
    /// Pieces of what was removed, as it was stored: looked for in the bytes of the file.
    pub pieces: u64,
    /// How many of them are there still: 0, or the purge is not complete.
    pub pieces_found: u64,
}

impl PurgeReport {
    /// Whether nothing of what was purged is left in the file.
    pub fn is_complete(&self) -> bool {
        self.texts_found == 0 && self.pieces_found == 0
    }
}

/// What is known of the purged records while they are removed.
#[derive(Default)]
pub(super) struct Gone {
    pub(super) slots: HashSet<u32>,
    pub(super) rows: BTreeSet<u64>,
    /// By field: the cells they ever had.
    pub(super) cells: HashMap<u16, HashSet<Vec<u8>>>,
    texts: Needles,
    pub(super) pieces: Needles,
    files: BTreeMap<u128, HeldFile>,
    report: PurgeReport,
}

impl Store {
    /// Purges records: takes them out of every table, durably, then out of the file's bytes.
    ///
    /// `remove` is given each file of media that no other record holds, before the purge is
    /// committed; it removes the file and says whether there was one.
    ///
    /// # Errors
    /// [`Error::UnknownResource`](crate::error::Error::UnknownResource), and what the engine and
    /// `remove` fail with. Until the commit nothing is changed but that files are gone; after it
    /// the records are gone from the tables, and `Scope::Rest` ends what was interrupted.
    pub fn purge(
        &mut self,
        scope: &Scope,
        observed: Timestamp,
        remove: &mut dyn FnMut(&HeldFile) -> Result<bool>,
    ) -> Result<PurgeReport> {
        let parts = self.snapshot()?.parts(scope)?;
        let mut gone = Gone::default();
        if !parts.is_empty() {
            let mut txn = self.begin_write(observed)?;
            txn.erase(scope, &parts, &mut gone)?;
            for held in gone.files.values() {
                if !txn.content_is_used(held.content)? {
                    gone.report.files += u64::from(remove(held)?);
                }
            }
            txn.set_unfinished(true)?;
            txn.commit()?;
            self.forget();
        }
        let (mut report, mut texts) = (gone.report, gone.texts);
        texts.settle();
        (report.texts, report.texts_found) = self.snapshot()?.look_for(&texts)?;
        let scrubbed = self.scrub(gone.pieces)?;
        report.pieces = scrubbed.looked_for;
        report.pieces_found = scrubbed.found;
        if report.is_complete() {
            let txn = self.begin_write(observed)?;
            txn.set_unfinished(false)?;
            txn.commit()?;
        }
        Ok(report)
    }

    /// Forgets what was read before: dictionaries and columns may hold what is purged.
    fn forget(&mut self) {
        self.dictionaries = super::Dictionaries::default();
        self.columns = std::sync::Arc::default();
    }
}

/// A resource, and which of its records are purged: `None` is all of them.
type Parts = BTreeMap<u16, Option<BTreeSet<Key>>>;

/// The fields by which a record says whose it is.
const OWNERS: [&str; 4] = [
    "ResourceRecordKeyNumeric",
    "ResourceRecordKey",
    "ListingKeyNumeric",
    "ListingKey",
];

impl Snapshot {
    /// Whether a purge was interrupted, so that the file may still hold what it removed.
    pub fn purge_is_unfinished(&self) -> Result<bool> {
        let meta = self.txn.open_table(t::META).map_err(engine)?;
        let found = meta.get(UNFINISHED).map_err(engine)?;
        found.map_or(Ok(false), |bytes| {
            decode((TableId::Meta, UNFINISHED), bytes.value())
        })
    }

    /// The deleted records of a resource whose deletion every watcher has delivered, or that are
    /// deleted since before `before`: what a licence that forbids keeping them asks to purge. With
    /// them go the keys that were only ever seen as deleted; of these alone there is none.
    pub fn revoked(&self, resource: &str, before: Timestamp) -> Result<Vec<Key>> {
        let told = self.positions()?.into_iter().map(|(_, at)| at.sequence);
        let told = told.min().unwrap_or(u64::MAX);
        let mut out = self.tombstones(resource)?;
        out.retain(|(_, tombstone)| tombstone.sequence <= told || tombstone.observed < before);
        if out.iter().all(|(_, tombstone)| tombstone.sequence == 0) {
            out.clear();
        }
        Ok(out.into_iter().map(|(key, _)| key).collect())
    }

    /// The records that a scope names, by resource.
    fn parts(&self, scope: &Scope) -> Result<Parts> {
        let all = 0..self.schema().resources.len();
        let all = all.filter_map(|id| u16::try_from(id).ok());
        Ok(match scope {
            Scope::Rest => Parts::new(),
            Scope::All => all.map(|id| (id, None)).collect(),
            Scope::Resource(name) => Parts::from([(self.catalog().require(name)?, None)]),
            Scope::Records(records) => {
                let mut parts: BTreeMap<u16, BTreeSet<Key>> = BTreeMap::new();
                for (resource, keys) in records {
                    let own = self.catalog().require(resource)?;
                    let texts: HashSet<String> = keys.iter().map(ToString::to_string).collect();
                    for id in all.clone().filter(|id| *id != own) {
                        let children = self.children(id, resource, &texts)?;
                        if !children.is_empty() {
                            parts.entry(id).or_default().extend(children);
                        }
                    }
                    parts.entry(own).or_default().extend(keys.iter().cloned());
                }
                parts
                    .into_iter()
                    .map(|(id, keys)| (id, Some(keys)))
                    .collect()
            }
        })
    }

    /// The records of a resource that say that they belong to others.
    fn children(&self, id: u16, owner: &str, keys: &HashSet<String>) -> Result<BTreeSet<Key>> {
        let mut out = BTreeSet::new();
        let Some(resource) = self.catalog().resource(id) else {
            return Ok(out);
        };
        let mut slots: HashSet<u32> = HashSet::new();
        let names = resource.field_id("ResourceName");
        for name in OWNERS {
            let by_listing = name.starts_with("Listing");
            let Some(field) = resource.field_id(name) else {
                continue;
            };
            if by_listing && owner != "Property" {
                continue;
            }
            let says = |slot: u32, field: FieldId, wanted: &dyn Fn(&str) -> bool| -> Result<bool> {
                let column = self.column(id, field)?;
                let (segment, row) = place(slot);
                let mut cell = Vec::new();
                if let Some(segment) = column.segment(segment) {
                    segment.write_cell(usize::from(row), &column.dictionary, &mut cell);
                }
                let cell = Cell::read(&mut Reader::new(&cell));
                Ok(cell.is_some_and(|cell| match text_of(cell) {
                    Some(text) => wanted(&text),
                    None => false,
                }))
            };
            for slot in 0..self.slots(id) {
                if !says(slot, field, &|text| keys.contains(text))? {
                    continue;
                }
                // A listing's key in a record of something else that names its owner otherwise.
                let other = match names.filter(|_| !by_listing) {
                    Some(names) => says(slot, names, &|text| text != owner)?,
                    None => false,
                };
                if !other {
                    slots.insert(slot);
                }
            }
        }
        if slots.is_empty() {
            return Ok(out);
        }
        let heads = self.txn.open_table(t::HEADS).map_err(engine)?;
        let (start, end) = t::resource_range(id);
        for item in heads
            .range(start.as_slice()..end.as_slice())
            .map_err(engine)?
        {
            let (key, value) = item.map_err(engine)?;
            if slots.contains(&Head::decode(key.value(), value.value())?.slot) {
                let key = t::key_of(key.value());
                out.insert(key.ok_or_else(|| corrupt(TableId::Heads, "a key"))?);
            }
        }
        Ok(out)
    }

    /// Looks for texts that no other record says, in all that is stored; how many there are, and
    /// how many were found.
    fn look_for(&self, texts: &Needles) -> Result<(u64, u64)> {
        let mut said = Finder::new(texts);
        // The words of the schema are nobody's: names of fields, members of lookups.
        let catalog = self.txn.open_table(t::CATALOG).map_err(engine)?;
        if let Some(catalog) = catalog.get("catalog").map_err(engine)? {
            said.look(catalog.value());
        }
        let bodies = self.txn.open_table(t::VERSIONS).map_err(engine)?;
        for item in bodies.range::<u64>(..).map_err(engine)? {
            let (first, block) = item.map_err(engine)?;
            let header = super::bodies::BlockHeader::read(first.value(), block.value())?;
            let dictionary = self.dictionary(header.dictionary)?;
            for row in header.rows() {
                let stored = header.stored(block.value(), row)?;
                said.look(&unpack(dictionary.as_deref(), row, stored)?.0);
            }
        }
        let said = said.found;
        let looked_for = said.iter().filter(|said| !**said).count() as u64;
        let mut found = Finder::new(texts);
        look_at_tables(&self.txn, &mut found)?;
        self.look_at_columns(&mut found)?;
        let pairs = found.found.iter().zip(&said);
        let left = pairs.filter(|(found, said)| **found && !**said).count() as u64;
        Ok((looked_for, left))
    }

    /// Looks at columns as they are decoded: some of them are compressed.
    fn look_at_columns(&self, finder: &mut Finder<'_>) -> Result<()> {
        for (id, resource) in self.schema().resources.iter().enumerate() {
            let Ok(id) = u16::try_from(id) else { break };
            for field in (0..resource.fields.len()).filter_map(|f| u16::try_from(f).ok()) {
                let column = self.column(id, FieldId(field))?;
                for segment in column.segments.iter().flatten() {
                    if let Values::Bytes { bytes, .. } = &segment.values {
                        finder.look(bytes);
                    }
                }
            }
        }
        Ok(())
    }
}

/// A key as a record of another resource says it.
fn text_of(cell: Cell<'_>) -> Option<String> {
    (!cell.is_null()).then(|| {
        let json = cell.to_json();
        let text = json.trim_matches('"');
        text.to_owned()
    })
}

/// The texts of a cell.
fn add_texts(cell: Cell<'_>, needles: &mut Needles) {
    let mut reader = Reader::new(cell.payload);
    match cell.tag {
        Tag::String | Tag::Json | Tag::NumberText => {
            if let Some(text) = reader.bytes() {
                needles.add(text);
            }
        }
        Tag::StringList => {
            for _ in 0..reader.u64().unwrap_or(0) {
                let Some(text) = reader.bytes() else { break };
                needles.add(text);
            }
        }
        Tag::Guid => needles.add(cell.payload),
        _ => {}
    }
}

impl Gone {
    /// Notes what a body says.
    fn body(&mut self, body: Body<'_>) {
        for (field, cell) in body.encoded() {
            self.cell(field.0, cell);
        }
    }

    fn cell(&mut self, field: u16, bytes: &[u8]) {
        if let Some(cell) = Cell::read(&mut Reader::new(bytes)) {
            add_texts(cell, &mut self.texts);
        }
        let cells = self.cells.entry(field).or_default();
        if !cells.contains(bytes) {
            cells.insert(bytes.to_vec());
        }
    }
}

impl WriteTxn {
    /// Whether a purge has still to scrub the file.
    fn set_unfinished(&self, on: bool) -> Result<()> {
        let mut meta = self.txn.open_table(t::META).map_err(engine)?;
        let value = encode((TableId::Meta, UNFINISHED), &on)?;
        meta.insert(UNFINISHED, value.as_slice()).map_err(engine)?;
        Ok(())
    }

    fn erase(&mut self, scope: &Scope, parts: &Parts, gone: &mut Gone) -> Result<()> {
        for (id, keys) in parts {
            let before = gone.report.clone();
            let heads = self.gather(*id, keys.as_ref(), gone)?;
            let name = self.catalog.resource(*id).map(|r| r.name.clone());
            let name = name.unwrap_or_default();
            self.erase_media(&name, &heads, keys.as_ref(), gone)?;
            self.erase_quarantine(*id, &name, keys.as_ref(), gone)?;
            self.erase_heads(*id, &heads, keys.as_ref(), gone)?;
            if keys.is_none() || gone.report != before {
                self.erase_reports(&name, keys.as_ref(), scope)?;
            }
            if gone.report == before {
                continue;
            }
            self.erase_log(*id, gone)?;
            self.log_purge(*id, heads.len(), gone)?;
            self.erase_events(*id, gone)?;
            self.erase_columns(*id, gone, self.counters.sequence)?;
            self.erase_bodies(*id, gone)?;
            gone.slots.clear();
            gone.rows.clear();
            gone.cells.clear();
        }
        Ok(())
    }

    /// Finds the heads, the rows and the cells of what is to go.
    fn gather(
        &mut self,
        id: u16,
        keys: Option<&BTreeSet<Key>>,
        gone: &mut Gone,
    ) -> Result<Vec<(Key, Head)>> {
        let mut heads = Vec::new();
        {
            let table = self.txn.open_table(t::HEADS).map_err(engine)?;
            let (start, end) = t::resource_range(id);
            let all = table
                .range(start.as_slice()..end.as_slice())
                .map_err(engine)?;
            for item in all {
                let (key, value) = item.map_err(engine)?;
                let own = t::key_of(key.value());
                let own = own.ok_or_else(|| corrupt(TableId::Heads, "a key"))?;
                if keys.is_none_or(|keys| keys.contains(&own)) {
                    gone.pieces.add_pieces(value.value());
                    heads.push((own, Head::decode(key.value(), value.value())?));
                }
            }
        }
        {
            let history = self.txn.open_table(t::HISTORY).map_err(engine)?;
            for (_, head) in &heads {
                gone.slots.insert(head.slot);
                gone.rows.insert(head.row);
                let range = history
                    .range(
                        slot_start(id, head.slot).as_slice()..=slot_end(id, head.slot).as_slice(),
                    )
                    .map_err(engine)?;
                for item in range {
                    let (key, value) = item.map_err(engine)?;
                    gone.rows.insert(past(key.value(), value.value())?.0);
                }
            }
        }
        gone.rows.remove(&0);
        let rows: Vec<u64> = gone.rows.iter().copied().collect();
        for chunk in rows.chunks(1_000) {
            for body in self.bodies(chunk)? {
                gone.body(body.as_body());
            }
        }
        gone.report.records += heads.len() as u64;
        gone.report.versions += rows.len() as u64;
        Ok(heads)
    }

    /// Empties the log entries of the slots.
    fn erase_log(&mut self, id: u16, gone: &mut Gone) -> Result<()> {
        let mut by_key = self.txn.open_table(t::CHANGES_BY_KEY).map_err(engine)?;
        let mut log = self.txn.open_table(t::CHANGELOG).map_err(engine)?;
        for slot in &gone.slots {
            let mut sequences = Vec::new();
            let range =
                by_key.range(slot_start(id, *slot).as_slice()..=slot_end(id, *slot).as_slice());
            for item in range.map_err(engine)? {
                let (key, ()) = {
                    let item = item.map_err(engine)?;
                    (item.0.value().to_vec(), item.1.value())
                };
                sequences.extend(t::split_slot_key(&key).map(|(.., sequence)| sequence));
            }
            for sequence in sequences {
                by_key
                    .remove(t::slot_key(id, *slot, sequence).as_slice())
                    .map_err(engine)?;
                let old = log.get(sequence).map_err(engine)?;
                let Some(old) = old.map(|value| value.value().to_vec()) else {
                    continue;
                };
                let entry = Entry::decode(sequence, &old)?;
                gone.pieces.add_pieces(&old);
                for change in &entry.fields {
                    for side in [&change.previous, &change.new].into_iter().flatten() {
                        if let Some(cell) = Cell::read(&mut Reader::new(side)) {
                            add_texts(cell, &mut gone.texts);
                        }
                    }
                }
                gone.texts.add(entry.note.as_bytes());
                let empty = empty_entry(id, entry.run, entry.observed).encode(sequence);
                log.insert(sequence, empty.as_slice()).map_err(engine)?;
                gone.report.changes += 1;
            }
        }
        Ok(())
    }

    /// Logs that a purge took place: how many records, and nothing of them.
    fn log_purge(&mut self, id: u16, records: usize, gone: &mut Gone) -> Result<()> {
        self.counters.sequence += 1;
        let entry = Entry {
            note: format!("{records} records"),
            ..empty_entry(id, 0, self.observed())
        };
        let mut log = self.txn.open_table(t::CHANGELOG).map_err(engine)?;
        let value = entry.encode(self.counters.sequence);
        log.insert(self.counters.sequence, value.as_slice())
            .map_err(engine)?;
        gone.report.sequence = self.counters.sequence;
        Ok(())
    }

    fn erase_heads(
        &mut self,
        id: u16,
        heads: &[(Key, Head)],
        keys: Option<&BTreeSet<Key>>,
        gone: &mut Gone,
    ) -> Result<()> {
        let mut table = self.txn.open_table(t::HEADS).map_err(engine)?;
        let mut live = 0;
        for (key, head) in heads {
            table
                .remove(t::record_key(id, key).as_slice())
                .map_err(engine)?;
            live += u64::from(!head.deleted);
        }
        drop(table);
        if let Some(count) = self.counters.live.get_mut(usize::from(id)) {
            *count = count.saturating_sub(live);
        }
        let mut history = self.txn.open_table(t::HISTORY).map_err(engine)?;
        for (_, head) in heads {
            let (start, end) = (slot_start(id, head.slot), slot_end(id, head.slot));
            history
                .retain_in(start.as_slice()..=end.as_slice(), |_, _| false)
                .map_err(engine)?;
        }
        let mut table = self.txn.open_table(t::TOMBSTONES).map_err(engine)?;
        let (start, end) = t::resource_range(id);
        let (mut removed, pieces) = (0, &mut gone.pieces);
        table
            .retain_in(start.as_slice()..end.as_slice(), |key, value| {
                let own =
                    keys.is_none_or(|keys| t::key_of(key).is_some_and(|key| keys.contains(&key)));
                if own {
                    pieces.add_pieces(value);
                    removed += 1;
                }
                !own
            })
            .map_err(engine)?;
        gone.report.tombstones += removed;
        Ok(())
    }

    fn erase_media(
        &mut self,
        name: &str,
        heads: &[(Key, Head)],
        keys: Option<&BTreeSet<Key>>,
        gone: &mut Gone,
    ) -> Result<()> {
        let heads: BTreeSet<&Key> = heads.iter().map(|(key, _)| key).collect();
        let owners: BTreeSet<&Key> = heads
            .into_iter()
            .chain(keys.into_iter().flatten())
            .collect();
        for key in owners {
            for entry in self.media_of(name, key)? {
                self.remove_media(entry.item.place())?;
                gone.report.media += 1;
                gone.texts.add(entry.item.url.as_bytes());
                gone.texts.add(entry.item.media_key.as_bytes());
                if let Some(held) = entry.held {
                    gone.texts.add(held.url.as_bytes());
                    gone.files.insert(held.content, held);
                }
            }
            self.remove_media_list(name, key)?;
        }
        Ok(())
    }

    /// Removes what could not be applied and may be of a purged record.
    fn erase_quarantine(
        &mut self,
        id: u16,
        name: &str,
        keys: Option<&BTreeSet<Key>>,
        gone: &mut Gone,
    ) -> Result<()> {
        let keys: Option<Vec<String>> =
            keys.map(|keys| keys.iter().map(ToString::to_string).collect());
        let key_field = self.catalog.resource(id).map(|r| r.key_field.clone());
        let key_field = key_field.unwrap_or_default();
        let mut table = self.txn.open_table(t::QUARANTINE).map_err(engine)?;
        let mut doomed = Vec::new();
        for item in table.range::<&[u8]>(..).map_err(engine)? {
            let (key, value) = item.map_err(engine)?;
            let own: Quarantined = decode((TableId::Quarantine, key.value()), value.value())?;
            if own.resource != name {
                continue;
            }
            let stays = keys.as_ref().is_some_and(|keys| {
                // What was cut may have gone on with it; what names no key may be of any.
                let whole = own.raw.len() as u64 == own.raw_len;
                let says = |text: &str| memchr::memmem::find(&own.raw, text.as_bytes()).is_some();
                whole && says(&key_field) && !keys.iter().any(|key| says(key))
            });
            if !stays {
                gone.pieces.add_pieces(value.value());
                doomed.push(key.value().to_vec());
            }
        }
        for key in doomed {
            table.remove(key.as_slice()).map_err(engine)?;
            gone.report.quarantined += 1;
        }
        Ok(())
    }

    /// Takes out of reports and checkpoints what may tell a value or a key.
    fn erase_reports(
        &mut self,
        name: &str,
        keys: Option<&BTreeSet<Key>>,
        scope: &Scope,
    ) -> Result<()> {
        let mut runs = self.txn.open_table(t::RUNS).map_err(engine)?;
        let mut changed = Vec::new();
        for item in runs.range::<u64>(..).map_err(engine)? {
            let (number, value) = item.map_err(engine)?;
            let mut report: RunReport =
                decode_grown((TableId::Runs, number.value()), value.value())?;
            if report.resource == name || *scope == Scope::All {
                let before = report.clone();
                for misfit in &mut report.misfits {
                    REMOVED.clone_into(&mut misfit.first);
                }
                if let Outcome::Degraded(text) | Outcome::Failed(text) = &mut report.outcome {
                    REMOVED.clone_into(text);
                }
                if report != before {
                    let value = encode((TableId::Runs, number.value()), &report)?;
                    changed.push((number.value(), value));
                }
            }
        }
        for (number, value) in changed {
            runs.insert(number, value.as_slice()).map_err(engine)?;
        }
        let mut checkpoints = self.txn.open_table(t::CHECKPOINTS).map_err(engine)?;
        let found = checkpoints.get(name).map_err(engine)?;
        let Some(found) = found.map(|bytes| bytes.value().to_vec()) else {
            return Ok(());
        };
        let mut checkpoint: Checkpoint = decode((TableId::Checkpoints, name), &found)?;
        let Some(keys) = keys else {
            checkpoints.remove(name).map_err(engine)?;
            return Ok(());
        };
        // A walk that stands at a purged key, or may, begins again.
        let walk = checkpoint.walk.as_ref();
        let names = walk.is_some_and(|walk| match &walk.position {
            WalkPosition::Start => false,
            WalkPosition::After(key) => keys.contains(key),
            WalkPosition::Link(link) => keys.iter().any(|key| link.contains(&key.to_string())),
        });
        if names {
            checkpoint.walk = None;
            let value = encode((TableId::Checkpoints, name), &checkpoint)?;
            checkpoints.insert(name, value.as_slice()).map_err(engine)?;
        }
        Ok(())
    }
}

/// A log entry that says nothing but that something was purged.
pub(super) fn empty_entry(resource: u16, run: u64, observed: Timestamp) -> Entry {
    Entry {
        operation: Operation::Purge,
        cause: Cause::Purge,
        run,
        resource,
        slot: 0,
        key: None,
        source_time: None,
        observed,
        previous_row: 0,
        row: 0,
        fields: Vec::new(),
        note: String::new(),
    }
}

fn slot_start(resource: u16, slot: u32) -> [u8; 14] {
    t::slot_key(resource, slot, 0)
}

fn slot_end(resource: u16, slot: u32) -> [u8; 14] {
    t::slot_key(resource, slot, u64::MAX)
}

/// What stands in the place of a purged body: a record without fields.
pub(super) fn hole() -> RecordBuf {
    RecordBuf::from_cells(std::iter::empty())
}
