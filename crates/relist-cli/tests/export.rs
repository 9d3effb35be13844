//! `relist export` and `relist lake` by the binary: beside a writer, and on a full disk.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at whatever is wrong")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use relist::store::Store;
use relist::value::Timestamp;

const STORE: &str = "relist.redb";
const ROWS: u32 = 3_000;

/// A page of records that all say the same round.
fn page(round: u32) -> String {
    let mut text = String::from("{\"value\":[");
    for key in 0..ROWS {
        let comma = if key > 0 { "," } else { "" };
        write!(
            text,
            "{comma}{{\"ListingKeyNumeric\":{key},\"Round\":{round},\"Remarks\":\"{}\"}}",
            // Nothing that compresses to nothing.
            (0..8).fold(String::new(), |mut text, part: u32| {
                let mixed = (key * 8 + part).wrapping_mul(2_654_435_761);
                let _ = write!(text, "{mixed:x} ");
                text
            })
        )
        .unwrap();
    }
    text + "]}"
}

fn store(folder: &Path) -> Store {
    let store = Store::create(folder.join(STORE), Timestamp(0)).unwrap();
    apply(&store, 1);
    store
}

fn apply(store: &Store, round: u32) {
    let mut txn = store.begin_write(Timestamp(i64::from(round))).unwrap();
    txn.apply_page("Property", "page", page(round).as_bytes())
        .unwrap();
    txn.commit().unwrap();
}

/// Runs the binary; with files of so many KiB at most where there is a limit, as a full disk does
/// it: a write past the end fails.
fn relist(folder: &Path, args: &[&str], limit: Option<u64>) -> Output {
    let limit = limit.map_or_else(|| "unlimited".to_owned(), |kib| kib.to_string());
    Command::new("bash")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"",
            "bash",
        ])
        .arg(limit)
        .arg(env!("CARGO_BIN_EXE_relist"))
        .args(args)
        .args(["--store", STORE])
        .current_dir(folder)
        .env_remove("RELIST_STORE")
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

/// The rounds of the records of a file of lines.
fn rounds(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap();
    let round = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record.get("Round").and_then(serde_json::Value::as_u64)
    };
    text.lines().map(|line| round(line).unwrap()).collect()
}

#[test]
fn beside_a_writer_it_is_of_what_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let store = store(folder);
    let args = ["export", "Property", "--to", "out.ndjson", "--force"];
    for round in 2..5 {
        // A transaction that has changed every record, and waits.
        let mut txn = store.begin_write(Timestamp(i64::from(round))).unwrap();
        txn.apply_page("Property", "page", page(round).as_bytes())
            .unwrap();
        let output = relist(folder, &args, None);
        assert!(output.status.success(), "{}", told(&output));
        let before = vec![u64::from(round) - 1; ROWS as usize];
        assert_eq!(rounds(&folder.join("out.ndjson")), before);
        txn.commit().unwrap();
    }
    let output = relist(folder, &args, None);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(rounds(&folder.join("out.ndjson")), vec![4; ROWS as usize]);
}

/// All files below a folder, but the store's.
fn files(folder: &Path, out: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.file_name().is_none_or(|name| name != STORE) {
            out.insert(path.to_string_lossy().into_owned());
        }
    }
}

#[test]
fn on_a_full_disk_a_target_is_absent_or_the_one_from_before() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    drop(store(folder));
    let found = || {
        let mut found = BTreeSet::new();
        files(folder, &mut found);
        found
    };
    let before = found();
    for name in ["x.parquet", "x.csv", "x.ndjson", "x.json.gz", "x.arrows"] {
        let args = ["export", "Property", "--to", name, "--force"];
        for limit in [0, 8, 64] {
            let output = relist(folder, &args, Some(limit));
            let text = told(&output);
            assert_eq!(output.status.code(), Some(1), "{name} {limit}\n{text}");
            assert!(text.contains("File too large"), "{text}");
            assert!(text.contains("hint:"), "{text}");
            assert_eq!(found(), before, "{name} {limit}");
        }
        // One that was there stays as it was.
        let path = folder.join(name);
        fs::write(&path, "dear").unwrap();
        let output = relist(folder, &args, Some(64));
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        assert_eq!(fs::read_to_string(&path).unwrap(), "dear");
        fs::remove_file(&path).unwrap();
        assert_eq!(found(), before, "{name}");
        let output = relist(folder, &args, None);
        assert!(output.status.success(), "{}", told(&output));
        for file in found().difference(&before) {
            fs::remove_file(file).unwrap();
        }
    }
}

#[test]
fn on_a_full_disk_a_lake_stays_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let store = store(folder);
    let args = ["lake", "lake", "--feed", "x"];
    let output = relist(folder, &args, Some(16));
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let output = relist(folder, &args, None);
    assert!(output.status.success(), "{}", told(&output));
    let manifests = |folder: &Path| -> Vec<(String, Vec<u8>)> {
        let mut found = BTreeSet::new();
        files(folder, &mut found);
        let own = found
            .into_iter()
            .filter(|name| Path::new(name).extension() == Some("json".as_ref()));
        own.map(|name| (name.clone(), fs::read(&name).unwrap()))
            .collect()
    };
    let lake = folder.join("lake");
    let before = manifests(&lake);
    assert!(!before.is_empty());
    apply(&store, 2);
    let output = relist(folder, &args, Some(16));
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert_eq!(manifests(&lake), before);
    let output = relist(folder, &args, None);
    assert!(output.status.success(), "{}", told(&output));
    assert_ne!(manifests(&lake), before);
}

#[test]
fn what_a_column_has_no_room_for_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let xml = br#"<edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0">
<edmx:DataServices><Schema xmlns="http://docs.oasis-open.org/odata/ns/edm" Namespace="N">
<EntityType Name="Property"><Key><PropertyRef Name="ListingKey"/></Key>
<Property Name="ListingKey" Type="Edm.String"/>
<Property Name="At" Type="Edm.DateTimeOffset"/></EntityType>
<EntityContainer Name="C"><EntitySet Name="Property" EntityType="N.Property"/></EntityContainer>
</Schema></edmx:DataServices></edmx:Edmx>"#;
    let store = Store::create(folder.join(STORE), Timestamp(0)).unwrap();
    let mut txn = store.begin_write(Timestamp(1)).unwrap();
    txn.define(&relist::schema::Schema::from_metadata(xml).unwrap())
        .unwrap();
    let fine = r#"{"value":[{"ListingKey":"a","At":"2026-03-01T10:00:00.1234567Z"}]}"#;
    txn.apply_page("Property", "page", fine.as_bytes()).unwrap();
    txn.commit().unwrap();
    drop(store);
    let args = ["export", "Property", "--to", "x.parquet"];
    let output = relist(folder, &args, None);
    let text = told(&output);
    assert!(output.status.success(), "{text}");
    let note = "text: 1 instant is finer than microseconds";
    assert!(text.contains("At is exported as"), "{text}");
    assert!(text.contains(note), "{text}");
    let manifest = fs::read_to_string(folder.join("x.parquet.manifest.json")).unwrap();
    assert!(manifest.contains(note), "{manifest}");
}
