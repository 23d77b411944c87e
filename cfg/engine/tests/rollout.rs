//! Roll-outs from a seed, in which hosts refuse, fail, stay silent and die, somebody else writes, and drivers are
//! killed at any point: in the end every host has all new values or all old ones, and what somebody else wrote stays.

#[macro_use]
mod seeds;
mod vpool;

use vpool::{Tally, World};

/// Sequences of the bounded run; `OVS_SOAK` takes 20,000, `OVS_SEED` one, and tells what happens in it.
const SEQUENCES: u64 = 1000;

/// Most things that happen in a sequence before all becomes calm.
const STEPS: u64 = 400;

fn run(seed: u64, verbose: bool) -> Tally {
    let mut world = World::new(seed, verbose);
    for _ in 0..world.random.below(STEPS) {
        if !world.stored().state.is_open() {
            break;
        }
        world.step();
    }
    world.settle();
    world.tally
}

#[test]
fn hosts_have_all_new_values_or_all_old_ones() {
    seeds::run_all(SEQUENCES, 20_000, run);
}
