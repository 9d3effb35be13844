//! Lines of text out of columns: a chunk of rows at a time, chunks in parallel.
//!
//! Each field of a chunk is read as a part; what a code stands for is written once and copied from
//! then on.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use relist::query::{Frame, FrameColumn, Item, Part};
use relist::record::Cell;
use relist::schema::FieldId;
use relist::value::{Value, write_json_string};

use crate::cell::{CellText, guarded};
use crate::csv::LineEnd;
use crate::error::ExportError;
use crate::workers::{Give, in_order};

/// Rows whose lines are one text: a chunk has 32 of them.
const PIECE: usize = 256;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A JSON object each, with this behind it.
    Json(&'static str),
    /// Values by commas.
    Csv(LineEnd),
}

/// One field of the lines.
struct Line<'f> {
    column: FrameColumn<'f>,
    /// `"Name":`, for JSON.
    name: String,
    /// What each code is written as, once it was.
    codes: Vec<Option<Box<str>>>,
}

/// Writes the rows of a frame as lines, in order.
///
/// # Errors
/// As [`write`](crate::write()).
pub(crate) fn write_lines(
    frame: &Frame<'_>,
    fields: &[FieldId],
    style: Style,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<(), ExportError> {
    let chunks = frame.chunks();
    let mut done = 0;
    let begin = || lines_of(frame, fields);
    // Texts that were written and may be filled again: fresh memory costs more than the work.
    let used: Mutex<Vec<String>> = Mutex::default();
    let work = |lines: &mut Vec<Line<'_>>, at: usize, give: &mut Give<'_, (u64, String)>| {
        let rows = chunks.get(at).cloned().unwrap_or_default();
        let parts = lines.iter_mut().map(|line| line.column.read(rows.clone()));
        let parts: Vec<Part> = parts.collect::<Result<_, _>>()?;
        for start in (0..rows.len()).step_by(PIECE) {
            let piece = start..rows.len().min(start + PIECE);
            let count = piece.len() as u64;
            let free = used.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut text = free.unwrap_or_default();
            text.clear();
            for row in piece {
                match style {
                    Style::Json(end) => json_row(lines, &parts, row, end, &mut text),
                    Style::Csv(end) => csv_row(lines, &parts, row, end, &mut text),
                }
            }
            if !give((count, text)) {
                break;
            }
        }
        Ok(())
    };
    in_order(chunks.len(), begin, work, |(count, text)| {
        out.write_all(text.as_bytes())
            .map_err(ExportError::stream)?;
        used.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text);
        done += count;
        if progress(done) {
            Ok(())
        } else {
            Err(ExportError::Stopped)
        }
    })
}

fn lines_of<'f>(frame: &'f Frame<'_>, fields: &[FieldId]) -> Result<Vec<Line<'f>>, ExportError> {
    let line = |field: &FieldId| {
        let mut name = String::new();
        let own = frame.resource().field(*field).map_or("", |f| &f.name);
        // Writing to a String cannot fail.
        let _ = write_json_string(&mut name, own);
        name.push(':');
        Ok(Line {
            column: frame.column(*field)?,
            name,
            codes: Vec::new(),
        })
    };
    fields.iter().map(line).collect()
}

impl Line<'_> {
    /// Appends what a code is written as.
    #[inline]
    fn code(
        &mut self,
        code: u16,
        part: &Part,
        out: &mut String,
        write: impl FnOnce(Cell<'_>, &mut String),
    ) {
        let at = usize::from(code);
        if let Some(Some(text)) = self.codes.get(at) {
            out.push_str(text);
            return;
        }
        let start = out.len();
        if let Some(cell) = part.coded(code) {
            write(cell, out);
        }
        if self.codes.len() <= at {
            self.codes.resize(part.codes().max(at + 1), None);
        }
        if let Some(slot) = self.codes.get_mut(at) {
            *slot = Some(out.get(start..).unwrap_or_default().into());
        }
    }
}

fn json_row(lines: &mut [Line<'_>], parts: &[Part], row: usize, end: &str, out: &mut String) {
    out.push('{');
    let mut first = true;
    for (line, part) in lines.iter_mut().zip(parts) {
        let item = part.item(row);
        if matches!(item, Item::Absent) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        out.push_str(&line.name);
        match item {
            Item::Absent => {}
            Item::Null => out.push_str("null"),
            Item::Number(number) => number.write_json(out),
            Item::Code(code) => line.code(code, part, out, json_cell),
            Item::Cell(cell) => cell.write_json(out),
        }
    }
    out.push('}');
    out.push_str(end);
}

fn csv_row(lines: &mut [Line<'_>], parts: &[Part], row: usize, end: LineEnd, out: &mut String) {
    let start = out.len();
    let mut first = true;
    for (line, part) in lines.iter_mut().zip(parts) {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        match part.item(row) {
            Item::Absent | Item::Null => {}
            Item::Number(number) => {
                let before = out.len();
                number.write_json(out);
                // Dates and times are JSON strings, and nothing in them needs a quote here.
                if out.as_bytes().get(before) == Some(&b'"') {
                    out.pop();
                    out.remove(before);
                }
            }
            Item::Code(code) => line.code(code, part, out, csv_cell),
            Item::Cell(cell) => csv_cell(cell, out),
        }
    }
    if out.len() == start && lines.len() == 1 {
        // A line of nothing would not be a record.
        out.push_str("\"\"");
    }
    out.push_str(end.text());
}

/// Appends a cell as JSON.
fn json_cell(cell: Cell<'_>, out: &mut String) {
    cell.write_json(out);
}

/// Appends a cell as CSV has it.
fn csv_cell(cell: Cell<'_>, out: &mut String) {
    if let Value::String(text) = cell.value() {
        csv_text(&guarded(&text), out);
    } else {
        csv_text(&CellText::of(cell).for_csv(), out);
    }
}

/// Appends a text, in quotes where it needs them (RFC 4180, 2.6 and 2.7).
pub(crate) fn csv_text(text: &str, out: &mut String) {
    let special =
        |byte: &u8| (*byte == b'"') | (*byte == b',') | (*byte == b'\n') | (*byte == b'\r');
    // Several bytes at once, as most texts have none of them.
    let plain = text.as_bytes().chunks(32).all(|chunk| {
        let count: u8 = chunk.iter().map(|byte| u8::from(special(byte))).sum();
        count == 0
    });
    if plain {
        out.push_str(text);
        return;
    }
    out.push('"');
    for (at, piece) in text.split('"').enumerate() {
        if at > 0 {
            out.push_str("\"\"");
        }
        out.push_str(piece);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_where_they_are_needed() {
        let written = |text: &str| {
            let mut out = String::new();
            csv_text(text, &mut out);
            out
        };
        assert_eq!(written("Salt Lake"), "Salt Lake");
        assert_eq!(written("a,b"), "\"a,b\"");
        assert_eq!(written("say \"x\""), "\"say \"\"x\"\"\"");
        assert_eq!(written("two\r\nlines"), "\"two\r\nlines\"");
        let long = format!("{}\n", "x".repeat(70));
        assert_eq!(written(&long), format!("\"{long}\""));
    }
}
