//! Applying pages: which records are new, which changed and how, which are put aside.
//!
//! `records = applied + unchanged + quarantined + flagged`, always. Reading and writing the store
//! is done in key order on one thread; decoding, hashing and diffing run on rayon and touch no
//! store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use rayon::prelude::*;

use super::SlotSet;
use super::ahead::{Ready, ReadyPage};
use super::known::Known;
use crate::column::Block;
use crate::decode::{Entity, KeySpec, RawEntity, SplitPage};
use crate::diff::{Diff, canonical_hash};
use crate::error::{Error, Result};
use crate::keycode::Key;
use crate::record::{Body, Cell, RecordBuf};
use crate::schema::{FieldId, Resource};
use crate::store::{
    Cause, DeleteOutcome, Head, Operation, Packed, QUARANTINE_BYTES, Quarantined, RunReport,
    Staged, WriteTxn,
};
use crate::value::{Timestamp, Value};

/// Records decoded by one task.
pub(super) const CHUNK: usize = 64;
/// A field that vanished from more than one in this many records was withdrawn, not cleared.
const WITHDRAWN_SHARE: u64 = 5;

/// How pages are applied, and what is noted on the way.
pub(crate) struct Applying<'a> {
    pub(crate) cause: Cause,
    /// The field that holds the source time of a record.
    pub(crate) cursor_field: &'a str,
    pub(crate) report: &'a mut RunReport,
    /// Slots of records that the pages hold, when the caller sweeps later.
    pub(crate) seen: Option<&'a mut SlotSet>,
    /// The highest source time of any record, changed or not.
    pub(crate) max_seen: Option<Timestamp>,
    /// Records stamped up to then are counted in `settled`.
    pub(crate) settled_by: Timestamp,
    /// The earliest stamp that a record of the pages can have, and how many have an earlier one.
    pub(crate) earliest: Option<Timestamp>,
    pub(crate) early: u64,
    /// By page: its records, met for the first time, that were stamped up to `settled_by`, and
    /// those put aside.
    pub(crate) settled: Vec<u64>,
    /// Records put aside whose key is not known: a sweep cannot tell what they were.
    pub(crate) keyless: u64,
    /// What a record says when it is gone, where the feed marks it so.
    pub(crate) gone: Option<&'a GoneMark>,
    /// By which the records of the pages were recognised, where they were.
    pub(crate) known: Option<&'a Known>,
    /// By page: its records as far as they were decoded ahead.
    pub(crate) ready: Vec<ReadyPage>,
    pub(super) effort: Effort,
}

/// How far records had to be taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Effort {
    /// Records that were not known by their bytes.
    pub(super) looked_up: usize,
    /// Those of them whose bytes were other ones.
    pub(super) decoded: usize,
    /// Those of them that said something else.
    pub(super) stored: usize,
    /// Those of them that were new.
    pub(super) inserted: usize,
}

impl<'a> Applying<'a> {
    /// Applies for a cause, by the stamps of a field; nothing noted yet.
    pub(crate) fn new(cause: Cause, cursor_field: &'a str, report: &'a mut RunReport) -> Self {
        Applying {
            cause,
            cursor_field,
            report,
            seen: None,
            max_seen: None,
            settled_by: Timestamp(i64::MAX),
            earliest: None,
            early: 0,
            settled: Vec::new(),
            keyless: 0,
            gone: None,
            known: None,
            ready: Vec::new(),
            effort: Effort::default(),
        }
    }

    /// Notes the source time of a record of a page of the batch.
    fn meet(&mut self, item: &Item<'_>, at: Option<Timestamp>) {
        self.meet_in(item.page_at, item.again, at);
    }

    fn meet_in(&mut self, page_at: usize, again: bool, at: Option<Timestamp>) {
        self.max_seen = self.max_seen.max(at);
        let earliest = self.earliest.zip(at);
        self.early += u64::from(earliest.is_some_and(|(earliest, at)| at < earliest));
        if !again && at.is_some_and(|at| at <= self.settled_by) {
            self.settle(page_at);
        }
    }

    pub(super) fn settle(&mut self, page_at: usize) {
        if self.settled.len() <= page_at {
            self.settled.resize(page_at + 1, 0);
        }
        if let Some(settled) = self.settled.get_mut(page_at) {
            *settled += 1;
        }
    }
}

/// A field whose value says that the record is gone: `MlgCanView` false, `MlsStatus` `Delete`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneMark {
    /// The field.
    pub field: String,
    /// The value that means gone, as text: `false`, `Delete`.
    pub value: String,
}

impl GoneMark {
    fn marks(&self, body: Body<'_>, resource: &Resource) -> bool {
        let Some(id) = resource.field_id(&self.field) else {
            return false;
        };
        let Some((cell, def)) = body.cell(id).zip(resource.field(id)) else {
            return false;
        };
        match cell.value_as(&def.ty) {
            Value::String(text) => text == self.value,
            Value::Null => false,
            other => other.to_string() == self.value,
        }
    }
}

/// A record of a page, on its way through the stages.
pub(super) struct Item<'p> {
    pub(super) page: &'p SplitPage,
    /// Which page of the batch, which record of the page.
    pub(super) page_at: usize,
    pub(super) index: usize,
    pub(super) raw: &'p RawEntity,
    pub(super) key: &'p Key,
    /// Whether the page gives the key twice, with different bytes.
    contested: bool,
    /// Whether an earlier page of the walk gave it.
    again: bool,
    head: Option<Head>,
    /// What was decoded ahead.
    pub(super) ready: Option<Box<Ready>>,
    pub(super) entity: Entity,
    /// The body as it is to be stored, and the block that holds its cells, as far as either was
    /// made ahead.
    pub(super) packed: Packed,
    pub(super) block: Option<(Arc<Block>, usize)>,
    pub(super) source_time: Option<Timestamp>,
    pub(super) canonical: u128,
    previous: Option<RecordBuf>,
    diff: Diff,
}

impl WriteTxn {
    /// Applies split pages, in order. A page whose keys an earlier one holds too is applied after
    /// it, so that both versions are kept.
    pub(crate) fn apply_pages(&mut self, pages: &[SplitPage], to: &mut Applying<'_>) -> Result<()> {
        let mut group: Vec<Item<'_>> = Vec::new();
        let mut keys: HashSet<&Key> = HashSet::new();
        for (page_at, page) in pages.iter().enumerate() {
            to.report.pages += 1;
            to.report.bytes += page.body.len() as u64;
            to.report.records += page.entities.len() as u64;
            let items = self.collect(page, page_at, to)?;
            if items.iter().any(|item| keys.contains(item.key)) {
                self.apply_group(std::mem::take(&mut group), to)?;
                keys.clear();
            }
            keys.extend(items.iter().map(|item| item.key));
            group.extend(items);
        }
        self.apply_group(group, to)
    }

    /// Sees to it that what was recognised by its bytes is unchanged indeed: by what is stored
    /// now, and with no other version of it among the pages.
    pub(crate) fn settle_known(
        &self,
        pages: &mut [SplitPage],
        known: Option<&Known>,
    ) -> Result<()> {
        for page in pages.iter_mut() {
            page.read_keys(|slot, hash| known.is_some_and(|known| known.is(slot, hash)));
        }
        let entities = || pages.iter().flat_map(|page| &page.entities);
        let mut recognised = SlotSet::default();
        for slot in entities().filter_map(|raw| raw.known) {
            recognised.insert(slot);
        }
        let Some(page) = pages.first().filter(|_| !recognised.is_empty()) else {
            return Ok(());
        };
        let Some(resource) = self.catalog.id(&page.resource) else {
            return Ok(());
        };
        let mut keys: Vec<&Key> = entities()
            .filter(|raw| raw.known.is_none())
            .filter_map(|raw| raw.key.as_ref().ok())
            .collect();
        keys.sort_unstable();
        let heads = self.heads(resource, keys.into_iter())?;
        if heads
            .iter()
            .flatten()
            .any(|head| recognised.contains(head.slot))
        {
            for page in pages.iter_mut() {
                page.read_keys(|_, _| false);
            }
        }
        Ok(())
    }

    /// The records of a page that have a key; the others are put aside.
    fn collect<'p>(
        &mut self,
        page: &'p SplitPage,
        page_at: usize,
        to: &mut Applying<'_>,
    ) -> Result<Vec<Item<'p>>> {
        let mut items: Vec<Item<'p>> = Vec::with_capacity(page.entities.len());
        let mut first: HashMap<&Key, usize> = HashMap::with_capacity(page.entities.len());
        for (index, raw) in page.entities.iter().enumerate() {
            if let Some(slot) = raw.known {
                to.report.unchanged += 1;
                let new = to.seen.as_deref_mut().is_none_or(|seen| seen.insert(slot));
                let time = to.known.and_then(|known| known.time(slot));
                to.meet_in(page_at, !new, time);
                continue;
            }
            let key = match &raw.key {
                Ok(key) => key,
                Err((field, reason)) => {
                    to.keyless += 1;
                    to.settle(page_at);
                    let fault = (field.clone(), reason.clone());
                    self.put_aside(page, index, raw, fault, to)?;
                    continue;
                }
            };
            let mut contested = false;
            if let Some(&at) = first.get(key) {
                let Some(other) = items.get_mut(at) else {
                    continue;
                };
                if other.raw.hash == raw.hash {
                    to.report.unchanged += 1;
                    continue;
                }
                other.contested = true;
                contested = true;
            } else {
                first.insert(key, items.len());
            }
            items.push(Item {
                page,
                page_at,
                index,
                raw,
                key,
                contested,
                again: false,
                head: None,
                ready: to
                    .ready
                    .get_mut(page_at)
                    .and_then(|page| page.get_mut(index)?.take()),
                entity: Entity::default(),
                packed: Packed::default(),
                block: None,
                source_time: None,
                canonical: 0,
                previous: None,
                diff: Diff::default(),
            });
        }
        Ok(items)
    }

    fn apply_group(&mut self, mut items: Vec<Item<'_>>, to: &mut Applying<'_>) -> Result<()> {
        let Some(page) = items.first().map(|item| item.page) else {
            return Ok(());
        };
        let resource = self.ensure_resource(&page.resource, &page.key_spec)?;
        to.effort.looked_up += items.len();
        items.sort_by(|a, b| a.key.cmp(b.key));
        let heads = self.heads(resource, items.iter().map(|item| item.key))?;
        for (item, head) in items.iter_mut().zip(heads) {
            item.head = head;
            if let (Some(head), Some(seen)) = (head, to.seen.as_deref_mut()) {
                let new = seen.insert(head.slot);
                item.again = !new && !item.contested;
            }
        }
        let mut items = drop_unchanged(items, to, |item, head| {
            !item.contested && head.raw_hash == item.raw.hash
        });
        if items.is_empty() {
            return Ok(());
        }
        to.effort.decoded += items.len();
        items = self.decode(resource, items, to)?;
        items = self.settle_contested(items, to)?;
        items = self.bury(resource, items, to)?;
        let mut items = drop_unchanged(items, to, |item, head| head.canonical == item.canonical);
        self.compare(resource, &mut items)?;
        self.settle_vanished(resource, &mut items, to.cause)?;
        let mut changed = Vec::with_capacity(items.len());
        for item in items {
            to.meet(&item, item.source_time);
            let live = item.head.is_some_and(|h| !h.deleted);
            if live && item.diff.changes.is_empty() {
                to.report.unchanged += 1;
                continue;
            }
            changed.push(item);
        }
        // The log tells pages in their order, and records in the order of their page.
        changed.sort_unstable_by_key(|item| (item.page_at, item.index));
        let staged = self.encode(resource, changed)?;
        self.count(resource, &staged, to);
        to.effort.stored += staged.len();
        to.effort.inserted += staged.iter().filter(|item| item.head.is_none()).count();
        self.stage(resource, to.cause, staged)
    }

    fn ensure_resource(&mut self, name: &str, spec: &KeySpec) -> Result<u16> {
        match self.catalog.id(name) {
            Some(id) => Ok(id),
            None => self.catalog_mut().ensure(name, spec),
        }
    }

    /// Of two records of one page with one key, the one with the later stamp counts, else the
    /// later one; the other is put aside.
    fn settle_contested<'p>(
        &mut self,
        items: Vec<Item<'p>>,
        to: &mut Applying<'_>,
    ) -> Result<Vec<Item<'p>>> {
        if !items.iter().any(|item| item.contested) {
            return Ok(items);
        }
        let mut out: Vec<Item<'p>> = Vec::with_capacity(items.len());
        for item in items {
            let Some(rival) = out.pop_if(|last| last.key == item.key) else {
                out.push(item);
                continue;
            };
            if rival.raw.hash == item.raw.hash {
                to.report.unchanged += 1;
                out.push(rival);
                continue;
            }
            let (wins, loses) = if item.source_time >= rival.source_time {
                (item, rival)
            } else {
                (rival, item)
            };
            let reason = format!(
                "the page gives key {} twice: record {} was taken",
                wins.key, wins.index
            );
            let field = Some(loses.page.key_spec.field.clone());
            self.put_aside(loses.page, loses.index, loses.raw, (field, reason), to)?;
            out.push(wins);
        }
        Ok(out)
    }

    /// Deletes what says of itself that it is gone.
    fn bury<'p>(
        &mut self,
        resource: u16,
        items: Vec<Item<'p>>,
        to: &mut Applying<'_>,
    ) -> Result<Vec<Item<'p>>> {
        let Some(mark) = to.gone else {
            return Ok(items);
        };
        let Some(definition) = self.catalog.resource(resource).cloned() else {
            return Ok(items);
        };
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            if !mark.marks(item.entity.body.as_body(), &definition) {
                out.push(item);
                continue;
            }
            to.meet(&item, item.source_time);
            to.report.flagged += 1;
            let reason = format!("{} is {}", mark.field, mark.value);
            let (name, at) = (&definition.name, item.source_time);
            match self.delete(name, item.key, at, Cause::Flag, &reason)? {
                DeleteOutcome::Deleted => to.report.deleted += 1,
                _ => to.report.deletes_ignored += 1,
            }
        }
        Ok(out)
    }

    fn compare(&self, resource: u16, items: &mut [Item<'_>]) -> Result<()> {
        let mut rows: Vec<(u64, usize)> = items
            .iter()
            .enumerate()
            .filter_map(|(at, item)| {
                let head = item.head.filter(|h| !h.deleted)?;
                Some((head.row, at))
            })
            .collect();
        rows.sort_unstable();
        let (rows, places): (Vec<u64>, Vec<usize>) = rows.into_iter().unzip();
        let stored = self.stored_bodies()?;
        let bodies = rows.par_chunks(CHUNK).map(|rows| stored.read(rows));
        let bodies = bodies.collect::<Result<Vec<_>>>()?;
        for (at, body) in places.into_iter().zip(bodies.into_iter().flatten()) {
            if let Some(item) = items.get_mut(at) {
                item.previous = Some(body);
            }
        }
        let Some(resource) = self.catalog.resource(resource) else {
            return Ok(());
        };
        items.par_iter_mut().with_min_len(CHUNK).for_each(|item| {
            if let Some(previous) = &item.previous {
                item.diff = Diff::between(previous.as_body(), item.entity.body.as_body(), resource);
            }
        });
        Ok(())
    }

    /// Decides what it means that a field is not sent any more.
    ///
    /// It was not asked for (a `$select`), or the record spells its nulls, so that absence is not
    /// null: the value stays. It vanished from many records at once: it was withdrawn, which is
    /// one event of the schema, and the values stay. Otherwise it was cleared.
    fn settle_vanished(
        &mut self,
        resource: u16,
        items: &mut [Item<'_>],
        cause: Cause,
    ) -> Result<()> {
        self.note_returned(resource, items, cause)?;
        let mut vanished: BTreeMap<FieldId, u64> = BTreeMap::new();
        for item in items.iter().filter(|item| !item.page.partial) {
            for field in &item.diff.vanished {
                *vanished.entry(*field).or_default() += 1;
            }
        }
        let mut withdrawn: HashSet<FieldId> =
            self.catalog.withdrawn(resource).iter().copied().collect();
        for (field, count) in vanished {
            let held = items.iter().filter(|item| !item.page.partial);
            let held = held.filter(|item| {
                let before = item.previous.as_ref().and_then(|p| p.as_body().cell(field));
                before.is_some_and(|cell| !cell.is_null())
            });
            let held = held.count() as u64;
            if count < 2 || count * WITHDRAWN_SHARE <= held || !withdrawn.insert(field) {
                continue;
            }
            self.catalog_mut().set_withdrawn(resource, field, true);
            let name = self.field_name(resource, field);
            let note = format!(
                "{name} withdrawn: {count} of {held} records do not have it any more; the last \
                 values are kept"
            );
            self.log_schema(resource, cause, note)?;
        }
        for item in items {
            let Some(previous) = &item.previous else {
                continue;
            };
            if item.page.partial || item.entity.spells_nulls {
                continue;
            }
            for field in item.diff.vanished.clone() {
                if !withdrawn.contains(&field) {
                    item.diff.clear(field, previous.as_body());
                    item.diff.vanished.retain(|f| *f != field);
                }
            }
        }
        Ok(())
    }

    fn note_returned(&mut self, resource: u16, items: &[Item<'_>], cause: Cause) -> Result<()> {
        for field in self.catalog.withdrawn(resource).to_vec() {
            let back = |item: &Item<'_>| {
                let cell = item.entity.body.as_body().cell(field);
                cell.is_some_and(|c| !c.is_null())
            };
            if items.iter().any(back) && self.catalog.is_withdrawn(resource, field) {
                self.catalog_mut().set_withdrawn(resource, field, false);
                let note = format!("{} is sent again", self.field_name(resource, field));
                self.log_schema(resource, cause, note)?;
            }
        }
        Ok(())
    }

    fn field_name(&self, resource: u16, field: FieldId) -> String {
        let def = self.catalog.resource(resource).and_then(|r| r.field(field));
        def.map_or_else(|| format!("field {}", field.0), |f| f.name.clone())
    }

    /// What is to be stored of changed records.
    fn encode(&mut self, resource: u16, items: Vec<Item<'_>>) -> Result<Vec<Staged>> {
        let staged = items.into_iter().map(|item| self.to_staged(resource, item));
        let mut staged: Vec<Staged> = staged.collect();
        let bodies: Vec<&[u8]> = staged.iter().map(|item| item.body.0.as_slice()).collect();
        let packer = self.packer(resource, &bodies)?;
        let plain = |item: &&mut Staged| !packer.has_packed(&item.packed);
        let mut plain: Vec<&mut Staged> = staged.iter_mut().filter(plain).collect();
        let items = plain.par_iter_mut().with_min_len(CHUNK);
        items.try_for_each(|item| {
            item.packed = packer.pack(&item.body.0)?;
            Ok::<(), Error>(())
        })?;
        Ok(staged)
    }

    /// The body to store: what the feed says, and the values it did not speak of.
    fn to_staged(&self, resource: u16, item: Item<'_>) -> Staged {
        let (mut body, mut canonical) = (item.entity.body, item.canonical);
        let (mut packed, mut block) = (item.packed, item.block);
        if let Some(previous) = item
            .previous
            .as_ref()
            .filter(|_| !item.diff.vanished.is_empty())
        {
            let kept = item
                .diff
                .vanished
                .iter()
                .filter_map(|field| Some((*field, previous.as_body().cell(*field)?)));
            let own = body.as_body().cells();
            let mut cells: Vec<(FieldId, Cell<'_>)> = own.chain(kept).collect();
            cells.sort_by_key(|(field, _)| *field);
            if let Some(resource) = self.catalog.resource(resource) {
                canonical = canonical_hash(cells.iter().copied(), resource);
            }
            body = RecordBuf::from_cells(cells.into_iter());
            (packed, block) = (Packed::default(), None);
        }
        Staged {
            key: item.key.clone(),
            head: item.head,
            body,
            packed,
            raw_hash: item.raw.hash,
            canonical,
            source_time: item.source_time,
            changes: item.diff.changes,
            previous: item.previous,
            block,
        }
    }

    fn count(&self, resource: u16, staged: &[Staged], to: &mut Applying<'_>) {
        let field = |name: &str| {
            self.catalog
                .resource(resource)
                .and_then(|r| r.field_id(name))
        };
        let (price, status) = (field("ListPrice"), field("StandardStatus"));
        let report = &mut *to.report;
        for item in staged {
            match item.operation() {
                Operation::Insert => report.inserted += 1,
                Operation::Relist => report.relisted += 1,
                _ => report.updated += 1,
            }
            report.field_changes += item.changes.len() as u64;
            for change in &item.changes {
                report.price_changes += u64::from(Some(change.field) == price);
                report.status_changes += u64::from(Some(change.field) == status);
            }
        }
        // Slots of new records are given out in this order by `stage`.
        if let Some(seen) = to.seen.as_deref_mut() {
            let next = self
                .counters
                .slots
                .get(usize::from(resource))
                .copied()
                .unwrap_or(0);
            let new = staged.iter().filter(|s| s.head.is_none()).count();
            (next..).take(new).for_each(|slot| {
                seen.insert(slot);
            });
        }
    }

    pub(super) fn put_aside(
        &mut self,
        page: &SplitPage,
        index: usize,
        raw: &RawEntity,
        (field, reason): (Option<String>, String),
        to: &mut Applying<'_>,
    ) -> Result<()> {
        to.report.quarantined += 1;
        let bytes = page.text(raw).as_bytes();
        self.quarantine(&Quarantined {
            resource: page.resource.clone(),
            page: page.origin.clone(),
            record: Some(index as u64),
            field,
            reason,
            run: to.report.run,
            observed: self.observed(),
            raw: bytes.iter().copied().take(QUARANTINE_BYTES).collect(),
            raw_len: bytes.len() as u64,
        })
    }
}

/// Takes out the live records that `same` says are unchanged, and counts them.
fn drop_unchanged<'p>(
    items: Vec<Item<'p>>,
    to: &mut Applying<'_>,
    same: impl Fn(&Item<'p>, &Head) -> bool,
) -> Vec<Item<'p>> {
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        match item.head.filter(|head| !head.deleted) {
            Some(head) if same(&item, &head) => {
                to.report.unchanged += 1;
                to.meet(&item, head.source_time);
            }
            _ => out.push(item),
        }
    }
    out
}
