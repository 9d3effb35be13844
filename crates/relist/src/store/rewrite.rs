//! Rewriting what holds many records, without some of them: blocks, columns, changes by field.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::bodies::{BlockHeader, BlockWriter, Dictionary, Packed, Packer, TRAIN_AT, unpack};
use super::columns::{LIVE, ROW, column_key, mask_of, read_dictionary, segment_of, stamped};
use super::field_changes::{self, FieldEvent};
use super::format::{TableId, corrupt, seal};
use super::guarded::{ReadableTable as _, Table};
use super::purge::{Gone, hole};
use super::tables as t;
use super::{WriteTxn, engine, pieces};
use crate::column::{Dictionary as Cells, Edit, Segment, edited, on_all_cores, place, without};
use crate::error::Result;
use crate::record::RecordBuf;

/// Bodies that a new dictionary is trained on.
const SAMPLES: usize = 4_000;

impl WriteTxn {
    /// Writes the changes by field of a resource anew, without those that `keep` refuses: it is
    /// given their sequence and slot. `removed` is given the values that are replaced.
    pub(super) fn retain_events(
        &self,
        id: u16,
        keep: impl Fn(u64, u32) -> bool,
        mut removed: impl FnMut(&[u8]),
    ) -> Result<()> {
        let mut table = self.txn.open_table(t::FIELD_CHANGES).map_err(engine)?;
        let (start, end) = t::resource_range(id);
        let mut changed: Vec<(Vec<u8>, u64, Vec<u8>)> = Vec::new();
        // The chunk before, of the field: what stays must follow on what stays.
        let mut before: (u16, u64) = (0, 0);
        for item in table
            .range(start.as_slice()..end.as_slice())
            .map_err(engine)?
        {
            let (key, value) = item.map_err(engine)?;
            let Some((field, last)) = field_changes::chunk_key(key.value()) else {
                continue;
            };
            if before.0 != field {
                before = (field, 0);
            }
            let (follows, bytes) = field_changes::chunk_of(key.value(), value.value())?;
            let mut kept: Vec<FieldEvent> = Vec::new();
            let mut all = true;
            let is_end = bytes.is_empty();
            let read = |visit: &mut dyn FnMut(field_changes::EventRef<'_>) -> Result<()>| {
                if is_end {
                    return Some(Ok(()));
                }
                field_changes::each_event(bytes, 0, &mut |event| visit(event))
            };
            read(&mut |event| {
                if keep(event.sequence, event.slot) {
                    kept.push(event.to_owned());
                } else {
                    all = false;
                }
                Ok(())
            })
            .ok_or_else(field_changes::ends_early)??;
            if !all {
                // Without where the chunk before ended: that is nobody's.
                removed(bytes);
                changed.push((key.value().to_vec(), before.1, field_changes::chunk(&kept)));
            } else if follows != before.1 {
                changed.push((key.value().to_vec(), before.1, bytes.to_vec()));
            }
            if all || !kept.is_empty() {
                before.1 = last;
            }
        }
        for (key, before, chunk) in changed {
            let is_end = field_changes::chunk_key(&key).is_some_and(|(_, last)| last == u64::MAX);
            if chunk.is_empty() && !is_end {
                table.remove(key.as_slice()).map_err(engine)?;
                continue;
            }
            // The key stays: it is not before any of them, and behind the chunk before.
            field_changes::put_chunk(&mut table, &key, before, &chunk)?;
        }
        Ok(())
    }

    pub(super) fn erase_events(&self, id: u16, gone: &mut Gone) -> Result<()> {
        let (slots, pieces) = (&gone.slots, &mut gone.pieces);
        self.retain_events(
            id,
            |_, slot| !slots.contains(&slot),
            |value| pieces.add_pieces(value),
        )
    }

    /// Writes the columns of a resource anew, without the cells of the slots, and their
    /// dictionaries without cells that nobody else has.
    /// `stamp` tells what is written from all that was: a reader keeps segments by it.
    pub(super) fn erase_columns(&self, id: u16, gone: &mut Gone, stamp: u64) -> Result<()> {
        let fields = self.catalog.resource(id).map_or(0, |r| r.fields.len());
        let fields = (0..fields).filter_map(|field| u16::try_from(field).ok());
        let mut slots: Vec<u32> = gone.slots.iter().copied().collect();
        slots.sort_unstable();
        let mut edits: BTreeMap<u32, Vec<Edit<'_>>> = BTreeMap::new();
        for slot in &slots {
            let (segment, row) = place(*slot);
            edits
                .entry(segment)
                .or_default()
                .push(Edit { row, cell: &[] });
        }
        for field in fields.chain([ROW]) {
            self.erase_column((id, field), &edits, gone, stamp)?;
        }
        let mut columns = self.txn.open_table(t::COLUMNS).map_err(engine)?;
        for (segment, edits) in &edits {
            let key = column_key(id, LIVE, *segment);
            let Some(value) = pieces::read(&columns, key)? else {
                continue;
            };
            let mut mask = mask_of(key, &value)?;
            for edit in edits {
                mask.set(usize::from(edit.row), false);
            }
            let value = stamped(key, stamp, &mask.encode());
            pieces::write(&mut columns, key, &value)?;
        }
        Ok(())
    }

    fn erase_column(
        &self,
        (id, field): (u16, u16),
        edits: &BTreeMap<u32, Vec<Edit<'_>>>,
        gone: &mut Gone,
        stamp: u64,
    ) -> Result<()> {
        let mut columns = self.txn.open_table(t::COLUMNS).map_err(engine)?;
        let mut cells = self.txn.open_table(t::COLUMN_CELLS).map_err(engine)?;
        let mut dictionary = Cells::default();
        if field != ROW {
            read_dictionary(&cells, id, field, &mut dictionary)?;
        }
        let known = dictionary.len();
        let (first, last) = (column_key(id, field, 0), column_key(id, field, u32::MAX));
        let (mut numbers, mut segments, mut touched) = (Vec::new(), Vec::new(), HashSet::new());
        pieces::each(&columns, first, last, |key, value| {
            let number = key.last_chunk().map_or(0, |n| u32::from_be_bytes(*n));
            let segment = Segment::decode(segment_of(key, &value)?)
                .ok_or_else(|| corrupt(TableId::Columns, "a segment of an unknown layout"))?;
            let own = edits.get(&number).map_or(&[][..], Vec::as_slice);
            let has = own.iter().any(|edit| {
                let mut cell = Vec::new();
                segment.write_cell(usize::from(edit.row), &dictionary, &mut cell);
                !cell.is_empty()
            });
            numbers.push(number);
            if has {
                gone.pieces.add_pieces(&value);
                touched.insert(number);
                let rows = segment.rows;
                segments.push(edited(Some(segment), rows, own, &mut dictionary));
            } else {
                segments.push(segment);
            }
            Ok(())
        })?;
        let none = HashSet::new();
        let dropped = gone.cells.get(&field).unwrap_or(&none);
        let kept = without(&dictionary, &mut segments, dropped);
        if let Some(kept) = &kept {
            let pieces = &mut gone.pieces;
            cells
                .retain_in(first.as_slice()..=last.as_slice(), |_, value| {
                    pieces.add_pieces(value);
                    false
                })
                .map_err(engine)?;
            put_cells(&mut cells, first, kept.chunk(0))?;
        } else if dictionary.len() > known {
            let key = column_key(id, field, u32::try_from(known).unwrap_or(u32::MAX));
            put_cells(&mut cells, key, dictionary.chunk(known))?;
        }
        for (number, segment) in numbers.into_iter().zip(&segments) {
            // With other codes every segment of codes is another one.
            if touched.contains(&number) || (kept.is_some() && segment.has_codes()) {
                let key = column_key(id, field, number);
                let value = stamped(key, stamp, &segment.encode());
                pieces::write(&mut columns, key, &value)?;
            }
        }
        Ok(())
    }

    /// Writes all bodies of a resource anew: those of the rows as holes, the others compressed with
    /// a dictionary that was trained on what stays.
    pub(super) fn erase_bodies(&mut self, id: u16, gone: &mut Gone) -> Result<()> {
        let blocks = self.blocks_of(id)?;
        let packer = self.retrain(id, &blocks, gone)?;
        let mut old_dictionaries = HashSet::new();
        for first in blocks {
            let (header, block) = self.block(first)?;
            old_dictionaries.insert(header.dictionary);
            let dictionary = self.dictionary(header.dictionary)?;
            let mut bodies = Vec::with_capacity(usize::from(header.count));
            for row in header.rows() {
                let stored = header.stored(&block, row)?;
                bodies.push(if gone.rows.contains(&row) {
                    gone.pieces.add_pieces(stored);
                    hole()
                } else {
                    unpack(dictionary.as_deref(), row, stored)?
                });
            }
            self.put_block(&header, bodies, &packer)?;
        }
        let mut table = self.txn.open_table(t::DICTIONARIES).map_err(engine)?;
        for number in old_dictionaries {
            let old = table.remove(number).map_err(engine)?;
            if let Some(old) = old {
                gone.pieces.add_pieces(old.value());
            }
        }
        Ok(())
    }

    /// Writes holes in the place of rows; everything else of their blocks stays as it is.
    pub(super) fn hollow(&mut self, id: u16, rows: &std::collections::BTreeSet<u64>) -> Result<()> {
        for first in self.blocks_of(id)? {
            let (header, block) = self.block(first)?;
            let own = header.rows();
            if rows.range(own.start..own.end).next().is_none() {
                continue;
            }
            let dictionary = self.dictionary(header.dictionary)?;
            let mut bodies = Vec::with_capacity(usize::from(header.count));
            for row in header.rows() {
                bodies.push(if rows.contains(&row) {
                    hole()
                } else {
                    unpack(dictionary.as_deref(), row, header.stored(&block, row)?)?
                });
            }
            self.put_block(&header, bodies, &Packer::new(dictionary))?;
        }
        Ok(())
    }

    /// The first rows of the blocks of a resource.
    fn blocks_of(&self, id: u16) -> Result<Vec<u64>> {
        let table = self.txn.open_table(t::VERSIONS).map_err(engine)?;
        let mut out = Vec::new();
        for item in table.range::<u64>(..).map_err(engine)? {
            let (first, block) = item.map_err(engine)?;
            let header = BlockHeader::read(first.value(), block.value())?;
            if header.resource == id {
                out.push(header.first);
            }
        }
        Ok(out)
    }

    fn block(&self, first: u64) -> Result<(BlockHeader, Vec<u8>)> {
        let table = self.txn.open_table(t::VERSIONS).map_err(engine)?;
        let found = table.get(first).map_err(engine)?;
        let block = found.ok_or_else(|| corrupt(TableId::Versions, "a block is missing"))?;
        let block = block.value().to_vec();
        Ok((BlockHeader::read(first, &block)?, block))
    }

    fn put_block(&self, header: &BlockHeader, bodies: Vec<RecordBuf>, by: &Packer) -> Result<()> {
        let packed: Vec<Result<Packed>> = on_all_cores(bodies, |body| by.pack(&body.0));
        let mut table = self.txn.open_table(t::VERSIONS).map_err(engine)?;
        let mut block = BlockWriter::new(header.resource);
        for (row, packed) in header.rows().zip(packed) {
            block.push(&mut table, row, &packed?)?;
        }
        block.flush(&mut table)
    }

    /// Trains the dictionary of a resource on what stays of it.
    fn retrain(&mut self, id: u16, blocks: &[u64], gone: &Gone) -> Result<Packer> {
        let mut samples: Vec<RecordBuf> = Vec::new();
        let step = blocks.len().div_ceil(64).max(1);
        for first in blocks.iter().rev().step_by(step) {
            if samples.len() >= SAMPLES {
                break;
            }
            let (header, block) = self.block(*first)?;
            let dictionary = self.dictionary(header.dictionary)?;
            for row in header.rows().filter(|row| !gone.rows.contains(row)) {
                let body = unpack(dictionary.as_deref(), row, header.stored(&block, row)?)?;
                if body != hole() {
                    samples.push(body);
                }
            }
        }
        let current = self.counters.dictionaries.get_mut(usize::from(id));
        let Some(current) = current.filter(|current| **current != 0) else {
            return Ok(Packer::new(None));
        };
        if samples.len() < TRAIN_AT {
            // As before there were that many: the next page may train one.
            *current = 0;
            return Ok(Packer::new(None));
        }
        self.counters.dictionary += 1;
        *current = self.counters.dictionary;
        let samples: Vec<&[u8]> = samples.iter().map(|body| body.0.as_slice()).collect();
        let dictionary: Arc<Dictionary> = Packer::train(*current, &samples);
        self.add_dictionary(&dictionary)?;
        Ok(Packer::new(Some(dictionary)))
    }
}

/// Stores cells of a dictionary.
fn put_cells(
    table: &mut Table<'_, t::Bytes, t::Bytes>,
    key: [u8; 8],
    cells: Vec<u8>,
) -> Result<()> {
    let value = seal((TableId::ColumnCells, key.as_slice()), cells);
    table
        .insert(key.as_slice(), value.as_slice())
        .map_err(engine)?;
    Ok(())
}
