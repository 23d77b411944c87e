//! Rings: order, visibility, what a sync covers, cancelling, waking.

use super::*;
use std::collections::BTreeSet;

#[test]
fn waits_complete_some_operations_in_any_order() {
    let (mut orders, mut sizes) = (BTreeSet::new(), BTreeSet::new());
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions::default());
        let file = durable_file(&world, "f", 4, 0);
        let mut io = world.io();
        (0..4).for_each(|number| io.submit(number, write(&*file, number, 7, Durability::Written)));
        let mut order = Vec::new();
        while io.in_flight() > 0 {
            let mut completions = Vec::new();
            io.wait(None, &mut completions).unwrap();
            sizes.insert(completions.len());
            assert!(completions.iter().all(|it| matches!(it.result, Ok(PAGE)) && it.buf.is_none()));
            order.extend(completions.iter().map(|completion| completion.token));
        }
        assert_eq!(firsts(&world, "/d/f"), [7; 4], "seed {seed}");
        assert_eq!((order.len(), io.backend()), (4, "sim"));
        orders.insert(order);
    }
    assert_eq!((orders.len(), sizes), (24, BTreeSet::from([1, 2, 3, 4])));
}

#[test]
fn a_write_in_flight_is_not_visible() {
    let world = SimWorld::new(1, SimOptions::default());
    let file = durable_file(&world, "f", 1, 1);
    let (mut io, mut other) = (world.io(), world.io());
    io.submit(1, write(&*file, 0, 2, Durability::Durable));
    other.submit(1, Op::Read { file: file.fd(), offset: 0, buf: AlignedBuf::zeroed(2 * PAGE) });
    let mut completions = Vec::new();
    other.wait(None, &mut completions).unwrap();
    let Completion { result, buf, .. } = completions.pop().unwrap();
    // Short: the file ends before.
    assert_eq!((result.unwrap(), buf.unwrap()[0]), (PAGE, 1));
    assert_eq!((firsts(&world, "/d/f"), io.in_flight()), (vec![1], 1));
    drain(&mut *io);
    assert_eq!(firsts(&world, "/d/f"), [2]);
}

#[test]
fn a_sync_covers_only_what_completed_before_it_was_submitted() {
    let mut write_was_first = 0;
    for seed in SEEDS {
        let world = losing(seed);
        let file = durable_file(&world, "f", 2, 0);
        let mut io = world.io();
        io.submit(1, write(&*file, 0, 1, Durability::Written));
        drain(&mut *io);
        io.submit(2, write(&*file, 1, 2, Durability::Written));
        io.submit(3, Op::Sync { file: file.fd() });
        let mut completions = Vec::new();
        while io.in_flight() > 0 {
            io.wait(None, &mut completions).unwrap();
        }
        write_was_first += u32::from(completions[0].token == 2);
        assert_eq!(firsts(&world, "/d/f"), [1, 2]);
        world.power_loss();
        assert_eq!(firsts(&world, "/d/f"), [1, 0], "seed {seed}");
    }
    assert!((50..150).contains(&write_was_first));
}

#[test]
fn a_blocking_sync_covers_ring_writes_and_the_reverse() {
    let world = losing(1);
    let file = durable_file(&world, "f", 2, 0);
    let mut io = world.io();
    io.submit(1, write(&*file, 0, 1, Durability::Written));
    drain(&mut *io);
    file.sync().unwrap();
    file.write_at(&page(2), PAGE as u64).unwrap();
    io.submit(2, Op::Sync { file: file.fd() });
    drain(&mut *io);
    world.power_loss();
    assert_eq!(firsts(&world, "/d/f"), [1, 2]);
}

#[test]
fn a_durable_write_is_durable_alone() {
    for seed in SEEDS {
        let world = losing(seed);
        let file = durable_file(&world, "f", 1, 0);
        let mut io = world.io();
        io.submit(1, write(&*file, 0, 1, Durability::Written));
        io.submit(2, write(&*file, 1, 2, Durability::Written));
        drain(&mut *io);
        io.submit(3, write(&*file, 2, 3, Durability::Durable));
        drain(&mut *io);
        assert_eq!(firsts(&world, "/d/f"), [1, 2, 3]);
        world.power_loss();
        assert_eq!(firsts(&world, "/d/f"), [0, 0, 3], "seed {seed}");
    }
}

#[test]
fn an_earlier_write_never_covers_a_durable_one() {
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions::default());
        let file = durable_file(&world, "f", 2, 0);
        file.write_at(&AlignedBuf::copy_from(&[1; 2 * PAGE]), 0).unwrap();
        let mut io = world.io();
        io.submit(1, write(&*file, 0, 2, Durability::Durable));
        drain(&mut *io);
        world.power_loss();
        assert!(content(&world, "/d/f")[..PAGE].iter().all(|&byte| byte == 2), "seed {seed}");
    }
}

#[test]
fn a_cancelled_operation_ends_early_or_as_if_it_were_not() {
    let mut cancelled = 0;
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions::default());
        let file = durable_file(&world, "f", 1, 0);
        let mut io = world.io();
        io.submit(1, write(&*file, 0, 1, Durability::Written));
        io.submit(2, Op::Read { file: file.fd(), offset: 0, buf: AlignedBuf::zeroed(PAGE) });
        io.cancel(1);
        io.cancel(77);
        let mut results = drain(&mut *io);
        assert!(matches!(results[&2], Ok(PAGE)));
        match results.remove(&1).unwrap() {
            Ok(len) => assert_eq!((len, firsts(&world, "/d/f")), (PAGE, vec![1])),
            Err(error) => {
                cancelled += 1;
                assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
                assert_eq!(firsts(&world, "/d/f"), [0]);
            }
        }
    }
    assert!((50..150).contains(&cancelled));
}

#[test]
fn a_wake_is_not_lost_and_ends_a_wait_from_any_thread() {
    let world = SimWorld::new(1, SimOptions::default());
    let (mut io, mut completions) = (world.io(), Vec::new());
    io.waker().wake();
    io.wait(None, &mut completions).unwrap();
    // Nothing in flight: time does not pass, so a timeout is over at once.
    io.wait(Some(Duration::from_secs(3600)), &mut completions).unwrap();
    let waker = io.waker();
    let thread = std::thread::spawn(move || waker.wake());
    io.wait(None, &mut completions).unwrap();
    thread.join().unwrap();
    // The end of a boot wakes too, else a thread would wait for ever.
    let crasher = world.clone();
    let thread = std::thread::spawn(move || crasher.crash_after(0));
    io.wait(None, &mut completions).unwrap();
    thread.join().unwrap();
    assert_eq!(io.wait(None, &mut completions).unwrap_err().to_string(), "powered off");
    assert!(completions.is_empty());
}

#[test]
fn a_file_closed_with_operations_in_flight_stays_until_they_end() {
    let world = SimWorld::new(1, SimOptions::default());
    let file = durable_file(&world, "f", 1, 0);
    let other = world.disk().open("/d/f".as_ref(), OpenMode::Read).unwrap();
    let mut io = world.io();
    assert!(file.try_lock().unwrap());
    let fd = file.fd();
    io.submit(1, write(&*file, 0, 1, Durability::Written));
    drop(file);
    assert!(!other.try_lock().unwrap());
    io.submit(2, Op::Sync { file: fd });
    let results = drain(&mut *io);
    assert_eq!(code(results.into_values().next_back().unwrap()), Some(libc::EBADF));
    assert_eq!(firsts(&world, "/d/f"), [1]);
    assert!(other.try_lock().unwrap());
}

#[test]
fn socket_operations_are_unsupported_and_return_their_buffers() {
    let mut io = SimWorld::new(1, SimOptions::default()).io();
    io.submit(1, Op::Recv { socket: 5, buf: AlignedBuf::with_capacity(1) });
    io.submit(2, Op::Send { socket: 5, data: vec![page(1)] });
    let mut completions = Vec::new();
    io.wait(None, &mut completions).unwrap();
    completions.sort_by_key(|completion| completion.token);
    assert_eq!([completions[0].buf.is_some(), completions[1].buf.is_some()], [true, false]);
    assert!(completions.into_iter().all(|it| it.result.unwrap_err().kind() == io::ErrorKind::Unsupported));
}
