//! Media as feeds write them: a Media record, an expanded array, a page.

use serde_json::{Map, Value};

use crate::keycode::Key;
use crate::store::MediaItem;
use crate::value::{DateTime, Timestamp};

type Row = Map<String, Value>;

/// A text, also where a feed writes a number.
pub(super) fn text(row: &Row, name: &str) -> Option<String> {
    match row.get(name)? {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A whole number, also where a feed writes it as text.
pub(super) fn whole(row: &Row, name: &str) -> Option<i64> {
    let text = text(row, name)?;
    text.strip_suffix(".0").unwrap_or(&text).parse().ok()
}

fn time(row: &Row, name: &str) -> Option<Timestamp> {
    DateTime::parse(&text(row, name)?)?.to_timestamp()
}

/// One medium of a record that is known otherwise; `None` when it has no URL to fetch, or is one
/// that is no file.
pub(super) fn item(row: &Row, resource: &str, record_key: &Key) -> Option<MediaItem> {
    let url = text(row, "MediaURL").filter(|url| url.len() <= LONGEST_URL)?;
    let category = text(row, "MediaCategory");
    if category.as_deref().is_some_and(is_page) {
        return None;
    }
    let media_key = text(row, "MediaKey")
        .or_else(|| text(row, "MediaKeyNumeric"))
        .or_else(|| text(row, "MediaObjectID"))
        .unwrap_or_else(|| unsigned(&url));
    Some(MediaItem {
        resource: resource.to_owned(),
        record_key: record_key.clone(),
        media_key,
        order: whole(row, "Order"),
        category,
        mime_type: text(row, "MimeType"),
        modified: time(row, "MediaModificationTimestamp")
            .or_else(|| time(row, "ModificationTimestamp")),
        url,
    })
}

/// The longest URL that is followed, in bytes.
const LONGEST_URL: usize = 8_192;

/// Categories whose URL leads to a page of a web site (RESO lookup MediaCategory).
fn is_page(category: &str) -> bool {
    let category = category.to_ascii_lowercase();
    category.contains("virtual tour")
        || category.contains("virtualtour")
        || category.contains("video")
}

/// The rows of an array, of a page `{"value": [..]}`, or of one entity.
pub(super) fn rows(json: &[u8]) -> Option<Vec<Row>> {
    let value: Value = serde_json::from_slice(json).ok()?;
    let list = match value {
        Value::Array(list) => list,
        Value::Object(mut page) => match page.remove("value") {
            Some(Value::Array(list)) => list,
            Some(_) => return None,
            None if page.contains_key("error") => return None,
            None => vec![Value::Object(page)],
        },
        _ => return None,
    };
    list.into_iter()
        .map(|row| match row {
            Value::Object(row) => Some(row),
            _ => None,
        })
        .collect()
}

/// A URL without what is signed anew each time it is given out, so that two can be compared.
pub(super) fn unsigned(url: &str) -> String {
    let Some((path, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let query = query.split('#').next().unwrap_or_default();
    let kept = query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or(pair).to_ascii_lowercase();
        !SIGNING.iter().any(|word| name.contains(word))
    });
    let kept: Vec<&str> = kept.collect();
    if kept.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", kept.join("&"))
    }
}

/// Words in the names of query parameters that belong to a signature (S3, CloudFront, Azure, MLS
/// Grid).
const SIGNING: [&str; 10] = [
    "sig",
    "expir",
    "token",
    "policy",
    "key-pair",
    "credential",
    "x-amz",
    "x-goog",
    "hash",
    "nonce",
];

/// A URL as it may be shown: without its query and its user.
pub(super) fn shown(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}/{path}")
        }
        None => plain.to_owned(),
    }
}

/// The host (and port) that a URL is asked of, in lower case.
pub(super) fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    host.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_do_not_make_a_url_another() {
        let a = "https://m.example/p/1.jpg?w=640&X-Amz-Signature=aa&X-Amz-Expires=60";
        let b = "https://m.example/p/1.jpg?X-Amz-Signature=bb&w=640";
        assert_eq!(unsigned(a), unsigned(b));
        assert_ne!(unsigned(a), unsigned("https://m.example/p/1.jpg?w=1"));
        assert_eq!(
            unsigned("https://m.example/a?token=1"),
            "https://m.example/a"
        );
        assert_eq!(
            shown("https://u:p@m.example/a?token=1"),
            "https://m.example/a"
        );
        assert_eq!(host("https://u:p@M.example:8443/a"), "m.example:8443");
        assert_eq!(host("https://m.example?x"), "m.example");
    }

    #[test]
    fn media_are_read_as_feeds_write_them() {
        let key = Key::Int(7);
        let page = br#"{"value":[
            {"MediaKey":"a","MediaURL":"https://x/1","Order":"1","MediaCategory":"Photo",
             "MediaModificationTimestamp":"2026-01-01T00:00:00Z"},
            {"MediaKey":12,"MediaURL":"https://x/2","Order":2.0},
            {"MediaObjectID":"3","MediaURL":"https://x/3","Order":"x"},
            {"MediaKey":"t","MediaURL":"https://x/t","MediaCategory":"Branded Virtual Tour"},
            {"MediaKey":"u","MediaURL":""}]}"#;
        let rows = rows(page).unwrap();
        let items: Vec<_> = rows
            .iter()
            .filter_map(|row| item(row, "Property", &key))
            .map(|i| (i.media_key, i.order, i.modified.is_some()))
            .collect();
        let expected = [
            ("a", Some(1), true),
            ("12", Some(2), false),
            ("3", None, false),
        ];
        let expected: Vec<_> = expected.map(|(k, o, m)| (k.to_owned(), o, m)).into();
        assert_eq!(items, expected);
        assert!(super::rows(br#"{"error":{}}"#).is_none());
        assert!(super::rows(b"{\"value\":1}").is_none());
        assert!(super::rows(b"[1]").is_none());
    }
}
