//! Media: the files that a feed's records speak of, fetched and kept.
//!
//! [`sync_media`] does it. What should be there follows from the records: from the Media set, from
//! an expanded `Media` of a listing, or, where a store has neither, from asking the feed for the
//! media of one record after the other. What is to be fetched stands in the store; files lie in a
//! folder, named by their content.
//!
//! **A file is removed on evidence only.** A listing's empty array of media removes nothing unless
//! the listing itself says that it has none (`PhotosCount` 0), and an array shorter than
//! `PhotosCount` removes nothing either.

mod sniff;
mod seam;
mod files;
mod read;
mod merge;
mod shelf;
mod refresh;
mod hosts;
mod run;
mod sync;

pub use files::{MediaFiles, file_path, remove_file};
pub use refresh::{MediaPolicy, OnDelete, Refreshed};
pub use run::{MediaOptions, MediaReport};
pub use seam::{FetchError, FetchErrorKind, Fetched, MediaFetcher, MediaLister, UrlLife};
pub use shelf::{InTurns, MediaStore};
pub use sync::{MediaDone, sync_media};
