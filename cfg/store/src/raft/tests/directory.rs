//! Directories of which a part is missing, or of another time.

use std::path::Path;
use std::sync::Arc;

use openraft::RaftSnapshotBuilder;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use uring::Disk;
use uring::sim::{Corruption, SimOptions, SimWorld};

use super::world::any_entry;
use super::{Opened, open};
use crate::log::Options;
use crate::raft::node::NodeError;
use crate::raft::recover::{check_log, prepare};

fn directory() -> &'static Path {
    Path::new("/member")
}

fn world() -> (SimWorld, Arc<dyn Disk>) {
    let world = SimWorld::new(1, SimOptions::default());
    world.disk().create_dir(directory()).expect("a new disk");
    let disk = world.disk();
    (world, disk)
}

/// Some entries, of which the first are in a snapshot and purged.
fn fill(disk: &Arc<dyn Disk>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let Opened { mut store, mut machine, .. } =
            open(disk.clone(), directory(), Options::default()).expect("a sound directory");
        let mut random = |bound: u64| 3 % bound;
        let entries: Vec<_> = (0..8).map(|index| any_entry(1, index, &mut random)).collect();
        store.blocking_append(entries.clone()).await.expect("a sound disk");
        let id = entries[4].log_id;
        machine.apply(entries[..5].to_vec()).await.expect("entries that were agreed on");
        machine.build_snapshot().await.expect("a sound disk");
        store.purge(id).await.expect("a sound disk");
    });
}

fn refusal<T>(result: Result<T, NodeError>) -> String {
    match result {
        Err(error @ NodeError::Incomplete(_)) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[test]
fn who_has_a_name_has_a_log() {
    let (_world, disk) = world();
    assert!(refusal(check_log(&*disk, directory())).contains("the log is missing"));
    prepare(&disk, directory(), Options::default()).expect("an empty directory");
    check_log(&*disk, directory()).expect("a log");
    prepare(&disk, directory(), Options::default()).expect("a log without anything in it");
    fill(&disk);
    let said = refusal(prepare(&disk, directory(), Options::default()));
    assert!(said.contains("no member.json"), "{said}");
}

#[test]
fn a_log_whose_snapshot_is_missing_is_refused() {
    let (world, disk) = world();
    fill(&disk);
    open(disk.clone(), directory(), Options::default()).expect("a whole directory");
    let names = disk.read_dir(&directory().join("snapshot")).expect("a directory");
    assert_eq!(names, ["00000000000000000004-00000000000000000001.snapshot"]);
    world.corrupt(directory().join("snapshot").join(&names[0]), 0, Corruption::Remove).expect("a file");
    let said = refusal(open(disk, directory(), Options::default()).map(drop));
    assert!(said.contains("begins behind entry 4, and there is no snapshot"), "{said}");
}

#[test]
fn a_snapshot_with_something_behind_it_is_refused() {
    let (_world, disk) = world();
    fill(&disk);
    let names = disk.read_dir(&directory().join("snapshot")).expect("a directory");
    let path = directory().join("snapshot").join(&names[0]);
    let mut bytes = disk.read(&path, 1 << 20).expect("a file");
    let length = bytes.len();
    bytes.push(0);
    let file = disk.open(&path, uring::OpenMode::CreateOrTruncate).expect("a file");
    file.write_at(&bytes, 0).expect("a sound disk");
    match open(disk, directory(), Options::default()).map(drop) {
        Err(NodeError::Snapshot(bad)) => {
            let said = bad.to_string();
            assert!(said.contains(&format!("it ends at byte {length}, the file at byte")), "{said}");
            assert!(said.contains(&names[0]), "{said}");
        }
        other => panic!("{other:?}"),
    }
}
