//! What changed, for those who follow the store.

use super::{Error, KeyRange, KeyValue, Revision, Store};

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was deleted.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key afterwards; of a deletion only name and revision.
    pub kv: KeyValue,
    /// The key before, if that is asked for and not compacted.
    pub prev_kv: Option<KeyValue>,
}

impl Store {
    /// The changes of `keys` from revision `from` on: revision by revision, each whole and in the order of its writes.
    /// Revisions that changed none of these keys are left out.
    ///
    /// # Errors
    /// [`Error::Compacted`] if changes are wanted that are not there any more.
    pub fn events<'a>(
        &'a self,
        from: Revision,
        keys: &'a KeyRange,
        prev_kv: bool,
    ) -> Result<impl Iterator<Item = (Revision, Vec<Event>)> + 'a, Error> {
        if from < self.compacted {
            return Err(Error::Compacted);
        }
        let of = move |(&revision, changed): (&Revision, &'a Vec<bytes::Bytes>)| {
            let mine = changed.iter().filter(|key| keys.contains(key));
            let events: Vec<Event> = mine.map(|key| self.event(key, revision, prev_kv)).collect();
            (!events.is_empty()).then_some((revision, events))
        };
        Ok(self.changes.range(from..).filter_map(of))
    }

    /// The keys that were written from revision `from` on; `None`: that is not known any more.
    pub fn changed(&self, from: Revision) -> Option<impl Iterator<Item = (Revision, &bytes::Bytes)>> {
        let keys = |(&revision, keys)| std::iter::repeat(revision).zip(keys);
        (from >= self.compacted).then(|| self.changes.range(from..).flat_map(keys))
    }

    /// The change of `key` at `revision`, which is one of those it was written at.
    fn event(&self, key: &bytes::Bytes, revision: Revision, prev_kv: bool) -> Event {
        let history = self.keys.get(key);
        let version = history.and_then(|history| history.written_at(revision));
        // The compaction of its own revision takes a tombstone; the change is remembered.
        let gone = || KeyValue { key: key.clone(), mod_revision: revision, ..KeyValue::default() };
        let kind = match version {
            Some(version) if version.value.is_some() => EventKind::Put,
            _ => EventKind::Delete,
        };
        let known = prev_kv && revision > self.compacted;
        let before = history.filter(|_| known).and_then(|history| history.at(revision - 1));
        let prev_kv = before.map(|version| version.show(key));
        Event { kind, kv: version.map_or_else(gone, |version| version.show(key)), prev_kv }
    }
}
