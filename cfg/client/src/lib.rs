//! From a URL to the configuration documents of one service, and a client of the store that holds them. The caller of
//! [`Source`] sees sections and a revision, and does not learn where they are kept; [`Store`] has the calls of etcd's
//! v3 API, with bounds on everything. Knows nothing of what the parameters mean.
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

/// Where configuration documents are read.
#[derive(Debug)]
pub enum Source {
    /// A directory. Its reads block for as long as the file system does, and need no runtime:
    /// [`FileSource::read`].
    File(FileSource),
    /// A store.
    Etcd(EtcdSource),
}

impl Source {
    /// The URL that this source was opened with.
    pub fn url(&self) -> &str {
        match self {
            Source::File(source) => source.url(),
            Source::Etcd(source) => source.url(),
        }
    }

    /// Everything directly below `prefix` (`""`: the URL's own level), never half of a change.
    ///
    /// # Errors
    /// [`Error::Absent`] when the prefix does not exist (in a store: when no key is below it); an existing one without
    /// documents is an empty snapshot.
    pub async fn read(&self, prefix: &str) -> Result<Snapshot, Error> {
        match self {
            Source::File(source) => source.read(prefix),
            Source::Etcd(source) => source.read(prefix).await,
        }
    }
}

/// Opens the source that `url` names. Reads no document yet.
///
/// * `file:///DIR`: each file `DIR/<section>.json` is the document of one section.
/// * `etcd://HOST:PORT,HOST:PORT/PATH`: each key `PATH/<section>` is; see [`StoreUrl`].
///
/// # Errors
/// [`Error::Url`] and [`Error::Unavailable`].
pub fn open(url: &str, options: Options) -> Result<Source, Error> {
    match url::scheme(url)? {
        ("file", _) => FileSource::open(url).map(Source::File),
        ("etcd", rest) => EtcdSource::new(url, &StoreUrl::parse_rest(url, rest)?, options).map(Source::Etcd),
        (scheme @ "arakoon", _) => Err(Error::Unavailable { url: url.to_owned(), scheme: scheme.to_owned() }),
        (scheme, _) => Err(Error::Url {
            url: url.to_owned(),
            problem: format!("{scheme}:// is not known; use etcd://HOST:PORT/PATH or file:///DIR"),
        }),
    }
}
