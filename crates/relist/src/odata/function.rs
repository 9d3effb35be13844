//! The functions of a filter: names, parameters, results and how they are computed.

use super::text::nearest;
use crate::value::{DateTime, Decimal, Value};

/// A function of strings, dates or numbers. Geography has its own node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Contains,
    StartsWith,
    EndsWith,
    IndexOf,
    Length,
    Substring,
    ToLower,
    ToUpper,
    Trim,
    Concat,
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    FractionalSeconds,
    TotalOffsetMinutes,
    Date,
    Time,
    Now,
    MinDateTime,
    MaxDateTime,
    Round,
    Floor,
    Ceiling,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Param {
    String,
    Int,
    Number,
    /// A date or a timestamp.
    Day,
    /// A time of day or a timestamp.
    Clock,
    Instant,
}

impl Param {
    /// What the parameter takes, for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Param::String => "a string",
            Param::Int => "a whole number",
            Param::Number => "a number",
            Param::Day => "a date or a timestamp",
            Param::Clock => "a timestamp or a time of day",
            Param::Instant => "a timestamp",
        }
    }
}

/// What a function gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    Bool,
    Int,
    Number,
    String,
    Date,
    Time,
    Instant,
}

/// The functions by name, with their parameters (the last of `substring` may be left out).
const FUNCTIONS: [(&str, Function, &[Param], Gives); 26] = {
    use Function as F;
    use Param as P;
    [
        (
            "contains",
            F::Contains,
            &[P::String, P::String],
            Gives::Bool,
        ),
        (
            "startswith",
            F::StartsWith,
            &[P::String, P::String],
            Gives::Bool,
        ),
        (
            "endswith",
            F::EndsWith,
            &[P::String, P::String],
            Gives::Bool,
        ),
        ("indexof", F::IndexOf, &[P::String, P::String], Gives::Int),
        ("length", F::Length, &[P::String], Gives::Int),
        (
            "substring",
            F::Substring,
            &[P::String, P::Int, P::Int],
            Gives::String,
        ),
        ("tolower", F::ToLower, &[P::String], Gives::String),
        ("toupper", F::ToUpper, &[P::String], Gives::String),
        ("trim", F::Trim, &[P::String], Gives::String),
        ("concat", F::Concat, &[P::String, P::String], Gives::String),
        ("year", F::Year, &[P::Day], Gives::Int),
        ("month", F::Month, &[P::Day], Gives::Int),
        ("day", F::Day, &[P::Day], Gives::Int),
        ("hour", F::Hour, &[P::Clock], Gives::Int),
        ("minute", F::Minute, &[P::Clock], Gives::Int),
        ("second", F::Second, &[P::Clock], Gives::Int),
        (
            "fractionalseconds",
            F::FractionalSeconds,
            &[P::Clock],
            Gives::Number,
        ),
        (
            "totaloffsetminutes",
            F::TotalOffsetMinutes,
            &[P::Instant],
            Gives::Int,
        ),
        ("date", F::Date, &[P::Day], Gives::Date),
        ("time", F::Time, &[P::Clock], Gives::Time),
        ("now", F::Now, &[], Gives::Instant),
        ("mindatetime", F::MinDateTime, &[], Gives::Instant),
        ("maxdatetime", F::MaxDateTime, &[], Gives::Instant),
        ("round", F::Round, &[P::Number], Gives::Number),
        ("floor", F::Floor, &[P::Number], Gives::Number),
        ("ceiling", F::Ceiling, &[P::Number], Gives::Number),
    ]
};

/// The geography functions.
pub(super) const GEO_FUNCTIONS: [&str; 3] = ["geo.distance", "geo.intersects", "geo.length"];

/// A function and its signature.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signature {
    pub(super) name: &'static str,
    pub(super) function: Function,
    pub(super) params: &'static [Param],
    pub(super) gives: Gives,
}

impl Signature {
    /// The function of that name, in lower case.
    pub(super) fn named(name: &str) -> Option<Signature> {
        let found = FUNCTIONS.iter().find(|(known, ..)| *known == name)?;
        let (name, function, params, gives) = *found;
        Some(Signature {
            name,
            function,
            params,
            gives,
        })
    }

    /// The fewest arguments it takes.
    pub(super) fn least(&self) -> usize {
        match self.function {
            Function::Substring => 2,
            _ => self.params.len(),
        }
    }
}

/// What to write instead of an unknown function.
pub(super) fn hint_for(wrong: &str) -> Option<String> {
    let lower = wrong.to_ascii_lowercase();
    let hint = match lower.as_str() {
        "substringof" => "write contains(Field,'text')",
        "any" | "all" => "write Collection/any(x:x eq 1)",
        "matchespattern" => "write contains, startswith or endswith",
        "totalseconds" => "durations are not supported",
        "replace" => "replace is of OData 2",
        _ => {
            let known = FUNCTIONS.iter().map(|(name, ..)| *name);
            let name = nearest(&lower, known.chain(GEO_FUNCTIONS))?;
            return Some(format!("did you mean {name}?"));
        }
    };
    Some(hint.to_owned())
}

/// The least timestamp: 0001-01-01T00:00:00Z.
pub(super) const MIN_INSTANT: DateTime = DateTime {
    seconds: -62_135_596_800,
    nanos: 0,
    offset_minutes: 0,
};

/// The greatest timestamp: 9999-12-31T23:59:59.999999999Z.
pub(super) const MAX_INSTANT: DateTime = DateTime {
    seconds: 253_402_300_799,
    nanos: 999_999_999,
    offset_minutes: 0,
};

/// Computes a function; null where an argument is null or not of the type it takes.
pub(super) fn call(function: Function, args: [Value<'_>; 3]) -> Value<'_> {
    let [first, second, third] = args;
    let result = match function {
        Function::Contains | Function::StartsWith | Function::EndsWith | Function::IndexOf => {
            search(function, &first, &second)
        }
        Function::Length => first.as_str().map(|s| count(s.chars().count())),
        Function::Substring => substring(first, &second, &third),
        Function::ToLower | Function::ToUpper | Function::Trim => change_text(function, first),
        Function::Concat => match (first.as_str(), second.as_str()) {
            (Some(a), Some(b)) => Some(Value::String(format!("{a}{b}").into())),
            _ => None,
        },
        Function::Round | Function::Floor | Function::Ceiling => round(function, &first),
        Function::MinDateTime => Some(Value::DateTime(MIN_INSTANT)),
        Function::MaxDateTime => Some(Value::DateTime(MAX_INSTANT)),
        // `now()` is folded when the filter is bound.
        Function::Now => None,
        _ => part_of_time(function, &first),
    };
    result.unwrap_or(Value::Null)
}

fn count(n: usize) -> Value<'static> {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn search(function: Function, text: &Value<'_>, part: &Value<'_>) -> Option<Value<'static>> {
    let (text, part) = (text.as_str()?, part.as_str()?);
    Some(match function {
        Function::Contains => Value::Bool(text.contains(part)),
        Function::StartsWith => Value::Bool(text.starts_with(part)),
        Function::EndsWith => Value::Bool(text.ends_with(part)),
        _ => match text.find(part) {
            Some(at) => count(text.get(..at)?.chars().count()),
            None => Value::Int(-1),
        },
    })
}

/// Positions are in characters from 0; a negative start counts from the end (OData 4.01 URL
/// Conventions, 5.1.1.7.2), a negative length is none.
fn substring<'e>(text: Value<'e>, start: &Value<'_>, length: &Value<'_>) -> Option<Value<'e>> {
    let Value::String(text) = text else {
        return None;
    };
    let start = start.as_decimal()?.to_i64()?;
    let length = match length {
        Value::Null => None,
        other => Some(other.as_decimal()?.to_i64()?),
    };
    let skip = if start < 0 {
        let total = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        total.saturating_add(start).max(0)
    } else {
        start
    };
    let byte_at = |s: &str, chars: i64| {
        let chars = usize::try_from(chars).unwrap_or(0);
        s.char_indices().nth(chars).map_or(s.len(), |(at, _)| at)
    };
    let from = byte_at(&text, skip);
    let rest = text.get(from..)?;
    let len = length.map_or(rest.len(), |n| byte_at(rest, n));
    Some(Value::String(match text {
        std::borrow::Cow::Borrowed(s) => s.get(from..from + len)?.into(),
        std::borrow::Cow::Owned(s) => s.get(from..from + len)?.to_owned().into(),
    }))
}

fn change_text(function: Function, value: Value<'_>) -> Option<Value<'_>> {
    let Value::String(text) = value else {
        return None;
    };
    let upper = |c: char| c.is_uppercase() || (!c.is_ascii() && c.is_alphabetic());
    let lower = |c: char| c.is_lowercase() || (!c.is_ascii() && c.is_alphabetic());
    let changed = match function {
        Function::ToLower if text.contains(upper) => text.to_lowercase(),
        Function::ToUpper if text.contains(lower) => text.to_uppercase(),
        Function::Trim if text.trim().len() < text.len() => text.trim().to_owned(),
        // Nothing to change: no copy.
        _ => return Some(Value::String(text)),
    };
    Some(Value::String(changed.into()))
}

fn round(function: Function, value: &Value<'_>) -> Option<Value<'static>> {
    if let Value::Int(whole) = value {
        return Some(Value::Int(*whole));
    }
    let value = value.as_decimal()?;
    let rounded = match function {
        Function::Floor => value.floor(),
        Function::Ceiling => value.ceiling(),
        _ => value.round(),
    };
    Some(Value::Decimal(rounded))
}

/// A part of a date, timestamp or time of day, in the offset the timestamp was written in (OData
/// 4.01 URL Conventions, 5.1.1.8).
fn part_of_time(function: Function, value: &Value<'_>) -> Option<Value<'static>> {
    let (date, time, offset) = match value {
        Value::Date(date) => (Some(*date), None, None),
        Value::TimeOfDay(time) => (None, Some(*time), None),
        Value::DateTime(instant) => {
            let offset = i64::from(instant.offset_minutes);
            let local = DateTime {
                seconds: instant.seconds.checked_add(offset * 60)?,
                nanos: instant.nanos,
                offset_minutes: 0,
            };
            (Some(local.date()), Some(local.time()), Some(offset))
        }
        _ => return None,
    };
    Some(match function {
        Function::Date => Value::Date(date?),
        Function::Time => Value::TimeOfDay(time?),
        Function::Year => Value::Int(date?.ymd().0.into()),
        Function::Month => Value::Int(date?.ymd().1.into()),
        Function::Day => Value::Int(date?.ymd().2.into()),
        Function::Hour => Value::Int(time?.hms().0.into()),
        Function::Minute => Value::Int(time?.hms().1.into()),
        Function::Second => Value::Int(time?.hms().2.into()),
        Function::FractionalSeconds => Value::Decimal(Decimal::new(time?.hms().3.into(), 9)?),
        Function::TotalOffsetMinutes => Value::Int(offset?),
        _ => return None,
    })
}
