//! The one seam to the outside: where pages come from.

use std::time::Duration;

use crate::error::SourceError;
use crate::keycode::Key;
use crate::value::DateTime;

/// A source of OData pages: a live server, saved files, or a simulator.
///
/// A source knows URLs and files, never entities. It retries what can be retried before it
/// answers with an error.
pub trait PageSource: Send {
    /// Fetches one page, whole.
    fn fetch(&mut self, request: &PageRequest) -> Result<Page, SourceError>;

    /// Whether the feed has the record of that key, by a request for the entity itself:
    /// `Property(123)`. `None` when the source has no such request, or the feed refuses it.
    ///
    /// It is the second evidence for a deletion: a query that finds nothing may be a query gone
    /// wrong.
    fn holds(&mut self, resource: &str, key: &Key) -> Result<Option<bool>, SourceError> {
        let _ = (resource, key);
        Ok(None)
    }

    /// What it has cost so far, for run reports. Each number only grows.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}

/// What a [`PageSource`] has cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests sent, retries among them.
    pub requests: u64,
    /// Requests sent again after a failure.
    pub retries: u64,
    /// Bytes of bodies received, decompressed.
    pub bytes: u64,
    /// Time spent waiting before retries.
    pub waited: Duration,
}

impl Traffic {
    /// What was added since an earlier moment.
    #[must_use]
    pub fn since(self, earlier: Traffic) -> Traffic {
        Traffic {
            requests: self.requests.saturating_sub(earlier.requests),
            retries: self.retries.saturating_sub(earlier.retries),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

/// What to ask a [`PageSource`] for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageRequest {
    /// The first page of a query.
    Query {
        /// The entity set: `Property`.
        resource: String,
        /// Its query options, unencoded.
        options: QueryOptions,
    },
    /// The page a continuation link points to, as the server wrote it: absolute or relative to
    /// the service root.
    Next {
        /// The entity set being walked.
        resource: String,
        /// The `@odata.nextLink`.
        link: String,
    },
}

impl PageRequest {
    /// The entity set asked for.
    pub fn resource(&self) -> &str {
        match self {
            PageRequest::Query { resource, .. } | PageRequest::Next { resource, .. } => resource,
        }
    }
}

/// OData system query options, as text that is not yet percent-encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryOptions {
    /// `$filter`.
    pub filter: Option<String>,
    /// `$orderby`.
    pub orderby: Option<String>,
    /// `$select`.
    pub select: Option<String>,
    /// `$expand`.
    pub expand: Option<String>,
    /// `$top`.
    pub top: Option<u64>,
    /// `$count=true`.
    pub count: bool,
    /// The page size to prefer (`Prefer: odata.maxpagesize`), where the walk follows nextLinks.
    pub page_size: Option<u64>,
}

/// One OData response, not yet looked at.
#[derive(Debug, Clone)]
pub struct Page {
    /// The body, decompressed.
    pub body: Vec<u8>,
    /// Where it came from: a URL without its secrets, or a file name and position.
    pub origin: String,
    /// The server's `Date`, by which watermarks are clamped.
    pub server_time: Option<DateTime>,
    /// A continuation given in a `Link: <..>; rel="next"` header.
    pub next_link: Option<String>,
}
