//! Starting: lock everything, read all manifests, replay all logs, then serve. Nothing is read before the segments'
//! locks are held, and a volume that cannot be opened stops no other one.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use uring::{Disk, File, Io, LocalDisk, RingOptions};

use super::directory::{Directory, Entry, Place};
use super::limits::{data_thread_count, pool_options, settings_of, thread_options};
use super::recover::{Found, Layout, Opened, claimed_twice, read_manifests, replay, scan, used_segments};
use super::running::Running;
use super::{Driver, DriverOptions, Progress, StartError, StartReport, VolumeRecovery};
use crate::data_thread::background::{Background, Task};
use crate::data_thread::letters::{Letter, Removal};
use crate::data_thread::mailbox::Mailbox;
use crate::data_thread::{DataThread, MAILBOX_CAPACITY, NewVolume, Surroundings, ThreadOptions};
use crate::metrics::Metrics;
use crate::parameters::Parameters;
use crate::pool::keeper::{Audience, Levels, Pool};
use crate::pool::ledger::Home;
use crate::pool::open::{OpenPool, SegmentFiles};
use crate::volume::Settings;
use crate::volume::address::{SegmentId, VolumeId};
use crate::volume::event::Stream;

/// Makes the I/O of one data thread, on that thread.
pub type IoFactory = Arc<dyn Fn() -> io::Result<(Box<dyn Io>, String)> + Send + Sync>;

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
        let layout = Layout::new(&options.data_dir, &options.parameters);
        let threads = data_thread_count(&options.parameters);
        let settings = Arc::new(settings_of(&options.parameters, threads));
        disk.create_dir(&layout.volumes).map_err(refused(format!("create {}", layout.volumes.display())))?;

        let open_pool = OpenPool::open(disk.clone(), pool_options(&options.parameters, &layout))?;
        progress.step("segments", 1, 1);
        let (ids, leftovers) = scan(&*disk, &layout)?;
        let found = read_manifests(&*disk, &layout, ids, progress);
        let doubly = claimed_twice(&found);
        let opened = replay(&*disk, &found, &doubly, &open_pool, options.boot_id, &settings, progress);
        let used = used_segments(&found, &opened, &open_pool)?;

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
            running: Arc::new(Running::new(options.parameters.clone(), settings.clone())),
            directory: Arc::new(Directory::new(threads)),
            mailboxes,
            metrics: metrics.clone(),
            admission: Arc::default(),
            stopping: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
            background: Some(background.clone()),
            background_threads,
            pool: None,
        };
        let surroundings = Surroundings { pool: pool.letters(), levels, background, metrics };
        driver.pool = Some(pool);
        let backend = driver.start_threads(&options.parameters, &settings, &io, &surroundings)?;
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
        settings: &Arc<Settings>,
        io: &IoFactory,
        surroundings: &Surroundings,
    ) -> Result<String, StartError> {
        let (ready, answers) = sync_channel(self.mailboxes.len());
        for (thread, mailbox) in self.mailboxes.iter().enumerate() {
            let options = thread_options(parameters, settings, thread as u32, self.mailboxes.len());
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
                    let own =
                        used.iter().filter(|(_, owner)| *owner == Some(id)).map(|(segment, _)| *segment);
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
    ready: &SyncSender<io::Result<String>>,
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

pub(super) fn refused(what: String) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Io { what, source }
}
