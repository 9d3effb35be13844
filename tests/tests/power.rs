//! The power goes, or the disk fails, under everything that writes: nothing that was acknowledged
//! is lost, nothing is logged twice, every store opens.
//!
//! `RELIST_CUTS` says how often the power goes (10,000), `RELIST_SEED` from which seed on;
//! `RELIST_TROUBLE=all` lets every single operation fail instead of one in some.

use relist_tests::power::{self, Cutting, Story, Tally};
use relist_tests::simulation::Rng;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|e| panic!("{name}={text}: {e}")),
    )
}

/// Cuts until there are so many, on two threads, each with numbers of its own.
fn cut(paths: fn() -> Vec<power::Path>, wanted: u64, cutting: Cutting) -> Tally {
    let begun = std::time::Instant::now();
    let seed = number("RELIST_SEED").unwrap_or(1);
    let story = Story::play(&paths());
    let run = |thread: u64| {
        let (mut rng, mut tally) = (Rng(seed.wrapping_mul(2) + thread), Tally::default());
        while tally.cuts < wanted / 2 && tally.wrong.is_empty() {
            tally.add(story.cuts(&paths(), cutting, &mut rng));
        }
        tally
    };
    let mut tally = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(1));
        let mut tally = run(0);
        tally.add(other.join().unwrap());
        tally
    });
    tally.wrong.truncate(20);
    let (operations, states) = story.size();
    println!(
        "RELIST_SEED={seed}: {operations} operations, {states} states: {} cuts, {} more during \
         recovery, {} before there was a store, {} verified and gone on with, {} wrong; {:.1} s",
        tally.cuts,
        tally.double,
        tally.unborn,
        tally.verified,
        tally.wrong.len(),
        begun.elapsed().as_secs_f64()
    );
    tally
}

const CUTTING: Cutting = Cutting {
    step: 1,
    times: 1,
    double_in: 9,
    verify_in: 25,
    lies: false,
};

#[test]
fn whenever_the_power_goes_the_store_is_what_it_was_or_what_it_became() {
    let wanted = number("RELIST_CUTS").unwrap_or(10_000);
    let tally = cut(power::all, wanted, CUTTING);
    assert!(tally.wrong.is_empty(), "{}", tally.wrong.join("\n"));
    assert!(tally.double * 10 >= wanted, "{tally:?}");
    // And where records are so many that they are compressed by a dictionary.
    let cutting = Cutting {
        step: 3,
        verify_in: 50,
        ..CUTTING
    };
    let tally = cut(power::training, wanted / 100, cutting);
    assert!(tally.wrong.is_empty(), "{}", tally.wrong.join("\n"));
}

#[test]
fn a_disk_that_forgets_is_found_out() {
    power::hush();
    let cutting = Cutting {
        lies: true,
        ..CUTTING
    };
    let tally = cut(power::all, 100, cutting);
    assert!(!tally.wrong.is_empty());
}

#[test]
fn whichever_operation_fails_the_error_is_clean_and_so_is_the_store() {
    let begun = std::time::Instant::now();
    let all = std::env::var("RELIST_TROUBLE").is_ok_and(|text| text == "all");
    let (step, first) = if all { (1, 0) } else { (13, 5) };
    let (count, mut wrong) = power::troubles(&power::all(), step, first);
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{count} operations failed, {} wrong; {seconds:.1} s",
        wrong.len()
    );
    wrong.truncate(20);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
