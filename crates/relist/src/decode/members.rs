//! The members of a JSON object, their values untouched.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::key::KeySpec;
use crate::keycode::Key;

/// What is wrong with a record: the field, when it is one, and the reason.
pub(crate) type Fault = (Option<String>, String);

/// The members of an object, values raw; the fault when the text is no object.
pub(crate) fn members(text: &str) -> Result<Vec<(Cow<'_, str>, &RawValue)>, Fault> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut out = Vec::with_capacity(128);
            while let Some(name) = map.next_key::<Name<'de>>()? {
                out.push((name.0, map.next_value()?));
            }
            Ok(out)
        }
    }
    if !text.starts_with('{') {
        return Err((None, format!("is {}, expected an object", kind_of(text))));
    }
    serde_json::Deserializer::from_str(text)
        .deserialize_map(Members)
        .map_err(|e| (None, format!("is not JSON: {e}")))
}

/// The key of a record, read without decoding the record.
pub(crate) fn scan_key(text: &str, spec: &KeySpec) -> Result<Key, Fault> {
    let members = members(text)?;
    let find = |name: &str| {
        members
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, raw)| raw.get())
    };
    let fault = |name: &str| {
        let name = name.to_owned();
        move |reason| (Some(name), reason)
    };
    if let Some(raw) = find(&spec.field) {
        let mut all = members.iter().filter(|(n, _)| *n == spec.field);
        if all.any(|(_, other)| other.get() != raw) {
            return Err((
                Some(spec.field.clone()),
                "is given twice, with two values".to_owned(),
            ));
        }
        return spec.read(raw).map_err(fault(&spec.field));
    }
    if let Some((twin, raw)) = spec.twin.as_deref().and_then(|t| Some((t, find(t)?))) {
        return spec.read(raw).map_err(fault(twin));
    }
    match find("@odata.id").and_then(|raw| serde_json::from_str::<String>(raw).ok()) {
        Some(id) => spec.read_id(&id).map_err(fault(&spec.field)),
        None => Err((Some(spec.field.clone()), "the key is missing".to_owned())),
    }
}

/// A member name, borrowed unless it has escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        input.deserialize_str(NameVisitor)
    }
}

fn kind_of(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        _ => "a number",
    }
}
