//! What `relist bench` takes.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) action: BenchAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchAction {
    /// Load the waves of a simulated MLS, check the changelog, print what it cost
    Ingest(BenchIngest),
    /// Ask a loaded store what users ask, and print how long it took
    Query(BenchQuery),
    /// Export a loaded store to files and a lake, and print what it cost
    Export(BenchExport),
    /// Write the pages of the waves, and what a store must make of them
    Data(BenchData),
    /// Load one wave in this process and print one line of JSON
    #[command(hide = true)]
    Wave(BenchWave),
    /// Export a store in this process and print one line of JSON
    #[command(hide = true)]
    Copy(BenchCopy),
}

/// A wave of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Wave {
    /// Every record is new
    #[value(name = "1")]
    First,
    /// All are sent again: 5 % changed, 0.5 % deleted, 0.5 % new
    #[value(name = "2")]
    Second,
    /// All are sent again in other bytes, none changed
    #[value(name = "rewritten")]
    Rewritten,
    /// 30 days of changes, a day at a time
    #[value(name = "3")]
    Third,
}

/// The listings, and what they follow from.
#[derive(Debug, Clone, Args)]
pub(crate) struct Workload {
    /// How many listings
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub(crate) listings: u32,
    /// What the pages follow from: the same seed gives the same pages
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// The waves, by commas; each needs those before it
    #[arg(long, value_name = "WAVES", value_delimiter = ',')]
    #[arg(default_value = "1,2,rewritten,3")]
    pub(crate) waves: Vec<Wave>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchData {
    #[command(flatten)]
    pub(crate) workload: Workload,
    /// The folder
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
}

/// Who else is measured, and how often.
#[derive(Debug, Clone, Args)]
pub(crate) struct Measuring {
    /// Also measure DuckDB and SQLite, in turn with Relist, and print the ratios
    #[arg(long)]
    pub(crate) peers: bool,
    /// The Python that has duckdb and orjson
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: PathBuf,
    /// Another peer: a program that takes what benches/peers/README.md says
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) peer: Vec<PathBuf>,
    /// How often each is measured; medians are printed
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) runs: u32,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchIngest {
    #[command(flatten)]
    pub(crate) workload: Workload,
    /// The folder of the pages: used if `relist bench data` wrote it, else written [default: a
    /// temporary one]
    #[arg(long, value_name = "DIR")]
    pub(crate) pages: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
}

#[derive(Debug, Args)]
pub(crate) struct BenchQuery {
    #[command(flatten)]
    pub(crate) workload: Workload,
    /// The folder of the pages, as for `relist bench ingest`; what is loaded from them is kept
    /// beside them
    #[arg(long, value_name = "DIR")]
    pub(crate) pages: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
    /// Load anew what is there from before
    #[arg(long)]
    pub(crate) reload: bool,
    /// Only the queries whose name has this in it
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchExport {
    /// How many listings
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub(crate) listings: u32,
    /// What the pages follow from: the same seed gives the same pages
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// The folder of the pages, as for `relist bench ingest`; what is loaded from them is kept
    /// beside them
    #[arg(long, value_name = "DIR")]
    pub(crate) pages: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
    /// Load anew what is there from before
    #[arg(long)]
    pub(crate) reload: bool,
    /// What is written, by commas
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    #[arg(default_value = "parquet,csv,ndjson,lake")]
    pub(crate) only: Vec<Written>,
}

/// What `relist bench export` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Written {
    Parquet,
    Csv,
    Ndjson,
    /// A lake: its first run, and its update after one record of a hundred changed
    Lake,
}

#[derive(Debug, Args)]
pub(crate) struct BenchCopy {
    #[arg(long, value_name = "PATH")]
    pub(crate) to: PathBuf,
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Written,
}

#[derive(Debug, Args)]
pub(crate) struct BenchWave {
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    #[arg(long, value_name = "WAVE")]
    pub(crate) wave: Wave,
}
