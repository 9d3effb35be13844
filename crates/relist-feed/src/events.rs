//! Reading EntityEvent: what happened, in order (RESO RCP-27).

use relist::error::{SourceError, SourceErrorKind};
use relist::source::{PageRequest, PageSource as _, QueryOptions};
use serde_json::{Map, Value};

use crate::client::WebApi;
use crate::profile::Deletes;

/// One event: a record that was created, changed, or is not for this reader any more. Which of
/// these, only fetching it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityEvent {
    /// Its place in the order of events; positive, unique, with gaps.
    pub sequence: i64,
    /// The record's resource: `Property`.
    pub resource: String,
    /// The record's key, as text.
    pub key: String,
}

/// Events that follow one another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventPage {
    /// The events, in order.
    pub events: Vec<EntityEvent>,
    /// Where to go on: the sequence after which the next page begins.
    pub after: i64,
}

impl WebApi {
    /// The events after a sequence, in order, a page of them; an empty page is the end.
    ///
    /// # Errors
    /// [`SourceErrorKind::Refused`] when the profile has no events, [`SourceErrorKind::Malformed`]
    /// when what the server answers is not in order or lacks a field: going on behind such a page
    /// would lose events.
    pub fn events(&self, after: i64) -> Result<EventPage, SourceError> {
        let Deletes::Events {
            resource,
            sequence_field,
            resource_field,
            key_field,
        } = &self.profile().deletes
        else {
            return Err(SourceError {
                kind: SourceErrorKind::Refused,
                request: "a request for events".to_owned(),
                reason: format!(
                    "the profile {} does not say that the server has EntityEvent",
                    self.profile().name
                ),
            });
        };
        let rules = self.profile().rules(resource);
        let request = PageRequest::Query {
            resource: resource.clone(),
            options: QueryOptions {
                filter: Some(format!("{sequence_field} gt {after}")),
                orderby: rules.orderby.then(|| sequence_field.clone()),
                page_size: rules.page_size,
                ..QueryOptions::default()
            },
        };
        let page = self.clone().fetch(&request)?;
        let malformed = |reason: String| SourceError {
            kind: SourceErrorKind::Malformed,
            request: page.origin.clone(),
            reason,
        };
        let rows = rows(&page.body).map_err(malformed)?;
        let mut out = EventPage {
            events: Vec::with_capacity(rows.len()),
            after,
        };
        for (at, row) in rows.iter().enumerate() {
            let sequence = row.get(sequence_field).and_then(number);
            let resource = row.get(resource_field).and_then(Value::as_str);
            let key = row.get(key_field).and_then(text);
            let (Some(sequence), Some(resource), Some(key)) = (sequence, resource, key) else {
                return Err(malformed(format!(
                    "event {at} lacks {sequence_field}, {resource_field} or {key_field}"
                )));
            };
            if sequence <= out.after {
                return Err(malformed(format!(
                    "event {at} has {sequence_field} {sequence} behind {}: events must be in \
                     order, or some are lost",
                    out.after
                )));
            }
            out.after = sequence;
            out.events.push(EntityEvent {
                sequence,
                resource: resource.to_owned(),
                key,
            });
        }
        Ok(out)
    }
}

fn rows(body: &[u8]) -> Result<Vec<Map<String, Value>>, String> {
    #[derive(serde::Deserialize)]
    struct Page {
        value: Vec<Map<String, Value>>,
    }
    let page: Page = serde_json::from_slice(body).map_err(|e| format!("not events: {e}"))?;
    Ok(page.value)
}

/// An integer, also one written as text, as IEEE754-compatible JSON has them.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_i64(),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
