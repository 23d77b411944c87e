//! Who waits for changes of which keys: a write wakes those whom it concerns and nobody else, however many wait.
//!
//! Keys are looked up in tables of single keys and of prefixes, which is what clients watch; ranges of another kind are
//! compared one by one.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::mvcc::{KeyRange, Revision};

/// No revision.
const NONE: Revision = 0;

/// All who wait.
#[derive(Debug, Default)]
pub(crate) struct Interests {
    table: Mutex<Table>,
    /// The next number.
    number: AtomicU64,
}

/// Those with the same keys, by their numbers.
type Ears = BTreeMap<u64, Arc<Ear>>;

#[derive(Debug, Default)]
struct Table {
    keys: HashMap<Bytes, Ears>,
    /// By the length of the prefix.
    prefixes: BTreeMap<usize, HashMap<Bytes, Ears>>,
    others: BTreeMap<u64, (KeyRange, Arc<Ear>)>,
}

/// What one of them was not told.
#[derive(Debug)]
struct Ear {
    /// The first revision that it was not told of.
    first: AtomicI64,
    /// Rung when there is one.
    bell: Arc<Notify>,
}

/// A range that somebody waits for, until it is dropped.
#[derive(Debug)]
pub(crate) struct Interest {
    interests: Arc<Interests>,
    keys: KeyRange,
    number: u64,
    ear: Arc<Ear>,
}

impl Interests {
    /// From now on `bell` is rung when one of `keys` changes.
    pub(crate) fn register(self: &Arc<Self>, keys: KeyRange, bell: Arc<Notify>) -> Interest {
        let ear = Arc::new(Ear { first: AtomicI64::new(NONE), bell });
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let mut table = self.table();
        match table.place(&keys) {
            Some(ears) => drop(ears.insert(number, ear.clone())),
            None => drop(table.others.insert(number, (keys.clone(), ear.clone()))),
        }
        drop(table);
        Interest { interests: self.clone(), keys, number, ear }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No change of the table can stop half way.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes changes, and gives the bells to be rung. `None`: what changed is not known, from this revision on.
    pub(crate) fn note<'a>(
        &self,
        from: Revision,
        changes: Option<impl Iterator<Item = (Revision, &'a Bytes)>>,
    ) -> Vec<Arc<Notify>> {
        let (table, mut bells) = (self.table(), Vec::new());
        if table.keys.is_empty() && table.prefixes.is_empty() && table.others.is_empty() {
            return bells;
        }
        match changes {
            Some(changes) => {
                for (revision, key) in changes {
                    table.of(key).for_each(|ear| bells.extend(ear.hear(revision)));
                }
            }
            None => table.all().for_each(|ear| bells.extend(ear.hear(from))),
        }
        bells
    }
}

impl Table {
    /// Where those with these keys are; `None`: among the others.
    fn place(&mut self, keys: &KeyRange) -> Option<&mut Ears> {
        if keys.is_one() {
            return Some(self.keys.entry(keys.key.clone()).or_default());
        }
        let is_prefix = KeyRange::prefix(keys.key.clone()) == *keys;
        is_prefix
            .then(|| self.prefixes.entry(keys.key.len()).or_default().entry(keys.key.clone()).or_default())
    }

    /// Those whom a change of `key` concerns.
    fn of(&self, key: &Bytes) -> impl Iterator<Item = &Arc<Ear>> {
        let prefixes = self.prefixes.range(..=key.len());
        let found = prefixes.filter_map(|(&length, known)| known.get(&key[..length]));
        let tables = self.keys.get(key).into_iter().chain(found).flat_map(BTreeMap::values);
        let others = self.others.values().filter(|(keys, _)| keys.contains(key));
        tables.chain(others.map(|(_, ear)| ear))
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Ear>> {
        let tables = self.keys.values().chain(self.prefixes.values().flat_map(HashMap::values));
        tables.flat_map(BTreeMap::values).chain(self.others.values().map(|(_, ear)| ear))
    }

    fn remove(&mut self, keys: &KeyRange, number: u64) {
        self.others.remove(&number);
        let Some(ears) = self.place(keys) else { return };
        ears.remove(&number);
        if !ears.is_empty() {
            return;
        }
        if keys.is_one() {
            self.keys.remove(&keys.key);
        } else if let Some(known) = self.prefixes.get_mut(&keys.key.len()) {
            known.remove(&keys.key);
            if known.is_empty() {
                self.prefixes.remove(&keys.key.len());
            }
        }
    }
}

impl Ear {
    /// Notes a change at `revision`; the bell, if nothing was noted before.
    fn hear(&self, revision: Revision) -> Option<Arc<Notify>> {
        let first = self.first.compare_exchange(NONE, revision, Ordering::AcqRel, Ordering::Acquire);
        first.is_ok().then(|| self.bell.clone())
    }
}

impl Interest {
    /// The keys.
    pub(crate) fn keys(&self) -> &KeyRange {
        &self.keys
    }

    /// Whether something has changed since [`Interest::take`].
    pub(crate) fn is_waiting(&self) -> bool {
        self.ear.first.load(Ordering::Acquire) != NONE
    }

    /// The first revision that changed one of the keys since the last time. Only while the store is being read is it
    /// sure that there is no other one yet.
    pub(crate) fn take(&self) -> Option<Revision> {
        Some(self.ear.first.swap(NONE, Ordering::AcqRel)).filter(|&first| first != NONE)
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.interests.table().remove(&self.keys, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges() -> Vec<KeyRange> {
        let (all, end) = (&b"\0"[..], &b"\0"[..]);
        vec![
            KeyRange::one("/a/b"),
            KeyRange::one("/a/b"),
            KeyRange::one("/a"),
            KeyRange::prefix("/a"),
            KeyRange::prefix("/a/"),
            KeyRange::prefix("/a/b"),
            KeyRange::prefix("/b/"),
            KeyRange::prefix(&b"/a\xff"[..]),
            KeyRange::prefix(&b"\xff"[..]),
            KeyRange::prefix(""),
            KeyRange::between(all, end),
            KeyRange::between("/a/b", end),
            KeyRange::between("/a", "/a/c"),
            KeyRange::between("/a/b", "/a/bb"),
            KeyRange::between("/b", "/a"),
        ]
    }

    const KEYS: [&[u8]; 11] =
        [b"/", b"/a", b"/a/", b"/a/b", b"/a/b/c", b"/a/c", b"/a\xff", b"/a\xffx", b"/b/", b"\xff\xff", b"0"];

    #[test]
    fn a_change_is_heard_by_those_whose_keys_it_is_about() {
        let interests = Arc::new(Interests::default());
        let all: Vec<Interest> =
            ranges().into_iter().map(|keys| interests.register(keys, Arc::default())).collect();
        for (key, revision) in KEYS.iter().zip(7..) {
            let key = Bytes::copy_from_slice(key);
            let bells = interests.note(revision, Some([(revision, &key)].into_iter()));
            let concerned: Vec<&Interest> = all.iter().filter(|one| one.keys().contains(&key)).collect();
            assert_eq!(bells.len(), concerned.len(), "{key:?}");
            for one in &all {
                let heard = one.keys().contains(&key);
                assert_eq!(one.is_waiting(), heard, "{one:?} of {key:?}");
                assert_eq!(one.take(), heard.then_some(revision), "{one:?} of {key:?}");
            }
        }
    }

    #[test]
    fn the_first_revision_counts_and_rings_once() {
        let interests = Arc::new(Interests::default());
        let (one, key) = (interests.register(KeyRange::prefix("/a/"), Arc::default()), Bytes::from("/a/b"));
        let changes = [(3, &key), (4, &key)];
        assert_eq!(interests.note(3, Some(changes.into_iter())).len(), 1);
        assert!(interests.note(5, Some([(5, &key)].into_iter())).is_empty(), "it is rung already");
        assert_eq!((one.take(), one.take(), one.is_waiting()), (Some(3), None, false));
    }

    #[test]
    fn what_is_not_known_concerns_all() {
        let interests = Arc::new(Interests::default());
        let all: Vec<Interest> =
            ranges().into_iter().map(|keys| interests.register(keys, Arc::default())).collect();
        assert_eq!(interests.note(9, None::<std::iter::Empty<_>>).len(), all.len());
        assert!(all.iter().all(|one| one.take() == Some(9)));
    }

    #[test]
    fn who_goes_leaves_nothing() {
        let interests = Arc::new(Interests::default());
        let mut all: Vec<Interest> =
            ranges().into_iter().map(|keys| interests.register(keys, Arc::default())).collect();
        let key = Bytes::from("/a/b");
        // One of two with the same key.
        drop(all.remove(0));
        let concerned = all.iter().filter(|one| one.keys().contains(&key)).count();
        assert_eq!(interests.note(2, Some([(2, &key)].into_iter())).len(), concerned);
        drop(all);
        let table = interests.table();
        assert!(table.keys.is_empty() && table.prefixes.is_empty() && table.others.is_empty(), "{table:?}");
    }
}
