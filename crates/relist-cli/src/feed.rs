//! The feed that the configuration names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use relist::error::SourceErrorKind;
use relist::schema::Schema;
use relist_feed::{Auth, Credentials, Limits, Network, Profile, Quota, QuotaError, Token, WebApi};

use crate::app::App;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::progress::Bar;

/// The variable that holds the token.
pub(crate) const TOKEN_VARIABLE: &str = "RELIST_TOKEN";
/// The variables that hold a client's id and secret.
const ID_VARIABLE: &str = "RELIST_CLIENT_ID";
const SECRET_VARIABLE: &str = "RELIST_CLIENT_SECRET";

/// The profile that a configuration names, with its variables.
pub(crate) fn profile(config: &Config) -> Result<Profile, Failure> {
    let mut profile = match &config.profile {
        Some(file) => {
            let path = config.beside(file);
            let text = std::fs::read_to_string(&path)
                .map_err(|e| Failure::file("cannot read the profile", &path, &e))?;
            Profile::from_toml(&text, &path.to_string_lossy())?
        }
        None => Profile::named(config.provider.as_deref().unwrap_or("wfrmls"))?,
    };
    for (name, value) in &config.variables {
        profile.set(name, value)?;
    }
    Ok(profile)
}

/// What authorises requests: a token, or where the provider gives tokens for it a client's id and
/// secret.
pub(crate) fn credentials(
    app: &App<'_>,
    config: &Config,
    profile: &Profile,
) -> Result<Option<Credentials>, Failure> {
    if let Some(token) = secret(app, config, TOKEN_VARIABLE, config.token_file.as_ref())? {
        return Ok(Some(token.into()));
    }
    if !by_client(profile) {
        return Ok(None);
    }
    let id = match (app.variable(ID_VARIABLE), &config.client_id) {
        (Some(value), _) => Some(Token::from_env_value(ID_VARIABLE, &value)?),
        (None, Some(value)) => Some(Token::from_env_value("client_id", value)?),
        (None, None) => None,
    };
    let file = config.client_secret_file.as_ref();
    let secret = secret(app, config, SECRET_VARIABLE, file)?;
    Ok(match (id, secret) {
        (Some(id), Some(secret)) => Some(Credentials::client(id, secret)),
        _ => None,
    })
}

/// A secret: from its variable, else from the file that the configuration names.
fn secret(
    app: &App<'_>,
    config: &Config,
    variable: &str,
    file: Option<&PathBuf>,
) -> Result<Option<Token>, Failure> {
    if let Some(value) = app.variable(variable) {
        return Ok(Some(Token::from_env_value(variable, &value)?));
    }
    let path = file.map(|file| config.beside(file));
    Ok(path.map(|path| Token::from_file(&path)).transpose()?)
}

/// Whether the provider gives tokens for a client's id and secret.
pub(crate) fn by_client(profile: &Profile) -> bool {
    matches!(profile.auth, Auth::Oauth2ClientCredentials { .. })
}

/// Why nothing authorises requests, and how to give it.
pub(crate) fn no_credentials(profile: &Profile) -> Failure {
    if by_client(profile) {
        return Failure::failed(
            "there are no client id and secret for the feed",
            "export RELIST_CLIENT_ID=.. and RELIST_CLIENT_SECRET=.., or set `client_id` in \
             relist.toml and write the secret into a file of mode 0600 that \
             `client_secret_file` names",
        );
    }
    Failure::failed(
        "there is no token for the feed",
        "export RELIST_TOKEN=.., or write it into a file of mode 0600 and name that by \
         `token_file` in relist.toml",
    )
}

/// The way out.
pub(crate) fn network(config: &Config) -> Result<Network, Failure> {
    let ca_pem = match &config.ca_file {
        Some(file) => {
            let path = config.beside(file);
            let pem = std::fs::read(&path);
            Some(pem.map_err(|e| Failure::file("cannot read ca_file", &path, &e))?)
        }
        None => None,
    };
    Ok(Network {
        proxy: config.proxy.clone(),
        ca_pem,
    })
}

/// What the provider lets through, with what earlier runs spent of it: it is written down beside
/// the store.
fn quota(app: &App<'_>, profile: &Profile) -> Result<Quota, Failure> {
    let mut path = app.store_path()?.into_os_string();
    path.push(".quota");
    let since = u64::try_from(app.now().0).unwrap_or(0);
    let now = UNIX_EPOCH + Duration::from_micros(since);
    let opened = Quota::open(&profile.quota, &PathBuf::from(path), now);
    opened.map_err(|error| match error {
        QuotaError::File { path, source } => Failure::file("cannot read the quota", &path, &source),
        error => Failure::failed(error.to_string(), "run the same command again later"),
    })
}

/// A client of the feed. Nothing is sent yet.
pub(crate) fn connect(
    app: &App<'_>,
    config: &Config,
    profile: Profile,
    credentials: Credentials,
) -> Result<WebApi, Failure> {
    let url = match &config.url {
        Some(url) => url.clone(),
        None => profile.service_root()?.ok_or_else(|| {
            Failure::usage(
                format!(
                    "the profile {} has no service root of its own",
                    profile.name
                ),
                "set `url` in relist.toml to the feed's service root",
            )
        })?,
    };
    let network = network(config)?;
    let quota = quota(app, &profile)?;
    let api = WebApi::with_network(profile, &url, credentials, Limits::default(), &network)?;
    let api = api.with_quota(quota);
    Ok(api.with_stop(Arc::clone(&app.environment.stop)))
}

/// The schema that the feed's `$metadata` declares; `None` when the feed has none.
pub(crate) fn schema(app: &App<'_>, api: &WebApi) -> Result<Option<Schema>, Failure> {
    let bar = Bar::waiting(app.shows_progress(), "$metadata");
    let answer = api.metadata();
    bar.clear();
    match answer {
        Ok(xml) => match Schema::from_metadata(&xml) {
            Ok(schema) => Ok(Some(schema)),
            Err(error) => Err(Failure::new(
                Exit::Feed,
                error.to_string(),
                "the server's $metadata is not what OData CSDL XML looks like; check `url` in \
                 relist.toml",
            )),
        },
        Err(error) if error.kind == SourceErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
