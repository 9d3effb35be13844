//! Bodies: what a server said, judged before anyone decodes it.
//!
//! HTTP cannot tell a body that ends early from one that is whole when the connection's end is
//! the body's end. So a page must at least be one whole JSON text. What the JSON *means* is the
//! decoder's business.

use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::token::Secrets;
use crate::url::shorten;

/// What a body is expected to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// A JSON document.
    Json,
    /// `$metadata`: an XML document.
    Xml,
}

/// How much of a server's words is quoted.
const QUOTED_CHARS: usize = 300;

/// Says what is wrong with the body of a 200, or nothing.
///
/// JSON that is wrong in another way than ending early is let through: the decoder names the
/// place, and can keep the bytes.
pub(crate) fn judge(
    body: &[u8],
    content_type: &str,
    expect: Expect,
    secrets: &Secrets,
) -> Result<(), String> {
    let text = body.trim_ascii();
    if text.is_empty() {
        return Err("status 200 with an empty body".to_owned());
    }
    if is_html(text, content_type) || (expect == Expect::Json && text.starts_with(b"<")) {
        return Err(format!(
            "status 200 with {}",
            explain(body, content_type, secrets)
        ));
    }
    match expect {
        Expect::Xml if !text.ends_with(b">") => Err(format!(
            "the body ends in the middle of the XML, after {} bytes",
            body.len()
        )),
        Expect::Xml => Ok(()),
        Expect::Json => judge_json(text, secrets),
    }
}

fn judge_json(text: &[u8], secrets: &Secrets) -> Result<(), String> {
    let mut json = serde_json::Deserializer::from_slice(text);
    match json
        .deserialize_any(TopLevel)
        .and_then(|top| json.end().map(|()| top))
    {
        Ok(Some(error)) => Err(format!(
            "status 200 with an error: {}",
            quote(
                &error_text(error.get()).unwrap_or_else(|| error.get().to_owned()),
                secrets
            )
        )),
        Err(error) if error.is_eof() => Err(format!(
            "the body ends in the middle of the JSON, after {} bytes",
            text.len()
        )),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Walks a JSON text to its end and picks up a top-level `error` that is not null.
struct TopLevel;

impl<'de> Visitor<'de> for TopLevel {
    type Value = Option<Box<RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut error = None;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if name == "error" {
                let value: Box<RawValue> = map.next_value()?;
                error = (value.get() != "null").then_some(value);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(error)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

fn is_html(text: &[u8], content_type: &str) -> bool {
    let start = text
        .get(..text.len().min(64))
        .unwrap_or_default()
        .to_ascii_lowercase();
    content_type.to_ascii_lowercase().contains("text/html")
        || start.starts_with(b"<!doctype html")
        || start.starts_with(b"<html")
}

/// What the body of an error says, in a line: a server's `code: message` where there is one.
pub(crate) fn explain(body: &[u8], content_type: &str, secrets: &Secrets) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() {
        return "an empty body".to_owned();
    }
    if is_html(text.as_bytes(), content_type) {
        return match title(text) {
            Some(title) => format!("an HTML page, {:?}", quote(title, secrets)),
            None => "an HTML page".to_owned(),
        };
    }
    quote(
        &error_text(text).unwrap_or_else(|| text.to_owned()),
        secrets,
    )
}

/// A server's words in one line: without the token, without control characters (they would move
/// a terminal's cursor), not too long.
fn quote(text: &str, secrets: &Secrets) -> String {
    let clean: String = secrets
        .redact(text)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let words: Vec<_> = clean.split_whitespace().collect();
    shorten(&words.join(" "), QUOTED_CHARS)
}

fn title(html: &str) -> Option<&str> {
    let lower = html.to_ascii_lowercase();
    let start = lower.find("<title>")? + "<title>".len();
    let end = start + lower.get(start..)?.find("</title>")?;
    html.get(start..end)
        .map(str::trim)
        .filter(|t| !t.is_empty())
}

/// `code: message` of the shapes that servers use: OData's `{"error":{"code","message"}}`,
/// OAuth's `{"error","error_description"}`, Spark's `{"D":{"Code","Message"}}`.
fn error_text(json: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    let text = |v: &serde_json::Value, name: &str| {
        let found = v.get(name)?;
        match found {
            serde_json::Value::String(s) if !s.is_empty() => Some(s.clone()),
            serde_json::Value::Number(n) => Some(n.to_string()),
            // OData 3 wraps the message: {"lang","value"}.
            serde_json::Value::Object(o) => o.get("value")?.as_str().map(str::to_owned),
            _ => None,
        }
    };
    let inner = ["error", "odata.error", "D", "fault"]
        .iter()
        .find_map(|name| value.get(name).filter(|v| v.is_object()))
        .unwrap_or(&value);
    let first = |names: &[&str]| names.iter().find_map(|name| text(inner, name));
    let code = first(&["code", "Code", "error"]);
    let message = first(&[
        "message",
        "Message",
        "error_description",
        "faultstring",
        "detail",
    ]);
    match (code, message) {
        (Some(code), Some(message)) => Some(format!("{code}: {message}")),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Token;

    fn token() -> Secrets {
        Secrets::from(Token::from_env_value("T", "s3cr3t/token").unwrap())
    }

    fn page(body: &str) -> Result<(), String> {
        judge(body.as_bytes(), "application/json", Expect::Json, &token())
    }

    #[test]
    fn whole_pages_pass_and_no_prefix_of_one_does() {
        let whole = r#"{"@odata.context":"x","value":[{"A":[1,{"B":"\u00e9\\"}],"C":null},{}]}"#;
        assert_eq!(page(whole), Ok(()));
        assert_eq!(page(&format!(" {whole}\n")), Ok(()));
        for end in 0..whole.len() {
            let cut = page(&whole[..end]);
            assert!(cut.is_err(), "cut at {end}");
        }
    }

    #[test]
    fn what_the_decoder_should_judge_passes() {
        for body in [
            r#"{"value":7}"#,
            r#"{"values":[]}"#,
            "[]",
            "7",
            "\u{feff}{\"value\":[]}",
            r#"{"value":[NaN]}"#,
            r#"{"value":[{"n":1e400}]}"#,
            r#"{"error":null,"value":[]}"#,
        ] {
            assert_eq!(page(body), Ok(()), "{body}");
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(page(&deep), Ok(()));
    }

    #[test]
    fn a_200_that_is_no_page_says_what_it_is() {
        for (body, content_type, expect) in [
            ("", "application/json", "empty body"),
            (" \r\n", "application/json", "empty body"),
            (
                "<html><title> Log\nin </title>",
                "text/html; charset=utf-8",
                "page, \"Log in\"",
            ),
            ("<!DOCTYPE HTML>x", "application/json", "HTML"),
            ("Please log in", "text/html", "HTML"),
            ("<Error>no</Error>", "application/xml", "<Error>no"),
            (
                r#"{"error":{"code":"X1","message":"no"}}"#,
                "application/json",
                "error: X1: no",
            ),
            (
                r#"{"value":[],"error":{"message":"late"}}"#,
                "application/json",
                "error: late",
            ),
            (
                r#"{"error":"s3cr3t\/token"}"#,
                "application/json",
                "error: ",
            ),
        ] {
            let error = judge(body.as_bytes(), content_type, Expect::Json, &token()).unwrap_err();
            assert!(error.contains(expect), "{body}: {error}");
            assert!(!error.contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn metadata_may_be_xml_but_not_html_and_not_cut() {
        let xml = |body: &str| judge(body.as_bytes(), "application/xml", Expect::Xml, &token());
        assert_eq!(xml("<edmx:Edmx></edmx:Edmx>\n"), Ok(()));
        assert!(xml("<html></html>").is_err());
        assert!(xml("<edmx:Edmx><a").is_err());
        assert!(xml("").is_err());
    }

    #[test]
    fn errors_are_explained_in_a_line() {
        for (body, expect) in [
            (
                r#"{"error":{"code":"400","message":"no such field"}}"#,
                "400: no such field",
            ),
            (
                r#"{"error":{"code":400,"message":{"lang":"en","value":"no"}}}"#,
                "400: no",
            ),
            (
                r#"{"error":"invalid_token","error_description":"gone"}"#,
                "invalid_token: gone",
            ),
            (
                r#"{"D":{"Success":false,"Code":1550,"Message":"slow"}}"#,
                "1550: slow",
            ),
            (r#"{"message":"Forbidden"}"#, "Forbidden"),
            ("upstream \u{1b}[2J\r\n died", "upstream [2J died"),
            ("bad token s3cr3t/token !", "bad token [token] !"),
            ("", "an empty body"),
            ("[1,2]", "[1,2]"),
        ] {
            assert_eq!(explain(body.as_bytes(), "", &token()), expect);
        }
        assert!(explain("x".repeat(9999).as_bytes(), "", &token()).len() < 320);
        explain(b"\xff\xfe<html", "", &token());
    }
}
