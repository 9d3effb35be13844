//! What a fault makes of the rows while they are walked.

use serde_json::{Value, json};

use super::Fault;
use super::answers::set;
use crate::backend::{Backend as _, Key};
use crate::dataset::Dataset;
use crate::text::{Seconds, format_timestamp};

const SET: &str = "Property";
/// 2099-01-01T00:00:00Z.
const FUTURE: Seconds = 4_070_908_800;

/// Changes rows, a second later than before; false when the fault is none of theirs.
pub(super) fn disturb(fault: Fault, rows: &mut Dataset, step: u64) -> bool {
    use Fault as F;
    let now = rows.now() + 1;
    let keys = rows.keys(SET);
    let some = |every: usize| -> Vec<Key> {
        let from = usize::try_from(step).unwrap_or(0) % every;
        keys.iter().skip(from).step_by(every).cloned().collect()
    };
    match fault {
        F::RowsEdited => edit(rows, &some(17), Some(now), step),
        F::RowsInserted => insert(rows, &keys, now, step),
        F::RowsDeleted => remove(rows, &some(61), Some(now)),
        F::RowsVanish => remove(rows, &some(61), None),
        F::Ties => edit(rows, &some(3), Some(now), step),
        F::LateCommits => edit(rows, &some(19), Some(now - 600), step),
        F::VeryLateCommits => edit(rows, &some(19), Some(now - 2_592_000), step),
        F::SilentEdits => edit(rows, &some(19), None, step),
        F::FutureStamps => edit(rows, &some(53), Some(FUTURE), step),
        F::StampsNull => with_rows(rows, &some(53), |row| {
            set(row, "ModificationTimestamp", Value::Null);
        }),
        F::Restamped => with_rows(rows, &some(1), |row| {
            set(row, "ModificationTimestamp", json!(format_timestamp(now)));
        }),
        _ => return false,
    }
    rows.set_now(now);
    true
}

fn with_rows(rows: &mut Dataset, keys: &[Key], change: impl Fn(&mut Value)) {
    for key in keys {
        let text = rows.json(SET, key);
        let Some(mut row) = text.and_then(|text| serde_json::from_str(&text).ok()) else {
            continue;
        };
        change(&mut row);
        // The row has its key: it had one before.
        let _ = rows.put(SET, &row);
    }
}

fn edit(rows: &mut Dataset, keys: &[Key], stamp: Option<Seconds>, step: u64) {
    with_rows(rows, keys, |row| {
        set(row, "ListPrice", json!(7_000_000 + step));
        if let Some(stamp) = stamp {
            set(row, "ModificationTimestamp", json!(format_timestamp(stamp)));
        }
    });
}

fn insert(rows: &mut Dataset, keys: &[Key], now: Seconds, step: u64) {
    // One behind the walk, in a gap of the keys, and one at its end.
    let last = match keys.last() {
        Some(Key::Int(last)) => *last,
        _ => 0,
    };
    let step = i64::try_from(step).unwrap_or(0);
    for key in [-1 - step, last + 7] {
        let row = json!({"ListingKeyNumeric": key, "ListPrice": 1, "StandardStatus": "Active",
            "ModificationTimestamp": format_timestamp(now)});
        let _ = rows.put(SET, &row);
    }
}

fn remove(rows: &mut Dataset, keys: &[Key], listed: Option<Seconds>) {
    for key in keys {
        rows.remove(SET, key);
        if let Some(at) = listed {
            let row = json!({"primary_key": key.to_string(), "resource": SET,
                "ts": format_timestamp(at)});
            // A dataset without such a list does without.
            let _ = rows.put("Deleted", &row);
        }
    }
}
