//! The differences that are known: where etcd 3.4.23 is wrong and later versions are not, and where the store is
//! stricter on purpose. Everything else is a failure of the test.

use std::collections::BTreeSet;

use bytes::Bytes;
use cfg_api::etcdserverpb::TxnRequest;
use cfg_api::etcdserverpb::request_op::Request;
use cfg_api::mvccpb::Event;
use cfg_api::mvccpb::event::EventType;

/// What is done about a difference.
pub enum Rule {
    /// Transactions of which this is true are not generated.
    Avoid(fn(&TxnRequest) -> bool),
    /// Events of which this is true count on no side. The number is the revision of the last compaction before the
    /// watcher came.
    Overlook(fn(&Event, i64) -> bool),
    /// The generator has no way of making it.
    NeverMade,
}

/// One line a difference: what it is, and what is done about it.
pub const KNOWN: [(&str, Rule); 5] = [
    ("the store lets no transaction delete what an earlier one beside it puts", Rule::Avoid(deletes_a_put)),
    ("etcd 3.4 lets a transaction put what it deletes with an open range", Rule::Avoid(puts_in_open_delete)),
    ("etcd 3.4 forgets the deletion at the very revision of a compaction", Rule::Overlook(last_tombstone)),
    ("etcd 3.4 dies of a range sorted by a target that there is not", Rule::NeverMade),
    ("etcd 3.4 may give equal elements of a list of more than twelve in any order", Rule::NeverMade),
];

/// Whether a transaction is one that is answered differently, as is known.
pub fn is_avoided(txn: &TxnRequest) -> bool {
    KNOWN.iter().any(|(_, rule)| matches!(rule, Rule::Avoid(applies) if applies(txn)))
}

/// Whether an event counts for a watcher that came after a compaction at `compacted`.
pub fn is_overlooked(event: &Event, compacted: i64) -> bool {
    KNOWN.iter().any(|(_, rule)| matches!(rule, Rule::Overlook(applies) if applies(event, compacted)))
}

/// Everything a list of operations may put and delete.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Vec<(Bytes, Bytes)>,
}

impl Writes {
    fn of(txn: &TxnRequest) -> Self {
        let mut all = Self::default();
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Request::RequestPut(put)) => _ = all.puts.insert(put.key.clone()),
                Some(Request::RequestDeleteRange(delete)) => {
                    all.deletes.push((delete.key.clone(), delete.range_end.clone()));
                }
                Some(Request::RequestTxn(inner)) => all.extend(Self::of(inner)),
                Some(Request::RequestRange(_)) | None => {}
            }
        }
        all
    }

    fn extend(&mut self, other: Self) {
        self.puts.extend(other.puts);
        self.deletes.extend(other.deletes);
    }

    fn deletes(&self, wanted: &Bytes) -> bool {
        self.deletes.iter().any(|(key, end)| match &end[..] {
            [] => key == wanted,
            [0] => key <= wanted,
            end => key <= wanted && &wanted[..] < end,
        })
    }
}

/// Some list holds two transactions, the second of which may delete what the first may put.
fn deletes_a_put(txn: &TxnRequest) -> bool {
    [&txn.success, &txn.failure].into_iter().any(|ops| {
        let mut before = Writes::default();
        ops.iter().any(|op| {
            let Some(Request::RequestTxn(inner)) = &op.request else { return false };
            let these = Writes::of(inner);
            let found = before.puts.iter().any(|key| these.deletes(key)) || deletes_a_put(inner);
            before.extend(these);
            found
        })
    })
}

/// A range without end is deleted in which a key is put. etcd does not see that they meet, and dies if the put keeps
/// what is no longer there.
fn puts_in_open_delete(txn: &TxnRequest) -> bool {
    let mut all = Writes::of(txn);
    all.deletes.retain(|(_, end)| end[..] == [0]);
    all.puts.iter().any(|key| all.deletes(key))
}

/// A deletion at the revision of the compaction.
fn last_tombstone(event: &Event, compacted: i64) -> bool {
    event.r#type == i32::from(EventType::Delete)
        && event.kv.as_ref().is_some_and(|kv| kv.mod_revision == compacted)
}
