//! Bad input gets a clear error, and nothing is lost: what is at fault is named, the checkpoint
//! covers what was applied and no more, good records are safe, bad ones are kept for a look.

mod answers;
mod disk;
mod feed;
mod files;
mod pages;
mod queries;
mod records;
