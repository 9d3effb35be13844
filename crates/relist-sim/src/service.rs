//! What each request is answered with.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use relist::odata::bind_select;
use relist::schema::{Resource, Schema};
use relist::value::Timestamp;

use crate::answer::{Page, Window, page};
use crate::asked::Asked;
use crate::asked::{Expand, Refusal, Token, asked, find, parse_key, preferred_size, seal};
use crate::backend::{Backend, Key, RowId};
use crate::edmx;
use crate::http::{Request, Response, encode};
use crate::options::{NextLink, Options, lock};
use crate::text::{http_date, json_str};

/// The answers of a server.
pub(crate) struct Service {
    options: Options,
    base: String,
    metadata: String,
    pages: AtomicU64,
}

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
            (None, "$count") => Service::count(request, name, &*lock(rows)),
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
            one_condition: asked.one_condition(),
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

    fn count(request: &Request, name: &str, rows: &dyn Backend) -> Result<Content, Refusal> {
        let (resource, fields) = find(rows.schema(), name)?;
        let mut asked = asked(rows.schema(), fields, &request.options())?;
        asked.query.count = true;
        let now = Timestamp(i64::from(rows.now()) * 1_000_000);
        let bound = asked
            .query
            .bind(rows.schema(), now)
            .map_err(|e| (400, e.to_string()))?;
        let one_condition = asked.one_condition();
        let window = Window {
            skip: 0,
            size: 0,
            after: None,
            one_condition,
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

fn find_row(
    rows: &dyn Backend,
    resource: usize,
    fields: &Resource,
    key: &Key,
) -> Result<RowId, Refusal> {
    rows.find(resource, key)
        .ok_or_else(|| (404, format!("{} has no key {key}", fields.name)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::sync::Arc;

    use super::*;
    use crate::{Market, Server, Size};

    /// The head and the body of an answer.
    fn get(server: &Server, headers: &str) -> (String, Vec<u8>) {
        let url = server.base_url();
        let (host, path) = url
            .strip_prefix("http://")
            .unwrap()
            .split_once('/')
            .unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        let token = server.token();
        let request = format!(
            "GET /{path}/Property?$top=50 HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\
             {headers}Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        (
            String::from_utf8(answer[..end].to_vec()).unwrap(),
            answer[end + 4..].to_vec(),
        )
    }

    #[test]
    fn bodies_are_compressed_for_who_accepts_it() {
        let market = Arc::new(Mutex::new(Market::new(1, Size::listings(60))));
        let server = Server::start(Arc::clone(&market), Options::default()).unwrap();
        let (head, plain) = get(&server, "");
        assert!(!head.contains("Content-Encoding"));
        let (head, packed) = get(&server, "Accept-Encoding: gzip, br\r\n");
        assert!(head.contains("Content-Encoding: gzip"));
        assert!(packed.len() < plain.len() / 2);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, plain);
        let never = Options {
            gzip: false,
            ..Options::default()
        };
        let server = Server::start(market, never).unwrap();
        assert_eq!(get(&server, "Accept-Encoding: gzip\r\n").1, plain);
    }
}
