//! The next occurrence of a cron expression in a time zone, or of an interval.

use std::str::FromStr as _;

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use croner::Cron;
use relist::value::Timestamp;

/// A second, in microseconds.
pub(crate) const SECOND: i64 = 1_000_000;

/// The most that a zone's clock leaps or repeats at once, with room: an hour is the rule.
const LEAP: TimeDelta = TimeDelta::hours(3);

/// When a job is due.
#[derive(Debug, Clone)]
pub(crate) enum Timing {
    /// At the times of a cron expression.
    Cron(Box<CronTimes>),
    /// Every so many microseconds.
    Every(i64),
    /// After each run of the job of that name.
    After(String),
}

/// A cron expression in its zone.
#[derive(Debug, Clone)]
pub(crate) struct CronTimes {
    cron: Cron,
    text: String,
    zone: Tz,
    /// Whether its hours are a pattern: then it runs through both passes of a repeated hour, and
    /// not in an hour that does not exist. Otherwise each time it names runs exactly once.
    flowing: bool,
}

impl CronTimes {
    /// Reads a cron expression: five fields, or six with seconds.
    pub(crate) fn new(text: &str, zone: Tz) -> Result<Self, String> {
        let cron = Cron::from_str(text).map_err(|error| error.to_string())?;
        let fields: Vec<&str> = text.split_whitespace().collect();
        // `@daily` and the like name one time a day, all but this one.
        let hours = match fields.len() {
            5 => fields.get(1).copied(),
            6 | 7 => fields.get(2).copied(),
            _ => Some(if text.trim() == "@hourly" { "*" } else { "0" }),
        };
        Ok(CronTimes {
            cron,
            text: text.trim().to_owned(),
            zone,
            flowing: hours.is_some_and(|h| h.contains(['*', '/', '?'])),
        })
    }

    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = utc(after)?;
        if self.flowing {
            let local = after.with_timezone(&self.zone);
            let next = self.cron.find_next_occurrence(&local, false).ok()?;
            return Some(Timestamp(next.timestamp_micros()));
        }
        // The expression is asked for times on the wall's clock, as though no hour were special;
        // each is then the one instant at which that clock first shows it or a later time.
        let local = after.with_timezone(&self.zone).naive_local();
        let mut wall = local.checked_sub_signed(LEAP)?.and_utc();
        loop {
            wall = self.cron.find_next_occurrence(&wall, false).ok()?;
            let instant = instant(self.zone, wall.naive_utc())?;
            if instant > after {
                return Some(Timestamp(instant.timestamp_micros()));
            }
        }
    }
}

fn utc(at: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(at.0)
}

/// The first instant at which the zone's clock shows this time, or one after it if it shows none.
fn instant(zone: Tz, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.to_utc()),
        LocalResult::None => {
            // The leap's own instant: the last that is before the wall's time by the old offset.
            let before = wall.checked_sub_signed(LEAP)?;
            let mut low = zone.from_local_datetime(&before).earliest()?.to_utc();
            let mut high = low.checked_add_signed(LEAP * 2)?;
            while high - low > TimeDelta::seconds(1) {
                let middle = low + (high - low) / 2;
                if middle.with_timezone(&zone).naive_local() < wall {
                    low = middle;
                } else {
                    high = middle;
                }
            }
            let second = high.timestamp();
            DateTime::from_timestamp(second, 0)
        }
    }
}

impl Timing {
    /// The first occurrence after `after`. An interval's lie a whole number of intervals from the
    /// anchor, or at `after` itself when it has none yet. `None`: there is none, or it depends on
    /// another job.
    pub(crate) fn next(&self, anchor: Option<Timestamp>, after: Timestamp) -> Option<Timestamp> {
        match self {
            Timing::Cron(cron) => cron.next(after),
            Timing::Every(every) => Some(match anchor {
                None => after,
                Some(anchor) => {
                    let whole = after.0.saturating_sub(anchor.0).div_euclid(*every) + 1;
                    Timestamp(anchor.0.saturating_add(whole.saturating_mul(*every)))
                }
            }),
            Timing::After(_) => None,
        }
    }

    /// How long it is from an occurrence to the next one.
    pub(crate) fn period(&self, occurrence: Timestamp) -> Option<i64> {
        let next = self.next(Some(occurrence), occurrence)?;
        Some(next.0 - occurrence.0)
    }

    /// In words: `0 2 * * SUN America/Denver`, `every 15 min`, `after incremental`.
    pub(crate) fn words(&self) -> String {
        match self {
            Timing::Cron(cron) => format!("{} {}", cron.text, cron.zone),
            Timing::Every(micros) => {
                let seconds = micros / SECOND;
                let (count, unit) = match seconds {
                    s if s % 86_400 == 0 => (s / 86_400, "d"),
                    s if s % 3_600 == 0 => (s / 3_600, "h"),
                    s if s % 60 == 0 => (s / 60, "min"),
                    s => (s, "s"),
                };
                format!("every {count} {unit}")
            }
            Timing::After(job) => format!("after {job}"),
        }
    }

    /// An instant as this timing's zone shows it: `2026-03-08 03:00:00 MDT`.
    pub(crate) fn local(&self, at: Timestamp) -> String {
        let zone = match self {
            Timing::Cron(cron) => cron.zone,
            _ => Tz::UTC,
        };
        utc(at).map_or_else(String::new, |at| {
            at.with_timezone(&zone)
                .format("%Y-%m-%d %H:%M:%S %Z")
                .to_string()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let at = DateTime::parse_from_rfc3339(text).unwrap();
        Timestamp(at.timestamp_micros())
    }

    fn cron(text: &str) -> Timing {
        let times = CronTimes::new(text, Tz::America__Denver).unwrap();
        Timing::Cron(Box::new(times))
    }

    /// The occurrences between two instants, found one from the other.
    fn between(timing: &Timing, from: &str, to: &str) -> Vec<String> {
        let (mut now, end) = (at(from), at(to));
        let mut found = Vec::new();
        while let Some(next) = timing.next(None, now).filter(|next| *next < end) {
            assert!(next > now);
            found.push(timing.local(next));
            now = next;
        }
        found
    }

    const SPRING: (&str, &str) = ("2026-03-08T07:00:00Z", "2026-03-09T06:00:00Z");
    const AUTUMN: (&str, &str) = ("2026-11-01T06:00:00Z", "2026-11-02T07:00:00Z");

    #[test]
    fn a_time_that_does_not_exist_comes_right_after_the_leap() {
        for expression in ["0 2 * * SUN", "30 2 * * *", "0,30 2 * * *", "5-20 2 * * *"] {
            assert_eq!(
                between(&cron(expression), SPRING.0, SPRING.1),
                ["2026-03-08 03:00:00 MDT"],
                "{expression}"
            );
        }
        assert_eq!(
            between(&cron("30 2,14 * * *"), SPRING.0, SPRING.1),
            ["2026-03-08 03:00:00 MDT", "2026-03-08 14:30:00 MDT"]
        );
    }

    #[test]
    fn a_time_that_comes_twice_counts_once() {
        for (expression, expect) in [
            ("30 1 * * *", "2026-11-01 01:30:00 MDT"),
            ("0 2 * * SUN", "2026-11-01 02:00:00 MST"),
            ("0 1 * * *", "2026-11-01 01:00:00 MDT"),
        ] {
            assert_eq!(
                between(&cron(expression), AUTUMN.0, AUTUMN.1),
                [expect],
                "{expression}"
            );
        }
        // Asked in the second pass of the hour, a time of the first pass is over.
        let second_pass = at("2026-11-01T08:10:00Z");
        let next = cron("30 1 * * *").next(None, second_pass).unwrap();
        assert_eq!(next, at("2026-11-02T08:30:00Z"));
    }

    #[test]
    fn a_pattern_of_hours_goes_on_through_both() {
        let quarter = cron("*/15 * * * *");
        // 23 and 25 hours of four.
        assert_eq!(between(&quarter, SPRING.0, SPRING.1).len(), 23 * 4 - 1);
        assert_eq!(between(&quarter, AUTUMN.0, AUTUMN.1).len(), 25 * 4 - 1);
        let hourly = cron("@hourly");
        assert_eq!(between(&hourly, AUTUMN.0, AUTUMN.1).len(), 24);
    }

    #[test]
    fn an_interval_keeps_to_its_grid() {
        let every = Timing::Every(15 * 60 * SECOND);
        let anchor = at("2026-01-01T00:02:00Z");
        let next = |after| every.next(Some(anchor), at(after)).unwrap();
        assert_eq!(next("2026-01-01T00:02:00Z"), at("2026-01-01T00:17:00Z"));
        assert_eq!(next("2026-01-01T05:00:00Z"), at("2026-01-01T05:02:00Z"));
        // Also before the anchor.
        assert_eq!(next("2025-12-31T23:00:00Z"), at("2025-12-31T23:02:00Z"));
        assert_eq!(every.next(None, anchor), Some(anchor));
        assert_eq!(every.words(), "every 15 min");
    }

    #[test]
    fn a_wrong_expression_says_so() {
        for text in ["", "x", "0 25 * * *", "* * * * * * * *"] {
            assert!(CronTimes::new(text, Tz::UTC).is_err(), "{text:?}");
        }
    }
}
