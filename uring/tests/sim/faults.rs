//! Injected errors, full disks, damage at rest, power that goes off in the middle.

use super::*;
use std::collections::BTreeSet;
use uring::sim::{Corruption, Fault, FaultOp};

fn arm(world: &SimWorld, op: FaultOp, path: &str, count: u32) {
    world.inject(Fault { op, path_contains: path.to_owned(), count });
}

#[test]
fn faults_hit_their_operation_path_and_count() {
    let world = SimWorld::new(1, SimOptions::default());
    let (file, other) = (durable_file(&world, "seg1", 1, 1), durable_file(&world, "map", 1, 1));
    let (disk, mut io, mut buf) = (world.disk(), world.io(), AlignedBuf::zeroed(PAGE));
    let eio = Some(libc::EIO);
    arm(&world, FaultOp::Read, "/seg", 3);
    other.read_at(&mut buf, 0).unwrap();
    assert_eq!(code(file.read_at(&mut buf, 0)), eio);
    assert_eq!(code(disk.read("/d/seg1".as_ref(), PAGE)), eio);
    io.submit(1, Op::Read { file: file.fd(), offset: 0, buf: AlignedBuf::zeroed(PAGE) });
    let mut completions = Vec::new();
    io.wait(None, &mut completions).unwrap();
    let Completion { result, buf: Some(_), .. } = completions.pop().unwrap() else { panic!("no buffer") };
    assert_eq!(code(result), eio);
    file.write_at(&page(1), 0).unwrap();
    file.read_at(&mut buf, 0).unwrap();
    arm(&world, FaultOp::Sync, "", 1);
    assert_eq!([code(other.sync()), code(other.sync())], [eio, None]);
    arm(&world, FaultOp::SyncDir, "/d", 1);
    disk.sync_dir("/".as_ref()).unwrap();
    other.sync().unwrap();
    assert_eq!([code(disk.sync_dir("/d".as_ref())), code(disk.sync_dir("/d".as_ref()))], [eio, None]);
    arm(&world, FaultOp::Write, "map", 2);
    io.submit(2, write(&*other, 0, 2, Durability::Durable));
    assert_eq!([code(drain(&mut *io).remove(&2).unwrap()), code(other.write_at(&page(2), 0))], [eio; 2]);
    other.write_at(&page(2), 0).unwrap();
    assert_eq!(world.counters().injected, 7);
    arm(&world, FaultOp::Write, "", 1000);
    world.process_kill();
    let file = world.disk().open("/d/map".as_ref(), OpenMode::Direct).unwrap();
    assert_eq!(code(file.write_at(&page(1), 0)), eio, "faults outlive a kill");
    world.clear_faults();
    file.write_at(&page(1), 0).unwrap();
}

#[test]
fn a_failed_write_leaves_any_part_of_itself() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions::default());
        let file = durable_file(&world, "f", 1, 0);
        arm(&world, FaultOp::Write, "f", 1);
        let mut io = world.io();
        io.submit(1, write(&*file, 0, 1, Durability::Durable));
        assert_eq!(code(drain(&mut *io).remove(&1).unwrap()), Some(libc::EIO));
        seen.insert(content(&world, "/d/f").iter().filter(|&&byte| byte == 1).count() / SECTOR);
        // Whatever it left is not durable, not even of a durable write.
        world.set_options(SimOptions { power: Odds::LOSE, ..world.options() });
        world.power_loss();
        assert_eq!(firsts(&world, "/d/f"), [0]);
    }
    assert_eq!(seen, (0..=8).collect());
}

#[test]
fn a_failed_sync_loses_writes_that_later_syncs_do_not_cover() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions::default());
        let file = durable_file(&world, "f", 3, 0);
        let mut io = world.io();
        file.write_at(&page(1), 0).unwrap();
        file.write_at(&page(1), PAGE as u64).unwrap();
        arm(&world, FaultOp::Sync, "f", 1);
        io.submit(1, Op::Sync { file: file.fd() });
        assert_eq!(code(drain(&mut *io).remove(&1).unwrap()), Some(libc::EIO));
        file.write_at(&page(1), 2 * PAGE as u64).unwrap();
        file.sync().unwrap();
        world.process_kill();
        let file = world.disk().open("/d/f".as_ref(), OpenMode::Direct).unwrap();
        file.sync().unwrap();
        // It looks well until the power is lost.
        assert_eq!(content(&world, "/d/f"), [1; 3 * PAGE]);
        world.power_loss();
        let left = content(&world, "/d/f");
        let ones = |range: std::ops::Range<usize>| left[range].iter().filter(|&&byte| byte == 1).count();
        assert_eq!(ones(2 * PAGE..3 * PAGE), PAGE, "seed {seed}");
        seen.insert([ones(0..PAGE), ones(PAGE..2 * PAGE)].map(|ones| match ones {
            0 => "lost",
            PAGE => "kept",
            _ => "torn",
        }));
    }
    assert_eq!(seen.len(), 9, "{seen:?}");
}

#[test]
fn a_write_after_a_failed_sync_makes_its_bytes_durable_again() {
    let world = losing(1);
    let file = durable_file(&world, "f", 1, 0);
    file.write_at(&page(1), 0).unwrap();
    arm(&world, FaultOp::Sync, "f", 1);
    file.sync().unwrap_err();
    file.write_at(&page(1), 0).unwrap();
    file.sync().unwrap();
    world.power_loss();
    assert_eq!(firsts(&world, "/d/f"), [1]);
}

#[test]
fn a_full_disk() {
    let world = SimWorld::new(1, SimOptions { capacity: Some(8 * PAGE as u64), ..SimOptions::default() });
    let (disk, file) = (world.disk(), durable_file(&world, "f", 4, 0));
    let free = || disk.free_space("/d".as_ref()).unwrap() / PAGE as u64;
    assert_eq!(free(), 4, "zeros are allocated");
    file.set_len(100 * PAGE as u64).unwrap();
    assert_eq!(free(), 4, "holes are not");
    let other = disk.open("/d/g".as_ref(), OpenMode::CreateNew).unwrap();
    assert_eq!(code(other.write_at(&[7; 5 * PAGE], 10)), Some(libc::ENOSPC));
    assert_eq!((other.len().unwrap(), free()), (4 * PAGE as u64, 0), "what fitted was written");
    let mut io = world.io();
    io.submit(1, write(&*file, 50, 1, Durability::Durable));
    io.submit(2, write(&*file, 3, 1, Durability::Durable));
    let results = drain(&mut *io);
    assert!(matches!(results[&2], Ok(PAGE)), "allocated pages can be overwritten");
    assert_eq!(results[&1].as_ref().unwrap_err().kind(), io::ErrorKind::StorageFull);
    world.set_capacity(Some(9 * PAGE as u64));
    file.write_at(&page(1), 50 * PAGE as u64).unwrap();
    assert_eq!((free(), world.counters().no_space), (0, 2));
    world.set_capacity(Some(PAGE as u64));
    assert_eq!(free(), 0);
    world.set_capacity(Some(9 * PAGE as u64));
    disk.remove_file("/d/g".as_ref()).unwrap();
    drop(other);
    assert_eq!(free(), 4);
    file.set_len(PAGE as u64).unwrap();
    assert_eq!(free(), 8);
    world.set_capacity(None);
    file.write_at(&AlignedBuf::copy_from(&[1; 20 * PAGE]), 0).unwrap();
}

#[test]
fn a_durable_write_that_did_not_fit_is_not_durable() {
    let world = losing(1);
    let file = durable_file(&world, "f", 1, 0);
    world.set_capacity(Some(2 * PAGE as u64));
    let mut io = world.io();
    let data = vec![page(1), page(1)];
    io.submit(1, Op::Write { file: file.fd(), offset: PAGE as u64, data, durability: Durability::Durable });
    assert_eq!(code(drain(&mut *io).remove(&1).unwrap()), Some(libc::ENOSPC));
    assert_eq!(firsts(&world, "/d/f"), [0, 1]);
    world.power_loss();
    assert_eq!(firsts(&world, "/d/f"), [0]);
    // Space is counted for what the crash left.
    assert_eq!(world.disk().free_space("/d".as_ref()).unwrap(), PAGE as u64);
}

#[test]
fn damage_at_rest_is_seen_and_stays() {
    let world = losing(1);
    for name in ["a", "b", "c", "d"] {
        durable_file(&world, name, 2, 0xff);
    }
    world.corrupt("/d/a", 5000, Corruption::BitFlip { bit: 3 }).unwrap();
    world.corrupt("/d/b", 4000, Corruption::Zero { len: 1 << 40 }).unwrap();
    world.corrupt("/d/c", 4097, Corruption::Truncate).unwrap();
    world.corrupt("/d/d", 0, Corruption::Remove).unwrap();
    assert_eq!(code(world.corrupt("/d/d", 0, Corruption::Truncate)), Some(libc::ENOENT));
    assert_eq!(code(world.corrupt("/d/c", 4097, Corruption::BitFlip { bit: 0 })), Some(libc::EINVAL));
    assert_eq!(code(world.corrupt("/d/c", 4098, Corruption::Zero { len: 1 })), Some(libc::EINVAL));
    assert_eq!(world.counters().corruptions, 4);
    for _ in 0..2 {
        let mut flipped = vec![0xff; 2 * PAGE];
        flipped[5000] = 0xf7;
        assert_eq!(content(&world, "/d/a"), flipped);
        assert_eq!(content(&world, "/d/b"), [vec![0xff; 4000], vec![0; 2 * PAGE - 4000]].concat());
        assert_eq!(content(&world, "/d/c"), [0xff; 4097]);
        assert_eq!(names(&*world.disk(), "/d"), ["a", "b", "c"]);
        world.power_loss();
    }
}

#[test]
fn a_file_removed_by_damage_is_gone_under_every_name_it_may_have() {
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions::default());
        durable_file(&world, "old", 1, 0);
        world.disk().rename("/d/old".as_ref(), "/d/new".as_ref()).unwrap();
        world.corrupt("/d/new", 0, Corruption::Remove).unwrap();
        world.power_loss();
        assert!(names(&*world.disk(), "/d").is_empty(), "seed {seed}");
    }
}

#[test]
fn the_power_goes_off_after_so_many_operations() {
    let steps: [fn(&dyn Disk) -> io::Result<()>; 4] = [
        |disk| disk.open("/tmp".as_ref(), OpenMode::CreateNew)?.write_at(b"new", 0),
        |disk| disk.open("/tmp".as_ref(), OpenMode::Read)?.sync(),
        |disk| disk.rename("/tmp".as_ref(), "/name".as_ref()),
        |disk| disk.sync_dir("/".as_ref()),
    ];
    let job = |disk: &dyn Disk| steps.iter().try_for_each(|step| step(disk));
    for after in 0..=7 {
        let world = losing(after);
        world.crash_after(after);
        assert_eq!(world.is_off(), after == 0);
        let result = job(&*world.disk());
        assert_eq!((result.is_ok(), world.is_off()), (after >= 6, after <= 6), "after {after}");
        assert_eq!(world.counters().operations, after.min(6));
        if let Err(error) = result {
            assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::Other, "powered off".to_owned()));
        }
        world.process_kill();
        assert!(!world.is_off());
        let expected: &[&str] = [&[][..], &["tmp"], &["name"]][(after.min(6) as usize).div_ceil(4).min(2)];
        assert_eq!(names(&*world.disk(), "/"), expected, "after {after}");
    }
}

#[test]
fn operations_in_flight_when_the_power_goes_off_fail_and_meet_the_crash() {
    let (mut fates, mut completed) = (BTreeSet::new(), BTreeSet::new());
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions::default());
        let file = durable_file(&world, "f", 6, 0);
        let mut io = world.io();
        (0..6).for_each(|number| io.submit(number, write(&*file, number, 1, Durability::Durable)));
        world.crash_after(2);
        let results = drain(&mut *io);
        let done: Vec<_> =
            results.iter().filter(|(_, result)| result.is_ok()).map(|(token, _)| *token).collect();
        assert_eq!((done.len(), results.len()), (2, 6), "seed {seed}");
        io.submit(9, write(&*file, 0, 9, Durability::Durable));
        io.submit(10, Op::Read { file: file.fd(), offset: 0, buf: AlignedBuf::zeroed(PAGE) });
        let mut late = Vec::new();
        io.wait(None, &mut late).unwrap();
        assert!(
            late.iter().all(|it| it.result.as_ref().is_err_and(|error| error.to_string() == "powered off"))
        );
        assert_eq!((late.len(), io.wait(None, &mut late).is_err()), (2, true));
        // Also when the process's values are dropped before the crash.
        drop((io, file));
        world.power_loss();
        for (number, page) in content(&world, "/d/f").chunks(PAGE).enumerate() {
            let ones = page.iter().filter(|&&byte| byte == 1).count();
            assert!(page.iter().all(|byte| *byte <= 1), "an operation submitted without power");
            assert!(!done.contains(&(number as u64)) || ones == PAGE, "seed {seed}: lost a durable write");
            fates.insert(if ones == PAGE { 2 } else { i32::from(ones > 0) });
        }
        completed.insert(done);
    }
    assert_eq!((fates.len(), completed.len()), (3, 15));
}

#[test]
fn a_ring_dropped_without_power_leaves_its_operations_to_the_crash() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions::default());
        let file = durable_file(&world, "f", 1, 0);
        let mut io = world.io();
        io.submit(1, write(&*file, 0, 1, Durability::Written));
        world.crash_after(0);
        drop((io, file));
        world.power_loss();
        let ones = content(&world, "/d/f").iter().filter(|&&byte| byte == 1).count();
        seen.insert(if ones == PAGE { 2 } else { i32::from(ones > 0) });
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_crash_ends_the_countdown() {
    let world = SimWorld::new(1, SimOptions::default());
    world.crash_after(3);
    world.power_loss();
    let disk = world.disk();
    (0..10).for_each(|_| names(&*disk, "/").clear());
    assert!(!world.is_off());
}

#[test]
fn counters_count() {
    let world = losing(1);
    let file = durable_file(&world, "f", 1, 1);
    let before = world.counters();
    assert_eq!((before.operations, before.writes, before.syncs, before.dir_syncs), (7, 1, 1, 2));
    file.write_at(&page(2), 0).unwrap();
    world.disk().rename("/d/f".as_ref(), "/d/g".as_ref()).unwrap();
    content(&world, "/d/g");
    world.process_kill();
    world.power_loss();
    let after = world.counters();
    assert_eq!((after.reads, after.writes, after.lost, after.kept, after.torn), (1, 2, 1, 0, 0));
    assert_eq!((after.kills, after.power_losses, after.dir_kept + after.dir_lost), (1, 1, 1));
}
