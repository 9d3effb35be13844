//! Which field of an entity is its key, and what it holds.

use crate::keycode::{Key, MAX_KEY_LEN};
use crate::schema::{FieldType, Resource};
use crate::value::Decimal;

/// How the key of a resource's entities is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpec {
    /// The key field: `ListingKeyNumeric`.
    pub field: String,
    /// Whether the key is an integer.
    pub integer: bool,
    /// A field with the same key as a string (`ListingKey`), read when the key field is not sent.
    pub twin: Option<String>,
}

impl KeySpec {
    /// The key of a resource whose schema is known.
    pub fn of(resource: &Resource) -> Self {
        let field = resource.key_field.clone();
        let integer = resource
            .field_named(&field)
            .is_some_and(|f| f.ty == FieldType::Int);
        KeySpec::new(field, integer)
    }

    /// A key field by name. A field `...KeyNumeric` has its string twin `...Key`
    /// (RESO Data Dictionary 1.7 declares most keys in both forms).
    pub fn new(field: String, integer: bool) -> Self {
        let twin = integer
            .then(|| field.strip_suffix("Numeric").map(str::to_owned))
            .flatten();
        KeySpec {
            field,
            integer,
            twin,
        }
    }

    /// The key of a resource that no `$metadata` declares, from the fields of its first entity.
    ///
    /// RESO's own names come first (`ListingKey` for Property, `MediaKey` for Media), then
    /// `<Resource>Key`, their numeric twins, and last the key in `@odata.id`. `None` when the
    /// entity has none of them.
    pub(crate) fn infer(resource: &str, entity: &str) -> Option<Self> {
        let members = super::members::members(entity).ok()?;
        let has = |name: &str| {
            members
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, raw)| raw.get())
        };
        let base = key_base(resource);
        for name in [base.clone(), format!("{base}Numeric")] {
            if let Some(raw) = has(&name).filter(|raw| *raw != "null") {
                return Some(KeySpec::new(name, !raw.starts_with('"')));
            }
        }
        let id: String = serde_json::from_str(has("@odata.id")?).ok()?;
        let key = key_in_id(&id)?;
        let integer = key.parse::<i64>().is_ok();
        let field = if integer {
            format!("{base}Numeric")
        } else {
            base
        };
        Some(KeySpec::new(field, integer))
    }

    /// The key in the raw JSON text of the key field (or its twin).
    pub(crate) fn read(&self, raw: &str) -> Result<Key, String> {
        let text = if raw.starts_with('"') {
            serde_json::from_str::<String>(raw).map_err(|e| format!("the key is {e}"))?
        } else if raw == "null" {
            return Err("the key is null".to_owned());
        } else if raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            raw.to_owned()
        } else {
            return Err(format!(
                "the key is {raw:.40}, expected {}",
                self.expected()
            ));
        };
        self.read_text(&text)
    }

    /// The key in `@odata.id`: `Property(1001613)`, `Media('x')`, relative or absolute.
    pub(crate) fn read_id(&self, id: &str) -> Result<Key, String> {
        let key = key_in_id(id).ok_or_else(|| format!("@odata.id {id:?} names no key"))?;
        self.read_text(&key)
    }

    fn read_text(&self, text: &str) -> Result<Key, String> {
        if text.is_empty() {
            return Err("the key is empty".to_owned());
        }
        if self.integer {
            let number = text.parse().ok().or_else(|| Decimal::parse(text)?.to_i64());
            return number
                .map(Key::Int)
                .ok_or_else(|| format!("the key is {text:.40}, expected {}", self.expected()));
        }
        if text.len() > MAX_KEY_LEN {
            return Err(format!(
                "the key is {} bytes long, at most {MAX_KEY_LEN} are",
                text.len()
            ));
        }
        Ok(Key::Str(text.to_owned()))
    }

    fn expected(&self) -> &'static str {
        if self.integer {
            "an integer"
        } else {
            "a string"
        }
    }
}

/// RESO's name for the key of a resource, without `Numeric`.
fn key_base(resource: &str) -> String {
    match resource {
        "Property" => "ListingKey".to_owned(),
        "PropertyUnitTypes" => "UnitTypeKey".to_owned(),
        "PropertyRooms" => "RoomKey".to_owned(),
        "PropertyGreenVerification" => "GreenBuildingVerificationKey".to_owned(),
        "PropertyPowerProduction" => "PowerProductionKey".to_owned(),
        "Teams" => "TeamKey".to_owned(),
        "TeamMembers" => "TeamMemberKey".to_owned(),
        "OUID" => "OrganizationUniqueIdKey".to_owned(),
        "EntityEvent" => "EntityEventSequence".to_owned(),
        other => format!("{other}Key"),
    }
}

/// What stands between the last parentheses of an entity id, unquoted.
fn key_in_id(id: &str) -> Option<String> {
    let (_, rest) = id.rsplit_once('(')?;
    let inner = rest.strip_suffix(')')?;
    let bare = inner
        .strip_prefix('\'')
        .and_then(|i| i.strip_suffix('\''))
        .unwrap_or(inner);
    (!bare.is_empty()).then(|| bare.replace("''", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_refused() {
        let numeric = KeySpec::new("ListingKeyNumeric".into(), true);
        assert_eq!(numeric.twin.as_deref(), Some("ListingKey"));
        assert_eq!(numeric.read("12"), Ok(Key::Int(12)));
        assert_eq!(numeric.read("12.0"), Ok(Key::Int(12)));
        assert_eq!(numeric.read("\"543141\""), Ok(Key::Int(543_141)));
        for bad in ["null", "\"\"", "1.5", "\"x\"", "true", "[1]", "{}", "1e400"] {
            assert!(numeric.read(bad).is_err(), "{bad}");
        }
        let text = KeySpec::new("MediaKey".into(), false);
        assert_eq!(text.read("12"), Ok(Key::Str("12".into())));
        assert_eq!(
            text.read_id("Media(a_1.jpg)"),
            Ok(Key::Str("a_1.jpg".into()))
        );
        assert_eq!(
            text.read_id("https://h/Media('O''B')"),
            Ok(Key::Str("O'B".into()))
        );
        assert!(text.read(&format!("\"{}\"", "k".repeat(10_240))).is_err());
    }

    #[test]
    fn a_key_is_inferred_from_the_first_entity() {
        let infer =
            |resource, entity| KeySpec::infer(resource, entity).map(|k| (k.field, k.integer));
        assert_eq!(
            infer("Property", r#"{"ListingKeyNumeric":1,"ListingKey":"1"}"#),
            Some(("ListingKey".into(), false))
        );
        assert_eq!(
            infer(
                "Property",
                r#"{"@odata.id":"Property(1001613)","PostalCode":"84093"}"#
            ),
            Some(("ListingKeyNumeric".into(), true))
        );
        assert_eq!(
            infer("Widget", r#"{"WidgetKey":7}"#),
            Some(("WidgetKey".into(), true))
        );
        assert_eq!(infer("Widget", r#"{"Name":"x"}"#), None);
    }
}
