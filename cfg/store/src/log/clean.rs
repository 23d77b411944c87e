//! The mark of a clean stop: where the log ended. With it a start notices that somebody cut the log since.

use super::segment::FORMAT;

/// Its file's name.
pub(super) const NAME: &str = "clean";
const MAGIC: [u8; 8] = *b"OVSSTEND";
/// Bytes of the file.
pub(super) const LEN: usize = 40;

/// Where a log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Number of the last segment.
    pub(super) segment: u64,
    /// Its length, bytes.
    pub(super) len: u64,
    /// Sequence that the next batch would have had.
    pub(super) sequence: u64,
}

impl Mark {
    /// The file's content.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        for number in [self.segment, self.len, self.sequence] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the file's content; `None`: it is damaged, or of another format.
    pub(super) fn decode(bytes: &[u8]) -> Option<Mark> {
        let number = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let mark = Mark { segment: number(16)?, len: number(24)?, sequence: number(32)? };
        (mark.encode() == bytes).then_some(mark)
    }
}
