//! The members of the store's cluster, and the care of one.

use std::io::Write;

use cfg_api::etcdserverpb as rpc;
use rpc::cluster_client::ClusterClient;
use rpc::maintenance_client::MaintenanceClient;
use tokio::time::timeout;
use tonic::{Response, Status};

use crate::store::Repeat;
use crate::{Error, Store};

/// One of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Member {
    /// Number that it has for good.
    pub id: u64,
    /// What people call it; empty: it has not started.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// It has no vote.
    pub learner: bool,
}

/// How a member is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MemberStatus {
    /// Its number.
    pub id: u64,
    /// Who leads, as far as it knows; 0: nobody.
    pub leader: u64,
    /// Counts leaders.
    pub term: u64,
    /// Last entry of its log.
    pub last: u64,
    /// Last entry that it has applied.
    pub applied: u64,
    /// Revision of its store.
    pub revision: i64,
    /// What its store takes, bytes.
    pub bytes: i64,
    /// It has no vote.
    pub learner: bool,
    /// What is wrong.
    pub errors: Vec<String>,
}

impl From<rpc::Member> for Member {
    fn from(member: rpc::Member) -> Member {
        Member {
            id: member.id,
            name: member.name,
            peer_urls: member.peer_ur_ls,
            client_urls: member.client_ur_ls,
            learner: member.is_learner,
        }
    }
}

fn all(members: Vec<rpc::Member>) -> Vec<Member> {
    members.into_iter().map(Member::from).collect()
}

impl Store {
    /// The members, as a majority knows them.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn members(&self) -> Result<Vec<Member>, Error> {
        let answer: rpc::MemberListResponse = self
            .call(Repeat::Freely, |channel| async move {
                ClusterClient::new(channel).member_list(rpc::MemberListRequest { linearizable: true }).await
            })
            .await?;
        Ok(all(answer.members))
    }

    /// Admits a member that will be reached at `peer_urls`; a `learner` gets no vote by itself.
    ///
    /// # Errors
    /// [`Error::Refused`]; [`Error::Unknown`] when the answer was lost.
    pub async fn add_member(&self, peer_urls: &[String], learner: bool) -> Result<Member, Error> {
        let request = rpc::MemberAddRequest { peer_ur_ls: peer_urls.to_vec(), is_learner: learner };
        let answer: rpc::MemberAddResponse = self
            .call(Repeat::IfNotSent, |channel| {
                let request = request.clone();
                async move { ClusterClient::new(channel).member_add(request).await }
            })
            .await?;
        let nobody = || Error::Refused { problem: "the answer names no member".to_owned() };
        answer.member.map(Member::from).ok_or_else(nobody)
    }

    /// Takes a member out; gives those that are left.
    ///
    /// # Errors
    /// [`Error::Absent`]; [`Error::Refused`]; [`Error::Unknown`] when the answer was lost.
    pub async fn remove_member(&self, id: u64) -> Result<Vec<Member>, Error> {
        let answer: rpc::MemberRemoveResponse = self
            .call(Repeat::IfNotSent, |channel| async move {
                ClusterClient::new(channel).member_remove(rpc::MemberRemoveRequest { id }).await
            })
            .await?;
        Ok(all(answer.members))
    }

    /// Gives a learner a vote.
    ///
    /// # Errors
    /// [`Error::Refused`] while it lacks too much; [`Error::Unknown`] when the answer was lost.
    pub async fn promote_member(&self, id: u64) -> Result<Vec<Member>, Error> {
        let answer: rpc::MemberPromoteResponse = self
            .call(Repeat::IfNotSent, |channel| async move {
                ClusterClient::new(channel).member_promote(rpc::MemberPromoteRequest { id }).await
            })
            .await?;
        Ok(all(answer.members))
    }

    /// Lets `id` lead.
    ///
    /// # Errors
    /// [`Error::Refused`] when it cannot; [`Error::Unknown`] when the answer was lost.
    pub async fn move_leader(&self, id: u64) -> Result<(), Error> {
        let _: rpc::MoveLeaderResponse = self
            .call(Repeat::IfNotSent, |channel| async move {
                MaintenanceClient::new(channel).move_leader(rpc::MoveLeaderRequest { target_id: id }).await
            })
            .await?;
        Ok(())
    }

    /// How the member at the endpoint is; of several endpoints the one that answers.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn status(&self) -> Result<MemberStatus, Error> {
        let answer: rpc::StatusResponse = self
            .call(Repeat::Freely, |channel| async move {
                MaintenanceClient::new(channel).status(rpc::StatusRequest {}).await
            })
            .await?;
        let header = answer.header.unwrap_or_default();
        Ok(MemberStatus {
            id: header.member_id,
            leader: answer.leader,
            term: answer.raft_term,
            last: answer.raft_index,
            applied: answer.raft_applied_index,
            revision: header.revision,
            bytes: answer.db_size,
            learner: answer.is_learner,
            errors: answer.errors,
        })
    }

    /// Lets the member at the endpoint give back what it holds and does not need.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn defragment(&self) -> Result<(), Error> {
        let _: rpc::DefragmentResponse = self
            .call(Repeat::Freely, |channel| async move {
                MaintenanceClient::new(channel).defragment(rpc::DefragmentRequest {}).await
            })
            .await?;
        Ok(())
    }

    /// Writes the whole store of the member at the endpoint to `out`; gives the number of bytes.
    ///
    /// # Errors
    /// Those of every call, and those of `out`.
    pub async fn save_snapshot(&self, out: &mut (impl Write + Send)) -> Result<u64, Error> {
        let connection = self.connection().await?;
        let limit = self.options().request_timeout;
        let place = connection.name.clone();
        let lost = |status: &Status| Error::Unreachable {
            place: place.clone(),
            problem: status.message().to_owned(),
        };
        let slow = || Status::deadline_exceeded(format!("nothing came for {limit:?}"));
        let mut client = MaintenanceClient::new(connection.channel.clone());
        let asked = timeout(limit, client.snapshot(rpc::SnapshotRequest {})).await;
        let mut pieces = asked
            .unwrap_or_else(|_| Err(slow()))
            .map(Response::into_inner)
            .map_err(|status| lost(&status))?;
        let mut bytes = 0;
        loop {
            let piece = timeout(limit, pieces.message()).await.unwrap_or_else(|_| Err(slow()));
            let Some(piece) = piece.map_err(|status| lost(&status))? else { return Ok(bytes) };
            out.write_all(&piece.blob).map_err(|error| Error::io(&"the snapshot's file", &error))?;
            bytes += piece.blob.len() as u64;
        }
    }
}
