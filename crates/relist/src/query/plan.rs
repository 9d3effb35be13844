//! The planner: how to reach the records a predicate can let through.

use std::fmt;

use crate::keycode::Key;
use crate::odata::{BoundQuery, CompareOp, FieldTest, Predicate};
use crate::schema::{FieldType, Resource};
use crate::value::Value;

/// The most keys that are looked up one by one; beyond it a scan is not slower.
const MAX_KEYS: usize = 1_000;

/// How records are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Access {
    /// The predicate is false for every record.
    Nothing,
    /// By these keys, ascending.
    Keys(Vec<Key>),
    /// All records of the resource, in order of key.
    Scan,
    /// By the columns of the fields that are asked about.
    Columns,
}

impl Access {
    /// Chooses from the conditions that every record must meet. It may reach too many records,
    /// never too few: the whole predicate is asked of each.
    pub(super) fn choose(resource: &Resource, query: &BoundQuery) -> Self {
        let Some(predicate) = &query.predicate else {
            // Nothing to decide: all records in order of key, unless only columns are wanted.
            let narrow = query.select.is_some() && query.top.is_none();
            return if query.orderby.is_some() || query.count || narrow {
                Access::Columns
            } else {
                Access::Scan
            };
        };
        Access::by_predicate(resource, predicate)
    }

    /// As [`choose`](Access::choose), for a condition alone.
    pub(super) fn by_predicate(resource: &Resource, predicate: &Predicate) -> Self {
        if predicate.constant() == Some(false) {
            return Access::Nothing;
        }
        let Some(key_field) = resource.field_id(&resource.key_field) else {
            return Access::Columns;
        };
        let integer = resource
            .field(key_field)
            .is_some_and(|f| f.ty == FieldType::Int);
        let conjuncts = predicate.conjuncts();
        let keys = conjuncts
            .iter()
            .filter(|c| c.field == key_field)
            .find_map(|c| match c.test {
                FieldTest::Compare(CompareOp::Eq, value) => {
                    keys_of(std::slice::from_ref(value), integer)
                }
                FieldTest::In(values) if values.len() <= MAX_KEYS => keys_of(values, integer),
                _ => None,
            });
        keys.map_or(Access::Columns, Access::Keys)
    }
}

/// The keys that equal one of the values, ascending and without repeats; `None` when a value is
/// of another kind than the keys.
fn keys_of(values: &[Value<'_>], integer: bool) -> Option<Vec<Key>> {
    let mut keys = Vec::with_capacity(values.len());
    for value in values {
        match value {
            Value::Int(number) if integer => keys.push(Key::Int(*number)),
            // A fraction equals no integer key.
            Value::Decimal(number) if integer => keys.extend(number.to_i64().map(Key::Int)),
            Value::String(text) if !integer => keys.push(Key::Str(text.as_ref().to_owned())),
            Value::Null => {}
            _ => return None,
        }
    }
    keys.sort_unstable();
    keys.dedup();
    Some(keys)
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Access::Nothing => f.write_str("none: the filter is false for every record"),
            Access::Keys(keys) if keys.len() == 1 => f.write_str("one key looked up"),
            Access::Keys(keys) => write!(f, "{} keys looked up", keys.len()),
            Access::Scan => f.write_str("scan of all records in order of key"),
            Access::Columns => f.write_str("columns of the fields asked about"),
        }
    }
}
