//! Dates, instants and times of day.

use std::cmp::Ordering;
use std::fmt::Write as _;

use chrono::{Datelike, NaiveDate};

/// An instant the *store* observed: microseconds since 1970-01-01T00:00:00Z.
///
/// The library never reads a clock; the caller says what time it is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The same instant as a [`DateTime`] in UTC.
    pub fn to_datetime(self) -> DateTime {
        let micros = self.0.rem_euclid(1_000_000);
        DateTime {
            seconds: self.0.div_euclid(1_000_000),
            nanos: u32::try_from(micros * 1_000).unwrap_or(0),
            offset_minutes: 0,
        }
    }
}

/// Prints as RFC 3339 in UTC.
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_datetime().fmt(f)
    }
}

/// A calendar day, as days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(pub i32);

impl Date {
    /// Makes a date from its parts; `None` if there is no such day.
    pub fn from_ymd(year: i32, month: u32, day: u32) -> Option<Self> {
        let date = NaiveDate::from_ymd_opt(year, month, day)?;
        Some(Date(date.num_days_from_ce() - EPOCH_DAYS_FROM_CE))
    }

    /// Year, month and day.
    pub fn ymd(self) -> (i32, u32, u32) {
        self.0
            .checked_add(EPOCH_DAYS_FROM_CE)
            .and_then(NaiveDate::from_num_days_from_ce_opt)
            .map_or((0, 1, 1), |d| (d.year(), d.month(), d.day()))
    }

    /// Reads `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 10 || bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
            return None;
        }
        let year = i32::try_from(digits(text.get(0..4)?)?).ok()?;
        let (month, day) = (digits(text.get(5..7)?)?, digits(text.get(8..10)?)?);
        Date::from_ymd(year, month, day)
    }

    /// Midnight UTC of the day.
    pub fn midnight(self) -> DateTime {
        DateTime {
            seconds: i64::from(self.0) * 86_400,
            nanos: 0,
            offset_minutes: 0,
        }
    }
}

/// Prints as `YYYY-MM-DD`.
impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = self.ymd();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// An instant, with the offset it was written in. Compared as an instant.
#[derive(Debug, Clone, Copy)]
pub struct DateTime {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
    /// Minutes east of UTC in which it was written.
    pub offset_minutes: i16,
}

impl DateTime {
    /// Reads an RFC 3339 timestamp with 0-9 digits of fraction and an explicit zone.
    ///
    /// A second of 60 is read as the first instant of the next minute. A timestamp without a zone
    /// is `None`: it names no instant.
    pub fn parse(text: &str) -> Option<Self> {
        let date = Date::parse(text.get(0..10)?)?;
        if !matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' ')) {
            return None;
        }
        let rest = text.get(11..)?;
        let zone_at = rest.find(['Z', 'z', '+', '-'])?;
        let (clock, zone) = rest.split_at(zone_at);
        let (second_of_day, nanos) = parse_clock(clock, 60)?;
        let offset_minutes = parse_zone(zone)?;
        let seconds =
            i64::from(date.0) * 86_400 + i64::from(second_of_day) - i64::from(offset_minutes) * 60;
        Some(DateTime {
            seconds,
            nanos,
            offset_minutes,
        })
    }

    /// Microseconds since the epoch, rounded down; `None` beyond about the year 294,000.
    pub fn to_timestamp(self) -> Option<Timestamp> {
        let micros = self.seconds.checked_mul(1_000_000)?;
        micros
            .checked_add(i64::from(self.nanos / 1_000))
            .map(Timestamp)
    }

    /// The day in UTC.
    pub fn date(self) -> Date {
        Date(i32::try_from(self.seconds.div_euclid(86_400)).unwrap_or(0))
    }

    /// The time of day in UTC.
    pub fn time(self) -> TimeOfDay {
        let seconds = u64::try_from(self.seconds.rem_euclid(86_400)).unwrap_or(0);
        TimeOfDay(seconds * 1_000_000_000 + u64::from(self.nanos))
    }

    /// Seconds since 1970-01-01T00:00:00 on a clock that shows its own offset. No timestamp that
    /// was parsed comes near the ends, at which it stays.
    pub(crate) fn local_seconds(self) -> i64 {
        let offset = i64::from(self.offset_minutes) * 60;
        self.seconds.saturating_add(offset)
    }

    /// The text of the instant in its own offset, with `digits` digits of fraction.
    pub fn format(self, digits: u8, zulu: bool) -> String {
        let local = DateTime {
            seconds: self.local_seconds(),
            ..self
        };
        let mut out = format!("{}T{}", local.date(), local.time().format(digits));
        if zulu && self.offset_minutes == 0 {
            out.push('Z');
        } else {
            let sign = if self.offset_minutes < 0 { '-' } else { '+' };
            let minutes = self.offset_minutes.unsigned_abs();
            let _ = write!(out, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
        }
        out
    }
}

impl Ord for DateTime {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.seconds, self.nanos).cmp(&(other.seconds, other.nanos))
    }
}

impl PartialOrd for DateTime {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for DateTime {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for DateTime {}

/// Prints as RFC 3339 with as many digits of fraction as it needs.
impl std::fmt::Display for DateTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.format(needed_digits(self.nanos), true))
    }
}

/// A time of day: nanoseconds since midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeOfDay(pub u64);

impl TimeOfDay {
    /// Reads `HH:MM`, `HH:MM:SS` or `HH:MM:SS.fff`.
    pub fn parse(text: &str) -> Option<Self> {
        let (seconds, nanos) = parse_clock(text, 59)?;
        Some(TimeOfDay(
            u64::from(seconds) * 1_000_000_000 + u64::from(nanos),
        ))
    }

    /// Hour, minute, second and nanoseconds.
    pub fn hms(self) -> (u32, u32, u32, u32) {
        let seconds = u32::try_from(self.0 / 1_000_000_000).unwrap_or(0);
        let nanos = u32::try_from(self.0 % 1_000_000_000).unwrap_or(0);
        (seconds / 3_600, seconds / 60 % 60, seconds % 60, nanos)
    }

    /// `HH:MM:SS` with `digits` digits of fraction.
    pub fn format(self, digits: u8) -> String {
        let (hour, minute, second, nanos) = self.hms();
        let mut out = format!("{hour:02}:{minute:02}:{second:02}");
        if digits > 0 {
            let fraction = format!("{nanos:09}");
            out.push('.');
            out.push_str(
                fraction
                    .get(..usize::from(digits.min(9)))
                    .unwrap_or_default(),
            );
        }
        out
    }
}

/// Prints as `HH:MM:SS` with as many digits of fraction as it needs.
impl std::fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.format(needed_digits(self.hms().3)))
    }
}

/// Days from 0001-01-01 (day 1) to 1970-01-01, as `chrono` counts them.
const EPOCH_DAYS_FROM_CE: i32 = 719_163;

fn needed_digits(nanos: u32) -> u8 {
    match nanos {
        0 => 0,
        n if n % 1_000_000 == 0 => 3,
        n if n % 1_000 == 0 => 6,
        _ => 9,
    }
}

fn digits(text: &str) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.bytes().try_fold(0_u32, |value, byte| {
        let digit = char::from(byte).to_digit(10)?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Seconds since midnight and nanoseconds of `HH:MM[:SS[.f]]`.
fn parse_clock(text: &str, max_second: u32) -> Option<(u32, u32)> {
    let (hour, minute) = (digits(text.get(0..2)?)?, digits(text.get(3..5)?)?);
    if text.as_bytes().get(2) != Some(&b':') || hour > 23 || minute > 59 {
        return None;
    }
    let mut second = 0;
    let mut nanos = 0;
    if let Some(rest) = text.get(5..).filter(|r| !r.is_empty()) {
        let rest = rest.strip_prefix(':')?;
        second = digits(rest.get(0..2)?)?;
        if let Some(fraction) = rest.get(2..).filter(|r| !r.is_empty()) {
            let fraction = fraction.strip_prefix('.')?;
            if fraction.len() > 9 {
                return None;
            }
            nanos = digits(fraction)? * 10_u32.pow(9 - u32::try_from(fraction.len()).ok()?);
        }
    }
    (second <= max_second).then_some((hour * 3_600 + minute * 60 + second, nanos))
}

/// Minutes east of UTC of `Z`, `+HH:MM` or `-HH:MM`.
fn parse_zone(zone: &str) -> Option<i16> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    if zone.len() != 6 || zone.as_bytes().get(3) != Some(&b':') {
        return None;
    }
    let (hours, minutes) = (digits(zone.get(1..3)?)?, digits(zone.get(4..6)?)?);
    if hours > 14 || minutes > 59 {
        return None;
    }
    Some(sign * i16::try_from(hours * 60 + minutes).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_round_trip() {
        for text in [
            "2020-10-22T21:27:44.780Z",
            "2020-07-30T08:55:07Z",
            "1969-12-31T23:59:59.123456789Z",
            "9999-12-31T23:59:59Z",
            "2020-01-01T05:00:00-07:00",
            "2020-02-29T23:30:00+05:45",
        ] {
            assert_eq!(DateTime::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_names_no_instant_is_refused() {
        for text in [
            "2020-10-22T21:27:44",
            "2020-13-01T00:00:00Z",
            "2021-02-29T00:00:00Z",
            "2020-01-01T24:00:00Z",
            "2020-01-01T00:00:00.1234567890Z",
            "2020-01-01T00:00:00+15:00",
            "TBD",
            "2020-01-01T00:00:00é",
        ] {
            assert!(DateTime::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_leap_second_is_the_next_minute() {
        let leap = DateTime::parse("2016-12-31T23:59:60Z").unwrap();
        assert_eq!(leap, DateTime::parse("2017-01-01T00:00:00Z").unwrap());
    }

    #[test]
    fn dates() {
        assert_eq!(Date::parse("1970-01-01"), Some(Date(0)));
        assert_eq!(Date::parse("2000-02-29").unwrap().to_string(), "2000-02-29");
        assert!(Date::parse("1900-02-29").is_none());
        assert_eq!(TimeOfDay::parse("07:05").unwrap().to_string(), "07:05:00");
    }
}
