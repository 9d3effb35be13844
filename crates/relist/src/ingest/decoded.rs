//! Decoding a batch: on all cores, or ahead; fields that are new are added on the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::apply::{Applying, CHUNK, Item};
use super::examine::Examiner;
use crate::decode::{DecodeContext, Decoder, Entity, Fault};
use crate::diff::canonical_hash;
use crate::error::Result;
use crate::record::natural_type;
use crate::schema::{FieldId, FieldType};
use crate::store::{Catalog, Cause, MAX_FIELDS, Misfit, Packed, WriteTxn, wider};

/// The most fields whose misfits a report names.
const MISFITS: usize = 100;

/// Fields to be added, with the type their values show; none when all are null or empty.
type NewFields = BTreeMap<String, Option<FieldType>>;

/// A record, and either the fields that do not show their type or what is wrong with it.
struct Decoded<'p> {
    item: Item<'p>,
    outcome: Result<Vec<FieldId>, Fault>,
}

impl WriteTxn {
    /// Decodes on all cores; adds fields that are new and decodes their records again.
    pub(super) fn decode<'p>(
        &mut self,
        resource: u16,
        items: Vec<Item<'p>>,
        to: &mut Applying<'_>,
    ) -> Result<Vec<Item<'p>>> {
        let mut decoded = self.decode_once(resource, items, to.cursor_field);
        let unknown = self.new_fields(resource, &mut decoded);
        if !unknown.is_empty() {
            self.add_fields(resource, &unknown, to.cause)?;
            let (again, done): (Vec<_>, Vec<_>) = decoded
                .into_iter()
                .partition(|one| !one.item.entity.unknown.is_empty());
            decoded = done;
            let again = again.into_iter().map(|one| one.item).collect();
            decoded.extend(self.decode_once(resource, again, to.cursor_field));
            let place = |one: &Decoded<'p>| (one.item.page_at, one.item.index);
            decoded.sort_by(|a, b| a.item.key.cmp(b.item.key).then(place(a).cmp(&place(b))));
        }
        let mut out = Vec::with_capacity(decoded.len());
        let mut retyped = false;
        for Decoded { item, outcome } in decoded {
            match outcome {
                Ok(odd) => {
                    for field in odd {
                        retyped |= self.note_odd(resource, field, &item, to)?;
                    }
                    out.push(item);
                }
                Err(fault) => {
                    to.settle(item.page_at);
                    self.put_aside(item.page, item.index, item.raw, fault, to)?;
                }
            }
        }
        if let Some(resource) = self.catalog.resource(resource).filter(|_| retyped) {
            // What a record says depends on the types of its fields.
            let items = out.par_iter_mut().with_min_len(CHUNK);
            items.for_each(|item| {
                item.canonical = canonical_hash(item.entity.body.as_body().cells(), resource);
            });
        }
        Ok(out)
    }

    /// The fields that records have and the resource has not, with the type that their values
    /// show together. A record with more of them than there is room for is at fault.
    fn new_fields(&self, resource: u16, decoded: &mut [Decoded<'_>]) -> NewFields {
        let held = self
            .catalog
            .resource(resource)
            .map_or(0, |r| r.fields.len());
        let room = MAX_FIELDS.saturating_sub(held);
        let mut out = NewFields::new();
        for one in decoded {
            let names = one.item.entity.unknown.iter();
            let new = names.filter(|(name, _)| !out.contains_key(name)).count();
            if out.len() + new > room {
                let reason = format!(
                    "has {new} fields that are new, {} has {} of at most {MAX_FIELDS}: are its \
                     names no names of fields?",
                    one.item.page.resource,
                    held + out.len()
                );
                one.item.entity = Entity::default();
                one.outcome = Err((None, reason));
                continue;
            }
            for (name, seen) in &one.item.entity.unknown {
                let ty = out.entry(name.clone()).or_default();
                *ty = match (ty.take(), seen) {
                    (Some(known), Some(seen)) => Some(wider(&known, seen)),
                    (known, seen) => known.or_else(|| seen.clone()),
                };
            }
        }
        out
    }

    fn decode_once<'p>(
        &self,
        resource: u16,
        mut items: Vec<Item<'p>>,
        cursor_field: &str,
    ) -> Vec<Decoded<'p>> {
        let id = resource;
        let Some(resource) = self.catalog.resource(id) else {
            return Vec::new();
        };
        if self.drop_stale(&mut items) {
            return items.into_iter().map(take_ready).collect();
        }
        let context = DecodeContext::new(resource);
        let (untyped, cursor) = (self.catalog.untyped(id), resource.field_id(cursor_field));
        let fold = || {
            let decoder = Decoder::new(&context);
            (decoder, Examiner::new(resource, untyped, cursor))
        };
        let decode = |(decoder, examiner): &mut (Decoder<'_>, Examiner<'_>), mut item: Item<'p>| {
            if item.ready.is_some() {
                return take_ready(item);
            }
            let key = (item.key, item.page.key_spec.as_ref());
            let text = item.page.text(item.raw);
            let entity = decoder.decode_each(text, key, &mut |field, cell, _| {
                examiner.add(field, cell);
            });
            let outcome = entity.map(|entity| {
                let seen = examiner.take();
                item.entity = entity;
                (item.canonical, item.source_time) = (seen.canonical, seen.source_time);
                seen.odd
            });
            (item.packed, item.block) = (Packed::default(), None);
            Decoded { item, outcome }
        };
        let items = items.into_par_iter().with_min_len(CHUNK);
        items.map_init(fold, decode).collect()
    }

    /// Forgets what was decoded ahead by another catalog than this one; tells whether the others
    /// are all.
    fn drop_stale(&self, items: &mut [Item<'_>]) -> bool {
        let mut judged: Option<(Arc<Catalog>, bool)> = None;
        let mut all = true;
        for item in items {
            if let Some(ready) = &item.ready {
                let fresh = match &judged {
                    Some((by, fresh)) if Arc::ptr_eq(by, &ready.catalog) => *fresh,
                    _ => {
                        let fresh = Arc::ptr_eq(&self.catalog, &ready.catalog)
                            || self.catalog == ready.catalog;
                        judged = Some((Arc::clone(&ready.catalog), fresh));
                        fresh
                    }
                };
                if !fresh {
                    item.ready = None;
                }
            }
            all &= item.ready.is_some();
        }
        all
    }

    /// Logs a new field, but not the many that come with the first records of a resource.
    fn add_fields(&mut self, resource: u16, fields: &NewFields, cause: Cause) -> Result<()> {
        let first = self
            .counters
            .slots
            .get(usize::from(resource))
            .is_none_or(|n| *n == 0);
        for (name, ty) in fields {
            self.catalog_mut().add_field(resource, name, ty.clone())?;
        }
        if first {
            return Ok(());
        }
        let names: Vec<String> = fields
            .iter()
            .map(|(name, ty)| match ty {
                Some(ty) => format!("{name} added as {}", ty.name()),
                None => format!("{name} added, without a value so far"),
            })
            .collect();
        self.log_schema(resource, cause, names.join("; "))
    }

    /// A cell that does not show its field's type: a misfit of a declared field is reported, the
    /// type of an inferred one is widened: answers whether it was.
    fn note_odd(
        &mut self,
        resource: u16,
        field: FieldId,
        item: &Item<'_>,
        to: &mut Applying<'_>,
    ) -> Result<bool> {
        let Some(cell) = item.entity.body.as_body().cell(field) else {
            return Ok(false);
        };
        let def = self
            .catalog
            .resource(resource)
            .and_then(|r| r.field(field))
            .cloned();
        let Some(def) = def else { return Ok(false) };
        if def.declared {
            let name = &def.name;
            if let Some(known) = to.report.misfits.iter_mut().find(|m| m.field == *name) {
                known.count += 1;
            } else if to.report.misfits.len() < MISFITS {
                let value: String = cell.to_json().chars().take(60).collect();
                to.report.misfits.push(Misfit {
                    field: name.clone(),
                    expected: def.ty.name().to_owned(),
                    count: 1,
                    first: format!("{} record {}: {value}", item.page.origin, item.index),
                });
            }
            return Ok(false);
        }
        let Some(seen) = natural_type(cell) else {
            return Ok(false);
        };
        if let Some((from, wide)) = self.catalog_mut().widen(resource, field, &seen) {
            let was = from.as_ref().map_or("without a value", FieldType::name);
            let note = format!("{} was {was}, is {}", def.name, wide.name());
            self.log_schema(resource, to.cause, note)?;
            return Ok(true);
        }
        Ok(false)
    }
}

/// What was decoded ahead, as if it had been decoded now.
fn take_ready(mut item: Item<'_>) -> Decoded<'_> {
    let Some(ready) = item.ready.take() else {
        // It was asked before.
        let outcome = Err((None, "was not decoded".to_owned()));
        return Decoded { item, outcome };
    };
    let outcome = ready.outcome.map(|(entity, seen)| {
        item.entity = entity;
        (item.canonical, item.source_time) = (seen.canonical, seen.source_time);
        seen.odd
    });
    (item.packed, item.block) = (ready.packed, ready.block);
    Decoded { item, outcome }
}
