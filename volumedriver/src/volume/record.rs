//! The record: what one turn of the loop wrote to one volume. Byte layout: `docs/formats/record.md`.
//!
//! A record is one header block and the data clusters behind it. The same bytes are the local log and, later, the
//! DTL's stream and the backend's object. A header names everything that recovery compares: nothing that was written
//! for another volume, SCO, place, incarnation or sequence can pass for this one.

use bytes::Bytes;
use uring::AlignedBuf;

use super::address::{
    ADDRESS_BITS, BootId, CLUSTER_SIZE, ClusterAddress, Incarnation, ScoNumber, Sequence, VolumeId,
};
use super::bytes::{crc_without, put_u16, put_u32, put_u64, u16_at, u32_at, u64_at};
use super::event::{Emptiness, Stream};

const MAGIC: &[u8; 8] = b"OVSRECRD";
const VERSION: u16 = 1;
const CRC_AT: usize = 8;
const ENTRIES_AT: usize = 112;
const ENTRY_SIZE: usize = 16;
/// Entries that fit into a header.
pub const ENTRIES_MAX: usize = (CLUSTER_SIZE - ENTRIES_AT) / ENTRY_SIZE;
/// Blocks of a record at most, header included: 1 MiB less what the header's entries cannot name.
pub const RECORD_BLOCKS_MAX: usize = ENTRIES_MAX + 1;

/// One stretch of addresses that a record changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a variant's text and its fields' types say what the fields are")]
pub enum Entry {
    /// One cluster; its data is the next data cluster of the record.
    Data { address: ClusterAddress, crc: u32 },
    /// `count` clusters without data.
    Empty { address: ClusterAddress, count: u32, kind: Emptiness },
}

/// What a header says, entries apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Owner.
    pub volume: VolumeId,
    /// Boot of the host that wrote it.
    pub boot: BootId,
    /// Which of the volume's sequences.
    pub stream: Stream,
    /// Incarnation of the log.
    pub incarnation: Incarnation,
    /// Place in the stream.
    pub sequence: Sequence,
    /// SCO that it was written to.
    pub sco: ScoNumber,
    /// Block of the header in that SCO.
    pub block: u16,
    /// CRC-32 of the header before it in the stream (0 for the first).
    pub previous_crc: u32,
    /// Every record up to this one was written when this header was made.
    pub completed_through: Sequence,
    /// Every record up to this one was durable when this header was made.
    pub durable_through: Sequence,
}

/// A header that passed its checksum and its bounds, with its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedHeader {
    /// The fixed part.
    pub header: Header,
    /// CRC-32 of the whole header block: the next record's `previous_crc`.
    pub crc: u32,
    /// Data clusters behind the header.
    pub data_blocks: u16,
    /// The entries, in order of application.
    pub entries: Vec<Entry>,
}

impl ParsedHeader {
    /// Blocks of the whole record.
    pub fn blocks(&self) -> u16 {
        self.data_blocks + 1
    }
}

/// Why a block is not a usable header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderProblem {
    /// Only zeros.
    Zeros,
    /// No record header ever stood here.
    NoMagic,
    /// A header, but torn or damaged.
    BadCrc,
    /// The checksum holds and the content breaks a rule or is of an unknown version.
    Nonsense,
}

/// Reads a header block of [`CLUSTER_SIZE`] bytes.
pub fn parse_header(block: &[u8]) -> Result<ParsedHeader, HeaderProblem> {
    if &block[..8] != MAGIC {
        let zeros = block.iter().all(|&b| b == 0);
        return Err(if zeros { HeaderProblem::Zeros } else { HeaderProblem::NoMagic });
    }
    let crc = u32_at(block, CRC_AT);
    if crc != crc_without(&block[..CLUSTER_SIZE], CRC_AT) {
        return Err(HeaderProblem::BadCrc);
    }
    parse_checked(block, crc).ok_or(HeaderProblem::Nonsense)
}

fn parse_checked(block: &[u8], crc: u32) -> Option<ParsedHeader> {
    if u16_at(block, 12) != VERSION {
        return None;
    }
    let stream = match block[14] {
        0 => Stream::Log,
        1 => Stream::Relocation,
        _ => return None,
    };
    let header = Header {
        stream,
        volume: VolumeId(block[16..32].try_into().expect("16 bytes")),
        boot: BootId(block[32..48].try_into().expect("16 bytes")),
        incarnation: Incarnation(u64_at(block, 48)),
        sequence: Sequence(u64_at(block, 56)),
        completed_through: Sequence(u64_at(block, 64)),
        durable_through: Sequence(u64_at(block, 72)),
        sco: ScoNumber(u32_at(block, 80)),
        previous_crc: u32_at(block, 84),
        block: u16_at(block, 88),
    };
    let data_blocks = u16_at(block, 90);
    let count = usize::from(u16_at(block, 92));
    if count > ENTRIES_MAX
        || header.completed_through >= header.sequence
        || header.durable_through > header.completed_through
    {
        return None;
    }
    let mut entries = Vec::with_capacity(count);
    let mut data_seen = 0;
    for raw in block[ENTRIES_AT..].chunks_exact(ENTRY_SIZE).take(count) {
        let entry = parse_entry(raw)?;
        data_seen += u16::from(matches!(entry, Entry::Data { .. }));
        entries.push(entry);
    }
    (data_seen == data_blocks).then_some(ParsedHeader { header, crc, data_blocks, entries })
}

fn parse_entry(raw: &[u8]) -> Option<Entry> {
    let word = u64_at(raw, 0);
    let address = ClusterAddress(word & ((1 << ADDRESS_BITS) - 1));
    let count = u32_at(raw, 8);
    let end = address.0 + u64::from(count);
    if count == 0 || end > 1 << ADDRESS_BITS {
        return None;
    }
    match word >> 56 {
        0 if count == 1 => Some(Entry::Data { address, crc: u32_at(raw, 12) }),
        1 => Some(Entry::Empty { address, count, kind: Emptiness::Zero }),
        2 => Some(Entry::Empty { address, count, kind: Emptiness::Hole }),
        _ => None,
    }
}

fn write_entry(raw: &mut [u8], entry: &Entry) {
    let (kind, address, count, crc) = match *entry {
        Entry::Data { address, crc } => (0, address, 1, crc),
        Entry::Empty { address, count, kind: Emptiness::Zero } => (1, address, count, 0),
        Entry::Empty { address, count, kind: Emptiness::Hole } => (2, address, count, 0),
    };
    put_u64(raw, 0, address.0 | kind << 56);
    put_u32(raw, 8, count);
    put_u32(raw, 12, crc);
}

/// A record that still takes entries. Its place is fixed from the start, so that each cluster has its location at once.
#[derive(Debug)]
pub struct RecordBuilder {
    buf: AlignedBuf,
    sco: ScoNumber,
    block: u16,
    blocks_max: u16,
    entries: u16,
    data_blocks: u16,
}

impl RecordBuilder {
    /// A record at `block` of `sco` that may grow to `blocks_max` blocks (2 to [`RECORD_BLOCKS_MAX`]).
    pub fn new(sco: ScoNumber, block: u16, blocks_max: u16) -> Self {
        let blocks_max = blocks_max.min(RECORD_BLOCKS_MAX as u16);
        let mut buf = AlignedBuf::with_capacity(usize::from(blocks_max) * CLUSTER_SIZE);
        buf.set_len(CLUSTER_SIZE);
        buf[..ENTRIES_AT].fill(0);
        Self { buf, sco, block, blocks_max, entries: 0, data_blocks: 0 }
    }

    /// SCO that it goes to.
    pub fn sco(&self) -> ScoNumber {
        self.sco
    }

    /// Block of its header.
    pub fn block(&self) -> u16 {
        self.block
    }

    /// Clusters of data that still fit.
    pub fn room(&self) -> usize {
        usize::from(self.blocks_max - 1 - self.data_blocks).min(self.entry_room())
    }

    /// Entries that still fit.
    pub fn entry_room(&self) -> usize {
        ENTRIES_MAX - usize::from(self.entries)
    }

    /// Clusters of data in it.
    pub fn data_blocks(&self) -> u16 {
        self.data_blocks
    }

    /// True if nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Adds one cluster ([`CLUSTER_SIZE`] bytes); gives the block that holds it. There must be [`Self::room`].
    pub fn push_data(&mut self, address: ClusterAddress, data: &[u8], crc: u32) -> u16 {
        assert!(self.room() > 0 && data.len() == CLUSTER_SIZE, "the caller asked for room");
        self.buf.extend_from_slice(data);
        self.data_blocks += 1;
        self.push_entry(&Entry::Data { address, crc });
        self.block + self.data_blocks
    }

    /// Adds a stretch without data. There must be [`Self::entry_room`].
    pub fn push_empty(&mut self, address: ClusterAddress, count: u32, kind: Emptiness) {
        assert!(self.entry_room() > 0, "the caller asked for room");
        self.push_entry(&Entry::Empty { address, count, kind });
    }

    fn push_entry(&mut self, entry: &Entry) {
        let at = ENTRIES_AT + usize::from(self.entries) * ENTRY_SIZE;
        write_entry(&mut self.buf[at..at + ENTRY_SIZE], entry);
        self.entries += 1;
    }

    /// The data in `block` of the SCO, if it is one of this record's.
    pub fn data_at(&self, block: u16) -> Option<&[u8]> {
        let index = usize::from(block.checked_sub(self.block)?);
        let start = index * CLUSTER_SIZE;
        (index > 0).then(|| self.buf.get(start..start + CLUSTER_SIZE)).flatten()
    }

    /// Writes the header; gives the bytes of the whole record and the header's CRC.
    pub fn finish(mut self, header: &Header) -> (Bytes, u32) {
        debug_assert!(header.sco == self.sco && header.block == self.block);
        let used = ENTRIES_AT + usize::from(self.entries) * ENTRY_SIZE;
        let block = &mut self.buf[..CLUSTER_SIZE];
        block[used..].fill(0);
        block[..8].copy_from_slice(MAGIC);
        put_u16(block, 12, VERSION);
        block[14] = match header.stream {
            Stream::Log => 0,
            Stream::Relocation => 1,
        };
        block[16..32].copy_from_slice(&header.volume.0);
        block[32..48].copy_from_slice(&header.boot.0);
        put_u64(block, 48, header.incarnation.0);
        put_u64(block, 56, header.sequence.0);
        put_u64(block, 64, header.completed_through.0);
        put_u64(block, 72, header.durable_through.0);
        put_u32(block, 80, header.sco.0);
        put_u32(block, 84, header.previous_crc);
        put_u16(block, 88, header.block);
        put_u16(block, 90, self.data_blocks);
        put_u16(block, 92, self.entries);
        let crc = crc_without(block, CRC_AT);
        put_u32(block, CRC_AT, crc);
        (self.buf.freeze(), crc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            volume: VolumeId([7; 16]),
            boot: BootId([9; 16]),
            stream: Stream::Log,
            incarnation: Incarnation(3),
            sequence: Sequence(41),
            sco: ScoNumber(5),
            block: 17,
            previous_crc: 0xdead_beef,
            completed_through: Sequence(40),
            durable_through: Sequence(38),
        }
    }

    fn record() -> (Bytes, u32) {
        let mut builder = RecordBuilder::new(ScoNumber(5), 17, 8);
        let data = [0x5a; CLUSTER_SIZE];
        assert_eq!(builder.push_data(ClusterAddress(1000), &data, crc32fast::hash(&data)), 18);
        builder.push_empty(ClusterAddress(0), 77, Emptiness::Hole);
        assert_eq!(builder.push_data(ClusterAddress(3), &[1; CLUSTER_SIZE], 11), 19);
        assert_eq!(builder.data_at(18), Some(&data[..]));
        assert_eq!((builder.data_at(17), builder.data_at(20)), (None, None));
        builder.finish(&header())
    }

    #[test]
    fn a_record_reads_back_as_written() {
        let (bytes, crc) = record();
        assert_eq!(bytes.len(), 3 * CLUSTER_SIZE);
        let parsed = parse_header(&bytes[..CLUSTER_SIZE]).expect("parses");
        assert_eq!((parsed.header, parsed.crc, parsed.blocks()), (header(), crc, 3));
        assert_eq!(
            parsed.entries,
            [
                Entry::Data { address: ClusterAddress(1000), crc: crc32fast::hash(&[0x5a; CLUSTER_SIZE]) },
                Entry::Empty { address: ClusterAddress(0), count: 77, kind: Emptiness::Hole },
                Entry::Data { address: ClusterAddress(3), crc: 11 },
            ]
        );
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_found() {
        let (bytes, _) = record();
        for bit in 0..CLUSTER_SIZE * 8 {
            let mut block = bytes[..CLUSTER_SIZE].to_vec();
            block[bit / 8] ^= 1 << (bit % 8);
            let problem = parse_header(&block).expect_err("a flipped bit passed");
            let expected = if bit < 64 { HeaderProblem::NoMagic } else { HeaderProblem::BadCrc };
            assert_eq!(problem, expected, "bit {bit}");
        }
        assert_eq!(parse_header(&[0; CLUSTER_SIZE]), Err(HeaderProblem::Zeros));
    }

    #[test]
    fn a_whole_header_that_breaks_a_rule_is_refused() {
        let (bytes, _) = record();
        let broken = |at: usize, value: u8| {
            let mut block = bytes[..CLUSTER_SIZE].to_vec();
            block[at] = value;
            let crc = crc_without(&block, CRC_AT);
            put_u32(&mut block, CRC_AT, crc);
            parse_header(&block)
        };
        // Version, stream, completed-through at the sequence itself, more data than entries, too many entries,
        // a count of 0.
        for (at, value) in
            [(12, 2), (14, 9), (64, 41), (90, 3), (93, 0xff), (ENTRIES_AT + 8, 0), (ENTRIES_AT + 7, 5)]
        {
            assert_eq!(broken(at, value), Err(HeaderProblem::Nonsense), "byte {at}");
        }
    }

    /// The golden bytes of `docs/formats/record.md`: a change of this number is a change of the format.
    #[test]
    fn golden_bytes() {
        let (bytes, _) = record();
        assert_eq!(crc32fast::hash(&bytes), GOLDEN);
    }

    const GOLDEN: u32 = 209_653_358;
}
