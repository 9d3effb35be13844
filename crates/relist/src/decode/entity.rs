//! One record's bytes to typed cells.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use super::MAX_DEPTH;
use super::key::KeySpec;
use super::members::{Fault, members};
use crate::keycode::Key;
use crate::record::codec::{Reader, put_bytes, put_u64};
use crate::record::{Cell, RecordBuf, Tag, natural_type, put_number, put_string};
use crate::schema::{FieldId, FieldType, Resource};

/// What decoding a resource's records needs: the resource, and its fields by name.
#[derive(Debug)]
pub(crate) struct DecodeContext<'r> {
    pub(crate) resource: &'r Resource,
    by_name: HashMap<&'r str, FieldId>,
}

impl<'r> DecodeContext<'r> {
    pub(crate) fn new(resource: &'r Resource) -> Self {
        let ids = (0..=u16::MAX).map(FieldId);
        let by_name = resource
            .fields
            .iter()
            .zip(ids)
            .map(|(f, id)| (f.name.as_str(), id))
            .collect();
        DecodeContext { resource, by_name }
    }

    /// The field of that name, trying `guess` first: records of a feed repeat their shape.
    fn find(&self, name: &str, guess: Option<FieldId>) -> Option<FieldId> {
        let hit = |id: &FieldId| self.resource.field(*id).is_some_and(|f| f.name == name);
        guess
            .filter(hit)
            .or_else(|| self.by_name.get(name).copied())
    }
}

/// A decoded entity, not stored: its cells in ascending order of field.
#[derive(Debug, Default)]
pub(crate) struct Entity {
    buffer: Vec<u8>,
    cells: Vec<(FieldId, usize, usize)>,
    /// Fields that the resource does not know yet, with the type they show.
    pub(crate) unknown: Vec<(String, Option<FieldType>)>,
    /// Whether any field was sent as null: then an absent field was withheld, not cleared.
    pub(crate) spells_nulls: bool,
}

impl Entity {
    /// Decodes one record.
    ///
    /// `shape` is the field order of the record before, a guess that makes look-ups cheap; it is
    /// updated. Members whose name has an `@` are control information and are not fields
    /// (OData JSON Format, 4.6).
    ///
    /// # Errors
    /// The field and the reason, when the record must be quarantined.
    pub(crate) fn decode(
        text: &str,
        context: &DecodeContext<'_>,
        key: (&Key, &KeySpec),
        shape: &mut Vec<FieldId>,
    ) -> Result<Entity, Fault> {
        let members = members(text)?;
        let mut entity = Entity {
            buffer: Vec::with_capacity(text.len()),
            ..Entity::default()
        };
        let mut order = Vec::with_capacity(members.len());
        for (position, (name, raw)) in members.iter().enumerate() {
            if name.contains('@') {
                continue;
            }
            let Some(id) = context.find(name, shape.get(position).copied()) else {
                entity.note_unknown(name, raw.get())?;
                continue;
            };
            order.push(id);
            let ty = context
                .resource
                .field(id)
                .filter(|f| f.declared)
                .map(|f| &f.ty);
            let start = entity.buffer.len();
            put_json(&mut entity.buffer, raw.get(), ty)
                .map_err(|reason| (Some(name.to_string()), reason))?;
            entity.spells_nulls |= entity.buffer.get(start) == Some(&(Tag::Null as u8));
            entity.cells.push((id, start, entity.buffer.len()));
        }
        *shape = order;
        entity.put_key(context, key);
        entity.sort(context)?;
        Ok(entity)
    }

    /// The key is a field of the record even when the page gave it only in `@odata.id`.
    fn put_key(&mut self, context: &DecodeContext<'_>, (key, spec): (&Key, &KeySpec)) {
        let Some(id) = context.by_name.get(spec.field.as_str()).copied() else {
            return;
        };
        if self.cells.iter().any(|(field, ..)| *field == id) {
            return;
        }
        let start = self.buffer.len();
        match key {
            Key::Int(value) => put_number(&mut self.buffer, &value.to_string()),
            Key::Str(text) => put_string(&mut self.buffer, text, Some(&FieldType::String)),
        }
        self.cells.push((id, start, self.buffer.len()));
    }

    /// Sorts by field; a field given twice with two values is a fault, with one value is one.
    fn sort(&mut self, context: &DecodeContext<'_>) -> Result<(), Fault> {
        self.cells.sort_by_key(|(id, ..)| *id);
        let twice = self
            .cells
            .array_windows()
            .find(|[a, b]| a.0 == b.0 && self.buffer.get(a.1..a.2) != self.buffer.get(b.1..b.2));
        if let Some([(id, ..), _]) = twice {
            let name = context.resource.field(*id).map(|f| f.name.clone());
            return Err((name, "is given twice, with two values".to_owned()));
        }
        self.cells.dedup_by_key(|(id, ..)| *id);
        Ok(())
    }

    fn note_unknown(&mut self, name: &str, raw: &str) -> Result<(), Fault> {
        let mut scratch = Vec::new();
        put_json(&mut scratch, raw, None).map_err(|reason| (Some(name.to_owned()), reason))?;
        let ty = Cell::read(&mut Reader::new(&scratch)).and_then(natural_type);
        self.unknown.push((name.to_owned(), ty));
        Ok(())
    }

    /// The cells, in ascending order of field.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (FieldId, Cell<'_>)> {
        self.cells.iter().filter_map(|(id, start, end)| {
            let bytes = self.buffer.get(*start..*end)?;
            Some((*id, Cell::read(&mut Reader::new(bytes))?))
        })
    }

    /// The cell of one field.
    pub(crate) fn cell(&self, field: FieldId) -> Option<Cell<'_>> {
        let at = self
            .cells
            .binary_search_by_key(&field, |(id, ..)| *id)
            .ok()?;
        let (_, start, end) = self.cells.get(at)?;
        Cell::read(&mut Reader::new(self.buffer.get(*start..*end)?))
    }

    /// The body to store.
    pub(crate) fn to_body(&self) -> RecordBuf {
        RecordBuf::from_cells(self.cells())
    }
}

/// The key of a record, read without decoding the record.
pub(crate) fn scan_key(text: &str, spec: &KeySpec) -> Result<Key, Fault> {
    let members = members(text)?;
    let find = |name: &str| {
        members
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, raw)| raw.get())
    };
    let fault = |name: &str| {
        let name = name.to_owned();
        move |reason| (Some(name), reason)
    };
    if let Some(raw) = find(&spec.field) {
        let mut all = members.iter().filter(|(n, _)| *n == spec.field);
        if all.any(|(_, other)| other.get() != raw) {
            return Err((
                Some(spec.field.clone()),
                "is given twice, with two values".to_owned(),
            ));
        }
        return spec.read(raw).map_err(fault(&spec.field));
    }
    if let Some((twin, raw)) = spec.twin.as_deref().and_then(|t| Some((t, find(t)?))) {
        return spec.read(raw).map_err(fault(twin));
    }
    match find("@odata.id").and_then(|raw| serde_json::from_str::<String>(raw).ok()) {
        Some(id) => spec.read_id(&id).map_err(fault(&spec.field)),
        None => Err((Some(spec.field.clone()), "the key is missing".to_owned())),
    }
}

/// Appends any JSON value as a cell.
fn put_json(out: &mut Vec<u8>, raw: &str, ty: Option<&FieldType>) -> Result<(), String> {
    match raw.as_bytes().first() {
        Some(b'n') => out.push(Tag::Null as u8),
        Some(b't') => out.push(Tag::True as u8),
        Some(b'f') => out.push(Tag::False as u8),
        Some(b'"') => put_string(out, &unescape(raw)?, ty),
        Some(b'[') => {
            if let Some(items) = string_list(raw) {
                out.push(Tag::StringList as u8);
                put_u64(out, items.len() as u64);
                for item in items {
                    put_bytes(out, item.as_bytes());
                }
                return Ok(());
            }
            put_nested(out, raw)?;
        }
        Some(b'{') => put_nested(out, raw)?,
        _ => put_number(out, raw),
    }
    Ok(())
}

fn unescape(raw: &str) -> Result<Cow<'_, str>, String> {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw)
        .map(Cow::Owned)
        .map_err(|e| format!("is not a JSON string: {e}"))
}

fn string_list(raw: &str) -> Option<Vec<Cow<'_, str>>> {
    let items: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
    items
        .iter()
        .map(|item| {
            item.get()
                .starts_with('"')
                .then(|| unescape(item.get()).ok())
                .flatten()
        })
        .collect()
}

/// Appends nested JSON, without the space that means nothing.
fn put_nested(out: &mut Vec<u8>, raw: &str) -> Result<(), String> {
    let mut text = Vec::with_capacity(raw.len());
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in raw.as_bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else {
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                b'"' => in_string = true,
                b' ' | b'\t' | b'\n' | b'\r' => continue,
                _ => {}
            }
            if depth > MAX_DEPTH {
                return Err(format!("is nested deeper than {MAX_DEPTH}"));
            }
        }
        text.push(byte);
    }
    out.push(Tag::Json as u8);
    put_bytes(out, &text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Field;
    use crate::value::Value;

    fn resource() -> Resource {
        let field = |name: &str, ty| Field {
            name: name.into(),
            ty,
            declared: true,
        };
        Resource {
            name: "Property".into(),
            key_field: "ListingKeyNumeric".into(),
            declared: true,
            fields: vec![
                field("ListPrice", FieldType::Decimal),
                field("ListingKeyNumeric", FieldType::Int),
                field("City", FieldType::String),
            ],
            navigation: vec![],
        }
    }

    fn decode(text: &str) -> Result<Entity, Fault> {
        let resource = resource();
        let spec = KeySpec::of(&resource);
        let context = DecodeContext::new(&resource);
        let key = scan_key(text, &spec)?;
        Entity::decode(text, &context, (&key, &spec), &mut Vec::new())
    }

    #[test]
    fn fields_are_typed_and_sorted() {
        let entity = decode(
            r#"{"@odata.id":"x","City":"Orem","ListingKeyNumeric":7,"ListPrice":2950000.0,
                "New":{"a": [1, "b c"]}}"#,
        )
        .unwrap();
        let ids: Vec<u16> = entity.cells().map(|(id, _)| id.0).collect();
        assert_eq!(ids, [0, 1, 2]);
        assert_eq!(entity.cell(FieldId(0)).unwrap().to_json(), "2950000.0");
        assert_eq!(entity.cell(FieldId(2)).unwrap().value(), Value::str("Orem"));
        assert_eq!(entity.unknown, [("New".to_owned(), Some(FieldType::Json))]);
    }

    #[test]
    fn the_key_comes_from_its_twin_or_the_id() {
        for text in [
            r#"{"ListingKey":"543141","ListPrice":1}"#,
            r#"{"@odata.id":"Property(543141)","ListPrice":1}"#,
        ] {
            let entity = decode(text).unwrap();
            assert_eq!(
                entity.cell(FieldId(1)).unwrap().value(),
                Value::Int(543_141)
            );
        }
    }

    #[test]
    fn faults_name_the_field() {
        let deep = format!(
            r#"{{"ListingKeyNumeric":1,"City":{}{}}}"#,
            "[".repeat(200),
            "]".repeat(200)
        );
        let cases = [
            ("7", None, "is a number, expected an object"),
            (
                r#"{"ListPrice":1}"#,
                Some("ListingKeyNumeric"),
                "the key is missing",
            ),
            (
                r#"{"ListingKeyNumeric":1,"City":"a","City":"b"}"#,
                Some("City"),
                "is given twice",
            ),
            (deep.as_str(), Some("City"), "is nested deeper than 128"),
            (
                r#"{"ListingKeyNumeric":1,"City":"\ud800"}"#,
                Some("City"),
                "is not a JSON string",
            ),
        ];
        for (text, field, reason) in cases {
            let fault = decode(text).unwrap_err();
            assert_eq!(fault.0.as_deref(), field, "{fault:?}");
            assert!(fault.1.contains(reason), "{fault:?}");
        }
        assert!(decode(r#"{"ListingKeyNumeric":1,"City":"a","City":"a"}"#).is_ok());
    }
}
