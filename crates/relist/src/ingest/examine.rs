//! What a decoded record says of itself, in one pass over its cells.

use crate::decode::{DecodeContext, Decoder, SplitPage};
use crate::diff::Canonical;
use crate::keycode::Key;
use crate::record::{Cell, Tag, natural_type};
use crate::schema::{Field, FieldId, Resource};
use crate::value::{Timestamp, Value};

/// Examines the records of a resource, told cell by cell.
pub(super) struct Examiner<'r> {
    resource: &'r Resource,
    /// Inferred fields that have not shown their type yet.
    untyped: &'r [FieldId],
    /// The field that holds the source time.
    cursor: Option<FieldId>,
    /// By field: one bit for each tag whose cells always show the field's type.
    plain: Vec<u16>,
    canonical: Canonical,
    source_time: Option<Timestamp>,
    odd: Vec<FieldId>,
}

/// What was found.
#[derive(Debug)]
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
        let mut out = Examiner {
            resource,
            untyped,
            cursor,
            plain: Vec::new(),
            canonical: Canonical::default(),
            source_time: None,
            odd: Vec::new(),
        };
        out.plain = resource.fields.iter().map(plain_tags).collect();
        for field in untyped {
            if let Some(tags) = out.plain.get_mut(usize::from(field.0)) {
                *tags = 0;
            }
        }
        out
    }

    /// The record has this cell.
    pub(super) fn add(&mut self, id: FieldId, cell: &[u8]) {
        let Some(field) = self.resource.field(id) else {
            return;
        };
        let Some((&tag, payload)) = cell.split_first() else {
            return;
        };
        let Some(tag) = Tag::from_byte(tag) else {
            return;
        };
        let cell = Cell { tag, payload };
        let plain = self.plain.get(usize::from(id.0)).copied().unwrap_or(0);
        if plain & bit(tag) == 0 && self.is_odd(id, field, cell) {
            self.odd.push(id);
        }
        self.canonical.add(id, cell, &field.ty);
        if Some(id) == self.cursor {
            self.source_time = time_of(cell, field);
        }
    }

    /// What the cells added show together; the next one is another record's.
    pub(super) fn take(&mut self) -> Examined {
        Examined {
            canonical: self.canonical.hash(),
            source_time: self.source_time.take(),
            odd: std::mem::take(&mut self.odd),
        }
    }

    fn is_odd(&self, id: FieldId, field: &Field, cell: Cell<'_>) -> bool {
        if field.declared {
            return !cell.fits(&field.ty);
        }
        natural_type(cell).is_some_and(|ty| ty != field.ty || self.untyped.contains(&id))
    }
}

fn bit(tag: Tag) -> u16 {
    1 << (tag as u8)
}

/// The tags whose cells always show a field's type.
fn plain_tags(field: &Field) -> u16 {
    let shows = |tag: Tag| {
        if field.declared {
            return tag.fits(&field.ty);
        }
        // What has a value; a string or list without one shows no type, which is not odd either.
        let some = Cell { tag, payload: &[1] };
        natural_type(some).is_none_or(|ty| ty == field.ty)
    };
    let tags = (0..=u8::MAX).map_while(Tag::from_byte);
    tags.filter(|tag| shows(*tag))
        .fold(0, |bits, tag| bits | bit(tag))
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
