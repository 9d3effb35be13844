//! Points made of two fields, and the boxes that planners look into.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use relist::odata::{GeoField, Predicate, Query, Row};
use relist::schema::{Field, FieldId, FieldType, Resource, Schema};
use relist::value::{Decimal, GeoPoint, Value};

use super::cases;
use super::sample::now;

fn schema(fields: &[(&str, FieldType)]) -> Schema {
    let fields = fields.iter().map(|(name, ty)| Field {
        name: (*name).to_owned(),
        ty: ty.clone(),
        declared: true,
    });
    Schema {
        resources: vec![Resource {
            name: "Property".to_owned(),
            key_field: "ListingKey".to_owned(),
            declared: true,
            fields: fields.collect(),
            navigation: Vec::new(),
        }],
        enums: Vec::new(),
    }
}

fn pair() -> Schema {
    schema(&[
        ("ListingKey", FieldType::String),
        ("Latitude", FieldType::Decimal),
        ("Longitude", FieldType::Decimal),
        ("MapLatitude", FieldType::Decimal),
        ("MapLongitude", FieldType::Decimal),
    ])
}

/// A place in both forms: `Latitude` and `Longitude`.
struct Place(Option<Value<'static>>, Option<Value<'static>>);

impl Row for Place {
    fn value(&self, field: FieldId) -> Option<Value<'_>> {
        match field.0 {
            1 => self.0.clone(),
            2 => self.1.clone(),
            _ => None,
        }
    }
}

fn number(text: &str) -> Option<Value<'static>> {
    Some(Value::Decimal(Decimal::parse(text).unwrap()))
}

fn filter(text: &str) -> Predicate {
    let query = Query::new("Property").filter(text).unwrap();
    let bound = query.bind(&pair(), now());
    bound
        .unwrap_or_else(|e| panic!("{text}: {e:?}"))
        .predicate
        .unwrap()
}

#[test]
fn a_latitude_and_a_longitude_are_a_point() {
    let mile = filter("geo.distance(Coordinates,geography'SRID=3956;POINT(-111.9 40.7)') le 1");
    let metres = filter("geo.distance(geography'POINT(-111.9 40.7)',Coordinates) lt 1609");
    let area = filter(
        "geo.intersects(Coordinates,geography'POLYGON((-112 40,-111 40,-111 41,-112 41,-112 40))')",
    );
    for (latitude, longitude, near) in [
        (number("40.7"), number("-111.9"), Some(true)),
        // 0.0144 degrees of latitude are just under a mile, 0.015 just over.
        (number("40.7144"), number("-111.9"), Some(true)),
        (number("40.715"), number("-111.9"), Some(false)),
        (Some(Value::Int(40)), Some(Value::Int(-112)), Some(false)),
        (None, number("-111.9"), None),
        (number("40.7"), Some(Value::Null), None),
        (number("140.7"), number("-111.9"), None),
        (number("40.7"), Some(Value::str("west")), None),
    ] {
        let row = Place(latitude, longitude);
        let known = near.is_some();
        assert_eq!(mile.matches(&row), near == Some(true));
        assert_eq!(metres.matches(&row), near == Some(true));
        assert_eq!(area.test(&row), known.then_some(true));
    }
    // A named pair instead; a schema with a point has no pair; no pair at all.
    let text = "geo.distance(Coordinates,geography'POINT(-111.9 40.7)') le 1";
    let query = Query::new("Property").filter(text).unwrap();
    let named = query.clone().coordinates("MapLatitude", "MapLongitude");
    let bound = named.bind(&pair(), now()).unwrap().predicate.unwrap();
    let found = bound.geo_box().unwrap().field;
    let (latitude, longitude) = (FieldId(3), FieldId(4));
    assert_eq!(
        found,
        GeoField::Pair {
            latitude,
            longitude
        }
    );
    let wrong = query.clone().coordinates("MapLatitud", "MapLongitude");
    let error = wrong.bind(&pair(), now()).unwrap_err().to_string();
    assert!(error.contains("did you mean MapLatitude?"), "{error}");
    let pointed = schema(&[
        ("Latitude", FieldType::Decimal),
        ("Longitude", FieldType::Decimal),
        ("GeoLocation", FieldType::GeoPoint),
    ]);
    for (schema, hint) in [
        (pointed, "write GeoLocation"),
        (schema(&[]), "stands for the fields"),
    ] {
        let error = query.bind(&schema, now()).unwrap_err();
        let relist::error::Error::Query(error) = error else {
            panic!("{error:?}");
        };
        assert!(error.hint.unwrap().contains(hint));
    }
}

#[test]
fn boxes_are_of_the_conditions_that_must_hold() {
    let near = "geo.distance(Coordinates,geography'POINT(-111.9 40.7)') le 1000";
    let area = "geo.intersects(Coordinates,geography'POLYGON((-112 40,-111 40,-111 41,-112 41))')";
    let found = filter(&format!("ListingKey ne null and ({near} and {area})"))
        .geo_box()
        .unwrap();
    // A kilometre is about 0.009 degrees of latitude and 0.0119 of longitude here.
    let reach = |low: f64, high: f64, wanted: f64| ((high - low) / 2.0 - wanted).abs() < 1e-4;
    assert!(
        reach(found.least.latitude, found.greatest.latitude, 0.008_99),
        "{found:?}"
    );
    assert!(
        reach(found.least.longitude, found.greatest.longitude, 0.011_86),
        "{found:?}"
    );
    for none in [
        &format!("not ({near})"),
        &format!("{near} or {area}"),
        "geo.distance(Coordinates,geography'POINT(1 2)') gt 5",
        "geo.distance(Coordinates,Coordinates) le 5",
        "ListingKey eq 'x'",
    ] {
        assert_eq!(filter(none).geo_box(), None, "{none}");
    }
    assert_eq!(
        filter(&format!(
            "5000 ge geo.distance(Coordinates,geography'POINT(1 2)') and {near}"
        ))
        .conjuncts()
        .len(),
        0
    );
}

/// Places around the globe, with those where boxes go wrong: poles, the date line, the centre
/// itself, and points just within the distance, in every direction.
#[test]
fn no_box_is_too_small() {
    let degrees = |limit: f64| {
        prop_oneof![
            4 => -limit..=limit,
            1 => Just(limit),
            1 => Just(-limit),
            1 => Just(0.0),
            2 => limit - 1e-3..=limit,
        ]
    };
    let centre = (degrees(180.0), degrees(90.0));
    let reach = prop_oneof![
        Just(0.0),
        1e-6..1e-3,
        1e-3..1.0,
        1.0..1e3,
        1e3..1e5,
        1e5..1e7,
        1e6..2.1e7,
    ];
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(cases())
    };
    let strategy = (
        centre,
        reach,
        0.0..360.0_f64,
        0.9..1.000_001_f64,
        any::<bool>(),
    );
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&strategy, |((lon, lat), reach, bearing, share, miles)| {
        let (lon, lat) = (round(lon), round(lat));
        let (srid, radius) = if miles {
            ("SRID=3956;", 3_956.0)
        } else {
            ("", 6_371_008.8)
        };
        let reach = if miles { reach / 1_609.0 } else { reach };
        let text =
            format!("geo.distance(Coordinates,geography'{srid}POINT({lon} {lat})') le {reach:.9}");
        let predicate = filter(&text);
        let found = predicate.geo_box().unwrap();
        // A point at that bearing and distance, by the formula of the destination.
        let angle = reach * share / radius;
        let (lat1, lon1, way) = (lat.to_radians(), lon.to_radians(), bearing.to_radians());
        let sine = lat1.sin() * angle.cos() + lat1.cos() * angle.sin() * way.cos();
        let lat2 = sine.clamp(-1.0, 1.0).asin();
        let turn =
            (way.sin() * angle.sin() * lat1.cos()).atan2(angle.cos() - lat1.sin() * lat2.sin());
        let mut lon2 = (lon1 + turn).to_degrees();
        lon2 -= 360.0 * (lon2 / 360.0).round();
        let (lat2, lon2) = (round(lat2.to_degrees()), round(lon2));
        for (lat, lon) in [
            (lat2, lon2),
            (lat, lon),
            (90.0, lon2),
            (lat2, -180.0),
            (lat2, 180.0),
        ] {
            let row = Place(number(&format!("{lat:.12}")), number(&format!("{lon:.12}")));
            if predicate.matches(&row) {
                let point = GeoPoint {
                    longitude: lon,
                    latitude: lat,
                };
                prop_assert!(found.contains(point), "{text}: {point:?} not in {found:?}");
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
    let ring = prop::collection::vec((-5.0..5.0_f64, -5.0..5.0_f64), 3..7);
    let spot = (-6.0..6.0_f64, -6.0..6.0_f64);
    let outcome = runner.run(&(ring, spot), |(ring, (lon, lat))| {
        let corners: Vec<String> = ring.iter().map(|(x, y)| format!("{x} {y}")).collect();
        let predicate = filter(&format!(
            "geo.intersects(Coordinates,geography'POLYGON(({}))')",
            corners.join(",")
        ));
        let found = predicate.geo_box().unwrap();
        for (lon, lat) in ring.iter().copied().chain([(round(lon), round(lat))]) {
            let row = Place(number(&format!("{lat:.12}")), number(&format!("{lon:.12}")));
            if predicate.matches(&row) {
                let point = GeoPoint {
                    longitude: lon,
                    latitude: lat,
                };
                prop_assert!(found.contains(point), "{point:?} not in {found:?}");
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}

/// To twelve digits after the point, so that the decimal is the very same number.
fn round(degrees: f64) -> f64 {
    format!("{degrees:.12}").parse().unwrap()
}
