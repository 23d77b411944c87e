//! `ovs config apply` and `status`: processes take what is stored for them, and say what came of it.

mod cli_node;

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use cli_node::{DataDir, Node};
use serde_json::{Value, json};

/// How long something may take that has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node with its keys.
struct Host {
    directory: DataDir,
    node: Node,
    /// `/ovs/vpools/GUID/hosts/ID`
    base: String,
}

impl Host {
    fn start() -> Host {
        let directory = DataDir::small();
        let node = directory.up(&[]);
        Host::found(directory, node)
    }

    /// One that logs to a file.
    fn of(directory: DataDir, log: fs::File) -> Host {
        let node = directory.up_logging(&[], log.into());
        Host::found(directory, node)
    }

    fn found(directory: DataDir, node: Node) -> Host {
        let endpoints = directory.endpoints();
        let text = |name: &str| endpoints[name].as_str().expect("a text").to_owned();
        let base = format!("/ovs/vpools/{}/hosts/{}", text("vpool_guid"), text("vrouter_id"));
        Host { directory, node, base }
    }

    /// Ends the node, and starts it again.
    fn restart(self) -> Host {
        let Host { directory, node, base } = self;
        node.stop();
        let node = directory.up(&[]);
        Host { directory, node, base }
    }

    /// Stores a value in one of its documents, by the hand of somebody who checks nothing.
    #[track_caller]
    fn put(&self, section: &str, document: &Value) {
        let key = format!("{}/config/{section}", self.base);
        let address = self.directory.endpoints()["etcd"].as_str().expect("a text").to_owned();
        let mut etcdctl = std::process::Command::new("etcdctl");
        etcdctl.env("ETCDCTL_API", "3").args(["--endpoints", &address, "put", &key, &document.to_string()]);
        let output = etcdctl.output().expect("etcdctl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Writes its update key; gives the feedback.
    #[track_caller]
    fn update(&self, update: &str, feedback: &str) -> Value {
        self.directory.run(&["config", "set", &format!("{}/update", self.base), update], 0);
        self.awaited(&format!("feedback/{feedback}"))
    }

    /// A key of the host, as soon as it is there.
    #[track_caller]
    fn awaited(&self, name: &str) -> Value {
        self.awaited_at(&format!("{}/{name}", self.base))
    }

    /// Any key, as soon as it is there.
    #[track_caller]
    fn awaited_at(&self, key: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut command = self.directory.command(&["config", "get", key]);
            let output = command.output().expect("runs");
            if output.status.success() {
                return serde_json::from_slice(&output.stdout).expect("JSON");
            }
            assert!(Instant::now() < end, "there is no {key}");
            std::thread::yield_now();
        }
    }

    /// `ovs config status`, as soon as the state is `state`.
    #[track_caller]
    fn status(&self, state: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let output = self.directory.command(&["config", "status", "--json"]).output().expect("runs");
            let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            if shown[0]["standing"] == state {
                let code = if state == "in-sync" { 0 } else { 7 };
                assert_eq!(output.status.code(), Some(code), "{shown}");
                return shown[0]["status"].clone();
            }
            assert!(Instant::now() < end, "not {state}: {shown}");
            std::thread::yield_now();
        }
    }
}

/// Whether the server lets a new client choose an export, and the connection.
fn greeted(host: &Host) -> (bool, TcpStream) {
    let url = host.directory.endpoints()["nbd"].as_str().expect("a text").to_owned();
    let mut client = TcpStream::connect(url.strip_prefix("nbd://").expect("a URL")).expect("connected");
    let mut greeting = [0; 18];
    (client.read_exact(&mut greeting).is_ok(), client)
}

#[test]
fn what_is_dynamic_is_applied_at_once() {
    let host = Host::start();
    let before = host.status("in-sync");
    let (first, second) = (greeted(&host), greeted(&host));
    assert!(first.0 && second.0);
    drop((first, second));
    host.put("nbd", &json!({"nbd_max_connections": 1}));
    assert_eq!(host.status("differs")["config_hash"], before["config_hash"]);
    let applied = host.directory.run(&["config", "apply"], 0).out;
    assert!(applied.contains("nbd.nbd_max_connections: 4096 -> 1"), "{applied}");
    let after = host.status("in-sync");
    assert_ne!(after["config_hash"], before["config_hash"]);
    // Those of before have gone when one is let in again.
    let end = Instant::now() + PATIENCE;
    let first = loop {
        let first = greeted(&host);
        if first.0 {
            break first;
        }
        assert!(Instant::now() < end, "nobody is let in");
    };
    assert!(!greeted(&host).0, "one is there already");
    drop(first);
    // The same again changes nothing.
    let again = host.directory.run(&["config", "apply", "--json"], 0).json();
    assert_eq!(
        again["feedback"].as_object().expect("by host").values().next().expect("one")["applied"],
        json!([])
    );
}

#[test]
fn documents_of_a_directory_are_stored_and_applied() {
    let host = Host::start();
    host.status("in-sync");
    let place = host.directory.path("documents");
    fs::create_dir_all(&place).expect("a directory");
    let write = |section: &str, document: &Value| {
        fs::write(place.join(format!("{section}.json")), document.to_string()).expect("written");
    };
    let apply = |more: &[&str], code: i32| {
        let documents = place.to_str().expect("a name");
        host.directory.run(&[&["config", "apply", documents][..], more].concat(), code).out
    };
    write("nbd", &json!({"nbd_max_connections": 5}));
    let applied = apply(&[], 0);
    assert!(applied.contains("nbd.nbd_max_connections: 4096 -> 5"), "{applied}");
    // What is wrong is not even stored.
    write("nbd", &json!({"nbd_max_connections": 0}));
    apply(&[], 5);
    let key = format!("{}/config/nbd|nbd_max_connections", host.base);
    assert_eq!(host.directory.run(&["config", "get", &key], 0).out.trim(), "5");
    // A dry run tells and changes nothing.
    host.put("nbd", &json!({"nbd_max_connections": 6}));
    let told = host.directory.run(&["config", "apply", "--dry-run"], 0).out;
    assert!(told.contains("would apply") && told.contains("5 -> 6"), "{told}");
    host.status("differs");
    // Sections that the directory does not have go.
    fs::remove_file(place.join("nbd.json")).expect("removed");
    write("scocache", &json!({"segment_size": "1MiB", "reserve_size": "16MiB"}));
    write("volume_manager", &json!({"run_size": "1MiB", "data_threads": 1}));
    let applied = apply(&["--prune"], 0);
    assert!(applied.contains("nbd.nbd_max_connections: 5 -> 4096"), "{applied}");
    host.directory.run(&["config", "get", &key], 3);
    host.status("in-sync");
}

#[test]
fn what_needs_a_restart_is_pending_until_then() {
    let host = Host::start();
    let before = host.status("in-sync");
    host.put("volume_manager", &json!({"run_size": "1MiB", "data_threads": 1, "ring_entries": 64}));
    host.status("pending-restart");
    let applied = host.directory.run(&["config", "apply"], 0);
    assert!(
        applied.out.contains("volume_manager.ring_entries: 256 until a restart, then 64"),
        "{}",
        applied.out
    );
    let status = host.status("pending-restart");
    assert_eq!(status["config_hash"], before["config_hash"]);
    assert_ne!(status["stored_hash"], before["config_hash"]);
    let host = host.restart();
    let status = host.status("in-sync");
    assert_ne!(status["config_hash"], before["config_hash"]);
    assert_eq!(status["pending_restart"], json!([]));
    assert_eq!(status["incarnation"], json!(2));
}

#[test]
fn another_disk_waits_and_what_comes_with_it_does_not() {
    let host = Host::start();
    let disks = json!([{"path": "other", "size": "UNLIMITED"}]);
    let sizes = json!({"segment_size": "1MiB", "reserve_size": "16MiB", "scocache_mount_points": disks});
    host.put("scocache", &sizes);
    host.put("nbd", &json!({"nbd_max_connections": 5}));
    let applied = host.directory.run(&["config", "apply"], 0).out;
    assert!(applied.contains("nbd.nbd_max_connections: 4096 -> 5"), "{applied}");
    assert!(applied.contains("scocache.scocache_mount_points: [{"), "{applied}");
    assert!(applied.contains("until a restart, then [{\"path\":\"other\""), "{applied}");
    host.status("pending-restart");
    let place = host.directory.path("other");
    assert!(!place.exists());
    let host = host.restart();
    host.status("in-sync");
    assert!(place.is_dir());
}

#[test]
fn the_log_follows_its_section() {
    let directory = DataDir::small();
    let path = std::env::temp_dir().join(format!("ovs-log-{}", std::process::id()));
    let host = Host::of(directory, fs::File::create(&path).expect("a log"));
    let applied = |document: &Value| {
        host.put("logging", document);
        host.directory.run(&["config", "apply"], 0).out
    };
    let out = applied(&json!({"log_level": "error"}));
    assert!(out.contains("logging.log_level: info -> error"), "{out}");
    host.status("in-sync");
    let before = fs::read_to_string(&path).expect("the log");
    // Refused, which is a warning, and said at this level by nobody.
    host.put("logging", &json!({"log_level": "error", "log_filters": "x"}));
    let refused = host.directory.run(&["config", "apply"], 5).out;
    assert!(refused.contains("logging.log_filters = x: \"x\" must be PART=LEVEL"), "{refused}");
    assert_eq!(fs::read_to_string(&path).expect("the log"), before);
    applied(&json!({"log_filters": "cfg_client=trace"}));
    let after = fs::read_to_string(&path).expect("the log");
    assert!(after[before.len()..].contains("update of the configuration"), "{after}");
    let _ = fs::remove_file(path);
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let host = Host::start();
    let before = host.status("in-sync");
    host.put("nbd", &json!({"nbd_port": 70_000, "colour": 1}));
    let differs = host.status("differs");
    assert_eq!(differs["config_hash"], before["config_hash"]);
    let refused = host.directory.run(&["config", "apply"], 5);
    assert!(refused.out.contains("nbd.nbd_port = 70000: must be"), "{}", refused.out);
    let feedback = host.update(r#"{"id":"one","by":"somebody"}"#, "one");
    assert_eq!((&feedback["outcome"], &feedback["unknown"]), (&json!("rejected"), &json!(["nbd.colour"])));
    assert_eq!(feedback["rejected"][0]["param"], "nbd_port");
    // What an update says wrongly is answered under its revision.
    let key = format!("{}/update", host.base);
    let set = host.directory.run(&["config", "set", &key, r#"{"id":"a/b"}"#, "--json"], 0).json();
    let revision = set["revision"].as_i64().expect("a revision");
    let feedback = host.awaited(&format!("feedback/r{revision}"));
    assert_eq!((&feedback["outcome"], &feedback["rejected"][0]["param"]), (&json!("rejected"), &json!("id")));

    // A start with it runs on the last good copy, and says so.
    let host = host.restart();
    let degraded = host.status("degraded");
    assert_eq!(degraded["config_hash"], before["config_hash"]);
    assert_eq!(degraded["degraded"][0]["param"], "nbd_port");
    host.put("nbd", &json!({}));
    host.directory.run(&["config", "apply"], 0);
    host.status("in-sync");
}

#[test]
fn sections_do_not_go_by_mistake() {
    let host = Host::start();
    let key = format!("{}/config/volume_manager", host.base);
    let address = host.directory.endpoints()["etcd"].as_str().expect("a text").to_owned();
    let deleted = std::process::Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &address, "del", &key])
        .output()
        .expect("etcdctl runs");
    assert!(deleted.status.success());
    let refused = host.directory.run(&["config", "apply"], 5);
    assert!(refused.out.contains("volume_manager: was stored and is gone"), "{}", refused.out);
    let applied = host.directory.run(&["config", "apply", "--allow-reset", "--json"], 0).json();
    let feedback = applied["feedback"].as_object().expect("by host").values().next().expect("one").clone();
    assert_eq!(feedback["outcome"], "applied");
    let pending: Vec<&Value> = feedback["pending_restart"].as_array().expect("a list").iter().collect();
    assert!(pending.iter().any(|p| p["param"] == "data_threads" && p["stored"] == "0"), "{pending:?}");
}

#[test]
fn a_reference_is_resolved_and_a_dangling_one_is_refused() {
    let host = Host::start();
    let document = json!({"nbd_max_connections": {"$ref": "/site/limits|nbd.connections"}});
    host.put("nbd", &document);
    let refused = host.directory.run(&["config", "apply"], 5);
    assert!(refused.out.contains("/site/limits"), "{}", refused.out);
    host.directory.run(&["config", "set", "/site/limits", r#"{"nbd":{"connections":77}}"#], 0);
    host.directory.run(&["config", "apply"], 0);
    let host = host.restart();
    host.status("in-sync");
    let log = fs::read_to_string(host.directory.path("last_good")).unwrap_or_default();
    assert!(
        log.contains("\"nbd_max_connections\":77"),
        "references of the last good copy are resolved: {log}"
    );
}

#[test]
fn hosts_that_are_down_are_shown_and_answer_when_they_start() {
    let host = Host::start();
    let endpoints = host.directory.endpoints();
    let guid = endpoints["vpool_guid"].as_str().expect("a text");
    let store = endpoints["etcd"].as_str().expect("a text").replace("http://", "etcd://");
    let base = format!("/ovs/vpools/{guid}/hosts/second");
    for (section, document) in [
        ("scocache", json!({"segment_size": "1MiB", "reserve_size": "16MiB"})),
        ("volume_manager", json!({"run_size": "1MiB", "data_threads": 1})),
    ] {
        host.directory.run(&["config", "set", &format!("{base}/config/{section}"), &document.to_string()], 0);
    }
    let all = |arguments: &[&str], code: i32| {
        let of_vpool = [&["config"][..], arguments, &["--vpool", guid]].concat();
        host.directory.run(&of_vpool, code).out
    };
    let shown = all(&["status"], 7);
    assert!(shown.contains("second") && shown.contains("down"), "{shown}");
    host.directory.run(&["config", "set", "--vpool", guid, "volume_manager|ring_entries", "64"], 0);
    let applied = all(&["apply"], 0);
    assert!(applied.contains("second: is down"), "{applied}");
    assert!(applied.contains("256 until a restart, then 64"), "{applied}");

    // It answers what it was asked while it was down.
    let second = DataDir::new();
    let url = format!("{store}{base}/config");
    let mut command = second.command(&["volumedriver", "run", "--ephemeral", "--config", &url]);
    let mut driver = command.spawn().expect("started");
    let update = host.directory.run(&["config", "get", &format!("/ovs/vpools/{guid}/update")], 0).json();
    let id = update["id"].as_str().expect("an id");
    let feedback = host.awaited_at(&format!("{base}/feedback/{id}"));
    assert_eq!((&feedback["at_start"], &feedback["outcome"]), (&json!(true), &json!("applied")));
    let status = host.awaited_at(&format!("{base}/status"));
    assert_eq!((&status["degraded"], &status["pending_restart"]), (&json!([]), &json!([])));
    driver.kill().expect("killed");
    driver.wait().expect("ended");
}

#[test]
fn a_change_can_be_applied_with_it_and_what_runs_be_stored_again() {
    let host = Host::start();
    let key = format!("{}/config/nbd", host.base);
    let run =
        |arguments: &[&str], code: i32| host.directory.run(&[&["config"][..], arguments].concat(), code);
    let limit = format!("{key}|nbd_max_connections");
    let applied = run(&["set", &limit, "5", "--apply"], 0).out;
    assert!(applied.contains("nbd.nbd_max_connections: 4096 -> 5"), "{applied}");
    run(&["set", "/site/limits", "1", "--apply"], 2).assert_error("is no document of a host");
    run(&["get", "/site/limits"], 3);
    host.status("in-sync");

    // Stored, not applied, and others' too; the rest of the host with it.
    host.put("nbd", &json!({"nbd_max_connections": 6}));
    host.put("metrics", &json!({"metrics_per_volume": false}));
    run(&["revert", &key, "--to-running"], 0);
    assert_eq!(run(&["get", &key], 0).json(), json!({"nbd_max_connections": 5}));
    host.status("differs");
    let config = format!("{}/config", host.base);
    let reverted = run(&["revert", &config, "--to-running", "-m", "a slip"], 0).out;
    assert!(reverted.contains("reverted 1 key to what runs"), "{reverted}");
    run(&["get", &format!("{config}/metrics")], 3);
    host.status("in-sync");
    assert!(run(&["revert", &config, "--to-running"], 0).out.contains("is what runs already"));
    // A section that is gone comes back.
    run(&["delete", &key, "--unchecked"], 0);
    run(&["revert", &config, "--to-running"], 0);
    assert_eq!(run(&["get", &key], 0).json(), json!({"nbd_max_connections": 5}));
    run(&["revert", "/site/limits", "--to-running"], 2).assert_error("belongs to no process");
    let nobody = format!("{}y/config/nbd", host.base);
    run(&["revert", &nobody, "--to-running"], 3).assert_error("no process says what it runs with");

    // The store forgot it, the history did not.
    run(&["set", &limit, "7"], 0);
    let endpoint = host.directory.endpoints()["etcd"].as_str().expect("a text").to_owned();
    let revision = run(&["set", &limit, "8", "--json"], 0).json()["revision"].to_string();
    let compacted = std::process::Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &endpoint, "compact", &revision])
        .output()
        .expect("etcdctl runs");
    assert!(compacted.status.success(), "{}", String::from_utf8_lossy(&compacted.stderr));
    run(&["revert", &key, "--to-running"], 0);
    assert_eq!(run(&["get", &key], 0).json(), json!({"nbd_max_connections": 5}));
}

#[test]
fn how_long_a_status_stays_follows_its_section() {
    let host = Host::start();
    let endpoint = host.directory.endpoints()["etcd"].as_str().expect("a text").to_owned();
    let life = || {
        let etcdctl = |arguments: &[&str]| {
            let mut command = std::process::Command::new("etcdctl");
            command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoint, "-w", "json"]).args(arguments);
            let output = command.output().expect("etcdctl runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
        };
        let lease = etcdctl(&["get", &format!("{}/status", host.base)])["kvs"][0]["lease"].as_i64();
        let lease = format!("{:x}", lease.expect("it is under a lease"));
        let leases = etcdctl(&["lease", "list"])["leases"].as_array().map_or(0, Vec::len);
        (etcdctl(&["lease", "timetolive", &lease])["granted-ttl"].clone(), leases)
    };
    let (before, leases) = life();
    assert_eq!(before, 10);
    host.put("updates", &json!({"update_status_ttl_secs": 60, "update_store_retry_ms": 20}));
    let applied = host.directory.run(&["config", "apply"], 0).out;
    assert!(applied.contains("updates.update_status_ttl_secs: 10 -> 60"), "{applied}");
    // The answer comes before the status that tells of it.
    host.status("in-sync");
    let end = Instant::now() + PATIENCE;
    // The lease of before is given back.
    while life() != (json!(60), leases) {
        assert!(Instant::now() < end, "{:?}", life());
        std::thread::yield_now();
    }
}
