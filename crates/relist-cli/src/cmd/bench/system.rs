//! Who is measured: Relist and its peers, each a program that loads a wave and prints what it
//! cost.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::check::{self, Verdict};
use super::copy::Copied;
use super::data::{self, Data, Step};
use super::wave::Measured;
use crate::app::App;
use crate::args::{self, Wave, Written};
use crate::failure::Failure;

/// The peers' programs, by their file names.
const SCRIPTS: [(&str, &str); 3] = [
    (
        "common.py",
        include_str!("../../../../../benches/peers/common.py"),
    ),
    (
        "duckdb_peer.py",
        include_str!("../../../../../benches/peers/duckdb_peer.py"),
    ),
    (
        "sqlite_peer.py",
        include_str!("../../../../../benches/peers/sqlite_peer.py"),
    ),
];

/// A program that is measured.
#[derive(Debug, Clone)]
pub(super) struct System {
    /// What it is called in the table.
    pub(super) name: String,
    /// The name of its store's file.
    pub(super) file: String,
    program: PathBuf,
    /// Arguments before those of every peer.
    script: Option<PathBuf>,
}

/// A folder that goes when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// A new folder in another one.
    pub(super) fn within(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(format!("relist-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| Failure::file("cannot create", &path, &e))?;
        Ok(Scratch(path))
    }

    /// A new folder where the system has its temporary files.
    pub(super) fn new() -> Result<Self, Failure> {
        Scratch::within(&std::env::temp_dir())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left for the system to remove.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Relist, and the peers that are asked for, whose programs are put into `folder`.
pub(super) fn systems(
    app: &App<'_>,
    ask: &args::Measuring,
    folder: &Path,
) -> Result<Vec<System>, Failure> {
    let own = std::env::current_exe()
        .map_err(|e| Failure::file("cannot find", Path::new("relist"), &e))?;
    let mut out = vec![System {
        name: "Relist".to_owned(),
        file: "relist.redb".to_owned(),
        program: own,
        script: None,
    }];
    if ask.peers {
        for (name, text) in SCRIPTS {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|e| Failure::file("cannot write", &path, &e))?;
        }
        for (name, script) in [("DuckDB", "duckdb_peer.py"), ("SQLite", "sqlite_peer.py")] {
            out.push(System {
                name: name.to_owned(),
                file: format!("{}.db", name.to_lowercase()),
                program: ask.python.clone(),
                script: Some(folder.join(script)),
            });
        }
    }
    for program in &ask.peer {
        let name = program.file_stem().unwrap_or_default().to_string_lossy();
        out.push(System {
            name: name.clone().into_owned(),
            file: format!("{name}.db"),
            program: app.path(program),
            script: None,
        });
    }
    Ok(out)
}

impl System {
    pub(super) fn is_relist(&self) -> bool {
        self.name == "Relist"
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Its program with the arguments that come first.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.script.iter());
        if self.is_relist() {
            command.args(["bench"]);
        }
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        command
    }

    fn output(&self, mut command: Command) -> Result<Vec<u8>, Failure> {
        let output = command
            .output()
            .map_err(|e| Failure::file("cannot run", &self.program, &e))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(self.failed(&output.status.to_string()))
    }

    pub(super) fn failed(&self, why: &str) -> Failure {
        let hint = if self.script.is_some() {
            "peers need a Python with duckdb and orjson: --python names it"
        } else {
            "its messages are above"
        };
        Failure::failed(format!("{} failed: {why}", self.name), hint)
    }

    /// Loads a wave, and sees that it did what it had to.
    pub(super) fn load(
        &self,
        folder: &Path,
        data: &Data,
        store: &Path,
        wave: Wave,
    ) -> Result<Measured, Failure> {
        let mut command = self.command();
        command.arg("wave").arg("--data").arg(folder);
        command.arg("--to").arg(store);
        command.args(["--wave", data::name(wave)]);
        let output = self.output(command)?;
        let measured: Measured =
            serde_json::from_slice(&output).map_err(|e| self.failed(&e.to_string()))?;
        let expected = data.wave(wave).map(data::WaveOf::total).unwrap_or_default();
        self.compare(&expected, &measured)?;
        Ok(measured)
    }

    fn compare(&self, expected: &Step, measured: &Measured) -> Result<(), Failure> {
        let pairs = [
            ("records", expected.records, measured.records),
            ("inserted", expected.inserted, measured.inserted),
            ("unchanged", expected.unchanged, measured.unchanged),
            (
                "field changes",
                expected.field_changes,
                measured.field_changes,
            ),
            ("deleted", expected.deleted, measured.deleted),
            ("live", expected.live, measured.live),
        ];
        let wrong = pairs
            .iter()
            .filter(|(_, expected, found)| expected != found);
        let wrong: Vec<String> = wrong
            .map(|(name, expected, found)| format!("{name}: {found} instead of {expected}"))
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        Err(self.failed(&format!("{}: {}", expected.folder, wrong.join(", "))))
    }

    /// Exports a store in a process of its own.
    pub(super) fn copy(
        &self,
        store: &Path,
        (to, what): (&Path, Written),
        key: &str,
    ) -> Result<Copied, Failure> {
        let mut command = self.command();
        command.arg("copy").arg("--store").arg(store);
        command.arg("--to").arg(to);
        command.args(["--format", super::copy::name(what)]);
        if !self.is_relist() {
            // A store of ours knows what its records are in order of.
            command.args(["--key", key]);
        }
        let output = self.output(command)?;
        serde_json::from_slice(&output).map_err(|e| self.failed(&e.to_string()))
    }

    /// What its changelog has against the truth.
    pub(super) fn check(
        &self,
        folder: &Path,
        data: &Data,
        store: &Path,
        waves: &[Wave],
    ) -> Result<Verdict, Failure> {
        let said = if self.is_relist() {
            check::changelog(store, data)?
        } else {
            let mut command = self.command();
            command.arg("changes").arg("--store").arg(store);
            check::lines(self.output(command)?.as_slice())?
        };
        Ok(check::compare(&check::truth(folder, data, waves)?, &said))
    }
}
