//! Engines on a store that is changed, compacted and away, with prepares that fail and processes that die, from a
//! seed: each must run with exactly what an evaluation that shares nothing with the engine says, and answer every
//! update once.

mod kettle;
#[macro_use]
mod seeds;
mod world;

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
    seeds::run_all(SEQUENCES, 10_000, run);
}
