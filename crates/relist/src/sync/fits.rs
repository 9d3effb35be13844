//! Whether a page answers what was asked.
//!
//! A cache on the way, or a server that confuses its answers, gives pages that are whole in
//! themselves and belong to other requests. Applied, such a page would stand for the records that
//! should have come. So a page must show that it can be the answer: it lies within the keys asked
//! for, in their order; it has more than keys and stamps, where more was asked for; its records
//! are not stamped long before the bound (that is seen when it is applied, see [`EARLY_SECONDS`]).
//! What still fits by chance is found by the count.

use super::policy::Policy;
use crate::decode::SplitPage;
use crate::keycode::Key;
use crate::value::Timestamp;

/// So much earlier than asked for may a record be stamped: servers read stamps without a zone, and
/// bounds of a day, in their own ways.
pub(super) const EARLY_SECONDS: i64 = 86_400;

/// Integer keys that the records of a page lie between, and whether they come in their order.
/// Strings are ordered by the server's own rules: nothing is said of them.
#[derive(Debug, Default)]
pub(super) struct KeyBounds<'a> {
    pub(super) after: Option<&'a Key>,
    pub(super) until: Option<&'a Key>,
}

impl KeyBounds<'_> {
    /// What is wrong with the keys of a page that was asked for within these bounds, in order.
    pub(super) fn misfit(&self, page: &SplitPage) -> Option<&'static str> {
        let int = |key: &Key| match key {
            Key::Int(key) => Some(*key),
            Key::Str(_) => None,
        };
        let mut previous = self.after.and_then(int);
        let until = self.until.and_then(int);
        let keys = page.entities.iter().filter_map(|e| e.key.as_ref().ok());
        for (at, key) in keys.filter_map(int).enumerate() {
            // Behind the key asked for; a page that gives a key twice is settled elsewhere.
            let behind = previous.is_some_and(|previous| match at {
                0 => key <= previous,
                _ => key < previous,
            });
            if behind {
                return Some(
                    "the page does not lie behind the key asked for, in order of keys: the server \
                     ignores $filter or $orderby; use a nextLink walk",
                );
            }
            if until.is_some_and(|until| key > until) {
                return Some("the page goes beyond the last key asked for");
            }
            previous = Some(key);
        }
        None
    }
}

/// What is wrong with a page that has less of each record than was asked for.
pub(super) fn too_little(page: &SplitPage, policy: &Policy) -> Option<&'static str> {
    let spec = &page.key_spec;
    let keys = [Some(spec.field.as_str()), spec.twin.as_deref()];
    let stamp = policy.cursor_field.as_deref();
    let is_more = |field: &str| !keys.contains(&Some(field)) && stamp != Some(field);
    if let Some(asked) = policy.select.as_deref()
        && !asked.split(',').any(|field| is_more(field.trim()))
    {
        return None;
    }
    // Where the page says itself that fields were selected, a stamp is not much either.
    let little = keys.into_iter().chain([stamp.filter(|_| page.partial)]);
    let little: Vec<&str> = little.flatten().collect();
    page.holds_only(&little).then_some(
        "the records of the page have keys only, and whole records were asked for: it is the \
         answer to another request",
    )
}

/// The earliest stamp that a record of a walk can have.
pub(super) fn earliest(policy: &Policy, since: Timestamp) -> Timestamp {
    let unit = 10_i64.pow(6_u32.saturating_sub(u32::from(policy.fraction_digits)));
    Timestamp(since.0 - since.0.rem_euclid(unit) - EARLY_SECONDS * 1_000_000)
}
