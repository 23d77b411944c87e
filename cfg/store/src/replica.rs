//! The state of this member, for all who read it.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use crate::interest::Interests;
use crate::leases::LeaseKeeper;
use crate::machine::Machine;
use crate::mvcc::Revision;

/// See the module. One writes, the task that applies entries; many read.
#[derive(Debug)]
pub(crate) struct Replica {
    machine: RwLock<Machine>,
    /// Index of the entry behind the last one applied.
    applied: watch::Sender<u64>,
    /// Revision of the store.
    revision: watch::Sender<Revision>,
    /// Who waits for changes of which keys.
    pub(crate) interests: Arc<Interests>,
    /// When leases end, while this member leads.
    pub(crate) leases: LeaseKeeper,
}

impl Replica {
    pub(crate) fn new(machine: Machine, leases: LeaseKeeper) -> Self {
        let applied = watch::Sender::new(next_index(&machine));
        let revision = watch::Sender::new(machine.store.revision());
        Self { machine: RwLock::new(machine), applied, revision, interests: Arc::default(), leases }
    }

    /// To look at it. Not to be held across an await.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Machine> {
        // A panic half way through a change ends the process in a release build, and the test in others.
        self.machine.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it, and tells those who wait.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine: RwLockWriteGuard<'_, Machine> =
            self.machine.write().unwrap_or_else(PoisonError::into_inner);
        let before = machine.store.revision();
        let result = change(&mut machine);
        let (next, revision) = (next_index(&machine), machine.store.revision());
        // Under the lock: whoever reads the store knows that nothing else has changed.
        let bells = match revision > before {
            true => self.interests.note(before + 1, machine.store.changed(before + 1)),
            false => Vec::new(),
        };
        drop(machine);
        bells.iter().for_each(|bell| bell.notify_one());
        self.applied.send_if_modified(|applied| std::mem::replace(applied, next) != next);
        self.revision.send_if_modified(|known| std::mem::replace(known, revision) != revision);
        result
    }

    /// Waits until the entry at `index` is applied.
    pub(crate) async fn wait_for(&self, index: u64) {
        let mut applied = self.applied.subscribe();
        // It cannot fail: the sender lives as long as this.
        let _ = applied.wait_for(|&next| next > index).await;
    }

    /// The revision, as it changes.
    pub(crate) fn revisions(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }
}

fn next_index(machine: &Machine) -> u64 {
    machine.applied.map_or(0, |applied| applied.index + 1)
}
