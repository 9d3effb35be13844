//! Indexes: what they are asked for, and that they follow every change.

use relist::odata::Query;
use relist::query::QueryContext;
use relist::store::{IndexKind, Snapshot, Store};
use relist::value::Timestamp;
use serde_json::{Value as Json, json};

use super::sample::{now, schema};

/// Listings, as they are sent.
fn listings(count: u32, price_of: impl Fn(u32) -> u32) -> Vec<Json> {
    let statuses = ["Active", "Pending", "Closed"];
    let listing = |n: u32| {
        json!({
            "ListingKey": format!("k{n:05}"),
            "StreetName": format!("{n} Old Mill Road"),
            "City": format!("City {}", n % 97),
            "StandardStatus": statuses[n as usize % 3],
            "ListPrice": price_of(n),
            "ModificationTimestamp": format!("2024-05-01T00:00:00.{:06}Z", n * 7_919 % 100_003),
        })
    };
    (0..count).map(listing).collect()
}

fn apply(store: &Store, at: i64, listings: &[Json]) {
    let mut txn = store.begin_write(Timestamp(at)).unwrap();
    txn.define(&schema()).unwrap();
    for page in listings.chunks(4_000) {
        let page = json!({"value": page}).to_string();
        txn.apply_page("Property", "page", page.as_bytes()).unwrap();
    }
    txn.commit().unwrap();
}

/// The keys of a query's rows and how they were found, asked twice: an index is used from then on.
fn asked(snapshot: &Snapshot, query: &Query) -> (Vec<String>, String) {
    let context = QueryContext::new(now());
    let keys = || {
        let found = snapshot.query(query, &context).unwrap();
        let keys = found
            .rows
            .iter()
            .map(|row| row.get("ListingKey").unwrap().to_string());
        (keys.collect::<Vec<String>>(), found.explain.to_string())
    };
    let (first, _) = keys();
    let (again, explain) = keys();
    assert_eq!(first, again);
    (again, explain)
}

fn keys_of<'l>(listings: impl Iterator<Item = &'l Json>) -> Vec<String> {
    listings.map(|l| l["ListingKey"].to_string()).collect()
}

fn filter(text: &str) -> Query {
    Query::new("Property").filter(text).unwrap()
}

fn price(listing: &Json) -> u64 {
    listing["ListPrice"].as_u64().unwrap()
}

#[test]
fn an_index_finds_what_a_scan_finds_and_follows_changes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path().join("s.redb"), Timestamp(0)).unwrap();
    let mut held = listings(20_000, |n| n * 37 % 1_009 * 1_000);
    apply(&store, 1, &held);
    for round in 0..3_u32 {
        let snapshot = store.snapshot().unwrap();
        let (found, explain) = asked(
            &snapshot,
            &filter("City eq 'City 13' and ListPrice ge 200000 and ListPrice lt 300000"),
        );
        assert!(
            explain.contains("access    indexes on City, ListPrice, ListPrice"),
            "{explain}"
        );
        let passing = held.iter().filter(|l| l["City"] == "City 13");
        assert_eq!(
            found,
            keys_of(passing.filter(|l| (200_000..300_000).contains(&price(l))))
        );

        let (found, explain) = asked(&snapshot, &filter("ListPrice eq 150000"));
        assert!(
            explain.contains("access    indexes on ListPrice;"),
            "{explain}"
        );
        assert_eq!(found, keys_of(held.iter().filter(|l| price(l) == 150_000)));

        let newest = Query::new("Property")
            .orderby("ModificationTimestamp desc")
            .unwrap()
            .top(25);
        let (found, explain) = asked(&snapshot, &newest);
        assert!(
            explain.contains("sort      the first 25 by the index on ModificationTimestamp"),
            "{explain}"
        );
        let mut sorted: Vec<&Json> = held.iter().collect();
        sorted.sort_by_key(|l| std::cmp::Reverse(l["ModificationTimestamp"].to_string()));
        assert_eq!(found, keys_of(sorted.into_iter().take(25)));

        // Another price for one in four, and another stamp.
        held = listings(20_000, |n| {
            (n + n % 4 / 3 * (round + 1) * 11) * 37 % 1_009 * 1_000
        });
        for (listing, n) in held.iter_mut().zip(0_u32..).filter(|(_, n)| n % 4 == 3) {
            let stamp = n * 7_919 % 100_003;
            listing["ModificationTimestamp"] = json!(format!("2024-05-02T00:00:00.{stamp:06}Z"));
        }
        apply(&store, 2 + i64::from(round), &held);
    }
    assert!(store.snapshot().unwrap().verify().unwrap().is_clean());
}

#[test]
fn texts_that_do_not_repeat_are_found_by_equality() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path().join("s.redb"), Timestamp(0)).unwrap();
    apply(&store, 1, &listings(9_000, |n| n));
    let query = filter("StreetName eq '8517 Old Mill Road'");
    let (_, explain) = asked(&store.snapshot().unwrap(), &query);
    assert!(explain.contains("access    columns of"), "{explain}");

    let mut txn = store.begin_write(Timestamp(2)).unwrap();
    assert!(txn.set_index("Property", "StreetName", true).unwrap());
    assert!(!txn.set_index("Property", "StreetName", true).unwrap());
    assert!(
        !txn.set_index("Property", "City", true).unwrap(),
        "there by default"
    );
    assert!(txn.set_index("Property", "City", false).unwrap());
    let unknown = txn.set_index("Property", "Town", true).unwrap_err();
    assert!(
        unknown.to_string().contains("Property has no field Town"),
        "{unknown}"
    );
    assert!(txn.set_index("Proberty", "City", true).is_err());
    txn.commit().unwrap();

    let snapshot = store.snapshot().unwrap();
    let (found, explain) = asked(&snapshot, &query);
    assert!(
        explain.contains("access    indexes on StreetName;"),
        "{explain}"
    );
    assert!(explain.contains("examined  1\n"), "{explain}");
    assert_eq!(found, ["\"k08517\""]);
    let (found, _) = asked(&snapshot, &filter("StreetName eq '8517 Old Mill'"));
    assert_eq!(found, [""; 0]);
    let (_, explain) = asked(&snapshot, &filter("City eq 'City 5'"));
    assert!(explain.contains("access    columns of"), "{explain}");

    let indexes = snapshot.indexes("Property").unwrap();
    let named = |name: &str| indexes.iter().find(|index| index.name == name);
    assert!(named("City").is_none());
    assert!(!named("ListPrice").unwrap().declared);
    let street = named("StreetName").unwrap();
    assert!(street.declared);
    let kind = |field| snapshot.index_kind("Property", field).unwrap();
    assert_eq!(kind(street.field), IndexKind::Texts);
    assert_eq!(kind(named("ListPrice").unwrap().field), IndexKind::Numbers);
    assert_eq!(
        kind(named("StandardStatus").unwrap().field),
        IndexKind::Codes
    );
}

/// Whether a name passes.
type Test = fn(&str) -> bool;

#[test]
fn a_large_dictionary_is_asked_as_it_is_met() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path().join("s.redb"), Timestamp(0)).unwrap();
    let mut held = listings(17_000, |n| n);
    for (listing, n) in held.iter_mut().zip(0_u32..) {
        listing["StreetName"] = json!(format!("{} Mill", n * 31 % 3_001));
        let (east, north) = (n * 7 % 2_503, n * 11 % 2_251);
        let point = [
            -112.0 + f64::from(east) / 10_000.0,
            40.5 + f64::from(north) / 10_000.0,
        ];
        listing["GeoLocation"] = json!({"type": "Point", "coordinates": point});
    }
    apply(&store, 1, &held);
    let snapshot = store.snapshot().unwrap();
    let name = |l: &Json| l["StreetName"].as_str().unwrap().to_owned();
    let tests: [(&str, Test); 5] = [
        ("contains(StreetName,'77')", |n| n.contains("77")),
        ("startswith(StreetName,'29')", |n| n.starts_with("29")),
        ("StreetName eq '1234 Mill'", |n| n == "1234 Mill"),
        ("StreetName ne '1234 Mill'", |n| n != "1234 Mill"),
        ("endswith(StreetName,'5 Mill')", |n| n.ends_with("5 Mill")),
    ];
    for (text, passes) in tests {
        let (found, _) = asked(&snapshot, &filter(text));
        assert_eq!(
            found,
            keys_of(held.iter().filter(|l| passes(&name(l)))),
            "{text}"
        );
    }
    for (unit, radius, distance) in [("SRID=3956;", 3_956.0, 2.5), ("", 6_371_008.8, 4_000.0)] {
        let text =
            format!("geo.distance(GeoLocation,geography'{unit}POINT(-111.9 40.6)') le {distance}");
        let (found, _) = asked(&snapshot, &filter(&text));
        let inside = held.iter().filter(|l| {
            let at = |n: usize| {
                l["GeoLocation"]["coordinates"][n]
                    .as_f64()
                    .unwrap()
                    .to_radians()
            };
            let (east, north) = (at(0), at(1));
            let (lon, lat) = (-111.9_f64.to_radians(), 40.6_f64.to_radians());
            let cosine = lat.sin() * north.sin() + lat.cos() * north.cos() * (east - lon).cos();
            cosine.acos() * radius <= distance
        });
        let expected = keys_of(inside);
        assert!(expected.len() > 100);
        assert_eq!(found, expected, "{text}");
    }
}
