//! Changes of a few fields, from the log by field: nothing else is read.

use super::changes::{CHANGED_FIELD, ChangeRow, KEY, RESOURCE};
use super::table::KeyColumn;
use crate::column::on_all_cores;
use crate::error::Result;
use crate::odata::{Conjunct, Predicate, Row as _};
use crate::schema::{Field, FieldId, Resource};
use crate::store::{EventRef, Operation, Origin, Snapshot, each_event, ends_early};
use crate::value::{Timestamp, Value};

/// The most fields whose logs are merged; of more, the whole log is read.
const MOST_FIELDS: usize = 16;

/// Fields of chosen resources, each by its place in the schema.
pub(super) type Places = Vec<(usize, usize)>;

/// Chunks of the log that are read before their events are asked about, at first and at most.
const CHUNKS: (usize, usize) = (4, 64);

/// The fields that the conditions on `FieldName` and `ResourceName` leave, when they are few.
pub(super) fn places(snapshot: &Snapshot, conjuncts: &[Conjunct<'_>]) -> Option<Places> {
    let of = |id: FieldId| conjuncts.iter().filter(move |c| c.field == id);
    // A row without a field must not pass, nor is there any use without a condition.
    if of(CHANGED_FIELD).all(|c| c.accepts(&Value::Null)) {
        return None;
    }
    let mut places = Vec::new();
    for (r, resource) in snapshot.schema().resources.iter().enumerate() {
        if !of(RESOURCE).all(|c| c.accepts(&Value::str(&resource.name))) {
            continue;
        }
        for (f, field) in resource.fields.iter().enumerate() {
            if of(CHANGED_FIELD).all(|c| c.accepts(&Value::str(&field.name))) {
                if places.len() == MOST_FIELDS {
                    return None;
                }
                places.push((r, f));
            }
        }
    }
    Some(places)
}

/// An event that passed, its cells among those of its chunk.
struct Passed {
    sequence: u64,
    slot: u32,
    operation: Operation,
    source_time: Option<Timestamp>,
    origin: Origin,
    /// From where to where the previous value is, and to where the new one.
    cells: [usize; 3],
}

impl Passed {
    fn event<'c>(&self, cells: &'c [u8]) -> EventRef<'c> {
        let [start, middle, end] = self.cells;
        EventRef {
            sequence: self.sequence,
            slot: self.slot,
            operation: self.operation,
            value_changed: true,
            source_time: self.source_time,
            origin: self.origin,
            previous: cells.get(start..middle).unwrap_or_default(),
            new: cells.get(middle..end).unwrap_or_default(),
        }
    }
}

/// What passed of a chunk.
#[derive(Default)]
struct Found {
    events: Vec<Passed>,
    cells: Vec<u8>,
    examined: u64,
}

impl Found {
    fn keep(&mut self, event: &EventRef<'_>) {
        let start = self.cells.len();
        self.cells.extend_from_slice(event.previous);
        let middle = self.cells.len();
        self.cells.extend_from_slice(event.new);
        self.events.push(Passed {
            sequence: event.sequence,
            slot: event.slot,
            operation: event.operation,
            source_time: event.source_time,
            origin: event.origin,
            cells: [start, middle, self.cells.len()],
        });
    }
}

/// One field whose log is read.
struct Log<'s> {
    resource: &'s Resource,
    field: &'s Field,
    resource_id: u16,
    id: FieldId,
    /// The condition without what all rows of the field meet; `None` when none of it is left.
    rest: Option<Predicate>,
    /// Whether the condition asks nothing of the key.
    without_key: bool,
    keys: Option<KeyColumn>,
}

impl Log<'_> {
    fn row<'r>(&'r self, event: &EventRef<'r>) -> ChangeRow<'r> {
        ChangeRow {
            sequence: event.sequence,
            resource: &self.resource.name,
            key: None,
            operation: event.operation,
            cause: event.origin.cause,
            run: event.origin.run,
            source_time: event.source_time,
            observed: event.origin.observed,
            field: Some(&self.field.name),
            note: "",
            id: Some(self.id),
            ty: Some(&self.field.ty),
            previous: event.previous,
            new: event.new,
        }
    }

    /// Whether an event may pass: the whole condition, but for what is asked of the key.
    fn may_pass(&self, event: &EventRef<'_>, conjuncts: &[Conjunct<'_>]) -> bool {
        let Some(rest) = &self.rest else {
            return true;
        };
        let row = self.row(event);
        if self.without_key {
            return rest.matches(&row);
        }
        let mut known = conjuncts.iter().filter(|c| c.field != KEY);
        known.all(|c| c.accepts(&row.value(c.field).unwrap_or(Value::Null)))
    }

    /// What may pass of a chunk.
    fn found(&self, bytes: &[u8], (since, until): (u64, u64)) -> Result<Found> {
        let conjuncts = match &self.rest {
            Some(rest) if !self.without_key => rest.conjuncts(),
            _ => Vec::new(),
        };
        let mut found = Found::default();
        each_event(bytes, since, &mut |event| {
            // How a value is written is no change.
            if event.sequence <= until && event.value_changed {
                found.examined += 1;
                if self.may_pass(&event, &conjuncts) {
                    found.keep(&event);
                }
            }
            Ok(())
        })
        .ok_or_else(ends_early)??;
        Ok(found)
    }
}

/// Told of each row; says whether to go on.
type Told<'t> = dyn FnMut(&ChangeRow<'_>) -> Result<bool> + 't;

impl Snapshot {
    /// Calls `visit` with the changes of these fields from after the first sequence up to the
    /// second that pass, in the order of the changelog; with the key only if it is needed. Gives
    /// how many it looked at.
    pub(super) fn each_event(
        &self,
        places: &Places,
        range: (u64, u64),
        predicate: &Predicate,
        needs_key: bool,
        visit: &mut Told<'_>,
    ) -> Result<u64> {
        // An edge that was pruned is an error, never a gap.
        drop(self.changes(range.0)?);
        let mut examined = 0;
        if let [place] = places.as_slice() {
            let Some(log) = self.log(*place, predicate, needs_key)? else {
                return Ok(0);
            };
            self.read_log(&log, range, &mut |found| {
                examined += found.examined;
                for event in &found.events {
                    if !log.tell(event, &found.cells, visit)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            })?;
            return Ok(examined);
        }
        let mut logs = Vec::new();
        let mut chunks: Vec<(usize, Found)> = Vec::new();
        for place in places {
            let Some(log) = self.log(*place, predicate, needs_key)? else {
                continue;
            };
            self.read_log(&log, range, &mut |found| {
                examined += found.examined;
                if !found.events.is_empty() {
                    chunks.push((logs.len(), found));
                }
                Ok(true)
            })?;
            logs.push(log);
        }
        let mut order: Vec<(u64, usize, usize, usize)> = Vec::new();
        for (chunk, (log, found)) in chunks.iter().enumerate() {
            let events = found.events.iter().enumerate();
            order.extend(events.map(|(at, event)| (event.sequence, *log, chunk, at)));
        }
        order.sort_unstable();
        for (_, log, chunk, at) in order {
            let (Some(log), Some((_, found))) = (logs.get(log), chunks.get(chunk)) else {
                continue;
            };
            if let Some(event) = found.events.get(at)
                && !log.tell(event, &found.cells, visit)?
            {
                break;
            }
        }
        Ok(examined)
    }

    fn log(
        &self,
        (r, f): (usize, usize),
        predicate: &Predicate,
        needs_key: bool,
    ) -> Result<Option<Log<'_>>> {
        let Some(resource) = self.schema().resources.get(r) else {
            return Ok(None);
        };
        let (Some(field), Ok(resource_id), Ok(id)) =
            (resource.fields.get(f), u16::try_from(r), u16::try_from(f))
        else {
            return Ok(None);
        };
        let rest = predicate.without(&[CHANGED_FIELD, RESOURCE]);
        let asks_key = rest.as_ref().is_some_and(|p| p.fields().contains(&KEY));
        let keys = if needs_key || asks_key {
            Some(KeyColumn::new(self, resource_id, resource)?)
        } else {
            None
        };
        Ok(Some(Log {
            resource,
            field,
            resource_id,
            id: FieldId(id),
            rest,
            without_key: !asks_key,
            keys,
        }))
    }

    /// Reads a log a few chunks at a time, and decides on all cores what may pass.
    fn read_log(
        &self,
        log: &Log<'_>,
        range: (u64, u64),
        take: &mut dyn FnMut(Found) -> Result<bool>,
    ) -> Result<()> {
        let (mut most, limit) = CHUNKS;
        let mut waiting: Vec<Vec<u8>> = Vec::new();
        let mut more = true;
        let mut decide = |waiting: &mut Vec<Vec<u8>>| -> Result<bool> {
            let chunks = std::mem::take(waiting);
            for found in on_all_cores(chunks, |bytes| log.found(&bytes, range)) {
                if !take(found?)? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        self.event_chunks(log.resource_id, log.id.0, range.0, |bytes| {
            waiting.push(bytes.to_vec());
            if waiting.len() >= most {
                most = (most * 2).min(limit);
                more = decide(&mut waiting)?;
            }
            Ok(more)
        })?;
        if more {
            decide(&mut waiting)?;
        }
        Ok(())
    }
}

impl Log<'_> {
    /// Tells of a row that may pass, with its key if that is needed; says whether to go on.
    fn tell(&self, event: &Passed, cells: &[u8], visit: &mut Told<'_>) -> Result<bool> {
        let mut row = self.row(&event.event(cells));
        let key = match &self.keys {
            Some(keys) => Some(keys.key(event.slot)?),
            None => None,
        };
        row.key = key.as_ref();
        if !self.without_key && !self.rest.as_ref().is_none_or(|p| p.matches(&row)) {
            return Ok(true);
        }
        visit(&row)
    }
}
