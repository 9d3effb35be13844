//! Quotas: how much a provider lets through, asked before each request.
//!
//! A [`Quota`] knows the provider's windows (so many requests a second, a minute, an hour, a day;
//! so many bytes an hour) and what was spent in them, by this process and by those before it: the
//! count is kept in a file beside the store, because providers count on when a program restarts,
//! and some suspend the token of one that forgets.
//!
//! Before requests are sent they are reserved in the file, some at a time. A process that is
//! killed has spent, as far as the next one knows, all that it had reserved, at the moment when
//! the next one starts.
//!
//! What the server itself says, in headers or by `Retry-After`, wins: a smaller limit, a larger
//! one, none left until then.

mod file;
mod rules;
mod window;

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use relist::value::DateTime;

use file::{Read, Saved, SavedWindow};
pub use rules::{HeaderRule, Per, QuotaRules, WindowRule};
use window::Window;

/// The largest reservation of requests: written down once for so many.
const RESERVE: u64 = 32;
/// The reservation of bytes: four of the largest bodies there can be.
const RESERVE_BYTES: u64 = 4 * BODY_BYTES;
/// The largest body, as the default of `Limits` has it: what a request under way may bring.
const BODY_BYTES: u64 = 64 * 1024 * 1024;
/// The longest hold that is taken up from the file: no server can ask for more.
const LONGEST_HOLD: u64 = 3_600 * 1_000_000;

/// How much a provider lets through, and what of it is spent.
pub struct Quota {
    windows: Vec<Metered>,
    headers: Vec<HeaderRule>,
    held_until: u64,
    /// The latest time it was asked at: time does not go back.
    latest: u64,
    in_flight: u64,
    ledger: Option<Ledger>,
    /// What is held as long as the file is in use.
    guard: Option<Box<dyn Any + Send>>,
}

/// One window, and what the server says of it.
struct Metered {
    per: Per,
    bytes: bool,
    window: Window,
    told: Option<u64>,
    granted: Option<Grant>,
}

/// What the server said is left, until its window ends.
#[derive(Debug, Clone, Copy)]
struct Grant {
    left: u64,
    until: u64,
}

/// The file, and how much of what is written in it as reserved is not yet used.
struct Ledger {
    path: PathBuf,
    left: u64,
    left_bytes: u64,
    /// Whether this process has written it: one that sent nothing leaves it as it is, for another
    /// may be using it.
    written: bool,
}

/// Why a request may not go yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// The quota is spent; it is free again after `wait`.
    #[error("{why}")]
    Held {
        /// How long until the next request may go.
        wait: Duration,
        /// Which limit, for people.
        why: String,
    },
    /// The file cannot be read or written: without it the next run would not know what was spent.
    #[error("the quota file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

/// How much of one window is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The window's length.
    pub per: Per,
    /// Whether it counts bytes rather than requests.
    pub bytes: bool,
    /// What was spent in it.
    pub spent: u64,
    /// What it allows; `None` when only the server knows and has not said.
    pub limit: Option<u64>,
}

impl Quota {
    /// A quota of which nothing is spent and that is forgotten at the end.
    pub fn new(rules: &QuotaRules) -> Self {
        let mut windows = Vec::new();
        for rule in &rules.windows {
            let amounts = [(rule.requests, false), (rule.bytes, true)];
            for (limit, bytes) in amounts {
                windows.extend(limit.map(|limit| Metered::new(rule.per, bytes, limit)));
            }
        }
        for rule in &rules.headers {
            if !windows.iter().any(|m| m.per == rule.per && !m.bytes) {
                windows.push(Metered::new(rule.per, false, u64::MAX));
            }
        }
        Quota {
            windows,
            headers: rules.headers.clone(),
            held_until: 0,
            latest: 0,
            in_flight: 0,
            ledger: None,
            guard: None,
        }
    }

    /// Holds something until the file is written for the last time: a lock, by which other
    /// processes know that it is in use.
    #[must_use]
    pub fn holding(mut self, guard: impl Any + Send) -> Self {
        self.guard = Some(Box::new(guard));
        self
    }

    /// A quota that goes on where the file says the last process stopped.
    ///
    /// No file means that the feed was never used here. A file that does not read means that it
    /// was, and not how much: then all windows count as spent to the full when the file was last
    /// written. (Deleting the file is how a user says otherwise.) One process at a time uses a
    /// file, as one process at a time writes a store.
    ///
    /// # Errors
    /// [`QuotaError::File`] when the file is there and cannot be opened.
    pub fn open(rules: &QuotaRules, path: &Path, now: SystemTime) -> Result<Self, QuotaError> {
        let mut quota = Quota::new(rules);
        let now = quota.advance(now);
        let read = file::read(path).map_err(|source| QuotaError::File {
            path: path.to_owned(),
            source,
        })?;
        match read {
            Read::Missing => {}
            Read::Broken(written) => {
                for metered in &mut quota.windows {
                    let limit = metered.window.limit();
                    if limit < u64::MAX {
                        metered.window.note(written.min(now), limit);
                    }
                }
            }
            Read::Whole(saved) => quota.restore(&saved, now),
        }
        quota.ledger = Some(Ledger {
            path: path.to_owned(),
            left: 0,
            left_bytes: 0,
            written: false,
        });
        Ok(quota)
    }

    /// Asks for one request. When it may go, it is counted; [`Quota::answered`] must follow.
    ///
    /// # Errors
    /// [`QuotaError::Held`] when it may not go yet, [`QuotaError::File`] when it could not be
    /// written down. Neither counts anything.
    pub fn ask(&mut self, now: SystemTime) -> Result<(), QuotaError> {
        let now = self.advance(now);
        let mut free = (self.held_until, None);
        for (at, metered) in self.windows.iter_mut().enumerate() {
            let next = metered.free_at(now, self.in_flight);
            if next > free.0 {
                free = (next, Some(at));
            }
        }
        if free.0 > now {
            let wait = Duration::from_micros(free.0 - now);
            let spent = free.1.and_then(|at| self.windows.get(at));
            let why =
                spent.map_or_else(|| "the server asked to wait".to_owned(), Metered::describe);
            return Err(QuotaError::Held { wait, why });
        }
        if self.must_write_down() {
            self.write_down(self.reserve())?;
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.left = ledger.left.saturating_sub(1);
        }
        self.in_flight += 1;
        for metered in &mut self.windows {
            metered.sent(now);
        }
        Ok(())
    }

    /// Notes how a request that was asked for ended: the bytes it brought, and what the answer's
    /// headers say; `header` gives the value of a header by its name.
    pub fn answered<'h>(
        &mut self,
        now: SystemTime,
        bytes: u64,
        header: impl Fn(&str) -> Option<&'h str>,
    ) {
        let now = self.advance(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        let date = header("date").and_then(|d| httpdate::parse_http_date(d).ok());
        let server_now = date.map_or(now, micros);
        for rule in &self.headers {
            let metered = self.windows.iter_mut();
            let Some(metered) = metered.into_iter().find(|m| m.per == rule.per && !m.bytes) else {
                continue;
            };
            let value = |name: &Option<String>| name.as_deref().and_then(&header);
            if let Some(limit) = value(&rule.limit).and_then(count) {
                metered.told = Some(limit);
                metered.window.set_limit(limit);
            }
            if let Some(left) = value(&rule.remaining).and_then(count) {
                let length = rule.per.micros();
                let reset = value(&rule.reset).and_then(|text| from_now(text, server_now));
                metered.granted = Some(Grant {
                    left: left.saturating_sub(self.in_flight),
                    until: now + reset.unwrap_or(length).min(length),
                });
            }
        }
        for metered in self.windows.iter_mut().filter(|m| m.bytes) {
            metered.window.note(now, bytes);
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.left_bytes = ledger.left_bytes.saturating_sub(bytes);
        }
    }

    /// Whether the next request, or the largest body it can bring, is beyond what is reserved.
    fn must_write_down(&self) -> bool {
        if self.windows.is_empty() {
            // Nothing is counted: only a hold is worth a file.
            return false;
        }
        let counts_bytes = self.windows.iter().any(|m| m.bytes);
        let bodies = BODY_BYTES.saturating_mul(self.in_flight + 1);
        let ledger = self.ledger.as_ref();
        ledger.is_some_and(|l| l.left == 0 || (counts_bytes && l.left_bytes < bodies))
    }

    /// Sends nothing for so long: the server said so, or it would not be wise. The next process
    /// knows it too.
    ///
    /// # Errors
    /// [`QuotaError::File`] when it could not be written down. It holds all the same.
    pub fn hold(&mut self, now: SystemTime, time: Duration) -> Result<(), QuotaError> {
        let now = self.advance(now);
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.held_until = self.held_until.max(now.saturating_add(time));
        self.write_down(self.reserve())
    }

    /// Writes down what was spent, with nothing reserved: the run is over, or rests.
    ///
    /// It happens also when the quota is dropped, where nobody can be told of a failure.
    ///
    /// # Errors
    /// [`QuotaError::File`] when it cannot be written.
    pub fn save(&mut self) -> Result<(), QuotaError> {
        if self.ledger.as_ref().is_some_and(|ledger| !ledger.written) {
            return Ok(());
        }
        // What is under way may still be counted by the server.
        self.write_down((self.in_flight, self.in_flight.saturating_mul(BODY_BYTES)))
    }

    /// How much of each window is spent.
    pub fn usage(&mut self, now: SystemTime) -> Vec<Usage> {
        let now = self.advance(now);
        let windows = self.windows.iter_mut();
        windows
            .map(|metered| Usage {
                per: metered.per,
                bytes: metered.bytes,
                spent: metered.window.spent(now),
                limit: Some(metered.window.limit()).filter(|limit| *limit < u64::MAX),
            })
            .collect()
    }

    /// The time in microseconds, which never goes back.
    fn advance(&mut self, now: SystemTime) -> u64 {
        self.latest = self.latest.max(micros(now));
        self.latest
    }

    /// How much is reserved at once: little beside the longer windows, so that a killed process
    /// costs the next one little.
    fn reserve(&self) -> (u64, u64) {
        let long = self
            .windows
            .iter()
            .filter(|m| !m.bytes && m.per != Per::Second);
        let smallest = long.map(|m| m.window.limit() / 16).min();
        let requests = smallest.unwrap_or(RESERVE).clamp(1, RESERVE);
        let under_way = self.in_flight.saturating_mul(BODY_BYTES);
        (requests, RESERVE_BYTES.saturating_add(under_way))
    }

    fn restore(&mut self, saved: &Saved, now: u64) {
        self.held_until = saved.held_until.min(now.saturating_add(LONGEST_HOLD));
        // A window that the file does not have yet has seen at least what another has.
        let most = saved.windows.iter().filter(|w| !w.bytes);
        let most = most.map(|w| w.buckets.iter().map(|b| b.1).sum::<u64>());
        let most = most.max().unwrap_or(0);
        for metered in &mut self.windows {
            let per = metered.per;
            let mut known = saved.windows.iter();
            match known.find(|w| w.per == per && w.bytes == metered.bytes) {
                Some(known) => {
                    metered.window.restore(&known.buckets, &known.recent, now);
                    metered.told = known.told;
                    if let Some(told) = known.told {
                        metered.window.set_limit(told);
                    }
                    metered.granted = known.granted.map(|(left, until)| Grant {
                        left: left.saturating_sub(saved.reserved),
                        until: until.min(now + per.micros()),
                    });
                }
                None if metered.bytes => {}
                None => metered.window.note(now, most),
            }
            let reserved = if metered.bytes {
                saved.reserved_bytes
            } else {
                saved.reserved
            };
            metered.window.note(now, reserved);
        }
    }

    fn write_down(&mut self, reserved: (u64, u64)) -> Result<(), QuotaError> {
        let Some(ledger) = &mut self.ledger else {
            return Ok(());
        };
        let windows = self.windows.iter().map(Metered::saved).collect();
        let saved = Saved::new(reserved, self.held_until, windows);
        file::write(&ledger.path, &saved).map_err(|source| QuotaError::File {
            path: ledger.path.clone(),
            source,
        })?;
        (ledger.left, ledger.left_bytes) = reserved;
        ledger.written = true;
        Ok(())
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // The file as it was counts more than was spent, never less.
        drop(self.save());
    }
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quota")
            .field("windows", &self.windows.len())
            .field("file", &self.ledger.as_ref().map(|l| &l.path))
            .finish_non_exhaustive()
    }
}

impl Metered {
    fn new(per: Per, bytes: bool, limit: u64) -> Self {
        Metered {
            per,
            bytes,
            window: Window::new(per.micros(), limit, !bytes),
            told: None,
            granted: None,
        }
    }

    /// The earliest time, from `now` on, at which one more request fits beside those under way.
    fn free_at(&mut self, now: u64, in_flight: u64) -> u64 {
        let amount = if self.bytes {
            let body = BODY_BYTES.min(self.window.limit() / 20).max(1);
            body.saturating_mul(in_flight + 1)
        } else {
            1
        };
        let free = self.window.free_at(now, amount);
        if self.granted.is_some_and(|grant| grant.until <= now) {
            self.granted = None;
        }
        let none_left = self.granted.filter(|grant| grant.left == 0);
        none_left.map_or(free, |grant| free.max(grant.until))
    }

    fn sent(&mut self, now: u64) {
        if self.bytes {
            return;
        }
        self.window.note(now, 1);
        if let Some(grant) = &mut self.granted {
            grant.left = grant.left.saturating_sub(1);
        }
    }

    fn describe(&self) -> String {
        let what = if self.bytes { "bytes" } else { "requests" };
        let per = self.per.each();
        match (self.granted, self.window.limit()) {
            (Some(grant), _) if grant.left == 0 => {
                format!("the server says that none of its {what} {per} are left")
            }
            (_, limit) => format!("the quota of {limit} {what} {per} is spent"),
        }
    }

    fn saved(&self) -> SavedWindow {
        let (buckets, recent) = self.window.state();
        SavedWindow {
            per: self.per,
            bytes: self.bytes,
            told: self.told,
            granted: self.granted.map(|grant| (grant.left, grant.until)),
            buckets,
            recent,
        }
    }
}

/// Microseconds since 1970.
fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX))
}

/// A number in a header: `5000`, `4920.0`.
fn count(text: &str) -> Option<u64> {
    let text = text.trim();
    let whole = text.split_once('.').map_or(text, |(whole, rest)| {
        let zeros = rest.bytes().all(|b| b.is_ascii_digit());
        if zeros { whole } else { "" }
    });
    whole.parse().ok()
}

/// How long it is, in microseconds, from the server's `now` to the moment that a header names:
/// seconds or milliseconds since 1970, seconds from now, a timestamp or an HTTP date.
fn from_now(text: &str, now: u64) -> Option<u64> {
    /// Seconds since 1970 are above this, and seconds from now below it.
    const EPOCH_SECONDS: u64 = 1_000_000_000;
    let text = text.trim();
    let at = if let Some(number) = count(text) {
        match number {
            0..EPOCH_SECONDS => return Some(number * 1_000_000),
            EPOCH_SECONDS..100_000_000_000 => number * 1_000_000,
            _ => number.saturating_mul(1_000),
        }
    } else if let Some(at) = DateTime::parse(text).and_then(DateTime::to_timestamp) {
        u64::try_from(at.0).ok()?
    } else {
        micros(httpdate::parse_http_date(text).ok()?)
    };
    Some(at.saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + S(1_800_000_000 + seconds)
    }

    fn rules(text: &str) -> QuotaRules {
        toml::from_str(text).unwrap()
    }

    fn held(quota: &mut Quota, now: SystemTime) -> Option<(Duration, String)> {
        match quota.ask(now) {
            Ok(()) => None,
            Err(QuotaError::Held { wait, why }) => Some((wait, why)),
            Err(error) => panic!("{error}"),
        }
    }

    fn none(_: &str) -> Option<&'static str> {
        None
    }

    #[test]
    fn moments_are_read_in_each_form() {
        let now = 1_773_172_800_000_000; // 2026-03-10T20:00:00Z
        for (text, expect) in [
            ("1773173700", Some(900)),
            ("1773173700000", Some(900)),
            ("1773173700.0", Some(900)),
            ("900", Some(900)),
            ("2026-03-10T20:15:00.000Z", Some(900)),
            ("2026-03-10T20:15:00Z", Some(900)),
            ("Tue, 10 Mar 2026 20:15:00 GMT", Some(900)),
            ("2026-03-10T19:00:00Z", Some(0)),
            ("soon", None),
            ("", None),
            ("-5", None),
        ] {
            let expect = expect.map(|s: u64| s * 1_000_000);
            assert_eq!(from_now(text, now), expect, "{text}");
        }
        assert_eq!(count("4920.0"), Some(4920));
        assert_eq!(count(" 17 "), Some(17));
        assert_eq!(count("1e3"), None);
    }

    #[test]
    fn the_longest_wait_decides_and_is_named() {
        let mut quota = Quota::new(&rules(
            "windows = [{ per = 'second', requests = 2 }, { per = 'minute', requests = 3 }]",
        ));
        assert!(held(&mut quota, at(0)).is_none());
        assert!(held(&mut quota, at(0)).is_none());
        let (wait, why) = held(&mut quota, at(0)).unwrap();
        assert!(wait > S(1) && wait < S(2) && why.contains("2 requests a second"));
        assert!(held(&mut quota, at(2)).is_none());
        let (wait, why) = held(&mut quota, at(4)).unwrap();
        assert!(wait > S(55) && why.contains("3 requests a minute"), "{why}");
    }

    #[test]
    fn what_the_server_says_wins() {
        let mut quota = Quota::new(&rules(
            "windows = [{ per = 'hour', requests = 5000 }]\n\
             headers = [{ per = 'hour', limit = 'L', remaining = 'R', reset = 'T' }]",
        ));
        quota.ask(at(0)).unwrap();
        let says = |name: &str| match name {
            "L" => Some("100"),
            "R" => Some("1"),
            "T" => Some("600"),
            _ => None,
        };
        quota.answered(at(0), 0, says);
        assert_eq!(quota.usage(at(0)).first().unwrap().limit, Some(100));
        assert!(held(&mut quota, at(1)).is_none());
        let (wait, why) = held(&mut quota, at(2)).unwrap();
        assert_eq!(wait, S(598));
        assert!(why.contains("server says"), "{why}");
        assert!(held(&mut quota, at(600)).is_none());
    }

    #[test]
    fn bytes_are_counted_with_room_for_the_next_body() {
        let mut quota = Quota::new(&rules("windows = [{ per = 'hour', bytes = 2000 }]"));
        quota.ask(at(0)).unwrap();
        quota.answered(at(0), 1_901, none);
        let (wait, why) = held(&mut quota, at(1)).unwrap();
        assert!(
            wait > S(3_500) && why.contains("2000 bytes an hour"),
            "{why}"
        );
        assert!(held(&mut quota, at(3_700)).is_none());
    }

    #[test]
    fn a_killed_process_has_spent_what_it_reserved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.quota");
        let rules = rules("windows = [{ per = 'hour', requests = 1600 }]");
        let spent = |quota: &mut Quota, now| quota.usage(now).first().unwrap().spent;
        let mut quota = Quota::open(&rules, &path, at(0)).unwrap();
        for _ in 0..5 {
            quota.ask(at(0)).unwrap();
            quota.answered(at(0), 0, none);
        }
        std::mem::forget(quota);
        let mut quota = Quota::open(&rules, &path, at(10)).unwrap();
        assert_eq!(spent(&mut quota, at(10)), 32);
        quota.ask(at(10)).unwrap();
        quota.answered(at(10), 0, none);
        drop(quota);
        // An orderly end costs nothing.
        let mut quota = Quota::open(&rules, &path, at(20)).unwrap();
        assert_eq!(spent(&mut quota, at(20)), 33);
    }

    #[test]
    fn a_process_that_sends_nothing_leaves_the_file_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.quota");
        let rules = rules("windows = [{ per = 'hour', requests = 1600 }]");
        drop(Quota::open(&rules, &path, at(0)).unwrap());
        assert!(!path.exists());
        let mut first = Quota::open(&rules, &path, at(0)).unwrap();
        first.ask(at(0)).unwrap();
        let before = std::fs::read(&path).unwrap();
        // A second sync finds the store busy and goes.
        drop(Quota::open(&rules, &path, at(1)).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_hold_is_known_to_the_next_process_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.quota");
        let rules = rules("");
        let mut quota = Quota::open(&rules, &path, at(0)).unwrap();
        quota.hold(at(0), S(900)).unwrap();
        std::mem::forget(quota);
        let mut quota = Quota::open(&rules, &path, at(100)).unwrap();
        let (wait, why) = held(&mut quota, at(100)).unwrap();
        assert_eq!(wait, S(800));
        assert!(why.contains("asked to wait"), "{why}");
        // A clock that was set back cannot hold for years.
        drop(quota);
        let long_ago = SystemTime::UNIX_EPOCH + S(1_000);
        let mut quota = Quota::open(&rules, &path, long_ago).unwrap();
        let (wait, _) = held(&mut quota, long_ago).unwrap();
        assert_eq!(wait, S(3_600));
    }

    #[test]
    fn a_broken_file_is_a_spent_quota() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.quota");
        let rules = rules("windows = [{ per = 'minute', requests = 60 }]");
        for broken in ["", "{", "{\"version\":99}", "\u{0}\u{0}\u{0}"] {
            std::fs::write(&path, broken).unwrap();
            let written = std::fs::metadata(&path).unwrap().modified().unwrap();
            let mut quota = Quota::open(&rules, &path, written + S(10)).unwrap();
            let (wait, _) = held(&mut quota, written + S(10)).unwrap();
            assert!(wait > S(48) && wait < S(52), "{broken:?}: {wait:?}");
            std::mem::forget(quota);
            let mut quota = Quota::open(&rules, &path, written + S(120)).unwrap();
            assert!(held(&mut quota, written + S(120)).is_none(), "{broken:?}");
            std::mem::forget(quota);
        }
        // A place that cannot be written is an error before anything is sent.
        let nowhere = dir.path().join("no/such/place");
        let mut quota = Quota::open(&rules, &nowhere, at(0)).unwrap();
        let error = quota.ask(at(0)).unwrap_err();
        assert!(matches!(error, QuotaError::File { .. }), "{error}");
    }
}
