//! What scripts cannot show: a terminal, a second process, a damaged file, an interrupt.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever is wrong")]

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relist::store::{AsOf, Store};
use relist::value::Timestamp;
use relist_cli::{Environment, Exit, Stream, run};
use relist_sim::{Conduct, Market, Options, Server, Size};

const ROWS: &str = r#"[{"ListingKeyNumeric": 1, "City": "Provo", "ListPrice": 500000.0},
    {"ListingKeyNumeric": 2, "City": "Orem", "ListPrice": 350000.5}]"#;

fn relist(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relist"));
    command
        .args(args)
        .current_dir(folder)
        .env_remove("RELIST_STORE")
        .env_remove("RELIST_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn done(folder: &Path, args: &[&str]) -> Output {
    relist(folder, args).output().unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A folder with a store of two listings.
fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rows.json"), ROWS).unwrap();
    let output = done(folder.path(), &["ingest", "Property", "rows.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    folder
}

#[test]
fn a_store_that_another_process_writes_to_can_be_read_and_not_written() {
    let folder = filled();
    let held = Store::open(folder.path().join("relist.redb")).unwrap();
    for args in [
        &["ingest", "Property", "rows.json"][..],
        &["quarantine", "clear"],
    ] {
        let output = done(folder.path(), args);
        assert_eq!(output.status.code(), Some(4), "{}", err(&output));
        assert!(err(&output).contains("in use by another process"));
        assert!(err(&output).contains("hint: try again"));
    }
    for args in [
        &["query", "Property"][..],
        &["status"],
        &["changes"],
        &["history", "Property", "1"],
        &["export", "Property", "--to", "-"],
    ] {
        let output = done(folder.path(), args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", err(&output));
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
    // What can be checked beside a writer is checked, and what cannot is said.
    let output = done(folder.path(), &["verify"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("not checked"));
    drop(held);
    let output = done(folder.path(), &["ingest", "Property", "rows.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
}

#[test]
fn a_damaged_store_is_said_to_be_one() {
    let folder = filled();
    let path = folder.path().join("relist.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    // The stored text of a record, somewhere in the file.
    let at = bytes.windows(5).position(|w| w == b"Provo").unwrap();
    bytes[at] ^= 0x20;
    std::fs::write(&path, bytes).unwrap();
    let output = done(folder.path(), &["verify", "-o", "json"]);
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        err(&output)
    );
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("hint: "), "{text}");
}

#[test]
fn a_full_disk_is_named() {
    let folder = filled();
    // Nothing can be written there: the same error as a full disk.
    let out = std::fs::File::options().write(true).open("/dev/full");
    let Ok(out) = out else {
        println!("skipped: there is no /dev/full");
        return;
    };
    let mut command = relist(folder.path(), &["query", "Property"]);
    let output = command.stdout(out).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains("cannot write"), "{}", err(&output));
    assert!(
        err(&output).contains("hint: free some space"),
        "{}",
        err(&output)
    );
}

/// An environment with a terminal of 60 columns.
fn terminal(folder: &Path, colour: bool) -> Environment {
    let stream = Stream {
        terminal: true,
        colour,
    };
    Environment {
        directory: folder.to_owned(),
        variable: |_| None,
        now: || Timestamp(1_800_000_000_000_000),
        out: stream,
        err: Stream {
            terminal: false,
            colour,
        },
        width: Some(60),
        stop: Arc::default(),
        peak_memory: || None,
        catch_interrupt: |_| {},
    }
}

fn in_process(environment: &Environment, args: &[&str]) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = ["relist"].iter().chain(args).map(OsString::from);
    let exit = run(args, environment, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (exit, text(out), text(err))
}

#[test]
fn a_terminal_gets_a_table_that_fits() {
    let folder = filled();
    let plain = terminal(folder.path(), false);
    let (exit, out, _) = in_process(&plain, &["query", "Property"]);
    assert_eq!(exit, Exit::Ok);
    assert_eq!(
        out,
        "ListingKeyNumeric  ListPrice  City\n\
         1                   500000.0  Provo\n\
         2                   350000.5  Orem\n"
    );
    let (_, out, notes) = in_process(&plain, &["changes"]);
    assert!(out.lines().all(|l| l.chars().count() <= 60), "{out}");
    assert!(notes.contains("-o json shows"), "{notes}");
    let (_, out, _) = in_process(&plain, &["-q", "status", "-o", "ndjson"]);
    assert!(out.starts_with("{\"ResourceName\":\"Property\""), "{out}");
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let folder = filled();
    let (_, out, _) = in_process(&terminal(folder.path(), true), &["query", "Property"]);
    assert!(out.starts_with("\u{1b}[1mListingKeyNumeric"), "{out:?}");
    let (exit, _, err) = in_process(&terminal(folder.path(), true), &["query", "Nope"]);
    assert_eq!(exit, Exit::Usage);
    assert!(err.contains("\u{1b}[1;31merror:\u{1b}[0m"), "{err:?}");
    // A pipe is never coloured, whatever the variables say.
    let output = done(folder.path(), &["query", "Property", "-o", "table"]);
    assert!(!output.stdout.contains(&0x1b));
}

#[test]
fn every_command_has_its_help() {
    let folder = tempfile::tempdir().unwrap();
    let environment = terminal(folder.path(), false);
    let (exit, help, _) = in_process(&environment, &["--help"]);
    assert_eq!(exit, Exit::Ok);
    let commands = help.lines().skip_while(|l| *l != "Commands:").skip(1);
    let commands: Vec<&str> = commands
        .take_while(|l| !l.is_empty())
        .filter_map(|l| l.split_whitespace().next())
        .filter(|c| *c != "help")
        .collect();
    assert!(commands.len() >= 12, "{commands:?}");
    for command in commands {
        let (exit, help, _) = in_process(&environment, &[command, "--help"]);
        assert_eq!(exit, Exit::Ok);
        assert!(help.contains(&format!("Usage: relist {command}")), "{help}");
        assert!(help.lines().all(|l| l.chars().count() <= 100), "{help}");
    }
}

/// A server whose pages take some time.
fn slow_feed(listings: u32) -> (Arc<Mutex<Market>>, Server) {
    let conduct = Conduct {
        photo_changes: 0,
        ..Conduct::default()
    };
    let market = Market::with_conduct(3, Size::listings(listings), conduct);
    let market = Arc::new(Mutex::new(market));
    let wait = |_| std::thread::sleep(Duration::from_millis(60));
    let options = Options {
        before_page: Some(Box::new(wait)),
        ..Options::default()
    };
    let server = Server::start(Arc::clone(&market), options).unwrap();
    (market, server)
}

fn count(folder: &Path) -> u64 {
    let store = Store::open_read_only(folder.join("relist.redb")).unwrap();
    store.snapshot().unwrap().count("Property").unwrap_or(0)
}

#[test]
#[cfg(unix)]
fn an_interrupted_sync_goes_on_where_it_stopped() {
    let (market, server) = slow_feed(4_000);
    let folder = tempfile::tempdir().unwrap();
    let init = done(folder.path(), &["init", "--url", &server.base_url()]);
    assert_eq!(init.status.code(), Some(0), "{}", err(&init));
    let sync = |args: &[&str]| {
        let mut command = relist(folder.path(), &[&["sync", "Property"], args].concat());
        command.env("RELIST_TOKEN", server.token());
        command
    };
    let child = sync(&[]).spawn().unwrap();
    let begun = Instant::now();
    while count(folder.path()) < 400 && begun.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains("stopped"), "{}", err(&output));
    let kept = count(folder.path());
    assert!((400..4_000).contains(&kept), "{kept}");

    // The rest, in two parts: one that is told when to stop, and one that is not.
    let requests = server.request_count();
    let output = sync(&["--max-pages", "2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(server.request_count() - requests <= 5, "it began anew");
    assert!(count(folder.path()) > kept);
    let output = sync(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(count(folder.path()), 4_000);
    let store = Store::open_read_only(folder.path().join("relist.redb")).unwrap();
    let snapshot = store.snapshot().unwrap();
    let market = market.lock().unwrap();
    let now = AsOf::Sequence(snapshot.sequence());
    let mut keys = Vec::new();
    snapshot
        .scan("Property", now, |key, _| {
            keys.push(key.to_string().parse::<u32>().unwrap());
            Ok(true)
        })
        .unwrap();
    assert_eq!(keys, market.keys().collect::<Vec<_>>());
}

#[test]
fn a_feed_that_fails_for_one_resource_is_synced_for_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let market = Arc::new(Mutex::new(Market::new(5, Size::listings(300))));
    let broken = |request: &relist_sim::Request| {
        let member = request.path().ends_with("/Member");
        member.then(|| relist_sim::Response::error(403, "no Member for you"))
    };
    let options = Options {
        intercept: Some(Box::new(broken)),
        ..Options::default()
    };
    let server = Server::start(market, options).unwrap();
    done(folder.path(), &["init", "--url", &server.base_url()]);
    let mut command = relist(folder.path(), &["sync"]);
    let output = command
        .env("RELIST_TOKEN", server.token())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
    assert!(
        err(&output).contains("no Member for you"),
        "{}",
        err(&output)
    );
    assert!(err(&output).contains("PropertyUnitTypes: this feed does not have it"));
    let lines = String::from_utf8(output.stdout).unwrap();
    let names = lines.lines().filter_map(|l| l.split('"').nth(3));
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["Property", "Office", "OpenHouse"]
    );
}

/// What a dry run says of one resource.
fn planned(folder: &Path, args: &[&str]) -> (serde_json::Value, String) {
    let mut all = vec!["sync", "Property", "--dry-run", "-o", "ndjson"];
    all.extend(args);
    let output = done(folder, &all);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let line = String::from_utf8(output.stdout.clone()).unwrap();
    (serde_json::from_str(&line).unwrap(), err(&output))
}

#[test]
fn a_dry_run_says_what_the_sync_then_does() {
    let market = Arc::new(Mutex::new(Market::new(5, Size::listings(500))));
    let server = Server::start(Arc::clone(&market), Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let with_token = |args: &[&str]| {
        let mut command = relist(folder.path(), args);
        let output = command
            .env("RELIST_TOKEN", server.token())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", err(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let url = server.base_url();
    with_token(&["init", "--provider", "wfrmls", "--url", &url]);
    let sync = |args: &[&str]| {
        let mut all = vec!["sync", "Property", "-o", "ndjson"];
        all.extend(args);
        let line = with_token(&all);
        let report: serde_json::Value = serde_json::from_str(&line).unwrap();
        report["Kind"].clone()
    };
    let ways: [&[&str]; 7] = [
        &["--max-pages", "1"],
        &[],
        &[],
        &["--reconcile"],
        &["--deep", "2/3"],
        &["--full", "--max-pages", "1"],
        &["--full"],
    ];
    let mut kinds = Vec::new();
    for (at, args) in ways.iter().enumerate() {
        let before = server.request_count();
        let (plan, notes) = planned(folder.path(), args);
        assert_eq!(server.request_count(), before, "something was sent");
        assert!(notes.contains("nothing was sent"), "{notes}");
        // After a run that was cut, the next goes on.
        assert_eq!(
            plan["Resumes"].is_null(),
            at != 1 && at != 6,
            "{at}: {plan}"
        );
        let kind = sync(args);
        assert_eq!(plan["Kind"], kind, "{args:?}");
        kinds.push(kind);
    }
    assert_eq!(
        kinds,
        [
            "full",
            "full",
            "incremental",
            "reconcile",
            "deep",
            "full",
            "full"
        ]
    );
}

#[test]
fn a_mirror_that_was_away_says_that_it_will_compare_all_keys() {
    let folder = tempfile::tempdir().unwrap();
    let config = "provider = \"mlsgrid\"\nstore = \"relist.redb\"\n[variables]\nsystem = \"x\"\n";
    std::fs::write(folder.path().join("relist.toml"), config).unwrap();
    for (hours, noted) in [(1, false), (25, true)] {
        let path = folder.path().join("relist.redb");
        let _ = std::fs::remove_file(&path);
        let store = Store::create(&path, Timestamp(0)).unwrap();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let now = i64::try_from(now.as_micros()).unwrap();
        let mut txn = store.begin_write(Timestamp(now)).unwrap();
        let checkpoint = relist::store::Checkpoint {
            state: relist::store::SyncState::Live,
            watermark: Some(Timestamp(now)),
            last_complete: Some(Timestamp(now - hours * 3_600_000_000)),
            ..relist::store::Checkpoint::default()
        };
        txn.set_checkpoint("Property", &checkpoint).unwrap();
        txn.commit().unwrap();
        drop(store);
        let (plan, notes) = planned(folder.path(), &[]);
        assert_eq!(plan["Kind"], "incremental");
        assert_eq!(notes.contains("all keys are compared"), noted, "{notes}");
    }
}
