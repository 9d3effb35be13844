//! URLs: building requests below the service root, and judging the links a server sends.
//!
//! A token goes where the user pointed it and nowhere else: every URL that is sent is below the
//! service root, with its scheme, host and port, or it is not sent at all.

use std::fmt::Write as _;

use relist::source::QueryOptions;
use relist::value::Value;
use url::{Host, Url};

use crate::error::ConfigError;
use crate::token::{MARK, Secrets};

/// A service root: the scheme, host, port and path that every request is below.
#[derive(Debug, Clone)]
pub(crate) struct ServiceRoot {
    /// Ends in a slash, so that relative links resolve below it.
    url: Url,
}

impl ServiceRoot {
    /// Reads a service root: https, or http on a loopback host.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let wrong = |reason: String| ConfigError::BaseUrl {
            url: without_credentials(text),
            reason,
        };
        let mut url = Url::parse(text.trim())
            .map_err(|e| wrong(format!("{e}; expected https://HOST/PATH")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(
                "it holds a user name or a password; give the token apart from the URL".to_owned(),
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong(
                "it has a query or a fragment; give the service root alone, and the token apart \
                 from it"
                    .to_owned(),
            ));
        }
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => {
                return Err(wrong(
                    "http would send the token in the clear; use https (http is for loopback hosts \
                     only)"
                        .to_owned(),
                ));
            }
            other => return Err(wrong(format!("the scheme is {other}; expected https"))),
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(ServiceRoot { url })
    }

    /// Whether requests are encrypted; the other case is a loopback host.
    pub(crate) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The service document's URL, with the slash that OData gives a service root, or without.
    pub(crate) fn service_document(&self, slash: bool) -> Url {
        let mut url = self.url.clone();
        if !slash {
            url.set_path(self.url.path().trim_end_matches('/'));
        }
        url
    }

    /// The URL of `$metadata`.
    pub(crate) fn metadata(&self) -> Result<Url, String> {
        self.below("$metadata")
    }

    /// The URL of a query.
    pub(crate) fn query(
        &self,
        path: &str,
        options: &QueryOptions,
        extra: impl Iterator<Item = (String, String)>,
    ) -> Result<Url, String> {
        let mut text = encode_path(path)?;
        let query = pairs(query_pairs(options).chain(extra));
        if !query.is_empty() {
            text.push('?');
            text.push_str(&query);
        }
        self.below(&text)
    }

    /// The URL of one entity, or of what a navigation property of it leads to.
    pub(crate) fn entity(
        &self,
        path: &str,
        key: &Value<'_>,
        navigation: Option<&str>,
    ) -> Result<Url, String> {
        let mut text = format!("{}({})", encode_path(path)?, key_literal(key)?);
        if let Some(navigation) = navigation {
            text.push('/');
            text.push_str(&encode_path(navigation)?);
        }
        self.below(&text)
    }

    /// Where a continuation link leads, if it stays below the service root.
    ///
    /// `path` is the path of the walk the link came from. A link may be absolute, relative to the
    /// service root (as OData says) or relative to the request.
    pub(crate) fn next(&self, path: &str, link: &str) -> Result<Url, String> {
        // No fragment is ever sent, so a bare # can only be a value that was not encoded; cutting
        // the query there would ask for other rows.
        let link = link.trim().replace('#', "%23");
        if link.is_empty() {
            return Err("the continuation link is empty".to_owned());
        }
        let request = self.below(&encode_path(path)?)?;
        let base = if is_relative_to_request(&link, path) {
            &request
        } else {
            &self.url
        };
        let url = base
            .join(&link)
            .map_err(|e| format!("the continuation link is no URL ({e})"))?;
        self.check(&url)?;
        Ok(url)
    }

    fn below(&self, relative: &str) -> Result<Url, String> {
        let text = format!("{}{relative}", self.url);
        let url = Url::parse(&text).map_err(|e| format!("cannot make a URL: {e}"))?;
        self.check(&url)?;
        Ok(url)
    }

    /// Refuses what is not below the service root, and says what differs.
    fn check(&self, url: &Url) -> Result<(), String> {
        let origin = |u: &Url| {
            let host = u.host_str().unwrap_or("no host");
            match u.port_or_known_default() {
                Some(port) => format!("{}://{host}:{port}", u.scheme()),
                None => format!("{}://{host}", u.scheme()),
            }
        };
        let (ours, theirs) = (origin(&self.url), origin(url));
        if ours != theirs {
            return Err(format!(
                "the link leads to {theirs}, another origin than the service root's {ours}; \
                 nothing was sent there"
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the link holds a user name or a password; nothing was sent".to_owned());
        }
        let root = self.url.path();
        if !url.path().starts_with(root) {
            return Err(format!(
                "the link's path {} is not below the service root's {root}; nothing was sent",
                shorten(url.path(), 80)
            ));
        }
        Ok(())
    }
}

/// Query options, encoded: what stands behind the question mark.
pub(crate) fn pairs(pairs: impl Iterator<Item = (String, String)>) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(&encode(&name, |b| b == b'$'));
        text.push('=');
        text.push_str(&encode(&value, |b| {
            matches!(b, b'(' | b')' | b',' | b':' | b'/')
        }));
    }
    text
}

/// A link such as `replication?next=2` of the walk `Property/replication` is relative to the
/// request; `Property/replication?next=2` to the root; for a path of one segment both are one.
fn is_relative_to_request(link: &str, path: &str) -> bool {
    if link.starts_with('?') {
        return true;
    }
    let first = |text: &str| text.split(['/', '?']).next().unwrap_or_default().to_owned();
    path.contains('/') && first(link) != first(path)
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// A URL that may not parse, with whatever stands before an `@` of its authority taken out, and
/// its query.
fn without_credentials(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match text.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://[hidden]@{after}")
        }
        None => text.to_owned(),
    }
}

fn query_pairs(options: &QueryOptions) -> impl Iterator<Item = (String, String)> {
    let texts = [
        ("$filter", options.filter.clone()),
        ("$orderby", options.orderby.clone()),
        ("$select", options.select.clone()),
        ("$expand", options.expand.clone()),
        ("$top", options.top.map(|n| n.to_string())),
        ("$count", options.count.then(|| "true".to_owned())),
    ];
    texts
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
}

/// A key as it stands in a URL: `123`, `'abc'`, a GUID.
fn key_literal(key: &Value<'_>) -> Result<String, String> {
    match key {
        Value::Int(n) => Ok(n.to_string()),
        Value::String(text) => Ok(format!("'{}'", encode_segment(&text.replace('\'', "''")))),
        Value::Guid(bytes) => {
            let mut out = String::with_capacity(36);
            for (at, byte) in bytes.iter().enumerate() {
                if matches!(at, 4 | 6 | 8 | 10) {
                    out.push('-');
                }
                let _ = write!(out, "{byte:02x}");
            }
            Ok(out)
        }
        other => Err(format!(
            "{other:?} cannot be a key: expected an integer or a string"
        )),
    }
}

/// Percent-encodes a path of segments, and refuses one that would climb.
fn encode_path(path: &str) -> Result<String, String> {
    if path
        .split('/')
        .any(|s| s.is_empty() || s == "." || s == "..")
    {
        return Err(format!("{path:?} is no resource path"));
    }
    Ok(encode(path, |b| {
        matches!(b, b'/' | b'(' | b')' | b',' | b'=' | b'$' | b'\'')
    }))
}

/// Percent-encodes a text as one segment of a path or one value of a query, whatever it holds.
pub(crate) fn encode_segment(text: &str) -> String {
    encode(text, |_| false)
}

/// Percent-encodes all but RFC 3986's unreserved characters and those that `keep` names. A space
/// is `%20`: some servers refuse `+`.
fn encode(text: &str, keep: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    for byte in text.bytes() {
        let unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        if unreserved || keep(byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Query parameters whose value is a secret wherever it is seen.
const SECRET_PARAMETERS: &[&str] = &[
    "access_token",
    "token",
    "api_key",
    "apikey",
    "key",
    "sig",
    "signature",
    "client_secret",
    "password",
];

/// A URL as errors and reports may show it: secrets taken out, and no longer than a few lines.
pub(crate) fn shown(url: &Url, secrets: &Secrets) -> String {
    let text = url.as_str();
    let Some((path, query)) = text.split_once('?') else {
        return shorten(&secrets.redact(text), SHOWN_CHARS);
    };
    let mut out = String::from(path);
    let mut separator = '?';
    for pair in query.split('&') {
        out.push(separator);
        separator = '&';
        match pair.split_once('=') {
            Some((name, _)) if SECRET_PARAMETERS.contains(&name.to_ascii_lowercase().as_str()) => {
                out.push_str(name);
                out.push('=');
                out.push_str(MARK);
            }
            _ => out.push_str(pair),
        }
    }
    shorten(&secrets.redact(&out), SHOWN_CHARS)
}

const SHOWN_CHARS: usize = 600;

/// Cuts a text after so many characters, and says so.
pub(crate) fn shorten(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The target of the first `rel="next"` of `Link` headers (RFC 8288).
pub(crate) fn link_next<'a>(headers: impl Iterator<Item = &'a str>) -> Option<String> {
    for header in headers {
        let mut rest = header;
        while let Some((_, after)) = rest.split_once('<') {
            let (target, after) = after.split_once('>')?;
            let (mut parameters, after) = split_unquoted(after, ',');
            while !parameters.is_empty() {
                let (parameter, others) = split_unquoted(parameters, ';');
                if is_rel_next(parameter) {
                    return Some(target.trim().to_owned());
                }
                parameters = others;
            }
            rest = after;
        }
    }
    None
}

/// Splits at the first `separator` that is not within quotes.
fn split_unquoted(text: &str, separator: char) -> (&str, &str) {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        if c == '"' {
            quoted = !quoted;
        } else if c == separator && !quoted {
            let (before, after) = text.split_at(at);
            return (before, after.get(c.len_utf8()..).unwrap_or_default());
        }
    }
    (text, "")
}

fn is_rel_next(parameter: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, value)| {
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("rel")
            && value
                .split_ascii_whitespace()
                .any(|rel| rel.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Token;

    const ROOT: &str = "https://api.example.com/reso/odata";

    fn root() -> ServiceRoot {
        ServiceRoot::parse(ROOT).unwrap()
    }

    #[test]
    fn service_roots() {
        for good in [
            ROOT,
            "https://api.example.com",
            "http://127.0.0.1:8080/odata/",
            "http://127.9.9.9/x",
            "http://[::1]:80/x",
            "http://localhost/x",
            "  https://api.example.com/x\n",
        ] {
            assert!(ServiceRoot::parse(good).is_ok(), "{good}");
        }
        for (bad, expect) in [
            ("http://api.example.com/x", "https"),
            ("http://localhost.example.com/x", "https"),
            ("http://127.0.0.1.example.com/x", "https"),
            ("http://[::ffff:8.8.8.8]/x", "https"),
            ("http://0.0.0.0/x", "https"),
            ("ftp://127.0.0.1/x", "ftp"),
            ("api.example.com/x", "expected https://"),
            ("https://u:s3cret@api.example.com/x", "user name"),
            ("https://api.example.com/x?access_token=s3cret", "query"),
            ("https://api.example.com/x#s3cret", "fragment"),
            ("", "expected"),
        ] {
            let error = ServiceRoot::parse(bad).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(expect), "{bad}: {shown}");
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn queries_are_encoded() {
        let options = QueryOptions {
            filter: Some("City eq 'O''Hare & S\u{f8}n' and A ge 1+1 or B eq '50%#'".to_owned()),
            top: Some(200),
            count: true,
            ..QueryOptions::default()
        };
        let extra = [("Replication".to_owned(), "true".to_owned())];
        let url = root()
            .query("Property", &options, extra.into_iter())
            .unwrap();
        assert_eq!(
            url.as_str(),
            "https://api.example.com/reso/odata/Property?$filter=City%20eq%20%27O%27%27Hare%20%26\
             %20S%C3%B8n%27%20and%20A%20ge%201%2B1%20or%20B%20eq%20%2750%25%23%27&$top=200\
             &$count=true&Replication=true"
        );
    }

    #[test]
    fn keys_are_encoded() {
        for (key, expect) in [
            (Value::Int(-7), "Property(-7)"),
            (Value::str("a/b'c ?#"), "Property('a%2Fb%27%27c%20%3F%23')"),
            (Value::str(".."), "Property('..')"),
            (
                Value::Guid([0xAB; 16]),
                "Property(abababab-abab-abab-abab-abababababab)",
            ),
        ] {
            let url = root().entity("Property", &key, None).unwrap();
            assert_eq!(url.as_str(), format!("{ROOT}/{expect}"));
        }
        let media = root()
            .entity("Property", &Value::Int(1), Some("Media"))
            .unwrap();
        assert_eq!(media.as_str(), format!("{ROOT}/Property(1)/Media"));
        assert!(root().entity("Property", &Value::Null, None).is_err());
        assert!(
            root()
                .query("../admin", &QueryOptions::default(), std::iter::empty())
                .is_err()
        );
    }

    #[test]
    fn links_that_stay_below_the_root_are_followed_as_they_are() {
        for (path, link, expect) in [
            (
                "Property",
                "https://api.example.com/reso/odata/Property?$skip=2",
                "Property?$skip=2",
            ),
            (
                "Property",
                "https://API.example.com:443/reso/odata/P?a=+",
                "P?a=+",
            ),
            (
                "Property",
                "Property?%24skiptoken=a%2Fb%3D",
                "Property?%24skiptoken=a%2Fb%3D",
            ),
            ("Property", "/reso/odata/Property?x", "Property?x"),
            ("Property", "?$skiptoken=z", "Property?$skiptoken=z"),
            ("Property", "//api.example.com/reso/odata/P", "P"),
            (
                "Property",
                "Property?$filter=A gt '12 #4'",
                "Property?$filter=A%20gt%20%2712%20%234%27",
            ),
            (
                "Property/replication",
                "replication?next=2",
                "Property/replication?next=2",
            ),
            (
                "Property/replication",
                "Property/replication?n",
                "Property/replication?n",
            ),
            ("Property/replication", "?n=2", "Property/replication?n=2"),
        ] {
            let url = root().next(path, link).unwrap();
            assert_eq!(url.as_str(), format!("{ROOT}/{expect}"), "{link}");
        }
    }

    #[test]
    fn links_that_leave_the_root_are_refused() {
        for link in [
            "https://evil.example/reso/odata/Property",
            "http://api.example.com/reso/odata/Property",
            "https://api.example.com:8443/reso/odata/Property",
            "https://api.example.com.evil.example/reso/odata/P",
            "https://api.example.com@evil.example/reso/odata/P",
            "https://user@api.example.com/reso/odata/P",
            "https:\\\\evil.example\\reso\\odata\\P",
            "//evil.example/reso/odata/P",
            "\\\\evil.example/reso/odata/P",
            "/admin",
            "/reso/odataX/P",
            "../admin",
            "%2e%2e/admin",
            "Property/../../admin",
            "https://api.example.com/reso/odata/../admin",
            "file:///etc/passwd",
            "javascript:1",
            "",
            " ",
        ] {
            let error = root().next("Property", link);
            assert!(error.is_err(), "{link} gave {error:?}");
        }
    }

    #[test]
    fn no_link_at_all_leads_out() {
        let pieces = [
            "https:",
            "http:",
            "//",
            "/",
            "\\",
            "..",
            ".",
            "%2e",
            "%2f",
            "@",
            ":",
            ":443",
            "?",
            "#",
            "evil.example",
            "api.example.com",
            "reso",
            "/reso/odata/",
            "Property",
            "\t",
            " ",
            "%00",
            "[::1]",
            "\u{3002}",
            "&a=b",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        let mut followed = 0;
        for _ in 0..100_000 {
            let count = random.usize(1..8);
            let link: String = (0..count).filter_map(|_| random.choice(pieces)).collect();
            if let Ok(url) = root().next("Property", &link) {
                let text = url.as_str();
                assert!(
                    text.starts_with("https://api.example.com/reso/odata/"),
                    "{link}: {text}"
                );
                followed += 1;
            }
        }
        assert!(followed > 1_000, "{followed}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let token = Secrets::from(Token::from_env_value("T", "s3cr3t-token").unwrap());
        let url = Url::parse("https://h/x?access_token=abc&$skip=2&q=s3cr3t-token").unwrap();
        assert_eq!(
            shown(&url, &token),
            "https://h/x?access_token=[token]&$skip=2&q=[token]"
        );
        let long = Url::parse(&format!("https://h/x?a={}", "b".repeat(100_000))).unwrap();
        assert!(shown(&long, &token).len() < 700);
    }

    #[test]
    fn link_headers() {
        for (header, expect) in [
            (r#"<https://h/a,b>; rel="next""#, Some("https://h/a,b")),
            (r"<p1>; rel=prev, <p3>; rel=next", Some("p3")),
            (
                r#"<p1>; title="a, b; rel=next"; rel="prev", <p3>; x=1; REL="last Next""#,
                Some("p3"),
            ),
            (r#"<p1>; rel="prev""#, None),
            ("garbage", None),
            ("<unclosed; rel=next", None),
        ] {
            assert_eq!(
                link_next([header].into_iter()).as_deref(),
                expect,
                "{header}"
            );
        }
    }
}
