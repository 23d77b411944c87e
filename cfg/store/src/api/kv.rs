//! Keys and values.

use cfg_api::etcdserverpb as pb;
use pb::kv_server::Kv;
use prost::Message;
use tonic::{Request, Response, Status};

use super::{Api, later_version, untaken};
use crate::machine::{Refused, convert, has_put};
use crate::mvcc;
use crate::words::command::Command as Kind;
use crate::words::outcome::Outcome as Came;

impl Api {
    pub(super) async fn read_range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Refused> {
        let range = convert::range(&request)?;
        if range.keys.key.is_empty() {
            return Err(mvcc::Error::EmptyKey.into());
        }
        if !request.serializable {
            self.node.read_barrier().await?;
        }
        let mut response = convert::range_response(self.node.read(|machine| machine.store.range(&range))?);
        self.sign(&mut response.header);
        Ok(response)
    }

    pub(super) async fn write_put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Refused> {
        convert::put(&request).validate()?;
        // What is wrong with a request itself comes first, as by etcd.
        self.check_size(&request)?;
        self.check_quota(request.encoded_len()).await?;
        let Came::Put(mut response) = self.node.propose(Kind::Put(request)).await? else {
            return Err(later_version());
        };
        self.sign(&mut response.header);
        Ok(response)
    }

    pub(super) async fn write_delete_range(
        &self,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Refused> {
        if request.key.is_empty() {
            return Err(mvcc::Error::EmptyKey.into());
        }
        self.check_size(&request)?;
        let Came::DeleteRange(mut response) = self.node.propose(Kind::DeleteRange(request)).await? else {
            return Err(later_version());
        };
        self.sign(&mut response.header);
        Ok(response)
    }

    pub(super) async fn do_txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Refused> {
        let txn = convert::txn(&request, 0)?;
        txn.validate()?;
        let mut response = if txn.is_read() {
            self.node.read_barrier().await?;
            convert::txn_response(self.node.read(|machine| machine.store.read_txn(&txn))?)
        } else {
            self.check_size(&request)?;
            if has_put(&request) {
                self.check_quota(request.encoded_len()).await?;
            }
            match self.node.propose(Kind::Txn(request)).await? {
                Came::Txn(response) => response,
                _ => return Err(later_version()),
            }
        };
        self.sign(&mut response.header);
        Ok(response)
    }

    pub(super) async fn do_compact(
        &self,
        request: pb::CompactionRequest,
    ) -> Result<pb::CompactionResponse, Refused> {
        let Came::Compact(mut response) = self.node.propose(Kind::Compact(request)).await? else {
            return Err(later_version());
        };
        self.sign(&mut response.header);
        Ok(response)
    }
}

#[tonic::async_trait]
impl Kv for Api {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        self.check_leader(&request)?;
        let room = untaken::room_of(&request);
        Ok(untaken::answer(room, self.read_range(request.into_inner()).await?).await)
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        self.check_leader(&request)?;
        let room = untaken::room_of(&request);
        Ok(untaken::answer(room, self.write_put(request.into_inner()).await?).await)
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        self.check_leader(&request)?;
        let room = untaken::room_of(&request);
        Ok(untaken::answer(room, self.write_delete_range(request.into_inner()).await?).await)
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        self.check_leader(&request)?;
        let room = untaken::room_of(&request);
        Ok(untaken::answer(room, self.do_txn(request.into_inner()).await?).await)
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        self.check_leader(&request)?;
        Ok(Response::new(self.do_compact(request.into_inner()).await?))
    }
}
