//! `relist purge`: records removed for good, and a certificate of it.

use std::collections::BTreeMap;
use std::path::Path;

use relist::media;
use relist::store::{HeldFile, PurgeReport, Scope, Store};
use relist::value::Timestamp;

use crate::app::{self, App};
use crate::args;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::{Datum, Member, left, right};
use crate::style::{plural, thousands};

const MEMBERS: &[Member] = &[
    left("PurgedTimestamp", "PURGED"),
    left("Store", "STORE"),
    left("Scope", "SCOPE"),
    right("Sequence", "SEQUENCE"),
    right("Records", "RECORDS"),
    right("Versions", "VERSIONS"),
    right("Changes", "CHANGES"),
    right("Tombstones", "TOMBSTONES"),
    right("Quarantined", "QUARANTINED"),
    right("Media", "MEDIA"),
    right("Files", "FILES"),
    right("Texts", "TEXTS"),
    right("TextsFound", "TEXTS FOUND"),
    right("Pieces", "PIECES"),
    right("PiecesFound", "PIECES FOUND"),
    left("Complete", "COMPLETE"),
];

/// A deletion that a watcher has not delivered waits so long for it.
const WAIT_MICROS: i64 = 86_400_000_000;

pub(super) fn run(app: &mut App<'_>, args: &args::Purge) -> Result<Exit, Failure> {
    let config = app.config()?;
    let mut store = app.open_writer()?;
    let (scope, words) = scope(&store, args)?;
    let whole = matches!(scope, Scope::All | Scope::Resource(_));
    if whole && !args.confirm {
        return Err(Failure::usage(
            format!("{words} would be removed for good"),
            "say --confirm if that is meant; relist backup FILE keeps a copy",
        ));
    }
    let folder = super::media::folder(app, config.as_ref(), args.dir.as_deref())?;
    let now = app.now();
    let report = store.purge(&scope, now, &mut |held| remove(&folder, held))?;
    print(app, &store, &words, now, &report)?;
    if report.is_complete() {
        return Ok(Exit::Ok);
    }
    Err(Failure::new(
        Exit::Degraded,
        "something of what was purged is still in the file",
        "run relist purge again, and report this with the figures above: it must not be",
    ))
}

fn scope(store: &Store, args: &args::Purge) -> Result<(Scope, String), Failure> {
    if args.all {
        return Ok((Scope::All, "everything".to_owned()));
    }
    let snapshot = store.snapshot()?;
    if args.key.is_empty() {
        return Ok(match &args.resource {
            Some(name) => {
                snapshot.resource(name)?;
                (Scope::Resource(name.clone()), format!("all of {name}"))
            }
            None => (Scope::Rest, "what was purged before".to_owned()),
        });
    }
    let resource = args.resource.as_deref().unwrap_or("Property");
    let keys = args.key.iter();
    let keys: Vec<_> = keys
        .map(|text| app::key(&snapshot, resource, text))
        .collect::<Result<_, _>>()?;
    let words = format!("{resource} {}", args.key.join(", "));
    let records = BTreeMap::from([(resource.to_owned(), keys)]);
    Ok((Scope::Records(records), words))
}

fn remove(folder: &Path, held: &HeldFile) -> relist::error::Result<bool> {
    media::remove_file(folder, held)
}

/// Purges what the feed took back, where the licence asks for it.
pub(super) fn revoked(
    app: &mut App<'_>,
    store: &mut Store,
    config: Option<&Config>,
    resources: &[String],
) -> Result<(), Failure> {
    let now = app.now();
    let before = Timestamp(now.0.saturating_sub(WAIT_MICROS));
    let snapshot = store.snapshot()?;
    let mut records = BTreeMap::new();
    for resource in resources {
        if snapshot.resource(resource).is_err() {
            continue;
        }
        let keys = snapshot.revoked(resource, before)?;
        if !keys.is_empty() {
            records.insert(resource.clone(), keys);
        }
    }
    let unfinished = snapshot.purge_is_unfinished()?;
    drop(snapshot);
    if records.is_empty() && !unfinished {
        return Ok(());
    }
    let scope = if records.is_empty() {
        Scope::Rest
    } else {
        Scope::Records(records)
    };
    let folder = super::media::folder(app, config, None)?;
    let report = store.purge(&scope, now, &mut |held| remove(&folder, held))?;
    app.note(&format!(
        "purged {} that the feed took back, with {} and {}",
        plural(report.records, "record", "records"),
        plural(report.versions, "version", "versions"),
        plural(report.files, "file", "files"),
    ));
    if report.is_complete() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Degraded,
        "something of what was purged is still in the file",
        "run relist purge, which looks again and says what it found",
    ))
}

fn print(
    app: &mut App<'_>,
    store: &Store,
    words: &str,
    now: Timestamp,
    report: &PurgeReport,
) -> Result<(), Failure> {
    let file = store.path().display().to_string();
    if !app.is_text() {
        let mut rows = app.rows(MEMBERS)?;
        rows.row(&[
            Datum::time(Some(now)),
            Datum::text(&file),
            Datum::text(words),
            Datum::number(report.sequence),
            Datum::count(report.records),
            Datum::count(report.versions),
            Datum::count(report.changes),
            Datum::count(report.tombstones),
            Datum::count(report.quarantined),
            Datum::count(report.media),
            Datum::count(report.files),
            Datum::count(report.texts),
            Datum::count(report.texts_found),
            Datum::count(report.pieces),
            Datum::count(report.pieces_found),
            Datum::flag(report.is_complete()),
        ])?;
        rows.finish()?;
        return Ok(());
    }
    let when = Datum::time(Some(now)).for_table();
    writeln!(app.out, "Certificate of a purge")?;
    writeln!(app.out, "{:12}  {when}", "when")?;
    writeln!(app.out, "{:12}  {file}", "store")?;
    writeln!(app.out, "{:12}  {words}", "purged")?;
    for (name, count) in [
        ("records", report.records),
        ("versions", report.versions),
        ("changes", report.changes),
        ("tombstones", report.tombstones),
        ("quarantined", report.quarantined),
        ("media", report.media),
        ("files", report.files),
    ] {
        writeln!(app.out, "{name:12}  {:>10}", thousands(count))?;
    }
    writeln!(
        app.out,
        "looked for    {} in all that is stored, decompressed: {} found\n\
         {:12}  {} in the bytes of the file, as they were stored: {} found",
        plural(report.texts, "text", "texts"),
        thousands(report.texts_found),
        "",
        plural(report.pieces, "piece", "pieces"),
        thousands(report.pieces_found),
    )?;
    let result = if report.is_complete() {
        "nothing of it is left in the store"
    } else {
        "NOT COMPLETE"
    };
    writeln!(app.out, "{:12}  {result}", "result")?;
    app.note("not reached: backups, exports, and what a disk keeps of deleted files");
    Ok(())
}
