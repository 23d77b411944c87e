//! The simulated disk keeps to its fault model: one test for each statement of `uring::sim`.

#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/files.rs"]
mod files;
#[path = "sim/kill.rs"]
mod kill;
#[path = "sim/names.rs"]
mod names;
#[path = "sim/power.rs"]
mod power;
#[path = "sim/ring.rs"]
mod ring;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uring::sim::{Odds, SimOptions, SimWorld};
use uring::{AlignedBuf, Completion, Disk, Durability, File, Io, Op, OpenMode};

const PAGE: usize = 4096;
const SECTOR: usize = 512;
const SEEDS: std::ops::Range<u64> = 0..200;

/// A world in which nothing un-synced survives.
fn losing(seed: u64) -> SimWorld {
    SimWorld::new(seed, SimOptions { power: Odds::LOSE, ..SimOptions::default() })
}

/// A page full of `byte`, fit for O_DIRECT.
fn page(byte: u8) -> Bytes {
    let mut buf = AlignedBuf::zeroed(PAGE);
    buf.fill(byte);
    buf.freeze()
}

/// A durable file `/d/NAME` of `pages` pages of `byte`, opened for a ring.
fn durable_file(world: &SimWorld, name: &str, pages: usize, byte: u8) -> Arc<dyn File> {
    let disk = world.disk();
    disk.create_dir("/d".as_ref()).unwrap();
    disk.sync_dir("/".as_ref()).unwrap();
    let path = Path::new("/d").join(name);
    let file = disk.open(&path, OpenMode::CreateNew).unwrap();
    file.write_at(&vec![byte; pages * PAGE], 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir("/d".as_ref()).unwrap();
    disk.open(&path, OpenMode::Direct).unwrap()
}

fn write(file: &dyn File, number: u64, byte: u8, durability: Durability) -> Op {
    Op::Write { file: file.fd(), offset: number * PAGE as u64, data: vec![page(byte)], durability }
}

/// Waits until nothing is in flight; results by token. Every wait must complete something.
fn drain(io: &mut dyn Io) -> BTreeMap<u64, io::Result<usize>> {
    let mut results = BTreeMap::new();
    while io.in_flight() > 0 {
        let mut completions = Vec::new();
        io.wait(Some(Duration::ZERO), &mut completions).unwrap();
        assert!(!completions.is_empty());
        results.extend(completions.into_iter().map(|Completion { token, result, .. }| (token, result)));
    }
    results
}

/// All bytes of a file as this boot sees it.
fn content(world: &SimWorld, path: &str) -> Vec<u8> {
    world.disk().read(path.as_ref(), 1 << 30).unwrap()
}

/// The first byte of each page of a file.
fn firsts(world: &SimWorld, path: &str) -> Vec<u8> {
    content(world, path).chunks(PAGE).map(|page| page[0]).collect()
}

fn names(disk: &dyn Disk, path: &str) -> Vec<String> {
    disk.read_dir(path.as_ref()).unwrap()
}

fn code(result: io::Result<impl Sized>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}
