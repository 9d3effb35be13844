//! Groups made of columns: each key becomes a number a row, each aggregate one pass over a column.
//!
//! What columns cannot say plainly (an expression of several fields, values that drifted from
//! their type) is asked of each row; the answer is the same either way.

use std::collections::HashMap;

use super::accumulator::Accumulator;
use super::coder::Coder;
use super::groups::{GroupRow, Groups};
use super::key::canonical;
use super::sums::Summing;
use crate::column::{SEGMENT_ROWS, on_all_cores};
use crate::error::Result;
use crate::odata::Grouping;
use crate::query::filter::{Selection, select};
use crate::query::table::Table;
use crate::schema::FieldId;
use crate::value::Value;

/// Rows that one core groups as fast as two.
const WORTH_SHARING: u64 = 4_096;

/// The groups of the selected rows, with their results, in the order of their keys.
pub(super) fn grouped(
    table: &Table<'_>,
    grouping: &Grouping,
    selection: &Selection,
) -> Result<Vec<GroupRow>> {
    let inner = match &grouping.inner {
        Some(predicate) => Some(select(table, Some(predicate))?),
        None => None,
    };
    let segments: Vec<u32> = (0_u32..)
        .zip(&selection.masks)
        .filter(|(_, mask)| !mask.is_empty())
        .map(|(number, _)| number)
        .collect();
    // Two halves, merged in the end, where there is enough to do.
    let many = selection.count() > WORTH_SHARING && segments.len() > 1;
    let half = segments.len().div_ceil(if many { 2 } else { 1 }).max(1);
    let mut parts: Vec<(Work<'_>, &[u32])> = Vec::new();
    let none: Option<&[u32]> = segments.is_empty().then_some(&[]);
    for part in segments.chunks(half).chain(none) {
        let Some(work) = Work::new(table, grouping)? else {
            return row_by_row(table, grouping, selection);
        };
        parts.push((work, part));
    }
    let done = on_all_cores(parts, |(mut work, part)| {
        for number in part {
            work.add_segment(*number, selection, inner.as_ref());
        }
        work
    });
    let mut done = done.into_iter();
    let Some(mut work) = done.next() else {
        return Ok(Vec::new());
    };
    done.for_each(|other| work.merge(&other));
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
    table.all_read()?;
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

impl<'t> Work<'t> {
    /// `None` for what columns cannot say plainly.
    fn new(table: &Table<'_>, grouping: &'t Grouping) -> Result<Option<Self>> {
        let keys = grouping.keys.iter();
        let keys: Option<Vec<_>> = keys
            .map(|key| Coder::new(table, &key.value))
            .collect::<Result<_>>()?;
        let sums = grouping.aggregates.iter();
        let sums: Option<Vec<_>> = sums
            .map(|aggregate| Summing::new(table, aggregate))
            .collect::<Result<_>>()?;
        Ok(keys.zip(sums).map(|(keys, sums)| Work {
            pairs: (1..keys.len()).map(|_| Pairs::default()).collect(),
            keys,
            sums,
            groups: 0,
        }))
    }

    fn add_segment(&mut self, number: u32, selection: &Selection, inner: Option<&Selection>) {
        let Some(mask) = selection.masks.get(number as usize) else {
            return;
        };
        let mut rows: Vec<u32> = Vec::with_capacity(SEGMENT_ROWS as usize);
        rows.extend(mask.rows().filter_map(|row| u32::try_from(row).ok()));
        let group_of = self.group_of(number, &rows);
        match inner.and_then(|inner| inner.masks.get(number as usize)) {
            None => self.add(number, &rows, &group_of),
            Some(inner) => {
                let pairs = rows.iter().zip(&group_of);
                let passing = pairs.filter(|(row, _)| inner.contains(**row as usize));
                let (rows, group_of): (Vec<u32>, Vec<u32>) = passing.map(|(a, b)| (*a, *b)).unzip();
                self.add(number, &rows, &group_of);
            }
        }
    }

    /// The numbers of the keys of a group.
    fn codes_of(&self, group: u32) -> Vec<u32> {
        let mut codes = vec![0; self.keys.len()];
        let mut place = group;
        for at in (0..codes.len()).rev() {
            let pairs = at.checked_sub(1).and_then(|before| self.pairs.get(before));
            let (before, code) = match pairs {
                Some(pairs) => pairs.items.get(place as usize).copied().unwrap_or((0, 0)),
                None => (0, place),
            };
            place = before;
            if let Some(own) = codes.get_mut(at) {
                *own = code;
            }
        }
        codes
    }

    /// Adds what another found in other rows.
    fn merge(&mut self, other: &Work<'_>) {
        let own_codes: Vec<Vec<u32>> = self
            .keys
            .iter_mut()
            .zip(&other.keys)
            .map(|(own, other)| other.values.iter().map(|v| own.intern(v.clone())).collect())
            .collect();
        let mut place_of = Vec::with_capacity(other.groups);
        for group in 0..other.groups {
            let codes = other.codes_of(u32::try_from(group).unwrap_or(0));
            let mut codes = codes
                .iter()
                .zip(&own_codes)
                .map(|(code, own)| own.get(*code as usize).copied().unwrap_or(0));
            let mut place = codes.next().unwrap_or(0);
            for (code, pairs) in codes.zip(&mut self.pairs) {
                place = pairs.place(place, code);
            }
            place_of.push(place);
        }
        self.groups = match (self.keys.first(), self.pairs.last()) {
            (None, _) => self.groups.max(other.groups),
            (Some(only), None) => only.values.len(),
            (_, Some(pairs)) => pairs.items.len(),
        };
        for (own, other) in self.sums.iter_mut().zip(&other.sums) {
            own.merge(other, &place_of, self.groups);
        }
    }

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
        let all = (0..self.groups).map(|group| self.codes_of(u32::try_from(group).unwrap_or(0)));
        let codes: Vec<Vec<u32>> = all.collect();
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
            let codes = codes.get(group).map_or(&[][..], Vec::as_slice);
            let keys = codes.iter().zip(&self.keys).map(|(code, coder)| {
                coder
                    .values
                    .get(*code as usize)
                    .cloned()
                    .unwrap_or(Value::Null)
            });
            let keys: Vec<Value<'static>> = keys.collect();
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
