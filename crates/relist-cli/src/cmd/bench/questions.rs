//! What users ask of a mirror: each question in OData's words, with what varies in it taken from
//! the store itself.

use std::fmt::Write as _;

use relist::keycode::Key;
use relist::odata::Query;
use relist::query::{CHANGES, QueryContext};
use relist::record::Record;
use relist::store::{AsOf, Operation, Snapshot};
use relist::value::{Timestamp, Value};
use serde::Serialize;

use super::data::RESOURCE;
use crate::failure::Failure;

/// Records that the place and price question lets through.
const FOUND: usize = 90;
/// Microseconds of 29 and a half days: as the store was before 30 days of changes.
const A_MONTH: i64 = 2_548_800_000_000;
/// The fields of a page of search results.
const TEN: &str = "ListingKeyNumeric,ListingId,StandardStatus,ListPrice,City,PostalCode,\
                   BedroomsTotal,BathroomsTotalInteger,LivingArea,UnparsedAddress,\
                   ModificationTimestamp";

/// What varies in the questions. Peers are told the same.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Given {
    pub(super) key: i64,
    pub(super) city: String,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) word: String,
    /// Seconds since 1970.
    pub(super) since: i64,
    pub(super) longitude: f64,
    pub(super) latitude: f64,
}

/// How a question is asked.
#[derive(Debug, Clone)]
pub(super) enum How {
    /// One record by its key.
    Get,
    /// Rows of a query.
    Rows(Query),
    /// How many rows a query has.
    Count(Query),
    /// Groups.
    Apply(Query),
    /// Rows of the changes.
    Changes(Query),
    /// A process of its own, from start to end, with these arguments.
    Process(Vec<String>),
}

/// A question.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// What peers know it by.
    pub(super) name: &'static str,
    /// What people know it by.
    pub(super) title: String,
    pub(super) how: How,
    pub(super) as_of: Option<AsOf>,
}

impl Given {
    /// Chooses from what the store has: a city that many listings are in, a range of prices that
    /// some of them have, a listing that changed.
    pub(super) fn of(snapshot: &Snapshot) -> Result<Self, Failure> {
        let last = snapshot.runs(1)?.first().and_then(|run| run.finished);
        let since = last.map_or(0, |at| at.0 - A_MONTH) / 1_000_000;
        let city = "Lehi".to_owned();
        let text = format!("City eq '{city}' and StandardStatus eq 'Active'");
        let options = [
            ("$filter", text.as_str()),
            ("$select", "ListPrice,GeoLocation"),
        ];
        let query = query(RESOURCE, &options)?;
        let mut prices = Vec::new();
        let mut place = None;
        snapshot.query_each(&query, &context(None), &mut |record, _| {
            prices.extend(record.get("ListPrice").as_ref().and_then(number));
            if let Some(Value::GeoPoint(point)) = record.get("GeoLocation") {
                place = place.or(Some((point.longitude, point.latitude)));
            }
            Ok(true)
        })?;
        prices.sort_by(f64::total_cmp);
        let start = prices.len().saturating_sub(FOUND) / 2;
        let end = (start + FOUND - 1).min(prices.len().saturating_sub(1));
        let nothing = || {
            Failure::failed(
                "the store has no active listings in Lehi",
                "relist bench query asks what relist bench data writes",
            )
        };
        let (low, high) = prices.get(start).zip(prices.get(end)).ok_or_else(nothing)?;
        let (longitude, latitude) = place.ok_or_else(nothing)?;
        Ok(Given {
            key: changed(snapshot, since)?.ok_or_else(nothing)?,
            city,
            low: *low,
            high: *high,
            word: "theater room".to_owned(),
            since,
            longitude,
            latitude,
        })
    }

    pub(super) fn key(&self) -> Key {
        Key::Int(self.key)
    }

    /// The questions, in the order of the table.
    pub(super) fn questions(&self) -> Result<Vec<Question>, Failure> {
        let mut all = self.of_records()?;
        all.extend(Given::of_groups()?);
        all.extend(self.of_the_past()?);
        all.extend(self.of_text_and_place()?);
        Ok(all)
    }

    fn of_records(&self) -> Result<Vec<Question>, Failure> {
        let place = format!(
            "City eq '{}' and StandardStatus eq 'Active' and ListPrice ge {} and ListPrice le {}",
            self.city, self.low, self.high
        );
        let newest = [("$orderby", "ModificationTimestamp desc"), ("$top", "100")];
        let fields = [&newest[..], &[("$select", TEN)]].concat();
        let keys = [("$filter", place.as_str()), ("$select", KEY)];
        Ok(vec![
            ask("get", "get by key, whole record", How::Get),
            ask(
                "place_keys",
                "city, status, price range -> keys",
                rows(&keys)?,
            ),
            ask(
                "place_records",
                "the same -> whole records",
                rows(&keys[..1])?,
            ),
            ask(
                "newest_fields",
                "100 newest, key and 10 fields",
                rows(&fields)?,
            ),
            ask(
                "newest_records",
                "100 newest, whole records",
                rows(&newest)?,
            ),
        ])
    }

    fn of_groups() -> Result<Vec<Question>, Failure> {
        Ok(vec![
            ask(
                "average",
                "average price by city, active",
                groups(&by_city("average"))?,
            ),
            ask(
                "median",
                "median price by city, active",
                groups(&by_city("Relist.median"))?,
            ),
            ask("months", "count by status and month", groups(MONTHS)?),
        ])
    }

    fn of_the_past(&self) -> Result<Vec<Question>, Failure> {
        let since = Timestamp(self.since.saturating_mul(1_000_000));
        let cuts = format!(
            "FieldName eq 'ListPrice' and NewValue lt PreviousValue mul 0.95 \
             and ObservedTimestamp gt {since}"
        );
        let cuts = How::Changes(query(CHANGES, &[("$filter", &cuts)])?);
        let then = |question: Question| Question {
            as_of: Some(AsOf::Instant(since)),
            ..question
        };
        let statuses = "groupby((StandardStatus),aggregate($count as Count))";
        let statuses = ask(
            "past_statuses",
            "a month ago: count by status",
            groups(statuses)?,
        );
        Ok(vec![
            ask("cuts", "price cuts > 5 % in 30 days", cuts),
            then(statuses),
            then(ask(
                "past_record",
                "a month ago: one whole record",
                How::Get,
            )),
        ])
    }

    fn of_text_and_place(&self) -> Result<Vec<Question>, Failure> {
        let text = format!("contains(PublicRemarks,'{}')", self.word);
        let text = query(RESOURCE, &[("$filter", &text), ("$count", "true")])?.top(0);
        let near = format!(
            "geo.distance(GeoLocation,geography'SRID=3956;POINT({} {})') le 1",
            self.longitude, self.latitude
        );
        let near = rows(&[("$filter", &near), ("$select", KEY)])?;
        let average = by_city("average");
        let process = ["query", RESOURCE, "--apply", &average, "-o", "ndjson"];
        let process = How::Process(process.map(str::to_owned).to_vec());
        Ok(vec![
            ask("text", "contains over PublicRemarks", How::Count(text)),
            ask("radius", "radius of 1 mile -> keys", near),
            ask("process", "whole process: open, group by, print", process),
        ])
    }
}

const KEY: &str = "ListingKeyNumeric";
const MONTHS: &str = "groupby((StandardStatus,year(ListingContractDate) as Year,\
                      month(ListingContractDate) as Month),aggregate($count as Count))";

fn by_city(method: &str) -> String {
    format!(
        "filter(StandardStatus eq 'Active')/groupby((City),\
         aggregate(ListPrice with {method} as Price))"
    )
}

fn ask(name: &'static str, title: &str, how: How) -> Question {
    Question {
        name,
        title: title.to_owned(),
        how,
        as_of: None,
    }
}

fn rows(options: &[(&str, &str)]) -> Result<How, Failure> {
    query(RESOURCE, options).map(How::Rows)
}

fn groups(apply: &str) -> Result<How, Failure> {
    query(RESOURCE, &[("$apply", apply)]).map(How::Apply)
}

/// A record that is current and had a change since, and was neither deleted nor entered.
fn changed(snapshot: &Snapshot, since: i64) -> Result<Option<i64>, Failure> {
    let mut fallback = None;
    for change in snapshot.changes(0)? {
        let change = change?;
        let Some(Key::Int(key)) = change.key.clone().filter(|_| change.resource == RESOURCE) else {
            continue;
        };
        fallback = fallback.or(Some(key));
        if change.operation != Operation::Update || change.observed.0 / 1_000_000 <= since {
            continue;
        }
        let all = snapshot.changes_of(RESOURCE, &Key::Int(key))?;
        let later = all.iter().filter(|c| c.observed.0 / 1_000_000 > since);
        if later.clone().count() > 1 && later.clone().all(|c| c.operation == Operation::Update) {
            return Ok(Some(key));
        }
    }
    Ok(fallback)
}

fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Decimal(number) => Some(number.to_f64()),
        Value::Int(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

fn query(resource: &str, options: &[(&str, &str)]) -> Result<Query, Failure> {
    let options = options.iter();
    let options: Vec<(String, String)> = options
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Ok(Query::from_options(resource, &options)?)
}

fn context(as_of: Option<AsOf>) -> QueryContext {
    QueryContext {
        as_of,
        now: Timestamp(0),
        clock: None,
    }
}

impl Question {
    /// Asks a snapshot, and appends a line of JSON for each row of the answer.
    pub(super) fn ask(
        &self,
        snapshot: &Snapshot,
        key: &Key,
        out: &mut String,
    ) -> Result<(), Failure> {
        let context = context(self.as_of);
        let mut line = |record: &Record, select: Option<&[relist::schema::FieldId]>| {
            record.write_json(select, out);
            out.push('\n');
        };
        match &self.how {
            How::Get => {
                let at = self.as_of.unwrap_or(AsOf::Sequence(snapshot.sequence()));
                if let Some(record) = snapshot.get_at(RESOURCE, key, at)? {
                    line(&record, None);
                }
            }
            How::Rows(query) => {
                snapshot.query_each(query, &context, &mut |record, select| {
                    line(record, select);
                    Ok(true)
                })?;
            }
            How::Count(query) => {
                let summary = snapshot.query_each(query, &context, &mut |_, _| Ok(true))?;
                let count = summary.count.unwrap_or(0);
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{{\"Count\":{count}}}");
            }
            How::Apply(query) => {
                let result = snapshot.apply(query, &context)?;
                for row in &result.rows {
                    result.write_json(row, out);
                    out.push('\n');
                }
            }
            How::Changes(query) => {
                snapshot.query_changes(query, &context, &mut |row, _| {
                    out.push_str("{\"Key\":");
                    if let Some(key) = row.key {
                        let _ = write!(out, "{key}");
                    }
                    let sides = [("Previous", row.previous()), ("New", row.new_value())];
                    for (name, cell) in sides {
                        let _ = write!(out, ",\"{name}\":");
                        match cell {
                            Some(cell) => cell.write_json(out),
                            None => out.push_str("null"),
                        }
                    }
                    out.push_str("}\n");
                    Ok(true)
                })?;
            }
            How::Process(_) => {}
        }
        Ok(())
    }
}
