//! One member's part in the agreement.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openraft::{Config, Raft, RaftMetrics, ServerState, SnapshotPolicy};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::compaction::AutoCompaction;
use super::elections::Elections;
use super::files::{BadSnapshot, Files};
use super::network::Network;
use super::propose::{Proposal, Proposer};
use super::reads::Reader;
use super::recover::{Recovered, check_log, recover};
use super::state_machine::StateMachine;
use super::storage::LogStore;
use super::types::Types;
use crate::leases::LeaseKeeper;
use crate::log::{Log, LogError};
use crate::machine::{FOUNDER, Machine, MemberId, Refused};
use crate::peer::{PeerOptions, Peers};
use crate::replica::Replica;
use crate::words;

/// Parameters of the agreement.
#[derive(Clone, Debug)]
pub struct RaftOptions {
    /// A leader that is silent so long may be replaced; members wait between once and one and a half times
    /// of it.
    pub election_timeout: Duration,
    /// A leader gives a sign of life so often. It is also how long a follower may take to answer.
    pub heartbeat: Duration,
    /// A request waits so long for an agreement, then it is refused.
    pub request_timeout: Duration,
    /// Requests that may wait to be proposed.
    pub proposals: usize,
    /// Requests that go into one entry of the log at most.
    pub batch: usize,
    /// Bytes of requests that go into one entry at most, unless one alone has more.
    pub batch_bytes: usize,
    /// Entries that are on the way at once.
    pub pipeline: usize,
    /// Entries since the last snapshot that call for the next one.
    pub snapshot_entries: u64,
    /// Bytes of entries that call for the next snapshot.
    pub snapshot_bytes: u64,
    /// Entries that are kept behind a snapshot, for followers that are a little late.
    pub kept_entries: u64,
    /// Leases that are revoked at once.
    pub revokes: usize,
    /// A learner that is not further behind than so many entries may vote.
    pub promotion_lag: u64,
    /// How much of the past the leader keeps. Default: 10,000 revisions.
    pub auto_compaction: AutoCompaction,
    /// Pause between tries to reach a member that is away.
    pub retry: Duration,
    /// How the log is kept.
    pub log: crate::log::Options,
}

impl Default for RaftOptions {
    fn default() -> Self {
        Self {
            election_timeout: Duration::from_millis(600),
            heartbeat: Duration::from_millis(100),
            request_timeout: Duration::from_secs(7),
            proposals: 4096,
            batch: 512,
            batch_bytes: 1 << 20,
            pipeline: 2,
            snapshot_entries: 10_000,
            snapshot_bytes: 64 << 20,
            kept_entries: 1_000,
            revokes: 1_000,
            promotion_lag: 100,
            auto_compaction: AutoCompaction::Revisions(10_000),
            retry: Duration::from_millis(100),
            log: crate::log::Options::default(),
        }
    }
}

impl RaftOptions {
    /// The shortest lease: an expiry must not come before a new leader had a chance to hear of its holder.
    fn ttl_min(&self) -> Duration {
        self.election_timeout * 3
    }

    fn config(&self) -> Config {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Config {
            cluster_name: "ovs".into(),
            // The lease of a leader is the greater one; the timer itself is off.
            election_timeout_min: millis(self.election_timeout).saturating_sub(1),
            election_timeout_max: millis(self.election_timeout),
            heartbeat_interval: millis(self.heartbeat),
            install_snapshot_timeout: millis(self.request_timeout) * 10,
            enable_elect: false,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            replication_lag_threshold: self.snapshot_entries + self.kept_entries,
            max_in_snapshot_log_to_keep: self.kept_entries,
            ..Config::default()
        }
    }
}

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The newest snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] BadSnapshot),
    /// A directory cannot be used.
    #[error("the data directory cannot be used: {0}")]
    Io(#[from] io::Error),
    /// A part of the directory is missing, or of another time.
    #[error(
        "{0}; restore all of the directory, or remove this member from the cluster, empty its directory and let it \
         join again"
    )]
    Incomplete(String),
    /// The parameters contradict each other, or openraft found its own state wanting.
    #[error("the agreement cannot start: {0}")]
    Raft(String),
}

/// Why a member takes no part any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was removed from the cluster.
    Removed,
    /// Something of it failed: its disk, or a promise of the agreement.
    Failed(String),
}

pub(super) type Metrics = RaftMetrics<MemberId, openraft::EmptyNode>;

/// See the module.
pub(crate) struct Node {
    pub(crate) id: MemberId,
    pub(crate) cluster_id: u64,
    pub(crate) replica: Arc<Replica>,
    pub(crate) peers: Arc<Peers>,
    pub(super) raft: Raft<Types>,
    pub(super) files: Files,
    pub(super) log: Log,
    /// Where the log ended when this member came back as the leader of a term.
    pub(super) resumed: Option<words::LogId>,
    pub(super) elections: Arc<Elections>,
    pub(super) options: RaftOptions,
    pub(super) proposals: mpsc::Sender<Proposal>,
    pub(super) reads: mpsc::Sender<oneshot::Sender<Result<(), Refused>>>,
    /// While the lead is handed over nothing is proposed.
    pub(super) holding: watch::Sender<bool>,
    /// Why this member takes no part any more.
    pub(super) ended: watch::Sender<Option<Ended>>,
    /// It is being shut down.
    pub(super) stopping: AtomicBool,
    /// One change of the members at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Leaders that were seen, and commands nobody agreed on.
    pub(super) leaders: AtomicU64,
    pub(super) failed: AtomicU64,
    tasks: std::sync::Mutex<JoinSet<()>>,
}

/// What is counted for the metrics.
pub(crate) struct Counts {
    /// Leaders that this member has seen.
    pub(crate) leaders: u64,
    /// Commands that wait to be agreed on.
    pub(crate) pending: u64,
    /// Commands that were not agreed on.
    pub(crate) failed: u64,
}

impl Node {
    /// Recovers what is in `directory` and takes part from now on.
    ///
    /// # Errors
    /// What of the directory cannot be believed.
    pub(crate) async fn start(
        id: MemberId,
        cluster_id: u64,
        disk: Arc<dyn uring::Disk>,
        directory: &Path,
        options: RaftOptions,
        peer_options: PeerOptions,
    ) -> Result<Arc<Self>, NodeError> {
        let (directory, log_options) = (directory.to_path_buf(), options.log);
        let recovered = tokio::task::spawn_blocking(move || {
            check_log(&*disk, &directory)?;
            recover(disk, &directory, log_options)
        });
        let recovered = recovered.await;
        let Recovered { files, machine, log } =
            recovered.map_err(|error| NodeError::Raft(error.to_string()))??;
        if machine.cluster_id != 0 && machine.cluster_id != cluster_id {
            let found = machine.cluster_id;
            return Err(NodeError::Raft(format!(
                "the snapshot is of cluster {found:x}, the directory of {cluster_id:x}: restore all of the directory"
            )));
        }
        let resumed = log.vote().filter(|vote| vote.committed && vote.node == id);
        let resumed = resumed
            .map(|vote| words::LogId { term: vote.term, index: log.last().map_or(0, |last| last.index) });
        let leases = LeaseKeeper::new(options.ttl_min(), options.request_timeout);
        let replica = Arc::new(Replica::new(machine, leases));
        let peers = Arc::new(Peers::new(id, cluster_id, replica.clone(), peer_options));
        let elections = Arc::new(Elections::new(options.election_timeout));
        let network = Network { peers: peers.clone(), elections: elections.clone(), retry: options.retry };
        let config = options.config().validate().map_err(|error| NodeError::Raft(error.to_string()))?;
        let state_machine = StateMachine::new(replica.clone(), files.clone());
        let raft = Raft::new(id, Arc::new(config), network, LogStore::new(log.clone()), state_machine).await;
        let raft = raft.map_err(|error| NodeError::Raft(error.to_string()))?;

        let (proposals, proposed) = mpsc::channel(options.proposals);
        let (reads, reading) = mpsc::channel(options.proposals);
        let holding = watch::Sender::new(false);
        let node = Arc::new(Self {
            id,
            cluster_id,
            replica,
            peers,
            raft,
            files,
            log,
            resumed,
            elections,
            options,
            proposals,
            reads,
            holding,
            ended: watch::Sender::new(None),
            stopping: AtomicBool::new(false),
            changing: tokio::sync::Mutex::default(),
            leaders: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            tasks: std::sync::Mutex::default(),
        });
        node.spawn(Proposer::run(Arc::downgrade(&node), proposed));
        node.spawn(Reader::run(Arc::downgrade(&node), reading));
        node.spawn(super::tasks::watch_for_silence(Arc::downgrade(&node)));
        node.spawn(super::tasks::lead(Arc::downgrade(&node)));
        node.spawn(super::compaction::run(Arc::downgrade(&node)));
        node.spawn(super::tasks::keep_the_log_short(Arc::downgrade(&node)));
        node.spawn(super::news::tell(Arc::downgrade(&node)));
        Ok(node)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).spawn(task);
    }

    /// Begins a cluster whose only member this is; does nothing if it has begun.
    pub(crate) async fn found(&self) -> Result<(), Refused> {
        use openraft::error::{InitializeError, RaftError};
        match self.raft.initialize(std::collections::BTreeSet::from([FOUNDER])).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(Refused::unavailable(error.to_string())),
        }
    }

    /// What openraft says of itself now.
    pub(super) fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow().clone()
    }

    /// Whether this member leads, as far as it knows.
    pub(crate) fn is_leader(&self) -> bool {
        self.raft.metrics().borrow().state == ServerState::Leader
    }

    /// Who leads, as far as this member knows; nobody when the leader was not heard of for so long that there should be
    /// another one, or when this member leads and no majority hears it.
    pub(crate) fn leader(&self) -> Option<MemberId> {
        let (leader, since) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            (metrics.current_leader, metrics.millis_since_quorum_ack)
        };
        let silence = match leader? {
            leader if leader == self.id => since.map(Duration::from_millis),
            _ => None,
        };
        // One that came back as a leader and reached nobody yet has been silent since then.
        let silence = silence.unwrap_or_else(|| self.elections.silence());
        leader.filter(|_| silence < 2 * self.options.election_timeout)
    }

    /// Counts leaders.
    pub(crate) fn term(&self) -> u64 {
        self.raft.metrics().borrow().current_term
    }

    /// Writes a snapshot soon and lets the log begin behind it.
    pub(crate) async fn snapshot(&self) -> Result<(), Refused> {
        let asked = self.raft.trigger().snapshot().await;
        asked.map_err(|error| Refused::unavailable(format!("etcdserver: server stopped: {error}")))
    }

    /// What is counted.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            leaders: self.leaders.load(Ordering::Relaxed),
            pending: (self.proposals.max_capacity() - self.proposals.capacity()) as u64,
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    /// Waits until somebody leads and what was agreed before is applied here.
    pub(crate) async fn ready(&self) -> Result<(), Refused> {
        self.read_barrier().await
    }

    /// Waits until the cluster has a number and this member a place in it.
    pub(crate) async fn founded(&self) -> Result<(), Refused> {
        let deadline = tokio::time::Instant::now() + self.options.request_timeout;
        while !self.read(|machine| machine.members.contains_key(&self.id)) {
            let index = self.read(|machine| machine.applied.map_or(0, |applied| applied.index + 1));
            let next = tokio::time::timeout_at(deadline, self.replica.wait_for(index)).await;
            next.map_err(|_| Refused::unavailable("the cluster does not know this member yet"))?;
        }
        Ok(())
    }

    /// Waits until this member takes no part any more; gives why.
    pub(crate) async fn ended(&self) -> Ended {
        let mut ended = self.ended.subscribe();
        // The sender is this node's.
        let why = ended.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| Ended::Failed("it was stopped".into()))
    }

    /// How this member is.
    pub(crate) fn status(&self) -> NodeStatus {
        let metrics = self.metrics();
        NodeStatus {
            leader: self.leader(),
            term: metrics.current_term,
            last: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.map_or(0, |id| id.index),
            broken: metrics.running_state.err().map(|error| error.to_string()),
            voters: metrics.membership_config.voter_ids().collect(),
            log_bytes: self.log.bytes(),
        }
    }

    /// Takes no part any more. What was acknowledged is durable.
    pub(crate) async fn shutdown(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the agreement did not end well");
        }
        tasks.shutdown().await;
        let log = self.log.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || log.close()).await {
            tracing::warn!(%error, "the log was not closed");
        }
    }
}

/// See [`Node::status`].
#[derive(Clone, Debug)]
pub(crate) struct NodeStatus {
    /// Who leads.
    pub(crate) leader: Option<MemberId>,
    /// Counts leaders.
    pub(crate) term: u64,
    /// Index of the last entry in the log.
    pub(crate) last: u64,
    /// Index of the last entry that is applied.
    pub(crate) applied: u64,
    /// Why this member takes no part any more.
    pub(crate) broken: Option<String>,
    /// Who votes.
    pub(crate) voters: std::collections::BTreeSet<MemberId>,
    /// What the log keeps in memory, bytes.
    pub(crate) log_bytes: u64,
}

impl Node {
    /// Looks at the state.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        look(&self.replica.read())
    }
}
