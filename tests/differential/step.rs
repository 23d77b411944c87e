//! Programs: lists of requests whose revisions count from where the program begins.

use cfg_api::etcdserverpb::compare::TargetUnion;
use cfg_api::etcdserverpb::request_op::Request;
use cfg_api::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest,
    RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
};

/// One request. Its revisions are relative: 0 stays 0, [`BELOW_ZERO`] means -1, any other `r` means the revision at the
/// beginning of the program plus `r`.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A read.
    Range(RangeRequest),
    /// A write.
    Put(PutRequest),
    /// A deletion.
    Delete(DeleteRangeRequest),
    /// A transaction.
    Txn(TxnRequest),
    /// A compaction.
    Compact(CompactionRequest),
    /// A lease that stays.
    Grant(LeaseGrantRequest),
    /// A lease that ends in the same step: one whose id the server chooses, or which would expire during the program.
    GrantBriefly(LeaseGrantRequest),
    /// The end of a lease.
    Revoke(i64),
    /// What is known of a lease.
    TimeToLive(LeaseTimeToLiveRequest),
    /// All leases.
    Leases,
    /// One sign of life of a lease's holder.
    KeepAlive(i64),
    /// A watcher on the program's one stream.
    Watch(WatchCreateRequest),
    /// The end of the watcher with this id, after it has seen everything.
    Cancel(i64),
    /// A request for progress, after all watchers have seen everything.
    Progress,
}

/// The relative revision that stands for -1, which is no revision.
pub const BELOW_ZERO: i64 = i64::MIN;

impl Step {
    /// The request as it is sent by a program that begins at revision `base`.
    pub fn at(mut self, base: i64) -> Step {
        for revision in self.revisions() {
            *revision = match *revision {
                0 => 0,
                BELOW_ZERO => -1,
                relative => (base + relative).max(1),
            };
        }
        self
    }

    /// All revisions in it.
    fn revisions(&mut self) -> Vec<&mut i64> {
        match self {
            Step::Range(range) => range_revisions(range),
            Step::Txn(txn) => txn_revisions(txn),
            Step::Compact(compact) => vec![&mut compact.revision],
            Step::Watch(watch) => vec![&mut watch.start_revision],
            _ => Vec::new(),
        }
    }

    /// The step for a program that makes a revision less before it.
    pub fn one_revision_earlier(&self) -> Step {
        let mut step = self.clone();
        step.revisions().into_iter().filter(|revision| **revision > 1).for_each(|revision| *revision -= 1);
        step
    }

    /// What is left of the step with one part less: a revision that is not set, an option that is off; of a
    /// transaction a condition or an operation.
    pub fn smaller(&self) -> Vec<Step> {
        let mut all: Vec<Step> = match self {
            Step::Txn(txn) => smaller_txn(txn).into_iter().map(Step::Txn).collect(),
            Step::Range(range) => smaller_range(range).into_iter().map(Step::Range).collect(),
            Step::Put(put) => smaller_put(put).into_iter().map(Step::Put).collect(),
            Step::Watch(watch) => smaller_watch(watch).into_iter().map(Step::Watch).collect(),
            _ => Vec::new(),
        };
        let mut step = self.clone();
        for index in 0..step.revisions().len() {
            let mut unset = self.clone();
            *unset.revisions()[index] = 0;
            all.push(unset);
        }
        all.retain(|smaller| smaller != self);
        all
    }
}

fn range_revisions(range: &mut RangeRequest) -> Vec<&mut i64> {
    let RangeRequest {
        revision,
        min_mod_revision,
        max_mod_revision,
        min_create_revision,
        max_create_revision,
        ..
    } = range;
    vec![revision, min_mod_revision, max_mod_revision, min_create_revision, max_create_revision]
}

fn txn_revisions(txn: &mut TxnRequest) -> Vec<&mut i64> {
    let mut all = Vec::new();
    for compare in &mut txn.compare {
        if let Some(TargetUnion::CreateRevision(revision) | TargetUnion::ModRevision(revision)) =
            &mut compare.target_union
        {
            all.push(revision);
        }
    }
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestRange(range)) => all.extend(range_revisions(range)),
            Some(Request::RequestTxn(inner)) => all.extend(txn_revisions(inner)),
            _ => {}
        }
    }
    all
}

fn smaller_range(range: &RangeRequest) -> Vec<RangeRequest> {
    let range = || range.clone();
    vec![
        RangeRequest { limit: 0, ..range() },
        RangeRequest { sort_order: 0, sort_target: 0, ..range() },
        RangeRequest { serializable: false, ..range() },
        RangeRequest { keys_only: false, ..range() },
        RangeRequest { count_only: false, ..range() },
    ]
}

fn smaller_put(put: &PutRequest) -> Vec<PutRequest> {
    let put = || put.clone();
    vec![
        PutRequest { lease: 0, ..put() },
        PutRequest { prev_kv: false, ..put() },
        PutRequest { ignore_value: false, ..put() },
        PutRequest { ignore_lease: false, ..put() },
    ]
}

fn smaller_watch(watch: &WatchCreateRequest) -> Vec<WatchCreateRequest> {
    let watch = || watch.clone();
    vec![
        WatchCreateRequest { progress_notify: false, ..watch() },
        WatchCreateRequest { filters: Vec::new(), ..watch() },
        WatchCreateRequest { prev_kv: false, ..watch() },
        WatchCreateRequest { watch_id: 0, ..watch() },
        WatchCreateRequest { fragment: false, ..watch() },
    ]
}

fn smaller_txn(txn: &TxnRequest) -> Vec<TxnRequest> {
    let mut all: Vec<TxnRequest> = Vec::new();
    for compare in without_one::<Compare>(&txn.compare) {
        all.push(TxnRequest { compare, ..txn.clone() });
    }
    for success in smaller_ops(&txn.success) {
        all.push(TxnRequest { success, ..txn.clone() });
    }
    for failure in smaller_ops(&txn.failure) {
        all.push(TxnRequest { failure, ..txn.clone() });
    }
    all
}

fn smaller_ops(ops: &[RequestOp]) -> Vec<Vec<RequestOp>> {
    let mut all = without_one(ops);
    for (index, op) in ops.iter().enumerate() {
        if let Some(Request::RequestTxn(inner)) = &op.request {
            for inner in smaller_txn(inner) {
                let mut ops = ops.to_vec();
                ops[index].request = Some(Request::RequestTxn(inner));
                all.push(ops);
            }
        }
    }
    all
}

/// The lists that lack one item each; of a long list the two halves.
fn without_one<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.len() > 16 {
        let (low, high) = items.split_at(items.len() / 2);
        return vec![low.to_vec(), high.to_vec()];
    }
    let without = |gone: usize| {
        items.iter().enumerate().filter(|(i, _)| *i != gone).map(|(_, item)| item.clone()).collect()
    };
    (0..items.len()).map(without).collect()
}
