//! What a file is an export of, in a small file beside it.

use std::path::{Path, PathBuf};

use relist::store::Snapshot;
use serde::{Deserialize, Serialize};

use crate::error::ExportError;
use crate::file::{Compression, Target, Written, into_file};
use crate::shape::Column;
use crate::write::{Format, Request, Summary, write_columns};

/// What a file is an export of. It says nothing of when it was made: the same snapshot gives the
/// same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The format's name.
    pub format: String,
    /// The resource.
    pub resource: String,
    /// The sequence it is a snapshot of.
    pub sequence: u64,
    /// Of changes: the sequence they come after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// The `$filter`, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// How many records there are.
    pub rows: u64,
    /// How many bytes the file has.
    pub bytes: u64,
    /// Of its bytes, as `xxhsum -H2` prints it.
    pub content_hash: String,
    /// Of its columns' names and types.
    pub schema_digest: String,
    /// Its columns, with a note where one is wider than its field is declared.
    pub columns: Vec<Column>,
}

impl Manifest {
    pub(crate) fn of(request: &Request<'_>, summary: &Summary, written: &Written) -> Self {
        Manifest {
            format: request.format.name().to_owned(),
            resource: request.query.resource.clone(),
            sequence: summary.sequence,
            since: None,
            filter: request.query.filter.as_ref().map(|f| f.text.clone()),
            rows: summary.records,
            bytes: written.bytes,
            content_hash: hash_text(written.hash),
            schema_digest: summary.digest.clone(),
            columns: summary.columns.clone(),
        }
    }

    /// Where the manifest of a file is.
    pub fn beside(file: &Path) -> PathBuf {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".manifest.json");
        file.with_file_name(name)
    }

    /// Writes it beside its file, in the place of one that is there.
    ///
    /// # Errors
    /// [`ExportError::Io`].
    pub fn put(&self, file: &Path) -> Result<(), ExportError> {
        put_json(&Manifest::beside(file), self)
    }

    /// The columns that are wider than their fields are declared, and why.
    pub fn notes(&self) -> impl Iterator<Item = (&str, &str)> {
        let noted = |column: &'_ Column| column.note.is_some();
        self.columns.iter().filter(move |c| noted(c)).map(|column| {
            let note = column.note.as_deref().unwrap_or_default();
            (column.name.as_str(), note)
        })
    }
}

/// Exports into a file: written beside it, synced, then put in its place. What is said of it is for
/// [`Manifest::put`] to write.
///
/// # Errors
/// [`ExportError::Exists`] when the target is there and `replace` is not set; else as
/// [`write_columns`]. The target is then as it was before.
pub fn export(
    snapshot: &Snapshot,
    request: &Request<'_>,
    target: &Target,
    replace: bool,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<(Summary, Manifest), ExportError> {
    let (summary, written) = into_file(target, replace, |out| {
        write_columns(snapshot, request, out, progress)
    })?;
    let manifest = Manifest::of(request, &summary, &written);
    Ok((summary, manifest))
}

/// A hash as a manifest has it.
pub(crate) fn hash_text(hash: u128) -> String {
    format!("xxh3-128:{hash:032x}")
}

/// Puts bytes in the place of a file, whole or not at all.
///
/// # Errors
/// [`ExportError::Io`].
pub fn put_bytes(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let target = Target {
        path: path.to_owned(),
        format: Format::Json,
        compression: Compression::None,
    };
    into_file(&target, true, |out| {
        out.write_all(bytes).map_err(ExportError::stream)
    })?;
    Ok(())
}

/// Puts a JSON document in the place of a file, whole or not at all.
pub(crate) fn put_json(path: &Path, document: &impl Serialize) -> Result<(), ExportError> {
    let mut text =
        serde_json::to_vec_pretty(document).map_err(|e| ExportError::stream(e.into()))?;
    text.push(b'\n');
    put_bytes(path, &text)
}
