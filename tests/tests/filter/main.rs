//! `$filter` and its kin: what is accepted, what it gives, and how errors point at their cause.
//!
//! The bound predicate must say of every entity what the reference evaluator says
//! (`RELIST_CASES` sets how many random pairs are tried); tables hold the cases worth reading.

mod generate;
mod index;
mod planner;
#[path = "../apply/random.rs"]
mod random;
mod sample;

use generate::{Bytes, entity, filter};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use relist::error::QueryError;
use relist::odata::{
    CompareOp, Conjunct, FieldTest, Predicate, Query, Row, bind_filter, parse_filter, query_options,
};
use relist::schema::Schema;
use relist::value::Value;
use relist_tests::reference::evaluate;
use sample::{EntityRow, now, property, schema};
use serde_json::{Value as Json, json};

fn bind(text: &str) -> Result<Predicate, QueryError> {
    let expr = parse_filter(text)?;
    let schema = schema();
    bind_filter(&expr, text, &schema, property(&schema), now())
}

fn answer(text: &str, entity: &Json) -> Option<bool> {
    let predicate = bind(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let schema = schema();
    let row = EntityRow {
        entity,
        resource: property(&schema),
    };
    let answer = predicate.test(&row);
    let expr = parse_filter(text).unwrap();
    let reference = evaluate(&expr, entity, &schema, property(&schema), now());
    assert_eq!(
        answer, reference,
        "{text}: the reference disagrees on {entity}"
    );
    answer
}

fn cases() -> u32 {
    let wanted = std::env::var("RELIST_CASES").ok();
    wanted.map_or(4_000, |n| n.parse().expect("RELIST_CASES is a number"))
}

/// One random case: the filter binds, prints back to itself, and is as true as the reference says.
fn check(entity_bytes: &[u8], filter_bytes: &[u8]) -> (String, Option<bool>) {
    let schema = schema();
    let resource = property(&schema);
    let entity = entity(&mut Bytes::new(entity_bytes));
    let expr = filter(&mut Bytes::new(filter_bytes));
    let text = expr.to_string();
    let parsed = parse_filter(&text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    assert_eq!(parsed, expr, "{text} reads as {parsed}");
    let predicate = bind_filter(&parsed, &text, &schema, resource, now())
        .unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let row = EntityRow {
        entity: &entity,
        resource,
    };
    let answer = predicate.test(&row);
    let reference = evaluate(&expr, &entity, &schema, resource, now());
    assert_eq!(answer, reference, "{text}\n{entity}");
    let conjuncts = predicate.conjuncts();
    let accepted = |c: &Conjunct<'_>| c.accepts(&row.value(c.field).unwrap_or(Value::Null));
    if answer == Some(true) {
        assert!(conjuncts.iter().all(accepted), "{text}\n{entity}");
    }
    if let [only] = conjuncts.as_slice()
        && predicate.fields().len() == 1
        && !text.contains(" and ")
    {
        assert_eq!(accepted(only), answer == Some(true), "{text}\n{entity}");
    }
    (text, answer)
}

#[test]
fn bound_filters_agree_with_the_reference() {
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::with_cases(cases())
    };
    let bytes = |n: usize| prop::collection::vec(any::<u8>(), 0..n);
    TestRunner::new(config)
        .run(&(bytes(120), bytes(160)), |(entity, filter)| {
            check(&entity, &filter);
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
}

/// A property test proves nothing about what it never generates.
#[test]
fn the_generator_makes_every_operator_function_and_answer() {
    let mut runner = TestRunner::deterministic();
    let bytes = prop::collection::vec(any::<u8>(), 100..200);
    let mut texts = String::new();
    let mut answers = [0; 3];
    for _ in 0..6_000 {
        let mut draw = || bytes.new_tree(&mut runner).unwrap().current();
        let (text, answer) = check(&draw(), &draw());
        answers[answer.map_or(2, usize::from)] += 1;
        texts.push_str(&text);
        texts.push('\n');
    }
    for wanted in [
        " eq ",
        " ne ",
        " gt ",
        " ge ",
        " lt ",
        " le ",
        " and ",
        " or ",
        "not ",
        " in (",
        " has ",
        " add ",
        " sub ",
        " mul ",
        " div ",
        " divby ",
        " mod ",
        "-(",
        "/any(",
        "/all(",
        "/any()",
        "/$count",
        "$it/",
        "contains(",
        "startswith(",
        "endswith(",
        "indexof(",
        "length(",
        "substring(",
        "tolower(",
        "toupper(",
        "trim(",
        "concat(",
        "year(",
        "month(",
        "day(",
        "hour(",
        "minute(",
        "second(",
        "fractionalseconds(",
        "totaloffsetminutes(",
        "date(",
        "time(",
        "now()",
        "mindatetime()",
        "maxdatetime()",
        "round(",
        "floor(",
        "ceiling(",
        "geo.distance(",
        "geo.intersects(",
        "geo.length(",
        "SRID=3956",
        "POLYGON",
        "null",
        "Odata.Models.StandardStatus'",
        " in Appliances",
        "Media/",
        "m/Permission",
    ] {
        let count = texts.matches(wanted).count();
        assert!(count >= 5, "{wanted} was made {count} times");
    }
    for (what, count) in ["false", "true", "unknown"].iter().zip(answers) {
        assert!(count >= 200, "{what} was the answer {count} times of 6000");
    }
}

#[test]
fn no_text_makes_the_reader_panic() {
    let words = prop::sample::select(vec![
        "ListPrice",
        "City",
        "eq",
        "and",
        "not",
        "in",
        "has",
        "(",
        ")",
        ",",
        "'",
        "''",
        "/",
        "-",
        ":",
        "any",
        "1",
        "-1.5",
        "2020-01-01",
        "T10:00:00Z",
        "10:30",
        "$it",
        "$count",
        ".",
        "é",
        "geo.distance",
        "geography'POINT(1 2)'",
        "Odata.Models.StandardStatus'Active'",
        "null",
        " ",
        "\t",
        "=",
        "\"",
        "@",
        "x'",
        "1e999",
        "4fa95bdc-dd9b-c990-ebc0-162e675da6e1",
    ]);
    let texts = prop::collection::vec(words, 0..24);
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(cases())
    };
    TestRunner::new(config)
        .run(&texts, |words| {
            for by in ["", " "] {
                let text = words.join(by);
                if let Err(error) = bind(&text) {
                    let end = error.offset + error.len;
                    prop_assert!(error.text.get(error.offset..end).is_some(), "{error:?}");
                    prop_assert!(!error.message.is_empty());
                }
            }
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
}

fn listing() -> Json {
    json!({
        "ListingKey": "1611952",
        "ListingKeyNumeric": 1_611_952,
        "ListPrice": 350_000.5,
        "ClosePrice": null,
        "BedroomsTotal": 3,
        "WaterfrontYN": false,
        "CloseDate": "2019-09-01",
        "ModificationTimestamp": "2019-09-01T04:30:15.25-07:00",
        "ShowingStartTime": "09:30:00",
        "SourceGuid": "4FA95BDC-dd9b-c990-ebc0-162e675da6e1",
        "City": "Salt Lake City",
        "StreetName": "O'Brien",
        "StandardStatus": "Active Under Contract",
        "Appliances": ["Gas Range", "Microwave"],
        "Tags": ["a", "b"],
        "RoomType": "Den, Office",
        "GeoLocation": {"type": "Point", "coordinates": [-111.891, 40.7608]},
        "Media": [
            {"MediaKey": "m1", "MediaCategory": "Photo", "Order": 1, "Permission": ["Public"],
             "MediaModificationTimestamp": "2019-09-01T10:00:00Z"},
            {"MediaKey": "m2", "MediaCategory": "Virtual Tour", "Order": 2, "Permission": []},
        ],
        "Extra": {"Rank": 7, "Since": "2018-05-05", "Scores": [1, 2.5], "Deep": {"Name": "x"}},
    })
}

#[test]
fn filters_give_what_odata_says() {
    let (yes, no, unknown) = (Some(true), Some(false), None);
    let entity = listing();
    for (text, expected) in [
        // comparisons
        ("ListPrice eq 350000.50", yes),
        ("ListPrice gt 350000", yes),
        ("350000 lt ListPrice", yes),
        ("ListPrice le 350000.5 and ListPrice ge 350000.5", yes),
        ("BedroomsTotal eq 3.0", yes),
        ("City ne 'Provo'", yes),
        ("City eq 'salt lake city'", no),
        ("StreetName eq 'O''Brien'", yes),
        ("WaterfrontYN eq false", yes),
        ("not WaterfrontYN", yes),
        ("WaterfrontYN", no),
        ("SourceGuid eq 4fa95bdc-dd9b-c990-ebc0-162e675da6e1", yes),
        ("SourceGuid eq '4fa95bdc-dd9b-c990-ebc0-162e675da6e1'", yes),
        ("ListingKeyNumeric eq -1", no),
        // null: a value for eq and ne, false for the others, unknown in functions and has
        ("ClosePrice eq null", yes),
        ("ClosePrice ne null", no),
        ("null eq null", yes),
        ("ClosePrice ne 5", yes),
        ("ClosePrice gt 5", no),
        ("ClosePrice le null", no),
        ("not (ClosePrice gt 5)", yes),
        ("ClosePrice add 1 eq null", yes),
        ("PostalCode eq null", yes),
        ("contains(PostalCode,'8')", unknown),
        ("not contains(PostalCode,'8')", unknown),
        ("contains(PostalCode,'8') or City ne null", yes),
        ("contains(PostalCode,'8') and City ne null", unknown),
        ("contains(PostalCode,'8') and City eq null", no),
        ("ListOfficeTags has 'x'", unknown),
        // precedence
        ("City eq 'x' and City eq 'y' or ListPrice gt 0", yes),
        ("ListPrice gt 0 or City eq 'x' and City eq 'y'", yes),
        ("(ListPrice gt 0 or City eq 'x') and City eq 'y'", no),
        ("1 add 2 mul 3 eq 7", yes),
        ("10 sub 3 sub 2 eq 5", yes),
        ("-(2) mul 3 eq -6", yes),
        // arithmetic: div of two integers is an integer
        ("BedroomsTotal div 2 eq 1", yes),
        ("BedroomsTotal divby 2 eq 1.5", yes),
        ("-7 div 2 eq -3", yes),
        ("-7 mod 2 eq -1", yes),
        ("ListPrice div 2 eq 175000.25", yes),
        ("5.0 div 2 eq 2.5", yes),
        ("ListPrice mul 2 eq 700001", yes),
        ("BedroomsTotal sub 3 eq 0", yes),
        ("1 div (BedroomsTotal sub 3) eq null", yes),
        // in
        ("City in ('Provo','Salt Lake City')", yes),
        ("City in ('Provo')", no),
        ("City in ()", no),
        ("ListPrice in (1,350000.5)", yes),
        ("ClosePrice in (1,null)", yes),
        ("not (ClosePrice in (1,2))", yes),
        ("StandardStatus in ('Active','ActiveUnderContract')", yes),
        ("5 in (ListPrice,5)", yes),
        ("5 in (ListPrice)", no),
        ("'Microwave' in Appliances", yes),
        ("'b' in Tags", yes),
        ("City in Tags", no),
        // lookups, in every spelling
        ("StandardStatus eq 'Active Under Contract'", yes),
        ("StandardStatus eq 'ActiveUnderContract'", yes),
        ("StandardStatus eq StandardStatus'ActiveUnderContract'", yes),
        (
            "StandardStatus eq Odata.Models.StandardStatus'ActiveUnderContract'",
            yes,
        ),
        (
            "StandardStatus eq org.reso.metadata.enums.StandardStatus'Active'",
            no,
        ),
        ("StandardStatus ne 'Active'", yes),
        ("StandardStatus eq ''", no),
        (
            "StandardStatus has Odata.Models.StandardStatus'ActiveUnderContract'",
            yes,
        ),
        ("Appliances has 'GasRange'", yes),
        (
            "Appliances has Odata.Models.Appliances'GasRange,Microwave'",
            yes,
        ),
        ("Appliances has 'Dishwasher'", no),
        ("Appliances eq 'Microwave,Gas Range'", yes),
        ("Appliances eq 'Microwave'", no),
        ("Appliances ne 'Microwave'", yes),
        ("Appliances in ('Microwave','GasRange,Microwave')", yes),
        ("Tags has 'a'", yes),
        ("Tags has 'a,b'", yes),
        ("RoomType has 'Office'", yes),
        ("RoomType has Odata.Models.RoomType'Den'", yes),
        ("City has 'Salt Lake City'", yes),
        ("City eq Odata.Models.City'SaltLakeCity'", yes),
        ("City eq 'SaltLakeCity'", no),
        ("contains(StandardStatus,'Under')", yes),
        // any, all, $count
        ("Appliances/any(a:a eq 'Gas Range')", yes),
        ("Appliances/any(a:a eq 'GasRange')", yes),
        ("Appliances/all(a:startswith(a,'M'))", no),
        ("Tags/any(t:t eq 'b' or t eq 'c')", yes),
        ("Tags/any()", yes),
        ("ListOfficeTags/any()", no),
        ("ListOfficeTags/all(t:t eq 'x')", yes),
        ("Tags/$count eq 2", yes),
        ("Media/any(m:m/MediaCategory eq 'Photo')", yes),
        (
            "Media/any(m:m/MediaCategory eq 'VirtualTour' and m/Order eq 2)",
            yes,
        ),
        (
            "Media/any(m:m/MediaCategory eq 'Photo' and m/Order eq 2)",
            no,
        ),
        ("Media/all(m:m/Order le 2)", yes),
        (
            "Media/any(m:m/MediaModificationTimestamp gt 2019-09-01T09:59:59Z)",
            yes,
        ),
        (
            "Media/any(m:m/Permission/any(p:p eq 'Public' and m/Order eq 1))",
            yes,
        ),
        ("Media/any(m:m/Order eq BedroomsTotal sub 1)", yes),
        ("Media/any(m:$it/City eq 'Salt Lake City')", yes),
        ("Media/$count gt 1", yes),
        ("Extra/Rank eq 7", yes),
        ("Extra/Since lt 2019-01-01", yes),
        ("year(Extra/Since) eq 2018", yes),
        ("Extra/Deep/Name eq 'x'", yes),
        ("Extra/Missing/Name eq null", yes),
        ("Extra/Scores/any(s:s gt 2)", yes),
        ("$it/BedroomsTotal eq 3", yes),
        // dates and times, in the offset they were written in
        ("CloseDate eq 2019-09-01", yes),
        ("CloseDate ge 2019-08-31 and CloseDate lt 2019-09-02", yes),
        ("CloseDate eq 2019-09-01T00:00:00Z", yes),
        ("ModificationTimestamp eq 2019-09-01T11:30:15.250Z", yes),
        ("ModificationTimestamp gt 2019-09-01", yes),
        ("ModificationTimestamp lt now()", yes),
        (
            "ModificationTimestamp gt mindatetime() and now() lt maxdatetime()",
            yes,
        ),
        ("date(ModificationTimestamp) eq 2019-09-01", yes),
        (
            "hour(ModificationTimestamp) eq 4 and minute(ModificationTimestamp) eq 30",
            yes,
        ),
        ("second(ModificationTimestamp) eq 15", yes),
        ("fractionalseconds(ModificationTimestamp) eq 0.25", yes),
        ("totaloffsetminutes(ModificationTimestamp) eq -420", yes),
        (
            "year(CloseDate) eq 2019 and month(CloseDate) eq 9 and day(CloseDate) eq 1",
            yes,
        ),
        ("time(ModificationTimestamp) lt ShowingStartTime", yes),
        ("ShowingStartTime eq 09:30:00", yes),
        ("year(now()) eq 2024", yes),
        // strings count characters
        ("contains(City,'Lake')", yes),
        ("CONTAINS(City,'Lake') AND City NE null", yes),
        ("startswith(City,'Salt') and endswith(City,'City')", yes),
        ("indexof(City,'Lake') eq 5 and indexof(City,'x') eq -1", yes),
        ("length(City) eq 14", yes),
        ("length('né') eq 2 and indexof('né!','!') eq 2", yes),
        ("substring(City,5) eq 'Lake City'", yes),
        ("substring(City,5,4) eq 'Lake'", yes),
        ("substring(City,-4) eq 'City'", yes),
        ("substring(City,99) eq ''", yes),
        ("tolower(City) eq 'salt lake city'", yes),
        ("contains(tolower(City),'lake')", yes),
        ("toupper('é') eq 'É'", yes),
        ("trim('  a ') eq 'a'", yes),
        (
            "concat(concat(City,', '),'UT') eq 'Salt Lake City, UT'",
            yes,
        ),
        ("contains('abc','b')", yes),
        // numbers
        ("round(ListPrice) eq 350001", yes),
        (
            "floor(ListPrice) eq 350000 and ceiling(ListPrice) eq 350001",
            yes,
        ),
        ("round(-2.5) eq -3", yes),
        // geography
        (
            "geo.distance(GeoLocation,geography'SRID=3956;POINT(-111.6585 40.2338)') lt 39",
            yes,
        ),
        (
            "geo.distance(GeoLocation,geography'SRID=3956;POINT(-111.6585 40.2338)') lt 38",
            no,
        ),
        (
            "geo.distance(geography'POINT(-111.6585 40.2338)',GeoLocation) gt 61000",
            yes,
        ),
        (
            "geo.distance(GeoLocation,geography'POINT(-111.891 40.7608)') eq 0",
            yes,
        ),
        (
            "geo.intersects(GeoLocation,geography'SRID=3956;\
             POLYGON((-112 40,-111 40,-111 41,-112 41,-112 40))')",
            yes,
        ),
        ("geo.length(geography'LINESTRING(0 0,0 1)') gt 111000", yes),
    ] {
        assert_eq!(answer(text, &entity), expected, "{text}");
    }
}

#[test]
fn values_that_drifted_from_their_type_are_unequal_not_wrong() {
    let entity = json!({
        "BedroomsTotal": "three", "ListPrice": "TBD", "CloseDate": "soon", "City": 7,
        "WaterfrontYN": "Y", "Appliances": "Microwave, Gas Range", "GeoLocation": "here",
        "Media": "none", "ModificationTimestamp": 5,
    });
    for (text, expected) in [
        ("BedroomsTotal eq 3", Some(false)),
        ("BedroomsTotal ne 3", Some(true)),
        ("ListPrice gt 1 or ListPrice le 1", Some(false)),
        ("ListPrice add 1 eq null", Some(true)),
        ("year(CloseDate) eq 2019", Some(false)),
        ("length(City) eq 1", Some(false)),
        ("contains(City,'7')", None),
        ("WaterfrontYN", None),
        ("Appliances has 'GasRange'", Some(true)),
        ("Appliances/any(a:a eq 'Microwave')", Some(true)),
        ("Appliances eq 'GasRange,Microwave'", Some(true)),
        (
            "geo.distance(GeoLocation,geography'POINT(0 0)') lt 1",
            Some(false),
        ),
        ("ModificationTimestamp lt now()", Some(false)),
    ] {
        assert_eq!(answer(text, &entity), expected, "{text}");
    }
}

#[test]
fn errors_point_at_the_cause_and_say_the_cure() {
    // The filter with the place at fault between « and », the message, the hint.
    for (marked, message, hint) in [
        (
            "«ListPrise» gt 5",
            "Property has no field ListPrise",
            "did you mean ListPrice?",
        ),
        (
            "City eq 'x' and «listprice» gt 5",
            "Property has no field listprice",
            "did you mean ListPrice?",
        ),
        (
            "ListPrice eq «'x'»",
            "ListPrice is a number, 'x' is a string: they do not compare",
            "",
        ),
        (
            "ListPrice gt «'350000'»",
            "ListPrice is a number, '350000' is a string: they do not compare",
            "write 350000 without quotes",
        ),
        (
            "ListingKey eq «543141»",
            "ListingKey is a string, 543141 is a number: they do not compare",
            "write '543141'",
        ),
        (
            "ModificationTimestamp gt «'2019-01-01T00:00:00Z'»",
            "ModificationTimestamp is a timestamp, '2019-01-01T00:00:00Z' is a string: \
             they do not compare",
            "write 2019-01-01T00:00:00Z without quotes",
        ),
        (
            "WaterfrontYN eq «1»",
            "WaterfrontYN is true or false, 1 is a number: they do not compare",
            "write true or false",
        ),
        (
            "StandardStatus eq «'Actve'»",
            "\"Actve\" is not a member of StandardStatus",
            "did you mean 'Active'?",
        ),
        (
            "StandardStatus in ('Active',«'Pendng'»)",
            "\"Pendng\" is not a member of StandardStatus",
            "did you mean 'Pending'?",
        ),
        (
            "StandardStatus eq «Odata.Models.Appliances'Microwave'»",
            "StandardStatus is a member of StandardStatus, not of Appliances",
            "write Odata.Models.StandardStatus'..'",
        ),
        (
            "«StandardStatus» gt 'Active'",
            "StandardStatus is a member of StandardStatus, which has no order",
            "use eq, ne, in or has",
        ),
        (
            "Appliances has «5»",
            "has is followed by a member, not 5",
            "write Field has Type'Member' or Field has 'Member'",
        ),
        (
            "«ListPrice» has 'x'",
            "has takes a lookup, and ListPrice is a number",
            "",
        ),
        (
            "Tags eq «'a'»",
            "Tags is a list of strings, 'a' is a string: they do not compare",
            "write Tags/any(x:x eq ..) or Tags has '..'",
        ),
        (
            "«contain»(City,'x')",
            "there is no function contain",
            "did you mean contains?",
        ),
        (
            "«substringof»('x',City)",
            "there is no function substringof",
            "write contains(Field,'text')",
        ),
        (
            "«contains(City)»",
            "contains() takes 2 arguments, not 1",
            "",
        ),
        (
            "«substring(City)» eq ''",
            "substring() takes 2 or 3 arguments, not 1",
            "",
        ),
        (
            "length(«ListPrice») eq 1",
            "length() takes a string, and ListPrice is a number",
            "",
        ),
        (
            "contains(«Tags»,'x')",
            "contains() takes a string, and Tags is a list of strings",
            "ask of one element: Tags/any(x:contains(x,..))",
        ),
        (
            "hour(«CloseDate») eq 1",
            "hour() takes a timestamp or a time of day, and CloseDate is a date",
            "",
        ),
        (
            "ListPrice gt «now» and City eq 'x'",
            "Property has no field now",
            "a function is called: now()",
        ),
        (
            "«ListPrice»",
            "ListPrice is a number, not true or false",
            "compare it with something: ListPrice eq ..",
        ),
        (
            "not «ListPrice» gt 5",
            "ListPrice is a number, not true or false",
            "not binds tightly: write not (ListPrice eq ..)",
        ),
        (
            "«City» add 1 eq 2",
            "add takes numbers, and City is a string",
            "",
        ),
        (
            "«ModificationTimestamp» sub 1 lt now()",
            "sub takes numbers, and ModificationTimestamp is a timestamp",
            "durations are not supported: compare with a timestamp instead",
        ),
        ("ListPrice div «0» eq 1", "division by zero", ""),
        (
            "«City»/any(c:c eq 'x')",
            "City is a string, not a collection",
            "compare it: City eq ..",
        ),
        (
            "Media/«MediaCategory» eq 'Photo'",
            "Media is a collection of records and has no members",
            "write Media/any(x:x/MediaCategory ..)",
        ),
        (
            "Media/any(m:m/«MediaCategry» eq 'Photo')",
            "Media has no field MediaCategry",
            "did you mean MediaCategory?",
        ),
        ("Media/any(m:«x»/Order eq 1)", "Property has no field x", ""),
        (
            "City/«Name» eq 'x'",
            "City is a string and has no members",
            "",
        ),
        (
            "«OpenHouse»/any()",
            "OpenHouse leads to other records, which are not kept here",
            "fetch it with the record ($expand=OpenHouse), or query OpenHouse itself",
        ),
        (
            "«$it» eq null",
            "$it is the whole record",
            "name a field of it: $it/ListPrice",
        ),
        (
            "GeoLocation eq «'x'»",
            "GeoLocation is a point, 'x' is a string: they do not compare",
            "write geo.distance(GeoLocation,geography'..') lt ..",
        ),
        (
            "«geo.distance(City,GeoLocation)» lt 1",
            "geo.distance() takes two points, not a string and a point",
            "a point is written geography'SRID=4326;POINT(longitude latitude)'",
        ),
        (
            "geo.distance(GeoLocation,geography'POINT(40.576 «»-111.898)') lt 1",
            "expected a latitude between -90 and 90 (longitude comes first) in the geography",
            "write geography'SRID=4326;POINT(longitude latitude)'",
        ),
        (
            "«cast»(ListPrice,Edm.String) eq '5'",
            "cast() is not supported: a field has one type here",
            "compare the field itself",
        ),
        (
            "ModificationTimestamp gt «duration'P1D'»",
            "durations are not supported",
            "compute the timestamp and write it: 2024-01-31T00:00:00Z",
        ),
        (
            "ModificationTimestamp gt «2019-01-01T00:00:00»",
            "2019-01-01T00:00:00 has no time zone and so names no instant",
            "write 2019-01-01T00:00:00Z for UTC, or an offset such as 2019-01-01T00:00:00-07:00",
        ),
        (
            "City eq «'x»",
            "the string is not closed",
            "end it with '; a quote inside a string is written ''",
        ),
        (
            "ListPrice «>» 5",
            "> is not an operator of OData",
            "write gt",
        ),
        (
            "City in «'x'»",
            "in is followed by a list in parentheses, not 'x'",
            "write ('x')",
        ),
    ] {
        let offset = marked.find('«').unwrap();
        let len = marked.find('»').unwrap() - offset - '«'.len_utf8();
        let text = marked.replace(['«', '»'], "");
        let error = bind(&text).expect_err(&text);
        assert_eq!(error.message, message, "{text}");
        assert_eq!(error.hint.as_deref().unwrap_or(""), hint, "{text}");
        assert_eq!((error.offset, error.len), (offset, len), "{text}: {error}");
        assert_eq!(
            (error.option, error.text.as_str()),
            ("$filter", text.as_str())
        );
    }
}

#[test]
fn a_lookup_without_declared_members_takes_any_text() {
    let mut schema = schema();
    for ty in &mut schema.enums {
        ty.members.clear();
    }
    let entity = listing();
    let row = EntityRow {
        entity: &entity,
        resource: property(&schema),
    };
    for (text, expected) in [
        ("StandardStatus eq 'Active Under Contract'", true),
        ("StandardStatus eq 'ActiveUnderContract'", false),
        (
            "StandardStatus eq Odata.Models.StandardStatus'ActiveUnderContract'",
            true,
        ),
        ("Appliances has 'Gas Range'", true),
        ("Appliances has Odata.Models.Appliances'GasRange'", true),
        ("Appliances/any(a:a eq 'Oven')", false),
    ] {
        let expr = parse_filter(text).unwrap();
        let bound = bind_filter(&expr, text, &schema, property(&schema), now());
        assert_eq!(bound.unwrap().matches(&row), expected, "{text}");
    }
}

#[test]
fn a_filter_of_100_kilobytes_is_refused() {
    let text = format!("City eq '{}'", "x".repeat(100_000));
    let error = bind(&text).unwrap_err();
    assert!(error.message.contains("65536 is the most"), "{error}");
    let text = format!("ListingKeyNumeric in (1{})", ",1234567".repeat(8_000));
    assert!(bind(&text).is_ok(), "64 KiB of keys are read");
}

#[test]
fn a_planner_sees_the_conditions_on_one_field() {
    let text = "ListPrice ge 100.0 and 5 gt BedroomsTotal and (City eq 'x' or City eq 'y') \
                and ModificationTimestamp gt 2020-01-01 and StandardStatus eq 'Active' \
                and ClosePrice ne null and ListingKeyNumeric in (3,1,3) and WaterfrontYN \
                and startswith(City,'S') and ListPrice lt ClosePrice";
    let predicate = bind(text).unwrap();
    let schema = schema();
    let resource = property(&schema);
    let seen: Vec<_> = predicate
        .conjuncts()
        .into_iter()
        .map(|c| {
            format!(
                "{} {}",
                resource.field(c.field).unwrap().name,
                form(&c.test)
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            "ListPrice ge 100.0",
            "BedroomsTotal lt 5",
            "City ?",
            "ModificationTimestamp gt \"2020-01-01T00:00:00Z\"",
            "StandardStatus one of Active",
            "ClosePrice not null",
            "ListingKeyNumeric in 1 3",
            "WaterfrontYN eq true",
            "City starts S",
        ]
    );
    let fields: Vec<_> = predicate
        .fields()
        .iter()
        .map(|f| resource.field(*f).unwrap().name.as_str())
        .collect();
    assert_eq!(fields.len(), 8, "{fields:?}");
    let conjuncts = predicate.conjuncts();
    let city = &conjuncts[2];
    assert!(city.accepts(&Value::str("y")) && !city.accepts(&Value::str("z")));
    assert!(!city.accepts(&Value::Null));
    assert_eq!(bind("1 eq 1").unwrap().constant(), Some(true));
    assert_eq!(bind("year(now()) lt 2000").unwrap().constant(), Some(false));
    assert_eq!(bind("City eq 'x'").unwrap().constant(), None);
}

fn form(test: &FieldTest<'_>) -> String {
    match test {
        FieldTest::Compare(op, constant) => format!("{} {constant}", CompareOp::name(*op)),
        FieldTest::In(set) => {
            let items: Vec<_> = set.iter().map(ToString::to_string).collect();
            format!("in {}", items.join(" "))
        }
        FieldTest::IsNull => "null".to_owned(),
        FieldTest::IsNotNull => "not null".to_owned(),
        FieldTest::Lookup(names) => format!("one of {}", names.join("|")),
        FieldTest::StartsWith(start) => format!("starts {start}"),
        FieldTest::Other => "?".to_owned(),
    }
}

#[test]
fn orders_have_several_keys_and_put_nulls_where_odata_says() {
    let rows: Vec<Json> = [
        json!({"ListingKey": "a", "City": "B", "ListPrice": 2, "CloseDate": "2019-05-01"}),
        json!({"ListingKey": "b", "City": "A", "ListPrice": 1.5, "CloseDate": "2020-01-01"}),
        json!({"ListingKey": "c", "City": null, "ListPrice": 3, "CloseDate": "2018-12-31"}),
        json!({"ListingKey": "d", "City": "A", "ListPrice": 10, "CloseDate": "2020-02-02"}),
    ]
    .into();
    let schema = schema();
    let resource = property(&schema);
    for (orderby, expected) in [
        ("City", "cbda"),
        ("City desc", "abdc"),
        ("City asc,ListPrice desc", "cdba"),
        ("ListPrice", "bacd"),
        ("year(CloseDate) desc,ListPrice", "bdac"),
        ("ListPrice mul -1", "dcab"),
        ("length(City) eq 1,ListingKey desc", "cdba"),
    ] {
        let query = Query::new("Property").orderby(orderby).unwrap();
        let order = query.bind(&schema, now()).unwrap().orderby.unwrap();
        let rows: Vec<_> = rows
            .iter()
            .map(|entity| EntityRow { entity, resource })
            .collect();
        let mut keyed: Vec<_> = rows.iter().map(|r| (order.key(r), r.entity)).collect();
        keyed.sort_by(|a, b| order.compare(&a.0, &b.0));
        let keys = keyed.iter().map(|(_, e)| e["ListingKey"].as_str().unwrap());
        assert_eq!(keys.collect::<String>(), expected, "{orderby}");
    }
    for (orderby, offset, message) in [
        (
            "City,Appliances",
            5,
            "Appliances is a list of Appliances, which has no order",
        ),
        ("Cty", 0, "Property has no field Cty"),
        (
            "City up",
            5,
            "expected an operator, asc, desc or a comma or the end, found up",
        ),
    ] {
        let bound = Query::new("Property")
            .orderby(orderby)
            .map_err(relist::error::Error::from)
            .and_then(|q| q.bind(&schema, now()));
        let relist::error::Error::Query(error) = bound.unwrap_err() else {
            panic!("{orderby}: not a query error");
        };
        assert_eq!((error.option, error.offset), ("$orderby", offset));
        assert_eq!(error.message, message);
    }
}

#[test]
fn a_query_is_read_from_a_url() {
    let schema = schema();
    let resource = property(&schema);
    let text = "$filter=City%20eq%20'A%26B'%20and%20ListPrice gt 5&orderby=ListPrice%20desc\
                &$SELECT=City,ListPrice,City&$top=10&$skip=3&$count=true";
    let query = Query::parse("Property", text).unwrap();
    let built = Query::new("Property")
        .filter("City eq 'A&B' and ListPrice gt 5")
        .and_then(|q| q.orderby("ListPrice desc"))
        .unwrap()
        .select(["City", "ListPrice", "City"])
        .top(10)
        .skip(3)
        .count(true);
    assert_eq!(query, built);
    let bound = query.bind(&schema, now()).unwrap();
    let names: Vec<_> = bound
        .select
        .unwrap()
        .iter()
        .map(|f| resource.field(*f).unwrap().name.clone())
        .collect();
    assert_eq!(names, ["City", "ListPrice"]);
    let all = Query::parse("Property", "?$select=*,City").unwrap();
    assert_eq!(all.bind(&schema, now()).unwrap().select, None);
    let plus = query_options("$filter=T gt 2019-01-01T00:00:00+02:00").unwrap();
    assert_eq!(plus[0].1, "T gt 2019-01-01T00:00:00+02:00");
    for (text, option, offset, message) in [
        (
            "$filtr=x",
            "query options",
            0,
            "$filtr is not a query option here",
        ),
        (
            "$top=-1",
            "$top",
            0,
            "$top takes a whole number from 0, not \"-1\"",
        ),
        ("$top=1&top=2", "$top", 0, "$top is given twice"),
        (
            "$count=yes",
            "$count",
            0,
            "$count takes true or false, not \"yes\"",
        ),
        (
            "$filter=City%2",
            "query options",
            12,
            "% is not followed by two hexadecimal digits",
        ),
        (
            "$filter=%ff",
            "query options",
            8,
            "the decoded text is not UTF-8",
        ),
        ("$filter", "query options", 0, "$filter has no value"),
        ("$filter=City+eq+'x'", "$filter", 4, "unexpected '+'"),
    ] {
        let error = Query::parse("Property", text).expect_err(text);
        assert_eq!((error.option, error.offset), (option, offset), "{text}");
        assert_eq!(error.message, message, "{text}");
    }
    let error = Query::parse("Property", "$select=City,ListPrise").unwrap();
    let error = error.bind(&schema, now()).unwrap_err().to_string();
    assert_eq!(error, "$select at byte 5: Property has no field ListPrise");
    let unknown = Query::new("Properties").bind(&schema, now()).unwrap_err();
    assert!(
        unknown
            .to_string()
            .contains("no resource named \"Properties\"")
    );
}

#[test]
fn filters_of_the_field_bind_to_the_metadata_of_wfrmls() {
    let test = "filters_of_the_field_bind_to_the_metadata_of_wfrmls";
    let Some(xml) = relist_tests::data::read(test, "wfrmls-metadata.xml") else {
        return;
    };
    let mut schema = relist::schema::Schema::from_metadata(&xml).unwrap();
    let bind = |schema: &Schema, resource: &str, text: &str| {
        let expr = parse_filter(text)?;
        bind_filter(
            &expr,
            text,
            schema,
            schema.resource(resource).unwrap(),
            now(),
        )
    };
    for (resource, text) in [
        (
            "Property",
            "StandardStatus has Odata.Models.StandardStatus'Active'",
        ),
        (
            "Property",
            "StandardStatus eq Odata.Models.StandardStatus'Active'",
        ),
        (
            "Property",
            "StandardStatus eq 'Active' and ListPrice ge 350000",
        ),
        ("Property", "StandardStatus in ('Active','Pending')"),
        ("Property", "ListingKeyNumeric gt 1611952"),
        ("Property", "ModificationTimestamp gt 2019-09-01T10:00:00Z"),
        (
            "Property",
            "ModificationTimestamp ge 2019-09-01 and year(CloseDate) eq 2019",
        ),
        (
            "Property",
            "PropertyType eq 'Residential' and City eq 'Provo' and YearBuilt lt 1980",
        ),
        ("Property", "InteriorFeatures/any(f:f eq 'Alarm: Fire')"),
        (
            "Property",
            "geo.distance(GeoLocation,geography'SRID=3956;POINT(-111.898 40.576)') lt 1",
        ),
        (
            "Property",
            "geo.intersects(GeoLocation,geography'SRID=3956;\
             POLYGON((-111.9 40.5,-111.8 40.5,-111.8 40.6,-111.9 40.5))')",
        ),
        ("Media", "MediaCategory eq 'Photo'"),
        (
            "Member",
            "contains(MemberFullName,'Smith') and MemberKeyNumeric gt 1",
        ),
        (
            "OpenHouse",
            "OpenHouseDate ge 2020-11-01 and ListingKeyNumeric eq 1625740",
        ),
    ] {
        bind(&schema, resource, text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    }
    // Names that a guide in circulation uses and this server does not have.
    for (resource, text, message) in [
        (
            "Property",
            "PropertyCity eq 'x'",
            "Property has no field PropertyCity",
        ),
        (
            "Property",
            "PropertyAddress eq 'x'",
            "Property has no field PropertyAddress",
        ),
        (
            "OpenHouse",
            "PropertyKey eq 'x'",
            "OpenHouse has no field PropertyKey",
        ),
        (
            "Property",
            "ListPrice eq 'x'",
            "ListPrice is a number, 'x' is a string: \
         they do not compare",
        ),
        (
            "Property",
            "Media/any(m:m/Order eq 1)",
            "Media leads to other records, which are not kept here",
        ),
    ] {
        let error = bind(&schema, resource, text).expect_err(text);
        assert_eq!(error.message, message, "{text}");
    }
    // Once pages have come with $expand=Media there is such a field, of the type Media is of.
    let property = schema.resources.iter_mut().find(|r| r.name == "Property");
    property.unwrap().fields.push(relist::schema::Field {
        name: "Media".to_owned(),
        ty: relist::schema::FieldType::Json,
        declared: false,
    });
    bind(
        &schema,
        "Property",
        "Media/any(m:m/MediaCategory eq 'Photo')",
    )
    .unwrap();
    let error = bind(&schema, "Property", "Media/any(m:m/MediaType eq 'Photo')").unwrap_err();
    assert_eq!(error.message, "\"Photo\" is not a member of MediaType");
}
