//! What a member finds in its directory when it starts.

use std::io;
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

/// Makes the log of a new member: who has a name has a log, so that one which is missing is noticed. A member without
/// its votes could vote twice.
///
/// # Errors
/// There is a log, or a snapshot, of somebody else.
pub(crate) fn prepare(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    options: log::Options,
) -> Result<(), NodeError> {
    let log = Log::open(disk.clone(), &directory.join(LOG), options)?;
    let is_used = log.last().is_some() || log.vote().is_some();
    log.close()?;
    if is_used || Files::open(disk.clone(), &directory.join(SNAPSHOTS))?.newest()?.is_some() {
        return Err(NodeError::Incomplete(format!(
            "{}: it has the data of a member and no member.json that says which",
            directory.display()
        )));
    }
    Ok(())
}

/// The log of a member is there.
///
/// # Errors
/// It is not.
pub(super) fn check_log(disk: &dyn Disk, directory: &Path) -> Result<(), NodeError> {
    let path = directory.join(LOG);
    let found = match disk.read_dir(&path) {
        Ok(names) => names.iter().any(|name| name.ends_with(".log")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error.into()),
    };
    if found { Ok(()) } else { Err(NodeError::Incomplete(format!("{}: the log is missing", path.display()))) }
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
    let (purged, applied) = (log.purged().map(|id| id.index), machine.applied.map(|id| id.index));
    if purged > applied {
        let ends = applied.map_or("there is no snapshot".into(), |index| {
            format!("the newest snapshot ends at entry {index}")
        });
        return Err(NodeError::Incomplete(format!(
            "{}: the log begins behind entry {}, and {ends}",
            directory.display(),
            purged.unwrap_or(0)
        )));
    }
    Ok(Recovered { files, machine, log })
}
