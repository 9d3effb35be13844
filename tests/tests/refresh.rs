//! Records fetched again by their keys: a result for each, nothing else touched.

use std::sync::{Arc, Mutex};

use relist::keycode::Key;
use relist::source::PageSource;
use relist::store::{Outcome, RunReport};
use relist::sync::{Policy, Refresh, Related, SyncMode, SyncOptions};
use relist::value::Timestamp;
use relist_sim::{Event, Market, Options, Response, Size};
use relist_tests::mirror::Mirror;

#[test]
fn keys_are_refreshed_with_what_belongs_to_them() {
    let market = Arc::new(Mutex::new(Market::new(3, Size::listings(60))));
    let options = Options {
        intercept: Some(Box::new(|request| {
            let bad = request
                .options()
                .iter()
                .any(|(_, v)| v.ends_with("eq 424242"));
            bad.then(|| Response::error(400, "not this one"))
        })),
        ..Options::default()
    };
    let mirror = Mirror::new(Arc::clone(&market), options);
    mirror.sync("Property", SyncMode::Auto).unwrap();
    mirror.sync("OpenHouse", SyncMode::Auto).unwrap();
    let keys: Vec<u32> = market.lock().unwrap().keys().take(4).collect();
    {
        let mut market = market.lock().unwrap();
        // No stamp moves; an open house comes; a row is gone without a word.
        assert!(market.play(keys[0], Event::CorrectTax));
        assert!(market.play(keys[1], Event::AnnounceOpenHouse) || keys.len() == 4);
        assert!(market.play(keys[2], Event::Vanish));
    }
    let mut asked: Vec<Key> = keys.iter().map(|k| Key::Int(i64::from(*k))).collect();
    asked.push(Key::Int(424_242));
    let related = [Related {
        resource: "OpenHouse".into(),
        field: "ListingKeyNumeric".into(),
        policy: Policy::default(),
    }];
    let now = || Timestamp(5);
    let sync = SyncOptions {
        mode: SyncMode::Auto,
        max_pages: None,
        confirm: false,
        now: &now,
    };
    let connect = || Box::new(mirror.api()) as Box<dyn PageSource>;
    let policy = Policy::default();
    let wanted = Refresh {
        resource: "Property",
        keys: &asked,
        related: &related,
        policy: &policy,
        in_flight: 3,
    };
    let (report, results) = mirror
        .store
        .refresh(&wanted, &connect, &sync, &mut |_: &RunReport| {})
        .unwrap();
    assert_eq!(results.len(), 5);
    assert!(matches!(&report.outcome, Outcome::Degraded(why) if why.contains("1 of 5 keys")));
    assert_eq!(report.deleted, 1);
    assert!(report.updated >= 1, "{report:?}");
    for result in &results {
        let expected = match &result.key {
            Key::Int(424_242) => None,
            Key::Int(k) if *k == i64::from(keys[2]) => Some(0),
            _ => Some(1),
        };
        assert_eq!(
            result.outcome.as_ref().ok().map(|c| c[0].1),
            expected,
            "{result:?}"
        );
        assert!(result.outcome.as_ref().is_ok_and(|c| c[1].0 == "OpenHouse") || expected.is_none());
    }
    let total = report.applied() + report.unchanged + report.quarantined + report.flagged;
    assert_eq!(report.records, total);
    mirror.verify();
}
