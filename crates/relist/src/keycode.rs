//! Keys and their order-preserving bytes.
//!
//! A [`Key`] is the resource record key, an integer or a string. Its encoding sorts as it does:
//!
//! - one tag byte: `1` integer, `2` string, so integers sort before strings;
//! - an integer is 8 bytes big-endian with the sign bit flipped;
//! - a string is its UTF-8 bytes, and nothing follows it in any table key.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The key of a record: RESO's resource record key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// An integer key: `ListingKeyNumeric`.
    Int(i64),
    /// A string key: `MediaKey`.
    Str(String),
}

const TAG_INT: u8 = 1;
const TAG_STR: u8 = 2;
const SIGN: u64 = 1 << 63;

/// The longest string key, in bytes. Longer ones are quarantined.
pub const MAX_KEY_LEN: usize = 1_024;

impl Key {
    /// Appends the order-preserving encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Key::Int(value) => {
                out.push(TAG_INT);
                out.extend_from_slice(&(value.cast_unsigned() ^ SIGN).to_be_bytes());
            }
            Key::Str(text) => {
                out.push(TAG_STR);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// Reads an encoding back; `None` if it is not one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        match *tag {
            TAG_INT => {
                let raw = u64::from_be_bytes(rest.try_into().ok()?);
                Some(Key::Int((raw ^ SIGN).cast_signed()))
            }
            TAG_STR => Some(Key::Str(std::str::from_utf8(rest).ok()?.to_owned())),
            _ => None,
        }
    }

    /// The key as an OData literal: `123` or `'O''Brien'`.
    pub fn to_literal(&self) -> String {
        match self {
            Key::Int(value) => value.to_string(),
            Key::Str(text) => format!("'{}'", text.replace('\'', "''")),
        }
    }

    /// Reads what a person typed, by the kind of key the resource has.
    pub fn from_text(text: &str, integer: bool) -> Option<Self> {
        if integer {
            return text.parse().ok().map(Key::Int);
        }
        (!text.is_empty() && text.len() <= MAX_KEY_LEN).then(|| Key::Str(text.to_owned()))
    }
}

/// Prints the bare key.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Int(value) => write!(f, "{value}"),
            Key::Str(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(key: &Key) -> Vec<u8> {
        let mut out = Vec::new();
        key.encode(&mut out);
        out
    }

    fn any_key() -> impl Strategy<Value = Key> {
        prop_oneof![
            any::<i64>().prop_map(Key::Int),
            ".{0,12}".prop_map(Key::Str)
        ]
    }

    proptest! {
        #[test]
        fn the_encoding_sorts_as_the_keys_do(a in any_key(), b in any_key()) {
            prop_assert_eq!(a.cmp(&b), encoded(&a).cmp(&encoded(&b)));
        }

        #[test]
        fn the_encoding_round_trips(key in any_key()) {
            prop_assert_eq!(Key::decode(&encoded(&key)), Some(key));
        }
    }

    #[test]
    fn literals_are_quoted() {
        assert_eq!(Key::Str("O'Brien".into()).to_literal(), "'O''Brien'");
        assert_eq!(Key::Int(-5).to_literal(), "-5");
    }
}
