//! The durable log under the store's replication: votes and entries, in order, on disk before anybody is
//! told. What an entry says and who may vote is not known here. All entries that are not purged are in memory
//! too. Format: `docs/formats/store-log.md`.
//!
//! `record` and `segment` are the bytes, `memory` is what they come to, `recover` reads them back, `writer`
//! writes them, all without a thread; `handle` is what others hold, with the one thread that writes.

mod clean;
mod error;
mod handle;
mod memory;
mod record;
mod recover;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::io;

use bytes::Bytes;

pub use error::LogError;
pub use handle::Log;
pub use recover::{Cut, Recovered};

/// Position of an entry. Of two, the one with the higher term is the later one, then node, then index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Term in which it was proposed.
    pub term: u64,
    /// Who proposed it.
    pub node: u64,
    /// Place in the log; an entry's is one more than that of the entry before.
    pub index: u64,
}

/// Whom a member votes for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// Of the election.
    pub term: u64,
    /// The candidate.
    pub node: u64,
    /// A majority gave the same vote.
    pub committed: bool,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its position.
    pub id: LogId,
    /// What it says; opaque here.
    pub payload: Bytes,
}

/// Called once, with what became of a request. It runs on the thread that writes the log (or on the caller's,
/// for a request that is refused), so it must neither take long nor wait for the log.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Parameters of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Length at which a segment is followed by a new one, bytes; only a segment with a single batch is
    /// longer. An open writes the last one again, so this bounds how long that takes. Default 16 MiB, 1 KiB
    /// to 512 MiB.
    pub segment_bytes: u64,
    /// Requests that wait for the thread at most; who comes then waits. Default 1024, at least 1.
    pub queue: usize,
    /// Length of one write, bytes; only a longer entry has a longer one to itself. Default 1 MiB, 512 bytes
    /// to 32 MiB.
    pub batch_bytes: usize,
    /// Payload of an entry at most, bytes; a longer one is refused. Default 16 MiB, at most 32 MiB.
    pub entry_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 16 << 20, queue: 1024, batch_bytes: 1 << 20, entry_bytes_max: 16 << 20 }
    }
}

impl Options {
    /// # Errors
    /// Which bound does not hold.
    fn check(&self) -> Result<(), LogError> {
        let bounds = [
            ("segment_bytes", self.segment_bytes, 1 << 10, 512 << 20),
            ("queue", self.queue as u64, 1, u64::MAX),
            ("batch_bytes", self.batch_bytes as u64, 512, 32 << 20),
            ("entry_bytes_max", self.entry_bytes_max as u64, 0, 32 << 20),
        ];
        match bounds.iter().find(|(_, value, min, max)| value < min || value > max) {
            None => Ok(()),
            Some((name, value, min, max)) => {
                Err(LogError::Options(format!("{name} is {value}, and must be from {min} to {max}")))
            }
        }
    }
}
