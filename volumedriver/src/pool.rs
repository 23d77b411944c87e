//! The segments of one disk, shared by all its volumes.
//!
//! A segment is a file of fixed size in `DIR/scocache`, written with zeros before anybody uses it and unlinked only
//! when the pool became smaller: a durable write into zero-written blocks costs a third of one into merely allocated
//! ones. Every segment is open (`O_DIRECT`) and locked from start to end, on the very descriptor the rings use, so that
//! a successor cannot read while writes of a killed predecessor still land.
//!
//! * [`open`] opens and locks what is there, before anything is read.
//! * [`ledger`] knows which segment is free, and who waits for one. No I/O.
//! * [`keeper`] is the thread that owns the ledger: volumes ask it with messages and are answered with messages.
//! * [`change`] gives a running pool other limits.
//! * `maker` is the thread that writes zeros.
//! * [`reserve`] is room on the file system that only manifests and runs may use.

pub mod change;
pub mod keeper;
pub mod ledger;
mod maker;
pub mod open;
pub mod reserve;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::volume::address::SegmentId;

/// Limits of a pool; sizes in bytes unless said otherwise.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// `DIR/scocache`.
    pub directory: PathBuf,
    /// Length of each segment, a multiple of 1 MiB.
    pub segment_size: u64,
    /// What all segments together may occupy; `None`: all but the reserve and the trigger gap.
    pub size: Option<u64>,
    /// Length of the reserve file.
    pub reserve_size: u64,
    /// Segments only compaction gets.
    pub compaction_reserve: u32,
    /// Free segments to keep ready for the log.
    pub ready_min: u32,
    /// Bound of the same while clients write fast.
    pub ready_max: u32,
    /// Compaction begins below this much free. Without a size, this much of the file system is left to others, too.
    pub trigger_gap: u64,
    /// Compaction ends above this much free.
    pub backoff_gap: u64,
    /// How long a start waits for a predecessor's locks.
    pub lock_wait: Duration,
}

impl PoolOptions {
    /// File of a segment.
    pub fn segment_path(&self, segment: SegmentId) -> PathBuf {
        self.directory.join(segment_name(segment))
    }

    /// File of a segment that is still being zero-written.
    fn unfinished_path(&self, segment: SegmentId) -> PathBuf {
        self.directory.join(format!("{}.new", segment_name(segment)))
    }

    /// File of the reserve.
    fn reserve_path(&self) -> PathBuf {
        self.directory.join("reserve")
    }
}

fn segment_name(segment: SegmentId) -> String {
    format!("segment-{:08x}", segment.0)
}

/// What a file name in the pool's directory stands for.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Segment(SegmentId),
    Unfinished,
    Other,
}

fn classify(name: &str) -> Entry {
    let Some(rest) = name.strip_prefix("segment-") else { return Entry::Other };
    if rest.ends_with(".new") {
        return Entry::Unfinished;
    }
    match u32::from_str_radix(rest, 16) {
        Ok(number) if Path::new(name) == Path::new(&segment_name(SegmentId(number))) => {
            Entry::Segment(SegmentId(number))
        }
        _ => Entry::Other,
    }
}

/// Why the pool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Another process holds a segment, and did not let go in time.
    #[error(
        "{} is still locked by another process after {waited:?}; is a second one running on this directory?",
        path.display()
    )]
    Locked {
        /// The segment.
        path: PathBuf,
        /// How long this one waited.
        waited: Duration,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Its answer.
        source: std::io::Error,
    },
}

impl PoolError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_segments_are_recognised() {
        assert_eq!(classify(&segment_name(SegmentId(0xabc))), Entry::Segment(SegmentId(0xabc)));
        assert_eq!(classify("segment-00000abc.new"), Entry::Unfinished);
        for other in ["reserve", "segment-abc", "segment-+0000abc", "segment-00000ABC", "segment-000000000"] {
            assert_eq!(classify(other), Entry::Other, "{other}");
        }
    }
}
