//! Other limits for a running pool: the keeper takes them over between two turns.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::PoolOptions;
use super::keeper::{Keep, Keeper, limits};
use super::reserve::Reserve;
use crate::volume::address::SegmentId;

/// Segments that go in one turn of the keeper: a removal takes a millisecond or so.
const RETIRED_AT_ONCE: usize = 8;

/// Limits that the keeper shall take over.
pub(super) struct Change {
    options: PoolOptions,
    taken: SyncSender<()>,
}

/// Where a running pool is told other limits. Clones tell the same pool.
#[derive(Clone)]
pub struct PoolControl {
    letters: SyncSender<Keep>,
    reserve: Arc<Reserve>,
    /// Not in the queue, which may be full. A newer change replaces one that was not taken over yet.
    next: Arc<Mutex<Option<Change>>>,
}

impl PoolControl {
    pub(super) fn new(letters: SyncSender<Keep>, reserve: Arc<Reserve>) -> Self {
        Self { letters, reserve, next: Arc::default() }
    }

    /// Has the keeper work within `options`, whose directory, segment size and time limit for locks are those the pool
    /// was started with. `taken` hears when they hold. Does not wait.
    pub fn reconfigure(&self, options: PoolOptions, taken: SyncSender<()>) {
        *self.next() = Some(Change { options, taken });
        // A full queue wakes the keeper, too; one that is gone has dropped what it was told.
        let _ = self.letters.try_send(Keep::Reconfigure);
    }

    /// Room for manifests and runs.
    pub fn reserve(&self) -> Arc<Reserve> {
        self.reserve.clone()
    }

    pub(super) fn take(&self) -> Option<Change> {
        self.next().take()
    }

    fn next(&self) -> MutexGuard<'_, Option<Change>> {
        // Each change of it is a single step.
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Works within other limits. Who waits is answered anew, and all volumes hear the level by the new marks.
    pub(super) fn reconfigure(&mut self, Change { options, taken }: Change) {
        if let Err(error) = self.reserve.set_size(options.reserve_size) {
            tracing::warn!(%error, "the reserve is larger than it should be until the next start");
        }
        self.options = options;
        self.ledger.set_limits(limits(&self.options));
        self.judge_total();
        self.check_reserve();
        let grants = self.ledger.answer_waiting(Instant::now());
        self.deliver(grants);
        self.publish();
        self.audience.level_changed();
        // Who asked may have given up waiting.
        let _ = taken.try_send(());
    }

    /// Removes some of the free segments that a smaller pool has too many; `true` if there are more.
    pub(super) fn retire_some(&mut self) -> bool {
        for _ in 0..RETIRED_AT_ONCE {
            let Some(segment) = self.ledger.retire() else { return false };
            if let Err(error) = self.remove_free(segment) {
                let path = self.options.segment_path(segment);
                tracing::warn!(%error, path = %path.display(), "the room of a free segment is not given back");
            }
        }
        true
    }

    fn remove_free(&mut self, segment: SegmentId) -> std::io::Result<()> {
        let file = self.files.remove(segment);
        self.disk.remove_file(&self.options.segment_path(segment))?;
        // Data threads may have it open, but nobody reads what is free: its room comes back at once.
        file.map_or(Ok(()), |file| file.set_len(0))
    }
}
