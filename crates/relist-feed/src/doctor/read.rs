//! What a doctor reads: pages, links, keys, stamps.

use relist::error::{SourceError, SourceErrorKind};
use relist::source::Page;
use serde_json::{Map, Value};

use crate::profile::{EnumLiterals, FlagValue};

pub(super) type Row = Map<String, Value>;

/// A page, read.
pub(super) struct Read {
    pub(super) rows: Vec<Row>,
    pub(super) count: Option<u64>,
    pub(super) link: Option<String>,
    pub(super) page: Page,
}

pub(super) fn read(page: Page) -> Result<Read, SourceError> {
    #[derive(serde::Deserialize)]
    struct Body {
        value: Vec<Row>,
        #[serde(rename = "@odata.count")]
        count: Option<u64>,
        #[serde(rename = "@odata.nextLink")]
        link: Option<String>,
    }
    match serde_json::from_slice::<Body>(&page.body) {
        Ok(body) => Ok(Read {
            rows: body.value,
            count: body.count,
            link: body.link.or_else(|| page.next_link.clone()),
            page,
        }),
        Err(error) => Err(SourceError {
            kind: SourceErrorKind::Malformed,
            request: page.origin,
            reason: format!("not a page of entities: {error}"),
        }),
    }
}

/// What a nextLink is made of, without its secrets and values.
pub(super) fn form_of(link: &str) -> String {
    let place = if link.contains("://") {
        "absolute"
    } else {
        "relative"
    };
    let plain = link.replace("%24", "$");
    let how = if plain.contains("$skiptoken=") {
        "by $skiptoken="
    } else if plain.contains("$skip=") {
        "by $skip="
    } else {
        "opaque"
    };
    format!("{place}, {how}")
}

pub(super) fn keys<'r>(rows: &'r [Row], field: &'r str) -> impl Iterator<Item = String> + 'r {
    rows.iter()
        .filter_map(move |row| row.get(field).map(Value::to_string))
}

pub(super) fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => other.to_string(),
    }
}

/// Whether keys lie behind one, in order. The order of texts is the server's own: of them only
/// that the key itself does not come again can be said.
pub(super) fn is_behind(keys: &[&Value], key: &Value) -> bool {
    let numbers: Option<Vec<i64>> = keys.iter().map(|value| value.as_i64()).collect();
    match (numbers, key.as_i64()) {
        (Some(numbers), Some(key)) => numbers.iter().all(|n| *n > key) && numbers.is_sorted(),
        _ => !keys.contains(&key),
    }
}

/// Digits of the fraction of a second: `2020-01-01T00:00:00.123Z` has 3.
pub(super) fn fraction_digits(stamp: &str) -> Option<usize> {
    let (_, time) = stamp.split_once('T')?;
    let digits = |rest: &str| rest.bytes().take_while(u8::is_ascii_digit).count();
    Some(time.split_once('.').map_or(0, |(_, rest)| digits(rest)))
}

pub(super) fn shown(value: &FlagValue) -> String {
    match value {
        FlagValue::Bool(value) => value.to_string(),
        FlagValue::Int(value) => value.to_string(),
        FlagValue::String(value) => value.clone(),
    }
}

pub(super) fn enum_setting(form: EnumLiterals) -> &'static str {
    match form {
        EnumLiterals::Qualified => "qualified",
        EnumLiterals::Short => "short",
        EnumLiterals::String => "string",
    }
}

pub(super) fn form_name(form: EnumLiterals) -> &'static str {
    match form {
        EnumLiterals::Qualified => "Namespace.Type'Member'",
        EnumLiterals::Short => "Type'Member'",
        EnumLiterals::String => "'Member'",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn forms_of_links() {
        for (link, expect) in [
            ("https://h/P?$skip=200", "absolute, by $skip="),
            ("Property?%24skiptoken=a", "relative, by $skiptoken="),
            ("/x/Property/replication?id=1-2", "relative, opaque"),
        ] {
            assert_eq!(form_of(link), expect);
        }
    }

    #[test]
    fn digits_of_stamps() {
        for (stamp, digits) in [
            ("2020-01-01T00:00:00Z", Some(0)),
            ("2020-01-01T00:00:00.120+01:00", Some(3)),
            ("2020-01-01T00:00:00.1234567Z", Some(7)),
            ("2020-01-01", None),
        ] {
            assert_eq!(fraction_digits(stamp), digits, "{stamp}");
        }
    }

    #[test]
    fn keys_behind_a_key() {
        let values = [json!(3), json!(4), json!("b")];
        let [three, four, b] = values.each_ref();
        assert!(is_behind(&[three, four], &json!(2)));
        assert!(!is_behind(&[four, three], &json!(2)));
        assert!(!is_behind(&[three, four], &json!(3)));
        assert!(is_behind(&[b], &json!("a")));
        assert!(!is_behind(&[b], &json!("b")));
        assert!(is_behind(&[], &json!(9)));
    }
}
