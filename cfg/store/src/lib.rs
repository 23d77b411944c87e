//! The configuration store. [`mvcc`] is its state machine: every version of every key since the last compaction,
//! leases, and what changed at each revision, with the semantics, limits and error texts of etcd's v3 API. It does no
//! I/O, reads no clock and takes no lock: the same requests in the same order make the same store, which is what a
//! replicated log needs. [`log`] keeps that log's entries on disk, whatever they say.
#![forbid(unsafe_code)]

pub mod log;
pub mod mvcc;
