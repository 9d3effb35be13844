//! JSON compared without loss: numbers by their lexeme, strings by what they say, members of an
//! object by name. A `serde_json::Value` would round what a feed wrote.

use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A JSON value whose numbers are as they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number's text.
    Number(String),
    /// A string, unescaped.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// Reads a JSON text.
    pub fn parse(text: &str) -> Self {
        let read = |text: &str| -> Result<Json, serde_json::Error> {
            Ok(match text.as_bytes().first() {
                Some(b'n') => Json::Null,
                Some(b't' | b'f') => Json::Bool(serde_json::from_str(text)?),
                Some(b'"') => Json::String(serde_json::from_str(text)?),
                Some(b'[') => {
                    let items: Vec<&RawValue> = serde_json::from_str(text)?;
                    Json::Array(items.iter().map(|item| Json::parse(item.get())).collect())
                }
                Some(b'{') => {
                    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
                    let member = |(name, raw): (String, &RawValue)| (name, Json::parse(raw.get()));
                    Json::Object(members.into_iter().map(member).collect())
                }
                _ => Json::Number(text.to_owned()),
            })
        };
        read(text.trim_ascii()).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// Writes compact JSON text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        let string = |out: &mut String, text: &String| {
            let _ = write!(out, "{}", serde_json::Value::from(text.as_str()));
        };
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Number(text) => out.push_str(text),
            Json::String(text) => string(out, text),
            Json::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (i, (name, value)) in members.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    string(out, name);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// The members of an object.
    pub fn members(&self) -> &BTreeMap<String, Json> {
        match self {
            Json::Object(members) => members,
            other => panic!("{} is no object", other.text()),
        }
    }

    /// The items of an array.
    pub fn items(&self) -> &[Json] {
        match self {
            Json::Array(items) => items,
            other => panic!("{} is no array", other.text()),
        }
    }

    /// The members that are fields: those with an `@` in their name are control information.
    pub fn fields(&self) -> BTreeMap<String, Json> {
        let members = self
            .members()
            .iter()
            .filter(|(name, _)| !name.contains('@'));
        members.map(|(n, v)| (n.clone(), v.clone())).collect()
    }
}
