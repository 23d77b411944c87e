//! The way to the other members as openraft wants it.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend, Snapshot};
use tokio_stream::wrappers::ReceiverStream;

use super::elections::Elections;
use super::files::SnapshotFile;
use super::types::{self, Types, Vote};
use crate::machine::{MemberId, READ_PIECE, Refused};
use crate::peer::Peers;
use crate::words;

/// Makes the ways.
pub(super) struct Network {
    pub(super) peers: Arc<Peers>,
    pub(super) elections: Arc<Elections>,
    /// Between tries to reach a member that is away.
    pub(super) retry: Duration,
}

/// The way to one member.
pub(super) struct Way {
    to: MemberId,
    peers: Arc<Peers>,
    elections: Arc<Elections>,
    retry: Duration,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: MemberId, _: &EmptyNode) -> Way {
        let (peers, elections) = (self.peers.clone(), self.elections.clone());
        Way { to: target, peers, elections, retry: self.retry }
    }
}

type RpcError = RPCError<MemberId, EmptyNode, RaftError<MemberId>>;

/// A member that is away is tried again after a pause, everything else at once.
fn unreachable(refused: &Refused) -> RpcError {
    Unreachable::new(refused).into()
}

fn odd(what: &'static str) -> RpcError {
    NetworkError::new(&io::Error::new(io::ErrorKind::InvalidData, what)).into()
}

impl RaftNetwork<Types> for Way {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<MemberId>, RpcError> {
        use words::append_response::Result as Answer;
        let request = words::AppendRequest {
            address: self.peers.address(self.to),
            vote: Some(types::vote_words(&rpc.vote)),
            previous: rpc.prev_log_id.map(types::log_id_words),
            entries: rpc.entries.into_iter().map(types::entry_words).collect(),
            committed: rpc.leader_commit.map(types::log_id_words),
        };
        let response = self.peers.append(self.to, request).await.map_err(|refused| unreachable(&refused))?;
        match response.result {
            Some(Answer::Appended(_)) => Ok(AppendEntriesResponse::Success),
            Some(Answer::Partial(id)) => Ok(AppendEntriesResponse::PartialSuccess(Some(types::log_id(id)))),
            Some(Answer::Conflict(_)) => Ok(AppendEntriesResponse::Conflict),
            Some(Answer::Higher(vote)) => Ok(AppendEntriesResponse::HigherVote(types::vote(vote))),
            None => Err(odd("an answer to entries without content")),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<MemberId>, StreamingError<Types, openraft::error::Fatal<MemberId>>> {
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let first = words::InstallRequest {
            address: self.peers.address(self.to),
            vote: Some(types::vote_words(&vote)),
            name: snapshot.meta.snapshot_id.clone(),
            piece: bytes::Bytes::new(),
        };
        let sending = tokio::spawn(send_pieces(*snapshot.snapshot, first, sender));
        let install = self.peers.install(self.to, ReceiverStream::new(receiver));
        let result = tokio::select! {
            answer = install => answer,
            closed = cancel => {
                sending.abort();
                return Err(closed.into());
            }
        };
        sending.abort();
        let response = result.map_err(|refused| StreamingError::Unreachable(Unreachable::new(&refused)))?;
        Ok(SnapshotResponse::new(types::vote(response.vote.unwrap_or_default())))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<MemberId>,
        _: RPCOption,
    ) -> Result<VoteResponse<MemberId>, RpcError> {
        let request = words::ElectRequest {
            address: self.peers.address(self.to),
            vote: Some(types::vote_words(&rpc.vote)),
            last: rpc.last_log_id.map(types::log_id_words),
            handed_over: self.elections.is_handed_over(),
            rehearsal: false,
        };
        let response = self.peers.elect(self.to, request).await.map_err(|refused| unreachable(&refused))?;
        let vote = response.vote.map(types::vote).ok_or_else(|| odd("a vote without content"))?;
        Ok(VoteResponse::new(vote, response.last.map(types::log_id), response.granted))
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.retry))
    }
}

/// Sends a file piece by piece; the receiver stops asking when it has enough.
async fn send_pieces(
    file: SnapshotFile,
    first: words::InstallRequest,
    sender: tokio::sync::mpsc::Sender<words::InstallRequest>,
) {
    let (mut message, mut offset) = (first, 0);
    loop {
        let source = file.clone();
        let piece = tokio::task::spawn_blocking(move || source.piece(offset, READ_PIECE)).await;
        let piece = match piece.map_err(io::Error::other).and_then(|piece| piece) {
            Ok(piece) if piece.is_empty() => return,
            Ok(piece) => piece,
            Err(error) => {
                // The receiver finds a file that ends too soon, and refuses it.
                tracing::error!(%error, "cannot read a snapshot that another member needs");
                return;
            }
        };
        offset += piece.len() as u64;
        message.piece = piece.into();
        if sender.send(message).await.is_err() {
            return;
        }
        message = words::InstallRequest::default();
    }
}
