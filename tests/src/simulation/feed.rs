//! A feed that everything happens to, and what a mirror must know of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use relist_sim::{Dataset, Key, format_timestamp};
use serde_json::{Value, json};

/// 2026-03-02T00:00:00Z, when each feed begins.
const BEGIN: u32 = 1_772_409_600;
/// 2099-01-01T00:00:00Z.
const FUTURE: u32 = 4_070_908_800;
/// What a mirror's overlap covers, with some room.
const SOON: u32 = 600;

/// Numbers out of a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Rng(pub u64);

impl Rng {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.number() % n
    }

    /// A number of `low..=high`.
    pub fn within(&mut self, low: u32, high: u32) -> u32 {
        low + u32::try_from(self.below(u64::from(high - low) + 1)).unwrap()
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let n = self.below(of.len() as u64);
        &of[usize::try_from(n).unwrap()]
    }
}

/// What is known of one row of the feed.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// When its last change was committed.
    pub committed: u32,
    /// Whether that change shows in its stamp, so that an incremental run finds it.
    pub shows: bool,
}

/// The feed, and what happened to it.
#[derive(Debug)]
pub struct Feed {
    rng: Rng,
    /// The rows.
    pub rows: Arc<Mutex<Dataset>>,
    /// Of each row that is there.
    pub told: BTreeMap<i64, Told>,
    /// Keys that were listed as deleted, when, and are still away.
    pub listed: BTreeMap<i64, u32>,
    /// Keys that were away at some time.
    pub ever_away: BTreeSet<i64>,
    /// Rows whose stamp is in the future, or was: a list of deletions may be older.
    pub ahead: BTreeSet<i64>,
    /// Deletions that happened and are not listed yet.
    unlisted: Vec<(i64, u32)>,
    next_key: i64,
    price: i64,
}

impl Feed {
    /// A feed of so many rows.
    pub fn new(seed: u64, rows: u32) -> Self {
        let old = json!({"primary_key": "9999999", "resource": "Member",
            "ts": format_timestamp(BEGIN - 90_000)});
        let data = Dataset::new()
            .with_resource("Property", "ListingKeyNumeric", [])
            .and_then(|data| data.with_resource("Deleted", "primary_key", [old]))
            .unwrap();
        let mut feed = Feed {
            rng: Rng(seed),
            rows: Arc::new(Mutex::new(data)),
            told: BTreeMap::new(),
            listed: BTreeMap::new(),
            ever_away: BTreeSet::new(),
            ahead: BTreeSet::new(),
            unlisted: Vec::new(),
            next_key: 10,
            price: 100_000,
        };
        // The first row gives the fields their types, also when it is taken away again.
        let mut first = feed.row(1, BEGIN - 80_000);
        first["ListPrice"] = json!(1);
        feed.put(1, &first, true);
        if rows == 0 {
            feed.remove(1);
        }
        for _ in 1..rows {
            let stamp = BEGIN - 1 - feed.rng.within(0, 80_000);
            let key = feed.new_key();
            let row = feed.row(key, stamp);
            feed.put(key, &row, true);
        }
        feed
    }

    /// The feed's time.
    pub fn now(&self) -> u32 {
        use relist_sim::Backend as _;
        self.rows.lock().unwrap().now()
    }

    /// Lets time pass.
    pub fn wait(&mut self, seconds: u32) {
        let later = self.now() + seconds;
        self.rows.lock().unwrap().set_now(later);
    }

    /// No incremental run is bound to find what happened so far.
    pub fn hide_all(&mut self) {
        for told in self.told.values_mut() {
            told.shows = false;
        }
        self.listed.clear();
    }

    fn new_key(&mut self) -> i64 {
        self.next_key += i64::from(self.rng.within(1, 9));
        self.next_key
    }

    fn row(&mut self, key: i64, stamp: u32) -> Value {
        self.price += 1;
        let status = *self.rng.pick(&["Active", "Pending", "Closed"]);
        json!({"ListingKeyNumeric": key, "ListPrice": self.price, "StandardStatus": status,
            "City": "Provo", "ModificationTimestamp": format_timestamp(stamp)})
    }

    fn put(&mut self, key: i64, row: &Value, shows: bool) {
        let committed = self.now();
        self.rows.lock().unwrap().put("Property", row).unwrap();
        self.told.insert(key, Told { committed, shows });
        self.listed.remove(&key);
        self.unlisted.retain(|(gone, _)| *gone != key);
    }

    fn remove(&mut self, key: i64) {
        self.rows.lock().unwrap().remove("Property", &Key::Int(key));
        self.told.remove(&key);
        self.ever_away.insert(key);
    }

    fn list(&mut self, key: i64, at: u32) {
        let row = json!({"primary_key": key.to_string(), "resource": "Property",
            "ts": format_timestamp(at)});
        self.rows.lock().unwrap().put("Deleted", &row).unwrap();
        if self.now() - at <= SOON {
            self.listed.insert(key, self.now());
        }
    }

    fn any_key(&mut self) -> Option<i64> {
        let keys: Vec<i64> = self.told.keys().copied().collect();
        (!keys.is_empty()).then(|| *self.rng.pick(&keys))
    }

    fn current(&self, key: i64) -> Value {
        let text = self.rows.lock().unwrap().json("Property", &Key::Int(key));
        serde_json::from_str(&text.unwrap()).unwrap()
    }

    /// Something happens.
    pub fn act(&mut self) {
        let pass = self.rng.within(0, 4);
        self.wait(pass);
        let now = self.now();
        let Some(key) = self.any_key() else {
            return self.insert(now);
        };
        match self.rng.below(100) {
            0..=34 => self.edit(key, now, true),
            35..=49 => self.insert(now),
            50..=55 => {
                self.remove(key);
                self.list(key, now);
            }
            56..=58 => {
                self.remove(key);
                self.unlisted.push((key, now));
            }
            59..=62 => self.remove(key),
            63..=66 => self.relist(now),
            67..=70 => {
                let back = self.rng.within(1, SOON);
                self.edit(key, now - back, true);
            }
            71..=73 => {
                let back = self.rng.within(SOON * 3, 400_000);
                self.edit(key, now - back, false);
            }
            74..=77 => self.edit_silently(key),
            78..=79 => {
                self.ahead.insert(key);
                self.edit(key, FUTURE, true);
            }
            80..=84 => {
                let mut row = self.current(key);
                row["ModificationTimestamp"] = json!(format_timestamp(now));
                self.put(key, &row, true);
            }
            85..=88 => self.drift(key),
            89..=92 => {
                for _ in 0..self.rng.within(3, 30) {
                    if let Some(key) = self.any_key() {
                        self.edit(key, now, true);
                    }
                }
            }
            93..=95 => self.list_late(),
            96..=97 => {
                let mut row = self.row(key, now);
                row["ModificationTimestamp"] = Value::Null;
                self.put(key, &row, false);
            }
            _ => self.list(77_777_777, now),
        }
    }

    fn insert(&mut self, now: u32) {
        // Sometimes in a gap, behind a walk.
        let key = if self.rng.chance(30) {
            i64::from(self.rng.within(2, 9)) - 10 * i64::from(self.rng.within(0, 40))
        } else {
            self.new_key()
        };
        if self.told.contains_key(&key) {
            return;
        }
        let row = self.row(key, now);
        self.put(key, &row, true);
    }

    fn edit(&mut self, key: i64, stamp: u32, shows: bool) {
        let row = self.row(key, stamp);
        self.put(key, &row, shows);
    }

    fn edit_silently(&mut self, key: i64) {
        let mut row = self.current(key);
        self.price += 1;
        row["ListPrice"] = json!(self.price);
        self.put(key, &row, false);
    }

    /// The same value in another form.
    fn drift(&mut self, key: i64) {
        let mut row = self.current(key);
        let price = match &row["ListPrice"] {
            Value::Number(price) => json!(format!("{price}.0")),
            Value::String(price) => json!(price.trim_end_matches(".0").parse::<i64>().unwrap()),
            other => panic!("{other}"),
        };
        row["ListPrice"] = price;
        self.rows.lock().unwrap().put("Property", &row).unwrap();
    }

    fn relist(&mut self, now: u32) {
        let away: Vec<i64> = self.ever_away.iter().copied().collect();
        let away: Vec<i64> = away
            .into_iter()
            .filter(|k| !self.told.contains_key(k))
            .collect();
        if !away.is_empty() {
            let key = *self.rng.pick(&away);
            // Sometimes as it was, with a stamp of before it went.
            let old = self.rng.chance(30);
            self.edit(key, if old { now - 200_000 } else { now }, !old);
        }
    }

    fn list_late(&mut self) {
        for (key, at) in std::mem::take(&mut self.unlisted) {
            self.list(key, at);
        }
    }
}
