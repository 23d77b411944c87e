//! Every declared parameter on a running process: what its category promises is what an update of it does. A parameter
//! without a way to see its effect, or a reason why there is none, fails the walk.

mod cli_node;
mod harness;
mod one_host;

use std::collections::{BTreeMap, BTreeSet};

use cfg_schema::{Category, Declaration, Documents};
use harness::cfg::Server;
use one_host::{BASE, OneHost};
use serde_json::{Value, json};
use volumedriver::parameters::Parameters;

const CHANGES: &str = include_str!("../volumedriver/tests/changes.rs");
const POOL: &str = include_str!("../volumedriver/tests/changes_pool.rs");
const APPLY: &str = include_str!("apply.rs");
const AGENT: &str = include_str!("../src/agent/tests.rs");

/// Tests that see what dynamic parameters control: the file, the test, the parameters.
const SEEN: &[(&str, &str, &[&str])] = &[
    (
        CHANGES,
        "a_higher_bound_wakes_what_waited_and_a_lower_one_holds_from_then_on",
        &[
            "volume_manager.log_records_in_flight",
            "volume_manager.record_gather_size",
            "volume_manager.read_bytes_in_flight",
            "volume_manager.write_bytes_in_flight",
            "nbd.nbd_requests_in_flight",
            "nbd.nbd_reply_bytes_in_flight",
        ],
    ),
    (CHANGES, "records_are_as_long_as_the_size_of_the_moment", &["volume_manager.record_size"]),
    (
        CHANGES,
        "calls_and_shutdowns_wait_as_long_as_they_are_told",
        &["volume_manager.volume_call_timeout_ms", "volume_manager.shutdown_timeout_ms"],
    ),
    (CHANGES, "clients_that_do_not_take_replies_are_closed_by_the_new_time", &["nbd.nbd_send_timeout_ms"]),
    (
        CHANGES,
        "the_listener_has_room_for_as_many_as_the_moment_allows",
        &["nbd.nbd_max_connections", "nbd.nbd_max_handshakes", "nbd.nbd_handshake_timeout_ms"],
    ),
    (
        CHANGES,
        "sizes_and_labels_are_those_of_the_moment",
        &["volume_manager.max_volume_size", "metrics.metrics_per_volume"],
    ),
    (
        CHANGES,
        "the_map_is_written_cached_and_cut_by_the_limits_of_the_moment",
        &[
            "volume_manager.log_replay_limit",
            "volume_manager.memtable_limit",
            "volume_manager.metadata_cache_capacity",
            "volume_manager.run_size",
        ],
    ),
    (
        POOL,
        "the_pool_keeps_as_many_ready_as_the_moment_wants",
        &["scocache.segments_ready_min", "scocache.segments_ready_max"],
    ),
    (POOL, "the_disk_may_become_larger_and_smaller", &["scocache.scocache_mount_points"]),
    (
        POOL,
        "the_reserve_grows_before_it_counts_and_a_dropped_change_leaves_no_trace",
        &["scocache.reserve_size"],
    ),
    (
        POOL,
        "compaction_begins_and_works_by_the_limits_of_the_moment",
        &[
            "scocache.backoff_gap",
            "volume_manager.compaction_records_in_flight",
            "volume_manager.compaction_read_size",
        ],
    ),
    (POOL, "without_a_size_the_gap_of_the_moment_is_left_to_others", &["scocache.trigger_gap"]),
    (APPLY, "how_long_a_status_stays_follows_its_section", &["updates.update_status_ttl_secs"]),
    (AGENT, "prepares_that_do_not_end_hold_nothing_up_on_the_store", &["updates.update_prepare_timeout_ms"]),
    (AGENT, "copies_wait_for_later_changes_on_the_store", &["updates.update_last_good_delay_ms"]),
    (AGENT, "a_copy_stays_young_on_the_store", &["updates.update_last_good_refresh_ms"]),
    (APPLY, "the_log_follows_its_section", &["logging.log_level", "logging.log_filters"]),
];

/// Dynamic parameters whose effect nobody can see, each with the reason.
const UNSEEN: &[(&str, &str)] = &[
    ("updates.update_store_retry_ms", "a pause between tries of a store that is away: only a clock sees it"),
    ("updates.update_look_pause_ms", "a pause that spares the store a reading: only a clock sees it"),
    (
        "updates.update_answer_wait_ms",
        "a bound on the end of the process: what it bounds ends before by itself",
    ),
];

/// All parameters of a category, with their sections.
fn of(category: Option<Category>) -> Vec<(&'static str, Declaration)> {
    let sections = Parameters::declarations().into_iter();
    sections
        .flat_map(|section| section.parameters.into_iter().map(move |parameter| (section.section, parameter)))
        .filter(|(_, parameter)| parameter.category == category)
        .collect()
}

/// Another valid value than the default, valid beside the defaults of all others.
fn another(section: &str, declaration: &Declaration) -> Value {
    match (section, declaration.key) {
        ("scocache", "scocache_mount_points") => return json!([{"path": "scocache", "size": "1GiB"}]),
        ("logging", "log_filters") => return json!("volumedriver=debug"),
        ("volume_router_cluster", "vrouter_cluster_id") => return json!("another"),
        ("xmlrpc", "xmlrpc_host" | "xmlrpc_token" | "xmlrpc_tls_cert_file" | "xmlrpc_tls_key_file") => {
            return json!("localhost");
        }
        _ => {}
    }
    let name = format!("{section}.{}", declaration.key);
    let schema = match declaration.schema["anyOf"].as_array() {
        Some(forms) => &forms[0],
        None => &declaration.schema,
    };
    let default = declaration.default.as_ref().unwrap_or_else(|| panic!("{name} has no default"));
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().rev().find(|word| *word != default).expect("another word").clone();
    }
    match default {
        Value::Bool(value) => json!(!value),
        Value::Number(_) | Value::String(_) if schema["type"] == "integer" => {
            let number = match default {
                Value::String(text) => text.parse::<cfg_schema::ByteSize>().expect("a size").bytes(),
                number => number.as_u64().expect("a number"),
            };
            // Sizes in whole pages.
            let step = if declaration.schema["anyOf"].is_array() { 4096 } else { 1 };
            let most = schema["maximum"].as_u64().expect("a bound");
            json!(if number + step <= most { number + step } else { number - step })
        }
        _ => panic!("{name}: say in this test what it may be besides {default}"),
    }
}

/// A value without effect.
fn idle(declaration: &Declaration) -> Value {
    let schema = match declaration.schema["anyOf"].as_array() {
        Some(forms) => &forms[0],
        None => &declaration.schema,
    };
    let by_type = || match schema["type"].as_str() {
        _ if schema["enum"].is_array() => schema["enum"][0].clone(),
        Some("integer") => json!(schema["minimum"].as_u64().unwrap_or(0).max(1)),
        Some("array") => json!([]),
        _ => json!("x"),
    };
    declaration.default.clone().unwrap_or_else(by_type)
}

/// A process with its documents.
struct Bench {
    host: OneHost,
    documents: Documents,
}

impl Bench {
    /// What the documents mean.
    fn typed(&self) -> Parameters {
        Parameters::read(&self.documents).parameters.expect("valid")
    }

    fn set(&mut self, section: &str, key: &str, value: Value) {
        let document = self.documents.entry(section.to_owned()).or_insert_with(|| json!({}));
        document[key] = value;
    }

    /// Stores all and asks for an update.
    fn update(&mut self) -> Value {
        let changes = self.documents.iter().map(|(section, document)| {
            (format!("{BASE}/config/{section}"), Some(document.to_string().into_bytes()))
        });
        self.host.tree.write(&changes.collect::<Vec<_>>());
        self.host.update()
    }
}

/// Entries of a list of a feedback with the texts of these fields, sorted.
fn entries(list: &Value, fields: [&str; 4]) -> Vec<Vec<String>> {
    let text = |entry: &Value, field: &&str| entry[*field].as_str().expect("a text").to_owned();
    let list = list.as_array().expect("a list").iter();
    let mut entries: Vec<Vec<String>> =
        list.map(|entry| fields.iter().map(|field| text(entry, field)).collect()).collect();
    entries.sort();
    entries
}

/// What differs, in the same form.
fn differences(old: &Parameters, new: &Parameters) -> Vec<Vec<String>> {
    let changes = old.changes(new).into_iter();
    let mut found: Vec<Vec<String>> =
        changes.map(|c| vec![c.section.to_owned(), c.key.to_owned(), c.old, c.new]).collect();
    found.sort();
    found
}

const APPLIED: [&str; 4] = ["component", "param", "old", "new"];
const PENDING: [&str; 4] = ["component", "param", "running", "stored"];

fn dynamic_ones_change_at_once(bench: &mut Bench) {
    for (section, parameter) in of(Some(Category::Dynamic)) {
        let name = format!("{section}.{}", parameter.key);
        let before = bench.typed();
        bench.set(section, parameter.key, another(section, &parameter));
        let feedback = bench.update();
        assert_eq!(feedback["outcome"], "applied", "{name}: {feedback}");
        let expected = differences(&before, &bench.typed());
        assert_eq!(expected.len(), 1, "{name} is another one now");
        assert_eq!(entries(&feedback["applied"], APPLIED), expected, "{name}");
        assert_eq!(feedback["pending_restart"], json!([]), "{name}");
        assert_eq!(bench.host.status_after(&feedback)["config_hash"], bench.typed().config_hash(), "{name}");
    }
}

fn immutable_ones_refuse_everything(bench: &mut Bench) {
    for (section, parameter) in of(Some(Category::Immutable)) {
        let name = format!("{section}.{}", parameter.key);
        let (before, hash) = (bench.documents.clone(), bench.typed().config_hash());
        let only = parameter.schema["minimum"] == parameter.schema["maximum"];
        let other = if only && parameter.schema["minimum"].is_u64() {
            json!(8192)
        } else {
            another(section, &parameter)
        };
        bench.set(section, parameter.key, other);
        bench.set("nbd", "nbd_max_connections", json!(33));
        let feedback = bench.update();
        assert_eq!(feedback["outcome"], "rejected", "{name}: {feedback}");
        assert_eq!((&feedback["applied"], &feedback["pending_restart"]), (&json!([]), &json!([])), "{name}");
        let named = feedback["rejected"].as_array().expect("a list").iter();
        let named: Vec<String> = named
            .map(|r| format!("{}.{}", r["component"].as_str().unwrap(), r["param"].as_str().unwrap()))
            .collect();
        assert_eq!(named.join(", "), name, "{feedback}");
        assert_eq!(
            bench.host.status_after(&feedback)["config_hash"],
            hash,
            "{name}: nothing changed, what is valid neither"
        );
        bench.documents = before;
        // A section that was stored stays one.
        bench.documents.entry(section.to_owned()).or_insert_with(|| json!({}));
        let feedback = bench.update();
        assert_eq!((&feedback["outcome"], &feedback["applied"]), (&json!("applied"), &json!([])), "{name}");
    }
}

fn restart_ones_wait(bench: &mut Bench) {
    let running = bench.typed();
    for (section, parameter) in of(Some(Category::Restart)) {
        let name = format!("{section}.{}", parameter.key);
        let value = match name.as_str() {
            "volume_manager.data_threads" => json!(2),
            _ => another(section, &parameter),
        };
        bench.set(section, parameter.key, value);
        if parameter.key == "xmlrpc_tls_cert_file" {
            // One is not valid without the other.
            bench.set(section, "xmlrpc_tls_key_file", json!("localhost"));
        }
        let feedback = bench.update();
        assert_eq!((&feedback["outcome"], &feedback["applied"]), (&json!("applied"), &json!([])), "{name}");
        let pending = differences(&running, &bench.typed());
        assert!(pending.iter().any(|entry| entry[1] == parameter.key), "{name} is another one now");
        assert_eq!(entries(&feedback["pending_restart"], PENDING), pending, "{name}");
        let status = bench.host.status_after(&feedback);
        assert_eq!(entries(&status["pending_restart"], PENDING), pending, "{name}");
        assert_eq!(status["config_hash"], running.config_hash(), "{name} is not taken");
        assert_eq!(status["stored_hash"], bench.typed().config_hash(), "{name}");
    }
    // A start reads what these name.
    for key in ["xmlrpc_tls_cert_file", "xmlrpc_tls_key_file"] {
        bench.set("xmlrpc", key, json!(""));
    }
    bench.update();
    bench.host.end();
    bench.host.begin();
    let status = bench.host.status(|_| true);
    let hash = json!(bench.typed().config_hash());
    assert_eq!((&status["config_hash"], &status["stored_hash"]), (&hash, &hash), "in sync");
    assert_eq!(status["pending_restart"], json!([]));
}

fn idle_ones_are_told(bench: &mut Bench) {
    let hash = bench.typed().config_hash();
    let mut expected = BTreeSet::new();
    for (section, parameter) in of(Some(Category::NoEffect)) {
        bench.set(section, parameter.key, idle(&parameter));
        expected.insert(format!("{section}.{}", parameter.key));
    }
    let feedback = bench.update();
    assert_eq!((&feedback["outcome"], &feedback["applied"]), (&json!("applied"), &json!([])), "{feedback}");
    let told = feedback["no_effect"].as_array().expect("a list").iter();
    let told: BTreeSet<String> = told.map(|key| key.as_str().expect("a key").to_owned()).collect();
    assert_eq!(told, expected);
    assert_eq!(bench.host.status_after(&feedback)["config_hash"], hash);
}

fn every_parameter(server: Server) {
    let documents = one_host::small().map(|(section, document)| (section.to_owned(), document));
    let mut bench = Bench { host: OneHost::start(server), documents: documents.into() };
    dynamic_ones_change_at_once(&mut bench);
    immutable_ones_refuse_everything(&mut bench);
    restart_ones_wait(&mut bench);
    idle_ones_are_told(&mut bench);
}

#[test]
fn every_parameter_does_what_its_category_promises_from_the_store() {
    every_parameter(Server::Store);
}

#[test]
fn every_parameter_does_what_its_category_promises_from_etcd() {
    every_parameter(Server::Etcd);
}

#[test]
fn the_effect_of_every_dynamic_parameter_is_seen_somewhere() {
    let mut seen: BTreeMap<&str, &str> = UNSEEN.iter().copied().collect();
    for (file, test, names) in SEEN {
        let is_there = ["fn", "async fn"].iter().any(|word| file.contains(&format!("]\n{word} {test}()")));
        assert!(is_there, "there is no test {test}");
        for name in *names {
            let key = name.split('.').nth(1).expect("a key");
            let is_in = file.contains(key) || (key == "scocache_mount_points" && file.contains("set_disk"));
            assert!(is_in, "{test} does not know {name}");
            assert_eq!(seen.insert(name, test), None, "{name} is named twice");
        }
    }
    let dynamic: BTreeSet<String> =
        of(Some(Category::Dynamic)).iter().map(|(section, p)| format!("{section}.{}", p.key)).collect();
    let named: BTreeSet<String> = seen.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(named, dynamic, "name the test that sees a parameter, or the reason why none can");
    assert!(UNSEEN.iter().all(|(_, reason)| !reason.is_empty()));
}
