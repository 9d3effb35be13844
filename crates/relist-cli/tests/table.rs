//! The table of what a mirror needs, a row a test: the binary against a simulated feed.
//!
//! | row | test |
//! |---|---|
//! | Provider profiles | [`provider_profiles`] |
//! | Full sync | [`full_sync`] |
//! | Incremental sync | [`incremental_sync`] |
//! | Deletions | [`deletions`]; local media: `media.rs`, `media_come_from_the_set_..` |
//! | Reconcile | [`reconcile`] |
//! | Field-level change tracking | [`field_level_change_tracking`] |
//! | Status and price monitoring | [`status_and_price_monitoring`]; each sink: `watch.rs` |
//! | Batch processing | [`batch_processing`]; batches that fail: `watch.rs` |
//! | Per-listing refresh | [`per_listing_refresh`] |
//! | Media | `media.rs` |
//! | Related resources | [`related_resources`] |
//! | Retry and quota | [`retry_and_quota`] |
//! | Schedule | `schedule.rs`, `it_syncs_again_and_again_through_an_outage_..` |
//! | Checkpoints and recovery | [`checkpoints_and_recovery`]; killed at random: `kill.rs` |
//! | Performance monitoring | [`performance_monitoring`] |
//! | query and status beside a sync | [`query_and_status_work_while_a_sync_runs`] |

#![expect(clippy::unwrap_used, reason = "a test stops at whatever is wrong")]
#![expect(clippy::indexing_slicing, reason = "a test stops at whatever is wrong")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relist_sim::{Conduct, Event, Market, Options, Response, Server, Size, Status};
use serde_json::Value;

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A market, its feed, and a folder with a mirror.
struct World {
    market: Arc<Mutex<Market>>,
    server: Server,
    folder: tempfile::TempDir,
}

impl World {
    fn new(listings: u32) -> Self {
        World::with(listings, Options::default())
    }

    fn with(listings: u32, options: Options) -> Self {
        // Nothing happens by itself but what time brings, and little time passes.
        let conduct = Conduct {
            deletions: 0,
            photo_changes: 0,
            restamp_every: 0,
            ..Conduct::default()
        };
        let market = Market::with_conduct(11, Size::listings(listings), conduct);
        let market = Arc::new(Mutex::new(market));
        let server = Server::start(Arc::clone(&market), options).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let world = World {
            market,
            server,
            folder,
        };
        world.run(&["init", "--url", &world.server.base_url()], 0);
        world
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relist"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("RELIST_TOKEN", self.server.token())
            .env_remove("RELIST_STORE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end, which must be that one: its output and its messages.
    fn run(&self, args: &[&str], code: i32) -> (String, String) {
        let output = self.command(args).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}{err}");
        assert!(!err.contains(self.server.token()), "the token was shown");
        (out, err)
    }

    /// The rows that a command prints.
    fn rows(&self, args: &[&str]) -> Vec<Value> {
        rows(&self.run(args, 0).0)
    }

    /// The one row of a command that prints one.
    fn row(&self, args: &[&str], code: i32) -> Value {
        let (out, _) = self.run(args, code);
        let mut rows = rows(&out);
        assert_eq!(rows.len(), 1, "{args:?} {out}");
        rows.remove(0)
    }

    /// Replaces a piece of `relist.toml`.
    fn configure(&self, from: &str, to: &str) {
        let file = self.folder.path().join("relist.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(file, text.replace(from, to)).unwrap();
    }

    fn active(&self) -> Vec<u32> {
        self.market
            .lock()
            .unwrap()
            .keys_of(Status::Active)
            .collect()
    }

    fn play(&self, key: u32, event: Event) {
        let mut market = self.market.lock().unwrap();
        market.advance(1);
        assert!(market.play(key, event), "{event:?} of {key}");
    }

    /// How the store stands with a resource.
    fn status(&self, resource: &str) -> Value {
        let (out, _) = self.run(&["status", "-o", "json"], 0);
        let status: Value = serde_json::from_str(&out).unwrap();
        let resources = status["Resources"].as_array().unwrap();
        let found = resources.iter().find(|r| r["ResourceName"] == resource);
        found.cloned().unwrap_or_default()
    }

    /// The mirror holds what the feed serves, field by field.
    fn compare(&self) {
        let mirrored = self.rows(&["query", "Property", "-o", "ndjson"]);
        let mirrored: BTreeMap<u64, Value> = mirrored
            .into_iter()
            .map(|row| (row["ListingKeyNumeric"].as_u64().unwrap(), row))
            .collect();
        let market = self.market.lock().unwrap();
        let keys = || market.keys().filter(|key| market.record(*key).is_some());
        assert_eq!(mirrored.len(), keys().count());
        for key in keys() {
            let served: Value = serde_json::from_str(&market.record(key).unwrap()).unwrap();
            let row = &mirrored[&u64::from(key)];
            for (name, value) in served.as_object().unwrap() {
                if !name.starts_with('@') {
                    assert_eq!(&row[name], value, "{key} {name}");
                }
            }
        }
    }
}

fn rows(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

/// Ended with the test, whatever becomes of it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Waits for its end: its exit code.
    fn ends(&mut self) -> Option<i32> {
        let begun = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.0.wait().unwrap().code()
    }
}

#[test]
fn provider_profiles() {
    let world = World::new(300);
    // A built-in one, tried against the server.
    let checks = world.rows(&["doctor", "-o", "ndjson"]);
    assert!(checks.len() > 5);
    assert!(
        checks.iter().all(|check| check["Verdict"] == "ok"),
        "{checks:?}"
    );
    // One of one's own: the doctor says what differs, and what to write.
    let (profile, _) = world.run(&["doctor", "--print-profile", "wfrmls"], 0);
    let path = world.folder.path().join("my.toml");
    let wrong = profile.replace("key = \"ListingKeyNumeric\"", "key = \"ListingKey\"");
    std::fs::write(
        &path,
        wrong.replace("ModificationTimestamp\"", "Modified\""),
    )
    .unwrap();
    world.configure("provider = \"wfrmls\"", "profile = \"my.toml\"");
    let (out, err) = world.run(&["doctor", "-o", "ndjson"], 6);
    let differs: Vec<Value> = rows(&out)
        .into_iter()
        .filter(|check| check["Verdict"] == "differs")
        .collect();
    let of = |name: &str| differs.iter().find(|check| check["Check"] == name);
    assert!(
        of("cursor field").is_some() && of("$orderby").is_some(),
        "{out}"
    );
    assert!(
        differs.iter().all(|check| check["Advice"].is_string()),
        "{out}"
    );
    assert!(err.contains("hint: "), "{err}");
    // Put right, it syncs.
    std::fs::write(&path, profile).unwrap();
    world.run(&["sync", "Property"], 0);
    world.compare();
    // A name that does not exist is an error that shows the line's number and not its text.
    std::fs::write(&path, "name = \"x\"\nwalk = \"s3cret-canary\"\n").unwrap();
    let (_, err) = world.run(&["sync"], 2);
    assert!(err.contains("my.toml") && err.contains("line 2"), "{err}");
    assert!(!err.contains("s3cret-canary"), "{err}");
}

#[test]
fn full_sync() {
    let world = World::new(900);
    world.run(&["sync", "Property", "--max-pages", "2"], 0);
    let part = world.status("Property");
    assert_eq!(
        (&part["State"], &part["Records"]),
        (&"backfilling".into(), &400.into())
    );
    let run = world.row(&["sync", "Property", "--full", "-o", "ndjson"], 0);
    assert_eq!(
        (&run["Kind"], &run["Outcome"]),
        (&"full".into(), &"complete".into())
    );
    // It goes on at the page where it stopped.
    assert_eq!(run["New"], 500);
    assert_eq!(world.status("Property")["State"], "live");
    // What the feed counts stands beside what was met.
    let again = world.row(&["sync", "Property", "--full", "-o", "ndjson"], 0);
    assert_eq!((&again["Records"], &again["New"]), (&900.into(), &0.into()));
    let report = world.row(&["report", "--last", "1", "-o", "ndjson"], 0);
    assert_eq!(
        (&report["Expected"], &report["Outcome"]),
        (&900.into(), &"complete".into())
    );
    world.compare();
    world.run(&["verify"], 0);
}

#[test]
fn incremental_sync() {
    let world = World::new(500);
    // Nothing is there yet: it reads everything.
    let first = world.row(&["sync", "Property", "-o", "ndjson"], 0);
    assert_eq!(
        (&first["Kind"], &first["New"]),
        (&"full".into(), &500.into())
    );
    let keys = world.active();
    world.play(keys[0], Event::CutPrice);
    world.play(keys[1], Event::GoPending);
    world.play(keys[2], Event::EditRemarks);
    let run = world.row(&["sync", "Property", "-o", "ndjson"], 0);
    assert_eq!(run["Kind"], "incremental");
    assert_eq!(
        (&run["New"], &run["Updated"]),
        (&0.into(), &3.into()),
        "{run}"
    );
    assert_eq!(
        (&run["PriceChanges"], &run["StatusChanges"]),
        (&1.into(), &1.into()),
        "{run}"
    );
    // The overlap is read again, and what it holds is no change.
    let again = world.row(&["sync", "Property", "-o", "ndjson"], 0);
    assert_eq!(
        (&again["Updated"], &again["FieldChanges"]),
        (&0.into(), &0.into())
    );
    assert_eq!(again["Records"], again["Unchanged"]);
    world.compare();
}

#[test]
fn deletions() {
    let world = World::new(300);
    world.run(&["sync", "Property"], 0);
    let key = world.active()[0];
    world.play(key, Event::Delete);
    let run = world.row(&["sync", "Property", "-o", "ndjson"], 0);
    assert_eq!(run["Deleted"], 1);
    let text = key.to_string();
    let (_, err) = world.run(&["get", "Property", &text], 1);
    assert!(err.contains("relist history Property"), "{err}");
    let history = world.rows(&["history", "Property", &text, "-o", "ndjson"]);
    let last = history.last().unwrap();
    assert_eq!(
        (&last["Operation"], &last["Cause"]),
        (&"delete".into(), &"deleted-feed".into())
    );
    assert!(last["ModificationTimestamp"].is_string(), "{last}");
    assert_eq!(world.status("Property")["Tombstones"], 1);
    // The key comes back: the tombstone ends, the history goes on.
    world.play(key, Event::Return);
    world.run(&["sync", "Property"], 0);
    world.run(&["get", "Property", &text], 0);
    let history = world.rows(&["history", "Property", &text, "-o", "ndjson"]);
    assert!(
        history.iter().any(|line| line["Operation"] == "relist"),
        "{history:?}"
    );
    assert_eq!(world.status("Property")["Tombstones"], 0);
    world.compare();
    world.run(&["verify"], 0);
}

#[test]
fn reconcile() {
    let world = World::new(900);
    world.run(&["sync", "Property"], 0);
    let keys = world.active();
    for key in &keys[..3] {
        world.play(*key, Event::Vanish);
    }
    world.play(keys[4], Event::CorrectTax);
    // No stamp and no list says so.
    let silent = world.row(&["sync", "Property", "-o", "ndjson"], 0);
    assert_eq!(
        (&silent["Deleted"], &silent["Updated"]),
        (&0.into(), &0.into())
    );
    let run = world.row(&["sync", "Property", "--reconcile", "-o", "ndjson"], 0);
    assert_eq!(
        (&run["Kind"], &run["Deleted"]),
        (&"reconcile".into(), &3.into())
    );
    let gone = world.rows(&["history", "Property", &keys[0].to_string(), "-o", "ndjson"]);
    assert_eq!(gone.last().unwrap()["Cause"], "reconcile");
    // An edit that moved no stamp is found by reading again.
    let deep = world.row(&["sync", "Property", "--deep", "1/1", "-o", "ndjson"], 0);
    assert_eq!(
        (&deep["Kind"], &deep["Updated"]),
        (&"deep".into(), &1.into())
    );
    world.compare();
    // Too many at once look like a fault of the feed.
    for key in &keys[5..65] {
        world.play(*key, Event::Vanish);
    }
    let (out, err) = world.run(&["sync", "Property", "--reconcile", "-o", "ndjson"], 6);
    assert_eq!(rows(&out)[0]["Deleted"], 0, "{out}");
    assert!(err.contains("--confirm"), "{err}");
    let run = world.row(
        &[
            "sync",
            "Property",
            "--reconcile",
            "--confirm",
            "-o",
            "ndjson",
        ],
        0,
    );
    assert_eq!(run["Deleted"], 60);
    world.compare();
}

#[test]
fn field_level_change_tracking() {
    let world = World::new(300);
    world.run(&["sync", "Property"], 0);
    let key = world.active()[0];
    let price = |world: &World| {
        let record = world.row(&["get", "Property", &key.to_string(), "-o", "ndjson"], 0);
        record["ListPrice"].clone()
    };
    let before = price(&world);
    let since = world.rows(&["changes", "-o", "ndjson"]).last().unwrap()["Sequence"].to_string();
    world.play(key, Event::CutPrice);
    world.run(&["sync", "Property"], 0);
    let cut = world.row(
        &[
            "changes",
            "--since",
            &since,
            "--field",
            "ListPrice",
            "-o",
            "ndjson",
        ],
        0,
    );
    assert_eq!(
        (&cut["PreviousValue"], &cut["NewValue"]),
        (&before, &price(&world))
    );
    assert_eq!(cut["ResourceRecordKey"], key.to_string());
    for time in ["ModificationTimestamp", "ObservedTimestamp"] {
        assert!(cut[time].is_string(), "{cut}");
    }
    assert_eq!(cut["Cause"], "sync");
    // A list of fields by name, of one listing; and as it was before.
    world.configure("# [track]\n# price", "[track]\nprice");
    let tracked = world.rows(&["changes", "--listing", &key.to_string(), "--track", "price"]);
    assert!(
        tracked.iter().all(|line| line["FieldName"] == "ListPrice"),
        "{tracked:?}"
    );
    let then = world.row(
        &[
            "get",
            "Property",
            &key.to_string(),
            "--as-of",
            &since,
            "-o",
            "ndjson",
        ],
        0,
    );
    assert_eq!(then["ListPrice"], before);
}

/// Changes are printed as another process commits them, until the reader or the user ends it.
#[cfg(unix)]
#[test]
fn changes_are_followed() {
    let world = World::new(300);
    world.run(&["sync", "Property"], 0);
    let keys = world.active();
    let follow = |args: &[&str]| {
        let args = [
            &["changes", "--follow", "--every", "1s", "-o", "ndjson"],
            args,
        ]
        .concat();
        Running(world.command(&args).spawn().unwrap())
    };
    let mut following = follow(&["--field", "ListPrice"]);
    let mut lines = BufReader::new(following.0.stdout.take().unwrap()).lines();
    // It begins with what is new: it must have begun before there is something.
    std::thread::sleep(Duration::from_secs(2));
    for key in &keys[..2] {
        world.play(*key, Event::CutPrice);
        world.play(keys[5], Event::EditRemarks);
        world.run(&["sync", "Property"], 0);
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(line["FieldName"], "ListPrice");
        assert_eq!(line["ResourceRecordKey"], key.to_string());
    }
    let kill = Command::new("kill")
        .args(["-INT", &following.0.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    assert_eq!(following.ends(), Some(0));
    assert!(lines.next().is_none());
    // From a sequence on: what is there, and no line twice.
    let all = world.run(&["changes", "-o", "ndjson"], 0).0;
    let count = all.lines().count();
    let mut from = follow(&["--since", "0", "--top", &count.to_string()]);
    let mut followed = String::new();
    let mut out = from.0.stdout.take().unwrap();
    out.read_to_string(&mut followed).unwrap();
    assert_eq!(from.ends(), Some(0));
    assert_eq!(followed, all);
    // A reader that goes away ends it, at the next line.
    let mut piped = follow(&["--since", "0"]);
    let mut reader = BufReader::new(piped.0.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    world.play(keys[0], Event::CutPrice);
    world.run(&["sync", "Property"], 0);
    assert_eq!(piped.ends(), Some(0));
    // What has no end is no array.
    world.run(&["changes", "--follow", "-o", "json"], 2);
}

#[test]
fn status_and_price_monitoring() {
    let world = World::new(300);
    world.run(&["sync", "Property"], 0);
    let rules = [
        "watch",
        "--rule",
        "transition:Active->Pending",
        "--rule",
        "transition:Pending->Closed",
        "--rule",
        "transition:Active->Withdrawn",
        "--rule",
        "transition:Active->Expired",
        "--rule",
        "price-drop:0.5",
        "--rule",
        "back-on-market",
        "-o",
        "ndjson",
    ];
    assert_eq!(world.rows(&rules).len(), 0);
    let keys = world.active();
    let played = [
        (0, Event::GoPending),
        (1, Event::Withdraw),
        (2, Event::Expire),
        (3, Event::CutPrice),
        (4, Event::EditRemarks),
        (0, Event::Close),
        (5, Event::GoPending),
        (5, Event::BackOnMarket),
    ];
    for (listing, event) in played {
        world.play(keys[listing], event);
        world.run(&["sync", "Property"], 0);
    }
    let events = world.rows(&rules);
    let of = |listing: usize| -> Vec<String> {
        let key = keys[listing].to_string();
        let own = events.iter().filter(|e| e["ResourceRecordKey"] == *key);
        own.map(|e| e["Rule"].as_str().unwrap().to_owned())
            .collect()
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        of(0),
        words("transition:Active->Pending transition:Pending->Closed")
    );
    assert_eq!(of(1), words("transition:Active->Withdrawn"));
    assert_eq!(of(2), words("transition:Active->Expired"));
    assert_eq!(of(3), words("price-drop:0.5"));
    assert!(of(4).is_empty());
    assert_eq!(of(5), words("transition:Active->Pending back-on-market"));
    // The position is durable: nothing comes twice.
    assert_eq!(world.rows(&rules).len(), 0);
}

#[cfg(unix)]
#[test]
fn batch_processing() {
    let world = World::new(500);
    world.run(&["sync", "Property"], 0);
    let command = "cat > batch-$RELIST_BATCH";
    world.run(
        &[
            "each", "Property", "--batch", "200", "--jobs", "2", "--exec", command,
        ],
        0,
    );
    let mut handed = Vec::new();
    for batch in 1..=3 {
        let file = world.folder.path().join(format!("batch-{batch}"));
        let text = std::fs::read_to_string(file).unwrap();
        handed.extend(
            rows(&text)
                .iter()
                .map(|r| r["ListingKeyNumeric"].as_u64().unwrap()),
        );
    }
    let market = world.market.lock().unwrap();
    let mut keys: Vec<u64> = market.keys().map(u64::from).collect();
    keys.sort_unstable();
    assert_eq!(handed, keys);
}

#[test]
fn per_listing_refresh() {
    let world = World::new(300);
    world.run(&["sync", "Property", "OpenHouse"], 0);
    let keys = world.active();
    // An edit that no stamp tells, one listing that is gone, and an open house.
    world.play(keys[0], Event::CorrectTax);
    world.play(keys[1], Event::Vanish);
    world.play(keys[2], Event::AnnounceOpenHouse);
    let wanted = format!("{},{},{}", keys[0], keys[1], keys[2]);
    let results = world.rows(&["sync", "Property", "--keys", &wanted, "-o", "ndjson"]);
    let of = |at: usize| (&results[at]["ResourceRecordKey"], &results[at]["Outcome"]);
    assert_eq!(of(0), (&keys[0].to_string().into(), &"fetched".into()));
    assert_eq!(of(1), (&keys[1].to_string().into(), &"gone".into()));
    assert_eq!(of(2), (&keys[2].to_string().into(), &"fetched".into()));
    assert!(results[2]["Related"].as_u64() >= Some(1), "{results:?}");
    let filter = format!("ListingKeyNumeric eq {}", keys[2]);
    assert!(
        !world
            .rows(&["query", "OpenHouse", "--filter", &filter])
            .is_empty()
    );
    world.compare();
    world.run(&["sync", "Property", "--keys", "none"], 2);
}

#[test]
fn related_resources() {
    // PropertyUnitTypes answers and stands neither in `$metadata` nor in the service document; it
    // has no timestamp. HistoryTransactional stands in the profile's list and fails.
    let options = Options {
        intercept: Some(Box::new(|request| {
            match request.path().rsplit('/').next() {
                Some("PropertyUnitTypes") => {
                    let rows = if request.target.contains("UnitTypeKey%20gt") {
                        ""
                    } else {
                        r#"{"UnitTypeKey":"u1","ListingKeyNumeric":1,"UnitTypeType":"Studio"},
                       {"UnitTypeKey":"u2","ListingKeyNumeric":1,"UnitTypeType":"Loft"}"#
                    };
                    let page = format!("{{\"value\":[{rows}]}}");
                    Some(Response::new(200, "application/json", page))
                }
                Some("HistoryTransactional") => Some(Response::error(400, "not today")),
                _ => None,
            }
        })),
        ..Options::default()
    };
    let world = World::with(200, options);
    let key = world.active()[0];
    world.play(key, Event::AnnounceOpenHouse);
    let all = [
        "Property",
        "Member",
        "Office",
        "OpenHouse",
        "Media",
        "PropertyUnitTypes",
    ];
    let first = world.rows(&[&["sync"][..], &all, &["-o", "ndjson"]].concat());
    assert_eq!(first.len(), all.len());
    for run in &first {
        assert_eq!(run["Outcome"], "complete", "{run}");
        let (name, records) = (run["ResourceName"].as_str().unwrap(), &run["Records"]);
        assert_eq!(&world.status(name)["Records"], records, "{name}");
        assert!(records.as_u64().unwrap() > 0, "{name}");
    }
    // One without a timestamp is read whole each time, and changes nothing.
    let again = world.row(&["sync", "PropertyUnitTypes", "-o", "ndjson"], 0);
    assert_eq!((&again["Kind"], &again["New"]), (&"full".into(), &0.into()));
    assert_eq!(again["Records"], again["Unchanged"]);
    // One that fails stops no other, and is told.
    let with = [
        "sync",
        "Member",
        "HistoryTransactional",
        "Office",
        "-o",
        "ndjson",
    ];
    let (out, err) = world.run(&with, 3);
    assert_eq!(rows(&out).len(), 2, "{out}");
    assert!(err.contains("HistoryTransactional"), "{err}");
}

/// A feed that answers so to some of its requests.
fn answering(statuses: &'static [(u16, &'static str)]) -> Options {
    let next = AtomicU32::new(0);
    Options {
        intercept: Some(Box::new(move |request| {
            if !request.path().ends_with("/Property") {
                return None;
            }
            let at = next.fetch_add(1, Ordering::SeqCst) as usize;
            let (status, wait) = statuses.get(at)?;
            let response = Response::error(*status, "scripted");
            Some(response.with_header("Retry-After", wait))
        })),
        ..Options::default()
    }
}

#[test]
fn retry_and_quota() {
    let world = World::with(300, answering(&[(503, "1"), (429, "1"), (500, "x")]));
    let begun = Instant::now();
    let run = world.row(&["sync", "Property", "-o", "ndjson"], 0);
    assert_eq!(run["Outcome"], "complete");
    // Twice it was told to wait for a second.
    assert!(begun.elapsed() >= Duration::from_secs(2));
    let report = world.row(&["report", "--last", "1", "-o", "ndjson"], 0);
    assert_eq!(report["Retries"], 3, "{report}");
    assert!(report["WaitedSeconds"].as_f64() >= Some(2.0), "{report}");
    world.compare();
    // A window is spent by one process and known to the next.
    let (profile, _) = world.run(&["doctor", "--print-profile", "wfrmls"], 0);
    let quota = "\n[quota]\nwindows = [{ per = \"day\", requests = 4 }]\n";
    std::fs::write(world.folder.path().join("my.toml"), profile + quota).unwrap();
    world.configure("provider = \"wfrmls\"", "profile = \"my.toml\"");
    let before = world.server.request_count();
    let (_, err) = world.run(&["sync", "Property", "--full"], 3);
    assert!(err.contains("the quota of 4 requests"), "{err}");
    assert_eq!(world.server.request_count() - before, 4);
    world.run(&["sync", "Property", "--full"], 3);
    assert_eq!(world.server.request_count() - before, 4);
}

#[test]
fn checkpoints_and_recovery() {
    let left = Arc::new(AtomicU32::new(2));
    let pages = Arc::clone(&left);
    let options = Options {
        intercept: Some(Box::new(move |request| {
            if !request.path().ends_with("/Property") {
                return None;
            }
            let fewer = |n: u32| n.checked_sub(1);
            let served = pages.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer);
            let refused = || Response::new(401, "text/plain", "no more");
            served.is_err().then(refused)
        })),
        ..Options::default()
    };
    let world = World::with(900, options);
    let (_, err) = world.run(&["sync", "Property"], 3);
    assert!(err.contains("hint: "), "{err}");
    // What was committed stays, with the place where the walk goes on.
    let stopped = world.status("Property");
    assert_eq!(
        (&stopped["State"], &stopped["Records"]),
        (&"backfilling".into(), &400.into())
    );
    assert_eq!(
        (&stopped["WalkPages"], &stopped["WalkRecords"]),
        (&2.into(), &400.into())
    );
    let failed = world.row(&["report", "--last", "1", "-o", "ndjson"], 0);
    assert_eq!(failed["Outcome"], "failed");
    // Once more, and it goes on there; then the feed is back for good.
    left.store(2, Ordering::SeqCst);
    world.run(&["sync", "Property"], 3);
    assert_eq!(world.status("Property")["Records"], 800);
    left.store(1_000, Ordering::SeqCst);
    let rest = world.row(&["sync", "Property", "-o", "ndjson"], 0);
    assert_eq!(
        (&rest["New"], &rest["Outcome"]),
        (&100.into(), &"complete".into())
    );
    world.compare();
    world.run(&["verify"], 0);
}

#[test]
fn performance_monitoring() {
    let world = World::with(300, answering(&[(503, "1")]));
    world.run(&["sync", "Property", "Member"], 0);
    world.play(world.active()[0], Event::CutPrice);
    world.run(&["sync", "Property"], 0);
    let runs = world.rows(&["report", "-o", "ndjson"]);
    let full = runs
        .iter()
        .find(|r| r["ResourceName"] == "Property" && r["Kind"] == "full")
        .unwrap();
    assert_eq!(
        (&full["Records"], &full["Retries"]),
        (&300.into(), &1.into())
    );
    for name in [
        "Seconds",
        "RecordsPerSecond",
        "ReceivedBytes",
        "WaitedSeconds",
        "Requests",
    ] {
        assert!(full[name].as_f64() > Some(0.0), "{name}: {full}");
    }
    if cfg!(target_os = "linux") {
        assert!(full["PeakMemoryBytes"].as_u64() > Some(0), "{full}");
    }
    // A run that fails leaves its report too.
    let run = runs.len() as u64;
    let token = world
        .command(&["sync", "Property"])
        .env("RELIST_TOKEN", "wrong")
        .output();
    assert_eq!(token.unwrap().status.code(), Some(3));
    let summary = world.row(&["report", "--summary", "-o", "ndjson"], 0);
    assert_eq!(
        (&summary["Runs"], &summary["Failed"]),
        (&(run + 1).into(), &1.into())
    );
    let number = full["Run"].to_string();
    let one = world.row(&["report", &number, "-o", "ndjson"], 0);
    assert_eq!(one["Records"], 300, "{one}");
    let (metrics, _) = world.run(&["status", "--prometheus"], 0);
    for name in ["records", "last_run_success", "last_run_duration_seconds"] {
        let line = format!("relist_{name}{{resource=\"Property\"}}");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
}

#[test]
fn query_and_status_work_while_a_sync_runs() {
    let options = Options {
        before_page: Some(Box::new(|_| std::thread::sleep(Duration::from_millis(400)))),
        ..Options::default()
    };
    let world = World::with(3_000, options);
    let mut sync = Running(world.command(&["sync", "Property"]).spawn().unwrap());
    let begun = Instant::now();
    let (mut seen, mut last) = (0, 0);
    while seen < 5 {
        assert!(
            sync.0.try_wait().unwrap().is_none(),
            "the sync must still run"
        );
        assert!(begun.elapsed() < PATIENCE, "nothing to be seen");
        let count = world.status("Property")["Records"].as_u64().unwrap_or(0);
        assert!(count >= last, "{count} after {last}");
        if count > 0 {
            let rows = world.rows(&["query", "Property", "--top", "3", "-o", "ndjson"]);
            assert_eq!(rows.len(), 3);
            seen += 1;
        }
        last = count;
    }
    assert!(last < 3_000, "it was seen at work");
    // Another writer is told that the store is busy.
    let (_, err) = world.run(&["sync", "Property"], 4);
    assert!(err.contains("hint: "), "{err}");
    assert_eq!(sync.ends(), Some(0));
    world.compare();
}
