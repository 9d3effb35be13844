//! The feed that the configuration names.

use std::sync::Arc;

use relist::error::SourceErrorKind;
use relist::schema::Schema;
use relist_feed::{Limits, Network, Profile, Token, WebApi};

use crate::app::App;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::progress::Bar;

/// The variable that holds the token.
pub(crate) const TOKEN_VARIABLE: &str = "RELIST_TOKEN";

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

/// The token: from its variable, else from the file that the configuration names.
pub(crate) fn token(app: &App<'_>, config: &Config) -> Result<Option<Token>, Failure> {
    if let Some(value) = app.token_variable() {
        return Ok(Some(Token::from_env_value(TOKEN_VARIABLE, &value)?));
    }
    let Some(file) = &config.token_file else {
        return Ok(None);
    };
    Ok(Some(Token::from_file(&config.beside(file))?))
}

/// Why there is no token, and how to give one.
pub(crate) fn no_token() -> Failure {
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

/// A client of the feed. Nothing is sent yet.
pub(crate) fn connect(
    app: &App<'_>,
    config: &Config,
    profile: Profile,
    token: Token,
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
    let api = WebApi::with_network(profile, &url, token, Limits::default(), &network)?;
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
