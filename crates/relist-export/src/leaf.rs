//! A leaf of a Parquet file: the pages of one column of a row group, out of values that come one by
//! one.
//!
//! The parquet crate hashes each value of a column to find its place in the column's dictionary. A
//! store has done so already: its codes name their cells, so a code's place is looked up once, and
//! a row costs a number. What is not worth a dictionary is seen early and written plainly.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType, Type};
use parquet::column::page::{CompressedPage, Page, PageWriter as _};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::file::metadata::{ColumnChunkMetaData, PageEncodingStats};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::file::writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::Compressor;

use crate::error::ExportError;
use crate::hybrid::{bits_of, put_hybrid};

/// Bytes of plain values that a page has at most, but for the last row's.
const PAGE_BYTES: usize = 1 << 20;
/// Values that a page has at most, but for the last row's.
const PAGE_VALUES: usize = 1 << 16;
/// Bytes of a dictionary beyond which it is given up.
const DICTIONARY: usize = 1 << 20;
/// Numbers of a dictionary beyond which it is given up.
const NUMBERS: usize = 1 << 16;
/// Bytes that a text's statistics have at most.
const BOUND: usize = 64;

/// What a leaf's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Texts.
    Text,
    /// Integers of eight bytes.
    Long,
    /// Integers of four bytes.
    Int,
}

/// Pages of one column of a row group, as they are made.
pub(crate) struct Leaf {
    descriptor: ColumnDescPtr,
    compression: (Compression, Compressor<'static>),
    kind: Kind,
    /// The level of a value that is there.
    there: u8,
    repeated: bool,
    known: Known,
    /// Whether values are no longer looked up in the dictionary.
    plain: bool,
    page: Begun,
    pages: Vec<Finished>,
    rows: u64,
    values: u64,
    nulls: u64,
    numbers: Option<(i64, i64)>,
    texts: Option<(Vec<u8>, Vec<u8>)>,
}

/// The page under way.
#[derive(Debug, Default)]
struct Begun {
    defs: Vec<u8>,
    reps: Vec<u8>,
    codes: Vec<u32>,
    plain: Vec<u8>,
}

#[derive(Debug)]
struct Finished {
    encoding: Encoding,
    values: u32,
    uncompressed: usize,
    bytes: Vec<u8>,
}

/// A column chunk that is done.
pub(crate) struct Encoded {
    bytes: Vec<u8>,
    close: ColumnCloseResult,
}

impl Encoded {
    pub(crate) fn append_to<W: std::io::Write + Send>(
        self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ExportError> {
        Ok(group.append_column(&Bytes::from(self.bytes), self.close)?)
    }
}

impl Leaf {
    /// A leaf of a column of texts, of integers or of lists of texts; `None` for any other.
    pub(crate) fn new(
        descriptor: ColumnDescPtr,
        (compression, level): (Compression, i32),
    ) -> Result<Option<Self>, ExportError> {
        let kind = match descriptor.physical_type() {
            Type::BYTE_ARRAY => Kind::Text,
            Type::INT64 => Kind::Long,
            Type::INT32 => Kind::Int,
            _ => return Ok(None),
        };
        let Ok(there) = u8::try_from(descriptor.max_def_level()) else {
            return Ok(None);
        };
        let compressor = Compressor::new(level).map_err(ExportError::stream)?;
        Ok(Some(Leaf {
            kind,
            there,
            repeated: descriptor.max_rep_level() > 0,
            descriptor,
            compression: (compression, compressor),
            known: Known::default(),
            plain: false,
            page: Begun::default(),
            pages: Vec::new(),
            rows: 0,
            values: 0,
            nulls: 0,
            numbers: None,
            texts: None,
        }))
    }

    /// Begins a row, which never spans two pages.
    #[inline]
    pub(crate) fn row(&mut self) -> Result<(), ExportError> {
        let page = &self.page;
        let full = page.defs.len() >= PAGE_VALUES || page.plain.len() >= PAGE_BYTES;
        let costly = !self.plain
            && (self.known.bytes.len() > DICTIONARY
                || (self.kind != Kind::Text && self.known.len() > NUMBERS));
        if full || costly {
            self.cut()?;
            self.plain |= costly;
        }
        self.rows += 1;
        Ok(())
    }

    /// Whether most values so far were new: then those to come are, too.
    pub(crate) fn consider(&mut self) -> Result<(), ExportError> {
        let there = self.page.codes.len();
        if !self.plain && self.pages.is_empty() && self.known.len() > there - there / 8 {
            self.cut()?;
            self.plain = true;
        }
        Ok(())
    }

    /// Nothing, at a level below that of a value.
    #[inline]
    pub(crate) fn nothing(&mut self, level: u8) {
        self.nulls += 1;
        self.level(level, 0);
    }

    #[inline]
    fn level(&mut self, level: u8, rep: u8) {
        self.values += 1;
        self.page.defs.push(level);
        if self.repeated {
            self.page.reps.push(rep);
        }
    }

    /// The place of a text in the dictionary; all that are there must be in some row.
    pub(crate) fn place(&mut self, text: &str) -> u32 {
        let bytes = text.as_bytes();
        self.known.place(bytes, xxh3_64(bytes), true)
    }

    /// The text of a place; `rep` is 1 behind the first of a list.
    #[inline]
    pub(crate) fn put_placed(&mut self, place: u32, rep: u8) {
        self.level(self.there, rep);
        if self.plain {
            self.page.plain.extend_from_slice(self.known.entry(place));
        } else {
            self.page.codes.push(place);
        }
    }

    /// A text; `rep` is 1 behind the first of a list.
    pub(crate) fn put_text(&mut self, text: &str, rep: u8) {
        if !self.plain {
            let place = self.place(text);
            self.put_placed(place, rep);
            return;
        }
        self.level(self.there, rep);
        put_prefixed(text.as_bytes(), &mut self.page.plain);
        self.bound_text(text.as_bytes());
    }

    fn bound_text(&mut self, text: &[u8]) {
        match &mut self.texts {
            Some((low, high)) => {
                if text < low.as_slice() {
                    low.clear();
                    low.extend_from_slice(text);
                } else if text > high.as_slice() {
                    high.clear();
                    high.extend_from_slice(text);
                }
            }
            none => *none = Some((text.to_owned(), text.to_owned())),
        }
    }

    /// A number.
    #[inline]
    pub(crate) fn put_number(&mut self, number: i64) {
        let (low, high) = self.numbers.unwrap_or((number, number));
        self.numbers = Some((low.min(number), high.max(number)));
        self.level(self.there, 0);
        let bytes = number.to_le_bytes();
        let wide = if self.kind == Kind::Int { 4 } else { 8 };
        let bytes = bytes.get(..wide).unwrap_or_default();
        if self.plain {
            self.page.plain.extend_from_slice(bytes);
            return;
        }
        let hash = number.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = self.known.place(bytes, hash ^ (hash >> 29), false);
        self.page.codes.push(place);
    }

    /// Ends the page under way.
    fn cut(&mut self) -> Result<(), ExportError> {
        let page = &mut self.page;
        let count = u32::try_from(page.defs.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Ok(());
        }
        let mut out = Vec::with_capacity(page.plain.len() + page.codes.len() * 2 + 64);
        if self.repeated {
            put_levels(&page.reps, 1, &mut out);
        }
        if self.there > 0 {
            put_levels(&page.defs, self.there, &mut out);
        }
        // A page without a value has no use for a dictionary.
        let encoding = if page.codes.is_empty() {
            out.extend_from_slice(&page.plain);
            Encoding::PLAIN
        } else {
            let greatest = u32::try_from(self.known.len() - 1).unwrap_or(u32::MAX);
            out.push(bits_of(greatest));
            put_hybrid(&page.codes, bits_of(greatest), &mut out);
            Encoding::RLE_DICTIONARY
        };
        page.defs.clear();
        page.reps.clear();
        page.codes.clear();
        page.plain.clear();
        let bytes = self.compressed(&out)?;
        self.pages.push(Finished {
            encoding,
            values: count,
            uncompressed: out.len(),
            bytes,
        });
        Ok(())
    }

    fn compressed(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ExportError> {
        let packed = self.compression.1.compress(bytes);
        let mut packed = packed.map_err(ExportError::stream)?;
        // The room is that of the worst case, and pages are held until the group is written.
        packed.shrink_to_fit();
        Ok(packed)
    }

    /// Ends the column.
    pub(crate) fn finish(mut self) -> Result<Encoded, ExportError> {
        self.cut()?;
        let pages = std::mem::take(&mut self.pages);
        let coded = |page: &Finished| page.encoding == Encoding::RLE_DICTIONARY;
        let size: usize = pages.iter().map(|page| page.bytes.len() + 32).sum();
        let mut sink = TrackedWrite::new(Vec::with_capacity(size));
        let mut writer = SerializedPageWriter::new(&mut sink);
        let (mut compressed, mut uncompressed) = (0, 0);
        let mut write = |page: Page, size: usize| -> Result<u64, ExportError> {
            let spec = writer.write_page(CompressedPage::new(page, size))?;
            compressed += spec.compressed_size;
            uncompressed += spec.uncompressed_size;
            Ok(spec.offset)
        };
        let dictionary = if pages.iter().any(coded) {
            let page = Page::DictionaryPage {
                buf: self.compressed(&self.known.bytes.clone())?.into(),
                num_values: u32::try_from(self.known.len()).unwrap_or(u32::MAX),
                encoding: Encoding::PLAIN,
                is_sorted: false,
            };
            Some(write(page, self.known.bytes.len())?)
        } else {
            None
        };
        let mut first = None;
        let mut encodings = vec![Encoding::PLAIN, Encoding::RLE];
        let mut stats: Vec<PageEncodingStats> = Vec::new();
        if dictionary.is_some() {
            encodings.push(Encoding::RLE_DICTIONARY);
            stats.push(count_of(PageType::DICTIONARY_PAGE, Encoding::PLAIN));
        }
        for page in pages {
            count_in(&mut stats, page.encoding);
            let data = Page::DataPage {
                buf: page.bytes.into(),
                num_values: page.values,
                encoding: page.encoding,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            };
            let offset = write(data, page.uncompressed)?;
            first.get_or_insert(offset);
        }
        let statistics = self.statistics();
        let bytes = sink.into_inner()?;
        let at = |offset: u64| i64::try_from(offset).unwrap_or(i64::MAX);
        let metadata = ColumnChunkMetaData::builder(self.descriptor)
            .set_compression(self.compression.0)
            .set_encodings(encodings)
            .set_page_encoding_stats(stats)
            .set_total_compressed_size(signed(compressed))
            .set_total_uncompressed_size(signed(uncompressed))
            .set_num_values(at(self.values))
            .set_data_page_offset(first.map_or(0, at))
            .set_dictionary_page_offset(dictionary.map(at))
            .set_statistics(statistics)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        Ok(Encoded { bytes, close })
    }

    fn statistics(&mut self) -> Statistics {
        let nulls = Some(self.nulls);
        match self.kind {
            Kind::Long => {
                let (low, high) = self.numbers.unzip();
                let statistics = ValueStatistics::new(low, high, None, nulls, false);
                Statistics::Int64(statistics.with_backwards_compatible_min_max(true))
            }
            Kind::Int => {
                let int = |number| i32::try_from(number).unwrap_or_default();
                let (low, high) = self.numbers.unzip();
                let (low, high) = (low.map(int), high.map(int));
                let statistics = ValueStatistics::new(low, high, None, nulls, false);
                Statistics::Int32(statistics.with_backwards_compatible_min_max(true))
            }
            Kind::Text => {
                let known = std::mem::take(&mut self.known);
                for place in 0..u32::try_from(known.len()).unwrap_or(u32::MAX) {
                    self.bound_text(known.entry(place).get(4..).unwrap_or_default());
                }
                let (low, high) = self.texts.take().unzip();
                let low = low.map(floor);
                let high = high.map(ceiling);
                let exact = |bound: &Option<(Vec<u8>, bool)>| bound.as_ref().is_none_or(|b| b.1);
                let exactly = (exact(&low), exact(&high));
                let value = |bound: Option<(Vec<u8>, bool)>| bound.map(|b| ByteArray::from(b.0));
                let statistics = ValueStatistics::new(value(low), value(high), None, nulls, false)
                    .with_min_is_exact(exactly.0)
                    .with_max_is_exact(exactly.1);
                Statistics::ByteArray(statistics)
            }
        }
    }
}

fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Counts a data page with the one before, where both are encoded alike.
fn count_in(stats: &mut Vec<PageEncodingStats>, encoding: Encoding) {
    let own = (PageType::DATA_PAGE, encoding);
    match stats.last_mut() {
        Some(last) if (last.page_type, last.encoding) == own => last.count += 1,
        _ => stats.push(count_of(PageType::DATA_PAGE, encoding)),
    }
}

fn count_of(page_type: PageType, encoding: Encoding) -> PageEncodingStats {
    PageEncodingStats {
        page_type,
        encoding,
        count: 1,
    }
}

/// Levels as a data page has them: with their length before them.
fn put_levels(levels: &[u8], greatest: u8, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    put_hybrid(levels, bits_of(u32::from(greatest)), out);
    let size = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&size.to_le_bytes());
    }
}

fn put_prefixed(text: &[u8], out: &mut Vec<u8>) {
    let size = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(text);
}

/// A text that is not greater, of a few bytes; and whether it is the same.
fn floor(text: Vec<u8>) -> (Vec<u8>, bool) {
    match cut_at(&text) {
        Some(short) => (short.as_bytes().to_vec(), false),
        None => (text, true),
    }
}

/// A text that is not less, of a few bytes where there is such; and whether it is the same.
fn ceiling(text: Vec<u8>) -> (Vec<u8>, bool) {
    let Some(short) = cut_at(&text) else {
        return (text, true);
    };
    for (at, last) in short.char_indices().rev() {
        let next = char::from_u32(u32::from(last) + 1);
        if let Some(next) = next.filter(|next| next.len_utf8() == last.len_utf8()) {
            let mut out = short.get(..at).unwrap_or_default().to_owned();
            out.push(next);
            return (out.into_bytes(), false);
        }
    }
    (text, true)
}

/// The beginning of a long text; `None` of a short one.
fn cut_at(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    if text.len() <= BOUND {
        return None;
    }
    let end = (1..=BOUND).rfind(|at| text.is_char_boundary(*at))?;
    text.get(..end)
}

/// The values that are known, as the page of a dictionary has them, and where each is.
#[derive(Debug, Default)]
struct Known {
    bytes: Vec<u8>,
    /// Where each begins in `bytes`, and its hash.
    values: Vec<(u32, u32)>,
    /// A table of twice as many places or more: the number of a value and one, or 0.
    table: Vec<u32>,
}

impl Known {
    fn len(&self) -> usize {
        self.values.len()
    }

    /// A value as it is in the page, a text with its length before it.
    #[inline]
    fn entry(&self, place: u32) -> &[u8] {
        let place = place as usize;
        let start = self.values.get(place).map_or(0, |v| v.0 as usize);
        let end = self
            .values
            .get(place + 1)
            .map_or(self.bytes.len(), |v| v.0 as usize);
        self.bytes.get(start..end).unwrap_or_default()
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "half of a hash is enough to tell most values apart"
    )]
    #[inline]
    fn place(&mut self, value: &[u8], hash: u64, prefixed: bool) -> u32 {
        if self.values.len() * 2 >= self.table.len() {
            self.grow();
        }
        let hash = (hash ^ (hash >> 32)) as u32;
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        let skip = if prefixed { 4 } else { 0 };
        while let Some(known) = self.table.get(at).and_then(|n| n.checked_sub(1)) {
            let same = self.values.get(known as usize).is_some_and(|v| v.1 == hash);
            if same && self.entry(known).get(skip..) == Some(value) {
                return known;
            }
            at = (at + 1) & mask;
        }
        let number = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        let start = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.values.push((start, hash));
        if prefixed {
            put_prefixed(value, &mut self.bytes);
        } else {
            self.bytes.extend_from_slice(value);
        }
        if let Some(slot) = self.table.get_mut(at) {
            *slot = number + 1;
        }
        number
    }

    fn grow(&mut self) {
        let size = (self.table.len() * 2).max(64);
        self.table.clear();
        self.table.resize(size, 0);
        for (number, (_, hash)) in (1..).zip(&self.values) {
            let mut at = *hash as usize & (size - 1);
            while self.table.get(at).is_some_and(|n| *n != 0) {
                at = (at + 1) & (size - 1);
            }
            if let Some(slot) = self.table.get_mut(at) {
                *slot = number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_one_place_each() {
        let mut known = Known::default();
        let texts: Vec<String> = (0..5_000).map(|n| format!("text {}", n % 1_000)).collect();
        for (n, text) in (0..).zip(&texts) {
            let bytes = text.as_bytes();
            // Hashes that collide.
            assert_eq!(known.place(bytes, xxh3_64(bytes) & 0xff, true), n % 1_000);
        }
        assert_eq!(known.len(), 1_000);
        assert_eq!(known.entry(999), b"\x08\0\0\0text 999");
        assert_eq!(known.entry(3), b"\x06\0\0\0text 3");
    }

    #[test]
    fn bounds_of_long_texts_are_short() {
        let long = "\u{10ffff}".repeat(20).into_bytes();
        assert_eq!(ceiling(long.clone()), (long, true));
        let text = format!("{}{}", "a".repeat(63), "\u{e9}b");
        assert_eq!(
            floor(text.clone().into_bytes()),
            ("a".repeat(63).into_bytes(), false)
        );
        let above = format!("{}b", "a".repeat(62)).into_bytes();
        assert_eq!(ceiling(text.into_bytes()), (above, false));
        assert_eq!(ceiling(b"short".to_vec()), (b"short".to_vec(), true));
    }
}
