//! How a server behaves, and where a test takes hold of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::http::{Request, Response};

/// How the server behaves.
pub struct Options {
    /// The port; 0 for one that is free.
    pub port: u16,
    /// The path of the service root, without a slash at its end.
    pub root: String,
    /// The bearer token that every request must carry.
    pub token: String,
    /// The most rows a page has, whatever is asked for.
    pub page_limit: u64,
    /// What a nextLink looks like.
    pub next_link: NextLink,
    /// Whether a nextLink is relative to the service root.
    pub relative_links: bool,
    /// Whether bodies are compressed for a client that accepts gzip.
    pub gzip: bool,
    /// Whether each entity carries an `@odata.id`.
    pub entity_ids: bool,
    /// Called before each page of an entity set is made, with how many were made before. The rows
    /// are not locked: a test can change them here.
    pub before_page: Option<BeforePage>,
    /// Called with each request; what it answers is sent instead.
    pub intercept: Option<Intercept>,
    /// Called with each request and the true answer to it; what it answers is sent.
    pub alter: Option<Alter>,
}

/// A hook called before a page is made, with how many were made before.
pub type BeforePage = Box<dyn Fn(u64) + Send + Sync>;
/// A hook that may answer a request itself.
pub type Intercept = Box<dyn Fn(&Request) -> Option<Response> + Send + Sync>;
/// A hook that sees each request with the true answer to it, and says what is sent.
pub type Alter = Box<dyn Fn(&Request, Response) -> Response + Send + Sync>;

/// What a nextLink looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextLink {
    /// An offset, `$skip=200`, as WFRMLS has it: rows shift under a walk when others come or go.
    Skip,
    /// An opaque `%24skiptoken`, which goes on after the last key where the order allows.
    SkipToken,
}

impl Default for Options {
    /// As WFRMLS: pages of 200, absolute nextLinks by offset, gzip for who accepts it.
    fn default() -> Self {
        Options {
            port: 0,
            root: "/reso/odata".to_owned(),
            token: "simulated-token".to_owned(),
            page_limit: 200,
            next_link: NextLink::Skip,
            relative_links: false,
            gzip: true,
            entity_ids: false,
            before_page: None,
            intercept: None,
            alter: None,
        }
    }
}

/// Locks, also after a test's hook panicked while it held the lock.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
