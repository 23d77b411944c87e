//! What a member does by itself.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::ServerState;
use tokio::time::{Instant, sleep, timeout};

use super::node::Node;
use super::types;
use crate::machine::MemberId;
use crate::words::command::Command as Kind;
use crate::words::{Address, Batch, Command, ElectRequest};

/// Asks for votes when no leader was heard of for long enough.
pub(super) async fn watch_for_silence(node: Weak<Node>) {
    // Said once for each silence.
    let mut told = false;
    // Elections without a winner in this silence.
    let mut lost = 0;
    loop {
        let Some(patience) = node.upgrade().map(|node| node.elections.patience(rand::random())) else {
            return;
        };
        let Some(silence) = node.upgrade().map(|node| node.silence()) else { return };
        if silence < patience && !is_alone(&node) {
            (told, lost) = (false, 0);
            let Some(elections) = node.upgrade().map(|node| node.elections.clone()) else { return };
            let pause = (patience - silence).min(patience / 4 + Duration::from_millis(1));
            if timeout(pause, elections.urged()).await.is_err() || elections.is_fresh() {
                continue;
            }
        }
        let Some(strong) = node.upgrade() else { return };
        // Who has no vote asks too: it may learn that it was removed.
        let asked = Instant::now();
        strong.elections.ask(true);
        let would_win = strong.would_win().await;
        strong.elections.ask(false);
        // Meanwhile another one may have been voted for.
        let first = !strong.elections.gives_way() && strong.elections.silence() >= asked.elapsed();
        if would_win && first && strong.may_stand() {
            strong.stand().await;
            // The votes get their time to come: at first little, for one that is lost stays lost.
            let time = if lost == 0 { patience / 3 } else { patience };
            let elected = strong.raft.wait(Some(time)).state(ServerState::Leader, "is elected").await;
            lost += u32::from(elected.is_err());
            continue;
        }
        let long = silence > 3 * strong.options.election_timeout && strong.may_stand();
        if long && !std::mem::replace(&mut told, true) {
            let silence = silence.as_millis() as u64;
            tracing::warn!(
                silence_ms = silence,
                "no leader is heard of, and too few members would elect this one"
            );
        }
        let pause = if is_alone(&node) { Duration::from_millis(10) } else { patience / 4 };
        drop(strong);
        sleep(pause).await;
    }
}

/// A single voter need not wait for anybody.
fn is_alone(node: &Weak<Node>) -> bool {
    node.upgrade().is_some_and(|node| {
        let metrics = node.metrics();
        let mut voters = metrics.membership_config.voter_ids();
        metrics.state != ServerState::Leader && voters.next() == Some(node.id) && voters.next().is_none()
    })
}

impl Node {
    /// How long there was no sign of a leader; none while this member leads.
    fn silence(&self) -> Duration {
        if self.is_leader() { Duration::ZERO } else { self.elections.silence() }
    }

    /// Whether this member has a vote and does not lead.
    fn may_stand(&self) -> bool {
        let metrics = self.metrics();
        metrics.state != ServerState::Leader
            && metrics.running_state.is_ok()
            && metrics.membership_config.voter_ids().any(|voter| voter == self.id)
    }

    /// Whether a majority would vote for this member.
    async fn would_win(&self) -> bool {
        let metrics = self.metrics();
        let configurations = metrics.membership_config.membership().get_joint_config().clone();
        let last = self.log.last().map(|id| crate::words::LogId { term: id.term, index: id.index });
        let mut asking = tokio::task::JoinSet::new();
        for to in metrics.membership_config.voter_ids().filter(|&voter| voter != self.id) {
            let (peers, wait) = (self.peers.clone(), self.options.election_timeout);
            let address: Option<Address> = peers.address(to);
            let vote = Some(types::vote_words(&metrics.vote));
            let request = ElectRequest { address, vote, last, handed_over: false, rehearsal: true };
            asking.spawn(async move {
                let answer = timeout(wait, peers.elect(to, request)).await;
                (to, matches!(answer, Ok(Ok(response)) if response.granted))
            });
        }
        let mut granted: Vec<MemberId> = vec![self.id];
        let has_quorum = |granted: &[MemberId]| {
            configurations.iter().all(|voters| {
                voters.iter().filter(|voter| granted.contains(voter)).count() > voters.len() / 2
            })
        };
        while !has_quorum(&granted) {
            match asking.join_next().await {
                Some(Ok((to, true))) => granted.push(to),
                Some(_) => {}
                None => return false,
            }
        }
        true
    }

    /// Asks for votes.
    pub(super) async fn stand(&self) {
        // openraft does not bear an election while it leads.
        if self.is_leader() {
            return;
        }
        if let Err(error) = self.raft.trigger().elect().await {
            tracing::warn!(%error, "cannot ask for votes");
        }
    }
}

/// Does what is the leader's to do, while this member leads.
pub(super) async fn lead(node: Weak<Node>) {
    let Some(mut metrics) = node.upgrade().map(|node| node.raft.server_metrics()) else { return };
    let (mut leads, mut leader) = (None, None);
    loop {
        let Some(strong) = node.upgrade() else { return };
        // What the channel that wakes this says: openraft's other ones may be behind it.
        let now = metrics.borrow_and_update().clone();
        if now.current_leader.is_some() && now.current_leader != leader {
            leader = now.current_leader;
            strong.leaders.fetch_add(1, Ordering::Relaxed);
        }
        let term = (now.state == ServerState::Leader).then_some(now.vote.leader_id.term);
        if term != leads {
            leads = term;
            match term {
                Some(_) => {
                    // With the state held, so that no lease is granted in between.
                    let machine = strong.replica.read();
                    strong.replica.leases.lead(&machine.store);
                }
                None => strong.replica.leases.follow(),
            }
        }
        let pause = if leads.is_some() { strong.care().await } else { Duration::from_secs(3600) };
        drop(strong);
        if let Ok(Err(_)) = timeout(pause, metrics.changed()).await {
            return;
        }
    }
}

/// How often the leader looks after members and leases when nothing calls it sooner.
const CARE: Duration = Duration::from_millis(500);

impl Node {
    /// One turn of a leader; gives how long the next one has time.
    async fn care(self: &Arc<Self>) -> Duration {
        self.mend_membership().await;
        let (due, next) = self.replica.leases.due(self.options.revokes);
        if !due.is_empty() {
            let node = self.clone();
            tokio::spawn(async move {
                let revoke = |id| {
                    let revoke = cfg_api::etcdserverpb::LeaseRevokeRequest { id };
                    Command { command: Some(Kind::LeaseRevoke(revoke)) }
                };
                let batch = Batch { commands: due.into_iter().map(revoke).collect() };
                let deadline = Instant::now() + node.options.request_timeout;
                // Only if this member still leads: another leader may know that the holders are alive. What fails is
                // due again later.
                if let Err(error) = node.propose_here(batch, deadline).await {
                    tracing::debug!(%error, "expired leases are not revoked yet");
                }
            });
        }
        next.map_or(CARE, |next| next.min(CARE))
    }
}

/// How often the size of the log is looked at.
const LOG_CARE: Duration = Duration::from_secs(1);

/// Calls for a snapshot when the log has grown by many bytes in few entries.
pub(super) async fn keep_the_log_short(node: Weak<Node>) {
    let mut before = Instant::now();
    loop {
        sleep(LOG_CARE).await;
        let Some(node) = node.upgrade() else { return };
        // One at a time: the last one had time to be written.
        if node.log.bytes() > node.options.snapshot_bytes && before.elapsed() > 10 * LOG_CARE {
            before = Instant::now();
            if let Err(error) = node.raft.trigger().snapshot().await {
                tracing::warn!(%error, "cannot ask for a snapshot");
            }
        }
    }
}
