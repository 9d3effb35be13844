//! `relist doctor`: whether the feed does what its profile says.

use relist_feed::{Check, Profile, Verdict, doctor};

use crate::app::App;
use crate::args;
use crate::config;
use crate::failure::{Exit, Failure};
use crate::feed;
use crate::output::{Datum, Member, left};
use crate::style::printable;

const MEMBERS: &[Member] = &[
    left("Check", "CHECK"),
    left("Verdict", "VERDICT"),
    left("Found", "FOUND"),
    left("Expected", "EXPECTED"),
    left("Advice", "ADVICE"),
];

pub(super) fn run(app: &mut App<'_>, args: &args::Doctor) -> Result<Exit, Failure> {
    if let Some(name) = &args.print_profile {
        let text = Profile::text(name)?;
        app.out.write_all(text.as_bytes())?;
        return Ok(Exit::Ok);
    }
    let Some(config) = app.config()? else {
        return Err(config::missing(&app.environment.directory)
            .with_hint("a doctor needs a feed: relist init writes relist.toml"));
    };
    let profile = feed::profile(&config)?;
    let first = profile.sync.first().cloned();
    let resource = args.resource.clone().or(first);
    let resource = resource.unwrap_or_else(|| "Property".to_owned());
    let credentials =
        feed::credentials(app, &config, &profile)?.ok_or_else(|| feed::no_credentials(&profile))?;
    let name = profile.name.clone();
    let api = feed::connect(app, &config, profile, credentials)?;
    (app.environment.catch_interrupt)(&app.environment.stop);
    let checks = doctor(&api, &resource);
    if app.environment.stopped() {
        return Err(Failure::stopped());
    }
    if app.is_text() {
        print_text(app, &checks)?;
    } else {
        print_rows(app, &checks)?;
    }
    judge(&checks, &name)
}

fn print_rows(app: &mut App<'_>, checks: &[Check]) -> Result<(), Failure> {
    let mut rows = app.rows(MEMBERS)?;
    for check in checks {
        rows.row(&[
            Datum::text(check.name),
            Datum::text(word(check.verdict)),
            Datum::text(&check.found),
            Datum::text(&check.expected),
            Datum::optional(Some(check.advice.as_str()).filter(|text| !text.is_empty())),
        ])?;
    }
    let cut = rows.finish()?;
    app.note_cut(cut);
    Ok(())
}

/// A line for what is well, a paragraph for what is not.
fn print_text(app: &mut App<'_>, checks: &[Check]) -> Result<(), Failure> {
    for check in checks {
        let found = printable(&check.found);
        writeln!(
            app.out,
            "{:8}  {:16}  {found}",
            word(check.verdict),
            check.name
        )?;
        if check.verdict == Verdict::Ok {
            continue;
        }
        let expected = printable(&check.expected);
        writeln!(app.out, "{:8}  {:16}  expected: {expected}", "", "")?;
        if !check.advice.is_empty() {
            let advice = printable(&check.advice);
            writeln!(app.out, "{:8}  {:16}  advice: {advice}", "", "")?;
        }
    }
    Ok(())
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Differs => "differs",
        Verdict::Failed => "unknown",
    }
}

fn judge(checks: &[Check], profile: &str) -> Result<Exit, Failure> {
    let count = |verdict| checks.iter().filter(|c| c.verdict == verdict).count();
    let (differs, unknown) = (count(Verdict::Differs), count(Verdict::Failed));
    if differs > 0 {
        return Err(Failure::new(
            Exit::Degraded,
            format!(
                "{differs} of {} checks differ from the profile {profile}",
                checks.len()
            ),
            "the advice says what to write: relist doctor --print-profile NAME > my.toml, change \
             it there, and name it by `profile` in relist.toml",
        ));
    }
    if unknown > 0 {
        return Err(Failure::new(
            Exit::Feed,
            format!("{unknown} of {} checks could not be made", checks.len()),
            "run it again later; what was found out agrees with the profile",
        ));
    }
    Ok(Exit::Ok)
}
