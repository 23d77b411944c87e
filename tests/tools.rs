//! The clients that people have: libnbd's tools, QEMU's, fio; and a checker that knows what every read must return.

mod harness;

use std::time::Duration;

use harness::place::Place;
use harness::process::{self, must, output};
use harness::random::Random;
use harness::server::{Server, Setup};
use harness::{PYTHON, client, rounds};

const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(120);

fn uris(server: &Server, volume: &str) -> [String; 2] {
    [server.unix_uri(volume), server.tcp_uri(volume)]
}

/// A file of `size` bytes: random stretches and holes.
fn patchy_file(place: &Place, name: &str, size: u64, random: &mut Random) -> String {
    use std::os::unix::fs::FileExt;
    let path = place.path(name);
    let file = std::fs::File::create(&path).expect("file");
    file.set_len(size).expect("length");
    let mut at = 0;
    while at < size {
        let length = (512 * random.between(1, 1000)).min(size - at);
        if random.below(3) > 0 {
            let mut data = vec![0; length as usize];
            random.fill(&mut data);
            file.write_all_at(&data, at).expect("write");
        }
        at += length;
    }
    path
}

#[test]
fn nbdinfo_describes_the_export() {
    let place = Place::new("info");
    let server = Setup::new(&place).volume("first", 8 * MIB).volume("second", 3 * 512).start();
    for uri in uris(&server, "first") {
        let info: serde_json::Value =
            serde_json::from_str(&output("nbdinfo", &["--json", &uri])).expect("JSON");
        assert_eq!(info["protocol"], "newstyle-fixed", "{info}");
        let export = &info["exports"][0];
        assert_eq!(export["export-size"], 8 * MIB, "{info}");
        assert_eq!(export["is_read_only"], false, "{info}");
        assert_eq!(export["can_multi_conn"], true, "{info}");
        assert_eq!(export["contexts"][0], "base:allocation", "{info}");
        let map = output("nbdinfo", &["--map", "--totals", &uri]);
        assert!(map.contains("100.0%") && map.contains("hole,zero"), "a fresh volume is a hole: {map}");
    }
    assert_eq!(output("nbdinfo", &["--size", &server.tcp_uri("second")]).trim(), "1536");
    let missing = process::run("nbdinfo", &[&server.tcp_uri("third")], LIMIT);
    assert!(!missing.status.success(), "an unknown export must be refused: {}", missing.stdout);
    let list = output("nbdinfo", &["--list", "--json", &server.tcp_uri("")]);
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    let exports = list["exports"].as_array().expect("exports");
    let mut names: Vec<&str> = exports.iter().filter_map(|export| export["export-name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["first", "second"]);
    server.shut_down();
}

#[test]
fn nbdcopy_both_ways() {
    let place = Place::new("copy");
    let size = 40 * MIB + 512 * 3;
    let server = Setup::new(&place).volume("v", size).volume("w", size).start();
    let (mut random, _) = Random::announced("nbdcopy");
    for uri in uris(&server, "v") {
        let original = patchy_file(&place, "original", size, &mut random);
        must("nbdcopy", &["--flush", &original, &uri], LIMIT);
        let back = place.path("back");
        must("nbdcopy", &[&uri, &back], LIMIT);
        must("cmp", &[&original, &back], LIMIT);
        // From volume to volume, both of the same server.
        must("nbdcopy", &[&uri, &server.tcp_uri("w")], LIMIT);
        must("nbdcopy", &["--no-extents", &server.unix_uri("w"), &back], LIMIT);
        must("cmp", &[&original, &back], LIMIT);
    }
    server.shut_down();
}

#[test]
fn qemu_img_converts_and_compares() {
    let place = Place::new("qimg");
    let size = 40 * MIB;
    let setup = Setup::new(&place).volume("v", size);
    let mut server = setup.start();
    let (mut random, _) = Random::announced("qemu-img");
    for round in 0..2 {
        let raw = patchy_file(&place, "raw", size, &mut random);
        let packed = place.path("packed.qcow2");
        let uri = &uris(&server, "v")[round];
        must("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &raw, &packed], LIMIT);
        must("qemu-img", &["convert", "-n", "-f", "qcow2", "-O", "raw", &packed, uri], LIMIT);
        must("qemu-img", &["compare", "-f", "raw", "-F", "raw", &raw, uri], LIMIT);
        must("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", uri, &packed], LIMIT);
        must("qemu-img", &["compare", "-f", "raw", "-F", "qcow2", &raw, &packed], LIMIT);
        server = server.shut_down().start();
        let uri = &uris(&server, "v")[round];
        must("qemu-img", &["compare", "-f", "raw", "-F", "raw", &raw, uri], LIMIT);
        // A comparison that cannot fail shows nothing.
        must("qemu-io", &["-f", "raw", "-c", "write -P 0x5a 1M 512", uri], LIMIT);
        let differs = process::run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &raw, uri], LIMIT);
        assert_eq!(differs.code(), 1, "{}{}", differs.stdout, differs.stderr);
    }
    server.shut_down();
}

#[test]
fn qemu_io_patterns() {
    let place = Place::new("qio");
    let server = Setup::new(&place).volume("v", 64 * MIB).start();
    for uri in uris(&server, "v") {
        let commands = [
            "write -P 0xa1 0 256k",
            "write -P 0xa2 100k 3584",
            "read -P 0xa1 0 100k",
            "read -P 0xa2 100k 3584",
            "read -P 0xa1 106496 64k",
            "write -z 128k 64k",
            "read -P 0 128k 64k",
            "write -z -u 192k 4k",
            "read -P 0 192k 4k",
            "discard 0 64k",
            "read -P 0xa1 64k 36k",
            "write -f -P 0xa3 4095 3",
            "read -P 0xa3 4095 3",
            "aio_write -P 0xa4 1M 1M",
            "aio_write -P 0xa5 2M 1M",
            "aio_flush",
            "read -P 0xa4 1M 1M",
            "read -P 0xa5 2M 1M",
            "flush",
        ];
        let mut arguments = vec!["-f", "raw"];
        for command in &commands {
            arguments.extend(["-c", command]);
        }
        arguments.push(&uri);
        let said = must("qemu-io", &arguments, LIMIT);
        assert!(!said.contains("failed"), "{said}");
        let wrong = process::run("qemu-io", &["-f", "raw", "-c", "read -P 0x77 1M 4k", &uri], LIMIT);
        assert!(
            wrong.stdout.contains("Pattern verification failed"),
            "qemu-io must notice: {}{}",
            wrong.stdout,
            wrong.stderr
        );
    }
    server.shut_down();
}

/// Random sizes, offsets and alignments, with trims; every block is verified when all is written.
#[test]
fn fio_verifies() {
    let place = Place::new("fio");
    let server = Setup::new(&place).volume("v", 128 * MIB).start();
    let (_, seed) = Random::announced("fio");
    for (i, uri) in uris(&server, "v").iter().enumerate() {
        let size = rounds(64, 120);
        let job = [
            "--name=verify",
            "--ioengine=nbd",
            &format!("--uri={uri}"),
            "--rw=randwrite",
            "--bsrange=512-256k",
            "--blockalign=512",
            &format!("--size={size}m"),
            "--iodepth=32",
            "--serialize_overlap=1",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_state_save=0",
            "--trim_percentage=10",
            "--trim_verify_zero=1",
            "--fsync=64",
            "--randrepeat=0",
            &format!("--randseed={}", seed + i as u64),
            "--output-format=json",
        ];
        let said = must("fio", &job, LIMIT);
        let report: serde_json::Value =
            serde_json::from_str(&said[said.find('{').expect("JSON")..]).expect("JSON");
        let job = &report["jobs"][0];
        assert_eq!(job["error"], 0, "{said}");
        let count = |kind: &str| job[kind]["total_ios"].as_u64().expect("a number");
        assert!(count("write") > 100 && count("read") > 100, "written and read back: {said}");
    }
    server.shut_down();
}

/// Several jobs at once, each with its part of the volume and its own connection, mixed reads and writes.
#[test]
fn fio_verifies_over_many_connections() {
    let place = Place::new("fiom");
    let server = Setup::new(&place).volume("v", 128 * MIB).start();
    let (_, seed) = Random::announced("fio, many connections");
    // Not fio's own `loops`: with a mix it takes the second loop's seeds for what the first one wrote, and complains
    // about every server.
    for round in 0..rounds(1, 10) {
        let job = [
            "--name=many",
            "--ioengine=nbd",
            &format!("--uri={}", server.unix_uri("v")),
            "--rw=randrw",
            "--bsrange=512-64k",
            "--blockalign=512",
            "--size=16m",
            "--offset_increment=24m",
            "--numjobs=4",
            "--iodepth=16",
            "--serialize_overlap=1",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_state_save=0",
            "--randrepeat=0",
            &format!("--randseed={}", seed.wrapping_add(round)),
            "--group_reporting=1",
        ];
        must("fio", &job, Duration::from_secs(300));
    }
    server.shut_down();
}

#[test]
fn protocol_semantics() {
    let place = Place::new("sem");
    let server = Setup::new(&place).volume("v", 64 * MIB).start();
    let [unix, tcp] = uris(&server, "v");
    must(PYTHON, &["-B", &client("semantics.py"), "--uri", &unix, "--uri", &tcp], LIMIT);
    server.shut_down();
}

/// The workhorse: random requests of every kind over several connections, and the same again after a restart.
#[test]
fn model_checked_random_requests() {
    let place = Place::new("model");
    let setup = Setup::new(&place).volume("v", 32 * MIB + 512);
    let (_, seed) = Random::announced("model");
    let state = place.path("state");
    for round in 0..rounds(3, 30) {
        let server = setup.start();
        let [unix, tcp] = uris(&server, "v");
        let arguments = [
            "-B",
            &client("model.py"),
            "--uri",
            &unix,
            "--uri",
            &tcp,
            "--size",
            &(32 * MIB + 512).to_string(),
            "--seed",
            &(seed + round).to_string(),
            "--ops",
            &rounds(4000, 20000).to_string(),
            "--connections",
            "4",
            "--state",
            &state,
        ];
        must(PYTHON, &arguments, Duration::from_secs(300));
        // By turns an orderly end and a crash: the model was told of every acknowledgement.
        if round % 2 == 0 {
            server.shut_down();
        } else {
            server.kill();
        }
    }
}
