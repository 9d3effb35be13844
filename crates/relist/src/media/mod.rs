//! Media: the files that a feed's records speak of, fetched and kept.
//!
//! What should be there follows from the records ([`Store::refresh_media`]): from the Media set,
//! from an expanded `Media` of a listing, or, where a store has neither, from asking the feed for
//! the media of one record after the other. What is to be fetched stands in the store; files lie
//! in a folder, named by their content.
//!
//! **A file is removed on evidence only.** A listing's empty array of media removes nothing unless
//! the listing itself says that it has none (`PhotosCount` 0), and an array shorter than
//! `PhotosCount` removes nothing either.
//!
//! [`Store::refresh_media`]: crate::store::Store::refresh_media

mod sniff;
mod files;
mod read;
mod merge;
mod refresh;
mod hosts;
mod run;

pub use files::{MediaFiles, file_path};
pub use refresh::{MediaPolicy, OnDelete, Refreshed};
pub use run::{
    FetchError, FetchErrorKind, Fetched, MediaFetcher, MediaLister, MediaOptions, MediaReport,
};
