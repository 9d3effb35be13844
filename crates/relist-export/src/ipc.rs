//! Arrow IPC streams: what `pyarrow.ipc.open_stream` and the like read from a pipe.

use std::io::Write;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::Schema;
use relist::query::{Frame, FrameColumn};

use crate::arrays::{array_of, schema_of};
use crate::error::ExportError;
use crate::shape::Shape;
use crate::workers::{Give, in_order};

/// Batches that a thread may be ahead.
const AHEAD: usize = 1;

/// Writes a frame as an Arrow stream, a batch a chunk of rows.
///
/// # Errors
/// As [`write`](crate::write()).
pub(crate) fn write_stream(
    frame: &Frame<'_>,
    shape: &Shape,
    metadata: Vec<(String, String)>,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<(), ExportError> {
    let mut schema = schema_of(shape, &frame.resource().name);
    schema.metadata.extend(metadata);
    let schema: Arc<Schema> = Arc::new(schema);
    let mut stream = StreamWriter::try_new(out, &schema)?;
    let chunks = frame.chunks();
    let begin = || {
        let columns = shape.fields.iter().map(|field| frame.column(*field));
        Ok(columns.collect::<Result<Vec<_>, _>>()?)
    };
    let work = |columns: &mut Vec<FrameColumn<'_>>, at: usize, give: &mut Give<'_, _>| {
        let rows = chunks.get(at).cloned().unwrap_or_default();
        let arrays = columns.iter_mut().zip(&shape.columns).map(|(own, column)| {
            let part = own.read(rows.clone())?;
            array_of(column, &part, 0..part.len())
        });
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_, ExportError>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let schema = Arc::clone(&schema);
        give(RecordBatch::try_new_with_options(schema, arrays, &options)?);
        Ok(())
    };
    let mut done = 0;
    in_order((chunks.len(), AHEAD), begin, work, |batch: RecordBatch| {
        stream.write(&batch)?;
        done += batch.num_rows() as u64;
        if progress(done) {
            Ok(())
        } else {
            Err(ExportError::Stopped)
        }
    })?;
    Ok(stream.finish()?)
}
