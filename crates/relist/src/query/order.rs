//! Order: the slots of a selection, as `$orderby` wants them.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::filter::{Selection, slot_of};
use super::table::Table;
use crate::column::{Mask, Numbers, Unit, Values};
use crate::error::Result;
use crate::keycode::Key;
use crate::odata::OrderBy;
use crate::schema::{FieldId, FieldType};
use crate::store::Column;
use crate::value::Value;

/// The first `most` slots in the order of `orderby`, ties in ascending order of key; and the field
/// whose index gave them.
pub(super) fn sorted(
    table: &Table<'_>,
    selection: &Selection,
    orderby: &OrderBy,
    most: usize,
) -> Result<(Vec<u32>, Option<FieldId>)> {
    if let Some([(field, descending)]) = orderby.plain().as_deref()
        && let Some(unit) = unit_of(table, *field)
    {
        let column = table.column(*field)?;
        // Where few rows are selected, those in order are mostly others.
        let dense = selection.count() >= table.live.iter().map(Mask::count).sum::<u64>() / 8;
        if dense
            && most < MOST_MERGED
            && table.is_sorted(*field, &column)?
            && let Some(found) = merged(&column, unit, selection, *descending, most)
        {
            return Ok((finish(table, found, *descending, most)?, Some(*field)));
        }
        if let Some(found) = best(&column, unit, selection, *descending, most) {
            return Ok((finish(table, found, *descending, most)?, None));
        }
    }
    Ok((by_values(table, selection, orderby, most)?, None))
}

/// The unit in which columns of a field are compared, when its values are numbers.
fn unit_of(table: &Table<'_>, field: FieldId) -> Option<Unit> {
    Some(match table.resource.field(field)?.ty {
        FieldType::Int | FieldType::Decimal => Unit::Number,
        FieldType::Date => Unit::Day,
        FieldType::DateTime => Unit::Instant,
        _ => return None,
    })
}

/// Any order: every sort key is computed.
fn by_values(
    table: &Table<'_>,
    selection: &Selection,
    orderby: &OrderBy,
    most: usize,
) -> Result<Vec<u32>> {
    let view = table.view(orderby.fields())?;
    let slots: Vec<u32> = selection.slots().collect();
    let keys = table.keys(&slots)?;
    let mut rows: Vec<(Vec<Value<'static>>, Key, u32)> = Vec::with_capacity(slots.len());
    for (slot, key) in slots.into_iter().zip(keys) {
        let (segment, row) = crate::column::place(slot);
        let own = view.row(segment, usize::from(row));
        let values = orderby.key(&own).into_iter().map(Value::into_owned);
        rows.push((values.collect(), key, slot));
    }
    table.all_read()?;
    let order = |a: &(Vec<Value<'_>>, Key, u32), b: &(Vec<Value<'_>>, Key, u32)| {
        orderby.compare(&a.0, &b.0).then_with(|| a.1.cmp(&b.1))
    };
    if most < rows.len() && most > 0 {
        rows.select_nth_unstable_by(most - 1, order);
    }
    rows.truncate(most);
    rows.sort_unstable_by(order);
    Ok(rows.into_iter().map(|(.., slot)| slot).collect())
}

/// A number and its slot; no value sorts before every value.
type Ranked = (Option<i64>, u32);

/// Slots among which the first `most` are: ties with the last of them included. `None` when the
/// column does not hold numbers of one unit throughout.
fn best(
    column: &Column,
    unit: Unit,
    selection: &Selection,
    descending: bool,
    most: usize,
) -> Option<Vec<Ranked>> {
    let scale = common_scale(column, unit)?;
    let mut order: Vec<(Option<i64>, u32)> = (0_u32..)
        .zip(&selection.masks)
        .filter(|(_, mask)| !mask.is_empty())
        .map(|(number, _)| (best_of(column, number, scale, descending), number))
        .collect();
    let compare = |a: Option<i64>, b: Option<i64>| if descending { b.cmp(&a) } else { a.cmp(&b) };
    order.sort_by(|a, b| compare(a.0, b.0));
    let mut top = Top {
        rows: Vec::new(),
        most,
        full: most.saturating_mul(2).max(256),
        bound: None,
        descending,
    };
    for (first, number) in order {
        if top.is_behind(first) {
            break;
        }
        let mask = selection.masks.get(number as usize)?;
        match column.segment(number).map(|s| &s.values) {
            None | Some(Values::Absent) => {
                mask.rows()
                    .for_each(|row| top.push(None, slot_of(number, row)));
            }
            Some(Values::Numbers(numbers)) => {
                let by = factor(numbers, scale)?;
                top.take_numbers(numbers, by, mask, number);
            }
            _ => return None,
        }
    }
    Some(top.rows)
}

/// The most rows that are taken from the segments' own orders.
const MOST_MERGED: usize = 10_000;

/// As [`best`], by sorted access: the segments' own orders are merged. `None` also where a row
/// without a value might be among the first, or too many rows are passed over.
fn merged(
    column: &Column,
    unit: Unit,
    selection: &Selection,
    descending: bool,
    most: usize,
) -> Option<Vec<Ranked>> {
    let scale = common_scale(column, unit)?;
    let mut runs = Vec::new();
    for (number, mask) in (0_u32..).zip(&selection.masks) {
        if mask.is_empty() {
            continue;
        }
        match column
            .segment(number)
            .map(|segment| (segment, &segment.values))
        {
            None | Some((_, Values::Absent)) if descending => {}
            Some((segment, Values::Numbers(numbers))) => {
                let sorted = segment.sorted()?;
                let covered = numbers.values.len() == crate::column::SEGMENT_ROWS as usize;
                if !descending
                    && !(sorted.is_full()
                        && (covered || mask.behind(numbers.values.len()).is_empty()))
                {
                    return None;
                }
                runs.push(Run {
                    rows: sorted.valued(),
                    values: &numbers.values,
                    by: factor(numbers, scale)?,
                    mask,
                    number,
                });
            }
            _ => return None,
        }
    }
    let mut heap: BinaryHeap<(i64, Reverse<usize>)> = BinaryHeap::with_capacity(runs.len());
    // A heap gives the greatest first.
    let rank = |value: i64| if descending { value } else { !value };
    let mut passed_over = 0;
    for (at, run) in runs.iter_mut().enumerate() {
        passed_over += run.skip(descending);
        heap.extend(run.next(descending).map(|value| (rank(value), Reverse(at))));
    }
    let mut out: Vec<Ranked> = Vec::with_capacity(most + 1);
    while let Some((ranked, Reverse(at))) = heap.pop() {
        let value = rank(ranked);
        // Ties with the last are wanted, too.
        if out.len() >= most && out.last().is_some_and(|last| last.0 != Some(value)) {
            return Some(out);
        }
        let run = runs.get_mut(at)?;
        out.push((Some(value), run.take(descending)?));
        passed_over += run.skip(descending);
        if passed_over > most * 64 + 4_096 {
            return None;
        }
        heap.extend(run.next(descending).map(|value| (rank(value), Reverse(at))));
    }
    // There are not so many with a value.
    (out.len() >= most).then_some(out)
}

/// What is left of a segment's rows in their order.
struct Run<'c> {
    rows: &'c [u16],
    values: &'c [i64],
    by: i64,
    mask: &'c Mask,
    number: u32,
}

impl Run<'_> {
    fn end(&self, descending: bool) -> Option<usize> {
        let row = if descending {
            self.rows.last()
        } else {
            self.rows.first()
        };
        row.map(|row| usize::from(*row))
    }

    fn drop_end(&mut self, descending: bool) {
        let rest = if descending {
            self.rows.split_last().map(|(_, rest)| rest)
        } else {
            self.rows.split_first().map(|(_, rest)| rest)
        };
        self.rows = rest.unwrap_or_default();
    }

    /// Passes over rows that are not selected, and says how many.
    fn skip(&mut self, descending: bool) -> usize {
        let mut passed = 0;
        while self
            .end(descending)
            .is_some_and(|row| !self.mask.contains(row))
        {
            self.drop_end(descending);
            passed += 1;
        }
        passed
    }

    /// The value of the next row.
    fn next(&self, descending: bool) -> Option<i64> {
        Some(self.values.get(self.end(descending)?)? * self.by)
    }

    /// Takes the slot of the next row.
    fn take(&mut self, descending: bool) -> Option<u32> {
        let row = self.end(descending)?;
        self.drop_end(descending);
        Some(slot_of(self.number, row))
    }
}

/// The finest scale of the segments; `None` when they hold other things than numbers of the unit,
/// or a number that does not fit that scale.
pub(super) fn common_scale(column: &Column, unit: Unit) -> Option<u8> {
    let mut scale = 0;
    for segment in column.segments.iter().flatten() {
        match &segment.values {
            Values::Absent => {}
            Values::Numbers(numbers) if numbers.unit == unit => scale = scale.max(numbers.scale),
            _ => return None,
        }
    }
    let mut segments = column.segments.iter().flatten();
    let fits = segments.all(|segment| match &segment.values {
        Values::Numbers(numbers) => factor(numbers, scale).is_some(),
        _ => true,
    });
    fits.then_some(scale)
}

/// What a segment's numbers are multiplied by to be of a scale; `None` when one does not fit.
pub(super) fn factor(numbers: &Numbers, scale: u8) -> Option<i64> {
    let by = 10_i64.checked_pow(u32::from(scale.checked_sub(numbers.scale)?))?;
    let (low, high) = numbers.range.unwrap_or((0, 0));
    (low.checked_mul(by).is_some() && high.checked_mul(by).is_some()).then_some(by)
}

/// The value of a segment that sorts first, at best.
fn best_of(column: &Column, number: u32, scale: u8, descending: bool) -> Option<i64> {
    let numbers: &Numbers = match &column.segment(number)?.values {
        Values::Numbers(numbers) => numbers,
        _ => return None,
    };
    let (low, high) = numbers.range?;
    let by = factor(numbers, scale)?;
    if descending {
        return Some(high * by);
    }
    // A row without a value would sort before.
    let nulls = numbers.forms.iter().any(|form| !form.has_value());
    let covered = numbers.values.len() == crate::column::SEGMENT_ROWS as usize;
    (!nulls && covered).then_some(low * by)
}

/// The value of the last row that is among the first so far; a row may have none.
#[derive(Debug, Clone, Copy)]
struct Bound(Option<i64>);

/// The first rows of an order, kept while more are offered.
struct Top {
    rows: Vec<Ranked>,
    most: usize,
    /// How many rows are let gather before the last of them go.
    full: usize,
    /// What a row must reach, once there are enough.
    bound: Option<Bound>,
    descending: bool,
}

impl Top {
    fn order(&self, a: Option<i64>, b: Option<i64>) -> Ordering {
        if self.descending {
            b.cmp(&a)
        } else {
            a.cmp(&b)
        }
    }

    /// Whether nothing at or behind a value can be among the first.
    fn is_behind(&self, value: Option<i64>) -> bool {
        self.most == 0
            || self
                .bound
                .is_some_and(|bound| self.order(value, bound.0).is_gt())
    }

    /// What a number must be, in units of a factor, to reach the bound.
    fn range(&self, by: i64) -> (i64, i64) {
        match self.bound {
            None => (i64::MIN, i64::MAX),
            Some(Bound(Some(bound))) if self.descending => (
                bound.div_euclid(by) + i64::from(bound.rem_euclid(by) > 0),
                i64::MAX,
            ),
            Some(Bound(Some(bound))) => (i64::MIN, bound.div_euclid(by)),
            Some(Bound(None)) if self.descending => (i64::MIN, i64::MAX),
            // Only what has no value sorts before.
            Some(Bound(None)) => (1, 0),
        }
    }

    /// Takes the rows of a segment that reach the bound.
    fn take_numbers(&mut self, numbers: &Numbers, by: i64, mask: &Mask, segment: u32) {
        let covered = numbers.values.len();
        if numbers.form_of.is_empty() && numbers.form(0).has_value() {
            mask.each_within(
                &numbers.values,
                self,
                |top| top.range(by),
                |top, row, value| top.offer(Some(value * by), slot_of(segment, row)),
            );
            for row in mask.behind(covered).rows() {
                self.offer(None, slot_of(segment, row));
            }
            return;
        }
        for row in mask.rows() {
            let has = row < covered && numbers.form(row).has_value();
            let value = numbers.values.get(row).filter(|_| has).map(|v| v * by);
            self.offer(value, slot_of(segment, row));
        }
    }

    #[inline]
    fn offer(&mut self, value: Option<i64>, slot: u32) {
        if self
            .bound
            .is_some_and(|bound| self.order(value, bound.0).is_gt())
        {
            return;
        }
        self.push(value, slot);
    }

    fn push(&mut self, value: Option<i64>, slot: u32) {
        self.rows.push((value, slot));
        // Amortised: half of them go each time, unless they tie.
        if self.most > 0 && self.rows.len() >= self.full {
            self.shrink();
            let kept = self.rows.len().max(self.most).max(128);
            self.full = kept.saturating_mul(2);
        }
    }

    fn shrink(&mut self) {
        if self.rows.len() <= self.most {
            return;
        }
        let descending = self.descending;
        let order = |a: &Ranked, b: &Ranked| {
            if descending {
                b.0.cmp(&a.0)
            } else {
                a.0.cmp(&b.0)
            }
        };
        let (_, last, _) = self
            .rows
            .select_nth_unstable_by(self.most.saturating_sub(1), order);
        let bound = last.0;
        self.bound = Some(Bound(bound));
        self.rows.retain(|row| {
            if descending {
                row.0 >= bound
            } else {
                row.0 <= bound
            }
        });
    }
}

/// Puts ranked slots in order, ties by key.
fn finish(
    table: &Table<'_>,
    mut found: Vec<Ranked>,
    descending: bool,
    most: usize,
) -> Result<Vec<u32>> {
    let order = |a: &Ranked, b: &Ranked| {
        if descending {
            b.0.cmp(&a.0)
        } else {
            a.0.cmp(&b.0)
        }
    };
    found.sort_by(order);
    let mut out = Vec::with_capacity(found.len().min(most));
    for ties in found.chunk_by(|a, b| a.0 == b.0) {
        if out.len() >= most {
            break;
        }
        let mut slots: Vec<u32> = ties.iter().map(|(_, slot)| *slot).collect();
        if slots.len() > 1 {
            slots = first_in_key_order(table, &slots, most - out.len())?;
        }
        out.extend(slots);
    }
    out.truncate(most);
    Ok(out)
}

/// The slots in ascending order of their keys.
pub(super) fn in_key_order(table: &Table<'_>, slots: &[u32]) -> Result<Vec<u32>> {
    first_in_key_order(table, slots, slots.len())
}

/// The first `most` of the slots in ascending order of their keys.
fn first_in_key_order(table: &Table<'_>, slots: &[u32], most: usize) -> Result<Vec<u32>> {
    if let Some(numbers) = table.integer_keys(slots)? {
        return Ok(first_of(
            numbers.into_iter().zip(slots.iter().copied()).collect(),
            most,
        ));
    }
    let keyed: Vec<(Key, u32)> = table
        .keys(slots)?
        .into_iter()
        .zip(slots.iter().copied())
        .collect();
    Ok(first_of(keyed, most))
}

fn first_of<K: Ord>(mut keyed: Vec<(K, u32)>, most: usize) -> Vec<u32> {
    if most > 0 && most < keyed.len() {
        keyed.select_nth_unstable(most - 1);
        keyed.truncate(most);
    }
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, slot)| slot).collect()
}
