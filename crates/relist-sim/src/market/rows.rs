//! The market's rows, as a server asks for them.

use relist::schema::Schema;

use super::{Market, resource};
use crate::backend::{Access, Backend, Key, RowId};
use crate::fields::{
    DeletedView, MediaView, MemberView, OfficeView, OpenHouseView, View, media_key,
};
use crate::home::Kind;
use crate::rng::mix;
use crate::state::Photo;
use crate::text::{Seconds, string};

/// A row's place in the market's vectors. A photo's is its listing's with its own below.
fn place(row: RowId) -> u32 {
    u32::try_from(row.0 & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

fn row(place: u32) -> RowId {
    RowId(u64::from(place))
}

fn media_row(slot: u32, photo: usize) -> RowId {
    RowId(u64::from(slot) | (photo as u64) << 32)
}

fn photo_place(row: RowId) -> usize {
    usize::try_from(row.0 >> 32).unwrap_or(usize::MAX)
}

/// The places `0..len` from `from` on, as rows.
fn rows_from(from: usize, len: usize) -> impl Iterator<Item = u32> {
    let bound = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    bound(from)..bound(len)
}

impl Market {
    /// A row with all that it refers to.
    pub(super) fn any_view(&self, resource: usize, row: RowId) -> Option<View<'_>> {
        let at = place(row);
        Some(match resource {
            resource::PROPERTY => View::Property(self.view(self.listing(at)?)),
            resource::MEMBER => {
                let member = self.members.get(at as usize)?;
                View::Member(MemberView {
                    member,
                    office: self.person(at).1,
                })
            }
            resource::OFFICE => View::Office(OfficeView {
                office: self.offices.get(at as usize)?,
            }),
            resource::OPEN_HOUSE => {
                let open_house = self.open_houses.get(at as usize)?;
                let listing = self.listing(open_house.listing)?;
                let agent = self.person(listing.agent).0;
                View::OpenHouse(OpenHouseView {
                    open_house,
                    listing,
                    agent,
                })
            }
            resource::MEDIA => {
                let (listing, place) = (self.listing(at)?, photo_place(row));
                View::Media(MediaView {
                    listing,
                    land: Kind::of(listing.home) == Kind::Land,
                    photo: listing.photo(place)?,
                    order: u32::try_from(place).unwrap_or(0) + 1,
                })
            }
            resource::DELETED => View::Deleted(DeletedView(self.deleted.get(at as usize)?)),
            _ => return None,
        })
    }

    /// The photos of a listing as rows, in the order of their keys.
    pub(super) fn media_rows(&self, slot: u32) -> Vec<(RowId, Photo)> {
        let Some(listing) = self.listing(slot).filter(|l| l.alive) else {
            return Vec::new();
        };
        let photos = listing.photos().into_iter().enumerate();
        let mut rows: Vec<_> = photos
            .map(|(at, photo)| (media_row(slot, at), photo))
            .collect();
        rows.sort_unstable_by_key(|(_, photo)| (photo.seed, mix(photo.seed)));
        rows
    }

    fn scan_keys(
        &self,
        resource: usize,
        above: Option<(&Key, bool)>,
        visit: &mut dyn FnMut(RowId) -> bool,
    ) {
        let from = |keys: &dyn Fn(i64) -> usize| match above {
            None => 0,
            Some((Key::Int(key), inclusive)) => keys(key.saturating_add(i64::from(!inclusive))),
            Some((Key::Str(text), _)) => keys(leading_number(text)),
        };
        match resource {
            resource::PROPERTY => {
                let start = from(&|k| self.listings.partition_point(|l| i64::from(l.key) < k));
                for slot in rows_from(start, self.listings.len()) {
                    if self.listing(slot).is_some_and(|l| l.alive) && !visit(row(slot)) {
                        return;
                    }
                }
            }
            resource::MEDIA => {
                let start = from(&|k| self.listings.partition_point(|l| i64::from(l.key) < k));
                for slot in rows_from(start, self.listings.len()) {
                    for (id, photo) in self.media_rows(slot) {
                        let wanted = match above {
                            Some((Key::Str(bound), inclusive)) => {
                                let key = self.media_key(slot, photo);
                                key > *bound || inclusive && key == *bound
                            }
                            _ => true,
                        };
                        if wanted && !visit(id) {
                            return;
                        }
                    }
                }
            }
            resource::OPEN_HOUSE => {
                let start = from(&|k| self.open_houses.partition_point(|o| i64::from(o.key) < k));
                for at in rows_from(start, self.open_houses.len()) {
                    let alive = self.open_houses.get(at as usize).is_some_and(|o| o.alive);
                    if alive && !visit(row(at)) {
                        return;
                    }
                }
            }
            _ => {
                let (start, len) = match resource {
                    resource::MEMBER => {
                        let at = |k| self.members.partition_point(|m| i64::from(m.key) < k);
                        (from(&at), self.members.len())
                    }
                    resource::OFFICE => {
                        let at = |k| self.offices.partition_point(|o| i64::from(o.key) < k);
                        (from(&at), self.offices.len())
                    }
                    _ => (0, self.deleted.len()),
                };
                for at in rows_from(start, len) {
                    if !visit(row(at)) {
                        return;
                    }
                }
            }
        }
    }

    fn media_key(&self, slot: u32, photo: Photo) -> String {
        let key = self.listing(slot).map_or(0, |l| l.key);
        string(|out| media_key(out, key, photo.seed))
    }

    fn scan_modified(&self, resource: usize, at: Seconds, visit: &mut dyn FnMut(RowId) -> bool) {
        if resource == resource::PROPERTY {
            for (_, slot) in self.by_modified.range((at, 0)..) {
                if !visit(row(*slot)) {
                    return;
                }
            }
            return;
        }
        let mut rows: Vec<(Seconds, RowId)> = Vec::new();
        if resource == resource::MEDIA {
            // A listing's photos are never younger than its PhotosChangeTimestamp.
            let mut slots: Vec<u32> = self
                .by_photos
                .range((at, 0)..)
                .map(|(_, slot)| *slot)
                .collect();
            slots.sort_unstable();
            for slot in slots {
                let media = self.media_rows(slot).into_iter();
                rows.extend(media.map(|(id, p)| (p.modified, id)).filter(|r| r.0 >= at));
            }
        } else {
            self.scan_keys(resource, None, &mut |id| {
                rows.extend(
                    self.modified(resource, id)
                        .filter(|m| *m >= at)
                        .map(|m| (m, id)),
                );
                true
            });
        }
        // Stable: rows of one second stay in the order of their keys.
        rows.sort_by_key(|(modified, _)| *modified);
        rows.into_iter().all(|(_, id)| visit(id));
    }

    fn modified(&self, resource: usize, id: RowId) -> Option<Seconds> {
        let at = place(id) as usize;
        match resource {
            resource::MEMBER => self.members.get(at).map(|m| m.modified),
            resource::OFFICE => self.offices.get(at).map(|o| o.modified),
            resource::OPEN_HOUSE => self.open_houses.get(at).map(|o| o.modified),
            _ => None,
        }
    }
}

/// The number a text starts with: the listing's key in a photo's.
fn leading_number(text: &str) -> i64 {
    let digits = text
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap_or_default();
    digits.parse().unwrap_or(0)
}

impl Backend for Market {
    fn now(&self) -> Seconds {
        self.now
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn count(&self, resource: usize) -> u64 {
        match resource {
            resource::PROPERTY => self.by_modified.len() as u64,
            resource::MEMBER => self.members.len() as u64,
            resource::OFFICE => self.offices.len() as u64,
            resource::OPEN_HOUSE => self.open_houses.iter().filter(|o| o.alive).count() as u64,
            resource::MEDIA => {
                let alive = self.listings.iter().filter(|l| l.alive);
                alive.map(|l| u64::from(l.photo_count())).sum()
            }
            _ => self.deleted.len() as u64,
        }
    }

    fn scan(&self, resource: usize, access: &Access, visit: &mut dyn FnMut(RowId) -> bool) {
        match access {
            Access::All => self.scan_keys(resource, None, visit),
            Access::KeyAbove { key, inclusive } => {
                self.scan_keys(resource, Some((key, *inclusive)), visit);
            }
            Access::ByModified => self.scan_modified(resource, 0, visit),
            Access::ModifiedSince { at } => self.scan_modified(resource, *at, visit),
        }
    }

    fn sort_by_key(&self, resource: usize, rows: &mut [RowId]) {
        if resource == resource::MEDIA {
            rows.sort_by_cached_key(|id| {
                let slot = place(*id);
                let photo = self.listing(slot).and_then(|l| l.photo(photo_place(*id)));
                (slot, photo.map(|p| (p.seed, mix(p.seed))))
            });
        } else {
            // All vectors are in the order of their keys.
            rows.sort_unstable();
        }
    }

    fn find(&self, resource: usize, key: &Key) -> Option<RowId> {
        let number = match key {
            Key::Int(number) => u32::try_from(*number).ok()?,
            Key::Str(text) if resource == resource::MEDIA => {
                let slot = self.slot_of(u32::try_from(leading_number(text)).ok()?)?;
                let rows = self.media_rows(slot);
                let found = rows
                    .iter()
                    .find(|(_, photo)| self.media_key(slot, *photo) == *text);
                return found.map(|(id, _)| *id);
            }
            Key::Str(text) => text.parse().ok()?,
        };
        let at = match resource {
            resource::PROPERTY => {
                let slot = self.slot_of(number)?;
                return self.listing(slot).filter(|l| l.alive).map(|_| row(slot));
            }
            resource::MEMBER => self.members.binary_search_by_key(&number, |m| m.key),
            resource::OFFICE => self.offices.binary_search_by_key(&number, |o| o.key),
            resource::OPEN_HOUSE => {
                let at = self.open_houses.binary_search_by_key(&number, |o| o.key);
                at.ok()
                    .filter(|at| self.open_houses.get(*at).is_some_and(|o| o.alive))
                    .ok_or(0)
            }
            _ => return None,
        };
        Some(row(u32::try_from(at.ok()?).ok()?))
    }

    fn write_field(&self, resource: usize, row: RowId, field: usize, out: &mut Vec<u8>) -> bool {
        self.any_view(resource, row)
            .is_some_and(|view| view.write_field(field, out))
    }

    fn write_row(&self, resource: usize, row: RowId, select: Option<&[usize]>, out: &mut Vec<u8>) {
        let Some(view) = self.any_view(resource, row) else {
            return;
        };
        match select {
            None => view.write_all(out),
            Some(fields) => view.write_some(fields, out),
        }
    }

    fn children(&self, resource: usize, id: RowId, target: usize) -> Vec<RowId> {
        let at = place(id);
        let agent = |listing: u32| {
            let listing = self.listing(listing)?;
            let members = u32::try_from(self.members.len()).ok()?;
            Some(listing.agent % members)
        };
        let office = |member: u32| self.members.get(member as usize).map(|m| m.office);
        match (resource, target) {
            (resource::PROPERTY, resource::MEDIA) => {
                // In the order of the gallery.
                let mut rows: Vec<_> = self.media_rows(at).into_iter().map(|r| r.0).collect();
                rows.sort_unstable();
                rows
            }
            (resource::PROPERTY, resource::OPEN_HOUSE) => {
                let all = self.open_houses.iter().zip(0_u32..);
                all.filter(|(o, _)| o.alive && o.listing == at)
                    .map(|(_, at)| row(at))
                    .collect()
            }
            (resource::PROPERTY, resource::MEMBER) => agent(at).map(row).into_iter().collect(),
            (resource::PROPERTY, resource::OFFICE) => {
                agent(at).and_then(office).map(row).into_iter().collect()
            }
            (resource::MEMBER, resource::OFFICE) => office(at).map(row).into_iter().collect(),
            (resource::MEMBER, resource::PROPERTY) => {
                let all = self.listings.iter().zip(0_u32..).filter(|(l, _)| l.alive);
                all.filter(|(_, slot)| agent(*slot) == Some(at))
                    .map(|(_, slot)| row(slot))
                    .collect()
            }
            (resource::OFFICE, resource::MEMBER) => {
                let all = self.members.iter().zip(0_u32..);
                all.filter(|(m, _)| m.office == at)
                    .map(|(_, at)| row(at))
                    .collect()
            }
            (resource::OFFICE, resource::PROPERTY) => {
                let all = self.listings.iter().zip(0_u32..).filter(|(l, _)| l.alive);
                let ours = |slot| agent(slot).and_then(office) == Some(at);
                all.filter(|(_, slot)| ours(*slot))
                    .map(|(_, slot)| row(slot))
                    .collect()
            }
            (resource::OPEN_HOUSE, resource::PROPERTY) => self
                .open_houses
                .get(at as usize)
                .map(|o| row(o.listing))
                .into_iter()
                .collect(),
            (resource::MEDIA, resource::PROPERTY) => vec![row(at)],
            _ => Vec::new(),
        }
    }
}
