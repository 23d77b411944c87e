//! Keys that go when their holder does.

use std::pin::Pin;

use cfg_api::etcdserverpb as pb;
use pb::lease_server::Lease;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Api, later_version};
use crate::machine::Refused;
use crate::mvcc::LeaseId;
use crate::words::command::Command as Kind;
use crate::words::outcome::Outcome as Came;

/// Answers to signs of life that wait for their client.
const KEEP_ALIVE_QUEUE: usize = 16;

pub(super) type KeepAlives = Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

impl Api {
    pub(super) async fn grant(
        &self,
        request: pb::LeaseGrantRequest,
    ) -> Result<pb::LeaseGrantResponse, Refused> {
        self.check_quota(0).await?;
        // Positive, and not 0, which means none.
        let id = if request.id == 0 { (rand::random::<i64>() & i64::MAX).max(1) } else { request.id };
        let ttl = request.ttl.max(self.node.replica.leases.ttl_min());
        let Came::LeaseGrant(mut response) =
            self.node.propose(Kind::LeaseGrant(pb::LeaseGrantRequest { id, ttl })).await?
        else {
            return Err(later_version());
        };
        self.sign(&mut response.header);
        Ok(response)
    }

    pub(super) async fn revoke(
        &self,
        request: pb::LeaseRevokeRequest,
    ) -> Result<pb::LeaseRevokeResponse, Refused> {
        let Came::LeaseRevoke(mut response) = self.node.propose(Kind::LeaseRevoke(request)).await? else {
            return Err(later_version());
        };
        self.sign(&mut response.header);
        Ok(response)
    }

    pub(super) async fn keep_alive(&self, id: LeaseId) -> Result<pb::LeaseKeepAliveResponse, Refused> {
        let ttl = self.node.leases(id, true).await?;
        Ok(pb::LeaseKeepAliveResponse { header: self.header(), id, ttl })
    }

    pub(super) async fn time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Refused> {
        self.node.read_barrier().await?;
        let found = self.node.read(|machine| {
            let lease = machine.store.lease(request.id)?;
            let keys = if request.keys { lease.keys().cloned().collect() } else { Vec::new() };
            Some((lease.ttl, keys))
        });
        let id = request.id;
        let Some((granted_ttl, keys)) = found else {
            let header = self.header();
            return Ok(pb::LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() });
        };
        let ttl = self.node.leases(id, false).await?;
        Ok(pb::LeaseTimeToLiveResponse { header: self.header(), id, ttl, granted_ttl, keys })
    }

    pub(super) async fn all_leases(&self) -> Result<pb::LeaseLeasesResponse, Refused> {
        self.node.read_barrier().await?;
        let leases = self
            .node
            .read(|machine| machine.store.leases().map(|(id, _)| pb::LeaseStatus { id }).collect::<Vec<_>>());
        Ok(pb::LeaseLeasesResponse { header: self.header(), leases })
    }

    pub(super) fn keep_alives(
        &self,
        mut requests: impl Stream<Item = Result<pb::LeaseKeepAliveRequest, Status>> + Send + Unpin + 'static,
        needs_leader: bool,
    ) -> KeepAlives {
        use tokio_stream::StreamExt;
        let (sender, receiver) = mpsc::channel(KEEP_ALIVE_QUEUE);
        let api = self.clone();
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let answer = if needs_leader && api.node.leader().is_none() {
                    Err(super::no_leader())
                } else {
                    api.keep_alive(request.id).await
                };
                let ended = answer.is_err();
                if sender.send(answer.map_err(Status::from)).await.is_err() || ended {
                    return;
                }
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}

#[tonic::async_trait]
impl Lease for Api {
    type LeaseKeepAliveStream = KeepAlives;

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        self.check_leader(&request)?;
        Ok(Response::new(self.grant(request.into_inner()).await?))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        self.check_leader(&request)?;
        Ok(Response::new(self.revoke(request.into_inner()).await?))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<KeepAlives>, Status> {
        let needs_leader = self.check_leader(&request)?;
        Ok(Response::new(self.keep_alives(request.into_inner(), needs_leader)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        self.check_leader(&request)?;
        Ok(Response::new(self.time_to_live(request.into_inner()).await?))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        self.check_leader(&request)?;
        Ok(Response::new(self.all_leases().await?))
    }
}
