//! `relist backup`, `restore`, `prune` and `purge` by the binary: killed, on a full disk, with a
//! feed that takes listings back; and that a token is in nothing that any command leaves.
//!
//! `RELIST_RETENTION_KILLS` sets how many kills there are (16), `RELIST_DISKS` on how many sizes of
//! a disk each command is tried (4). The moments come from a seed that is printed, and set by
//! `RELIST_SEED`.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at whatever is wrong")]
#![expect(clippy::indexing_slicing, reason = "a test stops at whatever is wrong")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relist::keycode::Key;
use relist::store::Store;
use relist_sim::{Event, Market, Options, Photos, Server, Size};
use serde_json::Value;

const STORE: &str = "relist.redb";
const ROWS: u32 = 1_300;
const CANARIES: [&str; 3] = ["canary-one-7", "canary-two-7", "canary-three-7"];

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

fn told(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

fn run(folder: &Path, args: &[&str], code: i32) -> String {
    let output = relist(folder, args).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{args:?}\n{}",
        told(&output)
    );
    told(&output)
}

/// How often a text stands in the bytes of the files of a folder.
fn hits(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(hits(&path, text));
        } else if fs::read(&path)
            .unwrap()
            .windows(text.len())
            .any(|w| w == text.as_bytes())
        {
            found.push(path);
        }
    }
    found
}

/// Three versions of some listings; the seventh carries a canary in each. Enough of them, so that
/// bodies are compressed with a dictionary.
fn filled(folder: &Path) {
    for (version, canary) in CANARIES.iter().enumerate() {
        let mut rows = String::new();
        for key in 1..=ROWS {
            let mark = if key == 7 { canary } else { "a quiet street" };
            let _ = write!(
                rows,
                r#"{{"ListingKeyNumeric":{key},"ListPrice":{},"City":"Orem {}","PublicRemarks":
                "Number {key} in {mark}, near {version}","ListAgentEmail":"{}@example.org"}}"#,
                300_000 + key * 100 + u32::try_from(version).unwrap(),
                key % 17,
                if key == 7 { canary } else { "agent" },
            );
            rows.push('\n');
        }
        fs::write(folder.join("rows.ndjson"), rows).unwrap();
        run(folder, &["ingest", "Property", "rows.ndjson"], 0);
    }
    fs::remove_file(folder.join("rows.ndjson")).unwrap();
}

/// The records of a store that is whole.
fn records(path: &Path) -> Vec<(Key, String)> {
    let store = Store::open(path).unwrap();
    let snapshot = store.snapshot().unwrap();
    let report = snapshot.verify().unwrap();
    assert!(
        report.is_clean(),
        "{}: {:?}",
        path.display(),
        report.problems
    );
    let now = relist::store::AsOf::Sequence(snapshot.sequence());
    let mut out = Vec::new();
    snapshot
        .scan("Property", now, |key, record| {
            out.push((key.clone(), record.to_json(None)));
            Ok(true)
        })
        .unwrap();
    out
}

/// What is tried, and killed.
const COMMANDS: [&[&str]; 4] = [
    &["backup", "copy.redb", "--force"],
    &["purge", "--key", "7"],
    &["prune", "--keep", "0s"],
    &["restore", "good.redb", "--force"],
];

/// What must hold whatever came of a command; then it is run again, to its end.
fn whole(folder: &Path, args: &[&str], before: &[(Key, String)]) {
    let now = records(&folder.join(STORE));
    let without: Vec<_> = before
        .iter()
        .filter(|(key, _)| *key != Key::Int(7))
        .cloned()
        .collect();
    assert!(
        now == before || (args[0] == "purge" && now == without),
        "{args:?}"
    );
    if args[0] == "backup" {
        assert!(records(&folder.join("copy.redb")) == before);
    }
    run(folder, args, 0);
    if args[0] == "purge" {
        // A purge that was cut after its commit has still to clean the file.
        run(folder, &["purge"], 0);
        for canary in CANARIES {
            let left = hits(folder, canary);
            let stays = ["copy.redb", "good.redb"];
            assert!(
                left.iter().all(|p| stays.iter().any(|s| p.ends_with(s))),
                "{left:?}"
            );
        }
    }
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["copy.redb", "good.redb", STORE],
        "something is left behind"
    );
}

/// A store, a backup of it under two names, and its records.
fn prepared() -> (tempfile::TempDir, Vec<(Key, String)>) {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    run(folder.path(), &["backup", "good.redb"], 0);
    fs::copy(
        folder.path().join("good.redb"),
        folder.path().join("copy.redb"),
    )
    .unwrap();
    let before = records(&folder.path().join(STORE));
    assert_eq!(before.len(), ROWS as usize);
    (folder, before)
}

#[test]
fn killed_at_random_moments_all_is_old_or_new_and_goes_on() {
    let kills: usize =
        std::env::var("RELIST_RETENTION_KILLS").map_or(16, |text| text.parse().unwrap());
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let seed = std::env::var("RELIST_SEED").map_or(seed.as_secs(), |text| text.parse().unwrap());
    println!("RELIST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let (folder, before) = prepared();
    let folder = folder.path();
    let mut longest = [Duration::from_millis(400); COMMANDS.len()];
    let (mut killed, mut tries) = (0, 0);
    while killed < kills {
        let at = tries % COMMANDS.len();
        tries += 1;
        assert!(tries < kills * 8 + 40, "the moments are badly chosen");
        fs::copy(folder.join("good.redb"), folder.join(STORE)).unwrap();
        let begun = Instant::now();
        let mut child = relist(folder, COMMANDS[at]).spawn().unwrap();
        std::thread::sleep(longest[at].mul_f64(rng.f64()));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed += 1;
            longest[at] = longest[at].mul_f64(1.04);
        } else {
            longest[at] = begun.elapsed().min(longest[at]);
        }
        child.wait().unwrap();
        whole(folder, COMMANDS[at], &before);
    }
    println!("{killed} killed of {tries}");
}

#[test]
fn on_a_full_disk_nothing_is_lost_and_a_target_stays() {
    let sizes: u64 = std::env::var("RELIST_DISKS").map_or(4, |text| text.parse().unwrap());
    let (folder, before) = prepared();
    let folder = folder.path();
    let full = fs::metadata(folder.join("good.redb")).unwrap().len() / 1_024;
    let mut failed = 0;
    for args in COMMANDS {
        for step in 0..sizes {
            fs::copy(folder.join("good.redb"), folder.join(STORE)).unwrap();
            // As a full disk does it: a write past the end fails.
            let limit = full * (step * 12 / sizes + 1) / 8;
            let output = Command::new("bash")
                .args([
                    "-c",
                    "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"",
                    "bash",
                ])
                .arg(limit.to_string())
                .arg(env!("CARGO_BIN_EXE_relist"))
                .args(args)
                .current_dir(folder)
                .env_remove("RELIST_STORE")
                .output()
                .unwrap();
            let text = told(&output);
            if output.status.code() != Some(0) {
                failed += 1;
                assert_eq!(
                    output.status.code(),
                    Some(1),
                    "{args:?} {limit} KiB\n{text}"
                );
                assert!(
                    text.contains("File too large") && text.contains("hint:"),
                    "{text}"
                );
            }
            whole(folder, args, &before);
        }
    }
    println!("{failed} of {} failed", sizes * COMMANDS.len() as u64);
    assert!(failed >= sizes, "{failed}");
}

#[test]
fn a_certificate_says_what_was_removed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    filled(folder);
    assert!(!hits(folder, CANARIES[0]).is_empty());
    let refused = run(folder, &["purge", "--resource", "Property"], 2);
    assert!(refused.contains("--confirm"), "{refused}");
    assert!(run(folder, &["purge", "--key", "x"], 2).contains("keys are an integer"));
    let text = run(folder, &["purge", "--key", "7", "-o", "table"], 0);
    assert!(text.contains("records                1"), "{text}");
    assert!(text.contains("versions               3"), "{text}");
    assert!(
        text.contains("nothing of it is left in the store"),
        "{text}"
    );
    assert!(!text.contains("canary"), "{text}");
    for canary in CANARIES {
        assert!(hits(folder, canary).is_empty(), "{canary}");
    }
    let first =
        |text: String| -> Value { serde_json::from_str(text.lines().next().unwrap()).unwrap() };
    let row = first(run(folder, &["purge", "--key", "7"], 0));
    assert_eq!(
        (&row["Records"], &row["Complete"]),
        (&0.into(), &true.into()),
        "{row}"
    );
    let row = first(run(folder, &["prune", "--keep", "0s"], 0));
    assert!(row["Versions"].as_u64().unwrap() > 1_000, "{row}");
    let pruned = run(folder, &["changes", "--since", "3"], 1);
    assert!(
        pruned.contains("pruned") && pruned.contains("hint: read from"),
        "{pruned}"
    );
    let pruned = run(folder, &["get", "Property", "8", "--as-of", "3"], 1);
    assert!(pruned.contains("pruned"), "{pruned}");
    let row = first(run(folder, &["backup", "b.redb"], 0));
    assert_eq!(
        (&row["Records"], &row["Clean"]),
        (&(ROWS - 1).into(), &true.into()),
        "{row}"
    );
    assert!(run(folder, &["backup", "b.redb"], 1).contains("--force"));
    assert!(run(folder, &["restore", "b.redb"], 1).contains("--force"));
    run(folder, &["restore", "b.redb", "--force"], 0);
    let row = first(run(folder, &["purge", "--all", "--confirm"], 0));
    assert_eq!(row["Records"], ROWS - 1, "{row}");
    run(folder, &["verify"], 0);
    run(folder, &["status"], 0);
}

const PROFILE: &str = include_str!("../../relist-feed/profiles/wfrmls.toml");

/// A feed, its photos, and a folder with a mirror of it.
struct World {
    market: Arc<Mutex<Market>>,
    server: Server,
    _photos: Photos,
    folder: tempfile::TempDir,
}

impl World {
    fn new(more: &str) -> Self {
        let market = Arc::new(Mutex::new(Market::new(5, Size::listings(60))));
        let photos = Photos::start().unwrap();
        let options = Options {
            gzip: false,
            alter: Some(photos.alter()),
            ..Options::default()
        };
        let server = Server::start(Arc::clone(&market), options).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let with = "[resources.Property]\nexpand = \"Media\"";
        let profile = PROFILE.replace("[resources.Property]", with);
        fs::write(folder.path().join("my.toml"), profile).unwrap();
        let config = format!(
            "profile = \"my.toml\"\nurl = \"{}\"\nstore = \"{STORE}\"\n{more}\n\
             [media]\nallow_loopback = true\n",
            server.base_url()
        );
        fs::write(folder.path().join("relist.toml"), config).unwrap();
        World {
            market,
            server,
            _photos: photos,
            folder,
        }
    }

    fn run(&self, args: &[&str], code: i32) -> String {
        let mut command = relist(self.folder.path(), args);
        let output = command
            .env("RELIST_TOKEN", self.server.token())
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}\n{}",
            told(&output)
        );
        told(&output)
    }

    fn files(&self) -> usize {
        let folders = fs::read_dir(self.folder.path().join("media")).unwrap();
        let folders = folders.map(|f| f.unwrap().path()).filter(|p| p.is_dir());
        folders.map(|f| fs::read_dir(f).unwrap().count()).sum()
    }

    /// Some listings vanish from the market.
    fn delete(&self, from: u32, count: usize) -> Vec<u32> {
        let mut market = self.market.lock().unwrap();
        let keys = from..from + 1_000;
        let gone: Vec<u32> = keys
            .filter(|key| market.play(*key, Event::Delete))
            .take(count)
            .collect();
        market.advance(3_600);
        assert_eq!(gone.len(), count);
        gone
    }
}

/// A text of a record that no other one has.
fn remarks(world: &World, key: u32) -> String {
    let text = world.run(&["get", "Property", &key.to_string(), "-o", "json"], 0);
    let json: Value = serde_json::from_str(&text).unwrap();
    let record = json.as_array().map_or(&json, |list| &list[0]);
    record["PublicRemarks"]
        .as_str()
        .unwrap_or_else(|| panic!("{text}"))
        .to_owned()
}

#[test]
fn what_the_feed_takes_back_is_purged_with_its_photos() {
    let world = World::new("on_revoke = \"purge\"");
    world.run(&["init"], 0);
    world.run(&["sync"], 0);
    world.run(&["media", "sync"], 0);
    let files = world.files();
    let said: Vec<(u32, String)> = (1_000_000..1_000_060)
        .filter(|key| {
            let key = key.to_string();
            let mut get = relist(world.folder.path(), &["get", "Property", &key]);
            get.output().unwrap().status.success()
        })
        .map(|key| (key, remarks(&world, key)))
        .collect();
    let gone = world.delete(said[0].0, 3);
    let text = world.run(&["sync"], 0);
    assert!(
        text.contains("purged 3 records that the feed took back"),
        "{text}"
    );
    assert!(world.files() < files, "{files}");
    let root = world.folder.path();
    for key in &gone {
        let text = &said.iter().find(|(own, _)| own == key).unwrap().1;
        assert_eq!(hits(root, text), [] as [PathBuf; 0], "{key}");
        assert!(
            world
                .run(&["history", "Property", &key.to_string()], 1)
                .contains("no ")
        );
    }
    world.run(&["verify"], 0);
    // Again there is nothing to purge; and the photos that are left are known.
    assert!(!world.run(&["sync"], 0).contains("purged"));
    world.run(&["media", "sync"], 0);
    // A watcher that has not told of a deletion yet is waited for.
    world.run(&["watch", "--rule", "delete"], 0);
    let gone = world.delete(gone[2] + 1, 2);
    assert!(!world.run(&["sync"], 0).contains("purged"));
    let events = world.run(&["watch", "--rule", "delete"], 0);
    for key in &gone {
        assert!(events.contains(&key.to_string()), "{events}");
    }
    assert!(world.run(&["sync"], 0).contains("purged 2 records"));
    world.run(&["verify"], 0);
}

/// Every command is run with a token, and some fail with it; it stands in nothing that is printed
/// and in no file.
#[test]
fn the_token_is_in_nothing_that_any_command_leaves() {
    let world = World::new("");
    let token = world.server.token().to_owned();
    let hex: String = token.bytes().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "%{byte:02X}");
        out
    });
    let spelled = [token.clone(), hex.clone(), hex.to_lowercase()];
    let root = world.folder.path();
    let run = |args: &[&str], with: &str| {
        let mut command = relist(root, args);
        let output = command.env("RELIST_TOKEN", with).output().unwrap();
        let text = told(&output);
        for word in &spelled {
            assert!(!text.contains(word.as_str()), "{args:?}\n{text}");
        }
        output.status.code().unwrap()
    };
    for args in [
        &["init", "-v"][..],
        &["doctor"],
        &["sync", "-v"],
        &["sync", "--reconcile", "-v"],
        &["sync", "--full", "-v"],
        &["sync", "--deep", "1/2"],
        &["media", "sync", "-v"],
        &["media", "status"],
        &["status", "--prometheus"],
        &["report"],
        &["report", "1"],
        &["query", "Property", "--top", "3", "--explain", "-v"],
        &["changes"],
        &["watch", "--rule", "insert", "--to", "events.ndjson"],
        &["export", "Property", "--to", "all.ndjson"],
        &["export", "Property", "--to", "all.csv"],
        &["schedule", "list"],
        &["quarantine", "list"],
        &["backup", "copy.redb"],
        &["purge", "--all", "--confirm"],
        &["verify", "-v"],
    ] {
        run(args, &token);
    }
    // A token that the server refuses; a token where none belongs; a server that is not there.
    let wrong = format!("{token}x");
    assert_ne!(run(&["sync"], &wrong), 0);
    let query = format!("$filter=City eq '{}'", "x");
    run(&["query", "Property", &query], &token);
    let text = fs::read_to_string(root.join("relist.toml")).unwrap();
    let dead = text.replace(&world.server.base_url(), "http://127.0.0.1:1/reso");
    fs::write(root.join("relist.toml"), dead).unwrap();
    assert_ne!(run(&["sync"], &token), 0);
    for word in &spelled {
        assert_eq!(hits(root, word), [] as [PathBuf; 0]);
    }
}
