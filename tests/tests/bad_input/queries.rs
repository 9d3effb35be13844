//! Queries that are wrong: the place, the reason, and what to write instead.

use relist::error::{Error, QueryError};
use relist::odata::Query;
use relist::query::QueryContext;
use relist::value::Timestamp;
use relist_tests::odatapy::percent_encoded;

use crate::feed::Mirror;

fn ask(mirror: &Mirror, options: &str) -> Result<u64, Error> {
    let query = Query::parse("Property", options)?;
    let context = QueryContext {
        as_of: None,
        now: Timestamp(0),
        clock: None,
    };
    let rows = mirror.fresh.snapshot().query(&query, &context)?;
    Ok(rows.rows.len() as u64)
}

fn refused(mirror: &Mirror, options: &str) -> QueryError {
    match ask(mirror, options) {
        Err(Error::Query(error)) => *error,
        other => panic!("{options}: {other:?}"),
    }
}

#[test]
fn what_is_wrong_is_pointed_at() {
    let mirror = Mirror::live();
    let cases = [
        (
            "$filter",
            "ListPrize gt 5",
            "ListPrize",
            "ListPrize",
            Some("ListPrice"),
        ),
        (
            "$filter",
            "Rooms gt 5 and listprice lt 1",
            "listprice",
            "listprice",
            Some("ListPrice"),
        ),
        (
            "$filter",
            "ListPrice eq 'x'",
            "'x'",
            "they do not compare",
            None,
        ),
        (
            "$filter",
            "ListPrice eq '5'",
            "'5'",
            "they do not compare",
            Some("write 5 without quotes"),
        ),
        (
            "$filter",
            "City eq 5",
            "5",
            "they do not compare",
            Some("write '5'"),
        ),
        (
            "$filter",
            "ModificationTimestamp gt 7",
            "7",
            "they do not compare",
            None,
        ),
        ("$filter", "length(ListPrice) gt 2", "ListPrice", "", None),
        ("$filter", "ListPrice gt", "", "", None),
        ("$filter", "ListPrice", "ListPrice", "", None),
        ("$filter", "(ListPrice gt 5", "", "", None),
        ("$filter", "City eq 'Orem", "'Orem", "", None),
        ("$filter", "ListPrice => 5", "=", "", None),
        ("$filter", "City like 'O%'", "like", "", None),
        ("$filter", "", "", "", None),
        (
            "$orderby",
            "ListPrize desc",
            "ListPrize",
            "ListPrize",
            Some("ListPrice"),
        ),
        ("$orderby", "ListPrice down", "down", "", None),
        (
            "$select",
            "City,ListPrize",
            "ListPrize",
            "ListPrize",
            Some("ListPrice"),
        ),
        ("$top", "-1", "-1", "", None),
        ("$skip", "many", "many", "", None),
        ("$count", "maybe", "maybe", "", None),
    ];
    for (option, text, at, message, hint) in cases {
        let error = refused(&mirror, &format!("{option}={}", percent_encoded(text)));
        assert_eq!(
            (error.option, error.text.as_str()),
            (option, text),
            "{error:?}"
        );
        let end = error.offset + error.len;
        let pointed = text.get(error.offset..end);
        assert!(
            pointed.is_some_and(|p| p == at || p.contains(at)),
            "{text}: {error:?}"
        );
        assert!(
            error.message.contains(message) && !error.message.is_empty(),
            "{error:?}"
        );
        if let Some(hint) = hint {
            assert!(
                error.hint.as_ref().is_some_and(|h| h.contains(hint)),
                "{error:?}"
            );
        }
        assert!(
            error.to_string().starts_with(&format!("{option} at byte ")),
            "{error}"
        );
    }
    // Refused queries change nothing, and a right one is answered.
    assert_eq!(ask(&mirror, "$filter=ListPrice%20gt%2055000").unwrap(), 5);
    mirror.fresh.verify();
}

#[test]
fn a_filter_of_100_kb_is_refused_and_one_below_the_limit_answered() {
    let mirror = Mirror::live();
    let long = |bytes: usize| {
        let mut text = String::from("ListPrice eq 1000");
        while text.len() < bytes {
            text.push_str(" or ListPrice eq 2000");
        }
        text
    };
    let text = long(100_000);
    let error = refused(&mirror, &format!("$filter={}", percent_encoded(&text)));
    assert!(error.message.contains("is 100"), "{}", error.message);
    assert!(
        error.message.contains("65536 is the most that is read"),
        "{}",
        error.message
    );
    let shorter = format!("$filter={}", percent_encoded(&long(60_000)));
    assert_eq!(ask(&mirror, &shorter).unwrap(), 2);
    // One literal as long.
    let text = format!("City eq '{}'", "x".repeat(100_000));
    assert!(
        refused(&mirror, &format!("$filter={text}"))
            .message
            .contains("bytes long")
    );
    // Depth is limited, so that no text exhausts the stack.
    for open in ["(", "not ", "- "] {
        let text = open.repeat(10_000);
        let error = refused(&mirror, &format!("$filter={}", percent_encoded(&text)));
        assert!(error.message.contains("deep"), "{open}: {}", error.message);
    }
}

#[test]
fn a_resource_that_is_not_there_is_named_with_those_that_are() {
    let mirror = Mirror::new();
    let query = Query::new("Properties");
    let context = QueryContext {
        as_of: None,
        now: Timestamp(0),
        clock: None,
    };
    match mirror.fresh.snapshot().query(&query, &context) {
        Err(Error::UnknownResource { name, known }) => {
            assert_eq!(
                (name.as_str(), known),
                ("Properties", vec!["Property".to_owned()])
            );
        }
        other => panic!("{other:?}"),
    }
}
