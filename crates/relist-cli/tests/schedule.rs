//! `relist schedule`, as a process: it syncs, it outlives an outage, it ends when told to.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at whatever is wrong")]
#![expect(clippy::indexing_slicing, reason = "a test stops at whatever is wrong")]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relist::store::{AsOf, Store};
use relist_sim::{Market, Options, Response, Server, Size};
use serde_json::Value;

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn relist(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relist"));
    command
        .args(args)
        .current_dir(folder)
        .env("RELIST_TOKEN", Options::default().token)
        .env_remove("RELIST_STORE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn done(folder: &Path, args: &[&str]) -> Output {
    relist(folder, args).output().unwrap()
}

fn ok(folder: &Path, args: &[&str]) -> String {
    let output = done(folder, args);
    assert_eq!(output.status.code(), Some(0), "{args:?} {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A simulated feed that can be taken away, and a folder with a configuration for it.
struct Feed {
    market: Arc<Mutex<Market>>,
    /// Serves as long as it is here.
    server: Server,
    away: Arc<AtomicBool>,
    folder: tempfile::TempDir,
}

impl Feed {
    fn new(jobs: &str, page_takes: Duration) -> Self {
        let market = Arc::new(Mutex::new(Market::new(5, Size::listings(300))));
        let away = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&away);
        let options = Options {
            intercept: Some(Box::new(move |_| {
                gone.load(Ordering::Relaxed)
                    .then(|| Response::new(401, "text/plain", "the feed is away"))
            })),
            before_page: Some(Box::new(move |_| std::thread::sleep(page_takes))),
            ..Options::default()
        };
        let server = Server::start(Arc::clone(&market), options).unwrap();
        let folder = tempfile::tempdir().unwrap();
        ok(folder.path(), &["init", "--url", &server.base_url()]);
        let config = format!(
            "url = {:?}\nprovider = \"wfrmls\"\nresources = [\"Property\", \"Member\"]\n{jobs}",
            server.base_url()
        );
        std::fs::write(folder.path().join("relist.toml"), config).unwrap();
        Feed {
            market,
            server,
            away,
            folder,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn start(&self) -> Scheduler {
        let log = std::fs::File::create(self.path().join("log")).unwrap();
        let mut command = relist(self.path(), &["schedule", "run"]);
        let out = log.try_clone().unwrap();
        Scheduler(command.stdout(out).stderr(log).spawn().unwrap())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap()
    }

    fn status(&self) -> Value {
        let output = ok(self.path(), &["status", "-o", "json"]);
        serde_json::from_str(&output).unwrap()
    }

    fn job(&self, name: &str) -> Value {
        let status = self.status();
        let jobs = status["Jobs"].as_array().unwrap();
        let found = jobs.iter().find(|j| j["Job"] == name).cloned();
        found.unwrap_or_default()
    }

    /// Waits until something is so.
    fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !so(self) {
            assert!(begun.elapsed() < PATIENCE, "{what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Ended with the test, whatever becomes of it.
struct Scheduler(Child);

impl Scheduler {
    /// Asks it to end: its exit code, and how long it took.
    fn stop(mut self, signal: &str) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        let id = self.0.id().to_string();
        let kill = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(kill.success());
        while self.0.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        (self.0.wait().unwrap().code(), begun.elapsed())
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const EVERY_SECOND: &str = "[[job]]\nname = \"incremental\"\nrun = \"sync\"\nevery = \"1s\"\n\
    [[job]]\nname = \"check\"\nrun = \"verify\"\nafter = \"incremental\"\n";

fn listings(folder: &Path) -> usize {
    let store = Store::open_read_only(folder.join("relist.redb")).unwrap();
    let snapshot = store.snapshot().unwrap();
    let mut count = 0;
    snapshot
        .scan("Property", AsOf::Sequence(snapshot.sequence()), |_, _| {
            count += 1;
            Ok(true)
        })
        .unwrap();
    count
}

#[test]
fn it_syncs_again_and_again_through_an_outage_and_ends_when_told_to() {
    let feed = Feed::new(EVERY_SECOND, Duration::ZERO);
    let mut scheduler = feed.start();
    let runs = |name: &str| feed.job(name)["Runs"].as_u64().unwrap_or(0);
    feed.until("three syncs", |_| {
        runs("incremental") >= 3 && runs("check") >= 2
    });
    assert_eq!(feed.job("incremental")["ExitCode"], 0);
    ok(feed.path(), &["status", "--max-age", "1h"]);

    // Without its feed it fails, says so, and goes on trying.
    feed.away.store(true, Ordering::Relaxed);
    feed.until("two failures", |feed| {
        feed.job("incremental")["Failures"].as_u64() >= Some(2)
    });
    assert!(scheduler.runs());
    let failed = feed.job("incremental");
    assert_eq!(failed["ExitCode"], 3, "{failed}");
    assert!(
        failed["Message"].as_str().unwrap().contains("401"),
        "{failed}"
    );
    let words = ok(feed.path(), &["status", "-o", "table"]);
    assert!(words.contains("job incremental  FAILED"), "{words}");
    assert!(
        feed.log().contains("error: incremental: "),
        "{}",
        feed.log()
    );

    // The market moves meanwhile; with the feed back, the mirror follows.
    feed.market.lock().unwrap().advance_days(2);
    feed.away.store(false, Ordering::Relaxed);
    let before = runs("incremental");
    feed.until("the feed to be back", |feed| {
        let job = feed.job("incremental");
        job["ExitCode"] == 0 && job["Runs"].as_u64() > Some(before)
    });
    assert_eq!(feed.job("incremental")["Failures"], 0);

    // A second one is refused, readers are not.
    let second = done(feed.path(), &["schedule", "run"]);
    assert_eq!(second.status.code(), Some(4), "{}", text(&second));
    assert!(
        text(&second).contains("another scheduler"),
        "{}",
        text(&second)
    );
    let (code, took) = scheduler.stop("-TERM");
    assert_eq!(code, Some(0), "{}", feed.log());
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(feed.log().contains("schedule: stopped"), "{}", feed.log());
    ok(feed.path(), &["verify"]);
    let list = ok(feed.path(), &["schedule", "list", "-o", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["When"], "every 1 s");
    assert!(list[0]["Runs"].as_u64() > Some(5), "{list}");
}

/// A feed whose server is gone, and one that fails, cost a run and not the schedule.
#[test]
fn a_server_that_is_gone_or_broken_costs_a_run_and_not_the_schedule() {
    let feed = Feed::new(EVERY_SECOND, Duration::ZERO);
    ok(feed.path(), &["sync"]);
    let file = feed.path().join("relist.toml");
    let there = std::fs::read_to_string(&file).unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = gone.local_addr().unwrap();
    drop(gone);
    let broken = Server::start(
        Arc::clone(&feed.market),
        Options {
            intercept: Some(Box::new(|_| Some(Response::error(500, "broken")))),
            ..Options::default()
        },
    )
    .unwrap();
    let base = feed.server.base_url();
    for (url, says) in [
        (format!("http://{nobody}/reso/odata"), "refused"),
        (broken.base_url(), "500"),
    ] {
        std::fs::write(&file, there.replace(&base, &url)).unwrap();
        let mut scheduler = feed.start();
        feed.until("a failure", |feed| {
            feed.job("incremental")["Failures"].as_u64() >= Some(1)
        });
        let failed = feed.job("incremental");
        assert_eq!(failed["ExitCode"], 3, "{failed}");
        let message = failed["Message"].as_str().unwrap();
        assert!(message.to_lowercase().contains(says), "{message}");
        assert!(scheduler.runs(), "{}", feed.log());
        // Monitors see it: the job in words, the age by the exit code, the failure in the report.
        // The words are those of a moment when it does not try again.
        feed.until("the failure in words", |feed| {
            let words = ok(feed.path(), &["status", "-o", "table"]);
            words.contains("job incremental  FAILED")
        });
        let stale = done(feed.path(), &["status", "--max-age", "1s"]);
        assert_eq!(stale.status.code(), Some(6), "{}", text(&stale));
        let report = ok(feed.path(), &["report", "--last", "3", "-o", "ndjson"]);
        assert!(report.contains("\"Outcome\":\"failed\""), "{report}");
        // The feed is back: the same schedule goes on with it.
        std::fs::write(&file, &there).unwrap();
        let (code, _) = scheduler.stop("-TERM");
        assert_eq!(code, Some(0));
        let scheduler = feed.start();
        feed.until("a success", |feed| feed.job("incremental")["ExitCode"] == 0);
        scheduler.stop("-TERM");
        ok(feed.path(), &["status", "--max-age", "1h"]);
    }
}

#[test]
fn a_job_whose_words_are_in_quotes_runs() {
    let jobs = "[[job]]\nname = \"export\"\nevery = \"1s\"\n\
        run = \"\"\"export Member --to 'all members.csv' --force --filter \"MemberFullName ne 'a b'\"\"\"\"\n";
    let feed = Feed::new(jobs, Duration::ZERO);
    ok(feed.path(), &["sync", "Member"]);
    let scheduler = feed.start();
    feed.until("an export", |feed| feed.job("export")["ExitCode"] == 0);
    scheduler.stop("-TERM");
    assert!(feed.path().join("all members.csv").exists());
    let list = ok(feed.path(), &["schedule", "list", "-o", "ndjson"]);
    assert!(list.contains("'all members.csv'"), "{list}");
}

#[test]
fn it_ends_after_the_page_and_a_restart_goes_on_there() {
    let feed = Feed::new(EVERY_SECOND, Duration::from_millis(700));
    let scheduler = feed.start();
    feed.until("a first page", |feed| listings(feed.path()) > 0);
    let (code, took) = scheduler.stop("-INT");
    assert_eq!(code, Some(0), "{}", feed.log());
    assert!(took < Duration::from_secs(10), "{took:?}");
    // It was cut off, not done: it is due at once.
    let job = feed.job("incremental");
    assert_eq!(
        (&job["Runs"], &job["Running"]),
        (&Value::from(0), &Value::from(false))
    );
    let before = listings(feed.path());
    assert!(before > 0);
    let scheduler = feed.start();
    feed.until("a whole sync", |feed| {
        feed.job("incremental")["Runs"].as_u64() >= Some(1)
    });
    assert!(listings(feed.path()) >= 300, "{}", feed.log());
    assert_eq!(scheduler.stop("-TERM").0, Some(0));
}

#[test]
fn a_store_that_is_busy_is_waited_for() {
    let feed = Feed::new(EVERY_SECOND, Duration::ZERO);
    let held = Store::open(feed.path().join("relist.redb")).unwrap();
    let mut scheduler = feed.start();
    feed.until("it to see that", |feed| feed.log().contains("waits for it"));
    std::thread::sleep(Duration::from_secs(2));
    assert!(scheduler.runs());
    assert_eq!(feed.log().matches("waits for it").count(), 1);
    drop(held);
    feed.until("a sync", |feed| {
        feed.job("incremental")["Runs"].as_u64() >= Some(1)
    });
    let job = feed.job("incremental");
    assert_eq!(
        (&job["ExitCode"], &job["Failures"]),
        (&Value::from(0), &Value::from(0))
    );
    assert_eq!(scheduler.stop("-TERM").0, Some(0));
}

#[test]
fn what_cannot_run_is_refused_at_once() {
    let feed = Feed::new(
        "[[job]]\nname = \"a\"\nrun = \"sink\"\nevery = \"1s\"\n",
        Duration::ZERO,
    );
    let output = done(feed.path(), &["schedule", "run"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(
        text(&output).contains("relist.toml: job \"a\": `run`"),
        "{}",
        text(&output)
    );
    assert!(text(&output).contains("hint: "), "{}", text(&output));
}

#[test]
fn the_usual_jobs_are_listed_with_their_times() {
    let feed = Feed::new(
        "[schedule]\ntimezone = \"America/Denver\"\n",
        Duration::ZERO,
    );
    let list = ok(feed.path(), &["schedule", "list", "-o", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let whens: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|j| j["When"].as_str().unwrap())
        .collect();
    assert!(whens.contains(&"0 2 * * SUN America/Denver"), "{whens:?}");
    assert!(whens.contains(&"every 15 min"), "{whens:?}");
    assert!(whens.contains(&"0 3 * * * America/Denver"), "{whens:?}");
    let next = ok(feed.path(), &["schedule", "next", "200", "-o", "json"]);
    let next: Value = serde_json::from_str(&next).unwrap();
    let nights = next
        .as_array()
        .unwrap()
        .iter()
        .filter(|t| t["Job"] == "reconcile");
    let nights: Vec<&str> = nights.map(|t| t["Local"].as_str().unwrap()).collect();
    assert!(!nights.is_empty());
    assert!(
        nights.iter().all(|n| n.contains(" 03:00:00 M")),
        "{nights:?}"
    );
}

#[test]
fn a_mirror_that_was_down_for_days_reconciles_before_it_is_called_current() {
    let Some(faketime) = faketime() else { return };
    let feed = Feed::new(
        "[[job]]\nname = \"incremental\"\nrun = \"sync\"\nevery = \"1s\"\n",
        Duration::ZERO,
    );
    // Synced ten days ago, by its own clock.
    let mut then = relist(feed.path(), &["sync"]);
    fake(&mut then, &faketime, "-10d");
    let output = then.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let old = done(feed.path(), &["status", "--max-age", "12h"]);
    assert_eq!(old.status.code(), Some(6), "{}", text(&old));
    // What vanishes without a word is found by no incremental run.
    let scheduler = feed.start();
    feed.until("a sync", |feed| {
        feed.job("incremental")["Runs"].as_u64() >= Some(1)
    });
    assert_eq!(scheduler.stop("-TERM").0, Some(0));
    let log = feed.log();
    assert!(log.contains("a reconcile comes first"), "{log}");
    let (reconcile, sync) = (
        log.find("\"Kind\":\"reconcile\""),
        log.find("\"Kind\":\"incremental\""),
    );
    assert!(reconcile.is_some() && reconcile < sync, "{log}");
    assert_eq!(log.matches("a reconcile comes first").count(), 1, "{log}");
    assert_eq!(feed.status()["ReconcileOwed"], false);
    ok(feed.path(), &["status", "--max-age", "12h"]);
}

/// The library that gives a process another clock; without it there is nothing to test.
fn faketime() -> Option<String> {
    let found = Command::new("faketime")
        .args(["-f", "+0", "printenv", "LD_PRELOAD"])
        .output();
    let path = found.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let path = path.ok().filter(|path| !path.is_empty());
    if path.is_none() {
        skipped("faketime is not installed");
    }
    path
}

#[test]
fn over_the_edges_of_daylight_saving_each_time_comes_exactly_once() {
    let Some(faketime) = faketime() else { return };
    // The day's 01:30 and 02:30 in Denver: in spring there is no 02:30, in autumn two 01:30.
    for (start, next_day) in [
        ("2026-03-08 08:20:00", "2026-03-09T07:30:00Z"),
        ("2026-11-01 07:20:00", "2026-11-02T08:30:00Z"),
    ] {
        let feed = Feed::new(
            "[schedule]\ntimezone = \"America/Denver\"\n\
             [[job]]\nname = \"nightly\"\nrun = \"verify\"\ncron = \"30 1,2 * * *\"\n",
            Duration::ZERO,
        );
        let log = std::fs::File::create(feed.path().join("log")).unwrap();
        let mut command = relist(feed.path(), &["schedule", "run"]);
        // A quarter of an hour in a second; what waits is not hurried.
        let clock = format!("@{start} x900");
        fake(&mut command, &faketime, &clock);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let scheduler = Scheduler(command.spawn().unwrap());
        feed.until("the next day's time", |feed| {
            feed.job("nightly")["Next"] == next_day
        });
        assert_eq!(feed.job("nightly")["Runs"], 2, "{start}\n{}", feed.log());
        assert_eq!(scheduler.stop("-TERM").0, Some(0));
    }
}

fn fake(command: &mut Command, library: &str, clock: &str) {
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME", clock)
        .env("DONT_FAKE_MONOTONIC", "1")
        .env("TZ", "UTC");
}

/// Says that a test has nothing to run on, as the tests of the library do.
#[expect(clippy::print_stdout, reason = "whoever runs the tests must see it")]
fn skipped(why: &str) {
    println!("skipped: {why}");
}
