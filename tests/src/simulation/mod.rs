//! Seeded simulations, and what mirrors of a simulated feed are compared by.

mod feed;
mod world;

pub use feed::{Feed, Rng};
pub use world::World;

use std::collections::BTreeMap;
use std::path::PathBuf;

use relist::store::{AsOf, Operation, Snapshot};
use relist_sim::{Dataset, Key};
use serde_json::Value;

/// Records by key, in a form in which equal values are equal.
pub type Rows = BTreeMap<i64, String>;

/// A folder whose files cost no disk writes, where there is one.
pub fn fast_folder() -> tempfile::TempDir {
    let shared = PathBuf::from("/dev/shm");
    match tempfile::tempdir_in(shared) {
        Ok(folder) => folder,
        Err(_) => tempfile::tempdir().unwrap(),
    }
}

/// A record in a form in which `12`, `12.0` and `"12"` are one.
fn normal(record: &Value) -> String {
    let Value::Object(members) = record else {
        return record.to_string();
    };
    let mut out = String::new();
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let number = text.parse::<f64>().map(|number| number.to_string());
        out.push_str(name);
        out.push('=');
        out.push_str(&number.unwrap_or(text));
        out.push(';');
    }
    out
}

/// What the feed has of Property.
pub fn served(rows: &Dataset) -> Rows {
    let keys = rows.keys("Property");
    keys.iter()
        .map(|key| (number(key), row(rows, key)))
        .collect()
}

fn number(key: &Key) -> i64 {
    match key {
        Key::Int(key) => *key,
        Key::Str(key) => panic!("{key} is no number"),
    }
}

fn row(rows: &Dataset, key: &Key) -> String {
    let text = rows.json("Property", key).unwrap();
    normal(&serde_json::from_str(&text).unwrap())
}

/// What the store has of Property.
pub fn stored(snapshot: &Snapshot) -> Rows {
    let mut out = Rows::new();
    let at = AsOf::Sequence(snapshot.sequence());
    snapshot
        .scan("Property", at, |key, record| {
            let relist::keycode::Key::Int(key) = key else {
                panic!("{key} is no number")
            };
            let record = serde_json::from_str(&record.to_json(None)).unwrap();
            out.insert(*key, normal(&record));
            Ok(true)
        })
        .unwrap();
    out
}

/// The first differences of two sets of records, in words; empty when there is none.
pub fn differences(stored: &Rows, served: &Rows) -> String {
    let mut out = Vec::new();
    for (key, row) in served {
        match stored.get(key) {
            None => out.push(format!("{key} is missing")),
            Some(own) if own != row => out.push(format!("{key}: stored {own} served {row}")),
            Some(_) => {}
        }
    }
    let more = stored.keys().filter(|key| !served.contains_key(key));
    out.extend(more.map(|key| format!("{key} is not served any more")));
    let count = out.len();
    out.truncate(4);
    match count {
        0 => String::new(),
        _ => format!("{count} differences: {}", out.join("; ")),
    }
}

/// What is wrong with the log itself: gaps, changes that change nothing, impossible orders.
pub fn log_problems(snapshot: &Snapshot, since: u64) -> Vec<String> {
    let mut problems = Vec::new();
    let mut expected = since + 1;
    for change in snapshot.changes(since).unwrap() {
        let change = change.unwrap();
        if change.sequence != expected {
            problems.push(format!(
                "sequence {} after {}",
                change.sequence,
                expected - 1
            ));
        }
        expected = change.sequence + 1;
        let same = |field: &relist::store::FieldChange| {
            let text =
                |cell: Option<relist::record::Cell<'_>>| cell.map(relist::record::Cell::to_json);
            text(field.previous()) == text(field.new_value())
        };
        let no_change = change.fields.is_empty() || change.fields.iter().all(same);
        if change.operation == Operation::Update && no_change {
            problems.push(format!("sequence {} changes nothing", change.sequence));
        }
    }
    problems
}
