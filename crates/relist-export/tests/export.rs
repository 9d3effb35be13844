//! Exports: what comes out is what went in, and a file appears whole or not at all.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever is wrong")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use relist::odata::Query;
use relist::query::QueryContext;
use relist::schema::{Field, FieldType, Resource, Schema};
use relist::store::Store;
use relist::value::Timestamp;
use relist_export::{
    ColumnType, ExportError, Format, LineEnd, Manifest, Request, Target, export, write,
    write_columns,
};

/// A page of records whose values do not all fit what the schema says of their fields.
const DRIFTED: &str = r#"{"value":[
{"ListingKey":"a","Beds":3,"Price":350000.50,"Baths":2,"On":"2026-03-01","Huge":1,
 "At":"2026-03-01T10:00:00.1234567Z","Seen":"2026-03-01T10:00:00.1234560Z"},
{"ListingKey":"b","Beds":3.5,"Price":123456789012345678901234567890,"Baths":2,"On":"TBD","Huge":2,
 "At":"2026-03-01T10:00:00Z","Seen":"2026-03-01T10:00:00+02:00"},
{"ListingKey":"c","Beds":"","Price":null,"Baths":1,"On":null,"Huge":1e400}]}"#;

#[test]
fn what_does_not_fit_its_type_is_widened_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path().join("s.redb"), Timestamp(0)).unwrap();
    let mut txn = store.begin_write(Timestamp(1)).unwrap();
    let fields = [
        ("ListingKey", FieldType::String),
        ("Beds", FieldType::Int),
        ("Price", FieldType::Decimal),
        ("Baths", FieldType::Int),
        ("On", FieldType::Date),
        ("Huge", FieldType::Decimal),
        ("At", FieldType::DateTime),
        ("Seen", FieldType::DateTime),
        ("Never", FieldType::Bool),
    ];
    let field = |(name, ty): (&str, FieldType)| Field {
        name: name.to_owned(),
        ty,
        declared: true,
    };
    let schema = Schema {
        resources: vec![Resource {
            name: "Property".to_owned(),
            key_field: "ListingKey".to_owned(),
            declared: true,
            fields: fields.into_iter().map(field).collect(),
            navigation: Vec::new(),
        }],
        enums: Vec::new(),
    };
    txn.define(&schema).unwrap();
    txn.apply_page("Property", "page", DRIFTED.as_bytes())
        .unwrap();
    txn.commit().unwrap();
    let snapshot = store.snapshot().unwrap();
    let query = Query::new("Property");
    let asked = request(&query, &NOW, Format::Parquet);
    let target = Target::of(&folder.path().join("x.parquet"), None).unwrap();
    let (summary, manifest) = export(&snapshot, &asked, &target, false, &mut |_| true).unwrap();
    manifest.put(&target.path).unwrap();
    let again = std::fs::read(Manifest::beside(&target.path)).unwrap();
    let again: Manifest = serde_json::from_slice(&again).unwrap();
    assert_eq!(again, manifest);
    let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
    let types: Vec<(&str, ColumnType)> = summary
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.ty.clone()))
        .collect();
    assert_eq!(
        types,
        [
            ("ListingKey", ColumnType::Text),
            ("Beds", decimal(18, 2)),
            ("Price", decimal(38, 2)),
            ("Baths", ColumnType::Int),
            ("On", ColumnType::Text),
            ("Huge", ColumnType::Text),
            ("At", ColumnType::Text),
            ("Seen", ColumnType::DateTime),
        ]
    );
    let notes: Vec<(&str, &str)> = manifest.notes().collect();
    assert_eq!(
        notes,
        [
            ("Beds", "decimals: not all values are 64-bit integers"),
            (
                "On",
                "text: 1 value does not fit Date (the first is \"TBD\")"
            ),
            (
                "Huge",
                "text: 1 value does not fit Decimal (the first is 1e400)"
            ),
            (
                "At",
                "text: 1 instant is finer than microseconds (the first is \
                 \"2026-03-01T10:00:00.1234567Z\")"
            ),
        ]
    );
    // Nothing passes: a file with the same columns.
    let nothing = query.clone().filter("Baths gt 99").unwrap();
    let asked = request(&nothing, &NOW, Format::Parquet);
    let (empty, _) = export(&snapshot, &asked, &target, true, &mut |_| true).unwrap();
    assert_eq!((empty.records, empty.columns.len()), (0, 8));
    assert!(std::fs::read(&target.path).unwrap().starts_with(b"PAR1"));
}

#[test]
fn the_same_snapshot_gives_the_same_bytes_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let query = Query::new("Property");
    for format in [
        Format::Parquet,
        Format::Arrow,
        Format::Csv,
        Format::Ndjson,
        Format::Json,
        Format::CommonFormat,
    ] {
        let asked = request(&query, &NOW, format);
        let bytes = || {
            let snapshot = store.snapshot().unwrap();
            let mut out = Vec::new();
            write_columns(&snapshot, &asked, &mut out, &mut |_| true).unwrap();
            out
        };
        let once = bytes();
        assert!(!once.is_empty());
        assert_eq!(once, bytes(), "{format:?}");
        assert_eq!(Format::named(format.name()), Some(format));
        if matches!(format, Format::Json | Format::CommonFormat) {
            let json: serde_json::Value = serde_json::from_slice(&once).unwrap();
            let rows = json.get("value").unwrap_or(&json).as_array().unwrap();
            assert_eq!(rows.len(), ROWS.len());
        }
        if matches!(format, Format::Csv | Format::Ndjson) {
            let snapshot = store.snapshot().unwrap();
            let mut by_records = Vec::new();
            write(&snapshot, &asked, &mut by_records, &mut |_| true).unwrap();
            assert_eq!(once, by_records, "{format:?}");
        }
    }
}

const ROWS: [&str; 4] = [
    r#"{"ListingKey":"a","Price":350000.50,"Remarks":"two\nlines, a \"quote\"","Flag":true}"#,
    r#"{"ListingKey":"b","Price":-1.0,"Remarks":"=SUM(A1)","Tags":["x","y"]}"#,
    r#"{"ListingKey":"c","Price":123456789012345678901234567890,"Remarks":""}"#,
    r#"{"ListingKey":"d","Remarks":null,"Nested":{"a":[1,2.50]},"Never":null}"#,
];

fn store(folder: &Path) -> Store {
    let store = Store::create(folder.join("s.redb"), Timestamp(0)).unwrap();
    let mut txn = store.begin_write(Timestamp(1)).unwrap();
    let page = format!("{{\"value\":[{}]}}", ROWS.join(","));
    txn.apply_page("Property", "page", page.as_bytes()).unwrap();
    txn.commit().unwrap();
    store
}

fn request<'a>(query: &'a Query, context: &'a QueryContext, format: Format) -> Request<'a> {
    Request {
        query,
        context,
        format,
        lines: LineEnd::CrLf,
    }
}

const NOW: QueryContext = QueryContext {
    as_of: None,
    now: Timestamp(2),
    clock: None,
};

type Fields<'a> = BTreeMap<String, &'a serde_json::value::RawValue>;

#[test]
fn ndjson_is_what_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let snapshot = store.snapshot().unwrap();
    let query = Query::new("Property");
    let mut out = Vec::new();
    let asked = request(&query, &NOW, Format::Ndjson);
    let summary = write(&snapshot, &asked, &mut out, &mut |_| true).unwrap();
    assert_eq!(summary.records, 4);
    let text = String::from_utf8(out).unwrap();
    for (written, row) in text.lines().zip(ROWS) {
        let texts = |line| {
            let fields: Fields<'_> = serde_json::from_str(line).unwrap();
            let texts = fields.into_iter().map(|(k, v)| (k, v.get().to_owned()));
            texts.collect::<BTreeMap<_, _>>()
        };
        assert_eq!(texts(written), texts(row));
    }
}

#[test]
fn csv_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let snapshot = store.snapshot().unwrap();
    let query = Query::new("Property");
    let mut out = Vec::new();
    let asked = request(&query, &NOW, Format::Csv);
    write(&snapshot, &asked, &mut out, &mut |_| true).unwrap();
    let mut reader = csv::Reader::from_reader(out.as_slice());
    let names: Vec<String> = reader
        .headers()
        .unwrap()
        .iter()
        .map(str::to_owned)
        .collect();
    // A field that no record has a value in is left out.
    assert!(!names.contains(&"Never".to_owned()), "{names:?}");
    let rows: Vec<BTreeMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    let column = |name: &str| rows.iter().map(|r| r.get(name).unwrap().as_str()).collect();
    let (prices, remarks): (Vec<&str>, Vec<&str>) = (column("Price"), column("Remarks"));
    assert_eq!(
        prices,
        ["350000.50", "-1.0", "123456789012345678901234567890", ""]
    );
    assert_eq!(remarks, ["two\nlines, a \"quote\"", "'=SUM(A1)", "", ""]);
    let (tags, nested): (Vec<&str>, Vec<&str>) = (column("Tags"), column("Nested"));
    assert_eq!(tags, ["", "x,y", "", ""]);
    assert_eq!(nested, ["", "", "", r#"{"a":[1,2.50]}"#]);
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let snapshot = store.snapshot().unwrap();
    let query = Query::new("Property");
    let path = folder.path().join("out.ndjson.gz");
    let target = Target::of(&path, None).unwrap();
    let asked = request(&query, &NOW, Format::Ndjson);
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let before = files();

    let stopped = export(&snapshot, &asked, &target, false, &mut |n| n < 2);
    assert!(matches!(stopped, Err(ExportError::Stopped)), "{stopped:?}");
    assert_eq!(files(), before, "a part was left behind");

    export(&snapshot, &asked, &target, false, &mut |_| true).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut text = String::new();
    let mut reader = flate2::read::GzDecoder::new(whole.as_slice());
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 4);

    let exists = export(&snapshot, &asked, &target, false, &mut |_| true);
    assert!(
        matches!(exists, Err(ExportError::Exists { .. })),
        "{exists:?}"
    );
    let wrong = query.clone().filter("Nope eq 1").unwrap();
    let asked = request(&wrong, &NOW, Format::Ndjson);
    let failed = export(&snapshot, &asked, &target, true, &mut |_| true);
    assert!(matches!(failed, Err(ExportError::Store(_))), "{failed:?}");
    assert_eq!(std::fs::read(&path).unwrap(), whole, "the file was touched");
    assert_eq!(files(), before + 1);
}
