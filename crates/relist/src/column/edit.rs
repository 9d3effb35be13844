//! Edits: a segment with other cells in some rows, in the layout that suits it.

use super::number::Number;
use super::segment::{numbers_of, slice_of};
use super::{Dictionary, Form, Numbers, Segment, Values};

/// Rows looked at before a dictionary is given up for good.
const TRIAL_ROWS: usize = 1_024;
/// A segment of more rows than that may always add so many cells to the dictionary.
const FREE_CELLS: usize = 256;

/// Cells longer than this on average are left to the records.
const LONG: usize = 2_048;

/// A row's new cell, encoded; empty when the field is absent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edit<'a> {
    pub(crate) row: u16,
    pub(crate) cell: &'a [u8],
}

impl Segment {
    /// The segment with codes of its dictionary in some rows; `None` where it holds other things.
    pub(crate) fn with_codes(&self, rows: &[(u16, u16)]) -> Option<Segment> {
        let Values::Codes(codes) = &self.values else {
            return None;
        };
        let mut codes = codes.clone();
        for (row, code) in rows {
            let row = usize::from(*row);
            if row >= codes.len() {
                codes.resize(row + 1, super::ABSENT);
            }
            *codes.get_mut(row)? = *code;
        }
        let rows = codes.len().max(self.rows);
        codes.resize(rows, super::ABSENT);
        Some(Segment::new(rows, Values::Codes(codes)))
    }
}

/// As [`edited`], where neither the layout changes nor the dictionary; `None` otherwise.
pub(crate) fn edited_in_place(
    old: &Segment,
    rows: usize,
    edits: &[Edit<'_>],
    dictionary: &Dictionary,
) -> Option<Segment> {
    let rows = rows.max(old.rows);
    let values = match &old.values {
        Values::Elsewhere => Values::Elsewhere,
        Values::Codes(codes) => {
            let mut codes = codes.clone();
            codes.resize(rows, super::ABSENT);
            let mut last: (&[u8], u16) = (&[], super::ABSENT);
            for edit in edits {
                if last.0 != edit.cell {
                    last = (edit.cell, dictionary.known(edit.cell)?);
                }
                *codes.get_mut(usize::from(edit.row))? = last.1;
            }
            Values::Codes(codes)
        }
        Values::Numbers(numbers) => Values::Numbers(patched_numbers(numbers, rows, edits)?),
        Values::Absent | Values::Bytes { .. } => return None,
    };
    Some(Segment::new(rows, values))
}

/// The segment of `rows` rows that `old` becomes; the last edit of a row counts.
pub(crate) fn edited(
    old: Option<Segment>,
    rows: usize,
    edits: &[Edit<'_>],
    dictionary: &mut Dictionary,
) -> Segment {
    let old = old.unwrap_or_else(|| Segment::absent(0));
    let rows = rows.max(old.rows);
    if edits.iter().all(|edit| edit.cell.is_empty()) && old.values == Values::Absent {
        return Segment::absent(rows);
    }
    if let Some(values) = patched(&old.values, rows, edits, dictionary) {
        return Segment::new(rows, values);
    }
    let mut scratch = Vec::with_capacity(old.size());
    let mut ends = Vec::with_capacity(rows);
    for row in 0..rows {
        old.write_cell(row, dictionary, &mut scratch);
        ends.push(u32::try_from(scratch.len()).unwrap_or(u32::MAX));
    }
    let mut cells: Vec<&[u8]> = (0..rows)
        .map(|row| slice_of(&ends, &scratch, row))
        .collect();
    for edit in edits {
        if let Some(cell) = cells.get_mut(usize::from(edit.row)) {
            *cell = edit.cell;
        }
    }
    Segment::new(rows, built(&cells, dictionary))
}

/// Chooses the layout of cells.
fn built(cells: &[&[u8]], dictionary: &mut Dictionary) -> Values {
    if let Some(numbers) = numbers_of(cells) {
        return Values::Numbers(numbers);
    }
    if cells.iter().all(|cell| cell.is_empty()) {
        return Values::Absent;
    }
    if let Some(codes) = coded(cells, dictionary) {
        return Values::Codes(codes);
    }
    let len: usize = cells.iter().map(|cell| cell.len()).sum();
    if len > LONG * cells.len() {
        return Values::Elsewhere;
    }
    let mut bytes = Vec::with_capacity(len);
    let mut ends = Vec::with_capacity(cells.len());
    for cell in cells {
        bytes.extend_from_slice(cell);
        ends.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }
    Values::Bytes { ends, bytes }
}

/// Cells as codes; `None`, with the dictionary as it was, when they do not repeat enough.
fn coded(cells: &[&[u8]], dictionary: &mut Dictionary) -> Option<Vec<u16>> {
    let before = dictionary.len();
    let mut out = Vec::with_capacity(cells.len());
    let mut last: (&[u8], u16) = (&[], super::ABSENT);
    for (row, cell) in cells.iter().enumerate() {
        if last.0 != *cell {
            let code = dictionary.code(cell);
            let new = dictionary.len() - before;
            // A few rows tell little: what does not repeat among them is not given codes.
            let free = if cells.len() > TRIAL_ROWS {
                FREE_CELLS
            } else {
                0
            };
            let repeats =
                new <= free || (new <= cells.len() / 2 && (row != TRIAL_ROWS || new < row * 7 / 8));
            let Some(code) = code.filter(|_| repeats) else {
                dictionary.truncate(before);
                return None;
            };
            last = (cell, code);
        }
        out.push(last.1);
    }
    Some(out)
}

/// The old layout with the edits in it, where they fit.
fn patched(
    old: &Values,
    rows: usize,
    edits: &[Edit<'_>],
    dictionary: &mut Dictionary,
) -> Option<Values> {
    match old {
        Values::Absent => None,
        Values::Bytes { ends, bytes } => spliced(ends, bytes, rows, edits),
        Values::Elsewhere => Some(Values::Elsewhere),
        Values::Codes(codes) => {
            let before = dictionary.len();
            let mut codes = codes.clone();
            codes.resize(rows, super::ABSENT);
            for edit in edits {
                let code = dictionary.code(edit.cell);
                let new = dictionary.len() - before;
                // Cells that do not repeat are no matter for a dictionary: see what suits them.
                let repeats = new <= FREE_CELLS || new <= edits.len() / 2;
                let Some(code) = code.filter(|_| repeats) else {
                    dictionary.truncate(before);
                    return None;
                };
                *codes.get_mut(usize::from(edit.row))? = code;
            }
            Some(Values::Codes(codes))
        }
        Values::Numbers(numbers) => patched_numbers(numbers, rows, edits).map(Values::Numbers),
    }
}

/// Bytes with the edits in them; `None` where there are so many that another layout may suit.
fn spliced(ends: &[u32], bytes: &[u8], rows: usize, edits: &[Edit<'_>]) -> Option<Values> {
    if edits.len() > rows / 4 {
        return None;
    }
    // Sorted by row, of each row the last.
    let mut own: Vec<&Edit<'_>> = edits.iter().collect();
    own.sort_by_key(|edit| edit.row);
    let more: usize = own.iter().map(|edit| edit.cell.len()).sum();
    let mut out = Vec::with_capacity(bytes.len() + more);
    let mut out_ends = Vec::with_capacity(rows);
    let mut own = own.into_iter().peekable();
    for row in 0..rows {
        let mut cell = slice_of(ends, bytes, row);
        while let Some(edit) = own.next_if(|edit| usize::from(edit.row) == row) {
            cell = edit.cell;
        }
        out.extend_from_slice(cell);
        out_ends.push(u32::try_from(out.len()).ok()?);
    }
    (out.len() <= LONG * rows).then_some(Values::Bytes {
        ends: out_ends,
        bytes: out,
    })
}

/// The numbers with the edits in them, where they are numbers of the same unit.
fn patched_numbers(old: &Numbers, rows: usize, edits: &[Edit<'_>]) -> Option<Numbers> {
    let read: Vec<Number> = edits
        .iter()
        .map(|edit| Number::read(edit.cell))
        .collect::<Option<_>>()?;
    if read
        .iter()
        .any(|n| n.unit.is_some_and(|unit| unit != old.unit))
    {
        return None;
    }
    let mut numbers = old.clone();
    let finest = read.iter().map(|number| number.scale).max().unwrap_or(0);
    if finest > numbers.scale {
        numbers.rescale(finest)?;
    }
    if numbers.form_of.is_empty() {
        numbers.form_of = vec![0; numbers.values.len()];
    }
    if rows > numbers.values.len() {
        let absent = numbers.form_place(Form::ABSENT)?;
        numbers.form_of.resize(rows, absent);
        numbers.values.resize(rows, 0);
    }
    for (edit, number) in edits.iter().zip(&read) {
        let row = usize::from(edit.row);
        *numbers.values.get_mut(row)? = number.at_scale(numbers.scale)?;
        *numbers.form_of.get_mut(row)? = numbers.form_place(number.form)?;
    }
    numbers.drop_unused_forms();
    numbers.settle();
    Some(numbers)
}

impl Numbers {
    /// Forgets the forms that no row has.
    fn drop_unused_forms(&mut self) {
        let mut used = [false; 256];
        for form in &self.form_of {
            if let Some(flag) = used.get_mut(usize::from(*form)) {
                *flag = true;
            }
        }
        if used.iter().take(self.forms.len()).all(|used| *used) {
            return;
        }
        let mut place = [0_u8; 256];
        let mut kept = Vec::new();
        for ((form, used), place) in self.forms.iter().zip(used).zip(&mut place) {
            if used {
                *place = u8::try_from(kept.len()).unwrap_or(u8::MAX);
                kept.push(*form);
            }
        }
        for form in &mut self.form_of {
            *form = place.get(usize::from(*form)).copied().unwrap_or(0);
        }
        self.forms = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{put_number, put_string};
    use proptest::prelude::*;

    fn cell(seed: u32, kind: u8) -> Vec<u8> {
        let mut out = Vec::new();
        match kind {
            0 => {}
            1 => out.push(0),
            2 => put_number(&mut out, &format!("{}000", seed % 900)),
            3 => put_number(&mut out, &format!("{}.{}", seed % 50, seed % 7)),
            4 => put_string(&mut out, &format!("City {}", seed % 9), None),
            5 => put_string(&mut out, &format!("{seed} Main Street"), None),
            6 => put_string(&mut out, &format!("2020-01-{:02}", seed % 28 + 1), None),
            7 => put_string(
                &mut out,
                &format!("2020-01-01T00:{:02}:00.5Z", seed % 60),
                None,
            ),
            _ => put_number(&mut out, &format!("-{seed}e5")),
        }
        out
    }

    /// What kinds of cells one column mixes.
    fn kinds() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(vec![2]),
            Just(vec![0, 1, 2, 3]),
            Just(vec![1, 4]),
            Just(vec![5]),
            Just(vec![0, 6]),
            Just(vec![7, 1]),
            Just(vec![0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ]
    }

    proptest! {
        #[test]
        fn every_cell_comes_back(
            batches in proptest::collection::vec(
                (kinds(), proptest::collection::vec((0..700_u16, any::<u32>()), 1..300)), 1..5
            )
        ) {
            let mut dictionary = Dictionary::default();
            let mut model: Vec<Vec<u8>> = Vec::new();
            let mut segment = None;
            for (kinds, rows) in batches {
                let cells: Vec<(u16, Vec<u8>)> = rows.into_iter()
                    .map(|(row, seed)| (row, cell(seed, kinds[seed as usize % kinds.len()])))
                    .collect();
                let edits: Vec<Edit<'_>> =
                    cells.iter().map(|(row, cell)| Edit { row: *row, cell }).collect();
                let most = cells.iter().map(|(row, _)| usize::from(*row) + 1).max().unwrap();
                model.resize(model.len().max(most), Vec::new());
                for (row, cell) in &cells {
                    model[usize::from(*row)].clone_from(cell);
                }
                let next = edited(segment.take(), model.len(), &edits, &mut dictionary);
                let next = Segment::decode(&next.encode()).unwrap();
                prop_assert_eq!(next.rows, model.len());
                for (row, cell) in model.iter().enumerate() {
                    let mut out = Vec::new();
                    next.write_cell(row, &dictionary, &mut out);
                    prop_assert_eq!(&out, cell, "row {}", row);
                }
                segment = Some(next);
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(segment) = Segment::decode(&bytes) {
                let mut out = Vec::new();
                for row in 0..20 {
                    segment.write_cell(row, &Dictionary::default(), &mut out);
                }
            }
        }
    }

    fn column(cell: impl Fn(u32) -> Vec<u8>) -> (Segment, Dictionary) {
        let cells: Vec<Vec<u8>> = (0..8_192).map(cell).collect();
        let edits: Vec<Edit<'_>> = cells
            .iter()
            .enumerate()
            .map(|(row, cell)| Edit {
                row: u16::try_from(row).unwrap(),
                cell,
            })
            .collect();
        let mut dictionary = Dictionary::default();
        let segment = edited(None, 8_192, &edits, &mut dictionary);
        (segment, dictionary)
    }

    #[test]
    fn layouts_suit_their_cells() {
        let (prices, _) = column(|n| cell(n * 7_919, 2));
        assert!(matches!(&prices.values, Values::Numbers(n) if n.form_of.is_empty()));
        // 900 prices in steps of 1,000: two bytes each, and a header.
        assert!(prices.encode().len() < 8_192 * 2 + 64);
        let (cities, dictionary) = column(|n| cell(n * 7_919, 4));
        assert!(matches!(cities.values, Values::Codes(_)));
        assert_eq!(dictionary.len(), 9);
        assert!(cities.encode().len() < 8_192 / 2 + 64);
        let (addresses, dictionary) = column(|n| cell(n, 5));
        assert!(matches!(addresses.values, Values::Bytes { .. }));
        assert_eq!(dictionary.len(), 0);
    }
}
