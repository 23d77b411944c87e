//! `ovs cfg run` under TLS: who may connect, members among each other, and certificates that are renewed.

mod cli_node;
mod harness;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cli_node::{Printed, ended, ovs};
use harness::certificates::Authority;
use harness::cfg::lasting_url;
use harness::place::Place;
use harness::process;

/// A member; killed when dropped.
struct Member {
    child: Child,
    client: String,
    peer: String,
}

impl Member {
    fn start(directory: &Path, arguments: &[&str]) -> Member {
        let (client, peer) = (lasting_url(), lasting_url());
        let secure = |url: &str, flag: &str| {
            if arguments.contains(&flag) { url.replace("http://", "https://") } else { url.to_owned() }
        };
        let (client, peer) = (secure(&client, "--cert-file"), secure(&peer, "--peer-cert-file"));
        let mut command = ovs(&["cfg", "run", "--client-urls", &client, "--peer-urls", &peer]);
        command.arg("--data-dir").arg(directory).args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let member = Member { child, client, peer };
        assert!(lines.map_while(Result::ok).any(|line| line == "ready"), "it ended before it was ready");
        member
    }

    /// Its address for `ovs config`, with the files of a client.
    fn address(&self, query: &str) -> String {
        format!("{}?{query}", self.client.replace("https://", "etcd://"))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        process::stop(&mut self.child);
    }
}

#[track_caller]
fn at(address: &str, arguments: &[&str], code: i32) -> Printed {
    let mut command = ovs(arguments);
    command.args(["--endpoint", address]);
    ended(command, code)
}

#[test]
fn clients_show_a_certificate_and_renewed_ones_are_used_at_once() {
    let place = Place::new("cfg-tls");
    let authority = Authority::new(&place.root().join("first"));
    let [cert, key] = authority.sign("server");
    let ca = authority.ca();
    let tls = ["--cert-file", &cert, "--key-file", &key, "--trusted-ca-file", &ca];
    let member = Member::start(&place.root().join("data"), &tls);
    let [mine, my_key] = authority.sign("client");
    let whole = member.address(&format!("cacert={ca}&cert={mine}&key={my_key}"));
    at(&whole, &["config", "set", "/a", "1"], 0);
    // Without a certificate, or with that of another authority, nobody comes in.
    at(&member.address(&format!("cacert={ca}")), &["config", "get", "/a"], 1).assert_error("certificate");
    let other = Authority::new(&place.root().join("other"));
    let [theirs, their_key] = other.sign("client");
    let foreign = member.address(&format!("cacert={ca}&cert={theirs}&key={their_key}"));
    at(&foreign, &["config", "get", "/a"], 1).assert_error("UnknownCA");
    let listed = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &member.client, "--cacert", &ca, "--cert", &mine, "--key", &my_key])
        .args(["get", "/a", "--print-value-only"])
        .output()
        .expect("etcdctl runs");
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "1\n", "{}", String::from_utf8_lossy(&listed.stderr));

    // A new authority and new certificates in the same files.
    let renewed = Authority::new(&place.root().join("second"));
    let files = renewed.sign("server");
    for (new, old) in [(&files[0], &cert), (&files[1], &key), (&renewed.ca(), &ca)] {
        fs::copy(new, old).expect("copied");
    }
    let [mine, my_key] = renewed.sign("client");
    let whole = member.address(&format!("cacert={}&cert={mine}&key={my_key}", renewed.ca()));
    assert_eq!(at(&whole, &["config", "get", "/a"], 0).out, "1\n");
}

#[test]
fn members_show_each_other_certificates() {
    let place = Place::new("cfg-peer-tls");
    let authority = Authority::new(&place.root().join("first"));
    let [cert, key] = authority.sign("member");
    let ca = authority.ca();
    let tls = ["--peer-cert-file", &cert, "--peer-key-file", &key, "--peer-trusted-ca-file", &ca];
    let first = Member::start(&place.root().join("one"), &tls);
    let joins = [&tls[..], &["--name", "two", "--join", &first.peer]].concat();
    let second = Member::start(&place.root().join("two"), &joins);
    let address = first.client.replace("http://", "etcd://");
    at(&address, &["config", "set", "/a", "1"], 0);
    let other = second.client.replace("http://", "etcd://");
    assert_eq!(at(&other, &["config", "get", "/a"], 0).out, "1\n");

    // Another authority's certificate does not come in.
    let foreign = Authority::new(&place.root().join("other"));
    let [theirs, their_key] = foreign.sign("member");
    let mut command = ovs(&["cfg", "run", "--join", &first.peer, "--join-timeout", "1", "--name", "three"]);
    command.args(["--client-urls", "http://127.0.0.1:0", "--peer-urls", "https://127.0.0.1:0"]);
    command.args(["--peer-cert-file", &theirs, "--peer-key-file", &their_key, "--peer-trusted-ca-file", &ca]);
    command.arg("--data-dir").arg(place.root().join("three"));
    let refused = ended(command, 6);
    assert!(refused.err.contains("no cluster took this member"), "{}", refused.err);
    let members = at(&address, &["cfg", "members", "--json"], 0).json();
    assert_eq!(members.as_array().expect("a list").len(), 2);
}

#[test]
fn what_cannot_be_secured_is_refused() {
    let place = Place::new("cfg-tls-refused");
    let run = |arguments: &[&str], code: i32| {
        let mut command = ovs(&["cfg", "run"]);
        command.args(arguments).arg("--data-dir").arg(place.root().join("data"));
        ended(command, code)
    };
    run(&["--client-urls", "http://0.0.0.0:0"], 2).assert_error("off loopback");
    run(&["--client-urls", "https://127.0.0.1:0"], 2).assert_error("give http://HOST:PORT");
    run(&["--cert-file", "/no/such/file"], 2).assert_error("--key-file");
    let authority = Authority::new(&place.root().join("first"));
    let [cert, key] = authority.sign("server");
    let here = ["--client-urls", "https://127.0.0.1:0", "--peer-urls", "http://127.0.0.1:0"];
    let with =
        |cert: &str, key: &str| run(&[&here[..], &["--cert-file", cert, "--key-file", key]].concat(), 1);
    with("/no/such/file", &key).assert_error("/no/such/file");
    with(&key, &key).assert_error("no certificate");
    with(&cert, &cert).assert_error(".pem");
}
