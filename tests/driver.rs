//! `ovs volumedriver run`: one more driver of a vPool, with its documents in the store of another node.

mod cli_node;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use cli_node::DataDir;
use serde_json::json;

/// A driver that runs; killed when dropped.
struct Driver(Child);

impl Driver {
    /// Starts one and waits until it is ready. Its log is `log` in its directory.
    fn start(directory: &DataDir, url: &str, more: &[&str]) -> Driver {
        let _ = fs::create_dir_all(directory.as_ref());
        let mut command = directory.command(&["volumedriver", "run", "--ephemeral", "--config", url]);
        let log = fs::File::create(directory.path("log")).expect("a log");
        let mut child = command.args(more).stdout(Stdio::piped()).stderr(log).spawn().expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let driver = Driver(child);
        let is_ready = lines.map_while(Result::ok).any(|line| line == "ready");
        assert!(is_ready, "{}", fs::read_to_string(directory.path("log")).expect("the log"));
        driver
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn two_drivers_share_a_vpool() {
    let first = DataDir::small();
    let node = first.up(&["--volume", "one=1MiB"]);
    let endpoints = first.endpoints();
    let guid = endpoints["vpool_guid"].as_str().expect("a text").to_owned();
    let store = endpoints["etcd"].as_str().expect("a text").replace("http://", "etcd://");
    let folder = format!("/ovs/vpools/{guid}/hosts/second/config");
    let documents = [
        ("scocache", json!({"segment_size": "1MiB", "reserve_size": "16MiB"})),
        ("volume_manager", json!({"run_size": "1MiB", "data_threads": 1})),
    ];
    for (section, document) in documents {
        first.run(&["config", "set", &format!("{folder}/{section}"), &document.to_string()], 0);
    }
    let claim = |volume: &str| format!("/ovs/vpools/{guid}/volumes/{volume}/config");
    let owner = |volume: &str| first.run(&["config", "get", &claim(volume)], 0).json()["vrouter_id"].clone();
    assert_eq!(owner("one"), endpoints["vrouter_id"]);

    let second = DataDir::new();
    let url = format!("{store}{folder}");
    let driver = Driver::start(&second, &url, &[]);
    assert_eq!(second.endpoints()["vrouter_id"], json!("second"));
    // A name belongs to one of them.
    second.run(&["volume", "create", "two", "--size", "1MiB"], 0);
    assert_eq!(owner("two"), json!("second"));
    first.run(&["volume", "create", "two", "--size", "1MiB"], 4).assert_error("belongs to the driver second");
    second.run(&["volume", "create", "one", "--size", "1MiB"], 4).assert_error("belongs to the driver");
    second.run(&["volume", "create", "two", "--size", "1MiB"], 4).assert_error("exists already");
    second.run(&["volume", "delete", "two"], 0);
    first.run(&["volume", "create", "two", "--size", "1MiB"], 0);
    assert_eq!(owner("two"), endpoints["vrouter_id"]);
    second.run(&["volume", "create", "three", "--size", "1MiB"], 0);
    drop(driver);

    // Without the store a driver goes on with what it had, for a time, and makes nothing new.
    node.stop();
    let run = |more: &[&str], code: i32| {
        second.run(&[&["volumedriver", "run", "--ephemeral", "--config", &url][..], more].concat(), code)
    };
    run(&["--last-good-max-age", "0", "--log-level", "error"], 6);
    // What is here needs no claim again.
    let _driver = Driver::start(&second, &url, &["--volume", "three=1MiB"]);
    let log = fs::read_to_string(second.path("log")).expect("the log");
    assert!(log.contains("degraded: running on the last good configuration"), "{log}");
    assert_eq!(second.run(&["volume", "list", "--json"], 0).json()[0]["name"], json!("three"));
    second.run(&["volume", "create", "four", "--size", "1MiB"], 6).assert_error("cannot be settled");
}

#[test]
fn a_driver_without_its_documents_does_not_start() {
    let first = DataDir::small();
    let node = first.up(&[]);
    let endpoints = first.endpoints();
    let own = endpoints["config"].as_str().expect("a text").to_owned();
    let store = endpoints["etcd"].as_str().expect("a text").replace("http://", "etcd://");
    let second = DataDir::new();
    let run =
        |url: &str, code: i32| second.run(&["volumedriver", "run", "--ephemeral", "--config", url], code);
    run(&format!("{store}/ovs/vpools/a/hosts/nobody/config"), 3).assert_error("there is no configuration at");
    run(&format!("{store}/somewhere"), 2).assert_error("the path must be");
    run("http://127.0.0.1:1/", 2).assert_error("names no store");
    run("etcd://127.0.0.1:1/ovs/vpools/a/hosts/b/config", 6).assert_error("is not reachable");
    let folder = "/ovs/vpools/a/hosts/b/config";
    first.run(&["config", "set", &format!("{folder}/nbd"), "{\"nbd_port\": 70000}", "--unchecked"], 0);
    run(&format!("{store}{folder}"), 5).assert_error("nbd.nbd_port = 70000");
    // A directory stays with the driver it was made for.
    first.run(&["config", "set", &format!("{folder}/nbd"), "{\"nbd_max_connections\": 8}"], 0);
    drop(Driver::start(&second, &format!("{store}{folder}"), &[]));
    run(&own, 4).assert_error("belongs to the driver b of the vPool a");
    node.stop();
}
