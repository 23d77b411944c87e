//! Transactions: what may be in one, which of its lists is done, and doing it.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, Error, KeyRange, KeyValue, PutRequest,
    RangeRequest, RequestOp, ResponseOp, Revision, Store, TxnRequest, TxnResponse, Writer,
};

/// A key is named.
pub(super) fn validate_keys(keys: &KeyRange) -> Result<(), Error> {
    if keys.key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// A put is sound in itself.
pub(super) fn validate_put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// A transaction of at most `ops_max` operations is sound in itself, both lists and everything inside. Each level has
/// an operation at least, so the depth is bounded too.
pub(super) fn validate(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    // All requests by themselves come first, as with etcd: a client sees which of two faults is named.
    validate_ops(request, ops_max)?;
    writes(&request.success)?;
    writes(&request.failure)?;
    Ok(())
}

/// Each request, compare and number of operations is sound.
fn validate_ops(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    let Some(left) = ops_max.checked_sub(ops) else { return Err(Error::TooManyOps) };
    for compare in &request.compare {
        validate_keys(&compare.keys)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        match op {
            RequestOp::Range(range) => validate_keys(&range.keys)?,
            RequestOp::Put(put) => validate_put(put)?,
            RequestOp::DeleteRange(delete) => validate_keys(&delete.keys)?,
            RequestOp::Txn(inner) => validate_ops(inner, left)?,
            RequestOp::Nothing => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list could write.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a Bytes>,
    deletes: Vec<&'a KeyRange>,
}

impl<'a> Writes<'a> {
    /// Adds what is done as well; no key may be written twice. (etcd lets a transaction inside delete what an earlier
    /// one beside it puts. Here a key is written once in a revision.)
    fn and(&mut self, other: Writes<'a>) -> Result<(), Error> {
        let doubled = other.puts.iter().any(|key| self.puts.contains(key) || self.is_deleted(key));
        if doubled || self.puts.iter().any(|key| other.is_deleted(key)) {
            return Err(Error::DuplicateKey);
        }
        self.or(other);
        Ok(())
    }

    /// Adds what is done instead.
    fn or(&mut self, other: Writes<'a>) {
        self.puts.extend(other.puts);
        self.deletes.extend(other.deletes);
    }

    fn is_deleted(&self, key: &[u8]) -> bool {
        self.deletes.iter().any(|range| range.contains(key))
    }
}

fn writes(ops: &[RequestOp]) -> Result<Writes<'_>, Error> {
    let mut all = Writes::default();
    for op in ops {
        let these = match op {
            RequestOp::Range(_) | RequestOp::Nothing => continue,
            RequestOp::Put(put) => Writes { puts: BTreeSet::from([&put.key]), ..Writes::default() },
            RequestOp::DeleteRange(delete) => Writes { deletes: vec![&delete.keys], ..Writes::default() },
            RequestOp::Txn(inner) => {
                let mut either = writes(&inner.success)?;
                either.or(writes(&inner.failure)?);
                either
            }
        };
        all.and(these)?;
    }
    Ok(all)
}

/// What is done: the list that the conditions choose, of a transaction and of those inside.
pub(super) struct Path<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    Range(&'a RangeRequest),
    Put(&'a PutRequest),
    DeleteRange(&'a DeleteRangeRequest),
    Txn(Path<'a>),
}

impl<'a> Path<'a> {
    /// Judges all conditions by the store as it is.
    pub(super) fn choose(store: &Store, request: &'a TxnRequest) -> Self {
        let succeeded = request.compare.iter().all(|compare| compare.holds(store));
        let ops = if succeeded { &request.success } else { &request.failure };
        let step = |op: &'a RequestOp| match op {
            RequestOp::Range(range) => Some(Step::Range(range)),
            RequestOp::Put(put) => Some(Step::Put(put)),
            RequestOp::DeleteRange(delete) => Some(Step::DeleteRange(delete)),
            RequestOp::Txn(inner) => Some(Step::Txn(Path::choose(store, inner))),
            // Never in one that was validated.
            RequestOp::Nothing => None,
        };
        Self { succeeded, steps: ops.iter().filter_map(step).collect() }
    }

    /// Everything on it can be done; so that doing it cannot fail half way.
    pub(super) fn check(&self, store: &Store) -> Result<(), Error> {
        self.check_puts(store)?;
        self.check_ranges(store)
    }

    fn check_puts(&self, store: &Store) -> Result<(), Error> {
        self.steps.iter().try_for_each(|step| match step {
            Step::Put(put) => store.check_put(put),
            Step::Txn(inner) => inner.check_puts(store),
            Step::Range(_) | Step::DeleteRange(_) => Ok(()),
        })
    }

    fn check_ranges(&self, store: &Store) -> Result<(), Error> {
        self.steps.iter().try_for_each(|step| match step {
            Step::Range(range) => store.check_range_in_txn(range),
            Step::Txn(inner) => inner.check_ranges(store),
            Step::Put(_) | Step::DeleteRange(_) => Ok(()),
        })
    }

    /// Does it where nothing is written.
    pub(super) fn read(&self, store: &Store) -> TxnResponse {
        let read = |step: &Step<'a>| match step {
            Step::Range(range) => Some(ResponseOp::Range(store.read(range, store.revision))),
            Step::Txn(inner) => Some(ResponseOp::Txn(inner.read(store))),
            Step::Put(_) | Step::DeleteRange(_) => None,
        };
        let responses = self.steps.iter().filter_map(read).collect();
        TxnResponse { revision: store.revision, succeeded: self.succeeded, responses }
    }

    /// Does it.
    pub(super) fn apply(&self, writer: &mut Writer<'_>) -> TxnResponse {
        let mut responses = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            responses.push(match step {
                Step::Range(range) => ResponseOp::Range(writer.store.read(range, writer.seen())),
                Step::Put(put) => ResponseOp::Put(writer.put(put)),
                Step::DeleteRange(delete) => ResponseOp::DeleteRange(writer.delete_range(delete)),
                Step::Txn(inner) => ResponseOp::Txn(inner.apply(writer)),
            });
        }
        TxnResponse { revision: writer.seen(), succeeded: self.succeeded, responses }
    }
}

impl PutRequest {
    /// Whether it is sound in itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), Error> {
        validate_put(self)
    }
}

impl TxnRequest {
    /// Whether it is sound in itself, all of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), Error> {
        validate(self, super::TXN_OPS_MAX)
    }

    /// Whether neither of its lists, nor one inside, could write.
    pub fn is_read(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| match op {
            RequestOp::Range(_) | RequestOp::Nothing => true,
            RequestOp::Txn(inner) => inner.is_read(),
            RequestOp::Put(_) | RequestOp::DeleteRange(_) => false,
        })
    }
}

impl Compare {
    /// Whether it holds for every key of its range; where there is none, for a key that does not exist.
    fn holds(&self, store: &Store) -> bool {
        let found = store.keys.range::<Bytes, _>(self.keys.bounds());
        let mut living =
            found.filter_map(|(key, history)| Some(history.at(Revision::MAX)?.show(key))).peekable();
        if living.peek().is_none() {
            return !matches!(self.target, CompareTarget::Value(_)) && self.holds_for(&KeyValue::default());
        }
        living.all(|kv| self.holds_for(&kv))
    }

    fn holds_for(&self, kv: &KeyValue) -> bool {
        let order = match &self.target {
            CompareTarget::Version(version) => kv.version.cmp(version),
            CompareTarget::Create(revision) => kv.create_revision.cmp(revision),
            CompareTarget::Mod(revision) => kv.mod_revision.cmp(revision),
            CompareTarget::Value(value) => kv.value.cmp(value),
            CompareTarget::Lease(lease) => kv.lease.cmp(lease),
        };
        match self.result {
            CompareResult::Equal => order.is_eq(),
            CompareResult::Greater => order.is_gt(),
            CompareResult::Less => order.is_lt(),
            CompareResult::NotEqual => order.is_ne(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::TXN_OPS_MAX;

    fn put(key: &'static str) -> RequestOp {
        RequestOp::Put(PutRequest::new(key, "new"))
    }

    fn delete(key: &'static str, end: &'static str) -> RequestOp {
        RequestOp::DeleteRange(DeleteRangeRequest { keys: KeyRange::between(key, end), prev_kv: true })
    }

    fn get(key: &'static str) -> RequestOp {
        RequestOp::Range(RangeRequest::of(KeyRange::one(key)))
    }

    fn inner(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        // Always true: a key that does not exist has version 0.
        let keys = KeyRange::one("nowhere");
        let compare = vec![Compare { keys, target: CompareTarget::Version(0), result: CompareResult::Equal }];
        RequestOp::Txn(TxnRequest { compare, success, failure })
    }

    fn txn(success: Vec<RequestOp>) -> TxnRequest {
        TxnRequest { success, ..TxnRequest::default() }
    }

    fn store() -> Store {
        let mut store = Store::new();
        for key in ["a", "b", "c"] {
            store.put(&PutRequest::new(key, "old")).expect("a sound put");
        }
        store
    }

    #[test]
    fn no_key_is_written_twice() {
        let refused = [
            vec![put("a"), put("a")],
            vec![put("b"), delete("a", "c")],
            vec![delete("a", "c"), put("b")],
            vec![inner(vec![put("a")], vec![]), put("a")],
            vec![inner(vec![], vec![put("a")]), inner(vec![put("a")], vec![])],
            vec![inner(vec![delete("a", "")], vec![]), put("a")],
            vec![inner(vec![put("a")], vec![]), inner(vec![delete("a", "")], vec![])],
        ];
        for ops in refused {
            let (before, mut after) = (store(), store());
            assert_eq!(after.txn(&txn(ops.clone())), Err(Error::DuplicateKey), "{ops:?}");
            assert_eq!(before, after);
        }
        let fine = [
            vec![delete("a", "c"), delete("b", "d"), put("d")],
            vec![inner(vec![put("a")], vec![put("a")])],
            vec![inner(vec![put("a")], vec![delete("a", "")]), put("b")],
        ];
        for ops in fine {
            assert!(store().txn(&txn(ops.clone())).is_ok(), "{ops:?}");
        }
    }

    #[test]
    fn conditions_are_judged_before_anything_is_done_and_reads_see_the_writes_before_them() {
        let mut store = store();
        let exists = |key: &'static str| Compare {
            keys: KeyRange::one(key),
            target: CompareTarget::Create(0),
            result: CompareResult::Greater,
        };
        let late =
            TxnRequest { compare: vec![exists("d")], success: vec![put("yes")], failure: vec![put("no")] };
        let ops = vec![get("d"), put("d"), get("d"), RequestOp::Txn(late), delete("a", "c")];
        let response = store.txn(&txn(ops)).expect("a sound transaction");
        assert_eq!((response.revision, store.revision()), (5, 5), "one revision for all of it");
        let [
            ResponseOp::Range(before),
            _,
            ResponseOp::Range(after),
            ResponseOp::Txn(late),
            ResponseOp::DeleteRange(gone),
        ] = &response.responses[..]
        else {
            panic!("{response:?}")
        };
        assert_eq!((before.revision, before.kvs.len()), (4, 0));
        assert_eq!((after.revision, after.kvs[0].mod_revision), (5, 5));
        assert!(!late.succeeded);
        assert_eq!(gone.prev_kvs.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), [b"a", b"b"]);
        assert!(store.current(&"no".into()).is_some() && store.current(&"yes".into()).is_none());
    }

    #[test]
    fn a_refused_part_refuses_all() {
        let lease = RequestOp::Put(PutRequest { lease: 7, ..PutRequest::new("x", "") });
        let keep = RequestOp::Put(PutRequest { ignore_value: true, ..PutRequest::new("x", "") });
        let past = RequestOp::Range(RangeRequest { revision: 99, ..RangeRequest::of(KeyRange::one("a")) });
        for (op, error) in
            [(lease, Error::LeaseNotFound), (keep, Error::KeyNotFound), (past, Error::FutureRevision)]
        {
            let (before, mut after) = (store(), store());
            assert_eq!(after.txn(&txn(vec![put("d"), inner(vec![op.clone()], vec![])])), Err(error));
            assert_eq!(before, after);
            assert!(after.txn(&txn(vec![put("d"), inner(vec![], vec![op])])).is_ok(), "not on the path");
        }
        assert_eq!(store().txn(&txn(vec![put("")])), Err(Error::EmptyKey));
    }

    #[test]
    fn operations_of_all_levels_count() {
        let gets = |count: usize| vec![get("a"); count];
        assert!(store().txn(&txn(gets(TXN_OPS_MAX))).is_ok());
        assert_eq!(store().txn(&txn(gets(TXN_OPS_MAX + 1))), Err(Error::TooManyOps));
        assert!(store().txn(&txn(vec![inner(gets(TXN_OPS_MAX - 1), vec![])])).is_ok());
        assert_eq!(store().txn(&txn(vec![inner(gets(TXN_OPS_MAX), vec![])])), Err(Error::TooManyOps));
    }

    #[test]
    fn compares_over_ranges_hold_for_every_key() {
        let store = store();
        let over = |keys, target, result| Compare { keys, target, result }.holds(&store);
        let (all, none) = (KeyRange::between("a", "d"), KeyRange::between("x", "z"));
        let value = CompareTarget::Value("old".into());
        assert!(over(all.clone(), value.clone(), CompareResult::Equal));
        assert!(!over(all.clone(), CompareTarget::Mod(2), CompareResult::Greater));
        assert!(over(all, CompareTarget::Mod(1), CompareResult::Greater));
        assert!(!over(none.clone(), value, CompareResult::NotEqual), "no value, no compare");
        assert!(over(none, CompareTarget::Version(0), CompareResult::Equal));
    }
}
