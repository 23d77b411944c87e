//! The orderly end: SIGTERM under load, exit code 0, and everything acknowledged is there afterwards.

mod harness;

use std::time::Duration;

use harness::nbd::Client;
use harness::place::Place;
use harness::random::Random;
use harness::rounds;
use harness::server::Setup;
use harness::writer::{Writer, random_moment};

const VOLUME: u64 = 32 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn sigterm_under_load_keeps_everything_acknowledged() {
    let place = Place::new("term");
    let (mut random, seed) = Random::announced("shutdown");
    let setup = Setup::new(&place).volume("v", VOLUME);
    let mut writer = Writer::spawn(&place, VOLUME, seed);
    for round in 0..rounds(5, 50) {
        let server = setup.start();
        let uri = if round % 2 == 0 { server.unix_uri("v") } else { server.tcp_uri("v") };
        writer.verify(&uri);
        writer.load(&uri, 200);
        let moment = random_moment(&mut random, Duration::from_millis(700));
        // Exit code 0 is checked in there.
        server.shut_down();
        let load = writer.dead();
        eprintln!("round {round}: ended after {moment:?}, {load:?}");
        assert!(load.acked >= 200, "{load:?}");
    }
    let server = setup.start();
    writer.verify(&server.unix_uri("v"));
    writer.finish();
    server.shut_down();
}

/// Clients that are connected and silent, or in the middle of a request, do not hold up the end.
#[test]
fn sigterm_with_silent_clients_ends_at_once() {
    let place = Place::new("idle");
    let server = Setup::new(&place).volume("v", VOLUME).start();
    let mut silent = Client::open(&server.socket(), "v", PATIENCE).expect("a connection");
    silent.write(0, b"kept").expect("a write");
    let mut halfway = Client::open(&server.tcp_address(), "v", PATIENCE).expect("a connection");
    let half = harness::nbd::request(harness::nbd::cmd::WRITE, 0, 1, 4096, 4096);
    std::io::Write::write_all(halfway.stream(), &half).expect("sent");
    let begun = std::time::Instant::now();
    let setup = server.shut_down();
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    let server = setup.start();
    let mut client = Client::open(&server.socket(), "v", PATIENCE).expect("a connection");
    assert_eq!(client.read(0, 8).expect("a read"), b"kept\0\0\0\0");
    server.shut_down();
}

/// Two processes on one directory would destroy it: the second is refused, the first does not notice.
#[test]
fn a_second_server_on_the_directory_is_refused() {
    let place = Place::new("second");
    let setup = Setup::new(&place).volume("v", VOLUME);
    let mut server = setup.start();
    let mut client = Client::open(&server.socket(), "v", PATIENCE).expect("a connection");
    client.write(4096, b"first").expect("a write");
    let refused = setup.try_start().err().expect("a second server on the same directory must not start");
    assert!(refused.contains("ended before it was ready"), "{refused}");
    server.assert_alive();
    assert_eq!(client.read(4096, 5).expect("a read"), b"first");
    let mut another = Client::open(&server.tcp_address(), "v", PATIENCE).expect("still reachable");
    assert_eq!(another.read(4096, 5).expect("a read"), b"first");
    server.shut_down();
}
