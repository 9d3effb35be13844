//! An export into a file, which appears whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use relist::store::Snapshot;

use crate::error::ExportError;
use crate::write::{Format, Request, Summary, write};

/// A file to export into; its name says the format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The file.
    pub path: PathBuf,
    /// What is written into it.
    pub format: Format,
    /// Whether it is compressed.
    pub gzip: bool,
}

impl Target {
    /// Reads the format from the name: `.ndjson`, `.jsonl` or `.csv`, and `.gz` after it.
    ///
    /// # Errors
    /// [`ExportError::Extension`].
    pub fn of(path: &Path) -> Result<Self, ExportError> {
        let name = path.to_string_lossy().to_ascii_lowercase();
        let (stem, gzip) = match name.strip_suffix(".gz") {
            Some(stem) => (stem, true),
            None => (name.as_str(), false),
        };
        let format = match Path::new(stem).extension().and_then(|e| e.to_str()) {
            Some("ndjson" | "jsonl") => Format::Ndjson,
            Some("csv") => Format::Csv,
            _ => {
                return Err(ExportError::Extension {
                    path: path.to_owned(),
                });
            }
        };
        Ok(Target {
            path: path.to_owned(),
            format,
            gzip,
        })
    }
}

/// Exports into a file: written beside it, synced, then put in its place.
///
/// # Errors
/// [`ExportError::Exists`] when the target is there and `replace` is not set; else as
/// [`write`](crate::write()). The target is then as it was before.
pub fn export(
    snapshot: &Snapshot,
    request: &Request<'_>,
    target: &Target,
    replace: bool,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<Summary, ExportError> {
    if !replace && target.path.symlink_metadata().is_ok() {
        return Err(ExportError::Exists {
            path: target.path.clone(),
        });
    }
    let mut temporary = Temporary::create(&target.path)?;
    let at = |source| io_error("cannot write", &target.path, source);
    let mut buffered = BufWriter::with_capacity(1 << 17, &mut temporary.file);
    let summary = if target.gzip {
        let mut gzip = GzEncoder::new(buffered, Compression::default());
        let summary = write(snapshot, request, &mut gzip, progress);
        let summary = summary.map_err(|e| named(e, &target.path))?;
        buffered = gzip.finish().map_err(at)?;
        summary
    } else {
        write(snapshot, request, &mut buffered, progress).map_err(|e| named(e, &target.path))?
    };
    buffered.flush().map_err(at)?;
    drop(buffered);
    temporary.put_in_place(&target.path, replace)?;
    Ok(summary)
}

/// A file beside the target that goes away unless it becomes the target.
struct Temporary {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl Temporary {
    fn create(target: &Path) -> Result<Self, ExportError> {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}.part", std::process::id()));
        let path = target.with_file_name(name);
        let file = File::create(&path).map_err(|e| io_error("cannot create", target, e))?;
        Ok(Temporary {
            path,
            file,
            kept: false,
        })
    }

    fn put_in_place(mut self, target: &Path, replace: bool) -> Result<(), ExportError> {
        let at = |source| io_error("cannot write", target, source);
        self.file.sync_all().map_err(at)?;
        if replace {
            std::fs::rename(&self.path, target).map_err(at)?;
            self.kept = true;
        } else {
            self.link(target)?;
        }
        let parent = target.parent().filter(|p| !p.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new("."))).map_err(at)
    }

    /// Puts the file in place without replacing one that came meanwhile.
    fn link(&mut self, target: &Path) -> Result<(), ExportError> {
        match std::fs::hard_link(&self.path, target) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(ExportError::Exists {
                path: target.to_owned(),
            }),
            // Not every file system has hard links.
            Err(_) => {
                let renamed = std::fs::rename(&self.path, target);
                renamed.map_err(|e| io_error("cannot write", target, e))?;
                self.kept = true;
                Ok(())
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing can be done about a failure, and the error that led here is told already.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

fn io_error(doing: &str, path: &Path, source: io::Error) -> ExportError {
    ExportError::Io {
        context: format!("{doing} {}", path.display()),
        source,
    }
}

/// Names the file in an error of the stream.
fn named(error: ExportError, path: &Path) -> ExportError {
    match error {
        ExportError::Io { source, .. } => io_error("cannot write", path, source),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_format() {
        let of = |name: &str| Target::of(Path::new(name)).map(|t| (t.format, t.gzip));
        assert_eq!(of("a.ndjson").unwrap(), (Format::Ndjson, false));
        assert_eq!(of("x/A.CSV.GZ").unwrap(), (Format::Csv, true));
        assert_eq!(of("a.b.jsonl.gz").unwrap(), (Format::Ndjson, true));
        for name in ["a", "a.gz", "a.json", "a.parquet", ".csv"] {
            assert!(
                matches!(of(name), Err(ExportError::Extension { .. })),
                "{name}"
            );
        }
    }
}
