//! `$apply` as the standard tells it: each transformation takes a list of rows and gives one.
//!
//! Groups are found by comparing each row with each group, numbers are fractions, medians come
//! from a sorted list. Nothing is shared with the library but the parsed text.

use std::cmp::Ordering;

use relist::odata::{
    Apply, Expr, Method, Named, OrderItem, Rank, Transformation, TransformationKind as Kind,
};
use relist::schema::{FieldType, Resource, Schema};
use relist::value::{Timestamp, Value, format_guid};
use serde_json::Value as Json;

use super::values::{Fraction, T, Typed, V};
use super::{Reference, order};

/// A row under way: an entity with what was computed of it, or named values alone.
#[derive(Clone)]
struct RefRow<'e> {
    entity: Option<&'e Json>,
    named: Vec<(String, Typed)>,
}

/// A result: for each row its members, each a name and its value in words that are equal exactly
/// when the values are.
pub type Rows = Vec<Vec<(String, String)>>;

/// What `$apply` makes of the entities. It must be one that binds to `resource`.
pub fn apply(
    apply: &Apply,
    entities: &[Json],
    schema: &Schema,
    resource: &Resource,
    now: Timestamp,
) -> Rows {
    let nothing = Json::Null;
    let world = World {
        schema,
        resource,
        now,
        nothing: &nothing,
    };
    let rows = entities.iter().map(|entity| RefRow {
        entity: Some(entity),
        named: Vec::new(),
    });
    let rows = world.sequence(&apply.steps, rows.collect());
    let words = |row: RefRow<'_>| {
        let named = row.named.into_iter();
        named.map(|(name, typed)| (name, words(&typed.value)))
    };
    rows.into_iter().map(|row| words(row).collect()).collect()
}

/// The library's value in the words of [`Rows`].
pub fn words_of(value: &Value<'_>) -> String {
    words(&match value {
        Value::Null => V::Null,
        Value::Bool(v) => V::Bool(*v),
        Value::Int(v) => V::Number(Fraction::whole(i128::from(*v))),
        Value::Decimal(v) => V::Number(Fraction::decimal(*v)),
        Value::Date(v) => V::Day(i64::from(v.0)),
        Value::DateTime(v) => V::Instant(
            i128::from(v.seconds) * 1_000_000_000 + i128::from(v.nanos),
            i64::from(v.offset_minutes),
        ),
        Value::TimeOfDay(v) => V::Time(i128::from(v.0)),
        Value::Guid(v) => V::Guid(format_guid(v)),
        Value::String(v) => V::Text(v.to_string()),
        Value::StringList(v) => V::List(v.iter().map(ToString::to_string).collect()),
        Value::GeoPoint(v) => V::Point(v.longitude, v.latitude),
        Value::Json(v) => V::Json(serde_json::from_str(v).expect("nested JSON")),
    })
}

/// The kind and the value: equal for equal values of one kind.
fn words(value: &V) -> String {
    format!("{} {value:?}", rank(value))
}

/// The place of a kind among the others; a day and an instant are told apart.
fn rank(value: &V) -> &'static str {
    match value {
        V::Null => "0",
        V::Bool(_) => "1",
        V::Number(_) => "2",
        V::Day(_) => "3 day",
        V::Instant(..) => "3 instant",
        V::Time(_) => "4",
        V::Guid(_) => "5",
        V::Text(_) => "6",
        V::List(_) => "7",
        V::Point(..) => "8",
        V::Shape(_) | V::Json(_) => "9",
    }
}

/// The order of any two values: by kind, then by value.
fn total(a: &V, b: &V) -> Ordering {
    let json = || match (a, b) {
        (V::Json(a), V::Json(b)) => Some(a.to_string().cmp(&b.to_string())),
        (V::Null, V::Null) => Some(Ordering::Equal),
        (V::Point(ax, ay), V::Point(bx, by)) => (ax, ay).partial_cmp(&(bx, by)),
        _ => None,
    };
    let own = order(a, b).or_else(json);
    own.unwrap_or_else(|| rank(a)[..1].cmp(&rank(b)[..1]))
}

/// An instant in UTC; anything else as it is.
fn plain(typed: Typed) -> Typed {
    let value = match typed.value {
        V::Instant(nanos, _) => V::Instant(nanos, 0),
        other => other,
    };
    Typed { value, ..typed }
}

struct World<'w> {
    schema: &'w Schema,
    resource: &'w Resource,
    now: Timestamp,
    nothing: &'w Json,
}

impl<'w> World<'w> {
    fn eval(&self, expr: &Expr, row: &RefRow<'w>) -> Typed {
        let reference = Reference {
            entity: row.entity.unwrap_or(self.nothing),
            schema: self.schema,
            resource: self.resource,
            now: self.now,
        };
        reference.eval(expr, &row.named)
    }

    fn sequence(&self, steps: &[Transformation], rows: Vec<RefRow<'w>>) -> Vec<RefRow<'w>> {
        steps.iter().fold(rows, |rows, step| self.step(step, rows))
    }

    fn step(&self, step: &Transformation, mut rows: Vec<RefRow<'w>>) -> Vec<RefRow<'w>> {
        match &step.kind {
            Kind::Identity => rows,
            Kind::Filter(expr) => {
                rows.retain(|row| self.eval(expr, row).truth() == Some(true));
                rows
            }
            Kind::Compute(items) => {
                for row in &mut rows {
                    for item in items {
                        let mut value = self.eval(&item.expr, row);
                        if row.entity.is_none() {
                            value = plain(value);
                        }
                        let name = item.name.as_ref().expect("a name").text.clone();
                        row.named.push((name, value));
                    }
                }
                rows
            }
            Kind::GroupBy { keys, then } => self.group_by(keys, then.as_ref(), &rows),
            Kind::Aggregate(items) => {
                let named = items.iter().map(|item| {
                    let result = match &item.value {
                        None => Typed::of(number(rows.len()), FieldType::Int),
                        Some((expr, method)) => {
                            let values = rows.iter().map(|row| self.eval(expr, row));
                            aggregate(*method, &values.collect::<Vec<_>>())
                        }
                    };
                    (item.name.text.clone(), result)
                });
                vec![RefRow {
                    entity: None,
                    named: named.collect(),
                }]
            }
            Kind::OrderBy(items) => self.order_by(items, rows),
            Kind::Top(n) => rows
                .into_iter()
                .take(usize::try_from(*n).unwrap())
                .collect(),
            Kind::Skip(n) => rows
                .into_iter()
                .skip(usize::try_from(*n).unwrap())
                .collect(),
            Kind::Ranked { rank, amount, by } => self.ranked(*rank, amount, by, rows),
        }
    }

    fn group_by(
        &self,
        keys: &[Named],
        then: Option<&Apply>,
        rows: &[RefRow<'w>],
    ) -> Vec<RefRow<'w>> {
        type Part<'p> = (Vec<Typed>, Vec<RefRow<'p>>);
        let mut parts: Vec<Part<'_>> = Vec::new();
        for row in rows {
            let own: Vec<Typed> = keys
                .iter()
                .map(|k| plain(self.eval(&k.expr, row)))
                .collect();
            let same = |part: &&mut Part<'_>| {
                part.0
                    .iter()
                    .zip(&own)
                    .all(|(a, b)| words(&a.value) == words(&b.value))
            };
            match parts.iter_mut().find(same) {
                Some(part) => part.1.push(row.clone()),
                None => parts.push((own, vec![row.clone()])),
            }
        }
        parts.sort_by(|(a, _), (b, _)| {
            let pairs = || a.iter().zip(b).map(|(a, b)| (&a.value, &b.value));
            let by_value = pairs().map(|(a, b)| total(a, b)).find(|o| o.is_ne());
            let by_kind = || {
                pairs()
                    .map(|(a, b)| rank(a).cmp(rank(b)))
                    .find(|o| o.is_ne())
            };
            by_value.or_else(by_kind).unwrap_or(Ordering::Equal)
        });
        let mut out = Vec::new();
        for (own, part) in parts {
            let names = keys.iter().map(|k| match &k.name {
                Some(name) => name.text.clone(),
                None => k.default_name().expect("a name"),
            });
            let named: Vec<(String, Typed)> = names.zip(own).collect();
            let rows = match then {
                Some(then) => self.sequence(&then.steps, part),
                None => vec![RefRow {
                    entity: None,
                    named: Vec::new(),
                }],
            };
            for mut row in rows {
                // The members that group are added to those that have lost them.
                let missing: Vec<_> = named
                    .iter()
                    .filter(|(name, _)| row.named.iter().all(|(known, _)| known != name))
                    .cloned()
                    .collect();
                row.named.splice(0..0, missing);
                out.push(row);
            }
        }
        out
    }

    fn order_by(&self, items: &[OrderItem], mut rows: Vec<RefRow<'w>>) -> Vec<RefRow<'w>> {
        // From the last key to the first, each a stable sort.
        for item in items.iter().rev() {
            rows.sort_by(|a, b| {
                let (a, b) = (self.eval(&item.expr, a), self.eval(&item.expr, b));
                let order = total(&a.value, &b.value);
                if item.descending {
                    order.reverse()
                } else {
                    order
                }
            });
        }
        rows
    }

    fn ranked(
        &self,
        rank: Rank,
        amount: &Expr,
        by: &Expr,
        mut rows: Vec<RefRow<'w>>,
    ) -> Vec<RefRow<'w>> {
        let wanted = RefRow {
            entity: None,
            named: Vec::new(),
        };
        let V::Number(wanted) = self.eval(amount, &wanted).value else {
            panic!("{amount} is no number");
        };
        rows.sort_by(|a, b| {
            let order = total(&self.eval(by, a).value, &self.eval(by, b).value);
            if rank.descending() {
                order.reverse()
            } else {
                order
            }
        });
        let value = |row: &RefRow<'w>| match self.eval(by, row).value {
            V::Number(n) => n,
            _ => Fraction::whole(0),
        };
        let all = rows.iter().map(value).fold(Fraction::whole(0), sum);
        let enough = match rank {
            Rank::TopPercent | Rank::BottomPercent => {
                Fraction::of(all.over * wanted.over, all.under * wanted.under * 100)
            }
            _ => wanted,
        };
        let mut kept = Vec::new();
        let mut so_far = Fraction::whole(0);
        for row in rows {
            if so_far.over * enough.under >= enough.over * so_far.under {
                break;
            }
            let step = if rank.counts() {
                Fraction::whole(1)
            } else {
                value(&row)
            };
            so_far = sum(so_far, step);
            kept.push(row);
        }
        kept
    }
}

fn number(n: usize) -> V {
    V::Number(Fraction::whole(n as i128))
}

fn sum(a: Fraction, b: Fraction) -> Fraction {
    Fraction::of(a.over * b.under + b.over * a.under, a.under * b.under)
}

fn aggregate(method: Method, values: &[Typed]) -> Typed {
    let ty = values.first().map_or(T::Unknown, |v| v.ty.clone());
    let mut numbers: Vec<Fraction> = values
        .iter()
        .filter_map(|v| match v.value {
            V::Number(n) => Some(n),
            _ => None,
        })
        .collect();
    numbers.sort_by(|a, b| (a.over * b.under).cmp(&(b.over * a.under)));
    let total_sum = numbers.iter().copied().fold(Fraction::whole(0), sum);
    let decimal = |n: Option<Fraction>| Typed::of(n.map_or(V::Null, V::Number), FieldType::Decimal);
    match method {
        Method::Sum => Typed {
            value: if numbers.is_empty() {
                V::Null
            } else {
                V::Number(total_sum)
            },
            ty,
        },
        Method::Average => {
            decimal((!numbers.is_empty()).then(|| mean(total_sum, numbers.len() as i128)))
        }
        Method::Percentile(percent) => decimal(percentile(&numbers, i128::from(percent))),
        Method::CountDistinct => {
            let mut seen: Vec<String> = values
                .iter()
                .map(|v| words(&plain(v.clone()).value))
                .filter(|w| !w.starts_with('0'))
                .collect();
            seen.sort();
            seen.dedup();
            Typed::of(number(seen.len()), FieldType::Int)
        }
        Method::Min | Method::Max => {
            let mut fitting: Vec<Typed> = values
                .iter()
                .filter(|v| v.value != V::Null && fits(v))
                .cloned()
                .map(plain)
                .collect();
            fitting.sort_by(|a, b| {
                let order = total(&a.value, &b.value);
                let order = match method {
                    Method::Max => order.reverse(),
                    _ => order,
                };
                order.then(rank(&a.value).cmp(rank(&b.value)))
            });
            let value = fitting.first().map_or(V::Null, |v| v.value.clone());
            Typed { value, ty }
        }
    }
}

/// Whether a value is of the kind that its declared type has.
fn fits(typed: &Typed) -> bool {
    let T::Field(ty) = &typed.ty else { return true };
    match typed.value {
        V::Bool(_) => *ty == FieldType::Bool,
        V::Number(_) => matches!(ty, FieldType::Int | FieldType::Decimal),
        V::Day(_) | V::Instant(..) => matches!(ty, FieldType::Date | FieldType::DateTime),
        V::Time(_) => *ty == FieldType::TimeOfDay,
        V::Guid(_) => *ty == FieldType::Guid,
        V::Text(_) => matches!(ty, FieldType::String | FieldType::Lookup(_)),
        _ => false,
    }
}

/// To six digits more than the sum has, halves to the even digit.
fn mean(sum: Fraction, count: i128) -> Fraction {
    let mut unit = 1_i128;
    while (sum.over * unit) % sum.under != 0 {
        unit *= 10;
    }
    unit *= 1_000_000;
    let exact = Fraction::of(sum.over * unit, sum.under * count);
    let below = exact.over.div_euclid(exact.under);
    let rest = Fraction::of(exact.over - below * exact.under, exact.under);
    let whole = match (2 * rest.over).cmp(&rest.under) {
        Ordering::Less => below,
        Ordering::Greater => below + 1,
        Ordering::Equal if below % 2 == 0 => below,
        Ordering::Equal => below + 1,
    };
    Fraction::of(whole, unit)
}

fn percentile(sorted: &[Fraction], percent: i128) -> Option<Fraction> {
    let place = Fraction::of((sorted.len().checked_sub(1)?) as i128 * percent, 100);
    let below = usize::try_from(place.over / place.under).unwrap();
    let share = Fraction::of(place.over % place.under, place.under);
    let low = sorted[below];
    let high = sorted.get(below + 1).copied().unwrap_or(low);
    let gap = Fraction::of(
        high.over * low.under - low.over * high.under,
        high.under * low.under,
    );
    let step = Fraction::of(gap.over * share.over, gap.under * share.under);
    Some(sum(low, step))
}
