//! `relist bench`, as it is typed: what it says is held to the generator's truth.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever is wrong")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relist"));
    command.arg("bench").args(args).env_remove("RELIST_STORE");
    command.output().unwrap()
}

fn done(args: &[&str]) -> String {
    let output = bench(args);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

fn pages(folder: &Path) -> String {
    folder.join("pages").to_str().unwrap().to_owned()
}

#[test]
fn the_waves_leave_what_the_generator_says() {
    let folder = tempfile::tempdir().unwrap();
    let pages = pages(folder.path());
    let workload = ["--listings", "600", "--pages", &pages, "--runs", "1"];
    let text = done(&[&["ingest", "--json"][..], &workload].concat());
    let said: Value = serde_json::from_str(&text).unwrap();
    let figures = said["figures"].as_array().unwrap();
    let waves: Vec<&str> = figures
        .iter()
        .map(|f| f["wave"].as_str().unwrap())
        .collect();
    assert_eq!(waves, ["1", "2", "rewritten", "3"]);
    for figure in figures {
        assert!(figure["records_per_second"].as_f64().unwrap() > 0.0);
        assert!(figure["file_bytes"].as_u64().unwrap() > 0);
    }
    let checked = &said["changelog"][0];
    assert!(checked["expected"].as_u64().unwrap() > 1_000, "{checked}");
    assert_eq!(
        (&checked["missing"], &checked["extra"]),
        (&0.into(), &0.into())
    );
    // Nothing of the stores is left, and the pages are.
    let left = fs::read_dir(&pages)
        .unwrap()
        .map(|e| e.unwrap().file_name());
    assert!(
        !left
            .into_iter()
            .any(|name| name.to_string_lossy().starts_with("relist-bench"))
    );
    let table = done(&[&["ingest", "--waves", "1,2"][..], &workload].concat());
    assert!(
        table.contains("| wave 2, 95 % unchanged | Relist |"),
        "{table}"
    );
    assert!(table.contains("0 missing, 0 extra"), "{table}");
}

#[test]
fn a_changelog_that_is_not_the_truth_fails() {
    let folder = tempfile::tempdir().unwrap();
    let pages = pages(folder.path());
    done(&[
        "data",
        "--listings",
        "600",
        "--waves",
        "1,2",
        "--to",
        &pages,
    ]);
    let path = folder.path().join("pages/truth/001.ndjson");
    let truth = fs::read_to_string(&path).unwrap();
    let place = truth.find("\"update\",").unwrap();
    let line = truth[..place].rfind('\n').unwrap_or(0);
    // One change that never was, in the place of one that was.
    let end = place + truth[place..].find('\n').unwrap();
    let wrong = format!(
        "{}\n[1,5,\"update\",\"City\",\"A\",\"B\"]{}",
        &truth[..line],
        &truth[end..]
    );
    fs::write(&path, wrong).unwrap();
    let workload = [
        "--listings",
        "600",
        "--waves",
        "1,2",
        "--pages",
        &pages,
        "--runs",
        "1",
    ];
    let output = bench(&[&["ingest"][..], &workload].concat());
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("1 missing, 1 extra"), "{table}");
}

#[test]
fn pages_are_not_written_over_something_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.txt"), "dear").unwrap();
    let to = folder.path().to_str().unwrap();
    let output = bench(&["data", "--listings", "100", "--to", to]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        fs::read_to_string(folder.path().join("mine.txt")).unwrap(),
        "dear"
    );
}

#[test]
fn every_export_is_written_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let pages = pages(folder.path());
    let workload = ["--listings", "600", "--pages", &pages, "--runs", "1"];
    let text = done(&[&["export", "--json"][..], &workload].concat());
    let said: Value = serde_json::from_str(&text).unwrap();
    let figures = said["figures"].as_array().unwrap();
    let records: Vec<(&str, u64)> = figures
        .iter()
        .map(|f| (f["what"].as_str().unwrap(), f["records"].as_u64().unwrap()))
        .collect();
    let whole = ["parquet", "csv", "ndjson", "lake, first run"].map(|what| (what, 600));
    assert_eq!(records.get(..4).unwrap(), whole);
    // A share of the pages of wave 2: one of them, with 200 records.
    let (what, changed) = records[4];
    assert_eq!(what, "lake, 1 % changed");
    assert!((1..=40).contains(&changed), "{text}");
    assert!(said["lake_update"]["of_parquet"].as_f64().unwrap() > 0.0);
    let table = done(&[&["export", "--only", "csv"][..], &workload].concat());
    assert!(table.contains("| csv    | Relist |"), "{table}");
    let left: Vec<String> = fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("relist-bench"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_question_has_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let pages = pages(folder.path());
    let workload = ["--listings", "1500", "--pages", &pages, "--runs", "1"];
    let text = done(&[&["query", "--json"][..], &workload].concat());
    let said: Value = serde_json::from_str(&text).unwrap();
    let figures = said["figures"].as_array().unwrap();
    assert!(figures.len() >= 14, "{text}");
    for figure in figures {
        assert!(figure["rows"].as_u64().unwrap() > 0, "{figure}");
        assert!(
            figure["systems"][0]["seconds"].as_f64().unwrap() > 0.0,
            "{figure}"
        );
    }
    let store = folder.path().join("pages/loaded/relist.redb");
    let store = store.to_str().unwrap();
    let table = done(&["query", "--store", store, "--runs", "1", "--only", "median"]);
    assert!(
        table.contains("| median price by city, active |"),
        "{table}"
    );
}
