//! Compaction: the emptiest settled SCO is read, what the map still refers to is appended to the relocation stream, and
//! the map is changed, cluster by cluster, only where it still refers to the old place. Then the SCO is evacuated, and
//! free once the memtable that got the new places is in a run that a durable manifest names.
//!
//! It is paced by the clients' writes: each byte they log earns credit, the more the fewer segments are free. The
//! scrubber will use the same reading, judging and moving over snapshots' lists of runs.

use std::collections::VecDeque;

use bytes::Bytes;

use super::address::{CLUSTER_SIZE, ClusterAddress, Location, ScoNumber, Sequence};
use super::event::{Failure, Output, Promise, ReadId, Report, Stream};
use super::map::{Extent, Missing};
use super::read::PageWaiter;
use super::victim::Victim;
use super::{Context, Volume};

/// Candidates that wait for judgement at most when the next chunk is read.
const CANDIDATES_MAX: usize = 256;
/// Candidates whose pages are read ahead of their judgement.
const PAGES_AHEAD: usize = 64;
/// Credit that may be saved up, in bytes.
const CREDIT_MAX: i64 = 8 << 20;
/// An SCO with a larger share in use (in 1/1024) is not worth moving.
const SHARE_MAX: u32 = 940;

/// A cluster that changes its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    address: ClusterAddress,
    from: Location,
    to: Location,
    crc: u32,
    /// [`super::map::Map::flushes`] when it was judged.
    flushes: u64,
}

/// A relocation record that was written, on its way into the map.
#[derive(Debug)]
struct Applying {
    sequence: Sequence,
    sco: ScoNumber,
    end_block: u32,
    moves: VecDeque<Move>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    victim: Option<Victim>,
    applying: VecDeque<Applying>,
    applied_through: Sequence,
    /// A page that judging or applying waits for.
    waits_for: Option<Missing>,
    credit: i64,
    /// Share of the victim in use when it was chosen, in 1/1024.
    share: u32,
    /// Credit that a logged byte earns, in 1/16.
    rate: i64,
    asked: bool,
    pool_empty: bool,
    /// No client wrote between the last two ticks.
    quiet: bool,
    bytes_at_tick: u64,
}

impl Compaction {
    pub(super) fn applied_through(&self) -> Sequence {
        self.applied_through
    }

    pub(super) fn client_wrote(&mut self, bytes: u64) {
        self.credit = (self.credit + bytes as i64 * self.rate / 16).min(CREDIT_MAX);
    }

    pub(super) fn idle_credit(&mut self, bytes: u64) {
        self.pool_empty = false;
        self.credit = (self.credit + bytes as i64).min(CREDIT_MAX);
    }

    pub(super) fn pool_answered(&mut self, empty: bool) {
        self.asked = false;
        self.pool_empty = empty;
    }

    pub(super) fn page_arrived(&mut self, page: Missing) {
        self.waits_for.take_if(|waiting| *waiting == page);
    }

    pub(super) fn is_reading(&self, read: ReadId) -> bool {
        self.victim.as_ref().is_some_and(|victim| victim.reading == Some(read))
    }
}

impl Volume {
    /// Fewer segments are free than compaction aims at.
    fn is_pressed(&self) -> bool {
        self.space.free < self.space.backoff
    }

    /// Segments that compaction should bring, those on their way not counted.
    fn missing(&self) -> u32 {
        self.space.backoff.saturating_sub(self.space.free).saturating_sub(self.scos.evacuated() as u32)
    }

    /// Writes wait for a segment that the pool does not have.
    pub(super) fn is_starving(&self) -> bool {
        self.writes.waits_for_space() && self.log.needs_sco()
    }

    /// Time passed: notes whether clients wrote since the last tick.
    pub(super) fn note_quiet(&mut self) {
        self.compaction.quiet = self.compaction.bytes_at_tick == self.log.bytes;
        self.compaction.bytes_at_tick = self.log.bytes;
    }

    /// Segments are wanted, by this volume or (while it is quiet) by others, and nothing that is known to be garbage is
    /// on its way out: what was overwritten and trimmed must be found out.
    pub(super) fn is_out_of_victims(&self) -> bool {
        let wanted = self.is_starving() || (self.is_pressed() && self.compaction.quiet);
        let idle = self.compaction.victim.is_none() && self.scos.evacuated() == 0;
        wanted && idle && self.next_victim().is_none()
    }

    /// A freeze would set segments free that are needed.
    pub(super) fn compaction_waits_for_freeze(&self) -> bool {
        let evacuated = self.scos.unfrozen();
        // A freeze for each would cost many small runs; one that comes too late leaves the log without a segment.
        let enough = (self.space.backoff * 2 / 3).max(2).min(self.space.free + 1) as usize;
        self.is_out_of_victims()
            || (evacuated > 0 && (self.is_starving() || (self.is_pressed() && self.compaction.quiet)))
            || (self.is_pressed() && evacuated >= enough)
    }

    pub(super) fn compaction_wants_ticks(&self) -> bool {
        let undiscovered = || {
            let level0 = self.map.levels().first().is_some_and(|runs| !runs.is_empty());
            !self.map.active.is_empty() || level0 || self.scos.evacuated() > 0
        };
        self.is_pressed()
            && (self.compaction.victim.is_some() || self.next_victim().is_some() || undiscovered())
    }

    /// True if writes that find no segment should wait for what is going on here.
    pub(super) fn space_may_come(&self) -> bool {
        self.checkpoint.brings_space()
            || self.compaction.victim.is_some()
            || self.scos.evacuated() > 0
            || !self.map.active.is_empty()
            || self.map.levels().first().is_some_and(|runs| !runs.is_empty())
            || self.next_victim().is_some()
    }

    fn next_victim(&self) -> Option<(ScoNumber, u32)> {
        let emptiest = self.scos.emptiest(self.checkpoint.settled(), self.checkpoint.replay_sco());
        emptiest.filter(|&(_, share)| share <= SHARE_MAX)
    }

    /// Goes on as far as credit, pages and the disk allow.
    pub(super) fn compact(&mut self, cx: &mut Context<'_>) {
        self.apply_moves(cx);
        if self.compaction.victim.is_none() && !self.choose_victim() {
            return;
        }
        self.read_chunk(cx);
        self.judge(cx);
        self.finish_victim(cx);
    }

    fn choose_victim(&mut self) -> bool {
        if self.missing() == 0 || self.compaction.pool_empty || self.checkpoint.is_resting() {
            return false;
        }
        let Some((number, share)) = self.next_victim() else { return false };
        let Some(sco) = self.scos.get_mut(number) else { return false };
        sco.pins += 1;
        self.compaction.victim = Some(Victim::new(number, sco.segment, sco.blocks));
        self.compaction.share = share;
        true
    }

    /// Sets what a logged byte earns. To gain a segment, `share / (1 - share)` segments must be moved, and an eighth of
    /// what is read is paid for; beyond that the more the fewer segments are free, so that it goes on evenly.
    fn set_pace(&mut self) {
        let goal = i64::from(self.space.backoff.max(1));
        let urgency = 2 * goal + 8 * i64::from(self.missing());
        let share = i64::from(self.compaction.share.min(960));
        let rate = 16 * (share + 128) * urgency / ((1024 - share) * 4 * goal);
        self.compaction.rate = rate.clamp(4, 256);
    }

    fn read_chunk(&mut self, cx: &mut Context<'_>) {
        self.set_pace();
        let urgent = self.space.free < self.space.trigger / 2 || self.is_starving();
        if self.compaction.credit <= 0 && !urgent {
            return;
        }
        // Large reads bring more, and hold the clients' records up for longer.
        let chunks = match self.missing() {
            _ if urgent => 4,
            missing if 2 * missing > self.space.backoff => 2,
            _ => 1,
        };
        let Some(victim) = &mut self.compaction.victim else { return };
        let (block, count) = victim.next_chunk(self.settings.compaction_read_blocks * chunks);
        if count == 0 || victim.reading.is_some() || victim.candidates.len() > CANDIDATES_MAX {
            return;
        }
        let read = self.reads.take_read_id();
        victim.reading = Some(read);
        let (offset, length) = (u64::from(block) * CLUSTER_SIZE as u64, count * CLUSTER_SIZE as u32);
        self.counters.compaction_read_bytes += u64::from(length);
        self.compaction.credit -= i64::from(length / 8);
        cx.out.push(Output::ReadData { read, segment: victim.segment, offset, length });
    }

    /// A chunk of the victim arrived.
    pub(super) fn chunk_read(&mut self, result: Result<Bytes, Failure>, cx: &mut Context<'_>) {
        let id = self.id;
        let Some(victim) = &mut self.compaction.victim else { return };
        victim.reading = None;
        let taken = result.map_err(|failure| failure.to_string());
        if let Err(reason) = taken.and_then(|chunk| victim.take_chunk(id, chunk)) {
            self.give_victim_up(reason, cx);
        }
    }

    /// Decides about candidates and appends those in use to the relocation stream.
    fn judge(&mut self, cx: &mut Context<'_>) {
        let mut places = Vec::new();
        while self.compaction.waits_for.is_none() {
            let Some(candidate) =
                self.compaction.victim.as_ref().and_then(|victim| victim.candidates.front())
            else {
                return;
            };
            let (address, location, crc) = (candidate.address, candidate.location, candidate.crc);
            places.clear();
            let live = match self.map.find(address, address.plus(1), cx.pages, &mut places) {
                Err(missing) => {
                    self.wait_for_page(missing, cx);
                    return self.read_pages_ahead(cx);
                }
                Ok(Extent::Empty { .. }) => false,
                Ok(Extent::Data) => places.first() == Some(&(location, crc)),
            };
            if live && !self.relocation_ready(cx) {
                return;
            }
            let taken = self.compaction.victim.as_mut().and_then(|victim| victim.candidates.pop_front());
            let Some(candidate) = taken.filter(|_| live) else { continue };
            if crc32fast::hash(&candidate.data) != crc {
                self.counters.damaged_clusters += 1;
                cx.out.push(Output::Report(Report::DamagedCluster { location, offset: address.offset() }));
                return self.give_victim_up(format!("cluster at block {} is damaged", location.block()), cx);
            }
            let Some(builder) = self.relocation.builder.as_mut() else { return };
            let sco = builder.sco();
            let to = Location::new(sco, builder.push_data(address, &candidate.data, crc));
            let flushes = self.map.flushes();
            self.relocation.owners.push(Move { address, from: location, to, crc, flushes });
            self.compaction.credit -= CLUSTER_SIZE as i64;
        }
    }

    /// Asks for the pages that the next candidates need: one by one they would cost a disk's latency each.
    fn read_pages_ahead(&mut self, cx: &mut Context<'_>) {
        let Some(victim) = &self.compaction.victim else { return };
        let ahead = victim.candidates.iter().skip(1).take(PAGES_AHEAD).map(|candidate| candidate.address);
        let mut places = Vec::new();
        for address in ahead.collect::<Vec<_>>() {
            if let Err(missing) = self.map.find(address, address.plus(1), cx.pages, &mut places) {
                self.want_page(missing, PageWaiter::Compaction, cx);
            }
        }
    }

    /// Sees to it that the open relocation record takes one more cluster.
    fn relocation_ready(&mut self, cx: &mut Context<'_>) -> bool {
        if self.relocation.has_failed() {
            return false;
        }
        if self.relocation.builder.as_ref().is_some_and(|builder| builder.room() == 0) {
            if self.relocation.in_flight.len() >= self.settings.compaction_records_in_flight {
                return false;
            }
            self.hand_out_relocation(cx);
        }
        let mut closed = None;
        let ready = self.relocation.builder(&mut closed).is_some();
        if let Some(sco) = closed.and_then(|closed| self.scos.get_mut(closed.number)) {
            sco.open = false;
        }
        let waiting = self.checkpoint.granted(Stream::Relocation) > 0 || !self.relocation.ahead.is_empty();
        if !ready && !waiting {
            self.want_relocation_segment(cx);
        }
        ready
    }

    /// Asks the pool for a segment that may come out of compaction's reserve; `false` if there was none lately.
    pub(super) fn want_relocation_segment(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.compaction.asked && !self.compaction.pool_empty {
            self.compaction.asked = true;
            cx.out.push(Output::WantSegments { stream: Stream::Relocation, count: 1 });
        }
        self.compaction.asked
    }

    fn hand_out_relocation(&mut self, cx: &mut Context<'_>) {
        if let Some(output) = self.relocation.hand_out(&self.author, Promise::Written) {
            if let Some(sco) =
                self.relocation.in_flight.back().and_then(|record| self.scos.get_mut(record.sco))
            {
                sco.unapplied += 1;
            }
            cx.out.push(output);
        }
    }

    /// A relocation record was written, or not.
    pub(super) fn relocation_written(
        &mut self,
        sequence: Sequence,
        result: Result<(), Failure>,
        cx: &mut Context<'_>,
    ) {
        self.relocation.written(sequence, result);
        let scos = &self.scos;
        while let Some(record) =
            self.relocation.next_completed(|number| scos.get(number).map(|sco| sco.segment))
        {
            self.compaction.applying.push_back(Applying {
                sequence: record.sequence,
                sco: record.sco,
                end_block: u32::from(record.block) + (record.bytes.len() / CLUSTER_SIZE) as u32,
                moves: record.owners.into(),
            });
        }
        if self.relocation.must_cut() {
            self.abandon_relocation(cx);
        }
        self.apply_moves(cx);
    }

    /// Nothing behind a failed relocation record is used; the victim stays where it is and is tried again.
    fn abandon_relocation(&mut self, cx: &mut Context<'_>) {
        let failure = self.relocation.in_flight.iter().find_map(|record| record.result.clone()?.err());
        let reason = failure.map(|failure| failure.to_string()).unwrap_or_default();
        for record in std::mem::take(&mut self.relocation.in_flight) {
            if let Some(sco) = self.scos.get_mut(record.sco) {
                sco.unapplied -= 1;
            }
            // Later records go on behind this one: the numbers were used.
            self.relocation.completed_through = record.sequence;
        }
        (self.relocation.builder, self.relocation.owners) = (None, Vec::new());
        if let Some(sco) = self.relocation.open.take().and_then(|open| self.scos.get_mut(open.number)) {
            sco.open = false;
        }
        self.drop_victim();
        self.compaction.pool_empty = true;
        cx.out.push(Output::Report(Report::JobFailed { what: "relocation", reason }));
    }

    /// Changes the map where it still refers to the old places.
    fn apply_moves(&mut self, cx: &mut Context<'_>) {
        let mut places = Vec::new();
        while let Some(applying) = self.compaction.applying.front_mut() {
            // Before the first move: a freeze between two moves of a record must know of the whole record.
            self.compaction.applied_through = applying.sequence;
            let number = applying.sco;
            if let Some(sco) = self.scos.get_mut(number) {
                sco.blocks = applying.end_block;
                sco.generation = self.checkpoint.generation();
            }
            while let Some(&moved) = applying.moves.front() {
                if moved.flushes == self.map.flushes() {
                    // The runs say what they said when it was judged; only a memtable can know better.
                    if self.map.is_settled(moved.address) {
                        self.map.active.insert_data(moved.address, moved.to, moved.crc);
                    }
                    applying.moves.pop_front();
                    continue;
                }
                places.clear();
                match self.map.find(moved.address, moved.address.plus(1), cx.pages, &mut places) {
                    Err(missing) => return self.wait_for_page(missing, cx),
                    Ok(Extent::Data) if places.first() == Some(&(moved.from, moved.crc)) => {
                        self.map.active.insert_data(moved.address, moved.to, moved.crc);
                    }
                    Ok(_) => {}
                }
                applying.moves.pop_front();
            }
            self.compaction.applying.pop_front();
            if let Some(sco) = self.scos.get_mut(number) {
                sco.unapplied -= 1;
            }
        }
    }

    fn wait_for_page(&mut self, missing: Missing, cx: &mut Context<'_>) {
        if self.compaction.waits_for.is_none() {
            self.compaction.waits_for = Some(missing);
            self.want_page(missing, PageWaiter::Compaction, cx);
        }
    }

    /// Part of the map cannot be read: without its word nothing is moved. The old places stay as they are.
    pub(super) fn map_unreadable(&mut self, page: Missing, cx: &mut Context<'_>) {
        self.compaction.page_arrived(page);
        for applying in &mut self.compaction.applying {
            applying.moves.clear();
        }
        self.give_victim_up("the map of one of its clusters cannot be read".into(), cx);
        self.apply_moves(cx);
    }

    /// Ends the evacuation once everything that was in use has its new place in the map.
    fn finish_victim(&mut self, cx: &mut Context<'_>) {
        let Some(victim) = &self.compaction.victim else { return };
        if !victim.is_done() || self.relocation.has_failed() {
            return;
        }
        if self.relocation.builder.as_ref().is_some_and(|builder| !builder.is_empty()) {
            if self.relocation.in_flight.len() < self.settings.compaction_records_in_flight {
                self.hand_out_relocation(cx);
            }
            return;
        }
        if self.relocation.in_flight.is_empty() && self.compaction.applying.is_empty() {
            let (number, generation) = (victim.number, self.checkpoint.generation());
            self.scos.set_evacuated(number, generation);
            self.drop_victim();
            // The next victim starts with this turn's outputs: a call costs a look at the table.
            self.choose_victim();
            self.read_chunk(cx);
        }
    }

    fn drop_victim(&mut self) {
        if let Some(sco) = self.compaction.victim.take().and_then(|victim| self.scos.get_mut(victim.number)) {
            sco.pins -= 1;
        }
    }

    fn give_victim_up(&mut self, reason: String, cx: &mut Context<'_>) {
        if let Some(victim) = &self.compaction.victim {
            let number = victim.number;
            if let Some(sco) = self.scos.get_mut(number) {
                sco.damaged = true;
            }
            cx.out.push(Output::Report(Report::DamagedSco { sco: number, reason }));
        }
        self.drop_victim();
    }
}
