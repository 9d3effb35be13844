//! What runs now: decided from the jobs, their last runs and the wall clock.
//!
//! The wall clock is a number that is handed in and may do anything: [`Scheduler::decide`] is
//! called at least once in [`LONGEST_WAIT`], and compares it with what it was the last time.

use relist::value::Timestamp;

use super::jobs::{CatchUp, Job, Plan, Sort};
use super::state::{JobState, State};
use super::timing::{SECOND, Timing};

/// The longest that is waited before the wall clock is looked at again: waits are measured by a
/// clock that nobody sets, and the wall clock may be set meanwhile.
pub(crate) const LONGEST_WAIT: i64 = SECOND;
/// How late an occurrence may be found without counting as missed.
const SLACK: i64 = 60 * SECOND;
/// After a reconcile that is owed did not come to its end, it is tried again after so long, and
/// after twice as long each further time: a feed that is down must not cost its quota as well.
const FIRST_RETRY: i64 = 15 * 60 * SECOND;
const LAST_RETRY: i64 = 6 * 3_600 * SECOND;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Run this job.
    Run(usize),
    /// Wait so many microseconds, at least one and at most [`LONGEST_WAIT`]; then ask again.
    Wait(i64),
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The exit code of its command.
    pub(crate) exit: u8,
    /// Why it failed.
    pub(crate) message: Option<String>,
}

/// The jobs and what is known of them.
#[derive(Debug)]
pub(crate) struct Scheduler {
    jobs: Vec<Job>,
    state: State,
    reconcile_after: i64,
    /// The wall clock when it was last handed in.
    seen: Option<Timestamp>,
    /// Until when somebody waits, or has worked.
    awake_until: Option<Timestamp>,
    random: fastrand::Rng,
}

impl Scheduler {
    /// A scheduler that goes on where the kept state ends. The seed is for the jitter.
    pub(crate) fn new(plan: Plan, kept: &State, now: Timestamp, seed: u64) -> Self {
        let mut state = kept.clone();
        state.jobs.clear();
        let mut scheduler = Scheduler {
            jobs: plan.jobs,
            state,
            reconcile_after: plan.reconcile_after,
            seen: Some(now),
            awake_until: None,
            random: fastrand::Rng::with_seed(seed),
        };
        for at in 0..scheduler.jobs.len() {
            scheduler.take_over(at, kept, now);
        }
        scheduler
    }

    fn take_over(&mut self, at: usize, kept: &State, now: Timestamp) {
        let Some(job) = self.jobs.get(at) else { return };
        let known = kept.jobs.iter().find(|s| s.name == job.name);
        let mut state = known.cloned().unwrap_or_default();
        let timing = job.timing.words();
        let same = known.is_some() && state.timing == timing;
        state.name.clone_from(&job.name);
        state.run = job.typed();
        state.timing = timing;
        state.running = false;
        if !same {
            (state.occurrence, state.due) = (None, None);
        }
        let aimed = state.due.is_some();
        self.state.jobs.push(state);
        if aimed {
            self.pull_back(at, now);
        } else {
            self.aim(at, now);
        }
    }

    /// What is to be kept.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// How long a mirror may be without a complete run, in microseconds.
    pub(crate) fn reconcile_after(&self) -> i64 {
        self.reconcile_after
    }

    /// What runs now, or how long there is nothing to do.
    pub(crate) fn decide(&mut self, now: Timestamp) -> Decision {
        if self.seen.is_some_and(|seen| now < seen) {
            for at in 0..self.jobs.len() {
                self.pull_back(at, now);
            }
        }
        let nobody_was_there = self
            .awake_until
            .is_none_or(|until| now.0.saturating_sub(until.0) > SLACK);
        if nobody_was_there {
            self.skip_missed(now);
        }
        self.seen = Some(now);
        let dues = self.state.jobs.iter().enumerate();
        let next = dues.filter_map(|(at, state)| Some((state.due?, at))).min();
        match next {
            Some((due, at)) if due <= now => {
                self.awake_until = Some(now);
                Decision::Run(at)
            }
            next => {
                let wait = next.map_or(LONGEST_WAIT, |(due, _)| due.0.saturating_sub(now.0));
                let wait = wait.clamp(1, LONGEST_WAIT);
                self.awake_until = Some(Timestamp(now.0.saturating_add(wait)));
                Decision::Wait(wait)
            }
        }
    }

    /// Notes that a job begins.
    pub(crate) fn began(&mut self, at: usize, now: Timestamp) {
        if let Some(state) = self.state.jobs.get_mut(at) {
            state.began = Some(now);
            state.running = true;
        }
    }

    /// Notes that a job has ended, well or not: its next time comes.
    pub(crate) fn ended(&mut self, at: usize, now: Timestamp, ending: Ending) {
        // What became due while the job ran was not missed: it waited.
        self.seen = Some(now);
        self.awake_until = Some(now);
        let Some(state) = self.state.jobs.get_mut(at) else {
            return;
        };
        state.running = false;
        state.ended = Some(now);
        state.runs += 1;
        state.failures = if ending.exit == 0 {
            0
        } else {
            state.failures + 1
        };
        state.exit = Some(ending.exit);
        state.message = ending.message;
        state.last = state.occurrence;
        let name = state.name.clone();
        let settled =
            ending.exit == 0 && self.jobs.get(at).is_some_and(|j| j.sort == Sort::Settling);
        if settled {
            self.settle();
        }
        self.aim(at, now);
        for follower in 0..self.jobs.len() {
            let follows = self
                .jobs
                .get(follower)
                .is_some_and(|j| matches!(&j.timing, Timing::After(other) if *other == name));
            if follows {
                self.set(follower, Some(now));
            }
        }
    }

    /// Notes that a job was stopped on the way: it stays due.
    pub(crate) fn stopped(&mut self, at: usize, now: Timestamp) {
        if let Some(state) = self.state.jobs.get_mut(at) {
            state.running = false;
            state.ended = Some(now);
        }
    }

    /// Finds the next occurrence of a job that has none or has had it.
    fn aim(&mut self, at: usize, now: Timestamp) {
        let next = self.expected(at, now);
        self.set(at, next);
    }

    /// The next occurrence after now that was not run yet, whatever the clock has done since.
    fn expected(&self, at: usize, now: Timestamp) -> Option<Timestamp> {
        let (job, state) = (self.jobs.get(at)?, self.state.jobs.get(at)?);
        // A clock set back by less than a period must not repeat an occurrence; set back by more,
        // it is another clock, and its times have not been run.
        let from = match state.last {
            Some(last) if last > now => {
                let period = job.timing.period(last).unwrap_or(0);
                if last.0.saturating_sub(now.0) <= period {
                    last
                } else {
                    now
                }
            }
            _ => now,
        };
        job.timing.next(state.last, from)
    }

    /// Brings an occurrence that the clock was set back from to where it belongs.
    fn pull_back(&mut self, at: usize, now: Timestamp) {
        let occurrence = self.state.jobs.get(at).and_then(|s| s.occurrence);
        let timed = !self
            .jobs
            .get(at)
            .is_some_and(|j| matches!(j.timing, Timing::After(_)));
        let Some(occurrence) = occurrence.filter(|o| *o > now) else {
            return;
        };
        if !timed {
            // It follows a run that has been: there is nothing to wait for.
            self.set(at, Some(now));
        } else if let Some(expected) = self.expected(at, now)
            && expected < occurrence
        {
            self.set(at, Some(expected));
        }
    }

    fn set(&mut self, at: usize, occurrence: Option<Timestamp>) {
        let jitter = self.jobs.get(at).map_or(0, |j| j.jitter);
        let delay = if jitter > 0 {
            self.random.i64(0..=jitter)
        } else {
            0
        };
        if let Some(state) = self.state.jobs.get_mut(at) {
            state.occurrence = occurrence;
            state.due = occurrence.map(|o| Timestamp(o.0.saturating_add(delay)));
        }
    }

    /// Lets go of occurrences that nobody was there for, where a job does not catch up.
    fn skip_missed(&mut self, now: Timestamp) {
        for at in 0..self.jobs.len() {
            let skips = self.jobs.get(at).is_some_and(|j| {
                j.catch_up == CatchUp::Skip && !matches!(j.timing, Timing::After(_))
            });
            let Some(state) = self.state.jobs.get_mut(at).filter(|_| skips) else {
                continue;
            };
            if state
                .due
                .is_some_and(|due| now.0.saturating_sub(due.0) > SLACK)
            {
                state.missed += 1;
                state.last = state.occurrence;
                self.aim(at, now);
            }
        }
    }

    /// Told when the mirror was last complete, notes whether a reconcile is owed.
    pub(crate) fn note_complete(&mut self, last: Option<Timestamp>, now: Timestamp) {
        let gap = last.is_some_and(|last| now.0.saturating_sub(last.0) > self.reconcile_after);
        if gap && self.state.owed_since.is_none() {
            self.state.owed_since = Some(now);
        }
    }

    /// Whether a reconcile must come before this job.
    pub(crate) fn reconcile_first(&self, at: usize, now: Timestamp) -> bool {
        let incremental = self
            .jobs
            .get(at)
            .is_some_and(|j| j.sort == Sort::Incremental);
        incremental && self.state.owed_since.is_some() && self.may_try(now)
    }

    fn may_try(&self, now: Timestamp) -> bool {
        let doublings = self.state.owed_tries.saturating_sub(1).min(16);
        let pause = FIRST_RETRY.saturating_mul(1 << doublings).min(LAST_RETRY);
        self.state.owed_tried.is_none_or(|tried| {
            // A clock that was set back says nothing of how long ago it was.
            tried > now || now.0.saturating_sub(tried.0) >= pause
        })
    }

    /// Notes what came of a reconcile that was owed.
    pub(crate) fn reconciled(&mut self, now: Timestamp, well: bool) {
        self.seen = Some(now);
        self.awake_until = Some(now);
        if well {
            self.settle();
        } else {
            self.state.owed_tried = Some(now);
            self.state.owed_tries = self.state.owed_tries.saturating_add(1);
        }
    }

    fn settle(&mut self) {
        self.state.owed_since = None;
        self.state.owed_tried = None;
        self.state.owed_tries = 0;
    }
}

/// The next occurrences of a plan's jobs, in order, as far as the clock alone decides them.
pub(crate) fn upcoming(
    jobs: &[Job],
    states: &[JobState],
    now: Timestamp,
    most: usize,
) -> Vec<(Timestamp, usize)> {
    let mut all = Vec::new();
    for (at, job) in jobs.iter().enumerate() {
        let known = states.iter().find(|s| s.name == job.name);
        let known = known.filter(|s| s.timing == job.timing.words());
        let mut next = match known.and_then(|s| s.occurrence) {
            Some(occurrence) if !matches!(job.timing, Timing::After(_)) => {
                Some(occurrence.max(now))
            }
            _ => job.timing.next(None, now),
        };
        let mut anchor = known.and_then(|s| s.occurrence).or(next);
        for _ in 0..most {
            let Some(occurrence) = next else { break };
            all.push((occurrence, at));
            next = job.timing.next(anchor, occurrence);
            anchor = anchor.or(next);
        }
    }
    all.sort_unstable();
    all.truncate(most);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::timing::CronTimes;
    use chrono_tz::Tz;

    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;

    fn at(text: &str) -> Timestamp {
        let at = chrono::DateTime::parse_from_rfc3339(text).unwrap();
        Timestamp(at.timestamp_micros())
    }

    fn job(name: &str, timing: Timing) -> Job {
        Job {
            name: name.to_owned(),
            words: vec!["sync".to_owned()],
            timing,
            catch_up: CatchUp::Once,
            jitter: 0,
            sort: Sort::Other,
        }
    }

    fn denver(name: &str, expression: &str) -> Job {
        let times = CronTimes::new(expression, Tz::America__Denver).unwrap();
        job(name, Timing::Cron(Box::new(times)))
    }

    fn every(name: &str, interval: i64) -> Job {
        job(name, Timing::Every(interval))
    }

    fn skipping(mut job: Job) -> Job {
        job.catch_up = CatchUp::Skip;
        job
    }

    fn after(name: &str, other: &str) -> Job {
        job(name, Timing::After(other.to_owned()))
    }

    /// A scheduler, a wall clock that may be set, and one that nobody sets.
    struct World {
        scheduler: Scheduler,
        plan: Plan,
        wall: Timestamp,
        /// Microseconds since the start.
        real: i64,
        /// How long runs of a job take.
        takes: fn(&str) -> i64,
        /// Each run: its job, the wall clock at its beginning, and the other clock.
        runs: Vec<(String, Timestamp, i64)>,
        decisions: u64,
    }

    impl World {
        fn new(jobs: Vec<Job>, wall: &str) -> Self {
            let plan = Plan {
                jobs,
                reconcile_after: DAY,
            };
            let wall = at(wall);
            World {
                scheduler: Scheduler::new(plan.clone(), &State::default(), wall, 1),
                plan,
                wall,
                real: 0,
                takes: |_| 10 * SECOND,
                runs: Vec::new(),
                decisions: 0,
            }
        }

        fn pass(&mut self, micros: i64) {
            self.wall.0 += micros;
            self.real += micros;
        }

        /// Lets the scheduler live for so long.
        fn live(&mut self, micros: i64) {
            let end = self.real + micros;
            while self.real < end {
                self.decisions += 1;
                match self.scheduler.decide(self.wall) {
                    Decision::Wait(wait) => {
                        assert!((1..=LONGEST_WAIT).contains(&wait), "{wait}");
                        self.pass(wait);
                    }
                    Decision::Run(which) => self.run(which, 0),
                }
            }
        }

        fn run(&mut self, which: usize, exit: u8) {
            let name = self.scheduler.jobs()[which].name.clone();
            self.runs.push((name.clone(), self.wall, self.real));
            self.scheduler.began(which, self.wall);
            self.pass((self.takes)(&name));
            let message = None;
            let ending = Ending { exit, message };
            self.scheduler.ended(which, self.wall, ending);
        }

        /// The process ends, time passes, another begins with what was kept.
        fn down(&mut self, micros: i64) {
            let kept = self.scheduler.state().clone();
            self.pass(micros);
            self.scheduler = Scheduler::new(self.plan.clone(), &kept, self.wall, 2);
        }

        fn begins(&self, name: &str) -> Vec<String> {
            let of = self.runs.iter().filter(|r| r.0 == name);
            of.map(|r| r.1.to_string()).collect()
        }

        fn count(&self, name: &str) -> usize {
            self.begins(name).len()
        }
    }

    fn mirror() -> Vec<Job> {
        vec![
            denver("full", "0 2 * * SUN"),
            every("incremental", 15 * MINUTE),
            after("watch", "incremental"),
            denver("reconcile", "30 1 * * *"),
        ]
    }

    #[test]
    fn over_the_leap_each_job_runs_once() {
        let mut world = World::new(mirror(), "2026-03-08T07:00:00Z");
        world.live(DAY);
        // 02:00 does not exist that day: 03:00 MDT is 09:00 UTC.
        assert_eq!(world.begins("full").len(), 1);
        assert!(world.begins("full")[0].starts_with("2026-03-08T09:00:"));
        assert_eq!(world.count("reconcile"), 1);
        assert_eq!(world.count("incremental"), 96);
        assert_eq!(world.count("watch"), 96);
    }

    #[test]
    fn over_the_repeated_hour_each_job_runs_once() {
        let mut world = World::new(mirror(), "2026-11-01T06:00:00Z");
        world.live(DAY);
        assert_eq!(world.count("full"), 1);
        assert!(world.begins("full")[0].starts_with("2026-11-01T09:00:"));
        // 01:30 comes at 07:30 and at 08:30 UTC.
        assert_eq!(world.count("reconcile"), 1);
        assert!(world.begins("reconcile")[0].starts_with("2026-11-01T07:30:"));
        assert_eq!(world.count("incremental"), 96);
    }

    #[test]
    fn a_restart_between_the_two_passes_repeats_nothing() {
        let mut world = World::new(mirror(), "2026-11-01T07:00:00Z");
        world.live(HOUR);
        assert_eq!(world.count("reconcile"), 1);
        world.down(5 * MINUTE);
        world.live(12 * HOUR);
        assert_eq!(world.count("reconcile"), 1);
        assert_eq!(world.count("full"), 1);
    }

    #[test]
    fn one_job_at_a_time_and_what_waits_is_not_doubled() {
        let mut world = World::new(mirror(), "2026-06-07T07:55:00Z");
        world.takes = |name| if name == "full" { 5 * HOUR } else { MINUTE };
        world.live(10 * HOUR);
        for pair in world.runs.windows(2) {
            assert!(
                pair[1].2 >= pair[0].2 + (world.takes)(&pair[0].0),
                "{pair:?}"
            );
        }
        // 07:55 and 13:00, when the full sync is done; every quarter after that.
        assert_eq!(
            &world.begins("incremental")[..3],
            [
                "2026-06-07T07:55:00Z",
                "2026-06-07T13:00:00Z",
                "2026-06-07T13:10:00Z"
            ]
        );
        assert_eq!(world.count("watch"), world.count("incremental"));
        assert_eq!((world.count("full"), world.count("reconcile")), (1, 0));
    }

    #[test]
    fn a_job_longer_than_its_interval_does_not_queue_up() {
        let jobs = vec![every("slow", MINUTE), every("other", 10 * MINUTE)];
        let mut world = World::new(jobs, "2026-06-07T00:00:00Z");
        world.takes = |name| if name == "slow" { 90 * SECOND } else { SECOND };
        world.live(HOUR);
        assert!(world.count("other") >= 6, "{:?}", world.runs);
        assert!(world.count("slow") <= 31, "{:?}", world.runs);
    }

    #[test]
    fn a_week_of_downtime_is_caught_up_with_once() {
        let mut jobs = mirror();
        jobs.push(skipping(denver("report", "0 6 * * *")));
        let mut world = World::new(jobs, "2026-06-03T12:30:00Z");
        world.live(HOUR);
        let before = world.runs.len();
        world.down(7 * DAY);
        world.live(10 * MINUTE);
        let mut names: Vec<&str> = world.runs[before..].iter().map(|r| r.0.as_str()).collect();
        // In the order in which they became due; what skips waits for its time.
        assert_eq!(names, ["incremental", "reconcile", "full", "watch"]);
        let missed = &world.scheduler.state().jobs[4];
        assert_eq!((missed.missed, missed.runs), (1, 0));
        world.live(DAY);
        names = world.runs[before..].iter().map(|r| r.0.as_str()).collect();
        assert_eq!(names.iter().filter(|n| **n == "report").count(), 1);
        assert_eq!(names.iter().filter(|n| **n == "reconcile").count(), 2);
        assert_eq!(names.iter().filter(|n| **n == "full").count(), 1);
    }

    #[test]
    fn a_machine_that_slept_counts_as_downtime() {
        let jobs = vec![
            skipping(denver("daily", "0 6 * * *")),
            every("often", MINUTE),
        ];
        let mut world = World::new(jobs, "2026-06-03T11:59:00Z");
        world.live(30 * SECOND);
        world.pass(3 * HOUR);
        world.live(HOUR);
        assert_eq!(world.count("daily"), 0);
        assert_eq!(world.scheduler.state().jobs[0].missed, 1);
        assert!((60..=62).contains(&world.count("often")));
    }

    #[test]
    fn what_skips_still_waits_for_a_job_that_runs() {
        let jobs = vec![
            skipping(denver("daily", "0 6 * * *")),
            denver("full", "0 5 * * *"),
        ];
        let mut world = World::new(jobs, "2026-06-03T10:59:00Z");
        world.takes = |name| if name == "full" { 5 * HOUR } else { MINUTE };
        world.live(7 * HOUR);
        assert_eq!((world.count("daily"), world.count("full")), (1, 1));
    }

    #[test]
    fn a_clock_set_back_a_little_repeats_nothing() {
        let mut world = World::new(mirror(), "2026-06-07T07:55:00Z");
        world.live(20 * MINUTE);
        assert_eq!(world.count("full"), 1);
        let before = world.count("incremental");
        world.wall.0 -= 30 * MINUTE;
        world.live(HOUR);
        assert_eq!(world.count("full"), 1);
        let more = world.count("incremental") - before;
        assert!((3..=5).contains(&more), "{more}");
        // Set back within the period, the interval waits less than two of it.
        let real: Vec<i64> = world
            .runs
            .iter()
            .filter(|r| r.0 == "incremental")
            .map(|r| r.2)
            .collect();
        for pair in real.windows(2) {
            assert!(pair[1] - pair[0] < 30 * MINUTE, "{real:?}");
        }
        world.live(6 * DAY);
        assert_eq!(world.count("full"), 1);
        assert_eq!(world.count("reconcile"), 6);
    }

    #[test]
    fn a_clock_set_back_ten_years_delays_nothing() {
        let mut world = World::new(mirror(), "2030-06-05T12:00:00Z");
        world.live(DAY);
        world.wall = at("2020-06-05T12:00:00Z");
        let (real, before, decisions) = (world.real, world.runs.len(), world.decisions);
        world.live(2 * DAY);
        let since: Vec<_> = world.runs[before..].to_vec();
        let of = |name: &str| since.iter().filter(|r| r.0 == name).count();
        assert!(
            (191..=192).contains(&of("incremental")),
            "{}",
            of("incremental")
        );
        assert_eq!(of("reconcile"), 2);
        assert!(since[0].2 - real <= 15 * MINUTE);
        // A decision a second and one a run: no busy loop.
        assert!(world.decisions - decisions <= 2 * 86_400 + 1_000);
        // A scheduler that begins then, with a state of the future, does as well.
        world.down(MINUTE);
        let before = world.runs.len();
        world.live(DAY);
        assert!(world.runs.len() - before >= 2 * 95);
    }

    #[test]
    fn a_clock_set_forward_runs_each_job_once() {
        let mut world = World::new(mirror(), "2020-06-05T12:00:00Z");
        world.live(HOUR);
        let before = world.runs.len();
        world.wall = at("2030-06-05T12:00:00Z");
        world.live(10 * MINUTE);
        let since: Vec<&str> = world.runs[before..].iter().map(|r| r.0.as_str()).collect();
        assert_eq!(since, ["incremental", "reconcile", "full", "watch"]);
    }

    #[test]
    fn the_clock_may_do_anything_and_no_job_starves_or_spins() {
        for seed in 0..40 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut world = World::new(mirror(), "2026-10-31T00:00:00Z");
            for _ in 0..40 {
                match random.u8(0..5) {
                    0 => world.wall.0 += random.i64(0..400 * DAY),
                    1 => world.wall.0 -= random.i64(0..400 * DAY),
                    2 => world.wall.0 -= random.i64(0..2 * HOUR),
                    3 => world.down(random.i64(0..3 * HOUR)),
                    _ => {}
                }
                let (before, decisions, real) = (world.runs.len(), world.decisions, world.real);
                world.live(HOUR);
                let seconds = (world.real - real) / SECOND;
                let runs = world.runs[before..].iter();
                let runs = runs.filter(|r| r.0 == "incremental").count();
                assert!((2..=5).contains(&runs), "seed {seed}: {runs}");
                let decisions = i64::try_from(world.decisions - decisions).unwrap();
                assert!(decisions <= seconds + 60, "seed {seed}: {decisions}");
            }
        }
    }

    #[test]
    fn a_stopped_job_is_due_again_at_once() {
        let mut world = World::new(vec![denver("full", "0 2 * * SUN")], "2026-06-07T08:00:00Z");
        world.live(SECOND);
        assert_eq!(world.count("full"), 0);
        let mut world = World::new(vec![denver("full", "0 2 * * SUN")], "2026-06-07T07:59:59Z");
        while world.scheduler.decide(world.wall) != Decision::Run(0) {
            world.pass(SECOND);
        }
        world.scheduler.began(0, world.wall);
        assert!(world.scheduler.state().jobs[0].running);
        world.scheduler.stopped(0, world.wall);
        world.down(10 * SECOND);
        assert!(!world.scheduler.state().jobs[0].running);
        assert_eq!(world.scheduler.decide(world.wall), Decision::Run(0));
    }

    #[test]
    fn a_failure_waits_for_the_next_time_and_is_remembered() {
        let mut world = World::new(vec![every("often", MINUTE)], "2026-06-07T00:00:00Z");
        assert_eq!(world.scheduler.decide(world.wall), Decision::Run(0));
        world.run(0, 3);
        world.live(40 * SECOND);
        assert_eq!(world.runs.len(), 1);
        assert_eq!(world.scheduler.state().jobs[0].failures, 1);
        world.live(MINUTE);
        assert_eq!(world.runs.len(), 2);
        assert_eq!(world.scheduler.state().jobs[0].failures, 0);
    }

    #[test]
    fn jitter_delays_and_does_not_drift() {
        let mut jittered = every("often", 10 * MINUTE);
        jittered.jitter = MINUTE;
        let mut world = World::new(vec![jittered], "2026-06-07T00:00:00Z");
        world.takes = |_| SECOND;
        world.live(DAY);
        assert_eq!(world.runs.len(), 144);
        let mut late = std::collections::BTreeSet::new();
        for (turn, run) in (0..).zip(&world.runs) {
            let delay = run.2 - turn * 10 * MINUTE;
            assert!((0..=MINUTE).contains(&delay), "{delay}");
            late.insert(delay);
        }
        assert!(late.len() > 100);
    }

    #[test]
    fn another_timing_is_another_schedule() {
        let mut world = World::new(vec![denver("a", "0 2 * * SUN")], "2026-06-01T00:00:00Z");
        world.live(MINUTE);
        world.plan.jobs = vec![every("a", MINUTE)];
        world.down(SECOND);
        world.live(30 * SECOND);
        assert_eq!(world.count("a"), 1);
    }

    #[test]
    fn a_gap_owes_a_reconcile_until_one_succeeds() {
        let mut often = every("incremental", 15 * MINUTE);
        often.sort = Sort::Incremental;
        let mut nightly = denver("reconcile", "0 3 * * *");
        nightly.sort = Sort::Settling;
        let mut world = World::new(vec![often, nightly], "2026-06-07T00:00:00Z");
        let now = world.wall;
        let ago = |micros: i64| Some(Timestamp(now.0 - micros));
        let scheduler = &mut world.scheduler;
        scheduler.note_complete(None, now);
        scheduler.note_complete(ago(DAY), now);
        assert!(!scheduler.reconcile_first(0, now));
        scheduler.note_complete(ago(DAY + 1), now);
        assert!(scheduler.reconcile_first(0, now));
        assert!(!scheduler.reconcile_first(1, now));
        // An incremental run completes, and the gap is still owed for; not at each turn, though.
        scheduler.reconciled(now, false);
        scheduler.note_complete(Some(now), now);
        let later = |micros: i64| Timestamp(now.0 + micros);
        assert!(!scheduler.reconcile_first(0, later(FIRST_RETRY - 1)));
        assert!(scheduler.reconcile_first(0, later(FIRST_RETRY)));
        for _ in 0..40 {
            scheduler.reconciled(now, false);
        }
        assert!(!scheduler.reconcile_first(0, later(LAST_RETRY - 1)));
        assert!(scheduler.reconcile_first(0, later(LAST_RETRY)));
        // A restart does not forget it.
        world.down(LAST_RETRY);
        assert!(world.scheduler.reconcile_first(0, world.wall));
        // A night's reconcile that fails settles nothing, one that ends well does.
        world.run(1, 3);
        assert!(world.scheduler.state().owed_since.is_some());
        world.run(1, 0);
        assert_eq!(world.scheduler.state().owed_since, None);
        assert!(!world.scheduler.reconcile_first(0, world.wall));
    }

    #[test]
    fn the_times_to_come_are_those_that_are_run() {
        let mut world = World::new(mirror(), "2026-10-31T20:00:00Z");
        world.live(HOUR);
        let states = world.scheduler.state().jobs.clone();
        let upcoming = upcoming(world.scheduler.jobs(), &states, world.wall, 100);
        let before = world.runs.len();
        world.live(DAY);
        let ran: Vec<&str> = world.runs[before..]
            .iter()
            .map(|r| r.0.as_str())
            .filter(|n| *n != "watch")
            .collect();
        let told: Vec<&str> = upcoming
            .iter()
            .filter(|(at, _)| *at < world.wall)
            .map(|(_, job)| world.scheduler.jobs()[*job].name.as_str())
            .collect();
        assert_eq!(ran, told);
        assert_eq!(ran.iter().filter(|n| **n == "full").count(), 1);
    }
}
