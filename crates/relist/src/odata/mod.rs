//! OData's query language: what works upstream works here.

use crate::schema::FieldId;
use crate::value::Value;

/// Whatever fields can be read from by id: a stored record, a decoded entity, a test row.
pub trait Row {
    /// The field's value; `None` when the field is absent.
    fn value(&self, field: FieldId) -> Option<Value<'_>>;
}
