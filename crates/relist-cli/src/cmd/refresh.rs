//! `relist sync RESOURCE --keys ..`: given records fetched again, with what belongs to them.

use std::path::Path;

use relist::error::Error;
use relist::keycode::Key;
use relist::source::PageSource;
use relist::store::{RunReport, Snapshot, Store};
use relist::sync::{Refresh, Refreshed, Related, SyncMode, SyncOptions};
use relist_feed::WebApi;

use crate::app::{self, App};
use crate::failure::{Exit, Failure};
use crate::output::{Datum, Member, left, right};
use crate::progress::{Bar, Measured};

/// The most requests in flight: vendors close connections beyond ten.
const IN_FLIGHT: usize = 5;

const MEMBERS: &[Member] = &[
    left("ResourceName", "RESOURCE"),
    left("ResourceRecordKey", "KEY"),
    left("Outcome", "OUTCOME"),
    right("Records", "RECORDS"),
    right("Related", "RELATED"),
    left("Reason", "REASON").if_any(),
];

/// What to fetch: `synced` are the resources that may hold what belongs to the records.
pub(super) struct Wanted<'a> {
    pub(super) resources: &'a [String],
    pub(super) keys: &'a [String],
    pub(super) synced: &'a [String],
}

pub(super) fn run(
    app: &mut App<'_>,
    store: &Store,
    api: &WebApi,
    wanted: &Wanted<'_>,
) -> Result<Exit, Failure> {
    let [resource] = wanted.resources else {
        return Err(Failure::usage(
            "--keys needs the one resource whose keys they are",
            "write relist sync Property --keys 123,456",
        ));
    };
    let snapshot = store.snapshot()?;
    let texts = texts(app, wanted.keys)?;
    let keys = texts.iter().map(|key| app::key(&snapshot, resource, key));
    let keys = keys.collect::<Result<Vec<Key>, Failure>>()?;
    let related = related(&snapshot, api, resource, wanted.synced)?;
    drop(snapshot);
    let policy = api.profile().policy(resource)?;
    let refresh = Refresh {
        resource,
        keys: &keys,
        related: &related,
        policy: &policy,
        in_flight: IN_FLIGHT,
    };
    let now = app.environment.now;
    let options = SyncOptions {
        mode: SyncMode::Auto,
        max_pages: None,
        confirm: false,
        now: &now,
    };
    let connect = || Box::new(api.clone()) as Box<dyn PageSource>;
    let bar = Bar::records(app.shows_progress(), None, resource);
    let progress = |report: &RunReport| bar.at(report.records);
    let mut progress = Measured {
        advanced: progress,
        peak_memory: app.environment.peak_memory,
    };
    let (_, mut results) = store.refresh(&refresh, &connect, &options, &mut progress)?;
    bar.clear();
    // They come as the feed answers; a reader looks for them as they were asked for.
    results.sort_by_key(|r| keys.iter().position(|key| *key == r.key));
    print(app, resource, results)
}

/// The keys as they were typed; for `@FILE`, its lines.
fn texts(app: &App<'_>, typed: &[String]) -> Result<Vec<String>, Failure> {
    let mut out = Vec::new();
    for text in typed.iter().map(|text| text.trim()) {
        let Some(file) = text.strip_prefix('@') else {
            out.push(text.to_owned());
            continue;
        };
        let path = app.path(Path::new(file));
        let read = std::fs::read_to_string(&path);
        let read = read.map_err(|e| Failure::file("cannot read", &path, &e))?;
        let lines = read.lines().map(str::trim).filter(|line| !line.is_empty());
        out.extend(lines.map(str::to_owned));
    }
    Ok(out)
}

/// Resources of which a field holds the key: OpenHouse has ListingKeyNumeric.
fn related(
    snapshot: &Snapshot,
    api: &WebApi,
    resource: &str,
    synced: &[String],
) -> Result<Vec<Related>, Failure> {
    let key_field = snapshot.resource(resource)?.key_field.clone();
    let others = snapshot.schema().resources.iter();
    let others = others.filter(|other| {
        other.name != resource
            && synced.contains(&other.name)
            && other.field_id(&key_field).is_some()
    });
    others
        .map(|other| {
            Ok(Related {
                resource: other.name.clone(),
                field: key_field.clone(),
                policy: api.profile().policy(&other.name)?,
            })
        })
        .collect()
}

fn print(app: &mut App<'_>, resource: &str, results: Vec<Refreshed>) -> Result<Exit, Failure> {
    let mut failed = None;
    let mut rows = app.rows(MEMBERS)?;
    for result in results {
        let (outcome, own, belonging, reason) = match &result.outcome {
            Ok(found) => {
                let count = |own: bool| {
                    let counted = found.iter().filter(|(name, _)| (name == resource) == own);
                    counted.map(|(_, count)| count).sum::<u64>()
                };
                let outcome = if count(true) == 0 { "gone" } else { "fetched" };
                (outcome, count(true), count(false), None)
            }
            Err(error) => ("failed", 0, 0, Some(error.to_string())),
        };
        rows.row(&[
            Datum::text(resource),
            Datum::text(result.key.to_string()),
            Datum::text(outcome),
            Datum::count(own),
            Datum::count(belonging),
            Datum::optional(reason),
        ])?;
        if let Err(error) = result.outcome {
            failed.get_or_insert(error);
        }
    }
    let cut = rows.finish()?;
    app.note_cut(cut);
    match failed {
        Some(Error::Stopped) => Err(Failure::stopped()),
        Some(error) => Err(error.into()),
        None => Ok(Exit::Ok),
    }
}
