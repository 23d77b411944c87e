//! Space comes back: endless overwrites in bounded space, a full pool, trims.
mod simulation;

use simulation::machine::{Machine, install};
use simulation::model::{SECTOR, sector_of};
use uring::sim::{SimOptions, SimWorld};
use volumedriver::volume::Settings;
use volumedriver::volume::address::{BootId, CLUSTER_SIZE};
use volumedriver::volume::event::{Answer, EmptyKind, Event, Promise, RequestError, RequestId};

const BOOT: BootId = BootId([1; 16]);
const CLUSTER: u64 = CLUSTER_SIZE as u64;

fn settings() -> Settings {
    Settings { segment_blocks: 64, replay_bytes: 64 * CLUSTER, level0_runs: 2, ..Settings::default() }
}

struct Disk {
    machine: Machine,
    content: Vec<u64>,
    next: u64,
}

impl Disk {
    fn new(clusters: u64, segments: u32) -> Self {
        Self::with(&settings(), clusters, segments)
    }

    fn with(settings: &Settings, clusters: u64, segments: u32) -> Self {
        let world = SimWorld::new(3, SimOptions::default());
        install(&world, settings, segments, clusters * CLUSTER);
        let mut machine = Machine::boot(&world, settings, BOOT).expect("a new volume");
        machine.tick();
        Self { machine, content: vec![0; clusters as usize], next: 1 }
    }

    fn wait(&mut self) -> Result<Answer, RequestError> {
        let mut steps = 0;
        loop {
            if let Some((_, result)) = self.machine.replies.pop_front() {
                return result;
            }
            if !self.machine.step() {
                self.machine.tick();
            }
            steps += 1;
            assert!(steps < 200_000, "no answer: {}", self.machine.describe());
        }
    }

    /// Gives a write to the volume; returns its version.
    fn begin_write(&mut self, cluster: u64) -> u64 {
        let version = self.next;
        self.next += 1;
        let data = sector_of(version).repeat(CLUSTER_SIZE / SECTOR);
        let (request, offset) = (RequestId(version), cluster * CLUSTER);
        self.machine.tell(Event::Write { request, offset, data: &data, promise: Promise::Written });
        self.machine.end_turn();
        version
    }

    fn write(&mut self, cluster: u64) -> Result<(), RequestError> {
        let version = self.begin_write(cluster);
        self.wait()?;
        self.content[cluster as usize] = version;
        Ok(())
    }

    /// Lets everything happen that can; true if there is an answer.
    fn settle(&mut self) -> bool {
        for _ in 0..1_000 {
            if !self.machine.replies.is_empty() {
                return true;
            }
            if !self.machine.step() {
                self.machine.tick();
            }
        }
        false
    }

    fn trim(&mut self, first: u64, count: u64) {
        let (offset, length) = (first * CLUSTER, count * CLUSTER);
        let (request, kind) = (RequestId(0), EmptyKind::Trim);
        self.machine.tell(Event::Empty { request, offset, length, kind, promise: Promise::Written });
        self.machine.end_turn();
        assert_eq!(self.wait(), Ok(Answer::Done));
        self.content[first as usize..(first + count) as usize].fill(0);
    }

    fn verify(&mut self) {
        for cluster in 0..self.content.len() {
            let offset = cluster as u64 * CLUSTER;
            self.machine.tell(Event::Read { request: RequestId(0), offset, length: CLUSTER_SIZE as u32 });
            let Ok(Answer::Data(parts)) = self.wait() else { panic!("cluster {cluster} cannot be read") };
            let expected = sector_of(self.content[cluster]).repeat(CLUSTER_SIZE / SECTOR);
            assert!(parts.concat() == expected, "cluster {cluster}");
        }
    }
}

#[test]
fn random_overwrites_run_for_ever_in_one_and_a_half_times_the_space() {
    // 64 segments of 64 blocks for 42 segments of data.
    let clusters = 2_688;
    let mut disk = Disk::new(clusters, 64);
    for cluster in 0..clusters {
        disk.write(cluster).expect("the first filling fits");
    }
    for write in 0..5 * clusters {
        let cluster = disk.machine.world.random() % clusters;
        disk.write(cluster).unwrap_or_else(|error| panic!("overwrite {write}: {error}"));
    }
    disk.verify();
    let counters = disk.machine.volume.counters();
    let payload = disk.next * CLUSTER;
    let written = counters.log_bytes + counters.relocated_bytes + counters.run_bytes;
    println!("{:.2} bytes written per byte of payload", written as f64 / payload as f64);
    assert!(counters.relocated_bytes > 0 && counters.scos_freed > 64);
}

/// Writes one cluster after the other until the memtable has no room for the next: how many were accepted, and the
/// version of the one that waits.
fn until_one_waits(disk: &mut Disk) -> (u64, u64) {
    let mut accepted = 0;
    let waiting = loop {
        let version = disk.begin_write(accepted);
        if !disk.settle() {
            break version;
        }
        disk.wait().expect("there is room");
        disk.content[accepted as usize] = version;
        accepted += 1;
        assert!(accepted < 500, "the memtable has no limit");
    };
    (accepted, waiting)
}

#[test]
fn writes_wait_while_the_memtable_is_full_and_the_one_before_is_no_run_yet() {
    let settings = Settings { memtable_bytes_max: 100 * 64, ..settings() };
    let mut disk = Disk::with(&settings, 1_024, 64);
    disk.machine.hold_builds();
    let (accepted, waiting) = until_one_waits(&mut disk);
    assert!(accepted > 100, "{accepted} writes before the first one waits");
    assert!(disk.machine.volume.memtable_bytes() < 300 * 64);
    disk.machine.release_builds();
    disk.wait().expect("goes on once the run is there");
    disk.content[accepted as usize] = waiting;
    disk.verify();
}

#[test]
fn a_higher_limit_of_the_memtable_lets_waiting_writes_go_on() {
    let settings = Settings { memtable_bytes_max: 100 * 64, ..settings() };
    let mut disk = Disk::with(&settings, 1_024, 64);
    disk.machine.hold_builds();
    let (accepted, waiting) = until_one_waits(&mut disk);
    disk.machine.set_settings(Settings { memtable_bytes_max: 1_000 * 64, ..settings });
    disk.wait().expect("goes on without the run");
    disk.content[accepted as usize] = waiting;
    disk.machine.release_builds();
    disk.verify();
}

#[test]
fn a_full_pool_refuses_loses_nothing_and_goes_on_when_space_returns() {
    // Room for about half of the volume.
    let clusters = 1_024;
    let mut disk = Disk::new(clusters, 12);
    let mut written = 0;
    let error = loop {
        match disk.write(written) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, RequestError::NoSpace);
    assert!(written > 100, "{written} clusters fit");
    assert_eq!(disk.write(0).err(), Some(RequestError::NoSpace), "it stays full");
    // A refused write may or may not have happened: ours did not.
    disk.verify();
    disk.trim(0, written / 2);
    for cluster in 0..written / 4 {
        disk.write(cluster).expect("space returned");
    }
    disk.verify();
}
