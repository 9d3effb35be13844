//! A server that is not ours, and the same answers from the mirror.

use relist_tests::odatapy::{Server, filters};
use std::collections::BTreeSet;

const ROWS: u32 = 1_500;

#[test]
fn the_server_answers_every_filter_and_walks_to_the_end() {
    let test = "the_server_answers_every_filter_and_walks_to_the_end";
    let Some(server) = Server::start(test, env!("CARGO_TARGET_TMPDIR"), ROWS) else {
        return;
    };
    let all = server.keys(None).unwrap();
    let distinct: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (ROWS as usize, ROWS as usize));

    let filters = filters();
    let kinds: BTreeSet<_> = filters.iter().map(|f| &f.kind).collect();
    assert_eq!(kinds.len(), filters.len(), "a kind is listed twice");
    assert!(filters.len() >= 100, "{} filters", filters.len());
    let mut telling = 0;
    for filter in &filters {
        let keys = server
            .keys(Some(&filter.theirs))
            .unwrap_or_else(|e| panic!("{filter:?}: {e}"));
        telling += usize::from(!keys.is_empty() && keys.len() < all.len());
    }
    // A filter that selects nothing or all tells little: few may.
    assert!(
        telling * 10 >= filters.len() * 9,
        "{telling} of {} select some",
        filters.len()
    );
}

#[test]
fn the_server_can_be_changed_and_refuses_what_is_wrong() {
    let test = "the_server_can_be_changed_and_refuses_what_is_wrong";
    let Some(server) = Server::start(test, env!("CARGO_TARGET_TMPDIR"), 250) else {
        return;
    };
    let keys = server.keys(None).unwrap();
    server
        .patch(keys[0], &serde_json::json!({"ListPrice": 7}))
        .unwrap();
    assert_eq!(server.keys(Some("ListPrice eq 7")).unwrap(), [keys[0]]);
    server.delete(keys[1]).unwrap();
    assert_eq!(server.keys(None).unwrap().len(), 249);
    assert!(
        server
            .keys(Some("PropertyCity eq 'Provo'"))
            .unwrap_err()
            .contains(": 400 ")
    );
}
