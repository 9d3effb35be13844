//! What a sync will do, by what the store knows: decided here, and nowhere else.

use super::policy::{EventFeed, Policy, SyncMode};
use crate::error::Result;
use crate::store::{Checkpoint, RunKind, Snapshot, Store, SyncState, Walk, WalkPosition};
use crate::value::Timestamp;

/// After so long without a complete run, deletions that a feed shows for some days only are looked
/// for by comparing keys: well before they are gone from it.
const UNSEEN_SECONDS: u64 = 86_400;

/// What a sync will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncPlan {
    /// What kind of run it is.
    pub kind: RunKind,
    /// The walk it does, or goes on with. A run by events, a reconcile and a deep run do another.
    pub walk: Walk,
    /// The feed of events it follows, instead of a walk.
    pub events: Option<EventFeed>,
    /// Whether it compares all keys as well, because the last complete run is so long ago that
    /// deletions may not be shown any more.
    pub reconciles: bool,
}

impl SyncPlan {
    pub(super) fn of(
        snapshot: &Snapshot,
        resource: &str,
        policy: &Policy,
        mode: SyncMode,
        now: Timestamp,
    ) -> Result<Self> {
        let checkpoint = snapshot.checkpoint(resource)?;
        let mut walk = begin(&checkpoint, policy, mode, now);
        if walk.position == WalkPosition::Start && walk.records == 0 {
            // A resource that is not known yet has no records.
            walk.sole = snapshot.count(resource).unwrap_or(0) == 0;
        }
        let follows = mode == SyncMode::Auto && by_events(&checkpoint, policy);
        let overdue = overdue(&checkpoint, policy, Some(walk.started), now);
        Ok(SyncPlan {
            kind: walk.kind,
            events: policy.events.clone().filter(|_| follows),
            reconciles: walk.kind == RunKind::Incremental && !follows && overdue,
            walk,
        })
    }
}

impl Store {
    /// What [`sync`](Store::sync) would do now. Nothing is asked of the feed.
    ///
    /// # Errors
    /// Those of the store.
    pub fn sync_plan(
        &self,
        resource: &str,
        policy: &Policy,
        mode: SyncMode,
        now: Timestamp,
    ) -> Result<SyncPlan> {
        SyncPlan::of(&self.snapshot()?, resource, policy, mode, now)
    }
}

fn by_events(checkpoint: &Checkpoint, policy: &Policy) -> bool {
    let live = checkpoint.state == SyncState::Live;
    live && policy.events.is_some() && checkpoint.event_sequence.is_some()
}

/// The walk to do: the one that was interrupted, or a new one.
pub(super) fn begin(
    checkpoint: &Checkpoint,
    policy: &Policy,
    mode: SyncMode,
    now: Timestamp,
) -> Walk {
    let stamped = checkpoint.state == SyncState::Live
        && checkpoint.watermark.is_some()
        && policy.cursor_field.is_some();
    let incremental = mode == SyncMode::Auto && (stamped || by_events(checkpoint, policy));
    let kind = match mode {
        SyncMode::Reconcile => RunKind::Reconcile,
        SyncMode::Deep { .. } => RunKind::Deep,
        SyncMode::Auto if incremental => RunKind::Incremental,
        SyncMode::Auto | SyncMode::Full => RunKind::Full,
    };
    // A link of an earlier run may be an offset into rows that have moved since, for they are in
    // the order of their stamps: an incremental walk along links begins anew.
    let moved = |walk: &Walk| {
        walk.kind == RunKind::Incremental && matches!(walk.position, WalkPosition::Link(_))
    };
    if let Some(walk) = &checkpoint.walk
        && walk.kind == kind
        && !moved(walk)
    {
        return walk.clone();
    }
    let overlap = i64::try_from(policy.overlap_seconds)
        .unwrap_or(0)
        .saturating_mul(1_000_000);
    let since = checkpoint
        .watermark
        .map(|w| Timestamp(w.0.saturating_sub(overlap)));
    Walk {
        since: since.filter(|_| incremental),
        ..Walk::new(kind, WalkPosition::Start, now)
    }
}

/// Whether deletions may have been shown and gone since the last complete run; before the first,
/// since `begun`.
pub(super) fn overdue(
    checkpoint: &Checkpoint,
    policy: &Policy,
    begun: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let Some(days) = policy.gone_visible_days else {
        return false;
    };
    let limit = UNSEEN_SECONDS.min(u64::from(days).saturating_mul(86_400));
    let limit = i64::try_from(limit)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000);
    let last = checkpoint.last_complete.or(begun);
    last.is_some_and(|at| now.0.saturating_sub(at.0) > limit)
}
