//! `relist verify`: whether all parts of the store agree.

use std::collections::BTreeSet;
use std::path::PathBuf;

use relist::error::Error;
use relist::keycode::Key;
use relist::store::{Store, VerifyReport};

use crate::app::App;
use crate::args::{self, quoted_path};
use crate::failure::{Exit, Failure};
use crate::output::{Datum, Member, left, right};
use crate::style::{plural, printable, thousands};

const MEMBERS: &[Member] = &[
    left("Clean", "CLEAN"),
    right("Records", "RECORDS"),
    right("Versions", "VERSIONS"),
    right("Changes", "CHANGES"),
    right("Tombstones", "TOMBSTONES"),
    right("Problems", "PROBLEMS"),
    left("FirstProblem", ""),
    left("Pages", ""),
];

/// Whether the engine checked its own pages as well.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pages {
    Clean,
    Damaged(String),
    /// Another process writes: they cannot be checked beside it.
    NotChecked,
}

pub(super) fn run(app: &mut App<'_>, args: &args::Verify) -> Result<Exit, Failure> {
    if args.repair {
        return repair(app);
    }
    let (store, pages) = check_pages(app)?;
    let report = store.snapshot()?.verify()?;
    let clean = report.is_clean() && !matches!(pages, Pages::Damaged(_));
    if app.is_text() {
        print_text(app, &report, &pages)?;
    } else {
        let mut rows = app.rows(MEMBERS)?;
        rows.row(&[
            Datum::flag(clean),
            Datum::count(report.records),
            Datum::count(report.versions),
            Datum::count(report.changes),
            Datum::count(report.tombstones),
            Datum::count(report.problem_count),
            Datum::optional(report.problems.first().map(String::as_str)),
            Datum::text(match &pages {
                Pages::Clean => "clean",
                Pages::Damaged(_) => "damaged",
                Pages::NotChecked => "not checked",
            }),
        ])?;
        rows.finish()?;
    }
    if clean {
        return Ok(Exit::Ok);
    }
    Err(Failure::new(
        Exit::Corrupt,
        format!("{} is damaged", store.path().display()),
        "relist verify --repair makes it anew of what can be read, and keeps the damaged file; or \
         restore a copy",
    ))
}

const REPAIRED: &[Member] = &[
    left("ResourceName", "RESOURCE"),
    left("ResourceRecordKey", "KEY"),
];

/// Makes the store anew, and says what the feed is to be asked for.
fn repair(app: &mut App<'_>) -> Result<Exit, Failure> {
    // Waited for as ever, and in order: what was killed left a state to be made good first.
    let path = app.open_writer()?.path().to_owned();
    let repaired = Store::repair(&path).map_err(|error| {
        Failure::from(error).with_hint("the store is as it was: restore a copy of the file")
    })?;
    let (kept, changes) = (repaired.kept.display(), thousands(repaired.changes));
    app.note(&format!(
        "{changes} changes played again, {} versions made of others; the damaged file is {kept}",
        thousands(repaired.rebuilt)
    ));
    for lost in &repaired.lost {
        app.warn(&format!("lost: {lost}"));
    }
    if repaired.refetch.is_empty() {
        app.note("nothing of the current records is lost");
        return Ok(if repaired.lost.is_empty() {
            Exit::Ok
        } else {
            Exit::Degraded
        });
    }
    let mut hints = Vec::new();
    for resource in resources(&repaired.refetch) {
        let own = repaired.refetch.iter().filter(|(name, _)| name == resource);
        let keys: String = own
            .flat_map(|(_, key)| [key.to_string(), "\n".to_owned()])
            .collect();
        let mut list = path.as_os_str().to_owned();
        list.push(format!(".refetch-{resource}"));
        let list = PathBuf::from(list);
        let written = std::fs::write(&list, keys);
        written.map_err(|e| Failure::file("cannot write", &list, &e))?;
        let list = quoted_path(&list);
        hints.push(format!("relist sync {resource} --keys @{list}"));
    }
    let mut rows = app.rows(REPAIRED)?;
    for (resource, key) in &repaired.refetch {
        rows.row(&[Datum::text(resource), Datum::text(key.to_string())])?;
    }
    let cut = rows.finish()?;
    app.note_cut(cut);
    Err(Failure::new(
        Exit::Degraded,
        format!(
            "{} to be fetched again",
            plural(repaired.refetch.len() as u64, "record is", "records are")
        ),
        hints.join("; "),
    ))
}

fn resources(all: &[(String, Key)]) -> BTreeSet<&str> {
    all.iter().map(|(name, _)| name.as_str()).collect()
}

/// Has the engine check its pages when no other process writes, and opens the store for reading.
fn check_pages(app: &mut App<'_>) -> Result<(Store, Pages), Failure> {
    let pages = match app.open_writer() {
        Ok(mut store) => match store.check_integrity() {
            Ok(()) => Pages::Clean,
            Err(Error::Corrupt { what }) => Pages::Damaged(what),
            Err(error) => return Err(error.into()),
        },
        Err(Failure::Told(told)) if told.exit == Exit::Busy => Pages::NotChecked,
        Err(failure) => return Err(failure),
    };
    Ok((app.open()?, pages))
}

fn print_text(app: &mut App<'_>, report: &VerifyReport, pages: &Pages) -> Result<(), Failure> {
    for (name, count) in [
        ("records", report.records),
        ("versions", report.versions),
        ("changes", report.changes),
        ("tombstones", report.tombstones),
    ] {
        writeln!(app.out, "{name:10}  {:>12}", thousands(count))?;
    }
    match pages {
        Pages::Clean => writeln!(app.out, "{:10}  {:>12}", "pages", "clean")?,
        Pages::Damaged(what) => writeln!(app.out, "pages: {}", printable(what))?,
        Pages::NotChecked => {
            app.warn("another process writes to the store: the file's pages were not checked");
        }
    }
    for problem in &report.problems {
        writeln!(app.out, "problem: {}", printable(problem))?;
    }
    let more = report
        .problem_count
        .saturating_sub(report.problems.len() as u64);
    if more > 0 {
        writeln!(
            app.out,
            "and {}",
            plural(more, "more problem", "more problems")
        )?;
    }
    if report.is_clean() && !matches!(pages, Pages::Damaged(_)) {
        writeln!(
            app.out,
            "clean: the log, folded from its start, gives the records"
        )?;
    }
    Ok(())
}
