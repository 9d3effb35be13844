//! `watch`, `each`, `report`, `status` and `changes`, with the binary: each event at least once.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever is wrong")]
#![expect(clippy::indexing_slicing, reason = "a test stops at whatever is wrong")]

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relist::store::Store;
use relist_sim::{Event, Market, Options, Server, Size, Status};
use serde_json::Value;

fn relist(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relist"));
    command
        .args(args)
        .current_dir(folder)
        .env_remove("RELIST_STORE")
        .env_remove("RELIST_TOKEN")
        .env_remove("RELIST_WEBHOOK_SECRET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a command printed, after it ended with this code.
fn ended(command: &mut Command, code: i32) -> (String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let (out, err) = (
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    );
    assert_eq!(status.code(), Some(code), "{command:?}\n{out}\n{err}");
    (out, err)
}

fn done(folder: &Path, args: &[&str]) -> String {
    ended(&mut relist(folder, args), 0).0
}

fn rows(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Gives the listings these prices: a change each where they differ.
fn prices(folder: &Path, prices: impl Iterator<Item = (u32, u32)>) {
    let mut text = String::new();
    for (key, price) in prices {
        let _ = writeln!(
            text,
            r#"{{"ListingKeyNumeric":{key},"ListPrice":{price},"StandardStatus":"Active"}}"#
        );
    }
    std::fs::write(folder.join("rows.ndjson"), text).unwrap();
    done(folder, &["ingest", "Property", "rows.ndjson"]);
}

/// A store with so many listings of 1,000, which the watcher has passed.
fn watched(listings: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    prices(folder.path(), (1..=listings).map(|key| (key, 1_000)));
    let (out, err) = ended(&mut watch(folder.path(), &[]), 0);
    assert_eq!(out, "");
    assert!(err.contains("is new"), "{err}");
    folder
}

const DROP: &str = "price-drop:10";

fn watch(folder: &Path, args: &[&str]) -> Command {
    let mut command = relist(folder, &["watch", "--rule", DROP]);
    command.args(args);
    command
}

fn sequences(text: &str) -> Vec<u64> {
    rows(text)
        .iter()
        .map(|r| r["Sequence"].as_u64().unwrap())
        .collect()
}

/// A market, its feed, and a mirror of it whose watcher has begun.
struct Mirrored {
    market: Arc<Mutex<Market>>,
    server: Server,
    folder: tempfile::TempDir,
    /// Listings that were active at the start.
    keys: Vec<u32>,
}

const RULES: &str = r#"
[track]
price = ["ListPrice", "OriginalListPrice"]
[[watch.rule]]
name = "sold soon"
on = "transition"
from = "Active"
to = "Pending"
[[watch.rule]]
name = "cut"
on = "price-drop"
percent = 0.5
[[watch.rule]]
name = "back"
on = "back-on-market"
[[watch.rule]]
name = "gone"
on = "operation"
operation = "delete"
filter = "ListPrice gt 0"
"#;

impl Mirrored {
    fn new() -> Self {
        let market = Arc::new(Mutex::new(Market::new(3, Size::listings(200))));
        let keys = market.lock().unwrap().keys_of(Status::Active).collect();
        let mirrored = Mirrored {
            server: Server::start(Arc::clone(&market), Options::default()).unwrap(),
            folder: tempfile::tempdir().unwrap(),
            market,
            keys,
        };
        let url = mirrored.server.base_url();
        mirrored.done(&["init", "--provider", "wfrmls", "--url", &url]);
        mirrored.done(&["sync", "Property"]);
        let file = mirrored.folder.path().join("relist.toml");
        let config = std::fs::read_to_string(&file).unwrap() + RULES;
        std::fs::write(file, config).unwrap();
        assert_eq!(mirrored.done(&["watch"]), "");
        mirrored
    }

    fn ended(&self, args: &[&str], code: i32) -> (String, String) {
        let mut command = relist(self.folder.path(), args);
        ended(command.env("RELIST_TOKEN", self.server.token()), code)
    }

    fn done(&self, args: &[&str]) -> String {
        self.ended(args, 0).0
    }

    fn play(&self, listing: usize, event: Event) {
        let mut market = self.market.lock().unwrap();
        market.advance(3_600);
        assert!(market.play(self.keys[listing], event), "{event:?}");
    }
}

#[test]
fn what_happens_in_a_feed_is_told_once() {
    let mirrored = Mirrored::new();
    mirrored.play(0, Event::GoPending);
    mirrored.play(1, Event::CutPrice);
    mirrored.play(2, Event::EditRemarks);
    mirrored.play(3, Event::Delete);
    mirrored.done(&["sync", "Property"]);
    mirrored.play(0, Event::BackOnMarket);
    mirrored.done(&["sync", "Property"]);
    let text = mirrored.done(&["watch", "-o", "ndjson"]);
    let told = |rule: &str, listing: usize| -> Vec<Value> {
        let key = mirrored.keys[listing].to_string();
        let mut rows = rows(&text);
        rows.retain(|r| r["Rule"] == rule && r["ResourceRecordKey"].as_str() == Some(&key));
        rows
    };
    for (rule, listing) in [("sold soon", 0), ("cut", 1), ("back", 0), ("gone", 3)] {
        assert_eq!(told(rule, listing).len(), 1, "{rule}: {text}");
    }
    let cut = &told("cut", 1)[0];
    assert!(
        cut["NewValue"].as_f64() < cut["PreviousValue"].as_f64(),
        "{cut}"
    );
    assert_eq!(mirrored.done(&["watch"]), "", "nothing twice");
    let again = mirrored.done(&["watch", "--since", "0"]);
    assert_eq!(sequences(&again), sequences(&text));
}

#[test]
fn runs_tell_what_they_cost_and_the_store_how_it_is() {
    let mirrored = Mirrored::new();
    mirrored.play(1, Event::CutPrice);
    mirrored.done(&["sync", "Property"]);
    mirrored.done(&["watch"]);
    let reports = rows(&mirrored.done(&["report", "-o", "ndjson"]));
    let last = reports.iter().find(|r| r["Kind"] == "incremental").unwrap();
    assert!(last["Requests"].as_u64() >= Some(2), "{last}");
    assert!(last["ReceivedBytes"].as_u64() > Some(1_000), "{last}");
    if cfg!(target_os = "linux") {
        assert!(last["PeakMemoryBytes"].as_u64() > Some(1 << 20), "{last}");
    }
    let run = last["Run"].to_string();
    let text = mirrored.done(&["report", &run, "-o", "table"]);
    assert!(
        text.contains("requests") && text.contains("complete"),
        "{text}"
    );
    let summary = &rows(&mirrored.done(&["report", "--summary", "-o", "ndjson"]))[0];
    assert_eq!(summary["Complete"], summary["Runs"], "{summary}");
    let newest = mirrored.done(&["report", "--last", "1", "--resource", "Property"]);
    assert_eq!(rows(&newest).len(), 1);
    mirrored.ended(&["report", "999"], 2);
    let metrics = mirrored.done(&["status", "--prometheus"]);
    let records = mirrored.done(&["query", "Property"]).lines().count();
    let line = format!("relist_records{{resource=\"Property\"}} {records}\n");
    assert!(metrics.contains(&line), "{metrics}");
    let lag = "relist_watch_lag{watcher=\"watch\"} 0";
    assert!(metrics.contains(lag), "{metrics}");
    mirrored.done(&["status", "--max-age", "1h"]);
    std::thread::sleep(Duration::from_millis(1_100));
    let (_, err) = mirrored.ended(&["status", "--max-age", "1s"], 6);
    assert!(err.contains("Property"), "{err}");
}

#[test]
fn tracked_fields_of_one_listing() {
    let mirrored = Mirrored::new();
    mirrored.play(1, Event::CutPrice);
    mirrored.play(2, Event::CutPrice);
    mirrored.done(&["sync", "Property"]);
    let key = mirrored.keys[1].to_string();
    let tracked = mirrored.done(&["changes", "--listing", &key, "--track", "price"]);
    let tracked = rows(&tracked);
    assert_eq!(tracked.len(), 1, "{tracked:?}");
    assert_eq!(tracked[0]["FieldName"], "ListPrice");
    assert_eq!(tracked[0]["ResourceRecordKey"].as_str(), Some(&*key));
    let all = rows(&mirrored.done(&["changes", "--listing", &key]));
    assert!(all.len() > tracked.len());
    let args = ["--field", "ListPrice", "--field", "ModificationTimestamp"];
    let two = mirrored.done(&[&["changes", "--listing", &key], &args[..]].concat());
    assert_eq!(rows(&two).len(), 2, "{two}");
    let (_, err) = mirrored.ended(&["changes", "--track", "prise"], 2);
    assert!(err.contains("price"), "{err}");
}

#[test]
fn a_watcher_that_is_killed_after_a_delivery_delivers_again_and_loses_nothing() {
    let folder = watched(40);
    let folder = folder.path();
    prices(folder, (1..=40).map(|key| (key, 900)));
    // The command takes the event; then, every third time, the watcher dies before it knows.
    let command = "cat >> got; test $(($(wc -l < got) % 3)) -ne 0 || kill -9 $PPID";
    let mut kills = 0;
    loop {
        let output = watch(folder, &["--exec", command]).output().unwrap();
        match output.status.code() {
            Some(code) => break assert_eq!(code, 0, "{output:?}"),
            None => kills += 1,
        }
        assert!(kills < 100, "no progress");
        done(folder, &["verify"]);
    }
    let got = sequences(&std::fs::read_to_string(folder.join("got")).unwrap());
    let mut once = got.clone();
    once.dedup();
    assert_eq!(once, (41..=80).collect::<Vec<u64>>());
    assert!(kills > 5, "{kills}");
    assert_eq!(got.len(), once.len() + kills);
    assert_eq!(ended(&mut watch(folder, &[]), 0).0, "");
}

#[test]
fn a_command_that_fails_is_tried_again_and_the_position_stays() {
    let folder = watched(3);
    let folder = folder.path();
    prices(folder, (1..=3).map(|key| (key, 900)));
    let (_, err) = ended(&mut watch(folder, &["--exec", "exit 3"]), 1);
    assert!(
        err.contains("exited with 3") && err.contains("again in"),
        "{err}"
    );
    assert!(err.contains("hint: nothing is lost"), "{err}");
    // The second attempt succeeds.
    let command = "test -e tried || { touch tried; exit 1; }; cat >> got";
    ended(&mut watch(folder, &["--exec", command]), 0);
    let got = std::fs::read_to_string(folder.join("got")).unwrap();
    assert_eq!(sequences(&got), [4, 5, 6]);
}

#[cfg(unix)]
#[test]
fn a_command_that_hangs_is_killed_with_what_it_started_and_tried_again() {
    let folder = watched(20);
    prices(folder.path(), std::iter::once((1, 500)));
    let marker = folder.path().join("late");
    // What it started would write long after.
    let hangs = format!("(sleep 8; touch {}) & sleep 60", marker.display());
    let begun = std::time::Instant::now();
    let args = ["--exec", &hangs, "--timeout", "1s"];
    let (_, err) = ended(&mut watch(folder.path(), &args), 1);
    assert!(
        err.contains("took longer than 1.0 s and was killed"),
        "{err}"
    );
    assert_eq!(err.matches("again in").count(), 2, "{err}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(30));
    // The limit stands in relist.toml too; an event that it kept from arriving comes again.
    let file = folder.path().join("relist.toml");
    let config = std::fs::read_to_string(&file).unwrap_or_default();
    std::fs::write(&file, format!("{config}\n[watch]\ntimeout = \"1s\"\n")).unwrap();
    ended(&mut watch(folder.path(), &["--exec", "sleep 60"]), 1);
    let (_, err) = ended(
        &mut watch(folder.path(), &["--exec", "cat >> got", "--timeout", "0s"]),
        2,
    );
    assert!(err.contains("in no time"), "{err}");
    ended(&mut watch(folder.path(), &["--exec", "cat >> got"]), 0);
    let got = std::fs::read_to_string(folder.path().join("got")).unwrap();
    assert_eq!(rows(&got).len(), 1, "{got}");
    let left = std::time::Duration::from_secs(9).saturating_sub(begun.elapsed());
    std::thread::sleep(left);
    assert!(!marker.exists(), "what it started lived on");
}

#[test]
fn a_watcher_works_beside_a_writer_and_one_at_a_time() {
    let folder = watched(5);
    let folder = folder.path();
    prices(folder, (1..=5).map(|key| (key, 900)));
    let held = Store::open(folder.join("relist.redb")).unwrap();
    let (out, _) = ended(&mut watch(folder, &[]), 0);
    assert_eq!(sequences(&out), [6, 7, 8, 9, 10]);
    let file = folder.join("relist.redb.watch/watch.position");
    assert!(file.exists());
    assert_eq!(ended(&mut watch(folder, &[]), 0).0, "");
    drop(held);
    assert_eq!(ended(&mut watch(folder, &[]), 0).0, "");
    assert!(!file.exists());
    let store = Store::open_read_only(folder.join("relist.redb")).unwrap();
    let position = store.snapshot().unwrap().position("watch").unwrap();
    assert_eq!(position.map(|p| p.sequence), Some(10));
    drop(store);

    // One that follows sees what other processes write, and keeps its name to itself.
    let mut follower = watch(folder, &["--follow", "--every", "1s", "--to", "events"])
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let lines = || std::fs::read_to_string(folder.join("events")).unwrap_or_default();
    let wait = |count: usize| {
        while lines().lines().count() < count {
            assert!(begun.elapsed() < Duration::from_mins(1), "{}", lines());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    prices(folder, (1..=5).map(|key| (key, 800)));
    wait(5);
    ended(&mut watch(folder, &[]), 4);
    prices(folder, (1..=5).map(|key| (key, 700)));
    wait(10);
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert_eq!(sequences(&lines()), (11..=20).collect::<Vec<u64>>());
    // It was killed when the last was on the disk: the position may not have moved past that one.
    let again = sequences(&ended(&mut watch(folder, &[]), 0).0);
    assert!(again.is_empty() || again == [20], "{again:?}");
}

/// What a receiver was sent: the signature and the body.
type Taken = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A receiver that answers with these statuses in turn (0 hangs up), then with 200.
fn receiver(statuses: &'static [u16]) -> (String, Taken) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook?key=s3cret", listener.local_addr().unwrap());
    let taken = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&taken);
    std::thread::spawn(move || {
        let mut statuses = statuses.iter();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut bytes, mut piece) = (Vec::new(), [0; 4_096]);
            let (head, body) = loop {
                let count = stream.read(&mut piece).unwrap();
                bytes.extend_from_slice(&piece[..count]);
                let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
                let Some(end) = end else { continue };
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                let length = head.split("content-length: ").nth(1).unwrap();
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if bytes.len() >= end + 4 + length {
                    break (head, bytes[end + 4..].to_vec());
                }
            };
            let status = *statuses.next().unwrap_or(&200);
            let signature = head.split("relist-signature: ").nth(1).unwrap_or_default();
            let signature = signature.lines().next().unwrap_or_default().to_owned();
            shared.lock().unwrap().push((signature, body));
            if status != 0 {
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    (url, taken)
}

#[test]
fn a_webhook_is_signed_and_tried_again() {
    use aws_lc_rs::hmac;
    let folder = watched(2);
    let folder = folder.path();
    prices(folder, (1..=2).map(|key| (key, 900)));
    let (url, taken) = receiver(&[500, 0, 204, 429, 200]);
    let secret = "a-secret-of-the-receiver";
    let mut command = watch(folder, &["--to", &url]);
    ended(command.env("RELIST_WEBHOOK_SECRET", secret), 0);
    let taken = taken.lock().unwrap();
    assert_eq!(taken.len(), 5);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    for (signature, body) in taken.iter() {
        let mut expected = "sha256=".to_owned();
        for byte in hmac::sign(&key, body).as_ref() {
            let _ = write!(expected, "{byte:02x}");
        }
        assert_eq!(*signature, expected);
    }
    let sent: Vec<u64> = taken
        .iter()
        .flat_map(|(_, body)| sequences(std::str::from_utf8(body).unwrap()))
        .collect();
    assert_eq!(sent, [3, 3, 3, 4, 4]);
}

#[test]
fn a_webhook_that_refuses_keeps_the_position_and_no_secret_is_shown() {
    let folder = watched(1);
    let folder = folder.path();
    prices(folder, std::iter::once((1, 900)));
    let (url, taken) = receiver(&[400]);
    let (out, err) = ended(&mut watch(folder, &["--to", &url]), 1);
    assert!(err.contains("answered 400"), "{err}");
    assert!(!format!("{out}{err}").contains("s3cret"), "{err}");
    ended(&mut watch(folder, &["--to", &url]), 0);
    let taken = taken.lock().unwrap();
    assert_eq!(taken.len(), 2);
    assert!(taken[0].0.is_empty(), "signed without a secret");
    let (_, err) = ended(&mut watch(folder, &["--to", "http://example.com/"]), 2);
    assert!(err.contains("loopback"), "{err}");
}

#[test]
fn every_record_is_handed_to_a_command_or_listed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prices(folder, (1..=1_000).map(|key| (key, key)));
    let keys = |file: &str| -> Vec<u64> {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let rows = rows(&text);
        let mut keys: Vec<u64> = rows
            .iter()
            .map(|r| r["ListingKeyNumeric"].as_u64().unwrap())
            .collect();
        keys.sort_unstable();
        keys
    };
    let each = |args: &[&str]| {
        let mut command = relist(folder, &["each", "Property", "--batch", "100"]);
        command.args(args);
        command
    };
    // Four at once; a file of its own for each batch, so that no line is torn.
    let command = "cat > part-$RELIST_BATCH";
    ended(&mut each(&["--jobs", "4", "--exec", command]), 0);
    let parts: Vec<u64> = (1..=10).flat_map(|n| keys(&format!("part-{n}"))).collect();
    assert_eq!(parts, (1..=1_000).collect::<Vec<u64>>());
    // A batch that fails at first, and one that always does.
    let command = "cat > in; case $RELIST_BATCH in 2) test -e two || { touch two; exit 1; };; \
                   5) exit 9;; esac; cat in >> all";
    let (_, err) = ended(&mut each(&["--retries", "1", "--exec", command]), 6);
    assert!(err.contains("batch 5 failed, tried 2 times"), "{err}");
    assert!(
        err.contains("exited with 9: 401 to 500 (100 records)"),
        "{err}"
    );
    assert!(err.contains("--after 400"), "{err}");
    let rest: Vec<u64> = (1..=400).chain(501..=1_000).collect();
    assert_eq!(keys("all"), rest);
    // From behind a key, and only some fields of some records.
    let args = ["--after", "400", "--filter", "ListPrice le 402"];
    let select = ["--select", "ListPrice", "--exec", "cat >> few"];
    ended(each(&args).args(select), 0);
    let few = std::fs::read_to_string(folder.join("few")).unwrap();
    assert_eq!(few, "{\"ListPrice\":401}\n{\"ListPrice\":402}\n");
    ended(
        &mut each(&["--filter", "ListPrize le 1", "--exec", "cat"]),
        2,
    );
}

#[test]
fn mistakes_are_named() {
    let folder = watched(1);
    let folder = folder.path();
    let (_, err) = ended(&mut relist(folder, &["watch"]), 2);
    assert!(err.contains("no rule"), "{err}");
    let (_, err) = ended(&mut relist(folder, &["watch", "--rule", "sold"]), 2);
    assert!(err.contains("price-drop:5"), "{err}");
    let (_, err) = ended(&mut watch(folder, &["--since", "99"]), 2);
    assert!(err.contains("99"), "{err}");
    let (_, err) = ended(&mut watch(folder, &["--name", "../x"]), 2);
    assert!(err.contains("letters"), "{err}");
    // The store of yesterday, with the position of today.
    std::fs::copy(folder.join("relist.redb"), folder.join("old.redb")).unwrap();
    prices(folder, std::iter::once((1, 900)));
    ended(&mut watch(folder, &["--to", "events"]), 0);
    let held = Store::open(folder.join("relist.redb")).unwrap();
    one_more(&held);
    ended(&mut watch(folder, &["--to", "events"]), 0);
    drop(held);
    std::fs::rename(folder.join("old.redb"), folder.join("relist.redb")).unwrap();
    let (_, err) = ended(&mut watch(folder, &[]), 1);
    assert!(err.contains("older copy"), "{err}");
    ended(&mut watch(folder, &["--since", "1"]), 0);
}

/// One more change, by a writer that goes on.
fn one_more(store: &Store) {
    let text = r#"{"value":[{"ListingKeyNumeric":1,"ListPrice":1}]}"#;
    let mut txn = store.begin_write(relist::value::Timestamp(0)).unwrap();
    txn.apply_page("Property", "one", text.as_bytes()).unwrap();
    txn.commit().unwrap();
}
