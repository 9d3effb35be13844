//! What is known of the jobs' last runs and next times, in a file beside the store.
//!
//! It is written before a job begins and after it ended, so that a restart knows what was under
//! way and what was missed. It holds no secrets and can be deleted: then no job has run yet.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use relist::value::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of the file that is written and read.
const VERSION: u32 = 1;

/// All that is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    version: u32,
    /// Since when a reconcile is owed.
    pub(crate) owed_since: Option<Timestamp>,
    /// When a reconcile that is owed was last tried, and how often it did not settle it.
    pub(crate) owed_tried: Option<Timestamp>,
    #[serde(default)]
    pub(crate) owed_tries: u32,
    #[serde(default, rename = "job")]
    pub(crate) jobs: Vec<JobState>,
}

/// What is known of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobState {
    pub(crate) name: String,
    /// Its command, and its timing in words: another timing has other occurrences.
    pub(crate) run: String,
    pub(crate) timing: String,
    /// The occurrence that is next.
    pub(crate) occurrence: Option<Timestamp>,
    /// The same with its jitter: when it starts.
    pub(crate) due: Option<Timestamp>,
    /// The occurrence that was last run.
    pub(crate) last: Option<Timestamp>,
    pub(crate) began: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    /// Whether it began and has not ended.
    pub(crate) running: bool,
    /// What its command would have exited with.
    pub(crate) exit: Option<u8>,
    /// Why it failed.
    pub(crate) message: Option<String>,
    /// How often it failed since it last did not.
    pub(crate) failures: u64,
    pub(crate) runs: u64,
    /// How often it was skipped because nobody was there at its time.
    pub(crate) missed: u64,
}

/// The files beside a store.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    state: PathBuf,
    lock: PathBuf,
}

/// Held while a scheduler runs.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Files {
    pub(crate) fn beside(store: &Path) -> Self {
        let with = |suffix: &str| {
            let mut name = store.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        Files {
            state: with(".schedule"),
            lock: with(".schedule-lock"),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.state
    }

    /// Makes this the store's only scheduler; `None` when there is one already.
    pub(crate) fn lock(&self) -> io::Result<Option<Lock>> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.lock)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// What was kept; `None` when nothing was.
    pub(crate) fn read(&self) -> io::Result<Option<State>> {
        let text = match std::fs::read_to_string(&self.state) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let state: State = toml::from_str(&text).map_err(|e| wrong(e.message().to_owned()))?;
        if state.version != VERSION {
            return Err(wrong(format!("its version is {}", state.version)));
        }
        Ok(Some(state))
    }

    /// Keeps the state: a reader sees the old or the new one, also after a power cut.
    pub(crate) fn write(&self, state: &State) -> io::Result<()> {
        let state = State {
            version: VERSION,
            ..state.clone()
        };
        let text = toml::to_string(&state).map_err(io::Error::other)?;
        let mut new = self.state.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &self.state)?;
        let folder = self.state.parent().filter(|p| *p != Path::new(""));
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::beside(&folder.path().join("relist.redb"));
        assert_eq!(files.read().unwrap(), None);
        let job = JobState {
            name: "full".to_owned(),
            occurrence: Some(Timestamp(1_800_000_000_123_456)),
            message: Some("a \"quoted\"\nmessage".to_owned()),
            running: true,
            failures: 2,
            ..JobState::default()
        };
        let state = State {
            version: VERSION,
            owed_since: Some(Timestamp(-1)),
            jobs: vec![job, JobState::default()],
            ..State::default()
        };
        files.write(&state).unwrap();
        assert_eq!(files.read().unwrap(), Some(state));
    }

    #[test]
    fn what_is_not_a_state_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::beside(&folder.path().join("relist.redb"));
        for text in ["version = 2", "version = 1\nelse = 2", "\u{0}", ""] {
            std::fs::write(files.path(), text).unwrap();
            assert!(files.read().is_err(), "{text:?}");
        }
    }

    #[test]
    fn one_scheduler_a_store() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::beside(&folder.path().join("relist.redb"));
        let lock = files.lock().unwrap();
        assert!(lock.is_some());
        assert!(files.lock().unwrap().is_none());
        drop(lock);
        assert!(files.lock().unwrap().is_some());
    }
}
