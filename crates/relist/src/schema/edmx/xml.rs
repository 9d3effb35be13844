//! A small element tree of an XML document, read within bounds.
//!
//! It holds what `$metadata` needs and refuses what it never needs: a document type declaration
//! (the way to entity bombs), nesting and sizes no service has. Namespace prefixes are dropped;
//! comments and processing instructions are passed over.

use crate::error::{Error, Result};
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

/// The largest document read, in bytes. The largest seen from a vendor is below 8 MiB.
const MAX_BYTES: usize = 64 << 20;
/// The deepest nesting read. CSDL needs 8 and annotations a few more.
const MAX_DEPTH: usize = 64;
/// The most elements read. The largest seen from a vendor is below 100,000.
const MAX_ELEMENTS: usize = 2_000_000;
/// The most attributes of one element. CSDL defines about a dozen.
const MAX_ATTRIBUTES: usize = 64;

/// One element with all below it.
#[derive(Debug, Default)]
pub(super) struct Element {
    /// The name without its prefix.
    pub(super) name: String,
    /// Where its `<` stands, in bytes from the start of the document.
    pub(super) offset: u64,
    /// The text directly inside it.
    pub(super) text: String,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
}

impl Element {
    /// The value of the attribute of that name (without its prefix).
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        let (_, value) = self.attributes.iter().find(|(n, _)| n == name)?;
        Some(value)
    }

    /// The value of an attribute that must be there and not be empty.
    pub(super) fn required(&self, name: &str) -> Result<&str> {
        self.attribute(name)
            .filter(|v| !v.is_empty())
            .ok_or_else(|| {
                let subject = self.attribute("Name").unwrap_or_default();
                let space = if subject.is_empty() { "" } else { " " };
                self.error(format!(
                    "{}{space}{subject} has no {name} attribute",
                    self.name
                ))
            })
    }

    /// The children of that name, in order.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |c| c.name == name)
    }

    /// The children, in order.
    pub(super) fn children(&self) -> &[Element] {
        &self.children
    }

    /// An error that points at this element.
    pub(super) fn error(&self, reason: impl Into<String>) -> Error {
        error(reason, self.offset)
    }
}

/// Reads a document to its end and gives its root element.
pub(super) fn read(bytes: &[u8]) -> Result<Element> {
    if bytes.len() > MAX_BYTES {
        let reason = format!(
            "the document has {} bytes, the limit is {MAX_BYTES}",
            bytes.len()
        );
        return Err(error(reason, 0));
    }
    let (text, skipped) = text_of(bytes)?;
    let mut tree = Tree::default();
    let mut reader = Reader::from_str(text);
    loop {
        let offset = skipped + reader.buffer_position();
        let event = reader
            .read_event()
            .map_err(|e| error(e.to_string(), skipped + reader.error_position()))?;
        match event {
            Event::Start(tag) => tree.open(&tag, offset)?,
            Event::Empty(tag) => {
                tree.open(&tag, offset)?;
                tree.close();
            }
            Event::End(_) => tree.close(),
            Event::Text(text) => tree.push_text(&text, offset)?,
            Event::CData(text) => tree.push_text(&text, offset)?,
            Event::GeneralRef(reference) => {
                let resolved = match reference.resolve_char_ref() {
                    Ok(Some(char)) => Some(char.to_string()),
                    Ok(None) => {
                        quick_xml::escape::resolve_predefined_entity(&reference).map(str::to_owned)
                    }
                    Err(_) => None,
                };
                let text = resolved
                    .ok_or_else(|| error(format!("unknown entity &{};", &*reference), offset))?;
                tree.push_text(&text, offset)?;
            }
            Event::DocType(_) => {
                let reason = "a document type declaration is refused; is this an HTML page \
                              rather than $metadata?";
                return Err(error(reason, offset));
            }
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => return tree.finish(offset),
        }
    }
}

/// An error at a place of the document.
pub(super) fn error(reason: impl Into<String>, offset: u64) -> Error {
    Error::Metadata {
        reason: reason.into(),
        offset,
    }
}

/// The document as text without its byte order mark, and the length of that mark.
fn text_of(bytes: &[u8]) -> Result<(&str, u64)> {
    if bytes.starts_with(&[0xFE, 0xFF]) || bytes.starts_with(&[0xFF, 0xFE]) {
        return Err(error("the document is UTF-16; UTF-8 is expected", 0));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let at = u64::try_from(e.valid_up_to()).unwrap_or(u64::MAX);
        error("the document is not UTF-8", at)
    })?;
    let (text, skipped) = text
        .strip_prefix('\u{feff}')
        .map_or((text, 0), |rest| (rest, 3));
    match text.trim_start().chars().next() {
        None => Err(error("the document is empty", 0)),
        Some('<') => Ok((text, skipped)),
        Some('{' | '[') => Err(error(
            "the document is JSON; ask for application/xml",
            skipped,
        )),
        Some(_) => Err(error(
            "the document is not XML: it does not start with `<`",
            skipped,
        )),
    }
}

/// The tree as far as it has been read.
#[derive(Default)]
struct Tree {
    /// The elements that are open, outermost first.
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
}

impl Tree {
    fn open(&mut self, tag: &BytesStart<'_>, offset: u64) -> Result<()> {
        if self.root.is_some() {
            return Err(error(
                "a second element after the end of the document",
                offset,
            ));
        }
        if self.open.len() == MAX_DEPTH {
            return Err(error(
                format!("elements are nested deeper than {MAX_DEPTH}"),
                offset,
            ));
        }
        self.elements += 1;
        if self.elements > MAX_ELEMENTS {
            return Err(error(format!("more than {MAX_ELEMENTS} elements"), offset));
        }
        let mut attributes = Vec::new();
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|e| error(e.to_string(), offset))?;
            if attributes.len() == MAX_ATTRIBUTES {
                let reason = format!("an element has more than {MAX_ATTRIBUTES} attributes");
                return Err(error(reason, offset));
            }
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|e| error(e.to_string(), offset))?;
            let name = attribute.key.local_name();
            attributes.push((name.as_ref().to_owned(), value.into_owned()));
        }
        self.open.push(Element {
            name: tag.local_name().as_ref().to_owned(),
            offset,
            attributes,
            ..Element::default()
        });
        Ok(())
    }

    fn close(&mut self) {
        let Some(element) = self.open.pop() else {
            return;
        };
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
    }

    fn push_text(&mut self, text: &str, offset: u64) -> Result<()> {
        match self.open.last_mut() {
            Some(element) if !element.text.is_empty() || !text.trim().is_empty() => {
                element.text.push_str(text);
            }
            None if !text.trim().is_empty() => {
                return Err(error("text outside of the document's element", offset));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self, offset: u64) -> Result<Element> {
        if let Some(element) = self.open.last() {
            let reason = format!("the document ends inside of <{}>", element.name);
            return Err(error(reason, offset));
        }
        self.root
            .ok_or_else(|| error("the document has no element", offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(xml: &[u8]) -> (String, u64) {
        match read(xml) {
            Err(Error::Metadata { reason, offset }) => (reason, offset),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn elements_attributes_and_text_are_read() {
        let xml = "\u{feff}<?xml version='1.0'?><!-- c --><a:R x='1 &amp; &#50;'>\
                   <b:C/><C><![CDATA[<t>]]> &lt;u&gt;</C></a:R>\n";
        let root = read(xml.as_bytes()).unwrap();
        assert_eq!(
            (root.name.as_str(), root.attribute("x")),
            ("R", Some("1 & 2"))
        );
        let texts: Vec<_> = root.all("C").map(|c| c.text.as_str()).collect();
        assert_eq!(texts, ["", "<t> <u>"]);
        assert_eq!(root.children()[0].offset, xml.find("<b:C").unwrap() as u64);
    }

    #[test]
    fn what_is_not_well_formed_names_its_place() {
        for (xml, part, at) in [
            ("<a><b></a>", "expected `</b>`", 6),
            ("<a><b>", "ends inside of <b>", 6),
            ("<a/><b/>", "second element", 4),
            ("<a x='1' x='2'/>", "", 0),
            ("<a>&bomb;</a>", "unknown entity &bomb;", 3),
            ("<a x='&bomb;'/>", "bomb", 0),
            ("<a/>tail", "text outside", 4),
            ("  ", "empty", 0),
            ("{\"$Version\":\"4.01\"}", "JSON", 0),
            ("Not found", "not XML", 0),
            ("<!-- only -->", "no element", 13),
            ("<a><b x=</a>", "", 3),
        ] {
            let (reason, offset) = refused(xml.as_bytes());
            assert!(reason.contains(part), "{xml}: {reason}");
            assert_eq!(offset, at, "{xml}: {reason}");
        }
        assert_eq!(refused(b"<a>\xff</a>").1, 3);
        assert!(refused(b"\xff\xfe<\0a\0").0.contains("UTF-16"));
    }

    #[test]
    fn document_type_declarations_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bb\"><!ENTITY c \"&b;&b;\">]><a>&c;</a>";
        assert!(
            refused(bomb.as_bytes())
                .0
                .contains("document type declaration")
        );
        assert!(refused(b"<!DOCTYPE html><html></html>").0.contains("HTML"));
    }

    #[test]
    fn depth_and_attributes_are_bounded() {
        let deep = |n: usize| format!("{}{}", "<a>".repeat(n), "</a>".repeat(n));
        assert!(read(deep(MAX_DEPTH).as_bytes()).is_ok());
        assert!(refused(deep(MAX_DEPTH + 1).as_bytes()).0.contains("deeper"));
        let mut many = String::from("<a");
        for i in 0..=MAX_ATTRIBUTES {
            many.extend([" x", &i.to_string(), "='1'"]);
        }
        many.push_str("/>");
        assert!(refused(many.as_bytes()).0.contains("attributes"));
    }
}
