//! Errors of the configuration: what the user gave and should change.

use crate::token::TokenError;

/// Why a feed cannot be set up. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No profile of that name is built in.
    #[error("no profile named {name:?}; built in are {}", known.join(", "))]
    UnknownProfile {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A profile is wrong.
    #[error("profile {origin}: {reason}")]
    Profile {
        /// The file, or the profile's name.
        origin: String,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// The service root is not one that can be used.
    #[error("service root {url:?}: {reason}")]
    BaseUrl {
        /// The URL as given, without its user name and password.
        url: String,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// The address that events are sent to is not one that can be used.
    #[error("webhook {url:?}: {reason}")]
    Webhook {
        /// The URL as given, without its query and its password.
        url: String,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The HTTP client could not be set up: a proxy URL or a CA file that does not read.
    #[error("{what}: {reason}")]
    Client {
        /// Which part.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
}
