//! HTTP/1.1 on a socket: requests read, responses written, also such as no server should write.

use std::io::{self, Read, Write};
use std::time::Duration;

/// The most bytes a request's head may have.
const MAX_HEAD: usize = 256 * 1024;

/// A request, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// How many requests the server had read before this one.
    pub number: u64,
    /// `GET`.
    pub method: String,
    /// The path and the query, still percent-encoded.
    pub target: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The first value of a header; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The path, percent-decoded.
    pub fn path(&self) -> String {
        decode(self.target.split('?').next().unwrap_or_default())
    }

    /// The query's options in order, percent-decoded. A `+` is a plus sign: WFRMLS wants a space
    /// as `%20`.
    pub fn options(&self) -> Vec<(String, String)> {
        let Some((_, query)) = self.target.split_once('?') else {
            return Vec::new();
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(name), decode(value))
            })
            .collect()
    }

    /// `GET /Property?$top=1`, percent-decoded: what a test compares with.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, decode(&self.target))
    }
}

/// Undoes percent-encoding. What is not an encoding stays as it is.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).filter(|_| byte == b'%');
        if let Some(value) = hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            out.push(value);
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Percent-encodes all but what may stand in the value of a query option.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~$,()':*/@!;".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// How the end of a response's body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A `Content-Length` that is right.
    Length,
    /// A `Content-Length` of this many bytes, right or not.
    Claimed(u64),
    /// Chunks, with the last one of no bytes.
    Chunked,
    /// Chunks, and the last one never comes: the connection is closed.
    ChunkedCut,
    /// The connection is closed.
    Close,
}

/// What becomes of the connection once a response was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It serves the next request, if its framing allows.
    Keep,
    /// It is reset (RST), not closed.
    Reset,
    /// It is closed, and no other is accepted until [`Server::up`](crate::Server::up).
    Down,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers, without those that tell the body's end.
    pub headers: Vec<(String, String)>,
    /// The body, compressed if a header says so.
    pub body: Vec<u8>,
    /// How the body's end is told.
    pub framing: Framing,
    /// After so many bytes of the whole response the connection is cut.
    pub cut_after: Option<usize>,
    /// How long to wait before the first byte.
    pub delay: Option<Duration>,
    /// How many bytes are sent at a time, and how long to wait after each time.
    pub pace: Option<(usize, Duration)>,
    /// Bytes to send instead of all the above.
    pub raw: Option<Vec<u8>>,
    /// What becomes of the connection.
    pub ending: Ending,
}

impl Response {
    /// A response of that status and body.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Response {
            status,
            headers: vec![("Content-Type".to_owned(), content_type.to_owned())],
            body: body.into(),
            framing: Framing::Length,
            cut_after: None,
            delay: None,
            pace: None,
            raw: None,
            ending: Ending::Keep,
        }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An OData error: `{"error":{"code","message"}}`.
    pub fn error(status: u16, message: &str) -> Self {
        let code = reason(status).replace(' ', "");
        let body = serde_json::json!({ "error": { "code": code, "message": message } });
        Response::new(status, "application/json", body.to_string())
    }

    /// Whether the connection cannot be used again.
    pub(crate) fn ends_connection(&self) -> bool {
        self.raw.is_some()
            || self.cut_after.is_some()
            || self.ending != Ending::Keep
            || !matches!(self.framing, Framing::Length | Framing::Chunked)
    }

    /// Writes the response.
    pub(crate) fn send(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(delay) = self.delay {
            std::thread::sleep(delay);
        }
        let bytes = match &self.raw {
            Some(raw) => raw.clone(),
            None => self.bytes(),
        };
        let end = self.cut_after.unwrap_or(bytes.len()).min(bytes.len());
        let bytes = bytes.get(..end).unwrap_or_default();
        let Some((size, pause)) = self.pace else {
            out.write_all(bytes)?;
            return out.flush();
        };
        for piece in bytes.chunks(size.max(1)) {
            out.write_all(piece)?;
            out.flush()?;
            std::thread::sleep(pause);
        }
        Ok(())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 512);
        let head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        out.extend_from_slice(head.as_bytes());
        let mut header = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        };
        for (name, value) in &self.headers {
            header(name, value);
        }
        match self.framing {
            Framing::Length => header("Content-Length", &self.body.len().to_string()),
            Framing::Claimed(length) => header("Content-Length", &length.to_string()),
            Framing::Chunked | Framing::ChunkedCut => header("Transfer-Encoding", "chunked"),
            Framing::Close => {}
        }
        if self.ends_connection() {
            header("Connection", "close");
        }
        out.extend_from_slice(b"\r\n");
        match self.framing {
            Framing::Chunked | Framing::ChunkedCut => {
                for chunk in self.body.chunks(16 * 1024) {
                    out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    out.extend_from_slice(chunk);
                    out.extend_from_slice(b"\r\n");
                }
                if self.framing == Framing::Chunked {
                    out.extend_from_slice(b"0\r\n\r\n");
                }
            }
            _ => out.extend_from_slice(&self.body),
        }
        out
    }
}

/// The phrase of a status code (RFC 9110, 15).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        414 => "URI Too Long",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

/// Reads requests from a connection, which may hold the start of the next already.
pub(crate) struct Reader<R> {
    stream: R,
    held: Vec<u8>,
}

/// Why no request could be read.
pub(crate) enum Unread {
    /// The connection is at its end, or broke.
    Closed,
    /// It is not HTTP.
    Malformed,
    /// The head is longer than is read.
    TooLarge,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(stream: R) -> Self {
        Reader {
            stream,
            held: Vec::new(),
        }
    }

    /// Reads the next request; `number` is what it will be called.
    pub(crate) fn next(&mut self, number: u64) -> Result<Request, Unread> {
        let mut seen = 0;
        let end = loop {
            let from = usize::saturating_sub(seen, 3);
            let rest = self.held.get(from..).unwrap_or_default();
            if let Some(at) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
                break from + at;
            }
            if self.held.len() > MAX_HEAD {
                return Err(Unread::TooLarge);
            }
            seen = self.held.len();
            self.fill()?;
        };
        let head: Vec<u8> = self.held.drain(..end + 4).collect();
        let head = std::str::from_utf8(&head).map_err(|_| Unread::Malformed)?;
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap_or_default();
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Unread::Malformed);
        };
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').ok_or(Unread::Malformed)?;
                Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect::<Result<_, Unread>>()?;
        let request = Request {
            number,
            method: method.to_owned(),
            target: target.to_owned(),
            headers,
        };
        self.skip_body(&request)?;
        Ok(request)
    }

    /// Reads past a body: nothing here takes one.
    fn skip_body(&mut self, request: &Request) -> Result<(), Unread> {
        let length = request.header("content-length").unwrap_or("0");
        let length: usize = length.parse().map_err(|_| Unread::Malformed)?;
        if length > MAX_HEAD {
            return Err(Unread::TooLarge);
        }
        while self.held.len() < length {
            self.fill()?;
        }
        self.held.drain(..length);
        Ok(())
    }

    fn fill(&mut self) -> Result<(), Unread> {
        let mut buffer = [0; 4 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) | Err(_) => Err(Unread::Closed),
            Ok(read) => {
                self.held
                    .extend_from_slice(buffer.get(..read).unwrap_or_default());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_one_after_another() {
        let bytes = b"GET /a?%24filter=x%20eq%20'a+b'&$top=1 HTTP/1.1\r\nHost: x\r\n\r\n\
                      POST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\nhiGET /c HTTP/1.1\r\n\r\n";
        let mut reader = Reader::new(&bytes[..]);
        let first = reader.next(0).ok().unwrap();
        let filter = ("$filter".to_owned(), "x eq 'a+b'".to_owned());
        assert_eq!(
            first.options(),
            [filter, ("$top".to_owned(), "1".to_owned())]
        );
        assert_eq!(first.header("host"), Some("x"));
        assert_eq!(reader.next(1).ok().unwrap().line(), "POST /b");
        assert_eq!(reader.next(2).ok().unwrap().path(), "/c");
        assert!(matches!(reader.next(3), Err(Unread::Closed)));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for text in [
            "GET /a\r\n\r\n",
            "GET /a b HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nx\r\n\r\n",
        ] {
            assert!(matches!(
                Reader::new(text.as_bytes()).next(0),
                Err(Unread::Malformed)
            ));
        }
        let endless = vec![b'a'; MAX_HEAD + 8 * 1024];
        assert!(matches!(
            Reader::new(&endless[..]).next(0),
            Err(Unread::TooLarge)
        ));
    }

    #[test]
    fn percent_encoding_goes_both_ways() {
        let text = "ListPrice gt 5 and City eq 'St. Ge\u{f3}rge & 100%'";
        assert_eq!(decode(&encode(text)), text);
        assert!(!encode(text).contains([' ', '&', '+']));
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("a%zzb%4"), "a%zzb%4");
    }

    #[test]
    fn framings() {
        let sent = |framing, cut_after| {
            let mut out = Vec::new();
            Response {
                framing,
                cut_after,
                ..Response::new(200, "text/plain", "hello")
            }
            .send(&mut out)
            .unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(sent(Framing::Length, None).contains("Content-Length: 5\r\n"));
        assert!(sent(Framing::Claimed(9), None).contains("Content-Length: 9\r\n"));
        assert!(sent(Framing::Chunked, None).ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
        assert!(sent(Framing::ChunkedCut, None).ends_with("5\r\nhello\r\n"));
        assert_eq!(sent(Framing::Length, Some(4)), "HTTP");
    }
}
