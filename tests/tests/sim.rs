//! The simulated MLS: deterministic, true to what it logs, and a RESO Web API to its clients.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use relist::schema::{FieldType, Schema};
use relist_sim::truth::{Operation, Signal, from_json, net};
use relist_sim::{
    Conduct, Dataset, Event, Framing, Market, NextLink, Options, Response, Server, Size, Status,
};
use serde_json::{Value, json};

/// A client of a few lines: one request a connection, spaces sent as `%20`.
struct Client {
    base: String,
    token: String,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    fn rows(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.body);
        self.json()["value"].as_array().unwrap().clone()
    }

    fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

impl Client {
    fn of(server: &Server) -> Self {
        Client {
            base: server.base_url(),
            token: server.token().to_owned(),
        }
    }

    fn get(&self, path: &str) -> Answer {
        self.get_with(path, "")
    }

    fn get_with(&self, path: &str, headers: &str) -> Answer {
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{}/{}", self.base, path.replace(' ', "%20"))
        };
        let rest = url.strip_prefix("http://").unwrap();
        let (host, path) = rest.split_at(rest.find('/').unwrap());
        let bytes = exchange(
            host,
            &format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n{headers}\
                 Connection: close\r\n\r\n",
                self.token
            ),
        );
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// All rows of a walk along the nextLinks, and how many pages they came in.
    fn walk(&self, path: &str) -> (Vec<Value>, usize) {
        let (mut rows, mut pages, mut next) = (Vec::new(), 0, Some(path.to_owned()));
        while let Some(path) = next {
            let page = self.get(&path);
            rows.extend(page.rows());
            pages += 1;
            assert!(pages < 1_000, "the walk of {path} does not end");
            next = page.json()["@odata.nextLink"].as_str().map(str::to_owned);
        }
        (rows, pages)
    }
}

fn exchange(host: &str, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut out = Vec::new();
    stream.read_to_end(&mut out).unwrap();
    out
}

fn serve(listings: u32, options: Options) -> (Arc<Mutex<Market>>, Server, Client) {
    let market = Arc::new(Mutex::new(Market::new(1, Size::listings(listings))));
    let server = Server::start(Arc::clone(&market), options).unwrap();
    let client = Client::of(&server);
    (market, server, client)
}

fn keys(rows: &[Value]) -> Vec<i64> {
    rows.iter()
        .map(|row| row["ListingKeyNumeric"].as_i64().unwrap())
        .collect()
}

fn records(market: &Market) -> BTreeMap<u32, String> {
    market
        .keys()
        .map(|key| (key, market.record(key).unwrap()))
        .collect()
}

/// A market that does everything it can, silent deletions included.
fn lively() -> Conduct {
    Conduct {
        vanishings: 500,
        unstamped_edits: 800,
        deletions: 2_000,
        ..Conduct::default()
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_whatever_the_steps() {
    let mut a = Market::with_conduct(7, Size::listings(300), lively());
    let mut b = Market::with_conduct(7, Size::listings(300), lively());
    assert_eq!(records(&a), records(&b));
    a.advance_days(20);
    for _ in 0..20 * 24 {
        b.advance(3_600);
    }
    assert_eq!(a.now(), b.now());
    assert_eq!(records(&a), records(&b));
    assert_eq!(a.truth_since(0), b.truth_since(0));
    let other = Market::with_conduct(8, Size::listings(300), lively());
    assert_ne!(records(&a), records(&other));
}

#[test]
fn records_are_rich_and_of_the_declared_types() {
    let market = Market::new(3, Size::listings(2_000));
    let (mut bytes, mut populated) = (0, 0);
    for record in records(&market).values() {
        bytes += record.len();
        let Value::Object(fields) = serde_json::from_str(record).unwrap() else {
            panic!()
        };
        populated += fields
            .values()
            .filter(|v| !v.is_null() && **v != json!(""))
            .count();
        assert!((280..700).contains(&fields["PublicRemarks"].as_str().unwrap().len()));
        assert_eq!(
            fields["ListingKey"],
            fields["ListingKeyNumeric"].to_string()
        );
    }
    assert!(
        (4_000..5_200).contains(&(bytes / 2_000)),
        "{} bytes a record",
        bytes / 2_000
    );
    assert!(
        (95..125).contains(&(populated / 2_000)),
        "{} fields",
        populated / 2_000
    );
    // Ties: many rows share one second, more than a page of 200.
    let mut stamps: BTreeMap<String, usize> = BTreeMap::new();
    for record in records(&market).values() {
        *stamps
            .entry(from_json(record)["ModificationTimestamp"].clone())
            .or_default() += 1;
    }
    assert!(stamps.values().max().unwrap() > &200);
}

#[test]
fn the_truth_replays_to_the_state() {
    let mut market = Market::with_conduct(5, Size::listings(800), lively());
    let before = records(&market);
    market.advance_days(45);
    let mut replayed: BTreeMap<String, BTreeMap<String, String>> = before
        .iter()
        .map(|(key, record)| (key.to_string(), from_json(record)))
        .collect();
    let mut kinds = BTreeSet::new();
    let changes = market.truth_since(0);
    assert!(changes.is_sorted_by_key(|c| c.at));
    for change in changes.iter().filter(|c| c.resource == "Property") {
        kinds.insert(format!("{:?} {:?}", change.operation, change.signal));
        match change.operation {
            Operation::Insert | Operation::Relist => {
                let record = from_json(change.new.as_ref().unwrap());
                assert!(replayed.insert(change.key.clone(), record).is_none());
            }
            Operation::Delete => {
                let gone = replayed.remove(&change.key).unwrap();
                assert_eq!(gone, from_json(change.previous.as_ref().unwrap()));
            }
            Operation::Update => {
                let record = replayed.get_mut(&change.key).unwrap();
                let field = change.field.unwrap().to_owned();
                let previous = record.insert(field, change.new.clone().unwrap());
                assert_eq!(previous, change.previous);
            }
        }
    }
    let state: BTreeMap<String, BTreeMap<String, String>> = records(&market)
        .iter()
        .map(|(key, record)| (key.to_string(), from_json(record)))
        .collect();
    assert_eq!(replayed, state);
    let expected = [
        "Delete DeletedLog",
        "Delete Silent",
        "Insert Stamp",
        "Relist Stamp",
        "Update PhotosStamp",
        "Update Silent",
        "Update Stamp",
    ];
    assert_eq!(kinds.iter().collect::<Vec<_>>(), expected);

    // The net effect is the difference of the two states.
    let net = net(changes);
    let named = |key: &u32| ("Property", key.to_string());
    for (key, old) in &before {
        let (old, new) = (from_json(old), state.get(&key.to_string()));
        assert_eq!(net.deleted.contains(&named(key)), new.is_none());
        let differs = new.is_some_and(|new| *new != old);
        assert_eq!(net.changed.contains_key(&named(key)), differs);
        for (field, (previous, now)) in net.changed.get(&named(key)).into_iter().flatten() {
            assert_eq!((previous, now), (&old[field], &new.unwrap()[field]));
        }
    }
    let properties = |names: BTreeSet<&(&str, String)>| {
        names
            .iter()
            .filter(|(resource, _)| *resource == "Property")
            .count()
    };
    let stayed = state
        .keys()
        .filter(|k| before.contains_key(&k.parse().unwrap()))
        .count();
    assert_eq!(
        properties(net.inserted.keys().collect()),
        state.len() - stayed
    );
}

#[test]
fn only_signalled_changes_move_their_stamp() {
    let mut market = Market::with_conduct(5, Size::listings(800), lively());
    market.advance_days(30);
    let mut photo_changes = 0;
    for change in market
        .truth_since(0)
        .iter()
        .filter(|c| c.resource == "Property")
    {
        match (change.signal, change.field) {
            (Signal::PhotosStamp, field) => {
                photo_changes += 1;
                assert!(matches!(
                    field,
                    Some("PhotosCount" | "PhotosChangeTimestamp")
                ));
            }
            (Signal::Silent, Some(field)) => assert_eq!(field, "TaxAnnualAmount"),
            _ => {}
        }
    }
    assert!(photo_changes > 20);
}

#[test]
fn events_fit_the_state_they_meet() {
    let mut market = Market::new(2, Size::listings(200));
    let key = market.keys_of(Status::Active).next().unwrap();
    assert!(!market.play(key, Event::Close));
    assert!(market.play(key, Event::GoPending));
    assert!(market.play(key, Event::Close));
    let record: Value = serde_json::from_str(&market.record(key).unwrap()).unwrap();
    assert_eq!(record["StandardStatus"], "Closed");
    assert_eq!(record["MlsStatus"], "Sold");
    assert!(record["ClosePrice"].as_f64().unwrap() > 10_000.0);
    assert!(market.play(key, Event::RelistAsNew));
    let new = market.keys().last().unwrap();
    let again: Value = serde_json::from_str(&market.record(new).unwrap()).unwrap();
    assert_eq!(again["UnparsedAddress"], record["UnparsedAddress"]);
    assert_eq!(again["StandardStatus"], "Active");
    assert!(market.play(new, Event::Delete));
    assert!(market.record(new).is_none());
    assert!(!market.play(new, Event::CutPrice));
    assert!(market.play(new, Event::Return));
    assert!(!market.play(1, Event::Restamp));
}

#[test]
fn a_walk_sees_every_row_once_in_every_way() {
    for next_link in [NextLink::Skip, NextLink::SkipToken] {
        for relative_links in [false, true] {
            let options = Options {
                next_link,
                relative_links,
                ..Options::default()
            };
            let (market, server, client) = serve(901, options);
            let expected: Vec<i64> = market.lock().unwrap().keys().map(i64::from).collect();
            let (rows, pages) = client.walk("Property");
            assert_eq!((keys(&rows), pages), (expected.clone(), 5));
            let (rows, _) = client.walk(
                "Property?$orderby=ModificationTimestamp&$select=\
                                         ListingKeyNumeric,ModificationTimestamp",
            );
            assert!(
                rows.is_sorted_by_key(|r| r["ModificationTimestamp"].as_str().unwrap().to_owned())
            );
            let mut seen = keys(&rows);
            seen.sort_unstable();
            assert_eq!(seen, expected);
            let (rows, pages) = client.walk("Property?$top=450&$skip=100&$orderby=ListPrice desc");
            assert_eq!((rows.len(), pages), (450, 3));
            assert!(rows.is_sorted_by(|a, b| {
                a["ListPrice"].as_f64().unwrap() >= b["ListPrice"].as_f64().unwrap()
            }));
            let counted = client.get("Property?$count=true&$select=ListingKeyNumeric");
            let link = counted.json()["@odata.nextLink"]
                .as_str()
                .unwrap()
                .to_owned();
            assert_eq!(client.get(&link).json()["@odata.count"], 901);
            let links = server.request_lines();
            let mark = if next_link == NextLink::Skip {
                "$skip=200"
            } else {
                "$skiptoken="
            };
            assert!(links.iter().any(|line| line.contains(mark)), "{links:?}");
        }
    }
}

#[test]
fn keyset_and_timestamp_walks_see_every_row() {
    let (market, _server, client) = serve(700, Options::default());
    let expected: Vec<i64> = market.lock().unwrap().keys().map(i64::from).collect();
    let (mut seen, mut last) = (Vec::new(), 0);
    loop {
        let filter = format!("$filter=ListingKeyNumeric gt {last}");
        let page = client.get(&format!(
            "Property?{filter}&$orderby=ListingKeyNumeric&$top=200"
        ));
        let found = keys(&page.rows());
        let Some(end) = found.last() else { break };
        last = *end;
        seen.extend(found);
    }
    assert_eq!(seen, expected);
    // Two weeks on: what was modified since is what the truth says was modified.
    let start = relist_sim::format_timestamp(market.lock().unwrap().now());
    market.lock().unwrap().advance_days(14);
    let filter = format!("$filter=ModificationTimestamp ge {start}");
    let (rows, _) = client.walk(&format!("Property?{filter}&$select=ListingKeyNumeric"));
    let market = market.lock().unwrap();
    let stamped: BTreeSet<i64> = market
        .truth_since(0)
        .iter()
        .filter(|c| c.resource == "Property" && c.signal == Signal::Stamp)
        .filter(|c| market.record(c.key.parse().unwrap()).is_some())
        .map(|c| c.key.parse().unwrap())
        .collect();
    assert_eq!(keys(&rows).into_iter().collect::<BTreeSet<_>>(), stamped);
    assert_eq!(rows.len(), stamped.len());
}

type Test<'t> = &'t dyn Fn(&Value) -> bool;

#[test]
fn filters_answer_as_a_look_at_all_rows_does() {
    let (market, _server, client) = serve(600, Options::default());
    market.lock().unwrap().advance_days(10);
    let all: Vec<Value> = records(&market.lock().unwrap())
        .values()
        .map(|record| serde_json::from_str(record).unwrap())
        .collect();
    let number = |row: &Value, field: &str| row[field].as_f64().unwrap_or(-1.0);
    let middle = all[300]["ListingKeyNumeric"].as_i64().unwrap();
    let two = format!(
        "ListingKeyNumeric in ({middle},{})",
        all[7]["ListingKey"].as_str().unwrap()
    );
    let bounds = format!(
        "ListingKeyNumeric ge {middle} and ListingKeyNumeric gt {}",
        middle + 1
    );
    let cases: &[(&str, Test<'_>)] = &[
        ("StandardStatus eq 'Active'", &|r| {
            r["StandardStatus"] == "Active"
        }),
        (
            "StandardStatus has Odata.Models.StandardStatus'ActiveUnderContract'",
            &|r| r["StandardStatus"] == "Active Under Contract",
        ),
        ("Flooring has Odata.Models.Flooring'Tile'", &|r| {
            r["Flooring"]
                .as_str()
                .unwrap()
                .split(',')
                .any(|f| f == "Tile")
        }),
        ("ListPrice gt 500000 and City eq 'Park City'", &|r| {
            number(r, "ListPrice") > 500_000.0 && r["City"] == "Park City"
        }),
        ("ClosePrice ne null", &|r| !r["ClosePrice"].is_null()),
        ("contains(tolower(PublicRemarks),'chef''s')", &|r| {
            r["PublicRemarks"]
                .as_str()
                .unwrap()
                .to_lowercase()
                .contains("chef's")
        }),
        ("not (BedroomsTotal lt 4) or PropertyType eq 'Land'", &|r| {
            number(r, "BedroomsTotal") >= 4.0 || r["PropertyType"] == "Land"
        }),
        ("ModificationTimestamp lt 2026-02-01T00:00:00Z", &|r| {
            r["ModificationTimestamp"].as_str().unwrap() < "2026-02-01"
        }),
        (
            "ModificationTimestamp gt 2026-03-05T00:00:00Z and ListPrice lt 600000",
            &|r| {
                r["ModificationTimestamp"].as_str().unwrap() > "2026-03-05T00:00:00Z"
                    && number(r, "ListPrice") < 600_000.0
            },
        ),
        (&two, &|r| {
            r["ListingKeyNumeric"] == middle || r["ListingKey"] == all[7]["ListingKey"]
        }),
        (&bounds, &|r| {
            r["ListingKeyNumeric"].as_i64().unwrap() > middle + 1
        }),
        (
            "geo.distance(GeoLocation,geography'SRID=3956;POINT(-111.876 40.717)') lt 4",
            &|r| {
                let point = &r["GeoLocation"]["coordinates"];
                let east = (point[0].as_f64().unwrap() + 111.876) * 52.4;
                let north = (point[1].as_f64().unwrap() - 40.717) * 69.0;
                east.hypot(north) < 4.0
            },
        ),
    ];
    for (filter, test) in cases {
        let (rows, _) = client.walk(&format!("Property?$filter={filter}"));
        let expected: Vec<Value> = all.iter().filter(|r| test(r)).cloned().collect();
        assert!(!expected.is_empty(), "{filter} finds nothing");
        assert_eq!(keys(&rows), keys(&expected), "{filter}");
        assert_eq!(rows, expected, "{filter}");
        let counted = client.get(&format!("Property?$filter={filter}&$count=true&$top=1"));
        assert_eq!(counted.json()["@odata.count"], expected.len(), "{filter}");
        let count = client.get(&format!("Property/$count?$filter={filter}"));
        assert_eq!(count.body, expected.len().to_string());
    }
}

#[test]
fn keys_children_and_expansions() {
    let (market, _server, client) = serve(300, Options::default());
    market.lock().unwrap().advance_days(12);
    let key = market.lock().unwrap().keys().nth(17).unwrap();
    let by_number = client.get(&format!("Property({key})")).json();
    assert_eq!(by_number["@odata.context"], "$metadata#Property/$entity");
    assert_eq!(by_number["ListingKeyNumeric"], key);
    assert_eq!(client.get(&format!("Property('{key}')")).json(), by_number);
    assert_eq!(client.get("Property(5)").status, 404);
    let media = client.get(&format!("Property({key})/Media")).rows();
    assert_eq!(json!(media.len()), by_number["PhotosCount"]);
    let first = media[0]["MediaKey"].as_str().unwrap();
    assert_eq!(client.get(&format!("Media('{first}')")).json()["Order"], 1);
    let expanded = client
        .get(&format!("Property({key})?$expand=Media,OpenHouse"))
        .json();
    assert_eq!(expanded["Media"].as_array().unwrap(), &media);
    let select = "$select=ListingKeyNumeric&$expand=Media($select=MediaKey)";
    let small = client.get(&format!("Property?$top=1&{select}"));
    let row = &small.rows()[0];
    assert_eq!(row.as_object().unwrap().len(), 2);
    assert_eq!(row["Media"][0].as_object().unwrap().len(), 1);

    let (all_media, _) = client.walk("Media?$select=MediaKey,ModificationTimestamp");
    let media_keys: Vec<&str> = all_media
        .iter()
        .map(|m| m["MediaKey"].as_str().unwrap())
        .collect();
    assert!(media_keys.is_sorted());
    let (listings, _) = client.walk("Property?$select=ListingKeyNumeric,PhotosCount");
    let photos: u64 = listings
        .iter()
        .map(|r| r["PhotosCount"].as_u64().unwrap())
        .sum();
    assert_eq!(media_keys.len() as u64, photos);
    let since = "2026-03-04T00:00:00Z";
    let (fresh, _) = client.walk(&format!("Media?$filter=ModificationTimestamp ge {since}"));
    let expected = all_media
        .iter()
        .filter(|m| m["ModificationTimestamp"].as_str().unwrap() >= since);
    assert_eq!(fresh.len(), expected.count());
    assert!(!fresh.is_empty());
    let (open_houses, _) = client.walk("OpenHouse");
    assert!(!open_houses.is_empty());
    for name in ["Member", "Office"] {
        let (rows, _) = client.walk(name);
        assert!(rows.len() > 1);
    }
}

#[test]
fn deletions_are_in_the_deleted_log() {
    let (market, _server, client) = serve(300, Options::default());
    let key = market.lock().unwrap().keys().nth(5).unwrap();
    let gone = market.lock().unwrap().keys().nth(6).unwrap();
    let start = market.lock().unwrap().now();
    market.lock().unwrap().advance(60);
    assert!(market.lock().unwrap().play(key, Event::Delete));
    assert!(market.lock().unwrap().play(gone, Event::Vanish));
    let filter = format!(
        "resource eq 'Property' and ts gt {}",
        relist_sim::format_timestamp(start)
    );
    let rows = client
        .get(&format!("Deleted?$filter={filter}&$orderby=ts"))
        .rows();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["primary_key"], key.to_string());
    assert_eq!(client.get(&format!("Property({key})")).status, 404);
    assert_eq!(client.get(&format!("Property({gone})")).status, 404);
    assert_eq!(client.get("Property/$count").body, "298");
}

#[test]
fn metadata_and_service_document_describe_the_feed() {
    let (_market, _server, client) = serve(50, Options::default());
    let document = client.get("").json();
    let names: Vec<&str> = document["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["Property", "Member", "Office", "OpenHouse", "Media"]
    );
    let metadata = client.get("$metadata");
    assert!(metadata.head.contains("application/xml"));
    let schema = Schema::from_metadata(metadata.body.as_bytes()).unwrap();
    let property = schema.resource("Property").unwrap();
    assert_eq!(property.key_field, "ListingKeyNumeric");
    let flooring = FieldType::LookupList("Odata.Models.Flooring".to_owned());
    assert_eq!(property.field_named("Flooring").unwrap().ty, flooring);
    let status = schema.enum_type("Odata.Models.StandardStatus").unwrap();
    let display = status
        .members
        .iter()
        .find(|m| m.name == "ActiveUnderContract")
        .unwrap();
    assert_eq!(display.display.as_deref(), Some("Active Under Contract"));
    let row = &client.get("Property?$top=1").rows()[0];
    let fields: BTreeSet<&str> = property.fields.iter().map(|f| f.name.as_str()).collect();
    let served: BTreeSet<&str> = row
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(served, fields);
}

#[test]
fn names_and_types_are_those_of_wfrmls() {
    let dir = std::env::var("RELIST_DATA").unwrap_or_else(|_| "../../shared/data".to_owned());
    let Ok(real) = std::fs::read(format!("{dir}/wfrmls-metadata.xml")) else {
        println!("skipped: no wfrmls-metadata.xml in {dir}");
        return;
    };
    let real = Schema::from_metadata(&real).unwrap();
    let (_market, _server, client) = serve(10, Options::default());
    let ours = Schema::from_metadata(client.get("$metadata").body.as_bytes()).unwrap();
    for resource in &ours.resources {
        let theirs = real.resource(&resource.name).unwrap();
        assert_eq!(resource.key_field, theirs.key_field);
        for field in &resource.fields {
            let known = theirs.field_named(&field.name);
            let known = known.unwrap_or_else(|| panic!("{}.{}", resource.name, field.name));
            assert_eq!(field.ty, known.ty, "{}.{}", resource.name, field.name);
        }
    }
}

#[test]
fn refusals_say_why() {
    let (_market, server, client) = serve(50, Options::default());
    let refused = |path: &str, status: u16, part: &str| {
        let answer = client.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(
            answer.message().contains(part),
            "{path}: {}",
            answer.message()
        );
    };
    refused("Property?$filter=ListPrise gt 5", 400, "ListPrise");
    refused("Property?$filter=ListPrice eq 'x'", 400, "$filter");
    refused("Property?$filter=ListPrice+gt+5", 400, "$filter");
    refused("Property?$orderby=Nothing", 400, "Nothing");
    refused("Property?$select=Nothing", 400, "Nothing");
    refused("Property?$expand=Nothing", 400, "Nothing");
    refused("Property?$top=-1", 400, "$top");
    refused("Property?$skiptoken=00", 400, "$skiptoken");
    refused("Property?$frobnicate=1", 400, "frobnicate");
    refused("Property?$apply=groupby((City))", 501, "$apply");
    refused("Property(abc)", 400, "key");
    refused("Listing", 404, "Listing");
    refused("Property(1)/Nothing", 404, "key");
    let wrong = Client {
        token: "wrong".to_owned(),
        ..Client::of(&server)
    };
    let answer = wrong.get("Property");
    assert_eq!(answer.status, 401);
    assert!(answer.head.contains("WWW-Authenticate: Bearer"));
    assert!(!answer.message().is_empty());
    let host = server.base_url();
    let host = host
        .strip_prefix("http://")
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    let none = exchange(
        host,
        "GET /reso/odata/Property HTTP/1.1\r\nConnection: close\r\n\r\n",
    );
    assert!(none.starts_with(b"HTTP/1.1 401 "));
    assert!(exchange(host, "nonsense\r\n\r\n").starts_with(b"HTTP/1.1 400 "));
}

#[test]
fn page_sizes_dates_and_keep_alive() {
    let (market, server, client) = serve(250, Options::default());
    assert_eq!(client.get("Property").rows().len(), 200);
    assert_eq!(client.get("Property?$top=1000").rows().len(), 200);
    let answer = client.get_with("Property", "Prefer: odata.maxpagesize=30\r\n");
    assert_eq!(answer.rows().len(), 30);
    assert!(
        answer
            .head
            .contains("Preference-Applied: odata.maxpagesize=30")
    );
    assert!(answer.head.contains("Date: Mon, 02 Mar 2026 00:00:00 GMT"));
    market.lock().unwrap().advance(5);
    assert!(
        client
            .get("")
            .head
            .contains("Date: Mon, 02 Mar 2026 00:00:05 GMT")
    );
    // Two requests down one connection.
    let url = server.base_url();
    let (host, root) = url
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    let one = format!(
        "GET /{root}/Property(1) HTTP/1.1\r\nAuthorization: Bearer {}\r\n",
        server.token()
    );
    let both = format!("{one}\r\n{one}Connection: close\r\n\r\n");
    let text = String::from_utf8(exchange(host, &both)).unwrap();
    assert_eq!(text.matches("HTTP/1.1 404 Not Found").count(), 2);
}

#[test]
fn hooks_change_rows_under_a_walk_and_corrupt_answers() {
    let market = Arc::new(Mutex::new(Market::new(1, Size::listings(500))));
    let shared = Arc::clone(&market);
    let server = Server::start(
        Arc::clone(&market),
        Options {
            before_page: Some(Box::new(move |number| {
                if number == 1 {
                    let mut market = shared.lock().unwrap();
                    let first = market.keys().next().unwrap();
                    assert!(market.play(first, Event::Delete));
                }
            })),
            intercept: Some(Box::new(|request| {
                request
                    .target
                    .contains("Office")
                    .then(|| Response::error(503, "try later"))
            })),
            alter: Some(Box::new(|request, response| {
                if request.path().ends_with("Member") {
                    Response {
                        framing: Framing::Claimed(9_999_999),
                        ..response
                    }
                } else {
                    response
                }
            })),
            ..Options::default()
        },
    )
    .unwrap();
    let client = Client::of(&server);
    // An offset walk loses a row when one before it goes: the hazard this feed is to show.
    let (rows, _) = client.walk("Property");
    assert_eq!(rows.len(), 499);
    assert_eq!(client.get("Office").status, 503);
    assert!(
        client
            .get("Member")
            .head
            .contains("Content-Length: 9999999")
    );
    assert_eq!(server.request_count(), 5);
    assert_eq!(server.request_lines()[3], "GET /reso/odata/Office");
}

#[test]
fn given_rows_are_served_as_they_are() {
    let stamp = "2026-01-01T00:00:00Z";
    let rows = (0..5_000).map(
        |key| json!({"ListingKeyNumeric": key, "ListPrice": 1.5, "ModificationTimestamp": stamp}),
    );
    let mut data = Dataset::new()
        .with_resource("Property", "ListingKeyNumeric", rows)
        .unwrap();
    data.put_json(
        "Property",
        r#"{"ListingKeyNumeric":5000,"ListPrice":2950000.0,"B":null}"#,
    )
    .unwrap();
    let error = data.put_json("Property", r#"{"ListPrice":1}"#).unwrap_err();
    assert!(error.contains("ListingKeyNumeric"), "{error}");
    let data = Arc::new(Mutex::new(data));
    let server = Server::start(Arc::clone(&data), Options::default()).unwrap();
    let client = Client::of(&server);
    assert_eq!(client.walk("Property").0.len(), 5_001);
    let (rows, pages) = client.walk(&format!(
        "Property?$filter=ModificationTimestamp ge {stamp}"
    ));
    assert_eq!((rows.len(), pages), (5_000, 25));
    // The numbers keep their lexeme and the fields their order.
    let exact = "{\"ListingKeyNumeric\":5000,\"ListPrice\":2950000.0,\"B\":null}";
    assert!(
        client
            .get("Property?$filter=ListingKeyNumeric eq 5000")
            .body
            .contains(exact)
    );
    assert!(
        data.lock()
            .unwrap()
            .remove("Property", &relist_sim::Key::Int(5_000))
    );
    assert_eq!(client.get("Property/$count").body, "5000");
}
