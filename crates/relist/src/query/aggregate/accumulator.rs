//! What is known of one aggregate of one group so far.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::exact::{mean, percentile};
use super::groups::BytesHash;
use super::key::{canonical, encode};
use crate::error::{Error, Result};
use crate::odata::{Aggregate, Method};
use crate::schema::FieldType;
use crate::value::{Decimal, Value};

/// One aggregate of one group under way. Values may be added in any order, and in parts that are
/// merged: the result is the same.
#[derive(Debug, Clone)]
pub enum Accumulator {
    /// `$count`: how many rows.
    Rows(u64),
    /// `sum` and `average`.
    Sum {
        /// The exact sum.
        sum: Decimal,
        /// Of so many numbers.
        count: u64,
    },
    /// `min` and `max`: the best so far.
    Extreme(Option<Value<'static>>),
    /// `countdistinct`: the values, encoded.
    Distinct(HashSet<Box<[u8]>, BytesHash>),
    /// Percentiles: the numbers.
    Numbers(Vec<Decimal>),
    /// The result, known at once: nothing more is added.
    Done(Value<'static>),
}

impl Accumulator {
    /// Of nothing yet.
    pub fn new(aggregate: &Aggregate) -> Self {
        match aggregate.method {
            None => Accumulator::Rows(0),
            Some(Method::Sum | Method::Average) => Accumulator::Sum {
                sum: Decimal::from(0),
                count: 0,
            },
            Some(Method::Min | Method::Max) => Accumulator::Extreme(None),
            Some(Method::CountDistinct) => Accumulator::Distinct(HashSet::default()),
            Some(Method::Percentile(_)) => Accumulator::Numbers(Vec::new()),
        }
    }

    /// Adds the value of one row; of `$count`, whatever the value is.
    ///
    /// # Errors
    /// [`Error::Usage`] where a sum has more than 38 digits.
    pub fn add(&mut self, aggregate: &Aggregate, value: &Value<'_>) -> Result<()> {
        match self {
            Accumulator::Rows(rows) => *rows += 1,
            Accumulator::Sum { sum, count } => {
                if let Some(number) = value.as_decimal() {
                    *sum = sum.checked_add(number).ok_or_else(|| too_long(aggregate))?;
                    *count += 1;
                }
            }
            Accumulator::Extreme(best) => {
                if belongs(value, &aggregate.of) && improves(aggregate, best.as_ref(), value) {
                    *best = Some(canonical(value.clone()));
                }
            }
            Accumulator::Distinct(seen) => {
                if !value.is_null() {
                    let mut bytes = Vec::with_capacity(32);
                    encode(value, &mut bytes);
                    if !seen.contains(bytes.as_slice()) {
                        seen.insert(bytes.into_boxed_slice());
                    }
                }
            }
            Accumulator::Numbers(numbers) => numbers.extend(value.as_decimal()),
            Accumulator::Done(_) => {}
        }
        Ok(())
    }

    /// Adds what another of the same aggregate knows.
    ///
    /// # Errors
    /// As [`add`](Accumulator::add).
    pub fn merge(&mut self, aggregate: &Aggregate, other: Accumulator) -> Result<()> {
        match (self, other) {
            (Accumulator::Rows(rows), Accumulator::Rows(more)) => *rows += more,
            (
                Accumulator::Sum { sum, count },
                Accumulator::Sum {
                    sum: more_sum,
                    count: more,
                },
            ) => {
                *sum = sum
                    .checked_add(more_sum)
                    .ok_or_else(|| too_long(aggregate))?;
                *count += more;
            }
            (Accumulator::Extreme(best), Accumulator::Extreme(Some(value))) => {
                if improves(aggregate, best.as_ref(), &value) {
                    *best = Some(value);
                }
            }
            (Accumulator::Distinct(seen), Accumulator::Distinct(more)) => seen.extend(more),
            (Accumulator::Numbers(numbers), Accumulator::Numbers(more)) => numbers.extend(more),
            (own, done @ Accumulator::Done(_)) => *own = done,
            // Of one aggregate there is one kind.
            _ => {}
        }
        Ok(())
    }

    /// The result.
    ///
    /// # Errors
    /// As [`add`](Accumulator::add).
    pub fn finish(self, aggregate: &Aggregate) -> Result<Value<'static>> {
        let whole = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        Ok(match self {
            Accumulator::Done(value) => value,
            Accumulator::Rows(rows) => whole(rows),
            Accumulator::Sum { count: 0, .. } => Value::Null,
            Accumulator::Sum { sum, count } => match aggregate.method {
                Some(Method::Average) => {
                    let mean = mean(sum, count).ok_or_else(|| too_long(aggregate))?;
                    canonical(Value::Decimal(mean))
                }
                _ => canonical(Value::Decimal(sum)),
            },
            Accumulator::Extreme(best) => best.unwrap_or(Value::Null),
            Accumulator::Distinct(seen) => whole(seen.len() as u64),
            Accumulator::Numbers(mut numbers) => {
                let percent = match aggregate.method {
                    Some(Method::Percentile(percent)) => percent,
                    _ => 50,
                };
                if numbers.is_empty() {
                    Value::Null
                } else {
                    let found = percentile(&mut numbers, percent);
                    canonical(Value::Decimal(found.ok_or_else(|| too_long(aggregate))?))
                }
            }
        })
    }
}

fn too_long(aggregate: &Aggregate) -> Error {
    let name = &aggregate.name;
    Error::Usage(format!("{name} has more digits than the 38 that are kept"))
}

/// Whether a value is of the kind that its type says; among others an order means nothing.
fn belongs(value: &Value<'_>, ty: &FieldType) -> bool {
    use FieldType as F;
    match value {
        Value::Null => false,
        Value::Bool(_) => matches!(ty, F::Bool | F::Json),
        Value::Int(_) | Value::Decimal(_) => matches!(ty, F::Int | F::Decimal | F::Json),
        Value::Date(_) | Value::DateTime(_) => matches!(ty, F::Date | F::DateTime | F::Json),
        Value::TimeOfDay(_) => matches!(ty, F::TimeOfDay | F::Json),
        Value::Guid(_) => matches!(ty, F::Guid | F::Json),
        Value::String(_) => matches!(ty, F::String | F::Lookup(_) | F::Json),
        Value::StringList(_) | Value::GeoPoint(_) | Value::Json(_) => *ty == F::Json,
    }
}

/// Whether the value is better than the best so far. A day is equal to its midnight; of the two
/// the day is taken, so that the order of rows does not matter.
fn improves(aggregate: &Aggregate, best: Option<&Value<'_>>, value: &Value<'_>) -> bool {
    let Some(best) = best else { return true };
    let order = value.total_cmp(best);
    match aggregate.method {
        _ if order == Ordering::Equal => {
            matches!((value, best), (Value::Date(_), Value::DateTime(_)))
        }
        Some(Method::Max) => order == Ordering::Greater,
        _ => order == Ordering::Less,
    }
}
