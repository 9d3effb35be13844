//! What can be typed. Nothing here opens a file or decides what an argument means.

mod bench;
mod check;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

pub(crate) use bench::{
    Bench, BenchAction, BenchCopy, BenchExport, BenchIngest, BenchQuery, BenchWave, Measuring,
    Wave, Workload, Written,
};
pub(crate) use check::{Doctor, Verify};

use crate::failure::{Exit, Failure};

/// A local mirror of a RESO Web API feed: complete, current, with its whole history, in one file.
#[derive(Debug, Parser)]
#[command(
    name = "relist",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 feed failed (retry later), \
    4 store busy, 5 store corrupt or of an unknown format, 6 finished but needs a look.\n\n\
    New here? `relist demo` mirrors a simulated MLS and shows what can be asked of it."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The configuration file [default: relist.toml in the current directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The store; needs no configuration file [env: RELIST_STORE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) store: Option<PathBuf>,
    /// table, json, ndjson or csv [default: table on a terminal, ndjson in a pipe]
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub(crate) output: Option<Format>,
    /// How long to wait for another process that writes to the store: 30s, 5m
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        default_value = "1s",
        hide_default_value = true
    )]
    pub(crate) wait: String,
    /// Print no notes and no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print more about what is done
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

/// A format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    Table,
    /// One JSON array
    Json,
    /// One JSON object a line
    Ndjson,
    /// Comma-separated values with a header line
    Csv,
    /// An Arrow IPC stream, of `query` only
    Arrow,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write relist.toml here, create the store and read the feed's $metadata
    Init(Init),
    /// Bring the store up to date with the feed
    Sync(Sync),
    /// Apply files: OData pages, JSON arrays or NDJSON, gzip or not
    Ingest(Ingest),
    /// Ask for records, in the feed's own query language
    Query(Query),
    /// Show one record
    Get(Get),
    /// Show what happened to one record
    History(History),
    /// Show what changed, a line a field
    Changes(Changes),
    /// Deliver what happens, by rules: to a file, a webhook, a command
    Watch(Watch),
    /// Hand every record to a command, in batches
    Each(Each),
    /// Show what runs did and what they cost
    Report(Report),
    /// Show how complete and how current the store is
    Status(Status),
    /// Check that all parts of the store agree
    Verify(Verify),
    /// Give unused space of the store's file back.
    Compact,
    /// Copy the store to a file, also while a sync runs
    Backup(Backup),
    /// Put a backup in the store's place
    Restore(Restore),
    /// Remove history that is older than wanted
    Prune(Prune),
    /// Remove records for good, with their history and their files, and certify it
    Purge(Purge),
    /// Try the feed on the rules of its profile, and say what differs
    Doctor(Doctor),
    /// Show and choose the fields by which records are found without a scan
    Index(Index),
    /// Look at what could not be applied
    Quarantine(Quarantine),
    /// Write records to a file
    Export(Export),
    /// Keep a folder of Parquet files current, for Spark and the like
    Lake(Lake),
    /// Run syncs and other commands at their times, until told to stop
    Schedule(Schedule),
    /// Fetch the photos and documents that records speak of
    Media(Media),
    /// Mirror a simulated MLS and show what can be asked of it
    Demo(Demo),
    /// Measure loading and asking, here and by peers
    Bench(Bench),
    /// Print the completions of a shell
    Completions(Completions),
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The provider, whose rules are built in [default: wfrmls]
    #[arg(long, value_name = "NAME")]
    pub(crate) provider: Option<String>,
    /// The feed's service root, where it is not the provider's own
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// A file with the token that only you can read (mode 0600)
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Write relist.toml anew
    #[arg(long)]
    pub(crate) force: bool,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// The resources [default: those of relist.toml or of the provider]
    #[arg(value_name = "RESOURCE")]
    pub(crate) resources: Vec<String>,
    /// Read every record again, and find those that vanished
    #[arg(long)]
    pub(crate) full: bool,
    /// Compare keys and stamps only; fetch what differs, find what vanished
    #[arg(long, conflicts_with = "full")]
    pub(crate) reconcile: bool,
    /// Read a slice of the records again, for edits that moved no stamp: `--deep 1/7`
    #[arg(long, value_name = "I/N", conflicts_with_all = ["full", "reconcile"])]
    #[arg(value_parser = slice)]
    pub(crate) deep: Option<(u32, u32)>,
    /// Fetch these records again, by key, with what belongs to them; @FILE has a key a line
    #[arg(long, value_name = "KEY,..", value_delimiter = ',')]
    #[arg(conflicts_with_all = ["full", "reconcile", "deep", "max_pages", "dry_run"])]
    pub(crate) keys: Vec<String>,
    /// Stop each resource after so many pages; the next sync goes on there
    #[arg(long, value_name = "N")]
    pub(crate) max_pages: Option<u64>,
    /// Say what would be done; send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Delete what vanished from the feed even if it is a large part of a resource
    #[arg(long)]
    pub(crate) confirm: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// The resource the records are of; Deleted takes pages of a feed of deletions
    pub(crate) resource: String,
    /// The files; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The key field, for a resource that nothing else declares
    #[arg(long, value_name = "FIELD")]
    pub(crate) key: Option<String>,
    /// A $metadata document that declares the resource
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    relist query Property --filter \"StandardStatus eq 'Active' and ListPrice lt 500000\" \
    --top 10\n  \
    relist query Property --filter \"contains(PublicRemarks,'view')\" --select City,ListPrice \
    --orderby \"ListPrice desc\"\n  \
    relist query 'Property?$filter=City eq '\\''Provo'\\''&$top=5'\n  \
    relist query Property '$filter=BedroomsTotal ge 4' '$count=true' --as-of 2026-03-12")]
pub(crate) struct Query {
    /// The resource: Property, Member, ..., or changes for the changelog
    pub(crate) resource: String,
    /// Query options by their OData names: '$filter=ListPrice lt 500000'
    #[arg(value_name = "$OPTION=VALUE")]
    pub(crate) options: Vec<String>,
    /// Which records: an OData $filter
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) filter: Option<String>,
    /// Group and aggregate, an OData $apply: "groupby((City),aggregate($count as N))". The other
    /// options are of its result
    #[arg(long, value_name = "TRANSFORMATIONS")]
    pub(crate) apply: Option<String>,
    /// Group what --filter lets through, by fields or expressions: "City,year(CloseDate)"
    #[arg(long, value_name = "KEYS", conflicts_with = "apply")]
    pub(crate) group_by: Option<String>,
    /// What to say of each group, or of all [default with --group-by: count]: count,
    /// "median(ListPrice)", "p90(ListPrice) as P90"; also sum, min, max, average, countdistinct.
    /// May be given more than once
    #[arg(long, value_name = "AGGREGATE", conflicts_with = "apply")]
    pub(crate) agg: Vec<String>,
    /// Which fields, by commas
    #[arg(long, value_name = "FIELDS")]
    pub(crate) select: Option<String>,
    /// The order: fields or expressions by commas, each with asc or desc
    #[arg(long, value_name = "EXPRESSIONS")]
    pub(crate) orderby: Option<String>,
    /// At most so many records
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<u64>,
    /// Leave out so many records first
    #[arg(long, value_name = "N")]
    pub(crate) skip: Option<u64>,
    /// Also say how many records pass the filter
    #[arg(long)]
    pub(crate) count: bool,
    /// As it was: a sequence, a date (its end), a timestamp, or how long ago (7d, 36h)
    #[arg(long, value_name = "MOMENT")]
    pub(crate) as_of: Option<String>,
    /// Print how the answer is found, instead of the answer
    #[arg(long)]
    pub(crate) explain: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The resource
    pub(crate) resource: String,
    /// The key
    #[arg(allow_hyphen_values = true)]
    pub(crate) key: String,
    /// As it was: a sequence, a date (its end), a timestamp, or how long ago (7d, 36h)
    #[arg(long, value_name = "MOMENT")]
    pub(crate) as_of: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// The resource
    pub(crate) resource: String,
    /// The key
    #[arg(allow_hyphen_values = true)]
    pub(crate) key: String,
    /// Only this field
    #[arg(long)]
    pub(crate) field: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Changes {
    /// Only this resource
    pub(crate) resource: Option<String>,
    /// Only what came after this sequence, or from this time on: a date, a timestamp, 7d, 36h
    #[arg(long, value_name = "MOMENT")]
    pub(crate) since: Option<String>,
    /// Only changes of this field; may be given more than once
    #[arg(long)]
    pub(crate) field: Vec<String>,
    /// Only changes of the fields that [track] in relist.toml lists under this name
    #[arg(long, value_name = "NAME")]
    pub(crate) track: Option<String>,
    /// Only changes of the record with this key; without RESOURCE it is a listing (Property)
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub(crate) listing: Option<String>,
    /// At most so many lines
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<u64>,
    /// Go on with what comes, until interrupted; without --since it begins with what is new
    #[arg(long)]
    pub(crate) follow: bool,
    /// How often to look for new changes
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "follow")]
    pub(crate) every: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Rules are in relist.toml, or given by --rule:\n  \
    transition:Active->Pending     transition:->Closed|Withdrawn     back-on-market\n  \
    price-drop:5                   field:ListPrice,PublicRemarks     insert, delete, relist\n\n\
    Each event is delivered at least once: the position moves after it. docs/watch.md tells more.")]
pub(crate) struct Watch {
    /// The watcher, whose position is kept [default: watch]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Deliver what there is, and end (the default)
    #[arg(long)]
    pub(crate) once: bool,
    /// Go on with what comes, until interrupted
    #[arg(long, conflicts_with = "once")]
    pub(crate) follow: bool,
    /// How often to look for new changes
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "follow")]
    pub(crate) every: String,
    /// What to look for, instead of the rules in relist.toml; may be given more than once
    #[arg(long, value_name = "RULE")]
    pub(crate) rule: Vec<String>,
    /// Begin after this sequence or at this time, wherever the position is: 0 is the beginning
    #[arg(long, value_name = "MOMENT")]
    pub(crate) since: Option<String>,
    /// Where events go: stdout, a file (they are appended), or an https URL [default: stdout]
    #[arg(long, value_name = "WHERE", conflicts_with = "exec")]
    pub(crate) to: Option<String>,
    /// A shell command for each event, with it as JSON on standard input; exit code 0: delivered
    #[arg(long, value_name = "COMMAND")]
    pub(crate) exec: Option<String>,
    /// How long that command may take for one event before it is killed and has failed
    /// [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Each {
    /// The resource
    pub(crate) resource: String,
    /// A shell command for each batch, with its records as NDJSON on standard input; exit code 0:
    /// done
    #[arg(long, value_name = "COMMAND")]
    pub(crate) exec: String,
    /// Which records: an OData $filter
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) filter: Option<String>,
    /// Which fields, by commas
    #[arg(long, value_name = "FIELDS")]
    pub(crate) select: Option<String>,
    /// Records a batch
    #[arg(long, value_name = "N", default_value_t = 500)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) batch: u32,
    /// Commands that run at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: u16,
    /// How often a batch that failed is tried again
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) retries: u32,
    /// Begin behind this key: where an earlier pass ended
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub(crate) after: Option<String>,
    /// As it was: a sequence, a date (its end), a timestamp, or how long ago (7d, 36h)
    #[arg(long, value_name = "MOMENT")]
    pub(crate) as_of: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// One run, in full; `market` makes a page about the market
    #[arg(value_name = "RUN|market", conflicts_with_all = ["last", "summary"])]
    pub(crate) what: Option<ReportOf>,
    /// The last runs
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) last: usize,
    /// Only runs of this resource; of `market`, the resource of listings [default: Property]
    #[arg(long)]
    pub(crate) resource: Option<String>,
    /// Of `market`: the file, one page of HTML that needs no network
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Of `market`: replace the file if it exists
    #[arg(long, requires = "to")]
    pub(crate) force: bool,
    /// How many went well, and how long they took
    #[arg(long)]
    pub(crate) summary: bool,
}

/// What a report is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportOf {
    /// A run.
    Run(u64),
    /// The market.
    Market,
}

impl std::str::FromStr for ReportOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "market" {
            return Ok(ReportOf::Market);
        }
        let run = text
            .parse()
            .map_err(|_| "write the number of a run, or market");
        Ok(ReportOf::Run(run?))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Print metrics as Prometheus reads them
    #[arg(long)]
    pub(crate) prometheus: bool,
    /// Exit with code 6 when a synced resource was last complete longer ago: 12h, 90m
    #[arg(long, value_name = "TIME")]
    pub(crate) max_age: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Index {
    #[command(subcommand)]
    pub(crate) action: IndexAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IndexAction {
    /// List the indexed fields
    List(OfResource),
    /// Index fields of a resource
    Create(IndexFields),
    /// Index fields of a resource no more
    Drop(IndexFields),
}

#[derive(Debug, Args)]
pub(crate) struct IndexFields {
    /// The resource
    pub(crate) resource: String,
    /// The fields
    #[arg(required = true, value_name = "FIELD")]
    pub(crate) fields: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Quarantine {
    #[command(subcommand)]
    pub(crate) action: QuarantineAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineAction {
    /// List what is in quarantine, newest first
    List(OfResource),
    /// Print the bytes of what is in quarantine, newest first
    Show(QuarantineShow),
    /// Empty the quarantine
    Clear(OfResource),
}

#[derive(Debug, Args)]
pub(crate) struct Schedule {
    #[command(subcommand)]
    pub(crate) action: ScheduleAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleAction {
    /// Run the jobs of relist.toml at their times; an interrupt ends it after the page
    Run,
    /// List the jobs: when they run, how they last ended
    List,
    /// List the times to come
    Next {
        /// How many
        #[arg(default_value_t = 10, value_name = "N")]
        most: usize,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file
    #[arg(value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// Replace the file if it exists, once the new one is whole
    #[arg(long)]
    pub(crate) force: bool,
    /// Keep the copy even if it is damaged, as the store is
    #[arg(long)]
    pub(crate) damaged: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// Replace the store if there is one
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// How much history stays: 90d. Records and what is known as deleted stay in any case
    #[arg(long, value_name = "TIME")]
    pub(crate) keep: String,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Without --key, --resource and --all it ends a purge that was interrupted.\n\
    What it cannot reach: backups, exports, and what a file system or a disk keeps of files that \
    were\ndeleted. docs/retention.md tells more."
)]
pub(crate) struct Purge {
    /// These records, with what belongs to them in other resources
    #[arg(
        long,
        value_name = "KEY,..",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub(crate) key: Vec<String>,
    /// The resource of the keys [default: Property]; without --key, all of its records
    #[arg(long, value_name = "NAME")]
    pub(crate) resource: Option<String>,
    /// Everything but the schema
    #[arg(long, conflicts_with_all = ["key", "resource"])]
    pub(crate) all: bool,
    /// Do so: a whole resource or all of the store is not purged without
    #[arg(long)]
    pub(crate) confirm: bool,
    /// The folder of the files [default: that of relist.toml, else media beside the store]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct OfResource {
    /// Only this resource
    pub(crate) resource: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct QuarantineShow {
    /// The number in the list, from 1
    #[arg(default_value_t = 1)]
    pub(crate) number: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The resource; `changes` is the changelog
    pub(crate) resource: String,
    /// The file: .parquet, .csv, .ndjson, .json, .rcf.json (RESO Common Format) or .arrows, with
    /// .gz or .zst after it to compress; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// The format, whatever the name of the file
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<ExportFormat>,
    /// Which records: an OData $filter
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) filter: Option<String>,
    /// Which fields, by commas [default: all that records have]
    #[arg(long, value_name = "FIELDS")]
    pub(crate) select: Option<String>,
    /// As it was: a sequence, a date (its end), a timestamp, or how long ago (7d, 36h)
    #[arg(long, value_name = "MOMENT")]
    pub(crate) as_of: Option<String>,
    /// Of `changes`: those after a sequence, a time, or how long ago (7d, 36h)
    #[arg(long, value_name = "MOMENT")]
    pub(crate) since: Option<String>,
    /// Of `changes`: the columns
    #[arg(long, value_name = "SHAPE")]
    pub(crate) shape: Option<Shape>,
    /// Replace the file if it exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Write no FILE.manifest.json beside the file
    #[arg(long)]
    pub(crate) no_manifest: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Lake {
    /// The folder; stores of several feeds may share one
    pub(crate) folder: PathBuf,
    /// The resources [default: all that have records]
    pub(crate) resources: Vec<String>,
    /// The partition that this store's files are in [default: the provider, else the name of the
    /// store's file]
    #[arg(long, value_name = "NAME")]
    pub(crate) feed: Option<String>,
    /// Write all records anew, and not only what changed
    #[arg(long)]
    pub(crate) full: bool,
}

/// The columns of exported changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// As `relist changes` prints them
    Relist,
    /// RESO's HistoryTransactional
    History,
}

/// A format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// Apache Parquet
    Parquet,
    /// Comma-separated values with a header line
    Csv,
    /// One JSON object a line
    Ndjson,
    /// One JSON array
    Json,
    /// RESO Common Format
    Rcf,
    /// An Arrow IPC stream
    Arrow,
}

#[derive(Debug, Args)]
pub(crate) struct Media {
    #[command(subcommand)]
    pub(crate) action: MediaAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MediaAction {
    /// Fetch what is new or changed
    Sync(MediaSync),
    /// Show how many files there are, and what is missing and why
    Status(MediaStatus),
}

#[derive(Debug, Args)]
pub(crate) struct MediaSync {
    /// At most so many files; the next sync goes on
    #[arg(long, value_name = "N")]
    pub(crate) max: Option<u64>,
    /// The folder of the files [default: that of relist.toml, else media beside the store]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How many files at a time
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) jobs: u8,
    /// Try those again that failed three times
    #[arg(long)]
    pub(crate) retry: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MediaStatus {
    /// Only the files of this record of Property
    #[arg(value_name = "KEY", allow_hyphen_values = true)]
    pub(crate) key: Option<String>,
    /// The folder of the files [default: that of relist.toml, else media beside the store]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where the demo's store goes
    #[arg(long, value_name = "DIR", default_value = "relist-demo")]
    pub(crate) dir: PathBuf,
    /// What the market follows from: the same seed gives the same market
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub(crate) seed: u64,
    /// How many listings the market starts with
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub(crate) listings: u32,
    /// How many days of the market are played
    #[arg(long, value_name = "N", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=365))]
    pub(crate) days: u32,
    /// Replace the store of an earlier demo
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// Reads which slice of how many: `1/7`.
fn slice(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once('/');
    let parts = parts.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match parts {
        Some((i, n)) if 1 <= i && i <= n => Ok((i, n)),
        _ => Err("write which slice of how many: 1/7 to 7/7".to_owned()),
    }
}

/// The whole command line, for completions.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// Help and version are data; anything else that does not parse is a failure.
pub(crate) fn explain(error: &clap::Error, out: &mut dyn Write) -> Result<Exit, Failure> {
    use clap::error::ErrorKind as K;
    let text = error.render().to_string();
    if matches!(error.kind(), K::DisplayHelp | K::DisplayVersion) {
        writeln!(out, "{}", text.trim_end())?;
        out.flush()?;
        return Ok(Exit::Ok);
    }
    if error.kind() == K::DisplayHelpOnMissingArgumentOrSubcommand {
        let commands = command();
        let width = commands
            .get_subcommands()
            .map(|c| c.get_name().len())
            .max()
            .unwrap_or(0);
        let lines = commands.get_subcommands().map(|c| {
            let about = c.get_about().map(ToString::to_string).unwrap_or_default();
            format!("{:width$}  {about}", c.get_name())
        });
        return Err(Failure::usage(
            "a command is needed",
            "relist demo shows what it does; relist COMMAND --help says what a command takes",
        )
        .with_detail(lines.collect()));
    }
    let (message, hint) = split(&text);
    Err(Failure::usage(message, hint))
}

/// Takes the parser's text apart: what is wrong, and what may be done about it.
fn split(text: &str) -> (String, String) {
    let mut parts = text.trim().split("\n\n");
    let message = parts.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let parts: Vec<&str> = parts
        .filter(|p| !p.starts_with("For more information"))
        .collect();
    let lines = parts.iter().flat_map(|p| p.lines()).map(str::trim);
    let tips = lines.clone().filter_map(|l| l.strip_prefix("tip: "));
    let mut hints: Vec<String> = tips.map(str::to_owned).collect();
    if hints.is_empty() {
        hints = lines.filter(|l| !l.is_empty()).map(str::to_owned).collect();
    }
    if hints.is_empty() {
        hints.push("relist COMMAND --help says what it takes".to_owned());
    }
    let message: Vec<&str> = message.lines().map(str::trim).collect();
    (message.join(" "), hints.join("; "))
}

/// The arguments, without the program's name, of a command as its user would type it.
pub(crate) fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

/// A path as its user would type it.
pub(crate) fn quoted_path(path: &std::path::Path) -> String {
    quoted(&OsString::from(path).to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn mistakes_become_a_message_and_a_hint() {
        let parse = |args: &[&str]| {
            let error = Cli::try_parse_from(args).unwrap_err();
            split(&error.render().to_string())
        };
        let (message, hint) = parse(&["relist", "querry", "Property"]);
        assert_eq!(message, "unrecognized subcommand 'querry'");
        assert!(hint.contains("'query'"), "{hint}");
        let (message, hint) = parse(&["relist", "get", "Property"]);
        assert!(message.contains("<KEY>"), "{message}");
        assert!(hint.contains("Usage: relist get"), "{hint}");
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("a/b.redb"), "a/b.redb");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
