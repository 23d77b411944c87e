//! Files and directories for the places that may block: start-up, background jobs, tests. The data threads use
//! [`crate::Io`] on the descriptors of files opened here.

use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, buffered, for reading.
    Read,
    /// An existing file, `O_DIRECT`, for reading and writing through a ring.
    Direct,
    /// A file that must not exist yet, buffered, for reading and writing.
    CreateNew,
    /// As [`OpenMode::CreateNew`], or an existing one cut to length 0.
    CreateOrTruncate,
}

/// An open file. Closed when dropped.
#[allow(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait File: Send + Sync {
    /// For [`crate::Op`]s; valid as long as this value lives.
    fn fd(&self) -> RawFd;
    /// Fills `buf` from `offset`; `UnexpectedEof` when the file ends before. Direct files need 4096-aligned arguments.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `data` at `offset`. Direct files need 4096-aligned arguments.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// `fdatasync`.
    fn sync(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Cuts or extends (sparse).
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Tries to take the exclusive `flock` that lives as long as the open file description, ring operations in flight
    /// of a killed process included. `false`: another holder.
    fn try_lock(&self) -> io::Result<bool>;
}

/// Directory-level operations. Durable only after [`Disk::sync_dir`] of the directory concerned.
pub trait Disk: Send + Sync {
    /// Opens `path`.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Names of all entries, sorted.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Creates one directory and its missing parents; no error if it is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Atomic rename within one directory or between two; replaces the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in `path` durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Whole content of a file of at most `limit` bytes; `InvalidData` if it is longer.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;
    /// Bytes free for this user on the file system that holds `path`.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
}
