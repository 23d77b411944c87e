//! [`Disk`] and [`File`] of the simulated world: one lock, one state, every call one operation.

use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

use super::content::Change;
use super::faults::FaultOp;
use super::pages::{PAGE, Payload};
use super::state::State;
use super::tree::NodeId;
use super::{Shared, errno};
use crate::{Disk, File, OpenMode};

/// The disk of one boot.
pub(super) struct SimDisk {
    pub(super) shared: Arc<Shared>,
    pub(super) boot: u64,
}

/// An open file of one boot.
struct SimFile {
    shared: Arc<Shared>,
    boot: u64,
    fd: RawFd,
    node: NodeId,
    mode: OpenMode,
}

/// `O_DIRECT`: address, length and offset are multiples of 4096.
pub(super) fn aligned(offset: u64, part: &[u8]) -> io::Result<()> {
    let page = PAGE as usize;
    let fits = offset.is_multiple_of(PAGE)
        && part.len().is_multiple_of(page)
        && (part.as_ptr() as usize).is_multiple_of(page);
    if fits { Ok(()) } else { Err(errno(libc::EINVAL)) }
}

impl SimDisk {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.shared.lock();
        state.enter(self.boot)?;
        act(&mut state)
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let (fd, node) = self.with(|state| state.open(path, mode))?;
        Ok(Arc::new(SimFile { shared: self.shared.clone(), boot: self.boot, fd, node, mode }))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.with(|state| state.tree.list(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.with(|state| state.tree.create_dir(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.with(|state| state.tree.remove_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(|state| state.tree.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.with(|state| state.tree.remove_file(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.with(|state| {
            state.trip(FaultOp::SyncDir, &path.to_string_lossy())?;
            state.tree.sync_dir(path)?;
            state.counters.dir_syncs += 1;
            state.collect();
            Ok(())
        })
    }

    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        self.with(|state| {
            let node = state.tree.resolve(path)?;
            state.trip(FaultOp::Read, &path.to_string_lossy())?;
            let pages = state.tree.file(node)?.content.current();
            if pages.len > limit as u64 {
                let problem = format!("{}: {} bytes, limit {limit}", path.display(), pages.len);
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            let mut bytes = vec![0; pages.len as usize];
            pages.read(0, &mut bytes);
            state.counters.reads += 1;
            Ok(bytes)
        })
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.with(|state| {
            state.tree.resolve(path)?;
            Ok(state.free_space())
        })
    }
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.shared.lock();
        state.enter(self.boot)?;
        act(&mut state)
    }

    fn aligned(&self, offset: u64, part: &[u8]) -> io::Result<()> {
        if self.mode == OpenMode::Direct { aligned(offset, part) } else { Ok(()) }
    }

    fn writable(&self) -> io::Result<()> {
        if self.mode == OpenMode::Read { Err(errno(libc::EBADF)) } else { Ok(()) }
    }
}

impl File for SimFile {
    fn fd(&self) -> RawFd {
        self.fd
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let read = self.with(|state| {
            self.aligned(offset, buf)?;
            state.read(self.fd, offset, buf)
        })?;
        if read < buf.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.with(|state| {
            self.writable()?;
            self.aligned(offset, data)?;
            state.write(self.fd, offset, Payload::new(std::iter::once(data)), false)
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state| state.sync(self.fd, state.clock))
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|state| Ok(state.tree.file(self.node)?.content.current().len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|state| {
            self.writable()?;
            let done = state.advance();
            state.tree.file_mut(self.node)?.content.change(Change::SetLen(len), done, false);
            Ok(())
        })
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.with(|state| state.try_lock(self.fd))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.shared.lock().close(self.fd);
    }
}
