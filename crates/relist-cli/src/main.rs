//! The `relist` binary.

use std::io::BufWriter;
use std::process::ExitCode;

use relist_cli::{Environment, run};

// Ingest allocates and frees from many threads, where the system's allocator is slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // What the engine says of a damaged page as it gives up is in the error that is told.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !relist::store::panic_becomes_error() {
            told(info);
        }
    }));
    let environment = Environment::of_process();
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut err = std::io::stderr();
    let exit = run(std::env::args_os(), &environment, &mut out, &mut err);
    // What is left in the buffer of a broken pipe has nowhere to go.
    let _ = out.into_parts();
    ExitCode::from(exit.code())
}
