//! Which task comes next: hosts take turns, and one that fails waits by itself.

use std::collections::{HashMap, VecDeque};

/// After so many failures in a row a host is left for the next run.
const GIVE_UP: u32 = 3;
/// The first wait after a failure, in microseconds; it doubles with each one.
const FIRST_WAIT: i64 = 1_000_000;
/// The longest wait for a host: one that asks for more is left for the next run.
const LONGEST_WAIT: i64 = 60_000_000;

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// This.
    Task(T),
    /// Nothing before that time, in microseconds.
    Wait(i64),
    /// Nothing before a task under way has ended.
    Busy,
    /// All is done, or left.
    Done,
}

/// Tasks by host.
#[derive(Debug)]
pub(super) struct Hosts<T> {
    turns: VecDeque<String>,
    by_name: HashMap<String, Host<T>>,
    under_way: usize,
    left: Vec<T>,
}

#[derive(Debug)]
struct Host<T> {
    tasks: VecDeque<T>,
    failures: u32,
    not_before: i64,
    gone: bool,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Hosts {
            turns: VecDeque::new(),
            by_name: HashMap::new(),
            under_way: 0,
            left: Vec::new(),
        }
    }
}

impl<T> Hosts<T> {
    /// Adds a task. That of a host which was given up is left at once.
    pub(super) fn push(&mut self, host: &str, task: T) {
        let known = self.by_name.entry(host.to_owned()).or_insert_with(|| {
            self.turns.push_back(host.to_owned());
            Host {
                tasks: VecDeque::new(),
                failures: 0,
                not_before: i64::MIN,
                gone: false,
            }
        });
        if known.gone {
            self.left.push(task);
        } else {
            known.tasks.push_back(task);
        }
    }

    /// The next task, at that time.
    pub(super) fn next(&mut self, now: i64) -> Next<(String, T)> {
        let mut earliest = None;
        for _ in 0..self.turns.len() {
            self.turns.rotate_left(1);
            let Some(name) = self.turns.back() else { break };
            let Some(host) = self.by_name.get_mut(name) else {
                continue;
            };
            if host.tasks.is_empty() {
                continue;
            }
            if host.not_before > now {
                let at = host.not_before;
                earliest = Some(earliest.map_or(at, |e: i64| e.min(at)));
                continue;
            }
            if let Some(task) = host.tasks.pop_front() {
                // A host that failed is tried by one task, not by all that are free.
                if host.failures > 0 {
                    host.not_before = i64::MAX;
                }
                self.under_way += 1;
                return Next::Task((name.clone(), task));
            }
        }
        match (earliest, self.under_way) {
            (None, 0) => Next::Done,
            (Some(at), _) if at < i64::MAX => Next::Wait(at),
            _ => Next::Busy,
        }
    }

    /// The host answered, whatever it said.
    pub(super) fn answered(&mut self, host: &str) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(host) = self.by_name.get_mut(host) {
            (host.failures, host.not_before) = (0, i64::MIN);
        }
    }

    /// The host did not answer, or asked to be left alone for so many microseconds.
    pub(super) fn failed(&mut self, name: &str, now: i64, asked: Option<i64>) {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(host) = self.by_name.get_mut(name) else {
            return;
        };
        let same_event = host.not_before > now && host.not_before < i64::MAX;
        if same_event && asked.is_none() {
            // Tasks that were under way together fail together: that is one failure.
            return;
        }
        host.failures += 1;
        let doubled = FIRST_WAIT << host.failures.saturating_sub(1).min(6);
        let wait = asked.unwrap_or(0).max(doubled);
        host.not_before = now.saturating_add(wait);
        if host.failures >= GIVE_UP || wait > LONGEST_WAIT {
            host.gone = true;
            self.left.extend(host.tasks.drain(..));
        }
    }

    /// How many tasks were left because of their host.
    pub(super) fn left(&self) -> usize {
        self.left.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(hosts: &mut Hosts<u32>, now: i64) -> Vec<u32> {
        let mut out = Vec::new();
        while let Next::Task((host, task)) = hosts.next(now) {
            out.push(task);
            hosts.answered(&host);
        }
        out
    }

    #[test]
    fn hosts_take_turns() {
        let mut hosts = Hosts::default();
        for task in 0..4 {
            hosts.push("a", task);
        }
        hosts.push("b", 10);
        hosts.push("b", 11);
        assert_eq!(tasks(&mut hosts, 0), [0, 10, 1, 11, 2, 3]);
        assert_eq!(hosts.next(0), Next::Done);
    }

    #[test]
    fn a_dead_host_keeps_nobody_waiting_and_is_given_up() {
        let mut hosts = Hosts::default();
        for task in 0..9 {
            hosts.push("dead", task);
        }
        hosts.push("b", 10);
        hosts.push("b", 11);
        let Next::Task((host, 0)) = hosts.next(0) else {
            panic!("no task")
        };
        hosts.failed(&host, 0, None);
        assert_eq!(tasks(&mut hosts, 0), [10, 11]);
        let mut now = 0;
        for _ in 0..2 {
            let Next::Wait(at) = hosts.next(now) else {
                panic!("no wait")
            };
            now = at;
            let Next::Task((host, _)) = hosts.next(now) else {
                panic!("no task")
            };
            // While it is tried, nothing else of it is.
            assert_eq!(hosts.next(now), Next::Busy);
            hosts.failed(&host, now, None);
        }
        assert_eq!(hosts.next(now), Next::Done);
        assert_eq!(hosts.left(), 6);
        hosts.push("dead", 99);
        assert_eq!((hosts.next(now), hosts.left()), (Next::Done, 7));
    }

    #[test]
    fn what_fails_together_is_one_failure() {
        let mut hosts = Hosts::default();
        for task in 0..9 {
            hosts.push("a", task);
        }
        for _ in 0..4 {
            assert!(matches!(hosts.next(0), Next::Task(_)));
        }
        for _ in 0..4 {
            hosts.failed("a", 0, None);
        }
        assert_eq!((hosts.left(), hosts.next(0)), (0, Next::Wait(FIRST_WAIT)));
        assert!(matches!(hosts.next(FIRST_WAIT), Next::Task(_)));
    }

    #[test]
    fn a_host_that_asks_for_long_is_left() {
        let mut hosts = Hosts::default();
        hosts.push("a", 0);
        hosts.push("a", 1);
        let _ = hosts.next(0);
        hosts.failed("a", 0, Some(3_600_000_000));
        assert_eq!((hosts.next(0), hosts.left()), (Next::Done, 1));
    }
}
