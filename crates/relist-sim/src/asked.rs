//! What a request asks for: its query options, sorted out.

use relist::odata::{ExprKind, Query, bind_select, parse_select};
use relist::schema::{FieldType, Resource, Schema};

use crate::backend::Key;
use crate::http::Request;

/// What went wrong: a status and a message.
pub(crate) type Refusal = (u16, String);

/// What a page is asked for with, besides the query itself.
pub(crate) struct Asked {
    pub(crate) query: Query,
    pub(crate) expand: Vec<Expand>,
    pub(crate) token: Option<Token>,
    /// The options that the next page repeats.
    pub(crate) repeated: Vec<(String, String)>,
}

impl Asked {
    /// Whether the filter is one comparison and nothing else.
    pub(crate) fn one_condition(&self) -> bool {
        let filter = self.query.filter.as_ref();
        filter.is_some_and(|f| matches!(f.value.kind, ExprKind::Compare { .. }))
    }
}

pub(crate) struct Expand {
    pub(crate) name: String,
    pub(crate) target: usize,
    pub(crate) select: Option<Vec<usize>>,
}

/// Where a walk by `$skiptoken` stands.
pub(crate) enum Token {
    /// After so many rows.
    Offset(u64),
    /// After this key, when so many rows were given.
    After(Key, u64),
}

pub(crate) fn find<'s>(schema: &'s Schema, name: &str) -> Result<(usize, &'s Resource), Refusal> {
    let found = schema
        .resources
        .iter()
        .enumerate()
        .find(|(_, r)| r.name == name);
    found.ok_or_else(|| (404, format!("there is no resource {name}")))
}

/// A key as it stands between the parentheses.
pub(crate) fn parse_key(text: &str) -> Option<Key> {
    match text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
        Some(inner) => Some(Key::Str(inner.replace("''", "'"))),
        None => text.parse().ok().map(Key::Int),
    }
}

/// The page size of `Prefer: odata.maxpagesize=50`.
pub(crate) fn preferred_size(request: &Request) -> Option<u64> {
    let prefer = request.header("prefer")?;
    prefer.split(',').find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        let known = matches!(name.trim(), "odata.maxpagesize" | "maxpagesize");
        value
            .trim()
            .trim_matches('"')
            .parse()
            .ok()
            .filter(|_| known)
    })
}

/// Sorts out the options of a request. Those without a `$` are the client's own and are ignored.
pub(crate) fn asked(
    schema: &Schema,
    fields: &Resource,
    options: &[(String, String)],
) -> Result<Asked, Refusal> {
    let (mut expand, mut token) = (Vec::new(), None);
    let (mut plain, mut repeated) = (Vec::new(), Vec::new());
    for (name, value) in options.iter().filter(|(name, _)| name.starts_with('$')) {
        if !matches!(name.as_str(), "$skip" | "$top" | "$skiptoken") {
            repeated.push((name.clone(), value.clone()));
        }
        match name.as_str() {
            "$expand" => expand = parse_expand(schema, fields, value)?,
            "$skiptoken" => {
                let bad = || {
                    (
                        400,
                        format!("$skiptoken {value} is not one of this server's"),
                    )
                };
                token = Some(unseal(fields, schema, value).ok_or_else(bad)?);
            }
            "$format" if value == "json" || value == "application/json" => {}
            "$apply" | "$search" | "$compute" | "$levels" => {
                return Err((501, format!("{name} is not implemented")));
            }
            _ => plain.push((name.clone(), value.clone())),
        }
    }
    let query =
        Query::from_options(fields.name.as_str(), &plain).map_err(|e| (400, e.to_string()))?;
    Ok(Asked {
        query,
        expand,
        token,
        repeated,
    })
}

/// `Media,OpenHouse($select=OpenHouseKey,OpenHouseDate)`.
fn parse_expand(schema: &Schema, fields: &Resource, text: &str) -> Result<Vec<Expand>, Refusal> {
    let mut out = Vec::new();
    for item in split_outside_parentheses(text) {
        let (name, inner) = match item.split_once('(') {
            None => (item, None),
            Some((name, inner)) => (name, inner.strip_suffix(')')),
        };
        let known = fields.navigation.iter().find(|n| n.name == name);
        let unknown = || {
            (
                400,
                format!(
                    "$expand: {} has no navigation property {name:?}",
                    fields.name
                ),
            )
        };
        let (target, shape) = find(schema, &known.ok_or_else(unknown)?.target)?;
        let select = match inner.map(|inner| inner.strip_prefix("$select=")) {
            None => None,
            Some(None) => {
                return Err((
                    400,
                    format!("$expand: only $select is supported in {item:?}"),
                ));
            }
            Some(Some(select)) => {
                let parsed = parse_select(select).map_err(|e| (400, e.to_string()))?;
                bind_select(&parsed, select, schema, shape).map_err(|e| (400, e.to_string()))?
            }
        };
        let select = select.map(|ids| ids.iter().map(|id| usize::from(id.0)).collect());
        out.push(Expand {
            name: name.to_owned(),
            target,
            select,
        });
    }
    Ok(out)
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_u32, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts.into_iter().map(str::trim).collect()
}

/// What makes a token opaque: clients must not read it, so it does not read well.
const VEIL: u8 = 0x5a;

pub(crate) fn seal(token: &str) -> String {
    use std::fmt::Write as _;
    token.bytes().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{:02x}", byte ^ VEIL);
        out
    })
}

pub(crate) fn unseal(fields: &Resource, schema: &Schema, sealed: &str) -> Option<Token> {
    let bytes: Option<Vec<u8>> = (0..sealed.len())
        .step_by(2)
        .map(|at| Some(u8::from_str_radix(sealed.get(at..at + 2)?, 16).ok()? ^ VEIL))
        .collect();
    let token = String::from_utf8(bytes?).ok()?;
    if let Some(given) = token.strip_prefix('o') {
        return given.parse().ok().map(Token::Offset);
    }
    let (given, key) = token.strip_prefix('k')?.split_once(':')?;
    let resource = schema.resource(&fields.name)?;
    let numeric = resource
        .field_named(&resource.key_field)
        .is_some_and(|f| f.ty == FieldType::Int);
    let key = if numeric {
        Key::Int(key.parse().ok()?)
    } else {
        Key::Str(key.to_owned())
    };
    Some(Token::After(key, given.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_opaque_and_come_back() {
        let schema = crate::market::schema();
        let property = schema.resource("Property").unwrap();
        let media = schema.resource("Media").unwrap();
        let sealed = seal("k200:1000345");
        assert!(!sealed.contains("1000345"));
        let token = unseal(property, &schema, &sealed);
        assert!(matches!(
            token,
            Some(Token::After(Key::Int(1_000_345), 200))
        ));
        let token = unseal(media, &schema, &seal("k1:a:b.jpg"));
        assert!(matches!(token, Some(Token::After(Key::Str(key), 1)) if key == "a:b.jpg"));
        assert!(matches!(
            unseal(media, &schema, &seal("o7")),
            Some(Token::Offset(7))
        ));
        for bad in ["", "zz", "5", &seal("k200"), &seal("o-1"), "\u{e9}\u{e9}"] {
            assert!(unseal(property, &schema, bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn expansions_are_parted_outside_parentheses() {
        let parts = split_outside_parentheses("Media($select=MediaKey,Order), OpenHouse");
        assert_eq!(parts, ["Media($select=MediaKey,Order)", "OpenHouse"]);
    }
}
