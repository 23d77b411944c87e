//! Starting: lock everything, read all manifests, replay all logs, then serve. Nothing is read before the segments'
//! locks are held, and a volume that cannot be opened stops no other one.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cfg_schema::SizeLimit;
use uring::{Disk, File, Io, LocalDisk, RingOptions};

use super::directory::{Directory, Entry, Place};
use super::{Driver, DriverOptions, Progress, StartError, StartReport, VolumeError, VolumeRecovery, parallel};
use crate::data_thread::background::{Background, Task, open_runs};
use crate::data_thread::letters::{Letter, Removal};
use crate::data_thread::mailbox::Mailbox;
use crate::data_thread::{DataThread, MAILBOX_CAPACITY, NewVolume, Surroundings, ThreadOptions};
use crate::job::{self, Paths};
use crate::metrics::Metrics;
use crate::parameters::Parameters;
use crate::pool::PoolOptions;
use crate::pool::keeper::{Audience, Levels, Pool};
use crate::pool::ledger::Home;
use crate::pool::open::{OpenPool, SegmentFiles};
use crate::recovery::{self, RecoveryReport};
use crate::volume::address::{BootId, CLUSTER_SIZE, RunId, SegmentId, VolumeId};
use crate::volume::event::{Failure, Stream};
use crate::volume::manifest::Manifest;
use crate::volume::{Settings, Volume};

/// Threads that open volumes.
const OPENERS: usize = 4;
/// Prefix of the directory of a volume whose deletion is not complete.
const DELETED: &str = "deleted-";

/// Makes the I/O of one data thread, on that thread.
pub type IoFactory = Arc<dyn Fn() -> io::Result<(Box<dyn Io>, String)> + Send + Sync>;

/// Where things are in the data directory.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The data directory.
    pub data_dir: PathBuf,
    /// One directory for each volume, named by its UUID.
    pub volumes: PathBuf,
    /// The segments.
    pub segments: PathBuf,
}

impl Layout {
    fn new(options: &DriverOptions) -> Self {
        let mount = options.parameters.scocache.scocache_mount_points.first();
        let segments = mount.map_or_else(|| PathBuf::from("scocache"), |mount| mount.path.clone());
        let data_dir = options.data_dir.clone();
        Self { volumes: data_dir.join("volumes"), segments: data_dir.join(segments), data_dir }
    }

    pub(super) fn deleted_dir(&self, id: VolumeId) -> PathBuf {
        self.volumes.join(format!("{DELETED}{id}"))
    }

    pub(super) fn volume(&self, id: VolumeId) -> Paths {
        Paths::new(&self.data_dir, id)
    }
}

/// A volume found on the disk.
struct Found {
    id: VolumeId,
    paths: Arc<Paths>,
    manifest: Result<Manifest, String>,
}

/// An opened one.
struct Opened {
    volume: Volume,
    report: RecoveryReport,
    runs: HashMap<RunId, Arc<dyn File>>,
}

impl Driver {
    /// Starts on this machine's disk and rings.
    pub fn start(
        options: DriverOptions,
        progress: &dyn Progress,
    ) -> Result<(Driver, StartReport), StartError> {
        let manager = &options.parameters.volume_manager;
        let backend = manager.io_backend.into();
        let ring = RingOptions {
            entries: manager.ring_entries,
            workers: manager.io_threads as usize,
            ..RingOptions::default()
        };
        let io: IoFactory = Arc::new(move || {
            let (io, probe) = uring::open(backend, &ring)?;
            Ok((io, probe.to_string()))
        });
        Self::start_on(options, Arc::new(LocalDisk), io, progress)
    }

    /// Starts on any disk and any I/O.
    pub fn start_on(
        options: DriverOptions,
        disk: Arc<dyn Disk>,
        io: IoFactory,
        progress: &dyn Progress,
    ) -> Result<(Driver, StartReport), StartError> {
        let started = Instant::now();
        let layout = Layout::new(&options);
        let settings = Arc::new(settings_of(&options.parameters));
        disk.create_dir(&layout.volumes).map_err(refused(format!("create {}", layout.volumes.display())))?;

        let open_pool = OpenPool::open(disk.clone(), pool_options(&options.parameters, &layout))?;
        progress.step("segments", 1, 1);
        let (ids, leftovers) = scan(&*disk, &layout)?;
        let found = read_manifests(&*disk, &layout, ids, progress);
        let doubly = claimed_twice(&found);
        let opened = replay(&*disk, &found, &doubly, open_pool.files(), options.boot_id, &settings, progress);
        let used = used_segments(&found, &opened, &open_pool)?;

        let threads = data_thread_count(&options.parameters);
        let mailboxes: Vec<_> = (0..threads).map(|_| Mailbox::new(MAILBOX_CAPACITY)).collect();
        let levels = Arc::new(Levels::default());
        let files = open_pool.files().clone();
        let reserve = open_pool.reserve();
        let audience = Box::new(Mailboxes(mailboxes.clone()));
        let in_use: HashSet<SegmentId> = used.iter().map(|(segment, _)| *segment).collect();
        let pool = Pool::start(open_pool, &in_use, levels.clone(), audience)
            .map_err(refused("start the segment pool".to_owned()))?;
        let (background, background_threads) =
            Background::start(disk.clone(), reserve, pool.letters(), mailboxes.clone())
                .map_err(refused("start background threads".to_owned()))?;
        let metrics = Arc::new(Metrics::new(options.parameters.metrics.metrics_per_volume));
        let mut driver = Driver {
            disk,
            layout: layout.clone(),
            boot_id: options.boot_id,
            settings,
            max_volume_size: options.parameters.volume_manager.max_volume_size.bytes(),
            directory: Arc::new(Directory::new(threads)),
            mailboxes,
            metrics: metrics.clone(),
            admission: OnceLock::new(),
            stopping: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
            background: Some(background.clone()),
            background_threads,
            pool: None,
        };
        let surroundings = Surroundings { pool: pool.letters(), levels, background, metrics };
        driver.pool = Some(pool);
        let backend = driver.start_threads(&options.parameters, &io, &surroundings)?;
        driver.metrics.set_backend(&backend);
        for directory in leftovers {
            surroundings.background.order(Task::Remove(Removal::Directory(directory)));
        }
        let volumes = driver.host_all(found, opened, &used, &files)?;
        Ok((driver, StartReport { volumes, took: started.elapsed(), backend }))
    }

    /// Starts the data threads; how they do their I/O.
    fn start_threads(
        &mut self,
        parameters: &Parameters,
        io: &IoFactory,
        surroundings: &Surroundings,
    ) -> Result<String, StartError> {
        let (ready, answers) = channel();
        for (thread, mailbox) in self.mailboxes.iter().enumerate() {
            let options = thread_options(parameters, thread as u32, self.mailboxes.len());
            let (mailbox, surroundings, io) = (mailbox.clone(), surroundings.clone(), io.clone());
            let ready = ready.clone();
            let builder = std::thread::Builder::new().name(format!("ovs-data-{thread}"));
            let spawned = builder.spawn(move || serve(&io, mailbox, surroundings, options, &ready));
            self.threads.push(spawned.map_err(refused("start a data thread".to_owned()))?);
        }
        drop(ready);
        let mut backend = String::new();
        // Each thread keeps its end of the channel and answers once.
        for answer in answers.iter().take(self.mailboxes.len()) {
            backend = answer.map_err(refused("open the I/O of a data thread".to_owned()))?;
        }
        Ok(backend)
    }

    /// Gives every volume to a data thread, and lists those that could not be opened.
    fn host_all(
        &self,
        found: Vec<Found>,
        opened: Vec<Result<Opened, String>>,
        used: &[(SegmentId, Option<VolumeId>)],
        files: &SegmentFiles,
    ) -> Result<Vec<VolumeRecovery>, StartError> {
        let mut reports = Vec::with_capacity(found.len());
        for (found, opened) in found.into_iter().zip(opened) {
            let id = found.id;
            let (mut name, size) = match &found.manifest {
                Ok(manifest) => (manifest.name.clone(), manifest.size),
                Err(_) => (id.to_string(), 0),
            };
            let unique = self.directory.reserve(&name).is_ok();
            if !unique {
                name = id.to_string();
            }
            let opened = if unique { opened } else { Err("another volume has the same name".to_owned()) };
            let halted = Arc::new(OnceLock::new());
            let mut recovery = VolumeRecovery { name: name.clone(), ..VolumeRecovery::default() };
            let entry = match opened {
                Ok(Opened { volume, report, runs }) => {
                    recovery.replayed_records = report.records;
                    recovery.replayed_bytes = report.bytes;
                    recovery.cut = report.cut;
                    let home = self.directory.place();
                    let segments =
                        volume.segments().filter_map(|id| Some((id, files.get(id)?.clone()))).collect();
                    let halted_too = halted.clone();
                    let new = NewVolume { volume, files: found.paths, runs, segments, halted: halted_too };
                    let letter = Letter::Host { volume: home.volume, new: Box::new(new) };
                    if !self.mailboxes[home.thread as usize].post(letter) {
                        let gone = io::Error::other("a data thread ended");
                        return Err(refused("serve volumes".to_owned())(gone));
                    }
                    Entry::new(&name, id, size, Place::Thread(home), halted)
                }
                Err(reason) => {
                    tracing::error!(volume = name, uuid = %id, reason, "volume halted");
                    recovery.halted = Some(reason.clone());
                    // Just made: it is empty.
                    let _ = halted.set(reason);
                    let entry = Entry::new(&name, id, size, Place::Nowhere, halted);
                    let own = used.iter().filter(|(_, owner)| *owner == Some(id)).map(|(segment, _)| *segment);
                    entry.keep_segments(own.collect());
                    entry
                }
            };
            self.directory.serve(Arc::new(entry));
            reports.push(recovery);
        }
        reports.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(reports)
    }
}

/// A data thread from start to end.
fn serve(
    io: &IoFactory,
    mailbox: Arc<Mailbox<Letter>>,
    surroundings: Surroundings,
    options: ThreadOptions,
    ready: &Sender<io::Result<String>>,
) {
    let number = options.thread;
    let thread = match io() {
        Ok((io, backend)) => {
            let thread = DataThread::new(io, mailbox, surroundings, options);
            // The driver waits for it, then posts letters: by now one of them wakes the thread.
            let _ = ready.send(Ok(backend));
            thread
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            mailbox.close();
            return;
        }
    };
    if let Err(error) = thread.run() {
        tracing::error!(thread = number, %error, "a data thread ended; its volumes are not served any more");
    }
}

/// Creates the files of a volume.
pub(super) fn create(
    disk: &dyn Disk,
    layout: &Layout,
    paths: &Paths,
    name: &str,
    id: VolumeId,
    size: u64,
) -> Result<(), VolumeError> {
    let refused = |failure| match failure {
        Failure::NoSpace => VolumeError::NoSpace(failure.to_string()),
        failure => VolumeError::Io(failure.to_string()),
    };
    disk.create_dir(&paths.directory).map_err(|error| refused(job::failure(&error)))?;
    recovery::create(disk, paths, name, id, size).map_err(refused)?;
    disk.sync_dir(&layout.volumes).map_err(|error| refused(job::failure(&error)))
}

/// Opens one volume, whose manifest is read anew.
pub(super) fn open_volume(
    disk: &dyn Disk,
    paths: &Arc<Paths>,
    segments: &SegmentFiles,
    boot: BootId,
    settings: &Arc<Settings>,
) -> Result<(Volume, RecoveryReport), String> {
    let manifest = job::read_manifest(disk, paths).map_err(|error| error.to_string())?;
    recover(disk, paths, &manifest, segments, boot, settings)
}

fn recover(
    disk: &dyn Disk,
    paths: &Paths,
    manifest: &Manifest,
    segments: &SegmentFiles,
    boot: BootId,
    settings: &Arc<Settings>,
) -> Result<(Volume, RecoveryReport), String> {
    let file = |segment: SegmentId| segments.get(segment).cloned();
    recovery::replay(disk, paths, manifest, &file, boot, settings.clone()).map_err(|error| error.to_string())
}

/// The volumes' identities, and the directories to remove: of volumes whose deletion was interrupted, and of those
/// whose creation was.
fn scan(disk: &dyn Disk, layout: &Layout) -> Result<(Vec<VolumeId>, Vec<PathBuf>), StartError> {
    let read = |path: &PathBuf| disk.read_dir(path).map_err(refused(format!("read {}", path.display())));
    let (mut ids, mut leftovers) = (Vec::new(), Vec::new());
    for name in read(&layout.volumes)? {
        let path = layout.volumes.join(&name);
        match name.parse() {
            // The first manifest is renamed into place before the creation is acknowledged.
            Ok(_) if read(&path)?.iter().all(|name| name == "manifest.new") => leftovers.push(path),
            Ok(id) => ids.push(id),
            Err(()) if name.starts_with(DELETED) => leftovers.push(path),
            Err(()) => tracing::warn!(name, "not a volume; left alone"),
        }
    }
    Ok((ids, leftovers))
}

fn read_manifests(
    disk: &dyn Disk,
    layout: &Layout,
    ids: Vec<VolumeId>,
    progress: &dyn Progress,
) -> Vec<Found> {
    let total = ids.len() as u64;
    let read = |id: &VolumeId| {
        let paths = Arc::new(layout.volume(*id));
        let manifest = job::read_manifest(disk, &paths).map_err(|error| format!("manifest: {error}"));
        Found { id: *id, paths, manifest }
    };
    parallel::map(&ids, OPENERS, read, |done| progress.step("manifests", done as u64, total))
}

/// Segments that several manifests name. That cannot happen; if it did, none of these volumes may be trusted.
fn claimed_twice(found: &[Found]) -> HashSet<SegmentId> {
    let mut seen = HashSet::new();
    let manifests = found.iter().filter_map(|found| found.manifest.as_ref().ok());
    let claimed = manifests.flat_map(|manifest| manifest.scos.iter().map(|sco| sco.segment));
    claimed.filter(|&segment| !seen.insert(segment)).collect()
}

fn replay(
    disk: &dyn Disk,
    found: &[Found],
    doubly: &HashSet<SegmentId>,
    segments: &SegmentFiles,
    boot: BootId,
    settings: &Arc<Settings>,
    progress: &dyn Progress,
) -> Vec<Result<Opened, String>> {
    let total = found.len() as u64;
    let open = |found: &Found| {
        let manifest = found.manifest.as_ref().map_err(String::clone)?;
        if let Some(sco) = manifest.scos.iter().find(|sco| doubly.contains(&sco.segment)) {
            return Err(format!("segment {} belongs to another volume, too", sco.segment));
        }
        let (volume, report) = recover(disk, &found.paths, manifest, segments, boot, settings)?;
        let runs = open_runs(disk, &found.paths, volume.runs()).map_err(|error| format!("a run: {error}"))?;
        Ok(Opened { volume, report, runs: runs.into_iter().collect() })
    };
    parallel::map(found, OPENERS, open, |done| progress.step("volumes", done as u64, total))
}

/// All segments that must not be handed out, with their owners as far as known.
fn used_segments(
    found: &[Found],
    opened: &[Result<Opened, String>],
    pool: &OpenPool,
) -> Result<Vec<(SegmentId, Option<VolumeId>)>, StartError> {
    let mut used: HashMap<SegmentId, Option<VolumeId>> = HashMap::new();
    let mut unreadable = Vec::new();
    for (found, opened) in found.iter().zip(opened) {
        match &found.manifest {
            // Also those that the volume gave up while it was opened: the manifest on disk still names them.
            Ok(manifest) => used.extend(manifest.scos.iter().map(|sco| (sco.segment, Some(found.id)))),
            Err(_) => unreadable.push(found.id),
        }
        if let Ok(opened) = opened {
            used.extend(opened.volume.segments().map(|segment| (segment, Some(found.id))));
        }
    }
    if !unreadable.is_empty() {
        let others: Vec<_> = pool.files().ids().filter(|segment| !used.contains_key(segment)).collect();
        used.extend(pool.segments_of_unreadable(&unreadable, others.into_iter())?);
    }
    Ok(used.into_iter().collect())
}

/// Answers of the pool, as letters.
struct Mailboxes(Vec<Arc<Mailbox<Letter>>>);

impl Audience for Mailboxes {
    fn granted(&self, home: Home, stream: Stream, segments: Vec<(SegmentId, Arc<dyn File>)>) {
        // A thread that is gone has no volumes left; its segments are found free by the next start.
        self.0[home.thread as usize].post(Letter::Granted { volume: home.volume, stream, segments });
    }

    fn level_changed(&self) {
        for mailbox in &self.0 {
            mailbox.post(Letter::LevelChanged);
        }
    }
}

fn refused(what: String) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Io { what, source }
}

fn data_thread_count(parameters: &Parameters) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    parameters.volume_manager.data_thread_count(cores)
}

fn settings_of(parameters: &Parameters) -> Settings {
    let manager = &parameters.volume_manager;
    let blocks = |bytes: u64| bytes / CLUSTER_SIZE as u64;
    Settings {
        segment_blocks: blocks(parameters.scocache.segment_size.bytes()) as u32,
        record_blocks: blocks(manager.record_size.bytes()) as u16,
        records_in_flight: manager.log_records_in_flight as usize,
        replay_bytes: manager.log_replay_limit.bytes(),
        run_bytes: manager.run_size.bytes(),
        compaction_records_in_flight: manager.compaction_records_in_flight as usize,
        ..Settings::default()
    }
}

fn pool_options(parameters: &Parameters, layout: &Layout) -> PoolOptions {
    let scocache = &parameters.scocache;
    // The reserve lies in the same directory and counts as its share.
    let reserve = scocache.reserve_size.bytes();
    let size = scocache.scocache_mount_points.first().and_then(|mount| match mount.size {
        SizeLimit::Bytes(size) => Some(size.bytes().saturating_sub(reserve)),
        SizeLimit::Unlimited => None,
    });
    PoolOptions {
        directory: layout.segments.clone(),
        segment_size: scocache.segment_size.bytes(),
        size,
        reserve_size: reserve,
        compaction_reserve: 3,
        ready_min: 4,
        ready_max: 16,
        trigger_gap: scocache.trigger_gap.bytes(),
        backoff_gap: scocache.backoff_gap.bytes(),
        lock_wait: parameters.volume_manager.lock_wait_ms.duration(),
    }
}

fn thread_options(parameters: &Parameters, thread: u32, threads: usize) -> ThreadOptions {
    let manager = &parameters.volume_manager;
    let write_bytes = manager.write_bytes_in_flight.bytes() as usize;
    ThreadOptions {
        thread,
        requests_in_flight: parameters.nbd.nbd_requests_in_flight as usize,
        reply_bytes: 16 << 20,
        read_bytes: manager.read_bytes_in_flight.bytes() as usize,
        volume_write_bytes: (write_bytes / 4).max(1 << 20),
        write_bytes,
        memtable_bytes: manager.memtable_limit.bytes() as usize / threads,
        page_cache_bytes: manager.metadata_cache_capacity as usize * CLUSTER_SIZE / threads,
        send_timeout: Duration::from_secs(60),
        tick: Duration::from_millis(100),
        shutdown_timeout: Duration::from_secs(10),
    }
}
