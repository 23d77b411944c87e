//! Clients that others wrote: `nbdinfo`, `nbdcopy` and `qemu-img`, over TCP and a unix socket.
//!
//! They come with the packages `libnbd-bin` and `qemu-utils`; without them these tests fail.

mod nbd_toy;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;

use nbd_toy::{Served, Shelf, Toy};
use serde_json::Value;

/// Not a multiple of anything but sectors.
const SIZE: usize = (40 << 20) + 512;

/// Runs a client for at most a minute; its standard output.
#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new("timeout")
        .arg("60")
        .arg(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("timeout(1) cannot be run: {error}"));
    // What timeout(1) and env(1) say of a program that is not there.
    assert_ne!(
        output.status.code(),
        Some(127),
        "{program} is not installed (packages libnbd-bin, qemu-utils)"
    );
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

fn json(program: &str, arguments: &[&str]) -> Value {
    let text = run(program, arguments);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// The addresses of an export, over TCP and over the unix socket.
fn addresses(served: &Served, export: &str) -> [String; 2] {
    [
        format!("nbd://127.0.0.1:{}/{export}", served.port),
        format!("nbd+unix:///{export}?socket={}", served.socket.display()),
    ]
}

/// Data in the first MiB, then a hole, then data at an odd place and at the end.
fn fill(toy: &Toy) {
    let bytes: Vec<u8> = (0..1 << 20).map(|at: usize| (at / 4096 * 7 + at % 253) as u8).collect();
    toy.write(0, &bytes);
    toy.write((10 << 20) + 12_345, &bytes[..777_777]);
    toy.write(SIZE - 1000, &bytes[..1000]);
}

#[test]
fn nbdinfo_describes_an_export() {
    let served = Served::new("info", Shelf(vec![Toy::new("disk", SIZE), Toy::new("b", 4096)]));
    for address in addresses(&served, "disk") {
        let info = json("nbdinfo", &["--json", &address]);
        assert_eq!(info["protocol"], "newstyle-fixed");
        assert_eq!(info["structured"], true);
        let export = &info["exports"][0];
        assert_eq!(export["export-name"], "disk");
        assert_eq!(export["export-size"], SIZE);
        assert_eq!(export["description"], format!("volume of {SIZE} bytes"));
        assert_eq!(export["contexts"], serde_json::json!(["base:allocation"]));
        assert_eq!(export["block_size_minimum"], 1);
        assert_eq!(export["block_size_preferred"], 4096);
        assert_eq!(export["block_size_maximum"], 32 << 20);
        for ability in ["cache", "df", "fast_zero", "flush", "fua", "multi_conn", "trim", "zero"] {
            assert_eq!(export[format!("can_{ability}")], true, "{ability}");
        }
        assert_eq!(export["is_read_only"], false);
        assert_eq!(export["is_rotational"], false);
    }
}

#[test]
fn nbdinfo_lists_exports() {
    let served = Served::new("list", Shelf(vec![Toy::new("disk", SIZE), Toy::new("b", 4096)]));
    for address in addresses(&served, "") {
        let list = json("nbdinfo", &["--list", "--json", &address]);
        let mut exports: Vec<(&str, u64)> = list["exports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|export| (export["export-name"].as_str().unwrap(), export["export-size"].as_u64().unwrap()))
            .collect();
        exports.sort_unstable();
        assert_eq!(exports, [("b", 4096), ("disk", SIZE as u64)]);
    }
}

#[test]
fn nbdinfo_maps_data_and_holes() {
    let toy = Toy::new("disk", 1 << 20);
    toy.write(128 << 10, &[1; 4096]);
    let served = Served::new("map", Shelf(vec![toy]));
    // The only export is the default one too.
    for address in addresses(&served, "disk").into_iter().chain(addresses(&served, "")) {
        let map = json("nbdinfo", &["--map", "--json", &address]);
        let extents: Vec<(u64, u64, u64)> = map
            .as_array()
            .unwrap()
            .iter()
            .map(|extent| {
                let field = |name: &str| extent[name].as_u64().unwrap();
                (field("offset"), field("length"), field("type"))
            })
            .collect();
        assert_eq!(extents, [(0, 131_072, 3), (131_072, 65_536, 0), (196_608, 851_968, 3)]);
    }
}

#[test]
fn nbdcopy_reads_what_is_there() {
    let toy = Toy::new("disk", SIZE);
    fill(&toy);
    let contents = toy.contents();
    let served = Served::new("out", Shelf(vec![toy]));
    for address in addresses(&served, "disk") {
        let file = served.folder.join("copy");
        run("nbdcopy", &[&address, file.to_str().unwrap()]);
        assert!(std::fs::read(&file).unwrap() == contents, "the copy from {address} differs");
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn nbdcopy_writes_what_it_has() {
    let source = Toy::new("source", SIZE);
    fill(&source);
    let contents = source.contents();
    let (one, two) = (Toy::new("one", SIZE), Toy::new("two", SIZE));
    // What was there must not show through holes of the source.
    one.write(5 << 20, &[0xee; 70_000]);
    two.write(5 << 20, &[0xee; 70_000]);
    let served = Served::new("in", Shelf(vec![source, one.clone(), two.clone()]));
    let from = served.folder.join("original");
    std::fs::write(&from, &contents).unwrap();

    let [tcp, _] = addresses(&served, "one");
    // Requests as long as the limit, so that pieces are put together.
    run("nbdcopy", &["--request-size=33554432", "--flush", from.to_str().unwrap(), &tcp]);
    assert!(one.contents() == contents, "the copy over TCP differs");
    assert!(one.pieces.load(Ordering::Relaxed) > 3);

    let [_, unix] = addresses(&served, "two");
    let [source, _] = addresses(&served, "source");
    run("nbdcopy", &["--connections=4", &source, &unix]);
    assert!(two.contents() == contents, "the copy from server to server differs");
}

#[test]
fn qemu_img_reads_and_writes() {
    let (disk, other) = (Toy::new("disk", SIZE), Toy::new("other", SIZE));
    fill(&disk);
    let served = Served::new("qemu", Shelf(vec![disk.clone(), other.clone()]));
    for (address, to) in addresses(&served, "disk").iter().zip(addresses(&served, "other")) {
        let info = json("qemu-img", &["info", "--output=json", address]);
        assert_eq!(info["virtual-size"], SIZE);
        assert_eq!(info["format"], "raw");
        let map = json("qemu-img", &["map", "--output=json", address]);
        assert!(map.as_array().unwrap().iter().any(|extent| extent["data"] == false), "{map}");
        run("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", address, &to]);
        assert!(other.contents() == disk.contents());
        run("qemu-img", &["compare", "-f", "raw", "-F", "raw", address, &to]);
    }
    let [address, _] = addresses(&served, "other");
    // FUA, zeroes that may and may not become holes, discard, unaligned, flush.
    let commands = [
        "write -f -P 0x5a 4096 65536",
        "write -z -u 1048576 1048576",
        "write -z 3145728 512",
        "discard 2097152 524288",
        "write -P 0x33 1000 3000",
        "read -P 0x33 1000 3000",
        "read -P 0x5a 8192 61440",
        "read -P 0 1048576 1048576",
        "flush",
    ];
    let mut arguments = vec!["-f", "raw"];
    for command in &commands {
        arguments.extend(["-c", command]);
    }
    arguments.push(&address);
    let said = run("qemu-io", &arguments);
    assert!(!said.contains("failed"), "{said}");
    assert_eq!(other.contents()[1000..4000], [0x33; 3000]);
    assert_eq!(other.refused.load(Ordering::Relaxed), 0);
}

/// A client that sends what well-behaved ones do not.
const RUDE: &str = r#"
import nbd, sys
h = nbd.NBD()
h.set_strict_mode(0)
h.add_meta_context("base:allocation")
h.connect_uri(sys.argv[1])
size = h.get_size()
def refused(errno, call):
    try:
        call()
    except nbd.Error as error:
        assert error.errno == errno, (error.errno, errno)
        return
    raise AssertionError("expected " + errno)
refused("EINVAL", lambda: h.pread(4096, size))
refused("ENOSPC", lambda: h.pwrite(b"x" * 8192, size - 4096))
refused("ENOSPC", lambda: h.zero(8192, size - 4096))
refused("EINVAL", lambda: h.trim(8192, size - 4096))
refused("EINVAL", lambda: h.cache(8192, size - 4096))
refused("EINVAL", lambda: h.pwrite(b"x", 0, 1 << 9))
refused("EINVAL", lambda: h.pwrite(b"x" * ((32 << 20) + 1), 0))
refused("ENOTSUP", lambda: h.zero(4096, 0, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FAST_ZERO))
h.pwrite(b"", 0)
h.zero(0, 0)
data = bytes(range(256)) * (32 << 12)
h.pwrite(data, 4097, nbd.CMD_FLAG_FUA)
assert h.pread(len(data), 4097) == data
assert h.pread(65536, 0, nbd.CMD_FLAG_DF)[4097:] == data[:65536 - 4097]
h.shutdown()
"#;

#[test]
fn libnbd_sees_the_errors_of_the_protocol() {
    let toy = Toy::new("disk", SIZE);
    let served = Served::new("rude", Shelf(vec![toy.clone()]));
    let python = "/usr/bin/python3";
    assert!(Path::new(python).exists(), "{python} is not installed (packages python3, python3-libnbd)");
    for (round, address) in addresses(&served, "disk").iter().enumerate() {
        run(python, &["-c", RUDE, address]);
        assert_eq!(toy.refused.load(Ordering::Relaxed), 7 * (round as u64 + 1));
    }
}
