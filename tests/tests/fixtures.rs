//! Captured pages of three providers go in and come out without loss, and so does any entity.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;
use relist::keycode::Key;
use relist::store::{Operation, Outcome, RunReport};
use relist_tests::data;
use relist_tests::fresh::Fresh;
use relist_tests::json::Json;

/// A captured page, and the resource it is of.
struct Fixture {
    file: &'static str,
    resource: &'static str,
    /// The key of each record, without a schema and with that of WFRMLS, and the field that holds
    /// the key where the page gives it in `@odata.id` or a twin only.
    inferred: (&'static str, &'static [&'static str]),
    declared: (&'static str, &'static [&'static str]),
}

const FIXTURES: [Fixture; 6] = [
    Fixture {
        file: "wfrmls-property-select-page.json",
        resource: "Property",
        inferred: ("ListingKey", &["\"543141\"", "\"549289\"", "\"1622752\""]),
        declared: ("ListingKeyNumeric", &["543141", "549289", "1622752"]),
    },
    Fixture {
        file: "wfrmls-geo-page.json",
        resource: "Property",
        inferred: ("ListingKeyNumeric", &["1001613"]),
        declared: ("ListingKeyNumeric", &["1001613"]),
    },
    Fixture {
        file: "wfrmls-media-page.json",
        resource: "Media",
        inferred: ("MediaKey", MEDIA_KEYS),
        declared: ("MediaKey", MEDIA_KEYS),
    },
    Fixture {
        file: "wfrmls-openhouse-page.json",
        resource: "OpenHouse",
        inferred: ("OpenHouseKey", &["\"306227\""]),
        declared: ("OpenHouseKeyNumeric", &["306227"]),
    },
    Fixture {
        file: "bridge-actris_ref-property-shape.json",
        resource: "Property",
        inferred: ("ListingKey", &["\"4fa95bdcdd9bc990ebc0162e675da6e1\""]),
        declared: ("ListingKeyNumeric", &["107581297"]),
    },
    Fixture {
        file: "mred-property-anonymised.json",
        resource: "Property",
        inferred: ("ListingKey", &["\"11111\""]),
        declared: ("ListingKeyNumeric", &["11111"]),
    },
];

const MEDIA_KEYS: &[&str] = &[
    "\"1611952_050774e9ef920b479d8e37ff459daf14_2880536.jpg\"",
    "\"1611952_07fcb738e3bc6496ebeef1e03bce600c_2749934.jpg\"",
    "\"1611952_0d95fd7d205ec4674bc42b70d96011d9_2414957.jpg\"",
];

fn fixture(test: &str, file: &str) -> Option<String> {
    let bytes = data::read(test, &format!("fixtures/{file}"))?;
    Some(String::from_utf8(bytes).unwrap())
}

fn metadata(test: &str) -> Option<Vec<u8>> {
    data::read(test, "wfrmls-metadata.xml")
}

/// What must come out: the fields that went in, and the key where it was not among them.
fn expected(page: &str, key: (&str, &[&str])) -> BTreeMap<String, BTreeMap<String, Json>> {
    let page = Json::parse(page);
    let entities = page.members()["value"].items();
    assert_eq!(entities.len(), key.1.len());
    let mut out = BTreeMap::new();
    for (entity, text) in entities.iter().zip(key.1) {
        let mut fields = entity.fields();
        assert!(!fields.is_empty());
        fields
            .entry(key.0.to_owned())
            .or_insert_with(|| Json::parse(text));
        out.insert((*text).trim_matches('"').to_owned(), fields);
    }
    out
}

/// What comes out, by key.
fn found(fresh: &Fresh, resource: &str) -> BTreeMap<String, BTreeMap<String, Json>> {
    let records = fresh.records(resource).into_iter();
    let record =
        |(key, json): (Key, String)| (key.to_string(), Json::parse(&json).members().clone());
    records.map(record).collect()
}

fn clean(report: &RunReport, records: u64) {
    assert_eq!(report.outcome, Outcome::Complete, "{report:?}");
    assert_eq!((report.records, report.inserted), (records, records));
}

#[test]
fn every_page_goes_in_without_loss() {
    let test = "every_page_goes_in_without_loss";
    let Some(metadata) = metadata(test) else {
        return;
    };
    for fixture in &FIXTURES {
        let Some(page) = self::fixture(test, fixture.file) else {
            return;
        };
        let stores = [
            (Fresh::new(), fixture.inferred),
            (Fresh::defined(&metadata), fixture.declared),
        ];
        for (fresh, key) in stores {
            let report = fresh.ingest(fixture.resource, &[(fixture.file, &page)], 1);
            clean(&report, key.1.len() as u64);
            let out = found(&fresh, fixture.resource);
            assert_eq!(out, expected(&page, key), "{}", fixture.file);
            fresh.verify();

            // As NDJSON it goes on to another store, and back to this one, where it is no news.
            let records = fresh.records(fixture.resource);
            let lines: Vec<String> = records.into_iter().map(|(_, json)| json).collect();
            let lines = lines.join("\n");
            let again = fresh.ingest(fixture.resource, &[("out.ndjson", &lines)], 2);
            assert_eq!((again.applied(), again.quarantined), (0, 0), "{again:?}");
            let other = Fresh::new();
            clean(
                &other.ingest(fixture.resource, &[("out.ndjson", &lines)], 1),
                key.1.len() as u64,
            );
            // By another key, where it has no schema and the records have two.
            let fields = |of: &BTreeMap<_, _>| of.values().cloned().collect::<Vec<_>>();
            let (mut theirs, mut ours) = (fields(&found(&other, fixture.resource)), fields(&out));
            for side in [&mut theirs, &mut ours] {
                side.sort_by_key(|record| format!("{record:?}"));
            }
            assert_eq!(theirs, ours, "{}", fixture.file);
        }
    }
}

#[test]
fn the_number_that_was_written_is_the_number_that_is_read() {
    let test = "the_number_that_was_written_is_the_number_that_is_read";
    let Some(page) = fixture(test, "wfrmls-property-select-page.json") else {
        return;
    };
    let fresh = Fresh::new();
    fresh.ingest("Property", &[("page", &page)], 1);
    let texts: Vec<String> = fresh.records("Property").into_iter().map(|r| r.1).collect();
    for price in ["222500.0", "265000.0", "450000.0"] {
        let member = format!("\"ListPrice\":{price},");
        assert!(texts.iter().any(|t| t.contains(&member)), "{texts:?}");
    }
}

#[test]
fn pages_of_three_providers_share_a_store() {
    let test = "pages_of_three_providers_share_a_store";
    let Some(metadata) = metadata(test) else {
        return;
    };
    let fresh = Fresh::defined(&metadata);
    let mut expected = BTreeMap::new();
    for (at, fixture) in (1..).zip(&FIXTURES) {
        let Some(page) = self::fixture(test, fixture.file) else {
            return;
        };
        let report = fresh.ingest(fixture.resource, &[(fixture.file, &page)], at);
        assert_eq!(report.outcome, Outcome::Complete);
        let of = expected
            .entry(fixture.resource)
            .or_insert_with(BTreeMap::new);
        of.extend(self::expected(&page, fixture.declared));
    }
    for (resource, records) in expected {
        assert_eq!(found(&fresh, resource), records, "{resource}");
    }
    // What WFRMLS does not declare is a field all the same, and its arrival is in the log.
    let snapshot = fresh.snapshot();
    let notes = snapshot.changes(0).unwrap().map(|c| c.unwrap().note);
    let notes: Vec<String> = notes.filter(|note| !note.is_empty()).collect();
    let has = |text: &str| notes.iter().any(|note| note.contains(text));
    assert!(has("MlgCanView added as Boolean"), "{notes:?}");
    assert!(
        has("BridgeModificationTimestamp added as DateTimeOffset"),
        "{notes:?}"
    );
    fresh.verify();
}

#[test]
fn values_that_do_not_fit_their_type_are_kept_and_told() {
    let test = "values_that_do_not_fit_their_type_are_kept_and_told";
    let (Some(metadata), Some(page)) = (
        metadata(test),
        fixture(test, "mred-property-anonymised.json"),
    ) else {
        return;
    };
    let fresh = Fresh::defined(&metadata);
    let report = fresh.ingest("Property", &[("mred", &page)], 1);
    // BathroomsTotalInteger is declared Int32, and MRED writes baths and half baths as 1.1.
    let misfit = report
        .misfits
        .iter()
        .find(|m| m.field == "BathroomsTotalInteger");
    let misfit = misfit.unwrap_or_else(|| panic!("{:?}", report.misfits));
    assert_eq!(
        (misfit.count, misfit.first.as_str()),
        (1, "mred record 0: 1.1")
    );
}

#[test]
fn the_deleted_page_deletes_what_was_there() {
    let test = "the_deleted_page_deletes_what_was_there";
    let (Some(metadata), Some(deleted), Some(page)) = (
        metadata(test),
        fixture(test, "wfrmls-deleted-page.json"),
        fixture(test, "wfrmls-openhouse-page.json"),
    ) else {
        return;
    };
    for (fresh, numeric) in [(Fresh::new(), false), (Fresh::defined(&metadata), true)] {
        let key = |n: i64| {
            if numeric {
                Key::Int(n)
            } else {
                Key::Str(n.to_string())
            }
        };
        // The captured open house, and as it would be with the keys that were deleted: one whose
        // stamp is older than its deletion, one that was changed after it.
        let with = |n: &str, stamp: &str| {
            page.replace("306227", n)
                .replace("2019-10-02T22:02:01Z", stamp)
        };
        let old = with("337211", "2020-07-01T00:00:00Z");
        let new = with("337269", "2020-07-30T08:55:08Z");
        let pages = [("a", &page), ("b", &old), ("c", &new)];
        clean(&fresh.ingest("OpenHouse", &pages, 1), 3);

        let report = fresh.ingest("Deleted", &[("deleted", &deleted)], 2);
        assert_eq!(report.outcome, Outcome::Complete);
        assert_eq!((report.deleted, report.deletes_ignored), (1, 1));
        let snapshot = fresh.snapshot();
        assert_eq!(snapshot.count("OpenHouse").unwrap(), 2);
        assert!(snapshot.get("OpenHouse", &key(337_211)).unwrap().is_none());
        let tombstones = snapshot.tombstones("OpenHouse").unwrap();
        assert_eq!(tombstones.len(), 1);
        assert_eq!(tombstones[0].0, key(337_211));
        let at = relist::value::DateTime::parse("2020-07-30T08:55:07Z").unwrap();
        assert_eq!(tombstones[0].1.source_time, at.to_timestamp());
        // Its history is kept whole.
        let history = snapshot.history("OpenHouse", &key(337_211)).unwrap();
        assert_eq!(history.len(), 1);
        let kept = Json::parse(&history[0].record.to_json(None));
        let went_in = &Json::parse(&old).members()["value"].items()[0].fields();
        assert_eq!(kept.members(), went_in);
        let last = snapshot.changes_of("OpenHouse", &key(337_211)).unwrap();
        assert_eq!(last.last().unwrap().operation, Operation::Delete);

        // The same page again is no news.
        let again = fresh.ingest("Deleted", &[("deleted", &deleted)], 3);
        assert_eq!((again.deleted, again.deletes_ignored), (0, 2));
        assert_eq!(fresh.snapshot().sequence(), snapshot.sequence());
        fresh.verify();
    }
}

#[test]
fn deletions_of_a_resource_that_is_not_there_are_kept_for_a_look() {
    let test = "deletions_of_a_resource_that_is_not_there_are_kept_for_a_look";
    let Some(deleted) = fixture(test, "wfrmls-deleted-page.json") else {
        return;
    };
    let fresh = Fresh::new();
    let report = fresh.ingest("Deleted", &[("deleted", &deleted)], 1);
    assert!(matches!(report.outcome, Outcome::Degraded(_)));
    assert_eq!((report.deleted, report.quarantined), (0, 2));
    let kept = fresh.snapshot().quarantined().unwrap();
    assert_eq!(kept.len(), 2);
    for one in &kept {
        assert!(
            one.reason.contains("no resource named \"OpenHouse\""),
            "{one:?}"
        );
        assert!(String::from_utf8_lossy(&one.raw).contains("\"primary_key\""));
    }
}

#[test]
fn a_page_of_something_else_is_kept_for_a_look() {
    let test = "a_page_of_something_else_is_kept_for_a_look";
    let (Some(metadata), Some(service)) = (
        metadata(test),
        fixture(test, "wfrmls-service-document.json"),
    ) else {
        return;
    };
    let error = r#"{"error":{"code":"404","message":"Resource not found"}}"#;
    for (fresh, known) in [(Fresh::new(), false), (Fresh::defined(&metadata), true)] {
        // A service document looks like a page of records without keys.
        let report = fresh.ingest(
            "Property",
            &[("service", service.as_str()), ("e", error)],
            1,
        );
        assert!(matches!(report.outcome, Outcome::Degraded(_)));
        assert_eq!((report.applied(), report.unchanged), (0, 0));
        let kept = fresh.snapshot().quarantined().unwrap();
        let of = |page: &str| -> Vec<_> { kept.iter().filter(|q| q.page == page).collect() };
        if known {
            assert_eq!((report.quarantined, of("service").len()), (13, 12));
            for (at, one) in (0..).zip(&of("service")) {
                assert!(one.record.is_some_and(|r| r < 12), "{at} {one:?}");
                assert_eq!(one.field.as_deref(), Some("ListingKeyNumeric"));
                assert_eq!(one.reason, "the key is missing");
            }
        } else {
            assert_eq!((report.quarantined, of("service").len()), (2, 1));
            let one = of("service")[0];
            assert_eq!(one.record, Some(0));
            assert!(
                one.reason.contains("no key field is known for Property"),
                "{one:?}"
            );
            assert_eq!(one.raw, service.as_bytes());
        }
        let one = of("e")[0];
        assert_eq!((one.record, one.field.as_deref()), (None, None));
        assert_eq!(
            one.reason,
            "is an error of the server: 404: Resource not found"
        );
        assert_eq!(one.raw, error.as_bytes());
        fresh.verify();
    }
}

/// Every type that a field can be declared with.
const TYPES: [(&str, &str); 14] = [
    ("Bool", "Edm.Boolean"),
    ("Int", "Edm.Int32"),
    ("Long", "Edm.Int64"),
    ("Decimal", "Edm.Decimal"),
    ("Double", "Edm.Double"),
    ("Date", "Edm.Date"),
    ("DateTime", "Edm.DateTimeOffset"),
    ("Time", "Edm.TimeOfDay"),
    ("Guid", "Edm.Guid"),
    ("Text", "Edm.String"),
    ("Texts", "Collection(Edm.String)"),
    ("Lookup", "N.Lookup"),
    ("Flags", "N.Flags"),
    ("Point", "Edm.GeographyPoint"),
];

/// A `$metadata` with a resource `Thing` that has a field of each type.
fn things() -> String {
    let mut out = String::from(
        "<edmx:Edmx Version=\"4.0\" xmlns:edmx=\"http://docs.oasis-open.org/odata/ns/edmx\">\
         <edmx:DataServices><Schema Namespace=\"N\" \
         xmlns=\"http://docs.oasis-open.org/odata/ns/edm\">\
         <EnumType Name=\"Lookup\"><Member Name=\"Active\" Value=\"1\"/></EnumType>\
         <EnumType Name=\"Flags\" IsFlags=\"true\"><Member Name=\"Gas\" Value=\"1\"/>\
         <Member Name=\"Air\" Value=\"2\"/></EnumType><EntityType Name=\"Thing\">\
         <Key><PropertyRef Name=\"ThingKey\"/></Key>\
         <Property Name=\"ThingKey\" Type=\"Edm.String\"/>",
    );
    for (name, ty) in TYPES {
        let _ = write!(out, "<Property Name=\"{name}\" Type=\"{ty}\"/>");
    }
    out.push_str(
        "</EntityType><EntityContainer Name=\"C\">\
         <EntitySet Name=\"Thing\" EntityType=\"N.Thing\"/></EntityContainer></Schema>\
         </edmx:DataServices></edmx:Edmx>",
    );
    out
}

/// Numbers as feeds write them, and as no feed should.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (-1000_i32..1000).prop_map(|n| n.to_string()),
        "-?(0|[1-9][0-9]{0,45})(\\.[0-9]{1,45})?([eE][+-]?[0-9]{1,4})?",
        "(0|[1-9][0-9]{0,8})\\.0{1,4}",
        Just("-0".to_owned()),
        Just("-0.0".to_owned()),
        Just("1e400".to_owned()),
        Just("9007199254740993".to_owned()),
        Just("9223372036854775808".to_owned()),
        Just("-9223372036854775809".to_owned()),
        Just("1E+02".to_owned()),
    ]
}

/// Text of all scripts, and text that looks like another type, rightly or nearly so.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~]{0,40}",
        "[0-9]{4}-[01][0-9]-[0-3][0-9]",
        "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,12})?\
         ([Zz]|[+-][0-2][0-9]:[0-6][0-9]|)",
        "[0-2][0-9]:[0-6][0-9](:[0-6][0-9](\\.[0-9]{1,12})?)?",
        "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
        "(Active|Gas|Air|gas| Air)(,(Gas|Air| Gas|)){0,3}",
        "(true|false|null|-?[0-9]{1,25}(\\.[0-9]{1,5})?)",
        "POINT\\(-?[0-9]{1,3} -?[0-9]{1,3}\\)",
        Just(String::new()),
        Just("\u{0}\u{1f}\"\\/\u{7f}\u{2028}\u{feff}\u{10ffff}".to_owned()),
    ]
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        1 => Just(Json::Null),
        1 => any::<bool>().prop_map(Json::Bool),
        4 => number().prop_map(Json::Number),
        5 => text().prop_map(Json::String),
        1 => prop::collection::vec(text().prop_map(Json::String), 0..5).prop_map(Json::Array),
    ];
    leaf.prop_recursive(6, 30, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(Json::Object),
        ]
    })
}

/// Declared names, ordinary ones that come again, and any text: `@` marks control information.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(TYPES.to_vec()).prop_map(|(name, _)| name.to_owned()),
        4 => "[A-D]",
        1 => "[^@]{0,20}",
    ]
}

fn entity() -> impl Strategy<Value = BTreeMap<String, Json>> {
    prop::collection::btree_map(name(), json(), 0..20)
}

/// The text of a page whose records are written as another program may write them: with space
/// between the tokens, and any character as an escape.
fn written(entities: &[BTreeMap<String, Json>], noise: u64) -> String {
    let mut state = noise;
    let mut next = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let objects = entities.iter().map(|e| Json::Object(e.clone()).text());
    let plain = objects.collect::<Vec<_>>().join(",");
    let mut out = String::from("{\"value\":[");
    let mut in_string = false;
    // How many characters of an escape are left.
    let mut escape = 0;
    for c in plain.chars() {
        out.push(c);
        if !in_string {
            in_string = c == '"';
            if "{}[]:,".contains(c) && next(4) == 0 {
                out.push_str(["\n", " ", "\t", "\r\n  "][usize::try_from(next(4)).unwrap()]);
            }
        } else if escape > 0 {
            escape = if c == 'u' && escape == 1 {
                4
            } else {
                escape - 1
            };
        } else if c == '\\' {
            escape = 1;
        } else if c == '"' {
            in_string = false;
        } else if next(8) == 0 {
            out.pop();
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04X}");
            }
        }
    }
    out.push_str("]}");
    out
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_entity_comes_out_as_it_went_in(
        entities in prop::collection::vec(entity(), 1..24),
        noise in any::<u64>(),
        declared in any::<bool>(),
    ) {
        let fresh = if declared {
            Fresh::defined(things().as_bytes())
        } else {
            Fresh::new()
        };
        let mut entities = entities;
        for (at, entity) in entities.iter_mut().enumerate() {
            entity.insert("ThingKey".to_owned(), Json::String(format!("key {at}")));
        }
        let page = written(&entities, noise);
        let report = fresh.ingest("Thing", &[("page", &page)], 1);
        prop_assert_eq!(&report.outcome, &Outcome::Complete, "{}", page);
        prop_assert_eq!(report.inserted, entities.len() as u64);
        let found = found(&fresh, "Thing");
        for (at, entity) in entities.iter().enumerate() {
            prop_assert_eq!(&found[&format!("key {at}")], entity, "{}", page);
        }
        // What came out is the same to the store as what went in.
        let lines: Vec<String> = fresh.records("Thing").into_iter().map(|r| r.1).collect();
        let again = fresh.ingest("Thing", &[("again", lines.join("\n"))], 2);
        prop_assert_eq!((again.applied(), again.quarantined), (0, 0), "{}", page);
        fresh.verify();
    }
}
