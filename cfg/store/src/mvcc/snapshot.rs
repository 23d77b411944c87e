//! The store as bytes, `docs/formats/store-snapshot.md`: written and read piece by piece, each piece with a checksum,
//! so that neither side needs the whole in memory and damage is named by its place.

mod read;
mod write;

use std::io;

/// Every snapshot begins with it.
const MAGIC: [u8; 8] = *b"OVSSTORE";
/// Of the format.
const FORMAT: u32 = 1;
/// Payload of a piece at most, bytes.
const PIECE_MAX: usize = 64 << 10;
/// Length and checksum in front of a piece, bytes.
const FRAME: usize = 8;
/// Longest key or value that is believed, bytes; requests are smaller.
const BYTES_MAX: u32 = 16 << 20;

/// Why a snapshot is not taken. Nothing of it is used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It could not be read.
    #[error("the snapshot cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Another program's file, or a later format.
    #[error("this is no snapshot that this version reads: {0}")]
    Foreign(String),
    /// It is not what was written.
    #[error("the snapshot is damaged in the piece at byte {at}: {what}")]
    Damaged {
        /// Where the piece begins.
        at: u64,
        /// What is wrong.
        what: String,
    },
}
