//! `ovs cfg`: members of the configuration store.

mod members;
mod run;
mod snapshot;

use cfg_client::{Options, Store, StoreUrl};

use crate::args::{CfgCommand, CfgSnapshotCommand, Global};
use crate::config::{address, failure_of};
use crate::failure::Failure;

/// A command at work on a cluster that runs.
struct Session {
    store: Store,
    url: StoreUrl,
    /// Whether people or scripts read the output.
    json: bool,
}

/// Does what `command` says.
pub(crate) fn run(global: &Global, command: CfgCommand) -> Result<(), Failure> {
    match command {
        CfgCommand::Run(arguments) => return run::run(global, *arguments),
        CfgCommand::Snapshot(CfgSnapshotCommand::Restore { file, bump_revision }) => {
            return snapshot::restore(global, &file, bump_revision);
        }
        _ => {}
    }
    let url = address::find(global)?;
    let store = Store::open(&url, Options::default()).map_err(failure_of)?;
    let session = Session { store, url, json: global.json };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    runtime.block_on(session.run(command))
}

impl Session {
    async fn run(&self, command: CfgCommand) -> Result<(), Failure> {
        match command {
            CfgCommand::Members => self.members().await,
            CfgCommand::Add { peer_urls, learner } => self.add(&peer_urls, learner).await,
            CfgCommand::Remove { member } => self.remove(member).await,
            CfgCommand::Promote { member } => self.promote(member).await,
            CfgCommand::MoveLeader { member } => self.move_leader(member).await,
            CfgCommand::Status => self.status().await,
            CfgCommand::Defrag => self.defrag().await,
            CfgCommand::Snapshot(CfgSnapshotCommand::Save { file }) => self.save(&file).await,
            CfgCommand::Run(_) | CfgCommand::Snapshot(CfgSnapshotCommand::Restore { .. }) => {
                Err(Failure::failed("this command needs no cluster"))
            }
        }
    }
}
