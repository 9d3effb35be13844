//! Errors, by what the caller can do about them.

use std::fmt;

/// The result of a fallible operation of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A page or a record could not be read. Nothing of it was applied; see [`DecodeError`].
    #[error(transparent)]
    Decode(Box<DecodeError>),
    /// A query is wrong. The error points at the place; see [`QueryError`].
    #[error(transparent)]
    Query(Box<QueryError>),
    /// `$metadata` could not be read.
    #[error("$metadata: {reason} (at byte {offset})")]
    Metadata {
        /// What is wrong.
        reason: String,
        /// Where, in bytes from the start of the document.
        offset: u64,
    },
    /// The store holds no such resource.
    #[error("no resource named {name:?} in this store")]
    UnknownResource {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The file is not a Relist store, or is one of a format this build does not read.
    #[error("{reason}")]
    Format {
        /// What was found and what is supported.
        reason: String,
    },
    /// Another process is writing to the store. Try again when it has finished.
    #[error("the store is in use by another process{}", holder(*pid))]
    Locked {
        /// The process that holds it, when it is known.
        pid: Option<u32>,
    },
    /// Stored bytes are damaged. Run `relist verify`; restore a backup, or fetch the keys again.
    #[error("the store is corrupt: {what}")]
    Corrupt {
        /// Which table and entry.
        what: String,
    },
    /// Changes before `oldest` were pruned: reading from there would leave a gap.
    #[error("changes before sequence {oldest} were pruned")]
    Pruned {
        /// The oldest sequence still held.
        oldest: u64,
    },
    /// The source of pages failed; the checkpoint did not move. Retry later.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The sweep would delete more records than the brake allows. Nothing was deleted.
    #[error(
        "{would_delete} of {live} {resource} records are missing from the feed, more than the \
         {allowed} that may go without a confirmation"
    )]
    Brake {
        /// The resource swept.
        resource: String,
        /// How many records the feed no longer lists.
        would_delete: u64,
        /// How many records are current.
        live: u64,
        /// How many may go without a confirmation.
        allowed: u64,
    },
    /// The caller asked to stop, or the limit of pages was reached. What came before is applied.
    #[error("stopped before the end")]
    Stopped,
    /// The caller used the library wrongly: an option out of range, an unknown key type.
    #[error("{0}")]
    Usage(String),
    /// The disk or the database engine failed. Nothing of the transaction is assumed: reopen.
    #[error("storage: {0}")]
    Storage(StorageError),
    /// A file could not be read or written.
    #[error("{context}: {source}")]
    Io {
        /// The path, and what was being done.
        context: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Error::Decode(Box::new(error))
    }
}

impl From<QueryError> for Error {
    fn from(error: QueryError) -> Self {
        Error::Query(Box::new(error))
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|p| format!(" (pid {p})")).unwrap_or_default()
}

/// An error of the storage engine, kept opaque so that the engine can change.
#[derive(Debug)]
pub struct StorageError(Box<dyn std::error::Error + Send + Sync>);

impl StorageError {
    /// Wraps an engine error.
    pub(crate) fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        StorageError(Box::new(error))
    }

    /// True when the disk was full.
    pub fn is_disk_full(&self) -> bool {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self.0.as_ref());
        while let Some(error) = next {
            if let Some(io) = error.downcast_ref::<std::io::Error>() {
                return matches!(
                    io.kind(),
                    std::io::ErrorKind::StorageFull
                        | std::io::ErrorKind::FileTooLarge
                        | std::io::ErrorKind::QuotaExceeded
                );
            }
            next = error.source();
        }
        let text = self.0.to_string();
        text.contains("No space left on device") || text.contains("File too large")
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for StorageError {}

/// A page or record that could not be read: which page, which record, which field, what was
/// expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// The resource the page is of.
    pub resource: String,
    /// Where the page came from: a URL without its secrets, or a file name.
    pub page: String,
    /// The record's place in the page, from 0; `None` when the page as a whole is at fault.
    pub record: Option<usize>,
    /// The field at fault.
    pub field: Option<String>,
    /// Bytes from the start of the page.
    pub offset: Option<usize>,
    /// What was found and what was expected.
    pub reason: String,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} page {}", self.resource, self.page)?;
        if let Some(record) = self.record {
            write!(f, ", record {record}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ", field {field}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, ", byte {offset}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for DecodeError {}

/// A query that is wrong, and where. The command line renders it with a caret and the hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    /// The query option at fault: `$filter`, `$orderby`, ...
    pub option: &'static str,
    /// The text of that option.
    pub text: String,
    /// Where the fault starts, in bytes from the start of `text`.
    pub offset: usize,
    /// How many bytes are at fault (0 for a place between two bytes).
    pub len: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead, when there is a good guess.
    pub hint: Option<String>,
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at byte {}: {}",
            self.option, self.offset, self.message
        )
    }
}

impl std::error::Error for QueryError {}

/// Why a page could not be had, by whether trying again can help.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{request}: {reason}")]
pub struct SourceError {
    /// What can be done about it.
    pub kind: SourceErrorKind,
    /// The request: method and URL without its secrets, or the file.
    pub request: String,
    /// What happened.
    pub reason: String,
}

/// What can be done about a [`SourceError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// The network, the server or its quota: retry later.
    Unavailable,
    /// The token was refused (401, 403): get a new one.
    Unauthorized,
    /// The server has no such resource or key (404).
    NotFound,
    /// The server refused the request itself (other 4xx): the profile or the query is wrong.
    Refused,
    /// A continuation link is no longer accepted (400 or 410 on a nextLink).
    LinkExpired,
    /// The answer is not what a RESO Web API answers: truncated, too large, not JSON, redirected.
    Malformed,
    /// A local file could not be read.
    File,
    /// The caller asked to stop.
    Stopped,
}
