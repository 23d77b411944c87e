//! Between etcd's messages and the requests and answers of [`crate::mvcc`].

use cfg_api::etcdserverpb as pb;
use cfg_api::mvccpb;
use cfg_api::mvccpb::event::EventType;
use pb::compare::{CompareResult as PbResult, CompareTarget as PbTarget, TargetUnion};
use pb::range_request::{SortOrder as PbOrder, SortTarget as PbSort};
use pb::request_op::Request;
use pb::response_op::Response;

use super::Refused;
use crate::mvcc::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, Error, Event, EventKind,
    KeyRange, KeyValue, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseOp,
    Revision, SortOrder, SortTarget, TxnRequest, TxnResponse,
};

/// A header with only a revision; who answers puts the rest in.
pub(crate) fn header(revision: Revision) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..pb::ResponseHeader::default() })
}

/// A read. An order that nobody knows is none, as by etcd.
///
/// # Errors
/// A sort target that nobody knows.
pub(crate) fn range(request: &pb::RangeRequest) -> Result<RangeRequest, Refused> {
    let unknown = |_| Refused::argument("etcdserver: invalid sort option");
    let order = PbOrder::try_from(request.sort_order);
    Ok(RangeRequest {
        keys: KeyRange::between(request.key.clone(), request.range_end.clone()),
        limit: request.limit.max(0) as u64,
        revision: request.revision,
        order: match order {
            Ok(PbOrder::Ascend) => SortOrder::Ascend,
            Ok(PbOrder::Descend) => SortOrder::Descend,
            Ok(PbOrder::None) | Err(_) => SortOrder::None,
        },
        target: match PbSort::try_from(request.sort_target).map_err(unknown)? {
            // Without an order there is nothing to sort by.
            _ if order.is_err() => SortTarget::Key,
            PbSort::Key => SortTarget::Key,
            PbSort::Version => SortTarget::Version,
            PbSort::Create => SortTarget::Create,
            PbSort::Mod => SortTarget::Mod,
            PbSort::Value => SortTarget::Value,
        },
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    })
}

/// A write.
pub(crate) fn put(request: &pb::PutRequest) -> PutRequest {
    PutRequest {
        key: request.key.clone(),
        value: request.value.clone(),
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// A deletion.
pub(crate) fn delete_range(request: &pb::DeleteRangeRequest) -> DeleteRangeRequest {
    let keys = KeyRange::between(request.key.clone(), request.range_end.clone());
    DeleteRangeRequest { keys, prev_kv: request.prev_kv }
}

/// Transactions inside each other at most. Every level is two of the messages inside each other that can be decoded, of
/// which there may be 100: an entry of the log, or a message to a member, with more would never be read again.
pub(crate) const TXN_DEPTH_MAX: usize = 32;

/// Whether a command can be read again, wherever it will be written.
pub(crate) fn is_shallow(txn: &pb::TxnRequest) -> bool {
    // A level at a time, so that this does not need a stack itself.
    let mut level = vec![txn];
    for _ in 0..TXN_DEPTH_MAX {
        let ops = level.into_iter().flat_map(|txn| txn.success.iter().chain(&txn.failure));
        level = ops.filter_map(inner).collect();
        if level.is_empty() {
            return true;
        }
    }
    false
}

/// The transaction that an operation is.
fn inner(op: &pb::RequestOp) -> Option<&pb::TxnRequest> {
    match &op.request {
        Some(Request::RequestTxn(inner)) => Some(inner),
        _ => None,
    }
}

/// A transaction; `depth` counts those that it is inside of.
///
/// # Errors
/// An operation that nobody knows, or transactions inside each other deeper than any that is let pass.
pub(crate) fn txn(request: &pb::TxnRequest, depth: usize) -> Result<TxnRequest, Refused> {
    if depth >= TXN_DEPTH_MAX {
        return Err(Error::TooManyOps.into());
    }
    let op = |op: &pb::RequestOp| -> Result<RequestOp, Refused> {
        match &op.request {
            Some(Request::RequestRange(request)) => Ok(RequestOp::Range(range(request)?)),
            Some(Request::RequestPut(request)) => Ok(RequestOp::Put(put(request))),
            Some(Request::RequestDeleteRange(request)) => Ok(RequestOp::DeleteRange(delete_range(request))),
            Some(Request::RequestTxn(request)) => Ok(RequestOp::Txn(txn(request, depth + 1)?)),
            None => Ok(RequestOp::Nothing),
        }
    };
    Ok(TxnRequest {
        compare: request.compare.iter().map(compare).collect::<Result<_, _>>()?,
        success: request.success.iter().map(op).collect::<Result<_, _>>()?,
        failure: request.failure.iter().map(op).collect::<Result<_, _>>()?,
    })
}

/// A condition; what it does not say, or says of another kind, counts as 0 or empty.
fn compare(request: &pb::Compare) -> Result<Compare, Refused> {
    let union = request.target_union.as_ref();
    let target = match PbTarget::try_from(request.target) {
        Ok(PbTarget::Version) => CompareTarget::Version(match union {
            Some(TargetUnion::Version(version)) => *version,
            _ => 0,
        }),
        Ok(PbTarget::Create) => CompareTarget::Create(match union {
            Some(TargetUnion::CreateRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(PbTarget::Mod) => CompareTarget::Mod(match union {
            Some(TargetUnion::ModRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(PbTarget::Value) => CompareTarget::Value(match union {
            Some(TargetUnion::Value(value)) => value.clone(),
            _ => bytes::Bytes::new(),
        }),
        Ok(PbTarget::Lease) => CompareTarget::Lease(match union {
            Some(TargetUnion::Lease(lease)) => *lease,
            _ => 0,
        }),
        Err(_) => return Err(Refused::argument("etcdserver: unknown compare target")),
    };
    let result = match PbResult::try_from(request.result) {
        Ok(PbResult::Equal) => CompareResult::Equal,
        Ok(PbResult::Greater) => CompareResult::Greater,
        Ok(PbResult::Less) => CompareResult::Less,
        Ok(PbResult::NotEqual) => CompareResult::NotEqual,
        Err(_) => return Err(Refused::argument("etcdserver: unknown compare result")),
    };
    Ok(Compare { keys: KeyRange::between(request.key.clone(), request.range_end.clone()), target, result })
}

/// A key.
pub(crate) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

/// A change.
pub(crate) fn event(event: Event) -> mvccpb::Event {
    let kind = match event.kind {
        EventKind::Put => EventType::Put,
        EventKind::Delete => EventType::Delete,
    };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(key_value(event.kv)),
        prev_kv: event.prev_kv.map(key_value),
    }
}

/// The answer to a read.
pub(crate) fn range_response(response: RangeResponse) -> pb::RangeResponse {
    pb::RangeResponse {
        header: header(response.revision),
        kvs: response.kvs.into_iter().map(key_value).collect(),
        more: response.more,
        count: response.count as i64,
    }
}

/// The answer to a write.
pub(crate) fn put_response(response: PutResponse) -> pb::PutResponse {
    pb::PutResponse { header: header(response.revision), prev_kv: response.prev_kv.map(key_value) }
}

/// The answer to a deletion.
pub(crate) fn delete_range_response(response: DeleteRangeResponse) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: header(response.revision),
        deleted: response.deleted as i64,
        prev_kvs: response.prev_kvs.into_iter().map(key_value).collect(),
    }
}

/// The answer to a transaction.
pub(crate) fn txn_response(response: TxnResponse) -> pb::TxnResponse {
    let op = |op| {
        let response = match op {
            ResponseOp::Range(response) => Response::ResponseRange(range_response(response)),
            ResponseOp::Put(response) => Response::ResponsePut(put_response(response)),
            ResponseOp::DeleteRange(response) => {
                Response::ResponseDeleteRange(delete_range_response(response))
            }
            // etcd leaves the header of a transaction inside empty.
            ResponseOp::Txn(response) => {
                Response::ResponseTxn(pb::TxnResponse { header: header(0), ..txn_response(response) })
            }
        };
        pb::ResponseOp { response: Some(response) }
    };
    pb::TxnResponse {
        header: header(response.revision),
        succeeded: response.succeeded,
        responses: response.responses.into_iter().map(op).collect(),
    }
}
