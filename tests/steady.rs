//! Overwriting for ever in little more space than the data need: compaction keeps up, so there is always room.

mod harness;

use std::time::{Duration, Instant};

use harness::checked::Checked;
use harness::nbd::Client;
use harness::place::Place;
use harness::random::Random;
use harness::rounds;
use harness::server::{Server, Setup};

const MIB: u64 = 1 << 20;
const VOLUME: u64 = 256 * MIB;
const PATIENCE: Duration = Duration::from_secs(60);

fn open(server: &Server, tag: u64, checked: Option<Checked>) -> Checked {
    let client = Client::open(&server.socket(), "v", PATIENCE).expect("a connection");
    match checked {
        None => Checked::new(client, tag),
        Some(mut checked) => {
            checked.reconnect(client);
            checked
        }
    }
}

#[test]
fn random_overwrites_in_one_and_a_half_times_the_space() {
    let place = Place::new("steady");
    let (mut random, seed) = Random::announced("steady");
    let json = |text: &str| serde_json::Value::from(text);
    // 1.5 times the volume for segments, and the reserve, in sizes that fit a volume this small.
    let setup = Setup::new(&place)
        .volume("v", VOLUME)
        .space("400MiB")
        .parameter("scocache", "segment_size", json("4MiB"))
        .parameter("scocache", "reserve_size", json("16MiB"))
        .parameter("scocache", "trigger_gap", json("64MiB"))
        .parameter("scocache", "backoff_gap", json("96MiB"))
        .parameter("volume_manager", "run_size", json("1MiB"))
        .parameter("volume_manager", "log_replay_limit", json("32MiB"));
    let mut server = setup.start();
    let mut checked = open(&server, seed, None);

    for first in (0..checked.clusters()).step_by(64) {
        checked.write((first, 64)).unwrap_or_else(|why| panic!("the first fill, cluster {first}: {why:?}"));
    }
    for pass in 0..rounds(5, 50) {
        let begun = Instant::now();
        let mut written = 0;
        let mut slowest = Duration::ZERO;
        while written < checked.clusters() {
            let batch = checked.random_batch(&mut random, 16, 32);
            let sent = Instant::now();
            let result = checked.write_batch(&batch);
            slowest = slowest.max(sent.elapsed());
            result.unwrap_or_else(|why| panic!("pass {pass} after {written} clusters: {why:?}"));
            written += batch.iter().map(|run| run.1).sum::<u64>();
            let probe = checked.random_run(&mut random, 8);
            checked.read(probe).unwrap_or_else(|why| panic!("pass {pass}, reading {probe:?}: {why:?}"));
        }
        eprintln!("pass {pass}: {} MiB in {:?}, slowest batch {slowest:?}", written / 256, begun.elapsed());
        if pass == 2 {
            checked.verify_all();
            server = server.kill().start();
            checked = open(&server, seed, Some(checked));
        }
    }
    checked.verify_all();
    let taken = taken(&setup);
    assert!(taken <= 400 * MIB, "the log files take {} MiB", taken / MIB);
    server = server.shut_down().start();
    open(&server, seed, Some(checked)).verify_all();
}

/// Bytes that the files of the log occupy.
fn taken(setup: &Setup) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(setup.segments()).expect("the log's directory");
    files.map(|file| file.expect("an entry").metadata().expect("metadata").blocks() * 512).sum()
}
