//! The configuration store against Debian's etcd: the same programs of requests to both, and every answer and every
//! event compared. A difference is printed with its seed and with the shortest program found that still shows it.
//!
//! `OVS_DIFFERENTIAL_PROGRAMS` sets the number of programs.

mod harness;

#[path = "differential/answer.rs"]
mod answer;
#[path = "differential/generate.rs"]
mod generate;
#[path = "differential/known.rs"]
mod known;
#[path = "differential/pair.rs"]
mod pair;
#[path = "differential/session.rs"]
mod session;
#[path = "differential/show.rs"]
mod show;
#[path = "differential/step.rs"]
mod step;
#[path = "differential/tally.rs"]
mod tally;
#[path = "differential/watching.rs"]
mod watching;

use std::time::Instant;

use harness::cfg::Server;
use harness::random::Random;
use harness::rounds;
use pair::Pair;
use step::Step;
use tally::Tally;

/// How many programs.
fn programs() -> u64 {
    match std::env::var("OVS_DIFFERENTIAL_PROGRAMS") {
        Ok(text) => text.parse().expect("OVS_DIFFERENTIAL_PROGRAMS is a number"),
        Err(_) => rounds(300, 10_000),
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

#[test]
fn answers_are_those_of_etcd() {
    let (_, seed) = Random::announced("differential");
    block_on(async {
        let (begun, count) = (Instant::now(), programs());
        let mut pair = Pair::start(Server::TESTED, |step| step).await;
        let mut tally = Tally::default();
        for seed in (0..count).map(|number| seed.wrapping_add(number)) {
            let program = generate::program(seed);
            match pair.compare(&program).await {
                Ok(transcript) => tally.add(&transcript),
                Err(difference) => {
                    panic!("{}", pair::report(pair, Server::TESTED, seed, *difference).await)
                }
            }
        }
        eprintln!("differential: {count} programs alike in {:?}: {tally}", begun.elapsed());
        if count >= 100 {
            tally.assert_broad();
        }
    });
}

/// A side that is asked for something else once in a while is found out, and the program shrinks to what matters.
#[test]
fn a_planted_difference_is_found_and_shrinks() {
    let bend = |step: Step| match step {
        Step::Delete(mut delete) if delete.prev_kv => {
            delete.prev_kv = false;
            Step::Delete(delete)
        }
        other => other,
    };
    block_on(async {
        let mut pair = Pair::start(Server::Etcd, bend).await;
        for seed in 0..100 {
            let program = generate::program(seed);
            if pair.compare(&program).await.is_err() {
                let (program, difference) = pair.shrink(Server::Etcd, program).await.expect("it stays");
                let listing: Vec<String> = program.iter().map(Step::to_string).collect();
                assert!(program.len() <= 3, "{}:\n{}", difference.place, listing.join("\n"));
                assert!(listing.iter().any(|step| step.contains("delete") && step.contains("prev_kv")));
                return;
            }
        }
        panic!("the planted difference was not seen");
    });
}
