//! Who authorises requests: the token in use, and how a new one is had.
//!
//! A token by client credentials is renewed before it expires. One that the API refuses (401) is
//! replaced once in a run: if the next is refused as well, it is the account that is refused, and
//! asking on would only lock it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::url::Url;
use ::url::form_urlencoded::Serializer;
use relist::error::SourceErrorKind;
use serde::Deserialize;

use crate::credentials::Credentials;
use crate::error::ConfigError;
use crate::profile::{Auth, Profile, SendCredentials};
use crate::retry::Fault;
use crate::token::{Secrets, Token};
use crate::transport::Transport;
use crate::url::ServiceRoot;

/// How long before its end a token is renewed, at most; at least a tenth of its life.
const RENEW_BEFORE: Duration = Duration::from_mins(5);

pub(crate) enum Authority {
    /// One token for all requests.
    Fixed(Token),
    /// Tokens by client credentials.
    Client(Box<Client>),
}

pub(crate) struct Client {
    endpoint: Url,
    scope: Option<String>,
    send: SendCredentials,
    id: Token,
    secret: Token,
    secrets: Secrets,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// When to renew it, by the clock's `elapsed`; never before a 401 when the server did not
    /// say how long it lives.
    renew_at: Option<Duration>,
    /// Whether a refused token was replaced already.
    replaced: bool,
}

impl Authority {
    /// Who authorises requests by this profile, and every secret in it.
    pub(crate) fn new(
        profile: &Profile,
        credentials: Credentials,
    ) -> Result<(Self, Secrets), ConfigError> {
        let wrong = |reason: &str| ConfigError::Client {
            what: "the credentials",
            reason: reason.to_owned(),
        };
        match (credentials, &profile.auth) {
            (Credentials::Token(token), _) => {
                let secrets = Secrets::from(token.clone());
                Ok((Authority::Fixed(token), secrets))
            }
            (Credentials::Client { .. }, Auth::Bearer {}) => Err(wrong(&format!(
                "the profile {} wants a token, and there are a client id and secret",
                profile.name
            ))),
            (
                Credentials::Client { id, secret },
                Auth::Oauth2ClientCredentials { scope, send, .. },
            ) => {
                let secrets = Secrets::from(secret.clone());
                let endpoint = profile.token_url()?.unwrap_or_default();
                let client = Client {
                    endpoint: endpoint_url(&endpoint)?,
                    scope: scope.clone(),
                    send: *send,
                    id,
                    secret,
                    secrets: secrets.clone(),
                    state: Mutex::default(),
                };
                Ok((Authority::Client(Box::new(client)), secrets))
            }
        }
    }

    /// The token to send, asking for one where there is none or it is about to expire.
    pub(crate) fn token(&self, transport: &Transport, now: Duration) -> Result<Token, Fault> {
        let client = match self {
            Authority::Fixed(token) => return Ok(token.clone()),
            Authority::Client(client) => client,
        };
        // Held while asking: others wait for the same token rather than ask for one of their own.
        let mut state = client.lock();
        let due = state.renew_at.is_some_and(|at| now >= at);
        if let (Some(token), false) = (&state.token, due) {
            return Ok(token.clone());
        }
        let (token, life) = client.ask(transport)?;
        state.token = Some(token.clone());
        state.renew_at = life.map(|life| {
            let early = RENEW_BEFORE.min(life / 10);
            now.saturating_add(life.saturating_sub(early))
        });
        Ok(token)
    }

    /// Notes that the API refused a token; true when another one may be asked for.
    pub(crate) fn refused(&self, token: &Token) -> bool {
        let Authority::Client(client) = self else {
            return false;
        };
        let mut state = client.lock();
        let current = state.token.as_ref();
        if current.is_some_and(|current| current.expose() != token.expose()) {
            // Another request has replaced it meanwhile.
            return true;
        }
        let may = !state.replaced;
        state.replaced = true;
        state.token = None;
        may
    }
}

impl Client {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a token, once; how long it lives, where the server says.
    fn ask(&self, transport: &Transport) -> Result<(Token, Option<Duration>), Fault> {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        let basic = match self.send {
            SendCredentials::Form => {
                form.append_pair("client_id", self.id.expose());
                form.append_pair("client_secret", self.secret.expose());
                None
            }
            SendCredentials::Basic => Some((&self.id, &self.secret)),
        };
        if let Some(scope) = &self.scope {
            form.append_pair("scope", scope);
        }
        let body = transport.post_form(&self.endpoint, form.finish(), basic)?;
        let (token, life) = read(&body).map_err(|reason| {
            let reason = format!("the token endpoint: {}", self.secrets.redact(&reason));
            Fault::passing(SourceErrorKind::Malformed, reason)
        })?;
        self.secrets.add(token.clone());
        Ok((token, life))
    }
}

/// The answer of a token endpoint (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Option<Seconds>,
}

/// A number, or one written as text, as some servers do.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

fn read(body: &[u8]) -> Result<(Token, Option<Duration>), String> {
    // serde's own words could quote the token.
    let granted: Granted = serde_json::from_slice(body)
        .map_err(|_| "its answer is not JSON with an access_token".to_owned())?;
    if let Some(kind) = granted.token_type
        && !kind.eq_ignore_ascii_case("bearer")
    {
        return Err(format!("it gave a token of type {kind:?}; expected Bearer"));
    }
    let life = match granted.expires_in {
        Some(Seconds::Number(seconds)) => Some(seconds),
        Some(Seconds::Text(text)) => text.trim().parse().ok(),
        None => None,
    };
    let life = life.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let token = Token::from_env_value("the token endpoint", &granted.access_token)
        .map_err(|e| e.to_string())?;
    Ok((token, life))
}

fn endpoint_url(text: &str) -> Result<Url, ConfigError> {
    // The same rules: https, or http on loopback; no user name, no query.
    match ServiceRoot::parse(text) {
        Ok(root) => Ok(root.service_document(false)),
        Err(ConfigError::BaseUrl { url, reason }) => Err(ConfigError::Client {
            what: "the token endpoint",
            reason: format!("{url:?}: {reason}"),
        }),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(body: &str) -> Option<Duration> {
        read(body.as_bytes()).unwrap().1
    }

    #[test]
    fn answers_of_token_endpoints() {
        let (token, life_of) = read(
            br#"{"access_token":"abc.def","expires_in":28800,"token_type":"Bearer","scope":"api"}"#,
        )
        .unwrap();
        assert_eq!(token.expose(), "abc.def");
        assert_eq!(life_of, Some(Duration::from_hours(8)));
        assert_eq!(
            life(r#"{"access_token":"a","expires_in":"3600","token_type":"bearer"}"#),
            Some(Duration::from_hours(1))
        );
        for none in ["", r#","expires_in":null"#, r#","expires_in":-1"#] {
            assert_eq!(life(&format!(r#"{{"access_token":"a"{none}}}"#)), None);
        }
        for (body, expect) in [
            ("", "not JSON"),
            (r#"{"token":"s3cret"}"#, "not JSON with an access_token"),
            (r#"{"access_token":""}"#, "empty"),
            (r#"{"access_token":"s3 cret"}"#, "character"),
            (r#"{"access_token":"s3cret","token_type":"mac"}"#, "mac"),
        ] {
            let error = read(body.as_bytes()).unwrap_err();
            assert!(error.contains(expect) && !error.contains("s3"), "{error}");
        }
    }

    #[test]
    fn a_token_endpoint_is_https_or_loopback() {
        for bad in ["http://h/token", "h/token", "https://u:s3cret@h/token", ""] {
            let error = endpoint_url(bad).unwrap_err().to_string();
            assert!(error.starts_with("the token endpoint"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        let url = endpoint_url("https://h/connect/token").unwrap();
        assert_eq!(url.as_str(), "https://h/connect/token");
    }
}
