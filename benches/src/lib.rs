//! Seeded workloads shared by the benchmarks.
//!
//! Every benchmark runs on [`relist_sim::Waves`]: the same seed is the same pages. The counts a
//! store must hold afterwards come from the generator, and [`check`] compares them after the file
//! was closed and opened again: a benchmark that loses a record is no benchmark.

use std::path::Path;
use std::sync::Arc;

use relist::error::{Error, Result};
use relist::ingest::{IngestOptions, Input};
use relist::schema::Schema;
use relist::store::{RunReport, Store};
use relist::value::Timestamp;

/// Rows a page, as WFRMLS has them.
pub const PAGE: usize = 200;

/// Listings of a benchmark: `RELIST_BENCH_LISTINGS`, or 20,000.
///
/// # Errors
/// [`Error::Usage`] when the variable is not a number.
pub fn listings() -> Result<u32> {
    match std::env::var("RELIST_BENCH_LISTINGS") {
        Err(_) => Ok(20_000),
        Ok(text) => text
            .parse()
            .map_err(|_| Error::Usage(format!("RELIST_BENCH_LISTINGS is {text:?}, no number"))),
    }
}

/// Makes an empty store that knows the schema.
///
/// # Errors
/// As [`Store::create`].
pub fn store(path: &Path, schema: &Schema) -> Result<Store> {
    let store = Store::create(path, Timestamp(0))?;
    let mut txn = store.begin_write(Timestamp(0))?;
    txn.define(schema)?;
    txn.commit()?;
    Ok(store)
}

/// A page's body, shared: handing it out costs nothing.
pub type Body = Arc<[u8]>;

/// Ingests pages of a resource; every commit is durable.
///
/// # Errors
/// As [`Store::ingest`].
pub fn ingest(store: &Store, resource: &str, pages: &[Body], at: i64) -> Result<RunReport> {
    let inputs = pages.iter().cloned().enumerate().map(|(number, body)| {
        let name = format!("page {number}");
        let reader = Box::new(std::io::Cursor::new(body));
        Ok(Input { name, reader })
    });
    let now = move || Timestamp(at);
    let options = IngestOptions {
        now: &now,
        key_field: None,
    };
    store.ingest(resource, inputs, &options, &mut |_: &RunReport| {})
}

/// A page of the `Deleted` feed that names these listings.
pub fn deletions(keys: &[u32]) -> Body {
    let rows = keys.iter().map(|key| {
        format!(
            "{{\"resource\":\"Property\",\"primary_key\":\"{key}\",\
             \"ts\":\"2099-01-01T00:00:00Z\"}}"
        )
    });
    let page = format!("{{\"value\":[{}]}}", rows.collect::<Vec<_>>().join(","));
    page.into_bytes().into()
}

/// Opens the file again and compares what it holds.
///
/// # Errors
/// [`Error::Corrupt`] when it is not what the generator says.
pub fn check(path: &Path, records: u64, changes: u64) -> Result<()> {
    let store = Store::open(path)?;
    let snapshot = store.snapshot()?;
    let mut scanned = 0;
    let at = relist::store::AsOf::Sequence(snapshot.sequence());
    snapshot.scan("Property", at, |_, _| {
        scanned += 1;
        Ok(true)
    })?;
    let mut logged = 0;
    for change in snapshot.changes(0)? {
        logged += change?.fields.len() as u64;
    }
    if (scanned, logged) == (records, changes) {
        return Ok(());
    }
    Err(Error::Corrupt {
        what: format!(
            "{scanned} records and {logged} field changes, expected {records} and {changes}"
        ),
    })
}
