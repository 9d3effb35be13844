//! What a command knows of the process it runs in.

use std::ffi::OsString;
use std::fmt;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use relist::value::Timestamp;

/// The process as a command sees it. A test gives its own.
pub struct Environment {
    /// The current directory: where `relist.toml` is looked for.
    pub directory: PathBuf,
    /// Looks up an environment variable.
    pub variable: fn(&str) -> Option<OsString>,
    /// Tells the time.
    pub now: fn() -> Timestamp,
    /// Where data goes: on a terminal it is a table unless told otherwise.
    pub out: Stream,
    /// Where messages go: on a terminal there are progress bars.
    pub err: Stream,
    /// The terminal's columns, where there is one.
    pub width: Option<usize>,
    /// Set when the user wants to stop.
    pub stop: Arc<AtomicBool>,
    /// Tells the most memory that the process has used so far, in bytes, where it is known.
    pub peak_memory: fn() -> Option<u64>,
    /// Makes an interrupt set `stop`, instead of ending the process at once.
    pub catch_interrupt: fn(&Arc<AtomicBool>),
}

/// An output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stream {
    /// Whether it is a terminal.
    pub terminal: bool,
    /// Whether it may be coloured.
    pub colour: bool,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Environment {
    /// The real one.
    pub fn of_process() -> Self {
        let variable = |name: &str| std::env::var_os(name);
        let no_colour = variable("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = variable("TERM").is_some_and(|v| v == "dumb");
        let colour = !no_colour && !dumb;
        let stream = |terminal| Stream {
            terminal,
            colour: terminal && colour,
        };
        Environment {
            directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            variable,
            now,
            out: stream(std::io::stdout().is_terminal()),
            err: stream(std::io::stderr().is_terminal()),
            width: terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)),
            stop: Arc::default(),
            peak_memory,
            catch_interrupt,
        }
    }

    /// Whether the user wants to stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |t| i64::try_from(t.as_micros()).unwrap_or(i64::MAX)))
}

/// Linux counts it: `VmHWM:     12345 kB`.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1_024)
}

/// The exit code of a process ended by the second interrupt: 128 + SIGINT, as shells count.
const INTERRUPTED: i32 = 130;

fn catch_interrupt(stop: &Arc<AtomicBool>) {
    let stop = Arc::clone(stop);
    // Without a handler an interrupt ends the process at once, which loses no committed page.
    let _ = ctrlc::set_handler(move || {
        if stop.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED);
        }
    });
}
