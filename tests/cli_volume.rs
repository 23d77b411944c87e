//! `ovs volume …` against a running node.

mod cli_node;

use cli_node::DataDir;
use serde_json::{Value, json};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

const VOLUME_KEYS: [&str; 10] = [
    "connections",
    "data_thread",
    "halted_reason",
    "map_pages_max",
    "name",
    "size",
    "state",
    "stored_bytes",
    "sync_ignore",
    "uuid",
];

#[test]
fn a_volume_is_created_shown_resized_and_deleted() {
    let directory = DataDir::small();
    let node = directory.up(&[]);
    assert_eq!(
        directory.run(&["volume", "create", "vm-1", "--size", "10GiB"], 0).out,
        "created vm-1, 10GiB\n"
    );
    let list = directory.run(&["volume", "list"], 0).out;
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "SIZE", "STORED", "CONNECTIONS", "STATE"]);
    assert_eq!((lines[1][0], lines[1][1], lines[1][4]), ("vm-1", "10GiB", "running"));
    let info = directory.run(&["volume", "info", "vm-1"], 0).out;
    assert!(info.contains("10GiB (10737418240 bytes)"), "{info}");
    let resized = directory.run(&["volume", "resize", "vm-1", "--size", "20GB"], 0).out;
    assert_eq!(resized, "resized vm-1 to 20GB\n");
    assert!(directory.run(&["volume", "stats", "vm-1"], 0).out.contains("written_bytes"));
    assert_eq!(directory.run(&["volume", "delete", "vm-1"], 0).out, "deleted vm-1\n");
    assert_eq!(directory.run(&["volume", "list", "--json"], 0).out, "[]\n");
    node.stop();
}

#[test]
fn json_has_the_same_shape_everywhere() {
    let directory = DataDir::small();
    let node = directory.up(&[]);
    let created = directory.run(&["volume", "create", "a", "--size", "4096", "--json"], 0).json();
    assert_eq!(keys(&created), VOLUME_KEYS);
    assert_eq!((&created["name"], &created["size"]), (&json!("a"), &json!(4096)));
    assert_eq!((&created["state"], &created["halted_reason"]), (&json!("running"), &json!(null)));
    assert_eq!(directory.run(&["volume", "info", "a", "--json"], 0).json()["uuid"], created["uuid"]);
    assert_eq!((&created["sync_ignore"], &created["map_pages_max"]), (&json!(null), &json!(null)));
    let list = directory.run(&["volume", "list", "--json"], 0).json();
    assert_eq!(keys(&list[0]), VOLUME_KEYS);
    let resized = directory.run(&["volume", "resize", "a", "--size", "8192", "--json"], 0).json();
    assert_eq!((keys(&resized), &resized["size"]), (VOLUME_KEYS.to_vec(), &json!(8192)));
    let stats = directory.run(&["volume", "stats", "a", "--json"], 0).json();
    for key in ["name", "reads", "writes", "flushes", "trims", "read_bytes", "written_bytes", "log_bytes"] {
        assert!(stats.get(key).is_some(), "{key} is missing in {stats}");
    }
    let deleted = directory.run(&["volume", "delete", "a", "--json"], 0).json();
    assert_eq!(deleted, json!({"deleted": "a"}));
    node.stop();
}

#[test]
fn what_is_not_there_exits_3() {
    let directory = DataDir::small();
    let node = directory.up(&[]);
    for command in [
        &["volume", "info", "ghost"][..],
        &["volume", "stats", "ghost"],
        &["volume", "delete", "ghost"],
        &["volume", "resize", "ghost", "--size", "1MiB"],
    ] {
        let printed = directory.run(command, 3);
        printed.assert_error("there is no volume ghost");
        assert!(printed.out.is_empty());
    }
    node.stop();
}

#[test]
fn what_is_refused_says_why() {
    let directory = DataDir::small();
    directory.configure(
        "volume_manager",
        &json!({"run_size": "1MiB", "data_threads": 1, "max_volume_size": "1GiB"}),
    );
    let node = directory.up(&["--volume", "a=1MiB"]);
    directory.run(&["volume", "create", "a", "--size", "1MiB"], 4).assert_error("exists already");
    directory.run(&["volume", "create", "b", "--size", "2GiB"], 5).assert_error("volume b");
    directory.run(&["volume", "resize", "a", "--size", "512"], 5).assert_error("volume a");
    assert_eq!(directory.run(&["volume", "info", "a", "--json"], 0).json()["size"], json!(1 << 20));
    node.stop();
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let directory = DataDir::small();
    let node = directory.up(&["--volume", "a=1MiB"]);
    let mut command = directory.command(&["volume", "list"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("started");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("ended").code(), Some(0));
    node.stop();
}
