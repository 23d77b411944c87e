//! Many drivers of one vPool: an update that reaches all, hosts that are down, and what `status` says at each step.
//! With the configuration store and with Debian's etcd in its place.

mod cli_node;
mod harness;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cli_node::{DataDir, Driver, Printed, ended, ovs};
use harness::cfg::{Running, Server};
use serde_json::{Map, Value, json};

const VPOOL: &str = "fleet";

/// Drivers; all of them with `OVS_SOAK`.
fn size() -> usize {
    if harness::soak() { 40 } else { 8 }
}

/// A store with drivers.
struct Fleet {
    store: Running,
    directories: Vec<DataDir>,
    drivers: Vec<Option<Driver>>,
}

/// The name of a host.
fn name(host: usize) -> String {
    format!("h{host:02}")
}

impl Fleet {
    fn start(server: Server, place: &harness::place::Place) -> Fleet {
        let store = server.start(place.root(), "store");
        let mut documents = Map::new();
        for host in 0..size() {
            for (section, document) in [
                (
                    "scocache",
                    json!({"segment_size": "1MiB", "reserve_size": "16MiB", "segments_ready_min": 1}),
                ),
                ("volume_manager", json!({"run_size": "1MiB", "data_threads": 1})),
            ] {
                documents
                    .insert(format!("/ovs/vpools/{VPOOL}/hosts/{}/config/{section}", name(host)), document);
            }
        }
        let mut export = json!({"format": "ovs-config", "version": 1, "cluster_id": "", "revision": 0});
        export["documents"] = documents.into();
        let file = place.path("documents.json");
        std::fs::write(&file, export.to_string()).expect("written");
        let mut fleet = Fleet {
            store,
            directories: (0..size()).map(|_| DataDir::new()).collect(),
            drivers: (0..size()).map(|_| None).collect(),
        };
        fleet.run(&["import", &file], 0);
        fleet.begin(0..size());
        fleet
    }

    /// Starts hosts, and waits until all are ready.
    fn begin(&mut self, hosts: std::ops::Range<usize>) {
        let store = self.store.client_url.replace("http://", "etcd://");
        for host in hosts.clone() {
            let url = format!("{store}/ovs/vpools/{VPOOL}/hosts/{}/config", name(host));
            self.drivers[host] = Some(Driver::begin(&self.directories[host], &url, &[]));
        }
        for host in hosts {
            if let Some(driver) = &mut self.drivers[host] {
                driver.ready(&self.directories[host]);
            }
        }
    }

    /// `ovs config …`
    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32) -> Printed {
        let mut command = ovs(&["config"]);
        let endpoint = self.store.client_url.replace("http://", "etcd://");
        command.args(arguments).env("OVS_ENDPOINT", endpoint);
        ended(command, code)
    }

    /// The same for the vPool.
    #[track_caller]
    fn all(&self, arguments: &[&str], code: i32) -> Value {
        self.run(&[arguments, &["--vpool", VPOOL, "--json"]].concat(), code).json()
    }

    /// The hosts by their state, as soon as there are `count` of `state`.
    #[track_caller]
    fn standing(&self, state: &str, count: usize) -> Vec<Value> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let code = if state == "in-sync" && count == size() { 0 } else { 7 };
            let mut command = ovs(&["config", "status", "--vpool", VPOOL, "--json"]);
            command.env("OVS_ENDPOINT", self.store.client_url.replace("http://", "etcd://"));
            let output = command.output().expect("runs");
            let shown: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
            if shown.iter().filter(|host| host["standing"] == state).count() == count {
                assert_eq!(output.status.code(), Some(code), "{shown:?}");
                return shown;
            }
            assert!(Instant::now() < end, "not {count} {state}: {shown:?}");
            std::thread::yield_now();
        }
    }
}

/// Different values of one field of the status.
fn different(shown: &[Value], field: &str) -> BTreeSet<String> {
    shown.iter().map(|host| host["status"][field].to_string()).collect()
}

fn a_fleet_takes_updates(server: Server) {
    let place = server.place("fleet");
    let mut fleet = Fleet::start(server, &place);
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
