//! The media of one record, asked for in the way that its provider has.

use relist::error::{SourceError, SourceErrorKind};
use relist::keycode::Key;
use relist::media::MediaLister;
use relist::source::{Page, PageRequest, PageSource as _, QueryOptions, Traffic};
use relist::value::Value;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::WebApi;
use crate::media::{MediaRules, MediaVia};

/// Pages of one record's media, at most: a listing has tens of photos.
const MOST_PAGES: usize = 100;

impl MediaLister for WebApi {
    fn list(&self, resource: &str, key: &Key) -> Result<Vec<Vec<u8>>, SourceError> {
        let value = match key {
            Key::Int(key) => Value::Int(*key),
            Key::Str(key) => Value::str(key),
        };
        let rules = &self.profile().media;
        let navigation = &rules.navigation;
        match rules.via {
            MediaVia::Expand => {
                let page = self.entity_with(resource, &value, Some(navigation))?;
                self.of_entity(navigation, &page)
            }
            MediaVia::Inline => {
                let page = self.entity_with(resource, &value, None)?;
                self.of_entity(navigation, &page)
            }
            MediaVia::Navigation => {
                let page = self.navigation(resource, &value, navigation)?;
                self.all_pages(page)
            }
            MediaVia::Resource => {
                let request = PageRequest::Query {
                    resource: rules.resource.clone(),
                    options: of_record(rules, key),
                };
                let page = self.clone().fetch(&request)?;
                self.all_pages(page)
            }
        }
    }

    fn traffic(&self) -> Traffic {
        relist::source::PageSource::traffic(self)
    }
}

/// The query of the set of media for those of one record.
fn of_record(rules: &MediaRules, key: &Key) -> QueryOptions {
    let field = &rules.record_field;
    // RESO's ResourceRecordKey is a string, whatever the key of its record is.
    let literal = match key {
        Key::Int(_) if !field.ends_with("Numeric") => Key::Str(key.to_string()).to_literal(),
        key => key.to_literal(),
    };
    QueryOptions {
        filter: Some(format!("{field} eq {literal}")),
        ..QueryOptions::default()
    }
}

impl WebApi {
    /// A page, and those that follow it.
    fn all_pages(&self, mut page: Page) -> Result<Vec<Vec<u8>>, SourceError> {
        #[derive(Deserialize)]
        struct Linked {
            #[serde(rename = "@odata.nextLink", alias = "@nextLink")]
            next: Option<String>,
        }
        let mut bodies = Vec::new();
        let mut api = self.clone();
        loop {
            let linked: Option<Linked> = serde_json::from_slice(&page.body).ok();
            let link = linked.and_then(|l| l.next).or(page.next_link);
            bodies.push(page.body);
            let Some(link) = link else { return Ok(bodies) };
            if bodies.len() == MOST_PAGES {
                let reason = format!("its media have no end after {MOST_PAGES} pages");
                return Err(malformed(page.origin, reason));
            }
            let resource = self.profile().media.resource.clone();
            page = api.fetch(&PageRequest::Next { resource, link })?;
        }
    }

    /// The media that stand in an entity.
    fn of_entity(&self, member: &str, page: &Page) -> Result<Vec<Vec<u8>>, SourceError> {
        let found = media_in(&page.body, member);
        let (list, link) = found.map_err(|reason| malformed(page.origin.clone(), reason))?;
        let mut bodies = vec![format!("{{\"value\":{list}}}").into_bytes()];
        if let Some(link) = link {
            let resource = self.profile().media.resource.clone();
            let next = self.clone().fetch(&PageRequest::Next { resource, link })?;
            bodies.extend(self.all_pages(next)?);
        }
        Ok(bodies)
    }
}

/// An entity's array of media, and the link to more of them. Some servers answer a look-up of a key
/// with a page of one.
fn media_in(body: &[u8], member: &str) -> Result<(String, Option<String>), String> {
    type Members<'a> = std::collections::BTreeMap<std::borrow::Cow<'a, str>, &'a RawValue>;
    #[derive(Deserialize)]
    struct One<'a> {
        #[serde(borrow)]
        value: Vec<Members<'a>>,
    }
    let unread = |error: serde_json::Error| format!("the answer is no record: {error}");
    let entity: Members<'_> = match serde_json::from_slice::<One<'_>>(body) {
        Ok(mut page) => match (page.value.pop(), page.value.is_empty()) {
            (Some(entity), true) => entity,
            _ => return Err("the answer to a single key is not one record".to_owned()),
        },
        Err(_) => serde_json::from_slice(body).map_err(unread)?,
    };
    let list = entity.get(member).map_or("null", |list| list.get());
    if !list.starts_with('[') {
        return Err(format!("the record has no array {member}"));
    }
    let links = [
        format!("{member}@odata.nextLink"),
        format!("{member}@nextLink"),
    ];
    let link = links.iter().find_map(|name| entity.get(name.as_str()));
    let link = link.and_then(|link| serde_json::from_str(link.get()).ok());
    Ok((list.to_owned(), link))
}

fn malformed(request: String, reason: String) -> SourceError {
    SourceError {
        kind: SourceErrorKind::Malformed,
        request,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_is_asked_by_the_key_of_the_record() {
        let mut rules = MediaRules::default();
        let filter = |rules: &MediaRules, key| of_record(rules, &key).filter.unwrap();
        assert_eq!(filter(&rules, Key::Int(7)), "ResourceRecordKey eq '7'");
        let quoted = filter(&rules, Key::Str("O'1".into()));
        assert_eq!(quoted, "ResourceRecordKey eq 'O''1'");
        rules.record_field = "ResourceRecordKeyNumeric".into();
        assert_eq!(filter(&rules, Key::Int(7)), "ResourceRecordKeyNumeric eq 7");
    }

    #[test]
    fn media_are_found_in_an_entity_and_in_a_page_of_one() {
        let entity =
            r#"{"ListingKey":"1","Media":[{"MediaKey":"a"}],"Media@odata.nextLink":"M?x"}"#;
        let expected = (r#"[{"MediaKey":"a"}]"#.to_owned(), Some("M?x".to_owned()));
        let found = media_in(entity.as_bytes(), "Media").unwrap();
        assert_eq!(found, expected);
        let page = format!("{{\"value\":[{entity}]}}");
        assert_eq!(media_in(page.as_bytes(), "Media").unwrap(), expected);
        for bad in [
            r#"{"ListingKey":"1"}"#,
            r#"{"Media":null}"#,
            r#"{"value":[]}"#,
            r#"{"value":[{"Media":[]},{"Media":[]}]}"#,
            "[]",
            "",
        ] {
            assert!(media_in(bad.as_bytes(), "Media").is_err(), "{bad}");
        }
    }
}
