//! A mirror of a simulated feed: what the sync tests are made of.

use std::sync::{Arc, Mutex};

use relist::error::Result;
use relist::schema::Schema;
use relist::store::{RunReport, Store};
use relist::sync::{Policy, SyncMode, SyncOptions};
use relist::value::Timestamp;
use relist_feed::{Limits, Profile, RetryPolicy, Token, WebApi};
use relist_sim::{Backend, Dataset, Options, Server};

/// A simulated server, a client for it, and a store that mirrors it.
pub struct Mirror<B: Backend + 'static> {
    /// What the server serves.
    pub rows: Arc<Mutex<B>>,
    /// The server.
    pub server: Server,
    /// The store.
    pub store: Store,
    /// Rules of the syncs.
    pub policy: Policy,
    folder: tempfile::TempDir,
}

impl<B: Backend + 'static> Mirror<B> {
    /// Serves `rows` and makes an empty store that knows their schema.
    pub fn new(rows: Arc<Mutex<B>>, options: Options) -> Self {
        let server = Server::start(Arc::clone(&rows), options).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path().join("mirror.redb"), Timestamp(0)).unwrap();
        let mirror = Mirror {
            rows,
            server,
            store,
            policy: Policy::default(),
            folder,
        };
        let schema = Schema::from_metadata(&mirror.api().metadata().unwrap()).unwrap();
        let mut txn = mirror.store.begin_write(Timestamp(0)).unwrap();
        txn.define(&schema).unwrap();
        txn.commit().unwrap();
        mirror
    }

    /// The store's file.
    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("mirror.redb")
    }

    /// A client of the server, that does not wait between its few retries.
    pub fn api(&self) -> WebApi {
        let token = Token::from_env_value("TOKEN", self.server.token()).unwrap();
        let profile = Profile::named("wfrmls").unwrap();
        let base = std::time::Duration::from_millis(1);
        let retry = RetryPolicy {
            max_attempts: 2,
            base,
            ..RetryPolicy::default()
        };
        let url = self.server.base_url();
        WebApi::new(profile, &url, token, Limits::default())
            .unwrap()
            .with_retry(retry)
    }

    /// One sync by the mirror's policy; the time is the server's.
    pub fn sync(&self, resource: &str, mode: SyncMode) -> Result<RunReport> {
        let now = || Timestamp(i64::from(self.rows.lock().unwrap().now()) * 1_000_000);
        let options = SyncOptions {
            mode,
            max_pages: None,
            confirm: false,
            now: &now,
        };
        let mut api = self.api();
        self.store.sync(
            resource,
            &mut api,
            &self.policy,
            &options,
            &mut |_: &RunReport| {},
        )
    }

    /// The records of a resource, in key order, as JSON.
    pub fn records(&self, resource: &str) -> Vec<serde_json::Value> {
        let snapshot = self.store.snapshot().unwrap();
        let mut out = Vec::new();
        let at = relist::store::AsOf::Sequence(snapshot.sequence());
        snapshot
            .scan(resource, at, |_, record| {
                out.push(serde_json::from_str(&record.to_json(None)).unwrap());
                Ok(true)
            })
            .unwrap();
        out
    }

    /// Panics unless the store agrees with itself.
    pub fn verify(&self) {
        let report = self.store.snapshot().unwrap().verify().unwrap();
        assert!(report.is_clean(), "{:?}", report.problems);
    }
}

/// `n` listings on one resource, each stamped by `stamp`, with a price of its key.
pub fn listings(n: i64, stamp: impl Fn(i64) -> String) -> Dataset {
    let rows = (1..=n).map(|key| {
        serde_json::json!({
            "ListingKeyNumeric": key,
            "ListPrice": key * 1_000,
            "StandardStatus": "Active",
            "ModificationTimestamp": stamp(key),
        })
    });
    Dataset::new()
        .with_resource("Property", "ListingKeyNumeric", rows)
        .unwrap()
}
