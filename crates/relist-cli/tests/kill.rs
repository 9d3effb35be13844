//! Everything that writes, killed at random moments: nothing lost, nothing logged twice.
//!
//! First fills, incremental runs, full walks, reconciles, deep runs and the fetching of media, in
//! rounds that each begin with an empty store. `RELIST_KILLS` sets how many kills there are (50);
//! the moments come from a seed that is printed, and set by `RELIST_SEED`.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever is wrong")]
#![expect(clippy::indexing_slicing, reason = "a test stops at whatever is wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relist::store::{AsOf, MediaState, Operation, Store, SyncState};
use relist_sim::{Access, Backend as _, Market, Options, Photos, Server, Size, truth};

const RESOURCES: [&str; 4] = ["Property", "Member", "Office", "OpenHouse"];
const PROFILE: &str = include_str!("../../relist-feed/profiles/wfrmls.toml");
/// Kills in a round.
const ROUND: u64 = 60;
/// Of these, how many at the first fill.
const FILL: u64 = 15;

/// A market, its feed and its photos, and a folder with a mirror of it.
struct World {
    market: Arc<Mutex<Market>>,
    photos: Photos,
    server: Server,
    folder: tempfile::TempDir,
}

impl World {
    fn new(seed: u64) -> Self {
        let market = Arc::new(Mutex::new(Market::new(seed, Size::listings(500))));
        let photos = Photos::start().unwrap();
        photos.delay(Duration::from_millis(2));
        let urls = photos.alter();
        // A feed of some latency, so that moments fall between pages as well as into commits.
        let slow = Options {
            gzip: false,
            alter: Some(Box::new(move |request, response| {
                let mut response = urls(request, response);
                response.delay = Some(Duration::from_millis(4));
                response
            })),
            ..Options::default()
        };
        let server = Server::start(Arc::clone(&market), slow).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let profile = PROFILE.replace("page_size = 200", "page_size = 25");
        std::fs::write(folder.path().join("my.toml"), profile).unwrap();
        let config = format!(
            "profile = \"my.toml\"\nurl = \"{}\"\nstore = \"relist.redb\"\n\
             [media]\nallow_loopback = true\n",
            server.base_url()
        );
        std::fs::write(folder.path().join("relist.toml"), config).unwrap();
        let world = World {
            market,
            photos,
            server,
            folder,
        };
        world.done(&["init"]);
        world
    }

    fn relist(&self, args: &[&str]) -> Command {
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

    fn done(&self, args: &[&str]) {
        let output = self.relist(args).output().unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(0), "{args:?}\n{text}");
    }

    /// Runs a command for a part of the time that it takes; whether it was still running then.
    fn kill(&self, args: &[&str], longest: &mut Duration, part: f64) -> bool {
        let begun = Instant::now();
        let mut child = self.relist(args).spawn().unwrap();
        std::thread::sleep(longest.mul_f64(part));
        let killed = child.try_wait().unwrap().is_none();
        if killed {
            child.kill().unwrap();
            *longest = longest.mul_f64(1.04);
        } else {
            *longest = begun.elapsed().min(*longest);
        }
        child.wait().unwrap();
        killed
    }

    fn store(&self) -> Store {
        Store::open_read_only(self.folder.path().join("relist.redb")).unwrap()
    }

    /// What holds after every kill.
    fn check(&self) {
        self.done(&["verify"]);
        let (root, store) = (self.folder.path().join("media"), self.store());
        let snapshot = store.snapshot().unwrap();
        snapshot
            .media(|entry| {
                if entry.state == MediaState::Have {
                    let path = relist::media::file_path(&root, entry.held.as_ref().unwrap());
                    assert!(path.exists(), "{} is not there", path.display());
                }
                Ok(true)
            })
            .unwrap();
        for folder in std::fs::read_dir(&root).into_iter().flatten() {
            let folder = folder.unwrap().path();
            for file in std::fs::read_dir(&folder).into_iter().flatten() {
                let path = file.unwrap().path();
                let hash = xxhash_rust::xxh3::xxh3_128(&std::fs::read(&path).unwrap());
                let own = path.file_stem().unwrap().to_string_lossy().into_owned();
                let name = folder.file_name().unwrap().to_string_lossy().into_owned() + &own;
                assert_eq!(
                    name,
                    format!("{hash:032x}"),
                    "{} is not whole",
                    path.display()
                );
            }
        }
    }

    fn is_live(&self) -> bool {
        let snapshot = self.store().snapshot().unwrap();
        let live = |name| snapshot.checkpoint(name).unwrap().state == SyncState::Live;
        RESOURCES.into_iter().all(live)
    }

    /// Ends the round: healthy runs, and the comparison.
    fn finish(&self) {
        self.photos.delay(Duration::ZERO);
        let sync = [&["sync"], &RESOURCES[..]].concat();
        self.done(&sync);
        self.done(&[&sync[..], &["--reconcile"]].concat());
        self.done(&["media", "sync"]);
        self.check();
        let market = self.market.lock().unwrap();
        compare(self.folder.path(), &market);
        let mut have = BTreeSet::new();
        self.store()
            .snapshot()
            .unwrap()
            .media(|entry| {
                if entry.state == MediaState::Have {
                    have.insert(format!("{:?}", entry.item.media_key));
                }
                Ok(true)
            })
            .unwrap();
        let media: BTreeSet<String> = served(&market, "Media").into_keys().collect();
        assert_eq!(have, media);
    }
}

/// What is killed, in turn; the first of them is also the first fill.
const KINDS: [(&str, &[&str], bool); 6] = [
    ("incremental", &[], true),
    ("media", &["media", "sync"], false),
    ("reconcile", &["--reconcile"], true),
    ("media", &["media", "sync"], false),
    ("full", &["--full"], true),
    ("deep", &["--deep", "2/3"], true),
];

#[test]
fn whatever_is_killed_at_random_moments_loses_nothing_and_logs_nothing_twice() {
    let kills: u64 = std::env::var("RELIST_KILLS").map_or(50, |text| text.parse().unwrap());
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let seed = std::env::var("RELIST_SEED").map_or(seed, |text| text.parse().unwrap());
    println!("RELIST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut left, mut rounds) = (kills, 0);
    let mut killed: BTreeMap<&str, u64> = BTreeMap::new();
    let mut ended = 0;
    while left > 0 {
        let world = World::new(seed + rounds);
        let (round, mut done) = (left.min(ROUND), 0);
        let mut longest = [Duration::from_millis(250); KINDS.len()];
        let (mut turn, mut tries) = (0, 0);
        while done < round {
            tries += 1;
            assert!(tries < round * 5, "the moments are badly chosen");
            let filling = done < round * FILL / ROUND && !world.is_live();
            let at = if filling { 0 } else { turn % KINDS.len() };
            turn += usize::from(!filling);
            let (name, args, is_sync) = KINDS[at];
            let args = if is_sync {
                [&["sync"], &RESOURCES[..], args].concat()
            } else {
                args.to_vec()
            };
            // A first fill is cut early, so that it takes many.
            let part = rng.f64() * if filling { 0.6 } else { 1.0 };
            if world.kill(&args, &mut longest[at], part) {
                *killed
                    .entry(if filling { "fill" } else { name })
                    .or_default() += 1;
                done += 1;
            } else {
                ended += 1;
            }
            world.check();
            world.market.lock().unwrap().advance(3_600 * rng.u32(0..6));
        }
        world.finish();
        (left, rounds) = (left - round, rounds + 1);
    }
    println!("{kills} killed in {rounds} rounds, {ended} ended before: {killed:?}");
    assert_eq!(killed.values().sum::<u64>(), kills);
}

/// The mirror is the market, and its log explains every step from the first state to the last.
fn compare(folder: &Path, market: &Market) {
    let store = Store::open_read_only(folder.join("relist.redb")).unwrap();
    let snapshot = store.snapshot().unwrap();
    for resource in RESOURCES {
        let mut ours = BTreeMap::new();
        snapshot
            .scan(
                resource,
                AsOf::Sequence(snapshot.sequence()),
                |key, record| {
                    let json: serde_json::Value =
                        serde_json::from_str(&record.to_json(None)).unwrap();
                    ours.insert(key.to_string(), json);
                    Ok(true)
                },
            )
            .unwrap();
        let theirs = served(market, resource);
        let keys = |map: &BTreeMap<String, serde_json::Value>| -> BTreeSet<String> {
            map.keys().cloned().collect()
        };
        assert_eq!(keys(&ours), keys(&theirs), "{resource}");
        for (key, row) in &theirs {
            let mine = ours.get(key).unwrap().as_object().unwrap();
            for (field, value) in row.as_object().unwrap() {
                assert_eq!(mine.get(field), Some(value), "{resource} {key} {field}");
            }
        }
    }
    // A change logged twice would say the same field went from one value to the next again.
    let mut last: BTreeMap<(String, String, String), String> = BTreeMap::new();
    let mut inserted = BTreeSet::new();
    for change in snapshot.changes(0).unwrap() {
        let change = change.unwrap();
        let key = change.key.map(|k| k.to_string()).unwrap_or_default();
        let row = (change.resource.clone(), key.clone());
        match change.operation {
            Operation::Insert => assert!(inserted.insert(row), "{key} inserted twice"),
            Operation::Update => assert!(!change.fields.is_empty(), "{key}: an empty update"),
            // What comes back starts anew: a relisting is logged without its fields.
            Operation::Delete | Operation::Relist => {
                last.retain(|(resource, own, _), _| (resource, own) != (&row.0, &row.1));
            }
            Operation::Schema | Operation::Purge => {}
        }
        for field in &change.fields {
            let new = field
                .new_value()
                .map_or_else(String::new, relist::record::Cell::to_json);
            let before = field
                .previous()
                .map_or_else(String::new, relist::record::Cell::to_json);
            let at = (change.resource.clone(), key.clone(), field.name.clone());
            if let Some(held) = last.insert(at, new) {
                assert_eq!(held, before, "{key} {} does not follow", field.name);
            }
        }
    }
    assert!(truth::net(market.truth_since(0)).field_changes() > 0);
}

fn served(market: &Market, resource: &str) -> BTreeMap<String, serde_json::Value> {
    let at = market
        .schema()
        .resources
        .iter()
        .position(|r| r.name == resource)
        .unwrap();
    let key_field = market.schema().resources[at].key_field.clone();
    let mut rows = Vec::new();
    market.scan(at, &Access::All, &mut |row| {
        rows.push(row);
        true
    });
    rows.into_iter()
        .map(|row| {
            let mut out = b"{".to_vec();
            market.write_row(at, row, None, &mut out);
            out.push(b'}');
            let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
            (json[&key_field].to_string(), json)
        })
        .collect()
}
