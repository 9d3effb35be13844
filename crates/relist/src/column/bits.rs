//! Masks: which rows of a segment are meant.

use super::SEGMENT_ROWS;

const WORDS: usize = SEGMENT_ROWS as usize / 64;

/// A set of rows of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mask {
    words: Box<[u64]>,
}

impl Mask {
    /// No row.
    pub(crate) fn none() -> Self {
        Mask {
            words: vec![0; WORDS].into(),
        }
    }

    /// The first `rows` rows.
    pub(crate) fn first(rows: usize) -> Self {
        let mut out = Mask::none();
        for (at, word) in out.words.iter_mut().enumerate() {
            let left = rows.saturating_sub(at * 64);
            *word = if left >= 64 {
                u64::MAX
            } else {
                (1 << left) - 1
            };
        }
        out
    }

    /// Keeps the rows whose flag is set, asking only where a row is left.
    pub(crate) fn retain<T>(&mut self, items: &[T], flag: impl Fn(&T) -> bool) {
        let mut chunks = items.chunks(64);
        for word in &mut self.words {
            let chunk = chunks.next().unwrap_or_default();
            if *word != 0 {
                *word &= word_of(chunk, &flag);
            }
        }
    }

    /// Visits the rows whose number is in a range, which may change after each 64 of them.
    pub(crate) fn each_within<S>(
        &self,
        numbers: &[i64],
        state: &mut S,
        range: impl Fn(&S) -> (i64, i64),
        visit: impl Fn(&mut S, usize, i64),
    ) {
        for (at, (word, chunk)) in self.words.iter().zip(numbers.chunks(64)).enumerate() {
            if *word == 0 {
                continue;
            }
            let (low, high) = range(state);
            let mut left = *word & word_of(chunk, &|n: &i64| (*n >= low) & (*n <= high));
            while left != 0 {
                let bit = left.trailing_zeros() as usize;
                left &= left - 1;
                if let Some(number) = chunk.get(bit) {
                    visit(state, at * 64 + bit, *number);
                }
            }
        }
    }

    /// Keeps the rows `keep` says, asked one by one.
    pub(crate) fn filter(&mut self, mut keep: impl FnMut(usize) -> bool) {
        for (at, word) in self.words.iter_mut().enumerate() {
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros() as usize;
                left &= left - 1;
                if !keep(at * 64 + bit) {
                    *word &= !(1 << bit);
                }
            }
        }
    }

    pub(crate) fn set(&mut self, row: usize, to: bool) {
        if let Some(word) = self.words.get_mut(row / 64) {
            let bit = 1 << (row % 64);
            *word = if to { *word | bit } else { *word & !bit };
        }
    }

    pub(crate) fn contains(&self, row: usize) -> bool {
        let word = self.words.get(row / 64);
        word.is_some_and(|word| word & (1 << (row % 64)) != 0)
    }

    pub(crate) fn or(&mut self, other: &Mask) {
        let pairs = self.words.iter_mut().zip(&other.words);
        pairs.for_each(|(a, b)| *a |= b);
    }

    pub(crate) fn and_not(&mut self, other: &Mask) {
        let pairs = self.words.iter_mut().zip(&other.words);
        pairs.for_each(|(a, b)| *a &= !b);
    }

    /// Its rows from one on.
    pub(crate) fn behind(&self, row: usize) -> Mask {
        let mut out = self.clone();
        out.and_not(&Mask::first(row));
        out
    }

    pub(crate) fn count(&self) -> u64 {
        self.words
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The rows, ascending.
    pub(crate) fn rows(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                (left != 0).then(|| {
                    let bit = left.trailing_zeros() as usize;
                    left &= left - 1;
                    at * 64 + bit
                })
            })
        })
    }

    /// The mask as bytes, without the zeros at its end.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out: Vec<u8> = self
            .words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        while out.last() == Some(&0) {
            out.pop();
        }
        out
    }

    /// Reads what [`encode`](Mask::encode) wrote; `None` if it is too long.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > WORDS * 8 {
            return None;
        }
        let mut out = Mask::none();
        for (word, chunk) in out.words.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole
                .iter_mut()
                .zip(chunk)
                .for_each(|(to, from)| *to = *from);
            *word = u64::from_le_bytes(whole);
        }
        Some(out)
    }
}

/// One bit an item. The flags are made as bytes first, which compilers do many at a time; eight of
/// them become a byte by one multiplication.
#[inline]
fn word_of<T>(chunk: &[T], flag: &impl Fn(&T) -> bool) -> u64 {
    let mut flags = [0_u8; 64];
    for (to, item) in flags.iter_mut().zip(chunk) {
        *to = u8::from(flag(item));
    }
    let (eights, _) = flags.as_chunks::<8>();
    let bytes = eights
        .iter()
        .map(|eight| u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56);
    bytes
        .enumerate()
        .fold(0, |word, (at, byte)| word | (byte << (at * 8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_hold_rows() {
        let mut mask = Mask::first(130);
        assert_eq!(mask.count(), 130);
        mask.filter(|row| row % 3 == 0);
        assert_eq!(
            mask.rows().collect::<Vec<_>>(),
            (0..130).step_by(3).collect::<Vec<_>>()
        );
        assert_eq!(Mask::decode(&mask.encode()), Some(mask.clone()));
        mask.set(1, true);
        mask.set(0, false);
        assert!(mask.contains(1) && !mask.contains(0) && !mask.contains(9_999));
        let odd: Vec<u32> = (0..200).collect();
        mask.retain(&odd, |v| v % 2 == 1);
        assert_eq!(mask.rows().take(3).collect::<Vec<_>>(), [1, 3, 9]);
        assert_eq!(Mask::first(8_192).count(), 8_192);
        assert!(Mask::decode(&[1; 1_025]).is_none());
    }
}
