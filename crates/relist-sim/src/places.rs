//! Places of Utah: cities with their weight in the market, prices, schools and coordinates.

use relist::schema::EnumType;

use crate::lookups::enum_type;

/// A city.
#[derive(Debug)]
pub(crate) struct City {
    /// Its name, the display name of the lookup.
    pub(crate) name: &'static str,
    /// Its county.
    pub(crate) county: &'static str,
    /// Its commonest postal code.
    pub(crate) postal_code: &'static str,
    /// Listings of every 1,000.
    pub(crate) weight: u32,
    /// The price of a typical home, in thousands of dollars.
    pub(crate) typical: u32,
    /// Its centre, in millionths of a degree east.
    pub(crate) longitude: i32,
    /// Its centre, in millionths of a degree north.
    pub(crate) latitude: i32,
    /// Its school district.
    pub(crate) district: &'static str,
    /// Its high school.
    pub(crate) high: &'static str,
    /// Its association of REALTORS.
    pub(crate) association: &'static str,
    /// Its area in the MLS.
    pub(crate) area: &'static str,
}

macro_rules! cities {
    ($($name:literal $county:literal $zip:literal $weight:literal $typical:literal
       $lon:literal $lat:literal $district:literal $high:literal $aor:literal $area:literal;)*) => {
        /// The cities, the largest markets first.
        pub(crate) const CITIES: &[City] = &[$(City {
            name: $name, county: $county, postal_code: $zip, weight: $weight, typical: $typical,
            longitude: $lon, latitude: $lat, district: $district, high: $high,
            association: $aor, area: $area,
        }),*];
    };
}

cities! {
    "Salt Lake City" "Salt Lake" "84106" 150 585 -111_876_183 40_717_450
        "Salt Lake" "Highland" "Salt Lake Board" "SALT LAKE";
    "St. George" "Washington" "84790" 75 520 -113_568_420 37_095_280
        "Washington" "Desert Hills" "Washington County" "ST GEORGE";
    "Lehi" "Utah" "84043" 58 560 -111_850_770 40_391_620
        "Alpine" "Skyridge" "Utah County" "LEHI";
    "Saratoga Springs" "Utah" "84045" 50 535 -111_904_660 40_349_120
        "Alpine" "Westlake" "Utah County" "SARATOGA SPRINGS";
    "Herriman" "Salt Lake" "84096" 45 590 -112_033_000 40_514_110
        "Jordan" "Mountain Ridge" "Salt Lake Board" "SOUTH VALLEY";
    "Eagle Mountain" "Utah" "84005" 45 480 -112_006_880 40_314_120
        "Alpine" "Cedar Valley" "Utah County" "EAGLE MOUNTAIN";
    "West Valley City" "Salt Lake" "84120" 40 415 -112_001_050 40_691_610
        "Granite" "Hunter" "Salt Lake Board" "WEST VALLEY";
    "Sandy" "Salt Lake" "84092" 38 660 -111_859_720 40_564_980
        "Canyons" "Alta" "Salt Lake Board" "SANDY";
    "West Jordan" "Salt Lake" "84081" 36 500 -111_976_330 40_609_670
        "Jordan" "Copper Hills" "Salt Lake Board" "WEST JORDAN";
    "South Jordan" "Salt Lake" "84009" 34 640 -111_929_660 40_562_170
        "Jordan" "Bingham" "Salt Lake Board" "SOUTH JORDAN";
    "Draper" "Salt Lake" "84020" 30 760 -111_863_820 40_524_670
        "Canyons" "Corner Canyon" "Salt Lake Board" "DRAPER";
    "Park City" "Summit" "84060" 30 1850 -111_497_970 40_646_060
        "Park City" "Park City" "Park City" "PARK CITY";
    "Ogden" "Weber" "84403" 30 395 -111_970_090 41_223_000
        "Ogden" "Ogden" "Northern Wasatch" "OGDEN";
    "Layton" "Davis" "84041" 28 490 -111_971_050 41_060_220
        "Davis" "Layton" "Northern Wasatch" "LAYTON";
    "Provo" "Utah" "84604" 26 465 -111_658_530 40_233_840
        "Provo" "Timpview" "Utah County" "PROVO";
    "Orem" "Utah" "84057" 24 480 -111_694_650 40_296_900
        "Alpine" "Mountain View" "Utah County" "OREM";
    "Spanish Fork" "Utah" "84660" 22 500 -111_654_920 40_114_960
        "Nebo" "Maple Mountain" "Utah County" "SPANISH FORK";
    "Tooele" "Tooele" "84074" 22 420 -112_298_280 40_530_780
        "Tooele" "Stansbury" "Tooele County" "TOOELE";
    "Riverton" "Salt Lake" "84065" 20 585 -111_939_380 40_521_890
        "Jordan" "Riverton" "Salt Lake Board" "RIVERTON";
    "Washington" "Washington" "84780" 20 560 -113_508_290 37_130_540
        "Washington" "Pine View" "Washington County" "WASHINGTON";
    "Cedar City" "Iron" "84720" 18 410 -113_061_890 37_677_480
        "Iron" "Canyon View" "Iron County" "CEDAR CITY";
    "Heber City" "Wasatch" "84032" 17 840 -111_413_240 40_507_010
        "Wasatch" "Wasatch" "Wasatch County" "HEBER";
    "Murray" "Salt Lake" "84107" 15 525 -111_887_990 40_666_890
        "Murray" "Murray" "Salt Lake Board" "MURRAY";
    "Bountiful" "Davis" "84010" 15 610 -111_880_770 40_889_390
        "Davis" "Viewmont" "Northern Wasatch" "BOUNTIFUL";
    "Hurricane" "Washington" "84737" 15 495 -113_289_950 37_175_260
        "Washington" "Hurricane" "Washington County" "HURRICANE";
    "Cottonwood Heights" "Salt Lake" "84121" 14 735 -111_810_210 40_619_670
        "Canyons" "Brighton" "Salt Lake Board" "COTTONWOOD";
    "Millcreek" "Salt Lake" "84124" 14 640 -111_875_500 40_686_890
        "Granite" "Skyline" "Salt Lake Board" "MILLCREEK";
    "Syracuse" "Davis" "84075" 13 555 -112_064_670 41_089_390
        "Davis" "Syracuse" "Northern Wasatch" "SYRACUSE";
    "American Fork" "Utah" "84003" 12 520 -111_795_760 40_376_900
        "Alpine" "American Fork" "Utah County" "AMERICAN FORK";
    "Logan" "Cache" "84341" 12 420 -111_834_390 41_736_980
        "Logan" "Logan" "Cache Valley" "LOGAN";
    "Springville" "Utah" "84663" 11 470 -111_610_750 40_165_230
        "Nebo" "Springville" "Utah County" "SPRINGVILLE";
    "Taylorsville" "Salt Lake" "84129" 11 450 -111_938_830 40_667_720
        "Granite" "Taylorsville" "Salt Lake Board" "TAYLORSVILLE";
    "Kaysville" "Davis" "84037" 10 640 -111_938_550 41_035_220
        "Davis" "Davis" "Northern Wasatch" "KAYSVILLE";
    "Roy" "Weber" "84067" 9 400 -112_026_330 41_161_610
        "Weber" "Roy" "Northern Wasatch" "ROY";
    "Holladay" "Salt Lake" "84117" 9 920 -111_824_660 40_668_840
        "Granite" "Olympus" "Salt Lake Board" "HOLLADAY";
    "Clearfield" "Davis" "84015" 8 405 -112_026_050 41_110_780
        "Davis" "Clearfield" "Northern Wasatch" "CLEARFIELD";
    "Midvale" "Salt Lake" "84047" 8 440 -111_899_940 40_611_060
        "Canyons" "Hillcrest" "Salt Lake Board" "MIDVALE";
    "Magna" "Salt Lake" "84044" 7 405 -112_101_610 40_709_110
        "Granite" "Cyprus" "Salt Lake Board" "MAGNA";
    "Moab" "Grand" "84532" 7 590 -109_549_840 38_573_310
        "Grand" "Grand County" "Grand/San Juan" "MOAB";
    "Brigham City" "Box Elder" "84302" 7 385 -112_015_500 41_510_210
        "Box Elder" "Box Elder" "Brigham/Tremonton" "BRIGHAM CITY";
    "Vernal" "Uintah" "84078" 6 310 -109_528_750 40_455_520
        "Uintah" "Uintah" "Uintah Basin" "VERNAL";
    "Price" "Carbon" "84501" 4 265 -110_810_710 39_599_410
        "Carbon" "Carbon" "Carbon/Emery" "PRICE";
    "Richfield" "Sevier" "84701" 3 300 -112_084_090 38_772_470
        "Sevier" "Richfield" "Central Utah" "RICHFIELD";
    "Kanab" "Kane" "84741" 2 450 -112_526_310 37_047_500
        "Kane" "Kanab" "Washington County" "KANAB";
}

/// Elementary schools; a city's are picked by its place in the list of cities.
pub(crate) static ELEMENTARY: &[&str] = &[
    "Beacon Heights",
    "Indian Hills",
    "Uintah",
    "Emerson",
    "Dilworth",
    "Ensign",
    "Riverview",
    "Sunset",
    "Lakeview",
    "Foothill",
    "Cedar Ridge",
    "Silver Crest",
    "Oquirrh",
    "Rosamond",
    "Butterfield Canyon",
    "Snow Horse",
    "Harvest",
    "Desert Star",
    "Black Ridge",
    "Pony Express",
    "Eagle Valley",
    "Traverse Mountain",
    "Fox Hollow",
    "North Point",
    "Belmont",
    "Trailside",
    "Jeremy Ranch",
    "Old Mill",
    "Daniels Canyon",
    "Wasatch",
    "Canyon Crest",
    "Edgemont",
];

/// Middle schools.
pub(crate) static MIDDLE: &[&str] = &[
    "Hillside",
    "Clayton",
    "Bryant",
    "Willowcreek",
    "Viewpoint",
    "Vista Heights",
    "Frontier",
    "Copper Mountain",
    "South Hills",
    "Fort Herriman",
    "Draper Park",
    "Midvale Middle",
    "Treasure Mtn",
    "Ecker Hill",
    "Timpanogos",
    "Centennial",
    "Dixie",
    "Crimson View",
    "Legacy",
    "Fairfield",
    "North Davis",
    "Mount Logan",
    "Clarke N Johnsen",
    "Mapleton Jr",
];

/// The lookups that list places: City, PostalCity, CountyOrParish, School, District, AOR,
/// MLSAreaMajor.
pub(crate) fn place_lookups() -> Vec<EnumType> {
    let distinct = |name: &str, mut all: Vec<&'static str>| {
        all.sort_unstable();
        all.dedup();
        enum_type(name, false, all.into_iter())
    };
    let of = |field: fn(&City) -> &'static str| CITIES.iter().map(field).collect::<Vec<_>>();
    let mut schools = of(|c| c.high);
    schools.extend(ELEMENTARY.iter().chain(MIDDLE));
    vec![
        distinct("City", of(|c| c.name)),
        distinct("PostalCity", of(|c| c.name)),
        distinct("CountyOrParish", of(|c| c.county)),
        distinct("School", schools),
        distinct("District", of(|c| c.district)),
        distinct("AOR", of(|c| c.association)),
        distinct("MLSAreaMajor", of(|c| c.area)),
    ]
}

/// The city at `weight`, which is below [`total_weight`].
pub(crate) fn city_at(mut weight: u32) -> &'static City {
    for city in CITIES {
        if weight < city.weight {
            return city;
        }
        weight -= city.weight;
    }
    // Only a weight beyond the total gets here.
    CITIES.first().unwrap_or(&ELSEWHERE)
}

static ELSEWHERE: City = City {
    name: "Salt Lake City",
    county: "Salt Lake",
    postal_code: "84101",
    weight: 0,
    typical: 500,
    longitude: -111_891_000,
    latitude: 40_760_800,
    district: "Salt Lake",
    high: "West",
    association: "Salt Lake Board",
    area: "SALT LAKE",
};

/// The sum of the weights of all cities.
pub(crate) fn total_weight() -> u32 {
    const TOTAL: u32 = {
        let (mut at, mut sum) = (0, 0);
        while at < CITIES.len() {
            #[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
            let weight = CITIES[at].weight;
            sum += weight;
            at += 1;
        }
        sum
    };
    TOTAL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_city_is_in_utah_and_reachable() {
        for city in CITIES {
            assert!(
                (-114_100_000..-109_000_000).contains(&city.longitude),
                "{}",
                city.name
            );
            assert!(
                (36_990_000..42_010_000).contains(&city.latitude),
                "{}",
                city.name
            );
        }
        let mut seen: Vec<&str> = (0..total_weight()).map(|w| city_at(w).name).collect();
        seen.dedup();
        assert_eq!(seen.len(), CITIES.len());
    }
}
