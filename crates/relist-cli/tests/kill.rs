//! `relist sync`, killed at random moments: nothing lost, nothing logged twice.
//!
//! `RELIST_KILLS` sets how many times (50). The moments come from a seed that is printed.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever is wrong")]
#![expect(clippy::indexing_slicing, reason = "a test stops at whatever is wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relist::store::{AsOf, Operation, Store};
use relist_sim::{Access, Backend as _, Market, Options, Server, Size, truth};

const RESOURCES: [&str; 4] = ["Property", "Member", "Office", "OpenHouse"];

fn relist(folder: &Path, token: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relist"));
    command
        .current_dir(folder)
        .env("RELIST_TOKEN", token)
        .env_remove("RELIST_STORE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(0), "{command:?}\n{text}");
    text
}

#[test]
fn a_sync_killed_at_random_moments_loses_nothing_and_logs_nothing_twice() {
    let kills: u64 = std::env::var("RELIST_KILLS").map_or(50, |text| text.parse().unwrap());
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let seed = std::env::var("RELIST_SEED").map_or(seed, |text| text.parse().unwrap());
    println!("RELIST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let market = Arc::new(Mutex::new(Market::new(seed, Size::listings(2_000))));
    // A feed of some latency, so that moments fall between pages as well as into commits.
    let slow = Options {
        alter: Some(Box::new(|_, mut response| {
            response.delay = Some(Duration::from_millis(4));
            response
        })),
        ..Options::default()
    };
    let server = Server::start(Arc::clone(&market), slow).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let init = ["init", "--provider", "wfrmls", "--url", &server.base_url()];
    done(relist(folder.path(), server.token()).args(init));

    let (mut killed, mut finished) = (0, 0);
    let mut longest = Duration::from_millis(150);
    while killed < kills && killed + finished < kills * 4 {
        let begun = Instant::now();
        let mut child = relist(folder.path(), server.token())
            .arg("sync")
            .args(RESOURCES)
            .spawn()
            .unwrap();
        std::thread::sleep(longest.mul_f64(rng.f64()));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed += 1;
        } else {
            finished += 1;
            longest = longest.min(begun.elapsed());
        }
        child.wait().unwrap();
        done(relist(folder.path(), server.token()).arg("verify"));
        market.lock().unwrap().advance(3_600 * rng.u32(0..6));
    }
    println!("{killed} syncs killed, {finished} ended before their time came");
    assert_eq!(killed, kills, "the moments are badly chosen");
    done(
        relist(folder.path(), server.token())
            .arg("sync")
            .args(RESOURCES),
    );
    done(relist(folder.path(), server.token()).arg("verify"));
    compare(folder.path(), &market.lock().unwrap());
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
            Operation::Schema => {}
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
