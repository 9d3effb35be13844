//! Power cuts and failing disks under everything that writes to a store.
//!
//! A [`Path`] is a name and what it does to a store. [`Story::play`] plays paths one after the
//! other on a disk that remembers, and notes what the store holds whenever the disk made something
//! durable: those are the only states that a store may ever be found in. [`Story::cuts`] then
//! takes the power away at every operation and opens what is left; [`troubles`] lets operations
//! fail. A new path is one entry in a list: see `paths.rs`.

mod disk;
mod paths;

pub use disk::{Done, Durable, SimDisk, Trouble};
pub use paths::{METADATA, Path, all, training};

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher as _};

use relist::error::{Error, Result};
use relist::store::{AsOf, Snapshot, Store};
use relist::value::Timestamp;

use crate::simulation::Rng;

/// A store on a simulated disk, and what belongs to a story about it.
#[derive(Debug)]
pub struct Held {
    /// The store; `None` before it is made.
    pub store: Option<Store>,
    /// The disk.
    pub disk: SimDisk,
}

impl Held {
    /// The store, which was made.
    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("a store")
    }

    /// A store opened on a disk.
    pub fn open(disk: SimDisk) -> Result<Held> {
        let store = Some(Store::open_on(disk.shared())?);
        Ok(Held { store, disk })
    }
}

/// All that a store says, as text: two stores of one text are the same to whoever asks them.
///
/// # Errors
/// When anything of it cannot be read.
pub fn told(snapshot: &Snapshot) -> Result<String> {
    let mut out = String::new();
    let now = AsOf::Sequence(snapshot.sequence());
    let resources = &snapshot.schema().resources;
    let _ = writeln!(out, "{resources:?}");
    for resource in resources.iter().map(|r| r.name.as_str()) {
        snapshot.scan(resource, now, |key, record| {
            let _ = writeln!(out, "{resource} {key} {}", record.to_json(None));
            Ok(true)
        })?;
        let (count, buried) = (snapshot.count(resource)?, snapshot.tombstones(resource)?);
        let checkpoint = snapshot.checkpoint(resource)?;
        let _ = writeln!(out, "{count} {buried:?} {checkpoint:?}");
    }
    for change in snapshot.changes(0)? {
        let _ = writeln!(out, "{:?}", change?);
    }
    let (runs, positions) = (snapshot.runs(usize::MAX)?, snapshot.positions()?);
    let aside = snapshot.quarantined()?;
    let _ = writeln!(
        out,
        "{runs:?} {positions:?} {aside:?} {:?}",
        snapshot.created()?
    );
    snapshot.media(|entry| {
        let _ = writeln!(out, "{entry:?}");
        Ok(true)
    })?;
    let _ = writeln!(
        out,
        "{:?} {:?}",
        snapshot.media_due()?,
        snapshot.media_sequence()?
    );
    Ok(out)
}

/// What a path leaves behind, whatever it took to get there: records, and every field's changes,
/// without the numbers of runs and sequences.
pub fn settled(snapshot: &Snapshot) -> Result<String> {
    let mut out = String::new();
    let now = AsOf::Sequence(snapshot.sequence());
    for resource in snapshot.schema().resources.iter().map(|r| r.name.as_str()) {
        snapshot.scan(resource, now, |key, record| {
            let _ = writeln!(out, "{resource} {key} {}", record.to_json(None));
            for change in snapshot.changes_of(resource, key)? {
                let _ = write!(out, "{:?}", change.operation);
                for field in &change.fields {
                    let text = |cell: Option<relist::record::Cell<'_>>| {
                        cell.map(relist::record::Cell::to_json)
                    };
                    let (old, new) = (text(field.previous()), text(field.new_value()));
                    let _ = write!(out, " {} {old:?} {new:?}", field.name);
                }
            }
            Ok(true)
        })?;
        for (key, tombstone) in snapshot.tombstones(resource)? {
            let own = snapshot.changes_of(resource, &key)?;
            let _ = write!(out, "{} ", own.len());
            let _ = writeln!(out, "{key} {:?} {}", tombstone.cause, tombstone.reason);
        }
        let _ = writeln!(out, "{:?}", snapshot.checkpoint(resource)?.state);
    }
    Ok(out)
}

/// Leaves the engine's panics on damaged files unsaid: they become errors.
pub fn hush() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !relist::store::panic_becomes_error() {
            told(info);
        }
    }));
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The number of what a store says.
fn digest(store: &Store) -> Result<u64> {
    told(&store.snapshot()?).map(|text| hash(&text))
}

/// What was played.
#[derive(Debug)]
pub struct Story {
    /// What was done to the disk.
    log: Vec<Done>,
    /// After how many of these each path had ended, and its name.
    ends: Vec<(usize, &'static str)>,
    /// What the store holds, from the start on: 0 for no store, else a number of all it says.
    states: Vec<u64>,
    /// After how many operations each of them was durable.
    durable_at: Vec<usize>,
}

/// What came of cutting the power.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Cuts.
    pub cuts: u64,
    /// Cuts while a store was opened after a cut.
    pub double: u64,
    /// Of all, how many came before there was a store.
    pub unborn: u64,
    /// How many stores were verified, and went on to the end of their story.
    pub verified: u64,
    /// What went wrong.
    pub wrong: Vec<String>,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: Tally) {
        self.cuts += other.cuts;
        self.double += other.double;
        self.unborn += other.unborn;
        self.verified += other.verified;
        self.wrong.extend(other.wrong);
    }
}

/// How much is cut.
#[derive(Debug, Clone, Copy)]
pub struct Cutting {
    /// At every so many-th operation.
    pub step: usize,
    /// How often at each.
    pub times: u64,
    /// One of so many is cut again while it is opened.
    pub double_in: u64,
    /// One of so many is verified and goes on to the end.
    pub verify_in: u64,
    /// The disk forgets some of what it said was durable.
    pub lies: bool,
}

impl Story {
    /// Plays the paths from an empty disk on.
    pub fn play(paths: &[Path]) -> Story {
        let disk = SimDisk::default();
        disk.record();
        let mut held = Held { store: None, disk };
        let mut ends = Vec::new();
        let mut ended = Vec::new();
        for path in paths {
            (path.run)(&mut held).unwrap_or_else(|e| panic!("{}: {e}", path.name));
            ends.push((held.disk.recorded_len(), path.name));
            ended.push(digest(held.store()).unwrap());
        }
        let log = held.disk.recorded();
        drop(held);
        let mut story = Story {
            log,
            ends,
            states: vec![0],
            durable_at: vec![0],
        };
        story.find_states();
        // What is told when a path ends is durable by then.
        for ((at, name), ended) in story.ends.iter().zip(ended) {
            assert_eq!(
                story.state_at(*at),
                ended,
                "{name} ended before it was durable"
            );
        }
        story
    }

    fn find_states(&mut self) {
        let mut durable = Durable::new(Vec::new());
        for (at, done) in self.log.iter().enumerate() {
            durable.push(done);
            if !matches!(done, Done::Sync) {
                continue;
            }
            let opened = Store::open_on(SimDisk::holding(durable.bytes.clone()).shared());
            let state = opened.and_then(|store| digest(&store));
            // While the store is being made, what is there may be none.
            let state = match state {
                Ok(state) => state,
                Err(_) if self.states.len() == 1 => 0,
                Err(e) => panic!("operation {at}: what is durable cannot be opened: {e}"),
            };
            if self.states.last() != Some(&state) {
                self.states.push(state);
                self.durable_at.push(at + 1);
            }
        }
    }

    /// Which state is durable after so many operations.
    fn index_at(&self, operations: usize) -> usize {
        self.durable_at.partition_point(|at| *at <= operations) - 1
    }

    fn state_at(&self, operations: usize) -> u64 {
        self.states[self.index_at(operations)]
    }

    /// How many operations there were, and how many states.
    pub fn size(&self) -> (usize, usize) {
        (self.log.len(), self.states.len())
    }

    /// Cuts the power all along the story.
    pub fn cuts(&self, paths: &[Path], cutting: Cutting, rng: &mut Rng) -> Tally {
        let mut tally = Tally::default();
        let mut durable = Durable::new(Vec::new());
        for (at, done) in self.log.iter().enumerate() {
            if at.is_multiple_of(cutting.step) && !durable.is_settled() {
                for _ in 0..cutting.times {
                    let mut bytes = durable.cut(rng);
                    if cutting.lies {
                        let (from, len) = (bytes.len() / 2, bytes.len());
                        bytes[from..len].fill(0);
                    }
                    tally.cuts += 1;
                    if let Err(what) = self.cut(at, bytes, paths, cutting, rng, &mut tally) {
                        let path = self.ends.iter().find(|(end, _)| *end > at);
                        let path = path.map_or("the end", |(_, name)| name);
                        tally
                            .wrong
                            .push(format!("operation {at}, in {path}: {what}"));
                    }
                }
            }
            durable.push(done);
        }
        tally
    }

    fn cut(
        &self,
        at: usize,
        bytes: Vec<u8>,
        paths: &[Path],
        cutting: Cutting,
        rng: &mut Rng,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let disk = SimDisk::holding(bytes.clone());
        let twice = rng.below(cutting.double_in) == 0;
        if twice {
            disk.record();
        }
        let state = self.found(at, &disk)?;
        if state == 0 {
            tally.unborn += 1;
            return Ok(());
        }
        let log = disk.recorded();
        if rng.below(cutting.verify_in) == 0 {
            tally.verified += 1;
            self.go_on(at, disk, paths)?;
        }
        if !twice {
            return Ok(());
        }
        // The power goes once more, while the store is opened and closed again.
        let mut durable = Durable::new(bytes);
        let second = usize::try_from(rng.below(log.len() as u64 + 1)).unwrap();
        log.iter().take(second).for_each(|done| durable.push(done));
        tally.double += 1;
        let again = self.found(at, &SimDisk::holding(durable.cut(rng)));
        again
            .map_err(|e| format!("cut again at {second}: {e}"))
            .map(drop)
    }

    /// The state that a store is found in after a cut: the last durable one, or the one under way.
    fn found(&self, at: usize, disk: &SimDisk) -> Result<u64, String> {
        let index = self.index_at(at);
        let allowed = &self.states[index..self.states.len().min(index + 2)];
        let state = match Store::open_on(disk.shared()) {
            Ok(store) => digest(&store).map_err(|e| format!("cannot be read: {e}"))?,
            Err(_) if index == 0 => 0,
            Err(e) => return Err(format!("cannot be opened: {e}")),
        };
        if allowed.contains(&state) {
            return Ok(state);
        }
        Err(match self.states.iter().position(|own| *own == state) {
            Some(own) => format!("state {own}, expected {index} or the next"),
            None => "a state that never was".to_owned(),
        })
    }

    /// The store agrees with itself, and the rest of the story ends as it did.
    fn go_on(&self, at: usize, disk: SimDisk, paths: &[Path]) -> Result<(), String> {
        let mut held = Held::open(disk).map_err(|e| e.to_string())?;
        verified(held.store())?;
        let ended = self.ends.iter().filter(|(end, _)| *end <= at).count();
        for path in paths.iter().skip(ended.max(1)) {
            (path.run)(&mut held).map_err(|e| format!("going on with {}: {e}", path.name))?;
        }
        verified(held.store())?;
        let expected = held_at_end(paths);
        let found = held.store().snapshot().and_then(|s| settled(&s));
        let found = found.map_err(|e| e.to_string())?;
        if found == expected {
            return Ok(());
        }
        let mut lines = expected.lines().zip(found.lines());
        let other = lines.find(|(a, b)| a != b);
        Err(format!("it did not end as it should: {other:?}"))
    }
}

/// What a story leaves behind that nothing disturbs.
fn held_at_end(paths: &[Path]) -> String {
    use std::sync::Mutex;
    // Stories are few, and played again for each cut: of the last one it is remembered.
    static LAST: Mutex<Option<(Vec<&'static str>, String)>> = Mutex::new(None);
    let names: Vec<&'static str> = paths.iter().map(|path| path.name).collect();
    let mut last = LAST.lock().unwrap();
    if let Some((own, text)) = last.as_ref()
        && *own == names
    {
        return text.clone();
    }
    let mut held = Held {
        store: None,
        disk: SimDisk::default(),
    };
    for path in paths {
        (path.run)(&mut held).unwrap();
    }
    let text = settled(&held.store().snapshot().unwrap()).unwrap();
    *last = Some((names, text.clone()));
    text
}

fn verified(store: &Store) -> Result<(), String> {
    let report = store.snapshot().and_then(|snapshot| snapshot.verify());
    let report = report.map_err(|e| e.to_string())?;
    if report.is_clean() {
        return Ok(());
    }
    Err(format!("does not agree with itself: {:?}", report.problems))
}

/// Lets every `step`-th operation of every path fail, in every way; what went wrong, and how many
/// failures there were.
///
/// A failure is a clean error, or none when nothing was lost by it; the disk healed, the store
/// opens, holds what it held before the path or after any of its transactions, agrees with itself,
/// and the path, run again, ends well.
pub fn troubles(paths: &[Path], step: u64, first: u64) -> (u64, Vec<String>) {
    let mut held = Held {
        store: None,
        disk: SimDisk::default(),
    };
    let (mut count, mut wrong) = (0, Vec::new());
    for path in paths {
        let before = held.disk.bytes();
        let unborn = held.store.is_none();
        (path.run)(&mut held).unwrap();
        let after = settled(&held.store().snapshot().unwrap()).unwrap();
        for trouble in Trouble::ALL {
            let mut at = first;
            loop {
                let disk = SimDisk::holding(before.clone());
                match struck(path, &disk, unborn, (at, trouble), &after) {
                    Ok(false) => break,
                    Ok(true) => count += 1,
                    Err(what) => {
                        count += 1;
                        wrong.push(format!("{}, {trouble:?} at {at}: {what}", path.name));
                    }
                }
                at += step;
            }
        }
        // What goes on is what was written, opened anew.
        drop(held.store.take());
        held = Held::open(held.disk.clone()).unwrap();
    }
    (count, wrong)
}

/// Whether the path came so far that the trouble struck.
fn struck(
    path: &Path,
    disk: &SimDisk,
    unborn: bool,
    (at, trouble): (u64, Trouble),
    after: &str,
) -> Result<bool, String> {
    let mut held = Held {
        store: None,
        disk: disk.clone(),
    };
    if !unborn {
        held.store = Some(Store::open_on(disk.shared()).map_err(|e| e.to_string())?);
    }
    disk.fail(at, trouble);
    let result = (path.run)(&mut held);
    // Closing writes too, and may fail as well.
    drop(held.store.take());
    if !disk.heal() {
        return result
            .map(|()| false)
            .map_err(|e| format!("without a reason: {e}"));
    }
    match &result {
        Ok(()) | Err(Error::Storage(_)) => {}
        Err(Error::Io { .. }) if unborn => {}
        Err(e) => return Err(format!("not a clean error: {e:?}")),
    }
    if let (Trouble::Full, Err(Error::Storage(error))) = (trouble, &result)
        && !error.is_disk_full()
        && !error.to_string().contains("Previous I/O error")
    {
        return Err(format!("does not say that the disk is full: {error}"));
    }
    let mut held = match Held::open(disk.clone()) {
        Ok(held) => held,
        Err(_) if unborn && result.is_err() => return Ok(true),
        Err(e) => return Err(format!("cannot be opened: {e}")),
    };
    verified(held.store())?;
    if !unborn {
        (path.run)(&mut held).map_err(|e| format!("run again: {e}"))?;
        verified(held.store())?;
    }
    let found = held.store().snapshot().and_then(|s| settled(&s));
    let found = found.map_err(|e| e.to_string())?;
    if found == after {
        return Ok(true);
    }
    let other = after.lines().zip(found.lines()).find(|(a, b)| a != b);
    Err(format!("run again, it did not end as it should: {other:?}"))
}

/// The time of everything that happens.
pub const NOW: Timestamp = Timestamp(1_772_500_000_000_000);
