//! Runs come and go: a memtable is frozen and built into one, runs are merged, and what a job brought enters the map.

use super::Freezing;
use crate::volume::address::{CLUSTER_SIZE, RunId};
use crate::volume::event::{Failure, JobId, MergeInput, Output, Report, RunsBuilt};
use crate::volume::levels::{Eagerness, MergePlan, plan};
use crate::volume::manifest::ReplayStart;
use crate::volume::memtable::Memtable;
use crate::volume::run::RunInfo;
use crate::volume::sco::Generation;
use crate::volume::{Context, Volume};

impl Volume {
    /// Freezes the memtable if it is time for it.
    pub(in crate::volume) fn checkpoint_if_due(&mut self, cx: &mut Context<'_>) {
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

    /// Turns the memtable into a run, if none is on its way: `true`, and the end of the turn goes on with it.
    pub fn freeze(&mut self, cx: &mut Context<'_>) -> bool {
        let fresh = self.log.builder.as_ref().is_some_and(|builder| !builder.is_empty());
        if self.checkpoint.freezing.is_some() || self.halted.is_some() || self.log.has_failed() {
            return false;
        }
        if self.map.active.is_empty() || !self.log.lost.is_empty() {
            return false;
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
        true
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
        let bytes: u64 = plan.inputs.iter().map(RunInfo::bytes).sum();
        // Each output but the last has a full page of entries at least. The inputs may have been made for another
        // size of runs, so nothing better is known; numbers cost nothing.
        let outputs = bytes / CLUSTER_SIZE as u64 + 2;
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
    pub(in crate::volume) fn runs_built(
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
        self.counters.run_bytes += built.runs.iter().map(RunInfo::bytes).sum::<u64>();
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
        self.counters.run_bytes += built.runs.iter().map(RunInfo::bytes).sum::<u64>();
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

    pub(super) fn job_failed(&mut self, what: &'static str, failure: &Failure, cx: &mut Context<'_>) {
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
