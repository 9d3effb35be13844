//! The workload on disk: folders of pages, and what a store must make of them.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use relist::schema::FieldType;
use relist_sim::truth::{Change, Net, net};
use relist_sim::{Backend as _, Day, Expected, Waves, format_timestamp, metadata};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::{Wave, Workload};
use crate::failure::Failure;
use crate::progress::Bar;

/// Records a page, as WFRMLS has them.
const PAGE: usize = 200;
/// The days of wave 3.
const DAYS: u32 = 30;
/// What the folder's layout is; another number is written anew.
const FORMAT: u32 = 1;
/// The file that says what is in the folder; it is written last.
const TRUTH: &str = "truth.json";
/// The `$metadata` that declares the resource.
pub(super) const METADATA: &str = "metadata.xml";
/// The resource of the pages.
pub(super) const RESOURCE: &str = "Property";

/// What is in a folder of pages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Data {
    /// The layout.
    format: u32,
    /// What the pages follow from.
    pub(super) seed: u64,
    /// The listings of wave 1.
    pub(super) listings: u32,
    /// Records a page.
    page_size: usize,
    /// The key field.
    pub(super) key: String,
    /// The fields with their types, in the order of the pages.
    fields: Vec<FieldOf>,
    /// The waves in their order.
    pub(super) waves: Vec<WaveOf>,
}

/// A field of the records.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct FieldOf {
    name: String,
    #[serde(rename = "type")]
    ty: String,
}

/// A wave: one or more steps, each a folder of pages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WaveOf {
    /// As the command line has it.
    pub(super) name: String,
    /// What a store is given at one moment.
    pub(super) steps: Vec<Step>,
}

/// What a store is given at one moment, and what it must make of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Step {
    /// Where the pages are, from the folder; deletions are in `deleted` below it.
    pub(super) folder: String,
    /// The number of the step, by which the changelog is checked.
    pub(super) at: u32,
    /// When it is observed, in seconds since 1970.
    pub(super) observed: i64,
    /// Pages.
    pub(super) pages: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Records sent.
    pub(super) records: u64,
    /// Of keys that were not there.
    pub(super) inserted: u64,
    /// With another value in some field.
    pub(super) changed: u64,
    /// Without.
    pub(super) unchanged: u64,
    /// Fields with another value.
    pub(super) field_changes: u64,
    /// Keys that go.
    pub(super) deleted: u64,
    /// Records there afterwards.
    pub(super) live: u64,
}

impl Step {
    /// Both together, as at the end of the second.
    fn then(self, next: &Step) -> Step {
        Step {
            folder: self.folder,
            at: next.at,
            observed: next.observed,
            pages: self.pages + next.pages,
            bytes: self.bytes + next.bytes,
            records: self.records + next.records,
            inserted: self.inserted + next.inserted,
            changed: self.changed + next.changed,
            unchanged: self.unchanged + next.unchanged,
            field_changes: self.field_changes + next.field_changes,
            deleted: self.deleted + next.deleted,
            live: next.live,
        }
    }
}

impl WaveOf {
    /// All its steps together.
    pub(super) fn total(&self) -> Step {
        self.steps.iter().fold(Step::default(), Step::then)
    }
}

impl Data {
    /// Reads what a folder has; `None` when there is nothing of this layout.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let text = fs::read(folder.join(TRUTH)).ok()?;
        let data: Data = serde_json::from_slice(&text).ok()?;
        (data.format == FORMAT).then_some(data)
    }

    /// The waves that are there, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = Wave> + '_ {
        let all = [Wave::First, Wave::Second, Wave::Rewritten, Wave::Third];
        all.into_iter().filter(|wave| self.wave(*wave).is_some())
    }

    pub(super) fn wave(&self, wave: Wave) -> Option<&WaveOf> {
        self.waves.iter().find(|w| w.name == name(wave))
    }
}

/// A wave's name on the command line.
pub(super) fn name(wave: Wave) -> &'static str {
    match wave {
        Wave::First => "1",
        Wave::Second => "2",
        Wave::Rewritten => "rewritten",
        Wave::Third => "3",
    }
}

/// A wave as people call it.
pub(super) fn title(wave: &str) -> &'static str {
    match wave {
        "1" => "wave 1, all new",
        "2" => "wave 2, 95 % unchanged",
        "rewritten" => "wave 2, other bytes",
        _ => "wave 3, 30 days",
    }
}

/// The pages in a folder: those that are there, if they are what is asked for, else new ones.
pub(super) fn ensure(app: &App<'_>, folder: &Path, ask: &Workload) -> Result<Data, Failure> {
    if let Some(data) = Data::read(folder) {
        let wanted = |wave: &Wave| data.wave(*wave).is_some();
        if (data.seed, data.listings) == (ask.seed, ask.listings) && ask.waves.iter().all(wanted) {
            return Ok(data);
        }
    } else if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::failed(
            format!("{} holds something else", folder.display()),
            "name a folder that is new, empty or written by relist bench data",
        ));
    }
    write(app, folder, ask)
}

/// Writes the pages of a workload into a folder.
pub(super) fn write(app: &App<'_>, folder: &Path, ask: &Workload) -> Result<Data, Failure> {
    if Data::read(folder).is_some() {
        // What is loaded from the old pages goes with them.
        fs::remove_dir_all(folder).map_err(|e| Failure::file("cannot replace", folder, &e))?;
    }
    let last = ask.waves.iter().max().copied().unwrap_or(Wave::First);
    let mut writer = Writer::new(app, folder, ask)?;
    writer.first()?;
    if last >= Wave::Second {
        writer.second()?;
    }
    if last >= Wave::Rewritten {
        writer.rewritten()?;
    }
    if last >= Wave::Third {
        writer.third()?;
    }
    writer.finish()
}

struct Writer {
    folder: PathBuf,
    waves: Waves,
    data: Data,
    bar: Bar,
}

impl Writer {
    fn new(app: &App<'_>, folder: &Path, ask: &Workload) -> Result<Self, Failure> {
        let waves = Waves::new(ask.seed, ask.listings);
        let schema = waves.market().schema();
        let resource = schema.resources.iter().find(|r| r.name == RESOURCE);
        let fields = resource.map_or(&[][..], |r| &r.fields).iter();
        let data = Data {
            format: FORMAT,
            seed: ask.seed,
            listings: ask.listings,
            page_size: PAGE,
            key: resource.map_or_else(String::new, |r| r.key_field.clone()),
            fields: fields
                .map(|f| FieldOf {
                    name: f.name.clone(),
                    ty: type_name(&f.ty).to_owned(),
                })
                .collect(),
            waves: Vec::new(),
        };
        fs::create_dir_all(folder.join("truth"))
            .map_err(|e| Failure::file("cannot create", folder, &e))?;
        let path = folder.join(METADATA);
        put(&path, metadata(schema).as_bytes())?;
        Ok(Writer {
            folder: folder.to_owned(),
            waves,
            data,
            bar: Bar::waiting(app.shows_progress(), "writing pages"),
        })
    }

    fn first(&mut self) -> Result<(), Failure> {
        let expected = self.waves.first();
        let step = self.step("wave1", &expected);
        let step = write_pages(&self.folder, step, self.waves.pages(PAGE))?;
        self.wave(Wave::First, vec![step]);
        Ok(())
    }

    fn second(&mut self) -> Result<(), Failure> {
        let place = self.waves.market().truth_len();
        let expected = self.waves.second();
        let step = self.step("wave2", &expected);
        let all = self.waves.market().truth_since(place).iter();
        let listings = all.filter(|c: &&Change| c.resource == RESOURCE);
        self.truth(step.at, &net(listings))?;
        let step = write_pages(&self.folder, step, self.waves.pages(PAGE))?;
        write_deletions(&self.folder, &step, &expected.deleted)?;
        self.wave(Wave::Second, vec![step]);
        Ok(())
    }

    fn rewritten(&mut self) -> Result<(), Failure> {
        let records = self.waves.first().records;
        let expected = Expected {
            records,
            unchanged: records,
            ..Expected::default()
        };
        let mut step = self.step("rewritten", &expected);
        step.observed += 3_600;
        let step = write_pages(&self.folder, step, self.waves.rewritten(PAGE))?;
        self.wave(Wave::Rewritten, vec![step]);
        Ok(())
    }

    fn third(&mut self) -> Result<(), Failure> {
        let mut steps = Vec::new();
        for number in 1..=DAYS {
            let day = self.waves.day();
            let deleted: Vec<u32> = day
                .net
                .deleted
                .iter()
                .filter_map(|(_, key)| key.parse().ok())
                .collect();
            let mut step = self.step(&format!("wave3/day{number:02}"), &of_day(&day));
            step.at += number - 1;
            step.deleted = deleted.len() as u64;
            step.live = self.waves.market().keys().count() as u64;
            self.truth(step.at, &day.net)?;
            let step = write_pages(&self.folder, step, self.waves.day_pages(&day, PAGE))?;
            write_deletions(&self.folder, &step, &deleted)?;
            steps.push(step);
        }
        self.wave(Wave::Third, steps);
        Ok(())
    }

    fn step(&self, folder: &str, expected: &Expected) -> Step {
        let before: usize = self.data.waves.iter().map(|w| w.steps.len()).sum();
        Step {
            folder: folder.to_owned(),
            at: u32::try_from(before).unwrap_or(u32::MAX),
            observed: i64::from(self.waves.market().now()),
            records: expected.records,
            inserted: expected.inserted,
            changed: expected.changed,
            unchanged: expected.unchanged,
            field_changes: expected.field_changes,
            deleted: expected.deleted.len() as u64,
            live: expected.records,
            ..Step::default()
        }
    }

    fn wave(&mut self, wave: Wave, steps: Vec<Step>) {
        let name = name(wave).to_owned();
        self.data.waves.push(WaveOf { name, steps });
        self.bar.message(title(self::name(wave)).to_owned());
    }

    /// Writes what a changelog must say of a step: `[at, key, operation, field, previous, new]`.
    fn truth(&self, at: u32, net: &Net) -> Result<(), Failure> {
        let path = truth_file(&self.folder, at);
        let failed = |e| Failure::file("cannot write", &path, &e);
        let file = fs::File::create(&path).map_err(failed)?;
        let mut out = BufWriter::new(file);
        for (_, key) in net.inserted.keys() {
            writeln!(out, "[{at},{key},\"insert\",null,null,null]").map_err(failed)?;
        }
        for (_, key) in &net.deleted {
            writeln!(out, "[{at},{key},\"delete\",null,null,null]").map_err(failed)?;
        }
        for ((_, key), fields) in &net.changed {
            for (field, (previous, new)) in fields {
                writeln!(out, "[{at},{key},\"update\",\"{field}\",{previous},{new}]")
                    .map_err(failed)?;
            }
        }
        out.flush().map_err(failed)
    }

    fn finish(self) -> Result<Data, Failure> {
        self.bar.clear();
        let text = serde_json::to_vec_pretty(&self.data).map_err(std::io::Error::from)?;
        put(&self.folder.join(TRUTH), &text)?;
        Ok(self.data)
    }
}

/// Where the truth of a step is.
pub(super) fn truth_file(folder: &Path, at: u32) -> PathBuf {
    folder.join(format!("truth/{at:03}.ndjson"))
}

fn of_day(day: &Day) -> Expected {
    let changed = day.net.changed.len() as u64;
    Expected {
        records: day.keys.len() as u64,
        inserted: day.net.inserted.len() as u64,
        changed,
        field_changes: day.net.field_changes() as u64,
        ..Expected::default()
    }
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).map_err(|e| Failure::file("cannot write", path, &e))
}

fn write_pages(
    root: &Path,
    mut step: Step,
    pages: impl Iterator<Item = Vec<u8>>,
) -> Result<Step, Failure> {
    let folder = root.join(&step.folder);
    fs::create_dir_all(&folder).map_err(|e| Failure::file("cannot create", &folder, &e))?;
    for (number, page) in pages.enumerate() {
        put(&folder.join(format!("{number:05}.json")), &page)?;
        step.pages += 1;
        step.bytes += page.len() as u64;
    }
    Ok(step)
}

/// A page of the `Deleted` feed, where anything is deleted.
fn write_deletions(root: &Path, step: &Step, keys: &[u32]) -> Result<(), Failure> {
    if keys.is_empty() {
        return Ok(());
    }
    let stamp = format_timestamp(u32::try_from(step.observed).unwrap_or(u32::MAX));
    let rows = keys.iter().map(|key| {
        format!("{{\"resource\":\"{RESOURCE}\",\"primary_key\":\"{key}\",\"ts\":\"{stamp}\"}}")
    });
    let page = format!("{{\"value\":[{}]}}", rows.collect::<Vec<_>>().join(","));
    let folder = root.join(&step.folder).join("deleted");
    fs::create_dir_all(&folder).map_err(|e| Failure::file("cannot create", &folder, &e))?;
    put(&folder.join("00000.json"), page.as_bytes())
}

fn type_name(ty: &FieldType) -> &'static str {
    match ty {
        FieldType::Bool => "Bool",
        FieldType::Int => "Int",
        FieldType::Decimal => "Decimal",
        FieldType::Date => "Date",
        FieldType::DateTime => "DateTime",
        FieldType::GeoPoint => "GeoPoint",
        _ => "String",
    }
}
