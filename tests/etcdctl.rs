//! Debian's `etcdctl` 3.4 against a server alone in its cluster: every command that the configuration store serves, by
//! what it prints. Each test runs with etcd itself too, so that what it expects is what etcd does.

mod harness;

#[path = "etcdctl/ctl.rs"]
mod ctl;

use std::time::Duration;

use ctl::{Ctl, Live};
use harness::cfg::{Server, lasting_url};
use harness::process;

/// Runs a test with each server.
fn each(name: &str, test: fn(&Ctl)) {
    for server in Server::all() {
        eprintln!("{name} with {server:?}");
        test(&Ctl::start(server, name));
    }
}

/// The lease id in "lease ID granted …".
fn lease(ctl: &Ctl, seconds: &str) -> String {
    let said = ctl.ok(&["lease", "grant", seconds]);
    assert!(said.ends_with(&format!("granted with TTL({seconds}s)\n")), "{said}");
    said.split(' ').nth(1).expect("an id").to_owned()
}

#[test]
fn keys_are_read_in_every_way() {
    each("ctl-get", |ctl| {
        // Revisions 2 to 6.
        for (key, value) in [("a/1", "3"), ("a/2", "x"), ("a/2", "2"), ("a/3", "1"), ("b", "4")] {
            ctl.says(&["put", key, value], &["OK"]);
        }
        ctl.says(&["get", "a/1"], &["a/1", "3"]);
        ctl.says(&["get", "missing"], &[]);
        ctl.says(&["get", "a/2", "b"], &["a/2", "2", "a/3", "1"]);
        ctl.says(&["get", "a/", "--prefix"], &["a/1", "3", "a/2", "2", "a/3", "1"]);
        ctl.says(&["get", "a/3", "--from-key"], &["a/3", "1", "b", "4"]);
        ctl.says(&["get", "a/2", "--rev", "3"], &["a/2", "x"]);
        ctl.says(&["get", "", "--prefix", "--limit", "1"], &["a/1", "3"]);
        ctl.says(&["get", "a/", "--prefix", "--keys-only"], &["a/1", "", "a/2", "", "a/3", ""]);
        ctl.says(&["get", "a/", "--prefix", "--print-value-only"], &["3", "2", "1"]);
        ctl.says(&["get", "a/1", "--consistency=s"], &["a/1", "3"]);
        ctl.says(&["get", "a/1", "--consistency=l"], &["a/1", "3"]);
        ctl.says(&["get", "a/1", "--hex"], &["\\x61\\x2f\\x31", "\\x33"]);
        let sorts = [
            ("KEY", "ASCEND", ["3", "2", "1"]),
            ("KEY", "DESCEND", ["1", "2", "3"]),
            ("VALUE", "ASCEND", ["1", "2", "3"]),
            ("VERSION", "DESCEND", ["2", "3", "1"]),
            ("CREATE", "DESCEND", ["1", "2", "3"]),
            ("MODIFY", "ASCEND", ["3", "2", "1"]),
        ];
        for (by, order, values) in sorts {
            let flags = ["get", "a/", "--prefix", "--sort-by", by, "--order", order, "--print-value-only"];
            ctl.says(&flags, &values);
        }
        let fields = ctl.ok(&["get", "a/2", "-w", "fields"]);
        for field in ["\"Key\" : \"a/2\"", "\"CreateRevision\" : 3", "\"ModRevision\" : 4", "\"Version\" : 2"]
        {
            assert!(fields.lines().any(|line| line == field), "{field} is not in {fields}");
        }
        let json = ctl.json(&["get", "a/", "--prefix", "--limit", "2"]);
        assert_eq!(json["header"]["revision"], 6);
        assert_eq!((&json["count"], &json["more"]), (&3.into(), &true.into()));
        let second = serde_json::json!({
            "key": "YS8y", "create_revision": 3, "mod_revision": 4, "version": 2, "value": "Mg=="
        });
        assert_eq!(json["kvs"][1], second);
        ctl.fails(
            &["get", "a/1", "--rev", "1000"],
            "etcdserver: mvcc: required revision is a future revision",
        );
        ctl.fails(&["get", ""], "etcdserver: key is not provided");
    });
}

#[test]
fn keys_are_written_and_deleted() {
    each("ctl-put", |ctl| {
        let held = lease(ctl, "3600");
        ctl.says(&["put", "k", "1", "--lease", &held], &["OK"]);
        ctl.says(&["put", "k", "2", "--prev-kv", "--ignore-lease"], &["OK", "k", "1"]);
        ctl.says(&["put", "k", "--ignore-value"], &["OK"]);
        let json = ctl.json(&["get", "k"]);
        assert!(json["kvs"][0]["lease"].is_null(), "a put without a lease takes the key off it: {json}");
        assert_eq!(json["kvs"][0]["version"], 3);
        // The value comes from the input if it is not named.
        assert_eq!(ctl.fed(&["put", "k"], "from\nhere"), ["OK"]);
        ctl.says(&["get", "k"], &["k", "from", "here"]);
        ctl.fails(&["put", "new", "--ignore-value"], "etcdserver: key not found");
        ctl.fails(&["put", "k", "v", "--lease", "77"], "etcdserver: requested lease not found");

        for key in ["d/1", "d/2", "e", "f", "g"] {
            ctl.says(&["put", key, "v"], &["OK"]);
        }
        ctl.says(&["del", "missing"], &["0"]);
        ctl.says(&["del", "d/", "--prefix", "--prev-kv"], &["2", "d/1", "v", "d/2", "v"]);
        ctl.says(&["del", "e", "f"], &["1"]);
        ctl.says(&["del", "f", "--from-key"], &["3"]);
        ctl.says(&["get", "", "--prefix"], &[]);
    });
}

#[test]
fn transactions_do_one_list_or_the_other() {
    each("ctl-txn", |ctl| {
        ctl.says(&["put", "k", "1"], &["OK"]);
        let held = "value(\"k\") = \"1\"\nversion(\"k\") = \"1\"\n\nput k 2\nget k\n\nget missing\n\n";
        assert_eq!(ctl.fed(&["txn"], held), ["SUCCESS", "", "OK", "", "k", "2"]);
        let failed = "mod(\"k\") > \"100\"\n\nput k 3\n\nget k\ndel k\n\n";
        assert_eq!(ctl.fed(&["txn"], failed), ["FAILURE", "", "k", "2", "", "1"]);
        let created = "create(\"k2\") = \"0\"\n\nput k new\n\n\n";
        assert_eq!(ctl.fed(&["txn"], created), ["SUCCESS", "", "OK"]);
        let json =
            ctl.fed(&["txn", "-w", "json"], "value(\"k\") = \"new\"\n\nget k --keys-only\n\n\n").concat();
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["succeeded"], true);
        let inner = &json["responses"][0]["Response"]["ResponseRange"];
        assert_eq!(inner["kvs"][0]["key"], "aw==");
    });
}

#[test]
fn watches_tell_what_happens() {
    each("ctl-watch", |ctl| {
        // Revisions 2 to 5.
        for (key, value) in [("w/1", "a"), ("w/1", "b"), ("x", "0"), ("w/2", "c")] {
            ctl.says(&["put", key, value], &["OK"]);
        }
        let from = ctl.live(&["watch", "w/", "--prefix", "--rev", "3", "--prev-kv"]);
        from.says(&["PUT", "w/1", "a", "w/1", "b", "PUT", "w/2", "c"]);
        let range = ctl.live(&["watch", "w/1", "w/2", "--rev", "2"]);
        range.says(&["PUT", "w/1", "a", "PUT", "w/1", "b"]);
        ctl.says(&["del", "w/1"], &["1"]);
        from.says(&["DELETE", "w/1", "b", "w/1", ""]);
        range.says(&["DELETE", "w/1", ""]);

        let mut talk = ctl.live(&["watch", "--interactive"]);
        talk.tell("watch x --rev 4\n");
        talk.says(&["PUT", "x", "0"]);
        talk.tell("watch w/ --prefix --rev 5\n");
        talk.says(&["PUT", "w/2", "c", "DELETE", "w/1", ""]);
        ctl.says(&["put", "x", "1"], &["OK"]);
        talk.says(&["PUT", "x", "1"]);

        let shell = "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE";
        let command = ctl.live(&["watch", "w/2", "--rev", "5", "--", "sh", "-c", shell]);
        command.says(&["PUT", "w/2", "c", "\"PUT\" \"w/2\" \"c\""]);

        ctl.says(&["compaction", "5"], &["compacted revision 5"]);
        ctl.fails(&["watch", "x", "--rev", "4"], "watch is canceled by the server");
    });
}

/// A watcher that has seen everything is not ended by a compaction, however long its keys did not change.
#[test]
fn watchers_of_quiet_keys_outlive_compactions() {
    each("ctl-quiet", |ctl| {
        ctl.says(&["put", "q/1", "a"], &["OK"]);
        let quiet = [&["q/1"][..], &["q/", "--prefix"], &["q/0", "q/5"]]
            .map(|keys| ctl.live(&[&["watch", "--rev", "2"], keys].concat()));
        for watch in &quiet {
            watch.says(&["PUT", "q/1", "a"]);
        }
        for value in ["1", "2", "3"] {
            ctl.says(&["put", "q", value], &["OK"]);
            ctl.says(&["put", "q0", value], &["OK"]);
        }
        ctl.says(&["compaction", "8"], &["compacted revision 8"]);
        ctl.says(&["put", "q/1", "b"], &["OK"]);
        ctl.says(&["del", "q/1"], &["1"]);
        for watch in &quiet {
            watch.says(&["PUT", "q/1", "b", "DELETE", "q/1", ""]);
        }
    });
}

#[test]
fn leases_hold_keys() {
    each("ctl-lease", |ctl| {
        let id = lease(ctl, "3600");
        ctl.says(&["put", "k", "v", "--lease", &id], &["OK"]);
        ctl.says(&["put", "l", "v", "--lease", &id], &["OK"]);
        ctl.says(&["lease", "list"], &["found 1 leases", &id]);
        let told = ctl.ok(&["lease", "timetolive", &id, "--keys"]);
        assert!(told.starts_with(&format!("lease {id} granted with TTL(3600s), remaining(3")), "{told}");
        assert!(told.contains("[k l]") || told.contains("[l k]"), "{told}");
        let told = ctl.ok(&["lease", "timetolive", &id]);
        assert!(!told.contains("attached"), "{told}");
        ctl.says(
            &["lease", "keep-alive", "--once", &id],
            &[&format!("lease {id} keepalived with TTL(3600)")],
        );
        let renewed = ctl.live(&["lease", "keep-alive", &id]);
        renewed.says(&[&format!("lease {id} keepalived with TTL(3600)")]);
        ctl.says(&["lease", "revoke", &id], &[&format!("lease {id} revoked")]);
        ctl.says(&["get", "", "--prefix"], &[]);
        ctl.says(&["lease", "list"], &["found 0 leases"]);
        ctl.says(&["lease", "timetolive", &id], &[&format!("lease {id} already expired")]);
        ctl.fails(&["lease", "revoke", &id], "etcdserver: requested lease not found");
        ctl.fails(&["lease", "keep-alive", "--once", &id], "etcdserver: requested lease not found");
        ctl.fails(&["lease", "grant", "9000000001"], "etcdserver: too large lease TTL");

        // A lease that nobody renews goes, and its key with it.
        let watch = ctl.live(&["watch", "short", "--rev", "1"]);
        let id = lease(ctl, "6");
        ctl.says(&["put", "short", "v", "--lease", &id], &["OK"]);
        watch.says(&["PUT", "short", "v", "DELETE", "short", ""]);
        ctl.says(&["lease", "list"], &["found 0 leases"]);
    });
}

/// A key below `name`, as the holder of a lock or an office prints it.
fn assert_below(key: &str, name: &str) {
    assert!(key.strip_prefix(name).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/')), "{key}");
}

/// Waits for the next write below a watched prefix and returns the key.
fn next_put(watch: &Live) -> String {
    watch.says(&["PUT"]);
    let key = watch.line();
    watch.line();
    key
}

#[test]
fn a_lock_has_one_holder() {
    each("ctl-lock", |ctl| {
        // So long that no key goes by itself.
        let contend = ["lock", "door", "--ttl", "600"];
        let watch = ctl.live(&["watch", "door/", "--prefix", "--rev", "1"]);
        let holder = ctl.live(&contend);
        let key = holder.line();
        assert_below(&key, "door");
        assert_eq!(next_put(&watch), key);
        let waiting = ctl.live(&contend);
        let second = next_put(&watch);
        assert!(waiting.is_quiet(), "two hold the lock");
        holder.interrupt();
        watch.says(&["DELETE", &key, ""]);
        assert_eq!(waiting.line(), second);
        waiting.interrupt();
        watch.says(&["DELETE", &second, ""]);
        // With a command the lock is held as long as that runs.
        let said = ctl.fed(&["lock", "door", "--ttl", "600", "--", "sh", "-c", "echo $ETCD_LOCK_KEY"], "");
        assert_eq!(said, [next_put(&watch)]);
        watch.says(&["DELETE", &said[0], ""]);
    });
}

#[test]
fn an_election_has_one_winner() {
    each("ctl-elect", |ctl| {
        let watch = ctl.live(&["watch", "office/", "--prefix", "--rev", "1"]);
        let first = ctl.live(&["elect", "office", "ada"]);
        let key = first.line();
        assert_below(&key, "office");
        first.says(&["ada"]);
        assert_eq!(next_put(&watch), key);
        let listener = ctl.live(&["elect", "--listen", "office"]);
        listener.says(&[&key, "ada"]);
        let second = ctl.live(&["elect", "office", "bob"]);
        let next_key = next_put(&watch);
        assert!(second.is_quiet(), "two are elected");
        first.interrupt();
        second.says(&[&next_key, "bob"]);
        listener.says(&[&next_key, "bob"]);
    });
}

/// A member without a vote: one with a vote that never starts would take the quorum of two away.
#[test]
fn members_come_and_go() {
    each("ctl-member", |ctl| {
        let line = format!(", started, one, {}, {}, false", ctl.peer_url(), ctl.url());
        let list = ctl.ok(&["member", "list"]);
        let own = list.split(',').next().expect("an id").to_owned();
        assert_eq!(list, format!("{own}{line}\n"));
        let json = ctl.json(&["member", "list"]);
        assert_eq!(json["members"][0]["name"], "one");

        let (url, other_url) = (lasting_url(), lasting_url());
        let said = ctl.ok(&["member", "add", "two", "--learner", "--peer-urls", &url]);
        // In a column of its own width.
        let id = said.split_whitespace().nth(1).expect("an id").to_owned();
        assert!(said.starts_with(&format!("Member {id:>16} added to cluster")), "{said}");
        assert!(
            said.contains(&format!("two={url}")) && said.contains("ETCD_INITIAL_CLUSTER_STATE"),
            "{said}"
        );
        let list = ctl.ok(&["member", "list"]);
        assert!(list.contains(&format!("{id}, unstarted, , {url}, , true\n")), "{list}");
        ctl.fails(
            &["member", "promote", &id],
            "etcdserver: can only promote a learner member which is in sync with leader",
        );
        ctl.fails(&["member", "promote", &own], "etcdserver: can only promote a learner member");
        ctl.fails(&["member", "promote", "abc"], "etcdserver: member not found");
        // The same URLs alone would make the same id.
        let both = format!("{url},{other_url}");
        ctl.fails(&["member", "add", "three", "--peer-urls", &both], "etcdserver: Peer URLs already exists");
        ctl.fails(
            &["member", "add", "three", "--learner", "--peer-urls", &other_url],
            "etcdserver: too many learner members in cluster",
        );
        let said = ctl.ok(&["member", "update", &id, "--peer-urls", &other_url]);
        assert!(said.starts_with(&format!("Member {id:>16} updated in cluster")), "{said}");
        // etcd forgets here that it is a learner.
        assert!(ctl.ok(&["member", "list"]).contains(&format!("{id}, unstarted, , {other_url}, , ")));
        let said = ctl.ok(&["member", "remove", &id]);
        assert!(said.starts_with(&format!("Member {id:>16} removed from cluster")), "{said}");
        ctl.fails(&["member", "remove", &id], "etcdserver: member not found");
        assert_eq!(ctl.ok(&["member", "list"]), format!("{own}{line}\n"));
        ctl.says(&["put", "k", "v"], &["OK"]);
    });
}

#[test]
fn a_member_tells_how_it_is() {
    each("ctl-endpoint", |ctl| {
        ctl.says(&["put", "k", "v"], &["OK"]);
        // etcdctl says it on the error output, unless it is asked for JSON.
        let health = ctl.json(&["endpoint", "health"]);
        assert_eq!((&health[0]["endpoint"], &health[0]["health"]), (&ctl.url().into(), &true.into()));
        let status = &ctl.json(&["endpoint", "status", "--cluster"])[0]["Status"];
        assert_eq!(status["header"]["member_id"], status["leader"], "{status}");
        assert!(
            status["version"].as_str().is_some_and(|version| version.split('.').count() == 3),
            "{status}"
        );
        for number in ["dbSize", "dbSizeInUse", "raftIndex", "raftTerm", "raftAppliedIndex"] {
            assert!(status[number].as_u64().is_some_and(|number| number > 0), "{number}: {status}");
        }
        // The hash is of what was at the revision.
        let hash = |rev: &str| ctl.json(&["endpoint", "hashkv", "--rev", rev])[0]["HashKV"]["hash"].clone();
        let before = hash("2");
        ctl.says(&["put", "k", "w"], &["OK"]);
        assert_eq!(hash("2"), before);
        assert_ne!(hash("3"), before);
        ctl.fails(
            &["endpoint", "hashkv", "--rev", "9"],
            "etcdserver: mvcc: required revision is a future revision",
        );
        let own = status["leader"].as_u64().expect("a number");
        let said = ctl.ok(&["move-leader", &format!("{own:x}")]);
        assert!(said.starts_with("Leadership transferred"), "{said}");
        ctl.fails(&["move-leader", "deadbeef"], "etcdserver: bad leader transferee");
    });
}

#[test]
fn a_member_is_looked_after() {
    each("ctl-care", |ctl| {
        // Revisions 2 to 6.
        for value in ["1", "2", "3", "4", "5"] {
            ctl.says(&["put", "k", value], &["OK"]);
        }
        ctl.says(&["compaction", "3"], &["compacted revision 3"]);
        ctl.says(&["compaction", "--physical", "4"], &["compacted revision 4"]);
        ctl.says(&["get", "k", "--rev", "4"], &["k", "3"]);
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        ctl.fails(&["get", "k", "--rev", "3"], compacted);
        ctl.fails(&["compaction", "4"], compacted);
        ctl.fails(&["compaction", "7"], "etcdserver: mvcc: required revision is a future revision");
        ctl.says(&["defrag"], &[&format!("Finished defragmenting etcd member[{}]", ctl.url())]);
        ctl.says(&["get", "k"], &["k", "5"]);
        ctl.says(&["alarm", "list"], &[]);
        ctl.says(&["alarm", "disarm"], &[]);
        let file = ctl.place.path("saved");
        ctl.says(&["snapshot", "save", &file], &[&format!("Snapshot saved at {file}")]);
        assert!(std::fs::metadata(&file).is_ok_and(|saved| saved.len() > 0));
    });
}

#[test]
fn keys_are_mirrored_to_another_server() {
    for server in Server::all() {
        let (from, to) = (Ctl::start(server, "ctl-from"), Ctl::start(server, "ctl-to"));
        from.says(&["put", "m/1", "old"], &["OK"]);
        from.says(&["put", "other", "x"], &["OK"]);
        let arrived = to.live(&["watch", "n/", "--prefix", "--rev", "1"]);
        let _mirror = from.live(&["make-mirror", "--prefix", "m/", "--dest-prefix", "n/", to.url()]);
        arrived.says(&["PUT", "n/1", "old"]);
        from.says(&["put", "m/2", "new"], &["OK"]);
        arrived.says(&["PUT", "n/2", "new"]);
        from.says(&["del", "m/1"], &["1"]);
        arrived.says(&["DELETE", "n/1", ""]);
        to.says(&["get", "", "--prefix"], &["n/2", "new"]);
    }
}

#[test]
fn check_perf_is_content() {
    if !harness::soak() {
        eprintln!("NOT RUN, a minute long: only with OVS_SOAK=1");
        return;
    }
    for server in Server::all() {
        let ctl = Ctl::start(server, "ctl-perf");
        let said = process::run(
            "env",
            &["ETCDCTL_API=3", "etcdctl", "--endpoints", ctl.url(), "check", "perf", "--load", "s"],
            Duration::from_secs(180),
        );
        eprintln!("{}", said.stdout);
        assert!(said.status.success() && !said.stdout.contains("FAIL"), "{}{}", said.stdout, said.stderr);
    }
}
