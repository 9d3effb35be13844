//! The format's promise: what an earlier build of this format wrote is read, and says what it said.
//!
//! `tests/data/format-N.redb.gz` was written by the first build of format N, and is not written
//! again. After a change of the format number there is none of the new one:
//! `RELIST_WRITE_FORMAT=1 cargo test -p relist-tests --test format` writes it, and what it says.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use relist::store::{FORMAT, FORMAT_OLDEST, Store};
use relist_tests::{data, fresh, power};

fn file(format: u32, what: &str) -> PathBuf {
    data::root().join(format!("tests/data/format-{format}.{what}.gz"))
}

fn read(format: u32, what: &str) -> Vec<u8> {
    let path = file(format, what);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut out = Vec::new();
    GzDecoder::new(bytes.as_slice())
        .read_to_end(&mut out)
        .unwrap();
    out
}

fn write(what: &str, bytes: &[u8]) {
    let mut out = GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).unwrap();
    std::fs::write(file(FORMAT, what), out.finish().unwrap()).unwrap();
}

#[test]
fn what_was_written_in_a_format_is_read_for_good() {
    if std::env::var_os("RELIST_WRITE_FORMAT").is_some() {
        let mut held = power::Held::played(&power::writes());
        held.store.as_mut().unwrap().compact().unwrap();
        let told = power::told(&held.store().snapshot().unwrap()).unwrap();
        write("redb", &held.into_bytes());
        write("txt", told.as_bytes());
    }
    for format in FORMAT_OLDEST..=FORMAT {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relist.redb");
        std::fs::write(&path, read(format, "redb")).unwrap();
        let expected = String::from_utf8(read(format, "txt")).unwrap();
        let store = Store::open_read_only(&path).unwrap();
        let snapshot = store.snapshot().unwrap();
        assert_eq!(power::told(&snapshot).unwrap(), expected, "format {format}");
        drop((snapshot, store));
        // And it is written to.
        let store = Store::open(&path).unwrap();
        fresh::verified(&store);
        let row = r#"{"value":[{"ListingKeyNumeric":1,"ListPrice":5}]}"#;
        let report = fresh::try_ingest(&store, "Property", &[("page", row)], i64::MAX).unwrap();
        assert_eq!(report.applied(), 1);
        fresh::verified(&store);
    }
}
