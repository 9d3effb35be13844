//! docs/from-the-python-guide.md: its commands are run, and its function is called, as they stand.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at whatever is wrong")]
#![expect(clippy::print_stdout, reason = "the guide's function prints")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relist_feed::{Limits, Profile, Token, WebApi};
use relist_sim::{Event, Market, Options, Photos, Server, Size, Status};

use relist::source::PageSource;
use relist::store::{RunReport, Store};
use relist::sync::{Policy, SyncMode, SyncOptions};
use relist::value::Timestamp;

/// `source` is a `relist_feed::WebApi`, saved pages, or anything else that answers requests.
fn incremental(
    store: &Store,
    source: &mut dyn PageSource,
    policy: &Policy,
    now: &dyn Fn() -> Timestamp,
) -> relist::error::Result<RunReport> {
    let options = SyncOptions {
        mode: SyncMode::Auto,
        max_pages: None,
        confirm: false,
        now,
    };
    let report = store.sync(
        "Property",
        source,
        policy,
        &options,
        &mut |_: &RunReport| {},
    )?;
    println!("{} new, {} updated", report.inserted, report.updated);
    Ok(report)
}

const GUIDE: &str = include_str!("../../../docs/from-the-python-guide.md");

/// The blocks of the page that are in a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let blocks = GUIDE.split(fence.as_str()).skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[test]
fn its_function_is_the_one_that_is_run_here() {
    let own = include_str!("guide.rs");
    let [block] = blocks("rust")[..] else {
        panic!("one block of Rust");
    };
    // Lines are broken where this file's are; the words are the same.
    let words = |text: &str| -> String {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        text.replace(",)", ")")
    };
    let own = words(own);
    for part in block.split("\n\n") {
        assert!(own.contains(&words(part)), "not run here:\n{part}");
    }
    let market = Arc::new(Mutex::new(Market::new(5, Size::listings(300))));
    let server = Server::start(Arc::clone(&market), Options::default()).unwrap();
    let profile = Profile::named("wfrmls").unwrap();
    let policy = profile.policy("Property").unwrap();
    let token = Token::from_env_value("T", server.token()).unwrap();
    let mut api = WebApi::new(profile, &server.base_url(), token, Limits::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let now = || Timestamp(1_800_000_000_000_000);
    let store = Store::create(folder.path().join("relist.redb"), now()).unwrap();
    let first = incremental(&store, &mut api, &policy, &now).unwrap();
    assert_eq!(first.inserted, 300);
    {
        let mut market = market.lock().unwrap();
        let key = market.keys_of(Status::Active).next().unwrap();
        market.advance(60);
        assert!(market.play(key, Event::CutPrice));
    }
    let second = incremental(&store, &mut api, &policy, &now).unwrap();
    assert_eq!((second.inserted, second.price_changes), (0, 1));
}

/// The commands that the page names, in its order.
fn commands() -> Vec<String> {
    let mut commands = Vec::new();
    // Between fences it is every second piece that is text; there, every second one between ticks
    // that is code.
    for (at, piece) in GUIDE.split("```").enumerate() {
        if at % 2 == 1 {
            let lines = piece.lines().filter_map(|line| line.strip_prefix("$ "));
            commands.extend(lines.map(str::to_owned));
        } else {
            let code = piece.split('`').skip(1).step_by(2);
            commands.extend(code.map(|code| code.replace('\n', " ").replace("\\|", "|")));
        }
    }
    commands.retain(|command| command.starts_with("relist "));
    commands
}

fn sh(folder: &Path, token: &str, command: &str) -> Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_relist")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut sh = Command::new("sh");
    sh.arg("-c")
        .arg(command)
        .current_dir(folder)
        .env("PATH", path)
        .env("RELIST_TOKEN", token)
        .env_remove("RELIST_STORE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    sh
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

#[test]
fn its_commands_run() {
    let market = Arc::new(Mutex::new(Market::new(5, Size::listings(150))));
    let photos = Photos::start().unwrap();
    let options = Options {
        gzip: false,
        alter: Some(photos.alter()),
        ..Options::default()
    };
    let server = Server::start(Arc::clone(&market), options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let keys: Vec<u32> = market.lock().unwrap().keys().take(2).collect();
    let [first, second] = keys[..] else {
        panic!("two listings");
    };
    let commands = commands();
    assert!(commands.len() > 15, "{commands:?}");
    for command in &commands {
        let typed = command
            .replace("K1,K2", &format!("{first},{second}"))
            .replace("KEY", &first.to_string())
            .replace("CMD", "'cat > /dev/null'");
        let typed = match typed.split(' ').collect::<Vec<_>>()[..] {
            ["relist", "init", ..] => format!("{typed} --url {}", server.base_url()),
            // What is only named must be a command.
            ["relist", "query" | "each"] => format!("{typed} --help"),
            _ => typed,
        };
        if typed == "relist schedule run" {
            ends_when_told_to(sh(folder.path(), server.token(), &format!("exec {typed}")));
            continue;
        }
        let output = sh(folder.path(), server.token(), &typed).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{typed}\n{}", text(&output));
        if typed.starts_with("relist init") {
            let file = folder.path().join("relist.toml");
            let config = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, config + "\n[media]\nallow_loopback = true\n").unwrap();
        }
    }
    for recipe in [
        "sync --full",
        "media sync",
        "watch --rule",
        "each Property",
        "report",
    ] {
        assert!(commands.iter().any(|c| c.contains(recipe)), "{recipe}");
    }
}

/// A schedule runs until it is told to end.
fn ends_when_told_to(mut command: Command) {
    let mut child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    let id = child.id().to_string();
    let told = Command::new("kill").args(["-TERM", &id]).status().unwrap();
    assert!(told.success());
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_mins(1), "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
