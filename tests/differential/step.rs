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

/// A relative revision made absolute.
fn absolute(base: i64, revision: &mut i64) {
    *revision = match *revision {
        0 => 0,
        BELOW_ZERO => -1,
        relative => (base + relative).max(1),
    };
}

impl Step {
    /// The request as it is sent by a program that begins at revision `base`.
    pub fn at(mut self, base: i64) -> Step {
        match &mut self {
            Step::Range(range) => absolute_range(base, range),
            Step::Txn(txn) => absolute_txn(base, txn),
            Step::Compact(compact) => absolute(base, &mut compact.revision),
            Step::Watch(watch) => absolute(base, &mut watch.start_revision),
            _ => {}
        }
        self
    }

    /// What is left of the step with one part less; the transaction's parts are its conditions and operations.
    pub fn smaller(&self) -> Vec<Step> {
        match self {
            Step::Txn(txn) => smaller_txn(txn).into_iter().map(Step::Txn).collect(),
            _ => Vec::new(),
        }
    }
}

fn absolute_range(base: i64, range: &mut RangeRequest) {
    let RangeRequest {
        revision,
        min_mod_revision,
        max_mod_revision,
        min_create_revision,
        max_create_revision,
        ..
    } = range;
    let bounds = [revision, min_mod_revision, max_mod_revision, min_create_revision, max_create_revision];
    bounds.into_iter().for_each(|revision| absolute(base, revision));
}

fn absolute_txn(base: i64, txn: &mut TxnRequest) {
    for compare in &mut txn.compare {
        if let Some(TargetUnion::CreateRevision(revision) | TargetUnion::ModRevision(revision)) =
            &mut compare.target_union
        {
            absolute(base, revision);
        }
    }
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestRange(range)) => absolute_range(base, range),
            Some(Request::RequestTxn(inner)) => absolute_txn(base, inner),
            _ => {}
        }
    }
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
