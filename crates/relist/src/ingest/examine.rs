//! What a decoded record says of itself, in one pass over its cells.

use crate::decode::{DecodeContext, Decoder, SplitPage};
use crate::diff::Canonical;
use crate::keycode::Key;
use crate::record::{Body, Cell, natural_type};
use crate::schema::{Field, FieldId, Resource};
use crate::value::{Timestamp, Value};

/// Examines the records of a resource.
pub(super) struct Examiner<'r> {
    resource: &'r Resource,
    /// Inferred fields that have not shown their type yet.
    untyped: &'r [FieldId],
    /// The field that holds the source time.
    cursor: Option<FieldId>,
    canonical: Canonical,
}

/// What was found.
pub(super) struct Examined {
    /// The hash of what the record says.
    pub(super) canonical: u128,
    pub(super) source_time: Option<Timestamp>,
    /// Fields whose cells do not show the type that the field has.
    pub(super) odd: Vec<FieldId>,
}

impl<'r> Examiner<'r> {
    pub(super) fn new(
        resource: &'r Resource,
        untyped: &'r [FieldId],
        cursor: Option<FieldId>,
    ) -> Self {
        Examiner {
            resource,
            untyped,
            cursor,
            canonical: Canonical::default(),
        }
    }

    pub(super) fn examine(&mut self, body: Body<'_>) -> Examined {
        let mut odd = Vec::new();
        let mut source_time = None;
        for (id, cell) in body.cells() {
            let Some(field) = self.resource.field(id) else {
                continue;
            };
            if self.is_odd(id, field, cell) {
                odd.push(id);
            }
            self.canonical.add(id, cell, &field.ty);
            if Some(id) == self.cursor {
                source_time = time_of(cell, field);
            }
        }
        Examined {
            canonical: self.canonical.hash(),
            source_time,
            odd,
        }
    }

    fn is_odd(&self, id: FieldId, field: &Field, cell: Cell<'_>) -> bool {
        if field.declared {
            return !cell.fits(&field.ty);
        }
        natural_type(cell).is_some_and(|ty| ty != field.ty || self.untyped.contains(&id))
    }
}

fn time_of(cell: Cell<'_>, field: &Field) -> Option<Timestamp> {
    match cell.value_as(&field.ty) {
        Value::DateTime(at) => at.to_timestamp(),
        Value::Date(day) => day.midnight().to_timestamp(),
        _ => None,
    }
}

/// The keys of a page and the stamps of their records, as far as both can be read.
pub(super) fn stamps<'p>(
    page: &'p SplitPage,
    resource: &Resource,
    cursor_field: Option<&str>,
) -> Vec<(&'p Key, Option<Timestamp>)> {
    let context = DecodeContext::new(resource);
    let mut decoder = Decoder::new(&context);
    let cursor = cursor_field.and_then(|name| resource.field_id(name));
    let cursor = cursor.and_then(|id| Some((id, resource.field(id)?)));
    let keyed = page
        .entities
        .iter()
        .filter_map(|raw| Some((raw, raw.key.as_ref().ok()?)));
    let stamped = keyed.map(|(raw, key)| {
        let stamp = cursor.and_then(|(id, field)| {
            let key = (key, page.key_spec.as_ref());
            let entity = decoder.decode(page.text(raw), key).ok()?;
            time_of(entity.body.as_body().cell(id)?, field)
        });
        (key, stamp)
    });
    stamped.collect()
}
