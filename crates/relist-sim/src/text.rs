//! Values written as JSON text, fast: no formatting machinery on the path of a record.

/// Seconds since 1970-01-01T00:00:00Z; enough until 2106.
pub type Seconds = u32;

/// Seconds in a day.
pub(crate) const DAY: Seconds = 86_400;

/// Appends a number.
pub(crate) fn int(out: &mut Vec<u8>, value: u64) {
    if value >= 10 {
        int(out, value / 10);
    }
    out.push(digit(value % 10));
}

/// Appends a number of hundredths as a decimal with at least one digit of fraction, as WFRMLS
/// writes it: `2950000.0`, `0.25`, `0.5`.
pub(crate) fn hundredths(out: &mut Vec<u8>, value: u64) {
    int(out, value / 100);
    out.push(b'.');
    out.push(digit(value / 10 % 10));
    if !value.is_multiple_of(10) {
        out.push(digit(value % 10));
    }
}

fn digit(value: u64) -> u8 {
    b'0' + u8::try_from(value % 10).unwrap_or(0)
}

/// Appends `value` with two digits.
fn two(out: &mut Vec<u8>, value: u32) {
    out.push(digit(u64::from(value) / 10));
    out.push(digit(u64::from(value)));
}

/// Year, month and day of a day since 1970-01-01 (H. Hinnant's `civil_from_days`, for days of
/// 1970 and later).
pub(crate) fn civil(day: u32) -> (u32, u32, u32) {
    let z = day + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u32::from(month <= 2);
    (year, month, doy - (153 * mp + 2) / 5 + 1)
}

/// Appends `2026-01-31`, without quotes.
pub(crate) fn date(out: &mut Vec<u8>, day: u32) {
    let (year, month, of_month) = civil(day);
    two(out, year / 100);
    two(out, year % 100);
    out.push(b'-');
    two(out, month);
    out.push(b'-');
    two(out, of_month);
}

/// Appends `2026-01-31T12:00:00Z`, without quotes: UTC with whole seconds, as WFRMLS has it.
pub(crate) fn timestamp(out: &mut Vec<u8>, at: Seconds) {
    date(out, at / DAY);
    out.push(b'T');
    clock(out, at);
    out.push(b'Z');
}

fn clock(out: &mut Vec<u8>, at: Seconds) {
    let of_day = at % DAY;
    two(out, of_day / 3_600);
    out.push(b':');
    two(out, of_day / 60 % 60);
    out.push(b':');
    two(out, of_day % 60);
}

/// The instant as `2026-01-31T12:00:00Z`.
pub fn format_timestamp(at: Seconds) -> String {
    string(|out| timestamp(out, at))
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// The instant that [`http_date`] wrote.
pub(crate) fn parse_http_date(text: &str) -> Option<Seconds> {
    let words: Vec<&str> = text.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = words.as_slice() else {
        return None;
    };
    let month = MONTHS.iter().position(|name| name == month)? + 1;
    let stamp = format!("{year}-{month:02}-{day}T{time}Z");
    let at = relist::value::DateTime::parse(&stamp)?;
    u32::try_from(at.seconds).ok()
}

/// The instant as HTTP's `Date` has it: `Sat, 31 Jan 2026 12:00:00 GMT` (RFC 9110, 5.6.7).
pub(crate) fn http_date(at: Seconds) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let day = at / DAY;
    let (year, month, of_month) = civil(day);
    let name = |names: &'static [&'static str], at: u32| {
        names.get(at as usize).copied().unwrap_or_default()
    };
    let time = string(|out| clock(out, at));
    let (weekday, month) = (name(&WEEKDAYS, day % 7), name(&MONTHS, month - 1));
    format!("{weekday}, {of_month:02} {month} {year} {time} GMT")
}

/// Collects what `write` appends, which must be UTF-8.
pub(crate) fn string(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends a JSON string, quotes included.
pub(crate) fn json_str(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

/// Appends text as it stands inside a JSON string.
pub(crate) fn escaped(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let plain = |b: &u8| *b >= 0x20 && *b != b'"' && *b != b'\\';
    if bytes.iter().all(plain) {
        out.extend_from_slice(bytes);
        return;
    }
    for byte in bytes {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b if plain(b) => out.push(*b),
            b => {
                out.extend_from_slice(b"\\u00");
                let nibble = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[nibble(b >> 4), nibble(b & 15)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let text = |v| string(|out| hundredths(out, v));
        assert_eq!(text(295_000_000), "2950000.0");
        assert_eq!(text(25), "0.25");
        assert_eq!(text(50), "0.5");
        assert_eq!(text(105), "1.05");
        assert_eq!(string(|out| int(out, 0)), "0");
        assert_eq!(string(|out| int(out, u64::MAX)), u64::MAX.to_string());
    }

    #[test]
    fn days_agree_with_the_library() {
        for day in (0..49_000).step_by(13) {
            let expected = relist::value::Date(i32::try_from(day).unwrap()).to_string();
            assert_eq!(string(|out| date(out, day)), expected);
        }
        assert_eq!(format_timestamp(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(http_date(1_700_000_000), "Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        for at in [0, 951_782_400, 1_700_000_000, Seconds::MAX] {
            assert_eq!(parse_http_date(&http_date(at)), Some(at));
        }
        assert_eq!(parse_http_date("Tue, 14 Foo 2023 22:13:20 GMT"), None);
    }

    #[test]
    fn strings_survive_json() {
        let text = "a \"b\" \\ c\nd\u{1}\u{e9}";
        let json = string(|out| json_str(out, text));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
