//! A schema with a field of every type, and rows made of JSON.

use std::borrow::Cow;

use relist::odata::Row;
use relist::schema::{
    EnumMember, EnumType, Field, FieldId, FieldType, Navigation, Resource, Schema,
};
use relist::value::{Date, DateTime, Decimal, GeoPoint, TimeOfDay, Timestamp, Value, parse_guid};
use serde_json::Value as Json;

/// What `now()` means in these tests: 2024-06-15T12:00:00Z.
pub(crate) fn now() -> Timestamp {
    Timestamp(1_718_452_800_000_000)
}

/// The members of `StandardStatus`: name and display text.
pub(crate) const STATUSES: [(&str, Option<&str>); 4] = [
    ("Active", None),
    ("ActiveUnderContract", Some("Active Under Contract")),
    ("Pending", None),
    ("Closed", Some("Closed")),
];

/// The members of `Appliances`.
pub(crate) const APPLIANCES: [(&str, Option<&str>); 4] = [
    ("GasRange", Some("Gas Range")),
    ("Microwave", None),
    ("Dishwasher", None),
    ("_2Ovens", Some("2+ Ovens")),
];

/// The members of `MediaCategory`.
pub(crate) const CATEGORIES: [(&str, Option<&str>); 3] = [
    ("Photo", None),
    ("VirtualTour", Some("Virtual Tour")),
    ("Video", None),
];

fn enum_type(name: &str, members: &[(&str, Option<&str>)], is_flags: bool) -> EnumType {
    let members = members
        .iter()
        .enumerate()
        .map(|(i, (name, display))| EnumMember {
            name: (*name).to_owned(),
            value: 1 << (i + 10),
            display: display.map(str::to_owned),
        });
    EnumType {
        name: format!("Odata.Models.{name}"),
        is_flags,
        members: members.collect(),
    }
}

fn resource(name: &str, key: &str, fields: &[(&str, FieldType)]) -> Resource {
    let fields = fields.iter().map(|(name, ty)| Field {
        name: (*name).to_owned(),
        ty: ty.clone(),
        declared: true,
    });
    Resource {
        name: name.to_owned(),
        key_field: key.to_owned(),
        declared: true,
        fields: fields.collect(),
        navigation: Vec::new(),
    }
}

/// A schema like a small MLS's: Property with Media within it.
pub(crate) fn schema() -> Schema {
    let lookup = |name: &str| FieldType::Lookup(format!("Odata.Models.{name}"));
    let mut property = resource(
        "Property",
        "ListingKey",
        &[
            ("ListingKey", FieldType::String),
            ("ListingKeyNumeric", FieldType::Int),
            ("ListPrice", FieldType::Decimal),
            ("ClosePrice", FieldType::Decimal),
            ("BedroomsTotal", FieldType::Int),
            ("WaterfrontYN", FieldType::Bool),
            ("CloseDate", FieldType::Date),
            ("ModificationTimestamp", FieldType::DateTime),
            ("ShowingStartTime", FieldType::TimeOfDay),
            ("SourceGuid", FieldType::Guid),
            ("City", FieldType::String),
            ("PostalCode", FieldType::String),
            ("StreetName", FieldType::String),
            ("RoomType", FieldType::String),
            ("StandardStatus", lookup("StandardStatus")),
            (
                "Appliances",
                FieldType::LookupList("Odata.Models.Appliances".to_owned()),
            ),
            ("Tags", FieldType::StringList),
            ("ListOfficeTags", FieldType::StringList),
            ("GeoLocation", FieldType::GeoPoint),
            ("Media", FieldType::Json),
            ("Extra", FieldType::Json),
        ],
    );
    let leads_to = |name: &str| Navigation {
        name: name.to_owned(),
        target: name.to_owned(),
        collection: true,
    };
    property.navigation = vec![leads_to("Media"), leads_to("OpenHouse")];
    let media = resource(
        "Media",
        "MediaKey",
        &[
            ("MediaKey", FieldType::String),
            ("MediaCategory", lookup("MediaCategory")),
            ("Order", FieldType::Int),
            ("MediaModificationTimestamp", FieldType::DateTime),
            ("Permission", FieldType::StringList),
        ],
    );
    Schema {
        resources: vec![property, media],
        enums: vec![
            enum_type("StandardStatus", &STATUSES, false),
            enum_type("Appliances", &APPLIANCES, true),
            enum_type("MediaCategory", &CATEGORIES, false),
        ],
    }
}

/// The resource that the filters are about.
pub(crate) fn property(schema: &Schema) -> &Resource {
    schema.resource("Property").expect("the schema has it")
}

/// A JSON entity whose fields are read as the resource declares them.
pub(crate) struct EntityRow<'e> {
    pub(crate) entity: &'e Json,
    pub(crate) resource: &'e Resource,
}

impl Row for EntityRow<'_> {
    fn value(&self, field: FieldId) -> Option<Value<'_>> {
        let field = self.resource.field(field)?;
        Some(typed(self.entity.get(&field.name)?, &field.ty))
    }
}

fn typed<'e>(json: &'e Json, ty: &FieldType) -> Value<'e> {
    let read = match (json, ty) {
        (Json::String(text), FieldType::Date) => Date::parse(text).map(Value::Date),
        (Json::String(text), FieldType::DateTime) => DateTime::parse(text).map(Value::DateTime),
        (Json::String(text), FieldType::TimeOfDay) => TimeOfDay::parse(text).map(Value::TimeOfDay),
        (Json::String(text), FieldType::Guid) => parse_guid(text).map(Value::Guid),
        (Json::Array(items), FieldType::StringList | FieldType::LookupList(_)) => {
            let items: Option<Vec<_>> = items.iter().map(|i| i.as_str().map(Cow::from)).collect();
            items.map(Value::StringList)
        }
        (Json::Object(object), FieldType::GeoPoint) => {
            let number = |i: usize| object.get("coordinates")?.get(i)?.as_f64();
            number(0).zip(number(1)).map(|(longitude, latitude)| {
                Value::GeoPoint(GeoPoint {
                    longitude,
                    latitude,
                })
            })
        }
        _ => None,
    };
    read.unwrap_or_else(|| match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(n) => n.as_i64().map_or_else(
            || Value::Decimal(Decimal::parse(&n.to_string()).expect("a short number")),
            Value::Int,
        ),
        Json::String(text) => Value::str(text),
        nested => Value::Json(nested.to_string().into()),
    })
}
