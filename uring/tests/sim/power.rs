//! Bytes and lengths at power loss; the end of a boot; seeds.

use super::*;
use std::collections::BTreeSet;
use uring::sim::Counters;

/// Every sector is one of two bytes all over; returns which ones are `new`.
fn new_sectors(bytes: &[u8], old: u8, new: u8) -> Vec<bool> {
    let sectors = bytes.chunks(SECTOR).map(|sector| {
        assert!([old, new].contains(&sector[0]) && sector.iter().all(|byte| *byte == sector[0]));
        sector[0] == new
    });
    sectors.collect()
}

#[test]
fn un_synced_writes_are_kept_lost_or_torn_each_on_its_own() {
    for in_flight in [false, true] {
        let (mut pairs, mut patterns) = (BTreeSet::new(), BTreeSet::new());
        let mut counters = Counters::default();
        for seed in SEEDS {
            let world = SimWorld::new(seed, SimOptions::default());
            let file = durable_file(&world, "f", 2, 1);
            let mut io = world.io();
            io.submit(1, write(&*file, 0, 2, Durability::Written));
            io.submit(2, write(&*file, 1, 2, Durability::Written));
            if !in_flight {
                drain(&mut *io);
                assert_eq!(firsts(&world, "/d/f"), [2, 2]);
            }
            world.power_loss();
            let sectors = new_sectors(&content(&world, "/d/f"), 1, 2);
            let fates = [0..8, 8..16].map(|page| match sectors[page].iter().filter(|new| **new).count() {
                0 => "lost",
                8 => "kept",
                _ => "torn",
            });
            pairs.insert(fates);
            patterns.insert(sectors);
            let Counters { kept, lost, torn, .. } = world.counters();
            counters.kept += kept;
            counters.lost += lost;
            counters.torn += torn;
        }
        assert_eq!(pairs.len(), 9, "{pairs:?}");
        assert!(patterns.len() > 60, "{}", patterns.len());
        let Counters { kept, lost, torn, .. } = counters;
        assert!([kept, lost, torn].iter().all(|&count| count > 80), "{counters:?}");
    }
}

#[test]
fn the_odds_are_parameters() {
    for (power, expected) in [(Odds::KEEP, [2, 2]), (Odds::LOSE, [1, 1])] {
        for seed in SEEDS {
            let world = SimWorld::new(seed, SimOptions::default());
            world.set_options(SimOptions { power, ..world.options() });
            let file = durable_file(&world, "f", 2, 1);
            file.write_at(&AlignedBuf::copy_from(&[2; 2 * PAGE]), 0).unwrap();
            world.power_loss();
            assert_eq!(firsts(&world, "/d/f"), expected);
        }
    }
}

#[test]
fn survivors_apply_in_the_order_of_their_completion() {
    let world = SimWorld::new(1, SimOptions { power: Odds::KEEP, ..SimOptions::default() });
    let file = durable_file(&world, "f", 1, 0);
    for byte in 1..=9 {
        file.write_at(&page(byte), 0).unwrap();
    }
    world.power_loss();
    assert_eq!(firsts(&world, "/d/f"), [9]);
}

#[test]
fn a_write_in_flight_counts_before_or_after_what_completed_since() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions { power: Odds::KEEP, ..SimOptions::default() });
        let file = durable_file(&world, "f", 1, 0);
        file.write_at(&page(1), 0).unwrap();
        let mut io = world.io();
        io.submit(1, write(&*file, 0, 2, Durability::Durable));
        file.write_at(&page(3), 0).unwrap();
        world.power_loss();
        seen.extend(firsts(&world, "/d/f"));
    }
    // Never the one before both.
    assert_eq!(seen, BTreeSet::from([2, 3]));
}

#[test]
fn a_write_in_flight_never_counts_before_what_it_followed() {
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions { power: Odds::KEEP, ..SimOptions::default() });
        let file = durable_file(&world, "f", 1, 0);
        (1..4).for_each(|byte| file.write_at(&page(byte), 0).unwrap());
        let mut io = world.io();
        io.submit(1, write(&*file, 0, 4, Durability::Written));
        world.power_loss();
        assert_eq!(firsts(&world, "/d/f"), [4], "seed {seed}");
    }
}

#[test]
fn changes_of_length_are_kept_or_lost() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions::default());
        let file = durable_file(&world, "f", 2, 1);
        file.set_len(PAGE as u64).unwrap();
        file.set_len(3 * PAGE as u64).unwrap();
        assert_eq!(firsts(&world, "/d/f"), [1, 0, 0]);
        world.power_loss();
        seen.insert(firsts(&world, "/d/f"));
    }
    let expected: [&[u8]; 4] = [&[1, 1], &[1], &[1, 1, 0], &[1, 0, 0]];
    assert_eq!(seen, expected.into_iter().map(Vec::from).collect());
}

#[test]
fn a_write_beyond_the_end_may_survive_with_its_length_alone() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions::default());
        let file = durable_file(&world, "f", 1, 1);
        file.write_at(&page(2), PAGE as u64).unwrap();
        world.power_loss();
        let bytes = content(&world, "/d/f");
        let sectors = new_sectors(&bytes[PAGE..], 0, 2);
        assert!(bytes[..PAGE].iter().all(|&byte| byte == 1));
        seen.insert((sectors.len(), sectors.iter().filter(|new| **new).count()));
    }
    assert!(seen.contains(&(0, 0)) && seen.contains(&(8, 8)), "{seen:?}");
    let full_but_holes = |(len, new): &(usize, usize)| *len == 8 && *new < 8;
    let cut = |(len, _): &(usize, usize)| (1..8).contains(len);
    assert!(seen.iter().any(full_but_holes) && seen.iter().any(cut), "{seen:?}");
}

#[test]
fn what_was_synced_stays() {
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions::default());
        let file = durable_file(&world, "f", 3, 1);
        file.set_len(2 * PAGE as u64).unwrap();
        file.write_at(&page(2), PAGE as u64).unwrap();
        file.sync().unwrap();
        file.write_at(&page(3), 0).unwrap();
        for _ in 0..3 {
            world.power_loss();
            assert_eq!(content(&world, "/d/f")[PAGE..], [2; PAGE], "seed {seed}");
        }
    }
}

#[test]
fn handles_of_an_earlier_boot_are_dead() {
    let crashes: [fn(&SimWorld); 2] = [SimWorld::power_loss, SimWorld::process_kill];
    for crash in crashes {
        let world = SimWorld::new(1, SimOptions::default());
        let file = durable_file(&world, "f", 1, 1);
        let (disk, mut io) = (world.disk(), world.io());
        assert!(file.try_lock().unwrap());
        io.submit(1, Op::Read { file: file.fd(), offset: 0, buf: AlignedBuf::zeroed(PAGE) });
        io.submit(2, Op::Sync { file: file.fd() });
        crash(&world);
        io.submit(3, write(&*file, 0, 9, Durability::Durable));
        let eio = Some(libc::EIO);
        assert_eq!([code(file.len()), code(file.set_len(0)), code(file.sync())], [eio; 3]);
        assert_eq!([code(file.try_lock()), code(file.write_at(&page(9), 0))], [eio; 2]);
        assert_eq!(
            [code(file.read_at(&mut AlignedBuf::zeroed(PAGE), 0)), code(disk.read_dir("/".as_ref()))],
            [eio; 2]
        );
        assert_eq!([code(disk.sync_dir("/".as_ref())), code(disk.read("/d/f".as_ref(), PAGE))], [eio; 2]);
        let mut completions = Vec::new();
        assert_eq!(io.in_flight(), 3);
        io.wait(None, &mut completions).unwrap();
        assert!(completions.iter().all(|it| it.buf.is_some() == (it.token == 1)));
        assert_eq!(completions.into_iter().map(|it| code(it.result)).collect::<Vec<_>>(), [eio; 3]);
        assert_eq!((io.in_flight(), code(io.wait(None, &mut Vec::new()))), (0, eio));
        // The lock went with them, and nothing of the third operation happened.
        let again = world.disk().open("/d/f".as_ref(), OpenMode::Direct).unwrap();
        assert!(again.try_lock().unwrap());
        drop(file);
        assert!(!world.disk().open("/d/f".as_ref(), OpenMode::Read).unwrap().try_lock().unwrap());
        assert_eq!(firsts(&world, "/d/f"), [1]);
    }
}

/// A little of everything, decided by the world's own seed.
fn workload(world: &SimWorld) -> Vec<u64> {
    let mut digests = Vec::new();
    for round in 0..6 {
        let (disk, mut io) = (world.disk(), world.io());
        let mut files = Vec::new();
        for number in 0..4 {
            let file = disk.open(format!("/f{number}").as_ref(), OpenMode::CreateOrTruncate).unwrap();
            for token in 0..6 {
                let durability = [Durability::Written, Durability::Durable][(world.random() % 2) as usize];
                io.submit(
                    number << 32 | token,
                    write(&*file, world.random() % 9, round * 6 + token as u8, durability),
                );
            }
            files.push(file);
        }
        for _ in 0..world.random() % 4 {
            io.wait(Some(Duration::ZERO), &mut Vec::new()).unwrap();
            files[(world.random() % 4) as usize].sync().unwrap();
        }
        disk.rename("/f0".as_ref(), format!("/old{}", world.random() % 3).as_ref()).unwrap();
        if world.random().is_multiple_of(2) {
            disk.sync_dir("/".as_ref()).unwrap();
        }
        if world.random().is_multiple_of(3) {
            world.process_kill()
        } else {
            world.power_loss()
        }
        digests.push(world.digest());
    }
    digests
}

#[test]
fn a_seed_is_a_world() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let worlds = [0, 1].map(|_| SimWorld::new(seed, SimOptions::default()));
        let [left, right] = worlds.each_ref().map(workload);
        assert_eq!(left, right, "seed {seed}");
        assert_eq!(worlds[0].counters(), worlds[1].counters(), "seed {seed}");
        seen.insert(left);
    }
    assert_eq!(seen.len(), SEEDS.count());
}

#[test]
fn the_caller_s_draws_do_not_move_the_world() {
    let fates = |draws: u32| {
        let fates = SEEDS.map(|seed| {
            let world = SimWorld::new(seed, SimOptions::default());
            let file = durable_file(&world, "f", 4, 0);
            for _ in 0..draws {
                world.random();
            }
            file.write_at(&AlignedBuf::copy_from(&[1; 4 * PAGE]), 0).unwrap();
            world.power_loss();
            world.digest()
        });
        fates.collect::<Vec<_>>()
    };
    assert_eq!(fates(0), fates(3));
}

#[test]
fn the_digest_sees_durable_names_and_bytes_alone() {
    let world = losing(1);
    let empty = world.digest();
    let file = durable_file(&world, "f", 1, 1);
    let full = world.digest();
    assert_ne!(full, empty);
    file.write_at(&page(2), 0).unwrap();
    world.disk().rename("/d/f".as_ref(), "/d/g".as_ref()).unwrap();
    assert_eq!(world.digest(), full);
    file.sync().unwrap();
    let synced = world.digest();
    assert_ne!(synced, full);
    world.disk().sync_dir("/d".as_ref()).unwrap();
    assert_ne!(world.digest(), synced);
    world.random();
    let before = world.digest();
    world.power_loss();
    assert_eq!(world.digest(), before);
}
