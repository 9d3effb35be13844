//! Exact means and percentiles.

use crate::value::Decimal;

/// Digits that a mean has after those of the sum.
const MEAN_DIGITS: u8 = 6;

/// The sum divided by the count, to six digits more than the sum has after its point, halves to
/// the even digit; fewer where 38 digits do not hold it. `None` for a count of 0.
pub(super) fn mean(sum: Decimal, count: u64) -> Option<Decimal> {
    let sum = sum.normalized();
    let count = i128::from(count);
    if count == 0 {
        return None;
    }
    (0..=MEAN_DIGITS).rev().find_map(|digits| {
        let scale = sum.scale().checked_add(digits)?;
        let raised = sum
            .mantissa()
            .checked_mul(10_i128.checked_pow(u32::from(digits))?)?;
        let (quotient, rest) = (raised / count, raised % count);
        let twice = rest.unsigned_abs().checked_mul(2)?;
        let half = count.unsigned_abs();
        let up = twice > half || (twice == half && quotient % 2 != 0);
        let step = if up { raised.signum() } else { 0 };
        Some(Decimal::new(quotient.checked_add(step)?, scale)?.normalized())
    })
}

/// The percentile of the values, interpolated between the two that are nearest to the place
/// `percent/100 * (count - 1)`. The values are put in another order. `None` of no values, and where
/// 38 digits do not hold it.
pub(super) fn percentile(values: &mut [Decimal], percent: u8) -> Option<Decimal> {
    let place = values.len().checked_sub(1)? as u128 * u128::from(percent);
    let below = usize::try_from(place / 100).ok()?;
    let share = i128::try_from(place % 100).ok()?;
    let (_, low, above) = values.select_nth_unstable(below);
    let low = *low;
    let Some(high) = above.iter().min().filter(|_| share > 0) else {
        return Some(low.normalized());
    };
    let step = high
        .checked_sub(low)?
        .checked_mul(Decimal::new(share, 2)?)?;
    Some(low.checked_add(step)?.normalized())
}

/// The same of integers in units of `10^-scale`.
pub(super) fn percentile_of(values: &mut [i64], scale: u8, percent: u8) -> Option<Decimal> {
    let place = values.len().checked_sub(1)? as u128 * u128::from(percent);
    let below = usize::try_from(place / 100).ok()?;
    let share = i128::try_from(place % 100).ok()?;
    let (_, low, above) = values.select_nth_unstable(below);
    let low = i128::from(*low);
    let Some(high) = above.iter().min().filter(|_| share > 0) else {
        return Some(Decimal::new(low, scale)?.normalized());
    };
    let raised = low * 100 + (i128::from(*high) - low) * share;
    Some(Decimal::new(raised, scale.checked_add(2)?)?.normalized())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn means_are_exact_or_rounded_to_even() {
        for (sum, count, expected) in [
            ("10", 4, "2.5"),
            ("1", 3, "0.333333"),
            ("-2", 3, "-0.666667"),
            ("2.50", 3, "0.8333333"),
            ("0", 7, "0"),
            // 0.0000005 and 0.0000015: to the even digit.
            ("1", 2_000_000, "0"),
            ("3", 2_000_000, "0.000002"),
            ("-1", 2_000_000, "0"),
            (
                "170000000000000000000000000000000000000",
                3,
                "56666666666666666666666666666666666667",
            ),
        ] {
            let found = mean(d(sum), count).unwrap();
            assert_eq!(found.to_string(), expected, "{sum} / {count}");
        }
        assert_eq!(mean(d("1"), 0), None);
    }

    #[test]
    fn percentiles_are_interpolated() {
        let of = |texts: &[&str], percent| {
            let mut values: Vec<_> = texts.iter().map(|t| d(t)).collect();
            percentile(&mut values, percent).map(|p| p.to_string())
        };
        for (values, percent, expected) in [
            (&["3", "1", "2"][..], 50, "2"),
            (&["4", "1", "2", "3"], 50, "2.5"),
            (&["10", "20"], 90, "19"),
            (&["10", "20"], 1, "10.1"),
            (&["1.5", "1.5", "9"], 50, "1.5"),
            (&["7.00"], 99, "7"),
            (&["-1", "1", "0", "5", "4"], 25, "0"),
        ] {
            assert_eq!(of(values, percent).as_deref(), Some(expected), "{values:?}");
        }
        assert_eq!(of(&[], 50), None);
    }
}
