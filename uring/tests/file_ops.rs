//! File operations, the same on both real backends.

mod harness;

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;

use bytes::Bytes;
use harness::{Loop, Place, aligned, errno, pattern, read};
use uring::{AlignedBuf, Backend, Disk, Durability, LocalDisk, Op, OpenMode, RingOptions};

on_both_backends!(
    direct_write_and_read,
    buffered_at_any_offset,
    reads_stop_at_the_end_of_the_file,
    direct_reads_stop_at_an_odd_end_of_the_file,
    more_parts_than_the_kernel_takes_at_once,
    nothing_to_transfer,
    refusals_hand_the_buffer_back,
    far_more_operations_than_entries,
    cancelled_writes_end_exactly_once,
    dropped_with_operations_in_flight,
);

fn direct_write_and_read(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let place = Place::new();
    let file = place.direct("log", &[0; 65536]);
    for (seed, durability) in [(1, Durability::Written), (2, Durability::Durable)] {
        let one = vec![aligned(seed, 4096)];
        let write = Op::Write { file: file.fd(), offset: 4096, data: one, durability };
        let completion = it.run(write);
        assert_eq!((completion.result.unwrap(), completion.buf.is_none()), (4096, true));
        let three = vec![aligned(seed + 10, 4096), aligned(seed + 20, 8192), aligned(seed + 30, 4096)];
        let write = Op::Write { file: file.fd(), offset: 16384, data: three, durability };
        assert_eq!(it.run(write).result.unwrap(), 16384);
        let completion = it.run(Op::Sync { file: file.fd() });
        assert_eq!((completion.result.unwrap(), completion.buf.is_none()), (0, true));

        let completion = it.run(read(&file, 0, 32768));
        assert_eq!(completion.result.unwrap(), 32768);
        let content = completion.buf.unwrap();
        assert_eq!(content[..4096], [0; 4096]);
        assert_eq!(content[4096..8192], pattern(seed, 4096));
        assert_eq!(content[16384..20480], pattern(seed + 10, 4096));
        assert_eq!(content[20480..28672], pattern(seed + 20, 8192));
        assert_eq!(content[28672..], pattern(seed + 30, 4096));
    }
}

fn buffered_at_any_offset(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let place = Place::new();
    let file = LocalDisk.open(&place.path("index"), OpenMode::CreateNew).unwrap();
    let data = vec![Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"three")];
    let write = Op::Write { file: file.fd(), offset: 5, data, durability: Durability::Durable };
    assert_eq!(it.run(write).result.unwrap(), 8);
    let completion = it.run(read(&file, 6, 7));
    assert_eq!((completion.result.unwrap(), &completion.buf.unwrap()[..]), (7, &b"nethree"[..]));
}

fn reads_stop_at_the_end_of_the_file(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let place = Place::new();
    std::fs::write(place.path("f"), pattern(1, 5000)).unwrap();
    let file = LocalDisk.open(&place.path("f"), OpenMode::Read).unwrap();
    for (offset, expected) in [(0, 5000), (4999, 1), (5000, 0), (1 << 40, 0)] {
        let completion = it.run(read(&file, offset, 8192));
        assert_eq!(completion.result.unwrap(), expected, "at {offset}");
        let buf = completion.buf.unwrap();
        let start = 5000.min(offset as usize);
        assert_eq!((buf.len(), &buf[..expected]), (8192, &pattern(1, 5000)[start..start + expected]));
    }
}

fn direct_reads_stop_at_an_odd_end_of_the_file(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let place = Place::new();
    for len in [1, 511, 4608, 5000, 12000] {
        let file = place.direct("f", &pattern(2, len));
        let completion = it.run(read(&file, 0, 16384));
        assert_eq!(completion.result.unwrap(), len);
        assert_eq!(completion.buf.unwrap()[..len], pattern(2, len));
    }
}

fn more_parts_than_the_kernel_takes_at_once(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let place = Place::new();
    let content = pattern(3, 7 * 2500);
    let data = content.chunks(7).map(Bytes::copy_from_slice).collect();
    let file = LocalDisk.open(&place.path("f"), OpenMode::CreateNew).unwrap();
    let write = Op::Write { file: file.fd(), offset: 0, data, durability: Durability::Durable };
    assert_eq!(it.run(write).result.unwrap(), content.len());
    assert_eq!(std::fs::read(place.path("f")).unwrap(), content);
}

fn nothing_to_transfer(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let write = Op::Write { file: -1, offset: 0, data: vec![Bytes::new()], durability: Durability::Durable };
    assert_eq!(it.run(write).result.unwrap(), 0);
    let completion = it.run(Op::Read { file: -1, offset: 0, buf: AlignedBuf::with_capacity(9) });
    assert_eq!((completion.result.unwrap(), completion.buf.unwrap().capacity()), (0, 4096));
}

fn refusals_hand_the_buffer_back(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let place = Place::new();
    let file = OpenOptions::new().write(true).create_new(true).open(place.path("f")).unwrap();
    let completion = it.run(Op::Read { file: file.as_raw_fd(), offset: 0, buf: AlignedBuf::zeroed(100) });
    assert_eq!((errno(&completion), completion.buf.unwrap().len()), (Some(libc::EBADF), 100));
    let file = OpenOptions::new().read(true).open(place.path("f")).unwrap();
    let data = vec![aligned(1, 4096)];
    let write = Op::Write { file: file.as_raw_fd(), offset: 0, data, durability: Durability::Written };
    assert_eq!(errno(&it.run(write)), Some(libc::EBADF));
    let direct = place.direct("g", &[0; 8192]);
    let completion = it.run(read(&direct, 1, 4096));
    assert_eq!((errno(&completion), completion.buf.is_some()), (Some(libc::EINVAL), true));
}

/// The completion queue of 32 overflows many times before the first wait.
fn far_more_operations_than_entries(backend: Backend) {
    const COUNT: usize = 5000;
    let options = RingOptions { entries: 8, workers: 3, queue: 4 };
    let Some(mut it) = Loop::open_with(backend, &options) else { return };
    let place = Place::new();
    let content = pattern(4, 64 * 4096);
    let file = place.direct("f", &content);
    let offset = |token: u64| (token % 64) * 4096;
    for number in 1..=COUNT as u64 {
        assert_eq!(it.submit(read(&file, offset(number), 4096)), number);
    }
    assert_eq!(it.io.in_flight(), COUNT);
    let mut seen = vec![false; COUNT + 1];
    for completion in it.collect(COUNT) {
        let at = offset(completion.token) as usize;
        assert_eq!(completion.result.unwrap(), 4096);
        assert_eq!(completion.buf.unwrap()[..], content[at..at + 4096]);
        assert!(!std::mem::replace(&mut seen[completion.token as usize], true), "a completion came twice");
    }
    assert_eq!(it.io.in_flight(), 0);
}

fn cancelled_writes_end_exactly_once(backend: Backend) {
    let options = RingOptions { entries: 8, workers: 1, queue: 1 };
    let Some(mut it) = Loop::open_with(backend, &options) else { return };
    let place = Place::new();
    let file = place.direct("f", &[0; 4096]);
    let mut tokens: Vec<_> = (0..200)
        .map(|number| {
            let data = vec![aligned(number, 4096)];
            it.submit(Op::Write {
                file: file.fd(),
                offset: number * 4096,
                data,
                durability: Durability::Durable,
            })
        })
        .collect();
    for &token in &tokens {
        it.io.cancel(token);
        it.io.cancel(token);
    }
    it.io.cancel(u64::MAX);
    for completion in it.collect(200) {
        let index = tokens.iter().position(|&token| token == completion.token).expect("each token once");
        tokens.swap_remove(index);
        match completion.result {
            Ok(count) => assert_eq!(count, 4096),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ECANCELED)),
        }
    }
    assert_eq!(it.run(Op::Sync { file: file.fd() }).result.unwrap(), 0);
}

/// After the drop nobody writes any more: not into the file, whose descriptor may be another's by then.
fn dropped_with_operations_in_flight(backend: Backend) {
    let place = Place::new();
    for waits in [false, true] {
        let Some(mut it) = Loop::open(backend) else { return };
        let file = place.direct("f", &[0; 4096]);
        for number in 0..500 {
            let data = vec![aligned(number, 65536)];
            it.submit(Op::Write {
                file: file.fd(),
                offset: number * 65536,
                data,
                durability: Durability::Written,
            });
        }
        if waits {
            it.io.wait(None, &mut Vec::new()).unwrap();
        }
        drop(it);
        let after = std::fs::metadata(place.path("f")).unwrap();
        let whole = std::fs::read(place.path("f")).unwrap();
        for (number, block) in whole[..after.len() as usize / 65536 * 65536].chunks(65536).enumerate() {
            let written = block == pattern(number as u64, 65536);
            assert!(written || number == 0 || block.iter().all(|&byte| byte == 0), "block {number} is torn");
        }
        assert_eq!(std::fs::read(place.path("f")).unwrap(), whole);
    }
}
