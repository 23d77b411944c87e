//! The core of a volume: `Volume::handle(event)` in, outputs out. No I/O, no clock, no lock, no randomness: the shell
//! brings completions as events and does what the outputs say.
//!
//! Invariants (a broken one halts this volume, not the process):
//! 1. A location is written once in its SCO's life (`log`).
//! 2. A record's sequence is its predecessor's plus one, across incarnations (`log`).
//! 3. No run refers to an SCO that is less durable than the run: a memtable becomes a run only after the records behind
//!    its entries were synced (`checkpoint`).
//! 4. The stack of runs moves by one manifest at a time (`checkpoint`).
//! 5. An acknowledged write is in a memtable or a run, and in a record whose predecessors were all written (`write`).
//! 6. A flush is answered only when every record before it is durable, but for as many as the volume's own settings
//!    allow (`durability`).
//! 7. Nothing is given back to the pool before a durable manifest stopped naming it (`checkpoint`).
//! 8. A cluster moves only if the map still refers to its old place at the moment of the change (`compaction`).

pub mod address;
mod bytes;
mod checkpoint;
mod compaction;
mod cut;
mod durability;
pub mod event;
pub mod filter;
mod levels;
mod log;
pub mod manifest;
mod map;
mod memtable;
pub mod merge;
pub mod own;
mod page_cache;
mod read;
pub mod record;
pub mod replay;
mod rmw;
pub mod run;
mod sco;
mod settings;
mod victim;
mod write;

use std::sync::Arc;
use std::time::Duration;

use address::{BootId, Incarnation, ManifestVersion, RunId, SegmentId, VolumeId};
use checkpoint::Checkpoint;
use compaction::Compaction;
use durability::Durability;
use event::{Event, Output, Report, RequestError, RequestId, SpaceView, Stream};
use log::{Author, Log};
use manifest::Manifest;
use map::Map;
use own::{OwnChange, OwnSettings};
use read::Reads;
use sco::ScoTable;
use write::{Owner, Writes};

pub use memtable::Memtable;
pub use page_cache::PageCache;
pub use settings::Settings;

/// What a volume borrows from its data thread while it handles an event.
pub struct Context<'a> {
    /// Pages of runs, shared by the volumes of the thread.
    pub pages: &'a mut PageCache,
    /// Time since any moment that stays the same; never less than before.
    pub now: Duration,
    /// Outputs are appended here.
    pub out: &'a mut Vec<Output>,
}

/// Totals since the volume was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Client reads answered with data.
    pub reads: u64,
    /// Client writes begun (pieces count as one each).
    pub writes: u64,
    /// Flushes begun.
    pub flushes: u64,
    /// Of these, those that were answered without a sync.
    pub ignored_flushes: u64,
    /// Trims and write-zeroes begun.
    pub empties: u64,
    /// Bytes given to clients.
    pub read_bytes: u64,
    /// Bytes taken from clients.
    pub written_bytes: u64,
    /// Bytes written to the log, headers included.
    pub log_bytes: u64,
    /// Bytes written by compaction, headers included.
    pub relocated_bytes: u64,
    /// Bytes read by compaction.
    pub compaction_read_bytes: u64,
    /// Bytes of runs written.
    pub run_bytes: u64,
    /// Manifests written.
    pub manifests: u64,
    /// Syncs of the log.
    pub syncs: u64,
    /// Records of the log.
    pub records: u64,
    /// SCOs given back.
    pub scos_freed: u64,
    /// Clusters whose data did not match their checksum.
    pub damaged_clusters: u64,
    /// Requests refused for lack of space.
    pub no_space: u64,
}

/// See the module.
pub struct Volume {
    id: VolumeId,
    name: String,
    size: u64,
    settings: Arc<Settings>,
    own: OwnSettings,
    author: Author,
    map: Map,
    scos: ScoTable,
    log: Log<Owner>,
    relocation: Log<compaction::Move>,
    writes: Writes,
    reads: Reads,
    durability: Durability,
    checkpoint: Checkpoint,
    compaction: Compaction,
    space: SpaceView,
    counters: Counters,
    halted: Option<String>,
}

impl Volume {
    /// A volume as its manifest says, before replay.
    pub fn from_manifest(manifest: &Manifest, boot: BootId, settings: Arc<Settings>) -> Self {
        let replay = manifest.replay;
        let incarnation = manifest.incarnations.last().map_or(Incarnation(0), |start| start.number);
        let (segment_blocks, record_blocks) = (settings.segment_blocks, settings.record_blocks);
        let first = address::Sequence(1);
        Self {
            id: manifest.id,
            name: manifest.name.clone(),
            size: manifest.size,
            own: manifest.own,
            author: Author { volume: manifest.id, boot, incarnation },
            map: Map::new(manifest.id, manifest.levels.clone()),
            scos: ScoTable::from_entries(&manifest.scos),
            log: Log::new(Stream::Log, segment_blocks, record_blocks, replay.sequence, replay.previous_crc),
            relocation: Log::new(Stream::Relocation, segment_blocks, record_blocks, first, 0),
            writes: Writes::default(),
            reads: Reads::default(),
            durability: Durability::default(),
            checkpoint: Checkpoint::new(manifest),
            compaction: Compaction::default(),
            space: SpaceView::default(),
            counters: Counters::default(),
            halted: None,
            settings,
        }
    }

    /// Takes one event.
    pub fn handle(&mut self, event: Event<'_>, cx: &mut Context<'_>) {
        if self.halted.is_some() {
            return self.handle_halted(event, cx);
        }
        match event {
            Event::Read { request, offset, length } => self.read(request, offset, length, cx),
            Event::Write { request, offset, data, promise } => self.write(request, offset, data, promise, cx),
            Event::Empty { request, offset, length, kind, promise } => {
                self.empty(Owner { request, promise }, offset, length, kind, cx);
            }
            Event::Flush { request, by } => self.flush(request, by, cx),
            Event::Status { request, offset, length, extents_max } => {
                self.status(request, offset, length, extents_max, cx);
            }
            Event::RecordWritten { stream: Stream::Log, sequence, result } => {
                self.log.written(sequence, result);
                self.log_progress(cx);
            }
            Event::RecordWritten { stream: Stream::Relocation, sequence, result } => {
                self.relocation_written(sequence, result, cx);
            }
            Event::Synced { sync, result } => self.synced(sync, result, cx),
            Event::DataRead { read, result } => self.data_read(read, result, cx),
            Event::PageRead { run, page, result } => self.page_read(run, page, result, cx),
            Event::SegmentsGranted { stream, segments } => self.segments_granted(stream, &segments, cx),
            Event::ManifestWritten { version, result } => self.manifest_written(version, result, cx),
            Event::RunsBuilt { job, result } => self.runs_built(job, result, cx),
            Event::Tick { space } => {
                self.space = space;
                self.note_quiet();
                self.compaction.idle_credit(self.settings.compaction_idle_bytes);
                self.writes.retry_space();
                self.checkpoint.rested();
                self.drain(cx);
            }
        }
    }

    /// Ends a turn of the loop: what arrived together goes out together.
    pub fn finish_turn(&mut self, cx: &mut Context<'_>) {
        if self.halted.is_some() {
            return;
        }
        self.hand_out_log(cx);
        self.sync_if_wanted(cx);
        self.checkpoint_if_due(cx);
        self.compact(cx);
        self.write_manifest_if_due(cx);
    }

    fn handle_halted(&mut self, event: Event<'_>, cx: &mut Context<'_>) {
        match event {
            Event::Read { request, .. }
            | Event::Write { request, .. }
            | Event::Empty { request, .. }
            | Event::Flush { request, .. }
            | Event::Status { request, .. } => fail(request, RequestError::Halted, cx),
            Event::RecordWritten { .. }
            | Event::Synced { .. }
            | Event::DataRead { .. }
            | Event::PageRead { .. }
            | Event::SegmentsGranted { .. }
            | Event::ManifestWritten { .. }
            | Event::RunsBuilt { .. }
            | Event::Tick { .. } => {}
        }
    }

    /// Stops serving for good: nobody is told anything that may be wrong.
    fn halt(&mut self, reason: String, cx: &mut Context<'_>) {
        for request in self.writes.take_all().chain(self.durability.take_all()).chain(self.reads.take_all()) {
            fail(request, RequestError::Halted, cx);
        }
        for owner in self.log.in_flight.drain(..).flat_map(|record| record.owners) {
            fail(owner.request, RequestError::Halted, cx);
        }
        for owner in self.log.owners.drain(..) {
            fail(owner.request, RequestError::Halted, cx);
        }
        cx.out.push(Output::Report(Report::Halted { reason: reason.clone() }));
        self.halted = Some(reason);
    }

    /// Identity.
    pub fn id(&self) -> VolumeId {
        self.id
    }

    /// Name: the export.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Grows to `size` bytes; true once [`Self::manifest_durable`] reached the version returned.
    pub fn resize(&mut self, size: u64, cx: &mut Context<'_>) -> ManifestVersion {
        debug_assert!(size >= self.size, "the driver refused smaller sizes");
        self.size = size;
        let version = self.checkpoint.want_manifest();
        self.write_manifest_if_due(cx);
        version
    }

    /// Settings of this volume alone.
    pub fn own(&self) -> OwnSettings {
        self.own
    }

    /// Changes one of them, from now on; durable once [`Self::manifest_durable`] reached the version returned.
    pub fn change_own(&mut self, change: OwnChange, cx: &mut Context<'_>) -> ManifestVersion {
        self.own = self.own.with(change);
        self.limit_pages(cx.pages);
        let version = self.checkpoint.want_manifest();
        self.write_manifest_if_due(cx);
        version
    }

    /// Tells the cache how many pages this volume may have there. The shell calls it for a volume that it begins to
    /// serve.
    pub fn limit_pages(&self, pages: &mut PageCache) {
        let most = self.own.map_pages.map(|pages| pages.max(self.settings.map_pages_min));
        pages.set_limit(self.id, most);
    }

    /// Works within other limits from now on. What is in flight goes on as it was begun; what waited for a higher limit
    /// goes on, too. The size of a segment stays: SCOs have it.
    pub fn set_settings(&mut self, settings: Arc<Settings>, cx: &mut Context<'_>) {
        debug_assert_eq!(settings.segment_blocks, self.settings.segment_blocks, "the driver refused it");
        self.log.set_record_blocks(settings.record_blocks);
        self.relocation.set_record_blocks(settings.record_blocks);
        self.settings = settings;
        if self.halted.is_none() {
            self.drain(cx);
            // The end of the turn then has what was frozen synced: in a quiet volume no later event does.
            self.checkpoint_if_due(cx);
        }
    }

    /// Why it halted, if it did.
    pub fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }

    /// Totals.
    pub fn counters(&self) -> Counters {
        Counters {
            log_bytes: self.log.bytes,
            relocated_bytes: self.relocation.bytes,
            ..self.counters.clone()
        }
    }

    /// Client data in bytes that waits for its record.
    pub fn pending_bytes(&self) -> usize {
        self.writes.pending_bytes()
    }

    /// Memory of the memtables in bytes.
    pub fn memtable_bytes(&self) -> usize {
        self.map.memtable_bytes()
    }

    /// Bytes of its SCOs in use on the local disk.
    pub fn stored_bytes(&self) -> u64 {
        self.scos.blocks() * address::CLUSTER_SIZE as u64
    }

    /// Number of SCOs.
    pub fn sco_count(&self) -> usize {
        self.scos.len()
    }

    /// Bytes of its runs.
    pub fn map_bytes(&self) -> u64 {
        self.map.levels().iter().flatten().map(run::RunInfo::bytes).sum()
    }

    /// Runs that its map consists of.
    pub fn runs(&self) -> impl Iterator<Item = RunId> + '_ {
        self.map.levels().iter().flatten().map(|run| run.id)
    }

    /// Segments that it owns, those on their way back to the pool included.
    pub fn segments(&self) -> impl Iterator<Item = SegmentId> + '_ {
        self.scos.iter().map(|(_, sco)| sco.segment).chain(self.checkpoint.releasing())
    }

    /// True while it waits for time to pass or for space: the shell then sends [`Event::Tick`]s.
    pub fn wants_ticks(&self) -> bool {
        self.halted.is_none()
            && (self.writes.waits_for_space()
                || self.checkpoint.is_resting()
                || self.owes_sync()
                || self.compaction_wants_ticks())
    }

    /// True if nothing is in flight and nothing waits, background work included.
    pub fn is_idle(&self) -> bool {
        self.halted.is_some()
            || (self.writes.is_empty()
                && self.log.builder.is_none()
                && self.log.in_flight.is_empty()
                && self.relocation.in_flight.is_empty()
                && self.reads.is_empty()
                && self.durability.is_idle()
                && self.checkpoint.is_idle())
    }
}

/// Answers `request` with an error.
fn fail(request: RequestId, error: RequestError, cx: &mut Context<'_>) {
    cx.out.push(Output::Reply { request, result: Err(error) });
}
