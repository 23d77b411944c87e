//! `ovs config apply --canary` and `ovs config rollout`: changes that reach the drivers of a vPool in stages, and are
//! taken back when a host refuses them, when somebody wants it, and after the command was killed. With the
//! configuration store and with Debian's etcd in its place.

mod cli_node;
mod harness;
mod vpool;

use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use harness::cfg::Server;
use harness::random::Random;
use serde_json::{Value, json};
use vpool::{Fleet, VPOOL, different, name};

/// Drivers; all of them with `OVS_SOAK`.
fn size() -> usize {
    if harness::soak() { 40 } else { 8 }
}

/// `ovs config apply --canary` in its own process; killed when dropped.
struct Staged(Option<Child>);

impl Staged {
    /// Begins one that pauses behind its first stage, and waits until that has answered; gives its id.
    #[track_caller]
    fn begin(fleet: &Fleet, value: &str) -> (Staged, String) {
        let mut command = fleet.command(&["apply", "--vpool", VPOOL, "--canary", "1", "--pause", "1h"]);
        command.args(["--set", &format!("nbd|nbd_max_connections={value}")]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let mut staged = Staged(Some(child));
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let open = |rollout: &&Value| {
                let hosts = rollout["hosts"].as_object().expect("hosts");
                rollout["state"] == "applying"
                    && hosts.values().any(|host| host["apply"]["answer"]["outcome"] == "applied")
            };
            let list = fleet.run(&["rollout", "list", "--json"], 0).json();
            if let Some(rollout) = list.as_array().expect("a list").iter().find(open) {
                return (staged, rollout["id"].as_str().expect("an id").to_owned());
            }
            let child = staged.0.as_mut().expect("it runs");
            assert!(child.try_wait().expect("known").is_none(), "it ended: {:?}", staged.output());
            assert!(Instant::now() < end, "the first stage does not answer: {list}");
            std::thread::yield_now();
        }
    }

    /// Sends a signal.
    fn signal(&self, name: &str) {
        let id = self.0.as_ref().expect("it runs").id().to_string();
        let sent = std::process::Command::new("kill").arg(format!("-{name}")).arg(id).status();
        assert!(sent.expect("kill runs").success());
    }

    /// What it said, when it ends.
    fn output(&mut self) -> Output {
        self.0.take().expect("it runs").wait_with_output().expect("ended")
    }

    /// Waits until it ends with `code`; gives its last words.
    #[track_caller]
    fn ended(&mut self, code: i32) -> String {
        let output = self.output();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words}");
        words
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn key(host: usize, section: &str) -> String {
    format!("/ovs/vpools/{VPOOL}/hosts/{}/config/{section}", name(host))
}

/// Changes a value for all hosts, in stages; gives the roll-out.
#[track_caller]
fn staged(fleet: &Fleet, more: &[&str], code: i32) -> Value {
    fleet.all(&[&["apply", "--canary", "1"], more].concat(), code)
}

/// All hosts run with this value, and it is what is stored.
#[track_caller]
fn all_have(fleet: &Fleet, value: u64) {
    let shown = fleet.standing("in-sync", fleet.drivers.len());
    assert_eq!(different(&shown, "config_hash").len(), 1, "equal values, equal hashes");
    for host in 0..fleet.drivers.len() {
        let stored = fleet.run(&["get", &format!("{}|nbd_max_connections", key(host, "nbd"))], 0);
        assert_eq!(stored.out.trim(), value.to_string(), "{}", name(host));
    }
}

/// Makes the host refuse every update, in a way that only it can see: its data directory was made otherwise.
fn spoil(fleet: &Fleet, host: usize) {
    fleet.run(&["set", &format!("{}|segment_size", key(host, "scocache")), "2MiB", "--unchecked"], 0);
}

fn mend(fleet: &Fleet, host: usize) {
    fleet.run(&["set", &format!("{}|segment_size", key(host, "scocache")), "1MiB", "--unchecked"], 0);
}

fn a_change_reaches_all_in_stages(fleet: &Fleet) {
    let done = staged(fleet, &["--set", "nbd|nbd_max_connections=71"], 0);
    assert_eq!((&done["state"], &done["stage"], &done["reason"]), (&json!("done"), &json!(2), &Value::Null));
    assert_eq!(done["stages"][0], json!([name(0)]));
    assert_eq!(done["stages"][1].as_array().map(Vec::len), Some(size() - 1));
    let mut revisions = Vec::new();
    for host in 0..size() {
        let apply = &done["hosts"][name(host)]["apply"];
        assert_eq!(apply["answer"]["outcome"], "applied", "{apply}");
        revisions.push(apply["revision"].as_i64().expect("a revision"));
    }
    assert!(revisions[1..].iter().all(|revision| *revision > revisions[0]), "{revisions:?}");
    all_have(fleet, 71);
    let history = fleet.run(&["history", &key(0, "nbd"), "--json"], 0).json();
    assert_eq!(history[0]["action"], "rollout", "{history}");
    let again = staged(fleet, &["--set", "nbd|nbd_max_connections=71"], 0);
    assert_eq!(again["changed"], json!(false));

    // From a directory, for people, in three stages.
    let directory = std::env::temp_dir().join(format!("ovs-rollout-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    std::fs::write(directory.join("nbd.json"), r#"{"nbd_max_connections": 72}"#).expect("written");
    let path = directory.to_str().expect("a name");
    let printed = fleet.run(&["apply", path, "--vpool", VPOOL, "--canary", "1,25%", "-m", "more"], 0).out;
    for line in [
        "h00: dry run: would take it",
        "stage 1 of 3",
        "h00: new values: applied",
        "stage 3 of 3",
        &format!("is done: {0} of {0} hosts applied it", size()),
    ] {
        assert!(printed.contains(line), "{line:?} is not in {printed}");
    }
    let _ = std::fs::remove_dir_all(directory);
    all_have(fleet, 72);
}

fn a_dry_run_that_is_refused_changes_nothing(fleet: &Fleet) {
    let refused = staged(fleet, &["--set", "nbd|nbd_max_connections=0"], 5);
    assert_eq!(refused["changed"], json!(false), "{refused}");
    spoil(fleet, 3);
    let refused = staged(fleet, &["--set", "nbd|nbd_max_connections=73"], 5);
    assert_eq!((&refused["state"], &refused["reason"]["host"]), (&json!("refused"), &json!(name(3))));
    assert!(refused["reason"]["problem"].as_str().expect("words").contains("segment_size"), "{refused}");
    mend(fleet, 3);
    all_have(fleet, 72);
}

fn a_host_of_the_second_stage_that_refuses_takes_it_back_everywhere(fleet: &Fleet) {
    let (mut cli, id) = Staged::begin(fleet, "73");
    assert_eq!(fleet.run(&["get", &format!("{}|nbd_max_connections", key(0, "nbd"))], 0).out, "73\n");
    spoil(fleet, 5);
    cli.signal("INT");
    let words = cli.ended(1);
    assert!(words.contains("stage 1 of 2") && words.contains(&format!("rollout resume {id}")), "{words}");
    let undone = fleet.run(&["rollout", "resume", &id, "--pause", "0s", "--json"], 5);
    assert!(undone.err.contains("every host has its old values again"), "{}", undone.err);
    let undone = undone.json();
    assert_eq!((&undone["state"], &undone["reason"]["host"]), (&json!("undone"), &json!(name(5))));
    assert_eq!(undone["hosts"][name(0)]["undo"]["answer"]["outcome"], "applied", "{undone}");
    mend(fleet, 5);
    // It refused the undo as well, for the same reason.
    fleet.all(&["apply"], 0);
    all_have(fleet, 72);
    let history = fleet.run(&["history", &key(0, "nbd"), "--json"], 0).json();
    assert_eq!(history.as_array().and_then(|all| all.last()).expect("one")["action"], "undo", "{history}");
}

fn hosts_that_are_down_or_frozen_do_not_count(fleet: &mut Fleet) {
    let (down, frozen) = (1, 2);
    fleet.drivers[down].take().expect("it runs").kill();
    fleet.standing("down", 1);
    fleet.run(&["freeze", &name(frozen)], 0);
    let done = staged(fleet, &["--set", "nbd|nbd_max_connections=74"], 0);
    assert_eq!(done["skipped"], json!({name(frozen): "frozen"}));
    assert_eq!(done["stages"][1].as_array().and_then(|stage| stage.last()), Some(&json!(name(down))));
    let apply = &done["hosts"][name(down)]["apply"];
    assert_eq!((&apply["live"], &apply["answer"]), (&json!(false), &Value::Null));
    fleet.begin(down..down + 1);
    fleet.standing("in-sync", size());
    fleet.run(&["thaw", &name(frozen)], 0);
    staged(fleet, &["--set", "nbd|nbd_max_connections=74"], 0);
    all_have(fleet, 74);
}

fn in_stages(server: Server) {
    let place = server.place("rollout");
    let mut fleet = Fleet::start(server, &place, size());
    fleet.standing("in-sync", size());
    a_change_reaches_all_in_stages(&fleet);
    a_dry_run_that_is_refused_changes_nothing(&fleet);
    a_host_of_the_second_stage_that_refuses_takes_it_back_everywhere(&fleet);
    hosts_that_are_down_or_frozen_do_not_count(&mut fleet);
}

#[test]
fn changes_reach_a_fleet_in_stages_from_the_store() {
    in_stages(Server::Store);
}

#[test]
fn changes_reach_a_fleet_in_stages_from_etcd() {
    in_stages(Server::Etcd);
}

/// Killed, resumed from elsewhere; nobody else may begin or drive one meanwhile.
fn another_goes_on(fleet: &Fleet) {
    let (cli, id) = Staged::begin(fleet, "81");
    let second =
        fleet.run(&["apply", "--vpool", VPOOL, "--canary", "1", "--set", "nbd|nbd_max_connections=99"], 4);
    second.assert_error(&format!("has an open roll-out, {id} (stage 1 of 2), driven by"));
    let shown = fleet.run(&["rollout", "show", &id], 0).out;
    assert!(shown.contains("new values: applied") && shown.contains("(3 hosts)"), "{shown}");
    cli.signal("KILL");
    let done = fleet.run(&["rollout", "resume", &id, "--pause", "0s", "--json"], 0).json();
    assert_eq!(done["state"], "done");
    all_have(fleet, 81);
    // That again is no harm; to take it back it is too late.
    fleet.run(&["rollout", "resume", &id], 0);
    fleet.run(&["rollout", "abort", &id], 4).assert_error("is done");
}

/// A driver that stood still while another took its place does nothing any more.
fn who_lost_the_right_writes_nothing(fleet: &Fleet) {
    let (mut cli, id) = Staged::begin(fleet, "80");
    cli.signal("STOP");
    fleet.run(&["rollout", "resume", &id, "--pause", "0s"], 0);
    fleet.all(&["set", "nbd|nbd_max_connections", "81"], 0);
    fleet.all(&["apply"], 0);
    cli.signal("CONT");
    let words = cli.ended(4);
    assert!(words.contains("the right to drive"), "{words}");
    all_have(fleet, 81);
}

/// Somebody else takes it back, while the one who drives it lives.
fn another_takes_it_back(fleet: &Fleet) {
    let (mut cli, id) = Staged::begin(fleet, "82");
    let aborted = fleet.run(&["rollout", "abort", &id, "-m", "too many"], 0);
    assert!(aborted.out.contains(&format!("roll-out {id} is undone")), "{}", aborted.out);
    let words = cli.ended(4);
    assert!(words.contains("aborted by") && words.contains("too many"), "{words}");
    all_have(fleet, 81);
    fleet.run(&["rollout", "abort", &id], 0);
}

/// What somebody else wrote meanwhile is not overwritten by the undo.
fn what_others_wrote_stays(fleet: &Fleet) {
    let (cli, id) = Staged::begin(fleet, "83");
    fleet.run(&["set", &format!("{}|nbd_max_connections", key(0, "nbd")), "90"], 0);
    cli.signal("KILL");
    let undone = fleet.run(&["rollout", "abort", &id, "--json"], 4);
    assert!(undone.err.contains(&format!("somebody else wrote {}", key(0, "nbd"))), "{}", undone.err);
    let undone = undone.json();
    assert_eq!(undone["state"], "undone");
    assert_eq!(undone["conflicts"][0]["key"], json!(key(0, "nbd")));
    let stored =
        |host: usize| fleet.run(&["get", &format!("{}|nbd_max_connections", key(host, "nbd"))], 0).out;
    assert_eq!((stored(0).as_str(), stored(1).as_str()), ("90\n", "81\n"));
    // Before its turn it is a reason to take all back.
    let (mut cli, id) = Staged::begin(fleet, "84");
    fleet.run(&["set", &format!("{}|nbd_max_connections", key(2, "nbd")), "91"], 0);
    cli.signal("TERM");
    cli.ended(1);
    let undone = fleet.run(&["rollout", "resume", &id, "--pause", "0s"], 4);
    assert!(undone.err.contains("h02") && undone.err.contains("by somebody else"), "{}", undone.err);
    assert_eq!((stored(0).as_str(), stored(1).as_str(), stored(2).as_str()), ("90\n", "81\n", "91\n"));
}

/// A process that stands still lives, and says nothing.
fn a_host_that_is_silent_is_no_yes(fleet: &Fleet) {
    // It counts as one that lives until its lease ends: that is long after the roll-out has noticed that it is silent.
    fleet.all(&["set", "updates|update_status_ttl_secs", "60"], 0);
    fleet.all(&["apply"], 0);
    fleet.standing("in-sync", 3);
    let still = |name: &str| fleet.drivers[2].as_ref().expect("it runs").signal(name);
    still("STOP");
    let refused = staged(fleet, &["--wait", "10s", "--set", "nbd|nbd_max_connections=86"], 1);
    assert_eq!((&refused["state"], &refused["reason"]["host"]), (&json!("refused"), &json!(name(2))));
    assert!(refused["reason"]["problem"].as_str().expect("words").contains("within 10 s"), "{refused}");
    still("CONT");
    // A stage of which nothing is known does not make the next one begin.
    let (mut cli, id) = Staged::begin(fleet, "87");
    cli.signal("INT");
    cli.ended(1);
    still("STOP");
    let resumed = fleet.command(&["rollout", "resume", &id, "--pause", "0s"]);
    let mut resumed =
        Staged(Some({ resumed }.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("started")));
    await_stage(fleet, &id, 2);
    let aborted = fleet.run(&["rollout", "abort", &id, "--json"], 0).json();
    still("CONT");
    assert_eq!((&aborted["state"], &aborted["reason"]["cause"]), (&json!("undone"), &json!("aborted")));
    resumed.ended(4);
}

/// Waits until a roll-out is in a stage.
#[track_caller]
fn await_stage(fleet: &Fleet, id: &str, stage: u64) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let shown = fleet.run(&["rollout", "show", id, "--json"], 0).json();
        if shown["stage"] == json!(stage) {
            return;
        }
        assert!(Instant::now() < end, "not in stage {stage}: {shown}");
        std::thread::yield_now();
    }
}

/// Killed whenever; in the end all have the new value or all have the old one.
fn killed_at_any_moment(fleet: &Fleet) {
    let (mut random, seed) = Random::announced("a roll-out is killed");
    let value_of =
        |host: usize| fleet.run(&["get", &format!("{}|nbd_max_connections", key(host, "nbd"))], 0).out;
    for round in 0..harness::rounds(3, 40) {
        let (old, new) = (200 + round, 201 + round);
        fleet.all(&["set", "nbd|nbd_max_connections", &old.to_string()], 0);
        fleet.all(&["apply"], 0);
        let set = format!("nbd|nbd_max_connections={new}");
        let mut command = fleet.command(&["apply", "--vpool", VPOOL, "--canary", "1,1", "--set", &set]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
        let staged = Staged(Some(child));
        // sleep: the kill comes at a moment that nothing announces
        std::thread::sleep(Duration::from_millis(random.below(700)));
        staged.signal("KILL");
        drop(staged);
        let list = fleet.run(&["rollout", "list", "--json"], 0).json();
        let open = |rollout: &&Value| {
            ["checking", "applying"].contains(&rollout["state"].as_str().expect("a state"))
        };
        let rollout = list.as_array().expect("a list").iter().find(open);
        println!("seed {seed}, round {round}: {}", rollout.map_or(&Value::Null, |rollout| &rollout["hosts"]));
        let mut wanted = None;
        if let Some(id) = rollout.map(|rollout| rollout["id"].as_str().expect("an id")) {
            let (command, value) = if random.below(2) == 0 { ("resume", new) } else { ("abort", old) };
            fleet.run(&["rollout", command, id], 0);
            wanted = Some(value.to_string());
        }
        let value = wanted.unwrap_or_else(|| value_of(0).trim().to_owned());
        all_have(fleet, value.parse().expect("a number"));
    }
}

/// Nothing prints a secret, and none is left when it is over.
fn secrets_are_kept(fleet: &Fleet) {
    let secret = "backend_connection_manager|s3_connection_password";
    fleet.all(&["set", secret, "hush1"], 0);
    let set = format!("{secret}=hush2");
    let done = fleet.run(&["apply", "--vpool", VPOOL, "--canary", "1", "--set", &set, "--json"], 0);
    let id = done.json()["id"].as_str().expect("an id").to_owned();
    let document = format!("/ovs/vpools/{VPOOL}/rollouts/{id}");
    let mut shown = vec![done];
    for command in [&["rollout", "show", &id][..], &["get", &document], &["rollout", "list", "--json"]] {
        shown.push(fleet.run(command, 0));
    }
    for printed in shown {
        assert!(!printed.out.contains("hush") && !printed.err.contains("hush"), "{}", printed.out);
    }
    assert!(!fleet.stored(&document, "hush"), "it is over");
    assert!(fleet.stored(&key(0, "backend_connection_manager"), "hush2"));
}

fn what_is_wrong_is_refused(fleet: &Fleet) {
    let refused = |more: &[&str], code: i32, problem: &str| {
        let arguments = [&["apply", "--vpool", VPOOL], more].concat();
        let printed = fleet.run(&arguments, code);
        assert!(printed.err.contains(problem), "{more:?}: {}", printed.err);
    };
    let set = ["--set", "nbd|nbd_max_connections=85"];
    refused(&[&["--canary", "0"][..], &set].concat(), 2, "at least one host");
    refused(&[&["--canary", "4"][..], &set].concat(), 2, "it reaches 3");
    refused(&["--canary", "1"], 2, "give a DIRECTORY, or --set");
    refused(&[&["--canary", "1", "--abort-on", "latency"][..], &set].concat(), 2, "not compared yet");
    refused(&[&["--canary", "1", "--wait", "1y"][..], &set].concat(), 2, "30s, 5m or 1h");
    refused(&["--canary", "1", "--set", "nbd"], 2, "SECTION=VALUE");
    for command in ["show", "resume", "abort"] {
        fleet.run(&["rollout", command, "nobody"], 3).assert_error("there is no roll-out \"nobody\"");
    }
    let directory = std::env::temp_dir().join(format!("ovs-rollout-large-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    std::fs::write(directory.join("large.json"), json!({"text": "x".repeat(200 << 10)}).to_string())
        .expect("written");
    refused(&[directory.to_str().expect("a name"), "--canary", "1"], 5, "a roll-out has at most 512 KiB");
    let _ = std::fs::remove_dir_all(directory);
    let bad = format!("/ovs/vpools/{VPOOL}/rollouts/bad");
    for document in [r#"{"version":1}"#, r#"{"version":2}"#, "[]"] {
        fleet.run(&["set", &bad, document], 0);
        for command in ["show", "resume", "abort"] {
            fleet.run(&["rollout", command, "bad"], 1).assert_error("ovs config delete");
        }
        refused(&[&["--canary", "1"][..], &set].concat(), 1, "rollouts/bad is");
    }
    // One that would write where it must not.
    let list = fleet.run(&["rollout", "list", "--json"], 0).json();
    let mut other = list.as_array().expect("a list")[0].clone();
    (other["id"], other["state"], other["stage"]) = (json!("bad"), json!("checking"), json!(0));
    other["hosts"] = json!({});
    let mut text = other.to_string();
    text = text.replace(&format!("/hosts/{}/config/nbd", name(0)), "/hosts/elsewhere/config/nbd");
    fleet.run(&["set", &bad, &text], 0);
    fleet.run(&["rollout", "resume", "bad"], 1).assert_error("is no document of the host");
    let list = fleet.run(&["rollout", "list"], 0);
    assert!(list.out.contains("damaged"), "{}", list.out);
    fleet.run(&["delete", &bad], 0);
}

/// A store with three drivers.
fn small(server: Server, test: impl Fn(&Fleet)) {
    let place = server.place("rollout-small");
    let fleet = Fleet::start(server, &place, 3);
    fleet.standing("in-sync", 3);
    test(&fleet);
}

fn by_several_hands(fleet: &Fleet) {
    another_goes_on(fleet);
    who_lost_the_right_writes_nothing(fleet);
    another_takes_it_back(fleet);
    what_others_wrote_stays(fleet);
}

fn with_trouble(fleet: &Fleet) {
    fleet.all(&["set", "nbd|nbd_max_connections", "81"], 0);
    fleet.all(&["apply"], 0);
    a_host_that_is_silent_is_no_yes(fleet);
    killed_at_any_moment(fleet);
    secrets_are_kept(fleet);
    what_is_wrong_is_refused(fleet);
}

#[test]
fn a_rollout_passes_through_several_hands_in_the_store() {
    small(Server::Store, by_several_hands);
}

#[test]
fn a_rollout_passes_through_several_hands_in_etcd() {
    small(Server::Etcd, by_several_hands);
}

#[test]
fn a_rollout_gets_through_trouble_in_the_store() {
    small(Server::Store, with_trouble);
}

#[test]
fn a_rollout_gets_through_trouble_in_etcd() {
    small(Server::Etcd, with_trouble);
}
