//! The rules of the code base that a reviewer would otherwise have to watch: layers, sizes, what
//! a part may not name. Each rule is a function from a source to its problems, and each has a
//! test that it catches a planted offender.

mod source;

use relist_tests::data;
use source::{Source, functions, line_of, paths};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const MAX_COLUMNS: usize = 100;
const MAX_FILE_LINES: usize = 800;
const MAX_FUNCTION_LINES: usize = 70;

const LIBRARY: &str = "crates/relist/src/";

/// What some sources may not name.
struct Ban {
    /// The sources it holds for, by the start of their paths.
    within: &'static str,
    /// Except for these, by the start of their paths.
    except: &'static [&'static str],
    /// The paths, macros and segments of paths that they may not name.
    names: &'static [&'static str],
    why: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        within: "crates/",
        except: &["crates/relist/src/store/", "crates/relist/src/store.rs"],
        names: &["redb"],
        why: "only the store knows the storage engine",
    },
    Ban {
        within: "crates/",
        except: &["crates/relist/src/ingest"],
        names: &["crossbeam_channel"],
        why: "only ingest has a pipeline",
    },
    Ban {
        within: "crates/",
        except: &[
            "crates/relist/src/column/",
            "crates/relist/src/query/",
            "crates/relist/src/ingest",
            "crates/relist/src/store/stage.rs",
        ],
        names: &["rayon"],
        why: "only columns, queries, ingest and staging work on all cores",
    },
    Ban {
        within: LIBRARY,
        except: &[],
        names: &[
            "std::env",
            "option_env!",
            "SystemTime",
            "Instant::now",
            "Utc::now",
            "Local::now",
        ],
        why: "the library reads no clock and no environment: the caller passes them in",
    },
    Ban {
        within: LIBRARY,
        except: &[],
        names: &[
            "print!",
            "println!",
            "eprint!",
            "eprintln!",
            "dbg!",
            "stdout",
            "stderr",
        ],
        why: "the library prints nothing",
    },
    Ban {
        within: LIBRARY,
        except: &[],
        names: &["reqwest", "clap", "tokio", "TcpStream", "TcpListener"],
        why: "the library knows no network and no command line",
    },
    Ban {
        within: "crates/relist/src/query",
        except: &[],
        names: &["WriteTxn", "begin_write"],
        why: "a query never writes",
    },
];

/// What the workspace leaves out: built with instrumentation, or a peer of the benchmarks.
const OUTSIDE: [&str; 2] = ["fuzz/", "benches/peers/"];

/// Which packages of the workspace a package may depend on. Tests and benches may use all.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("relist", &[]),
    ("relist-feed", &["relist"]),
    ("relist-export", &["relist"]),
    ("relist-sim", &["relist"]),
    ("relist-serve", &["relist"]),
    (
        "relist-cli",
        &[
            "relist",
            "relist-feed",
            "relist-export",
            "relist-sim",
            "relist-serve",
        ],
    ),
];

fn bans(source: &Source) -> Vec<String> {
    let product = source.product();
    let applying = BANS.iter().filter(|ban| {
        source.path.starts_with(ban.within)
            && !ban.except.iter().any(|e| source.path.starts_with(e))
    });
    let applying: Vec<_> = applying.collect();
    let mut problems = Vec::new();
    for (at, path) in paths(product) {
        let framed = format!("::{path}::");
        for ban in &applying {
            for name in ban.names {
                if framed.contains(&format!("::{name}::")) {
                    problems.push(source.at(at, &format!("names {name}: {}", ban.why)));
                }
            }
        }
    }
    problems
}

/// The modules of a crate root in their order.
fn layers(root: &str) -> Vec<String> {
    let modules = root.lines().filter_map(|line| {
        let (visibility, name) = line.split_once("mod ")?;
        let is_module = visibility.is_empty() || visibility.starts_with("pub");
        is_module.then_some(name)?.strip_suffix(';')
    });
    modules.map(str::to_owned).collect()
}

fn upward_imports(layers: &[String], source: &Source) -> Vec<String> {
    let Some(inside) = source.path.strip_prefix(LIBRARY).filter(|p| *p != "lib.rs") else {
        return Vec::new();
    };
    let segments: Vec<_> = inside.trim_end_matches(".rs").split('/').collect();
    let depth = segments.iter().filter(|s| **s != "mod").count();
    let Some(own) = layers.iter().position(|l| l == segments[0]) else {
        return vec![format!("{}: not a module of lib.rs", source.path)];
    };
    let mut problems = Vec::new();
    for (at, path) in paths(source.product()) {
        let supers = path.split("::").take_while(|s| *s == "super").count();
        let mut rest = path.split("::").skip(supers);
        let named = match (supers, path.strip_prefix("crate::")) {
            (0, Some(rest)) => rest.split("::").next(),
            (n, _) if n > 0 && n == depth => rest.next(),
            (n, _) if n > depth => Some("super"),
            _ => None,
        };
        let Some(named) = named else { continue };
        let problem = match layers.iter().position(|l| l == named) {
            Some(layer) if layer <= own => continue,
            Some(_) => format!("{} names {named}, a layer above it", layers[own]),
            None => format!("names {path}, which is not a module of lib.rs"),
        };
        problems.push(source.at(at, &problem));
    }
    problems
}

/// The names that a manifest's dependency tables hold.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if let Some(table) = line.strip_prefix('[') {
            inside = table.trim_end_matches(']').ends_with("dependencies");
        } else if inside {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            if !name.is_empty() && !name.starts_with('#') {
                names.push(name.trim_matches('"').to_owned());
            }
        }
    }
    names
}

fn manifest_problems(path: &str, manifest: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let name = manifest
        .lines()
        .find_map(|l| l.strip_prefix("name = "))
        .unwrap_or_default();
    let name = name.trim_matches('"');
    let allowed = DIRECTIONS
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, allowed)| *allowed);
    let free = matches!(name, "relist-tests" | "relist-benches");
    let linted = manifest.contains("[lints]\nworkspace = true");
    if !linted && (!free || !manifest.contains("[lints.")) {
        problems.push(format!("{path}: does not take the lints of the workspace"));
    }
    if allowed.is_none() && !free {
        problems.push(format!(
            "{path}: {name} has no place in the directions of the crates"
        ));
    }
    for dependency in dependencies(manifest) {
        let ours = dependency == "relist" || dependency.starts_with("relist-");
        let reached = allowed.is_some_and(|a| a.contains(&dependency.as_str()));
        let test = matches!(dependency.as_str(), "relist-tests" | "relist-benches");
        if ours && !reached && (test || !free) {
            problems.push(format!("{path}: {name} may not depend on {dependency}"));
        }
        if name == "relist" && matches!(dependency.as_str(), "reqwest" | "clap" | "tokio") {
            problems.push(format!(
                "{path}: the library may not depend on {dependency}"
            ));
        }
    }
    problems
}

fn long_lines(path: &str, text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, l)| l.chars().count() > MAX_COLUMNS);
    lines
        .map(|(i, _)| format!("{path}:{}: longer than {MAX_COLUMNS} columns", i + 1))
        .collect()
}

fn sizes(source: &Source) -> Vec<String> {
    if source.path.contains("/tests/") {
        return Vec::new();
    }
    let product = source.product();
    let mut problems = Vec::new();
    let lines = product.lines().count();
    if lines > MAX_FILE_LINES {
        problems.push(format!(
            "{}: {lines} lines, at most {MAX_FILE_LINES}",
            source.path
        ));
    }
    for (name, place) in functions(product) {
        let lines = product[place.clone()].lines().count();
        if lines > MAX_FUNCTION_LINES {
            let problem = format!("{name} has {lines} lines, at most {MAX_FUNCTION_LINES}");
            problems.push(source.at(place.start, &problem));
        }
    }
    problems
}

fn unfinished(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    for (at, path) in paths(&source.code) {
        if matches!(path.rsplit("::").next(), Some("todo!" | "unimplemented!")) {
            problems.push(source.at(at, &format!("{path} is not finished")));
        }
    }
    for (at, _) in source.code.match_indices("#[ignore") {
        problems.push(source.at(at, "an ignored test"));
    }
    for mark in ["FIXME", "XXX", "TODO"] {
        for (at, _) in source.comments.match_indices(mark) {
            problems.push(source.at(at, &format!("a comment says {mark}")));
        }
    }
    problems
}

fn exceptions_without_reason(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    for opening in ["#[expect(", "#[allow(", "#![expect(", "#![allow("] {
        for (at, _) in source.code.match_indices(opening) {
            let rest = &source.code[at..];
            let attribute = rest
                .split_once(")]")
                .map_or(rest, |(attribute, _)| attribute);
            if !attribute.contains("reason = ") {
                problems.push(source.at(at, "an exception to a lint without its reason"));
            }
        }
    }
    problems
}

/// Paths of somebody's machine. (Pieced together, so that this file does not name them.)
fn machine_paths(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for place in ["work", "root", "home", "Users"] {
        let place = format!("/{place}/");
        for (at, _) in text.match_indices(&place) {
            let before = text[..at].chars().next_back();
            // Part of a longer path or of a URL: no root of a machine.
            if before.is_some_and(|c| c.is_alphanumeric() || "._-}/".contains(c)) {
                continue;
            }
            let line = line_of(text, at);
            problems.push(format!(
                "{path}:{line}: names {place}, a place of one machine"
            ));
        }
    }
    problems
}

/// The commands that a help text lists and a document does not show as `relist COMMAND`.
fn undocumented(help: &str, document: &str) -> Vec<String> {
    let listed = help
        .lines()
        .skip_while(|l| !l.starts_with("Commands:"))
        .skip(1);
    let listed = listed.take_while(|l| l.starts_with("  "));
    // A name stands two columns in; deeper lines go on with the text of the one before.
    let names = listed
        .filter(|l| !l.starts_with("   "))
        .filter_map(|l| l.split_whitespace().next());
    let names = names.filter(|n| *n != "help" && !document.contains(&format!("relist {n}")));
    names
        .map(|n| format!("the README does not show `relist {n}`"))
        .collect()
}

/// What is not of the project: the repository's own records, and what is built or found.
const SKIPPED: [&str; 5] = [".git", "target", "artifacts", "corpus", "__pycache__"];

/// Every text file of the project, by its path from the root.
fn project() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut directories = vec![data::root()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                files.insert(relative(&path), text);
            }
        }
    }
    files
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(data::root()).unwrap();
    path.to_string_lossy().replace('\\', "/")
}

fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn rust_sources() -> Vec<Source> {
    let files = project();
    let rust = files.iter().filter(|(path, _)| extension(path) == "rs");
    let sources: Vec<_> = rust.map(|(path, text)| Source::new(path, text)).collect();
    assert!(
        sources.iter().any(|s| s.path == "crates/relist/src/lib.rs"),
        "no sources found"
    );
    sources
}

/// Fails with every problem that the rule finds in the sources of the project.
fn hold(rule: impl Fn(&Source) -> Vec<String>) {
    let problems: Vec<_> = rust_sources().iter().flat_map(rule).collect();
    none(&problems);
}

fn none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn no_part_names_what_it_may_not_know() {
    hold(bans);
}

#[test]
fn a_module_of_the_library_names_only_layers_below_it() {
    let root = fs::read_to_string(data::root().join(LIBRARY).join("lib.rs")).unwrap();
    let layers = layers(&root);
    assert!(layers.contains(&"value".to_owned()), "{layers:?}");
    hold(|source| upward_imports(&layers, source));
}

#[test]
fn crates_depend_in_one_direction() {
    let files = project();
    let ours = |path: &str| OUTSIDE.iter().all(|folder| !path.starts_with(folder));
    let manifests = files.iter().filter(|(path, text)| {
        path.ends_with("Cargo.toml") && ours(path) && text.contains("[package]")
    });
    let manifests: Vec<_> = manifests.collect();
    assert!(manifests.len() >= 6, "{} manifests", manifests.len());
    let problems: Vec<_> = manifests
        .iter()
        .flat_map(|(path, text)| manifest_problems(path, text))
        .collect();
    none(&problems);
}

#[test]
fn lines_are_not_longer_than_a_screen() {
    let files = project();
    let code = files
        .iter()
        .filter(|(path, _)| matches!(extension(path), "rs" | "py") || path.as_str() == ".ci/run");
    let problems: Vec<_> = code
        .flat_map(|(path, text)| long_lines(path, text))
        .collect();
    none(&problems);
}

#[test]
fn files_and_functions_are_small() {
    hold(sizes);
}

#[test]
fn nothing_is_left_unfinished() {
    hold(unfinished);
}

#[test]
fn every_exception_to_a_lint_has_its_reason() {
    hold(exceptions_without_reason);
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    let files = project();
    let problems: Vec<_> = files
        .iter()
        .flat_map(|(path, text)| machine_paths(path, text))
        .collect();
    none(&problems);
}

#[test]
fn planted_names_are_caught() {
    let caught = |path: &str, text: &str| bans(&Source::new(path, text)).len();
    for (path, text) in [
        ("crates/relist/src/query/scan.rs", "use redb::Database;"),
        (
            "crates/relist-cli/src/main.rs",
            "fn f(db: &redb::Database) {}",
        ),
        ("crates/relist/src/decode.rs", "use rayon::prelude::*;"),
        ("crates/relist/src/store/mod.rs", "use rayon::prelude::*;"),
        (
            "crates/relist/src/query/mod.rs",
            "use crossbeam_channel::bounded;",
        ),
        (
            "crates/relist/src/sync.rs",
            "let x = crossbeam_channel::bounded(1);",
        ),
        ("crates/relist/src/value/time.rs", "use std::{env, fs};"),
        (
            "crates/relist/src/value/time.rs",
            "let t = std::time::SystemTime::now();",
        ),
        ("crates/relist/src/store/mod.rs", "let t = Instant::now();"),
        (
            "crates/relist/src/store/mod.rs",
            "fn f() { println!(\"x\"); }",
        ),
        ("crates/relist/src/store/mod.rs", "use reqwest::Client;"),
        (
            "crates/relist/src/query/exec.rs",
            "fn f(t: &mut WriteTxn) {}",
        ),
    ] {
        assert_eq!(caught(path, text), 1, "{path}: {text}");
    }
    for (path, text) in [
        ("crates/relist/src/store/tables.rs", "use redb::Database;"),
        ("crates/relist/src/ingest.rs", "use rayon::prelude::*;"),
        ("crates/relist/src/column/job.rs", "use rayon::prelude::*;"),
        ("crates/relist/src/query/table.rs", "use rayon::prelude::*;"),
        (
            "crates/relist-cli/src/main.rs",
            "let t = SystemTime::now();",
        ),
        (
            "crates/relist/src/sync.rs",
            "// redb and println! in words\nlet s = \"std::env\";",
        ),
        (
            "crates/relist/src/sync.rs",
            "#[cfg(test)]\nmod tests { use std::env; }",
        ),
    ] {
        assert_eq!(caught(path, text), 0, "{path}: {text}");
    }
}

#[test]
fn planted_upward_imports_are_caught() {
    let layers = layers("pub mod error;\npub(crate) mod value;\nmod store;\npub mod query;\n");
    let caught = |path: &str, text: &str| {
        upward_imports(&layers, &Source::new(&format!("{LIBRARY}{path}"), text)).len()
    };
    for (path, text) in [
        ("value/mod.rs", "use crate::store::Store;"),
        ("value.rs", "use crate::{error::Error, query::Plan};"),
        ("value/time.rs", "fn f(s: &crate::query::Plan) {}"),
        ("value/time.rs", "use super::super::store::Store;"),
        ("value.rs", "use super::query;"),
        ("store/mod.rs", "use crate::Result;"),
        ("odd.rs", ""),
    ] {
        assert_eq!(caught(path, text), 1, "{path}: {text}");
    }
    for (path, text) in [
        (
            "query/plan.rs",
            "use crate::{error::Error, store::Store, query::exec};",
        ),
        (
            "value/time.rs",
            "use super::Value;\nuse crate::value::decimal::Decimal;",
        ),
        ("store/tables.rs", "use super::super::value::Value;"),
        ("store/mod.rs", "/// See [`crate::query::Plan`].\nfn f() {}"),
        ("lib.rs", "pub use crate::query::Plan;"),
    ] {
        assert_eq!(caught(path, text), 0, "{path}: {text}");
    }
}

#[test]
fn planted_dependencies_are_caught() {
    let problems = |name: &str, tables: &str| {
        let manifest =
            format!("[package]\nname = \"{name}\"\n{tables}\n[lints]\nworkspace = true\n");
        manifest_problems("Cargo.toml", &manifest).len()
    };
    assert_eq!(
        problems("relist", "[dependencies]\nrelist-feed.workspace = true"),
        1
    );
    assert_eq!(
        problems(
            "relist",
            "[dev-dependencies]\nrelist-tests = { path = \"t\" }"
        ),
        1
    );
    assert_eq!(problems("relist", "[dependencies]\nclap = \"4\""), 1);
    assert_eq!(
        problems("relist-feed", "[dependencies]\nrelist-sim.workspace = true"),
        1
    );
    assert_eq!(
        problems(
            "relist-benches",
            "[dependencies]\nrelist-tests.workspace = true"
        ),
        1
    );
    assert_eq!(problems("relist-core", ""), 1);
    assert_eq!(
        problems("relist-cli", "[dependencies]\nrelist-sim.workspace = true"),
        0
    );
    assert_eq!(
        problems(
            "relist-tests",
            "[dependencies]\nrelist-cli.workspace = true"
        ),
        0
    );
    assert_eq!(
        manifest_problems("Cargo.toml", "[package]\nname = \"relist\"\n").len(),
        1
    );
}

#[test]
fn planted_sizes_are_caught() {
    let lines = |n: usize| "    x();\n".repeat(n);
    let source = |body: &str| Source::new("crates/relist/src/value.rs", body);
    let function = |n: usize| format!("fn f() {{\n{}}}\n", lines(n - 2));
    assert_eq!(
        sizes(&source(&function(MAX_FUNCTION_LINES))),
        Vec::<String>::new()
    );
    assert_eq!(sizes(&source(&function(MAX_FUNCTION_LINES + 1))).len(), 1);
    assert_eq!(sizes(&source(&lines(MAX_FILE_LINES))).len(), 0);
    assert_eq!(sizes(&source(&lines(MAX_FILE_LINES + 1))).len(), 1);
    let tested = format!(
        "{}#[cfg(test)]\nmod tests {{\n{}}}\n",
        lines(MAX_FILE_LINES),
        lines(9)
    );
    assert_eq!(sizes(&source(&tested)).len(), 0);
    assert_eq!(long_lines("a.rs", &"é".repeat(MAX_COLUMNS)).len(), 0);
    assert_eq!(long_lines("a.rs", &"é".repeat(MAX_COLUMNS + 1)).len(), 1);
}

#[test]
fn planted_loose_ends_are_caught() {
    let source = |text: &str| Source::new("crates/relist/src/value.rs", text);
    for text in [
        "fn f() { todo!() }",
        "fn f() { std::unimplemented!(\"x\") }",
        "#[test]\n#[ignore]\nfn f() {}",
        "// FIXME: later",
        "/* XXX */",
    ] {
        assert_eq!(unfinished(&source(text)).len(), 1, "{text}");
    }
    assert_eq!(unfinished(&source("let x = \"todo!() FIXME\";")).len(), 0);

    for text in [
        "#[allow(dead_code)]",
        "#![expect(\n    clippy::pedantic,\n    dead_code\n)]",
    ] {
        assert_eq!(exceptions_without_reason(&source(text)).len(), 1, "{text}");
    }
    let reasoned = "#[expect(\n    dead_code,\n    reason = \"held for (its) drop\"\n)]";
    assert_eq!(exceptions_without_reason(&source(reasoned)).len(), 0);
}

#[test]
fn planted_places_and_gaps_in_the_readme_are_caught() {
    let place = format!("see /{}/main/x and {}/work/x", "work", "${DIR}");
    assert_eq!(machine_paths("README.md", &place).len(), 1);
    let help = "Usage: relist <COMMAND>

Commands:
  sync   Mirror
         a feed
  \
                query  Ask
  help   Print

Options:
  -h
";
    assert_eq!(
        undocumented(help, "$ relist query Property"),
        ["the README does not show `relist sync`"]
    );
}
