//! Rows given by a test, served as they are.

use relist::schema::{Field, FieldType, Resource, Schema};
use relist::value::{Date, DateTime};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::backend::{Access, Backend, Key, RowId};
use crate::text::{Seconds, json_str};

/// Resources made of given JSON entities.
///
/// ```
/// use relist_sim::Dataset;
/// use serde_json::json;
///
/// let rows = (0..3).map(|key| json!({"ListingKeyNumeric": key, "ListPrice": 1.5}));
/// let data = Dataset::new().with_resource("Property", "ListingKeyNumeric", rows).unwrap();
/// assert_eq!(data.len("Property"), 3);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    schema: Schema,
    now: Seconds,
    rows: Vec<Vec<Row>>,
}

/// One entity: its key, its stamp, and its fields as they came: each by its place among the
/// resource's fields, with its value as JSON.
#[derive(Debug, Clone)]
struct Row {
    key: Key,
    modified: Option<Seconds>,
    values: Vec<(usize, String)>,
}

impl Dataset {
    /// No resources; the clock stands at 2026-03-02T00:00:00Z.
    pub fn new() -> Self {
        Dataset {
            now: 1_772_409_600,
            ..Dataset::default()
        }
    }

    /// Sets the clock.
    pub fn set_now(&mut self, now: Seconds) {
        self.now = now;
    }

    /// Adds a resource of the given entities, with types inferred from their values: a string that
    /// reads as a date or a timestamp is one. The error says which entity has no usable key.
    pub fn with_resource(
        mut self,
        name: &str,
        key_field: &str,
        entities: impl IntoIterator<Item = Value>,
    ) -> Result<Self, String> {
        self.schema.resources.push(Resource {
            name: name.to_owned(),
            key_field: key_field.to_owned(),
            declared: true,
            fields: Vec::new(),
            navigation: Vec::new(),
        });
        self.rows.push(Vec::new());
        for entity in entities {
            self.put(name, &entity)?;
        }
        Ok(self)
    }

    /// Adds an entity, or replaces that of the same key.
    pub fn put(&mut self, name: &str, entity: &Value) -> Result<(), String> {
        self.put_json(name, &entity.to_string())
    }

    /// Adds an entity, or replaces that of the same key: its fields keep their order, its numbers
    /// their lexeme.
    pub fn put_json(&mut self, name: &str, entity: &str) -> Result<(), String> {
        let Some(at) = self.place(name) else {
            return Err(format!("no resource {name}"));
        };
        let (Some(resource), Some(rows)) =
            (self.schema.resources.get_mut(at), self.rows.get_mut(at))
        else {
            return Err(format!("no resource {name}"));
        };
        let Members(members) =
            serde_json::from_str(entity).map_err(|e| format!("{name}: {e} in {entity}"))?;
        let (mut key, mut modified, mut values) = (None, None, Vec::new());
        for (field, text) in members {
            let value: Value =
                serde_json::from_str(&text).map_err(|e| format!("{name}.{field}: {e}"))?;
            if field == resource.key_field {
                key = match &value {
                    Value::Number(n) => n.as_i64().map(Key::Int),
                    Value::String(text) => Some(Key::Str(text.clone())),
                    _ => None,
                };
            }
            if field == "ModificationTimestamp" {
                let stamp = value.as_str().and_then(DateTime::parse);
                modified = stamp.and_then(|s| u32::try_from(s.seconds).ok());
            }
            values.push((field_place(resource, &field, &value), text));
        }
        let missing = || format!("{name}: no {} in {entity}", resource.key_field);
        let row = Row {
            key: key.ok_or_else(missing)?,
            modified,
            values,
        };
        match rows.binary_search_by(|r| r.key.cmp(&row.key)) {
            Ok(found) => {
                if let Some(old) = rows.get_mut(found) {
                    *old = row;
                }
            }
            Err(free) => rows.insert(free, row),
        }
        Ok(())
    }

    /// Removes the entity of that key; false when there is none.
    pub fn remove(&mut self, name: &str, key: &Key) -> bool {
        let Some(rows) = self.place(name).and_then(|at| self.rows.get_mut(at)) else {
            return false;
        };
        let found = rows.binary_search_by(|r| r.key.cmp(key));
        found.map(|at| rows.remove(at)).is_ok()
    }

    /// The keys of a resource, ascending.
    pub fn keys(&self, name: &str) -> Vec<Key> {
        let rows = self.place(name).and_then(|at| self.rows.get(at));
        let rows = rows.into_iter().flatten();
        rows.map(|row| row.key.clone()).collect()
    }

    /// The entity of that key, as JSON.
    pub fn json(&self, name: &str, key: &Key) -> Option<String> {
        let at = self.place(name)?;
        let found = self.find(at, key)?;
        let mut out = b"{".to_vec();
        self.write_row(at, found, None, &mut out);
        out.push(b'}');
        String::from_utf8(out).ok()
    }

    /// How many entities a resource has; 0 when there is no such resource.
    pub fn len(&self, name: &str) -> usize {
        self.place(name)
            .and_then(|at| self.rows.get(at))
            .map_or(0, Vec::len)
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.schema.resources.iter().position(|r| r.name == name)
    }

    fn row(&self, resource: usize, row: RowId) -> Option<&Row> {
        self.rows.get(resource)?.get(usize::try_from(row.0).ok()?)
    }
}

/// The members of a JSON object in order, each value as its own text.
struct Members(Vec<(String, String)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    members.push((name, value.get().to_owned()));
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Visitor)
    }
}

/// A field's place, which is made when it is new; a type seen before is widened to fit.
fn field_place(resource: &mut Resource, name: &str, value: &Value) -> usize {
    let ty = type_of(value);
    if let Some(at) = resource.fields.iter().position(|f| f.name == name) {
        if let (Some(field), Some(ty)) = (resource.fields.get_mut(at), ty) {
            if field.ty == FieldType::Int && ty == FieldType::Decimal {
                field.ty = FieldType::Decimal;
            } else if field.ty != ty && !(field.ty == FieldType::Decimal && ty == FieldType::Int) {
                field.ty = FieldType::String;
            }
        }
        return at;
    }
    resource.fields.push(Field {
        name: name.to_owned(),
        ty: ty.unwrap_or(FieldType::String),
        declared: true,
    });
    resource.fields.len() - 1
}

fn type_of(value: &Value) -> Option<FieldType> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(_) => FieldType::Bool,
        Value::Number(n) if n.is_i64() => FieldType::Int,
        Value::Number(_) => FieldType::Decimal,
        Value::String(text) if Date::parse(text).is_some() => FieldType::Date,
        Value::String(text) if DateTime::parse(text).is_some() => FieldType::DateTime,
        Value::String(_) => FieldType::String,
        Value::Array(items) if items.iter().all(Value::is_string) => FieldType::StringList,
        Value::Array(_) | Value::Object(_) => FieldType::Json,
    })
}

impl Backend for Dataset {
    fn now(&self) -> Seconds {
        self.now
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn count(&self, resource: usize) -> u64 {
        self.rows.get(resource).map_or(0, Vec::len) as u64
    }

    fn scan(&self, resource: usize, access: &Access, visit: &mut dyn FnMut(RowId) -> bool) {
        let Some(rows) = self.rows.get(resource) else {
            return;
        };
        let start = match access {
            Access::KeyAbove { key, inclusive } => {
                rows.partition_point(|r| r.key < *key || !inclusive && r.key == *key)
            }
            _ => 0,
        };
        let mut found: Vec<(u64, &Row)> = (0_u64..).zip(rows).skip(start).collect();
        match access {
            Access::ByModified => found.sort_by_key(|(_, row)| row.modified),
            Access::ModifiedSince { at } => {
                found.retain(|(_, row)| row.modified.is_some_and(|m| m >= *at));
                found.sort_by_key(|(_, row)| row.modified);
            }
            _ => {}
        }
        found.into_iter().all(|(at, _)| visit(RowId(at)));
    }

    fn sort_by_key(&self, _resource: usize, rows: &mut [RowId]) {
        // A row's number is its place among the keys.
        rows.sort_unstable();
    }

    fn find(&self, resource: usize, key: &Key) -> Option<RowId> {
        let found = self
            .rows
            .get(resource)?
            .binary_search_by(|r| r.key.cmp(key))
            .ok()?;
        Some(RowId(found as u64))
    }

    fn write_field(&self, resource: usize, row: RowId, field: usize, out: &mut Vec<u8>) -> bool {
        let values = self.row(resource, row).map(|row| row.values.iter());
        match values.into_iter().flatten().find(|(at, _)| *at == field) {
            Some((_, value)) => {
                out.extend_from_slice(value.as_bytes());
                true
            }
            None => false,
        }
    }

    fn write_row(&self, resource: usize, row: RowId, select: Option<&[usize]>, out: &mut Vec<u8>) {
        let (Some(row), Some(shape)) =
            (self.row(resource, row), self.schema.resources.get(resource))
        else {
            return;
        };
        let start = out.len();
        for (at, value) in &row.values {
            let wanted = select.is_none_or(|fields| fields.contains(at));
            let Some(field) = shape.fields.get(*at).filter(|_| wanted) else {
                continue;
            };
            if out.len() > start {
                out.push(b',');
            }
            json_str(out, &field.name);
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
        }
    }

    fn children(&self, _resource: usize, _row: RowId, _target: usize) -> Vec<RowId> {
        Vec::new()
    }
}
