//! Columns of a row group out of the store's own codes and integers.

use std::ops::Range;

use relist::query::{FrameColumn, Item, Part};
use relist::record::Cell;
use relist::schema::FieldType;
use relist::value::Value;

use crate::arrays::{integers, text_of, unquoted};
use crate::error::ExportError;
use crate::item::write_item;
use crate::leaf::{Encoded, Leaf};
use crate::shape::{Column, ColumnType};

/// The levels of a list that is null, and of one without members.
const NO_LIST: u8 = 0;
const NO_MEMBERS: u8 = 1;

/// Whether a column has an encoder here; others go the way of Arrow's arrays.
pub(crate) fn is_own(ty: &ColumnType) -> bool {
    use ColumnType as T;
    match ty {
        T::Int | T::Date | T::DateTime | T::Text | T::Word | T::List => true,
        T::Decimal { precision, .. } => *precision <= 18,
        T::Bool | T::Point => false,
    }
}

/// Encodes a column of a row group.
pub(crate) fn encode(
    column: &Column,
    mut leaf: Leaf,
    source: &mut FrameColumn<'_>,
    group: &[Range<usize>],
) -> Result<Encoded, ExportError> {
    let mut codes = Vec::new();
    let mut lists = Vec::new();
    let mut numbers = Vec::new();
    let mut part = Part::default();
    for rows in group {
        source.read_into(rows.clone(), &mut part)?;
        match &column.ty {
            ColumnType::Text | ColumnType::Word => texts(&part, &mut leaf, &mut codes)?,
            ColumnType::List => members(&part, &mut leaf, &mut lists)?,
            ty => {
                integers(ty, &part, &mut numbers);
                for number in &numbers {
                    leaf.row()?;
                    match number {
                        Some(number) => leaf.put_number(*number),
                        None => leaf.nothing(0),
                    }
                }
            }
        }
        leaf.consider()?;
    }
    leaf.finish()
}

/// What is known of a code: its place in the dictionary of the leaf.
fn slot<'c, T: Default + Clone>(
    codes: &'c mut Vec<T>,
    code: u16,
    part: &Part,
) -> Option<&'c mut T> {
    let at = usize::from(code);
    if codes.len() <= at {
        codes.resize(part.codes().max(at + 1), T::default());
    }
    codes.get_mut(at)
}

fn texts(part: &Part, leaf: &mut Leaf, codes: &mut Vec<Option<u32>>) -> Result<(), ExportError> {
    let mut scratch = String::new();
    for row in 0..part.len() {
        leaf.row()?;
        match part.item(row) {
            Item::Absent | Item::Null => leaf.nothing(0),
            Item::Code(code) => {
                let known = slot(codes, code, part);
                let place = known.and_then(|known| {
                    if known.is_none() {
                        let cell = part.coded(code)?;
                        *known = Some(text_of(cell, &mut scratch, |text| leaf.place(text)));
                    }
                    *known
                });
                match place {
                    Some(place) => leaf.put_placed(place, 0),
                    None => leaf.nothing(0),
                }
            }
            Item::Cell(cell) => text_of(cell, &mut scratch, |text| leaf.put_text(text, 0)),
            item @ Item::Number(_) => {
                scratch.clear();
                write_item(item, part, &mut scratch);
                leaf.put_text(unquoted(&scratch), 0);
            }
        }
    }
    Ok(())
}

/// The places of a code's members, once they were looked up; `None` within is no list.
type Places = Option<Option<Vec<u32>>>;

fn members(part: &Part, leaf: &mut Leaf, codes: &mut Vec<Places>) -> Result<(), ExportError> {
    for row in 0..part.len() {
        leaf.row()?;
        match part.item(row) {
            Item::Absent | Item::Null | Item::Number(_) => leaf.nothing(NO_LIST),
            Item::Code(code) => {
                let Some(known) = slot(codes, code, part) else {
                    continue;
                };
                let places = known.get_or_insert_with(|| {
                    let members = members_of(part.coded(code)?)?;
                    Some(members.iter().map(|member| leaf.place(member)).collect())
                });
                match places.as_deref() {
                    None => leaf.nothing(NO_LIST),
                    Some([]) => leaf.nothing(NO_MEMBERS),
                    Some(places) => {
                        for (at, place) in places.iter().enumerate() {
                            leaf.put_placed(*place, u8::from(at > 0));
                        }
                    }
                }
            }
            Item::Cell(cell) => match members_of(cell) {
                None => leaf.nothing(NO_LIST),
                Some(members) if members.is_empty() => leaf.nothing(NO_MEMBERS),
                Some(members) => {
                    for (at, member) in members.iter().enumerate() {
                        leaf.put_text(member, u8::from(at > 0));
                    }
                }
            },
        }
    }
    Ok(())
}

fn members_of(cell: Cell<'_>) -> Option<Vec<std::borrow::Cow<'_, str>>> {
    match cell.value_as(&FieldType::StringList) {
        Value::StringList(members) => Some(members),
        _ => None,
    }
}
