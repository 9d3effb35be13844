//! Errors of an export.

use std::io;
use std::path::PathBuf;

/// Why an export failed. The target is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The query or the store failed.
    #[error(transparent)]
    Store(#[from] relist::error::Error),
    /// The target exists, and nothing said to replace it.
    #[error("{} exists", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// The target's name does not say what to write.
    #[error(
        "{}: the name does not end in .parquet, .csv, .ndjson, .json, .rcf.json or .arrows, \
         with .gz or .zst after it (but Parquet)",
        path.display()
    )]
    Extension {
        /// The target.
        path: PathBuf,
    },
    /// The target could not be written.
    #[error("{context}: {source}")]
    Io {
        /// The path, and what was being done.
        context: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A column could not be made or encoded.
    #[error("cannot encode a column: {0}")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// A Parquet file could not be made.
    #[error("cannot make a Parquet file: {0}")]
    Parquet(#[from] ::parquet::errors::ParquetError),
    /// A lake's folder holds something that is not its own.
    #[error("{}: {what}", path.display())]
    Lake {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The caller asked to stop.
    #[error("stopped before the end")]
    Stopped,
}

impl From<relist::error::QueryError> for ExportError {
    fn from(error: relist::error::QueryError) -> Self {
        ExportError::Store(error.into())
    }
}

impl ExportError {
    /// Something wrong with a lake.
    pub(crate) fn lake(path: &std::path::Path, what: String) -> Self {
        ExportError::Lake {
            path: path.to_owned(),
            what,
        }
    }

    /// An error of a file, and what was being done with it.
    pub(crate) fn at(doing: &str, path: &std::path::Path, source: io::Error) -> Self {
        ExportError::Io {
            context: format!("{doing} {}", path.display()),
            source,
        }
    }

    /// An error of the stream that is written to.
    pub(crate) fn stream(source: io::Error) -> Self {
        ExportError::Io {
            context: "cannot write".to_owned(),
            source,
        }
    }
}
