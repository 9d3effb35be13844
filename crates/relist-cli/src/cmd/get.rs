//! `relist get`: one record.

use std::fmt::Write as _;

use relist::record::Record;
use relist::store::AsOf;
use relist_export::{CellText, CsvRecords, LineEnd};

use crate::app::{self, App};
use crate::args::{Format, Get};
use crate::failure::{Exit, Failure};
use crate::style::printable;

pub(super) fn run(app: &mut App<'_>, args: &Get) -> Result<Exit, Failure> {
    let as_of = app.as_of(args.as_of.as_deref())?;
    let store = app.open()?;
    let snapshot = store.snapshot()?;
    let key = app::key(&snapshot, &args.resource, &args.key)?;
    app::reached(&snapshot, as_of)?;
    let at = as_of.unwrap_or(AsOf::Sequence(snapshot.sequence()));
    let Some(record) = snapshot.get_at(&args.resource, &key, at)? else {
        let versions = snapshot.changes_of(&args.resource, &key)?;
        let hint = if versions.is_empty() {
            "relist query lists what there is".to_owned()
        } else {
            format!(
                "it was there at another time: relist history {} {key}",
                args.resource
            )
        };
        let then = if as_of.is_some() { " at that time" } else { "" };
        return Err(Failure::failed(
            format!("no {} with key {key}{then}", args.resource),
            hint,
        ));
    };
    match app.format() {
        Format::Table => print_fields(app, &record)?,
        Format::Json | Format::Ndjson | Format::Arrow => {
            writeln!(app.out, "{}", record.to_json(None))?;
        }
        Format::Csv => {
            let resource = record.resource();
            let fields: Vec<_> = record.cells().map(|(field, _)| field).collect();
            let names = fields.iter().filter_map(|id| resource.field(*id));
            let names: Vec<&str> = names.map(|f| f.name.as_str()).collect();
            let mut csv =
                CsvRecords::begin(&mut *app.out, LineEnd::Lf, &fields, names.into_iter())?;
            csv.record(&record)?;
            csv.finish()?;
        }
    }
    Ok(Exit::Ok)
}

/// A field a line: its name, and its value as plain text.
fn print_fields(app: &mut App<'_>, record: &Record) -> Result<(), Failure> {
    let resource = record.resource();
    let named = record
        .cells()
        .filter_map(|(id, cell)| Some((resource.field(id)?, cell)));
    let named: Vec<_> = named.filter(|(_, cell)| !cell.is_null()).collect();
    let width = named
        .iter()
        .map(|(field, _)| field.name.len())
        .max()
        .unwrap_or(0);
    let paint = app.paint();
    let mut text = String::new();
    for (field, cell) in &named {
        let name = paint.heading(&field.name);
        let space = " ".repeat(width - field.name.len());
        let value = CellText::of(*cell);
        let _ = writeln!(text, "{name}{space}  {}", printable(value.as_str()));
    }
    app.out.write_all(text.as_bytes())?;
    let nulls = record.cells().count() - named.len();
    if nulls > 0 {
        app.note(&format!("{nulls} fields are null; -o json shows them"));
    }
    Ok(())
}
