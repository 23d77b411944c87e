//! `ovs config …`: secrets, export and import, changes that take many transactions.

mod cli_node;
mod config_store;
#[path = "../cfg/client/tests/etcd/mod.rs"]
mod etcd;
mod harness;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use config_store::ConfigStore;
use harness::tree::Tree;
use serde_json::{Value, json};

const SECRET: &str = "tr0ub4dor";

#[test]
fn secrets_are_masked_everywhere() {
    let store = ConfigStore::start();
    let directory = etcd::Directory::new();
    let document = json!({"s3": {"user": "u", "s3_connection_password": SECRET}}).to_string();
    let first = store.set("/b", &document).to_string();
    let second = store.set("/b|s3.user", "v").to_string();
    store.set("/c/password", &format!("\"{SECRET}\""));
    let file = directory.path("export.json");
    let file = file.to_str().expect("text");
    for command in [
        &["get", "/b"][..],
        &["get", "/b|s3.s3_connection_password"],
        &["get", "/c/password"],
        &["history", "/b"],
        &["history", "/c/password", "--show-secrets"],
        &["diff", "/b", &first],
        &["diff", "/b", &first, &second],
        &["export", "-"],
    ] {
        for json in [&[][..], &["--json"]] {
            let out = store.out(&[command, json].concat());
            assert!(!out.contains(SECRET), "{command:?}: {out}");
        }
    }
    assert_eq!(store.out(&["get", "/b|s3.s3_connection_password"]), "***\n");
    assert_eq!(store.out(&["get", "/b|s3.s3_connection_password", "--show-secrets"]), format!("{SECRET}\n"));
    assert!(store.out(&["export", "-", "--show-secrets"]).contains(SECRET));
    let history = store.cluster.ctl(&["get", "--prefix", "/ovs/history"]);
    assert!(!history.contains(SECRET), "{history}");

    // What is masked stays.
    store.out(&["export", file]);
    store.out(&["set", "/b", r#"{"s3": {"user": "w", "s3_connection_password": "***"}}"#]);
    assert_eq!(store.json(&["get", "/b", "--show-secrets"])["value"]["s3"]["s3_connection_password"], SECRET);
    store.out(&["import", file]);
    let back = store.json(&["get", "/b", "--show-secrets"])["value"].clone();
    assert_eq!(back, json!({"s3": {"user": "v", "s3_connection_password": SECRET}}));
    store.run(&["set", "/new", r#"{"token": "***"}"#], 5).assert_error("/new has *** at /token");
    store.out(&["delete", "/b"]);
    store.run(&["import", file], 5).assert_error("nothing is stored that could stay");
}

#[test]
fn a_revert_keeps_the_secret_or_refuses() {
    let store = ConfigStore::start();
    let first = store.set("/b", &json!({"x": 1, "password": SECRET}).to_string());
    store.set("/b|x", "2");
    store.out(&["revert", "/b", &first.to_string()]);
    assert_eq!(store.json(&["get", "/b", "--show-secrets"])["value"], json!({"x": 1, "password": SECRET}));
    let other = store.set("/b|password", "another");
    assert_eq!(store.out(&["diff", "/b", &first.to_string()]), "~ password: *** -> another ***\n");
    store
        .run(&["revert", "/b", &first.to_string()], 4)
        .assert_error("the secrets of /b at /password are not those");
    assert_eq!(store.json(&["revert", "/b", &other.to_string()])["changed"], false);
    store.out(&["delete", "/b"]);
    store.run(&["revert", "/b", &other.to_string()], 4);
    // Others change a secret: the entry that is made of it has a hash as well.
    store.cluster.ctl(&["put", "/d", r#"{"token":"t1"}"#]);
    store.set("/d|x", "1");
    let history = store.cluster.ctl(&["get", "--prefix", "/ovs/history/%2Fd"]);
    assert!(!history.contains("t1") && history.matches("\"/token\":").count() == 2, "{history}");
}

#[test]
fn what_is_exported_is_imported() {
    let store = ConfigStore::start();
    let directory = etcd::Directory::new();
    let file = directory.path("export.json");
    let file = file.to_str().expect("text");
    let documents = [("/a/b", r#"{"x":[1,2.5,"ü",null]}"#), ("/a/bc", "[]"), ("/d", "\"text\"")];
    for (key, value) in documents {
        store.set(key, value);
    }
    store.cluster.ctl(&["put", "/plain", "no JSON"]);
    let lease = store.cluster.ctl(&["lease", "grant", "600"]);
    let lease = lease.split_whitespace().nth(1).expect("an id");
    store.cluster.ctl(&["put", "--lease", lease, "/status", "{}"]);
    store.cluster.ctl(&["put", "/not//named", "{}"]);
    let exported = store.run(&["export", file, "--json"], 0);
    assert!(exported.err.contains("\"/not//named\" is no key"), "{}", exported.err);
    assert_eq!(exported.json()["keys"], 4, "not what hangs on a lease");
    assert_eq!(std::fs::metadata(file).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(store.json(&["import", file]), json!({"imported": 0, "unchanged": 4}));

    let other = ConfigStore::start();
    assert_eq!(other.json(&["import", file, "-m", "moved"])["imported"], 4);
    for key in ["/a/b", "/a/bc", "/d", "/plain"] {
        assert_eq!(other.out(&["get", key]), store.out(&["get", key]));
    }
    assert_eq!(other.json(&["history", "/d"])[0]["action"], "import");
    let part = other.json(&["export", "-", "--prefix", "/a/b"]);
    assert_eq!(part["documents"].as_object().expect("an object").keys().collect::<Vec<_>>(), ["/a/b"]);
    other.run(&["export", file, "--prefix", "/none"], 3);
    other.run(&["import", "/no/such/file"], 3).assert_error("there is no file");
    for (content, problem) in [
        ("{", "is no export of ovs"),
        (r#"{"format":"x","version":1,"cluster_id":"","revision":1,"documents":{}}"#, "is x version 1"),
        (r#"{"format":"ovs-config","version":2,"cluster_id":"","revision":1,"documents":{}}"#, "version 2"),
        (
            r#"{"format":"ovs-config","version":1,"cluster_id":"","revision":1,"documents":{"a":1}}"#,
            "begins with a /",
        ),
        (
            r#"{"format":"ovs-config","version":1,"cluster_id":"","revision":1,"documents":{"/n":1,"/n/m":1}}"#,
            "would be a document and",
        ),
    ] {
        other.fed(&["import", "-"], content.as_bytes(), 5).assert_error(problem);
    }
    other.run(&["get", "/n/m"], 3);
}

/// A file with this many keys of about `size` bytes each.
fn export_of(keys: usize, size: usize) -> (String, BTreeMap<String, Value>) {
    let documents: BTreeMap<String, Value> =
        (0..keys).map(|number| (format!("/many/{number:05}"), json!([number, "x".repeat(size)]))).collect();
    let export = json!({"format": "ovs-config", "version": 1, "cluster_id": "", "revision": 1, "documents": documents});
    (export.to_string(), documents)
}

fn stored(store: &ConfigStore, prefix: &str) -> BTreeMap<String, Value> {
    let export = store.json(&["export", "-", "--prefix", prefix]);
    export["documents"].as_object().expect("an object").clone().into_iter().collect()
}

#[test]
fn sixty_keys_are_one_change_and_more_run_from_a_journal() {
    let store = ConfigStore::start();
    let (file, documents) = export_of(60, 10);
    let imported = store.fed(&["import", "-", "--json"], file.as_bytes(), 0);
    assert!(imported.err.is_empty(), "{}", imported.err);
    let revision = imported.json()["revision"].as_i64().expect("a revision");
    assert_eq!(store.json(&["history", "/many/00000"])[0]["revision"], revision);
    assert_eq!(store.json(&["history", "/many/00059"])[0]["revision"], revision);
    let (file, documents_more) = export_of(61, 10);
    let imported = store.fed(&["import", "-"], file.as_bytes(), 0);
    assert!(imported.err.is_empty(), "one key is new: {}", imported.err);
    assert_eq!(stored(&store, "/many").len(), documents.len() + 1);
    let renamed = store.run(&["rename", "/many", "/other"], 0);
    assert!(renamed.err.contains("take 3 transactions"), "{}", renamed.err);
    assert_eq!(
        stored(&store, "/other").into_values().collect::<Vec<_>>(),
        documents_more.into_values().collect::<Vec<_>>()
    );
    store.run(&["list", "/many"], 3);
    let deleted = store.run(&["delete", "/other", "--recursive"], 0);
    assert!(deleted.err.contains("take 2 transactions"), "{}", deleted.err);
    store.run(&["list", "/other"], 3);
    assert_eq!(store.json(&["resume"]), json!([]), "journals are gone when they are done");
    // By size: half a mebibyte of values and their copies fill a change.
    let (file, documents) = export_of(4, 200_000);
    let imported = store.fed(&["import", "-"], file.as_bytes(), 0);
    assert!(imported.err.contains("take 2 transactions"), "{}", imported.err);
    assert_eq!(stored(&store, "/many"), documents);
}

#[test]
fn a_large_change_that_was_killed_goes_on() {
    let store = ConfigStore::start();
    let (file, documents) = export_of(3000, 10);
    let directory = etcd::Directory::new();
    let path = directory.path("import.json");
    std::fs::write(&path, file).expect("written");
    let tree = Tree::open(&format!("http://{}", store.cluster.endpoints[0]));
    let mut import = store.command(&["import", path.to_str().expect("text")]);
    let mut import = import.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    // With the first keys the journal is complete and most of it is left.
    tree.awaited("/many/00000", |value| value.is_array().then_some(()));
    import.kill().expect("killed");
    import.wait().expect("ended");
    let journals = store.json(&["resume"]);
    assert_eq!(journals[0]["complete"], true, "{journals}");
    let id = journals[0]["id"].as_str().expect("an id");
    assert!(stored(&store, "/many").len() < documents.len(), "killed in the middle");
    // Somebody else's key stands in the way: nothing is overwritten, and nothing is lost.
    store.cluster.ctl(&["put", "/many/02999", "\"foreign\""]);
    store.run(&["resume", id], 4).assert_error("someone else changed /many/02999");
    store.cluster.ctl(&["del", "/many/02999"]);
    store.out(&["resume", id]);
    assert_eq!(stored(&store, "/many"), documents);
    assert_eq!(store.json(&["resume"]), json!([]));
    store.run(&["resume", id], 3).assert_error("it may be done already");
    let history = store.json(&["history", "/many/01500"]);
    assert_eq!(history.as_array().map(Vec::len), Some(1), "once: {history}");
    // One that was killed while its journal was written has changed nothing.
    store.cluster.ctl(&["put", "/ovs/changes/journal/early/00000", "[]"]);
    assert_eq!(store.json(&["resume"])[0]["complete"], false);
    store.run(&["resume", "early"], 4).assert_error("nothing was changed");
    store.run(&["resume", "early", "--abort"], 0);
    assert_eq!(store.json(&["resume"]), json!([]));
}
