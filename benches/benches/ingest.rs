//! Ingest, whole: pages in memory to durable records, versions and changelog.
//!
//! `cargo bench -p relist-benches --bench ingest`; listings by `RELIST_BENCH_LISTINGS`.

#![expect(clippy::unwrap_used, reason = "a benchmark stops at whatever is wrong")]

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use relist::schema::Schema;
use relist_benches::{Body, PAGE, check, deletions, ingest, listings, store};
use relist_sim::{Backend as _, Waves};

/// Both waves, and what they must leave.
struct Workload {
    schema: Schema,
    first: Vec<Body>,
    second: Vec<Body>,
    deleted: Vec<u32>,
    listings: u64,
    live: u64,
    field_changes: u64,
    inserted: u64,
    unchanged: u64,
}

fn bytes(pages: &[Body]) -> u64 {
    pages.iter().map(|page| page.len() as u64).sum()
}

fn workload() -> Workload {
    let listings = listings().unwrap();
    let mut waves = Waves::new(1, listings);
    let schema = waves.market().schema().clone();
    let first = waves.pages(PAGE).map(Body::from).collect();
    let expected = waves.second();
    let second = waves.pages(PAGE).map(Body::from).collect();
    Workload {
        schema,
        first,
        second,
        listings: u64::from(listings),
        live: expected.records,
        field_changes: expected.field_changes,
        inserted: expected.inserted,
        unchanged: expected.unchanged,
        deleted: expected.deleted,
    }
}

fn wave_1(load: &Workload, path: &Path) -> Duration {
    let store = store(path, &load.schema).unwrap();
    let begun = Instant::now();
    let report = ingest(&store, "Property", &load.first, 1).unwrap();
    let took = begun.elapsed();
    assert_eq!((report.inserted, report.quarantined), (load.listings, 0));
    took
}

fn wave_2(load: &Workload, path: &Path) -> Duration {
    let store = relist::store::Store::open(path).unwrap();
    let begun = Instant::now();
    let report = ingest(&store, "Property", &load.second, 2).unwrap();
    let gone = ingest(&store, "Deleted", &[deletions(&load.deleted)], 3).unwrap();
    let took = begun.elapsed();
    assert_eq!(
        (report.inserted, report.unchanged),
        (load.inserted, load.unchanged)
    );
    assert_eq!(report.field_changes, load.field_changes);
    assert_eq!(gone.deleted, load.deleted.len() as u64);
    took
}

fn waves(c: &mut Criterion) {
    let load = workload();
    let mut group = c.benchmark_group("ingest");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for (unit, amount) in [
        ("records", Throughput::Elements(load.listings)),
        ("bytes", Throughput::Bytes(bytes(&load.first))),
    ] {
        group.throughput(amount);
        group.bench_function(format!("wave 1, all new, {unit}"), |b| {
            b.iter_custom(|times| (0..times).map(|_| fresh(&load, 1)).sum());
        });
    }
    for (unit, amount) in [
        ("records", Throughput::Elements(load.live)),
        ("bytes", Throughput::Bytes(bytes(&load.second))),
    ] {
        group.throughput(amount);
        group.bench_function(format!("wave 2, 95 % unchanged, {unit}"), |b| {
            b.iter_custom(|times| (0..times).map(|_| fresh(&load, 2)).sum());
        });
    }
    group.finish();
}

/// One run in a new folder; the time of the wave asked for.
fn fresh(load: &Workload, wave: u32) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bench.redb");
    let first = wave_1(load, &path);
    if wave == 1 {
        check(&path, load.listings, 0).unwrap();
        return first;
    }
    let second = wave_2(load, &path);
    check(&path, load.live, load.field_changes).unwrap();
    second
}

criterion_group!(benches, waves);
criterion_main!(benches);
