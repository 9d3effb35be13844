//! Words for people: colour, numbers, durations, and text that is safe to print.

/// Colours text, or leaves it as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    fn code(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn error(self, text: &str) -> String {
        self.code("1;31", text)
    }

    pub(crate) fn warning(self, text: &str) -> String {
        self.code("1;33", text)
    }

    pub(crate) fn hint(self, text: &str) -> String {
        self.code("1;36", text)
    }

    pub(crate) fn heading(self, text: &str) -> String {
        self.code("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.code("2", text)
    }
}

/// The text on one line, with nothing in it that a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 record`, `2 records`.
pub(crate) fn plural(number: u64, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{} {word}", thousands(number))
}

/// A length of time by its two largest units: `3 h 20 min`.
pub(crate) fn duration(micros: i64) -> String {
    let seconds = micros.max(0) / 1_000_000;
    match seconds {
        0..10 => {
            let tenths = micros.max(0) / 100_000;
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A number of bytes in a unit that fits: `12.3 MB`.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut scaled = u128::from(count) * 10;
    let mut unit = 0;
    while scaled >= 10_000 && unit + 1 < units.len() {
        scaled /= 1_000;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    if unit == 0 {
        return format!("{count} B");
    }
    format!("{}.{} {name}", scaled / 10, scaled % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (21_613, "21,613")] {
            assert_eq!(thousands(number), text);
        }
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(plural(1, "record", "records"), "1 record");
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_500, "1.5 kB"),
            (161 << 20, "168.8 MB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn durations_read_well() {
        for (seconds, text) in [
            (0, "0.0 s"),
            (9, "9.0 s"),
            (61, "1 min 1 s"),
            (7_260, "2 h 1 min"),
            (180_000, "2 d 2 h"),
        ] {
            assert_eq!(duration(seconds * 1_000_000), text);
        }
        assert_eq!(duration(-5), "0.0 s");
    }
}
