//! The state machine: keys with all their versions, leases, and what changed when.
//!
//! The store as a whole has one revision. It begins at 1; each request that writes raises it by one, whatever it
//! writes, and a request that writes nothing leaves it. A key is written at most once in a revision: a transaction
//! that would do it twice is refused. Reads see the store as it was at any revision since the last compaction.

mod error;
mod expiry;
mod hash;
mod history;
mod key_range;
pub mod lease;
mod range;
mod request;
mod snapshot;
mod txn;
mod watch;

use std::collections::BTreeMap;

use bytes::Bytes;

pub use error::{Code, Error};
pub use expiry::Expiry;
use history::History;
pub use key_range::KeyRange;
use lease::{Lease, Leases};
pub use request::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, ResponseOp, SortOrder, SortTarget, TxnRequest, TxnResponse,
};
pub use snapshot::SnapshotError;
pub use watch::{Event, EventKind};

/// Counts the writes of a store, from 1.
pub type Revision = i64;
/// Names a lease; 0 is none.
pub type LeaseId = i64;

/// Operations, and compares, that one transaction may have; nested ones count. etcd's default.
pub const TXN_OPS_MAX: usize = 128;
/// What a version costs beside key and value, bytes: an estimate for [`Store::bytes`].
const VERSION_BYTES: u64 = 96;

/// A key as a client sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// Its name.
    pub key: Bytes,
    /// When it came into being.
    pub create_revision: Revision,
    /// When it was written last.
    pub mod_revision: Revision,
    /// Writes since it came into being, itself included.
    pub version: i64,
    /// What it holds.
    pub value: Bytes,
    /// Lease that it hangs on, or 0.
    pub lease: LeaseId,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    revision: Revision,
    compacted: Revision,
    keys: BTreeMap<Bytes, History>,
    /// The keys that were written at each revision from the last compaction on, in the order of the writes.
    changes: BTreeMap<Revision, Vec<Bytes>>,
    leases: Leases,
    bytes: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// Without a key.
    pub fn new() -> Self {
        let (keys, changes) = (BTreeMap::new(), BTreeMap::new());
        Self { revision: 1, compacted: -1, keys, changes, leases: Leases::default(), bytes: 0 }
    }

    /// The revision of the last write; 1 if there was none.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The revision of the last compaction; -1 if there was none.
    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    /// What all versions take, bytes, near enough for a quota.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes one key.
    ///
    /// # Errors
    /// What is wrong with the request, or [`Error::LeaseNotFound`], or [`Error::KeyNotFound`] where
    /// something of the key was to be kept.
    pub fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Error> {
        txn::validate_put(request)?;
        // etcd looks for the lease first here, and for the key first in a transaction.
        self.check_lease(request)?;
        self.check_put(request)?;
        let mut writer = Writer::new(self);
        let response = writer.put(request);
        writer.finish();
        Ok(response)
    }

    /// Deletes the keys of a range.
    ///
    /// # Errors
    /// [`Error::EmptyKey`].
    pub fn delete_range(&mut self, request: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Error> {
        txn::validate_keys(&request.keys)?;
        let mut writer = Writer::new(self);
        let response = writer.delete_range(request);
        writer.finish();
        Ok(response)
    }

    /// Does all of one list of operations, or all of another.
    ///
    /// # Errors
    /// What is wrong with any part of it; then nothing was done.
    pub fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        txn::validate(request, TXN_OPS_MAX)?;
        let path = txn::Path::choose(self, request);
        path.check(self)?;
        let mut writer = Writer::new(self);
        let response = path.apply(&mut writer);
        writer.finish();
        Ok(response)
    }

    /// Answers a transaction that only reads, [`TxnRequest::is_read`].
    ///
    /// # Errors
    /// What is wrong with any part of it.
    pub fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        txn::validate(request, TXN_OPS_MAX)?;
        let path = txn::Path::choose(self, request);
        path.check(self)?;
        Ok(path.read(self))
    }

    /// Makes a lease of `ttl` seconds.
    ///
    /// # Errors
    /// [`Error::LeaseExists`], [`Error::LeaseTtlTooLarge`].
    pub fn lease_grant(&mut self, id: LeaseId, ttl: i64) -> Result<(), Error> {
        self.leases.grant(id, ttl)
    }

    /// Ends a lease and deletes its keys, all in one revision.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    pub fn lease_revoke(&mut self, id: LeaseId) -> Result<Revision, Error> {
        let keys = self.leases.revoke(id)?;
        let mut writer = Writer::new(self);
        for key in &keys {
            writer.delete(key);
        }
        writer.finish();
        Ok(self.revision)
    }

    /// One lease.
    pub fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(id)
    }

    /// All leases, by id.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.leases.iter()
    }

    /// Forgets what no read at `revision` or later sees. The work is that of the writes since the last compaction.
    ///
    /// # Errors
    /// [`Error::Compacted`] if that was done already, [`Error::FutureRevision`].
    pub fn compact(&mut self, revision: Revision) -> Result<(), Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted);
        }
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        // What changed at the revision itself can still be watched.
        let later = self.changes.split_off(&revision);
        let earlier = std::mem::replace(&mut self.changes, later);
        let mut keys: Vec<Bytes> = earlier.into_values().flatten().collect();
        keys.extend(self.changes.get(&revision).into_iter().flatten().cloned());
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let Some(history) = self.keys.get_mut(&key) else { continue };
            let gone = history.compact(revision);
            self.bytes -= gone.values + gone.versions * (key.len() as u64 + VERSION_BYTES);
            if history.is_empty() {
                self.keys.remove(&key);
            }
        }
        self.compacted = revision;
        Ok(())
    }

    /// Raises the revision by `by` and forgets all history: a store that was restored must not give a revision twice.
    pub fn bump(&mut self, by: u64) {
        // It fails only when all is forgotten already.
        let _ = self.compact(self.revision);
        self.revision = self.revision.saturating_add(i64::try_from(by).unwrap_or(i64::MAX));
        self.compacted = self.revision;
        self.changes.clear();
    }

    /// Keys that live.
    pub fn len(&self) -> usize {
        self.keys.values().filter(|history| history.at(Revision::MAX).is_some()).count()
    }

    /// Whether no key lives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The present version of a key.
    fn current(&self, key: &Bytes) -> Option<&history::Version> {
        self.keys.get(key)?.at(Revision::MAX)
    }

    /// Whether a put that is sound in itself can be done now.
    fn check_put(&self, request: &PutRequest) -> Result<(), Error> {
        if (request.ignore_value || request.ignore_lease) && self.current(&request.key).is_none() {
            return Err(Error::KeyNotFound);
        }
        self.check_lease(request)
    }

    /// Whether the lease that a put hangs its key on is there.
    fn check_lease(&self, request: &PutRequest) -> Result<(), Error> {
        if request.lease != 0 && self.leases.get(request.lease).is_none() {
            return Err(Error::LeaseNotFound);
        }
        Ok(())
    }
}

/// The writes of one revision.
struct Writer<'a> {
    store: &'a mut Store,
    revision: Revision,
    changed: Vec<Bytes>,
}

impl<'a> Writer<'a> {
    fn new(store: &'a mut Store) -> Self {
        let revision = store.revision + 1;
        Self { store, revision, changed: Vec::new() }
    }

    /// The revision that a read sees: the new one as soon as there is a write.
    fn seen(&self) -> Revision {
        if self.changed.is_empty() { self.store.revision } else { self.revision }
    }

    /// A checked put.
    fn put(&mut self, request: &PutRequest) -> PutResponse {
        let key = &request.key;
        let old = self.store.current(key);
        let prev_kv = old.filter(|_| request.prev_kv).map(|version| version.show(key));
        let (old_lease, old_value) = old.map_or((0, None), |old| (old.lease, old.value.clone()));
        let value = if request.ignore_value { old_value.unwrap_or_default() } else { request.value.clone() };
        let lease = if request.ignore_lease { old_lease } else { request.lease };
        self.store.leases.attach(key, old_lease, lease);
        self.store.bytes += key.len() as u64 + value.len() as u64 + VERSION_BYTES;
        self.store.keys.entry(key.clone()).or_default().put(self.revision, value, lease);
        self.changed.push(key.clone());
        PutResponse { revision: self.revision, prev_kv }
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let found = self.store.keys.range::<Bytes, _>(request.keys.bounds());
        let living = found.filter_map(|(key, history)| Some((key, history.at(Revision::MAX)?)));
        let old: Vec<KeyValue> = living.map(|(key, version)| version.show(key)).collect();
        for kv in &old {
            self.delete(&kv.key);
        }
        let deleted = old.len() as u64;
        let prev_kvs = if request.prev_kv { old } else { Vec::new() };
        DeleteRangeResponse { revision: self.seen(), deleted, prev_kvs }
    }

    /// Deletes one key, if it is there.
    fn delete(&mut self, key: &Bytes) {
        let Some(lease) = self.store.current(key).map(|version| version.lease) else { return };
        self.store.leases.attach(key, lease, 0);
        self.store.bytes += key.len() as u64 + VERSION_BYTES;
        if let Some(history) = self.store.keys.get_mut(key) {
            history.delete(self.revision);
        }
        self.changed.push(key.clone());
    }

    /// The revision is there, if anything was written.
    fn finish(self) {
        if !self.changed.is_empty() {
            self.store.revision = self.revision;
            self.store.changes.insert(self.revision, self.changed);
        }
    }
}
