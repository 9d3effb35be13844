//! Bits that flip in a store at rest: whatever is read is what was written, or an error.
//!
//! `RELIST_FLIPS` says how many (500), `RELIST_SEED` from which seed on.

use std::path::Path;

use relist::error::{Error, Result};
use relist::keycode::Key;
use relist::odata::Query;
use relist::query::QueryContext;
use relist::record::Record;
use relist::store::{AsOf, Snapshot, Store, Version};
use relist::value::Timestamp;
use relist_tests::power::{self, Files, Held, SimFolder};
use relist_tests::simulation::Rng;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|e| panic!("{name}={text}: {e}")),
    )
}

/// What can be asked, and what is answered: a line each.
type Answers = Vec<(String, Result<Vec<String>>)>;

/// Asks all that can be asked of a store. `last` is the last sequence that it should have.
fn ask(snapshot: &Snapshot, last: u64) -> Answers {
    let mut out = Answers::new();
    let mut put = |name: String, answer: Result<Vec<String>>| out.push((name, answer));
    let json = |record: &Record| record.to_json(None);
    let name = "Property";
    let moments: Vec<u64> = (1..=last).step_by(7).chain([last]).collect();
    for key in (1..=20).map(Key::Int) {
        let at = moments
            .iter()
            .map(|at| (format!(" at {at}"), AsOf::Sequence(*at)));
        for (when, at) in at {
            let got = snapshot.get_at(name, &key, at);
            put(
                format!("get {key}{when}"),
                got.map(|r| r.iter().map(json).collect()),
            );
        }
        let history = snapshot.history(name, &key).map(|versions| {
            let line = |v: &Version| format!("{} {:?} {}", v.from, v.to, json(&v.record));
            versions.iter().map(line).collect()
        });
        put(format!("history {key}"), history);
        put(
            format!("changes of {key}"),
            snapshot.changes_of(name, &key).map(lines),
        );
    }
    for at in &moments {
        let mut found = Vec::new();
        let scanned = snapshot.scan(name, AsOf::Sequence(*at), |key, record| {
            found.push(format!("{key} {}", json(&record)));
            Ok(true)
        });
        put(format!("scan at {at}"), scanned.map(|()| found));
    }
    let changes = snapshot
        .changes(0)
        .and_then(Iterator::collect::<Result<Vec<_>>>);
    put("changes".to_owned(), changes.map(lines));
    put(
        "tombstones".to_owned(),
        snapshot.tombstones(name).map(lines),
    );
    put(
        "checkpoint".to_owned(),
        snapshot.checkpoint(name).map(|c| lines(vec![c])),
    );
    put("positions".to_owned(), snapshot.positions().map(lines));
    put("runs".to_owned(), snapshot.runs(usize::MAX).map(lines));
    put("aside".to_owned(), snapshot.quarantined().map(lines));
    for ago in [0, 1, 1_000_000] {
        let at = AsOf::Instant(Timestamp(power::NOW.0 - ago));
        put(
            format!("resolve {ago}"),
            snapshot.resolve(at).map(|s| lines(vec![s])),
        );
    }
    for (query, at) in queries()
        .iter()
        .flat_map(|q| moments.iter().map(move |at| (q, at)))
    {
        let context = QueryContext {
            as_of: Some(AsOf::Sequence(*at)),
            ..QueryContext::new(Timestamp(0))
        };
        let found = snapshot.query(query, &context);
        let found = found.map(|found| found.rows.iter().map(json).collect());
        let text = query.filter.as_ref().map(|filter| filter.text.clone());
        put(format!("query {text:?} at {at}"), found);
    }
    out
}

fn lines<T: std::fmt::Debug>(all: impl IntoIterator<Item = T>) -> Vec<String> {
    all.into_iter().map(|one| format!("{one:?}")).collect()
}

fn queries() -> Vec<Query> {
    let of = || Query::new("Property");
    vec![
        of().filter("ListPrice gt 100000")
            .unwrap()
            .orderby("ListPrice desc")
            .unwrap(),
        of().filter("StandardStatus eq 'Active'")
            .unwrap()
            .select(["City", "PublicRemarks"]),
        of().orderby("City,ListPrice").unwrap(),
    ]
}

/// A store of many versions, closed, with no space that is not used.
fn subject() -> (Vec<u8>, u64) {
    let mut held = Held::played(&power::writes());
    let last = held.store().snapshot().unwrap().sequence();
    held.store.as_mut().unwrap().compact().unwrap();
    (held.into_bytes(), last)
}

/// What came of some flips.
#[derive(Debug, Default)]
struct Tally {
    /// No answer is another one.
    harmless: u64,
    /// The store does not open.
    refused: u64,
    /// Some answers are errors, the others what they were.
    named: u64,
    /// Some answers lack what they had, without an error: what was damaged is a page of the
    /// engine's that leads there.
    hidden: u64,
    /// The damage that answers did not show, and a verification did.
    verified: u64,
}

/// What is wrong with answers: some are errors, some lack something.
fn judge(at: usize, answers: &Answers, truth: &Answers) -> (bool, Option<String>) {
    let (mut error, mut lacks) = (false, None);
    for ((name, answer), (_, expected)) in answers.iter().zip(truth) {
        let expected = expected.as_ref().unwrap();
        match answer {
            Ok(answer) => {
                let other = answer.iter().find(|line| !expected.contains(line));
                assert_eq!(other, None, "byte {at}: {name} never was answered so");
                if answer != expected {
                    lacks = Some(format!("{name}: {} of {}", answer.len(), expected.len()));
                }
            }
            Err(Error::Corrupt { .. } | Error::Storage(_)) => error = true,
            Err(other) => panic!("{name}: {other:?}"),
        }
    }
    (error, lacks)
}

/// Whether the store says that something is wrong with it.
fn is_found(mut store: Store) -> bool {
    let verified = store.snapshot().and_then(|snapshot| snapshot.verify());
    verified.map_or(true, |report| !report.is_clean()) || store.check_integrity().is_err()
}

#[test]
fn a_bit_that_flips_is_an_error_or_nothing_and_never_another_value() {
    power::hush();
    let flips = number("RELIST_FLIPS").unwrap_or(500);
    let seed = number("RELIST_SEED").unwrap_or(1);
    let mut rng = Rng(seed);
    let (bytes, last) = subject();
    let open = |bytes: Vec<u8>| {
        let files = Files::one(Path::new(power::STORE), bytes);
        power::open(&SimFolder::holding(files), power::STORE)
    };
    let truth = ask(&open(bytes.clone()).unwrap().snapshot().unwrap(), last);
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut tally = Tally::default();
    for _ in 0..flips {
        let at = used[usize::try_from(rng.below(used.len() as u64)).unwrap()];
        let mut bad = bytes.clone();
        bad[at] ^= 1 << rng.below(8);
        let opened = open(bad).and_then(|store| Ok((store.snapshot()?, store)));
        let (snapshot, store) = match opened {
            Ok(opened) => opened,
            Err(Error::Corrupt { .. } | Error::Format { .. } | Error::Storage(_)) => {
                tally.refused += 1;
                continue;
            }
            Err(other) => panic!("byte {at}: {other:?}"),
        };
        let (error, lacks) = judge(at, &ask(&snapshot, last), &truth);
        drop(snapshot);
        match lacks {
            Some(what) => {
                tally.hidden += 1;
                println!("byte {at}: {what}");
                assert!(
                    error || is_found(store),
                    "byte {at}: {what}, and nothing says so"
                );
                tally.verified += 1;
            }
            None if error => tally.named += 1,
            None => tally.harmless += 1,
        }
    }
    println!(
        "RELIST_SEED={seed}: {flips} flips in {} bytes: {tally:?}",
        bytes.len()
    );
    assert!(tally.named > 0 && tally.hidden * 100 <= flips, "{tally:?}");
}
