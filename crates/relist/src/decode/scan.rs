//! A strict JSON scanner that finds spans and makes no values.
//!
//! It takes the common case only, and gives up (`None`) at the first byte it does not take for
//! granted: then serde_json reads the text again and says what is wrong with it, or that nothing
//! is. What it takes is JSON, as serde_json takes it. It looks at eight bytes at a time, in plain
//! integers, and is told which name probably comes next: records of a feed repeat their shape.

use std::ops::Range;

/// The deepest nesting taken here.
const DEPTH: u32 = 100;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Marks with the high bit of its byte the first of eight bytes that ends a run of plain
/// characters in a string: a quote, a backslash, a control character. Bytes after it may be
/// marked wrongly, those before it are not.
fn marks(word: u64) -> u64 {
    let quote = word ^ (ONES * 0x22);
    let escape = word ^ (ONES * 0x5c);
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let zero = |x: u64| x.wrapping_sub(ONES) & !x;
    (zero(quote) | zero(escape) | control) & HIGH
}

/// Whether the text is one JSON value; `false` may also mean that this scanner cannot tell.
pub(super) fn is_json(text: &str) -> bool {
    let mut scanner = Scanner::new(text, 0);
    let found = scanner.value();
    scanner.space();
    found.is_some() && scanner.at() == text.len()
}

/// A member's value: where it stands, and whether it is a string with escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) range: Range<usize>,
    pub(super) escaped: bool,
}

/// `starts_with`, by words of eight bytes: names are too short for a call to be worth it.
fn begins_with(text: &[u8], with: &[u8]) -> bool {
    let Some((head, _)) = text.split_at_checked(with.len()) else {
        return false;
    };
    let (Some(tail), Some(end)) = (head.last_chunk::<8>(), with.last_chunk::<8>()) else {
        return head == with;
    };
    let words = head.as_chunks::<8>().0.iter().zip(with.as_chunks::<8>().0);
    let mut same = tail == end;
    for (a, b) in words {
        same &= u64::from_le_bytes(*a) == u64::from_le_bytes(*b);
    }
    same
}

/// Reads JSON text that is known to be UTF-8.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str, at: usize) -> Self {
        Scanner {
            text: text.as_bytes(),
            at,
        }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Goes on from another place.
    pub(super) fn jump(&mut self, at: usize) {
        self.at = at;
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Passes space.
    pub(super) fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Passes an opening bracket; answers whether its closing one follows, which is passed too.
    pub(super) fn open(&mut self, open: u8, close: u8) -> Option<bool> {
        self.take(open)?;
        self.space();
        if self.peek()? == close {
            self.at += 1;
            return Some(true);
        }
        Some(false)
    }

    /// Passes a comma or the closing bracket; answers whether there is more.
    pub(super) fn more(&mut self, close: u8) -> Option<bool> {
        self.space();
        let byte = self.peek()?;
        self.at += 1;
        if byte == b',' {
            self.space();
            return Some(true);
        }
        (byte == close).then_some(false)
    }

    /// Passes exactly this text, if it stands here.
    pub(super) fn expect(&mut self, text: &[u8]) -> bool {
        let found = begins_with(self.rest(), text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Passes a name without escapes, and its colon.
    pub(super) fn name(&mut self) -> Option<Range<usize>> {
        let start = self.at + 1;
        if self.string()? {
            return None;
        }
        let end = self.at - 1;
        self.space();
        self.take(b':')?;
        Some(start..end)
    }

    /// Passes a value, and the space before it.
    pub(super) fn value(&mut self) -> Option<Span> {
        self.space();
        let start = self.at;
        let mut escaped = false;
        match self.peek()? {
            b'"' => escaped = self.string()?,
            b'{' | b'[' => self.nested(DEPTH)?,
            _ => self.plain()?,
        }
        Some(Span {
            range: start..self.at,
            escaped,
        })
    }

    /// Passes a string; answers whether it has escapes.
    fn string(&mut self) -> Option<bool> {
        self.take(b'"')?;
        let mut escaped = false;
        loop {
            if let Some(chunk) = self.rest().first_chunk() {
                let marks = marks(u64::from_le_bytes(*chunk));
                if marks == 0 {
                    self.at += 8;
                    continue;
                }
                self.at += (marks.trailing_zeros() / 8) as usize;
            }
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(escaped),
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    /// Passes what follows a backslash.
    fn escape(&mut self) -> Option<()> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.rest().first_chunk::<4>()?;
                self.at += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    /// Passes a number, `true`, `false` or `null`.
    fn plain(&mut self) -> Option<()> {
        let word: &[u8] = match self.peek()? {
            b'n' => b"null",
            b't' => b"true",
            b'f' => b"false",
            _ => return self.number(),
        };
        self.expect(word).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        self.expect(b"-");
        match self.peek()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits()?,
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    /// Passes an object or an array, whatever is in it, at most so deep.
    fn nested(&mut self, depth: u32) -> Option<()> {
        let below = depth.checked_sub(1)?;
        let (open, close) = match self.peek()? {
            b'{' => (b'{', b'}'),
            _ => (b'[', b']'),
        };
        let mut more = !self.open(open, close)?;
        while more {
            if open == b'{' {
                self.string()?;
                self.space();
                self.take(b':')?;
                self.space();
            }
            match self.peek()? {
                b'{' | b'[' => self.nested(below)?,
                b'"' => {
                    self.string()?;
                }
                _ => self.plain()?,
            }
            more = self.more(close)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    /// What the scanner takes, serde_json takes; whether both or neither do.
    fn agrees(text: &str) -> bool {
        let known = serde_json::from_str::<IgnoredAny>(text).is_ok();
        assert!(known || !is_json(text), "{text}");
        known == is_json(text)
    }

    #[test]
    fn what_is_json_is_taken_and_nothing_else() {
        for text in [
            "0",
            "-0",
            "-0.5e+7",
            "12.25E-3",
            "01",
            "1.",
            ".5",
            "-",
            "+1",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "null",
            "nul",
            "true",
            "falsy",
            "",
            " ",
            "[]",
            "[ ]",
            "{ }",
            "[1,]",
            "[,1]",
            "[1 2]",
            r#"{"a":1}"#,
            r#"{"a" : [1, {"b":null}] , "c":"d"}"#,
            r#"{"a":1,}"#,
            r#"{"a"}"#,
            r"{a:1}",
            r#"{"a":}"#,
            "[[[[]]]]",
            "[[]",
            "[]]",
            "[}",
            "{]",
            r#""abc""#,
            r#""abc"#,
            r#""12345678\"""#,
            r#""a\u00e9\ud800\/\b\f\n\r\t""#,
            r#""\u00g0""#,
            r#""\x""#,
            r#""\"#,
            "\"a\tb\"",
            "\"1234567\u{1f}\"",
            "\"\u{7f}é😀\"",
            "\u{feff}1",
            "1 x",
            "\u{a0}1",
        ] {
            assert!(agrees(text), "{text}");
        }
        // Deeper than this is left to serde_json.
        assert!(agrees(&format!("{}{}", "[".repeat(100), "]".repeat(100))));
        assert!(!is_json(&format!("{}{}", "[".repeat(101), "]".repeat(101))));
    }

    #[test]
    fn marks_are_exact_up_to_the_first() {
        for byte in 0..=u8::MAX {
            for place in 0..8 {
                let mut chunk = *b"abcdefgh";
                chunk[place] = byte;
                let found = marks(u64::from_le_bytes(chunk)).trailing_zeros() as usize / 8;
                let ends = byte < 0x20 || byte == b'"' || byte == b'\\';
                assert_eq!(found, if ends { place } else { 8 }, "{byte} at {place}");
            }
        }
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            "-?[0-9]{1,4}(\\.[0-9]{1,3})?([eE][-+]?[0-9]{1,2})?",
            ".{0,20}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            let pair = ("[a-z@.]{0,9}", inner.clone());
            prop_oneof![
                proptest::collection::vec(inner, 0..5)
                    .prop_map(|items| format!("[{}]", items.join(" ,"))),
                proptest::collection::vec(pair, 0..5).prop_map(|pairs| {
                    let pairs = pairs
                        .iter()
                        .map(|(name, value)| format!("\"{name}\": {value}"));
                    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_cut_or_changed_is_taken_as_serde_json_does(
            text in json(), at in any::<prop::sample::Index>(), byte in 0x09_u8..0x80,
        ) {
            agrees(&text);
            let at = at.index(text.len());
            if text.is_char_boundary(at) {
                prop_assert!(agrees(&text[..at]));
                let (before, after) = text.split_at(at);
                let changed = format!("{before}{}{after}", char::from(byte));
                prop_assert!(agrees(&changed));
            }
        }
    }
}
