//! Record bodies, many to a block.
//!
//! A block is one value of `versions`, under the row of its first body, and holds the bodies of
//! consecutive rows of one resource, each compressed by itself: one body is read without the
//! others. zstd is given a dictionary that was trained on bodies of that resource, which makes up
//! for their being short. Dictionaries are never changed, only followed by better ones; a block
//! names its own.
//!
//! ```text
//! block  format u8, resource u16, dictionary u32 (0: plain), count u16,
//!        end of each body but the last u16, checksum u32, bodies
//! body   zstd frame without its magic number (or the plain body), checksum u32
//! ```
//!
//! Numbers are little-endian. Ends count from the first body. A checksum is seeded with the row,
//! so that a body in another's place is found too.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use zstd::dict::{DecoderDictionary, EncoderDictionary};
use zstd::zstd_safe::{CCtx, DCtx, compress_bound, get_frame_content_size};

use super::format::{TableId, corrupt, row_checksum, unseal};
use super::guarded::{AccessGuard, Range, ReadableTable, Table};
use super::tables as t;
use super::{engine, write::missing_row};
use crate::error::{Error, Result};
use crate::record::{Body, RecordBuf};

/// The most bytes a block of several bodies has: just under 32 KiB, the size of redb's page for
/// it. In larger ones a body is read with more of its neighbours, smaller ones waste more of their
/// page. A single longer body is a block of its own.
const BLOCK_BYTES: usize = 32_640;
const FORMAT: u8 = 1;
const HEADER: usize = 1 + 2 + 4 + 2;
const SUM: usize = 4;
/// Fast, and with a dictionary nearly as small as the levels above it.
const LEVEL: i32 = 1;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A body is not longer than this: a page of records is not.
const MAX_BODY: u64 = 1 << 30;

/// A dictionary is trained when a resource has this many bodies.
pub(super) const TRAIN_AT: usize = 1_000;
/// Bodies and bytes it is trained on: more of them make it slower, and hardly better.
const SAMPLES: usize = 1_000;
const SAMPLE_BYTES: usize = 1 << 20;
/// Just under 64 KiB with its header.
const DICTIONARY_BYTES: usize = 64_000;

/// A dictionary, ready for use.
pub(crate) struct Dictionary {
    id: u32,
    bytes: Vec<u8>,
    encoder: OnceLock<EncoderDictionary<'static>>,
    decoder: DecoderDictionary<'static>,
}

impl Dictionary {
    fn new(id: u32, bytes: Vec<u8>) -> Self {
        let decoder = DecoderDictionary::copy(&bytes);
        Dictionary {
            id,
            bytes,
            encoder: OnceLock::new(),
            decoder,
        }
    }

    /// Trains on bodies.
    fn train(id: u32, samples: &[&[u8]]) -> Self {
        let mut bytes = zstd::dict::from_samples(samples, DICTIONARY_BYTES).unwrap_or_else(|_| {
            // Too few or too much alike: then any of their text is a dictionary.
            let text: Vec<u8> = samples.concat();
            let start = text.len().saturating_sub(DICTIONARY_BYTES);
            text.get(start..).unwrap_or_default().to_vec()
        });
        // Every frame repeats the dictionary's number, a random one: one byte is enough.
        let trained = bytes.starts_with(&[0x37, 0xa4, 0x30, 0xec]);
        if let Some(number) = bytes.get_mut(4..8).filter(|_| trained) {
            number.copy_from_slice(&(id % 255 + 1).to_le_bytes());
        }
        Dictionary::new(id, bytes)
    }

    fn encoder(&self) -> &EncoderDictionary<'static> {
        self.encoder
            .get_or_init(|| EncoderDictionary::copy(&self.bytes, LEVEL))
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The value that is stored, without its seal.
    pub(super) fn to_value(&self) -> Vec<u8> {
        self.bytes.clone()
    }
}

/// The dictionaries that were read, shared by a store and its snapshots.
#[derive(Clone, Default)]
pub(crate) struct Dictionaries(Arc<Mutex<BTreeMap<u32, Arc<Dictionary>>>>);

impl Dictionaries {
    pub(super) fn held(&self, id: u32) -> Option<Arc<Dictionary>> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(&id).cloned()
    }

    /// The one that is held, or else what `read` gives, which is held from then on. Of several
    /// threads one reads.
    pub(super) fn held_or(
        &self,
        id: u32,
        read: impl FnOnce() -> Result<Arc<Dictionary>>,
    ) -> Result<Arc<Dictionary>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = held.get(&id) {
            return Ok(Arc::clone(own));
        }
        let own = read()?;
        held.insert(id, Arc::clone(&own));
        Ok(own)
    }

    /// Only what is committed may be put here.
    pub(super) fn put(&self, dictionary: Arc<Dictionary>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(dictionary.id, dictionary);
    }
}

/// Reads a dictionary of its table.
pub(super) fn read_dictionary(
    table: &impl ReadableTable<u32, t::Bytes>,
    id: u32,
) -> Result<Arc<Dictionary>> {
    let found = table.get(id).map_err(engine)?;
    let missing = || corrupt(TableId::Dictionaries, &format!("{id} is missing"));
    let guard = found.ok_or_else(missing)?;
    let bytes = unseal((TableId::Dictionaries, u64::from(id)), guard.value())?;
    Ok(Arc::new(Dictionary::new(id, bytes.to_vec())))
}

/// Compresses the bodies of one resource; usable from any thread.
#[derive(Clone)]
pub(crate) struct Packer(Option<Arc<Dictionary>>);

/// A body as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    dictionary: u32,
    bytes: Vec<u8>,
}

thread_local! {
    // A context takes longer to make than a body to compress.
    static COMPRESS: RefCell<(CCtx<'static>, Vec<u8>)> =
        RefCell::new((CCtx::create(), Vec::new()));
    static DECOMPRESS: RefCell<(DCtx<'static>, Vec<u8>)> =
        RefCell::new((DCtx::create(), Vec::new()));
}

impl Packer {
    /// Without a dictionary, bodies stay as they are.
    pub(super) fn new(dictionary: Option<Arc<Dictionary>>) -> Self {
        Packer(dictionary)
    }

    /// Trains a dictionary on bodies: an even sample of them.
    pub(super) fn train(id: u32, bodies: &[&[u8]]) -> Arc<Dictionary> {
        let step = bodies.len().div_ceil(SAMPLES).max(1);
        let mut bytes = 0;
        let samples = bodies.iter().step_by(step).take_while(|body| {
            bytes += body.len();
            bytes <= SAMPLE_BYTES
        });
        Arc::new(Dictionary::train(id, &samples.copied().collect::<Vec<_>>()))
    }

    /// The number of its dictionary, 0 without one.
    pub(crate) fn dictionary(&self) -> u32 {
        self.0.as_ref().map_or(0, |dictionary| dictionary.id)
    }

    /// Compresses a body; nothing without a dictionary, when it would stay as it is.
    ///
    /// # Errors
    /// As [`pack`](Packer::pack).
    pub(crate) fn pack_small(&self, body: &[u8]) -> Result<Packed> {
        if self.0.is_none() {
            return Ok(Packed::default());
        }
        self.pack(body)
    }

    /// Whether a body was packed by it.
    pub(crate) fn has_packed(&self, packed: &Packed) -> bool {
        !packed.bytes.is_empty() && packed.dictionary == self.dictionary()
    }

    /// Compresses a body.
    ///
    /// # Errors
    /// When zstd cannot: it has no memory.
    pub(crate) fn pack(&self, body: &[u8]) -> Result<Packed> {
        let Some(dictionary) = &self.0 else {
            return Ok(Packed {
                dictionary: 0,
                bytes: body.to_vec(),
            });
        };
        let encoder = dictionary.encoder().as_cdict();
        COMPRESS.with_borrow_mut(|(context, out)| {
            out.clear();
            out.reserve(compress_bound(body.len()));
            context
                .compress_using_cdict(out, body, encoder)
                .map_err(|code| {
                    let reason = zstd::zstd_safe::get_error_name(code);
                    Error::Usage(format!("cannot compress a record: {reason}"))
                })?;
            Ok(Packed {
                dictionary: dictionary.id,
                bytes: out.get(MAGIC.len()..).unwrap_or_default().to_vec(),
            })
        })
    }
}

/// Gathers bodies of consecutive rows of one resource into a block.
pub(super) struct BlockWriter {
    resource: u16,
    first: u64,
    dictionary: u32,
    ends: Vec<usize>,
    bodies: Vec<u8>,
}

impl BlockWriter {
    pub(super) fn new(resource: u16) -> Self {
        BlockWriter {
            resource,
            first: 0,
            dictionary: 0,
            ends: Vec::new(),
            bodies: Vec::with_capacity(BLOCK_BYTES),
        }
    }

    /// Adds a body, and writes out the block before it when that is full.
    pub(super) fn push(
        &mut self,
        table: &mut Table<'_, u64, t::Bytes>,
        row: u64,
        body: &Packed,
    ) -> Result<()> {
        let next = self.bodies.len() + body.bytes.len() + SUM;
        let size = HEADER + 2 * self.ends.len() + SUM + next;
        if size > BLOCK_BYTES || body.dictionary != self.dictionary {
            self.flush(table)?;
        }
        if self.ends.is_empty() {
            self.first = row;
            self.dictionary = body.dictionary;
        }
        self.bodies.extend_from_slice(&body.bytes);
        let sum = row_checksum(TableId::Versions, row, &body.bytes);
        self.bodies.extend_from_slice(&sum);
        self.ends.push(self.bodies.len());
        Ok(())
    }

    /// Writes out what there is.
    pub(super) fn flush(&mut self, table: &mut Table<'_, u64, t::Bytes>) -> Result<()> {
        let Some((_, ends)) = self.ends.split_last() else {
            return Ok(());
        };
        let count = self.ends.len();
        let mut block = Vec::with_capacity(HEADER + 2 * count + SUM + self.bodies.len());
        block.push(FORMAT);
        block.extend_from_slice(&self.resource.to_le_bytes());
        block.extend_from_slice(&self.dictionary.to_le_bytes());
        // A block of several bodies is shorter than 64 KiB, so both fit.
        let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes();
        block.extend_from_slice(&short(count));
        for end in ends {
            block.extend_from_slice(&short(*end));
        }
        let sum = row_checksum(TableId::Versions, self.first, &block);
        block.extend_from_slice(&sum);
        block.extend_from_slice(&self.bodies);
        table.insert(self.first, block.as_slice()).map_err(engine)?;
        self.ends.clear();
        self.bodies.clear();
        Ok(())
    }
}

/// A block's header, checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockHeader {
    pub(super) first: u64,
    pub(super) resource: u16,
    pub(super) dictionary: u32,
    pub(super) count: u16,
}

impl BlockHeader {
    /// Reads and checks the header of a block.
    pub(super) fn read(first: u64, block: &[u8]) -> Result<Self> {
        let bad = |what: &str| corrupt(TableId::Versions, &format!("block {first}: {what}"));
        let short = || bad("it is too short");
        let (format, rest) = block.split_first().ok_or_else(short)?;
        let (resource, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (dictionary, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (count, _) = rest.split_first_chunk().ok_or_else(short)?;
        let count = u16::from_le_bytes(*count);
        let end = HEADER + 2 * usize::from(count).saturating_sub(1);
        let sum = block.get(end..end + SUM);
        let head = block.get(..end).ok_or_else(short)?;
        if sum != Some(row_checksum(TableId::Versions, first, head).as_slice()) {
            return Err(bad("a checksum does not match"));
        }
        if *format != FORMAT || count == 0 {
            return Err(bad(&format!("its format is {format}, expected {FORMAT}")));
        }
        Ok(BlockHeader {
            first,
            resource: u16::from_le_bytes(*resource),
            dictionary: u32::from_le_bytes(*dictionary),
            count,
        })
    }

    /// The rows of its bodies.
    pub(super) fn rows(self) -> std::ops::Range<u64> {
        self.first..self.first + u64::from(self.count)
    }

    /// The stored bytes of a row, checked.
    pub(super) fn stored(self, block: &[u8], row: u64) -> Result<&[u8]> {
        let found = self.slice(block, row).and_then(<[u8]>::split_last_chunk);
        let (body, sum) = found.ok_or_else(|| missing_row(row))?;
        if *sum == row_checksum(TableId::Versions, row, body) {
            return Ok(body);
        }
        let what = format!("row {row}: a checksum does not match");
        Err(corrupt(TableId::Versions, &what))
    }

    fn slice(self, block: &[u8], row: u64) -> Option<&[u8]> {
        let at = usize::try_from(row.checked_sub(self.first)?).ok()?;
        let last = usize::from(self.count) - 1;
        if at > last {
            return None;
        }
        let end = |at: usize| {
            let bytes = block.get(HEADER + 2 * at..)?.first_chunk()?;
            Some(usize::from(u16::from_le_bytes(*bytes)))
        };
        let bodies = block.get(HEADER + 2 * last + SUM..)?;
        let from = at.checked_sub(1).map_or(Some(0), end)?;
        if at == last {
            return bodies.get(from..);
        }
        bodies.get(from..end(at)?)
    }
}

/// The body that was packed.
pub(super) fn unpack(
    dictionary: Option<&Dictionary>,
    row: u64,
    stored: &[u8],
) -> Result<RecordBuf> {
    let bad = |what: &str| corrupt(TableId::Versions, &format!("row {row}: {what}"));
    let body = match dictionary {
        None => stored.to_vec(),
        Some(dictionary) => DECOMPRESS.with_borrow_mut(|(context, frame)| {
            frame.clear();
            frame.extend_from_slice(&MAGIC);
            frame.extend_from_slice(stored);
            let size = get_frame_content_size(frame).ok().flatten();
            let size = size
                .filter(|size| *size <= MAX_BODY)
                .and_then(|size| usize::try_from(size).ok())
                .ok_or_else(|| bad("its length is missing"))?;
            let mut body = Vec::with_capacity(size);
            context
                .decompress_using_ddict(&mut body, frame, dictionary.decoder.as_ddict())
                .map_err(|code| bad(zstd::zstd_safe::get_error_name(code)))?;
            Ok::<_, Error>(body)
        })?,
    };
    Body::new(&body).ok_or_else(|| bad("an unknown body format"))?;
    Ok(RecordBuf(body))
}

/// The rows among which the block of a row begins.
pub(super) fn block_range(row: u64) -> std::ops::RangeInclusive<u64> {
    row.saturating_sub(u64::from(u16::MAX))..=row
}

/// A block that was read last: the next row is often in it too.
pub(super) struct Held<'g> {
    header: BlockHeader,
    guard: AccessGuard<'g, t::Bytes>,
    dictionary: Option<Arc<Dictionary>>,
}

impl<'g> Held<'g> {
    /// The block of a row: the last one of [`block_range`].
    pub(super) fn find(
        mut range: Range<'g, u64, t::Bytes>,
        row: u64,
        dictionary: impl FnOnce(u32) -> Result<Option<Arc<Dictionary>>>,
    ) -> Result<Held<'g>> {
        let found = range.next_back().transpose().map_err(engine)?;
        let (first, guard) = found.ok_or_else(|| missing_row(row))?;
        let header = BlockHeader::read(first.value(), guard.value())?;
        if !header.rows().contains(&row) {
            return Err(missing_row(row));
        }
        let dictionary = dictionary(header.dictionary)?;
        Ok(Held {
            header,
            guard,
            dictionary,
        })
    }

    pub(super) fn holds(&self, row: u64) -> bool {
        self.header.rows().contains(&row)
    }

    pub(super) fn body(&self, row: u64) -> Result<RecordBuf> {
        let stored = self.header.stored(self.guard.value(), row)?;
        unpack(self.dictionary.as_deref(), row, stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{put_number, put_string};
    use crate::store::guarded::Database;

    /// Bodies as a feed has them: much alike, of many lengths.
    fn bodies(count: usize) -> Vec<Vec<u8>> {
        let body = |at: usize| {
            let mut out = vec![1];
            for field in 0..40 {
                out.push(1);
                put_number(&mut out, &(at * field).to_string());
                out.push(1);
                let city = ["Orem", "Provo", "Salt Lake City"][at * field % 3];
                put_string(&mut out, &city.repeat(at % 7), None);
            }
            out
        };
        (0..count).map(body).collect()
    }

    fn blocks(bodies: &[Vec<u8>], packer: &Packer) -> Vec<(u64, Vec<u8>)> {
        let backend = redb::backends::InMemoryBackend::new();
        let create = || redb::Database::builder().create_with_backend(backend);
        let database = Database::new(create).unwrap();
        let txn = database.begin_write().unwrap();
        {
            let mut table = txn.open_table(t::VERSIONS).unwrap();
            let mut block = BlockWriter::new(7);
            for (row, body) in (1..).zip(bodies) {
                let own = packer.pack(body).unwrap();
                block.push(&mut table, row, &own).unwrap();
            }
            block.flush(&mut table).unwrap();
        }
        txn.commit().unwrap();
        let table = database.begin_read().unwrap().open_table(t::VERSIONS);
        let range = table.unwrap().range::<u64>(..).unwrap();
        let own = range.map(|item| item.map(|(row, block)| (row.value(), block.value().to_vec())));
        own.map(Result::unwrap).collect()
    }

    #[test]
    fn every_body_comes_back() {
        let mut bodies = bodies(3_000);
        // Longer than any block.
        bodies.insert(1_500, [vec![1], vec![42; 200_000]].concat());
        let samples: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        let dictionary = Packer::train(300, &samples[..1_200]);
        for packer in [
            Packer::new(None),
            Packer::new(Some(Arc::clone(&dictionary))),
        ] {
            let trained = packer.0.as_deref();
            let mut rows = 0;
            let mut expected = bodies.iter();
            for (first, block) in blocks(&bodies, &packer) {
                let header = BlockHeader::read(first, &block).unwrap();
                assert!(block.len() <= BLOCK_BYTES || header.count == 1);
                assert_eq!((header.first, header.resource), (rows + 1, 7));
                for row in header.rows() {
                    let stored = header.stored(&block, row).unwrap();
                    let body = unpack(trained, row, stored).unwrap();
                    rows += 1;
                    assert_eq!((Some(&body.0), row), (expected.next(), rows));
                }
                assert!(header.stored(&block, rows + 1).is_err());
            }
            assert!(expected.next().is_none());
        }
        let (plain, small) = (&bodies[5], Packer::new(Some(dictionary)));
        assert!(small.pack(plain).unwrap().bytes.len() * 2 < plain.len());
    }

    #[test]
    fn whatever_is_damaged_is_found() {
        let bodies = bodies(20);
        let samples: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        // Too few to train on: their text is the dictionary.
        let dictionary = Packer::train(1, &samples);
        let packer = Packer::new(Some(Arc::clone(&dictionary)));
        let all = blocks(&bodies, &packer);
        let (first, block) = all.first().unwrap();
        let read = |first: u64, block: &[u8]| {
            let header = BlockHeader::read(first, block)?;
            for row in header.rows() {
                unpack(Some(&dictionary), row, header.stored(block, row)?)?;
            }
            Ok::<(), Error>(())
        };
        assert!(read(*first, block).is_ok());
        assert!(read(first + 1, block).is_err());
        for at in 0..block.len() {
            let mut bad = block.clone();
            bad[at] ^= 0x40;
            assert!(
                matches!(read(*first, &bad), Err(Error::Corrupt { .. })),
                "byte {at}"
            );
            assert!(read(*first, &block[..at]).is_err(), "cut at {at}");
        }
    }
}
