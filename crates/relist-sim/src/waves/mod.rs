//! The workloads of the benchmarks: a wave of new records, a wave of the same sent again, the same
//! in other bytes, and days of which only what changed is sent.

mod rewrite;

use std::collections::{BTreeMap, BTreeSet};

use crate::market::truth::{Change, Net, Operation, net};
use crate::market::{Event, Market, Size};
use crate::rng::{Rng, mix};
use crate::state::Status;
use crate::text::DAY;

/// A market whose rows are sent whole, twice.
///
/// ```
/// use relist_sim::Waves;
///
/// let mut waves = Waves::new(1, 1_000);
/// assert_eq!(waves.pages(200).count(), 5);
/// let expected = waves.second();
/// assert_eq!(expected.records, 1_000 - expected.deleted.len() as u64 + expected.inserted);
/// let bytes: usize = waves.pages(200).map(|page| page.len()).sum();
/// assert!(bytes > 4_000_000);
/// ```
#[derive(Debug)]
pub struct Waves {
    seed: u64,
    market: Market,
}

/// What a mirror must find in a wave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// Records sent.
    pub records: u64,
    /// Records of keys not sent before.
    pub inserted: u64,
    /// Records sent before, of which at least one field has another value now.
    pub changed: u64,
    /// Fields of those that have another value.
    pub field_changes: u64,
    /// Records sent before, and the same now.
    pub unchanged: u64,
    /// Keys sent before and no longer.
    pub deleted: Vec<u32>,
}

/// A day of changes, as a client that asks once a day sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Day {
    /// The listings that are new or changed, in the order in which they last changed.
    pub keys: Vec<u32>,
    /// What became of each listing.
    pub net: Net,
}

impl Waves {
    /// A market of so many listings.
    pub fn new(seed: u64, listings: u32) -> Self {
        Waves {
            seed,
            market: Market::new(seed, Size::listings(listings)),
        }
    }

    /// The market: its schema is that of the pages.
    pub fn market(&self) -> &Market {
        &self.market
    }

    /// What the first wave holds: every record is new.
    pub fn first(&self) -> Expected {
        let records = self.market.keys().count() as u64;
        Expected {
            records,
            inserted: records,
            ..Expected::default()
        }
    }

    /// The bodies of OData pages of so many records, one after another; each is made when it is
    /// asked for.
    pub fn pages(&self, size: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.market.property_pages(size)
    }

    /// The records of [`pages`](Self::pages), every one in other bytes, no field of another value:
    /// other number lexemes, another order of the members, other space, an etag.
    pub fn rewritten(&self, size: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
        let pages = self.pages(size).enumerate();
        pages.map(|(number, page)| rewrite::rewrite(&page, number))
    }

    /// Lets a day of the market pass: prices are cut, listings go pending, close, come and go, and
    /// now and then the system stamps one of eight anew.
    /// [`day_pages`](Self::day_pages) sends what changed.
    pub fn day(&mut self) -> Day {
        self.market.forget_truth();
        let place = self.market.truth_len();
        self.market.advance_days(1);
        let of_listings = || {
            let all = self.market.truth_since(place).iter();
            all.filter(|change| change.resource == "Property")
        };
        let net = net(of_listings());
        let mut last: BTreeMap<u32, u32> = BTreeMap::new();
        let sent = |change: &&Change| {
            let name = ("Property", change.key.clone());
            net.inserted.contains_key(&name) || net.changed.contains_key(&name)
        };
        for change in of_listings().filter(sent) {
            last.extend(change.key.parse::<u32>().map(|key| (key, change.at)));
        }
        let mut keys: Vec<u32> = last.keys().copied().collect();
        keys.sort_by_key(|key| last.get(key).copied());
        Day { keys, net }
    }

    /// The pages of what changed on a day.
    pub fn day_pages<'a>(
        &'a self,
        day: &'a Day,
        size: usize,
    ) -> impl Iterator<Item = Vec<u8>> + 'a {
        self.market.property_pages_of(&day.keys, size)
    }

    /// Lets a day pass in which of every 1,000 records 50 change in one to four fields, 5 are
    /// deleted and 5 are new. [`pages`](Self::pages) sends all of them again.
    pub fn second(&mut self) -> Expected {
        let place = self.market.truth_len();
        let keys: Vec<u32> = self.market.keys().collect();
        self.market.pass(DAY);
        for key in &keys {
            let mut rng = Rng::new(self.seed ^ mix(place as u64), u64::from(*key) << 8);
            let played = match rng.below(1_000) {
                0..5 => self.market.play(*key, Event::Delete),
                5..55 => self
                    .market
                    .play(*key, Waves::edit(&self.market, *key, &mut rng)),
                _ => true,
            };
            debug_assert!(played, "every one of these events fits every listing");
        }
        let new = keys.len() / 200;
        for _ in 0..new {
            self.market.add_listing();
        }
        self.expected(place, keys.len() as u64)
    }

    /// An edit of one to four fields.
    fn edit(market: &Market, key: u32, rng: &mut Rng) -> Event {
        // A stamp that moves also moves DaysOnMarket and its twin while a home is on the market.
        let on_market = market.status_of(key).is_some_and(Status::is_on_market);
        let sets: &[Event] = if on_market {
            &[
                Event::CorrectTax,
                Event::ChangePhotos,
                Event::Restamp,
                Event::EditRemarks,
            ]
        } else {
            &[
                Event::CorrectTax,
                Event::Restamp,
                Event::EditRemarks,
                Event::EditFeatures,
            ]
        };
        rng.pick(sets)
    }

    fn expected(&self, place: usize, before: u64) -> Expected {
        let mut out = Expected::default();
        let mut changed = BTreeSet::new();
        for change in self
            .market
            .truth_since(place)
            .iter()
            .filter(|c| c.resource == "Property")
        {
            match change.operation {
                Operation::Insert | Operation::Relist => out.inserted += 1,
                Operation::Delete => out.deleted.extend(change.key.parse::<u32>()),
                Operation::Update => {
                    out.field_changes += 1;
                    changed.insert(change.key.as_str());
                }
            }
        }
        out.changed = changed.len() as u64;
        let stayed = before - out.deleted.len() as u64;
        out.unchanged = stayed - out.changed;
        out.records = stayed + out.inserted;
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Records = BTreeMap<u64, serde_json::Map<String, serde_json::Value>>;

    fn records(waves: &Waves) -> Records {
        of_pages(waves.pages(100))
    }

    fn of_pages(pages: impl Iterator<Item = Vec<u8>>) -> Records {
        let mut out = BTreeMap::new();
        for page in pages {
            let page: serde_json::Value = serde_json::from_slice(&page).unwrap();
            for record in page["value"].as_array().unwrap() {
                let key = record["ListingKeyNumeric"].as_u64().unwrap();
                assert!(
                    out.insert(key, record.as_object().unwrap().clone())
                        .is_none()
                );
            }
        }
        out
    }

    #[test]
    fn the_second_wave_is_what_it_says() {
        let mut waves = Waves::new(4, 3_000);
        let before = records(&waves);
        assert_eq!(before.len(), 3_000);
        let expected = waves.second();
        let after = records(&waves);
        assert_eq!(after.len() as u64, expected.records);
        let (mut changed, mut fields, mut unchanged) = (0, 0, 0);
        for (key, new) in &after {
            let Some(old) = before.get(key) else { continue };
            let differ = new
                .iter()
                .filter(|(name, value)| old[*name] != **value)
                .count();
            assert!(differ <= 4, "{key}: {differ} fields");
            fields += differ as u64;
            changed += u64::from(differ > 0);
            unchanged += u64::from(differ == 0);
        }
        assert_eq!(
            (changed, fields, unchanged),
            (expected.changed, expected.field_changes, expected.unchanged)
        );
        let gone: Vec<u32> = before
            .keys()
            .filter(|key| !after.contains_key(key))
            .map(|key| u32::try_from(*key).unwrap())
            .collect();
        assert_eq!(gone, expected.deleted);
        assert!((100..200).contains(&expected.changed), "{expected:?}");
        assert_eq!(expected.inserted, 15);
        let net = net(waves.market().truth_since(0));
        let properties = net
            .changed
            .keys()
            .filter(|(resource, _)| *resource == "Property");
        assert_eq!(properties.count() as u64, expected.changed);
    }
    #[test]
    fn rewritten_records_are_the_same() {
        let waves = Waves::new(5, 900);
        let mut rewritten = of_pages(waves.rewritten(100));
        for record in rewritten.values_mut() {
            record.remove("@odata.etag");
        }
        assert_eq!(rewritten, records(&waves));
    }

    #[test]
    fn days_are_what_they_say() {
        let mut waves = Waves::new(6, 1_500);
        let mut mirror = records(&waves);
        let mut changed = 0;
        for _ in 0..12 {
            let day = waves.day();
            let sent = of_pages(waves.day_pages(&day, 100));
            assert_eq!(sent.len(), day.keys.len());
            for ((_, key), fields) in &day.net.changed {
                let key: u64 = key.parse().unwrap();
                let (old, new) = (&mirror[&key], &sent[&key]);
                let differ: BTreeSet<&String> = new
                    .iter()
                    .filter(|(name, value)| old[*name] != **value)
                    .map(|(name, _)| name)
                    .collect();
                assert_eq!(differ, fields.keys().collect(), "{key}");
                changed += 1;
            }
            for (_, key) in day.net.inserted.keys() {
                assert!(!mirror.contains_key(&key.parse().unwrap()), "{key}");
            }
            mirror.extend(sent);
            for (_, key) in &day.net.deleted {
                assert!(mirror.remove(&key.parse().unwrap()).is_some(), "{key}");
            }
            assert_eq!(mirror, records(&waves));
        }
        assert!(changed > 400, "{changed}");
    }
}
