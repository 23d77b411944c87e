//! Parameters that change while volumes are served: each is seen by what it controls.

mod driver_rig;

use std::io::{Read, Write};
use std::time::Instant;

use cfg_schema::{ByteSize, Category, Milliseconds};
use driver_rig::change::{
    KIB, MIB, change, many_turns, name, one_thread, prepare, prepared_volume, sample, scatter, set_disk,
    take_replies,
};
use driver_rig::gate::Gate;
use driver_rig::{Client, Directory, FUA, PATIENCE, READ, Rig, WRITE};
use volumedriver::driver::{Committed, Driver, VolumeError, takeable};
use volumedriver::parameters::Parameters;

/// Sends requests that are not answered now.
fn send(client: &mut Client, command: u16, count: u64, length: u64) {
    let mut batch = Vec::new();
    for index in 0..count {
        batch.extend(client.header(0, command, index * length, length as u32).1);
        if command == WRITE {
            batch.resize(batch.len() + length as usize, index as u8 + 1);
        }
    }
    // More than sockets hold must not stop the test.
    let mut stream = client.stream.try_clone().unwrap();
    std::thread::spawn(move || stream.write_all(&batch));
}

/// A bound that requests wait for.
struct Bound {
    parameter: &'static str,
    low: fn(&mut Parameters),
    high: fn(&mut Parameters),
    /// Command, count and length of the requests.
    requests: (u16, u64, u64),
    /// What goes on while the disk does not answer …
    seen: fn(&Rig, &Gate) -> u64,
    /// … within the low bound and the high one.
    within: [std::ops::RangeInclusive<u64>; 2],
}

fn exactly(value: u64) -> std::ops::RangeInclusive<u64> {
    value..=value
}

fn held_writes(_: &Rig, gate: &Gate) -> u64 {
    gate.held_writes().len() as u64
}

fn held_read_bytes(_: &Rig, gate: &Gate) -> u64 {
    gate.held_reads().iter().map(|&length| length as u64).sum()
}

fn bounds() -> [Bound; 6] {
    [
        Bound {
            parameter: "log_records_in_flight",
            low: |p| p.volume_manager.log_records_in_flight = 1,
            high: |p| p.volume_manager.log_records_in_flight = 3,
            requests: (WRITE, 16, 256 * KIB),
            seen: held_writes,
            within: [exactly(1), exactly(3)],
        },
        Bound {
            parameter: "record_gather_size",
            low: |p| p.volume_manager.record_gather_size = ByteSize::kib(512),
            high: |p| p.volume_manager.record_gather_size = ByteSize::kib(4),
            requests: (WRITE, 2, 100 * KIB),
            seen: held_writes,
            within: [exactly(1), exactly(2)],
        },
        Bound {
            parameter: "nbd_requests_in_flight",
            low: |p| p.nbd.nbd_requests_in_flight = 4,
            high: |p| p.nbd.nbd_requests_in_flight = 40,
            requests: (WRITE, 64, 4 * KIB),
            seen: |rig, _| rig.driver().stats("vm").unwrap().writes,
            // The first is that of `prepared_volume`; a request that arrives in two pieces counts as two.
            within: [5..=8, 41..=48],
        },
        Bound {
            parameter: "write_bytes_in_flight",
            low: |p| p.volume_manager.write_bytes_in_flight = ByteSize::mib(4),
            high: |p| p.volume_manager.write_bytes_in_flight = ByteSize::mib(64),
            requests: (WRITE, 128, 64 * KIB),
            seen: |rig, _| rig.driver().stats("vm").unwrap().written_bytes - 8 * MIB,
            // A quarter for one volume, besides four records on their way and one that is open.
            within: [MIB..=3 * MIB, exactly(8 * MIB)],
        },
        Bound {
            parameter: "read_bytes_in_flight",
            low: |p| p.volume_manager.read_bytes_in_flight = ByteSize::mib(1),
            high: |p| p.volume_manager.read_bytes_in_flight = ByteSize::mib(4),
            requests: (READ, 8, MIB),
            seen: held_read_bytes,
            within: [MIB..=MIB + 64 * KIB, 4 * MIB..=4 * MIB + 256 * KIB],
        },
        Bound {
            parameter: "nbd_reply_bytes_in_flight",
            low: |p| p.nbd.nbd_reply_bytes_in_flight = ByteSize::mib(2),
            high: |p| p.nbd.nbd_reply_bytes_in_flight = ByteSize::mib(5),
            requests: (READ, 8, MIB),
            seen: held_read_bytes,
            within: [2 * MIB..=2 * MIB + 128 * KIB, 5 * MIB..=5 * MIB + 320 * KIB],
        },
    ]
}

#[test]
fn a_higher_bound_wakes_what_waited_and_a_lower_one_holds_from_then_on() {
    for Bound { parameter, low, high, requests: (command, count, length), seen, within } in bounds() {
        let directory = Directory::new();
        let gate = Gate::new();
        let rig = Rig::start_gated(&directory.0, one_thread(), &gate);
        let mut client = prepared_volume(&rig);
        let written = rig.driver().stats("vm").unwrap().writes;
        let seen = |rig: &Rig| match parameter {
            // A long write is several of the volume's.
            "nbd_requests_in_flight" => seen(rig, &gate) - written + 1,
            _ => seen(rig, &gate),
        };
        change(rig.driver(), low);
        gate.hold_reads(true);
        gate.hold_writes(true);
        // What arrives together is one record; the others find one on its way.
        send(&mut client, command, 1, length);
        rig.until(parameter, |_| seen(&rig) > 0);
        send(&mut client, command, count - 1, length);
        rig.until(parameter, |_| within[0].contains(&seen(&rig)));
        many_turns(&rig);
        assert!(within[0].contains(&seen(&rig)), "{parameter}: {} within the low bound", seen(&rig));
        change(rig.driver(), high);
        rig.until(parameter, |_| within[1].contains(&seen(&rig)));
        many_turns(&rig);
        assert!(within[1].contains(&seen(&rig)), "{parameter}: {} within the high bound", seen(&rig));
        // What is beyond the lower bound now goes on as well.
        change(rig.driver(), low);
        gate.hold_reads(false);
        gate.hold_writes(false);
        take_replies(&mut client, count, if command == READ { length } else { 0 });
    }
}

#[test]
fn records_are_as_long_as_the_size_of_the_moment() {
    let directory = Directory::new();
    let gate = Gate::new();
    let mut parameters = one_thread();
    parameters.volume_manager.log_records_in_flight = 1;
    let rig = Rig::start_gated(&directory.0, parameters, &gate);
    let mut client = prepared_volume(&rig);
    for kib in [8, 260, 16, 512] {
        change(rig.driver(), |p| p.volume_manager.record_size = ByteSize::kib(kib));
        let before = rig.driver().stats("vm").unwrap().written_bytes;
        // A record takes what has arrived when the disk is free: only behind one that is held is there enough.
        gate.hold_writes(true);
        gate.take_largest();
        std::thread::scope(|scope| {
            scope.spawn(|| client.write(FUA, 0, &vec![kib as u8; 2 << 20]));
            rig.until("all has arrived", |driver| {
                driver.stats("vm").unwrap().written_bytes == before + 2 * MIB
            });
            gate.hold_writes(false);
        });
        assert_eq!(gate.take_largest().1 as u64, kib * KIB);
        assert!(client.read(0, 2 << 20) == vec![kib as u8; 2 << 20]);
    }
}

#[test]
fn calls_and_shutdowns_wait_as_long_as_they_are_told() {
    let directory = Directory::new();
    let gate = Gate::new();
    let mut parameters = one_thread();
    parameters.volume_manager.volume_call_timeout_ms = Milliseconds(600_000);
    parameters.volume_manager.shutdown_timeout_ms = Milliseconds(600_000);
    let rig = Rig::start_gated(&directory.0, parameters, &gate);
    let mut client = prepared_volume(&rig);
    gate.stall(true);
    // The new time is that of this change, too.
    let short = prepare(rig.driver(), |p| {
        p.volume_manager.volume_call_timeout_ms = Milliseconds(100);
        p.volume_manager.shutdown_timeout_ms = Milliseconds(100);
    });
    assert_eq!(short.unwrap().commit().late, ["data thread 0"]);
    let error = rig.driver().info("vm").unwrap_err().to_string();
    assert!(error.contains("did not answer within 100ms"), "{error}");
    // Who does not take a change over in time is named, and does it later.
    let late = prepare(rig.driver(), |p| p.nbd.nbd_requests_in_flight = 2).unwrap().commit();
    assert_eq!(late.late, ["data thread 0"]);
    gate.hold_writes(true);
    gate.stall(false);
    // A busy machine may not answer in so short a time.
    change(rig.driver(), |p| p.volume_manager.volume_call_timeout_ms = Milliseconds(60_000));
    let before = rig.driver().stats("vm").unwrap().writes;
    send(&mut client, WRITE, 10, 4096);
    rig.until("two are taken", |driver| driver.stats("vm").unwrap().writes == before + 2);
    many_turns(&rig);
    assert_eq!(rig.driver().stats("vm").unwrap().writes, before + 2);

    // Writes that never end do not hold a shutdown up for ten minutes.
    let started = Instant::now();
    rig.stop();
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
}

#[test]
fn clients_that_do_not_take_replies_are_closed_by_the_new_time() {
    let directory = Directory::new();
    let mut parameters = one_thread();
    parameters.nbd.nbd_send_timeout_ms = Milliseconds(600_000);
    let rig = Rig::start(&directory.0, parameters);
    let mut client = prepared_volume(&rig);
    send(&mut client, READ, 64, MIB);
    rig.until("replies wait", |driver| driver.stats("vm").unwrap().reads >= 4);
    assert_eq!(rig.driver().info("vm").unwrap().connections, 1);
    change(rig.driver(), |p| p.nbd.nbd_send_timeout_ms = Milliseconds(100));
    rig.until("it is closed", |driver| driver.info("vm").unwrap().connections == 0);
}

#[test]
fn the_listener_has_room_for_as_many_as_the_moment_allows() {
    let directory = Directory::new();
    let mut parameters = one_thread();
    parameters.nbd.nbd_max_connections = 1;
    let rig = Rig::start(&directory.0, parameters);
    let driver = rig.driver();
    let mut first = prepared_volume(&rig);
    assert!(rig.try_connect("vm").is_none(), "one is there");
    change(driver, |p| p.nbd.nbd_max_connections = 3);
    let (second, third) = (rig.connect("vm"), rig.connect("vm"));
    assert!(rig.try_connect("vm").is_none(), "three are there");
    // Those that are there stay; the next one waits for all but one to go.
    change(driver, |p| p.nbd.nbd_max_connections = 2);
    first.write(0, 0, &[1; 4096]);
    drop(second);
    rig.until("one is gone", |_| rig.admission.open() == 2);
    assert!(rig.try_connect("vm").is_none());
    drop(third);
    rig.until("two are gone", |_| rig.admission.open() == 1);

    change(driver, |p| {
        p.nbd.nbd_max_connections = 10;
        p.nbd.nbd_max_handshakes = 1;
    });
    let mut silent = rig.raw();
    silent.read_exact(&mut [0; 18]).expect("a greeting");
    assert!(rig.try_connect("vm").is_none(), "one chooses already");
    change(driver, |p| p.nbd.nbd_max_handshakes = 2);
    rig.connect("vm");
    drop(silent);

    // The rig's time limit is far longer.
    change(driver, |p| p.nbd.nbd_handshake_timeout_ms = Milliseconds(100));
    let started = Instant::now();
    let mut silent = rig.raw();
    silent.read_exact(&mut [0; 18]).expect("a greeting");
    assert_eq!(silent.read(&mut [0; 1]).expect("closed"), 0);
    assert!(started.elapsed() < std::time::Duration::from_secs(25), "the default is 30 s");
}

#[test]
fn sizes_and_labels_are_those_of_the_moment() {
    let directory = Directory::new();
    let rig = Rig::start(&directory.0, one_thread());
    let driver = rig.driver();
    change(driver, |p| p.volume_manager.max_volume_size = ByteSize::mib(8));
    let error = driver.create_volume(name("vm"), 9 * MIB).unwrap_err();
    assert!(matches!(&error, VolumeError::Invalid(rule) if rule.contains("max_volume_size")), "{error}");
    driver.create_volume(name("vm"), 8 * MIB).unwrap();
    assert!(driver.resize("vm", 9 * MIB).is_err());
    change(driver, |p| p.volume_manager.max_volume_size = ByteSize::mib(16));
    driver.resize("vm", 9 * MIB).unwrap();

    assert!(driver.metrics_text().contains("ovs_volume_size_bytes{volume=\"vm\"} "));
    change(driver, |p| p.metrics.metrics_per_volume = false);
    assert!(driver.metrics_text().contains("ovs_volume_size_bytes 9437184"));
    change(driver, |p| p.metrics.metrics_per_volume = true);
    assert!(driver.metrics_text().contains("ovs_volume_size_bytes{volume=\"vm\"} "));
}

/// Sizes of the volume's runs, bytes.
fn runs(directory: &Directory, rig: &Rig) -> Vec<u64> {
    let files = directory.0.join("volumes").join(rig.driver().info("vm").unwrap().uuid);
    let entries = std::fs::read_dir(files).unwrap().map(Result::unwrap);
    let runs = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("run-"));
    // One may be gone by now.
    runs.filter_map(|entry| Some(entry.metadata().ok()?.len())).collect()
}

#[test]
fn the_map_is_written_cached_and_cut_by_the_limits_of_the_moment() {
    let directory = Directory::new();
    let mut parameters = one_thread();
    parameters.volume_manager.log_replay_limit = ByteSize::mib(1024);
    let rig = Rig::start(&directory.0, parameters);
    let driver = rig.driver();
    driver.create_volume(name("vm"), 1024 * MIB).unwrap();
    let mut client = rig.connect("vm");
    let map_bytes = |driver: &Driver| driver.stats("vm").unwrap().map_bytes;

    client.write(0, 0, &vec![1; 8 << 20]);
    many_turns(&rig);
    assert_eq!(map_bytes(driver), 0, "far from the limit");
    change(driver, |p| p.volume_manager.log_replay_limit = ByteSize::mib(1));
    rig.until("a run for the log", |driver| map_bytes(driver) > 0);
    change(driver, |p| p.volume_manager.log_replay_limit = ByteSize::mib(1024));

    scatter(&mut client, 60_000);
    let before = map_bytes(driver);
    let held = driver.stats("vm").unwrap().memtable_bytes;
    assert!(held > MIB, "{held} bytes of entries");
    many_turns(&rig);
    assert_eq!(map_bytes(driver), before);
    change(driver, |p| p.volume_manager.memtable_limit = ByteSize::mib(1));
    rig.until("a run for the memory", |driver| map_bytes(driver) > before);
    rig.until("the memory is free", |driver| driver.stats("vm").unwrap().memtable_bytes < MIB);

    // Runs that were just made are in the cache.
    let cached = |driver: &Driver| sample(driver, "ovs_page_cache_bytes");
    assert!(cached(driver) > 64 * 4096, "{} bytes cached", cached(driver));
    change(driver, |p| p.volume_manager.metadata_cache_capacity = 64);
    assert!(cached(driver) <= 64 * 4096, "{} bytes cached", cached(driver));
    change(driver, |p| p.volume_manager.metadata_cache_capacity = 32_768);

    // Merges cut what they make.
    assert!(runs(&directory, &rig).iter().any(|&length| length > 256 * KIB));
    change(driver, |p| p.volume_manager.run_size = ByteSize::kib(64));
    // A run of the log alone is as long as it is; four of them and more are merged.
    change(driver, |p| p.volume_manager.log_replay_limit = ByteSize::mib(1));
    // A page is left for the fences of one more.
    let small = || runs(&directory, &rig).iter().filter(|&&length| length == 60 * KIB).count() >= 3;
    let (deadline, mut at) = (Instant::now() + PATIENCE, 0);
    while !small() {
        assert!(Instant::now() < deadline, "no small runs: {:?}", runs(&directory, &rig));
        client.write(0, 512 * MIB + at % 200 * MIB, &vec![1; 2 << 20]);
        at += 2;
    }
}

#[test]
fn what_is_not_dynamic_waits_and_is_told_apart() {
    let directory = Directory::new();
    let rig = Rig::start(&directory.0, one_thread());
    let driver = rig.driver();
    let mut stored = driver.parameters();
    stored.volume_manager.io_threads += 1;
    stored.nbd.nbd_port = 1;
    stored.nbd.nbd_requests_in_flight = 7;
    stored.scocache.scocache_mount_points[0].path = "elsewhere".into();
    set_disk(&mut stored, 1024);
    let problems = driver.prepare(&stored).err().expect("refused");
    let mut keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["io_threads", "nbd_port", "scocache_mount_points"]);
    assert!(problems.iter().all(|problem| problem.problem.contains("at the next start")), "{problems:?}");

    let (now, waiting) = takeable(&driver.parameters(), &stored).unwrap();
    let mut waiting: Vec<_> = waiting.iter().map(|change| (change.key, change.category)).collect();
    waiting.sort_unstable_by_key(|(key, _)| *key);
    let restart = Category::Restart;
    assert_eq!(waiting, [("io_threads", restart), ("nbd_port", restart), ("scocache_mount_points", restart)]);
    let mut expected = driver.parameters();
    expected.nbd.nbd_requests_in_flight = 7;
    assert_eq!(now, expected);
    assert_eq!(driver.prepare(&now).expect("takeable").commit(), Committed::default());
    assert_eq!(driver.parameters(), expected);

    // The size alone is dynamic, and what contradicts is refused.
    let mut larger = expected.clone();
    set_disk(&mut larger, 1024);
    let (now, waiting) = takeable(&expected, &larger).unwrap();
    assert_eq!((now, waiting), (larger, vec![]));
    let problems = prepare(driver, |p| p.scocache.segments_ready_min = 1000).err().expect("refused");
    assert_eq!(problems[0].key, "segments_ready_min");
}
