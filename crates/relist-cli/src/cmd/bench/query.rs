//! `relist bench query`: each question to Relist and its peers in turn, hot, and what they answer
//! compared.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use relist::keycode::Key;
use relist::store::{Snapshot, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer;
use super::data::{self, Data, RESOURCE};
use super::questions::{Given, How, Question};
use super::sheet::{Sheet, median, ratio, seconds};
use super::system::{Scratch, System, systems};
use crate::app::App;
use crate::args::{BenchQuery, Wave};
use crate::failure::{Exit, Failure};
use crate::progress::Bar;
use crate::style::thousands;

/// Seconds that a question is asked for in one go, again and again.
const SPELL: f64 = 0.3;
/// The least and the most times it is asked then.
const TIMES: (u32, u32) = (3, 1_000);
/// How often a process of its own is started in one go.
const PROCESSES: u32 = 5;

/// What came of a question.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    query: &'static str,
    title: String,
    /// Rows of the answer.
    rows: usize,
    systems: Vec<Timed>,
}

/// How long one system took.
#[derive(Debug, Clone, Serialize)]
struct Timed {
    system: String,
    /// The median; `None` where it was not asked.
    seconds: Option<f64>,
    /// Where its answer is not ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    differs: Option<String>,
}

/// What a peer says.
#[derive(Debug, Deserialize)]
struct Reply {
    seconds: Option<f64>,
    answer: Option<Vec<Value>>,
}

pub(super) fn run(app: &mut App<'_>, args: &BenchQuery) -> Result<Exit, Failure> {
    let scratch = Scratch::new()?;
    let systems: Vec<System> = systems(app, &args.measuring, scratch.path())?;
    let stores = stores(app, args, &systems, &scratch)?;
    let path = stores.first().cloned().unwrap_or_default();
    let store = Store::open_read_only(&path)?;
    let snapshot = store.snapshot()?;
    let given = Given::of(&snapshot)?;
    let mut bench = Bench {
        snapshot: &snapshot,
        key: given.key(),
        given: serde_json::to_value(&given).map_err(std::io::Error::from)?,
        stores: &stores,
        systems: &systems,
        peers: Vec::new(),
        out: String::new(),
    };
    for (system, store) in systems.iter().zip(&stores).skip(1) {
        bench.peers.push(Peer::start(system, store)?);
    }
    let wanted = |q: &Question| {
        let only = args.only.as_deref().unwrap_or_default();
        q.name.contains(only) || q.title.contains(only)
    };
    let questions: Vec<Question> = given.questions()?.into_iter().filter(wanted).collect();
    let bar = Bar::steps(app.shows_progress(), questions.len() as u64, "asking");
    let mut figures = Vec::new();
    for question in &questions {
        bar.at(figures.len() as u64);
        bar.message(question.title.clone());
        figures.push(bench.question(question, args.measuring.runs)?);
    }
    bar.clear();
    let records = snapshot.count(RESOURCE)?;
    print(app, args, records, &systems, &figures)?;
    let differing = figures
        .iter()
        .flat_map(|f| f.systems.iter().map(move |s| (f, s)));
    match differing
        .filter(|(_, s)| s.differs.is_some())
        .map(|(f, s)| (&f.title, s))
        .next()
    {
        None => Ok(Exit::Ok),
        Some((title, timed)) => Err(Failure::failed(
            format!(
                "{title}: {} answers {}",
                timed.system,
                timed.differs.as_deref().unwrap_or_default()
            ),
            "one of them is wrong; no figure of that query counts",
        )),
    }
}

/// The stores of all systems: the one that is named, or those loaded from pages.
fn stores(
    app: &App<'_>,
    args: &BenchQuery,
    systems: &[System],
    scratch: &Scratch,
) -> Result<Vec<PathBuf>, Failure> {
    let named = app.global.store.as_ref().map(|store| app.path(store));
    if let Some(store) = named.clone().filter(|_| systems.len() == 1) {
        return Ok(vec![store]);
    }
    let folder = match &args.pages {
        Some(folder) => app.path(folder),
        None => scratch.path().join("pages"),
    };
    let data = data::ensure(app, &folder, &args.workload)?;
    let loaded = folder.join("loaded");
    std::fs::create_dir_all(&loaded).map_err(|e| Failure::file("cannot create", &loaded, &e))?;
    let bar = Bar::waiting(app.shows_progress(), "loading");
    let mut out = Vec::new();
    for system in systems {
        bar.message(system.name.clone());
        out.push(match &named {
            Some(store) if system.is_relist() => store.clone(),
            _ => {
                let waves: Vec<Wave> = data.names().collect();
                let store = loaded.join(&system.file);
                load((&folder, &data), &store, system, &waves, args.reload)?;
                store
            }
        });
    }
    bar.clear();
    Ok(out)
}

/// Loads a store with some waves, unless it is there from before.
pub(super) fn load(
    (folder, data): (&Path, &Data),
    store: &Path,
    system: &System,
    waves: &[Wave],
    reload: bool,
) -> Result<(), Failure> {
    let beside = |suffix: &str| {
        let mut name = store.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    // Written when the last wave is in.
    let mark = beside(".loaded");
    let opens = !system.is_relist() || Store::open_read_only(store).is_ok();
    if mark.exists() && opens && !reload {
        return Ok(());
    }
    for suffix in [".loaded", "", "-wal", "-shm", ".wal"] {
        let _ = std::fs::remove_file(beside(suffix));
    }
    for wave in waves {
        system.load(folder, data, store, *wave)?;
    }
    std::fs::write(&mark, b"").map_err(|e| Failure::file("cannot write", &mark, &e))
}

/// A peer that answers line by line.
struct Peer {
    name: String,
    child: Child,
    asked: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Peer {
    fn start(system: &System, store: &Path) -> Result<Self, Failure> {
        let mut command = system.command();
        command.arg("query").arg("--store").arg(store);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| system.failed(&e.to_string()))?;
        let streams = child.stdin.take().zip(child.stdout.take());
        let (asked, said) = streams.ok_or_else(|| system.failed("it has no streams"))?;
        Ok(Peer {
            name: system.name.clone(),
            child,
            asked,
            said: BufReader::new(said),
        })
    }

    fn ask(&mut self, query: &str, given: &Value, times: u32) -> Result<Reply, Failure> {
        let question = serde_json::json!({"query": query, "runs": times, "with": given});
        let mut line = String::new();
        writeln!(self.asked, "{question}")?;
        self.asked.flush()?;
        self.said.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|e| {
            let message = format!("{} did not answer {query}: {e}", self.name);
            Failure::failed(message, "its messages are above")
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Bench<'a> {
    snapshot: &'a Snapshot,
    key: Key,
    given: Value,
    stores: &'a [PathBuf],
    systems: &'a [System],
    peers: Vec<Peer>,
    out: String,
}

impl Bench<'_> {
    fn question(&mut self, question: &Question, runs: u32) -> Result<Figures, Failure> {
        let mut taken: Vec<Vec<f64>> = vec![Vec::new(); self.systems.len()];
        let mut answers: Vec<Option<Vec<Value>>> = vec![None; self.systems.len()];
        let mut times = vec![1; self.systems.len()];
        // The first time warms up, and tells how often to ask.
        for round in 0..=runs as usize {
            for turn in 0..self.systems.len() {
                let place = (turn + round) % self.systems.len();
                let often = times.get(place).copied().unwrap_or(1);
                let reply = self.ask(place, question, often)?;
                let Some(seconds) = reply.seconds else {
                    continue;
                };
                if let Some(answer) = answers.get_mut(place) {
                    *answer = reply.answer;
                }
                if round == 0 {
                    if let Some(times) = times.get_mut(place) {
                        *times = often_enough(seconds);
                    }
                } else if let Some(taken) = taken.get_mut(place) {
                    taken.push(seconds);
                }
            }
        }
        let ours = answers.first().cloned().flatten().unwrap_or_default();
        let systems = self.systems.iter().zip(taken).zip(&answers);
        let systems = systems.map(|((system, taken), answer)| Timed {
            system: system.name.clone(),
            seconds: median(taken),
            differs: answer.as_ref().and_then(|a| answer::difference(&ours, a)),
        });
        Ok(Figures {
            query: question.name,
            title: question.title.clone(),
            rows: ours.len(),
            systems: systems.collect(),
        })
    }

    fn ask(&mut self, place: usize, question: &Question, times: u32) -> Result<Reply, Failure> {
        if let How::Process(arguments) = &question.how {
            return self.process(place, arguments);
        }
        if place > 0 {
            let given = &self.given;
            let peer = self.peers.get_mut(place - 1);
            return peer.map_or_else(
                || Ok(Reply::none()),
                |peer| peer.ask(question.name, given, times),
            );
        }
        let mut taken = Vec::new();
        for _ in 0..times {
            self.out.clear();
            let begun = Instant::now();
            question.ask(self.snapshot, &self.key, &mut self.out)?;
            taken.push(begun.elapsed().as_secs_f64());
        }
        Ok(Reply {
            seconds: median(taken),
            answer: Some(lines(&self.out)?),
        })
    }

    /// Starts processes of their own. Ours is timed from start to end; a peer times itself, from
    /// opening its store to the answer, so that its interpreter does not count.
    fn process(&self, place: usize, arguments: &[String]) -> Result<Reply, Failure> {
        let (Some(system), Some(store)) = (self.systems.get(place), self.stores.get(place)) else {
            return Ok(Reply::none());
        };
        let mut taken = Vec::new();
        let mut answer = None;
        for _ in 0..PROCESSES {
            let mut command = if place == 0 {
                let mut command = Command::new(system.program());
                command.args(arguments).arg("--store").arg(store);
                command
            } else {
                let mut command = system.command();
                command.arg("open").arg("--store").arg(store);
                command
            };
            let begun = Instant::now();
            let output = command
                .output()
                .map_err(|e| system.failed(&e.to_string()))?;
            let elapsed = begun.elapsed().as_secs_f64();
            if !output.status.success() {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(system.failed(&why));
            }
            if place == 0 {
                taken.push(elapsed);
                answer = Some(lines(&String::from_utf8_lossy(&output.stdout))?);
            } else {
                let reply: Reply = serde_json::from_slice(&output.stdout)
                    .map_err(|e| system.failed(&e.to_string()))?;
                taken.extend(reply.seconds);
                answer = reply.answer;
            }
        }
        Ok(Reply {
            seconds: median(taken),
            answer,
        })
    }
}

impl Reply {
    fn none() -> Self {
        Reply {
            seconds: None,
            answer: None,
        }
    }
}

fn lines(text: &str) -> Result<Vec<Value>, Failure> {
    let lines = text.lines().map(serde_json::from_str);
    let lines: Result<Vec<Value>, _> = lines.collect();
    Ok(lines.map_err(std::io::Error::from)?)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what a u32 holds"
)]
fn often_enough(seconds: f64) -> u32 {
    let (least, most) = TIMES;
    (SPELL / seconds).clamp(f64::from(least), f64::from(most)) as u32
}

fn print(
    app: &mut App<'_>,
    args: &BenchQuery,
    records: u64,
    systems: &[System],
    figures: &[Figures],
) -> Result<(), Failure> {
    if args.measuring.json {
        let document = serde_json::json!({"records": records, "figures": figures});
        let text = serde_json::to_string_pretty(&document).map_err(std::io::Error::from)?;
        writeln!(app.out, "{text}")?;
        return Ok(());
    }
    let mut titles = vec!["query", "rows"];
    titles.extend(systems.iter().map(|s| s.name.as_str()));
    if systems.len() > 1 {
        titles.push("best peer / Relist");
    }
    let mut sheet = Sheet::new(&titles);
    for f in figures {
        let mut cells = vec![f.title.clone(), thousands(f.rows as u64)];
        cells.extend(f.systems.iter().map(|s| {
            let time = s.seconds.map_or_else(|| "-".to_owned(), seconds);
            let mark = if s.differs.is_some() {
                " (differs)"
            } else {
                ""
            };
            format!("{time}{mark}")
        }));
        if systems.len() > 1 {
            let ours = f.systems.first().and_then(|s| s.seconds);
            let best = f.systems.iter().skip(1).filter_map(|s| s.seconds);
            let best = best.min_by(f64::total_cmp).zip(ours);
            cells.push(best.map_or_else(|| "-".to_owned(), |(best, ours)| ratio(best / ours)));
        }
        sheet.row(cells);
    }
    writeln!(
        app.out,
        "{} records, hot, medians of {} interleaved runs:\n",
        thousands(records),
        args.measuring.runs
    )?;
    sheet.print(app.out)?;
    Ok(())
}
