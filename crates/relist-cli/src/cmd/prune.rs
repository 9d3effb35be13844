//! `relist prune`: history that is older than wanted goes.

use relist::value::Timestamp;

use crate::app::App;
use crate::args;
use crate::failure::{Exit, Failure};
use crate::moment;
use crate::output::{Datum, Member, left, right};
use crate::style::plural;

const MEMBERS: &[Member] = &[
    right("Edge", "EDGE"),
    right("Changes", "CHANGES"),
    right("Versions", "VERSIONS"),
    left("HeldBy", "HELD BY"),
];

pub(super) fn run(app: &mut App<'_>, args: &args::Prune) -> Result<Exit, Failure> {
    let keep = moment::span("--keep", &args.keep)?;
    let before = Timestamp(app.now().0.saturating_sub(keep));
    let store = app.open_writer()?;
    let report = store.prune(before, app.now())?;
    if app.is_text() {
        let changes = plural(report.changes, "change", "changes");
        let versions = plural(report.versions, "version", "versions");
        writeln!(app.out, "removed {changes} and {versions}")?;
        if report.edge > 0 {
            let edge = report.edge;
            writeln!(app.out, "the past can be asked for from sequence {edge} on")?;
        }
    } else {
        let mut rows = app.rows(MEMBERS)?;
        rows.row(&[
            Datum::number(report.edge),
            Datum::count(report.changes),
            Datum::count(report.versions),
            Datum::optional(report.held_by.as_deref()),
        ])?;
        rows.finish()?;
    }
    if let Some(name) = &report.held_by {
        app.note(&format!(
            "the watcher {name} has still to deliver what came after sequence {}: it stays",
            report.edge
        ));
    }
    if report.changes > 0 {
        app.note("the space is used again; relist compact gives it back to the file system");
    }
    Ok(Exit::Ok)
}
