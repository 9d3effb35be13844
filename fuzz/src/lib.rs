//! What must hold for any bytes. Each function is a fuzz target, and `tests/tests/fuzz_smoke.rs`
//! includes this file to try them on some thousand inputs with every `cargo test`.
//!
//! Run one for a minute, on the stable toolchain:
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run edmx --sanitizer none -- -max_total_time=60
//! ```

pub mod ops;

pub use relist::fuzzing::{column_segment, record_body};

use relist::decode::SplitPage;
use relist::error::{Error, QueryError};
use relist::keycode::Key;
use relist::odata::{parse_apply, parse_filter, parse_orderby, parse_select};
use relist::schema::{FieldType, Schema};
use relist::store::Store;
use relist::value::{Date, DateTime, Decimal, TimeOfDay, Timestamp, format_guid, parse_guid};
use std::sync::OnceLock;

/// `$metadata`: a schema that hangs together, or an error that points into the document.
pub fn edmx(bytes: &[u8]) {
    let schema = match Schema::from_metadata(bytes) {
        Ok(schema) => schema,
        Err(Error::Metadata { reason, offset }) => {
            assert!(!reason.is_empty());
            assert!(
                offset <= bytes.len() as u64,
                "{reason} at {offset} of {}",
                bytes.len()
            );
            return;
        }
        Err(other) => panic!("not an error of $metadata: {other}"),
    };
    assert!(!schema.resources.is_empty());
    for resource in &schema.resources {
        assert!(
            resource.field_named(&resource.key_field).is_some(),
            "{}",
            resource.name
        );
        for field in &resource.fields {
            if let FieldType::Lookup(name) | FieldType::LookupList(name) = &field.ty {
                assert!(schema.enums.iter().any(|e| e.name == *name), "{name}");
            }
            let id = resource
                .field_id(&field.name)
                .expect("a field is found by its name");
            assert_eq!(resource.field(id).map(|f| &f.name), Some(&field.name));
        }
    }
}

/// Query options: what is understood is written as it is understood; an error points into it.
pub fn filter(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match parse_filter(text) {
        Ok(expr) => {
            let written = expr.to_string();
            match parse_filter(&written) {
                // The negation of a membership (`-1 in (1)`), which no type has, groups anew.
                Ok(_) if text.contains('-') => {}
                Ok(again) => assert_eq!(again.to_string(), written, "{text:?}"),
                // What is written has parentheses that the text may not have had.
                Err(error) => assert!(error.message.contains("deep"), "{written}: {error}"),
            }
        }
        Err(error) => points_into(&error, text),
    }
    match parse_orderby(text) {
        Ok(items) => {
            let written: Vec<_> = items.iter().map(ToString::to_string).collect();
            let written = written.join(",");
            if let Err(error) = parse_orderby(&written) {
                assert!(
                    error.message.contains("deep"),
                    "{text:?}: {written}: {error}"
                );
            }
        }
        Err(error) => points_into(&error, text),
    }
    if let Err(error) = parse_select(text) {
        points_into(&error, text);
    }
}

/// `$apply`: understood, or an error that points into the text.
pub fn apply(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Err(error) = parse_apply(text) {
        points_into(&error, text);
    }
}

fn points_into(error: &QueryError, text: &str) {
    assert!(!error.message.is_empty());
    assert_eq!(error.text, text);
    let place = error.offset..error.offset + error.len;
    assert!(
        text.get(place.clone()).is_some(),
        "{place:?} of {text:?}: {error}"
    );
}

/// A page: each record is where it is said to be, and is one JSON value; or an error.
///
/// What is taken for a page is one to serde_json too, and has the same records.
pub fn decode_page(bytes: &[u8]) {
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        value: Vec<&'a serde_json::value::RawValue>,
    }
    let page = match SplitPage::split("Property", "fuzz", bytes.to_vec(), None) {
        Ok(page) => page,
        Err(rejected) => {
            let error = &rejected.error;
            assert!(!error.reason.is_empty());
            assert!(error.offset.is_none_or(|at| at <= bytes.len()), "{error}");
            assert_eq!(rejected.raw, bytes, "what is put aside is what came");
            return;
        }
    };
    assert_eq!(page.body.as_bytes(), bytes);
    let expected: Envelope<'_> = serde_json::from_slice(bytes).expect("it is JSON");
    let expected = expected.value.iter().map(|raw| raw.get());
    assert!(page.entities.iter().map(|e| page.text(e)).eq(expected));
    let mut end = 0;
    for entity in &page.entities {
        assert!(entity.range.start >= end && entity.range.end <= bytes.len());
        end = entity.range.end;
        let text = page.text(entity);
        assert_eq!(text.trim(), text);
        assert!(!text.is_empty());
    }
}

/// A page in a transaction: every record is accounted for, and the page again changes nothing.
pub fn apply_page(bytes: &[u8]) {
    static STORE: OnceLock<Store> = OnceLock::new();
    let store = STORE.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("relist-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let store = Store::create(folder.join("store.redb"), Timestamp(0)).expect("a new store");
        // The open file stays; nothing is left behind when the process ends.
        let _ = std::fs::remove_dir_all(&folder);
        store
    });
    // Dropped without a commit: each input meets an empty store.
    let mut txn = store.begin_write(Timestamp(1)).expect("nobody else writes");
    let first = match txn.apply_page("Property", "fuzz", bytes) {
        Ok(report) => report,
        Err(Error::Decode(error)) => return assert!(!error.reason.is_empty()),
        Err(other) => panic!("not an error of the page: {other}"),
    };
    assert_eq!(
        first.records,
        first.applied + first.unchanged + first.quarantined
    );
    let again = txn
        .apply_page("Property", "fuzz", bytes)
        .expect("it was read before");
    assert_eq!(again.records, first.records);
    assert_eq!(again.applied, 0, "{first:?}, then {again:?}");
    assert_eq!(again.quarantined, first.quarantined);
}

/// Keys: their bytes sort as they do and read back as they were; other bytes are no key.
pub fn keycode(bytes: &[u8]) {
    let encode = |key: &Key| {
        let mut out = Vec::new();
        key.encode(&mut out);
        out
    };
    if let Some(key) = Key::decode(bytes) {
        assert_eq!(encode(&key), bytes);
    }
    let (left, right) = bytes.split_at(bytes.len() / 2);
    let keys = [
        key(left, true),
        key(right, true),
        key(left, false),
        key(right, false),
    ];
    for a in &keys {
        assert_eq!(Key::decode(&encode(a)).as_ref(), Some(a));
        for b in &keys {
            assert_eq!(a.cmp(b), encode(a).cmp(&encode(b)), "{a:?} {b:?}");
        }
    }
}

fn key(bytes: &[u8], integer: bool) -> Key {
    if integer {
        let mut value = [0; 8];
        for (to, from) in value.iter_mut().rev().zip(bytes) {
            *to = *from;
        }
        return Key::Int(i64::from_be_bytes(value));
    }
    Key::Str(String::from_utf8_lossy(bytes).into_owned())
}

/// Numbers, dates and other literals: what is read is written, and reads back as the same value.
pub fn literals(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some(value) = Decimal::parse(text) {
        assert_eq!(Decimal::parse(&value.to_string()), Some(value), "{text:?}");
        assert_eq!(value.normalized(), value);
        assert!(
            value.floor() <= value && value <= value.ceiling(),
            "{text:?}"
        );
    }
    if let Some(value) = Date::parse(text) {
        assert_eq!(value.to_string(), text);
    }
    if let Some(value) = DateTime::parse(text) {
        assert_eq!(DateTime::parse(&value.to_string()), Some(value), "{text:?}");
        assert_eq!(value.date().midnight().date(), value.date());
    }
    if let Some(value) = TimeOfDay::parse(text) {
        assert_eq!(
            TimeOfDay::parse(&value.to_string()),
            Some(value),
            "{text:?}"
        );
    }
    if let Some(value) = parse_guid(text) {
        assert_eq!(format_guid(&value), text.to_ascii_lowercase());
    }
}
