//! Socket operations, wakes and time, the same on both real backends.

mod harness;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::{Loop, PATIENCE, Place, aligned, errno, pair, pattern, read, recv, send};
use uring::{AlignedBuf, Backend, Durability, Op, RingOptions};

on_both_backends!(
    receives_append,
    the_end_of_a_stream_is_zero,
    a_full_buffer_is_no_end_of_stream,
    sends_to_nobody_fail,
    large_sends_to_a_slow_reader,
    tcp_both_ways_at_once,
    a_pending_receive_delays_nothing,
    a_cancelled_receive_returns_its_buffer,
    a_cancelled_send_ends,
    wakes_from_another_thread,
    wakes_are_not_lost_and_not_repeated,
    waiting_takes_as_long_as_asked,
    dropped_with_pending_receives_and_sends,
    ten_thousand_mixed_operations,
);

fn receives_append(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    for nonblocking in [false, true] {
        let (ours, mut theirs) = pair();
        ours.set_nonblocking(nonblocking).unwrap();
        let token = it.submit(recv(&ours, 4096));
        it.expect_nothing(Duration::ZERO);
        theirs.write_all(b"first ").unwrap();
        let completion = it.collect(1).pop().unwrap();
        assert_eq!((completion.token, completion.result.unwrap()), (token, 6));
        theirs.write_all(b"second").unwrap();
        let buf = completion.buf.unwrap();
        let completion = it.run(Op::Recv { socket: ours.as_raw_fd(), buf });
        assert_eq!((completion.result.unwrap(), &completion.buf.unwrap()[..]), (6, &b"first second"[..]));
    }
}

fn the_end_of_a_stream_is_zero(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let (ours, theirs) = pair();
    it.submit(recv(&ours, 4096));
    it.expect_nothing(Duration::ZERO);
    drop(theirs);
    let completion = it.collect(1).pop().unwrap();
    assert_eq!((completion.result.unwrap(), completion.buf.unwrap().len()), (0, 0));
}

fn a_full_buffer_is_no_end_of_stream(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let (ours, _theirs) = pair();
    let buf = AlignedBuf::zeroed(4096);
    let completion = it.run(Op::Recv { socket: ours.as_raw_fd(), buf });
    assert_eq!(completion.result.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(completion.buf.unwrap().len(), 4096);
}

fn sends_to_nobody_fail(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let (ours, theirs) = pair();
    drop(theirs);
    assert_eq!(errno(&it.run(send(&ours, vec![aligned(1, 10)]))), Some(libc::EPIPE));
    assert_eq!(errno(&it.run(send(&ours, vec![aligned(1, 10), aligned(2, 10)]))), Some(libc::EPIPE));
    assert_eq!(it.run(send(&ours, vec![])).result.unwrap(), 0);
}

/// Many times the socket's buffer, in one part and in several, through blocking and non-blocking sockets.
fn large_sends_to_a_slow_reader(backend: Backend) {
    const LEN: usize = 3 << 20;
    let Some(mut it) = Loop::open(backend) else { return };
    for (parts, nonblocking) in [(1, false), (1, true), (7, false), (7, true), (3000, false)] {
        let (ours, mut theirs) = pair();
        ours.set_nonblocking(nonblocking).unwrap();
        let reader = thread::spawn(move || {
            let (mut content, mut chunk) = (Vec::new(), [0; 3000]);
            while content.len() < LEN {
                let count = theirs.read(&mut chunk).unwrap();
                assert!(count > 0, "the stream ended early");
                content.extend_from_slice(&chunk[..count]);
            }
            content
        });
        let content = aligned(parts as u64, LEN);
        let size = LEN.div_ceil(parts);
        let data = (0..parts).map(|part| content.slice((part * size).min(LEN)..((part + 1) * size).min(LEN)));
        assert_eq!(it.run(send(&ours, data.collect())).result.unwrap(), LEN);
        assert!(reader.join().unwrap() == content[..], "{parts} parts arrived otherwise");
    }
}

fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let theirs = listener.accept().unwrap().0;
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    (ours, theirs)
}

/// An echo of 8 MiB: deadlocks unless sends and receives of one socket go on side by side.
fn tcp_both_ways_at_once(backend: Backend) {
    const LEN: usize = 8 << 20;
    let Some(mut it) = Loop::open(backend) else { return };
    let (ours, theirs) = tcp();
    let echo = thread::spawn(move || {
        let (mut input, mut output) = (&theirs, &theirs);
        std::io::copy(&mut (&mut input).take(LEN as u64), &mut output).unwrap()
    });
    let content = aligned(9, LEN);
    let sending = it.submit(send(&ours, vec![content.slice(..LEN / 3), content.slice(LEN / 3..)]));
    it.submit(recv(&ours, 100_000));
    let (mut back, mut sent) = (Vec::new(), false);
    while back.len() < LEN || !sent {
        let completion = it.collect_some();
        for completion in completion {
            let count = completion.result.unwrap();
            if completion.token == sending {
                sent = true;
                assert_eq!(count, LEN);
            } else {
                assert!(count > 0, "the echo ended early");
                back.extend_from_slice(&completion.buf.unwrap());
                if back.len() < LEN {
                    it.submit(recv(&ours, 100_000));
                }
            }
        }
    }
    assert_eq!(echo.join().unwrap(), LEN as u64);
    assert!(back == content[..]);
}

impl Loop {
    /// Waits for at least one completion.
    fn collect_some(&mut self) -> Vec<uring::Completion> {
        let mut completions = Vec::new();
        self.io.wait(Some(PATIENCE), &mut completions).unwrap();
        assert!(!completions.is_empty(), "nothing came");
        completions
    }
}

fn a_pending_receive_delays_nothing(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let place = Place::new();
    let file = place.direct("f", &[7; 4096]);
    let (ours, theirs) = pair();
    let receiving = it.submit(recv(&ours, 4096));
    for _ in 0..50 {
        let reading = it.submit(read(&file, 0, 4096));
        let completion = it.collect(1).pop().unwrap();
        assert_eq!((completion.token, completion.result.unwrap()), (reading, 4096));
    }
    assert_eq!(it.io.in_flight(), 1);
    drop(theirs);
    assert_eq!(it.collect(1)[0].token, receiving);
}

fn a_cancelled_receive_returns_its_buffer(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let (ours, mut theirs) = pair();
    for seen_by_the_kernel in [false, true] {
        let mut buf = AlignedBuf::with_capacity(8192);
        buf.extend_from_slice(b"kept");
        let token = it.submit(Op::Recv { socket: ours.as_raw_fd(), buf });
        if seen_by_the_kernel {
            it.expect_nothing(Duration::ZERO);
        }
        it.io.cancel(token + 1);
        it.io.cancel(token);
        let completion = it.collect(1).pop().unwrap();
        assert_eq!((completion.token, errno(&completion)), (token, Some(libc::ECANCELED)));
        let buf = completion.buf.unwrap();
        assert_eq!((&buf[..], buf.capacity()), (&b"kept"[..], 8192));
    }
    theirs.write_all(b"for the next").unwrap();
    assert_eq!(&it.run(recv(&ours, 4096)).buf.unwrap()[..], b"for the next");
}

fn a_cancelled_send_ends(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let (ours, _theirs) = pair();
    let content = Bytes::from(pattern(1, 4 << 20));
    let token = it.submit(send(&ours, vec![content.slice(..1 << 20), content.slice(1 << 20..)]));
    it.expect_nothing(Duration::from_millis(20));
    it.io.cancel(token);
    let completion = it.collect(1).pop().unwrap();
    assert_eq!((completion.token, errno(&completion)), (token, Some(libc::ECANCELED)));
    assert!(content.is_unique(), "the data is still owned by the loop");
}

fn wakes_from_another_thread(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let (ours, _theirs) = pair();
    it.submit(recv(&ours, 4096));
    let waker = it.io.waker();
    let (ask, asked) = std::sync::mpsc::sync_channel::<()>(1);
    let (answer, answered) = std::sync::mpsc::sync_channel::<u32>(1);
    let other = thread::spawn(move || {
        let mut count = 0;
        while asked.recv().is_ok() {
            count += 1;
            answer.send(count).unwrap();
            waker.wake();
        }
    });
    for round in 1..=1000 {
        ask.send(()).unwrap();
        // A wait may end by the wake of the round before, whose message was taken already.
        let message = loop {
            if let Ok(message) = answered.try_recv() {
                break message;
            }
            let start = Instant::now();
            it.expect_nothing(PATIENCE);
            assert!(start.elapsed() < PATIENCE, "the wake was lost");
        };
        assert_eq!(message, round);
    }
    drop(ask);
    other.join().unwrap();
}

fn wakes_are_not_lost_and_not_repeated(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let waker = it.io.waker();
    for _ in 0..3 {
        (0..100).for_each(|_| waker.wake());
        let start = Instant::now();
        it.expect_nothing(PATIENCE);
        assert!(start.elapsed() < PATIENCE / 2);
        let start = Instant::now();
        it.expect_nothing(Duration::from_millis(30));
        assert!(start.elapsed() >= Duration::from_millis(30), "one wake ended two waits");
    }
    drop(it);
    waker.wake();
}

fn waiting_takes_as_long_as_asked(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let (ours, _theirs) = pair();
    it.submit(recv(&ours, 4096));
    let start = Instant::now();
    it.expect_nothing(Duration::from_millis(60));
    assert!(start.elapsed() >= Duration::from_millis(60));
    let start = Instant::now();
    (0..100).for_each(|_| it.expect_nothing(Duration::ZERO));
    assert!(start.elapsed() < PATIENCE / 2);
    let waker = it.io.waker();
    let other = thread::spawn(move || waker.wake());
    it.expect_nothing(Duration::MAX);
    other.join().unwrap();
}

/// The drop is quick, and the streams end for the peers once their descriptors are closed: nobody holds them.
fn dropped_with_pending_receives_and_sends(backend: Backend) {
    let Some(mut it) = Loop::open(backend) else { return };
    let pairs: Vec<_> = (0..20).map(|_| pair()).collect();
    for (ours, _) in &pairs {
        it.submit(recv(ours, 65536));
        it.submit(send(ours, vec![aligned(1, 2 << 20)]));
    }
    it.expect_nothing(Duration::from_millis(10));
    for (ours, _) in &pairs {
        it.submit(recv(ours, 65536));
    }
    let start = Instant::now();
    drop(it);
    assert!(start.elapsed() < Duration::from_secs(4), "the drop took {:?}", start.elapsed());
    for (ours, mut theirs) in pairs {
        drop(ours);
        let mut rest = Vec::new();
        let end = theirs.read_to_end(&mut rest);
        assert!(end.is_ok() && rest.len() < 2 << 20, "{end:?} after {} bytes", rest.len());
    }
}

fn ten_thousand_mixed_operations(backend: Backend) {
    const ROUNDS: u64 = 2500;
    const DEPTH: usize = 64;
    let options = RingOptions { entries: 16, ..RingOptions::default() };
    let Some(mut it) = Loop::open_with(backend, &options) else { return };
    let place = Place::new();
    let file = place.direct("f", &vec![0; 256 * 4096]);
    let pairs: Vec<(UnixStream, UnixStream)> = (0..8).map(|_| pair()).collect();
    let (mut round, mut ended, mut received, mut sent) = (0, 0, 0, 0);
    while ended < 4 * ROUNDS {
        while round < ROUNDS && it.io.in_flight() + 4 <= DEPTH {
            let (left, right) = &pairs[(round % 8) as usize];
            let block = round % 256 * 4096;
            let data = [aligned(round, 2048), aligned(round + 1, 2048)];
            it.submit(send(left, vec![data[0].slice(..100), data[1].slice(..(round % 1000) as usize + 1)]));
            it.submit(recv(right, 4096));
            let durability = if round % 16 == 0 { Durability::Durable } else { Durability::Written };
            it.submit(Op::Write {
                file: file.fd(),
                offset: block,
                data: vec![aligned(round, 4096)],
                durability,
            });
            let fourth =
                if round % 64 == 0 { Op::Sync { file: file.fd() } } else { read(&file, block, 4096) };
            it.submit(fourth);
            sent += 101 + round % 1000;
            round += 1;
        }
        let in_flight = it.io.in_flight();
        let completions = it.collect_some();
        assert_eq!(it.io.in_flight() + completions.len(), in_flight);
        for completion in completions {
            ended += 1;
            let count = completion.result.unwrap();
            match (completion.token % 4, completion.buf) {
                (2, Some(buf)) => {
                    assert!(count == buf.len() && count > 0);
                    received += count as u64;
                }
                (3, None) => assert_eq!(count, 4096),
                (0, Some(_)) => assert_eq!(count, 4096),
                (1, None) | (0, None) => {}
                (kind, buf) => panic!("a buffer of the wrong operation: {kind} {buf:?}"),
            }
        }
    }
    assert_eq!((it.io.in_flight(), round), (0, ROUNDS));
    // A receive may take two messages and leave a later one to nobody; then bytes are left in the sockets.
    for (_, right) in &pairs {
        right.set_nonblocking(true).unwrap();
        let mut rest = Vec::new();
        let _ = (&*right).read_to_end(&mut rest);
        received += rest.len() as u64;
    }
    assert_eq!(received, sent);
    assert_eq!(it.run(read(&file, 0, 4096)).buf.unwrap()[..], pattern(2304, 4096));
}
