//! Lines of text out of columns, a chunk of rows at a time.
//!
//! First the fields of the chunk are read, several at once, then its lines are written, several
//! pieces at once: so no more than one chunk's cells are held. What a code stands for is written
//! once and copied from then on.

use std::io::Write;
use std::ops::Range;
use std::sync::{Mutex, PoisonError, RwLock};

use relist::query::{Frame, FrameColumn, Item, Part};
use relist::record::Cell;
use relist::schema::FieldId;
use relist::value::{Value, write_json_string};

use crate::cell::{CellText, guarded};
use crate::csv::LineEnd;
use crate::error::ExportError;
use crate::workers::{Give, all, in_order};

/// Rows whose lines are one text: a chunk has 32 of them.
const PIECE: usize = 256;
/// Texts that a thread may be ahead.
const AHEAD: usize = 2;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A JSON object each, with this behind it.
    Json(&'static str),
    /// Values by commas.
    Csv(LineEnd),
}

/// One field of the lines.
struct Line {
    /// `"Name":`, for JSON.
    name: String,
    /// Its cells in the chunk.
    part: Part,
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
    let columns = fields
        .iter()
        .map(|field| frame.column(*field).map(Mutex::new));
    let columns: Vec<Mutex<FrameColumn<'_>>> = columns.collect::<Result<_, _>>()?;
    let lines: Vec<RwLock<Line>> = fields.iter().map(|field| line_of(frame, *field)).collect();
    let mut done = 0;
    // Texts that were written and may be filled again: fresh memory costs more than the work.
    let used: Mutex<Vec<String>> = Mutex::default();
    for chunk in frame.chunks() {
        all(lines.len(), |at| match columns.get(at).zip(lines.get(at)) {
            Some((column, line)) => {
                let mut column = column.lock().unwrap_or_else(PoisonError::into_inner);
                let mut line = line.write().unwrap_or_else(PoisonError::into_inner);
                line.read(&mut column, chunk.clone(), style)
            }
            None => Ok(()),
        })?;
        let read: Vec<_> = lines
            .iter()
            .map(|line| line.read().unwrap_or_else(PoisonError::into_inner))
            .collect();
        let read: Vec<&Line> = read.iter().map(|line| &**line).collect();
        let work = |(): &mut (), at: usize, give: &mut Give<'_, (u64, String)>| {
            let start = at * PIECE;
            let piece = start..chunk.len().min(start + PIECE);
            let count = piece.len() as u64;
            let free = used.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut text = free.unwrap_or_default();
            text.clear();
            for row in piece {
                match style {
                    Style::Json(end) => json_row(&read, row, end, &mut text),
                    Style::Csv(end) => csv_row(&read, row, end, &mut text),
                }
            }
            give((count, text));
            Ok(())
        };
        let pieces = chunk.len().div_ceil(PIECE);
        in_order(
            (pieces, AHEAD),
            || Ok(()),
            work,
            |(count, text)| {
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
            },
        )?;
    }
    Ok(())
}

fn line_of(frame: &Frame<'_>, field: FieldId) -> RwLock<Line> {
    let mut name = String::new();
    let own = frame.resource().field(field).map_or("", |f| &f.name);
    // Writing to a String cannot fail.
    let _ = write_json_string(&mut name, own);
    name.push(':');
    RwLock::new(Line {
        name,
        part: Part::default(),
        codes: Vec::new(),
    })
}

impl Line {
    /// Reads the cells of some rows, and writes what the codes among them stand for.
    fn read(
        &mut self,
        column: &mut FrameColumn<'_>,
        rows: Range<usize>,
        style: Style,
    ) -> Result<(), ExportError> {
        let part = &mut self.part;
        column.read_into(rows, part)?;
        if self.codes.len() < part.codes() {
            self.codes.resize(part.codes(), None);
        }
        for row in 0..part.len() {
            let Item::Code(code) = part.item(row) else {
                continue;
            };
            if let Some(slot @ None) = self.codes.get_mut(usize::from(code))
                && let Some(cell) = part.coded(code)
            {
                let mut text = String::new();
                match style {
                    Style::Json(_) => cell.write_json(&mut text),
                    Style::Csv(_) => csv_cell(cell, &mut text),
                }
                *slot = Some(text.into());
            }
        }
        Ok(())
    }

    /// What a code is written as.
    #[inline]
    fn code(&self, code: u16) -> &str {
        let text = self.codes.get(usize::from(code));
        text.and_then(Option::as_deref).unwrap_or_default()
    }
}

fn json_row(lines: &[&Line], row: usize, end: &str, out: &mut String) {
    out.push('{');
    let mut first = true;
    for line in lines {
        let item = line.part.item(row);
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
            Item::Code(code) => out.push_str(line.code(code)),
            Item::Cell(cell) => cell.write_json(out),
        }
    }
    out.push('}');
    out.push_str(end);
}

fn csv_row(lines: &[&Line], row: usize, end: LineEnd, out: &mut String) {
    let start = out.len();
    let mut first = true;
    for line in lines {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        match line.part.item(row) {
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
            Item::Code(code) => out.push_str(line.code(code)),
            Item::Cell(cell) => csv_cell(cell, out),
        }
    }
    if out.len() == start && lines.len() == 1 {
        // A line of nothing would not be a record.
        out.push_str("\"\"");
    }
    out.push_str(end.text());
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
