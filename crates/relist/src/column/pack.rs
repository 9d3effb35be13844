//! Packed unsigned integers: as many bits each as the largest needs, rounded to 1, 2, 4 or whole
//! bytes.

/// The width in bits that holds every value up to `max`.
pub(super) fn width(max: u64) -> u8 {
    let bits = u64::BITS - max.leading_zeros();
    match bits {
        0 => 0,
        1 => 1,
        2 => 2,
        3 | 4 => 4,
        more => u8::try_from(more.div_ceil(8) * 8).unwrap_or(64),
    }
}

/// Appends the values, `width` bits each, low bits first.
#[expect(
    clippy::cast_possible_truncation,
    reason = "no value is wider than `width`, as the caller found it by `width`"
)]
pub(super) fn pack(values: impl Iterator<Item = u64>, width: u8, out: &mut Vec<u8>) {
    match width {
        0 => {}
        1 | 2 | 4 => {
            let (mut byte, mut at) = (0_u8, 0_u8);
            for value in values {
                byte |= (value as u8) << at;
                at += width;
                if at == 8 {
                    out.push(byte);
                    (byte, at) = (0, 0);
                }
            }
            if at > 0 {
                out.push(byte);
            }
        }
        8 => out.extend(values.map(|v| v as u8)),
        16 => values.for_each(|v| out.extend_from_slice(&(v as u16).to_le_bytes())),
        32 => values.for_each(|v| out.extend_from_slice(&(v as u32).to_le_bytes())),
        64 => values.for_each(|v| out.extend_from_slice(&v.to_le_bytes())),
        odd => {
            let bytes = usize::from(odd / 8);
            values.for_each(|v| out.extend(v.to_le_bytes().iter().take(bytes)));
        }
    }
}

/// The bytes that `count` values of `width` bits take.
pub(super) fn packed_len(count: usize, width: u8) -> usize {
    (count * usize::from(width)).div_ceil(8)
}

/// Hands over `count` values of `width` bits; `None` when there are too few bytes.
pub(super) fn unpack<T>(
    bytes: &[u8],
    count: usize,
    width: u8,
    value: impl Fn(u64) -> T,
) -> Option<Vec<T>> {
    let bytes = bytes.get(..packed_len(count, width))?;
    let mut out: Vec<T> = Vec::with_capacity(count);
    match width {
        0 => out.extend((0..count).map(|_| value(0))),
        1 | 2 | 4 => {
            let mask = (1_u8 << width) - 1;
            let per = 8 / width;
            let all = bytes
                .iter()
                .flat_map(|byte| (0..per).map(move |i| u64::from((byte >> (i * width)) & mask)));
            out.extend(all.take(count).map(value));
        }
        8 => out.extend(bytes.iter().map(|b| value(u64::from(*b)))),
        16 => {
            let (chunks, _) = bytes.as_chunks::<2>();
            out.extend(
                chunks
                    .iter()
                    .map(|c| value(u64::from(u16::from_le_bytes(*c)))),
            );
        }
        32 => {
            let (chunks, _) = bytes.as_chunks::<4>();
            out.extend(
                chunks
                    .iter()
                    .map(|c| value(u64::from(u32::from_le_bytes(*c)))),
            );
        }
        64 => {
            let (chunks, _) = bytes.as_chunks::<8>();
            out.extend(chunks.iter().map(|c| value(u64::from_le_bytes(*c))));
        }
        24 | 40 | 48 | 56 => {
            let size = usize::from(width / 8);
            out.extend(bytes.chunks_exact(size).map(|chunk| {
                let mut whole = [0; 8];
                whole
                    .iter_mut()
                    .zip(chunk)
                    .for_each(|(to, from)| *to = *from);
                value(u64::from_le_bytes(whole))
            }));
        }
        _ => return None,
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(
            values in proptest::collection::vec(any::<u64>(), 0..70),
            shift in 0..64_u32,
        ) {
            let values: Vec<u64> = values.into_iter().map(|v| v >> shift).collect();
            let width = width(values.iter().copied().max().unwrap_or(0));
            let mut out = Vec::new();
            pack(values.iter().copied(), width, &mut out);
            prop_assert_eq!(out.len(), packed_len(values.len(), width));
            prop_assert_eq!(unpack(&out, values.len(), width, |v| v).unwrap(), values.clone());
            if width > 0 && !values.is_empty() {
                let short = out.get(..out.len() - 1).unwrap();
                prop_assert!(unpack(short, values.len(), width, |v| v).is_none());
            }
        }
    }
}
