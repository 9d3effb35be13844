//! What the server asks of the rows it serves.

use relist::schema::Schema;

use crate::text::Seconds;

/// A handle to a row, of meaning only to the backend that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(pub u64);

/// A key, as it stands in a URL: `Property(123)`, `Media('abc')`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A number.
    Int(i64),
    /// A string.
    Str(String),
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Int(key) => write!(f, "{key}"),
            Key::Str(key) => write!(f, "'{key}'"),
        }
    }
}

/// Which rows to visit, and in which order. What is not one of the fast ways is a scan of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// All rows, in the order of their keys.
    All,
    /// The rows whose key is above `key` (or equal to it, when `inclusive`), in key order.
    KeyAbove {
        /// The bound.
        key: Key,
        /// Whether the bound itself is one of them.
        inclusive: bool,
    },
    /// All rows, by `ModificationTimestamp` (none first) and then by key.
    ByModified,
    /// The rows with a `ModificationTimestamp` of `at` or later, by it and then by key.
    ModifiedSince {
        /// The bound, inclusive.
        at: Seconds,
    },
}

/// Rows to serve, and the clock they live by.
///
/// Resources are named by their place in [`schema`](Backend::schema), fields by theirs in the
/// resource.
pub trait Backend: Send {
    /// The server's time.
    fn now(&self) -> Seconds;

    /// What is served. A resource that is not `declared` answers, but stands neither in
    /// `$metadata` nor in the service document.
    fn schema(&self) -> &Schema;

    /// How many rows a resource has.
    fn count(&self, resource: usize) -> u64;

    /// Calls `visit` with each row that `access` names, until it answers false.
    fn scan(&self, resource: usize, access: &Access, visit: &mut dyn FnMut(RowId) -> bool);

    /// Sorts rows by key.
    fn sort_by_key(&self, resource: usize, rows: &mut [RowId]);

    /// The row of that key; a key's string twin is a key as well.
    fn find(&self, resource: usize, key: &Key) -> Option<RowId>;

    /// Appends a field's value as JSON; false when the row does not have the field.
    fn write_field(&self, resource: usize, row: RowId, field: usize, out: &mut Vec<u8>) -> bool;

    /// Appends the members of the row's JSON object, without its braces: all that the row has,
    /// or those of `select`, in the resource's order.
    fn write_row(&self, resource: usize, row: RowId, select: Option<&[usize]>, out: &mut Vec<u8>);

    /// The rows of resource `target` that a navigation property leads to.
    fn children(&self, resource: usize, row: RowId, target: usize) -> Vec<RowId>;
}
