//! `ovs cfg …`: what the commands print about a cluster, and how they end.

mod cli_node;
mod harness;

use cli_node::{DataDir, Printed, ended, ovs};
use harness::cfg::Server;
use harness::place::Place;
use serde_json::{Value, json};

/// Runs a command against the store at `url`; expects `code`.
#[track_caller]
fn cfg(url: &str, arguments: &[&str], code: i32) -> Printed {
    let mut command = ovs(arguments);
    command.args(["--endpoint", &url.replace("http://", "etcd://")]);
    ended(command, code)
}

#[test]
fn a_cluster_is_shown_and_changed() {
    let place = Place::new("cfg-commands");
    let store = Server::Store.start(place.root(), "one");
    let url = &store.client_url.clone();
    let members = cfg(url, &["cfg", "members", "--json"], 0).json();
    assert_eq!(members.as_array().expect("a list").len(), 1);
    assert_eq!((&members[0]["name"], &members[0]["learner"]), (&json!("one"), &json!(false)));
    let status = cfg(url, &["cfg", "status", "--json"], 0).json();
    assert_eq!(status[0]["status"]["leader"], members[0]["id"]);
    assert!(cfg(url, &["cfg", "status"], 0).out.contains("leads"));

    let added = cfg(url, &["cfg", "add", "http://127.0.0.1:1", "--json"], 0).json();
    let id = added["id"].as_u64().expect("a number");
    let shown = cfg(url, &["cfg", "members"], 0).out;
    assert!(shown.contains("(not started)"), "{shown}");
    cfg(url, &["cfg", "add", "http://127.0.0.1:1"], 1).assert_error("Peer URLs already exists");
    cfg(url, &["cfg", "add", "127.0.0.1"], 1).assert_error("given member URLs are invalid");
    cfg(url, &["cfg", "promote", &format!("{id:x}")], 1).assert_error("in sync with leader");
    assert!(cfg(url, &["cfg", "status"], 0).out.contains("has not started"));
    assert_eq!(cfg(url, &["cfg", "defrag", "--json"], 0).json(), json!([1]));
    cfg(url, &["cfg", "remove", &format!("{id:x}")], 0);
    cfg(url, &["cfg", "remove", &format!("{id:x}")], 3).assert_error("there is no member");
    cfg(url, &["cfg", "remove", "1"], 1).assert_error("not enough started members");
    cfg(url, &["cfg", "move-leader", "1"], 0);
    cfg(url, &["cfg", "move-leader", "ff"], 1).assert_error("bad leader transferee");
    cfg(url, &["cfg", "remove", "one"], 2).assert_error("as `ovs cfg members` shows it");
    drop(store);
    cfg(url, &["cfg", "members"], 6).assert_error("is not reachable");
}

#[test]
fn a_snapshot_is_saved_and_restored_as_a_new_cluster() {
    let place = Place::new("cfg-snapshot");
    let store = Server::Store.start(place.root(), "one");
    let url = &store.client_url.clone();
    cfg(url, &["config", "set", "/a/b", "{\"c\": 1}"], 0);
    let file = place.root().join("saved");
    let name = file.to_str().expect("a name");
    let saved = cfg(url, &["cfg", "snapshot", "save", name, "--json"], 0).json();
    assert_eq!(saved["bytes"], json!(std::fs::metadata(&file).expect("saved").len()));
    drop(store);

    let directory = DataDir::new();
    let restored = directory.run(&["cfg", "snapshot", "restore", name, "--json"], 0).json();
    assert!(restored["revision"].as_i64().expect("a number") > 1_000_000_000);
    directory.run(&["cfg", "snapshot", "restore", name], 4).assert_error("is not empty");
    let node = directory.up(&[]);
    let cluster = |value: &Value| value["etcd"].as_str().expect("an address").to_owned();
    let url = cluster(&directory.endpoints());
    assert_eq!(cfg(&url, &["config", "get", "/a/b"], 0).json(), json!({"c": 1}));
    // What the node itself wrote has a revision of its own.
    let status = cfg(&url, &["cfg", "status", "--json"], 0).json();
    assert!(status[0]["status"]["revision"].as_i64() > restored["revision"].as_i64());
    node.stop();

    let mut bytes = std::fs::read(&file).expect("saved");
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let other = DataDir::new();
    other.run(&["cfg", "snapshot", "restore", name], 5).assert_error("SHA-256 does not match");
    std::fs::write(&file, b"short").expect("written");
    other.run(&["cfg", "snapshot", "restore", name], 5).assert_error("shorter than its checksum");
    other.run(&["cfg", "snapshot", "restore", "/no/such/file"], 1).assert_error("/no/such/file");
}
