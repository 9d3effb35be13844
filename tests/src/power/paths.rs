//! Everything that writes to a store. Each path may be begun again after it was cut off anywhere:
//! what it did already, it does not do twice.

use std::sync::{Arc, Mutex};

use relist::error::Result;
use relist::keycode::Key;
use relist::schema::Schema;
use relist::source::PageSource;
use relist::store::{Cause, RunReport, Store};
use relist::sync::{Policy, Refresh, SyncMode, SyncOptions};
use relist_sim::{Dataset, Direct, Options};
use serde_json::{Value, json};

use super::{Held, NOW};
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

/// All paths, in an order in which each finds something to do.
pub fn all() -> Vec<Path> {
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

const DELETED: &str = r#"{"value":[{"primary_key":"3","resource":"Property",
"ts":"2026-03-03T00:00:00Z"},{"primary_key":"77777","resource":"Property",
"ts":"2026-03-03T00:00:00Z"}]}"#;

const BROKEN: &str = r#"{"value":[{"ListPrice":1},{"ListingKeyNumeric":9,"ListPrice":2,
"ModificationTimestamp":"2026-03-03T00:00:00Z"}]}"#;

fn init(held: &mut Held) -> Result<()> {
    if held.store.is_none() {
        held.store = Some(Store::create_on(held.disk.shared(), NOW)?);
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
