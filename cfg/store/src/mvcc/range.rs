//! Reads.

use std::cmp::Ordering;

use super::{Error, KeyValue, RangeRequest, RangeResponse, Revision, SortOrder, SortTarget, Store, txn};

impl Store {
    /// Reads the keys of a range, now or at a revision since the last compaction.
    ///
    /// # Errors
    /// [`Error::EmptyKey`], [`Error::Compacted`], [`Error::FutureRevision`].
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        txn::validate_keys(&request.keys)?;
        self.check_range(request)?;
        Ok(self.read(request, self.revision))
    }

    /// Whether the revision asked for can be read; alone a negative one means now.
    fn check_range(&self, request: &RangeRequest) -> Result<(), Error> {
        if request.revision < 0 { Ok(()) } else { self.check_range_in_txn(request) }
    }

    /// The same in a transaction, where etcd takes a negative revision for one that was compacted.
    pub(super) fn check_range_in_txn(&self, request: &RangeRequest) -> Result<(), Error> {
        match request.revision {
            0 => Ok(()),
            revision if revision > self.revision => Err(Error::FutureRevision),
            revision if revision < self.compacted => Err(Error::Compacted),
            _ => Ok(()),
        }
    }

    /// A checked read; `now` is the revision of those that name none, and of the answer.
    pub(super) fn read(&self, request: &RangeRequest, now: Revision) -> RangeResponse {
        let at = if request.revision > 0 { request.revision } else { now };
        let found = self.keys.range::<bytes::Bytes, _>(request.keys.bounds());
        let living = found.filter_map(|(key, history)| Some((key, history.at(at)?)));
        if request.count_only {
            let count = living.count() as u64;
            return RangeResponse { revision: now, count, ..RangeResponse::default() };
        }
        let limit = if request.limit == 0 { usize::MAX } else { request.limit as usize };
        // Sorted or filtered, the last one may come first: all must be looked at.
        let wanted = if is_plain(request) { limit.saturating_add(1) } else { usize::MAX };
        let (mut kvs, mut count) = (Vec::new(), 0);
        for (key, version) in living {
            count += 1;
            if kvs.len() < wanted {
                kvs.push(version.show(key));
            }
        }
        kvs.retain(|kv| is_within(request, kv));
        sort(&mut kvs, request.target, request.order);
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        RangeResponse { revision: now, kvs, more, count }
    }
}

/// Neither a filter nor an order is asked for. As in etcd a target alone does not count: what it sorts is what the
/// limit left.
fn is_plain(request: &RangeRequest) -> bool {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    request.order == SortOrder::None && bounds == [0; 4]
}

fn is_within(request: &RangeRequest, kv: &KeyValue) -> bool {
    let within = |value: Revision, min: Revision, max: Revision| {
        (min == 0 || value >= min) && (max == 0 || value <= max)
    };
    within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
}

/// By the target; those that are equal in it stay in the order of their keys.
fn sort(kvs: &mut [KeyValue], target: SortTarget, order: SortOrder) {
    let by = |a: &KeyValue, b: &KeyValue| -> Ordering {
        match target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        }
    };
    match order {
        // They come sorted by key.
        SortOrder::None | SortOrder::Ascend if target == SortTarget::Key => {}
        SortOrder::None | SortOrder::Ascend => kvs.sort_by(by),
        SortOrder::Descend => kvs.sort_by(|a, b| by(b, a)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::{KeyRange, PutRequest};

    fn store() -> Store {
        let mut store = Store::new();
        for (key, value) in [("a", "3"), ("b", "1"), ("c", "2"), ("a", "4"), ("d", "1")] {
            store.put(&PutRequest::new(key, value)).expect("a sound put");
        }
        store
    }

    fn all() -> RangeRequest {
        RangeRequest::of(KeyRange::prefix(""))
    }

    fn keys(response: &RangeResponse) -> String {
        response.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
    }

    #[test]
    fn limits_orders_and_bounds() {
        let store = store();
        let read = |request: RangeRequest| store.range(&request).expect("a sound range");
        let limited = read(RangeRequest { limit: 2, ..all() });
        assert_eq!((keys(&limited).as_str(), limited.more, limited.count), ("ab", true, 4));
        let exact = read(RangeRequest { limit: 4, ..all() });
        assert_eq!((exact.kvs.len(), exact.more), (4, false));
        let order = SortOrder::Descend;
        assert_eq!(keys(&read(RangeRequest { order, limit: 3, ..all() })), "dcb");
        let target = SortTarget::Value;
        assert_eq!(keys(&read(RangeRequest { target, order: SortOrder::Ascend, ..all() })), "bdca");
        assert_eq!(keys(&read(RangeRequest { target: SortTarget::Mod, order, ..all() })), "dacb");
        let bounded = read(RangeRequest { min_mod_revision: 4, max_create_revision: 4, ..all() });
        assert_eq!((keys(&bounded).as_str(), bounded.count), ("ac", 4));
        assert!(read(RangeRequest { keys_only: true, ..all() }).kvs.iter().all(|kv| kv.value.is_empty()));
        let counted = read(RangeRequest { count_only: true, limit: 1, ..all() });
        assert_eq!((counted.kvs.len(), counted.count, counted.more), (0, 4, false));
    }

    #[test]
    fn the_past_is_there_until_it_is_compacted() {
        let mut store = store();
        let at = |store: &Store, revision| store.range(&RangeRequest { revision, ..all() });
        assert_eq!(at(&store, 2).map(|r| (keys(&r), r.revision)), Ok(("a".to_string(), 6)));
        assert_eq!(at(&store, 7), Err(Error::FutureRevision));
        store.compact(4).expect("a revision that happened");
        assert_eq!(at(&store, 3), Err(Error::Compacted));
        assert_eq!(at(&store, 4).map(|r| keys(&r)), Ok("abc".to_string()));
        assert_eq!(store.range(&RangeRequest::default()), Err(Error::EmptyKey));
    }
}
