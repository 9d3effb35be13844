//! Repair: a store made anew of what can be read of a damaged one.
//!
//! The log is played again into a new file, change by change, so everything derived from it (heads,
//! history, columns, changes by field and by record) is made as it was made first, and no damaged
//! page of the engine's is kept. A version that cannot be read is made of the one before it and the
//! logged changes, of the columns, or of the one after it. What is left is named, for the feed to
//! be asked again. The damaged file is kept under another name.
//!
//! Where the log does not begin with the first change, what there was by then comes first: see
//! [`super::repair_base`]. What it lost is told by other tables: see [`super::repair_log`].
//! Rows and slots are given anew; sequences stay.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bodies::Packed;
use super::changelog::{Entry, Operation};
use super::format::{Place, TableId, corrupt, unseal};
use super::guarded::WriteTransaction;
use super::home::{Home, failed};
use super::moments::put_instant;
use super::snapshot::BodyReader;
use super::tables as t;
use super::{Folder, Head, Snapshot, Staged, Store, Tombstone, WriteTxn, engine};
use crate::column::place;
use crate::diff::{Diff, FieldDiff, canonical_hash};
use crate::error::{Error, Result};
use crate::keycode::Key;
use crate::record::codec::put_signed;
use crate::record::{RecordBuf, Tag, put_string};
use crate::schema::{FieldId, FieldType, Resource};
use crate::value::Timestamp;

/// Changes a transaction.
pub(super) const BATCH: usize = 10_000;

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Changes played again.
    pub changes: u64,
    /// Versions that could not be read and were made of others, and are what they were.
    pub rebuilt: u64,
    /// Current records of which something is lost, or may be: the feed has them still.
    pub refetch: Vec<(String, Key)>,
    /// What else is lost, in words.
    pub lost: Vec<String>,
    /// Where the damaged file is now.
    pub kept: PathBuf,
}

impl Store {
    /// Makes a damaged store anew, of what can be read of it, in its place.
    ///
    /// It takes the time of a first load, and room for a second file. Either the new store is whole
    /// and in place in the end, or the old one is there as it was.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when so much of it cannot be read that nothing whole can be made.
    pub fn repair(path: impl AsRef<Path>) -> Result<Repaired> {
        Store::repair_at(&Home::Files, path.as_ref())
    }

    /// As [`repair`](Store::repair), in a folder of the caller's own: for tests.
    #[doc(hidden)]
    pub fn repair_in(folder: Arc<dyn Folder>, path: &Path) -> Result<Repaired> {
        Store::repair_at(&Home::Folder(folder), path)
    }

    fn repair_at(home: &Home, path: &Path) -> Result<Repaired> {
        let old = Store::open_at(home.clone(), path)?;
        let snapshot = old.snapshot()?;
        let temporary = super::temporary_name(path);
        let made = rebuild(&snapshot, home, &temporary).and_then(|repaired| {
            super::exchange(home, &temporary, path).map(|kept| (repaired, kept))
        });
        match made {
            Ok((repaired, kept)) => Ok(Repaired { kept, ..repaired }),
            Err(error) => {
                // The first error is the one to tell.
                let _ = home.remove(&temporary);
                Err(error)
            }
        }
    }
}

/// Makes the new file under a temporary name, and verifies it.
fn rebuild(old: &Snapshot, home: &Home, temporary: &Path) -> Result<Repaired> {
    let file = super::make_at(home, temporary, old.created()?)?;
    let new = Store::open_at(home.clone(), temporary)?;
    let mut repair = Repair {
        old,
        bodies: old.bodies()?,
        heads: HashMap::new(),
        after: HashMap::new(),
        edge: 0,
        made: HashMap::new(),
        rows: vec![0],
        repaired: Repaired::default(),
        unsure: BTreeMap::new(),
    };
    repair.read_heads()?;
    repair.read_log()?;
    repair.lay_base(&new)?;
    repair.replay(&new)?;
    repair.copy_rest(&new)?;
    let repaired = repair.finish();
    let report = new.snapshot()?.verify()?;
    if let Some(problem) = report.problems.first() {
        let what = format!("it could not be made whole: {problem}");
        return Err(Error::Corrupt { what });
    }
    drop(new);
    file.sync().map_err(failed(temporary, "cannot sync"))?;
    Ok(repaired)
}

pub(super) struct Repair<'s> {
    pub(super) old: &'s Snapshot,
    pub(super) bodies: BodyReader<'s>,
    /// The heads that can be read, by resource and slot.
    pub(super) heads: HashMap<(u16, u32), Head>,
    /// The change that followed a version, by its row.
    pub(super) after: HashMap<u64, u64>,
    /// The log is played again behind this sequence.
    pub(super) edge: u64,
    /// Entries that could not be read, as other tables tell them.
    pub(super) made: HashMap<u64, Entry>,
    /// By new rows, the rows they were.
    pub(super) rows: Vec<u64>,
    pub(super) repaired: Repaired,
    /// Rows of which something may be lost, with their records.
    pub(super) unsure: BTreeMap<u64, (u16, Key)>,
}

impl Repair<'_> {
    fn read_heads(&mut self) -> Result<()> {
        let heads = self.old.txn.open_table(t::HEADS).map_err(engine)?;
        for entry in heads.range::<&[u8]>(..).map_err(engine)? {
            // What cannot be read is made of the log; behind a damaged page, all of it.
            let Ok((key, value)) = entry else { break };
            let resource = key.value().first_chunk().map(|c| u16::from_be_bytes(*c));
            if let (Some(resource), Ok(head)) = (resource, Head::decode(key.value(), value.value()))
            {
                self.heads.insert((resource, head.slot), head);
            }
        }
        Ok(())
    }

    /// An entry of the log, or what was made in its place.
    pub(super) fn entry(&self, sequence: u64) -> Result<Entry> {
        if let Some(made) = self.made.get(&sequence) {
            return Ok(made.clone());
        }
        let changelog = self.old.txn.open_table(t::CHANGELOG).map_err(engine)?;
        let found = changelog.get(sequence).map_err(engine)?;
        let missing = || {
            corrupt(
                TableId::Changelog,
                &format!("sequence {sequence} is missing"),
            )
        };
        Entry::decode(sequence, found.ok_or_else(missing)?.value())
    }

    fn replay(&mut self, new: &Store) -> Result<()> {
        let last = self.old.sequence();
        let mut next = self.edge + 1;
        let mut run = 0;
        let mut carried = None;
        while next <= last {
            let mut txn = new.begin_write(Timestamp(0))?;
            let end = last.min(next + BATCH as u64 - 1);
            let mut waiting: Vec<Staged> = Vec::new();
            let mut keys = HashSet::new();
            let mut current: Option<(u16, super::field_changes::Origin)> = None;
            for sequence in next..=end {
                let entry = self.entry(sequence)?;
                let own = (entry.resource, entry.origin());
                let alike = current.as_ref() == Some(&own);
                let changes = matches!(
                    entry.operation,
                    Operation::Insert | Operation::Update | Operation::Relist
                );
                let again = entry.key.as_ref().is_some_and(|key| keys.contains(key));
                if !alike || !changes || again {
                    flush(&mut txn, current, &mut waiting)?;
                    keys.clear();
                }
                if carried != Some(own.1.observed) {
                    note_instant(&txn, carried)?;
                    carried = Some(carried.map_or(own.1.observed, |t| t.max(own.1.observed)));
                }
                current = Some(own);
                run = run.max(entry.run);
                if changes {
                    let staged = self.staged(&txn, sequence, entry)?;
                    keys.insert(staged.key.clone());
                    waiting.push(staged);
                } else {
                    self.other(&mut txn, sequence, &entry)?;
                }
            }
            flush(&mut txn, current, &mut waiting)?;
            txn.set_origin(carried.unwrap_or(Timestamp(0)), 0);
            txn.counters.run = run;
            txn.commit()?;
            next = end + 1;
        }
        self.repaired.changes = last - self.edge.min(last);
        Ok(())
    }

    /// A change of the log, as it was staged.
    fn staged(&mut self, txn: &WriteTxn, sequence: u64, entry: Entry) -> Result<Staged> {
        let key = entry.key.clone();
        let key = key.ok_or_else(|| corrupt(TableId::Changelog, "a change without a key"))?;
        let head = txn
            .heads(entry.resource, std::iter::once(&key))?
            .pop()
            .flatten();
        let current = head.filter(|head| !head.deleted);
        self.fits(current, sequence, &entry)?;
        let previous = match current {
            None => None,
            Some(head) => txn.bodies(&[head.row])?.pop(),
        };
        let stored = self.heads.get(&(entry.resource, entry.slot)).copied();
        let stored = stored.filter(|own| own.row == entry.row);
        let (body, exact) = self.body(&entry, &key, previous.as_ref())?;
        self.rows.push(entry.row);
        let resource = self.old.catalog().resource(entry.resource);
        let canonical = resource.map_or(0, |r| canonical_hash(body.as_body().cells(), r));
        // A head holds the hash of what its version says.
        let proven = stored.is_some_and(|own| own.canonical == canonical);
        if !exact {
            self.repaired.rebuilt += u64::from(proven);
            if !proven {
                self.unsure.insert(entry.row, (entry.resource, key.clone()));
            }
        }
        let mut changes = entry.fields;
        if let (true, Some(previous), Some(resource)) =
            (self.made.contains_key(&sequence), &previous, resource)
        {
            changes = differences(previous, &body, resource);
        }
        Ok(Staged {
            packed: Packed::default(),
            raw_hash: stored
                .filter(|_| exact || proven)
                .map_or(0, |own| own.raw_hash),
            canonical: stored
                .filter(|_| exact)
                .map_or(canonical, |own| own.canonical),
            key,
            head,
            body,
            source_time: entry.source_time,
            changes,
            previous,
            block: None,
        })
    }

    /// Whether a change follows what is current.
    fn fits(&self, current: Option<Head>, sequence: u64, entry: &Entry) -> Result<()> {
        let row = current.map_or(0, |head| head.row);
        let was = usize::try_from(row).ok().and_then(|row| self.rows.get(row));
        if was == Some(&entry.previous_row) {
            return Ok(());
        }
        let what = format!("sequence {sequence} does not follow what comes before it");
        Err(corrupt(TableId::Changelog, &what))
    }

    /// Logs once more what is no new version.
    fn other(&self, txn: &mut WriteTxn, sequence: u64, entry: &Entry) -> Result<()> {
        if entry.operation == Operation::Purge {
            return txn.replay_empty(entry);
        }
        txn.set_origin(entry.observed, entry.run);
        if entry.operation == Operation::Schema {
            return txn.log_schema(entry.resource, entry.cause, entry.note.clone());
        }
        let key = entry.key.as_ref();
        let key = key.ok_or_else(|| corrupt(TableId::Changelog, "a change without a key"))?;
        let head = txn.heads(entry.resource, std::iter::once(key))?.pop();
        let head = head.flatten().filter(|head| !head.deleted);
        self.fits(head, sequence, entry)?;
        let head = head.ok_or_else(|| corrupt(TableId::Changelog, "a deletion of nothing"))?;
        let entry = Entry {
            slot: head.slot,
            previous_row: head.row,
            ..entry.clone()
        };
        let sequence = txn.end_record(entry.resource, key, &head, &entry)?;
        let tombstone = Tombstone {
            sequence,
            source_time: entry.source_time,
            observed: entry.observed,
            cause: entry.cause,
            reason: entry.note.clone(),
        };
        txn.put_tombstone(entry.resource, key, &tombstone)
    }

    /// The body of a version; whether it is the stored one.
    fn body(
        &self,
        entry: &Entry,
        key: &Key,
        previous: Option<&RecordBuf>,
    ) -> Result<(RecordBuf, bool)> {
        match self.bodies.body(entry.row) {
            Ok(body) => return Ok((body, true)),
            Err(Error::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        let made = self.of_columns(entry).or_else(|| {
            previous.map(|body| changed(body, &entry.fields, |change| change.new.as_deref()))
        });
        let made = made.or_else(|| self.of_next(entry.row));
        Ok((
            made.unwrap_or_else(|| self.of_key(entry.resource, key)),
            false,
        ))
    }

    /// A current version, of the columns; `None` when it is not current, or not whole there.
    fn of_columns(&self, entry: &Entry) -> Option<RecordBuf> {
        let head = self.heads.get(&(entry.resource, entry.slot))?;
        if head.row != entry.row {
            return None;
        }
        let fields = self.old.catalog().resource(entry.resource)?.fields.len();
        let (segment, row) = place(entry.slot);
        let mut cells = BTreeMap::new();
        for field in 0..u16::try_from(fields).ok()? {
            let column = self.old.column(entry.resource, FieldId(field)).ok()?;
            let Some(own) = column.segment(segment) else {
                continue;
            };
            if own.is_elsewhere() {
                return None;
            }
            let mut cell = Vec::new();
            own.write_cell(usize::from(row), &column.dictionary, &mut cell);
            if !cell.is_empty() {
                cells.insert(FieldId(field), cell);
            }
        }
        Some(of_cells(&cells))
    }

    /// A version, of the one after it; `None` when that cannot be read either.
    fn of_next(&self, row: u64) -> Option<RecordBuf> {
        let entry = self.entry(*self.after.get(&row)?).ok()?;
        if entry.operation != Operation::Update {
            return None;
        }
        let next = self.bodies.body(entry.row).ok();
        let next = next.or_else(|| self.of_columns(&entry));
        let next = next.or_else(|| self.of_next(entry.row))?;
        Some(changed(&next, &entry.fields, |change| {
            change.previous.as_deref()
        }))
    }

    /// The body of a row that was there before what is left of the log; whether it is the stored
    /// one.
    pub(super) fn body_of(
        &self,
        row: u64,
        (resource, head): (u16, Option<Head>),
        key: &Key,
    ) -> Result<(RecordBuf, bool)> {
        let slot = head.map_or(u32::MAX, |head| head.slot);
        let entry = super::purge::empty_entry(resource, 0, Timestamp(0));
        let entry = Entry { slot, row, ..entry };
        self.body(&entry, key, None)
    }

    /// The key of a record, as its body says it.
    pub(super) fn key_in(&self, resource: u16, body: &RecordBuf) -> Option<Key> {
        let resource = self.old.catalog().resource(resource)?;
        let id = resource.field_id(&resource.key_field)?;
        let mut cells = body.as_body().cells();
        let text = cells.find(|(field, _)| *field == id)?.1.to_json();
        let text: String = serde_json::from_str(&text).unwrap_or(text);
        let integer = resource.field(id).is_some_and(|f| f.ty == FieldType::Int);
        Key::from_text(&text, integer)
    }

    /// A record that says no more than its key.
    fn of_key(&self, resource: u16, key: &Key) -> RecordBuf {
        let resource = self.old.catalog().resource(resource);
        let field = resource.and_then(|r| Some((r, r.field_id(&r.key_field)?)));
        let mut cell = Vec::new();
        match key {
            Key::Int(number) => {
                cell.push(Tag::Int as u8);
                put_signed(&mut cell, i128::from(*number));
            }
            Key::Str(text) => {
                let ty = field.and_then(|(r, id)| r.field(id)).map(|f| &f.ty);
                put_string(&mut cell, text, ty);
            }
        }
        let cells = field.map(|(_, id)| (id, cell));
        of_cells(&cells.into_iter().collect())
    }

    /// Copies what does not follow from the log.
    fn copy_rest(&mut self, new: &Store) -> Result<()> {
        if self.old.purge_is_unfinished().unwrap_or(false) {
            let what = "nothing more, but a purge had not come to its end: the damaged file holds \
                        what it removed, delete that";
            self.repaired.lost.push(what.to_owned());
        }
        let observed = self.old.counters.observed.unwrap_or(Timestamp(0));
        let mut txn = new.begin_write(observed)?;
        txn.counters.run = self.old.counters.run;
        let lost = &mut self.repaired.lost;
        let (from, to) = (self.old, &txn.txn);
        copy(from, to, (t::CHECKPOINTS, "checkpoints"), lost, |key| {
            Place::from((TableId::Checkpoints, key))
        })?;
        copy(from, to, (t::POSITIONS, "positions"), lost, |key| {
            Place::from((TableId::Positions, key))
        })?;
        copy(from, to, (t::RUNS, "runs"), lost, |key| {
            Place::from((TableId::Runs, key))
        })?;
        copy(from, to, (t::QUARANTINE, "quarantine"), lost, |key| {
            Place::from((TableId::Quarantine, key))
        })?;
        copy(from, to, (t::TOMBSTONES, "tombstones"), lost, |key| {
            Place::from((TableId::Tombstones, key))
        })?;
        let before = lost.len();
        if self.old.media_sequence().is_ok_and(|at| at.is_some()) {
            let copied = self.old.media(|entry| txn.put_media(&entry).map(|()| true));
            let lists = self
                .old
                .media_lists(|list| txn.put_media_list(&list).map(|()| true));
            for error in [copied, lists].into_iter().filter_map(Result::err) {
                self.repaired.lost.push(format!("media: {error}"));
            }
        }
        // Where some are lost, they follow anew from the records.
        if let (true, Ok(Some(at))) = (
            before == self.repaired.lost.len(),
            self.old.media_sequence(),
        ) {
            txn.set_media_sequence(at)?;
        }
        self.old.copy_indexes(&txn)?;
        txn.commit()?;
        Ok(())
    }

    fn finish(self) -> Repaired {
        let Repair {
            old,
            heads: _,
            after,
            mut repaired,
            unsure,
            ..
        } = self;
        for (row, (resource, key)) in unsure {
            let name = old.catalog().resource(resource).map(|r| r.name.clone());
            let name = name.unwrap_or_default();
            if after.contains_key(&row) {
                repaired
                    .lost
                    .push(format!("a past version of {name} {key}, in part"));
            } else {
                repaired.refetch.push((name, key));
            }
        }
        repaired
    }
}

/// Copies the entries of a table that can be read.
fn copy<K: redb::Key + 'static>(
    from: &Snapshot,
    to: &WriteTransaction,
    (table, name): (redb::TableDefinition<'static, K, t::Bytes>, &str),
    lost: &mut Vec<String>,
    at: impl for<'k> Fn(K::SelfType<'k>) -> Place,
) -> Result<()> {
    let read = from.txn.open_table(table).map_err(engine)?;
    let mut written = to.open_table(table).map_err(engine)?;
    for entry in read.range::<K::SelfType<'_>>(..).map_err(engine)? {
        let (key, value) = match entry {
            Ok(entry) => entry,
            Err(error) => {
                lost.push(format!("{name}, from some entry on: {error}"));
                break;
            }
        };
        if unseal(at(key.value()), value.value()).is_err() {
            lost.push(format!("an entry of {name}"));
            continue;
        }
        written.insert(key.value(), value.value()).map_err(engine)?;
    }
    Ok(())
}

/// A body with one side of the changes put in.
fn changed(
    body: &RecordBuf,
    changes: &[FieldDiff],
    side: impl Fn(&FieldDiff) -> Option<&[u8]>,
) -> RecordBuf {
    let encoded = body.as_body().encoded();
    let mut cells: BTreeMap<FieldId, Vec<u8>> = encoded
        .map(|(field, cell)| (field, cell.to_vec()))
        .collect();
    for change in changes {
        match side(change) {
            Some(cell) => cells.insert(change.field, cell.to_vec()),
            None => cells.remove(&change.field),
        };
    }
    of_cells(&cells)
}

fn of_cells(cells: &BTreeMap<FieldId, Vec<u8>>) -> RecordBuf {
    let mut body = RecordBuf::begin(256);
    let mut previous = 0;
    for (field, cell) in cells {
        body.push(field.0 - previous, cell);
        previous = field.0;
    }
    body
}

pub(super) fn flush(
    txn: &mut WriteTxn,
    current: Option<(u16, super::field_changes::Origin)>,
    waiting: &mut Vec<Staged>,
) -> Result<()> {
    let Some((resource, origin)) = current.filter(|_| !waiting.is_empty()) else {
        return Ok(());
    };
    txn.set_origin(origin.observed, origin.run);
    let mut staged = std::mem::take(waiting);
    let bodies: Vec<&[u8]> = staged.iter().map(|item| item.body.0.as_slice()).collect();
    let packer = txn.packer(resource, &bodies)?;
    for item in &mut staged {
        item.packed = packer.pack(&item.body.0)?;
    }
    txn.stage(resource, origin.cause, staged)
}

/// Notes where the changes of a moment ended.
fn note_instant(txn: &WriteTxn, at: Option<Timestamp>) -> Result<()> {
    let Some(at) = at.filter(|_| txn.counters.sequence > 0) else {
        return Ok(());
    };
    let mut instants = txn.txn.open_table(t::INSTANTS).map_err(engine)?;
    put_instant(&mut instants, at.0, txn.counters.sequence)
}

/// What was changed between two versions.
fn differences(old: &RecordBuf, new: &RecordBuf, resource: &Resource) -> Vec<FieldDiff> {
    let mut diff = Diff::between(old.as_body(), new.as_body(), resource);
    for field in std::mem::take(&mut diff.vanished) {
        diff.clear(field, old.as_body());
    }
    diff.changes
}

impl WriteTxn {
    /// Logs an entry once more that says nothing of any record.
    pub(super) fn replay_empty(&mut self, entry: &Entry) -> Result<()> {
        self.counters.sequence += 1;
        let sequence = self.counters.sequence;
        let mut log = self.txn.open_table(t::CHANGELOG).map_err(engine)?;
        let value = entry.encode(sequence);
        log.insert(sequence, value.as_slice()).map_err(engine)?;
        Ok(())
    }
}
