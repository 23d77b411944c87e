//! From a URL to the configuration documents of one service. The caller sees sections and a revision, and does not
//! learn where they are kept. Knows nothing of what the parameters mean.
#![forbid(unsafe_code)]

mod error;
mod file;
mod url;

pub use error::Error;
pub use file::FileSource;

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
    /// The documents by section. Whether they are JSON objects is for the schema to say.
    pub documents: Documents,
}

/// Where configuration documents are read.
pub trait Source: Send + Sync + std::fmt::Debug {
    /// The URL that this source was opened with.
    fn url(&self) -> &str;

    /// Everything directly below `prefix` (`""`: the URL's own level), never half of a change.
    ///
    /// # Errors
    /// [`Error::Absent`] when the prefix does not exist; an existing one without documents is an empty snapshot.
    fn read(&self, prefix: &str) -> Result<Snapshot, Error>;
}

/// Opens the source that `url` names. Reads nothing yet.
///
/// * `file:///DIR`: each file `DIR/<section>.json` is the document of one section.
///
/// # Errors
/// [`Error::Url`] and [`Error::Unavailable`].
pub fn open(url: &str) -> Result<Box<dyn Source>, Error> {
    match url::scheme(url)? {
        ("file", rest) => Ok(Box::new(FileSource::new(url, url::file_path(url, rest)?))),
        (scheme @ ("etcd" | "arakoon"), _) => {
            Err(Error::Unavailable { url: url.to_owned(), scheme: scheme.to_owned() })
        }
        (scheme, _) => Err(Error::Url {
            url: url.to_owned(),
            problem: format!("{scheme}:// is not known; use file:///DIR"),
        }),
    }
}
