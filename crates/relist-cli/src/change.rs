//! Changes as lines, in RESO's words.

use relist::query::ChangeRow;
use relist::schema::Resource;
use relist::store::{Change, FieldChange, Operation};
use relist::value::Timestamp;

use crate::output::{Datum, Member, left, right};
use crate::style::printable;

/// The members of a line. The key is a string, as in RESO's HistoryTransactional resource.
pub(crate) const MEMBERS: &[Member] = &[
    right("Sequence", "SEQ"),
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

/// The lines of a change: one a field, and one without a field for what is more than an update.
///
/// With `fields`, only the lines of those.
pub(crate) fn lines(change: &Change, fields: &[&str]) -> Vec<Vec<Datum>> {
    let mut lines = Vec::new();
    if change.operation != Operation::Update && fields.is_empty() {
        lines.push(row(change, None));
    }
    for edit in &change.fields {
        if fields.is_empty() || fields.contains(&edit.name.as_str()) {
            lines.push(row(change, Some(edit)));
        }
    }
    lines
}

/// The line of a row of the changes: a value for each member.
pub(crate) fn of_row(row: &ChangeRow<'_>) -> Vec<Datum> {
    let (previous, new) = if row.field.is_some() {
        (Datum::cell(row.previous()), Datum::cell(row.new_value()))
    } else {
        let note = Some(row.note).filter(|n| !n.is_empty() && row.key.is_none());
        (Datum::null(), Datum::optional(note))
    };
    vec![
        Datum::number(row.sequence),
        Datum::text(row.resource),
        Datum::optional(row.key.map(ToString::to_string)),
        Datum::text(row.operation.name()),
        Datum::optional(row.field),
        previous,
        new,
        Datum::time(row.source_time),
        Datum::time(Some(row.observed)),
        Datum::text(row.cause.name()),
    ]
}

/// The line of one field of a change, or of the change as a whole: a value for each member.
pub(crate) fn row(change: &Change, edit: Option<&FieldChange>) -> Vec<Datum> {
    let (previous, new) = if let Some(edit) = edit {
        (Datum::cell(edit.previous()), Datum::cell(edit.new_value()))
    } else {
        // What a change of the schema was.
        let note = Some(&change.note).filter(|n| !n.is_empty() && change.key.is_none());
        (Datum::null(), Datum::optional(note))
    };
    vec![
        Datum::number(change.sequence),
        Datum::text(&change.resource),
        Datum::optional(change.key.as_ref().map(ToString::to_string)),
        Datum::text(change.operation.name()),
        Datum::optional(edit.map(|e| e.name.as_str())),
        previous,
        new,
        Datum::time(change.source_time),
        Datum::time(Some(change.observed)),
        Datum::text(change.cause.name()),
    ]
}

/// A line of a change for a person who watches.
pub(crate) fn sentence(change: &Change, line: &[Datum]) -> String {
    let shown = |name: &str| {
        let at = MEMBERS.iter().position(|member| member.name == name);
        at.and_then(|at| line.get(at))
            .map_or(String::new(), Datum::for_table)
    };
    let key = change.key.as_ref().map(|key| format!(" {key}"));
    let field = shown("FieldName");
    let what = if field.is_empty() {
        change.operation.name().to_owned()
    } else {
        format!(
            "{field} {} -> {}",
            shown("PreviousValue"),
            shown("NewValue")
        )
    };
    printable(&format!(
        "{}  {}{}  {what}  #{}",
        minute(change.observed),
        change.resource,
        key.unwrap_or_default(),
        change.sequence
    ))
}

/// Fields whose changes say nothing by themselves: they move with every other change.
pub(crate) fn is_stamp(resource: &Resource, name: &str) -> bool {
    use relist::schema::FieldType;
    name.ends_with("Timestamp")
        && resource
            .field_named(name)
            .is_some_and(|f| f.ty == FieldType::DateTime)
}

/// The moment to the minute, for timelines.
pub(crate) fn minute(at: Timestamp) -> String {
    let text = at.to_datetime().format(0, true);
    text.get(..16).unwrap_or(&text).replace('T', " ")
}
