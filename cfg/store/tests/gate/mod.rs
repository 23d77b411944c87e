//! A disk whose syncs wait at a gate, so that a test knows what happens meanwhile.

use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use uring::{Disk, File, OpenMode};

#[derive(Default)]
struct State {
    shut: bool,
    /// Syncs that stand before the gate.
    waiting: usize,
}

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

/// A disk behind a gate. Clones have the same gate.
#[derive(Clone)]
pub struct GateDisk {
    disk: Arc<dyn Disk>,
    gate: Arc<Gate>,
}

struct GateFile {
    file: Arc<dyn File>,
    gate: Arc<Gate>,
}

impl GateDisk {
    pub fn new(disk: Arc<dyn Disk>) -> GateDisk {
        GateDisk { disk, gate: Arc::default() }
    }

    /// From now on file syncs wait.
    pub fn shut(&self) {
        self.gate.state.lock().expect("no panic").shut = true;
    }

    /// Lets all syncs pass.
    pub fn open(&self) {
        self.gate.state.lock().expect("no panic").shut = false;
        self.gate.changed.notify_all();
    }

    /// Returns when a sync stands before the gate.
    pub fn wait_for_sync(&self) {
        let state = self.gate.state.lock().expect("no panic");
        drop(self.gate.changed.wait_while(state, |state| state.waiting == 0).expect("no panic"));
    }
}

impl File for GateFile {
    fn fd(&self) -> RawFd {
        self.file.fd()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(data, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.gate.state.lock().expect("no panic");
        state.waiting += 1;
        self.gate.changed.notify_all();
        let mut state = self.gate.changed.wait_while(state, |state| state.shut).expect("no panic");
        state.waiting -= 1;
        drop(state);
        self.file.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}

impl Disk for GateDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(GateFile { file: self.disk.open(path, mode)?, gate: self.gate.clone() }))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.read_dir(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        self.disk.read(path, limit)
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_space(path)
    }
}
