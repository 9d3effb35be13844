//! Counters of what a feed has done, readable while it runs.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

/// Counters that the feed moves and a progress display or a run report reads.
///
/// Each counter only grows. They are read one by one, so two may be an instant apart.
#[derive(Debug, Default)]
pub struct Stats {
    requests: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
    bytes: AtomicU64,
    waited_micros: AtomicU64,
    last_status: AtomicU16,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Requests sent, retries among them.
    pub requests: u64,
    /// Requests sent again after a failure.
    pub retries: u64,
    /// Answers of 429 Too Many Requests.
    pub throttled: u64,
    /// Bytes of bodies received, decompressed.
    pub bytes: u64,
    /// Time spent waiting before retries.
    pub waited: Duration,
    /// The HTTP status of the last answer, if there was one.
    pub last_status: Option<u16>,
}

impl Stats {
    /// Reads the counters.
    pub fn snapshot(&self) -> Counters {
        let status = self.last_status.load(Ordering::Relaxed);
        Counters {
            requests: self.requests.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            waited: Duration::from_micros(self.waited_micros.load(Ordering::Relaxed)),
            last_status: (status != 0).then_some(status),
        }
    }

    pub(crate) fn request(&self, retry: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.retries.fetch_add(u64::from(retry), Ordering::Relaxed);
    }

    pub(crate) fn status(&self, status: u16) {
        self.last_status.store(status, Ordering::Relaxed);
        self.throttled
            .fetch_add(u64::from(status == 429), Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn waited(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.waited_micros.fetch_add(micros, Ordering::Relaxed);
    }
}
