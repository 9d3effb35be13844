//! The relist command.
fn main() {}
