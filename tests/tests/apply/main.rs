//! `$apply`: what it gives, against an evaluator that goes by the standard's words, and how its
//! errors point at their cause.
//!
//! `RELIST_CASES` sets how many random pairs of texts and rows are tried.

#[path = "../filter/generate.rs"]
mod generate;
#[path = "../filter/sample.rs"]
mod sample;
mod random;
mod standard;
mod geo;
mod changes;

use generate::{Bytes, entity};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use relist::odata::{BoundApply, bind_apply, parse_apply};
use relist::query::{AggregateResult, Explain, Groups};
use relist_tests::reference::apply::{Rows, apply as reference, words_of};
use sample::{EntityRow, now, property, schema};
use serde_json::Value as Json;

pub(crate) fn cases() -> u32 {
    let wanted = std::env::var("RELIST_CASES").ok();
    wanted.map_or(20_000, |n| n.parse().expect("RELIST_CASES is a number"))
}

/// The library's answer: the rows in two parts that are merged, each part in that order.
fn answer(bound: &BoundApply, entities: &[&Json]) -> AggregateResult {
    let schema = schema();
    let resource = property(&schema);
    let (first, second) = entities.split_at(entities.len() / 3);
    let part = |entities: &[&Json]| {
        let mut groups = Groups::new(&bound.grouping);
        for entity in entities {
            let row = EntityRow { entity, resource };
            if bound.predicate.as_ref().is_none_or(|p| p.matches(&row)) {
                groups.add(&row).unwrap();
            }
        }
        groups
    };
    let mut groups = part(first);
    groups.merge(part(second)).unwrap();
    let rows = groups.finish().unwrap();
    AggregateResult::finish(bound.clone(), rows, Explain::default()).unwrap()
}

fn in_words(result: &AggregateResult) -> Rows {
    let names = || result.columns.iter().map(|c| c.name.clone());
    let rows = result.rows.iter();
    rows.map(|row| {
        assert_eq!(row.values.len(), result.columns.len());
        names().zip(row.values.iter().map(words_of)).collect()
    })
    .collect()
}

/// One random case. Gives the text and how many rows came of it.
fn check(entity_bytes: &[u8], apply_bytes: &[u8]) -> (String, usize) {
    let schema = schema();
    let mut bytes = Bytes::new(entity_bytes);
    let count = bytes.below(14);
    let entities: Vec<Json> = (0..count).map(|_| entity(&mut bytes)).collect();
    let text = random::apply(&mut Bytes::new(apply_bytes));
    let parsed = parse_apply(&text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let printed = parsed.to_string();
    assert_eq!(
        parse_apply(&printed).unwrap(),
        parsed,
        "{text} prints as {printed}"
    );
    let bound = bind_apply(&parsed, &text, &schema, property(&schema), now())
        .unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let refs: Vec<&Json> = entities.iter().collect();
    let found = in_words(&answer(&bound, &refs));
    let expected = reference(&parsed, &entities, &schema, property(&schema), now());
    assert_eq!(found, expected, "{text}\n{entities:?}");
    // Whatever order the records come in.
    let backwards: Vec<&Json> = entities.iter().rev().collect();
    assert_eq!(
        in_words(&answer(&bound, &backwards)),
        expected,
        "backwards: {text}"
    );
    (text, found.len())
}

#[test]
fn answers_agree_with_the_reference() {
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::with_cases(cases())
    };
    let bytes = |n: usize| prop::collection::vec(any::<u8>(), 0..n);
    TestRunner::new(config)
        .run(&(bytes(400), bytes(160)), |(entities, apply)| {
            check(&entities, &apply);
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
}

/// A property test proves nothing about what it never generates.
#[test]
fn the_generator_makes_every_transformation_and_method() {
    let mut runner = TestRunner::deterministic();
    let entities = prop::collection::vec(any::<u8>(), 300..600);
    let applies = prop::collection::vec(any::<u8>(), 60..160);
    let mut texts = String::new();
    let (mut several, mut none) = (0, 0);
    for _ in 0..3_000 {
        let (text, rows) = check(
            &entities.new_tree(&mut runner).unwrap().current(),
            &applies.new_tree(&mut runner).unwrap().current(),
        );
        several += usize::from(rows > 1);
        none += usize::from(rows == 0);
        texts.push_str(&text);
        texts.push('\n');
    }
    for wanted in [
        "identity",
        "filter(",
        "compute(",
        "groupby((",
        "aggregate(",
        "orderby(",
        "top(",
        "skip(",
        "topcount(",
        "bottomcount(",
        "topsum(",
        "bottomsum(",
        "toppercent(",
        "bottompercent(",
        "$count as",
        "with sum",
        "with average",
        "with min",
        "with max",
        "with countdistinct",
        "with median",
        "with Relist.p90",
        "with p33",
        "year(CloseDate)",
        "Extra/Rank",
        "Tags with",
        "),filter(",
        "),compute(",
        "),topcount(",
    ] {
        let count = texts.matches(wanted).count();
        assert!(count >= 5, "{wanted} was made {count} times");
    }
    assert!(several > 600, "{several} of 3000 answers had several rows");
    assert!(none > 50, "{none} of 3000 answers had no rows");
}

#[test]
fn no_text_makes_the_reader_panic() {
    let words = prop::sample::select(vec![
        "groupby",
        "aggregate",
        "filter",
        "compute",
        "orderby",
        "top",
        "skip",
        "topcount",
        "(",
        "((",
        ")",
        "))",
        ",",
        "/",
        "City",
        "ListPrice",
        "with",
        "as",
        "sum",
        "median",
        "p90",
        "$count",
        "N",
        "1",
        "-1.5",
        "'x'",
        "eq",
        "year(CloseDate)",
        "identity",
        "rollup",
        "é",
        ".",
        "desc",
        "null",
        "Relist.median",
    ]);
    let texts = prop::collection::vec(words, 0..24);
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(cases())
    };
    let schema = schema();
    TestRunner::new(config)
        .run(&texts, |words| {
            for by in ["", " "] {
                let text = words.join(by);
                let bound = parse_apply(&text)
                    .and_then(|a| bind_apply(&a, &text, &schema, property(&schema), now()));
                if let Err(error) = bound {
                    let end = error.offset + error.len;
                    prop_assert!(error.text.get(error.offset..end).is_some(), "{error:?}");
                    prop_assert!(!error.message.is_empty());
                }
            }
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
}
