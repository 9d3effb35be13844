//! The real binary, by scripts: the files in `tests/scripts`, readable without Rust.
//!
//! `$ command` is run by `sh` in an empty directory, with lines that begin with `| ` as its further
//! lines. Below it stands what it prints: data as it is, messages with `! ` before them, and
//! `? 2` for an exit code that is not 0. `[..]` stands for any text within a line, a line `...` for
//! any lines. What differs from run to run is replaced: a time within a day of now by `NOW`, a
//! length of time by `TIME`, a file's size by `SIZE`, the
//! directory by `FOLDER`, the feed's URL by `FEED`. A script that begins with `# feed N` has a
//! simulated feed of N listings: its URL is in `$FEED`, its token in `$TOKEN`, and
//! `relist-feed-days N` lets days of its market pass.
//!
//! `RELIST_UPDATE=1` writes what is printed into the scripts, for a look at the difference.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test: clippy does not see that helpers belong to one"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use relist::value::DateTime;
use relist_sim::{Conduct, Market, Options, Server, Size};

const TOKEN: &str = "s3cret-t0ken-of-the-scripts";

/// One command and what it is to print.
#[derive(Debug, Default)]
struct Step {
    /// Comments and empty lines before it.
    before: String,
    command: Vec<String>,
    expected: Vec<String>,
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scripts");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "script"));
    paths.sort();
    paths
}

fn parse(text: &str) -> (Vec<Step>, String) {
    let mut steps: Vec<Step> = Vec::new();
    let mut before = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                before: std::mem::take(&mut before),
                command: vec![command.to_owned()],
                expected: Vec::new(),
            });
        } else if line.starts_with('#') || (line.is_empty() && !before.is_empty()) {
            writeln!(before, "{line}").unwrap();
        } else if let Some(step) = steps.last_mut().filter(|_| before.is_empty()) {
            match line.strip_prefix("| ") {
                Some(more) if step.expected.is_empty() => step.command.push(more.to_owned()),
                _ => step.expected.push(line.to_owned()),
            }
        } else {
            writeln!(before, "{line}").unwrap();
        }
    }
    // Empty lines at the end of an output belong to the next step's comments.
    for at in 0..steps.len() {
        while steps[at].expected.last().is_some_and(String::is_empty) {
            steps[at].expected.pop();
            match steps.get_mut(at + 1) {
                Some(next) => next.before.insert(0, '\n'),
                None => before.insert(0, '\n'),
            }
        }
    }
    (steps, before)
}

/// The feed of a script, with a market that its commands can move on.
struct Feed {
    market: Arc<Mutex<Market>>,
    server: Server,
}

impl Feed {
    fn of(text: &str) -> Option<Feed> {
        let listings = text.lines().next()?.strip_prefix("# feed ")?;
        let size = Size::listings(listings.trim().parse().unwrap());
        let conduct = Conduct {
            photo_changes: 0,
            ..Conduct::default()
        };
        let market = Arc::new(Mutex::new(Market::with_conduct(1, size, conduct)));
        let options = Options {
            token: TOKEN.to_owned(),
            ..Options::default()
        };
        let server = Server::start(Arc::clone(&market), options).unwrap();
        Some(Feed { market, server })
    }
}

struct Run {
    folder: tempfile::TempDir,
    feed: Option<Feed>,
}

impl Run {
    fn command(&self, text: &str) -> Vec<String> {
        if let Some(days) = text.strip_prefix("relist-feed-days ") {
            let feed = self.feed.as_ref().unwrap();
            feed.market
                .lock()
                .unwrap()
                .advance_days(days.parse().unwrap());
            return Vec::new();
        }
        let binary = Path::new(env!("CARGO_BIN_EXE_relist"));
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", text])
            .current_dir(self.folder.path())
            .env(
                "PATH",
                format!("{}:{path}", binary.parent().unwrap().display()),
            )
            .env("LC_ALL", "C.UTF-8")
            .env_remove("RELIST_STORE")
            .env_remove("RELIST_TOKEN")
            .env_remove("NO_COLOR")
            .stdin(Stdio::null());
        if let Some(feed) = &self.feed {
            command
                .env("FEED", feed.server.base_url())
                .env("TOKEN", TOKEN);
        }
        let output = command.output().unwrap();
        let (out, err) = (text_of(&output.stdout), text_of(&output.stderr));
        assert!(
            !out.contains(TOKEN) && !err.contains(TOKEN),
            "the token was printed by {text}"
        );
        let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
        lines.extend(err.lines().map(|l| format!("! {l}")));
        match output.status.code() {
            Some(0) => {}
            Some(code) => lines.push(format!("? {code}")),
            None => lines.push(format!("? {}", output.status)),
        }
        let folder = self.folder.path().to_string_lossy().into_owned();
        let url = self.feed.as_ref().map(|f| f.server.base_url());
        let tidy = |line: String| {
            let line = line.replace(&folder, "FOLDER");
            let line = match &url {
                Some(url) => line.replace(url, "FEED"),
                None => line,
            };
            without_measures(&without_now(&line)).trim_end().to_owned()
        };
        let lines: Vec<String> = lines.into_iter().map(tidy).collect();
        lines
    }
}

/// Replaces the times that are within a day of now.
fn without_now(line: &str) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mut out = line.to_owned();
    let mut from = 0;
    while let Some(at) = out[from..].find("20").map(|at| at + from) {
        from = at + 2;
        // `2026-11-24T09:43:12.123456Z`, or to the minute as timelines have it.
        let rest = &out[at..];
        let end = rest.find('Z').map_or(0, |z| z + 1);
        let stamp = rest
            .get(..end)
            .filter(|s| s.len() <= 27)
            .and_then(DateTime::parse);
        let minute = rest
            .get(..16)
            .map(|m| (m, DateTime::parse(&format!("{m}:00Z"))));
        let (len, time) = match (stamp, minute) {
            (Some(time), _) => (end, time),
            (None, Some((minute, Some(time)))) => (minute.len(), time),
            _ => continue,
        };
        if u64::try_from(time.seconds).is_ok_and(|t| t.abs_diff(now) < 86_400) {
            out.replace_range(at..at + len, "NOW");
        }
    }
    out
}

/// Replaces `0.1 s`, with the space before it, `1.5 MB` and `"Seconds":0.1`.
fn without_measures(line: &str) -> String {
    let number = |word: &str| {
        let (whole, part) = word.split_once('.').unwrap_or((word, "0"));
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        digits(whole) && digits(part)
    };
    let mut words: Vec<&str> = Vec::new();
    for word in line.split(' ') {
        let before = words.iter().rposition(|w| !w.is_empty());
        let number = |at: &usize| number(words[*at].trim_start_matches('('));
        match (
            word.trim_end_matches([')', ',', '.', ';']),
            before.filter(number),
        ) {
            ("s", Some(at)) => {
                words.truncate(at);
                while words.last().is_some_and(|w| w.is_empty()) {
                    words.pop();
                }
                words.push("TIME");
            }
            ("kB" | "MB", Some(at)) => {
                words.truncate(at);
                words.push("SIZE");
            }
            _ => words.push(word),
        }
    }
    let line = words.join(" ");
    let Some((start, rest)) = line.split_once("\"Seconds\":") else {
        return line;
    };
    let end = rest.find(',').unwrap_or(0);
    format!("{start}\"Seconds\":TIME{}", &rest[end..])
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec())
        .unwrap()
        .replace('\r', "␍")
}

/// Whether lines are as expected, `...` standing for any.
fn lines_match(expected: &[String], actual: &[String]) -> bool {
    match expected.split_first() {
        None => actual.is_empty(),
        Some((first, rest)) if first == "..." => {
            (0..=actual.len()).any(|skip| lines_match(rest, &actual[skip..]))
        }
        Some((first, rest)) => {
            actual.first().is_some_and(|line| line_matches(first, line))
                && lines_match(rest, &actual[1..])
        }
    }
}

/// Whether a line is as expected, `[..]` standing for any text.
fn line_matches(expected: &str, actual: &str) -> bool {
    match expected.split_once("[..]") {
        None => expected == actual,
        Some((start, rest)) => {
            let Some(after) = actual.strip_prefix(start) else {
                return false;
            };
            let ends = after.char_indices().map(|(at, _)| at).chain([after.len()]);
            ends.into_iter().any(|at| line_matches(rest, &after[at..]))
        }
    }
}

fn run(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).unwrap();
    let (steps, rest) = parse(&text);
    assert!(!steps.is_empty(), "{} has no commands", path.display());
    let run = Run {
        folder: tempfile::tempdir().unwrap(),
        feed: Feed::of(&text),
    };
    let update = std::env::var_os("RELIST_UPDATE").is_some();
    let (mut problems, mut written) = (String::new(), String::new());
    for step in &steps {
        let command = step.command.join("\n");
        let actual = run.command(&command);
        let same = lines_match(&step.expected, &actual);
        let kept = if same { &step.expected } else { &actual };
        let lines = step.command.join("\n| ");
        writeln!(written, "{}$ {lines}", step.before).unwrap();
        for line in kept {
            writeln!(written, "{line}").unwrap();
        }
        if !same {
            let name = path.file_name().unwrap().to_string_lossy();
            let (expected, actual) = (step.expected.join("\n"), actual.join("\n"));
            write!(
                problems,
                "\n{name}: $ {command}\n--- expected\n{expected}\n--- printed\n{actual}\n"
            )
            .unwrap();
        }
    }
    if update {
        std::fs::write(path, written + &rest).unwrap();
        return Ok(());
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

#[test]
fn the_scripts_print_what_they_say() {
    let scripts = scripts();
    assert!(scripts.len() >= 5, "{scripts:?}");
    let only = std::env::var("RELIST_SCRIPT").ok();
    let wanted = |path: &&PathBuf| {
        only.as_ref()
            .is_none_or(|name| path.file_stem().unwrap().to_string_lossy() == *name)
    };
    let results = scripts.iter().filter(wanted).map(|path| run(path));
    let problems: Vec<String> = results.filter_map(Result::err).collect();
    assert!(problems.is_empty(), "{}", problems.concat());
}

#[test]
fn marks_stand_for_any_text() {
    let lines = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    for (expected, actual, same) in [
        ("a/b", "a/b", true),
        ("a/...", "a", true),
        ("a/.../c", "a/b/b/c", true),
        ("a/.../c", "a/b/b", false),
        ("x[..]y[..]", "x1y2", true),
        ("x[..]y", "x1y2", false),
        ("a", "a/b", false),
    ] {
        assert_eq!(
            lines_match(&lines(expected), &lines(actual)),
            same,
            "{expected} {actual}"
        );
    }
}

#[test]
fn every_exit_code_has_a_script() {
    let all: String = scripts()
        .iter()
        .map(|p| std::fs::read_to_string(p).unwrap())
        .collect();
    // 4 needs a second process that holds the store: it has a test of its own.
    for code in [1, 2, 3, 5, 6] {
        assert!(
            all.contains(&format!("\n? {code}\n")),
            "no script exits with {code}"
        );
    }
    let failures = all.lines().filter(|l| l.starts_with("! error:")).count();
    let hints = all.lines().filter(|l| l.starts_with("! hint:")).count();
    assert!(failures >= 20, "{failures} failures");
    assert_eq!(failures, hints, "every failure ends with a hint");
}
