//! When this member asks for votes.
//!
//! openraft 0.9 has no rehearsed votes: a member that was cut off would come back with a higher term and depose a
//! leader that is well. So its own timer is off; this one asks the others first whether they would vote, only then does
//! it begin an election.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// See the module. Shared by those who hear of a leader and the one who waits for silence.
#[derive(Debug)]
pub(super) struct Elections {
    heard: Mutex<Instant>,
    handed_over: AtomicBool,
    /// A member that lacks something this one has wants to be elected.
    urged: Notify,
    /// It asks whether it would be elected.
    asking: AtomicBool,
    /// Another member was told that it would be: until then this one does not stand against it.
    yielded: Mutex<Option<Instant>>,
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
        Self {
            heard: Mutex::new(Instant::now()),
            handed_over: AtomicBool::new(false),
            urged: Notify::new(),
            asking: AtomicBool::new(false),
            yielded: Mutex::new(None),
            lease,
        }
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

    /// A member that cannot be elected, because this one has more, has lost patience: this one need not wait longer.
    pub(super) fn urge(&self) {
        self.urged.notify_one();
    }

    /// This member asks, or has its answers.
    pub(super) fn ask(&self, on: bool) {
        self.asking.store(on, Ordering::Relaxed);
    }

    /// Whether this member asks now.
    pub(super) fn is_asking(&self) -> bool {
        self.asking.load(Ordering::Relaxed)
    }

    /// Another member may stand; it gets a third of the lease to be elected.
    pub(super) fn give_way(&self) {
        let until = Instant::now() + self.lease / 3;
        *self.yielded.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Whether another member was given way to.
    pub(super) fn gives_way(&self) -> bool {
        let yielded = *self.yielded.lock().unwrap_or_else(PoisonError::into_inner);
        yielded.is_some_and(|until| Instant::now() < until)
    }

    /// Waits until this member is urged to ask for votes.
    pub(super) async fn urged(&self) {
        self.urged.notified().await;
    }

    /// How long to wait for a sign before asking for votes: a little more than the lease, so that one to which the lead
    /// is handed over comes first, up to one and a half of it, another one each time.
    pub(super) fn patience(&self, random: u64) -> Duration {
        let lease = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX / 2);
        self.lease + Duration::from_millis(lease / 6 + random % (lease / 3).max(1))
    }
}
