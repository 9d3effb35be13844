//! Who writes to a store: its process leaves its number beside the file.
//!
//! The lock itself is the engine's, on the file; this only says who has it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::home::create_private;

/// The note of the process that writes, as long as it does.
pub(super) struct Holder(PathBuf);

impl Holder {
    /// Leaves the note. Where none can be left, nothing but its number is missed.
    pub(super) fn leave(store: &Path) -> Holder {
        let path = note_of(store);
        let text = std::process::id().to_string();
        // One that a killed process left is in the way.
        let _ = std::fs::remove_file(&path);
        let _ = create_private(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        Holder(path)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The process that writes to a store, as far as it is known.
pub(super) fn holder_of(store: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(note_of(store)).ok()?;
    text.trim().parse().ok()
}

fn note_of(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".writer");
    PathBuf::from(path)
}
