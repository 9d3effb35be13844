//! Segments: one field of a few thousand slots, in memory and in bytes.

use std::cell::RefCell;
use std::sync::OnceLock;

use super::number::{Number, power};
use super::pack::{pack, packed_len, unpack, width};
use super::{Dictionary, Form, SEGMENT_ROWS, Sorted, Texts, Unit};
use crate::record::codec::{Reader, put_signed, put_u64};
use crate::value::GeoPoint;

const KIND_ABSENT: u8 = 0;
const KIND_NUMBERS: u8 = 1;
const KIND_CODES: u8 = 2;
const KIND_BYTES: u8 = 3;
const KIND_ZSTD: u8 = 4;
const KIND_ELSEWHERE: u8 = 5;

/// Bytes that are not worth compressing.
const SMALL: usize = 512;
/// zstd's level: the fastest of its ordinary ones.
const LEVEL: i32 = 1;
/// The most bytes one segment may claim to hold.
const MAX_BYTES: usize = 1 << 30;

/// One field of the slots of one segment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Segment {
    /// How many slots it covers; the field is absent in those behind.
    pub(crate) rows: usize,
    pub(crate) values: Values,
    /// The points of a column of geography, once they were asked for.
    points: OnceLock<Box<[GeoPoint]>>,
    /// The order of the rows, once it was asked for.
    sorted: OnceLock<Option<Sorted>>,
    /// The rows by the hashes of their texts, once they were asked for.
    texts: OnceLock<Texts>,
}

/// What the cells of a segment are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    /// The field is absent in all of them.
    Absent,
    /// Numbers of one unit, and nulls.
    Numbers(Numbers),
    /// Codes of the field's dictionary.
    Codes(Vec<u16>),
    /// Long cells, which only the records hold.
    Elsewhere,
    /// Any cells: where each ends, and their bytes.
    Bytes { ends: Vec<u32>, bytes: Vec<u8> },
}

/// Numbers of one unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Numbers {
    pub(crate) unit: Unit,
    /// The integers count units of `10^-scale`.
    pub(crate) scale: u8,
    /// One a row; of no meaning where there is no value.
    pub(crate) values: Vec<i64>,
    /// The forms there are, at most 256.
    pub(crate) forms: Vec<Form>,
    /// Which form each row has; empty when all have the first.
    pub(crate) form_of: Vec<u8>,
    /// The smallest and the greatest value; `None` without any.
    pub(crate) range: Option<(i64, i64)>,
}

impl Numbers {
    /// The form of a row.
    pub(crate) fn form(&self, row: usize) -> Form {
        let at = self.form_of.get(row).copied().unwrap_or(0);
        let out_of_range = row >= self.values.len();
        match self.forms.get(usize::from(at)) {
            Some(form) if !out_of_range => *form,
            _ => Form::ABSENT,
        }
    }

    /// For each form, whether it has a value.
    pub(crate) fn valued(&self) -> [bool; 256] {
        let mut out = [false; 256];
        for (to, form) in out.iter_mut().zip(&self.forms) {
            *to = form.has_value();
        }
        out
    }

    pub(super) fn set_range(&mut self) {
        let valued = self.valued();
        let all = [0];
        let forms: &[u8] = if self.form_of.is_empty() {
            &all
        } else {
            &self.form_of
        };
        let rows = self.values.iter().zip(forms.iter().cycle());
        self.range = rows
            .filter(|(_, form)| valued.get(usize::from(**form)).is_some_and(|v| *v))
            .fold(None, |range: Option<(i64, i64)>, (&v, _)| {
                Some(range.map_or((v, v), |(low, high)| (low.min(v), high.max(v))))
            });
    }
}

impl Segment {
    pub(super) fn new(rows: usize, values: Values) -> Self {
        Segment {
            rows,
            values,
            points: OnceLock::new(),
            sorted: OnceLock::new(),
            texts: OnceLock::new(),
        }
    }

    /// The points of the rows, read by `read` the first time; no numbers where there is none.
    pub(crate) fn points(&self, read: impl Fn(usize) -> Option<GeoPoint>) -> &[GeoPoint] {
        let nowhere = GeoPoint {
            longitude: f64::NAN,
            latitude: f64::NAN,
        };
        self.points.get_or_init(|| {
            let rows = (0..self.rows).map(|row| read(row).unwrap_or(nowhere));
            rows.collect()
        })
    }

    /// The order of the rows, worked out the first time; `None` where values are neither numbers
    /// nor codes.
    pub(crate) fn sorted(&self) -> Option<&Sorted> {
        let sorted = self.sorted.get_or_init(|| Sorted::of(&self.values));
        sorted.as_ref()
    }

    /// The point of a row, where [`points`](Segment::points) was asked before and there is one.
    pub(crate) fn known_point(&self, row: usize) -> Option<GeoPoint> {
        let point = self.points.get()?.get(row)?;
        (!point.latitude.is_nan()).then_some(*point)
    }

    /// Whether [`sorted`](Segment::sorted) was asked before.
    pub(crate) fn is_in_order(&self) -> bool {
        self.sorted.get().is_some() || self.texts.get().is_some()
    }

    /// The rows by their texts, whose hashes `hash` gives the first time; rows without a text are
    /// not among them.
    pub(crate) fn texts(&self, hash: impl Fn(usize) -> Option<u32>) -> &Texts {
        self.texts.get_or_init(|| {
            let rows = (0..self.rows).zip(0_u16..);
            Texts::new(
                rows.filter_map(|(row, short)| Some((hash(row)?, short)))
                    .collect(),
            )
        })
    }

    /// A segment in which the field is absent.
    pub(crate) fn absent(rows: usize) -> Self {
        Segment::new(rows, Values::Absent)
    }

    /// Whether its cells are codes of the field's dictionary.
    pub(crate) fn has_codes(&self) -> bool {
        matches!(self.values, Values::Codes(_))
    }

    /// Whether the cells are too long to be kept twice: ask the records.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.values == Values::Elsewhere
    }

    /// Appends the encoded cell of a row; nothing when the field is absent.
    pub(crate) fn write_cell(&self, row: usize, dictionary: &Dictionary, out: &mut Vec<u8>) {
        match &self.values {
            Values::Absent | Values::Elsewhere => {}
            Values::Numbers(numbers) => {
                let value = numbers.values.get(row).copied().unwrap_or(0);
                numbers.form(row).write_cell(value, numbers.scale, out);
            }
            Values::Codes(codes) => {
                let code = codes.get(row).copied().unwrap_or(super::ABSENT);
                out.extend_from_slice(dictionary.cell(code).unwrap_or_default());
            }
            Values::Bytes { ends, bytes } => {
                out.extend_from_slice(slice_of(ends, bytes, row));
            }
        }
    }

    /// The bytes it takes in memory.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
            + match &self.values {
                Values::Absent | Values::Elsewhere => 0,
                Values::Numbers(n) => n.values.len() * 8 + n.form_of.len(),
                Values::Codes(codes) => codes.len() * 2,
                Values::Bytes { ends, bytes } => ends.len() * 4 + bytes.len(),
            }
            + self.points.get().map_or(0, |points| points.len() * 16)
            + self
                .sorted
                .get()
                .map_or(0, |s| s.as_ref().map_or(0, Sorted::size))
            + self.texts.get().map_or(0, Texts::size)
    }

    /// The segment as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match &self.values {
            Values::Absent | Values::Elsewhere => {
                let elsewhere = self.is_elsewhere();
                out.push(if elsewhere {
                    KIND_ELSEWHERE
                } else {
                    KIND_ABSENT
                });
                put_u64(&mut out, self.rows as u64);
            }
            Values::Numbers(numbers) => {
                out.push(KIND_NUMBERS);
                put_u64(&mut out, self.rows as u64);
                encode_numbers(numbers, &mut out);
            }
            Values::Codes(codes) => {
                out.push(KIND_CODES);
                put_u64(&mut out, self.rows as u64);
                let width = width(u64::from(codes.iter().copied().max().unwrap_or(0)));
                out.push(width);
                pack(codes.iter().map(|c| u64::from(*c)), width, &mut out);
            }
            Values::Bytes { ends, bytes } => encode_bytes(self.rows, ends, bytes, &mut out),
        }
        out
    }

    /// How many codes its dictionary must have.
    pub(crate) fn codes(&self) -> usize {
        match &self.values {
            Values::Codes(codes) => codes.iter().max().map_or(0, |code| usize::from(*code) + 1),
            _ => 0,
        }
    }

    /// Reads what [`encode`](Segment::encode) wrote; `None` for any other bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8()?;
        let rows = usize::try_from(reader.u64()?).ok()?;
        if rows > SEGMENT_ROWS as usize {
            return None;
        }
        let values = match kind {
            KIND_ABSENT => Values::Absent,
            KIND_ELSEWHERE => Values::Elsewhere,
            KIND_NUMBERS => Values::Numbers(decode_numbers(&mut reader, rows)?),
            KIND_CODES => {
                let width = reader.u8().filter(|w| *w <= 16)?;
                let packed = reader.take(packed_len(rows, width))?;
                Values::Codes(unpack(packed, rows, width, |v| {
                    u16::try_from(v).unwrap_or(super::ABSENT)
                })?)
            }
            KIND_BYTES | KIND_ZSTD => {
                let len = usize::try_from(reader.u64()?)
                    .ok()
                    .filter(|len| *len <= MAX_BYTES)?;
                let stored = reader.rest();
                if kind == KIND_BYTES {
                    decode_bytes(stored, rows).filter(|_| stored.len() == len)?
                } else {
                    PACKING.with_borrow_mut(|packing| {
                        let plain = packing.decompress(stored, len)?;
                        let values = decode_bytes(plain, rows).filter(|_| plain.len() == len);
                        packing.rest();
                        values
                    })?
                }
            }
            _ => return None,
        };
        Some(Segment::new(rows, values))
    }
}

/// The bytes of a row.
pub(crate) fn slice_of<'b>(ends: &[u32], bytes: &'b [u8], row: usize) -> &'b [u8] {
    let start = match row.checked_sub(1) {
        Some(before) => ends.get(before).copied().unwrap_or(u32::MAX),
        None => 0,
    };
    let end = ends.get(row).copied().unwrap_or(start);
    bytes.get(start as usize..end as usize).unwrap_or_default()
}

/// What compresses, kept by each thread: made anew, it takes longer than what it is to do.
#[derive(Default)]
struct Packing {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
    plain: Vec<u8>,
    packed: Vec<u8>,
}

thread_local! {
    static PACKING: RefCell<Packing> = RefCell::default();
}

/// Buffers larger than this are not kept.
const KEPT_BYTES: usize = 8 << 20;

impl Packing {
    /// Compresses what is in `plain`; `None` where that makes it no smaller.
    fn compress(&mut self) -> Option<&[u8]> {
        if self.compressor.is_none() {
            self.compressor = zstd::bulk::Compressor::new(LEVEL).ok();
        }
        let compressor = self.compressor.as_mut()?;
        self.packed.clear();
        self.packed
            .reserve(zstd::zstd_safe::compress_bound(self.plain.len()));
        let len = compressor.compress_to_buffer(&self.plain, &mut self.packed);
        let packed = self.packed.get(..len.ok()?)?;
        (packed.len() < self.plain.len()).then_some(packed)
    }

    fn decompress(&mut self, packed: &[u8], len: usize) -> Option<&[u8]> {
        if self.decompressor.is_none() {
            self.decompressor = zstd::bulk::Decompressor::new().ok();
        }
        let decompressor = self.decompressor.as_mut()?;
        self.plain.clear();
        self.plain.reserve(len);
        decompressor
            .decompress_to_buffer(packed, &mut self.plain)
            .ok()?;
        Some(&self.plain)
    }

    /// Gives large buffers back.
    fn rest(&mut self) {
        for buffer in [&mut self.plain, &mut self.packed] {
            if buffer.capacity() > KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
    }
}

fn encode_bytes(rows: usize, ends: &[u32], bytes: &[u8], out: &mut Vec<u8>) {
    PACKING.with_borrow_mut(|packing| {
        let plain = &mut packing.plain;
        plain.clear();
        plain.reserve(bytes.len() + ends.len() * 2);
        let mut start = 0;
        for end in ends {
            put_u64(plain, u64::from(end - start));
            start = *end;
        }
        plain.extend_from_slice(bytes);
        let len = plain.len();
        let small = len <= SMALL;
        let packed = if small { None } else { packing.compress() };
        let packed = packed.map(<[u8]>::len);
        out.push(if packed.is_some() {
            KIND_ZSTD
        } else {
            KIND_BYTES
        });
        put_u64(out, rows as u64);
        put_u64(out, len as u64);
        let stored = packed.map_or(Some(packing.plain.as_slice()), |len| {
            packing.packed.get(..len)
        });
        out.extend_from_slice(stored.unwrap_or_default());
        packing.rest();
    });
}

fn decode_bytes(plain: &[u8], rows: usize) -> Option<Values> {
    let mut reader = Reader::new(plain);
    let mut ends = Vec::with_capacity(rows);
    let mut end = 0_u32;
    for _ in 0..rows {
        end = end.checked_add(u32::try_from(reader.u64()?).ok()?)?;
        ends.push(end);
    }
    let bytes = reader.rest();
    (bytes.len() == end as usize).then(|| Values::Bytes {
        ends,
        bytes: bytes.to_vec(),
    })
}

fn encode_numbers(numbers: &Numbers, out: &mut Vec<u8>) {
    out.push(numbers.unit as u8);
    out.push(numbers.scale);
    put_u64(out, numbers.forms.len() as u64);
    for form in &numbers.forms {
        out.extend_from_slice(&form.to_bytes());
    }
    let per_row = !numbers.form_of.is_empty();
    out.push(u8::from(per_row));
    if per_row {
        let width = width(numbers.forms.len().saturating_sub(1) as u64);
        pack(numbers.form_of.iter().map(|f| u64::from(*f)), width, out);
    }
    let Some((low, high)) = numbers.range else {
        out.push(0);
        return;
    };
    out.push(1);
    put_signed(out, i128::from(low));
    put_signed(out, i128::from(high));
    let valued = numbers.valued();
    // A row without a value is stored as the lowest.
    let steps = || {
        numbers.values.iter().enumerate().map(|(row, v)| {
            let form = numbers.form_of.get(row).copied().unwrap_or(0);
            match valued.get(usize::from(form)) {
                Some(true) => v.wrapping_sub(low).cast_unsigned(),
                _ => 0,
            }
        })
    };
    let step = steps().fold(0, gcd).max(1);
    put_u64(out, step);
    let width = width(high.wrapping_sub(low).cast_unsigned() / step);
    out.push(width);
    if step == 1 {
        pack(steps(), width, out);
    } else {
        pack(steps().map(|v| v / step), width, out);
    }
}

/// The greatest common divisor; stops being sought once it is 1.
fn gcd(mut a: u64, mut b: u64) -> u64 {
    if a == 1 || b == 0 {
        return a;
    }
    if a != 0 && b.is_multiple_of(a) {
        return a;
    }
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn decode_numbers(reader: &mut Reader<'_>, rows: usize) -> Option<Numbers> {
    let unit = Unit::from_byte(reader.u8()?)?;
    let scale = reader.u8().filter(|scale| *scale <= 18)?;
    let count = usize::try_from(reader.u64()?)
        .ok()
        .filter(|n| (1..=256).contains(n))?;
    let mut forms = Vec::with_capacity(count);
    for _ in 0..count {
        forms.push(Form::from_bytes(reader.take(4)?.try_into().ok()?)?);
    }
    let form_of = if reader.u8()? == 1 {
        let width = width(count as u64 - 1);
        let packed = reader.take(packed_len(rows, width))?;
        unpack(packed, rows, width, |v| u8::try_from(v).unwrap_or(0))?
    } else {
        Vec::new()
    };
    if form_of.iter().any(|form| usize::from(*form) >= count) {
        return None;
    }
    let mut numbers = Numbers {
        unit,
        scale,
        values: vec![0; rows],
        forms,
        form_of,
        range: None,
    };
    if reader.u8()? == 0 {
        return Some(numbers);
    }
    let (low, high) = (reader.i64()?, reader.i64()?);
    numbers.range = Some((low, high));
    let step = reader.u64()?;
    let width = reader.u8()?;
    let packed = reader.take(packed_len(rows, width))?;
    numbers.values = if step == 1 {
        unpack(packed, rows, width, |v| low.wrapping_add_unsigned(v))?
    } else {
        unpack(packed, rows, width, |v| {
            low.wrapping_add_unsigned(v.wrapping_mul(step))
        })?
    };
    Some(numbers)
}

/// Cells as numbers; `None` when one is no number, or their units differ.
pub(super) fn numbers_of(cells: &[&[u8]]) -> Option<Numbers> {
    let mut unit = None;
    let mut scale = 0;
    let mut read = Vec::with_capacity(cells.len());
    let mut last: (&[u8], Option<Number>) = (&[], None);
    for cell in cells {
        // Neighbours are often equal.
        let number = match last {
            (bytes, Some(number)) if bytes == *cell => number,
            _ => Number::read(cell)?,
        };
        last = (cell, Some(number));
        match (unit, number.unit) {
            (None, other) => unit = other,
            (Some(a), Some(b)) if a != b => return None,
            _ => {}
        }
        scale = scale.max(number.scale);
        read.push(number);
    }
    let mut out = Numbers {
        unit: unit?,
        scale,
        values: Vec::with_capacity(cells.len()),
        forms: Vec::new(),
        form_of: Vec::with_capacity(cells.len()),
        range: None,
    };
    for number in read {
        let value = number.at_scale(scale)?;
        let form = out.form_place(number.form)?;
        out.values.push(value);
        out.form_of.push(form);
    }
    out.settle();
    Some(out)
}

impl Numbers {
    /// The place of a form among the forms, given now if it has none; `None` when there are too
    /// many.
    pub(super) fn form_place(&mut self, form: Form) -> Option<u8> {
        let at = match self.forms.iter().position(|own| *own == form) {
            Some(at) => at,
            None if self.forms.len() < 256 => {
                self.forms.push(form);
                self.forms.len() - 1
            }
            None => return None,
        };
        u8::try_from(at).ok()
    }

    /// Counts in finer units; `None` when a value does not fit.
    pub(super) fn rescale(&mut self, scale: u8) -> Option<()> {
        let by = power(scale.checked_sub(self.scale)?);
        for value in &mut self.values {
            *value = value.checked_mul(by)?;
        }
        self.scale = scale;
        Some(())
    }

    /// Notes the range, and drops the forms of rows where all are alike.
    pub(super) fn settle(&mut self) {
        if self.forms.len() == 1 {
            self.form_of.clear();
        }
        self.set_range();
    }
}
