//! `relist quarantine`: what could not be applied, kept whole.

use relist::store::{Quarantined, Snapshot};

use crate::app::App;
use crate::args::{self, QuarantineAction};
use crate::failure::{Exit, Failure};
use crate::output::{Datum, Member, left, right};
use crate::style::plural;

const MEMBERS: &[Member] = &[
    right("Number", "NUMBER"),
    left("ResourceName", "RESOURCE"),
    left("ObservedTimestamp", "OBSERVED"),
    left("Page", "PAGE"),
    right("Record", "RECORD"),
    left("FieldName", "FIELD"),
    left("Reason", "REASON"),
    right("Bytes", ""),
    right("Run", ""),
];

pub(super) fn run(app: &mut App<'_>, args: &args::Quarantine) -> Result<Exit, Failure> {
    match &args.action {
        QuarantineAction::List(of) => list(app, of.resource.as_deref()),
        QuarantineAction::Show(show) => self::show(app, show.number),
        QuarantineAction::Clear(of) => clear(app, of.resource.as_deref()),
    }
}

/// What is in quarantine, newest first.
pub(super) fn newest_first(snapshot: &Snapshot) -> Result<Vec<Quarantined>, Failure> {
    let mut items = snapshot.quarantined()?;
    items.sort_by(|a, b| {
        let place = |q: &Quarantined| (q.page.clone(), q.record);
        b.observed
            .cmp(&a.observed)
            .then_with(|| place(a).cmp(&place(b)))
    });
    Ok(items)
}

fn list(app: &mut App<'_>, resource: Option<&str>) -> Result<Exit, Failure> {
    let store = app.open()?;
    let items = newest_first(&store.snapshot()?)?;
    let mut rows = app.rows(MEMBERS)?;
    let mut empty = true;
    for (number, item) in (1..).zip(&items) {
        if resource.is_some_and(|name| name != item.resource) {
            continue;
        }
        empty = false;
        rows.row(&[
            Datum::number(number),
            Datum::text(&item.resource),
            Datum::time(Some(item.observed)),
            Datum::text(&item.page),
            item.record.map_or(Datum::null(), Datum::number),
            Datum::optional(item.field.as_deref()),
            Datum::text(&item.reason),
            Datum::count(item.raw_len),
            Datum::number(item.run),
        ])?;
    }
    let cut = rows.finish()?;
    app.note_cut(cut);
    if empty {
        app.note("nothing is in quarantine");
    }
    Ok(Exit::Ok)
}

fn show(app: &mut App<'_>, number: usize) -> Result<Exit, Failure> {
    let store = app.open()?;
    let items = newest_first(&store.snapshot()?)?;
    let Some(item) = number.checked_sub(1).and_then(|at| items.get(at)) else {
        let count = items.len() as u64;
        let held = plural(count, "entry", "entries");
        return Err(Failure::usage(
            format!("there is no number {number} in quarantine, which holds {held}"),
            "relist quarantine list shows them",
        ));
    };
    app.note(&format!("{} {}: {}", item.resource, item.page, item.reason));
    app.out.write_all(&item.raw)?;
    writeln!(app.out)?;
    let cut = item.raw_len.saturating_sub(item.raw.len() as u64);
    if cut > 0 {
        app.note(&format!(
            "{} more were not kept",
            plural(cut, "byte", "bytes")
        ));
    }
    Ok(Exit::Ok)
}

fn clear(app: &mut App<'_>, resource: Option<&str>) -> Result<Exit, Failure> {
    let store = app.open_writer()?;
    let mut txn = store.begin_write(app.now())?;
    let removed = txn.clear_quarantine(resource)?;
    txn.commit()?;
    app.note(&format!("removed {}", plural(removed, "entry", "entries")));
    Ok(Exit::Ok)
}
