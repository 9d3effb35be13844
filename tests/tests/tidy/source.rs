//! A Rust source file as the tidy rules see it: what is code, what is comment, which paths are
//! named, where functions begin and end.
//!
//! This is no parser. It knows comments, strings, characters and brackets, which is enough for
//! sources that `cargo fmt` has laid out.

use std::ops::Range;

/// One source file.
pub(crate) struct Source {
    /// The path from the root of the repository, with `/`.
    pub(crate) path: String,
    /// The file with comments and the contents of literals blanked out, line for line.
    pub(crate) code: String,
    /// The file with all but the comments blanked out, line for line.
    pub(crate) comments: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, comments) = split(text);
        Source {
            path: path.into(),
            code,
            comments,
        }
    }

    /// The code before the unit tests, which stand at the foot of the file.
    pub(crate) fn product(&self) -> &str {
        let at = self
            .code
            .find("#[cfg(test)]\nmod ")
            .unwrap_or(self.code.len());
        &self.code[..at]
    }

    /// `path:line: problem` for a place in the file.
    pub(crate) fn at(&self, offset: usize, problem: &str) -> String {
        format!("{}:{}: {problem}", self.path, line_of(&self.code, offset))
    }
}

/// The line of a place, from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

/// What a place of a file belongs to.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Code,
    Comment,
    Literal,
}

/// The file twice, both of the file's length: its code only, its comments only.
fn split(text: &str) -> (String, String) {
    let parts = parts(text.as_bytes());
    let keep = |wanted: Part| {
        let bytes = text.bytes().zip(&parts);
        let kept = bytes.map(|(b, part)| {
            if b == b'\n' || *part == wanted {
                b
            } else {
                b' '
            }
        });
        String::from_utf8_lossy(&kept.collect::<Vec<_>>()).into_owned()
    };
    (keep(Part::Code), keep(Part::Comment))
}

fn parts(text: &[u8]) -> Vec<Part> {
    let mut parts = vec![Part::Code; text.len()];
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let (length, part) = if rest.starts_with(b"//") {
            (
                rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
                Part::Comment,
            )
        } else if rest.starts_with(b"/*") {
            (block_comment(rest), Part::Comment)
        } else if rest[0] == b'"' {
            (quoted(rest), Part::Literal)
        } else if let Some(length) = raw_string(text, at) {
            (length, Part::Literal)
        } else if let Some(length) = character(rest) {
            (length, Part::Literal)
        } else {
            (1, Part::Code)
        };
        parts[at..at + length].fill(part);
        at += length;
    }
    parts
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        let step = &rest[at..];
        if step.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if step.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of `r"..."` or `r#"..."#` here; its `r` must begin a word (or follow `b` or `c`).
fn raw_string(text: &[u8], at: usize) -> Option<usize> {
    let rest = text[at..].strip_prefix(b"r")?;
    let before = text[..at].strip_suffix(b"b").unwrap_or(&text[..at]);
    if before.last().is_some_and(|b| is_word(*b)) {
        return None;
    }
    let hashes = rest.iter().take_while(|b| **b == b'#').count();
    if rest.get(hashes) != Some(&b'"') {
        return None;
    }
    let end = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let body = &rest[hashes + 1..];
    let length = body
        .windows(end.len())
        .position(|w| w == end)
        .unwrap_or(body.len());
    Some((1 + hashes + 1 + length + end.len()).min(text.len() - at))
}

/// The length of a character literal here; a lifetime is none.
fn character(rest: &[u8]) -> Option<usize> {
    let body = rest.strip_prefix(b"'")?;
    if body.first() == Some(&b'\\') {
        let end = body.iter().skip(2).position(|b| *b == b'\'')?;
        return Some(1 + 2 + end + 1);
    }
    let text = std::str::from_utf8(&body[..body.len().min(4)])
        .or_else(|e| std::str::from_utf8(&body[..e.valid_up_to()]));
    let first = text.ok()?.chars().next()?.len_utf8();
    (body.get(first) == Some(&b'\'')).then_some(1 + first + 1)
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// Every path that the code names, with its place; the groups of `use` are written out, and a
/// macro call ends in `!`. Fields and methods (after a dot) are not paths.
pub(crate) fn paths(code: &str) -> Vec<(usize, String)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !is_word(bytes[at]) {
            at += 1;
            continue;
        }
        let after_dot = at > 0 && bytes[at - 1] == b'.' && !code[..at].ends_with("..");
        let first = found.len();
        at = path(code, at, String::new(), &mut found);
        if after_dot {
            found.truncate(first);
        }
    }
    found
}

/// Reads the path at `at` behind `prefix`; answers with where it ends.
fn path(code: &str, start: usize, prefix: String, found: &mut Vec<(usize, String)>) -> usize {
    let bytes = code.as_bytes();
    let mut path = prefix;
    let mut at = start;
    loop {
        let word = at + bytes[at..].iter().take_while(|b| is_word(**b)).count();
        path.push_str(&code[at..word]);
        at = word;
        match bytes.get(at) {
            Some(b'!') if bytes.get(at + 1) != Some(&b'=') => path.push('!'),
            Some(b':') if bytes.get(at + 1) == Some(&b':') => match bytes.get(at + 2) {
                Some(b'{') => return group(code, at + 3, &path, found),
                Some(byte) if is_word(*byte) => {
                    path.push_str("::");
                    at += 2;
                    continue;
                }
                _ => {}
            },
            _ => {}
        }
        found.push((start, path));
        return at;
    }
}

/// Reads a group of `use` behind `prefix`, from after its `{`; answers with where it ends.
fn group(code: &str, start: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let bytes = code.as_bytes();
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'}' => return at + 1,
            byte if is_word(byte) => at = path(code, at, format!("{prefix}::"), found),
            _ => at += 1,
        }
    }
    at
}

/// Each function that has a body: its name, and its place from `fn` to the closing brace.
pub(crate) fn functions(code: &str) -> Vec<(&str, Range<usize>)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        let begins = start == 0 || !is_word(bytes[start - 1]);
        let name_at = start + 3;
        let length = bytes[name_at..].iter().take_while(|b| is_word(**b)).count();
        if !begins || length == 0 {
            continue;
        }
        if let Some(end) = body_end(bytes, name_at + length) {
            found.push((&code[name_at..name_at + length], start..end));
        }
    }
    found
}

/// Where the body ends that follows a signature; `None` for a signature without a body.
fn body_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' => depth -= 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[test]
fn comments_and_literals_are_told_from_code() {
    let text = "a // \"b\n/* c /* d */ */ \"e // \\\" f\" r#\"g\" h\"# 'i' '\\'' &'j str \
                b\"k\" br\"l\" '\"' m\n'é' '\\u{1F600}' n";
    let (code, comments) = split(text);
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(&code), "a &'j str b b m n");
    assert_eq!(words(&comments), "// \"b /* c /* d */ */");
    assert_eq!(code.len(), text.len());
    assert_eq!(code.matches('\n').count(), text.matches('\n').count());
}

#[test]
fn paths_are_written_out() {
    let code = "use crate::{a::B, c::{self, d}};\nuse std::env;\nfoo!(x.y, Z::new::<u8>(), p != q)";
    let found: Vec<_> = paths(code).into_iter().map(|(_, p)| p).collect();
    let expected = "use crate::a::B crate::c::self crate::c::d use std::env foo! x Z::new u8 p q";
    assert_eq!(found.join(" "), expected);
}

#[test]
fn functions_are_measured_to_their_closing_brace() {
    let code = "trait T { fn a(&self) -> [u8; 2]; }\nfn b<F: Fn() -> u8>(f: F)\nwhere F: X {\n  \
                if c { d(); }\n}\nfn e() {}";
    let found: Vec<_> = functions(code)
        .into_iter()
        .map(|(n, r)| (n, code[r].matches('\n').count()))
        .collect();
    assert_eq!(found, [("b", 3), ("e", 0)]);
}
