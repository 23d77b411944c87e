//! Damaged log files. What recovery needs and cannot read halts that volume with a message, or is cut where the table
//! of recovery says so; what is read later is an error for that request alone. Nothing wrong is ever read, and other
//! volumes go on.

mod harness;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::checked::Checked;
use harness::nbd::{Client, Failure, code};
use harness::pattern::{self, CLUSTER};
use harness::place::Place;
use harness::random::Random;
use harness::server::{Server, Setup};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
/// Clusters that the victim is written, one request each, in this order.
const WRITTEN: u64 = 400;
const VICTIM: u64 = 0x7663_7469_6d21_0001;

/// Where a block lies in the log.
#[derive(Clone, Debug)]
struct Spot {
    file: PathBuf,
    offset: u64,
}

impl Spot {
    /// Flips one bit `at` bytes behind the spot, on the disk.
    fn flip(&self, at: u64) {
        let file = OpenOptions::new().read(true).write(true).open(&self.file).expect("a log file");
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.offset + at).expect("a byte");
        byte[0] ^= 0x10;
        file.write_all_at(&byte, self.offset + at).expect("a byte");
        file.sync_all().expect("synced");
    }
}

/// All places in the log files that hold cluster `cluster` of the volume tagged `tag` in `version`. What a running
/// server makes meanwhile has another name in the end, and nothing in it yet.
fn find(segments: &Path, tag: u64, cluster: u64, version: u64) -> Vec<Spot> {
    let mark = pattern::mark(tag, cluster, version);
    let mut spots = Vec::new();
    for entry in std::fs::read_dir(segments).expect("the log's directory") {
        let path = entry.expect("an entry").path();
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file.expect("a log file"),
        };
        let mut chunk = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            let length = file.read(&mut chunk).expect("a log file can be read");
            if length == 0 {
                break;
            }
            for (i, block) in chunk[..length].chunks(CLUSTER).enumerate() {
                if block.starts_with(&mark) {
                    spots.push(Spot { file: path.clone(), offset: at + (i * CLUSTER) as u64 });
                }
            }
            at += length as u64;
        }
    }
    spots
}

/// Exactly one place, because this was written once and not moved since.
fn find_one(segments: &Path, cluster: u64) -> Spot {
    let spots = find(segments, VICTIM, cluster, cluster + 1);
    assert_eq!(spots.len(), 1, "cluster {cluster} stands in the log once: {spots:?}");
    spots[0].clone()
}

/// A server whose two volumes were written in turns, so that their data share the disk.
struct Scene {
    setup: Setup,
    bystander: Checked,
    _place: Place,
}

impl Scene {
    /// Writes both, flushes the victim before its last cluster, and lets `end` stop the server.
    fn new(name: &str, end: impl FnOnce(Server) -> Setup) -> Self {
        Self::with(name, |setup| setup, end)
    }

    fn with(name: &str, change: impl FnOnce(Setup) -> Setup, end: impl FnOnce(Server) -> Setup) -> Self {
        let place = Place::new(name);
        let (mut random, seed) = Random::announced(name);
        let setup = change(Setup::new(&place).volume("victim", 16 * MIB).volume("bystander", 16 * MIB));
        let server = setup.start();
        let mut victim = Client::open(&server.socket(), "victim", PATIENCE).expect("a connection");
        let client = Client::open(&server.socket(), "bystander", PATIENCE).expect("a connection");
        let mut bystander = Checked::new(client, seed);
        for cluster in 0..WRITTEN {
            if cluster == WRITTEN - 1 {
                victim.flush().expect("a flush");
            }
            victim.write(cluster * CLUSTER as u64, &content(cluster)).expect("a write");
            let run = bystander.random_run(&mut random, 8);
            bystander.write(run).expect("a write");
        }
        let setup = end(server);
        Self { setup, bystander, _place: place }
    }

    fn segments(&self) -> PathBuf {
        self.setup.segments()
    }

    /// The other volume, on a running server: all there, and writable.
    fn check_bystander(&mut self, server: &Server) {
        self.bystander
            .reconnect(Client::open(&server.tcp_address(), "bystander", PATIENCE).expect("a connection"));
        self.bystander.verify_all();
        self.bystander.write((1000, 64)).expect("a write to the undamaged volume");
        self.bystander.client().flush().expect("a flush of the undamaged volume");
        self.bystander.verify_all();
    }
}

/// Each cluster is written once, so its version is its place in the order of writing.
fn content(cluster: u64) -> Vec<u8> {
    pattern::content(VICTIM, cluster, cluster + 1)
}

/// What a volume said when it was asked for each written cluster.
#[derive(Default)]
struct Reading {
    whole: Vec<u64>,
    zeros: Vec<u64>,
    errors: Vec<u64>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { whole, zeros, errors } = self;
        let head = |list: &[u64]| list[..list.len().min(5)].to_vec();
        write!(f, "{} whole, {} zeros (from {:?} on), ", whole.len(), zeros.len(), head(zeros))?;
        write!(f, "{} errors (from {:?} on)", errors.len(), head(errors))
    }
}

/// Reads the victim cluster by cluster; wrong bytes fail the test. `None`: it is not served at all.
fn read_victim(server: &Server) -> Option<Reading> {
    let mut client = match Client::open(&server.socket(), "victim", PATIENCE) {
        Ok(client) => client,
        Err(Failure::Refused(_)) => return None,
        Err(Failure::Gone(why)) => panic!("the connection ended: {why}"),
    };
    let mut reading = Reading::default();
    for cluster in 0..WRITTEN {
        match client.read(cluster * CLUSTER as u64, CLUSTER) {
            Ok(data) if data == content(cluster) => reading.whole.push(cluster),
            Ok(data) if data.iter().all(|byte| *byte == 0) => reading.zeros.push(cluster),
            Ok(data) => panic!("cluster {cluster} reads as {}", pattern::describe(&data)),
            Err(Failure::Refused(code::EIO | code::ESHUTDOWN)) => reading.errors.push(cluster),
            Err(why) => panic!("cluster {cluster}: {why:?}"),
        }
    }
    Some(reading)
}

/// The victim is halted: says so when asked, says so in the log, serves nothing.
fn assert_halted(server: &Server, log_before: &str) {
    if let Some(reading) = read_victim(server) {
        assert!(reading.errors.len() as u64 == WRITTEN, "a halted volume serves nothing: {reading:?}");
    }
    let info = server.setup().ovs_ok(&["volume", "info", "victim", "--json"]);
    let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    assert_eq!(info["state"], "halted", "{info}");
    let reason = info["halted_reason"].as_str().unwrap_or_default();
    assert!(!reason.is_empty(), "it must say why: {info}");
    let log = server.setup().log_text();
    let news = log.strip_prefix(log_before).unwrap_or(&log);
    assert!(
        news.lines().any(|line| line.contains("victim") && line.to_lowercase().contains("halt")),
        "the log must name the volume and say that it halted:\n{news}"
    );
    eprintln!("halted: {reason}");
}

/// Kills the server, does `damage`, starts it again; the victim must be halted and the other volume untouched.
fn damage_that_halts(name: &str, damage: impl FnOnce(&Scene)) {
    let mut scene = Scene::new(name, Server::kill);
    damage(&scene);
    let before = scene.setup.log_text();
    let server = scene.setup.start();
    assert_halted(&server, &before);
    scene.check_bystander(&server);
    // It stays so, and still nobody else minds.
    let server = server.shut_down().start();
    assert_halted(&server, &before);
    scene.check_bystander(&server);
    server.shut_down();
}

#[test]
fn flipped_bit_in_data_that_recovery_needs() {
    damage_that_halts("flipd", |scene| find_one(&scene.segments(), 20).flip(2000));
}

#[test]
fn flipped_bit_in_a_header_that_recovery_needs() {
    damage_that_halts("fliph", |scene| {
        // Each of the victim's writes was a record of its own: the block before its data is the header.
        let mut spot = find_one(&scene.segments(), 20);
        spot.offset -= CLUSTER as u64;
        let mut head = vec![0; CLUSTER];
        File::open(&spot.file)
            .and_then(|file| file.read_exact_at(&mut head, spot.offset))
            .expect("the header");
        assert!(head.starts_with(b"OVSRECRD"), "the block before a record's first cluster is its header");
        spot.flip(60);
    });
}

#[test]
fn truncated_log_file() {
    damage_that_halts("trunc", |scene| {
        let spot = find_one(&scene.segments(), 20);
        let file = OpenOptions::new().write(true).open(&spot.file).expect("a log file");
        file.set_len(spot.offset - CLUSTER as u64).expect("cut");
        file.sync_all().expect("synced");
    });
}

#[test]
fn missing_log_file() {
    damage_that_halts("miss", |scene| {
        std::fs::remove_file(find_one(&scene.segments(), 20).file).expect("removed");
    });
}

/// Nothing follows the last record, so nothing proves that it ever was complete: it may be cut, and nothing else.
#[test]
fn damage_in_the_last_record_is_cut_at_most_there() {
    let mut scene = Scene::new("tail", Server::kill);
    find_one(&scene.segments(), WRITTEN - 1).flip(3000);
    let before = scene.setup.log_text();
    let server = scene.setup.start();
    match read_victim(&server) {
        Some(reading) if reading.errors.is_empty() => {
            let all_but_the_last: Vec<u64> = (0..WRITTEN - 1).collect();
            assert_eq!(
                reading.whole, all_but_the_last,
                "only the damaged record may go: {:?}",
                reading.zeros
            );
            let log = server.setup().log_text();
            let news = log.strip_prefix(&before).unwrap_or(&log);
            assert!(
                news.lines().any(|line| line.contains("victim") && line.to_lowercase().contains("cut")),
                "the log must tell of the cut:\n{news}"
            );
            // And it goes on from there: a new write is there after another crash, the cut one is not.
            let mut client = Client::open(&server.socket(), "victim", PATIENCE).expect("a connection");
            client.write(WRITTEN * CLUSTER as u64, &content(WRITTEN)).expect("a write");
            let server = server.kill().start();
            let again = read_victim(&server).expect("served");
            assert_eq!((again.whole, again.zeros), (reading.whole, reading.zeros));
            let mut client = Client::open(&server.socket(), "victim", PATIENCE).expect("a connection");
            let data = client.read(WRITTEN * CLUSTER as u64, CLUSTER).expect("a read");
            assert!(data == content(WRITTEN), "{}", pattern::describe(&data));
            scene.check_bystander(&server);
            server.shut_down();
        }
        // A log file that was written after it may prove that it was complete.
        _ => {
            assert_halted(&server, &before);
            scene.check_bystander(&server);
            server.shut_down();
        }
    }
}

/// What lies before the place where replay starts is not looked at by a start: damage shows when it is read.
#[test]
fn a_damaged_cluster_is_an_error_for_that_request_alone() {
    // Only the last of what the victim was written may be replayed.
    let short_replay = |setup: Setup| setup.parameter("volume_manager", "log_replay_limit", "1MiB".into());
    let mut scene = Scene::with("late", short_replay, Server::shut_down);
    let spots = find(&scene.segments(), VICTIM, 20, 21);
    assert!(!spots.is_empty(), "cluster 20 stands in the log");
    for spot in &spots {
        spot.flip(2000);
    }
    let before = scene.setup.log_text();
    let server = scene.setup.start();
    let reading = read_victim(&server).expect("served");
    assert_eq!(reading.errors, [20], "the damaged cluster, and no other; zeros: {:?}", reading.zeros);
    assert_eq!(reading.whole.len() as u64, WRITTEN - 1);
    let mut client = Client::open(&server.socket(), "victim", PATIENCE).expect("a connection");
    let at = |cluster: u64| cluster * CLUSTER as u64;
    // A request that touches it fails whole, one beside it does not.
    assert_eq!(client.read(at(16), 8 * CLUSTER), Err(Failure::Refused(code::EIO)));
    assert!(client.read(at(21), 8 * CLUSTER).is_ok());
    // A write of a part of it must not make the rest look good.
    let partial = client.write(at(20) + 100, b"part");
    if partial.is_err() {
        assert_eq!(partial, Err(Failure::Refused(code::EIO)));
    }
    assert_eq!(client.read(at(20), CLUSTER), Err(Failure::Refused(code::EIO)), "after a partial write");
    let log = server.setup().log_text();
    let news = log.strip_prefix(&before).unwrap_or(&log);
    assert!(news.lines().any(|line| line.contains("victim")), "the damage must be reported:\n{news}");
    // A write of all of it heals it, for good.
    client.write(at(20), &content(20)).expect("a write over the damage");
    assert!(client.read(at(20), CLUSTER).expect("a read") == content(20));
    client.flush().expect("a flush");
    let server = server.kill().start();
    let reading = read_victim(&server).expect("served");
    assert_eq!((reading.whole.len() as u64, reading.errors.len()), (WRITTEN, 0), "{:?}", reading.zeros);
    scene.check_bystander(&server);
    server.shut_down();
}

/// The same under a running server, where a copy in memory may still give the right answer.
#[test]
fn damage_under_a_running_server() {
    let place = Place::new("live");
    let setup = Setup::new(&place).volume("victim", 16 * MIB).volume("bystander", 16 * MIB);
    let mut server = setup.start();
    let mut victim = Client::open(&server.socket(), "victim", PATIENCE).expect("a connection");
    for cluster in 0..WRITTEN {
        victim.write(cluster * CLUSTER as u64, &content(cluster)).expect("a write");
    }
    victim.flush().expect("a flush");
    for cluster in [5, 100, 399] {
        find_one(&setup.segments(), cluster).flip(1000);
    }
    let reading = read_victim(&server).expect("served");
    assert!(reading.zeros.is_empty(), "{:?}", reading.zeros);
    assert!(reading.errors.iter().all(|cluster| [5, 100, 399].contains(cluster)), "{:?}", reading.errors);
    assert!(!reading.errors.is_empty(), "nothing noticed the damage: were the right bytes flipped?");
    server.assert_alive();
    let client = Client::open(&server.socket(), "bystander", PATIENCE).expect("a connection");
    let mut bystander = Checked::new(client, 7);
    bystander.write((0, 64)).expect("a write");
    bystander.verify_all();
    victim.write(1000 * CLUSTER as u64, &content(1000)).expect("the damaged volume can still be written");
    server.shut_down();
}
