//! `relist backup` and `relist restore`: the store's second file.

use relist::store::{CopyOptions, CopyReport, Store};

use crate::app::App;
use crate::args;
use crate::failure::{Exit, Failure};
use crate::output::{Datum, Member, left, right};
use crate::style::{bytes, plural};

const MEMBERS: &[Member] = &[
    left("File", "FILE"),
    right("Sequence", "SEQUENCE"),
    right("Records", "RECORDS"),
    right("Versions", "VERSIONS"),
    right("Bytes", "BYTES"),
    left("Clean", "CLEAN"),
];

pub(super) fn run(app: &mut App<'_>, args: &args::Backup) -> Result<Exit, Failure> {
    let target = app.path(&args.to);
    let store = app.open()?;
    let options = CopyOptions {
        replace: args.force,
        even_damaged: args.damaged,
    };
    let report = store.backup(&target, options);
    let report = report.map_err(|error| match Failure::from(error) {
        failure if target.exists() && !args.force => {
            failure.with_hint("name another file, or --force replaces this one")
        }
        failure if failure.exit() == Exit::Corrupt => failure.with_hint(
            "`relist verify` says what is damaged; --damaged keeps the copy all the same",
        ),
        failure => failure,
    })?;
    print(app, &args.to.display().to_string(), &report)
}

pub(super) fn restore(app: &mut App<'_>, args: &args::Restore) -> Result<Exit, Failure> {
    let path = app.store_path()?;
    let options = CopyOptions {
        replace: args.force,
        even_damaged: false,
    };
    let report = Store::restore(app.path(&args.from), &path, options);
    let report = report.map_err(|error| match Failure::from(error) {
        failure if failure.exit() == Exit::Failed && path.exists() && !args.force => {
            failure.with_hint("--force replaces the store; --store FILE restores to another file")
        }
        failure => failure,
    })?;
    print(app, &path.display().to_string(), &report)
}

fn print(app: &mut App<'_>, file: &str, report: &CopyReport) -> Result<Exit, Failure> {
    let clean = report.verified.is_clean();
    if app.is_text() {
        writeln!(
            app.out,
            "{file}: {}, {}, up to sequence {}, {}; {}",
            plural(report.verified.records, "record", "records"),
            plural(report.verified.versions, "version", "versions"),
            report.sequence,
            bytes(report.bytes),
            if clean { "verified" } else { "DAMAGED" },
        )?;
    } else {
        let mut rows = app.rows(MEMBERS)?;
        rows.row(&[
            Datum::text(file),
            Datum::number(report.sequence),
            Datum::count(report.verified.records),
            Datum::count(report.verified.versions),
            Datum::count(report.bytes),
            Datum::flag(clean),
        ])?;
        rows.finish()?;
    }
    Ok(if clean { Exit::Ok } else { Exit::Degraded })
}
