//! What becomes of a medium when its feed speaks of it again.

use super::read::unsigned;
use crate::store::{HeldFile, MediaEntry, MediaItem, MediaState};

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
        };
    };
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
    use crate::value::Timestamp;

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
        }
    }

    #[test]
    fn only_what_changed_is_wanted_again() {
        let state = |before: MediaItem, now: MediaItem| merged(Some(have(before)), now, &[]).state;
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
        let taken = merged(None, item("new", "https://x/a?sig=2", Some(1)), &held);
        assert_eq!(taken.state, MediaState::Have);
        let edited = merged(None, item("new", "https://x/a?sig=2", Some(2)), &held);
        assert_eq!(edited.state, MediaState::Wanted);
        let other = merged(None, item("new", "https://x/b", Some(1)), &held);
        assert_eq!((other.state, other.held), (MediaState::Wanted, None));
    }

    #[test]
    fn a_parked_url_waits_for_another() {
        let mut parked = have(item("k", "https://x/a", Some(1)));
        parked.held = None;
        parked.state = MediaState::Parked;
        parked.strikes = STRIKES;
        let same = merged(Some(parked.clone()), item("k", "https://x/a", Some(1)), &[]);
        assert_eq!((same.state, same.strikes), (MediaState::Parked, STRIKES));
        let anew = item("k", "https://x/a?sig=2", Some(1));
        let anew = merged(Some(parked.clone()), anew, &[]);
        assert_eq!(
            (anew.state, anew.strikes),
            (MediaState::Wanted, STRIKES - 1)
        );
        for other in [
            item("k", "https://x/b", Some(1)),
            item("k", "https://x/a", Some(2)),
        ] {
            let other = merged(Some(parked.clone()), other, &[]);
            assert_eq!((other.state, other.strikes), (MediaState::Wanted, 0));
        }
    }
}
