//! The doctor: does a live server do what its profile says?
//!
//! Each [`Check`] is one rule of the profile, tried with one request or none, and says what was
//! found, what the profile expects and what to write into it. Nothing is changed, in the profile
//! or anywhere else. It sends at most [`MOST_REQUESTS`] requests.

mod read;

use std::collections::HashSet;

use relist::error::{SourceError, SourceErrorKind};
use relist::schema::{FieldType, Resource, Schema};
use relist::source::{PageRequest, PageSource as _, QueryOptions};
use relist::value::{DateTime, Value as KeyValue};
use serde_json::Value;

use crate::client::WebApi;
use crate::media::MediaVia;
use crate::profile::{Deletes, EnumLiterals, ResourceRules, Walk};
use crate::retry::RetryPolicy;

use read::{
    Read, Row, enum_setting, form_name, form_of, fraction_digits, is_behind, keys, literal, read,
    shown,
};

/// Requests that a doctor sends, at most, without those repeated after a failure.
pub const MOST_REQUESTS: u64 = 15;

/// One rule of a profile, tried on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// The rule: `page size`.
    pub name: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What the server does.
    pub found: String,
    /// What the profile says.
    pub expected: String,
    /// What to do; empty when there is nothing.
    pub advice: String,
}

/// How a [`Check`] came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// As the profile says.
    Ok,
    /// Not as the profile says.
    Differs,
    /// It could not be found out.
    Failed,
}

/// The examination under way.
struct Doctor<'a> {
    api: WebApi,
    rules: ResourceRules,
    resource: &'a str,
    schema: Option<Schema>,
    checks: Vec<Check>,
}

/// Tries a server on the rules of its profile, for one resource: its own documents, the size of
/// its pages, its nextLink, its filters, its timestamps, its enumerations, its deletions, its
/// media.
pub fn doctor(api: &WebApi, resource: &str) -> Vec<Check> {
    let patience = RetryPolicy {
        max_attempts: 2,
        ..RetryPolicy::default()
    };
    let mut doctor = Doctor {
        api: api.clone().with_retry(patience),
        rules: api.profile().rules(resource),
        resource,
        schema: None,
        checks: Vec::new(),
    };
    doctor.documents();
    let Some(first) = doctor.first_page() else {
        return doctor.checks;
    };
    doctor.next_link(&first);
    doctor.date(&first);
    let stamps = doctor.cursor(&first);
    doctor.orderby();
    doctor.keyset(&first);
    doctor.since(&stamps);
    doctor.enum_literals(&first);
    doctor.deletes(&first);
    doctor.media(&first);
    doctor.checks
}

impl Doctor<'_> {
    fn note(
        &mut self,
        name: &'static str,
        verdict: Verdict,
        (found, expected): (impl Into<String>, impl Into<String>),
        advice: impl Into<String>,
    ) {
        let advice = if verdict == Verdict::Ok {
            String::new()
        } else {
            advice.into()
        };
        self.checks.push(Check {
            name,
            verdict,
            found: found.into(),
            expected: expected.into(),
            advice,
        });
    }

    /// A request that failed: it differs when the server refused it, else nothing is known.
    fn failed(&mut self, name: &'static str, error: &SourceError, expected: &str, advice: &str) {
        use SourceErrorKind as K;
        let refused = matches!(error.kind, K::Refused | K::NotFound);
        let (verdict, advice) = match error.kind {
            _ if refused => (Verdict::Differs, advice),
            K::Unauthorized => (Verdict::Failed, "check the token and what it may read"),
            K::Unavailable => (Verdict::Failed, "try again later"),
            _ => (Verdict::Failed, advice),
        };
        self.note(name, verdict, (error.reason.clone(), expected), advice);
    }

    fn ask(&mut self, options: QueryOptions) -> Result<Read, SourceError> {
        let resource = self.resource.to_owned();
        self.ask_of(resource, options)
    }

    fn ask_of(&mut self, resource: String, options: QueryOptions) -> Result<Read, SourceError> {
        let page = self.api.fetch(&PageRequest::Query { resource, options })?;
        read(page)
    }

    /// A query of few rows.
    fn small(&self, filter: Option<String>, orderby: Option<String>) -> QueryOptions {
        QueryOptions {
            filter,
            orderby,
            select: self.rules.select.clone(),
            page_size: Some(SMALL),
            ..QueryOptions::default()
        }
    }

    fn documents(&mut self) {
        let expected = format!("it lists {}", self.resource);
        let advice = "resources are then known from $metadata or from their pages alone";
        match self.api.service_document() {
            Ok(sets) => {
                let listed = sets.iter().any(|set| set == self.resource);
                let found = format!("{} entity sets: {}", sets.len(), sets.join(", "));
                self.note("service document", ok_if(listed), (found, expected), advice);
            }
            Err(error) => self.failed("service document", &error, &expected, advice),
        }
        let expected = format!("it declares {}", self.resource);
        let advice = "fields are then learnt from the pages; give the key in the profile";
        match self.api.metadata().map(|xml| Schema::from_metadata(&xml)) {
            Ok(Ok(schema)) => {
                let declared = schema.resource(self.resource).is_some();
                let found = format!("{} resources", schema.resources.len());
                self.note("$metadata", ok_if(declared), (found, expected), advice);
                self.schema = Some(schema);
                self.key();
            }
            Ok(Err(error)) => {
                let found = error.to_string();
                self.note("$metadata", Verdict::Failed, (found, expected), advice);
            }
            Err(error) => self.failed("$metadata", &error, &expected, advice),
        }
    }

    fn declared(&self) -> Option<&Resource> {
        self.schema.as_ref()?.resource(self.resource)
    }

    /// The key field by the profile, else by `$metadata`.
    fn key_field(&self) -> Option<String> {
        let declared = || self.declared().map(|r| r.key_field.clone());
        self.rules.key.clone().or_else(declared)
    }

    fn key(&mut self) {
        let (Some(declared), Some(ours)) = (self.declared(), self.rules.key.clone()) else {
            return;
        };
        let known = declared.field_named(&ours).is_some();
        let found = format!("$metadata says {}", declared.key_field);
        let advice = format!("resources.{}.key = {:?}", self.resource, declared.key_field);
        self.note("key", ok_if(known), (found, ours), advice);
    }

    /// The first page, of the size the profile asks for, with its count.
    fn first_page(&mut self) -> Option<Read> {
        let mut options = QueryOptions {
            select: self.rules.select.clone(),
            expand: self.rules.expand.clone(),
            page_size: self.rules.page_size,
            count: self.rules.count,
            ..QueryOptions::default()
        };
        let mut asked = self.ask(options.clone());
        let refused = matches!(&asked, Err(e) if e.kind == SourceErrorKind::Refused);
        if options.count && refused {
            options.count = false;
            asked = self.ask(options);
        }
        let size = self.rules.page_size;
        let expected = size.map_or_else(|| "any".to_owned(), |n| format!("{n} rows"));
        let first = match asked {
            Ok(first) => first,
            Err(error) => {
                let advice = "nothing more can be tried without a page";
                self.failed("page size", &error, &expected, advice);
                return None;
            }
        };
        let rows = first.rows.len() as u64;
        let more = first.link.is_some();
        let fits = size.is_none_or(|size| rows == size || (rows < size && !more));
        let found = format!("{rows} rows, {}", if more { "and more" } else { "no more" });
        let advice = format!(
            "page_size = {rows}, or another `paging`: the server did not give what was asked for"
        );
        self.note("page size", ok_if(fits), (found, expected), advice);
        self.count(&first);
        Some(first)
    }

    fn count(&mut self, first: &Read) {
        let found = match first.count {
            Some(count) => format!("@odata.count {count}"),
            None => "no @odata.count".to_owned(),
        };
        let expected = if self.rules.count { "a count" } else { "none" };
        let agrees = first.count.is_some() || !self.rules.count;
        let advice = "count = false; that a full sync is complete then rests on the walk alone";
        self.note("count", ok_if(agrees), (found, expected), advice);
    }

    fn next_link(&mut self, first: &Read) {
        let Some(link) = &first.link else {
            let size = self.rules.page_size.unwrap_or(u64::MAX);
            let full = first.rows.len() as u64 >= size;
            let walks = self.rules.walk == Walk::Nextlink;
            let by_key = "walk = \"keyset\", or another `paging` if the server reads $top as the \
                          total over all pages";
            let found = if full {
                "none after a full page"
            } else {
                "none: all fits one page"
            };
            let expected = if walks {
                "a link while there is more"
            } else {
                "not needed"
            };
            self.note(
                "nextLink",
                ok_if(!(walks && full)),
                (found, expected),
                by_key,
            );
            return;
        };
        let form = form_of(link);
        let walks = self.rules.walk == Walk::Nextlink;
        let request = PageRequest::Next {
            resource: self.resource.to_owned(),
            link: link.clone(),
        };
        let next = self.api.fetch(&request).and_then(read);
        let next = match next {
            Ok(next) => next,
            Err(error) => {
                let advice = "walk = \"keyset\", if the server takes $orderby";
                self.note(
                    "nextLink",
                    Verdict::Failed,
                    (error.reason, "it leads on"),
                    advice,
                );
                return;
            }
        };
        let key = self.key_field().unwrap_or_default();
        let first_keys: HashSet<String> = keys(&first.rows, &key).collect();
        let repeats = keys(&next.rows, &key).any(|k| first_keys.contains(&k));
        let offset = form.contains("$skip=");
        let verdict = ok_if(!(repeats || walks && offset && self.rules.orderby));
        let found = if repeats {
            format!("{form}; its page repeats rows of the first")
        } else {
            format!("{form}; it leads to {} rows", next.rows.len())
        };
        let expected = if walks {
            "a link that goes on where the page ends"
        } else {
            "not used: the walk goes by key"
        };
        let advice = "an offset loses rows when others come or go: walk = \"keyset\" is safe";
        self.note("nextLink", verdict, (found, expected), advice);
    }

    fn date(&mut self, first: &Read) {
        let dated = first.page.server_time.is_some();
        let found = if dated {
            "a Date header"
        } else {
            "no Date header"
        };
        let advice = "watermarks are then bounded by this machine's clock: keep it right";
        self.note(
            "server time",
            ok_if(dated),
            (found, "a Date header"),
            advice,
        );
    }

    /// The timestamps of the first page, after they were looked at.
    fn cursor(&mut self, first: &Read) -> Vec<String> {
        let Some(field) = self.rules.cursor_field.clone() else {
            let expected = "none: the resource is read whole";
            self.note("cursor field", Verdict::Ok, ("not asked", expected), "");
            return Vec::new();
        };
        let value = |row: &Row| row.get(&field).and_then(Value::as_str).map(str::to_owned);
        let stamps: Vec<String> = first.rows.iter().filter_map(value).collect();
        let every = stamps.len() == first.rows.len();
        let read = stamps.iter().all(|stamp| DateTime::parse(stamp).is_some());
        let found = match (every, read) {
            (true, true) => format!("a timestamp in each of {} rows", stamps.len()),
            (true, false) => "values that are no timestamps".to_owned(),
            _ => format!("in {} of {} rows", stamps.len(), first.rows.len()),
        };
        let advice = format!(
            "resources.{}.cursor_field names a timestamp that every row has; without one, full = \
             true",
            self.resource
        );
        self.note("cursor field", ok_if(every && read), (found, field), advice);
        let most = stamps
            .iter()
            .filter_map(|stamp| fraction_digits(stamp))
            .max();
        if let Some(most) = most {
            let ours = self.api.profile().cursor.fraction_digits;
            let found = format!("{most} digits");
            let expected = format!("{ours} digits");
            let advice = format!("cursor.fraction_digits = {most}");
            let verdict = ok_if(most == usize::from(ours));
            self.note("timestamp digits", verdict, (found, expected), advice);
        }
        stamps
    }

    fn orderby(&mut self) {
        let Some(field) = self
            .rules
            .cursor_field
            .clone()
            .filter(|_| self.rules.orderby)
        else {
            self.note("$orderby", Verdict::Ok, ("not asked", "not used"), "");
            return;
        };
        let expected = format!("rows in the order of {field}");
        let advice = "orderby = false";
        match self.ask(self.small(None, Some(field.clone()))) {
            Ok(rows) => {
                let stamp = |row: &Row| DateTime::parse(row.get(&field)?.as_str()?);
                let stamps: Vec<_> = rows.rows.iter().filter_map(stamp).collect();
                let at = |d: &DateTime| (d.seconds, d.nanos);
                let sorted = stamps.is_sorted_by_key(at);
                let found = if sorted { "in order" } else { "out of order" };
                self.note("$orderby", ok_if(sorted), (found, expected), advice);
            }
            Err(error) => self.failed("$orderby", &error, &expected, advice),
        }
    }

    /// Whether `Key gt K` in order of key gives what lies behind K and nothing else.
    fn keyset(&mut self, first: &Read) {
        let walks = self.rules.walk == Walk::Keyset;
        let key_field = self.key_field().filter(|_| self.rules.orderby);
        let middle = key_field.as_ref().and_then(|field| {
            let mut values: Vec<&Value> = first.rows.iter().filter_map(|r| r.get(field)).collect();
            values.sort_by_key(|value| value.as_i64().unwrap_or(i64::MAX));
            values.get(values.len() / 2).copied().cloned()
        });
        let (Some(field), Some(middle)) = (key_field, middle) else {
            if walks {
                let found = "no row with a known key";
                let expected = "a walk by key";
                self.note(
                    "keyset filter",
                    Verdict::Failed,
                    (found, expected),
                    "give `key`",
                );
            }
            return;
        };
        let filter = format!("{field} gt {}", literal(&middle));
        let expected = format!("rows behind the key, in order of {field}");
        let advice = "walk = \"nextlink\"";
        match self.ask(self.small(Some(filter), Some(field.clone()))) {
            Ok(rows) => {
                let found: Vec<&Value> = rows.rows.iter().filter_map(|r| r.get(&field)).collect();
                let honoured = is_behind(&found, &middle);
                let found = match (honoured, walks) {
                    (true, true) => "honoured",
                    (true, false) => "honoured: walk = \"keyset\" would work",
                    (false, _) => "rows that do not lie behind the key, or out of order",
                };
                let verdict = ok_if(honoured || !walks);
                self.note("keyset filter", verdict, (found, expected), advice);
            }
            Err(error) if walks => self.failed("keyset filter", &error, &expected, advice),
            Err(_) => {
                let found = "refused";
                self.note("keyset filter", Verdict::Ok, (found, "not used"), advice);
            }
        }
    }

    /// Whether `Stamp ge T`, as the profile writes T, gives the rows from T on, that of T among
    /// them.
    fn since(&mut self, stamps: &[String]) {
        let (Some(field), Some(stamp)) = (self.rules.cursor_field.clone(), stamps.last()) else {
            return;
        };
        let Some(at) = DateTime::parse(stamp) else {
            return;
        };
        let literal = self.api.profile().timestamp(at);
        let expected = format!("{field} ge {literal} gives the rows from then on");
        let advice = "cursor.fraction_digits, or cursor.field: this filter is what every \
                      incremental sync rests on";
        match self.ask(self.small(Some(format!("{field} ge {literal}")), None)) {
            Ok(rows) => {
                let from = DateTime::parse(&literal).map(|d| (d.seconds, d.nanos));
                let stamp = |row: &Row| DateTime::parse(row.get(&field)?.as_str()?);
                let earlier = |d: DateTime| Some((d.seconds, d.nanos)) < from;
                let early = rows.rows.iter().filter_map(stamp).filter(|d| earlier(*d));
                let early = early.count();
                let honoured = early == 0 && !rows.rows.is_empty();
                let found = if rows.rows.is_empty() {
                    "no row, and there is one".to_owned()
                } else {
                    format!("{} rows, {early} of them earlier", rows.rows.len())
                };
                self.note("cursor filter", ok_if(honoured), (found, expected), advice);
            }
            Err(error) => self.failed("cursor filter", &error, &expected, advice),
        }
    }

    /// Which form of an enumeration literal the server takes.
    fn enum_literals(&mut self, first: &Read) {
        let Some((field, ty, member)) = self.enum_value(first) else {
            let found = "no enumeration with a value in the first page";
            let expected = form_name(self.api.profile().enum_literals);
            self.note("enum literals", Verdict::Failed, (found, expected), "");
            return;
        };
        let ours = self.api.profile().enum_literals;
        let forms = [
            EnumLiterals::Qualified,
            EnumLiterals::Short,
            EnumLiterals::String,
        ];
        let others = forms.into_iter().filter(|form| *form != ours);
        let mut refusal = String::new();
        for form in std::iter::once(ours).chain(others) {
            let mut profile = self.api.profile().clone();
            profile.enum_literals = form;
            let literal = profile.enum_literal(&ty, &member);
            let filter = format!("{field} eq {literal}");
            match self.ask(self.small(Some(filter.clone()), None)) {
                Ok(rows) if !rows.rows.is_empty() => {
                    let verdict = ok_if(form == ours);
                    let name = enum_setting(form);
                    let advice = format!("enum_literals = {name:?}: {refusal}");
                    let expected = form_name(ours);
                    self.note("enum literals", verdict, (filter, expected), advice);
                    return;
                }
                Ok(_) => "the profile's form finds nothing".clone_into(&mut refusal),
                Err(error) if error.kind == SourceErrorKind::Refused => refusal = error.reason,
                Err(error) => return self.failed("enum literals", &error, form_name(ours), ""),
            }
        }
        let found = format!("no form finds {field} {member}: {refusal}");
        let expected = form_name(ours);
        let advice = "filters on this field cannot be asked upstream";
        self.note("enum literals", Verdict::Differs, (found, expected), advice);
    }

    /// An enumeration field of the first page, its type and a member it holds.
    fn enum_value(&self, first: &Read) -> Option<(String, String, String)> {
        let value = |field: &str| {
            let values = first.rows.iter().filter_map(|row| row.get(field)?.as_str());
            values
                .map(str::trim)
                .find(|v| !v.is_empty() && !v.contains(','))
                .map(str::to_owned)
        };
        let declared = self.declared();
        let fields = declared.map(|r| r.fields.as_slice()).unwrap_or_default();
        let mut enums: Vec<(&str, &str)> = fields
            .iter()
            .filter_map(|field| match &field.ty {
                FieldType::Lookup(ty) => Some((field.name.as_str(), ty.as_str())),
                _ => None,
            })
            .collect();
        // The field that feeds are filtered by, before all others.
        enums.sort_by_key(|(name, _)| *name != "StandardStatus");
        for (name, ty) in enums {
            let Some(text) = value(name) else { continue };
            // Payloads may carry the text for people; a literal is the member's name.
            let members = self.schema.as_ref()?.enum_type(ty);
            let members = members.map(|e| e.members.as_slice()).unwrap_or_default();
            let named = members.iter().find(|m| m.name == text);
            let member = named.or_else(|| {
                let mut members = members.iter();
                members.find(|m| m.display.as_deref() == Some(&text))
            });
            if let Some(member) = member {
                return Some((name.to_owned(), ty.to_owned(), member.name.clone()));
            }
        }
        let status = value("StandardStatus")?;
        Some((
            "StandardStatus".to_owned(),
            "StandardStatus".to_owned(),
            status,
        ))
    }

    fn deletes(&mut self, first: &Read) {
        match self.rules.deletes.clone() {
            Deletes::None {} => {
                self.note("deletions", Verdict::Ok, ("not asked", "none"), "");
            }
            Deletes::Reconcile {} => {
                let expected = "no signal: keys are compared";
                self.note("deletions", Verdict::Ok, ("not asked", expected), "");
            }
            Deletes::Flag { field, value, .. } => {
                let has = first.rows.iter().any(|row| row.contains_key(&field));
                let found = if has { "it is there" } else { "no row has it" };
                let expected = format!("{field} {}", shown(&value));
                let advice = "deletes.field names a field of the rows; without one, by = \
                              \"reconcile\"";
                self.note("deletions", ok_if(has), (found, expected), advice);
            }
            Deletes::Feed {
                resource,
                resource_field,
                key_field,
                time_field,
            } => {
                let since = first.page.server_time.map(|at| {
                    let day_before = DateTime {
                        seconds: at.seconds - 86_400,
                        ..at
                    };
                    format!(
                        " and {time_field} ge {}",
                        self.api.profile().timestamp(day_before)
                    )
                });
                let filter = format!(
                    "{resource_field} eq '{}'{}",
                    self.resource,
                    since.unwrap_or_default()
                );
                let fields = [resource_field, key_field, time_field];
                self.answers(resource, filter, &fields);
            }
            Deletes::Events {
                resource,
                sequence_field,
                resource_field,
                key_field,
            } => {
                let filter = format!("{sequence_field} gt 0");
                let fields = [sequence_field, resource_field, key_field];
                self.answers(resource, filter, &fields);
            }
        }
    }

    /// Whether a resource of deletions or events answers, with its fields.
    fn answers(&mut self, resource: String, filter: String, fields: &[String]) {
        let expected = format!("{resource} with {}", fields.join(", "));
        let advice = "deletes.by = \"reconcile\" finds what is gone by comparing keys";
        let options = QueryOptions {
            filter: Some(filter),
            page_size: Some(SMALL),
            ..QueryOptions::default()
        };
        match self.ask_of(resource, options) {
            Ok(rows) => {
                let whole = |row: &Row| fields.iter().all(|field| row.contains_key(field));
                let all = rows.rows.iter().all(whole);
                let found = if all {
                    format!("it answers, with {} rows", rows.rows.len())
                } else {
                    let names = rows.rows.first().map(|row| row.keys().cloned().collect());
                    let names: Vec<String> = names.unwrap_or_default();
                    format!("rows with {}", names.join(", "))
                };
                self.note("deletions", ok_if(all), (found, expected), advice);
            }
            Err(error) => self.failed("deletions", &error, &expected, advice),
        }
    }

    fn media(&mut self, first: &Read) {
        if self.resource != "Property" {
            return;
        }
        let media = self.api.profile().media.clone();
        let field = &media.cursor_field;
        let has = first.rows.iter().any(|row| row.contains_key(field));
        let found = if has { "it is there" } else { "no row has it" };
        let advice = "media.cursor_field names the stamp that moves with the photos; without one, \
                      changed photos are found by a full sync only";
        self.note("media cursor", ok_if(has), (found, field.clone()), advice);
        let name = media.navigation.clone();
        let advice = "media.via: expand, inline, navigation or resource, whichever answers";
        match media.via {
            MediaVia::Inline => {
                let inline = first
                    .rows
                    .iter()
                    .any(|r| r.get(&name).is_some_and(Value::is_array));
                let found = if inline {
                    "a list in the rows"
                } else {
                    "no list in the rows"
                };
                let expected = format!("{name} in the rows");
                self.note("media", ok_if(inline), (found, expected), advice);
            }
            MediaVia::Expand => {
                let expected = format!("$expand={name} gives a list");
                let options = QueryOptions {
                    expand: Some(name.clone()),
                    ..self.small(None, None)
                };
                match self.ask(options) {
                    Ok(rows) => {
                        let lists = |r: &Row| r.get(&name).is_some_and(Value::is_array);
                        let listed = rows.rows.iter().any(lists);
                        let found = if listed { "a list" } else { "no list" };
                        self.note("media", ok_if(listed), (found, expected), advice);
                    }
                    Err(error) => self.failed("media", &error, &expected, advice),
                }
            }
            MediaVia::Navigation => self.navigation(first, &name, advice),
            MediaVia::Resource => {
                let expected = format!("{} answers", media.resource);
                let options = QueryOptions {
                    page_size: Some(SMALL),
                    ..QueryOptions::default()
                };
                match self.ask_of(media.resource, options) {
                    Ok(rows) => {
                        let found = format!("{} rows", rows.rows.len());
                        self.note("media", Verdict::Ok, (found, expected), advice);
                    }
                    Err(error) => self.failed("media", &error, &expected, advice),
                }
            }
        }
    }

    fn navigation(&mut self, first: &Read, name: &str, advice: &str) {
        let key = self.key_field().unwrap_or_default();
        let expected = format!("{}(key)/{name} answers", self.resource);
        let value = first.rows.iter().find_map(|row| row.get(&key));
        let key = match value {
            Some(Value::String(text)) => KeyValue::str(text),
            Some(value) => value.as_i64().map_or(KeyValue::Null, KeyValue::Int),
            None => KeyValue::Null,
        };
        match self
            .api
            .navigation(self.resource, &key, name)
            .and_then(read)
        {
            Ok(rows) => {
                let found = format!("{} media", rows.rows.len());
                self.note("media", Verdict::Ok, (found, expected), advice);
            }
            Err(error) => self.failed("media", &error, &expected, advice),
        }
    }
}

/// Read asked for where few are enough.
const SMALL: u64 = 5;

fn ok_if(agrees: bool) -> Verdict {
    if agrees {
        Verdict::Ok
    } else {
        Verdict::Differs
    }
}
