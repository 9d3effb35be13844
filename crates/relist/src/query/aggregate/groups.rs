//! Groups under way.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::accumulator::Accumulator;
use super::key::{canonical, encode};
use crate::error::Result;
use crate::odata::{Grouping, Row};
use crate::schema::FieldId;
use crate::value::Value;

/// Hashes keys of groups.
pub(super) type BytesHash = BuildHasherDefault<BytesHasher>;

/// A hasher for keys that are bytes.
#[derive(Debug, Default, Clone, Copy)]
pub struct BytesHasher(u64);

impl Hasher for BytesHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// Lengths, which keys of this kind carry within them.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// One row of a result: a group's keys, then its aggregates.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupRow {
    /// The values, a column each.
    pub values: Vec<Value<'static>>,
}

/// The id of a field is the place of its column.
impl Row for GroupRow {
    fn value(&self, field: FieldId) -> Option<Value<'_>> {
        let value = self.values.get(usize::from(field.0))?;
        Some(match value {
            Value::String(text) => Value::str(text),
            other => other.clone(),
        })
    }
}

#[derive(Debug)]
struct Group {
    keys: Vec<Value<'static>>,
    accumulators: Vec<Accumulator>,
}

/// Groups of rows under way.
///
/// Rows may be added to several of these, which are merged in the end: the result is the same.
#[derive(Debug)]
pub struct Groups<'g> {
    grouping: &'g Grouping,
    places: HashMap<Box<[u8]>, usize, BytesHash>,
    found: Vec<Group>,
    encoded: Vec<u8>,
}

impl<'g> Groups<'g> {
    /// No rows yet.
    pub fn new(grouping: &'g Grouping) -> Self {
        let mut groups = Groups {
            grouping,
            places: HashMap::default(),
            found: Vec::new(),
            encoded: Vec::new(),
        };
        if grouping.whole {
            groups.place(&[]);
        }
        groups
    }

    /// How many groups there are so far.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there is no group yet.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Adds a row that passed the condition before the grouping.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::error::Error::Usage) where a sum has more than 38 digits.
    pub fn add<R: Row + ?Sized>(&mut self, row: &R) -> Result<()> {
        let grouping = self.grouping;
        let keys: Vec<Value<'_>> = grouping.keys.iter().map(|k| k.value.value(row)).collect();
        let place = self.place(&keys);
        if grouping.inner.as_ref().is_some_and(|p| !p.matches(row)) {
            return Ok(());
        }
        let Some(group) = self.found.get_mut(place) else {
            return Ok(());
        };
        for (aggregate, accumulator) in grouping.aggregates.iter().zip(&mut group.accumulators) {
            match &aggregate.value {
                Some(value) => accumulator.add(aggregate, &value.value(row))?,
                None => accumulator.add(aggregate, &Value::Null)?,
            }
        }
        Ok(())
    }

    /// Adds what is known of one group from elsewhere: its keys, and an accumulator for each
    /// aggregate of the grouping.
    ///
    /// # Errors
    /// As [`add`](Groups::add).
    pub fn add_group(&mut self, keys: &[Value<'_>], accumulators: Vec<Accumulator>) -> Result<()> {
        let place = self.place(keys);
        let Some(group) = self.found.get_mut(place) else {
            return Ok(());
        };
        let own = self.grouping.aggregates.iter().zip(&mut group.accumulators);
        for ((aggregate, own), more) in own.zip(accumulators) {
            own.merge(aggregate, more)?;
        }
        Ok(())
    }

    /// Adds all groups of another of the same grouping.
    ///
    /// # Errors
    /// As [`add`](Groups::add).
    pub fn merge(&mut self, other: Groups<'_>) -> Result<()> {
        for group in other.found {
            self.add_group(&group.keys, group.accumulators)?;
        }
        Ok(())
    }

    /// The groups with their results, in the order of their keys.
    ///
    /// # Errors
    /// As [`add`](Groups::add).
    pub fn finish(self) -> Result<Vec<GroupRow>> {
        let grouping = self.grouping;
        let mut places: Vec<_> = self.places.into_iter().collect();
        let mut groups: Vec<_> = self.found.into_iter().map(Some).collect();
        // By value; what has no order among itself by its bytes.
        places.sort_by(|(a_bytes, a), (b_bytes, b)| {
            let keys = |at: &usize| groups.get(*at).and_then(Option::as_ref).map(|g| &g.keys);
            let (a, b) = (keys(a), keys(b));
            let pairs = a.into_iter().flatten().zip(b.into_iter().flatten());
            let mut orders = pairs.map(|(a, b)| a.total_cmp(b));
            orders
                .find(|order| order.is_ne())
                .unwrap_or_else(|| a_bytes.cmp(b_bytes))
        });
        let mut rows = Vec::with_capacity(groups.len());
        for (_, at) in places {
            let Some(group) = groups.get_mut(at).and_then(Option::take) else {
                continue;
            };
            let mut values = group.keys;
            for (aggregate, accumulator) in grouping.aggregates.iter().zip(group.accumulators) {
                values.push(accumulator.finish(aggregate)?);
            }
            rows.push(GroupRow { values });
        }
        Ok(rows)
    }

    /// The place of the group with these keys, which is made when it is new.
    fn place(&mut self, keys: &[Value<'_>]) -> usize {
        self.encoded.clear();
        for key in keys {
            encode(key, &mut self.encoded);
        }
        if let Some(place) = self.places.get(self.encoded.as_slice()) {
            return *place;
        }
        let place = self.found.len();
        self.places
            .insert(self.encoded.clone().into_boxed_slice(), place);
        self.found.push(Group {
            keys: keys.iter().cloned().map(canonical).collect(),
            accumulators: self
                .grouping
                .aggregates
                .iter()
                .map(Accumulator::new)
                .collect(),
        });
        place
    }
}
