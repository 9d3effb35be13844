//! Small integers as Parquet packs them: levels, and codes of a dictionary.
//!
//! Runs of one value, and between them groups of eight values in as many bits as the greatest needs
//! (Parquet's encoding RLE, "run length encoding / bit-packing hybrid").

/// The values of a group.
const GROUP: usize = 8;
/// Groups behind one header: more would need a second byte, which some readers do not expect.
const MOST_GROUPS: usize = 63;

/// The bits that numbers up to this one need.
pub(crate) fn bits_of(greatest: u32) -> u8 {
    u8::try_from(u32::BITS - greatest.leading_zeros()).unwrap_or(32)
}

/// Appends values of so many bits.
pub(crate) fn put_hybrid<T: Copy + Eq + Into<u32>>(values: &[T], bits: u8, out: &mut Vec<u8>) {
    let mut rest = values;
    while let Some(first) = rest.first().copied() {
        let run = rest.iter().take_while(|value| **value == first).count();
        if run >= GROUP || run == rest.len() {
            put_header(run << 1, out);
            let bytes = usize::from(bits.div_ceil(8));
            out.extend(first.into().to_le_bytes().iter().take(bytes));
            rest = rest.get(run..).unwrap_or_default();
            continue;
        }
        let mut groups = 1;
        for group in rest.chunks(GROUP).take(MOST_GROUPS).skip(1) {
            let same = |value: &T| Some(value) == group.first();
            if group.len() == GROUP && group.iter().all(same) {
                break;
            }
            groups += 1;
        }
        put_header((groups << 1) | 1, out);
        let (own, later) = rest.split_at(rest.len().min(groups * GROUP));
        for group in own.chunks(GROUP) {
            put_group(group, bits, out);
        }
        rest = later;
    }
}

/// Appends up to eight values, and zeros for those that are missing.
#[inline]
fn put_group<T: Copy + Into<u32>>(group: &[T], bits: u8, out: &mut Vec<u8>) {
    let (mut held, mut count) = (0_u64, 0_u32);
    for value in group {
        let value: u32 = (*value).into();
        held |= u64::from(value) << count;
        count += u32::from(bits);
        if count >= u32::BITS {
            let [a, b, c, d, ..] = held.to_le_bytes();
            out.extend_from_slice(&[a, b, c, d]);
            held >>= u32::BITS;
            count -= u32::BITS;
        }
    }
    let missing = u32::try_from(GROUP - group.len()).unwrap_or(0);
    let bytes = (count + missing * u32::from(bits)).div_ceil(8) as usize;
    let known = held.to_le_bytes();
    out.extend(
        known
            .iter()
            .copied()
            .chain(std::iter::repeat(0))
            .take(bytes),
    );
}

fn put_header(mut header: usize, out: &mut Vec<u8>) {
    while header > 0x7f {
        out.push(u8::try_from(header & 0x7f).unwrap_or(0) | 0x80);
        header >>= 7;
    }
    out.push(u8::try_from(header).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the format's description.
    fn read(mut bytes: &[u8], bits: u8, count: usize) -> Vec<u32> {
        let mut out = Vec::new();
        while out.len() < count {
            let (mut header, mut shift) = (0_usize, 0);
            loop {
                let byte = bytes[0];
                bytes = &bytes[1..];
                header |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            if header & 1 == 0 {
                let wide = usize::from(bits.div_ceil(8));
                let value: u32 = (0..wide).map(|at| u32::from(bytes[at]) << (8 * at)).sum();
                bytes = &bytes[wide..];
                out.extend(std::iter::repeat_n(value, header >> 1));
                continue;
            }
            let wide = usize::from(bits) * (header >> 1);
            for value in 0..(header >> 1) * 8 {
                let bit = |at: usize| u32::from(bytes[at / 8] >> (at % 8)) & 1;
                let start = value * usize::from(bits);
                out.push(
                    (0..usize::from(bits))
                        .map(|at| bit(start + at) << at)
                        .sum::<u32>(),
                );
            }
            bytes = &bytes[wide..];
        }
        assert!(bytes.is_empty());
        assert!(out.len() < count + 8);
        out.truncate(count);
        out
    }

    #[test]
    fn what_is_packed_is_read_back() {
        let mut random = 7_u32;
        let mut next = move |below: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) % below
        };
        for bits in 0..=24_u8 {
            for count in [1, 7, 8, 9, 63, 64, 65, 504, 505, 513, 3_000] {
                let greatest = 1_u32 << bits;
                let mut values = Vec::new();
                while values.len() < count {
                    let run = if next(3) == 0 { next(40) } else { 1 };
                    let value = next(greatest);
                    values.extend(std::iter::repeat_n(value, run as usize));
                }
                values.truncate(count);
                let mut out = Vec::new();
                put_hybrid(&values, bits, &mut out);
                assert_eq!(read(&out, bits, count), values, "{bits} bits");
            }
        }
        assert_eq!(
            (bits_of(0), bits_of(1), bits_of(255), bits_of(256)),
            (0, 1, 8, 9)
        );
    }

    #[test]
    fn a_run_is_a_few_bytes() {
        let mut out = Vec::new();
        put_hybrid(&[1_u8; 10_000], 1, &mut out);
        assert_eq!(out, [0xa0, 0x9c, 0x01, 1]);
    }
}
