//! The versions of one key.

use bytes::Bytes;

use super::{KeyValue, LeaseId, Revision};

/// One version: a value, or the key's absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// When it was written.
    pub(super) modified: Revision,
    /// When the key came into being; of a tombstone 0.
    pub(super) created: Revision,
    /// Counts from 1 at the creation; of a tombstone 0.
    pub(super) version: i64,
    /// Lease that it hangs on, or 0.
    pub(super) lease: LeaseId,
    /// `None`: the key was deleted.
    pub(super) value: Option<Bytes>,
}

impl Version {
    /// As clients see it; a tombstone has only key and revision.
    pub(super) fn show(&self, key: &Bytes) -> KeyValue {
        KeyValue {
            key: key.clone(),
            create_revision: self.created,
            mod_revision: self.modified,
            version: self.version,
            value: self.value.clone().unwrap_or_default(),
            lease: self.lease,
        }
    }
}

/// What a compaction took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    /// Versions, tombstones included.
    pub(super) versions: u64,
    /// Bytes of their values.
    pub(super) values: u64,
}

/// All versions since the last compaction, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    versions: Vec<Version>,
}

impl History {
    /// The version that a read at `revision` sees; a tombstone is none.
    pub(super) fn at(&self, revision: Revision) -> Option<&Version> {
        let version = match self.versions.last() {
            // Nearly every read is of the present.
            Some(last) if last.modified <= revision => last,
            _ => {
                let behind = self.versions.partition_point(|version| version.modified <= revision);
                self.versions[..behind].last()?
            }
        };
        version.value.is_some().then_some(version)
    }

    /// The version written at exactly `revision`, tombstones included.
    pub(super) fn written_at(&self, revision: Revision) -> Option<&Version> {
        let at = self.versions.binary_search_by_key(&revision, |version| version.modified).ok()?;
        self.versions.get(at)
    }

    /// Adds a value; `revision` is later than all before.
    pub(super) fn put(&mut self, revision: Revision, value: Bytes, lease: LeaseId) {
        let (created, version) = match self.versions.last() {
            Some(last) if last.value.is_some() => (last.created, last.version + 1),
            _ => (revision, 1),
        };
        self.versions.push(Version { modified: revision, created, version, lease, value: Some(value) });
    }

    /// Adds a tombstone.
    pub(super) fn delete(&mut self, revision: Revision) {
        self.versions.push(Version { modified: revision, created: 0, version: 0, lease: 0, value: None });
    }

    /// Forgets what no read at `revision` or later sees. Afterwards it may be empty.
    pub(super) fn compact(&mut self, revision: Revision) -> Gone {
        let behind = self.versions.partition_point(|version| version.modified <= revision);
        let seen = self.versions[..behind].last().is_some_and(|version| version.value.is_some());
        let mut gone = Gone::default();
        for version in self.versions.drain(..behind - usize::from(seen)) {
            gone.versions += 1;
            gone.values += version.value.map_or(0, |value| value.len() as u64);
        }
        gone
    }

    /// The oldest first.
    pub(super) fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// From what [`History::versions`] gave: ascending, at least one.
    pub(super) fn from_versions(versions: Vec<Version>) -> Self {
        Self { versions }
    }

    /// Whether nothing is left of it.
    pub(super) fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> History {
        let mut history = History::default();
        history.put(2, "a".into(), 0);
        history.put(4, "b".into(), 7);
        history.delete(6);
        history.put(9, "c".into(), 0);
        history
    }

    #[test]
    fn each_revision_sees_its_version() {
        let history = sample();
        let seen = |revision| history.at(revision).map(|v| (v.modified, v.created, v.version, v.lease));
        assert_eq!(seen(1), None);
        assert_eq!((seen(2), seen(3)), (Some((2, 2, 1, 0)), Some((2, 2, 1, 0))));
        assert_eq!(seen(5), Some((4, 2, 2, 7)));
        assert_eq!((seen(6), seen(8)), (None, None));
        assert_eq!(seen(100), Some((9, 9, 1, 0)), "a deleted key begins anew");
        assert!(history.written_at(6).is_some_and(|version| version.value.is_none()));
        assert_eq!(history.written_at(5), None);
    }

    #[test]
    fn a_compaction_keeps_what_its_revision_sees() {
        for revision in 0..12 {
            let mut history = sample();
            history.compact(revision);
            for later in revision..12 {
                assert_eq!(history.at(later), sample().at(later), "compacted at {revision}, read at {later}");
            }
        }
        let mut history = sample();
        assert_eq!(history.compact(6), Gone { versions: 3, values: 2 });
        history.delete(11);
        history.compact(11);
        assert!(history.is_empty());
    }
}
