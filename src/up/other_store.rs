//! A start with another store than before: one that answers in the place of the store that the directory follows.

use crate::cluster_id::ClusterId;
use crate::data_dir::DataDir;
use crate::failure::{Failure, Kind};
use crate::identity::Identity;

/// Compares the cluster of the store at `place` with the one that the directory follows; one that follows none follows
/// it from now on. Whether that is to be written.
pub(super) fn follow(
    directory: &DataDir,
    identity: &mut Identity,
    found: Option<ClusterId>,
    place: &str,
) -> Result<bool, Failure> {
    match (identity.cluster(directory), found) {
        (Some(recorded), Some(found)) if recorded != found => {
            Err(other_cluster(directory, recorded.number(), found.number(), place))
        }
        (_, Some(found)) => Ok(identity.follow(found)),
        (_, None) => Ok(false),
    }
}

/// Why a start with another store than before is refused: it may know nothing of what is here, or of what others did.
pub(super) fn other_cluster(directory: &DataDir, recorded: u64, found: u64, place: &str) -> Failure {
    let directory = directory.path().display();
    let message = format!(
        "{directory} follows the cluster {recorded:016x}, and {place} is the cluster {found:016x}; if that one was \
         restored from a copy of the first, run `ovs config accept-cluster {found:016x} --data-dir {directory}`, else \
         give the store of before"
    );
    Failure::new(Kind::Conflict, message)
}
