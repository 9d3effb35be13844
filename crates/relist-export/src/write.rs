//! An export into a stream.

use std::io::Write;

use relist::error::Error;
use relist::odata::Query;
use relist::query::{Explain, Frame, Item, QueryContext};
use relist::schema::FieldId;
use relist::store::Snapshot;

use crate::csv::{CsvRecords, LineEnd};
use crate::error::ExportError;
use crate::ipc::write_stream;
use crate::parquet::write_parquet;
use crate::rows::{Style, write_lines};
use crate::shape::{Column, Shape};
use crate::workers::all;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, numbers as the feed wrote them.
    Ndjson,
    /// A line a record; see [`CsvRecords`].
    Csv,
    /// A JSON array, an object a line.
    Json,
    /// RESO Common Format: a JSON object with `@reso.context` and the records in `value`.
    CommonFormat,
    /// Apache Parquet.
    Parquet,
    /// An Arrow IPC stream.
    Arrow,
}

impl Format {
    /// The name, as `--format` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
            Format::Json => "json",
            Format::CommonFormat => "rcf",
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
        }
    }

    /// The format of that name.
    pub fn named(name: &str) -> Option<Self> {
        use Format as F;
        let all = [
            F::Ndjson,
            F::Csv,
            F::Json,
            F::CommonFormat,
            F::Parquet,
            F::Arrow,
        ];
        all.into_iter().find(|format| format.name() == name)
    }

    /// Whether its columns have types.
    pub(crate) fn is_typed(self) -> bool {
        matches!(self, Format::Parquet | Format::Arrow)
    }
}

/// What to export.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Which records, and which of their fields.
    pub query: &'a Query,
    /// As of when.
    pub context: &'a QueryContext,
    /// In which format.
    pub format: Format,
    /// How lines of CSV end.
    pub lines: LineEnd,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records.
    pub records: u64,
    /// The columns; those of JSON are not listed.
    pub columns: Vec<Column>,
    /// The sequence it is a snapshot of.
    pub sequence: u64,
    /// A hash of the columns' names and types: see [`Shape::digest`].
    pub digest: String,
    /// How many records pass the filter, when the query counts.
    pub count: Option<u64>,
    /// How they were found, where records were read.
    pub explain: Explain,
}

/// Writes the records of a query out of columns, a chunk of rows at a time; out of records where
/// neighbours in their order are stored far apart.
///
/// `progress` is told how many are written, and says whether to go on.
///
/// # Errors
/// [`ExportError::Store`] when the query fails, [`ExportError::Io`] when the stream does,
/// [`ExportError::Stopped`].
pub fn write_columns(
    snapshot: &Snapshot,
    request: &Request<'_>,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<Summary, ExportError> {
    let frame = snapshot.frame(request.query, request.context)?;
    let shape = if request.format.is_typed() {
        Shape::of(&frame, None)?
    } else {
        Shape::untyped(&frame, populated(&frame, request.format)?)
    };
    write_frame(snapshot, request, (&frame, &shape), out, progress)?;
    Ok(Summary {
        records: frame.len() as u64,
        digest: shape.digest(),
        columns: shape.columns,
        sequence: frame.sequence(),
        count: None,
        explain: Explain::default(),
    })
}

/// Facts about the snapshot that a file with a place for them is given.
pub(crate) fn facts(frame: &Frame<'_>, shape: &Shape) -> Vec<(String, String)> {
    let facts = [
        ("relist.resource", frame.resource().name.clone()),
        ("relist.key", frame.resource().key_field.clone()),
        ("relist.sequence", frame.sequence().to_string()),
        ("relist.schema", shape.digest()),
    ];
    facts.map(|(name, text)| (name.to_owned(), text)).into()
}

/// Writes a frame whose shape is known.
pub(crate) fn write_frame(
    snapshot: &Snapshot,
    request: &Request<'_>,
    (frame, shape): (&Frame<'_>, &Shape),
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<(), ExportError> {
    let (before, between, after) = match request.format {
        Format::Parquet => {
            write_parquet(
                frame,
                shape,
                facts(frame, shape),
                0..frame.len(),
                out,
                progress,
            )?;
            return flushed(out);
        }
        Format::Arrow => {
            write_stream(frame, shape, facts(frame, shape), out, progress)?;
            return flushed(out);
        }
        Format::Csv => {
            csv_lines(snapshot, request, (frame, shape), out, progress)?;
            return flushed(out);
        }
        Format::Ndjson => (String::new(), "\n", ""),
        Format::Json => ("[\n".to_owned(), ",\n", "]\n"),
        Format::CommonFormat => {
            // RESO Common Format (RCP-25), 2.1: what the payload is of.
            let resource = frame.resource().name.to_ascii_lowercase();
            let context = format!("urn:reso:metadata:2.0:resource:{resource}");
            let head = format!("{{\"@reso.context\":\"{context}\",\"value\":[\n");
            (head, ",\n", "]}\n")
        }
    };
    let mut out = Separated::new(out, between);
    let stream = ExportError::stream;
    out.out.write_all(before.as_bytes()).map_err(stream)?;
    if frame.is_scattered() {
        records(
            snapshot,
            request.query,
            request.context,
            progress,
            |record, select, line| {
                record.write_json(select, line);
                line.push_str(between);
                out.write_all(line.as_bytes())
            },
        )?;
    } else {
        let style = Style::Json(between);
        write_lines(frame, &shape.fields, style, &mut out, progress)?;
    }
    out.finish(after).map_err(stream)
}

fn flushed(out: &mut dyn Write) -> Result<(), ExportError> {
    out.flush().map_err(ExportError::stream)
}

/// A stream of elements that each end in a separator: the last one's is left out.
struct Separated<'o> {
    out: &'o mut dyn Write,
    separator: &'static str,
    /// Whether a separator waits to be written.
    waits: bool,
}

impl<'o> Separated<'o> {
    fn new(out: &'o mut dyn Write, separator: &'static str) -> Self {
        Separated {
            out,
            separator,
            waits: false,
        }
    }

    fn finish(self, after: &str) -> std::io::Result<()> {
        if self.waits {
            self.out.write_all(b"\n")?;
        }
        self.out.write_all(after.as_bytes())?;
        self.out.flush()
    }
}

impl Write for Separated<'_> {
    /// Takes whole elements.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.waits {
            self.out.write_all(self.separator.as_bytes())?;
        }
        let separator = self.separator.as_bytes();
        self.out
            .write_all(bytes.strip_suffix(separator).unwrap_or(bytes))?;
        self.waits = true;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn csv_lines(
    snapshot: &Snapshot,
    request: &Request<'_>,
    (frame, shape): (&Frame<'_>, &Shape),
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<(), ExportError> {
    let names = shape.columns.iter().map(|c| c.name.as_str());
    let mut csv = CsvRecords::begin(&mut *out, request.lines, &shape.fields, names)
        .map_err(ExportError::stream)?;
    if frame.is_scattered() {
        let (query, context) = (request.query, request.context);
        return records(snapshot, query, context, progress, |record, _, _| {
            csv.record(record)
        })
        .and_then(|()| csv.finish().map_err(ExportError::stream));
    }
    csv.finish().map_err(ExportError::stream)?;
    let style = Style::Csv(request.lines);
    write_lines(frame, &shape.fields, style, out, progress)
}

/// Gives each record of a query to `write`, with a text to write into.
fn records(
    snapshot: &Snapshot,
    query: &Query,
    context: &QueryContext,
    progress: &mut dyn FnMut(u64) -> bool,
    mut write: impl FnMut(
        &relist::record::Record,
        Option<&[FieldId]>,
        &mut String,
    ) -> std::io::Result<()>,
) -> Result<(), ExportError> {
    let mut line = String::new();
    let mut count = 0;
    // The visitor's error type is the library's: our own error waits here.
    let mut failed = None;
    snapshot.query_each(query, context, &mut |record, select| {
        line.clear();
        if let Err(error) = write(record, select, &mut line) {
            failed = Some(ExportError::stream(error));
        }
        count += 1;
        if failed.is_none() && !progress(count) {
            failed = Some(ExportError::Stopped);
        }
        Ok(failed.is_none())
    })?;
    failed.map_or(Ok(()), Err)
}

/// The fields of an export without types: those selected; else, for CSV, those that any of the
/// records has a value in, and for JSON those that any of them has.
fn populated(frame: &Frame<'_>, format: Format) -> Result<Vec<FieldId>, ExportError> {
    if let Some(fields) = frame.select() {
        return Ok(fields.to_vec());
    }
    let fields = frame.stored_fields()?;
    if format != Format::Csv {
        return Ok(fields);
    }
    let key = frame.resource().field_id(&frame.resource().key_field);
    let has = all(fields.len(), |at| {
        let field = fields.get(at).copied().unwrap_or(FieldId(u16::MAX));
        let mut has = Some(field) == key;
        if !has {
            let mut column = frame.column(field)?;
            column.scan(&mut |_, item| {
                has = !matches!(item, Item::Absent | Item::Null);
                !has
            })?;
        }
        Ok::<bool, ExportError>(has)
    })?;
    let pairs = fields.into_iter().zip(has);
    Ok(pairs
        .filter_map(|(field, has)| has.then_some(field))
        .collect())
}

/// Writes the records of a query as they are found.
///
/// `progress` is told how many are written, and says whether to go on.
///
/// # Errors
/// As [`write_columns`].
pub fn write(
    snapshot: &Snapshot,
    request: &Request<'_>,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<Summary, ExportError> {
    let mut sink = match request.format {
        Format::Csv => {
            let fields = columns(snapshot, request)?;
            let resource = snapshot.resource(&request.query.resource)?;
            let names = fields.iter().filter_map(|id| resource.field(*id));
            let names: Vec<&str> = names.map(|f| f.name.as_str()).collect();
            let csv = CsvRecords::begin(out, request.lines, &fields, names.into_iter());
            Sink::Csv(Box::new(csv.map_err(ExportError::stream)?))
        }
        Format::Ndjson => Sink::Ndjson(out, String::new()),
        _ => return write_columns(snapshot, request, out, progress),
    };
    let mut records = 0;
    // The visitor's error type is the library's: our own error waits here.
    let mut failed = None;
    let found = snapshot.query_each(request.query, request.context, &mut |record, select| {
        if let Err(error) = sink.record(record, select) {
            failed = Some(ExportError::stream(error));
            return Ok(false);
        }
        records += 1;
        if !progress(records) {
            failed = Some(ExportError::Stopped);
            return Ok(false);
        }
        Ok(true)
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    sink.finish().map_err(ExportError::stream)?;
    Ok(Summary {
        records,
        sequence: snapshot.sequence(),
        count: found.count,
        explain: found.explain,
        ..Summary::default()
    })
}

enum Sink<'a> {
    Ndjson(&'a mut dyn Write, String),
    Csv(Box<CsvRecords<&'a mut dyn Write>>),
}

impl Sink<'_> {
    fn record(
        &mut self,
        record: &relist::record::Record,
        select: Option<&[FieldId]>,
    ) -> std::io::Result<()> {
        match self {
            Sink::Ndjson(out, line) => {
                line.clear();
                record.write_json(select, line);
                line.push('\n');
                out.write_all(line.as_bytes())
            }
            Sink::Csv(csv) => csv.record(record),
        }
    }

    fn finish(self) -> std::io::Result<()> {
        match self {
            Sink::Ndjson(out, _) => out.flush(),
            Sink::Csv(csv) => csv.finish(),
        }
    }
}

/// The columns of a CSV: those selected, else those that any of the records has a value in.
fn columns(snapshot: &Snapshot, request: &Request<'_>) -> Result<Vec<FieldId>, Error> {
    let bound = request.query.bind(snapshot.schema(), request.context.now)?;
    if let Some(fields) = bound.select {
        return Ok(fields);
    }
    let resource = snapshot.resource(&request.query.resource)?;
    let mut populated = vec![false; resource.fields.len()];
    if let Some(key) = resource.field_id(&resource.key_field) {
        mark(&mut populated, key);
    }
    let mut query = request.query.clone();
    if query.top.is_none() && query.skip == 0 {
        query.orderby = None;
    }
    snapshot.query_each(&query, request.context, &mut |record, _| {
        for (field, cell) in record.cells() {
            if !cell.is_null() {
                mark(&mut populated, field);
            }
        }
        Ok(true)
    })?;
    let ids = (0..=u16::MAX).map(FieldId).zip(populated);
    Ok(ids.filter_map(|(id, has)| has.then_some(id)).collect())
}

fn mark(populated: &mut [bool], field: FieldId) {
    if let Some(slot) = populated.get_mut(usize::from(field.0)) {
        *slot = true;
    }
}
