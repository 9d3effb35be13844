//! Verification: whether the tables agree with each other.

use std::collections::{HashMap, HashSet};

use super::bodies::{BlockHeader, unpack};
use super::changelog::{Entry, Operation};
use super::guarded::ReadableTable as _;
use super::moments::instant_of;
use super::snapshot::{BodyReader, Snapshot, past};
use super::tables as t;
use super::write::missing_row;
use super::{Head, MediaState, engine};
use crate::diff::canonical_hash;
use crate::error::{Error, Result};
use crate::record::Cell;
use crate::record::codec::Reader;
use crate::schema::FieldId;

/// The most problems that are listed; the rest are counted.
const LISTED: usize = 100;

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Records that are current.
    pub records: u64,
    /// Stored versions, past ones included.
    pub versions: u64,
    /// Changes in the log.
    pub changes: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// How many problems there are.
    pub problem_count: u64,
    /// The first of them, each naming its table and entry.
    pub problems: Vec<String>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problem_count == 0
    }

    pub(super) fn problem(&mut self, text: String) {
        self.problem_count += 1;
        if self.problems.len() < LISTED {
            self.problems.push(text);
        }
    }

    /// Notes what could not be read of a table. A disk that failed says nothing of the store.
    fn fault(&mut self, table: &str, error: Error) -> Result<()> {
        if matches!(error, Error::Storage(_) | Error::Io { .. }) {
            return Err(error);
        }
        self.problem(format!("{table}: {error}"));
        Ok(())
    }
}

/// A record's state while the log is folded: the row it had, and since when.
type Folded = HashMap<(u16, u32), (u64, u64)>;

impl Snapshot {
    /// Checks that the parts of the store agree: every checksum; the log without a gap and, folded
    /// from the start, equal to the records; every update's fields equal to the difference of its
    /// versions; history, tombstones and counts; columns and changes by field.
    ///
    /// # Errors
    /// Only when the engine itself cannot read; what does not agree is in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        let damaged = self.check_bodies(&mut report)?;
        let folded = self.fold_changelog(&mut report)?;
        self.check_heads(&folded, &damaged, &mut report)?;
        self.check_history(&damaged, &mut report)?;
        if report.versions != self.counters.row {
            report.problem(format!(
                "versions: {} rows, {} were given out",
                report.versions, self.counters.row
            ));
        }
        self.check_columns(&mut report)?;
        self.check_field_changes(&mut report)?;
        self.check_positions(&mut report)?;
        self.check_moments(&mut report)?;
        self.check_values(&mut report)?;
        Ok(report)
    }

    /// Reads every body there is; answers with the rows that are damaged or missing.
    fn check_bodies(&self, report: &mut VerifyReport) -> Result<HashSet<u64>> {
        let versions = self.txn.open_table(t::VERSIONS).map_err(engine)?;
        let mut damaged = HashSet::new();
        let mut next = 1;
        for item in versions.range::<u64>(..).map_err(engine)? {
            let (first, block) = item.map_err(engine)?;
            let header = match BlockHeader::read(first.value(), block.value()) {
                Ok(header) => header,
                Err(e) => {
                    report.problem(format!("versions: {e}"));
                    continue;
                }
            };
            damaged.extend(next..header.first);
            if header.first != next {
                let first = header.first;
                report.problem(format!("versions: rows {next} to {first} are not in order"));
            }
            next = header.rows().end;
            let dictionary = self.dictionary(header.dictionary);
            for row in header.rows() {
                let body = match &dictionary {
                    Ok(dictionary) => header
                        .stored(block.value(), row)
                        .and_then(|stored| unpack(dictionary.as_deref(), row, stored)),
                    Err(_) => Err(missing_row(row)),
                };
                if let Err(e) = body {
                    report.problem(format!("versions: {e}"));
                    damaged.insert(row);
                }
            }
            report.versions += u64::from(header.count);
        }
        Ok(damaged)
    }

    /// Whether a row was given out and can be read.
    fn readable(&self, row: u64, damaged: &HashSet<u64>) -> bool {
        (1..=self.counters.row).contains(&row) && !damaged.contains(&row)
    }

    /// No watcher is ahead of what there is.
    fn check_positions(&self, report: &mut VerifyReport) -> Result<()> {
        match self.positions() {
            Ok(positions) => {
                for (name, position) in positions {
                    if position.sequence > self.counters.sequence {
                        report.problem(format!(
                            "positions: the watcher {name} is at {}, the log ends at {}",
                            position.sequence, self.counters.sequence
                        ));
                    }
                }
            }
            Err(e) => report.fault("positions", e)?,
        }
        Ok(())
    }

    /// The moments follow one another, to the end of the log.
    fn check_moments(&self, report: &mut VerifyReport) -> Result<()> {
        let instants = self.txn.open_table(t::INSTANTS).map_err(engine)?;
        let mut last = 0;
        for item in instants.range::<i64>(..).map_err(engine)? {
            let (at, value) = item.map_err(engine)?;
            match instant_of(at.value(), value.value()) {
                Ok((sequence, before)) if before == last && sequence > last => last = sequence,
                Ok(_) => report.problem(format!("instants: {} does not follow", at.value())),
                Err(e) => report.problem(format!("instants: {}: {e}", at.value())),
            }
        }
        if last != self.counters.sequence {
            report.problem(format!("instants: they end at {last}"));
        }
        Ok(())
    }

    /// What is read by nothing above can be read, too.
    fn check_values(&self, report: &mut VerifyReport) -> Result<()> {
        let mut wanted = (0, 0);
        let media = self.media(|entry| {
            wanted.1 += u64::from(entry.state == MediaState::Wanted);
            Ok(true)
        });
        let lists = self.media_lists(|list| {
            wanted.0 += u64::from(list.due);
            Ok(true)
        });
        let mut checked = vec![
            ("media", media),
            ("media lists", lists),
            ("runs", self.runs(usize::MAX).map(drop)),
            ("quarantine", self.quarantined().map(drop)),
        ];
        for resource in &self.schema().resources {
            checked.push(("tombstones", self.tombstones(&resource.name).map(drop)));
            checked.push(("checkpoints", self.checkpoint(&resource.name).map(drop)));
        }
        for (table, result) in checked {
            if let Err(e) = result {
                report.fault(table, e)?;
            }
        }
        match self.media_due() {
            Ok(due) if due == wanted => {}
            Ok(due) => report.problem(format!("media due: {due:?} held, {wanted:?} found")),
            Err(e) => report.fault("media due", e)?,
        }
        Ok(())
    }

    fn fold_changelog(&self, report: &mut VerifyReport) -> Result<Folded> {
        let mut folded = Folded::new();
        let bodies = self.bodies()?;
        let changelog = self.txn.open_table(t::CHANGELOG).map_err(engine)?;
        let by_key = self.txn.open_table(t::CHANGES_BY_KEY).map_err(engine)?;
        let edge = self.pruned()?;
        let mut expected = None;
        let mut keyed = 0;
        for item in changelog.range::<u64>(..).map_err(engine)? {
            let (sequence, value) = item.map_err(engine)?;
            let sequence = sequence.value();
            if expected.unwrap_or(edge + 1) != sequence {
                report.problem(format!("changelog: a gap before sequence {sequence}"));
            }
            expected = Some(sequence + 1);
            report.changes += 1;
            let entry = match Entry::decode(sequence, value.value()) {
                Ok(entry) => entry,
                Err(e) => {
                    report.problem(format!("changelog: sequence {sequence}: {e}"));
                    continue;
                }
            };
            if matches!(entry.operation, Operation::Schema | Operation::Purge) {
                continue;
            }
            keyed += 1;
            let own = t::slot_key(entry.resource, entry.slot, sequence);
            if by_key.get(own.as_slice()).map_err(engine)?.is_none() {
                report.problem(format!("changes by key: sequence {sequence} is missing"));
            }
            self.fold(sequence, &entry, &mut folded, (&bodies, edge), report);
        }
        if expected.unwrap_or(1) != self.counters.sequence + 1 {
            report.problem(format!(
                "changelog: does not end at {}",
                self.counters.sequence
            ));
        }
        let held = by_key.len().map_err(engine)?;
        if held != keyed {
            report.problem(format!(
                "changes by key: {held} entries, {keyed} record changes"
            ));
        }
        Ok(folded)
    }

    fn fold(
        &self,
        sequence: u64,
        entry: &Entry,
        folded: &mut Folded,
        (bodies, edge): (&BodyReader<'_>, u64),
        report: &mut VerifyReport,
    ) {
        let at = (entry.resource, entry.slot);
        // Of what was pruned, the first entry that is left says what it left.
        let unknown = if edge == 0 { 0 } else { entry.previous_row };
        let before = folded.get(&at).map_or(unknown, |(row, _)| *row);
        if before != entry.previous_row {
            report.problem(format!(
                "changelog: sequence {sequence} follows row {}, the log says {before}",
                entry.previous_row
            ));
        }
        let fits = match entry.operation {
            Operation::Insert | Operation::Relist => before == 0 && entry.row > 0,
            Operation::Update => before > 0 && entry.row > 0,
            Operation::Delete => before > 0 && entry.row == 0,
            Operation::Schema | Operation::Purge => true,
        };
        if !fits {
            let name = entry.operation.name();
            report.problem(format!(
                "changelog: sequence {sequence} is no possible {name}"
            ));
        }
        if entry.operation == Operation::Update {
            self.check_update(sequence, entry, bodies, report);
        }
        folded.insert(at, (entry.row, sequence));
    }

    /// The version before, with the logged fields put in, says what the version after says.
    fn check_update(
        &self,
        sequence: u64,
        entry: &Entry,
        bodies: &BodyReader<'_>,
        report: &mut VerifyReport,
    ) {
        let (old, new) = (bodies.body(entry.previous_row), bodies.body(entry.row));
        let (Ok(old), Ok(new)) = (old, new) else {
            report.problem(format!(
                "versions: a row of sequence {sequence} cannot be read"
            ));
            return;
        };
        let (old, new) = (old.as_body(), new.as_body());
        let Some(resource) = self.catalog().resource(entry.resource) else {
            return;
        };
        let mut cells: Vec<(FieldId, Cell<'_>)> = old.cells().collect();
        for change in &entry.fields {
            cells.retain(|(field, _)| *field != change.field);
            let side = change.new.as_deref();
            if let Some(cell) = side.and_then(|bytes| Cell::read(&mut Reader::new(bytes))) {
                cells.push((change.field, cell));
            }
        }
        cells.sort_by_key(|(field, _)| *field);
        if canonical_hash(cells.into_iter(), resource) != canonical_hash(new.cells(), resource) {
            report.problem(format!(
                "changelog: sequence {sequence} does not explain its version"
            ));
        }
    }

    fn check_heads(
        &self,
        folded: &Folded,
        damaged: &HashSet<u64>,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let heads = self.txn.open_table(t::HEADS).map_err(engine)?;
        let tombstones = self.txn.open_table(t::TOMBSTONES).map_err(engine)?;
        let edge = self.pruned()?;
        // Records of which no change is left in the log.
        let mut unlogged = 0;
        let mut live = vec![0_u64; self.counters.live.len()];
        for item in heads.range::<&[u8]>(..).map_err(engine)? {
            let (key, value) = item.map_err(engine)?;
            let name = t::key_of(key.value()).map_or_else(|| "?".to_owned(), |k| k.to_string());
            let head = match Head::decode(key.value(), value.value()) {
                Ok(head) => head,
                Err(e) => {
                    report.problem(format!("heads: key {name}: {e}"));
                    continue;
                }
            };
            let resource = key
                .value()
                .first_chunk()
                .map_or(0, |c| u16::from_be_bytes(*c));
            let expected = if head.deleted { 0 } else { head.row };
            let left = folded.get(&(resource, head.slot));
            let pruned = left.is_none() && head.valid_from <= edge;
            unlogged += u64::from(pruned);
            if !pruned && left != Some(&(expected, head.valid_from)) {
                report.problem(format!("heads: key {name} is not where the log leaves it"));
            }
            let buried = tombstones.get(key.value()).map_err(engine)?.is_some();
            if buried != head.deleted {
                report.problem(format!("tombstones: key {name} and its head do not agree"));
            }
            if !self.readable(head.row, damaged) {
                report.problem(format!(
                    "versions: row {} of key {name} is damaged",
                    head.row
                ));
            }
            if !head.deleted {
                report.records += 1;
                if let Some(count) = live.get_mut(usize::from(resource)) {
                    *count += 1;
                }
            }
        }
        report.tombstones = tombstones.len().map_err(engine)?;
        if live != self.counters.live {
            report.problem(format!(
                "counts: {:?} held, {live:?} found",
                self.counters.live
            ));
        }
        if folded.len() as u64 + unlogged != heads.len().map_err(engine)? {
            report.problem("heads: not as many as the log has records".to_owned());
        }
        Ok(())
    }

    /// Every past version ends where a change of its record stands, and can be read.
    fn check_history(&self, damaged: &HashSet<u64>, report: &mut VerifyReport) -> Result<()> {
        let history = self.txn.open_table(t::HISTORY).map_err(engine)?;
        let by_key = self.txn.open_table(t::CHANGES_BY_KEY).map_err(engine)?;
        for item in history.range::<&[u8]>(..).map_err(engine)? {
            let (key, value) = item.map_err(engine)?;
            let known = by_key.get(key.value()).map_err(engine)?.is_some();
            let readable =
                past(key.value(), value.value()).is_ok_and(|(row, _)| self.readable(row, damaged));
            if !known || !readable {
                let at = t::split_slot_key(key.value());
                report.problem(format!("history: entry {at:?} does not fit the log"));
            }
        }
        Ok(())
    }
}
