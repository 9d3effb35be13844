//! A simulated MLS.

mod rng;
mod text;
mod lookups;
mod places;
mod words;
mod state;
mod home;
mod fields;
mod backend;
mod market;

pub use backend::{Access, Backend, Key, RowId};
pub use market::truth;
pub use market::{Conduct, Event, Market, Size};
pub use state::Status;
pub use text::{Seconds, format_timestamp};
