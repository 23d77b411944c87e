//! Who belongs to the cluster. The state says who should; the leader makes the voters follow: a new member learns
//! first, and votes when it has caught up.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{ChangeMembers, EmptyNode};
use tokio::time::{Instant, timeout_at};

use super::node::Node;
use super::propose::not_leader;
use crate::machine::{MemberId, Refused};
use crate::words::change_request::Change;
use crate::words::command::Command as Kind;
use crate::words::outcome::Outcome as Came;
use crate::words::{Admit, ChangeRequest, Describe, Dismiss};

fn not_in_sync() -> Refused {
    let text = "etcdserver: can only promote a learner member which is in sync with leader";
    Refused::new(tonic::Code::FailedPrecondition, text)
}

fn not_a_learner() -> Refused {
    Refused::new(tonic::Code::FailedPrecondition, "etcdserver: can only promote a learner member")
}

/// While it lives nothing is proposed and no sign of life is given. It ends with the one who waits too: a client that
/// goes away must not leave a leader that is silent for good.
struct Held<'a>(&'a Node);

impl<'a> Held<'a> {
    fn begin(node: &'a Node) -> Self {
        node.holding.send_replace(true);
        node.raft.runtime_config().heartbeat(false);
        Self(node)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.raft.runtime_config().heartbeat(true);
        self.0.holding.send_replace(false);
    }
}

impl Node {
    /// Changes the members, wherever the leader is; gives the number of the member.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn change_members(&self, change: Change) -> Result<MemberId, Refused> {
        let deadline = Instant::now() + self.options.request_timeout;
        loop {
            let result = match self.metrics().current_leader {
                Some(leader) if leader == self.id => self.change_here(change.clone()).await,
                Some(leader) => {
                    let address = self.peers.address(leader);
                    let request = ChangeRequest { address, change: Some(change.clone()) };
                    // The answer comes late when the lead passes on; only a deadline says that none comes.
                    match timeout_at(deadline, self.peers.change(leader, request)).await {
                        Ok(Ok(response)) => {
                            response.refusal.map_or(Ok(response.member), |refusal| Err(refusal.into()))
                        }
                        Ok(Err(refused)) => Err(refused),
                        Err(_) => Err(Refused::unavailable("etcdserver: request timed out")),
                    }
                }
                None => Err(not_leader()),
            };
            match result {
                Err(refused) if refused == not_leader() => self.wait_for_leader(deadline).await?,
                other => return other,
            }
        }
    }

    /// Changes the members, while this one leads.
    pub(crate) async fn change_here(&self, change: Change) -> Result<MemberId, Refused> {
        if !self.is_leader() {
            return Err(not_leader());
        }
        match change {
            Change::Admit(admit) => self.admit(admit).await,
            Change::Remove(id) if id == self.id => self.remove_itself().await,
            Change::Remove(id) => self.remove(id).await,
            Change::Promote(id) => self.promote(id).await,
            Change::Lead(id) => self.hand_over(id).await,
        }
    }

    async fn admit(&self, admit: Admit) -> Result<MemberId, Refused> {
        let _one = self.changing.lock().await;
        let Came::Member(id) = self.propose(Kind::Admit(admit)).await? else {
            return Err(Refused::unavailable("the outcome is of a later version"));
        };
        self.add_learners(BTreeSet::from([id])).await?;
        Ok(id)
    }

    async fn remove(&self, id: MemberId) -> Result<MemberId, Refused> {
        let _one = self.changing.lock().await;
        if !self.read(|machine| machine.members.contains_key(&id)) {
            return Err(Refused::no_member());
        }
        let voters: BTreeSet<MemberId> = self.metrics().membership_config.voter_ids().collect();
        if voters.contains(&id) {
            if voters.len() == 1 {
                let text = "etcdserver: re-configuration failed due to not enough started members";
                return Err(Refused::new(tonic::Code::FailedPrecondition, text));
            }
            // The words about it go first: once it is no voter the leader may be another member.
            self.propose(Kind::Dismiss(Dismiss { id })).await?;
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id])), false).await?;
        } else {
            self.propose(Kind::Dismiss(Dismiss { id })).await?;
            if self.metrics().membership_config.nodes().any(|(&node, _)| node == id) {
                self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id])), true).await?;
            }
        }
        Ok(id)
    }

    /// A leader that is to go lets another member lead first, so that nobody has to wait for an election; that one
    /// removes it.
    async fn remove_itself(&self) -> Result<MemberId, Refused> {
        let metrics = self.metrics();
        let others = metrics.membership_config.voter_ids().filter(|&voter| voter != self.id);
        let next = others.min_by_key(|&voter| self.lag(voter).unwrap_or(u64::MAX));
        if let Some(next) = next {
            match self.hand_over(next).await {
                Ok(_) => return Err(not_leader()),
                Err(refused) => {
                    tracing::warn!(%refused, "this member leads and is to be removed; no other one takes the lead");
                }
            }
        }
        self.remove(self.id).await
    }

    async fn promote(&self, id: MemberId) -> Result<MemberId, Refused> {
        let _one = self.changing.lock().await;
        if !self.read(|machine| machine.members.contains_key(&id)) {
            return Err(Refused::no_member());
        }
        if self.metrics().membership_config.voter_ids().any(|voter| voter == id) {
            return Err(not_a_learner());
        }
        if !self.has_caught_up(id) {
            return Err(not_in_sync());
        }
        self.propose(Kind::Describe(Describe { id, member: None, promote: true })).await?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id])), true).await?;
        Ok(id)
    }

    /// Lets `id` lead. Nothing is proposed or read until it does, or until it did not.
    async fn hand_over(&self, id: MemberId) -> Result<MemberId, Refused> {
        let _one = self.changing.lock().await;
        if id == self.id {
            return Ok(id);
        }
        let metrics = self.metrics();
        if !metrics.membership_config.voter_ids().any(|voter| voter == id) {
            return Err(Refused::new(tonic::Code::FailedPrecondition, "etcdserver: bad leader transferee"));
        }
        let _held = Held::begin(self);
        self.let_lead(id).await.map(|()| id)
    }

    async fn let_lead(&self, id: MemberId) -> Result<(), Refused> {
        let deadline = Instant::now() + 4 * self.options.election_timeout;
        let slow = || Refused::unavailable("etcdserver: request timed out, leader transfer took too long");
        // It must have everything, or it would not be elected.
        while self.lag(id) != Some(0) {
            timeout_at(deadline, self.wait_for_leader(deadline)).await.map_err(|_| slow())??;
        }
        timeout_at(deadline, self.peers.take_over(id)).await.map_err(|_| slow())??;
        let led = self.raft.wait(Some(self.options.election_timeout)).current_leader(id, "hands over").await;
        led.map(|_| ()).map_err(|_| slow())
    }

    /// Entries that `id` still lacks, as the leader knows.
    fn lag(&self, id: MemberId) -> Option<u64> {
        let metrics = self.metrics();
        let matched = (*metrics.replication?.get(&id)?)?;
        Some(metrics.last_log_index.unwrap_or(0).saturating_sub(matched.index))
    }

    fn has_caught_up(&self, id: MemberId) -> bool {
        self.lag(id).is_some_and(|lag| lag <= self.options.promotion_lag)
    }

    async fn add_learners(&self, ids: BTreeSet<MemberId>) -> Result<(), Refused> {
        let nodes: BTreeMap<_, _> = ids.into_iter().map(|id| (id, EmptyNode::default())).collect();
        self.change(ChangeMembers::AddNodes(nodes), true).await
    }

    async fn change(&self, change: ChangeMembers<MemberId, EmptyNode>, retain: bool) -> Result<(), Refused> {
        let deadline = Instant::now() + self.options.request_timeout;
        let changed = timeout_at(deadline, self.raft.change_membership(change, retain)).await;
        let changed = changed.map_err(|_| Refused::unavailable("etcdserver: request timed out"))?;
        changed.map(|_| ()).map_err(|error| {
            use openraft::error::{ClientWriteError, RaftError};
            match error {
                RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => not_leader(),
                other => {
                    Refused::unavailable(format!("etcdserver: the members cannot be changed now: {other}"))
                }
            }
        })
    }

    /// Brings who learns and who votes in line with the state, one step a time. It is computed from what is, so that
    /// whatever a crash or a change of leaders left half done is finished.
    pub(super) async fn mend_membership(&self) {
        let Ok(_one) = self.changing.try_lock() else { return };
        let metrics = self.metrics();
        let config = metrics.membership_config.clone();
        let voters: BTreeSet<MemberId> = config.voter_ids().collect();
        let nodes: BTreeSet<MemberId> = config.nodes().map(|(&id, _)| id).collect();
        let (members, eager): (BTreeSet<MemberId>, BTreeSet<MemberId>) = self.read(|machine| {
            let eager = machine.members.iter().filter(|(_, member)| !member.learner).map(|(&id, _)| id);
            (machine.members.keys().copied().collect(), eager.collect())
        });
        if members.is_empty() {
            return;
        }
        let step = if config.membership().get_joint_config().len() > 1 {
            // A change was left half way: the same again ends it.
            let last = config.membership().get_joint_config().last().cloned().unwrap_or_default();
            Some((ChangeMembers::ReplaceAllVoters(last), false))
        } else if let Some(&id) = members.difference(&nodes).next() {
            Some((ChangeMembers::AddNodes(BTreeMap::from([(id, EmptyNode::default())])), true))
        } else if let Some(&id) = nodes.difference(&members).next() {
            let ids = BTreeSet::from([id]);
            let is_last = voters.len() == 1 && voters.contains(&id);
            let change = if voters.contains(&id) {
                ChangeMembers::RemoveVoters(ids)
            } else {
                ChangeMembers::RemoveNodes(ids)
            };
            (!is_last).then_some((change, false))
        } else {
            let ready = eager.difference(&voters).find(|&&id| self.has_caught_up(id));
            ready.map(|&id| (ChangeMembers::AddVoterIds(BTreeSet::from([id])), true))
        };
        let Some((change, retain)) = step else { return };
        tracing::info!(?change, "the members change");
        if let Err(error) = self.change(change, retain).await {
            tracing::warn!(%error, "the members were not changed; it is tried again");
        }
    }
}
