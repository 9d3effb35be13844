//! SQLite from Rust: the record's own text, beside it the columns that are searched, indexed.
//!
//! One thread reads pages and splits them, hashes each record's bytes and reads the typed columns
//! of those that are new; another writes. WAL, `synchronous = FULL`: every commit is durable. A
//! record whose bytes have a known hash is not looked at; of the others each field's text is
//! compared, numbers by value. benches/peers/README.md says what the programs print.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::value::RawValue;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Records a transaction, as Relist has them.
const BATCH: usize = 20_000;

#[derive(Deserialize)]
struct Workload {
    waves: Vec<Wave>,
}

#[derive(Deserialize)]
struct Wave {
    name: String,
    steps: Vec<Step>,
}

#[derive(Deserialize, Clone)]
struct Step {
    folder: String,
    at: i64,
    observed: i64,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    value: Vec<&'a RawValue>,
}

/// The key, which every record is read for.
#[derive(Deserialize)]
struct Keyed {
    #[serde(rename = "ListingKeyNumeric")]
    key: i64,
}

/// The columns beside the text.
#[derive(Deserialize)]
struct Columns<'a> {
    #[serde(rename = "StandardStatus", borrow)]
    status: std::borrow::Cow<'a, str>,
    #[serde(rename = "City", borrow)]
    city: std::borrow::Cow<'a, str>,
    #[serde(rename = "ListPrice")]
    price: f64,
    #[serde(rename = "ModificationTimestamp", borrow)]
    modified: std::borrow::Cow<'a, str>,
    #[serde(rename = "ListingContractDate", borrow)]
    listed: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct Deletions {
    value: Vec<Deletion>,
}

#[derive(Deserialize)]
struct Deletion {
    primary_key: String,
}

/// A page with its records' places and hashes.
struct Split {
    body: String,
    records: Vec<(std::ops::Range<usize>, u128)>,
}

#[derive(Default)]
struct Counts {
    records: u64,
    inserted: u64,
    unchanged: u64,
    field_changes: u64,
    deleted: u64,
}

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = args.iter().position(|a| a == name)?;
        args.get(at + 1).cloned()
    };
    let need = |name: &str| option(name).ok_or(format!("{name} is needed"));
    match args.first().map(String::as_str) {
        Some("wave") => wave(
            Path::new(&need("--data")?),
            &need("--to")?,
            &need("--wave")?,
        ),
        Some("changes") => changes(&need("--store")?),
        _ => Err("wave --data DIR --to FILE --wave W, or changes --store FILE".into()),
    }
}

fn connect(path: &str) -> Outcome<Connection> {
    let con = Connection::open(path)?;
    con.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full;
         pragma cache_size = -262144; pragma mmap_size = 8589934592;",
    )?;
    con.set_prepared_statement_cache_capacity(32);
    Ok(con)
}

fn create(con: &Connection) -> Outcome<()> {
    con.execute_batch(
        "create table records (key integer primary key, hash blob, status, city, price, modified,
           listed, body text);
         create index by_place on records (city, status, price);
         create index by_time on records (modified);
         create index by_status on records (status, listed);
         create table changelog (step integer, observed integer, key integer, operation text,
           field text, previous text, new text);
         create index changes_by_field on changelog (field, observed);
         create index changes_by_key on changelog (key, observed);
         create table tombstones (key integer, step integer, observed integer, body text);",
    )?;
    Ok(())
}

fn wave(folder: &Path, to: &str, name: &str) -> Outcome<()> {
    let workload: Workload = serde_json::from_slice(&std::fs::read(folder.join("truth.json"))?)?;
    let wave = workload.waves.into_iter().find(|w| w.name == name);
    let steps = wave.ok_or("no such wave")?.steps;
    let begun = Instant::now();
    let cpu = cpu_seconds();
    let fresh = !Path::new(to).exists();
    let con = connect(to)?;
    if fresh {
        create(&con)?;
    }
    let mut loader = Loader {
        hashes: hashes(&con)?,
        con,
        counts: Counts::default(),
        took: Vec::new(),
    };
    for step in &steps {
        loader.step(folder, step)?;
    }
    let live: i64 = loader
        .con
        .query_row("select count(*) from records", [], |r| r.get(0))?;
    loader
        .con
        .execute_batch("pragma wal_checkpoint(truncate)")?;
    let Loader {
        con,
        counts,
        mut took,
        ..
    } = loader;
    con.close().map_err(|(_, e)| e)?;
    took.sort_by(f64::total_cmp);
    let at = |part: f64| took.get(((took.len().max(1) - 1) as f64 * part).round() as usize);
    println!(
        "{}",
        serde_json::json!({
            "seconds": begun.elapsed().as_secs_f64(),
            "cpu_seconds": cpu_seconds() - cpu,
            "peak_memory": peak_memory(),
            "file_bytes": std::fs::metadata(to)?.len(),
            "commits": took.len(),
            "commit_p50": at(0.5),
            "commit_p99": at(0.99),
            "records": counts.records,
            "inserted": counts.inserted,
            "unchanged": counts.unchanged,
            "field_changes": counts.field_changes,
            "deleted": counts.deleted,
            "live": live,
            "version": rusqlite::version(),
        })
    );
    Ok(())
}

fn hashes(con: &Connection) -> Outcome<HashMap<i64, u128>> {
    let mut statement = con.prepare("select key, hash from records")?;
    let mut rows = statement.query([])?;
    let mut out = HashMap::new();
    while let Some(row) = rows.next()? {
        let bytes: [u8; 16] = row.get(1)?;
        out.insert(row.get(0)?, u128::from_le_bytes(bytes));
    }
    Ok(out)
}

struct Loader {
    con: Connection,
    hashes: HashMap<i64, u128>,
    counts: Counts,
    took: Vec<f64>,
}

impl Loader {
    fn step(&mut self, folder: &Path, step: &Step) -> Outcome<()> {
        let folder = folder.join(&step.folder);
        let pages = files(&folder)?;
        let (send, receive) = sync_channel(4);
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || -> Outcome<()> {
                for page in pages {
                    let text = std::fs::read_to_string(page)?;
                    if send.send(split(text)?).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            let written = self.write(step, &receive);
            drop(receive);
            let read = reader
                .join()
                .unwrap_or_else(|p| std::panic::resume_unwind(p));
            written.and(read)
        })?;
        let deleted = folder.join("deleted");
        if deleted.exists() {
            self.delete(step, &deleted)?;
        }
        Ok(())
    }

    fn write(&mut self, step: &Step, pages: &Receiver<Split>) -> Outcome<()> {
        let (mut begun, mut pending) = (Instant::now(), 0);
        for page in pages {
            if pending == 0 {
                begun = Instant::now();
                self.con.execute_batch("begin")?;
            }
            pending += page.records.len();
            for (range, hash) in page.records {
                self.record(step, &page.body[range], hash)?;
            }
            if pending >= BATCH {
                self.commit(begun)?;
                pending = 0;
            }
        }
        if pending > 0 {
            self.commit(begun)?;
        }
        Ok(())
    }

    fn commit(&mut self, begun: Instant) -> Outcome<()> {
        self.con.execute_batch("commit")?;
        self.took.push(begun.elapsed().as_secs_f64());
        Ok(())
    }

    fn record(&mut self, step: &Step, text: &str, hash: u128) -> Outcome<()> {
        self.counts.records += 1;
        let key = key_of(text)?;
        let known = self.hashes.insert(key, hash);
        if known == Some(hash) {
            self.counts.unchanged += 1;
            return Ok(());
        }
        if known.is_some() {
            let changed = self.compare(step, key, text)?;
            self.counts.field_changes += changed;
            if changed == 0 {
                self.counts.unchanged += 1;
                let sql = "update records set hash = ? where key = ?";
                self.con
                    .prepare_cached(sql)?
                    .execute(params![hash.to_le_bytes(), key])?;
                return Ok(());
            }
        } else {
            self.counts.inserted += 1;
            if step.at > 0 {
                self.log(step, key, "insert", None)?;
            }
        }
        let c: Columns<'_> = serde_json::from_str(text)?;
        let sql = "insert or replace into records values (?, ?, ?, ?, ?, ?, ?, ?)";
        self.con.prepare_cached(sql)?.execute(params![
            key,
            hash.to_le_bytes(),
            c.status,
            c.city,
            c.price,
            c.modified,
            c.listed,
            text
        ])?;
        Ok(())
    }

    fn compare(&mut self, step: &Step, key: i64, text: &str) -> Outcome<u64> {
        let before: String = self
            .con
            .prepare_cached("select body from records where key = ?")?
            .query_row([key], |row| row.get(0))?;
        let before: HashMap<&str, &RawValue> = serde_json::from_str(&before)?;
        let now: HashMap<&str, &RawValue> = serde_json::from_str(text)?;
        let mut count = 0;
        for (field, new) in now.iter().filter(|(name, _)| !name.starts_with('@')) {
            let previous = before.get(field).map_or("null", |v| v.get());
            if !same(previous, new.get()) {
                self.log(step, key, "update", Some((field, previous, new.get())))?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn log(
        &self,
        step: &Step,
        key: i64,
        operation: &str,
        field: Option<(&str, &str, &str)>,
    ) -> Outcome<()> {
        let sql = "insert into changelog values (?, ?, ?, ?, ?, ?, ?)";
        let (field, previous, new) =
            field.map_or((None, None, None), |(f, p, n)| (Some(f), Some(p), Some(n)));
        self.con.prepare_cached(sql)?.execute(params![
            step.at,
            step.observed,
            key,
            operation,
            field,
            previous,
            new
        ])?;
        Ok(())
    }

    fn delete(&mut self, step: &Step, folder: &Path) -> Outcome<()> {
        let begun = Instant::now();
        self.con.execute_batch("begin")?;
        for page in files(folder)? {
            let page: Deletions = serde_json::from_slice(&std::fs::read(page)?)?;
            for row in page.value {
                let key: i64 = row.primary_key.parse()?;
                if self.hashes.remove(&key).is_none() {
                    continue;
                }
                let keep = "insert into tombstones select key, ?, ?, body from records
                            where key = ?";
                let kept = params![step.at, step.observed, key];
                self.con.prepare_cached(keep)?.execute(kept)?;
                self.con
                    .prepare_cached("delete from records where key = ?")?
                    .execute([key])?;
                self.log(step, key, "delete", None)?;
                self.counts.deleted += 1;
            }
        }
        self.commit(begun)
    }
}

/// Whether two JSON texts are the same value; numbers are compared as numbers.
fn same(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let number = |text: &str| text.parse::<f64>().ok();
    number(a).is_some_and(|a| number(b) == Some(a))
}

/// The key stands first in most records; elsewhere the record is read for it.
fn key_of(text: &str) -> Outcome<i64> {
    if let Some(rest) = text.strip_prefix("{\"ListingKeyNumeric\":") {
        let end = rest.find([',', '}']).ok_or("no end of the key")?;
        return Ok(rest[..end].trim().parse()?);
    }
    let keyed: Keyed = serde_json::from_str(text)?;
    Ok(keyed.key)
}

fn split(body: String) -> Outcome<Split> {
    let page: Page<'_> = serde_json::from_str(&body)?;
    let start = body.as_ptr() as usize;
    let places = page.value.iter().map(|raw| {
        let text = raw.get();
        let from = text.as_ptr() as usize - start;
        (
            from..from + text.len(),
            xxhash_rust::xxh3::xxh3_128(text.as_bytes()),
        )
    });
    let records = places.collect();
    Ok(Split { records, body })
}

fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json") {
            out.push(path);
        }
    }
    out.sort_unstable();
    Ok(out)
}

fn changes(path: &str) -> Outcome<()> {
    let con = connect(path)?;
    let sql = "select step, key, operation, field, previous, new from changelog";
    let mut statement = con.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    while let Some(row) = rows.next()? {
        let (step, key): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (operation, field): (String, Option<String>) = (row.get(2)?, row.get(3)?);
        let value = |at| -> rusqlite::Result<String> {
            let text: Option<String> = row.get(at)?;
            Ok(text.unwrap_or_else(|| "null".to_owned()))
        };
        let (previous, new) = (value(4)?, value(5)?);
        let field = serde_json::to_string(&field)?;
        writeln!(
            out,
            "[{step},{key},\"{operation}\",{field},{previous},{new}]"
        )?;
    }
    out.flush()?;
    Ok(())
}

/// Processor time of the process, in hundredths of a second as Linux counts it.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit(") ").next().unwrap_or_default();
    let ticks = after.split(' ').skip(11).take(2);
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1_024)
}
