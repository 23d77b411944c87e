//! What a process runs with, seen from outside.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::cli_node::DataDir;
use super::harness::tree::PATIENCE;
use super::judge::State;

/// Asks the process itself for values that it runs with.
pub fn observe(directory: &DataDir, state: &State) {
    let endpoints = directory.endpoints();
    let address = |name: &str| {
        let url = endpoints[name].as_str().expect("a URL");
        url.split("://").nth(1).expect("a URL").trim_end_matches('/').to_owned()
    };
    let labelled = state.running[&("metrics", "metrics_per_volume")] == "true";
    until("metrics as they are configured", || {
        let text = get(&address("http"), "/metrics");
        text.contains("ovs_volume_size_bytes{volume=") == labelled && text.contains("ovs_volume_size_bytes")
    });
    let connections: usize = state.running[&("nbd", "nbd_max_connections")].parse().expect("a number");
    if connections < 10 {
        until("as many connections as are configured", || {
            let clients: Vec<_> = (0..=connections).map(|_| greeted(&address("nbd"))).collect();
            clients[..connections].iter().all(Option::is_some) && clients[connections].is_none()
        });
    }
}

/// Bounded polling.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what}: never");
        // sleep: bounded polling of another process
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A page of a server.
fn get(address: &str, page: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    write!(stream, "GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered");
    text
}

/// A connection that the NBD server lets in.
fn greeted(address: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.read_exact(&mut [0; 18]).ok()?;
    Some(stream)
}
