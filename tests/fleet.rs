//! Many drivers of one vPool: an update that reaches all, hosts that are down, and what `status` says at each step.
//! With the configuration store and with Debian's etcd in its place.

mod cli_node;
mod harness;
mod vpool;

use harness::cfg::Server;
use serde_json::json;
use vpool::{Fleet, VPOOL, different, name};

/// Drivers; all of them with `OVS_SOAK`.
fn size() -> usize {
    if harness::soak() { 40 } else { 8 }
}

fn a_fleet_takes_updates(server: Server) {
    let place = server.place("fleet");
    let mut fleet = Fleet::start(server, &place, size());
    let before = fleet.standing("in-sync", size());
    let hash = different(&before, "config_hash");
    assert_eq!(hash.len(), 1, "equal documents, equal hashes: {hash:?}");

    fleet.all(&["set", "nbd|nbd_max_connections", "77"], 0);
    let applied = fleet.all(&["apply"], 0);
    assert_eq!(applied["feedback"].as_object().expect("by host").len(), size());
    for feedback in applied["feedback"].as_object().expect("by host").values() {
        assert_eq!((&feedback["outcome"], &feedback["applied"][0]["new"]), (&json!("applied"), &json!("77")));
    }
    let after = fleet.standing("in-sync", size());
    assert_eq!(different(&after, "config_hash").len(), 1);
    assert_ne!(different(&after, "config_hash"), hash);

    // Some die. The others go on; those say what they found when they are back.
    let dead = size() / 8;
    for driver in &mut fleet.drivers[..dead] {
        driver.take().expect("it runs").kill();
    }
    fleet.standing("down", dead);
    fleet.all(&["set", "nbd|nbd_max_connections", "78"], 0);
    let applied = fleet.all(&["apply"], 0);
    assert_eq!(applied["feedback"].as_object().expect("by host").len(), size() - dead);
    assert_eq!(applied["down"].as_array().expect("a list").len(), dead);
    assert_eq!(applied["silent"], json!([]));
    fleet.begin(0..dead);
    let all = fleet.standing("in-sync", size());
    assert_eq!(different(&all, "config_hash").len(), 1);
    let id = applied["id"].as_str().expect("an id");
    let key = format!("/ovs/vpools/{VPOOL}/hosts/{}/feedback/{id}", name(0));
    let feedback = fleet.run(&["get", &key], 0).json();
    assert_eq!((&feedback["at_start"], &feedback["outcome"]), (&json!(true), &json!("applied")));
    assert_eq!(feedback["applied"][0]["new"], "78");

    // One refuses what is wrong for it alone.
    let key = format!("/ovs/vpools/{VPOOL}/hosts/{}/config/http", name(1));
    fleet.run(&["set", &key, r#"{"http_port": 70000}"#, "--unchecked"], 0);
    fleet.all(&["set", "nbd|nbd_max_connections", "79", "--unchecked"], 0);
    let applied = fleet.all(&["apply"], 5);
    for (host, feedback) in applied["feedback"].as_object().expect("by host") {
        let outcome = if *host == name(1) { "rejected" } else { "applied" };
        assert_eq!(feedback["outcome"], outcome, "{host}: {feedback}");
    }
    fleet.standing("differs", 1);
    fleet.run(&["delete", &key, "--unchecked"], 0);
    fleet.all(&["apply", "--allow-reset"], 0);
    fleet.standing("in-sync", size());
}

#[test]
fn a_fleet_takes_updates_from_the_store() {
    a_fleet_takes_updates(Server::Store);
}

#[test]
fn a_fleet_takes_updates_from_etcd() {
    a_fleet_takes_updates(Server::Etcd);
}
