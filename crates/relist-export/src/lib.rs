//! Records of a snapshot as Parquet, Arrow, CSV and JSON.
//!
//! An export is of one [`Snapshot`](relist::store::Snapshot): consistent, whatever is written
//! meanwhile. It streams, in bounded memory, and a file appears whole or not at all.

// The order of these lines is the order of the layers: a module names only those above it.
mod error;
mod workers;
mod cell;
mod csv;
mod item;
mod shape;
mod arrays;
mod hybrid;
mod leaf;
mod encode;
mod rows;
mod parquet;
mod ipc;
mod write;
mod file;
mod manifest;
mod flat;
mod changes;
mod lake;

pub use cell::{CellText, guarded};
pub use changes::{ChangeShape, ChangesRequest, export_changes, write_changes};
pub use csv::{CsvRecords, LineEnd, csv_writer};
pub use error::ExportError;
pub use file::{Compression, Target};
pub use lake::{
    LakeFile, LakeManifest, LakeOptions, LakeReport, LakeTable, read_manifest, update_lake,
};
pub use manifest::{Manifest, export, put_bytes};
pub use shape::{Column, ColumnType, Shape};
pub use write::{Format, Request, Summary, write, write_columns};
