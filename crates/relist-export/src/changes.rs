//! Changes as a table: for warehouses, and in the shape of RESO's HistoryTransactional resource.

use std::io::Write;

use relist::odata::Query;
use relist::query::{CHANGES, ChangeRow, QueryContext};
use relist::record::Cell;
use relist::store::{Operation, Snapshot};
use relist::value::Timestamp;

use crate::csv::LineEnd;
use crate::error::ExportError;
use crate::file::{Target, into_file};
use crate::flat::{Flat, FlatType, FlatWriter, shape_of};
use crate::manifest::Manifest;
use crate::write::{Format, Request, Summary};

/// The columns that a change's rows have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeShape {
    /// Ours: what `relist changes` prints.
    Relist,
    /// RESO's HistoryTransactional (Data Dictionary 2.0).
    History,
}

const RELIST: &[(&str, FlatType)] = &[
    ("Sequence", FlatType::Int),
    ("ResourceName", FlatType::Text),
    ("ResourceRecordKey", FlatType::Text),
    ("Operation", FlatType::Text),
    ("FieldName", FlatType::Text),
    ("PreviousValue", FlatType::Text),
    ("NewValue", FlatType::Text),
    ("ModificationTimestamp", FlatType::Time),
    ("ObservedTimestamp", FlatType::Time),
    ("Cause", FlatType::Text),
];

const HISTORY: &[(&str, FlatType)] = &[
    ("HistoryTransactionalKey", FlatType::Text),
    ("ResourceName", FlatType::Text),
    ("ResourceRecordKey", FlatType::Text),
    ("FieldName", FlatType::Text),
    ("PreviousValue", FlatType::Text),
    ("NewValue", FlatType::Text),
    ("ChangeType", FlatType::Text),
    ("ModificationTimestamp", FlatType::Time),
    ("EntityEventSequence", FlatType::Int),
];

/// Lookup `ChangeType` of the Data Dictionary: the statuses that are events of their own.
const STATUSES: [&str; 10] = [
    "Active",
    "Active Under Contract",
    "Canceled",
    "Closed",
    "Coming Soon",
    "Expired",
    "Hold",
    "Incomplete",
    "Pending",
    "Withdrawn",
];

impl ChangeShape {
    pub(crate) fn columns(self) -> &'static [(&'static str, FlatType)] {
        match self {
            ChangeShape::Relist => RELIST,
            ChangeShape::History => HISTORY,
        }
    }

    /// The row of a change.
    fn row(self, row: &ChangeRow<'_>) -> Vec<Flat> {
        let text = |text: &str| Flat::Text(text.to_owned());
        let key = row.key.map_or(Flat::Null, |k| Flat::Text(k.to_string()));
        let field = row.field.map_or(Flat::Null, text);
        let stamp = row.source_time.map_or(Flat::Null, Flat::Time);
        let sequence = Flat::Int(i64::try_from(row.sequence).unwrap_or(i64::MAX));
        let resource = text(row.resource);
        let json =
            |cell: Option<Cell<'_>>| cell.map_or(Flat::Null, |cell| Flat::Json(cell.to_json()));
        let (previous, new) = (json(row.previous()), json(row.new_value()));
        match self {
            ChangeShape::Relist => {
                let is_schema = row.field.is_none() && row.key.is_none();
                vec![
                    sequence,
                    resource,
                    key,
                    text(row.operation.name()),
                    field,
                    previous,
                    if is_schema { text(row.note) } else { new },
                    stamp,
                    Flat::Time(row.observed),
                    text(row.cause.name()),
                ]
            }
            ChangeShape::History => vec![
                Flat::Text(match row.field {
                    Some(field) => format!("{}-{field}", row.sequence),
                    None => row.sequence.to_string(),
                }),
                resource,
                key,
                field,
                as_text(previous),
                as_text(new),
                change_type(row).map_or(Flat::Null, Flat::Text),
                stamp,
                sequence,
            ],
        }
    }
}

/// A value as RESO has it in a history: always a string.
fn as_text(value: Flat) -> Flat {
    match value {
        Flat::Json(json) if json == "null" => Flat::Null,
        Flat::Json(json) if json.starts_with('"') => match serde_json::from_str(&json) {
            Ok(text) => Flat::Text(text),
            Err(_) => Flat::Text(json),
        },
        Flat::Json(json) => Flat::Text(json),
        other => other,
    }
}

/// The business event that a row is, where it is one.
fn change_type(row: &ChangeRow<'_>) -> Option<String> {
    let event = match (row.operation, row.field) {
        (Operation::Insert, None) => "New Listing",
        (Operation::Delete, None) => "Deleted",
        (Operation::Relist, None) => "Back On Market",
        (_, Some("ListPrice")) => "Price Change",
        (_, Some("StandardStatus")) => {
            let text = |cell: Cell<'_>| cell.to_json().trim_matches('"').to_owned();
            let (previous, new) = (row.previous().map(text), row.new_value().map(text)?);
            if new == "Active" && previous.is_some_and(|p| !p.is_empty() && p != "Coming Soon") {
                return Some("Back On Market".to_owned());
            }
            return STATUSES.contains(&new.as_str()).then_some(new);
        }
        _ => return None,
    };
    Some(event.to_owned())
}

/// Which changes to export.
#[derive(Debug, Clone, Copy)]
pub struct ChangesRequest<'a> {
    /// Those after this sequence.
    pub since: u64,
    /// Which of them: a `$filter` on the resource `changes`.
    pub filter: Option<&'a str>,
    /// As of when.
    pub context: &'a QueryContext,
    /// The columns.
    pub shape: ChangeShape,
    /// In which format.
    pub format: Format,
    /// How lines of CSV end.
    pub lines: LineEnd,
}

/// Writes changes in the order of their sequence.
///
/// # Errors
/// As [`write`](crate::write()); [`relist::error::Error::Pruned`] where they are not all held.
pub fn write_changes(
    snapshot: &Snapshot,
    request: &ChangesRequest<'_>,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<Summary, ExportError> {
    let mut condition = format!("Sequence gt {}", request.since);
    if request.shape == ChangeShape::History {
        condition.push_str(" and Operation ne 'schema'");
    }
    if let Some(filter) = request.filter {
        // Refused by itself first: so an error's place is one in what was written.
        Query::new(CHANGES).filter(filter)?;
        condition = format!("{condition} and ({filter})");
    }
    let query = Query::new(CHANGES).filter(&condition)?;
    let until = match request.context.as_of {
        Some(at) => snapshot.resolve(at)?,
        None => snapshot.sequence(),
    };
    let columns = request.shape.columns();
    let metadata = vec![("relist.sequence".to_owned(), until.to_string())];
    let how = (request.format, request.lines);
    let mut table = FlatWriter::begin(columns, how, (CHANGES, metadata), out)?;
    let mut failed = None;
    snapshot.query_changes(&query, request.context, &mut |row, _| {
        if let Err(error) = table.row(request.shape.row(row)) {
            failed = Some(error);
        } else if !progress(table.len()) {
            failed = Some(ExportError::Stopped);
        }
        Ok(failed.is_none())
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let shape = shape_of(columns);
    Ok(Summary {
        records: table.finish()?,
        digest: shape.digest(),
        columns: shape.columns,
        sequence: until,
        ..Summary::default()
    })
}

/// Writes the changes from one sequence to another as Parquet; how many rows there are.
pub(crate) fn write_range(
    snapshot: &Snapshot,
    (first, last): (u64, u64),
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<u64, ExportError> {
    let until = format!("Sequence le {last}");
    let request = ChangesRequest {
        since: first.saturating_sub(1),
        filter: Some(&until),
        context: &QueryContext::new(Timestamp(0)),
        shape: ChangeShape::Relist,
        format: Format::Parquet,
        lines: LineEnd::CrLf,
    };
    Ok(write_changes(snapshot, &request, out, progress)?.records)
}

/// Exports changes into a file: see [`export`](crate::export).
///
/// # Errors
/// As [`write_changes`] and [`export`](crate::export).
pub fn export_changes(
    snapshot: &Snapshot,
    request: &ChangesRequest<'_>,
    target: &Target,
    replace: bool,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<(Summary, Manifest), ExportError> {
    let (summary, written) = into_file(target, replace, |out| {
        write_changes(snapshot, request, out, progress)
    })?;
    let mut query = Query::new(CHANGES);
    if let Some(filter) = request.filter {
        query = query.filter(filter)?;
    }
    let own = Request {
        query: &query,
        context: request.context,
        format: request.format,
        lines: request.lines,
    };
    let mut manifest = Manifest::of(&own, &summary, &written);
    manifest.since = Some(request.since);
    Ok((summary, manifest))
}
