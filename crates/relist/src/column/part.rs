//! Parts: the cells of one field for some rows, gathered out of segments in any order.
//!
//! A part is what an export reads: a number stays an integer with its form, a cell that repeats
//! stays a code, and only what is neither is bytes.

use std::sync::Arc;

use super::dictionary::{ABSENT, NULL};
use super::{Dictionary, Form, Segment, Unit, Values, slice_of};
use crate::record::Cell;
use crate::record::codec::Reader;

const TAG_ABSENT: u16 = 0;
const TAG_NULL: u16 = 1;
const TAG_CODE: u16 = 2;
const TAG_CELL: u16 = 3;
/// The tag of the first form; those behind it follow.
const TAG_FORMS: u16 = 4;

/// What a row of a part holds.
#[derive(Debug, Clone, Copy)]
pub enum Item<'p> {
    /// The record does not have the field.
    Absent,
    /// Null.
    Null,
    /// A number, a date, a time.
    Number(Numeral),
    /// A code for a cell that repeats: see [`Part::coded`].
    Code(u16),
    /// Any other cell.
    Cell(Cell<'p>),
}

/// A number, a date or a time as an integer, and how it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numeral {
    /// What it counts.
    pub unit: Unit,
    /// The count, in units of `10^-scale`.
    pub value: i64,
    /// The digits behind the point that `value` has, perhaps more than were written.
    pub scale: u8,
    form: Form,
}

impl Numeral {
    /// Appends it as JSON, as the feed wrote it.
    pub fn write_json(self, out: &mut String) {
        self.form.write_json(self.value, self.scale, out);
    }

    /// The digits behind the point that were written.
    pub fn digits(self) -> u8 {
        self.form.scale()
    }
}

/// One field of some rows.
#[derive(Debug, Clone, Default)]
pub struct Part {
    tags: Vec<u16>,
    /// A number, a code, or where a cell begins in `bytes`.
    values: Vec<i64>,
    /// The forms of the numbers, with the unit and the scale they were stored with.
    forms: Vec<(Form, Unit, u8)>,
    bytes: Vec<u8>,
    dictionary: Arc<Dictionary>,
}

impl Part {
    /// A part in which the field is absent.
    pub(crate) fn absent(rows: usize, dictionary: Arc<Dictionary>) -> Self {
        Part {
            tags: vec![TAG_ABSENT; rows],
            values: vec![0; rows],
            forms: Vec::new(),
            bytes: Vec::new(),
            dictionary,
        }
    }

    /// Begins anew with the field absent; the room is kept.
    pub(crate) fn reset(&mut self, rows: usize, dictionary: &Arc<Dictionary>) {
        self.tags.clear();
        self.tags.resize(rows, TAG_ABSENT);
        self.values.clear();
        self.values.resize(rows, 0);
        self.forms.clear();
        self.bytes.clear();
        if !Arc::ptr_eq(&self.dictionary, dictionary) {
            self.dictionary = Arc::clone(dictionary);
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// What a row holds; absent behind the last one.
    #[inline]
    pub fn item(&self, row: usize) -> Item<'_> {
        let tag = self.tags.get(row).copied().unwrap_or(TAG_ABSENT);
        let value = self.values.get(row).copied().unwrap_or(0);
        match tag {
            TAG_ABSENT => Item::Absent,
            TAG_NULL => Item::Null,
            TAG_CODE => Item::Code(u16::try_from(value).unwrap_or(ABSENT)),
            TAG_CELL => self.cell_at(value).map_or(Item::Absent, Item::Cell),
            form => match self.forms.get(usize::from(form - TAG_FORMS)) {
                Some(&(form, unit, scale)) => Item::Number(Numeral {
                    unit,
                    value,
                    scale,
                    form,
                }),
                None => Item::Absent,
            },
        }
    }

    fn cell_at(&self, at: i64) -> Option<Cell<'_>> {
        let bytes = self.bytes.get(usize::try_from(at).ok()?..)?;
        Cell::read(&mut Reader::new(bytes))
    }

    /// The cell of a code.
    pub fn coded(&self, code: u16) -> Option<Cell<'_>> {
        let bytes = self.dictionary.cell(code)?;
        Cell::read(&mut Reader::new(bytes))
    }

    /// How many codes there may be: each is less.
    pub fn codes(&self) -> usize {
        self.dictionary.codes()
    }

    /// Takes rows of a segment: pairs of a place in the part and a row of the segment.
    pub(crate) fn take(&mut self, segment: &Segment, rows: impl Iterator<Item = (usize, usize)>) {
        match &segment.values {
            Values::Absent | Values::Elsewhere => {}
            Values::Numbers(numbers) => {
                let unit_scale = (numbers.unit, numbers.scale);
                let tags: Vec<u16> = numbers
                    .forms
                    .iter()
                    .map(|form| self.tag_of(*form, unit_scale))
                    .collect();
                let one = tags.first().copied().unwrap_or(TAG_ABSENT);
                for (place, row) in rows {
                    let Some(value) = numbers.values.get(row) else {
                        continue;
                    };
                    let form = numbers.form_of.get(row);
                    let tag = form.map_or(one, |form| {
                        tags.get(usize::from(*form)).copied().unwrap_or(TAG_ABSENT)
                    });
                    self.put(place, tag, *value);
                }
            }
            Values::Codes(codes) => {
                for (place, row) in rows {
                    match codes.get(row).copied() {
                        None | Some(ABSENT) => {}
                        Some(NULL) => self.put(place, TAG_NULL, 0),
                        Some(code) => self.put(place, TAG_CODE, i64::from(code)),
                    }
                }
            }
            Values::Bytes { ends, bytes } => {
                for (place, row) in rows {
                    self.put_cell(place, slice_of(ends, bytes, row));
                }
            }
        }
    }

    /// Puts an encoded cell in a place; an empty one is absent.
    pub(crate) fn put_cell(&mut self, place: usize, cell: &[u8]) {
        match cell {
            [] => self.put(place, TAG_ABSENT, 0),
            [0] => self.put(place, TAG_NULL, 0),
            cell => {
                let at = i64::try_from(self.bytes.len()).unwrap_or(i64::MAX);
                self.bytes.extend_from_slice(cell);
                self.put(place, TAG_CELL, at);
            }
        }
    }

    #[inline]
    fn put(&mut self, place: usize, tag: u16, value: i64) {
        if let (Some(own), Some(number)) = (self.tags.get_mut(place), self.values.get_mut(place)) {
            *own = tag;
            *number = value;
        }
    }

    fn tag_of(&mut self, form: Form, (unit, scale): (Unit, u8)) -> u16 {
        if form == Form::ABSENT {
            return TAG_ABSENT;
        }
        if form == Form::NULL {
            return TAG_NULL;
        }
        let own = (form, unit, scale);
        let known = self.forms.iter().position(|known| *known == own);
        let at = known.unwrap_or_else(|| {
            self.forms.push(own);
            self.forms.len() - 1
        });
        // A segment has 256 forms at most, a part a few segments that differ.
        u16::try_from(at).unwrap_or(u16::MAX - TAG_FORMS) + TAG_FORMS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::{Edit, edited};
    use crate::record::{put_number, put_string};
    use crate::schema::FieldType;

    fn cells(texts: &[&str]) -> Vec<Vec<u8>> {
        let cell = |text: &&str| {
            let mut out = Vec::new();
            match *text {
                "" => {}
                "null" => out.push(0),
                text if text.starts_with('"') => {
                    let text = text.trim_matches('"');
                    put_string(&mut out, text, Some(&FieldType::DateTime));
                }
                text => put_number(&mut out, text),
            }
            out
        };
        texts.iter().map(cell).collect()
    }

    /// Each row as JSON, `-` where absent.
    fn shown(part: &Part) -> Vec<String> {
        let text = |row| match part.item(row) {
            Item::Absent => "-".to_owned(),
            Item::Null => "null".to_owned(),
            Item::Number(number) => {
                let mut out = String::new();
                number.write_json(&mut out);
                out
            }
            Item::Code(code) => part.coded(code).unwrap().to_json(),
            Item::Cell(cell) => cell.to_json(),
        };
        (0..part.len()).map(text).collect()
    }

    #[test]
    fn every_layout_gives_its_cells_back() {
        let sets: [&[&str]; 4] = [
            &["1", "-2.50", "null", "", "350000.0", "0.184"],
            &[
                "\"2020-10-22T21:27:44.780Z\"",
                "\"1969-12-31T23:59:59-07:00\"",
                "",
            ],
            &["\"Active\"", "\"Active\"", "null", "\"Closed\"", ""],
            &["\"2020-10-22\"", "7", "\"x\"", "null"],
        ];
        for texts in sets {
            let cells = cells(texts);
            let edits: Vec<Edit<'_>> = (0_u16..)
                .zip(&cells)
                .map(|(row, cell)| Edit { row, cell })
                .collect();
            let mut dictionary = Dictionary::default();
            let segment = edited(None, cells.len(), &edits, &mut dictionary);
            let mut part = Part::absent(cells.len() + 1, Arc::new(dictionary));
            // Backwards, and one place is left free.
            let places = (0..cells.len()).map(|row| (cells.len() - row, row));
            part.take(&segment, places);
            let mut expected: Vec<&str> = texts.iter().rev().copied().collect();
            expected.insert(0, "");
            let expected: Vec<&str> = expected
                .into_iter()
                .map(|t| if t.is_empty() { "-" } else { t })
                .collect();
            assert_eq!(shown(&part), expected);
            part.put_cell(0, cells.first().unwrap());
            assert_eq!(shown(&part).first().unwrap(), texts.first().unwrap());
        }
    }
}
