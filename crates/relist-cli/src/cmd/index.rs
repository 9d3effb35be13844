//! `relist index`: the fields by which records are found without a scan.

use crate::app::App;
use crate::args::{self, IndexAction, IndexFields};
use crate::failure::{Exit, Failure};
use crate::output::{Datum, Member, left};

const MEMBERS: &[Member] = &[
    left("ResourceName", "RESOURCE"),
    left("FieldName", "FIELD"),
    left("Holds", "HOLDS"),
    left("By", "BY"),
];

pub(super) fn run(app: &mut App<'_>, args: &args::Index) -> Result<Exit, Failure> {
    match &args.action {
        IndexAction::List(of) => list(app, of.resource.as_deref()),
        IndexAction::Create(of) => set(app, of, true),
        IndexAction::Drop(of) => set(app, of, false),
    }
}

fn list(app: &mut App<'_>, resource: Option<&str>) -> Result<Exit, Failure> {
    let store = app.open()?;
    let snapshot = store.snapshot()?;
    let names: Vec<String> = if let Some(name) = resource {
        vec![name.to_owned()]
    } else {
        let all = snapshot.schema().resources.iter();
        all.map(|resource| resource.name.clone()).collect()
    };
    let mut rows = app.rows(MEMBERS)?;
    let mut empty = true;
    for name in &names {
        for index in snapshot.indexes(name)? {
            empty = false;
            rows.row(&[
                Datum::text(name),
                Datum::text(&index.name),
                Datum::text(snapshot.index_kind(name, index.field)?.name()),
                Datum::text(if index.declared {
                    "declared"
                } else {
                    "default"
                }),
            ])?;
        }
    }
    let cut = rows.finish()?;
    app.note_cut(cut);
    if empty {
        app.note("no field is indexed");
    }
    Ok(Exit::Ok)
}

fn set(app: &mut App<'_>, of: &IndexFields, indexed: bool) -> Result<Exit, Failure> {
    let store = app.open_writer()?;
    let mut txn = store.begin_write(app.now())?;
    let mut told = Vec::new();
    for field in &of.fields {
        let new = txn.set_index(&of.resource, field, indexed)?;
        told.push(match (new, indexed) {
            (true, true) => format!("{}.{field} is indexed", of.resource),
            (true, false) => format!("{}.{field} is indexed no more", of.resource),
            (false, true) => format!("{}.{field} was indexed already", of.resource),
            (false, false) => format!("{}.{field} was not indexed", of.resource),
        });
    }
    txn.commit()?;
    for line in told {
        app.note(&line);
    }
    Ok(Exit::Ok)
}
