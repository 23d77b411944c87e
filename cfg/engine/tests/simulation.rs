//! Engines on a store that is changed, compacted and away, with prepares that fail and processes that die, from a
//! seed: each must run with exactly what an evaluation that shares nothing with the engine says, and answer every
//! update once.

mod kettle;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::{Tally, World};

/// Sequences of the bounded run; `OVS_SOAK` takes 10,000, `OVS_SEED` one, and tells what happens in it.
const SEQUENCES: u64 = 500;

/// Things that happen in a sequence.
const STEPS: usize = 400;

fn run(seed: u64, verbose: bool) -> Tally {
    let mut world = World::new(seed, verbose);
    for _ in 0..STEPS {
        world.step();
    }
    world.end();
    world.shared.tally
}

#[test]
fn engines_run_what_the_model_says() {
    let one: Option<u64> = std::env::var("OVS_SEED").ok().and_then(|seed| seed.parse().ok());
    let count = if std::env::var("OVS_SOAK").is_ok_and(|soak| soak == "1") { 10_000 } else { SEQUENCES };
    let seeds = one.map_or(0..count, |seed| seed..seed + 1);
    let mut sum = Tally::default();
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed, one.is_some()))) {
            Ok(tally) => sum.add(&tally),
            Err(_) => panic!("OVS_SEED={seed} fails"),
        }
    }
    println!("{sum:?}");
    if one.is_none() {
        sum.assert_all_happened();
    }
}
