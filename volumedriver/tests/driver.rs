//! The driver on the real disk with real sockets: from a client's bytes to segments and back.

mod driver_rig;

use std::io::{Read, Write};

use driver_rig::{CACHE, DISCONNECT, Directory, FLUSH, FUA, READ, Rig, TRIM, WRITE, WRITE_ZEROES, small};
use volumedriver::driver::{Driver, VolumeError, VolumeName, VolumeState};
use volumedriver::performance::Performance;
use volumedriver::volume::own::{OwnChange, SyncIgnore};

const MIB: u64 = 1 << 20;

fn name(text: &str) -> VolumeName {
    VolumeName::parse(text).unwrap()
}

fn segments_used(driver: &Driver) -> u32 {
    let text = driver.metrics_text();
    let sample = text.lines().find_map(|line| line.strip_prefix("ovs_scocache_segments{state=\"used\"} "));
    sample.expect("a sample").parse().expect("a number")
}

/// Bytes that tell where they belong.
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at.wrapping_mul(31) ^ (at >> 12) ^ seed) as u8).collect()
}

#[test]
fn what_is_written_is_read_back_also_by_the_next_start() {
    let directory = Directory::new();
    let rig = Rig::start(&directory.0, small());
    let info = rig.driver().create_volume(name("vm"), 64 * MIB + 5).unwrap();
    assert_eq!((info.size, info.state), (64 * MIB + 512, VolumeState::Running));
    let mut client = rig.connect("vm");
    assert_eq!(client.size, 64 * MIB + 512);

    // More than a segment, unaligned, longer than any buffer, at the very end.
    let large = pattern(1, (3 * MIB + 100) as usize);
    client.write(0, 4096 * 3 + 77, &large);
    client.write(FUA, 64 * MIB, &pattern(2, 512));
    assert_eq!(client.read(4096 * 3 + 77, large.len() as u32), large);
    assert_eq!(client.command(0, TRIM, 8 * MIB, 4 << 20), 0);
    client.write(0, 8 * MIB, &pattern(3, 20_000));
    assert_eq!(client.command(0, WRITE_ZEROES, 8 * MIB + 100, 5000), 0);
    assert_eq!(client.command(0, CACHE, 0, 4096), 0);
    assert_eq!(client.command(0, FLUSH, 0, 0), 0);
    let mut expected = pattern(3, 20_000);
    expected[100..5100].fill(0);
    assert_eq!(client.read(8 * MIB, 20_000), expected);
    client.send(0, DISCONNECT, 0, 0, &[]);
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).expect("the server closes");
    assert!(rest.is_empty());
    let stats = rig.driver().stats("vm").unwrap();
    assert!(stats.writes >= 3 && stats.written_bytes as usize >= large.len(), "{stats:?}");
    // Requests as clients made them, however many pieces a write came in.
    let write = &stats.performance.write;
    assert_eq!((write.size.events, write.size.min, write.size.max), (3, 512, large.len() as u64));
    assert_eq!(write.size.sum, large.len() as u64 + 512 + 20_000);
    assert_eq!(
        (write.unaligned_size.events, write.usecs.events),
        (3, 3),
        "512 and 20,000 bytes are no clusters"
    );
    assert!(write.usecs.sum > 0 && write.usecs.min <= write.usecs.max, "{write:?}");
    let read = &stats.performance.read;
    assert_eq!((read.size.events, read.size.sum), (2, large.len() as u64 + 20_000));
    assert_eq!(stats.performance.flush_usecs.events, 1);
    assert_eq!(rig.driver().take_stats("vm").unwrap().performance, stats.performance);
    assert_eq!(rig.driver().stats("vm").unwrap().performance, Performance::default());
    let text = rig.driver().metrics_text();
    for sample in [
        "ovs_volume_written_bytes_total{volume=\"vm\"}",
        "ovs_volume_request_seconds_count{op=\"write\",stage=\"log\"} 3",
        // Also after somebody else counts from nothing.
        "ovs_volume_answered_total{op=\"write\",volume=\"vm\"} 3",
        "ovs_volume_answered_total{op=\"flush\",volume=\"vm\"} 1",
        "ovs_volume_answer_seconds_total{op=\"read\",volume=\"vm\"}",
        "ovs_volume_ignored_flushes_total{volume=\"vm\"} 0",
        "ovs_volume_map_pages{volume=\"vm\"}",
        "ovs_scocache_segments{state=\"used\"}",
        "ovs_io_backend{backend=",
    ] {
        assert!(text.contains(sample), "{sample} is not in {text}");
    }
    rig.stop();

    let rig = Rig::start(&directory.0, small());
    assert_eq!(rig.report.volumes.len(), 1);
    assert_eq!((&*rig.report.volumes[0].name, &rig.report.volumes[0].halted), ("vm", &None));
    let mut client = rig.connect("vm");
    assert_eq!(client.read(4096 * 3 + 77, large.len() as u32), large);
    assert_eq!(client.read(8 * MIB, 20_000), expected);
    assert_eq!(client.read(64 * MIB, 512), pattern(2, 512));
    assert_eq!(client.read(40 * MIB, 4096), vec![0; 4096]);
}

/// On a real ring: time that passes without a client brings the sync.
#[test]
fn ignored_flushes_are_synced_when_their_time_is_over() {
    let directory = Directory::new();
    let rig = Rig::start(&directory.0, small());
    rig.driver().create_volume(name("vm"), 64 * MIB).unwrap();
    let set = |flushes, seconds| {
        rig.driver().change_own("vm", OwnChange::SyncIgnore(SyncIgnore { flushes, seconds })).unwrap();
    };
    let stats = || rig.driver().stats("vm").unwrap();
    set(1000, 3600);
    let mut client = rig.connect("vm");
    let mut flushed = |offset: u64| {
        client.write(0, offset, &pattern(4, 4096));
        assert_eq!(client.command(0, FLUSH, 0, 0), 0);
    };
    flushed(0);
    let before = stats();
    assert_eq!((before.ignored_flushes, before.syncs), (0, 1), "there was none before it");
    (1..10).for_each(|cluster| flushed(cluster * 4096));
    assert_eq!((stats().ignored_flushes, stats().syncs), (9, 1));
    set(1000, 1);
    rig.until("the sync is done", |_| stats().syncs == 2);
    assert_eq!(stats().flushes, 10);
    assert_eq!(rig.driver().change_own("other", OwnChange::MapPages(None)), Err(VolumeError::NotFound));
    let refused = rig.driver().change_own("vm", OwnChange::MapPages(Some(0)));
    assert!(matches!(refused, Err(VolumeError::Invalid(_))), "{refused:?}");
    assert_eq!(
        rig.driver().info("vm").unwrap().own.unwrap().sync_ignore,
        SyncIgnore { flushes: 1000, seconds: 1 }
    );
}

#[test]
fn many_requests_in_one_send_are_all_answered_in_any_order() {
    let directory = Directory::new();
    let mut parameters = small();
    // Fewer than are sent, so that the limit holds some up.
    parameters.nbd.nbd_requests_in_flight = 8;
    let rig = Rig::start(&directory.0, parameters);
    rig.driver().create_volume(name("vm"), 64 * MIB).unwrap();
    let mut client = rig.connect("vm");
    let mut batch = Vec::new();
    for index in 0..200u64 {
        let (_, header) = client.header(0, WRITE, index * 8192, 8192);
        batch.extend(header);
        batch.extend(pattern(index, 8192));
    }
    client.stream.write_all(&batch).unwrap();
    let mut cookies: Vec<u64> = (0..200)
        .map(|_| client.reply())
        .map(|(error, cookie)| {
            assert_eq!(error, 0);
            cookie
        })
        .collect();
    cookies.sort_unstable();
    assert_eq!(cookies, (1..=200).collect::<Vec<_>>());
    for index in 0..200 {
        assert_eq!(client.read(index * 8192, 8192), pattern(index, 8192));
    }
}

#[test]
fn errors_are_answered_and_end_no_other_connection() {
    let directory = Directory::new();
    let rig = Rig::start(&directory.0, small());
    rig.driver().create_volume(name("vm"), MIB).unwrap();
    assert!(rig.try_connect("other").is_none());
    let mut client = rig.connect("vm");
    assert_eq!(client.command(0, READ, MIB, 1), 22, "beyond the end");
    assert_eq!(client.command(0, WRITE_ZEROES, MIB - 1, 2), 28);
    let cookie = client.send(0, WRITE, MIB, 4096, &[0; 4096]);
    assert_eq!(client.reply(), (28, cookie), "the payload of a refused write is skipped");
    let mut broken = rig.connect("vm");
    broken.stream.write_all(&[0xff; 64]).unwrap();
    assert_eq!(broken.stream.read(&mut [0; 1]).expect("closed"), 0);
    // A client that goes in the middle of a write.
    let mut gone = rig.connect("vm");
    assert_eq!(gone.read(0, 4096), [0; 4096]);
    gone.send(0, WRITE, 0, 512 << 10, &[1; 100_000]);
    drop(gone);
    rig.until("two connections are gone", |driver| driver.info("vm").unwrap().connections == 1);
    client.write(0, 0, &[5; 4096]);
    assert_eq!(client.read(0, 4096), [5; 4096]);
    rig.until("their places are free", |_| rig.admission.open() == 1);
}

#[test]
fn a_client_that_takes_no_replies_stalls_only_itself() {
    let directory = Directory::new();
    let rig = Rig::start(&directory.0, small());
    rig.driver().create_volume(name("vm"), 64 * MIB).unwrap();
    let mut slow = rig.connect("vm");
    slow.write(0, 0, &pattern(9, MIB as usize));
    // Far more than sockets and the reply queue hold.
    let mut batch = Vec::new();
    for _ in 0..100 {
        batch.extend(slow.header(0, READ, 0, MIB as u32).1);
    }
    slow.stream.write_all(&batch).unwrap();
    let mut other = rig.connect("vm");
    for index in 0..50 {
        other.write(0, 2 * MIB + index * 4096, &[index as u8; 4096]);
        assert_eq!(other.read(2 * MIB + index * 4096, 4096), [index as u8; 4096]);
    }
    let expected = pattern(9, MIB as usize);
    for _ in 0..100 {
        assert_eq!(slow.reply().0, 0);
        let mut data = vec![0; MIB as usize];
        slow.stream.read_exact(&mut data).unwrap();
        assert!(data == expected);
    }
}

#[test]
fn volumes_are_created_once_grow_and_are_deleted_when_nobody_uses_them() {
    let directory = Directory::new();
    let rig = Rig::start(&directory.0, small());
    let driver = rig.driver();
    driver.create_volume(name("vm"), 8 * MIB).unwrap();
    assert_eq!(driver.create_volume(name("vm"), MIB).err(), Some(VolumeError::Exists));
    assert!(matches!(driver.create_volume(name("no"), 0), Err(VolumeError::Invalid(_))));
    assert_eq!(driver.info("no").err(), Some(VolumeError::NotFound));
    let mut client = rig.connect("vm");
    client.write(0, 0, &pattern(1, 2 << 20));
    assert_eq!(client.command(0, READ, 8 * MIB, 512), 22);
    let error = driver.resize("vm", 4 * MIB).unwrap_err();
    assert!(error.to_string().contains("cannot shrink"), "{error}");
    assert_eq!(driver.resize("vm", 16 * MIB).unwrap().size, 16 * MIB);
    client.write(0, 16 * MIB - 512, &[1; 512]);
    assert_eq!(driver.delete("vm"), Err(VolumeError::InUse));
    client.send(0, DISCONNECT, 0, 0, &[]);
    rig.until("nobody uses it", |driver| driver.info("vm").unwrap().connections == 0);
    driver.delete("vm").unwrap();
    assert_eq!(driver.info("vm").err(), Some(VolumeError::NotFound));
    let volumes = directory.0.join("volumes");
    rig.until("its files are gone", |_| std::fs::read_dir(&volumes).unwrap().count() == 0);
    rig.until("its segments are free", |driver| segments_used(driver) == 0);
    // Its segments hold its old records; the new volume must not show them.
    driver.create_volume(name("vm"), 8 * MIB).unwrap();
    let mut client = rig.connect("vm");
    assert_eq!(client.read(0, 2 << 20), vec![0; 2 << 20]);
    client.write(0, 4096, &[3; 4096]);
    drop(client);
    rig.stop();
    let rig = Rig::start(&directory.0, small());
    let mut client = rig.connect("vm");
    assert_eq!(client.read(4096, 4096), [3; 4096]);
    assert_eq!(client.read(8192, 2 << 20), vec![0; 2 << 20]);
}

#[test]
fn a_damaged_volume_is_listed_and_stops_no_other() {
    let directory = Directory::new();
    let rig = Rig::start(&directory.0, small());
    let damaged = rig.driver().create_volume(name("damaged"), MIB).unwrap();
    rig.driver().create_volume(name("good"), MIB).unwrap();
    rig.connect("damaged").write(FUA, 0, &[1; 4096]);
    rig.stop();
    let manifest = directory.0.join("volumes").join(&damaged.uuid).join("manifest");
    std::fs::write(&manifest, b"nonsense").unwrap();

    let rig = Rig::start(&directory.0, small());
    assert!(rig.try_connect(&damaged.uuid).is_none());
    let listed = rig.driver().list();
    assert_eq!(listed.len(), 2);
    let halted = listed.iter().find(|info| info.name == damaged.uuid).expect("listed under its UUID");
    assert!(matches!(&halted.state, VolumeState::Halted { reason } if reason.contains("manifest")));
    assert!(matches!(rig.driver().resize(&damaged.uuid, 2 * MIB), Err(VolumeError::Halted(_))));
    // The segment with its records is kept: there is nothing else of it.
    assert_eq!(segments_used(rig.driver()), 1);
    rig.driver().delete(&damaged.uuid).unwrap();
    rig.until("its segment is free", |driver| segments_used(driver) == 0);
    let mut client = rig.connect("good");
    client.write(FUA, 0, &[2; 4096]);
    assert_eq!(client.read(0, 4096), [2; 4096]);
}

#[test]
fn files_of_interrupted_jobs_are_removed_at_start() {
    let directory = Directory::new();
    let rig = Rig::start(&directory.0, small());
    let info = rig.driver().create_volume(name("vm"), MIB).unwrap();
    rig.connect("vm").write(FUA, 0, &[7; 4096]);
    rig.stop();
    let files = directory.0.join("volumes").join(&info.uuid);
    for file in ["run-00000000000000ff", "manifest.new", "run-ff", "notes"] {
        std::fs::write(files.join(file), b"left").unwrap();
    }

    let rig = Rig::start(&directory.0, small());
    let left = |file: &str| files.join(file).exists();
    assert!(!left("run-00000000000000ff"), "a run that no manifest names");
    // The running driver may be writing one of its own.
    let stale = std::fs::read(files.join("manifest.new")).is_ok_and(|bytes| bytes == b"left");
    assert!(!stale, "a manifest without its name");
    assert!(left("run-ff") && left("notes") && left("manifest"), "what is not the driver's stays");
    assert_eq!(rig.connect("vm").read(0, 4096), [7; 4096]);
}

#[test]
fn a_full_log_is_an_error_and_trimming_helps() {
    let directory = Directory::new();
    let rig = Rig::start(&directory.0, small());
    rig.driver().create_volume(name("vm"), 128 * MIB).unwrap();
    let mut client = rig.connect("vm");
    let mut written = 0;
    let error = loop {
        assert!(written < 128, "more than the disk holds");
        let cookie = client.send(0, WRITE, written * MIB, MIB as u32, &pattern(written, MIB as usize));
        match client.reply() {
            (0, answered) => assert_eq!(answered, cookie),
            (error, _) => break error,
        }
        written += 1;
    };
    assert_eq!(error, 28, "ENOSPC after {written} MiB");
    assert!(written > 40, "{written} MiB of 64 less what is kept back");
    for at in 0..written {
        assert!(client.read(at * MIB, MIB as u32) == pattern(at, MIB as usize), "MiB {at}");
    }
    assert_eq!(client.command(0, TRIM, 0, 32 << 20), 0, "needs no room in the log");
    let deadline = std::time::Instant::now() + driver_rig::PATIENCE;
    loop {
        let cookie = client.send(FUA, WRITE, 0, MIB as u32, &pattern(200, MIB as usize));
        let (error, answered) = client.reply();
        assert_eq!(answered, cookie);
        if error == 0 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "space does not come back");
    }
    assert!(client.read(0, MIB as u32) == pattern(200, MIB as usize));
    assert!(client.read(33 * MIB, MIB as u32) == pattern(33, MIB as usize));
}
