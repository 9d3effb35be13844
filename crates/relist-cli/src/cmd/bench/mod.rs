//! `relist bench`: what loading, asking and exporting costs, here and by peers.

mod data;
mod check;
mod wave;
mod copy;
mod system;
mod sheet;
mod ingest;
mod answer;
mod questions;
mod query;
mod export;

use std::path::Path;

use crate::app::App;
use crate::args::{Bench, BenchAction, quoted_path};
use crate::failure::{Exit, Failure};
use crate::style::{bytes, thousands};

pub(super) fn run(app: &mut App<'_>, args: &Bench) -> Result<Exit, Failure> {
    match &args.action {
        BenchAction::Data(args) => {
            let folder = app.path(&args.to);
            let data = data::ensure(app, &folder, &args.workload)?;
            told(app, &data, &folder)?;
            Ok(Exit::Ok)
        }
        BenchAction::Ingest(args) => ingest::run(app, args),
        BenchAction::Query(args) => query::run(app, args),
        BenchAction::Export(args) => export::run(app, args),
        BenchAction::Copy(args) => copy::run(app, args),
        BenchAction::Wave(args) => wave::run(app, args),
    }
}

/// Says what is in a folder.
fn told(app: &mut App<'_>, data: &data::Data, folder: &Path) -> Result<(), Failure> {
    for wave in &data.waves {
        let total = wave.total();
        writeln!(
            app.out,
            "{}: {} records in {} pages, {}",
            data::title(&wave.name),
            thousands(total.records),
            thousands(total.pages),
            bytes(total.bytes)
        )?;
    }
    writeln!(app.out, "They are in {}.", quoted_path(folder))?;
    Ok(())
}
