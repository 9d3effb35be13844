//! The shape of an export: its columns, each with a type that all its values fit.
//!
//! Types come from the schema; where values do not fit theirs, the column is widened and says so:
//! an integer column becomes one of decimals, and any column in the end one of text, in which
//! nothing is lost.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use relist::query::{Extent, Frame, FrameColumn, Item, Numeral, Part, Unit};
use relist::record::Cell;
use relist::schema::{FieldId, FieldType};
use relist::value::{Decimal, Value};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::error::ExportError;
use crate::item::{MOST_DIGITS, is_midnight, number_of, write_item};
use crate::workers::all;

/// The digits of a decimal that fits 64 bits, as Parquet stores it then.
const SHORT: u8 = 18;
/// The digits behind the point that a column of decimals has at least: those of money.
const LEAST_SCALE: u8 = 2;

/// Microseconds of a second.
const MICROS: i64 = 1_000_000;

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ColumnType {
    /// Booleans.
    Bool,
    /// 64-bit integers.
    Int,
    /// Exact decimals.
    Decimal {
        /// Digits in all: 18 or 38.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// Days.
    Date,
    /// Instants, in microseconds of UTC.
    DateTime,
    /// Text.
    Text,
    /// Text of which few are distinct: one member of a lookup.
    Word,
    /// Lists of text: the members of a lookup.
    List,
    /// A longitude and a latitude.
    Point,
}

/// A column of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The field's name, which is the column's.
    pub name: String,
    /// What the column holds.
    #[serde(rename = "type")]
    pub ty: ColumnType,
    /// The field's type in the schema, by its EDM name or its lookup's.
    pub declared: String,
    /// Why the column is wider than that type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The columns of an export, with the fields they are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The columns, in order.
    pub columns: Vec<Column>,
    /// Their fields.
    pub fields: Vec<FieldId>,
}

impl Shape {
    /// The shape that the rows of a frame need.
    ///
    /// Its columns are the fields that were selected, else those that the resource has ever held,
    /// in the order of the schema; all of them where there is no record. `before` is an earlier
    /// shape that no column becomes narrower than.
    ///
    /// # Errors
    /// [`ExportError::Store`].
    pub fn of(frame: &Frame<'_>, before: Option<&[Column]>) -> Result<Self, ExportError> {
        let fields = match frame.select() {
            Some(fields) => fields.to_vec(),
            None => frame.stored_fields()?,
        };
        let columns = all(fields.len(), |at| {
            let field = fields.get(at).copied().unwrap_or(FieldId(u16::MAX));
            column_of(frame, field, before)
        })?;
        Ok(Shape { columns, fields })
    }

    /// The shape of a few rows that earlier columns have room for; `None` where they have not.
    ///
    /// # Errors
    /// [`ExportError::Store`].
    pub(crate) fn of_rows(
        frame: &Frame<'_>,
        fields: Vec<FieldId>,
        before: &[Column],
    ) -> Result<Option<Self>, ExportError> {
        let resource = frame.resource();
        let mut columns = Vec::with_capacity(fields.len());
        for field in &fields {
            let name = resource.field(*field).map_or("", |f| f.name.as_str());
            match before.iter().find(|column| column.name == name) {
                Some(column) => columns.push(column.clone()),
                None => return Ok(None),
            }
        }
        let ty = |field: &FieldId| resource.field(*field).map_or(&FieldType::Json, |f| &f.ty);
        let mut seen: Vec<Seen> = fields.iter().map(|_| Seen::default()).collect();
        for rows in frame.chunks() {
            let parts = frame.parts(&fields, rows.clone())?;
            for ((field, part), seen) in fields.iter().zip(&parts).zip(&mut seen) {
                let mut codes = Vec::new();
                for row in 0..part.len() {
                    seen.look_at(part, part.item(row), ty(field), &mut codes);
                }
            }
        }
        let fits = fields
            .iter()
            .zip(&seen)
            .zip(&columns)
            .all(|((field, seen), column)| {
                let (needed, _) = seen.settle(ty(field));
                wider(&column.ty, &needed) == column.ty
                    || matches!(column.ty, ColumnType::Text | ColumnType::Word)
            });
        Ok((fits && columns.len() == before.len()).then_some(Shape { columns, fields }))
    }

    /// The sums of the columns of numbers, as decimals, by the columns' names.
    pub(crate) fn sums(&self, frame: &Frame<'_>) -> Result<BTreeMap<String, String>, ExportError> {
        let pairs: Vec<(&Column, FieldId)> = self
            .columns
            .iter()
            .zip(self.fields.iter().copied())
            .collect();
        let sums = all(pairs.len(), |at| match pairs.get(at) {
            Some((column, field)) => sum_of(frame, column, *field),
            None => Ok(None),
        })?;
        Ok(sums.into_iter().flatten().collect())
    }

    /// The shape of an export whose columns have no types: text, all of them.
    pub(crate) fn untyped(frame: &Frame<'_>, fields: Vec<FieldId>) -> Self {
        let column = |field: &FieldId| {
            let definition = frame.resource().field(*field);
            Column {
                name: definition.map_or_else(String::new, |f| f.name.clone()),
                ty: ColumnType::Text,
                declared: definition.map_or("", |f| f.ty.name()).to_owned(),
                note: None,
            }
        };
        Shape {
            columns: fields.iter().map(column).collect(),
            fields,
        }
    }

    /// A hash of the columns' names and types: the same for exports that can be read as one.
    pub fn digest(&self) -> String {
        let mut text = String::new();
        for column in &self.columns {
            // The types are plain enums: their debug form is their name and parameters.
            // Writing to a String cannot fail.
            let _ = write!(text, "{}:{:?};", column.name, column.ty);
        }
        format!("{:032x}", xxh3_128(text.as_bytes()))
    }
}

/// The sum of a column; `None` where it holds no numbers.
fn sum_of(
    frame: &Frame<'_>,
    column: &Column,
    field: FieldId,
) -> Result<Option<(String, String)>, ExportError> {
    let scale = match &column.ty {
        ColumnType::Int => 0,
        ColumnType::Decimal { scale, .. } => *scale,
        _ => return Ok(None),
    };
    let mut sum = Some(0_i128);
    frame.column(field)?.scan(&mut |part, item| {
        if let Some(value) = number_of(part, item, scale) {
            sum = sum.and_then(|sum| sum.checked_add(value));
        }
        true
    })?;
    let sum = sum.and_then(|sum| Decimal::new(sum, scale));
    Ok(sum.map(|sum| (column.name.clone(), sum.to_string())))
}

fn column_of(
    frame: &Frame<'_>,
    field: FieldId,
    before: Option<&[Column]>,
) -> Result<Column, ExportError> {
    let definition = frame.resource().field(field);
    let name = definition.map_or("", |f| f.name.as_str()).to_owned();
    let declared = definition.map_or(&FieldType::Json, |f| &f.ty);
    let before = before.and_then(|columns| columns.iter().find(|c| c.name == name));
    let mut seen = Seen::default();
    if !matches!(plain(declared), ColumnType::Text | ColumnType::Word) {
        seen.look(frame, field, declared)?;
    }
    let (ty, note) = seen.settle(declared);
    let (ty, note) = match before {
        Some(before) => match wider(&before.ty, &ty) {
            wide if wide == before.ty => (wide, before.note.clone().or(note)),
            wide => (wide, note),
        },
        None => (ty, note),
    };
    Ok(Column {
        name,
        ty,
        declared: declared.name().to_owned(),
        note,
    })
}

/// What a column of a type holds when all its values fit.
fn plain(ty: &FieldType) -> ColumnType {
    match ty {
        FieldType::Bool => ColumnType::Bool,
        FieldType::Int => ColumnType::Int,
        FieldType::Decimal => ColumnType::Decimal {
            precision: SHORT,
            scale: LEAST_SCALE,
        },
        FieldType::Date => ColumnType::Date,
        FieldType::DateTime => ColumnType::DateTime,
        FieldType::StringList | FieldType::LookupList(_) => ColumnType::List,
        FieldType::Lookup(_) => ColumnType::Word,
        FieldType::GeoPoint => ColumnType::Point,
        // Few readers know a type for a time of the day.
        FieldType::String | FieldType::Guid | FieldType::TimeOfDay | FieldType::Json => {
            ColumnType::Text
        }
    }
}

/// The narrowest type that holds the values of both.
fn wider(a: &ColumnType, b: &ColumnType) -> ColumnType {
    use ColumnType as T;
    let digits = |ty: &T| match ty {
        T::Int => Some((SHORT + 1, 0)),
        T::Decimal { precision, scale } => Some((precision - scale, *scale)),
        _ => None,
    };
    if a == b {
        return a.clone();
    }
    match digits(a).zip(digits(b)) {
        Some(((whole, scale), (other, behind))) => decimal(whole.max(other), scale.max(behind)),
        None => T::Text,
    }
}

/// A column of decimals with so many digits before and behind the point.
fn decimal(whole: u8, scale: u8) -> ColumnType {
    let scale = scale.max(LEAST_SCALE);
    let digits = whole.saturating_add(scale);
    let precision = if digits <= SHORT { SHORT } else { MOST_DIGITS };
    if digits > MOST_DIGITS {
        return ColumnType::Text;
    }
    ColumnType::Decimal { precision, scale }
}

/// What one value is, beside its declared type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// It is there and fits, or it is nothing.
    Yes,
    /// A number with so many digits before and behind the point.
    Digits(u8, u8),
    /// An instant that is told to less than a microsecond: it only fits a column of text.
    Finer,
    /// It only fits a column of text.
    No,
}

/// What the values of a column are.
#[derive(Debug, Default)]
struct Seen {
    whole: u8,
    scale: u8,
    /// The greatest magnitude that was looked at of each scale: what is less tells nothing new.
    known: [u64; 19],
    /// Instants that are told to less than a microsecond; misfits, too.
    finer: u64,
    misfits: u64,
    example: String,
}

impl Seen {
    fn look(
        &mut self,
        frame: &Frame<'_>,
        field: FieldId,
        declared: &FieldType,
    ) -> Result<(), ExportError> {
        let mut column = frame.column(field)?;
        let codes = column.codes();
        let fits = |code: u16| {
            let cell = codes.coded(code);
            cell.is_none_or(|cell| fit_of(cell, declared) == Fit::Yes)
        };
        let all = u16::try_from(codes.codes()).is_ok_and(|count| (0..count).all(fits));
        let mut passed = false;
        self.scan(&mut column, declared, &mut |extent| {
            let known = extent_fits(extent, declared, all);
            passed |= known;
            known
        })?;
        if passed && self.settle(declared) != (plain(declared), None) {
            // What was passed over may have to be in the note, or be wider with the rest.
            *self = Seen::default();
            self.scan(&mut column, declared, &mut |_| false)?;
        }
        Ok(())
    }

    fn scan(
        &mut self,
        column: &mut FrameColumn<'_>,
        declared: &FieldType,
        known: &mut dyn FnMut(Extent) -> bool,
    ) -> Result<(), ExportError> {
        // Codes are those of the field throughout.
        let mut codes: Vec<Option<Fit>> = Vec::new();
        column.scan_but(known, &mut |part, item| {
            self.look_at(part, item, declared, &mut codes);
            true
        })?;
        Ok(())
    }

    /// Looks at one cell; `codes` has what is known of the field's codes.
    fn look_at(
        &mut self,
        part: &Part,
        item: Item<'_>,
        declared: &FieldType,
        codes: &mut Vec<Option<Fit>>,
    ) {
        let fit = match item {
            Item::Absent | Item::Null => return,
            Item::Code(code) => {
                let at = usize::from(code);
                if codes.len() <= at {
                    codes.resize(part.codes().max(at + 1), None);
                }
                let known = codes.get(at).copied().flatten();
                let fit = known.unwrap_or_else(|| {
                    part.coded(code)
                        .map_or(Fit::Yes, |cell| fit_of(cell, declared))
                });
                if let Some(slot) = codes.get_mut(at) {
                    *slot = Some(fit);
                }
                fit
            }
            Item::Cell(cell) => fit_of(cell, declared),
            Item::Number(number) => match (number.unit, declared) {
                (Unit::Number, FieldType::Int | FieldType::Decimal) => {
                    if self.is_known(number) {
                        return;
                    }
                    digits_of(i128::from(number.value), number.scale, number.digits())
                }
                (Unit::Day, FieldType::Date | FieldType::DateTime) => Fit::Yes,
                (Unit::Instant, FieldType::DateTime) => instant_fit(number.value, number.scale),
                _ => cell_fit(item, part, declared),
            },
        };
        self.add(fit, item, part);
    }

    /// Whether a number has no more digits than those before: it is no greater than one of the same
    /// scale, and has not more of them behind the point than the column has.
    fn is_known(&mut self, number: Numeral) -> bool {
        let magnitude = number.value.unsigned_abs();
        match self.known.get_mut(usize::from(number.scale)) {
            Some(known) if *known >= magnitude && number.digits() <= self.scale => true,
            Some(known) => {
                *known = magnitude.max(*known);
                false
            }
            None => false,
        }
    }

    fn add(&mut self, fit: Fit, item: Item<'_>, part: &Part) {
        match fit {
            Fit::Yes => {}
            Fit::Digits(whole, scale) => {
                self.whole = self.whole.max(whole);
                self.scale = self.scale.max(scale);
            }
            Fit::Finer | Fit::No => {
                self.finer += u64::from(fit == Fit::Finer);
                if self.misfits == 0 {
                    write_item(item, part, &mut self.example);
                    self.example = self.example.chars().take(40).collect();
                }
                self.misfits += 1;
            }
        }
    }

    /// The column's type, and why it is not the plain one.
    fn settle(&self, declared: &FieldType) -> (ColumnType, Option<String>) {
        let own = plain(declared);
        if self.misfits > 0 {
            let (n, example) = (self.misfits, &self.example);
            if self.finer == n {
                let values = if n == 1 { "instant is" } else { "instants are" };
                let note =
                    format!("text: {n} {values} finer than microseconds (the first is {example})");
                return (ColumnType::Text, Some(note));
            }
            let values = if n == 1 { "value does" } else { "values do" };
            let note = format!(
                "text: {n} {values} not fit {} (the first is {example})",
                declared.name()
            );
            return (ColumnType::Text, Some(note));
        }
        match own {
            ColumnType::Int if self.scale > 0 || self.whole > SHORT + 1 => {
                let ty = decimal(self.whole, self.scale);
                let note = match ty {
                    ColumnType::Text => "text: a value does not fit 38 digits",
                    _ => "decimals: not all values are 64-bit integers",
                };
                (ty, Some(note.to_owned()))
            }
            ColumnType::Decimal { .. } => match decimal(self.whole, self.scale) {
                ColumnType::Text => {
                    let note = "text: a value does not fit 38 digits (Decimal128)";
                    (ColumnType::Text, Some(note.to_owned()))
                }
                ty => (ty, None),
            },
            _ => (own, None),
        }
    }
}

/// Whether an instant in units of `10^-scale` seconds is a number of microseconds.
fn instant_fit(value: i64, scale: u8) -> Fit {
    match (scale.checked_sub(6), 6_u8.checked_sub(scale)) {
        (Some(finer @ 1..), _) => match 10_i64.checked_pow(u32::from(finer)) {
            Some(unit) if value % unit == 0 => Fit::Yes,
            _ => Fit::Finer,
        },
        (_, Some(coarser)) => {
            let unit = 10_i64.checked_pow(u32::from(coarser));
            match unit.and_then(|unit| value.checked_mul(unit)) {
                Some(_) => Fit::Yes,
                None => Fit::No,
            }
        }
        _ => Fit::Yes,
    }
}

/// Whether all that a segment holds fits its field's plain column; `codes` when all codes do.
fn extent_fits(extent: Extent, declared: &FieldType, codes: bool) -> bool {
    use FieldType as F;
    match (extent, declared) {
        (Extent::Absent, _) => true,
        (Extent::Codes, _) => codes,
        (Extent::Numbers { unit, scale, range }, declared) => match (unit, declared) {
            (Unit::Number, F::Int) => scale == 0,
            (Unit::Number, F::Decimal) => {
                let most = 10_u64.pow(u32::from(SHORT - LEAST_SCALE));
                let most = most.saturating_mul(10_u64.saturating_pow(u32::from(scale)));
                let small = |number: i64| number.unsigned_abs() < most;
                scale <= LEAST_SCALE && range.is_none_or(|(low, high)| small(low) && small(high))
            }
            (Unit::Day, F::Date | F::DateTime) => true,
            (Unit::Instant, F::DateTime) => {
                let fits = |value| instant_fit(value, scale) == Fit::Yes;
                scale <= 6 && range.is_none_or(|(low, high)| fits(low) && fits(high))
            }
            _ => false,
        },
        _ => false,
    }
}

/// A number of an odd unit, asked as its cell would be.
fn cell_fit(item: Item<'_>, part: &Part, declared: &FieldType) -> Fit {
    let Item::Number(number) = item else {
        return Fit::No;
    };
    // 0 and 1 are booleans of some feeds.
    let whole = number.unit == Unit::Number && number.digits() == 0;
    let mut text = String::new();
    write_item(item, part, &mut text);
    let boolean = whole && matches!(text.as_str(), "0" | "1");
    if *declared == FieldType::Bool && boolean {
        return Fit::Yes;
    }
    if *declared == FieldType::Date
        && number.unit == Unit::Instant
        && is_midnight(number.value, number.scale)
    {
        return Fit::Yes;
    }
    Fit::No
}

fn fit_of(cell: Cell<'_>, declared: &FieldType) -> Fit {
    use FieldType as F;
    let value = cell.value_as(declared);
    match (declared, &value) {
        (_, Value::Null)
        | (F::Bool, Value::Bool(_))
        | (F::Date, Value::Date(_))
        | (F::StringList | F::LookupList(_), Value::StringList(_))
        | (F::GeoPoint, Value::GeoPoint(_)) => Fit::Yes,
        (F::DateTime, Value::DateTime(at)) => match at.seconds.checked_mul(MICROS) {
            Some(_) if at.nanos % 1_000 == 0 => Fit::Yes,
            Some(_) => Fit::Finer,
            None => Fit::No,
        },
        // Several feeds write an empty text for nothing.
        (_, Value::String(text)) if text.is_empty() => Fit::Yes,
        (F::Int | F::Decimal, Value::Int(number)) => digits_of(i128::from(*number), 0, 0),
        (F::Int | F::Decimal, Value::Decimal(number)) => {
            digits_of(number.mantissa(), number.scale(), number.scale())
        }
        _ => Fit::No,
    }
}

/// The digits of `value` in units of `10^-scale`, of which `written` were written.
fn digits_of(value: i128, scale: u8, written: u8) -> Fit {
    let mut behind = written.min(scale);
    let mut own = value / 10_i128.pow(u32::from((scale - behind).min(MOST_DIGITS)));
    let mut whole = own.unsigned_abs();
    // Zeros behind the point are a way to write, not digits that a column must hold.
    while behind > 0 && own % 10 == 0 {
        own /= 10;
        behind -= 1;
        whole = own.unsigned_abs();
    }
    let all = whole.checked_ilog10().map_or(0, |log| log + 1);
    let all = u8::try_from(all).unwrap_or(u8::MAX);
    Fit::Digits(all.saturating_sub(behind), behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_counted_without_trailing_zeros() {
        assert_eq!(digits_of(35_000_000, 2, 2), Fit::Digits(6, 0));
        assert_eq!(digits_of(184, 3, 3), Fit::Digits(0, 3));
        assert_eq!(digits_of(-12_500, 4, 3), Fit::Digits(1, 2));
        assert_eq!(digits_of(0, 0, 0), Fit::Digits(0, 0));
    }

    #[test]
    fn instants_are_whole_microseconds_or_told() {
        assert_eq!(instant_fit(1_772_409_600_123_456, 6), Fit::Yes);
        assert_eq!(instant_fit(17_724_096_001_234_560, 7), Fit::Yes);
        assert_eq!(instant_fit(17_724_096_001_234_567, 7), Fit::Finer);
        assert_eq!(instant_fit(1_772_409_600, 0), Fit::Yes);
        assert_eq!(instant_fit(i64::MAX / 10, 0), Fit::No);
    }

    #[test]
    fn types_widen_and_never_narrow() {
        use ColumnType as T;
        let money = decimal(6, 2);
        assert_eq!(
            money,
            T::Decimal {
                precision: 18,
                scale: 2
            }
        );
        let wide = T::Decimal {
            precision: 38,
            scale: 2,
        };
        assert_eq!(wider(&T::Int, &money), wide);
        assert_eq!(wider(&wide, &money), wide);
        assert_eq!(wider(&T::Date, &T::DateTime), T::Text);
        assert_eq!(wider(&T::Word, &T::Word), T::Word);
        assert_eq!(decimal(37, 2), T::Text);
        assert_eq!(decimal(30, 0), wide);
    }
}
