//! When leases end. Only the leader keeps this; the others know nothing of time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::mvcc::{Expiry, LeaseId, Store};

/// See the module.
#[derive(Debug)]
pub(crate) struct LeaseKeeper {
    /// Times are counted from here.
    origin: Instant,
    ttl_min: Duration,
    patience: Duration,
    /// `None` while another member leads.
    expiry: Mutex<Option<Expiry>>,
}

impl LeaseKeeper {
    /// Shorter leases live `ttl_min`; a revoke that did not happen is asked for again after `patience`.
    pub(crate) fn new(ttl_min: Duration, patience: Duration) -> Self {
        Self { origin: Instant::now(), ttl_min, patience, expiry: Mutex::new(None) }
    }

    /// The shortest time to live, whole seconds.
    pub(crate) fn ttl_min(&self) -> i64 {
        self.ttl_min.as_millis().div_ceil(1000) as i64
    }

    fn expiry(&self) -> MutexGuard<'_, Option<Expiry>> {
        self.expiry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// This member leads: each lease has its whole time again.
    pub(crate) fn lead(&self, store: &Store) {
        *self.expiry() = Some(Expiry::lead(store, self.now(), self.ttl_min, self.patience));
    }

    /// Another member leads.
    pub(crate) fn follow(&self) {
        *self.expiry() = None;
    }

    /// A lease was granted.
    pub(crate) fn granted(&self, id: LeaseId, ttl: i64) {
        let now = self.now();
        if let Some(expiry) = &mut *self.expiry() {
            expiry.granted(id, ttl, now);
        }
    }

    /// A lease was revoked.
    pub(crate) fn revoked(&self, id: LeaseId) {
        if let Some(expiry) = &mut *self.expiry() {
            expiry.revoked(id);
        }
    }

    /// Its holder is alive; gives the seconds it will live, 0 if it has ended, `None` if this member does not lead.
    pub(crate) fn renew(&self, id: LeaseId) -> Option<i64> {
        let now = self.now();
        Some(self.expiry().as_mut()?.renewed(id, now).unwrap_or(0))
    }

    /// Seconds until it ends, 0 if it has, `None` if this member does not lead.
    pub(crate) fn remaining(&self, id: LeaseId) -> Option<i64> {
        let now = self.now();
        Some(self.expiry().as_ref()?.remaining(id, now).unwrap_or(0))
    }

    /// Up to `count` leases to revoke now, and how long until there may be more.
    pub(crate) fn due(&self, count: usize) -> (Vec<LeaseId>, Option<Duration>) {
        let now = self.now();
        let mut guard = self.expiry();
        let Some(expiry) = &mut *guard else { return (Vec::new(), None) };
        let due = expiry.due(now, count);
        (due, expiry.next().map(|next| next.saturating_sub(now)))
    }
}
