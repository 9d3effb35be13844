//! What a provider allows, as data.

use serde::{Deserialize, Serialize};

/// What a provider allows, and which headers tell what is left of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct QuotaRules {
    /// So much in any stretch of time of that length.
    pub windows: Vec<WindowRule>,
    /// Headers that say what the server itself counted; they win over `windows`.
    pub headers: Vec<HeaderRule>,
}

/// So many requests, or so many bytes, in any stretch of time of that length.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WindowRule {
    /// The stretch.
    pub per: Per,
    /// Requests in it, at most.
    #[serde(default)]
    pub requests: Option<u64>,
    /// Bytes of bodies in it, at most, decompressed.
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// The names of the headers that tell of one window of the server's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HeaderRule {
    /// The window's length.
    pub per: Per,
    /// The header with the number of requests it allows.
    #[serde(default)]
    pub limit: Option<String>,
    /// The header with the number of requests that are left.
    #[serde(default)]
    pub remaining: Option<String>,
    /// The header that says when the window ends: seconds or milliseconds since 1970, seconds
    /// from now, a timestamp or an HTTP date.
    #[serde(default)]
    pub reset: Option<String>,
}

/// The length of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Per {
    /// A second.
    Second,
    /// 60 seconds.
    Minute,
    /// 3,600 seconds.
    Hour,
    /// 86,400 seconds.
    Day,
}

impl Per {
    /// Its length in microseconds.
    pub(super) fn micros(self) -> u64 {
        let seconds = match self {
            Per::Second => 1,
            Per::Minute => 60,
            Per::Hour => 3_600,
            Per::Day => 86_400,
        };
        seconds * 1_000_000
    }

    /// What goes behind an amount: `an hour`.
    pub(super) fn each(self) -> &'static str {
        match self {
            Per::Second => "a second",
            Per::Minute => "a minute",
            Per::Hour => "an hour",
            Per::Day => "a day",
        }
    }

    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Per::Second => "second",
            Per::Minute => "minute",
            Per::Hour => "hour",
            Per::Day => "day",
        }
    }
}

impl QuotaRules {
    /// What TOML cannot say.
    pub(crate) fn check(&self) -> Result<(), String> {
        for window in &self.windows {
            let per = window.per.name();
            let amounts = [window.requests, window.bytes];
            if amounts.iter().all(Option::is_none) {
                return Err(format!(
                    "quota.windows: the window per {per} limits nothing; give `requests` or `bytes`"
                ));
            }
            if amounts.contains(&Some(0)) {
                return Err(format!(
                    "quota.windows: 0 per {per} would let nothing through"
                ));
            }
        }
        for rule in &self.headers {
            if rule.limit.is_none() && rule.remaining.is_none() {
                return Err(format!(
                    "quota.headers: the window per {} names neither `limit` nor `remaining`",
                    rule.per.name()
                ));
            }
        }
        Ok(())
    }
}
