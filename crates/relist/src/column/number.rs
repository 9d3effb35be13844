//! Numbers of a column: an integer, and the form that makes the cell of it again.

use crate::record::codec::{Reader, put_signed, put_u64};
use crate::record::{Cell, Tag, put_instant, put_integer};
use crate::schema::FieldType;
use crate::value::{Date, DateTime, Decimal, Value};

/// What a column's integers count. Part of the file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Unit {
    /// Numbers, in units of `10^-scale`.
    Number = 1,
    /// Days since 1970-01-01.
    Day = 2,
    /// Time since 1970-01-01T00:00Z, in units of `10^-scale` seconds.
    Instant = 3,
    /// Nanoseconds since midnight.
    Time = 4,
}

impl Unit {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [Unit::Number, Unit::Day, Unit::Instant, Unit::Time]
            .into_iter()
            .find(|unit| *unit as u8 == byte)
    }
}

/// How a cell was written, beside its integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// The cell's tag; [`Form::ABSENT`]'s is none of them.
    tag: u8,
    /// A decimal's scale, a timestamp's form byte, a time's digits.
    how: u8,
    /// A timestamp's offset in minutes.
    offset: i16,
}

const FORM_DIGITS: u8 = 0x0f;
const FORM_ZULU: u8 = 0x10;
/// The highest power of ten in an `i64`.
const MAX_SCALE: u8 = 18;

impl Form {
    pub(crate) const ABSENT: Form = Form {
        tag: 0xff,
        how: 0,
        offset: 0,
    };
    pub(crate) const NULL: Form = Form {
        tag: Tag::Null as u8,
        how: 0,
        offset: 0,
    };

    /// Whether a row of this form has a value.
    pub(crate) fn has_value(self) -> bool {
        self != Form::ABSENT && self != Form::NULL
    }

    /// Whether it is no timestamp of another offset than UTC.
    pub(crate) fn is_utc(self) -> bool {
        self.offset == 0
    }

    /// How many digits the cell's own integer has behind the point.
    pub(super) fn scale(self) -> u8 {
        if self.tag == Tag::Decimal as u8 {
            self.how
        } else if self.tag == Tag::DateTime as u8 {
            self.how & FORM_DIGITS
        } else {
            0
        }
    }

    /// The value of a cell whose integer, in units of `10^-scale`, is `value`, where it is plainly
    /// of a type; `None` when its cell must be asked.
    pub(crate) fn plain_value(
        self,
        value: i64,
        scale: u8,
        ty: &FieldType,
    ) -> Option<Value<'static>> {
        let own = || value / power(scale.saturating_sub(self.scale()));
        match (Tag::from_byte(self.tag)?, ty) {
            (Tag::Int, FieldType::Int | FieldType::Decimal) => Some(Value::Int(own())),
            (Tag::Decimal, FieldType::Int | FieldType::Decimal) => {
                Decimal::new(i128::from(own()), self.how).map(Value::Decimal)
            }
            (Tag::Date, FieldType::Date) => Some(Value::Date(Date(i32::try_from(own()).ok()?))),
            (Tag::DateTime, FieldType::DateTime) => {
                let nanos = value.rem_euclid(power(scale)) * power(9_u8.checked_sub(scale)?);
                Some(Value::DateTime(DateTime {
                    seconds: value.div_euclid(power(scale)),
                    nanos: u32::try_from(nanos).ok()?,
                    offset_minutes: self.offset,
                }))
            }
            _ => None,
        }
    }

    pub(super) fn to_bytes(self) -> [u8; 4] {
        let [low, high] = self.offset.to_le_bytes();
        [self.tag, self.how, low, high]
    }

    pub(super) fn from_bytes([tag, how, low, high]: [u8; 4]) -> Option<Self> {
        let form = Form {
            tag,
            how,
            offset: i16::from_le_bytes([low, high]),
        };
        let known = form == Form::ABSENT || Tag::from_byte(tag).is_some();
        (known && form.scale() <= MAX_SCALE).then_some(form)
    }

    /// Appends as JSON the cell whose integer, in units of `10^-scale`, is `value`.
    pub(super) fn write_json(self, value: i64, scale: u8, out: &mut String) {
        let own = value / power(scale.saturating_sub(self.scale()));
        match Tag::from_byte(self.tag) {
            Some(Tag::Int) => put_integer(out, i128::from(own), 0),
            Some(Tag::Decimal) => put_integer(out, i128::from(own), self.how),
            Some(Tag::DateTime) => {
                let digits = self.how & FORM_DIGITS;
                let nanos = own.rem_euclid(power(digits)) * power(9_u8.saturating_sub(digits));
                let at = DateTime {
                    seconds: own.div_euclid(power(digits)),
                    nanos: u32::try_from(nanos).unwrap_or(0),
                    offset_minutes: self.offset,
                };
                put_instant(out, at, digits, self.how & FORM_ZULU != 0);
            }
            _ => {
                let mut cell = Vec::with_capacity(16);
                self.write_cell(value, scale, &mut cell);
                if let Some(cell) = Cell::read(&mut Reader::new(&cell)) {
                    cell.write_json(out);
                }
            }
        }
    }

    /// Appends the cell whose integer, in units of `10^-scale`, is `value`.
    pub(crate) fn write_cell(self, value: i64, scale: u8, out: &mut Vec<u8>) {
        if self == Form::ABSENT {
            return;
        }
        out.push(self.tag);
        let own = value / power(scale.saturating_sub(self.scale()));
        match Tag::from_byte(self.tag) {
            Some(Tag::Int | Tag::Date) => put_signed(out, i128::from(own)),
            Some(Tag::Decimal) => {
                out.push(self.how);
                put_signed(out, i128::from(own));
            }
            Some(Tag::DateTime) => {
                out.push(self.how);
                let digits = self.how & FORM_DIGITS;
                put_signed(out, i128::from(own.div_euclid(power(digits))));
                if digits > 0 {
                    put_u64(out, own.rem_euclid(power(digits)).cast_unsigned());
                }
                if self.how & FORM_ZULU == 0 {
                    put_signed(out, i128::from(self.offset));
                }
            }
            Some(Tag::TimeOfDay) => {
                out.push(self.how);
                put_u64(out, own.cast_unsigned());
            }
            _ => {}
        }
    }
}

/// `10^exponent`.
pub(super) fn power(exponent: u8) -> i64 {
    10_i64.pow(u32::from(exponent.min(MAX_SCALE)))
}

/// One cell as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) form: Form,
    /// `None` for absent and null, which fit with every unit.
    pub(super) unit: Option<Unit>,
    /// In units of `10^-scale`.
    pub(super) value: i64,
    pub(super) scale: u8,
}

impl Number {
    /// Reads an encoded cell, empty when absent; `None` when it is no number of 64 bits.
    pub(super) fn read(cell: &[u8]) -> Option<Self> {
        let plain = |form| Number {
            form,
            unit: None,
            value: 0,
            scale: 0,
        };
        let Some((&tag, payload)) = cell.split_first() else {
            return Some(plain(Form::ABSENT));
        };
        let mut reader = Reader::new(payload);
        let mut form = Form {
            tag,
            how: 0,
            offset: 0,
        };
        let (unit, value) = match Tag::from_byte(tag)? {
            Tag::Null => return Some(plain(Form::NULL)),
            Tag::Int => (Unit::Number, reader.i64()?),
            Tag::Date => (Unit::Day, reader.i64()?),
            Tag::Decimal => {
                form.how = reader.u8()?;
                (Unit::Number, reader.i64()?)
            }
            Tag::TimeOfDay => {
                form.how = reader.u8()?;
                (Unit::Time, i64::try_from(reader.u64()?).ok()?)
            }
            Tag::DateTime => {
                form.how = reader.u8()?;
                let digits = form.how & FORM_DIGITS;
                let seconds = reader.i64()?;
                let fraction = if digits > 0 { reader.u64()? } else { 0 };
                if form.how & FORM_ZULU == 0 {
                    form.offset = i16::try_from(reader.i64()?).ok()?;
                }
                let whole = seconds.checked_mul(power(digits))?;
                let fraction = i64::try_from(fraction)
                    .ok()
                    .filter(|f| *f < power(digits))?;
                (Unit::Instant, whole.checked_add(fraction)?)
            }
            _ => return None,
        };
        if form.scale() > MAX_SCALE || !reader.is_empty() {
            return None;
        }
        let unit = Some(unit);
        let scale = form.scale();
        Some(Number {
            form,
            unit,
            value,
            scale,
        })
    }

    /// The value in units of `10^-scale`, which is finer than its own.
    pub(super) fn at_scale(&self, scale: u8) -> Option<i64> {
        self.value
            .checked_mul(power(scale.checked_sub(self.scale)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Cell, put_number, put_string};

    fn text(text: &str, ty: &FieldType) -> Vec<u8> {
        let mut out = Vec::new();
        put_string(&mut out, text, Some(ty));
        out
    }

    #[test]
    fn cells_come_back_as_they_were() {
        let mut cells = vec![Vec::new(), vec![Tag::Null as u8]];
        for number in [
            "0",
            "-7",
            "350000.00",
            "0.184",
            "9223372036854775807",
            "-0.5",
        ] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            cells.push(out);
        }
        for at in [
            "2020-10-22T21:27:44.780Z",
            "1969-12-31T23:59:59.5-07:00",
            "2020-10-22T21:27:44Z",
            "2020-10-22T21:27:44+00:00",
        ] {
            cells.push(text(at, &FieldType::DateTime));
        }
        cells.push(text("1969-01-01", &FieldType::Date));
        cells.push(text("23:59:59.25", &FieldType::TimeOfDay));
        for cell in cells {
            let number = Number::read(&cell).unwrap();
            for scale in number.scale..number.scale + 3 {
                let Some(value) = number.at_scale(scale) else {
                    continue;
                };
                let mut out = Vec::new();
                number.form.write_cell(value, scale, &mut out);
                assert_eq!(out, cell);
                for ty in [
                    FieldType::Int,
                    FieldType::Decimal,
                    FieldType::Date,
                    FieldType::DateTime,
                ] {
                    let Some(value) = number.form.plain_value(value, scale, &ty) else {
                        continue;
                    };
                    let own = Cell::read(&mut Reader::new(&cell)).unwrap();
                    assert_eq!(format!("{value:?}"), format!("{:?}", own.value_as(&ty)));
                }
            }
            assert_eq!(Form::from_bytes(number.form.to_bytes()), Some(number.form));
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        assert!(Number::read(&text("x", &FieldType::String)).is_none());
        let mut big = Vec::new();
        put_number(&mut big, "9223372036854775808");
        assert!(Number::read(&big).is_none());
        assert!(
            Number::read(&text(
                "9999-12-31T23:59:59.123456789Z",
                &FieldType::DateTime
            ))
            .is_none()
        );
    }
}
