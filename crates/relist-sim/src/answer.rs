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
    /// Whether the filter is one comparison and nothing else.
    pub(crate) one_condition: bool,
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
    // Where the path is the whole filter, the rows need no second look.
    let residual = query
        .predicate
        .as_ref()
        .filter(|_| !(window.one_condition && path.exact));
    let matches = |row: RowId| residual.is_none_or(|p| p.matches(&seen(row)));
    let wanted = window.skip.saturating_add(window.size);
    // A count of all rows needs no look at them.
    let free_count = (query.count && query.predicate.is_none()).then(|| backend.count(resource));
    let in_order = path.access.gives(&order);
    let must_see_all = !in_order || query.count && free_count.is_none();
    let (mut rows, mut total) = (Vec::new(), 0_u64);
    path.access.visit(backend, resource, &mut |row| {
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
        sort(backend, resource, &mut rows, &order, &seen);
        let skip = usize::try_from(window.skip)
            .unwrap_or(usize::MAX)
            .min(rows.len());
        rows.drain(..skip);
    }
    let size = usize::try_from(window.size).unwrap_or(usize::MAX);
    let more = rows.len() > size;
    rows.truncate(size);
    let count = query.count.then(|| match (free_count, &window.after) {
        (Some(count), _) => count,
        (None, None) => total,
        // What came before this page counts as well.
        (None, Some(_)) => {
            let all = Window {
                skip: 0,
                size: 0,
                after: None,
                ..*window
            };
            page(backend, resource, fields, query, &all)
                .count
                .unwrap_or(total)
        }
    });
    Page {
        rows,
        count,
        more,
        by_key: matches!(order, Order::Key),
    }
}

/// Sorts rows into the order asked for, those alike by key.
fn sort<'a>(
    backend: &dyn Backend,
    resource: usize,
    rows: &mut Vec<RowId>,
    order: &Order<'_>,
    seen: &dyn Fn(RowId) -> Seen<'a>,
) {
    backend.sort_by_key(resource, rows);
    let by = match order {
        Order::Key => return,
        Order::Modified(by) | Order::Other(by) => by,
    };
    let key = |id: &RowId| {
        by.key(&seen(*id))
            .into_iter()
            .map(Value::into_owned)
            .collect()
    };
    let mut keyed: Vec<(Vec<Value<'static>>, RowId)> =
        rows.iter().map(|id| (key(id), *id)).collect();
    keyed.sort_by(|a, b| by.compare(&a.0, &b.0));
    *rows = keyed.into_iter().map(|(_, id)| id).collect();
}

const STAMP: &str = "ModificationTimestamp";

/// The order asked for. The key breaks ties.
enum Order<'q> {
    /// By key: also when no order is asked for.
    Key,
    /// By ModificationTimestamp, then by key.
    Modified(&'q OrderBy),
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
            Some([(first, false)]) if Some(*first) == stamp => Order::Modified(orderby),
            Some([(first, false), (second, false), ..])
                if Some(*first) == stamp && Some(*second) == key =>
            {
                Order::Modified(orderby)
            }
            _ => Order::Other(orderby),
        }
    }
}

/// How rows are found.
struct Path {
    access: Find,
    /// Whether every row found passes the condition that led to it.
    exact: bool,
}

enum Find {
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
        let (mut since, mut key_used, mut stamp_used) = (None, false, false);
        let conjuncts = query
            .predicate
            .as_ref()
            .map(relist::odata::Predicate::conjuncts);
        for conjunct in conjuncts.into_iter().flatten() {
            let on_key = Some(conjunct.field) == key;
            match conjunct.test {
                FieldTest::Compare(CompareOp::Eq, value) if on_key => {
                    if let Some(key) = key_of(value) {
                        return Path {
                            access: Find::Keys(vec![key]),
                            exact: true,
                        };
                    }
                }
                FieldTest::In(values) if on_key => {
                    let mut keys: Vec<Key> = values.iter().filter_map(key_of).collect();
                    keys.sort();
                    keys.dedup();
                    if keys.len() == values.len() && window.after.is_none() {
                        return Path {
                            access: Find::Keys(keys),
                            exact: true,
                        };
                    }
                }
                FieldTest::Compare(op @ (CompareOp::Gt | CompareOp::Ge), value) if on_key => {
                    let bound = key_of(value).map(|key| (key, op == CompareOp::Ge));
                    key_used = bound.is_some();
                    // The higher bound is the better one; an exclusive one is the higher of two.
                    above = above
                        .into_iter()
                        .chain(bound)
                        .max_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.cmp(&a.1)));
                }
                FieldTest::Compare(op @ (CompareOp::Gt | CompareOp::Ge), Value::DateTime(at))
                    if Some(conjunct.field) == stamp =>
                {
                    since = since.max(Seconds::try_from(at.seconds.max(0)).ok());
                    stamp_used = op == CompareOp::Ge && at.nanos == 0 && at.seconds >= 0;
                }
                _ => {}
            }
        }
        let (access, exact) = match (order, above, since) {
            (Order::Key | Order::Other(_), Some((key, inclusive)), _)
            | (Order::Modified(_), Some((key, inclusive)), None) => {
                (Access::KeyAbove { key, inclusive }, key_used)
            }
            (_, _, Some(at)) => (Access::ModifiedSince { at }, stamp_used),
            (Order::Modified(_), None, None) => (Access::ByModified, false),
            _ => (Access::All, false),
        };
        Path {
            access: Find::Scan(access),
            exact,
        }
    }
}

impl Find {
    /// Whether the rows come in that order.
    fn gives(&self, order: &Order<'_>) -> bool {
        match (self, order) {
            (Find::Keys(keys), _) => keys.len() < 2 || matches!(order, Order::Key),
            (Find::Scan(Access::All | Access::KeyAbove { .. }), order) => {
                matches!(order, Order::Key)
            }
            (Find::Scan(Access::ModifiedSince { .. } | Access::ByModified), order) => {
                matches!(order, Order::Modified(_))
            }
        }
    }

    fn visit(&self, backend: &dyn Backend, resource: usize, visit: &mut dyn FnMut(RowId) -> bool) {
        match self {
            Find::Keys(keys) => {
                let rows = keys.iter().filter_map(|key| backend.find(resource, key));
                rows.into_iter().all(visit);
            }
            Find::Scan(access) => backend.scan(resource, access, visit),
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
