//! Erasing: a column's dictionary without cells that no row has any more.

use std::collections::HashSet;

use super::dictionary::ABSENT;
use super::{Dictionary, Segment, Values};

/// Takes out of a dictionary the cells of `gone` that no segment uses, and gives the segments the
/// new codes; `None` when there are none of them, and nothing changes.
///
/// All segments of the column must be given: codes are known nowhere else.
pub(crate) fn without(
    dictionary: &Dictionary,
    segments: &mut [Segment],
    gone: &HashSet<Vec<u8>>,
) -> Option<Dictionary> {
    let mut used = vec![false; dictionary.codes()];
    for segment in segments.iter() {
        let Values::Codes(codes) = &segment.values else {
            continue;
        };
        for code in codes {
            if let Some(flag) = used.get_mut(usize::from(*code)) {
                *flag = true;
            }
        }
    }
    let mut kept = Dictionary::default();
    let mut new_code = vec![ABSENT; used.len()];
    let mut dropped = false;
    for (code, used) in (0_u16..).zip(&used) {
        let cell = dictionary.cell(code).unwrap_or_default();
        if !used && gone.contains(cell) {
            dropped = true;
        } else if let Some(new) = new_code.get_mut(usize::from(code)) {
            *new = kept.code(cell).unwrap_or(ABSENT);
        }
    }
    if !dropped {
        return None;
    }
    for segment in segments {
        if let Values::Codes(codes) = &mut segment.values {
            for code in codes {
                *code = new_code.get(usize::from(*code)).copied().unwrap_or(ABSENT);
            }
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::{Edit, edited};
    use crate::record::put_string;

    fn cell(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_string(&mut out, text, None);
        out
    }

    #[test]
    fn a_cell_that_nobody_has_goes() {
        let mut dictionary = Dictionary::default();
        let cells: Vec<Vec<u8>> = ["Orem", "Secret", "Provo"].map(cell).into();
        let edits: Vec<Edit<'_>> = (0..600_u16)
            .map(|row| Edit {
                row,
                cell: &cells[usize::from(row) % 3],
            })
            .collect();
        let mut one = edited(None, 600, &edits, &mut dictionary);
        assert!(matches!(one.values, Values::Codes(_)));
        let gone = HashSet::from([cells[1].clone(), cells[2].clone()]);
        assert!(without(&dictionary, std::slice::from_mut(&mut one), &gone).is_none());
        let rows = (0..600_u16).filter(|row| row % 3 == 1);
        let edits: Vec<Edit<'_>> = rows.map(|row| Edit { row, cell: &[] }).collect();
        let mut one = edited(Some(one), 600, &edits, &mut dictionary);
        let kept = without(&dictionary, std::slice::from_mut(&mut one), &gone).unwrap();
        assert_eq!(kept.len(), 2);
        assert!(!kept.chunk(0).windows(6).any(|w| w == b"Secret"));
        for row in 0..600 {
            let mut out = Vec::new();
            one.write_cell(row, &kept, &mut out);
            let expected = if row % 3 == 1 {
                &[][..]
            } else {
                &cells[row % 3]
            };
            assert_eq!(out, expected);
        }
    }
}
