//! A server that is not ours, and the same answers from the mirror.

use relist::keycode::Key;
use relist::odata::Query;
use relist::query::QueryContext;
use relist::store::{Operation, Outcome, RunKind, RunReport};
use relist::sync::{Policy, SyncMode, SyncOptions, WalkKind};
use relist::value::Timestamp;
use relist_feed::{Limits, Profile, RetryPolicy, Token, WebApi};
use relist_tests::fresh::Fresh;
use relist_tests::json::Json;
use relist_tests::odatapy::{Server, filters};
use std::collections::{BTreeMap, BTreeSet};

const ROWS: u32 = 1_500;

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

/// A server, and a store that knows its `$metadata`.
struct Feed {
    server: Server,
    fresh: Fresh,
    policy: Policy,
}

impl Feed {
    fn start(test: &str, rows: u32) -> Option<Self> {
        let server = Server::start(test, env!("CARGO_TARGET_TMPDIR"), rows)?;
        let fresh = Fresh::defined(&api(&server).metadata().unwrap());
        let policy = Policy::default();
        Some(Feed {
            server,
            fresh,
            policy,
        })
    }

    fn sync(&self, resource: &str, mode: SyncMode) -> RunReport {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let now = move || Timestamp(i64::try_from(since.as_micros()).unwrap());
        let options = SyncOptions {
            mode,
            max_pages: None,
            confirm: false,
            now: &now,
        };
        let mut api = api(&self.server);
        let store = &self.fresh.store;
        let quiet = &mut |_: &RunReport| {};
        store
            .sync(resource, &mut api, &self.policy, &options, quiet)
            .unwrap()
    }

    /// Every row of the mirror, field by field, is a row of the server.
    fn compare(&self, resource: &str, key: &str) {
        let records = self.fresh.records(resource).into_iter();
        let record = |(key, json): (Key, String)| match key {
            Key::Int(key) => (key, Json::parse(&json)),
            Key::Str(key) => panic!("the key {key:?} is a string"),
        };
        let mirrored: BTreeMap<i64, Json> = records.map(record).collect();
        let served = self.server.entities(resource, key).unwrap();
        assert_eq!(mirrored.len(), served.len());
        for (key, entity) in served {
            assert_eq!(mirrored[&key], entity, "{resource} {key}");
        }
        self.fresh.verify();
    }

    fn keys(&self, filter: &str) -> Result<Vec<i64>, String> {
        let query = Query::new("Property")
            .filter(filter)
            .map_err(|e| e.to_string())?;
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let context = QueryContext {
            as_of: None,
            now: Timestamp(i64::try_from(since.as_micros()).unwrap()),
            clock: None,
        };
        let snapshot = self.fresh.snapshot();
        let rows = snapshot
            .query(&query, &context)
            .map_err(|e| e.to_string())?;
        let key = |record: &relist::record::Record| {
            let value = record.get("ListingKeyNumeric").unwrap();
            value.to_string().parse().unwrap()
        };
        Ok(rows.rows.iter().map(key).collect())
    }
}

fn api(server: &Server) -> WebApi {
    let token = Token::from_env_value("TOKEN", "no-token-is-asked-for").unwrap();
    let profile = Profile::named("wfrmls").unwrap();
    let retry = RetryPolicy {
        max_attempts: 2,
        base: std::time::Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    WebApi::new(profile, &server.url(), token, Limits::default())
        .unwrap()
        .with_retry(retry)
}

#[test]
fn both_walks_mirror_every_row() {
    for walk in [WalkKind::Keyset, WalkKind::NextLink] {
        let Some(mut feed) = Feed::start("both_walks_mirror_every_row", ROWS) else {
            return;
        };
        feed.policy.walk = walk;
        for (resource, key, rows) in [
            ("Property", "ListingKeyNumeric", u64::from(ROWS)),
            ("Member", "MemberKeyNumeric", 40),
            ("Office", "OfficeKeyNumeric", 12),
        ] {
            let report = feed.sync(resource, SyncMode::Auto);
            assert_eq!(
                (report.kind, &report.outcome),
                (RunKind::Full, &Outcome::Complete)
            );
            assert_eq!((report.inserted, report.records), (rows, rows), "{walk:?}");
            assert_eq!(report.expected, Some(rows), "{resource} by {walk:?}");
            assert!(report.misfits.is_empty(), "{:?}", report.misfits);
            feed.compare(resource, key);
            // Read again, whole, nothing changed.
            let again = feed.sync(resource, SyncMode::Full);
            assert_eq!((again.records, again.unchanged), (rows, rows), "{walk:?}");
        }
    }
}

/// Where odatapy 5.3.0 reads the standard otherwise, and who is right: the kind of the filter,
/// and a filter that gives the keys that are here and not there.
///
/// OData 4.01 URL Conventions, 5.1.1.1: null equals itself and nothing else, so `eq` and `ne`
/// (5.1.1.1.1, 5.1.1.1.2) are true or false of null like of any value: `null ne 3` is true. Both
/// read it so. `gt` and `lt` (5.1.1.1.3, 5.1.1.1.5) return false, not null, when an operand is
/// null, so `not` (5.1.1.1.9) of it is true. So does the mirror; odatapy takes the comparison for
/// null, as SQL would, and leaves these rows out.
const WE_ARE_RIGHT: [(&str, &str); 1] = [("not of a comparison with null", "YearBuilt eq null")];

#[test]
fn the_mirror_answers_every_filter_as_the_server_does() {
    let test = "the_mirror_answers_every_filter_as_the_server_does";
    let Some(feed) = Feed::start(test, ROWS) else {
        return;
    };
    feed.sync("Property", SyncMode::Auto);
    let mut differences = Vec::new();
    let filters = filters();
    let kinds: BTreeSet<_> = filters.iter().map(|f| &f.kind).collect();
    assert_eq!(kinds.len(), filters.len(), "a kind is listed twice");
    assert!(filters.len() >= 100, "{} filters", filters.len());
    let mut telling = 0;
    for filter in &filters {
        let mut expected = feed.server.keys(Some(&filter.theirs)).unwrap();
        if let Some((_, more)) = WE_ARE_RIGHT.iter().find(|(kind, _)| *kind == filter.kind) {
            let more = feed.server.keys(Some(more)).unwrap();
            assert!(!more.is_empty() && more.iter().all(|key| !expected.contains(key)));
            expected.extend(more);
            expected.sort_unstable();
        }
        telling += usize::from(!expected.is_empty() && expected.len() < ROWS as usize);
        for text in [&filter.text, &filter.theirs] {
            let found = feed.keys(text);
            if found.as_ref() != Ok(&expected) {
                let found = found.map(|keys| format!("{} keys", keys.len()));
                let kind = &filter.kind;
                differences.push(format!(
                    "{kind}: {text}: {found:?}, {} there",
                    expected.len()
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    // A filter that selects nothing or all tells little: few may.
    let all = filters.len();
    assert!(
        telling * 10 >= all * 9,
        "{telling} of {all} filters select some"
    );
    let known = |kind: &str| filters.iter().any(|filter| filter.kind == kind);
    assert!(WE_ARE_RIGHT.iter().all(|(kind, _)| known(kind)));
}

#[test]
fn what_changes_there_changes_here_once() {
    let test = "what_changes_there_changes_here_once";
    let Some(feed) = Feed::start(test, 600) else {
        return;
    };
    feed.sync("Property", SyncMode::Auto);
    let keys = feed.server.keys(None).unwrap();
    let before = feed.fresh.snapshot().sequence();
    let mut expected = BTreeMap::new();
    for (&key, price) in keys.iter().step_by(13).zip(1_000_001..) {
        let stamp = "2024-12-01T00:00:00Z";
        let fields = serde_json::json!({
            "ListPrice": price, "PublicRemarks": "Reduced; O'Brien's",
            "ModificationTimestamp": stamp,
        });
        feed.server.patch(key, &fields).unwrap();
        expected.insert(key, price.to_string());
    }
    // One more changes, and its stamp does not.
    let silent = keys[1];
    let fields = serde_json::json!({"ListPrice": 7});
    feed.server.patch(silent, &fields).unwrap();

    let report = feed.sync("Property", SyncMode::Auto);
    assert_eq!(
        (report.kind, &report.outcome),
        (RunKind::Incremental, &Outcome::Complete)
    );
    let changed = expected.len() as u64;
    assert_eq!((report.updated, report.inserted), (changed, 0));
    assert!(
        report.records < 100,
        "{} records are read again",
        report.records
    );
    let snapshot = feed.fresh.snapshot();
    let mut logged = BTreeMap::new();
    for change in snapshot.changes(before).unwrap() {
        let change = change.unwrap();
        assert_eq!(change.operation, Operation::Update);
        let price = change
            .fields
            .iter()
            .find(|f| f.name == "ListPrice")
            .unwrap();
        let Some(Key::Int(key)) = change.key else {
            panic!("{change:?}")
        };
        assert!(
            logged
                .insert(key, price.new_value().unwrap().to_json())
                .is_none()
        );
    }
    assert_eq!(logged, expected);
    // Again, it is no news; and a full walk finds what no stamp told.
    let again = feed.sync("Property", SyncMode::Auto);
    assert_eq!((again.applied(), again.unchanged), (0, again.records));
    let full = feed.sync("Property", SyncMode::Full);
    assert_eq!((full.updated, full.records), (1, 600));
    feed.compare("Property", "ListingKeyNumeric");
}

#[test]
fn what_is_gone_there_is_gone_here_after_a_full_sync() {
    let test = "what_is_gone_there_is_gone_here_after_a_full_sync";
    for walk in [WalkKind::Keyset, WalkKind::NextLink] {
        let Some(mut feed) = Feed::start(test, 450) else {
            return;
        };
        feed.policy.walk = walk;
        feed.sync("Property", SyncMode::Auto);
        let keys = feed.server.keys(None).unwrap();
        let gone: BTreeSet<i64> = keys.iter().copied().step_by(11).collect();
        for key in &gone {
            feed.server.delete(*key).unwrap();
        }
        let report = feed.sync("Property", SyncMode::Auto);
        assert_eq!(report.deleted, 0, "an incremental run knows of no deletion");
        let report = feed.sync("Property", SyncMode::Full);
        assert_eq!(report.outcome, Outcome::Complete, "{walk:?}");
        assert_eq!(report.deleted, gone.len() as u64);
        let snapshot = feed.fresh.snapshot();
        let tombstones = snapshot.tombstones("Property").unwrap().into_iter();
        let buried: BTreeSet<Key> = tombstones.map(|(key, _)| key).collect();
        assert_eq!(buried, gone.iter().map(|key| Key::Int(*key)).collect());
        feed.compare("Property", "ListingKeyNumeric");
    }
}
