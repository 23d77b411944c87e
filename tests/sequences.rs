//! Processes whose configuration changes in any order, with updates, kills, orderly ends and a store that goes away,
//! from a seed: each must say and run what the rules of an update make of everything that was ever written.

mod cli_node;
mod harness;
#[path = "../cfg/engine/tests/world/rules.rs"]
mod rules;
#[macro_use]
#[path = "../cfg/engine/tests/seeds/mod.rs"]
mod seeds;
mod sequences {
    pub(crate) mod judge;
    pub(crate) mod observe;
    pub(crate) mod values;
    pub(crate) mod world;

    pub(crate) use super::{cli_node, harness, rules};
}

use std::sync::Mutex;

use harness::cfg::Server;
use seeds::Count;
use sequences::world::{Tally, World};

fn run(server: Server, seed: u64, verbose: bool) -> Tally {
    let mut world = World::new(server, seed, verbose);
    // Things that happen.
    for _ in 0..harness::rounds(60, 150) {
        world.step();
    }
    world.end();
    world.tally
}

/// Sequences at a time: most of the time they wait.
const AT_ONCE: usize = 4;

/// Half of the sequences; `OVS_SEED` takes one, and tells what happens in it.
fn sequences(server: Server) {
    let one = seeds::one();
    let seeds = one.map_or(0..harness::rounds(6, 100), |seed| seed..seed + 1);
    let (seeds, sum, failed) = (Mutex::new(seeds), Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let Some(seed) = seeds.lock().expect("no panic").next() else { return };
            match seeds::attempt(|| run(server, seed, one.is_some())) {
                Some(tally) => sum.lock().expect("no panic").add(&tally),
                None => failed.lock().expect("no panic").push(format!("OVS_SEED={seed}")),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let (sum, failed) = (sum.into_inner().expect("no panic"), failed.into_inner().expect("no panic"));
    println!("{sum:?}");
    assert!(failed.is_empty(), "{failed:?} fail with {server:?}");
    let Tally {
        applied, pending, rejected, superseded, at_start, dry_runs, frozen, kills, ends, looks, ..
    } = sum;
    let happened = [applied, pending, rejected, superseded, at_start, dry_runs, frozen, kills, ends, looks];
    assert!(one.is_some() || happened.iter().all(|count| *count > 0), "not all of it happened");
}

#[test]
fn processes_run_what_the_rules_say_with_the_store() {
    sequences(Server::Store);
}

#[test]
fn processes_run_what_the_rules_say_with_etcd() {
    sequences(Server::Etcd);
}
