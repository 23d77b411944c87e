//! `ovs config …` against a real etcd: what each command prints and how it ends.

mod cli_node;
mod config_store;
#[path = "../cfg/client/tests/etcd/mod.rs"]
mod etcd;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use cli_node::{DataDir, ended, ovs};
use config_store::ConfigStore;
use serde_json::{Value, json};

#[test]
fn keys_are_set_shown_listed_and_deleted() {
    let store = ConfigStore::start();
    assert_eq!(store.out(&["list", "/"]), "", "empty, and no failure");
    store.run(&["list", "/a"], 3).assert_error("there is nothing at /a");
    store.run(&["list-recursive", "/a"], 3).assert_error("there is nothing at /a");
    let set = store.out(&["set", "/a/b/c", r#"{"x": {"y": 1}, "l": [1]}"#]);
    assert!(set.starts_with("set /a/b/c at revision "), "{set}");
    assert_eq!(store.out(&["get", "/a/b/c"]), "{\"x\": {\"y\": 1}, \"l\": [1]}\n", "as it was given");
    assert_eq!(store.out(&["get", "/a/b/c|x.y"]), "1\n");
    assert_eq!(store.out(&["get", "/a/b/c|l.0"]), "1\n");
    store.out(&["set", "/a/b/c|x.z", "2GB"]);
    store.out(&["set", "/a/b/c|new.deep", "true"]);
    assert_eq!(store.out(&["get", "/a/b/c|x.z"]), "2GB\n", "a bare word is a string");
    let shown = store.json(&["get", "/a/b/c"]);
    assert_eq!(shown["value"], json!({"l": [1], "new": {"deep": true}, "x": {"y": 1, "z": "2GB"}}));
    assert_eq!(shown["key"], "/a/b/c");
    store.out(&["delete", "/a/b/c|x"]);
    store.run(&["get", "/a/b/c|x.y"], 3).assert_error("there is no /a/b/c|x.y");
    store.run(&["delete", "/a/b/c|x"], 3).assert_error("there is no /a/b/c|x");

    store.out(&["set", "/a/d", "7"]);
    store.out(&["set", "/a/b/e/f", "\"text\""]);
    assert_eq!(store.out(&["list", "/a"]), "b/\nd\n");
    assert_eq!(store.out(&["list", "/a/"]), "b/\nd\n");
    assert_eq!(store.out(&["list-recursive", "/a"]), "/a/b/c\n/a/b/e/f\n/a/d\n");
    assert_eq!(
        store.out(&["list-recursive", "/"]),
        "/a/b/c\n/a/b/e/f\n/a/d\n",
        "without what ovs keeps for itself"
    );
    assert_eq!(store.json(&["list", "/a/b"]), json!(["c", "e/"]));
    store.run(&["list", "/a/d"], 3).assert_error("is a document, not a folder");
    store.run(&["get", "/a/b"], 3).assert_error("/a/b is a folder");
    store.run(&["delete", "/a/b"], 3).assert_error("/a/b is a folder");
    store.run(&["get", "/a/x"], 3).assert_error("there is nothing at /a/x");
    assert!(store.out(&["delete", "/a/d"]).starts_with("deleted /a/d at revision"));
    store.run(&["delete", "/a/d"], 3).assert_error("there is nothing at /a/d");
    assert_eq!(store.json(&["delete", "/a", "--recursive"])["keys"], 2);
    store.run(&["delete", "/a", "--recursive"], 3);
    // What foreign clients store is shown as it is.
    store.cluster.ctl(&["put", "/foreign", "no JSON"]);
    assert_eq!(store.out(&["get", "/foreign"]), "no JSON\n");
    store.run(&["get", "/foreign|x"], 5).assert_error("is no JSON");
    store.run(&["set", "/foreign|x", "1"], 5).assert_error("is no JSON");
    store.out(&["set", "/foreign", "1"]);
}

#[test]
fn a_path_is_a_path() {
    let store = ConfigStore::start();
    for key in ["/abc", "/abcd", "/ab/c", "/abc-d"] {
        store.set(key, "1");
    }
    store.set("/t/abc/x", "1");
    store.set("/t/abcd/x", "2");
    store.out(&["delete", "/abc", "--recursive"]);
    assert_eq!(store.out(&["list-recursive", "/"]), "/ab/c\n/abc-d\n/abcd\n/t/abc/x\n/t/abcd/x\n");
    assert_eq!(store.json(&["rename", "/t/abc", "/t/new"])["keys"], 1);
    assert_eq!(store.out(&["list-recursive", "/t"]), "/t/abcd/x\n/t/new/x\n");
    store.run(&["rename", "/t/new", "/t/abcd"], 4).assert_error("there is something at /t/abcd already");
    store.run(&["rename", "/t/new", "/t/new/y"], 2).assert_error("lies in");
    store.run(&["rename", "/t", "/t"], 2);
    store.run(&["rename", "/no", "/yes"], 3).assert_error("there is nothing at /no");
    store.out(&["delete", "/t/new/x"]);
    assert_eq!(store.out(&["list", "/t"]), "abcd/\n", "a folder without keys is not there");
}

#[test]
fn a_key_is_a_document_or_a_folder() {
    let store = ConfigStore::start();
    store.set("/a/b", "1");
    store.run(&["set", "/a/b/c/d", "1"], 4).assert_error("/a/b is a document");
    store.run(&["set", "/a", "1"], 4).assert_error("/a is a folder");
    store.set("/x", "1");
    store.run(&["rename", "/x", "/a/b/x"], 4).assert_error("/a/b is a document");
    // Also when both are made at the same moment: what the first look did not find, the transaction does.
    let mut refused = 0;
    for number in 0..20 {
        let (document, inside) = (format!("/r/{number}"), format!("/r/{number}/x"));
        let mut both = [&document, &inside].map(|key| {
            let mut command = store.command(&["set", key, "1"]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started")
        });
        for child in &mut both {
            refused += usize::from(child.wait().expect("ended").code() == Some(4));
        }
        let there = store.json(&["list-recursive", &document]);
        assert_eq!(there.as_array().map(Vec::len), Some(1), "{there}");
    }
    assert_eq!(refused, 20);
    // A foreign client can; then the folder counts.
    store.cluster.ctl(&["put", "/a/b/c", "1"]);
    let list = store.run(&["list", "/a"], 0);
    assert_eq!(list.out, "b/\n");
    assert!(list.err.contains("/a/b is a document and a folder"), "{}", list.err);
}

#[test]
fn what_is_wrong_is_refused() {
    let store = ConfigStore::start();
    for key in ["a", "/", "/a/", "/a//b", "/a/../b", "/a|", "/a|x..y", "/a\nb"] {
        store.run(&["set", key, "1"], 2);
        store.run(&["get", key], 2);
    }
    store.run(&["set", "/a|x|y.z", "1"], 0);
    for value in ["", "{", "{\"a\":}", "word", "[1", "\"x"] {
        store.run(&["set", "/b", value], 5).assert_error("is no JSON");
    }
    store.run(&["set", "/b|x", "{\"a\":"], 5).assert_error("is no JSON");
    store.run(&["set", "/a|x|y.z.q", "1"], 5).assert_error("neither an object nor a list");
    store.run(&["set", "/ovs/history/x", "1"], 5).assert_error("kept by ovs itself");
    store.run(&["rename", "/a", "/ovs/changes/x"], 5).assert_error("kept by ovs itself");
    store.run(&["set", "/a", "1", "-m", &"x".repeat(1025)], 2).assert_error("at most 1024");
    store.run(&["delete", "/a|x", "--recursive"], 2).assert_error("--recursive is for keys");
    let large = format!("\"{}\"", "x".repeat(512 * 1024 - 2));
    store.fed(&["set", "/large", "-"], large.as_bytes(), 0);
    assert_eq!(store.out(&["get", "/large"]).trim_end(), large, "the largest document");
    store.fed(&["set", "/large", "-"], format!("{large} 1").as_bytes(), 5);
    store.fed(&["set", "/larger", "-"], format!("[{large}]").as_bytes(), 5).assert_error("at most 512 KiB");
    let huge = vec![b' '; 2 << 20];
    store.fed(&["set", "/larger", "-"], &huge, 5).assert_error("too large");
    store.fed(&["set", "/larger", "-"], b"\"\xff\"", 5).assert_error("no UTF-8");
    assert_eq!(store.out(&["list", "/"]), "a\nlarge\n");
}

#[test]
fn stores_that_do_not_answer_exit_6() {
    let directory = DataDir::small();
    directory.run(&["config", "get", "/a"], 6).assert_error("no endpoints.json");
    // A port on which nobody listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
    let at = |endpoint: &str, code: i32| ended(ovs(&["config", "get", "/a", "--endpoint", endpoint]), code);
    at(&format!("etcd://{free}"), 6).assert_error("is not reachable");
    at("etcd://127.0.0.1:1/path", 2).assert_error("without a path");
    at("etcd://", 2).assert_error("HOST:PORT");
    at("ftp://a", 2).assert_error("names no store");
    at("/no/such/endpoints.json", 6);
    let node = directory.up(&[]);
    directory.run(&["config", "get", "/a"], 3).assert_error("there is nothing at /a");
    let store = ConfigStore::start();
    store.set("/a", "1");
    let mut endpoints = directory.endpoints();
    endpoints["etcd"] = json!(null);
    std::fs::write(directory.path("endpoints.json"), endpoints.to_string()).expect("written");
    directory.run(&["config", "get", "/a"], 6).assert_error("has no configuration store");
    endpoints["etcd"] = json!(format!("http://{}", store.cluster.endpoints[0]));
    std::fs::write(directory.path("endpoints.json"), endpoints.to_string()).expect("written");
    assert_eq!(directory.run(&["config", "get", "/a"], 0).out, "1\n");
    let socket = format!("unix://{}", directory.path("admin.sock").display());
    assert_eq!(at(&socket, 0).out, "1\n");
    node.stop();
}

#[test]
fn writers_do_not_overwrite_each_other() {
    let store = ConfigStore::start();
    let first = store.set("/a", "{}");
    let second = store.set("/a", r#"{"x":1}"#);
    let old = first.to_string();
    store
        .run(&["set", "/a", "{}", "--if-revision", &old], 4)
        .assert_error(&format!("revision {second}, not {first}"));
    store.run(&["delete", "/a", "--if-revision", &old], 4);
    store.run(&["set", "/new", "1", "--if-revision", &old], 4).assert_error("is not there");
    store.run(&["set", "/a", "{}", "--if-revision", "0"], 4);
    store.run(&["set", "/new", "1", "--if-revision", "0"], 0);
    assert_eq!(store.json(&["set", "/new", "1"])["changed"], false, "nothing to change");
    // Each sets members of its own in one document, at the same time as the other.
    std::thread::scope(|scope| {
        for writer in ["p", "q"] {
            let store = &store;
            scope.spawn(move || {
                for number in 0..15 {
                    store.run(&["set", &format!("/a|{writer}{number}"), "1"], 0);
                }
            });
        }
    });
    let document = store.json(&["get", "/a"])["value"].clone();
    assert_eq!(document.as_object().expect("an object").len(), 31, "{document}");
    assert_eq!(store.json(&["history", "/a"]).as_array().expect("a list").len(), 32);
}

#[test]
fn a_value_is_set_for_all_hosts_of_a_vpool() {
    let store = ConfigStore::start();
    let set = |value: &str, code: i32| {
        store.run(&["set", "--vpool", "g", "scocache|trigger_gap", value, "--json"], code)
    };
    set("1GB", 3).assert_error("there is no host");
    for host in ["h1", "h2"] {
        store.set(&format!("/ovs/vpools/g/hosts/{host}/config/nbd"), "{}");
    }
    store.set("/ovs/vpools/g/hosts/h2/config/scocache", r#"{"trigger_gap":"2GB","x":1}"#);
    store.set("/ovs/vpools/gg/hosts/h3/config/nbd", "{}");
    store.set("/ovs/vpools/g/hosts/h4/retired", "true");
    assert_eq!(set("2GB", 0).json()["set"], 1);
    let both = set("1600MB", 0).json();
    assert_eq!((&both["set"], &both["unchanged"]), (&json!(2), &json!(0)));
    for (host, document) in
        [("h1", json!({"trigger_gap": "1600MB"})), ("h2", json!({"trigger_gap": "1600MB", "x": 1}))]
    {
        let shown = store.json(&["get", &format!("/ovs/vpools/g/hosts/{host}/config/scocache")]);
        assert_eq!((&shown["value"], &shown["revision"]), (&document, &both["revision"]), "at once");
    }
    assert_eq!(set("1600MB", 0).json()["set"], 0);
    assert_eq!(store.out(&["list-recursive", "/ovs/vpools/gg"]), "/ovs/vpools/gg/hosts/h3/config/nbd\n");
    store.run(&["set", "--vpool", "g", "a//b", "1"], 2);
    store.run(&["set", "--vpool", "../g", "nbd", "{}"], 2);
}

#[test]
fn history_says_who_when_and_what() {
    let store = ConfigStore::start();
    store.run(&["history", "/a"], 3).assert_error("/a has no history");
    let first = store.json(&["set", "/a", r#"{"x": 1}"#, "-m", "begin"])["revision"].clone();
    let second = store.set("/a|x", "2");
    let text = store.out(&["history", "/a"]);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["REV", "TIME", "BY", "ACTION", "MESSAGE"]);
    assert_eq!((lines[1][0], lines[1][3], lines[1][4]), (first.to_string().as_str(), "set", "begin"));
    assert!(
        lines[1][1].starts_with("20") && lines[1][1].ends_with('Z') && lines[1][2].contains('@'),
        "{text}"
    );
    // Others write: one change is met, of two only the last is.
    store.cluster.ctl(&["put", "/a", r#"{"x": 3}"#]);
    store.set("/a|x", "4");
    store.cluster.ctl(&["put", "/a", r#"{"x": 5}"#]);
    store.cluster.ctl(&["put", "/a", r#"{"x": 6}"#]);
    store.out(&["delete", "/a"]);
    let entries = store.json(&["history", "/a"]);
    let shown: Vec<(&Value, &Value, bool)> = entries
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| (&entry["action"], &entry["value"]["x"], entry["gap_before"].as_bool().expect("a bool")))
        .collect();
    let expected = [
        ("set", json!(1), false),
        ("set", json!(2), false),
        ("found", json!(3), false),
        ("set", json!(4), false),
        ("found", json!(6), true),
        ("delete", Value::Null, false),
    ];
    assert_eq!(shown.len(), expected.len(), "{entries}");
    for (shown, (action, x, gap)) in shown.iter().zip(&expected) {
        assert_eq!((shown.0.as_str(), shown.1, shown.2), (Some(*action), x, *gap), "{entries}");
    }
    assert_eq!(entries[2]["by"], "unknown");
    assert!(store.out(&["history", "/a"]).contains("gap"));
    // It does not need old revisions of the store.
    let last = entries[5]["revision"].as_i64().expect("a revision");
    store.cluster.compact(last);
    store.out(&["revert", "/a", &second.to_string(), "-m", "back"]);
    assert_eq!(store.out(&["get", "/a"]), "{\"x\":2}\n");
    assert_eq!(store.json(&["revert", "/a", &second.to_string()])["changed"], false);
    store.out(&["revert", "/a", &last.to_string()]);
    store.run(&["get", "/a"], 3);
    store.run(&["revert", "/a", "1"], 3).assert_error("has no entry 1");
    store.run(&["diff", "/a", "1"], 3).assert_error("has no entry 1");
    assert_eq!(store.out(&["diff", "/a", &first.to_string(), &second.to_string()]), "~ x: 1 -> 2\n");
    assert_eq!(store.out(&["diff", "/a", &second.to_string()]), "- x: 2\n");
    // The oldest entries go, and the rest says so.
    for number in 0..102 {
        store.set("/t", &number.to_string());
    }
    let entries = store.json(&["history", "/t"]);
    assert_eq!(entries.as_array().map(Vec::len), Some(100));
    assert_eq!((&entries[0]["gap_before"], &entries[0]["value"]), (&json!(true), &json!(2)));
    assert!(entries.as_array().expect("a list")[1..].iter().all(|entry| entry["gap_before"] == false));
    // A rename is in both histories.
    store.set("/r", "1");
    store.out(&["rename", "/r", "/s"]);
    assert!(store.out(&["history", "/r"]).contains("rename to /s"));
    assert!(store.out(&["history", "/s"]).contains("rename from /r"));
}

#[test]
fn changes_are_told_as_they_happen() {
    let store = ConfigStore::start();
    let first = store.set("/w/a", r#"{"password": "p"}"#);
    let mut watch = store.command(&["watch", "/w", "--from", &first.to_string()]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().expect("started");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert_eq!(next(), format!("{first} set /w/a {{\"password\":\"***\"}}"));
    store.set("/wx", "1");
    let second = store.set("/w/b/c", "2");
    assert_eq!(next(), format!("{second} set /w/b/c 2"));
    let third = store.json(&["delete", "/w", "--recursive"])["revision"].clone();
    assert_eq!([next(), next()], [format!("{third} deleted /w/a"), format!("{third} deleted /w/b/c")]);
    watch.kill().expect("killed");
    watch.wait().expect("ended");
    store.cluster.compact(third.as_i64().expect("a revision"));
    store.set("/w/d", "4");
    let mut watch = store.command(&["watch", "/w", "--json", "--from", &first.to_string()]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().expect("started");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let listed: Value = serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON");
    assert_eq!(listed["listed"], json!([{"key": "/w/d", "value": 4}]));
    let interrupted = std::process::Command::new("kill").arg("-INT").arg(watch.id().to_string()).status();
    assert!(interrupted.expect("kill runs").success());
    assert_eq!(watch.wait().expect("ended").code(), Some(0));
}
