//! From a URL to the configuration documents of one service, and a client of the store that holds them. [`FileSource`]
//! and [`EtcdSource`] read all documents at one moment; [`Store`] has the calls of etcd's v3 API, with bounds on
//! everything. Knows nothing of what the parameters mean.
#![forbid(unsafe_code)]

mod cluster;
mod connection;
mod error;
mod etcd;
mod file;
mod key;
mod last_good;
mod lease;
mod listing;
mod options;
mod store;
mod transaction;
mod url;
mod watch;

pub use cluster::{Member, MemberStatus};
pub use error::Error;
pub use etcd::{EtcdSource, documents};
pub use file::FileSource;
pub use key::{KEY_LIMIT, KeyPath, KeyRange};
pub use last_good::{Age, LastGood};
pub use lease::Lease;
pub use listing::{Content, Listing};
pub use options::Options;
pub use store::{Pair, Store};
pub use transaction::{Compare, MARKERS, Proof, Transaction, Write, random_id};
pub use url::{StoreUrl, TlsFiles};
pub use watch::{Event, Item, Watch};

use cfg_schema::Documents;

/// Largest document, in bytes of its JSON text.
pub const DOCUMENT_LIMIT: usize = 512 * 1024;

/// Most documents below one prefix.
pub const DOCUMENT_COUNT_LIMIT: usize = 256;

/// All documents below one prefix, as they were at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Equal revisions of one source mean equal documents. In a store that counts its changes, the greater one is the
    /// later one; a directory of files only has a fingerprint of the content.
    pub revision: u64,
    /// The store's cluster; a directory of files has none.
    pub cluster_id: Option<u64>,
    /// The documents by section. Whether they are JSON objects is for the schema to say.
    pub documents: Documents,
}
