//! Exact decimals.

use std::cmp::Ordering;

/// An exact decimal: `mantissa / 10^scale`, at most 38 digits.
///
/// Trailing zeros are kept (`350000.00` has scale 2), so a plainly written number is printed as it
/// came; comparison and equality are by value.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    mantissa: i128,
    scale: u8,
}

/// The most digits after the point that [`Decimal`] holds.
const MAX_SCALE: u8 = 38;

impl Decimal {
    /// Makes `mantissa / 10^scale`; `None` if `scale` is over 38.
    pub fn new(mantissa: i128, scale: u8) -> Option<Self> {
        (scale <= MAX_SCALE).then_some(Decimal { mantissa, scale })
    }

    /// All digits, without the point.
    pub fn mantissa(self) -> i128 {
        self.mantissa
    }

    /// How many of the digits stand after the point.
    pub fn scale(self) -> u8 {
        self.scale
    }

    /// Reads a JSON or OData number, exponents included; `None` when it is not a number or does
    /// not fit 38 digits exactly.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, exponent) = match text.find(['e', 'E']) {
            Some(at) => (text.get(..at)?, text.get(at + 1..)?.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, digits) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() || (digits.contains('.') && fraction.is_empty()) {
            return None;
        }
        let mut mantissa = 0_i128;
        for byte in whole.bytes().chain(fraction.bytes()) {
            let digit = char::from(byte).to_digit(10)?;
            mantissa = mantissa.checked_mul(10)?.checked_add(i128::from(digit))?;
        }
        let mut scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        if mantissa == 0 && scale < 0 {
            scale = 0;
        }
        while scale < 0 {
            mantissa = mantissa.checked_mul(10)?;
            scale += 1;
        }
        let mantissa = if negative { -mantissa } else { mantissa };
        Decimal::new(mantissa, u8::try_from(scale).ok()?)
    }

    /// The same value with no trailing zeros after the point.
    #[must_use]
    pub fn normalized(self) -> Self {
        let Decimal {
            mut mantissa,
            mut scale,
        } = self;
        // Divisions of 64 bits are much faster, and nearly always wide enough.
        if let Ok(mut short) = i64::try_from(mantissa) {
            while scale > 0 && short % 10 == 0 {
                short /= 10;
                scale -= 1;
            }
            mantissa = i128::from(short);
        }
        while scale > 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale -= 1;
        }
        Decimal { mantissa, scale }
    }

    /// The value as an integer, when it is one and fits.
    pub fn to_i64(self) -> Option<i64> {
        let plain = self.normalized();
        (plain.scale == 0)
            .then(|| i64::try_from(plain.mantissa).ok())
            .flatten()
    }

    /// The nearest float. For distances and charts, never for money.
    #[expect(
        clippy::cast_precision_loss,
        reason = "documented as the nearest float"
    )]
    pub fn to_f64(self) -> f64 {
        self.mantissa as f64 / 10_f64.powi(i32::from(self.scale))
    }

    /// The sum, or `None` on overflow.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let (a, b, scale) = self.aligned(other)?;
        Decimal::new(a.checked_add(b)?, scale)
    }

    /// The difference, or `None` on overflow.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        let (a, b, scale) = self.aligned(other)?;
        Decimal::new(a.checked_sub(b)?, scale)
    }

    /// The product, or `None` on overflow.
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        let (a, b) = (self.normalized(), other.normalized());
        Decimal::new(
            a.mantissa.checked_mul(b.mantissa)?,
            a.scale.checked_add(b.scale)?,
        )
    }

    /// The quotient to at least 12 digits after the point, half away from zero; `None` when
    /// `other` is zero or on overflow.
    pub fn checked_div(self, other: Self) -> Option<Self> {
        let (a, b) = (self.normalized(), other.normalized());
        if b.mantissa == 0 {
            return None;
        }
        // a / b * 10^(12 + max scale): raise the dividend so that the quotient keeps 12 digits.
        let digits = 12_u8.max(a.scale).max(b.scale);
        let raise = u32::from(digits) + u32::from(b.scale) - u32::from(a.scale);
        let dividend = a.mantissa.checked_mul(10_i128.checked_pow(raise)?)?;
        let (quotient, rest) = (dividend / b.mantissa, dividend % b.mantissa);
        let up = rest.unsigned_abs().checked_mul(2)? >= b.mantissa.unsigned_abs();
        let sign = if (dividend < 0) == (b.mantissa < 0) {
            1
        } else {
            -1
        };
        let rounded = if up {
            quotient.checked_add(sign)?
        } else {
            quotient
        };
        Some(Decimal::new(rounded, digits)?.normalized())
    }

    /// The remainder with the sign of the dividend, or `None` when `other` is zero.
    pub fn checked_rem(self, other: Self) -> Option<Self> {
        let (a, b, scale) = self.aligned(other)?;
        Decimal::new(a.checked_rem(b)?, scale)
    }

    /// The greatest integer not above the value.
    #[must_use]
    pub fn floor(self) -> Self {
        let unit = 10_i128.pow(u32::from(self.scale));
        Decimal {
            mantissa: self.mantissa.div_euclid(unit),
            scale: 0,
        }
    }

    /// The smallest integer not below the value.
    #[must_use]
    pub fn ceiling(self) -> Self {
        let floor = self.floor();
        if floor == self {
            return floor;
        }
        Decimal {
            mantissa: floor.mantissa + 1,
            scale: 0,
        }
    }

    /// The nearest integer, halves away from zero (OData URL Conventions, 5.1.1.9.1).
    #[must_use]
    pub fn round(self) -> Self {
        let unit = 10_i128.pow(u32::from(self.scale));
        let (whole, rest) = (self.mantissa / unit, self.mantissa % unit);
        let up = rest.unsigned_abs() >= unit.unsigned_abs() - rest.unsigned_abs();
        let step = if self.scale > 0 && up {
            self.mantissa.signum()
        } else {
            0
        };
        Decimal {
            mantissa: whole + step,
            scale: 0,
        }
    }

    fn aligned(self, other: Self) -> Option<(i128, i128, u8)> {
        let scale = self.scale.max(other.scale);
        let raise = |d: Self| {
            let factor = 10_i128.checked_pow(u32::from(scale - d.scale))?;
            d.mantissa.checked_mul(factor)
        };
        if let (Some(a), Some(b)) = (raise(self), raise(other)) {
            return Some((a, b, scale));
        }
        let (a, b) = (self.normalized(), other.normalized());
        let shorter = (a.scale, b.scale) != (self.scale, other.scale);
        shorter.then(|| a.aligned(b)).flatten()
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Decimal {
            mantissa: i128::from(value),
            scale: 0,
        }
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        if let Some((a, b, _)) = self.aligned(*other) {
            return a.cmp(&b);
        }
        // Too far apart to align in 38 digits: compare the whole parts, then the fractions.
        let split = |d: &Self| {
            let unit = 10_i128.pow(u32::from(d.scale));
            (
                d.mantissa.div_euclid(unit),
                d.mantissa.rem_euclid(unit),
                d.scale,
            )
        };
        let ((aw, af, asc), (bw, bf, bsc)) = (split(self), split(other));
        aw.cmp(&bw).then_with(|| {
            let scale = asc.max(bsc);
            let raise = |f: i128, s: u8| f.saturating_mul(10_i128.pow(u32::from(scale - s)));
            raise(af, asc).cmp(&raise(bf, bsc))
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.scale == 0 {
            return write!(f, "{}", self.mantissa);
        }
        let digits = self.mantissa.unsigned_abs().to_string();
        let scale = usize::from(self.scale);
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        let sign = if self.mantissa < 0 { "-" } else { "" };
        write!(f, "{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text} should parse"))
    }

    #[test]
    fn plain_numbers_print_as_they_came() {
        for text in [
            "0",
            "2950000.0",
            "350000.00",
            "-0.184",
            "123456789012345678901234567890.5",
        ] {
            assert_eq!(d(text).to_string(), text);
        }
    }

    #[test]
    fn exponents_are_exact_or_refused() {
        assert_eq!(d("1e3"), Decimal::from(1000));
        assert_eq!(d("12.5E-1"), d("1.25"));
        assert_eq!(d("0e400"), Decimal::from(0));
        for text in [
            "1e400", "", "-", ".5", "5.", "1.2.3", "0x1", "NaN", "1e", "+1",
        ] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn order_is_by_value() {
        assert_eq!(d("1.0"), d("1"));
        assert!(d("-1.5") < d("-1.25"));
        let (big, tiny) = (
            d("12345678901234567890123456789012345678"),
            d("0.00000000000000000001"),
        );
        assert_eq!(
            (big.cmp(&tiny), tiny.cmp(&big)),
            (Ordering::Greater, Ordering::Less)
        );
    }

    #[test]
    fn arithmetic() {
        assert_eq!(d("0.1").checked_add(d("0.2")), Some(d("0.3")));
        assert_eq!(d("10").checked_div(d("4")), Some(d("2.5")));
        assert_eq!(d("2").checked_div(d("3")), Some(d("0.666666666667")));
        assert_eq!(d("1").checked_div(d("0")), None);
        assert_eq!(d("-2.5").round(), d("-3"));
        assert_eq!(d("2.4").round(), d("2"));
        assert_eq!(d("-2.5").floor(), d("-3"));
        assert_eq!(d("-2.5").ceiling(), d("-2"));
        assert_eq!(d("5").ceiling(), d("5"));
        assert_eq!(d("7").round(), d("7"));
        assert_eq!(d("-7.5").checked_rem(d("2")), Some(d("-1.5")));
    }
}
