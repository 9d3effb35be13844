//! The market's own record of what it did: what a mirror's changelog is checked against.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use crate::text::Seconds;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A key that was never there before.
    Insert,
    /// One field got another value.
    Update,
    /// The row is gone.
    Delete,
    /// A key that was deleted is there again.
    Relist,
}

/// How a client could notice a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `ModificationTimestamp` moved with it.
    Stamp,
    /// Only `PhotosChangeTimestamp` moved.
    PhotosStamp,
    /// The row stands in `Deleted`.
    DeletedLog,
    /// Nothing says so: only a comparison of keys or of whole records finds it.
    Silent,
}

/// One change that the market made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When, by the market's clock.
    pub at: Seconds,
    /// The resource.
    pub resource: &'static str,
    /// The row's key.
    pub key: String,
    /// What happened.
    pub operation: Operation,
    /// The field, for an update.
    pub field: Option<&'static str>,
    /// The field's value before, as JSON; for a deletion the whole record.
    pub previous: Option<String>,
    /// The field's value after, as JSON; for an insert or a relisting the whole record.
    pub new: Option<String>,
    /// How a client could notice.
    pub signal: Signal,
}

/// A row of a resource.
pub type RowName = (&'static str, String);

/// What a client that looks only before and after sees of a run of changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Net {
    /// Rows that were not there before, with their records as JSON.
    pub inserted: BTreeMap<RowName, String>,
    /// Rows that are no longer there.
    pub deleted: BTreeSet<RowName>,
    /// Of rows there before and after: the fields that differ, with the value before and after.
    pub changed: BTreeMap<RowName, BTreeMap<String, (String, String)>>,
}

impl Net {
    /// How many fields of rows that stayed have another value.
    pub fn field_changes(&self) -> usize {
        self.changed.values().map(BTreeMap::len).sum()
    }
}

type Fields = BTreeMap<String, String>;

/// What is known of one row while changes are folded.
#[derive(Default)]
struct Fold {
    /// Whether the row was there before the first change.
    existed: bool,
    /// Values before, of the fields touched (or of all, once the row was deleted).
    before: Fields,
    /// Values now, of the fields touched (or of all, once the row came back).
    now: Option<Fields>,
    /// Whether `before` and `now` hold whole records.
    whole: bool,
}

/// Folds changes, in the order they happened, into their net effect.
pub fn net<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Net {
    let mut folds: BTreeMap<RowName, Fold> = BTreeMap::new();
    for change in changes {
        let name = (change.resource, change.key.clone());
        let existed = matches!(change.operation, Operation::Update | Operation::Delete);
        folds
            .entry(name)
            .or_insert_with(|| Fold {
                existed,
                now: existed.then(Fields::new),
                ..Fold::default()
            })
            .apply(change);
    }
    let mut net = Net::default();
    for (name, fold) in folds {
        match (fold.existed, fold.now) {
            (false, Some(now)) => {
                net.inserted.insert(name, to_json(&now));
            }
            (true, None) => {
                net.deleted.insert(name);
            }
            (false, None) => {}
            (true, Some(now)) => {
                let fields: BTreeMap<_, _> = now
                    .into_iter()
                    .filter_map(|(field, new)| {
                        let previous = fold.before.get(&field)?.clone();
                        (previous != new).then_some((field, (previous, new)))
                    })
                    .collect();
                if !fields.is_empty() {
                    net.changed.insert(name, fields);
                }
            }
        }
    }
    net
}

impl Fold {
    fn apply(&mut self, change: &Change) {
        let previous = change.previous.clone().unwrap_or_default();
        let new = change.new.clone().unwrap_or_default();
        match change.operation {
            Operation::Insert | Operation::Relist => self.now = Some(from_json(&new)),
            Operation::Update => {
                let field = change.field.unwrap_or_default().to_owned();
                if self.existed && !self.whole {
                    self.before.entry(field.clone()).or_insert(previous);
                }
                self.now.get_or_insert_default().insert(field, new);
            }
            Operation::Delete => {
                if self.existed && !self.whole {
                    // The record as it was deleted, with the changes since the start undone.
                    let mut whole = from_json(&previous);
                    whole.append(&mut self.before);
                    self.before = whole;
                    self.whole = true;
                }
                self.now = None;
            }
        }
    }
}

/// The fields of a record's JSON text, each with its own text.
pub fn from_json(record: &str) -> BTreeMap<String, String> {
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(record).unwrap_or_default();
    fields
        .into_iter()
        .map(|(name, value)| (name, value.get().to_owned()))
        .collect()
}

fn to_json(fields: &Fields) -> String {
    let members: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}
