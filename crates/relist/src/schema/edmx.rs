//! `$metadata`: a service's schema from its CSDL XML (OData 4.0 and 4.01).
//!
//! What is read, and how it is understood:
//! - Every `Schema` element, its `Namespace` and its `Alias`. Names are case sensitive.
//! - Each `EntitySet` is a resource. Its fields are the properties of its entity type, those of
//!   the base types first; its key is the type's `Key`. A key of several parts is an error: a
//!   record would have to be stored under a part of its key, and records would overwrite others.
//! - A property of an enumeration type is a lookup, or a list of lookups when the type says
//!   `IsFlags` or the property is a collection. Values are read as 64-bit integers whatever
//!   `UnderlyingType` says: a large MLS declares `Edm.Int32` and uses values up to 2^62. A member
//!   without a value has that of the member before it plus one.
//! - A type definition is its underlying type. `Edm.Stream` properties are not fields: they are
//!   never in a page. Complex types, collections of anything but strings and lookups, and
//!   geography other than points are kept whole, as JSON.
//! - A member's display text comes from its annotations: a term that ends in `StandardName`
//!   first, then `LookupValue`, `LocalName`, `DisplayName`, `Description`. They may stand in the
//!   member or in an `Annotations` element that targets it.
//! - Functions, actions and singletons are not read.

mod xml;

use super::{EnumMember, EnumType, Field, FieldType, Navigation, Resource, Schema};
use crate::error::Result;
use std::collections::{HashMap, HashSet};
use xml::Element;

/// The longest chain of base types or type definitions that is followed.
const MAX_CHAIN: usize = 32;
/// The most fields of all resources together. The largest service seen has about 5,000.
const MAX_FIELDS: usize = 1_000_000;
/// The endings of annotation terms that hold a member's display text, the best first.
const DISPLAY_TERMS: [&str; 5] = [
    "StandardName",
    "LookupValue",
    "LocalName",
    "DisplayName",
    "Description",
];

impl Schema {
    /// Reads a service's `$metadata` document.
    ///
    /// Fails with [`Error::Metadata`](crate::error::Error::Metadata), which gives the place in
    /// bytes from the start of `xml`. See the [OData CSDL XML Representation 4.01][csdl].
    ///
    /// [csdl]: https://docs.oasis-open.org/odata/odata-csdl-xml/v4.01/odata-csdl-xml-v4.01.html
    pub fn from_metadata(xml: &[u8]) -> Result<Schema> {
        let root = xml::read(xml)?;
        let model = Model::new(&root)?;
        let mut schema = Schema::default();
        for (name, element) in &model.enums {
            schema.enums.push(model.enum_type(name, element)?);
        }
        let mut fields = 0;
        for set in &model.sets {
            let resource = model.resource(set)?;
            fields += resource.fields.len() + resource.navigation.len();
            if fields > MAX_FIELDS {
                return Err(set.error(format!("the resources have more than {MAX_FIELDS} fields")));
            }
            schema.resources.push(resource);
        }
        Ok(schema)
    }
}

/// What a qualified name stands for.
#[derive(Clone, Copy)]
enum Type<'a> {
    Entity(&'a Element),
    Complex,
    Enum { is_flags: bool },
    Definition(&'a Element),
}

/// The document's declarations by name, before they are resolved.
#[derive(Default)]
struct Model<'a> {
    /// Alias to namespace, of the schemas and of what is included from elsewhere.
    aliases: HashMap<&'a str, &'a str>,
    /// Namespaces that other documents declare.
    external: HashSet<&'a str>,
    types: HashMap<String, Type<'a>>,
    enums: Vec<(String, &'a Element)>,
    sets: Vec<&'a Element>,
    /// The first set of each entity type.
    set_of_type: HashMap<String, &'a str>,
    /// `Annotations` elements by what they target.
    annotations: HashMap<String, Vec<&'a Element>>,
}

impl<'a> Model<'a> {
    fn new(root: &'a Element) -> Result<Self> {
        if root.name != "Edmx" {
            let reason = format!("<{}> found where <edmx:Edmx> was expected", root.name);
            return Err(root.error(reason));
        }
        if let Some(version) = root.attribute("Version").filter(|v| !v.starts_with("4.")) {
            let reason = format!("Edmx has Version {version:?}; OData 4.0 or 4.01 was expected");
            return Err(root.error(reason));
        }
        let mut model = Model::default();
        for include in root.all("Reference").flat_map(|r| r.all("Include")) {
            let namespace = include.required("Namespace")?;
            model.external.insert(namespace);
            if let Some(alias) = include.attribute("Alias") {
                model.aliases.insert(alias, namespace);
            }
        }
        let schemas: Vec<_> = root
            .all("DataServices")
            .flat_map(|d| d.all("Schema"))
            .collect();
        for schema in &schemas {
            if let Some(alias) = schema.attribute("Alias") {
                model.aliases.insert(alias, schema.required("Namespace")?);
            }
        }
        for schema in &schemas {
            model.declare(schema)?;
        }
        model.declare_sets()?;
        if model.sets.is_empty() {
            let reason = "no EntitySet in the document: a service lists its resources in an \
                          EntityContainer";
            return Err(root.error(reason));
        }
        Ok(model)
    }

    fn declare(&mut self, schema: &'a Element) -> Result<()> {
        let namespace = schema.required("Namespace")?;
        for child in schema.children() {
            let declared = match child.name.as_str() {
                "EntityType" => Type::Entity(child),
                "ComplexType" => Type::Complex,
                "EnumType" => Type::Enum {
                    is_flags: flag(child, "IsFlags")?,
                },
                "TypeDefinition" => Type::Definition(child),
                "EntityContainer" => {
                    self.sets.extend(child.all("EntitySet"));
                    continue;
                }
                "Annotations" => {
                    let target = self.qualified(child.required("Target")?);
                    self.annotations.entry(target).or_default().push(child);
                    continue;
                }
                _ => continue,
            };
            let name = format!("{namespace}.{}", child.required("Name")?);
            if matches!(declared, Type::Enum { .. }) {
                self.enums.push((name.clone(), child));
            }
            if self.types.contains_key(&name) {
                return Err(child.error(format!("{name} is declared twice")));
            }
            self.types.insert(name, declared);
        }
        Ok(())
    }

    fn declare_sets(&mut self) -> Result<()> {
        let mut names = HashSet::new();
        for set in &self.sets {
            let name = set.required("Name")?;
            if !names.insert(name) {
                return Err(set.error(format!("EntitySet {name} is declared twice")));
            }
            let type_name = self.qualified(set.required("EntityType")?);
            self.set_of_type.entry(type_name).or_insert(name);
        }
        Ok(())
    }

    /// The name with its namespace in the place of an alias. Only the first segment of a path
    /// carries one.
    fn qualified(&self, name: &str) -> String {
        let (first, path) = name.find('/').map_or((name, ""), |at| name.split_at(at));
        match first.rsplit_once('.') {
            Some((prefix, short)) => match self.aliases.get(prefix) {
                Some(namespace) => format!("{namespace}.{short}{path}"),
                None => name.to_owned(),
            },
            None => name.to_owned(),
        }
    }

    fn enum_type(&self, name: &str, element: &'a Element) -> Result<EnumType> {
        let mut members = Vec::new();
        let mut next = Some(0_i64);
        for member in element.all("Member") {
            let member_name = member.required("Name")?;
            let value = match member.attribute("Value") {
                Some(text) => text.trim().parse::<i64>().map_err(|_| {
                    let reason = format!(
                        "{name} member {member_name} has Value {text:?}; an integer of 64 bits \
                         was expected"
                    );
                    member.error(reason)
                })?,
                None => next.ok_or_else(|| {
                    member.error(format!("{name} member {member_name}: no value is left"))
                })?,
            };
            next = value.checked_add(1);
            let display = self.display(&format!("{name}/{member_name}"), member);
            members.push(EnumMember {
                name: member_name.to_owned(),
                value,
                display: display.filter(|d| d != member_name),
            });
        }
        let is_flags = flag(element, "IsFlags")?;
        Ok(EnumType {
            name: name.to_owned(),
            is_flags,
            members,
        })
    }

    fn display(&self, path: &str, member: &'a Element) -> Option<String> {
        let outside = self.annotations.get(path).into_iter().flatten();
        let annotations: Vec<_> = std::iter::once(member)
            .chain(outside.copied())
            .flat_map(|e| e.all("Annotation"))
            .collect();
        DISPLAY_TERMS.iter().find_map(|ending| {
            let of_term = annotations.iter().filter(|a| {
                a.attribute("Term")
                    .is_some_and(|t| t.trim().ends_with(ending))
            });
            of_term
                .filter_map(|a| annotation_text(a))
                .find(|text| !text.is_empty())
        })
    }

    fn resource(&self, set: &'a Element) -> Result<Resource> {
        let name = set.required("Name")?;
        let type_name = self.qualified(set.required("EntityType")?);
        let Some(Type::Entity(entity)) = self.types.get(&type_name) else {
            return Err(set.error(format!(
                "EntitySet {name}: no EntityType is named {type_name}"
            )));
        };
        let chain = self.base_types(entity)?;
        let mut fields = Fields::default();
        let mut navigation = Vec::new();
        for entity in chain.iter().rev() {
            for property in entity.all("Property") {
                if let Some(ty) = self.field_type(property, property.required("Type")?)? {
                    fields.add(property, ty)?;
                }
            }
            for property in entity.all("NavigationProperty") {
                navigation.push(self.navigation(set, property)?);
            }
        }
        let key_field = key_of(name, entity, &chain)?.to_owned();
        if !fields.places.contains_key(key_field.as_str()) {
            let reason = format!("EntitySet {name}: its key {key_field} is not one of its fields");
            return Err(entity.error(reason));
        }
        Ok(Resource {
            name: name.to_owned(),
            key_field,
            declared: true,
            fields: fields.list,
            navigation,
        })
    }

    /// The entity type and its base types, the most derived first.
    fn base_types(&self, entity: &'a Element) -> Result<Vec<&'a Element>> {
        let mut chain = vec![entity];
        let mut at = entity;
        while let Some(base) = at.attribute("BaseType") {
            let base = self.qualified(base);
            let Some(Type::Entity(next)) = self.types.get(&base) else {
                return Err(at.error(format!("BaseType {base} is not an EntityType here")));
            };
            if chain.len() == MAX_CHAIN || chain.iter().any(|seen| std::ptr::eq(*seen, *next)) {
                return Err(at.error(format!("BaseType {base} leads in a circle")));
            }
            chain.push(next);
            at = next;
        }
        Ok(chain)
    }

    /// The type of a field; `None` for a stream, which is no field.
    fn field_type(&self, property: &Element, type_name: &str) -> Result<Option<FieldType>> {
        let (element_type, collection) = unwrap_collection(type_name);
        let mut name = self.qualified(element_type);
        for _ in 0..MAX_CHAIN {
            if let Some(edm) = name.strip_prefix("Edm.") {
                return edm_type(edm, collection).ok_or_else(|| {
                    property.error(format!("there is no type Edm.{edm} in OData 4"))
                });
            }
            let (prefix, _) = name.rsplit_once('.').unwrap_or_default();
            match self.types.get(&name) {
                Some(Type::Definition(definition)) => {
                    name = self.qualified(definition.required("UnderlyingType")?);
                }
                Some(Type::Enum { is_flags }) if *is_flags || collection => {
                    return Ok(Some(FieldType::LookupList(name)));
                }
                Some(Type::Enum { .. }) => return Ok(Some(FieldType::Lookup(name))),
                Some(Type::Complex | Type::Entity(_)) => return Ok(Some(FieldType::Json)),
                None if self.external.contains(prefix) => return Ok(Some(FieldType::Json)),
                None => {
                    let subject = property.attribute("Name").unwrap_or_default();
                    let reason = format!("Property {subject}: no type is named {name}");
                    return Err(property.error(reason));
                }
            }
        }
        Err(property.error(format!("TypeDefinition {name} leads in a circle")))
    }

    /// Where a navigation property leads: the set it is bound to, else the first set of its type,
    /// else the type's own name (its entities are only had through `$expand`).
    fn navigation(&self, set: &'a Element, property: &'a Element) -> Result<Navigation> {
        let name = property.required("Name")?;
        let (type_name, collection) = unwrap_collection(property.required("Type")?);
        let type_name = self.qualified(type_name);
        let bound = set
            .all("NavigationPropertyBinding")
            .find(|b| {
                b.attribute("Path")
                    .is_some_and(|p| p.rsplit('/').next() == Some(name))
            })
            .and_then(|b| b.attribute("Target"))
            .and_then(|t| t.rsplit('/').next());
        let of_type = || self.set_of_type.get(&type_name).copied();
        let short = type_name.rsplit('.').next().unwrap_or(&type_name);
        let target = bound.or_else(of_type).unwrap_or(short).to_owned();
        Ok(Navigation {
            name: name.to_owned(),
            target,
            collection,
        })
    }
}

/// The fields of a resource as far as they are known.
#[derive(Default)]
struct Fields<'a> {
    list: Vec<Field>,
    places: HashMap<&'a str, usize>,
}

impl<'a> Fields<'a> {
    /// Adds the field that a property is. A property that repeats one of a base type is the same
    /// field, as long as both are of one type.
    fn add(&mut self, property: &'a Element, ty: FieldType) -> Result<()> {
        let name = property.required("Name")?;
        if let Some(&at) = self.places.get(name) {
            if self.list.get(at).is_some_and(|f| f.ty == ty) {
                return Ok(());
            }
            let reason = format!("Property {name} is declared twice, with different types");
            return Err(property.error(reason));
        }
        if self.list.len() == usize::from(u16::MAX) {
            let reason = format!(
                "Property {name}: a resource has at most {} fields",
                u16::MAX
            );
            return Err(property.error(reason));
        }
        self.places.insert(name, self.list.len());
        self.list.push(Field {
            name: name.to_owned(),
            ty,
            declared: true,
        });
        Ok(())
    }
}

/// The one field of the key of an entity type, its own or inherited.
fn key_of<'a>(set: &str, entity: &Element, chain: &[&'a Element]) -> Result<&'a str> {
    let Some(key) = chain.iter().find_map(|e| e.all("Key").next()) else {
        return Err(entity.error(format!("EntitySet {set}: its type has no Key")));
    };
    let parts = key
        .all("PropertyRef")
        .map(|r| r.required("Name"))
        .collect::<Result<Vec<_>>>()?;
    match parts[..] {
        [name] => Ok(name),
        [] => Err(key.error(format!("EntitySet {set}: its Key has no PropertyRef"))),
        _ => {
            let parts = parts.join(", ");
            let reason = format!(
                "EntitySet {set}: its key has several parts ({parts}); a key of one field was \
                 expected"
            );
            Err(key.error(reason))
        }
    }
}

/// The field type of an `Edm.` type: `Some(None)` for a stream, `None` when there is no such type.
#[expect(
    clippy::option_option,
    reason = "skip, unknown and known are three answers"
)]
fn edm_type(name: &str, collection: bool) -> Option<Option<FieldType>> {
    let ty = match name {
        "Stream" => return Some(None),
        "String" if collection => FieldType::StringList,
        "String" | "Duration" | "Binary" => FieldType::String,
        "Boolean" => FieldType::Bool,
        "Byte" | "SByte" | "Int16" | "Int32" | "Int64" => FieldType::Int,
        "Decimal" | "Double" | "Single" => FieldType::Decimal,
        "Date" => FieldType::Date,
        "DateTimeOffset" => FieldType::DateTime,
        "TimeOfDay" => FieldType::TimeOfDay,
        "Guid" => FieldType::Guid,
        "GeographyPoint" => FieldType::GeoPoint,
        "Untyped" | "PrimitiveType" | "ComplexType" | "EntityType" => FieldType::Json,
        _ if name.starts_with("Geography") || name.starts_with("Geometry") => FieldType::Json,
        _ => return None,
    };
    match ty {
        FieldType::StringList => Some(Some(ty)),
        _ if collection => Some(Some(FieldType::Json)),
        ty => Some(Some(ty)),
    }
}

/// The type inside of `Collection(..)`, and whether there was one.
fn unwrap_collection(name: &str) -> (&str, bool) {
    let inner = name
        .trim()
        .strip_prefix("Collection(")
        .and_then(|rest| rest.strip_suffix(')'));
    inner.map_or((name.trim(), false), |inner| (inner.trim(), true))
}

/// A boolean attribute, false when it is absent.
fn flag(element: &Element, name: &str) -> Result<bool> {
    match element.attribute(name) {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(other) => {
            let reason = format!("{name} is {other:?}; true or false was expected");
            Err(element.error(reason))
        }
    }
}

/// The string that an annotation holds, as an attribute or as an element.
fn annotation_text(annotation: &Element) -> Option<String> {
    let text = annotation
        .attribute("String")
        .or_else(|| annotation.all("String").next().map(|s| s.text.as_str()))?;
    Some(text.trim().to_owned())
}
