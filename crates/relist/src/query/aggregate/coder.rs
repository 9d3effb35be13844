//! Numbers for the values of an expression of one field, read from its column.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use super::groups::BytesHash;
use super::key::{canonical, encode};
use super::sums::power;
use crate::column::{Numbers, Segment, Unit, Values};
use crate::error::Result;
use crate::odata::{DatePart, Expression, KeyForm};
use crate::query::table::{Table, value_of};
use crate::schema::FieldType;
use crate::store::Column;
use crate::value::Value;

/// The widest range of numbers for which each has a place in a table.
const TABLE: usize = 1 << 16;
const DAY_SECONDS: i64 = 86_400;

/// The scale and the range of a column that holds nothing but numbers of one scale and nulls.
fn shared_range(column: &Column) -> Option<(u8, i64, i64)> {
    let mut found: Option<(u8, i64, i64)> = None;
    for segment in column.segments.iter().flatten() {
        let Values::Numbers(numbers) = &segment.values else {
            continue;
        };
        if !numbers.forms.iter().all(|form| form.is_utc()) {
            return None;
        }
        let Some((low, high)) = numbers.range else {
            continue;
        };
        found = Some(match found {
            None => (numbers.scale, low, high),
            Some((scale, a, b)) if scale == numbers.scale => (scale, a.min(low), b.max(high)),
            Some(_) => return None,
        });
    }
    found
}

/// Gives each different value of an expression of one field a number.
pub(super) struct Coder<'t> {
    expression: &'t Expression,
    part: Option<DatePart>,
    /// Whether the expression is nothing but the field.
    is_field: bool,
    ty: FieldType,
    column: Arc<Column>,
    /// The values, in one form, by their numbers.
    pub(super) values: Vec<Value<'static>>,
    places: HashMap<Box<[u8]>, u32, BytesHash>,
    /// By code of the dictionary: number + 1.
    by_code: Vec<u32>,
    /// The scale and range of all numbers, where they have one scale; then the table of numbers by
    /// their steps is kept from segment to segment.
    shared: Option<(u8, i64, i64)>,
    table: Vec<u32>,
    by_integer: HashMap<i64, u32, BuildHasherDefault<IntegerHash>>,
    by_bytes: HashMap<Vec<u8>, u32, BytesHash>,
}

impl<'t> Coder<'t> {
    /// `None` for what is not of one field, or is kept by the records alone.
    pub(super) fn new(table: &Table<'_>, expression: &'t Expression) -> Result<Option<Self>> {
        let (field, part) = match expression.form() {
            KeyForm::Field(field) | KeyForm::OneField(field) => (field, None),
            KeyForm::Part(part, field) => (field, Some(part)),
            KeyForm::Other => return Ok(None),
        };
        let column = table.column(field)?;
        if column.segments.iter().flatten().any(|s| s.is_elsewhere()) {
            return Ok(None);
        }
        let ty = table
            .resource
            .field(field)
            .map_or(FieldType::Json, |f| f.ty.clone());
        Ok(Some(Coder {
            expression,
            part: part.filter(|part| *part != DatePart::Hour),
            is_field: expression.plain().is_some(),
            ty,
            by_code: vec![0; column.dictionary.codes()],
            shared: shared_range(&column),
            table: Vec::new(),
            column,
            values: Vec::new(),
            places: HashMap::default(),
            by_integer: HashMap::default(),
            by_bytes: HashMap::default(),
        }))
    }

    /// The number of each row's value.
    pub(super) fn codes(&mut self, segment: u32, rows: &[u32]) -> Vec<u32> {
        let column = Arc::clone(&self.column);
        let Some(own) = column.segment(segment) else {
            return vec![self.number(&Value::Null); rows.len()];
        };
        match &own.values {
            Values::Absent | Values::Elsewhere => vec![self.number(&Value::Null); rows.len()],
            Values::Codes(codes) => {
                let code = |row: &u32| codes.get(*row as usize).copied().unwrap_or(0);
                rows.iter().map(|row| self.of_code(code(row))).collect()
            }
            Values::Numbers(numbers) => self.of_numbers(own, numbers, rows),
            Values::Bytes { .. } => rows.iter().map(|row| self.of_bytes(own, *row)).collect(),
        }
    }

    #[inline]
    fn of_code(&mut self, code: u16) -> u32 {
        if let Some(known) = self.by_code.get(usize::from(code)).filter(|n| **n > 0) {
            return *known - 1;
        }
        let column = Arc::clone(&self.column);
        let cell = column.dictionary.cell(code).unwrap_or_default();
        let number = self.of_cell(cell);
        if let Some(known) = self.by_code.get_mut(usize::from(code)) {
            *known = number + 1;
        }
        number
    }

    fn of_cell(&mut self, cell: &[u8]) -> u32 {
        let mut reader = crate::record::codec::Reader::new(cell);
        let cell = crate::record::Cell::read(&mut reader);
        let ty = self.ty.clone();
        let value = cell.map_or(Value::Null, |cell| cell.value_as(&ty));
        self.number(&value)
    }

    fn of_bytes(&mut self, segment: &Segment, row: u32) -> u32 {
        let mut cell = Vec::new();
        segment.write_cell(row as usize, &self.column.dictionary, &mut cell);
        if let Some(known) = self.by_bytes.get(&cell) {
            return *known;
        }
        let number = self.of_cell(&cell);
        self.by_bytes.insert(cell, number);
        number
    }

    /// Numbers by a table where they are near to each other, days where only the day matters.
    fn of_numbers(&mut self, segment: &Segment, numbers: &Numbers, rows: &[u32]) -> Vec<u32> {
        let column = Arc::clone(&self.column);
        let ty = self.ty.clone();
        let value_at = |row: u32| value_of(segment, &column.dictionary, row as usize, &ty);
        let plain = numbers
            .forms
            .iter()
            .all(|form| form.is_utc() || !form.has_value());
        // Numbers of one step of these are one value.
        let step = match (self.part, numbers.unit) {
            (Some(_), Unit::Instant) if plain => DAY_SECONDS * power(numbers.scale),
            _ => 1,
        };
        // Equal numbers are equal values, unless another type or another offset makes them differ.
        let typed = match self.ty {
            FieldType::Int | FieldType::Decimal => numbers.unit == Unit::Number,
            FieldType::Date => numbers.unit == Unit::Day,
            FieldType::DateTime => numbers.unit == Unit::Instant,
            _ => false,
        };
        let alike = typed && (plain || self.is_field);
        let Some(mut range) = numbers.range.filter(|_| alike) else {
            return self.each(rows, value_at);
        };
        match self.shared {
            Some((scale, low, high)) if scale == numbers.scale && plain => range = (low, high),
            _ => self.table.clear(),
        }
        let (low, high) = range;
        let (low, high) = (low.div_euclid(step), high.div_euclid(step));
        let steps = Steps::new(low.saturating_mul(step), step);
        let valued = numbers.valued();
        let mut table = std::mem::take(&mut self.table);
        match high
            .checked_sub(low)
            .and_then(|width| usize::try_from(width).ok())
        {
            Some(width) if width < TABLE => table.resize(width + 1, 0),
            _ => return self.by_integers(numbers, rows, &valued, value_at),
        }
        let mut null = None;
        let mut out = Vec::with_capacity(rows.len());
        for row in rows {
            let form = numbers.form_of.get(*row as usize).copied().unwrap_or(0);
            let has = valued.get(usize::from(form)) == Some(&true);
            let Some(value) = numbers.values.get(*row as usize).filter(|_| has) else {
                let number = null.unwrap_or_else(|| self.number(&Value::Null));
                null = Some(number);
                out.push(number);
                continue;
            };
            let known = table.get_mut(steps.of(*value));
            let number = match known {
                Some(known) if *known > 0 => *known - 1,
                known => {
                    let number = self.number(&value_at(*row).unwrap_or(Value::Null));
                    if let Some(known) = known {
                        *known = number + 1;
                    }
                    number
                }
            };
            out.push(number);
        }
        self.table = table;
        out
    }

    fn by_integers<'v>(
        &mut self,
        numbers: &Numbers,
        rows: &[u32],
        valued: &[bool; 256],
        value_at: impl Fn(u32) -> Option<Value<'v>>,
    ) -> Vec<u32> {
        // The scale may be another in the next segment: numbers are known within one only.
        self.by_integer.clear();
        let mut out = Vec::with_capacity(rows.len());
        for row in rows {
            let form = numbers.form_of.get(*row as usize).copied().unwrap_or(0);
            let has = valued.get(usize::from(form)) == Some(&true);
            let integer = numbers.values.get(*row as usize).copied().filter(|_| has);
            let known = integer.and_then(|integer| self.by_integer.get(&integer).copied());
            let number = known.unwrap_or_else(|| {
                let number = self.number(&value_at(*row).unwrap_or(Value::Null));
                if let Some(integer) = integer {
                    self.by_integer.insert(integer, number);
                }
                number
            });
            out.push(number);
        }
        out
    }

    fn each<'v>(&mut self, rows: &[u32], value_at: impl Fn(u32) -> Option<Value<'v>>) -> Vec<u32> {
        let rows = rows.iter().map(|row| value_at(*row).unwrap_or(Value::Null));
        rows.map(|value| self.number(&value)).collect()
    }

    /// The number of what the expression makes of a value of its field.
    fn number(&mut self, value: &Value<'_>) -> u32 {
        let value = self.expression.of_value(value);
        self.intern(value)
    }

    /// The number of a value of the expression.
    pub(super) fn intern(&mut self, value: Value<'static>) -> u32 {
        let mut bytes = Vec::with_capacity(32);
        encode(&value, &mut bytes);
        if let Some(known) = self.places.get(bytes.as_slice()) {
            return *known;
        }
        let number = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.values.push(canonical(value));
        self.places.insert(bytes.into_boxed_slice(), number);
        number
    }
}

/// Whole steps from a first number on; division once, multiplication for each.
#[derive(Clone, Copy)]
struct Steps {
    first: i64,
    step: u64,
    /// `2^64 / step`, rounded up; 0 for a step of 1.
    inverse: u64,
}

impl Steps {
    pub(super) fn new(first: i64, step: i64) -> Self {
        let step = step.unsigned_abs().max(1);
        Steps {
            first,
            step,
            inverse: if step == 1 { 0 } else { u64::MAX / step + 1 },
        }
    }

    #[inline]
    fn of(&self, value: i64) -> usize {
        let ahead = value.wrapping_sub(self.first).cast_unsigned();
        if self.inverse == 0 {
            return usize::try_from(ahead).unwrap_or(usize::MAX);
        }
        let product = u128::from(ahead) * u128::from(self.inverse);
        let mut steps = u64::try_from(product >> 64).unwrap_or(u64::MAX);
        // The inverse was rounded up.
        while steps.saturating_mul(self.step) > ahead {
            steps -= 1;
        }
        usize::try_from(steps).unwrap_or(usize::MAX)
    }
}

/// A cheap hash of integers that differ in their low bits.
#[derive(Debug, Default, Clone, Copy)]
struct IntegerHash(u64);

impl std::hash::Hasher for IntegerHash {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }

    fn write_i64(&mut self, value: i64) {
        self.0 = value
            .cast_unsigned()
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn steps_are_quotients(first in -1_000_000_i64..1_000_000, step in 1_i64..100_000_000_000,
                               ahead in 0_i64..i64::MAX / 4) {
            let steps = Steps::new(first, step);
            prop_assert_eq!(i64::try_from(steps.of(first + ahead)).unwrap(), ahead / step);
        }
    }
}
