//! What the demo's mirror can answer, computed from queries and the changelog.

use std::collections::BTreeMap;
use std::path::Path;

use relist::keycode::Key;
use relist::odata::Query;
use relist::query::QueryContext;
use relist::store::{AsOf, Change, Snapshot};
use relist::value::{Decimal, Timestamp, Value};

use crate::app::App;
use crate::args::{Format, quoted_path};
use crate::cmd::history;
use crate::failure::Failure;
use crate::output::{Datum, Member, Rows, left, right};

/// Rows shown of what is long.
const SHOWN: usize = 8;
/// The day that "now" is compared with.
const EARLIER_DAY: u32 = 10;
const DAY: i64 = 86_400_000_000;

/// What is shown, of which mirror.
pub(super) struct Show<'a> {
    pub(super) directory: &'a Path,
    pub(super) snapshot: &'a Snapshot,
    pub(super) first_day: Timestamp,
    pub(super) last_day: Timestamp,
    pub(super) days: u32,
}

impl Show<'_> {
    pub(super) fn all(&self, app: &mut App<'_>) -> Result<(), Failure> {
        self.statuses(app)?;
        self.price_cuts(app)?;
        self.transitions(app)?;
        self.timeline(app)?;
        self.medians(app)
    }

    /// The day that the middle of the demo is compared at.
    fn earlier(&self) -> Timestamp {
        let day = EARLIER_DAY.min(self.days / 2);
        Timestamp(self.first_day.0 + i64::from(day) * DAY)
    }

    fn context(&self, as_of: Timestamp) -> QueryContext {
        QueryContext {
            as_of: Some(AsOf::Instant(as_of)),
            now: self.last_day,
            clock: None,
        }
    }

    /// Calls `visit` with two fields of each listing that passes the filter.
    fn each(
        &self,
        filter: &str,
        as_of: Timestamp,
        fields: [&str; 2],
        mut visit: impl FnMut(String, Option<Decimal>),
    ) -> Result<(), Failure> {
        let query = Query::new("Property").filter(filter)?;
        self.snapshot
            .query_each(&query, &self.context(as_of), &mut |record, _| {
                let [name, number] = fields;
                let name = record.get(name).and_then(|v| v.as_str().map(str::to_owned));
                let number = record.get(number).and_then(|v| v.as_decimal());
                visit(name.unwrap_or_default(), number);
                Ok(true)
            })?;
        Ok(())
    }

    fn statuses(&self, app: &mut App<'_>) -> Result<(), Failure> {
        const MEMBERS: &[Member] = &[
            left("StandardStatus", "STATUS"),
            right("Now", "NOW"),
            right("FirstDay", "ON THE FIRST DAY"),
        ];
        let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let all = "ListingKeyNumeric gt 0";
        let fields = ["StandardStatus", "ListPrice"];
        self.each(all, self.last_day, fields, |status, _| {
            counts.entry(status).or_default().0 += 1;
        })?;
        self.each(all, self.first_day, fields, |status, _| {
            counts.entry(status).or_default().1 += 1;
        })?;
        heading(app, "Listings by status")?;
        let mut rows = table(app, MEMBERS)?;
        for (status, (now, first)) in counts {
            rows.row(&[Datum::text(status), Datum::count(now), Datum::count(first)])?;
        }
        rows.finish()?;
        writeln!(app.out)?;
        Ok(())
    }

    /// The changes from a time on.
    fn changes(&self, since: Timestamp) -> Result<Vec<Change>, Failure> {
        let sequence = self.snapshot.resolve(AsOf::Instant(since))?;
        let changes = self.snapshot.changes(sequence)?;
        let changes = changes.filter(|c| !c.as_ref().is_ok_and(|c| c.resource != "Property"));
        Ok(changes.collect::<Result<_, _>>()?)
    }

    fn price_cuts(&self, app: &mut App<'_>) -> Result<(), Failure> {
        const MEMBERS: &[Member] = &[
            left("ListingKeyNumeric", "LISTING"),
            left("City", "CITY"),
            left("Seen", "SEEN"),
            right("PreviousValue", "PREVIOUS"),
            right("NewValue", "NEW"),
            right("Cut", "CUT"),
        ];
        let mut cuts = Vec::new();
        for change in self.changes(Timestamp(self.last_day.0 - 7 * DAY))? {
            let (Some(key), Some((previous, new))) = (&change.key, price_change(&change)) else {
                continue;
            };
            if new < previous {
                let share = 1_000 * (previous - new) / previous.max(1);
                cuts.push((share, key.clone(), change.observed, previous, new));
            }
        }
        cuts.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let title = format!("Price cuts of the last week: {}, the deepest", cuts.len());
        heading(app, &title)?;
        let mut rows = table(app, MEMBERS)?;
        for (share, key, seen, previous, new) in cuts.into_iter().take(SHOWN) {
            let city = self.snapshot.get("Property", &key)?;
            let city = city.as_ref().and_then(|r| r.get("City"));
            rows.row(&[
                Datum::text(key.to_string()),
                Datum::optional(city.as_ref().and_then(Value::as_str)),
                Datum::text(seen.to_datetime().date().to_string()),
                Datum::count(previous),
                Datum::count(new),
                Datum::text(format!("{}.{} %", share / 10, share % 10)),
            ])?;
        }
        rows.finish()?;
        writeln!(app.out)?;
        Ok(())
    }

    fn transitions(&self, app: &mut App<'_>) -> Result<(), Failure> {
        const MEMBERS: &[Member] = &[
            left("Previous", "FROM"),
            left("New", "TO"),
            right("Count", "LISTINGS"),
        ];
        let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
        for change in self.changes(self.first_day)? {
            for edit in change.fields.iter().filter(|f| f.name == "StandardStatus") {
                let (Some(previous), Some(new)) = (edit.previous(), edit.new_value()) else {
                    continue;
                };
                let text = |value: &Value<'_>| value.as_str().unwrap_or_default().to_owned();
                let pair = (text(&previous.value()), text(&new.value()));
                *counts.entry(pair).or_default() += 1;
            }
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        heading(
            app,
            &format!("Status transitions of the {} days", self.days),
        )?;
        let mut rows = table(app, MEMBERS)?;
        for ((previous, new), count) in counts {
            rows.row(&[Datum::text(previous), Datum::text(new), Datum::count(count)])?;
        }
        rows.finish()?;
        writeln!(app.out)?;
        Ok(())
    }

    /// The listing with most changes of price and status.
    fn eventful(&self) -> Result<Option<Key>, Failure> {
        let mut counts: BTreeMap<Key, usize> = BTreeMap::new();
        for change in self.changes(self.first_day)? {
            let told = |f: &&relist::store::FieldChange| {
                matches!(f.name.as_str(), "ListPrice" | "StandardStatus")
            };
            let count = change.fields.iter().filter(told).count();
            if let Some(key) = change.key {
                *counts.entry(key).or_default() += count;
            }
        }
        Ok(counts
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .map(|(key, _)| key))
    }

    fn timeline(&self, app: &mut App<'_>) -> Result<(), Failure> {
        let Some(key) = self.eventful()? else {
            return Ok(());
        };
        heading(app, &format!("What happened to listing {key}"))?;
        let text = history::timeline_of(app, self.snapshot, "Property", &key, None)?;
        app.out.write_all(text.as_bytes())?;
        writeln!(app.out)?;
        Ok(())
    }

    fn medians(&self, app: &mut App<'_>) -> Result<(), Failure> {
        const MEMBERS: &[Member] = &[
            left("City", "CITY"),
            right("Active", "ACTIVE"),
            right("MedianNow", "MEDIAN NOW"),
            right("MedianThen", "MEDIAN THEN"),
            right("Change", "CHANGE"),
        ];
        let now = self.prices_by_city(self.last_day)?;
        let then = self.prices_by_city(self.earlier())?;
        let mut cities: Vec<_> = now.into_iter().collect();
        cities.sort_by_key(|(_, prices)| std::cmp::Reverse(prices.len()));
        let day = self.earlier().to_datetime().date();
        heading(
            app,
            &format!("Median price of active listings, now and as of {day}"),
        )?;
        let mut rows = table(app, MEMBERS)?;
        for (city, mut prices) in cities.into_iter().take(SHOWN) {
            let count = prices.len() as u64;
            let median_now = median(&mut prices);
            let median_then = then.get(&city).and_then(|p| median(&mut p.clone()));
            let change = match (median_now, median_then) {
                (Some(now), Some(then)) if then > 0 => Datum::text(share(now, then)),
                _ => Datum::null(),
            };
            rows.row(&[
                Datum::text(city),
                Datum::count(count),
                median_now.map_or(Datum::null(), Datum::count),
                median_then.map_or(Datum::null(), Datum::count),
                change,
            ])?;
        }
        rows.finish()?;
        writeln!(app.out)?;
        Ok(())
    }

    fn prices_by_city(&self, as_of: Timestamp) -> Result<BTreeMap<String, Vec<u64>>, Failure> {
        let mut prices: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let active = "StandardStatus eq 'Active'";
        self.each(active, as_of, ["City", "ListPrice"], |city, price| {
            if let Some(price) = price.and_then(whole) {
                prices.entry(city).or_default().push(price);
            }
        })?;
        Ok(prices)
    }

    /// Commands that work on this store.
    pub(super) fn next(&self, app: &mut App<'_>) -> Result<(), Failure> {
        let day = self.earlier().to_datetime().date();
        let week = Timestamp(self.last_day.0 - 7 * DAY).to_datetime().date();
        let key = self
            .eventful()?
            .map_or("1".to_owned(), |key| key.to_string());
        writeln!(
            app.out,
            "Ask it more:\n\n  cd {}",
            quoted_path(self.directory)
        )?;
        for command in [
            "relist status".to_owned(),
            "relist query Property --filter \"StandardStatus eq 'Active' and ListPrice lt 400000\" \
             --orderby \"ListPrice desc\" --top 10"
                .to_owned(),
            format!(
                "relist query Property --filter \"City eq 'Provo'\" --count --top 5 --as-of {day}"
            ),
            format!("relist history Property {key}"),
            format!("relist changes Property --field ListPrice --since {week}"),
            "relist export Property --to active.csv --filter \"StandardStatus eq 'Active'\" --force"
                .to_owned(),
            "relist verify".to_owned(),
        ] {
            writeln!(app.out, "  {command}")?;
        }
        Ok(())
    }
}

fn heading(app: &mut App<'_>, title: &str) -> Result<(), Failure> {
    let paint = app.paint();
    writeln!(app.out, "{}", paint.heading(title))?;
    Ok(())
}

/// A table also where the output is no terminal: the demo is for reading.
fn table<'a>(app: &'a mut App<'_>, members: &'static [Member]) -> Result<Rows<'a>, Failure> {
    let (width, paint) = (app.table_width(), app.paint());
    Ok(Rows::new(members, Format::Table, width, paint, app.out)?)
}

/// ListPrice before and after, in whole dollars.
fn price_change(change: &Change) -> Option<(u64, u64)> {
    let edit = change.fields.iter().find(|f| f.name == "ListPrice")?;
    let dollars = |cell: relist::record::Cell<'_>| whole(cell.value().as_decimal()?);
    Some((dollars(edit.previous()?)?, dollars(edit.new_value()?)?))
}

/// Whole dollars, rounded down.
fn whole(price: Decimal) -> Option<u64> {
    let text = price.to_string();
    text.split('.').next()?.parse().ok()
}

fn median(prices: &mut [u64]) -> Option<u64> {
    prices.sort_unstable();
    let upper = prices.get(prices.len() / 2).copied()?;
    if prices.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = prices.get(prices.len() / 2 - 1).copied()?;
    Some(lower.midpoint(upper))
}

/// The change from `then` to `now`, in percent with one digit.
fn share(now: u64, then: u64) -> String {
    let (sign, difference) = if now < then {
        ("-", then - now)
    } else {
        ("+", now - then)
    };
    let tenths = difference * 1_000 / then;
    format!("{sign}{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_shares() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3, 1, 2]), Some(2));
        assert_eq!(median(&mut [4, 1, 3, 2]), Some(2));
        assert_eq!(share(110, 100), "+10.0 %");
        assert_eq!(share(995, 1_000), "-0.5 %");
        assert_eq!(whole(Decimal::parse("350000.90").unwrap()), Some(350_000));
    }
}
