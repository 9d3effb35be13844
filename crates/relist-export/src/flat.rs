//! Flat tables: rows of a few fixed columns, in any format. Changes are exported so.

use std::io::Write;
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::Schema;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use relist::value::{Timestamp, write_json_string};

use crate::arrays::{schema_of, unquoted};
use crate::cell::guarded;
use crate::csv::LineEnd;
use crate::error::ExportError;
use crate::parquet::{Buffer, plain_properties};
use crate::rows::csv_text;
use crate::shape::{Column, ColumnType, Shape};
use crate::write::Format;

/// Rows that are encoded at once.
const BATCH: usize = 16_384;

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flat {
    /// Nothing.
    Null,
    /// An integer.
    Int(i64),
    /// An instant.
    Time(Timestamp),
    /// A text.
    Text(String),
    /// A value as JSON.
    Json(String),
}

/// What a column of the table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlatType {
    Int,
    Time,
    Text,
}

impl FlatType {
    fn column(self, name: &str) -> Column {
        let (ty, declared) = match self {
            FlatType::Int => (ColumnType::Int, "Int64"),
            FlatType::Time => (ColumnType::DateTime, "DateTimeOffset"),
            FlatType::Text => (ColumnType::Text, "String"),
        };
        Column {
            name: name.to_owned(),
            ty,
            declared: declared.to_owned(),
            note: None,
        }
    }
}

/// The shape of a flat table.
pub(crate) fn shape_of(columns: &[(&str, FlatType)]) -> Shape {
    let columns = columns.iter().map(|(name, ty)| ty.column(name));
    Shape {
        columns: columns.collect(),
        fields: Vec::new(),
    }
}

/// Writes a flat table row by row.
pub(crate) struct FlatWriter<'o> {
    columns: &'static [(&'static str, FlatType)],
    out: &'o mut dyn Write,
    sink: Sink,
    rows: Vec<Vec<Flat>>,
    written: u64,
}

enum Sink {
    Lines,
    Array,
    Csv(LineEnd),
    Parquet(Box<ArrowWriter<Buffer>>, Buffer, Arc<Schema>),
    Stream(Box<StreamWriter<Buffer>>, Buffer, Arc<Schema>),
}

impl<'o> FlatWriter<'o> {
    /// Begins a table of a resource's name.
    pub(crate) fn begin(
        columns: &'static [(&'static str, FlatType)],
        (format, lines): (Format, LineEnd),
        (name, metadata): (&str, Vec<(String, String)>),
        out: &'o mut dyn Write,
    ) -> Result<Self, ExportError> {
        let schema = Arc::new(schema_of(&shape_of(columns), name));
        let buffer = Buffer::default();
        let sink = match format {
            Format::Ndjson => Sink::Lines,
            Format::Json | Format::CommonFormat => Sink::Array,
            Format::Csv => Sink::Csv(lines),
            Format::Parquet => {
                let metadata = metadata.into_iter().map(|(k, v)| KeyValue::new(k, v));
                let properties = plain_properties()?
                    .set_key_value_metadata(Some(metadata.collect()))
                    .build();
                let writer =
                    ArrowWriter::try_new(buffer.clone(), Arc::clone(&schema), Some(properties))?;
                Sink::Parquet(Box::new(writer), buffer, schema)
            }
            Format::Arrow => {
                let writer = StreamWriter::try_new(buffer.clone(), &schema)?;
                Sink::Stream(Box::new(writer), buffer, schema)
            }
        };
        let mut table = FlatWriter {
            columns,
            out,
            sink,
            rows: Vec::new(),
            written: 0,
        };
        table.head()?;
        Ok(table)
    }

    fn head(&mut self) -> Result<(), ExportError> {
        let mut text = String::new();
        match self.sink {
            Sink::Csv(lines) => {
                let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
                text.push_str(&names.join(","));
                text.push_str(lines.text());
            }
            Sink::Array => text.push_str("[\n"),
            _ => {}
        }
        self.put(&text)
    }

    fn put(&mut self, text: &str) -> Result<(), ExportError> {
        let written = self.out.write_all(text.as_bytes());
        written.map_err(ExportError::stream)
    }

    /// Writes a row: a value a column.
    pub(crate) fn row(&mut self, row: Vec<Flat>) -> Result<(), ExportError> {
        self.rows.push(row);
        if self.rows.len() >= BATCH {
            self.flush()?;
        }
        Ok(())
    }

    /// How many rows there are so far.
    pub(crate) fn len(&self) -> u64 {
        self.written + self.rows.len() as u64
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        match &mut self.sink {
            Sink::Lines => rows.iter().for_each(|row| {
                json_row(self.columns, row, &mut text);
                text.push('\n');
            }),
            Sink::Array => {
                for (row, number) in rows.iter().zip(self.written..) {
                    if number > 0 {
                        text.push_str(",\n");
                    }
                    json_row(self.columns, row, &mut text);
                }
            }
            Sink::Csv(lines) => {
                let end = lines.text();
                for row in &rows {
                    csv_row(row, &mut text);
                    text.push_str(end);
                }
            }
            Sink::Parquet(writer, buffer, schema) => {
                writer.write(&batch(self.columns, &rows, schema)?)?;
                buffer.drain(self.out)?;
            }
            Sink::Stream(writer, buffer, schema) => {
                writer.write(&batch(self.columns, &rows, schema)?)?;
                buffer.drain(self.out)?;
            }
        }
        self.written += rows.len() as u64;
        self.put(&text)
    }

    /// Writes what is left; how many rows there were.
    pub(crate) fn finish(mut self) -> Result<u64, ExportError> {
        self.flush()?;
        match self.sink {
            Sink::Array => {
                let end: &[u8] = if self.written > 0 { b"\n]\n" } else { b"]\n" };
                self.out.write_all(end).map_err(ExportError::stream)?;
            }
            Sink::Parquet(writer, buffer, _) => {
                writer.close()?;
                buffer.drain(self.out)?;
            }
            Sink::Stream(mut writer, buffer, _) => {
                writer.finish()?;
                buffer.drain(self.out)?;
            }
            Sink::Lines | Sink::Csv(_) => {}
        }
        self.out.flush().map_err(ExportError::stream)?;
        Ok(self.written)
    }
}

fn json_row(columns: &[(&str, FlatType)], row: &[Flat], out: &mut String) {
    out.push('{');
    for (at, ((name, _), value)) in columns.iter().zip(row).enumerate() {
        if at > 0 {
            out.push(',');
        }
        // Writing to a String cannot fail.
        let _ = write_json_string(out, name);
        out.push(':');
        match value {
            Flat::Null => out.push_str("null"),
            Flat::Int(number) => out.push_str(&number.to_string()),
            Flat::Time(at) => {
                let _ = write_json_string(out, &at.to_string());
            }
            Flat::Text(text) => {
                let _ = write_json_string(out, text);
            }
            Flat::Json(json) => out.push_str(json),
        }
    }
    out.push('}');
}

fn csv_row(row: &[Flat], out: &mut String) {
    for (at, value) in row.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        match value {
            Flat::Null => {}
            Flat::Int(number) => out.push_str(&number.to_string()),
            Flat::Time(at) => out.push_str(&at.to_string()),
            Flat::Text(text) => csv_text(&guarded(text), out),
            Flat::Json(json) => match plain_text(json) {
                Some(text) => csv_text(&guarded(&text), out),
                None => csv_text(json, out),
            },
        }
    }
}

/// The text of a JSON string; `None` for any other JSON.
fn plain_text(json: &str) -> Option<String> {
    json.starts_with('"')
        .then(|| serde_json::from_str(json).ok())
        .flatten()
}

fn batch(
    columns: &[(&str, FlatType)],
    rows: &[Vec<Flat>],
    schema: &Arc<Schema>,
) -> Result<RecordBatch, ExportError> {
    let arrays = columns.iter().enumerate().map(|(at, (_, ty))| {
        let values = rows.iter().map(|row| row.get(at).unwrap_or(&Flat::Null));
        array(*ty, values)
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), arrays.collect())?)
}

fn array<'f>(ty: FlatType, values: impl Iterator<Item = &'f Flat>) -> ArrayRef {
    match ty {
        FlatType::Int => {
            let mut out = Int64Builder::new();
            values.for_each(|value| match value {
                Flat::Int(number) => out.append_value(*number),
                _ => out.append_null(),
            });
            Arc::new(out.finish())
        }
        FlatType::Time => {
            let mut out = TimestampMicrosecondBuilder::new();
            values.for_each(|value| match value {
                Flat::Time(at) => out.append_value(at.0),
                _ => out.append_null(),
            });
            Arc::new(out.finish().with_timezone("UTC"))
        }
        FlatType::Text => {
            let mut out = StringBuilder::new();
            values.for_each(|value| match value {
                Flat::Text(text) => out.append_value(text),
                Flat::Json(json) if json == "null" => out.append_null(),
                Flat::Json(json) => match plain_text(json) {
                    Some(text) => out.append_value(text),
                    None => out.append_value(unquoted(json)),
                },
                _ => out.append_null(),
            });
            Arc::new(out.finish())
        }
    }
}
