//! `relist changes`: a line a field change.

use relist::store::{AsOf, Snapshot};
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
    if let Some(field) = &args.field {
        check_field(&snapshot, args.resource.as_deref(), field)?;
    }
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
    'changes: for change in snapshot.changes(since)? {
        let change = change?;
        if args
            .resource
            .as_ref()
            .is_some_and(|name| *name != change.resource)
        {
            continue;
        }
        for line in change::lines(&change, args.field.as_deref()) {
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
