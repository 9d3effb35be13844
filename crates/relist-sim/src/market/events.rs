//! What can happen to a listing, one event at a time.

use super::truth::Signal;
use super::{Market, resource};
use crate::backend::RowId;
use crate::home::asking;
use crate::rng::{Rng, below, mix};
use crate::state::{Listing, OpenHouse, OpenHouseStatus, Photo, Status};
use crate::text::{DAY, Seconds};

/// Something that happens to a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The price falls by 1 to 6 of every 100.
    CutPrice,
    /// An offer is accepted, backups are welcome: Active -> Active Under Contract.
    AcceptOffer,
    /// Active or Active Under Contract -> Pending.
    GoPending,
    /// Active Under Contract or Pending -> Closed.
    Close,
    /// Under contract -> Active again.
    BackOnMarket,
    /// On the market -> Withdrawn.
    Withdraw,
    /// Active -> Expired.
    Expire,
    /// On the market -> Canceled.
    Cancel,
    /// Off the market unsold -> Active again under the same key, at a new price.
    Relist,
    /// The home is listed again under a new key; this listing stays as it is.
    RelistAsNew,
    /// The remarks are edited.
    EditRemarks,
    /// The directions are edited.
    EditDirections,
    /// The interior features are edited.
    EditFeatures,
    /// The tax figure is corrected, and no timestamp moves.
    CorrectTax,
    /// `ModificationTimestamp` moves and nothing else.
    Restamp,
    /// Photos are added, replaced or moved: only `PhotosChangeTimestamp` and `PhotosCount` move.
    ChangePhotos,
    /// An open house is announced.
    AnnounceOpenHouse,
    /// The row goes, and `Deleted` says so.
    Delete,
    /// The row goes, and nothing says so.
    Vanish,
    /// A row that is gone is there again under the same key.
    Return,
}

impl Event {
    fn allowed(self, listing: &Listing) -> bool {
        use Status as S;
        let status = listing.status;
        listing.alive != (self == Event::Return)
            && match self {
                Event::CutPrice => status.is_on_market() && listing.list_price > 60_000,
                Event::Withdraw | Event::Cancel => status.is_on_market(),
                Event::AcceptOffer | Event::Expire | Event::AnnounceOpenHouse => {
                    status == S::Active
                }
                Event::GoPending => matches!(status, S::Active | S::ActiveUnderContract),
                Event::Close | Event::BackOnMarket => {
                    matches!(status, S::ActiveUnderContract | S::Pending)
                }
                Event::Relist => matches!(status, S::Withdrawn | S::Expired | S::Canceled),
                Event::RelistAsNew => !status.is_on_market(),
                _ => true,
            }
    }

    fn signal(self) -> Signal {
        match self {
            Event::ChangePhotos => Signal::PhotosStamp,
            Event::CorrectTax | Event::Vanish => Signal::Silent,
            Event::Delete => Signal::DeletedLog,
            _ => Signal::Stamp,
        }
    }

    /// Changes the listing's state.
    fn apply(self, listing: &mut Listing, now: Seconds, hash: u64) {
        let today = now / DAY;
        let mut status = None;
        match self {
            Event::CutPrice => {
                let cut = listing.list_price / 100 * (1 + below(hash, 6));
                listing.list_price = asking(listing.list_price - cut.max(1_000));
                listing.price_changed = now;
            }
            Event::AcceptOffer => {
                status = Some(Status::ActiveUnderContract);
                listing.contract = today;
            }
            Event::GoPending => {
                status = Some(Status::Pending);
                listing.contract = if listing.contract == 0 {
                    today
                } else {
                    listing.contract
                };
                listing.off_market = today;
            }
            Event::Close => {
                status = Some(Status::Closed);
                listing.closed = today;
                let off = listing.off_market;
                listing.off_market = if off == 0 { today } else { off };
                listing.close_price = listing.list_price / 1_000 * (960 + below(hash, 61));
                listing.buyer_agent = Some(below(mix(hash), u32::MAX));
            }
            Event::BackOnMarket => {
                status = Some(Status::Active);
                listing.contract = 0;
                listing.off_market = 0;
            }
            Event::Withdraw | Event::Expire | Event::Cancel => {
                status = Some(match self {
                    Event::Withdraw => Status::Withdrawn,
                    Event::Expire => Status::Expired,
                    _ => Status::Canceled,
                });
                listing.off_market = today;
            }
            Event::Relist => {
                status = Some(Status::Active);
                listing.off_market = 0;
                listing.contract = 0;
                listing.expires = today + 120;
                listing.list_price = asking(listing.list_price / 100 * (92 + below(hash, 8)));
                listing.price_changed = now;
            }
            Event::EditRemarks => listing.remarks = listing.remarks.wrapping_add(1),
            Event::EditDirections => listing.directions = listing.directions.wrapping_add(1),
            Event::EditFeatures => listing.features = listing.features.wrapping_add(1),
            Event::CorrectTax => listing.tax = listing.tax.wrapping_add(1),
            Event::ChangePhotos => change_photos(listing, now, hash),
            Event::Delete | Event::Vanish => listing.alive = false,
            Event::Return => listing.alive = true,
            Event::Restamp | Event::RelistAsNew | Event::AnnounceOpenHouse => {}
        }
        if let Some(status) = status {
            listing.status = status;
            listing.status_changed = now;
        }
        if self.signal() == Signal::Stamp {
            listing.modified = now;
        }
    }
}

fn change_photos(listing: &mut Listing, now: Seconds, hash: u64) {
    let mut photos = listing.photos();
    let fresh = |n: u64| Photo {
        seed: mix(hash ^ (n << 8)),
        modified: now,
    };
    let at = below(mix(hash), u32::try_from(photos.len()).unwrap_or(0)) as usize;
    match hash % 3 {
        0 if photos.len() < 60 => photos.extend((0..=hash / 3 % 4).map(fresh)),
        1 if at > 0 => {
            // Another photo leads: both that change places get a new Order.
            photos.swap(0, at);
            for moved in [0, at] {
                if let Some(photo) = photos.get_mut(moved) {
                    photo.modified = now;
                }
            }
        }
        _ => match photos.get_mut(at) {
            Some(photo) => *photo = fresh(0),
            None => photos.push(fresh(0)),
        },
    }
    listing.photos = Some(photos);
    listing.photos_changed = now;
}

impl Market {
    /// Plays an event on the listing of that key, now. False when there is no such listing or the
    /// event does not fit its state.
    pub fn play(&mut self, key: u32, event: Event) -> bool {
        let Some(slot) = self.slot_of(key) else {
            return false;
        };
        let hash = self.draw(u64::from(slot));
        self.play_slot(slot, event, hash)
    }

    /// Enters a new listing of a new home, now, and says its key.
    pub fn add_listing(&mut self) -> u32 {
        let hash = self.draw(u64::MAX);
        self.enter(hash, None)
    }

    /// A hash for what happens now.
    fn draw(&self, salt: u64) -> u64 {
        mix(self.seed ^ mix(salt) ^ mix(self.truth_len() as u64) ^ u64::from(self.now))
    }

    pub(super) fn play_slot(&mut self, slot: u32, event: Event, hash: u64) -> bool {
        let Some(listing) = self.listing(slot).filter(|l| event.allowed(l)).cloned() else {
            return false;
        };
        match event {
            Event::RelistAsNew => {
                self.enter(hash, Some(slot));
            }
            Event::AnnounceOpenHouse => self.announce(slot, hash),
            _ => self.edit(slot, &listing, event, hash),
        }
        true
    }

    fn edit(&mut self, slot: u32, before: &Listing, event: Event, hash: u64) {
        let mut after = before.clone();
        event.apply(&mut after, self.now, hash);
        let photos = before.alive != after.alive || before.photos_changed != after.photos_changed;
        let (property, media) = (self.image(slot), self.media_images(slot, photos));
        if before.alive {
            self.by_modified.remove(&(before.modified, slot));
            self.by_photos.remove(&(before.photos_changed, slot));
        }
        if after.alive {
            self.by_modified.insert((after.modified, slot));
            self.by_photos.insert((after.photos_changed, slot));
        }
        if let Some(listing) = self.listings.get_mut(slot as usize) {
            *listing = after;
        }
        let signal = event.signal();
        let back = event == Event::Return;
        self.log(resource::PROPERTY, property, self.image(slot), signal, back);
        // A deletion's photos and open houses go with it, and Deleted has them too.
        let signal = if event == Event::ChangePhotos {
            Signal::Stamp
        } else {
            signal
        };
        let new_media = self.media_images(slot, photos);
        self.log_set(resource::MEDIA, media, new_media, signal, back);
        if matches!(event, Event::Delete | Event::Vanish) {
            let open: Vec<u32> = (0..)
                .zip(&self.open_houses)
                .filter(|(_, o)| o.alive && o.listing == slot)
                .map(|(at, _)| at)
                .collect();
            for place in open {
                self.change_open_house(place, signal, |o, _| o.alive = false);
            }
        }
    }

    /// Enters a listing, of a new home or of that of another listing.
    pub(super) fn enter(&mut self, hash: u64, again: Option<u32>) -> u32 {
        let mut rng = Rng::new(hash, 0);
        let last = self.listings.last().map_or(1_000_000, |l| l.key);
        let key = last + 1 + rng.below(3);
        let today = self.now / DAY;
        let mut listing = match again.and_then(|slot| self.listing(slot)).cloned() {
            None => Market::fresh(key, rng.next(), today, &mut rng),
            Some(old) => {
                let mut listing = Market::fresh(key, old.home, today, &mut rng);
                if old.status != Status::Closed {
                    let days = old.off_market.saturating_sub(old.listed);
                    listing.days_before = u16::try_from(days).unwrap_or(u16::MAX);
                }
                listing
            }
        };
        let now = self.now;
        listing.entered = now;
        listing.modified = now;
        listing.photos_changed = now;
        listing.status_changed = now;
        let slot = u32::try_from(self.listings.len()).unwrap_or(u32::MAX);
        self.listings.push(listing);
        self.by_modified.insert((now, slot));
        self.by_photos.insert((now, slot));
        self.log(
            resource::PROPERTY,
            None,
            self.image(slot),
            Signal::Stamp,
            false,
        );
        let media = self.media_images(slot, true);
        self.log_set(resource::MEDIA, Vec::new(), media, Signal::Stamp, false);
        key
    }

    fn announce(&mut self, slot: u32, hash: u64) {
        let last = self.open_houses.last().map_or(300_000, |o| o.key);
        let start =
            (self.now / DAY + 1 + below(hash, 6)) * DAY + 64_800 + 1_800 * below(mix(hash), 8);
        self.open_houses.push(OpenHouse {
            key: last + 1 + below(mix(hash ^ 1), 2),
            alive: true,
            listing: slot,
            start,
            end: start + 7_200,
            entered: self.now,
            modified: self.now,
            status: OpenHouseStatus::Active,
        });
        let place = u32::try_from(self.open_houses.len() - 1).unwrap_or(u32::MAX);
        let image = self.image_of(resource::OPEN_HOUSE, RowId(place.into()));
        self.log(resource::OPEN_HOUSE, None, image, Signal::Stamp, false);
    }

    /// Changes an open house and logs what changed.
    pub(super) fn change_open_house(
        &mut self,
        place: u32,
        signal: Signal,
        change: impl FnOnce(&mut OpenHouse, Seconds),
    ) {
        let id = RowId(place.into());
        let before = self.image_of(resource::OPEN_HOUSE, id);
        let now = self.now;
        let Some(open_house) = self.open_houses.get_mut(place as usize) else {
            return;
        };
        change(open_house, now);
        let after = if open_house.alive {
            self.image_of(resource::OPEN_HOUSE, id)
        } else {
            None
        };
        self.log(resource::OPEN_HOUSE, before, after, signal, false);
    }

    /// Gives a member another mobile phone.
    pub(super) fn change_phone(&mut self, place: u32) {
        let id = RowId(place.into());
        let before = self.image_of(resource::MEMBER, id);
        let now = self.now;
        if let Some(member) = self.members.get_mut(place as usize) {
            member.phone = member.phone.wrapping_add(1);
            member.modified = now;
        }
        let after = self.image_of(resource::MEMBER, id);
        self.log(resource::MEMBER, before, after, Signal::Stamp, false);
    }
}
