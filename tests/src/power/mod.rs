//! Power cuts and failing disks under everything that writes to a store.
//!
//! A [`Path`] is a name and what it does to a store. [`Story::play`] plays paths one after the
//! other in a folder that remembers, and notes what the store and its backup hold whenever
//! something was made durable: those are the only states that they may ever be found in.
//! [`Story::cuts`] then takes the power away at every operation and opens what is left;
//! [`troubles`] lets operations fail. A new path is one entry in a list: see `paths.rs`.

mod folder;
mod paths;

pub use folder::{Done, Durable, Files, SimFolder, Trouble};
pub use paths::{METADATA, Path, all, training, writes};

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher as _};
use std::path::Path as Name;

use relist::error::{Error, Result};
use relist::store::{AsOf, Snapshot, Store};
use relist::value::Timestamp;

use crate::simulation::Rng;

/// The store's file.
pub const STORE: &str = "relist.redb";
/// The file of its backup.
pub const BACKUP: &str = "backup.redb";

/// A store in a simulated folder, and what belongs to a story about it.
#[derive(Debug, Default)]
pub struct Held {
    /// The store; `None` before it is made.
    pub store: Option<Store>,
    /// The folder.
    pub folder: SimFolder,
}

impl Held {
    /// A store on which paths were played, from none on.
    pub fn played(paths: &[Path]) -> Held {
        let mut held = Held::default();
        for path in paths {
            (path.run)(&mut held).unwrap_or_else(|e| panic!("{}: {e}", path.name));
        }
        held
    }

    /// The store, which was made.
    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("a store")
    }

    /// A store opened in a folder.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn open(folder: SimFolder) -> Result<Held> {
        let mut held = Held {
            store: None,
            folder,
        };
        held.reopen()?;
        Ok(held)
    }

    /// Opens the store, once more.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn reopen(&mut self) -> Result<()> {
        self.store = None;
        self.store = Some(open(&self.folder, STORE)?);
        Ok(())
    }

    /// The bytes of the store, closed.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.store = None;
        self.folder.files().get(Name::new(STORE)).unwrap().to_vec()
    }
}

/// Opens one file of a folder.
///
/// # Errors
/// Those of opening a store.
pub fn open(folder: &SimFolder, name: &str) -> Result<Store> {
    Store::open_in(folder.shared(), Name::new(name))
}

/// What the backup says; it is looked at elsewhere, so that nothing is done to it.
fn of_backup(files: Files, say: fn(&Snapshot) -> Result<String>) -> Result<String> {
    if files.get(Name::new(BACKUP)).is_none() {
        return Ok("no backup".to_owned());
    }
    let store = open(&SimFolder::holding(files), BACKUP)?;
    say(&store.snapshot()?)
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
    for change in snapshot.changes(snapshot.pruned()?)? {
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

/// The number of what a store and its backup say.
fn digest(store: &Store, files: Files) -> Result<u64> {
    let snapshot = store.snapshot()?;
    let own = told(&snapshot)?;
    let (edge, unfinished) = (snapshot.pruned()?, snapshot.purge_is_unfinished()?);
    let backup = of_backup(files, told)?;
    Ok(hash(&format!("{own} {edge} {unfinished} {backup}")))
}

/// What is left in the end: of the store, and of its backup.
fn outcome(held: &Held) -> Result<String> {
    let snapshot = held.store().snapshot()?;
    let mut out = settled(&snapshot)?;
    snapshot.media(|entry| {
        let _ = writeln!(out, "{entry:?}");
        Ok(true)
    })?;
    let unfinished = snapshot.purge_is_unfinished()?;
    let backup = of_backup(held.folder.files(), settled)?;
    let _ = writeln!(out, "{unfinished}\n{backup}");
    Ok(out)
}

/// What was played.
#[derive(Debug)]
pub struct Story {
    /// What was done in the folder.
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
    /// Plays the paths from an empty folder on.
    pub fn play(paths: &[Path]) -> Story {
        let mut held = Held::default();
        held.folder.record();
        let (mut ends, mut ended) = (Vec::new(), Vec::new());
        for path in paths {
            (path.run)(&mut held).unwrap_or_else(|e| panic!("{}: {e}", path.name));
            ends.push((held.folder.recorded_len(), path.name));
            ended.push(digest(held.store(), held.folder.files()).unwrap());
        }
        let log = held.folder.recorded();
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
        let mut durable = Durable::new(Files::default());
        for (at, done) in self.log.iter().enumerate() {
            durable.push(done);
            if !done.settles() {
                continue;
            }
            let folder = SimFolder::holding(durable.settled());
            let opened = open(&folder, STORE);
            let state = opened.and_then(|store| digest(&store, folder.files()));
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
        let mut durable = Durable::new(Files::default());
        for (at, done) in self.log.iter().enumerate() {
            if at.is_multiple_of(cutting.step) && !durable.is_settled() {
                for _ in 0..cutting.times {
                    let mut files = durable.cut(rng);
                    if cutting.lies {
                        files.forget_half();
                    }
                    tally.cuts += 1;
                    if let Err(what) = self.cut(at, files, paths, cutting, rng, &mut tally) {
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
        files: Files,
        paths: &[Path],
        cutting: Cutting,
        rng: &mut Rng,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let folder = SimFolder::holding(files.clone());
        let twice = rng.below(cutting.double_in) == 0;
        if twice {
            folder.record();
        }
        let state = self.found(at, &folder)?;
        tally.unborn += u64::from(state == 0);
        let log = folder.recorded();
        if rng.below(cutting.verify_in) == 0 {
            tally.verified += 1;
            self.go_on(at, state, folder, paths)?;
        }
        if !twice {
            return Ok(());
        }
        // The power goes once more, while the store is opened and closed again.
        let mut durable = Durable::new(files);
        let second = usize::try_from(rng.below(log.len() as u64 + 1)).unwrap();
        log.iter().take(second).for_each(|done| durable.push(done));
        tally.double += 1;
        let again = self.found(at, &SimFolder::holding(durable.cut(rng)));
        again
            .map_err(|e| format!("cut again at {second}: {e}"))
            .map(drop)
    }

    /// The state that a store is found in after a cut: the last durable one, or the one under way.
    fn found(&self, at: usize, folder: &SimFolder) -> Result<u64, String> {
        let index = self.index_at(at);
        let allowed = &self.states[index..self.states.len().min(index + 2)];
        let state = match open(folder, STORE) {
            Ok(store) => {
                digest(&store, folder.files()).map_err(|e| format!("cannot be read: {e}"))?
            }
            Err(Error::Io { .. }) if index == 0 => 0,
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
    fn go_on(
        &self,
        at: usize,
        state: u64,
        folder: SimFolder,
        paths: &[Path],
    ) -> Result<(), String> {
        let mut held = Held {
            store: None,
            folder,
        };
        if state != 0 {
            held.reopen().map_err(|e| e.to_string())?;
            verified(held.store())?;
        }
        let ended = self.ends.iter().filter(|(end, _)| *end <= at).count();
        for path in paths.iter().skip(ended) {
            (path.run)(&mut held).map_err(|e| format!("going on with {}: {e}", path.name))?;
        }
        verified(held.store())?;
        let expected = held_at_end(paths);
        let found = outcome(&held).map_err(|e| e.to_string())?;
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
    let text = outcome(&Held::played(paths)).unwrap();
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
    let mut held = Held::default();
    let (mut count, mut wrong) = (0, Vec::new());
    for path in paths {
        let before = held.folder.files();
        let unborn = held.store.is_none();
        (path.run)(&mut held).unwrap();
        let after = outcome(&held).unwrap();
        for trouble in Trouble::ALL {
            let mut at = first;
            loop {
                let folder = SimFolder::holding(before.clone());
                match struck(path, &folder, unborn, (at, trouble), &after) {
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
        held = Held::open(held.folder.clone()).unwrap();
    }
    (count, wrong)
}

/// Whether the path came so far that the trouble struck.
fn struck(
    path: &Path,
    folder: &SimFolder,
    unborn: bool,
    (at, trouble): (u64, Trouble),
    after: &str,
) -> Result<bool, String> {
    let mut held = Held {
        store: None,
        folder: folder.clone(),
    };
    if !unborn {
        held.reopen().map_err(|e| e.to_string())?;
    }
    folder.fail(at, trouble);
    let result = (path.run)(&mut held);
    // Closing writes too, and may fail as well.
    drop(held.store.take());
    if !folder.heal() {
        return result
            .map(|()| false)
            .map_err(|e| format!("without a reason: {e}"));
    }
    clean(&result, trouble)?;
    // A temporary file stays only where removing it failed, too.
    let left = |name: &Name| name.to_string_lossy().contains(".new-");
    let told = result.as_ref().err().map(ToString::to_string);
    let removing = told.is_some_and(|told| told.contains("cannot remove"));
    if trouble != Trouble::ForEver && !removing && folder.files().names().any(left) {
        return Err("a temporary file stays".to_owned());
    }
    if let Err(e) = held.reopen() {
        let never = unborn && result.is_err() && matches!(e, Error::Io { .. });
        if !never {
            return Err(format!("cannot be opened: {e}"));
        }
    } else {
        verified(held.store())?;
    }
    (path.run)(&mut held).map_err(|e| format!("run again: {e}"))?;
    verified(held.store())?;
    let found = outcome(&held).map_err(|e| e.to_string())?;
    if found == after {
        return Ok(true);
    }
    let other = after.lines().zip(found.lines()).find(|(a, b)| a != b);
    Err(format!("run again, it did not end as it should: {other:?}"))
}

/// An error says what happened, or there is none.
fn clean(result: &Result<()>, trouble: Trouble) -> Result<(), String> {
    let Err(error) = result else {
        return Ok(());
    };
    let full = match error {
        Error::Storage(error) => error.is_disk_full(),
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
        other => return Err(format!("not a clean error: {other:?}")),
    };
    // An engine that met an error says of all that follows that there was one.
    if trouble != Trouble::Full || full || error.to_string().contains("Previous I/O error") {
        return Ok(());
    }
    Err(format!("does not say that the disk is full: {error}"))
}

/// The time of everything that happens.
pub const NOW: Timestamp = Timestamp(1_772_500_000_000_000);
