//! An export into a stream.

use std::io::Write;

use relist::error::Error;
use relist::odata::Query;
use relist::query::{Explain, QueryContext};
use relist::schema::FieldId;
use relist::store::Snapshot;

use crate::csv::{CsvRecords, LineEnd};
use crate::error::ExportError;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, numbers as the feed wrote them.
    Ndjson,
    /// A line a record; see [`CsvRecords`].
    Csv,
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
    /// Columns of CSV; 0 for NDJSON.
    pub columns: usize,
    /// How many records pass the filter, when the query counts.
    pub count: Option<u64>,
    /// How they were found.
    pub explain: Explain,
}

/// Writes the records of a query, as they are found.
///
/// `progress` is told how many are written, and says whether to go on.
///
/// # Errors
/// [`ExportError::Store`] when the query fails, [`ExportError::Io`] when the stream does,
/// [`ExportError::Stopped`].
pub fn write(
    snapshot: &Snapshot,
    request: &Request<'_>,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<Summary, ExportError> {
    let mut sink = match request.format {
        Format::Ndjson => Sink::Ndjson(out, String::new()),
        Format::Csv => {
            let fields = columns(snapshot, request)?;
            let resource = snapshot.resource(&request.query.resource)?;
            let names = fields.iter().filter_map(|id| resource.field(*id));
            let names: Vec<&str> = names.map(|f| f.name.as_str()).collect();
            let csv = CsvRecords::begin(out, request.lines, &fields, names.into_iter());
            Sink::Csv(Box::new(csv.map_err(ExportError::stream)?), fields.len())
        }
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
    let columns = sink.finish().map_err(ExportError::stream)?;
    Ok(Summary {
        records,
        columns,
        count: found.count,
        explain: found.explain,
    })
}

enum Sink<'a> {
    Ndjson(&'a mut dyn Write, String),
    Csv(Box<CsvRecords<&'a mut dyn Write>>, usize),
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
            Sink::Csv(csv, _) => csv.record(record),
        }
    }

    fn finish(self) -> std::io::Result<usize> {
        match self {
            Sink::Ndjson(out, _) => out.flush().map(|()| 0),
            Sink::Csv(csv, columns) => csv.finish().map(|()| columns),
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
