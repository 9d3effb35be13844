//! The fields of Property.

use super::{
    Kind::{Bool, Date, Decimal, Geo, Int, Many, One, Str, Timestamp},
    bool, columns, date, day_of, decimal, int, int_str, many, null, one, phone, quoted, str,
    timestamp,
};
use crate::fields::people;
use crate::home::{Home, Kind};
use crate::lookups as lk;
use crate::places::{ELEMENTARY, MIDDLE};
use crate::rng::{below, pick, roll};
use crate::state::{Listing, Member, Office, Status};
use crate::text;
use crate::words;

/// A listing with what it refers to.
pub(crate) struct PropertyView<'a> {
    pub(crate) listing: &'a Listing,
    pub(crate) home: Home,
    pub(crate) agent: (&'a Member, &'a Office),
    pub(crate) buyer_agent: Option<(&'a Member, &'a Office)>,
}

/// The name of the system, as each record has it.
pub(super) const SYSTEM: &str = "UtahRealEstate.com";
/// The system's identifier with RESO.
pub(super) const SYSTEM_ID: &str = "M00000628";

impl PropertyView<'_> {
    /// Writes a value that only a building has; land has null there.
    fn built(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>, &Home)) {
        if self.home.is_land() {
            null(out);
        } else {
            write(out, &self.home);
        }
    }

    /// Writes a multi-lookup that only a building has; land has the empty string there.
    fn features(&self, out: &mut Vec<u8>, lookup: &lk::Lookup, purpose: u64, most: u32) {
        if self.home.is_land() {
            str(out, "");
        } else {
            many(out, self.home.roll(purpose), lookup, 1, most);
        }
    }

    /// Writes what only a sale has.
    fn sold(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>, &Listing)) {
        if self.listing.status == Status::Closed {
            write(out, self.listing);
        } else {
            null(out);
        }
    }

    /// Writes something of the buyer's agent, null before there is one.
    fn buyer(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>, &Member, &Office)) {
        match self.buyer_agent {
            Some((member, office)) => write(out, member, office),
            None => null(out),
        }
    }

    /// Writes something of the association, null where there is none.
    fn dues(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>, &Home)) {
        if self.home.dues == 0 {
            null(out);
        } else {
            write(out, &self.home);
        }
    }

    /// Days on market when the listing was last edited, or left the market.
    fn days_on_market(&self) -> u32 {
        let listing = self.listing;
        let end = if listing.off_market == 0 {
            day_of(listing.modified)
        } else {
            listing.off_market
        };
        end.saturating_sub(listing.listed)
    }

    fn baths(&self) -> u32 {
        self.home.full_baths + self.home.three_quarter_baths + self.home.half_baths
    }

    fn house_number(&self) -> u32 {
        100 + self.home.draw(200, 9_800)
    }

    /// The street: a coordinate of the grid (`1480 E`), or a name with a suffix.
    fn street(&self) -> Street {
        let home = &self.home;
        if home.draw(201, 100) < 45 {
            Street::Grid((1 + home.draw(202, 120)) * 20)
        } else {
            Street::Named(
                home.pick(202, words::STREET_NAMES),
                home.pick(203, lk::STREET_SUFFIX.displays),
            )
        }
    }

    fn prefix(&self) -> &'static str {
        if matches!(self.street(), Street::Grid(_)) || self.home.draw(204, 2) == 0 {
            self.home.pick(205, &["E", "W"])
        } else {
            self.home.pick(205, &["N", "S"])
        }
    }

    fn grid_suffix(&self) -> &'static str {
        match self.street() {
            Street::Grid(_) => self.home.pick(206, &["N", "S"]),
            Street::Named(..) => "",
        }
    }

    fn unit(&self) -> u32 {
        match self.home.kind {
            Kind::Condo | Kind::Townhouse => 1 + self.home.draw(207, 320),
            _ => 0,
        }
    }

    fn address(&self, out: &mut Vec<u8>) {
        int(out, self.house_number());
        for part in [" ", self.prefix(), " "] {
            text::escaped(out, part);
        }
        match self.street() {
            Street::Grid(number) => int(out, number),
            Street::Named(name, suffix) => {
                for part in [name, " ", suffix] {
                    text::escaped(out, part);
                }
            }
        }
        if !self.grid_suffix().is_empty() {
            text::escaped(out, " ");
            text::escaped(out, self.grid_suffix());
        }
        if self.unit() > 0 {
            text::escaped(out, " #");
            int(out, self.unit());
        }
    }

    fn parcel(&self, out: &mut Vec<u8>) {
        for (at, (bound, width)) in [(90, 2), (40, 2), (500, 3), (999, 3)]
            .into_iter()
            .enumerate()
        {
            if at > 0 {
                out.push(b'-');
            }
            let number = 10_u64.pow(width) + u64::from(self.home.draw(210 + at as u64, bound));
            let digits = text::string(|o| text::int(o, number));
            out.extend_from_slice(digits.as_bytes().get(1..).unwrap_or_default());
        }
    }

    fn sub_type(&self) -> &'static str {
        match self.home.kind {
            Kind::House => "Single Family Residence",
            Kind::Townhouse => "Townhouse",
            Kind::Condo => "Condominium",
            Kind::Twin => "Twin",
            Kind::Land => "Residential",
        }
    }

    fn style(&self) -> &'static str {
        match (self.home.kind, self.home.stories) {
            (Kind::Land, _) => "",
            (Kind::Townhouse, _) => self
                .home
                .pick(220, &["Townhouse; Row-end", "Townhouse; Row-mid"]),
            (Kind::Condo, _) => self
                .home
                .pick(220, &["Condo; Main Level", "Condo; Top Level"]),
            (_, 1) => self
                .home
                .pick(220, &["Rambler/Ranch", "Bungalow/Cottage", "Patio Home"]),
            _ => self.home.pick(
                220,
                &["Stories: 2", "Tri/Multi-Level", "Tudor", "Victorian"],
            ),
        }
    }

    fn tax(&self) -> u64 {
        let cents = u64::from(self.home.value) * 55 / 100;
        cents + roll(self.home.seed, 221 + u64::from(self.listing.tax)) % 10_000
    }

    fn point(&self, out: &mut Vec<u8>) {
        let degrees = |out: &mut Vec<u8>, centre: i32, purpose, spread: u32| {
            let spread = i64::from(self.home.draw(purpose, 2 * spread)) - i64::from(spread);
            let micro = i64::from(centre) + spread;
            if micro < 0 {
                out.push(b'-');
            }
            let micro = micro.unsigned_abs();
            text::int(out, micro / 1_000_000);
            out.push(b'.');
            let digits = text::string(|o| text::int(o, 1_000_000 + micro % 1_000_000));
            out.extend_from_slice(digits.as_bytes().get(1..).unwrap_or_default());
        };
        out.extend_from_slice(b"{\"type\":\"Point\",\"coordinates\":[");
        degrees(out, self.home.city.longitude, 230, 45_000);
        out.push(b',');
        degrees(out, self.home.city.latitude, 231, 35_000);
        out.extend_from_slice(b"]}");
    }
}

enum Street {
    Grid(u32),
    Named(&'static str, &'static str),
}

columns! {
    /// Property, in the order of its JSON.
    PROPERTY of PropertyView:
    "ListingKeyNumeric" Int, |v, o| int(o, v.listing.key);
    "AssociationFee" Decimal, |v, o| v.dues(o, |o, h| decimal(o, h.dues));
    "RoomsTotal" Int, |v, o| v.built(o, |o, h| int(o, h.beds + 5 + h.draw(240, 5)));
    "BathroomsFull" Int, |v, o| v.built(o, |o, h| int(o, h.full_baths));
    "BathroomsHalf" Int, |v, o| v.built(o, |o, h| int(o, h.half_baths));
    "BathroomsThreeQuarter" Int, |v, o| v.built(o, |o, h| int(o, h.three_quarter_baths));
    "BathroomsTotalInteger" Int, |v, o| v.built(o, |o, _| int(o, v.baths()));
    "BedroomsTotal" Int, |v, o| v.built(o, |o, h| int(o, h.beds));
    "BuyerAgentKeyNumeric" Int, |v, o| v.buyer(o, |o, m, _| int(o, m.key));
    "ClosePrice" Decimal, |v, o| v.sold(o, |o, l| decimal(o, l.close_price));
    "CumulativeDaysOnMarket" Int, |v, o|
        int(o, v.days_on_market() + u32::from(v.listing.days_before));
    "DaysOnMarket" Int, |v, o| int(o, v.days_on_market());
    "FireplacesTotal" Int, |v, o| v.built(o, |o, h| int(o, h.draw(241, 3)));
    "GarageSpaces" Decimal, |v, o| v.built(o, |o, h| decimal(o, h.garage));
    "ListAgentKeyNumeric" Int, |v, o| int(o, v.agent.0.key);
    "ListOfficeKeyNumeric" Int, |v, o| int(o, v.agent.1.key);
    "ListPrice" Decimal, |v, o| decimal(o, v.listing.list_price);
    "LivingArea" Decimal, |v, o| v.built(o, |o, h| decimal(o, h.area));
    "LotSizeAcres" Decimal, |v, o| text::hundredths(o, v.home.lot.into());
    "LotSizeSquareFeet" Decimal, |v, o| text::hundredths(o, u64::from(v.home.lot) * 43_560);
    "MainLevelBedrooms" Int, |v, o| v.built(o, |o, h| int(o, h.beds.min(1 + h.draw(242, 3))));
    "OriginalListPrice" Decimal, |v, o| decimal(o, v.listing.original_price);
    "ParkingTotal" Decimal, |v, o| v.built(o, |o, h| decimal(o, h.garage + h.draw(243, 5)));
    "PhotosCount" Int, |v, o| int(o, v.listing.photo_count());
    "StreetNumberNumeric" Int, |v, o| int(o, v.house_number());
    "TaxAnnualAmount" Decimal, |v, o| text::hundredths(o, v.tax());
    "YearBuilt" Int, |v, o| v.built(o, |o, h| int(o, h.year));
    "BasementFinished" Int, |v, o|
        v.built(o, |o, h| int(o, if h.basement == 0 { 0 } else { h.draw(244, 21) * 5 }));
    "AboveGradeFinishedArea" Decimal, |v, o| v.built(o, |o, h| decimal(o, h.area - h.basement));
    "AssociationName" Str, |v, o| v.dues(o, |o, h| str(o, h.pick(245, words::SUBDIVISIONS)));
    "AssociationPhone" Str, |v, o| v.dues(o, |o, h| phone(o, h.roll(246)));
    "BuyerAgentFullName" Str, |v, o| v.buyer(o, |o, m, _| people::full_name(o, m.seed));
    "BuyerOfficeName" Str, |v, o| v.buyer(o, |o, _, f| str(o, people::office_name(f.seed)));
    "CopyrightNotice" Str, |_, o|
        str(o, "\u{a9} UtahRealEstate.com. All rights reserved. Deemed reliable, not guaranteed.");
    "Directions" Str, |v, o|
        quoted(o, |o| words::directions(o, v.home.seed, v.listing.directions));
    "Inclusions" Str, |v, o| v.built(o, |o, h| str(o, h.pick(247, words::INCLUSIONS)));
    "ListAgentFirstName" Str, |v, o| str(o, people::first_name(v.agent.0.seed));
    "ListAgentFullName" Str, |v, o| people::full_name(o, v.agent.0.seed);
    "ListAgentKey" Str, |v, o| int_str(o, v.agent.0.key);
    "ListAgentLastName" Str, |v, o| str(o, people::last_name(v.agent.0.seed));
    "ListAgentMlsId" Str, |v, o| int_str(o, v.agent.0.key);
    "ListAgentOfficePhone" Str, |v, o| phone(o, roll(v.agent.1.seed, 1));
    "ListAgentStateLicense" Str, |v, o| people::license(o, v.agent.0.seed);
    "ListOfficeKey" Str, |v, o| int_str(o, v.agent.1.key);
    "ListOfficeMlsId" Str, |v, o| int_str(o, v.agent.1.key);
    "ListOfficeName" Str, |v, o| str(o, people::office_name(v.agent.1.seed));
    "ListOfficePhone" Str, |v, o| phone(o, roll(v.agent.1.seed, 1));
    "ListingId" Str, |v, o| int_str(o, v.listing.key);
    "ListingKey" Str, |v, o| int_str(o, v.listing.key);
    "OriginatingSystemKey" Str, |_, o| str(o, SYSTEM_ID);
    "OriginatingSystemName" Str, |_, o| str(o, SYSTEM);
    "ParcelNumber" Str, |v, o| quoted(o, |o| v.parcel(o));
    "PostalCode" Str, |v, o| str(o, v.home.city.postal_code);
    "PublicRemarks" Str, |v, o| quoted(o, |o| words::remarks(o, v.home.seed, v.listing.remarks));
    "SourceSystemName" Str, |_, o| str(o, SYSTEM);
    "StreetName" Str, |v, o| match v.street() {
        Street::Grid(number) => int_str(o, number),
        Street::Named(name, _) => str(o, name),
    };
    "StreetNumber" Str, |v, o| int_str(o, v.house_number());
    "SubdivisionName" Str, |v, o| str(o, v.home.pick(245, words::SUBDIVISIONS));
    "UnitNumber" Str, |v, o|
        if v.unit() == 0 { null(o) } else { int_str(o, v.unit()) };
    "UnparsedAddress" Str, |v, o| quoted(o, |o| v.address(o));
    "VirtualTourURLUnbranded" Str, |v, o| if v.home.draw(248, 3) > 0 { null(o) } else {
        quoted(o, |o| {
            text::escaped(o, "https://tours.example.com/");
            int(o, v.home.draw(249, 9_000_000));
        });
    };
    "Zoning" Str, |v, o| str(o, v.home.pick(250, words::ZONINGS));
    "AssociationYN" Bool, |v, o| bool(o, v.home.dues > 0);
    "AttachedGarageYN" Bool, |v, o| v.built(o, |o, h| bool(o, h.garage > 0));
    "CoolingYN" Bool, |v, o| v.built(o, |o, _| bool(o, true));
    "FireplaceYN" Bool, |v, o| v.built(o, |o, h| bool(o, h.draw(241, 3) > 0));
    "HeatingYN" Bool, |v, o| v.built(o, |o, _| bool(o, true));
    "HorseYN" Bool, |v, o| bool(o, v.home.lot > 50 && v.home.draw(251, 2) == 0);
    "InternetEntireListingDisplayYN" Bool, |v, o| bool(o, v.home.draw(252, 40) > 0);
    "PoolPrivateYN" Bool, |v, o| v.built(o, |o, h| bool(o, h.draw(253, 12) == 0));
    "SeniorCommunityYN" Bool, |v, o| bool(o, v.home.draw(254, 40) == 0);
    "ViewYN" Bool, |v, o| bool(o, v.home.draw(255, 2) == 0);
    "NewConstructionYN" Bool, |v, o| v.built(o, |o, h| bool(o, h.year > 2024));
    "AduYN" Bool, |v, o| v.built(o, |o, h| bool(o, h.draw(256, 12) == 0));
    "CloseDate" Date, |v, o| v.sold(o, |o, l| date(o, l.closed));
    "ListingContractDate" Date, |v, o| date(o, v.listing.listed);
    "OffMarketDate" Date, |v, o| date(o, v.listing.off_market);
    "OnMarketDate" Date, |v, o| date(o, v.listing.listed + v.home.draw(257, 2));
    "PurchaseContractDate" Date, |v, o| date(o, v.listing.contract);
    "WithdrawnDate" Date, |v, o| if v.listing.status == Status::Withdrawn {
        date(o, v.listing.off_market);
    } else {
        null(o);
    };
    "ModificationTimestamp" Timestamp, |v, o| timestamp(o, v.listing.modified);
    "OriginalEntryTimestamp" Timestamp, |v, o| timestamp(o, v.listing.entered);
    "PhotosChangeTimestamp" Timestamp, |v, o| timestamp(o, v.listing.photos_changed);
    "PriceChangeTimestamp" Timestamp, |v, o| timestamp(o, v.listing.price_changed);
    "StatusChangeTimestamp" Timestamp, |v, o| timestamp(o, v.listing.status_changed);
    "AssociationFeeFrequency" One("FeeFrequency"), |v, o|
        str(o, if v.home.dues > 0 { "Monthly" } else { "" });
    "City" One("City"), |v, o| str(o, v.home.city.name);
    "Concessions" One("Concessions"), |v, o| match v.listing.status {
        Status::Closed => one(o, v.home.roll(258), &lk::CONCESSIONS),
        _ => str(o, ""),
    };
    "CountyOrParish" One("CountyOrParish"), |v, o| str(o, v.home.city.county);
    "DirectionFaces" One("DirectionFaces"), |v, o| if v.home.is_land() { str(o, "") } else {
        one(o, v.home.roll(259), &lk::DIRECTION_FACES);
    };
    "ElementarySchool" One("School"), |v, o|
        str(o, pick(roll(v.home.city_seed, u64::from(v.home.draw(260, 4))), ELEMENTARY));
    "HighSchool" One("School"), |v, o| str(o, v.home.city.high);
    "HighSchoolDistrict" One("District"), |v, o| str(o, v.home.city.district);
    "ListAgentAOR" One("AOR"), |v, o| str(o, v.home.city.association);
    "LivingAreaUnits" One("AreaUnits"), |_, o| str(o, "Square Feet");
    "LotSizeUnits" One("LotSizeUnits"), |_, o| str(o, "Acres");
    "MLSAreaMajor" One("MLSAreaMajor"), |v, o| str(o, v.home.city.area);
    "MiddleOrJuniorSchool" One("School"), |v, o|
        str(o, pick(roll(v.home.city_seed, 10 + u64::from(v.home.draw(261, 2))), MIDDLE));
    "MlsStatus" One("Status"), |v, o| str(o, v.listing.status.mls_name());
    "OccupantType" One("OccupantType"), |v, o| if v.home.is_land() { str(o, "") } else {
        str(o, pick(v.home.roll(262), &["Vacant", "Owner", "Owner", "Tenant"]));
    };
    "PropertySubType" One("PropertySubType"), |v, o| str(o, v.sub_type());
    "PropertyType" One("PropertyType"), |v, o|
        str(o, if v.home.is_land() { "Land" } else { "Residential" });
    "StandardStatus" One("StandardStatus"), |v, o| str(o, v.listing.status.name());
    "StateOrProvince" One("StateOrProvince"), |_, o| str(o, "UT");
    "StreetDirPrefix" One("StreetDirection"), |v, o| str(o, v.prefix());
    "StreetDirSuffix" One("StreetDirection"), |v, o| str(o, v.grid_suffix());
    "StreetSuffix" One("StreetSuffix"), |v, o| match v.street() {
        Street::Grid(_) => str(o, ""),
        Street::Named(_, suffix) => str(o, suffix),
    };
    "Appliances" Many("Appliances"), |v, o| v.features(o, &lk::APPLIANCES, 270, 6);
    "ArchitecturalStyle" Many("ArchitecturalStyle"), |v, o| str(o, v.style());
    "AssociationAmenities" Many("AssociationAmenities"), |v, o| if v.home.dues == 0 {
        str(o, "");
    } else {
        many(o, v.home.roll(271), &lk::AMENITIES, 1, 6);
    };
    "Basement" Many("Basement"), |v, o| v.features(o, &lk::BASEMENT, 272, 2);
    "ConstructionMaterials" Many("ConstructionMaterials"), |v, o|
        v.features(o, &lk::CONSTRUCTION, 273, 3);
    "Cooling" Many("Cooling"), |v, o| v.features(o, &lk::COOLING, 274, 2);
    "ExteriorFeatures" Many("ExteriorFeatures"), |v, o| v.features(o, &lk::EXTERIOR, 275, 6);
    "Flooring" Many("Flooring"), |v, o| v.features(o, &lk::FLOORING, 276, 4);
    "Heating" Many("Heating"), |v, o| v.features(o, &lk::HEATING, 277, 3);
    "InteriorFeatures" Many("InteriorFeatures"), |v, o|
        v.features(o, &lk::INTERIOR, 1_000 + u64::from(v.listing.features), 8);
    "ListingTerms" Many("ListingTerms"), |v, o| many(o, v.home.roll(279), &lk::TERMS, 2, 6);
    "LotFeatures" Many("LotFeatures"), |v, o| many(o, v.home.roll(280), &lk::LOT, 2, 7);
    "ParkingFeatures" Many("ParkingFeatures"), |v, o| v.features(o, &lk::PARKING, 281, 3);
    "PropertyCondition" Many("PropertyCondition"), |v, o| v.built(o, |o, h|
        str(o, if h.year > 2025 { "Under Construction" } else { "Blt./Standing" }));
    "Roof" Many("Roof"), |v, o| v.features(o, &lk::ROOF, 282, 2);
    "Sewer" Many("Sewer"), |v, o| many(o, v.home.roll(283), &lk::SEWER, 1, 2);
    "Utilities" Many("Utilities"), |v, o| many(o, v.home.roll(284), &lk::UTILITIES, 2, 5);
    "View" Many("View"), |v, o| if v.home.draw(255, 2) > 0 { str(o, "") } else {
        many(o, v.home.roll(285), &lk::VIEW, 1, 3);
    };
    "WaterSource" Many("WaterSource"), |v, o| many(o, v.home.roll(286), &lk::WATER, 1, 3);
    "WindowFeatures" Many("WindowFeatures"), |v, o| v.features(o, &lk::WINDOWS, 287, 3);
    "BuyerFinancing" Many("BuyerFinancing"), |v, o| match v.listing.status {
        Status::Closed => many(o, v.home.roll(288), &lk::BUYER_FINANCING, 1, 1),
        _ => str(o, ""),
    };
    "SpecialListingConditions" Many("SpecialListingConditions"), |v, o|
        many(o, v.home.roll(289), &lk::CONDITIONS, 0, u32::from(below(v.home.roll(290), 20) == 0));
    "GeoLocation" Geo, |v, o| v.point(o);
}
