//! `relist bench ingest`: the waves into each store in turn, each wave in a process of its own.

use serde::Serialize;

use super::check::Verdict;
use super::data::{self, Data};
use super::sheet::{Sheet, count, median, ratio, whole};
use super::system::{Scratch, System, systems};
use super::wave::Measured;
use crate::app::App;
use crate::args::{BenchIngest, Wave};
use crate::failure::{Exit, Failure};
use crate::progress::Bar;
use crate::style::thousands;

/// What was measured of one system in one wave.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    wave: &'static str,
    system: String,
    version: Option<String>,
    records: u64,
    bytes: u64,
    records_per_second: f64,
    megabytes_per_second: f64,
    seconds: f64,
    cpu_seconds: f64,
    peak_memory: Option<u64>,
    file_bytes: u64,
    commits: Option<u64>,
    commit_p50: Option<f64>,
    commit_p99: Option<f64>,
    /// How many times as long it takes as Relist.
    against_relist: f64,
    /// The seconds of every run.
    runs: Vec<f64>,
}

/// What a system's changelog had against the truth, in the worst run.
#[derive(Debug, Clone, Serialize)]
struct Checked {
    system: String,
    #[serde(flatten)]
    verdict: Verdict,
}

pub(super) fn run(app: &mut App<'_>, args: &BenchIngest) -> Result<Exit, Failure> {
    let scratch = Scratch::new()?;
    let folder = match &args.pages {
        Some(folder) => app.path(folder),
        None => scratch.path().join("pages"),
    };
    let data = data::ensure(app, &folder, &args.workload)?;
    // Stores stand where the pages do: the disk is part of what is measured.
    let stores = Scratch::within(&folder)?;
    let systems = systems(app, &args.measuring, scratch.path())?;
    let mut waves = args.workload.waves.clone();
    waves.sort_unstable();
    waves.dedup();
    let mut rounds = Rounds {
        folder: &folder,
        data: &data,
        waves: &waves,
        measured: Vec::new(),
        checked: Vec::new(),
    };
    let steps = u64::from(args.measuring.runs) * waves.len() as u64 * systems.len() as u64;
    let bar = Bar::steps(app.shows_progress(), steps, "measuring");
    for round in 0..args.measuring.runs {
        rounds.round(round as usize, &systems, &stores, &bar)?;
    }
    bar.clear();
    let figures = rounds.figures(&systems);
    if args.measuring.json {
        print_json(app, &data, &figures, &rounds.checked)?;
    } else {
        print_table(app, &data, args.measuring.runs, &figures, &rounds.checked)?;
    }
    let right = |c: &Checked| (c.verdict.missing, c.verdict.extra) == (0, 0);
    match rounds.checked.iter().find(|c| !right(c)) {
        None => Ok(Exit::Ok),
        Some(wrong) => Err(Failure::failed(
            format!(
                "the changelog of {} is not the truth: {}",
                wrong.system,
                wrong.verdict.first.as_deref().unwrap_or_default()
            ),
            "no figure of it counts",
        )),
    }
}

/// All runs of all systems.
struct Rounds<'a> {
    folder: &'a std::path::Path,
    data: &'a Data,
    waves: &'a [Wave],
    measured: Vec<(Wave, String, Measured)>,
    checked: Vec<Checked>,
}

impl Rounds<'_> {
    /// Every wave into every store, anew; who comes first changes from round to round.
    fn round(
        &mut self,
        round: usize,
        systems: &[System],
        stores: &Scratch,
        bar: &Bar,
    ) -> Result<(), Failure> {
        let store = |system: &System| stores.path().join(format!("{round}-{}", system.file));
        for wave in self.waves {
            for turn in 0..systems.len() {
                let Some(system) = systems.get((turn + round) % systems.len()) else {
                    continue;
                };
                bar.at(self.measured.len() as u64);
                bar.message(format!(
                    "{}, {}",
                    data::title(data::name(*wave)),
                    system.name
                ));
                let measured = system.load(self.folder, self.data, &store(system), *wave)?;
                self.measured.push((*wave, system.name.clone(), measured));
            }
        }
        for system in systems {
            let path = store(system);
            let verdict = system.check(self.folder, self.data, &path, self.waves)?;
            self.note(&system.name, verdict);
            // The next round needs the room.
            for file in std::fs::read_dir(stores.path())
                .into_iter()
                .flatten()
                .flatten()
            {
                if file
                    .path()
                    .to_string_lossy()
                    .starts_with(&*path.to_string_lossy())
                {
                    let _ = std::fs::remove_file(file.path());
                }
            }
        }
        Ok(())
    }

    /// Keeps the worst verdict of each system.
    fn note(&mut self, system: &str, verdict: Verdict) {
        let wrong = |v: &Verdict| v.missing + v.extra;
        match self.checked.iter_mut().find(|c| c.system == system) {
            Some(known) if wrong(&known.verdict) >= wrong(&verdict) => {}
            Some(known) => known.verdict = verdict,
            None => self.checked.push(Checked {
                system: system.to_owned(),
                verdict,
            }),
        }
    }

    fn figures(&self, systems: &[System]) -> Vec<Figures> {
        let mut out: Vec<Figures> = Vec::new();
        for wave in self.waves {
            let start = out.len();
            out.extend(
                systems
                    .iter()
                    .filter_map(|s| self.figures_of(*wave, &s.name)),
            );
            let ours = out.get(start).map_or(f64::NAN, |f| f.seconds);
            for figures in out.iter_mut().skip(start) {
                figures.against_relist = figures.seconds / ours;
            }
        }
        out
    }

    fn figures_of(&self, wave: Wave, system: &str) -> Option<Figures> {
        let runs: Vec<&Measured> = self
            .measured
            .iter()
            .filter(|(w, s, _)| *w == wave && s == system)
            .map(|(_, _, measured)| measured)
            .collect();
        let of = |figure: fn(&Measured) -> Option<f64>| {
            median(runs.iter().filter_map(|run| figure(run)).collect())
        };
        let seconds = of(|m| Some(m.seconds))?;
        let total = self.data.wave(wave)?.total();
        let last = runs.last()?;
        Some(Figures {
            wave: data::name(wave),
            system: system.to_owned(),
            version: last.version.clone(),
            records: total.records,
            bytes: total.bytes,
            records_per_second: count(total.records) / seconds,
            megabytes_per_second: count(total.bytes) / seconds / 1e6,
            seconds,
            cpu_seconds: of(|m| Some(m.cpu_seconds))?,
            peak_memory: runs.iter().filter_map(|run| run.peak_memory).max(),
            file_bytes: last.file_bytes,
            commits: last.commits,
            commit_p50: of(|m| m.commit_p50),
            commit_p99: of(|m| m.commit_p99),
            against_relist: 1.0,
            runs: runs.iter().map(|run| run.seconds).collect(),
        })
    }
}

fn print_json(
    app: &mut App<'_>,
    data: &Data,
    figures: &[Figures],
    checked: &[Checked],
) -> Result<(), Failure> {
    let document = serde_json::json!({
        "listings": data.listings,
        "seed": data.seed,
        "durability": "every commit",
        "figures": figures,
        "changelog": checked,
    });
    let text = serde_json::to_string_pretty(&document).map_err(std::io::Error::from)?;
    writeln!(app.out, "{text}")?;
    Ok(())
}

fn print_table(
    app: &mut App<'_>,
    data: &Data,
    runs: u32,
    figures: &[Figures],
    checked: &[Checked],
) -> Result<(), Failure> {
    let mut sheet = Sheet::new(&[
        "wave",
        "store",
        "records/s",
        "MB/s",
        "s",
        "cpu s",
        "peak MB",
        "file MB",
        "commit p50/p99 ms",
        "time against Relist",
    ]);
    for f in figures {
        let megabytes = |bytes: u64| format!("{:.0}", count(bytes) / 1e6);
        let none = || "-".to_owned();
        let commit = f.commit_p50.zip(f.commit_p99);
        sheet.row(vec![
            data::title(f.wave).to_owned(),
            f.version
                .as_ref()
                .map_or(f.system.clone(), |v| format!("{} {v}", f.system)),
            thousands(whole(f.records_per_second)),
            format!("{:.0}", f.megabytes_per_second),
            format!("{:.2}", f.seconds),
            format!("{:.2}", f.cpu_seconds),
            f.peak_memory.map_or_else(none, megabytes),
            megabytes(f.file_bytes),
            commit.map_or_else(none, |(p50, p99)| {
                format!("{:.0}/{:.0}", p50 * 1e3, p99 * 1e3)
            }),
            ratio(f.against_relist),
        ]);
    }
    writeln!(
        app.out,
        "{} listings, medians of {runs} interleaved runs, every commit durable:\n",
        thousands(u64::from(data.listings))
    )?;
    sheet.print(app.out)?;
    writeln!(app.out)?;
    for c in checked {
        writeln!(
            app.out,
            "{}: changelog checked against {} changes: {} missing, {} extra",
            c.system,
            thousands(c.verdict.expected),
            thousands(c.verdict.missing),
            thousands(c.verdict.extra)
        )?;
    }
    Ok(())
}
