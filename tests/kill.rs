//! `kill -9` at random moments under load: no acknowledged write is lost, none that was lost comes back.

mod harness;

use std::time::Duration;

use harness::place::{LoopFs, Place};
use harness::random::Random;
use harness::server::Setup;
use harness::writer::{Writer, random_moment};
use harness::{process, root_or_skip, rounds};

const VOLUME: u64 = 32 << 20;

/// Rounds of: start, verify everything, load, kill. The last thing is a verification after an orderly restart.
fn survive(place: &Place, what: &str) {
    let (mut random, seed) = Random::announced(what);
    let setup = Setup::new(place).volume("v", VOLUME);
    let mut writer = Writer::spawn(place, VOLUME, seed);
    let mut acked = 0;
    for round in 0..rounds(10, 100) {
        let mut server = setup.start();
        // The transports take turns.
        let uri = if round % 2 == 0 { server.unix_uri("v") } else { server.tcp_uri("v") };
        let (parts, lost) = writer.verify(&uri);
        writer.load(&uri, 50);
        let moment = random_moment(&mut random, Duration::from_millis(1500));
        server.assert_alive();
        let ready = server.time_to_ready();
        server.kill();
        let load = writer.dead();
        acked += load.acked;
        eprintln!(
            "{what} {round}: {parts} parts right, {lost} unacknowledged lost; ready after {ready:?}, \
             killed after {moment:?}, {load:?}"
        );
    }
    let server = setup.start();
    writer.verify(&server.unix_uri("v"));
    let setup = server.shut_down();
    let server = setup.start();
    writer.verify(&server.tcp_uri("v"));
    writer.finish();
    assert!(acked > 500 * rounds(1, 10), "only {acked} writes were acknowledged: this was no load");
}

#[test]
fn no_acknowledged_write_is_lost() {
    survive(&Place::new("kill"), "kill");
}

#[test]
fn no_acknowledged_write_is_lost_on_a_journaled_file_system() {
    if !root_or_skip("kill rounds on ext4 over a loop device") {
        return;
    }
    let place = Place::new("killj");
    let _mounted = LoopFs::mount(&place, 2 << 30);
    survive(&place, "kill (journaled ext4)");
}

/// fio's own opinion: what it wrote before the kill verifies after the restart.
#[test]
fn fio_verifies_what_it_wrote_before_the_kill() {
    let place = Place::new("killf");
    let (_, seed) = Random::announced("kill (fio)");
    let setup = Setup::new(&place).volume("v", 64 << 20);
    for round in 0..rounds(3, 20) {
        let server = setup.start();
        fio(&server.unix_uri("v"), seed + round, "--do_verify=0");
        server.kill();
        let server = setup.start();
        fio(&server.tcp_uri("v"), seed + round, "--verify_only=1");
        server.kill();
    }
}

fn fio(uri: &str, seed: u64, phase: &str) {
    let arguments = [
        "--name=kill",
        "--ioengine=nbd",
        &format!("--uri={uri}"),
        "--rw=randwrite",
        "--bsrange=512-128k",
        "--blockalign=512",
        "--size=48m",
        "--iodepth=32",
        "--serialize_overlap=1",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--randrepeat=0",
        &format!("--randseed={seed}"),
        "--output-format=terse",
        phase,
    ];
    process::must("fio", &arguments, Duration::from_secs(120));
}
