//! The configuration store: keys with all their versions, replicated over the members of a cluster, behind etcd's v3
//! API.
//!
//! [`mvcc`] is the store of one member, [`machine`] that and who belongs to the cluster: state machines without I/O,
//! clock or lock. [`log`] keeps on the disk what was agreed, `raft` makes members agree, `peer` is how they talk,
//! `api` is what clients see.
#![forbid(unsafe_code)]

mod api;
mod gathered;
mod identity;
mod interest;
mod leases;
mod listen;
pub mod log;
pub mod machine;
pub mod mvcc;
mod peer;
mod raft;
mod replica;
mod restore;
mod serve;
mod server;
mod tls;
mod words;

pub use api::ApiOptions;
pub use raft::{AutoCompaction, BadSnapshot, Ended, NodeError, RaftOptions};
pub use restore::{RestoreError, Restored, restore};
pub use server::{Beginning, Options, Server, StartError};
pub use tls::{Acceptor, TlsFiles};
