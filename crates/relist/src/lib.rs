//! Relist: an embedded, versioned store for RESO Web API resources.

// The order of these lines is the order of the layers: a module names only those above it.
pub mod error;
pub mod value;
pub mod keycode;
pub mod schema;
pub mod source;
pub mod odata;
pub mod record;
pub mod decode;
pub(crate) mod diff;
pub(crate) mod column;
pub mod store;
pub mod query;
pub mod watch;
pub mod ingest;
pub mod media;
pub mod sync;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
