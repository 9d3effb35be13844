//! Changes of one field, read from the changes by field: a question about prices reads prices.

use super::changes::{KEY, RUN_FIELDS};
use crate::error::Result;
use crate::odata::{Conjunct, Predicate, Row};
use crate::record::Cell;
use crate::record::codec::Reader;
use crate::schema::{FieldId, FieldType};
use crate::store::{EventRef, Snapshot};
use crate::value::{Timestamp, Value};

/// One field of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OneField {
    pub(super) resource: u16,
    pub(super) field: FieldId,
    resource_name: String,
    name: String,
    ty: FieldType,
}

/// A change of that field, as the evaluator reads it.
pub(super) struct EventRow<'e> {
    of: &'e OneField,
    event: EventRef<'e>,
}

impl Row for EventRow<'_> {
    fn value(&self, field: FieldId) -> Option<Value<'_>> {
        let time = |at: Timestamp| Value::DateTime(at.to_datetime());
        let cell = |bytes| Some(Cell::read(&mut Reader::new(bytes))?.value_as(&self.of.ty));
        match field.0 {
            0 => Some(Value::Int(
                i64::try_from(self.event.sequence).unwrap_or(i64::MAX),
            )),
            1 => Some(Value::str(&self.of.resource_name)),
            3 => Some(Value::str(self.event.operation.name())),
            4 => Some(Value::str(&self.of.name)),
            5 => cell(self.event.previous),
            6 => cell(self.event.new),
            7 => self.event.source_time.map(time),
            8 => Some(time(self.event.observed)),
            _ => None,
        }
    }
}

/// Whether a change by field says all that is read.
pub(super) fn covers(mut fields: impl Iterator<Item = FieldId>) -> bool {
    fields.all(|field| field != KEY && !RUN_FIELDS.contains(&field))
}

impl Snapshot {
    /// The one field whose changes the conditions let through, if it is one.
    pub(super) fn one_field(&self, conjuncts: &[Conjunct<'_>]) -> Option<OneField> {
        let about = |id: u16| conjuncts.iter().filter(move |c| c.field.0 == id);
        about(4).next()?;
        let mut found = None;
        for (id, resource) in self.schema().resources.iter().enumerate() {
            let id = u16::try_from(id).ok()?;
            let named = Value::str(&resource.name);
            if self.slots(id) == 0 || !about(1).all(|c| c.accepts(&named)) {
                continue;
            }
            for (place, field) in resource.fields.iter().enumerate() {
                if !about(4).all(|c| c.accepts(&Value::str(&field.name))) {
                    continue;
                }
                let one = OneField {
                    resource: id,
                    field: FieldId(u16::try_from(place).ok()?),
                    resource_name: resource.name.clone(),
                    name: field.name.clone(),
                    ty: field.ty.clone(),
                };
                if found.replace(one).is_some() {
                    return None;
                }
            }
        }
        // Changes of whole records, and of the schema, have no field.
        found.filter(|_| about(4).all(|c| !c.accepts(&Value::Null)))
    }

    /// Visits the changes of a field that pass, in a range of sequences; gives how many were asked.
    pub(super) fn each_event(
        &self,
        of: &OneField,
        (since, until): (u64, u64),
        predicate: Option<&Predicate>,
        visit: &mut dyn FnMut(&EventRow<'_>) -> Result<()>,
    ) -> Result<u64> {
        let mut examined = 0;
        self.field_events(of.resource, of.field.0, since, |event| {
            if event.value_changed && event.sequence <= until {
                examined += 1;
                let row = EventRow { of, event };
                if predicate.is_none_or(|p| p.matches(&row)) {
                    visit(&row)?;
                }
            }
            Ok(())
        })?;
        Ok(examined)
    }

    /// The sequences of the changes of a field that pass, in order.
    pub(super) fn passing_events(
        &self,
        of: &OneField,
        range: (u64, u64),
        predicate: Option<&Predicate>,
    ) -> Result<(Vec<u64>, u64)> {
        let mut out = Vec::new();
        let examined = self.each_event(of, range, predicate, &mut |row| {
            out.push(row.event.sequence);
            Ok(())
        })?;
        Ok((out, examined))
    }
}
