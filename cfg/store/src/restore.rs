//! From a saved snapshot to a new cluster's first member.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use uring::Disk;

use crate::identity::Identity;
use crate::machine::{FOUNDER, Machine, Member, READ_PIECE, StateError};
use crate::mvcc::Revision;
use crate::raft;
use crate::words::{Description, LogId, Membership, Voters};

/// Behind the padded state: its SHA-256, as etcd's client leaves it.
const SUM: usize = 32;

/// What was restored.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    /// Number of the new cluster.
    pub cluster_id: u64,
    /// Revision of the store now.
    pub revision: Revision,
    /// Keys that live.
    pub keys: usize,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file or the directory cannot be used.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// There is something already.
    #[error("{} is not empty; restore into an empty directory", .0.display())]
    NotEmpty(PathBuf),
    /// It is no snapshot, or not what was saved.
    #[error("{}: {error}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: StateError,
    },
}

/// Makes `directory` the first member of a new cluster with the keys of the snapshot in `file`. The revision goes up by
/// `bump`, and all before it counts as compacted: who watched the old cluster finds out and reads again, instead of
/// taking new revisions for old ones.
///
/// # Errors
/// Nothing was restored; the directory may hold a part of it that no member believes.
pub fn restore(
    disk: std::sync::Arc<dyn Disk>,
    file: &Path,
    directory: &Path,
    bump: u64,
) -> Result<Restored, RestoreError> {
    let failed = |path: &Path, error| RestoreError::Io { path: path.to_path_buf(), error };
    disk.create_dir(directory).map_err(|error| failed(directory, error))?;
    if !disk.read_dir(directory).map_err(|error| failed(directory, error))?.is_empty() {
        return Err(RestoreError::NotEmpty(directory.to_path_buf()));
    }
    let mut machine = read(file)?;
    let identity = Identity::found();
    machine.cluster_id = identity.cluster_id;
    machine.members = [(FOUNDER, Member { description: Description::default(), learner: false })].into();
    // In front of everything that the new cluster will agree on.
    machine.applied = Some(LogId { term: 0, index: FOUNDER });
    machine.membership = Some(Membership {
        at: Some(LogId { term: 0, index: 0 }),
        configurations: vec![Voters { ids: vec![FOUNDER] }],
        members: vec![FOUNDER],
    });
    machine.forget_alarms();
    machine.store.bump(bump);
    raft::prepare(&disk, directory, crate::log::Options::default())
        .map_err(|error| failed(directory, io::Error::other(error)))?;
    raft::write_snapshot(disk.clone(), directory, &machine).map_err(|error| failed(directory, error))?;
    identity.write(&*disk, directory).map_err(|error| failed(directory, error))?;
    let (revision, keys) = (machine.store.revision(), machine.store.len());
    Ok(Restored { cluster_id: identity.cluster_id, revision, keys })
}

/// Reads a saved snapshot and compares its checksum.
fn read(file: &Path) -> Result<Machine, RestoreError> {
    let failed = |error| RestoreError::Io { path: file.to_path_buf(), error };
    let damaged = |error| RestoreError::Damaged { path: file.to_path_buf(), error };
    let length = std::fs::metadata(file).map_err(failed)?.len();
    let Some(state) = length.checked_sub(SUM as u64) else {
        return Err(damaged(StateError::Damaged("it is shorter than its checksum".into())));
    };
    let mut input = std::fs::File::open(file).map_err(failed)?;
    let mut sum = ring::digest::Context::new(&ring::digest::SHA256);
    let (mut left, mut piece) = (state, vec![0; READ_PIECE]);
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        input.read_exact(&mut piece[..count]).map_err(failed)?;
        sum.update(&piece[..count]);
        left -= count as u64;
    }
    let mut wanted = [0; SUM];
    input.read_exact(&mut wanted).map_err(failed)?;
    if sum.finish().as_ref() != wanted {
        let what = "its SHA-256 does not match, or it is no snapshot of this store".into();
        return Err(damaged(StateError::Damaged(what)));
    }
    let input = std::fs::File::open(file).map_err(failed)?;
    Machine::read(&mut io::BufReader::with_capacity(READ_PIECE, input)).map_err(damaged)
}
