//! A whole query: the system query options of one request.

use super::apply::{self, Apply, BoundApply, GroupStep, parse_apply};
use super::ast::{Expr, Name, OrderItem, Select, Span};
use super::bind::Binder;
use super::parse::{parse_filter, parse_orderby, parse_select};
use super::predicate::{OrderBy, Predicate};
use super::text::{OptionText, did_you_mean};
use crate::error::{Error, QueryError};
use crate::schema::{FieldId, Resource, Schema};
use crate::value::Timestamp;

/// A query of one resource, parsed but not yet bound to a schema.
///
/// ```
/// use relist::odata::Query;
///
/// let query = Query::parse("Property", "$filter=ListPrice lt 500000&$top=10")?;
/// let built = Query::new("Property").filter("ListPrice lt 500000")?.top(10);
/// assert_eq!(query, built);
/// # Ok::<(), relist::error::QueryError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The resource asked of: `Property`.
    pub resource: String,
    /// `$apply`. It comes first: the other options are of what it gives.
    pub apply: Option<Parsed<Apply>>,
    /// The fields that `Coordinates` stands for, latitude first, where they are not `Latitude` and
    /// `Longitude`.
    pub coordinates: Option<(String, String)>,
    /// `$filter`.
    pub filter: Option<Parsed<Expr>>,
    /// `$orderby`.
    pub orderby: Option<Parsed<Vec<OrderItem>>>,
    /// `$select`.
    pub select: Option<Parsed<Select>>,
    /// `$top`: at most so many rows.
    pub top: Option<u64>,
    /// `$skip`: leave out so many rows first.
    pub skip: u64,
    /// `$count=true`: say how many rows pass the filter, whatever `$top` and `$skip` say.
    pub count: bool,
}

/// A query option: what was written and what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed<T> {
    /// The option's text, decoded.
    pub text: String,
    /// What it says.
    pub value: T,
}

impl Query {
    /// A query of all records of a resource.
    pub fn new(resource: impl Into<String>) -> Self {
        Query {
            resource: resource.into(),
            apply: None,
            coordinates: None,
            filter: None,
            orderby: None,
            select: None,
            top: None,
            skip: 0,
            count: false,
        }
    }

    /// Reads the query part of a URL: options joined by `&`, percent-encoded or not. The `$` of a
    /// name may be left out (OData 4.01 URL Conventions, 5.1).
    pub fn parse(resource: impl Into<String>, text: &str) -> Result<Self, QueryError> {
        Query::from_options(resource, &query_options(text)?)
    }

    /// Reads options that are split and decoded, as [`query_options`] gives them.
    pub fn from_options(
        resource: impl Into<String>,
        options: &[(String, String)],
    ) -> Result<Self, QueryError> {
        let mut query = Query::new(resource);
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in options {
            let option = known_option(name).ok_or_else(|| unknown_option(name))?;
            if seen.contains(&option) {
                return Err(OptionText {
                    name: option,
                    text: value,
                }
                .error(whole(value), format!("{option} is given twice")));
            }
            seen.push(option);
            query = match option {
                "$apply" => query.apply(value)?,
                "$filter" => query.filter(value)?,
                "$orderby" => query.orderby(value)?,
                "$select" => query.select_text(value)?,
                "$top" => query.top(number(option, value)?),
                "$skip" => query.skip(number(option, value)?),
                _ => query.count(boolean(option, value)?),
            };
        }
        Ok(query)
    }

    /// Groups and aggregates.
    pub fn apply(mut self, text: &str) -> Result<Self, QueryError> {
        self.apply = Some(Parsed {
            text: text.to_owned(),
            value: parse_apply(text)?,
        });
        Ok(self)
    }

    /// Names the fields of degrees north and degrees east that `Coordinates` stands for.
    #[must_use]
    pub fn coordinates(
        mut self,
        latitude: impl Into<String>,
        longitude: impl Into<String>,
    ) -> Self {
        self.coordinates = Some((latitude.into(), longitude.into()));
        self
    }

    /// Keeps the rows that pass the filter.
    pub fn filter(mut self, text: &str) -> Result<Self, QueryError> {
        self.filter = Some(Parsed {
            text: text.to_owned(),
            value: parse_filter(text)?,
        });
        Ok(self)
    }

    /// Sorts, as `$orderby` says.
    pub fn orderby(mut self, text: &str) -> Result<Self, QueryError> {
        self.orderby = Some(Parsed {
            text: text.to_owned(),
            value: parse_orderby(text)?,
        });
        Ok(self)
    }

    /// Keeps the fields that the text of a `$select` names.
    pub fn select_text(mut self, text: &str) -> Result<Self, QueryError> {
        self.select = Some(Parsed {
            text: text.to_owned(),
            value: parse_select(text)?,
        });
        Ok(self)
    }

    /// Keeps these fields, in this order.
    #[must_use]
    pub fn select<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        let mut text = String::new();
        let mut fields = Vec::new();
        for name in names {
            let name = name.as_ref();
            if !text.is_empty() {
                text.push(',');
            }
            let span = Span {
                offset: text.len(),
                len: name.len(),
            };
            text.push_str(name);
            fields.push(Name {
                text: name.to_owned(),
                span,
            });
        }
        self.select = Some(Parsed {
            text,
            value: Select::Fields(fields),
        });
        self
    }

    /// Keeps the first rows only.
    #[must_use]
    pub fn top(mut self, rows: u64) -> Self {
        self.top = Some(rows);
        self
    }

    /// Leaves out the first rows.
    #[must_use]
    pub fn skip(mut self, rows: u64) -> Self {
        self.skip = rows;
        self
    }

    /// Also counts the rows that pass the filter.
    #[must_use]
    pub fn count(mut self, wanted: bool) -> Self {
        self.count = wanted;
        self
    }

    /// Resolves the query against a schema; `now` is what `now()` means.
    ///
    /// # Errors
    /// [`Error::Query`] for what does not fit the schema, [`Error::UnknownResource`];
    /// [`Error::Usage`] for a query with `$apply`, whose rows are no records.
    pub fn bind(&self, schema: &Schema, now: Timestamp) -> Result<BoundQuery, Error> {
        if self.apply.is_some() {
            let text = "a query with $apply gives groups, not records: use Snapshot::apply";
            return Err(Error::Usage(text.to_owned()));
        }
        let resource = self.resource_in(schema)?;
        self.bind_options(schema, resource, now)
    }

    /// Resolves a query with `$apply`.
    ///
    /// # Errors
    /// As [`bind`](Query::bind); [`Error::Usage`] for a query without `$apply`.
    pub fn bind_apply(&self, schema: &Schema, now: Timestamp) -> Result<BoundApply, Error> {
        self.bind_apply_to(schema, self.resource_in(schema)?, now)
    }

    /// Like [`bind_apply`](Query::bind_apply), for a resource that is not of the schema.
    pub(crate) fn bind_apply_to(
        &self,
        schema: &Schema,
        resource: &Resource,
        now: Timestamp,
    ) -> Result<BoundApply, Error> {
        let Some(Parsed { text, value }) = &self.apply else {
            return Err(Error::Usage("the query has no $apply".to_owned()));
        };
        let binder = self.binder("$apply", text, (schema, resource, now))?;
        let mut bound = apply::rebind(value, text, &binder)?;
        let output = apply::output_resource(&bound.columns);
        let after = Query {
            coordinates: None,
            ..self.clone()
        };
        let options = after
            .bind_options(schema, &output, now)
            .map_err(|error| of_result(error, resource, &output))?;
        bound.steps.extend(options.predicate.map(GroupStep::Filter));
        bound.steps.extend(options.orderby.map(GroupStep::OrderBy));
        bound.count = options.count;
        if options.count {
            bound.steps.push(GroupStep::Count);
        }
        if options.skip > 0 {
            bound.steps.push(GroupStep::Skip(options.skip));
        }
        bound.steps.extend(options.top.map(GroupStep::Top));
        if let Some(fields) = options.select {
            let places = fields.iter().map(|f| usize::from(f.0));
            let columns = places
                .clone()
                .filter_map(|at| bound.columns.get(at).cloned());
            bound.columns = columns.collect();
            bound.steps.push(GroupStep::Select(places.collect()));
        }
        Ok(bound)
    }

    fn resource_in<'s>(&self, schema: &'s Schema) -> Result<&'s Resource, Error> {
        schema
            .resource(&self.resource)
            .ok_or_else(|| Error::UnknownResource {
                name: self.resource.clone(),
                known: schema.resources.iter().map(|r| r.name.clone()).collect(),
            })
    }

    fn binder<'a>(
        &self,
        name: &'static str,
        text: &'a str,
        (schema, resource, now): (&'a Schema, &'a Resource, Timestamp),
    ) -> Result<Binder<'a>, Error> {
        let mut binder = Binder::new(OptionText { name, text }, schema, resource, now);
        if let Some((latitude, longitude)) = &self.coordinates {
            let field = |name: &String| {
                resource.field_id(name).ok_or_else(|| {
                    let known = resource.fields.iter().map(|f| f.name.as_str());
                    let hint = did_you_mean(name, known).map(|h| format!("; {h}"));
                    Error::Usage(format!(
                        "the pair of coordinates: {} has no field {name}{}",
                        resource.name,
                        hint.unwrap_or_default()
                    ))
                })
            };
            binder.pair = Some((field(latitude)?, field(longitude)?));
        }
        Ok(binder)
    }

    /// Resolves all options but `$apply` against a resource, which need not be of the schema.
    pub(crate) fn bind_options(
        &self,
        schema: &Schema,
        resource: &Resource,
        now: Timestamp,
    ) -> Result<BoundQuery, Error> {
        let of = (schema, resource, now);
        let predicate = match &self.filter {
            Some(Parsed { text, value }) => {
                let node = self.binder("$filter", text, of)?.truth(value)?;
                Some(Predicate::of(node))
            }
            None => None,
        };
        let orderby = match &self.orderby {
            Some(Parsed { text, value }) => {
                let mut binder = self.binder("$orderby", text, of)?;
                Some(OrderBy::bind(&mut binder, value)?)
            }
            None => None,
        };
        let select = match &self.select {
            Some(Parsed { text, value }) => bind_select(value, text, schema, resource)?,
            None => None,
        };
        Ok(BoundQuery {
            predicate,
            orderby,
            select,
            top: self.top,
            skip: self.skip,
            count: self.count,
        })
    }
}

/// The error of an option that names a field of the records, where only the result of `$apply`
/// is left.
fn of_result(error: Error, records: &Resource, output: &Resource) -> Error {
    let Error::Query(mut error) = error else {
        return error;
    };
    let end = error.offset + error.len;
    let named = error.text.get(error.offset..end).unwrap_or_default();
    if records.field_id(named).is_some() && output.field_id(named).is_none() {
        let option = error.option;
        error.hint = Some(match option {
            "$filter" => "$filter is of the groups: to choose records, begin $apply with \
                          filter(..)/"
                .to_owned(),
            _ => format!("{option} is of the groups: group by {named}, or aggregate it"),
        });
    }
    Error::Query(error)
}

/// A query resolved against a resource.
#[derive(Debug, Clone)]
pub struct BoundQuery {
    /// The filter; `None` lets every row through.
    pub predicate: Option<Predicate>,
    /// The order; `None` leaves it to the store.
    pub orderby: Option<OrderBy>,
    /// The fields to give, in this order; `None` is all.
    pub select: Option<Vec<FieldId>>,
    /// At most so many rows.
    pub top: Option<u64>,
    /// Leave out so many rows first.
    pub skip: u64,
    /// Whether to count the rows that pass the filter.
    pub count: bool,
}

/// Resolves a selection against a resource; `None` is every field. A field named twice is given
/// once.
pub fn bind_select(
    select: &Select,
    text: &str,
    schema: &Schema,
    resource: &Resource,
) -> Result<Option<Vec<FieldId>>, QueryError> {
    let option = OptionText {
        name: "$select",
        text,
    };
    let Select::Fields(names) = select else {
        return Ok(None);
    };
    let mut fields = Vec::with_capacity(names.len());
    let binder = super::bind::Binder::new(option, schema, resource, Timestamp(0));
    for name in names {
        let Some(id) = resource.field_id(&name.text) else {
            return Err(binder.unknown_field(name, resource));
        };
        if !fields.contains(&id) {
            fields.push(id);
        }
    }
    Ok(Some(fields))
}

/// Splits the query part of a URL into names and values and decodes them.
///
/// A leading `?` is skipped. A `+` stays a `+`, as RFC 3986 has it: a space is `%20`. A `%` that
/// is not followed by two hexadecimal digits, or bytes that are not UTF-8, are an error.
pub fn query_options(text: &str) -> Result<Vec<(String, String)>, QueryError> {
    let option = OptionText {
        name: "query options",
        text,
    };
    let mut options = Vec::new();
    let mut offset = text.len() - text.trim_start_matches('?').len();
    for part in text.get(offset..).unwrap_or_default().split('&') {
        let span = Span {
            offset,
            len: part.len(),
        };
        offset += part.len() + 1;
        if part.is_empty() {
            continue;
        }
        let Some((name, value)) = part.split_once('=') else {
            let message = format!("{part} has no value");
            let hint = Some(format!("write {part}=.."));
            return Err(option.hinted(span, message, hint));
        };
        let value_at = span.offset + name.len() + 1;
        options.push((
            decoded(option, name, span.offset)?,
            decoded(option, value, value_at)?,
        ));
    }
    Ok(options)
}

fn decoded(option: OptionText<'_>, text: &str, offset: usize) -> Result<String, QueryError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let hex = after.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        let digits = hex.filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(value) = digits.and_then(|h| u8::from_str_radix(h, 16).ok()) else {
            let at = Span {
                offset: offset + text.len() - after.len() - 1,
                len: 1,
            };
            let message = "% is not followed by two hexadecimal digits";
            let hint = Some("a percent sign itself is written %25".to_owned());
            return Err(option.hinted(at, message, hint));
        };
        bytes.push(value);
        rest = after.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| {
        let len = text.len();
        let message = "the decoded text is not UTF-8";
        option.error(Span { offset, len }, message)
    })
}

/// The options that a query has.
const OPTIONS: [&str; 7] = [
    "$apply", "$filter", "$orderby", "$select", "$top", "$skip", "$count",
];

fn known_option(name: &str) -> Option<&'static str> {
    let bare = |s: &'_ str| s.trim_start_matches('$').to_ascii_lowercase();
    let wanted = bare(name);
    OPTIONS.into_iter().find(|option| bare(option) == wanted)
}

fn unknown_option(name: &str) -> QueryError {
    let option = OptionText {
        name: "query options",
        text: name,
    };
    let message = format!("{name} is not a query option here");
    let hint = did_you_mean(name, OPTIONS)
        .unwrap_or_else(|| format!("the options are {}", OPTIONS.join(", ")));
    option.hinted(whole(name), message, Some(hint))
}

fn whole(text: &str) -> Span {
    Span {
        offset: 0,
        len: text.len(),
    }
}

fn number(name: &'static str, text: &str) -> Result<u64, QueryError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = digits.then(|| text.parse().ok()).flatten();
    value.ok_or_else(|| {
        let message = format!("{name} takes a whole number from 0, not {text:?}");
        OptionText { name, text }.error(whole(text), message)
    })
}

fn boolean(name: &'static str, text: &str) -> Result<bool, QueryError> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => {
            let message = format!("{name} takes true or false, not {text:?}");
            Err(OptionText { name, text }.error(whole(text), message))
        }
    }
}
