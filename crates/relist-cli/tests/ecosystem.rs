//! What others find in our files: DuckDB, pyarrow, Polars, pandas, Spark and the recipes of
//! docs/recipes.md, run as they stand.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at whatever is wrong")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use relist::odata::Query;
use relist::query::QueryContext;
use relist::schema::FieldType;
use relist::store::{AsOf, Cause, Snapshot, Store};
use relist::value::{Timestamp, Value};
use relist_sim::{Backend as _, Waves};
use serde_json::Value as Json;

#[path = "../../../tests/src/data.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "shared with the package of the tests"
)]
mod data;
#[path = "../../../tests/src/fresh.rs"]
#[expect(dead_code, unreachable_pub, clippy::unwrap_used, reason = "as data")]
mod fresh;
#[path = "../../../tests/src/python.rs"]
#[expect(unreachable_pub, reason = "as data")]
mod python;

use fresh::Fresh;

const DAY: i64 = 86_400_000_000;
/// 2026-03-01.
const FIRST: i64 = 1_772_323_200_000_000;

/// A market of some days in a store.
struct World {
    fresh: Fresh,
    waves: Waves,
    days: i64,
}

impl World {
    fn new(seed: u64, listings: u32, days: i64) -> Self {
        let waves = Waves::new(seed, listings);
        let fresh = Fresh::new();
        let mut txn = fresh.store.begin_write(Timestamp(FIRST)).unwrap();
        txn.define(waves.market().schema()).unwrap();
        txn.commit().unwrap();
        let pages: Vec<Vec<u8>> = waves.pages(200).collect();
        let files: Vec<(&str, &Vec<u8>)> = pages.iter().map(|page| ("first", page)).collect();
        fresh.ingest("Property", &files, FIRST);
        let mut world = World {
            fresh,
            waves,
            days: 0,
        };
        (0..days).for_each(|_| world.day());
        world
    }

    /// A day more.
    fn day(&mut self) {
        self.days += 1;
        let at = FIRST + self.days * DAY;
        let day = self.waves.day();
        let pages: Vec<Vec<u8>> = self.waves.day_pages(&day, 200).collect();
        let files: Vec<(&str, &Vec<u8>)> = pages.iter().map(|page| ("day", page)).collect();
        self.fresh.ingest("Property", &files, at);
        let mut txn = self.fresh.store.begin_write(Timestamp(at)).unwrap();
        for (_, key) in &day.net.deleted {
            let key = self.fresh.snapshot().parse_key("Property", key).unwrap();
            txn.delete("Property", &key, None, Cause::DeletedFeed, "")
                .unwrap();
        }
        txn.commit().unwrap();
    }

    fn store(&self) -> PathBuf {
        self.fresh.folder.path().join(fresh::FILE)
    }

    fn folder(&self) -> &Path {
        self.fresh.folder.path()
    }

    /// Runs `relist` on the store, in its folder.
    fn relist(&self, arguments: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_relist"))
            .args(arguments)
            .env("RELIST_STORE", self.store())
            .current_dir(self.folder())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        output
    }
}

/// The Python that has what a list requires; `None` when the test is skipped.
fn python_with(test: &str, name: &str, list: &str) -> Option<PathBuf> {
    match python::environment(Path::new(env!("CARGO_TARGET_TMPDIR")), name, list) {
        Ok(python) => Some(python),
        Err(why) => {
            data::skipped(test, &why);
            None
        }
    }
}

fn readers(test: &str) -> Option<PathBuf> {
    python_with(test, "readers-venv", "tests/lake/requirements.txt")
}

fn run_python(python: &Path, folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(python)
        .args(arguments)
        .current_dir(folder)
        .env("PATH", path_with_relist(python))
        .env("MPLBACKEND", "Agg")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// `relist` and the environment's programs first.
fn path_with_relist(python: &Path) -> std::ffi::OsString {
    let own = Path::new(env!("CARGO_BIN_EXE_relist")).parent().unwrap();
    let bin = python.parent().unwrap();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let mut all = vec![own.to_owned(), bin.to_owned()];
    all.extend(std::env::split_paths(&rest));
    std::env::join_paths(all).unwrap()
}

/// What the store says of one column: nulls, least, greatest, sum.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    nulls: u64,
    min: Option<String>,
    max: Option<String>,
    sum: Option<String>,
}

/// One value as `tests/lake/agree.py` writes it, and as a number where it is one.
fn text_of(value: &Value<'_>, ty: &FieldType) -> Option<(String, Option<i128>)> {
    // Six digits behind the point are enough for all numbers of these tests.
    let number = |mantissa: i128, scale: u8| mantissa * 10_i128.pow(u32::from(6 - scale));
    Some(match (value, ty) {
        (Value::Null, _) => return None,
        (Value::String(text), FieldType::String | FieldType::Lookup(_)) => (text.to_string(), None),
        (Value::String(text), _) if text.is_empty() => return None,
        (Value::Int(n), _) => (n.to_string(), Some(number(i128::from(*n), 0))),
        (Value::Decimal(n), _) => {
            let text = n.to_string();
            let text = if text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            } else {
                text
            };
            (text, Some(number(n.mantissa(), n.scale())))
        }
        (Value::DateTime(at), _) => (at.format(6, true).replace('Z', "+00:00"), None),
        (other, _) => (other.to_string().trim_matches('"').to_owned(), None),
    })
}

/// A number of six digits behind the point, without zeros at its end.
fn sum_text(sum: i128) -> String {
    let (whole, rest) = (sum / 1_000_000, (sum % 1_000_000).abs());
    let sign = if sum < 0 && whole == 0 { "-" } else { "" };
    let text = format!("{sign}{whole}.{rest:06}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn expected(snapshot: &Snapshot, columns: &[String]) -> BTreeMap<String, Figures> {
    let query = Query::new("Property");
    let rows = snapshot
        .query(&query, &QueryContext::new(Timestamp(0)))
        .unwrap()
        .rows;
    let resource = snapshot.resource("Property").unwrap();
    let figures = columns.iter().map(|name| {
        let ty = &resource.field_named(name).unwrap().ty;
        let mut values: Vec<(String, Option<i128>)> = Vec::new();
        let mut nulls = 0;
        for row in &rows {
            match row.get(name).and_then(|value| text_of(&value, ty)) {
                Some(value) => values.push(value),
                None => nulls += 1,
            }
        }
        let is_plain = !matches!(
            ty,
            FieldType::LookupList(_) | FieldType::StringList | FieldType::GeoPoint
        );
        let order = |a: &&(String, Option<i128>), b: &&(String, Option<i128>)| {
            a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0))
        };
        let text = |v: &(String, Option<i128>)| v.0.clone();
        let numbers: Option<Vec<i128>> = values.iter().map(|v| v.1).collect();
        let sum = numbers.filter(|n| !n.is_empty()).map(|n| n.iter().sum());
        let own = Figures {
            nulls,
            min: values.iter().min_by(order).filter(|_| is_plain).map(text),
            max: values.iter().max_by(order).filter(|_| is_plain).map(text),
            sum: sum.map(sum_text),
        };
        (name.clone(), own)
    });
    figures.collect()
}

fn figures_of(json: &Json) -> Figures {
    let text = |name: &str| json[name].as_str().map(str::to_owned);
    Figures {
        nulls: json["nulls"].as_u64().unwrap(),
        min: text("min"),
        max: text("max"),
        sum: text("sum"),
    }
}

fn arrow_name(ty: &Json) -> String {
    let decimal = &ty["Decimal"];
    if decimal.is_object() {
        return format!("decimal128({}, {})", decimal["precision"], decimal["scale"]);
    }
    match ty.as_str().unwrap() {
        "Bool" => "bool",
        "Int" => "int64",
        "Date" => "date32[day]",
        "DateTime" => "timestamp[us, tz=UTC]",
        "Text" | "Word" => "string",
        "List" => "list<item: string>",
        "Point" => "struct<longitude: double, latitude: double>",
        other => panic!("{other}"),
    }
    .to_owned()
}

#[test]
fn every_reader_agrees_with_the_store() {
    let own_name = "every_reader_agrees_with_the_store";
    let Some(python) = readers(own_name) else {
        return;
    };
    let world = World::new(3, 400, 6);
    world.relist(&["export", "Property", "--to", "p.parquet"]);
    let script = data::root().join("tests/lake/agree.py");
    let printed = run_python(
        &python,
        world.folder(),
        &[script.to_str().unwrap(), "p.parquet"],
    );
    let found: Json = serde_json::from_str(&printed).unwrap();
    let text = std::fs::read_to_string(world.folder().join("p.parquet.manifest.json")).unwrap();
    let manifest: Json = serde_json::from_str(&text).unwrap();
    let columns = manifest["columns"].as_array().unwrap();
    let names: Vec<String> = columns
        .iter()
        .map(|c| c["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(names.len() > 100, "{}", names.len());
    for column in columns {
        let name = column["name"].as_str().unwrap();
        let nested = |text: &str| text.replace("list<element:", "list<item:");
        let ty = nested(found["types"][name].as_str().unwrap());
        assert_eq!(ty, arrow_name(&column["type"]), "{name}");
        assert_eq!(found["metadata"][name]["reso.name"], *name);
        assert_eq!(found["metadata"][name]["reso.type"], column["declared"]);
    }
    let snapshot = world.fresh.snapshot();
    let expected = expected(&snapshot, &names);
    let readers = found["readers"].as_object().unwrap();
    assert_eq!(readers.len(), 4);
    for (reader, found) in readers {
        assert_eq!(
            found["rows"],
            snapshot.count("Property").unwrap(),
            "{reader}"
        );
        for (name, expected) in &expected {
            let own = figures_of(&found["columns"][name]);
            assert_eq!(own, *expected, "{reader}, {name}");
        }
    }
}

/// The blocks of a page that are in a language.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let fence = format!("```{language}\n");
    let blocks = page.split(fence.as_str()).skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[test]
fn the_recipes_run_as_they_stand() {
    let own_name = "the_recipes_run_as_they_stand";
    let Some(python) = readers(own_name) else {
        return;
    };
    let page = std::fs::read_to_string(data::root().join("docs/recipes.md")).unwrap();
    let world = World::new(5, 300, 8);
    for block in blocks(&page, "console") {
        for line in block.lines() {
            let Some(line) = line.strip_prefix("$ ") else {
                continue;
            };
            let output = Command::new("bash")
                .args(["-ec", &format!("set -o pipefail; {line}")])
                .current_dir(world.folder())
                .env("RELIST_STORE", world.store())
                .env("PATH", path_with_relist(&python))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{line}: {said}");
        }
    }
    let sql = blocks(&page, "sql");
    let programs = blocks(&page, "python");
    assert!(sql.len() >= 2 && programs.len() >= 4, "recipes are missing");
    for query in sql {
        let run = "import duckdb, sys; print(duckdb.sql(sys.argv[1]).fetchall())";
        let printed = run_python(&python, world.folder(), &["-c", run, query]);
        assert!(printed.len() > 4, "{query}: {printed}");
    }
    for program in programs {
        let output = Command::new(&python)
            .args(["-c", program])
            .current_dir(world.folder())
            .env("RELIST_STORE", world.store())
            .env("PATH", path_with_relist(&python))
            .env("MPLBACKEND", "Agg")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program}: {said}");
    }
    let plot = std::fs::read(world.folder().join("prices.png")).unwrap();
    assert_eq!(plot.get(1..4), Some(&b"PNG"[..]));
}

/// A field as text without quotes.
fn plain(row: &relist::record::Record, name: &str) -> String {
    let text = row.get(name).map(|value| value.to_string());
    text.unwrap_or_default().trim_matches('"').to_owned()
}

/// What Spark is to find: by status the count and the sum of the list prices, in cents.
fn by_status(snapshot: &Snapshot) -> BTreeMap<String, (u64, i128)> {
    let rows = snapshot
        .query(&Query::new("Property"), &QueryContext::new(Timestamp(0)))
        .unwrap()
        .rows;
    let mut out: BTreeMap<String, (u64, i128)> = BTreeMap::new();
    for row in rows {
        let own = out.entry(plain(&row, "StandardStatus")).or_default();
        own.0 += 1;
        own.1 += match row.get("ListPrice") {
            Some(Value::Int(n)) => i128::from(n) * 100,
            Some(Value::Decimal(n)) => n.mantissa() * 10_i128.pow(u32::from(2 - n.scale())),
            _ => 0,
        };
    }
    out
}

#[test]
fn spark_agrees_on_the_lake_with_two_workers() {
    let own_name = "spark_agrees_on_the_lake_with_two_workers";
    if Command::new("java").arg("-version").output().is_err() {
        return data::skipped(own_name, "there is no java");
    }
    let Some(python) = python_with(own_name, "spark-venv", "tests/lake/spark.txt") else {
        return;
    };
    let mut east = World::new(3, 400, 5);
    let west = World::new(4, 200, 3);
    let lake = east.folder().join("lake");
    let lake = lake.to_str().unwrap().to_owned();
    east.relist(&["lake", &lake, "--feed", "east"]);
    west.relist(&["lake", &lake, "--feed", "west"]);
    let then = east.fresh.snapshot().sequence();
    east.day();
    east.relist(&["lake", &lake, "--feed", "east"]);
    let job = data::root().join("docs/examples/market_spark.py");
    let script = data::root().join("tests/lake/spark_agree.py");
    let arguments = [
        script.to_str().unwrap(),
        job.to_str().unwrap(),
        &lake,
        "east",
        &then.to_string(),
    ];
    let printed = run_python(&python, east.folder(), &arguments);
    let line = printed
        .lines()
        .find_map(|line| line.strip_prefix("RESULT "));
    let found: Json = serde_json::from_str(line.unwrap()).unwrap();
    let (own, other) = (east.fresh.snapshot(), west.fresh.snapshot());
    let mut expected = BTreeMap::new();
    for (feed, snapshot) in [("east", &own), ("west", &other)] {
        for (status, (count, cents)) in by_status(snapshot) {
            let sum = format!("{}.{:02}", cents / 100, cents % 100);
            expected.insert((feed.to_owned(), status), (count, sum));
        }
    }
    let mut status = BTreeMap::new();
    for row in found["status"].as_array().unwrap() {
        let text = |at: usize| row[at].as_str().unwrap_or_default().to_owned();
        status.insert((text(0), text(1)), (row[2].as_u64().unwrap(), text(3)));
    }
    assert_eq!(status, expected);
    let rows = |snapshot: &Snapshot| {
        let query = Query::new(relist::query::CHANGES);
        let context = QueryContext::new(Timestamp(0));
        let mut rows = 0;
        let mut count = |_: &relist::query::ChangeRow<'_>, _: Option<&[_]>| {
            rows += 1;
            Ok(true)
        };
        snapshot
            .query_changes(&query, &context, &mut count)
            .unwrap();
        rows
    };
    assert_eq!(found["changes"], rows(&own) + rows(&other));
    assert!(found["cuts"].as_u64().unwrap() > 0);
    let context = QueryContext {
        as_of: Some(AsOf::Sequence(then)),
        ..QueryContext::new(Timestamp(0))
    };
    let past = own.query(&Query::new("Property"), &context).unwrap().rows;
    let past: BTreeMap<String, String> = past
        .iter()
        .map(|row| {
            let key = plain(row, "ListingKeyNumeric");
            (key, plain(row, "StandardStatus"))
        })
        .collect();
    let mut undone = 0;
    for row in found["past"].as_array().unwrap() {
        let key = row[0].as_str().unwrap();
        assert_eq!(row[1].as_str(), past.get(key).map(String::as_str), "{key}");
        undone += 1;
    }
    // The job's as-of is of the records that are still there.
    let still = |key: &&String| {
        let key = own.parse_key("Property", key).unwrap();
        own.get("Property", &key).unwrap().is_some()
    };
    assert_eq!(undone, past.keys().filter(still).count());
}

/// The rows that a lake shows at its manifest's sequence: whole files with updates laid over them.
fn lake_rows(python: &Path, folder: &Path) -> Json {
    let program = r#"
import json, pyarrow.parquet as pq, sys
manifest = json.load(open("lake/_manifest/feed=f.json"))
table = manifest["tables"]["Property"]
rows = {}
for file in table["files"]:
    for row in pq.read_table("lake/" + file["path"], partitioning=None).to_pylist():
        rows[row[table["key"]]] = row
for file in table.get("updates", []):
    for row in pq.read_table("lake/" + file["path"], partitioning=None).to_pylist():
        gone = row.pop("_deleted")
        rows.pop(row[table["key"]], None)
        if not gone:
            rows[row[table["key"]]] = row
whole = {row[table["key"]]: row for row in pq.read_table(sys.argv[1]).to_pylist()}
differ = [key for key in rows.keys() | whole.keys() if rows.get(key) != whole.get(key)]
print(json.dumps({"rows": len(rows), "differ": len(differ),
    "updates": len(table.get("updates", [])), "files": len(table["files"])}))
"#;
    let printed = run_python(python, folder, &["-c", program, "whole.parquet"]);
    serde_json::from_str(&printed).unwrap()
}

#[test]
fn a_lake_is_the_store_after_each_update() {
    let own_name = "a_lake_is_the_store_after_each_update";
    let Some(python) = readers(own_name) else {
        return;
    };
    let mut world = World::new(9, 600, 2);
    let (mut updates, mut whole) = (0, 0);
    for _ in 0..7 {
        world.relist(&["lake", "lake", "--feed", "f"]);
        world.relist(&["export", "Property", "--to", "whole.parquet", "--force"]);
        let found = lake_rows(&python, world.folder());
        let records = world.fresh.snapshot().count("Property").unwrap();
        assert_eq!(found["rows"], records);
        assert_eq!(found["differ"], 0, "{found}");
        if found["updates"] == 0 {
            whole += 1;
        } else {
            updates += 1;
        }
        world.day();
    }
    assert!(
        updates >= 2 && whole >= 1,
        "{updates} updates, {whole} whole"
    );
    // What no manifest names is gone.
    let text = std::fs::read_to_string(world.folder().join("lake/_manifest/feed=f.json")).unwrap();
    let mut files = 0;
    for entry in walk(&world.folder().join("lake")) {
        let path = entry.strip_prefix(world.folder().join("lake")).unwrap();
        if path.extension().is_some_and(|e| e == "parquet") {
            files += 1;
            assert!(text.contains(path.to_str().unwrap()), "{}", path.display());
        }
    }
    assert!(files >= 8, "{files}");
    assert!(!world.folder().join("lake/_temporary-f").exists());
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(walk(&path));
        } else {
            out.push(path);
        }
    }
    out
}

/// A browser, by the names that it has.
fn browser() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    names.into_iter().find(|name| {
        let version = Command::new(name).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    })
}

#[test]
fn the_market_page_draws_itself_in_a_browser() {
    let own_name = "the_market_page_draws_itself_in_a_browser";
    let world = World::new(8, 400, 12);
    world.relist(&["report", "market", "--to", "report.html"]);
    let page = world.folder().join("report.html");
    let text = std::fs::read_to_string(&page).unwrap();
    for network in ["http://", "https://", "src=", "@import"] {
        let own = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!own.contains(network), "the page refers to {network}");
    }
    let Some(browser) = browser() else {
        return data::skipped(own_name, "there is no chromium");
    };
    for width in ["1280,900", "400,800"] {
        let output = Command::new(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
            .args(["--enable-logging=stderr", "--virtual-time-budget=3000"])
            .arg(format!("--window-size={width}"))
            .arg(format!(
                "--user-data-dir={}",
                world.folder().join("browser").display()
            ))
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let console: Vec<&str> = said.lines().filter(|l| l.contains("CONSOLE")).collect();
        assert!(console.is_empty(), "{console:?}");
        let drawn = String::from_utf8_lossy(&output.stdout).into_owned();
        for part in ["price", "inventory", "cuts", "market", "flow"] {
            let start = drawn.find(&format!("id=\"{part}\"")).unwrap();
            let end = drawn[start..].find("</section>").unwrap();
            let chart = &drawn[start..start + end];
            assert!(
                chart.contains("<svg") && !chart.contains("NaN"),
                "{part}: {chart}"
            );
        }
        assert!(drawn.contains("<canvas") && drawn.contains("active listings, by price"));
    }
}

#[test]
fn a_store_of_another_feed_is_refused() {
    let one = World::new(1, 40, 3);
    let other = World::new(2, 20, 0);
    let lake = one.folder().join("lake");
    let lake = lake.to_str().unwrap();
    one.relist(&["lake", lake, "--feed", "f"]);
    let refused = |arguments: &[&str], words: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_relist"))
            .args(arguments)
            .env("RELIST_STORE", other.store())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(words), "{said}");
    };
    refused(&["lake", lake, "--feed", "f"], "it is of another store");
    refused(
        &["lake", lake, "--feed", "a/b"],
        "a feed's name has letters",
    );
    let full = other.folder().to_str().unwrap().to_owned();
    refused(&["lake", &full], "the folder is not empty");
    let _ = Store::open_read_only(other.store()).unwrap();
}
