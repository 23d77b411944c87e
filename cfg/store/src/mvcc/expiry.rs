//! When leases end, as the leader sees it. Only a leader keeps this: it proposes a revoke for what is due, and a new
//! leader begins with the whole time to live for each, so that a change of leaders never ends a lease early.
//!
//! Times are since any moment of the caller's, the same one in every call.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{LeaseId, Store};

/// See the module.
#[derive(Clone, Debug)]
pub struct Expiry {
    /// Shorter times to live are raised to it.
    ttl_min: Duration,
    /// A revoke that was asked for and did not happen is asked for again after this.
    patience: Duration,
    ends: BTreeMap<LeaseId, End>,
    /// The same by time.
    queue: BTreeSet<(Duration, LeaseId)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    ttl: Duration,
    at: Duration,
    /// When it is next in the queue: `at`, or later once a revoke was asked for.
    queued: Duration,
}

impl Expiry {
    /// Of a member that has become the leader: all leases of `store` live on from `now`.
    pub fn lead(store: &Store, now: Duration, ttl_min: Duration, patience: Duration) -> Self {
        let mut expiry = Self { ttl_min, patience, ends: BTreeMap::new(), queue: BTreeSet::new() };
        for (id, lease) in store.leases() {
            expiry.granted(id, lease.ttl, now);
        }
        expiry
    }

    /// A lease of `ttl` seconds was granted; gives the seconds it will live.
    pub fn granted(&mut self, id: LeaseId, ttl: i64, now: Duration) -> i64 {
        let ttl = Duration::from_secs(ttl.max(0) as u64).max(self.ttl_min);
        self.set(id, ttl, now);
        ttl.as_secs() as i64
    }

    /// Its holder is alive; gives the seconds it will live, `None` if it has ended.
    pub fn renewed(&mut self, id: LeaseId, now: Duration) -> Option<i64> {
        let end = *self.ends.get(&id).filter(|end| now < end.at)?;
        self.set(id, end.ttl, now);
        Some(end.ttl.as_secs() as i64)
    }

    /// It was revoked.
    pub fn revoked(&mut self, id: LeaseId) {
        if let Some(end) = self.ends.remove(&id) {
            self.queue.remove(&(end.queued, id));
        }
    }

    /// Whole seconds until it ends; `None` if it has.
    pub fn remaining(&self, id: LeaseId, now: Duration) -> Option<i64> {
        let end = self.ends.get(&id)?;
        end.at.checked_sub(now).filter(|left| !left.is_zero()).map(|left| left.as_secs() as i64)
    }

    /// Up to `count` leases to revoke now, those that ended first in front.
    pub fn due(&mut self, now: Duration, count: usize) -> Vec<LeaseId> {
        let due: Vec<_> = self.queue.iter().take_while(|(at, _)| *at <= now).take(count).copied().collect();
        for &(at, id) in &due {
            self.queue.remove(&(at, id));
            let again = now + self.patience;
            self.queue.insert((again, id));
            if let Some(end) = self.ends.get_mut(&id) {
                end.queued = again;
            }
        }
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// When there is something to do next.
    pub fn next(&self) -> Option<Duration> {
        self.queue.first().map(|(at, _)| *at)
    }

    fn set(&mut self, id: LeaseId, ttl: Duration, now: Duration) {
        self.revoked(id);
        let at = now + ttl;
        self.ends.insert(id, End { ttl, at, queued: at });
        self.queue.insert((at, id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn expiry() -> Expiry {
        Expiry::lead(&Store::new(), seconds(0), seconds(2), seconds(5))
    }

    #[test]
    fn a_lease_ends_unless_it_is_renewed() {
        let mut expiry = expiry();
        assert_eq!(expiry.granted(1, 10, seconds(0)), 10);
        assert_eq!(expiry.granted(2, 1, seconds(0)), 2, "raised to the least");
        assert_eq!(expiry.next(), Some(seconds(2)));
        assert!(expiry.due(seconds(1), 10).is_empty());
        assert_eq!(expiry.renewed(1, seconds(4)), Some(10));
        assert_eq!((expiry.remaining(1, seconds(5)), expiry.remaining(2, seconds(5))), (Some(9), None));
        assert_eq!(expiry.due(seconds(13), 10), [2]);
        assert_eq!(expiry.due(seconds(14), 10), [1]);
        assert_eq!(expiry.renewed(1, seconds(14)), None, "too late");
    }

    #[test]
    fn a_revoke_that_did_not_happen_is_asked_for_again() {
        let mut expiry = expiry();
        for id in 1..=3 {
            expiry.granted(id, 10 - id, seconds(0));
        }
        assert_eq!(expiry.due(seconds(20), 2), [3, 2], "the first to end in front, two at a time");
        assert_eq!(expiry.due(seconds(20), 2), [1]);
        assert!(expiry.due(seconds(24), 9).is_empty());
        expiry.revoked(2);
        assert_eq!(expiry.due(seconds(25), 9), [1, 3]);
        expiry.revoked(1);
        expiry.revoked(3);
        assert_eq!((expiry.next(), expiry.due(seconds(99), 9)), (None, vec![]));
    }

    #[test]
    fn a_new_leader_gives_all_leases_their_whole_time() {
        let mut store = Store::new();
        store.lease_grant(7, 60).expect("a new lease");
        let expiry = Expiry::lead(&store, seconds(1000), seconds(2), seconds(5));
        assert_eq!(expiry.remaining(7, seconds(1000)), Some(60));
    }
}
