//! An OData page in one pass: where its records are, and their keys.

use std::ops::Range;
use std::sync::Arc;

use memchr::memmem::Finder;

use super::key::KeySpec;
use super::members::Fault;
use super::page::{KnownBytes, count_of, hash_of, selects_fields};
use super::scan::{Scanner, Span};
use crate::keycode::Key;

/// Names that are tried before one is looked at: so many fields may be left out in a row.
const AHEAD: usize = 6;
/// A record with more names than this that are not where they were has another shape.
const MISSES: usize = 16;

/// So many places where a record seems to end are tried, before it is looked at.
const ENDS: usize = 3;
/// The most records of a page. Feeds send some thousand; what a page of empty records would take in
/// memory is many times its bytes.
pub(super) const MAX_PAGE_RECORDS: usize = 500_000;

/// What the pass finds.
pub(super) struct Found {
    pub(super) records: Vec<FoundRecord>,
    pub(super) key_spec: Arc<KeySpec>,
    pub(super) next_link: Option<String>,
    pub(super) count: Option<u64>,
    pub(super) partial: bool,
}

/// Where a record is.
pub(super) enum FoundRecord {
    /// And the hash and the slot by which its bytes are known.
    Known(Range<usize>, u128, u32),
    /// And its key, when that is plain to see.
    New(Range<usize>, Option<Result<Key, Fault>>),
}

/// Scans a page. `None` when it is not what pages mostly are: then it must be parsed.
pub(super) fn scan(
    resource: &str,
    body: &str,
    key_spec: Option<&Arc<KeySpec>>,
    known: Option<KnownBytes<'_>>,
) -> Option<Found> {
    let mut scanner = Scanner::new(body, 0);
    let mut records = None;
    let (mut next_link, mut count, mut context) = (None, None, None);
    scanner.space();
    let mut more = !scanner.open(b'{', b'}')?;
    while more {
        let name = body.get(scanner.name()?)?;
        match name {
            "value" if records.is_none() => {
                scanner.space();
                let context: Option<&str> = Option::as_deref(&context);
                let known = known.map(|slot_of| Recall {
                    slot_of,
                    partial: context.is_some_and(selects_fields),
                    joint: None,
                });
                let mut own = Records::new(resource, body, key_spec.map(Arc::clone), known);
                own.scan(&mut scanner)?;
                records = Some(own);
            }
            // An error, or what is not clear.
            "value" | "error" => return None,
            "@odata.nextLink" | "@nextLink" => next_link = text(body, &scanner.value()?)?,
            "@odata.count" | "@count" => count = count_of(body.get(scanner.value()?.range)?),
            "@odata.context" | "@context" => context = text(body, &scanner.value()?)?,
            _ => {
                scanner.value()?;
            }
        }
        more = scanner.more(b'}')?;
    }
    scanner.space();
    if scanner.at() != body.len() {
        return None;
    }
    let records = records?;
    let partial = context.as_deref().is_some_and(selects_fields);
    // Known by hashes of another kind: the context came after the records.
    if records.known.is_some_and(|known| known.partial != partial) {
        return None;
    }
    Some(Found {
        records: records.found,
        key_spec: records.key_spec?,
        next_link,
        count,
        partial,
    })
}

/// A string or null.
#[expect(
    clippy::option_option,
    reason = "the outer one says whether it is plain, the inner one what it is"
)]
fn text(body: &str, span: &Span) -> Option<Option<String>> {
    let raw = body.get(span.range.clone())?;
    match plain_text(raw) {
        _ if raw == "null" => Some(None),
        Some(inner) if !span.escaped => Some(Some(inner.to_owned())),
        _ => serde_json::from_str(raw).ok(),
    }
}

fn plain_text(raw: &str) -> Option<&str> {
    raw.strip_prefix('"')?.strip_suffix('"')
}

/// What a member is to the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Other,
    Key,
    Twin,
    Id,
}

impl Part {
    fn of(name: &str, spec: &KeySpec) -> Self {
        if name == spec.field {
            Part::Key
        } else if Some(name) == spec.twin.as_deref() {
            Part::Twin
        } else if name == "@odata.id" {
            Part::Id
        } else {
            Part::Other
        }
    }
}

/// How records are recognised by their bytes.
struct Recall<'a> {
    slot_of: KnownBytes<'a>,
    partial: bool,
    /// Finds what stands between two records, with their braces and the first name of the second.
    joint: Option<Finder<'static>>,
}

/// The array of records.
struct Records<'a> {
    resource: &'a str,
    body: &'a str,
    key_spec: Option<Arc<KeySpec>>,
    known: Option<Recall<'a>>,
    shape: Shape,
    found: Vec<FoundRecord>,
}

impl<'a> Records<'a> {
    fn new(
        resource: &'a str,
        body: &'a str,
        key_spec: Option<Arc<KeySpec>>,
        known: Option<Recall<'a>>,
    ) -> Self {
        Records {
            resource,
            body,
            key_spec,
            known,
            shape: Shape::default(),
            found: Vec::new(),
        }
    }

    fn scan(&mut self, scanner: &mut Scanner<'_>) -> Option<()> {
        let mut more = !scanner.open(b'[', b']')?;
        let key_spec = match self.key_spec.take() {
            Some(spec) => spec,
            None if !more => Arc::new(KeySpec::new(String::new(), false)),
            None => {
                let first = scanner.clone().value()?.range;
                Arc::new(KeySpec::infer(self.resource, self.body.get(first)?)?)
            }
        };
        let mut before: Option<usize> = None;
        while more {
            if self.found.len() == MAX_PAGE_RECORDS {
                return None;
            }
            let start = scanner.at();
            self.note_joint(before, start);
            if let Some(record) = self.recall(start) {
                if let FoundRecord::Known(range, ..) = &record {
                    scanner.jump(range.end);
                }
                self.found.push(record);
            } else {
                let key = scan_record(self.body, &key_spec, scanner, &mut self.shape)?;
                self.found.push(FoundRecord::New(start..scanner.at(), key));
            }
            before = Some(scanner.at());
            more = scanner.more(b']')?;
        }
        self.key_spec = Some(key_spec);
        Some(())
    }

    /// Learns how one record is told from the next. The name is the first one of the record
    /// before: so a list of objects within a record is not taken for its end.
    fn note_joint(&mut self, before: Option<usize>, start: usize) {
        let (Some(known), Some(end)) = (&mut self.known, before) else {
            return;
        };
        let first = self.shape.names.first().map(|(range, _)| range.clone());
        let first = first.and_then(|range| self.body.get(range));
        if let (None, Some(first)) = (&known.joint, first) {
            let between = self.body.get(end..start).unwrap_or_default();
            let joint = format!("}}{between}{{{first}");
            known.joint = Some(Finder::new(joint.as_bytes()).into_owned());
        }
    }

    /// The record that begins here, if it is known as far as the next one seems to begin.
    fn recall(&self, start: usize) -> Option<FoundRecord> {
        let known = self.known.as_ref()?;
        let joint = known.joint.as_ref()?;
        let rest = self.body.as_bytes().get(start..)?;
        // Bytes of this hash were a whole record once, so they are one here.
        joint.find_iter(rest).take(ENDS).find_map(|at| {
            let range = start..start + at + 1;
            let hash = hash_of(self.body.get(range.clone())?, known.partial);
            let slot = (known.slot_of)(hash)?;
            Some(FoundRecord::Known(range, hash, slot))
        })
    }
}

/// The names of the records before, each from its quote to its colon. Mostly they are the next
/// one's names too, and then comparing is all there is to do.
#[derive(Default)]
struct Shape {
    names: Vec<(Range<usize>, Part)>,
    own: Vec<(Range<usize>, Part)>,
    place: usize,
    misses: usize,
}

impl Shape {
    fn begin(&mut self) {
        self.own.clear();
        (self.place, self.misses) = (0, 0);
    }

    /// Passes a name.
    fn name(&mut self, body: &str, spec: &KeySpec, scanner: &mut Scanner<'_>) -> Option<Part> {
        let ahead = self.names.iter().enumerate().skip(self.place).take(AHEAD);
        for (at, (range, part)) in ahead {
            if scanner.expect(body.as_bytes().get(range.clone())?) {
                self.place = at + 1;
                self.own.push((range.clone(), *part));
                return Some(*part);
            }
        }
        let start = scanner.at();
        let part = Part::of(body.get(scanner.name()?)?, spec);
        let name = (start..scanner.at(), part);
        self.misses += 1;
        if self.misses <= MISSES {
            let place = self.place.min(self.names.len());
            self.names.insert(place, name.clone());
            self.place = place + 1;
        }
        self.own.push(name);
        Some(part)
    }

    fn end(&mut self) {
        if self.misses > MISSES || self.names.len() > 2 * (self.own.len() + MISSES) {
            std::mem::swap(&mut self.names, &mut self.own);
        }
    }
}

/// One record. Its key is read as [`scan_key`](super::members::scan_key) reads it, which is asked
/// where there is any doubt.
#[expect(
    clippy::option_option,
    reason = "the outer one says whether the pass can go on, the inner one whether it read the key"
)]
fn scan_record(
    body: &str,
    spec: &KeySpec,
    scanner: &mut Scanner<'_>,
    shape: &mut Shape,
) -> Option<Option<Result<Key, Fault>>> {
    let (mut key, mut twin, mut id) = (None, None, None);
    let mut clear = true;
    shape.begin();
    let mut more = !scanner.open(b'{', b'}')?;
    while more {
        let part = shape.name(body, spec, scanner)?;
        let value = scanner.value()?;
        let found = match part {
            Part::Other => None,
            Part::Key => Some(&mut key),
            Part::Twin => Some(&mut twin),
            Part::Id => Some(&mut id),
        };
        if let Some(found) = found {
            clear &= found.is_none() && !value.escaped;
            *found = Some(value.range);
        }
        more = scanner.more(b'}')?;
    }
    shape.end();
    if !clear {
        return Some(None);
    }
    let fault = |name: &str| {
        let name = name.to_owned();
        move |reason| (Some(name), reason)
    };
    if let Some(range) = key {
        return Some(Some(
            spec.read(body.get(range)?).map_err(fault(&spec.field)),
        ));
    }
    if let (Some(range), Some(name)) = (twin, &spec.twin) {
        return Some(Some(spec.read(body.get(range)?).map_err(fault(name))));
    }
    let id = id.and_then(|range| plain_text(body.get(range)?));
    Some(id.map(|id| spec.read_id(id).map_err(fault(&spec.field))))
}
