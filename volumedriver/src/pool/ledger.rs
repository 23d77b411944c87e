//! Which segment is free, and who waits for one. No I/O and no clock: the keeper brings both.
//!
//! Invariants: a segment is in exactly one of absent, making, free, used; the log never takes the last
//! `compaction_reserve` free segments; a question is answered once, with at least one segment or (nothing to be had
//! now) with none.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::volume::address::SegmentId;
use crate::volume::event::{SpaceView, Stream};

/// How long a grant counts when the ledger judges how fast clients write.
const RATE_WINDOW: Duration = Duration::from_secs(2);

/// A volume on a data thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Home {
    /// Index of the data thread.
    pub thread: u32,
    /// Index of the volume on it.
    pub volume: u32,
}

/// A volume's question for segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Who asks.
    pub home: Home,
    /// What for.
    pub stream: Stream,
    /// How many it would like.
    pub count: u32,
}

/// The answer to a [`Want`].
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who asked.
    pub home: Home,
    /// What for.
    pub stream: Stream,
    /// What it got.
    pub segments: Vec<SegmentId>,
}

/// Bounds in segments.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All that may ever exist.
    pub total: u32,
    /// Grantable only to [`Stream::Relocation`].
    pub compaction_reserve: u32,
    /// Kept free for the log.
    pub ready_min: u32,
    /// Bound of the same while clients write fast.
    pub ready_max: u32,
    /// [`SpaceView::trigger`]; cut to a sixty-fourth of the pool, but not below two.
    pub trigger: u32,
    /// [`SpaceView::backoff`]; cut to a thirty-second of the pool, but not below four.
    pub backoff: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Making,
    Free,
    Used,
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    /// `total` is never less than what exists.
    limits: Limits,
    /// What shall exist at most; less than what does after the pool was made smaller.
    total_wanted: u32,
    states: Vec<State>,
    free: VecDeque<SegmentId>,
    making: u32,
    used: u32,
    waiting: VecDeque<Want>,
    granted: VecDeque<Instant>,
    /// The file system had no room for another segment.
    full: bool,
    reserve: ReserveState,
}

/// How the reserve file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveState {
    /// It has its full length.
    Whole,
    /// It is being written and nothing speaks against its success: the log waits.
    Restoring,
    /// The file system has no room for it: the log gets nothing.
    Short,
}

/// How many segments are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Ready to be granted.
    pub free: u32,
    /// With a volume.
    pub used: u32,
    /// Being zero-written.
    pub making: u32,
    /// Not made yet, but allowed.
    pub absent: u32,
}

impl Ledger {
    /// `existing` segments are on disk, `used` of them belong to volumes.
    pub fn new(
        limits: Limits,
        existing: impl IntoIterator<Item = SegmentId>,
        used: impl IntoIterator<Item = SegmentId>,
    ) -> Self {
        let mut ledger = Self {
            limits,
            total_wanted: 0,
            states: Vec::new(),
            free: VecDeque::new(),
            making: 0,
            used: 0,
            waiting: VecDeque::new(),
            granted: VecDeque::new(),
            full: false,
            reserve: ReserveState::Whole,
        };
        for segment in existing {
            *ledger.state(segment) = State::Free;
        }
        for segment in used {
            // One that is named but missing counts as used, too: its number must not be given to a new file.
            *ledger.state(segment) = State::Used;
        }
        for (number, state) in ledger.states.iter().enumerate() {
            match state {
                State::Free => ledger.free.push_back(SegmentId(number as u32)),
                State::Used => ledger.used += 1,
                State::Absent | State::Making => {}
            }
        }
        ledger.limits.total = ledger.limits.total.max(ledger.existing());
        ledger.total_wanted = ledger.limits.total;
        ledger
    }

    fn state(&mut self, segment: SegmentId) -> &mut State {
        let index = segment.0 as usize;
        if self.states.len() <= index {
            self.states.resize(index + 1, State::Absent);
        }
        &mut self.states[index]
    }

    fn existing(&self) -> u32 {
        self.free.len() as u32 + self.used + self.making
    }

    fn creatable(&self) -> u32 {
        if self.full { 0 } else { self.limits.total.saturating_sub(self.existing()) }
    }

    /// Free segments this stream may take now.
    fn available(&self, stream: Stream) -> usize {
        match stream {
            Stream::Relocation => self.free.len(),
            Stream::Log if self.reserve != ReserveState::Whole => 0,
            Stream::Log => {
                let kept = self.limits.compaction_reserve + self.surplus();
                self.free.len().saturating_sub(kept as usize)
            }
        }
    }

    /// Segments that exist and should not.
    fn surplus(&self) -> u32 {
        self.existing().saturating_sub(self.total_wanted)
    }

    /// The next free segment that goes because the pool became smaller; it is absent then. What compaction needs
    /// stays.
    pub fn retire(&mut self) -> Option<SegmentId> {
        if self.surplus() == 0 || self.free.len() as u32 <= self.limits.compaction_reserve {
            return None;
        }
        let segment = self.free.pop_back()?;
        *self.state(segment) = State::Absent;
        self.limits.total = self.total_wanted.max(self.existing());
        Some(segment)
    }

    /// Other limits; the total waits for [`Ledger::set_total`].
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = Limits { total: self.limits.total, ..limits };
    }

    /// Answers who waits, after the bounds changed.
    pub fn answer_waiting(&mut self, now: Instant) -> Vec<Grant> {
        if self.waiting.is_empty() { Vec::new() } else { self.answer(now) }
    }

    /// A question came in; the grants it leads to.
    pub fn want(&mut self, want: Want, now: Instant) -> Vec<Grant> {
        self.waiting.push_back(want);
        self.answer(now)
    }

    /// Volumes gave these back. One that was not out is ignored: freeing it twice would give it to two volumes.
    /// Returns the grants, and how many were ignored.
    pub fn release(&mut self, segments: &[SegmentId], now: Instant) -> (Vec<Grant>, usize) {
        let mut ignored = 0;
        for &segment in segments {
            if *self.state(segment) != State::Used {
                ignored += 1;
                continue;
            }
            *self.state(segment) = State::Free;
            self.used -= 1;
            self.free.push_back(segment);
        }
        (self.answer(now), ignored)
    }

    /// A volume gave back a segment whose file is gone or not to be used: its number may get a new one. `false`: it was
    /// not out.
    pub fn discard(&mut self, segment: SegmentId) -> bool {
        let was_out = *self.state(segment) == State::Used;
        if was_out {
            *self.state(segment) = State::Absent;
            self.used -= 1;
        }
        was_out
    }

    /// The next segment that should be made, which is then `Making`; one at a time is made.
    pub fn next_to_make(&mut self, now: Instant) -> Option<SegmentId> {
        if self.making > 0 || self.creatable() == 0 || self.free.len() as u32 >= self.ready_target(now) {
            return None;
        }
        let index = self.states.iter().position(|&state| state == State::Absent).unwrap_or(self.states.len());
        let segment = SegmentId(index as u32);
        *self.state(segment) = State::Making;
        self.making += 1;
        Some(segment)
    }

    /// Free segments to have: what compaction keeps, what waits, and what recent writing suggests.
    fn ready_target(&mut self, now: Instant) -> u32 {
        while self.granted.front().is_some_and(|&at| now.duration_since(at) > RATE_WINDOW) {
            self.granted.pop_front();
        }
        let waiting: u32 = self.waiting.iter().map(|want| want.count.max(1)).sum();
        let ready = self.limits.ready_min.max(self.granted.len() as u32).min(self.limits.ready_max);
        self.limits.compaction_reserve + ready.max(waiting)
    }

    /// A segment is ready.
    pub fn made(&mut self, segment: SegmentId, now: Instant) -> Vec<Grant> {
        if *self.state(segment) == State::Making {
            *self.state(segment) = State::Free;
            self.making -= 1;
            self.free.push_back(segment);
        }
        self.answer(now)
    }

    /// A segment could not be made: no more are tried until [`Ledger::set_total`].
    pub fn make_failed(&mut self, segment: SegmentId, now: Instant) -> Vec<Grant> {
        if *self.state(segment) == State::Making {
            *self.state(segment) = State::Absent;
            self.making -= 1;
        }
        self.full = true;
        self.answer(now)
    }

    /// The bound was judged again: `total` segments fit.
    pub fn set_total(&mut self, total: u32) {
        self.total_wanted = total;
        self.limits.total = total.max(self.existing());
        self.full = false;
    }

    /// True after a segment could not be made.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// The reserve was used, is being restored, or was.
    pub fn set_reserve(&mut self, state: ReserveState, now: Instant) -> Vec<Grant> {
        self.reserve = state;
        self.answer(now)
    }

    /// As last set.
    pub fn reserve(&self) -> ReserveState {
        self.reserve
    }

    /// Answers the waiting as far as possible, in order. Who cannot be served goes on waiting while segments are being
    /// made; else it gets an empty answer.
    fn answer(&mut self, now: Instant) -> Vec<Grant> {
        let mut grants = Vec::new();
        for want in std::mem::take(&mut self.waiting) {
            let count = self.available(want.stream).min(want.count.max(1) as usize);
            let more_come = match (want.stream, self.reserve) {
                (Stream::Log, ReserveState::Short) => false,
                (Stream::Log, ReserveState::Restoring) => true,
                _ => self.making > 0 || self.creatable() > 0,
            };
            if count == 0 && more_come {
                self.waiting.push_back(want);
                continue;
            }
            let segments: Vec<_> = self.free.drain(..count).collect();
            for &segment in &segments {
                *self.state(segment) = State::Used;
                self.used += 1;
                if self.granted.len() < self.limits.ready_max as usize {
                    self.granted.push_back(now);
                }
            }
            grants.push(Grant { home: want.home, stream: want.stream, segments });
        }
        grants
    }

    /// The level, as volumes see it.
    pub fn view(&self) -> SpaceView {
        let room = self.free.len() as u32 + self.making + self.creatable();
        let short = self.reserve == ReserveState::Short;
        let kept = self.limits.compaction_reserve + self.surplus();
        let free = if short { 0 } else { room.saturating_sub(kept) };
        let total = if self.full { self.existing() } else { self.limits.total };
        // In a pool of a few segments the gaps must not be all of it, else compaction never rests.
        // A free segment is one that garbage could have lain in until it was worth compacting: a small pool keeps few.
        let trigger = self.limits.trigger.min((total / 64).max(2));
        let backoff = self.limits.backoff.min((total / 32).max(4)).max(trigger);
        SpaceView { free, total, trigger, backoff }
    }

    /// Segments of which something is on disk.
    pub fn on_disk(&self) -> u32 {
        self.existing()
    }

    /// For the metrics.
    pub fn census(&self) -> Census {
        Census {
            free: self.free.len() as u32,
            used: self.used,
            making: self.making,
            absent: self.creatable(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { total: 10, compaction_reserve: 3, ready_min: 2, ready_max: 4, trigger: 4, backoff: 6 };

    fn want(volume: u32, stream: Stream, count: u32) -> Want {
        Want { home: Home { thread: 0, volume }, stream, count }
    }

    fn ids(numbers: std::ops::Range<u32>) -> impl Iterator<Item = SegmentId> {
        numbers.map(SegmentId)
    }

    /// Makes segments until the ledger wants no more; how many.
    fn make_all(ledger: &mut Ledger, now: Instant) -> (usize, Vec<Grant>) {
        let mut grants = Vec::new();
        let mut count = 0;
        while let Some(segment) = ledger.next_to_make(now) {
            grants.extend(ledger.made(segment, now));
            count += 1;
        }
        (count, grants)
    }

    #[test]
    fn the_log_never_takes_what_compaction_needs() {
        let now = Instant::now();
        let limits = Limits { total: 5, ..LIMITS };
        let mut ledger = Ledger::new(limits, ids(0..5), []);
        assert_eq!(ledger.want(want(0, Stream::Log, 4), now)[0].segments, [SegmentId(0), SegmentId(1)]);
        assert_eq!(ledger.view().free, 0);
        assert_eq!(ledger.want(want(0, Stream::Log, 1), now)[0].segments, []);
        assert_eq!(ledger.want(want(0, Stream::Relocation, 9), now)[0].segments.len(), 3);
        let (grants, ignored) = ledger.release(&[SegmentId(0), SegmentId(0)], now);
        assert_eq!((grants, ignored), (vec![], 1), "a double release must not give a segment twice");
        assert_eq!(ledger.census(), Census { free: 1, used: 4, making: 0, absent: 0 });
    }

    #[test]
    fn keeps_some_ready_and_answers_who_waits() {
        let now = Instant::now();
        let mut ledger = Ledger::new(LIMITS, [], []);
        assert_eq!(make_all(&mut ledger, now).0, 5, "two ready beyond the compactor's three");
        assert_eq!(ledger.want(want(0, Stream::Log, 2), now)[0].segments.len(), 2);
        assert_eq!(ledger.want(want(1, Stream::Log, 1), now), [], "waits while more can be made");
        let (count, grants) = make_all(&mut ledger, now);
        assert_eq!((grants.len(), grants[0].home.volume), (1, 1));
        assert_eq!(count, 4, "three granted within the window make three ready");
        let later = now + RATE_WINDOW + Duration::from_secs(1);
        assert_eq!(ledger.ready_target(later), 5, "the rate is forgotten");
    }

    #[test]
    fn no_room_is_an_empty_answer_and_ends() {
        let now = Instant::now();
        let mut ledger = Ledger::new(LIMITS, [], []);
        assert_eq!(ledger.want(want(0, Stream::Log, 1), now), []);
        let segment = ledger.next_to_make(now).unwrap();
        let grants = ledger.make_failed(segment, now);
        assert_eq!(
            grants,
            [Grant { home: Home { thread: 0, volume: 0 }, stream: Stream::Log, segments: vec![] }]
        );
        assert_eq!((ledger.view().free, ledger.view().total, ledger.next_to_make(now)), (0, 0, None));
        ledger.set_total(10);
        assert_eq!(ledger.next_to_make(now), Some(segment));
    }

    #[test]
    fn a_broken_reserve_stops_the_log_but_not_compaction() {
        let now = Instant::now();
        let mut ledger = Ledger::new(LIMITS, ids(0..10), []);
        ledger.set_reserve(ReserveState::Restoring, now);
        assert_eq!(ledger.want(want(1, Stream::Log, 1), now), [], "waits for the reserve");
        assert_eq!(ledger.set_reserve(ReserveState::Short, now)[0].segments, []);
        assert_eq!(ledger.want(want(0, Stream::Log, 1), now)[0].segments, []);
        assert_eq!(ledger.want(want(0, Stream::Relocation, 1), now)[0].segments.len(), 1);
        assert_eq!(ledger.view().free, 0);
        ledger.set_reserve(ReserveState::Whole, now);
        assert_eq!(ledger.want(want(0, Stream::Log, 1), now)[0].segments.len(), 1);
    }

    #[test]
    fn a_smaller_pool_lets_free_segments_go_and_takes_back_what_returns() {
        let now = Instant::now();
        let mut ledger = Ledger::new(LIMITS, ids(0..10), ids(0..4));
        ledger.set_total(8);
        assert_eq!(
            (ledger.view().free, ledger.view().total),
            (1, 10),
            "of six free ones two go, three are kept"
        );
        assert_eq!(
            [ledger.retire(), ledger.retire(), ledger.retire()],
            [Some(SegmentId(9)), Some(SegmentId(8)), None]
        );
        assert_eq!((ledger.view().free, ledger.view().total), (1, 8));
        // Less than volumes have: nothing for the log, what compaction needs stays, and each that comes back goes.
        ledger.set_total(4);
        assert_eq!([ledger.retire(), ledger.retire()], [Some(SegmentId(7)), None]);
        assert_eq!(ledger.want(want(0, Stream::Log, 1), now)[0].segments, []);
        assert_eq!(ledger.want(want(0, Stream::Relocation, 1), now)[0].segments.len(), 1);
        ledger.release(&[SegmentId(0), SegmentId(1)], now);
        assert_eq!([ledger.retire(), ledger.retire()], [Some(SegmentId(1)), None]);
        assert_eq!(ledger.next_to_make(now), None);
        ledger.set_total(20);
        assert_eq!(ledger.next_to_make(now), Some(SegmentId(1)), "a larger one has them made again");
    }

    #[test]
    fn who_waits_is_answered_when_nothing_more_may_be_made() {
        let now = Instant::now();
        let mut ledger = Ledger::new(LIMITS, ids(0..3), []);
        assert_eq!(ledger.want(want(0, Stream::Log, 1), now), [], "more can be made");
        ledger.set_total(3);
        assert_eq!(ledger.answer_waiting(now)[0].segments, []);
        assert_eq!(ledger.answer_waiting(now), []);
    }

    #[test]
    fn used_segments_are_not_handed_out_even_if_their_file_is_missing() {
        let now = Instant::now();
        let mut ledger = Ledger::new(LIMITS, ids(0..2), [SegmentId(1), SegmentId(3)]);
        assert_eq!(ledger.census(), Census { free: 1, used: 2, making: 0, absent: 7 });
        let mut seen = Vec::new();
        while let Some(segment) = ledger.next_to_make(now) {
            ledger.made(segment, now);
            seen.push(segment.0);
        }
        assert_eq!(seen, [2, 4, 5, 6]);
    }
}
