//! A changelog against the truth: what is missing in it, and what it has that never was.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use relist::store::{Operation, Store};
use relist::value::{Decimal, write_json_string};
use serde_json::value::RawValue;

use super::data::{Data, RESOURCE, truth_file};
use crate::args::Wave;
use crate::failure::Failure;

/// How a changelog differs from the truth.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Verdict {
    /// Changes that happened.
    pub(super) expected: u64,
    /// Of those, how many the changelog has not.
    pub(super) missing: u64,
    /// Changes that the changelog has and that did not happen, or twice.
    pub(super) extra: u64,
    /// The first that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first: Option<String>,
}

/// What changed: step, key, operation, field, previous, new; in one spelling.
type Line = String;

/// Reads lines of `[at, key, operation, field, previous, new]`.
pub(super) fn lines(reader: impl BufRead) -> Result<Vec<Line>, Failure> {
    reader
        .lines()
        .map(|line| {
            let line = line?;
            parse(&line).ok_or_else(|| {
                let message = format!(
                    "not a change: {}",
                    line.chars().take(200).collect::<String>()
                );
                Failure::failed(
                    message,
                    "benches/peers/README.md says how changes are written",
                )
            })
        })
        .collect()
}

fn parse(line: &str) -> Option<Line> {
    let parts: Vec<&RawValue> = serde_json::from_str(line).ok()?;
    let [at, key, operation, field, previous, new] = parts.as_slice() else {
        return None;
    };
    Some(format!(
        "{at} {key} {} {} {} {}",
        spelled(operation.get()),
        spelled(field.get()),
        spelled(previous.get()),
        spelled(new.get())
    ))
}

/// A JSON value in one spelling: `1.50` and `1.5` are the same.
pub(super) fn spelled(json: &str) -> String {
    match json.as_bytes().first() {
        Some(b'"') => {
            let text: String = serde_json::from_str(json).unwrap_or_default();
            let mut out = String::with_capacity(text.len() + 2);
            // Writing to a String cannot fail.
            let _ = write_json_string(&mut out, &text);
            out
        }
        Some(b'{' | b'[') => serde_json::from_str::<serde_json::Value>(json)
            .map_or_else(|_| json.to_owned(), |value| value.to_string()),
        Some(b'-' | b'0'..=b'9') => Decimal::parse(json)
            .map_or_else(|| json.to_owned(), |number| number.normalized().to_string()),
        _ => json.to_owned(),
    }
}

/// What happened in some waves.
pub(super) fn truth(folder: &Path, data: &Data, waves: &[Wave]) -> Result<Vec<Line>, Failure> {
    let steps = waves.iter().filter_map(|wave| data.wave(*wave));
    let mut out = Vec::new();
    for step in steps.flat_map(|wave| &wave.steps) {
        let path = truth_file(folder, step.at);
        // A step without a file has no changes.
        if let Ok(file) = File::open(&path) {
            out.extend(lines(BufReader::new(file))?);
        }
    }
    Ok(out)
}

/// What a store says happened after wave 1.
pub(super) fn changelog(path: &Path, data: &Data) -> Result<Vec<Line>, Failure> {
    let steps = data.waves.iter().flat_map(|wave| &wave.steps);
    let steps: BTreeMap<i64, u32> = steps.map(|s| (s.observed, s.at)).collect();
    let store = Store::open_read_only(path)?;
    let snapshot = store.snapshot()?;
    let mut out = Vec::new();
    for change in snapshot.changes(0)? {
        let change = change?;
        let at = steps.get(&(change.observed.0 / 1_000_000)).copied();
        let at = at.unwrap_or(u32::MAX);
        if at == 0 || change.resource != RESOURCE {
            continue;
        }
        let key = change
            .key
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        match change.operation {
            Operation::Insert | Operation::Relist => {
                out.push(format!("{at} {key} \"insert\" null null null"));
            }
            Operation::Delete => out.push(format!("{at} {key} \"delete\" null null null")),
            _ => {}
        }
        if change.operation != Operation::Update {
            continue;
        }
        for field in &change.fields {
            let value = |cell: Option<relist::record::Cell<'_>>| {
                cell.map_or_else(|| "absent".to_owned(), |cell| spelled(&cell.to_json()))
            };
            let (previous, new) = (value(field.previous()), value(field.new_value()));
            out.push(format!(
                "{at} {key} \"update\" \"{}\" {previous} {new}",
                field.name
            ));
        }
    }
    Ok(out)
}

/// Compares.
pub(super) fn compare(truth: &[Line], said: &[Line]) -> Verdict {
    let mut wanted: HashSet<&str> = truth.iter().map(String::as_str).collect();
    let expected = wanted.len() as u64;
    let mut wrong = said.iter().filter(|line| !wanted.remove(line.as_str()));
    let first = wrong.next().map(|line| format!("extra: {line}"));
    let extra = u64::from(first.is_some()) + wrong.count() as u64;
    let first = first.or_else(|| wanted.iter().next().map(|line| format!("missing: {line}")));
    Verdict {
        expected,
        missing: wanted.len() as u64,
        extra,
        first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Line> {
        lines(text.as_bytes()).unwrap()
    }

    #[test]
    fn spelling_is_no_difference_and_values_are() {
        let truth = read(
            "[1,5,\"update\",\"ListPrice\",450000.0,4.5]\n[1,6,\"insert\",null,null,null]\n\
             [1,7,\"update\",\"City\",\"A\\u0042\",null]\n",
        );
        let said = read(
            "[1, 7, \"update\", \"City\", \"AB\", null]\n[1,6,\"insert\",null,null,null]\n\
             [1,5,\"update\",\"ListPrice\",450000,4.50]\n",
        );
        let right = Verdict {
            expected: 3,
            ..Verdict::default()
        };
        assert_eq!(compare(&truth, &said), right);
        let other = read("[1,5,\"update\",\"ListPrice\",450000,4.51]\n");
        let verdict = compare(&truth, &other);
        assert_eq!((verdict.missing, verdict.extra), (3, 1));
        let twice = [&said[..], &said[..1]].concat();
        assert_eq!(compare(&truth, &twice).extra, 1);
    }

    #[test]
    fn what_is_no_change_is_refused() {
        assert!(lines("[1,2]\n".as_bytes()).is_err());
        assert!(lines("{}\n".as_bytes()).is_err());
    }
}
