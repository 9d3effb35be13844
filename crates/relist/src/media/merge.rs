//! What becomes of a medium when its feed speaks of it again.

use super::read::unsigned;
use crate::store::{HeldFile, MediaEntry, MediaItem, MediaState};
use crate::value::Timestamp;

/// How often a URL may fail.
pub(super) const STRIKES: u32 = 3;

/// The entry of an item, given what was known of it and of the other media of its record.
///
/// A file is fetched again when its stamp moved; where there are no stamps, when its URL did,
/// signatures aside. An item under a new key that another one's file already holds (same URL, same
/// stamp) takes that file over: some feeds give all photos new keys now and then.
pub(super) fn merged(
    before: Option<MediaEntry>,
    item: MediaItem,
    listed: Option<Timestamp>,
    siblings: &[MediaEntry],
) -> MediaEntry {
    let Some(before) = before else {
        let held = siblings
            .iter()
            .filter_map(|other| other.held.as_ref())
            .find(|held| is_same(held, &item))
            .cloned();
        return MediaEntry {
            state: if held.is_some() {
                MediaState::Have
            } else {
                MediaState::Wanted
            },
            item,
            strikes: 0,
            error: None,
            held,
            listed,
        };
    };
    // The same URL from an older page is as good as when it was given out last.
    let same_url = before.item.url == item.url;
    let listed = listed.max(before.listed.filter(|_| same_url));
    let current = before.held.as_ref().is_some_and(|h| is_current(h, &item));
    let moved =
        unsigned(&before.item.url) != unsigned(&item.url) || before.item.modified != item.modified;
    // A new signature is worth one more try, no more: some feeds sign anew with every answer.
    let signed_anew = before.item.url != item.url && before.state == MediaState::Parked;
    let state = match before.state {
        _ if current => MediaState::Have,
        MediaState::Parked if !moved && !signed_anew => MediaState::Parked,
        _ => MediaState::Wanted,
    };
    let strikes = match (current || moved, signed_anew) {
        (true, _) => 0,
        (false, true) => STRIKES - 1,
        (false, false) => before.strikes,
    };
    MediaEntry {
        state,
        strikes,
        error: before.error.filter(|_| strikes > 0),
        held: before.held,
        item,
        listed,
    }
}

/// Whether a file is still what the item of the same key says.
fn is_current(held: &HeldFile, item: &MediaItem) -> bool {
    match (held.modified, item.modified) {
        (Some(held), Some(now)) => held == now,
        _ => unsigned(&held.url) == unsigned(&item.url),
    }
}

/// Whether the file of another key is this item's too.
fn is_same(held: &HeldFile, item: &MediaItem) -> bool {
    unsigned(&held.url) == unsigned(&item.url)
        && (held.modified == item.modified || item.modified.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keycode::Key;
    use crate::store::MediaKind;

    fn item(key: &str, url: &str, modified: Option<i64>) -> MediaItem {
        MediaItem {
            resource: "Property".into(),
            record_key: Key::Int(1),
            media_key: key.into(),
            order: None,
            url: url.into(),
            category: None,
            mime_type: None,
            modified: modified.map(Timestamp),
        }
    }

    fn have(item: MediaItem) -> MediaEntry {
        MediaEntry {
            state: MediaState::Have,
            strikes: 0,
            error: None,
            held: Some(HeldFile {
                content: 1,
                kind: MediaKind::Jpeg,
                bytes: 1,
                fetched: Timestamp(0),
                url: item.url.clone(),
                etag: None,
                modified: item.modified,
            }),
            item,
            listed: None,
        }
    }

    #[test]
    fn only_what_changed_is_wanted_again() {
        let state =
            |before: MediaItem, now: MediaItem| merged(Some(have(before)), now, None, &[]).state;
        let (a, b) = ("https://x/a?sig=1", "https://x/b?sig=1");
        assert_eq!(
            state(item("k", a, Some(1)), item("k", b, Some(1))),
            MediaState::Have
        );
        assert_eq!(
            state(item("k", a, Some(1)), item("k", a, Some(2))),
            MediaState::Wanted
        );
        assert_eq!(
            state(item("k", a, None), item("k", b, None)),
            MediaState::Wanted
        );
        let signed = item("k", "https://x/a?sig=2", None);
        assert_eq!(state(item("k", a, None), signed), MediaState::Have);
    }

    #[test]
    fn a_new_key_takes_over_the_file_of_the_old_one() {
        let held = [have(item("old", "https://x/a?sig=1", Some(1)))];
        let taken = merged(None, item("new", "https://x/a?sig=2", Some(1)), None, &held);
        assert_eq!(taken.state, MediaState::Have);
        let edited = merged(None, item("new", "https://x/a?sig=2", Some(2)), None, &held);
        assert_eq!(edited.state, MediaState::Wanted);
        let other = merged(None, item("new", "https://x/b", Some(1)), None, &held);
        assert_eq!((other.state, other.held), (MediaState::Wanted, None));
    }

    #[test]
    fn a_url_is_as_young_as_its_last_listing() {
        let at = |before: Option<i64>, url: &str, now: Option<i64>| {
            let mut before_entry = have(item("k", "https://x/a", Some(1)));
            before_entry.listed = before.map(Timestamp);
            let now = now.map(Timestamp);
            let merged = merged(Some(before_entry), item("k", url, Some(1)), now, &[]);
            merged.listed.map(|at| at.0)
        };
        assert_eq!(at(Some(5), "https://x/a", Some(3)), Some(5));
        assert_eq!(at(Some(5), "https://x/a", Some(7)), Some(7));
        assert_eq!(at(Some(5), "https://x/b", Some(3)), Some(3));
        assert_eq!(at(Some(5), "https://x/b", None), None);
    }

    #[test]
    fn a_parked_url_waits_for_another() {
        let mut parked = have(item("k", "https://x/a", Some(1)));
        parked.held = None;
        parked.state = MediaState::Parked;
        parked.strikes = STRIKES;
        let same = merged(
            Some(parked.clone()),
            item("k", "https://x/a", Some(1)),
            None,
            &[],
        );
        assert_eq!((same.state, same.strikes), (MediaState::Parked, STRIKES));
        let anew = item("k", "https://x/a?sig=2", Some(1));
        let anew = merged(Some(parked.clone()), anew, None, &[]);
        assert_eq!(
            (anew.state, anew.strikes),
            (MediaState::Wanted, STRIKES - 1)
        );
        for other in [
            item("k", "https://x/b", Some(1)),
            item("k", "https://x/a", Some(2)),
        ] {
            let other = merged(Some(parked.clone()), other, None, &[]);
            assert_eq!((other.state, other.strikes), (MediaState::Wanted, 0));
        }
    }
}
