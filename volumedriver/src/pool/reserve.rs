//! Room on the file system that only manifests and runs may use: a zero-written file that is cut when one of them
//! meets "no space", and made whole again later. The pool grants nothing for the log while it is not whole.
//!
//! Its size may change while it is used: [`Reserve::extend`] writes the file longer than the reserve is, so that
//! nobody waits for it, and [`Reserve::set_size`] then makes the reserve as long as the file.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uring::{AlignedBuf, Disk, File, OpenMode};

/// Bytes of one write of zeros.
const STEP: usize = 1 << 20;

/// See the module. Cut and restored by background threads only.
pub struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn File>,
    /// Bytes to have, a multiple of 1 MiB.
    size: AtomicU64,
    /// Bytes there; more than `size` while a larger one is prepared.
    length: AtomicU64,
    /// Held for each change of the file, which is a step at a time.
    changing: Mutex<()>,
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
        let (size, length) = (AtomicU64::new(size), AtomicU64::new(length));
        Ok(Self { disk, path, file, size, length, changing: Mutex::default() })
    }

    /// Whether all of it is there.
    pub fn is_whole(&self) -> bool {
        self.missing() == 0
    }

    /// Bytes that are not there.
    pub fn missing(&self) -> u64 {
        self.size().saturating_sub(self.length())
    }

    /// Bytes to have.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        // Every step leaves the file whole even if its thread panicked.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives `bytes` (rounded up) back to the file system for who met "no space". `false`: nothing is left.
    pub fn give(&self, bytes: u64) -> io::Result<bool> {
        let _alone = self.changing();
        let length = self.length();
        if length == 0 {
            return Ok(false);
        }
        self.cut(length.saturating_sub(bytes.max(1).next_multiple_of(STEP as u64)))?;
        Ok(true)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        // Blocks of a journaled file system come back with the commit of the truncation.
        self.file.sync()?;
        self.length.store(length, Ordering::Release);
        Ok(())
    }

    /// Writes what is missing, one step beyond `margin` free bytes at a time. `false`: the file system is too full.
    pub fn restore(&self, margin: u64) -> io::Result<bool> {
        self.write_until(|| self.is_whole(), margin)
    }

    /// Writes the file longer for a reserve of `size` bytes; the reserve stays as large as it is. `false`: the file
    /// system is too full, or `stopped` said so. Then and whenever the larger one is not wanted any more,
    /// [`Reserve::trim`] gives the rest back.
    pub fn extend(&self, size: u64, margin: u64, stopped: impl Fn() -> bool) -> io::Result<bool> {
        let size = size.next_multiple_of(STEP as u64);
        // Looked at first: the disk is not filled for nothing.
        if self.disk.free_space(&self.path)? < size.saturating_sub(self.length()).saturating_add(margin) {
            return Ok(false);
        }
        let written = self.write_until(|| self.length() >= size || stopped(), margin)?;
        Ok(written && self.length() >= size)
    }

    /// Sets the size. What the file lacks is missing then; what it has more is given back.
    pub fn set_size(&self, size: u64) -> io::Result<()> {
        self.size.store(size.next_multiple_of(STEP as u64), Ordering::Release);
        self.trim()
    }

    /// Gives back what the file has more than the reserve.
    pub fn trim(&self) -> io::Result<()> {
        let _alone = self.changing();
        if self.length() > self.size() { self.cut(self.size()) } else { Ok(()) }
    }

    /// Writes step by step until `enough`. `false`: less than `margin` and a step are free.
    fn write_until(&self, enough: impl Fn() -> bool, margin: u64) -> io::Result<bool> {
        let zeros = AlignedBuf::zeroed(STEP);
        while !enough() {
            let _alone = self.changing();
            let length = self.length();
            if self.disk.free_space(&self.path)? < margin + STEP as u64 {
                return Ok(false);
            }
            match self.file.write_at(&zeros, length) {
                Ok(()) => self.length.store(length + STEP as u64, Ordering::Release),
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    self.file.set_len(length)?;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.file.sync()?;
        Ok(true)
    }
}
