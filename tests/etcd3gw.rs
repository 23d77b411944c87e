//! The Python library `etcd3gw` against the JSON gateway of a server of etcd's API. The same program of calls runs with
//! etcd itself too, so that what it expects is what etcd does.

mod harness;

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::cfg::Server;
use harness::process;

/// The interpreter of the environment that `cargo xtask packages` makes in the target directory.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target directory");
    let python = target.join("python/bin/python");
    assert!(python.is_file(), "no {}: `cargo xtask packages` makes it", python.display());
    python
}

#[test]
fn the_json_gateway_serves_etcd3gw() {
    let python = python();
    for server in Server::all() {
        let place = server.place("etcd3gw");
        let running = server.start(place.root(), "one");
        let address = running.client_url.strip_prefix("http://").expect("a URL without TLS");
        let (host, port) = address.split_once(':').expect("a URL with a port");
        let script = harness::client("etcd3gw.py");
        let arguments = [&script, host, port];
        let said =
            process::must(python.to_str().expect("readable path"), &arguments, Duration::from_secs(120));
        let parts = ["member", "keys", "transactions", "leases", "locks", "watches"];
        assert_eq!(said.lines().collect::<Vec<_>>(), parts, "{server:?}");
    }
}
