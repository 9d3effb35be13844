//! One record's bytes to typed cells.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use super::MAX_DEPTH;
use super::key::KeySpec;
use super::members::{Fault, members};
use super::scan::Scanner;
use crate::keycode::Key;
use crate::record::codec::{Reader, put_bytes, put_u64};
use crate::record::{Cell, RecordBuf, Tag, natural_type, put_number, put_string};
use crate::schema::{FieldId, FieldType, Resource};

/// What decoding a resource's records needs: the resource, and its fields by name.
#[derive(Debug)]
pub(crate) struct DecodeContext<'r> {
    pub(crate) resource: &'r Resource,
    by_name: HashMap<&'r str, FieldId>,
    /// By field: its name as JSON text, with the colon, where nothing in it has to be escaped.
    tokens: Vec<Option<Vec<u8>>>,
}

impl<'r> DecodeContext<'r> {
    pub(crate) fn new(resource: &'r Resource) -> Self {
        let ids = (0..=u16::MAX).map(FieldId);
        let names = resource.fields.iter().map(|field| field.name.as_str());
        let plain = |name: &&str| name.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\');
        let token = |name: &str| format!("\"{name}\":").into_bytes();
        DecodeContext {
            resource,
            by_name: names.clone().zip(ids).collect(),
            tokens: names.map(|n| Some(n).filter(plain).map(token)).collect(),
        }
    }

    /// The type that a field's values are encoded by; inferred ones show it themselves.
    fn declared(&self, id: FieldId) -> Option<&'r FieldType> {
        let field = self.resource.field(id)?;
        field.declared.then_some(&field.ty)
    }
}

/// A decoded entity, not stored.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Entity {
    /// Its fields, as they are stored.
    pub(crate) body: RecordBuf,
    /// Fields that the resource does not know yet, with the type they show.
    pub(crate) unknown: Vec<(String, Option<FieldType>)>,
    /// Whether any field was sent as null: then an absent field was withheld, not cleared.
    pub(crate) spells_nulls: bool,
}

/// A name that a record probably has next.
#[derive(Debug)]
struct Step {
    /// `None` for control information and fields that are not known.
    field: Option<FieldId>,
    /// The name's text where there is no field.
    other: Vec<u8>,
}

/// Decodes the records of a resource, one after the other: each is a guess for the next.
#[derive(Debug)]
pub(crate) struct Decoder<'r> {
    context: &'r DecodeContext<'r>,
    shape: Vec<Step>,
    /// The cells of the record, in the order they came.
    buffer: Vec<u8>,
    /// By field: where its cell is in the buffer.
    cells: Vec<(usize, usize)>,
    /// By field: one bit, whether it is there.
    present: Vec<u64>,
    unknown: Vec<(String, Option<FieldType>)>,
    spells_nulls: bool,
}

/// Names that are tried before one is looked up: so many fields may be left out in a row.
const AHEAD: usize = 6;
/// A record with more names than this that are not where they were has another shape.
const MISSES: usize = 16;

impl<'r> Decoder<'r> {
    pub(crate) fn new(context: &'r DecodeContext<'r>) -> Self {
        let fields = context.resource.fields.len();
        Decoder {
            context,
            shape: Vec::new(),
            buffer: Vec::new(),
            cells: vec![(0, 0); fields],
            present: vec![0; fields.div_ceil(64)],
            unknown: Vec::new(),
            spells_nulls: false,
        }
    }

    /// Decodes one record.
    ///
    /// Members whose name has an `@` are control information and are not fields
    /// (OData JSON Format, 4.6).
    ///
    /// # Errors
    /// The field and the reason, when the record must be quarantined.
    pub(crate) fn decode(&mut self, text: &str, key: (&Key, &KeySpec)) -> Result<Entity, Fault> {
        self.decode_each(text, key, &mut |_, _, _| {})
    }

    /// Decodes one record, and tells each of its cells on the way: the field, the cell, and where
    /// that is in the body.
    ///
    /// # Errors
    /// As [`decode`](Decoder::decode); then no cell was told.
    pub(crate) fn decode_each(
        &mut self,
        text: &str,
        key: (&Key, &KeySpec),
        each: &mut impl FnMut(FieldId, &[u8], usize),
    ) -> Result<Entity, Fault> {
        self.begin();
        if self.scan(text).is_none() {
            self.begin();
            self.parse(text)?;
        }
        self.put_key(key);
        Ok(self.finish(each))
    }

    fn begin(&mut self) {
        self.buffer.clear();
        self.present.fill(0);
        self.unknown.clear();
        self.spells_nulls = false;
    }

    /// One pass over the text. `None` when there is any doubt about it.
    fn scan(&mut self, text: &str) -> Option<()> {
        let mut scanner = Scanner::new(text, 0);
        let (mut place, mut misses) = (0, 0);
        let mut more = !scanner.open(b'{', b'}')?;
        while more {
            let found = self.guess(&mut scanner, place);
            let (field, name) = if let Some((field, at)) = found {
                place = at + 1;
                (field, None)
            } else {
                let start = scanner.at();
                let name = text.get(scanner.name()?)?;
                let known = Some(name).filter(|name| !name.contains('@'));
                let field = known.and_then(|name| self.context.by_name.get(name).copied());
                misses += 1;
                place = self.note_step(place, misses, field, || {
                    text.as_bytes()
                        .get(start..scanner.at())
                        .unwrap_or_default()
                        .to_vec()
                });
                (field, known)
            };
            let span = scanner.value()?;
            let raw = text.get(span.range)?;
            match (field, name) {
                (Some(field), _) => self.put(field, raw, span.escaped).ok()??,
                (None, Some(name)) => self.note_unknown(name, raw).ok()?,
                (None, None) => {}
            }
            more = scanner.more(b'}')?;
        }
        (scanner.at() == text.len()).then_some(())
    }

    /// Passes the name that was guessed; answers with its field and its place in the shape.
    fn guess(&self, scanner: &mut Scanner<'_>, place: usize) -> Option<(Option<FieldId>, usize)> {
        let ahead = self.shape.iter().enumerate().skip(place).take(AHEAD);
        for (at, step) in ahead {
            let token = match step.field {
                Some(id) => self.context.tokens.get(usize::from(id.0))?.as_deref()?,
                None => step.other.as_slice(),
            };
            if scanner.expect(token) {
                return Some((step.field, at));
            }
        }
        None
    }

    /// Puts a name that was not guessed into the shape; answers with the place after it.
    fn note_step(
        &mut self,
        place: usize,
        misses: usize,
        field: Option<FieldId>,
        text: impl FnOnce() -> Vec<u8>,
    ) -> usize {
        if misses == MISSES {
            self.shape.truncate(place);
        }
        let place = place.min(self.shape.len());
        if let Some(id) = field {
            let plain = self.context.tokens.get(usize::from(id.0));
            if plain.is_some_and(Option::is_some) {
                let step = Step {
                    field,
                    other: Vec::new(),
                };
                self.shape.insert(place, step);
                return place + 1;
            }
            return place;
        }
        let other = text();
        // A name that is no field's yet must be looked at each time.
        if other.contains(&b'@') {
            self.shape.insert(place, Step { field, other });
            return place + 1;
        }
        place
    }

    /// Reads with serde_json: it says what is wrong.
    fn parse(&mut self, text: &str) -> Result<(), Fault> {
        for (name, raw) in members(text)? {
            if name.contains('@') {
                continue;
            }
            let raw = raw.get();
            let Some(field) = self.context.by_name.get(name.as_ref()).copied() else {
                self.note_unknown(&name, raw)?;
                continue;
            };
            let fault = |reason| (Some(name.to_string()), reason);
            if self.put(field, raw, true).map_err(fault)?.is_none() {
                let reason = "is given twice, with two values".to_owned();
                return Err((Some(name.into_owned()), reason));
            }
        }
        Ok(())
    }

    /// Puts a field's cell; `None` when the field has another one already.
    fn put(&mut self, field: FieldId, raw: &str, escaped: bool) -> Result<Option<()>, String> {
        let start = self.buffer.len();
        put_json(&mut self.buffer, raw, escaped, self.context.declared(field))?;
        let own = self.buffer.get(start..).unwrap_or_default();
        self.spells_nulls |= own == [Tag::Null as u8];
        let at = usize::from(field.0);
        let (Some(bits), Some(cell)) = (self.present.get_mut(at / 64), self.cells.get_mut(at))
        else {
            return Ok(Some(()));
        };
        let bit = 1 << (at % 64);
        if *bits & bit != 0 {
            return Ok((self.buffer.get(cell.0..cell.1) == Some(own)).then_some(()));
        }
        *bits |= bit;
        *cell = (start, self.buffer.len());
        Ok(Some(()))
    }

    /// The key is a field of the record even when the page gave it only in `@odata.id`.
    fn put_key(&mut self, (key, spec): (&Key, &KeySpec)) {
        let Some(id) = self.context.by_name.get(spec.field.as_str()) else {
            return;
        };
        let at = usize::from(id.0);
        let (Some(bits), Some(cell)) = (self.present.get_mut(at / 64), self.cells.get_mut(at))
        else {
            return;
        };
        let bit = 1 << (at % 64);
        if *bits & bit != 0 {
            return;
        }
        *bits |= bit;
        let start = self.buffer.len();
        match key {
            Key::Int(value) => put_number(&mut self.buffer, &value.to_string()),
            Key::Str(text) => put_string(&mut self.buffer, text, Some(&FieldType::String)),
        }
        *cell = (start, self.buffer.len());
    }

    fn note_unknown(&mut self, name: &str, raw: &str) -> Result<(), Fault> {
        let mut scratch = Vec::new();
        put_json(&mut scratch, raw, true, None)
            .map_err(|reason| (Some(name.to_owned()), reason))?;
        let ty = Cell::read(&mut Reader::new(&scratch)).and_then(natural_type);
        self.unknown.push((name.to_owned(), ty));
        Ok(())
    }

    /// The cells in ascending order of field.
    fn finish(&mut self, each: &mut impl FnMut(FieldId, &[u8], usize)) -> Entity {
        let count: u32 = self.present.iter().map(|bits| bits.count_ones()).sum();
        let mut body = RecordBuf::begin(self.buffer.len() + 2 * count as usize);
        let mut previous = 0;
        for (bits, base) in self.present.iter().zip((0_u16..).step_by(64)) {
            let mut bits = *bits;
            while bits != 0 {
                let low = bits.trailing_zeros();
                bits &= bits - 1;
                let field = base + u16::try_from(low).unwrap_or(0);
                let (start, end) = self
                    .cells
                    .get(usize::from(field))
                    .copied()
                    .unwrap_or((0, 0));
                let cell = self.buffer.get(start..end).unwrap_or_default();
                let at = body.push(field - previous, cell);
                each(FieldId(field), cell, at);
                previous = field;
            }
        }
        Entity {
            body,
            unknown: std::mem::take(&mut self.unknown),
            spells_nulls: self.spells_nulls,
        }
    }
}

/// Appends any JSON value as a cell.
///
/// `escaped` says that a string may have escapes.
fn put_json(
    out: &mut Vec<u8>,
    raw: &str,
    escaped: bool,
    ty: Option<&FieldType>,
) -> Result<(), String> {
    match raw.as_bytes().first() {
        Some(b'n') => out.push(Tag::Null as u8),
        Some(b't') => out.push(Tag::True as u8),
        Some(b'f') => out.push(Tag::False as u8),
        Some(b'"') if !escaped => put_string(out, inner(raw), ty),
        Some(b'"') => put_string(out, &unescape(raw)?, ty),
        Some(b'[') => {
            if put_plain_list(out, raw).is_some() {
                return Ok(());
            }
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

/// What stands between the quotes.
fn inner(raw: &str) -> &str {
    raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default()
}

/// Appends a list of strings without escapes as a cell; otherwise appends nothing.
fn put_plain_list(out: &mut Vec<u8>, raw: &str) -> Option<()> {
    let start = out.len();
    let listed = list_items(out, raw);
    if listed.is_none() {
        out.truncate(start);
    }
    listed
}

fn list_items(out: &mut Vec<u8>, raw: &str) -> Option<()> {
    let mut scanner = Scanner::new(raw, 0);
    out.push(Tag::StringList as u8);
    let counter = out.len();
    // A count of one byte, put right at the end.
    out.push(0);
    let mut count = 0_u8;
    let mut more = !scanner.open(b'[', b']')?;
    while more {
        let span = scanner.value()?;
        let item = raw.get(span.range)?;
        if span.escaped || !item.starts_with('"') || count == 0x7f {
            return None;
        }
        put_bytes(out, inner(item).as_bytes());
        count += 1;
        more = scanner.more(b']')?;
    }
    *out.get_mut(counter)? = count;
    (scanner.at() == raw.len()).then_some(())
}

fn unescape(raw: &str) -> Result<Cow<'_, str>, String> {
    let inner = inner(raw);
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
    use super::super::members::scan_key;
    use super::*;
    use crate::schema::Field;
    use crate::value::Value;
    use proptest::prelude::*;

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
        Decoder::new(&context).decode(text, (&key, &spec))
    }

    #[test]
    fn fields_are_typed_and_sorted() {
        let entity = decode(
            r#"{"@odata.id":"x","City":"Orem","ListingKeyNumeric":7,"ListPrice":2950000.0,
                "New":{"a": [1, "b c"]}}"#,
        )
        .unwrap();
        let ids: Vec<u16> = entity.body.as_body().cells().map(|(id, _)| id.0).collect();
        assert_eq!(ids, [0, 1, 2]);
        assert_eq!(
            entity.body.as_body().cell(FieldId(0)).unwrap().to_json(),
            "2950000.0"
        );
        assert_eq!(
            entity.body.as_body().cell(FieldId(2)).unwrap().value(),
            Value::str("Orem")
        );
        assert_eq!(entity.unknown, [("New".to_owned(), Some(FieldType::Json))]);
    }

    /// What serde_json alone makes of it.
    fn parsed(decoder: &mut Decoder<'_>, text: &str, spec: &KeySpec) -> Result<Entity, Fault> {
        decoder.begin();
        decoder.parse(text)?;
        decoder.put_key((&Key::Int(7), spec));
        Ok(decoder.finish(&mut |_, _, _| {}))
    }

    fn value() -> impl Strategy<Value = String> {
        let text = ".{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap());
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("\"\\ud800\"".to_owned()),
            Just("\"2024-05-01T10:00:00.5Z\"".to_owned()),
            "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,3})?([eE][0-9])?",
            text,
        ];
        leaf.prop_recursive(2, 8, 4, |inner| {
            let list = proptest::collection::vec(inner.clone(), 0..4);
            prop_oneof![
                list.prop_map(|items| format!("[{}]", items.join(", "))),
                inner.prop_map(|item| format!("{{\"City\" :{item}}}")),
            ]
        })
    }

    fn object() -> impl Strategy<Value = String> {
        let names = [
            "ListPrice",
            "ListingKeyNumeric",
            "City",
            "New",
            "@odata.etag",
            "Ci\\u0074y",
        ];
        let name = prop::sample::select(names.to_vec());
        let colon = prop::sample::select(vec![":", " : "]);
        let member = (name, colon, value());
        proptest::collection::vec(member, 0..7).prop_map(|members| {
            let members = members
                .iter()
                .map(|(name, colon, value)| format!("\"{name}\"{colon}{value}"));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        })
    }

    proptest! {
        #[test]
        fn a_scan_says_what_serde_json_says(
            records in proptest::collection::vec(
                (object(), any::<prop::sample::Index>(), 0x20_u8..0x80, any::<bool>()), 1..6),
        ) {
            let resource = resource();
            let spec = KeySpec::of(&resource);
            let context = DecodeContext::new(&resource);
            let mut decoder = Decoder::new(&context);
            let mut reference = Decoder::new(&context);
            for (mut text, at, byte, damaged) in records {
                let at = at.index(text.len());
                if damaged && text.is_char_boundary(at) {
                    text.insert(at, char::from(byte));
                }
                let found = decoder.decode(&text, (&Key::Int(7), &spec));
                let expected = parsed(&mut reference, &text, &spec);
                prop_assert_eq!(found, expected, "{}", text);
                let scanned = {
                    decoder.begin();
                    decoder.scan(&text).is_some()
                };
                prop_assert!(!scanned || serde_json::from_str::<&RawValue>(&text).is_ok());
            }
        }
    }

    #[test]
    fn the_key_comes_from_its_twin_or_the_id() {
        for text in [
            r#"{"ListingKey":"543141","ListPrice":1}"#,
            r#"{"@odata.id":"Property(543141)","ListPrice":1}"#,
        ] {
            let entity = decode(text).unwrap();
            assert_eq!(
                entity.body.as_body().cell(FieldId(1)).unwrap().value(),
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
