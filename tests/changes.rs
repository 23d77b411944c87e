//! Parameters that change again and again while fio writes and verifies.

mod cli_node;
mod harness;

use std::time::{Duration, Instant};

use cli_node::DataDir;
use harness::fio;
use harness::random::Random;
use serde_json::{Value, json};

/// Bounds that are tight, and those of a new node.
fn documents(tight: bool) -> [(&'static str, Value); 2] {
    let manager = match tight {
        true => {
            json!({"run_size": "1MiB", "data_threads": 1, "log_records_in_flight": 1, "record_gather_size": "4KiB",
                       "log_replay_limit": "1MiB", "memtable_limit": "1MiB", "write_bytes_in_flight": "1MiB",
                       "read_bytes_in_flight": "1MiB", "metadata_cache_capacity": 64})
        }
        false => json!({"run_size": "1MiB", "data_threads": 1}),
    };
    let nbd = match tight {
        true => json!({"nbd_requests_in_flight": 1, "nbd_reply_bytes_in_flight": "1MiB"}),
        false => json!({}),
    };
    [("volume_manager", manager), ("nbd", nbd)]
}

#[test]
fn fio_verifies_while_parameters_change() {
    let (_, seed) = Random::announced("changes");
    let directory = DataDir::small();
    let node = directory.up(&["--volume", "v=64MiB", "--log-level", "warn"]);
    let endpoints = directory.endpoints();
    let text = |name: &str| endpoints[name].as_str().expect("a text").to_owned();
    let uri = text("nbd_unix").replace(":///?", ":///v?");
    let config = format!("/ovs/vpools/{}/hosts/{}/config", text("vpool_guid"), text("vrouter_id"));
    let end = Instant::now() + Duration::from_secs(harness::rounds(8, 300));
    let (mut changes, mut slowest_ns) = (0_u64, 0_u64);
    for round in 0_u64.. {
        let mut running = fio::begin(&uri, seed.wrapping_add(round));
        let before = changes;
        // At least one change a round, however quick fio is.
        while running.try_wait().expect("waited for").is_none() || changes == before {
            for (section, document) in documents(changes % 2 == 0) {
                directory.run(&["config", "set", &format!("{config}/{section}"), &document.to_string()], 0);
            }
            let applied = directory.run(&["config", "apply", "--json"], 0).json();
            let feedback =
                applied["feedback"].as_object().expect("by host").values().next().expect("one").clone();
            assert_eq!((&feedback["outcome"], &feedback["pending_restart"]), (&json!("applied"), &json!([])));
            assert!(!feedback["applied"].as_array().expect("a list").is_empty(), "{feedback}");
            changes += 1;
        }
        slowest_ns = slowest_ns.max(fio::end(running));
        if Instant::now() >= end {
            break;
        }
    }
    println!("{changes} changes; the slowest request took {} ms", slowest_ns / 1_000_000);
    node.stop();
}
