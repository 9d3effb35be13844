//! When to try again: the decision, apart from the doing.
//!
//! Nothing here sends, sleeps or reads a clock. A failed attempt is a [`Fault`]; the policy looks
//! at it, at what was spent so far and at a random number, and says how long to wait or that it
//! is over. Time and waiting come from a [`Clock`] that the caller passes in.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use relist::error::SourceErrorKind;

/// Time, and waiting for it to pass.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time since some fixed moment; it never goes back.
    fn elapsed(&self) -> Duration;
    /// The calendar time, against which a `Retry-After` date is read when the server sends no
    /// `Date` of its own.
    fn now(&self) -> SystemTime;
    /// Waits, and returns early once `stop` is set.
    fn sleep(&self, time: Duration, stop: &AtomicBool);
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that counts from now.
    pub fn new() -> Self {
        SystemClock {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep(&self, time: Duration, stop: &AtomicBool) {
        /// How soon a stop is noticed.
        const SLICE: Duration = Duration::from_millis(50);
        let end = Instant::now() + time;
        while !stop.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(SLICE));
        }
    }
}

/// How often and how long to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Requests sent for one page, at most, the first among them.
    pub max_attempts: u32,
    /// The longest first wait; it doubles with each attempt.
    pub base: Duration,
    /// The longest wait that the policy chooses by itself.
    pub cap: Duration,
    /// Waiting for one page, at most, in total. A `Retry-After` beyond it ends the run at once.
    pub wait_budget: Duration,
    /// Waiting for the provider's quota before one request, at most: a full hour's window comes
    /// free within it, a full day's does not. A longer wait ends the run at once.
    pub quota_wait: Duration,
    /// Answers of 429 in a row after which no more is sent: some providers suspend a token that
    /// keeps asking.
    pub breaker_after: u32,
    /// How long nothing is sent after that, when the server did not say.
    pub breaker_hold: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            max_attempts: 6,
            base: Duration::from_secs(1),
            cap: Duration::from_mins(1),
            wait_budget: Duration::from_mins(15),
            quota_wait: Duration::from_mins(65),
            breaker_after: 3,
            breaker_hold: Duration::from_mins(15),
        }
    }
}

/// Why one attempt failed, and whether another can help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What the caller is told if it ends here.
    pub(crate) kind: SourceErrorKind,
    /// What happened.
    pub(crate) reason: String,
    /// Whether another attempt can help.
    pub(crate) retry: bool,
    /// Whether the server asked to slow down (429).
    pub(crate) throttled: bool,
    /// Whether the server refused the token (401).
    pub(crate) unauthenticated: bool,
    /// How long the server asked to wait.
    pub(crate) retry_after: Option<Duration>,
}

impl Fault {
    /// A fault that another attempt may cure.
    pub(crate) fn passing(kind: SourceErrorKind, reason: impl Into<String>) -> Self {
        Fault {
            retry: true,
            ..Fault::lasting(kind, reason)
        }
    }

    /// A fault that every attempt would meet.
    pub(crate) fn lasting(kind: SourceErrorKind, reason: impl Into<String>) -> Self {
        Fault {
            kind,
            reason: reason.into(),
            retry: false,
            throttled: false,
            unauthenticated: false,
            retry_after: None,
        }
    }
}

/// What has been spent on one request so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Attempts made.
    pub(crate) attempts: u32,
    /// Time waited between them.
    pub(crate) waited: Duration,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Wait so long, then try again.
    Wait(Duration),
    /// It is over. The text says what was tried; it is empty when nothing was.
    GiveUp(String),
}

impl RetryPolicy {
    /// Decides after a failed attempt; `random` is evenly spread over 0 to 1.
    ///
    /// The wait is drawn from nothing to the doubled base (full jitter: clients that failed
    /// together do not come back together), and is never shorter than the server asked for.
    pub(crate) fn decide(&self, fault: &Fault, spent: Spent, random: f64) -> Decision {
        let tried = |why: &str| {
            let times = match spent.attempts {
                1 => "tried once".to_owned(),
                n => format!("tried {n} times over {}", human(spent.waited)),
            };
            Decision::GiveUp(format!("{times}{why}"))
        };
        if !fault.retry {
            return Decision::GiveUp(String::new());
        }
        if spent.attempts >= self.max_attempts {
            return tried("");
        }
        let doublings = spent.attempts.saturating_sub(1).min(20);
        let longest = self.base.saturating_mul(1 << doublings).min(self.cap);
        let drawn = longest.mul_f64(random.clamp(0.0, 1.0));
        let wait = drawn.max(fault.retry_after.unwrap_or_default());
        if spent.waited.saturating_add(wait) > self.wait_budget {
            return tried(&format!(
                "; the next try would be in {}, beyond the {} set aside for waiting",
                human(wait),
                human(self.wait_budget)
            ));
        }
        Decision::Wait(wait)
    }
}

/// Counts the answers of 429 in a row, over all requests, and holds further ones back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Breaker {
    in_a_row: u32,
    closed_at: Option<Duration>,
}

impl Breaker {
    /// Notes a 429 at `now`; true when nothing more may be sent.
    pub(crate) fn throttled(
        &mut self,
        policy: &RetryPolicy,
        now: Duration,
        retry_after: Option<Duration>,
    ) -> bool {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let opens = self.in_a_row >= policy.breaker_after;
        if opens {
            self.closed_at = Some(now.saturating_add(retry_after.unwrap_or(policy.breaker_hold)));
        }
        opens
    }

    /// Notes any other answer.
    pub(crate) fn answered(&mut self) {
        *self = Breaker::default();
    }

    /// How long requests are still held back. After that one may go, and a 429 to it opens the
    /// breaker again.
    pub(crate) fn holds(&self, now: Duration) -> Option<Duration> {
        let left = self.closed_at?.saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }
}

/// The longest wait that a server can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// Reads `Retry-After`: seconds, or an HTTP date seen from `now`. What is neither counts as not
/// sent; no server can ask for more than an hour.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else if let Some(seconds) = value.parse::<f64>().ok().filter(|s| *s >= 0.0) {
        Duration::try_from_secs_f64(seconds).unwrap_or(RETRY_AFTER_MAX)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// What a status other than 200 means, and whether another attempt can help.
///
/// `is_link` tells a continuation link from a query: a server that no longer knows a link says
/// 400 or 410, some 404, and the walk can start again from its cursor.
pub(crate) fn of_status(status: u16, is_link: bool) -> (SourceErrorKind, bool) {
    use SourceErrorKind as K;
    match status {
        401 | 403 => (K::Unauthorized, false),
        400 | 404 | 410 if is_link => (K::LinkExpired, false),
        404 | 410 => (K::NotFound, false),
        408 | 425 | 429 | 500 | 502..=504 | 506..=599 => (K::Unavailable, true),
        400..=499 | 501 | 505 => (K::Refused, false),
        300..=399 => (K::Malformed, false),
        _ => (K::Malformed, true),
    }
}

/// A time as people say it: `850 ms`, `12 s`, `15 min`, `1 h`.
pub(crate) fn human(time: Duration) -> String {
    match time.as_secs() {
        0 if time.is_zero() => "0 s".to_owned(),
        0 => format!("{} ms", time.as_millis()),
        s @ 1..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s.div_ceil(60)),
        s => format!("{} h", s.div_ceil(3600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn fault() -> Fault {
        Fault::passing(SourceErrorKind::Unavailable, "x")
    }

    fn spent(attempts: u32, waited: u64) -> Spent {
        Spent {
            attempts,
            waited: S(waited),
        }
    }

    #[test]
    fn waits_double_to_the_cap_and_are_spread() {
        let policy = RetryPolicy {
            max_attempts: 100,
            ..RetryPolicy::default()
        };
        for (attempts, longest) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (50, 60), (99, 60)] {
            let at = |random| policy.decide(&fault(), spent(attempts, 0), random);
            assert_eq!(at(1.0), Decision::Wait(S(longest)));
            assert_eq!(at(0.5), Decision::Wait(S(longest) / 2));
            assert_eq!(at(0.0), Decision::Wait(S(0)));
        }
    }

    #[test]
    fn it_ends_by_attempts_by_budget_and_at_once() {
        let policy = RetryPolicy::default();
        let over = |fault: &Fault, spent| match policy.decide(fault, spent, 1.0) {
            Decision::GiveUp(why) => why,
            Decision::Wait(time) => panic!("waits {time:?}"),
        };
        assert_eq!(over(&fault(), spent(6, 31)), "tried 6 times over 31 s");
        assert!(over(&fault(), spent(5, 15 * 60 - 15)).contains("15 min set aside"));
        assert_eq!(
            over(&Fault::lasting(SourceErrorKind::Refused, "x"), spent(1, 0)),
            ""
        );
        let long = Fault {
            retry_after: Some(S(3600)),
            ..fault()
        };
        assert!(over(&long, spent(1, 0)).contains("in 60 min"));
    }

    #[test]
    fn the_server_is_never_asked_sooner_than_it_said() {
        let asked = Fault {
            retry_after: Some(S(30)),
            ..fault()
        };
        let policy = RetryPolicy::default();
        assert_eq!(
            policy.decide(&asked, spent(1, 0), 0.3),
            Decision::Wait(S(30))
        );
        let zero = Fault {
            retry_after: Some(S(0)),
            ..fault()
        };
        assert_eq!(policy.decide(&zero, spent(2, 0), 0.5), Decision::Wait(S(1)));
    }

    #[test]
    fn retry_after_forms() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (value, expect) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("86400", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun Nov  6 08:50:07 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(3600)),
            ("2.0", Some(2)),
            ("-5", None),
            ("soon", None),
            ("", None),
            ("NaN", None),
            ("inf", Some(3600)),
        ] {
            assert_eq!(retry_after(value, now), expect.map(S), "{value}");
        }
    }

    #[test]
    fn statuses() {
        use SourceErrorKind as K;
        for (status, query, link) in [
            (400, (K::Refused, false), (K::LinkExpired, false)),
            (401, (K::Unauthorized, false), (K::Unauthorized, false)),
            (403, (K::Unauthorized, false), (K::Unauthorized, false)),
            (404, (K::NotFound, false), (K::LinkExpired, false)),
            (410, (K::NotFound, false), (K::LinkExpired, false)),
            (408, (K::Unavailable, true), (K::Unavailable, true)),
            (429, (K::Unavailable, true), (K::Unavailable, true)),
            (414, (K::Refused, false), (K::Refused, false)),
            (500, (K::Unavailable, true), (K::Unavailable, true)),
            (501, (K::Refused, false), (K::Refused, false)),
            (504, (K::Unavailable, true), (K::Unavailable, true)),
            (302, (K::Malformed, false), (K::Malformed, false)),
            (204, (K::Malformed, true), (K::Malformed, true)),
        ] {
            assert_eq!(of_status(status, false), query, "{status}");
            assert_eq!(of_status(status, true), link, "{status}");
        }
    }

    #[test]
    fn the_breaker_opens_holds_and_tries_once() {
        let policy = RetryPolicy::default();
        let mut breaker = Breaker::default();
        assert!(!breaker.throttled(&policy, S(0), None));
        breaker.answered();
        assert!(!breaker.throttled(&policy, S(1), None));
        assert!(!breaker.throttled(&policy, S(2), None));
        assert_eq!(breaker.holds(S(2)), None);
        assert!(breaker.throttled(&policy, S(3), Some(S(100))));
        assert_eq!(breaker.holds(S(53)), Some(S(50)));
        assert_eq!(breaker.holds(S(103)), None);
        assert!(
            breaker.throttled(&policy, S(104), None),
            "half open: one 429 opens it again"
        );
        assert_eq!(breaker.holds(S(104)), Some(policy.breaker_hold));
        breaker.answered();
        assert_eq!(breaker.holds(S(104)), None);
    }
}
