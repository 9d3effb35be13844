//! One field of a stored record: a tag and a payload that give back both value and lexeme.
//!
//! A cell is encoded by what its JSON text *is*, not by what the schema says it should be, so
//! that nothing is lost when a feed drifts; [`Cell::value_as`] reads it as the declared type. A
//! number, date or timestamp takes its compact form only when that form prints the very text it
//! came with; otherwise the text is kept.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::codec::{Reader, put_bytes, put_i64, put_signed, put_u64};
use crate::schema::FieldType;
use crate::value::{
    Date, DateTime, Decimal, GeoPoint, TimeOfDay, Value, format_guid, parse_guid, write_json_string,
};

/// How a cell's payload is laid out. The numbers are part of the file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tag {
    Null = 0,
    False = 1,
    True = 2,
    /// Zigzag varint.
    Int = 3,
    /// Scale byte, zigzag varint mantissa.
    Decimal = 4,
    /// Zigzag varint of days since 1970-01-01.
    Date = 5,
    /// Form byte, zigzag varint of seconds, then fraction and offset as the form says.
    DateTime = 6,
    /// Digits byte, varint of nanoseconds.
    TimeOfDay = 7,
    /// 16 bytes, written in lower case.
    Guid = 8,
    /// Length and UTF-8, unescaped.
    String = 9,
    /// Count, then strings.
    StringList = 10,
    /// Length and JSON text without insignificant space: objects, and lists of other than strings.
    Json = 11,
    /// Length and the text of a number that has no compact form (`1e400`, `-0`, 40 digits).
    NumberText = 12,
}

impl Tag {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        use Tag as T;
        const ALL: [Tag; 13] = [
            T::Null,
            T::False,
            T::True,
            T::Int,
            T::Decimal,
            T::Date,
            T::DateTime,
            T::TimeOfDay,
            T::Guid,
            T::String,
            T::StringList,
            T::Json,
            T::NumberText,
        ];
        ALL.get(usize::from(byte)).copied()
    }

    /// Whether every cell of the tag can be read as `ty`.
    pub(crate) fn fits(self, ty: &FieldType) -> bool {
        use FieldType as F;
        matches!(
            (self, ty),
            (Tag::Null, _)
                | (
                    Tag::String,
                    F::String | F::Lookup(_) | F::StringList | F::LookupList(_)
                )
                | (Tag::StringList, F::StringList | F::LookupList(_))
                | (Tag::Int, F::Int | F::Decimal)
                | (Tag::Decimal, F::Decimal)
                | (Tag::True | Tag::False, F::Bool)
                | (Tag::Date, F::Date)
                | (Tag::DateTime, F::DateTime)
        )
    }
}

/// In a [`Tag::DateTime`] form byte: digits of fraction, whether `Z` was written, whether an
/// offset follows.
const FORM_DIGITS: u8 = 0x0f;
const FORM_ZULU: u8 = 0x10;

/// One field of a record, still encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell<'a> {
    pub(crate) tag: Tag,
    pub(crate) payload: &'a [u8],
}

impl<'a> Cell<'a> {
    /// Reads a cell; `None` if the bytes are not one.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let tag = Tag::from_byte(reader.u8()?)?;
        Cell::read_tagged(tag, reader)
    }

    /// Reads the payload behind a tag.
    fn read_tagged(tag: Tag, reader: &mut Reader<'a>) -> Option<Self> {
        let start = reader.position();
        match tag {
            Tag::Null | Tag::False | Tag::True => {}
            Tag::Int | Tag::Date => {
                reader.skip_varint()?;
            }
            Tag::Decimal | Tag::TimeOfDay => {
                reader.u8()?;
                reader.skip_varint()?;
            }
            Tag::DateTime => {
                let form = reader.u8()?;
                reader.skip_varint()?;
                if form & FORM_DIGITS > 0 {
                    reader.skip_varint()?;
                }
                if form & FORM_ZULU == 0 {
                    reader.skip_varint()?;
                }
            }
            Tag::Guid => {
                reader.take(16)?;
            }
            Tag::String | Tag::Json | Tag::NumberText => {
                reader.bytes()?;
            }
            Tag::StringList => {
                for _ in 0..reader.u64()? {
                    reader.bytes()?;
                }
            }
        }
        Some(Cell {
            tag,
            payload: reader.slice(start, reader.position())?,
        })
    }

    /// Appends the cell: its tag and payload.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.push(self.tag as u8);
        out.extend_from_slice(self.payload);
    }

    /// True for JSON `null`.
    pub fn is_null(self) -> bool {
        self.tag == Tag::Null
    }

    /// The value as it stands, without regard to the declared type.
    pub fn value(self) -> Value<'a> {
        self.natural().unwrap_or(Value::Null)
    }

    /// The instant, with the digits of its fraction and whether `Z` was written.
    pub(crate) fn read_datetime(self) -> Option<(DateTime, u8, bool)> {
        read_datetime(&mut Reader::new(self.payload))
    }

    fn natural(self) -> Option<Value<'a>> {
        let mut reader = Reader::new(self.payload);
        Some(match self.tag {
            Tag::Null => Value::Null,
            Tag::False => Value::Bool(false),
            Tag::True => Value::Bool(true),
            Tag::Int => Value::Int(reader.i64()?),
            Tag::Decimal => {
                let scale = reader.u8()?;
                Value::Decimal(Decimal::new(reader.signed()?, scale)?)
            }
            Tag::Date => Value::Date(Date(i32::try_from(reader.signed()?).ok()?)),
            Tag::DateTime => Value::DateTime(read_datetime(&mut reader)?.0),
            Tag::TimeOfDay => {
                reader.u8()?;
                Value::TimeOfDay(TimeOfDay(reader.u64()?))
            }
            Tag::Guid => Value::Guid(reader.take(16)?.try_into().ok()?),
            Tag::String => Value::str(reader.str()?),
            Tag::StringList => {
                let count = reader.u64()?;
                let mut items = Vec::new();
                for _ in 0..count {
                    items.push(Cow::Borrowed(reader.str()?));
                }
                Value::StringList(items)
            }
            Tag::Json => Value::Json(Cow::Borrowed(reader.str()?)),
            Tag::NumberText => {
                let text = reader.str()?;
                match Decimal::parse(text) {
                    Some(number) => Value::Decimal(number),
                    None => Value::Json(Cow::Borrowed(text)),
                }
            }
        })
    }

    /// The value read as `ty`, or as it stands when it does not fit (see [`Cell::fits`]).
    ///
    /// `"12"` in an integer field is 12; `84093` in a string field is `"84093"`; a comma-separated
    /// string in a multi-valued lookup is its members (OData JSON Format, 7.1: flags enumerations).
    pub fn value_as(self, ty: &FieldType) -> Value<'a> {
        let value = self.value();
        match (ty, &value) {
            (_, Value::Null)
            | (FieldType::Json, _)
            | (FieldType::String | FieldType::Lookup(_), Value::String(_))
            | (FieldType::Int | FieldType::Decimal, Value::Int(_) | Value::Decimal(_)) => value,
            _ => coerce(self, ty, &value).unwrap_or(value),
        }
    }

    /// Whether the value can be read as `ty`. What does not fit is kept as it came.
    pub fn fits(self, ty: &FieldType) -> bool {
        use FieldType as F;
        // Nearly every cell is of its declared type: say so without reading its value.
        if self.tag.fits(ty) {
            return true;
        }
        let value = self.value_as(ty);
        match (ty, &value) {
            (F::Int, Value::Decimal(d)) => d.to_i64().is_some(),
            // A lookup without a value comes as "" from several feeds; it is nobody's misfit.
            (_, Value::String(s)) if s.is_empty() => true,
            (_, Value::Null)
            | (F::Json, _)
            | (F::Int, Value::Int(_))
            | (F::Decimal, Value::Int(_) | Value::Decimal(_))
            | (F::Bool, Value::Bool(_))
            | (F::Date, Value::Date(_))
            | (F::DateTime, Value::DateTime(_))
            | (F::TimeOfDay, Value::TimeOfDay(_))
            | (F::Guid, Value::Guid(_))
            | (F::String | F::Lookup(_), Value::String(_))
            | (F::StringList | F::LookupList(_), Value::StringList(_))
            | (F::GeoPoint, Value::GeoPoint(_)) => true,
            _ => false,
        }
    }

    /// Appends the cell as JSON, as it was written by the feed (numbers keep their lexeme).
    pub fn write_json(self, out: &mut String) {
        let mut reader = Reader::new(self.payload);
        match self.tag {
            Tag::DateTime => {
                if let Some((at, digits, zulu)) = read_datetime(&mut reader) {
                    put_instant(out, at, digits, zulu);
                }
            }
            Tag::TimeOfDay => {
                if let (Some(digits), Some(nanos)) = (reader.u8(), reader.u64()) {
                    let _ = write!(out, "\"{}\"", TimeOfDay(nanos).format(digits));
                }
            }
            Tag::NumberText | Tag::Json => out.push_str(reader.str().unwrap_or("null")),
            Tag::String => {
                let _ = write_json_string(out, reader.str().unwrap_or_default());
            }
            Tag::Null => out.push_str("null"),
            Tag::False => out.push_str("false"),
            Tag::True => out.push_str("true"),
            Tag::Int => put_number_cell(out, &mut reader, 0),
            Tag::Decimal => {
                let scale = reader.u8().unwrap_or(0);
                put_number_cell(out, &mut reader, scale);
            }
            _ => {
                let _ = write!(out, "{}", self.value());
            }
        }
    }

    /// Appends the cell that is read, as [`write_json`](Cell::write_json) does; `None` if the bytes
    /// are not one.
    #[inline]
    pub(crate) fn write_next(reader: &mut Reader<'_>, out: &mut String) -> Option<()> {
        let tag = Tag::from_byte(reader.u8()?)?;
        match tag {
            // The commonest, without a second look.
            Tag::String => {
                let _ = write_json_string(out, reader.str()?);
            }
            Tag::Null => out.push_str("null"),
            Tag::False => out.push_str("false"),
            Tag::True => out.push_str("true"),
            Tag::Int => put_number_cell(out, reader, 0),
            Tag::Decimal => {
                let scale = reader.u8()?;
                put_number_cell(out, reader, scale);
            }
            Tag::DateTime => {
                let (at, digits, zulu) = read_datetime(reader)?;
                put_instant(out, at, digits, zulu);
            }
            _ => Cell::read_tagged(tag, reader)?.write_json(out),
        }
        Some(())
    }

    /// The cell as JSON text.
    pub fn to_json(self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }
}

/// Appends the number that is read.
fn put_number_cell(out: &mut String, reader: &mut Reader<'_>, scale: u8) {
    let mut wide = reader.clone();
    let number = match reader.i64() {
        Some(number) => i128::from(number),
        None => wide.signed().unwrap_or(0),
    };
    put_integer(out, number, scale);
}

/// Appends the digits of a number, `scale` of them behind the point.
pub(crate) fn put_integer(out: &mut String, number: i128, scale: u8) {
    let Ok(mut left) = u64::try_from(number.unsigned_abs()) else {
        let number = Decimal::new(number, scale);
        let _ = write!(out, "{}", number.unwrap_or(Decimal::from(0)));
        return;
    };
    if number < 0 {
        out.push('-');
    }
    // From the last digit on; 20 of them are the most, and 38 behind the point.
    let scale = scale.min(38);
    let mut digits = [b'0'; 64];
    let mut start = digits.len();
    let mut count = 0_u8;
    while left > 0 || count <= scale {
        if count == scale && scale > 0 {
            start -= 1;
            if let Some(place) = digits.get_mut(start) {
                *place = b'.';
            }
        }
        start -= 1;
        if let Some(place) = digits.get_mut(start) {
            *place = b'0' + u8::try_from(left % 10).unwrap_or(0);
        }
        left /= 10;
        count += 1;
    }
    let digits = digits.get(start..).unwrap_or_default();
    out.push_str(std::str::from_utf8(digits).unwrap_or_default());
}

/// Appends a timestamp as [`DateTime::format`] does, in quotes.
pub(crate) fn put_instant(out: &mut String, at: DateTime, digits: u8, zulu: bool) {
    let local = at.local_seconds();
    let day = i32::try_from(local.div_euclid(86_400)).unwrap_or(0);
    let (year, month, day) = Date(day).ymd();
    let second = u32::try_from(local.rem_euclid(86_400)).unwrap_or(0);
    if !((0..=9_999).contains(&year) && zulu && at.offset_minutes == 0) {
        let _ = write!(out, "\"{}\"", at.format(digits, zulu));
        return;
    }
    let year = u32::try_from(year).unwrap_or(0);
    let parts = [
        ('"', year / 100),
        ('\0', year % 100),
        ('-', month),
        ('-', day),
        ('T', second / 3_600),
        (':', second / 60 % 60),
        (':', second % 60),
    ];
    for (before, number) in parts {
        if before != '\0' {
            out.push(before);
        }
        for digit in [number / 10, number % 10] {
            out.push(char::from_digit(digit, 10).unwrap_or('0'));
        }
    }
    if digits > 0 {
        out.push('.');
        let mut left = at.nanos;
        let mut unit = 100_000_000;
        for _ in 0..digits.min(9) {
            out.push(char::from_digit(left / unit, 10).unwrap_or('0'));
            left %= unit;
            unit /= 10;
        }
    }
    out.push_str("Z\"");
}

fn read_datetime(reader: &mut Reader<'_>) -> Option<(DateTime, u8, bool)> {
    let form = reader.u8()?;
    let digits = form & FORM_DIGITS;
    let zulu = form & FORM_ZULU != 0;
    let seconds = reader.i64()?;
    let fraction = if digits > 0 { reader.u64()? } else { 0 };
    let offset = if zulu { 0 } else { reader.i64()? };
    let nanos = fraction.checked_mul(10_u64.checked_pow(9_u32.checked_sub(digits.into())?)?)?;
    let at = DateTime {
        seconds,
        nanos: u32::try_from(nanos).ok()?,
        offset_minutes: i16::try_from(offset).ok()?,
    };
    Some((at, digits, zulu))
}

fn coerce<'a>(cell: Cell<'a>, ty: &FieldType, value: &Value<'a>) -> Option<Value<'a>> {
    use FieldType as F;
    Some(match (ty, value) {
        (F::Int | F::Decimal, Value::String(s)) => {
            let number = Decimal::parse(s.trim())?;
            number.to_i64().map_or(Value::Decimal(number), Value::Int)
        }
        (F::Bool, Value::String(s)) if s.eq_ignore_ascii_case("true") => Value::Bool(true),
        (F::Bool, Value::String(s)) if s.eq_ignore_ascii_case("false") => Value::Bool(false),
        (F::Bool, Value::Int(0)) => Value::Bool(false),
        (F::Bool, Value::Int(1)) => Value::Bool(true),
        (F::Date, Value::String(s)) => Value::Date(Date::parse(s)?),
        (F::Date, Value::DateTime(at)) if at.seconds.rem_euclid(86_400) == 0 && at.nanos == 0 => {
            Value::Date(at.date())
        }
        (F::DateTime, Value::String(s)) => Value::DateTime(DateTime::parse(s)?),
        (F::DateTime, Value::Date(day)) => Value::DateTime(day.midnight()),
        (F::TimeOfDay, Value::String(s)) => Value::TimeOfDay(TimeOfDay::parse(s)?),
        (F::Guid, Value::String(s)) => Value::Guid(parse_guid(s)?),
        (F::StringList | F::LookupList(_), Value::String(s)) => Value::StringList(match s {
            Cow::Borrowed(text) => split_members(text).map(Cow::Borrowed).collect(),
            Cow::Owned(text) => split_members(text)
                .map(|m| Cow::Owned(m.to_owned()))
                .collect(),
        }),
        (F::GeoPoint, Value::Json(text)) => Value::GeoPoint(parse_point(text)?),
        (F::String | F::Lookup(_), Value::StringList(_) | Value::Json(_)) => return None,
        (F::String | F::Lookup(_), _) => {
            let text = cell.to_json();
            let bare = text
                .strip_prefix('"')
                .and_then(|t| t.strip_suffix('"'))
                .unwrap_or(&text);
            Value::String(Cow::Owned(bare.to_owned()))
        }
        _ => return None,
    })
}

/// The members of a lookup list that came as one string.
pub(crate) fn split_members(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    let parts = std::iter::from_fn(move || {
        let text = rest?;
        // Shorter than what a search is made for.
        let comma = text.bytes().position(|byte| byte == b',');
        let (part, behind) = match comma {
            Some(at) => (text.get(..at), text.get(at + 1..)),
            None => (Some(text), None),
        };
        rest = behind;
        part
    });
    parts.map(str::trim).filter(|m| !m.is_empty())
}

/// Reads a GeoJSON `Point`.
fn parse_point(text: &str) -> Option<GeoPoint> {
    #[derive(serde::Deserialize)]
    struct Point {
        r#type: String,
        coordinates: Vec<f64>,
    }
    let point: Point = serde_json::from_str(text).ok()?;
    let (longitude, latitude) = (*point.coordinates.first()?, *point.coordinates.get(1)?);
    (point.r#type == "Point").then_some(GeoPoint {
        longitude,
        latitude,
    })
}

/// Appends a JSON number as a cell.
pub(crate) fn put_number(out: &mut Vec<u8>, text: &str) {
    if put_short_number(out, text.as_bytes()).is_none() {
        put_long_number(out, text);
    }
}

fn put_long_number(out: &mut Vec<u8>, text: &str) {
    if let Ok(value) = text.parse::<i64>()
        && text != "-0"
    {
        out.push(Tag::Int as u8);
        put_signed(out, i128::from(value));
        return;
    }
    match Decimal::parse(text) {
        Some(number) if is_plain(text, number) => {
            out.push(Tag::Decimal as u8);
            out.push(number.scale());
            put_signed(out, number.mantissa());
        }
        _ => {
            out.push(Tag::NumberText as u8);
            put_bytes(out, text.as_bytes());
        }
    }
}

/// Appends a number of at most 18 digits that has a compact form; else appends nothing.
fn put_short_number(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.len() > 18 || !digits.first()?.is_ascii_digit() || !digits.last()?.is_ascii_digit() {
        return None;
    }
    let mut mantissa = 0_i64;
    let mut point = None;
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => mantissa = mantissa * 10 + i64::from(byte - b'0'),
            b'.' if point.is_none() => point = Some(at),
            _ => return None,
        }
    }
    if negative {
        // A negative zero has no compact form.
        if mantissa == 0 {
            return None;
        }
        mantissa = -mantissa;
    }
    match point {
        None => out.push(Tag::Int as u8),
        Some(at) => {
            let scale = u8::try_from(digits.len() - 1 - at).ok()?;
            out.extend_from_slice(&[Tag::Decimal as u8, scale]);
        }
    }
    put_i64(out, mantissa);
    Some(())
}

/// Whether the number prints as it was written: no exponent, and no negative zero.
fn is_plain(text: &str, number: Decimal) -> bool {
    let negative_zero = number.mantissa() == 0 && text.starts_with('-');
    !negative_zero && !text.bytes().any(|b| matches!(b, b'e' | b'E'))
}

/// Appends a JSON string (unescaped) as a cell, compactly where `ty` is a date, a time or a GUID.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str, ty: Option<&FieldType>) {
    let compact = match ty {
        Some(FieldType::Date) => put_date(out, text),
        Some(FieldType::DateTime) => put_datetime(out, text),
        Some(FieldType::TimeOfDay) => put_time(out, text),
        Some(FieldType::Guid) => put_guid(out, text),
        // No declared type: a text that reads as a date or a timestamp is one.
        None => put_date(out, text).or_else(|| put_datetime(out, text)),
        Some(_) => None,
    };
    if compact.is_none() {
        out.push(Tag::String as u8);
        put_bytes(out, text.as_bytes());
    }
}

fn put_date(out: &mut Vec<u8>, text: &str) -> Option<()> {
    let day = Date::parse(text)?;
    out.push(Tag::Date as u8);
    put_signed(out, i128::from(day.0));
    Some(())
}

fn put_datetime(out: &mut Vec<u8>, text: &str) -> Option<()> {
    // The shortest is `2020-07-30T08:55Z`, which has no compact form.
    if !(20..=35).contains(&text.len()) {
        return None;
    }
    put_plain_datetime(out, text.as_bytes()).or_else(|| put_any_datetime(out, text))
}

fn put_any_datetime(out: &mut Vec<u8>, text: &str) -> Option<()> {
    let at = DateTime::parse(text)?;
    let zulu = text.ends_with('Z');
    let fraction = text.get(19..)?.strip_prefix('.').unwrap_or_default();
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    let digits = u8::try_from(digits).ok()?;
    if at.format(digits, zulu) != text {
        return None;
    }
    out.push(Tag::DateTime as u8);
    out.push(digits | if zulu { FORM_ZULU } else { 0 });
    put_signed(out, i128::from(at.seconds));
    if digits > 0 {
        put_u64(out, u64::from(at.nanos) / 10_u64.pow(9 - u32::from(digits)));
    }
    if !zulu {
        put_signed(out, i128::from(at.offset_minutes));
    }
    Some(())
}

/// Appends `2020-07-30T08:55:00.123Z` with 0 to 9 digits of fraction; else appends nothing.
fn put_plain_datetime(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let (clock, rest) = text.get(10..)?.split_first_chunk::<9>()?;
    let [b'T', hour @ .., b':', _, _, b':', _, _] = clock else {
        return None;
    };
    let (minute, second) = (clock.get(4..6)?, clock.get(7..9)?);
    let fraction = match rest {
        [b'Z'] => &[],
        [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) => digits,
        _ => return None,
    };
    let (hour, minute, second) = (pair(hour)?, pair(minute)?, pair(second)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut nanos = 0_u64;
    for byte in fraction {
        nanos = nanos * 10 + u64::from(char::from(*byte).to_digit(10)?);
    }
    let day = Date::parse(std::str::from_utf8(text.get(..10)?).ok()?)?;
    let seconds = i64::from(day.0) * 86_400 + hour * 3_600 + minute * 60 + second;
    let digits = u8::try_from(fraction.len()).ok()?;
    out.extend_from_slice(&[Tag::DateTime as u8, digits | FORM_ZULU]);
    put_i64(out, seconds);
    if digits > 0 {
        put_u64(out, nanos);
    }
    Some(())
}

fn pair(text: &[u8]) -> Option<i64> {
    let [high, low] = text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(10).map(i64::from);
    Some(digit(*high)? * 10 + digit(*low)?)
}

fn put_time(out: &mut Vec<u8>, text: &str) -> Option<()> {
    let time = TimeOfDay::parse(text)?;
    let digits = u8::try_from(text.len().saturating_sub(9)).ok()?;
    if time.format(digits) != text {
        return None;
    }
    out.push(Tag::TimeOfDay as u8);
    out.push(digits);
    put_u64(out, time.0);
    Some(())
}

fn put_guid(out: &mut Vec<u8>, text: &str) -> Option<()> {
    let guid = parse_guid(text)?;
    if format_guid(&guid) != text {
        return None;
    }
    out.push(Tag::Guid as u8);
    out.extend_from_slice(&guid);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(&mut out, text);
        out
    }

    fn string(text: &str, ty: Option<&FieldType>) -> Vec<u8> {
        let mut out = Vec::new();
        put_string(&mut out, text, ty);
        out
    }

    proptest! {
        #[test]
        fn the_short_way_to_a_number_is_the_long_one(
            text in "-?(0|[1-9][0-9]{0,19})(\\.[0-9]{1,8})?",
        ) {
            let mut short = Vec::new();
            if put_short_number(&mut short, text.as_bytes()).is_some() {
                let mut long = Vec::new();
                put_long_number(&mut long, &text);
                prop_assert_eq!(short, long);
            } else {
                prop_assert!(short.is_empty());
            }
        }

        #[test]
        fn the_short_way_to_an_instant_is_the_long_one(
            day in "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]",
            clock in "[T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?(Z|\\+00:00)",
        ) {
            let text = day + &clock;
            let mut short = Vec::new();
            if put_plain_datetime(&mut short, text.as_bytes()).is_some() {
                let mut long = Vec::new();
                prop_assert!(put_any_datetime(&mut long, &text).is_some());
                prop_assert_eq!(short, long);
            } else {
                prop_assert!(short.is_empty());
            }
        }
    }

    fn cell(bytes: &[u8]) -> Cell<'_> {
        let mut reader = Reader::new(bytes);
        let cell = Cell::read(&mut reader).unwrap();
        assert!(reader.is_empty());
        cell
    }

    #[test]
    fn numbers_keep_their_lexeme() {
        for text in [
            "0",
            "-0",
            "-0.0",
            "2950000.0",
            "350000.00",
            "1e400",
            "1E5",
            "9007199254740993",
            "123456789012345678901234567890",
            "1234567890123456789012345678901234567890123",
            "0.184",
            "-12",
            "9223372036854775808",
            "0.10",
        ] {
            assert_eq!(cell(&number(text)).to_json(), text);
        }
    }

    #[test]
    fn a_value_reads_as_its_declared_type() {
        let twelve = string("12", Some(&FieldType::Int));
        assert_eq!(cell(&twelve).value_as(&FieldType::Int), Value::Int(12));
        assert_eq!(cell(&twelve).to_json(), "\"12\"");
        let zip = number("84093");
        assert_eq!(cell(&zip).value_as(&FieldType::String), Value::str("84093"));
        let tbd = string("TBD", Some(&FieldType::Date));
        assert!(!cell(&tbd).fits(&FieldType::Date));
        assert!(!cell(&number("1e400")).fits(&FieldType::Decimal));
        assert!(!cell(&number("1.1")).fits(&FieldType::Int));
        assert!(cell(&number("12.0")).fits(&FieldType::Int));
        let flags = string(
            "Natural Gas,Forced Air",
            Some(&FieldType::LookupList("H".into())),
        );
        assert_eq!(
            cell(&flags).value_as(&FieldType::StringList),
            Value::StringList(vec!["Natural Gas".into(), "Forced Air".into()])
        );
    }

    #[test]
    fn timestamps_keep_their_lexeme() {
        for text in [
            "2020-10-22T21:27:44.780Z",
            "2020-10-22T21:27:44Z",
            "2020-10-22T21:27:44.0Z",
            "2020-10-22T21:27:44+00:00",
            "2020-10-22T21:27:44.123456789-07:00",
            "2020-10-22 21:27:44Z",
            "2020-10-22T21:27Z",
            "2016-12-31T23:59:60Z",
        ] {
            let bytes = string(text, Some(&FieldType::DateTime));
            assert_eq!(cell(&bytes).to_json(), format!("\"{text}\""));
            assert!(cell(&bytes).fits(&FieldType::DateTime), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_number_lexeme_round_trips(
            text in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?"
        ) {
            prop_assert_eq!(cell(&number(&text)).to_json(), text);
        }

        #[test]
        fn any_string_round_trips(text in "\\PC*") {
            let bytes = string(&text, None);
            let json = cell(&bytes).to_json();
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(cell) = Cell::read(&mut Reader::new(&bytes)) {
                let _ = cell.to_json();
                for ty in [FieldType::Int, FieldType::DateTime, FieldType::GeoPoint] {
                    let _ = cell.value_as(&ty);
                }
            }
        }
    }
}
