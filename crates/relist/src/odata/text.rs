//! Making errors that point at a place in a query option, and guessing what was meant.

use super::ast::Span;
use crate::error::QueryError;

/// A query option: its name and its text, from which errors are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct OptionText<'t> {
    pub(super) name: &'static str,
    pub(super) text: &'t str,
}

impl<'t> OptionText<'t> {
    /// The text at a place.
    pub(super) fn at(&self, span: Span) -> &'t str {
        self.text
            .get(span.offset..span.offset + span.len)
            .unwrap_or_default()
    }

    /// An error at a place, without a hint.
    pub(super) fn error(&self, span: Span, message: impl Into<String>) -> QueryError {
        QueryError {
            option: self.name,
            text: self.text.to_owned(),
            offset: span.offset,
            len: span.len,
            message: message.into(),
            hint: None,
        }
    }

    /// An error at a place, with a hint where there is one.
    pub(super) fn hinted(
        &self,
        span: Span,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> QueryError {
        QueryError {
            hint,
            ..self.error(span, message)
        }
    }
}

/// `did you mean X?` for the candidate nearest to `wrong`, when one is near.
pub(super) fn did_you_mean<'c>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<String> {
    nearest(wrong, candidates).map(|name| format!("did you mean {name}?"))
}

/// The candidate with the least edit distance, when that is at most a third of its length (case
/// counts a little), or else one that contains the word or is contained in it.
pub(super) fn nearest<'c>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let lower = wrong.to_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let known = candidate.to_lowercase();
        let longest = lower.chars().count().max(known.chars().count());
        let mut cost = 2 * edit_distance(&lower, &known) + usize::from(candidate != wrong);
        let allowed = (longest / 3).max(1).min(longest.saturating_sub(1));
        if cost > 2 * allowed + 1 {
            let related = lower.len() >= 4
                && known.len() >= 4
                && (known.contains(&lower) || lower.contains(&known));
            if !related {
                continue;
            }
            // A related name is a weaker guess than any near one.
            cost += 1_000;
        }
        if best.is_none_or(|(least, _)| cost < least) {
            best = Some((cost, candidate));
        }
    }
    best.map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours that make `a` into `b`.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut previous_char = None;
    for (i, from) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for (j, to) in b.iter().enumerate() {
            let cell = |r: &[usize], at: usize| r.get(at).copied().unwrap_or(usize::MAX / 2);
            let replaced = cell(&row, j) + usize::from(from != *to);
            let mut least = replaced.min(cell(&row, j + 1) + 1).min(cell(&next, j) + 1);
            let before_char = j.checked_sub(1).and_then(|at| b.get(at)).copied();
            if before_char == Some(from) && previous_char == Some(*to) {
                least = least.min(cell(&before, j.saturating_sub(1)) + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
        previous_char = Some(from);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "abc", 3),
            ("abc", "", 3),
            ("listprice", "listprice", 0),
            ("listprise", "listprice", 1),
            ("lsitprice", "listprice", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edit_distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_name() {
        let names = ["ListPrice", "ListPriceLow", "City", "UnparsedAddress"];
        for (wrong, expected) in [
            ("ListPrise", Some("ListPrice")),
            ("listprice", Some("ListPrice")),
            ("PropertyCity", Some("City")),
            ("Zzz", None),
            ("Parsed", Some("UnparsedAddress")),
        ] {
            assert_eq!(nearest(wrong, names), expected, "{wrong}");
        }
    }
}
