//! Files to pages: OData pages, JSON arrays of records, NDJSON, and any sequence of these.
//!
//! The shape is found, not asked for. A file is a sequence of JSON texts: an object with a `value`
//! array (or an `error`) is a page; any other object is a record; an array is its elements.
//! Records are grouped into pages of their own. When the first object ends with its line, each
//! line is a text for itself, so that one broken line costs one record.

use std::io::Read;
use std::sync::{Arc, Mutex};

use super::known::Recall;
use super::pipeline::Step;
use super::{Input, MAX_PAGE_BYTES, lock};
use crate::decode::{KeySpec, KnownBytes, Rejected, SplitPage};
use crate::error::{DecodeError, Error, Result, SourceError, SourceErrorKind};
use crate::store::WalkPosition;

/// A page of records that came one by one holds this many, or this many bytes.
const GROUP_RECORDS: usize = 1_000;
const GROUP_BYTES: usize = 4 << 20;
const READ_BYTES: usize = 256 << 10;
/// A file shorter than this is read whole, and tried as one page.
const READ_AHEAD: usize = 16 << 20;

/// What all threads that read files share.
pub(super) struct Reading<'a> {
    pub(super) resource: &'a str,
    /// How keys are found, once it is known.
    pub(super) key_spec: Mutex<Option<Arc<KeySpec>>>,
    /// Told of what cannot be read.
    pub(super) rejected: &'a (dyn Fn(Rejected) + Sync),
    pub(super) recall: &'a Recall<'a>,
    /// Buffers of pages that are done with: memory that is new costs more than what is in it.
    pub(super) buffers: Buffers,
}

/// Buffers to be used again.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

/// The most buffers that are kept, and the most bytes of one.
const BUFFERS: usize = 64;
const BUFFER_BYTES: usize = 4 << 20;

impl Buffers {
    fn take(&self) -> Vec<u8> {
        lock(&self.0).pop().unwrap_or_default()
    }

    pub(super) fn give_back(&self, mut buffer: Vec<u8>) {
        let mut held = lock(&self.0);
        if held.len() < BUFFERS && buffer.capacity() <= BUFFER_BYTES {
            buffer.clear();
            held.push(buffer);
        }
    }
}

/// Pages, or a file that is still to be split into its pages.
pub(super) enum Piece {
    Step(Box<Step>),
    File(Box<Framer>),
}

impl Piece {
    /// The bytes it has.
    pub(super) fn size(&self) -> usize {
        match self {
            Piece::Step(step) => step.page.body.len(),
            Piece::File(framer) => framer.buffer.len(),
        }
    }
}

/// Walks input files. Pages that cannot be read go to `rejected`, and the walk goes on.
pub(super) struct FileWalker<'a> {
    reading: &'a Reading<'a>,
    inputs: Box<dyn Iterator<Item = Result<Input>> + Send + 'a>,
    current: Option<Framer>,
    group: Group,
    /// The length of the last file: the next one is probably about as long.
    length: usize,
}

/// Records waiting to make a page.
#[derive(Default)]
struct Group {
    texts: Vec<String>,
    bytes: usize,
    /// The number of the first record within its file.
    first: u64,
    name: String,
}

impl Reading<'_> {
    fn key_spec(&self) -> Option<Arc<KeySpec>> {
        lock(&self.key_spec).clone()
    }

    fn reject(&self, origin: &str, reason: String, raw: Vec<u8>) {
        let error = DecodeError {
            resource: self.resource.to_owned(),
            page: origin.to_owned(),
            record: None,
            field: None,
            offset: None,
            reason,
        };
        (self.rejected)(Rejected { error, raw });
    }

    /// A split page becomes a step; one that cannot be split is put aside.
    fn step(&self, page: Result<SplitPage, Box<Rejected>>) -> Option<Step> {
        match page {
            Ok(page) => {
                let mut spec = lock(&self.key_spec);
                if spec.is_none() && !page.key_spec.field.is_empty() {
                    *spec = Some(Arc::clone(&page.key_spec));
                }
                Some(Step::new(page, WalkPosition::Start))
            }
            Err(rejected) => {
                (self.rejected)(*rejected);
                None
            }
        }
    }

    /// A file that is one page, as most are.
    fn whole(&self, framer: &mut Framer) -> Option<Step> {
        let body = std::mem::take(&mut framer.buffer);
        let (name, spec) = (&framer.name, self.key_spec());
        let page = self.recall.with(|known| {
            let slot_of = known.map(|known| |hash| known.find(hash));
            let slot_of = slot_of.as_ref().map(|f| f as KnownBytes<'_>);
            SplitPage::scan(self.resource, name, body, spec.as_ref(), slot_of)
        });
        match page {
            Ok(page) => self.step(Ok(page)),
            Err(body) => {
                framer.buffer = body;
                None
            }
        }
    }

    /// The pages of a piece.
    pub(super) fn split(&self, piece: Piece) -> Vec<Step> {
        let mut framer = match piece {
            Piece::Step(step) => return vec![*step],
            Piece::File(framer) => *framer,
        };
        if let Some(step) = self.whole(&mut framer) {
            return vec![step];
        }
        let mut walker = FileWalker::new(self, Box::new(std::iter::empty()));
        walker.current = Some(framer);
        let mut out = Vec::new();
        loop {
            match walker.next() {
                Ok(Some(Piece::Step(step))) => out.push(*step),
                // All of the file has been read: it cannot fail any more.
                Ok(Some(Piece::File(_)) | None) | Err(_) => return out,
            }
        }
    }
}

impl<'a> FileWalker<'a> {
    pub(super) fn new(
        reading: &'a Reading<'a>,
        inputs: Box<dyn Iterator<Item = Result<Input>> + Send + 'a>,
    ) -> Self {
        FileWalker {
            reading,
            inputs,
            current: None,
            group: Group::default(),
            length: 0,
        }
    }

    fn flush(&mut self) -> Option<Step> {
        let group = std::mem::take(&mut self.group);
        if group.texts.is_empty() {
            return None;
        }
        let origin = format!("{} from record {}", group.name, group.first);
        let reading = self.reading;
        reading.step(SplitPage::from_texts(
            reading.resource,
            &origin,
            &group.texts,
            reading.key_spec(),
        ))
    }

    /// Takes a framed text; gives a step when it completes one.
    fn take(&mut self, text: Framed, name: &str, number: u64) -> Option<Step> {
        match text {
            Framed::Page(bytes, at) => {
                let origin = if at == 0 {
                    name.to_owned()
                } else {
                    format!("{name} page {at}")
                };
                let (reading, spec) = (self.reading, self.reading.key_spec());
                reading.step(SplitPage::split(reading.resource, &origin, bytes, spec))
            }
            Framed::Record(bytes) => match String::from_utf8(bytes) {
                Ok(text) => {
                    if self.group.texts.is_empty() {
                        name.clone_into(&mut self.group.name);
                        self.group.first = number;
                    }
                    self.group.bytes += text.len();
                    self.group.texts.push(text);
                    let full =
                        self.group.texts.len() >= GROUP_RECORDS || self.group.bytes >= GROUP_BYTES;
                    full.then(|| self.flush()).flatten()
                }
                Err(e) => {
                    let at = e.utf8_error().valid_up_to();
                    let origin = format!("{name} record {number}");
                    let reason = format!("is not UTF-8 from byte {at} on");
                    self.reading.reject(&origin, reason, e.into_bytes());
                    None
                }
            },
            Framed::Bad(bytes, reason) => {
                self.reading
                    .reject(&format!("{name} after record {number}"), reason, bytes);
                None
            }
        }
    }
}

impl FileWalker<'_> {
    /// The next piece, or `None` at the end of the last file.
    pub(super) fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            let Some(mut framer) = self.current.take() else {
                match self.inputs.next() {
                    Some(input) => {
                        let mut framer = Framer::new(input?);
                        framer.buffer = self.reading.buffers.take();
                        // What waits is of another file; a page of one record is a rare file.
                        let whole =
                            self.group.texts.is_empty() && framer.read_ahead(self.length)?;
                        if whole {
                            self.length = framer.buffer.len();
                            // Before keys are known, pages must come in their order.
                            if self.reading.key_spec().is_some() {
                                return Ok(Some(Piece::File(Box::new(framer))));
                            }
                            if let Some(step) = self.reading.whole(&mut framer) {
                                return Ok(Some(Piece::Step(Box::new(step))));
                            }
                        }
                        self.current = Some(framer);
                        continue;
                    }
                    None => return Ok(self.flush().map(|step| Piece::Step(Box::new(step)))),
                }
            };
            // Records of one file only make a page together.
            let next = framer.next()?;
            let (name, number) = (framer.name.clone(), framer.records);
            let step = match next {
                Some(text) => {
                    if !matches!(text, Framed::Record(_))
                        && let Some(step) = self.flush()
                    {
                        framer.put_back(text);
                        self.current = Some(framer);
                        return Ok(Some(Piece::Step(Box::new(step))));
                    }
                    if matches!(text, Framed::Record(_)) {
                        framer.records += 1;
                    }
                    self.current = Some(framer);
                    self.take(text, &name, number)
                }
                None => self.flush(),
            };
            if let Some(step) = step {
                return Ok(Some(Piece::Step(Box::new(step))));
            }
        }
    }
}

/// A piece of a file.
enum Framed {
    /// A whole OData page (or what should be one), and which one of its file it is.
    Page(Vec<u8>, u64),
    /// A record.
    Record(Vec<u8>),
    /// Bytes that are neither, and why.
    Bad(Vec<u8>, String),
}

/// Cuts a stream of bytes into JSON texts.
pub(super) struct Framer {
    name: String,
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// Where the unread part of the buffer begins.
    at: usize,
    ended: bool,
    in_array: bool,
    /// Whether each line is a text for itself; unknown until the first text ends.
    by_line: Option<bool>,
    records: u64,
    pages: u64,
    held: Option<Framed>,
}

impl Framer {
    fn new(input: Input) -> Self {
        Framer {
            name: input.name,
            reader: input.reader,
            buffer: Vec::new(),
            at: 0,
            ended: false,
            in_array: false,
            by_line: None,
            records: 0,
            pages: 0,
            held: None,
        }
    }

    /// Reads the beginning of the file; `true` when that is all of it, and may be a page.
    fn read_ahead(&mut self, expected: usize) -> Result<bool> {
        let limit = READ_AHEAD;
        self.buffer.reserve(expected + 1);
        let reader = Read::by_ref(&mut self.reader);
        let read = reader
            .take(limit as u64)
            .read_to_end(&mut self.buffer)
            .map_err(|e| self.failed(&e))?;
        self.ended = read < limit;
        let first = self.buffer.iter().find(|b| !b.is_ascii_whitespace());
        Ok(self.ended && first == Some(&b'{'))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::Source(SourceError {
            kind: SourceErrorKind::File,
            request: self.name.clone(),
            reason: error.to_string(),
        })
    }

    fn put_back(&mut self, text: Framed) {
        self.held = Some(text);
    }

    /// Reads more; `false` at the end of the file.
    fn fill(&mut self) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        if self.buffer.len() > MAX_PAGE_BYTES {
            return Err(Error::Source(SourceError {
                kind: SourceErrorKind::Malformed,
                request: self.name.clone(),
                reason: format!("a page or record is longer than {MAX_PAGE_BYTES} bytes"),
            }));
        }
        let old = self.buffer.len();
        self.buffer.resize(old + READ_BYTES, 0);
        let read = self
            .reader
            .read(self.buffer.get_mut(old..).unwrap_or_default())
            .map_err(|e| self.failed(&e))?;
        self.buffer.truncate(old + read);
        self.ended = read == 0;
        Ok(read > 0)
    }

    /// The byte at an offset from the unread part, reading as needed.
    fn peek(&mut self, offset: usize) -> Result<Option<u8>> {
        while self.buffer.len() <= self.at + offset {
            if !self.fill()? {
                return Ok(None);
            }
        }
        Ok(self.buffer.get(self.at + offset).copied())
    }

    fn cut(&mut self, len: usize) -> Vec<u8> {
        let end = (self.at + len).min(self.buffer.len());
        let out = self.buffer.get(self.at..end).unwrap_or_default().to_vec();
        self.at = end;
        out
    }

    fn rest(&mut self) -> Result<Vec<u8>> {
        while self.fill()? {}
        let len = self.buffer.len() - self.at;
        Ok(self.cut(len))
    }

    fn next(&mut self) -> Result<Option<Framed>> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        loop {
            let Some(byte) = self.peek(0)? else {
                if std::mem::take(&mut self.in_array) {
                    let reason = "the array is not closed: the file is truncated".to_owned();
                    return Ok(Some(Framed::Bad(Vec::new(), reason)));
                }
                let nothing = self.records == 0 && self.pages == 0;
                self.pages += u64::from(nothing);
                return Ok(nothing.then(|| Framed::Page(Vec::new(), 0)));
            };
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                b',' if self.in_array => self.at += 1,
                b']' if self.in_array => {
                    self.in_array = false;
                    self.at += 1;
                    self.pages += 1;
                }
                b'[' if !self.in_array && self.by_line != Some(true) => {
                    self.in_array = true;
                    self.at += 1;
                }
                _ if self.by_line == Some(true) => return self.line().map(Some),
                b'{' => return self.object().map(Some),
                _ if self.in_array => return self.element().map(Some),
                // Whatever this is, the page's reader names it: a byte order mark, HTML, ...
                _ => {
                    self.pages += 1;
                    let rest = self.rest()?;
                    return Ok(Some(Framed::Page(rest, self.pages - 1)));
                }
            }
        }
    }

    fn line(&mut self) -> Result<Framed> {
        let mut len = 0;
        loop {
            let unread = self.buffer.get(self.at + len..).unwrap_or_default();
            if let Some(end) = memchr::memchr(b'\n', unread) {
                len += end;
                break;
            }
            len += unread.len();
            // `fill` moves the unread part to the front, so `len` stays right.
            if !self.fill()? {
                break;
            }
        }
        let mut text = self.cut(len);
        text.truncate(text.trim_ascii_end().len());
        Ok(self.classify(text))
    }

    /// An object, by its brackets.
    fn object(&mut self) -> Result<Framed> {
        let Some(len) = self.bracketed()? else {
            let rest = self.rest()?;
            let truncated = self.in_array || !is_page(&rest);
            if truncated {
                let reason = "the object is not closed: the file is truncated".to_owned();
                self.in_array = false;
                return Ok(Framed::Bad(rest, reason));
            }
            return Ok(self.classify(rest));
        };
        let text = self.cut(len);
        if self.by_line.is_none() && !self.in_array {
            self.by_line = Some(self.ends_line()? && memchr::memchr(b'\n', &text).is_none());
        }
        Ok(self.classify(text))
    }

    /// Whether nothing but space stands before the end of the line.
    fn ends_line(&mut self) -> Result<bool> {
        let mut offset = 0;
        loop {
            match self.peek(offset)? {
                Some(b' ' | b'\t' | b'\r') => offset += 1,
                other => return Ok(matches!(other, Some(b'\n'))),
            }
        }
    }

    /// The length of the object that begins here; `None` when the file ends in it.
    fn bracketed(&mut self) -> Result<Option<usize>> {
        let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
        let mut offset = 0;
        while let Some(byte) = self.peek(offset)? {
            offset += 1;
            if in_string {
                in_string = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
                continue;
            }
            match byte {
                b'"' => in_string = true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(Some(offset));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// An element of an array that is no object: up to the next comma or the end.
    fn element(&mut self) -> Result<Framed> {
        let (mut in_string, mut escaped, mut depth, mut offset) = (false, false, 0_usize, 0);
        while let Some(byte) = self.peek(offset)? {
            if in_string {
                in_string = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
            } else {
                match byte {
                    b'"' => in_string = true,
                    b'[' | b'{' => depth += 1,
                    b']' | b',' if depth == 0 => break,
                    b']' | b'}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
            offset += 1;
        }
        Ok(Framed::Record(self.cut(offset)))
    }

    fn classify(&mut self, text: Vec<u8>) -> Framed {
        if !self.in_array && is_page(&text) {
            self.pages += 1;
            return Framed::Page(text, self.pages - 1);
        }
        Framed::Record(text)
    }
}

/// Whether an object is an OData page, by its own member names: `value` holds an array, or there
/// is an `error`.
fn is_page(text: &[u8]) -> bool {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let start = at + 1;
                at = end_of_string(text, start);
                let name = text.get(start..at).unwrap_or_default();
                let mut after = text.get(at + 1..).unwrap_or_default().trim_ascii_start();
                if depth == 1 && after.first() == Some(&b':') {
                    after = after.get(1..).unwrap_or_default().trim_ascii_start();
                    match after.first() {
                        Some(b'[') if is_name(name, "value") => return true,
                        Some(b'{') if is_name(name, "error") => return true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    false
}

/// Whether a member's name, as it stands between its quotes, is this one: JSON lets any character
/// be written as an escape.
fn is_name(raw: &[u8], name: &str) -> bool {
    if !raw.contains(&b'\\') {
        return raw == name.as_bytes();
    }
    let quoted = [b"\"", raw, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).is_ok_and(|text| text == name)
}

/// Where the string that begins at `at` (after its quote) has its closing quote.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Reads one byte at a time, so that every boundary is met.
    struct Drip(std::io::Cursor<Vec<u8>>);

    impl Read for Drip {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let one = out.len().min(1);
            self.0.read(&mut out[..one])
        }
    }

    fn frames(text: &str) -> (Vec<(String, usize)>, Vec<String>) {
        let rejected = Mutex::new(Vec::new());
        let put = |r: Rejected| rejected.lock().unwrap().push(r.error.to_string());
        let reader = Drip(std::io::Cursor::new(text.as_bytes().to_vec()));
        let input = Input {
            name: "f".into(),
            reader: Box::new(reader),
        };
        let inputs = Box::new(std::iter::once(Ok(input)));
        let recall = Recall::none("Property");
        let reading = Reading {
            resource: "Property",
            key_spec: Mutex::default(),
            rejected: &put,
            recall: &recall,
            buffers: Buffers::default(),
        };
        let mut walker = FileWalker::new(&reading, inputs);
        let mut pages = Vec::new();
        while let Some(piece) = walker.next().unwrap() {
            for step in reading.split(piece) {
                pages.push((step.page.origin.clone(), step.page.entities.len()));
            }
        }
        drop(walker);
        let rejected = std::mem::take(&mut *rejected.lock().unwrap());
        (pages, rejected)
    }

    #[test]
    fn every_shape_is_read() {
        let one = r#"{"ListingKey":"a"}"#;
        let page = format!("{{\"@odata.context\":\"x\",\"value\":[{one},{one}]}}");
        let cases: [(String, &[(&str, usize)]); 9] = [
            (page.clone(), &[("f", 2)]),
            (page.replace("value", "\\u0076alue"), &[("f", 2)]),
            (format!("{page}\n{page}\n"), &[("f", 2), ("f page 1", 2)]),
            (format!("{page}{page}"), &[("f", 2), ("f page 1", 2)]),
            (format!("[{one}, {one},\n{one}]"), &[("f from record 0", 3)]),
            (
                format!("{one}\n{one}\r\n\n{one}"),
                &[("f from record 0", 3)],
            ),
            (one.to_owned(), &[("f from record 0", 1)]),
            (
                "{\n\"ListingKey\": \"a\"\n}\n{\"ListingKey\":\"b\"}".into(),
                &[("f from record 0", 2)],
            ),
            ("[]".into(), &[]),
        ];
        for (text, expected) in cases {
            let (pages, rejected) = frames(&text);
            let expected: Vec<_> = expected
                .iter()
                .map(|(n, c)| ((*n).to_owned(), *c))
                .collect();
            assert_eq!(pages, expected, "{text}");
            assert!(rejected.is_empty(), "{text}: {rejected:?}");
        }
    }

    #[test]
    fn what_is_broken_is_rejected_and_the_rest_read() {
        let cases = [
            ("", 0, "is empty"),
            ("<html>", 0, "is HTML"),
            ("[{\"ListingKey\":\"a\"},{\"Li", 1, "truncated"),
            ("{\"value\":[{\"ListingKey\":\"a\"},{\"Li", 0, "record 1"),
            ("{\"error\":{\"message\":\"no\"}}", 0, "error of the server"),
            (
                "{\"err\\u006fr\":{\"message\":\"no\"}}",
                0,
                "error of the server",
            ),
            ("\u{feff}{\"value\":[]}", 0, "byte order mark"),
        ];
        for (text, records, reason) in cases {
            let (pages, rejected) = frames(text);
            assert_eq!(pages.iter().map(|p| p.1).sum::<usize>(), records, "{text}");
            assert!(
                rejected.len() == 1 && rejected[0].contains(reason),
                "{text}: {rejected:?}"
            );
        }
    }

    #[test]
    fn one_broken_line_is_one_record_at_fault() {
        let text = "{\"ListingKey\":\"a\"}\n{\"ListingKey\":\nx\n{\"ListingKey\":\"b\"}\n";
        let (pages, rejected) = frames(text);
        assert_eq!(pages, [("f from record 0".to_owned(), 4)]);
        assert!(rejected.is_empty());
    }
}
