//! The fields of each resource: name, type, and how a row's value is written as JSON text.
//!
//! Names and types are those of WFRMLS's `$metadata`. One table a resource serves the record, the
//! schema, `$metadata`, `$select` and `$filter`, so that they cannot disagree.

mod listing;
mod others;
mod people;

use relist::schema::{Field, FieldType, Navigation, Resource};

use crate::lookups::{Lookup, NAMESPACE};
use crate::rng::{below, mix, pick};
use crate::state::Day;
use crate::text::{self, DAY, Seconds};

pub(crate) use listing::{PROPERTY, PropertyView};
pub(crate) use others::{
    DELETED, DeletedView, MEDIA, MediaView, OPEN_HOUSE, OpenHouseView, media_key,
};
pub(crate) use people::{MEMBER, MemberView, OFFICE, OfficeView};

/// A row of any resource, with what it refers to.
pub(crate) enum View<'a> {
    Property(PropertyView<'a>),
    Member(MemberView<'a>),
    Office(OfficeView<'a>),
    OpenHouse(OpenHouseView<'a>),
    Media(MediaView<'a>),
    Deleted(DeletedView<'a>),
}

/// Runs an expression with a view and its table of columns.
macro_rules! with_table {
    ($any:expr, |$view:ident, $table:ident| $body:expr) => {
        match $any {
            View::Property($view) => {
                let $table = PROPERTY;
                $body
            }
            View::Member($view) => {
                let $table = MEMBER;
                $body
            }
            View::Office($view) => {
                let $table = OFFICE;
                $body
            }
            View::OpenHouse($view) => {
                let $table = OPEN_HOUSE;
                $body
            }
            View::Media($view) => {
                let $table = MEDIA;
                $body
            }
            View::Deleted($view) => {
                let $table = DELETED;
                $body
            }
        }
    };
}

impl View<'_> {
    /// Appends the value of the field at that place of the resource; false when there is none.
    pub(crate) fn write_field(&self, field: usize, out: &mut Vec<u8>) -> bool {
        with_table!(self, |view, table| match table.get(field) {
            Some(column) => {
                (column.write)(view, out);
                true
            }
            None => false,
        })
    }

    /// Appends all members of the JSON object, without its braces.
    pub(crate) fn write_all(&self, out: &mut Vec<u8>) {
        with_table!(
            self,
            |view, table| for (at, column) in table.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                member_name(column.name, out);
                (column.write)(view, out);
            }
        );
    }

    /// Appends some members of the JSON object, without its braces.
    pub(crate) fn write_some(&self, fields: &[usize], out: &mut Vec<u8>) {
        let start = out.len();
        with_table!(self, |view, table| {
            for column in fields.iter().filter_map(|at| table.get(*at)) {
                if out.len() > start {
                    out.push(b',');
                }
                member_name(column.name, out);
                (column.write)(view, out);
            }
        });
    }

    /// The values of all fields in order, each with its name.
    pub(crate) fn cells(&self) -> Cells {
        let mut cells = Cells {
            names: Vec::new(),
            text: Vec::new(),
            ends: Vec::new(),
        };
        with_table!(self, |view, table| {
            cells.names.reserve(table.len());
            cells.ends.reserve(table.len());
            cells.text.reserve(5_000.min(table.len() * 40));
            for column in table {
                (column.write)(view, &mut cells.text);
                cells.names.push(column.name);
                cells.ends.push(cells.text.len());
            }
        });
        cells
    }
}

/// The values of a row as JSON, one behind the other.
pub(crate) struct Cells {
    names: Vec<&'static str>,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Cells {
    /// Each field's name and value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let mut start = 0;
        self.names.iter().zip(&self.ends).map(move |(name, end)| {
            let value = self.text.get(start..*end).unwrap_or_default();
            start = *end;
            (*name, std::str::from_utf8(value).unwrap_or_default())
        })
    }

    /// The row's JSON object.
    pub(crate) fn to_json(&self) -> String {
        let mut out = String::with_capacity(self.text.len() * 2);
        for (name, value) in self.iter() {
            out.push(if out.is_empty() { '{' } else { ',' });
            for part in ["\"", name, "\":", value] {
                out.push_str(part);
            }
        }
        out.push('}');
        out
    }
}

fn member_name(name: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Decimal,
    Str,
    Bool,
    Date,
    Timestamp,
    /// One member of the lookup of that name.
    One(&'static str),
    /// Members of the lookup of that name, with commas between.
    Many(&'static str),
    Geo,
}

impl Kind {
    /// The type in the schema.
    fn to_type(self) -> FieldType {
        match self {
            Kind::Int => FieldType::Int,
            Kind::Decimal => FieldType::Decimal,
            Kind::Str => FieldType::String,
            Kind::Bool => FieldType::Bool,
            Kind::Date => FieldType::Date,
            Kind::Timestamp => FieldType::DateTime,
            Kind::One(name) => FieldType::Lookup(format!("{NAMESPACE}.{name}")),
            Kind::Many(name) => FieldType::LookupList(format!("{NAMESPACE}.{name}")),
            Kind::Geo => FieldType::GeoPoint,
        }
    }
}

/// One column of a resource whose rows are seen through `F`'s first argument.
#[derive(Debug)]
pub(crate) struct Column<F> {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) write: F,
}

/// Builds a table of columns.
macro_rules! columns {
    ($(#[$meta:meta])* $table:ident of $view:ident:
        $($name:literal $kind:expr, |$v:pat_param, $o:pat_param| $write:expr;)*) => {
        $(#[$meta])*
        pub(crate) static $table:
            &[crate::fields::Column<for<'a, 'b> fn(&'a $view<'b>, &'a mut Vec<u8>)>] =
            &[$(crate::fields::Column { name: $name, kind: $kind, write: |$v, $o| $write }),*];
    };
}
use columns;

/// A resource of the schema, out of its table.
pub(crate) fn resource<F>(
    name: &str,
    key_field: &str,
    columns: &[Column<F>],
    navigation: &[&str],
) -> Resource {
    let fields = columns.iter().map(|c| Field {
        name: c.name.to_owned(),
        ty: c.kind.to_type(),
        declared: true,
    });
    let navigation = navigation.iter().map(|target| Navigation {
        name: (*target).to_owned(),
        target: (*target).to_owned(),
        collection: true,
    });
    Resource {
        name: name.to_owned(),
        key_field: key_field.to_owned(),
        declared: true,
        fields: fields.collect(),
        navigation: navigation.collect(),
    }
}

fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"null");
}

fn bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn int(out: &mut Vec<u8>, value: impl Into<u64>) {
    text::int(out, value.into());
}

/// A number as a string: a key's string twin.
fn int_str(out: &mut Vec<u8>, value: impl Into<u64>) {
    quoted(out, |out| int(out, value));
}

/// Whole dollars, feet, spaces: `489900.0`.
fn decimal(out: &mut Vec<u8>, value: u32) {
    text::hundredths(out, u64::from(value) * 100);
}

fn str(out: &mut Vec<u8>, value: &str) {
    text::json_str(out, value);
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

/// A date, or null for day 0.
fn date(out: &mut Vec<u8>, day: Day) {
    if day == 0 {
        null(out);
    } else {
        quoted(out, |out| text::date(out, day));
    }
}

/// A timestamp, or null for 0.
fn timestamp(out: &mut Vec<u8>, at: Seconds) {
    if at == 0 {
        null(out);
    } else {
        quoted(out, |out| text::timestamp(out, at));
    }
}

/// The day of an instant, in UTC.
fn day_of(at: Seconds) -> Day {
    at / DAY
}

/// One member of a lookup.
fn one(out: &mut Vec<u8>, hash: u64, lookup: &Lookup) {
    str(out, pick(hash, lookup.displays));
}

/// From `min` to `max` members of a lookup in its order, with commas between: the text of a flags
/// enumeration. None at all is the empty string, as WFRMLS has it.
fn many(out: &mut Vec<u8>, hash: u64, lookup: &Lookup, min: u32, max: u32) {
    let bound = u32::try_from(lookup.displays.len()).unwrap_or(0);
    let wanted = (min + below(hash, max - min + 1)).min(bound);
    let (mut chosen, mut draw) = (0_u64, hash);
    while chosen.count_ones() < wanted {
        draw = mix(draw);
        chosen |= 1 << below(draw, bound);
    }
    out.push(b'"');
    let mut first = true;
    for (at, display) in lookup.displays.iter().enumerate() {
        if chosen >> at & 1 == 1 {
            if !first {
                out.push(b',');
            }
            first = false;
            text::escaped(out, display);
        }
    }
    out.push(b'"');
}

/// Appends `801-555-0142`: numbers that are nobody's.
fn phone(out: &mut Vec<u8>, hash: u64) {
    static AREA: &[&[u8]] = &[b"\"801-555-", b"\"385-555-", b"\"435-555-"];
    out.extend_from_slice(pick(hash, AREA));
    let number = 10_000 + below(mix(hash), 10_000);
    for place in [1_000, 100, 10, 1] {
        out.push(b'0' + u8::try_from(number / place % 10).unwrap_or(0));
    }
    out.push(b'"');
}
