//! The commands, one a file.

mod backup;
mod bench;
mod changes;
mod compact;
mod completions;
mod demo;
mod doctor;
mod each;
mod export;
mod get;
mod groups;
mod history;
mod index;
mod ingest;
mod init;
mod lake;
mod market;
mod media;
mod quarantine;
mod prometheus;
mod prune;
mod purge;
mod query;
mod refresh;
mod report;
mod runs;
mod schedule;
mod status;
mod sync;
mod verify;
mod watch;

use crate::app::App;
use crate::args::{Command, Format, ReportOf};
use crate::failure::{Exit, Failure};

/// Runs the command that was typed.
pub(crate) fn dispatch(app: &mut App<'_>, command: Command) -> Result<Exit, Failure> {
    if app.global.output == Some(Format::Arrow) && !matches!(command, Command::Query(_)) {
        return Err(Failure::usage(
            "an Arrow stream is of `relist query` only".to_owned(),
            "choose -o table, json, ndjson or csv",
        ));
    }
    match command {
        Command::Init(args) => init::run(app, &args),
        Command::Sync(args) => sync::run(app, &args),
        Command::Ingest(args) => ingest::run(app, &args),
        Command::Query(args) => query::run(app, &args),
        Command::Get(args) => get::run(app, &args),
        Command::History(args) => history::run(app, &args),
        Command::Changes(args) => changes::run(app, &args),
        Command::Watch(args) => watch::run(app, &args),
        Command::Each(args) => each::run(app, &args),
        Command::Report(args) if args.what == Some(ReportOf::Market) => market::run(app, &args),
        Command::Report(args) => runs::run(app, &args),
        Command::Status(args) => status::run(app, &args),
        Command::Verify(args) => verify::run(app, &args),
        Command::Compact => compact::run(app),
        Command::Backup(args) => backup::run(app, &args),
        Command::Restore(args) => backup::restore(app, &args),
        Command::Prune(args) => prune::run(app, &args),
        Command::Purge(args) => purge::run(app, &args),
        Command::Doctor(args) => doctor::run(app, &args),
        Command::Index(args) => index::run(app, &args),
        Command::Quarantine(args) => quarantine::run(app, &args),
        Command::Export(args) => export::run(app, &args),
        Command::Lake(args) => lake::run(app, &args),
        Command::Schedule(args) => schedule::run(app, &args),
        Command::Media(args) => media::run(app, &args),
        Command::Demo(args) => demo::run(app, &args),
        Command::Bench(args) => bench::run(app, &args),
        Command::Completions(args) => completions::run(app, &args),
    }
}
