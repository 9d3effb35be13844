//! Names and phrases: people, offices, streets, subdivisions, and what listings say of themselves.

use crate::rng::{mix, pick, roll};
use crate::text::escaped;

pub(crate) static FIRST_NAMES: &[&str] = &[
    "Aaron",
    "Alisha",
    "Amber",
    "Andrea",
    "Angela",
    "Ben",
    "Brandon",
    "Brooke",
    "Bryce",
    "Camille",
    "Carlos",
    "Cassie",
    "Chad",
    "Cody",
    "Colby",
    "Dallin",
    "Dana",
    "Devin",
    "Emily",
    "Ethan",
    "Garrett",
    "Hailey",
    "Heather",
    "Jake",
    "Jared",
    "Jenna",
    "Jos\u{e9}",
    "Kaitlyn",
    "Kent",
    "Kimball",
    "Lance",
    "Lindsay",
    "Marcus",
    "Maria",
    "McKay",
    "Melanie",
    "Nate",
    "Olivia",
    "Parker",
    "Rachel",
    "Rulon",
    "Ryan",
    "Shauna",
    "Spencer",
    "Stephanie",
    "Tanner",
    "Tiffany",
    "Trevor",
    "Tyson",
    "Zo\u{eb}",
];

pub(crate) static LAST_NAMES: &[&str] = &[
    "Allred",
    "Anderson",
    "Barlow",
    "Beckstead",
    "Bench",
    "Christensen",
    "Clayton",
    "Covey",
    "Daines",
    "Eyring",
    "Fielding",
    "Garcia",
    "Gubler",
    "Hansen",
    "Hatch",
    "Holbrook",
    "Huntsman",
    "Ivie",
    "Jensen",
    "Johnson",
    "Jorgensen",
    "Kimball",
    "Larsen",
    "Leavitt",
    "Lund",
    "Mart\u{ed}nez",
    "Mecham",
    "Nelson",
    "Nielson",
    "O'Brien",
    "Olsen",
    "Packer",
    "Peterson",
    "Pratt",
    "Rasmussen",
    "Richins",
    "Sorensen",
    "Stewart",
    "Taylor",
    "Thatcher",
    "Tolman",
    "Vance",
    "Walker",
    "Whitaker",
    "Winder",
    "Young",
];

pub(crate) static OFFICE_NAMES: &[&str] = &[
    "Wasatch Peak Realty",
    "Beehive Homes Real Estate",
    "Red Rock Properties",
    "Summit & Vine",
    "Great Basin Brokers",
    "Cottonwood Realty Group",
    "Zion View Real Estate",
    "Deseret Home Team",
    "Lakeside Realty",
    "Canyon Gate Properties",
    "Timberline Real Estate, LLC",
    "Sego Lily Realty",
    "High Desert Homes",
    "Copperfield Real Estate",
    "Mountain West Living",
    "Silver Spur Realty",
    "Golden Spike Realtors",
    "Aspen Grove Properties",
    "Skyline \"Select\" Realty",
    "Juniper & Co.",
];

pub(crate) static STREET_NAMES: &[&str] = &[
    "MAPLE HOLLOW",
    "WASATCH",
    "CANYON VIEW",
    "ELK RIDGE",
    "SPRING CREEK",
    "FOOTHILL",
    "QUAIL RUN",
    "ASPEN",
    "RIVER OAKS",
    "SUNRISE",
    "OLD FARM",
    "HIDDEN VALLEY",
    "PIONEER",
    "COPPER STONE",
    "LAKE VISTA",
    "BRIDLE PATH",
    "SADDLEBACK",
    "EAGLE CREST",
    "RED CLIFFS",
    "TUSCANY",
    "STONEBRIDGE",
    "HARVEST MOON",
    "BEAR HOLLOW",
    "SNOW CANYON",
    "MEADOW LARK",
    "TIMPANOGOS",
];

pub(crate) static SUBDIVISIONS: &[&str] = &[
    "DAYBREAK",
    "TRAVERSE MOUNTAIN",
    "ROSECREST",
    "SUNCREST",
    "HARVEST HILLS",
    "STONE CREEK",
    "EASTLAKE",
    "THE RANCHES",
    "IVORY RIDGE",
    "SIENNA HILLS",
    "COPPER CREEK",
    "JORDAN HEIGHTS",
    "SILVER LAKE",
    "COUNTRY CROSSING",
    "PHEASANT BROOK",
    "WILLOW CREEK",
    "OLYMPUS COVE",
    "SPRING POINTE",
    "CEDAR CORNERS",
    "VILLAGES AT ARROWHEAD",
    "FOX HOLLOW",
    "LEXINGTON GREEN",
];

pub(crate) static ZONINGS: &[&str] = &[
    "R-1", "R-1-7", "R-1-8", "R-1-10", "R-2", "RM", "PUD", "A-1", "RR-5", "MU",
];

pub(crate) static INCLUSIONS: &[&str] = &[
    "Ceiling Fan; Microwave; Range; Refrigerator; Window Coverings",
    "Dryer; Microwave; Range; Range Hood; Refrigerator; Washer; Water Softener: Own",
    "Ceiling Fan; Range; Storage Shed(s); Window Coverings",
    "Microwave; Range; Play Gym; Swing Set; Workbench; Video Door Bell(s); Smart Thermostat(s)",
    "Hot Tub; Microwave; Range; Refrigerator; Projector; Window Coverings",
];

static OPENINGS: &[&str] = &[
    "Welcome home to this beautifully kept residence in the heart of the city.",
    "Don't miss this rare opportunity on a quiet, tree-lined street!",
    "Stunning mountain views from nearly every room.",
    "Move-in ready and better than new, with upgrades everywhere you look.",
    "Charming bungalow full of character, updated from top to bottom.",
    "Spacious, light and bright: this one checks every box.",
    "Built by an award-winning local builder and loved by its only owners.",
    "Investors and first-time buyers, take note: this one is priced to sell.",
    "A true entertainer's dream on one of the best lots of the neighborhood.",
    "Single-level living at its finest, with no steps from garage to kitchen.",
];

static MIDDLES: &[&str] = &[
    "The open kitchen offers quartz countertops, a gas range, double ovens and a walk-in pantry.",
    "Chef's kitchen with a 10' island, soft-close cabinets and new stainless appliances.",
    "Vaulted great room with a stone fireplace and 2\" faux-wood blinds throughout.",
    "The primary suite has a separate tub and shower, double vanity and a large walk-in closet.",
    "Fully finished basement with a theater room, cold storage and a second laundry.",
    "Mother-in-law apartment downstairs with a private entrance: live in one, rent the other.",
    "New roof, furnace and central air in the last two years; water heater is newer still.",
    "Fully fenced yard with mature fruit trees, garden boxes and automatic sprinklers.",
    "Covered deck, fire pit and hot tub make the back yard an oasis in every season.",
    "RV parking, a three-car garage with 8-foot doors and room for all the toys.",
    "Minutes to skiing, hiking, shopping and freeway access; 25 minutes to the airport.",
    "Walk to schools, parks and the trail; the community pool opens in May.",
    "Solar panels are paid in full, and the average power bill is under $15 a month.",
    "Hardwood floors, plantation shutters and 9' ceilings on the main level.",
    "Fiber internet, a dedicated office with French doors, and a smart thermostat.",
    "Extra deep lot backing open space, so no rear neighbors \u{2014} just deer and quail.",
    "Water shares included; animal rights and a small barn for horses or 4-H projects.",
];

static CLOSINGS: &[&str] = &[
    "Square footage figures are provided as a courtesy estimate only; buyer to verify all.",
    "Showings by appointment, easy to show. Bring all offers!",
    "Seller is a licensed agent in the State of Utah.",
    "HOA covers snow removal and front yard care. See it before it's gone!",
    "Ask about the preferred lender's 1% rate buy-down. Agents: see private remarks.",
    "Buyer and buyer's agent to verify all information, including schools and zoning.",
];

static NEWS: &[&str] = &[
    "PRICE IMPROVEMENT! ",
    "Back on market, no fault of the home. ",
    "Open house this Saturday! ",
    "Multiple offers received, deadline Sunday 6 p.m. ",
    "Seller says bring an offer! ",
    "NEW carpet and paint! ",
    "Reduced for a quick sale: ",
];

/// Appends a listing's remarks of 300-600 characters, as they stand in a JSON string.
///
/// Every edit replaces the news at the start and one of the sentences.
pub(crate) fn remarks(out: &mut Vec<u8>, seed: u64, edit: u16) {
    if edit > 0 {
        escaped(out, pick(mix(seed ^ u64::from(edit)), NEWS));
    }
    escaped(out, pick(roll(seed, 1), OPENINGS));
    let sentences = 3 + roll(seed, 2) % 2;
    let mut at = roll(seed, 3) + u64::from(edit);
    for nth in 0..sentences {
        out.push(b' ');
        // Four steps together are less than once around, so that none comes twice.
        at = at.wrapping_add(1 + roll(seed, 5 + nth) % (MIDDLES.len() as u64 / 5));
        let index = usize::try_from(at % MIDDLES.len() as u64).unwrap_or(0);
        escaped(out, MIDDLES.get(index).copied().unwrap_or_default());
    }
    out.push(b' ');
    escaped(out, pick(roll(seed, 4), CLOSINGS));
}

/// Appends how to get there, as it stands in a JSON string.
pub(crate) fn directions(out: &mut Vec<u8>, seed: u64, edit: u16) {
    static FROM: &[&str] = &[
        "From I-15",
        "From Redwood Road",
        "From Bangerter Hwy",
        "From Main",
    ];
    static THEN: &[&str] = &[
        " head east",
        " go west",
        ", exit and turn south",
        " follow the signs north",
    ];
    static LAST: &[&str] = &[
        "; home on the left.",
        "; third home on the right.",
        " to the cul-de-sac.",
        ".",
    ];
    escaped(out, pick(roll(seed, 11), FROM));
    escaped(out, pick(roll(seed, 12), THEN));
    if edit > 0 {
        escaped(out, ", past the church, ");
        crate::text::int(out, u64::from(edit) + 1);
        escaped(out, " blocks");
    }
    escaped(out, pick(roll(seed, 13), LAST));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_are_of_the_stated_length_and_edits_show() {
        let (mut min, mut max) = (usize::MAX, 0);
        for seed in 0..2_000 {
            for edit in 0..3 {
                let text = crate::text::string(|out| remarks(out, seed, edit));
                min = min.min(text.len());
                max = max.max(text.len());
                let next = crate::text::string(|out| remarks(out, seed, edit + 1));
                assert_ne!(text, next);
            }
        }
        assert!(min >= 290 && max <= 640, "{min}..{max}");
    }
}
