//! The snapshot files of a member: written whole beside the old one, made durable, then given their name.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uring::{Disk, File, OpenMode};

use crate::machine::{Machine, READ_PIECE, StateError};
use crate::words::LogId;

/// Of a finished snapshot.
const SUFFIX: &str = ".snapshot";
/// Of one that is being written.
const UNFINISHED: &str = ".tmp";

/// A snapshot that is open. It stays readable after its name is gone.
#[derive(Clone)]
pub(crate) struct SnapshotFile {
    path: PathBuf,
    file: Arc<dyn File>,
    /// What is in it, if that is known already.
    pub(crate) machine: Option<Arc<Machine>>,
}

impl fmt::Debug for SnapshotFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SnapshotFile {
    /// Up to `count` bytes from `offset`.
    pub(crate) fn piece(&self, offset: u64, count: usize) -> io::Result<Vec<u8>> {
        let left = self.file.len()?.saturating_sub(offset);
        let mut bytes = vec![0; count.min(usize::try_from(left).unwrap_or(usize::MAX))];
        self.file.read_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Adds bytes at `offset` to one that is being received.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    /// Reads and checks all of it.
    ///
    /// # Errors
    /// What is wrong with it, with the name of the file.
    pub(crate) fn load(&self) -> Result<Machine, BadSnapshot> {
        let mut reader = Reader { file: &*self.file, at: 0, piece: Vec::new(), taken: 0 };
        let bad = |error| BadSnapshot { path: self.path.clone(), error };
        let machine = Machine::read(&mut reader).map_err(bad)?;
        let end = reader.at - (reader.piece.len() - reader.taken) as u64;
        match self.file.len() {
            Ok(length) if length == end => Ok(machine),
            Ok(length) => {
                let what = format!("it ends at byte {end}, the file at byte {length}");
                Err(bad(StateError::Damaged(what)))
            }
            Err(error) => Err(bad(error.into())),
        }
    }
}

/// A snapshot that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}: {error}; if the other members are well, remove this one from the cluster, empty its directory and let it join \
     again; else restore a saved snapshot",
    .path.display()
)]
pub struct BadSnapshot {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub error: StateError,
}

/// All snapshots of a member.
#[derive(Clone)]
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    /// Names those that are being written apart.
    unfinished: Arc<AtomicU64>,
}

impl Files {
    /// In `directory`, which is made; the one above it is there durably. What was not finished is removed, and what is
    /// there then is there durably.
    pub(crate) fn open(disk: Arc<dyn Disk>, directory: &Path) -> io::Result<Self> {
        disk.create_dir(directory)?;
        if let Some(parent) = directory.parent() {
            disk.sync_dir(parent)?;
        }
        for name in disk.read_dir(directory)?.iter().filter(|name| name.ends_with(UNFINISHED)) {
            disk.remove_file(&directory.join(name))?;
        }
        // Whoever gave a snapshot its name may have died before that was durable, and the log is purged behind it.
        disk.sync_dir(directory)?;
        Ok(Self { disk, directory: directory.to_path_buf(), unfinished: Arc::default() })
    }

    /// The newest one.
    pub(crate) fn newest(&self) -> io::Result<Option<SnapshotFile>> {
        // Names sort by index.
        let names = self.disk.read_dir(&self.directory)?;
        let Some(name) = names.into_iter().rfind(|name| name.ends_with(SUFFIX)) else { return Ok(None) };
        let path = self.directory.join(name);
        let file = self.disk.open(&path, OpenMode::Read)?;
        Ok(Some(SnapshotFile { path, file, machine: None }))
    }

    /// An empty one, to be filled and finished.
    pub(crate) fn begin(&self) -> io::Result<SnapshotFile> {
        let number = self.unfinished.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{number}{UNFINISHED}"));
        let file = self.disk.open(&path, OpenMode::CreateOrTruncate)?;
        Ok(SnapshotFile { path, file, machine: None })
    }

    /// Writes `machine` as a snapshot.
    pub(crate) fn write(&self, machine: &Machine) -> io::Result<SnapshotFile> {
        let file = self.begin()?;
        let mut writer = Writer { file: &*file.file, at: 0, piece: Vec::with_capacity(READ_PIECE) };
        let written = machine.write(&mut writer).and_then(|()| writer.flush());
        let finished = written.and_then(|()| self.finish(file.clone(), &name(machine.applied)));
        if finished.is_err() {
            // A disk that is full would only get fuller with every try.
            self.discard(&file);
        }
        finished
    }

    /// Makes it durable, gives it its name and removes the older ones.
    pub(crate) fn finish(&self, file: SnapshotFile, name: &str) -> io::Result<SnapshotFile> {
        file.file.sync()?;
        let path = self.directory.join(format!("{name}{SUFFIX}"));
        self.disk.rename(&file.path, &path)?;
        self.disk.sync_dir(&self.directory)?;
        for old in self.disk.read_dir(&self.directory)? {
            let older = old.strip_suffix(SUFFIX).is_some_and(|old| old < name);
            if older {
                self.disk.remove_file(&self.directory.join(old))?;
            }
        }
        Ok(SnapshotFile { path, ..file })
    }

    /// Removes one that will not be finished; one that was finished has another name and stays.
    pub(crate) fn discard(&self, file: &SnapshotFile) {
        if let Err(error) = self.disk.remove_file(&file.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %file.path.display(), %error, "cannot remove a snapshot that was not finished");
        }
    }
}

/// Writes the first snapshot of a member that begins with `machine`.
pub(crate) fn write_snapshot(disk: Arc<dyn Disk>, directory: &Path, machine: &Machine) -> io::Result<()> {
    Files::open(disk, &directory.join(super::recover::SNAPSHOTS))?.write(machine).map(drop)
}

/// Names the snapshot whose last entry is `applied`.
pub(crate) fn name(applied: Option<LogId>) -> String {
    let LogId { term, index } = applied.unwrap_or_default();
    format!("{index:020}-{term:020}")
}

struct Writer<'a> {
    file: &'a dyn File,
    at: u64,
    piece: Vec<u8>,
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= READ_PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.piece, self.at)?;
        self.at += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }
}

struct Reader<'a> {
    file: &'a dyn File,
    /// Where the next piece begins.
    at: u64,
    piece: Vec<u8>,
    taken: usize,
}

impl Read for Reader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() {
            let left = self.file.len()?.saturating_sub(self.at);
            self.piece.resize(READ_PIECE.min(usize::try_from(left).unwrap_or(usize::MAX)), 0);
            self.file.read_at(&mut self.piece, self.at)?;
            self.at += self.piece.len() as u64;
            self.taken = 0;
        }
        let count = bytes.len().min(self.piece.len() - self.taken);
        bytes[..count].copy_from_slice(&self.piece[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}
