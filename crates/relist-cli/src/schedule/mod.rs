//! When which command runs: the scheduler's rules, without a clock, a store or a thread.
//!
//! [`jobs`] reads what the configuration says, [`timing`] finds the next occurrence of a cron
//! expression or an interval, [`scheduler`] decides what runs now from the jobs, what is known of
//! their last runs, and the wall clock as it is handed in; [`state`] keeps that in a file beside
//! the store, [`tell`] puts it into words. Whoever waits and runs the commands is `cmd::schedule`.
//!
//! The rules:
//! - One job at a time. What becomes due meanwhile waits, once, however often it became due.
//! - An occurrence runs once, also where the clock of its time zone leaps or repeats an hour.
//! - What was missed while nobody waited runs once, or is skipped: the job says which.
//! - A clock set back neither repeats an occurrence nor delays a job by more than its own period.
//! - After too long without a complete run, a reconcile comes before anything else is synced: a
//!   feed may have announced a deletion and forgotten it meanwhile.

// Lower layers first.
pub(crate) mod timing;
pub(crate) mod state;
pub(crate) mod tell;
pub(crate) mod jobs;
pub(crate) mod scheduler;

pub(crate) use jobs::{JobSettings, Plan, Settings};
pub(crate) use scheduler::{Decision, Ending, Scheduler};
pub(crate) use state::State;
