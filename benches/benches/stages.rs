//! The stages of ingest one by one, each on one thread: what a core does in a second.
//!
//! `cargo bench -p relist-benches --bench stages`. Splitting hashes each record, and decoding
//! encodes it; what the hash alone costs is measured apart.

#![expect(clippy::unwrap_used, reason = "a benchmark stops at whatever is wrong")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use relist::decode::{KeySpec, SplitPage};
use relist::ingest::stages::Decoded;
use relist::schema::{Resource, Schema};
use relist::store::Store;
use relist::value::Timestamp;
use relist_benches::{Body, PAGE, store};
use relist_sim::{Backend as _, Waves};

/// Pages of a measurement.
const PAGES: usize = 20;

struct Workload {
    schema: Schema,
    resource: Resource,
    spec: Arc<KeySpec>,
    first: Vec<Body>,
    /// The same records in other bytes.
    rewritten: Vec<Body>,
}

fn workload() -> Workload {
    let waves = Waves::new(1, u32::try_from(PAGES * PAGE).unwrap());
    let schema = waves.market().schema().clone();
    let resource = schema.resource("Property").unwrap().clone();
    Workload {
        spec: Arc::new(KeySpec::of(&resource)),
        resource,
        schema,
        first: waves.pages(PAGE).map(Body::from).collect(),
        rewritten: waves.rewritten(PAGE).map(Body::from).collect(),
    }
}

impl Workload {
    fn split(&self, pages: &[Body]) -> Vec<SplitPage> {
        let pages = pages.iter().map(|body| body.to_vec());
        pages.map(|body| self.split_one(body)).collect()
    }

    fn split_one(&self, body: Vec<u8>) -> SplitPage {
        SplitPage::split("Property", "bench", body, Some(Arc::clone(&self.spec))).unwrap()
    }

    fn decode(&self, pages: &[SplitPage]) -> Vec<Decoded> {
        let pages = pages.iter();
        pages
            .map(|page| Decoded::decode(page, &self.resource).unwrap())
            .collect()
    }
}

fn reading(c: &mut Criterion) {
    let load = workload();
    let pages = load.split(&load.first);
    let records = pages.iter().map(|page| page.entities.len()).sum::<usize>();
    assert_eq!(records, PAGES * PAGE);
    let (first, other) = (
        load.decode(&pages),
        load.decode(&load.split(&load.rewritten)),
    );
    let mut group = c.benchmark_group("stage");
    group.throughput(Throughput::Elements(records as u64));
    group.bench_function("split, with key and hash", |b| {
        b.iter_batched(
            || {
                load.first
                    .iter()
                    .map(|body| body.to_vec())
                    .collect::<Vec<_>>()
            },
            |bodies| {
                bodies
                    .into_iter()
                    .map(|body| load.split_one(body))
                    .collect::<Vec<_>>()
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("hash alone", |b| {
        b.iter(|| {
            let texts = pages
                .iter()
                .flat_map(|p| p.entities.iter().map(|e| p.text(e)));
            texts.fold(0, |all, text| {
                all ^ xxhash_rust::xxh3::xxh3_128(text.as_bytes())
            })
        });
    });
    group.bench_function("decode and encode", |b| {
        b.iter(|| load.decode(black_box(&pages)));
    });
    group.bench_function("canonical hash", |b| {
        b.iter(|| {
            first
                .iter()
                .fold(0, |all, page| all ^ page.hash(&load.resource))
        });
    });
    group.bench_function("diff, nothing changed", |b| {
        b.iter(|| {
            let pairs = other.iter().zip(&first);
            let differing = pairs.map(|(new, old)| new.diff(old, &load.resource));
            assert_eq!(differing.sum::<usize>(), 0);
        });
    });
    group.finish();
}

fn writing(c: &mut Criterion) {
    let load = workload();
    let mut group = c.benchmark_group("stage");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements((PAGES * PAGE) as u64));
    let folder = tempfile::tempdir().unwrap();
    let mut number = 0;
    let mut fresh = || {
        number += 1;
        store(&folder.path().join(format!("{number}.redb")), &load.schema).unwrap()
    };
    group.bench_function("apply all new, not committed", |b| {
        b.iter_batched(
            &mut fresh,
            |store| {
                drop(applied(&store, &load));
                store
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("commit all new", |b| {
        b.iter_batched(
            || {
                let store = fresh();
                let txn = applied(&store, &load);
                (store, txn)
            },
            |(store, txn)| {
                txn.commit().unwrap();
                store
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// A transaction that holds all pages.
fn applied(store: &Store, load: &Workload) -> relist::store::WriteTxn {
    let mut txn = store.begin_write(Timestamp(1)).unwrap();
    for page in &load.first {
        let report = txn.apply_page("Property", "bench", page).unwrap();
        assert_eq!(report.quarantined, 0);
    }
    txn
}

criterion_group!(benches, reading, writing);
criterion_main!(benches);
