//! A resource as columns, at one moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::column::{
    Dictionary, Form, Mask, SEGMENT_ROWS, Segment, Values, on_all_cores, place, slice_of,
};
use crate::error::{Error, Result};
use crate::keycode::Key;
use crate::odata::Row;
use crate::record::codec::Reader;
use crate::record::{Cell, Record, RecordBuf};
use crate::schema::{Field, FieldId, FieldType, Resource};
use crate::store::{Column, RecordReader, Snapshot};
use crate::value::Value;

/// Records that one core reads as fast as several.
const WORTH_SHARING: usize = 16;
/// Rows for which whole columns are not read.
const FEW_ROWS: usize = 2_000;

/// The columns of a resource, read as they are asked for.
pub(super) struct Table<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) id: u16,
    pub(super) resource: Arc<Resource>,
    /// The sequence it is a table of.
    pub(super) at: u64,
    pub(super) live: Arc<Vec<Mask>>,
    key_field: FieldId,
    columns: Mutex<HashMap<FieldId, Arc<Column>>>,
    /// The first record that could not be read while rows were asked.
    unread: Mutex<Option<Error>>,
}

impl<'s> Table<'s> {
    /// The resource as it was just after a sequence.
    pub(super) fn new(snapshot: &'s Snapshot, resource: &str, at: u64) -> Result<Self> {
        let id = snapshot.catalog().require(resource)?;
        let resource = snapshot.resource(resource)?;
        let key_field = resource.field_id(&resource.key_field);
        let live = snapshot.live(id)?;
        let live = if at == snapshot.sequence() {
            live
        } else {
            Arc::new(snapshot.live_at(id, &live, at)?)
        };
        Ok(Table {
            snapshot,
            id,
            key_field: key_field.unwrap_or(FieldId(u16::MAX)),
            resource,
            at,
            live,
            columns: Mutex::default(),
            unread: Mutex::default(),
        })
    }

    /// What came of reading records while rows were asked: a row cannot tell of an error itself.
    ///
    /// # Errors
    /// That of the first record that could not be read: then no answer is one.
    pub(super) fn all_read(&self) -> Result<()> {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        unread.take().map_or(Ok(()), Err)
    }

    /// The record of a slot; an error is kept for [`all_read`](Table::all_read).
    fn asked(&self, slot: u32) -> Option<Record> {
        match self.record(slot) {
            Ok(record) => Some(record),
            Err(error) => {
                let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
                unread.get_or_insert(error);
                None
            }
        }
    }

    /// How many segments there are.
    pub(super) fn segments(&self) -> u32 {
        u32::try_from(self.live.len()).unwrap_or(u32::MAX)
    }

    /// The column of a field at the moment of the table.
    pub(super) fn column(&self, field: FieldId) -> Result<Arc<Column>> {
        let mut columns = self.columns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(column) = columns.get(&field) {
            return Ok(Arc::clone(column));
        }
        let mut column = self.snapshot.column(self.id, field)?;
        if self.at < self.snapshot.sequence() {
            column = self.snapshot.column_at(self.id, field, column, self.at)?;
        }
        columns.insert(field, Arc::clone(&column));
        Ok(column)
    }

    /// Whether a column of this table is to be asked by sorted access: the field is indexed, and
    /// the column that of now, which other queries ask, too.
    pub(super) fn is_sorted(&self, field: FieldId, column: &Column) -> Result<bool> {
        Ok(self.at == self.snapshot.sequence()
            && self.snapshot.is_indexed(&self.resource, field)?
            && column.is_worth_sorting())
    }

    /// The names of fields, for people.
    pub(super) fn names(&self, fields: &[FieldId]) -> String {
        let names = fields.iter().filter_map(|id| self.resource.field(*id));
        let names: Vec<&str> = names.map(|field| field.name.as_str()).collect();
        names.join(", ")
    }

    /// Whether to put rows together from the columns of fields, and not from their records: for
    /// many rows, and where the columns are in memory or asked for again and again.
    pub(super) fn is_at_hand(&self, fields: &[FieldId], rows: usize) -> bool {
        if rows > FEW_ROWS || self.at != self.snapshot.sequence() {
            return rows > FEW_ROWS;
        }
        // All of them are asked: each counts how often it was wanted.
        let missing = fields
            .iter()
            .filter(|field| !self.snapshot.is_at_hand(self.id, **field));
        missing.count() == 0
    }

    /// The columns of fields, each with its type.
    pub(super) fn view(&self, fields: &[FieldId]) -> Result<View<'_>> {
        let columns = fields.iter().map(|field| {
            let column = self.column(*field)?;
            Ok((*field, self.resource.field(*field), column))
        });
        Ok(View {
            table: self,
            columns: columns.collect::<Result<_>>()?,
        })
    }

    /// The keys of slots.
    pub(super) fn keys(&self, slots: &[u32]) -> Result<Vec<Key>> {
        let keys = KeyColumn::new(self.snapshot, self.id, &self.resource)?;
        slots.iter().map(|slot| keys.key(*slot)).collect()
    }

    /// The keys of slots, where all keys of the resource are plain integers.
    pub(super) fn integer_keys(&self, slots: &[u32]) -> Result<Option<Vec<i64>>> {
        let column = self.snapshot.column(self.id, self.key_field)?;
        let ty = self.resource.field(self.key_field).map(|f| &f.ty);
        if ty != Some(&FieldType::Int) {
            return Ok(None);
        }
        let key = |slot: &u32| {
            let (segment, row) = place(*slot);
            match &column.segment(segment)?.values {
                Values::Numbers(numbers) if numbers.scale == 0 => {
                    numbers.values.get(usize::from(row)).copied()
                }
                _ => None,
            }
        };
        Ok(slots.iter().map(key).collect())
    }

    /// A record of nothing but these fields, which must be ascending; `None` when a field is kept
    /// by the records alone.
    pub(super) fn narrow(&self, view: &View<'_>, slot: u32) -> Option<Record> {
        let (segment, row) = place(slot);
        let mut body = RecordBuf::begin(128);
        let mut previous = 0;
        for (field, _, column) in &view.columns {
            if let Some(segment) = column.segment(segment) {
                if segment.is_elsewhere() {
                    return None;
                }
                let start = body.open_cell(*field, previous);
                let before = body.0.len();
                segment.write_cell(usize::from(row), &column.dictionary, &mut body.0);
                if body.0.len() == before {
                    body.0.truncate(start);
                } else {
                    previous = field.0;
                }
            }
        }
        Some(Record::new(Arc::clone(&self.resource), body))
    }

    /// The records of slots, read on all cores; of the view's fields alone where there is one.
    pub(super) fn records_of(
        &self,
        narrow: Option<&View<'_>>,
        slots: &[u32],
    ) -> Vec<Result<Record>> {
        let read = |slots: &[u32]| -> Vec<Result<Record>> {
            let reader = self.snapshot.records(self.id);
            let whole = |slot: u32| match &reader {
                Ok(reader) => self.record_by(reader, slot),
                Err(_) => self.record(slot),
            };
            let one = |slot: &u32| {
                let narrow = narrow.and_then(|view| self.narrow(view, *slot));
                narrow.map_or_else(|| whole(*slot), Ok)
            };
            slots.iter().map(one).collect()
        };
        if narrow.is_some() || slots.len() < WORTH_SHARING {
            return read(slots);
        }
        let parts = slots.chunks(slots.len().div_ceil(2)).collect();
        on_all_cores(parts, read).into_iter().flatten().collect()
    }

    /// The record of a slot, whole.
    pub(super) fn record(&self, slot: u32) -> Result<Record> {
        self.record_by(&self.snapshot.records(self.id)?, slot)
    }

    pub(super) fn record_by(&self, reader: &RecordReader<'_>, slot: u32) -> Result<Record> {
        let gone = || Error::Corrupt {
            what: format!("slot {slot} of {} has no record", self.resource.name),
        };
        if self.at == self.snapshot.sequence() {
            let row = self.snapshot.row_column(self.id)?.integer(slot);
            let row = row
                .and_then(|row| u64::try_from(row).ok())
                .ok_or_else(gone)?;
            return reader.record(row);
        }
        let key = self.keys(&[slot])?.pop().ok_or_else(gone)?;
        let at = crate::store::AsOf::Sequence(self.at);
        let record = self.snapshot.get_at(&self.resource.name, &key, at)?;
        record.ok_or_else(gone)
    }
}

/// The keys of a resource's slots. Keys never change: those of now are those of any moment.
pub(super) struct KeyColumn {
    column: Arc<Column>,
    ty: FieldType,
    resource: String,
}

impl KeyColumn {
    pub(super) fn new(snapshot: &Snapshot, id: u16, resource: &Resource) -> Result<Self> {
        let field = resource.field_id(&resource.key_field);
        let ty = field
            .and_then(|id| resource.field(id))
            .map(|f| f.ty.clone());
        Ok(KeyColumn {
            column: snapshot.column(id, field.unwrap_or(FieldId(u16::MAX)))?,
            ty: ty.unwrap_or(FieldType::String),
            resource: resource.name.clone(),
        })
    }

    pub(super) fn key(&self, slot: u32) -> Result<Key> {
        if self.ty == FieldType::Int
            && let Some(number) = self.column.whole(slot)
        {
            return Ok(Key::Int(number));
        }
        let key = match value_at(&self.column, slot, &self.ty) {
            None => None,
            Some(Value::Int(number)) => Some(Key::Int(number)),
            Some(Value::Decimal(number)) => number.to_i64().map(Key::Int),
            Some(Value::String(text)) => Some(Key::Str(text.into_owned())),
            Some(other) => Some(Key::Str(other.to_string())),
        };
        key.ok_or_else(|| Error::Corrupt {
            what: format!("slot {slot} of {} has no key", self.resource),
        })
    }
}

/// Some columns of a table.
pub(super) struct View<'t> {
    pub(super) table: &'t Table<'t>,
    pub(super) columns: Vec<(FieldId, Option<&'t Field>, Arc<Column>)>,
}

impl View<'_> {
    /// Row `row` of segment `segment`, as the evaluator reads it.
    pub(super) fn row(&self, segment: u32, row: usize) -> SlotRow<'_> {
        let slot = segment * SEGMENT_ROWS + u32::try_from(row).unwrap_or(0);
        SlotRow {
            view: self,
            slot,
            record: std::cell::OnceCell::new(),
        }
    }
}

/// One slot, read from columns; from its record where a column has it not.
pub(super) struct SlotRow<'v> {
    view: &'v View<'v>,
    slot: u32,
    record: std::cell::OnceCell<Option<Record>>,
}

impl Row for SlotRow<'_> {
    fn value(&self, field: FieldId) -> Option<Value<'_>> {
        let columns = &self.view.columns;
        let at = columns.binary_search_by_key(&field, |(id, ..)| *id).ok()?;
        let (_, def, column) = columns.get(at)?;
        let ty = def.map_or(&FieldType::Json, |f| &f.ty);
        let (segment, _) = place(self.slot);
        if column.segment(segment).is_some_and(Segment::is_elsewhere) {
            let read = || self.view.table.asked(self.slot);
            return Row::value(self.record.get_or_init(read).as_ref()?, field);
        }
        value_at(column, self.slot, ty)
    }
}

/// The value of a slot as its declared type; `None` when the field is absent.
pub(super) fn value_at<'c>(column: &'c Column, slot: u32, ty: &FieldType) -> Option<Value<'c>> {
    let (segment, row) = place(slot);
    value_of(
        column.segment(segment)?,
        &column.dictionary,
        usize::from(row),
        ty,
    )
}

/// The value of a segment's row as its declared type.
pub(super) fn value_of<'c>(
    segment: &'c Segment,
    dictionary: &'c Dictionary,
    row: usize,
    ty: &FieldType,
) -> Option<Value<'c>> {
    if *ty == FieldType::GeoPoint
        && let Some(point) = segment.known_point(row)
    {
        return Some(Value::GeoPoint(point));
    }
    let cell = match &segment.values {
        Values::Absent | Values::Elsewhere => return None,
        Values::Numbers(numbers) => {
            let form = numbers.form(row);
            let value = numbers.values.get(row).copied().unwrap_or(0);
            if !form.has_value() {
                return (form == Form::NULL).then_some(Value::Null);
            }
            if let Some(value) = form.plain_value(value, numbers.scale, ty) {
                return Some(value);
            }
            let mut scratch = Vec::with_capacity(24);
            form.write_cell(value, numbers.scale, &mut scratch);
            let cell = Cell::read(&mut Reader::new(&scratch))?;
            return Some(cell.value_as(ty).into_owned());
        }
        Values::Codes(codes) => dictionary.cell(*codes.get(row)?)?,
        Values::Bytes { ends, bytes } => slice_of(ends, bytes, row),
    };
    Some(Cell::read(&mut Reader::new(cell))?.value_as(ty))
}
