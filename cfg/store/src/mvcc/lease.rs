//! Leases: which there are and which keys hang on them. When one has expired is for the caller to say: a revoke is a
//! request like every other, so that all members apply it at the same place.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Error, LeaseId};

/// Longest time to live, seconds: etcd's.
pub const TTL_MAX: i64 = 9_000_000_000;

/// One lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Time to live as granted, seconds.
    pub ttl: i64,
    keys: BTreeSet<Bytes>,
}

impl Lease {
    /// The keys that hang on it, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.iter()
    }
}

/// All leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Leases {
    by_id: BTreeMap<LeaseId, Lease>,
}

impl Leases {
    /// Adds one of `ttl` seconds.
    pub(super) fn grant(&mut self, id: LeaseId, ttl: i64) -> Result<(), Error> {
        if ttl > TTL_MAX {
            return Err(Error::LeaseTtlTooLarge);
        }
        // 0 means "none" everywhere.
        if id == 0 {
            return Err(Error::LeaseNotFound);
        }
        if self.by_id.contains_key(&id) {
            return Err(Error::LeaseExists);
        }
        self.by_id.insert(id, Lease { ttl, keys: BTreeSet::new() });
        Ok(())
    }

    /// Takes one away; its keys are the caller's to delete.
    pub(super) fn revoke(&mut self, id: LeaseId) -> Result<BTreeSet<Bytes>, Error> {
        self.by_id.remove(&id).map(|lease| lease.keys).ok_or(Error::LeaseNotFound)
    }

    /// One lease.
    pub(super) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    /// All, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.by_id.iter().map(|(&id, lease)| (id, lease))
    }

    /// `key` hung on `from` and now hangs on `to`; 0 is none.
    pub(super) fn attach(&mut self, key: &Bytes, from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        if let Some(lease) = self.by_id.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.by_id.get_mut(&to) {
            lease.keys.insert(key.clone());
        }
    }
}
