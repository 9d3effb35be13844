//! Records of a snapshot as Parquet, Arrow, CSV and JSON.
//!
//! An export is of one [`Snapshot`](relist::store::Snapshot): consistent, whatever is written
//! meanwhile. It streams, in bounded memory, and a file appears whole or not at all.

// The order of these lines is the order of the layers: a module names only those above it.
mod error;
mod workers;
mod cell;
mod csv;
mod shape;
mod arrays;
mod rows;
mod parquet;
mod ipc;
mod write;
mod manifest;
mod file;

pub use cell::{CellText, guarded};
pub use csv::{CsvRecords, LineEnd, csv_writer};
pub use error::ExportError;
pub use file::{Compression, Target, export};
pub use manifest::Manifest;
pub use shape::{Column, ColumnType, Shape};
pub use write::{Format, Request, Summary, write, write_columns};
