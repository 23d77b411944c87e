//! A stream of records: the open SCO, the open record, the records in flight.
//!
//! Invariants:
//! 1. A location is written once in its SCO's life: `next_block` only grows, an SCO is opened once.
//! 2. A record's sequence is its predecessor's plus one.
//! 3. `durable_through <= completed_through < next_sequence`; records in flight are those behind `completed_through`.

use std::collections::VecDeque;

use bytes::Bytes;

use super::address::{BootId, CLUSTER_SIZE, Incarnation, Location, ScoNumber, SegmentId, Sequence, VolumeId};
use super::event::{Output, Promise, Stream};
use super::record::{Header, RecordBuilder};

/// The SCO that records go to.
#[derive(Clone, Copy, Debug)]
pub struct OpenSco {
    /// Its number.
    pub number: ScoNumber,
    /// Its segment.
    pub segment: SegmentId,
    /// First block not given to a record.
    pub next_block: u32,
}

/// A record that was handed to the shell.
#[derive(Debug)]
pub struct InFlight<T> {
    /// Place in the stream.
    pub sequence: Sequence,
    /// Where it goes.
    pub sco: ScoNumber,
    /// Block of its header.
    pub block: u16,
    /// All its bytes.
    pub bytes: Bytes,
    /// CRC-32 of its header.
    pub crc: u32,
    /// `None`: not answered yet.
    pub result: Option<Result<(), super::event::Failure>>,
    /// Written with FUA.
    pub durable: bool,
    /// Who waits for it.
    pub owners: Vec<T>,
}

/// Who writes: the parts of a header that stay.
#[derive(Clone, Copy, Debug)]
pub struct Author {
    /// Volume.
    pub volume: VolumeId,
    /// This boot.
    pub boot: BootId,
    /// Incarnation of the log.
    pub incarnation: Incarnation,
}

/// See the module. `T` is what waits for a record.
#[derive(Debug)]
pub struct Log<T> {
    stream: Stream,
    segment_blocks: u32,
    record_blocks: u16,
    /// SCO being written.
    pub open: Option<OpenSco>,
    /// Fresh SCOs that a durable manifest names.
    pub ahead: VecDeque<(ScoNumber, SegmentId)>,
    /// Record that still takes entries.
    pub builder: Option<RecordBuilder>,
    /// Who waits for that record.
    pub owners: Vec<T>,
    /// Records handed out and not completed in sequence.
    pub in_flight: VecDeque<InFlight<T>>,
    /// Records behind a cut, until all they held is in the log again: the map still refers to them.
    pub lost: Vec<InFlight<T>>,
    /// Sequence of the next record to be handed out.
    pub next_sequence: Sequence,
    /// CRC-32 of the last header handed out.
    pub previous_crc: u32,
    /// Every record up to this was written.
    pub completed_through: Sequence,
    /// CRC-32 of that record's header.
    pub completed_crc: u32,
    /// Every record up to this is durable.
    pub durable_through: Sequence,
    /// Segments with records that were written and not synced.
    pub dirty: Vec<SegmentId>,
    /// Bytes handed out, headers included.
    pub bytes: u64,
}

impl<T> Log<T> {
    /// A stream whose next record is `next_sequence`; everything before is durable.
    pub fn new(
        stream: Stream,
        segment_blocks: u32,
        record_blocks: u16,
        next_sequence: Sequence,
        crc: u32,
    ) -> Self {
        let last = Sequence(next_sequence.0 - 1);
        Self {
            stream,
            segment_blocks,
            record_blocks,
            open: None,
            ahead: VecDeque::new(),
            builder: None,
            owners: Vec::new(),
            in_flight: VecDeque::new(),
            lost: Vec::new(),
            next_sequence,
            previous_crc: crc,
            completed_through: last,
            completed_crc: crc,
            durable_through: last,
            dirty: Vec::new(),
            bytes: 0,
        }
    }

    /// Records that are begun from now on have at most `blocks`; the open one keeps its room.
    pub fn set_record_blocks(&mut self, blocks: u16) {
        self.record_blocks = blocks;
    }

    /// The last sequence given, the open record's included.
    pub fn last_sequence(&self) -> Sequence {
        if self.builder.is_some() { self.next_sequence } else { Sequence(self.next_sequence.0 - 1) }
    }

    /// True if no open record can be had without a further SCO.
    pub fn needs_sco(&self) -> bool {
        self.builder.is_none()
            && self.ahead.is_empty()
            && self.open.is_none_or(|open| open.next_block + 2 > self.segment_blocks)
    }

    /// The open record, begun if there is none; gives the SCO that was closed on the way. `None`: no SCO left.
    pub fn builder(&mut self, closed: &mut Option<OpenSco>) -> Option<&mut RecordBuilder> {
        if self.builder.is_none() {
            if self.open.is_none_or(|open| open.next_block + 2 > self.segment_blocks) {
                let (number, segment) = self.ahead.pop_front()?;
                *closed = self.open.replace(OpenSco { number, segment, next_block: 0 });
            }
            let open = self.open.as_mut()?;
            let room = (self.segment_blocks - open.next_block).min(u32::from(self.record_blocks)) as u16;
            self.builder = Some(RecordBuilder::new(open.number, open.next_block as u16, room));
        }
        self.builder.as_mut()
    }

    /// Hands the open record out. `promise` holds for this record alone.
    pub fn hand_out(&mut self, author: &Author, promise: Promise) -> Option<Output> {
        let builder = self.builder.take()?;
        let open = self.open.as_mut()?;
        let sequence = self.next_sequence;
        let (sco, block) = (builder.sco(), builder.block());
        let (bytes, crc) = builder.finish(&Header {
            volume: author.volume,
            boot: author.boot,
            stream: self.stream,
            incarnation: author.incarnation,
            sequence,
            sco,
            block,
            previous_crc: self.previous_crc,
            completed_through: self.completed_through,
            durable_through: self.durable_through,
        });
        open.next_block += (bytes.len() / CLUSTER_SIZE) as u32;
        self.next_sequence = sequence.next();
        self.previous_crc = crc;
        self.bytes += bytes.len() as u64;
        let owners = std::mem::take(&mut self.owners);
        let (data, durable) = (bytes.clone(), promise == Promise::Durable);
        self.in_flight.push_back(InFlight {
            sequence,
            sco,
            block,
            bytes,
            crc,
            result: None,
            durable,
            owners,
        });
        let offset = u64::from(block) * CLUSTER_SIZE as u64;
        Some(Output::WriteRecord {
            stream: self.stream,
            sequence,
            segment: open.segment,
            offset,
            data,
            promise,
        })
    }

    /// Data of a cluster that may not have reached the disk yet.
    pub fn unwritten(&self, location: Location) -> Option<Bytes> {
        let (sco, block) = (location.sco(), location.block());
        if let Some(builder) = self.builder.as_ref().filter(|builder| builder.sco() == sco)
            && let Some(data) = builder.data_at(block)
        {
            return Some(Bytes::copy_from_slice(data));
        }
        self.in_flight.iter().chain(&self.lost).find_map(|record| {
            let index = usize::from(block.checked_sub(record.block)?);
            let start = index * CLUSTER_SIZE;
            let inside = record.sco == sco && index > 0 && start < record.bytes.len();
            inside.then(|| record.bytes.slice(start..start + CLUSTER_SIZE))
        })
    }

    /// Notes the end of a write.
    pub fn written(&mut self, sequence: Sequence, result: Result<(), super::event::Failure>) {
        if let Some(record) = self.in_flight.iter_mut().find(|record| record.sequence == sequence) {
            record.result = Some(result);
        }
    }

    /// Takes the next record that was written and whose predecessors were.
    pub fn next_completed(
        &mut self,
        segment_of: impl Fn(ScoNumber) -> Option<SegmentId>,
    ) -> Option<InFlight<T>> {
        self.in_flight.front().filter(|record| record.result == Some(Ok(())))?;
        let record = self.in_flight.pop_front()?;
        self.completed_through = record.sequence;
        self.completed_crc = record.crc;
        if record.durable && self.durable_through.next() == record.sequence {
            self.durable_through = record.sequence;
        } else if let Some(segment) = segment_of(record.sco)
            && !self.dirty.contains(&segment)
        {
            self.dirty.push(segment);
        }
        Some(record)
    }

    /// True if a record failed and nothing is on its way any more.
    pub fn must_cut(&self) -> bool {
        self.in_flight.iter().any(|record| matches!(record.result, Some(Err(_))))
            && self.in_flight.iter().all(|record| record.result.is_some())
    }

    /// True if a record failed.
    pub fn has_failed(&self) -> bool {
        self.in_flight.iter().any(|record| matches!(record.result, Some(Err(_))))
    }
}
