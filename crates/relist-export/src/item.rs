//! Single values of parts.

use relist::query::{Item, Part};
use relist::schema::FieldType;
use relist::value::{Decimal, Value};

/// The digits of an Arrow Decimal128.
pub(crate) const MOST_DIGITS: u8 = 38;

/// Appends a value as JSON, as the feed wrote it; nothing where it is absent.
pub(crate) fn write_item(item: Item<'_>, part: &Part, out: &mut String) {
    match item {
        Item::Absent => {}
        Item::Null => out.push_str("null"),
        Item::Number(number) => number.write_json(out),
        Item::Code(code) => {
            if let Some(cell) = part.coded(code) {
                cell.write_json(out);
            }
        }
        Item::Cell(cell) => cell.write_json(out),
    }
}

/// Whether an instant is the beginning of a day.
pub(crate) fn is_midnight(value: i64, scale: u8) -> bool {
    let day = 10_i64
        .checked_pow(u32::from(scale))
        .and_then(|p| p.checked_mul(86_400));
    day.is_some_and(|day| value.rem_euclid(day) == 0)
}

/// A number in units of `10^-scale`.
pub(crate) fn number_of(part: &Part, item: Item<'_>, scale: u8) -> Option<i128> {
    match item {
        Item::Absent | Item::Null => None,
        Item::Number(n) => rescaled(i128::from(n.value), n.scale, scale),
        Item::Code(code) => decimal_of(&part.coded(code)?.value_as(&FieldType::Decimal), scale),
        Item::Cell(cell) => decimal_of(&cell.value_as(&FieldType::Decimal), scale),
    }
}

/// A value of a cell in units of `10^-scale`.
pub(crate) fn decimal_of(value: &Value<'_>, scale: u8) -> Option<i128> {
    match value {
        Value::Int(number) => rescaled(i128::from(*number), 0, scale),
        Value::Decimal(number) => {
            let number: &Decimal = number;
            rescaled(number.mantissa(), number.scale(), scale)
        }
        _ => None,
    }
}

/// A number in units of `10^-from`, in units of `10^-to`; the shape has room for its digits.
#[inline]
pub(crate) fn rescaled(number: i128, from: u8, to: u8) -> Option<i128> {
    if from == to {
        return Some(number);
    }
    let power = |exponent: u8| {
        let exponent = u32::from(exponent.min(MOST_DIGITS));
        match u64::checked_pow(10, exponent) {
            Some(power) => i128::from(power),
            None => 10_i128.pow(exponent),
        }
    };
    if from < to {
        number.checked_mul(power(to - from))
    } else {
        Some(number / power(from - to))
    }
}
