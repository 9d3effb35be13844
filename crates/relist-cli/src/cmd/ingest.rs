//! `relist ingest`: files by the same road as a feed.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use relist::error::Error;
use relist::ingest::{IngestOptions, Input};
use relist::schema::Schema;
use relist::store::{RunReport, Store};

use super::report::{self, Done};
use crate::app::App;
use crate::args::{self, quoted_path};
use crate::failure::{Exit, Failure};
use crate::progress::{Bar, Measured};
use crate::style::thousands;

/// Bytes read from a file at once.
const BUFFER: usize = 1 << 18;

pub(super) fn run(app: &mut App<'_>, args: &args::Ingest) -> Result<Exit, Failure> {
    let files: Vec<PathBuf> = args.files.iter().map(|f| typed(app, f)).collect();
    let total = check_files(&files)?;
    let schema = args
        .metadata
        .as_deref()
        .map(|m| read_schema(&app.path(m)))
        .transpose()?;
    let (store, created) = app.open_or_create()?;
    if created {
        app.note(&format!("created {}", quoted_path(store.path())));
    }
    if let Some(schema) = &schema {
        let mut txn = store.begin_write(app.now())?;
        txn.define(schema)?;
        txn.commit()?;
    }
    let begun = app.now();
    let report = ingest(app, args, &store, files, total)?;
    let micros = app.now().0 - begun.0;
    let quarantined = report.quarantined;
    let exit = report::print(
        app,
        &[Done {
            report,
            requests: 0,
            micros,
        }],
    )?;
    report::end(exit, quarantined)
}

fn ingest(
    app: &mut App<'_>,
    args: &args::Ingest,
    store: &Store,
    files: Vec<PathBuf>,
    total: Option<u64>,
) -> Result<RunReport, Failure> {
    (app.environment.catch_interrupt)(&app.environment.stop);
    let read = Arc::new(AtomicU64::new(0));
    let bar = Bar::bytes(app.shows_progress(), total, &args.resource);
    let counted = (Arc::clone(&read), Arc::clone(&app.environment.stop));
    let inputs = files.into_iter().map(move |file| open(&file, &counted));
    let now = app.environment.now;
    let options = IngestOptions {
        now: &now,
        key_field: args.key.clone(),
    };
    let progress = |report: &RunReport| {
        bar.at(read.load(Ordering::Relaxed));
        bar.message(format!("{} records", thousands(report.records)));
    };
    let mut progress = Measured {
        advanced: progress,
        peak_memory: app.environment.peak_memory,
    };
    let result = store.ingest(&args.resource, inputs, &options, &mut progress);
    bar.clear();
    match result {
        Err(_) if app.environment.stopped() => Err(Failure::stopped()),
        other => Ok(other?),
    }
}

fn typed(app: &App<'_>, file: &Path) -> PathBuf {
    if file == Path::new("-") {
        file.to_owned()
    } else {
        app.path(file)
    }
}

/// A missing file is found before anything is applied. The sizes together; `None` with a stream.
fn check_files(files: &[PathBuf]) -> Result<Option<u64>, Failure> {
    let mut total = Some(0);
    for file in files {
        if file == Path::new("-") {
            total = None;
            continue;
        }
        let about = std::fs::metadata(file).map_err(|e| Failure::file("cannot read", file, &e))?;
        if about.is_dir() {
            return Err(Failure::usage(
                format!("{} is a directory", file.display()),
                format!(
                    "give its files: relist ingest RESOURCE {}/*",
                    quoted_path(file)
                ),
            ));
        }
        // A named pipe has no size.
        total = total
            .filter(|_| about.is_file())
            .map(|t: u64| t.saturating_add(about.len()));
    }
    Ok(total)
}

fn read_schema(path: &Path) -> Result<Schema, Failure> {
    let xml = std::fs::read(path).map_err(|e| Failure::file("cannot read", path, &e))?;
    Schema::from_metadata(&xml).map_err(|error| {
        let message = format!("{}: {error}", path.display());
        Failure::failed(
            message,
            "--metadata takes a $metadata document: OData CSDL XML",
        )
    })
}

type Counted = (Arc<AtomicU64>, Arc<AtomicBool>);

/// Opens a file or standard input; gzip is known by its first two bytes, not by its name.
fn open(file: &Path, counted: &Counted) -> Result<Input, Error> {
    let name = file.to_string_lossy().into_owned();
    let failed = |source| Error::Io {
        context: format!("cannot read {name}"),
        source,
    };
    let raw: Box<dyn Read + Send> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).map_err(failed)?)
    };
    let counted = Counting {
        inner: raw,
        read: Arc::clone(&counted.0),
        stop: counted.1.clone(),
    };
    let mut buffered = BufReader::with_capacity(BUFFER, counted);
    let magic = peek(&mut buffered).map_err(failed)?;
    let reader: Box<dyn Read + Send> = if magic == [0x1f, 0x8b] {
        Box::new(MultiGzDecoder::new(buffered))
    } else {
        Box::new(buffered)
    };
    let name = if file == Path::new("-") {
        "standard input".to_owned()
    } else {
        name
    };
    Ok(Input { name, reader })
}

/// The first two bytes, which are read again.
fn peek(reader: &mut BufReader<Counting>) -> io::Result<[u8; 2]> {
    use std::io::BufRead as _;
    let start = reader.fill_buf()?;
    Ok(match start {
        [first, second, ..] => [*first, *second],
        _ => [0, 0],
    })
}

/// Counts what is read, and ends when the user wants to stop.
struct Counting {
    inner: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
