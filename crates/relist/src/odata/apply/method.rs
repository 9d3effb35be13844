//! The methods of `aggregate`: the standard's, and percentiles as methods of our own namespace.

use std::fmt;

use crate::odata::text::nearest;

/// How values are aggregated.
///
/// Null is no value: every method leaves it out (OData Extension for Data Aggregation 4.0,
/// standard aggregation methods). Of no values the result is null, and 0 for `countdistinct`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `sum`: exact.
    Sum,
    /// `min`.
    Min,
    /// `max`.
    Max,
    /// `average`: the sum divided by the count, to six digits more than the sum has after its
    /// point, halves to the even digit.
    Average,
    /// `countdistinct`: how many different values.
    CountDistinct,
    /// `Relist.median`, `Relist.p90`: the percentile, 1 to 99. Between two values it is
    /// interpolated exactly, as SQL's `percentile_cont` does.
    Percentile(u8),
}

/// The namespace of our own methods.
const NAMESPACE: &str = "relist.";

/// The methods' names, for guesses.
const NAMES: [&str; 9] = [
    "sum",
    "min",
    "max",
    "average",
    "countdistinct",
    "median",
    "p90",
    "percentile90",
    "$count",
];

impl Method {
    /// The method of that name, in any case, with the namespace `Relist` or without it.
    pub fn named(name: &str) -> Option<Method> {
        let lower = name.to_ascii_lowercase();
        let (own, bare) = match lower.strip_prefix(NAMESPACE) {
            Some(bare) => (true, bare),
            None => (false, lower.as_str()),
        };
        let standard = match bare {
            "sum" => Some(Method::Sum),
            "min" => Some(Method::Min),
            "max" => Some(Method::Max),
            "average" => Some(Method::Average),
            "countdistinct" => Some(Method::CountDistinct),
            _ => None,
        };
        if standard.is_some() {
            return standard.filter(|_| !own);
        }
        if bare == "median" {
            return Some(Method::Percentile(50));
        }
        let digits = bare
            .strip_prefix("percentile")
            .or_else(|| bare.strip_prefix('p'))?;
        let plain = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        let percent: u8 = digits.parse().ok().filter(|_| plain)?;
        (1..=99)
            .contains(&percent)
            .then_some(Method::Percentile(percent))
    }

    /// Whether the method takes numbers only.
    pub fn takes_numbers(self) -> bool {
        matches!(self, Method::Sum | Method::Average | Method::Percentile(_))
    }

    /// A short word for the method, from which names of results are made: `Median`, `P90`.
    pub fn word(self) -> String {
        match self {
            Method::Sum => "Sum".to_owned(),
            Method::Min => "Min".to_owned(),
            Method::Max => "Max".to_owned(),
            Method::Average => "Average".to_owned(),
            Method::CountDistinct => "CountDistinct".to_owned(),
            Method::Percentile(50) => "Median".to_owned(),
            Method::Percentile(percent) => format!("P{percent}"),
        }
    }
}

/// The method's name as `with` takes it.
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Method::Sum => f.write_str("sum"),
            Method::Min => f.write_str("min"),
            Method::Max => f.write_str("max"),
            Method::Average => f.write_str("average"),
            Method::CountDistinct => f.write_str("countdistinct"),
            Method::Percentile(50) => f.write_str("Relist.median"),
            Method::Percentile(percent) => write!(f, "Relist.p{percent}"),
        }
    }
}

/// What to write instead of an unknown method.
pub(super) fn hint_for(wrong: &str) -> String {
    let lower = wrong.to_ascii_lowercase();
    let bare = lower.strip_prefix(NAMESPACE).unwrap_or(&lower);
    match bare {
        "avg" | "mean" => return "did you mean average?".to_owned(),
        "count" => return "rows are counted by $count as Name".to_owned(),
        "distinct" | "count_distinct" => return "did you mean countdistinct?".to_owned(),
        _ => {}
    }
    let percent = bare
        .strip_prefix("percentile")
        .or_else(|| bare.strip_prefix('p'));
    if percent.is_some_and(|p| p.parse::<u64>().is_ok()) {
        return "percentiles go from p1 to p99".to_owned();
    }
    match nearest(bare, NAMES) {
        Some(name) => format!("did you mean {name}?"),
        None => {
            "the methods are sum, min, max, average, countdistinct, median, p1 to p99".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_and_without_the_namespace() {
        for (text, expected) in [
            ("sum", Some(Method::Sum)),
            ("AVERAGE", Some(Method::Average)),
            ("Relist.median", Some(Method::Percentile(50))),
            ("median", Some(Method::Percentile(50))),
            ("p90", Some(Method::Percentile(90))),
            ("Relist.percentile5", Some(Method::Percentile(5))),
            ("Relist.sum", None),
            ("p0", None),
            ("p100", None),
            ("p05", None),
            ("p+5", None),
            ("percentile", None),
        ] {
            assert_eq!(Method::named(text), expected, "{text}");
            if let Some(method) = expected {
                assert_eq!(Method::named(&method.to_string()), expected, "{text}");
            }
        }
        assert_eq!(hint_for("avg"), "did you mean average?");
        assert_eq!(hint_for("p100"), "percentiles go from p1 to p99");
        assert_eq!(hint_for("medain"), "did you mean median?");
    }
}
