//! Variable-length integers and bounded reads, for record bodies and log entries.

/// Appends an unsigned integer, 7 bits a byte, low bits first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u128) {
    while value > u128::from(u64::MAX) {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        out.push(low | 0x80);
    }
    put_u64(out, u64::try_from(value).unwrap_or(0));
}

/// Appends a length or an id.
pub(crate) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        out.push(low | 0x80);
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

/// Appends a signed integer, small magnitudes short.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i128) {
    put_varint(out, ((value << 1) ^ (value >> 127)).cast_unsigned());
}

/// Appends what [`put_signed`] appends.
pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    match value.checked_mul(2) {
        Some(double) => put_u64(out, (double ^ (value >> 63)).cast_unsigned()),
        None => put_signed(out, i128::from(value)),
    }
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what the `put_*` functions wrote; every read is bounded and `None` past the end.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn slice(&self, from: usize, to: usize) -> Option<&'a [u8]> {
        self.bytes.get(from..to)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let slice = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(slice)
    }

    /// Passes an integer.
    pub(crate) fn skip_varint(&mut self) -> Option<()> {
        let rest = self.bytes.get(self.at..)?;
        let last = rest.iter().take(19).position(|byte| *byte < 0x80)?;
        self.at += last + 1;
        Some(())
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at = self.bytes.len();
        rest
    }

    pub(crate) fn varint(&mut self) -> Option<u128> {
        let mut value = 0_u128;
        let mut shift = 0_u32;
        loop {
            let byte = self.u8()?;
            value |= u128::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
            shift += 7;
            if shift > 126 {
                return None;
            }
        }
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        // The common case is a few bytes.
        let mut value = 0;
        for (shift, byte) in (0..56).step_by(7).zip(self.bytes.get(self.at..)?) {
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                self.at += shift / 7 + 1;
                return Some(value);
            }
        }
        u64::try_from(self.varint()?).ok()
    }

    pub(crate) fn signed(&mut self) -> Option<i128> {
        let raw = self.varint()?;
        Some((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        let mut ahead = self.clone();
        if let Some(raw) = ahead.u64() {
            self.at = ahead.at;
            return Some((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()));
        }
        i64::try_from(self.signed()?).ok()
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u64()?).ok()?;
        self.take(len)
    }

    pub(crate) fn str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn signed_round_trips(value in any::<i128>()) {
            let mut out = Vec::new();
            put_signed(&mut out, value);
            prop_assert_eq!(Reader::new(&out).signed(), Some(value));
        }

        #[test]
        fn the_short_ways_are_the_long_ones(value in any::<i64>(), shift in 0..64) {
            let value = value >> shift;
            let (mut short, mut long) = (Vec::new(), Vec::new());
            put_i64(&mut short, value);
            put_signed(&mut long, i128::from(value));
            prop_assert_eq!(&short, &long);
            let mut reader = Reader::new(&long);
            prop_assert_eq!(reader.i64(), Some(value));
            prop_assert!(reader.is_empty());
            let mut reader = Reader::new(&long);
            prop_assert_eq!(reader.skip_varint(), Some(()));
            prop_assert!(reader.is_empty());
            let raw = value.cast_unsigned();
            let mut out = Vec::new();
            put_varint(&mut out, u128::from(raw) << 60);
            prop_assert_eq!(Reader::new(&out).varint(), Some(u128::from(raw) << 60));
            out.clear();
            put_u64(&mut out, raw);
            prop_assert_eq!(Reader::new(&out).u64(), Some(raw));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new(&bytes);
            while reader.bytes().is_some() {}
            prop_assert!(Reader::new(&bytes).varint().is_none_or(|_| !bytes.is_empty()));
        }
    }
}
