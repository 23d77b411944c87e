//! What other members ask of this one.

use std::sync::Arc;

use openraft::Snapshot;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use prost::Message;
use tokio::time::{Instant, sleep, timeout};

use super::files::SnapshotFile;
use super::node::Node;
use super::propose::not_leader;
use super::{state_machine, types};
use crate::machine::{Refused, convert};
use crate::words;
use crate::words::command::Command as Kind;

/// What an entry has beside its batch, bytes.
const ENTRY_OVERHEAD: usize = 64;
/// Terms beyond it are not believed: nobody lives through so many elections, and the next ones must have numbers.
const TERM_MAX: u64 = 1 << 62;

fn broken(error: impl std::fmt::Display) -> Refused {
    Refused::unavailable(format!("etcdserver: server stopped: {error}"))
}

fn incomplete() -> Refused {
    Refused::argument("a message of another member without its content")
}

impl Node {
    /// Whether a message is for this member, from one of the same cluster.
    ///
    /// # Errors
    /// Why not. Who was removed learns it here.
    pub(crate) fn check(&self, address: Option<words::Address>) -> Result<(), Refused> {
        let address = address.ok_or_else(incomplete)?;
        if address.cluster_id != self.cluster_id || address.to != self.id {
            return Err(Refused::new(
                tonic::Code::Unauthenticated,
                format!(
                    "this is member {:x} of cluster {:x}, the message is for {:x} of {:x}",
                    self.id, self.cluster_id, address.to, address.cluster_id
                ),
            ));
        }
        if self.read(|machine| machine.was_removed(address.from)) {
            return Err(Refused::removed(address.from));
        }
        Ok(())
    }

    /// A leader's entries.
    pub(crate) async fn append(
        &self,
        request: words::AppendRequest,
    ) -> Result<words::AppendResponse, Refused> {
        use words::append_response::Result as Answer;
        self.check(request.address)?;
        let vote = said_by(&request.address, request.vote, true)?;
        if !is_chain(request.previous, &request.entries) {
            return Err(Refused::argument("entries that do not follow each other"));
        }
        let entries = request.entries.into_iter().map(|entry| {
            let id = entry.id.ok_or_else(incomplete)?;
            Ok(types::entry(types::log_id(id), entry))
        });
        let rpc = AppendEntriesRequest {
            vote: types::vote(vote),
            prev_log_id: request.previous.map(types::log_id),
            entries: entries.collect::<Result<_, Refused>>()?,
            leader_commit: request.committed.map(types::log_id),
        };
        let result = match self.raft.append_entries(rpc).await.map_err(broken)? {
            AppendEntriesResponse::Success => Answer::Appended(true),
            AppendEntriesResponse::PartialSuccess(id) => {
                id.map_or(Answer::Conflict(true), |id| Answer::Partial(types::log_id_words(id)))
            }
            AppendEntriesResponse::Conflict => Answer::Conflict(true),
            AppendEntriesResponse::HigherVote(vote) => {
                return Ok(words::AppendResponse { result: Some(Answer::Higher(types::vote_words(&vote))) });
            }
        };
        self.elections.heard();
        Ok(words::AppendResponse { result: Some(result) })
    }

    /// A candidate asks for a vote.
    pub(crate) async fn elect(&self, request: words::ElectRequest) -> Result<words::ElectResponse, Refused> {
        self.check(request.address)?;
        let from = request.address.map_or(0, |address| address.from);
        let metrics = self.metrics();
        let last = self.log.last().map(|id| words::LogId { term: id.term, index: id.index });
        let answer =
            |granted| words::ElectResponse { vote: Some(types::vote_words(&metrics.vote)), granted, last };
        // Who leads, or hears of a leader, has no reason to want another one.
        if !request.handed_over && self.has_leader() {
            return Ok(answer(false));
        }
        if request.rehearsal {
            if !is_as_new(request.last, last) {
                self.elections.urge();
                return Ok(answer(false));
            }
            // Of two that ask at once one has to give way.
            let first = self.elections.is_asking() && request.last == last && from < self.id;
            if !first {
                self.elections.give_way();
            }
            return Ok(answer(!first));
        }
        let rpc = VoteRequest {
            vote: types::vote(said_by(&request.address, request.vote, false)?),
            last_log_id: request.last.map(types::log_id),
        };
        let response = self.raft.vote(rpc).await.map_err(broken)?;
        if response.vote_granted {
            // The candidate gets time to begin.
            self.elections.heard();
        }
        Ok(words::ElectResponse {
            vote: Some(types::vote_words(&response.vote)),
            granted: response.vote_granted,
            last: response.last_log_id.map(types::log_id_words),
        })
    }

    /// Whether there is a leader that is well, as far as this member can know.
    fn has_leader(&self) -> bool {
        if !self.is_leader() {
            return self.elections.is_fresh();
        }
        let since = self.metrics().millis_since_quorum_ack;
        since.is_some_and(|since| u128::from(since) < self.options.election_timeout.as_millis())
    }

    /// The vote with which a leader sends a snapshot.
    pub(crate) fn leads(&self, first: &words::InstallRequest) -> Result<words::Vote, Refused> {
        said_by(&first.address, first.vote, true)
    }

    /// A new, empty file for a snapshot.
    pub(crate) fn begin_install(&self) -> Result<SnapshotFile, Refused> {
        self.files.begin().map_err(|error| broken(format!("cannot keep a snapshot: {error}")))
    }

    /// Takes back what was begun.
    pub(crate) fn discard_install(&self, file: &SnapshotFile) {
        self.files.discard(file);
    }

    /// Installs a snapshot that was received whole.
    pub(crate) async fn install(
        &self,
        mut file: SnapshotFile,
        vote: words::Vote,
    ) -> Result<words::InstallResponse, Refused> {
        let source = file.clone();
        let loaded = tokio::task::spawn_blocking(move || source.load()).await.map_err(broken)?;
        let machine = loaded.map_err(|bad| Refused::new(tonic::Code::DataLoss, bad.to_string()))?;
        if machine.cluster_id != self.cluster_id {
            return Err(Refused::argument(format!(
                "the snapshot is of cluster {:x}, this is a member of {:x}",
                machine.cluster_id, self.cluster_id
            )));
        }
        let meta = state_machine::meta(&machine);
        let index = machine.applied.map_or(0, |applied| applied.index);
        file.machine = Some(Arc::new(machine));
        let snapshot = Snapshot { meta, snapshot: Box::new(file.clone()) };
        tracing::info!(until = index, "the whole state came from the leader");
        let installed = self.raft.install_full_snapshot(types::vote(vote), snapshot).await;
        let response = installed.map_err(broken)?;
        self.elections.heard();
        // One that is older than what is here is not taken.
        self.files.discard(&file);
        Ok(words::InstallResponse { vote: Some(types::vote_words(&response.vote)) })
    }

    /// Commands that came to another member.
    pub(crate) async fn proposed(
        &self,
        request: words::ProposeRequest,
    ) -> Result<Vec<words::Outcome>, Refused> {
        self.check(request.address)?;
        let deadline = Instant::now() + self.options.request_timeout;
        let _ = self.holding.subscribe().wait_for(|&holding| !holding).await;
        let batch = request.batch.ok_or_else(incomplete)?;
        self.check_batch(&batch)?;
        self.propose_here(batch, deadline).await
    }

    /// What another member proposes can be read again from the log.
    fn check_batch(&self, batch: &words::Batch) -> Result<(), Refused> {
        if batch.encoded_len() + ENTRY_OVERHEAD > self.options.log.entry_bytes_max {
            return Err(Refused::argument("etcdserver: request is too large"));
        }
        let is_shallow = |command: &words::Command| match &command.command {
            Some(Kind::Txn(txn)) => convert::is_shallow(txn),
            _ => true,
        };
        if batch.commands.iter().all(is_shallow) {
            Ok(())
        } else {
            Err(crate::mvcc::Error::TooManyOps.into())
        }
    }

    /// Up to where another member must have applied before it reads.
    pub(crate) async fn read_index_for(&self, request: words::ReadIndexRequest) -> Result<u64, Refused> {
        self.check(request.address)?;
        let _ = self.holding.subscribe().wait_for(|&holding| !holding).await;
        self.read_index_here().await
    }

    /// Signs of life of leases, or the time that they have left.
    pub(crate) async fn leases_here(&self, ids: &[i64], renew: bool) -> Result<Vec<i64>, Refused> {
        // Only a leader that still leads knows, and only when it has applied what was granted before.
        let index = self.read_index_here().await?;
        let applied = timeout(self.options.request_timeout, self.replica.wait_for(index)).await;
        applied.map_err(|_| Refused::unavailable("etcdserver: request timed out"))?;
        let keeper = &self.replica.leases;
        let one = |&id: &i64| if renew { keeper.renew(id) } else { keeper.remaining(id) };
        ids.iter().map(one).collect::<Option<_>>().ok_or_else(not_leader)
    }

    /// The leader wants this member to lead.
    pub(crate) async fn take_over(&self, request: words::TakeOverRequest) -> Result<(), Refused> {
        self.check(request.address)?;
        // Nobody votes before the lease of the old leader, which says nothing any more, is over.
        let lease = self.options.election_timeout;
        sleep(lease.saturating_sub(self.elections.silence()) + lease / 20).await;
        let _handed_over = self.elections.hand_over();
        self.stand().await;
        let begun = self.raft.wait(Some(lease)).current_leader(self.id, "takes over").await;
        begun.map(|_| ()).map_err(|error| Refused::unavailable(format!("not elected: {error}")))
    }
}

/// The vote of a leader, or of a candidate: its sender's own.
fn said_by(
    address: &Option<words::Address>,
    vote: Option<words::Vote>,
    leads: bool,
) -> Result<words::Vote, Refused> {
    let (address, vote) = (address.ok_or_else(incomplete)?, vote.ok_or_else(incomplete)?);
    if vote.member == 0 || vote.member != address.from || vote.committed != leads || vote.term > TERM_MAX {
        return Err(Refused::argument(format!(
            "a vote in term {} for member {:x}, from member {:x}",
            vote.term, vote.member, address.from
        )));
    }
    Ok(vote)
}

/// Whether entries follow the one in front of them, and each other, without a gap.
fn is_chain(previous: Option<words::LogId>, entries: &[words::Entry]) -> bool {
    let mut last = previous;
    entries.iter().all(|entry| {
        let before = std::mem::replace(&mut last, entry.id);
        entry.id.is_some_and(|id| match before {
            None => id.index == 0,
            Some(before) => before.index.checked_add(1) == Some(id.index) && before.term <= id.term,
        })
    })
}

/// Whether a log that ends at `theirs` has all that one that ends at `ours` can have promised.
fn is_as_new(theirs: Option<words::LogId>, ours: Option<words::LogId>) -> bool {
    let key = |id: Option<words::LogId>| id.map(|id| (id.term, id.index));
    key(theirs) >= key(ours)
}
