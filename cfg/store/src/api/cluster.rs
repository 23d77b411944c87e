//! Who belongs to the cluster.

use cfg_api::etcdserverpb as pb;
use pb::cluster_server::Cluster;
use tonic::{Request, Response, Status};

use super::Api;
use crate::machine::{MemberId, Refused};
use crate::words::change_request::Change;
use crate::words::command::Command as Kind;
use crate::words::{Admit, Describe, Description};

impl Api {
    /// All members, by number.
    pub(super) fn members(&self) -> Vec<pb::Member> {
        let voters = self.node.status().voters;
        self.node.read(|machine| {
            let member = |(&id, member): (&MemberId, &crate::machine::Member)| pb::Member {
                id,
                name: member.description.name.clone(),
                peer_ur_ls: member.description.peer_urls.clone(),
                client_ur_ls: member.description.client_urls.clone(),
                is_learner: !voters.contains(&id),
            };
            machine.members.iter().map(member).collect()
        })
    }

    pub(super) async fn member_list_of(&self, linearizable: bool) -> Result<pb::MemberListResponse, Refused> {
        if linearizable {
            self.node.read_barrier().await?;
        }
        Ok(pb::MemberListResponse { header: self.header(), members: self.members() })
    }

    /// Changes the members and waits until this one knows it.
    async fn change(&self, change: Change) -> Result<(MemberId, Vec<pb::Member>), Refused> {
        let id = self.node.change_members(change).await?;
        self.node.read_barrier().await?;
        Ok((id, self.members()))
    }
}

/// Addresses where a member can be reached.
fn check_urls(urls: &[String]) -> Result<(), Refused> {
    let is_sound = |url: &String| {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let port =
            rest.and_then(|rest| rest.rsplit_once(':')).map(|(host, port)| (host, port.parse::<u16>()));
        matches!(port, Some((host, Ok(_))) if !host.is_empty() && !host.contains('/'))
    };
    if urls.is_empty() || !urls.iter().all(is_sound) {
        return Err(Refused::argument("etcdserver: given member URLs are invalid"));
    }
    Ok(())
}

#[tonic::async_trait]
impl Cluster for Api {
    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        self.check_leader(&request)?;
        let request = request.into_inner();
        check_urls(&request.peer_ur_ls)?;
        let member = Description { peer_urls: request.peer_ur_ls, ..Description::default() };
        let admit = Admit { member: Some(member), learner: request.is_learner };
        let (id, members) = self.change(Change::Admit(admit)).await?;
        let member = members.iter().find(|member| member.id == id).cloned();
        Ok(Response::new(pb::MemberAddResponse { header: self.header(), member, members }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.check_leader(&request)?;
        let id = request.into_inner().id;
        let members = if id == self.node.id {
            // It cannot ask the others any more once it is out.
            self.node.change_members(Change::Remove(id)).await?;
            self.members().into_iter().filter(|member| member.id != id).collect()
        } else {
            self.change(Change::Remove(id)).await?.1
        };
        Ok(Response::new(pb::MemberRemoveResponse { header: self.header(), members }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        self.check_leader(&request)?;
        let request = request.into_inner();
        check_urls(&request.peer_ur_ls)?;
        let member = Some(Description { peer_urls: request.peer_ur_ls, ..Description::default() });
        self.node.propose(Kind::Describe(Describe { id: request.id, member, promote: false })).await?;
        Ok(Response::new(pb::MemberUpdateResponse { header: self.header(), members: self.members() }))
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        self.check_leader(&request)?;
        Ok(Response::new(self.member_list_of(request.into_inner().linearizable).await?))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.check_leader(&request)?;
        let (_, members) = self.change(Change::Promote(request.into_inner().id)).await?;
        Ok(Response::new(pb::MemberPromoteResponse { header: self.header(), members }))
    }
}
