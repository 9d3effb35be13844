//! What the page shows, asked of a snapshot.

use std::collections::BTreeMap;

use relist::error::{Error, Result};
use relist::odata::Query;
use relist::query::{AggregateResult, CHANGES, QueryContext};
use relist::record::Record;
use relist::schema::{FieldId, Resource};
use relist::store::{AsOf, Snapshot};
use relist::value::{Timestamp, Value};
use serde_json::{Value as Json, json};

const DAY: i64 = 86_400_000_000;
/// The most points of a line.
const POINTS: i64 = 90;
/// The most listings on the map.
const DOTS: usize = 8_000;
/// The widest of the bars that count days on the market, and how many there are.
const BAR_DAYS: i64 = 14;
const BARS: usize = 14;

/// The statuses that a listing can be bought in.
const ACTIVE: &str = "Active";

/// All that the page shows of a resource of listings.
pub(super) fn market(snapshot: &Snapshot, resource: &str, now: Timestamp) -> Result<Json> {
    let definition = snapshot.resource(resource)?;
    for name in ["StandardStatus", "ListPrice"] {
        if definition.field_id(name).is_none() {
            let text = format!("{resource} has no field {name}: it is no resource of listings");
            return Err(Error::Usage(text));
        }
    }
    let asking = Asking {
        snapshot,
        resource,
        now,
    };
    let span = asking.span(now)?;
    let mut days = Vec::new();
    for at in &span {
        days.push(asking.day(*at)?);
    }
    let first = span.first().copied().unwrap_or(now);
    Ok(json!({
        "resource": resource,
        "sequence": snapshot.sequence(),
        "records": snapshot.count(resource)?,
        "asOf": span.last().map(|at| at.to_datetime().format(0, true)),
        "days": days,
        "cuts": asking.cuts(first)?,
        "onMarket": asking.days_on_market(&definition)?,
        "flow": asking.flow(first)?,
        "map": asking.map(&definition)?,
    }))
}

struct Asking<'a> {
    snapshot: &'a Snapshot,
    resource: &'a str,
    now: Timestamp,
}

impl Asking<'_> {
    fn context(&self, at: Option<Timestamp>) -> QueryContext {
        QueryContext {
            as_of: at.map(AsOf::Instant),
            ..QueryContext::new(self.now)
        }
    }

    fn query(&self, filter: Option<&str>) -> Result<Query> {
        let query = Query::new(self.resource);
        Ok(match filter {
            Some(filter) => query.filter(filter)?,
            None => query,
        })
    }

    fn groups(&self, apply: &str, at: Option<Timestamp>) -> Result<AggregateResult> {
        let query = Query::new(self.resource).apply(apply)?;
        self.snapshot.apply(&query, &self.context(at))
    }

    /// The ends of the days that there is a history of, at most [`POINTS`] of them.
    fn span(&self, now: Timestamp) -> Result<Vec<Timestamp>> {
        let bounds = |first: u64| -> Result<Option<Timestamp>> {
            let mut changes = self.snapshot.changes(first)?;
            Ok(changes.next().transpose()?.map(|change| change.observed))
        };
        let oldest = match self.snapshot.changes(0) {
            Err(Error::Pruned { oldest }) => oldest - 1,
            _ => 0,
        };
        let last = self.snapshot.sequence();
        let (Some(begin), Some(end)) = (bounds(oldest)?, bounds(last.saturating_sub(1))?) else {
            return Ok(vec![now]);
        };
        let (first, last) = (begin.0.div_euclid(DAY), end.0.div_euclid(DAY));
        let step = (last - first) / POINTS + 1;
        let mut out: Vec<Timestamp> = (first..last)
            .rev()
            .step_by(usize::try_from(step).unwrap_or(1))
            .map(|day| Timestamp((day + 1) * DAY - 1))
            .collect();
        out.reverse();
        out.push(end);
        Ok(out)
    }

    /// The market at the end of a day.
    fn day(&self, at: Timestamp) -> Result<Json> {
        let apply = "groupby((StandardStatus),aggregate($count as Count))";
        let mut statuses: BTreeMap<String, u64> = BTreeMap::new();
        for row in self.groups(apply, Some(at))?.rows {
            let [status, count] = row.values.as_slice() else {
                continue;
            };
            statuses.insert(plain(status), whole(count));
        }
        let apply = format!(
            "filter(StandardStatus eq '{ACTIVE}')/aggregate(ListPrice with \
             Relist.median as Price)"
        );
        let price = self.groups(&apply, Some(at))?;
        let price = price.rows.first().and_then(|row| row.values.first());
        Ok(json!({
            "date": at.to_datetime().date().to_string(),
            "statuses": statuses,
            "price": price.and_then(number),
        }))
    }

    /// Price cuts by the day they were observed on, and how deep they were.
    fn cuts(&self, first: Timestamp) -> Result<Json> {
        let filter = format!(
            "ResourceName eq '{}' and FieldName eq 'ListPrice' and NewValue lt PreviousValue",
            self.resource
        );
        let query = Query::new(CHANGES).filter(&filter)?;
        let mut days: BTreeMap<String, (u64, f64)> = BTreeMap::new();
        let context = self.context(None);
        self.snapshot
            .query_changes(&query, &context, &mut |row, _| {
                let sides = row.previous().zip(row.new_value());
                let numbers =
                    sides.and_then(|(a, b)| Some((number(&a.value())?, number(&b.value())?)));
                if let Some((before, after)) = numbers.filter(|(before, _)| *before > 0.0)
                    && row.observed >= Timestamp(first.0 - DAY)
                {
                    let date = row.observed.to_datetime().date().to_string();
                    let day = days.entry(date).or_default();
                    day.0 += 1;
                    day.1 += 1.0 - after / before;
                }
                Ok(true)
            })?;
        let rows = days.into_iter().map(|(date, (count, share))| {
            #[expect(clippy::cast_precision_loss, reason = "a count of one day")]
            let mean = share / count as f64;
            json!({"date": date, "count": count, "mean": mean})
        });
        Ok(rows.collect())
    }

    /// How long what is active has been for sale, in bars of two weeks.
    fn days_on_market(&self, definition: &Resource) -> Result<Json> {
        let Some(field) = definition.field_id("DaysOnMarket") else {
            return Ok(Json::Null);
        };
        let mut bars = vec![0_u64; BARS];
        let mut all: Vec<i64> = Vec::new();
        self.active(&["DaysOnMarket"], |record| {
            if let Some(days) = integer(record, field) {
                all.push(days);
                let bar = usize::try_from(days.max(0) / BAR_DAYS).unwrap_or(BARS);
                if let Some(count) = bars.get_mut(bar.min(BARS - 1)) {
                    *count += 1;
                }
            }
        })?;
        all.sort_unstable();
        let median = all.get(all.len() / 2);
        Ok(json!({"width": BAR_DAYS, "bars": bars, "median": median}))
    }

    /// Visits what is active, with a few fields.
    fn active(&self, fields: &[&str], mut visit: impl FnMut(&Record)) -> Result<()> {
        let filter = format!("StandardStatus eq '{ACTIVE}'");
        let query = self.query(Some(&filter))?.select(fields.iter().copied());
        self.snapshot
            .query_each(&query, &self.context(None), &mut |record, _| {
                visit(record);
                Ok(true)
            })?;
        Ok(())
    }

    /// From which status to which, and how often.
    fn flow(&self, first: Timestamp) -> Result<Json> {
        let filter = format!(
            "ResourceName eq '{}' and FieldName eq 'StandardStatus'",
            self.resource
        );
        let query = Query::new(CHANGES).filter(&filter)?;
        let mut moves: BTreeMap<(String, String), u64> = BTreeMap::new();
        let context = self.context(None);
        self.snapshot
            .query_changes(&query, &context, &mut |row, _| {
                if row.field.is_some() && row.observed >= Timestamp(first.0 - DAY) {
                    let text = |cell: Option<relist::record::Cell<'_>>| {
                        let text = cell.map(|c| plain(&c.value())).unwrap_or_default();
                        if text.is_empty() {
                            "none".to_owned()
                        } else {
                            text
                        }
                    };
                    let pair = (text(row.previous()), text(row.new_value()));
                    *moves.entry(pair).or_default() += 1;
                }
                Ok(true)
            })?;
        let rows = moves
            .into_iter()
            .map(|((from, to), count)| json!({"from": from, "to": to, "count": count}));
        Ok(rows.collect())
    }

    /// Where what is active is, and what it costs: evenly thinned out where there is too much.
    fn map(&self, definition: &Resource) -> Result<Json> {
        let place = ["Longitude", "Latitude"].map(|name| definition.field_id(name));
        let point = definition.fields.iter().zip(0..).find_map(|(field, id)| {
            let is_point = field.ty == relist::schema::FieldType::GeoPoint;
            is_point.then(|| (field.name.clone(), FieldId(id)))
        });
        let price = definition.field_id("ListPrice");
        let fields: Vec<&str> = match (&point, place) {
            (Some((name, _)), _) => vec![name.as_str(), "ListPrice"],
            (None, [Some(_), Some(_)]) => vec!["Longitude", "Latitude", "ListPrice"],
            _ => return Ok(Json::Null),
        };
        let mut dots: Vec<(f64, f64, f64)> = Vec::new();
        self.active(&fields, |record| {
            let value = |id: FieldId| relist::odata::Row::value(record, id);
            let at = if let Some((_, id)) = &point {
                match value(*id) {
                    Some(Value::GeoPoint(point)) => Some((point.longitude, point.latitude)),
                    _ => None,
                }
            } else {
                let [longitude, latitude] =
                    place.map(|id| id.and_then(value).as_ref().and_then(number));
                longitude.zip(latitude)
            };
            let price = price.and_then(value).as_ref().and_then(number);
            if let (Some((x, y)), Some(price)) = (at, price)
                && x.is_finite()
                && y.is_finite()
            {
                dots.push((x, y, price));
            }
        })?;
        let step = dots.len() / DOTS + 1;
        let all = dots.len();
        let shown: Vec<Json> = dots
            .into_iter()
            .step_by(step)
            .map(|(x, y, price)| json!([round(x), round(y), price]))
            .collect();
        Ok(json!({"all": all, "dots": shown}))
    }
}

/// Degrees to about a metre.
fn round(degrees: f64) -> f64 {
    (degrees * 1e5).round() / 1e5
}

fn integer(record: &Record, field: FieldId) -> Option<i64> {
    match relist::odata::Row::value(record, field)? {
        Value::Int(number) => Some(number),
        Value::Decimal(number) => number.to_i64(),
        _ => None,
    }
}

fn plain(value: &Value<'_>) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.to_string(),
        other => other.to_string(),
    }
}

fn whole(value: &Value<'_>) -> u64 {
    match value {
        Value::Int(number) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}

fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Int(_) | Value::Decimal(_) => value.to_string().parse().ok(),
        _ => None,
    }
}
