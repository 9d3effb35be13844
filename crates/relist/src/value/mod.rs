//! Values: what a field of a RESO resource can hold.
//!
//! A [`Value`] is typed and compared *by value*: `1` equals `1.0`, and two timestamps are equal
//! when they name the same instant. How a value was written (its lexeme) is kept by the record,
//! not here. Money is never a float: every JSON number becomes an [`Int`](Value::Int) or an exact
//! [`Decimal`].

mod decimal;
mod time;

use std::borrow::Cow;
use std::cmp::Ordering;

pub use decimal::Decimal;
pub use time::{Date, DateTime, TimeOfDay, Timestamp};

/// A longitude and a latitude in degrees (WGS 84), as in a GeoJSON `Point`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct GeoPoint {
    /// Degrees east.
    pub longitude: f64,
    /// Degrees north.
    pub latitude: f64,
}

/// The value of one field, borrowed where it can be.
///
/// Absence (the field was not sent) is not a value: it is an `Option<Value>` of `None`.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// JSON `null`.
    Null,
    /// `Edm.Boolean`.
    Bool(bool),
    /// Any integer type up to `Edm.Int64`.
    Int(i64),
    /// `Edm.Decimal`, and `Edm.Double` read as written.
    Decimal(Decimal),
    /// `Edm.Date`.
    Date(Date),
    /// `Edm.DateTimeOffset`.
    DateTime(DateTime),
    /// `Edm.TimeOfDay`.
    TimeOfDay(TimeOfDay),
    /// `Edm.Guid`, big-endian bytes.
    Guid([u8; 16]),
    /// `Edm.String`, and a single-valued lookup.
    String(Cow<'a, str>),
    /// A multi-valued lookup: `Collection(..)` or a flags enumeration.
    StringList(Vec<Cow<'a, str>>),
    /// `Edm.GeographyPoint`.
    GeoPoint(GeoPoint),
    /// Anything nested, kept whole as JSON text.
    Json(Cow<'a, str>),
}

impl<'a> Value<'a> {
    /// Makes a string value that borrows.
    pub fn str(text: &'a str) -> Self {
        Value::String(Cow::Borrowed(text))
    }

    /// True for JSON `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Copies whatever is borrowed.
    pub fn into_owned(self) -> Value<'static> {
        let own = |c: Cow<'a, str>| Cow::Owned(c.into_owned());
        match self {
            Value::Null => Value::Null,
            Value::Bool(v) => Value::Bool(v),
            Value::Int(v) => Value::Int(v),
            Value::Decimal(v) => Value::Decimal(v),
            Value::Date(v) => Value::Date(v),
            Value::DateTime(v) => Value::DateTime(v),
            Value::TimeOfDay(v) => Value::TimeOfDay(v),
            Value::Guid(v) => Value::Guid(v),
            Value::String(v) => Value::String(own(v)),
            Value::StringList(v) => Value::StringList(v.into_iter().map(own).collect()),
            Value::GeoPoint(v) => Value::GeoPoint(v),
            Value::Json(v) => Value::Json(own(v)),
        }
    }

    /// The string held by a [`String`](Value::String) value.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(s) => Some(s),
            _ => None,
        }
    }

    /// The number held, exactly, by an [`Int`](Value::Int) or [`Decimal`](Value::Decimal) value.
    pub fn as_decimal(&self) -> Option<Decimal> {
        match self {
            Value::Int(v) => Some(Decimal::from(*v)),
            Value::Decimal(v) => Some(*v),
            _ => None,
        }
    }

    /// Compares two values of one kind by value; `None` when their kinds do not compare.
    ///
    /// Numbers compare across [`Int`](Value::Int) and [`Decimal`](Value::Decimal); a date compares
    /// with a timestamp as midnight UTC of that day; strings compare by code point. Null compares
    /// only with null.
    pub fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        use Value as V;
        Some(match (self, other) {
            (V::Null, V::Null) => Ordering::Equal,
            (V::Bool(a), V::Bool(b)) => a.cmp(b),
            (V::Int(a), V::Int(b)) => a.cmp(b),
            (V::Int(_) | V::Decimal(_), V::Int(_) | V::Decimal(_)) => {
                self.as_decimal()?.cmp(&other.as_decimal()?)
            }
            (V::Date(a), V::Date(b)) => a.cmp(b),
            (V::DateTime(a), V::DateTime(b)) => a.cmp(b),
            (V::Date(a), V::DateTime(b)) => a.midnight().cmp(b),
            (V::DateTime(a), V::Date(b)) => a.cmp(&b.midnight()),
            (V::TimeOfDay(a), V::TimeOfDay(b)) => a.cmp(b),
            (V::Guid(a), V::Guid(b)) => a.cmp(b),
            (V::String(a), V::String(b)) | (V::Json(a), V::Json(b)) => a.as_ref().cmp(b.as_ref()),
            (V::StringList(a), V::StringList(b)) => a.cmp(b),
            (V::GeoPoint(a), V::GeoPoint(b)) => return a.partial_cmp(b),
            _ => return None,
        })
    }

    /// A total order over all values: nulls first, then by kind, then by value.
    ///
    /// This is the order of `$orderby ... asc` (OData 4.01 Part 1, 11.2.6.2: null sorts before
    /// every other value in ascending order).
    pub fn total_cmp(&self, other: &Value<'_>) -> Ordering {
        self.compare(other)
            .unwrap_or_else(|| self.rank().cmp(&other.rank()))
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Int(_) | Value::Decimal(_) => 2,
            Value::Date(_) | Value::DateTime(_) => 3,
            Value::TimeOfDay(_) => 4,
            Value::Guid(_) => 5,
            Value::String(_) => 6,
            Value::StringList(_) => 7,
            Value::GeoPoint(_) => 8,
            Value::Json(_) => 9,
        }
    }

    /// The name of the value's kind, for messages: `"a string"`, `"a number"`.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Decimal(_) => "a number",
            Value::Date(_) => "a date",
            Value::DateTime(_) => "a timestamp",
            Value::TimeOfDay(_) => "a time of day",
            Value::Guid(_) => "a GUID",
            Value::String(_) => "a string",
            Value::StringList(_) => "a list of strings",
            Value::GeoPoint(_) => "a point",
            Value::Json(_) => "nested JSON",
        }
    }
}

/// Equality by value: `1` equals `1.0`, and an instant equals itself in any offset.
impl PartialEq for Value<'_> {
    fn eq(&self, other: &Value<'_>) -> bool {
        self.compare(other) == Some(Ordering::Equal)
    }
}

/// Canonical JSON text of the value (not the lexeme it came with).
impl std::fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(v) => write!(f, "{v}"),
            Value::Int(v) => write!(f, "{v}"),
            Value::Decimal(v) => write!(f, "{v}"),
            Value::Date(v) => write!(f, "\"{v}\""),
            Value::DateTime(v) => write!(f, "\"{v}\""),
            Value::TimeOfDay(v) => write!(f, "\"{v}\""),
            Value::Guid(v) => write!(f, "\"{}\"", format_guid(v)),
            Value::String(v) => write_json_string(f, v),
            Value::StringList(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_str(",")?;
                    }
                    write_json_string(f, item)?;
                }
                f.write_str("]")
            }
            Value::GeoPoint(p) => write!(
                f,
                "{{\"type\":\"Point\",\"coordinates\":[{},{}]}}",
                p.longitude, p.latitude
            ),
            Value::Json(v) => f.write_str(v),
        }
    }
}

/// Writes `text` as a JSON string, quotes included.
pub fn write_json_string(out: &mut impl std::fmt::Write, text: &str) -> std::fmt::Result {
    out.write_char('"')?;
    // Nearly no text has anything to escape.
    if is_plain(text.as_bytes()) {
        out.write_str(text)?;
        return out.write_char('"');
    }
    let mut start = 0;
    for (i, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.write_str(text.get(start..i).unwrap_or_default())?;
        start = i + 1;
        match byte {
            b'"' => out.write_str("\\\"")?,
            b'\\' => out.write_str("\\\\")?,
            b'\n' => out.write_str("\\n")?,
            b'\r' => out.write_str("\\r")?,
            b'\t' => out.write_str("\\t")?,
            other => write!(out, "\\u{other:04x}")?,
        }
    }
    out.write_str(text.get(start..).unwrap_or_default())?;
    out.write_char('"')
}

/// Whether a JSON string needs no escape: eight bytes at a time.
fn is_plain(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // A byte's high bit is set where the byte is below 32, a quote or a backslash; it may be set
    // elsewhere in such a word, too.
    let special = |word: u64| {
        let zero = |word: u64| word.wrapping_sub(ONES) & !word;
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = zero(word ^ (ONES * u64::from(b'"')));
        (control | quote | zero(word ^ (ONES * u64::from(b'\\')))) & HIGHS
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut found = 0;
    for word in words {
        found |= special(u64::from_le_bytes(*word));
    }
    match bytes.last_chunk::<8>() {
        Some(last) if !rest.is_empty() => found |= special(u64::from_le_bytes(*last)),
        Some(_) => {}
        None => {
            let mut word = [b' '; 8];
            word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            found |= special(u64::from_le_bytes(word));
        }
    }
    found == 0
}

/// Lower-case hyphenated text of a GUID.
pub fn format_guid(bytes: &[u8; 16]) -> String {
    let mut out = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    out
}

/// Reads a GUID written `8-4-4-4-12` in either case.
pub fn parse_guid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut out = [0_u8; 16];
    let mut nibbles = 0_usize;
    for (i, &byte) in bytes.iter().enumerate() {
        if matches!(i, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = u8::try_from(char::from(byte).to_digit(16)?).ok()?;
        let slot = out.get_mut(nibbles / 2)?;
        *slot = (*slot << 4) | digit;
        nibbles += 1;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_an_escape_is_found_wherever_it_is() {
        for len in 0..20_usize {
            for place in 0..len {
                for byte in 0..128_u8 {
                    let mut text = vec![b'~'; len];
                    text[place] = byte;
                    let plain = byte >= 0x20 && byte != b'"' && byte != b'\\';
                    assert_eq!(is_plain(&text), plain, "{byte} at {place} of {len}");
                }
            }
        }
        assert!(is_plain("Gr\u{fc}n \u{1f3e1}, \u{7ff}\u{fffd}".as_bytes()));
    }

    #[test]
    fn equality_is_by_value() {
        let one = Value::Decimal(Decimal::parse("1.0").unwrap());
        assert_eq!(Value::Int(1), one);
        assert_ne!(Value::Int(2), one);
        let a = Value::DateTime(DateTime::parse("2020-01-01T12:00:00Z").unwrap());
        let b = Value::DateTime(DateTime::parse("2020-01-01T05:00:00.000-07:00").unwrap());
        assert_eq!(a, b);
        assert_ne!(Value::Null, Value::str(""));
    }

    #[test]
    fn guid_round_trip() {
        let text = "4fa95bdc-dd9b-c990-ebc0-162e675da6e1";
        assert_eq!(format_guid(&parse_guid(text).unwrap()), text);
        assert!(parse_guid("4fa95bdcdd9bc990ebc0162e675da6e1").is_none());
    }

    #[test]
    fn strings_are_escaped() {
        let text = Value::str("a\"b\\c\nd\u{1}é");
        assert_eq!(text.to_string(), "\"a\\\"b\\\\c\\nd\\u0001é\"");
    }
}
