//! What a process does with its configuration: the core of an update, without I/O.
#![forbid(unsafe_code)]

mod options;
mod references;

pub use options::Options;
pub use references::{Limits, REF, Snapshot, Targets};
