//! A page to its records: where each begins and ends, its key, the hash of its bytes.

use std::cell::Cell as Counter;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::envelope::{FoundRecord, MAX_PAGE_RECORDS};
use super::key::KeySpec;
use super::members::{members, scan_key};
use super::scan::is_json;
use crate::error::DecodeError;
use crate::keycode::Key;

/// A page, split into its records and not yet decoded.
#[derive(Debug)]
pub struct SplitPage {
    /// The resource the records are of.
    pub resource: String,
    /// Where the page came from.
    pub origin: String,
    /// The page's text.
    pub body: String,
    /// The records, in the order of the page.
    pub entities: Vec<RawEntity>,
    /// How keys were read.
    pub key_spec: Arc<KeySpec>,
    /// `@odata.nextLink`.
    pub next_link: Option<String>,
    /// `@odata.count`.
    pub count: Option<u64>,
    /// Whether only some of the fields were selected, as `@odata.context` tells: what is absent
    /// was not asked for.
    pub partial: bool,
}

/// One record of a page.
#[derive(Debug, Clone)]
pub struct RawEntity {
    /// Where in the page's body.
    pub range: Range<usize>,
    /// xxh3-128 of the bytes, seeded with whether the page is partial.
    pub hash: u128,
    /// The key, or what is wrong with it (the field, and the reason).
    pub key: Result<Key, (Option<String>, String)>,
    /// The slot of the record that was last sent as these very bytes: then its key was not read.
    pub(crate) known: Option<u32>,
}

/// Tells the slot of the record whose bytes have that hash.
pub(crate) type KnownBytes<'a> = &'a dyn Fn(u128) -> Option<u32>;

/// A page that cannot be trusted as a whole, kept for the quarantine.
#[derive(Debug)]
pub struct Rejected {
    /// Which page, where in it, and why.
    pub error: DecodeError,
    /// Its bytes.
    pub raw: Vec<u8>,
}

impl SplitPage {
    /// Splits a page.
    ///
    /// `key_spec` is how keys are found; without one it is inferred from the first record.
    ///
    /// # Errors
    /// [`Rejected`] when the page as a whole cannot be trusted: not JSON, not an OData page,
    /// an error body, truncated. A record at fault is no error here: it is quarantined later.
    pub fn split(
        resource: &str,
        origin: &str,
        body: Vec<u8>,
        key_spec: Option<Arc<KeySpec>>,
    ) -> Result<SplitPage, Box<Rejected>> {
        let fail = |fault: PageFault| DecodeError {
            resource: resource.to_owned(),
            page: origin.to_owned(),
            record: fault.record,
            field: None,
            offset: fault.offset,
            reason: fault.reason,
        };
        let body = match check_preamble(&body).and_then(|()| check_utf8(&body)) {
            Ok(()) => String::from_utf8(body).unwrap_or_default(),
            Err(fault) => {
                return Err(Box::new(Rejected {
                    error: fail(fault),
                    raw: body,
                }));
            }
        };
        match split_text(resource, &body, key_spec) {
            Ok(parts) => Ok(SplitPage::of(resource, origin, body, parts)),
            Err(fault) => Err(Box::new(Rejected {
                error: fail(fault),
                raw: body.into_bytes(),
            })),
        }
    }

    /// Splits a page that is well-formed and holds what pages hold; gives anything else back.
    ///
    /// Records whose bytes are `known` were well-formed when they came first: they are only
    /// compared.
    pub(crate) fn scan(
        resource: &str,
        origin: &str,
        body: Vec<u8>,
        key_spec: Option<&Arc<KeySpec>>,
        known: Option<KnownBytes<'_>>,
    ) -> Result<SplitPage, Vec<u8>> {
        let body = String::from_utf8(body).map_err(std::string::FromUtf8Error::into_bytes)?;
        match scan_text(resource, &body, key_spec, known) {
            Some(parts) => Ok(SplitPage::of(resource, origin, body, parts)),
            None => Err(body.into_bytes()),
        }
    }

    fn of(resource: &str, origin: &str, body: String, parts: PageParts) -> Self {
        SplitPage {
            resource: resource.to_owned(),
            origin: origin.to_owned(),
            body,
            entities: parts.entities,
            key_spec: parts.key_spec,
            next_link: parts.next_link,
            count: parts.count,
            partial: parts.partial,
        }
    }

    /// Reads the keys of records that were taken for known and are not, by `keep`.
    pub(crate) fn read_keys(&mut self, keep: impl Fn(u32, u128) -> bool) {
        for entity in &mut self.entities {
            if entity.known.is_some_and(|slot| !keep(slot, entity.hash)) {
                let text = self.body.get(entity.range.clone()).unwrap_or_default();
                entity.key = scan_key(text, &self.key_spec);
                entity.known = None;
            }
        }
    }

    /// Makes a page of records that came one by one: lines of NDJSON, elements of an array.
    ///
    /// A text that is not JSON is a record at fault.
    ///
    /// # Errors
    /// [`Rejected`] when no key field is known and the first record shows none.
    pub fn from_texts(
        resource: &str,
        origin: &str,
        texts: &[String],
        key_spec: Option<Arc<KeySpec>>,
    ) -> Result<SplitPage, Box<Rejected>> {
        let body = texts.join("\n");
        let first = texts
            .iter()
            .find(|t| t.starts_with('{'))
            .map(String::as_str);
        let key_spec = match find_key(resource, key_spec, first) {
            Ok(spec) => spec,
            Err(fault) => {
                let error = DecodeError {
                    resource: resource.to_owned(),
                    page: origin.to_owned(),
                    record: fault.record,
                    field: None,
                    offset: None,
                    reason: fault.reason,
                };
                return Err(Box::new(Rejected {
                    error,
                    raw: body.into_bytes(),
                }));
            }
        };
        let mut at = 0;
        let entities = texts.iter().map(|text| {
            let mut entity = raw_entity(at, text, &key_spec, false);
            if !is_json(text)
                && let Err(e) = serde_json::from_str::<IgnoredAny>(text)
            {
                entity.key = Err((None, plain_reason(&e)));
            }
            at += text.len() + 1;
            entity
        });
        Ok(SplitPage {
            resource: resource.to_owned(),
            origin: origin.to_owned(),
            entities: entities.collect(),
            key_spec,
            next_link: None,
            count: None,
            partial: false,
            body,
        })
    }

    /// Whether there are records, and none has a field besides these: annotations are no fields.
    pub(crate) fn holds_only(&self, fields: &[&str]) -> bool {
        let only = |entity: &RawEntity| {
            members(self.text(entity)).is_ok_and(|members| {
                let mut names = members.iter().map(|(name, _)| name.as_ref());
                names.all(|name| name.contains('@') || fields.contains(&name))
            })
        };
        !self.entities.is_empty() && self.entities.iter().all(only)
    }

    /// The text of one record.
    pub fn text(&self, entity: &RawEntity) -> &str {
        self.body.get(entity.range.clone()).unwrap_or_default()
    }
}

/// What is wrong with a page, and where.
struct PageFault {
    offset: Option<usize>,
    record: Option<usize>,
    reason: String,
}

impl PageFault {
    fn at(offset: usize, reason: &str) -> Self {
        PageFault {
            offset: Some(offset),
            record: None,
            reason: reason.to_owned(),
        }
    }
}

/// What [`split_text`] finds.
struct PageParts {
    entities: Vec<RawEntity>,
    key_spec: Arc<KeySpec>,
    next_link: Option<String>,
    count: Option<u64>,
    partial: bool,
}

/// One pass without values where the page is as pages are; else serde_json, which says what is
/// wrong.
fn split_text(
    resource: &str,
    body: &str,
    key_spec: Option<Arc<KeySpec>>,
) -> Result<PageParts, PageFault> {
    match scan_text(resource, body, key_spec.as_ref(), None) {
        Some(parts) => Ok(parts),
        None => parse_text(resource, body, key_spec),
    }
}

fn scan_text(
    resource: &str,
    body: &str,
    key_spec: Option<&Arc<KeySpec>>,
    known: Option<KnownBytes<'_>>,
) -> Option<PageParts> {
    let found = super::envelope::scan(resource, body, key_spec, known)?;
    let entities = found.records.into_iter().map(|record| match record {
        FoundRecord::Known(range, hash, slot) => RawEntity {
            range,
            hash,
            key: Err((None, String::new())),
            known: Some(slot),
        },
        FoundRecord::New(range, key) => {
            let text = body.get(range.clone()).unwrap_or_default();
            RawEntity {
                hash: hash_of(text, found.partial),
                key: key.unwrap_or_else(|| scan_key(text, &found.key_spec)),
                range,
                known: None,
            }
        }
    });
    Some(PageParts {
        entities: entities.collect(),
        next_link: found.next_link,
        count: found.count,
        partial: found.partial,
        key_spec: Arc::clone(&found.key_spec),
    })
}

/// The hash of a record's bytes. The same bytes say less when only some fields were asked for.
pub(super) fn hash_of(text: &str, partial: bool) -> u128 {
    xxhash_rust::xxh3::xxh3_128_with_seed(text.as_bytes(), u64::from(partial))
}

fn parse_text(
    resource: &str,
    body: &str,
    key_spec: Option<Arc<KeySpec>>,
) -> Result<PageParts, PageFault> {
    let seen = Counter::new(None);
    let mut parser = serde_json::Deserializer::from_str(body);
    let envelope = parser
        .deserialize_any(EnvelopeVisitor { seen: &seen })
        .and_then(|envelope| parser.end().map(|()| envelope))
        .map_err(|e| PageFault {
            offset: offset_of(body, &e),
            record: seen.get(),
            reason: plain_reason(&e),
        })?;
    let (raws, next_link, count, partial) = envelope.into_parts().map_err(|reason| PageFault {
        offset: None,
        record: None,
        reason,
    })?;
    let first = raws
        .iter()
        .map(|raw| raw.get())
        .find(|text| text.starts_with('{'));
    let key_spec = find_key(resource, key_spec, first)?;
    let entities = raws.iter().map(|raw| {
        let text = raw.get();
        let start = text.as_ptr().addr().wrapping_sub(body.as_ptr().addr());
        raw_entity(start, text, &key_spec, partial)
    });
    Ok(PageParts {
        entities: entities.collect(),
        key_spec,
        next_link,
        count,
        partial,
    })
}

/// The key as it is known, or as the first record shows it.
fn find_key(
    resource: &str,
    known: Option<Arc<KeySpec>>,
    first: Option<&str>,
) -> Result<Arc<KeySpec>, PageFault> {
    match (known, first) {
        (Some(spec), _) => Ok(spec),
        (None, None) => Ok(Arc::new(KeySpec::new(String::new(), false))),
        (None, Some(first)) => KeySpec::infer(resource, first)
            .map(Arc::new)
            .ok_or_else(|| PageFault {
                offset: None,
                record: Some(0),
                reason: format!(
                    "no key field is known for {resource}: expected RESO's key name, \
                     {resource}Key or @odata.id"
                ),
            }),
    }
}

fn raw_entity(start: usize, text: &str, spec: &KeySpec, partial: bool) -> RawEntity {
    RawEntity {
        range: start..start + text.len(),
        hash: hash_of(text, partial),
        key: scan_key(text, spec),
        known: None,
    }
}

fn check_utf8(body: &[u8]) -> Result<(), PageFault> {
    std::str::from_utf8(body)
        .map(|_| ())
        .map_err(|e| PageFault::at(e.valid_up_to(), "is not UTF-8 from here on"))
}

fn check_preamble(body: &[u8]) -> Result<(), PageFault> {
    let reason = if body.starts_with(b"\xef\xbb\xbf") {
        "starts with a byte order mark, which JSON text must not (RFC 8259, 8.1); remove its \
         first three bytes"
    } else {
        match body.iter().find(|b| !b.is_ascii_whitespace()) {
            None => "is empty, expected an OData page",
            Some(b'<') => "is HTML or XML, expected JSON",
            Some(b'{') => return Ok(()),
            Some(b'[') => "is a JSON array, expected an OData page with a `value`",
            Some(_) => "does not start with `{`, expected an OData page",
        }
    };
    Err(PageFault::at(0, reason))
}

/// serde_json counts lines and bytes in a line; the offset is what an editor can go to.
fn offset_of(body: &str, error: &serde_json::Error) -> Option<usize> {
    let before = error.line().checked_sub(1)?;
    let line_start = if before == 0 {
        0
    } else {
        memchr::memchr_iter(b'\n', body.as_bytes()).nth(before - 1)? + 1
    };
    Some((line_start + error.column()).min(body.len()))
}

fn plain_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    if error.is_eof() {
        return format!("is truncated: {text}");
    }
    if error.is_data() {
        return text.to_owned();
    }
    format!("is not JSON: {text}")
}

/// The members of the page's object that matter.
#[derive(Default)]
struct Envelope<'a> {
    value: Option<Result<Vec<&'a RawValue>, &'static str>>,
    next_link: Option<String>,
    count: Option<u64>,
    context: Option<String>,
    error: Option<&'a RawValue>,
}

type Parts<'a> = (Vec<&'a RawValue>, Option<String>, Option<u64>, bool);

impl<'a> Envelope<'a> {
    fn into_parts(self) -> Result<Parts<'a>, String> {
        if let Some(error) = self.error {
            return Err(format!(
                "is an error of the server: {}",
                error_message(error.get())
            ));
        }
        match self.value {
            None => Err("has no `value`, expected an OData page".to_owned()),
            Some(Err(found)) => Err(format!("`value` is {found}, expected an array of records")),
            Some(Ok(raws)) => {
                let partial = self.context.as_deref().is_some_and(selects_fields);
                Ok((raws, self.next_link, self.count, partial))
            }
        }
    }
}

/// The code and message of an OData error body, or its text (OData JSON Format, 21.1).
fn error_message(raw: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(raw).unwrap_or_default();
    let part = |name: &str| {
        value
            .get(name)
            .map(|v| v.as_str().map_or(v.to_string(), str::to_owned))
    };
    let text = match (part("code"), part("message")) {
        (Some(code), Some(message)) if !code.is_empty() => format!("{code}: {message}"),
        (_, Some(message)) => message,
        _ => raw.to_owned(),
    };
    text.chars().take(200).collect()
}

/// Whether a context URL lists selected fields: `$metadata#Property(ListPrice,City)`
/// (OData Protocol, 10.7). `Property(Media())` only expands.
pub(super) fn selects_fields(context: &str) -> bool {
    let Some((_, list)) = context.split_once('(') else {
        return false;
    };
    let mut depth = 0_usize;
    let mut item = String::new();
    let mut plain = false;
    for c in list.chars() {
        match c {
            '(' => {
                depth += 1;
                item.clear();
            }
            ')' if depth > 0 => depth -= 1,
            ',' | ')' if depth == 0 => plain |= !item.is_empty() && item != "*",
            _ => {}
        }
        match c {
            ',' if depth == 0 => item.clear(),
            ')' if depth == 0 && !item.is_empty() => break,
            '(' | ')' | '+' => {}
            other if depth == 0 => item.push(other),
            _ => {}
        }
    }
    plain
}

struct EnvelopeVisitor<'s> {
    seen: &'s Counter<Option<usize>>,
}

impl<'de> Visitor<'de> for EnvelopeVisitor<'_> {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an OData page")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut out = Envelope::default();
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match name.as_ref() {
                // The last one would win, and the records of the first be lost.
                "value" if out.value.is_some() => {
                    return Err(serde::de::Error::custom("`value` is given twice"));
                }
                "value" => {
                    out.value = Some(map.next_value_seed(ValueSeed { seen: self.seen })?);
                    self.seen.set(None);
                }
                // OData 4.01 lets a service leave out the `odata.` of its control information.
                "@odata.nextLink" | "@nextLink" => out.next_link = map.next_value()?,
                "@odata.count" | "@count" => {
                    out.count = count_of(map.next_value::<&RawValue>()?.get());
                }
                "@odata.context" | "@context" => out.context = map.next_value()?,
                "error" => out.error = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(out)
    }
}

/// Some services write the count as a string.
pub(super) fn count_of(raw: &str) -> Option<u64> {
    raw.trim_matches('"').parse().ok()
}

struct ValueSeed<'s> {
    seen: &'s Counter<Option<usize>>,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Result<Vec<&'de RawValue>, &'static str>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Result<Vec<&'de RawValue>, &'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut raws = Vec::new();
        self.seen.set(Some(0));
        while let Some(raw) = seq.next_element()? {
            if raws.len() == MAX_PAGE_RECORDS {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Err("an array of more than 500,000 records"));
            }
            raws.push(raw);
            self.seen.set(Some(raws.len()));
        }
        Ok(Ok(raws))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Err("an object"))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Err("null"))
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Err("a string"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Err("a boolean"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Err("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Err("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Err("a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(body: &str) -> Result<SplitPage, Box<DecodeError>> {
        SplitPage::split("Property", "p1", body.as_bytes().to_vec(), None).map_err(|r| {
            assert_eq!(r.raw, body.as_bytes());
            Box::new(r.error)
        })
    }

    #[test]
    fn a_page_splits() {
        let page = split(
            r#"{"@odata.context":"$metadata#Property","@odata.count":2,
                "value":[{"ListingKey":"a"}, {"ListingKey":null}],"@odata.nextLink":"Property?x"}"#,
        )
        .unwrap();
        assert_eq!(page.count, Some(2));
        assert_eq!(page.next_link.as_deref(), Some("Property?x"));
        assert!(!page.partial);
        assert_eq!(page.text(&page.entities[0]), r#"{"ListingKey":"a"}"#);
        assert_eq!(page.entities[0].key, Ok(Key::Str("a".into())));
        let fault = page.entities[1].key.clone().unwrap_err();
        assert_eq!(fault, (Some("ListingKey".into()), "the key is null".into()));
    }

    #[test]
    fn what_is_no_page_is_named() {
        let cases = [
            ("", "is empty"),
            ("<html>oops</html>", "is HTML"),
            ("\u{feff}{\"value\":[]}", "byte order mark"),
            ("[1]", "is a JSON array"),
            ("{\"value\":[{\"ListingKey\":\"a\"},{\"Lis", "is truncated"),
            ("{\"value\":[]} x", "is not JSON: trailing"),
            ("{\"a\":1}", "has no `value`"),
            ("{\"value\":{\"a\":1}}", "`value` is an object"),
            ("{\"value\":null}", "`value` is null"),
            ("{\"value\":\"x\"}", "`value` is a string"),
            (
                "{\"error\":{\"code\":\"429\",\"message\":\"slow down\"}}",
                "429: slow down",
            ),
            ("{\"value\":[NaN]}", "is not JSON"),
        ];
        for (body, expected) in cases {
            let error = split(body).unwrap_err();
            assert!(error.reason.contains(expected), "{body}: {error}");
            assert_eq!(error.page, "p1");
        }
        let truncated = split("{\"value\":[{\"ListingKey\":\"a\"},{\"Lis").unwrap_err();
        assert_eq!(truncated.record, Some(1));
        let utf8 = SplitPage::split("Property", "p", b"{\"value\":[\"\xff\"]}".to_vec(), None);
        assert_eq!(utf8.unwrap_err().error.offset, Some(11));
    }

    #[test]
    fn a_page_of_too_many_records_is_refused() {
        let page = |records: usize| {
            let record = "{\"ListingKey\":\"a\"},";
            let body = record.repeat(records);
            format!("{{\"value\":[{}]}}", body.trim_end_matches(','))
        };
        let most = split(&page(MAX_PAGE_RECORDS)).unwrap();
        assert_eq!(most.entities.len(), MAX_PAGE_RECORDS);
        let error = split(&page(MAX_PAGE_RECORDS + 1)).unwrap_err();
        let expected = "`value` is an array of more than 500,000 records";
        assert!(error.reason.contains(expected), "{error}");
    }

    #[test]
    fn a_selecting_context_is_partial() {
        assert!(selects_fields("$metadata#Property(ListPrice,YearBuilt)"));
        assert!(selects_fields(
            "https://h/$metadata#Property(City,Media(Order))"
        ));
        assert!(!selects_fields("$metadata#Property(Media())"));
        assert!(!selects_fields("$metadata#Property"));
        assert!(!selects_fields("$metadata#Property(*)"));
    }
}
