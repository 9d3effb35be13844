//! The mirror against the market's own rows: every record, every field.

use std::collections::BTreeMap;

use relist::store::{AsOf, Snapshot};
use relist_sim::truth::from_json;
use relist_sim::{Access, Backend, Market};

use super::RESOURCES;
use crate::failure::Failure;
use crate::style::{plural, thousands};

/// Compares all that is mirrored, and says what came of it in one line.
///
/// # Errors
/// When the mirror differs: then something is wrong with Relist.
pub(super) fn check(market: &Market, snapshot: &Snapshot) -> Result<String, Failure> {
    let (mut records, mut values) = (0_u64, 0_u64);
    for (at, resource) in market.schema().resources.iter().enumerate() {
        if !RESOURCES.contains(&resource.name.as_str()) {
            continue;
        }
        let mut truth = rows(market, at, &resource.key_field);
        let mut wrong = Vec::new();
        let now = AsOf::Sequence(snapshot.sequence());
        snapshot.scan(&resource.name, now, |key, record| {
            let mirrored = from_json(&record.to_json(None));
            match truth.remove(&key.to_string()).map(|row| from_json(&row)) {
                Some(row) if row == mirrored => {
                    records += 1;
                    values += row.len() as u64;
                }
                Some(_) => wrong.push(format!("{} {key} differs", resource.name)),
                None => wrong.push(format!("{} {key} is not in the market", resource.name)),
            }
            Ok(true)
        })?;
        wrong.extend(
            truth
                .keys()
                .map(|key| format!("{} {key} is missing", resource.name)),
        );
        if let Some(first) = wrong.first() {
            let count = plural(wrong.len() as u64, "record", "records");
            return Err(Failure::failed(
                format!("the mirror differs from the market in {count}: {first}"),
                "this is a bug in Relist; please report it with the options of this demo",
            ));
        }
    }
    Ok(format!(
        "The mirror was checked against the market itself: {} records, {} values, no difference.",
        thousands(records),
        thousands(values)
    ))
}

/// The market's rows of a resource as JSON text, by key.
fn rows(market: &Market, resource: usize, key_field: &str) -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    let key_place = market.schema().resources.get(resource);
    let key_place = key_place.and_then(|r| r.fields.iter().position(|f| f.name == key_field));
    market.scan(resource, &Access::All, &mut |row| {
        let mut text = vec![b'{'];
        market.write_row(resource, row, None, &mut text);
        text.push(b'}');
        let mut key = Vec::new();
        market.write_field(resource, row, key_place.unwrap_or(0), &mut key);
        let key = String::from_utf8_lossy(&key).trim_matches('"').to_owned();
        rows.insert(key, String::from_utf8_lossy(&text).into_owned());
        true
    });
    rows
}
