//! Reads that see everything that was acknowledged before they began. The leader makes sure that it still leads; those
//! who ask meanwhile share the next question.

use std::sync::Weak;

use openraft::error::{CheckIsLeaderError, RaftError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::node::Node;
use super::propose::not_leader;
use crate::machine::{MemberId, Refused};
use crate::mvcc::LeaseId;

impl Node {
    /// Waits until what is applied here is as new as everything that was acknowledged before.
    ///
    /// # Errors
    /// Nobody leads, or the leader cannot be reached, in time.
    pub(crate) async fn read_barrier(&self) -> Result<(), Refused> {
        let (answer, answered) = oneshot::channel();
        let busy = |_| Refused::new(tonic::Code::ResourceExhausted, "etcdserver: too many requests");
        self.reads.try_send(answer).map_err(busy)?;
        answered.await.map_err(|_| Refused::unavailable("etcdserver: server stopped"))?
    }

    /// The entry that a read must wait for, while this member leads.
    pub(super) async fn read_index_here(&self) -> Result<u64, Refused> {
        match self.raft.get_read_log_id().await {
            Ok((Some(read), _)) => Ok(read.index.max(self.promised(read.leader_id.term))),
            Ok((None, _)) => Ok(0),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_))) => Err(not_leader()),
            Err(error) => Err(Refused::unavailable(format!("etcdserver: no leader: {error}"))),
        }
    }

    /// A leader that was killed and is back within its term leads on, but does not remember what was agreed last:
    /// everything in its log may have been acknowledged.
    fn promised(&self, term: u64) -> u64 {
        self.resumed.filter(|resumed| resumed.term == term).map_or(0, |resumed| resumed.index)
    }

    async fn read_index(&self, deadline: Instant) -> Result<u64, Refused> {
        let timed_out = || Refused::unavailable("etcdserver: request timed out");
        loop {
            let asked = match self.leader() {
                Some(leader) if leader == self.id => timeout_at(deadline, self.read_index_here()).await,
                Some(leader) => {
                    timeout_at(deadline, self.while_it_leads(leader, self.peers.read_index(leader))).await
                }
                None => Ok(Err(not_leader())),
            };
            // Nothing was changed: asking again does no harm.
            if let Ok(index) = asked.map_err(|_| timed_out())? {
                return Ok(index);
            }
            self.wait_for_leader(deadline).await?;
        }
    }

    /// A sign of life of a lease's holder, or only a question: the seconds it has, 0 if it has ended. The leader knows.
    pub(crate) async fn leases(&self, id: LeaseId, renew: bool) -> Result<i64, Refused> {
        let deadline = Instant::now() + self.options.request_timeout;
        let timed_out = || Refused::unavailable("etcdserver: request timed out");
        loop {
            let asked = match self.leader() {
                Some(leader) if leader == self.id => {
                    timeout_at(deadline, self.leases_here(&[id], renew)).await
                }
                Some(leader) => {
                    let asking = self.peers.leases(leader, vec![id], renew);
                    timeout_at(deadline, self.while_it_leads(leader, asking)).await
                }
                None => Ok(Err(not_leader())),
            };
            if let Ok(seconds) = asked.map_err(|_| timed_out())? {
                return Ok(seconds.first().copied().unwrap_or(0));
            }
            self.wait_for_leader(deadline).await?;
        }
    }

    /// What `leader` answers, unless another member leads before it does: one that hangs is not waited for.
    async fn while_it_leads<T>(
        &self,
        leader: MemberId,
        asking: impl Future<Output = Result<T, Refused>>,
    ) -> Result<T, Refused> {
        tokio::select! {
            answer = asking => answer,
            () = self.led_by_another(leader) => Err(not_leader()),
        }
    }

    async fn barrier(&self) -> Result<(), Refused> {
        // A read that comes while the lead is handed over waits for the new leader.
        let _ = self.holding.subscribe().wait_for(|&holding| !holding).await;
        let deadline = Instant::now() + self.options.request_timeout;
        let index = self.read_index(deadline).await?;
        let applied = timeout_at(deadline, self.replica.wait_for(index)).await;
        applied.map_err(|_| Refused::unavailable("etcdserver: request timed out"))
    }
}

/// The task that asks.
pub(super) struct Reader;

impl Reader {
    pub(super) async fn run(
        node: Weak<Node>,
        mut asked: mpsc::Receiver<oneshot::Sender<Result<(), Refused>>>,
    ) {
        while let Some(first) = asked.recv().await {
            let Some(node) = node.upgrade() else { return };
            let mut together = vec![first];
            while let Ok(more) = asked.try_recv() {
                together.push(more);
            }
            let result = node.barrier().await;
            for answer in together {
                // Who asked may have gone.
                let _ = answer.send(result.clone());
            }
        }
    }
}
