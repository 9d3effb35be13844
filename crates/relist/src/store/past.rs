//! Columns of a past moment: those of now, with what came after undone.
//!
//! The cost is that of the changes undone, not of the records there are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::columns::Column;
use super::{Operation, Snapshot};
use crate::column::{Edit, Mask, edited, place};
use crate::error::Result;
use crate::schema::FieldId;

impl Snapshot {
    /// Which slots held a record just after a sequence.
    pub(crate) fn live_at(&self, resource: u16, live: &[Mask], at: u64) -> Result<Vec<Mask>> {
        let mut first: HashMap<u32, Operation> = HashMap::new();
        self.presence_events(resource, at, |event| {
            first.entry(event.slot).or_insert(event.operation);
            Ok(())
        })?;
        let mut out = live.to_vec();
        for (slot, operation) in first {
            let (segment, row) = place(slot);
            if let Some(mask) = out.get_mut(segment as usize) {
                // What was deleted later was there; what came later was not.
                mask.set(usize::from(row), operation == Operation::Delete);
            }
        }
        Ok(out)
    }

    /// A column as it was just after a sequence.
    pub(crate) fn column_at(
        &self,
        resource: u16,
        field: FieldId,
        now: Arc<Column>,
        at: u64,
    ) -> Result<Arc<Column>> {
        // Of several changes of a slot the first says what was there before.
        let mut before: HashMap<u32, Vec<u8>> = HashMap::new();
        self.field_events(resource, field.0, at, |event| {
            before
                .entry(event.slot)
                .or_insert_with(|| event.previous.to_vec());
            Ok(())
        })?;
        if before.is_empty() {
            return Ok(now);
        }
        let mut edits: BTreeMap<u32, Vec<Edit<'_>>> = BTreeMap::new();
        for (slot, cell) in &before {
            let (segment, row) = place(*slot);
            edits.entry(segment).or_default().push(Edit { row, cell });
        }
        let mut column = Column::clone(&now);
        drop(now);
        for (number, edits) in edits {
            let Some(place) = column.segments.get_mut(number as usize) else {
                continue;
            };
            let old = place.take().map(|segment| segment.as_ref().clone());
            let last = edits.iter().map(|edit| usize::from(edit.row) + 1).max();
            let rows = last.unwrap_or(0);
            let dictionary = Arc::make_mut(&mut column.dictionary);
            *place = Some(Arc::new(edited(old, rows, &edits, dictionary)));
        }
        Ok(Arc::new(column))
    }
}
