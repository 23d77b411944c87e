//! A volume on its data thread: the core, and what the shell keeps for it.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};

use uring::File;

use super::letters::{Removed, VolumeFiles};
use super::reports::Throttles;
use crate::driver::VolumeError;
use crate::performance::Counting;
use crate::volume::Volume;
use crate::volume::address::{ManifestVersion, RunId, SegmentId};
use crate::volume::event::Output;

/// A volume that a data thread shall serve.
pub struct NewVolume {
    /// The core, recovered.
    pub volume: Volume,
    /// Where its files are.
    pub files: VolumeFiles,
    /// Its runs, open.
    pub runs: HashMap<RunId, Arc<dyn File>>,
    /// The segments it owns, open.
    pub segments: Vec<(SegmentId, Arc<dyn File>)>,
    /// Gets the reason when the volume halts.
    pub halted: Arc<OnceLock<String>>,
}

/// A change whose manifest is not durable yet.
pub(super) struct Awaited {
    pub(super) version: ManifestVersion,
    pub(super) done: SyncSender<Result<(), VolumeError>>,
}

/// Somebody waits for the volume to be taken out.
pub(super) struct Leaving {
    pub(super) done: SyncSender<Removed>,
}

/// See the module.
pub(super) struct Hosted {
    pub(super) volume: Volume,
    pub(super) files: VolumeFiles,
    pub(super) runs: HashMap<RunId, Arc<dyn File>>,
    pub(super) halted: Arc<OnceLock<String>>,
    /// What the core wants done, until the end of the turn.
    pub(super) outputs: Vec<Output>,
    /// It got an event in this turn.
    pub(super) touched: bool,
    /// Ring operations, jobs and questions to the pool that were not answered yet.
    pub(super) in_flight: u32,
    /// What it got from the pool and did not give back.
    pub(super) segments: HashSet<SegmentId>,
    /// Shares in the thread's sums, as of its last event.
    pub(super) pending_bytes: usize,
    pub(super) memtable_bytes: usize,
    pub(super) awaited: Vec<Awaited>,
    pub(super) leaving: Option<Leaving>,
    pub(super) throttles: Throttles,
    pub(super) counting: Counting,
}

impl Hosted {
    pub(super) fn new(new: NewVolume) -> Self {
        Self {
            memtable_bytes: new.volume.memtable_bytes(),
            pending_bytes: new.volume.pending_bytes(),
            volume: new.volume,
            files: new.files,
            runs: new.runs,
            halted: new.halted,
            outputs: Vec::new(),
            touched: false,
            in_flight: 0,
            segments: HashSet::new(),
            awaited: Vec::new(),
            leaving: None,
            throttles: Throttles::default(),
            counting: Counting::default(),
        }
    }

    /// Answers the changes that are durable, or never will be.
    pub(super) fn answer_awaited(&mut self) {
        let durable = self.volume.manifest_durable();
        let halted = self.volume.halted().map(str::to_owned);
        self.awaited.retain(|awaited| {
            let result = match &halted {
                _ if durable >= awaited.version => Ok(()),
                Some(reason) => Err(VolumeError::Halted(reason.clone())),
                None => return true,
            };
            // Who asked may have given up waiting.
            let _ = awaited.done.try_send(result);
            false
        });
    }
}
