//! What is done with the groups once they are complete.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::groups::{BytesHash, GroupRow, Groups};
use super::key::{canonical, encode};
use crate::error::{Error, Result};
use crate::odata::{Expression, GroupStep, OrderBy, Rank};
use crate::value::{Decimal, Value};

/// Does the steps with the rows. Also gives how many rows there were at [`GroupStep::Count`].
///
/// # Errors
/// [`Error::Usage`] where a sum has more than 38 digits.
pub fn run_steps(rows: Vec<GroupRow>, steps: &[GroupStep]) -> Result<(Vec<GroupRow>, Option<u64>)> {
    let mut count = None;
    let mut rows = rows;
    for step in steps {
        rows = match step {
            GroupStep::Filter(predicate) => {
                rows.retain(|row| predicate.matches(row));
                rows
            }
            GroupStep::Compute(added) => computed(rows, added),
            GroupStep::OrderBy(orderby) => sorted(rows, orderby),
            GroupStep::Top(most) => {
                rows.truncate(usize::try_from(*most).unwrap_or(usize::MAX));
                rows
            }
            GroupStep::Skip(first) => {
                let first = usize::try_from(*first).unwrap_or(usize::MAX);
                rows.drain(..first.min(rows.len()));
                rows
            }
            GroupStep::Ranked { rank, amount, by } => ranked(rows, *rank, *amount, by)?,
            GroupStep::Group(grouping) => {
                let mut groups = Groups::new(grouping);
                for row in &rows {
                    groups.add(row)?;
                }
                groups.finish()?
            }
            GroupStep::Each { keys, then } => each(rows, keys, then)?,
            GroupStep::Count => {
                count = Some(rows.len() as u64);
                rows
            }
            GroupStep::Select(places) => {
                let pick = |row: GroupRow| GroupRow {
                    values: places
                        .iter()
                        .map(|at| row.values.get(*at).cloned().unwrap_or(Value::Null))
                        .collect(),
                };
                rows.into_iter().map(pick).collect()
            }
        };
    }
    Ok((rows, count))
}

fn computed(mut rows: Vec<GroupRow>, added: &[Expression]) -> Vec<GroupRow> {
    for row in &mut rows {
        for expression in added {
            let value = canonical(expression.value(&*row));
            row.values.push(value);
        }
    }
    rows
}

fn sorted(rows: Vec<GroupRow>, orderby: &OrderBy) -> Vec<GroupRow> {
    let own = |row: &GroupRow| -> Vec<Value<'static>> {
        orderby
            .key(row)
            .into_iter()
            .map(Value::into_owned)
            .collect()
    };
    by_key(rows, own, |a, b| orderby.compare(a, b))
}

/// Sorts rows by a key that is made once for each; equal ones stay in their order.
fn by_key<K>(
    rows: Vec<GroupRow>,
    key: impl Fn(&GroupRow) -> K,
    compare: impl Fn(&K, &K) -> Ordering,
) -> Vec<GroupRow> {
    let mut keyed: Vec<(K, GroupRow)> = rows.into_iter().map(|row| (key(&row), row)).collect();
    keyed.sort_by(|(a, _), (b, _)| compare(a, b));
    keyed.into_iter().map(|(_, row)| row).collect()
}

fn ranked(
    rows: Vec<GroupRow>,
    rank: Rank,
    amount: Decimal,
    by: &Expression,
) -> Result<Vec<GroupRow>> {
    let own = |row: &GroupRow| by.value(row).into_owned();
    let mut rows = by_key(rows, own, |a, b| {
        let order = a.total_cmp(b);
        if rank.descending() {
            order.reverse()
        } else {
            order
        }
    });
    if rank.counts() {
        let most = amount.to_i64().and_then(|n| usize::try_from(n).ok());
        rows.truncate(most.unwrap_or(usize::MAX));
        return Ok(rows);
    }
    let too_long = || Error::Usage(format!("{} sums more than 38 digits", rank.name()));
    let number = |row: &GroupRow| by.value(row).as_decimal();
    let mut wanted = amount;
    if matches!(rank, Rank::TopPercent | Rank::BottomPercent) {
        let mut total = Decimal::from(0);
        for value in rows.iter().filter_map(number) {
            total = total.checked_add(value).ok_or_else(too_long)?;
        }
        let part = Decimal::new(1, 2).and_then(|hundredth| amount.checked_mul(hundredth));
        wanted = part
            .and_then(|p| total.checked_mul(p))
            .ok_or_else(too_long)?;
    }
    let mut sum = Decimal::from(0);
    let mut kept = 0;
    for row in &rows {
        if sum >= wanted {
            break;
        }
        if let Some(value) = number(row) {
            sum = sum.checked_add(value).ok_or_else(too_long)?;
        }
        kept += 1;
    }
    rows.truncate(kept);
    Ok(rows)
}

/// Does the steps with the rows of each group by themselves, the groups in order of their keys.
fn each(rows: Vec<GroupRow>, keys: &[Expression], then: &[GroupStep]) -> Result<Vec<GroupRow>> {
    type Part = (Vec<Value<'static>>, Vec<GroupRow>);
    let mut places: HashMap<Vec<u8>, usize, BytesHash> = HashMap::default();
    let mut parts: Vec<Part> = Vec::new();
    for row in rows {
        let values: Vec<_> = keys.iter().map(|k| canonical(k.value(&row))).collect();
        let mut encoded = Vec::new();
        for value in &values {
            encode(value, &mut encoded);
        }
        let place = *places.entry(encoded).or_insert_with(|| {
            parts.push((values, Vec::new()));
            parts.len() - 1
        });
        if let Some((_, own)) = parts.get_mut(place) {
            own.push(row);
        }
    }
    parts.sort_by(|(a, _), (b, _)| {
        let mut orders = a.iter().zip(b).map(|(a, b)| a.total_cmp(b));
        orders.find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    });
    let mut out = Vec::new();
    for (_, own) in parts {
        out.extend(run_steps(own, then)?.0);
    }
    Ok(out)
}
