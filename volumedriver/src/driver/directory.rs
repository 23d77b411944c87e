//! Which volumes there are, and on which data thread. Looked at when something is created, listed or attached; never on
//! the path of a request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::{VolumeError, VolumeInfo, VolumeState};
use crate::data_thread::ConnectionCount;
use crate::data_thread::letters::VolumeReport;
use crate::pool::ledger::Home;
use crate::volume::address::{SegmentId, VolumeId};

/// Where a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Served by a data thread.
    Thread(Home),
    /// It could not be opened.
    Nowhere,
}

/// A volume as the driver knows it.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) id: VolumeId,
    pub(super) place: Place,
    size: AtomicU64,
    connections: Arc<AtomicU32>,
    /// Set once, by recovery or by its data thread.
    halted: Arc<OnceLock<String>>,
    /// What it owned before it left its thread, or what it owns nowhere.
    segments: Mutex<Vec<SegmentId>>,
}

impl Entry {
    pub(super) fn new(
        name: &str,
        id: VolumeId,
        size: u64,
        place: Place,
        halted: Arc<OnceLock<String>>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            id,
            place,
            size: AtomicU64::new(size),
            connections: Arc::default(),
            halted,
            segments: Mutex::default(),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Sizes only grow, whatever the order of two resizes' answers.
    pub(super) fn set_size(&self, size: u64) {
        self.size.fetch_max(size, Ordering::AcqRel);
    }

    pub(super) fn halted(&self) -> Option<String> {
        self.halted.get().cloned()
    }

    /// Its data thread, if it is served.
    pub(super) fn home(&self) -> Result<Home, VolumeError> {
        match self.place {
            Place::Thread(home) => Ok(home),
            Place::Nowhere => Err(VolumeError::Halted(self.halted().unwrap_or_default())),
        }
    }

    pub(super) fn keep_segments(&self, segments: Vec<SegmentId>) {
        lock(&self.segments).extend(segments);
    }

    pub(super) fn take_segments(&self) -> Vec<SegmentId> {
        std::mem::take(&mut *lock(&self.segments))
    }

    /// For people; `report` is its data thread's.
    pub(super) fn info(&self, report: Option<&VolumeReport>) -> VolumeInfo {
        let halted = report.and_then(|report| report.halted.clone()).or_else(|| self.halted());
        VolumeInfo {
            name: self.name.clone(),
            uuid: self.id.to_string(),
            size: report.map_or(self.size(), |report| report.size),
            state: halted.map_or(VolumeState::Running, |reason| VolumeState::Halted { reason }),
            stored_bytes: report.map_or(0, |report| report.stored_bytes),
            connections: self.connections.load(Ordering::Acquire),
            data_thread: match self.place {
                Place::Thread(home) => home.thread,
                Place::Nowhere => 0,
            },
            own: report.map(|report| report.own),
        }
    }
}

enum Slot {
    /// The name is taken by a creation in progress.
    Reserved,
    Present(Arc<Entry>),
    /// Not listed; takes no clients.
    Deleting(Arc<Entry>),
}

struct Table {
    slots: BTreeMap<String, Slot>,
    /// Volumes by thread, and the next index to give; an index is never given again.
    load: Vec<u32>,
    next: Vec<u32>,
}

/// See the module.
pub(super) struct Directory(Mutex<Table>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is a single step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Directory {
    pub(super) fn new(threads: usize) -> Self {
        Self(Mutex::new(Table { slots: BTreeMap::new(), load: vec![0; threads], next: vec![0; threads] }))
    }

    /// Takes a name for a creation; [`Directory::serve`] or [`Directory::forget`] follows.
    pub(super) fn reserve(&self, name: &str) -> Result<(), VolumeError> {
        let mut table = lock(&self.0);
        if table.slots.contains_key(name) {
            return Err(VolumeError::Exists);
        }
        table.slots.insert(name.to_owned(), Slot::Reserved);
        Ok(())
    }

    /// The place of a new volume: on the thread with the fewest.
    pub(super) fn place(&self) -> Home {
        let mut table = lock(&self.0);
        let thread = (0..table.load.len()).min_by_key(|&thread| table.load[thread]).unwrap_or(0);
        table.load[thread] += 1;
        let volume = table.next[thread];
        table.next[thread] += 1;
        Home { thread: thread as u32, volume }
    }

    /// The volume is there from now on.
    pub(super) fn serve(&self, entry: Arc<Entry>) {
        lock(&self.0).slots.insert(entry.name.clone(), Slot::Present(entry));
    }

    /// The name is free from now on.
    pub(super) fn forget(&self, name: &str) {
        let mut table = lock(&self.0);
        if let Some(Slot::Present(entry) | Slot::Deleting(entry)) = table.slots.remove(name)
            && let Place::Thread(home) = entry.place
        {
            table.load[home.thread as usize] -= 1;
        }
    }

    pub(super) fn find(&self, name: &str) -> Result<Arc<Entry>, VolumeError> {
        match lock(&self.0).slots.get(name) {
            Some(Slot::Present(entry)) => Ok(entry.clone()),
            _ => Err(VolumeError::NotFound),
        }
    }

    /// No client can attach from now on; may be called again after a deletion that failed.
    pub(super) fn begin_delete(&self, name: &str) -> Result<Arc<Entry>, VolumeError> {
        let mut table = lock(&self.0);
        let slot = table.slots.get_mut(name).ok_or(VolumeError::NotFound)?;
        let entry = match slot {
            Slot::Reserved => return Err(VolumeError::NotFound),
            Slot::Present(entry) | Slot::Deleting(entry) => entry.clone(),
        };
        if entry.connections.load(Ordering::Acquire) > 0 {
            return Err(VolumeError::InUse);
        }
        *slot = Slot::Deleting(entry.clone());
        Ok(entry)
    }

    /// Counts a new client of a served volume.
    pub(super) fn connect(&self, name: &str) -> Result<(Home, ConnectionCount), VolumeError> {
        let table = lock(&self.0);
        let Some(Slot::Present(entry)) = table.slots.get(name) else { return Err(VolumeError::NotFound) };
        // Counted under the lock: a deletion sees it, or it sees the deletion.
        Ok((entry.home()?, ConnectionCount::new(entry.connections.clone())))
    }

    /// All that are there, by name.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        let present = |slot: &Slot| match slot {
            Slot::Present(entry) => Some(entry.clone()),
            Slot::Reserved | Slot::Deleting(_) => None,
        };
        lock(&self.0).slots.values().filter_map(present).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, place: Place) -> Arc<Entry> {
        Arc::new(Entry::new(name, VolumeId([1; 16]), 4096, place, Arc::default()))
    }

    #[test]
    fn names_are_taken_once_and_deletion_and_clients_exclude_each_other() {
        let directory = Directory::new(2);
        directory.reserve("a").unwrap();
        assert_eq!(directory.reserve("a"), Err(VolumeError::Exists));
        assert_eq!(directory.connect("a").err(), Some(VolumeError::NotFound));
        let home = directory.place();
        directory.serve(entry("a", Place::Thread(home)));
        let (_, client) = directory.connect("a").unwrap();
        assert_eq!(directory.begin_delete("a").err(), Some(VolumeError::InUse));
        drop(client);
        directory.begin_delete("a").unwrap();
        assert_eq!(directory.connect("a").err(), Some(VolumeError::NotFound));
        assert_eq!(directory.reserve("a"), Err(VolumeError::Exists), "until its files are out of the way");
        directory.forget("a");
        directory.reserve("a").unwrap();
    }

    #[test]
    fn the_thread_with_fewest_volumes_gets_the_next() {
        let directory = Directory::new(2);
        let homes: Vec<Home> = (0..4).map(|_| directory.place()).collect();
        let threads: Vec<u32> = homes.iter().map(|home| home.thread).collect();
        assert_eq!(threads, [0, 1, 0, 1]);
        directory.serve(entry("b", Place::Thread(homes[3])));
        directory.forget("b");
        assert_eq!(directory.place(), Home { thread: 1, volume: 2 }, "an index is not given again");
    }

    #[test]
    fn a_volume_that_is_nowhere_is_listed_with_its_reason() {
        let directory = Directory::new(1);
        let halted = Arc::new(OnceLock::from("manifest damaged".to_owned()));
        directory.serve(Arc::new(Entry::new("c", VolumeId([2; 16]), 0, Place::Nowhere, halted)));
        let error = VolumeError::Halted("manifest damaged".to_owned());
        assert_eq!(directory.connect("c").err(), Some(error));
        let state = VolumeState::Halted { reason: "manifest damaged".to_owned() };
        assert_eq!(directory.entries()[0].info(None).state, state);
    }
}
