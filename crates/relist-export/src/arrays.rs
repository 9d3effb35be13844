//! Arrow arrays out of parts: the cells of one field as the type of its column.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, ListBuilder,
    StringBuilder, StringDictionaryBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use relist::query::{Item, Numeral, Part, Unit};
use relist::record::Cell;
use relist::schema::FieldType;
use relist::value::{DateTime, Value};

use crate::error::ExportError;
use crate::item::{decimal_of, is_midnight, rescaled, write_item};
use crate::shape::{Column, ColumnType, Shape};

/// The name of the field's metadata that has its name in the RESO Data Dictionary.
const RESO_NAME: &str = "reso.name";
/// The name of the field's metadata that has its declared type.
const RESO_TYPE: &str = "reso.type";
/// The zone of all timestamps.
const UTC: &str = "UTC";

/// The Arrow schema of an export.
pub(crate) fn schema_of(shape: &Shape, resource: &str) -> Schema {
    let fields: Fields = shape.columns.iter().map(field_of).collect();
    let metadata = [("reso.resource".to_owned(), resource.to_owned())];
    Schema::new_with_metadata(fields, metadata.into())
}

fn field_of(column: &Column) -> Field {
    let mut metadata = vec![
        (RESO_NAME.to_owned(), column.name.clone()),
        (RESO_TYPE.to_owned(), column.declared.clone()),
    ];
    if let Some(note) = &column.note {
        metadata.push(("relist.note".to_owned(), note.clone()));
    }
    let field = Field::new(&column.name, data_type(&column.ty), true);
    field.with_metadata(metadata.into_iter().collect())
}

fn data_type(ty: &ColumnType) -> DataType {
    match ty {
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Int => DataType::Int64,
        ColumnType::Decimal { precision, scale } => {
            DataType::Decimal128(*precision, i8::try_from(*scale).unwrap_or(0))
        }
        ColumnType::Date => DataType::Date32,
        ColumnType::DateTime => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        ColumnType::Text => DataType::Utf8,
        ColumnType::Word => {
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
        }
        ColumnType::List => DataType::new_list(DataType::Utf8, true),
        ColumnType::Point => DataType::Struct(point_fields()),
    }
}

fn point_fields() -> Fields {
    let degrees = |name| Field::new(name, DataType::Float64, true);
    vec![degrees("longitude"), degrees("latitude")].into()
}

/// Rows of a part as an array of the column's type.
pub(crate) fn array_of(
    column: &Column,
    part: &Part,
    rows: Range<usize>,
) -> Result<ArrayRef, ExportError> {
    let len = rows.len();
    Ok(match &column.ty {
        ColumnType::Bool => {
            let mut out = BooleanBuilder::with_capacity(len);
            rows.for_each(|row| out.append_option(bool_of(part, row)));
            Arc::new(out.finish())
        }
        ColumnType::Int => {
            let mut out = Int64Builder::with_capacity(len);
            each(part, rows, &FieldType::Int, int_of_cell, int_of, |v| {
                out.append_option(v);
            });
            Arc::new(out.finish())
        }
        ColumnType::Decimal { precision, scale } => {
            let mut out = Decimal128Builder::with_capacity(len);
            let of_cell = |v: Value<'_>| decimal_of(&v, *scale);
            let of = |n: Numeral| rescaled(i128::from(n.value), n.scale, *scale);
            each(part, rows, &FieldType::Decimal, of_cell, of, |v| {
                out.append_option(v);
            });
            let array = out.finish();
            let scale = i8::try_from(*scale).unwrap_or(0);
            Arc::new(array.with_precision_and_scale(*precision, scale)?)
        }
        ColumnType::Date => {
            let mut out = Date32Builder::with_capacity(len);
            each(part, rows, &FieldType::Date, day_of_cell, day_of, |v| {
                out.append_option(v);
            });
            Arc::new(out.finish())
        }
        ColumnType::DateTime => {
            let mut out = TimestampMicrosecondBuilder::with_capacity(len);
            let ty = FieldType::DateTime;
            each(part, rows, &ty, micros_of_cell, micros_of, |v| {
                out.append_option(v);
            });
            Arc::new(out.finish().with_timezone(UTC))
        }
        ColumnType::Text => texts(part, rows),
        ColumnType::Word => words(part, rows)?,
        ColumnType::List => lists(part, rows),
        ColumnType::Point => points(part, rows),
    })
}

/// Puts the integers that a column of numbers or times holds, a row each: a decimal's are in units
/// of its last digit.
pub(crate) fn integers(ty: &ColumnType, part: &Part, out: &mut Vec<Option<i64>>) {
    out.clear();
    let rows = 0..part.len();
    let mut give = |value: Option<i64>| out.push(value);
    match ty {
        ColumnType::Decimal { scale, .. } => {
            let of_cell = |v: Value<'_>| i64::try_from(decimal_of(&v, *scale)?).ok();
            let of = |n: Numeral| {
                if n.scale == *scale {
                    return Some(n.value);
                }
                i64::try_from(rescaled(i128::from(n.value), n.scale, *scale)?).ok()
            };
            each(part, rows, &FieldType::Decimal, of_cell, of, give);
        }
        ColumnType::Date => {
            let of_cell = |v: Value<'_>| day_of_cell(v).map(i64::from);
            let of = |n: Numeral| day_of(n).map(i64::from);
            each(part, rows, &FieldType::Date, of_cell, of, give);
        }
        ColumnType::DateTime => {
            let ty = &FieldType::DateTime;
            each(part, rows, ty, micros_of_cell, micros_of, give);
        }
        _ => each(part, rows, &FieldType::Int, int_of_cell, int_of, &mut give),
    }
}

/// Gives each row's value, codes read once.
fn each<T: Copy>(
    part: &Part,
    rows: Range<usize>,
    ty: &FieldType,
    of_cell: impl Fn(Value<'_>) -> Option<T>,
    of_number: impl Fn(Numeral) -> Option<T>,
    mut give: impl FnMut(Option<T>),
) {
    let mut codes: Vec<Option<Option<T>>> = Vec::new();
    for row in rows {
        let value = match part.item(row) {
            Item::Absent | Item::Null => None,
            Item::Number(number) => of_number(number),
            Item::Cell(cell) => of_cell(cell.value_as(ty)),
            Item::Code(code) => {
                let at = usize::from(code);
                if codes.len() <= at {
                    codes.resize(part.codes().max(at + 1), None);
                }
                let known = codes.get(at).copied().flatten();
                known.unwrap_or_else(|| {
                    let value = part.coded(code).and_then(|c| of_cell(c.value_as(ty)));
                    if let Some(slot) = codes.get_mut(at) {
                        *slot = Some(value);
                    }
                    value
                })
            }
        };
        give(value);
    }
}

fn bool_of(part: &Part, row: usize) -> Option<bool> {
    let of_cell = |cell: Cell<'_>| match cell.value_as(&FieldType::Bool) {
        Value::Bool(value) => Some(value),
        _ => None,
    };
    match part.item(row) {
        Item::Absent | Item::Null => None,
        Item::Number(number) => Some(number.value != 0),
        Item::Code(code) => of_cell(part.coded(code)?),
        Item::Cell(cell) => of_cell(cell),
    }
}

fn int_of(number: Numeral) -> Option<i64> {
    let unit = 10_i64.checked_pow(u32::from(number.scale))?;
    Some(number.value / unit)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the caller has made it for this"
)]
fn int_of_cell(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Int(number) => Some(number),
        Value::Decimal(number) => number.to_i64(),
        _ => None,
    }
}

fn day_of(number: Numeral) -> Option<i32> {
    let days = match number.unit {
        Unit::Instant if is_midnight(number.value, number.scale) => {
            let unit = 10_i64.checked_pow(u32::from(number.scale))?;
            number.value.div_euclid(unit).div_euclid(86_400)
        }
        Unit::Day => number.value,
        _ => return None,
    };
    i32::try_from(days).ok()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the caller has made it for this"
)]
fn day_of_cell(value: Value<'_>) -> Option<i32> {
    match value {
        Value::Date(day) => Some(day.0),
        _ => None,
    }
}

/// Microseconds; where any is finer, the column is one of text.
fn micros_of(number: Numeral) -> Option<i64> {
    match number.unit {
        Unit::Day => number.value.checked_mul(86_400_000_000),
        Unit::Instant if number.scale <= 6 => {
            let unit = 10_i64.pow(u32::from(6 - number.scale));
            number.value.checked_mul(unit)
        }
        Unit::Instant => {
            let unit = 10_i64.checked_pow(u32::from(number.scale - 6))?;
            Some(number.value.div_euclid(unit))
        }
        _ => None,
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the caller has made it for this"
)]
fn micros_of_cell(value: Value<'_>) -> Option<i64> {
    let of = |at: DateTime| {
        let seconds = at.seconds.checked_mul(1_000_000)?;
        seconds.checked_add(i64::from(at.nanos / 1_000))
    };
    match value {
        Value::DateTime(at) => of(at),
        Value::Date(day) => of(day.midnight()),
        _ => None,
    }
}

/// A text of a column of text: a string itself, anything else as JSON without quotes.
pub(crate) fn text_of<R>(cell: Cell<'_>, scratch: &mut String, give: impl FnOnce(&str) -> R) -> R {
    if let Value::String(text) = cell.value() {
        return give(&text);
    }
    scratch.clear();
    cell.write_json(scratch);
    give(unquoted(scratch))
}

pub(crate) fn unquoted(text: &str) -> &str {
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    inner.unwrap_or(text)
}

fn texts(part: &Part, rows: Range<usize>) -> ArrayRef {
    let mut out = StringBuilder::with_capacity(rows.len(), rows.len() * 16);
    let mut scratch = String::new();
    for row in rows {
        match part.item(row) {
            Item::Absent | Item::Null => out.append_null(),
            Item::Code(code) => match part.coded(code) {
                Some(cell) => text_of(cell, &mut scratch, |text| out.append_value(text)),
                None => out.append_null(),
            },
            Item::Cell(cell) => text_of(cell, &mut scratch, |text| out.append_value(text)),
            item @ Item::Number(_) => {
                scratch.clear();
                write_item(item, part, &mut scratch);
                out.append_value(unquoted(&scratch));
            }
        }
    }
    Arc::new(out.finish())
}

fn words(part: &Part, rows: Range<usize>) -> Result<ArrayRef, ExportError> {
    let mut out = StringDictionaryBuilder::<Int32Type>::new();
    let mut scratch = String::new();
    // Each code's text, read once.
    let mut texts: Vec<Option<String>> = Vec::new();
    for row in rows {
        match part.item(row) {
            Item::Absent | Item::Null => out.append_null(),
            Item::Code(code) => {
                let at = usize::from(code);
                if texts.len() <= at {
                    texts.resize(part.codes().max(at + 1), None);
                }
                let Some(slot) = texts.get_mut(at) else {
                    continue;
                };
                if slot.is_none() {
                    let text = part
                        .coded(code)
                        .map(|cell| text_of(cell, &mut scratch, str::to_owned));
                    *slot = Some(text.unwrap_or_default());
                }
                out.append(slot.as_deref().unwrap_or_default())?;
            }
            Item::Cell(cell) => {
                text_of(cell, &mut scratch, |text| out.append(text).map(|_| ()))?;
            }
            item @ Item::Number(_) => {
                scratch.clear();
                write_item(item, part, &mut scratch);
                out.append(unquoted(&scratch))?;
            }
        }
    }
    Ok(Arc::new(out.finish()))
}

fn lists(part: &Part, rows: Range<usize>) -> ArrayRef {
    let mut out = ListBuilder::with_capacity(StringBuilder::new(), rows.len());
    // Each code's members, read once.
    let mut codes: Vec<Option<Members>> = Vec::new();
    for row in rows {
        let cell = match part.item(row) {
            Item::Absent | Item::Null | Item::Number(_) => None,
            Item::Cell(cell) => Some(cell),
            Item::Code(code) => {
                let at = usize::from(code);
                if codes.len() <= at {
                    codes.resize(part.codes().max(at + 1), None);
                }
                if let Some(slot) = codes.get_mut(at) {
                    let members = slot.get_or_insert_with(|| Members::of(part.coded(code)));
                    members.put(&mut out);
                }
                continue;
            }
        };
        Members::of(cell).put(&mut out);
    }
    Arc::new(out.finish())
}

/// The members of a list; `None` for no list at all.
#[derive(Debug, Clone)]
struct Members(Option<Vec<String>>);

impl Members {
    fn of(cell: Option<Cell<'_>>) -> Self {
        match cell.map(|cell| cell.value_as(&FieldType::StringList)) {
            Some(Value::StringList(members)) => {
                Members(Some(members.into_iter().map(Into::into).collect()))
            }
            _ => Members(None),
        }
    }

    fn put(&self, out: &mut ListBuilder<StringBuilder>) {
        for member in self.0.iter().flatten() {
            out.values().append_value(member);
        }
        out.append(self.0.is_some());
    }
}

fn points(part: &Part, rows: Range<usize>) -> ArrayRef {
    let mut longitudes = Float64Builder::with_capacity(rows.len());
    let mut latitudes = Float64Builder::with_capacity(rows.len());
    let mut valid = Vec::with_capacity(rows.len());
    for row in rows {
        let cell = match part.item(row) {
            Item::Absent | Item::Null | Item::Number(_) => None,
            Item::Code(code) => part.coded(code),
            Item::Cell(cell) => Some(cell),
        };
        let point = match cell.map(|cell| cell.value_as(&FieldType::GeoPoint)) {
            Some(Value::GeoPoint(point)) => Some(point),
            _ => None,
        };
        valid.push(point.is_some());
        longitudes.append_option(point.map(|p| p.longitude));
        latitudes.append_option(point.map(|p| p.latitude));
    }
    let columns: Vec<ArrayRef> = vec![Arc::new(longitudes.finish()), Arc::new(latitudes.finish())];
    Arc::new(StructArray::new(
        point_fields(),
        columns,
        Some(NullBuffer::from(valid)),
    ))
}
