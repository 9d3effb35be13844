//! A real feed from a real table: 21,613 sales of homes in King County, Washington, from May 2014
//! to May 2015, mapped to the names of the RESO Data Dictionary.
//!
//! [`read`] takes the CSV, [`pages`] gives what a server would have sent for it, and
//! [`Facts::of`] says what a mirror of these pages must answer. The facts come from the columns
//! of the table, never from the pages. A home that was sold again is the same listing, updated:
//! replayed in date order, the table has true histories.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The columns of the table, in order.
const COLUMNS: &str = "id,date,price,bedrooms,bathrooms,sqft_living,sqft_lot,floors,waterfront,\
    view,condition,grade,sqft_above,sqft_basement,yr_built,yr_renovated,zipcode,lat,long,\
    sqft_living15,sqft_lot15";

/// The assessor's words for the column `condition`, from 1.
const CONDITIONS: [&str; 5] = ["Poor", "Fair", "Average", "Good", "Very Good"];

/// One row of the table, as it is written there.
#[derive(Debug, Clone)]
pub struct Sale {
    /// The parcel: the home's key.
    pub id: i64,
    /// The day of the sale, `YYYY-MM-DD`.
    pub date: String,
    /// US dollars.
    pub price: i64,
    columns: Vec<String>,
}

impl Sale {
    /// A column's text. Panics for a name that the table does not have.
    pub fn text(&self, column: &str) -> &str {
        let at = COLUMNS
            .split(',')
            .position(|c| c == column)
            .expect("a column of the table");
        &self.columns[at]
    }

    /// A column as a whole number.
    pub fn number(&self, column: &str) -> i64 {
        self.text(column)
            .parse()
            .expect("a column of whole numbers")
    }

    /// The postal code.
    pub fn zip(&self) -> &str {
        self.text("zipcode")
    }

    /// The sale as an entity of `Property`. Numbers stand as they do in the table.
    fn entity(&self) -> String {
        let yes = |column| {
            if self.text(column) == "0" {
                "false"
            } else {
                "true"
            }
        };
        let (whole, fraction) = self
            .text("bathrooms")
            .split_once('.')
            .unwrap_or_else(|| (self.text("bathrooms"), ""));
        let part = |digits| i32::from(fraction == digits);
        let full: i32 = whole.parse().expect("checked when it was read");
        let renovated = match self.text("yr_renovated") {
            "0" => "null",
            year => year,
        };
        let condition: usize = self
            .text("condition")
            .parse()
            .expect("checked when it was read");
        let condition = CONDITIONS[condition - 1];
        let (id, date, price) = (self.id, &self.date, self.text("price"));
        let fields = [
            ("ListingKey", format!("\"{id}\"")),
            ("ListingKeyNumeric", id.to_string()),
            ("ParcelNumber", format!("\"{id:010}\"")),
            ("StandardStatus", "\"Closed\"".into()),
            ("PropertyType", "\"Residential\"".into()),
            ("ClosePrice", price.into()),
            ("ListPrice", price.into()),
            ("CloseDate", format!("\"{date}\"")),
            ("BedroomsTotal", self.text("bedrooms").into()),
            (
                "BathroomsTotalInteger",
                (full + i32::from(!fraction.is_empty())).to_string(),
            ),
            ("BathroomsFull", full.to_string()),
            ("BathroomsThreeQuarter", part("75").to_string()),
            ("BathroomsHalf", part("5").to_string()),
            ("BathroomsOneQuarter", part("25").to_string()),
            ("LivingArea", self.text("sqft_living").into()),
            ("AboveGradeFinishedArea", self.text("sqft_above").into()),
            ("BelowGradeFinishedArea", self.text("sqft_basement").into()),
            ("LotSizeSquareFeet", self.text("sqft_lot").into()),
            ("Stories", self.text("floors").into()),
            ("WaterfrontYN", yes("waterfront").into()),
            ("ViewYN", yes("view").into()),
            ("PropertyCondition", format!("[\"{condition}\"]")),
            ("YearBuilt", self.text("yr_built").into()),
            ("YearBuiltEffective", renovated.into()),
            ("PostalCode", format!("\"{}\"", self.zip())),
            ("CountyOrParish", "\"King\"".into()),
            ("StateOrProvince", "\"WA\"".into()),
            ("Country", "\"US\"".into()),
            ("Latitude", self.text("lat").into()),
            ("Longitude", self.text("long").into()),
            ("ModificationTimestamp", format!("\"{date}T00:00:00Z\"")),
        ];
        let fields: Vec<_> = fields.iter().map(|(n, v)| format!("\"{n}\":{v}")).collect();
        format!("{{{}}}", fields.join(","))
    }
}

/// Reads the table; the sales come in date order, those of a day as the table has them.
///
/// An error names the line and what was expected in it.
pub fn read(csv: &str) -> Result<Vec<Sale>, String> {
    let mut lines = csv.lines().enumerate();
    let header = lines.next().map(|(_, line)| line).unwrap_or_default();
    if header != COLUMNS {
        return Err(format!("line 1: {header:?} found, {COLUMNS:?} expected"));
    }
    let sales = lines.map(|(i, line)| sale(line).map_err(|e| format!("line {}: {e}", i + 1)));
    let mut sales = sales.collect::<Result<Vec<_>, _>>()?;
    sales.sort_by(|a, b| a.date.cmp(&b.date));
    Ok(sales)
}

fn sale(line: &str) -> Result<Sale, String> {
    let columns: Vec<String> = line.split(',').map(str::to_owned).collect();
    let expected = COLUMNS.split(',').count();
    if columns.len() != expected {
        return Err(format!(
            "{} columns found, {expected} expected",
            columns.len()
        ));
    }
    let number = |at: usize| {
        let text = &columns[at];
        text.parse::<i64>()
            .map_err(|_| format!("{text:?} found, a whole number expected"))
    };
    let date = match (columns[1].get(..8), columns[1].get(8..)) {
        (Some(day), Some("T000000")) if day.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{}-{}-{}", &day[..4], &day[4..6], &day[6..])
        }
        _ => return Err(format!("{:?} found, YYYYMMDDT000000 expected", columns[1])),
    };
    for (name, text) in COLUMNS.split(',').zip(&columns).skip(2) {
        // Written as JSON writes it, and without an exponent: the text is copied to the pages.
        let plain = text
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'));
        if !plain || text.parse::<f64>().is_err() {
            return Err(format!("{name}: {text:?} found, a number expected"));
        }
    }
    let (id, price) = (number(0)?, number(2)?);
    if !(1..=5).contains(&number(10)?) {
        return Err(format!(
            "condition: {:?} found, 1 to 5 expected",
            columns[10]
        ));
    }
    Ok(Sale {
        id,
        date,
        price,
        columns,
    })
}

/// The sales as the pages of a walk over `Property`, each with a nextLink but the last.
pub fn pages(sales: &[Sale], page_size: usize) -> Vec<Vec<u8>> {
    let chunks = sales.chunks(page_size);
    let last = chunks.len().saturating_sub(1);
    let page = |(i, chunk): (usize, &[Sale])| {
        let entities: Vec<_> = chunk.iter().map(Sale::entity).collect();
        let mut page = format!(
            "{{\"@odata.context\":\"$metadata#Property\",\"value\":[{}]",
            entities.join(",")
        );
        if i < last {
            let skip = (i + 1) * page_size;
            let _ = write!(page, ",\"@odata.nextLink\":\"Property?$skip={skip}\"");
        }
        page.push('}');
        page.into_bytes()
    };
    chunks.enumerate().map(page).collect()
}

/// What a mirror of the sales must answer.
#[derive(Debug)]
pub struct Facts {
    /// Rows of the table: sales.
    pub sales: usize,
    /// Each home's sales in date order: day and price. Its last is the home's current state.
    pub histories: BTreeMap<i64, Vec<(String, i64)>>,
    /// The homes by postal code, at their last price.
    pub zips: BTreeMap<String, ZipFacts>,
}

/// The homes of one postal code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZipFacts {
    /// How many homes there are.
    pub homes: usize,
    /// The lowest last price.
    pub min_price: i64,
    /// The highest last price.
    pub max_price: i64,
    /// The sum of the last prices.
    pub sum_price: i64,
}

impl Facts {
    /// The facts of sales in date order.
    pub fn of(sales: &[Sale]) -> Self {
        let mut histories: BTreeMap<i64, Vec<(String, i64)>> = BTreeMap::new();
        let mut current: BTreeMap<i64, &Sale> = BTreeMap::new();
        for sale in sales {
            histories
                .entry(sale.id)
                .or_default()
                .push((sale.date.clone(), sale.price));
            current.insert(sale.id, sale);
        }
        let mut zips: BTreeMap<String, ZipFacts> = BTreeMap::new();
        for sale in current.values() {
            let zip = zips
                .entry(sale.zip().to_owned())
                .or_insert_with(|| ZipFacts {
                    min_price: i64::MAX,
                    ..ZipFacts::default()
                });
            zip.homes += 1;
            zip.min_price = zip.min_price.min(sale.price);
            zip.max_price = zip.max_price.max(sale.price);
            zip.sum_price += sale.price;
        }
        Facts {
            sales: sales.len(),
            histories,
            zips,
        }
    }

    /// The homes sold more than once.
    pub fn resold(&self) -> impl Iterator<Item = (&i64, &Vec<(String, i64)>)> {
        self.histories.iter().filter(|(_, sales)| sales.len() > 1)
    }
}
