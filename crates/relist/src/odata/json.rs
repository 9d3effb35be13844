//! Reading members and elements of nested JSON without building a tree.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::node::Kind;
use crate::value::{Date, DateTime, Decimal, GeoPoint, TimeOfDay, Value, parse_guid};

/// The member of that name of the object in `json`; null when there is none.
pub(super) fn member<'a>(json: &'a str, name: &str, kind: Kind) -> Value<'a> {
    struct Find<'n>(&'n str);
    impl<'de> Visitor<'de> for Find<'_> {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                if key == self.0 {
                    found = Some(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    let found = reader.deserialize_map(Find(name)).ok().flatten();
    found.map_or(Value::Null, |raw| leaf(raw.get(), kind))
}

/// The elements of the array in `json`; none when it is not an array.
pub(super) fn elements(json: &str) -> Vec<&str> {
    let raw: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
    raw.into_iter().map(RawValue::get).collect()
}

/// The value of a piece of JSON.
pub(super) fn leaf(json: &str, kind: Kind) -> Value<'_> {
    let json = json.trim_ascii();
    let value = match json.as_bytes().first() {
        Some(b'"') => string(json).map(Value::String),
        Some(b't') => Some(Value::Bool(true)),
        Some(b'f') => Some(Value::Bool(false)),
        Some(b'-' | b'0'..=b'9') => Some(number(json)),
        Some(b'{' | b'[') => Some(Value::Json(json.into())),
        _ => None,
    };
    coerce(value.unwrap_or(Value::Null), kind)
}

fn number(json: &str) -> Value<'_> {
    if let Ok(whole) = json.parse() {
        return Value::Int(whole);
    }
    Decimal::parse(json).map_or(Value::Json(json.into()), Value::Decimal)
}

fn string(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.get(1..json.len().checked_sub(1)?)?;
    if inner.contains('\\') {
        return serde_json::from_str(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// The value read as `kind`; itself where it cannot be.
pub(super) fn coerce(value: Value<'_>, kind: Kind) -> Value<'_> {
    let read = match (&value, kind) {
        (Value::String(text), Kind::Date) => Date::parse(text)
            .map(Value::Date)
            .or_else(|| DateTime::parse(text).map(Value::DateTime)),
        (Value::String(text), Kind::DateTime) => DateTime::parse(text)
            .map(Value::DateTime)
            .or_else(|| Date::parse(text).map(Value::Date)),
        (Value::String(text), Kind::TimeOfDay) => TimeOfDay::parse(text).map(Value::TimeOfDay),
        (Value::String(text), Kind::Guid) => parse_guid(text).map(Value::Guid),
        (Value::Json(text), Kind::Point) => point(text).map(Value::GeoPoint),
        (Value::Json(text), Kind::List) => {
            let items: Option<Vec<_>> = elements(text)
                .into_iter()
                .map(|item| match leaf(item, Kind::Plain) {
                    Value::String(s) => Some(Cow::Owned(s.into_owned())),
                    _ => None,
                })
                .collect();
            items
                .filter(|_| text.starts_with('['))
                .map(Value::StringList)
        }
        _ => None,
    };
    read.unwrap_or(value)
}

/// The point of a GeoJSON object `{"type":"Point","coordinates":[lon,lat]}`.
fn point(json: &str) -> Option<GeoPoint> {
    let Value::Json(pair) = member(json, "coordinates", Kind::Plain) else {
        return None;
    };
    match serde_json::from_str::<Vec<f64>>(&pair).ok()?.as_slice() {
        [longitude, latitude, ..] => Some(GeoPoint {
            longitude: *longitude,
            latitude: *latitude,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_objects() {
        let json = r#"{"a": 1.50, "b":"x\"y", "c":{"d":[1,"2"]}, "t":"2020-01-01T00:00:00Z"}"#;
        assert_eq!(member(json, "a", Kind::Plain).to_string(), "1.50");
        assert_eq!(member(json, "b", Kind::Plain).as_str(), Some("x\"y"));
        assert!(member(json, "z", Kind::Plain).is_null());
        assert!(member("[1]", "a", Kind::Plain).is_null());
        let inner = member(json, "c", Kind::Plain).to_string();
        assert_eq!(member(&inner, "d", Kind::Plain).to_string(), r#"[1,"2"]"#);
        assert_eq!(
            elements(r#"[1, "2", {"a":[]}]"#),
            ["1", "\"2\"", "{\"a\":[]}"]
        );
        assert!(elements("{}").is_empty());
        let instant = member(json, "t", Kind::DateTime);
        assert!(matches!(instant, Value::DateTime(_)), "{instant}");
    }

    #[test]
    fn points_and_lists() {
        let json = r#"{"type":"Point","coordinates":[-111.9,40.6]}"#;
        let Value::GeoPoint(point) = leaf(json, Kind::Point) else {
            panic!("{json} is a point");
        };
        assert!((point.longitude + 111.9).abs() < 1e-9);
        let list = leaf(r#"["a","b"]"#, Kind::List);
        assert!(matches!(&list, Value::StringList(items) if items.len() == 2));
        assert!(matches!(leaf("[1]", Kind::List), Value::Json(_)));
    }
}
