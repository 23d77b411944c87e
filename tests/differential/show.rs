//! Programs as a person reads them: one line a step, without what is not set.

use std::fmt::{self, Display, Formatter};

use cfg_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use cfg_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use cfg_api::etcdserverpb::request_op::Request;
use cfg_api::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use super::step::{BELOW_ZERO, Step};

/// Operations of a transaction of which more are only counted.
const OPS_SHOWN: usize = 16;

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Step::Range(range) => show_range(f, range),
            Step::Put(put) => show_put(f, put),
            Step::Delete(delete) => show_delete(f, delete),
            Step::Txn(txn) => show_txn(f, txn),
            Step::Compact(compact) => {
                write!(f, "compact{}{}", rev(" at ", compact.revision), flag(" physical", compact.physical))
            }
            Step::Grant(grant) => write!(f, "grant {:x} for {} s", grant.id, grant.ttl),
            Step::GrantBriefly(grant) => write!(f, "grant and revoke {:x} for {} s", grant.id, grant.ttl),
            Step::Revoke(id) => write!(f, "revoke {id:x}"),
            Step::TimeToLive(ask) => write!(f, "time to live of {:x}{}", ask.id, flag(" keys", ask.keys)),
            Step::Leases => write!(f, "leases"),
            Step::KeepAlive(id) => write!(f, "keep {id:x} alive"),
            Step::Watch(watch) => {
                write!(f, "watch {}", keys(&watch.key, &watch.range_end))?;
                write!(f, "{}{}", rev(" from ", watch.start_revision), number(" id ", watch.watch_id))?;
                for filter in &watch.filters {
                    f.write_str(if *filter == 0 { " noput" } else { " nodelete" })?;
                }
                let flags = [flag(" prev_kv", watch.prev_kv), flag(" fragment", watch.fragment)];
                write!(f, "{}{}", flags.concat(), flag(" progress_notify", watch.progress_notify))
            }
            Step::Cancel(id) => write!(f, "cancel watcher {id}"),
            Step::Progress => write!(f, "ask for progress"),
        }
    }
}

/// A range of keys.
fn keys(key: &[u8], end: &[u8]) -> String {
    match end {
        [] => format!("\"{}\"", key.escape_ascii()),
        [0] => format!("\"{}\"..", key.escape_ascii()),
        end => format!("\"{}\"..\"{}\"", key.escape_ascii(), end.escape_ascii()),
    }
}

/// A relative revision after `name`, if it is set.
fn rev(name: &str, revision: i64) -> String {
    match revision {
        0 => String::new(),
        BELOW_ZERO => format!("{name}-1"),
        relative => format!("{name}base{relative:+}"),
    }
}

fn number(name: &str, value: i64) -> String {
    if value == 0 { String::new() } else { format!("{name}{value}") }
}

fn flag(name: &str, set: bool) -> &str {
    if set { name } else { "" }
}

fn show_range(f: &mut Formatter<'_>, range: &RangeRequest) -> fmt::Result {
    write!(f, "range {}{}", keys(&range.key, &range.range_end), number(" limit ", range.limit))?;
    write!(f, "{}", rev(" at ", range.revision))?;
    if range.sort_order != 0 || range.sort_target != 0 {
        match (SortTarget::try_from(range.sort_target), SortOrder::try_from(range.sort_order)) {
            (Ok(target), Ok(order)) => write!(f, " by {target:?} {order:?}")?,
            _ => write!(f, " by {} {}", range.sort_target, range.sort_order)?,
        }
    }
    let flags = [flag(" serializable", range.serializable), flag(" keys_only", range.keys_only)];
    write!(f, "{}{}", flags.concat(), flag(" count_only", range.count_only))?;
    write!(f, "{}{}", rev(" mod>=", range.min_mod_revision), rev(" mod<=", range.max_mod_revision))?;
    let create = [rev(" create>=", range.min_create_revision), rev(" create<=", range.max_create_revision)];
    f.write_str(&create.concat())
}

fn show_put(f: &mut Formatter<'_>, put: &PutRequest) -> fmt::Result {
    let key = put.key.escape_ascii();
    if put.value.len() > 64 {
        write!(f, "put \"{key}\" = {} bytes", put.value.len())?;
    } else {
        write!(f, "put \"{key}\" = \"{}\"", put.value.escape_ascii())?;
    }
    if put.lease != 0 {
        write!(f, " lease {:x}", put.lease)?;
    }
    let flags = [flag(" prev_kv", put.prev_kv), flag(" ignore_value", put.ignore_value)];
    write!(f, "{}{}", flags.concat(), flag(" ignore_lease", put.ignore_lease))
}

fn show_delete(f: &mut Formatter<'_>, delete: &DeleteRangeRequest) -> fmt::Result {
    write!(f, "delete {}{}", keys(&delete.key, &delete.range_end), flag(" prev_kv", delete.prev_kv))
}

fn show_txn(f: &mut Formatter<'_>, txn: &TxnRequest) -> fmt::Result {
    f.write_str("txn if [")?;
    if txn.compare.len() > OPS_SHOWN {
        write!(f, "{} conditions", txn.compare.len())?;
    } else {
        for (index, compare) in txn.compare.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            show_compare(f, compare)?;
        }
    }
    f.write_str("] then [")?;
    show_ops(f, &txn.success)?;
    f.write_str("] else [")?;
    show_ops(f, &txn.failure)?;
    f.write_str("]")
}

fn show_ops(f: &mut Formatter<'_>, ops: &[RequestOp]) -> fmt::Result {
    if ops.len() > OPS_SHOWN {
        return write!(f, "{} operations", ops.len());
    }
    for (index, op) in ops.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { ", " })?;
        match &op.request {
            None => f.write_str("nothing")?,
            Some(Request::RequestRange(range)) => show_range(f, range)?,
            Some(Request::RequestPut(put)) => show_put(f, put)?,
            Some(Request::RequestDeleteRange(delete)) => show_delete(f, delete)?,
            Some(Request::RequestTxn(inner)) => show_txn(f, inner)?,
        }
    }
    Ok(())
}

fn show_compare(f: &mut Formatter<'_>, compare: &Compare) -> fmt::Result {
    let result = match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => "==",
        Ok(CompareResult::Greater) => ">",
        Ok(CompareResult::Less) => "<",
        Ok(CompareResult::NotEqual) => "!=",
        Err(_) => "?",
    };
    match CompareTarget::try_from(compare.target) {
        Ok(target) => write!(f, "{target:?}")?,
        Err(_) => write!(f, "target {}", compare.target)?,
    }
    write!(f, "({}) {result} ", keys(&compare.key, &compare.range_end))?;
    match &compare.target_union {
        None => f.write_str("unset"),
        Some(TargetUnion::Version(version)) => write!(f, "version {version}"),
        Some(TargetUnion::CreateRevision(0) | TargetUnion::ModRevision(0)) => f.write_str("revision 0"),
        Some(TargetUnion::CreateRevision(revision) | TargetUnion::ModRevision(revision)) => {
            f.write_str(&rev("", *revision))
        }
        Some(TargetUnion::Value(value)) => write!(f, "\"{}\"", value.escape_ascii()),
        Some(TargetUnion::Lease(lease)) => write!(f, "lease {lease:x}"),
    }
}
