//! The seam to the network: what fetches a file, what lists the media of a record.

use crate::error::SourceError;
use crate::keycode::Key;
use crate::source::Traffic;
use crate::value::Timestamp;

/// Fetches a file by its URL: over HTTPS, or from wherever a test has it.
pub trait MediaFetcher: Sync {
    /// What it has cost so far, for run reports. Each number only grows.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    /// Fetches one file, whole. `etag` is of the file held, if the URL is the same.
    ///
    /// # Errors
    /// [`FetchError`], by whose fault it is.
    fn fetch(&self, url: &str, etag: Option<&str>) -> Result<Fetched, FetchError>;
}

/// Asks the feed for the media of one record, in the way that its provider has.
pub trait MediaLister: Sync {
    /// What it has cost so far, for run reports. Each number only grows.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    /// The bodies of all its pages, each with a `value` array of media.
    ///
    /// # Errors
    /// [`SourceError`] when one of them could not be had.
    fn list(&self, resource: &str, key: &Key) -> Result<Vec<Vec<u8>>, SourceError>;
}

/// What a fetch gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The file held is still the same (304).
    Unchanged,
    /// A file, not looked at.
    Body {
        /// Its bytes.
        bytes: Vec<u8>,
        /// Its Content-Type, as claimed.
        content_type: Option<String>,
        /// Its ETag.
        etag: Option<String>,
    },
}

/// Why a file could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct FetchError {
    /// Whose fault it is.
    pub kind: FetchErrorKind,
    /// What happened, without the URL.
    pub reason: String,
}

/// Whose fault it is that a file could not be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchErrorKind {
    /// The URL is used up or gone (403, 404, 410): the feed may have a new one.
    Expired,
    /// The URL's own: what it gives is no file to store, or it may not be asked.
    Url,
    /// The server failed on this URL (5xx): it may be the URL, it may be the server.
    Server,
    /// The host does not answer, or wants to be left alone for so many seconds.
    Host(Option<u64>),
    /// Too many requests (429), with the seconds to wait: the host wants to be left alone, or a
    /// URL that is good for once was used before.
    Throttled(Option<u64>),
    /// The feed, asked for a new URL, did not answer: nothing is known of the file.
    Feed,
    /// The caller wants to stop.
    Stopped,
}

/// How long a URL is good for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UrlLife {
    /// Whether it can be used only once.
    pub single_use: bool,
    /// For how many seconds after it was listed, where it expires.
    pub seconds: Option<u64>,
}

impl UrlLife {
    /// Whether a URL dies, so that an answer of 429 may mean that it has.
    pub(super) fn ends(self) -> bool {
        self.single_use || self.seconds.is_some()
    }

    /// Whether a URL given out then is dead now, or nearly so: the last tenth of its life may pass
    /// while it is on its way.
    pub(super) fn is_over(self, listed: Option<Timestamp>, now: Timestamp) -> bool {
        let Some(seconds) = self.seconds else {
            return false;
        };
        let life = i64::try_from(seconds.saturating_mul(900_000)).unwrap_or(i64::MAX);
        listed.is_none_or(|listed| now.0.saturating_sub(listed.0) >= life)
    }
}

impl FetchError {
    /// Stands where a URL is not tried before the feed was asked for another.
    pub(super) fn asked_first() -> Self {
        FetchError {
            kind: FetchErrorKind::Expired,
            reason: "its URL is used up or too old".to_owned(),
        }
    }
}
