//! Values of the reference evaluator, and how they are read from JSON and from literals.

use relist::odata::{Geography, Literal, Shape};
use relist::schema::FieldType;
use relist::value::{Decimal, format_guid};
use serde_json::Value as Json;

/// A value with what is known of its type.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub(super) value: V,
    pub(super) ty: T,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum T {
    Field(FieldType),
    /// A nested record, or a collection of them, of the named resource.
    Nested(String),
    /// An enumeration literal of the named type.
    Member(String),
    /// Nested JSON, null, shapes.
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum V {
    Null,
    Bool(bool),
    Number(Fraction),
    /// Days since 1970.
    Day(i64),
    /// Nanoseconds since 1970 UTC, minutes east.
    Instant(i128, i64),
    /// Nanoseconds since midnight.
    Time(i128),
    Guid(String),
    Text(String),
    List(Vec<String>),
    Point(f64, f64),
    Shape(Geography),
    Json(Json),
}

impl Typed {
    pub(super) fn of(value: V, ty: FieldType) -> Self {
        Typed {
            value,
            ty: T::Field(ty),
        }
    }

    pub(super) fn unknown(value: V) -> Self {
        let ty = T::Unknown;
        Typed { value, ty }
    }

    pub(super) fn bool(truth: Option<bool>) -> Self {
        Typed::of(truth.map_or(V::Null, V::Bool), FieldType::Bool)
    }

    pub(super) fn truth(&self) -> Option<bool> {
        match self.value {
            V::Bool(truth) => Some(truth),
            _ => None,
        }
    }

    pub(super) fn is_decimal(&self) -> bool {
        self.ty == T::Field(FieldType::Decimal)
    }
}

/// A fraction in lowest terms with a positive denominator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fraction {
    pub(super) over: i128,
    pub(super) under: i128,
}

impl Fraction {
    pub(super) fn of(over: i128, under: i128) -> Self {
        let (mut a, mut b) = (over.abs(), under.abs());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let by = a.max(1) * under.signum();
        Fraction {
            over: over / by,
            under: under / by,
        }
    }

    pub(super) fn whole(n: i128) -> Self {
        Fraction::of(n, 1)
    }

    pub(super) fn decimal(value: Decimal) -> Self {
        Fraction::of(value.mantissa(), 10_i128.pow(value.scale().into()))
    }

    /// To twelve digits after the point, halves away from zero: how the library divides.
    pub(super) fn twelve_digits(self) -> Self {
        let unit = 1_000_000_000_000;
        let half = (2 * self.over.abs() * unit + self.under) / (2 * self.under);
        Fraction::of(half * self.over.signum(), unit)
    }
}

pub(super) fn literal_value(literal: &Literal) -> Typed {
    match literal {
        Literal::Null => Typed::unknown(V::Null),
        Literal::Bool(truth) => Typed::bool(Some(*truth)),
        Literal::Number(n) => {
            let whole = n.scale() == 0;
            let ty = if whole {
                FieldType::Int
            } else {
                FieldType::Decimal
            };
            Typed::of(V::Number(Fraction::decimal(*n)), ty)
        }
        Literal::Date(date) => Typed::of(V::Day(date.0.into()), FieldType::Date),
        Literal::DateTime(at) => {
            let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
            let value = V::Instant(nanos, at.offset_minutes.into());
            Typed::of(value, FieldType::DateTime)
        }
        Literal::TimeOfDay(time) => Typed::of(V::Time(time.0.into()), FieldType::TimeOfDay),
        Literal::Guid(bytes) => Typed::of(V::Guid(format_guid(bytes)), FieldType::Guid),
        Literal::String(text) => Typed::of(V::Text(text.clone()), FieldType::String),
        Literal::Enum { ty, members } => Typed {
            value: V::Text(members.clone()),
            ty: T::Member(ty.clone()),
        },
        Literal::Geography(geography) => Typed::unknown(match geography.shape {
            Shape::Point(p) if geography.srid.is_none() => V::Point(p.longitude, p.latitude),
            _ => V::Shape(geography.clone()),
        }),
    }
}

/// A JSON value as it shows itself.
pub(super) fn plain(json: &Json) -> V {
    match json {
        Json::Null => V::Null,
        Json::Bool(truth) => V::Bool(*truth),
        Json::Number(n) => {
            let number = Decimal::parse(&n.to_string()).expect("test numbers are short");
            V::Number(Fraction::decimal(number))
        }
        Json::String(text) => V::Text(text.clone()),
        nested => V::Json(nested.clone()),
    }
}

/// A JSON value read as a declared type; as it shows itself where it does not fit.
pub(super) fn declared(json: &Json, ty: &FieldType) -> V {
    let read = match (json, ty) {
        (Json::String(text), FieldType::Date) => calendar(text).map(V::Day),
        (Json::String(text), FieldType::DateTime) => instant(text),
        (Json::String(text), FieldType::TimeOfDay) => clock(text).map(V::Time),
        (Json::String(text), FieldType::Guid) => {
            let plain: String = text.chars().filter(|c| *c != '-').collect();
            let hex = plain.len() == 32 && plain.chars().all(|c| c.is_ascii_hexdigit());
            hex.then(|| V::Guid(text.to_lowercase()))
        }
        (Json::Array(items), FieldType::StringList | FieldType::LookupList(_)) => {
            let texts: Option<Vec<_>> = items.iter().map(|i| i.as_str()).collect();
            texts.map(|t| V::List(t.into_iter().map(str::to_owned).collect()))
        }
        (Json::Object(object), FieldType::GeoPoint) => {
            let pair = object.get("coordinates").and_then(Json::as_array);
            let number = |i: usize| pair?.get(i)?.as_f64();
            number(0).zip(number(1)).map(|(x, y)| V::Point(x, y))
        }
        _ => None,
    };
    read.unwrap_or_else(|| plain(json))
}

pub(super) const NANOS_A_DAY: i128 = 86_400_000_000_000;

pub(super) fn leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

pub(super) fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01, counted year by year and month by month.
pub(super) fn day(year: i64, month: i64, day: i64) -> i64 {
    let length = |y: i64| if leap(y) { 366 } else { 365 };
    let years: i64 = if year >= 1970 {
        (1970..year).map(length).sum()
    } else {
        -(year..1970).map(length).sum::<i64>()
    };
    years + (1..month).map(|m| days_in(year, m)).sum::<i64>() + day - 1
}

/// Year, month and day of a day counted from 1970-01-01.
pub(super) fn parts_of_day(mut days: i64) -> (i64, i64, i64) {
    let mut year = 1970;
    while days < 0 {
        year -= 1;
        days += if leap(year) { 366 } else { 365 };
    }
    while days >= if leap(year) { 366 } else { 365 } {
        days -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    let mut month = 1;
    while days >= days_in(year, month) {
        days -= days_in(year, month);
        month += 1;
    }
    (year, month, days + 1)
}

pub(super) fn numbers(text: &str, by: char) -> Option<Vec<i64>> {
    let parts = text.split(by);
    parts
        .map(|p| p.parse().ok().filter(|n: &i64| *n >= 0))
        .collect()
}

pub(super) fn calendar(text: &str) -> Option<i64> {
    match numbers(text, '-')?.as_slice() {
        [y, m, d] if (1..=12).contains(m) && (1..=days_in(*y, *m)).contains(d) => {
            Some(day(*y, *m, *d))
        }
        _ => None,
    }
}

pub(super) fn clock(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = numbers(whole, ':')?;
    if parts.len() == 2 {
        parts.push(0);
    }
    let [h, m, s] = parts.as_slice() else {
        return None;
    };
    let nanos: i128 = format!("{fraction:0<9}").parse().ok()?;
    Some((i128::from(h * 3_600 + m * 60 + s)) * 1_000_000_000 + nanos)
}

pub(super) fn instant(text: &str) -> Option<V> {
    let (date, rest) = text.split_once('T')?;
    let (time, minutes) = if let Some(time) = rest.strip_suffix('Z') {
        (time, 0)
    } else {
        let at = rest.rfind(['+', '-'])?;
        let offset = numbers(&rest[at + 1..], ':')?;
        let sign = if rest[at..].starts_with('-') { -1 } else { 1 };
        (&rest[..at], sign * (offset[0] * 60 + offset[1]))
    };
    let local = i128::from(calendar(date)?) * NANOS_A_DAY + clock(time)?;
    Some(V::Instant(
        local - i128::from(minutes) * 60_000_000_000,
        minutes,
    ))
}
