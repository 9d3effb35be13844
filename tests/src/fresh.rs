//! A new store in a folder of its own, and files ingested into it.

use relist::error::Result;
use relist::ingest::{IngestOptions, Input};
use relist::keycode::Key;
use relist::schema::Schema;
use relist::store::{AsOf, RunReport, Snapshot, Store, VerifyReport};
use relist::value::Timestamp;

/// A store that goes with its folder.
#[derive(Debug)]
pub struct Fresh {
    /// The store.
    pub store: Store,
    /// The folder, which is removed in the end.
    pub folder: tempfile::TempDir,
}

/// The name of the store's file in its folder.
pub const FILE: &str = "fresh.redb";

impl Default for Fresh {
    fn default() -> Self {
        Fresh::new()
    }
}

impl Fresh {
    /// A store that knows nothing.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path().join(FILE), Timestamp(0)).unwrap();
        Fresh { store, folder }
    }

    /// A store that knows the schema of a `$metadata` document.
    pub fn defined(metadata: &[u8]) -> Self {
        let fresh = Fresh::new();
        let schema = Schema::from_metadata(metadata).unwrap();
        let mut txn = fresh.store.begin_write(Timestamp(0)).unwrap();
        txn.define(&schema).unwrap();
        txn.commit().unwrap();
        fresh
    }

    /// Ingests named files at a time. Whatever came of it, all of it is accounted for.
    pub fn ingest<B: AsRef<[u8]>>(
        &self,
        resource: &str,
        files: &[(&str, B)],
        at: i64,
    ) -> RunReport {
        let report = try_ingest(&self.store, resource, files, at).unwrap();
        let accounted = report.applied() + report.unchanged + report.quarantined + report.flagged;
        assert!(
            resource == "Deleted" || report.records == accounted,
            "{report:?}"
        );
        report
    }

    /// A view of the store now.
    pub fn snapshot(&self) -> Snapshot {
        self.store.snapshot().unwrap()
    }

    /// Each current record of a resource as JSON, in order of key.
    pub fn records(&self, resource: &str) -> Vec<(Key, String)> {
        let snapshot = self.snapshot();
        let mut out = Vec::new();
        let now = AsOf::Sequence(snapshot.sequence());
        snapshot
            .scan(resource, now, |key, record| {
                out.push((key.clone(), record.to_json(None)));
                Ok(true)
            })
            .unwrap();
        out
    }

    /// Panics unless the store agrees with itself.
    pub fn verify(&self) -> VerifyReport {
        verified(&self.store)
    }
}

/// Ingests named files into any store at a time.
pub fn try_ingest<B: AsRef<[u8]>>(
    store: &Store,
    resource: &str,
    files: &[(&str, B)],
    at: i64,
) -> Result<RunReport> {
    let inputs: Vec<Result<Input>> = files
        .iter()
        .map(|(name, bytes)| {
            let reader = std::io::Cursor::new(bytes.as_ref().to_vec());
            Ok(Input {
                name: (*name).to_owned(),
                reader: Box::new(reader),
            })
        })
        .collect();
    let now = move || Timestamp(at);
    let options = IngestOptions {
        now: &now,
        key_field: None,
    };
    store.ingest(
        resource,
        inputs.into_iter(),
        &options,
        &mut |_: &RunReport| {},
    )
}

/// Panics unless the store agrees with itself.
pub fn verified(store: &Store) -> VerifyReport {
    let report = store.snapshot().unwrap().verify().unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    report
}

/// Records in a [`page`].
pub const PAGE_RECORDS: u32 = 200;

/// A page of 200 listings of about a kilobyte, the same for the same number.
pub fn page(number: u32) -> String {
    let record = |at: u32| {
        let key = number * PAGE_RECORDS + at;
        // Text that no codec makes small.
        let remarks: Vec<String> = (0..50_u32)
            .map(|i| format!("{:x}", (key + 1).wrapping_mul(2_654_435_761).rotate_left(i)))
            .collect();
        format!(
            "{{\"ListingKey\":\"{key}\",\"ListPrice\":{}.0,\"PublicRemarks\":\"{}\",\
             \"ModificationTimestamp\":\"2026-01-01T00:00:00Z\"}}",
            key * 10,
            remarks.join(" ")
        )
    };
    let records: Vec<String> = (0..PAGE_RECORDS).map(record).collect();
    format!("{{\"value\":[{}]}}", records.join(","))
}
