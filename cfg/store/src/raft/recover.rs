//! What a member finds in its directory when it starts.

use std::path::Path;
use std::sync::Arc;

use uring::Disk;

use super::files::Files;
use super::node::NodeError;
use crate::log::{self, Log};
use crate::machine::Machine;

/// Folder of the log.
pub(crate) const LOG: &str = "log";
/// Folder of the snapshots.
pub(super) const SNAPSHOTS: &str = "snapshot";

/// The state of the newest snapshot, and the log behind it.
pub(super) struct Recovered {
    pub(super) files: Files,
    pub(super) machine: Machine,
    pub(super) log: Log,
}

/// Reads all of `directory`, which is there durably.
///
/// # Errors
/// What of it cannot be believed.
pub(super) fn recover(
    disk: Arc<dyn Disk>,
    directory: &Path,
    options: log::Options,
) -> Result<Recovered, NodeError> {
    let files = Files::open(disk.clone(), &directory.join(SNAPSHOTS))?;
    let machine = files.newest()?.map(|file| file.load()).transpose()?.unwrap_or_default();
    let log = Log::open(disk, &directory.join(LOG), options)?;
    Ok(Recovered { files, machine, log })
}
