//! Flush and FUA: who waits for which record to be durable, and the one sync that serves them together.

use std::collections::VecDeque;

use super::address::{SegmentId, Sequence};
use super::event::{Answer, Failure, Output, RequestId, SyncId};
use super::{Context, Volume};

/// Behind every record: for waiters whose records are written again.
const UNKNOWN: Sequence = Sequence(u64::MAX);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Durability {
    /// Requests to answer once the log is durable up to the sequence; in order of arrival.
    waiters: VecDeque<(Sequence, RequestId)>,
    /// What a freeze waits for, in the log and in the relocation stream.
    pub(super) background: Option<(Sequence, Sequence)>,
    next_sync: u64,
    running: Option<Running>,
    /// Records handed out since the last flush.
    records_since_flush: u32,
    /// Flushes in a row that came after a single record each.
    single_record_flushes: u32,
}

/// A sync in flight: what will be durable when all its segments are synced.
#[derive(Debug)]
struct Running {
    log_through: Sequence,
    relocation_through: Sequence,
    waiting_for: Vec<SyncId>,
}

/// Flushes in a row, each after one record, from which on the next is expected.
const FLUSHES_TO_EXPECT: u32 = 4;

impl Durability {
    /// True for a client that flushes after every write: a record made durable at once costs it one wait instead of
    /// two.
    pub(super) fn expects_flush(&self) -> bool {
        self.single_record_flushes >= FLUSHES_TO_EXPECT
    }

    pub(super) fn note_record(&mut self) {
        self.records_since_flush += 1;
        if self.records_since_flush > 1 {
            self.single_record_flushes = 0;
        }
    }

    fn note_flush(&mut self) {
        if std::mem::take(&mut self.records_since_flush) == 1 {
            self.single_record_flushes = self.single_record_flushes.saturating_add(1);
        }
    }

    pub(super) fn wait(&mut self, sequence: Sequence, request: RequestId) {
        self.waiters.push_back((sequence, request));
    }

    pub(super) fn take_all(&mut self) -> impl Iterator<Item = RequestId> + use<> {
        std::mem::take(&mut self.waiters).into_iter().map(|(_, request)| request)
    }

    /// A cut: the sequences behind `kept` go to other records, not known yet.
    pub(super) fn cut(&mut self, kept: Sequence) {
        for (sequence, _) in &mut self.waiters {
            if *sequence > kept {
                *sequence = UNKNOWN;
            }
        }
    }

    /// What the cut lost is in the log again, up to `last`.
    pub(super) fn rewritten(&mut self, last: Sequence) {
        for (sequence, _) in &mut self.waiters {
            if *sequence == UNKNOWN {
                *sequence = last;
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiters.is_empty() && self.running.is_none()
    }
}

impl Volume {
    /// Answers once everything that was written so far is durable.
    pub(super) fn flush(&mut self, request: RequestId, cx: &mut Context<'_>) {
        self.counters.flushes += 1;
        self.durability.note_flush();
        let last = self.log.last_sequence();
        if last <= self.log.durable_through {
            cx.out.push(Output::Reply { request, result: Ok(Answer::Done) });
        } else {
            self.durability.wait(last, request);
        }
    }

    /// Starts a sync if somebody waits for records that were all written.
    pub(super) fn sync_if_wanted(&mut self, cx: &mut Context<'_>) {
        if self.durability.running.is_some() {
            return;
        }
        let completed = self.log.completed_through;
        let ready = |&sequence: &Sequence| sequence <= completed && sequence > self.log.durable_through;
        let client = self.durability.waiters.iter().map(|(sequence, _)| sequence).any(ready);
        let background = self.durability.background.is_some_and(|(log, relocation)| {
            log <= completed && (ready(&log) || relocation > self.relocation.durable_through)
        });
        if !client && !background {
            return;
        }
        let mut segments: Vec<SegmentId> = std::mem::take(&mut self.log.dirty);
        let mut relocation_through = self.relocation.durable_through;
        if background {
            segments.append(&mut self.relocation.dirty);
            relocation_through = self.relocation.completed_through;
        }
        let mut waiting_for = Vec::with_capacity(segments.len());
        for segment in segments {
            self.durability.next_sync += 1;
            let sync = SyncId(self.durability.next_sync);
            waiting_for.push(sync);
            self.counters.syncs += 1;
            cx.out.push(Output::Sync { sync, segment });
        }
        let nothing_dirty = waiting_for.is_empty();
        self.durability.running = Some(Running { log_through: completed, relocation_through, waiting_for });
        if nothing_dirty {
            self.sync_done(cx);
        }
    }

    /// One segment of the running sync was synced.
    pub(super) fn synced(&mut self, sync: SyncId, result: Result<(), Failure>, cx: &mut Context<'_>) {
        if let Err(failure) = result {
            // The kernel may have dropped the pages that it could not write: a second sync would succeed and lie.
            return self.halt(format!("a sync of the log failed: {failure}"), cx);
        }
        let Some(running) = &mut self.durability.running else { return };
        running.waiting_for.retain(|&waiting| waiting != sync);
        if running.waiting_for.is_empty() {
            self.sync_done(cx);
        }
    }

    fn sync_done(&mut self, cx: &mut Context<'_>) {
        let Some(running) = self.durability.running.take() else { return };
        self.log.durable_through = self.log.durable_through.max(running.log_through);
        self.relocation.durable_through = self.relocation.durable_through.max(running.relocation_through);
        self.answer_durable(cx);
    }

    /// Answers everybody whose records are durable now.
    pub(super) fn answer_durable(&mut self, cx: &mut Context<'_>) {
        let durable = self.log.durable_through;
        self.durability.waiters.retain(|&(sequence, request)| {
            let done = sequence <= durable;
            if done {
                cx.out.push(Output::Reply { request, result: Ok(Answer::Done) });
            }
            !done
        });
    }
}
