//! Webhooks: JSON bodies posted to an address of the user's, signed, retried.
//!
//! A body is delivered when the receiver answers with a status of 2xx; nothing else counts. A
//! receiver may get a body more than once, and can tell it by its own content.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::url::Url;
use aws_lc_rs::hmac;
use relist::error::{SourceError, SourceErrorKind};
use reqwest::blocking::Client;
use reqwest::header;

use crate::error::ConfigError;
use crate::retry::{self, Clock, Decision, Fault, RetryPolicy, Spent, SystemClock};
use crate::token::Token;
use crate::transport::{Limits, Network, build_client, cause, date_of, text_of};
use crate::url::is_loopback;

/// The header that carries the signature: `sha256=` and, in hexadecimal digits, the HMAC-SHA256
/// of the body under the secret.
pub const SIGNATURE_HEADER: &str = "Relist-Signature";

/// An address that JSON is posted to. It blocks; do not use it from an async runtime.
#[derive(Clone)]
pub struct Webhook {
    http: Client,
    url: Url,
    secret: Option<hmac::Key>,
    policy: RetryPolicy,
    clock: Arc<dyn Clock>,
    stop: Arc<AtomicBool>,
}

/// Shows the address without its query, and no secret.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("url", &bare(&self.url))
            .field("signed", &self.secret.is_some())
            .finish_non_exhaustive()
    }
}

impl Webhook {
    /// An address: https, or http on a loopback host. With a secret every body is signed: see
    /// [`SIGNATURE_HEADER`]. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ConfigError::Webhook`] for an address that cannot be used, [`ConfigError::Client`] when
    /// the HTTP client cannot be set up.
    pub fn new(
        url: &str,
        secret: Option<&Token>,
        limits: Limits,
        network: &Network,
    ) -> Result<Self, ConfigError> {
        let url = parse(url)?;
        let https = url.scheme() == "https";
        Ok(Webhook {
            http: build_client(limits, network, https, None)?,
            url,
            secret: secret.map(|s| hmac::Key::new(hmac::HMAC_SHA256, s.expose().as_bytes())),
            policy: RetryPolicy::default(),
            clock: Arc::new(SystemClock::new()),
            stop: Arc::default(),
        })
    }

    /// Retries by another policy.
    #[must_use]
    pub fn with_retry(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Waits by another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Stops when this flag is set: within a moment of a wait, and before each attempt.
    #[must_use]
    pub fn with_stop(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = stop;
        self
    }

    /// Posts one JSON body until the receiver takes it (2xx).
    ///
    /// No connection, no answer, 408, 425, 429 and 5xx are tried again, as the retry policy says.
    ///
    /// # Errors
    /// [`SourceError`] when it was not taken; by its kind whether a later try can help.
    pub fn post(&self, body: &[u8]) -> Result<(), SourceError> {
        let fail = |kind, reason: String| SourceError {
            kind,
            request: format!("POST {}", bare(&self.url)),
            reason,
        };
        let mut spent = Spent::default();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(fail(SourceErrorKind::Stopped, "stopped".to_owned()));
            }
            spent.attempts += 1;
            let Err(fault) = self.attempt(body) else {
                return Ok(());
            };
            match self.policy.decide(&fault, spent, fastrand::f64()) {
                Decision::GiveUp(why) if why.is_empty() => {
                    return Err(fail(fault.kind, fault.reason));
                }
                Decision::GiveUp(why) => {
                    return Err(fail(fault.kind, format!("{} ({why})", fault.reason)));
                }
                Decision::Wait(time) => {
                    self.clock.sleep(time, &self.stop);
                    spent.waited = spent.waited.saturating_add(time);
                }
            }
        }
    }

    fn attempt(&self, body: &[u8]) -> Result<(), Fault> {
        let mut request = self
            .http
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(secret) = &self.secret {
            request = request.header(SIGNATURE_HEADER, signature(secret, body));
        }
        let response = request.body(body.to_vec()).send().map_err(|error| {
            // reqwest prints the URL, and with it whatever its query holds.
            let reason = cause(&error.without_url());
            Fault::passing(SourceErrorKind::Unavailable, format!("no answer: {reason}"))
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let headers = response.headers();
        let now = date_of(headers).unwrap_or_else(|| self.clock.now());
        let (kind, retry) = retry::of_status(status.as_u16(), false);
        Err(Fault {
            unauthenticated: false,
            kind,
            reason: format!("the receiver answered {status}"),
            retry,
            throttled: status.as_u16() == 429,
            retry_after: retry::retry_after(text_of(headers, &header::RETRY_AFTER), now),
        })
    }
}

fn signature(secret: &hmac::Key, body: &[u8]) -> String {
    use fmt::Write as _;
    let mut out = "sha256=".to_owned();
    for byte in hmac::sign(secret, body).as_ref() {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

fn parse(text: &str) -> Result<Url, ConfigError> {
    let wrong = |url: String, reason: &str| ConfigError::Webhook {
        url,
        reason: reason.to_owned(),
    };
    // What does not parse is not shown: a secret may stand anywhere in it.
    let url = Url::parse(text.trim())
        .map_err(|e| wrong("..".to_owned(), &format!("{e}; expected https://HOST/PATH")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            bare(&url),
            "it holds a user name or a password; bodies are signed by a secret instead",
        ));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(wrong(
            bare(&url),
            "http would send listings in the clear; use https (http is for loopback hosts only)",
        )),
        other => Err(wrong(
            bare(&url),
            &format!("the scheme is {other}; expected https"),
        )),
    }
}

/// The address without what may be secret.
fn bare(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Only URLs without a host refuse these, and they have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_signed_as_rfc_4231_says() {
        // RFC 4231, test case 2.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        assert_eq!(
            signature(&key, b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn an_address_that_would_leak_is_refused() {
        for (url, expect) in [
            ("http://example.com/x?token=s3cret", "in the clear"),
            ("https://user:s3cret@example.com/", "password"),
            ("ftp://example.com/?s3cret", "scheme is ftp"),
            ("s3cret", "expected https"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(
                error.contains(expect) && !error.contains("s3cret"),
                "{error}"
            );
        }
        assert!(parse("https://example.com/hook?key=1").is_ok());
        assert!(parse("http://127.0.0.1:8080/").is_ok());
    }
}
