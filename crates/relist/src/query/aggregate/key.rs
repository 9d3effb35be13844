//! Values as bytes, so that equal values are equal bytes, and values in one form.

use std::borrow::Cow;

use crate::value::{DateTime, Value};

/// Appends a value so that two encodings are equal exactly when the values are of one kind and
/// equal. It can be told where one ends and the next begins.
pub(super) fn encode(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0),
        Value::Bool(v) => out.extend([1, u8::from(*v)]),
        Value::Int(v) => {
            out.extend([2, 0]);
            out.extend(i128::from(*v).to_le_bytes());
        }
        Value::Decimal(v) => {
            let plain = v.normalized();
            out.extend([2, plain.scale()]);
            out.extend(plain.mantissa().to_le_bytes());
        }
        Value::Date(v) => {
            out.push(3);
            out.extend(v.0.to_le_bytes());
        }
        Value::DateTime(v) => {
            out.push(4);
            out.extend(v.seconds.to_le_bytes());
            out.extend(v.nanos.to_le_bytes());
        }
        Value::TimeOfDay(v) => {
            out.push(5);
            out.extend(v.0.to_le_bytes());
        }
        Value::Guid(v) => {
            out.push(6);
            out.extend(v);
        }
        Value::String(v) => text(7, v, out),
        Value::StringList(items) => {
            out.push(8);
            out.extend((items.len() as u64).to_le_bytes());
            for item in items {
                text(8, item, out);
            }
        }
        Value::GeoPoint(v) => {
            out.push(9);
            for degrees in [v.longitude, v.latitude] {
                // The two zeros are one.
                out.extend((degrees + 0.0).to_bits().to_le_bytes());
            }
        }
        Value::Json(v) => text(10, v, out),
    }
}

fn text(tag: u8, text: &str, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The value in the form that stands for all that are equal to it: numbers without needless
/// digits, timestamps in UTC.
pub(super) fn canonical(value: Value<'_>) -> Value<'static> {
    match value {
        Value::Decimal(v) => {
            let plain = v.normalized();
            plain.to_i64().map_or(Value::Decimal(plain), Value::Int)
        }
        Value::DateTime(v) => Value::DateTime(DateTime {
            offset_minutes: 0,
            ..v
        }),
        Value::String(Cow::Owned(text)) => Value::String(Cow::Owned(text)),
        other => other.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Decimal;

    #[test]
    fn equal_values_have_equal_bytes() {
        let bytes = |value: &Value<'_>| {
            let mut out = Vec::new();
            encode(value, &mut out);
            out
        };
        let number = |text: &str| Value::Decimal(Decimal::parse(text).unwrap());
        let instant = |text: &str| Value::DateTime(DateTime::parse(text).unwrap());
        let equal = [
            (Value::Int(0), number("-0.00")),
            (Value::Int(-350_000), number("-350000.00")),
            (
                instant("2020-01-01T00:00:00Z"),
                instant("2020-01-01T02:00:00+02:00"),
            ),
        ];
        for (a, b) in equal {
            assert_eq!(bytes(&a), bytes(&b), "{a} {b}");
            assert_eq!(canonical(a).to_string(), canonical(b).to_string());
        }
        let different = [
            (Value::Null, Value::str("")),
            (Value::Int(1), number("1.5")),
            (Value::Int(1), Value::str("1")),
            (Value::Int(1), Value::Bool(true)),
        ];
        for (a, b) in different {
            assert_ne!(bytes(&a), bytes(&b), "{a} {b}");
        }
    }
}
