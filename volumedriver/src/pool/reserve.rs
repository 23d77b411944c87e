//! Room on the file system that only manifests and runs may use: a zero-written file that is cut when one of them
//! meets "no space", and made whole again later. The pool grants nothing for the log while it is not whole.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uring::{AlignedBuf, Disk, File, OpenMode};

/// Bytes of one write of zeros.
const STEP: usize = 1 << 20;

/// See the module. Cut and restored by background threads only.
pub struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn File>,
    /// Bytes to have, a multiple of 1 MiB.
    size: u64,
    /// Bytes there.
    length: AtomicU64,
}

impl Reserve {
    /// Opens or creates the file. It may be shorter than `size` afterwards: [`Reserve::restore`] fills it.
    pub fn open(disk: Arc<dyn Disk>, path: PathBuf, size: u64) -> io::Result<Self> {
        let size = size.next_multiple_of(STEP as u64);
        match disk.open(&path, OpenMode::CreateNew) {
            Ok(_) => disk.sync_dir(path.parent().unwrap_or(&path))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let file = disk.open(&path, OpenMode::Direct)?;
        // A length that is no multiple of a step was never written by `restore`.
        let mut length = file.len()?;
        if length > size || length % STEP as u64 != 0 {
            length = length.min(size) / STEP as u64 * STEP as u64;
            file.set_len(length)?;
        }
        Ok(Self { disk, path, file, size, length: AtomicU64::new(length) })
    }

    /// Whether all of it is there.
    pub fn is_whole(&self) -> bool {
        self.missing() == 0
    }

    /// Bytes that are not there.
    pub fn missing(&self) -> u64 {
        self.size - self.length.load(Ordering::Acquire)
    }

    /// Gives `bytes` (rounded up) back to the file system for who met "no space". `false`: nothing is left.
    pub fn give(&self, bytes: u64) -> io::Result<bool> {
        let length = self.length.load(Ordering::Acquire);
        if length == 0 {
            return Ok(false);
        }
        let rest = length.saturating_sub(bytes.max(1).next_multiple_of(STEP as u64));
        self.file.set_len(rest)?;
        // Blocks of a journaled file system come back with the commit of the truncation.
        self.file.sync()?;
        self.length.store(rest, Ordering::Release);
        Ok(true)
    }

    /// Writes what is missing, one step beyond `margin` free bytes at a time. `false`: the file system is too full.
    pub fn restore(&self, margin: u64) -> io::Result<bool> {
        let zeros = AlignedBuf::zeroed(STEP);
        while !self.is_whole() {
            let length = self.length.load(Ordering::Acquire);
            if self.disk.free_space(&self.path)? < margin + STEP as u64 {
                return Ok(false);
            }
            match self.file.write_at(&zeros, length) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    self.file.set_len(length)?;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
            // A racing `give` wins: what it cut is missing, and the next round sees that.
            let grown = length + STEP as u64;
            if self.length.compare_exchange(length, grown, Ordering::AcqRel, Ordering::Acquire).is_err() {
                self.file.set_len(self.length.load(Ordering::Acquire))?;
            }
        }
        self.file.sync()?;
        Ok(true)
    }
}
