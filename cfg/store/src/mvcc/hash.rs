//! A checksum of the keys, by which members are compared.

use super::{Error, Revision, Store};

impl Store {
    /// CRC-32 of everything that can be read between the last compaction and `revision`; 0: now. Members that applied
    /// the same have the same.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`].
    pub fn hash(&self, revision: Revision) -> Result<u32, Error> {
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        if revision > 0 && revision < self.compacted {
            return Err(Error::Compacted);
        }
        let until = if revision > 0 { revision } else { self.revision };
        let mut hash = crc32fast::Hasher::new();
        for (key, history) in &self.keys {
            for version in history.versions().iter().filter(|version| version.modified <= until) {
                hash.update(&(key.len() as u64).to_le_bytes());
                hash.update(key);
                for number in [version.modified, version.created, version.version, version.lease] {
                    hash.update(&number.to_le_bytes());
                }
                let value = version.value.as_deref();
                hash.update(&[u8::from(value.is_some())]);
                hash.update(value.unwrap_or_default());
            }
        }
        Ok(hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::PutRequest;

    #[test]
    fn it_tells_stores_apart_and_is_the_same_after_more_writes() {
        let (mut one, mut other) = (Store::new(), Store::new());
        one.put(&PutRequest::new("a", "1")).expect("a sound put");
        other.put(&PutRequest::new("a", "2")).expect("a sound put");
        assert_ne!(one.hash(0), other.hash(0));
        let before = one.hash(0).expect("now");
        one.put(&PutRequest::new("b", "1")).expect("a sound put");
        assert_eq!((one.hash(2), one.hash(4)), (Ok(before), Err(Error::FutureRevision)));
        assert_ne!(one.hash(3), Ok(before));
        one.compact(3).expect("a new revision");
        assert_eq!(one.hash(2), Err(Error::Compacted));
    }
}
