//! The fields of Media, OpenHouse and the Deleted log.

use super::{
    Kind::{Date, Int, Many, One, Str, Timestamp},
    columns, date, day_of, int, int_str,
    listing::{SYSTEM, SYSTEM_ID},
    null, people, quoted, str, timestamp,
};
use crate::rng::{below, mix};
use crate::state::{Deleted, Listing, Member, OpenHouse, OpenHouseStatus, Photo};
use crate::text;

/// A photo of a listing.
pub(crate) struct MediaView<'a> {
    pub(crate) listing: &'a Listing,
    pub(crate) land: bool,
    pub(crate) photo: Photo,
    /// From 1.
    pub(crate) order: u32,
}

/// An open house with its listing.
pub(crate) struct OpenHouseView<'a> {
    pub(crate) open_house: &'a OpenHouse,
    pub(crate) listing: &'a Listing,
    pub(crate) agent: &'a Member,
}

/// Appends a photo's key: `1611952_050774e9ef920b479d8e37ff459daf14_2880536.jpg`.
///
/// The keys of one listing sort as the hashes in them do.
pub(crate) fn media_key(out: &mut Vec<u8>, listing: u32, photo: u64) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    int(out, listing);
    out.push(b'_');
    for word in [photo, mix(photo)] {
        for shift in (0..16).rev() {
            let nibble = usize::try_from(word >> (shift * 4) & 15).unwrap_or(0);
            out.push(HEX.get(nibble).copied().unwrap_or(b'0'));
        }
    }
    out.push(b'_');
    int(out, 1_000_000 + below(mix(photo ^ 1), 9_000_000));
    out.extend_from_slice(b".jpg");
}

impl MediaView<'_> {
    fn key(&self, out: &mut Vec<u8>) {
        media_key(out, self.listing.key, self.photo.seed);
    }

    fn caption(&self) -> &'static str {
        const ROOMS: [&str; 8] = [
            "Front",
            "Living room",
            "Kitchen",
            "Primary suite",
            "Bath",
            "Back yard",
            "View",
            "",
        ];
        let at = self.order.saturating_sub(1) as usize;
        if self.land {
            ""
        } else {
            ROOMS.get(at).copied().unwrap_or_default()
        }
    }
}

columns! {
    /// Media, in the order of its JSON.
    MEDIA of MediaView:
    "Order" Int, |v, o| int(o, v.order);
    "ResourceRecordKeyNumeric" Int, |v, o| int(o, v.listing.key);
    "ResourceRecordID" Str, |v, o| int_str(o, v.listing.key);
    "ResourceRecordKey" Str, |v, o| int_str(o, v.listing.key);
    "LongDescription" Str, |_, o| null(o);
    "MediaKey" Str, |v, o| quoted(o, |o| v.key(o));
    "MediaObjectID" Str, |v, o| int_str(o, v.order);
    "MediaURL" Str, |v, o| quoted(o, |o| {
        text::escaped(o, "https://assets.example.com/photos/640x480/");
        v.key(o);
    });
    "OriginatingSystemName" Str, |_, o| str(o, SYSTEM);
    "ShortDescription" Str, |v, o| str(o, v.caption());
    "MediaModificationTimestamp" Timestamp, |v, o| timestamp(o, v.photo.modified);
    "ModificationTimestamp" Timestamp, |v, o| timestamp(o, v.photo.modified);
    "ClassName" One("PropertyType"), |v, o| str(o, if v.land { "Land" } else { "Residential" });
    "ImageSizeDescription" One("ImageSizeDescription"), |_, o| str(o, "Large");
    "MediaCategory" One("MediaCategory"), |_, o| str(o, "Photo");
    "MediaType" One("MediaType"), |_, o| str(o, "Jpeg");
    "ResourceName" One("ResourceName"), |_, o| str(o, "Property");
    "Permission" Many("Permission"), |_, o| str(o, "Public");
}

columns! {
    /// OpenHouse, in the order of its JSON.
    OPEN_HOUSE of OpenHouseView:
    "OpenHouseKeyNumeric" Int, |v, o| int(o, v.open_house.key);
    "ListingKeyNumeric" Int, |v, o| int(o, v.listing.key);
    "ShowingAgentKeyNumeric" Int, |v, o| int(o, v.agent.key);
    "ListingId" Str, |v, o| int_str(o, v.listing.key);
    "ListingKey" Str, |v, o| int_str(o, v.listing.key);
    "OpenHouseId" Str, |v, o| int_str(o, v.open_house.key);
    "OpenHouseKey" Str, |v, o| int_str(o, v.open_house.key);
    "OriginatingSystemID" Str, |_, o| str(o, SYSTEM_ID);
    "OriginatingSystemName" Str, |_, o| str(o, SYSTEM);
    "ShowingAgentFirstName" Str, |v, o| str(o, people::first_name(v.agent.seed));
    "ShowingAgentKey" Str, |v, o| int_str(o, v.agent.key);
    "ShowingAgentLastName" Str, |v, o| str(o, people::last_name(v.agent.seed));
    "OpenHouseDate" Date, |v, o| date(o, day_of(v.open_house.start));
    "ModificationTimestamp" Timestamp, |v, o| timestamp(o, v.open_house.modified);
    "OpenHouseEndTime" Timestamp, |v, o| timestamp(o, v.open_house.end);
    "OpenHouseStartTime" Timestamp, |v, o| timestamp(o, v.open_house.start);
    "OriginalEntryTimestamp" Timestamp, |v, o| timestamp(o, v.open_house.entered);
    "OpenHouseAttendedBy" One("Attended"), |_, o| str(o, "Agent");
    "OpenHouseStatus" One("OpenHouseStatus"), |v, o| str(o, match v.open_house.status {
        OpenHouseStatus::Active => "Active",
        OpenHouseStatus::Ended => "Ended",
        OpenHouseStatus::Canceled => "Canceled",
    });
    "OpenHouseType" One("OpenHouseType"), |v, o|
        str(o, if v.open_house.key.is_multiple_of(5) { "" } else { "Public" });
}

/// A row of the Deleted log.
pub(crate) struct DeletedView<'a>(pub(crate) &'a Deleted);

columns! {
    /// The log of deletions, in the order of its JSON.
    DELETED of DeletedView:
    "resource" Str, |v, o| str(o, v.0.resource);
    "primary_key" Str, |v, o| str(o, &v.0.key);
    "ts" Timestamp, |v, o| timestamp(o, v.0.at);
}
