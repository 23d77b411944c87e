//! Roll-outs from a seed, in which hosts refuse, fail, stay silent and die, somebody else writes, and drivers are
//! killed at any point: in the end every host has all new values or all old ones, and what somebody else wrote stays.

mod vpool;

use std::panic::{AssertUnwindSafe, catch_unwind};

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
    let one: Option<u64> = std::env::var("OVS_SEED").ok().and_then(|seed| seed.parse().ok());
    let count = if std::env::var("OVS_SOAK").is_ok_and(|soak| soak == "1") { 20_000 } else { SEQUENCES };
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
