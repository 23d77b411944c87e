//! Documents as keys of a store: `<path>/<section>`.

use std::collections::BTreeSet;

use cfg_schema::Documents;

use crate::listing::Content;
use crate::{
    DOCUMENT_COUNT_LIMIT, DOCUMENT_LIMIT, Error, KeyPath, Listing, Options, Snapshot, Store, StoreUrl,
};

/// Documents below a path of a store.
#[derive(Debug)]
pub struct EtcdSource {
    path: KeyPath,
    store: Store,
}

impl EtcdSource {
    /// The documents that an `etcd://` URL names: each key `PATH/<section>`; see [`StoreUrl`]. Reads nothing yet.
    ///
    /// # Errors
    /// [`Error::Url`], and as [`Store::open`].
    pub fn open(url: &str, options: Options) -> Result<EtcdSource, Error> {
        let parsed = StoreUrl::parse(url)?;
        let store = Store::open(&parsed, options)?;
        Ok(EtcdSource { path: parsed.path, store })
    }

    /// The path in the store.
    pub fn path(&self) -> &KeyPath {
        &self.path
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// All documents directly below `prefix` (`""`: the URL's own level), at one revision.
    ///
    /// # Errors
    /// As [`documents`], and as [`Store::list`].
    pub async fn read(&self, prefix: &str) -> Result<Snapshot, Error> {
        let path = match prefix.trim_matches('/') {
            "" => self.path.clone(),
            prefix => self.path.join(prefix)?,
        };
        let listing = self.store.list(&path.below(), Content::Values, None).await?;
        documents(&path, &listing)
    }
}

/// The documents directly below `path`. What lies deeper belongs to others. A key that is a document and a folder too,
/// which only a foreign client can make, counts as the folder.
///
/// # Errors
/// [`Error::Absent`] when there is no key at all, [`Error::Syntax`], [`Error::TooLarge`].
pub fn documents(path: &KeyPath, listing: &Listing) -> Result<Snapshot, Error> {
    if listing.pairs.is_empty() {
        return Err(Error::Absent { place: path.to_string() });
    }
    let folder = path.folder();
    let name = |key: &[u8]| {
        let key = str::from_utf8(key).ok()?;
        key.strip_prefix(&folder).map(str::to_owned)
    };
    let names = listing.pairs.iter().filter_map(|pair| name(&pair.key));
    let folders: BTreeSet<String> =
        names.filter_map(|name| Some(name.split_once('/')?.0.to_owned())).collect();
    let mut documents = Documents::new();
    for pair in &listing.pairs {
        let Some(section) = name(&pair.key).filter(|name| !name.contains('/')) else { continue };
        let place = format!("{folder}{section}");
        if folders.contains(&section) {
            tracing::warn!(key = place, "is a document and a folder; the document is left out");
            continue;
        }
        if documents.len() == DOCUMENT_COUNT_LIMIT {
            let problem = format!("holds more than {DOCUMENT_COUNT_LIMIT} documents");
            return Err(Error::TooLarge { place: path.to_string(), problem });
        }
        if pair.value.len() > DOCUMENT_LIMIT {
            let problem = format!("is larger than {} KiB, the limit of a document", DOCUMENT_LIMIT / 1024);
            return Err(Error::TooLarge { place, problem });
        }
        let document = serde_json::from_slice(&pair.value).map_err(|error| Error::syntax(place, &error))?;
        documents.insert(section, document);
    }
    let revision = u64::try_from(listing.revision).unwrap_or(0);
    Ok(Snapshot { revision, cluster_id: Some(listing.cluster_id), documents })
}
