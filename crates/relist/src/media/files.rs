//! The files: named by their content, so that one photo is stored once, and whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::store::{HeldFile, MediaKind};

/// A folder of media files: `ab/cdef....jpg`, where `abcdef...` is the hash of the content.
///
/// The names follow from the bytes alone: no key and no URL of a feed becomes a path. Folders are
/// 0700 and files 0600. A file appears under its name when it is whole and on the disk.
#[derive(Debug)]
pub struct MediaFiles {
    root: PathBuf,
    next: AtomicU64,
}

/// The start of the names of files that are not whole yet.
const TEMPORARY: &str = "new-";

impl MediaFiles {
    /// Opens the folder, making it when there is none. What a killed process left half written is
    /// removed: one process at a time may hold a folder open.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be made or read.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let open = || {
            make_folder(&root)?;
            for entry in fs::read_dir(&root)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        open().map_err(|e| io_error(&root, "cannot open the media folder", e))?;
        Ok(MediaFiles {
            root,
            next: AtomicU64::new(0),
        })
    }

    fn path(&self, content: u128, kind: MediaKind) -> PathBuf {
        path_below(&self.root, content, kind)
    }

    /// Stores bytes; tells their hash and whether a file was written. The same bytes are stored
    /// once; a file whose bytes went bad is written again.
    pub(super) fn store(&self, bytes: &[u8], kind: MediaKind) -> Result<(u128, bool)> {
        let content = xxhash_rust::xxh3::xxh3_128(bytes);
        let path = self.path(content, kind);
        let failed = |e| io_error(&path, "cannot write", e);
        match same_bytes(&path, bytes).map_err(failed)? {
            Some(true) => return Ok((content, false)),
            // The hash is no proof against one who wants two files of one name.
            Some(false) if hash_of(&path).map_err(failed)? == content => {
                return Err(failed(io::Error::other(
                    "another file has the same hash of its content",
                )));
            }
            _ => {}
        }
        self.write(&path, bytes).map_err(failed)?;
        Ok((content, true))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join(format!("{TEMPORARY}{number}"));
        let folder = path.parent().unwrap_or(&self.root);
        make_folder(folder)?;
        let written = (|| {
            let mut file = create_private(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        })();
        if written.is_err() {
            // The error that counts is the one before.
            let _ = fs::remove_file(&temporary);
        }
        written?;
        sync_folder(folder)
    }

    /// Removes the file of a content; that it is not there is as good.
    pub(super) fn remove(&self, held: &HeldFile) -> Result<()> {
        let path = self.path(held.content, held.kind);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(io_error(&path, "cannot remove", e))
            }
            _ => Ok(()),
        }
    }

    /// Whether the file is there, by its length: its bytes are not read.
    pub fn holds(&self, held: &HeldFile) -> bool {
        let path = self.path(held.content, held.kind);
        fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && m.len() == held.bytes)
    }
}

/// Removes the file that holds a purged medium; whether there was one.
///
/// The folder is not opened for it: another process may be fetching.
///
/// # Errors
/// [`Error::Io`] when it is there and cannot be removed.
pub fn remove_file(root: &Path, held: &HeldFile) -> Result<bool> {
    let path = file_path(root, held);
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io_error(&path, "cannot remove", e)),
    }
}

/// Where a file is, below a media folder.
pub fn file_path(root: &Path, held: &HeldFile) -> PathBuf {
    path_below(root, held.content, held.kind)
}

fn path_below(root: &Path, content: u128, kind: MediaKind) -> PathBuf {
    let name = format!("{content:032x}");
    let (folder, rest) = name.split_at(2);
    root.join(folder)
        .join(format!("{rest}.{}", kind.extension()))
}

/// Whether the file holds these bytes; `None` when there is none.
fn same_bytes(path: &Path, bytes: &[u8]) -> io::Result<Option<bool>> {
    let mut file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if file.metadata()?.len() != bytes.len() as u64 {
        return Ok(Some(false));
    }
    let mut held = Vec::with_capacity(bytes.len());
    file.read_to_end(&mut held)?;
    Ok(Some(held == bytes))
}

fn hash_of(path: &Path) -> io::Result<u128> {
    Ok(xxhash_rust::xxh3::xxh3_128(&fs::read(path)?))
}

fn io_error(path: &Path, doing: &str, source: io::Error) -> Error {
    Error::Io {
        context: format!("{doing} {}", path.display()),
        source,
    }
}

#[cfg(unix)]
fn make_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path)?;
    sync_folder(path.parent().unwrap_or(path))
}

#[cfg(not(unix))]
fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).open(path)
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let path = if path == Path::new("") {
        Path::new(".")
    } else {
        path
    };
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_content_is_one_file_and_a_spoilt_one_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("media");
        let files = MediaFiles::open(&root).unwrap();
        let (content, new) = files.store(b"bytes", MediaKind::Png).unwrap();
        assert!(new);
        assert_eq!(
            files.store(b"bytes", MediaKind::Png).unwrap(),
            (content, false)
        );
        let path = files.path(content, MediaKind::Png);
        assert_eq!(fs::read(&path).unwrap(), b"bytes");
        fs::write(&path, b"bytez").unwrap();
        assert_eq!(
            files.store(b"bytes", MediaKind::Png).unwrap(),
            (content, true)
        );
        assert_eq!(fs::read(&path).unwrap(), b"bytes");
        fs::write(root.join("new-0"), b"half").unwrap();
        MediaFiles::open(&root).unwrap();
        assert!(!root.join("new-0").exists());
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_them() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let files = MediaFiles::open(folder.path().join("media")).unwrap();
        let (content, _) = files.store(b"bytes", MediaKind::Gif).unwrap();
        let path = files.path(content, MediaKind::Gif);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(mode(&folder.path().join("media")), 0o700);
    }
}
