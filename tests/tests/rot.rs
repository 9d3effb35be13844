//! Bits that flip in a store at rest: whatever is read is what was written, or an error.
//!
//! `RELIST_FLIPS` says how many (1,000), `RELIST_SEED` from which seed on.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use relist::error::{Error, Result};
use relist::keycode::Key;
use relist::odata::Query;
use relist::query::QueryContext;
use relist::store::{AsOf, Snapshot, Store};
use relist::value::Timestamp;
use relist_tests::power::{self, Held, SimDisk};
use relist_tests::simulation::Rng;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

/// What can be asked, and what is answered.
type Answers = Vec<(String, Result<String>)>;

/// Asks all that can be asked of a store. `last` is the last sequence that it should have.
fn ask(snapshot: &Snapshot, last: u64) -> Answers {
    let mut out = Answers::new();
    let mut put = |name: String, answer: Result<String>| out.push((name, answer));
    let json = |record: &relist::record::Record| record.to_json(None);
    put("sequence".to_owned(), Ok(snapshot.sequence().to_string()));
    let name = "Property";
    put("count".to_owned(), snapshot.count(name).map(|n| n.to_string()));
    let moments: Vec<u64> = (1..=last).step_by(7).chain([last]).collect();
    for key in (1..=20).map(Key::Int) {
        let got = snapshot.get(name, &key);
        put(format!("get {key}"), got.map(|r| format!("{:?}", r.as_ref().map(json))));
        for at in &moments {
            let got = snapshot.get_at(name, &key, AsOf::Sequence(*at));
            put(format!("get {key} at {at}"), got.map(|r| format!("{:?}", r.as_ref().map(json))));
        }
        let history = snapshot.history(name, &key).map(|versions| {
            let line = |v: &relist::store::Version| format!("{} {:?} {}", v.from, v.to, json(&v.record));
            versions.iter().map(line).collect::<String>()
        });
        put(format!("history {key}"), history);
        let changes = snapshot.changes_of(name, &key);
        put(format!("changes of {key}"), changes.map(|c| format!("{c:?}")));
    }
    for at in &moments {
        let mut text = String::new();
        let scanned = snapshot.scan(name, AsOf::Sequence(*at), |key, record| {
            let _ = writeln!(text, "{key} {}", json(&record));
            Ok(true)
        });
        put(format!("scan at {at}"), scanned.map(|()| text));
    }
    let changes = snapshot.changes(0).and_then(|all| all.collect::<Result<Vec<_>>>());
    put("changes".to_owned(), changes.map(|c| format!("{c:?}")));
    put("tombstones".to_owned(), snapshot.tombstones(name).map(|t| format!("{t:?}")));
    put("checkpoint".to_owned(), snapshot.checkpoint(name).map(|c| format!("{c:?}")));
    put("positions".to_owned(), snapshot.positions().map(|p| format!("{p:?}")));
    put("runs".to_owned(), snapshot.runs(usize::MAX).map(|r| format!("{r:?}")));
    put("aside".to_owned(), snapshot.quarantined().map(|q| format!("{q:?}")));
    for ago in [0, 1, 1_000_000] {
        let at = AsOf::Instant(Timestamp(power::NOW.0 - ago));
        put(format!("resolve {ago}"), snapshot.resolve(at).map(|s| s.to_string()));
    }
    for (query, at) in queries().iter().flat_map(|q| moments.iter().map(move |at| (q, at))) {
        let context = QueryContext {
            as_of: Some(AsOf::Sequence(*at)),
            ..QueryContext::new(Timestamp(0))
        };
        let found = if query.apply.is_some() {
            snapshot.apply(query, &context).map(|result| {
                let mut text = String::new();
                for row in &result.rows {
                    result.write_json(row, &mut text);
                }
                text
            })
        } else {
            let found = snapshot.query(query, &context);
            found.map(|found| found.rows.iter().map(json).collect::<String>())
        };
        put(format!("query {query:?} at {at}"), found);
    }
    out
}

fn queries() -> Vec<Query> {
    let of = || Query::new("Property");
    vec![
        of().filter("ListPrice gt 100000").unwrap().orderby("ListPrice desc").unwrap(),
        of().filter("StandardStatus eq 'Active'").unwrap().select(["City", "PublicRemarks"]),
        of().apply("groupby((StandardStatus),aggregate($count as N,ListPrice with sum as S))").unwrap(),
    ]
}

/// A store of many versions, closed, with no space that is not used.
fn subject() -> (Vec<u8>, u64) {
    let mut held = Held {
        store: None,
        disk: SimDisk::default(),
    };
    for path in power::all() {
        (path.run)(&mut held).unwrap();
    }
    let mut store = held.store.take().unwrap();
    let last = store.snapshot().unwrap().sequence();
    store.compact().unwrap();
    drop(store);
    (held.disk.bytes(), last)
}

#[derive(Debug, Default)]
struct Tally {
    harmless: u64,
    refused: u64,
    named: u64,
    wrong: BTreeMap<String, u64>,
    unseen: u64,
}

#[test]
fn a_bit_that_flips_is_an_error_or_nothing_and_never_another_value() {
    power::hush();
    let flips = number("RELIST_FLIPS").unwrap_or(1_000);
    let mut rng = Rng(number("RELIST_SEED").unwrap_or(1));
    let (bytes, last) = subject();
    let truth: Answers = {
        let store = Store::open_on(SimDisk::holding(bytes.clone()).shared()).unwrap();
        ask(&store.snapshot().unwrap(), last)
    };
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    println!("{} bytes, {} of them not 0, sequence {last}, {} questions", bytes.len(), used.len(), truth.len());
    let mut tally = Tally::default();
    for _ in 0..flips {
        let at = used[usize::try_from(rng.below(used.len() as u64)).unwrap()];
        let mut bad = bytes.clone();
        bad[at] ^= 1 << rng.below(8);
        let store = match Store::open_on(SimDisk::holding(bad).shared()) {
            Ok(store) => store,
            Err(Error::Corrupt { .. } | Error::Format { .. } | Error::Storage(_)) => {
                tally.refused += 1;
                continue;
            }
            Err(other) => panic!("{other:?}"),
        };
        let answers = match store.snapshot() {
            Ok(snapshot) => ask(&snapshot, last),
            Err(_) => { tally.refused += 1; continue; }
        };
        let mut any = false;
        let mut wrong = None;
        for ((name, answer), (_, expected)) in answers.iter().zip(&truth) {
            match answer {
                Ok(answer) if answer == expected.as_ref().unwrap() => {}
                Ok(answer) => wrong = wrong.or(Some((name.clone(), answer.clone()))),
                Err(Error::Corrupt { .. } | Error::Storage(_)) => any = true,
                Err(other) => { wrong = wrong.or(Some((name.clone(), format!("{other:?}")))); }
            }
        }
        if let Some((name, answer)) = wrong {
            if std::env::var_os("RELIST_SHOW").is_some() {
                let mut shown = answer; shown.truncate(300);
                println!("byte {at} page {} + {}: {name}: {shown}", at / 4096, at % 4096);
            }
            let kind: String = name.chars().filter(|c| !c.is_ascii_digit()).take(30).collect();
            *tally.wrong.entry(kind).or_default() += 1;
        } else if any {
            tally.named += 1;
        } else {
            tally.harmless += 1;
        }
    }
    println!("{tally:?}");
    assert!(tally.wrong.is_empty());
}
