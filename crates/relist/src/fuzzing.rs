//! What must hold for any bytes in the place of stored ones: for the fuzz targets alone.
//!
//! These parts of the format are no public interface, so they are tried from inside.

use crate::column::{Dictionary, Edit, Segment, edited};
use crate::record::{Body, Cell, RecordBuf, Tag, put_number, put_string};
use crate::schema::FieldType;

/// The most rows that a segment is tried with.
const ROWS: usize = 600;

/// A record body: whatever can be read of it is written the same again, and read the same again.
///
/// # Panics
/// When that does not hold.
pub fn record_body(bytes: &[u8]) {
    let Some(body) = Body::new(bytes) else {
        return;
    };
    let cells: Vec<_> = body.cells().collect();
    let encoded: Vec<_> = body.encoded().collect();
    assert_eq!(cells.len(), encoded.len());
    for ((field, cell), (own, bytes)) in cells.iter().zip(&encoded) {
        let mut written = Vec::new();
        cell.write(&mut written);
        assert_eq!((field, written.as_slice()), (own, *bytes));
        assert_eq!(body.cell(*field).is_some(), true_first(&cells, *field));
        let json = cell.to_json();
        // The others are as valid as what they were made of: a checksum holds them together.
        let plain = [
            Tag::Null,
            Tag::True,
            Tag::Int,
            Tag::Guid,
            Tag::String,
            Tag::StringList,
        ];
        if plain.contains(&cell.tag) {
            let read: Result<serde_json::Value, _> = serde_json::from_str(&json);
            assert!(read.is_ok(), "{cell:?}: {json:?}");
        }
        for ty in [FieldType::String, FieldType::Int, FieldType::DateTime] {
            let _ = (cell.value_as(&ty), cell.fits(&ty));
        }
    }
    let ascending = cells.is_sorted_by(|a, b| a.0 < b.0);
    if ascending {
        let again = RecordBuf::from_cells(cells.iter().copied());
        let again: Vec<_> = again
            .as_body()
            .encoded()
            .map(|(f, b)| (f, b.to_vec()))
            .collect();
        let expected = encoded.iter().map(|(f, b)| (*f, b.to_vec()));
        assert!(again.into_iter().eq(expected));
        assert!(body.differing(body).is_empty());
    }
}

/// Whether a look-up by field, which ends at the first greater one, finds it.
fn true_first(cells: &[(crate::schema::FieldId, Cell<'_>)], field: crate::schema::FieldId) -> bool {
    cells
        .iter()
        .find(|(own, _)| *own >= field)
        .is_some_and(|(own, _)| *own == field)
}

/// The cell of a number or of a text; none of nothing.
fn cell_of(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let text = String::from_utf8_lossy(text);
    let number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    if number && serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok() {
        put_number(&mut out, text.trim());
    } else if !text.is_empty() {
        put_string(&mut out, &text, None);
    }
    out
}

/// A segment of a column: other bytes are refused or read without a panic; cells come back.
///
/// # Panics
/// When that does not hold.
pub fn column_segment(bytes: &[u8]) {
    let mut out = Vec::new();
    if let Some(segment) = Segment::decode(bytes) {
        // Bytes that no segment was written as may read as values outside of their own range, which
        // are not written again: that what was written comes back is asked below.
        let empty = Dictionary::default();
        for row in 0..segment.rows + 2 {
            segment.write_cell(row, &empty, &mut out);
        }
        let _ = segment.encode();
    }
    // The same bytes as texts and numbers: two rounds of edits of one segment.
    let texts = bytes.split(|b| *b == 0xfe).take(ROWS);
    let cells: Vec<Vec<u8>> = texts.map(cell_of).collect();
    let cells: Vec<&[u8]> = cells.iter().map(Vec::as_slice).collect();
    let mut dictionary = Dictionary::default();
    let mut segment = None;
    let mut model: Vec<&[u8]> = Vec::new();
    for half in cells.chunks(cells.len().div_ceil(2).max(1)) {
        model.resize(model.len().max(half.len()), &[]);
        let edits: Vec<Edit<'_>> = (0_u16..)
            .zip(half)
            .map(|(row, cell)| Edit { row, cell })
            .collect();
        for (slot, cell) in model.iter_mut().zip(half) {
            *slot = cell;
        }
        let next = edited(segment.take(), model.len(), &edits, &mut dictionary);
        assert!(
            Segment::decode(&next.encode()).is_some(),
            "what is written is read"
        );
        for (row, cell) in model.iter().enumerate() {
            out.clear();
            next.write_cell(row, &dictionary, &mut out);
            assert!(
                next.is_elsewhere() || out == *cell,
                "row {row}: {out:?} for {cell:?}"
            );
        }
        segment = Some(next);
    }
}
