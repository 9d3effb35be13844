//! What each request is answered with.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use relist::odata::{Query, bind_select, parse_select};
use relist::schema::{Resource, Schema};
use relist::value::Timestamp;

use crate::answer::{Page, Window, page};
use crate::backend::{Backend, Key, RowId};
use crate::edmx;
use crate::http::{Request, Response, encode};
use crate::server::{NextLink, Options, lock};
use crate::text::{http_date, json_str};

/// The answers of a server.
pub(crate) struct Service {
    options: Options,
    base: String,
    metadata: String,
    pages: AtomicU64,
}

/// What went wrong: a status and a message.
type Refusal = (u16, String);

/// An answer before it is a response: a content type and a body.
struct Content {
    kind: &'static str,
    body: Vec<u8>,
    /// The page size that was asked for and is used.
    applied: Option<u64>,
}

impl Content {
    fn json(body: Vec<u8>) -> Self {
        const KIND: &str = "application/json;odata.metadata=minimal;charset=utf-8";
        Content {
            kind: KIND,
            body,
            applied: None,
        }
    }
}

/// What a page is asked for with, besides the query itself.
struct Asked {
    query: Query,
    expand: Vec<Expand>,
    token: Option<Token>,
    /// The options that the next page repeats.
    repeated: Vec<(String, String)>,
}

struct Expand {
    name: String,
    target: usize,
    select: Option<Vec<usize>>,
}

/// Where a walk by `$skiptoken` stands.
enum Token {
    /// After so many rows.
    Offset(u64),
    /// After this key, when so many rows were given.
    After(Key, u64),
}

impl Service {
    pub(crate) fn new(options: Options, address: SocketAddr, schema: &Schema) -> Self {
        let base = format!("http://{address}{}", options.root);
        Service {
            options,
            base,
            metadata: edmx::document(schema),
            pages: AtomicU64::new(0),
        }
    }

    pub(crate) fn base_url(&self) -> &str {
        &self.base
    }

    pub(crate) fn token(&self) -> &str {
        &self.options.token
    }

    /// Answers a request, with whatever the hooks make of it.
    pub(crate) fn respond(&self, request: &Request, rows: &Mutex<dyn Backend>) -> Response {
        if let Some(response) = self
            .options
            .intercept
            .as_ref()
            .and_then(|hook| hook(request))
        {
            return response;
        }
        let mut response = match self.answer(request, rows) {
            Ok(content) => {
                let mut response = Response::new(200, content.kind, content.body);
                if let Some(size) = content.applied {
                    let applied = format!("odata.maxpagesize={size}");
                    response = response.with_header("Preference-Applied", &applied);
                }
                self.compress(request, response)
            }
            Err((status, message)) => {
                let response = Response::error(status, &message);
                match status {
                    401 => response.with_header("WWW-Authenticate", "Bearer"),
                    405 => response.with_header("Allow", "GET"),
                    _ => response,
                }
            }
        };
        response = response
            .with_header("Date", &http_date(lock(rows).now()))
            .with_header("OData-Version", "4.0");
        match &self.options.alter {
            Some(hook) => hook(request, response),
            None => response,
        }
    }

    fn compress(&self, request: &Request, mut response: Response) -> Response {
        let accepted = request
            .header("accept-encoding")
            .is_some_and(|a| a.contains("gzip"));
        if !self.options.gzip || !accepted {
            return response;
        }
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        // Writing to a Vec cannot fail; were it to, the plain body would do.
        if encoder.write_all(&response.body).is_ok()
            && let Ok(body) = encoder.finish()
        {
            response.body = body;
            return response.with_header("Content-Encoding", "gzip");
        }
        response
    }

    fn answer(&self, request: &Request, rows: &Mutex<dyn Backend>) -> Result<Content, Refusal> {
        let bearer = format!("Bearer {}", self.options.token);
        if request.header("authorization") != Some(bearer.as_str()) {
            return Err((401, "a valid bearer token is required".to_owned()));
        }
        if request.method != "GET" {
            return Err((
                405,
                format!(
                    "{} is not supported: this feed is read only",
                    request.method
                ),
            ));
        }
        let path = request.path();
        let inside = path
            .strip_prefix(&self.options.root)
            .filter(|p| p.is_empty() || p.starts_with('/'));
        let Some(inside) = inside else {
            return Err((
                404,
                format!("{path} is outside the service root {}", self.options.root),
            ));
        };
        match inside.trim_matches('/') {
            "" => Ok(Content::json(self.service_document(lock(rows).schema()))),
            "$metadata" => Ok(Content {
                kind: "application/xml",
                body: self.metadata.clone().into_bytes(),
                applied: None,
            }),
            resource => self.resource(request, resource, rows),
        }
    }

    fn service_document(&self, schema: &Schema) -> Vec<u8> {
        let sets: Vec<_> = schema
            .resources
            .iter()
            .filter(|r| r.declared)
            .map(|r| {
                let url = format!("{}/{}", self.base, r.name);
                serde_json::json!({ "name": r.name, "url": url })
            })
            .collect();
        let context = format!("{}/$metadata", self.base);
        serde_json::json!({ "@odata.context": context, "value": sets })
            .to_string()
            .into_bytes()
    }

    /// `Property`, `Property(1)`, `Property('1')`, `Property(1)/Media`, `Property/$count`.
    fn resource(
        &self,
        request: &Request,
        path: &str,
        rows: &Mutex<dyn Backend>,
    ) -> Result<Content, Refusal> {
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        let (name, key) = match first.split_once('(') {
            None => (first, None),
            Some((name, key)) => {
                let key = key.strip_suffix(')').and_then(parse_key);
                let bad = || {
                    (
                        400,
                        format!("{first} has no readable key: (123) or ('abc')"),
                    )
                };
                (name, Some(key.ok_or_else(bad)?))
            }
        };
        match (key, rest) {
            (None, "") => {
                self.before_page();
                self.set(request, name, &*lock(rows))
            }
            (None, "$count") => self.count(request, name, &*lock(rows)),
            (Some(key), "") => self.entity(request, name, &key, &*lock(rows)),
            (Some(key), navigation) => {
                self.navigation(request, (name, &key), navigation, &*lock(rows))
            }
            (None, _) => Err((404, format!("there is no {path}"))),
        }
    }

    fn before_page(&self) {
        let number = self.pages.fetch_add(1, Ordering::SeqCst);
        if let Some(hook) = &self.options.before_page {
            hook(number);
        }
    }

    /// A page of an entity set.
    fn set(&self, request: &Request, name: &str, rows: &dyn Backend) -> Result<Content, Refusal> {
        let (resource, fields) = find(rows.schema(), name)?;
        let asked = asked(rows.schema(), fields, &request.options())?;
        let now = Timestamp(i64::from(rows.now()) * 1_000_000);
        let bound = asked
            .query
            .bind(rows.schema(), now)
            .map_err(|e| (400, e.to_string()))?;
        let preferred = preferred_size(request);
        let limit = preferred
            .unwrap_or(u64::MAX)
            .clamp(1, self.options.page_limit.max(1));
        let top = bound.top.unwrap_or(u64::MAX);
        let (after, given) = match &asked.token {
            None => (None, 0),
            Some(Token::Offset(given)) => (None, *given),
            Some(Token::After(key, given)) => (Some(key.clone()), *given),
        };
        let skip = match &asked.token {
            None => bound.skip,
            // What was left out first was left out of the first page.
            Some(Token::Offset(given)) => bound.skip.saturating_add(*given),
            Some(Token::After(..)) => 0,
        };
        let left = top.saturating_sub(given);
        let window = Window {
            skip,
            size: limit.min(left),
            after,
        };
        let found = page(rows, resource, fields, &bound, &window);
        let select: Option<Vec<usize>> = bound
            .select
            .as_ref()
            .map(|ids| ids.iter().map(|id| usize::from(id.0)).collect());
        let mut out = Vec::with_capacity(found.rows.len() * 4_800 + 1_024);
        open(&mut out, fields, select.as_deref());
        if let Some(count) = found.count {
            out.extend_from_slice(format!(",\"@odata.count\":{count}").as_bytes());
        }
        out.extend_from_slice(b",\"value\":[");
        for (at, row) in found.rows.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            self.write(
                rows,
                (resource, *row),
                fields,
                select.as_deref(),
                &asked.expand,
                &mut out,
            );
        }
        out.push(b']');
        let given = given + found.rows.len() as u64;
        if found.more && given < top {
            let link = self.next_link((rows, resource, fields), &asked, &found, (given, top));
            out.extend_from_slice(b",\"@odata.nextLink\":");
            json_str(&mut out, &link);
        }
        out.push(b'}');
        Ok(Content {
            applied: preferred.map(|_| limit),
            ..Content::json(out)
        })
    }

    /// The link to the page after `found`, when `given` rows of at most `top` were given.
    fn next_link(
        &self,
        (rows, resource, fields): (&dyn Backend, usize, &Resource),
        asked: &Asked,
        found: &Page,
        (given, top): (u64, u64),
    ) -> String {
        let mut options = asked.repeated.clone();
        match self.options.next_link {
            NextLink::Skip => {
                if top < u64::MAX {
                    options.push(("$top".to_owned(), (top - given).to_string()));
                }
                options.push(("$skip".to_owned(), (asked.query.skip + given).to_string()));
            }
            NextLink::SkipToken => {
                if top < u64::MAX {
                    options.push(("$top".to_owned(), top.to_string()));
                }
                if asked.query.skip > 0 {
                    options.push(("$skip".to_owned(), asked.query.skip.to_string()));
                }
                let last = found.rows.last().filter(|_| found.by_key);
                let key = last.and_then(|row| key_text(rows, resource, fields, *row));
                let token = match key {
                    Some(key) => format!("k{given}:{key}"),
                    None => format!("o{given}"),
                };
                options.push(("%24skiptoken".to_owned(), seal(&token)));
            }
        }
        let pairs: Vec<String> = options
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        let relative = format!("{}?{}", fields.name, pairs.join("&"));
        if self.options.relative_links {
            relative
        } else {
            format!("{}/{relative}", self.base)
        }
    }

    fn count(&self, request: &Request, name: &str, rows: &dyn Backend) -> Result<Content, Refusal> {
        let (resource, fields) = find(rows.schema(), name)?;
        let mut asked = asked(rows.schema(), fields, &request.options())?;
        asked.query.count = true;
        let now = Timestamp(i64::from(rows.now()) * 1_000_000);
        let bound = asked
            .query
            .bind(rows.schema(), now)
            .map_err(|e| (400, e.to_string()))?;
        let window = Window {
            skip: 0,
            size: 0,
            after: None,
        };
        let count = page(rows, resource, fields, &bound, &window)
            .count
            .unwrap_or(0);
        Ok(Content {
            kind: "text/plain",
            body: count.to_string().into_bytes(),
            applied: None,
        })
    }

    fn entity(
        &self,
        request: &Request,
        name: &str,
        key: &Key,
        rows: &dyn Backend,
    ) -> Result<Content, Refusal> {
        let (resource, fields) = find(rows.schema(), name)?;
        let asked = asked(rows.schema(), fields, &request.options())?;
        let row = find_row(rows, resource, fields, key)?;
        let select = match &asked.query.select {
            None => None,
            Some(parsed) => bind_select(&parsed.value, &parsed.text, rows.schema(), fields)
                .map_err(|e| (400, e.to_string()))?,
        };
        let select: Option<Vec<usize>> =
            select.map(|ids| ids.iter().map(|id| usize::from(id.0)).collect());
        let mut out = format!("{{\"@odata.context\":\"$metadata#{name}/$entity\",").into_bytes();
        let start = out.len();
        self.write(
            rows,
            (resource, row),
            fields,
            select.as_deref(),
            &asked.expand,
            &mut out,
        );
        // The entity is the whole document: its opening brace is that before the context.
        out.remove(start);
        Ok(Content::json(out))
    }

    fn navigation(
        &self,
        request: &Request,
        (name, key): (&str, &Key),
        navigation: &str,
        rows: &dyn Backend,
    ) -> Result<Content, Refusal> {
        let (resource, fields) = find(rows.schema(), name)?;
        let row = find_row(rows, resource, fields, key)?;
        let known = fields.navigation.iter().find(|n| n.name == navigation);
        let missing = || {
            (
                404,
                format!("{name} has no navigation property {navigation}"),
            )
        };
        let (target, shape) = find(rows.schema(), &known.ok_or_else(missing)?.target)?;
        let asked = asked(rows.schema(), shape, &request.options())?;
        let select = match &asked.query.select {
            None => None,
            Some(parsed) => bind_select(&parsed.value, &parsed.text, rows.schema(), shape)
                .map_err(|e| (400, e.to_string()))?,
        };
        let select: Option<Vec<usize>> =
            select.map(|ids| ids.iter().map(|id| usize::from(id.0)).collect());
        let mut out = Vec::new();
        open(&mut out, shape, select.as_deref());
        out.extend_from_slice(b",\"value\":[");
        for (at, child) in rows.children(resource, row, target).into_iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            let to = (target, child);
            self.write(rows, to, shape, select.as_deref(), &asked.expand, &mut out);
        }
        out.extend_from_slice(b"]}");
        Ok(Content::json(out))
    }

    /// Appends a row's JSON object.
    fn write(
        &self,
        rows: &dyn Backend,
        (resource, row): (usize, RowId),
        fields: &Resource,
        select: Option<&[usize]>,
        expand: &[Expand],
        out: &mut Vec<u8>,
    ) {
        out.push(b'{');
        if self.options.entity_ids
            && let Some(key) = key_text(rows, resource, fields, row)
        {
            out.extend_from_slice(b"\"@odata.id\":");
            json_str(out, &format!("{}({key})", fields.name));
            out.push(b',');
        }
        rows.write_row(resource, row, select, out);
        for Expand {
            name,
            target,
            select,
        } in expand
        {
            out.push(b',');
            json_str(out, name);
            out.extend_from_slice(b":[");
            for (at, child) in rows
                .children(resource, row, *target)
                .into_iter()
                .enumerate()
            {
                if at > 0 {
                    out.push(b',');
                }
                out.push(b'{');
                rows.write_row(*target, child, select.as_deref(), out);
                out.push(b'}');
            }
            out.push(b']');
        }
        out.push(b'}');
    }
}

/// Opens a collection: its context, with the fields that were selected.
fn open(out: &mut Vec<u8>, fields: &Resource, select: Option<&[usize]>) {
    out.extend_from_slice(format!("{{\"@odata.context\":\"$metadata#{}", fields.name).as_bytes());
    if let Some(select) = select {
        let names: Vec<&str> = select
            .iter()
            .filter_map(|at| fields.fields.get(*at))
            .map(|field| field.name.as_str())
            .collect();
        out.extend_from_slice(format!("({})", names.join(",")).as_bytes());
    }
    out.push(b'"');
}

/// A row's key as it stands in a URL, without quotes.
fn key_text(rows: &dyn Backend, resource: usize, fields: &Resource, row: RowId) -> Option<String> {
    let field = usize::from(fields.field_id(&fields.key_field)?.0);
    let mut text = Vec::new();
    rows.write_field(resource, row, field, &mut text)
        .then_some(())?;
    let text = String::from_utf8(text).ok()?;
    if text.starts_with('"') {
        serde_json::from_str(&text).ok()
    } else {
        Some(text)
    }
}

fn find<'s>(schema: &'s Schema, name: &str) -> Result<(usize, &'s Resource), Refusal> {
    let found = schema
        .resources
        .iter()
        .enumerate()
        .find(|(_, r)| r.name == name);
    found.ok_or_else(|| (404, format!("there is no resource {name}")))
}

fn find_row(
    rows: &dyn Backend,
    resource: usize,
    fields: &Resource,
    key: &Key,
) -> Result<RowId, Refusal> {
    rows.find(resource, key)
        .ok_or_else(|| (404, format!("{} has no key {key}", fields.name)))
}

/// A key as it stands between the parentheses.
fn parse_key(text: &str) -> Option<Key> {
    match text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
        Some(inner) => Some(Key::Str(inner.replace("''", "'"))),
        None => text.parse().ok().map(Key::Int),
    }
}

/// The page size of `Prefer: odata.maxpagesize=50`.
fn preferred_size(request: &Request) -> Option<u64> {
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
fn asked(
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

fn seal(token: &str) -> String {
    use std::fmt::Write as _;
    token.bytes().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{:02x}", byte ^ VEIL);
        out
    })
}

fn unseal(fields: &Resource, schema: &Schema, sealed: &str) -> Option<Token> {
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
        .is_some_and(|f| f.ty == relist::schema::FieldType::Int);
    let key = if numeric {
        Key::Int(key.parse().ok()?)
    } else {
        Key::Str(key.to_owned())
    };
    Some(Token::After(key, given.parse().ok()?))
}
