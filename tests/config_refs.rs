//! `ovs config …`: who refers to what, what that protects from, and hosts that no update reaches.

mod cli_node;
mod config_store;
#[path = "../cfg/client/tests/etcd/mod.rs"]
mod etcd;

use config_store::ConfigStore;
use serde_json::json;

#[test]
fn referrers_are_listed_and_keep_what_they_need() {
    let store = ConfigStore::start();
    store.set("/shared/a", r#"{"x": {"y": 1}, "z": 2}"#);
    store.set("/shared/b", "{}");
    store.set("/sharedx", "1");
    store.set("/uses/1", r#"{"v": {"$ref": "/shared/a|x.y"}, "w": [{"$ref": "/shared/a"}]}"#);
    store.set("/uses/2", r#"{"albamgr_cfg_url": "etcd://127.0.0.1:2379,h/shared/b", "name": "/shared/b"}"#);
    store.set("/ovs/vpools/g/rollouts/1", r#"{"old": {"$ref": "/shared/b"}}"#);
    assert_eq!(
        store.out(&["refs", "/shared/a"]),
        "/uses/1|v refers to /shared/a|x.y\n/uses/1|w.0 refers to /shared/a\n"
    );
    assert_eq!(store.out(&["refs", "/shared/a|x"]), "/uses/1|v refers to /shared/a|x.y\n");
    assert_eq!(store.out(&["refs", "/shared/b"]), "/uses/2|albamgr_cfg_url has the URL of /shared/b\n");
    assert_eq!(store.json(&["refs", "/shared"]).as_array().map(Vec::len), Some(3));
    assert_eq!(
        store.json(&["refs", "/shared/b"]),
        json!([{"key": "/uses/2", "place": "/uses/2|albamgr_cfg_url", "to": "/shared/b", "kind": "url"}])
    );
    assert_eq!(
        (store.out(&["refs", "/sharedx"]), store.json(&["refs", "/none"])),
        (String::new(), json!([]))
    );

    let refused = store.run(&["delete", "/shared/a"], 4);
    refused.assert_error("/shared/a is referred to by /uses/1|v, /uses/1|w.0; change that first");
    store.run(&["delete", "/shared/a|x"], 4).assert_error("/shared/a|x is referred to by /uses/1|v;");
    store.run(&["delete", "/shared", "--recursive"], 4).assert_error("/uses/2|albamgr_cfg_url");
    store.run(&["rename", "/shared/b", "/shared/c"], 4).assert_error("/uses/2|albamgr_cfg_url");
    store.run(&["rename", "/shared", "/other"], 4);
    store.run(&["delete", "/shared/a", "--unchecked"], 4);
    let revisions = store.cluster.ctl(&["get", "--prefix", "/shared", "-w", "fields"]);
    assert_eq!(revisions.matches("\"Version\" : 1").count(), 3, "{revisions}");
    // What nobody needs goes, and what refers to itself goes with itself.
    store.out(&["delete", "/shared/a|z"]);
    store.out(&["rename", "/sharedx", "/sharedy"]);
    store.set("/own/a", r#"{"v": {"$ref": "/own/b"}, "u": {"$ref": "/own/a|w"}, "w": 1}"#);
    store.set("/own/b", "1");
    store.run(&["rename", "/own", "/others"], 4).assert_error("/own/a|v");
    store.run(&["delete", "/own/b"], 4);
    store.run(&["delete", "/own/a|w"], 4);
    store.out(&["delete", "/own", "--recursive"]);
    // A revert to nothing deletes.
    let gone = store.json(&["delete", "/sharedy"])["revision"].to_string();
    store.set("/sharedy", "1");
    store.set("/uses/3", r#"{"$ref": "/sharedy"}"#);
    store.run(&["revert", "/sharedy", &gone], 4).assert_error("/uses/3");
    store.out(&["delete", "/uses", "--recursive"]);
    store.out(&["delete", "/shared", "--recursive"]);
    store.out(&["revert", "/sharedy", &gone]);
}

#[test]
fn many_referrers_are_counted() {
    let store = ConfigStore::start();
    store.set("/a", "1");
    for number in 0..5 {
        store.set(&format!("/uses/{number}"), r#"{"v": {"$ref": "/a"}}"#);
    }
    store.run(&["delete", "/a"], 4).assert_error("/uses/2|v and 2 more (see `ovs config refs /a`)");
}

#[test]
fn a_host_is_frozen_and_thawed_once() {
    let store = ConfigStore::start();
    store.run(&["freeze", "h1"], 3).assert_error("there is no host \"h1\" with a configuration");
    for host in ["g/hosts/h1", "g/hosts/h2", "k/hosts/h2"] {
        store.set(&format!("/ovs/vpools/{host}/config/nbd"), "{}");
    }
    store.set("/ovs/vpools/g/hosts/h3/retired", "true");
    store.run(&["freeze", "h3"], 3);
    store.run(&["thaw", "h1"], 4).assert_error("/ovs/vpools/g/hosts/h1 is not frozen");
    let out = store.out(&["freeze", "h1", "-m", "disk is exchanged"]);
    assert!(out.starts_with("froze /ovs/vpools/g/hosts/h1 at revision "), "{out}");
    let value = store.json(&["get", "/ovs/vpools/g/hosts/h1/frozen"])["value"].clone();
    assert_eq!(value["note"], "disk is exchanged");
    assert!(value["by"].as_str().is_some_and(|by| by.contains('@')), "{value}");
    assert!(value["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{value}");
    store.run(&["freeze", "h1"], 4).assert_error("frozen already, by ");
    store.run(&["freeze", "h2"], 2).assert_error("in the vPools g, k; give --vpool");
    assert_eq!(store.json(&["freeze", "h2", "--vpool", "k"])["frozen"], true);
    store.run(&["freeze", "h1", "--vpool", "k"], 3);
    let told = store.out(&["set", "/ovs/vpools/g/hosts/h1/config/nbd|nbd_port", "10000"]);
    assert!(told.ends_with("\n  frozen: no update reaches it until it is thawed\n"), "{told}");
    let thawed = store.out(&["thaw", "h1"]);
    assert!(thawed.contains("it was frozen, by ") && thawed.contains("(disk is exchanged)"), "{thawed}");
    store.run(&["get", "/ovs/vpools/g/hosts/h1/frozen"], 3);
    store.run(&["thaw", "h1"], 4);
    let actions = store.json(&["history", "/ovs/vpools/g/hosts/h1/frozen"]);
    assert_eq!((&actions[0]["action"], &actions[1]["action"]), (&json!("freeze"), &json!("thaw")));
    // Of many at once, one freezes it.
    let children: Vec<_> = (0..4)
        .map(|_| {
            let mut command = store.command(&["freeze", "h1"]);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            command.spawn().expect("started")
        })
        .collect();
    let codes: Vec<_> = children.into_iter().map(|mut child| child.wait().expect("ended").code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some(4)).count(), 3, "{codes:?}");
}
