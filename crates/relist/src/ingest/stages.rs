//! The stages of ingest one by one, on one thread: what the benchmarks measure. Nothing of it is
//! part of the library's interface.

use crate::decode::{DecodeContext, Decoder, SplitPage};
use crate::diff::{Diff, canonical_hash};
use crate::error::{DecodeError, Error, Result};
use crate::record::RecordBuf;
use crate::schema::Resource;

/// The decoded records of a page.
#[derive(Debug)]
pub struct Decoded(Vec<RecordBuf>);

impl Decoded {
    /// Decodes every record of a page, which is to encode its body too.
    ///
    /// # Errors
    /// [`Error::Decode`] at the first record at fault.
    pub fn decode(page: &SplitPage, resource: &Resource) -> Result<Self> {
        let context = DecodeContext::new(resource);
        let mut decoder = Decoder::new(&context);
        let mut bodies = Vec::with_capacity(page.entities.len());
        for (record, raw) in page.entities.iter().enumerate() {
            let outcome = match &raw.key {
                Ok(key) => decoder.decode(page.text(raw), (key, page.key_spec.as_ref())),
                Err(fault) => Err(fault.clone()),
            };
            let entity = outcome.map_err(|(field, reason)| {
                Error::Decode(Box::new(DecodeError {
                    resource: page.resource.clone(),
                    page: page.origin.clone(),
                    record: Some(record),
                    field,
                    offset: None,
                    reason,
                }))
            })?;
            bodies.push(entity.body);
        }
        Ok(Decoded(bodies))
    }

    /// How many bytes the bodies have, before they are compressed.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|body| body.0.len()).sum()
    }

    /// The canonical hashes of all records, folded into one.
    pub fn hash(&self, resource: &Resource) -> u128 {
        let hashes = self.0.iter();
        hashes
            .map(|body| canonical_hash(body.as_body().cells(), resource))
            .fold(0, |all, hash| all ^ hash)
    }

    /// Compares record by record with what was there before, and counts fields that differ.
    pub fn diff(&self, before: &Decoded, resource: &Resource) -> usize {
        let pairs = before.0.iter().zip(&self.0);
        pairs
            .map(|(old, new)| Diff::between(old.as_body(), new.as_body(), resource))
            .map(|diff| diff.changes.len() + diff.vanished.len())
            .sum()
    }
}
