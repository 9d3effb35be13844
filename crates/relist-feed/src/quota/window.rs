//! One window: never more than its limit in any stretch of its length.
//!
//! Nobody publishes whether a window slides or begins anew at each full hour. A window that never
//! lets more than its limit through in *any* stretch of its length satisfies both. Small limits
//! are kept exactly, by the time of each request. Large ones are kept in buckets, whose edges are
//! those of UTC's hours and days; a bucket counts in full until its last instant is out of reach,
//! so rounding only ever waits longer.

use std::collections::VecDeque;

/// Limits up to this are kept request by request.
const EXACT_UP_TO: u64 = 512;
/// Buckets in a window's length.
const BUCKETS: u64 = 96;
/// How much longer than its length a window is kept, in microseconds: requests that left evenly
/// may arrive closer together.
pub(super) const JITTER: u64 = 50_000;

/// One window. All times are microseconds since 1970.
#[derive(Debug, Clone)]
pub(super) struct Window {
    length: u64,
    limit: u64,
    /// Each bucket's number since 1970, and what was spent in it.
    buckets: VecDeque<(u64, u64)>,
    total: u64,
    /// The times of the last requests, when the limit is small.
    recent: VecDeque<u64>,
    keeps: usize,
}

impl Window {
    pub(super) fn new(length: u64, limit: u64, exact: bool) -> Self {
        let keeps = if exact && limit <= EXACT_UP_TO {
            usize::try_from(limit).unwrap_or(0)
        } else {
            0
        };
        Window {
            length,
            limit,
            buckets: VecDeque::new(),
            total: 0,
            recent: VecDeque::new(),
            keeps,
        }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes over what the server says it allows.
    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// What was spent in the stretch that ends at `now`, rounded up.
    pub(super) fn spent(&mut self, now: u64) -> u64 {
        self.forget(now);
        self.total
    }

    /// Notes that something was spent.
    pub(super) fn note(&mut self, at: u64, amount: u64) {
        if amount == 0 {
            return;
        }
        self.forget(at);
        let place = at / self.width();
        match self.buckets.back_mut() {
            // Time that went back is taken to stand still.
            Some((last, spent)) if *last >= place => *spent = spent.saturating_add(amount),
            _ => self.buckets.push_back((place, amount)),
        }
        self.total = self.total.saturating_add(amount);
        let times = usize::try_from(amount)
            .unwrap_or(usize::MAX)
            .min(self.keeps);
        for _ in 0..times {
            self.recent.push_back(at);
        }
        while self.recent.len() > self.keeps {
            self.recent.pop_front();
        }
    }

    /// The earliest time, from `now` on, at which `amount` more may be spent.
    pub(super) fn free_at(&mut self, now: u64, amount: u64) -> u64 {
        self.forget(now);
        if self.limit == 0 {
            return now.saturating_add(self.length);
        }
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        if limit <= self.keeps {
            let oldest = self.recent.len().checked_sub(limit);
            let oldest = oldest.and_then(|at| self.recent.get(at));
            return oldest.map_or(now, |at| (at + self.length + JITTER).max(now));
        }
        // What is larger than the limit has the window to itself.
        let room = self.limit - amount.min(self.limit);
        let mut left = self.total;
        let mut at = now;
        for (place, spent) in &self.buckets {
            if left <= room {
                break;
            }
            left = left.saturating_sub(*spent);
            at = self.gone_at(*place).max(now);
        }
        at
    }

    /// What is remembered: buckets and times.
    pub(super) fn state(&self) -> (Vec<(u64, u64)>, Vec<u64>) {
        let buckets = self.buckets.iter().copied().collect();
        (buckets, self.recent.iter().copied().collect())
    }

    /// Takes up what was remembered. What lies behind `now` was written by a clock that has since
    /// been set back: it counts as spent now.
    pub(super) fn restore(&mut self, buckets: &[(u64, u64)], recent: &[u64], now: u64) {
        let keeps = std::mem::take(&mut self.keeps);
        for (place, spent) in buckets {
            self.note(place.saturating_mul(self.width()).min(now), *spent);
        }
        self.keeps = keeps;
        let times = recent.iter().map(|at| (*at).min(now));
        self.recent.extend(times);
        while self.recent.len() > self.keeps {
            self.recent.pop_front();
        }
    }

    fn width(&self) -> u64 {
        (self.length / BUCKETS).max(1)
    }

    /// When the last instant of a bucket is out of reach.
    fn gone_at(&self, place: u64) -> u64 {
        let end = place.saturating_add(1).saturating_mul(self.width());
        end.saturating_add(self.length).saturating_add(JITTER)
    }

    fn forget(&mut self, now: u64) {
        while let Some((place, spent)) = self.buckets.front().copied() {
            if self.gone_at(place) > now {
                return;
            }
            self.total = self.total.saturating_sub(spent);
            self.buckets.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_small_limit_is_kept_to_the_microsecond() {
        let mut window = Window::new(SECOND, 2, true);
        let start = 1_000 * SECOND;
        for at in [start, start + 300_000] {
            assert_eq!(window.free_at(at, 1), at);
            window.note(at, 1);
        }
        let free = window.free_at(start + 400_000, 1);
        assert_eq!(free, start + SECOND + JITTER);
        window.note(free, 1);
        assert_eq!(window.free_at(free, 1), start + 300_000 + SECOND + JITTER);
    }

    #[test]
    fn a_large_limit_waits_for_the_oldest_bucket() {
        let hour = 3_600 * SECOND;
        let mut window = Window::new(hour, 1_000, true);
        window.note(hour, 600);
        window.note(hour + 60 * SECOND, 400);
        assert_eq!(window.spent(hour + 61 * SECOND), 1_000);
        let free = window.free_at(hour + 61 * SECOND, 1);
        assert!(free >= 2 * hour && free <= 2 * hour + 40 * SECOND, "{free}");
        assert_eq!(window.spent(free), 400);
        // 601 more need both gone.
        let both = window.free_at(free, 601);
        assert!(both >= 2 * hour + 60 * SECOND, "{both}");
        // What can never fit has the window to itself.
        assert_eq!(window.free_at(both, 5_000), both);
    }

    #[test]
    fn a_clock_set_back_forgets_nothing() {
        let mut window = Window::new(60 * SECOND, 1_000, true);
        window.note(5_000 * SECOND, 1_000);
        window.note(4_000 * SECOND, 1);
        let (buckets, recent) = window.state();
        let mut again = Window::new(60 * SECOND, 1_000, true);
        again.restore(&buckets, &recent, 100 * SECOND);
        assert_eq!(again.spent(100 * SECOND), 1_001);
        assert!(again.free_at(100 * SECOND, 1) >= 160 * SECOND);
        assert_eq!(again.free_at(200 * SECOND, 1), 200 * SECOND);
    }

    #[test]
    fn a_server_that_allows_less_or_more_is_believed() {
        let mut window = Window::new(60 * SECOND, 180, true);
        let now = 600 * SECOND;
        window.note(now, 100);
        window.set_limit(100);
        assert!(window.free_at(now, 1) > now);
        window.set_limit(280);
        assert_eq!(window.free_at(now, 1), now);
        window.note(now, 180);
        assert!(window.free_at(now, 1) > now);
    }
}
