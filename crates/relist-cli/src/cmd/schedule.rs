//! `relist schedule`: the jobs of the configuration at their times, in this process.
//!
//! What runs when is decided by [`crate::schedule`]; here is what waits, runs the commands and
//! keeps the state. Each job opens the store and closes it, so that others get their turn.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use relist::store::{Store, SyncState};
use relist::value::Timestamp;

use crate::app::App;
use crate::args::{Global, Schedule, ScheduleAction, quoted_path};
use crate::config;
use crate::failure::{Exit, Failure};
use crate::feed;
use crate::output::{Datum, Member, left, right};
use crate::schedule::jobs::{Reason, command};
use crate::schedule::scheduler::upcoming;
use crate::schedule::state::Files;
use crate::schedule::{Decision, Ending, Plan, Scheduler, State};
use crate::style::duration;

/// How long a stop can go unseen.
const GLANCE: Duration = Duration::from_millis(50);
/// How long a store that is busy is left alone.
const BUSY: Duration = Duration::from_secs(1);

pub(super) fn run(app: &mut App<'_>, args: &Schedule) -> Result<Exit, Failure> {
    let Some(config) = app.config()? else {
        return Err(config::missing(&app.environment.directory)
            .with_hint("a schedule needs a feed and its jobs: relist init writes relist.toml"));
    };
    let reason = Reason {
        watch: !config.watch.rule.is_empty(),
        media: config.media.dir.is_some(),
    };
    let plan = Plan::new(&config.schedule, &config.jobs, reason)
        .map_err(|failure| failure.in_file(&app.config_path()))?;
    match args.action {
        ScheduleAction::Run => {
            // A schedule that can never sync is better found now than at night.
            let profile = feed::profile(&config)?;
            feed::credentials(app, &config, &profile)?
                .ok_or_else(|| feed::no_credentials(&profile))?;
            let resources = config.resources.clone().unwrap_or(profile.sync);
            Daemon::new(app, plan, resources)?.run();
            Ok(Exit::Ok)
        }
        ScheduleAction::List => list(app, &plan),
        ScheduleAction::Next { most } => next(app, &plan, most),
    }
}

/// A scheduler at work.
struct Daemon<'d, 'a> {
    app: &'d mut App<'a>,
    scheduler: Scheduler,
    files: Files,
    store: PathBuf,
    /// The resources that must be complete for the mirror to be.
    resources: Vec<String>,
    /// Whether it was said that the store is busy.
    told_busy: bool,
    /// Whether the reader of standard output is gone.
    deaf: bool,
    _lock: crate::schedule::state::Lock,
}

/// How a command ended.
enum Ran {
    Ended(Ending),
    /// Another process writes to the store.
    Busy(String),
    /// On its way, because this process is to end.
    Stopped,
}

impl<'d, 'a> Daemon<'d, 'a> {
    fn new(app: &'d mut App<'a>, plan: Plan, resources: Vec<String>) -> Result<Self, Failure> {
        let store = app.existing_store()?;
        let files = Files::beside(&store);
        let lock = files
            .lock()
            .map_err(|e| Failure::file("cannot lock the schedule of", &store, &e))?;
        let Some(lock) = lock else {
            return Err(Failure::new(
                Exit::Busy,
                format!("another scheduler runs for {}", quoted_path(&store)),
                "relist status shows its jobs; one scheduler a store is enough",
            ));
        };
        let kept = kept(app, &files);
        let now = app.now();
        let seed = now.0.cast_unsigned();
        Ok(Daemon {
            scheduler: Scheduler::new(plan, &kept, now, seed),
            app,
            files,
            store,
            resources,
            told_busy: false,
            deaf: false,
            _lock: lock,
        })
    }

    /// Runs jobs until the process is to end.
    fn run(mut self) {
        let environment = self.app.environment;
        (environment.catch_interrupt)(&environment.stop);
        self.keep();
        let count = self.scheduler.jobs().len() as u64;
        let jobs = crate::style::plural(count, "job", "jobs");
        self.app
            .note(&format!("schedule: {jobs}; an interrupt ends it"));
        while !environment.stopped() {
            match self.scheduler.decide(self.app.now()) {
                Decision::Wait(micros) => self.wait(Duration::from_micros(micros.unsigned_abs())),
                Decision::Run(job) => self.job(job),
            }
        }
        self.keep();
        self.app.note("schedule: stopped");
    }

    /// Waits by a clock that nobody sets, and no longer than until a stop is seen.
    fn wait(&self, length: Duration) {
        let begun = Instant::now();
        while !self.app.environment.stopped() {
            let left = length.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(GLANCE));
        }
    }

    fn job(&mut self, at: usize) {
        let Some(job) = self.scheduler.jobs().get(at).cloned() else {
            return;
        };
        let last = last_complete(&self.store, &self.resources);
        self.scheduler.note_complete(last, self.app.now());
        if self.scheduler.reconcile_first(at, self.app.now()) && !self.reconcile(&job.words) {
            return;
        }
        self.scheduler.began(at, self.app.now());
        self.keep();
        self.app
            .detail(&format!("{}: relist {}", job.name, job.typed()));
        let begun = Instant::now();
        match self.command(&job.name, &job.words) {
            Ran::Ended(ending) => {
                let exit = ending.exit;
                self.scheduler.ended(at, self.app.now(), ending);
                self.tell(at, exit, begun.elapsed());
            }
            Ran::Busy(message) => self.busy(at, &message),
            Ran::Stopped => self.scheduler.stopped(at, self.app.now()),
        }
        self.keep();
    }

    /// Runs the reconcile that is owed; whether the job that it comes before may run now.
    fn reconcile(&mut self, incremental: &[String]) -> bool {
        let limit = self.scheduler.reconcile_after();
        self.app.warn(&format!(
            "no complete run for more than {}: a reconcile comes first",
            duration(limit)
        ));
        let mut words = incremental.to_vec();
        words.push("--reconcile".to_owned());
        match self.command("reconcile", &words) {
            Ran::Ended(ending) => {
                self.scheduler.reconciled(self.app.now(), ending.exit == 0);
                self.keep();
                true
            }
            Ran::Busy(message) => {
                self.wait_for_store(&message);
                false
            }
            Ran::Stopped => false,
        }
    }

    /// Runs a command in this process, as though it had been typed.
    fn command(&mut self, name: &str, words: &[String]) -> Ran {
        let result = command(words).and_then(|cli| {
            let outer = &self.app.global;
            let global = Global {
                output: cli.global.output.or(outer.output),
                quiet: cli.global.quiet || outer.quiet,
                verbose: cli.global.verbose || outer.verbose,
                ..outer.clone()
            };
            let mut nowhere = std::io::sink();
            let out: &mut dyn std::io::Write = if self.deaf {
                &mut nowhere
            } else {
                &mut *self.app.out
            };
            let mut app = App::new(self.app.environment, global, out, &mut *self.app.err);
            let exit = super::dispatch(&mut app, cli.command)?;
            app.out.flush()?;
            Ok(exit)
        });
        if self.app.environment.stopped() && !matches!(result, Ok(Exit::Ok)) {
            return Ran::Stopped;
        }
        let failure = match result {
            Ok(exit) => {
                let (exit, message) = (exit.code(), None);
                return Ran::Ended(Ending { exit, message });
            }
            Err(failure) => failure,
        };
        let message = match &failure {
            Failure::Told(told) => told.message.clone(),
            Failure::BrokenPipe => {
                self.deaf = true;
                self.app
                    .warn("nobody reads standard output any more: jobs go on without it");
                return Ran::Ended(Ending {
                    exit: Exit::Ok.code(),
                    message: None,
                });
            }
        };
        if failure.exit() == Exit::Busy {
            return Ran::Busy(message);
        }
        let colour = self.app.environment.err.colour;
        let exit = failure.in_job(name).report(self.app.err, colour).code();
        Ran::Ended(Ending {
            exit,
            message: Some(message),
        })
    }

    /// A store that is busy is waited for: the job stays due.
    fn busy(&mut self, at: usize, message: &str) {
        self.scheduler.stopped(at, self.app.now());
        self.wait_for_store(message);
    }

    fn wait_for_store(&mut self, message: &str) {
        if !std::mem::replace(&mut self.told_busy, true) {
            self.app
                .warn(&format!("{message}; the schedule waits for it"));
        }
        self.wait(BUSY);
    }

    fn tell(&mut self, at: usize, exit: u8, took: Duration) {
        self.told_busy = false;
        let (jobs, states) = (self.scheduler.jobs(), &self.scheduler.state().jobs);
        let (Some(job), Some(state)) = (jobs.get(at), states.get(at)) else {
            return;
        };
        let took = duration(i64::try_from(took.as_micros()).unwrap_or(i64::MAX));
        let how = match exit {
            0 => "done".to_owned(),
            exit => format!("exit code {exit}"),
        };
        let next = match state.due {
            Some(due) => format!("; next at {due}"),
            None => String::new(),
        };
        let line = format!("{}: {how} after {took}{next}", job.name);
        self.app.note(&line);
    }

    /// Keeps the state. A full disk must not end the schedule: what is lost is what a restart
    /// would know.
    fn keep(&mut self) {
        if let Err(error) = self.files.write(self.scheduler.state()) {
            let path = quoted_path(self.files.path());
            self.app.warn(&format!("cannot write {path}: {error}"));
        }
    }
}

/// What an earlier scheduler kept.
fn kept(app: &mut App<'_>, files: &Files) -> State {
    match files.read() {
        Ok(state) => state.unwrap_or_default(),
        Err(error) => {
            let path = quoted_path(files.path());
            app.warn(&format!(
                "{path} cannot be read ({error}): the jobs begin as though they had never run"
            ));
            State::default()
        }
    }
}

/// When the resource that is furthest behind was last complete; those that never were are still
/// being filled, and a full walk does that.
fn last_complete(store: &std::path::Path, resources: &[String]) -> Option<Timestamp> {
    let snapshot = Store::open_read_only(store).ok()?.snapshot().ok()?;
    let checkpoints = resources.iter().filter_map(|r| snapshot.checkpoint(r).ok());
    checkpoints
        .filter(|c| c.state == SyncState::Live)
        .filter_map(|c| c.last_complete)
        .min()
}

const JOBS: &[Member] = &[
    left("Job", "JOB"),
    left("Run", "RUN"),
    left("When", "WHEN"),
    left("LastBegan", "LAST BEGAN"),
    left("LastEnded", ""),
    right("ExitCode", "EXIT"),
    right("Runs", "RUNS"),
    right("Failures", "FAILURES").if_any(),
    right("Missed", "MISSED").if_any(),
    left("Next", "NEXT"),
    left("Message", ""),
];

fn list(app: &mut App<'_>, plan: &Plan) -> Result<Exit, Failure> {
    let path = app.store_path()?;
    let files = Files::beside(&path);
    let kept = kept(app, &files);
    let now = app.now();
    // A state that is only looked at is aimed like one that is run from.
    let scheduler = Scheduler::new(plan.clone(), &kept, now, 0);
    let mut rows = app.rows(JOBS)?;
    for (job, state) in scheduler.jobs().iter().zip(&scheduler.state().jobs) {
        rows.row(&[
            Datum::text(&job.name),
            Datum::text(job.typed()),
            Datum::text(job.timing.words()),
            Datum::time(state.began),
            Datum::time(state.ended),
            state
                .exit
                .map_or(Datum::null(), |exit| Datum::number(exit.into())),
            Datum::count(state.runs),
            Datum::count(state.failures),
            Datum::count(state.missed),
            Datum::time(state.due),
            Datum::optional(state.message.as_deref()),
        ])?;
    }
    let cut = rows.finish()?;
    app.note_cut(cut);
    Ok(Exit::Ok)
}

const TIMES: &[Member] = &[
    left("At", "AT"),
    left("Local", "LOCAL"),
    left("Job", "JOB"),
    left("Run", "RUN"),
];

fn next(app: &mut App<'_>, plan: &Plan, most: usize) -> Result<Exit, Failure> {
    let path = app.store_path()?;
    let files = Files::beside(&path);
    let kept = kept(app, &files);
    let times = upcoming(&plan.jobs, &kept.jobs, app.now(), most);
    let mut rows = app.rows(TIMES)?;
    for (at, job) in times {
        let Some(job) = plan.jobs.get(job) else {
            continue;
        };
        rows.row(&[
            Datum::time(Some(at)),
            Datum::text(job.timing.local(at)),
            Datum::text(&job.name),
            Datum::text(job.typed()),
        ])?;
    }
    let cut = rows.finish()?;
    app.note_cut(cut);
    Ok(Exit::Ok)
}

impl Failure {
    /// Says which job it is of.
    fn in_job(mut self, name: &str) -> Self {
        if let Failure::Told(told) = &mut self {
            told.message = format!("{name}: {}", told.message);
        }
        self
    }

    /// Says which file it is in.
    fn in_file(mut self, path: &std::path::Path) -> Self {
        if let Failure::Told(told) = &mut self {
            told.message = format!("{}: {}", path.display(), told.message);
        }
        self
    }
}
