//! Decoding: bytes of a page to entities. Pure; it knows the schema and never the store.
//!
//! It goes in two steps, so that records that did not change are never decoded:
//! [`SplitPage::split`] finds the page's records, their keys and the hash of their bytes;
//! `Decoder::decode` turns one record's bytes into typed cells.

mod entity;
mod envelope;
mod key;
mod members;
mod page;
mod scan;

pub(crate) use entity::{DecodeContext, Decoder, Entity};
pub use key::KeySpec;
pub(crate) use members::Fault;
pub(crate) use page::KnownBytes;
pub use page::{RawEntity, Rejected, SplitPage};

/// The deepest nesting of JSON that is taken. Deeper records are quarantined.
pub const MAX_DEPTH: usize = 128;
