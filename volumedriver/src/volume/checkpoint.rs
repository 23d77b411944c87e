//! From memtable to runs to manifest: what makes the log's past forgettable.
//!
//! A freeze goes: open record handed out, memtable frozen -> all records behind it synced -> run built -> run in the
//! stack, replay start moved -> manifest durable -> SCOs in front of the replay start settled. One freeze, one merge
//! and one manifest at a time.

use std::collections::VecDeque;

use super::address::{ClusterAddress, Incarnation, ManifestVersion, RunId, ScoNumber, SegmentId, Sequence};
use super::event::{Failure, JobId, MergeInput, Output, Report, RunsBuilt, Stream};
use super::levels::{Eagerness, MergePlan, plan};
use super::manifest::{IncarnationStart, Manifest, ReplayStart};
use super::memtable::Memtable;
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

    /// Freezes the memtable if it is time for it.
    pub(super) fn checkpoint_if_due(&mut self, cx: &mut Context<'_>) {
        let behind = self.log.bytes - self.checkpoint.log_bytes;
        let pool_bytes = u64::from(self.space.total) * u64::from(self.settings.segment_blocks) * 4096;
        // A small pool cannot afford a long log that nothing may be freed from.
        let limit = match pool_bytes {
            0 => self.settings.replay_bytes,
            _ => self.settings.replay_bytes.min((pool_bytes / 32).max(1 << 20)),
        };
        if behind >= limit || self.compaction_waits_for_freeze() {
            self.freeze(cx);
        }
        if self.checkpoint.resting {
            return;
        }
        self.build_if_durable(cx);
        self.merge_if_due(cx);
    }

    /// Turns the memtable into a run, if none is on its way.
    pub fn freeze(&mut self, cx: &mut Context<'_>) {
        let fresh = self.log.builder.as_ref().is_some_and(|builder| !builder.is_empty());
        if self.checkpoint.freezing.is_some() || self.halted.is_some() || self.log.has_failed() {
            return;
        }
        if self.map.active.is_empty() || !self.log.lost.is_empty() {
            return;
        }
        if fresh {
            self.hand_out_record(cx);
        }
        let place = self.log.open.map(|open| (open.number, open.next_block));
        // A full SCO has no next block that a record could start at: the next one starts the next SCO.
        let place = place.map(|(number, block)| (number, block.min(u32::from(u16::MAX)) as u16));
        self.checkpoint.log_bytes = self.log.bytes;
        self.checkpoint.freezing = Some(Freezing {
            generation: self.checkpoint.generation,
            through: self.log.last_sequence(),
            relocation_through: self.compaction.applied_through(),
            relocated: self.scos.relocated(),
            replay: ReplayStart {
                sequence: self.log.next_sequence,
                previous_crc: self.log.previous_crc,
                place,
            },
            job: None,
        });
        self.map.frozen = Some(std::mem::take(&mut self.map.active));
        self.scos.froze();
        self.checkpoint.generation = Generation(self.checkpoint.generation.0 + 1);
        self.durability.background = Some((self.log.last_sequence(), self.compaction.applied_through()));
    }

    /// Has the run built once every record behind the frozen memtable is durable.
    fn build_if_durable(&mut self, cx: &mut Context<'_>) {
        let Some(freezing) = self.checkpoint.freezing.as_ref().filter(|freezing| freezing.job.is_none())
        else {
            return;
        };
        let relocation_behind = self.relocation.durable_through < freezing.relocation_through;
        if self.log.durable_through < freezing.through || relocation_behind {
            return;
        }
        self.durability.background = None;
        let job = self.checkpoint.take_job();
        let run = self.checkpoint.next_run;
        self.checkpoint.next_run = RunId(run.0 + 1);
        if let Some(freezing) = &mut self.checkpoint.freezing {
            freezing.job = Some(job);
        }
        let entries = self.map.frozen.iter().flat_map(Memtable::entries).collect();
        cx.out.push(Output::BuildRun { job, run, entries });
    }

    fn merge_if_due(&mut self, cx: &mut Context<'_>) {
        if self.checkpoint.merging.is_some() {
            return;
        }
        let eagerness = if self.is_out_of_victims() { Eagerness::Pressed } else { Eagerness::Relaxed };
        let Some(plan) = plan(self.map.levels(), &self.settings, eagerness, &mut self.checkpoint.cursor)
        else {
            return;
        };
        if let [only] = &plan.inputs[..]
            && self.map.replace(&[only.id], plan.target, vec![only.clone()])
        {
            // Nothing to merge with: it moves down as it is.
            self.checkpoint.want_manifest();
            return;
        }
        let job = self.checkpoint.take_job();
        let first_run = self.checkpoint.next_run;
        let bytes: u64 = plan.inputs.iter().map(super::run::RunInfo::bytes).sum();
        // Outputs are full but for the last; their fences may need a page more than the inputs' did.
        let outputs = bytes / (self.settings.run_bytes / 2) + 2;
        self.checkpoint.next_run = RunId(first_run.0 + outputs);
        let inputs = plan.inputs.iter().map(|run| MergeInput { run: run.clone() }).collect();
        let bottom = plan.bottom;
        self.checkpoint.merging = Some((job, plan));
        cx.out.push(Output::MergeRuns {
            job,
            inputs,
            first_run,
            bottom,
            run_bytes_max: self.settings.run_bytes,
        });
    }

    /// A background job ended.
    pub(super) fn runs_built(
        &mut self,
        job: JobId,
        result: Result<RunsBuilt, Failure>,
        cx: &mut Context<'_>,
    ) {
        if let Some((_, plan)) = self.checkpoint.merging.take_if(|(merging, _)| *merging == job) {
            match result {
                Ok(built) => self.merged(&plan, built, cx),
                Err(Failure::Corrupt(what)) => return self.halt(format!("the map is damaged: {what}"), cx),
                Err(failure) => return self.job_failed("merge", &failure, cx),
            }
        } else if self.checkpoint.freezing.as_ref().is_some_and(|freezing| freezing.job == Some(job)) {
            match result {
                Ok(built) => self.frozen_built(built, cx),
                Err(failure) => {
                    if let Some(freezing) = &mut self.checkpoint.freezing {
                        freezing.job = None;
                    }
                    return self.job_failed("run", &failure, cx);
                }
            }
        }
        self.checkpoint.failures_in_a_row = 0;
        self.checkpoint.want_manifest();
        self.drain(cx);
    }

    fn merged(&mut self, plan: &MergePlan, built: RunsBuilt, cx: &mut Context<'_>) {
        self.counters.run_bytes += built.runs.iter().map(super::run::RunInfo::bytes).sum::<u64>();
        let new: Vec<RunId> = built.runs.iter().map(|run| run.id).collect();
        let version = self.checkpoint.want_manifest();
        let gone = if self.map.replace(&plan.ids(), plan.target, built.runs) {
            for run in &plan.inputs {
                cx.pages.forget(self.id, run.id, run.pages());
            }
            for (&run, pages) in new.iter().zip(built.pages) {
                cx.pages.warm(self.id, run, pages);
            }
            built.references.iter().for_each(|&(sco, change)| self.scos.refer(sco, change));
            plan.ids()
        } else {
            new
        };
        self.checkpoint.removing.extend(gone.into_iter().map(|run| (version, run)));
    }

    fn frozen_built(&mut self, built: RunsBuilt, cx: &mut Context<'_>) {
        let Some(freezing) = self.checkpoint.freezing.take() else { return };
        self.counters.run_bytes += built.runs.iter().map(super::run::RunInfo::bytes).sum::<u64>();
        built.references.iter().for_each(|&(sco, change)| self.scos.refer(sco, change));
        // One freeze makes one run.
        for (run, pages) in built.runs.into_iter().zip(built.pages).take(1) {
            cx.pages.warm(self.id, run.id, pages);
            self.map.push_run(run, built.filter.clone());
        }
        self.map.frozen = None;
        for (number, blocks) in freezing.relocated {
            if let Some(sco) = self.scos.get_mut(number) {
                sco.flushed_blocks = blocks;
            }
        }
        self.checkpoint.flushed = freezing.generation;
        self.checkpoint.replay = freezing.replay;
        // Incarnations that ended in front of the replay start are history.
        let incarnations = &mut self.checkpoint.incarnations;
        let first = incarnations.partition_point(|start| start.first_sequence <= freezing.replay.sequence);
        incarnations.drain(..first.saturating_sub(1));
    }

    fn job_failed(&mut self, what: &'static str, failure: &Failure, cx: &mut Context<'_>) {
        // A full disk is no fault: it is waited out.
        self.checkpoint.failures_in_a_row += u32::from(*failure != Failure::NoSpace);
        self.checkpoint.resting = true;
        let reason = failure.to_string();
        if self.checkpoint.failures_in_a_row > self.settings.job_failures_in_a_row {
            return self.halt(format!("the {what} could not be written: {reason}"), cx);
        }
        cx.out.push(Output::Report(Report::JobFailed { what, reason }));
    }
}
