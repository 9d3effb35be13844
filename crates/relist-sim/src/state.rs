//! What the market knows of each row, kept small: all else follows from a home's seed.

use crate::rng::roll;
use crate::text::Seconds;

/// A day since 1970-01-01.
pub(crate) type Day = u32;

/// Where a listing stands: RESO's `StandardStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// For sale.
    Active,
    /// Under contract, and backup offers are taken.
    ActiveUnderContract,
    /// Under contract.
    Pending,
    /// Sold.
    Closed,
    /// Taken off the market for a while.
    Withdrawn,
    /// The listing agreement ran out.
    Expired,
    /// The listing agreement was ended.
    Canceled,
}

impl Status {
    /// The display name in the `StandardStatus` lookup.
    pub fn name(self) -> &'static str {
        match self {
            Status::Active => "Active",
            Status::ActiveUnderContract => "Active Under Contract",
            Status::Pending => "Pending",
            Status::Closed => "Closed",
            Status::Withdrawn => "Withdrawn",
            Status::Expired => "Expired",
            Status::Canceled => "Canceled",
        }
    }

    /// The display name in WFRMLS's own `MlsStatus` lookup.
    pub(crate) fn mls_name(self) -> &'static str {
        match self {
            Status::Active => "Active",
            Status::ActiveUnderContract => "Backup",
            Status::Pending => "Under Contract",
            Status::Closed => "Sold",
            Status::Withdrawn => "Withdrawn",
            Status::Expired => "Expired",
            Status::Canceled => "Canceled",
        }
    }

    /// Whether the home is for sale or under contract.
    pub fn is_on_market(self) -> bool {
        matches!(
            self,
            Status::Active | Status::ActiveUnderContract | Status::Pending
        )
    }
}

/// A listing.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    /// `ListingKeyNumeric`.
    pub(crate) key: u32,
    /// Whether the feed serves it.
    pub(crate) alive: bool,
    /// The home it is of: a relisting under a new key has the same.
    pub(crate) home: u64,
    /// The listing agent's place among the members.
    pub(crate) agent: u32,
    /// The buyer's agent's place among the members, once there is one.
    pub(crate) buyer_agent: Option<u32>,
    /// Where it stands.
    pub(crate) status: Status,
    /// Dollars.
    pub(crate) list_price: u32,
    /// Dollars.
    pub(crate) original_price: u32,
    /// Dollars; 0 before the sale.
    pub(crate) close_price: u32,
    /// `OriginalEntryTimestamp`.
    pub(crate) entered: Seconds,
    /// `ModificationTimestamp`.
    pub(crate) modified: Seconds,
    /// `PhotosChangeTimestamp`.
    pub(crate) photos_changed: Seconds,
    /// `PriceChangeTimestamp`; 0 before the first change.
    pub(crate) price_changed: Seconds,
    /// `StatusChangeTimestamp`.
    pub(crate) status_changed: Seconds,
    /// `ListingContractDate`.
    pub(crate) listed: Day,
    /// When the agreement ends.
    pub(crate) expires: Day,
    /// `PurchaseContractDate`; 0 when there is no contract.
    pub(crate) contract: Day,
    /// `CloseDate`; 0 before the sale.
    pub(crate) closed: Day,
    /// `OffMarketDate`; 0 while it is for sale.
    pub(crate) off_market: Day,
    /// Days on market of earlier listings of the home.
    pub(crate) days_before: u16,
    /// How often the remarks were edited.
    pub(crate) remarks: u16,
    /// How often the directions were edited.
    pub(crate) directions: u16,
    /// How often its features were edited.
    pub(crate) features: u16,
    /// How often the tax figure was corrected.
    pub(crate) tax: u16,
    /// The photos; [`None`] until they first change, for then they follow from the home.
    pub(crate) photos: Option<Vec<Photo>>,
}

/// A photo of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Photo {
    /// What its key is made of.
    pub(crate) seed: u64,
    /// When it was added or moved.
    pub(crate) modified: Seconds,
}

impl Listing {
    /// How many photos there are.
    pub(crate) fn photo_count(&self) -> u32 {
        match &self.photos {
            Some(photos) => u32::try_from(photos.len()).unwrap_or(0),
            None => self.first_photos(),
        }
    }

    fn first_photos(&self) -> u32 {
        4 + crate::rng::below(roll(self.home ^ u64::from(self.key), 20), 28)
    }

    /// The photo at that place of the gallery, counted from 0.
    pub(crate) fn photo(&self, place: usize) -> Option<Photo> {
        match &self.photos {
            Some(photos) => photos.get(place).copied(),
            None => (place < self.first_photos() as usize).then(|| Photo {
                seed: roll(self.home ^ u64::from(self.key), 1_000 + place as u64),
                modified: self.entered,
            }),
        }
    }

    /// The photos in their order.
    pub(crate) fn photos(&self) -> Vec<Photo> {
        (0..).map_while(|place| self.photo(place)).collect()
    }
}

/// A member: an agent.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// `MemberKeyNumeric`.
    pub(crate) key: u32,
    /// What name, phones and address follow from.
    pub(crate) seed: u64,
    /// The office's place among the offices.
    pub(crate) office: u32,
    /// `ModificationTimestamp`.
    pub(crate) modified: Seconds,
    /// `OriginalEntryTimestamp`.
    pub(crate) entered: Seconds,
    /// How often the mobile phone changed.
    pub(crate) phone: u16,
    /// Whether the licence is active.
    pub(crate) active: bool,
}

/// An office.
#[derive(Debug, Clone)]
pub(crate) struct Office {
    /// `OfficeKeyNumeric`.
    pub(crate) key: u32,
    /// What name, phones and address follow from.
    pub(crate) seed: u64,
    /// `ModificationTimestamp`.
    pub(crate) modified: Seconds,
    /// `OriginalEntryTimestamp`.
    pub(crate) entered: Seconds,
}

/// An open house.
#[derive(Debug, Clone)]
pub(crate) struct OpenHouse {
    /// `OpenHouseKeyNumeric`.
    pub(crate) key: u32,
    /// Whether the feed serves it.
    pub(crate) alive: bool,
    /// The listing's place among the listings.
    pub(crate) listing: u32,
    /// `OpenHouseStartTime`.
    pub(crate) start: Seconds,
    /// `OpenHouseEndTime`.
    pub(crate) end: Seconds,
    /// `OriginalEntryTimestamp`.
    pub(crate) entered: Seconds,
    /// `ModificationTimestamp`.
    pub(crate) modified: Seconds,
    /// Where it stands.
    pub(crate) status: OpenHouseStatus,
}

/// Where an open house stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenHouseStatus {
    /// To come.
    Active,
    /// Over.
    Ended,
    /// Called off.
    Canceled,
}

/// A row of the `Deleted` log.
#[derive(Debug, Clone)]
pub(crate) struct Deleted {
    /// The resource that lost a row.
    pub(crate) resource: &'static str,
    /// The key it had.
    pub(crate) key: String,
    /// When.
    pub(crate) at: Seconds,
}
