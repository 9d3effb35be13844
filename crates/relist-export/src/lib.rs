//! Records of a snapshot as NDJSON and CSV.
//!
//! An export is of one [`Snapshot`](relist::store::Snapshot): consistent, whatever is written
//! meanwhile. It streams, in bounded memory, and a file appears whole or not at all.

// The order of these lines is the order of the layers: a module names only those above it.
mod error;
mod cell;
mod csv;
mod write;
mod file;

pub use cell::{CellText, guarded};
pub use csv::{CsvRecords, LineEnd, csv_writer};
pub use error::ExportError;
pub use file::{Target, export};
pub use write::{Format, Request, Summary, write};
