//! Answers without what may differ between two servers: the names of cluster and member, and the term.

use cfg_api::etcdserverpb::response_op::Response;
use cfg_api::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseTimeToLiveResponse, PutResponse, RangeResponse, ResponseHeader, TxnResponse,
    WatchResponse,
};
use tonic::Code;

/// What a server said to one step.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To a read.
    Range(RangeResponse),
    /// To a write.
    Put(PutResponse),
    /// To a deletion.
    Delete(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction.
    Compact(CompactionResponse),
    /// To a new lease.
    Grant(LeaseGrantResponse),
    /// To the end of one.
    Revoke(LeaseRevokeResponse),
    /// To a question for one.
    TimeToLive(LeaseTimeToLiveResponse),
    /// To a question for all.
    Leases(LeaseLeasesResponse),
    /// To a sign of life.
    KeepAlive(LeaseKeepAliveResponse),
    /// On the stream of the watchers.
    Watch(WatchResponse),
    /// An error, with its text.
    Refused(Code, String),
    /// Nothing, though something was due.
    Late(String),
    /// Nothing was due.
    Nothing,
}

/// Answers with a header.
pub trait Clean: Sized {
    /// The headers in it.
    fn headers(&mut self) -> Vec<&mut ResponseHeader>;

    /// The answer with nothing in its headers but the revision.
    fn clean(mut self) -> Self {
        for header in self.headers() {
            *header = ResponseHeader { revision: header.revision, ..ResponseHeader::default() };
        }
        self
    }
}

/// Answers with one header.
macro_rules! one_header {
    ($($answer:ty),*) => {$(
        impl Clean for $answer {
            fn headers(&mut self) -> Vec<&mut ResponseHeader> {
                self.header.as_mut().into_iter().collect()
            }
        }
    )*};
}

one_header!(RangeResponse, PutResponse, DeleteRangeResponse, CompactionResponse, LeaseGrantResponse);
one_header!(LeaseRevokeResponse, LeaseTimeToLiveResponse, LeaseLeasesResponse, LeaseKeepAliveResponse);
one_header!(WatchResponse);

impl Clean for TxnResponse {
    fn headers(&mut self) -> Vec<&mut ResponseHeader> {
        let mut all: Vec<&mut ResponseHeader> = self.header.as_mut().into_iter().collect();
        for op in &mut self.responses {
            match &mut op.response {
                Some(Response::ResponseRange(range)) => all.extend(range.headers()),
                Some(Response::ResponsePut(put)) => all.extend(put.headers()),
                Some(Response::ResponseDeleteRange(delete)) => all.extend(delete.headers()),
                Some(Response::ResponseTxn(inner)) => all.extend(inner.headers()),
                None => {}
            }
        }
        all
    }
}
