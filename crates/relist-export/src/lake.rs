//! A lake: Parquet files of many stores in one folder, kept current by writing what changed.
//!
//! ```text
//! DIR/_manifest/feed=NAME.json              what is valid of this feed, and at which sequence
//! DIR/Property/feed=NAME/0000-<seq>.parquet   the records as of the base sequence, whole
//! DIR/Property_updates/feed=NAME/<seq>.parquet  what became of those that changed since
//! DIR/changes/feed=NAME/date=2026-03-31/<seq>.parquet   the changelog by day of observation
//! ```
//!
//! Files are never changed: an update writes new ones into a folder of its own, moves them to where
//! they belong, puts the manifest in the place of the one before, and removes what that one named
//! and the new one does not. Who reads the files that the manifest names sees one sequence or the
//! next, whatever happens in between.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use relist::keycode::Key;
use relist::odata::Query;
use relist::query::{CHANGES, QueryContext};
use relist::store::Snapshot;
use serde::{Deserialize, Serialize};

use crate::changes::ChangeShape;
use crate::error::ExportError;
use crate::file::{Compression, Target, into_file};
use crate::manifest::{hash_text, put_json};
use crate::parquet::{Extra, write_parquet, write_updates};
use crate::shape::{Column, Shape};
use crate::write::{Format, facts};

/// The folder of the manifests.
const MANIFESTS: &str = "_manifest";
/// What a resource's folder of updates ends in.
const UPDATES: &str = "_updates";
/// Rows of a file at most: some hundred megabytes.
const FILE_ROWS: usize = 983_040;
/// Updates are folded into new files when they are more than this part of the records.
const FOLD: u64 = 10;
/// A file of changes with fewer rows is written again when its day goes on.
const SMALL: u64 = 50_000;
/// The version of the layout.
const LAYOUT: u32 = 1;

/// What is to be kept current.
#[derive(Debug, Clone)]
pub struct LakeOptions {
    /// The name of the feed: the partition that this store's files are in.
    pub feed: String,
    /// The resources; all that have records when empty.
    pub resources: Vec<String>,
    /// Write all records anew.
    pub full: bool,
}

/// What is valid of a feed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LakeManifest {
    /// The version of the layout.
    pub layout: u32,
    /// The feed.
    pub feed: String,
    /// The sequence that the files, read together, are a snapshot of.
    pub sequence: u64,
    /// The tables: resources, and `changes`.
    pub tables: BTreeMap<String, LakeTable>,
}

/// One table of a feed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LakeTable {
    /// The key's field; empty for `changes`.
    pub key: String,
    /// The sequence that `files` are a snapshot of.
    pub base_sequence: u64,
    /// Records there are at the manifest's sequence; rows of `changes`.
    pub rows: u64,
    /// The columns.
    pub columns: Vec<Column>,
    /// A hash of the columns' names and types.
    pub schema_digest: String,
    /// The sums of the columns of numbers in `files`, as decimals.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub base_sums: BTreeMap<String, String>,
    /// The files.
    pub files: Vec<LakeFile>,
    /// What became of records since the base sequence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub updates: Vec<LakeFile>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LakeFile {
    /// Its path in the lake.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// Of its bytes, as `xxhsum -H2` prints it.
    pub content_hash: String,
    /// Of `changes`: the first sequence that may be in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
}

/// What an update did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LakeReport {
    /// The sequence before; `None` when there was nothing.
    pub before: Option<u64>,
    /// The sequence now.
    pub sequence: u64,
    /// Files written, and their bytes.
    pub written: (u64, u64),
    /// Files removed.
    pub removed: u64,
    /// Records of all resources.
    pub records: u64,
    /// Resources whose records were written anew, whole.
    pub whole: Vec<String>,
}

/// Brings the files of a feed in a lake to a snapshot.
///
/// # Errors
/// [`ExportError::Lake`] when the folder holds something else, another process is at the same feed,
/// or the lake is ahead of the store; [`ExportError::Store`], [`ExportError::Io`],
/// [`ExportError::Stopped`]. The lake is then as it was before, but for files that no manifest
/// names, which the next update removes.
pub fn update_lake(
    snapshot: &Snapshot,
    folder: &Path,
    options: &LakeOptions,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<LakeReport, ExportError> {
    let names = &options.feed;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if names.is_empty() || !names.chars().all(plain) {
        let what = format!("a feed's name has letters, digits, - _ and . only, not {names:?}");
        return Err(ExportError::lake(folder, what));
    }
    let mut lake = Lake::open(snapshot, folder, options)?;
    let before = lake.before.as_ref().map(|m| m.sequence);
    let mut next = LakeManifest {
        layout: LAYOUT,
        feed: options.feed.clone(),
        sequence: snapshot.sequence(),
        tables: BTreeMap::new(),
    };
    let mut report = LakeReport {
        before,
        sequence: next.sequence,
        ..LakeReport::default()
    };
    for resource in lake.resources()? {
        let (table, whole) = lake.table(&resource, progress)?;
        report.records += table.rows;
        if whole {
            report.whole.push(resource.clone());
        }
        next.tables.insert(resource, table);
    }
    let changes = lake.changes(progress)?;
    next.tables.insert(CHANGES.to_owned(), changes);
    report.written = lake.written;
    report.removed = lake.commit(&next)?;
    Ok(report)
}

/// A lake that is being brought up to date.
struct Lake<'a> {
    snapshot: &'a Snapshot,
    folder: &'a Path,
    options: &'a LakeOptions,
    before: Option<LakeManifest>,
    /// Where new files are written.
    temporary: PathBuf,
    /// New files: their place in the lake.
    new: Vec<String>,
    written: (u64, u64),
    /// Held while the update lasts.
    _lock: fs::File,
}

impl<'a> Lake<'a> {
    fn open(
        snapshot: &'a Snapshot,
        folder: &'a Path,
        options: &'a LakeOptions,
    ) -> Result<Self, ExportError> {
        let feed = format!("feed={}", options.feed);
        let manifests = folder.join(MANIFESTS);
        let known = manifests.is_dir();
        let mut there = fs::read_dir(folder).into_iter().flatten();
        if !known && there.next().is_some() {
            let what = "the folder is not empty, and no lake".to_owned();
            return Err(ExportError::lake(folder, what));
        }
        let at = |path: &Path, e| ExportError::at("cannot create", path, e);
        fs::create_dir_all(&manifests).map_err(|e| at(&manifests, e))?;
        let path = manifests.join(format!(".{feed}.lock"));
        let lock = fs::File::create(&path).map_err(|e| at(&path, e))?;
        if lock.try_lock().is_err() {
            let what = format!("another process is at {feed}");
            return Err(ExportError::lake(folder, what));
        }
        let temporary = folder.join(format!("_temporary-{}", options.feed));
        // What an update that was killed left behind.
        let _ = fs::remove_dir_all(&temporary);
        fs::create_dir_all(&temporary).map_err(|e| at(&temporary, e))?;
        let before = read_manifest(folder, &options.feed)?;
        if let Some(before) = &before
            && before.sequence > snapshot.sequence()
        {
            let what = format!(
                "{feed} is at sequence {}, and the store only at {}: it is of another store",
                before.sequence,
                snapshot.sequence()
            );
            return Err(ExportError::lake(folder, what));
        }
        Ok(Lake {
            snapshot,
            folder,
            options,
            before,
            temporary,
            new: Vec::new(),
            written: (0, 0),
            _lock: lock,
        })
    }

    fn resources(&self) -> Result<Vec<String>, ExportError> {
        if !self.options.resources.is_empty() {
            let mut out: BTreeSet<String> = self.options.resources.iter().cloned().collect();
            for name in &out {
                self.snapshot.resource(name)?;
            }
            // What is in the lake stays in it, and is as current as the rest.
            let held = self.before.iter().flat_map(|before| before.tables.keys());
            out.extend(held.filter(|name| *name != CHANGES).cloned());
            return Ok(out.into_iter().collect());
        }
        let mut out = Vec::new();
        for resource in &self.snapshot.schema().resources {
            if self.snapshot.count(&resource.name)? > 0 || self.held(&resource.name).is_some() {
                out.push(resource.name.clone());
            }
        }
        Ok(out)
    }

    fn held(&self, table: &str) -> Option<&LakeTable> {
        self.before.as_ref()?.tables.get(table)
    }

    /// Writes a file, and says where it is.
    fn write(
        &mut self,
        place: String,
        write: impl FnOnce(&mut dyn std::io::Write) -> Result<u64, ExportError>,
    ) -> Result<LakeFile, ExportError> {
        let target = Target {
            path: self.temporary.join(format!("{}.parquet", self.new.len())),
            format: Format::Parquet,
            compression: Compression::None,
        };
        let (rows, written) = into_file(&target, true, write)?;
        self.written.0 += 1;
        self.written.1 += written.bytes;
        self.new.push(place.clone());
        Ok(LakeFile {
            path: place,
            rows,
            bytes: written.bytes,
            content_hash: hash_text(written.hash),
            from: None,
        })
    }

    /// A resource's table as of now; whether all of it was written.
    fn table(
        &mut self,
        resource: &str,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(LakeTable, bool), ExportError> {
        let held = self.held(resource).cloned();
        let same = self.before.as_ref().map(|m| m.sequence) == Some(self.snapshot.sequence());
        if let Some(held) = held.clone().filter(|_| same && !self.options.full) {
            return Ok((held, false));
        }
        if let Some(held) = held.filter(|_| !self.options.full)
            && let Some(table) = self.updated(resource, held)?
        {
            return Ok((table, false));
        }
        let before = self.held(resource).map(|table| table.columns.clone());
        let query = Query::new(resource);
        let context = QueryContext::new(relist::value::Timestamp(0));
        let frame = self.snapshot.frame(&query, &context)?;
        let shape = Shape::of(&frame, before.as_deref())?;
        let sequence = self.snapshot.sequence();
        let mut files = Vec::new();
        // Whole chunks of rows go into a file.
        let mut start = 0;
        loop {
            let end = frame.len().min(start + FILE_ROWS);
            let chunks = frame.chunks().iter();
            let end = chunks
                .map(|chunk| chunk.end)
                .rfind(|chunk| *chunk > start && *chunk <= end)
                .unwrap_or(end);
            let place = self.place(resource, &format!("{:04}-{sequence}", files.len()));
            let file = self.write(place, |out| {
                let rows = start..end;
                let metadata = facts(&frame, &shape);
                let progress = &mut |n| progress(n + start as u64);
                write_parquet(&frame, &shape, metadata, rows, out, progress)?;
                Ok((end - start) as u64)
            })?;
            files.push(file);
            start = end;
            if start >= frame.len() {
                break;
            }
        }
        let base_sums = shape.sums(&frame)?;
        let table = LakeTable {
            base_sums,
            key: frame.resource().key_field.clone(),
            base_sequence: sequence,
            rows: frame.len() as u64,
            schema_digest: shape.digest(),
            columns: shape.columns,
            files,
            updates: Vec::new(),
        };
        Ok((table, true))
    }

    /// The table with what changed since its base beside it; `None` where it is better to write all
    /// of it: a field came or needs a wider column, or too much changed.
    fn updated(
        &mut self,
        resource: &str,
        held: LakeTable,
    ) -> Result<Option<LakeTable>, ExportError> {
        let since = held.base_sequence;
        let Some(keys) = self.changed(resource, since, held.rows)? else {
            return Ok(None);
        };
        let rows = self.snapshot.count(resource)?;
        if keys.is_empty() {
            return Ok(Some(LakeTable { rows, ..held }));
        }
        let (frame, gone) = self.snapshot.frame_of(resource, &keys)?;
        let fields = frame.stored_fields()?;
        let Some(shape) = Shape::of_rows(&frame, fields, &held.columns)? else {
            return Ok(None);
        };
        let sequence = self.snapshot.sequence();
        let folder = format!("{resource}{UPDATES}");
        let place = self.place(&folder, &sequence.to_string());
        let extra = Extra {
            key: frame.resource().key_field.clone(),
            gone,
            sequence,
        };
        let file = self.write(place, |out| write_updates(&frame, &shape, &extra, out))?;
        Ok(Some(LakeTable {
            rows,
            updates: vec![file],
            ..held
        }))
    }

    /// The keys of a resource that changed after a sequence; `None` where they are too many, or not
    /// all of the changes are held any more.
    fn changed(
        &self,
        resource: &str,
        since: u64,
        rows: u64,
    ) -> Result<Option<BTreeSet<Key>>, ExportError> {
        let changes = match self.snapshot.changes(since) {
            Ok(changes) => changes,
            Err(relist::error::Error::Pruned { .. }) => return Ok(None),
            Err(other) => return Err(other.into()),
        };
        let mut keys = BTreeSet::new();
        for change in changes {
            let change = change?;
            if change.resource == resource
                && let Some(key) = change.key
            {
                keys.insert(key);
                if keys.len() as u64 > rows / FOLD {
                    return Ok(None);
                }
            }
        }
        Ok(Some(keys))
    }

    fn place(&self, table: &str, name: &str) -> String {
        format!("{table}/feed={}/{name}.parquet", self.options.feed)
    }

    /// The changelog: the days that were complete stay as they are.
    fn changes(&mut self, progress: &mut dyn FnMut(u64) -> bool) -> Result<LakeTable, ExportError> {
        let sequence = self.snapshot.sequence();
        let shape = ChangeShape::Relist;
        let table = crate::flat::shape_of(shape.columns());
        let mut out = self.held(CHANGES).cloned().unwrap_or_default();
        if out.base_sequence == sequence && !self.options.full {
            return Ok(out);
        }
        if self.options.full {
            out.files.clear();
        }
        // The last day may have gone on since: its file is written again while it is a small one.
        let again = out.files.pop_if(|file| file.rows < SMALL);
        let mut from = match (&again, out.files.is_empty()) {
            (Some(file), _) => file.from.unwrap_or(0),
            (None, true) => self.oldest()?,
            (None, false) => out.base_sequence + 1,
        };
        while from <= sequence {
            let Some((date, end)) = self.day(from, sequence)? else {
                break;
            };
            let folder = format!("{CHANGES}/feed={}/date={date}", self.options.feed);
            let place = format!("{folder}/{from}-{end}.parquet");
            let (snapshot, first) = (self.snapshot, from);
            let mut file = self.write(place, |stream| {
                crate::changes::write_range(snapshot, (first, end), stream, progress)
            })?;
            file.from = Some(from);
            out.files.push(file);
            from = end + 1;
        }
        out.rows = out.files.iter().map(|file| file.rows).sum();
        out.base_sequence = sequence;
        out.schema_digest = table.digest();
        out.columns = table.columns;
        Ok(out)
    }

    /// The first sequence whose change is held.
    fn oldest(&self) -> Result<u64, ExportError> {
        match self.snapshot.changes(0) {
            Ok(_) => Ok(1),
            Err(relist::error::Error::Pruned { oldest }) => Ok(oldest),
            Err(other) => Err(other.into()),
        }
    }

    /// The day on which a sequence was observed, and the last sequence of it.
    fn day(&self, from: u64, last: u64) -> Result<Option<(String, u64)>, ExportError> {
        let mut changes = self.snapshot.changes(from - 1)?;
        let Some(first) = changes.next().transpose()? else {
            return Ok(None);
        };
        let date = first.observed.to_datetime().date();
        let end = date
            .midnight()
            .to_timestamp()
            .map(|start| start.0 + 86_400_000_000 - 1);
        let end = match end {
            Some(end) => {
                let at = relist::store::AsOf::Instant(relist::value::Timestamp(end));
                self.snapshot.resolve(at)?
            }
            None => last,
        };
        Ok(Some((date.to_string(), end.clamp(from, last))))
    }

    /// Moves the new files to their places, makes the manifest valid, and removes what it does not
    /// name.
    fn commit(self, next: &LakeManifest) -> Result<u64, ExportError> {
        for (number, place) in self.new.iter().enumerate() {
            let path = self.folder.join(place);
            let at = |e| ExportError::at("cannot write", &path, e);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(at)?;
            }
            fs::rename(self.temporary.join(format!("{number}.parquet")), &path).map_err(at)?;
        }
        put_json(&manifest_path(self.folder, &self.options.feed), next)?;
        let _ = fs::remove_dir_all(&self.temporary);
        Ok(self.sweep(next))
    }

    /// Removes the files of the feed that the manifest does not name; how many.
    fn sweep(&self, next: &LakeManifest) -> u64 {
        let files = |table: &LakeTable| {
            let both = table.files.iter().chain(&table.updates);
            both.map(|file| self.folder.join(&file.path))
                .collect::<Vec<_>>()
        };
        let named: BTreeSet<PathBuf> = next.tables.values().flat_map(files).collect();
        let mut removed = 0;
        let tables = fs::read_dir(self.folder).into_iter().flatten().flatten();
        for table in tables {
            let feed = table.path().join(format!("feed={}", self.options.feed));
            let mut folders = vec![feed];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                    let path = entry.path();
                    if path.is_dir() {
                        folders.push(path);
                    } else if path.extension().is_some_and(|e| e == "parquet")
                        && !named.contains(&path)
                    {
                        removed += u64::from(fs::remove_file(&path).is_ok());
                    }
                }
                // A folder of a day that has no file any more; others are not empty.
                let _ = fs::remove_dir(&folder);
            }
        }
        removed
    }
}

fn manifest_path(folder: &Path, feed: &str) -> PathBuf {
    folder.join(MANIFESTS).join(format!("feed={feed}.json"))
}

/// Reads the manifest of a feed; `None` when there is none.
///
/// # Errors
/// [`ExportError::Lake`] when it is none of ours, [`ExportError::Io`].
pub fn read_manifest(folder: &Path, feed: &str) -> Result<Option<LakeManifest>, ExportError> {
    let path = manifest_path(folder, feed);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(ExportError::at("cannot read", &path, e)),
    };
    let manifest: LakeManifest = serde_json::from_str(&text)
        .map_err(|e| ExportError::lake(&path, format!("it is no manifest of a lake: {e}")))?;
    if manifest.layout > LAYOUT {
        let what = format!(
            "its layout is {}, this build knows {LAYOUT}: a later one wrote it",
            manifest.layout
        );
        return Err(ExportError::lake(&path, what));
    }
    Ok(Some(manifest))
}
