//! Jobs that block: manifests, runs, removals. Two threads, so that a manifest, on which a volume's log may wait, is
//! never behind a merge.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use uring::{Disk, File, OpenMode};

use super::letters::{Built, Letter, Removal, VolumeFiles};
use super::mailbox::Mailbox;
use crate::job::{self, failure};
use crate::pool::keeper::Keep;
use crate::pool::ledger::Home;
use crate::pool::reserve::Reserve;
use crate::volume::address::{ManifestVersion, RunId};
use crate::volume::event::{Failure, JobId, MergeInput, RunsBuilt};
use crate::volume::run::MapEntry;

/// Jobs that may wait for each thread; a data thread that finds it full tries again later.
const TASKS: usize = 4096;
/// What a job that meets "no space" takes from the reserve at a time, bytes.
const RESERVE_STEP: u64 = 8 << 20;

/// One job.
#[derive(Debug)]
pub enum Task {
    /// [`Output::WriteManifest`](crate::volume::event::Output::WriteManifest).
    WriteManifest {
        /// Who waits.
        home: Home,
        /// Where to.
        files: VolumeFiles,
        /// Its number.
        version: ManifestVersion,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// [`Output::BuildRun`](crate::volume::event::Output::BuildRun).
    BuildRun {
        /// Who waits.
        home: Home,
        /// Where to.
        files: VolumeFiles,
        /// Its number.
        job: JobId,
        /// The run's number.
        run: RunId,
        /// Its content, sorted.
        entries: Vec<MapEntry>,
    },
    /// [`Output::MergeRuns`](crate::volume::event::Output::MergeRuns).
    MergeRuns {
        /// Who waits.
        home: Home,
        /// Where from and to.
        files: VolumeFiles,
        /// Its number.
        job: JobId,
        /// What to merge, the newest first.
        inputs: Vec<MergeInput>,
        /// Number of the first run made.
        first_run: RunId,
        /// Nothing lies beneath: what is empty can go.
        bottom: bool,
        /// Size of a run made.
        run_bytes_max: u64,
    },
    /// Files nobody needs.
    Remove(Removal),
}

/// Where jobs are ordered. Clones are the same threads.
#[derive(Clone)]
pub struct Background {
    manifests: SyncSender<Task>,
    others: SyncSender<Task>,
}

impl Background {
    /// Starts the threads. They end when the last clone is gone and their queues are empty.
    pub fn start(
        disk: Arc<dyn Disk>,
        reserve: Arc<Reserve>,
        pool: SyncSender<Keep>,
        mailboxes: Vec<Arc<Mailbox<Letter>>>,
    ) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let worker = Worker { disk, reserve, pool, mailboxes };
        let mut threads = Vec::new();
        let mut spawn = |name: &str| -> io::Result<SyncSender<Task>> {
            let (sender, tasks) = sync_channel(TASKS);
            let worker = worker.clone();
            let thread = std::thread::Builder::new().name(name.into());
            threads.push(thread.spawn(move || worker.run(tasks))?);
            Ok(sender)
        };
        let background = Self { manifests: spawn("ovs-manifest")?, others: spawn("ovs-runs")? };
        Ok((background, threads))
    }

    /// Orders a job, whose end comes as a letter. Comes back if too many wait.
    pub fn try_order(&self, task: Task) -> Result<(), Task> {
        match self.lane(&task).try_send(task) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(task)) => Err(task),
            Err(TrySendError::Disconnected(_)) => {
                tracing::error!("a background thread is gone");
                Ok(())
            }
        }
    }

    /// As [`Background::try_order`], but waits: not for data threads.
    pub fn order(&self, task: Task) {
        if self.lane(&task).send(task).is_err() {
            tracing::error!("a background thread is gone");
        }
    }

    fn lane(&self, task: &Task) -> &SyncSender<Task> {
        if matches!(task, Task::WriteManifest { .. }) { &self.manifests } else { &self.others }
    }
}

#[derive(Clone)]
struct Worker {
    disk: Arc<dyn Disk>,
    reserve: Arc<Reserve>,
    pool: SyncSender<Keep>,
    mailboxes: Vec<Arc<Mailbox<Letter>>>,
}

impl Worker {
    fn run(self, tasks: Receiver<Task>) {
        for task in tasks {
            self.work(task);
        }
    }

    fn work(&self, task: Task) {
        match task {
            Task::WriteManifest { home, files, version, bytes } => {
                let result = self.with_reserve(|| job::write_manifest(&*self.disk, &files, &bytes));
                self.post(home, Letter::ManifestWritten { volume: home.volume, version, result });
            }
            Task::BuildRun { home, files, job, run, entries } => {
                let built = self.with_reserve(|| job::build_run(&*self.disk, &files, run, &entries));
                self.built(home, &files, job, built);
            }
            Task::MergeRuns { home, files, job, inputs, first_run, bottom, run_bytes_max } => {
                let built = self.with_reserve(|| {
                    job::merge_runs(&*self.disk, &files, &inputs, first_run, bottom, run_bytes_max)
                });
                self.built(home, &files, job, built);
            }
            Task::Remove(removal) => self.remove(&removal),
        }
    }

    /// Runs a job again with room from the reserve while it meets "no space" and there is some.
    fn with_reserve<T>(&self, work: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
        loop {
            match work() {
                Err(Failure::NoSpace) => match self.reserve.give(RESERVE_STEP) {
                    Ok(true) => {
                        tracing::warn!("no space on the disk: the reserve is used");
                        // The pool may be gone at the end; the reserve is looked at by the next start.
                        let _ = self.pool.send(Keep::ReserveUsed);
                    }
                    Ok(false) => return Err(Failure::NoSpace),
                    Err(error) => return Err(failure(&error)),
                },
                result => return result,
            }
        }
    }

    fn built(&self, home: Home, files: &VolumeFiles, job: JobId, built: Result<RunsBuilt, Failure>) {
        let result = built.and_then(|built| {
            let ids = built.runs.iter().map(|run| run.id);
            let files = open_runs(&*self.disk, files, ids).map_err(|error| failure(&error))?;
            Ok(Built { built, files })
        });
        self.post(home, Letter::RunsBuilt { volume: home.volume, job, result });
    }

    fn post(&self, home: Home, letter: Letter) {
        // A thread that is gone has no volumes left to tell.
        self.mailboxes[home.thread as usize].post(letter);
    }

    fn remove(&self, removal: &Removal) {
        match removal {
            Removal::Files(paths) => paths.iter().for_each(|path| self.remove_file(path)),
            Removal::Directory(directory) => {
                if let Err(error) = remove_directory(&*self.disk, directory) {
                    tracing::warn!(%error, path = %directory.display(), "left for the next start to remove");
                }
            }
        }
    }

    fn remove_file(&self, path: &Path) {
        if let Err(error) = self.disk.remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "left for the next start to remove");
        }
    }
}

/// Opens runs for reading pages.
pub fn open_runs(
    disk: &dyn Disk,
    files: &VolumeFiles,
    runs: impl Iterator<Item = RunId>,
) -> io::Result<Vec<(RunId, Arc<dyn File>)>> {
    runs.map(|run| Ok((run, disk.open(&files.run(run), OpenMode::Direct)?))).collect()
}

/// Removes a directory of files.
pub fn remove_directory(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    for name in disk.read_dir(directory)? {
        disk.remove_file(&directory.join(name))?;
    }
    disk.remove_dir(directory)
}
