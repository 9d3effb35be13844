//! `relist completions`: generated from the command line itself.

use crate::app::App;
use crate::args::{self, Completions};
use crate::failure::{Exit, Failure};

pub(super) fn run(app: &mut App<'_>, args: &Completions) -> Result<Exit, Failure> {
    let mut command = args::command();
    // Generated in memory first: the generator panics where a pipe is closed.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "relist", &mut text);
    app.out.write_all(&text)?;
    Ok(Exit::Ok)
}
