//! Pages of a RESO Web API over HTTPS, by provider profile.
//!
//! [`WebApi`] is a [`PageSource`](relist::source::PageSource) that knows URLs and HTTP, and nothing
//! of what a page holds. What differs between providers is data, in a [`Profile`].
//!
//! ```
//! use relist_feed::{Limits, Profile, Token, WebApi};
//!
//! # fn main() -> Result<(), relist_feed::ConfigError> {
//! let profile = Profile::named("wfrmls")?;
//! let root = profile.service_root()?.unwrap_or_default();
//! let token = Token::from_env_value("RELIST_TOKEN", "the-value-of-that-variable")?;
//! let api = WebApi::new(profile, &root, token, Limits::default())?;
//! assert_eq!(api.stats().snapshot().requests, 0);
//! # Ok(())
//! # }
//! ```

// The order of these lines is the order of the layers: a module names only those above it.
mod stats;
mod token;
mod credentials;
mod error;
mod url;
mod quota;
mod media;
mod profile;
mod policy;
mod retry;
mod body;
mod transport;
mod authority;
mod keylist;
mod client;
mod lister;
mod guard;
mod fetch;
mod webhook;
mod doctor;

pub use client::WebApi;
pub use credentials::Credentials;
pub use doctor::{Check, MOST_REQUESTS, Verdict, doctor};
pub use error::ConfigError;
pub use fetch::{MediaClient, MediaLimits};
pub use guard::MediaGuard;
pub use media::{MediaRules, MediaVia};
pub use profile::{
    Auth, Cursor, Deletes, EnumLiterals, Filters, FlagValue, OnRevoke, Paging, Profile,
    ResourceProfile, ResourceRules, SendCredentials, Walk, without_values,
};
pub use quota::{HeaderRule, Per, Quota, QuotaError, QuotaRules, Usage, WindowRule};
pub use retry::{Clock, RetryPolicy, SystemClock};
pub use stats::{Counters, Stats};
pub use token::{Token, TokenError};
pub use transport::{Limits, Network};
pub use webhook::{SIGNATURE_HEADER, Webhook};
