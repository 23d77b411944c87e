//! Volumes: log, map, space, recovery, NBD. `docs/ARCHITECTURE.md` has the map of this crate.
pub mod nbd;
pub mod parameters;
pub mod job;
pub mod recovery;
pub mod volume;
pub mod data_thread;
pub mod driver;
pub mod metrics;
pub mod names;
pub mod pool;

pub use uring::limits;
