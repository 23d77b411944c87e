//! `ovs volumedriver run`: one more driver of a vPool, with its documents in the store of another node.

mod cli_node;

use std::fs;

use cli_node::{DataDir, Driver};
use serde_json::json;

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

/// Stops a node, and restores what its store holds as a store of its own in `copy`. The ids of both clusters.
fn restored(directory: &DataDir, node: cli_node::Node, copy: &DataDir) -> (String, String) {
    let identity = fs::read(directory.path("identity.json")).expect("the identity");
    let identity: serde_json::Value = serde_json::from_slice(&identity).expect("JSON");
    let before = identity["cluster_id"].as_str().expect("the store's cluster").to_owned();
    let file = copy.path("saved");
    fs::create_dir_all(copy).expect("created");
    let file = file.to_str().expect("a name");
    directory.run(&["cfg", "snapshot", "save", file], 0);
    node.stop();
    let after = copy.run(&["cfg", "snapshot", "restore", file, "--json"], 0).json();
    let after = u64::from_str_radix(after["cluster_id"].as_str().expect("a text"), 16).expect("hexadecimal");
    (before, format!("{after:016x}"))
}

#[test]
fn a_restored_store_is_followed_when_that_is_accepted() {
    let first = DataDir::small();
    let node = first.up(&[]);
    let folder = "/ovs/vpools/a/hosts/b/config";
    let url = |directory: &DataDir| {
        let store = directory.endpoints()["etcd"].as_str().expect("a text").replace("http://", "etcd://");
        format!("{store}{folder}")
    };
    let documents = [
        ("scocache", json!({"segment_size": "1MiB", "reserve_size": "16MiB"})),
        ("volume_manager", json!({"run_size": "1MiB", "data_threads": 1})),
    ];
    for (section, document) in documents {
        first.run(&["config", "set", &format!("{folder}/{section}"), &document.to_string()], 0);
    }
    let second = DataDir::new();
    let driver = Driver::start(&second, &url(&first), &["--volume", "one=1MiB"]);
    second.run(&["config", "accept-cluster", "1"], 1).assert_error("is in use by process");
    drop(driver);
    let copy = DataDir::new();
    let (before, after) = restored(&first, node, &copy);
    let _node = copy.up(&[]);

    let url = url(&copy);
    let run = |code: i32| second.run(&["volumedriver", "run", "--ephemeral", "--config", &url], code);
    let command = format!("`ovs config accept-cluster {after} --data-dir {}`", second.as_ref().display());
    for part in [&format!("follows the cluster {before}"), &format!("is the cluster {after}"), &command] {
        run(4).assert_error(part);
    }
    // A version that did not record it left it in the last good copy.
    let path = second.path("identity.json");
    let mut identity: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).expect("the identity")).expect("JSON");
    let recorded = identity.as_object_mut().expect("an object").remove("cluster_id");
    assert_eq!(recorded, Some(json!(before)));
    fs::write(&path, identity.to_string()).expect("written");
    run(4).assert_error(&format!("follows the cluster {before}"));

    let accept = |id: &str, code: i32| second.run(&["config", "accept-cluster", id], code);
    for id in ["", "0", "0x12", "the other one", "14841639068965178418"] {
        let refused = accept(id, 2).err;
        assert!(refused.contains("1 to 16 hexadecimal digits"), "{refused}");
    }
    assert!(accept("12", 0).out.contains(&format!("the cluster 0000000000000012 now, no longer {before}")));
    run(4).assert_error("follows the cluster 0000000000000012");
    let said = second.run(&["config", "accept-cluster", &after, "--json"], 0).json();
    assert_eq!((&said["before"], &said["after"]), (&json!("0000000000000012"), &json!(after)));
    assert!(accept(&after, 0).out.contains("nothing is changed"));
    let _driver = Driver::start(&second, &url, &[]);
    assert_eq!(second.run(&["volume", "list", "--json"], 0).json()[0]["name"], json!("one"));
    let nowhere = DataDir::new();
    nowhere.run(&["config", "accept-cluster", &after], 3).assert_error("there is no identity.json");
    assert!(!nowhere.as_ref().exists());
}

#[test]
fn a_node_follows_its_own_restored_store_when_that_is_accepted() {
    let directory = DataDir::small();
    let node = directory.up(&["--volume", "one=1MiB"]);
    let copy = DataDir::new();
    let (before, after) = restored(&directory, node, &copy);
    fs::rename(directory.path("cfg"), directory.path("cfg.lost")).expect("renamed");
    fs::rename(copy.path("cfg"), directory.path("cfg")).expect("renamed");
    let refused = directory.run(&["up", "--ephemeral"], 4);
    refused.assert_error(&format!("follows the cluster {before}"));
    refused.assert_error(&format!("accept-cluster {after}"));
    directory.run(&["config", "accept-cluster", &after], 0);
    let node = directory.up(&[]);
    assert_eq!(directory.run(&["volume", "list", "--json"], 0).json()[0]["name"], json!("one"));
    node.stop();
    // An empty store in its place is another cluster, too.
    fs::rename(directory.path("cfg"), directory.path("cfg.second")).expect("renamed");
    directory.run(&["up", "--ephemeral"], 4).assert_error(&format!("follows the cluster {after}"));
}

/// A node whose store has documents for the driver `b` of the vPool `a`; the driver's URL with it.
fn store_for_b() -> (DataDir, cli_node::Node, String) {
    let first = DataDir::small();
    let node = first.up(&[]);
    let folder = "/ovs/vpools/a/hosts/b/config";
    for (section, document) in [
        ("scocache", json!({"segment_size": "1MiB", "reserve_size": "16MiB"})),
        ("volume_manager", json!({"run_size": "1MiB", "data_threads": 1})),
    ] {
        first.run(&["config", "set", &format!("{folder}/{section}"), &document.to_string()], 0);
    }
    let store = first.endpoints()["etcd"].as_str().expect("a text").replace("http://", "etcd://");
    (first, node, format!("{store}{folder}"))
}

#[test]
fn a_driver_works_in_one_directory() {
    let (first, node, url) = store_for_b();
    let (one, other) = (DataDir::new(), DataDir::new());
    let driver = Driver::start(&one, &url, &["--volume", "v=1MiB"]);
    let run = |directory: &DataDir, more: &[&str], code: i32| {
        directory.run(&[&["volumedriver", "run", "--ephemeral", "--config", &url][..], more].concat(), code)
    };
    let place = format!("works in the directory {}", one.as_ref().display());
    run(&other, &[], 4).assert_error(&place);
    driver.kill();
    run(&other, &[], 4).assert_error(&place);
    assert!(!other.path("identity.json").exists(), "it can be used for another driver");

    // Its own next process speaks for it at once, while the lease of the one that died goes on.
    let driver = Driver::start(&one, &url, &[]);
    let status = first.run(&["config", "get", "/ovs/vpools/a/hosts/b/status"], 0).json();
    assert_eq!(status["incarnation"], 2);
    driver.kill();

    let driver = Driver::start(&other, &url, &["--replace-directory"]);
    assert_eq!(other.run(&["volume", "list", "--json"], 0).json(), json!([]));
    run(&one, &[], 4).assert_error(&format!("works in the directory {}", other.as_ref().display()));
    assert!(one.path("identity.json").exists());
    driver.kill();
    drop(Driver::start(&other, &url, &[]));
    node.stop();
}

#[test]
fn a_retired_host_does_not_serve() {
    let (first, _node, url) = store_for_b();
    let second = DataDir::new();
    let driver = Driver::start(&second, &url, &["--volume", "v=1MiB"]);
    let base = "/ovs/vpools/a/hosts/b";
    let export = first.path("b.json");
    let export = export.to_str().expect("a name");
    first.run(&["config", "export", export, "--prefix", &format!("{base}/config")], 0);
    first.run(&["config", "set", &format!("{base}/retired"), r#"{"note":"sold"}"#], 0);
    first.run(&["config", "delete", "--recursive", &format!("{base}/config")], 0);
    // One that runs goes on until it is told to stop.
    second.run(&["volume", "info", "v"], 0);
    driver.kill();
    let run = |code: i32| second.run(&["volumedriver", "run", "--ephemeral", "--config", &url], code);
    run(3).assert_error(&format!("{base}/retired is set: this host does not serve any more"));
    assert!(!second.path("last_good").exists());
    first.run(&["config", "status", "--vpool", "a"], 3).assert_error("has no configuration");

    first.run(&["config", "delete", &format!("{base}/retired")], 0);
    run(3).assert_error("there is no configuration");
    first.run(&["config", "import", export], 0);
    let _driver = Driver::start(&second, &url, &[]);
    assert_eq!(second.run(&["volume", "list", "--json"], 0).json()[0]["name"], json!("v"));
}
