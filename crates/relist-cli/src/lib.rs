//! The `relist` command: [`run`] takes arguments and two streams and gives an exit code.
//!
//! Data goes to `out`, all else to `err`. A command is a file in `cmd/`; what they share is
//! `app::App`. Every failure becomes a `failure::Failure`: a message, a hint and an exit code.

// The order of these lines is the order of the layers: a module names only those above it.
mod environment;
mod args;
mod failure;
mod style;
mod moment;
mod table;
mod output;
mod schedule;
mod config;
mod progress;
mod app;
mod feed;
mod shell;
mod position;
mod delivery;
mod change;
mod sheet;
mod cmd;

use std::ffi::OsString;
use std::io::Write;

use clap::Parser as _;

pub use environment::{Environment, Stream};
pub use failure::Exit;

use failure::Failure;

/// Runs one command.
///
/// Nothing but `out`, `err` and the files of the command is written, and nothing of the process is
/// read but what `environment` gives; except that the demo and syncs use the network, and progress
/// bars draw on the terminal when `environment` says that there is one.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let (result, colour) = match args::Cli::try_parse_from(args) {
        Ok(cli) => {
            let mut app = app::App::new(environment, cli.global, out, err);
            let result = cmd::dispatch(&mut app, cli.command);
            let flushed = app.out.flush().map_err(Failure::from);
            (
                result.and_then(|exit| flushed.map(|()| exit)),
                environment.err.colour,
            )
        }
        Err(error) => (args::explain(&error, out), environment.err.colour),
    };
    match result {
        Ok(exit) => exit,
        Err(failure) => failure.report(err, colour),
    }
}
