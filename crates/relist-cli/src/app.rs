//! What the commands share: the streams, the options, and how the store is found.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use relist::error::Error;
use relist::keycode::Key;
use relist::odata::Query;
use relist::store::{AsOf, Snapshot, Store};
use relist::value::Timestamp;

use crate::args::{Format, Global, quoted_path};
use crate::config::{self, Config};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::moment::{self, Edge};
use crate::output::{MemberOf, Rows};
use crate::style::{Paint, printable};
use crate::table::Cut;

/// How long is waited before a store that another process writes to is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// One run of a command.
pub(crate) struct App<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) global: Global,
    pub(crate) out: &'a mut dyn Write,
    pub(crate) err: &'a mut dyn Write,
}

impl<'a> App<'a> {
    pub(crate) fn new(
        environment: &'a Environment,
        global: Global,
        out: &'a mut dyn Write,
        err: &'a mut dyn Write,
    ) -> Self {
        App {
            environment,
            global,
            out,
            err,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.environment.now)()
    }

    /// The format asked for, else what suits the output.
    pub(crate) fn format(&self) -> Format {
        self.global
            .output
            .unwrap_or(if self.environment.out.terminal {
                Format::Table
            } else {
                Format::Ndjson
            })
    }

    /// Whether a person is reading: then there is text where a program would get rows.
    pub(crate) fn is_text(&self) -> bool {
        self.format() == Format::Table
    }

    pub(crate) fn paint(&self) -> Paint {
        Paint(self.environment.out.colour)
    }

    pub(crate) fn shows_progress(&self) -> bool {
        self.environment.err.terminal && !self.global.quiet
    }

    /// A line beside the data, unless `--quiet`.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.global.quiet {
            let paint = Paint(self.environment.err.colour);
            self.say(&paint.dim(&printable(text)));
        }
    }

    /// A line of messages, after the data it is about.
    pub(crate) fn say(&mut self, line: &str) {
        // A failure shows at the next write of data; without messages there is nobody to tell.
        let _ = self.out.flush();
        let _ = writeln!(self.err, "{line}");
    }

    /// A line beside the data that matters, also with `--quiet`.
    pub(crate) fn warn(&mut self, text: &str) {
        let paint = Paint(self.environment.err.colour);
        let _ = writeln!(
            self.err,
            "{} {}",
            paint.warning("warning:"),
            printable(text)
        );
    }

    /// A line beside the data with `--verbose`.
    pub(crate) fn detail(&mut self, text: &str) {
        if self.global.verbose {
            self.note(text);
        }
    }

    /// Rows in the format of the output.
    pub(crate) fn rows<'r>(&'r mut self, members: &'r [MemberOf<'r>]) -> Result<Rows<'r>, Failure> {
        let (format, width, paint) = (self.format(), self.table_width(), self.paint());
        Ok(Rows::new(members, format, width, paint, self.out)?)
    }

    /// How wide a table may be.
    pub(crate) fn table_width(&self) -> Option<usize> {
        self.environment
            .width
            .filter(|_| self.environment.out.terminal)
    }

    /// Says what a table had no room for.
    pub(crate) fn note_cut(&mut self, cut: Cut) {
        if cut.columns > 0 {
            let columns = cut.columns;
            self.note(&format!("{columns} columns did not fit; -o json shows all"));
        } else if cut.values > 0 {
            self.note("long values are cut (…); -o json shows them whole");
        }
    }

    /// The content of an environment variable, when there is any.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let value = (self.environment.variable)(name)?;
        let value = value.to_string_lossy().into_owned();
        (!value.is_empty()).then_some(value)
    }

    /// A path as it was typed, from the current directory.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        if path == Path::new("") {
            return self.environment.directory.clone();
        }
        // A relative path stays one: messages show what the user wrote.
        let here = std::env::current_dir().is_ok_and(|d| d == self.environment.directory);
        if here {
            path.to_owned()
        } else {
            self.environment.directory.join(path)
        }
    }

    /// Where the configuration is, or would be.
    pub(crate) fn config_path(&self) -> PathBuf {
        let named = self.global.config.as_deref();
        self.path(named.unwrap_or(Path::new(config::FILE)))
    }

    /// The configuration; `None` when there is none and none was named.
    pub(crate) fn config(&self) -> Result<Option<Config>, Failure> {
        let path = self.config_path();
        if self.global.config.is_none() && !path.exists() {
            return Ok(None);
        }
        Config::read(&path).map(Some)
    }

    /// The store's path, as given, else from the configuration.
    pub(crate) fn store_path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.global.store {
            return Ok(self.path(path));
        }
        if let Some(path) = self.variable("RELIST_STORE") {
            return Ok(self.path(Path::new(&path)));
        }
        Ok(match self.config()? {
            Some(config) => {
                let store = config.store.clone();
                config.beside(&store.unwrap_or_else(|| PathBuf::from(config::STORE)))
            }
            None => self.path(Path::new(config::STORE)),
        })
    }

    /// Opens the store for reading, also while another process writes to it.
    pub(crate) fn open(&mut self) -> Result<Store, Failure> {
        let path = self.existing_store()?;
        Ok(Store::open_read_only(&path)?)
    }

    /// Opens the store for reading each page of it once.
    pub(crate) fn open_to_scan(&mut self) -> Result<Store, Failure> {
        let path = self.existing_store()?;
        Ok(Store::open_to_scan(&path)?)
    }

    /// Opens the store for reading and writing.
    pub(crate) fn open_writer(&mut self) -> Result<Store, Failure> {
        let path = self.existing_store()?;
        self.open_patiently(&path)
    }

    /// Opens a store for writing. A process that writes a batch now and then has it for a moment
    /// only: that is waited for, as long as `--wait` says.
    fn open_patiently(&mut self, path: &Path) -> Result<Store, Failure> {
        let wait = moment::span("--wait", &self.global.wait)?;
        let until = self.now().0.saturating_add(wait);
        loop {
            match Store::open(path) {
                Err(Error::Locked { .. })
                    if self.now().0 < until && !self.environment.stopped() =>
                {
                    std::thread::sleep(PAUSE);
                }
                other => return Ok(other?),
            }
        }
    }

    pub(crate) fn existing_store(&mut self) -> Result<PathBuf, Failure> {
        let path = self.store_path()?;
        if !path.exists() {
            if self.global.store.is_none()
                && self.variable("RELIST_STORE").is_none()
                && self.config()?.is_none()
            {
                return Err(config::missing(&self.environment.directory));
            }
            return Err(Failure::failed(
                format!("there is no store at {}", path.display()),
                "relist init creates it, relist ingest too; --store FILE names another",
            ));
        }
        self.detail(&format!("store {}", quoted_path(&path)));
        Ok(path)
    }

    /// Opens the store for writing, creating it when there is none.
    pub(crate) fn open_or_create(&mut self) -> Result<(Store, bool), Failure> {
        let path = self.store_path()?;
        if path.exists() {
            self.detail(&format!("store {}", quoted_path(&path)));
            return Ok((self.open_patiently(&path)?, false));
        }
        Ok((Store::create(&path, self.now())?, true))
    }

    /// The query, knowing the pair of coordinates that the configuration names.
    pub(crate) fn located(&self, query: Query) -> Result<Query, Failure> {
        let pairs = self.config()?.map(|c| c.coordinates).unwrap_or_default();
        Ok(match pairs.get(&query.resource) {
            Some((latitude, longitude)) => query.coordinates(latitude, longitude),
            None => query,
        })
    }

    /// Reads `--as-of`: a date means its end.
    pub(crate) fn as_of(&self, text: Option<&str>) -> Result<Option<AsOf>, Failure> {
        text.map(|text| moment::parse("--as-of", text, Edge::End, self.now()))
            .transpose()
    }
}

/// Reads a key as its resource has them.
pub(crate) fn key(snapshot: &Snapshot, resource: &str, text: &str) -> Result<Key, Failure> {
    snapshot
        .parse_key(resource, text)
        .map_err(|error| match error {
            Error::Usage(_) => {
                let failure = Failure::from(error);
                failure.with_hint(format!("relist query {resource} --top 3 shows some keys"))
            }
            other => other.into(),
        })
}

/// A sequence that is not reached yet is found before anything is printed.
pub(crate) fn reached(snapshot: &Snapshot, at: Option<AsOf>) -> Result<(), Failure> {
    match at.map(|at| snapshot.resolve(at)) {
        Some(Err(error @ Error::Usage(_))) => {
            Err(Failure::from(error).with_hint("relist status shows the last sequence"))
        }
        Some(Err(error)) => Err(error.into()),
        _ => Ok(()),
    }
}
