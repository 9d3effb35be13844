//! The examples of the standard, on its own data, and what it says of nulls; then our own
//! extensions, and errors.

use relist::error::{Error, QueryError};
use relist::odata::{Query, bind_apply, parse_apply};
use relist::query::{AggregateResult, Explain, Groups};
use relist::schema::{Field, FieldType, Resource, Schema};
use serde_json::{Value as Json, json};

use super::sample::{EntityRow, now, property, schema};

/// The sales of OData Extension for Data Aggregation 4.0, 2.3, with customer and product in them.
fn sales() -> (Schema, Vec<Json>) {
    let fields = [
        ("ID", FieldType::Int),
        ("Customer", FieldType::String),
        ("Country", FieldType::String),
        ("Product", FieldType::String),
        ("Currency", FieldType::String),
        ("Time", FieldType::Date),
        ("Amount", FieldType::Decimal),
    ];
    let resource = Resource {
        name: "Sales".to_owned(),
        key_field: "ID".to_owned(),
        declared: true,
        fields: fields
            .map(|(name, ty)| Field {
                name: name.to_owned(),
                ty,
                declared: true,
            })
            .to_vec(),
        navigation: Vec::new(),
    };
    let rows = [
        (1, "Joe", "USA", "Paper", "USD", "2022-01-03", json!(1)),
        (2, "Joe", "USA", "Sugar", "USD", "2022-04-10", json!(2)),
        (3, "Joe", "USA", "Coffee", "USD", "2022-08-07", json!(4)),
        (4, "Sue", "USA", "Coffee", "USD", "2022-01-03", json!(8)),
        (5, "Sue", "USA", "Paper", "USD", "2022-11-09", json!(4)),
        (
            6,
            "Sue",
            "Netherlands",
            "Sugar",
            "EUR",
            "2022-04-01",
            json!(2),
        ),
        (
            7,
            "Sue",
            "Netherlands",
            "Paper",
            "EUR",
            "2022-08-06",
            json!(1),
        ),
        (
            8,
            "Sue",
            "Netherlands",
            "Paper",
            "EUR",
            "2022-11-22",
            json!(2),
        ),
    ];
    let rows = rows.map(|(id, customer, country, product, currency, time, amount)| {
        json!({"ID": id, "Customer": customer, "Country": country, "Product": product,
            "Currency": currency, "Time": time, "Amount": amount})
    });
    let schema = Schema {
        resources: vec![resource],
        enums: Vec::new(),
    };
    (schema, rows.to_vec())
}

/// Runs a query with `$apply` over entities; each row as JSON.
fn run(query: &Query, schema: &Schema, entities: &[Json]) -> Result<Vec<String>, Error> {
    let bound = query.bind_apply(schema, now())?;
    let resource = schema.resource(&query.resource).unwrap();
    let mut groups = Groups::new(&bound.grouping);
    for entity in entities {
        let row = EntityRow { entity, resource };
        if bound.predicate.as_ref().is_none_or(|p| p.matches(&row)) {
            groups.add(&row)?;
        }
    }
    let rows = groups.finish()?;
    let result = AggregateResult::finish(bound, rows, Explain::default())?;
    Ok(lines(&result))
}

fn lines(result: &AggregateResult) -> Vec<String> {
    let line = |row| {
        let mut out = String::new();
        result.write_json(row, &mut out);
        out
    };
    result.rows.iter().map(line).collect()
}

fn of_sales(text: &str) -> String {
    let (schema, rows) = sales();
    let query = Query::new("Sales")
        .apply(text)
        .unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let found = run(&query, &schema, &rows).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    found.join("\n").replace('"', "")
}

#[test]
fn the_examples_of_the_standard() {
    for (text, expected) in [
        (
            "aggregate(Amount with sum as Total,Amount with max as MxA)",
            "{Total:24,MxA:8}",
        ),
        (
            "aggregate(Amount with min as MinAmount,Amount with average as AverageAmount)",
            "{MinAmount:1,AverageAmount:3}",
        ),
        ("aggregate($count as SalesCount)", "{SalesCount:8}"),
        (
            "aggregate(Product with countdistinct as DistinctProducts)",
            "{DistinctProducts:3}",
        ),
        ("groupby((Customer))", "{Customer:Joe}\n{Customer:Sue}"),
        (
            "groupby((Country,Product),aggregate(Amount with sum as Total))",
            "{Country:Netherlands,Product:Paper,Total:3}\n\
             {Country:Netherlands,Product:Sugar,Total:2}\n\
             {Country:USA,Product:Coffee,Total:12}\n\
             {Country:USA,Product:Paper,Total:5}\n\
             {Country:USA,Product:Sugar,Total:2}",
        ),
        (
            "filter(Amount gt 3)/aggregate(Amount with sum as Total)",
            "{Total:16}",
        ),
        (
            "groupby((Customer),aggregate(Amount with sum as Total))/filter(Total ge 8)",
            "{Customer:Sue,Total:17}",
        ),
        (
            "groupby((Customer,Product),aggregate(Amount with sum as Total))\
             /groupby((Customer),topcount(1,Total))",
            "{Customer:Joe,Product:Coffee,Total:4}\n{Customer:Sue,Product:Coffee,Total:8}",
        ),
        (
            "groupby((Country,Product),aggregate(Amount with sum as Total))\
             /aggregate(Total with max as MaxTotal)",
            "{MaxTotal:12}",
        ),
        (
            "compute(Amount mul 0.5 as Half)/aggregate(Half with sum as Sum)",
            "{Sum:12}",
        ),
        (
            "groupby((Product),aggregate(Amount with sum as Total))/toppercent(50,Total)",
            "{Product:Coffee,Total:12}",
        ),
        (
            "groupby((Product),aggregate(Amount with sum as Total))/topsum(15,Total)",
            "{Product:Coffee,Total:12}\n{Product:Paper,Total:8}",
        ),
        (
            "groupby((Product),aggregate(Amount with sum as Total))/bottomcount(2,Total)",
            "{Product:Sugar,Total:4}\n{Product:Paper,Total:8}",
        ),
        (
            "groupby((Country),filter(Amount gt 2)/aggregate($count as Dear,Amount with max as Max))",
            "{Country:Netherlands,Dear:0,Max:null}\n{Country:USA,Dear:3,Max:8}",
        ),
        (
            "groupby((month(Time) as Month),aggregate($count as N))/orderby(N desc,Month)/top(2)",
            "{Month:1,N:2}\n{Month:4,N:2}",
        ),
        (
            "groupby((year(Time),Customer),aggregate(Amount with Relist.median as Median,\
             Amount with p90 as P90))",
            "{YearTime:2022,Customer:Joe,Median:2,P90:3.6}\n\
             {YearTime:2022,Customer:Sue,Median:2,P90:6.4}",
        ),
    ] {
        assert_eq!(of_sales(text), expected, "{text}");
    }
}

fn of_listings(text: &str, entities: &[Json]) -> String {
    let query = Query::new("Property").apply(text).unwrap();
    run(&query, &schema(), entities)
        .unwrap()
        .join("\n")
        .replace('"', "")
}

#[test]
fn nulls_are_no_values_and_a_group_of_their_own() {
    let rows = [
        json!({"City": "Provo", "ListPrice": 100.10}),
        json!({"City": null, "ListPrice": null}),
        json!({"ListPrice": "TBD"}),
        json!({"City": "", "ListPrice": 5}),
    ];
    let all = "aggregate(ListPrice with sum as S,ListPrice with average as A,ListPrice with min \
               as L,ListPrice with max as M,ListPrice with median as D,ListPrice with \
               countdistinct as U,$count as N)";
    assert_eq!(
        of_listings(&format!("groupby((City),{all})"), &rows),
        "{City:null,S:null,A:null,L:null,M:null,D:null,U:1,N:2}\n\
         {City:,S:5,A:5,L:5,M:5,D:5,U:1,N:1}\n\
         {City:Provo,S:100.1,A:100.1,L:100.1,M:100.1,D:100.1,U:1,N:1}"
    );
    assert_eq!(
        of_listings(all, &[]),
        "{S:null,A:null,L:null,M:null,D:null,U:0,N:0}"
    );
    assert_eq!(
        of_listings("groupby((City),aggregate($count as N))", &[]),
        ""
    );
    let nothing = format!("filter(false)/{all}/filter(N eq 0 and S eq null)/compute(N add 1 as P)");
    assert_eq!(
        of_listings(&nothing, &rows),
        "{S:null,A:null,L:null,M:null,D:null,U:0,N:0,P:1}"
    );
}

#[test]
fn decimals_are_exact() {
    let prices = |texts: &[&str]| -> Vec<Json> {
        let row = |t: &&str| format!("{{\"ListPrice\":{t}}}");
        texts
            .iter()
            .map(|t| serde_json::from_str(&row(t)).unwrap())
            .collect()
    };
    let text = "aggregate(ListPrice with sum as S,ListPrice with average as A,ListPrice with \
                median as M)";
    for (texts, expected) in [
        (&["0.1", "0.2"][..], "{S:0.3,A:0.15,M:0.15}"),
        (&["1", "1", "0"], "{S:2,A:0.666667,M:1}"),
        (&["10.25", "0.50", "0.25"], "{S:11,A:3.666667,M:0.5}"),
        (&["350000.00", "350000.0"], "{S:700000,A:350000,M:350000}"),
    ] {
        assert_eq!(of_listings(text, &prices(texts)), expected, "{texts:?}");
    }
    // Different words for one value are one group.
    let rows = prices(&["1.50", "1.5", "2"]);
    assert_eq!(
        of_listings("groupby((ListPrice),aggregate($count as N))", &rows),
        "{ListPrice:1.5,N:2}\n{ListPrice:2,N:1}"
    );
}

#[test]
fn the_other_options_are_of_the_result() {
    let (schema, rows) = sales();
    let text = "$apply=groupby((Product),aggregate(Amount with sum as Total))\
                &$filter=Total gt 4&$orderby=Total desc&$select=Total,Product&$top=1&$skip=0\
                &$count=true";
    let query = Query::parse("Sales", text).unwrap();
    assert_eq!(
        run(&query, &schema, &rows).unwrap(),
        ["{\"Total\":12,\"Product\":\"Coffee\"}"]
    );
    let bound = query.bind_apply(&schema, now()).unwrap();
    assert!(bound.count);
    let error = query.bind(&schema, now()).unwrap_err();
    assert!(error.to_string().contains("use Snapshot::apply"), "{error}");
    let error = Query::new("Sales").bind_apply(&schema, now()).unwrap_err();
    assert!(error.to_string().contains("no $apply"), "{error}");
}

fn bind_error(text: &str) -> QueryError {
    let schema = schema();
    let bound = parse_apply(text)
        .and_then(|apply| bind_apply(&apply, text, &schema, property(&schema), now()));
    bound.expect_err(text)
}

#[test]
fn errors_point_at_the_place_and_say_what_to_write() {
    for (text, at, message, hint) in [
        (
            "groupby((Cty))",
            9,
            "Property has no field Cty",
            "did you mean City?",
        ),
        (
            "aggregate(City with sum as S)",
            10,
            "sum takes numbers, and City is a string",
            "min, max and countdistinct",
        ),
        (
            "aggregate(CloseDate with median as M)",
            10,
            "Relist.median takes numbers, and CloseDate is a date",
            "min and max take dates",
        ),
        (
            "aggregate(Tags with max as M)",
            10,
            "max takes what has an order",
            "count it",
        ),
        (
            "groupby((Tags))",
            9,
            "Tags is a list of strings, not one value",
            "",
        ),
        (
            "groupby((ListPrice div 2))",
            9,
            "an expression to group by needs a name",
            "write ListPrice div 2 as Name",
        ),
        ("groupby((City,City))", 14, "City is grouped by twice", ""),
        (
            "groupby((City),aggregate($count as City))",
            35,
            "two members are named City",
            "",
        ),
        (
            "compute(1 as City)/groupby((City))",
            13,
            "there is a City already",
            "",
        ),
        (
            "filter(City eq 'x')",
            0,
            "$apply neither groups nor aggregates",
            "records are chosen by $filter",
        ),
        (
            "topcount(2,ListPrice)/groupby((City))",
            0,
            "topcount is of groups here, not of records",
            "rank the groups",
        ),
        (
            "groupby((City),top(1))",
            15,
            "top is of groups here",
            "cut the groups",
        ),
        (
            "groupby((City),aggregate($count as N)/top(1))",
            38,
            "within a group there is one row here",
            "close groupby(..)",
        ),
        (
            "groupby((City),filter(ListPrice gt 1))",
            0,
            "nothing is aggregated of the groups",
            "write groupby((..),aggregate",
        ),
        (
            "groupby((City),aggregate($count as N))/filter(ListPrice gt 1)",
            46,
            "the result of $apply has no field ListPrice",
            "",
        ),
        (
            "groupby((City),aggregate($count as Num))/orderby(Nun)",
            49,
            "the result of $apply has no field Nun",
            "did you mean Num?",
        ),
        (
            "groupby((City))/topcount(City,City)",
            25,
            "topcount takes a whole number from 0 first",
            "",
        ),
        (
            "groupby((City))/topsum(1,City)",
            25,
            "topsum ranks numbers, and City is a string",
            "",
        ),
        (
            "filter(ListPrice)/groupby((City))",
            7,
            "ListPrice is a number",
            "compare it",
        ),
    ] {
        let error = bind_error(text);
        assert_eq!(error.option, "$apply");
        assert_eq!(error.offset, at, "{text}: {error:?}");
        assert!(error.message.starts_with(message), "{text}: {error:?}");
        let found = error.hint.as_deref().unwrap_or_default();
        assert!(found.starts_with(hint), "{text}: {error:?}");
    }
    // A name that was computed of a name that was computed .. is cut off, not unfolded.
    let mut text = "compute(ListPrice add ListPrice as A0)".to_owned();
    for i in 1..40 {
        let before = i - 1;
        text += &format!("/compute(A{before} add A{before} as A{i})");
    }
    text += "/aggregate(A39 with sum as S)";
    assert!(bind_error(&text).message.contains("too many others"));
}

#[test]
fn options_after_apply_hint_at_the_records() {
    let query = Query::parse(
        "Property",
        "$apply=groupby((City),aggregate($count as N))&$filter=ListPrice gt 5",
    );
    let error = query.unwrap().bind_apply(&schema(), now()).unwrap_err();
    let Error::Query(error) = error else {
        panic!("{error:?}");
    };
    assert_eq!((error.option, error.offset), ("$filter", 0));
    assert!(
        error
            .hint
            .unwrap()
            .contains("begin $apply with filter(..)/")
    );
}
