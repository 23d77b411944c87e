//! What processes do with input that is wrong, too large, or not theirs: each case is answered, nothing is lost, and
//! the next good update is taken. With the configuration store and with Debian's etcd in its place.

mod cli_node;
mod harness;
mod one_host;

use std::process::Command;

use harness::cfg::Server;
use one_host::{BASE, OneHost};
use serde_json::{Map, Value, json};

/// The largest document.
const LIMIT: usize = 512 << 10;

/// A feedback that refuses, with one problem: component and text.
#[track_caller]
fn refused(feedback: &Value) -> (&str, &str) {
    assert_eq!(feedback["outcome"], "rejected", "{feedback}");
    assert_eq!((&feedback["applied"], feedback["rejected"].as_array().map(Vec::len)), (&json!([]), Some(1)));
    let problem = &feedback["rejected"][0];
    (problem["component"].as_str().expect("a text"), problem["problem"].as_str().expect("a text"))
}

#[track_caller]
fn assert_applied(feedback: &Value, new: &str) {
    assert_eq!(feedback["outcome"], "applied", "{feedback}");
    assert_eq!(feedback["applied"][0]["new"], new, "{feedback}");
}

/// A document of exactly so many bytes.
fn of_size(connections: u32, bytes: usize) -> String {
    let document = format!("{{\"nbd_max_connections\": {connections}}}");
    let blanks = " ".repeat(bytes - document.len());
    document.replace('}', &blanks) + "}"
}

fn broken_documents(server: Server) {
    let mut host = OneHost::start(server);
    let before = host.status(|status| status["stored_hash"] == status["config_hash"]);
    // Nobody asks for an update, and it is known that what is stored cannot be used.
    let revision = host.put("nbd", "{\"nbd_max_connections\": 7");
    let status = host.status(|status| status["observed_revision"] == revision);
    assert_eq!((&status["stored_hash"], &status["config_hash"]), (&Value::Null, &before["config_hash"]));
    host.run(&["status", "--vpool", one_host::VPOOL], 7);
    let feedback = host.update();
    let (component, problem) = refused(&feedback);
    assert_eq!(component, "nbd");
    assert!(problem.contains("config/nbd, line 1, column"), "{problem}");

    // A start runs on the last good copy, and answers what was asked while it was down.
    host.end();
    host.tree.put(&format!("{BASE}/update"), json!({"id": "down"}).to_string());
    host.begin();
    let feedback = host.tree.awaited(&format!("{BASE}/feedback/down"), |f| f.is_object().then(|| f.clone()));
    assert_eq!((refused(&feedback).0, &feedback["at_start"]), ("nbd", &json!(true)));
    let status = host.status_after(&feedback);
    assert_eq!(status["config_hash"], before["config_hash"]);
    assert_eq!(status["degraded"][0]["component"], "nbd");

    // One that is frozen is frozen whatever is stored.
    host.end();
    host.tree.put(&format!("{BASE}/frozen"), "{}");
    host.begin();
    let status = host.status(|_| true);
    assert_eq!((&status["frozen"], &status["config_hash"]), (&json!(true), &before["config_hash"]));
    let feedback = host.update();
    assert_eq!((refused(&feedback).0, &feedback["frozen"]), ("update", &json!(true)));
    host.tree.delete(&format!("{BASE}/frozen"));
    host.status(|status| status["frozen"].is_null());

    host.put("nbd", json!({"nbd_max_connections": 7}).to_string());
    assert_applied(&host.update(), "7");
    // No document at all, none that is an object, and several wrong values at once: all are named.
    host.put("nbd", "");
    assert_eq!(refused(&host.update()).0, "nbd");
    host.put("nbd", "[]");
    assert_eq!(refused(&host.update()).0, "nbd");
    host.put(
        "nbd",
        json!({"nbd_max_connections": true, "nbd_port": [1], "nbd_max_handshakes": {}}).to_string(),
    );
    let feedback = host.update();
    let params = feedback["rejected"].as_array().expect("a list").iter().map(|r| r["param"].as_str());
    let mut params: Vec<&str> = params.map(|param| param.expect("a text")).collect();
    params.sort_unstable();
    assert_eq!(params, ["nbd_max_connections", "nbd_max_handshakes", "nbd_port"]);
    host.put("nbd", json!({"nbd_max_connections": 8}).to_string());
    assert_applied(&host.update(), "8");
}

fn large_documents(server: Server) {
    let mut host = OneHost::start(server);
    host.put("nbd", of_size(7, LIMIT));
    assert_applied(&host.update(), "7");
    for bytes in [LIMIT + 1, 1_400_000] {
        host.put("nbd", of_size(8, bytes));
        let feedback = host.update();
        let (component, problem) = refused(&feedback);
        assert_eq!(component, "nbd");
        assert!(problem.contains("is larger than 512 KiB"), "{problem}");
    }
    // Many that are large, which do not fit one answer of the store.
    for section in ["a", "b", "c", "d"] {
        host.put(section, of_size(9, 1_400_000));
    }
    refused(&host.update());
    for section in ["a", "b", "c", "d"] {
        host.tree.delete(&format!("{BASE}/config/{section}"));
    }
    // A start with it is degraded, and what is referred to may be large.
    host.end();
    host.begin();
    assert_eq!(host.status(|_| true)["degraded"][0]["component"], "nbd");
    host.tree.put("/site/large", of_size(11, 1_400_000));
    let reference = json!({"nbd_max_connections": {"$ref": "/site/large|nbd_max_connections"}});
    host.put("nbd", reference.to_string());
    assert_applied(&host.update(), "11");
}

fn many_keys(server: Server) {
    const COUNT: usize = 10_000;
    let mut host = OneHost::start(server);
    let write = |host: &OneHost, folder: &str, value: Option<&str>| {
        let change =
            |number| (format!("{BASE}/config/{folder}{number:05}"), value.map(|v| v.as_bytes().to_vec()));
        let changes: Vec<_> = (0..COUNT).map(change).collect();
        for changes in changes.chunks(100) {
            host.tree.write(changes);
        }
    };
    // Those that lie deeper are somebody else's.
    write(&host, "folder/", Some("not JSON"));
    host.put("nbd", json!({"nbd_max_connections": 7}).to_string());
    assert_applied(&host.update(), "7");
    write(&host, "section", Some("{}"));
    let feedback = host.update();
    assert!(refused(&feedback).1.contains("holds more than 256 documents"), "{feedback}");
    write(&host, "section", None);
    host.put("nbd", json!({"nbd_max_connections": 8}).to_string());
    assert_applied(&host.update(), "8");

    // In one document: told as far as there is room.
    let mut document: Map<String, Value> =
        (0..COUNT).map(|number| (format!("key{number:05}"), json!(1))).collect();
    document.insert("nbd_max_connections".to_owned(), json!(9));
    host.put("nbd", Value::Object(document).to_string());
    let feedback = host.update();
    assert_applied(&feedback, "9");
    let unknown = feedback["unknown"].as_array().expect("a list");
    assert!(unknown.len() <= 257, "{} are told", unknown.len());
    let last = unknown.last().and_then(Value::as_str).expect("a text");
    assert!(last.contains("more"), "{last}");
}

fn foreign_writes(server: Server) {
    let mut host = OneHost::start(server);
    let key = format!("{BASE}/feedback/one");
    // Somebody was there before: it is written over.
    for before in ["no JSON", "{}", r#"{"id":"one","node":"x","revision":1,"outcome":"applied"}"#] {
        host.tree.put(&key, before);
        let feedback = host.update_as(&json!({"id": "one"}));
        assert_eq!((&feedback["node"], &feedback["outcome"]), (&json!("one"), &json!("applied")));
    }
    // An id again is done again.
    host.put("nbd", json!({"nbd_max_connections": 7}).to_string());
    assert_applied(&host.update_as(&json!({"id": "one"})), "7");
    let again = host.update_as(&json!({"id": "one"}));
    assert_eq!((&again["outcome"], &again["applied"]), (&json!("applied"), &json!([])));

    // Somebody writes over it: nobody answers twice, until a start finds that what stands there is not answered.
    let mut foreign = again.clone();
    foreign["node"] = json!("somebody");
    host.tree.put(&key, foreign.to_string());
    host.put("nbd", json!({"nbd_max_connections": 8}).to_string());
    assert_applied(&host.update(), "8");
    assert_eq!(host.tree.json(&key), Some(foreign));
    let last = host.update_as(&json!({"id": "one"}));
    host.tree.put(&key, "no JSON");
    host.end();
    host.begin();
    let answered = host.tree.awaited(&key, |f| (f["revision"] == last["revision"]).then(|| f.clone()));
    assert_eq!((&answered["at_start"], &answered["outcome"]), (&json!(true), &json!("applied")));

    // What a plain client writes between two of ours counts as much.
    let section = format!("{BASE}/config/nbd");
    let connections = format!("{section}|nbd_max_connections");
    host.run(&["set", &connections, "9"], 0);
    let address = host.server.client_url.clone();
    let etcdctl = |value: &str| {
        let mut etcdctl = Command::new("etcdctl");
        etcdctl.env("ETCDCTL_API", "3").args(["--endpoints", &address, "put", &section, value]);
        let output = etcdctl.output().expect("etcdctl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    etcdctl(r#"{"nbd_max_connections": 10, "nbd_max_handshakes": 11}"#);
    host.run(&["set", &connections, "12"], 0);
    let feedback = host.update();
    let applied = feedback["applied"].as_array().expect("a list").iter();
    let applied: Vec<(&Value, &Value)> = applied.map(|a| (&a["param"], &a["new"])).collect();
    let expected =
        [("nbd_max_connections", "12"), ("nbd_max_handshakes", "11")].map(|(p, n)| (json!(p), json!(n)));
    assert_eq!(applied, expected.iter().map(|(p, n)| (p, n)).collect::<Vec<_>>());
    let history = host.run(&["history", &section], 0).out;
    assert!(history.contains("unknown"), "{history}");
    etcdctl("{\"nbd_max_connections\": ");
    host.run(&["set", &connections, "13"], 5).assert_error("is no JSON");
    assert_eq!(refused(&host.update()).0, "nbd");
    etcdctl(r#"{"nbd_max_connections": 14}"#);
    host.run(&["set", &connections, "15"], 0);
    let feedback = host.update();
    assert_applied(&feedback, "15");
    host.status_after(&feedback);

    // What ran last is known when nothing runs.
    host.end();
    host.put("nbd", json!({"nbd_max_connections": 16}).to_string());
    host.run(&["revert", &section, "--to-running"], 0);
    assert_eq!(host.tree.json(&section), Some(json!({"nbd_max_connections": 15})));
}

fn references_and_sections(server: Server) {
    let mut host = OneHost::start(server);
    let refer = |to: &str| json!({"nbd_max_connections": {"$ref": to}}).to_string();
    host.put("nbd", refer("/site/a|x"));
    let said = |feedback: &Value| {
        assert_eq!(refused(feedback).0, "nbd");
        feedback["rejected"][0].to_string()
    };
    assert!(said(&host.update()).contains("/site/a|x"));
    for (a, b, says) in [
        (json!({"x": {"$ref": "/site/b|x"}}), json!({"x": {"$ref": "/site/a|x"}}), "/site/b|x leads to"),
        (json!({"x": {"$ref": "/site/a|x"}}), json!({}), "must not lead back to itself"),
        (json!({"x": {"$ref": "/site/b|y"}}), json!({"x": 1}), "/site/b|y"),
        (json!({"x": {"$ref": "no path"}}), json!({}), "must refer to a path"),
        (json!({"x": {"$ref": "/site/b|x", "and": 1}}), json!({"x": 1}), "no other keys beside $ref"),
    ] {
        host.tree.put("/site/a", a.to_string());
        host.tree.put("/site/b", b.to_string());
        let problem = said(&host.update());
        assert!(problem.contains(says), "{problem} does not say {says:?}");
    }
    host.tree.put("/site/a", "no JSON");
    assert!(refused(&host.update()).1.contains("/site/a is referred to, and is no JSON"));
    // A start with it runs as before.
    host.end();
    host.begin();
    assert!(host.status(|_| true)["degraded"][0]["problem"].to_string().contains("/site/a"));
    host.tree.put("/site/a", json!({"x": 7}).to_string());
    assert_applied(&host.update(), "7");

    host.tree.delete(&format!("{BASE}/config/nbd"));
    let feedback = host.update();
    assert_eq!(refused(&feedback).0, "nbd");
    assert!(refused(&feedback).1.contains("was stored and is gone"));
    assert_applied(&host.update_as(&json!({"id": "reset", "allow_reset": true})), "4096");
    for (section, _) in one_host::small() {
        host.tree.delete(&format!("{BASE}/config/{section}"));
    }
    assert_eq!(refused(&host.update_as(&json!({"id": "nothing", "allow_reset": true}))).0, "config");
}

macro_rules! with_both {
    ($($scenario:ident => $store:ident $etcd:ident)+) => {
        $(
            #[test]
            fn $store() {
                $scenario(Server::Store);
            }

            #[test]
            fn $etcd() {
                $scenario(Server::Etcd);
            }
        )+
    };
}

with_both! {
    broken_documents => broken_documents_lose_nothing broken_documents_lose_nothing_with_etcd
    large_documents => large_documents_are_refused large_documents_are_refused_with_etcd
    many_keys => ten_thousand_keys_do_no_harm ten_thousand_keys_do_no_harm_with_etcd
    foreign_writes => others_may_write_there_too others_may_write_there_too_with_etcd
    references_and_sections => what_leads_nowhere_is_refused what_leads_nowhere_is_refused_with_etcd
}
