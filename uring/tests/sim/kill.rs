//! Process kills, late writes and locks.

use super::*;
use std::collections::BTreeSet;
use uring::sim::KillOdds;

fn late(seed: u64) -> SimWorld {
    SimWorld::new(seed, SimOptions { kill: KillOdds::LATE, ..SimOptions::default() })
}

/// Four pages of zeros, locked, with a write of ones to each in flight; then the kill.
fn killed(world: &SimWorld, locked: bool) {
    let file = durable_file(world, "f", 4, 0);
    assert!(!locked || file.try_lock().unwrap());
    let mut io = world.io();
    (0..4).for_each(|number| io.submit(number, write(&*file, number, 1, Durability::Written)));
    world.process_kill();
}

fn open(world: &SimWorld) -> Arc<dyn File> {
    world.disk().open("/d/f".as_ref(), OpenMode::Direct).unwrap()
}

#[test]
fn what_completed_stays_visible_and_un_synced() {
    let world = losing(1);
    let file = durable_file(&world, "f", 1, 0);
    file.write_at(&page(1), 0).unwrap();
    let other = world.disk().open("/d/new".as_ref(), OpenMode::CreateNew).unwrap();
    other.sync().unwrap();
    world.process_kill();
    assert_eq!((firsts(&world, "/d/f"), names(&*world.disk(), "/d").len()), (vec![1], 2));
    world.process_kill();
    assert_eq!(firsts(&world, "/d/f"), [1]);
    world.power_loss();
    assert_eq!(firsts(&world, "/d/f"), [0]);
    // A sync in the next boot covers what the killed process wrote.
    open(&world).write_at(&page(2), 0).unwrap();
    world.process_kill();
    open(&world).sync().unwrap();
    world.power_loss();
    assert_eq!(firsts(&world, "/d/f"), [2]);
}

#[test]
fn an_operation_in_flight_happens_whole_never_or_late() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions { late_within: 8, ..SimOptions::default() });
        let file = durable_file(&world, "f", 1, 0);
        let mut io = world.io();
        io.submit(1, write(&*file, 0, 1, Durability::Written));
        world.process_kill();
        let was_late = world.late_writes();
        let disk = world.disk();
        (0..8).for_each(|_| names(&*disk, "/").clear());
        assert_eq!(world.late_writes(), 0, "late within eight operations");
        let bytes = content(&world, "/d/f");
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "seed {seed}: torn");
        seen.insert((was_late, bytes[0]));
        assert_eq!(world.counters().late, was_late as u64);
    }
    assert_eq!(seen, BTreeSet::from([(0, 0), (0, 1), (1, 1)]));
}

#[test]
fn a_durable_write_is_durable_when_it_lands_late_and_a_sync_may_happen() {
    let mut synced = BTreeSet::new();
    for seed in SEEDS {
        let world = losing(seed);
        let file = durable_file(&world, "f", 2, 0);
        file.write_at(&page(2), PAGE as u64).unwrap();
        let mut io = world.io();
        io.submit(1, write(&*file, 0, 1, Durability::Durable));
        io.submit(2, Op::Sync { file: file.fd() });
        world.process_kill();
        let file = open(&world);
        while world.late_writes() > 0 {
            file.len().unwrap();
        }
        let visible = firsts(&world, "/d/f")[0];
        world.power_loss();
        let left = firsts(&world, "/d/f");
        assert_eq!(left[0], visible, "seed {seed}");
        synced.insert(left[1]);
    }
    assert_eq!(synced, BTreeSet::from([0, 2]));
}

#[test]
fn a_lock_is_free_only_when_all_late_writes_have_landed() {
    let mut waits = BTreeSet::new();
    for seed in SEEDS {
        let world = late(seed);
        killed(&world, true);
        assert_eq!(world.late_writes(), 4);
        let file = open(&world);
        let mut tries = 0;
        while !file.try_lock().unwrap() {
            assert!(world.late_writes() > 0, "seed {seed}");
            tries += 1;
        }
        assert!(tries <= world.options().late_within);
        assert_eq!((world.late_writes(), firsts(&world, "/d/f")), (0, vec![1; 4]), "seed {seed}");
        waits.insert(tries);
    }
    assert!(waits.len() > 8, "{waits:?}");
}

#[test]
fn a_reader_that_does_not_wait_for_the_lock_sees_a_late_write_land() {
    let mut moved = 0;
    for seed in SEEDS {
        let world = late(seed);
        killed(&world, true);
        let first = firsts(&world, "/d/f");
        let second = firsts(&world, "/d/f");
        moved += u32::from(first != second);
        while world.late_writes() > 0 {
            names(&*world.disk(), "/");
        }
        assert_eq!(firsts(&world, "/d/f"), [1; 4]);
    }
    assert!(moved > 10, "{moved}");
}

#[test]
fn only_the_lock_of_the_ring_s_own_description_waits_for_late_writes() {
    let mut early = 0;
    for seed in SEEDS {
        let world = late(seed);
        killed(&world, false);
        early += u32::from(open(&world).try_lock().unwrap() && world.late_writes() > 0);
    }
    assert!(early > 100, "{early}");
}

#[test]
fn late_writes_outlive_a_second_kill_and_overwrite_newer_data() {
    let mut overwritten = 0;
    for seed in SEEDS {
        let world = late(seed);
        killed(&world, true);
        open(&world).write_at(&page(9), 0).unwrap();
        world.process_kill();
        let file = open(&world);
        while !file.try_lock().unwrap() {}
        let left = firsts(&world, "/d/f");
        assert_eq!(left[1..], [1; 3]);
        overwritten += u32::from(left[0] == 1);
    }
    assert!((100..200).contains(&overwritten), "{overwritten}");
}

#[test]
fn late_writes_meet_a_power_loss_like_any_in_flight() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let world = late(seed);
        killed(&world, true);
        world.power_loss();
        assert_eq!(world.late_writes(), 0);
        assert!(open(&world).try_lock().unwrap());
        seen.extend(content(&world, "/d/f").chunks(PAGE).map(|page| {
            let ones = page.iter().filter(|&&byte| byte == 1).count();
            if ones == PAGE {
                "kept"
            } else if ones == 0 {
                "lost"
            } else {
                "torn"
            }
        }));
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn late_writes_find_a_removed_file_and_harm_nobody() {
    for seed in SEEDS {
        let world = late(seed);
        killed(&world, true);
        let disk = world.disk();
        disk.remove_file("/d/f".as_ref()).unwrap();
        disk.sync_dir("/d".as_ref()).unwrap();
        let file = durable_file(&world, "f", 4, 5);
        assert!(file.try_lock().unwrap(), "another file of the same name");
        while world.late_writes() > 0 {
            file.len().unwrap();
        }
        assert_eq!(firsts(&world, "/d/f"), [5; 4]);
    }
}

#[test]
fn a_dropped_ring_leaves_its_operations_to_fate() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions::default());
        let file = durable_file(&world, "f", 1, 0);
        let mut io = world.io();
        assert!(file.try_lock().unwrap());
        io.submit(1, write(&*file, 0, 1, Durability::Written));
        io.submit(2, Op::Read { file: file.fd(), offset: 0, buf: AlignedBuf::zeroed(PAGE) });
        drop((io, file));
        let was_late = world.late_writes();
        let file = open(&world);
        while !file.try_lock().unwrap() {}
        seen.insert((was_late, firsts(&world, "/d/f")[0]));
    }
    assert_eq!(seen, BTreeSet::from([(0, 0), (0, 1), (1, 1)]));
}

#[test]
fn locks_belong_to_open_file_descriptions() {
    let world = SimWorld::new(1, SimOptions::default());
    let first = durable_file(&world, "f", 1, 0);
    let second = open(&world);
    let elsewhere = durable_file(&world, "g", 1, 0);
    assert!(first.try_lock().unwrap() && first.try_lock().unwrap());
    assert!(!second.try_lock().unwrap());
    assert!(elsewhere.try_lock().unwrap());
    // A rename takes the lock along, and clones of the handle share it.
    world.disk().rename("/d/f".as_ref(), "/d/h".as_ref()).unwrap();
    let clone = first.clone();
    drop(first);
    assert!(!second.try_lock().unwrap());
    drop(clone);
    assert!(second.try_lock().unwrap());
}
