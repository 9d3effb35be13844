//! Parquet: columns of the store become columns of the file, and records are never made.
//!
//! A row group is written field by field, fields in parallel: a field's cells go from their
//! segments into pages, and only those, compressed, are held until the group is written.

use std::io::Write;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use ::parquet::arrow::ArrowSchemaConverter;
use ::parquet::arrow::add_encoded_arrow_schema_to_metadata;
use ::parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::file::metadata::{KeyValue, SortingColumn};
use ::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::ColumnPath;
use arrow_schema::{Field, Schema};
use relist::query::Frame;

use crate::arrays::{array_of, schema_of};
use crate::error::ExportError;
use crate::shape::{ColumnType, Shape};
use crate::workers::all;

/// Rows of a row group at most: what a reader gives to one of its threads.
const GROUP: usize = 122_880;
/// Rows that become one array.
const SLICE: usize = 8_192;
/// zstd's level.
const LEVEL: i32 = 1;

/// Writes a frame as a Parquet file.
///
/// # Errors
/// As [`write`](crate::write()).
pub(crate) fn write_parquet(
    frame: &Frame<'_>,
    shape: &Shape,
    metadata: Vec<(String, String)>,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<(), ExportError> {
    let schema = Arc::new(schema_of(shape, &frame.resource().name));
    let mut properties = properties(frame, shape, metadata)?;
    add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
    let descriptor = ArrowSchemaConverter::new()
        .schema_root("relist")
        .convert(&schema)?;
    let root = descriptor.root_schema_ptr();
    let buffer = Buffer::default();
    let mut file = SerializedFileWriter::new(buffer.clone(), root, Arc::new(properties))?;
    let factory = ArrowRowGroupWriterFactory::new(&file, Arc::clone(&schema));
    let mut done = 0;
    for (number, group) in groups(frame).into_iter().enumerate() {
        let columns = encode_group(frame, shape, &schema, &factory, (number, &group))?;
        let mut writer = file.next_row_group()?;
        for chunk in columns {
            chunk.append_to_row_group(&mut writer)?;
            buffer.drain(out)?;
        }
        writer.close()?;
        done += group.iter().map(ExactSizeIterator::len).sum::<usize>() as u64;
        if !progress(done) {
            return Err(ExportError::Stopped);
        }
    }
    file.close()?;
    buffer.drain(out)
}

/// What was written of a file and not yet given on: the file's writer wants a stream that it may
/// take to another thread, which standard output is not.
#[derive(Debug, Default, Clone)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn drain(&self, out: &mut dyn Write) -> Result<(), ExportError> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(&bytes).map_err(ExportError::stream)?;
        bytes.clear();
        Ok(())
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        own.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn properties(
    frame: &Frame<'_>,
    shape: &Shape,
    metadata: Vec<(String, String)>,
) -> Result<WriterProperties, ExportError> {
    let metadata = metadata
        .into_iter()
        .map(|(key, value)| KeyValue::new(key, value));
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(LEVEL)?))
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("relist version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(GROUP))
        .set_key_value_metadata(Some(metadata.collect()));
    let resource = frame.resource();
    for column in &shape.columns {
        // Keys never repeat.
        if column.name == resource.key_field {
            builder = builder.set_column_dictionary_enabled(ColumnPath::from(&*column.name), false);
        }
    }
    if frame.is_by_key()
        && let Some(key) = leaf_of(shape, &resource.key_field)
    {
        builder = builder.set_sorting_columns(Some(vec![SortingColumn {
            column_idx: key,
            descending: false,
            nulls_first: true,
        }]));
    }
    Ok(builder.build())
}

/// The leaf that a column is, among those of all columns.
fn leaf_of(shape: &Shape, name: &str) -> Option<i32> {
    let mut leaf = 0;
    for column in &shape.columns {
        if column.name == name {
            return Some(leaf);
        }
        leaf += if column.ty == ColumnType::Point { 2 } else { 1 };
    }
    None
}

/// The row groups: chunks of rows that belong together.
fn groups(frame: &Frame<'_>) -> Vec<Vec<Range<usize>>> {
    if frame.is_scattered() {
        // Each read costs nearly the whole column: as few of them as there may be.
        let starts = (0..frame.len()).step_by(GROUP);
        let group = |start: usize| vec![start..frame.len().min(start + GROUP)];
        return starts.map(group).collect();
    }
    let mut out: Vec<Vec<Range<usize>>> = Vec::new();
    let mut rows = GROUP;
    for chunk in frame.chunks() {
        if rows + chunk.len() > GROUP {
            out.push(Vec::new());
            rows = 0;
        }
        rows += chunk.len();
        if let Some(group) = out.last_mut() {
            group.push(chunk.clone());
        }
    }
    out
}

/// A column's place in the shape, its Arrow field, and the writers of its leaves.
type Job = (usize, Arc<Field>, Vec<ArrowColumnWriter>);

fn encode_group(
    frame: &Frame<'_>,
    shape: &Shape,
    schema: &Schema,
    factory: &ArrowRowGroupWriterFactory,
    (number, group): (usize, &[Range<usize>]),
) -> Result<Vec<ArrowColumnChunk>, ExportError> {
    let mut writers = factory.create_column_writers(number)?.into_iter();
    let mut jobs: Vec<Mutex<Option<Job>>> = Vec::with_capacity(shape.columns.len());
    for (at, (column, field)) in shape.columns.iter().zip(schema.fields()).enumerate() {
        let leaves = if column.ty == ColumnType::Point { 2 } else { 1 };
        let own: Vec<ArrowColumnWriter> = writers.by_ref().take(leaves).collect();
        jobs.push(Mutex::new(Some((at, Arc::clone(field), own))));
    }
    let encoded = all(jobs.len(), |at| {
        let job = jobs.get(at).and_then(|job| {
            let mut job = job.lock().unwrap_or_else(PoisonError::into_inner);
            job.take()
        });
        match job {
            Some(job) => encode_column(frame, shape, job, group),
            None => Ok(Vec::new()),
        }
    })?;
    Ok(encoded.into_iter().flatten().collect())
}

fn encode_column(
    frame: &Frame<'_>,
    shape: &Shape,
    (at, field, mut writers): Job,
    group: &[Range<usize>],
) -> Result<Vec<ArrowColumnChunk>, ExportError> {
    let (Some(column), Some(id)) = (shape.columns.get(at), shape.fields.get(at)) else {
        return Ok(Vec::new());
    };
    let mut source = frame.column(*id)?;
    for rows in group {
        let part = source.read(rows.clone())?;
        for start in (0..part.len()).step_by(SLICE) {
            let array = array_of(column, &part, start..part.len().min(start + SLICE))?;
            let leaves = compute_leaves(&field, &array)?;
            for (writer, leaf) in writers.iter_mut().zip(&leaves) {
                writer.write(leaf)?;
            }
        }
    }
    let chunks = writers.into_iter().map(ArrowColumnWriter::close);
    Ok(chunks.collect::<Result<_, _>>()?)
}
