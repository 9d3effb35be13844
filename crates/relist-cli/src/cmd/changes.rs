//! `relist changes`: a line a field change.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use relist::store::{Change, Snapshot, Store};

use super::watch::pause;
use crate::app::App;
use crate::args::{Changes, Format};
use crate::change::{self, MEMBERS};
use crate::failure::{Exit, Failure};
use crate::moment::{self, Edge};

/// A view of the store is renewed after so long: while it lives, space is not used again.
const VIEW: Duration = Duration::from_secs(30);
/// The shortest time between two looks.
const SHORTEST: Duration = Duration::from_millis(50);

pub(super) fn run(app: &mut App<'_>, args: &Changes) -> Result<Exit, Failure> {
    let since = match &args.since {
        Some(text) => Some(moment::parse("--since", text, Edge::Start, app.now())?),
        None => None,
    };
    if args.follow && matches!(app.format(), Format::Json | Format::Csv) {
        return Err(Failure::usage(
            "what has no end is neither a JSON array nor a CSV file",
            "-o ndjson gives a line a change",
        ));
    }
    let store = app.open()?;
    let snapshot = store.snapshot()?;
    if let Some(name) = &args.resource {
        snapshot.resource(name)?;
    }
    let fields = fields(app, &snapshot, args)?;
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let since = match since {
        Some(since) => moment::after(&snapshot, since)?,
        // Who follows wants to see what is new.
        None if args.follow => snapshot.sequence(),
        None => 0,
    };
    if args.follow {
        drop(snapshot);
        return follow(app, args, &fields, since, store);
    }
    let mut left = args.top.unwrap_or(u64::MAX);
    let stop = app.environment.stop.clone();
    let mut rows = app.rows(MEMBERS)?;
    'changes: for change in changes(&snapshot, args, since)? {
        let change = change?;
        if !is_wanted(&change, args) {
            continue;
        }
        for line in change::lines(&change, &fields) {
            if left == 0 || stop.load(Ordering::Relaxed) {
                break 'changes;
            }
            rows.row(&line)?;
            left -= 1;
        }
    }
    let cut = rows.finish()?;
    app.note_cut(cut);
    Ok(Exit::Ok)
}

fn is_wanted(change: &Change, args: &Changes) -> bool {
    args.resource
        .as_ref()
        .is_none_or(|name| *name == change.resource)
}

/// Prints what there is and what comes, until it is told to end.
fn follow(
    app: &mut App<'_>,
    args: &Changes,
    fields: &[&str],
    since: u64,
    first: Store,
) -> Result<Exit, Failure> {
    let every = moment::span("--every", &args.every)?;
    let every = Duration::from_micros(every.unsigned_abs()).max(SHORTEST);
    (app.environment.catch_interrupt)(&app.environment.stop);
    let mut store = Some(first);
    let mut following = Following {
        reached: since,
        left: args.top.unwrap_or(u64::MAX),
    };
    while !app.environment.stopped() && following.left > 0 {
        // Opened anew each time: another process writes to the file, or puts another there.
        let opened = match store.take() {
            Some(store) => store,
            None => app.open()?,
        };
        let snapshot = opened.snapshot()?;
        let last = snapshot.sequence();
        if last < following.reached {
            return Err(Failure::failed(
                format!(
                    "the store ends at {last}, {} was printed: it is another one",
                    following.reached
                ),
                "say by --since where to begin",
            ));
        }
        following.print(app, args, fields, &snapshot)?;
        drop(snapshot);
        if following.reached >= last && following.left > 0 {
            pause(app, every);
        }
    }
    Ok(Exit::Ok)
}

/// How far the changes were printed.
struct Following {
    reached: u64,
    left: u64,
}

impl Following {
    /// Prints what one view of the store has, for as long as a view may last.
    fn print(
        &mut self,
        app: &mut App<'_>,
        args: &Changes,
        fields: &[&str],
        snapshot: &Snapshot,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        let listing = match &args.listing {
            Some(text) => {
                let resource = args.resource.as_deref().unwrap_or("Property");
                Some((resource, snapshot.parse_key(resource, text)?))
            }
            None => None,
        };
        let stop = app.environment.stop.clone();
        let (is_text, before) = (app.is_text(), self.reached);
        for change in snapshot.changes(before)? {
            let change = change?;
            if stop.load(Ordering::Relaxed) || begun.elapsed() > VIEW || self.left == 0 {
                break;
            }
            let other = listing.as_ref().is_some_and(|(resource, key)| {
                change.resource != *resource || change.key.as_ref() != Some(key)
            });
            if !other && is_wanted(&change, args) {
                for line in change::lines(&change, fields) {
                    if self.left == 0 {
                        break;
                    }
                    if is_text {
                        writeln!(app.out, "{}", change::sentence(&change, &line))?;
                    } else {
                        let mut rows = app.rows(MEMBERS)?;
                        rows.row(&line)?;
                        rows.finish()?;
                    }
                    self.left -= 1;
                }
            }
            self.reached = change.sequence;
        }
        // Whoever reads has what is committed now, not when a buffer is full.
        app.out.flush()?;
        Ok(())
    }
}

/// The changes of all records, or of one listing.
fn changes<'s>(
    snapshot: &'s Snapshot,
    args: &Changes,
    since: u64,
) -> Result<Box<dyn Iterator<Item = relist::error::Result<Change>> + 's>, Failure> {
    let Some(text) = &args.listing else {
        return Ok(Box::new(snapshot.changes(since)?));
    };
    let resource = args.resource.as_deref().unwrap_or("Property");
    let key = snapshot.parse_key(resource, text)?;
    let mut own = snapshot.changes_of(resource, &key)?;
    if own.is_empty() {
        return Err(Failure::failed(
            format!("no {resource} with key {key} was ever seen"),
            "relist query lists what there is",
        ));
    }
    own.retain(|change| change.sequence > since);
    Ok(Box::new(own.into_iter().map(Ok)))
}

/// The fields asked for: by name, and by the name of a list. None is all.
fn fields(app: &App<'_>, snapshot: &Snapshot, args: &Changes) -> Result<Vec<String>, Failure> {
    let mut fields = args.field.clone();
    for field in &args.field {
        check_field(snapshot, args.resource.as_deref(), field)?;
    }
    if let Some(name) = &args.track {
        let track = app.config()?.map(|c| c.track).unwrap_or_default();
        let Some(list) = track.get(name).filter(|list| !list.is_empty()) else {
            let known: Vec<&str> = track.keys().map(String::as_str).collect();
            let hint = if known.is_empty() {
                format!("a table [track] in relist.toml: {name} = [\"ListPrice\"]")
            } else {
                format!("[track] in relist.toml has {}", known.join(", "))
            };
            return Err(Failure::usage(
                format!("no list of fields named {name}"),
                hint,
            ));
        };
        // A list may name fields of several resources; one that none has is a slip of the pen.
        for field in list {
            check_field(snapshot, None, field)?;
        }
        fields.extend(list.iter().cloned());
    }
    Ok(fields)
}

/// A field that no resource has is a slip of the pen, not a field that never changed.
pub(super) fn check_field(
    snapshot: &Snapshot,
    resource: Option<&str>,
    field: &str,
) -> Result<(), Failure> {
    let of = |name: &str| resource.is_none_or(|r| r == name);
    let resources = || snapshot.schema().resources.iter().filter(|r| of(&r.name));
    if resources().any(|r| r.field_id(field).is_some()) {
        return Ok(());
    }
    let mut fields = resources().flat_map(|r| &r.fields);
    let close = fields.find(|f| f.name.eq_ignore_ascii_case(field));
    let hint = match close {
        Some(close) => format!("did you mean {}? Names are case sensitive", close.name),
        None => "relist get RESOURCE KEY shows the fields of a record".to_owned(),
    };
    let of = resource.map_or(String::new(), |r| format!(" of {r}"));
    Err(Failure::usage(format!("no field{of} named {field}"), hint))
}
