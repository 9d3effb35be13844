//! Aggregates of all groups at once, one pass over a column each.

use std::collections::HashSet;
use std::sync::Arc;

use super::coder::Coder;
use super::exact::percentile_of;
use crate::column::{SEGMENT_ROWS, Unit, Values, on_all_cores};
use crate::error::Result;
use crate::odata::{Aggregate, Method};
use crate::query::order::{common_scale, factor};
use crate::query::table::Table;
use crate::schema::FieldType;
use crate::store::Column;
use crate::value::{Date, DateTime, Decimal, Value};

const NANO_SCALE: u8 = 9;
/// Groups few enough for sums of each segment on its own.
const FEW_GROUPS: usize = 4_096;

/// One aggregate under way, of all groups.
pub(super) enum Summing<'t> {
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
pub(super) struct NumberSums {
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
    pub(super) fn new(table: &Table<'_>, aggregate: &'t Aggregate) -> Result<Option<Self>> {
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

    pub(super) fn add(&mut self, segment: u32, rows: &[u32], group_of: &[u32], groups: usize) {
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

    /// Adds what another of the same aggregate found; its groups have these places here.
    pub(super) fn merge(&mut self, other: &Summing<'_>, place_of: &[u32], groups: usize) {
        let add = |own: &mut Vec<u64>, other: &[u64]| {
            own.resize(groups, 0);
            for (place, more) in place_of.iter().zip(other) {
                if let Some(count) = own.get_mut(*place as usize) {
                    *count += more;
                }
            }
        };
        match (self, other) {
            (Summing::Rows(own), Summing::Rows(other)) => add(own, other),
            (
                Summing::Distinct {
                    coder,
                    seen,
                    counts,
                },
                Summing::Distinct {
                    coder: others,
                    seen: more,
                    ..
                },
            ) => {
                counts.resize(groups, 0);
                let codes: Vec<u32> = others
                    .values
                    .iter()
                    .map(|v| coder.intern(v.clone()))
                    .collect();
                for (group, code) in more {
                    let place = place_of.get(*group as usize).copied().unwrap_or(0);
                    let code = codes.get(*code as usize).copied().unwrap_or(0);
                    if seen.insert((place, code))
                        && let Some(count) = counts.get_mut(place as usize)
                    {
                        *count += 1;
                    }
                }
            }
            (Summing::Numbers(own), Summing::Numbers(other)) => own.merge(other, place_of, groups),
            // Of one aggregate there is one kind.
            _ => {}
        }
    }

    /// The result of each group.
    pub(super) fn finish(self, groups: usize) -> Vec<Value<'static>> {
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
                let (low, high) = numbers.range.unwrap_or((0, 0));
                let most = low.unsigned_abs().max(high.unsigned_abs());
                let most = most.checked_mul(by.unsigned_abs());
                let short = most.and_then(|m| m.checked_mul(u64::from(SEGMENT_ROWS)));
                if groups <= FEW_GROUPS && short.is_some_and(|m| i64::try_from(m).is_ok()) {
                    // What a segment adds up to fits 64 bits.
                    let mut own = vec![(0_i64, 0_u64); groups];
                    for (group, value) in pairs {
                        if let Some((sum, count)) = own.get_mut(group as usize) {
                            *sum += value;
                            *count += 1;
                        }
                    }
                    let all = self.sums.iter_mut().zip(&mut self.counts).zip(own);
                    for ((sum, count), (more, rows)) in all {
                        *sum += i128::from(more);
                        *count += rows;
                    }
                    return;
                }
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

    fn merge(&mut self, other: &NumberSums, place_of: &[u32], groups: usize) {
        self.counts.resize(groups, 0);
        self.sums.resize(groups, 0);
        self.best.resize(groups, 0);
        let least = self.method == Method::Min;
        let others = other.counts.iter().zip(&other.sums).zip(&other.best);
        for (place, ((count, sum), best)) in place_of.iter().zip(others) {
            let place = *place as usize;
            let own = self.counts.get_mut(place).zip(self.sums.get_mut(place));
            if let Some(((own_count, own_sum), own_best)) = own.zip(self.best.get_mut(place)) {
                let better = if least {
                    best < own_best
                } else {
                    best > own_best
                };
                if *count > 0 && (*own_count == 0 || better) {
                    *own_best = *best;
                }
                *own_count += count;
                *own_sum += sum;
            }
        }
        let pairs = other
            .pairs
            .iter()
            .map(|(group, number)| (place_of.get(*group as usize).copied().unwrap_or(0), *number));
        self.pairs.extend(pairs);
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

/// `10^exponent`.
pub(super) fn power(exponent: u8) -> i64 {
    10_i64.pow(u32::from(exponent.min(18)))
}
