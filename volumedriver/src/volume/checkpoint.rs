//! From memtable to runs to manifest: what makes the log's past forgettable.
//!
//! A freeze goes: open record handed out, memtable frozen -> all records behind it synced -> run built -> run in the
//! stack, replay start moved -> manifest durable -> SCOs in front of the replay start settled. One freeze, one merge
//! and one manifest at a time.

mod runs;

use std::collections::VecDeque;

use super::address::{ClusterAddress, Incarnation, ManifestVersion, RunId, ScoNumber, SegmentId, Sequence};
use super::event::{Failure, JobId, Output, Stream};
use super::levels::MergePlan;
use super::manifest::{IncarnationStart, Manifest, ReplayStart};
use super::sco::Generation;
use super::{Context, Volume};

/// Whether the log may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogState {
    /// No incarnation of this process yet, or the last one was cut.
    Closed,
    /// The incarnation is open once this manifest is durable.
    Opening(ManifestVersion),
    Open,
}

/// A memtable on its way into a run.
#[derive(Debug)]
struct Freezing {
    generation: Generation,
    /// Last record with an entry in it.
    through: Sequence,
    /// Last relocation record with an entry in it.
    relocation_through: Sequence,
    /// Blocks of relocation SCOs that its entries refer to.
    relocated: Vec<(ScoNumber, u32)>,
    replay: ReplayStart,
    /// `None`: its records are not durable yet.
    job: Option<JobId>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Checkpoint {
    version: ManifestVersion,
    durable_version: ManifestVersion,
    writing: Option<Writing>,
    due: bool,
    log_state: LogState,
    incarnations: Vec<IncarnationStart>,
    replay: ReplayStart,
    next_sco: ScoNumber,
    next_run: RunId,
    next_job: u64,
    generation: Generation,
    flushed: Generation,
    settled: Generation,
    /// Fresh SCOs that wait for a manifest: usable once `.0` is durable.
    granted: Vec<(ManifestVersion, Stream, ScoNumber, SegmentId)>,
    releasing: VecDeque<(ManifestVersion, SegmentId)>,
    removing: VecDeque<(ManifestVersion, RunId)>,
    freezing: Option<Freezing>,
    merging: Option<(JobId, MergePlan)>,
    cursor: ClusterAddress,
    /// Log bytes when the memtable was frozen last.
    log_bytes: u64,
    failures_in_a_row: u32,
    /// A job failed: nothing new is begun before the next tick.
    resting: bool,
}

/// A manifest on its way.
#[derive(Debug)]
struct Writing {
    version: ManifestVersion,
    flushed: Generation,
}

impl Checkpoint {
    pub(super) fn new(manifest: &Manifest) -> Self {
        Self {
            version: manifest.version,
            durable_version: manifest.version,
            writing: None,
            due: false,
            log_state: LogState::Closed,
            incarnations: manifest.incarnations.clone(),
            replay: manifest.replay,
            next_sco: manifest.next_sco,
            next_run: manifest.next_run,
            next_job: 0,
            generation: Generation(1),
            flushed: Generation(0),
            settled: Generation(0),
            granted: Vec::new(),
            releasing: VecDeque::new(),
            removing: VecDeque::new(),
            freezing: None,
            merging: None,
            cursor: ClusterAddress(0),
            log_bytes: 0,
            failures_in_a_row: 0,
            resting: false,
        }
    }

    /// Asks for a manifest; gives the version that will hold what is true now.
    pub(super) fn want_manifest(&mut self) -> ManifestVersion {
        self.due = true;
        ManifestVersion(self.version.0 + 1)
    }

    pub(super) fn give_sco_number(&mut self) -> ScoNumber {
        let number = self.next_sco;
        self.next_sco = ScoNumber(number.0 + 1);
        number
    }

    pub(super) fn grant(&mut self, stream: Stream, number: ScoNumber, segment: SegmentId) {
        let version = self.want_manifest();
        self.granted.push((version, stream, number, segment));
    }

    pub(super) fn granted(&self, stream: Stream) -> usize {
        self.granted.iter().filter(|granted| granted.1 == stream).count()
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    pub(super) fn settled(&self) -> Generation {
        self.settled
    }

    /// The SCO that the replay start names.
    pub(super) fn replay_sco(&self) -> Option<ScoNumber> {
        self.replay.place.map(|(sco, _)| sco)
    }

    pub(super) fn releasing(&self) -> impl Iterator<Item = SegmentId> + '_ {
        self.releasing.iter().map(|&(_, segment)| segment)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.writing.is_none() && !self.due && self.freezing.is_none() && self.merging.is_none()
    }

    /// Time passed: failed jobs may be tried again.
    pub(super) fn rested(&mut self) {
        self.resting = false;
    }

    pub(super) fn is_resting(&self) -> bool {
        self.resting
    }

    /// True if something here will give segments back by itself.
    pub(super) fn brings_space(&self) -> bool {
        self.freezing.is_some() || self.merging.is_some() || !self.releasing.is_empty()
    }

    /// The log ends in front of `next`, whatever stands behind it: what comes then belongs to a new incarnation. Its
    /// first SCO is named when it is written to; the one that the last incarnation named may be given back.
    pub(super) fn recovered(&mut self, next: Sequence) {
        let Some(last) = self.incarnations.last() else { return };
        let announced = last.first_sco == ScoNumber(0) && last.first_sequence == next;
        if !announced {
            let number = Incarnation(last.number.0 + 1);
            // One that was announced behind records that a power loss took never came to be.
            self.incarnations.retain(|start| start.first_sequence <= next);
            self.incarnations.push(IncarnationStart {
                number,
                first_sequence: next,
                first_sco: ScoNumber(0),
            });
        }
    }

    /// Recovery wrote a manifest by itself.
    pub(super) fn written_outside(&mut self, version: ManifestVersion) {
        (self.version, self.durable_version, self.due) = (version, version, false);
    }

    pub(super) fn take_job(&mut self) -> JobId {
        self.next_job += 1;
        JobId(self.next_job)
    }
}

impl Volume {
    /// The newest manifest version that is durable.
    pub fn manifest_durable(&self) -> ManifestVersion {
        self.checkpoint.durable_version
    }

    /// What the next manifest says.
    pub fn manifest(&self) -> Manifest {
        let checkpoint = &self.checkpoint;
        let mut scos = self.scos.entries();
        if let Some(open) = self.log.open
            && let Some(sco) = scos.iter_mut().find(|sco| sco.number == open.number)
        {
            sco.blocks = open.next_block;
        }
        Manifest {
            id: self.id,
            name: self.name.clone(),
            size: self.size,
            version: ManifestVersion(checkpoint.version.0 + 1),
            next_sco: checkpoint.next_sco,
            next_run: checkpoint.next_run,
            replay: checkpoint.replay,
            incarnations: checkpoint.incarnations.clone(),
            scos,
            levels: self.map.levels().to_vec(),
            own: self.own,
        }
    }

    pub(super) fn write_manifest_if_due(&mut self, cx: &mut Context<'_>) {
        if !self.checkpoint.due || self.checkpoint.writing.is_some() || self.checkpoint.resting {
            return;
        }
        let manifest = self.manifest();
        if let Err(reason) = manifest.check() {
            return self.halt(format!("the manifest would break its invariants: {reason}"), cx);
        }
        self.checkpoint.due = false;
        self.checkpoint.version = manifest.version;
        self.checkpoint.writing =
            Some(Writing { version: manifest.version, flushed: self.checkpoint.flushed });
        self.counters.manifests += 1;
        cx.out.push(Output::WriteManifest { version: manifest.version, bytes: manifest.encode() });
    }

    pub(super) fn manifest_written(
        &mut self,
        version: ManifestVersion,
        result: Result<(), Failure>,
        cx: &mut Context<'_>,
    ) {
        let Some(writing) = self.checkpoint.writing.take().filter(|writing| writing.version == version)
        else {
            return;
        };
        if let Err(failure) = result {
            self.checkpoint.due = true;
            return self.job_failed("manifest", &failure, cx);
        }
        self.checkpoint.failures_in_a_row = 0;
        self.checkpoint.durable_version = version;
        self.checkpoint.settled = writing.flushed;
        let granted = std::mem::take(&mut self.checkpoint.granted);
        for (needed, stream, number, segment) in granted {
            match stream {
                _ if needed > version => self.checkpoint.granted.push((needed, stream, number, segment)),
                Stream::Log => self.log.ahead.push_back((number, segment)),
                Stream::Relocation => self.relocation.ahead.push_back((number, segment)),
            }
        }
        let durable = |&(needed, _): &(ManifestVersion, SegmentId)| needed <= version;
        let count = self.checkpoint.releasing.iter().take_while(|released| durable(released)).count();
        let segments: Vec<_> = self.checkpoint.releasing.drain(..count).map(|(_, segment)| segment).collect();
        if !segments.is_empty() {
            self.counters.scos_freed += segments.len() as u64;
            cx.out.push(Output::ReleaseSegments { segments });
        }
        self.remove_runs(cx);
        self.free_scos();
        if matches!(self.checkpoint.log_state, LogState::Opening(needed) if needed <= version) {
            self.checkpoint.log_state = LogState::Open;
        }
        self.drain(cx);
    }

    /// Removes runs that no durable manifest names and no page read concerns.
    pub(super) fn remove_runs(&mut self, cx: &mut Context<'_>) {
        let version = self.checkpoint.durable_version;
        let reads = &self.reads;
        let mut runs = Vec::new();
        self.checkpoint.removing.retain(|&(needed, run)| {
            let gone = needed <= version && !reads.waits_for_run(run);
            if gone {
                runs.push(run);
            }
            !gone
        });
        if !runs.is_empty() {
            cx.out.push(Output::RemoveRuns { runs });
        }
    }

    /// Takes SCOs that nothing needs out of the table; the manifest after that lets them go.
    pub(super) fn free_scos(&mut self) {
        let freed = self.scos.take_free(self.checkpoint.settled, self.checkpoint.replay_sco());
        for (_, segment) in freed {
            let version = self.checkpoint.want_manifest();
            self.checkpoint.releasing.push_back((version, segment));
        }
    }

    /// True if records may be written; starts an incarnation if none is open.
    pub(super) fn log_open(&mut self, _cx: &mut Context<'_>) -> bool {
        match self.checkpoint.log_state {
            LogState::Open => true,
            LogState::Opening(_) => false,
            LogState::Closed => {
                // The incarnation names its first SCO: the one that waits in front, or the first to be granted.
                let waiting = self.log.ahead.front().map(|&(number, _)| number);
                let granted = self.checkpoint.granted.iter().find(|granted| granted.1 == Stream::Log);
                if let Some(first_sco) = waiting.or(granted.map(|granted| granted.2)) {
                    self.open_incarnation(first_sco);
                }
                false
            }
        }
    }

    fn open_incarnation(&mut self, first_sco: ScoNumber) {
        let first_sequence = self.log.next_sequence;
        let checkpoint = &mut self.checkpoint;
        match checkpoint.incarnations.last_mut() {
            // Recovery or a cut announced it; it was never written to.
            Some(last) if last.first_sco == ScoNumber(0) && last.first_sequence == first_sequence => {
                last.first_sco = first_sco;
            }
            last => {
                let number = Incarnation(last.map_or(0, |last| last.number.0) + 1);
                checkpoint.incarnations.push(IncarnationStart { number, first_sequence, first_sco });
            }
        }
        self.author.incarnation = checkpoint.incarnations.last().map_or(Incarnation(1), |last| last.number);
        let version = checkpoint.want_manifest();
        checkpoint.log_state = LogState::Opening(version);
    }

    /// After a failed write: `kept` is the last record that counts, `place` where the first lost one began.
    pub(super) fn reopen_log(
        &mut self,
        kept: Sequence,
        place: Option<(ScoNumber, u16)>,
        _cx: &mut Context<'_>,
    ) {
        // A memtable that waits for lost records becomes the active one again.
        if let Some(freezing) = self.checkpoint.freezing.take_if(|freezing| freezing.through > kept) {
            self.checkpoint.generation = freezing.generation;
            self.durability.background = None;
            let mut older = self.map.frozen.take().unwrap_or_default();
            older.overlay(&self.map.active);
            self.map.active = older;
        }
        let generation = self.checkpoint.generation;
        for number in
            self.log.lost.iter().map(|record| record.sco).chain(self.log.open.map(|open| open.number))
        {
            if let Some(sco) = self.scos.get_mut(number) {
                sco.open = false;
                sco.generation = generation;
                sco.blocks = match place {
                    Some((first_lost, block)) if first_lost == number => u32::from(block),
                    Some((first_lost, _)) if first_lost < number => 0,
                    _ => sco
                        .blocks
                        .max(self.log.open.filter(|open| open.number == number).map_or(0, |o| o.next_block)),
                };
            }
        }
        self.log.open = None;
        self.log.next_sequence = kept.next();
        self.log.previous_crc = self.log.completed_crc;
        self.checkpoint.log_state = LogState::Closed;
        self.checkpoint.recovered(kept.next());
        self.checkpoint.want_manifest();
    }
}
