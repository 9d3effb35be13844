//! What became of a row, written down: in the market's truth, and in `Deleted` where clients look.

use std::collections::BTreeMap;

use super::truth::{Change, Operation, Signal};
use super::{Market, resource};
use crate::backend::RowId;
use crate::fields::Cells;
use crate::state::Deleted;

/// A row as it was: its key and its fields.
pub(super) type Image = (String, Cells);

const NAMES: [&str; 6] = [
    "Property",
    "Member",
    "Office",
    "OpenHouse",
    "Media",
    "Deleted",
];

impl Market {
    pub(super) fn image(&self, slot: u32) -> Option<Image> {
        self.listing(slot).filter(|l| l.alive)?;
        self.image_of(resource::PROPERTY, RowId(slot.into()))
    }

    pub(super) fn image_of(&self, resource: usize, row: RowId) -> Option<Image> {
        let view = self.any_view(resource, row)?;
        let cells = view.cells();
        let name = self.schema.resources.get(resource)?.key_field.as_str();
        let (_, key) = cells.iter().find(|(field, _)| *field == name)?;
        Some((key.trim_matches('"').to_owned(), cells))
    }

    pub(super) fn media_images(&self, slot: u32, wanted: bool) -> Vec<Image> {
        if !wanted {
            return Vec::new();
        }
        let rows = self.media_rows(slot).into_iter();
        rows.filter_map(|(id, _)| self.image_of(resource::MEDIA, id))
            .collect()
    }

    /// Logs the difference between two sets of rows, which are in the order of their keys.
    pub(super) fn log_set(
        &mut self,
        resource: usize,
        before: Vec<Image>,
        after: Vec<Image>,
        signal: Signal,
        back: bool,
    ) {
        let mut after: BTreeMap<String, _> = after.into_iter().collect();
        for (key, cells) in before {
            let new = after.remove_entry(&key);
            let gone = new.is_none();
            // A photo that was replaced is in Deleted, unless its listing vanished.
            let how = match signal {
                Signal::Stamp if gone => Signal::DeletedLog,
                other => other,
            };
            self.log(resource, Some((key, cells)), new, how, back);
        }
        for new in after {
            self.log(resource, None, Some(new), signal, back);
        }
    }

    /// Logs what became of a row, and enters it in Deleted where that is how a client hears.
    pub(super) fn log(
        &mut self,
        resource: usize,
        before: Option<Image>,
        after: Option<Image>,
        signal: Signal,
        back: bool,
    ) {
        let name = NAMES.get(resource).copied().unwrap_or_default();
        let mut change = Change {
            at: self.now,
            resource: name,
            key: String::new(),
            operation: Operation::Insert,
            field: None,
            previous: None,
            new: None,
            signal,
        };
        match (before, after) {
            (None, Some((key, cells))) => {
                change.operation = if back {
                    Operation::Relist
                } else {
                    Operation::Insert
                };
                change.new = Some(cells.to_json());
                self.truth.push(Change { key, ..change });
            }
            (Some((key, cells)), None) => {
                if signal == Signal::DeletedLog {
                    self.deleted.push(Deleted {
                        resource: name,
                        key: key.clone(),
                        at: self.now,
                    });
                }
                change.operation = Operation::Delete;
                change.previous = Some(cells.to_json());
                self.truth.push(Change { key, ..change });
            }
            (Some((key, before)), Some((_, after))) => {
                change.operation = Operation::Update;
                for ((field, previous), (_, new)) in before.iter().zip(after.iter()) {
                    if previous != new {
                        self.truth.push(Change {
                            key: key.clone(),
                            field: Some(field),
                            previous: Some(previous.to_owned()),
                            new: Some(new.to_owned()),
                            ..change.clone()
                        });
                    }
                }
            }
            (None, None) => {}
        }
    }
}
