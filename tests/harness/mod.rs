//! What the end-to-end tests share: a place for the data, the server under test, clients, and waiting with a limit.
//!
//! Every wait is for an event (a line, an answer, the end of a process) and has a time limit; what a test prints
//! before it fails is enough to run it again: the seed, the command, the server's log.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each file in tests/ is a crate of its own and uses a part of this"
)]

pub mod certificates;
pub mod cfg;
pub mod checked;
pub mod fio;
pub mod nbd;
pub mod pattern;
pub mod place;
pub mod process;
pub mod random;
pub mod server;
pub mod tree;
pub mod writer;

use std::path::PathBuf;

/// Whether the long versions are asked for: `OVS_SOAK=1`.
pub fn soak() -> bool {
    std::env::var_os("OVS_SOAK").is_some_and(|value| value == "1")
}

/// `short` in a normal run, `long` with `OVS_SOAK=1`.
pub fn rounds(short: u64, long: u64) -> u64 {
    if soak() { long } else { short }
}

/// Path of a program in `tests/clients/`.
pub fn client(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "clients", name].iter().collect();
    path.to_str().expect("the checkout has a readable path").to_owned()
}

/// The interpreter that has the distribution's `nbd` module.
pub const PYTHON: &str = "/usr/bin/python3";

/// Whether tests that need root run here. Without root they fail with a reason, unless `OVS_TEST_NO_ROOT=1` says that
/// this is known: then they are left out, loudly.
pub fn root_or_skip(what: &str) -> bool {
    let uid = process::output("id", &["-u"]);
    if uid.trim() == "0" {
        return true;
    }
    if std::env::var_os("OVS_TEST_NO_ROOT").is_some() {
        eprintln!("NOT RUN, needs root (OVS_TEST_NO_ROOT is set): {what}");
        return false;
    }
    panic!("{what} needs root (loop device, mount); run as root, or set OVS_TEST_NO_ROOT=1 to leave it out");
}
