//! The market: listings, members, offices, photos and open houses, and a clock.

pub mod truth;
mod log;
mod rows;
mod events;
mod days;

use std::collections::{BTreeSet, VecDeque};

use relist::schema::Schema;

use crate::fields::{self, PropertyView, View};
use crate::home::{Home, asking};
use crate::lookups::LOOKUPS;
use crate::places::place_lookups;
use crate::rng::{Rng, roll};
use crate::state::{Deleted, Listing, Member, Office, OpenHouse, Status};
use crate::text::{DAY, Seconds};
use days::Scheduled;
pub use events::Event;
use truth::Change;

/// The first day: 2026-03-02.
const FIRST_DAY: u32 = 20_514;

/// How many rows a market starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Rows of Property.
    pub listings: u32,
    /// Rows of Member, at least 1.
    pub members: u32,
    /// Rows of Office, at least 1.
    pub offices: u32,
}

impl Size {
    /// That many listings, with about one member for 20 of them and one office for 12 members.
    pub fn listings(listings: u32) -> Self {
        let members = (listings / 20).max(12);
        Size {
            listings,
            members,
            offices: (members / 12).max(2),
        }
    }
}

/// What goes on in a market. Rates are rows of every million a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conduct {
    /// Rows that are deleted and stand in `Deleted`.
    pub deletions: u32,
    /// Rows that vanish, and nothing says so: only a comparison of all keys finds them.
    pub vanishings: u32,
    /// Edits that do not move `ModificationTimestamp`: only a full comparison finds them.
    pub unstamped_edits: u32,
    /// Photo changes, of active listings: they move `PhotosChangeTimestamp` only.
    pub photo_changes: u32,
    /// Every so many days, one listing of eight is stamped anew within one second, and nothing
    /// else of it changes; 0 for never.
    pub restamp_every: u32,
}

impl Default for Conduct {
    /// A feed that signals all it does: nothing vanishes and every edit moves a stamp.
    fn default() -> Self {
        Conduct {
            deletions: 300,
            vanishings: 0,
            unstamped_edits: 0,
            photo_changes: 4_000,
            restamp_every: 10,
        }
    }
}

/// A market: its rows, its clock, and its memory of what it did.
#[derive(Debug)]
pub struct Market {
    seed: u64,
    conduct: Conduct,
    schema: Schema,
    now: Seconds,
    /// The next day to plan.
    next_day: u32,
    /// What is yet to happen of the days planned, in order.
    scheduled: VecDeque<Scheduled>,
    /// In the order of their keys.
    listings: Vec<Listing>,
    members: Vec<Member>,
    offices: Vec<Office>,
    open_houses: Vec<OpenHouse>,
    deleted: Vec<Deleted>,
    /// The listings that are served, by ModificationTimestamp.
    by_modified: BTreeSet<(Seconds, u32)>,
    /// The listings that are served, by PhotosChangeTimestamp.
    by_photos: BTreeSet<(Seconds, u32)>,
    truth: Vec<Change>,
    /// Changes before those of `truth`, which were forgotten.
    forgotten: usize,
}

/// The resources, by their place in the schema.
pub(crate) mod resource {
    pub(crate) const PROPERTY: usize = 0;
    pub(crate) const MEMBER: usize = 1;
    pub(crate) const OFFICE: usize = 2;
    pub(crate) const OPEN_HOUSE: usize = 3;
    pub(crate) const MEDIA: usize = 4;
    pub(crate) const DELETED: usize = 5;
}

/// The schema of every market.
pub(crate) fn schema() -> Schema {
    use fields::{DELETED, MEDIA, MEMBER, OFFICE, OPEN_HOUSE, PROPERTY};
    let mut deleted = fields::resource("Deleted", "primary_key", DELETED, &[]);
    // As in WFRMLS: it answers, but stands neither in $metadata nor in the service document.
    deleted.declared = false;
    let mut enums: Vec<_> = LOOKUPS.iter().map(|l| l.to_enum_type()).collect();
    enums.extend(place_lookups());
    let property = ["Media", "Member", "Office", "OpenHouse"];
    Schema {
        resources: vec![
            fields::resource("Property", "ListingKeyNumeric", PROPERTY, &property),
            fields::resource(
                "Member",
                "MemberKeyNumeric",
                MEMBER,
                &["Property", "Office"],
            ),
            fields::resource(
                "Office",
                "OfficeKeyNumeric",
                OFFICE,
                &["Property", "Member"],
            ),
            fields::resource(
                "OpenHouse",
                "OpenHouseKeyNumeric",
                OPEN_HOUSE,
                &["Property"],
            ),
            fields::resource("Media", "MediaKey", MEDIA, &["Property"]),
            deleted,
        ],
        enums,
    }
}

impl Market {
    /// A market that signals all it does; see [`Conduct`].
    pub fn new(seed: u64, size: Size) -> Self {
        Market::with_conduct(seed, size, Conduct::default())
    }

    /// A market of the given conduct. The same arguments give the same market, byte for byte.
    pub fn with_conduct(seed: u64, size: Size, conduct: Conduct) -> Self {
        let now = FIRST_DAY * DAY;
        let offices = (0..size.offices.max(1)).map(|at| first_office(seed, at, now));
        let members = (0..size.members.max(1)).map(|at| first_member(seed, at, size, now));
        let mut market = Market {
            seed,
            conduct,
            schema: schema(),
            now,
            next_day: FIRST_DAY,
            scheduled: VecDeque::new(),
            listings: Vec::with_capacity(size.listings as usize),
            members: members.collect(),
            offices: offices.collect(),
            open_houses: Vec::new(),
            deleted: Vec::new(),
            by_modified: BTreeSet::new(),
            by_photos: BTreeSet::new(),
            truth: Vec::new(),
            forgotten: 0,
        };
        let mut key = 1_000_000;
        for slot in 0..size.listings {
            let mut rng = Rng::new(seed, 3_000_000_000 + u64::from(slot));
            key += 1 + rng.below(3);
            market.listings.push(Market::first_listing(key, &mut rng));
        }
        let slots = || market.listings.iter().zip(0_u32..);
        market.by_modified = slots().map(|(l, slot)| (l.modified, slot)).collect();
        market.by_photos = slots().map(|(l, slot)| (l.photos_changed, slot)).collect();
        market
    }

    /// The market's clock: seconds since 1970-01-01T00:00:00Z.
    pub fn now(&self) -> Seconds {
        self.now
    }

    /// The keys of the listings that are served, in order.
    pub fn keys(&self) -> impl Iterator<Item = u32> + '_ {
        self.listings.iter().filter(|l| l.alive).map(|l| l.key)
    }

    /// The keys of the listings of that status that are served, in order.
    pub fn keys_of(&self, status: Status) -> impl Iterator<Item = u32> + '_ {
        self.listings
            .iter()
            .filter(move |l| l.alive && l.status == status)
            .map(|l| l.key)
    }

    /// The record of a listing as JSON, when it is served.
    pub fn record(&self, key: u32) -> Option<String> {
        let listing = self.listing(self.slot_of(key)?).filter(|l| l.alive)?;
        Some(record(&View::Property(self.view(listing))))
    }

    /// Where a listing stands, when it is served.
    pub fn status_of(&self, key: u32) -> Option<Status> {
        let listing = self.listing(self.slot_of(key)?)?;
        listing.alive.then_some(listing.status)
    }

    /// The body of an OData page of the listings at these places, counted from 0 in the order of
    /// their keys.
    pub fn property_page(&self, places: std::ops::Range<usize>) -> Vec<u8> {
        let rows = self.listings.iter().filter(|l| l.alive);
        self.page_of(
            &mut rows.skip(places.start).take(places.len()),
            places.len(),
        )
    }

    /// The bodies of OData pages of so many listings (at least 1), in the order of their keys;
    /// each is made when it is asked for.
    pub fn property_pages(&self, size: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.pages(self.listings.iter().filter(|l| l.alive), size)
    }

    /// As [`property_pages`](Self::property_pages), of the listings with these keys that are
    /// served, in the order of `keys`.
    pub fn property_pages_of<'a>(
        &'a self,
        keys: &'a [u32],
        size: usize,
    ) -> impl Iterator<Item = Vec<u8>> + 'a {
        let found = keys
            .iter()
            .filter_map(|key| self.listing(self.slot_of(*key)?).filter(|l| l.alive));
        self.pages(found, size)
    }

    fn pages<'a>(
        &'a self,
        rows: impl Iterator<Item = &'a Listing> + 'a,
        size: usize,
    ) -> impl Iterator<Item = Vec<u8>> + 'a {
        let size = size.max(1);
        let mut rows = rows.peekable();
        std::iter::from_fn(move || {
            rows.peek()?;
            Some(self.page_of(&mut rows.by_ref().take(size), size))
        })
    }

    fn page_of<'a>(&'a self, rows: &mut dyn Iterator<Item = &'a Listing>, size: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + size * 5_000);
        out.extend_from_slice(b"{\"@odata.context\":\"$metadata#Property\",\"value\":[");
        for (at, listing) in rows.enumerate() {
            out.extend_from_slice(if at > 0 { b",{" } else { b"{" });
            View::Property(self.view(listing)).write_all(&mut out);
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
        out
    }

    /// Moves the clock and lets nothing happen.
    pub(crate) fn pass(&mut self, seconds: Seconds) {
        self.now += seconds;
    }

    /// How many changes the market made so far: a place to ask [`truth_since`](Self::truth_since)
    /// from.
    pub fn truth_len(&self) -> usize {
        self.forgotten + self.truth.len()
    }

    /// The changes made since the market had made that many, in their order. What it started with
    /// is no change.
    pub fn truth_since(&self, place: usize) -> &[Change] {
        let place = place.saturating_sub(self.forgotten);
        self.truth.get(place..).unwrap_or_default()
    }

    /// Forgets the changes made so far, which are most of a large market's memory. Places stay
    /// what they are, and so does all that happens from here on.
    pub fn forget_truth(&mut self) {
        self.forgotten += self.truth.len();
        self.truth = Vec::new();
    }

    fn listing(&self, slot: u32) -> Option<&Listing> {
        self.listings.get(slot as usize)
    }

    fn slot_of(&self, key: u32) -> Option<u32> {
        let at = self.listings.binary_search_by_key(&key, |l| l.key).ok()?;
        u32::try_from(at).ok()
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "members and offices are never empty and never removed; the places are reduced"
    )]
    fn person(&self, place: u32) -> (&Member, &Office) {
        let member = &self.members[place as usize % self.members.len()];
        (
            member,
            &self.offices[member.office as usize % self.offices.len()],
        )
    }

    fn view<'a>(&'a self, listing: &'a Listing) -> PropertyView<'a> {
        PropertyView {
            listing,
            home: Home::new(listing.home),
            agent: self.person(listing.agent),
            buyer_agent: listing.buyer_agent.map(|place| self.person(place)),
        }
    }

    /// A listing that was there before the first day.
    fn first_listing(key: u32, rng: &mut Rng) -> Listing {
        let status = match rng.below(100) {
            0..46 => Status::Active,
            46..51 => Status::ActiveUnderContract,
            51..61 => Status::Pending,
            61..91 => Status::Closed,
            91..94 => Status::Withdrawn,
            94..98 => Status::Expired,
            _ => Status::Canceled,
        };
        let age = match status {
            Status::Active => 1 + rng.below(110),
            Status::ActiveUnderContract | Status::Pending => 12 + rng.below(100),
            _ => 90 + rng.below(900),
        };
        let mut listing = Market::fresh(key, rng.next(), FIRST_DAY - age, rng);
        let last = age.min(75);
        let off = listing.listed + 5 + rng.below(last.saturating_sub(8));
        let moment = |rng: &mut Rng, day: u32| day * DAY + 50_000 + rng.below(34_000);
        listing.status = status;
        if status != Status::Active {
            listing.status_changed = moment(rng, off);
            listing.off_market = off;
        }
        if matches!(status, Status::ActiveUnderContract) {
            listing.off_market = 0;
        }
        if matches!(
            status,
            Status::Pending | Status::ActiveUnderContract | Status::Closed
        ) {
            listing.contract = off;
        }
        if status == Status::Closed {
            listing.closed = (off + 28 + rng.below(20)).min(FIRST_DAY - 1);
            listing.status_changed = moment(rng, listing.closed);
            listing.close_price = listing.list_price / 1_000 * (960 + rng.below(61));
            listing.buyer_agent = Some(rng.below(u32::MAX));
        }
        if rng.chance(350_000) {
            listing.list_price = asking(listing.list_price / 100 * (93 + rng.below(6)));
            let changed = (listing.listed + rng.below(5)).min(FIRST_DAY - 1);
            listing.price_changed = moment(rng, changed);
        }
        listing.modified = listing
            .status_changed
            .max(listing.price_changed)
            .max(listing.entered);
        // A conversion of the whole system once stamped many rows within a second.
        let conversion = (FIRST_DAY - 40) * DAY + 30_600;
        if listing.modified < conversion && rng.chance(600_000) {
            listing.modified = conversion;
        }
        listing
    }

    /// A listing as it is entered on a day.
    fn fresh(key: u32, home: u64, day: u32, rng: &mut Rng) -> Listing {
        let entered = day * DAY + 50_000 + rng.below(34_000);
        let value = Home::new(home).value;
        let price = asking(value / 100 * (98 + rng.below(8)));
        Listing {
            key,
            alive: true,
            home,
            agent: rng.below(u32::MAX),
            buyer_agent: None,
            status: Status::Active,
            list_price: price,
            original_price: price,
            close_price: 0,
            entered,
            modified: entered,
            photos_changed: entered,
            price_changed: 0,
            status_changed: entered,
            listed: day,
            expires: day + 120 + rng.below(60),
            contract: 0,
            closed: 0,
            off_market: 0,
            days_before: 0,
            remarks: 0,
            directions: 0,
            features: 0,
            tax: 0,
            photos: None,
        }
    }
}

/// A row's JSON object.
fn record(view: &View<'_>) -> String {
    let mut out = vec![b'{'];
    view.write_all(&mut out);
    out.push(b'}');
    String::from_utf8(out).unwrap_or_default()
}

fn first_office(seed: u64, at: u32, now: Seconds) -> Office {
    let mut rng = Rng::new(seed, 1_000_000_000 + u64::from(at));
    let entered = now - DAY * (200 + rng.below(2_000)) + rng.below(DAY);
    Office {
        key: 40_000 + 2 * at + rng.below(2),
        seed: roll(seed, 1_500_000_000 + u64::from(at)),
        modified: entered,
        entered,
    }
}

fn first_member(seed: u64, at: u32, size: Size, now: Seconds) -> Member {
    let mut rng = Rng::new(seed, 2_000_000_000 + u64::from(at));
    let entered = now - DAY * (100 + rng.below(2_000)) + rng.below(DAY);
    Member {
        key: 60_000 + 3 * at + rng.below(3),
        seed: roll(seed, 2_500_000_000 + u64::from(at)),
        office: rng.below(size.offices.max(1)),
        modified: entered + rng.below(90 * DAY),
        entered,
        phone: 0,
        active: !rng.chance(40_000),
    }
}
