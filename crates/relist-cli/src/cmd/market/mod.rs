//! `relist report market`: one page about the market, out of the mirror's own history.
//!
//! What is shown is computed here and stands in the page as JSON; the page draws it, and needs
//! nothing from any network.

mod gather;

use std::path::Path;

use crate::app::App;
use crate::args;
use crate::failure::{Exit, Failure};
use crate::style::{bytes, plural};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

pub(super) fn run(app: &mut App<'_>, args: &args::Report) -> Result<Exit, Failure> {
    let Some(to) = &args.to else {
        return Err(Failure::usage(
            "the page needs a file".to_owned(),
            "relist report market --to report.html",
        ));
    };
    let path = app.path(to);
    let to_stream = to == Path::new("-");
    if !to_stream && !args.force && path.symlink_metadata().is_ok() {
        return Err(Failure::failed(
            format!("{} exists", path.display()),
            "--force replaces it; nothing was written",
        ));
    }
    let resource = args.resource.as_deref().unwrap_or("Property");
    let store = app.open()?;
    let snapshot = store.snapshot()?;
    let market = gather::market(&snapshot, resource, app.now())?;
    let page = page(&market)?;
    if to_stream {
        app.out.write_all(page.as_bytes())?;
        return Ok(Exit::Ok);
    }
    relist_export::put_bytes(&path, page.as_bytes())?;
    let days = market.get("days").and_then(serde_json::Value::as_array);
    let days = days.map_or(0, Vec::len) as u64;
    app.note(&format!(
        "{}: {} of the market, {}",
        path.display(),
        plural(days, "day", "days"),
        bytes(page.len() as u64)
    ));
    Ok(Exit::Ok)
}

/// The page with what it shows.
fn page(market: &serde_json::Value) -> Result<String, Failure> {
    let data = serde_json::to_string(market).map_err(std::io::Error::from)?;
    // Nothing in the data may end the script that it stands in.
    let data = data.replace('<', "\\u003c");
    Ok(PAGE
        .replace("/*STYLE*/", STYLE)
        .replace("/*SCRIPT*/", SCRIPT)
        .replace("/*DATA*/", &data))
}
