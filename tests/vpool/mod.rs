//! A vPool: a store and some drivers, each a process.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::cli_node::{DataDir, Driver, Printed, ended, ovs};
use crate::harness::cfg::{Running, Server};
use crate::harness::place::Place;

/// The vPool.
pub(crate) const VPOOL: &str = "fleet";

/// A store with drivers.
pub(crate) struct Fleet {
    store: Running,
    pub(crate) directories: Vec<DataDir>,
    pub(crate) drivers: Vec<Option<Driver>>,
}

/// The name of a host.
pub(crate) fn name(host: usize) -> String {
    format!("h{host:02}")
}

impl Fleet {
    /// Starts a store and `size` drivers with equal documents.
    pub(crate) fn start(server: Server, place: &Place, size: usize) -> Fleet {
        let store = server.start(place.root(), "store");
        let mut documents = Map::new();
        for host in 0..size {
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
            directories: (0..size).map(|_| DataDir::new()).collect(),
            drivers: (0..size).map(|_| None).collect(),
        };
        fleet.run(&["import", &file], 0);
        fleet.begin(0..size);
        fleet
    }

    /// Starts hosts, and waits until all are ready.
    pub(crate) fn begin(&mut self, hosts: std::ops::Range<usize>) {
        let store = self.url();
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

    /// The URL of the store.
    pub(crate) fn url(&self) -> String {
        self.store.client_url.replace("http://", "etcd://")
    }

    /// `ovs config …`
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str], code: i32) -> Printed {
        ended(self.command(arguments), code)
    }

    /// The same, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = ovs(&["config"]);
        command.args(arguments).env("OVS_ENDPOINT", self.url());
        command
    }

    /// Whether what is stored at a key, as `etcdctl` sees it, has this text in it.
    pub(crate) fn stored(&self, key: &str, text: &str) -> bool {
        let mut etcdctl = Command::new("etcdctl");
        etcdctl.env("ETCDCTL_API", "3").args([
            "--endpoints",
            &self.store.client_url,
            "get",
            "--print-value-only",
            key,
        ]);
        let output = etcdctl.output().expect("etcdctl runs");
        assert!(output.status.success() && !output.stdout.is_empty(), "there is nothing at {key}");
        String::from_utf8_lossy(&output.stdout).contains(text)
    }

    /// The same for the vPool.
    #[track_caller]
    pub(crate) fn all(&self, arguments: &[&str], code: i32) -> Value {
        self.run(&[arguments, &["--vpool", VPOOL, "--json"]].concat(), code).json()
    }

    /// The hosts by their state, as soon as there are `count` of `state`.
    #[track_caller]
    pub(crate) fn standing(&self, state: &str, count: usize) -> Vec<Value> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let code = if state == "in-sync" && count == self.drivers.len() { 0 } else { 7 };
            let mut command = self.command(&["status", "--vpool", VPOOL, "--json"]);
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
pub(crate) fn different(shown: &[Value], field: &str) -> BTreeSet<String> {
    shown.iter().map(|host| host["status"][field].to_string()).collect()
}
