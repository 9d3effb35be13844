//! Verification of what is derived from records and log: columns, and changes by field.

use xxhash_rust::xxh3::xxh3_64;

use super::changelog::{Entry, Operation};
use super::columns::Column;
use super::field_changes::Origin;
use super::snapshot::Snapshot;
use super::tables as t;
use super::verify::VerifyReport;
use super::{Head, engine};
use crate::column::{Segment, place};
use crate::error::Result;
use crate::record::RecordBuf;
use crate::schema::FieldId;
use crate::value::Timestamp;
use std::sync::Arc;

impl Snapshot {
    /// Checks that the columns of a resource say what its records say, slot by slot.
    pub(super) fn check_columns(&self, report: &mut VerifyReport) -> Result<()> {
        for (id, resource) in self.schema().resources.iter().enumerate() {
            let Ok(id) = u16::try_from(id) else { break };
            if self.slots(id) == 0 {
                continue;
            }
            let heads = self.slot_rows(id)?;
            if let Err(e) = self.check_resource(id, resource.fields.len(), &heads, report) {
                report.problem(format!("columns: {}: {e}", resource.name));
            }
        }
        Ok(())
    }

    /// The slot, row and state of every record.
    fn slot_rows(&self, resource: u16) -> Result<Vec<(u32, u64, bool)>> {
        let heads = self.txn.open_table(t::HEADS).map_err(engine)?;
        let (start, end) = t::resource_range(resource);
        let mut out = Vec::new();
        for item in heads
            .range(start.as_slice()..end.as_slice())
            .map_err(engine)?
        {
            // A head that cannot be read is reported where heads are checked.
            let (key, value) = item.map_err(engine)?;
            if let Ok(head) = Head::decode(key.value(), value.value()) {
                out.push((head.slot, head.row, !head.deleted));
            }
        }
        out.sort_unstable();
        Ok(out)
    }

    fn check_resource(
        &self,
        id: u16,
        fields: usize,
        heads: &[(u32, u64, bool)],
        report: &mut VerifyReport,
    ) -> Result<()> {
        let live = self.live(id)?;
        let rows = self.row_column(id)?;
        let bodies = self.bodies()?;
        let mut records: Vec<(u32, RecordBuf)> = Vec::new();
        let mut current = 0;
        for chunk in heads.chunk_by(|a, b| place(a.0).0 == place(b.0).0) {
            records.clear();
            for &(slot, row, is_live) in chunk {
                let (segment, at) = place(slot);
                let mask = live.get(segment as usize);
                let marked = mask.is_some_and(|mask| mask.contains(usize::from(at)));
                if marked != is_live || (is_live && row_at(&rows, slot) != Some(row)) {
                    report.problem(format!("columns: slot {slot} is not where its head is"));
                }
                if is_live {
                    current += 1;
                    // A body that cannot be read is reported where heads are checked.
                    records.extend(bodies.body(row).ok().map(|body| (slot, body)));
                }
            }
            let segment = chunk.first().map_or(0, |(slot, ..)| place(*slot).0);
            self.check_segment(id, (fields, segment), &records, report)?;
        }
        let marked: u64 = live.iter().map(crate::column::Mask::count).sum();
        if marked != current {
            report.problem(format!(
                "columns: {marked} slots are live, {current} records are"
            ));
        }
        Ok(())
    }

    /// Every cell of the records is in its column, and no other cell is.
    fn check_segment(
        &self,
        id: u16,
        (fields, segment): (usize, u32),
        records: &[(u32, RecordBuf)],
        report: &mut VerifyReport,
    ) -> Result<()> {
        let mut cell = Vec::new();
        let mut cells: Vec<_> = records
            .iter()
            .map(|(slot, body)| (*slot, body.as_body().encoded().peekable()))
            .collect();
        for field in 0..fields {
            let Ok(field) = u16::try_from(field) else {
                break;
            };
            let column = self.column(id, FieldId(field))?;
            let own: Option<&Arc<Segment>> = column
                .segments
                .get(segment as usize)
                .and_then(Option::as_ref);
            let elsewhere = own.is_some_and(|s| s.is_elsewhere());
            for (slot, cells) in &mut cells {
                let expected = cells.next_if(|(own, _)| own.0 == field);
                let expected = expected.map_or(&[][..], |(_, cell)| cell);
                cell.clear();
                if let Some(own) = own {
                    own.write_cell(usize::from(place(*slot).1), &column.dictionary, &mut cell);
                }
                if !elsewhere && cell != expected {
                    report.problem(format!(
                        "columns: field {field} of slot {slot} is not what its record has"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Checks that the changes by field are those of the log.
    pub(super) fn check_field_changes(&self, report: &mut VerifyReport) -> Result<()> {
        let mut logged = Digest::default();
        let changelog = self.txn.open_table(t::CHANGELOG).map_err(engine)?;
        for item in changelog.range::<u64>(..).map_err(engine)? {
            let (sequence, value) = item.map_err(engine)?;
            let Ok(entry) = Entry::decode(sequence.value(), value.value()) else {
                continue;
            };
            let at = Place {
                resource: entry.resource,
                sequence: sequence.value(),
                slot: entry.slot,
                source_time: entry.source_time,
                origin: Origin {
                    observed: entry.observed,
                    cause: entry.cause,
                    run: entry.run,
                },
            };
            let silent = [Operation::Update, Operation::Schema, Operation::Purge];
            if !silent.contains(&entry.operation) {
                logged.add(at, super::field_changes::PRESENCE, &[], &[]);
            }
            for change in &entry.fields {
                let side = |side: &Option<Vec<u8>>| side.clone().unwrap_or_default();
                logged.add(
                    at,
                    change.field.0,
                    &side(&change.previous),
                    &side(&change.new),
                );
            }
        }
        let mut held = Digest::default();
        for (id, resource) in self.schema().resources.iter().enumerate() {
            let Ok(id) = u16::try_from(id) else { break };
            let fields = (0..resource.fields.len()).filter_map(|f| u16::try_from(f).ok());
            for field in fields.chain([super::field_changes::PRESENCE]) {
                let read = self.field_events(id, field, 0, |event| {
                    if event.value_changed {
                        let at = Place {
                            resource: id,
                            sequence: event.sequence,
                            slot: event.slot,
                            source_time: event.source_time,
                            origin: event.origin,
                        };
                        held.add(at, field, event.previous, event.new);
                    }
                    Ok(())
                });
                if let Err(e) = read {
                    report.problem(format!("changes by field: {}: {e}", resource.name));
                }
            }
        }
        if logged != held {
            report.problem(format!(
                "changes by field: {} of them, and {} in the log, do not agree",
                held.count, logged.count
            ));
        }
        Ok(())
    }
}

fn row_at(rows: &Column, slot: u32) -> Option<u64> {
    rows.integer(slot).and_then(|row| u64::try_from(row).ok())
}

/// What a change is of, and when it was.
#[derive(Debug, Clone, Copy)]
struct Place {
    resource: u16,
    sequence: u64,
    slot: u32,
    source_time: Option<Timestamp>,
    origin: Origin,
}

/// A sum over changes in any order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Digest {
    count: u64,
    sum: u64,
}

impl Digest {
    fn add(&mut self, at: Place, field: u16, previous: &[u8], new: &[u8]) {
        let mut bytes = Vec::with_capacity(56 + previous.len() + new.len());
        bytes.extend_from_slice(&at.resource.to_le_bytes());
        bytes.extend_from_slice(&at.sequence.to_le_bytes());
        bytes.extend_from_slice(&at.slot.to_le_bytes());
        bytes.push(u8::from(at.source_time.is_some()));
        bytes.extend_from_slice(&at.source_time.map_or(0, |at| at.0).to_le_bytes());
        bytes.extend_from_slice(&at.origin.observed.0.to_le_bytes());
        bytes.push(at.origin.cause as u8);
        bytes.extend_from_slice(&at.origin.run.to_le_bytes());
        bytes.extend_from_slice(&field.to_le_bytes());
        bytes.extend_from_slice(&(previous.len() as u64).to_le_bytes());
        bytes.extend_from_slice(previous);
        bytes.extend_from_slice(new);
        self.count += 1;
        self.sum = self.sum.wrapping_add(xxh3_64(&bytes));
    }
}
