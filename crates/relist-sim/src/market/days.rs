//! Market days: what happens by itself as the clock moves on.

use super::truth::Signal;
use super::{Event, Market};
use crate::rng::{Rng, mix};
use crate::state::{Listing, OpenHouseStatus, Status};
use crate::text::{DAY, Seconds};

/// Something that will happen.
#[derive(Debug, Clone)]
pub(super) struct Scheduled {
    at: Seconds,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    /// An event on the listing at that place.
    Event(u32, Event),
    /// A new listing of a new home.
    Enter(u64),
    /// A member changes phones.
    Phone(u32),
    /// Open houses that are over are marked so, and those long over are removed.
    SweepOpenHouses,
}

/// When the nightly jobs of the system run, in seconds of the day.
const NIGHTLY: Seconds = 21_900;
/// When a conversion stamps listings anew, in seconds of the day.
const CONVERSION: Seconds = 34_200;

impl Market {
    /// Lets so many days pass.
    pub fn advance_days(&mut self, days: u32) {
        self.advance(days * DAY);
    }

    /// Lets so many seconds pass. What happens does not depend on the size of the steps.
    pub fn advance(&mut self, seconds: Seconds) {
        let until = self.now + seconds;
        loop {
            if self.scheduled.front().is_some_and(|next| next.at <= until) {
                let Some(next) = self.scheduled.pop_front() else {
                    return;
                };
                // What a test did between steps may have moved the clock past it.
                self.now = self.now.max(next.at);
                self.happen(&next);
            } else if self.next_day * DAY <= until {
                self.plan(self.next_day);
                self.next_day += 1;
            } else {
                self.now = until;
                return;
            }
        }
    }

    fn happen(&mut self, next: &Scheduled) {
        let hash = mix(self.seed ^ mix(u64::from(next.at)));
        match next.what {
            What::Event(slot, event) => {
                self.play_slot(slot, event, mix(hash ^ u64::from(slot)));
            }
            What::Enter(salt) => {
                self.enter(mix(hash ^ salt), None);
            }
            What::Phone(place) => self.change_phone(place),
            What::SweepOpenHouses => self.sweep_open_houses(),
        }
    }

    /// Plans a day from the state of the market at its start.
    fn plan(&mut self, day: u32) {
        let mut plan = Vec::new();
        let mut active = 0;
        for (slot, listing) in (0_u32..).zip(&self.listings) {
            let mut rng = Rng::new(self.seed ^ mix(day.into()), slot.into());
            active += u32::from(listing.alive && listing.status == Status::Active);
            if let Some(event) = self.event_of(listing, day, &mut rng) {
                let at = if event == Event::Expire {
                    NIGHTLY
                } else {
                    office_hours(&mut rng)
                };
                plan.push(Scheduled {
                    at: day * DAY + at,
                    what: What::Event(slot, event),
                });
            }
        }
        let mut rng = Rng::new(self.seed ^ mix(day.into()), u64::MAX);
        for salt in 0..(active / 70 + rng.below(active / 100 + 2)) {
            let at = day * DAY + office_hours(&mut rng);
            plan.push(Scheduled {
                at,
                what: What::Enter(salt.into()),
            });
        }
        for place in 0..u32::try_from(self.members.len()).unwrap_or(0) {
            if rng.chance(1_500) {
                let at = day * DAY + office_hours(&mut rng);
                plan.push(Scheduled {
                    at,
                    what: What::Phone(place),
                });
            }
        }
        plan.push(Scheduled {
            at: day * DAY + NIGHTLY,
            what: What::SweepOpenHouses,
        });
        plan.extend(self.conversion(day));
        plan.sort_by_key(|next| next.at);
        self.scheduled.extend(plan);
    }

    /// A listing of eight is stamped anew within one second, every so many days.
    fn conversion(&self, day: u32) -> Vec<Scheduled> {
        let every = self.conduct.restamp_every;
        if every == 0 || !day.is_multiple_of(every) {
            return Vec::new();
        }
        let at = day * DAY + CONVERSION;
        (0_u32..)
            .zip(&self.listings)
            .filter(|(_, listing)| listing.alive && listing.home % 8 == u64::from(day / every % 8))
            .map(|(slot, _)| Scheduled {
                at,
                what: What::Event(slot, Event::Restamp),
            })
            .collect()
    }

    /// What happens to a listing that day, if anything does.
    fn event_of(&self, listing: &Listing, day: u32, rng: &mut Rng) -> Option<Event> {
        use Event as E;
        let conduct = &self.conduct;
        if !listing.alive {
            return rng.chance(10_000).then_some(E::Return);
        }
        if listing.status == Status::Active && day >= listing.expires {
            return Some(E::Expire);
        }
        // Rates of every million a day.
        let by_status: &[(u32, Event)] = match listing.status {
            Status::Active => &[
                (12_000, E::CutPrice),
                (6_000, E::AcceptOffer),
                (9_000, E::GoPending),
                (1_500, E::Withdraw),
                (1_000, E::Cancel),
                (8_000, E::EditRemarks),
                (3_000, E::EditDirections),
                (5_000, E::EditFeatures),
                (12_000, E::AnnounceOpenHouse),
            ],
            Status::ActiveUnderContract => &[
                (70_000, E::GoPending),
                (15_000, E::BackOnMarket),
                (10_000, E::Close),
            ],
            Status::Pending => &[
                (32_000, E::Close),
                (7_000, E::BackOnMarket),
                (2_000, E::EditRemarks),
            ],
            Status::Closed => &[(250, E::EditFeatures), (300, E::RelistAsNew)],
            Status::Withdrawn | Status::Expired | Status::Canceled => {
                &[(8_000, E::Relist), (9_000, E::RelistAsNew)]
            }
        };
        let photos = if listing.status == Status::Active {
            conduct.photo_changes
        } else {
            0
        };
        let by_conduct = [
            (conduct.deletions, E::Delete),
            (conduct.vanishings, E::Vanish),
            (conduct.unstamped_edits, E::CorrectTax),
            (photos, E::ChangePhotos),
        ];
        let mut draw = rng.below(1_000_000);
        for (rate, event) in by_conduct.iter().chain(by_status) {
            if draw < *rate {
                return Some(*event);
            }
            draw -= rate;
        }
        None
    }

    fn sweep_open_houses(&mut self) {
        let now = self.now;
        let places: Vec<u32> = (0_u32..)
            .zip(&self.open_houses)
            .filter(|(_, o)| o.alive)
            .map(|(at, _)| at)
            .collect();
        for place in places {
            let Some(open_house) = self.open_houses.get(place as usize) else {
                continue;
            };
            let off = self
                .listing(open_house.listing)
                .is_none_or(|l| l.status != Status::Active);
            let (start, end, status) = (open_house.start, open_house.end, open_house.status);
            if end + 14 * DAY < now {
                self.change_open_house(place, Signal::DeletedLog, |o, _| o.alive = false);
            } else if status == OpenHouseStatus::Active && (end < now || off) {
                self.change_open_house(place, Signal::Stamp, |o, now| {
                    o.status = if start < now {
                        OpenHouseStatus::Ended
                    } else {
                        OpenHouseStatus::Canceled
                    };
                    o.modified = now;
                });
            }
        }
    }
}

/// A second of the working day of Utah, in UTC.
fn office_hours(rng: &mut Rng) -> Seconds {
    50_000 + rng.below(36_000)
}
