//! `relist watch`: events delivered, by rules, each at least once.

use std::path::Path;
use std::time::{Duration, Instant};

use relist::store::{AsOf, Snapshot, Store};
use relist::value::Timestamp;
use relist::watch::{Event, Rule};
use relist_feed::Token;

use crate::app::App;
use crate::args::{self, Format};
use crate::config::{self, Config};
use crate::delivery::{Delivery, Undelivered};
use crate::failure::{Exit, Failure};
use crate::feed;
use crate::moment::{self, Edge};
use crate::output::{Datum, Member, left, right};
use crate::position::Position;
use crate::style::{duration, plural, printable};

/// The watcher that has no other name.
const NAME: &str = "watch";
/// The variable that holds the secret of a webhook.
const SECRET_VARIABLE: &str = "RELIST_WEBHOOK_SECRET";
/// Changes without an event after which the position moves all the same.
const QUIET_CHANGES: u64 = 10_000;
/// How long a command may take for one event, where nothing else is said.
const COMMAND_LIMIT: &str = "30s";
/// A view of the store is renewed after so long: while it lives, space is not used again.
const VIEW: Duration = Duration::from_secs(30);
/// Attempts at a delivery that fails, when nothing follows.
const ATTEMPTS: u32 = 3;
/// The first wait before a delivery is tried again; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// How soon a stop is noticed.
const SLICE: Duration = Duration::from_millis(50);

const MEMBERS: &[Member] = &[
    right("Sequence", "SEQ"),
    left("Rule", "RULE"),
    left("ResourceName", "RESOURCE"),
    left("ResourceRecordKey", "KEY"),
    left("Operation", "OPERATION"),
    left("FieldName", "FIELD"),
    left("PreviousValue", "PREVIOUS"),
    left("NewValue", "NEW"),
    left("ModificationTimestamp", ""),
    left("ObservedTimestamp", "OBSERVED"),
    left("Cause", "CAUSE"),
];

pub(super) fn run(app: &mut App<'_>, args: &args::Watch) -> Result<Exit, Failure> {
    let config = app.config()?;
    let every = moment::span("--every", &args.every)?;
    let mut watch = config.as_ref().map(|c| &c.watch);
    let rules = rules(args, watch)?;
    let since = match &args.since {
        Some(text) => Some(moment::parse("--since", text, Edge::Start, app.now())?),
        None => None,
    };
    let fallback = config::Watch::default();
    let settings = watch.take().unwrap_or(&fallback);
    let mut delivery = delivery(app, args, settings, config.as_ref())?;
    if args.follow && delivery.is_none() && matches!(app.format(), Format::Json | Format::Csv) {
        return Err(Failure::usage(
            "what has no end is neither a JSON array nor a CSV file",
            "-o ndjson gives a line an event",
        ));
    }
    (app.environment.catch_interrupt)(&app.environment.stop);
    let store = app.open()?;
    let snapshot = store.snapshot()?;
    let name = args.name.as_deref().or(settings.name.as_deref());
    let name = name.unwrap_or(NAME);
    let mut position = Position::take(name, &store, &snapshot)?;
    begin(app, &mut position, &snapshot, name, since)?;
    drop(snapshot);
    let mut watcher = Watcher {
        rules,
        position,
        follow: args.follow,
    };
    let result = match &mut delivery {
        None if !args.follow => watcher.print(app, &store).map(|_| ()),
        delivery => watcher.follow(app, store, delivery.as_mut(), every),
    };
    let settled = watcher.position.settle(app.now());
    result.and(settled).map(|()| Exit::Ok)
}

/// The rules typed, else those of the configuration.
fn rules(args: &args::Watch, settings: Option<&config::Watch>) -> Result<Vec<Rule>, Failure> {
    let typed = args.rule.iter().map(|text| text.parse());
    let mut rules: Vec<Rule> = typed.collect::<Result<_, relist::error::Error>>()?;
    if rules.is_empty() {
        rules = settings.map(|s| s.rule.clone()).unwrap_or_default();
    }
    if rules.is_empty() {
        return Err(Failure::usage(
            "there is no rule",
            "--rule 'transition:Active->Pending' gives one, [[watch.rule]] in relist.toml more; \
             relist watch --help lists the kinds",
        ));
    }
    Ok(rules)
}

/// Where events go; `None` is standard output.
fn delivery(
    app: &App<'_>,
    args: &args::Watch,
    settings: &config::Watch,
    config: Option<&Config>,
) -> Result<Option<Delivery>, Failure> {
    let typed = args.exec.is_some() || args.to.is_some();
    let (to, exec) = if typed {
        (args.to.as_deref(), args.exec.as_deref())
    } else {
        (settings.to.as_deref(), settings.exec.as_deref())
    };
    match (to, exec) {
        (Some(_), Some(_)) => Err(Failure::usage(
            "[watch] in relist.toml has both `to` and `exec`",
            "keep one of them; two watchers of different names deliver to both",
        )),
        (_, Some(command)) => Ok(Some(Delivery::Command {
            command: command.to_owned(),
            directory: app.environment.directory.clone(),
            limit: limit(args, settings)?,
        })),
        (None | Some("stdout" | "-"), None) => Ok(None),
        (Some(url), None) if url.starts_with("http://") || url.starts_with("https://") => {
            let secret = secret(app, settings, config)?;
            let network = match config {
                Some(config) => feed::network(config)?,
                None => relist_feed::Network::default(),
            };
            let stop = &app.environment.stop;
            Delivery::webhook(url, secret.as_ref(), &network, stop).map(Some)
        }
        (Some(file), None) => {
            let path = match config {
                Some(config) if !typed => config.beside(Path::new(file)),
                _ => app.path(Path::new(file)),
            };
            Delivery::file(&path).map(Some)
        }
    }
}

/// How long a command may take for one event.
fn limit(args: &args::Watch, settings: &config::Watch) -> Result<Duration, Failure> {
    let (place, text) = match (&args.timeout, &settings.timeout) {
        (Some(text), _) => ("--timeout", text.as_str()),
        (None, Some(text)) => ("[watch] timeout", text.as_str()),
        (None, None) => ("--timeout", COMMAND_LIMIT),
    };
    match moment::span(place, text)? {
        0 => Err(Failure::usage(
            format!("{place}: in no time no command can end"),
            "write how long it may take: 30s, 5m",
        )),
        micros => Ok(Duration::from_micros(micros.unsigned_abs())),
    }
}

/// The secret that signs what goes to a webhook, where there is one.
fn secret(
    app: &App<'_>,
    settings: &config::Watch,
    config: Option<&Config>,
) -> Result<Option<Token>, Failure> {
    if let Some(value) = app.variable(SECRET_VARIABLE) {
        return Ok(Some(Token::from_env_value(SECRET_VARIABLE, &value)?));
    }
    match (&settings.secret_file, config) {
        (Some(file), Some(config)) => Ok(Some(Token::from_file(&config.beside(file))?)),
        _ => Ok(None),
    }
}

/// Where the watcher begins: where it is told to, else where it was, else now.
fn begin(
    app: &mut App<'_>,
    position: &mut Position,
    snapshot: &Snapshot,
    name: &str,
    since: Option<AsOf>,
) -> Result<(), Failure> {
    let last = snapshot.sequence();
    match since {
        Some(AsOf::Sequence(sequence)) => {
            snapshot.resolve(AsOf::Sequence(sequence))?;
            position.set(sequence)
        }
        Some(AsOf::Instant(at)) => {
            // What was observed at the very instant is part of it.
            let before = Timestamp(at.0.saturating_sub(1));
            position.set(snapshot.resolve(AsOf::Instant(before))?)
        }
        None => match position.sequence() {
            Some(sequence) if sequence > last => Err(Failure::failed(
                format!("the watcher {name} is at {sequence}, the store ends at {last}"),
                "the store is an older copy: say by --since where to begin",
            )),
            Some(_) => Ok(()),
            None => {
                app.note(&format!(
                    "the watcher {name} is new: it begins behind what there is, at {last}; \
                     --since 0 begins at the start"
                ));
                position.set(last)
            }
        },
    }
}

/// A watcher at work.
struct Watcher {
    rules: Vec<Rule>,
    position: Position,
    follow: bool,
}

impl Watcher {
    /// Prints what there is to standard output. The position moves when all of it is written.
    fn print(&mut self, app: &mut App<'_>, store: &Store) -> Result<u64, Failure> {
        let snapshot = store.snapshot()?;
        let now = app.now();
        let stop = app.environment.stop.clone();
        let (mut count, mut reached) = (0, self.since());
        let mut rows = app.rows(MEMBERS)?;
        for observed in snapshot.events(&self.rules, reached, now)? {
            let observed = observed?;
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            for event in &observed.events {
                rows.row(&row(event))?;
                count += 1;
            }
            reached = observed.sequence;
        }
        let cut = rows.finish()?;
        app.out.flush()?;
        app.note_cut(cut);
        self.position.set(reached)?;
        Ok(count)
    }

    /// Delivers what there is; with `--follow` what comes, too.
    fn follow(
        &mut self,
        app: &mut App<'_>,
        first: Store,
        mut delivery: Option<&mut Delivery>,
        every: i64,
    ) -> Result<(), Failure> {
        let every = Duration::from_micros(every.max(0).cast_unsigned());
        let mut store = Some(first);
        let mut count = 0;
        loop {
            // Opened anew each time: another process writes to the file, or puts another there.
            let opened = match store.take() {
                Some(store) => store,
                None => app.open()?,
            };
            let snapshot = opened.snapshot()?;
            let last = snapshot.sequence();
            self.pass(app, &snapshot, delivery.as_deref_mut(), &mut count)?;
            let behind = self.since() < last;
            drop(snapshot);
            if app.environment.stopped() || !self.follow && !behind {
                break;
            }
            if !behind {
                pause(app, every.max(SLICE));
            }
        }
        if app.environment.stopped() && !self.follow {
            return Err(Failure::stopped());
        }
        let words = plural(count, "event", "events");
        app.note(&format!("{words} delivered, up to {}", self.since()));
        Ok(())
    }

    fn since(&self) -> u64 {
        self.position.sequence().unwrap_or(0)
    }

    /// Delivers what one view of the store has, for as long as a view may last.
    fn pass(
        &mut self,
        app: &mut App<'_>,
        snapshot: &Snapshot,
        mut delivery: Option<&mut Delivery>,
        count: &mut u64,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut reached = self.since();
        if snapshot.sequence() < reached {
            let last = snapshot.sequence();
            return Err(Failure::failed(
                format!("the store ends at {last}, {reached} was delivered: it is another one"),
                "say by --since where to begin",
            ));
        }
        for observed in snapshot.events(&self.rules, reached, app.now())? {
            let observed = observed?;
            if app.environment.stopped() || begun.elapsed() > VIEW {
                break;
            }
            if !observed.events.is_empty() {
                if !self.deliver(app, delivery.as_deref_mut(), &observed.events)? {
                    break;
                }
                *count += observed.events.len() as u64;
                self.position.set(observed.sequence)?;
            } else if observed.sequence - self.since() >= QUIET_CHANGES {
                self.position.set(observed.sequence)?;
            }
            reached = observed.sequence;
        }
        self.position.set(reached)
    }

    /// Delivers the events of one change; `false` when it was stopped before.
    fn deliver(
        &self,
        app: &mut App<'_>,
        delivery: Option<&mut Delivery>,
        events: &[Event],
    ) -> Result<bool, Failure> {
        let Some(delivery) = delivery else {
            for event in events {
                if app.is_text() {
                    writeln!(app.out, "{}", line(event))?;
                } else {
                    writeln!(app.out, "{}", event.to_json())?;
                }
            }
            app.out.flush()?;
            return Ok(true);
        };
        let mut wait = FIRST_WAIT;
        for attempt in 1.. {
            let failure = match delivery.deliver(events) {
                Ok(()) => return Ok(true),
                Err(Undelivered { stopped: true, .. }) => return Ok(false),
                Err(failure) => failure,
            };
            // A webhook has done its own retries.
            let once = matches!(delivery, Delivery::Webhook(_)) || attempt >= ATTEMPTS;
            if !self.follow && once {
                return Err(failure.into());
            }
            let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
            let reason = failure.reason;
            app.warn(&format!("{reason}; again in {}", duration(micros)));
            pause(app, wait);
            if app.environment.stopped() {
                return Ok(false);
            }
            wait = wait.saturating_mul(2).min(LONGEST_WAIT);
        }
        Ok(false)
    }
}

/// Waits, and returns early once the user wants to stop.
pub(super) fn pause(app: &App<'_>, time: Duration) {
    let end = Instant::now() + time;
    while !app.environment.stopped() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(SLICE));
    }
}

fn row(event: &Event) -> Vec<Datum> {
    let value = |json: &Option<String>| json.as_deref().map_or_else(Datum::null, Datum::json);
    vec![
        Datum::number(event.sequence),
        Datum::text(&event.rule),
        Datum::text(&event.resource),
        Datum::text(event.key.to_string()),
        Datum::text(event.operation.name()),
        Datum::optional(event.field.as_deref()),
        value(&event.previous),
        value(&event.new),
        Datum::time(event.source_time),
        Datum::time(Some(event.observed)),
        Datum::text(event.cause.name()),
    ]
}

/// An event for a person who watches.
fn line(event: &Event) -> String {
    let (resource, key) = (&event.resource, &event.key);
    let what = match &event.field {
        Some(field) => {
            let value = |json: &Option<String>| json.clone().unwrap_or_else(|| "absent".to_owned());
            let (previous, new) = (value(&event.previous), value(&event.new));
            format!("{field} {previous} -> {new}")
        }
        None => event.operation.name().to_owned(),
    };
    let when = crate::change::minute(event.observed);
    let text = format!(
        "{when}  {}  {resource} {key}  {what}  #{}",
        event.rule, event.sequence
    );
    printable(&text)
}
