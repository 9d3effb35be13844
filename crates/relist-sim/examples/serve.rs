//! Serves a simulated market until it is stopped.
//!
//! `cargo run -p relist-sim --example serve -- --port 8080 --seed 1 --listings 2000
//! --days-per-minute 1`

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relist_sim::{Market, Options, Server, Size};

const USAGE: &str = "usage: serve [--port N] [--seed N] [--listings N] [--days-per-minute N]";

struct Arguments {
    port: u16,
    seed: u64,
    listings: u32,
    days_per_minute: u32,
}

fn arguments() -> Result<Arguments, String> {
    let mut out = Arguments {
        port: 0,
        seed: 1,
        listings: 2_000,
        days_per_minute: 1,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words
            .next()
            .ok_or_else(|| format!("{word} needs a value"))?;
        let bad = |_| format!("{word} {value}: not a number in range");
        match word.as_str() {
            "--port" => out.port = value.parse().map_err(bad)?,
            "--seed" => out.seed = value.parse().map_err(bad)?,
            "--listings" => out.listings = value.parse().map_err(bad)?,
            "--days-per-minute" => out.days_per_minute = value.parse().map_err(bad)?,
            _ => return Err(format!("{word} is not known")),
        }
    }
    Ok(out)
}

#[expect(clippy::print_stderr, reason = "an example talks to a person")]
fn main() -> ExitCode {
    match arguments().map(serve) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

#[expect(clippy::print_stdout, reason = "an example talks to a person")]
#[expect(clippy::needless_pass_by_value, reason = "called once, by `map`")]
fn serve(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let size = Size::listings(arguments.listings);
    let market = Arc::new(Mutex::new(Market::new(arguments.seed, size)));
    let options = Options {
        port: arguments.port,
        ..Options::default()
    };
    let server = Server::start(Arc::clone(&market), options)?;
    println!("{}", server.base_url());
    println!("token: {}", server.token());
    let (started, mut played) = (Instant::now(), 0);
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let due = started.elapsed().as_secs() * u64::from(arguments.days_per_minute) * 86_400 / 60;
        let step = u32::try_from(due - played)?;
        played = due;
        market
            .lock()
            .map_err(|_| "the server failed")?
            .advance(step);
    }
}
