//! Makes programs out of a seed: few keys that share prefixes, so that what is done collides.

use bytes::Bytes;
use cfg_api::etcdserverpb::compare::TargetUnion;
use cfg_api::etcdserverpb::request_op::Request;
use cfg_api::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest,
    RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
};

use super::known::is_avoided;
use super::step::{BELOW_ZERO, Step};
use crate::harness::random::Random;

/// Not more of them: sorting by what is equal keeps etcd's order only in short lists.
const KEYS: [&[u8]; 9] = [b"a", b"aa", b"ab", b"aba", b"b", b"b\0", b"a\xff", b"\xff", b"c"];
const VALUES: [&[u8]; 6] = [b"", b"1", b"2", b"10", b"x", b"\0\xff"];
/// Lease ids, the usual ones more often; the last one is never granted.
const LEASES: [i64; 12] =
    [0x1001, 0x1001, 0x1001, 0x1001, 0x1001, 0x1001, 0x1001, 0x1002, 0x1002, 0x1003, i64::MAX, 0x1fff];
/// Operations that one transaction may have.
const OPS_MAX: usize = 128;
/// More than a request may hold.
const TOO_LARGE: usize = (3 << 19) + 1;
/// So much that two of them are more than a watcher is told at once.
pub const LARGE: usize = 1_400_000;

/// A program of 20 to 60 steps.
pub fn program(seed: u64) -> Vec<Step> {
    let mut generator = Generator { random: Random::new(seed), revisions: 0, large: false };
    generator.large = generator.once_in(40);
    let steps = generator.random.between(20, 60);
    // First something to work with.
    let fill = generator.random.below(9);
    (0..steps).map(|number| if number < fill { generator.fill(number) } else { generator.step() }).collect()
}

struct Generator {
    random: Random,
    /// Revisions that the program has made at most, if nothing was refused.
    revisions: i64,
    /// Some puts are [`LARGE`].
    large: bool,
}

impl Generator {
    fn step(&mut self) -> Step {
        match self.random.below(100) {
            0..=24 => {
                self.revisions += 1;
                let mut put = self.put();
                // Not in transactions: beyond twice the limit of a request gRPC refuses it, in its own words.
                if self.large && !put.ignore_value && self.once_in(2) {
                    put.value = Bytes::from(vec![b'y'; LARGE]);
                }
                Step::Put(put)
            }
            25..=44 => Step::Range(self.range()),
            45..=49 => {
                self.revisions += 1;
                Step::Delete(self.delete())
            }
            50..=67 => {
                self.revisions += 1;
                Step::Txn(self.txn_unlike_known())
            }
            68..=70 => self.compact(),
            71..=83 => self.lease(),
            84..=94 => Step::Watch(self.watch()),
            95..=97 => Step::Cancel(self.random.below(5) as i64),
            _ => Step::Progress,
        }
    }

    /// Keys and leases.
    fn fill(&mut self, number: u64) -> Step {
        if number == 0 {
            return Step::Grant(LeaseGrantRequest { ttl: 3600, id: LEASES[0] });
        }
        if self.once_in(4) {
            return Step::Grant(LeaseGrantRequest { ttl: 3600, id: self.own_lease_id() });
        }
        self.revisions += 1;
        let lease = if self.once_in(3) { self.lease_id() } else { 0 };
        Step::Put(PutRequest { key: self.key(), value: self.value(), lease, ..PutRequest::default() })
    }

    /// True once in `times`.
    fn once_in(&mut self, times: u64) -> bool {
        self.random.below(times) == 0
    }

    fn key(&mut self) -> Bytes {
        if self.once_in(60) { Bytes::new() } else { Bytes::from_static(self.random.pick::<&[u8]>(&KEYS)) }
    }

    fn value(&mut self) -> Bytes {
        Bytes::from_static(self.random.pick::<&[u8]>(&VALUES))
    }

    fn lease_id(&mut self) -> i64 {
        *self.random.pick(&LEASES)
    }

    /// One that may be granted.
    fn own_lease_id(&mut self) -> i64 {
        *self.random.pick(&LEASES[..LEASES.len() - 1])
    }

    /// First key and end of a range.
    fn keys(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        match self.random.below(14) {
            0..=2 => (key, Bytes::new()),
            3..=6 => {
                // Ends that are before the key, or equal to it, come of themselves.
                let end = self.key();
                (key, end)
            }
            7..=9 => {
                let end = prefix_end(&key);
                (key, end)
            }
            10..=11 => (key, Bytes::from_static(&[0])),
            _ => (Bytes::from_static(&[0]), Bytes::from_static(&[0])),
        }
    }

    /// A relative revision: mostly one that the program made, sometimes one that it did not.
    fn revision(&mut self) -> i64 {
        match self.random.below(40) {
            0..=1 => -1 - self.random.below(9) as i64,
            2..=4 => self.revisions + 1 + self.random.below(4) as i64,
            5 => 1_000_000_000,
            6 => BELOW_ZERO,
            7..=14 => self.revisions.max(1),
            _ => self.random.between(1, self.revisions.max(1) as u64) as i64,
        }
    }

    /// [`Self::revision`] once in `times`, else 0.
    fn maybe_revision(&mut self, times: u64) -> i64 {
        if self.once_in(times) { self.revision() } else { 0 }
    }

    fn range(&mut self) -> RangeRequest {
        let (key, range_end) = self.keys();
        let sorted = self.once_in(2);
        RangeRequest {
            key,
            range_end,
            limit: if self.once_in(3) { self.random.below(5) as i64 } else { 0 },
            revision: self.maybe_revision(5),
            // Rarely one that there is not.
            sort_order: if sorted { (self.random.below(3) + u64::from(self.once_in(60))) as i32 } else { 0 },
            sort_target: if sorted { self.random.below(5) as i32 } else { 0 },
            serializable: self.once_in(4),
            keys_only: self.once_in(6),
            count_only: self.once_in(8),
            min_mod_revision: self.maybe_revision(20),
            max_mod_revision: self.maybe_revision(20),
            min_create_revision: self.maybe_revision(20),
            max_create_revision: self.maybe_revision(20),
        }
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.once_in(10);
        let ignore_lease = self.once_in(10);
        // Both at once is refused.
        let value = if ignore_value && !self.once_in(8) { Bytes::new() } else { self.value() };
        let lease = if self.once_in(4) && (!ignore_lease || self.once_in(8)) { self.lease_id() } else { 0 };
        let value = if self.once_in(4000) { Bytes::from(vec![b'x'; TOO_LARGE]) } else { value };
        PutRequest { key: self.key(), value, lease, prev_kv: self.once_in(2), ignore_value, ignore_lease }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = if self.once_in(3) { self.keys() } else { (self.key(), Bytes::new()) };
        DeleteRangeRequest { key, range_end, prev_kv: self.once_in(2) }
    }

    /// A transaction that etcd and the store are to answer alike.
    fn txn_unlike_known(&mut self) -> TxnRequest {
        loop {
            let txn = self.txn(0);
            if !is_avoided(&txn) {
                return txn;
            }
        }
    }

    fn txn(&mut self, depth: u32) -> TxnRequest {
        let mut txn = TxnRequest {
            compare: (0..self.random.below(3)).map(|_| self.compare()).collect(),
            success: (0..self.random.below(4)).map(|_| self.op(depth)).collect(),
            failure: (0..self.random.below(4)).map(|_| self.op(depth)).collect(),
        };
        if self.once_in(80) {
            let too_many = OPS_MAX + self.random.below(2) as usize;
            match self.random.below(3) {
                0 => txn.compare.resize_with(too_many, || self.compare()),
                1 => txn.success.resize_with(too_many, || self.cheap_op()),
                _ => txn.failure.resize_with(too_many, || self.cheap_op()),
            }
        }
        txn
    }

    fn op(&mut self, depth: u32) -> RequestOp {
        let request = match self.random.below(20) {
            0..=5 => Request::RequestRange(self.range()),
            6..=13 => Request::RequestPut(self.put()),
            14..=16 => Request::RequestDeleteRange(self.delete()),
            17..=18 if depth < 2 => Request::RequestTxn(self.txn(depth + 1)),
            19 if self.once_in(8) => return RequestOp { request: None },
            _ => Request::RequestRange(self.range()),
        };
        RequestOp { request: Some(request) }
    }

    /// Operations for lists that are long.
    fn cheap_op(&mut self) -> RequestOp {
        let range = RangeRequest { key: self.key(), ..RangeRequest::default() };
        RequestOp { request: Some(Request::RequestRange(range)) }
    }

    fn compare(&mut self) -> Compare {
        let (key, range_end) = if self.once_in(3) { self.keys() } else { (self.key(), Bytes::new()) };
        let target = self.random.below(5) as i32;
        // Rarely of another kind than the target, or not there: both count as zero.
        let wanted = match self.random.below(60) {
            0 => None,
            1 => Some(self.random.below(5) as i32),
            _ => Some(target),
        };
        let target_union = wanted.map(|wanted| match wanted {
            0 => TargetUnion::Version(self.random.below(4) as i64),
            1 => TargetUnion::CreateRevision(self.maybe_revision(2)),
            2 => TargetUnion::ModRevision(self.maybe_revision(2)),
            3 => TargetUnion::Value(self.value()),
            _ => TargetUnion::Lease(if self.once_in(2) { 0 } else { self.lease_id() }),
        });
        Compare { result: self.random.below(4) as i32, target, key, range_end, target_union }
    }

    fn compact(&mut self) -> Step {
        let revision = if self.once_in(12) { 0 } else { self.revision() };
        Step::Compact(CompactionRequest { revision, physical: !self.once_in(3) })
    }

    fn lease(&mut self) -> Step {
        // One hour: none expires while the test runs.
        let ttl = 3600 + self.random.below(1000) as i64;
        match self.random.below(14) {
            0..=4 => Step::Grant(LeaseGrantRequest { ttl, id: self.own_lease_id() }),
            5 => {
                let id = if self.once_in(2) { 0 } else { 0x2001 };
                let ttl = *self.random.pick(&[ttl, 0, 1, -1, i64::MIN]);
                Step::GrantBriefly(LeaseGrantRequest { ttl, id })
            }
            6 => {
                let ttl = *self.random.pick(&[9_000_000_000, 9_000_000_001, i64::MAX]);
                Step::GrantBriefly(LeaseGrantRequest { ttl, id: 0x2002 })
            }
            7..=8 => {
                self.revisions += 1;
                Step::Revoke(self.lease_id())
            }
            9..=11 => {
                Step::TimeToLive(LeaseTimeToLiveRequest { id: self.lease_id(), keys: !self.once_in(3) })
            }
            12 => Step::Leases,
            _ => Step::KeepAlive(self.lease_id()),
        }
    }

    fn watch(&mut self) -> WatchCreateRequest {
        let (key, range_end) = self.keys();
        let mut filters: Vec<i32> = Vec::new();
        for filter in [0, 1] {
            if self.once_in(6) {
                filters.push(filter);
            }
        }
        // Of a watcher that tells nothing nobody can see whether it has caught up.
        let blind = filters.len() == 2;
        // What is no revision cannot be watched from.
        let start_revision =
            if blind { 0 } else { Some(self.maybe_revision(2)).filter(|&r| r != BELOW_ZERO).unwrap_or(0) };
        WatchCreateRequest {
            key,
            range_end,
            start_revision,
            progress_notify: self.once_in(6),
            filters,
            prev_kv: self.once_in(2),
            watch_id: if self.once_in(2) { self.random.between(1, 4) as i64 } else { 0 },
            fragment: self.once_in(if self.large { 2 } else { 4 }),
        }
    }
}

/// The first key behind all that begin with `prefix`.
fn prefix_end(prefix: &[u8]) -> Bytes {
    let Some(last) = prefix.iter().rposition(|&byte| byte != 0xff) else { return Bytes::from_static(&[0]) };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}
