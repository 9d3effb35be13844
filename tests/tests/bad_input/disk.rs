//! A disk that is full: a clear error, nothing of what is durable lost, and on it goes when there
//! is space again.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use relist::error::Error;
use relist::store::Store;
use relist::value::Timestamp;
use relist_tests::data;
use relist_tests::fresh::{self, FILE, Fresh, PAGE_RECORDS};

/// The size of a small disk.
const KIB: u64 = 8_192;
/// Pages to ingest in all.
const PAGES: u32 = 12;

fn writer() -> Command {
    Command::new(env!("CARGO_BIN_EXE_writer"))
}

fn said(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

/// Runs the writer with files limited to so many KiB, as a full disk limits them: a write past the
/// end fails (the signal that would kill the process is ignored).
fn limited(kib: u64, arguments: &[&str]) -> Output {
    Command::new("bash")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"",
            "bash",
        ])
        .arg(kib.to_string())
        .arg(env!("CARGO_BIN_EXE_writer"))
        .args(arguments)
        .output()
        .unwrap()
}

/// The store holds the pages that were durable, whole, and perhaps the one under way; it goes on.
fn goes_on(path: &Path, durable: u32) {
    let store = Store::open(path).unwrap();
    let report = fresh::verified(&store);
    let records = u64::from(PAGE_RECORDS);
    let held = report.records / records;
    assert_eq!(report.records % records, 0, "a page is there in part");
    // A commit that failed may have landed all the same.
    let durable = u64::from(durable);
    assert!(
        (durable..=durable + 1).contains(&held),
        "{held} of {durable}"
    );
    assert_eq!(report.changes, report.records);
    drop(store);
    // All pages again: what was there is unchanged, the rest comes.
    let arguments = ["fill", path.to_str().unwrap(), "0", &PAGES.to_string()];
    let output = writer().args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let store = Store::open(path).unwrap();
    let report = fresh::verified(&store);
    assert_eq!(report.records, u64::from(PAGES) * records);
    assert_eq!(
        (report.versions, report.changes),
        (report.records, report.records)
    );
}

#[test]
fn a_store_that_may_not_grow_says_so_and_keeps_what_it_has() {
    // How large the file gets when it may.
    let Fresh { store, folder } = Fresh::new();
    drop(store);
    let path = folder.path().join(FILE);
    let size = |path: &Path| std::fs::metadata(path).unwrap().len() / 1_024;
    let empty = size(&path);
    let arguments = ["fill", path.to_str().unwrap(), "0", &PAGES.to_string()];
    assert!(writer().args(arguments).output().unwrap().status.success());
    let full = size(&path);
    assert!(full > empty + 1_000, "{empty} to {full} KiB");

    let mut stopped_at = Vec::new();
    for step in 0..8 {
        let limit = empty + (full - empty) * step / 8;
        let Fresh { store, folder } = Fresh::new();
        drop(store);
        let path = folder.path().join(FILE);
        let arguments = ["fill", path.to_str().unwrap(), "0", &PAGES.to_string()];
        let output = limited(limit, &arguments);
        let lines = said(&output);
        assert_eq!(output.status.code(), Some(3), "{limit} KiB: {output:?}");
        let (error, durable) = lines.split_last().unwrap();
        assert!(error.starts_with("storage: "), "{error}");
        assert!(error.contains("File too large"), "{error}");
        let durable = u32::try_from(durable.len()).unwrap();
        assert!(durable < PAGES);
        goes_on(&path, durable);
        stopped_at.push(durable);
    }
    stopped_at.dedup();
    assert!(stopped_at.len() > 1, "all stopped at {stopped_at:?}");
}

#[test]
fn a_store_that_cannot_be_made_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    for kib in [0, 1, 8, 32, 64] {
        let output = limited(kib, &["create", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3), "{kib} KiB: {output:?}");
        let left = std::fs::read_dir(folder.path()).unwrap();
        assert_eq!(left.count(), 0, "{kib} KiB");
    }
    // And with space, it is made there.
    assert!(
        writer()
            .arg("create")
            .arg(&path)
            .output()
            .unwrap()
            .status
            .success()
    );
    fresh::verified(&Store::open(&path).unwrap());
    let left = std::fs::read_dir(folder.path()).unwrap();
    assert_eq!(left.count(), 1);
}

/// A file system of its own, in memory, of so many KiB.
struct Disk(PathBuf);

impl Disk {
    /// Without the right to mount, says that `test` is skipped.
    fn mounted(test: &str, at: &Path, kib: u64) -> Option<Self> {
        let size = format!("size={kib}k");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .output();
        let why = match mount {
            Ok(output) if output.status.success() => return Some(Disk(at.to_path_buf())),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        data::skipped(test, &format!("no tmpfs can be mounted: {why}"));
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "umount {}",
            self.0.display()
        );
    }
}

#[test]
fn a_disk_that_fills_up_says_so_and_takes_more_when_there_is_space() {
    let test = "a_disk_that_fills_up_says_so_and_takes_more_when_there_is_space";
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mounted(test, folder.path(), KIB) else {
        return;
    };
    let path = folder.path().join(FILE);
    let ballast = folder.path().join("ballast");
    for (free, already) in [(200, 0), (400, 0), (300, 1), (50, 2)] {
        let store = Store::create(&path, Timestamp(0)).unwrap();
        let ingest = |number: u32| {
            let page = fresh::page(number);
            fresh::try_ingest(&store, "Property", &[("page", page)], i64::from(number))
        };
        for number in 0..already {
            ingest(number).unwrap();
        }
        // Something else takes the rest of the disk.
        let held = std::fs::metadata(&path).unwrap().len() / 1_024;
        let kib = usize::try_from(KIB - held).unwrap() - free;
        std::fs::write(&ballast, vec![1; kib * 1_024]).unwrap();
        let mut durable = already;
        let error = loop {
            match ingest(durable) {
                Ok(_) => durable += 1,
                Err(error) => break error,
            }
            assert!(durable < PAGES, "{free} KiB were enough");
        };
        let Error::Storage(full) = &error else {
            panic!("{error:?}")
        };
        assert!(full.is_disk_full(), "{error}");
        // The handle is done with, in a clear way; what it held can be read from a new one.
        let again = ingest(durable).unwrap_err();
        assert!(matches!(again, Error::Storage(_)), "{again:?}");
        drop(store);
        {
            // The disk is still full: the store opens, and is whole.
            let store = Store::open(&path).unwrap();
            fresh::verified(&store);
        }
        std::fs::remove_file(&ballast).unwrap();
        goes_on(&path, durable);
        std::fs::remove_file(&path).unwrap();
    }
    drop(disk);
}
