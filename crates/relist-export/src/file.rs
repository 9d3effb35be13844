//! An export into a file, which appears whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use xxhash_rust::xxh3::Xxh3;

use crate::error::ExportError;
use crate::write::Format;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all; Parquet compresses within.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// A file to export into; its name says the format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The file.
    pub path: PathBuf,
    /// What is written into it.
    pub format: Format,
    /// Whether it is compressed.
    pub compression: Compression,
}

impl Target {
    /// Reads the format from the name: `.parquet`, `.csv`, `.ndjson` (or `.jsonl`), `.json`,
    /// `.rcf.json`, `.arrows`, and `.gz` or `.zst` after it. `format` is taken whatever the name.
    ///
    /// # Errors
    /// [`ExportError::Extension`].
    pub fn of(path: &Path, format: Option<Format>) -> Result<Self, ExportError> {
        let name = path.to_string_lossy().to_ascii_lowercase();
        let (stem, compression) = if let Some(stem) = name.strip_suffix(".gz") {
            (stem, Compression::Gzip)
        } else if let Some(stem) = name.strip_suffix(".zst") {
            (stem, Compression::Zstd)
        } else {
            (name.as_str(), Compression::None)
        };
        let named = match Path::new(stem).extension().and_then(|e| e.to_str()) {
            Some("ndjson" | "jsonl") => Some(Format::Ndjson),
            Some("csv") => Some(Format::Csv),
            Some("json") if stem.ends_with(".rcf.json") => Some(Format::CommonFormat),
            Some("json") => Some(Format::Json),
            Some("parquet") => Some(Format::Parquet),
            Some("arrows") => Some(Format::Arrow),
            _ => None,
        };
        match format.or(named) {
            Some(Format::Parquet) if compression != Compression::None => None,
            format => format,
        }
        .map(|format| Target {
            path: path.to_owned(),
            format,
            compression,
        })
        .ok_or_else(|| ExportError::Extension {
            path: path.to_owned(),
        })
    }
}

/// The size of a file, and the hash of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) hash: u128,
}

/// Lets `write` write what a target is to hold, and puts it in place when that went well.
pub(crate) fn into_file<R>(
    target: &Target,
    replace: bool,
    write: impl FnOnce(&mut dyn Write) -> Result<R, ExportError>,
) -> Result<(R, Written), ExportError> {
    if !replace && target.path.symlink_metadata().is_ok() {
        return Err(ExportError::Exists {
            path: target.path.clone(),
        });
    }
    let mut temporary = Temporary::create(&target.path)?;
    let at = |source| ExportError::at("cannot write", &target.path, source);
    let hashed = Hashed {
        out: &mut temporary.file,
        bytes: 0,
        hash: Xxh3::new(),
    };
    let mut buffered = BufWriter::with_capacity(1 << 17, hashed);
    let result = match target.compression {
        Compression::None => write(&mut buffered),
        Compression::Gzip => {
            let mut gzip = GzEncoder::new(&mut buffered, flate2::Compression::default());
            let result = write(&mut gzip);
            result.and_then(|r| gzip.finish().map(|_| r).map_err(at))
        }
        Compression::Zstd => {
            let mut zstd = zstd::Encoder::new(&mut buffered, 0).map_err(at)?;
            let result = write(&mut zstd);
            result.and_then(|r| zstd.finish().map(|_| r).map_err(at))
        }
    };
    let result = result.map_err(|e| named(e, &target.path))?;
    buffered.flush().map_err(at)?;
    let hashed = buffered.get_ref();
    let written = Written {
        bytes: hashed.bytes,
        hash: hashed.hash.digest128(),
    };
    drop(buffered);
    temporary.put_in_place(&target.path, replace)?;
    Ok((result, written))
}

/// A stream that knows what went through it.
struct Hashed<W> {
    out: W,
    bytes: u64,
    hash: Xxh3,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
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
        let file = File::create(&path).map_err(|e| ExportError::at("cannot create", target, e))?;
        Ok(Temporary {
            path,
            file,
            kept: false,
        })
    }

    fn put_in_place(mut self, target: &Path, replace: bool) -> Result<(), ExportError> {
        let at = |source| ExportError::at("cannot write", target, source);
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
                renamed.map_err(|e| ExportError::at("cannot write", target, e))?;
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

/// Names the file in an error of the stream.
fn named(error: ExportError, path: &Path) -> ExportError {
    match error {
        ExportError::Io { source, .. } => ExportError::at("cannot write", path, source),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_format() {
        use Compression as C;
        let of = |name: &str| Target::of(Path::new(name), None).map(|t| (t.format, t.compression));
        assert_eq!(of("a.ndjson").unwrap(), (Format::Ndjson, C::None));
        assert_eq!(of("x/A.CSV.GZ").unwrap(), (Format::Csv, C::Gzip));
        assert_eq!(of("a.b.jsonl.zst").unwrap(), (Format::Ndjson, C::Zstd));
        assert_eq!(of("a.json").unwrap(), (Format::Json, C::None));
        assert_eq!(
            of("a.rcf.json.gz").unwrap(),
            (Format::CommonFormat, C::Gzip)
        );
        assert_eq!(of("a.parquet").unwrap(), (Format::Parquet, C::None));
        for name in ["a", "a.gz", "a.txt", "a.parquet.gz", ".csv"] {
            assert!(
                matches!(of(name), Err(ExportError::Extension { .. })),
                "{name}"
            );
        }
        let forced = Target::of(Path::new("a.txt"), Some(Format::Csv)).unwrap();
        assert_eq!(forced.format, Format::Csv);
    }
}
