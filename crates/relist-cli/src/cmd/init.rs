//! `relist init`: a configuration, a store, and what the feed declares.

use std::path::PathBuf;

use relist::schema::Schema;
use relist_feed::Profile;

use crate::app::App;
use crate::args::{self, quoted_path};
use crate::config::{self, Config};
use crate::failure::{Exit, Failure};
use crate::feed;
use crate::style::{plural, thousands};

pub(super) fn run(app: &mut App<'_>, args: &args::Init) -> Result<Exit, Failure> {
    let config = write_config(app, args)?;
    let profile = feed::profile(&config)?;
    let path = app.store_path()?;
    let (store, created) = app.open_or_create()?;
    let what = if created {
        "created"
    } else {
        "is there already"
    };
    writeln!(app.out, "store     {} ({what})", quoted_path(&path))?;
    app.out.flush()?;
    let Some(credentials) = feed::credentials(app, &config, &profile)? else {
        writeln!(app.out, "token     none yet")?;
        app.out.flush()?;
        next_without_token(app, &config, &profile)?;
        return Ok(Exit::Ok);
    };
    let api = feed::connect(app, &config, profile.clone(), credentials)?;
    let again = "relist.toml and the store are written; relist sync reads $metadata by itself, \
                 once the feed can be reached";
    let schema = feed::schema(app, &api).map_err(|failure| failure.with_more_hint(again))?;
    let mut mirrored = config.resources.clone().unwrap_or(profile.sync);
    match schema {
        Some(schema) => {
            let mut txn = store.begin_write(app.now())?;
            txn.define(&schema)?;
            txn.commit()?;
            print_schema(app, &schema)?;
            mirrored.retain(|name| schema.resource(name).is_some());
        }
        None => writeln!(
            app.out,
            "$metadata none: fields are learnt from the records"
        )?,
    }
    writeln!(
        app.out,
        "\nNext: relist sync          mirrors {}",
        mirrored.join(", ")
    )?;
    writeln!(app.out, "      relist sync Property  one of them")?;
    Ok(Exit::Ok)
}

/// Writes the configuration, or takes the one that is there when nothing else is asked for.
fn write_config(app: &mut App<'_>, args: &args::Init) -> Result<Config, Failure> {
    let path = app.config_path();
    let asked = args.provider.is_some() || args.url.is_some() || args.token_file.is_some();
    if path.exists() && !args.force {
        if asked {
            return Err(Failure::failed(
                format!("{} is there already", path.display()),
                "--force writes it anew; without options init takes it as it is",
            ));
        }
        let config = Config::read(&path)?;
        writeln!(
            app.out,
            "config    {} (is there already)",
            quoted_path(&path)
        )?;
        return Ok(config);
    }
    let provider = args.provider.as_deref().unwrap_or("wfrmls");
    let profile = Profile::named(provider)?;
    if args.url.is_none() && profile.base_url.is_none() {
        return Err(Failure::usage(
            format!("the provider {provider} has no service root of its own"),
            "give it: --url https://..",
        ));
    }
    if let Some(url) = &args.url {
        check_url(url)?;
    }
    let store = app
        .global
        .store
        .clone()
        .unwrap_or_else(|| PathBuf::from(config::STORE));
    let token_file = args.token_file.as_deref();
    let text = config::template(provider, args.url.as_deref(), token_file, &store);
    std::fs::write(&path, text).map_err(|e| Failure::file("cannot write", &path, &e))?;
    writeln!(app.out, "config    {}", quoted_path(&path))?;
    Config::read(&path)
}

/// A URL that cannot be used is found before it is written down.
fn check_url(url: &str) -> Result<(), Failure> {
    let profile = Profile::named("generic-reso")?;
    let token = relist_feed::Token::from_env_value(feed::TOKEN_VARIABLE, "x")?;
    relist_feed::WebApi::new(profile, url, token, relist_feed::Limits::default())?;
    Ok(())
}

fn print_schema(app: &mut App<'_>, schema: &Schema) -> Result<(), Failure> {
    let lookups = plural(schema.enums.len() as u64, "lookup", "lookups");
    let count = plural(schema.resources.len() as u64, "resource", "resources");
    writeln!(app.out, "$metadata {count}, {lookups}\n")?;
    let names = schema.resources.iter().map(|r| r.name.len());
    let width = names.max().unwrap_or(0);
    for resource in &schema.resources {
        let fields = thousands(resource.fields.len() as u64);
        let name = &resource.name;
        writeln!(
            app.out,
            "  {name:width$}  {fields:>4} fields  key {}",
            resource.key_field
        )?;
    }
    Ok(())
}

fn next_without_token(
    app: &mut App<'_>,
    config: &Config,
    profile: &Profile,
) -> Result<(), Failure> {
    if feed::by_client(profile) {
        let text = format!(
            "\nThe feed gives tokens for a client's id and secret. Either\n\
             \x20 export RELIST_CLIENT_ID=.. RELIST_CLIENT_SECRET=..   for this shell, or\n\
             \x20 client_id and client_secret_file (mode 0600) in {}\n\
             \n\
             Then: relist sync\n",
            quoted_path(&config.path),
        );
        app.out.write_all(text.as_bytes())?;
        return Ok(());
    }
    let file = config
        .token_file
        .clone()
        .unwrap_or_else(|| PathBuf::from("relist.token"));
    let shown = quoted_path(&config.beside(&file));
    let text = format!(
        "\nThe feed wants a token. Either\n\
         \x20 export RELIST_TOKEN=..                      for this shell, or\n\
         \x20 (umask 077; cat > {shown})   with token_file = \"{}\" in {}\n\
         \n\
         Then: relist sync\n",
        file.display(),
        quoted_path(&config.path),
    );
    app.out.write_all(text.as_bytes())?;
    Ok(())
}
