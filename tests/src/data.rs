//! Where the real data is that some tests read, and what happens when it is not there.
//!
//! The data belongs to others and is not part of the repository. It is looked for in the directory
//! that `RELIST_DATA` names, else in `../shared/data` beside the repository. A test that needs it
//! and does not find it passes, having said so: [`skipped`] prints a line and, when
//! `RELIST_SKIP_LOG` names a file, appends it there, where a CI run finds it.

use std::io::Write;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // A test of another package has this module, too, by its path.
    let root = here
        .ancestors()
        .find(|p| p.join("ARCHITECTURE.md").exists());
    root.unwrap_or(here).to_path_buf()
}

/// The path of a file of the real data; without it, says that `test` is skipped.
pub fn find(test: &str, name: &str) -> Option<PathBuf> {
    let directory = std::env::var_os("RELIST_DATA")
        .map_or_else(|| root().join("../shared/data"), PathBuf::from);
    let path = directory.join(name);
    if path.exists() {
        return Some(path);
    }
    skipped(test, &format!("there is no {}", path.display()));
    None
}

/// The bytes of a file of the real data; without it, says that `test` is skipped.
pub fn read(test: &str, name: &str) -> Option<Vec<u8>> {
    let path = find(test, name)?;
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            skipped(test, &format!("{}: {error}", path.display()));
            None
        }
    }
}

/// Says that a test did not run, and why.
#[expect(
    clippy::print_stdout,
    reason = "a skipped test is said where the test is read"
)]
pub fn skipped(test: &str, why: &str) {
    println!("skipped: {test}: {why}");
    let Some(log) = std::env::var_os("RELIST_SKIP_LOG") else {
        return;
    };
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log);
    // A log that cannot be written must not look like a run without skips.
    let written = file.and_then(|mut f| writeln!(f, "skipped: {test}: {why}"));
    assert!(
        written.is_ok(),
        "RELIST_SKIP_LOG {}: {written:?}",
        log.display()
    );
}
