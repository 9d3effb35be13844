//! Cells of some records, field by field: what new records add to columns.
//!
//! Made where records are decoded, on any thread, so that whoever writes columns reads each
//! field's cells one behind the other and needs no bodies.

/// The cells of some records, by field.
#[derive(Debug, Default)]
pub(crate) struct Block {
    rows: usize,
    /// The fields that any of the records has, ascending, and where their cells begin.
    fields: Vec<(u16, u32)>,
    /// By cell: the record it is of.
    rows_of: Vec<u16>,
    /// By cell: where it ends in `bytes`.
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

/// The most records of a block, and about the most bytes: places in it are that wide.
const BLOCK_ROWS: usize = 1 << 15;
const BLOCK_BYTES: usize = 1 << 30;

impl Block {
    /// How many records it is of.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The fields that any of the records has, ascending.
    pub(crate) fn fields(&self) -> impl Iterator<Item = u16> {
        self.fields.iter().map(|(field, _)| *field)
    }

    /// The cells of a field, of the records from one to another: which record, and the cell.
    pub(crate) fn cells(
        &self,
        field: u16,
        rows: std::ops::Range<usize>,
    ) -> impl Iterator<Item = (usize, &[u8])> {
        let at = self.fields.binary_search_by_key(&field, |(own, _)| *own);
        let first = |at: usize| self.fields.get(at).map(|(_, first)| *first as usize);
        let range = at.map_or(0..0, |at| {
            first(at).unwrap_or(0)..first(at + 1).unwrap_or(self.ends.len())
        });
        let rows_of = self.rows_of.get(range.clone()).unwrap_or_default();
        let from = range.start + rows_of.partition_point(|row| usize::from(*row) < rows.start);
        let to = range.start + rows_of.partition_point(|row| usize::from(*row) < rows.end);
        let before = from.checked_sub(1).and_then(|at| self.ends.get(at));
        let mut start = before.map_or(0, |end| *end as usize);
        let rows_of = self.rows_of.get(from..to).unwrap_or_default();
        let ends = self.ends.get(from..to).unwrap_or_default();
        rows_of.iter().zip(ends).map(move |(row, end)| {
            let cell = self.bytes.get(start..*end as usize).unwrap_or_default();
            start = *end as usize;
            (usize::from(*row), cell)
        })
    }
}

/// Gathers where the cells of records are.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    rows: usize,
    bytes: usize,
    /// Field, place and length of each cell, and behind those of each record a mark.
    cells: Vec<(u16, u32, u32)>,
    ends: Vec<usize>,
    /// By field: how many cells, and how many bytes.
    sizes: Vec<(u32, u32)>,
}

impl BlockBuilder {
    /// Forgets all records.
    pub(crate) fn clear(&mut self) {
        (self.rows, self.bytes) = (0, 0);
        self.cells.clear();
        self.ends.clear();
        self.sizes.clear();
    }

    /// Notes that the record has a cell, so long, at a place of its body.
    pub(crate) fn put(&mut self, field: u16, at: usize, len: usize) {
        let (Ok(at), Ok(len)) = (u32::try_from(at), u32::try_from(len)) else {
            return;
        };
        self.cells.push((field, at, len));
    }

    /// Ends a record; `false`, and as if it had not been, when there is no room for it.
    pub(crate) fn end_row(&mut self) -> bool {
        let start = self.ends.last().copied().unwrap_or(0);
        let own = self.cells.get(start..).unwrap_or_default();
        let len: usize = own.iter().map(|(_, _, len)| *len as usize).sum();
        if self.rows >= BLOCK_ROWS || self.bytes + len > BLOCK_BYTES {
            self.forget_row();
            return false;
        }
        for (field, _, len) in own {
            let at = usize::from(*field);
            if self.sizes.len() <= at {
                self.sizes.resize(at + 1, (0, 0));
            }
            if let Some((count, bytes)) = self.sizes.get_mut(at) {
                *count += 1;
                *bytes += len;
            }
        }
        self.bytes += len;
        self.rows += 1;
        self.ends.push(self.cells.len());
        true
    }

    /// Forgets the cells of a record that was not ended.
    pub(crate) fn forget_row(&mut self) {
        self.cells.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// How many records were ended.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The block; `body` gives the body of a record.
    pub(crate) fn finish<'b>(&self, body: impl Fn(usize) -> &'b [u8]) -> Block {
        let mut out = Block {
            rows: self.rows,
            fields: Vec::new(),
            rows_of: vec![0; self.cells.len()],
            ends: vec![0; self.cells.len()],
            bytes: vec![0; self.bytes],
        };
        // By field: the next cell, and where it goes.
        let mut next = Vec::with_capacity(self.sizes.len());
        let (mut cell, mut byte) = (0_u32, 0_u32);
        for (field, (count, bytes)) in (0_u16..).zip(&self.sizes) {
            if *count > 0 {
                out.fields.push((field, cell));
            }
            next.push((cell as usize, byte as usize));
            cell += count;
            byte += bytes;
        }
        let mut start = 0;
        for (row, end) in self.ends.iter().enumerate() {
            let body = body(row);
            for (field, at, len) in self.cells.get(start..*end).unwrap_or_default() {
                let Some((place, from)) = next.get_mut(usize::from(*field)) else {
                    continue;
                };
                let (at, len) = (*at as usize, *len as usize);
                let to = *from + len;
                let copied = out.bytes.get_mut(*from..to).zip(body.get(at..at + len));
                if let Some((to, cell)) = copied {
                    to.copy_from_slice(cell);
                }
                let places = out.rows_of.get_mut(*place).zip(out.ends.get_mut(*place));
                if let Some((row_of, end)) = places {
                    *row_of = u16::try_from(row).unwrap_or(u16::MAX);
                    *end = u32::try_from(to).unwrap_or(u32::MAX);
                }
                *place += 1;
                *from = to;
            }
            start = *end;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn every_cell_is_where_its_field_is(
            records in proptest::collection::vec(
                proptest::collection::btree_map(0_u16..40, "[a-z]{0,5}", 0..12), 0..30
            ),
            (from, to) in (0_usize..30, 0_usize..40),
        ) {
            let mut builder = BlockBuilder::default();
            let bodies: Vec<Vec<u8>> = records
                .iter()
                .map(|record| record.values().flat_map(|cell| cell.bytes()).collect())
                .collect();
            for record in &records {
                builder.put(7, 0, 1);
                builder.forget_row();
                let mut at = 0;
                for (field, cell) in record {
                    builder.put(*field, at, cell.len());
                    at += cell.len();
                }
                prop_assert!(builder.end_row());
            }
            let block = builder.finish(|row| bodies[row].as_slice());
            prop_assert_eq!(block.rows(), records.len());
            let mut expected: BTreeMap<u16, Vec<(usize, &[u8])>> = BTreeMap::new();
            for (row, record) in records.iter().enumerate() {
                for (field, cell) in record {
                    expected.entry(*field).or_default().push((row, cell.as_bytes()));
                }
            }
            prop_assert!(block.fields().eq(expected.keys().copied()));
            for field in 0..41 {
                let own = expected.remove(&field).unwrap_or_default();
                let inside = |row: &usize| (from..to).contains(row);
                let own: Vec<_> = own.into_iter().filter(|(row, _)| inside(row)).collect();
                let found: Vec<_> = block.cells(field, from..to).collect();
                prop_assert_eq!(found, own);
            }
        }
    }
}
