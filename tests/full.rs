//! A full disk: clients are told, nothing acknowledged is lost, and writing goes on once there is room again.

mod harness;

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use harness::checked::{Checked, is_full};
use harness::nbd::Client;
use harness::place::{LoopFs, Place};
use harness::random::Random;
use harness::root_or_skip;
use harness::server::{Server, Setup};

const MIB: u64 = 1 << 20;
/// More than the file system holds.
const VOLUME: u64 = 1024 * MIB;
const DISK: u64 = 640 * MIB;
/// A request may wait for room for a while before it is refused.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long it may take until freed space can be written.
const RELIEF: Duration = Duration::from_secs(30);

struct Scene {
    random: Random,
    seed: u64,
    setup: Setup,
    // In this order: the file system goes before the directory it lies in.
    _mounted: LoopFs,
    place: Place,
}

impl Scene {
    fn new(name: &str) -> Self {
        let place = Place::new(name);
        let mounted = LoopFs::mount(&place, DISK);
        let (random, seed) = Random::announced(name);
        let setup = Setup::new(&place)
            .volume("v", VOLUME)
            .volume("other", 16 * MIB)
            .space("UNLIMITED")
            .parameter("scocache", "segment_size", "8MiB".into())
            .parameter("scocache", "reserve_size", "32MiB".into())
            .parameter("scocache", "trigger_gap", "32MiB".into())
            .parameter("scocache", "backoff_gap", "64MiB".into());
        Self { random, seed, setup, _mounted: mounted, place }
    }

    fn open(&self, server: &Server, checked: Option<Checked>) -> Checked {
        let client = Client::open(&server.socket(), "v", PATIENCE).expect("a connection");
        match checked {
            None => Checked::new(client, self.seed),
            Some(mut checked) => {
                checked.reconnect(client);
                checked
            }
        }
    }

    /// A file that takes `size` bytes of the same file system.
    fn ballast(&self, size: u64) -> std::path::PathBuf {
        let path = self.place.data_dir().join("ballast");
        let mut file = File::create(&path).expect("ballast");
        for _ in 0..size / MIB {
            file.write_all(&vec![0x55; MIB as usize]).expect("ballast fits");
        }
        file.sync_all().expect("ballast synced");
        path
    }
}

/// Writes fresh clusters until there is no room; returns the first cluster that was refused.
fn fill(checked: &mut Checked, from: u64) -> u64 {
    for first in (from..checked.clusters()).step_by(64) {
        let result = checked.write((first, 64));
        if is_full(&result) {
            return first;
        }
        result.unwrap_or_else(|why| panic!("cluster {first}: {why:?}"));
    }
    panic!("{} MiB were written to a disk of {} MiB", VOLUME / MIB, DISK / MIB);
}

/// Between two attempts: nothing tells a client that there is room again.
const PAUSE: Duration = Duration::from_millis(50);

/// Writes until it is accepted again.
fn write_when_possible(checked: &mut Checked, run: (u64, u64)) -> Duration {
    let begun = Instant::now();
    loop {
        let result = checked.write(run);
        if result.is_ok() {
            return begun.elapsed();
        }
        assert!(is_full(&result), "{result:?}");
        assert!(begun.elapsed() < RELIEF, "still no room for {run:?} {RELIEF:?} after there should be");
        // What is read meanwhile stays right.
        let probe = (run.0.saturating_sub(640), 64);
        checked.read(probe).expect("a read while there is no room");
        // sleep: a full disk gives no event when it has room again; between two tries
        std::thread::sleep(PAUSE);
    }
}

#[test]
fn space_that_another_file_gives_back() {
    if !root_or_skip("a full ext4 over a loop device") {
        return;
    }
    let scene = Scene::new("full");
    let server = scene.setup.start();
    let ballast = scene.ballast(200 * MIB);
    let mut checked = scene.open(&server, None);
    let refused = fill(&mut checked, 0);
    eprintln!("no room after {} MiB", refused / 256);
    assert!(refused * 4096 > 100 * MIB, "it should have held more than {} MiB", refused / 256);
    checked.verify_all();
    checked.client().flush().expect("a flush on a full disk");

    // Full, killed, started: all there. The attempt that was refused may be there or not, but whole.
    let server = server.kill().start();
    let mut checked = scene.open(&server, Some(checked));
    checked.verify_all();
    // A start may have found a little room, but not much.
    let refused = fill(&mut checked, refused);

    std::fs::remove_file(ballast).expect("ballast removed");
    let waited = write_when_possible(&mut checked, (refused, 64));
    eprintln!("room again after {waited:?}");
    let again = fill(&mut checked, refused + 64);
    assert!((again - refused) * 4096 > 100 * MIB, "only {} MiB more", (again - refused) / 256);
    checked.verify_all();

    let server = server.shut_down().start();
    let mut checked = scene.open(&server, Some(checked));
    checked.verify_all();
    server.shut_down();
}

#[test]
fn space_that_a_trim_gives_back() {
    if !root_or_skip("a full ext4 over a loop device") {
        return;
    }
    let mut scene = Scene::new("fullt");
    let server = scene.setup.start();
    let mut checked = scene.open(&server, None);
    let refused = fill(&mut checked, 0);
    eprintln!("no room after {} MiB", refused / 256);

    // Trimming must work on a full disk: it is what makes room.
    let third = refused / 3 / 64 * 64;
    let begun = Instant::now();
    loop {
        match checked.trim((0, third)) {
            Ok(()) => break,
            full => {
                assert!(is_full(&full), "{full:?}");
                assert!(begun.elapsed() < RELIEF, "a full disk cannot be trimmed");
                // sleep: a full disk gives no event when it has room again; between two tries
                std::thread::sleep(PAUSE);
            }
        }
    }
    let waited = write_when_possible(&mut checked, (refused, 64));
    eprintln!("room after the trim: {waited:?}");
    // The room can be used, at random places too, and the other volume has its share.
    let server_address = server.socket();
    let mut other = Checked::new(Client::open(&server_address, "other", PATIENCE).expect("a connection"), 99);
    for i in 0..16 {
        write_when_possible(&mut other, (i * 64, 64));
    }
    for _ in 0..100 {
        let run = checked.random_run(&mut scene.random, 64);
        let result = checked.write(run);
        assert!(result.is_ok() || is_full(&result), "{result:?}");
    }
    checked.verify_all();
    other.verify_all();

    let server = server.kill().start();
    let mut checked = scene.open(&server, Some(checked));
    checked.verify_all();
    server.shut_down();
}
