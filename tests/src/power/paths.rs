//! Everything that writes to a store. Each path may be begun again after it was cut off anywhere:
//! what it did already, it does not do twice.

use std::path::Path as Name;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use relist::error::{Result, SourceError};
use relist::keycode::Key;
use relist::media::{
    FetchError, Fetched, MediaFetcher, MediaFiles, MediaLister, MediaOptions, MediaPolicy, UrlLife,
    sync_media,
};
use relist::schema::Schema;
use relist::source::PageSource;
use relist::store::{Cause, CopyOptions, RunReport, Scope, Store};
use relist::sync::{Policy, Refresh, SyncMode, SyncOptions};
use relist::value::Timestamp;
use relist_sim::{Dataset, Direct, Options};
use serde_json::{Value, json};

use super::{BACKUP, Held, NOW, STORE, open};
use crate::fresh::try_ingest;

/// Something that writes, by name.
pub struct Path {
    /// What messages call it.
    pub name: &'static str,
    /// What it does to a store.
    pub run: fn(&mut Held) -> Result<()>,
}

fn path(name: &'static str, run: fn(&mut Held) -> Result<()>) -> Path {
    Path { name, run }
}

fn compact(held: &mut Held) -> Result<()> {
    held.store.as_mut().expect("a store").compact().map(drop)
}

/// What writes to the store's file alone, in an order in which each finds something to do.
pub fn writes() -> Vec<Path> {
    vec![
        path("init", init),
        path("schema", |held| define(held, METADATA)),
        path("ingest", |held| {
            ingest(held, "Property", &[page(0, 0), page(1, 0)])
        }),
        path("ingest again", |held| {
            ingest(held, "Property", &[page(0, 1)])
        }),
        path("schema change", |held| define(held, WIDER)),
        path("page", apply_page),
        path("delete", delete),
        path("relist", |held| ingest(held, "Property", &[page(1, 2)])),
        path("deletions", |held| {
            ingest(held, "Deleted", &[DELETED.to_owned()])
        }),
        path("quarantine", |held| {
            ingest(held, "Property", &[BROKEN.to_owned()])
        }),
        path("clear", clear),
        path("position", position),
        path("full sync", |held| sync(held, 0, SyncMode::Auto)),
        path("sync", |held| sync(held, 1, SyncMode::Auto)),
        path("reconcile", |held| sync(held, 2, SyncMode::Reconcile)),
        path("deep", |held| {
            sync(held, 3, SyncMode::Deep { slice: 1, of: 2 })
        }),
        path("keys", refresh),
        path("compact", compact),
        path("ingest after", |held| {
            ingest(held, "Property", &[page(2, 0)])
        }),
    ]
}

/// All paths: those that write, and those that copy the store or take history out of it.
pub fn all() -> Vec<Path> {
    let mut paths = writes();
    paths.extend([
        path("backup", backup),
        path("media", media),
        path("repair", repair),
        path("delivered", delivered),
        path("ingest one", |held| {
            ingest(
                held,
                "Property",
                &[json!({ "value": [row(1, 3)] }).to_string()],
            )
        }),
        path("prune", prune),
        path("backup again", backup),
        path("purge", purge),
        path("ingest late", |held| {
            ingest(held, "Property", &[page(0, 4), page(3, 0)])
        }),
        path("repair late", repair),
        path("restore", restore),
    ]);
    paths
}

/// Few paths, and so many records that a dictionary is trained on them.
pub fn training() -> Vec<Path> {
    vec![
        path("init", init),
        path("schema", |held| define(held, METADATA)),
        path("many", |held| ingest(held, "Property", &many(0))),
        path("many again", |held| ingest(held, "Property", &many(1))),
        path("compact", compact),
    ]
}

/// The schema that paths begin with.
pub const METADATA: &str = r#"<Edmx Version="4.0"><DataServices><Schema Namespace="X">
<EntityType Name="Property"><Key><PropertyRef Name="ListingKeyNumeric"/></Key>
<Property Name="ListingKeyNumeric" Type="Edm.Int64"/>
<Property Name="ListPrice" Type="Edm.Decimal"/>
<Property Name="StandardStatus" Type="Edm.String"/>
<Property Name="PublicRemarks" Type="Edm.String"/>
<Property Name="ModificationTimestamp" Type="Edm.DateTimeOffset"/>
</EntityType><EntityContainer Name="C"><EntitySet Name="Property" EntityType="X.Property"/>
</EntityContainer></Schema></DataServices></Edmx>"#;

/// A field more, and one of another type.
const WIDER: &str = r#"<Edmx Version="4.0"><DataServices><Schema Namespace="X">
<EntityType Name="Property"><Key><PropertyRef Name="ListingKeyNumeric"/></Key>
<Property Name="ListingKeyNumeric" Type="Edm.Int64"/>
<Property Name="ListPrice" Type="Edm.Int32"/>
<Property Name="StandardStatus" Type="Edm.String"/>
<Property Name="PublicRemarks" Type="Edm.String"/>
<Property Name="City" Type="Edm.String"/>
<Property Name="ModificationTimestamp" Type="Edm.DateTimeOffset"/>
</EntityType><EntityContainer Name="C"><EntitySet Name="Property" EntityType="X.Property"/>
</EntityContainer></Schema></DataServices></Edmx>"#;

/// Media, too.
const WITH_MEDIA: &str = r#"<Edmx Version="4.0"><DataServices><Schema Namespace="X">
<EntityType Name="Property"><Key><PropertyRef Name="ListingKeyNumeric"/></Key>
<Property Name="ListingKeyNumeric" Type="Edm.Int64"/>
<Property Name="ListPrice" Type="Edm.Int32"/>
<Property Name="StandardStatus" Type="Edm.String"/>
<Property Name="PublicRemarks" Type="Edm.String"/>
<Property Name="City" Type="Edm.String"/>
<Property Name="ModificationTimestamp" Type="Edm.DateTimeOffset"/>
</EntityType><EntityType Name="Media"><Key><PropertyRef Name="MediaKey"/></Key>
<Property Name="MediaKey" Type="Edm.String"/>
<Property Name="ResourceName" Type="Edm.String"/>
<Property Name="ResourceRecordKeyNumeric" Type="Edm.Int64"/>
<Property Name="MediaURL" Type="Edm.String"/>
<Property Name="ModificationTimestamp" Type="Edm.DateTimeOffset"/>
</EntityType><EntityContainer Name="C"><EntitySet Name="Property" EntityType="X.Property"/>
<EntitySet Name="Media" EntityType="X.Media"/></EntityContainer></Schema></DataServices></Edmx>"#;

const PHOTOS: &str = r#"{"value":[{"MediaKey":"m1","ResourceName":"Property",
"ResourceRecordKeyNumeric":2,"MediaURL":"https://photos.example/1",
"ModificationTimestamp":"2026-03-03T00:00:00Z"},{"MediaKey":"m2","ResourceName":"Property",
"ResourceRecordKeyNumeric":4,"MediaURL":"https://photos.example/2",
"ModificationTimestamp":"2026-03-03T00:00:00Z"}]}"#;

const DELETED: &str = r#"{"value":[{"primary_key":"3","resource":"Property",
"ts":"2026-03-03T00:00:00Z"},{"primary_key":"77777","resource":"Property",
"ts":"2026-03-03T00:00:00Z"}]}"#;

const BROKEN: &str = r#"{"value":[{"ListPrice":1},{"ListingKeyNumeric":9,"ListPrice":2,
"ModificationTimestamp":"2026-03-03T00:00:00Z"}]}"#;

fn init(held: &mut Held) -> Result<()> {
    if held.store.is_none() {
        let folder = held.folder.shared();
        // What a creation that failed at its end left is there.
        held.store = Some(match open(&held.folder, STORE) {
            Ok(store) => store,
            Err(_) => Store::create_in(folder, Name::new(STORE), NOW)?,
        });
    }
    Ok(())
}

fn define(held: &mut Held, metadata: &str) -> Result<()> {
    let mut txn = held.store().begin_write(NOW)?;
    txn.define(&Schema::from_metadata(metadata.as_bytes())?)?;
    txn.commit().map(drop)
}

/// One listing; of another edition, it has another price, and in part another status.
fn row(key: i64, edition: i64) -> Value {
    let status = usize::try_from(edition * key % 3).unwrap();
    json!({
        "ListingKeyNumeric": key,
        "ListPrice": 100_000 + key * 10 + edition,
        "StandardStatus": (["Active", "Pending", "Closed"][status]),
        "PublicRemarks": format!("A house of {key} rooms, much like the others."),
        "ModificationTimestamp": format!("2026-03-{:02}T0{}:00:00Z", 1 + edition, key % 10),
    })
}

fn page(number: i64, edition: i64) -> String {
    let rows: Vec<Value> = (0..6).map(|at| row(number * 6 + at + 1, edition)).collect();
    json!({ "value": rows }).to_string()
}

fn many(edition: i64) -> Vec<String> {
    let page = |at: i64| {
        let rows: Vec<Value> = (0..400)
            .map(|own| row(at * 400 + own + 1, edition))
            .collect();
        json!({ "value": rows }).to_string()
    };
    (0..3).map(page).collect()
}

fn ingest(held: &mut Held, resource: &str, pages: &[String]) -> Result<()> {
    let files: Vec<(&str, &String)> = pages.iter().map(|page| ("a page", page)).collect();
    try_ingest(held.store(), resource, &files, NOW.0).map(drop)
}

fn apply_page(held: &mut Held) -> Result<()> {
    let mut txn = held.store().begin_write(NOW)?;
    txn.apply_page("Property", "a page", page(0, 2).as_bytes())?;
    txn.commit().map(drop)
}

fn delete(held: &mut Held) -> Result<()> {
    let mut txn = held.store().begin_write(NOW)?;
    for key in [7, 8, 70_000] {
        txn.delete("Property", &Key::Int(key), None, Cause::DeletedFeed, "gone")?;
    }
    txn.commit().map(drop)
}

fn clear(held: &mut Held) -> Result<()> {
    let mut txn = held.store().begin_write(NOW)?;
    txn.clear_quarantine(Some("Property"))?;
    txn.commit().map(drop)
}

fn position(held: &mut Held) -> Result<()> {
    let mut txn = held.store().begin_write(NOW)?;
    txn.set_position("watch", 5)?;
    txn.commit().map(drop)
}

/// What the feed has at one time and another.
fn feed_now(edition: i64) -> Dataset {
    let keys = (1..=14).filter(|key| edition < 2 || *key != 5);
    let rows = keys.map(|key| row(key, if key % 2 == 0 { 3 + edition } else { 3 }));
    let mut data = Dataset::new()
        .with_resource("Property", "ListingKeyNumeric", rows)
        .unwrap();
    data.set_now(1_772_500_000);
    data
}

fn source(edition: i64) -> Direct {
    Direct::new(Arc::new(Mutex::new(feed_now(edition))), Options::default())
}

fn policy() -> Policy {
    Policy {
        page_size: Some(5),
        ..Policy::default()
    }
}

fn options(mode: SyncMode) -> SyncOptions<'static> {
    SyncOptions {
        mode,
        max_pages: None,
        confirm: true,
        now: &|| NOW,
    }
}

fn sync(held: &mut Held, edition: i64, mode: SyncMode) -> Result<()> {
    let (mut source, policy) = (source(edition), policy());
    let mut progress = |_: &RunReport| {};
    let store = held.store();
    store
        .sync(
            "Property",
            &mut source,
            &policy,
            &options(mode),
            &mut progress,
        )
        .map(drop)
}

fn refresh(held: &mut Held) -> Result<()> {
    let (keys, policy) = ([Key::Int(2), Key::Int(4)], policy());
    let wanted = Refresh {
        resource: "Property",
        keys: &keys,
        related: &[],
        policy: &policy,
        in_flight: 1,
    };
    let connect = || Box::new(source(4)) as Box<dyn PageSource>;
    let (store, options) = (held.store(), options(SyncMode::Auto));
    let mut progress = |_: &RunReport| {};
    store
        .refresh(&wanted, &connect, &options, &mut progress)
        .map(drop)
}

fn replacing() -> CopyOptions {
    CopyOptions {
        replace: true,
        ..CopyOptions::default()
    }
}

fn backup(held: &mut Held) -> Result<()> {
    held.store().backup(BACKUP, replacing()).map(drop)
}

/// What was backed up comes back. The file is closed for it, as it is for a command.
fn restore(held: &mut Held) -> Result<()> {
    held.store = None;
    let (from, to) = (Name::new(BACKUP), Name::new(STORE));
    Store::restore_in(held.folder.shared(), from, to, replacing())?;
    held.reopen()
}

fn repair(held: &mut Held) -> Result<()> {
    held.store = None;
    Store::repair_in(held.folder.shared(), Name::new(STORE))?;
    held.reopen()
}

/// The watcher has told everything: a prune need not wait for it.
fn delivered(held: &mut Held) -> Result<()> {
    let mut txn = held.store().begin_write(NOW)?;
    let last = txn.sequence();
    txn.set_position("watch", last)?;
    txn.commit().map(drop)
}

fn prune(held: &mut Held) -> Result<()> {
    let later = Timestamp(NOW.0 + 1);
    held.store().prune(later, later).map(drop)
}

fn purge(held: &mut Held) -> Result<()> {
    let keys = vec![Key::Int(2), Key::Int(9), Key::Int(70_000)];
    let scope = Scope::Records([("Property".to_owned(), keys)].into());
    let store = held.store.as_mut().expect("a store");
    let report = store.purge(&scope, NOW, &mut |_| Ok(false))?;
    assert!(report.is_complete(), "{report:?}");
    Ok(())
}

/// Two photos that records tell of, and their files.
fn media(held: &mut Held) -> Result<()> {
    struct Photos;
    impl MediaFetcher for Photos {
        fn fetch(&self, url: &str, _: Option<&str>) -> std::result::Result<Fetched, FetchError> {
            let bytes = [b"\xff\xd8\xff\xe0", url.as_bytes(), &[0; 64], b"\xff\xd9"].concat();
            Ok(Fetched::Body {
                bytes,
                content_type: None,
                etag: None,
            })
        }
    }
    impl MediaLister for Photos {
        fn list(&self, _: &str, key: &Key) -> std::result::Result<Vec<Vec<u8>>, SourceError> {
            unreachable!("the media of {key} are in the store")
        }
    }
    define(held, WITH_MEDIA)?;
    ingest(held, "Media", &[PHOTOS.to_owned()])?;
    let folder = tempfile::tempdir().unwrap();
    let files = MediaFiles::open(folder.path())?;
    let options = MediaOptions {
        policy: MediaPolicy::default(),
        urls: UrlLife::default(),
        retry: false,
        max: None,
        jobs: 1,
        now: &|| NOW,
        peak_memory: || None,
        stop: &AtomicBool::new(false),
    };
    let done = sync_media(
        held.store(),
        &files,
        &Photos,
        &Photos,
        &options,
        &mut |_| {},
    )?;
    assert_eq!(done.report.failed, 0, "{done:?}");
    Ok(())
}
