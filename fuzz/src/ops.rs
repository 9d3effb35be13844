//! Operations on a store, and the plainest model of them: a map of records after each sequence.

use std::collections::BTreeMap;

use relist::keycode::Key;
use relist::store::{AsOf, Cause, Scope, Store};
use relist::value::Timestamp;

/// The records, as JSON, by key.
type Records = BTreeMap<i64, String>;

const RESOURCE: &str = "Property";
/// The most operations of one input: each is durable.
const MOST: usize = 24;

/// What the store says of a moment is what the model said then, and all its parts agree.
///
/// An operation is two bytes: what, with a number; and of which key.
///
/// # Panics
/// When that does not hold.
pub fn ops(bytes: &[u8]) {
    let memory = std::path::Path::new("/dev/shm");
    let place = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "-");
    let folder = place.join(format!("relist-ops-{}-{thread}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut store = Store::create(folder.join("s.redb"), Timestamp(0)).expect("a new store");
    let mut model = Model::default();
    for (at, op) in (1..).zip(bytes.chunks_exact(2).take(MOST)) {
        store = model.step(store, at, op[0], i64::from(op[1] % 6));
    }
    model.check(&store);
    drop(store);
    let _ = std::fs::remove_dir_all(&folder);
}

#[derive(Default)]
struct Model {
    now: Records,
    /// By the last sequence of each operation: the records after it.
    then: BTreeMap<u64, Records>,
    edge: u64,
}

impl Model {
    fn step(&mut self, mut store: Store, at: i64, op: u8, key: i64) -> Store {
        let observed = Timestamp(at);
        let number = op / 8;
        match op % 8 {
            0..=3 => {
                let row = format!(r#"{{"K":{key},"N":{number},"T":"text {}"}}"#, number % 5);
                let page = format!(r#"{{"value":[{row},{row}]}}"#);
                let mut txn = store.begin_write(observed).expect("nobody else writes");
                let done = txn.apply_page(RESOURCE, "ops", page.as_bytes());
                // Without a schema the first field is not known to be the key.
                if let Ok(report) = done {
                    assert_eq!(report.records, 2);
                    txn.commit().expect("a commit");
                    if report.quarantined == 0 {
                        self.now.insert(key, row);
                    }
                }
            }
            4 => {
                let mut txn = store.begin_write(observed).expect("nobody else writes");
                // Before the first page there is no resource.
                if txn
                    .delete(RESOURCE, &Key::Int(key), None, Cause::Flag, "")
                    .is_ok()
                {
                    txn.commit().expect("a commit");
                    self.now.remove(&key);
                }
            }
            5 => {
                let records = BTreeMap::from([(RESOURCE.to_owned(), vec![Key::Int(key)])]);
                let scope = Scope::Records(records);
                if let Ok(report) = store.purge(&scope, observed, &mut |_| Ok(false)) {
                    assert!(report.is_complete(), "{report:?}");
                    self.now.remove(&key);
                    self.then
                        .values_mut()
                        .for_each(|records| drop(records.remove(&key)));
                }
            }
            6 => {
                let before = Timestamp(at - i64::from(number % 8));
                let report = store.prune(before, observed).expect("a prune");
                self.edge = self.edge.max(report.edge);
            }
            _ => {
                let path = store.path().to_owned();
                drop(store);
                store = Store::open(path).expect("the store again");
            }
        }
        let sequence = store.snapshot().expect("a snapshot").sequence();
        self.then.insert(sequence, self.now.clone());
        store
    }

    fn check(&self, store: &Store) {
        let snapshot = store.snapshot().expect("a snapshot");
        let report = snapshot.verify().expect("a verification");
        assert!(report.is_clean(), "{:?}", report.problems);
        if snapshot.resource(RESOURCE).is_err() {
            return assert!(self.now.is_empty());
        }
        for (sequence, records) in &self.then {
            let mut found = Records::new();
            let read = snapshot.scan(RESOURCE, AsOf::Sequence(*sequence), |key, record| {
                let Key::Int(key) = key else { panic!("{key}") };
                found.insert(*key, record.to_json(None));
                Ok(true)
            });
            if *sequence < self.edge {
                assert!(read.is_err(), "before the edge {}", self.edge);
                continue;
            }
            read.expect("a moment that is held");
            assert_eq!(&found, records, "at {sequence}");
        }
    }
}
