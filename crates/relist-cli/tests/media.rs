//! `relist media`, end to end: the binary, the simulated feed and its photos.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever is wrong")]
#![expect(clippy::indexing_slicing, reason = "a test stops at whatever is wrong")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relist::store::{MediaEntry, MediaState, Store};
use relist_sim::{
    Access, Alter, Backend as _, Conduct, Event, Market, Options, PhotoFault, Photos, Server, Size,
};
use serde_json::Value;

/// A feed, its photos, and a folder with a mirror.
struct World {
    market: Arc<Mutex<Market>>,
    photos: Photos,
    server: Server,
    folder: tempfile::TempDir,
}

const PROFILE: &str = include_str!("../../relist-feed/profiles/wfrmls.toml");

impl World {
    fn new(listings: u32, expand: bool) -> Self {
        let photos = Photos::start().unwrap();
        let alter = photos.alter();
        World::with(listings, expand, "", photos, alter)
    }

    fn with(listings: u32, expand: bool, media: &str, photos: Photos, alter: Alter) -> Self {
        let mut profile = PROFILE.to_owned();
        if expand {
            let with = "[resources.Property]\nexpand = \"Media\"";
            profile = profile.replace("[resources.Property]", with);
        }
        World::by(listings, &profile, media, photos, alter)
    }

    /// By a profile, changed in its rules of media; listings are synced with their photos or not.
    fn ruled(listings: u32, expand: bool, rules: &str) -> Self {
        assert!(PROFILE.contains("via = \"navigation\""));
        let profile = PROFILE.replace("via = \"navigation\"", rules);
        let with = "[resources.Property]\nexpand = \"Media\"";
        let profile = if expand {
            profile.replace("[resources.Property]", with)
        } else {
            profile
        };
        let photos = Photos::start().unwrap();
        let alter = photos.alter();
        World::by(listings, &profile, "", photos, alter)
    }

    fn by(listings: u32, profile: &str, media: &str, photos: Photos, alter: Alter) -> Self {
        let conduct = Conduct {
            photo_changes: 0,
            ..Conduct::default()
        };
        let market = Market::with_conduct(3, Size::listings(listings), conduct);
        let market = Arc::new(Mutex::new(market));
        let options = Options {
            gzip: false,
            alter: Some(alter),
            ..Options::default()
        };
        let server = Server::start(Arc::clone(&market), options).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("my.toml"), profile).unwrap();
        let text = format!(
            "profile = \"my.toml\"\nurl = \"{}\"\nstore = \"relist.redb\"\n\
             [media]\nallow_loopback = true\n{media}\n",
            server.base_url()
        );
        fs::write(folder.path().join("relist.toml"), text).unwrap();
        let world = World {
            market,
            photos,
            server,
            folder,
        };
        world.run(&["init"], 0);
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

    /// Runs a command to its end, which must be that one; gives its first line of output.
    fn run(&self, args: &[&str], code: i32) -> Value {
        let output = self.command(args).output().unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}{err}");
        assert!(!err.contains("sig="), "a signature was shown: {err}");
        let first = out.lines().next().unwrap_or("null");
        serde_json::from_str(first).unwrap_or(Value::String(out))
    }

    fn media(&self, code: i32) -> Value {
        self.run(&["media", "sync"], code)
    }

    fn entries(&self) -> Vec<MediaEntry> {
        let store = Store::open_read_only(self.folder.path().join("relist.redb")).unwrap();
        let mut out = Vec::new();
        store
            .snapshot()
            .unwrap()
            .media(|entry| {
                out.push(entry);
                Ok(true)
            })
            .unwrap();
        out
    }

    /// What the market says of its photos, by MediaKey.
    fn truth(&self) -> BTreeMap<String, Value> {
        served(&self.market.lock().unwrap(), "Media")
    }

    /// All files below the media folder.
    fn files(&self) -> Vec<PathBuf> {
        let mut out = Vec::new();
        let root = self.folder.path().join("media");
        // A run that was killed early made none.
        let Ok(folders) = fs::read_dir(root) else {
            return out;
        };
        for folder in folders {
            let path = folder.unwrap().path();
            if path.is_dir() {
                out.extend(fs::read_dir(path).unwrap().map(|f| f.unwrap().path()));
            } else {
                out.push(path);
            }
        }
        out
    }

    /// Each file holds what its name says, and each photo of the market has its file.
    fn compare(&self) {
        for path in self.files() {
            let bytes = fs::read(&path).unwrap();
            let name = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&bytes));
            assert!(
                path.ends_with(format!("{}/{}", &name[..2], rest(&name, &path))),
                "{}",
                path.display()
            );
        }
        let entries = self.entries();
        let have: BTreeMap<_, _> = entries
            .iter()
            .filter(|e| e.state == MediaState::Have)
            .map(|e| (e.item.media_key.clone(), e))
            .collect();
        let truth = self.truth();
        assert_eq!(have.len(), truth.len());
        for (key, row) in truth {
            let held = have[&key].held.as_ref().unwrap();
            let file = relist::media::file_path(&self.folder.path().join("media"), held);
            assert!(fs::read(file).unwrap() == self.photos.photo(&key), "{key}");
            assert_eq!(have[&key].item.order, row["Order"].as_i64());
        }
        let mut names: Vec<_> = have
            .values()
            .map(|e| e.held.as_ref().unwrap().content)
            .collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(
            self.files().len(),
            names.len(),
            "files that nothing knows of"
        );
    }

    /// Plays an event on the first listings that take it.
    fn play(&self, event: Event, times: u32) -> Vec<u32> {
        let mut market = self.market.lock().unwrap();
        let keys = served(&market, "Property");
        let mut done = Vec::new();
        for row in keys.values() {
            let key = u32::try_from(row["ListingKeyNumeric"].as_u64().unwrap()).unwrap();
            if done.len() < times as usize && market.play(key, event) {
                done.push(key);
            }
        }
        market.advance(3_600);
        assert_eq!(done.len(), times as usize);
        done
    }
}

fn rest(name: &str, path: &Path) -> String {
    let extension = path.extension().unwrap().to_string_lossy();
    format!("{}.{extension}", &name[2..])
}

fn served(market: &Market, resource: &str) -> BTreeMap<String, Value> {
    let resources = &market.schema().resources;
    let at = resources.iter().position(|r| r.name == resource).unwrap();
    let key_field = resources[at].key_field.clone();
    let mut out = BTreeMap::new();
    market.scan(at, &Access::All, &mut |row| {
        let mut json = b"{".to_vec();
        market.write_row(at, row, None, &mut json);
        json.push(b'}');
        let json: Value = serde_json::from_slice(&json).unwrap();
        let key = &json[&key_field];
        let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
        out.insert(key, json);
        true
    });
    out
}

/// The three ways that media can be known: the Media set, an expanded array, and asking.
#[test]
fn media_come_from_the_set_from_expanded_arrays_and_by_asking() {
    for (resources, expand) in [
        (&["Property", "Media"][..], false),
        (&["Property"][..], true),
        (&["Property"][..], false),
    ] {
        let world = World::new(40, expand);
        let sync = [&["sync"][..], resources].concat();
        world.run(&sync, 0);
        let done = world.media(0);
        let count = world.truth().len() as u64;
        assert_eq!(done["Fetched"], count, "{resources:?} {expand}");
        assert_eq!(done["Outcome"], "complete");
        world.compare();
        // Nothing changed: nothing is fetched, whatever the signatures of the URLs are now.
        world.run(&[&sync[..], &["--full"]].concat(), 0);
        let before = world.photos.requests().len();
        assert_eq!(world.media(0)["Fetched"], 0);
        assert_eq!(world.photos.requests().len(), before);
        // Photos change: only those are fetched. It moves PhotosChangeTimestamp alone.
        let changed = world.play(Event::ChangePhotos, 5);
        world.run(&sync, 0);
        let done = world.media(0);
        let asked = world.photos.requests().len() - before;
        assert!((1..=40).contains(&asked), "{asked} requests");
        assert_eq!(done["Failed"], 0);
        for request in &world.photos.requests()[before..] {
            let path = request.path();
            assert!(
                changed.iter().any(|key| path.contains(&key.to_string())),
                "{path} did not change"
            );
            // The client of the files knows no token.
            assert_eq!(request.header("authorization"), None);
        }
        world.compare();
        // A deleted listing takes its files with it.
        world.play(Event::Delete, 3);
        world.run(&sync, 0);
        let done = world.media(0);
        assert!(done["Removed"].as_u64().unwrap() > 0, "{done}");
        world.compare();
        world.run(&["verify"], 0);
    }
}

#[test]
fn an_edited_photo_under_the_same_url_is_fetched_and_the_old_one_removed() {
    let photos = Photos::start().unwrap();
    let base = photos.base_url();
    let alter = photos.alter_by(move |name, _| format!("{base}{name}"));
    let world = World::with(20, true, "", photos, alter);
    world.run(&["sync", "Property"], 0);
    world.media(0);
    let files = world.files().len();
    // The lead photo is swapped with another, or a photo is added or replaced: stamps move.
    world.play(Event::ChangePhotos, 8);
    world.run(&["sync", "Property"], 0);
    let done = world.media(0);
    let (fetched, unchanged) = (done["Fetched"].as_u64(), done["Unchanged"].as_u64());
    // What only moved to another place is known by its ETag, and not sent again.
    assert!(fetched.unwrap() + unchanged.unwrap() >= 8, "{done}");
    assert!(unchanged.unwrap() > 0, "{done}");
    world.compare();
    assert!(world.files().len() >= files - 8);
}

#[test]
fn the_files_of_a_deleted_listing_are_kept_if_asked() {
    let photos = Photos::start().unwrap();
    let alter = photos.alter();
    let world = World::with(20, true, "on_delete = \"keep\"", photos, alter);
    world.run(&["sync", "Property"], 0);
    world.media(0);
    let files = world.files().len();
    world.play(Event::Delete, 2);
    world.run(&["sync", "Property"], 0);
    assert_eq!(world.media(0)["Removed"], 0);
    assert_eq!(world.files().len(), files);
    let withdrawn = world.entries();
    assert!(withdrawn.iter().any(|e| e.state == MediaState::Withdrawn));
}

#[test]
fn an_empty_array_removes_nothing_without_evidence() {
    let photos = Photos::start().unwrap();
    let rewrite = photos.alter();
    let empty = Arc::new(Mutex::new(false));
    let on = Arc::clone(&empty);
    let alter: Alter = Box::new(move |request, response| {
        let mut response = rewrite(request, response);
        if *on.lock().unwrap() && request.path().ends_with("/Property") {
            let mut page: Value = serde_json::from_slice(&response.body).unwrap();
            for row in page["value"].as_array_mut().unwrap() {
                row["Media"] = Value::Array(Vec::new());
            }
            response.body = page.to_string().into_bytes();
        }
        response
    });
    let world = World::with(20, true, "", photos, alter);
    world.run(&["sync", "Property"], 0);
    world.media(0);
    *empty.lock().unwrap() = true;
    world.run(&["sync", "Property", "--full"], 0);
    let done = world.media(0);
    assert_eq!((&done["Removed"], &done["Gone"]), (&0.into(), &0.into()));
    world.compare();
}

#[test]
fn new_keys_for_the_same_photos_fetch_and_store_nothing_twice() {
    for same_url in [true, false] {
        let photos = Photos::start().unwrap();
        let churn = Arc::new(Mutex::new(0_u32));
        let (base, now) = (photos.base_url(), Arc::clone(&churn));
        let rewrite = photos.alter_by(move |name, answer| {
            let churn = if same_url { 0 } else { *now.lock().unwrap() };
            format!("{base}{name}?size={churn}&sig={answer}")
        });
        let now = Arc::clone(&churn);
        let alter: Alter = Box::new(move |request, response| {
            let mut response = rewrite(request, response);
            let text = String::from_utf8(response.body).unwrap();
            let new = format!("\"MediaKey\":\"k{}-", now.lock().unwrap());
            response.body = text.replace("\"MediaKey\":\"", &new).into_bytes();
            response
        });
        let world = World::with(20, true, "", photos, alter);
        world.run(&["sync", "Property"], 0);
        let count = world.media(0)["Fetched"].as_u64().unwrap();
        let (files, requests) = (world.files(), world.photos.requests().len());
        *churn.lock().unwrap() = 1;
        world.run(&["sync", "Property", "--full"], 0);
        let done = world.media(0);
        let asked = world.photos.requests().len() - requests;
        if same_url {
            assert_eq!((&done["TakenOver"], asked), (&count.into(), 0), "{done}");
        } else {
            // Another URL has to be asked, once.
            assert_eq!(
                (&done["Fetched"], asked as u64),
                (&count.into(), count),
                "{done}"
            );
        }
        let (mut before, mut later) = (files, world.files());
        before.sort();
        later.sort();
        assert_eq!(before, later);
        let keys = world.entries().into_iter().map(|e| e.item.media_key);
        assert!(keys.into_iter().all(|key| key.starts_with("k1-")));
    }
}

#[test]
fn a_url_that_is_used_up_or_expired_is_asked_for_again() {
    let world = World::new(20, true);
    world.photos.single_use(true);
    world.run(&["sync", "Property"], 0);
    // All that were given out are dead before the first is asked for.
    world.photos.expire();
    let count = world.truth().len() as u64;
    assert_eq!(world.media(0)["Fetched"], count);
    world.compare();
    // Each listing was asked for its media once.
    let asked = world.server.request_lines();
    let asked = asked.iter().filter(|l| l.ends_with("/Media")).count();
    assert!(asked <= 20, "{asked}");
}

#[test]
fn what_is_no_photo_is_not_stored_and_given_up_after_three_strikes() {
    let html = b"<html>404</html>".to_vec();
    let svg = b"<svg onload='x'/>".to_vec();
    for (name, fault, says) in [
        ("html", PhotoFault::Body("image/jpeg", html), "HTML"),
        ("svg", PhotoFault::Body("image/svg+xml", svg), "SVG"),
        (
            "lie",
            PhotoFault::Body("image/png", b"GIF89a...;".to_vec()),
            "sent as image/png",
        ),
        ("large", PhotoFault::Size(3_000), "larger than 2000"),
        ("long", PhotoFault::LengthTooLong, "ended early"),
        ("short", PhotoFault::LengthTooShort, "cut short"),
        ("cut", PhotoFault::Cut, "cut short"),
        ("gone", PhotoFault::Status(404), "404"),
        ("broken", PhotoFault::Status(500), "500"),
        (
            "redirect",
            PhotoFault::Redirect("http://169.254.169.254/".to_owned()),
            "redirect",
        ),
    ] {
        let photos = Photos::start().unwrap();
        let alter = photos.alter();
        let world = World::with(10, true, "max_bytes = 2000", photos, alter);
        world.run(&["sync", "Property"], 0);
        let victim = world.truth().keys().next().unwrap().clone();
        world.photos.fault(&victim, fault);
        let count = world.truth().len() as u64;
        for strike in 1..=3 {
            let done = world.media(6);
            assert_eq!(done["Failed"], 1, "{name}: {done}");
            let fetched = if strike == 1 { count - 1 } else { 0 };
            assert_eq!(done["Fetched"], fetched, "{name}: {done}");
            assert_eq!(done["Parked"], u64::from(strike == 3), "{name}");
        }
        let before = world.photos.requests().len();
        assert_eq!(world.media(0)["Fetched"], 0, "{name}");
        assert_eq!(
            world.photos.requests().len(),
            before,
            "{name}: it is left alone"
        );
        let entries = world.entries();
        let entry = entries.iter().find(|e| e.item.media_key == victim).unwrap();
        assert_eq!(
            (entry.state, &entry.held),
            (MediaState::Parked, &None),
            "{name}"
        );
        assert!(
            entry.error.as_ref().unwrap().contains(says),
            "{name}: {:?}",
            entry.error
        );
        world.photos.heal();
        world.run(&["media", "sync", "--retry"], 0);
        world.compare();
    }
}

#[test]
fn a_dead_host_does_not_keep_the_others_waiting() {
    let photos = Photos::start().unwrap();
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = dead.local_addr().unwrap();
    drop(dead);
    let revived = Arc::new(Mutex::new(false));
    let (base, now) = (photos.base_url(), Arc::clone(&revived));
    let alter = photos.alter_by(move |name, answer| {
        let is_dead = name.bytes().map(u32::from).sum::<u32>().is_multiple_of(3);
        if is_dead && !*now.lock().unwrap() {
            format!("http://{nobody}/photos/{name}?sig={answer}")
        } else {
            format!("{base}{name}?sig={answer}")
        }
    });
    let world = World::with(20, true, "", photos, alter);
    world.run(&["sync", "Property"], 0);
    let count = world.truth().len() as u64;
    for run in 0..4 {
        let begun = std::time::Instant::now();
        let done = world.media(6);
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
        let lost = done["Failed"].as_u64().unwrap() + done["Left"].as_u64().unwrap();
        if run == 0 {
            assert_eq!(done["Fetched"].as_u64().unwrap() + lost, count, "{done}");
        }
        assert!(lost > 10 && done["Parked"] == 0, "{done}");
    }
    // The URLs lead elsewhere now.
    *revived.lock().unwrap() = true;
    world.run(&["sync", "Property", "--full"], 0);
    world.media(0);
    world.compare();
}

#[test]
fn a_url_that_points_into_the_machine_is_not_asked() {
    let photos = Photos::start().unwrap();
    let alter = photos.alter();
    let world = World::with(10, true, "", photos, alter);
    world.run(&["sync", "Property"], 0);
    let path = world.folder.path().join("relist.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("allow_loopback = true", "")).unwrap();
    let done = world.media(6);
    assert_eq!(done["Fetched"], 0);
    assert!(world.photos.requests().is_empty());
    assert!(world.files().is_empty());
}

#[test]
fn a_limit_stops_and_the_next_run_goes_on() {
    let world = World::new(20, false);
    world.run(&["sync", "Property"], 0);
    let done = world.run(&["media", "sync", "--max", "7", "--jobs", "3"], 0);
    assert_eq!(
        (&done["Fetched"], &done["Outcome"]),
        (&7.into(), &"stopped".into())
    );
    assert_eq!(world.files().len(), 7);
    world.media(0);
    world.compare();
    let key = world.entries()[0].item.record_key.to_string();
    let first = world.run(&["media", "status", &key], 0);
    assert_eq!(
        (&first["Order"], &first["State"]),
        (&1.into(), &"have".into())
    );
    assert!(
        world
            .folder
            .path()
            .join(first["File"].as_str().unwrap())
            .exists()
    );
    assert_eq!(world.run(&["media", "status"], 0)["State"], "have");
}

/// The ways to ask for the media of one record, as a profile names them.
#[test]
fn a_record_is_asked_for_its_media_as_the_profile_says() {
    for (via, path, query) in [
        ("expand", "/Property(", "$expand=Media"),
        ("navigation", ")/Media", ""),
        ("resource", "/Media?", "ResourceRecordKey eq '"),
    ] {
        let world = World::ruled(15, false, &format!("via = \"{via}\""));
        world.run(&["sync", "Property"], 0);
        let before = world.server.request_lines().len();
        assert_eq!(
            world.media(0)["Fetched"],
            world.truth().len() as u64,
            "{via}"
        );
        world.compare();
        let asked = world.server.request_lines().split_off(before);
        assert!(!asked.is_empty());
        for line in asked {
            assert!(line.contains(path) && line.contains(query), "{via}: {line}");
        }
    }
    // A server that does not send what the profile promises is told from one without photos.
    let world = World::ruled(5, false, "via = \"inline\"");
    world.run(&["sync", "Property"], 0);
    let done = world.media(6);
    assert!(done["Unlisted"].as_u64().unwrap() > 0, "{done}");
    assert!(world.files().is_empty());
}

#[test]
fn a_url_that_is_too_old_is_not_tried_and_one_that_was_used_is_not_used_again() {
    let rules = "via = \"expand\"\nsingle_use = true\nurl_seconds = 2";
    let world = World::ruled(10, true, rules);
    world.photos.single_use(true);
    world.run(&["sync", "Property"], 0);
    world.photos.expire();
    std::thread::sleep(Duration::from_secs(2));
    let count = world.truth().len() as u64;
    let victim = world.truth().keys().next().unwrap().clone();
    world.photos.fault(&victim, PhotoFault::StatusOnce(500));
    let done = world.media(6);
    assert_eq!(
        (&done["Fetched"], &done["Failed"]),
        (&(count - 1).into(), &1.into())
    );
    // Each file was asked for once, by a URL that was listed in this run; each listing too.
    assert_eq!(world.photos.requests().len() as u64, count);
    let asked = world.server.request_lines();
    let asked: Vec<_> = asked.iter().filter(|l| l.contains("/Property(")).collect();
    assert!(
        asked.iter().all(|l| l.contains("$expand=Media")),
        "{asked:?}"
    );
    assert!(asked.len() <= 10, "{asked:?}");
    // The try that failed has used its URL: the next run asks for another, though it is young.
    assert_eq!(world.media(0)["Fetched"], 1);
    assert_eq!(world.photos.requests().len() as u64, count + 1);
    world.compare();
}

#[test]
fn a_url_that_dies_is_asked_for_again_on_every_answer_that_may_mean_so() {
    for status in [401, 403, 404, 410, 429] {
        let world = World::ruled(6, true, "via = \"navigation\"\nurl_seconds = 3600");
        world.run(&["sync", "Property"], 0);
        let victim = world.truth().keys().next().unwrap().clone();
        world.photos.fault(&victim, PhotoFault::StatusOnce(status));
        let done = world.media(0);
        assert_eq!(done["Fetched"], world.truth().len() as u64, "{status}");
        world.compare();
    }
    // Where URLs do not die, 429 is what it says: the host wants to be left alone.
    let world = World::ruled(6, true, "via = \"navigation\"");
    world.run(&["sync", "Property"], 0);
    let victim = world.truth().keys().next().unwrap().clone();
    world.photos.fault(&victim, PhotoFault::StatusOnce(429));
    let done = world.media(6);
    assert_eq!((&done["Failed"], &done["Parked"]), (&1.into(), &0.into()));
    let asked = world.server.request_lines();
    assert!(!asked.iter().any(|l| l.contains("/Media")), "{asked:?}");
}

#[test]
fn a_feed_that_is_down_costs_no_file_a_strike() {
    let world = World::ruled(30, true, "via = \"navigation\"\nurl_seconds = 1");
    world.run(&["sync", "Property"], 0);
    std::thread::sleep(Duration::from_secs(1));
    // The feed does not let us in any more; the photos are there.
    let mut refused = world.command(&["media", "sync", "--jobs", "1"]);
    let output = refused
        .env("RELIST_TOKEN", "another-token")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(6));
    // It was asked three times, not once for each listing.
    let asked = world.server.request_lines();
    assert_eq!(asked.iter().filter(|l| l.contains("/Media")).count(), 3);
    assert!(world.photos.requests().is_empty());
    assert!(
        world
            .entries()
            .iter()
            .all(|e| e.strikes == 0 && e.state == MediaState::Wanted)
    );
    world.media(0);
    world.compare();
}

/// MLS Grid wants the token as the User-Agent of a download: its own host gets it, and no other.
#[test]
fn the_token_is_the_user_agent_for_the_providers_own_host_alone() {
    let photos = Photos::start().unwrap();
    let base = photos.base_url();
    let other = base.replace("127.0.0.1", "localhost");
    let alter = photos.alter_by(move |name, answer| {
        let own = name.bytes().map(u32::from).sum::<u32>().is_multiple_of(2);
        format!("{}{name}?sig={answer}", if own { &base } else { &other })
    });
    let rules = "via = \"expand\"\nuser_agent = \"{token}\"\nuser_agent_hosts = [\"127.0.0.1\"]";
    let profile = PROFILE.replace("via = \"navigation\"", rules);
    let world = World::by(20, &profile, "", photos, alter);
    world.run(&["sync", "Property"], 0);
    world.media(0);
    let (mut own, mut others) = (0, 0);
    for request in world.photos.requests() {
        let agent = request.header("user-agent").unwrap();
        if request.header("host").unwrap().starts_with("127.0.0.1") {
            assert_eq!(agent, world.server.token());
            own += 1;
        } else {
            assert!(agent.starts_with("relist/"), "{agent}");
            others += 1;
        }
        assert_eq!(request.header("authorization"), None);
    }
    assert!(own > 5 && others > 5, "{own} {others}");
}

#[test]
fn files_have_a_quota_that_the_next_run_knows() {
    let rules = "via = \"navigation\"\n[media.quota]\nwindows = [{ per = \"day\", requests = 7 }]";
    let world = World::ruled(20, true, rules);
    world.run(&["sync", "Property"], 0);
    let done = world.media(6);
    assert_eq!(done["Fetched"], 7, "{done}");
    assert!(
        done["Left"].as_u64().unwrap() > 0 && done["Parked"] == 0,
        "{done}"
    );
    assert_eq!(world.media(6)["Fetched"], 0);
    assert_eq!(world.photos.requests().len(), 7);
    // Pages have windows of their own.
    world.run(&["sync", "Property", "--full"], 0);
}

#[test]
fn others_write_while_files_are_fetched_and_the_run_is_in_the_report() {
    let world = World::new(40, true);
    world.run(&["sync", "Property"], 0);
    world.photos.delay(Duration::from_millis(100));
    let mut child = world
        .command(&["media", "sync", "--jobs", "1"])
        .spawn()
        .unwrap();
    while world.photos.requests().len() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..3 {
        world.run(&["sync", "Property"], 0);
        world.run(&["query", "Property", "--top", "1"], 0);
        world.run(&["status"], 0);
    }
    assert!(
        child.try_wait().unwrap().is_none(),
        "it must still be at work"
    );
    world.photos.delay(Duration::ZERO);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    world.compare();
    world.run(&["verify"], 0);
    let output = world
        .command(&["report", "--resource", "Media", "-o", "ndjson"])
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let run: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let count = world.truth().len() as u64;
    assert_eq!(
        (&run["Kind"], &run["Outcome"]),
        (&"media".into(), &"complete".into())
    );
    assert_eq!(
        (&run["Records"], &run["New"]),
        (&count.into(), &count.into())
    );
    assert_eq!(run["Requests"], count);
    assert!(run["Bytes"].as_u64().unwrap() > 0 && run["Finished"].is_string());
    // A run that could not fetch all says so, also afterwards.
    world.play(Event::ChangePhotos, 3);
    world.run(&["sync", "Property"], 0);
    world.photos.fault("", PhotoFault::Status(500));
    world.media(6);
    let run = world.run(&["report", "--resource", "Media", "--last", "1"], 0);
    assert_eq!(run["Outcome"], "degraded");
    assert!(
        run["Reason"]
            .as_str()
            .unwrap()
            .contains("could not be fetched"),
        "{run}"
    );
}

/// `RELIST_MEDIA_KILLS` sets how many times (25). The moments come from a seed that is printed.
#[test]
fn a_fetch_killed_at_random_moments_leaves_no_partial_file_and_goes_on() {
    let kills: u32 = std::env::var("RELIST_MEDIA_KILLS").map_or(25, |t| t.parse().unwrap());
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let seed = std::env::var("RELIST_SEED").map_or(seed, |text| text.parse().unwrap());
    println!("RELIST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let world = World::new(60, true);
    world.run(&["sync", "Property"], 0);
    world.photos.delay(Duration::from_millis(3));
    let mut killed = 0;
    while killed < kills {
        let mut child = world.command(&["media", "sync"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(rng.u64(1..120)));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed += 1;
        } else {
            // All is there: something to do is made.
            world.play(Event::ChangePhotos, 10);
            world.run(&["sync", "Property"], 0);
        }
        child.wait().unwrap();
        for path in world.files() {
            if path.parent().unwrap().ends_with("media") {
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let name = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&bytes));
            assert!(path.ends_with(rest(&name, &path)), "{path:?} is not whole");
        }
        // What the store says is there is there.
        let root = world.folder.path().join("media");
        for entry in world.entries() {
            if entry.state == MediaState::Have {
                let file = relist::media::file_path(&root, entry.held.as_ref().unwrap());
                assert!(file.exists(), "{file:?}");
            }
        }
    }
    world.photos.delay(Duration::ZERO);
    world.media(0);
    world.run(&["verify"], 0);
    let known: std::collections::HashSet<_> = world
        .entries()
        .into_iter()
        .map(|e| relist::media::file_path(&world.folder.path().join("media"), &e.held.unwrap()))
        .collect();
    assert!(known.iter().all(|path| path.exists()));
    println!("{killed} kills, {} files", known.len());
}
