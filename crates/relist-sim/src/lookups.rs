//! The lookups that the simulated feed uses, by their display names.
//!
//! The display names are those of WFRMLS. A member's name is its display name without anything
//! but letters and digits (`Gas: Central` is `GasCentral`, `> 4 Units` is `_4Units`), and where the
//! two differ `$metadata` carries the display name in an annotation.

use relist::schema::{EnumMember, EnumType};

/// The namespace of the feed's types, as in WFRMLS.
pub(crate) const NAMESPACE: &str = "Odata.Models";

/// One lookup.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// The enumeration type's name, without its namespace.
    pub(crate) name: &'static str,
    /// Whether a field may hold several members.
    pub(crate) flags: bool,
    /// The display names.
    pub(crate) displays: &'static [&'static str],
}

macro_rules! lookups {
    ($($id:ident $name:literal $flags:literal [$($display:literal)*];)*) => {
        $(pub(crate) static $id: Lookup =
            Lookup { name: $name, flags: $flags, displays: &[$($display),*] };)*
        /// All lookups but those that list places.
        pub(crate) static LOOKUPS: &[&Lookup] = &[$(&$id),*];
    };
}

lookups! {
    FEE_FREQUENCY "FeeFrequency" false ["Monthly" "Quarterly" "Annually"];
    COUNTRY "Country" false ["US"];
    STATE "StateOrProvince" false
        ["AK" "AZ" "CA" "CO" "FL" "HI" "ID" "MI" "NV" "UT" "WY"];
    DIRECTION_FACES "DirectionFaces" false
        ["North" "East" "South" "West" "Northeast" "Southeast" "Southwest" "Northwest"];
    LISTING_SERVICE "ListingService" false ["Full Service" "Limited Service" "Entry Only"];
    AREA_UNITS "AreaUnits" false ["Square Feet" "Square Meters"];
    LOT_SIZE_UNITS "LotSizeUnits" false ["Square Feet" "Square Meters" "Acres"];
    MLS_STATUS "Status" false
        ["Active" "Active T/C" "Under Contract" "Withdrawn" "Active - No Show" "Expired" "Backup"
         "Sold" "Cert of Occupancy" "Canceled" "Leased" "Withdrawn Unconditionally"];
    STANDARD_STATUS "StandardStatus" false
        ["Active" "Active Under Contract" "Withdrawn" "Canceled" "Expired" "Closed" "Pending"
         "Hold"];
    OCCUPANT "OccupantType" false
        ["Vacant" "Owner" "Tenant" "HUD Owned" "Fractional Ownership"];
    PROPERTY_TYPE "PropertyType" false
        ["Residential" "Farm" "Land" "Commercial Sale" "Commercial Lease"
         "Commercial Sale Commercial Lease" "Residential Lease"];
    PROPERTY_SUB_TYPE "PropertySubType" false
        ["Single Family Residence" "Condominium" "Townhouse" "Mobile Home" "Industrial"
         "Agriculture" "Multi Family" "Duplex" "Triplex" "Quadruplex" "Retail" "Hotel/Motel"
         "Office" "Twin" "Recreational" "Residential" "Commercial" "Other" "> 4 Units"];
    STREET_DIRECTION "StreetDirection" false ["N" "E" "S" "W" "NE" "SE" "SW" "NW"];
    STREET_SUFFIX "StreetSuffix" false
        ["DR" "LN" "ST" "AVE" "WAY" "RD" "CIR" "CT" "BLVD" "PL" "CV" "LOOP" "PKWY" "TRL"];
    AREA_SOURCE "AreaSource" false
        ["Appraiser" "Assessor" "Builder" "Estimated" "Other" "Owner" "Plans" "Public Records"
         "See Remarks"];
    YEAR_SOURCE "YearBuiltSource" false
        ["Appraiser" "Assessor" "Builder" "Estimated" "Other" "Owner" "Public Records"
         "See Remarks"];
    CONCESSIONS "Concessions" false ["Yes" "No"];
    OWNERSHIP "Ownership" false
        ["REO/Bank Owned" "HUD Owned" "Agent Owned" "Fractional Ownership"];
    APPLIANCES "Appliances" true
        ["Ceiling Fan" "Trash Compactor" "Portable Dishwasher" "Dryer" "Freezer"
         "Gas Grill/BBQ" "Microwave" "Range Hood" "Refrigerator" "Satellite Dish" "Washer"
         "Water Softener Owned" "See Remarks" "Range" "Disposal"];
    STYLE "ArchitecturalStyle" true
        ["Stories: 2" "A-Frame" "Bungalow/Cottage" "Cabin" "Manufactured" "Rambler/Ranch"
         "Split-Entry/Bi-Level" "Tri/Multi-Level" "Townhouse; Row-end" "Townhouse; Row-mid"
         "Condo; Main Level" "Condo; Top Level" "Tudor" "Victorian" "Patio Home"];
    AMENITIES "AssociationAmenities" true
        ["Other" "Barbecue" "Biking Trails" "Cable TV" "Clubhouse" "RV Parking"
         "Controlled Access" "Fire Pit" "Gated" "Golf Course" "Fitness Center" "Hiking Trails"
         "Insurance" "Maintenance" "Management" "Pet Rules" "Pets Permitted" "Picnic Area"
         "Playground" "Pool" "Sewer Paid" "Snow Removal" "Tennis Court(s)" "Trash" "Water"];
    BASEMENT "Basement" true
        ["None" "Daylight" "Entrance" "Full" "Partial" "Shelf" "Slab" "Walk-Out Access"
         "See Remarks"];
    CONSTRUCTION "ConstructionMaterials" true
        ["See Remarks" "Aluminum" "Asphalt" "Brick" "Cedar" "Cinder Block"
         "Clapboard/Masonite" "Composition" "Concrete" "Frame" "Log" "Stone" "Stucco"
         "Cement Siding" "Metal Siding"];
    COOLING "Cooling" true
        ["See Remarks" "Central Air" "Evaporative Cooling" "Heat Pump" "Window Unit(s)"
         "Active Solar" "Geothermal" "Natural Ventilation" "Seer 16 or higher"];
    EXTERIOR "ExteriorFeatures" true
        ["See Remarks" "Attic Fan" "Balcony" "Barn" "Basement Entrance" "Bay Box Windows"
         "Deck; Covered" "Double Pane Windows" "Entry (Foyer)" "Horse Property" "Lighting"
         "Out Buildings" "Patio: Covered" "Porch: Open" "Skylights" "Sliding Glass Doors"
         "Storm Doors" "Triple Pane Windows" "Walkout" "Patio: Open"];
    FLOORING "Flooring" true
        ["See Remarks" "Carpet" "Hardwood" "Laminate" "Linoleum" "Marble" "Stone" "Tile" "Slate"
         "Vinyl" "Bamboo" "Cork" "Travertine" "Concrete"];
    HEATING "Heating" true
        ["See Remarks" "Electric" "Forced Air" "Gas: Central" "Gas: Radiant" "Gas: Stove"
         "Heat Pump" "Hot Water" "Hydronic" "Propane" "Wood" ">= 95% efficiency"
         "Radiant Floor"];
    INTERIOR "InteriorFeatures" true
        ["See Remarks" "Accessory Apt" "Alarm: Fire" "Alarm: Security" "Bar: Dry" "Bar: Wet"
         "Basement Apartment" "Bath: Primary" "Bath: Sep. Tub/Shower" "Central Vacuum"
         "Closet: Walk-In" "Den/Office" "Dishwasher Built-In" "Disposal" "Floor Drains"
         "French Doors" "Gas Log" "Great Room" "Jetted Tub" "Kitchen: Second"
         "Kitchen: Updated" "Mother-in-Law Apt." "Oven: Double" "Oven: Gas" "Range/Oven: Built-In"
         "Vaulted Ceilings" "Granite Countertops" "Theater Room"];
    LAUNDRY "LaundryFeatures" true ["Electric Dryer Hookup" "Gas Dryer Hookup"];
    TERMS "ListingTerms" true
        ["See Remarks" "Assumable" "Cash" "Conventional" "Exchange" "FHA" "Lease Option"
         "Seller Finance" "VA Loan" "USDA Rural Development"];
    LOT "LotFeatures" true
        ["See Remarks" "Additional Land Available" "Corner Lot" "Cul-De-Sac" "Curb & Gutter"
         "Fenced: Full" "Fenced: Part" "Road: Paved" "Secluded" "Sidewalks"
         "Sprinkler: Auto-Full" "Sprinkler: Auto-Part" "Terrain Flat" "Terrain: Grad Slope"
         "Terrain: Hilly" "View: Lake" "View: Mountain" "View: Valley" "Wooded"
         "Near Golf Course" "Drip Irrigation: Auto-Part"];
    EQUIPMENT "OtherEquipment" true
        ["Alarm System" "Basketball Standard" "Dog Run" "Fireplace Insert" "Gazebo" "Hot Tub"
         "Humidifier" "Play Gym" "Storage Shed(s)" "Swing Set" "TV Antenna" "Window Coverings"
         "Wood Stove" "Workbench" "Trampoline"];
    PARKING "ParkingFeatures" true ["Covered" "Parking: Uncovered" "Secured" "Rv Parking"];
    PATIO "PatioAndPorchFeatures" true ["Covered" "Porch: Open" "Screened" "Patio: Open"];
    CONDITION "PropertyCondition" true ["Under Construction" "Blt./Standing"];
    ROOF "Roof" true
        ["See Remarks" "Aluminum" "Asphalt" "Composition" "Flat" "Metal" "Pitched" "Rubber"
         "Tar/Gravel" "Tile" "Wood" "Membrane"];
    SEWER "Sewer" true
        ["Sewer: Available" "Sewer: Connected" "None" "Sewer: Not Connected" "Sewer: Private"
         "Sewer: Public" "Septic Tank"];
    UTILITIES "Utilities" true
        ["See Remarks" "Natural Gas Available" "Natural Gas Connected" "Electricity Available"
         "Electricity Connected" "Sewer Available" "Sewer Connected" "Sewer: Public"
         "Sewer: Septic Tank" "Water Available" "Water Connected" "Gas: Stubbed"
         "Power: Stubbed" "Sewer: Stubbed"];
    VEGETATION "Vegetation" true
        ["See Remarks" "Fruit Trees" "Landscaping: Full" "Landscaping: Part" "Mature Trees"
         "Pines" "Scrub Oak" "Stream" "Terraced Yard" "Vegetable Garden" "Xeriscaped"];
    VIEW "View" true
        ["Lake" "Mountain(s)" "Valley" "View: Red Rock" "Trees/Woods" "Golf Course"];
    WATER "WaterSource" true
        ["See Remarks" "Culinary" "Irrigation" "Irrigation: Pressure" "Private" "Rights: Owned"
         "Secondary" "Shares" "Well"];
    WINDOWS "WindowFeatures" true
        ["See Remarks" "Blinds" "Drapes" "Full" "None" "Part" "Plantation Shutters" "Shades"];
    LEVELS "Levels" true ["Multi/Split" "One" "One and One Half" "Three Or More" "Two"];
    BUYER_FINANCING "BuyerFinancing" true
        ["Assumed" "Cash" "Conventional" "Exchange" "FHA" "Lease Option" "Other"
         "Seller Financing" "Utah Housing" "VA" "USDA"];
    CONDITIONS "SpecialListingConditions" true
        ["Short Sale" "Third Party Approval Required" "In Foreclosure" "In Probate" "Auction"];
    MEMBER_STATUS "MemberStatus" false ["Active" "Inactive"];
    MEMBER_TYPE "MemberType" false
        ["MLS Only Broker" "MLS Only Appraiser" "Full Service App" "MLS Only Salesperson"
         "Licensed Office Assistant"];
    OFFICE_STATUS "OfficeStatus" false ["Active" "Inactive"];
    OFFICE_BRANCH "OfficeBranchType" false ["Main" "Branch"];
    ATTENDED "Attended" false ["Agent" "Seller" "Unattended"];
    OPEN_HOUSE_STATUS "OpenHouseStatus" false ["Active" "Ended" "Canceled"];
    OPEN_HOUSE_TYPE "OpenHouseType" false ["Public" "Broker" "Office" "Virtual"];
    IMAGE_SIZE "ImageSizeDescription" false ["Small" "Medium" "Large" "X-Large" "Largest"];
    MEDIA_CATEGORY "MediaCategory" false ["Photo"];
    MEDIA_TYPE "MediaType" false ["Jpeg"];
    RESOURCE_NAME "ResourceName" false ["Property" "Member" "Office"];
    PERMISSION "Permission" true
        ["Public" "Private" "IDX" "VOW" "Office Only" "Firm Only" "Agent Only"];
}

impl Lookup {
    /// The lookup as an enumeration type.
    pub(crate) fn to_enum_type(&self) -> EnumType {
        enum_type(self.name, self.flags, self.displays.iter().copied())
    }
}

/// An enumeration type whose members are numbered in order: from 1, or by bit.
pub(crate) fn enum_type<'a>(
    name: &str,
    is_flags: bool,
    displays: impl Iterator<Item = &'a str>,
) -> EnumType {
    let members = displays.zip(0_u32..).map(|(display, at)| {
        let name = member_name(display);
        EnumMember {
            value: if is_flags { 1 << at } else { i64::from(at) + 1 },
            display: (name != display).then(|| display.to_owned()),
            name,
        }
    });
    EnumType {
        name: format!("{NAMESPACE}.{name}"),
        is_flags,
        members: members.collect(),
    }
}

/// A member's name: an identifier made of its display name.
fn member_name(display: &str) -> String {
    let mut name: String = display
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_distinct_identifiers_without_commas() {
        for lookup in LOOKUPS {
            let ty = lookup.to_enum_type();
            let mut names: Vec<&str> = ty.members.iter().map(|m| m.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), ty.members.len(), "{}", lookup.name);
            // A comma parts the members of a value, so none may hold one.
            assert!(
                lookup.displays.iter().all(|d| !d.contains(',')),
                "{}",
                lookup.name
            );
        }
        assert_eq!(member_name("> 4 Units"), "_4Units");
        assert_eq!(member_name("Gas: Central"), "GasCentral");
    }
}
