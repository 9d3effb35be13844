//! A home: what does not change while it is listed and listed again.

use crate::places::{City, city_at, total_weight};
use crate::rng::{below, pick, roll};

/// The kind of home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A house of its own.
    House,
    /// A townhouse.
    Townhouse,
    /// A flat.
    Condo,
    /// One half of a twin home.
    Twin,
    /// A lot without a building.
    Land,
}

impl Kind {
    /// The kind of the home of that seed.
    pub(crate) fn of(seed: u64) -> Self {
        match below(roll(seed, 101), 100) {
            0..66 => Kind::House,
            66..80 => Kind::Townhouse,
            80..89 => Kind::Condo,
            89..94 => Kind::Twin,
            _ => Kind::Land,
        }
    }
}

/// A home, worked out of its seed.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// The seed.
    pub(crate) seed: u64,
    /// Where it is.
    pub(crate) city: &'static City,
    /// The city's place in the list of cities.
    pub(crate) city_seed: u64,
    /// What it is.
    pub(crate) kind: Kind,
    /// When it was built; 0 for land.
    pub(crate) year: u32,
    /// Square feet, finished or not; 0 for land.
    pub(crate) area: u32,
    /// Square feet below ground.
    pub(crate) basement: u32,
    /// Bedrooms.
    pub(crate) beds: u32,
    /// Full baths.
    pub(crate) full_baths: u32,
    /// Three-quarter baths.
    pub(crate) three_quarter_baths: u32,
    /// Half baths.
    pub(crate) half_baths: u32,
    /// Storeys above ground.
    pub(crate) stories: u32,
    /// Cars in the garage.
    pub(crate) garage: u32,
    /// Hundredths of an acre.
    pub(crate) lot: u32,
    /// Dollars a month; 0 when there is no association.
    pub(crate) dues: u32,
    /// What it would sell for at the start, in dollars.
    pub(crate) value: u32,
}

impl Home {
    /// Works a home out of its seed.
    pub(crate) fn new(seed: u64) -> Self {
        let draw = |purpose, bound| below(roll(seed, purpose), bound);
        let city = city_at(draw(100, total_weight()));
        let kind = Kind::of(seed);
        let (smallest, spread) = match kind {
            Kind::House => (1_000, 3_400),
            Kind::Townhouse => (1_100, 1_500),
            Kind::Condo => (600, 1_200),
            Kind::Twin => (1_200, 1_600),
            Kind::Land => (0, 1),
        };
        let land = kind == Kind::Land;
        let above = if land {
            0
        } else {
            smallest + u32::midpoint(draw(102, spread), draw(103, spread))
        };
        let deep = matches!(kind, Kind::House | Kind::Twin) && draw(104, 100) < 72;
        let basement = if deep { above / 2 } else { 0 };
        let area = above + basement;
        let beds = if land {
            0
        } else {
            (1 + area / 750 + draw(105, 2)).min(8)
        };
        let year = if land {
            0
        } else {
            2026 - draw(106, 9) * draw(107, 14) - draw(108, 4)
        };
        let lot = match kind {
            Kind::House => 10 + draw(109, 16) * draw(110, 8) / 4,
            Kind::Land => 15 + draw(109, 40) * draw(110, 30),
            _ => 1 + draw(109, 8),
        };
        let dues = match kind {
            Kind::Condo => 180 + draw(111, 260),
            Kind::Townhouse => 90 + draw(111, 180),
            Kind::House if draw(112, 4) == 0 => 25 + draw(111, 110),
            _ => 0,
        };
        let mut home = Home {
            seed,
            city,
            city_seed: u64::from(city.latitude.unsigned_abs()),
            kind,
            year,
            area,
            basement,
            beds,
            full_baths: if land { 0 } else { 1 + area / 1_600 },
            three_quarter_baths: u32::from(!land && draw(113, 3) == 0),
            half_baths: u32::from(!land && draw(114, 5) < 2),
            stories: if land {
                0
            } else {
                1 + u32::from(draw(115, 5) < 3)
            },
            garage: if land || kind == Kind::Condo {
                0
            } else {
                draw(116, 4)
            },
            lot,
            dues,
            value: 0,
        };
        home.value = home.appraise();
        home
    }

    fn appraise(&self) -> u32 {
        let typical = u64::from(self.city.typical) * 1_000;
        let noise = u64::from(80 + below(roll(self.seed, 117), 41));
        let by_size = if self.kind == Kind::Land {
            250 + u64::from(self.lot.min(400)) * 2
        } else {
            330 + u64::from(self.area) * 670 / 2_600
        };
        let by_age = if self.year < 1980 { 90 } else { 100 };
        let dollars = typical * by_size / 1_000 * noise / 100 * by_age / 100;
        asking(u32::try_from(dollars).unwrap_or(u32::MAX))
    }

    /// A hash of the home for one purpose.
    pub(crate) fn roll(&self, purpose: u64) -> u64 {
        roll(self.seed, purpose)
    }

    /// A number below `bound` for one purpose.
    pub(crate) fn draw(&self, purpose: u64, bound: u32) -> u32 {
        below(self.roll(purpose), bound)
    }

    /// One of `items` for one purpose.
    pub(crate) fn pick<T: Copy>(&self, purpose: u64, items: &[T]) -> T {
        pick(self.roll(purpose), items)
    }

    /// Whether the feed calls it land.
    pub(crate) fn is_land(&self) -> bool {
        self.kind == Kind::Land
    }
}

/// A price as sellers ask it: `489,900`.
pub(crate) fn asking(dollars: u32) -> u32 {
    (dollars / 1_000).max(20) * 1_000 - 100
}
