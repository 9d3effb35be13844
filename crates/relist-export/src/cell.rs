//! One field as plain text, for people and for spreadsheets.

use std::borrow::Cow;

use relist::record::Cell;
use relist::value::Value;

/// A field as text, without the quotes of JSON, and what kind of text it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CellText {
    /// Null.
    Empty,
    /// A number, as the feed wrote it.
    Number(String),
    /// A boolean, a date, a time, a GUID: nothing that a spreadsheet takes for a formula.
    Plain(String),
    /// Words: a string, a list joined by commas, or nested JSON as it is.
    Words(String),
}

impl CellText {
    /// The text of a stored field.
    pub fn of(cell: Cell<'_>) -> Self {
        match cell.value() {
            Value::Null => CellText::Empty,
            Value::Int(_) | Value::Decimal(_) => CellText::Number(cell.to_json()),
            Value::String(text) | Value::Json(text) => CellText::Words(text.into_owned()),
            Value::StringList(items) => CellText::Words(items.join(",")),
            Value::GeoPoint(_) => CellText::Words(cell.to_json()),
            _ => CellText::Plain(cell.to_json().trim_matches('"').to_owned()),
        }
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        match self {
            CellText::Empty => "",
            CellText::Number(text) | CellText::Plain(text) | CellText::Words(text) => text,
        }
    }

    /// The text for a spreadsheet: words that it would take for a formula are marked as text.
    pub fn for_csv(&self) -> Cow<'_, str> {
        match self {
            CellText::Words(text) => guarded(text),
            other => Cow::Borrowed(other.as_str()),
        }
    }
}

/// Marks words that a spreadsheet would run as a formula, by a leading `'`.
///
/// These begin with `=`, `+`, `-`, `@`, a tab or a carriage return (OWASP, CSV Injection).
pub fn guarded(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        return Cow::Owned(format!("'{text}"));
    }
    Cow::Borrowed(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_marked_and_nothing_else() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            assert_eq!(guarded(text), format!("'{text}"));
        }
        for text in ["", "a=1", " =1", "'=1", "1-1"] {
            assert_eq!(guarded(text), text);
        }
        let number = CellText::Number("-12.50".to_owned());
        assert_eq!(number.for_csv(), "-12.50");
        let words = CellText::Words("-12.50".to_owned());
        assert_eq!(words.for_csv(), "'-12.50");
    }
}
