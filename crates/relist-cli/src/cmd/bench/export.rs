//! `relist bench export`: a loaded store to files and a lake, each in a process of its own, in turn
//! with peers.

use std::path::{Path, PathBuf};

use relist::store::Store;
use serde::Serialize;

use super::copy::{self, Copied};
use super::data::{self, Data, RESOURCE};
use super::query::load;
use super::sheet::{Sheet, count, median, ratio, whole};
use super::system::{Scratch, System, systems};
use super::wave::{self, Commits};
use crate::app::App;
use crate::args::{BenchExport, Wave, Workload, Written};
use crate::failure::{Exit, Failure};
use crate::progress::Bar;
use crate::style::thousands;

/// Of the pages of wave 2, in which one record of twenty is another, one of so many is what
/// changes before a lake's update: one record of a hundred.
const SHARE: usize = 5;

/// What was measured of one system.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    what: &'static str,
    system: String,
    version: Option<String>,
    records: u64,
    records_per_second: f64,
    /// Of the file that is written.
    megabytes_per_second: f64,
    seconds: f64,
    cpu_seconds: f64,
    peak_memory: Option<u64>,
    file_bytes: u64,
    /// How many times as long it takes as Relist.
    against_relist: f64,
    /// How many times as large its file is as that of Relist.
    size_against_relist: f64,
    /// The seconds of every run.
    runs: Vec<f64>,
}

/// One measurement.
struct Taken {
    what: &'static str,
    system: String,
    copied: Copied,
}

pub(super) fn run(app: &mut App<'_>, args: &BenchExport) -> Result<Exit, Failure> {
    let scratch = Scratch::new()?;
    let folder = match &args.pages {
        Some(folder) => app.path(folder),
        None => scratch.path().join("pages"),
    };
    let workload = Workload {
        listings: args.listings,
        seed: args.seed,
        waves: vec![Wave::First, Wave::Second],
    };
    let data = data::ensure(app, &folder, &workload)?;
    let mut systems = systems(app, &args.measuring, scratch.path())?;
    // A store of JSON texts in SQLite has no exports that are the same job.
    systems.retain(|system| system.name != "SQLite");
    let loaded = folder.join("loaded");
    std::fs::create_dir_all(&loaded).map_err(|e| Failure::file("cannot create", &loaded, &e))?;
    let bar = Bar::waiting(app.shows_progress(), "loading");
    let mut stores = Vec::new();
    for system in &systems {
        bar.message(system.name.clone());
        let store = loaded.join(format!("first-{}", system.file));
        load(
            (&folder, &data),
            &store,
            system,
            &[Wave::First],
            args.reload,
        )?;
        stores.push(store);
    }
    bar.clear();
    // Files stand where the pages do: the disk is part of what is measured.
    let files = Scratch::within(&folder)?;
    let mut bench = Bench {
        folder: &folder,
        data: &data,
        systems: &systems,
        stores: &stores,
        files: files.path(),
        peak_memory: app.environment.peak_memory,
        taken: Vec::new(),
    };
    let steps = u64::from(args.measuring.runs);
    let bar = Bar::steps(app.shows_progress(), steps, "exporting");
    for round in 0..args.measuring.runs as usize {
        bar.at(round as u64);
        bench.round(round, &args.only, &bar)?;
    }
    bar.clear();
    let figures = bench.figures();
    let update = Update::of(&figures);
    if args.measuring.json {
        let document = serde_json::json!({
            "listings": data.listings,
            "seed": data.seed,
            "figures": figures,
            "lake_update": update,
        });
        let text = serde_json::to_string_pretty(&document).map_err(std::io::Error::from)?;
        writeln!(app.out, "{text}")?;
    } else {
        print(app, args.measuring.runs, &figures, update.as_ref())?;
    }
    Ok(Exit::Ok)
}

struct Bench<'a> {
    folder: &'a Path,
    data: &'a Data,
    systems: &'a [System],
    stores: &'a [PathBuf],
    files: &'a Path,
    peak_memory: fn() -> Option<u64>,
    taken: Vec<Taken>,
}

impl Bench<'_> {
    /// Every export once; who comes first changes from round to round.
    fn round(&mut self, round: usize, only: &[Written], bar: &Bar) -> Result<(), Failure> {
        for what in [Written::Parquet, Written::Csv, Written::Ndjson] {
            if !only.contains(&what) {
                continue;
            }
            for turn in 0..self.systems.len() {
                let place = (turn + round) % self.systems.len();
                let (Some(system), Some(store)) = (self.systems.get(place), self.stores.get(place))
                else {
                    continue;
                };
                bar.message(format!("{}, {}", copy::name(what), system.name));
                let to = self.files.join(format!("export.{}", copy::name(what)));
                let copied = system.copy(store, (&to, what), &self.data.key)?;
                std::fs::remove_file(&to).map_err(|e| Failure::file("cannot remove", &to, &e))?;
                self.take(copy::name(what), system, copied)?;
            }
        }
        if only.contains(&Written::Lake)
            && let (Some(system), Some(store)) = (self.systems.first(), self.stores.first())
        {
            bar.message("lake".to_owned());
            self.lake(round, system, store)?;
        }
        Ok(())
    }

    fn take(&mut self, what: &'static str, system: &System, copied: Copied) -> Result<(), Failure> {
        let expected = self.data.wave(Wave::First).map_or(0, |w| w.total().live);
        if what != UPDATE && copied.records != expected {
            let why = format!("it exported {} of {expected} records", copied.records);
            return Err(system.failed(&why));
        }
        self.taken.push(Taken {
            what,
            system: system.name.clone(),
            copied,
        });
        Ok(())
    }

    /// A lake of a copy of the store, and its update when one record of a hundred has changed.
    fn lake(&mut self, round: usize, system: &System, store: &Path) -> Result<(), Failure> {
        let (lake, own) = (self.files.join("lake"), self.files.join("lake.redb"));
        std::fs::copy(store, &own).map_err(|e| Failure::file("cannot copy", store, &e))?;
        let first = system.copy(&own, (&lake, Written::Lake), &self.data.key)?;
        self.take(FIRST, system, first)?;
        let second = self.data.wave(Wave::Second).map(|wave| &wave.steps);
        let step = second.and_then(|steps| steps.first()).ok_or_else(|| {
            Failure::usage("the pages have no wave 2".to_owned(), "relist bench data")
        })?;
        let (pages, _) = wave::files(&self.folder.join(&step.folder))?;
        let pages = pages.into_iter().skip(round % SHARE).step_by(SHARE);
        let changed = Store::open(&own)?;
        let mut commits = Commits::new(self.peak_memory);
        let report = wave::ingest(&changed, RESOURCE, step, pages.collect(), &mut commits)?;
        drop(changed);
        let mut update = system.copy(&own, (&lake, Written::Lake), &self.data.key)?;
        // Its rate is that of what it had to write.
        update.records = report.inserted + report.updated + report.relisted;
        self.take(UPDATE, system, update)?;
        std::fs::remove_dir_all(&lake).map_err(|e| Failure::file("cannot remove", &lake, &e))?;
        std::fs::remove_file(&own).map_err(|e| Failure::file("cannot remove", &own, &e))
    }

    fn figures(&self) -> Vec<Figures> {
        let mut out: Vec<Figures> = Vec::new();
        for what in ["parquet", "csv", "ndjson", FIRST, UPDATE] {
            let start = out.len();
            let own = self.systems.iter();
            out.extend(own.filter_map(|system| self.figures_of(what, &system.name)));
            let ours = out.get(start).map(|f| (f.seconds, f.file_bytes));
            let (seconds, size) = ours.unwrap_or((f64::NAN, 0));
            for figures in out.iter_mut().skip(start) {
                figures.against_relist = figures.seconds / seconds;
                figures.size_against_relist = count(figures.file_bytes) / count(size);
            }
        }
        out
    }

    fn figures_of(&self, what: &'static str, system: &str) -> Option<Figures> {
        let own = |t: &&Taken| t.what == what && t.system == system;
        let runs: Vec<&Copied> = self.taken.iter().filter(own).map(|t| &t.copied).collect();
        let last = runs.last()?;
        let seconds = median(runs.iter().map(|run| run.seconds).collect())?;
        Some(Figures {
            what,
            system: system.to_owned(),
            version: last.version.clone(),
            records: last.records,
            records_per_second: count(last.records) / seconds,
            megabytes_per_second: count(last.file_bytes) / seconds / 1e6,
            seconds,
            cpu_seconds: median(runs.iter().map(|run| run.cpu_seconds).collect())?,
            peak_memory: runs.iter().filter_map(|run| run.peak_memory).max(),
            file_bytes: last.file_bytes,
            against_relist: 1.0,
            size_against_relist: 1.0,
            runs: runs.iter().map(|run| run.seconds).collect(),
        })
    }
}

/// A lake that was not there.
const FIRST: &str = "lake, first run";
/// A lake that was, after one record of a hundred changed.
const UPDATE: &str = "lake, 1 % changed";

/// What a lake's update takes of what making it anew takes, or a Parquet file.
#[derive(Debug, Clone, Copy, Serialize)]
struct Update {
    of_first_run: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    of_parquet: Option<f64>,
}

impl Update {
    fn of(figures: &[Figures]) -> Option<Self> {
        let seconds = |what: &str| {
            let own = |f: &&Figures| f.what == what && f.system == "Relist";
            figures.iter().find(own).map(|f| f.seconds)
        };
        let update = seconds(UPDATE)?;
        Some(Update {
            of_first_run: update / seconds(FIRST)?,
            of_parquet: seconds("parquet").map(|parquet| update / parquet),
        })
    }
}

fn print(
    app: &mut App<'_>,
    runs: u32,
    figures: &[Figures],
    update: Option<&Update>,
) -> Result<(), Failure> {
    let mut sheet = Sheet::new(&[
        "export",
        "by",
        "records/s",
        "MB/s",
        "s",
        "cpu s",
        "peak MB",
        "file MB",
        "time against Relist",
        "size against Relist",
    ]);
    for f in figures {
        let megabytes = |bytes: u64| format!("{:.1}", count(bytes) / 1e6);
        let version = f.version.as_ref();
        sheet.row(vec![
            f.what.to_owned(),
            version.map_or(f.system.clone(), |v| format!("{} {v}", f.system)),
            thousands(whole(f.records_per_second)),
            format!("{:.0}", f.megabytes_per_second),
            format!("{:.2}", f.seconds),
            format!("{:.2}", f.cpu_seconds),
            f.peak_memory.map_or_else(|| "-".to_owned(), megabytes),
            megabytes(f.file_bytes),
            ratio(f.against_relist),
            ratio(f.size_against_relist),
        ]);
    }
    let records = figures.first().map_or(0, |f| f.records);
    writeln!(
        app.out,
        "{} records in order of key, medians of {runs} interleaved runs:\n",
        thousands(records)
    )?;
    sheet.print(app.out)?;
    if let Some(update) = update {
        let of_parquet = update.of_parquet.map_or_else(String::new, |of| {
            format!(", {:.1} % of that of a Parquet file", of * 100.0)
        });
        writeln!(
            app.out,
            "\nA lake's update takes {:.1} % of the time of its first run{of_parquet}.",
            update.of_first_run * 100.0
        )?;
    }
    Ok(())
}
