//! `relist sync`: the store brought up to date with the feed, resource by resource.

use std::fmt::Write as _;

use relist::error::{Error, SourceErrorKind};
use relist::store::{Outcome, RunKind, RunReport, Store, WalkPosition};
use relist::sync::{SyncMode, SyncOptions, WalkKind};
use relist::value::Timestamp;
use relist_feed::{OnRevoke, Profile, WebApi};

use super::purge;
use super::refresh::{self, Wanted};
use super::report::{self, Done};
use crate::app::App;
use crate::args;
use crate::config;
use crate::failure::{Exit, Failure};
use crate::feed;
use crate::output::{Datum, Member, left, right};
use crate::progress::{Bar, Measured};
use crate::style::{printable, thousands};

pub(super) fn run(app: &mut App<'_>, args: &args::Sync) -> Result<Exit, Failure> {
    let Some(config) = app.config()? else {
        return Err(config::missing(&app.environment.directory).with_hint(
            "a sync needs a feed: relist init writes relist.toml; relist demo has one",
        ));
    };
    let profile = feed::profile(&config)?;
    let (resources, chosen) = match (&args.resources, &config.resources) {
        (typed, _) if !typed.is_empty() => (typed.clone(), true),
        (_, Some(configured)) => (configured.clone(), true),
        _ => (profile.sync.clone(), false),
    };
    if args.dry_run {
        let store = app.open()?;
        return plan(app, &store, &profile, &resources, args);
    }
    let credentials =
        feed::credentials(app, &config, &profile)?.ok_or_else(|| feed::no_credentials(&profile))?;
    let api = feed::connect(app, &config, profile, credentials)?;
    let mut store = app.open_writer()?;
    (app.environment.catch_interrupt)(&app.environment.stop);
    let declared = define(app, &store, &api)?;
    if !args.keys.is_empty() {
        let wanted = Wanted {
            resources: &args.resources,
            keys: &args.keys,
            synced: config.resources.as_ref().unwrap_or(&api.profile().sync),
        };
        return refresh::run(app, &store, &api, &wanted);
    }
    let mut done = Vec::new();
    let mut failures = Vec::new();
    for resource in &resources {
        match sync_one(app, &store, &api, resource, args) {
            Ok(one) => done.push(one),
            // Of the provider's whole list, this feed may serve a part.
            Err(Error::Source(error))
                if error.kind == SourceErrorKind::NotFound
                    && !chosen
                    && declared
                        .as_ref()
                        .is_some_and(|names| !names.contains(resource)) =>
            {
                app.note(&format!("{resource}: this feed does not have it"));
            }
            Err(error) => failures.push((resource.clone(), error.into())),
        }
        if app.environment.stopped() {
            break;
        }
    }
    let purges = config.on_revoke.unwrap_or(api.profile().on_revoke) == OnRevoke::Purge;
    if purges && !app.environment.stopped() {
        purge::revoked(app, &mut store, Some(&config), &resources)?;
    }
    finish(app, &store, args, &done, failures)
}

/// Takes over what the feed's `$metadata` declares, and says which resources that are.
fn define(app: &mut App<'_>, store: &Store, api: &WebApi) -> Result<Option<Vec<String>>, Failure> {
    let begun = app.now();
    let schema = match feed::schema(app, api) {
        Ok(schema) => schema,
        Err(failure) => {
            if let (Failure::Told(told), false) = (&failure, app.environment.stopped()) {
                note_failed(app, store, api, begun, told.message.clone())?;
            }
            return Err(failure);
        }
    };
    let Some(schema) = schema else {
        app.detail("the feed has no $metadata: fields are learnt from the records");
        return Ok(None);
    };
    let mut txn = store.begin_write(app.now())?;
    txn.define(&schema)?;
    txn.commit()?;
    Ok(Some(schema.resources.into_iter().map(|r| r.name).collect()))
}

/// Leaves a report of a sync that failed before its first page: a feed that cannot be had must be
/// seen in `relist report` too.
fn note_failed(
    app: &App<'_>,
    store: &Store,
    api: &WebApi,
    begun: Timestamp,
    reason: String,
) -> Result<(), Failure> {
    let spent = api.stats().snapshot();
    let mut txn = store.begin_write(app.now())?;
    let report = RunReport {
        run: txn.new_run(),
        resource: "$metadata".to_owned(),
        kind: RunKind::Metadata,
        started: Some(begun),
        finished: Some(app.now()),
        outcome: Outcome::Failed(reason),
        requests: spent.requests,
        retries: spent.retries,
        received: spent.bytes,
        waited_micros: u64::try_from(spent.waited.as_micros()).unwrap_or(u64::MAX),
        peak_memory: (app.environment.peak_memory)(),
        ..RunReport::default()
    };
    txn.put_run(&report)?;
    txn.commit()?;
    Ok(())
}

/// Prints the reports, and how the command ends.
fn finish(
    app: &mut App<'_>,
    store: &Store,
    args: &args::Sync,
    done: &[Done],
    failures: Vec<(String, Failure)>,
) -> Result<Exit, Failure> {
    let mut exit = report::print(app, done)?;
    if app.environment.stopped() {
        return Err(Failure::stopped());
    }
    let quarantined = done.iter().map(|d| d.report.quarantined).sum();
    if args.max_pages.is_some() && exit == Exit::Degraded && quarantined == 0 {
        let snapshot = store.snapshot()?;
        // A walk that is yet to end stopped where it was told to.
        let mut told = true;
        for run in done
            .iter()
            .filter(|d| d.report.outcome != Outcome::Complete)
        {
            told &= snapshot.checkpoint(&run.report.resource)?.walk.is_some();
        }
        if told {
            exit = Exit::Ok;
        }
    }
    tell(app, failures)?;
    report::end(exit, quarantined)
}

/// Tells the failures of single resources; the worst of them is the command's own.
fn tell(app: &mut App<'_>, mut failures: Vec<(String, Failure)>) -> Result<(), Failure> {
    let worst = (0..failures.len()).reduce(|a, b| {
        let exit = |at: usize| failures.get(at).map_or(Exit::Ok, |(_, f)| f.exit());
        if exit(a).worst(exit(b)) == exit(a) {
            a
        } else {
            b
        }
    });
    let Some(worst) = worst else {
        return Ok(());
    };
    let (resource, last) = failures.remove(worst);
    let colour = app.environment.err.colour;
    app.out.flush()?;
    for (resource, failure) in failures {
        failure.of(&resource).report(app.err, colour);
    }
    Err(last.of(&resource))
}

fn sync_one(
    app: &mut App<'_>,
    store: &Store,
    api: &WebApi,
    resource: &str,
    args: &args::Sync,
) -> Result<Done, Error> {
    let policy = api.profile().policy(resource);
    let policy = policy.map_err(|e| Error::Usage(e.to_string()))?;
    let before = api.stats().snapshot().requests;
    let begun = app.now();
    let mode = mode(args);
    let live = store.snapshot()?.count(resource).unwrap_or(0);
    let bar = Bar::records(app.shows_progress(), None, resource);
    let stats = api.stats();
    let progress = |report: &RunReport| {
        if let Some(expected) = report.expected.filter(|_| report.kind == RunKind::Full) {
            bar.total(expected.max(live.min(report.records)));
        }
        bar.at(report.records);
        let counters = stats.snapshot();
        let mut words = format!("{} pages", thousands(report.pages));
        if counters.retries > 0 {
            let _ = write!(words, ", {} retries", thousands(counters.retries));
        }
        bar.message(words);
    };
    let now = app.environment.now;
    let options = SyncOptions {
        mode,
        max_pages: args.max_pages,
        confirm: args.confirm,
        now: &now,
    };
    let mut source = api.clone();
    let mut progress = Measured {
        advanced: progress,
        peak_memory: app.environment.peak_memory,
    };
    let report = store.sync(resource, &mut source, &policy, &options, &mut progress);
    bar.clear();
    let report = report?;
    if let (Outcome::Complete, true) = (&report.outcome, app.global.verbose) {
        app.detail(&format!(
            "{resource}: {} field changes",
            thousands(report.field_changes)
        ));
    }
    let requests = api.stats().snapshot().requests - before;
    Ok(Done {
        report,
        requests,
        micros: app.now().0 - begun.0,
    })
}

fn mode(args: &args::Sync) -> SyncMode {
    match args.deep {
        Some((slice, of)) => SyncMode::Deep { slice, of },
        None if args.reconcile => SyncMode::Reconcile,
        None if args.full => SyncMode::Full,
        None => SyncMode::Auto,
    }
}

impl Failure {
    /// Says which resource it is about.
    fn of(mut self, resource: &str) -> Self {
        if let Failure::Told(told) = &mut self
            && !told.message.starts_with(resource)
        {
            told.message = format!("{resource}: {}", told.message);
        }
        self
    }
}

const PLAN: &[Member] = &[
    left("ResourceName", "RESOURCE"),
    left("Kind", "KIND"),
    left("Since", "SINCE"),
    left("Walk", "WALK"),
    right("PageSize", "PAGE SIZE"),
    left("Resumes", "GOES ON AT"),
    right("Records", "RECORDS NOW"),
];

/// What a sync would do. Nothing is sent.
fn plan(
    app: &mut App<'_>,
    store: &Store,
    profile: &Profile,
    resources: &[String],
    args: &args::Sync,
) -> Result<Exit, Failure> {
    let snapshot = store.snapshot()?;
    let (now, mut overdue) = (app.now(), Vec::new());
    let mut rows = app.rows(PLAN)?;
    for resource in resources {
        let policy = profile.policy(resource)?;
        let plan = store.sync_plan(resource, &policy, mode(args), now)?;
        let by_link = policy.walk == WalkKind::NextLink && plan.kind != RunKind::Deep;
        let walk = match (&plan.events, by_link) {
            (Some(_), _) => "events",
            (None, true) => "nextLink",
            (None, false) => "keyset",
        };
        let resumed = Some(&plan.walk).filter(|walk| walk.pages > 0);
        let place = resumed.map(|walk| match &walk.position {
            WalkPosition::Start => "its start".to_owned(),
            WalkPosition::After(key) => format!("key {key}"),
            WalkPosition::Link(_) => format!("page {}", walk.pages + 1),
        });
        if plan.reconciles {
            overdue.push(resource);
        }
        rows.row(&[
            Datum::text(resource),
            Datum::text(plan.kind.name()),
            Datum::time(plan.walk.since),
            Datum::text(walk),
            policy.page_size.map_or(Datum::null(), Datum::count),
            Datum::optional(place.map(|p| printable(&p))),
            Datum::count(snapshot.count(resource).unwrap_or(0)),
        ])?;
    }
    let cut = rows.finish()?;
    app.note_cut(cut);
    for resource in overdue {
        app.note(&format!(
            "{resource}: the last complete run is so long ago that all keys are compared, too"
        ));
    }
    app.note("a dry run: nothing was sent");
    Ok(Exit::Ok)
}
