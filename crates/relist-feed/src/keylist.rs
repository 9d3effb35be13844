//! Walking a list of keys: where such a walk stands, and which records come next.
//!
//! Some servers page to 10,000 rows and no further, but list all keys with their stamps. A walk
//! over that list looks from outside like a walk along nextLinks: each page holds the records of
//! the next keys, and its link says which page of the list they are on and how many of it are
//! done. So it can be stored, and taken up by another process, like any other link.

use relist::source::QueryOptions;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a link of ours begins with; no server's does.
const SCHEME: &str = "relist-keys:";

/// A place in a list of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyPlace {
    /// The link to the page of keys; its first page when absent.
    pub(crate) link: Option<String>,
    /// How many keys of that page are done.
    done: usize,
    /// What the walk asks of the list and of the records.
    filter: Option<String>,
    orderby: Option<String>,
    pub(crate) select: Option<String>,
    pub(crate) expand: Option<String>,
}

/// The keys of one page of the list.
pub(crate) struct Keys {
    /// As literals of `$filter`.
    pub(crate) literals: Vec<String>,
    pub(crate) next_link: Option<String>,
}

impl KeyPlace {
    pub(crate) fn start(options: &QueryOptions) -> Self {
        KeyPlace {
            link: None,
            done: 0,
            filter: options.filter.clone(),
            orderby: options.orderby.clone(),
            select: options.select.clone(),
            expand: options.expand.clone(),
        }
    }

    /// The query of the first page of keys.
    pub(crate) fn first(&self) -> QueryOptions {
        QueryOptions {
            filter: self.filter.clone(),
            orderby: self.orderby.clone(),
            ..QueryOptions::default()
        }
    }

    /// Reads a link; `None` when it is a server's, an error when it is ours and does not read.
    pub(crate) fn parse(link: &str) -> Option<Result<Self, String>> {
        let text = link.strip_prefix(SCHEME)?;
        let place = serde_json::from_str(text);
        Some(place.map_err(|e| format!("a place in a list of keys that does not read: {e}")))
    }

    pub(crate) fn to_link(&self) -> String {
        // A struct of texts and a number always has a JSON form.
        let text = serde_json::to_string(self).unwrap_or_default();
        format!("{SCHEME}{text}")
    }

    /// The keys that come next, at most `many`, and the place behind them; `link` leads to the
    /// next page of keys.
    pub(crate) fn step<'k>(
        &self,
        keys: &'k [String],
        many: usize,
        link: Option<String>,
    ) -> (&'k [String], Option<KeyPlace>) {
        let left = keys.get(self.done..).unwrap_or_default();
        let asked = left.get(..many).unwrap_or(left);
        let done = self.done + asked.len();
        let next = if done < keys.len() {
            Some(KeyPlace {
                done,
                ..self.clone()
            })
        } else {
            link.map(|link| KeyPlace {
                link: Some(link),
                done: 0,
                ..self.clone()
            })
        };
        (asked, next)
    }
}

/// Reads a page of keys.
pub(crate) fn keys_in(body: &[u8], key_field: &str) -> Result<Keys, String> {
    #[derive(Deserialize)]
    struct List {
        value: Vec<serde_json::Map<String, Value>>,
        #[serde(rename = "@odata.nextLink")]
        next_link: Option<String>,
    }
    let list: List =
        serde_json::from_slice(body).map_err(|e| format!("not a list of keys: {e}"))?;
    let literal = |(at, row): (usize, serde_json::Map<String, Value>)| match row.get(key_field) {
        Some(Value::String(key)) if !key.is_empty() => Ok(format!("'{}'", key.replace('\'', "''"))),
        Some(Value::Number(key)) => Ok(key.to_string()),
        _ => Err(format!("entry {at} of the list of keys has no {key_field}")),
    };
    let literals: Result<Vec<String>, String> =
        list.value.into_iter().enumerate().map(literal).collect();
    Ok(Keys {
        literals: literals?,
        next_link: list.next_link,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_walked_to_its_end_and_each_place_comes_back() {
        let keys: Vec<String> = (0..5).map(|n| n.to_string()).collect();
        let mut place = KeyPlace::start(&QueryOptions {
            expand: Some("Media".to_owned()),
            ..QueryOptions::default()
        });
        let mut met = Vec::new();
        for page in 0..2 {
            loop {
                let link = (page == 0).then(|| "next?page=2".to_owned());
                let (asked, next) = place.step(&keys, 2, link);
                met.extend(asked.to_vec());
                let Some(next) = next else {
                    assert_eq!((page, met.len()), (1, 10));
                    return;
                };
                let link = next.to_link();
                place = KeyPlace::parse(&link).unwrap().unwrap();
                assert_eq!(place, next);
                assert_eq!(place.expand.as_deref(), Some("Media"));
                if place.done == 0 {
                    break;
                }
            }
        }
        panic!("the walk did not end");
    }

    #[test]
    fn links_of_servers_are_left_alone() {
        assert!(KeyPlace::parse("https://h/Property?$skiptoken=1").is_none());
        assert!(KeyPlace::parse("relist-keys:{").unwrap().is_err());
    }

    #[test]
    fn keys_become_literals() {
        let body = br#"{"value":[{"K":"o'h","S":"x"},{"K":7}],"@odata.nextLink":"n"}"#;
        let keys = keys_in(body, "K").unwrap();
        assert_eq!(keys.literals, ["'o''h'", "7"]);
        assert_eq!(keys.next_link.as_deref(), Some("n"));
        for (body, expect) in [
            ("{}", "not a list"),
            (r#"{"value":[{"K":1},{"K":null}]}"#, "entry 1"),
            (r#"{"value":[{"K":""}]}"#, "entry 0"),
        ] {
            let Err(error) = keys_in(body.as_bytes(), "K") else {
                panic!("{body}");
            };
            assert!(error.contains(expect), "{error}");
        }
    }
}
