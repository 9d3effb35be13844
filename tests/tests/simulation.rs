//! Everything at once, out of a seed: a feed that changes, faults, crashes, every kind of run.
//!
//! `RELIST_SIMULATIONS` says how many seeds are tried, `RELIST_SEED` tries one and tells its story,
//! `RELIST_FIRST_SEED` is where to begin.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use relist_tests::simulation::{Rng, World};

/// What came of some seeds.
#[derive(Debug, Default)]
struct Tally {
    syncs: AtomicU64,
    crashes: AtomicU64,
    struck: AtomicU64,
}

/// Runs one seed; the story when it went wrong.
fn run(seed: u64, tally: &Tally) -> Result<World, String> {
    let mut world = World::new(seed);
    let steps = 4 + Rng(seed).below(12);
    let played = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..steps {
            world.step();
        }
        world.finish();
    }));
    tally.syncs.fetch_add(world.syncs, Ordering::Relaxed);
    tally.crashes.fetch_add(world.crashes, Ordering::Relaxed);
    tally.struck.fetch_add(world.struck, Ordering::Relaxed);
    match played {
        Ok(()) => Ok(world),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let story = world.trace.join("\n  ");
            Err(format!(
                "RELIST_SEED={seed}\n  {story}\n{}",
                text.unwrap_or_default()
            ))
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|e| panic!("{name}={text}: {e}")),
    )
}

#[test]
fn every_seed_ends_equal_to_its_feed() {
    let tally = Tally::default();
    if let Some(seed) = number("RELIST_SEED") {
        match run(seed, &tally) {
            Ok(world) => println!("{}", world.trace.join("\n")),
            Err(story) => panic!("{story}"),
        }
        return;
    }
    let seeds = number("RELIST_SIMULATIONS").unwrap_or(120);
    let first = number("RELIST_FIRST_SEED").unwrap_or(1);
    let (next, failed) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let begun = Instant::now();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let enough = failed.lock().unwrap().len() >= 5;
                    if seed >= first + seeds || enough {
                        return;
                    }
                    if let Err(story) = run(seed, &tally) {
                        failed.lock().unwrap().push(story);
                    }
                }
            });
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    let failed = failed.into_inner().unwrap();
    let syncs = tally.syncs.load(Ordering::Relaxed);
    println!(
        "seeds {first} to {}: {syncs} syncs, {} struck by a fault, {} ended by a crash, {} \
         diverged; {seconds:.1} s",
        first + seeds - 1,
        tally.struck.load(Ordering::Relaxed),
        tally.crashes.load(Ordering::Relaxed),
        failed.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn a_seed_decides_everything() {
    let tally = Tally::default();
    let mut told = (11..15).map(|seed| {
        let story = |()| run(seed, &tally).map(|world| world.trace);
        (story(()), story(()))
    });
    assert!(told.all(|(one, other)| one.is_ok() && one == other));
}
