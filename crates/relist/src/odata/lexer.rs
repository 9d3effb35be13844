//! From the text of an option to tokens.

use super::ast::{Literal, Span};
use super::geo::Geography;
use super::text::OptionText;
use crate::error::QueryError;
use crate::value::{Date, DateTime, Decimal, TimeOfDay, parse_guid};

/// The longest option text that is read, in bytes.
pub(super) const MAX_LEN: usize = 64 * 1024;

/// A token and where it stood.
#[derive(Debug, Clone)]
pub(super) struct Token<'t> {
    pub(super) kind: TokenKind<'t>,
    pub(super) span: Span,
}

/// The kinds of token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind<'t> {
    /// A name: a field, an operator, a function (dots included), `$it`.
    Ident(&'t str),
    Literal(Literal),
    Open,
    Close,
    Comma,
    Slash,
    Colon,
    Minus,
    Star,
    End,
}

/// Splits the text into tokens; the last one is [`TokenKind::End`].
pub(super) fn tokens(option: OptionText<'_>) -> Result<Vec<Token<'_>>, QueryError> {
    let mut lexer = Lexer { option, at: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.token()?;
        let done = token.kind == TokenKind::End;
        tokens.push(token);
        if done {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    option: OptionText<'t>,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.option.text.get(self.at..).unwrap_or_default()
    }

    fn span(&self, len: usize) -> Span {
        Span {
            offset: self.at,
            len,
        }
    }

    fn take(&mut self, kind: TokenKind<'t>, len: usize) -> Token<'t> {
        let span = self.span(len);
        self.at += len;
        Token { kind, span }
    }

    fn token(&mut self) -> Result<Token<'t>, QueryError> {
        let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
        self.at += self.rest().len() - self.rest().trim_start_matches(blank).len();
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(self.take(TokenKind::End, 0));
        };
        if let Some(guid) = leading_guid(rest) {
            return Ok(self.take(TokenKind::Literal(Literal::Guid(guid)), GUID_LEN));
        }
        let simple = match first {
            '(' => Some(TokenKind::Open),
            ')' => Some(TokenKind::Close),
            ',' => Some(TokenKind::Comma),
            '/' => Some(TokenKind::Slash),
            ':' => Some(TokenKind::Colon),
            '*' => Some(TokenKind::Star),
            _ => None,
        };
        if let Some(kind) = simple {
            return Ok(self.take(kind, 1));
        }
        let second_is_digit = rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        match first {
            '\'' => {
                let (text, len) = self.quoted(0)?;
                Ok(self.take(TokenKind::Literal(Literal::String(text)), len))
            }
            '0'..='9' => self.number_or_time(),
            '-' if second_is_digit => self.number_or_time(),
            '-' if rest.starts_with("-INF") => Err(self.not_a_number("-INF")),
            '-' => Ok(self.take(TokenKind::Minus, 1)),
            c if starts_name(c) || c == '$' => self.name(),
            other => Err(self.stray(other)),
        }
    }

    /// The text between single quotes, the first of which is `skip` bytes ahead, and the length
    /// of it all from here.
    fn quoted(&self, skip: usize) -> Result<(String, usize), QueryError> {
        let mut text = String::new();
        let mut len = skip + 1;
        loop {
            let rest = self.rest().get(len..).unwrap_or_default();
            let Some(end) = rest.find('\'') else {
                let whole = self.span(self.rest().len());
                return Err(self.option.hinted(
                    whole,
                    "the string is not closed",
                    Some("end it with '; a quote inside a string is written ''".to_owned()),
                ));
            };
            text.push_str(rest.get(..end).unwrap_or_default());
            len += end + 1;
            if !self.rest().get(len..).unwrap_or_default().starts_with('\'') {
                return Ok((text, len));
            }
            text.push('\'');
            len += 1;
        }
    }

    fn name(&mut self) -> Result<Token<'t>, QueryError> {
        let rest = self.rest();
        let mut len = 0;
        let mut before = '.';
        for c in rest.chars() {
            let fits = if before == '.' {
                starts_name(c) || (len == 0 && c == '$')
            } else {
                c == '.' || continues_name(c)
            };
            if !fits {
                break;
            }
            len += c.len_utf8();
            before = c;
        }
        if before == '.' && len > 0 {
            len -= 1;
        }
        let name = rest.get(..len).unwrap_or_default();
        if rest.as_bytes().get(len) == Some(&b'\'') {
            return self.prefixed(name);
        }
        if matches!(name, "INF" | "NaN") {
            return Err(self.not_a_number(name));
        }
        Ok(self.take(TokenKind::Ident(name), len))
    }

    fn not_a_number(&self, text: &str) -> QueryError {
        let message = format!("{text} is not supported: numbers here are exact");
        self.option.error(self.span(text.len()), message)
    }

    /// A literal with its type before the quote: an enumeration, a geography, or what OData 2
    /// wrote so.
    fn prefixed(&mut self, prefix: &'t str) -> Result<Token<'t>, QueryError> {
        let (text, len) = self.quoted(prefix.len())?;
        let span = self.span(len);
        let literal = match prefix.to_ascii_lowercase().as_str() {
            "geography" => match Geography::parse(&text) {
                Ok(geography) => Literal::Geography(geography),
                Err((at, message)) => {
                    let place = Span {
                        offset: self.at + prefix.len() + 1 + at,
                        len: 0,
                    };
                    let hint = "write geography'SRID=4326;POINT(longitude latitude)'".to_owned();
                    return Err(self.option.hinted(place, message, Some(hint)));
                }
            },
            "geometry" | "binary" => {
                let message = format!("{prefix}'..' literals are not supported");
                return Err(self.option.error(span, message));
            }
            "duration" => {
                return Err(self.option.hinted(
                    span,
                    "durations are not supported",
                    Some("compute the timestamp and write it: 2024-01-31T00:00:00Z".to_owned()),
                ));
            }
            "datetime" | "datetimeoffset" | "guid" | "time" | "date" | "x" => {
                return Err(self.option.hinted(
                    span,
                    format!("{prefix}'..' is how OData 2 wrote it"),
                    Some(format!("write {text}")),
                ));
            }
            _ => Literal::Enum {
                ty: prefix.to_owned(),
                members: text,
            },
        };
        Ok(self.take(TokenKind::Literal(literal), len))
    }

    fn number_or_time(&mut self) -> Result<Token<'t>, QueryError> {
        let rest = self.rest();
        let digits = |from: usize, to: usize| {
            rest.as_bytes()
                .get(from..to)
                .is_some_and(|d| d.iter().all(u8::is_ascii_digit))
        };
        let is = |at: usize, what: u8| rest.as_bytes().get(at) == Some(&what);
        if digits(0, 4) && is(4, b'-') && digits(5, 7) && is(7, b'-') && digits(8, 10) {
            return self.date();
        }
        if digits(0, 2) && is(2, b':') {
            let len = run(rest, |c| c.is_ascii_digit() || matches!(c, ':' | '.'));
            let text = rest.get(..len).unwrap_or_default();
            let time = TimeOfDay::parse(text).ok_or_else(|| {
                let message = format!("{text} is not a time of day");
                let hint = "write hours, minutes and seconds: 14:30:00".to_owned();
                self.option.hinted(self.span(len), message, Some(hint))
            })?;
            return Ok(self.take(TokenKind::Literal(Literal::TimeOfDay(time)), len));
        }
        self.number()
    }

    fn number(&mut self) -> Result<Token<'t>, QueryError> {
        let rest = self.rest();
        let mut after = ' ';
        let mut len = 0;
        for c in rest.chars() {
            let sign = matches!(c, '-' | '+') && (len == 0 || matches!(after, 'e' | 'E'));
            // One letter past the number is taken too, so that the error covers it.
            if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || sign) {
                break;
            }
            len += c.len_utf8();
            after = c;
        }
        let text = rest.get(..len).unwrap_or_default();
        let Some(number) = Decimal::parse(text) else {
            return Err(self.bad_number(text));
        };
        Ok(self.take(TokenKind::Literal(Literal::Number(number)), len))
    }

    fn bad_number(&self, text: &str) -> QueryError {
        let span = self.span(text.len());
        let plain = text.trim_end_matches(['L', 'l', 'M', 'm', 'D', 'd', 'F', 'f']);
        if plain.len() < text.len() && Decimal::parse(plain).is_some() {
            let message = format!("{text} has a suffix of OData 2");
            return self
                .option
                .hinted(span, message, Some(format!("write {plain}")));
        }
        let numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
        let message = if text.chars().all(numeric) && text.bytes().any(|b| b.is_ascii_digit()) {
            format!("{text} is not a number that fits 38 digits")
        } else {
            format!("{text} is not a number")
        };
        let hint = "a string is written in single quotes: '1a'; a name begins with a letter";
        self.option.hinted(span, message, Some(hint.to_owned()))
    }

    fn date(&mut self) -> Result<Token<'t>, QueryError> {
        let rest = self.rest();
        let day = rest.get(..10).unwrap_or_default();
        if !matches!(rest.as_bytes().get(10), Some(b'T' | b't')) {
            let date = Date::parse(day).ok_or_else(|| {
                let message = format!("there is no day {day}");
                self.option.error(self.span(10), message)
            })?;
            return Ok(self.take(TokenKind::Literal(Literal::Date(date)), 10));
        }
        let len = run(rest, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | ':' | '.')
        });
        let text = rest.get(..len).unwrap_or_default();
        let Some(instant) = DateTime::parse(text) else {
            let zoned = DateTime::parse(&format!("{text}Z")).is_some();
            let (message, hint) = if zoned {
                (
                    format!("{text} has no time zone and so names no instant"),
                    format!("write {text}Z for UTC, or an offset such as {text}-07:00"),
                )
            } else {
                (
                    format!("{text} is not a timestamp"),
                    "write it like 2024-01-31T10:00:00Z".to_owned(),
                )
            };
            return Err(self.option.hinted(self.span(len), message, Some(hint)));
        };
        Ok(self.take(TokenKind::Literal(Literal::DateTime(instant)), len))
    }

    /// The error for a character that begins nothing, with what other languages mean by it.
    fn stray(&self, found: char) -> QueryError {
        let rest = self.rest();
        let known = [
            ("==", "eq"),
            ("!=", "ne"),
            ("<>", "ne"),
            (">=", "ge"),
            ("<=", "le"),
            ("&&", "and"),
            ("||", "or"),
            ("=", "eq"),
            (">", "gt"),
            ("<", "lt"),
            ("!", "not"),
            ("&", "and"),
            ("|", "or"),
            ("%", "mod"),
        ];
        if let Some((sign, word)) = known.iter().find(|(sign, _)| rest.starts_with(sign)) {
            let message = format!("{sign} is not an operator of OData");
            let hint = Some(format!("write {word}"));
            return self.option.hinted(self.span(sign.len()), message, hint);
        }
        let hint = match found {
            '"' | '\u{2018}' | '\u{2019}' | '\u{201c}' | '\u{201d}' => {
                Some("strings are written in single quotes: 'x'")
            }
            '[' | '{' => Some("a list is written in parentheses: (1,2)"),
            '+' => Some("write add for a sum; in a URL a space is written %20"),
            '@' => Some("parameter aliases and annotations are not supported"),
            _ => None,
        };
        let message = format!("unexpected {found:?}");
        let span = self.span(found.len_utf8());
        self.option.hinted(span, message, hint.map(str::to_owned))
    }
}

const GUID_LEN: usize = 36;

fn leading_guid(rest: &str) -> Option<[u8; 16]> {
    let guid = parse_guid(rest.get(..GUID_LEN)?)?;
    let next = rest.get(GUID_LEN..)?.chars().next();
    next.is_none_or(|c| !continues_name(c) && c != '-' && c != '\'')
        .then_some(guid)
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c: char| !belongs(c)).unwrap_or(text.len())
}

fn starts_name(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn continues_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lex(text: &str) -> Result<Vec<TokenKind<'_>>, QueryError> {
        let option = OptionText {
            name: "$filter",
            text,
        };
        Ok(tokens(option)?.into_iter().map(|t| t.kind).collect())
    }

    fn literal(text: &str) -> String {
        match lex(text).unwrap().as_slice() {
            [TokenKind::Literal(literal), TokenKind::End] => literal.to_string(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn literals_are_one_token() {
        for text in [
            "1",
            "-1.50",
            "2019-09-01",
            "2019-09-01T10:00:00Z",
            "2019-09-01T10:00:00.123-07:00",
            "10:30:00",
            "4fa95bdc-dd9b-c990-ebc0-162e675da6e1",
            "'O''Brien'",
            "''",
            "Odata.Models.StandardStatus'Active'",
            "geography'SRID=3956;POINT(-111.898 40.576)'",
        ] {
            assert_eq!(literal(text), text);
        }
        assert_eq!(literal("1e3"), "1000");
        assert_eq!(literal("2019-09-01T10:00Z"), "2019-09-01T10:00:00Z");
    }

    #[test]
    fn names_keep_their_dots() {
        let kinds = lex("geo.distance(m/x,$it)").unwrap();
        assert_eq!(kinds[0], TokenKind::Ident("geo.distance"));
        assert_eq!(kinds[6], TokenKind::Ident("$it"));
        assert_eq!(lex("a.").unwrap_err().offset, 1);
    }

    #[test]
    fn faults_name_place_and_cure() {
        for (text, offset, len, hint) in [
            ("a = 1", 2, 1, "write eq"),
            ("a && b", 2, 2, "write and"),
            (
                "a eq \"x\"",
                5,
                1,
                "strings are written in single quotes: 'x'",
            ),
            ("a eq 10L", 5, 3, "write 10"),
            ("a eq datetime'2019-01-01'", 5, 20, "write 2019-01-01"),
        ] {
            let error = lex(text).unwrap_err();
            assert_eq!((error.offset, error.len), (offset, len), "{text}");
            assert_eq!(error.hint.as_deref(), Some(hint), "{text}");
        }
        for text in [
            "'open",
            "1e400",
            "12abc",
            "2019-02-30",
            "2019-09-01T10:00:00",
            "25:00:00",
            "INF",
            "duration'P1D'",
            "a eq é?",
        ] {
            assert!(lex(text).is_err(), "{text}");
        }
    }
}
