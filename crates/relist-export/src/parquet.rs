//! Parquet: columns of the store become columns of the file, and records are never made.
//!
//! A row group is written field by field, fields in parallel: a field's cells go from their
//! segments into pages, and only those, compressed, are held until the group is written.

use std::io::Write;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use ::parquet::arrow::add_encoded_arrow_schema_to_metadata;
use ::parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use ::parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::file::metadata::{KeyValue, SortingColumn};
use ::parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::ColumnDescPtr;
use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow_schema::{DataType, Field, Schema};
use relist::keycode::Key;
use relist::query::{Frame, Part};

use crate::arrays::{array_of, schema_of};
use crate::encode::{encode, is_own};
use crate::error::ExportError;
use crate::leaf::{Encoded, Leaf};
use crate::shape::{ColumnType, Shape};
use crate::workers::all;

/// Rows of a row group at most: what a reader gives to one of its threads.
const GROUP: usize = 122_880;
/// Rows that become one array.
const SLICE: usize = 8_192;
/// zstd's level.
const LEVEL: i32 = 1;

/// Writes a range of a frame's rows, which begins and ends where chunks do, as a Parquet file.
///
/// # Errors
/// As [`write`](crate::write()).
pub(crate) fn write_parquet(
    frame: &Frame<'_>,
    shape: &Shape,
    metadata: Vec<(String, String)>,
    rows: Range<usize>,
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
    let leaves = file.schema_descr().columns().to_vec();
    let mut done = 0;
    for (number, group) in groups(frame, &rows).into_iter().enumerate() {
        let writers = factory.create_column_writers(number)?;
        let jobs = jobs(shape, &schema, &leaves, writers);
        let columns = encode_group(frame, shape, &jobs, &group)?;
        let mut writer = file.next_row_group()?;
        for chunk in columns {
            match chunk {
                Chunk::Own(chunk) => chunk.append_to(&mut writer)?,
                Chunk::Arrow(chunk) => chunk.append_to_row_group(&mut writer)?,
            }
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
pub(crate) struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    pub(crate) fn drain(&self, out: &mut dyn Write) -> Result<(), ExportError> {
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

fn compression() -> Result<Compression, ExportError> {
    Ok(Compression::ZSTD(ZstdLevel::try_new(LEVEL)?))
}

/// How every Parquet file of ours is written.
pub(crate) fn plain_properties() -> Result<WriterPropertiesBuilder, ExportError> {
    Ok(WriterProperties::builder()
        .set_compression(compression()?)
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("relist version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(GROUP)))
}

fn properties(
    frame: &Frame<'_>,
    shape: &Shape,
    metadata: Vec<(String, String)>,
) -> Result<WriterProperties, ExportError> {
    let metadata = metadata
        .into_iter()
        .map(|(key, value)| KeyValue::new(key, value));
    let mut builder = plain_properties()?.set_key_value_metadata(Some(metadata.collect()));
    let resource = frame.resource();
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

/// The row groups of a range of rows: chunks that belong together.
fn groups(frame: &Frame<'_>, rows: &Range<usize>) -> Vec<Vec<Range<usize>>> {
    if frame.is_scattered() {
        // Each read costs nearly the whole column: as few of them as there may be.
        let starts = rows.clone().step_by(GROUP);
        let group = |start: usize| start..rows.end.min(start + GROUP);
        return starts.map(group).map(|rows| Vec::from([rows])).collect();
    }
    let mut out: Vec<Vec<Range<usize>>> = Vec::new();
    let mut held = GROUP;
    let own = |chunk: &&Range<usize>| chunk.start >= rows.start && chunk.end <= rows.end;
    for chunk in frame.chunks().iter().filter(own) {
        if held + chunk.len() > GROUP {
            out.push(Vec::new());
            held = 0;
        }
        held += chunk.len();
        if let Some(group) = out.last_mut() {
            group.push(chunk.clone());
        }
    }
    out
}

/// What rows of updates have beside the resource's fields.
#[derive(Debug)]
pub(crate) struct Extra {
    /// The key's field.
    pub(crate) key: String,
    /// The keys of records that are gone.
    pub(crate) gone: Vec<Key>,
    /// The sequence that the rows are as of.
    pub(crate) sequence: u64,
}

/// The column that says whether a record is gone.
const DELETED: &str = "_deleted";

/// Writes what became of some records: all their fields, or that they are gone. Few enough that
/// they are read one by one. How many rows there are.
pub(crate) fn write_updates(
    frame: &Frame<'_>,
    shape: &Shape,
    extra: &Extra,
    out: &mut dyn Write,
) -> Result<u64, ExportError> {
    let own = schema_of(shape, &frame.resource().name);
    let mut fields: Vec<Arc<Field>> = own.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(DELETED, DataType::Boolean, false)));
    let schema = Arc::new(Schema::new_with_metadata(fields, own.metadata));
    let metadata = vec![KeyValue::new(
        "relist.sequence".to_owned(),
        extra.sequence.to_string(),
    )];
    let properties = plain_properties()?
        .set_key_value_metadata(Some(metadata))
        .build();
    let buffer = Buffer::default();
    let mut file = ArrowWriter::try_new(buffer.clone(), Arc::clone(&schema), Some(properties))?;
    for start in (0..frame.len()).step_by(SLICE) {
        let rows = start..frame.len().min(start + SLICE);
        let parts = frame.parts(&shape.fields, rows.clone())?;
        let mut arrays = Vec::with_capacity(parts.len() + 1);
        for (column, part) in shape.columns.iter().zip(&parts) {
            arrays.push(array_of(column, part, 0..part.len())?);
        }
        arrays.push(Arc::new(BooleanArray::from(vec![false; rows.len()])));
        file.write(&RecordBatch::try_new(Arc::clone(&schema), arrays)?)?;
        file.flush()?;
        buffer.drain(out)?;
    }
    if !extra.gone.is_empty() {
        let count = extra.gone.len();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(shape.columns.len() + 1);
        for (column, field) in shape.columns.iter().zip(schema.fields()) {
            arrays.push(if column.name == extra.key {
                keys(&extra.gone)
            } else {
                new_null_array(field.data_type(), count)
            });
        }
        arrays.push(Arc::new(BooleanArray::from(vec![true; count])));
        file.write(&RecordBatch::try_new(Arc::clone(&schema), arrays)?)?;
    }
    file.close()?;
    buffer.drain(out)?;
    Ok((frame.len() + extra.gone.len()) as u64)
}

fn keys(keys: &[Key]) -> ArrayRef {
    let numbers: Option<Vec<i64>> = keys
        .iter()
        .map(|key| match key {
            Key::Int(number) => Some(*number),
            Key::Str(_) => None,
        })
        .collect();
    match numbers {
        Some(numbers) => Arc::new(Int64Array::from(numbers)),
        None => Arc::new(StringArray::from_iter_values(
            keys.iter().map(ToString::to_string),
        )),
    }
}

/// A column's place in the shape, its Arrow field, its leaves, and the writers of those.
type Job = (usize, Arc<Field>, Vec<(ColumnDescPtr, ArrowColumnWriter)>);

/// A column chunk that waits for its turn in the file.
enum Chunk {
    Own(Encoded),
    Arrow(ArrowColumnChunk),
}

fn jobs(
    shape: &Shape,
    schema: &Schema,
    leaves: &[ColumnDescPtr],
    writers: Vec<ArrowColumnWriter>,
) -> Vec<Mutex<Option<Job>>> {
    let mut leaves = leaves.iter().cloned().zip(writers);
    let mut jobs = Vec::with_capacity(shape.columns.len());
    for (at, (column, field)) in shape.columns.iter().zip(schema.fields()).enumerate() {
        let count = if column.ty == ColumnType::Point { 2 } else { 1 };
        let own = leaves.by_ref().take(count).collect();
        jobs.push(Mutex::new(Some((at, Arc::clone(field), own))));
    }
    jobs
}

fn encode_group(
    frame: &Frame<'_>,
    shape: &Shape,
    jobs: &[Mutex<Option<Job>>],
    group: &[Range<usize>],
) -> Result<Vec<Chunk>, ExportError> {
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
    (at, field, mut leaves): Job,
    group: &[Range<usize>],
) -> Result<Vec<Chunk>, ExportError> {
    let (Some(column), Some(id)) = (shape.columns.get(at), shape.fields.get(at)) else {
        return Ok(Vec::new());
    };
    let mut source = frame.column(*id)?;
    if let [(descriptor, _)] = leaves.as_slice()
        && is_own(&column.ty)
        && let Some(leaf) = Leaf::new(Arc::clone(descriptor), (compression()?, LEVEL))?
    {
        let encoded = encode(column, leaf, &mut source, group)?;
        return Ok(vec![Chunk::Own(encoded)]);
    }
    let mut part = Part::default();
    for rows in group {
        source.read_into(rows.clone(), &mut part)?;
        for start in (0..part.len()).step_by(SLICE) {
            let array = array_of(column, &part, start..part.len().min(start + SLICE))?;
            let values = compute_leaves(&field, &array)?;
            for ((_, writer), values) in leaves.iter_mut().zip(&values) {
                writer.write(values)?;
            }
        }
    }
    let chunks = leaves.into_iter();
    let chunks = chunks.map(|(_, writer)| Ok(Chunk::Arrow(writer.close()?)));
    chunks.collect()
}
