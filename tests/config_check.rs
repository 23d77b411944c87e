//! `ovs config …`: what would not be valid is refused before it is written, and what a change does is told.

mod cli_node;
mod config_store;
#[path = "../cfg/client/tests/etcd/mod.rs"]
mod etcd;

use std::fs;
use std::process::Stdio;

use cli_node::{DataDir, Printed, ended, ovs};
use config_store::ConfigStore;
use serde_json::{Value, json};

const HOST: &str = "/ovs/vpools/g/hosts/h1/config";

fn key(section: &str) -> String {
    format!("{HOST}/{section}")
}

/// Everything that is stored, with the revision of each key.
fn stored(store: &ConfigStore) -> String {
    let stored = store.cluster.ctl(&["get", "--prefix", "/ovs/vpools", "-w", "fields"]);
    // The revision of the store as a whole moves with what is stored elsewhere.
    stored.lines().filter(|line| !line.starts_with("\"Revision\"")).collect()
}

/// A refusal of one value is one line.
#[track_caller]
fn assert_refused(printed: &Printed, parts: &[&str]) {
    printed.assert_error("nothing was changed");
    for part in parts {
        assert!(printed.err.contains(part), "{part:?} is not in {}", printed.err);
    }
}

#[test]
fn what_would_not_be_valid_is_not_written() {
    let store = ConfigStore::start();
    store.set(&key("scocache"), r#"{"trigger_gap": "1GB"}"#);
    let old = store.set(&key("nbd"), r#"{"nbd_max_connections": 8, "nbd_port": 10000}"#);
    store.set(&key("nbd"), r#"{"nbd_max_connections": 8}"#);
    let before = stored(&store);
    let port = format!("{}|nbd_port", key("nbd"));
    assert_refused(
        &store.run(&["set", &port, "70000"], 5),
        &["nbd.nbd_port = 70000: must be a whole number from 0 to 65535"],
    );
    // The rules between parameters, also of several documents.
    let gap = format!("{}|trigger_gap", key("scocache"));
    assert_refused(
        &store.run(&["set", &gap, "3GB"], 5),
        &["scocache.trigger_gap = \"3GB\": must be at most scocache.backoff_gap, which is 2GB"],
    );
    assert_refused(
        &store.run(&["set", &key("volume_manager"), r#"{"run_size": "1TiB"}"#], 5),
        &["volume_manager.run_size"],
    );
    assert_refused(&store.run(&["set", &key("nbd"), "[1]"], 5), &["nbd = [1]: must be a JSON object"]);
    // Every problem has its line, and the last line says what to do.
    let both = store.run(&["set", &key("nbd"), r#"{"nbd_port": -1, "nbd_max_connections": "x"}"#], 5);
    let lines: Vec<&str> = both.err.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].starts_with("ovs: nbd.nbd_port = -1: ") && lines[1].contains("= \"x\": "), "{lines:#?}");
    assert!(lines[2].contains("2 values are refused") && lines[2].contains("--unchecked"), "{lines:#?}");
    let shown = store.run(&["set", &port, "70000", "--json"], 5).json();
    assert_eq!((&shown["changed"], shown["problems"].as_array().map(Vec::len)), (&json!(false), Some(1)));
    let problem = &shown["problems"][0];
    assert_eq!(
        (&problem["vpool"], &problem["host"], &problem["component"], &problem["param"], &problem["value"]),
        (&json!("g"), &json!("h1"), &json!("nbd"), &json!("nbd_port"), &json!(70_000))
    );
    // A document that only a rename brings.
    store.set("/draft/scocache", r#"{"trigger_gap": "3GB"}"#);
    let rename = ["rename", "/draft/scocache", "/ovs/vpools/g/hosts/h2/config/scocache"];
    assert_refused(&store.run(&rename, 5), &["scocache.trigger_gap"]);
    assert_eq!(stored(&store), before);
    // Elsewhere nothing is checked, and neither is what somebody insists on.
    store.set("/ovs/services/dtl/d/config/nbd", r#"{"nbd_port": 70000}"#);
    store.out(&["set", &gap, "3GB", "--unchecked"]);
    // What is wrong already stays in the way, until it is put right.
    assert_refused(&store.run(&["set", &port, "10000"], 5), &["scocache.trigger_gap"]);
    assert_refused(&store.run(&["revert", &key("nbd"), &old.to_string()], 5), &["scocache.trigger_gap"]);
    store.out(&["delete", &gap]);
    store.out(&["revert", &key("nbd"), &old.to_string()]);
    // A value on which another one depends.
    store.out(&["set", &key("scocache"), r#"{"trigger_gap": "3GB", "backoff_gap": "4GB"}"#]);
    let backoff = format!("{}|backoff_gap", key("scocache"));
    assert_refused(&store.run(&["delete", &backoff], 5), &["scocache.trigger_gap"]);
    store.cluster.ctl(&["put", &key("http"), "{"]);
    assert_refused(&store.run(&["set", &port, "10001"], 5), &["http = null: must be a JSON object"]);
    store.out(&["delete", &key("http")]);
    store.out(&["set", &port, "10001"]);
}

#[test]
fn what_a_change_does_is_told() {
    let store = ConfigStore::start();
    let first = store.out(&["set", &key("scocache"), r#"{"trigger_gap": "1GB"}"#]);
    assert_eq!(first.lines().count(), 1, "nothing runs with it yet: {first}");
    let set = |section: &str, value: &str| store.run(&["set", &format!("{HOST}/{section}"), value], 0);
    let told = set("scocache|trigger_gap", "1500MB");
    let line = told.out.lines().nth(1).expect("a second line");
    assert!(line.starts_with("  scocache.trigger_gap: 1GB -> 1500MB, "), "{line}");
    assert_eq!(told.err, "");
    let told = set("nbd|nbd_port", "10001").out;
    assert!(told.ends_with("\n  nbd.nbd_port: 10809 -> 10001, waits for a restart\n"), "{told}");
    let told = set("scocache|segment_size", "2MiB").out;
    assert!(
        told.contains(", immutable: the next update refuses it, unless the host was made with it\n"),
        "{told}"
    );
    let told = set("nbd|nbd_port", "\"10001\"").out;
    assert!(told.ends_with("\n  no value that has an effect changes\n"), "{told}");
    let told = store.json(&["set", &format!("{HOST}/nbd|nbd_port"), "10000"]);
    assert_eq!(
        told["effects"],
        json!([{"vpool": "g", "host": "h1", "component": "nbd", "param": "nbd_port", "old": "10001",
                "new": "10000", "category": "restart"}])
    );
    assert_eq!((&told["unknown"], &told["no_effect"]), (&json!([]), &json!([])));
    // Keys that do nothing are warned of when they come, and not again.
    let warned = set("nbd|colour", "red");
    warned.assert_error("nbd.colour is unknown: it is kept and has no effect");
    let warned = set("event_publisher|events_amqp_routing_key", "volumerouter");
    warned.assert_error("event_publisher.events_amqp_routing_key has no effect in this program");
    assert_eq!(set("nbd|nbd_port", "10001").err, "");
    assert_eq!(store.json(&["get", &format!("{HOST}/nbd|colour")])["value"], "red", "it is kept");
    let told = store.json(&["set", &format!("{HOST}/nbd|shape"), "1"]);
    assert_eq!(told["unknown"], json!(["nbd.shape"]));
    // Secrets are not shown, whichever way they go.
    let uri =
        |user: &str| json!({"events_amqp_uris": [{"amqp_uri": format!("amqp://u:{user}@h")}]}).to_string();
    for text in [uri("hush1"), uri("hush2")] {
        let told = store.run(&["set", &key("event_publisher"), &text], 0);
        assert!(!told.out.contains("hush") && !told.err.contains("hush"), "{}{}", told.out, told.err);
    }
    let refused = json!({"events_amqp_uris": [{"amqp_uri": ["hush"]}]}).to_string();
    let refused = store.run(&["set", &key("event_publisher"), &refused, "--json"], 5);
    assert!(!refused.out.contains("hush") && !refused.err.contains("hush"), "{}{}", refused.out, refused.err);
    // What goes.
    let told = store.out(&["delete", &key("nbd")]);
    assert!(told.contains("  nbd is gone: an update refuses that unless it says allow_reset"), "{told}");
    assert!(told.contains("  nbd.nbd_port: 10001 -> 10809, waits for a restart"), "{told}");
    let told = store.out(&["delete", HOST, "--recursive"]);
    assert!(told.contains("it has no configuration any more"), "{told}");
}

#[test]
fn of_several_hosts_all_or_none() {
    let store = ConfigStore::start();
    for host in ["h1", "h2", "h3", "h4"] {
        store.set(&format!("/ovs/vpools/g/hosts/{host}/config/nbd"), "{}");
    }
    store.set("/ovs/vpools/g/hosts/h2/config/scocache", r#"{"backoff_gap": "4GB"}"#);
    let before = stored(&store);
    let set = |what: &str, value: &str, code: i32| store.run(&["set", "--vpool", "g", what, value], code);
    // On one of them it would be valid.
    let refused = set("scocache|trigger_gap", "3GB", 5);
    let lines: Vec<&str> = refused.err.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(
        lines[1].starts_with("ovs: /ovs/vpools/g/hosts/h3: scocache.trigger_gap = \"3GB\": "),
        "{lines:#?}"
    );
    assert_eq!(stored(&store), before);
    let told = set("scocache|backoff_gap", "4GB", 0).out;
    assert!(
        told.contains("  scocache.backoff_gap: 2GB -> 4GB, ") && told.contains(" (h1, h3, h4)\n"),
        "{told}"
    );
    let told = set("nbd|nbd_port", "10000", 0).out;
    assert!(told.ends_with("  nbd.nbd_port: 10809 -> 10000, waits for a restart (4 hosts)\n"), "{told}");
    // Import: two documents are right together.
    let directory = etcd::Directory::new();
    let file = directory.path("import.json");
    let import = |gap: &str, backoff: &str, code: i32| {
        let document = json!({
            "format": "ovs-config", "version": 1, "cluster_id": "", "revision": 0, "documents": {
                "/ovs/vpools/g/hosts/h1/config/scocache": {"trigger_gap": gap, "backoff_gap": backoff},
                "/ovs/vpools/g/hosts/h2/config/nbd": {"nbd_port": 10_001},
            },
        });
        fs::write(&file, document.to_string()).expect("written");
        store.run(&["import", file.to_str().expect("text")], code)
    };
    let before = stored(&store);
    let refused = import("9GB", "8GB", 5);
    assert_refused(&refused, &["/ovs/vpools/g/hosts/h1: scocache.trigger_gap = \"9GB\""]);
    assert_eq!(stored(&store), before);
    let told = import("7GB", "8GB", 0).out;
    assert!(told.contains("nbd.nbd_port: 10000 -> 10001, waits for a restart (h2)"), "{told}");
}

#[test]
fn two_changes_that_are_right_alone_do_not_both_happen() {
    let store = ConfigStore::start();
    let place = |name: &str| format!("{HOST}/{name}");
    let (reserve, run) = (place("scocache|reserve_size"), place("volume_manager|run_size"));
    let mut refused = 0;
    for _ in 0..20 {
        store.out(&["set", &run, "1MiB"]);
        store.out(&["set", &reserve, "64MiB"]);
        // The reserve is at least twice the run.
        let mut both = [(&reserve, "16MiB"), (&run, "16MiB")].map(|(place, value)| {
            let mut command = store.command(&["set", place, value]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started")
        });
        for child in &mut both {
            refused += usize::from(child.wait().expect("ended").code() == Some(5));
        }
        store.run(&["validate"], 0);
    }
    assert_eq!(refused, 20);
}

#[test]
fn references_are_followed_before_a_value_is_judged() {
    let store = ConfigStore::start();
    store.set("/shared/sizes", r#"{"gap": "3GB", "small": "1GB", "password": "8"}"#);
    let set = |to: &str, code: i32| {
        let value = json!({"trigger_gap": {"$ref": to}}).to_string();
        store.run(&["set", &key("scocache"), &value], code)
    };
    assert_refused(&set("/shared/nothing", 5), &["scocache.trigger_gap", "there is none"]);
    assert_refused(
        &set("/shared/sizes|nothing", 5),
        &["scocache.trigger_gap", "the document has none there"],
    );
    assert_refused(&set("/shared/sizes|gap", 5), &["must be at most scocache.backoff_gap"]);
    let own = format!("{}|trigger_gap", key("scocache"));
    assert_refused(&set(&own, 5), &["must not lead back to itself"]);
    set("/shared/sizes|small", 0);
    let told = store.out(&["set", &own, r#"{"$ref": "/shared/sizes|password"}"#]);
    assert!(told.contains("  scocache.trigger_gap: *** -> ***, "), "{told}");
    // What one change brings counts for what it refers to.
    let directory = etcd::Directory::new();
    let file = directory.path("import.json");
    let document = json!({
        "format": "ovs-config", "version": 1, "cluster_id": "", "revision": 0, "documents": {
            "/shared/new": {"port": 10_000}, key("nbd"): {"nbd_port": {"$ref": "/shared/new|port"}},
        },
    });
    fs::write(&file, document.to_string()).expect("written");
    let told = store.out(&["import", file.to_str().expect("text")]);
    assert!(told.contains("nbd.nbd_port: 10809 -> 10000"), "{told}");
}

#[test]
fn the_identity_of_the_node_counts() {
    let directory = DataDir::small();
    let node = directory.up(&[]);
    let config = directory.endpoints()["config"].as_str().expect("a URL").to_owned();
    let (store, path) = config.strip_prefix("etcd://").and_then(|url| url.split_once('/')).expect("a path");
    let place = format!("/{path}/scocache|segment_size");
    let refused = directory.run(&["config", "set", &place, "2MiB"], 5);
    assert_refused(&refused, &["scocache.segment_size", "is immutable", "made with"]);
    // Who asks the store alone knows no data directory; the update will.
    let endpoint = format!("etcd://{store}");
    let told = ended(ovs(&["config", "set", &place, "2MiB", "--endpoint", &endpoint]), 0).out;
    assert!(told.contains("immutable: the next update refuses it"), "{told}");
    let found = directory.run(&["config", "validate"], 5);
    assert!(found.out.contains("refused: scocache.segment_size"), "{}", found.out);
    directory.run(&["config", "set", &place, "1MiB"], 0);
    directory.run(&["config", "validate"], 0);
    node.stop();
}

#[test]
fn everything_stored_is_validated() {
    let store = ConfigStore::start();
    store.run(&["validate"], 3).assert_error("there is no host");
    store.set(&key("nbd"), r#"{"nbd_port": 10000}"#);
    store.set("/ovs/vpools/g/hosts/h2/config/nbd", r#"{"colour": 1}"#);
    store.set("/ovs/vpools/k/hosts/h1/config/event_publisher", r#"{"events_amqp_routing_key": "x"}"#);
    let out = store.out(&["validate"]);
    assert_eq!(
        out,
        "/ovs/vpools/g/hosts/h1/config: valid\n\
         /ovs/vpools/g/hosts/h2/config: unknown: nbd.colour\n\
         /ovs/vpools/g/hosts/h2/config: valid\n\
         /ovs/vpools/k/hosts/h1/config: without effect: event_publisher.events_amqp_routing_key\n\
         /ovs/vpools/k/hosts/h1/config: valid\n"
    );
    store.cluster.ctl(&["put", "/ovs/vpools/k/hosts/h1/config/nbd", r#"{"nbd_port":{"$ref":"/gone"}}"#]);
    store.cluster.ctl(&["put", "/ovs/vpools/k/hosts/h1/config/http", "?"]);
    let found = store.run(&["validate"], 5);
    found.assert_error("2 problems in 1 of 3 configurations");
    assert!(
        found.out.contains("/ovs/vpools/k/hosts/h1/config: refused: nbd.nbd_port = {\"$ref\":\"/gone\"}")
    );
    assert!(found.out.contains("refused: http = null: must be a JSON object"), "{}", found.out);
    store.run(&["validate", "--vpool", "g"], 0);
    store.run(&["validate", "--vpool", "k"], 5);
    store.run(&["validate", "--host", "h2"], 0);
    store.run(&["validate", "--vpool", "k", "--host", "h2"], 3).assert_error("there is no host \"h2\"");
    let shown = store.run(&["validate", "--json", "--vpool", "k"], 5).json();
    assert_eq!((&shown[0]["valid"], shown[0]["problems"].as_array().map(Vec::len)), (&json!(false), Some(2)));
}

#[test]
fn documents_of_a_directory_are_validated() {
    let directory = etcd::Directory::new();
    let path = directory.path("config");
    let shown = path.to_str().expect("text");
    // No store is asked, unless a reference leads to one.
    let validate =
        |code: i32| ended(ovs(&["config", "validate", shown, "--endpoint", "etcd://127.0.0.1:1"]), code);
    validate(3).assert_error("there is no");
    fs::create_dir(&path).expect("made");
    validate(3).assert_error("there is no document in");
    let write = |name: &str, document: &Value| {
        fs::write(path.join(name), document.to_string()).expect("written");
    };
    write("scocache.json", &json!({"trigger_gap": "1GB"}));
    write(".hidden.json", &json!(7));
    write("notes.txt", &json!(7));
    assert_eq!(validate(0).out, format!("{shown}: valid\n"));
    write("nbd.json", &json!({"nbd_port": 70_000, "colour": 1}));
    fs::write(path.join("http.json"), "{").expect("written");
    let found = validate(5);
    found.assert_error("2 problems in 1 of 1 configuration");
    assert_eq!(found.out.lines().count(), 3, "{}", found.out);
    fs::remove_file(path.join("http.json")).expect("removed");
    write("nbd.json", &json!({"nbd_port": {"$ref": "/shared|port"}}));
    validate(6).assert_error("the documents refer to a store");
    let store = ConfigStore::start();
    store.set("/shared", r#"{"port": 10000}"#);
    store.run(&["validate", shown], 0);
    store.set("/shared", r#"{"port": 70000}"#);
    let found = store.run(&["validate", shown], 5);
    assert!(
        found.out.contains("nbd.nbd_port = 70000") && found.out.contains("/shared|port"),
        "{}",
        found.out
    );
}
