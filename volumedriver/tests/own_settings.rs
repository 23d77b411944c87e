//! Settings of one volume, on the simulated disk: what ignored flushes save, what they may cost, and that settings are
//! there after a crash.
mod simulation;

use std::time::Duration;

use simulation::machine::{Machine, install};
use simulation::model::{SECTOR, sector_of};
use uring::sim::{SimOptions, SimWorld};
use volumedriver::volume::Settings;
use volumedriver::volume::address::{BootId, CLUSTER_SIZE};
use volumedriver::volume::event::{Answer, Event, FlushedBy, Promise, RequestId};
use volumedriver::volume::own::{OwnChange, OwnSettings, SyncIgnore};

const CLUSTER: u64 = CLUSTER_SIZE as u64;
const CLUSTERS: u64 = 16_384;
/// Clusters with data in a map of more than 20 pages.
const MAPPED: u64 = 6_000;

fn settings() -> Settings {
    Settings { segment_blocks: 64, ..Settings::default() }
}

/// A volume on a simulated disk.
struct Rig {
    world: SimWorld,
    machine: Option<Machine>,
    boot: BootId,
    settings: Settings,
}

impl Rig {
    fn new(settings: Settings) -> Self {
        let world = SimWorld::new(11, SimOptions::default());
        install(&world, &settings, 256, CLUSTERS * CLUSTER);
        let mut rig = Self { world, machine: None, boot: BootId([1; 16]), settings };
        rig.start();
        rig
    }

    /// With flushes that are ignored.
    fn ignoring(flushes: u32, seconds: u32) -> Self {
        let mut rig = Self::new(settings());
        rig.change(OwnChange::SyncIgnore(SyncIgnore { flushes, seconds }));
        rig
    }

    fn start(&mut self) {
        let mut machine = Machine::boot(&self.world, &self.settings, self.boot).expect("it opens");
        machine.tick();
        self.machine = Some(machine);
    }

    fn machine(&mut self) -> &mut Machine {
        self.machine.as_mut().expect("it runs")
    }

    fn power_loss(&mut self) {
        self.machine = None;
        self.world.power_loss();
        self.boot.0[0] += 1;
        self.start();
    }

    fn kill(&mut self) {
        self.machine = None;
        self.world.process_kill();
        self.start();
    }

    fn answer(&mut self) -> Answer {
        self.machine().end_turn();
        self.machine().settle();
        let (_, result) = self.machine().replies.pop_front().expect("an answer");
        result.expect("it is done")
    }

    /// Changes a setting, durably.
    fn change(&mut self, change: OwnChange) {
        let version = self.machine().change_own(change);
        self.machine().settle();
        assert!(self.machine().volume.manifest_durable() >= version);
    }

    fn write(&mut self, cluster: u64, content: u64, promise: Promise) {
        let data = sector_of(content).repeat(CLUSTER_SIZE / SECTOR);
        let (request, offset) = (RequestId(1), cluster * CLUSTER);
        self.machine().tell(Event::Write { request, offset, data: &data, promise });
        assert_eq!(self.answer(), Answer::Done);
    }

    fn flush(&mut self, by: FlushedBy) {
        self.machine().tell(Event::Flush { request: RequestId(2), by });
        assert_eq!(self.answer(), Answer::Done);
    }

    /// Writes a cluster and flushes it; whether that was done.
    fn flushed(&mut self, cluster: u64) -> bool {
        self.write(cluster, cluster + 1, Promise::Written);
        let before = self.machine().volume.counters();
        self.flush(FlushedBy::Client);
        let after = self.machine().volume.counters();
        assert_eq!(after.flushes, before.flushes + 1);
        let done = after.ignored_flushes == before.ignored_flushes;
        assert!(done || after.syncs == before.syncs, "nothing else syncs");
        done
    }

    /// Whether a cluster has what `flushed` wrote there.
    fn has(&mut self, cluster: u64) -> bool {
        let offset = cluster * CLUSTER;
        self.machine().tell(Event::Read { request: RequestId(3), offset, length: CLUSTER_SIZE as u32 });
        let Answer::Data(parts) = self.answer() else { panic!("no data") };
        parts.concat() == sector_of(cluster + 1).repeat(CLUSTER_SIZE / SECTOR)
    }

    fn pass(&mut self, milliseconds: u64) {
        self.machine().pass(Duration::from_millis(milliseconds));
    }
}

#[test]
fn by_default_every_flush_is_done() {
    let mut rig = Rig::new(settings());
    assert_eq!(rig.machine().volume.own(), OwnSettings::default());
    assert!((0..20).all(|cluster| rig.flushed(cluster)));
    for (flushes, seconds) in [(5, 0), (0, 5), (0, 0)] {
        rig.change(OwnChange::SyncIgnore(SyncIgnore { flushes, seconds }));
        assert!((0..5).all(|cluster| rig.flushed(cluster)), "{flushes} flushes, {seconds} seconds: off");
    }
}

#[test]
fn so_many_flushes_in_a_row_are_ignored_and_a_power_loss_costs_no_more() {
    let mut rig = Rig::ignoring(3, 1000);
    let done: Vec<bool> = (0..9).map(|cluster| rig.flushed(cluster)).collect();
    let (yes, no) = (true, false);
    assert_eq!(done, [yes, no, no, no, yes, no, no, no, yes], "the first finds no sync before it");
    assert!(!rig.flushed(9) && !rig.flushed(10));
    rig.kill();
    assert!((0..11).all(|cluster| rig.has(cluster)), "a killed process costs nothing");
    // What recovery took is durable: now two are at risk.
    rig.flushed(11);
    assert!(!rig.flushed(12) && !rig.flushed(13));
    rig.power_loss();
    assert!((0..12).all(|cluster| rig.has(cluster)));
    assert!(!rig.has(13), "the price: nobody synced it, and the disk of this seed lost it");
    assert_eq!(rig.machine().volume.own().sync_ignore, SyncIgnore { flushes: 3, seconds: 1000 });
}

#[test]
fn when_the_time_is_over_flushes_are_done_and_what_was_ignored_is_synced_without_one() {
    let mut rig = Rig::ignoring(1000, 10);
    assert!(rig.flushed(0));
    rig.pass(9_000);
    assert!(!rig.flushed(1));
    assert!(rig.machine().volume.wants_ticks(), "somebody has to say that the time is over");
    rig.pass(999);
    let before = rig.machine().volume.counters().syncs;
    rig.machine().tick();
    assert_eq!(rig.machine().volume.counters().syncs, before);
    assert!(!rig.flushed(2), "the sync that counts began ten seconds ago, less a millisecond");
    rig.pass(1);
    rig.machine().tick();
    rig.machine().settle();
    assert_eq!(rig.machine().volume.counters().syncs, before + 1);
    assert!(!rig.machine().volume.wants_ticks(), "nothing is owed");
    rig.power_loss();
    assert!((0..3).all(|cluster| rig.has(cluster)));

    assert!(rig.flushed(3));
    rig.pass(10_000);
    assert!(rig.flushed(4), "the last sync is too long ago");
}

#[test]
fn fua_and_the_last_flush_are_never_ignored() {
    let mut rig = Rig::ignoring(1000, 1000);
    assert!(rig.flushed(0));
    assert!(!rig.flushed(1));
    rig.write(2, 3, Promise::Durable);
    rig.power_loss();
    assert!((0..3).all(|cluster| rig.has(cluster)), "and all before the FUA write is durable with it");
    assert!(rig.flushed(3));
    assert!(!rig.flushed(4));
    rig.flush(FlushedBy::Shutdown);
    rig.power_loss();
    assert!(rig.has(3) && rig.has(4));
}

#[test]
fn a_lower_bound_pays_what_is_owed() {
    for (flushes, seconds) in [(0, 0), (1, 1000), (1000, 5)] {
        let mut rig = Rig::ignoring(1000, 1000);
        assert!(rig.flushed(0));
        rig.pass(6_000);
        assert!(!rig.flushed(1) && !rig.flushed(2));
        let before = rig.machine().volume.counters().syncs;
        rig.change(OwnChange::SyncIgnore(SyncIgnore { flushes, seconds }));
        rig.machine().settle();
        assert_eq!(rig.machine().volume.counters().syncs, before + 1);
        rig.power_loss();
        assert!(rig.has(1) && rig.has(2), "{flushes} flushes, {seconds} seconds");
    }
}

/// A client that flushes after every write has its records made durable ahead of flushes; not when these are ignored.
#[test]
fn flush_after_every_write_costs_few_syncs_when_they_are_ignored() {
    let mut rig = Rig::new(settings());
    let write_and_flush = |rig: &mut Rig| {
        let before = rig.machine().volume.counters();
        for cluster in 0..100 {
            rig.write(cluster, cluster + 1, Promise::Written);
            rig.flush(FlushedBy::Client);
        }
        let after = rig.machine().volume.counters();
        (after.ignored_flushes - before.ignored_flushes, after.syncs - before.syncs)
    };
    let (ignored, syncs) = write_and_flush(&mut rig);
    assert!(ignored == 0 && syncs < 10, "{syncs} syncs: records are durable by themselves");
    rig.change(OwnChange::SyncIgnore(SyncIgnore { flushes: 9, seconds: 1000 }));
    let (ignored, syncs) = write_and_flush(&mut rig);
    assert_eq!(ignored, 90);
    // One more at each border of an SCO.
    assert!((9..=14).contains(&syncs), "{syncs} syncs");
}

#[test]
fn settings_are_there_after_crashes_and_alone_of_their_kind() {
    let mut rig = Rig::new(settings());
    rig.change(OwnChange::MapPages(Some(300)));
    rig.kill();
    assert_eq!(rig.machine().volume.own(), OwnSettings { map_pages: Some(300), ..OwnSettings::default() });
    rig.change(OwnChange::SyncIgnore(SyncIgnore { flushes: 4, seconds: 5 }));
    rig.power_loss();
    let both = OwnSettings { sync_ignore: SyncIgnore { flushes: 4, seconds: 5 }, map_pages: Some(300) };
    assert_eq!(rig.machine().volume.own(), both, "one does not change the other");
    rig.change(OwnChange::MapPages(None));
    rig.power_loss();
    assert_eq!(rig.machine().volume.own(), OwnSettings { map_pages: None, ..both });
}

#[test]
fn a_volume_has_as_many_pages_of_its_map_in_memory_as_it_may() {
    let settings = Settings { replay_bytes: 512 * CLUSTER, map_pages_min: 16, ..settings() };
    let mut rig = Rig::new(settings);
    rig.machine().set_page_cache(256 * CLUSTER_SIZE);
    // In an order that leaves an entry of the map for each cluster.
    let scattered: Vec<u64> = (0..MAPPED).map(|index| index * 577 % MAPPED).collect();
    for some in scattered.chunks(128) {
        for &cluster in some {
            let data = sector_of(cluster + 1).repeat(CLUSTER_SIZE / SECTOR);
            let (request, offset, promise) = (RequestId(cluster), cluster * CLUSTER, Promise::Written);
            rig.machine().tell(Event::Write { request, offset, data: &data, promise });
        }
        rig.machine().settle();
        rig.machine().replies.clear();
    }
    let all = |rig: &mut Rig| {
        assert!((0..MAPPED).step_by(7).all(|cluster| rig.has(cluster)));
        rig.machine().map_pages()
    };
    let free = all(&mut rig);
    assert!(free > 20, "{free} pages show nothing");
    rig.change(OwnChange::MapPages(Some(20)));
    assert_eq!(all(&mut rig), 20);
    // After a restart as well.
    rig.kill();
    rig.machine().set_page_cache(256 * CLUSTER_SIZE);
    assert_eq!(all(&mut rig), 20);
    rig.change(OwnChange::MapPages(Some(1)));
    assert_eq!(all(&mut rig), 16, "fewer than a look-up may need would be none");
    rig.change(OwnChange::MapPages(None));
    assert!(all(&mut rig) > 20);
}
