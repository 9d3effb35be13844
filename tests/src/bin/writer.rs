//! A process of its own that writes to a store: for tests of what happens beside it or to it.
//!
//! - `writer fill STORE FROM TO`: ingests the pages FROM..TO of [`page`], each in a transaction
//!   of its own, and prints the number of each that is durable. Exits with 3 when the disk is full.
//! - `writer create STORE`: creates a store. Exits with 3 when the disk is full.
//! - `writer hold STORE`: opens a store and prints `held`, then waits for its input to end.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use relist::error::Error;
use relist::store::Store;
use relist::value::Timestamp;
use relist_tests::fresh::{page, try_ingest};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["fill", store, from, to] => fill(store, from.parse().unwrap()..to.parse().unwrap()),
        ["create", store] => Store::create(store, Timestamp(0)).map(|_| ()),
        ["hold", store] => hold(store),
        _ => panic!("{arguments:?}"),
    };
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    println!("{error}");
    match error {
        Error::Storage(error) if error.is_disk_full() => ExitCode::from(3),
        Error::Io { source, .. } if is_full(&source) => ExitCode::from(3),
        _ => ExitCode::FAILURE,
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, StorageFull};
    matches!(error.kind(), FileTooLarge | StorageFull)
}

fn fill(store: &str, pages: std::ops::Range<u32>) -> Result<(), Error> {
    let store = Store::open(store)?;
    for number in pages {
        let name = format!("page {number}");
        try_ingest(
            &store,
            "Property",
            &[(&name, page(number))],
            i64::from(number),
        )?;
        println!("{number}");
        std::io::stdout().flush().unwrap();
    }
    Ok(())
}

fn hold(store: &str) -> Result<(), Error> {
    let _store = Store::open(store)?;
    println!("held");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read(&mut [0]);
    Ok(())
}
