//! Files that are no store, or not one that may be opened now.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use redb::{Database, ReadableTable as _, TableDefinition};
use relist::error::Error;
use relist::store::Store;
use relist::value::Timestamp;
use relist_tests::fresh::{self, FILE, Fresh};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

type Open = fn(&Path) -> Result<Store, Error>;
const OPENS: [(&str, Open); 2] = [
    ("open", |path| Store::open(path)),
    ("open_read_only", |path| Store::open_read_only(path)),
];

/// Both ways to open refuse the file, with the reason.
fn refused(path: &Path, reason: &str) {
    for (how, open) in OPENS {
        match open(path) {
            Err(Error::Format { reason: found }) => {
                assert!(found.contains(reason), "{how}: {found}");
            }
            other => panic!("{how}: {other:?}"),
        }
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A store with some pages in it, closed.
fn closed() -> (tempfile::TempDir, PathBuf) {
    let Fresh { store, folder } = Fresh::new();
    for number in 0..3 {
        let page = fresh::page(number);
        fresh::try_ingest(&store, "Property", &[("page", page)], i64::from(number)).unwrap();
    }
    drop(store);
    let path = folder.path().join(FILE);
    (folder, path)
}

#[test]
fn what_is_no_store_is_named_and_left_alone() {
    let folder = folder();
    let path = folder.path().join("x.redb");
    for bytes in [
        &b""[..],
        b"r",
        b"red",
        b"not a store",
        b"SQLite format 3\0",
        b"{\"value\":[]}",
        &[0; 10_000],
    ] {
        std::fs::write(&path, bytes).unwrap();
        refused(&path, "x.redb is not a Relist store");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn what_is_not_there_or_cannot_be_read_is_an_error_of_its_file() {
    let folder = folder();
    for (path, kind) in [
        (
            folder.path().join("none.redb"),
            std::io::ErrorKind::NotFound,
        ),
        (
            folder.path().to_path_buf(),
            std::io::ErrorKind::IsADirectory,
        ),
        (
            folder.path().join("no/such/folder.redb"),
            std::io::ErrorKind::NotFound,
        ),
    ] {
        for (how, open) in OPENS {
            match open(&path) {
                Err(Error::Io { context, source }) => {
                    assert!(context.ends_with(&path.display().to_string()), "{context}");
                    assert_eq!(source.kind(), kind, "{how} {}", path.display());
                }
                other => panic!("{how} {}: {other:?}", path.display()),
            }
        }
    }
    // To open creates nothing.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_database_of_something_else_is_no_store() {
    let folder = folder();
    let path = folder.path().join("other.redb");
    drop(Database::create(&path).unwrap());
    refused(&path, "is a database, but not a Relist store");
    let other = Database::create(&path).unwrap();
    let txn = other.begin_write().unwrap();
    let mut table = txn.open_table(META).unwrap();
    table.insert("hello", &b"world"[..]).unwrap();
    drop(table);
    txn.commit().unwrap();
    drop(other);
    refused(&path, "is a database, but not a Relist store");
}

/// Rewrites the birth entry: a format byte, the format and the oldest reader it has as varints
/// below 251, the time, and xxh3-64's low half seeded with the table's number and the key.
fn reborn(path: &Path, format: u8, oldest_reader: u8) {
    let database = Database::builder().open(path).unwrap();
    let txn = database.begin_write().unwrap();
    let mut table = txn.open_table(META).unwrap();
    let mut birth = table.get("birth").unwrap().unwrap().value().to_vec();
    assert_eq!(birth[0], 1, "the birth entry is laid out otherwise");
    (birth[1], birth[2]) = (format, oldest_reader);
    birth.truncate(birth.len() - 4);
    let seed = xxhash_rust::xxh3::xxh3_64_with_seed(b"birth", 1);
    let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&birth, seed);
    birth.extend_from_slice(&sum.to_le_bytes()[..4]);
    table.insert("birth", birth.as_slice()).unwrap();
    drop(table);
    txn.commit().unwrap();
}

#[test]
fn a_store_from_the_future_is_refused_unless_it_says_we_can_read_it() {
    let (_folder, path) = closed();
    reborn(&path, 3, 3);
    drop(Store::open(&path).unwrap());
    reborn(&path, 4, 4);
    refused(
        &path,
        &format!("{FILE} is of format 4, this build reads 3 to 3"),
    );
    reborn(&path, 200, 7);
    refused(&path, "is of format 200, this build reads 3 to 3");
    reborn(&path, 2, 2);
    refused(&path, "is of format 2, this build reads 3 to 3");
    // A later writer that says what we can read is read, and not written to.
    reborn(&path, 4, 3);
    let read = Store::open_read_only(&path).unwrap();
    assert_eq!(read.snapshot().unwrap().count("Property").unwrap(), 600);
    drop(read);
    let written = Store::open(&path).unwrap_err();
    assert!(matches!(written, Error::Format { .. }));
    assert!(
        written.to_string().ends_with("may read it and not write"),
        "{written}"
    );
    reborn(&path, 3, 3);
    let store = Store::open(&path).unwrap();
    fresh::verified(&store);
}

#[test]
fn a_store_cut_short_or_overwritten_is_an_error_and_never_a_wrong_answer() {
    let (folder, path) = closed();
    let whole = std::fs::read(&path).unwrap();
    let truth = {
        let store = Store::open(&path).unwrap();
        records(&store).unwrap()
    };
    let damaged = folder.path().join("damaged.redb");
    let mut seen = [0; 3];
    let mut panics = 0;
    let mut check = |bytes: &[u8], what: &str| {
        std::fs::write(&damaged, bytes).unwrap();
        let read = || Store::open(&damaged).and_then(|store| records(&store));
        // The engine trusts its own pages, and panics over some that are damaged.
        let Ok(result) = std::panic::catch_unwind(read) else {
            panics += 1;
            return;
        };
        match result {
            // The damage was in pages that hold nothing, or nothing that was asked for.
            Ok(found) => {
                assert!(found == truth, "{what}: a wrong answer");
                seen[0] += 1;
            }
            Err(Error::Corrupt { .. } | Error::Format { .. }) => seen[1] += 1,
            Err(Error::Storage(_) | Error::Io { .. }) => seen[2] += 1,
            Err(other) => panic!("{what}: {other:?}"),
        }
    };
    for share in 1..16 {
        let end = whole.len() * share / 16;
        check(&whole[..end], &format!("cut at {end} of {}", whole.len()));
    }
    let mut bytes = whole.clone();
    for at in (4_096..whole.len()).step_by(whole.len() / 61) {
        let end = (at + 64).min(whole.len());
        bytes[at..end].fill(0xa5);
        check(&bytes, &format!("64 bytes at {at}"));
        bytes[at..end].copy_from_slice(&whole[at..end]);
    }
    assert!(seen[1] + seen[2] > 10, "{seen:?}");
    assert!(panics < 10, "{panics} of {seen:?}");
}

fn records(store: &Store) -> Result<Vec<String>, Error> {
    let snapshot = store.snapshot()?;
    let mut out = Vec::new();
    let now = relist::store::AsOf::Sequence(snapshot.sequence());
    snapshot.scan("Property", now, |_, record| {
        out.push(record.to_json(None));
        Ok(true)
    })?;
    Ok(out)
}

/// A process that holds a store; it goes when its input is closed.
struct Holder(Child);

impl Holder {
    fn of(path: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_writer"))
            .arg("hold")
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Holder(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_store_in_use_by_another_process_is_read_and_not_written() {
    let (_folder, path) = closed();
    let mut holder = Holder::of(&path);
    for _ in 0..3 {
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error:?}");
        assert!(
            error
                .to_string()
                .starts_with("the store is in use by another process")
        );
    }
    let reader = Store::open_read_only(&path).unwrap();
    assert_eq!(reader.snapshot().unwrap().count("Property").unwrap(), 600);
    let error = reader.begin_write(Timestamp(9)).err().unwrap();
    assert_eq!(error.to_string(), "the store was opened for reading only");
    drop(reader);
    // When it has ended, by itself or killed, the store is free.
    holder.0.stdin.take().unwrap().flush().unwrap();
    assert!(holder.0.wait().unwrap().success());
    drop(Store::open(&path).unwrap());
    drop(Holder::of(&path));
    let store = Store::open(&path).unwrap();
    fresh::verified(&store);
}

#[test]
fn to_create_replaces_nothing() {
    let (_folder, path) = closed();
    let before = std::fs::read(&path).unwrap();
    match Store::create(&path, Timestamp(0)) {
        Err(Error::Io { context, source }) => {
            assert_eq!(context, format!("cannot create {}", path.display()));
            assert_eq!(source.kind(), std::io::ErrorKind::AlreadyExists);
        }
        other => panic!("{other:?}"),
    }
    assert!(std::fs::read(&path).unwrap() == before);
    let nowhere = path.with_file_name("no").join("folder.redb");
    assert!(matches!(
        Store::create(&nowhere, Timestamp(0)),
        Err(Error::Io { .. })
    ));
}

#[test]
fn of_many_that_create_at_once_one_wins() {
    for _ in 0..5 {
        let folder = folder();
        let path = folder.path().join(FILE);
        let start = || {
            Command::new(env!("CARGO_BIN_EXE_writer"))
                .arg("create")
                .arg(&path)
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        };
        let children: Vec<Child> = (0..20).map(|_| start()).collect();
        let ends = children.into_iter().map(|mut child| child.wait().unwrap());
        assert_eq!(ends.filter(std::process::ExitStatus::success).count(), 1);
        fresh::verified(&Store::open(&path).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
