//! Parameters that change while volumes are served: each is seen by what it controls.

mod driver_rig;

use std::io::{Read, Write};
use std::time::Instant;

use cfg_schema::{ByteSize, Category, Milliseconds, Problem, SizeLimit};
use driver_rig::gate::Gate;
use driver_rig::{Client, Directory, FLUSH, FUA, PATIENCE, READ, Rig, TRIM, WRITE, small};
use volumedriver::driver::{Committed, Driver, Prepared, VolumeError, VolumeName, takeable};
use volumedriver::parameters::Parameters;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn name(text: &str) -> VolumeName {
    VolumeName::parse(text).unwrap()
}

fn prepare(driver: &Driver, edit: impl FnOnce(&mut Parameters)) -> Result<Prepared, Vec<Problem>> {
    let mut new = driver.parameters();
    edit(&mut new);
    driver.prepare(&new)
}

/// Changes parameters; all must take them over.
fn change(driver: &Driver, edit: impl FnOnce(&mut Parameters)) {
    let prepared = prepare(driver, edit).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(prepared.commit(), Committed::default());
}

/// One data thread, and a disk that no test fills.
fn one_thread() -> Parameters {
    let mut parameters = small();
    parameters.volume_manager.data_threads = 1;
    parameters.scocache.scocache_mount_points[0].size = SizeLimit::Bytes(ByteSize(4096 * MIB));
    parameters
}

fn set_disk(parameters: &mut Parameters, mib: u64) {
    parameters.scocache.scocache_mount_points[0].size = SizeLimit::Bytes(ByteSize(mib * MIB));
}

fn sample(driver: &Driver, sample: &str) -> u64 {
    let text = driver.metrics_text();
    let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().expect("a number")
}

fn free_segments(driver: &Driver) -> u64 {
    sample(driver, "ovs_scocache_segments{state=\"free\"}")
}

/// Lets the data thread do many turns: what it was about to do is done.
fn many_turns(rig: &Rig) {
    for _ in 0..100 {
        rig.driver().info("vm").unwrap();
    }
}

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

fn take_replies(client: &mut Client, count: u64, length: u64) {
    for _ in 0..count {
        assert_eq!(client.reply().0, 0);
        client.stream.read_exact(&mut vec![0; length as usize]).expect("data");
    }
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
            // The first is that of `prepared_volume`.
            within: [exactly(1 + 4), exactly(1 + 40)],
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

/// A volume with 8 MiB of data on the disk, written in one request.
fn prepared_volume(rig: &Rig) -> Client {
    rig.driver().create_volume(name("vm"), 64 * MIB).unwrap();
    let mut client = rig.connect("vm");
    client.write(FUA, 0, &vec![1; 8 << 20]);
    client
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
    let rig = Rig::start_gated(&directory.0, one_thread(), &gate);
    let mut client = prepared_volume(&rig);
    for kib in [8, 260, 16, 512] {
        change(rig.driver(), |p| p.volume_manager.record_size = ByteSize::kib(kib));
        gate.take_largest();
        client.write(FUA, 0, &vec![kib as u8; 2 << 20]);
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
    change(rig.driver(), |p| {
        p.volume_manager.volume_call_timeout_ms = Milliseconds(100);
        p.volume_manager.shutdown_timeout_ms = Milliseconds(100);
    });
    gate.stall(true);
    let error = rig.driver().info("vm").unwrap_err().to_string();
    assert!(error.contains("did not answer within 100ms"), "{error}");
    // Who does not take a change over in time is named, and does it later.
    let late = prepare(rig.driver(), |p| p.nbd.nbd_requests_in_flight = 2).unwrap().commit();
    assert_eq!(late.late, ["data thread 0"]);
    gate.hold_writes(true);
    gate.stall(false);
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

/// Writes `count` clusters with a gap behind each, so that every one is an entry of the map.
fn scatter(client: &mut Client, count: u64) {
    let mut batch = Vec::new();
    for index in 0..count {
        batch.extend(client.header(0, TRIM, index * 8192, 4096).1);
    }
    let mut stream = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || stream.write_all(&batch).unwrap());
    take_replies(client, count, 0);
    sender.join().unwrap();
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
    change(driver, |p| p.volume_manager.compaction_read_size = ByteSize::kib(128));
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

/// A client's own part of the volume: what each block of 4 KiB holds.
struct Part {
    start: u64,
    versions: Vec<u32>,
    random: u64,
}

const BLOCK: u64 = 4096;
const BLOCKS: u64 = 2048;

fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn block_of(part: u64, block: u64, version: u32) -> Vec<u8> {
    if version == 0 {
        return vec![0; BLOCK as usize];
    }
    let word = part << 56 | block << 32 | u64::from(version);
    word.to_le_bytes().repeat(BLOCK as usize / 8)
}

impl Part {
    fn new(number: u64) -> Self {
        Self { start: number * BLOCKS * BLOCK, versions: vec![0; BLOCKS as usize], random: number + 1 }
    }

    fn number(&self) -> u64 {
        self.start / (BLOCKS * BLOCK)
    }

    /// Several writes and trims at once, then reads of the same, all checked.
    fn round(&mut self, client: &mut Client, version: u32) {
        let mut ranges = Vec::new();
        let mut batch = Vec::new();
        for _ in 0..8 {
            let length = 1 + next_random(&mut self.random) % 64;
            let first = next_random(&mut self.random) % (BLOCKS - length);
            if ranges.iter().any(|&(other, count)| first < other + count && other < first + length) {
                continue;
            }
            ranges.push((first, length));
            let trim = next_random(&mut self.random).is_multiple_of(8);
            let version = if trim { 0 } else { version };
            self.versions[first as usize..(first + length) as usize].fill(version);
            let command = if trim { TRIM } else { WRITE };
            batch.extend(client.header(0, command, self.start + first * BLOCK, (length * BLOCK) as u32).1);
            if !trim {
                batch.extend(
                    (first..first + length).flat_map(|block| block_of(self.number(), block, version)),
                );
            }
        }
        client.stream.write_all(&batch).expect("sent");
        take_replies(client, ranges.len() as u64, 0);
        if version.is_multiple_of(16) {
            assert_eq!(client.command(0, FLUSH, 0, 0), 0);
        }
        for (first, length) in ranges {
            self.check(client, first, length);
        }
    }

    fn check(&self, client: &mut Client, first: u64, length: u64) {
        let data = client.read(self.start + first * BLOCK, (length * BLOCK) as u32);
        for (index, bytes) in data.chunks(BLOCK as usize).enumerate() {
            let block = first + index as u64;
            let version = self.versions[block as usize];
            assert!(bytes == block_of(self.number(), block, version), "block {block} of {}", self.number());
        }
    }
}

/// Any values of all dynamic parameters.
fn random_parameters(parameters: &mut Parameters, random: &mut u64) {
    let mut one_of = |values: &[u64]| values[next_random(random) as usize % values.len()];
    let manager = &mut parameters.volume_manager;
    manager.max_volume_size = ByteSize::mib(one_of(&[64, 1024]));
    manager.metadata_cache_capacity = one_of(&[64, 200, 32_768]) as u32;
    manager.memtable_limit = ByteSize::mib(one_of(&[1, 4, 256]));
    manager.log_replay_limit = ByteSize::mib(one_of(&[1, 2, 64]));
    manager.log_records_in_flight = one_of(&[1, 2, 4, 16]) as u32;
    manager.record_size = ByteSize::kib(one_of(&[8, 68, 260, 512]));
    manager.record_gather_size = ByteSize::kib(one_of(&[4, 64, 512]));
    manager.run_size = ByteSize::kib(one_of(&[64, 512, 4096]));
    manager.compaction_records_in_flight = one_of(&[1, 4, 8]) as u32;
    manager.compaction_read_size = ByteSize::kib(one_of(&[4, 128, 1024]));
    manager.read_bytes_in_flight = ByteSize::mib(one_of(&[1, 64]));
    manager.write_bytes_in_flight = ByteSize::mib(one_of(&[1, 8, 64]));
    manager.volume_call_timeout_ms = Milliseconds(one_of(&[30_000, 60_000]));
    manager.shutdown_timeout_ms = Milliseconds(one_of(&[30_000, 60_000]));
    let scocache = &mut parameters.scocache;
    scocache.trigger_gap = ByteSize::mib(one_of(&[1, 4, 16]));
    scocache.backoff_gap = ByteSize::mib(one_of(&[16, 32, 64]));
    scocache.segments_ready_min = one_of(&[1, 4, 8]) as u32;
    scocache.segments_ready_max = one_of(&[8, 16]) as u32;
    scocache.reserve_size = ByteSize::mib(one_of(&[16, 24, 32]));
    let size = one_of(&[112, 144, 192]);
    scocache.scocache_mount_points[0].size = SizeLimit::Bytes(ByteSize::mib(size));
    let nbd = &mut parameters.nbd;
    nbd.nbd_max_connections = one_of(&[1, 16]) as u32;
    nbd.nbd_max_handshakes = one_of(&[1, 16]) as u32;
    nbd.nbd_handshake_timeout_ms = Milliseconds(one_of(&[20_000, 30_000]));
    nbd.nbd_requests_in_flight = one_of(&[1, 3, 1024]) as u32;
    nbd.nbd_reply_bytes_in_flight = ByteSize::mib(one_of(&[1, 16]));
    nbd.nbd_send_timeout_ms = Milliseconds(one_of(&[50_000, 60_000]));
    parameters.metrics.metrics_per_volume = one_of(&[0, 1]) == 1;
}

#[test]
fn nothing_is_lost_while_everything_changes_under_load() {
    const PARTS: u64 = 4;
    let directory = Directory::new();
    let mut parameters = small();
    set_disk(&mut parameters, 144);
    let rig = Rig::start(&directory.0, parameters);
    for number in 0..PARTS / 2 {
        rig.driver().create_volume(name(&format!("vm{number}")), 2 * BLOCKS * BLOCK).unwrap();
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    let (mut committed, mut refused, mut dropped) = (0, 0, 0);
    let parts: Vec<Part> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..PARTS)
            .map(|number| {
                let mut client = rig.connect(&format!("vm{}", number / 2));
                let mut part = Part::new(number % 2);
                part.random = number + 1;
                let stop = &stop;
                scope.spawn(move || {
                    let mut version = 0;
                    while !stop.load(relaxed) || version < 100 {
                        version += 1;
                        part.round(&mut client, version);
                    }
                    part
                })
            })
            .collect();
        let mut random = 99;
        let changes = if std::env::var_os("OVS_SOAK").is_some() { 5_000 } else { 300 };
        for change in 0..changes {
            // A client that failed shall not be waited for.
            if clients.iter().any(|client| client.is_finished()) {
                break;
            }
            match prepare(rig.driver(), |p| random_parameters(p, &mut random)) {
                Ok(prepared) if change % 8 == 0 => {
                    drop(prepared);
                    dropped += 1;
                }
                Ok(prepared) => {
                    assert_eq!(prepared.commit(), Committed::default());
                    committed += 1;
                }
                Err(problems) => {
                    assert!(
                        problems.iter().all(|p| p.key == "scocache_mount_points[0].size"),
                        "{problems:?}"
                    );
                    refused += 1;
                }
            }
        }
        stop.store(true, relaxed);
        clients.into_iter().map(|client| client.join().expect("no request failed")).collect()
    });
    println!("{committed} changes, {refused} refused, {dropped} dropped");
    assert!(committed > 100 && dropped > 0);
    let relocated: u64 =
        ["vm0", "vm1"].map(|name| rig.driver().stats(name).unwrap().relocated_bytes).iter().sum();
    println!("{relocated} bytes relocated");
    rig.stop();
    let rig = Rig::start(&directory.0, small());
    for (number, part) in parts.iter().enumerate() {
        let mut client = rig.connect(&format!("vm{}", number / 2));
        (0..BLOCKS / 64).for_each(|at| part.check(&mut client, at * 64, 64));
    }
}
