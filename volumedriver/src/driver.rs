//! The driver: everything that serves volumes, behind one value. The command starts it, asks it for volumes, gives it
//! clients, and shuts it down.
//!
//! Calls block (they wait for a disk or a data thread, with a bound) and may come from any thread; none of them is on
//! the path of a client's request.

mod directory;
mod export;
mod limits;
mod parallel;
mod prepare;
mod recover;
mod running;
mod start;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uring::Disk;

use self::directory::{Directory, Entry, Place};
use crate::data_thread::NewVolume;
use crate::data_thread::background::{Background, Task, remove_directory};
use crate::data_thread::letters::{Letter, Recount, Removal, ThreadReport, VolumeReport};
use crate::data_thread::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::nbd::handshake::Exports;
use crate::nbd::listener::{Admission, Attach};
use crate::parameters::Parameters;
use crate::performance::Performance;
use crate::pool::keeper::{Keep, Levels, Pool};
use crate::pool::ledger::Home;
use crate::pool::open::SegmentFiles;
use crate::volume::address::{BootId, VolumeId};
use crate::volume::own::{OwnChange, OwnSettings};

pub use crate::data_thread::letters::Client;
pub use crate::names::VolumeName;
pub use limits::admission_limits;
pub use prepare::{Committed, Prepared, takeable};
use recover::Layout;
use running::Running;
pub use start::IoFactory;

/// Sizes are multiples of this, bytes: the smallest sector a client knows.
const SECTOR: u64 = 512;

/// What a driver is started with.
#[derive(Clone, Debug)]
pub struct DriverOptions {
    /// The data directory; exists.
    pub data_dir: PathBuf,
    /// Checked parameters.
    pub parameters: Parameters,
    /// This boot of the host, to tell a killed process from a power loss.
    pub boot_id: BootId,
}

/// Hears how far a start has come; called on the starting thread.
pub trait Progress {
    /// `done` of `total` things of the kind `what` are ready.
    fn step(&self, what: &str, done: u64, total: u64);
}

/// What a start found.
#[derive(Clone, Debug, Default)]
pub struct StartReport {
    /// All volumes, by name.
    pub volumes: Vec<VolumeRecovery>,
    /// Duration of the start.
    pub took: Duration,
    /// How data threads do their I/O.
    pub backend: String,
}

/// What recovery did to a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeRecovery {
    /// Its name; its UUID if the name could not be read.
    pub name: String,
    /// Records of the log that were replayed.
    pub replayed_records: u64,
    /// Their bytes.
    pub replayed_bytes: u64,
    /// What was cut off the end of the log, if something was.
    pub cut: Option<String>,
    /// Why it is not served, if it is not.
    pub halted: Option<String>,
}

/// Why a driver could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The segment pool.
    #[error(transparent)]
    Pool(#[from] crate::pool::PoolError),
    /// Anything the operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The answer.
        source: io::Error,
    },
}

/// Whether a volume is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum VolumeState {
    /// It is.
    Running,
    /// It is not, for good: something is damaged.
    Halted {
        /// What and where.
        reason: String,
    },
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// Its name, which is its export's.
    pub name: String,
    /// Its identity; names its directory.
    pub uuid: String,
    /// Bytes it offers.
    pub size: u64,
    /// Whether it is served.
    pub state: VolumeState,
    /// Bytes of its log on the local disk.
    pub stored_bytes: u64,
    /// Clients.
    pub connections: u32,
    /// Number of the data thread that serves it; 0 for one that is not served.
    pub data_thread: u32,
    /// Settings of its own; `None` for one that is not served.
    #[serde(skip)]
    pub own: Option<OwnSettings>,
}

/// What a volume did since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStats {
    /// Its name.
    pub name: String,
    /// Reads of clients.
    pub reads: u64,
    /// Writes of clients.
    pub writes: u64,
    /// Flushes of clients.
    pub flushes: u64,
    /// Of these, those that were answered without a sync.
    pub ignored_flushes: u64,
    /// Trims and write-zeroes of clients.
    pub trims: u64,
    /// Bytes given to clients.
    pub read_bytes: u64,
    /// Bytes taken from clients.
    pub written_bytes: u64,
    /// Bytes written to the log, headers included.
    pub log_bytes: u64,
    /// Records written to the log.
    pub records: u64,
    /// Syncs of the log.
    pub syncs: u64,
    /// Bytes that compaction wrote.
    pub relocated_bytes: u64,
    /// Bytes of runs written.
    pub map_bytes: u64,
    /// Map entries in memory, bytes.
    pub memtable_bytes: u64,
    /// Pages of its map in memory.
    pub map_pages: u64,
    /// Clusters that did not match their checksum.
    pub damaged_clusters: u64,
    /// Requests refused for lack of space.
    pub no_space: u64,
    /// Sizes and times of requests, since it was opened or [`Driver::take_stats`] was asked last.
    pub performance: Performance,
}

/// The local disk of the log, bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// Where segments are.
    pub directory: PathBuf,
    /// Bytes of one segment.
    pub segment_size: u64,
    /// All that segments may take.
    pub size: u64,
    /// What is left of it.
    pub free: u64,
    /// What volumes have of it.
    pub used: u64,
    /// So little is free that compaction runs.
    pub tight: bool,
}

/// Why a call about a volume failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// There is none of this name.
    #[error("there is no such volume")]
    NotFound,
    /// The name is taken.
    #[error("the volume exists")]
    Exists,
    /// Clients are connected.
    #[error("the volume is in use")]
    InUse,
    /// A value breaks a rule; the text is the rule.
    #[error("{0}")]
    Invalid(String),
    /// The disk is full.
    #[error("{0}")]
    NoSpace(String),
    /// The volume is not served.
    #[error("the volume is halted: {0}")]
    Halted(String),
    /// The driver is going down.
    #[error("the driver is shutting down")]
    Shutdown,
    /// Anything else.
    #[error("{0}")]
    Io(String),
}

/// See the module. [`Driver::shutdown`] ends it in order; a drop does the same.
pub struct Driver {
    disk: Arc<dyn Disk>,
    layout: Layout,
    boot_id: BootId,
    running: Arc<Running>,
    directory: Arc<Directory>,
    mailboxes: Vec<Arc<Mailbox<Letter>>>,
    metrics: Arc<Metrics>,
    admission: Arc<OnceLock<Admission>>,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    background: Option<Background>,
    background_threads: Vec<JoinHandle<()>>,
    pool: Option<Pool>,
}

impl Driver {
    /// Creates a volume and serves it; durable when it returns. `size` is rounded up to a multiple of 512 bytes.
    pub fn create_volume(&self, name: VolumeName, size: u64) -> Result<VolumeInfo, VolumeError> {
        let size = self.checked_size(size)?;
        self.directory.reserve(name.as_str())?;
        match self.create_reserved(&name, size) {
            Ok(entry) => {
                self.directory.serve(entry);
                self.info(name.as_str())
            }
            Err(error) => {
                self.directory.forget(name.as_str());
                Err(error)
            }
        }
    }

    fn create_reserved(&self, name: &VolumeName, size: u64) -> Result<Arc<Entry>, VolumeError> {
        let id = new_id().map_err(|error| VolumeError::Io(format!("no random numbers: {error}")))?;
        let paths = Arc::new(self.layout.volume(id));
        let created =
            recover::create(&*self.disk, &self.layout, &paths, name.as_str(), id, size).and_then(|()| {
                recover::open_volume(
                    &*self.disk,
                    &paths,
                    &SegmentFiles::default(),
                    self.boot_id,
                    &self.running.now().settings,
                )
                .map_err(VolumeError::Io)
            });
        let volume = match created {
            Ok((volume, _)) => volume,
            Err(error) => {
                if let Err(error) = remove_directory(&*self.disk, &paths.directory) {
                    tracing::warn!(%error, uuid = %id, "files of a volume that could not be created are left");
                }
                return Err(error);
            }
        };
        let home = self.directory.place();
        let halted = Arc::new(OnceLock::new());
        let entry = Entry::new(name.as_str(), id, size, Place::Thread(home), halted.clone());
        let new = NewVolume { volume, files: paths, runs: Default::default(), segments: Vec::new(), halted };
        self.post(home, Letter::Host { volume: home.volume, new: Box::new(new) })?;
        Ok(Arc::new(entry))
    }

    fn checked_size(&self, size: u64) -> Result<u64, VolumeError> {
        let max = self.running.now().parameters.volume_manager.max_volume_size.bytes();
        if size == 0 {
            return Err(VolumeError::Invalid("a volume needs a size".to_owned()));
        }
        match size.checked_next_multiple_of(SECTOR) {
            Some(size) if size <= max => Ok(size),
            _ => Err(VolumeError::Invalid(format!("{size} bytes are more than max_volume_size, {max}"))),
        }
    }

    /// All volumes, by name.
    pub fn list(&self) -> Vec<VolumeInfo> {
        let reports = self.describe_all();
        let entries = self.directory.entries();
        entries.iter().map(|entry| entry.info(find(&reports, entry))).collect()
    }

    /// One volume.
    pub fn info(&self, name: &str) -> Result<VolumeInfo, VolumeError> {
        let entry = self.directory.find(name)?;
        let report = self.describe(&entry, Recount::GoOn)?;
        Ok(entry.info(report.as_ref()))
    }

    /// What a volume did.
    pub fn stats(&self, name: &str) -> Result<VolumeStats, VolumeError> {
        self.stats_then(name, Recount::GoOn)
    }

    /// What a volume did; its [`VolumeStats::performance`] begins from nothing.
    pub fn take_stats(&self, name: &str) -> Result<VolumeStats, VolumeError> {
        self.stats_then(name, Recount::FromNothing)
    }

    fn stats_then(&self, name: &str, recount: Recount) -> Result<VolumeStats, VolumeError> {
        let entry = self.directory.find(name)?;
        match self.describe(&entry, recount)? {
            Some(report) => Ok(stats(name, &report)),
            None => Err(VolumeError::Halted(entry.halted().unwrap_or_default())),
        }
    }

    /// Grows a volume; durable when it returns. Connected clients may use the new size at once.
    pub fn resize(&self, name: &str, size: u64) -> Result<VolumeInfo, VolumeError> {
        let size = self.checked_size(size)?;
        let entry = self.directory.find(name)?;
        let home = entry.home()?;
        let (done, answer) = sync_channel(1);
        self.post(home, Letter::Resize { volume: home.volume, size, done })?;
        self.wait(&answer)??;
        entry.set_size(size);
        self.info(name)
    }

    /// Changes one of a volume's own settings: it holds at once, and is durable when this returns.
    pub fn change_own(&self, name: &str, change: OwnChange) -> Result<(), VolumeError> {
        if change == OwnChange::MapPages(Some(0)) {
            return Err(VolumeError::Invalid("a map needs pages in memory: 1 or more".to_owned()));
        }
        let home = self.directory.find(name)?.home()?;
        let (done, answer) = sync_channel(1);
        self.post(home, Letter::ChangeOwn { volume: home.volume, change, done })?;
        self.wait(&answer)?
    }

    /// Removes a volume that no client uses. What an interruption leaves of its files is removed by the next start.
    pub fn delete(&self, name: &str) -> Result<(), VolumeError> {
        let entry = self.directory.begin_delete(name)?;
        if let Place::Thread(home) = entry.place {
            let (done, answer) = sync_channel(1);
            self.post(home, Letter::Remove { volume: home.volume, done })?;
            let removed = self.wait(&answer)?;
            entry.keep_segments(removed.segments);
        }
        let (live, dead) = (self.layout.volume(entry.id).directory, self.layout.deleted_dir(entry.id));
        let renamed = match self.disk.rename(&live, &dead) {
            // Renamed by an earlier try that could not sync.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        renamed.and_then(|()| self.disk.sync_dir(&self.layout.volumes)).map_err(|error| {
            VolumeError::Io(format!(
                "the volume cannot be removed from {}: {error}",
                self.layout.volumes.display()
            ))
        })?;
        self.directory.forget(name);
        if let (Some(pool), Some(background)) = (&self.pool, &self.background) {
            if pool.letters().send(Keep::Release(entry.take_segments())).is_err() {
                tracing::error!("the segment pool is gone");
            }
            background.order(Task::Remove(Removal::Directory(dead)));
        }
        Ok(())
    }

    /// What NBD clients may see.
    pub fn exports(&self) -> Arc<dyn Exports> {
        Arc::new(export::Served::new(self.directory.clone(), self.mailboxes.clone(), self.stopping.clone()))
    }

    /// Who takes NBD clients.
    pub fn attach(&self) -> Arc<dyn Attach> {
        Arc::new(export::Served::new(self.directory.clone(), self.mailboxes.clone(), self.stopping.clone()))
    }

    /// Shows the listeners' places for connections in the metrics, and gives them other limits when the parameters
    /// change.
    pub fn watch_admission(&self, admission: Admission) {
        // The parameters may have changed since it was made.
        admission.set_limits(admission_limits(&self.running.now().parameters));
        // The first one stays.
        let _ = self.admission.set(admission);
    }

    /// All metrics in Prometheus' text format.
    pub fn metrics_text(&self) -> String {
        let reports = self.describe_all();
        let entries = self.directory.entries();
        let volumes = entries.iter().map(|entry| (entry.info(find(&reports, entry)), find(&reports, entry)));
        let levels = self.pool.as_ref().map(Pool::levels);
        self.metrics.text(volumes, &reports, levels.as_deref(), self.admission.get())
    }

    /// Who is connected, by volume.
    pub fn clients(&self) -> Vec<Client> {
        let ask = |mailbox: &Arc<Mailbox<Letter>>| {
            let (done, answer) = sync_channel(1);
            mailbox.try_post(Letter::Clients { done }).ok().map(|()| answer)
        };
        let answers: Vec<_> = self.mailboxes.iter().map(ask).collect();
        let mut clients: Vec<Client> =
            answers.into_iter().flatten().filter_map(|answer| self.wait(&answer).ok()).flatten().collect();
        clients.sort_by(|a, b| (&a.volume, &a.peer).cmp(&(&b.volume, &b.peer)));
        clients
    }

    /// What the directory of segments holds.
    pub fn space(&self) -> Space {
        let levels = self.pool.as_ref().map(Pool::levels);
        let segments = |count: fn(&Levels) -> u32| {
            levels.as_deref().map_or(0, |levels| u64::from(count(levels)) * levels.segment_size())
        };
        Space {
            directory: self.layout.segments.clone(),
            segment_size: levels.as_deref().map_or(0, Levels::segment_size),
            size: segments(|levels| levels.view().total),
            free: segments(|levels| levels.view().free),
            used: segments(|levels| levels.census().used),
            tight: levels.as_deref().is_some_and(|levels| levels.view().free < levels.view().trigger),
        }
    }

    /// Whether volumes are served: all data threads live and no shutdown began.
    pub fn ready(&self) -> bool {
        !self.stopping.load(Ordering::Acquire) && !self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Lets what is in flight end, makes it durable, and stops.
    pub fn shutdown(self) {
        drop(self);
    }

    fn stop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        for mailbox in &self.mailboxes {
            // A thread that is gone needs no letter.
            mailbox.post(Letter::Shutdown);
        }
        // In this order: who is asked for something outlives who asks.
        join(self.threads.drain(..));
        self.background = None;
        join(self.background_threads.drain(..));
        self.pool = None;
    }

    fn post(&self, home: Home, letter: Letter) -> Result<(), VolumeError> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(VolumeError::Shutdown);
        }
        let posted = self.mailboxes[home.thread as usize].try_post(letter);
        posted.map_err(|_| VolumeError::Io(format!("data thread {} is gone or overloaded", home.thread)))
    }

    fn wait<T>(&self, answer: &Receiver<T>) -> Result<T, VolumeError> {
        let time = self.running.now().call_timeout();
        answer.recv_timeout(time).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                VolumeError::Io(format!("the data thread did not answer within {time:?}"))
            }
            RecvTimeoutError::Disconnected => VolumeError::Shutdown,
        })
    }

    fn describe(&self, entry: &Entry, recount: Recount) -> Result<Option<VolumeReport>, VolumeError> {
        let Place::Thread(home) = entry.place else { return Ok(None) };
        let (done, answer) = sync_channel(1);
        self.post(home, Letter::Describe { volume: Some(home.volume), recount, done })?;
        Ok(self.wait(&answer)?.volumes.pop())
    }

    /// The reports of all data threads; an empty one for a thread that is gone.
    fn describe_all(&self) -> Vec<ThreadReport> {
        let ask = |mailbox: &Arc<Mailbox<Letter>>| {
            let (done, answer) = sync_channel(1);
            mailbox
                .try_post(Letter::Describe { volume: None, recount: Recount::GoOn, done })
                .ok()
                .map(|()| answer)
        };
        let answers: Vec<_> = self.mailboxes.iter().map(ask).collect();
        let wait = |answer: Option<Receiver<ThreadReport>>| {
            answer.and_then(|answer| self.wait(&answer).ok()).unwrap_or_default()
        };
        answers.into_iter().map(wait).collect()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop();
    }
}

fn join(threads: impl Iterator<Item = JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the driver panicked");
        }
    }
}

fn find<'a>(reports: &'a [ThreadReport], entry: &Entry) -> Option<&'a VolumeReport> {
    let Place::Thread(home) = entry.place else { return None };
    let volumes = &reports.get(home.thread as usize)?.volumes;
    let index = volumes.binary_search_by_key(&home.volume, |report| report.volume).ok()?;
    Some(&volumes[index])
}

fn stats(name: &str, report: &VolumeReport) -> VolumeStats {
    let counters = &report.counters;
    VolumeStats {
        name: name.to_owned(),
        reads: counters.reads,
        writes: counters.writes,
        flushes: counters.flushes,
        ignored_flushes: counters.ignored_flushes,
        trims: counters.empties,
        read_bytes: counters.read_bytes,
        written_bytes: counters.written_bytes,
        log_bytes: counters.log_bytes,
        records: counters.records,
        syncs: counters.syncs,
        relocated_bytes: counters.relocated_bytes,
        map_bytes: counters.run_bytes,
        memtable_bytes: report.memtable_bytes as u64,
        map_pages: report.map_pages as u64,
        damaged_clusters: counters.damaged_clusters,
        no_space: counters.no_space,
        performance: report.performance.clone(),
    }
}

/// A random identity (UUID version 4).
fn new_id() -> io::Result<VolumeId> {
    use std::io::Read;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(VolumeId(bytes))
}
