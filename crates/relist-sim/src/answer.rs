//! A page of an entity set: which rows a query names, in which order, and where the next page is.

use relist::odata::CompareOp;
use relist::odata::{BoundQuery, FieldTest, OrderBy, Row};
use relist::schema::{FieldId, FieldType, Resource};
use relist::value::{Date, DateTime, Decimal, GeoPoint, TimeOfDay, Value, parse_guid};

use crate::backend::{Access, Backend, Key, RowId};
use crate::text::Seconds;

/// The rows of a page.
#[derive(Debug)]
pub(crate) struct Page {
    /// The rows, in order.
    pub(crate) rows: Vec<RowId>,
    /// How many rows pass the filter, when that was asked for.
    pub(crate) count: Option<u64>,
    /// Whether there are more rows after these.
    pub(crate) more: bool,
    /// Whether the rows are in the order of their keys, so that the next page can go on from the
    /// last key.
    pub(crate) by_key: bool,
}

/// Which part of the result a page is.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    /// Rows to leave out first.
    pub(crate) skip: u64,
    /// Rows to give at most.
    pub(crate) size: u64,
    /// Only rows whose key is above this one.
    pub(crate) after: Option<Key>,
}

/// A row as filters see it.
struct Seen<'a> {
    backend: &'a dyn Backend,
    resource: usize,
    fields: &'a Resource,
    row: RowId,
}

impl Row for Seen<'_> {
    fn value(&self, field: FieldId) -> Option<Value<'_>> {
        let ty = &self.fields.field(field)?.ty;
        let mut text = Vec::with_capacity(32);
        let found =
            self.backend
                .write_field(self.resource, self.row, usize::from(field.0), &mut text);
        found.then(|| value_of(ty, std::str::from_utf8(&text).unwrap_or("null")))
    }
}

/// Finds the rows of a page.
pub(crate) fn page(
    backend: &dyn Backend,
    resource: usize,
    fields: &Resource,
    query: &BoundQuery,
    window: &Window,
) -> Page {
    let order = Order::of(fields, query.orderby.as_ref());
    let path = Path::choose(fields, query, &order, window);
    let seen = |row| Seen {
        backend,
        resource,
        fields,
        row,
    };
    let matches = |row: RowId| {
        query
            .predicate
            .as_ref()
            .is_none_or(|p| p.matches(&seen(row)))
    };
    let wanted = window.skip.saturating_add(window.size);
    // A count of all rows needs no look at them.
    let free_count = (query.count && query.predicate.is_none()).then(|| backend.count(resource));
    let in_order = path.gives(&order);
    let must_see_all = !in_order || query.count && free_count.is_none();
    let (mut rows, mut total) = (Vec::new(), 0_u64);
    path.visit(backend, resource, &mut |row| {
        if matches(row) {
            // Of rows in order, those of earlier pages are only counted.
            if !in_order || total >= window.skip && total <= wanted {
                rows.push(row);
            }
            total += 1;
        }
        must_see_all || total <= wanted
    });
    if !in_order {
        sort(&mut rows, &order, &seen, fields);
        let skip = usize::try_from(window.skip)
            .unwrap_or(usize::MAX)
            .min(rows.len());
        rows.drain(..skip);
    }
    let size = usize::try_from(window.size).unwrap_or(usize::MAX);
    let more = rows.len() > size;
    rows.truncate(size);
    let count = query.count.then(|| free_count.unwrap_or(total));
    Page {
        rows,
        count,
        more,
        by_key: matches!(order, Order::Key),
    }
}

fn sort<'a>(
    rows: &mut Vec<RowId>,
    order: &Order<'_>,
    seen: &dyn Fn(RowId) -> Seen<'a>,
    fields: &Resource,
) {
    let key_field = fields.field_id(&fields.key_field);
    let mut keyed: Vec<_> = rows
        .iter()
        .map(|id| {
            let row = seen(*id);
            let sort_key: Vec<Value<'static>> = match order {
                Order::Key | Order::Modified => Vec::new(),
                Order::Other(by) => by.key(&row).into_iter().map(Value::into_owned).collect(),
            };
            let key = key_field
                .and_then(|f| row.value(f))
                .unwrap_or(Value::Null)
                .into_owned();
            let stamp = fields
                .field_id(STAMP)
                .filter(|_| matches!(order, Order::Modified));
            let stamp = stamp
                .and_then(|f| row.value(f))
                .unwrap_or(Value::Null)
                .into_owned();
            (sort_key, stamp, key, *id)
        })
        .collect();
    keyed.sort_by(|a, b| {
        let by_order = match order {
            Order::Other(by) => by.compare(&a.0, &b.0),
            Order::Key | Order::Modified => a.1.total_cmp(&b.1),
        };
        by_order.then_with(|| a.2.total_cmp(&b.2))
    });
    *rows = keyed.into_iter().map(|(.., id)| id).collect();
}

const STAMP: &str = "ModificationTimestamp";

/// The order asked for. The key breaks ties.
enum Order<'q> {
    /// By key: also when no order is asked for.
    Key,
    /// By ModificationTimestamp, then by key.
    Modified,
    /// Some other.
    Other(&'q OrderBy),
}

impl<'q> Order<'q> {
    fn of(fields: &Resource, orderby: Option<&'q OrderBy>) -> Self {
        let Some(orderby) = orderby else {
            return Order::Key;
        };
        let key = fields.field_id(&fields.key_field);
        let stamp = fields.field_id(STAMP);
        match orderby.plain().as_deref() {
            Some([(first, false), ..]) if Some(*first) == key => Order::Key,
            Some([(first, false)]) if Some(*first) == stamp => Order::Modified,
            Some([(first, false), (second, false), ..])
                if Some(*first) == stamp && Some(*second) == key =>
            {
                Order::Modified
            }
            _ => Order::Other(orderby),
        }
    }
}

/// How rows are found.
enum Path {
    /// These keys and no others.
    Keys(Vec<Key>),
    /// A scan.
    Scan(Access),
}

impl Path {
    /// Chooses by the conditions that every row must pass: the keys themselves, a bound on the
    /// key, a bound on ModificationTimestamp; else all rows are looked at.
    fn choose(fields: &Resource, query: &BoundQuery, order: &Order<'_>, window: &Window) -> Path {
        let key = fields.field_id(&fields.key_field);
        let stamp = fields.field_id(STAMP);
        let mut above = window.after.clone().map(|key| (key, false));
        let mut since = None;
        let conjuncts = query
            .predicate
            .as_ref()
            .map(relist::odata::Predicate::conjuncts);
        for conjunct in conjuncts.into_iter().flatten() {
            let on_key = Some(conjunct.field) == key;
            match conjunct.test {
                FieldTest::Compare(CompareOp::Eq, value) if on_key => {
                    if let Some(key) = key_of(value) {
                        return Path::Keys(vec![key]);
                    }
                }
                FieldTest::In(values) if on_key => {
                    let mut keys: Vec<Key> = values.iter().filter_map(key_of).collect();
                    keys.sort();
                    keys.dedup();
                    if keys.len() == values.len() && window.after.is_none() {
                        return Path::Keys(keys);
                    }
                }
                FieldTest::Compare(op @ (CompareOp::Gt | CompareOp::Ge), value) if on_key => {
                    let bound = key_of(value).map(|key| (key, op == CompareOp::Ge));
                    // The higher bound is the better one; an exclusive one is the higher of two.
                    above = above
                        .into_iter()
                        .chain(bound)
                        .max_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.cmp(&a.1)));
                }
                FieldTest::Compare(CompareOp::Gt | CompareOp::Ge, Value::DateTime(at))
                    if Some(conjunct.field) == stamp =>
                {
                    since = since.max(Seconds::try_from(at.seconds.max(0)).ok());
                }
                _ => {}
            }
        }
        Path::Scan(match (order, above, since) {
            (Order::Key | Order::Other(_), Some((key, inclusive)), _)
            | (Order::Modified, Some((key, inclusive)), None) => {
                Access::KeyAbove { key, inclusive }
            }
            (_, _, Some(at)) => Access::ModifiedSince { at },
            (Order::Modified, None, None) => Access::ByModified,
            _ => Access::All,
        })
    }

    /// Whether the rows come in that order.
    fn gives(&self, order: &Order<'_>) -> bool {
        match (self, order) {
            (Path::Keys(keys), _) => keys.len() < 2 || matches!(order, Order::Key),
            (Path::Scan(Access::All | Access::KeyAbove { .. }), Order::Key)
            | (Path::Scan(Access::ModifiedSince { .. } | Access::ByModified), Order::Modified) => {
                true
            }
            _ => false,
        }
    }

    fn visit(&self, backend: &dyn Backend, resource: usize, visit: &mut dyn FnMut(RowId) -> bool) {
        match self {
            Path::Keys(keys) => {
                let rows = keys.iter().filter_map(|key| backend.find(resource, key));
                rows.into_iter().all(visit);
            }
            Path::Scan(access) => backend.scan(resource, access, visit),
        }
    }
}

fn key_of(value: &Value<'_>) -> Option<Key> {
    match value {
        Value::Int(key) => Some(Key::Int(*key)),
        Value::String(key) => Some(Key::Str(key.to_string())),
        _ => None,
    }
}

/// The value of a field of that type whose JSON is `text`. What does not fit the type is read by
/// its own shape.
fn value_of(ty: &FieldType, text: &str) -> Value<'static> {
    if text == "null" {
        return Value::Null;
    }
    let Some(string) = string_of(text) else {
        return number_or_nested(ty, text);
    };
    let typed = match ty {
        FieldType::Date => Date::parse(&string).map(Value::Date),
        FieldType::DateTime => DateTime::parse(&string).map(Value::DateTime),
        FieldType::TimeOfDay => TimeOfDay::parse(&string).map(Value::TimeOfDay),
        FieldType::Guid => parse_guid(&string).map(Value::Guid),
        FieldType::LookupList(_) | FieldType::StringList => {
            let parts = string.split(',').filter(|part| !part.is_empty());
            Some(Value::StringList(
                parts.map(|part| part.to_owned().into()).collect(),
            ))
        }
        _ => None,
    };
    typed.unwrap_or(Value::String(string.into()))
}

/// The string that `text` is as JSON.
fn string_of(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(text).ok()
    } else {
        Some(inner.to_owned())
    }
}

fn number_or_nested(ty: &FieldType, text: &str) -> Value<'static> {
    match text {
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    if let Ok(number) = text.parse() {
        return Value::Int(number);
    }
    if let Some(number) = Decimal::parse(text) {
        return Value::Decimal(number);
    }
    if *ty == FieldType::GeoPoint
        && let Some(point) = point_of(text)
    {
        return Value::GeoPoint(point);
    }
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(items) => Value::StringList(items.into_iter().map(Into::into).collect()),
        Err(_) => Value::Json(text.to_owned().into()),
    }
}

fn point_of(text: &str) -> Option<GeoPoint> {
    let point: serde_json::Value = serde_json::from_str(text).ok()?;
    let coordinate = |at: usize| point.get("coordinates")?.get(at)?.as_f64();
    Some(GeoPoint {
        longitude: coordinate(0)?,
        latitude: coordinate(1)?,
    })
}
