//! The SCO that compaction evacuates: read in chunks, its records put together from them.
//!
//! Chunks are small, because a disk serves one request after the other: the log's records wait behind each of them.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::address::{CLUSTER_SIZE, ClusterAddress, Location, ScoNumber, SegmentId, VolumeId};
use super::event::ReadId;
use super::record::{Entry, ParsedHeader, parse_header};

/// A cluster of the victim that may still be in use.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) address: ClusterAddress,
    pub(super) location: Location,
    pub(super) crc: u32,
    pub(super) data: Bytes,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Victim {
    pub(super) number: ScoNumber,
    pub(super) segment: SegmentId,
    blocks: u32,
    /// Block that the next record starts at.
    next_block: u32,
    /// Beginning of that record, as far as it was read.
    partial: Bytes,
    pub(super) reading: Option<ReadId>,
    pub(super) candidates: VecDeque<Candidate>,
}

impl Victim {
    pub(super) fn new(number: ScoNumber, segment: SegmentId, blocks: u32) -> Self {
        Self {
            number,
            segment,
            blocks,
            next_block: 0,
            partial: Bytes::new(),
            reading: None,
            candidates: VecDeque::new(),
        }
    }

    /// First block that was not read, and how many of at most `blocks_max` come next (0: all were read).
    pub(super) fn next_chunk(&self, blocks_max: u32) -> (u32, u32) {
        let block = self.next_block + (self.partial.len() / CLUSTER_SIZE) as u32;
        (block, self.blocks.saturating_sub(block).min(blocks_max))
    }

    /// Everything was read and judged.
    pub(super) fn is_done(&self) -> bool {
        self.reading.is_none() && self.candidates.is_empty() && self.next_chunk(1).1 == 0
    }

    /// Takes the next chunk in: whole records become candidates, the rest waits for the chunk behind. An error says
    /// what is wrong with the SCO.
    pub(super) fn take_chunk(&mut self, volume: VolumeId, chunk: Bytes) -> Result<(), String> {
        let mut chunk = chunk;
        if !self.partial.is_empty() {
            let length = length_of(&self.header(volume, &self.partial)?);
            let missing = (length - self.partial.len()).min(chunk.len());
            let mut joined = BytesMut::with_capacity(self.partial.len() + missing);
            joined.extend_from_slice(&self.partial);
            joined.extend_from_slice(&chunk.split_to(missing));
            self.partial = joined.freeze();
            if self.partial.len() == length {
                let record = std::mem::take(&mut self.partial);
                self.take_record(volume, &record)?;
            }
        }
        while !chunk.is_empty() {
            let length = length_of(&self.header(volume, &chunk)?);
            if length > chunk.len() {
                self.partial = chunk;
                break;
            }
            let record = chunk.split_to(length);
            self.take_record(volume, &record)?;
        }
        if self.next_chunk(1).1 == 0 && !self.partial.is_empty() {
            return Err(format!("block {}: a record larger than the rest of the SCO", self.next_block));
        }
        Ok(())
    }

    /// The header of the record at `next_block`.
    fn header(&self, volume: VolumeId, bytes: &[u8]) -> Result<ParsedHeader, String> {
        let problem = match parse_header(&bytes[..CLUSTER_SIZE]) {
            Ok(parsed) => {
                let header = &parsed.header;
                let ours = header.volume == volume && header.sco == self.number;
                if ours && u32::from(header.block) == self.next_block {
                    return Ok(parsed);
                }
                "foreign header".to_string()
            }
            Err(problem) => format!("{problem:?}"),
        };
        Err(format!("block {}: {problem}", self.next_block))
    }

    fn take_record(&mut self, volume: VolumeId, record: &Bytes) -> Result<(), String> {
        let parsed = self.header(volume, record)?;
        let mut block = 0;
        for entry in &parsed.entries {
            if let Entry::Data { address, crc } = *entry {
                block += 1;
                let start = usize::from(block) * CLUSTER_SIZE;
                let location = Location::new(self.number, parsed.header.block + block);
                let data = record.slice(start..start + CLUSTER_SIZE);
                self.candidates.push_back(Candidate { address, location, crc, data });
            }
        }
        self.next_block += u32::from(parsed.blocks());
        Ok(())
    }
}

fn length_of(parsed: &ParsedHeader) -> usize {
    usize::from(parsed.blocks()) * CLUSTER_SIZE
}

#[cfg(test)]
mod tests {
    use super::super::address::{BootId, Incarnation, Sequence};
    use super::super::event::Stream;
    use super::super::record::{Header, RecordBuilder};
    use super::*;

    const VOLUME: VolumeId = VolumeId([3; 16]);
    const SCO: ScoNumber = ScoNumber(9);

    /// An SCO of records with so many clusters each; cluster `n` of all is at address `n` and holds `n`.
    fn sco(sizes: &[u16]) -> Bytes {
        let mut bytes = BytesMut::new();
        let mut address = 0;
        for (&size, sequence) in sizes.iter().zip(1..) {
            let block = (bytes.len() / CLUSTER_SIZE) as u16;
            let mut builder = RecordBuilder::new(SCO, block, size + 1);
            for _ in 0..size {
                builder.push_data(ClusterAddress(address), &[address as u8; CLUSTER_SIZE], address as u32);
                address += 1;
            }
            let header = Header {
                volume: VOLUME,
                boot: BootId([1; 16]),
                stream: Stream::Log,
                incarnation: Incarnation(1),
                sequence: Sequence(sequence),
                sco: SCO,
                block,
                previous_crc: 0,
                completed_through: Sequence(sequence - 1),
                durable_through: Sequence(0),
            };
            bytes.extend_from_slice(&builder.finish(&header).0);
        }
        bytes.freeze()
    }

    /// Reads all of it in chunks of `blocks_max`.
    fn read(victim: &mut Victim, bytes: &Bytes, blocks_max: u32) -> Result<(), String> {
        loop {
            let (block, count) = victim.next_chunk(blocks_max);
            if count == 0 {
                return Ok(());
            }
            let start = block as usize * CLUSTER_SIZE;
            victim.take_chunk(VOLUME, bytes.slice(start..start + count as usize * CLUSTER_SIZE))?;
        }
    }

    #[test]
    fn every_size_of_chunk_brings_every_cluster_once() {
        let bytes = sco(&[1, 7, 0, 3, 30, 2, 1, 1]);
        let blocks = (bytes.len() / CLUSTER_SIZE) as u32;
        for blocks_max in 1..=blocks + 1 {
            let mut victim = Victim::new(SCO, SegmentId(0), blocks);
            read(&mut victim, &bytes, blocks_max).expect("all is well");
            let found: Vec<_> = victim.candidates.drain(..).collect();
            assert_eq!(found.len(), 45, "chunks of {blocks_max}");
            for (index, candidate) in found.iter().enumerate() {
                assert_eq!(candidate.address, ClusterAddress(index as u64));
                assert_eq!((candidate.crc, candidate.data[77]), (index as u32, index as u8));
                let start = usize::from(candidate.location.block()) * CLUSTER_SIZE;
                assert_eq!(bytes[start..start + CLUSTER_SIZE], candidate.data);
            }
            assert!(victim.is_done());
        }
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let whole = sco(&[2, 5]);
        let blocks = (whole.len() / CLUSTER_SIZE) as u32;
        let told = |bytes: &[u8], blocks, blocks_max| {
            let mut victim = Victim::new(SCO, SegmentId(0), blocks);
            read(&mut victim, &Bytes::copy_from_slice(bytes), blocks_max).expect_err("damage passed")
        };
        for blocks_max in [1, 4, 100] {
            let mut torn = whole.to_vec();
            torn[3 * CLUSTER_SIZE + 200] ^= 1;
            assert_eq!(told(&torn, blocks, blocks_max), "block 3: BadCrc");
            let mut moved = whole.to_vec();
            moved.copy_within(..CLUSTER_SIZE, 3 * CLUSTER_SIZE);
            assert_eq!(told(&moved, blocks, blocks_max), "block 3: foreign header");
            let short = told(&whole, blocks - 1, blocks_max);
            assert_eq!(short, "block 3: a record larger than the rest of the SCO");
        }
    }
}
