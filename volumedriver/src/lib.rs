//! Volumes: log, map, space, recovery, NBD. `docs/ARCHITECTURE.md` has the map of this crate.
#![deny(unsafe_code)]

pub mod data_thread;
pub mod driver;
pub mod job;
pub mod metrics;
pub mod names;
pub mod nbd;
pub mod parameters;
pub mod performance;
pub mod pool;
pub mod recovery;
pub mod volume;

pub use uring::limits;
