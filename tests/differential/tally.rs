//! What the programs made the servers do: a comparison of requests that are all refused would show nothing.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use super::answer::Answer;
use super::session::Transcript;

/// The end of a watcher that begins in what is forgotten; etcd 3.4 gives no reason.
const COMPACTED: &str = "watcher before the compaction";
/// Texts of errors, and what else a hundred programs are to meet.
const REFUSALS: [&str; 14] = [
    "etcdserver: duplicate key given in txn request",
    "etcdserver: key is not provided",
    "etcdserver: key not found",
    "etcdserver: lease already exists",
    "etcdserver: lease is provided",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: requested lease not found",
    "etcdserver: too large lease TTL",
    "etcdserver: too many operations in txn request",
    "etcdserver: value is provided",
    COMPACTED,
    "mvcc: watcher range is empty",
    "mvcc: duplicate watch ID provided on the WatchStream",
];

/// How often what was answered.
#[derive(Default)]
pub struct Tally {
    counts: BTreeMap<String, u64>,
}

impl Tally {
    /// Adds what was said to a program.
    pub fn add(&mut self, transcript: &Transcript) {
        for answer in &transcript.answers {
            let what = match answer {
                Answer::Range(range) if range.more => "part of a range",
                Answer::Range(range) if range.kvs.is_empty() => "empty range",
                Answer::Range(_) => "range",
                Answer::Put(_) => "put",
                Answer::Delete(delete) if delete.deleted == 0 => "nothing deleted",
                Answer::Delete(_) => "deleted",
                Answer::Txn(txn) if txn.succeeded => "txn then",
                Answer::Txn(_) => "txn else",
                Answer::Compact(_) => "compacted",
                Answer::Grant(_) => "granted",
                Answer::Revoke(_) => "revoked",
                Answer::TimeToLive(told) if told.keys.is_empty() => "lease",
                Answer::TimeToLive(_) => "lease with keys",
                Answer::Leases(_) => "leases",
                Answer::KeepAlive(_) => "kept alive",
                Answer::Watch(answer) if answer.canceled && answer.created => &answer.cancel_reason,
                Answer::Watch(answer) if answer.canceled => "watcher cancelled",
                Answer::Watch(answer) if answer.created => "watcher",
                Answer::Watch(_) => "progress",
                Answer::Refused(_, text) => text,
                Answer::Late(why) => why,
                Answer::Nothing => "nothing",
            };
            self.count(what, 1);
        }
        for watcher in &transcript.watchers {
            self.count("events", watcher.events.len() as u64);
            let before = watcher.events.iter().filter(|event| event.prev_kv.is_some()).count();
            self.count("events with what was before", before as u64);
            self.count("watcher told in fragments", u64::from(watcher.fragmented));
            if watcher.end.as_ref().is_some_and(|end| end.compact_revision != 0) {
                self.count(COMPACTED, 1);
            }
        }
    }

    fn count(&mut self, what: &str, times: u64) {
        *self.counts.entry(what.to_owned()).or_default() += times;
    }

    /// Everything there is to meet was met.
    pub fn assert_broad(&self) {
        let met = |what: &str| self.counts.get(what).is_some_and(|&times| times > 0);
        let missing: Vec<&&str> = REFUSALS.iter().filter(|what| !met(what)).collect();
        assert!(missing.is_empty(), "no program met {missing:?}; met: {self}");
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.counts.iter().try_for_each(|(what, times)| write!(f, "\n  {times:7}  {what}"))
    }
}
