//! The feed that the configuration names.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use relist::error::SourceErrorKind;
use relist::schema::Schema;
use relist::value::Timestamp;
use relist_feed::{
    Auth, Credentials, Limits, Network, Profile, Quota, QuotaError, QuotaRules, Token, WebApi,
};

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

/// A file of a quota, and who may use it.
#[derive(Debug, Clone)]
pub(crate) struct QuotaFile {
    path: PathBuf,
    rules: QuotaRules,
}

/// How often a quota that another process uses is asked for, and how long is waited in between.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

impl QuotaFile {
    /// What the provider lets through of pages, with what earlier runs spent of it: it is written
    /// down beside the store.
    pub(crate) fn of_pages(app: &App<'_>, profile: &Profile) -> Result<Self, Failure> {
        QuotaFile::beside(app, ".quota", &profile.quota)
    }

    /// The same of media files.
    pub(crate) fn of_media(app: &App<'_>, profile: &Profile) -> Result<Self, Failure> {
        QuotaFile::beside(app, ".media-quota", &profile.media.quota)
    }

    fn beside(app: &App<'_>, ending: &str, rules: &QuotaRules) -> Result<Self, Failure> {
        let mut path = app.store_path()?.into_os_string();
        path.push(ending);
        Ok(QuotaFile {
            path: PathBuf::from(path),
            rules: rules.clone(),
        })
    }

    /// Whether it counts anything, so that only one process may use it at a time.
    pub(crate) fn counts(&self) -> bool {
        !self.rules.windows.is_empty() || !self.rules.headers.is_empty()
    }

    /// Opens it; waits a while for another process that uses it, unless `stop` is set.
    pub(crate) fn open(&self, now: Timestamp, stop: &AtomicBool) -> Result<Quota, Failure> {
        let lock = if self.counts() {
            Some(self.lock(stop)?)
        } else {
            None
        };
        let since = u64::try_from(now.0).unwrap_or(0);
        let now = UNIX_EPOCH + Duration::from_micros(since);
        let opened = Quota::open(&self.rules, &self.path, now).map_err(|error| match error {
            QuotaError::File { path, source } => {
                Failure::file("cannot read the quota", &path, &source)
            }
            error => Failure::failed(error.to_string(), "run the same command again later"),
        })?;
        Ok(match lock {
            Some(lock) => opened.holding(lock),
            None => opened,
        })
    }

    /// The file's own lock: two processes that counted each for itself would exceed its limits.
    fn lock(&self, stop: &AtomicBool) -> Result<File, Failure> {
        let mut path = self.path.clone().into_os_string();
        path.push("-lock");
        let path = PathBuf::from(path);
        let failed = |error: &io::Error| Failure::file("cannot lock the quota", &path, error);
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(|error| failed(&error))?;
        for _ in 0..ATTEMPTS {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(failed(&error)),
                Err(TryLockError::WouldBlock) if stop.load(Ordering::Relaxed) => break,
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            }
        }
        Err(Failure::new(
            Exit::Busy,
            "another process asks the feed, and both would spend one quota",
            "run the same command again when it is done",
        ))
    }
}

/// A client of the feed. Nothing is sent yet.
pub(crate) fn connect(
    app: &App<'_>,
    config: &Config,
    profile: Profile,
    credentials: Credentials,
) -> Result<WebApi, Failure> {
    let quota = QuotaFile::of_pages(app, &profile)?;
    let api = client(app, config, profile, credentials)?;
    let quota = quota.open(app.now(), &app.environment.stop)?;
    Ok(api.with_quota(quota))
}

/// A client of the feed whose quota is forgotten at its end.
pub(crate) fn client(
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
    let api = WebApi::with_network(profile, &url, credentials, Limits::default(), &network)?;
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
