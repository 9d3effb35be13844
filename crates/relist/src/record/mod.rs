//! Records: the stored form of an entity, field by field.
//!
//! A record body is one format byte, then for each field that is present, in ascending
//! [`FieldId`]: the distance to the previous id as a varint (the first counts from 0), a tag and a
//! payload ([`Cell`]). Absent fields take no room. One field is read without decoding the rest.

pub(crate) mod codec;
mod cell;

pub use cell::Cell;
pub(crate) use cell::{Tag, put_instant, put_integer, put_number, put_string, split_members};

use crate::odata::Row;
use crate::schema::{FieldId, FieldType, Resource};
use crate::value::Value;
use codec::{Reader, put_u64};

/// The first byte of every body.
const BODY_FORMAT: u8 = 1;

/// A record body in a buffer of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RecordBuf(pub(crate) Vec<u8>);

impl RecordBuf {
    /// Builds a body from cells in ascending order of field.
    pub(crate) fn from_cells<'a>(cells: impl Iterator<Item = (FieldId, Cell<'a>)>) -> Self {
        let mut out = vec![BODY_FORMAT];
        let mut previous = 0;
        for (field, cell) in cells {
            put_u64(&mut out, u64::from(field.0.wrapping_sub(previous)));
            previous = field.0;
            cell.write(&mut out);
        }
        RecordBuf(out)
    }

    /// Begins the cell of a field behind that of `previous` (0 for the first); whoever asks appends
    /// the cell itself. Where the body was before is returned, to take it back.
    pub(crate) fn open_cell(&mut self, field: FieldId, previous: u16) -> usize {
        let start = self.0.len();
        put_u64(&mut self.0, u64::from(field.0.wrapping_sub(previous)));
        start
    }

    /// Begins a body of about so many bytes.
    pub(crate) fn begin(capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity + 1);
        out.push(BODY_FORMAT);
        RecordBuf(out)
    }

    /// Appends an encoded cell, whose field is so far behind the one before; tells its place.
    pub(crate) fn push(&mut self, step: u16, cell: &[u8]) -> usize {
        put_u64(&mut self.0, u64::from(step));
        let at = self.0.len();
        self.0.extend_from_slice(cell);
        at
    }

    pub(crate) fn as_body(&self) -> Body<'_> {
        Body { bytes: &self.0 }
    }
}

/// A record body, borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body<'a> {
    bytes: &'a [u8],
}

impl<'a> Body<'a> {
    /// Takes bytes that came from the store; `None` when their format is not known.
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        (bytes.first() == Some(&BODY_FORMAT)).then_some(Body { bytes })
    }

    /// The cells, in ascending order of field.
    pub(crate) fn cells(self) -> Cells<'a> {
        Cells {
            reader: Reader::new(self.bytes.get(1..).unwrap_or_default()),
            previous: 0,
        }
    }

    /// The cells as they are encoded, tag and payload, in ascending order of field.
    pub(crate) fn encoded(self) -> impl Iterator<Item = (FieldId, &'a [u8])> {
        let mut cells = self.cells();
        std::iter::from_fn(move || {
            let (field, cell) = cells.next()?;
            let end = cells.reader.position();
            let bytes = cells.reader.slice(end - cell.payload.len() - 1, end)?;
            Some((field, bytes))
        })
    }

    /// The fields whose cells are not the same bytes here and there, ascending, and both cells:
    /// empty where the field is absent.
    pub(crate) fn differing(self, other: Body<'a>) -> Vec<(FieldId, &'a [u8], &'a [u8])> {
        let (mut own, mut others) = (self.encoded().peekable(), other.encoded().peekable());
        let mut out = Vec::new();
        loop {
            let field = match (own.peek(), others.peek()) {
                (None, None) => return out,
                (Some((a, _)), Some((b, _))) => *a.min(b),
                (Some((a, _)), None) => *a,
                (None, Some((b, _))) => *b,
            };
            let here = own.next_if(|(id, _)| *id == field);
            let there = others.next_if(|(id, _)| *id == field);
            if here != there {
                let cell = |found: Option<(FieldId, &'a [u8])>| found.map_or(&[][..], |f| f.1);
                out.push((field, cell(here), cell(there)));
            }
        }
    }

    /// The cell of one field.
    pub(crate) fn cell(self, field: FieldId) -> Option<Cell<'a>> {
        for (id, cell) in self.cells() {
            if id >= field {
                return (id == field).then_some(cell);
            }
        }
        None
    }
}

/// Iterates over the cells of a body.
#[derive(Debug, Clone)]
pub(crate) struct Cells<'a> {
    reader: Reader<'a>,
    previous: u16,
}

impl<'a> Iterator for Cells<'a> {
    type Item = (FieldId, Cell<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.next_field()?;
        Some((field, Cell::read(&mut self.reader)?))
    }
}

impl Cells<'_> {
    /// The field of the next cell, which the reader is then at.
    #[inline]
    fn next_field(&mut self) -> Option<FieldId> {
        if self.reader.is_empty() {
            return None;
        }
        let step = u16::try_from(self.reader.u64()?).ok()?;
        self.previous = self.previous.checked_add(step)?;
        Some(FieldId(self.previous))
    }
}

/// A stored record: what a resource's entity was at one time.
#[derive(Debug, Clone)]
pub struct Record {
    resource: std::sync::Arc<Resource>,
    body: RecordBuf,
}

impl Record {
    pub(crate) fn new(resource: std::sync::Arc<Resource>, body: RecordBuf) -> Self {
        Record { resource, body }
    }

    /// The resource it is a record of.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// The fields that are present, in the order of the schema.
    pub fn cells(&self) -> impl Iterator<Item = (FieldId, Cell<'_>)> {
        self.body.as_body().cells()
    }

    /// One field as it is stored; `None` when it is absent.
    pub fn cell(&self, field: FieldId) -> Option<Cell<'_>> {
        self.body.as_body().cell(field)
    }

    /// One field, by name, as its declared type; `None` when it is absent.
    pub fn get(&self, name: &str) -> Option<Value<'_>> {
        Row::value(self, self.resource.field_id(name)?)
    }

    /// The record as a JSON object, fields as they were written by the feed.
    ///
    /// With `select`, only those fields, in that order; an absent one is left out.
    pub fn to_json(&self, select: Option<&[FieldId]>) -> String {
        let mut out = String::with_capacity(self.body.0.len() * 3);
        self.write_json(select, &mut out);
        out
    }

    /// Appends what [`to_json`](Record::to_json) gives.
    pub fn write_json(&self, select: Option<&[FieldId]>, out: &mut String) {
        out.push('{');
        let start = out.len();
        match select {
            None => self.write_cells(out),
            Some(fields) => {
                for &field in fields {
                    if let Some(cell) = self.cell(field)
                        && self.write_name(field, start, out)
                    {
                        cell.write_json(out);
                    }
                }
            }
        }
        out.push('}');
    }

    /// Appends all fields.
    fn write_cells(&self, out: &mut String) {
        let start = out.len();
        let mut cells = self.body.as_body().cells();
        while let Some(field) = cells.next_field() {
            if self.write_name(field, start, out) {
                if Cell::write_next(&mut cells.reader, out).is_none() {
                    // No stored body is so: each has its checksum.
                    out.push_str("null");
                    return;
                }
            } else if Cell::read(&mut cells.reader).is_none() {
                return;
            }
        }
    }

    /// Appends a field's name, and a comma where another field stands before it; says whether
    /// there is such a field.
    fn write_name(&self, field: FieldId, start: usize, out: &mut String) -> bool {
        let Some(def) = self.resource.field(field) else {
            return false;
        };
        if out.len() > start {
            out.push(',');
        }
        let _ = crate::value::write_json_string(out, &def.name);
        out.push(':');
        true
    }
}

impl Row for Record {
    fn value(&self, field: FieldId) -> Option<Value<'_>> {
        let cell = self.cell(field)?;
        Some(
            self.resource
                .field(field)
                .map_or_else(|| cell.value(), |f| cell.value_as(&f.ty)),
        )
    }
}

/// The type a cell shows of itself, for fields that no `$metadata` declared; `None` when it shows
/// none (null, an empty string or list).
pub(crate) fn natural_type(cell: Cell<'_>) -> Option<FieldType> {
    Some(match cell.tag {
        Tag::Null => return None,
        Tag::String | Tag::StringList if cell.payload == [0] => return None,
        Tag::False | Tag::True => FieldType::Bool,
        Tag::Int => FieldType::Int,
        Tag::Decimal | Tag::NumberText => FieldType::Decimal,
        Tag::Date => FieldType::Date,
        Tag::DateTime => FieldType::DateTime,
        Tag::TimeOfDay => FieldType::TimeOfDay,
        Tag::Guid => FieldType::Guid,
        Tag::String => FieldType::String,
        Tag::StringList => FieldType::StringList,
        Tag::Json => FieldType::Json,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_by_field() {
        let mut one = Vec::new();
        put_number(&mut one, "1");
        let mut text = Vec::new();
        put_string(&mut text, "x", Some(&FieldType::String));
        let cell = |bytes: &'static [u8]| Cell::read(&mut Reader::new(bytes)).unwrap();
        let (one, text) = (cell(one.leak()), cell(text.leak()));
        let body = RecordBuf::from_cells([(FieldId(0), one), (FieldId(300), text)].into_iter());
        assert_eq!(
            body.as_body().cell(FieldId(300)).unwrap().value(),
            Value::str("x")
        );
        assert_eq!(
            body.as_body().cell(FieldId(0)).unwrap().value(),
            Value::Int(1)
        );
        assert!(body.as_body().cell(FieldId(5)).is_none());
        assert_eq!(body.as_body().cells().count(), 2);
    }
}
