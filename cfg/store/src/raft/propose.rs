//! From commands to entries. What waits together becomes one entry, one write and one sync; while it is on its way the
//! next ones gather.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::error::ClientWriteError;
use prost::Message;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::node::Node;
use crate::machine::{MemberId, Refused};
use crate::peer::Unanswered;
use crate::words::command::Command as Kind;
use crate::words::outcome::Outcome as Came;
use crate::words::{Batch, Command, Outcome};

/// A command that waits to be agreed on.
pub(super) struct Proposal {
    command: Command,
    /// It is alone in its entry.
    alone: bool,
    deadline: Instant,
    answer: oneshot::Sender<Result<Outcome, Refused>>,
}

/// Why there is no outcome.
enum Failed {
    /// It was not done, and another member leads, if anybody.
    Elsewhere(Option<MemberId>),
    /// It may have been done.
    Unknown(Refused),
}

/// Nobody agreed in time, so it may still be done.
fn timed_out() -> Refused {
    Refused::unavailable("etcdserver: request timed out")
}

/// The lead changed meanwhile, so it may have been done.
fn lost() -> Refused {
    Refused::unavailable("etcdserver: request timed out, possibly due to previous leader failure")
}

impl Node {
    /// Agrees on a command with the others and applies it.
    ///
    /// # Errors
    /// Why it was refused. With the code `Unavailable` it may have been done.
    pub(crate) async fn propose(&self, kind: Kind) -> Result<Came, Refused> {
        let alone = matches!(kind, Kind::Admit(_));
        let (answer, answered) = oneshot::channel();
        let deadline = Instant::now() + self.options.request_timeout;
        let proposal = Proposal { command: Command { command: Some(kind) }, alone, deadline, answer };
        let busy = |_| Refused::new(tonic::Code::ResourceExhausted, "etcdserver: too many requests");
        self.proposals.try_send(proposal).map_err(busy)?;
        let stopped = |_| Refused::unavailable("etcdserver: server stopped");
        match answered.await.map_err(stopped)??.outcome {
            Some(Came::Refusal(refusal)) => Err(refusal.into()),
            Some(came) => Ok(came),
            None => Err(Refused::unavailable("the outcome is of a later version")),
        }
    }

    /// Agrees on commands that another member sends, while this one leads.
    pub(super) async fn propose_here(
        &self,
        batch: Batch,
        deadline: Instant,
    ) -> Result<Vec<Outcome>, Refused> {
        match self.write(batch, deadline).await {
            Ok(outcomes) => Ok(outcomes),
            Err(Failed::Elsewhere(_)) => Err(not_leader()),
            Err(Failed::Unknown(refused)) => Err(refused),
        }
    }

    async fn write(&self, batch: Batch, deadline: Instant) -> Result<Vec<Outcome>, Failed> {
        if !self.is_leader() {
            return Err(Failed::Elsewhere(self.leader().filter(|&leader| leader != self.id)));
        }
        let stopped = |_| Failed::Unknown(Refused::unavailable("etcdserver: server stopped"));
        let written = self.raft.client_write_ff(batch).await.map_err(|fatal| {
            Failed::Unknown(Refused::unavailable(format!("etcdserver: server stopped: {fatal}")))
        })?;
        let written = timeout_at(deadline, written).await.map_err(|_| Failed::Unknown(timed_out()))?;
        match written.map_err(stopped)? {
            Ok(response) => Ok(response.data),
            // It may have been in the log and have been taken out by the next leader; another member may still have it
            // and bring it back.
            Err(ClientWriteError::ForwardToLeader(_)) => Err(Failed::Unknown(lost())),
            Err(error) => Err(Failed::Unknown(Refused::unavailable(error.to_string()))),
        }
    }

    /// Brings a batch to whoever leads.
    async fn bring(&self, batch: Batch, deadline: Instant) -> Result<Vec<Outcome>, Refused> {
        loop {
            let leader = match self.write(batch.clone(), deadline).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(Failed::Unknown(refused)) => return Err(refused),
                Err(Failed::Elsewhere(leader)) => leader,
            };
            if let Some(leader) = leader {
                let answer = tokio::select! {
                    answer = timeout_at(deadline, self.peers.propose(leader, batch.clone())) => answer,
                    () = self.passed_over(leader) => return Err(lost()),
                };
                match answer {
                    Ok(Ok(outcomes)) => return Ok(outcomes),
                    Ok(Err(Unanswered::NeverLeft(_))) => {}
                    Ok(Err(Unanswered::Refused(refused))) if refused == not_leader() => {}
                    Ok(Err(_)) => return Err(lost()),
                    Err(_) => return Err(timed_out()),
                }
            }
            self.wait_for_leader(deadline).await?;
        }
    }

    /// Ends when another member than `leader` leads, as far as this one knows.
    pub(super) async fn led_by_another(&self, leader: MemberId) {
        let mut metrics = self.raft.server_metrics();
        let other = |now: MemberId| now != leader;
        if metrics.wait_for(|now| now.current_leader.is_some_and(other)).await.is_err() {
            // The agreement has ended: nobody is heard of any more.
            std::future::pending::<()>().await;
        }
    }

    /// The same, and `leader` had a moment more to say what came of its last commands.
    async fn passed_over(&self, leader: MemberId) {
        self.led_by_another(leader).await;
        tokio::time::sleep(self.options.retry).await;
    }

    /// Waits for news of who leads, for a while.
    pub(super) async fn wait_for_leader(&self, deadline: Instant) -> Result<(), Refused> {
        if Instant::now() >= deadline {
            return Err(timed_out());
        }
        let mut metrics = self.raft.server_metrics();
        let pause = self.options.retry.max(Duration::from_millis(1));
        let until = deadline.min(Instant::now() + pause);
        // News, or another try after the pause; when the agreement has ended there are no news.
        if let Ok(Err(_)) = timeout_at(until, metrics.changed()).await {
            tokio::time::sleep_until(until).await;
        }
        Ok(())
    }
}

/// This member does not lead and did nothing.
pub(super) fn not_leader() -> Refused {
    Refused::new(tonic::Code::FailedPrecondition, "etcdserver: not leader")
}

/// The task that makes entries.
pub(super) struct Proposer;

impl Proposer {
    pub(super) async fn run(node: Weak<Node>, mut proposed: mpsc::Receiver<Proposal>) {
        let Some(options) = node.upgrade().map(|node| node.options.clone()) else { return };
        let slots = Arc::new(Semaphore::new(options.pipeline.max(1)));
        let mut next: Option<Proposal> = None;
        loop {
            let first = match next.take() {
                Some(first) => first,
                None => match proposed.recv().await {
                    Some(first) => first,
                    None => return,
                },
            };
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let Some(node) = node.upgrade() else { return };
            // It cannot fail: the sender is the node's.
            let _ = node.holding.subscribe().wait_for(|&holding| !holding).await;
            let mut bytes = first.command.encoded_len();
            let mut batch = vec![first];
            while !batch[0].alone && batch.len() < options.batch && bytes < options.batch_bytes {
                let Ok(more) = proposed.try_recv() else { break };
                bytes += more.command.encoded_len();
                if more.alone || bytes > options.batch_bytes {
                    next = Some(more);
                    break;
                }
                batch.push(more);
            }
            tokio::spawn(async move {
                finish(&node, batch).await;
                drop(slot);
            });
        }
    }
}

/// Agrees on a batch and tells those who wait.
async fn finish(node: &Node, batch: Vec<Proposal>) {
    let deadline = batch.iter().map(|proposal| proposal.deadline).min().unwrap_or_else(Instant::now);
    let (commands, answers): (Vec<Command>, Vec<_>) =
        batch.into_iter().map(|proposal| (proposal.command, proposal.answer)).unzip();
    let outcome = node.bring(Batch { commands }, deadline).await;
    if outcome.is_err() {
        node.failed.fetch_add(answers.len() as u64, Ordering::Relaxed);
    }
    let mut outcomes = outcome.map(Vec::into_iter);
    for answer in answers {
        let one = match &mut outcomes {
            Ok(outcomes) => outcomes.next().ok_or_else(lost),
            Err(refused) => Err(refused.clone()),
        };
        // Who asked may have gone.
        let _ = answer.send(one);
    }
}
