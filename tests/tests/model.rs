//! Random histories of a small store, against a model of it that is a list of states.
//!
//! Pages, deletions, relistings, sweeps, power cuts in the middle of any of them, reopenings; and
//! after each, questions of now and of any past sequence. `RELIST_MODELS` says how many histories
//! (10,000), `RELIST_SEED` plays one and tells it, `RELIST_FIRST_SEED` is where to begin.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use relist::error::Result;
use relist::keycode::Key;
use relist::odata::Query;
use relist::query::QueryContext;
use relist::record::Record;
use relist::schema::Schema;
use relist::store::{AsOf, Cause, DeleteOutcome, Operation, RunReport, Snapshot, Store};
use relist::sync::{Policy, SyncMode, SyncOptions};
use relist::value::{Timestamp, Value};
use relist_sim::{Dataset, Direct, Options};
use relist_tests::power::{Durable, Held, METADATA, NOW, STORE, SimFolder};
use relist_tests::simulation::Rng;
use serde_json::json;

const NAME: &str = "Property";
/// Steps of a history.
const STEPS: u64 = 6;
/// Keys are below this.
const KEYS: u64 = 9;

/// One row of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    price: Option<i64>,
    status: &'static str,
    /// How long its remarks are.
    rooms: usize,
    stamp: u64,
}

impl Row {
    fn json(&self, key: i64) -> serde_json::Value {
        json!({
            "ListingKeyNumeric": key,
            "ListPrice": self.price,
            "StandardStatus": self.status,
            "PublicRemarks": "A room. ".repeat(self.rooms),
            "ModificationTimestamp": stamp(self.stamp),
        })
    }

    /// As the text of a record in the store.
    fn text(&self, key: i64) -> String {
        text(&self.json(key))
    }

    /// Names of the fields that differ.
    fn differs(&self, other: &Row) -> Vec<&'static str> {
        let mut out = Vec::new();
        let all = [
            ("ListPrice", self.price != other.price),
            ("StandardStatus", self.status != other.status),
            ("PublicRemarks", self.rooms != other.rooms),
            ("ModificationTimestamp", self.stamp != other.stamp),
        ];
        out.extend(
            all.iter()
                .filter(|(_, differs)| *differs)
                .map(|(name, _)| *name),
        );
        out
    }
}

fn stamp(minutes: u64) -> String {
    format!(
        "2026-03-01T{:02}:{:02}:00Z",
        minutes / 60 % 24,
        minutes % 60
    )
}

fn stamp_micros(minutes: u64) -> i64 {
    1_772_323_200_000_000 + i64::try_from(minutes % 1_440).unwrap() * 60_000_000
}

/// A record without its nulls, members in order of name.
fn text(record: &serde_json::Value) -> String {
    let members: BTreeMap<_, _> = record.as_object().unwrap().iter().collect();
    let mut out = String::new();
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        let _ = write!(out, "{name}={value};");
    }
    out
}

fn record_text(record: &Record) -> String {
    text(&serde_json::from_str(&record.to_json(None)).unwrap())
}

/// What is current, by key; `None` for what is deleted.
type State = BTreeMap<i64, Option<Row>>;

/// One change that a step makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    key: i64,
    operation: &'static str,
    fields: Vec<&'static str>,
}

/// The store, its folder and the model of it.
struct World {
    rng: Rng,
    held: Held,
    /// The state after each sequence, from 0 on.
    states: Vec<State>,
    /// The changes, from sequence 1 on; `None` is a change of the schema.
    changes: Vec<Option<Step>>,
    clock: u64,
    cuts: u64,
    story: String,
}

/// What a step of a history does.
#[derive(Debug)]
enum Act {
    Pages(Vec<BTreeMap<i64, Row>>),
    Delete(i64, Option<u64>),
    /// The feed has these rows and no others.
    Sweep(BTreeMap<i64, Row>),
}

impl World {
    fn new(seed: u64) -> World {
        let folder = SimFolder::default();
        let store = Store::create_in(folder.shared(), Path::new(STORE), NOW).unwrap();
        let mut txn = store.begin_write(NOW).unwrap();
        let schema = Schema::from_metadata(METADATA.as_bytes()).unwrap();
        txn.define(&schema).unwrap();
        let sequence = usize::try_from(txn.commit().unwrap()).unwrap();
        World {
            rng: Rng(seed),
            held: Held {
                store: Some(store),
                folder,
            },
            states: vec![State::new(); sequence + 1],
            changes: vec![None; sequence],
            clock: 0,
            cuts: 0,
            story: String::new(),
        }
    }

    fn store(&self) -> &Store {
        self.held.store()
    }

    fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    fn key(&mut self) -> i64 {
        1 + i64::try_from(self.rng.below(KEYS)).unwrap()
    }

    fn row(&mut self, key: i64) -> Row {
        // Often what is there already, or nearly.
        let held = self.now().get(&key).cloned().flatten();
        if let Some(held) = held {
            if self.rng.chance(30) {
                return held;
            }
            if self.rng.chance(30) {
                let price = Some(i64::try_from(self.rng.below(4)).unwrap() * 1_000);
                return Row { price, ..held };
            }
        }
        self.clock += self.rng.below(3);
        let rooms = usize::try_from(self.rng.below(40)).unwrap();
        Row {
            price: self
                .rng
                .chance(80)
                .then(|| i64::try_from(self.clock).unwrap() * 100),
            status: self.rng.pick::<&str>(&["Active", "Pending", "Closed"]),
            rooms,
            stamp: self.clock,
        }
    }

    fn page(&mut self) -> BTreeMap<i64, Row> {
        let count = self.rng.below(6);
        let keys: Vec<i64> = (0..count).map(|_| self.key()).collect();
        keys.into_iter().map(|key| (key, self.row(key))).collect()
    }

    fn act(&mut self) -> Act {
        match self.rng.below(10) {
            0..=5 => {
                let pages = 1 + self.rng.below(3);
                Act::Pages((0..pages).map(|_| self.page()).collect())
            }
            6 | 7 => {
                let key = self.key();
                let at = self.rng.chance(50).then(|| self.rng.below(self.clock + 2));
                Act::Delete(key, at)
            }
            _ => {
                let mut rows: BTreeMap<i64, Row> = self
                    .now()
                    .iter()
                    .filter_map(|(key, row)| Some((*key, row.clone()?)))
                    .collect();
                if let Some(key) = rows.keys().copied().nth(0).filter(|_| self.rng.chance(60)) {
                    rows.remove(&key);
                }
                // An empty feed is not believed.
                if rows.is_empty() {
                    return Act::Pages(vec![self.page()]);
                }
                Act::Sweep(rows)
            }
        }
    }

    /// What the model says comes of it: the changes of each transaction.
    fn expect(&self, act: &Act) -> Vec<Vec<(Step, Option<Row>)>> {
        let mut state = self.now().clone();
        match act {
            Act::Pages(pages) => {
                let mut out = Vec::new();
                for page in pages {
                    let mut own = Vec::new();
                    for (key, row) in page {
                        let held = state.get(key).cloned();
                        let (operation, fields) = match &held {
                            None => ("insert", Vec::new()),
                            Some(None) => ("relist", Vec::new()),
                            Some(Some(held)) if held == row => continue,
                            Some(Some(held)) => ("update", held.differs(row)),
                        };
                        let key = *key;
                        own.push((
                            Step {
                                key,
                                operation,
                                fields,
                            },
                            Some(row.clone()),
                        ));
                        state.insert(key, Some(row.clone()));
                    }
                    out.push(own);
                }
                out
            }
            Act::Delete(key, at) => {
                let step = Step {
                    key: *key,
                    operation: "delete",
                    fields: Vec::new(),
                };
                match state.get(key) {
                    Some(Some(row))
                        if at.is_none_or(|at| stamp_micros(row.stamp) <= stamp_micros(at)) =>
                    {
                        vec![vec![(step, None)]]
                    }
                    _ => vec![Vec::new()],
                }
            }
            Act::Sweep(rows) => {
                let gone = state
                    .iter()
                    .filter(|(key, row)| row.is_some() && !rows.contains_key(key));
                let delete = |key: &i64| Step {
                    key: *key,
                    operation: "delete",
                    fields: Vec::new(),
                };
                vec![gone.map(|(key, _)| (delete(key), None)).collect()]
            }
        }
    }
}

fn run(store: &Store, act: &Act) -> Result<()> {
    match act {
        Act::Pages(pages) => {
            for page in pages {
                let rows: Vec<_> = page.iter().map(|(key, row)| row.json(*key)).collect();
                let mut txn = store.begin_write(NOW)?;
                let body = json!({ "value": rows }).to_string();
                txn.apply_page(NAME, "a page", body.as_bytes())?;
                txn.commit()?;
            }
            Ok(())
        }
        Act::Delete(key, at) => {
            let mut txn = store.begin_write(NOW)?;
            let at = at.map(|at| Timestamp(stamp_micros(at)));
            let outcome = txn.delete(NAME, &Key::Int(*key), at, Cause::DeletedFeed, "")?;
            assert!(at.is_some() || outcome != DeleteOutcome::Newer);
            txn.commit().map(drop)
        }
        Act::Sweep(rows) => {
            let rows = rows.iter().map(|(key, row)| row.json(*key));
            let mut data = Dataset::new()
                .with_resource(NAME, "ListingKeyNumeric", rows)
                .unwrap();
            data.set_now(1_772_500_000);
            let mut source = Direct::new(Arc::new(Mutex::new(data)), Options::default());
            let options = SyncOptions {
                mode: SyncMode::Reconcile,
                max_pages: None,
                confirm: true,
                now: &|| NOW,
            };
            let mut progress = |_: &RunReport| {};
            store
                .sync(
                    NAME,
                    &mut source,
                    &Policy::default(),
                    &options,
                    &mut progress,
                )
                .map(drop)
        }
    }
}

impl World {
    /// Plays one step: the store does it, the model says what must come of it.
    fn step(&mut self) {
        let act = self.act();
        let expected = self.expect(&act);
        let cut = self.rng.chance(25);
        let _ = writeln!(self.story, "{}{act:?}", if cut { "cut: " } else { "" });
        let before = cut.then(|| {
            self.held.folder.record();
            self.held.folder.files()
        });
        run(self.store(), &act).unwrap();
        if let Some(before) = before {
            // The power goes somewhere in it.
            let log = self.held.folder.recorded();
            self.held.store = None;
            let mut durable = Durable::new(before);
            let at = usize::try_from(self.rng.below(log.len() as u64 + 1)).unwrap();
            log.iter().take(at).for_each(|done| durable.push(done));
            let files = durable.cut(&mut self.rng);
            self.held = Held::open(SimFolder::holding(files)).unwrap();
            self.cuts += 1;
        } else if self.rng.chance(10) {
            self.held.reopen().unwrap();
        }
        let snapshot = self.store().snapshot().unwrap();
        self.take_over(&snapshot, expected, cut);
        self.ask(&snapshot);
    }

    /// Whole transactions of what was expected are in the log, all of them unless the power went.
    fn take_over(
        &mut self,
        snapshot: &Snapshot,
        expected: Vec<Vec<(Step, Option<Row>)>>,
        cut: bool,
    ) {
        let known = self.changes.len() as u64;
        let mut logged = Vec::new();
        for change in snapshot.changes(known).unwrap() {
            let change = change.unwrap();
            let Some(Key::Int(key)) = change.key else {
                panic!("{change:?}")
            };
            let mut fields: Vec<&'static str> = Vec::new();
            for field in &change.fields {
                let name = FIELDS.iter().find(|name| **name == field.name);
                fields.push(name.unwrap_or_else(|| panic!("{change:?}")));
            }
            logged.push(Step {
                key,
                operation: change.operation.name(),
                fields,
            });
        }
        let mut logged = logged.into_iter();
        let transactions = expected.len();
        for (number, transaction) in expected.into_iter().enumerate() {
            let mut own: Vec<Step> = logged.by_ref().take(transaction.len()).collect();
            if own.is_empty() && cut {
                continue;
            }
            let order = own.clone();
            let mut steps: Vec<Step> = transaction.iter().map(|(step, _)| step.clone()).collect();
            steps.sort();
            own.sort();
            for step in steps.iter_mut().chain(&mut own) {
                step.fields.sort_unstable();
            }
            assert_eq!(own, steps, "transaction {number} of {transactions}");
            for step in order {
                let row = transaction
                    .iter()
                    .find(|(other, _)| other.key == step.key)
                    .unwrap()
                    .1
                    .clone();
                let mut state = self.now().clone();
                state.insert(step.key, row);
                self.states.push(state);
                self.changes.push(Some(step));
            }
        }
        assert_eq!(logged.next(), None);
        assert_eq!(snapshot.sequence(), self.changes.len() as u64);
    }

    /// What is asked of now and of the past.
    fn ask(&mut self, snapshot: &Snapshot) {
        let last = self.changes.len() as u64;
        for at in [last, self.rng.below(last + 1), self.rng.below(last + 1)] {
            let state = self.states[usize::try_from(at).unwrap()].clone();
            let live: BTreeMap<i64, &Row> = state
                .iter()
                .filter_map(|(key, row)| Some((*key, row.as_ref()?)))
                .collect();
            let mut found = BTreeMap::new();
            let scan = snapshot.scan(NAME, AsOf::Sequence(at), |key, record| {
                let Key::Int(key) = key else { panic!("{key}") };
                found.insert(*key, record_text(&record));
                Ok(true)
            });
            scan.unwrap();
            let expected: BTreeMap<i64, String> = live
                .iter()
                .map(|(key, row)| (*key, row.text(*key)))
                .collect();
            assert_eq!(found, expected, "as of {at} of {last}");
            let key = self.key();
            let got = snapshot
                .get_at(NAME, &Key::Int(key), AsOf::Sequence(at))
                .unwrap();
            assert_eq!(got.as_ref().map(record_text), expected.get(&key).cloned());
            let floor = i64::try_from(self.rng.below(self.clock + 1)).unwrap() * 100;
            let query = Query::new(NAME)
                .filter(&format!("ListPrice ge {floor}"))
                .unwrap();
            let context = QueryContext {
                as_of: Some(AsOf::Sequence(at)),
                ..QueryContext::new(Timestamp(0))
            };
            let rows = snapshot.query(&query, &context).unwrap().rows;
            let key_of = |row: &Record| match row.get("ListingKeyNumeric") {
                Some(Value::Int(key)) => key,
                other => panic!("{other:?}"),
            };
            let mut found: Vec<i64> = rows.iter().map(key_of).collect();
            found.sort_unstable();
            let passing = live
                .iter()
                .filter(|(_, row)| row.price.is_some_and(|p| p >= floor));
            assert_eq!(found, passing.map(|(key, _)| *key).collect::<Vec<_>>());
        }
        let key = self.key();
        let changes = snapshot.changes_of(NAME, &Key::Int(key)).unwrap();
        let own = self.changes.iter().flatten().filter(|step| step.key == key);
        let own: Vec<&str> = own.map(|step| step.operation).collect();
        let operations = changes
            .iter()
            .map(|change| Operation::name(change.operation));
        assert_eq!(operations.collect::<Vec<_>>(), own);
    }

    fn finish(&self) {
        let report = self.store().snapshot().unwrap().verify().unwrap();
        assert!(report.is_clean(), "{:?}", report.problems);
        let live = self.now().values().flatten().count() as u64;
        assert_eq!(report.records, live);
    }
}

const FIELDS: [&str; 4] = [
    "ListPrice",
    "StandardStatus",
    "PublicRemarks",
    "ModificationTimestamp",
];

/// Plays a history; its story when it went wrong, else how often the power went.
fn play(seed: u64) -> std::result::Result<u64, String> {
    let mut world = World::new(seed);
    let played = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            world.step();
        }
        world.finish();
    }));
    let Err(panic) = played else {
        if std::env::var_os("RELIST_SEED").is_some() {
            println!("{}", world.story);
        }
        return Ok(world.cuts);
    };
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let text = text.unwrap_or_default();
    Err(format!("RELIST_SEED={seed}\n{}{text}", world.story))
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|e| panic!("{name}={text}: {e}")),
    )
}

#[test]
fn whatever_happens_the_store_says_what_the_model_says() {
    if let Some(seed) = number("RELIST_SEED") {
        play(seed).unwrap_or_else(|story| panic!("{story}"));
        return;
    }
    let (first, wanted) = (
        number("RELIST_FIRST_SEED").unwrap_or(1),
        number("RELIST_MODELS"),
    );
    let wanted = wanted.unwrap_or(10_000);
    let (next, cuts, failed) = (
        AtomicU64::new(first),
        AtomicU64::new(0),
        Mutex::new(Vec::new()),
    );
    let begun = Instant::now();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + wanted || failed.lock().unwrap().len() >= 5 {
                        return;
                    }
                    match play(seed) {
                        Ok(own) => {
                            cuts.fetch_add(own, Ordering::Relaxed);
                        }
                        Err(story) => failed.lock().unwrap().push(story),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!(
        "seeds {first} to {}: {STEPS} steps each, the power went in {}, {} wrong; {:.1} s",
        first + wanted - 1,
        cuts.load(Ordering::Relaxed),
        failed.len(),
        begun.elapsed().as_secs_f64()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
