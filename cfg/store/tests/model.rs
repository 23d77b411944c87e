//! The store against the simplest thing that could be right: a copy of everything for every revision.

use std::collections::BTreeMap;

use bytes::Bytes;
use cfg_store::mvcc::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, Error, EventKind, KeyRange, KeyValue, LeaseId,
    PutRequest, RangeRequest, RequestOp, Revision, Store, TxnRequest,
};
use proptest::prelude::*;

type Keys = BTreeMap<Bytes, KeyValue>;

/// What it should be. `past[r]` are the keys at revision `r`.
struct Model {
    past: Vec<Keys>,
    compacted: Revision,
    leases: BTreeMap<LeaseId, i64>,
}

#[derive(Clone, Debug)]
enum Write {
    Put { key: u8, value: u8, lease: LeaseId, keep: bool },
    Delete { from: u8, to: u8 },
}

#[derive(Clone, Debug)]
enum Step {
    Do(Write),
    /// If the key's version is the one named, the first list, else the second.
    Txn {
        key: u8,
        version: i64,
        success: Vec<Write>,
        failure: Vec<Write>,
    },
    Grant(LeaseId),
    Revoke(LeaseId),
    /// So many revisions before the last one.
    Compact(Revision),
}

fn name(key: u8) -> Bytes {
    vec![b'a' + key].into()
}

fn range(from: u8, to: u8) -> KeyRange {
    if from == to { KeyRange::one(name(from)) } else { KeyRange::between(name(from), name(to)) }
}

impl Write {
    fn op(&self) -> RequestOp {
        match *self {
            Write::Put { key, value, lease, keep } => RequestOp::Put(PutRequest {
                key: name(key),
                value: if keep { Bytes::new() } else { vec![value].into() },
                lease,
                prev_kv: true,
                ignore_value: keep,
                ignore_lease: false,
            }),
            Write::Delete { from, to } => {
                RequestOp::DeleteRange(DeleteRangeRequest { keys: range(from, to), prev_kv: false })
            }
        }
    }

    fn touches(&self, key: u8) -> bool {
        match *self {
            Write::Put { key: own, .. } => own == key,
            Write::Delete { from, to } => range(from, to).contains(&name(key)),
        }
    }
}

/// Whether a put meets another write of the same key.
fn doubled(list: &[Write]) -> bool {
    let meets = |(index, write): (usize, &Write)| {
        let Write::Put { key, .. } = *write else { return false };
        list.iter().enumerate().any(|(other, write)| other != index && write.touches(key))
    };
    list.iter().enumerate().any(meets)
}

impl Model {
    fn new() -> Self {
        Self { past: vec![Keys::new(), Keys::new()], compacted: -1, leases: BTreeMap::new() }
    }

    fn revision(&self) -> Revision {
        self.past.len() as Revision - 1
    }

    fn now(&self) -> &Keys {
        &self.past[self.past.len() - 1]
    }

    /// Does the list in one revision, or says why not.
    fn write(&mut self, list: &[Write]) -> Result<(), Error> {
        let next = self.revision() + 1;
        let (mut keys, mut wrote) = (self.now().clone(), false);
        for write in list {
            match *write {
                Write::Put { key, value, lease, keep } => {
                    let old = self.now().get(&name(key));
                    if keep && old.is_none() {
                        return Err(Error::KeyNotFound);
                    }
                    if lease != 0 && !self.leases.contains_key(&lease) {
                        return Err(Error::LeaseNotFound);
                    }
                    let new = KeyValue {
                        key: name(key),
                        create_revision: old.map_or(next, |old| old.create_revision),
                        mod_revision: next,
                        version: old.map_or(1, |old| old.version + 1),
                        value: old.filter(|_| keep).map_or(vec![value].into(), |old| old.value.clone()),
                        lease,
                    };
                    keys.insert(name(key), new);
                    wrote = true;
                }
                Write::Delete { from, to } => {
                    let before = keys.len();
                    keys.retain(|key, _| !range(from, to).contains(key));
                    wrote |= keys.len() != before;
                }
            }
        }
        if wrote {
            self.past.push(keys);
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Do(write) => {
                // Alone, a put is asked for its lease first.
                if let Write::Put { lease, .. } = write
                    && *lease != 0
                    && !self.leases.contains_key(lease)
                {
                    return Err(Error::LeaseNotFound);
                }
                self.write(std::slice::from_ref(write))
            }
            Step::Txn { key, version, success, failure } => {
                if doubled(success) || doubled(failure) {
                    return Err(Error::DuplicateKey);
                }
                let holds = self.now().get(&name(*key)).map_or(0, |kv| kv.version) == *version;
                self.write(if holds { success } else { failure })
            }
            Step::Grant(id) => match self.leases.insert(*id, 10) {
                Some(_) => Err(Error::LeaseExists),
                None => Ok(()),
            },
            Step::Revoke(id) => {
                self.leases.remove(id).ok_or(Error::LeaseNotFound)?;
                let mut keys = self.now().clone();
                keys.retain(|_, kv| kv.lease != *id);
                if keys.len() != self.now().len() {
                    self.past.push(keys);
                }
                Ok(())
            }
            Step::Compact(before) => {
                let revision = self.revision() - before;
                if revision <= self.compacted {
                    return Err(Error::Compacted);
                }
                self.compacted = revision;
                Ok(())
            }
        }
    }

    /// The changes of `revision`: what differs from the one before, by key.
    fn events(&self, revision: Revision) -> Vec<(EventKind, Bytes, Option<KeyValue>)> {
        let (before, after) = (&self.past[revision as usize - 1], &self.past[revision as usize]);
        let puts = after.values().filter(|kv| kv.mod_revision == revision);
        let puts = puts.map(|kv| (EventKind::Put, kv.key.clone(), before.get(&kv.key).cloned()));
        let gone = before.values().filter(|kv| !after.contains_key(&kv.key));
        let mut all: Vec<_> =
            puts.chain(gone.map(|kv| (EventKind::Delete, kv.key.clone(), Some(kv.clone())))).collect();
        all.sort_by(|a, b| a.1.cmp(&b.1));
        all
    }
}

fn apply(store: &mut Store, step: &Step) -> Result<(), Error> {
    match step {
        Step::Do(write) => match write.op() {
            RequestOp::Put(put) => store.put(&put).map(drop),
            RequestOp::DeleteRange(delete) => store.delete_range(&delete).map(drop),
            other => panic!("{other:?} is no write"),
        },
        Step::Txn { key, version, success, failure } => {
            let keys = KeyRange::one(name(*key));
            let target = CompareTarget::Version(*version);
            let ops = |list: &[Write]| list.iter().map(Write::op).collect();
            let request = TxnRequest {
                compare: vec![Compare { keys, target, result: CompareResult::Equal }],
                success: ops(success),
                failure: ops(failure),
            };
            store.txn(&request).map(drop)
        }
        Step::Grant(id) => store.lease_grant(*id, 10),
        Step::Revoke(id) => store.lease_revoke(*id).map(drop),
        Step::Compact(before) => store.compact(store.revision() - before),
    }
}

/// Every revision that can be read, every change that can be watched, and every lease's keys.
fn compare(model: &Model, store: &Store) {
    assert_eq!(store.revision(), model.revision());
    let all = KeyRange::prefix("");
    for revision in model.compacted.max(1)..=model.revision() {
        let request = RangeRequest { revision, ..RangeRequest::of(all.clone()) };
        let found = store.range(&request).expect("a revision that is there").kvs;
        assert!(found.iter().eq(model.past[revision as usize].values()), "at {revision}: {found:?}");
    }
    let first = model.compacted.max(2);
    let mut watched: BTreeMap<Revision, _> =
        store.events(first, &all, true).expect("not compacted").collect();
    for revision in first..=model.revision() {
        let mut events = watched.remove(&revision).expect("every revision changed something");
        events.sort_by(|a, b| a.kv.key.cmp(&b.kv.key));
        let events: Vec<_> =
            events.into_iter().map(|event| (event.kind, event.kv.key, event.prev_kv)).collect();
        let mut wanted = model.events(revision);
        if revision == model.compacted {
            wanted.iter_mut().for_each(|event| event.2 = None);
        }
        assert_eq!(events, wanted, "the changes of {revision}");
    }
    assert!(watched.is_empty());
    for &id in model.leases.keys() {
        let hanging = model.now().values().filter(|kv| kv.lease == id).map(|kv| &kv.key);
        assert!(store.lease(id).expect("a lease that was granted").keys().eq(hanging));
    }
    assert_eq!(store.leases().count(), model.leases.len());
}

fn write() -> impl Strategy<Value = Write> {
    let put = (0..6u8, any::<u8>(), 0..4i64, prop::bool::weighted(0.1));
    let put =
        put.prop_map(|(key, value, lease, keep)| Write::Put { key, value, lease: lease.max(1) - 1, keep });
    let delete = (0..6u8, 0..7u8).prop_map(|(from, to)| Write::Delete { from, to });
    prop_oneof![3 => put, 1 => delete]
}

fn step() -> impl Strategy<Value = Step> {
    let list = || prop::collection::vec(write(), 0..4);
    let txn = (0..6u8, 0..3i64, list(), list()).prop_map(|(key, version, success, failure)| Step::Txn {
        key,
        version,
        success,
        failure,
    });
    prop_oneof![
        6 => write().prop_map(Step::Do),
        4 => txn,
        1 => (1..4i64).prop_map(Step::Grant),
        1 => (1..4i64).prop_map(Step::Revoke),
        1 => (0..8i64).prop_map(Step::Compact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let (mut model, mut store) = (Model::new(), Store::new());
        for step in &steps {
            let before = store.clone();
            let wanted = model.step(step);
            assert_eq!(apply(&mut store, step), wanted, "{step:?}");
            if wanted.is_err() {
                assert_eq!(store, before, "a refused request left a trace: {step:?}");
            }
            compare(&model, &store);
        }
        let mut bytes = Vec::new();
        store.write_snapshot(&mut bytes).expect("a vector takes it");
        prop_assert_eq!(&Store::read_snapshot(&mut &bytes[..]).expect("what was written"), &store);
        // Everything deleted and compacted takes nothing.
        store.delete_range(&DeleteRangeRequest { keys: KeyRange::prefix(""), prev_kv: false }).expect("sound");
        let last = store.revision();
        if store.compacted() < last {
            store.compact(last).expect("the last revision");
        }
        prop_assert_eq!(store.bytes(), 0);
    }
}
