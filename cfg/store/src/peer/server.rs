//! What other members ask, answered.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use crate::machine::Refused;
use crate::raft::Node;
use crate::words::change_request::Change;
use crate::words::peer_server::Peer;
use crate::words::{
    AppendRequest, AppendResponse, ChangeRequest, ChangeResponse, ElectRequest, ElectResponse,
    InstallRequest, InstallResponse, IntroduceRequest, IntroduceResponse, JoinRequest, JoinResponse,
    LeasesRequest, LeasesResponse, ProposeRequest, ProposeResponse, ReadIndexRequest, ReadIndexResponse,
    TakeOverRequest, TakeOverResponse,
};

/// What a process is in the eyes of others.
#[derive(Clone)]
pub(crate) enum Place {
    /// It does not know yet: it must not be taken for an empty one.
    Unknown,
    /// It has no data and belongs to no cluster.
    Empty,
    /// It is a member.
    Member(Arc<Node>),
}

/// See the module.
#[derive(Clone)]
pub(crate) struct PeerService {
    pub(crate) place: Arc<tokio::sync::watch::Sender<Place>>,
}

impl PeerService {
    fn node(&self) -> Result<Arc<Node>, Refused> {
        match &*self.place.borrow() {
            Place::Member(node) => Ok(node.clone()),
            Place::Unknown | Place::Empty => Err(Refused::unavailable("this process is no member yet")),
        }
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        Ok(Response::new(self.node()?.append(request.into_inner()).await?))
    }

    async fn elect(&self, request: Request<ElectRequest>) -> Result<Response<ElectResponse>, Status> {
        Ok(Response::new(self.node()?.elect(request.into_inner()).await?))
    }

    async fn install(
        &self,
        request: Request<Streaming<InstallRequest>>,
    ) -> Result<Response<InstallResponse>, Status> {
        let (node, mut pieces) = (self.node()?, request.into_inner());
        let incomplete = || Refused::argument("a snapshot without a beginning");
        let first = pieces.message().await?.ok_or_else(incomplete)?;
        node.check(first.address)?;
        let vote = node.leads(&first)?;
        let file = node.begin_install()?;
        let receive = async {
            let (mut piece, mut offset) = (Some(first), 0);
            while let Some(message) = piece {
                let (target, length) = (file.clone(), message.piece.len() as u64);
                let write = tokio::task::spawn_blocking(move || target.write(offset, &message.piece));
                let written = write.await.map_err(std::io::Error::other).and_then(|written| written);
                written.map_err(|error| Refused::unavailable(format!("cannot keep a snapshot: {error}")))?;
                offset += length;
                piece = pieces.message().await?;
            }
            node.install(file.clone(), vote).await
        };
        match receive.await {
            Ok(response) => Ok(Response::new(response)),
            Err(refused) => {
                node.discard_install(&file);
                Err(refused.into())
            }
        }
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        let outcomes = self.node()?.proposed(request.into_inner()).await?;
        Ok(Response::new(ProposeResponse { outcomes }))
    }

    async fn read_index(
        &self,
        request: Request<ReadIndexRequest>,
    ) -> Result<Response<ReadIndexResponse>, Status> {
        let index = self.node()?.read_index_for(request.into_inner()).await?;
        Ok(Response::new(ReadIndexResponse { index }))
    }

    async fn leases(&self, request: Request<LeasesRequest>) -> Result<Response<LeasesResponse>, Status> {
        let (node, request) = (self.node()?, request.into_inner());
        node.check(request.address)?;
        let seconds = node.leases_here(&request.ids, request.renew).await?;
        Ok(Response::new(LeasesResponse { seconds }))
    }

    async fn change(&self, request: Request<ChangeRequest>) -> Result<Response<ChangeResponse>, Status> {
        let (node, request) = (self.node()?, request.into_inner());
        node.check(request.address)?;
        let change = request.change.ok_or_else(|| Refused::argument("no change"))?;
        Ok(Response::new(ChangeResponse { refusal: None, member: node.change_here(change).await? }))
    }

    async fn take_over(
        &self,
        request: Request<TakeOverRequest>,
    ) -> Result<Response<TakeOverResponse>, Status> {
        self.node()?.take_over(request.into_inner()).await?;
        Ok(Response::new(TakeOverResponse {}))
    }

    async fn introduce(&self, _: Request<IntroduceRequest>) -> Result<Response<IntroduceResponse>, Status> {
        if matches!(*self.place.borrow(), Place::Empty) {
            return Ok(Response::new(IntroduceResponse { cluster_id: 0, member: 0 }));
        }
        let node = self.node()?;
        Ok(Response::new(IntroduceResponse { cluster_id: node.cluster_id, member: node.id }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let (node, request) = (self.node()?, request.into_inner());
        let description = request.member.ok_or_else(|| Refused::argument("no member"))?;
        if description.peer_urls.is_empty() {
            return Err(Refused::argument("a member needs an address where the others reach it").into());
        }
        // A member that was removed a moment ago does not stand in the way.
        node.read_barrier().await?;
        // Somebody may have admitted it already, under the address where it will be reached.
        let known = node.read(|machine| {
            let mut members = machine.members.iter();
            let known = members.find(|(_, member)| {
                member.description.peer_urls.iter().any(|url| description.peer_urls.contains(url))
            });
            known.map(|(&id, member)| (id, member.description.name.is_empty(), member.description.token))
        });
        let member = match known {
            // Its answer was lost.
            Some((id, _, token)) if token != 0 && token == description.token => id,
            Some((id, true, _)) => {
                let describe = crate::words::Describe { id, member: Some(description), promote: false };
                node.propose(crate::words::command::Command::Describe(describe)).await?;
                id
            }
            Some((id, false, _)) => {
                let text = format!(
                    "member {id:x}; if its data is lost, remove that member (etcdctl member remove {id:x}, at another \
                     member) and start this one again"
                );
                return Err(Refused::new(tonic::Code::AlreadyExists, text).into());
            }
            None => {
                let learner = request.learner;
                let admit = crate::words::Admit { member: Some(description), learner };
                node.change_members(Change::Admit(admit)).await?
            }
        };
        Ok(Response::new(JoinResponse { cluster_id: node.cluster_id, member }))
    }
}
