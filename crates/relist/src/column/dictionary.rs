//! Dictionaries: the cells that a column repeats, each with a code.

use xxhash_rust::xxh3::xxh3_64;

/// The code of a field that is absent.
pub(super) const ABSENT: u16 = 0;
/// The code of null.
pub(super) const NULL: u16 = 1;
/// The first code given to a cell.
const FIRST: usize = 2;
/// The most cells; beyond it a segment keeps bytes.
const MAX_CELLS: usize = 65_000;
/// The encoded null.
const NULL_CELL: &[u8] = &[0];

/// The repeated cells of one field. Codes are given once and never change their cell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dictionary {
    /// Where each cell ends in `bytes`.
    ends: Vec<u32>,
    bytes: Vec<u8>,
    /// Open addressing, a power of two long: place in `ends` + 1, 0 when free. Empty until asked.
    table: Vec<u32>,
}

impl Dictionary {
    /// Adds the cells of a stored chunk; `None` if the bytes are not one.
    pub(crate) fn extend(&mut self, chunk: &[u8]) -> Option<()> {
        let mut reader = crate::record::codec::Reader::new(chunk);
        while !reader.is_empty() {
            self.push(reader.bytes()?)?;
        }
        Some(())
    }

    /// The cells from `from` on, as a chunk for [`extend`](Dictionary::extend).
    pub(crate) fn chunk(&self, from: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for at in from..self.len() {
            crate::record::codec::put_bytes(&mut out, self.at(at).unwrap_or_default());
        }
        out
    }

    /// How many cells there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// How many codes there are: those of the cells, of absent and of null.
    pub(crate) fn codes(&self) -> usize {
        self.len() + FIRST
    }

    /// The bytes it takes in memory.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + self.ends.len() * 4 + self.table.len() * 4
    }

    /// The cell of a code, empty for [`ABSENT`]; `None` for a code that was never given.
    pub(crate) fn cell(&self, code: u16) -> Option<&[u8]> {
        match code {
            ABSENT => Some(&[]),
            NULL => Some(NULL_CELL),
            code => self.at(usize::from(code) - FIRST),
        }
    }

    fn at(&self, at: usize) -> Option<&[u8]> {
        let end = *self.ends.get(at)? as usize;
        let start = match at.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.bytes.get(start..end)
    }

    /// The code that a cell has, empty when absent; `None` when it has none, or before
    /// [`index`](Dictionary::index).
    pub(crate) fn known(&self, cell: &[u8]) -> Option<u16> {
        if cell.is_empty() {
            return Some(ABSENT);
        }
        if cell == NULL_CELL {
            return Some(NULL);
        }
        if self.table.is_empty() {
            return None;
        }
        let place = self.find(cell).ok()?;
        u16::try_from(place + FIRST).ok()
    }

    /// The code of a cell, empty when absent; given now if it has none. `None` when it is full.
    pub(crate) fn code(&mut self, cell: &[u8]) -> Option<u16> {
        if cell.is_empty() {
            return Some(ABSENT);
        }
        if cell == NULL_CELL {
            return Some(NULL);
        }
        if self.table.len() < (self.len() + 1) * 2 {
            self.index();
        }
        let place = match self.find(cell) {
            Ok(place) => place,
            Err(free) => {
                let place = self.push(cell)?;
                if let Some(slot) = self.table.get_mut(free) {
                    *slot = u32::try_from(place + 1).ok()?;
                }
                place
            }
        };
        u16::try_from(place + FIRST).ok()
    }

    /// Takes back the cells behind the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.bytes
            .truncate(self.ends.last().map_or(0, |end| *end as usize));
        self.table.clear();
    }

    fn push(&mut self, cell: &[u8]) -> Option<usize> {
        let place = self.len();
        let end = u32::try_from(self.bytes.len() + cell.len()).ok()?;
        if place >= MAX_CELLS {
            return None;
        }
        self.bytes.extend_from_slice(cell);
        self.ends.push(end);
        Some(place)
    }

    /// The place of a cell, or where in the table it would stand.
    fn find(&self, cell: &[u8]) -> Result<usize, usize> {
        let mask = self.table.len() - 1;
        let mut at = usize::try_from(xxh3_64(cell) & (mask as u64)).unwrap_or(0);
        loop {
            match self.table.get(at) {
                Some(0) | None => return Err(at),
                Some(&place) => {
                    let place = place as usize - 1;
                    if self.at(place) == Some(cell) {
                        return Ok(place);
                    }
                }
            }
            at = (at + 1) & mask;
        }
    }

    pub(crate) fn index(&mut self) {
        let size = ((self.len() + 1) * 4).next_power_of_two().max(64);
        self.table = vec![0; size];
        for place in 0..self.len() {
            let Some(cell) = self.at(place) else { continue };
            if let Err(free) = self.find(cell)
                && let Some(slot) = self.table.get_mut(free)
            {
                *slot = u32::try_from(place + 1).unwrap_or(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_stable() {
        let mut one = Dictionary::default();
        let cells: Vec<Vec<u8>> = (0..500_u32)
            .map(|n| [&[9], &n.to_le_bytes()[..]].concat())
            .collect();
        let codes: Vec<u16> = cells.iter().map(|c| one.code(c).unwrap()).collect();
        assert_eq!(codes, (2..502).collect::<Vec<u16>>());
        assert_eq!((one.code(&[]), one.code(&[0])), (Some(ABSENT), Some(NULL)));
        let mut two = Dictionary::default();
        two.extend(&one.chunk(0)).unwrap();
        assert_eq!(two.code(&cells[77]), Some(79));
        assert_eq!(two.cell(79), Some(cells[77].as_slice()));
        two.truncate(10);
        assert_eq!((two.len(), two.cell(12)), (10, None));
        assert_eq!(two.code(&cells[77]), Some(12));
        assert_eq!(one.cell(NULL), Some(&[0][..]));
    }

    #[test]
    fn a_full_one_gives_no_more() {
        let mut one = Dictionary::default();
        for n in 0..65_000_u32 {
            assert!(one.code(&n.to_be_bytes()).is_some());
        }
        assert_eq!(one.code(b"more!"), None);
        assert_eq!(one.code(&7_u32.to_be_bytes()), Some(9));
    }
}
