//! Records as CSV (RFC 4180).

use std::io::Write;

use relist::record::Record;
use relist::schema::FieldId;

use crate::cell::CellText;

/// How lines end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    /// CR LF, as RFC 4180 has it: for files.
    CrLf,
    /// LF: for pipes, where other programs read lines.
    Lf,
}

impl LineEnd {
    /// The characters.
    pub(crate) fn text(self) -> &'static str {
        match self {
            LineEnd::CrLf => "\r\n",
            LineEnd::Lf => "\n",
        }
    }
}

/// A CSV writer with our quoting: only where it is needed.
pub fn csv_writer<W: Write>(out: W, lines: LineEnd) -> csv::Writer<W> {
    let terminator = match lines {
        LineEnd::CrLf => csv::Terminator::CRLF,
        LineEnd::Lf => csv::Terminator::Any(b'\n'),
    };
    csv::WriterBuilder::new()
        .terminator(terminator)
        .from_writer(out)
}

/// Writes records as lines of the same fields, after a line with the fields' names.
pub struct CsvRecords<W: Write> {
    writer: csv::Writer<W>,
    /// By field: its column.
    columns: Vec<Option<usize>>,
    /// The texts of the line that is written.
    line: Vec<CellText>,
}

impl<W: Write> std::fmt::Debug for CsvRecords<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CsvRecords")
            .field("columns", &self.line.len())
            .finish_non_exhaustive()
    }
}

impl<W: Write> CsvRecords<W> {
    /// Writes the names of the fields.
    pub fn begin<'n>(
        out: W,
        lines: LineEnd,
        fields: &[FieldId],
        names: impl Iterator<Item = &'n str>,
    ) -> std::io::Result<Self> {
        let mut writer = csv_writer(out, lines);
        writer.write_record(names).map_err(into_io)?;
        let mut columns = Vec::new();
        for (column, field) in fields.iter().enumerate() {
            let at = usize::from(field.0);
            if columns.len() <= at {
                columns.resize(at + 1, None);
            }
            if let Some(slot) = columns.get_mut(at) {
                *slot = Some(column);
            }
        }
        Ok(CsvRecords {
            writer,
            columns,
            line: vec![CellText::Empty; fields.len()],
        })
    }

    /// Writes one record: an empty text where a field is absent or null.
    pub fn record(&mut self, record: &Record) -> std::io::Result<()> {
        self.line.fill(CellText::Empty);
        // One pass over the cells: to look each field up would read the record once a field.
        for (field, cell) in record.cells() {
            let column = self.columns.get(usize::from(field.0)).copied().flatten();
            if let Some(slot) = column.and_then(|at| self.line.get_mut(at)) {
                *slot = CellText::of(cell);
            }
        }
        for text in &self.line {
            self.writer
                .write_field(text.for_csv().as_bytes())
                .map_err(into_io)?;
        }
        self.writer.write_record(None::<&[u8]>).map_err(into_io)
    }

    /// Writes what is buffered, and gives the stream back.
    pub fn finish(mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}

/// The stream's own error: a broken pipe must be seen as one.
pub(crate) fn into_io(error: csv::Error) -> std::io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => std::io::Error::other(format!("{other:?}")),
    }
}
