//! `ovs up`: start, addresses, stop, and what it refuses.

mod cli_node;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use cli_node::{DataDir, ended, ovs};
use serde_json::json;

#[test]
fn a_node_says_where_it_is_and_stops_cleanly() {
    let directory = DataDir::small();
    let node = directory.up(&["--volume", "one=1MiB", "--volume", "two=64MB"]);
    let endpoints = directory.endpoints();
    assert_eq!(endpoints["pid"], json!(node.pid()));
    for key in ["nbd", "nbd_unix", "http", "admin"] {
        let address = endpoints[key].as_str().expect(key);
        assert!(
            node.lines.iter().any(|line| line.starts_with(key) && line.ends_with(address)),
            "{:?}",
            node.lines
        );
    }
    assert!(endpoints["nbd"].as_str().is_some_and(|address| address.starts_with("nbd://127.0.0.1:")));
    assert_eq!(node.lines.last().map(String::as_str), Some("ready"));
    let socket = directory.path("nbd.sock");
    assert_eq!(endpoints["nbd_unix"], json!(format!("nbd+unix:///?socket={}", socket.display())));
    for name in ["nbd.sock", "admin.sock", "endpoints.json", "identity.json"] {
        let mode = fs::metadata(directory.path(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    node.stop();
    for name in ["nbd.sock", "admin.sock", "endpoints.json"] {
        assert!(!directory.path(name).exists(), "{name} is left");
    }
    directory.run(&["volume", "list"], 6).assert_error("no node runs");
}

#[test]
fn volumes_are_found_again_and_keep_their_size() {
    let directory = DataDir::small();
    directory.up(&["--volume", "one=1MiB"]).stop();
    let node = directory.up(&["--volume", "one=2MiB", "--volume", "two=1MiB"]);
    let volumes = directory.run(&["volume", "list", "--json"], 0).json();
    let shown: Vec<_> =
        volumes.as_array().expect("a list").iter().map(|v| (&v["name"], &v["size"])).collect();
    assert_eq!(shown, [(&json!("one"), &json!(1 << 20)), (&json!("two"), &json!(1 << 20))]);
    node.stop();
}

#[test]
fn interrupt_stops_like_terminate() {
    let directory = DataDir::small();
    let mut node = directory.up(&[]);
    node.signal("INT");
    assert_eq!(node.wait().code(), Some(0));
}

#[test]
fn a_second_process_on_the_directory_is_refused_and_harms_nothing() {
    let directory = DataDir::small();
    let node = directory.up(&[]);
    directory.run(&["up", "--ephemeral"], 1).assert_error(&format!("is in use by process {}", node.pid()));
    directory.run(&["volume", "list"], 0);
    node.stop();
}

#[test]
fn a_killed_node_is_not_reachable_and_can_be_started_again() {
    let directory = DataDir::small();
    let mut node = directory.up(&["--volume", "one=1MiB"]);
    node.signal("KILL");
    node.wait();
    assert!(directory.path("endpoints.json").exists());
    directory.run(&["volume", "list"], 6).assert_error("no node answers");
    let node = directory.up(&[]);
    assert_eq!(directory.run(&["volume", "info", "one", "--json"], 0).json()["size"], json!(1 << 20));
    node.stop();
}

#[test]
fn a_taken_port_is_named_with_what_to_do() {
    let directory = DataDir::small();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    directory.configure("nbd", &json!({"nbd_port": address.port()}));
    let printed = directory.run(&["up", "--log-level", "error"], 1);
    printed.assert_error(&format!("cannot listen on {address}"));
    printed.assert_error("or change nbd_port");
    assert!(!directory.path("endpoints.json").exists());
}

#[test]
fn a_rejected_configuration_names_every_problem() {
    let directory = DataDir::small();
    directory.configure("nbd", &json!({"nbd_port": 70_000, "nbd_max_connections": 0}));
    let printed = directory.run(&["up", "--ephemeral"], 5);
    printed.assert_error("nbd.nbd_port = 70000: must be");
    printed.assert_error("nbd.nbd_max_connections = 0: must be a whole number from 1 to 65536");
    directory.configure_text("nbd", "{\n \"nbd_port\": 1,\n}");
    directory.run(&["up", "--ephemeral"], 5).assert_error("nbd.json, line 3, column 1");
}

#[test]
fn unknown_keys_do_not_stop_a_start() {
    let directory = DataDir::small();
    directory.configure("nbd", &json!({"nbd_prot": 5}));
    directory.configure("event_publisher", &json!({"events_amqp_uris": []}));
    let log = directory.path("log");
    let mut command = directory.command(&["up", "--ephemeral", "--json", "--log-format", "json"]);
    command.stdout(Stdio::piped()).stderr(fs::File::create(&log).expect("a log"));
    let mut child = command.spawn().expect("started");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("a line");
    let announcement: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&announcement["ready"], &announcement["pid"]), (&json!(true), &json!(child.id())));
    child.kill().expect("killed");
    child.wait().expect("ended");
    let log = fs::read_to_string(log).expect("the log");
    let entries: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
    let keys: Vec<&str> = entries.iter().filter_map(|entry| entry["key"].as_str()).collect();
    assert_eq!(keys, ["nbd.nbd_prot", "event_publisher.events_amqp_uris"]);
}

/// The key of a section of the node that runs in `directory`.
fn key(directory: &DataDir, section: &str) -> String {
    let endpoints = directory.endpoints();
    let text = |name: &str| endpoints[name].as_str().expect("a text").to_owned();
    format!("/ovs/vpools/{}/hosts/{}/config/{section}", text("vpool_guid"), text("vrouter_id"))
}

/// What `ovs up` says of itself until it is ready, as log lines.
fn log_of_start(directory: &DataDir) -> String {
    let log = directory.path("log");
    let mut command = directory.command(&["up", "--ephemeral"]);
    command.stdout(Stdio::piped()).stderr(fs::File::create(&log).expect("a log"));
    let mut child = command.spawn().expect("started");
    let stdout = std::io::BufReader::new(child.stdout.take().expect("piped"));
    let ready = std::io::BufRead::lines(stdout).any(|line| line.expect("output") == "ready");
    child.kill().expect("killed");
    child.wait().expect("ended");
    let log = fs::read_to_string(log).expect("the log");
    assert!(ready, "{log}");
    log
}

#[test]
fn an_immutable_parameter_stays_what_it_was() {
    let directory = DataDir::small();
    let node = directory.up(&[]);
    let key = key(&directory, "scocache");
    directory.run(&["config", "set", &format!("{key}|segment_size"), "\"2MiB\"", "--unchecked"], 0);
    node.stop();
    let log = log_of_start(&directory);
    assert!(log.contains("scocache.segment_size") && log.contains("is immutable"), "{log}");
    assert!(log.contains("degraded: running on the last good configuration"), "{log}");
    // Another spelling is no change, and silence means the recorded value and not the default.
    for document in
        [json!({"segment_size": 1 << 20, "reserve_size": "16MiB"}), json!({"reserve_size": "16MiB"})]
    {
        let node = directory.up(&[]);
        directory.run(&["config", "set", &key, &document.to_string()], 0);
        node.stop();
        let log = log_of_start(&directory);
        assert!(!log.contains("degraded"), "{log}");
    }
}

#[test]
fn a_node_whose_configuration_is_gone_does_not_serve() {
    let directory = DataDir::new();
    directory.configure("scocache", &json!({"segment_size": "1MiB", "reserve_size": "32MiB"}));
    let node = directory.up(&[]);
    let key = key(&directory, "scocache");
    directory.run(&["config", "delete", &key], 0);
    node.stop();
    directory.run(&["up", "--ephemeral"], 3).assert_error("there is no configuration at");
}

#[test]
fn documents_of_an_older_directory_are_moved_into_the_store() {
    let directory = DataDir::small();
    let node = directory.up(&[]);
    let read = |section: &str| directory.run(&["config", "get", &key(&directory, section)], 0).json();
    assert_eq!(read("scocache"), json!({"segment_size": "1MiB", "reserve_size": "16MiB"}));
    assert_eq!(read("volume_manager"), json!({"run_size": "1MiB", "data_threads": 1}));
    assert!(!directory.path("config").exists() && directory.path("config.imported/scocache.json").exists());
    node.stop();
    // Files that come later change nothing, and that is said.
    directory.configure("scocache", &json!({"segment_size": "1MiB", "reserve_size": "48MiB"}));
    assert!(log_of_start(&directory).contains("holds documents that are not read any more"));
    let node = directory.up(&[]);
    let document = directory.run(&["config", "get", &key(&directory, "scocache")], 0).json();
    assert_eq!(document["reserve_size"], json!("16MiB"));
    node.stop();
}

#[test]
fn a_first_start_writes_down_what_cannot_be_changed_later() {
    let directory = DataDir::new();
    let node = directory.up(&[]);
    let document = directory.run(&["config", "get", &key(&directory, "scocache")], 0).json();
    assert_eq!(document, json!({"segment_size": "32MiB"}));
    node.stop();
}

#[test]
fn the_directory_comes_from_the_environment_too() {
    let directory = DataDir::small();
    let node = directory.up(&[]);
    let mut command = ovs(&["volume", "list", "--json"]);
    command.env("OVS_DATA_DIR", directory.as_ref());
    assert_eq!(ended(command, 0).json(), json!([]));
    for endpoint in [
        format!("unix://{}", directory.path("admin.sock").display()),
        directory.path("endpoints.json").display().to_string(),
    ] {
        let mut command = ovs(&["volume", "list", "--json"]);
        command.env("OVS_ENDPOINT", endpoint);
        assert_eq!(ended(command, 0).json(), json!([]));
    }
    node.stop();
}

#[test]
fn off_loopback_is_possible_when_asked_for() {
    let directory = DataDir::small();
    let node = directory.up(&["--listen", "0.0.0.0", "--insecure"]);
    let endpoints = directory.endpoints();
    assert!(
        endpoints["nbd"].as_str().is_some_and(|address| address.starts_with("nbd://127.0.0.1:")),
        "{endpoints}"
    );
    node.stop();
}
