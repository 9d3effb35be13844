//! A simulated MLS: a seeded market, served as a RESO Web API.
//!
//! [`Market`] makes listings, members, offices, photos and open houses out of a seed, and plays
//! what becomes of them day by day. [`Server`] serves it over HTTP on loopback as WFRMLS would:
//! `$metadata`, `$filter`, `$orderby`, `$select`, `$expand`, pages with nextLinks, `Deleted`, a
//! bearer token. The market keeps its own [`truth`]: every change it made, to check a mirror by.
//! [`Dataset`] serves rows that a test gives.
//!
//! All is determined by the seed: no clock, no randomness, no thread has a say in the data.
//!
//! ```
//! use relist_sim::{Market, Options, Server, Size};
//! use std::sync::{Arc, Mutex};
//!
//! let market = Arc::new(Mutex::new(Market::new(1, Size::listings(100))));
//! let server = Server::start(Arc::clone(&market), Options::default())?;
//! assert!(server.base_url().starts_with("http://127.0.0.1:"));
//! market.lock().unwrap().advance_days(1);
//! # Ok::<(), std::io::Error>(())
//! ```

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
mod waves;
mod dataset;
mod edmx;
mod http;
mod options;
mod photos;
mod fault;
mod asked;
mod answer;
mod service;
mod server;
mod direct;

pub use backend::{Access, Backend, Key, RowId};
pub use dataset::Dataset;
pub use direct::Direct;
pub use edmx::document as metadata;
pub use fault::{Fault, FaultKind, Place, SLOW, Strike, Walked};
pub use http::{Ending, Framing, Request, Response};
pub use market::truth;
pub use market::{Conduct, Event, Market, Size};
pub use options::{Alter, BeforePage, Intercept, NextLink, Options};
pub use photos::{PhotoFault, Photos};
pub use server::Server;
pub use state::Status;
pub use text::{Seconds, format_timestamp};
pub use waves::{Day, Expected, Waves};
