//! Diff: what really changed between a stored record and a decoded entity. Pure.
//!
//! Two cells are the same when their *canonical forms* are: the declared type's value, whatever
//! the lexeme (`1` and `1.0`, an instant in any offset, a lookup list as a string or an array).
//! Null and absent are the same: neither says anything. The canonical hash is the hash of all
//! canonical forms, so records with one hash are records without a change.

use crate::record::codec::{Reader, put_bytes, put_i64, put_signed, put_u64};
use crate::record::{Body, Cell, Tag, split_members};
use crate::schema::{FieldId, FieldType, Resource};
use crate::value::Value;

/// One field's change; each side is an encoded cell, `None` when absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldDiff {
    pub(crate) field: FieldId,
    pub(crate) previous: Option<Vec<u8>>,
    pub(crate) new: Option<Vec<u8>>,
}

impl FieldDiff {
    fn new(field: FieldId, previous: Option<Cell<'_>>, new: Option<Cell<'_>>) -> Self {
        let bytes = |cell: Cell<'_>| {
            let mut out = Vec::with_capacity(cell.payload.len() + 1);
            cell.write(&mut out);
            out
        };
        FieldDiff {
            field,
            previous: previous.map(bytes),
            new: new.map(bytes),
        }
    }
}

/// How an entity differs from the record before it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Diff {
    /// Fields with another value, in ascending order of field.
    pub(crate) changes: Vec<FieldDiff>,
    /// Fields that had a value and are not sent any more: what that means is decided over the
    /// whole batch, see [`Diff::clear`].
    pub(crate) vanished: Vec<FieldId>,
}

impl Diff {
    /// Compares a stored record with what the feed says now.
    pub(crate) fn between(previous: Body<'_>, entity: Body<'_>, resource: &Resource) -> Diff {
        let mut out = Diff::default();
        let mut old = previous.cells().peekable();
        let mut new = entity.cells().peekable();
        let mut scratch = (Vec::new(), Vec::new());
        loop {
            let field = match (old.peek(), new.peek()) {
                (None, None) => return out,
                (Some((a, _)), Some((b, _))) => *a.min(b),
                (Some((a, _)), None) => *a,
                (None, Some((b, _))) => *b,
            };
            let before = old.next_if(|(id, _)| *id == field).map(|(_, cell)| cell);
            let after = new.next_if(|(id, _)| *id == field).map(|(_, cell)| cell);
            let said = |cell: Option<Cell<'_>>| cell.is_some_and(|c| !c.is_null());
            if before == after || (!said(before) && !said(after)) {
                continue;
            }
            if said(before) && after.is_none() {
                out.vanished.push(field);
                continue;
            }
            let ty = resource.field(field).map_or(&FieldType::Json, |f| &f.ty);
            if !same(before, after, ty, &mut scratch) {
                out.changes.push(FieldDiff::new(field, before, after));
            }
        }
    }

    /// Turns a vanished field into a change to absent.
    pub(crate) fn clear(&mut self, field: FieldId, previous: Body<'_>) {
        self.changes
            .push(FieldDiff::new(field, previous.cell(field), None));
        self.changes.sort_by_key(|change| change.field);
    }
}

fn same(
    before: Option<Cell<'_>>,
    after: Option<Cell<'_>>,
    ty: &FieldType,
    (a, b): &mut (Vec<u8>, Vec<u8>),
) -> bool {
    a.clear();
    b.clear();
    for (cell, out) in [(before, &mut *a), (after, &mut *b)] {
        if let Some(cell) = cell {
            canonical(cell, ty, out);
        }
    }
    a == b
}

/// The hash of everything a record says: equal for records without a change between them.
pub(crate) fn canonical_hash<'a>(
    cells: impl Iterator<Item = (FieldId, Cell<'a>)>,
    resource: &Resource,
) -> u128 {
    let mut canonical = Canonical::default();
    for (field, cell) in cells {
        let ty = resource.field(field).map_or(&FieldType::Json, |f| &f.ty);
        canonical.add(field, cell, ty);
    }
    canonical.hash()
}

/// Makes [`canonical_hash`] cell by cell; its buffer can be used again.
#[derive(Debug, Default)]
pub(crate) struct Canonical(Vec<u8>);

impl Canonical {
    pub(crate) fn add(&mut self, field: FieldId, cell: Cell<'_>, ty: &FieldType) {
        if !cell.is_null() {
            self.0.extend_from_slice(&field.0.to_le_bytes());
            canonical(cell, ty, &mut self.0);
        }
    }

    /// The hash of what was added; begins anew.
    pub(crate) fn hash(&mut self) -> u128 {
        let hash = xxhash_rust::xxh3::xxh3_128(&self.0);
        self.0.clear();
        hash
    }
}

/// What stands before the payload in the canonical form, where that is all the difference.
fn as_it_is(tag: Tag, ty: &FieldType) -> Option<&'static [u8]> {
    use FieldType as F;
    Some(match (tag, ty) {
        (Tag::Int, F::Int | F::Decimal) => &[2, 0],
        (Tag::String, F::String | F::Lookup(_)) => &[7],
        (Tag::StringList, F::StringList | F::LookupList(_)) => &[8],
        (Tag::Date, F::Date) => &[3],
        _ => return None,
    })
}

/// Appends a form that is equal for equal values and for no others.
fn canonical(cell: Cell<'_>, ty: &FieldType, out: &mut Vec<u8>) {
    if let Some(head) = as_it_is(cell.tag, ty) {
        out.extend_from_slice(head);
        out.extend_from_slice(cell.payload);
        return;
    }
    if let (Tag::DateTime, FieldType::DateTime, Some((at, ..))) =
        (cell.tag, ty, cell.read_datetime())
    {
        return canonical_value(Value::DateTime(at), out);
    }
    if let (Tag::String, FieldType::StringList | FieldType::LookupList(_), Some(text)) =
        (cell.tag, ty, Reader::new(cell.payload).str())
    {
        out.push(8);
        put_u64(out, split_members(text).count() as u64);
        split_members(text).for_each(|member| put_bytes(out, member.as_bytes()));
        return;
    }
    // A point is compared by its text: GeoJSON may say more than two coordinates.
    let value = if *ty == FieldType::GeoPoint {
        cell.value()
    } else {
        cell.value_as(ty)
    };
    canonical_value(value, out);
}

fn canonical_value(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => {}
        Value::Bool(v) => out.extend_from_slice(&[1, u8::from(v)]),
        Value::Int(v) => {
            out.extend_from_slice(&[2, 0]);
            put_i64(out, v);
        }
        Value::Decimal(v) => {
            let plain = v.normalized();
            out.extend_from_slice(&[2, plain.scale()]);
            put_signed(out, plain.mantissa());
        }
        Value::Date(v) => {
            out.push(3);
            put_i64(out, i64::from(v.0));
        }
        Value::DateTime(v) => {
            out.push(4);
            put_i64(out, v.seconds);
            put_u64(out, u64::from(v.nanos));
        }
        Value::TimeOfDay(v) => {
            out.push(5);
            put_u64(out, v.0);
        }
        Value::Guid(v) => {
            out.push(6);
            out.extend_from_slice(&v);
        }
        Value::String(v) => {
            out.push(7);
            put_bytes(out, v.as_bytes());
        }
        Value::StringList(items) => {
            out.push(8);
            put_u64(out, items.len() as u64);
            for item in items {
                put_bytes(out, item.as_bytes());
            }
        }
        Value::GeoPoint(p) => {
            out.push(9);
            out.extend_from_slice(&p.longitude.to_le_bytes());
            out.extend_from_slice(&p.latitude.to_le_bytes());
        }
        Value::Json(v) => {
            out.push(10);
            put_bytes(out, v.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{DecodeContext, Decoder, KeySpec};
    use crate::keycode::Key;
    use crate::record::RecordBuf;
    use crate::schema::Field;

    fn resource() -> Resource {
        let field = |name: &str, ty| Field {
            name: name.into(),
            ty,
            declared: true,
        };
        Resource {
            name: "Property".into(),
            key_field: "K".into(),
            declared: true,
            fields: vec![
                field("K", FieldType::Int),
                field("ListPrice", FieldType::Decimal),
                field("City", FieldType::String),
                field("Heating", FieldType::LookupList("Heating".into())),
                field("Stamp", FieldType::DateTime),
            ],
            navigation: vec![],
        }
    }

    fn body(text: &str) -> RecordBuf {
        let resource = resource();
        let spec = KeySpec::of(&resource);
        let context = DecodeContext::new(&resource);
        let mut decoder = Decoder::new(&context);
        decoder.decode(text, (&Key::Int(1), &spec)).unwrap().body
    }

    fn diff(before: &str, after: &str) -> Diff {
        let (before, after) = (body(before), body(after));
        let out = Diff::between(before.as_body(), after.as_body(), &resource());
        let hash = |body: &RecordBuf| canonical_hash(body.as_body().cells(), &resource());
        assert_eq!(out == Diff::default(), hash(&before) == hash(&after));
        out
    }

    #[test]
    fn drift_of_the_lexeme_is_no_change() {
        for (before, after) in [
            (r#"{"ListPrice":1}"#, r#"{"ListPrice":1.0}"#),
            (r#"{"ListPrice":"1.50"}"#, r#"{"ListPrice":1.5}"#),
            (r#"{"ListPrice":null}"#, r"{}"),
            (r"{}", r#"{"ListPrice":null,"City":null}"#),
            (r#"{"City":84093}"#, r#"{"City":"84093"}"#),
            (r#"{"Heating":"Gas, Air"}"#, r#"{"Heating":["Gas","Air"]}"#),
            (r#"{"Heating":""}"#, r#"{"Heating":[]}"#),
            (
                r#"{"Stamp":"2020-01-01T05:00:00-07:00"}"#,
                r#"{"Stamp":"2020-01-01T12:00:00.000Z"}"#,
            ),
        ] {
            assert_eq!(diff(before, after), Diff::default(), "{before} {after}");
        }
    }

    #[test]
    fn the_short_way_to_the_canonical_form_is_the_long_one() {
        let types = [
            FieldType::Int,
            FieldType::Decimal,
            FieldType::String,
            FieldType::Lookup("L".into()),
            FieldType::StringList,
            FieldType::LookupList("L".into()),
            FieldType::Date,
        ];
        for text in [
            "0",
            "-7",
            "123456789012",
            "\"\"",
            "\"Orem\"",
            "[]",
            "[\"a\",\"b\"]",
        ] {
            let own = body(&format!("{{\"City\":{text}}}"));
            let cell = own.as_body().cell(FieldId(2)).unwrap();
            for ty in &types {
                let (mut short, mut long) = (Vec::new(), Vec::new());
                canonical(cell, ty, &mut short);
                canonical_value(cell.value_as(ty), &mut long);
                assert_eq!(short, long, "{text} as {ty:?}");
            }
        }
    }

    #[test]
    fn real_changes_are_found() {
        let found = diff(
            r#"{"ListPrice":1.0,"City":"Orem","Heating":["Gas"]}"#,
            r#"{"ListPrice":2,"City":"","Stamp":"2020-01-01T12:00:00Z"}"#,
        );
        let fields: Vec<u16> = found.changes.iter().map(|c| c.field.0).collect();
        assert_eq!(fields, [1, 2, 4]);
        assert_eq!(found.vanished, [FieldId(3)]);
        assert!(
            !diff(r#"{"City":"a"}"#, r#"{"City":null}"#)
                .changes
                .is_empty()
        );
    }
}
