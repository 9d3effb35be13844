//! `relist media`: the photos and documents that records speak of, as files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use relist::error::{SourceError, SourceErrorKind};
use relist::keycode::Key;
use relist::media::{
    InTurns, MediaFiles, MediaLister, MediaOptions, MediaPolicy, MediaReport, MediaStore as _,
    OnDelete, Refreshed, UrlLife,
};
use relist::source::Traffic;
use relist::store::{MediaEntry, MediaState, Snapshot};
use relist::value::Timestamp;
use relist_feed::{Credentials, MediaClient, MediaGuard, MediaLimits, Profile, Token, WebApi};

use crate::app::App;
use crate::args::{self, MediaAction, quoted_path};
use crate::config::{self, Config};
use crate::failure::{Exit, Failure};
use crate::feed::{self, QuotaFile};
use crate::output::{Datum, Member, left, right};
use crate::progress::Bar;
use crate::style::{bytes, duration, plural, printable, thousands};

pub(super) fn run(app: &mut App<'_>, args: &args::Media) -> Result<Exit, Failure> {
    match &args.action {
        MediaAction::Sync(args) => sync(app, args),
        MediaAction::Status(args) => match &args.key {
            Some(key) => files_of(app, args, key),
            None => status(app),
        },
    }
}

/// The folder of the files: as typed, else as configured, else beside the store.
pub(super) fn folder(
    app: &App<'_>,
    config: Option<&Config>,
    typed: Option<&Path>,
) -> Result<PathBuf, Failure> {
    if let Some(typed) = typed {
        return Ok(app.path(typed));
    }
    if let Some((config, dir)) = config.and_then(|c| Some((c, c.media.dir.as_ref()?))) {
        return Ok(config.beside(dir));
    }
    let store = app.store_path()?;
    Ok(store.parent().unwrap_or(Path::new("")).join("media"))
}

const MEMBERS: &[Member] = &[
    right("Listed", "RECORDS LISTED"),
    right("Wanted", "WANTED"),
    right("Fetched", "FETCHED"),
    right("Unchanged", "UNCHANGED"),
    right("TakenOver", "TAKEN OVER"),
    right("Failed", "FAILED"),
    right("Parked", "GIVEN UP"),
    right("Left", "LEFT"),
    right("Removed", "REMOVED"),
    right("Bytes", "BYTES"),
    right("Seconds", "TIME"),
    right("Shared", ""),
    right("Unlisted", ""),
    right("Gone", ""),
    left("Outcome", ""),
];

fn sync(app: &mut App<'_>, args: &args::MediaSync) -> Result<Exit, Failure> {
    let Some(config) = app.config()? else {
        return Err(config::missing(&app.environment.directory)
            .with_hint("media need a feed: relist init writes relist.toml"));
    };
    let profile = feed::profile(&config)?;
    let credentials =
        feed::credentials(app, &config, &profile)?.ok_or_else(|| feed::no_credentials(&profile))?;
    let token = match &credentials {
        Credentials::Token(token) => Some(token.clone()),
        _ => None,
    };
    let client = file_client(app, &config, &profile, token.as_ref())?;
    let lister = Lister {
        quota: QuotaFile::of_pages(app, &profile)?,
        api: feed::client(app, &config, profile.clone(), credentials)?,
        one: Mutex::new(()),
        now: app.environment.now,
        stop: Arc::clone(&app.environment.stop),
    };
    let path = app.existing_store()?;
    let folder = folder(app, Some(&config), args.dir.as_deref())?;
    let files = MediaFiles::open(&folder)?;
    app.detail(&format!("files {}", quoted_path(&folder)));
    (app.environment.catch_interrupt)(&app.environment.stop);
    let (begun, begins) = (app.now(), AtomicBool::new(true));
    let stop = &app.environment.stop;
    let wait = |attempt| wait(stop, &begins, attempt);
    let store = InTurns::new(&path, &wait);
    let (_, due) = store.view()?.media_due()?;
    let bar = Bar::files(
        app.shows_progress(),
        due.min(args.max.unwrap_or(due)),
        "media",
    );
    let now = app.environment.now;
    let options = MediaOptions {
        policy: policy(&config),
        urls: UrlLife {
            single_use: profile.media.single_use,
            seconds: profile.media.url_seconds,
        },
        retry: args.retry,
        max: args.max,
        jobs: usize::from(args.jobs),
        now: &now,
        peak_memory: app.environment.peak_memory,
        stop,
    };
    let done =
        relist::media::sync_media(&store, &files, &client, &lister, &options, &mut |report| {
            begins.store(false, Ordering::Relaxed);
            bar.total(report.wanted.max(due.min(args.max.unwrap_or(due))));
            bar.at(report.fetched + report.unchanged + report.failed);
            bar.message(bytes(report.bytes));
        });
    bar.clear();
    let done = done?;
    if args.retry {
        app.note(&format!(
            "{} again",
            plural(done.retried, "file is tried", "files are tried")
        ));
    }
    let micros = app.now().0 - begun.0;
    print(app, &done.report, done.refreshed, micros)
}

/// What fetches files, by the rules of the profile and the configuration.
fn file_client(
    app: &App<'_>,
    config: &Config,
    profile: &Profile,
    token: Option<&Token>,
) -> Result<MediaClient, Failure> {
    let mut limits = MediaLimits::default();
    limits.bytes = config.media.max_bytes.unwrap_or(limits.bytes);
    let guard = MediaGuard {
        hosts: config.media.hosts.clone(),
        allow_loopback: config.media.allow_loopback,
    };
    let (rules, network) = (&profile.media, feed::network(config)?);
    let stop = Arc::clone(&app.environment.stop);
    let client = MediaClient::new(rules, token, guard, limits, &network, stop)?;
    let quota = QuotaFile::of_media(app, profile)?;
    Ok(client.with_quota(quota.open(app.now(), &app.environment.stop)?))
}

/// How long a store that another process writes to is waited for: a run that has fetched files has
/// something to lose, one that begins has not.
const LONG: u32 = 6_000;
const SHORT: u32 = 20;
/// The time between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits a moment for the store, and says whether to try again.
fn wait(stop: &AtomicBool, begins: &AtomicBool, attempt: u32) -> bool {
    let most = if begins.load(Ordering::Relaxed) {
        SHORT
    } else {
        LONG
    };
    if attempt >= most || stop.load(Ordering::Relaxed) && attempt >= SHORT {
        return false;
    }
    std::thread::sleep(PAUSE);
    true
}

/// Asks the feed for the media of single records. Where the feed has a quota, it is taken for one
/// question at a time, so that a sync can run meanwhile.
struct Lister {
    quota: QuotaFile,
    api: WebApi,
    one: Mutex<()>,
    now: fn() -> Timestamp,
    stop: Arc<AtomicBool>,
}

impl MediaLister for Lister {
    fn list(&self, resource: &str, key: &Key) -> Result<Vec<Vec<u8>>, SourceError> {
        if !self.quota.counts() {
            return self.api.list(resource, key);
        }
        let _one = self.one.lock().unwrap_or_else(PoisonError::into_inner);
        let quota = self
            .quota
            .open((self.now)(), &self.stop)
            .map_err(|failure| {
                let reason = match failure {
                    Failure::Told(told) => told.message,
                    Failure::BrokenPipe => "the quota cannot be used".to_owned(),
                };
                SourceError {
                    kind: SourceErrorKind::Unavailable,
                    request: format!("the media of {resource} {key}"),
                    reason,
                }
            })?;
        self.api.clone().with_quota(quota).list(resource, key)
    }

    fn traffic(&self) -> Traffic {
        MediaLister::traffic(&self.api)
    }
}

fn policy(config: &Config) -> MediaPolicy {
    MediaPolicy {
        on_delete: match config.media.on_delete {
            config::OnDelete::Remove => OnDelete::Remove,
            config::OnDelete::Keep => OnDelete::Keep,
        },
        ask: config.media.ask.unwrap_or(true),
    }
}

fn print(
    app: &mut App<'_>,
    report: &MediaReport,
    refreshed: Refreshed,
    micros: i64,
) -> Result<Exit, Failure> {
    let trouble = report.failed + report.unlisted + report.left > 0;
    let seconds = micros.max(0) / 1_000_000;
    let mut rows = app.rows(MEMBERS)?;
    rows.row(&[
        Datum::count(report.listed),
        Datum::count(report.wanted),
        Datum::count(report.fetched),
        Datum::count(report.unchanged),
        Datum::count(refreshed.taken_over),
        Datum::count(report.failed),
        Datum::count(report.parked),
        Datum::count(report.left),
        Datum::count(refreshed.removed + report.removed),
        Datum::number(report.bytes).shown(bytes(report.bytes)),
        Datum::number(seconds.cast_unsigned()).shown(duration(micros)),
        Datum::count(report.shared),
        Datum::count(report.unlisted),
        Datum::count(refreshed.gone),
        Datum::text(match (trouble, report.stopped) {
            (true, _) => "degraded",
            (false, true) => "stopped",
            (false, false) => "complete",
        }),
    ])?;
    let cut = rows.finish()?;
    app.note_cut(cut);
    for error in &report.errors {
        app.warn(error);
    }
    if report.stopped {
        app.note("stopped before its end; relist media sync goes on");
    }
    if !trouble {
        return Ok(Exit::Ok);
    }
    Err(Failure::new(
        Exit::Degraded,
        format!(
            "{} could not be fetched, {} left because of their host, {} not listed",
            plural(report.failed, "file", "files"),
            thousands(report.left),
            plural(report.unlisted, "record was", "records were"),
        ),
        "the next relist media sync tries again, three times each; relist media status says why, \
         --retry tries those again that were given up",
    ))
}

const STATES: &[Member] = &[
    left("State", "STATE"),
    right("Media", "MEDIA"),
    right("Bytes", "BYTES"),
    left("Reason", "MOST FREQUENT REASON"),
];

fn word(state: MediaState) -> &'static str {
    match state {
        MediaState::Wanted => "wanted",
        MediaState::Have => "have",
        MediaState::Parked => "given up",
        MediaState::Retired => "kept",
        MediaState::Withdrawn => "withdrawn",
    }
}

#[derive(Default)]
struct Sum {
    media: u64,
    bytes: u64,
    reasons: BTreeMap<String, u64>,
}

impl Sum {
    fn reason(&self) -> Option<String> {
        let most = self.reasons.iter().max_by_key(|(_, count)| **count);
        most.map(|(reason, count)| format!("{} x {}", thousands(*count), printable(reason)))
    }
}

fn status(app: &mut App<'_>) -> Result<Exit, Failure> {
    let store = app.open()?;
    let snapshot = store.snapshot()?;
    let (listed, due) = sums(&snapshot)?;
    let mut rows = app.rows(STATES)?;
    for (state, sum) in &listed {
        rows.row(&[
            Datum::text(*state),
            Datum::count(sum.media),
            Datum::number(sum.bytes).shown(bytes(sum.bytes)),
            Datum::optional(sum.reason()),
        ])?;
    }
    if due.media > 0 {
        rows.row(&[
            Datum::text("records to list"),
            Datum::count(due.media),
            Datum::null(),
            Datum::optional(due.reason()),
        ])?;
    }
    let cut = rows.finish()?;
    app.note_cut(cut);
    match snapshot.media_sequence()? {
        None => app.note("relist media sync was never run"),
        Some(at) if at < snapshot.sequence() => app.note(&format!(
            "{} came since the last relist media sync",
            plural(snapshot.sequence() - at, "change", "changes")
        )),
        Some(_) => {}
    }
    Ok(Exit::Ok)
}

fn sums(snapshot: &Snapshot) -> Result<(BTreeMap<&'static str, Sum>, Sum), Failure> {
    let mut states: BTreeMap<&'static str, Sum> = BTreeMap::new();
    snapshot.media(|entry| {
        let sum = states.entry(word(entry.state)).or_default();
        sum.media += 1;
        sum.bytes += entry.held.map_or(0, |held| held.bytes);
        if let Some(error) = entry.error {
            *sum.reasons.entry(error).or_default() += 1;
        }
        Ok(true)
    })?;
    let mut due = Sum::default();
    snapshot.media_lists(|list| {
        if list.due || list.error.is_some() {
            due.media += 1;
        }
        if let Some(error) = list.error {
            *due.reasons.entry(error).or_default() += 1;
        }
        Ok(true)
    })?;
    Ok((states, due))
}

const FILES: &[Member] = &[
    right("Order", "ORDER"),
    left("MediaKey", "MEDIA KEY"),
    left("State", "STATE"),
    left("File", "FILE"),
    right("Bytes", "BYTES"),
    left("MimeType", ""),
    left("MediaCategory", ""),
    left("MediaModificationTimestamp", ""),
    left("FetchedTimestamp", ""),
    right("Strikes", ""),
    left("Reason", "REASON"),
];

/// The files of one listing, in their order.
fn files_of(app: &mut App<'_>, args: &args::MediaStatus, key: &str) -> Result<Exit, Failure> {
    let config = app.config()?;
    let folder = folder(app, config.as_ref(), args.dir.as_deref())?;
    let store = app.open()?;
    let snapshot = store.snapshot()?;
    let key: Key = crate::app::key(&snapshot, "Property", key)?;
    let mut entries = snapshot.media_of("Property", &key)?;
    entries.sort_by(|a, b| {
        let place = |e: &MediaEntry| (e.item.order.unwrap_or(i64::MAX), e.item.media_key.clone());
        place(a).cmp(&place(b))
    });
    let mut rows = app.rows(FILES)?;
    for entry in &entries {
        let held = entry.held.as_ref();
        let path = held.map(|h| relist::media::file_path(&folder, h));
        let order = entry.item.order.and_then(|n| u64::try_from(n).ok());
        rows.row(&[
            order.map_or(Datum::null(), Datum::number),
            Datum::text(&entry.item.media_key),
            Datum::text(word(entry.state)),
            Datum::optional(path.map(|p| p.to_string_lossy().into_owned())),
            held.map_or(Datum::null(), |h| {
                Datum::number(h.bytes).shown(bytes(h.bytes))
            }),
            Datum::optional(held.map(|h| h.kind.media_type())),
            Datum::optional(entry.item.category.as_deref()),
            Datum::time(entry.item.modified),
            Datum::time(held.map(|h| h.fetched)),
            Datum::count(u64::from(entry.strikes)),
            Datum::optional(entry.error.as_deref()),
        ])?;
    }
    let cut = rows.finish()?;
    app.note_cut(cut);
    if entries.is_empty() {
        app.note("no media are known of it; relist media sync looks for them");
    }
    Ok(Exit::Ok)
}
