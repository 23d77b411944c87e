//! Writes, trims and write-zeroes on their way into the log.
//!
//! What can be appended at once goes straight from the receive buffer into the open record. What cannot (no SCO, too
//! many records in flight, a read-modify-write of the same clusters) waits in one queue, in order of arrival.

use std::collections::VecDeque;

use bytes::Bytes;

use super::address::{CLUSTER_SIZE, ClusterAddress, Location, SegmentId};
use super::event::{Answer, Emptiness, EmptyKind, Output, Promise, Report, RequestError, RequestId, Stream};
use super::rmw::{Kept, Rmw};
use super::{Context, Volume, fail};

/// Who waits for a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) request: RequestId,
    pub(super) promise: Promise,
}

/// A part of a write that covers whole clusters.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Data { address: ClusterAddress, data: Bytes },
    Empty { address: ClusterAddress, count: u64, kind: Emptiness },
}

/// What a client wants to put somewhere.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Data(Bytes),
    Zeroes { length: u64, kind: Emptiness },
}

impl Body {
    pub(super) fn length(&self) -> u64 {
        match self {
            Body::Data(data) => data.len() as u64,
            Body::Zeroes { length, .. } => *length,
        }
    }

    pub(super) fn held(&self) -> usize {
        match self {
            Body::Data(data) => data.len(),
            Body::Zeroes { .. } => 0,
        }
    }
}

/// Something that could not be appended when it came.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Not looked at yet.
    Whole { owner: Owner, offset: u64, body: Body },
    /// Whole clusters, ready to be appended.
    Pieces { owners: Vec<Owner>, pieces: VecDeque<Piece>, origin: Origin },
}

/// Where whole clusters come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client's request.
    Client,
    /// A record that could not be written: the map refers to it, so it must be written again.
    Cut,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Writes {
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) held: usize,
    pub(super) rmws: Vec<Rmw>,
    pub(super) next_rmw: u64,
    /// The pool had nothing for the log when it was asked last.
    pool_empty: bool,
    /// A question to the pool is open, for the log.
    asked: bool,
    pub(super) cuts_in_a_row: u32,
}

impl Writes {
    pub(super) fn pending_bytes(&self) -> usize {
        self.held
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.rmws.is_empty()
    }

    pub(super) fn waits_for_space(&self) -> bool {
        self.pool_empty && !self.waiting.is_empty()
    }

    pub(super) fn retry_space(&mut self) {
        self.pool_empty = false;
    }

    pub(super) fn take_all(&mut self) -> impl Iterator<Item = RequestId> + use<> {
        let waiting = std::mem::take(&mut self.waiting).into_iter().flat_map(|waiting| match waiting {
            Waiting::Whole { owner, .. } => vec![owner],
            Waiting::Pieces { owners, .. } => owners,
        });
        self.held = 0;
        waiting
            .map(|owner| owner.request)
            .chain(std::mem::take(&mut self.rmws).into_iter().map(|rmw| rmw.owner.request))
    }

    fn overlaps_rmw(&self, first: ClusterAddress, last: ClusterAddress) -> bool {
        self.rmws.iter().any(|rmw| rmw.first <= last && first <= rmw.last)
    }

    fn queue(&mut self, waiting: Waiting) {
        self.held += held(&waiting);
        self.waiting.push_back(waiting);
    }

    pub(super) fn queue_first(&mut self, waiting: Waiting) {
        self.held += held(&waiting);
        self.waiting.push_front(waiting);
    }

    /// In front of all that clients sent later, but behind what was in the log before and must go there again.
    pub(super) fn queue_behind_cut(&mut self, waiting: Waiting) {
        let cut = |waiting: &&Waiting| matches!(waiting, Waiting::Pieces { origin: Origin::Cut, .. });
        let at = self.waiting.iter().take_while(cut).count();
        self.held += held(&waiting);
        self.waiting.insert(at, waiting);
    }

    fn next(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.held -= held(&waiting);
        Some(waiting)
    }
}

fn held(waiting: &Waiting) -> usize {
    match waiting {
        Waiting::Whole { body, .. } => body.held(),
        Waiting::Pieces { pieces, .. } => pieces
            .iter()
            .map(|piece| match piece {
                Piece::Data { data, .. } => data.len(),
                Piece::Empty { .. } => 0,
            })
            .sum(),
    }
}

impl Volume {
    /// A client's write.
    pub(super) fn write(
        &mut self,
        request: RequestId,
        offset: u64,
        data: &[u8],
        promise: Promise,
        cx: &mut Context<'_>,
    ) {
        self.counters.writes += 1;
        self.counters.written_bytes += data.len() as u64;
        let owner = Owner { request, promise };
        let aligned = offset.is_multiple_of(CLUSTER_SIZE as u64) && data.len().is_multiple_of(CLUSTER_SIZE);
        if data.is_empty() {
            cx.out.push(Output::Reply { request, result: Ok(Answer::Done) });
        } else if aligned && self.writes.is_empty() {
            let address = ClusterAddress::containing(offset);
            let done = self.append_data(address, data, cx);
            if done == data.len() {
                self.log.owners.push(owner);
            } else {
                let address = address.plus((done / CLUSTER_SIZE) as u64);
                let piece = Piece::Data { address, data: Bytes::copy_from_slice(&data[done..]) };
                self.writes.queue(client_pieces(owner, VecDeque::from([piece])));
                self.blocked(cx);
            }
        } else {
            self.writes.queue(Waiting::Whole {
                owner,
                offset,
                body: Body::Data(Bytes::copy_from_slice(data)),
            });
            self.drain(cx);
        }
    }

    /// A client's trim or write-zeroes.
    pub(super) fn empty(
        &mut self,
        owner: Owner,
        offset: u64,
        length: u64,
        kind: EmptyKind,
        cx: &mut Context<'_>,
    ) {
        self.counters.empties += 1;
        let (offset, length, kind) = match kind {
            EmptyKind::Zeroes(kind) => (offset, length, kind),
            EmptyKind::Trim => {
                let first = ClusterAddress::at_or_after(offset);
                // The last cluster of a volume may be partial; trimming all of it that there is trims it.
                let end = if offset + length == self.size {
                    ClusterAddress::at_or_after(self.size)
                } else {
                    ClusterAddress::containing(offset + length)
                };
                (first.offset(), end.offset().saturating_sub(first.offset()), Emptiness::Hole)
            }
        };
        if length == 0 {
            cx.out.push(Output::Reply { request: owner.request, result: Ok(Answer::Done) });
            return;
        }
        self.writes.queue(Waiting::Whole { owner, offset, body: Body::Zeroes { length, kind } });
        self.drain(cx);
    }

    /// Appends as much of `data` (whole clusters) as goes now; gives the bytes taken.
    fn append_data(&mut self, mut address: ClusterAddress, data: &[u8], cx: &mut Context<'_>) -> usize {
        let mut done = 0;
        while done < data.len() && self.record_ready(cx) {
            let Some(builder) = self.log.builder.as_mut() else { break };
            let sco = builder.sco();
            for cluster in data[done..].chunks_exact(CLUSTER_SIZE).take(builder.room()) {
                let crc = crc32fast::hash(cluster);
                let block = builder.push_data(address, cluster, crc);
                self.map.active.insert_data(address, Location::new(sco, block), crc);
                address = address.plus(1);
                done += CLUSTER_SIZE;
            }
        }
        done
    }

    /// Appends as much of an empty stretch as goes now; gives the clusters taken.
    fn append_empty(
        &mut self,
        address: ClusterAddress,
        count: u64,
        kind: Emptiness,
        cx: &mut Context<'_>,
    ) -> u64 {
        let mut done = 0;
        while done < count && self.record_ready(cx) {
            let Some(builder) = self.log.builder.as_mut() else { break };
            let part = (count - done).min(u64::from(u32::MAX));
            builder.push_empty(address.plus(done), part as u32, kind);
            self.map.active.insert_empty(address.plus(done), part, kind);
            done += part;
        }
        done
    }

    /// Sees to it that the open record takes one more cluster; `false` if that has to wait.
    fn record_ready(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.log_open(cx) || self.log.has_failed() {
            return false;
        }
        if self.log.builder.as_ref().is_some_and(|builder| builder.room() == 0) {
            if self.log.in_flight.len() >= self.records_in_flight() {
                return false;
            }
            self.hand_out_record(cx);
        }
        let mut closed = None;
        let ready = self.log.builder(&mut closed).is_some();
        if let Some(closed) = closed {
            self.close_sco(closed);
        }
        if self.log.ahead.len() < self.settings.segments_ahead {
            self.want_log_segments(cx);
        }
        ready
    }

    /// Records of the log that may be in flight: fewer while merges fall behind, so that look-ups stay cheap; none
    /// while the memtable is full and the one before it is not a run yet.
    fn records_in_flight(&self) -> usize {
        if self.map.frozen.is_some() && self.map.active.bytes() >= self.settings.memtable_bytes_max {
            return 0;
        }
        match self.map.levels().first().map_or(0, Vec::len) {
            runs if runs >= self.settings.level0_runs_hard => 0,
            runs if runs >= self.settings.level0_runs_soft => 1,
            _ => self.settings.records_in_flight,
        }
    }

    pub(super) fn close_sco(&mut self, closed: super::log::OpenSco) {
        if let Some(sco) = self.scos.get_mut(closed.number) {
            sco.blocks = closed.next_block;
            sco.open = false;
        }
    }

    fn want_log_segments(&mut self, cx: &mut Context<'_>) {
        let fresh = self.log.ahead.len() + self.checkpoint.granted(Stream::Log);
        if !self.writes.asked && !self.writes.pool_empty && fresh < self.settings.segments_ahead {
            self.writes.asked = true;
            let count = (self.settings.segments_ahead - fresh) as u32;
            cx.out.push(Output::WantSegments { stream: Stream::Log, count });
        }
    }

    /// The pool answered.
    pub(super) fn segments_granted(&mut self, stream: Stream, segments: &[SegmentId], cx: &mut Context<'_>) {
        let rescue = stream == Stream::Relocation && self.needs_rescue();
        if rescue {
            self.compaction.pool_answered(segments.is_empty());
        }
        let stream = if rescue { Stream::Log } else { stream };
        for &segment in segments {
            let number = self.checkpoint.give_sco_number();
            self.scos.add(number, segment, stream);
            self.checkpoint.grant(stream, number, segment);
        }
        match stream {
            Stream::Relocation => self.compaction.pool_answered(segments.is_empty()),
            Stream::Log => {
                // A rescue answers another question: the log's own stays open.
                self.writes.asked &= rescue;
                self.writes.pool_empty = segments.is_empty();
                self.drain(cx);
            }
        }
    }

    /// Called when the log cannot take more: asks for what is missing, or gives up.
    fn blocked(&mut self, cx: &mut Context<'_>) {
        if self.log.needs_sco() {
            self.want_log_segments(cx);
        }
        let starved =
            self.log.needs_sco() && self.writes.pool_empty && self.checkpoint.granted(Stream::Log) == 0;
        if starved && self.needs_rescue() && self.want_relocation_segment(cx) {
            return;
        }
        if starved && !self.space_may_come() {
            self.counters.no_space += 1;
            cx.out.push(Output::Report(Report::NoSpace));
            let mut kept = VecDeque::new();
            while let Some(waiting) = self.writes.next() {
                match waiting {
                    Waiting::Whole { owner, .. } => fail(owner.request, RequestError::NoSpace, cx),
                    Waiting::Pieces { origin: Origin::Cut, .. } => kept.push_back(waiting),
                    Waiting::Pieces { owners, .. } => {
                        owners.iter().for_each(|owner| fail(owner.request, RequestError::NoSpace, cx));
                    }
                }
            }
            kept.into_iter().for_each(|waiting| self.writes.queue(waiting));
            // The next client that comes asks again.
            self.writes.retry_space();
        }
    }

    /// Appends what waits, as far as it goes.
    pub(super) fn drain(&mut self, cx: &mut Context<'_>) {
        while let Some(waiting) = self.writes.next() {
            match waiting {
                Waiting::Whole { owner, offset, body } => {
                    if !self.take_whole(owner, offset, body, cx) {
                        return;
                    }
                }
                Waiting::Pieces { owners, mut pieces, origin } => {
                    while let Some(piece) = pieces.pop_front() {
                        if let Some(rest) = self.append_piece(piece, cx) {
                            pieces.push_front(rest);
                            break;
                        }
                    }
                    if !pieces.is_empty() {
                        self.writes.queue_first(Waiting::Pieces { owners, pieces, origin });
                        return self.blocked(cx);
                    }
                    self.log.owners.extend(owners);
                    self.rewritten(origin);
                }
            }
        }
    }

    /// Appends a piece; gives back what did not fit.
    fn append_piece(&mut self, piece: Piece, cx: &mut Context<'_>) -> Option<Piece> {
        match piece {
            Piece::Data { address, data } => {
                let done = self.append_data(address, &data, cx);
                let address = address.plus((done / CLUSTER_SIZE) as u64);
                (done < data.len()).then(|| Piece::Data { address, data: data.slice(done..) })
            }
            Piece::Empty { address, count, kind } => {
                let done = self.append_empty(address, count, kind, cx);
                let rest = Piece::Empty { address: address.plus(done), count: count - done, kind };
                (done < count).then_some(rest)
            }
        }
    }

    /// Looks at a request for the first time: `false` (and back in the queue) if it conflicts with one before it.
    fn take_whole(&mut self, owner: Owner, offset: u64, body: Body, cx: &mut Context<'_>) -> bool {
        let end = offset + body.length();
        let (first, last) = (ClusterAddress::containing(offset), ClusterAddress::containing(end - 1));
        if self.writes.overlaps_rmw(first, last) {
            self.writes.queue_first(Waiting::Whole { owner, offset, body });
            return false;
        }
        let head_kept = !offset.is_multiple_of(CLUSTER_SIZE as u64);
        // Behind the end of the volume nothing is kept.
        let tail_kept = !end.is_multiple_of(CLUSTER_SIZE as u64) && end != self.size;
        if !head_kept
            && !tail_kept
            && (end.is_multiple_of(CLUSTER_SIZE as u64) || matches!(body, Body::Zeroes { .. }))
        {
            let pieces = VecDeque::from([match body {
                Body::Data(data) => Piece::Data { address: first, data },
                Body::Zeroes { kind, .. } => {
                    Piece::Empty { address: first, count: last.0 - first.0 + 1, kind }
                }
            }]);
            self.writes.queue_first(client_pieces(owner, pieces));
            return true;
        }
        self.start_rmw(owner, offset, body, Kept { head: head_kept, tail: tail_kept }, cx)
    }

    /// Hands the open record out at the end of a turn. While another one is on its way a small record waits for
    /// company: one write for many clusters costs less of the CPU, and of the log, than a write for each.
    pub(super) fn hand_out_log(&mut self, cx: &mut Context<'_>) {
        let Some(builder) = self.log.builder.as_ref().filter(|builder| !builder.is_empty()) else { return };
        let large = builder.data_blocks() >= self.settings.record_blocks_in_company;
        let records = if large { self.records_in_flight() } else { self.records_in_flight().min(1) };
        if !self.log.has_failed() && self.log.in_flight.len() < records {
            self.hand_out_record(cx);
        }
    }

    /// Hands the open record out now.
    pub(super) fn hand_out_record(&mut self, cx: &mut Context<'_>) {
        // FUA on the record alone is enough only if all before it is durable.
        let alone = self.log.in_flight.is_empty() && self.log.durable_through == self.log.completed_through;
        let asked = self.log.owners.iter().any(|owner| owner.promise == Promise::Durable);
        let durable = alone && (asked || self.expects_flush(cx.now));
        let promise = if durable { Promise::Durable } else { Promise::Written };
        self.durability.note_record();
        if let Some(output) = self.log.hand_out(&self.author, promise) {
            self.counters.records += 1;
            if let Some(open) = self.log.open {
                let generation = self.checkpoint.generation();
                if let Some(sco) = self.scos.get_mut(open.number) {
                    sco.generation = generation;
                }
            }
            cx.out.push(output);
        }
    }

    /// Records were written: acknowledges in order, goes on with what waits.
    pub(super) fn log_progress(&mut self, cx: &mut Context<'_>) {
        let scos = &self.scos;
        while let Some(record) = self.log.next_completed(|number| scos.get(number).map(|sco| sco.segment)) {
            self.writes.cuts_in_a_row = 0;
            self.compaction.client_wrote(record.bytes.len() as u64);
            let durable = record.sequence <= self.log.durable_through;
            for owner in record.owners {
                match owner.promise {
                    Promise::Durable if !durable => self.durability.wait(record.sequence, owner.request),
                    _ => cx.out.push(Output::Reply { request: owner.request, result: Ok(Answer::Done) }),
                }
            }
        }
        self.answer_durable(cx);
        if self.log.must_cut() {
            return self.cut(cx);
        }
        self.drain(cx);
    }
}

pub(super) fn is_trim(waiting: &Waiting) -> bool {
    match waiting {
        Waiting::Whole { body, .. } => matches!(body, Body::Zeroes { kind: Emptiness::Hole, .. }),
        Waiting::Pieces { pieces, .. } => pieces.iter().all(|piece| matches!(piece, Piece::Empty { .. })),
    }
}

pub(super) fn client_pieces(owner: Owner, pieces: VecDeque<Piece>) -> Waiting {
    Waiting::Pieces { owners: vec![owner], pieces, origin: Origin::Client }
}
