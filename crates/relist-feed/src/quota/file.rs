//! What a quota remembers between two runs: a small JSON file beside the store.
//!
//! It is written to a temporary name and renamed, so it is whole or as it was before. It is not
//! synced: what a power cut can do to it is a file that does not read, and such a file counts as
//! a quota that was spent to the last request when it was written.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::rules::Per;

const VERSION: u32 = 1;

/// The content of the file. All times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    version: u32,
    /// Requests that may have been sent since the file was written.
    pub(super) reserved: u64,
    /// Bytes that may have come since.
    pub(super) reserved_bytes: u64,
    /// Nothing is sent before this time.
    pub(super) held_until: u64,
    pub(super) windows: Vec<SavedWindow>,
}

/// One window's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedWindow {
    pub(super) per: Per,
    pub(super) bytes: bool,
    /// The limit the server gave, when it gave one.
    pub(super) told: Option<u64>,
    /// What the server said was left, and until when.
    pub(super) granted: Option<(u64, u64)>,
    pub(super) buckets: Vec<(u64, u64)>,
    pub(super) recent: Vec<u64>,
}

impl Saved {
    pub(super) fn new(reserved: (u64, u64), held_until: u64, windows: Vec<SavedWindow>) -> Self {
        Saved {
            version: VERSION,
            reserved: reserved.0,
            reserved_bytes: reserved.1,
            held_until,
            windows,
        }
    }
}

/// What reading the file came to.
pub(super) enum Read {
    /// There is none: the quota was never used here.
    Missing,
    /// It reads.
    Whole(Saved),
    /// It does not read; it was written at this time, in microseconds since 1970.
    Broken(u64),
}

/// No quota file is larger: each window has at most some hundred entries.
const MAX_BYTES: u64 = 1024 * 1024;

pub(super) fn read(path: &Path) -> io::Result<Read> {
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::Missing),
        Err(error) => return Err(error),
    };
    let written = about.modified().map_or(u64::MAX, super::micros);
    if !about.is_file() || about.len() > MAX_BYTES {
        return Ok(Read::Broken(written));
    }
    let text = fs::read(path)?;
    Ok(match serde_json::from_slice::<Saved>(&text) {
        Ok(saved) if saved.version == VERSION => Read::Whole(saved),
        _ => Read::Broken(written),
    })
}

pub(super) fn write(path: &Path, saved: &Saved) -> io::Result<()> {
    let temporary = temporary(path);
    let text = serde_json::to_vec(saved).map_err(io::Error::other)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(&text)?;
    drop(file);
    fs::rename(&temporary, path)
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}
