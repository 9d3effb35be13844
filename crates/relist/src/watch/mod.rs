//! Watching: events of rules over the changelog, in its order.
//!
//! A rule says what to look for; [`Snapshot::events`] reads the changes after a sequence and gives
//! the events of each. Nothing is remembered between two calls but that sequence: whoever delivers
//! the events keeps it (see [`WriteTxn::set_position`](crate::store::WriteTxn::set_position)) and
//! moves it only when they are delivered. So each event comes at least once, with the same
//! sequence, rule and field each time, by which its receiver tells a repetition.

mod rule;

use std::fmt::Write as _;

pub use rule::{Condition, Rule};

use crate::error::{Error, Result};
use crate::keycode::Key;
use crate::odata::{Predicate, Query};
use crate::record::{Cell, Record};
use crate::schema::FieldId;
use crate::store::{AsOf, Cause, Change, Changes, Operation, Snapshot};
use crate::value::{Decimal, Timestamp, Value, write_json_string};
use rule::STANDARD_STATUS;

/// The status of a listing that is on the market (RESO Data Dictionary, StandardStatus).
const ACTIVE: &str = "Active";
/// The statuses of a listing that was not on the market yet.
const BEFORE_MARKET: [&str; 2] = ["Coming Soon", "Incomplete"];

/// Something that a rule looks for has happened. Its names are RESO's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The sequence of the change.
    pub sequence: u64,
    /// The rule's name.
    pub rule: String,
    /// The resource.
    pub resource: String,
    /// The record.
    pub key: Key,
    /// What happened to it.
    pub operation: Operation,
    /// The field, where the rule is about one.
    pub field: Option<String>,
    /// Its value before, as JSON; `None` when it was absent.
    pub previous: Option<String>,
    /// Its value after, as JSON; `None` when it is absent.
    pub new: Option<String>,
    /// The feed's ModificationTimestamp of the record after the change.
    pub source_time: Option<Timestamp>,
    /// When the store observed it.
    pub observed: Timestamp,
    /// What made it known.
    pub cause: Cause,
}

impl Event {
    /// The event as a JSON object. The key is a string, as in RESO's HistoryTransactional resource.
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(256);
        let text = |out: &mut String, name: &str, text: Option<&str>| {
            let _ = write!(out, ",\"{name}\":");
            match text {
                Some(text) => {
                    let _ = write_json_string(out, text);
                }
                None => out.push_str("null"),
            }
        };
        let _ = write!(out, "{{\"Sequence\":{}", self.sequence);
        text(&mut out, "Rule", Some(&self.rule));
        text(&mut out, "ResourceName", Some(&self.resource));
        text(&mut out, "ResourceRecordKey", Some(&self.key.to_string()));
        text(&mut out, "Operation", Some(self.operation.name()));
        text(&mut out, "FieldName", self.field.as_deref());
        for (name, value) in [("PreviousValue", &self.previous), ("NewValue", &self.new)] {
            let _ = write!(out, ",\"{name}\":{}", value.as_deref().unwrap_or("null"));
        }
        let stamp = self.source_time.map(|t| t.to_string());
        text(&mut out, "ModificationTimestamp", stamp.as_deref());
        text(
            &mut out,
            "ObservedTimestamp",
            Some(&self.observed.to_string()),
        );
        text(&mut out, "Cause", Some(self.cause.name()));
        out.push('}');
        out
    }
}

/// The events of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The sequence of the change: the position once its events are delivered.
    pub sequence: u64,
    /// Its events, by rule; mostly none.
    pub events: Vec<Event>,
}

/// Iterates over the changes after a sequence with the events of each: see [`Snapshot::events`].
#[derive(Debug)]
pub struct Events<'s> {
    snapshot: &'s Snapshot,
    changes: Changes<'s>,
    rules: Vec<Bound>,
}

/// A rule and its filter, bound to the resource.
#[derive(Debug)]
struct Bound {
    rule: Rule,
    filter: Option<Predicate>,
}

impl Snapshot {
    /// The events of rules after a sequence, change by change, up to this view's sequence.
    ///
    /// `now` is what `now()` means in the filters.
    ///
    /// # Errors
    /// [`Error::UnknownResource`], [`Error::Query`] for a filter that does not fit,
    /// [`Error::Usage`] for a field that the resource does not have or a sequence that is not
    /// reached yet, [`Error::Pruned`] when changes after `since` are not held any more.
    pub fn events(&self, rules: &[Rule], since: u64, now: Timestamp) -> Result<Events<'_>> {
        let since = self.resolve(AsOf::Sequence(since))?;
        let rules = rules.iter().map(|rule| self.bind_rule(rule, now));
        Ok(Events {
            snapshot: self,
            rules: rules.collect::<Result<_>>()?,
            changes: self.changes(since)?,
        })
    }

    fn bind_rule(&self, rule: &Rule, now: Timestamp) -> Result<Bound> {
        let resource = self.resource(&rule.resource)?;
        for field in rule.condition.fields() {
            // Where nothing declares the fields, one may yet come.
            if resource.declared && resource.field_id(field).is_none() {
                return Err(Error::Usage(format!(
                    "rule {:?}: {} has no field {field}; names are case sensitive",
                    rule.name, rule.resource
                )));
            }
        }
        let filter = match &rule.filter {
            Some(text) => {
                let query = Query::new(&rule.resource).filter(text)?;
                query.bind(self.schema(), now)?.predicate
            }
            None => None,
        };
        Ok(Bound {
            rule: rule.clone(),
            filter,
        })
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Observed>;

    fn next(&mut self) -> Option<Self::Item> {
        let change = self.changes.next()?;
        Some(change.and_then(|change| self.observe(&change)))
    }
}

/// A field's values before and after a change.
struct Edit {
    field: String,
    previous: Side,
    new: Side,
}

/// One of the two: as JSON, and as what a condition asks for.
#[derive(Default)]
struct Side {
    json: Option<String>,
    text: Option<String>,
    number: Option<Decimal>,
}

impl Side {
    fn of(cell: Option<Cell<'_>>, value: Option<&Value<'_>>) -> Self {
        Side {
            json: cell.map(Cell::to_json),
            text: value.filter(|v| !v.is_null()).map(|v| match v.as_str() {
                Some(text) => text.to_owned(),
                None => v.to_string(),
            }),
            number: value.and_then(Value::as_decimal),
        }
    }
}

impl Events<'_> {
    fn observe(&self, change: &Change) -> Result<Observed> {
        let mut observed = Observed {
            sequence: change.sequence,
            events: Vec::new(),
        };
        let Some(key) = &change.key else {
            return Ok(observed);
        };
        for bound in &self.rules {
            if bound.rule.resource != change.resource {
                continue;
            }
            let found = self.found(&bound.rule.condition, change, key)?;
            if found.is_empty() || !self.passes(bound, change, key)? {
                continue;
            }
            let event = |edit: Option<Edit>| {
                let edit = edit.map(|e| (e.field, e.previous.json, e.new.json));
                let (field, previous, new) = match edit {
                    Some((field, previous, new)) => (Some(field), previous, new),
                    None => (None, None, None),
                };
                Event {
                    sequence: change.sequence,
                    rule: bound.rule.name.clone(),
                    resource: change.resource.clone(),
                    key: key.clone(),
                    operation: change.operation,
                    field,
                    previous,
                    new,
                    source_time: change.source_time,
                    observed: change.observed,
                    cause: change.cause,
                }
            };
            observed.events.extend(found.into_iter().map(event));
        }
        Ok(observed)
    }

    /// What of the change meets the condition: an edit each, or `None` for the change as a whole.
    fn found(
        &self,
        condition: &Condition,
        change: &Change,
        key: &Key,
    ) -> Result<Vec<Option<Edit>>> {
        if let Condition::Operation(operation) = condition {
            let met = *operation == change.operation;
            return Ok(met.then_some(None).into_iter().collect());
        }
        let wanted = condition.fields();
        // A listing that comes back as Active is back, whatever it was when it went.
        let back = change.operation == Operation::Relist && *condition == Condition::BackOnMarket;
        let mut edits = match change.operation {
            Operation::Update => self.edits(change, &wanted)?,
            Operation::Relist => self.relist_edits(change, key, &wanted, back)?,
            Operation::Insert | Operation::Delete | Operation::Schema | Operation::Purge => {
                Vec::new()
            }
        };
        edits.retain(|edit| {
            if back {
                is(&edit.new, ACTIVE)
            } else {
                meets(condition, edit)
            }
        });
        Ok(edits.into_iter().map(Some).collect())
    }

    fn edits(&self, change: &Change, wanted: &[&str]) -> Result<Vec<Edit>> {
        let resource = self.snapshot.resource(&change.resource)?;
        let value = |field: FieldId, cell: Option<Cell<'_>>| {
            let ty = resource.field(field).map(|f| &f.ty);
            let value = cell.map(|c| ty.map_or_else(|| c.value(), |ty| c.value_as(ty)));
            Side::of(cell, value.as_ref())
        };
        let fields = change.fields.iter();
        let fields = fields.filter(|f| wanted.is_empty() || wanted.contains(&f.name.as_str()));
        Ok(fields
            .map(|f| Edit {
                field: f.name.clone(),
                previous: value(f.field, f.previous()),
                new: value(f.field, f.new_value()),
            })
            .collect())
    }

    /// A relisting is compared with the last version before the record was gone.
    fn relist_edits(
        &self,
        change: &Change,
        key: &Key,
        wanted: &[&str],
        equal_too: bool,
    ) -> Result<Vec<Edit>> {
        let history = self.snapshot.history(&change.resource, key)?;
        let before = history
            .iter()
            .rfind(|v| v.to.is_some_and(|to| to < change.sequence));
        let after = history.iter().find(|v| v.from == change.sequence);
        let (Some(before), Some(after)) = (before, after) else {
            return Ok(Vec::new());
        };
        let (before, after) = (&before.record, &after.record);
        let resource = self.snapshot.resource(&change.resource)?;
        let fields = resource.fields.iter().map(|f| f.name.as_str());
        let fields = fields
            .filter(|name| wanted.is_empty() || wanted.contains(name))
            .filter(|name| equal_too || before.get(name) != after.get(name));
        let side = |record: &Record, name: &str| {
            let cell = resource.field_id(name).and_then(|id| record.cell(id));
            Side::of(cell, record.get(name).as_ref())
        };
        Ok(fields
            .map(|name| Edit {
                field: name.to_owned(),
                previous: side(before, name),
                new: side(after, name),
            })
            .collect())
    }

    fn passes(&self, bound: &Bound, change: &Change, key: &Key) -> Result<bool> {
        let Some(filter) = &bound.filter else {
            return Ok(true);
        };
        let gone = change.operation == Operation::Delete;
        let at = AsOf::Sequence(change.sequence - u64::from(gone));
        let record = self.snapshot.get_at(&change.resource, key, at)?;
        Ok(record.is_some_and(|record| filter.matches(&record)))
    }
}

/// Whether an edit is what the condition looks for.
fn meets(condition: &Condition, edit: &Edit) -> bool {
    match condition {
        Condition::Transition { from, to, .. } => {
            let one_of = |list: &[String], side: &Side| {
                list.is_empty() || list.iter().any(|text| is(side, text))
            };
            one_of(from, &edit.previous) && one_of(to, &edit.new)
        }
        Condition::PriceDrop { percent, .. } => fell(edit, *percent).unwrap_or(false),
        Condition::BackOnMarket => {
            let was_off = edit.previous.text.is_some()
                && !is(&edit.previous, ACTIVE)
                && !BEFORE_MARKET.iter().any(|text| is(&edit.previous, text));
            edit.field == STANDARD_STATUS && was_off && is(&edit.new, ACTIVE)
        }
        Condition::FieldChanged { .. } => true,
        Condition::Operation(_) => false,
    }
}

/// Whether a number fell by at least so many percent; `None` where it is no number.
fn fell(edit: &Edit, percent: Decimal) -> Option<bool> {
    let (previous, new) = (edit.previous.number?, edit.new.number?);
    let fall = previous.checked_sub(new)?;
    let least = previous.checked_mul(percent)?;
    let positive = previous > Decimal::from(0);
    Some(positive && fall.checked_mul(Decimal::from(100))? >= least)
}

/// Whether a value is that text, by its letters and digits: feeds send a lookup's name
/// (`ActiveUnderContract`) or its display text (`Active Under Contract`).
fn is(side: &Side, text: &str) -> bool {
    let Some(own) = &side.text else {
        return false;
    };
    let letters = |text: &str| {
        let letters = text.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect::<String>()
    };
    own == text || (letters(own) == letters(text) && !letters(text).is_empty())
}
