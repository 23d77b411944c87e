//! The admin RPC of a node, with plain Python as its client: every method, errors, redirects, updates of the
//! configuration, TLS and tokens.

mod cli_node;
mod harness;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cli_node::{DataDir, Driver};
use harness::certificates::Authority;
use harness::nbd::Client;
use harness::random::Random;
use harness::{fio, process};
use serde_json::{Value, json};

/// What users read of it.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/admin-rpc.md");

/// Runs a part of the script, which must be content. What it printed before.
#[track_caller]
fn script(part: &str, directory: &DataDir, more: &[&str]) -> String {
    let endpoints = directory.path("endpoints.json").to_str().expect("a name").to_owned();
    let script = harness::client("admin_rpc.py");
    let arguments = [&[&script, part, endpoints.as_str()][..], more].concat();
    let said = process::must(harness::PYTHON, &arguments, Duration::from_secs(120));
    said.strip_suffix("ok\n").expect("it says ok at its end").to_owned()
}

/// The same, with a result in JSON.
#[track_caller]
fn result(part: &str, directory: &DataDir, more: &[&str]) -> Value {
    serde_json::from_str(&script(part, directory, more)).expect("JSON")
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().expect("a name").to_owned()
}

#[test]
fn every_method_answers_in_its_form() {
    let directory = DataDir::small();
    let node = directory.up(&["--volume", "one=8MiB"]);
    let methods = harness::client("methods.txt");
    script("methods", &directory, &[&methods]);
    script("errors", &directory, &[]);
    node.stop();
}

#[test]
fn what_clients_did_is_counted() {
    let directory = DataDir::small();
    let _node = directory.up(&["--volume", "one=8MiB"]);
    let url = directory.endpoints()["nbd"].as_str().expect("a text").to_owned();
    let address = url.strip_prefix("nbd://").expect("a URL");
    let mut client = Client::open(address, "one", Duration::from_secs(20)).expect("opened");
    for block in 0..16_u64 {
        assert_eq!(client.write(block << 12, &[7; 4096]), Ok(()));
    }
    for block in 0..7_u64 {
        assert_eq!(client.read(block << 12, 4096), Ok(vec![7; 4096]));
    }
    assert_eq!(client.flush(), Ok(()));
    let port = client.stream().local_port().to_string();
    let socket = text(directory.path("nbd.sock"));
    let mut second = Client::open(&socket, "one", Duration::from_secs(20)).expect("opened");
    // A connection is counted once it is served: the end of its negotiation is a moment before that.
    assert_eq!(second.read(0, 4096), Ok(vec![7; 4096]));
    script("counted", &directory, &[&port]);
}

#[test]
fn settings_of_a_volume_hold_at_once_and_after_stops_and_kills() {
    let directory = DataDir::small();
    let node = directory.up(&["--volume", "one=8MiB", "--volume", "two=8MiB"]);
    let open = || {
        let url = directory.endpoints()["nbd"].as_str().expect("a text").to_owned();
        Client::open(url.strip_prefix("nbd://").expect("a URL"), "one", Duration::from_secs(20))
            .expect("opened")
    };
    let stat = |key: &str| directory.run(&["volume", "stats", "one", "--json"], 0).json()[key].clone();
    let mut client = open();
    for block in 0..20_u64 {
        assert_eq!((client.write(block << 12, &[1; 4096]), client.flush()), (Ok(()), Ok(())));
        if block == 9 {
            assert_eq!(stat("ignored_flushes"), 0);
            script("set_own", &directory, &["1000", "3600", "70"]);
        }
    }
    assert!(stat("ignored_flushes").as_u64() >= Some(9), "{}", stat("ignored_flushes"));
    let shown = directory.run(&["volume", "info", "one", "--json"], 0).json();
    assert_eq!(shown["sync_ignore"], json!({"flushes": 1000, "seconds": 3600}));
    assert_eq!(shown["map_pages_max"], 70);
    // A drop kills.
    drop(node);
    let node = directory.up(&[]);
    script("own_settings", &directory, &["1000", "3600", "70"]);
    let mut client = open();
    for block in 0..20_u64 {
        assert_eq!(client.read(block << 12, 4096), Ok(vec![1; 4096]));
    }
    script("set_own", &directory, &["5", "6", "7"]);
    drop(node);
    let node = directory.up(&[]);
    script("own_settings", &directory, &["5", "6", "7"]);
    node.stop();
    let node = directory.up(&[]);
    script("own_settings", &directory, &["5", "6", "7"]);
    let info = directory.run(&["volume", "info", "one"], 0).out;
    assert!(info.contains("at most 5 flushes in a row, 6 seconds"), "{info}");
    assert!(info.contains("map pages    at most 7"), "{info}");
    node.stop();
}

#[test]
fn the_page_says_what_happens() {
    let directory = DataDir::small();
    let _node = directory.up(&[]);
    script("page", &directory, &[PAGE]);
}

#[test]
fn requests_go_to_whom_a_volume_belongs() {
    let first = DataDir::small();
    let node = first.up(&["--volume", "mine=1MiB"]);
    let endpoints = first.endpoints();
    let guid = endpoints["vpool_guid"].as_str().expect("a text").to_owned();
    let own = endpoints["vrouter_id"].as_str().expect("a text").to_owned();
    let store = endpoints["etcd"].as_str().expect("a text").replace("http://", "etcd://");
    let folder = format!("/ovs/vpools/{guid}/hosts/second/config");
    for (section, document) in [
        ("scocache", json!({"segment_size": "1MiB", "reserve_size": "16MiB"})),
        ("volume_manager", json!({"run_size": "1MiB", "data_threads": 1})),
    ] {
        first.run(&["config", "set", &format!("{folder}/{section}"), &document.to_string()], 0);
    }
    for (volume, owner) in [("ghost", own.as_str()), ("lost", "nobody")] {
        let key = format!("/ovs/vpools/{guid}/volumes/{volume}/config");
        first.run(&["config", "set", &key, &json!({"vrouter_id": owner}).to_string()], 0);
    }
    let second = DataDir::new();
    let driver = Driver::start(&second, &format!("{store}{folder}"), &["--volume", "yours=1MiB"]);
    let endpoints = text(second.path("endpoints.json"));
    script("redirects", &first, &[&endpoints, PAGE]);
    // Once its status is gone with its lease, it is offline.
    driver.kill();
    let end = Instant::now() + Duration::from_secs(60);
    while script("offline", &first, &["second"]).trim() != "0" {
        assert!(Instant::now() < end, "it still counts as online");
    }
    node.stop();
}

#[test]
fn a_halted_volume_says_so() {
    let directory = DataDir::small();
    let node = directory.up(&["--volume", "one=1MiB", "--volume", "two=1MiB"]);
    let uuid = directory.run(&["volume", "info", "two", "--json"], 0).json()["uuid"].clone();
    node.stop();
    let uuid = uuid.as_str().expect("a text");
    fs::write(directory.path("volumes").join(uuid).join("manifest"), "no manifest").expect("written");
    let _node = directory.up(&[]);
    // Its name cannot be read.
    script("halted", &directory, &["one", uuid]);
}

#[test]
fn an_update_says_what_it_did() {
    let directory = DataDir::small();
    let _node = directory.up(&[]);
    let config = directory.endpoints()["config"].as_str().expect("a text").to_owned();
    let key =
        |section: &str| format!("/{}/{section}", config.split('/').skip(3).collect::<Vec<_>>().join("/"));
    let set = |section: &str, document: Value| {
        directory.run(&["config", "set", &key(section), &document.to_string(), "--unchecked"], 0);
    };
    let update = |path: &str| result("update", &directory, &[path]);
    let change = |component: &str, parameter: &str, old: &str, new: &str| {
        let mut change = json!({"component_name": component, "parameter_name": parameter});
        change["old_value"] = json!(old);
        change["new_value"] = json!(new);
        change
    };

    // What is stored: some of it at once, some after a restart.
    set("nbd", json!({"nbd_max_connections": 50, "nbd_port": 7}));
    let updated = update(&config);
    assert_eq!(updated["updates"], json!([change("nbd", "nbd_max_connections", "4096", "50")]));
    assert_eq!(updated["no_updates"], json!([change("nbd", "nbd_port", "10809", "7")]));
    let key_of_feedback =
        key("nbd").replace("config/nbd", "feedback/") + updated["feedback_id"].as_str().expect("an id");
    let feedback = directory.run(&["config", "get", &key_of_feedback], 0).json();
    assert_eq!((&feedback["outcome"], &feedback["revision"]), (&json!("applied"), &updated["revision"]));
    set("nbd", json!({"nbd_max_connections": 0}));
    let rejected = update(&config);
    assert_eq!(rejected["xmlrpc_error_code"], 11);
    let problems = json!([{"component_name": "nbd", "parameter_name": "nbd_max_connections", "value": "0",
        "problem": "must be a whole number from 1 to 65536"}]);
    assert_eq!(rejected["problems"], problems);
    let checked = result("check", &directory, &[&config]);
    assert_eq!(
        (&checked["success"], &checked["problems"][0]["param_name"]),
        (&json!(false), &json!("nbd_max_connections"))
    );

    // Documents elsewhere are imported, with their history.
    let documents = directory.path("documents");
    fs::create_dir_all(&documents).expect("a directory");
    let write =
        |name: &str, document: Value| fs::write(documents.join(name), document.to_string()).expect("written");
    write("nbd.json", json!({"nbd_max_connections": 51}));
    let updated = update(&text(&documents));
    assert_eq!(updated["updates"], json!([change("nbd", "nbd_max_connections", "50", "51")]));
    let stored = || directory.run(&["config", "get", &key("nbd")], 0).json();
    assert_eq!(stored(), json!({"nbd_max_connections": 51}));
    write("whole", json!({"nbd": {"nbd_max_connections": 52}}));
    assert_eq!(update(&text(documents.join("whole")))["updates"][0]["new_value"], "52");
    write("nbd.json", json!({"nbd_max_connections": 53}));
    assert_eq!(update(&format!("file://{}", text(&documents)))["updates"][0]["new_value"], "53");
    let elsewhere = config.split_inclusive('/').take(3).collect::<String>() + "elsewhere";
    directory.run(&["config", "set", "/elsewhere/nbd", r#"{"nbd_max_connections": 54}"#], 0);
    assert_eq!(update(&elsewhere)["updates"][0]["new_value"], "54");
    let history = directory.run(&["config", "history", &key("nbd"), "--json"], 0).out;
    assert_eq!(history.matches("\"update_configuration\"").count(), 4, "{history}");

    // What is refused is not stored, or is taken back.
    write("nbd.json", json!({"nbd_max_connections": -1}));
    assert_eq!(update(&text(&documents))["xmlrpc_error_code"], 11);
    assert_eq!(stored(), json!({"nbd_max_connections": 54}));
    let own = directory.endpoints()["vrouter_id"].as_str().expect("a text").to_owned();
    directory.run(&["config", "freeze", &own], 0);
    write("nbd.json", json!({"nbd_max_connections": 55}));
    let frozen = update(&text(&documents));
    assert_eq!(frozen["xmlrpc_error_code"], 11, "{frozen}");
    assert_eq!(stored(), json!({"nbd_max_connections": 54}));
    directory.run(&["config", "thaw", &own], 0);
}

#[test]
fn each_of_a_crowd_hears_of_its_own_update_beside_load() {
    let (_, seed) = Random::announced("crowd");
    let directory = DataDir::small();
    let node = directory.up(&["--volume", "v=64MiB", "--log-level", "warn"]);
    let endpoints = directory.endpoints();
    let uri = endpoints["nbd_unix"].as_str().expect("a text").replace(":///?", ":///v?");
    let crowd = directory.path("crowd");
    fs::create_dir_all(&crowd).expect("a directory");
    let mut running = fio::begin(&uri, seed);
    let mut rounds = 0;
    // At least once, however quick fio is. No number follows itself.
    while running.try_wait().expect("waited for").is_none() || rounds == 0 {
        let first = if rounds % 2 == 0 { "101" } else { "201" };
        script("crowd", &directory, &[&text(&crowd), first]);
        rounds += 1;
    }
    let slowest = Duration::from_nanos(fio::end(running));
    println!("{rounds} rounds of 20 updates; the slowest request took {slowest:?}");
    node.stop();
}

#[test]
fn documents_that_cannot_be_read_are_faults() {
    let directory = DataDir::small();
    let _node = directory.up(&[]);
    let endpoints = text(directory.path("endpoints.json"));
    fs::write(directory.path("odd"), "{").expect("written");
    let large = fs::File::create(directory.path("large")).expect("a file");
    large.set_len(17 << 20).expect("as long as that");
    for (path, part) in [
        ("arakoon://a/b", "is not known"),
        ("somewhere", "neither a URL nor an absolute path"),
        ("/nowhere/at/all", "cannot be read"),
        ("etcd://127.0.0.1:1/a", "not reachable"),
        ("file://relative", "relative"),
        (&text(directory.path("odd")), "no JSON object of sections"),
        ("/dev/zero", "neither a file nor a directory"),
        (&text(directory.path("large")), "larger than 16 MiB"),
    ] {
        let script = harness::client("admin_rpc.py");
        let arguments = [script.as_str(), "update", &endpoints, path];
        let done = process::run(harness::PYTHON, &arguments, Duration::from_secs(60));
        assert_ne!(done.code(), 0);
        let last = done.stderr.lines().last().unwrap_or_default();
        assert!(last.contains("Fault 1") && last.contains(part), "{path}: {last}");
    }
}

#[test]
fn with_tls_and_a_token_nobody_else_is_let_in() {
    let directory = DataDir::small();
    let authority = Authority::new(&directory.path("certificates"));
    let [certificate, key] = authority.sign("node");
    let document = json!({"xmlrpc_token": "open sesame", "xmlrpc_tls_key_file": key,
        "xmlrpc_tls_cert_file": certificate});
    directory.configure("xmlrpc", &document);
    let _node = directory.up(&["--volume", "one=1MiB"]);
    script("tls", &directory, &[&authority.ca(), "open sesame"]);
}

#[test]
fn files_for_tls_that_cannot_be_used_are_named() {
    let directory = DataDir::small();
    directory
        .configure("xmlrpc", &json!({"xmlrpc_tls_cert_file": "/no/cert", "xmlrpc_tls_key_file": "/no/key"}));
    directory
        .run(&["up", "--ephemeral", "--log-level", "error"], 1)
        .assert_error("xmlrpc_tls_cert_file: /no/");
}
