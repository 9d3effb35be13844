//! Moments, as people type them.

use relist::store::{AsOf, Snapshot};
use relist::value::{Date, DateTime, Timestamp};

use crate::failure::Failure;

/// Which end of a day a bare date means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// Its first instant: "since that day".
    Start,
    /// Its last instant: "as of that day".
    End,
}

const DAY: i64 = 86_400_000_000;

/// Reads a sequence, a date, a timestamp, or how long ago: `41`, `2026-03-12`,
/// `2026-03-12T09:00:00Z`, `7d`, `36h`, `15m`, `now`.
pub(crate) fn parse(option: &str, text: &str, edge: Edge, now: Timestamp) -> Result<AsOf, Failure> {
    if text == "now" {
        return Ok(AsOf::Instant(now));
    }
    if let Ok(sequence) = text.parse() {
        return Ok(AsOf::Sequence(sequence));
    }
    if let Some(date) = Date::parse(text) {
        let start = date.midnight().to_timestamp().unwrap_or(Timestamp(0));
        return Ok(AsOf::Instant(match edge {
            Edge::Start => start,
            Edge::End => Timestamp(start.0.saturating_add(DAY - 1)),
        }));
    }
    let instant = DateTime::parse(text).and_then(DateTime::to_timestamp);
    let instant = instant.or_else(|| length(text).map(|a| Timestamp(now.0.saturating_sub(a))));
    instant.map(AsOf::Instant).ok_or_else(|| {
        Failure::usage(
            format!("{option} takes a sequence or a time, not {text:?}"),
            "write a sequence (41), a date (2026-03-12), a timestamp with its zone \
             (2026-03-12T09:00:00Z) or how long ago (7d, 36h, 15m)",
        )
    })
}

/// Reads what `--since` says: the sequence after which changes are meant.
pub(crate) fn since(snapshot: &Snapshot, text: &str, now: Timestamp) -> Result<u64, Failure> {
    after(snapshot, parse("--since", text, Edge::Start, now)?)
}

/// The sequence after which the changes of a moment and later come.
pub(crate) fn after(snapshot: &Snapshot, since: AsOf) -> Result<u64, Failure> {
    Ok(match since {
        // From that time on: what was observed at the very instant is part of it.
        AsOf::Instant(at) => snapshot.resolve(AsOf::Instant(Timestamp(at.0.saturating_sub(1))))?,
        AsOf::Sequence(sequence) => sequence,
    })
}

/// Reads a length of time in microseconds: `12h`, `90s`.
pub(crate) fn span(option: &str, text: &str) -> Result<i64, Failure> {
    length(text).ok_or_else(|| {
        Failure::usage(
            format!("{option} takes a length of time, not {text:?}"),
            "write 7d, 36h, 15m or 90s",
        )
    })
}

/// Reads a length of time, in microseconds: `7d`, `36h`, `15m`, `30s`.
pub(crate) fn length(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    let number: i64 = digits.then(|| number.parse().ok()).flatten()?;
    let unit = match unit {
        "d" => DAY,
        "h" => 3_600_000_000,
        "m" => 60_000_000,
        "s" => 1_000_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read() {
        let now = Timestamp(10 * DAY);
        let read = |text, edge| parse("--as-of", text, edge, now).unwrap();
        assert_eq!(read("41", Edge::End), AsOf::Sequence(41));
        let at = |micros| AsOf::Instant(Timestamp(micros));
        assert_eq!(read("1970-01-02", Edge::Start), at(DAY));
        assert_eq!(read("1970-01-02", Edge::End), at(2 * DAY - 1));
        assert_eq!(read("1970-01-01T01:00:00+01:00", Edge::End), at(0));
        assert_eq!(read("3d", Edge::Start), at(7 * DAY));
        assert_eq!(read("now", Edge::Start), at(10 * DAY));
    }

    #[test]
    fn what_names_no_moment_is_refused() {
        for text in [
            "",
            "d",
            "-1",
            "7w",
            "2026-02-30",
            "2026-03-12T09:00:00",
            "é",
            "99999999999999d",
        ] {
            assert!(
                parse("--as-of", text, Edge::End, Timestamp(0)).is_err(),
                "{text}"
            );
        }
    }
}
