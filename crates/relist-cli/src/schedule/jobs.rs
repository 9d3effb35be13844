//! The jobs, as the configuration writes them and as they are understood.

use chrono_tz::Tz;
use clap::Parser as _;
use serde::Deserialize;

use super::timing::{CronTimes, SECOND, Timing};
use crate::args::{Cli, Command, quoted};
use crate::failure::Failure;
use crate::moment;

/// `[schedule]` in `relist.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The zone of jobs that name none; UTC otherwise.
    timezone: Option<String>,
    /// The jitter of jobs that name none.
    jitter: Option<String>,
    /// How long a mirror may be without a complete run before a reconcile is owed.
    reconcile_after: Option<String>,
}

/// `[[job]]` in `relist.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobSettings {
    name: String,
    /// A command of relist: `sync --full`.
    run: String,
    cron: Option<String>,
    every: Option<String>,
    /// The name of a job that it follows.
    after: Option<String>,
    timezone: Option<String>,
    catch_up: Option<CatchUp>,
    jitter: Option<String>,
}

/// What becomes of occurrences that nobody was there for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CatchUp {
    /// The job runs once as soon as it can, however many there were.
    #[default]
    Once,
    /// The job waits for its next time.
    Skip,
}

/// What a job does to the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    /// An incremental sync: it tells nothing of rows that vanished without a word.
    Incremental,
    /// A sync of all resources that meets every key: it settles a reconcile that is owed.
    Settling,
    /// Anything else.
    Other,
}

/// A job.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) name: String,
    /// The words of its command, without `relist`.
    pub(crate) words: Vec<String>,
    pub(crate) timing: Timing,
    pub(crate) catch_up: CatchUp,
    /// The most that it starts after its time, in microseconds.
    pub(crate) jitter: i64,
    pub(crate) sort: Sort,
}

impl Job {
    /// Its command as its user would type it, without `relist`.
    pub(crate) fn typed(&self) -> String {
        let words: Vec<String> = self.words.iter().map(|word| quoted(word)).collect();
        words.join(" ")
    }
}

/// What the configuration gives a reason for, among the usual jobs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reason {
    /// It has rules to watch.
    pub(crate) watch: bool,
    /// It names a folder for media.
    pub(crate) media: bool,
}

/// All jobs, and what holds for all.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) jobs: Vec<Job>,
    /// In microseconds.
    pub(crate) reconcile_after: i64,
}

/// A day: MLS Grid shows a revoked listing for seven, others for less or not at all.
const RECONCILE_AFTER: i64 = 86_400 * SECOND;

/// Commands that no job runs: they ask, they serve, or they are for people.
const NOT_FOR_JOBS: &[&str] = &[
    "init",
    "schedule",
    "demo",
    "serve",
    "completions",
    "doctor",
    "help",
];

/// The jobs of a configuration that writes none: name, command, cron or interval, and whom after.
const DEFAULTS: &[(&str, &str, &str)] = &[
    ("full", "sync --full", "cron 0 2 * * SUN"),
    ("incremental", "sync", "every 15m"),
    ("watch", "watch", "after incremental"),
    // So many at a time: no other job runs meanwhile, and the first files may take days.
    ("media", "media sync --max 2000", "after incremental"),
    // An incremental sync reads the feed's list of deletions; this finds those that no list tells.
    ("reconcile", "sync --reconcile", "cron 0 3 * * *"),
    // A disk loses bits that nobody reads for months: found while a copy of the file is whole.
    ("verify", "verify", "cron 0 5 * * SAT"),
];

impl Plan {
    /// Understands the settings; the usual jobs where none are written, those among them that there
    /// is a `reason` for.
    pub(crate) fn new(
        settings: &Settings,
        jobs: &[JobSettings],
        reason: Reason,
    ) -> Result<Self, Failure> {
        let defaults;
        let jobs = if jobs.is_empty() {
            defaults = default_jobs(reason);
            defaults.as_slice()
        } else {
            jobs
        };
        let mut plan = Plan {
            jobs: Vec::new(),
            reconcile_after: match &settings.reconcile_after {
                Some(text) => length("[schedule] reconcile_after", text)?,
                None => RECONCILE_AFTER,
            },
        };
        for job in jobs {
            let place = format!("job {:?}", job.name);
            let known = plan.jobs.iter().any(|j| j.name == job.name);
            if known || job.name.is_empty() {
                let what = if known { "comes twice" } else { "has no name" };
                return Err(Failure::usage(
                    format!("{place} {what}"),
                    "give each [[job]] in relist.toml a `name` of its own",
                ));
            }
            plan.jobs.push(understand(settings, job, &place)?);
        }
        for job in &plan.jobs {
            if let Timing::After(other) = &job.timing
                && !plan.jobs.iter().any(|j| {
                    j.name == *other && j.name != job.name && !matches!(j.timing, Timing::After(_))
                })
            {
                return Err(Failure::usage(
                    format!("job {:?}: `after` names {other:?}", job.name),
                    "name another job, one with `cron` or `every`",
                ));
            }
        }
        Ok(plan)
    }
}

fn default_jobs(reason: Reason) -> Vec<JobSettings> {
    let mut jobs = Vec::new();
    for (name, run, when) in DEFAULTS {
        if *name == "watch" && !reason.watch || *name == "media" && !reason.media {
            continue;
        }
        let (kind, value) = when.split_once(' ').unwrap_or_default();
        let of = |wanted| (kind == wanted).then(|| value.to_owned());
        jobs.push(JobSettings {
            name: (*name).to_owned(),
            run: (*run).to_owned(),
            cron: of("cron"),
            every: of("every"),
            after: of("after"),
            timezone: None,
            catch_up: None,
            jitter: None,
        });
    }
    jobs
}

fn understand(settings: &Settings, job: &JobSettings, place: &str) -> Result<Job, Failure> {
    let zone = job.timezone.as_ref().or(settings.timezone.as_ref());
    let zone = match zone {
        Some(name) => name.parse::<Tz>().map_err(|_| {
            Failure::usage(
                format!("{place}: there is no time zone {name:?}"),
                "use a name of the IANA database: America/Denver, Europe/Berlin, UTC",
            )
        })?,
        None => Tz::UTC,
    };
    let timing = match (&job.cron, &job.every, &job.after) {
        (Some(text), None, None) => {
            let times = CronTimes::new(text, zone).map_err(|error| {
                Failure::usage(
                    format!("{place}: {text:?} is no cron expression: {error}"),
                    "write minute, hour, day, month and weekday: \"0 2 * * SUN\"",
                )
            })?;
            Timing::Cron(Box::new(times))
        }
        (None, Some(text), None) => Timing::Every(length(&format!("{place}: every"), text)?),
        (None, None, Some(name)) => Timing::After(name.clone()),
        _ => {
            return Err(Failure::usage(
                format!("{place} needs one of `cron`, `every` and `after`"),
                "for example every = \"15m\", or cron = \"0 2 * * SUN\"",
            ));
        }
    };
    let jitter = match job.jitter.as_ref().or(settings.jitter.as_ref()) {
        Some(text) => length(&format!("{place}: jitter"), text)?,
        None => 0,
    };
    if let Timing::Every(every) = timing
        && jitter >= every
    {
        return Err(Failure::usage(
            format!("{place}: its jitter is not less than its interval"),
            "jitter is the most that a start is delayed by; a tenth of the interval is plenty",
        ));
    }
    let words = words(&job.run).map_err(|f| in_job(f, place))?;
    let sort = sort(&command(&words).map_err(|f| in_job(f, place))?);
    Ok(Job {
        name: job.name.clone(),
        words,
        timing,
        catch_up: job.catch_up.unwrap_or_default(),
        jitter,
        sort,
    })
}

/// Splits a command into its words, as a shell does: at spaces that stand in no quotes. Nothing is
/// expanded.
fn words(text: &str) -> Result<Vec<String>, Failure> {
    let open = |quote: char| {
        Failure::usage(
            format!("`run`: the quote {quote} is not closed"),
            "write a word with spaces as 'a b' or \"a b\": run = \"sync --keys 'A 1'\"",
        )
    };
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err(open('\'')),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                            None => return Err(open('"')),
                        },
                        Some(c) => word.push(c),
                        None => return Err(open('"')),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Reads the words of a job's command, or says why no job can run it.
pub(crate) fn command(words: &[String]) -> Result<Cli, Failure> {
    let hint = "`run` is a command of relist without that word: \"sync --full\"";
    let first = words.first().map_or("", String::as_str);
    if NOT_FOR_JOBS.contains(&first) || first.is_empty() {
        return Err(Failure::usage(format!("`run` cannot be {first:?}"), hint));
    }
    let line = std::iter::once("relist").chain(words.iter().map(String::as_str));
    let cli = Cli::try_parse_from(line).map_err(|error| {
        let text = error.render().to_string();
        let first = text.lines().next().unwrap_or_default();
        let first = first.strip_prefix("error: ").unwrap_or(first).to_owned();
        Failure::usage(format!("`run`: {first}"), hint)
    })?;
    if cli.global.store.is_some() || cli.global.config.is_some() {
        return Err(Failure::usage(
            "`run` names another store or configuration",
            "all jobs are about the store of this relist.toml; another store has its own scheduler",
        ));
    }
    Ok(cli)
}

fn in_job(mut failure: Failure, place: &str) -> Failure {
    if let Failure::Told(told) = &mut failure {
        told.message = format!("{place}: {}", told.message);
    }
    failure
}

fn sort(cli: &Cli) -> Sort {
    match &cli.command {
        Command::Sync(sync) if sync.dry_run || !sync.keys.is_empty() => Sort::Other,
        Command::Sync(sync) if sync.full || sync.reconcile => {
            // A part of the resources settles nothing, nor does a walk that stops on the way.
            if sync.resources.is_empty() && sync.max_pages.is_none() {
                Sort::Settling
            } else {
                Sort::Other
            }
        }
        Command::Sync(sync) if sync.deep.is_none() => Sort::Incremental,
        _ => Sort::Other,
    }
}

/// Reads a length of time.
fn length(place: &str, text: &str) -> Result<i64, Failure> {
    moment::length(text).filter(|l| *l > 0).ok_or_else(|| {
        Failure::usage(
            format!("{place}: {text:?} is no length of time"),
            "write a number and a unit: \"30s\", \"15m\", \"36h\", \"7d\"",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Result<Plan, String> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            schedule: Settings,
            #[serde(default)]
            job: Vec<JobSettings>,
        }
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        let reason = Reason {
            watch: true,
            media: true,
        };
        Plan::new(&file.schedule, &file.job, reason).map_err(|failure| {
            let mut err = Vec::new();
            failure.report(&mut err, false);
            String::from_utf8(err).unwrap()
        })
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        for (text, expected) in [
            ("sync --full", &["sync", "--full"][..]),
            ("  sync\t--full ", &["sync", "--full"]),
            (
                "export Property --to o.csv --filter \"City eq 'Salt Lake City'\"",
                &[
                    "export",
                    "Property",
                    "--to",
                    "o.csv",
                    "--filter",
                    "City eq 'Salt Lake City'",
                ],
            ),
            (
                "each P --exec 'cat > \"my file\"'",
                &["each", "P", "--exec", "cat > \"my file\""],
            ),
            (
                r#"a "b \"c\" \\ \d" e\ f '' g'h'"i""#,
                &["a", r#"b "c" \ \d"#, "e f", "", "ghi"],
            ),
            ("", &[]),
        ] {
            assert_eq!(words(text).unwrap(), expected, "{text}");
        }
        for open in ["a 'b", "a \"b", "a \"b\\"] {
            assert!(words(open).is_err(), "{open}");
        }
    }

    #[test]
    fn nothing_written_gives_the_usual_jobs() {
        let plan = plan("").unwrap();
        let job = |name: &str| plan.jobs.iter().find(|j| j.name == name).unwrap();
        assert_eq!(job("full").timing.words(), "0 2 * * SUN UTC");
        assert_eq!(job("full").sort, Sort::Settling);
        assert_eq!(job("incremental").timing.words(), "every 15 min");
        assert_eq!(job("incremental").sort, Sort::Incremental);
        assert_eq!(job("reconcile").timing.words(), "0 3 * * * UTC");
        assert_eq!(plan.reconcile_after, RECONCILE_AFTER);
        assert_eq!(job("watch").timing.words(), "after incremental");
        let names = |jobs: Vec<JobSettings>| jobs.into_iter().map(|j| j.name).collect::<Vec<_>>();
        assert_eq!(job("media").timing.words(), "after incremental");
        let reason = |watch, media| Reason { watch, media };
        assert_eq!(
            names(default_jobs(reason(false, false))),
            ["full", "incremental", "reconcile", "verify"]
        );
        assert_eq!(
            names(default_jobs(reason(false, true))),
            ["full", "incremental", "media", "reconcile", "verify"]
        );
    }

    #[test]
    fn a_job_is_understood() {
        let text = "[schedule]\ntimezone = \"America/Denver\"\njitter = \"5s\"\n\
             reconcile_after = \"36h\"\n\
             [[job]]\nname = \"deep\"\nrun = \"sync --deep 1/7 Property\"\ncron = \"5 4 * * *\"\n\
             catch_up = \"skip\"\n\
             [[job]]\nname = \"check\"\nrun = \"verify\"\nafter = \"deep\"\njitter = \"1m\"";
        let plan = plan(text).unwrap();
        let [deep, check] = plan.jobs.as_slice() else {
            panic!("{plan:?}");
        };
        assert_eq!(deep.timing.words(), "5 4 * * * America/Denver");
        assert_eq!((deep.catch_up, deep.jitter), (CatchUp::Skip, 5 * SECOND));
        assert_eq!((deep.sort, check.sort), (Sort::Other, Sort::Other));
        assert_eq!(check.jitter, 60 * SECOND);
        assert_eq!(plan.reconcile_after, 36 * 3_600 * SECOND);
    }

    #[test]
    fn mistakes_are_named() {
        let job = |more: &str| format!("[[job]]\nname = \"a\"\n{more}");
        for (text, expect) in [
            (job("run = \"sync\""), "needs one of"),
            (
                job("run = \"sync\"\nevery = \"1m\"\ncron = \"x\""),
                "needs one of",
            ),
            (job("run = \"sync\"\nevery = \"0s\""), "no length of time"),
            (job("run = \"sync\"\nevery = \"soon\""), "no length of time"),
            (
                job("run = \"sync\"\ncron = \"99 * * * *\""),
                "no cron expression",
            ),
            (
                job("run = \"sync\"\ncron = \"0 2 * * *\"\ntimezone = \"Denver\""),
                "no time zone \"Denver\"",
            ),
            (job("run = \"sink\"\nevery = \"1m\""), "job \"a\": `run`"),
            (job("run = \"schedule run\"\nevery = \"1m\""), "cannot be"),
            (job("run = \"\"\nevery = \"1m\""), "cannot be"),
            (
                job("run = \"sync 'A\"\nevery = \"1m\""),
                "job \"a\": `run`: the quote ' is not",
            ),
            (
                job("run = \"sync --store x\"\nevery = \"1m\""),
                "another store",
            ),
            (
                job("run = \"sync\"\nevery = \"1m\"\njitter = \"1m\""),
                "not less",
            ),
            (job("run = \"sync\"\nafter = \"a\""), "`after` names \"a\""),
            (job("run = \"sync\"\nafter = \"b\""), "`after` names \"b\""),
            (
                job("run = \"sync\"\nevery = \"1m\"\n") + &job("run = \"sync\"\nevery = \"1m\""),
                "comes twice",
            ),
        ] {
            let error = plan(&text).unwrap_err();
            assert!(error.contains(expect), "{text}\n{error}");
            assert!(error.contains("hint: "), "{error}");
        }
    }
}
