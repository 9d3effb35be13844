//! Groups made of columns: each key becomes a number a row, each aggregate one pass over a column.
//!
//! What columns cannot say plainly (an expression of several fields, values that drifted from
//! their type) is asked of each row; the answer is the same either way.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;

use super::accumulator::Accumulator;
use super::exact::percentile_of;
use super::groups::{BytesHash, GroupRow, Groups};
use super::key::{canonical, encode};
use crate::column::{Numbers, Segment, Unit, Values, on_all_cores};
use crate::error::Result;
use crate::odata::{Aggregate, DatePart, Expression, Grouping, KeyForm, Method};
use crate::query::filter::{Selection, select};
use crate::query::order::{common_scale, factor};
use crate::query::table::{Table, value_of};
use crate::schema::{FieldId, FieldType};
use crate::store::Column;
use crate::value::{Date, DateTime, Decimal, Value};
use std::sync::Arc;

/// The widest range of numbers for which each has a place in a table.
const TABLE: usize = 1 << 16;
const NANO_SCALE: u8 = 9;
const DAY_SECONDS: i64 = 86_400;

/// The groups of the selected rows, with their results, in the order of their keys.
pub(super) fn grouped(
    table: &Table<'_>,
    grouping: &Grouping,
    selection: &Selection,
) -> Result<Vec<GroupRow>> {
    let keys = grouping
        .keys
        .iter()
        .map(|key| Coder::new(table, &key.value));
    let keys: Option<Vec<Coder<'_>>> = keys.collect::<Result<_>>()?;
    let sums = grouping.aggregates.iter().map(|a| Summing::new(table, a));
    let sums: Option<Vec<Summing<'_>>> = sums.collect::<Result<_>>()?;
    let (Some(keys), Some(sums)) = (keys, sums) else {
        return row_by_row(table, grouping, selection);
    };
    let inner = match &grouping.inner {
        Some(predicate) => Some(select(table, Some(predicate))?),
        None => None,
    };
    let mut work = Work {
        pairs: (1..keys.len()).map(|_| Pairs::default()).collect(),
        keys,
        sums,
        groups: 0,
    };
    for (number, mask) in (0_u32..).zip(&selection.masks) {
        if mask.is_empty() {
            continue;
        }
        let rows: Vec<u32> = mask
            .rows()
            .filter_map(|row| u32::try_from(row).ok())
            .collect();
        let group_of = work.group_of(number, &rows);
        match inner
            .as_ref()
            .and_then(|inner| inner.masks.get(number as usize))
        {
            None => work.add(number, &rows, &group_of),
            Some(inner) => {
                let pairs = rows.iter().zip(&group_of);
                let passing = pairs.filter(|(row, _)| inner.contains(**row as usize));
                let (rows, group_of): (Vec<u32>, Vec<u32>) = passing.map(|(a, b)| (*a, *b)).unzip();
                work.add(number, &rows, &group_of);
            }
        }
    }
    work.finish(grouping)
}

fn row_by_row(
    table: &Table<'_>,
    grouping: &Grouping,
    selection: &Selection,
) -> Result<Vec<GroupRow>> {
    let mut fields: Vec<FieldId> = Vec::new();
    let predicates = grouping.inner.iter();
    let values = grouping.aggregates.iter().filter_map(|a| a.value.as_ref());
    fields.extend(predicates.flat_map(|p| p.fields().iter().copied()));
    let expressions = grouping.keys.iter().map(|k| &k.value).chain(values);
    fields.extend(expressions.flat_map(|e| e.fields().iter().copied()));
    fields.sort_unstable();
    fields.dedup();
    let view = table.view(&fields)?;
    let mut groups = Groups::new(grouping);
    for (number, mask) in (0_u32..).zip(&selection.masks) {
        for row in mask.rows() {
            groups.add(&view.row(number, row))?;
        }
    }
    groups.finish()
}

/// Keys and aggregates under way.
struct Work<'t> {
    keys: Vec<Coder<'t>>,
    /// The pairs of a key's numbers with those of the keys before it.
    pairs: Vec<Pairs>,
    sums: Vec<Summing<'t>>,
    groups: usize,
}

impl Work<'_> {
    /// The group of each row.
    fn group_of(&mut self, segment: u32, rows: &[u32]) -> Vec<u32> {
        let mut keys = self.keys.iter_mut();
        let Some(first) = keys.next() else {
            self.groups = 1;
            return vec![0; rows.len()];
        };
        let mut out = first.codes(segment, rows);
        self.groups = first.values.len();
        for (key, pairs) in keys.zip(&mut self.pairs) {
            let codes = key.codes(segment, rows);
            for (group, code) in out.iter_mut().zip(codes) {
                *group = pairs.place(*group, code);
            }
            self.groups = pairs.items.len();
        }
        out
    }

    fn add(&mut self, segment: u32, rows: &[u32], group_of: &[u32]) {
        for sum in &mut self.sums {
            sum.add(segment, rows, group_of, self.groups);
        }
    }

    fn finish(self, grouping: &Grouping) -> Result<Vec<GroupRow>> {
        let mut groups = Groups::new(grouping);
        let mut results: Vec<_> = self
            .sums
            .into_iter()
            .map(|sum| sum.finish(self.groups))
            .collect();
        for group in (0..self.groups).rev() {
            let accumulators = results.iter_mut().filter_map(|values| {
                values
                    .pop()
                    .map(|value| Accumulator::Done(canonical(value)))
            });
            let accumulators: Vec<Accumulator> = accumulators.collect();
            let mut keys = vec![Value::Null; self.keys.len()];
            let mut place = u32::try_from(group).unwrap_or(0);
            for (at, coder) in self.keys.iter().enumerate().rev() {
                let code = match at.checked_sub(1).and_then(|before| self.pairs.get(before)) {
                    Some(pairs) => {
                        let (before, code) =
                            pairs.items.get(place as usize).copied().unwrap_or((0, 0));
                        place = before;
                        code
                    }
                    None => place,
                };
                if let (Some(key), Some(value)) =
                    (keys.get_mut(at), coder.values.get(code as usize))
                {
                    *key = value.clone();
                }
            }
            groups.add_group(&keys, accumulators)?;
        }
        groups.finish()
    }
}

/// Numbers given to pairs of numbers.
#[derive(Default)]
struct Pairs {
    items: Vec<(u32, u32)>,
    /// Rows of 256 for small numbers: place + 1, 0 where there is none.
    table: Vec<u32>,
    rest: HashMap<(u32, u32), u32>,
}

const PAIR_WIDTH: u32 = 256;
const PAIR_ROWS: u32 = 4_096;

impl Pairs {
    fn place(&mut self, a: u32, b: u32) -> u32 {
        let next = u32::try_from(self.items.len()).unwrap_or(u32::MAX);
        if a < PAIR_ROWS && b < PAIR_WIDTH {
            let at = (a * PAIR_WIDTH + b) as usize;
            if self.table.len() <= at {
                self.table.resize(((a + 1) * PAIR_WIDTH) as usize, 0);
            }
            if let Some(place) = self.table.get_mut(at) {
                if *place == 0 {
                    *place = next + 1;
                    self.items.push((a, b));
                }
                return *place - 1;
            }
        }
        let items = &mut self.items;
        *self.rest.entry((a, b)).or_insert_with(|| {
            items.push((a, b));
            next
        })
    }
}

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
struct Coder<'t> {
    expression: &'t Expression,
    part: Option<DatePart>,
    /// Whether the expression is nothing but the field.
    is_field: bool,
    ty: FieldType,
    column: Arc<Column>,
    /// The values, in one form, by their numbers.
    values: Vec<Value<'static>>,
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
    fn new(table: &Table<'_>, expression: &'t Expression) -> Result<Option<Self>> {
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
    fn codes(&mut self, segment: u32, rows: &[u32]) -> Vec<u32> {
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
            let at = if step == 1 {
                *value
            } else {
                value.div_euclid(step)
            } - low;
            let known = table.get_mut(usize::try_from(at).unwrap_or(usize::MAX));
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
    fn new(first: i64, step: i64) -> Self {
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

/// One aggregate under way, of all groups.
enum Summing<'t> {
    /// `$count`.
    Rows(Vec<u64>),
    /// Numbers of one column.
    Numbers(NumberSums),
    /// `countdistinct`.
    Distinct {
        coder: Box<Coder<'t>>,
        seen: HashSet<(u32, u32)>,
        counts: Vec<u64>,
    },
}

/// `sum`, `average`, `min`, `max` and percentiles of one column.
struct NumberSums {
    method: Method,
    column: Arc<Column>,
    unit: Unit,
    scale: u8,
    sums: Vec<i128>,
    counts: Vec<u64>,
    best: Vec<i64>,
    /// The group and number of each row.
    pairs: Vec<(u32, i64)>,
}

impl<'t> Summing<'t> {
    /// `None` for what columns cannot say plainly.
    fn new(table: &Table<'_>, aggregate: &'t Aggregate) -> Result<Option<Self>> {
        let (Some(method), Some(value)) = (aggregate.method, &aggregate.value) else {
            return Ok(Some(Summing::Rows(Vec::new())));
        };
        if method == Method::CountDistinct {
            let coder = Coder::new(table, value)?;
            return Ok(coder.map(|coder| Summing::Distinct {
                coder: Box::new(coder),
                seen: HashSet::new(),
                counts: Vec::new(),
            }));
        }
        let Some(field) = value.plain() else {
            return Ok(None);
        };
        let extreme = matches!(method, Method::Min | Method::Max);
        let unit = match table.resource.field(field).map(|f| &f.ty) {
            Some(FieldType::Int | FieldType::Decimal) => Unit::Number,
            Some(FieldType::Date) if extreme => Unit::Day,
            Some(FieldType::DateTime) if extreme => Unit::Instant,
            _ => return Ok(None),
        };
        let column = table.column(field)?;
        let Some(scale) = common_scale(&column, unit) else {
            return Ok(None);
        };
        Ok(Some(Summing::Numbers(NumberSums {
            method,
            column,
            unit,
            scale,
            sums: Vec::new(),
            counts: Vec::new(),
            best: Vec::new(),
            pairs: Vec::new(),
        })))
    }

    fn add(&mut self, segment: u32, rows: &[u32], group_of: &[u32], groups: usize) {
        match self {
            Summing::Rows(counts) => {
                counts.resize(groups, 0);
                for group in group_of {
                    if let Some(count) = counts.get_mut(*group as usize) {
                        *count += 1;
                    }
                }
            }
            Summing::Distinct {
                coder,
                seen,
                counts,
            } => {
                counts.resize(groups, 0);
                let codes = coder.codes(segment, rows);
                for (group, code) in group_of.iter().zip(codes) {
                    let null = coder.values.get(code as usize).is_none_or(Value::is_null);
                    if !null
                        && seen.insert((*group, code))
                        && let Some(count) = counts.get_mut(*group as usize)
                    {
                        *count += 1;
                    }
                }
            }
            Summing::Numbers(sums) => sums.add(segment, rows, group_of, groups),
        }
    }

    /// The result of each group.
    fn finish(self, groups: usize) -> Vec<Value<'static>> {
        let whole = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        match self {
            Summing::Rows(mut counts) | Summing::Distinct { mut counts, .. } => {
                counts.resize(groups, 0);
                counts.into_iter().map(whole).collect()
            }
            Summing::Numbers(sums) => sums.finish(groups),
        }
    }
}

impl NumberSums {
    fn add(&mut self, segment: u32, rows: &[u32], group_of: &[u32], groups: usize) {
        self.counts.resize(groups, 0);
        self.sums.resize(groups, 0);
        self.best.resize(groups, 0);
        let column = Arc::clone(&self.column);
        let Some(Values::Numbers(numbers)) = column.segment(segment).map(|s| &s.values) else {
            return;
        };
        let by = factor(numbers, self.scale).unwrap_or(1);
        let valued = numbers.valued();
        let all = numbers.form_of.is_empty() && valued.first() == Some(&true);
        let pairs = rows.iter().zip(group_of).filter_map(|(row, group)| {
            let row = *row as usize;
            let value = numbers.values.get(row)?;
            let form = numbers.form_of.get(row).copied().unwrap_or(0);
            let has = all || valued.get(usize::from(form)) == Some(&true);
            has.then_some((*group, value * by))
        });
        match self.method {
            Method::Sum | Method::Average => {
                for (group, value) in pairs {
                    let group = group as usize;
                    if let (Some(sum), Some(count)) =
                        (self.sums.get_mut(group), self.counts.get_mut(group))
                    {
                        *sum += i128::from(value);
                        *count += 1;
                    }
                }
            }
            Method::Percentile(_) => self.pairs.extend(pairs),
            Method::Min | Method::Max | Method::CountDistinct => {
                let least = self.method == Method::Min;
                for (group, value) in pairs {
                    let group = group as usize;
                    if let (Some(best), Some(count)) =
                        (self.best.get_mut(group), self.counts.get_mut(group))
                    {
                        let better = if least { value < *best } else { value > *best };
                        if *count == 0 || better {
                            *best = value;
                        }
                        *count += 1;
                    }
                }
            }
        }
    }

    fn value(&self, number: i64) -> Value<'static> {
        match self.unit {
            Unit::Day => i32::try_from(number).map_or(Value::Null, |day| Value::Date(Date(day))),
            Unit::Instant => {
                let by = power(self.scale);
                let nanos = number.rem_euclid(by) * power(NANO_SCALE.saturating_sub(self.scale));
                Value::DateTime(DateTime {
                    seconds: number.div_euclid(by),
                    nanos: u32::try_from(nanos).unwrap_or(0),
                    offset_minutes: 0,
                })
            }
            _ => Decimal::new(i128::from(number), self.scale).map_or(Value::Null, Value::Decimal),
        }
    }

    fn finish(mut self, groups: usize) -> Vec<Value<'static>> {
        self.counts.resize(groups, 0);
        self.sums.resize(groups, 0);
        self.best.resize(groups, 0);
        if let Method::Percentile(percent) = self.method {
            return self.percentiles(groups, percent);
        }
        let rows = self.counts.iter().zip(&self.sums).zip(&self.best);
        let of = |((count, sum), best): ((&u64, &i128), &i64)| {
            if *count == 0 {
                return Value::Null;
            }
            let sum = || Decimal::new(*sum, self.scale);
            match self.method {
                Method::Average => {
                    let mean = sum().and_then(|sum| super::exact::mean(sum, *count));
                    mean.map_or(Value::Null, Value::Decimal)
                }
                Method::Sum => sum().map_or(Value::Null, Value::Decimal),
                _ => self.value(*best),
            }
        };
        rows.map(of).collect()
    }

    /// Sorts the numbers into their groups, then looks for the place in each.
    fn percentiles(self, groups: usize, percent: u8) -> Vec<Value<'static>> {
        let mut starts = vec![0_usize; groups + 1];
        for (group, _) in &self.pairs {
            if let Some(count) = starts.get_mut(*group as usize + 1) {
                *count += 1;
            }
        }
        let mut total = 0;
        for start in &mut starts {
            total += *start;
            *start = total;
        }
        let mut next = starts.clone();
        let mut sorted = vec![0_i64; self.pairs.len()];
        for (group, number) in &self.pairs {
            if let Some(place) = next.get_mut(*group as usize) {
                if let Some(to) = sorted.get_mut(*place) {
                    *to = *number;
                }
                *place += 1;
            }
        }
        let mut parts: Vec<&mut [i64]> = Vec::with_capacity(groups);
        let mut rest = sorted.as_mut_slice();
        for pair in starts.windows(2) {
            let len = pair.last().unwrap_or(&0) - pair.first().unwrap_or(&0);
            let (part, left) = rest.split_at_mut(len.min(rest.len()));
            parts.push(part);
            rest = left;
        }
        let scale = self.scale;
        let of = |part: &mut [i64]| {
            let found = percentile_of(part, scale, percent);
            found.map_or(Value::Null, Value::Decimal)
        };
        let mut halves: Vec<Vec<&mut [i64]>> = vec![Vec::new(), Vec::new()];
        for (at, part) in parts.into_iter().enumerate() {
            if let Some(half) = halves.get_mut(usize::from(at >= groups / 2)) {
                half.push(part);
            }
        }
        let done = on_all_cores(halves, |half| half.into_iter().map(of).collect::<Vec<_>>());
        done.into_iter().flatten().collect()
    }
}

fn power(exponent: u8) -> i64 {
    10_i64.pow(u32::from(exponent.min(18)))
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
            prop_assert_eq!(steps.of(first + ahead) as i64, ahead / step);
        }
    }
}
