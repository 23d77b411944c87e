//! What simulators that run from a seed have in common: the count of what happened, without which a run in which
//! nothing goes wrong proves nothing, and the loop over the seeds.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How often each thing happened.
pub trait Count: Debug + Default {
    /// Adds what happened elsewhere.
    fn add(&mut self, other: &Self);

    /// Fails unless everything happened.
    fn assert_all_happened(&self);
}

/// Declares `Tally`, a [`Count`] of the things that are named.
macro_rules! tally {
    ($($field:ident)+) => {
        /// What happened.
        #[derive(Debug, Default)]
        pub struct Tally { $(pub $field: u64,)+ }

        impl $crate::seeds::Count for Tally {
            fn add(&mut self, other: &Tally) {
                $(self.$field += other.$field;)+
            }

            fn assert_all_happened(&self) {
                $(assert!(self.$field > 0, "never happened: {}", stringify!($field));)+
            }
        }
    };
}

/// The one sequence that is asked for: `OVS_SEED`.
pub fn one() -> Option<u64> {
    std::env::var("OVS_SEED").ok().and_then(|seed| seed.parse().ok())
}

/// What one sequence does, or nothing if it fails.
pub fn attempt<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}

/// Runs `count` sequences, with `OVS_SOAK=1` `long` of them, or the one that is asked for, which tells what happens in
/// it. In all of them together everything must happen.
pub fn run_all<T: Count>(count: u64, long: u64, run: impl Fn(u64, bool) -> T) {
    let one = one();
    let count = if std::env::var("OVS_SOAK").is_ok_and(|soak| soak == "1") { long } else { count };
    let mut sum = T::default();
    for seed in one.map_or(0..count, |seed| seed..seed + 1) {
        let tally = attempt(|| run(seed, one.is_some()));
        sum.add(&tally.unwrap_or_else(|| panic!("OVS_SEED={seed} fails")));
    }
    println!("{sum:?}");
    if one.is_none() {
        sum.assert_all_happened();
    }
}
