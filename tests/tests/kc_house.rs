//! The King County feed is what its table says, and a mirror of it answers as the table does.

use relist::keycode::Key;
use relist::odata::Query;
use relist::query::{QueryContext, QueryResult};
use relist::record::Record;
use relist::store::{AsOf, Operation, Outcome, Snapshot};
use relist::value::{DateTime, Timestamp};
use relist_tests::fresh::Fresh;
use relist_tests::kc_house::{Facts, Sale};
use relist_tests::{data, kc_house};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const PAGE: usize = 200;

/// The table's sales in date order, and what they say; without the table, says that `test` is
/// skipped.
fn table(test: &str) -> Option<(Vec<Sale>, Facts)> {
    let csv = data::read(test, "kc_house_data_21613.csv")?;
    let sales = kc_house::read(std::str::from_utf8(&csv).unwrap()).unwrap();
    let facts = Facts::of(&sales);
    Some((sales, facts))
}

#[test]
fn the_feed_has_every_sale_once_in_date_order() {
    let Some(csv) = data::read("king county feed", "kc_house_data_21613.csv") else {
        return;
    };
    let sales = kc_house::read(std::str::from_utf8(&csv).unwrap()).unwrap();
    let facts = kc_house::Facts::of(&sales);
    assert_eq!((facts.sales, facts.histories.len()), (21_613, 21_436));
    assert_eq!(facts.resold().count(), 176);
    let steps = facts.resold().flat_map(|(_, sales)| sales.windows(2));
    let moves: Vec<_> = steps.map(|pair| pair[0].1 != pair[1].1).collect();
    assert_eq!(
        (moves.len(), moves.iter().filter(|m| **m).count()),
        (177, 174)
    );
    let thrice: Vec<_> = facts.histories[&795_000_620]
        .iter()
        .map(|(d, p)| (d.as_str(), *p))
        .collect();
    let expected = [
        ("2014-09-24", 115_000),
        ("2014-12-15", 124_000),
        ("2015-03-11", 157_000),
    ];
    assert_eq!(thrice, expected);
    let medina = &facts.zips["98039"];
    assert_eq!(
        (medina.homes, medina.min_price, medina.max_price),
        (49, 787_500, 6_885_000)
    );
    assert_eq!((facts.zips.len(), facts.zips["98103"].homes), (70, 600));

    let pages = kc_house::pages(&sales, PAGE);
    assert_eq!(pages.len(), 21_613_usize.div_ceil(PAGE));
    let mut rows = 0;
    let mut last = String::new();
    for (i, page) in pages.iter().enumerate() {
        let page: Value = serde_json::from_slice(page).unwrap();
        let entities = page["value"].as_array().unwrap();
        assert_eq!(page.get("@odata.nextLink").is_some(), i + 1 < pages.len());
        for (entity, sale) in entities.iter().zip(&sales[rows..]) {
            assert_eq!(entity["ListingKeyNumeric"], sale.id);
            assert_eq!(entity["ClosePrice"], sale.price);
            assert_eq!(entity["PostalCode"], sale.zip());
            let stamp = entity["ModificationTimestamp"].as_str().unwrap();
            assert!(stamp >= last.as_str(), "{stamp} after {last}");
            stamp.clone_into(&mut last);
        }
        rows += entities.len();
    }
    assert_eq!(rows, sales.len());
}

#[test]
fn a_wrong_table_names_its_line() {
    let header = "id,date,price,bedrooms,bathrooms,sqft_living,sqft_lot,floors,waterfront,view,\
                  condition,grade,sqft_above,sqft_basement,yr_built,yr_renovated,zipcode,lat,long,\
                  sqft_living15,sqft_lot15";
    let row = "7,20150101T000000,1e5,3,2.5,1,1,2,0,0,3,7,1,0,1990,0,98001,47.5,-122.3,1,1";
    let refused = |text: String| kc_house::read(&text).unwrap_err();
    assert!(refused("id,price".into()).starts_with("line 1:"));
    assert!(refused(format!("{header}\n{row}")).contains("line 2: price: \"1e5\""));
    assert!(refused(format!("{header}\n1,2")).contains("2 columns found, 21 expected"));
    let dated = row.replace("20150101T000000", "TBD").replace("1e5", "1");
    assert!(refused(format!("{header}\n{dated}")).contains("YYYYMMDDT000000 expected"));
    let good = row.replace("1e5", "100000");
    let sales = kc_house::read(&format!("{header}\n{good}")).unwrap();
    let page = String::from_utf8(kc_house::pages(&sales, 200).remove(0)).unwrap();
    let expected = "\"BathroomsTotalInteger\":3,\"BathroomsFull\":2,\"BathroomsThreeQuarter\":0,\
                    \"BathroomsHalf\":1,";
    assert!(page.contains(expected), "{page}");
    assert!(page.contains("\"YearBuiltEffective\":null"), "{page}");
}

/// The end of a day: when a page whose last sale was on that day is observed.
fn night(date: &str) -> Timestamp {
    let at = DateTime::parse(&format!("{date}T23:59:59Z")).unwrap();
    at.to_timestamp().unwrap()
}

/// Mirrors every page, each in a run of its own at the night of its last sale. Gives the store
/// and the nights.
fn page_by_page(sales: &[Sale]) -> (Fresh, Vec<Timestamp>) {
    let fresh = Fresh::new();
    let mut nights = Vec::new();
    let mut seen = BTreeSet::new();
    for (chunk, page) in sales.chunks(PAGE).zip(kc_house::pages(sales, PAGE)) {
        let at = night(&chunk.last().unwrap().date);
        let report = fresh.ingest("Property", &[("page", page)], at.0);
        let new = chunk.iter().filter(|sale| seen.insert(sale.id)).count() as u64;
        let all = chunk.len() as u64;
        assert_eq!((report.records, report.inserted), (all, new));
        assert_eq!((report.updated, report.unchanged), (all - new, 0));
        assert_eq!(report.outcome, Outcome::Complete);
        nights.push(at);
    }
    (fresh, nights)
}

fn text(record: &Record, field: &str) -> String {
    let value = record.get(field).unwrap();
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn whole(record: &Record, field: &str) -> i64 {
    text(record, field).parse().unwrap()
}

fn price_of(record: &Record) -> (String, i64) {
    let date = text(record, "CloseDate");
    (
        date.trim_matches('"').to_owned(),
        whole(record, "ClosePrice"),
    )
}

fn home(id: i64) -> Key {
    Key::Str(id.to_string())
}

fn ask(snapshot: &Snapshot, options: &str, as_of: Option<AsOf>) -> QueryResult {
    let query = Query::parse("Property", options).unwrap();
    let now = Timestamp(0);
    let context = QueryContext {
        as_of,
        now,
        clock: None,
    };
    snapshot.query(&query, &context).unwrap()
}

/// Each home is there as it was last sold, and its versions are its sales.
fn compare_with_facts(fresh: &Fresh, facts: &Facts) {
    let snapshot = fresh.snapshot();
    let homes = facts.histories.len() as u64;
    assert_eq!(snapshot.count("Property").unwrap(), homes);
    for (id, sales) in &facts.histories {
        let record = snapshot.get("Property", &home(*id)).unwrap().unwrap();
        assert_eq!(price_of(&record), *sales.last().unwrap(), "home {id}");
    }
    for (id, sales) in facts.resold() {
        let versions = snapshot.history("Property", &home(*id)).unwrap();
        let prices: Vec<_> = versions.iter().map(|v| price_of(&v.record)).collect();
        assert_eq!(prices, *sales, "home {id}");
        // Each version ends where the next begins, and is what was there in between.
        for pair in versions.windows(2) {
            assert_eq!(pair[0].to, Some(pair[1].from));
            for at in [pair[0].from, pair[1].from - 1] {
                let then = snapshot.get_at("Property", &home(*id), AsOf::Sequence(at));
                let then = then.unwrap().unwrap();
                assert_eq!(then.to_json(None), pair[0].record.to_json(None));
            }
        }
        let first = versions[0].from;
        let before = snapshot.get_at("Property", &home(*id), AsOf::Sequence(first - 1));
        assert!(before.unwrap().is_none());
        assert_eq!(versions.last().unwrap().to, None);
    }
    let report = fresh.verify();
    assert_eq!(
        (report.records, report.versions),
        (homes, facts.sales as u64)
    );
    assert_eq!((report.changes, report.tombstones), (facts.sales as u64, 0));
    // The log has each resale once, and a price change where the price changed.
    let mut moves = BTreeMap::new();
    let mut inserts = 0;
    for change in snapshot.changes(0).unwrap() {
        let change = change.unwrap();
        match change.operation {
            Operation::Insert => inserts += 1,
            Operation::Update => {
                let fields: BTreeSet<&str> =
                    change.fields.iter().map(|f| f.name.as_str()).collect();
                assert!(fields.contains("CloseDate") && fields.contains("ModificationTimestamp"));
                for field in change.fields.iter().filter(|f| f.name == "ClosePrice") {
                    let side = |cell: Option<relist::record::Cell<'_>>| cell.unwrap().to_json();
                    let step = (side(field.previous()), side(field.new_value()));
                    let of = moves
                        .entry(change.key.clone().unwrap())
                        .or_insert_with(Vec::new);
                    of.push(step);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    let mut expected = BTreeMap::new();
    for (id, sales) in facts.resold() {
        let steps = sales.windows(2).filter(|pair| pair[0].1 != pair[1].1);
        let steps = steps.map(|pair| (pair[0].1.to_string(), pair[1].1.to_string()));
        let steps: Vec<_> = steps.collect();
        if !steps.is_empty() {
            expected.insert(home(*id), steps);
        }
    }
    assert_eq!(moves, expected);
    assert_eq!(moves.values().map(Vec::len).sum::<usize>(), 174);
    assert_eq!(inserts, homes);
}

#[test]
fn pages_read_in_one_run_give_true_histories() {
    let Some((sales, facts)) = table("pages_read_in_one_run_give_true_histories") else {
        return;
    };
    let fresh = Fresh::new();
    let pages = kc_house::pages(&sales, PAGE);
    let names: Vec<String> = (0..pages.len()).map(|i| format!("page {i}")).collect();
    let files: Vec<(&str, &Vec<u8>)> = names.iter().map(String::as_str).zip(&pages).collect();
    let report = fresh.ingest("Property", &files, 1);
    assert_eq!(report.outcome, Outcome::Complete);
    assert_eq!((report.pages, report.records), (109, 21_613));
    assert_eq!((report.inserted, report.updated), (21_436, 177));
    assert_eq!((report.unchanged, report.quarantined), (0, 0));
    // The list price of the feed is the price of the sale.
    assert_eq!((report.price_changes, report.status_changes), (174, 0));
    assert!(report.misfits.is_empty());
    compare_with_facts(&fresh, &facts);

    // Every row of every column comes out with the digits it has in the table.
    let snapshot = fresh.snapshot();
    for sale in sales.iter().rev().take(2_000) {
        if facts.histories[&sale.id].len() > 1 {
            continue;
        }
        let record = snapshot.get("Property", &home(sale.id)).unwrap().unwrap();
        let json = record.to_json(None);
        for (field, column) in [
            ("ListPrice", "price"),
            ("BedroomsTotal", "bedrooms"),
            ("LivingArea", "sqft_living"),
            ("LotSizeSquareFeet", "sqft_lot"),
            ("Stories", "floors"),
            ("Latitude", "lat"),
            ("Longitude", "long"),
        ] {
            let member = format!("\"{field}\":{},", sale.text(column));
            assert!(json.contains(&member), "{member} {json}");
        }
    }
}

#[test]
fn pages_read_one_by_one_give_the_same_and_what_was_known_each_night() {
    let test = "pages_read_one_by_one_give_the_same_and_what_was_known_each_night";
    let Some((sales, facts)) = table(test) else {
        return;
    };
    let (fresh, nights) = page_by_page(&sales);
    compare_with_facts(&fresh, &facts);
    let snapshot = fresh.snapshot();
    assert_eq!(snapshot.runs(1_000).unwrap().len(), 109);

    // Between two sales a home has the price of the former one.
    let mut between = 0;
    for (id, _) in facts.resold() {
        let places: Vec<usize> = (0..)
            .zip(&sales)
            .filter(|(_, s)| s.id == *id)
            .map(|p| p.0)
            .collect();
        for pair in places.windows(2) {
            let (former, latter) = (&sales[pair[0]], &sales[pair[1]]);
            let (from, to) = (nights[pair[0] / PAGE], nights[pair[1] / PAGE]);
            for at in [from.0, to.0 - 1] {
                let then = snapshot.get_at("Property", &home(*id), AsOf::Instant(Timestamp(at)));
                let expected = (former.date.clone(), former.price);
                assert_eq!(price_of(&then.unwrap().unwrap()), expected, "home {id}");
            }
            let then = snapshot.get_at("Property", &home(*id), AsOf::Instant(to));
            assert_eq!(whole(&then.unwrap().unwrap(), "ClosePrice"), latter.price);
            between += 1;
        }
    }
    assert_eq!(between, 177);

    // What was known at a night is what the pages until then say.
    for page in [0, 1, 54, 107] {
        let known = Facts::of(&sales[..(page + 1) * PAGE]);
        let at = Some(AsOf::Instant(nights[page]));
        let rows = ask(&snapshot, "$select=PostalCode,ClosePrice&$count=true", at);
        assert_eq!(rows.count, Some(known.histories.len() as u64));
        assert_eq!(by_zip(&rows.rows), known.zips);
    }
}

/// Counts, lowest, highest and sum of the prices by postal code.
fn by_zip(rows: &[Record]) -> BTreeMap<String, kc_house::ZipFacts> {
    let mut out: BTreeMap<String, kc_house::ZipFacts> = BTreeMap::new();
    for row in rows {
        let price = whole(row, "ClosePrice");
        let of = out.entry(text(row, "PostalCode")).or_default();
        of.min_price = if of.homes == 0 {
            price
        } else {
            of.min_price.min(price)
        };
        of.max_price = of.max_price.max(price);
        of.sum_price += price;
        of.homes += 1;
    }
    out
}

/// The current homes, as they were last sold.
fn current(sales: &[Sale]) -> Vec<&Sale> {
    let last: BTreeMap<i64, &Sale> = sales.iter().map(|sale| (sale.id, sale)).collect();
    last.into_values().collect()
}

#[test]
fn queries_answer_as_the_table_does() {
    let Some((sales, facts)) = table("queries_answer_as_the_table_does") else {
        return;
    };
    let fresh = Fresh::new();
    fresh.ingest(
        "Property",
        &[("all", kc_house::pages(&sales, sales.len()).remove(0))],
        1,
    );
    // One page with all of them: of the sales of one home only the last one counts.
    let snapshot = fresh.snapshot();
    let put_aside = snapshot.quarantined().unwrap();
    assert_eq!(put_aside.len(), 177);
    let twice = put_aside
        .iter()
        .all(|q| q.reason.contains("the page gives key "));
    assert!(twice, "{put_aside:?}");

    let homes = current(&sales);
    let rows = ask(&snapshot, "$select=PostalCode,ClosePrice", None).rows;
    assert_eq!(by_zip(&rows), facts.zips);
    for zip in ["98039", "98103", "98001"] {
        let of = &facts.zips[zip];
        let filter = format!("$filter=PostalCode eq '{zip}'&$count=true");
        let low = ask(
            &snapshot,
            &format!("{filter}&$orderby=ClosePrice&$top=1"),
            None,
        );
        let high = ask(
            &snapshot,
            &format!("{filter}&$orderby=ClosePrice desc&$top=1"),
            None,
        );
        assert_eq!(
            (low.count, high.count),
            (Some(of.homes as u64), Some(of.homes as u64))
        );
        let ends = (
            whole(&low.rows[0], "ClosePrice"),
            whole(&high.rows[0], "ClosePrice"),
        );
        assert_eq!(ends, (of.min_price, of.max_price), "{zip}");
    }
    check_filters(&snapshot, &homes);
    check_orders(&snapshot, &homes);
}

fn check_filters(snapshot: &Snapshot, homes: &[&Sale]) {
    type Test = fn(&Sale) -> bool;
    let number = |text: &str| text.parse::<f64>().unwrap();
    let cases: [(&str, Test); 15] = [
        ("YearBuiltEffective gt 2000", |s| {
            s.number("yr_renovated") > 2_000
        }),
        ("ClosePrice ge 1000000", |s| s.price >= 1_000_000),
        ("ClosePrice gt 1000000.0", |s| s.price > 1_000_000),
        ("ClosePrice eq 450000", |s| s.price == 450_000),
        ("ClosePrice ne 450000", |s| s.price != 450_000),
        ("BedroomsTotal in (1,7,33)", |s| {
            [1, 7, 33].contains(&s.number("bedrooms"))
        }),
        ("not (BedroomsTotal lt 5)", |s| s.number("bedrooms") >= 5),
        ("BedroomsTotal eq 3 and ClosePrice lt 300000", |s| {
            s.number("bedrooms") == 3 && s.price < 300_000
        }),
        (
            "BedroomsTotal eq 9 or BedroomsTotal eq 2 and ViewYN eq true",
            |s| s.number("bedrooms") == 9 || s.number("bedrooms") == 2 && s.text("view") != "0",
        ),
        ("WaterfrontYN", |s| s.text("waterfront") == "1"),
        ("YearBuiltEffective eq null", |s| {
            s.text("yr_renovated") == "0"
        }),
        ("year(CloseDate) eq 2015 and month(CloseDate) le 2", |s| {
            s.date.as_str() < "2015-03" && s.date.as_str() > "2015"
        }),
        ("CloseDate lt 2014-06-01", |s| {
            s.date.as_str() < "2014-06-01"
        }),
        ("ModificationTimestamp ge 2015-05-01T00:00:00+02:00", |s| {
            s.date.as_str() >= "2015-05-01"
        }),
        ("ClosePrice div LivingArea lt 100", |s| {
            s.price < 100 * s.number("sqft_living")
        }),
    ];
    for (filter, test) in cases {
        let rows = ask(
            snapshot,
            &format!("$filter={}", relist_tests::odatapy::percent_encoded(filter)),
            None,
        )
        .rows;
        let found: BTreeSet<i64> = rows.iter().map(|r| whole(r, "ListingKeyNumeric")).collect();
        let expected: BTreeSet<i64> = homes.iter().filter(|s| test(s)).map(|s| s.id).collect();
        assert!(
            !expected.is_empty() && expected.len() < homes.len(),
            "{filter} tells nothing"
        );
        assert_eq!(found, expected, "{filter}");
    }
    let north = ask(
        snapshot,
        "$filter=Latitude gt 47.7775 and Stories eq 1.5",
        None,
    )
    .rows
    .len();
    let expected = homes
        .iter()
        .filter(|s| number(s.text("lat")) > 47.7775 && s.text("floors") == "1.5");
    assert_eq!(north, expected.count());
    let condition = ask(
        snapshot,
        "$filter=PropertyCondition/any(c: c eq 'Poor')",
        None,
    )
    .rows
    .len();
    assert_eq!(
        condition,
        homes.iter().filter(|s| s.text("condition") == "1").count()
    );
}

fn check_orders(snapshot: &Snapshot, homes: &[&Sale]) {
    let keys =
        |rows: &[Record]| -> Vec<String> { rows.iter().map(|r| text(r, "ListingKey")).collect() };
    // The key is a string, and ties come in its order.
    let mut sorted = homes.to_vec();
    sorted.sort_by_key(|s| (-s.number("bedrooms"), s.price, s.id.to_string()));
    let sorted: Vec<String> = sorted.iter().map(|s| s.id.to_string()).collect();
    let order = "$orderby=BedroomsTotal desc,ClosePrice";
    let top = ask(snapshot, &format!("{order}&$top=500"), None);
    assert_eq!(keys(&top.rows), sorted[..500]);
    let page = ask(
        snapshot,
        &format!("{order}&$top=300&$skip=5000&$count=true"),
        None,
    );
    assert_eq!(keys(&page.rows), sorted[5_000..5_300]);
    assert_eq!(page.count, Some(homes.len() as u64));
    let past = ask(snapshot, &format!("{order}&$skip=21430"), None);
    assert_eq!(keys(&past.rows), sorted[21_430..]);
}

#[test]
fn a_page_again_changes_nothing_and_the_last_read_wins() {
    let test = "a_page_again_changes_nothing_and_the_last_read_wins";
    let Some((sales, facts)) = table(test) else {
        return;
    };
    let fresh = Fresh::new();
    let pages = kc_house::pages(&sales, PAGE);
    // A page twice in a row is as good as once.
    for (at, page) in (1..).zip(pages.iter().take(30)) {
        fresh.ingest("Property", &[("page", page)], at);
        let sequence = fresh.snapshot().sequence();
        let again = fresh.ingest("Property", &[("page", page)], at);
        assert_eq!((again.applied(), again.unchanged), (0, again.records));
        assert_eq!(fresh.snapshot().sequence(), sequence);
    }
    for (at, page) in (31..).zip(pages.iter().skip(30)) {
        fresh.ingest("Property", &[("page", page)], at);
    }
    compare_with_facts(&fresh, &facts);

    // The store takes the feed at its word, whatever its stamps say: the last read wins. Read
    // again from the start, the 176 homes that were sold again go back to their first sale and
    // through the others, each a change in the log; and all ends as it was.
    let (before, sequence) = (fresh.records("Property"), fresh.snapshot().sequence());
    let names: Vec<(&str, &Vec<u8>)> = pages.iter().map(|page| ("page", page)).collect();
    let report = fresh.ingest("Property", &names, 200);
    let resales: u64 = facts.resold().map(|(_, sales)| sales.len() as u64).sum();
    assert_eq!(resales, 353);
    assert_eq!(
        (report.updated, report.unchanged),
        (resales, 21_613 - resales)
    );
    assert_eq!(fresh.records("Property"), before);
    assert_eq!(fresh.snapshot().sequence() - sequence, resales);
    let changed = fresh.snapshot();
    let changed = changed
        .changes(sequence)
        .unwrap()
        .map(|c| c.unwrap().key.unwrap());
    let changed: BTreeSet<Key> = changed.collect();
    assert_eq!(changed, facts.resold().map(|(id, _)| home(*id)).collect());
    fresh.verify();
}
