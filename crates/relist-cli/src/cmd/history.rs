//! `relist history`: what happened to one record, as a timeline.

use std::fmt::Write as _;

use relist::keycode::Key;
use relist::record::Record;
use relist::schema::Resource;
use relist::store::{Change, FieldChange, Operation, Snapshot, Version};
use relist_export::CellText;

use super::changes::check_field;
use crate::app::{self, App};
use crate::args::History;
use crate::change::{self, MEMBERS, is_stamp, minute};
use crate::failure::{Exit, Failure};
use crate::output::Datum;
use crate::style::printable;

/// The longest value that a timeline shows.
const LONGEST: usize = 60;

/// Fields that say most, before the others.
const FIRST: &[&str] = &["StandardStatus", "ListPrice", "ClosePrice", "MlsStatus"];

pub(super) fn run(app: &mut App<'_>, args: &History) -> Result<Exit, Failure> {
    let store = app.open()?;
    let snapshot = store.snapshot()?;
    let key = app::key(&snapshot, &args.resource, &args.key)?;
    if let Some(field) = &args.field {
        check_field(&snapshot, Some(&args.resource), field)?;
    }
    let changes = snapshot.changes_of(&args.resource, &key)?;
    if changes.is_empty() {
        return Err(Failure::failed(
            format!("no {} with key {key} was ever seen", args.resource),
            "relist query lists what there is",
        ));
    }
    if app.is_text() {
        let field = args.field.as_deref();
        let text = timeline_of(app, &snapshot, &args.resource, &key, field)?;
        app.out.write_all(text.as_bytes())?;
        return Ok(Exit::Ok);
    }
    print_rows(
        app,
        &snapshot,
        (&args.resource, &key),
        &changes,
        args.field.as_deref(),
    )?;
    Ok(Exit::Ok)
}

/// The timeline of a record, as text.
pub(super) fn timeline_of(
    app: &App<'_>,
    snapshot: &Snapshot,
    resource: &str,
    key: &Key,
    field: Option<&str>,
) -> Result<String, Failure> {
    let changes = snapshot.changes_of(resource, key)?;
    let versions = snapshot.history(resource, key)?;
    let definition = snapshot.resource(resource)?;
    Ok(timeline(app, &definition, &changes, &versions, field))
}

/// The same lines as `changes` has; with a field, its first value as well.
fn print_rows(
    app: &mut App<'_>,
    snapshot: &Snapshot,
    record: (&str, &Key),
    changes: &[Change],
    field: Option<&str>,
) -> Result<(), Failure> {
    let versions = snapshot.history(record.0, record.1)?;
    let mut rows = app.rows(MEMBERS)?;
    for change in changes {
        if let Some(name) = field
            && matches!(change.operation, Operation::Insert | Operation::Relist)
            && change.fields.is_empty()
            && let Some(version) = versions.iter().find(|v| v.from == change.sequence)
            && let Some(id) = version.record.resource().field_id(name)
            && let Some(first) = version.record.cell(id)
        {
            for mut line in change::lines(change, &[]) {
                for (member, datum) in MEMBERS.iter().zip(&mut line) {
                    match member.name {
                        "FieldName" => *datum = Datum::text(name),
                        "NewValue" => *datum = Datum::cell(Some(first)),
                        _ => {}
                    }
                }
                rows.row(&line)?;
            }
            continue;
        }
        for line in change::lines(change, field.as_slice()) {
            rows.row(&line)?;
        }
    }
    rows.finish()?;
    Ok(())
}

/// When, what, and which fields: `previous -> new`.
fn timeline(
    app: &App<'_>,
    resource: &Resource,
    changes: &[Change],
    versions: &[Version],
    field: Option<&str>,
) -> String {
    let paint = app.paint();
    let mut text = String::new();
    let names = changes.iter().flat_map(|c| &c.fields).map(|f| f.name.len());
    let width = names.max().unwrap_or(0).min(32);
    for change in changes {
        let version = versions.iter().find(|v| v.from == change.sequence);
        let edits = change.fields.iter().filter(|f| match field {
            Some(name) => name == f.name,
            // A stamp that moves with the others says nothing new.
            None => !is_stamp(resource, &f.name) || change.fields.len() == 1,
        });
        let mut edits: Vec<&FieldChange> = edits.collect();
        // What a person looks for stands first.
        edits.sort_by_key(|f| {
            FIRST
                .iter()
                .position(|name| *name == f.name)
                .unwrap_or(usize::MAX)
        });
        if edits.is_empty() && change.operation == Operation::Update {
            continue;
        }
        let what = match change.operation {
            Operation::Insert => format!("insert{}", first_values(version, field)),
            Operation::Relist => format!("relist{}", first_values(version, field)),
            Operation::Delete if change.note.is_empty() => {
                format!("delete  ({})", change.cause.name())
            }
            Operation::Delete => format!("delete  {} ({})", change.note, change.cause.name()),
            other => other.name().to_owned(),
        };
        let when = minute(change.observed);
        let source = change.source_time.map(minute).filter(|s| *s != when);
        let source = source.map_or(String::new(), |s| format!("  stamped {s}"));
        let sequence = change.sequence;
        let _ = writeln!(
            text,
            "{}  {}  {}",
            paint.heading(&when),
            what,
            paint.dim(&format!("#{sequence}{source}"))
        );
        for edit in edits {
            let value = |cell| {
                let text = CellText::of(cell);
                match text {
                    CellText::Empty => "null".to_owned(),
                    _ if text.as_str().is_empty() => "\"\"".to_owned(),
                    _ => short(text.as_str()),
                }
            };
            let previous = edit.previous().map_or("absent".to_owned(), value);
            let new = edit.new_value().map_or("absent".to_owned(), value);
            let _ = writeln!(text, "    {:width$}  {previous} -> {new}", edit.name);
        }
    }
    text
}

/// What a record began with: the field asked for, else status and price where it has them.
fn first_values(version: Option<&Version>, field: Option<&str>) -> String {
    let Some(version) = version else {
        return String::new();
    };
    let value = |name: &str| {
        let id = version.record.resource().field_id(name)?;
        let text = CellText::of(Record::cell(&version.record, id)?);
        (text != CellText::Empty).then(|| format!("  {name} {}", short(text.as_str())))
    };
    match field {
        Some(name) => value(name).unwrap_or_default(),
        None => ["StandardStatus", "ListPrice"]
            .into_iter()
            .filter_map(value)
            .collect(),
    }
}

fn short(text: &str) -> String {
    let text = printable(text);
    if text.chars().count() <= LONGEST {
        return text;
    }
    let start: String = text.chars().take(LONGEST - 1).collect();
    format!("{start}…")
}
