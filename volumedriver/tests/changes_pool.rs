//! Parameters of the pool, of compaction and of the reserve that change while volumes are served.

mod driver_rig;

use std::time::Instant;

use cfg_schema::{ByteSize, SizeLimit};
use driver_rig::change::{
    KIB, MIB, change, many_turns, name, one_thread, prepare, prepared_volume, sample, scatter, set_disk,
};
use driver_rig::gate::Gate;
use driver_rig::{Client, Directory, FLUSH, FUA, PATIENCE, Rig, TRIM, WRITE, small};
use volumedriver::driver::{Committed, Driver};
use volumedriver::parameters::Parameters;

fn free_segments(driver: &Driver) -> u64 {
    sample(driver, "ovs_scocache_segments{state=\"free\"}")
}

#[test]
fn the_pool_keeps_as_many_ready_as_the_moment_wants() {
    let directory = Directory::new();
    let mut parameters = one_thread();
    (parameters.scocache.segments_ready_min, parameters.scocache.segments_ready_max) = (2, 2);
    let rig = Rig::start(&directory.0, parameters);
    let driver = rig.driver();
    let mut client = prepared_volume(&rig);
    // Three are the compactor's.
    rig.until("some are ready", |driver| free_segments(driver) == 3 + 2);
    client.write(FUA, 8 * MIB, &vec![1; 16 << 20]);
    rig.until("not more, however fast clients write", |driver| free_segments(driver) == 3 + 2);
    change(driver, |p| p.scocache.segments_ready_max = 12);
    client.write(FUA, 24 * MIB, &vec![1; 16 << 20]);
    rig.until("more for fast clients", |driver| free_segments(driver) > 3 + 2);
    change(driver, |p| p.scocache.segments_ready_min = 12);
    rig.until("more at rest", |driver| free_segments(driver) >= 3 + 12);
}

/// Bytes of the files of the pool: of segments, and of the reserve.
fn pool_bytes(directory: &Directory) -> (u64, u64) {
    let (mut segments, mut reserve) = (0, 0);
    for entry in std::fs::read_dir(directory.0.join("scocache")).unwrap().map(Result::unwrap) {
        let Ok(metadata) = entry.metadata() else { continue };
        match entry.file_name().to_str() {
            Some("reserve") => reserve = metadata.len(),
            _ => segments += metadata.len(),
        }
    }
    (segments, reserve)
}

#[test]
fn the_disk_may_become_larger_and_smaller() {
    let directory = Directory::new();
    let rig = Rig::start(&directory.0, small());
    let driver = rig.driver();
    driver.create_volume(name("vm"), 128 * MIB).unwrap();
    let mut client = rig.connect("vm");
    let mut written = 0;
    let full = |client: &mut Client, at: u64| {
        client.send(0, WRITE, at * MIB, MIB as u32, &vec![at as u8; MIB as usize]);
        client.reply().0 != 0
    };
    while !full(&mut client, written) {
        written += 1;
        assert!(written < 96, "more than the disk holds");
    }
    let problems = prepare(driver, |p| set_disk(p, 80)).err().expect("volumes have more there");
    assert_eq!(problems[0].key, "scocache_mount_points[0].size");
    assert!(problems[0].problem.contains("volumes have"), "{problems:?}");
    change(driver, |p| set_disk(p, 128));
    rig.until("there is room", |driver| free_segments(driver) > 3);
    assert!(!full(&mut client, written));
    assert!(!full(&mut client, written + 1));

    // Free again, and given back to the file system.
    assert_eq!(client.command(0, TRIM, 2 * MIB, 110 << 20), 0);
    client.command(0, FLUSH, 0, 0);
    let deadline = Instant::now() + PATIENCE;
    let prepared = loop {
        // Records that take the place of others have their segments freed.
        client.write(FUA, 0, &vec![7; 2 << 20]);
        match prepare(driver, |p| set_disk(p, 64)) {
            Ok(prepared) => break prepared,
            Err(problems) => assert!(Instant::now() < deadline, "{problems:?}"),
        }
    };
    assert_eq!(prepared.commit(), Committed::default());
    rig.until("segments are removed", |_| pool_bytes(&directory).0 <= 32 * MIB);
    for round in 0..100u64 {
        client.write(FUA, 0, &vec![round as u8; 1 << 20]);
        assert!(pool_bytes(&directory).0 <= 33 * MIB, "{:?}", pool_bytes(&directory));
    }
    assert!(client.read(0, 1 << 20) == vec![99; 1 << 20]);
    assert!(client.read(MIB, 1 << 20) == vec![7; 1 << 20]);
    drop(client);
    rig.stop();
    let mut parameters = small();
    set_disk(&mut parameters, 64);
    let rig = Rig::start(&directory.0, parameters);
    assert!(rig.connect("vm").read(0, 1 << 20) == vec![99; 1 << 20]);
}

#[test]
fn the_reserve_grows_before_it_counts_and_a_dropped_change_leaves_no_trace() {
    let directory = Directory::new();
    let rig = Rig::start(&directory.0, one_thread());
    let driver = rig.driver();
    let reserve = || pool_bytes(&directory).1;
    let missing = |driver: &Driver| sample(driver, "ovs_scocache_reserve_missing_bytes");
    rig.until("the reserve is whole", |driver| missing(driver) == 0);
    let before = driver.parameters();

    let larger = |p: &mut Parameters| p.scocache.reserve_size = ByteSize::mib(48);
    let prepared = prepare(driver, larger).expect("there is room");
    assert_eq!((reserve(), missing(driver)), (48 * MIB, 0), "written, and nobody waits for it");
    let problems = prepare(driver, |_| ()).err().expect("one at a time");
    assert!(problems[0].problem.contains("another change"), "{problems:?}");
    drop(prepared);
    assert_eq!((reserve(), missing(driver)), (32 * MIB, 0));
    assert_eq!(driver.parameters(), before);

    change(driver, larger);
    assert_eq!((reserve(), missing(driver)), (48 * MIB, 0));
    change(driver, |p| p.scocache.reserve_size = ByteSize::mib(33));
    assert_eq!((reserve(), missing(driver)), (33 * MIB, 0));
    // More than any disk of a test has.
    let problems = prepare(driver, |p| {
        p.scocache.reserve_size = ByteSize(1 << 40);
        p.scocache.scocache_mount_points[0].size = SizeLimit::Unlimited;
    });
    let problems = problems.err().expect("no room");
    assert_eq!(problems[0].key, "reserve_size");
    assert!(problems[0].problem.contains("no room"), "{problems:?}");
    assert_eq!((reserve(), missing(driver)), (33 * MIB, 0));
    assert_eq!(driver.parameters().scocache.reserve_size, ByteSize::mib(33));
}

#[test]
fn compaction_begins_and_works_by_the_limits_of_the_moment() {
    let directory = Directory::new();
    let gate = Gate::new();
    let mut parameters = one_thread();
    set_disk(&mut parameters, 32 + 192);
    // The gaps count for a thirty-second of the pool at most, which is six segments; now for one.
    (parameters.scocache.trigger_gap, parameters.scocache.backoff_gap) = (ByteSize(1), ByteSize(1));
    parameters.volume_manager.compaction_read_size = ByteSize::kib(4);
    parameters.volume_manager.compaction_records_in_flight = 1;
    let rig = Rig::start_gated(&directory.0, parameters, &gate);
    let driver = rig.driver();
    driver.create_volume(name("vm"), 256 * MIB).unwrap();
    let mut client = rig.connect("vm");
    let free = |driver: &Driver| sample(driver, "ovs_scocache_free_bytes") / MIB;
    let relocated = |driver: &Driver| driver.stats("vm").unwrap().relocated_bytes;
    let mut at = 0;
    let mut fill = |client: &mut Client, until: &dyn Fn(u64) -> bool| {
        while until(at) {
            client.write(0, at * MIB, &vec![at as u8; 1 << 20]);
            at += 1;
        }
    };
    // Half of each of many segments is garbage; then nearly all segments are used.
    fill(&mut client, &|at| at < 96);
    scatter(&mut client, 96 * 128);
    fill(&mut client, &|at| at < 250 && free(driver) > 4);
    assert_eq!(client.command(0, FLUSH, 0, 0), 0);
    many_turns(&rig);
    assert_eq!((relocated(driver), (2..6).contains(&free(driver))), (0, true), "{} are free", free(driver));

    // One cluster is a record, so that they are many.
    change(driver, |p| p.volume_manager.record_size = ByteSize::kib(8));
    gate.take_largest();
    gate.hold_writes(true);
    change(driver, |p| p.scocache.backoff_gap = ByteSize(1 << 30));
    rig.until("it begins", |_| gate.held_writes().len() == 1);
    many_turns(&rig);
    assert_eq!(gate.held_writes(), [8192]);
    change(driver, |p| p.volume_manager.compaction_records_in_flight = 3);
    rig.until("more are on their way", |_| gate.held_writes().len() == 3);
    let largest = gate.take_largest().0 as u64;
    assert!((4096..=16 * KIB).contains(&largest), "reads of {largest} bytes");
    // Records of one cluster take twice the room of what is in them: with these compaction could gain nothing.
    change(driver, |p| {
        p.volume_manager.record_size = ByteSize::kib(260);
        p.volume_manager.compaction_read_size = ByteSize::kib(128);
    });
    gate.hold_writes(false);
    rig.until("it reads more at a time", |_| gate.take_largest().0 as u64 >= 128 * KIB);
    rig.until("there is as much room as is wanted", |driver| free(driver) >= 6);
    assert!(relocated(driver) > 0);
    assert!(
        client.read(95 * MIB, 4096) == vec![0; 4096] && client.read(95 * MIB + 4096, 4096) == vec![95; 4096]
    );
}

#[test]
fn without_a_size_the_gap_of_the_moment_is_left_to_others() {
    let directory = Directory::new();
    let mut parameters = one_thread();
    parameters.scocache.scocache_mount_points[0].size = SizeLimit::Unlimited;
    parameters.scocache.backoff_gap = ByteSize(1 << 40);
    let rig = Rig::start(&directory.0, parameters);
    let total = |driver: &Driver| sample(driver, "ovs_scocache_bytes");
    let before = total(rig.driver());
    let gap = before / 2;
    change(rig.driver(), |p| p.scocache.trigger_gap = ByteSize(gap));
    let after = total(rig.driver());
    // Others use the disk, too.
    assert!(after < before - gap / 2, "{before} bytes before, {after} bytes with a gap of {gap}");
}
