//! Changes of a few fields, from the log by field: nothing else is read.

use super::changes::{
    CHANGED_FIELD, NEW, OBSERVED, OPERATION, PREVIOUS, RESOURCE, SEQUENCE, STAMP,
};
use crate::error::Result;
use crate::odata::{Conjunct, Predicate, Row};
use crate::record::Cell;
use crate::record::codec::Reader;
use crate::schema::{Field, FieldId, Resource};
use crate::store::{Operation, Snapshot};
use crate::value::{Timestamp, Value};

/// The most fields whose logs are merged; of more, the whole log is read.
const MOST_FIELDS: usize = 16;

/// Fields of chosen resources, each by its place in the schema.
pub(super) type Places = Vec<(usize, usize)>;

/// The members of a change that the log by field has.
const KNOWN: [FieldId; 8] = [
    SEQUENCE,
    RESOURCE,
    OPERATION,
    CHANGED_FIELD,
    PREVIOUS,
    NEW,
    STAMP,
    OBSERVED,
];

/// Whether the log by field has all of these members.
pub(super) fn knows(fields: &[FieldId]) -> bool {
    fields.iter().all(|field| KNOWN.contains(field))
}

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

/// One field's change, as the log by field has it.
#[derive(Debug)]
pub(super) struct EventRow<'e> {
    pub(super) sequence: u64,
    resource: &'e Resource,
    field: &'e Field,
    operation: Operation,
    source_time: Option<Timestamp>,
    observed: Timestamp,
    previous: &'e [u8],
    new: &'e [u8],
}

impl EventRow<'_> {
    fn typed<'c>(&self, bytes: &'c [u8]) -> Option<Value<'c>> {
        let cell = Cell::read(&mut Reader::new(bytes))?;
        Some(cell.value_as(&self.field.ty))
    }
}

impl Row for EventRow<'_> {
    fn value(&self, field: FieldId) -> Option<Value<'_>> {
        let time = |at: Timestamp| Value::DateTime(at.to_datetime());
        Some(match field {
            SEQUENCE => Value::Int(i64::try_from(self.sequence).unwrap_or(i64::MAX)),
            RESOURCE => Value::str(&self.resource.name),
            OPERATION => Value::str(self.operation.name()),
            CHANGED_FIELD => Value::str(&self.field.name),
            PREVIOUS => self.typed(self.previous)?,
            NEW => self.typed(self.new)?,
            STAMP => time(self.source_time?),
            OBSERVED => time(self.observed),
            _ => return None,
        })
    }
}

impl Snapshot {
    /// Calls `visit` with the changes of these fields from after the first sequence up to the
    /// second, a field after the other; with those only that the predicate may let through. Gives
    /// how many it looked at.
    pub(super) fn each_event(
        &self,
        places: &Places,
        (since, until): (u64, u64),
        predicate: &Predicate,
        visit: &mut dyn FnMut(&EventRow<'_>, FieldId) -> Result<()>,
    ) -> Result<u64> {
        // An edge that was pruned is an error, never a gap.
        drop(self.changes(since)?);
        let whole = knows(predicate.fields());
        let conjuncts = predicate.conjuncts();
        let passes = |row: &EventRow<'_>| {
            if whole {
                return predicate.matches(row);
            }
            let mut known = conjuncts.iter().filter(|c| knows(&[c.field]));
            known.all(|c| c.accepts(&row.value(c.field).unwrap_or(Value::Null)))
        };
        let mut examined = 0;
        for (r, f) in places {
            let Some(resource) = self.schema().resources.get(*r) else {
                continue;
            };
            let (Some(field), Ok(resource_id), Ok(id)) = (
                resource.fields.get(*f),
                u16::try_from(*r),
                u16::try_from(*f),
            ) else {
                continue;
            };
            self.field_events(resource_id, id, since, |event| {
                // How a value is written is no change.
                if event.sequence > until || !event.value_changed {
                    return Ok(());
                }
                examined += 1;
                let row = EventRow {
                    sequence: event.sequence,
                    resource,
                    field,
                    operation: event.operation,
                    source_time: event.source_time,
                    observed: event.observed,
                    previous: event.previous,
                    new: event.new,
                };
                if passes(&row) {
                    visit(&row, FieldId(id))?;
                }
                Ok(())
            })?;
        }
        Ok(examined)
    }
}
