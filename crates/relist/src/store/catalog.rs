//! The catalog: the schema as the store has it, which only grows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::decode::KeySpec;
use crate::error::{Error, Result};
use crate::schema::{Field, FieldId, FieldType, Resource, Schema};

/// The most fields a resource may have.
pub(crate) const MAX_FIELDS: usize = 10_000;

/// The stored schema, and which fields the feed has withdrawn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catalog {
    pub(crate) schema: Schema,
    /// By resource: fields that vanished from many records at once, whose values are kept.
    withdrawn: Vec<Vec<FieldId>>,
    /// By resource: inferred fields of which no value has shown its type yet.
    untyped: Vec<Vec<FieldId>>,
}

impl Catalog {
    pub(crate) fn id(&self, resource: &str) -> Option<u16> {
        let at = self
            .schema
            .resources
            .iter()
            .position(|r| r.name == resource)?;
        u16::try_from(at).ok()
    }

    pub(crate) fn resource(&self, id: u16) -> Option<&Resource> {
        self.schema.resources.get(usize::from(id))
    }

    /// The id, or the error that lists what there is.
    pub(crate) fn require(&self, resource: &str) -> Result<u16> {
        self.id(resource).ok_or_else(|| Error::UnknownResource {
            name: resource.to_owned(),
            known: self
                .schema
                .resources
                .iter()
                .map(|r| r.name.clone())
                .collect(),
        })
    }

    /// Takes over what `$metadata` declares; returns a line for each resource that changed.
    ///
    /// # Errors
    /// [`Error::Usage`] when a resource that holds records would get another key.
    pub(super) fn define(
        &mut self,
        declared: &Schema,
        holds_records: impl Fn(u16) -> bool,
    ) -> Result<Vec<(u16, String)>> {
        let mut events = Vec::new();
        for incoming in &declared.resources {
            let Some(id) = self.id(&incoming.name) else {
                self.schema.resources.push(incoming.clone());
                continue;
            };
            let Some(own) = self.schema.resources.get_mut(usize::from(id)) else {
                continue;
            };
            if own.key_field != incoming.key_field {
                if holds_records(id) {
                    return Err(Error::Usage(format!(
                        "{} is stored by its key {}, $metadata says {}: start a new store for it",
                        own.name, own.key_field, incoming.key_field
                    )));
                }
                own.key_field.clone_from(&incoming.key_field);
            }
            let changed = merge_fields(own, incoming)?;
            own.navigation.clone_from(&incoming.navigation);
            own.declared = true;
            if !changed.is_empty() {
                events.push((id, changed.join("; ")));
            }
        }
        for incoming in &declared.enums {
            match self
                .schema
                .enums
                .iter_mut()
                .find(|e| e.name == incoming.name)
            {
                Some(own) => own.clone_from(incoming),
                None => self.schema.enums.push(incoming.clone()),
            }
        }
        Ok(events)
    }

    /// The resource's id, adding one that no `$metadata` declared.
    pub(crate) fn ensure(&mut self, name: &str, key: &KeySpec) -> Result<u16> {
        if let Some(id) = self.id(name) {
            return Ok(id);
        }
        let ty = if key.integer {
            FieldType::Int
        } else {
            FieldType::String
        };
        self.schema.resources.push(Resource {
            name: name.to_owned(),
            key_field: key.field.clone(),
            declared: false,
            // The key's type is fixed by the first record: it decides how keys are stored.
            fields: vec![Field {
                name: key.field.clone(),
                ty,
                declared: true,
            }],
            navigation: Vec::new(),
        });
        self.require(name)
    }

    /// Adds a field that pages have and `$metadata` does not. Without a type, it is a string
    /// until a value shows one.
    pub(crate) fn add_field(
        &mut self,
        resource: u16,
        name: &str,
        ty: Option<FieldType>,
    ) -> Result<()> {
        let Some(own) = self.schema.resources.get_mut(usize::from(resource)) else {
            return Ok(());
        };
        if own.field_id(name).is_some() {
            return Ok(());
        }
        let typed = ty.is_some();
        let field = Field {
            name: name.to_owned(),
            ty: ty.unwrap_or(FieldType::String),
            declared: false,
        };
        push_field(own, field)?;
        if !typed && let Some(id) = own.field_id(name) {
            set(&mut self.untyped, resource, id, true);
        }
        Ok(())
    }

    /// Widens an inferred field's type to hold `seen` too; returns what it was, where a value had
    /// shown it, and what it is, when that is something else.
    pub(crate) fn widen(
        &mut self,
        resource: u16,
        field: FieldId,
        seen: &FieldType,
    ) -> Option<(Option<FieldType>, FieldType)> {
        let own = self.schema.resources.get_mut(usize::from(resource))?;
        let def = own
            .fields
            .get_mut(usize::from(field.0))
            .filter(|f| !f.declared)?;
        if set(&mut self.untyped, resource, field, false) {
            def.ty = seen.clone();
            return Some((None, def.ty.clone()));
        }
        let wide = wider(&def.ty, seen);
        (wide != def.ty).then(|| (Some(std::mem::replace(&mut def.ty, wide.clone())), wide))
    }

    /// The inferred fields of a resource that have not shown their type yet.
    pub(crate) fn untyped(&self, resource: u16) -> &[FieldId] {
        self.untyped
            .get(usize::from(resource))
            .map_or(&[], Vec::as_slice)
    }

    pub(crate) fn is_withdrawn(&self, resource: u16, field: FieldId) -> bool {
        self.withdrawn
            .get(usize::from(resource))
            .is_some_and(|fields| fields.contains(&field))
    }

    /// Marks a field as withdrawn by the feed, or as back; whether that is news.
    pub(crate) fn set_withdrawn(&mut self, resource: u16, field: FieldId, gone: bool) -> bool {
        set(&mut self.withdrawn, resource, field, gone)
    }

    /// Whether any field of the resource is withdrawn.
    pub(crate) fn withdrawn(&self, resource: u16) -> &[FieldId] {
        self.withdrawn
            .get(usize::from(resource))
            .map_or(&[], Vec::as_slice)
    }
}

/// Puts a field into a resource's set, or takes it out; whether that is news.
fn set(sets: &mut Vec<Vec<FieldId>>, resource: u16, field: FieldId, on: bool) -> bool {
    let at = usize::from(resource);
    if sets.len() <= at {
        sets.resize(at + 1, Vec::new());
    }
    let Some(fields) = sets.get_mut(at) else {
        return false;
    };
    if on == fields.contains(&field) {
        return false;
    }
    if on {
        fields.push(field);
    } else {
        fields.retain(|f| *f != field);
    }
    true
}

fn push_field(own: &mut Resource, field: Field) -> Result<()> {
    if own.fields.len() >= MAX_FIELDS {
        return Err(Error::Usage(format!(
            "{} has more than {MAX_FIELDS} fields: is it keyed by something that is no field name?",
            own.name
        )));
    }
    own.fields.push(field);
    Ok(())
}

fn merge_fields(own: &mut Resource, incoming: &Resource) -> Result<Vec<String>> {
    let mut changed = Vec::new();
    for field in &incoming.fields {
        match own.fields.iter_mut().find(|f| f.name == field.name) {
            Some(mine) if mine.ty == field.ty => mine.declared = true,
            Some(mine) => {
                changed.push(format!(
                    "{} was {}, is {}",
                    field.name,
                    mine.ty.name(),
                    field.ty.name()
                ));
                mine.clone_from(field);
            }
            None => {
                changed.push(format!("{} added as {}", field.name, field.ty.name()));
                push_field(own, field.clone())?;
            }
        }
    }
    Ok(changed)
}

/// The narrowest type that holds both.
pub(crate) fn wider(a: &FieldType, b: &FieldType) -> FieldType {
    use FieldType as F;
    match (a, b) {
        _ if a == b => a.clone(),
        (F::Int, F::Decimal) | (F::Decimal, F::Int) => F::Decimal,
        (F::Date, F::DateTime) | (F::DateTime, F::Date) => F::DateTime,
        // A lookup comes as one string from some records and as a list from others.
        (F::String, F::StringList) | (F::StringList, F::String) => F::StringList,
        (F::Json | F::StringList, _) | (_, F::Json | F::StringList) => F::Json,
        _ => F::String,
    }
}

/// Resources shared with the records that were read, so that reading one costs no copy.
pub(crate) fn share(catalog: &Catalog) -> Vec<Arc<Resource>> {
    catalog
        .schema
        .resources
        .iter()
        .cloned()
        .map(Arc::new)
        .collect()
}
