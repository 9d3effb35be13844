//! Decoding ahead: records are decoded on other threads while those before them are written.
//!
//! Whoever writes says by which [`Plan`]. What was decoded by another one than it needs in the end
//! is decoded again: a plan is a guess, and a wrong one costs time only.

use std::sync::{Arc, PoisonError, RwLock};

use super::apply::Effort;
use super::examine::{Examined, Examiner};
use super::pipeline::{Jobs, Step};
use crate::column::{Block, BlockBuilder};
use crate::decode::{DecodeContext, Decoder, Entity, Fault, RawEntity, SplitPage};
use crate::schema::{FieldId, Resource};
use crate::store::{Catalog, Packed, Packer, WriteTxn};

/// By what records are decoded ahead.
#[derive(Clone)]
struct Plan {
    catalog: Arc<Catalog>,
    resource: u16,
    cursor: Option<FieldId>,
    packer: Packer,
    /// What is worth doing.
    effort: Worth,
}

/// How far it is worth going with a record that is not known by its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// Most are unchanged by their bytes after all.
    Nothing,
    /// Most are decoded, and say what they said before.
    Decode,
    /// Most are stored.
    Pack,
    /// Most are new.
    Arrange,
}

/// What the threads that decode ahead go by.
#[derive(Default)]
pub(super) struct Ahead(RwLock<Option<Arc<Plan>>>);

/// A record that was decoded ahead.
pub(crate) struct Ready {
    /// By which its fields are meant.
    pub(super) catalog: Arc<Catalog>,
    pub(super) outcome: Result<(Entity, Examined), Fault>,
    /// The body as it is stored; nothing where that was not worth it.
    pub(super) packed: Packed,
    /// The cells of the page's records by field, and which of them are this one's.
    pub(super) block: Option<(Arc<Block>, usize)>,
}

/// The records of a page that were decoded ahead, by their place in it.
pub(crate) type ReadyPage = Vec<Option<Box<Ready>>>;

impl Ahead {
    fn plan(&self) -> Option<Arc<Plan>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Plans by how the records of the last batch fared.
    pub(super) fn renew(&self, txn: &WriteTxn, resource: &str, cursor: &str, last: Effort) {
        let Some(id) = txn.catalog.id(resource) else {
            return;
        };
        let (held, packer) = (self.plan(), txn.current_packer(id));
        let effort = if last.looked_up == 0 {
            held.as_ref().map_or(Worth::Arrange, |held| held.effort)
        } else if last.decoded * 2 < last.looked_up {
            Worth::Nothing
        } else if last.stored * 2 < last.decoded {
            Worth::Decode
        } else if last.inserted * 2 < last.stored {
            Worth::Pack
        } else {
            Worth::Arrange
        };
        let same = held.is_some_and(|held| {
            held.effort == effort
                && held.packer.dictionary() == packer.dictionary()
                && (Arc::ptr_eq(&held.catalog, &txn.catalog) || held.catalog == txn.catalog)
        });
        if same {
            return;
        }
        let definition = txn.catalog.resource(id);
        let plan = Plan {
            catalog: Arc::clone(&txn.catalog),
            resource: id,
            cursor: definition.and_then(|r| r.field_id(cursor)),
            packer,
            effort,
        };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(plan));
    }

    /// How many records fill what is left of a segment of columns, where most are new.
    pub(super) fn room(&self, txn: &WriteTxn, resource: &str) -> u64 {
        let arranges = self.plan().is_some_and(|p| p.effort == Worth::Arrange);
        if arranges {
            txn.room_in_segment(resource)
        } else {
            u64::MAX
        }
    }

    /// Splits what comes by `split`, and decodes it by the plan there is then.
    pub(super) fn work<T>(&self, jobs: &mut Jobs<'_, T>, split: &dyn Fn(T) -> Vec<Step>) {
        let mut job = jobs.next();
        while let Some((input, reply)) = job.take() {
            let plan = self.plan().filter(|plan| plan.effort > Worth::Nothing);
            let resource = plan
                .as_deref()
                .and_then(|plan| Some((plan, plan.catalog.resource(plan.resource)?)));
            let Some((plan, resource)) = resource else {
                reply.send(split(input));
                job = jobs.next();
                continue;
            };
            let context = DecodeContext::new(resource);
            let mut desk = Desk::new(plan, resource, &context);
            job = Some((input, reply));
            while let Some((input, reply)) = job.take() {
                let mut steps = split(input);
                for step in &mut steps {
                    step.ready = desk.page(&step.page);
                }
                reply.send(steps);
                job = jobs.next();
                let now = self.plan();
                if !now.is_some_and(|now| std::ptr::eq(Arc::as_ptr(&now), plan)) {
                    break;
                }
            }
        }
    }
}

/// Where one thread decodes by one plan.
struct Desk<'p> {
    plan: &'p Plan,
    decoder: Decoder<'p>,
    examiner: Examiner<'p>,
    builder: BlockBuilder,
}

impl<'p> Desk<'p> {
    fn new(plan: &'p Plan, resource: &'p Resource, context: &'p DecodeContext<'p>) -> Self {
        let untyped = plan.catalog.untyped(plan.resource);
        Desk {
            plan,
            decoder: Decoder::new(context),
            examiner: Examiner::new(resource, untyped, plan.cursor),
            builder: BlockBuilder::default(),
        }
    }

    fn page(&mut self, page: &SplitPage) -> ReadyPage {
        let mut out: ReadyPage = Vec::with_capacity(page.entities.len());
        self.builder.clear();
        // By record of the block: its place in the page.
        let mut arranged = Vec::new();
        for raw in &page.entities {
            let ready = self.record(page, raw);
            let decoded = ready.as_ref().is_some_and(|ready| ready.outcome.is_ok());
            if decoded && self.plan.effort == Worth::Arrange && self.builder.end_row() {
                arranged.push(out.len());
            } else {
                self.builder.forget_row();
            }
            out.push(ready);
        }
        if arranged.is_empty() {
            return out;
        }
        let body = |row: usize| {
            let place = arranged.get(row).and_then(|place| out.get(*place));
            let ready = place.and_then(Option::as_deref);
            let entity = ready.and_then(|ready| ready.outcome.as_ref().ok());
            entity.map_or(&[][..], |(entity, _)| entity.body.0.as_slice())
        };
        let block = Arc::new(self.builder.finish(body));
        for (row, place) in arranged.iter().enumerate() {
            if let Some(Some(ready)) = out.get_mut(*place) {
                ready.block = Some((Arc::clone(&block), row));
            }
        }
        out
    }

    fn record(&mut self, page: &SplitPage, raw: &RawEntity) -> Option<Box<Ready>> {
        let (None, Ok(key)) = (raw.known, &raw.key) else {
            return None;
        };
        let (examiner, builder) = (&mut self.examiner, &mut self.builder);
        let key = (key, page.key_spec.as_ref());
        let entity = self
            .decoder
            .decode_each(page.text(raw), key, &mut |field, cell, at| {
                examiner.add(field, cell);
                builder.put(field.0, at, cell.len());
            });
        let outcome = entity.map(|entity| (entity, examiner.take()));
        let packed = match &outcome {
            // An error here is met again, and told, by who writes.
            Ok((entity, _)) if self.plan.effort >= Worth::Pack => {
                let packed = self.plan.packer.pack_small(&entity.body.0);
                packed.unwrap_or_default()
            }
            _ => Packed::default(),
        };
        Some(Box::new(Ready {
            catalog: Arc::clone(&self.plan.catalog),
            outcome,
            packed,
            block: None,
        }))
    }
}
