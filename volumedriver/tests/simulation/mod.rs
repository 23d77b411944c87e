//! A volume on a simulated disk: the core, the jobs and recovery are the real ones; the ring, the files and the time
//! of a crash are the seed's.
//!
//! Checked: what a client reads is what it may read (`model`), after every crash too; invariants of the core by its
//! own halts. Not checked: speed, the data thread's loop, the pool's own files.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod machine;
pub mod model;
