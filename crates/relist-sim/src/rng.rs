//! Deterministic draws: the same seed gives the same market on every machine.
//!
//! [`mix`] is the finaliser of SplitMix64 (Steele, Lea, Flood 2014): a good hash of one word, and
//! a counter hashed by it is a good generator. A record's fields each hash the home's seed with a
//! number of their own, so that any field can be written without drawing those before it.

/// Hashes one word.
pub(crate) const fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Hashes a seed with the number of a purpose.
pub(crate) const fn roll(seed: u64, purpose: u64) -> u64 {
    mix(seed ^ purpose.wrapping_mul(0xD6E8_FEB8_6659_FD93))
}

/// A number below `bound` (0 when `bound` is 0) from a hash.
pub(crate) const fn below(hash: u64, bound: u32) -> u32 {
    // The high half of a 32 by 32 bit product lies below `bound`, so it fits.
    let product = (hash >> 32) * (bound as u64);
    (product >> 32) as u32
}

/// One of `items`, which must not be empty.
#[expect(
    clippy::indexing_slicing,
    reason = "the index is below the length; the tables of this crate are not empty"
)]
pub(crate) fn pick<T: Copy>(hash: u64, items: &[T]) -> T {
    items[below(hash, u32::try_from(items.len()).unwrap_or(u32::MAX)) as usize]
}

/// A sequence of draws.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Starts a sequence of its own for a purpose.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        Rng(roll(seed, purpose))
    }

    /// The next hash.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        below(self.next(), bound)
    }

    /// True `parts` times of a million.
    pub(crate) fn chance(&mut self, parts: u32) -> bool {
        self.below(1_000_000) < parts
    }

    /// One of `items`, which must not be empty.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        pick(self.next(), items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_even_and_repeat() {
        let mut rng = Rng::new(1, 2);
        let mut counts = [0_u32; 10];
        for _ in 0..100_000 {
            counts[rng.below(10) as usize] += 1;
        }
        assert!(
            counts.iter().all(|c| (9_500..10_500).contains(c)),
            "{counts:?}"
        );
        let (mut a, mut b) = (Rng::new(7, 0), Rng::new(7, 0));
        assert!((0..100).all(|_| a.next() == b.next()));
        assert_ne!(Rng::new(7, 1).next(), Rng::new(7, 0).next());
    }

    #[test]
    fn bounds_hold() {
        let mut rng = Rng::new(3, 0);
        assert_eq!(rng.below(0), 0);
        assert_eq!((0..10_000).filter(|_| rng.chance(0)).count(), 0);
        assert_eq!(
            (0..10_000).filter(|_| rng.chance(1_000_000)).count(),
            10_000
        );
    }
}
