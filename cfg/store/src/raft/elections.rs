//! When this member asks for votes.
//!
//! openraft 0.9 has no rehearsed votes: a member that was cut off would come back with a higher term and depose a
//! leader that is well. So its own timer is off; this one asks the others first whether they would vote, only then does
//! it begin an election.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// See the module. Shared by those who hear of a leader and the one who waits for silence.
#[derive(Debug)]
pub(super) struct Elections {
    heard: Mutex<Instant>,
    handed_over: AtomicBool,
    /// So long after a sign of a leader nobody votes for another one.
    lease: Duration,
}

/// See [`Elections::hand_over`].
pub(super) struct HandedOver<'a>(&'a Elections);

impl Drop for HandedOver<'_> {
    fn drop(&mut self) {
        self.0.handed_over.store(false, Ordering::Relaxed);
    }
}

impl Elections {
    pub(super) fn new(lease: Duration) -> Self {
        Self { heard: Mutex::new(Instant::now()), handed_over: AtomicBool::new(false), lease }
    }

    /// A leader has given a sign of life.
    pub(super) fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long no leader was heard of.
    pub(super) fn silence(&self) -> Duration {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Whether a leader may still be there.
    pub(super) fn is_fresh(&self) -> bool {
        self.silence() < self.lease
    }

    /// The leader wants this member to lead, as long as what it gives lives.
    pub(super) fn hand_over(&self) -> HandedOver<'_> {
        self.handed_over.store(true, Ordering::Relaxed);
        HandedOver(self)
    }

    pub(super) fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Relaxed)
    }

    /// How long to wait for a sign before asking for votes: between the lease and twice of it, another one each time.
    pub(super) fn patience(&self, random: u64) -> Duration {
        let spread = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX).max(1);
        self.lease + Duration::from_millis(random % spread)
    }
}
