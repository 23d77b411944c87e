//! What other threads tell a data thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use uring::File;

use super::ThreadOptions;
use super::connection::ConnectionCount;
use super::hosted::NewVolume;
use crate::driver::VolumeError;
use crate::job::Paths;
use crate::nbd::listener::Attached;
use crate::performance::{Performance, Totals};
use crate::volume::Counters;
use crate::volume::address::{ManifestVersion, RunId, SegmentId};
use crate::volume::event::{Failure, JobId, RunsBuilt, Stream};
use crate::volume::own::{OwnChange, OwnSettings};

/// Where a volume's files are.
pub type VolumeFiles = Arc<Paths>;

/// One letter. Volumes are named by their index on the thread, which the driver gives and never gives again.
pub enum Letter {
    /// Serve this volume from now on.
    Host {
        /// Its index.
        volume: u32,
        /// What recovery or creation made.
        new: Box<NewVolume>,
    },
    /// Serve this client.
    Attach {
        /// The volume it wants.
        volume: u32,
        /// The socket.
        attached: Box<Attached>,
        /// Counts it.
        count: ConnectionCount,
    },
    /// Grow a volume; answered when that is durable.
    Resize {
        /// Which.
        volume: u32,
        /// New size in bytes, checked.
        size: u64,
        /// Gets the result.
        done: SyncSender<Result<(), VolumeError>>,
    },
    /// Change a volume's own settings, at once; answered when that is durable.
    ChangeOwn {
        /// Which.
        volume: u32,
        /// What, checked.
        change: OwnChange,
        /// Gets the result.
        done: SyncSender<Result<(), VolumeError>>,
    },
    /// Stop serving a volume that has no connection; answered when nothing of it is in flight.
    Remove {
        /// Which.
        volume: u32,
        /// Gets what it owned.
        done: SyncSender<Removed>,
    },
    /// Tell about all volumes, or one, and bring the histograms up to date.
    Describe {
        /// Only this one.
        volume: Option<u32>,
        /// What becomes of the counts of requests.
        recount: Recount,
        /// Gets the answer.
        done: SyncSender<ThreadReport>,
    },
    /// Tell who is connected.
    Clients {
        /// Gets the answer.
        done: SyncSender<Vec<Client>>,
    },
    /// The pool's answer.
    Granted {
        /// Who asked.
        volume: u32,
        /// What for.
        stream: Stream,
        /// What there is.
        segments: Vec<(SegmentId, Arc<dyn File>)>,
    },
    /// The pool's level crossed a mark.
    LevelChanged,
    /// A background job's answer.
    ManifestWritten {
        /// Whose.
        volume: u32,
        /// Which.
        version: ManifestVersion,
        /// Its end.
        result: Result<(), Failure>,
    },
    /// A background job's answer.
    RunsBuilt {
        /// Whose.
        volume: u32,
        /// Which.
        job: JobId,
        /// Its end.
        result: Result<Built, Failure>,
    },
    /// Work within these bounds from now on.
    Reconfigure {
        /// All of them.
        options: Box<ThreadOptions>,
        /// Hears that they hold.
        taken: SyncSender<()>,
    },
    /// Finish what is in flight, make it durable, end.
    Shutdown,
}

/// What becomes of counts that were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recount {
    /// They go on.
    GoOn,
    /// They begin from nothing.
    FromNothing,
}

/// A client of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The volume's name.
    pub volume: String,
    /// Where it is: an address with a port, or `unix:` and what is known of a process on this machine.
    pub peer: String,
}

/// Runs that a background job made.
pub struct Built {
    /// What they are.
    pub built: RunsBuilt,
    /// Their files, open.
    pub files: Vec<(RunId, Arc<dyn File>)>,
}

/// What a volume owned when it left its thread.
#[derive(Debug)]
pub struct Removed {
    /// Its segments.
    pub segments: Vec<SegmentId>,
}

/// A data thread's state, for people and metrics.
#[derive(Debug, Default)]
pub struct ThreadReport {
    /// Its volumes.
    pub volumes: Vec<VolumeReport>,
    /// Page cache: look-ups that found the page.
    pub page_hits: u64,
    /// Look-ups that did not.
    pub page_misses: u64,
    /// Bytes in the page cache.
    pub page_bytes: usize,
}

/// One volume's state.
#[derive(Debug)]
pub struct VolumeReport {
    /// Its index on the thread.
    pub volume: u32,
    /// Bytes it offers.
    pub size: u64,
    /// Bytes of its log on the disk.
    pub stored_bytes: u64,
    /// What it counted since it was opened.
    pub counters: Counters,
    /// Settings of its own.
    pub own: OwnSettings,
    /// Requests since they were counted from nothing.
    pub performance: Performance,
    /// Requests since it was opened.
    pub(crate) totals: Totals,
    /// Map entries in memory, bytes.
    pub memtable_bytes: usize,
    /// Pages of its map in memory.
    pub map_pages: usize,
    /// Why it serves nothing.
    pub halted: Option<String>,
}

/// Files a background thread shall remove.
#[derive(Debug)]
pub enum Removal {
    /// These files.
    Files(Vec<PathBuf>),
    /// A directory of files, and itself.
    Directory(PathBuf),
}
