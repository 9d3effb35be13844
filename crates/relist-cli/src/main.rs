//! The `relist` binary.

use std::io::BufWriter;
use std::process::ExitCode;

use relist_cli::{Environment, run};

// Ingest allocates and frees from many threads, where the system's allocator is slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let environment = Environment::of_process();
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut err = std::io::stderr();
    let exit = run(std::env::args_os(), &environment, &mut out, &mut err);
    // What is left in the buffer of a broken pipe has nowhere to go.
    let _ = out.into_parts();
    ExitCode::from(exit.code())
}
