//! The bytes of a segment: its header, the frame of a batch, and the judgement of what is no whole batch.
//! Layout and reasons: `docs/formats/store-log.md`.

use super::Vote;
use super::memory::State;
use super::record::{Reader, Record, put_id};

/// Every segment begins with it.
const MAGIC: [u8; 8] = *b"OVSSTLOG";
/// Of the format.
pub(super) const FORMAT: u32 = 1;
/// Every batch begins with it.
const BATCH_MAGIC: [u8; 4] = *b"OVSB";
/// What a disk writes whole or not at all, bytes. Header and batches begin at multiples of it, so that no
/// write touches a sector of an earlier one.
pub(super) const SECTOR: usize = 512;
/// Header of a batch, bytes.
pub(super) const BATCH_HEADER: usize = 48;
/// Longest batch that is believed, bytes.
pub(super) const BATCH_MAX: usize = 64 << 20;
/// Highest number of a segment or batch that is believed.
const NUMBER_MAX: u64 = 1 << 62;
/// Longest segment that is believed, bytes.
pub(super) const SEGMENT_MAX: u64 = 1 << 30;

/// The first sector of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Number of the segment, as in its name.
    pub(super) number: u64,
    /// Sequence of its first batch.
    pub(super) sequence: u64,
    /// The log when it began.
    pub(super) state: State,
}

/// Why a header is not taken.
pub(super) enum Unfit {
    /// Another program's, or a later format's.
    Foreign(String),
    /// It is not what was written.
    Damaged(String),
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

impl Header {
    /// Its sector.
    pub(super) fn encode(&self) -> Vec<u8> {
        let State { vote, committed, purged, last } = self.state;
        let flags = [
            vote.is_some(),
            vote.is_some_and(|vote| vote.committed),
            committed.is_some(),
            purged.is_some(),
            last.is_some(),
        ];
        let flags = flags.iter().rev().fold(0, |flags: u8, &flag| flags << 1 | u8::from(flag));
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&u64::from(flags).to_le_bytes());
        let vote = vote.unwrap_or_default();
        out.extend_from_slice(&vote.term.to_le_bytes());
        out.extend_from_slice(&vote.node.to_le_bytes());
        for id in [committed, purged, last] {
            put_id(&mut out, id.unwrap_or_default());
        }
        out.resize(SECTOR, 0);
        let crc = crc32fast::hash(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the first sector of `file`, the whole of segment `number`.
    pub(super) fn decode(file: &[u8], number: u64) -> Result<Header, Unfit> {
        let damaged = |what: &str| Unfit::Damaged(what.to_string());
        if !file.starts_with(&MAGIC[..file.len().min(MAGIC.len())]) {
            return Err(Unfit::Foreign("it does not begin as a segment of the log does".to_string()));
        }
        let sector = file.get(..SECTOR).ok_or_else(|| damaged("the file ends inside its header"))?;
        let format = word(sector, 12);
        if word(sector, 8) != crc32fast::hash(&sector[12..]) {
            return Err(damaged("the header does not match its checksum"));
        }
        if format != FORMAT {
            return Err(Unfit::Foreign(format!("format {format}, known is {FORMAT}")));
        }
        let header = Self::fields(&mut Reader(&sector[16..])).map_err(Unfit::Damaged)?;
        if header.number.max(header.sequence) > NUMBER_MAX {
            return Err(damaged("the header has a number that no log reaches"));
        }
        if header.number != number {
            return Err(Unfit::Damaged(format!("the header is that of segment {}", header.number)));
        }
        // What is not the canonical form of a header was never written by this format.
        if header.encode() != sector {
            return Err(damaged("the header has bits that this format does not"));
        }
        Ok(header)
    }

    fn fields(input: &mut Reader<'_>) -> Result<Header, String> {
        let (number, sequence, flags) = (input.u64()?, input.u64()?, input.u64()?);
        let flag = |bit: u32| flags & (1 << bit) != 0;
        let vote = Vote { term: input.u64()?, node: input.u64()?, committed: flag(1) };
        let state = State {
            vote: flag(0).then_some(vote),
            committed: Some(input.id()?).filter(|_| flag(2)),
            purged: Some(input.id()?).filter(|_| flag(3)),
            last: Some(input.id()?).filter(|_| flag(4)),
        };
        Ok(Header { number, sequence, state })
    }
}

/// Bytes of a batch of records of `len` bytes.
pub(super) fn batch_len(len: usize) -> usize {
    (BATCH_HEADER + len).next_multiple_of(SECTOR)
}

/// How many sectors of `bytes` hold nothing but zeros.
fn zero_sectors(bytes: &[u8]) -> usize {
    bytes.chunks(SECTOR).filter(|sector| sector.iter().all(|&byte| byte == 0)).count()
}

/// Makes one write of `records`.
pub(super) fn encode_batch(number: u64, sequence: u64, records: &[Record]) -> Vec<u8> {
    let used = records.iter().map(Record::encoded_len).sum::<usize>();
    let mut out = Vec::with_capacity(batch_len(used));
    out.resize(BATCH_HEADER, 0);
    records.iter().for_each(|record| record.encode(&mut out));
    out.resize(batch_len(used), 0);
    // The first sector gets a header and so is no sector of zeros.
    let zeros = zero_sectors(&out[SECTOR..]);
    let body = crc32fast::hash(&out[BATCH_HEADER..]);
    let fields = [
        u64::to_le_bytes(number),
        u64::to_le_bytes(sequence),
        pair(out.len(), used),
        pair(zeros, records.len()),
        u64::to_le_bytes(u64::from(body)),
    ];
    out[8..BATCH_HEADER].copy_from_slice(fields.as_flattened());
    let header = crc32fast::hash(&out[8..BATCH_HEADER]);
    out[..4].copy_from_slice(&BATCH_MAGIC);
    out[4..8].copy_from_slice(&header.to_le_bytes());
    out
}

/// Two numbers below [`BATCH_MAX`] as 32 bits each.
fn pair(first: usize, second: usize) -> [u8; 8] {
    (u64::from(first as u32) | u64::from(second as u32) << 32).to_le_bytes()
}

/// The header of a batch whose checksum holds.
#[derive(Clone, Copy, Debug)]
struct Frame {
    number: u64,
    sequence: u64,
    /// Of the whole batch, bytes.
    len: usize,
    /// Of the records, bytes.
    used: usize,
    /// Sectors of zeros it was written with.
    zeros: usize,
    records: usize,
    body: u32,
}

impl Frame {
    fn decode(sector: &[u8]) -> Option<Frame> {
        let header = sector.get(..BATCH_HEADER)?;
        if header[..4] != BATCH_MAGIC || word(header, 4) != crc32fast::hash(&header[8..]) {
            return None;
        }
        let wide = |at| u64::from(word(header, at)) | u64::from(word(header, at + 4)) << 32;
        Some(Frame {
            number: wide(8),
            sequence: wide(16),
            len: word(header, 24) as usize,
            used: word(header, 28) as usize,
            zeros: word(header, 32) as usize,
            records: word(header, 36) as usize,
            body: word(header, 40),
        })
    }

    fn is_sound(&self) -> bool {
        self.len <= BATCH_MAX && self.used <= self.len && self.len == batch_len(self.used)
    }
}

/// What stands at one place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: the file ends.
    End,
    /// A batch.
    Batch {
        /// In order.
        records: Vec<Record>,
        /// Of the whole batch, bytes.
        len: usize,
    },
    /// A write that was under way when the power was lost, if this is the end of the log: why it can be one.
    Torn(String),
    /// Neither.
    Damaged(String),
}

/// Judges what stands at `at`, a multiple of [`SECTOR`], of `file`, the whole of segment `number`, where the
/// batch with `sequence` should be. `at` is no more than the file's length.
///
/// Only one write is ever under way, and sectors are written whole: what it leaves of itself is sectors as
/// they were written, sectors of zeros, and an early end of the file. Everything else was never written.
pub(super) fn next(file: &[u8], at: usize, number: u64, sequence: u64) -> Next {
    let rest = file.get(at..).unwrap_or_default();
    if rest.is_empty() {
        return Next::End;
    }
    let Some(first) = rest.get(..SECTOR) else {
        return Next::Torn("the file ends inside the header of a batch".to_string());
    };
    if zero_sectors(first) == 1 {
        return match follower(&rest[SECTOR..], number, sequence) {
            None if rest.len() > BATCH_MAX => {
                Next::Damaged("zeros, and more than a batch behind them".to_string())
            }
            None => Next::Torn("the first sector of a batch is zeros".to_string()),
            Some(later) => Next::Damaged(format!("zeros, and behind them batch {later}")),
        };
    }
    let Some(frame) = Frame::decode(first) else {
        return Next::Damaged("the header of a batch does not match its checksum".to_string());
    };
    if (frame.number, frame.sequence) != (number, sequence) {
        let Frame { number: of, sequence: found, .. } = frame;
        return Next::Damaged(format!("batch {found} of segment {of} where batch {sequence} should be"));
    }
    if !frame.is_sound() {
        return Next::Damaged("the header of a batch contradicts itself".to_string());
    }
    let Some(batch) = rest.get(..frame.len) else {
        return Next::Torn(format!("the file ends inside batch {sequence}"));
    };
    if crc32fast::hash(&batch[BATCH_HEADER..]) == frame.body {
        return match decode_records(&batch[BATCH_HEADER..], &frame) {
            Ok(records) => Next::Batch { records, len: frame.len },
            Err(what) => Next::Damaged(what),
        };
    }
    if zero_sectors(batch) <= frame.zeros {
        return Next::Damaged(format!("batch {sequence} does not match its checksum"));
    }
    if rest.len() > frame.len {
        return Next::Damaged(format!("batch {sequence} is incomplete, and more follows it"));
    }
    Next::Torn(format!("batch {sequence} lacks sectors"))
}

/// The sequence of a batch of this segment that was written after `sequence`, and so after that one was
/// durable.
fn follower(rest: &[u8], number: u64, sequence: u64) -> Option<u64> {
    let frames = rest.chunks(SECTOR).filter_map(Frame::decode);
    frames.filter(|frame| frame.number == number).map(|frame| frame.sequence).find(|&later| later > sequence)
}

fn decode_records(body: &[u8], frame: &Frame) -> Result<Vec<Record>, String> {
    let (used, padding) = body.split_at_checked(frame.used).ok_or("a batch ends too early")?;
    if padding.iter().any(|&byte| byte != 0) {
        return Err("the padding of a batch is not zeros".to_string());
    }
    let (mut input, mut records) = (Reader(used), Vec::new());
    while !input.0.is_empty() {
        records.push(Record::decode(&mut input)?);
    }
    if records.len() != frame.records {
        return Err(format!("a batch has {} records instead of {}", records.len(), frame.records));
    }
    Ok(records)
}
