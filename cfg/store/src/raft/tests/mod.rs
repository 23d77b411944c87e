//! Tests of what lies on the disk below openraft: the log, the snapshots, and the state made of both.

mod directory;
mod format;
mod power_loss;
mod suite;
mod world;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use uring::Disk;

use super::node::NodeError;
use super::recover::{Recovered, recover};
use super::state_machine::StateMachine;
use super::storage::LogStore;
use crate::leases::LeaseKeeper;
use crate::log;
use crate::replica::Replica;

/// A member's directory, opened, as openraft gets it.
struct Opened {
    replica: Arc<Replica>,
    log: log::Log,
    store: LogStore,
    machine: StateMachine,
}

/// Opens what [`super::Node::start`] does.
fn open(disk: Arc<dyn Disk>, directory: &Path, options: log::Options) -> Result<Opened, NodeError> {
    let Recovered { files, machine, log } = recover(disk, directory, options)?;
    let leases = LeaseKeeper::new(Duration::from_secs(1), Duration::from_secs(1));
    let replica = Arc::new(Replica::new(machine, leases));
    let machine = StateMachine::new(replica.clone(), files);
    Ok(Opened { replica, store: LogStore::new(log.clone()), log, machine })
}
