//! Sorted access to a segment: its rows in the order of their values.
//!
//! Worked out from the segment when it is first wanted, and kept beside it in memory: nothing on
//! disk to maintain, and nothing that could disagree with the values.

use super::{Segment, Values};

/// The rows of a segment in ascending order of their values, equal ones in order of row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sorted {
    /// Rows with a value, then those without.
    rows: Box<[u16]>,
    /// How many have a value.
    valued: usize,
}

impl Sorted {
    /// `None` for a segment that holds neither numbers nor codes.
    pub(super) fn of(values: &Values) -> Option<Self> {
        match values {
            Values::Numbers(numbers) => {
                let has_value = numbers.valued();
                let has = |row: usize| {
                    let form = numbers.form_of.get(row).copied().unwrap_or(0);
                    has_value.get(usize::from(form)) == Some(&true)
                };
                let mut with: Vec<(i64, u16)> = Vec::with_capacity(numbers.values.len());
                let mut without: Vec<u16> = Vec::new();
                for ((row, value), short) in numbers.values.iter().enumerate().zip(0_u16..) {
                    if has(row) {
                        with.push((*value, short));
                    } else {
                        without.push(short);
                    }
                }
                with.sort_unstable();
                let count = with.len();
                let rows = with.into_iter().map(|(_, row)| row).chain(without);
                Some(Sorted {
                    rows: rows.collect(),
                    valued: count,
                })
            }
            Values::Codes(codes) => {
                let most = codes.iter().copied().max().unwrap_or(0);
                let mut starts = vec![0_u16; usize::from(most) + 2];
                for code in codes {
                    if let Some(count) = starts.get_mut(usize::from(*code) + 1) {
                        *count += 1;
                    }
                }
                let mut total = 0;
                for start in &mut starts {
                    total += *start;
                    *start = total;
                }
                let mut rows = vec![0_u16; codes.len()];
                for (code, row) in codes.iter().zip(0_u16..) {
                    if let Some(next) = starts.get_mut(usize::from(*code)) {
                        if let Some(to) = rows.get_mut(usize::from(*next)) {
                            *to = row;
                        }
                        *next += 1;
                    }
                }
                Some(Sorted {
                    valued: rows.len(),
                    rows: rows.into(),
                })
            }
            Values::Absent | Values::Elsewhere | Values::Bytes { .. } => None,
        }
    }

    /// The rows with a value, in ascending order of it.
    pub(crate) fn valued(&self) -> &[u16] {
        self.rows.get(..self.valued).unwrap_or_default()
    }

    /// Whether each row has a value.
    pub(crate) fn is_full(&self) -> bool {
        self.valued == self.rows.len()
    }

    /// The bytes it takes in memory.
    pub(super) fn size(&self) -> usize {
        self.rows.len() * 2
    }
}

/// The rows of a segment of texts, by the hashes of their texts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Texts {
    hashes: Box<[u32]>,
    rows: Box<[u16]>,
}

impl Texts {
    pub(super) fn new(mut found: Vec<(u32, u16)>) -> Self {
        found.sort_unstable();
        let (hashes, rows): (Vec<u32>, Vec<u16>) = found.into_iter().unzip();
        Texts {
            hashes: hashes.into(),
            rows: rows.into(),
        }
    }

    /// The hash that texts are found by.
    pub(crate) fn hash(text: &str) -> u32 {
        let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        u32::try_from(hash >> 32).unwrap_or(0)
    }

    /// The rows whose text has this hash: all that are the text, and hardly any other.
    pub(crate) fn rows(&self, hash: u32) -> &[u16] {
        let start = self.hashes.partition_point(|own| *own < hash);
        let end = self.hashes.partition_point(|own| *own <= hash);
        self.rows.get(start..end).unwrap_or_default()
    }

    /// The bytes it takes in memory.
    pub(super) fn size(&self) -> usize {
        self.rows.len() * 6
    }
}

impl Segment {
    /// The rows whose code is this one, ascending.
    pub(crate) fn rows_of_code<'s>(&'s self, codes: &[u16], code: u16) -> Option<&'s [u16]> {
        let rows = self.sorted()?.valued();
        let of = |row: &u16| codes.get(usize::from(*row)).copied().unwrap_or(0);
        let start = rows.partition_point(|row| of(row) < code);
        let end = rows.partition_point(|row| of(row) <= code);
        rows.get(start..end)
    }

    /// The rows whose number is from the first to the last, in order of it.
    pub(crate) fn rows_within<'s>(
        &'s self,
        numbers: &[i64],
        (low, high): (i64, i64),
    ) -> Option<&'s [u16]> {
        let rows = self.sorted()?.valued();
        let of = |row: &u16| numbers.get(usize::from(*row)).copied().unwrap_or(0);
        let start = rows.partition_point(|row| of(row) < low);
        let end = rows.partition_point(|row| of(row) <= high);
        rows.get(start..end.max(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::{Dictionary, Edit, edited};
    use crate::record::put_number;

    fn segment(cells: &[Vec<u8>], dictionary: &mut Dictionary) -> Segment {
        let edits: Vec<Edit<'_>> = cells
            .iter()
            .zip(0_u16..)
            .map(|(cell, row)| Edit { row, cell })
            .collect();
        edited(None, cells.len(), &edits, dictionary)
    }

    #[test]
    fn numbers_are_found_by_range() {
        let cells: Vec<Vec<u8>> = (0..500_u32)
            .map(|n| {
                let mut cell = Vec::new();
                match n % 7 {
                    0 => cell.push(0),
                    1 => {}
                    _ => put_number(&mut cell, &(n * 7_919 % 101).to_string()),
                }
                cell
            })
            .collect();
        let segment = segment(&cells, &mut Dictionary::default());
        let Values::Numbers(numbers) = &segment.values else {
            panic!("{segment:?}")
        };
        let of = |row: u32| row * 7_919 % 101;
        for (low, high) in [(0, 100), (13, 29), (50, 50), (60, 40), (200, 300)] {
            let mut found = segment
                .rows_within(&numbers.values, (low, high))
                .unwrap()
                .to_vec();
            found.sort_unstable();
            let expected: Vec<u16> = (0..500_u16)
                .filter(|row| row % 7 > 1 && (low..=high).contains(&i64::from(of((*row).into()))))
                .collect();
            assert_eq!(found, expected, "{low} {high}");
        }
        assert!(!segment.sorted().unwrap().is_full());
    }

    #[test]
    fn codes_are_found() {
        let cells: Vec<Vec<u8>> = (0..600_u32)
            .map(|n| {
                let mut cell = Vec::new();
                let city = format!("City {}", n * 31 % 9);
                crate::record::put_string(&mut cell, &city, None);
                cell
            })
            .collect();
        let mut dictionary = Dictionary::default();
        let segment = segment(&cells, &mut dictionary);
        let Values::Codes(codes) = &segment.values else {
            panic!("{segment:?}")
        };
        for code in 0..12 {
            let expected: Vec<u16> = (0..600_u16)
                .filter(|row| codes[usize::from(*row)] == code)
                .collect();
            assert_eq!(segment.rows_of_code(codes, code).unwrap(), expected);
        }
    }
}
