//! A whole member on the simulated disk: votes, entries, snapshots, purges, snapshots from elsewhere, as openraft asks
//! for them, with power losses, killed processes and failing disks in between, from a seed.

use std::path::Path;

use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::{RaftSnapshotBuilder, StorageHelper};
use tokio::runtime::{Builder, Runtime};
use uring::sim::{DirLoss, Fault, FaultOp, SimOptions, SimWorld};

use super::world::{Model, Truth, any_entry};
use super::{Opened, open};
use crate::log::{LogError, Options};
use crate::machine::Machine;
use crate::raft::node::NodeError;
use crate::raft::state_machine;
use crate::raft::types::{self, LogId, StorageError};
use crate::words::Vote;

/// Seeds of the bounded run; `OVS_SOAK` takes more, `OVS_SEED` one.
const SEEDS: u64 = 2_000;
/// Boots of a seed.
const BOOTS: u64 = 4;

/// What happened over all seeds: a test in which nothing goes wrong proves nothing.
#[derive(Debug, Default)]
struct Tally {
    crashes_inside: u64,
    failed_opens: u64,
    snapshots: u64,
    snapshots_lost: u64,
    installs: u64,
    purges: u64,
    truncations: u64,
    applied_again: u64,
}

struct Run {
    seed: u64,
    world: SimWorld,
    options: Options,
    truth: Truth,
    /// What must be there.
    model: Model,
    /// What may be there as well: each step of what was under way when it ended.
    possible: Vec<Model>,
    term: u64,
    tally: Tally,
}

fn directory() -> &'static Path {
    Path::new("/member")
}

impl Run {
    fn random(&self, bound: u64) -> u64 {
        self.world.random() % bound
    }

    /// Something is about to change: whoever looks after a crash may find it.
    fn begin(&mut self, change: impl FnOnce(&mut Model)) {
        let mut model = self.possible.last().unwrap_or(&self.model).clone();
        change(&mut model);
        self.possible.push(model);
    }

    /// All that was begun is acknowledged: it has to stay.
    fn done(&mut self) {
        if let Some(last) = self.possible.pop() {
            self.model = last;
        }
        self.possible.clear();
    }

    fn fault(&self) {
        let op = [FaultOp::Write, FaultOp::Sync, FaultOp::SyncDir][self.random(3) as usize];
        let path_contains = ["", "snapshot", "log"][self.random(3) as usize].to_string();
        self.world.inject(Fault { op, path_contains, count: 1 });
    }

    fn crash(&self) {
        match self.random(3) {
            0 => self.world.process_kill(),
            _ => self.world.power_loss(),
        }
    }

    /// Opens until it succeeds; only what was switched off or made to fail may fail.
    async fn open(&mut self) -> Opened {
        if self.random(4) == 0 {
            self.world.crash_after(1 + self.random(16));
        }
        if self.random(4) == 0 {
            self.fault();
        }
        loop {
            let before = self.world.counters().injected;
            let error = match open(self.world.disk(), directory(), self.options) {
                Ok(mut opened) => match self.judge(&mut opened).await {
                    Ok(()) => return opened,
                    Err(error) => error.to_string(),
                },
                Err(error @ (NodeError::Io(_) | NodeError::Log(LogError::Io { .. }))) => error.to_string(),
                Err(NodeError::Snapshot(error)) if self.world.is_off() => error.to_string(),
                Err(error) => panic!("seed {}: {error}", self.seed),
            };
            assert!(
                self.world.is_off() || self.world.counters().injected > before,
                "seed {}: {error}",
                self.seed
            );
            self.tally.failed_opens += 1;
            self.world.clear_faults();
            self.crash();
        }
    }

    /// Everything acknowledged is there, and nothing that never was.
    async fn judge(&mut self, opened: &mut Opened) -> Result<(), StorageError> {
        let seed = self.seed;
        let found = self.read(opened);
        let possible: Vec<&Model> = std::iter::once(&self.model).chain(&self.possible).collect();
        // Votes, log and snapshots are durable each by itself: a later one of any may be there without the others.
        let one_of = |holds: &dyn Fn(&Model) -> bool| possible.iter().any(|&model| holds(model));
        let vote = opened.store.read_vote().await?.map(|vote| types::vote_words(&vote));
        assert!(one_of(&|model| model.vote == vote), "seed {seed}: vote {vote:?}");
        assert!(
            one_of(&|model| (&model.log, model.last, model.purged) == (&found.log, found.last, found.purged)),
            "seed {seed}: a log from {:?} to {:?} with {} entries; acknowledged from {:?} to {:?}",
            found.purged,
            found.last,
            found.log.len(),
            self.model.purged,
            self.model.last
        );
        assert!(
            one_of(&|model| model.snapshot == found.snapshot),
            "seed {seed}: a snapshot of {:?}; acknowledged {:?}",
            found.snapshot,
            self.model.snapshot
        );
        assert!(found.purged <= found.snapshot, "seed {seed}: {:?} purged", found.purged);
        let latest = self.possible.last().unwrap_or(&self.model).snapshot;
        let state = self.truth.state(found.snapshot).expect("only what was agreed on is in a snapshot");
        assert!(*opened.replica.read() == *state, "seed {seed}: another state");
        let names = self.world.disk().read_dir(&directory().join("snapshot")).unwrap_or_default();
        assert!(names.iter().all(|name| name.ends_with(".snapshot")), "seed {seed}: {names:?}");
        // As openraft does it: what is known to be committed is applied again.
        let Opened { store, machine, .. } = opened;
        let initial = StorageHelper::new(store, machine).get_initial_state().await?;
        let applied = initial.committed;
        let state = self.truth.state(applied);
        let state = state.unwrap_or_else(|| panic!("seed {seed}: {applied:?} was never agreed on"));
        assert!(*opened.replica.read() == *state, "seed {seed}: another state after applying again");
        assert!(applied >= found.snapshot, "seed {seed}: older than the snapshot");
        self.tally.applied_again += u64::from(applied > found.snapshot);
        self.tally.snapshots_lost += u64::from(found.snapshot < latest);
        // From now on what was found has to stay, and what openraft did about it.
        self.model = Model { vote, ..self.read(opened) };
        self.possible.clear();
        Ok(())
    }

    /// What the disk says.
    fn read(&self, opened: &Opened) -> Model {
        let id =
            |id: crate::log::LogId| types::log_id(crate::words::LogId { term: id.term, index: id.index });
        let mut found = Model { purged: opened.log.purged().map(id), ..Model::default() };
        found.last = opened.log.last().map(id);
        let first = found.purged.map_or(0, |id| id.index + 1);
        let entries = opened.store.read(first, u64::MAX, usize::MAX).expect("entries that can be read");
        found.log = entries.into_iter().map(|entry| (entry.log_id.index, entry)).collect();
        found.snapshot = match opened.machine.files.newest() {
            Ok(newest) => newest
                .and_then(|file| file.load().ok())
                .and_then(|machine| machine.applied.map(types::log_id)),
            // The power is off: the state says it.
            Err(_) => opened.replica.read().applied.map(types::log_id),
        };
        found
    }

    async fn boot(&mut self) {
        let mut opened = self.open().await;
        if self.random(3) == 0 {
            self.fault();
        }
        if self.random(2) == 0 {
            self.world.crash_after(1 + self.random(60));
        }
        for _ in 0..self.random(24) {
            if self.step(&mut opened).await.is_err() {
                self.tally.crashes_inside += 1;
                break;
            }
            self.done();
        }
        drop(opened);
        self.world.clear_faults();
        self.crash();
    }

    async fn step(&mut self, opened: &mut Opened) -> Result<(), StorageError> {
        let applied = opened.replica.read().applied.map(types::log_id);
        let next = self.model.last.map_or(0, |last| last.index + 1);
        match self.random(12) {
            0 => {
                self.term += self.random(2);
                let vote = Vote { term: self.term, member: 1 + self.random(3), committed: false };
                self.begin(|model| model.vote = Some(vote));
                opened.store.save_vote(&types::vote(vote)).await
            }
            1 if self.model.last > self.truth.committed() => self.truncate(opened).await,
            2..=4 if self.model.last > applied => self.commit(opened, applied).await,
            5..=6 if applied > self.model.snapshot => {
                self.begin(|model| model.snapshot = applied);
                self.tally.snapshots += 1;
                opened.machine.build_snapshot().await.map(drop)
            }
            7..=8 if self.model.snapshot > self.model.purged => {
                let upto = self.model.snapshot.map_or(0, |id| id.index).saturating_sub(self.random(3));
                let entry = self.model.log.get(&upto);
                let Some(id) = entry.map(|entry| entry.log_id).or(self.model.snapshot) else { return Ok(()) };
                self.begin(|model| model.purge(id));
                self.tally.purges += 1;
                opened.store.purge(id).await
            }
            9 if self.random(3) == 0 => self.install(opened).await,
            _ => {
                self.term += u64::from(self.random(6) == 0);
                let random = &mut |bound| self.world.random() % bound;
                let count = 1 + random(3);
                // What the cluster agreed on without this member comes first.
                let entry = |index| match self.truth.entry(index) {
                    Some(entry) => entry.clone(),
                    None => any_entry(self.term, index, random),
                };
                let entries: Vec<_> = (next..next + count).map(entry).collect();
                for entry in entries.clone() {
                    self.begin(|model| model.append(entry));
                }
                opened.store.blocking_append(entries).await
            }
        }
    }

    /// What nobody agreed on makes room for another leader's entries.
    async fn truncate(&mut self, opened: &mut Opened) -> Result<(), StorageError> {
        let first = self.truth.committed().map_or(0, |id| id.index + 1);
        let last = self.model.last.map_or(first, |last| last.index);
        let from = first + self.random(last + 1 - first);
        let Some(id) = self.model.log.get(&from).map(|entry| entry.log_id) else { return Ok(()) };
        self.term += 1;
        self.begin(|model| model.truncate(from));
        self.tally.truncations += 1;
        opened.store.truncate(id).await
    }

    /// More of the log is agreed on, and applied.
    async fn commit(&mut self, opened: &mut Opened, applied: Option<LogId>) -> Result<(), StorageError> {
        let first = applied.map_or(0, |id| id.index + 1);
        let last = self.model.last.map_or(0, |id| id.index);
        let upto = first + self.random(last + 1 - first);
        let entries: Vec<_> = self.model.log.range(first..=upto).map(|(_, entry)| entry.clone()).collect();
        let Some(id) = entries.last().map(|entry| entry.log_id) else { return Ok(()) };
        for entry in &entries {
            if self.truth.committed().is_none_or(|id| id.index < entry.log_id.index) {
                // The cluster does not take it back, whatever this member forgets.
                self.truth.agree(entry);
            }
        }
        opened.store.save_committed(Some(id)).await?;
        opened.machine.apply(entries).await.map(drop)
    }

    /// A leader sends its state, which is newer than all that this member has.
    async fn install(&mut self, opened: &mut Opened) -> Result<(), StorageError> {
        if let (Some(last), committed) = (self.model.last, self.truth.committed())
            && Some(last) > committed
        {
            let from = committed.map_or(0, |id| id.index + 1);
            self.begin(|model| model.truncate(from));
            if let Some(id) = self.model.log.get(&from).map(|entry| entry.log_id) {
                opened.store.truncate(id).await?;
            }
            self.done();
        }
        self.term += 1;
        for _ in 0..1 + self.random(4) {
            let entry = any_entry(self.term, self.truth.next(), &mut |bound| self.world.random() % bound);
            self.truth.agree(&entry);
        }
        let machine: Machine = self.truth.newest().clone();
        let mut bytes = Vec::new();
        machine.write(&mut bytes).expect("a vector takes it");
        let file = opened.machine.begin_receiving_snapshot().await?;
        for (place, piece) in bytes.chunks(1000).enumerate() {
            let written = file.write(place as u64 * 1000, piece);
            written.map_err(|error| openraft::StorageIOError::write(openraft::AnyError::new(&error)))?;
        }
        let id = self.truth.committed();
        self.begin(|model| model.snapshot = id);
        opened.machine.install_snapshot(&state_machine::meta(&machine), file).await?;
        self.done();
        self.tally.installs += 1;
        let Some(id) = id else { return Ok(()) };
        self.begin(|model| model.purge(id));
        opened.store.purge(id).await
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

#[test]
fn no_member_forgets_in_a_crash() {
    let mut tally = Tally::default();
    let seeds = if std::env::var_os("OVS_SOAK").is_some() { SEEDS * 40 } else { SEEDS };
    let only: Option<u64> = std::env::var("OVS_SEED").ok().and_then(|seed| seed.parse().ok());
    let runtime = runtime();
    for seed in only.map_or(0..seeds, |only| only..only + 1) {
        let dirs = if seed % 2 == 0 { DirLoss::Prefix } else { DirLoss::Subset };
        let world = SimWorld::new(seed, SimOptions { dirs, ..SimOptions::default() });
        world.disk().create_dir(directory()).expect("a new disk");
        world.disk().sync_dir(Path::new("/")).expect("a new disk");
        let options = Options { segment_bytes: 1024 << (seed % 4), ..Options::default() };
        let (truth, model, possible) = (Truth::new(), Model::default(), Vec::new());
        let mut run = Run { seed, world, options, truth, model, possible, term: 1, tally };
        runtime.block_on(async {
            for _ in 0..BOOTS {
                run.boot().await;
            }
            drop(run.open().await);
        });
        tally = run.tally;
    }
    let Tally {
        crashes_inside,
        failed_opens,
        snapshots,
        snapshots_lost,
        installs,
        purges,
        truncations,
        applied_again,
    } = tally;
    println!("{seeds} seeds: {tally:?}");
    let all = [
        crashes_inside,
        failed_opens,
        snapshots,
        snapshots_lost,
        installs,
        purges,
        truncations,
        applied_again,
    ];
    assert!(all.into_iter().min() >= Some(50) || only.is_some(), "something hardly ever happened: {tally:?}");
}
