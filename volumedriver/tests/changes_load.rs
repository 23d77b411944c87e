//! Everything that may change changes again and again, while clients write, trim and check.

mod driver_rig;

use std::io::Write;

use cfg_schema::{ByteSize, Milliseconds, SizeLimit};
use driver_rig::change::{name, prepare, set_disk, take_replies};
use driver_rig::{Client, Directory, FLUSH, Rig, TRIM, WRITE, small};
use volumedriver::driver::Committed;
use volumedriver::parameters::Parameters;

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
