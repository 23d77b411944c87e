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

use cfg_api::etcdserverpb::{PutRequest, WatchCreateRequest};
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

/// Random programs make it too rarely.
#[test]
fn what_is_much_comes_in_fragments() {
    let large = |key: &'static str| {
        let value = vec![b'v'; generate::LARGE].into();
        Step::Put(PutRequest { key: key.into(), value, ..PutRequest::default() })
    };
    let watch = |range_end: &'static str, fragment: bool| {
        let (key, range_end) = ("a".into(), range_end.into());
        Step::Watch(WatchCreateRequest {
            key,
            range_end,
            start_revision: 1,
            fragment,
            ..WatchCreateRequest::default()
        })
    };
    let program = [large("a"), large("b"), large("c"), watch("z", true), watch("z", false), watch("c", true)];
    block_on(async {
        let mut pair = Pair::start(Server::TESTED, |step| step).await;
        match pair.compare(&program).await {
            Ok(transcript) => {
                let fragmented: Vec<bool> =
                    transcript.watchers.iter().map(|watcher| watcher.fragmented).collect();
                assert_eq!(fragmented, [true, false, true]);
            }
            Err(difference) => panic!("they differ at {}", difference.place),
        }
    });
}

/// A side that is asked for something else once in a while is found out, and the program shrinks to `steps` at most,
/// among them one that shows `words`.
fn assert_found(bend: fn(Step) -> Step, steps: usize, words: &[&str]) {
    block_on(async {
        let mut pair = Pair::start(Server::Etcd, bend).await;
        for seed in 0..100 {
            let program = generate::program(seed);
            if pair.compare(&program).await.is_err() {
                let (program, difference) = pair.shrink(Server::Etcd, program).await.expect("it stays");
                let listing: Vec<String> = program.iter().map(Step::to_string).collect();
                eprintln!("differ at {}:\n  {}", difference.place, listing.join("\n  "));
                assert!(program.len() <= steps);
                assert!(listing.iter().any(|step| words.iter().all(|word| step.contains(word))));
                return;
            }
        }
        panic!("the planted difference was not seen");
    });
}

#[test]
fn a_difference_in_an_answer_is_found_and_shrinks() {
    let bend = |step: Step| match step {
        Step::Delete(mut delete) => {
            delete.prev_kv = false;
            Step::Delete(delete)
        }
        other => other,
    };
    assert_found(bend, 2, &["delete", "prev_kv"]);
}

#[test]
fn a_difference_in_an_event_is_found_and_shrinks() {
    let bend = |step: Step| match step {
        Step::Watch(mut watch) => {
            watch.prev_kv = false;
            Step::Watch(watch)
        }
        other => other,
    };
    assert_found(bend, 3, &["watch", "prev_kv"]);
}
