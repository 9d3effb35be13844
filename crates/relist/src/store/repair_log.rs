//! Repair of the log: what cannot be read of it is told by what follows from it.
//!
//! Every change of a record begins or ends a version, which heads and history say, and stands among
//! the changes by field with its cause and its times. So one that the log lost can be written
//! again; where that fails, history begins behind it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::changelog::{Cause, Entry, Operation};
use super::field_changes::{self, Origin};
use super::moments::instant_of;
use super::repair::Repair;
use super::snapshot::past;
use super::tables as t;
use super::{Head, engine};
use crate::error::{Error, Result};
use crate::keycode::Key;
use crate::value::Timestamp;

/// Where a version is: resource, slot, row.
type Place = (u16, u32, u64);

/// What other tables say of changes that the log lost, by their sequences.
#[derive(Default)]
struct Told {
    /// The version that began there.
    begun: HashMap<u64, Place>,
    /// The version that ended there.
    ended: HashMap<u64, Place>,
    /// Whose it was, where it came from, and when the feed says it was.
    events: HashMap<u64, (u16, u32, Origin, Option<Timestamp>)>,
    keys: HashMap<(u16, u32), Key>,
    /// Moments, with their last sequences.
    moments: Vec<(u64, Timestamp)>,
}

impl Repair<'_> {
    /// Reads the whole log once: what is there, what follows what, and what is lost of it.
    pub(super) fn read_log(&mut self) -> Result<()> {
        self.edge = match self.old.pruned() {
            Ok(edge) => edge,
            Err(Error::Corrupt { .. }) => self.first_entry()?.saturating_sub(1),
            Err(error) => return Err(error),
        };
        let mut lost = BTreeSet::new();
        for sequence in self.edge + 1..=self.old.sequence() {
            match self.entry(sequence) {
                Ok(entry) if entry.previous_row > 0 => {
                    self.after.insert(entry.previous_row, sequence);
                }
                Ok(_) => {}
                Err(Error::Corrupt { .. }) => {
                    lost.insert(sequence);
                }
                Err(error) => return Err(error),
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        let told = self.tell(&lost)?;
        for sequence in &lost {
            if let Some(entry) = self.remade(*sequence, &told) {
                self.made.insert(*sequence, entry);
            }
        }
        let behind = self.in_order(&lost);
        self.name_lost(&lost, behind)?;
        self.edge = behind;
        Ok(())
    }

    fn first_entry(&self) -> Result<u64> {
        let log = self.old.txn.open_table(t::CHANGELOG).map_err(engine)?;
        let first = log.first().map_err(engine)?;
        Ok(first.map_or(self.old.sequence() + 1, |(sequence, _)| sequence.value()))
    }

    /// Looks for lost changes wherever they left something.
    fn tell(&self, lost: &BTreeSet<u64>) -> Result<Told> {
        let mut told = Told::default();
        for ((resource, slot), head) in &self.heads {
            if lost.contains(&head.valid_from) && !head.deleted {
                let place = (*resource, *slot, head.row);
                told.begun.insert(head.valid_from, place);
            }
        }
        let history = self.old.txn.open_table(t::HISTORY).map_err(engine)?;
        for item in history.range::<&[u8]>(..).map_err(engine)? {
            // Behind a damaged page, all of it.
            let Ok((key, value)) = item else { break };
            let at = t::split_slot_key(key.value());
            let own = past(key.value(), value.value()).ok().zip(at);
            let Some(((row, from), (resource, slot, to))) = own else {
                continue;
            };
            for (sequence, map) in [(from, &mut told.begun), (to, &mut told.ended)] {
                if lost.contains(&sequence) {
                    map.insert(sequence, (resource, slot, row));
                }
            }
        }
        self.tell_events(lost, &mut told)?;
        self.tell_keys(&mut told)?;
        let instants = self.old.txn.open_table(t::INSTANTS).map_err(engine)?;
        for item in instants.range::<i64>(..).map_err(engine)? {
            let Ok((at, value)) = item else { break };
            if let Ok((sequence, _)) = instant_of(at.value(), value.value()) {
                told.moments.push((sequence, Timestamp(at.value())));
            }
        }
        Ok(told)
    }

    fn tell_events(&self, lost: &BTreeSet<u64>, told: &mut Told) -> Result<()> {
        let events = self.old.txn.open_table(t::FIELD_CHANGES).map_err(engine)?;
        for item in events.range::<&[u8]>(..).map_err(engine)? {
            let Ok((key, value)) = item else { break };
            let resource = key.value().first_chunk().map(|c| u16::from_be_bytes(*c));
            let chunk = field_changes::chunk_of(key.value(), value.value());
            let (Some(resource), Some(_), Ok((_, bytes))) =
                (resource, field_changes::chunk_key(key.value()), chunk)
            else {
                continue;
            };
            let mut visit = |event: field_changes::EventRef<'_>| {
                if lost.contains(&event.sequence) {
                    let said = (resource, event.slot, event.origin, event.source_time);
                    told.events.insert(event.sequence, said);
                }
                Ok(())
            };
            // One that ends early has said what it could.
            let _ = field_changes::each_event(bytes, 0, &mut visit);
        }
        Ok(())
    }

    /// The keys of the records whose changes are lost.
    fn tell_keys(&self, told: &mut Told) -> Result<()> {
        let places = told.begun.values().chain(told.ended.values());
        let mut wanted: BTreeSet<(u16, u32)> = places.map(|(r, slot, _)| (*r, *slot)).collect();
        wanted.extend(told.events.values().map(|(r, slot, ..)| (*r, *slot)));
        let heads = self.old.txn.open_table(t::HEADS).map_err(engine)?;
        for item in heads.range::<&[u8]>(..).map_err(engine)? {
            let Ok((key, value)) = item else { break };
            let resource = key.value().first_chunk().map(|c| u16::from_be_bytes(*c));
            let head = Head::decode(key.value(), value.value());
            if let (Some(resource), Ok(head), Some(own)) = (resource, head, t::key_of(key.value()))
                && wanted.remove(&(resource, head.slot))
            {
                told.keys.insert((resource, head.slot), own);
            }
        }
        let log = (self.edge + 1..=self.old.sequence()).take_while(|_| !wanted.is_empty());
        // The other changes of a record name it, too.
        let mut found = Vec::new();
        for entry in log.filter_map(|sequence| self.entry(sequence).ok()) {
            let at = (entry.resource, entry.slot);
            if let Some(key) = entry.key.filter(|_| wanted.contains(&at)) {
                found.push((at, key));
            }
        }
        told.keys.extend(found);
        Ok(())
    }

    /// A lost entry, written again; `None` where nothing says whose it was.
    fn remade(&mut self, sequence: u64, told: &Told) -> Option<Entry> {
        let begun = told.begun.get(&sequence);
        let ended = told.ended.get(&sequence);
        let event = told.events.get(&sequence);
        let place = begun
            .or(ended)
            .map(|(resource, slot, _)| (*resource, *slot));
        let place = place.or(event.map(|(resource, slot, ..)| (*resource, *slot)));
        let (at, key) = place.and_then(|at| Some((at, told.keys.get(&at)?.clone())))?;
        let row = begun.map_or(0, |(.., row)| *row);
        let previous_row = ended.map_or(0, |(.., row)| *row);
        let operation = match (previous_row, row) {
            (0, 0) => return None,
            (0, _) => Operation::Insert,
            (_, 0) => Operation::Delete,
            _ => Operation::Update,
        };
        let resource = self.old.catalog().resource(at.0);
        let name = resource.map(|r| r.name.clone()).unwrap_or_default();
        let mut note = String::new();
        let mut origin = event.map(|(.., origin, source_time)| (*origin, *source_time));
        if operation == Operation::Delete {
            let buried = self.old.tombstones(&name).unwrap_or_default();
            let own = buried.into_iter().find(|(_, t)| t.sequence == sequence);
            match own {
                Some((_, own)) => note = own.reason,
                None => self.say(format!("why {name} {key} was deleted, sequence {sequence}")),
            }
        }
        if origin.is_none() {
            self.say(format!(
                "the cause and the times of {name} {key}, sequence {sequence}"
            ));
            let moment = told.moments.iter().find(|(last, _)| *last >= sequence);
            let before = (self.edge + 1..sequence)
                .rev()
                .find_map(|s| self.entry(s).ok());
            let observed = moment
                .map(|(_, at)| *at)
                .or(before.map(|entry| entry.observed));
            let run = 0;
            let (observed, cause) = (observed.unwrap_or(Timestamp(0)), Cause::Sync);
            origin = Some((
                Origin {
                    observed,
                    cause,
                    run,
                },
                None,
            ));
        }
        let (origin, source_time) = origin?;
        if previous_row > 0 {
            self.after.insert(previous_row, sequence);
        }
        Some(Entry {
            operation,
            cause: origin.cause,
            run: origin.run,
            resource: at.0,
            slot: at.1,
            key: Some(key),
            source_time,
            observed: origin.observed,
            previous_row,
            row,
            fields: Vec::new(),
            note,
        })
    }

    /// Follows the log from its start; answers with the sequence behind which each change follows
    /// what comes before it.
    fn in_order(&mut self, lost: &BTreeSet<u64>) -> u64 {
        let mut rows: HashMap<(u16, u32), u64> = HashMap::new();
        let (mut edge, mut latest) = (self.edge, None);
        for sequence in self.edge + 1..=self.old.sequence() {
            if lost.contains(&sequence) {
                latest = Some(sequence);
            }
            let Ok(entry) = self.entry(sequence) else {
                continue;
            };
            if entry.key.is_none() {
                continue;
            }
            let at = (entry.resource, entry.slot);
            let before = rows.get(&at).copied();
            let before = before.or((self.edge == 0).then_some(0));
            let (row, follows) = (entry.row, entry.previous_row);
            if let Some(before) = before.filter(|before| *before != follows) {
                match self.made.get_mut(&sequence) {
                    // The version that it ended was not found: the log knows it.
                    Some(made) => {
                        made.previous_row = before;
                        made.operation = match (before, row) {
                            (0, _) => Operation::Insert,
                            (_, 0) => Operation::Delete,
                            _ => Operation::Update,
                        };
                    }
                    None => edge = latest.map_or(edge, |latest| edge.max(latest)),
                }
            }
            rows.insert(at, row);
        }
        for (at, head) in &self.heads {
            let row = if head.deleted { 0 } else { head.row };
            let left = rows.get(at).copied();
            let fits = left.map_or(head.valid_from <= self.edge, |left| left == row);
            if !fits {
                edge = latest.map_or(edge, |latest| edge.max(latest));
            }
        }
        edge
    }

    /// Says what of the log is lost. Behind the new edge, what nobody tells says nothing.
    fn name_lost(&mut self, lost: &BTreeSet<u64>, behind: u64) -> Result<()> {
        for sequence in lost.range(behind + 1..) {
            if self.made.contains_key(sequence) {
                self.repaired.rebuilt += 1;
                continue;
            }
            self.say(format!("what the log says at sequence {sequence}"));
            let around = self
                .entry(sequence - 1)
                .or_else(|_| self.entry(sequence + 1));
            let observed = around.map_or(self.old.counters.observed, |e| Some(e.observed));
            let observed = observed.unwrap_or(Timestamp(0));
            let entry = super::purge::empty_entry(0, 0, observed);
            let note = "it could not be read when the store was repaired".to_owned();
            self.made.insert(*sequence, Entry { note, ..entry });
        }
        if behind <= self.edge {
            return Ok(());
        }
        self.say(format!(
            "the log from sequence {} to {behind}, {} of its changes unread",
            self.edge + 1,
            lost.range(..=behind).count()
        ));
        let mut keys: BTreeMap<u16, BTreeSet<Key>> = BTreeMap::new();
        for sequence in self.edge + 1..=behind {
            match self.entry(sequence) {
                Ok(entry) => keys.entry(entry.resource).or_default().extend(entry.key),
                Err(Error::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        for (resource, keys) in keys.into_iter().filter(|(_, keys)| !keys.is_empty()) {
            let name = self
                .old
                .catalog()
                .resource(resource)
                .map(|r| r.name.clone());
            let some: Vec<String> = keys.iter().take(20).map(ToString::to_string).collect();
            let more = keys.len().saturating_sub(some.len());
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            self.say(format!(
                "changes {} to {behind}, of {} {}{more}",
                self.edge + 1,
                name.unwrap_or_default(),
                some.join(", ")
            ));
        }
        Ok(())
    }

    fn say(&mut self, what: String) {
        self.repaired.lost.push(what);
    }
}
