//! The real binary: killed at each write and sync it asks the system for, with readers beside it;
//! started twenty times at once; its store damaged and repaired.
//!
//! `RELIST_SYSCALLS` says at how many calls of each command it is killed (25, spread over all of
//! them). Without strace these runs are skipped, and say so.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever is wrong")]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use relist::store::{AsOf, Store};
use relist_sim::{Market, Options, Server, Size};

const FILE: &str = "relist.redb";

fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_relist")
}

/// Where the token of a folder's feed is.
const TOKEN: &str = "token";

fn at_home(command: &mut Command, folder: &Path) {
    command
        .current_dir(folder)
        .env_remove("RELIST_STORE")
        .env_remove("RELIST_TOKEN")
        .stdin(Stdio::null());
    if let Ok(token) = std::fs::read_to_string(folder.join(TOKEN)) {
        command.env("RELIST_TOKEN", token);
    }
}

fn relist(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    at_home(command.args(args), folder);
    command.output().unwrap()
}

fn ok(folder: &Path, args: &[&str]) -> String {
    let output = relist(folder, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A page of listings; of another edition, with other prices.
fn page(first: u32, count: u32, edition: u32) -> String {
    let row = |key: u32| {
        format!(
            "{{\"ListingKeyNumeric\":{key},\"ListPrice\":{},\"City\":\"Orem\",\
             \"ModificationTimestamp\":\"2026-03-0{}T00:00:00Z\"}}",
            100_000 + key + edition,
            edition + 1
        )
    };
    let rows: Vec<String> = (first..first + count).map(row).collect();
    format!("{{\"value\":[{}]}}", rows.join(","))
}

/// A folder with pages in it, and a store when `ingested` says how many of them it has.
fn folder(ingested: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("1.json", page(1, 200, 0)),
        ("2.json", page(101, 200, 1)),
        ("3.json", page(1, 150, 2)),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    for name in ["1.json", "2.json", "3.json"].into_iter().take(ingested) {
        ok(folder.path(), &ingest(name));
    }
    folder
}

fn ingest(file: &str) -> [&str; 7] {
    let store = ["--store", FILE, "ingest", "Property"];
    let [a, b, c, d] = store;
    [a, b, c, d, file, "--key", "ListingKeyNumeric"]
}

/// The records, by key, and how many changes there were.
fn held(folder: &Path) -> (BTreeMap<String, String>, u64) {
    let store = Store::open_read_only(folder.join(FILE)).unwrap();
    let snapshot = store.snapshot().unwrap();
    let mut out = BTreeMap::new();
    if snapshot.resource("Property").is_ok() {
        let now = AsOf::Sequence(snapshot.sequence());
        let scan = snapshot.scan("Property", now, |key, record| {
            out.insert(key.to_string(), record.to_json(None));
            Ok(true)
        });
        scan.unwrap();
    }
    (out, snapshot.sequence())
}

const CALLS: &str = "pwrite64,write,fdatasync,fsync,ftruncate,rename,link,linkat,unlink";

fn strace(folder: &Path, options: &[&str], args: &[&str]) -> Option<Output> {
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq"])
        .args(options)
        .arg(binary())
        .args(args);
    at_home(&mut command, folder);
    match command.output() {
        Ok(output) => Some(output),
        Err(e) => {
            println!("skipped: the runs killed at each call: strace: {e}");
            None
        }
    }
}

/// How many of the calls a command makes.
fn calls(folder: &Path, args: &[&str]) -> Option<usize> {
    let (log, trace) = (folder.join("calls"), format!("trace={CALLS}"));
    let options = ["-o", log.to_str().unwrap(), "-e", &trace];
    let output = strace(folder, &options, args)?;
    if !output.status.success() {
        println!("skipped: the runs killed at each call: {output:?}");
        return None;
    }
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(log).unwrap();
    Some(text.lines().count())
}

/// What is killed, and where it begins.
struct Case<'a> {
    name: &'a str,
    /// The folder that it begins in.
    folder: &'a dyn Fn() -> tempfile::TempDir,
    args: &'a [&'a str],
    /// What brings it to its end.
    after: &'a [&'a str],
    /// Whether it is one transaction: then the store is as before or as after.
    at_once: bool,
}

/// Kills a command at its calls, one after the other; a reader looks at the store all the while.
fn killed_at_each(name: &str, ingested: usize, args: &[&str], after: &[&str]) {
    killed(&Case {
        name,
        folder: &|| folder(ingested),
        args,
        after,
        at_once: true,
    });
}

fn killed(case: &Case<'_>) {
    let most: usize = std::env::var("RELIST_SYSCALLS").map_or(25, |text| text.parse().unwrap());
    let whole = (case.folder)();
    let born = whole.path().join(FILE).exists();
    let before = born.then(|| held(whole.path()));
    let Some(count) = calls(whole.path(), case.args) else {
        return;
    };
    let ended = held(whole.path());
    let step = (count / most).max(1);
    let mut killed = 0;
    for number in (1..=count).step_by(step).take(most) {
        let what = format!("{}, call {number} of {count}", case.name);
        let own = (case.folder)();
        let reader = born.then(|| Store::open_read_only(own.path().join(FILE)).unwrap());
        let seen = reader.as_ref().map(|store| store.snapshot().unwrap());
        let (trace, inject) = (
            format!("trace={CALLS}"),
            format!("inject={CALLS}:signal=SIGKILL:when={number}"),
        );
        let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
        let output = strace(own.path(), &options, case.args).unwrap();
        killed += usize::from(!output.status.success());
        // Who read before goes on reading what there was, and sees what there is now.
        if let (Some(store), Some(seen), Some((records, sequence))) = (&reader, &seen, &before) {
            assert_eq!(seen.sequence(), *sequence);
            if !records.is_empty() {
                assert_eq!(seen.count("Property").unwrap(), records.len() as u64);
            }
            let now = store.snapshot().map(|snapshot| snapshot.sequence());
            let known = |now| now == *sequence || now == ended.1;
            assert!(now.is_ok_and(|now| !case.at_once || known(now)), "{what}");
        }
        drop((seen, reader));
        if own.path().join(FILE).exists() {
            ok(own.path(), &["--store", FILE, "verify"]);
            let found = held(own.path());
            let allowed = found == ended || before.as_ref().is_some_and(|b| found == *b);
            assert!(!case.at_once || allowed || !born && found.1 == 0, "{what}");
        } else {
            assert!(!born, "{what}: the store is gone");
        }
        if own.path().join(COPY).exists() {
            // Never a broken file at the target.
            ok(own.path(), &["--store", COPY, "verify"]);
        }
        // Begun again, it ends as it should, and nothing is logged twice.
        ok(own.path(), case.after);
        assert_eq!(held(own.path()), ended, "{what}");
    }
    println!("{}: killed at {killed} of {count} calls", case.name);
    assert!(killed > 0);
}

/// The name of a backup.
const COPY: &str = "copy.redb";

#[test]
fn a_first_load_killed_at_any_call_loses_nothing() {
    let args = ingest("1.json");
    killed_at_each("ingest into no store", 0, &args, &args);
}

#[test]
fn a_load_killed_at_any_call_loses_nothing() {
    let args = ingest("3.json");
    killed_at_each("ingest", 2, &args, &args);
}

#[test]
fn a_compaction_killed_at_any_call_loses_nothing() {
    let args = ["--store", FILE, "compact"];
    killed_at_each("compact", 3, &args, &args);
}

#[test]
fn a_repair_killed_at_any_call_loses_nothing() {
    let args = ["--store", FILE, "verify", "--repair"];
    killed_at_each("verify --repair", 3, &args, &args);
}

#[test]
fn a_backup_killed_at_any_call_leaves_a_whole_file_or_none() {
    let args = ["--store", FILE, "backup", COPY, "--force"];
    killed_at_each("backup", 3, &args, &args);
}

#[test]
fn a_prune_killed_at_any_call_loses_nothing() {
    let args = ["--store", FILE, "prune", "--keep", "0s"];
    killed_at_each("prune", 3, &args, &args);
}

#[test]
fn a_purge_killed_at_any_call_removes_what_it_was_to() {
    let args = ["--store", FILE, "purge", "--key", "7"];
    killed_at_each("purge", 3, &args, &args);
}

/// A folder that mirrors a feed, initialised or not.
fn mirror(server: &Server, initialised: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(TOKEN), server.token()).unwrap();
    if initialised {
        ok(folder.path(), &["init", "--url", &server.base_url()]);
    }
    folder
}

fn feed() -> Server {
    let market = Market::new(5, Size::listings(60));
    Server::start(Arc::new(Mutex::new(market)), Options::default()).unwrap()
}

#[test]
fn an_init_killed_at_any_call_is_begun_again() {
    let server = feed();
    let url = server.base_url();
    killed(&Case {
        name: "init",
        folder: &|| mirror(&server, false),
        args: &["init", "--url", &url],
        after: &["init", "--force", "--url", &url],
        at_once: true,
    });
}

#[test]
fn a_sync_killed_at_any_call_loses_nothing_and_goes_on() {
    let server = feed();
    killed(&Case {
        name: "sync",
        folder: &|| mirror(&server, true),
        args: &["sync", "Property"],
        after: &["sync", "Property"],
        at_once: false,
    });
}

#[test]
fn of_twenty_started_at_once_one_writes_and_the_others_say_who_or_wait() {
    let folder = folder(1);
    let mut holder = {
        // It reads its standard input for as long as the test likes.
        let mut command = Command::new(binary());
        command.args(ingest("-")).current_dir(folder.path());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let pid = holder.id().to_string();
    let note = folder.path().join(format!("{FILE}.writer"));
    while !std::fs::read_to_string(&note).is_ok_and(|text| text == pid) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let start = |wait: &str| {
        let mut command = Command::new(binary());
        command
            .args(ingest("2.json"))
            .args(["--wait", wait])
            .current_dir(folder.path());
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let refused: Vec<_> = (0..19).map(|_| start("0s")).collect();
    for child in refused {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{text}");
        assert!(text.contains(&format!("(pid {pid})")), "{text}");
    }
    // Reading goes on beside it.
    ok(folder.path(), &["--store", FILE, "status"]);
    let waiting: Vec<_> = (0..5).map(|_| start("60s")).collect();
    let mut input = holder.stdin.take().unwrap();
    input.write_all(page(1, 10, 0).as_bytes()).unwrap();
    drop(input);
    assert!(holder.wait().unwrap().success());
    for child in waiting {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let (records, sequence) = held(folder.path());
    assert_eq!(records.len(), 300);
    // Twenty of them, and each change once: 200 came first, then 100 more, and 100 others.
    let store = Store::open_read_only(folder.path().join(FILE)).unwrap();
    let snapshot = store.snapshot().unwrap();
    let changes = snapshot.changes(0).unwrap();
    let records = changes.filter(|change| change.as_ref().unwrap().key.is_some());
    assert_eq!(records.count(), 400, "of {sequence}");
    assert!(!note.exists());
}

#[test]
fn a_damaged_store_is_named_and_repaired() {
    let folder = folder(3);
    let path = folder.path().join(FILE);
    let (before, _) = held(folder.path());
    // Somewhere in what the records say.
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes
        .windows(4)
        .rposition(|window| window == b"Orem")
        .unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let verified = relist(folder.path(), &["--store", FILE, "verify"]);
    assert_eq!(verified.status.code(), Some(5), "{verified:?}");
    let text = String::from_utf8(verified.stderr).unwrap();
    assert!(text.contains("verify --repair"), "{text}");
    let repaired = relist(folder.path(), &["--store", FILE, "verify", "--repair"]);
    assert_eq!(repaired.status.code(), Some(0), "{repaired:?}");
    let text = String::from_utf8(repaired.stderr).unwrap();
    assert!(text.contains("relist.redb.damaged-1"), "{text}");
    ok(folder.path(), &["--store", FILE, "verify"]);
    assert_eq!(held(folder.path()).0, before);
}
