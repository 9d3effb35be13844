//! `relist changes`: a line a field change.

use relist::store::{AsOf, Change, Snapshot};
use relist::value::Timestamp;

use crate::app::App;
use crate::args::Changes;
use crate::change::{self, MEMBERS};
use crate::failure::{Exit, Failure};
use crate::moment::{self, Edge};

pub(super) fn run(app: &mut App<'_>, args: &Changes) -> Result<Exit, Failure> {
    let since = match &args.since {
        Some(text) => Some(moment::parse("--since", text, Edge::Start, app.now())?),
        None => None,
    };
    let store = app.open()?;
    let snapshot = store.snapshot()?;
    if let Some(name) = &args.resource {
        snapshot.resource(name)?;
    }
    let fields = fields(app, &snapshot, args)?;
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let since = match since {
        // From that time on: what was observed at the very instant is part of it.
        Some(AsOf::Instant(at)) => {
            snapshot.resolve(AsOf::Instant(Timestamp(at.0.saturating_sub(1))))?
        }
        Some(AsOf::Sequence(sequence)) => sequence,
        None => 0,
    };
    let mut left = args.top.unwrap_or(u64::MAX);
    let stop = app.environment.stop.clone();
    let mut rows = app.rows(MEMBERS)?;
    'changes: for change in changes(&snapshot, args, since)? {
        let change = change?;
        let other = |name: &String| *name != change.resource;
        if args.resource.as_ref().is_some_and(other) {
            continue;
        }
        for line in change::lines(&change, &fields) {
            if left == 0 || stop.load(std::sync::atomic::Ordering::Relaxed) {
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
