//! Rows of any kind in any format: what `changes`, `status`, `sync` and the like print.

use std::io::{self, Write};

use relist::record::Cell;
use relist::value::{Timestamp, write_json_string};
use relist_export::{CellText, LineEnd, csv_writer};

use crate::args::Format;
use crate::style::{Paint, thousands};
use crate::table::{Column, Cut, Table};

/// One value of a row.
#[derive(Debug, Clone)]
pub(crate) struct Datum {
    /// As JSON.
    json: String,
    /// For CSV.
    text: CellText,
    /// For a table, where it differs.
    shown: Option<String>,
}

impl Datum {
    pub(crate) fn null() -> Self {
        Datum {
            json: "null".to_owned(),
            text: CellText::Empty,
            shown: None,
        }
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Datum {
            json: json_string(&text),
            text: CellText::Words(text),
            shown: None,
        }
    }

    pub(crate) fn optional(text: Option<impl Into<String>>) -> Self {
        text.map_or_else(Datum::null, Datum::text)
    }

    pub(crate) fn count(count: u64) -> Self {
        let json = count.to_string();
        let shown = Some(thousands(count));
        Datum {
            text: CellText::Number(json.clone()),
            json,
            shown,
        }
    }

    /// A number that is a name: a sequence. It has no thousands.
    pub(crate) fn number(number: u64) -> Self {
        let json = number.to_string();
        Datum {
            text: CellText::Number(json.clone()),
            json,
            shown: None,
        }
    }

    /// A number as it is to be written.
    pub(crate) fn lexeme(number: String) -> Self {
        Datum {
            text: CellText::Number(number.clone()),
            json: number,
            shown: None,
        }
    }

    pub(crate) fn flag(flag: bool) -> Self {
        let json = flag.to_string();
        Datum {
            text: CellText::Plain(json.clone()),
            json,
            shown: None,
        }
    }

    /// A moment: whole in JSON, to the second in a table.
    pub(crate) fn time(at: Option<Timestamp>) -> Self {
        let Some(at) = at else { return Datum::null() };
        let text = at.to_string();
        Datum {
            json: json_string(&text),
            text: CellText::Plain(text),
            shown: Some(at.to_datetime().format(0, true)),
        }
    }

    /// A stored value, as the feed wrote it.
    pub(crate) fn cell(cell: Option<Cell<'_>>) -> Self {
        let Some(cell) = cell else {
            return Datum::null();
        };
        Datum {
            json: cell.to_json(),
            text: CellText::of(cell),
            shown: None,
        }
    }

    /// A value that is JSON already; a string shows without its quotes.
    pub(crate) fn json(json: &str) -> Self {
        let text = match json.strip_prefix('"') {
            Some(_) => serde_json::from_str(json).map_or_else(
                |_| CellText::Plain(json.to_owned()),
                |words: String| CellText::Words(words),
            ),
            None if json == "null" => CellText::Empty,
            None if json.starts_with(['{', '[']) => CellText::Words(json.to_owned()),
            None => CellText::Number(json.to_owned()),
        };
        Datum {
            json: json.to_owned(),
            text,
            shown: None,
        }
    }

    /// The same, but a table shows other words.
    pub(crate) fn shown(mut self, words: impl Into<String>) -> Self {
        self.shown = Some(words.into());
        self
    }

    pub(crate) fn for_table(&self) -> String {
        self.shown
            .clone()
            .unwrap_or_else(|| self.text.as_str().to_owned())
    }
}

pub(crate) fn json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    // Writing to a String cannot fail.
    let _ = write_json_string(&mut out, text);
    out
}

/// A member of the rows: its name in JSON and CSV, and its title in a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemberOf<'m> {
    pub(crate) name: &'m str,
    /// Empty: a table leaves it out.
    pub(crate) title: &'m str,
    pub(crate) right: bool,
    /// A table leaves it out where all its values are 0 or empty.
    pub(crate) if_any: bool,
}

/// A member that a command always has.
pub(crate) type Member = MemberOf<'static>;

pub(crate) const fn left(name: &'static str, title: &'static str) -> Member {
    Member {
        name,
        title,
        right: false,
        if_any: false,
    }
}

pub(crate) const fn right(name: &'static str, title: &'static str) -> Member {
    Member {
        name,
        title,
        right: true,
        if_any: false,
    }
}

impl MemberOf<'_> {
    /// The same, left out of a table where it says nothing.
    pub(crate) const fn if_any(mut self) -> Self {
        self.if_any = true;
        self
    }
}

/// Writes rows of the same members.
pub(crate) struct Rows<'o> {
    members: &'o [MemberOf<'o>],
    sink: Sink<'o>,
}

enum Sink<'o> {
    Table(Table, &'o mut dyn Write),
    Lines(&'o mut dyn Write),
    Array(Array, &'o mut dyn Write),
    Csv(Box<csv::Writer<&'o mut dyn Write>>),
}

/// The commas and brackets of a JSON array, an element a line.
#[derive(Debug, Default)]
pub(crate) struct Array {
    begun: bool,
}

impl Array {
    pub(crate) fn element(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let opening = if std::mem::replace(&mut self.begun, true) {
            ",\n  "
        } else {
            "[\n  "
        };
        out.write_all(opening.as_bytes())
    }

    /// Closes the array, without a line end.
    pub(crate) fn finish(self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(if self.begun { b"\n]" } else { b"[]" })
    }
}

impl<'o> Rows<'o> {
    pub(crate) fn new(
        members: &'o [MemberOf<'o>],
        format: Format,
        width: Option<usize>,
        paint: Paint,
        out: &'o mut dyn Write,
    ) -> io::Result<Self> {
        let sink = match format {
            Format::Table => {
                let shown = members.iter().filter(|m| !m.title.is_empty());
                let columns = shown.map(|m| Column {
                    title: m.title.to_owned(),
                    right: m.right,
                    if_any: m.if_any,
                });
                Sink::Table(Table::new(columns.collect(), width, paint), out)
            }
            // Arrow is refused where there are no columns: see `cmd::dispatch`.
            Format::Ndjson | Format::Arrow => Sink::Lines(out),
            Format::Json => Sink::Array(Array::default(), out),
            Format::Csv => {
                let mut writer = csv_writer(out, LineEnd::Lf);
                writer
                    .write_record(members.iter().map(|m| m.name))
                    .map_err(io_of)?;
                Sink::Csv(Box::new(writer))
            }
        };
        Ok(Rows { members, sink })
    }

    /// Writes a row: a value for each member, in their order.
    pub(crate) fn row(&mut self, row: &[Datum]) -> io::Result<()> {
        let members = self.members;
        match &mut self.sink {
            Sink::Table(table, out) => {
                let shown = members.iter().zip(row).filter(|(m, _)| !m.title.is_empty());
                table.row(shown.map(|(_, d)| d.for_table()).collect(), *out)
            }
            Sink::Lines(out) => writeln!(out, "{}", object(members, row)),
            Sink::Array(array, out) => {
                array.element(*out)?;
                write!(out, "{}", object(members, row))
            }
            Sink::Csv(writer) => {
                let texts = row.iter().map(|d| d.text.for_csv().into_owned());
                writer.write_record(texts).map_err(io_of)
            }
        }
    }

    pub(crate) fn finish(self) -> io::Result<Cut> {
        match self.sink {
            Sink::Table(table, out) => return table.finish(out),
            Sink::Lines(_) => {}
            Sink::Array(array, out) => {
                array.finish(out)?;
                writeln!(out)?;
            }
            Sink::Csv(mut writer) => writer.flush()?,
        }
        Ok(Cut::default())
    }
}

/// The row as a JSON object.
fn object(members: &[MemberOf<'_>], row: &[Datum]) -> String {
    let pairs = members
        .iter()
        .zip(row)
        .map(|(m, d)| format!("{}:{}", json_string(m.name), d.json));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

fn io_of(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: &[Member] = &[
        right("Sequence", "SEQ"),
        left("Name", "NAME"),
        left("Run", ""),
    ];

    fn printed(format: Format, rows: &[Vec<Datum>]) -> String {
        let mut out = Vec::new();
        let mut writer = Rows::new(MEMBERS, format, None, Paint(false), &mut out).unwrap();
        for row in rows {
            writer.row(row).unwrap();
        }
        writer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_row_in_each_format() {
        let rows = [
            vec![
                Datum::count(1_000),
                Datum::text("=a\"b,"),
                Datum::flag(true),
            ],
            vec![Datum::number(2_000), Datum::null(), Datum::null()],
        ];
        assert_eq!(
            printed(Format::Table, &rows),
            "  SEQ  NAME\n1,000  =a\"b,\n 2000\n"
        );
        assert_eq!(
            printed(Format::Ndjson, &rows),
            "{\"Sequence\":1000,\"Name\":\"=a\\\"b,\",\"Run\":true}\n\
             {\"Sequence\":2000,\"Name\":null,\"Run\":null}\n"
        );
        assert_eq!(
            printed(Format::Json, &rows),
            "[\n  {\"Sequence\":1000,\"Name\":\"=a\\\"b,\",\"Run\":true},\n  \
             {\"Sequence\":2000,\"Name\":null,\"Run\":null}\n]\n"
        );
        assert_eq!(
            printed(Format::Csv, &rows),
            "Sequence,Name,Run\n1000,\"'=a\"\"b,\",true\n2000,,\n"
        );
    }

    #[test]
    fn no_rows() {
        assert_eq!(printed(Format::Json, &[]), "[]\n");
        assert_eq!(printed(Format::Ndjson, &[]), "");
        assert_eq!(printed(Format::Table, &[]), "SEQ  NAME\n");
    }
}
