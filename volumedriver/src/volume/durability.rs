//! Flush and FUA: who waits for which record to be durable, and the one sync that serves them together.
//!
//! Flushes may be answered without a sync ([`super::own::SyncIgnore`]). Such a flush is *owed*: at most as many as set
//! are at any time, and a sync follows when the time is over. A sync that covers them all, whoever wanted it, pays.

use std::collections::VecDeque;
use std::time::Duration;

use super::address::{SegmentId, Sequence};
use super::event::{Answer, Failure, FlushedBy, Output, RequestId, SyncId};
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
    /// When the newest sync that ended began; or when a flush found everything durable.
    last_sync: Option<Duration>,
    owed: Owed,
}

/// Flushes that were answered and not done.
#[derive(Debug, Default)]
struct Owed {
    /// How many since all were paid.
    flushes: u32,
    /// The last record that they stand for.
    through: Sequence,
}

/// A sync in flight: what will be durable when all its segments are synced.
#[derive(Debug)]
struct Running {
    log_through: Sequence,
    relocation_through: Sequence,
    waiting_for: Vec<SyncId>,
    began: Duration,
}

/// Flushes in a row, each after one record, from which on the next is expected.
const FLUSHES_TO_EXPECT: u32 = 4;

impl Durability {
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

    /// All that was written when `now` was is durable.
    fn note_sync(&mut self, now: Duration) {
        self.last_sync = self.last_sync.max(Some(now));
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
    /// Answers once everything that was written so far is durable; or at once, if the volume's settings allow it.
    pub(super) fn flush(&mut self, request: RequestId, by: FlushedBy, cx: &mut Context<'_>) {
        self.counters.flushes += 1;
        let last = self.log.last_sequence();
        if last <= self.log.durable_through {
            self.durability.note_flush();
            self.durability.note_sync(cx.now);
        } else if by == FlushedBy::Client && self.may_owe_flush(cx.now) {
            self.counters.ignored_flushes += 1;
            // What is acknowledged was written: the flush stands for that.
            self.durability.owed.through = self.log.completed_through;
            self.durability.owed.flushes += 1;
        } else {
            self.durability.note_flush();
            return self.durability.wait(last, request);
        }
        cx.out.push(Output::Reply { request, result: Ok(Answer::Done) });
    }

    /// True for a client that flushes after every write: a record made durable at once costs it one wait instead of
    /// two. Not ahead of a flush that need not be done.
    pub(super) fn expects_flush(&mut self, now: Duration) -> bool {
        self.durability.single_record_flushes >= FLUSHES_TO_EXPECT && !self.may_owe_flush(now)
    }

    /// Whether one more flush may be answered without a sync.
    fn may_owe_flush(&mut self, now: Duration) -> bool {
        if !self.owes_sync() {
            self.durability.owed.flushes = 0;
        }
        self.durability.owed.flushes < self.own.sync_ignore.flushes && !self.is_time_over(now)
    }

    /// Whether the last sync is too long ago for flushes that are not done.
    fn is_time_over(&self, now: Duration) -> bool {
        let most = Duration::from_secs(self.own.sync_ignore.seconds.into());
        self.durability.last_sync.is_none_or(|at| now.saturating_sub(at) >= most)
    }

    /// Whether flushes were answered for what is not durable yet.
    pub(super) fn owes_sync(&self) -> bool {
        self.durability.owed.flushes > 0 && self.durability.owed.through > self.log.durable_through
    }

    /// Whether what is owed must wait no longer.
    fn must_sync(&self, now: Duration) -> bool {
        let too_many = self.durability.owed.flushes > self.own.sync_ignore.flushes;
        self.owes_sync() && (too_many || self.is_time_over(now))
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
        if !client && !background && !self.must_sync(cx.now) {
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
        self.durability.running =
            Some(Running { log_through: completed, relocation_through, waiting_for, began: cx.now });
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
        self.durability.note_sync(running.began);
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
