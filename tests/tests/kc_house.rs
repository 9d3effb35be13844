//! The King County feed is what its table says, before anything is mirrored from it.

use relist_tests::{data, kc_house};
use serde_json::Value;

const PAGE: usize = 200;

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
