//! Clients that are broken or mean. Whatever they send, a good client beside them is not disturbed, its data stay
//! right, and memory stays bounded.

mod harness;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::checked::Checked;
use harness::nbd::{self, Client, Failure, Stream, cmd, code};
use harness::place::Place;
use harness::random::Random;
use harness::server::{Server, Setup};
use harness::{process, rounds};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
/// What the process may take at most, whatever it is asked: its configured bounds and some room.
const MEMORY: u64 = 400 * MIB;

/// A client that works all the time and checks every read.
struct Good {
    stop: Arc<AtomicBool>,
    progress: Receiver<()>,
    thread: Option<JoinHandle<Checked>>,
}

impl Good {
    fn start(address: &str, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        // A full channel does not hold it up: progress is told with `try_send`.
        let (sender, progress) = sync_channel(1);
        let client = Client::open(address, "good", PATIENCE).expect("a connection");
        let checked = Checked::new(client, seed);
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || Self::work(checked, seed, &stop, &sender)
        });
        Self { stop, progress, thread: Some(thread) }
    }

    fn work(mut checked: Checked, seed: u64, stop: &AtomicBool, progress: &SyncSender<()>) -> Checked {
        let mut random = Random::new(seed);
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..20 {
                let batch = checked.random_batch(&mut random, 8, 16);
                checked.write_batch(&batch).expect("the good client's writes");
                let run = checked.random_run(&mut random, 32);
                checked.read(run).expect("the good client's reads");
            }
            checked.client().flush().expect("the good client's flush");
            let _ = progress.try_send(());
        }
        checked
    }

    /// Waits until it has done a whole round that began after now.
    fn must_go_on(&self, while_what: &str) {
        for _ in 0..3 {
            if self.progress.recv_timeout(PATIENCE).is_err() {
                panic!("while {while_what}, the good client stood still for {PATIENCE:?}, or ended");
            }
        }
    }

    fn finish(mut self) -> Checked {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("running").join().expect("the good client found nothing wrong")
    }
}

/// One server, one good client over each transport, one victim volume for the others.
struct Scene {
    good: Good,
    server: Server,
    random: Random,
    _place: Place,
}

impl Scene {
    fn new(name: &str) -> Self {
        let (random, seed) = Random::announced(name);
        let place = Place::new(name);
        let setup = Setup::new(&place).volume("good", 32 * MIB).volume("bad", 32 * MIB);
        let server = setup.start();
        let good = Good::start(&server.socket(), seed);
        Self { good, server, random, _place: place }
    }

    fn connect(&self) -> Stream {
        Stream::connect(&self.server.tcp_address(), PATIENCE).expect("the port answers")
    }

    fn open(&self) -> Client {
        Client::open(&self.server.tcp_address(), "bad", PATIENCE).expect("an honest handshake")
    }

    /// After an attack: alive, small, and good to the good.
    fn check(&mut self, after: &str) {
        self.server.assert_alive();
        self.good.must_go_on(after);
        let mut client = self.open();
        client.write(0, b"still here").expect("a write by a new client");
        assert_eq!(client.read(0, 10).expect("a read by a new client"), b"still here");
        let memory = self.server.memory("VmHWM");
        eprintln!("{after}: peak memory {} MiB", memory / MIB);
        assert!(memory < MEMORY, "{after}: {} MiB", memory / MIB);
    }

    fn end(self) {
        let mut checked = self.good.finish();
        checked.verify_all();
        drop(checked);
        self.server.shut_down();
    }
}

/// Reads until the server closes; what it says does not matter, but it must end, one way or the other.
fn drain(stream: &mut Stream) {
    close_writing(stream);
    let mut rest = [0; 4096];
    while matches!(stream.read(&mut rest), Ok(length) if length > 0) {}
}

fn close_writing(stream: &Stream) {
    let _ = match stream {
        Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
        Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
    };
}

/// The bytes of a whole honest conversation, to be spoiled.
fn conversation() -> Vec<u8> {
    let mut bytes = 3u32.to_be_bytes().to_vec();
    bytes.extend(nbd::option(8, &[])); // structured replies
    let context = b"base:allocation";
    let mut meta = 3u32.to_be_bytes().to_vec();
    meta.extend_from_slice(b"bad");
    meta.extend_from_slice(&1u32.to_be_bytes());
    meta.extend_from_slice(&(context.len() as u32).to_be_bytes());
    meta.extend_from_slice(context);
    bytes.extend(nbd::option(10, &meta)); // set meta context
    let mut go = 3u32.to_be_bytes().to_vec();
    go.extend_from_slice(b"bad");
    go.extend_from_slice(&1u16.to_be_bytes());
    go.extend_from_slice(&3u16.to_be_bytes()); // block sizes, please
    bytes.extend(nbd::option(7, &go));
    for (i, command) in
        [cmd::WRITE, cmd::READ, cmd::TRIM, cmd::WRITE_ZEROES, cmd::BLOCK_STATUS, cmd::FLUSH, cmd::CACHE]
            .into_iter()
            .enumerate()
    {
        let length = if command == cmd::FLUSH { 0 } else { 4096 };
        bytes.extend(nbd::request(command, 0, i as u64, 8192 * i as u64, length));
        if command == cmd::WRITE {
            bytes.extend([0x42; 4096]);
        }
    }
    bytes.extend(nbd::request(cmd::DISC, 0, 99, 0, 0));
    bytes
}

#[test]
fn random_and_mutated_bytes() {
    let mut scene = Scene::new("bytes");
    for _ in 0..rounds(200, 5000) {
        let mut stream = scene.connect();
        let mut noise = vec![0; scene.random.between(1, 5000) as usize];
        scene.random.fill(&mut noise);
        let _ = stream.write_all(&noise);
        drain(&mut stream);
    }
    scene.check("random bytes");

    let honest = conversation();
    for _ in 0..rounds(500, 20000) {
        let mut bytes = honest.clone();
        for _ in 0..scene.random.between(1, 4) {
            let at = scene.random.below(bytes.len() as u64) as usize;
            match scene.random.below(4) {
                0 => bytes[at] ^= 1 << scene.random.below(8),
                1 => bytes[at] = *scene.random.pick(&[0, 0x7f, 0x80, 0xff]),
                2 => drop(bytes.drain(at..(at + scene.random.between(1, 40) as usize).min(bytes.len()))),
                _ => bytes.insert(at, scene.random.next() as u8),
            }
            if bytes.is_empty() {
                break;
            }
        }
        // All at once, or cut in two somewhere.
        let cut = scene.random.below(bytes.len() as u64 + 1) as usize;
        let mut stream = scene.connect();
        let _ = stream.write_all(&bytes[..cut]).and_then(|()| stream.write_all(&bytes[cut..]));
        drain(&mut stream);
    }
    scene.check("mutated conversations");
    scene.end();
}

#[test]
fn wrong_handshakes() {
    let mut scene = Scene::new("shake");
    // An unknown export is refused, and the client may choose again.
    let unknown = Client::open(&scene.server.tcp_address(), "no such volume", PATIENCE).err();
    assert_eq!(unknown, Some(Failure::Refused(0x8000_0006)), "NBD_REP_ERR_UNKNOWN");
    let mut stream = scene.connect();
    nbd::greet(&mut stream).expect("a greeting");
    stream.write_all(&nbd::option(7, &[0, 0, 0, 3, b'a', b'b', b'c', 0, 0])).expect("sent");
    assert_eq!(nbd::option_reply(&mut stream).expect("a reply").0, 0x8000_0006);
    stream.write_all(&nbd::option(0x5555, b"what")).expect("sent");
    assert_eq!(nbd::option_reply(&mut stream).expect("a reply").0, 0x8000_0001, "NBD_REP_ERR_UNSUP");
    stream.write_all(&nbd::option(7, b"x")).expect("sent");
    let malformed = nbd::option_reply(&mut stream).expect("a reply").0;
    assert_eq!(malformed, 0x8000_0003, "NBD_REP_ERR_INVALID");
    stream.write_all(&nbd::option(2, &[])).expect("sent");
    assert_eq!(nbd::option_reply(&mut stream).expect("the abort is acknowledged").0, 1);

    // Wrong magic, and options that announce 4 GiB: closed, or refused and closed.
    for start in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0; 4096], vec![0xff; 64], {
        let mut huge = 3u32.to_be_bytes().to_vec();
        huge.extend_from_slice(&nbd::IHAVEOPT.to_be_bytes());
        huge.extend_from_slice(&7u32.to_be_bytes());
        huge.extend_from_slice(&u32::MAX.to_be_bytes());
        huge
    }] {
        let mut stream = scene.connect();
        let _ = stream.write_all(&start);
        drain(&mut stream);
    }
    // A great many options that are all in order, with a reader that is slow to look.
    let mut stream = scene.connect();
    nbd::greet(&mut stream).expect("a greeting");
    for _ in 0..2000 {
        if stream.write_all(&nbd::option(3, &[])).is_err() {
            break;
        }
    }
    drain(&mut stream);
    scene.check("wrong handshakes");
    scene.end();
}

#[test]
fn requests_beyond_every_limit() {
    let mut scene = Scene::new("limits");
    let mut client = scene.open();
    let end = client.size();
    let refused = |result: Result<(), Failure>, codes: &[u32], what: &str| match result {
        Err(Failure::Refused(got)) if codes.contains(&got) => {}
        other => panic!("{what}: {other:?}, must be refused with one of {codes:?}"),
    };
    let bounds = [code::EINVAL, code::ENOSPC];
    let lengths = [code::EINVAL, code::EOVERFLOW];
    refused(client.raw(cmd::READ, 0, end, 1, &[]), &bounds, "read behind the end");
    refused(client.raw(cmd::READ, 0, end - 1, 2, &[]), &bounds, "read over the end");
    refused(client.raw(cmd::READ, 0, u64::MAX, 4096, &[]), &bounds, "an offset that overflows");
    refused(client.raw(cmd::READ, 0, u64::MAX - 4095, 4096, &[]), &bounds, "an end that overflows");
    refused(client.raw(cmd::WRITE, 0, end - 1, 2, b"xy"), &bounds, "write over the end");
    refused(client.raw(cmd::WRITE, 0, u64::MAX - 1, 4, b"abcd"), &bounds, "a write that overflows");
    refused(client.raw(cmd::TRIM, 0, end, 1, &[]), &bounds, "trim behind the end");
    refused(client.raw(cmd::TRIM, 0, 0, u32::MAX, &[]), &bounds, "trim of 4 GiB");
    refused(client.raw(cmd::WRITE_ZEROES, 0, end - 4096, 8192, &[]), &bounds, "zeroes over the end");
    refused(client.raw(cmd::WRITE_ZEROES, 0, 0, u32::MAX, &[]), &bounds, "zeroes of 4 GiB");
    refused(client.raw(cmd::READ, 0, 0, u32::MAX, &[]), &lengths, "read of 4 GiB");
    refused(client.raw(0x77, 0, 0, 4096, &[]), &[code::EINVAL], "an unknown request");
    refused(
        client.raw(cmd::BLOCK_STATUS, 0, 0, 4096, &[]),
        &[code::EINVAL],
        "block status without a context",
    );
    refused(client.raw(cmd::READ, 0x8000, 0, 4096, &[]), &[code::EINVAL], "an unknown flag");
    // After all these the connection still works.
    client.write(100, b"fine").expect("a write");
    assert_eq!(client.read(100, 4).expect("a read"), b"fine");

    // A write that announces 4 GiB and sends a little: refused or cut off, and nothing of it is kept in memory.
    for _ in 0..20 {
        let mut client = scene.open();
        let _ = client.send(cmd::WRITE, 0, 0, u32::MAX, &[0x66; 65536]);
        drain(client.stream());
    }
    // Wrong magic in the middle of transmission: this connection ends, no other.
    let mut client = scene.open();
    let mut bad = nbd::request(cmd::READ, 0, 1, 0, 4096);
    bad[0] ^= 0xff;
    client.stream().write_all(&bad).expect("sent");
    assert!(matches!(client.receive(), Err(Failure::Gone(_))), "wrong magic must end the connection");
    scene.check("requests beyond the limits");
    scene.end();
}

#[test]
fn silence_in_the_middle() {
    let mut scene = Scene::new("silence");
    let mut silent = Vec::new();
    let honest = conversation();
    // Fewer than may negotiate at once: those have their own bound, and a time limit.
    for i in 0..60 {
        let mut stream = scene.connect();
        let _ = stream.write_all(&honest[..1 + (i as usize * 37) % 120]);
        silent.push(stream);
    }
    let mut halfway = Vec::new();
    for i in 0..rounds(60, 1000) {
        let mut client = scene.open();
        let mut request = nbd::request(cmd::WRITE, 0, 1, 0, 256 * 1024);
        request.extend_from_slice(&[0x33; 1000]);
        let part = [5, 28, 528, 1028][i as usize % 4].min(request.len());
        client.stream().write_all(&request[..part]).expect("half a request");
        halfway.push(client);
    }
    scene.check("half handshakes and half requests");
    drop((silent, halfway));
    scene.check("they have gone");
    scene.end();
}

/// Asks for gigabytes and reads nothing: the server stops listening to it, and to nobody else.
#[test]
fn a_client_that_never_reads_its_replies() {
    let mut scene = Scene::new("unread");
    let mut deaf = Vec::new();
    for i in 0..rounds(6, 40) {
        let mut client = scene.open();
        client.write(0, &[0x77; 65536]).expect("a write");
        let patience = Some(Duration::from_secs(1));
        match client.stream() {
            Stream::Tcp(stream) => stream.set_write_timeout(patience).expect("a time limit"),
            Stream::Unix(stream) => stream.set_write_timeout(patience).expect("a time limit"),
        }
        let mut asked = 0u64;
        let (command, length) = if i % 3 == 2 { (cmd::FLUSH, 0) } else { (cmd::READ, MIB as u32) };
        while asked < 50_000 && client.send(command, 0, 0, length, &[]).is_ok() {
            asked += 1;
        }
        eprintln!("client {i} asked {asked} times");
        deaf.push(client);
        scene.good.must_go_on("a client does not read");
    }
    scene.check("clients that never read");
    drop(deaf);
    scene.check("they have gone");
    scene.end();
}

/// Ends without a goodbye while the server works for them.
#[test]
fn clients_that_vanish_under_load() {
    let mut scene = Scene::new("vanish");
    for _ in 0..rounds(60, 2000) {
        let mut client = scene.open();
        for i in 0..64u64 {
            let offset = scene.random.below(31 * MIB);
            let sent = if i % 2 == 0 {
                client.send(cmd::WRITE, 0, offset, 32768, &[0x11; 32768])
            } else {
                client.send(cmd::READ, 0, offset, 131072, &[])
            };
            if sent.is_err() {
                break;
            }
        }
        match client.stream() {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both).expect("closed"),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both).expect("closed"),
        }
    }
    scene.check("clients that vanish");
    scene.end();
}

#[test]
fn a_thousand_connections() {
    const COUNT: usize = 1000;
    let own = std::process::id().to_string();
    process::must("prlimit", &["--pid", &own, "--nofile=8192"], PATIENCE);
    let mut scene = Scene::new("crowd");
    let begun = Instant::now();
    let mut clients: Vec<Client> = (0..COUNT).map(|_| scene.open()).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        client.send(cmd::WRITE, 0, 4096 * (i as u64 + 1), 4096, &[i as u8 | 1; 4096]).expect("sent");
    }
    for client in &mut clients {
        assert_eq!(client.receive().expect("an answer").1, 0);
    }
    for (i, client) in clients.iter_mut().enumerate() {
        let data = client.read(4096 * (i as u64 + 1), 4096).expect("a read");
        assert!(data.iter().all(|byte| *byte == i as u8 | 1), "connection {i}");
    }
    eprintln!("{COUNT} connections, a write and a read on each, in {:?}", begun.elapsed());
    scene.check("a thousand connections");
    drop(clients);
    scene.check("they have gone");
    scene.end();
}
