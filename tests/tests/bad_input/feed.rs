//! A feed in memory that says something else when it is told to, and a mirror of it.

use std::collections::BTreeMap;

use relist::error::{Result, SourceError};
use relist::ingest::DeletedFeed;
use relist::source::{Page, PageRequest, PageSource};
use relist::store::{Checkpoint, Outcome, RunReport};
use relist::sync::{Policy, SyncMode, SyncOptions};
use relist::value::{DateTime, Timestamp};
use relist_tests::fresh::Fresh;

/// Records in a page.
pub(crate) const PAGE: usize = 10;
/// Records of a feed at first.
pub(crate) const ROWS: i64 = 60;

/// The `$metadata` of the feed.
const METADATA: &str = "<edmx:Edmx Version=\"4.0\" \
    xmlns:edmx=\"http://docs.oasis-open.org/odata/ns/edmx\"><edmx:DataServices>\
    <Schema Namespace=\"N\" xmlns=\"http://docs.oasis-open.org/odata/ns/edm\">\
    <EntityType Name=\"Property\"><Key><PropertyRef Name=\"ListingKeyNumeric\"/></Key>\
    <Property Name=\"ListingKeyNumeric\" Type=\"Edm.Int64\"/>\
    <Property Name=\"ListPrice\" Type=\"Edm.Decimal\"/>\
    <Property Name=\"Rooms\" Type=\"Edm.Int32\"/>\
    <Property Name=\"City\" Type=\"Edm.String\"/>\
    <Property Name=\"ModificationTimestamp\" Type=\"Edm.DateTimeOffset\"/></EntityType>\
    <EntityContainer Name=\"C\"><EntitySet Name=\"Property\" EntityType=\"N.Property\"/>\
    </EntityContainer></Schema></edmx:DataServices></edmx:Edmx>";

/// What to say instead of a page, by the request's address and the page as it should be.
type Lie = Box<dyn Fn(&str, &str) -> Option<Vec<u8>> + Send + Sync>;

/// The feed and its mirror.
pub(crate) struct Mirror {
    pub(crate) rows: BTreeMap<i64, (i64, String)>,
    pub(crate) deleted: Vec<(i64, String)>,
    pub(crate) lie: Option<Lie>,
    pub(crate) fresh: Fresh,
    pub(crate) policy: Policy,
}

pub(crate) fn stamp(second: i64) -> String {
    format!(
        "2026-02-01T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

pub(crate) fn instant(stamp: &str) -> Option<Timestamp> {
    DateTime::parse(stamp).and_then(DateTime::to_timestamp)
}

impl Mirror {
    /// Nothing is mirrored yet.
    pub(crate) fn new() -> Self {
        let row = |key| (key, (key * 1_000, stamp(key)));
        Mirror {
            rows: (1..=ROWS).map(row).collect(),
            deleted: Vec::new(),
            lie: None,
            fresh: Fresh::defined(METADATA.as_bytes()),
            policy: Policy {
                page_size: Some(PAGE as u64),
                overlap_seconds: 0,
                deletes: Some(DeletedFeed::WFRMLS),
                ..Policy::default()
            },
        }
    }

    /// Everything is mirrored.
    pub(crate) fn live() -> Self {
        let mut mirror = Mirror::new();
        assert_eq!(mirror.sync(SyncMode::Auto).unwrap().inserted, ROWS as u64);
        mirror
    }

    /// Says `body` instead of the page whose address ends so.
    pub(crate) fn lies(&mut self, end: &str, body: &[u8]) {
        let (end, body) = (end.to_owned(), body.to_vec());
        self.lie = Some(Box::new(move |address, _| {
            address.ends_with(&end).then(|| body.clone())
        }));
    }

    pub(crate) fn sync(&mut self, mode: SyncMode) -> Result<RunReport> {
        let now = || instant("2026-03-01T00:00:00Z").unwrap();
        let options = SyncOptions {
            mode,
            max_pages: None,
            confirm: false,
            now: &now,
        };
        let mut source = Source {
            rows: &self.rows,
            deleted: &self.deleted,
            lie: self.lie.as_ref(),
        };
        let store = &self.fresh.store;
        let quiet = &mut |_: &RunReport| {};
        store.sync("Property", &mut source, &self.policy, &options, quiet)
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        self.fresh.snapshot().checkpoint("Property").unwrap()
    }

    pub(crate) fn count(&self) -> u64 {
        self.fresh.snapshot().count("Property").unwrap()
    }

    pub(crate) fn last_outcome(&self) -> Outcome {
        self.fresh.snapshot().runs(1).unwrap().remove(0).outcome
    }

    /// The feed says the truth again: the next sync ends complete and equal to it.
    pub(crate) fn heal(&mut self) -> RunReport {
        self.lie = None;
        let report = self.sync(SyncMode::Auto).unwrap();
        assert_eq!(report.outcome, Outcome::Complete, "{report:?}");
        let records = self.fresh.records("Property").into_iter().map(|r| r.1);
        let served = self.rows.iter().map(|(key, row)| entity(*key, row));
        assert!(records.eq(served), "the mirror is not the feed");
        self.fresh.verify();
        report
    }
}

pub(crate) fn entity(key: i64, (price, stamp): &(i64, String)) -> String {
    format!(
        "{{\"ListingKeyNumeric\":{key},\"ListPrice\":{price}.0,\
         \"ModificationTimestamp\":\"{stamp}\"}}"
    )
}

struct Source<'a> {
    rows: &'a BTreeMap<i64, (i64, String)>,
    deleted: &'a [(i64, String)],
    lie: Option<&'a Lie>,
}

impl Source<'_> {
    fn page(&self, resource: &str, filter: &str) -> String {
        let clauses: Vec<&str> = filter.split(" and ").filter(|c| !c.is_empty()).collect();
        let bound = |name: &str| clauses.iter().find_map(|c| c.strip_prefix(name));
        let entities: Vec<String> = if resource == "Deleted" {
            let since = bound("ts ge ").unwrap();
            let rows = self.deleted.iter().filter(|(_, ts)| ts.as_str() >= since);
            rows.map(|(key, ts)| {
                format!("{{\"resource\":\"Property\",\"primary_key\":\"{key}\",\"ts\":\"{ts}\"}}")
            })
            .collect()
        } else {
            let after = bound("ListingKeyNumeric gt ").map_or(0, |n| n.parse().unwrap());
            let since = bound("ModificationTimestamp ge ").unwrap_or_default();
            let asked: Option<Vec<i64>> = filter.contains(" eq ").then(|| {
                let keys = filter.split(" or ");
                keys.map(|k| k.rsplit(' ').next().unwrap().parse().unwrap())
                    .collect()
            });
            let rows = self.rows.iter().filter(|(key, row)| {
                **key > after
                    && row.1.as_str() >= since
                    && asked.as_ref().is_none_or(|keys| keys.contains(key))
            });
            rows.take(PAGE)
                .map(|(key, row)| entity(*key, row))
                .collect()
        };
        format!("{{\"value\":[{}]}}", entities.join(","))
    }
}

impl PageSource for Source<'_> {
    fn fetch(&mut self, request: &PageRequest) -> Result<Page, SourceError> {
        let (address, body) = match request {
            PageRequest::Query { resource, options } => {
                let filter = options.filter.clone().unwrap_or_default();
                let body = self.page(resource, &filter);
                (
                    format!("https://mls.example/{resource}?$filter={filter}"),
                    body,
                )
            }
            PageRequest::Next { link, .. } => {
                let body = self.page("Property", "");
                (format!("https://mls.example/{link}"), body)
            }
        };
        let lie = self.lie.and_then(|lie| lie(&address, &body));
        Ok(Page {
            body: lie.unwrap_or_else(|| body.into_bytes()),
            origin: address,
            server_time: None,
            next_link: None,
        })
    }
}
